/* All files of a version, one after the other: given sums where they have none, or read whole and
 * compared with them. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Calls fn for the files that the manifest names, its own last. fragment_i counts its fragments;
 * SIZE_MAX for the manifest's own. */
struct file_walk {
    const struct mly_lance_table *table;
    const struct mly_lance_manifest *manifest;
    enum mly_err (*fn)(struct file_walk *walk, const char *folder, const char *name,
                       struct mly_error *err);
    size_t fragment_i;
    uint64_t *made;             /* of adopt */
    mly_lance_verified_fn tell; /* of verify */
    void *context;
};

static enum mly_err walk_fragment(struct file_walk *walk, const MlyPb__Fragment *fragment,
                                  struct mly_error *err)
{
    for (size_t i = 0; i < fragment->n_files; i++) {
        char name[LANCE_FILE_NAME_BYTES_MAX + 1];
        struct mly_str path = lance_pb_str(fragment->files[i]->path);
        (void)snprintf(name, sizeof(name), "%.*s", (int)path.bytes, path.data);
        MLY_TRY(walk->fn(walk, "data", name, err));
    }
    if (fragment->deletion_file == NULL) return MLY_OK;
    char name[LANCE_DELETION_NAME_BYTES];
    mly_lance_deletion_name(fragment->id, fragment->deletion_file, name);
    return walk->fn(walk, "_deletions", name, err);
}

static enum mly_err walk_files(struct file_walk *walk, struct mly_error *err)
{
    const struct mly_lance_manifest *manifest = walk->manifest;
    char name[LANCE_VERSION_NAME_BYTES];
    for (size_t i = 0; i < manifest->pb->n_fragments; i++) {
        walk->fragment_i = i;
        MLY_TRY(walk_fragment(walk, manifest->pb->fragments[i], err));
    }
    walk->fragment_i = SIZE_MAX;
    mly_lance_version_name(manifest->pb->version, manifest->naming, name);
    return walk->fn(walk, "_versions", name, err);
}

/* ---- adopt ---- */

/* Files below it are read, not mapped. */
#define COPY_BELOW_BYTES ((size_t)64 << 10)

static enum mly_err adopt_file(struct file_walk *walk, const char *folder, const char *name,
                               struct mly_error *err)
{
    const struct mly_lance_table *table = walk->table;
    bool is_version = walk->fragment_i == SIZE_MAX;
    struct mly_sums sums = {0};
    struct lance_path path;
    struct mly_map map;
    bool found;
    MLY_TRY(mly_lance_sums_read(table, name, &sums, &found, err));
    mly_sums_deinit(&sums);
    if (found && !is_version) return MLY_OK;
    mly_lance_path(table, folder, name, &path);
    MLY_TRY(mly_file_map_or_copy(table->env, MLY_AT_CWD, path.text, COPY_BELOW_BYTES, &map, err));
    if (is_version && mly_lance_is_strange(map.data, map.bytes)) {
        mly_lance_sums_forget(table, name); /* another table's, if there are any */
    } else if (!found) {
        mly_lance_sums_make(table, name, map.data, map.bytes);
        (*walk->made)++;
    }
    mly_map_close(&map);
    return MLY_OK;
}

static enum mly_err adopt_index_file(void *context, const char *folder, const char *name,
                                     const char *sums_name, uint64_t bytes, struct mly_error *err)
{
    struct file_walk *walk = context;
    const struct mly_lance_table *table = walk->table;
    struct mly_sums sums = {0};
    struct lance_path path;
    struct mly_map map;
    bool found;
    MLY_TRY(mly_lance_sums_read(table, sums_name, &sums, &found, err));
    mly_sums_deinit(&sums);
    if (found) return MLY_OK;
    mly_lance_path(table, folder, name, &path);
    MLY_TRY(mly_file_map_or_copy(table->env, MLY_AT_CWD, path.text, COPY_BELOW_BYTES, &map, err));
    if (bytes == 0 || map.bytes == bytes) {
        mly_lance_sums_make(table, sums_name, map.data, map.bytes);
        (*walk->made)++;
    }
    mly_map_close(&map);
    return MLY_OK;
}

enum mly_err mly_lance_adopt(const struct mly_lance_table *table,
                             const struct mly_lance_manifest *manifest, uint64_t *made,
                             struct mly_error *err)
{
    uint64_t own = 0;
    struct file_walk walk = {
        .table = table, .manifest = manifest, .fn = adopt_file, .made = made == NULL ? &own : made};
    *walk.made = 0;
    if (table->sums_path == NULL) return MLY_OK;
    MLY_TRY(walk_files(&walk, err));
    return mly_lance_each_index_file(manifest, adopt_index_file, &walk, err);
}

/* ---- verify ---- */

static enum mly_err decode_value(const struct mly_lance_fragment *fragment, size_t field_i,
                                 uint64_t row, struct mly_error *err)
{
    struct mly_str text;
    int64_t number;
    float real;
    bool is_null;
    switch (fragment->columns[field_i].field.type) {
    case MLY_LANCE_STRING:
    case MLY_LANCE_BINARY:
        return mly_lance_get_string(fragment, field_i, row, &text, err);
    case MLY_LANCE_INT64:
    case MLY_LANCE_TIMESTAMP_US:
        return mly_lance_get_int64(fragment, field_i, row, 0, &number, err);
    case MLY_LANCE_FLOAT32:
        return mly_lance_get_float32(fragment, field_i, row, &is_null, &real, err);
    case MLY_LANCE_VECTOR: /* opening has seen that they are all there */
    case MLY_LANCE_OTHER:
    case MLY_LANCE_UINT64:
    case MLY_LANCE_CODES:
        break;
    }
    return MLY_OK;
}

