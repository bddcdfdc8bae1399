/* Loads: commits that are too large for one record of the log.
 *
 * In: changes. Out: their rows as data files of the tables, complete and synced. The record has
 * only the files' names, so that they are part of the store from the moment it is in the log; the
 * next checkpoint names them as they are. Before that they are parts of the tail. */
#include "store/store_state_int.h"

#include "base/limits.h"

#define LOAD_FIELDS_MAX 64

/* ---- writing ---- */

bool mly_store_is_load(const struct mly_change *changes, size_t change_count, uint32_t dim)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < change_count; i++) {
        const struct mly_change *change = &changes[i];
        bytes += change->document.metadata.bytes + 256;
        if (change->kind != MLY_CHANGE_PUT) continue;
        for (size_t row = 0; row < change->row_count; row++) {
            bytes += change->rows[row].content.bytes + change->rows[row].metadata.bytes +
                     change->rows[row].heading.bytes + dim * sizeof(float) + 192;
        }
    }
    return bytes > MLY_STORE_RECORD_BYTES;
}

bool mly_store_goes_into_load(const struct mly_change *change)
{
    return change->kind == MLY_CHANGE_PUT && change->row_count > 0;
}

static enum mly_err sync_folder(const struct mly_store_table *table, struct mly_error *err)
{
    struct mly_store *store = table->store;
    char *path = mly_store_join(store->mem, mly_lance_table_path(table->lance), "data");
    if (path == NULL) return mly_fail_nomem(err, MLY_PATH_BYTES_MAX);
    enum mly_err rc = mly_dir_sync(store->env, MLY_AT_CWD, path, err);
    mly_mem_free(store->mem, path);
    return rc;
}

/* Nobody waits for the disk before it has everything. */
static enum mly_err finish_files(struct mly_store *store,
                                 struct mly_lance_writer *writers[MLY_STORE_TABLES],
                                 struct mly_store_load *out, struct mly_error *err)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        if (writers[kind] == NULL) continue;
        MLY_TRY(mly_lance_writer_finish(writers[kind], &out->files[kind], err));
    }
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        if (writers[kind] != NULL) MLY_TRY(sync_folder(&store->tables[kind], err));
    }
    return MLY_OK;
}

enum mly_err mly_store_load_write(struct mly_store *store, const struct mly_change *changes,
                                  size_t change_count, struct mly_store_load *out,
                                  struct mly_error *err)
{
    struct mly_lance_writer *writers[MLY_STORE_TABLES] = {NULL};
    memset(out, 0, sizeof(*out));
    enum mly_err rc = MLY_OK;
    /* The chunks are most of it. */
    for (int kind = MLY_STORE_TABLES; rc == MLY_OK && kind-- > 0;) {
        rc = mly_store_write_rows(store->current->views[kind], changes, change_count,
                                  &writers[kind], err);
    }
    if (rc == MLY_OK) rc = finish_files(store, writers, out, err);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++)
        mly_lance_writer_close(writers[kind]);
    if (rc != MLY_OK) mly_store_load_discard(store, out);
    return rc;
}

void mly_store_load_discard(struct mly_store *store, struct mly_store_load *load)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        if (load->files[kind].name[0] == '\0') continue;
        mly_lance_data_file_discard(store->tables[kind].lance, &load->files[kind]);
    }
    mly_store_load_deinit(load);
}

void mly_store_load_deinit(struct mly_store_load *load)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++)
        mly_lance_data_file_deinit(&load->files[kind]);
}

/* ---- bytes ---- */

static enum mly_err put_file(struct mly_bytes *out, const struct mly_lance_data_file *file,
                             struct mly_error *err)
{
    MLY_TRY(mly_bytes_append(out, file->name, sizeof(file->name), err));
    MLY_TRY(mly_bytes_append_u64le(out, file->row_count, err));
    MLY_TRY(mly_bytes_append_u64le(out, file->file_bytes, err));
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)file->field_count, err));
    for (size_t i = 0; i < file->field_count; i++) {
        MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)file->field_ids[i], err));
    }
    return MLY_OK;
}

enum mly_err mly_store_load_encode(const struct mly_store_load *load, struct mly_bytes *out,
                                   struct mly_error *err)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++)
        MLY_TRY(put_file(out, &load->files[kind], err));
    return MLY_OK;
}

struct source {
    const uint8_t *at;
    size_t left;
};

static bool take_number(struct source *source, size_t bytes, uint64_t *out)
{
    if (source->left < bytes) return false;
    *out = 0;
    for (size_t i = bytes; i-- > 0;)
        *out = *out << 8 | source->at[i];
    source->at += bytes;
    source->left -= bytes;
    return true;
}

/* A name that could lead out of the table's folder is none of ours. */
static bool take_name(struct source *source, char out[MLY_LANCE_NAME_BYTES])
{
    if (source->left < MLY_LANCE_NAME_BYTES) return false;
    memcpy(out, source->at, MLY_LANCE_NAME_BYTES);
    source->at += MLY_LANCE_NAME_BYTES;
    source->left -= MLY_LANCE_NAME_BYTES;
    return memchr(out, '\0', MLY_LANCE_NAME_BYTES) != NULL && strchr(out, '/') == NULL &&
           out[0] != '.';
}

static bool take_file(struct source *source, struct mly_arena *arena,
                      struct mly_lance_data_file *out)
{
    uint64_t count;
    if (!take_name(source, out->name) || !take_number(source, 8, &out->row_count) ||
        !take_number(source, 8, &out->file_bytes) || !take_number(source, 4, &count) ||
        count > LOAD_FIELDS_MAX) {
        return false;
    }
    out->field_count = (size_t)count;
    out->field_ids = mly_arena_array(arena, (size_t)count + 1, sizeof(out->field_ids[0]));
    for (size_t i = 0; out->field_ids != NULL && i < out->field_count; i++) {
        uint64_t id;
        if (!take_number(source, 4, &id)) return false;
        out->field_ids[i] = (int32_t)(uint32_t)id;
    }
    return true;
}

enum mly_err mly_store_load_decode(struct mly_str payload, struct mly_arena *arena,
                                   struct mly_store_load **out, struct mly_error *err)
{
    struct source source = {(const uint8_t *)payload.data, payload.bytes};
    struct mly_store_load *load = mly_arena_array(arena, 1, sizeof(*load));
    if (load == NULL) return mly_fail_nomem(err, sizeof(*load));
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_lance_data_file *file = &load->files[kind];
        if (!take_file(&source, arena, file)) {
            return mly_fail(err, MLY_ERR_CORRUPT, "commit in the log: a load of no known form");
        }
        if (file->field_ids == NULL) return mly_fail_nomem(err, 64);
    }
    if (source.left != 0) {
        return mly_fail(err, MLY_ERR_CORRUPT, "commit in the log: %zu bytes behind a load",
                        source.left);
    }
    *out = load;
    return MLY_OK;
}
