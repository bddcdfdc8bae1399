/* Sums of the table's files, block by block, in a folder that lies beside the table: what was
 * written is told from what is there. They are made again where they are missing, so nothing is
 * synced, and what cannot be read of them counts as missing. */
#include "lance/lance_int.h"

#include <stdio.h>
#include <string.h>

enum mly_err mly_lance_table_set_sums(struct mly_lance_table *table, const char *path,
                                      struct mly_error *err)
{
    size_t bytes = strlen(path);
    if (bytes == 0 || bytes >= MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "path of %zu bytes, limit is 1 to %zu", bytes,
                        MLY_PATH_BYTES_MAX - 1);
    }
    char *copy = mly_mem_copy(table->env->mem, path, bytes);
    if (copy == NULL) return mly_fail_nomem(err, bytes + 1);
    mly_mem_free(table->env->mem, table->sums_path);
    table->sums_path = copy;
    return MLY_OK;
}

/* A file of the table -> the file with its sums; names of all folders differ. */
static void set_path(const struct mly_lance_table *table, const char *name, struct lance_path *out)
{
    (void)snprintf(out->text, sizeof(out->text), "%s/%s%s", table->sums_path, name,
                   LANCE_SUMS_SUFFIX);
}

enum mly_err mly_lance_sums_read(const struct mly_lance_table *table, const char *name,
                                 struct mly_sums *out, bool *found, struct mly_error *err)
{
    struct lance_path path;
    struct mly_error own;
    *found = false;
    if (table->sums_path == NULL) return MLY_OK;
    set_path(table, name, &path);
    enum mly_err rc = mly_sums_read(table->env, path.text, out, &own);
    *found = rc == MLY_OK;
    if (rc == MLY_OK || rc == MLY_ERR_NOTFOUND || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_LIMIT ||
        rc == MLY_ERR_UNSUPPORTED) {
        return MLY_OK;
    }
    return mly_fail(err, rc, "%s", own.message);
}

void mly_lance_sums_write(const struct mly_lance_table *table, const char *name,
                          const struct mly_sums *sums)
{
    struct lance_path path;
    struct mly_error ignored;
    if (table->sums_path == NULL) return;
    set_path(table, name, &path);
    enum mly_err rc = mly_sums_write(table->env, path.text, sums, &ignored);
    if (rc != MLY_ERR_NOTFOUND) return;
    /* The first of this folder. */
    if (mly_dir_make_all(table->env, table->sums_path, &ignored) != MLY_OK) return;
    rc = mly_sums_write(table->env, path.text, sums, &ignored);
    (void)rc; /* A file without sums is as good, only not as safe. */
}

void mly_lance_sums_make(const struct mly_lance_table *table, const char *name, const void *data,
                         size_t bytes)
{
    struct mly_sums sums = {0};
    struct mly_error ignored;
    if (table->sums_path == NULL) return;
    if (mly_sums_make(table->env->mem, data, bytes, &sums, &ignored) != MLY_OK) return;
    mly_lance_sums_write(table, name, &sums);
    mly_sums_deinit(&sums);
}

void mly_lance_sums_forget(const struct mly_lance_table *table, const char *name)
{
    struct lance_path path;
    struct mly_error ignored;
    if (table->sums_path == NULL) return;
    set_path(table, name, &path);
    enum mly_err rc = mly_file_unlink(table->env, MLY_AT_CWD, path.text, &ignored);
    (void)rc; /* Cleaning takes it. */
}

enum mly_err mly_lance_sums_check(const struct mly_lance_table *table, const char *name,
                                  const char *path, const struct mly_bytes *bytes,
                                  struct mly_error *err)
{
    struct mly_sums sums = {0};
    bool found;
    MLY_TRY(mly_lance_sums_read(table, name, &sums, &found, err));
    if (!found) return MLY_OK;
    enum mly_err rc = mly_sums_check(&sums, bytes->data, bytes->bytes, 0, bytes->bytes, path, err);
    mly_sums_deinit(&sums);
    return rc;
}