static enum mly_err decode_fragment(const struct file_walk *walk, struct mly_error *err)
{
    struct mly_lance_fragment *fragment;
    MLY_TRY(mly_lance_fragment_open(walk->table, walk->manifest, walk->fragment_i, &fragment, err));
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < fragment->column_count && rc == MLY_OK; i++) {
        for (uint64_t row = 0; row < fragment->row_count && rc == MLY_OK; row++) {
            rc = decode_value(fragment, i, row, err);
        }
    }
    mly_lance_fragment_close(fragment);
    return rc;
}

/* What can be said of a file without its sums. The smaller ones are decoded in any case. */
static enum mly_err decode(const struct file_walk *walk, const char *folder, bool has_sums,
                           struct mly_error *err)
{
    struct mly_lance_deletions set;
    if (strcmp(folder, "_versions") == 0) {
        struct mly_lance_manifest *manifest = NULL;
        MLY_TRY(mly_lance_load_version(walk->table, walk->manifest->pb->version,
                                       walk->manifest->naming, &manifest, err));
        mly_lance_manifest_destroy(manifest);
        return MLY_OK;
    }
    if (strcmp(folder, "_deletions") == 0) {
        MLY_TRY(mly_lance_deletions_read(walk->table, walk->manifest, walk->fragment_i, &set, err));
        mly_lance_deletions_deinit(&set);
        return MLY_OK;
    }
    return has_sums ? MLY_OK : decode_fragment(walk, err);
}

static enum mly_err verify_file(struct file_walk *walk, const char *folder, const char *name,
                                struct mly_error *err)
{
    const struct mly_lance_table *table = walk->table;
    struct mly_lance_verified file = {0};
    struct mly_sums sums = {0};
    struct mly_file_info info;
    struct lance_path path;
    struct mly_error own = {0};
    mly_lance_path(table, folder, name, &path);
    file.path = path.text;
    file.code = mly_file_info_at(table->env, MLY_AT_CWD, path.text, false, &info, &own);
    if (file.code == MLY_OK) {
        file.bytes = info.bytes;
        file.code = mly_lance_sums_read(table, name, &sums, &file.has_sums, &own);
    }
    if (file.code == MLY_OK && file.has_sums && walk->fragment_i != SIZE_MAX) {
        file.code = mly_sums_verify(table->env, &sums, path.text, NULL, &own);
    }
    if (file.code == MLY_OK) file.code = decode(walk, folder, file.has_sums, &own);
    mly_sums_deinit(&sums);
    if (file.code == MLY_ERR_NOMEM) return mly_fail(err, file.code, "%s", own.message);
    file.reason = own.message;
    return walk->tell(walk->context, &file, err);
}

static enum mly_err verify_index_file(void *context, const char *folder, const char *name,
                                      const char *sums_name, uint64_t bytes, struct mly_error *err)
{
    struct file_walk *walk = context;
    struct mly_lance_verified file = {.bytes = bytes};
    struct lance_path path;
    struct mly_error own = {0};
    mly_lance_path(walk->table, folder, name, &path);
    file.path = path.text;
    file.code = mly_lance_index_file_check(walk->table, folder, name, sums_name, bytes,
                                           &file.has_sums, &own);
    if (file.code == MLY_ERR_NOMEM) return mly_fail(err, file.code, "%s", own.message);
    file.reason = own.message;
    return walk->tell(walk->context, &file, err);
}

/* A section of indices that cannot be read is damage of the manifest. */
static enum mly_err verify_indices(struct file_walk *walk, struct mly_error *err)
{
    struct mly_lance_indices *indices = NULL;
    struct mly_lance_verified file = {.code = MLY_OK};
    struct lance_path path;
    struct mly_error own = {0};
    char name[LANCE_VERSION_NAME_BYTES];
    file.code = mly_lance_indices_read(walk->manifest, &indices, &own);
    mly_lance_indices_destroy(indices);
    if (file.code == MLY_OK) {
        return mly_lance_each_index_file(walk->manifest, verify_index_file, walk, err);
    }
    if (file.code == MLY_ERR_NOMEM) return mly_fail(err, file.code, "%s", own.message);
    mly_lance_version_name(walk->manifest->pb->version, walk->manifest->naming, name);
    mly_lance_path(walk->table, "_versions", name, &path);
    file.path = path.text;
    file.reason = own.message;
    return walk->tell(walk->context, &file, err);
}

enum mly_err mly_lance_verify(const struct mly_lance_table *table,
                              const struct mly_lance_manifest *manifest, mly_lance_verified_fn fn,
                              void *context, struct mly_error *err)
{
    struct file_walk walk = {
        .table = table, .manifest = manifest, .fn = verify_file, .tell = fn, .context = context};
    MLY_TRY(walk_files(&walk, err));
    return verify_indices(&walk, err);
}
