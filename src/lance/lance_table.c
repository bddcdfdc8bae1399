/* A table is the name of a directory; here are the paths inside it, the making of its folders, and
 * small files that appear whole or not at all. */
#include "lance/lance_int.h"

#include <stdio.h>
#include <string.h>

enum mly_err mly_lance_table_open(const struct mly_env *env, const char *path,
                                  struct mly_lance_table **out, struct mly_error *err)
{
    size_t bytes = strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    if (bytes == 0 || bytes >= MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "table path of %zu bytes, limit is 1 to %zu", bytes,
                        MLY_PATH_BYTES_MAX - 1);
    }
    struct mly_lance_table *table = mly_mem_array(env->mem, 1, sizeof(*table));
    char *copy = mly_mem_copy(env->mem, path, bytes);
    if (table == NULL || copy == NULL) {
        mly_mem_free(env->mem, table);
        mly_mem_free(env->mem, copy);
        return mly_fail_nomem(err, sizeof(*table) + bytes);
    }
    *table = (struct mly_lance_table){.env = env, .path = copy, .path_bytes = bytes};
    *out = table;
    return MLY_OK;
}

void mly_lance_table_close(struct mly_lance_table *table)
{
    if (table == NULL) return;
    struct mly_mem *mem = table->env->mem;
    mly_mem_free(mem, table->path);
    mly_mem_free(mem, table->sums_path);
    mly_mem_free(mem, table);
}

const char *mly_lance_table_path(const struct mly_lance_table *table)
{
    return table->path;
}

void mly_lance_path(const struct mly_lance_table *table, const char *folder, const char *name,
                    struct lance_path *out)
{
    (void)snprintf(out->text, sizeof(out->text), "%s%s%s%s%s", table->path,
                   folder == NULL ? "" : "/", folder == NULL ? "" : folder, name == NULL ? "" : "/",
                   name == NULL ? "" : name);
}

enum mly_err mly_lance_table_make(const struct mly_lance_table *table, struct mly_error *err)
{
    static const char *const folders[] = {NULL, "data", "_deletions", "_transactions", "_versions"};
    struct lance_path path;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        mly_lance_path(table, folders[i], NULL, &path);
        MLY_TRY(mly_dir_make(table->env, MLY_AT_CWD, path.text, err));
    }
    return MLY_OK;
}

enum mly_err mly_lance_need_folder(const struct mly_lance_table *table, const char *folder,
                                   struct mly_error *err)
{
    struct lance_path path;
    bool exists = false;
    mly_lance_path(table, folder, NULL, &path);
    MLY_TRY(mly_file_exists(table->env, MLY_AT_CWD, path.text, &exists, err));
    if (exists) return MLY_OK;
    return mly_dir_make(table->env, MLY_AT_CWD, path.text, err);
}

enum mly_err mly_lance_temp_name(const struct mly_lance_table *table, char *out,
                                 struct mly_error *err)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t chance[16];
    MLY_TRY(mly_random_bytes(table->env, chance, sizeof(chance), err));
    memcpy(out, ".tmp-", 5);
    for (size_t i = 0; i < sizeof(chance); i++) {
        out[5 + 2 * i] = digits[chance[i] >> 4];
        out[6 + 2 * i] = digits[chance[i] & 15];
    }
    out[5 + 2 * sizeof(chance)] = '\0';
    return MLY_OK;
}

enum mly_err mly_lance_write_file(const struct mly_lance_table *table, const char *folder,
                                  const char *name, const void *data, size_t bytes,
                                  struct mly_error *err)
{
    char temp_name[LANCE_TEMP_NAME_BYTES];
    struct lance_path temp, path;
    MLY_TRY(mly_lance_temp_name(table, temp_name, err));
    mly_lance_path(table, folder, temp_name, &temp);
    mly_lance_path(table, folder, name, &path);
    MLY_TRY(mly_file_create(table->env, MLY_AT_CWD, temp.text, data, bytes, err));
    enum mly_err rc = mly_file_rename(table->env, MLY_AT_CWD, temp.text, path.text, err);
    if (rc != MLY_OK) mly_lance_unlink(table, folder, temp_name);
    return rc;
}

void mly_lance_unlink(const struct mly_lance_table *table, const char *folder, const char *name)
{
    struct lance_path path;
    struct mly_error ignored;
    mly_lance_path(table, folder, name, &path);
    enum mly_err rc = mly_file_unlink(table->env, MLY_AT_CWD, path.text, &ignored);
    (void)rc; /* An orphan does no harm. */
}

enum mly_err mly_lance_read_file(const struct mly_env *env, const char *path, struct mly_bytes *out,
                                 struct mly_file_info *info, struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    MLY_TRY(mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_READ, &file, err));
    enum mly_err rc = mly_file_info(&file, info, err);
    if (rc == MLY_OK && info->kind != MLY_KIND_FILE) {
        rc = mly_fail(err, MLY_ERR_CORRUPT, "not a regular file");
    }
    if (rc == MLY_OK) rc = mly_file_read_all(&file, out, err);
    mly_file_close(&file);
    if (rc != MLY_OK) return mly_fail_in(err, rc, "%s", path);
    return MLY_OK;
}