enum mly_err mly_lance_check_range(const struct lance_open_file *file, const void *at,
                                   uint64_t bytes, struct mly_error *err)
{
    if (bytes == 0) return MLY_OK;
    uint64_t offset = (uint64_t)((const uint8_t *)at - file->map.data);
    return mly_sums_check(file->sums, file->map.data, file->map.bytes, offset, bytes, file->path,
                          err);
}

/* ---- those that nobody needs ---- */

static bool ends_with(const char *name, const char *end)
{
    size_t bytes = strlen(name), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(name + bytes - end_bytes, end) == 0;
}

#define UUID_BYTES ((size_t)36)

/* "<uuid>-<name>" -> "_indices/<uuid>/<name>" */
static void find_index_file(const struct mly_lance_table *table, const char *file,
                            struct lance_path *out)
{
    char folder[LANCE_INDEX_FOLDER_BYTES];
    (void)snprintf(folder, sizeof(folder), LANCE_INDICES_FOLDER "/%.*s", (int)UUID_BYTES, file);
    mly_lance_path(table, folder, file + UUID_BYTES + 1, out);
}

static enum mly_err is_needed(const struct mly_lance_table *table, const char *name, bool *out,
                              struct mly_error *err)
{
    struct lance_path path;
    char file[LANCE_FILE_NAME_BYTES_MAX + 1];
    *out = false;
    if (!ends_with(name, LANCE_SUMS_SUFFIX)) return MLY_OK;
    (void)snprintf(file, sizeof(file), "%.*s",
                   (int)(strlen(name) - (sizeof(LANCE_SUMS_SUFFIX) - 1)), name);
    if (ends_with(file, ".idx") && strlen(file) > UUID_BYTES + 1) {
        find_index_file(table, file, &path);
        return mly_file_exists(table->env, MLY_AT_CWD, path.text, out, err);
    }
    const char *folder = ends_with(file, ".lance")      ? "data"
                         : ends_with(file, ".manifest") ? "_versions"
                                                        : "_deletions";
    mly_lance_path(table, folder, file, &path);
    return mly_file_exists(table->env, MLY_AT_CWD, path.text, out, err);
}

/* Removes sums by their names. versions_only: those of versions, whether they are there or not;
 * else those of files that are gone. */
static enum mly_err remove_some(const struct mly_lance_table *table, bool versions_only,
                                struct mly_error *err)
{
    const struct mly_env *env = table->env;
    struct mly_dir dir;
    bool exists = false;
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, table->sums_path, &exists, err));
    if (!exists) return MLY_OK;
    MLY_TRY(mly_dir_open(env, MLY_AT_CWD, table->sums_path, &dir, err));
    enum mly_err rc;
    for (;;) {
        const char *name;
        struct lance_path path;
        bool stays = !versions_only;
        rc = mly_dir_next(&dir, &name, err);
        if (rc != MLY_OK || name == NULL) break;
        if (versions_only) {
            stays = !ends_with(name, ".manifest" LANCE_SUMS_SUFFIX);
        } else {
            rc = is_needed(table, name, &stays, err);
        }
        if (rc != MLY_OK) break;
        if (stays) continue;
        (void)snprintf(path.text, sizeof(path.text), "%s/%s", table->sums_path, name);
        rc = mly_file_unlink(env, MLY_AT_CWD, path.text, err);
        if (rc != MLY_OK) break;
    }
    mly_dir_close(&dir);
    return rc;
}

void mly_lance_sums_clear(const struct mly_lance_table *table)
{
    struct mly_error ignored;
    if (table->sums_path == NULL) return;
    enum mly_err rc = remove_some(table, true, &ignored);
    (void)rc;
}

enum mly_err mly_lance_sums_clean(const struct mly_lance_table *table, struct mly_error *err)
{
    return table->sums_path == NULL ? MLY_OK : remove_some(table, false, err);
}
