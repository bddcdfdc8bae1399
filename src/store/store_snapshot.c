/* Snapshots: the newest versions of both tables that belong together, pinned, and what is read from
 * them.
 *
 * In: the store. Out: one view of each table. Where nothing changed since the last pin the same
 * snapshot is given again. */
#include "store/store_int.h"

static struct mly_store_view *newest(const struct mly_store *store, enum mly_store_table_kind kind)
{
    return store->tables[kind].newest;
}

static uint64_t view_version(const struct mly_store_view *view)
{
    return view->manifest == NULL ? 0 : mly_lance_manifest_version(view->manifest);
}

bool mly_store_is_whole(const struct mly_store *store)
{
    return mly_str_equal(mly_store_view_config(newest(store, MLY_STORE_DOCUMENTS), MLY_KEY_COMMIT),
                         mly_store_view_config(newest(store, MLY_STORE_CHUNKS), MLY_KEY_COMMIT));
}

/* Is current what was found for these two versions? */
static bool is_known_split(struct mly_store *store)
{
    return store->current != NULL &&
           store->split_versions[MLY_STORE_DOCUMENTS] ==
               view_version(newest(store, MLY_STORE_DOCUMENTS)) &&
           store->split_versions[MLY_STORE_CHUNKS] == view_version(newest(store, MLY_STORE_CHUNKS));
}

static void remember_split(struct mly_store *store)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        store->split_versions[kind] = view_version(newest(store, (enum mly_store_table_kind)kind));
    }
}

static bool differs(const char *asked, struct mly_str stored)
{
    return asked != NULL && stored.data != NULL && !mly_str_equal(mly_str_of(asked), stored);
}

/* Both are named by as much as tells them apart: two files of one model have one id. */
static enum mly_err check_names(const struct mly_store *store, const struct mly_store_view *view,
                                struct mly_error *err)
{
    const struct mly_str id = mly_store_view_config(view, MLY_KEY_MODEL_ID);
    const struct mly_str hash = mly_store_view_config(view, MLY_KEY_MODEL_HASH);
    const struct mly_str kind = mly_store_view_config(view, MLY_KEY_MODEL_QUANTISATION);
    const bool other_id = differs(store->model_id, id);
    if (!other_id && !differs(store->model_hash, hash)) return MLY_OK;
    return mly_fail(err, MLY_ERR_MISMATCH,
                    "store %s was made with model %.*s%s%.*s (hash %.*s), not %.80s (hash %.12s)",
                    store->path, (int)(id.bytes < 80 ? id.bytes : 80),
                    id.data != NULL ? id.data : "", kind.data != NULL ? " " : "",
                    (int)(kind.bytes < 20 ? kind.bytes : 20), kind.data != NULL ? kind.data : "",
                    (int)(hash.bytes < 12 ? hash.bytes : 12), hash.data != NULL ? hash.data : "",
                    store->model_id != NULL ? store->model_id : "",
                    store->model_hash != NULL ? store->model_hash : "");
}

enum mly_err mly_store_check_model(const struct mly_store *store, struct mly_error *err)
{
    const struct mly_store_view *chunks = newest(store, MLY_STORE_CHUNKS);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        MLY_TRY(check_names(store, newest(store, (enum mly_store_table_kind)kind), err));
    }
    if (store->dim != 0 && chunks->dim != 0 && store->dim != chunks->dim) {
        return mly_fail(err, MLY_ERR_MISMATCH, "store %s has vectors of %u numbers, not %u",
                        store->path, chunks->dim, store->dim);
    }
    return MLY_OK;
}

/* ---- pin and release ---- */

void mly_snapshot_release(struct mly_snapshot *snapshot)
{
    if (snapshot == NULL || atomic_fetch_sub(&snapshot->refs, 1) != 1) return;
    struct mly_mem *mem = snapshot->store->mem;
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        mly_store_view_release(snapshot->views[kind]);
    }
    mly_mem_free(mem, snapshot);
}

/* Makes current the two views, which it takes. */
static enum mly_err set_current(struct mly_store *store, struct mly_store_view *documents,
                                struct mly_store_view *chunks, struct mly_error *err)
{
    struct mly_snapshot *before = store->current;
    if (before != NULL && before->views[MLY_STORE_DOCUMENTS] == documents &&
        before->views[MLY_STORE_CHUNKS] == chunks) {
        mly_store_view_release(documents);
        mly_store_view_release(chunks);
        return MLY_OK;
    }
    struct mly_snapshot *snapshot = mly_mem_array(store->mem, 1, sizeof(*snapshot));
    if (snapshot == NULL) {
        mly_store_view_release(documents);
        mly_store_view_release(chunks);
        return mly_fail_nomem(err, sizeof(*snapshot));
    }
    atomic_init(&snapshot->refs, 1);
    snapshot->store = store;
    snapshot->views[MLY_STORE_DOCUMENTS] = documents;
    snapshot->views[MLY_STORE_CHUNKS] = chunks;
    store->current = snapshot;
    mly_snapshot_release(before);
    return MLY_OK;
}

static enum mly_err take_newest(struct mly_store *store, struct mly_error *err)
{
    return set_current(store, mly_store_view_retain(newest(store, MLY_STORE_DOCUMENTS)),
                       mly_store_view_retain(newest(store, MLY_STORE_CHUNKS)), err);
}

/* Makes current the newest versions before the split that belong together, where there are some. */
static enum mly_err take_pair(struct mly_store *store, bool *taken, struct mly_error *err)
{
    struct mly_store_pair pair;
    struct mly_store_view *views[MLY_STORE_TABLES] = {NULL, NULL};
    enum mly_err rc =
        mly_store_pair_find(&pair, store, newest(store, MLY_STORE_DOCUMENTS),
                            newest(store, MLY_STORE_CHUNKS), MLY_STORE_BACK_READER, err);
    *taken = false;
    if (rc != MLY_OK || !pair.found) goto done;
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        rc = mly_store_pair_view(&pair, (enum mly_store_table_kind)kind, &views[kind], err);
        if (rc != MLY_OK || views[kind] == NULL) goto done;
    }
    *taken = true;
    rc = set_current(store, views[MLY_STORE_DOCUMENTS], views[MLY_STORE_CHUNKS], err);
    views[MLY_STORE_DOCUMENTS] = NULL;
    views[MLY_STORE_CHUNKS] = NULL;
done:
    mly_store_view_release(views[MLY_STORE_DOCUMENTS]);
    mly_store_view_release(views[MLY_STORE_CHUNKS]);
    mly_store_pair_deinit(&pair);
    return rc;
}

/* The newest versions do not belong together. Where a writer is between them, what was there before
 * is given; where a crash left them so, too, until the next writer mends them. Two that nobody is
 * writing and that have no common past (another program's doing) are taken as they are. *again:
 * look once more. */
static enum mly_err take_split(struct mly_store *store, bool seen_before, bool *again,
                               struct mly_error *err)
{
    bool held = false;
    bool taken = false;
    *again = false;
    MLY_TRY(take_pair(store, &taken, err));
    if (taken) {
        remember_split(store);
        return MLY_OK;
    }
    MLY_TRY(mly_store_lock_is_held(store, &held, err));
    if (held) {
        *again = store->current == NULL;
        return MLY_OK;
    }
    /* Whoever was writing may have ended just now: only versions that still are the newest after
     * nobody held the lock were left so. */
    *again = !seen_before;
    if (*again) return MLY_OK;
    remember_split(store);
    return take_newest(store, err);
}

enum mly_err mly_store_renew(struct mly_store *store, struct mly_error *err)
{
    uint64_t seen[MLY_STORE_TABLES] = {UINT64_MAX, UINT64_MAX};
    double end = mly_clock_seconds(store->env) + store->lock_wait_ms * 1e-3;
    for (;;) {
        MLY_TRY(mly_store_table_refresh(&store->tables[MLY_STORE_DOCUMENTS], err));
        MLY_TRY(mly_store_table_refresh(&store->tables[MLY_STORE_CHUNKS], err));
        if (mly_store_is_whole(store)) return take_newest(store, err);
        /* A writer mends what it finds; until then there is nothing new to be seen. */
        if (is_known_split(store) || (store->locked && store->current != NULL)) return MLY_OK;
        uint64_t documents = view_version(newest(store, MLY_STORE_DOCUMENTS));
        uint64_t chunks = view_version(newest(store, MLY_STORE_CHUNKS));
        bool again;
        MLY_TRY(take_split(
            store, seen[MLY_STORE_DOCUMENTS] == documents && seen[MLY_STORE_CHUNKS] == chunks,
            &again, err));
        if (!again) return MLY_OK;
        if (mly_clock_seconds(store->env) > end && seen[MLY_STORE_DOCUMENTS] != UINT64_MAX) {
            if (store->current != NULL) return MLY_OK;
            return mly_fail(err, MLY_ERR_BUSY,
                            "store %s: another process has been between its tables for %u ms",
                            store->path, store->lock_wait_ms);
        }
        seen[MLY_STORE_DOCUMENTS] = documents;
        seen[MLY_STORE_CHUNKS] = chunks;
        mly_clock_sleep_ms(store->env, 1);
    }
}

enum mly_err mly_store_pin(struct mly_store *store, struct mly_snapshot **out,
                           struct mly_error *err)
{
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = MLY_OK;
    /* Between the two tables of our own commit there is nothing that should be seen. */
    if (!store->committing || store->current == NULL) rc = mly_store_renew(store, err);
    if (rc == MLY_OK) {
        atomic_fetch_add(&store->current->refs, 1);
        *out = store->current;
    }
    mly_mutex_unlock(&store->mutex);
    return rc;
}

void mly_snapshot_get_counts(const struct mly_snapshot *snapshot, struct mly_store_counts *out)
{
    const struct mly_store_view *documents = snapshot->views[MLY_STORE_DOCUMENTS];
    const struct mly_store_view *chunks = snapshot->views[MLY_STORE_CHUNKS];
    *out = (struct mly_store_counts){
        .documents = documents->live_count - documents->skipped_count,
        .skipped = documents->skipped_count,
        .chunks = chunks->live_count,
        .documents_version = view_version(documents),
        .chunks_version = view_version(chunks),
        .documents_fragments = documents->part_count,
        .chunks_fragments = chunks->part_count,
        .file_bytes = documents->file_bytes + chunks->file_bytes,
        .dim = chunks->dim,
    };
}

static struct mly_str snapshot_config(const struct mly_snapshot *snapshot, struct mly_str key)
{
    struct mly_str value = mly_store_view_config(snapshot->views[MLY_STORE_CHUNKS], key);
    if (value.data != NULL) return value;
    return mly_store_view_config(snapshot->views[MLY_STORE_DOCUMENTS], key);
}

struct mly_str mly_snapshot_model_id(const struct mly_snapshot *snapshot)
{
    return snapshot_config(snapshot, MLY_KEY_MODEL_ID);
}

struct mly_str mly_snapshot_model_hash(const struct mly_snapshot *snapshot)
{
    return snapshot_config(snapshot, MLY_KEY_MODEL_HASH);
}

struct mly_store_model mly_snapshot_model(const struct mly_snapshot *snapshot)
{
    return (struct mly_store_model){
        .pooling = snapshot_config(snapshot, MLY_KEY_MODEL_POOLING),
        .quantisation = snapshot_config(snapshot, MLY_KEY_MODEL_QUANTISATION),
        .query_prefix = snapshot_config(snapshot, MLY_KEY_MODEL_QUERY_PREFIX),
        .passage_prefix = snapshot_config(snapshot, MLY_KEY_MODEL_PASSAGE_PREFIX),
    };
}

/* ---- documents ---- */

static enum mly_err find_one(const struct mly_snapshot *snapshot, size_t key_i, struct mly_str key,
                             struct mly_arena *arena, struct mly_document *out, bool *found,
                             struct mly_error *err)
{
    const struct mly_store_view *documents = snapshot->views[MLY_STORE_DOCUMENTS];
    struct mly_store_rows rows;
    mly_store_rows_init(&rows, snapshot->store->mem);
    enum mly_err rc = mly_store_find_rows(documents, key_i, key, &rows, err);
    if (rc != MLY_OK) goto done;
    if (rows.count > 0) {
        /* Where another program has made two of them, the newest counts. */
        mly_store_rows_sort(&rows);
        struct mly_store_cell cell;
        rc = mly_store_cell_at(documents, rows.items[rows.count - 1], &cell, err);
        if (rc != MLY_OK) goto done;
        rc = mly_store_read_document(&cell, arena, out, err);
        if (rc != MLY_OK) goto done;
    }
    *found = rows.count > 0;
done:
    mly_store_rows_deinit(&rows);
    return rc;
}

enum mly_err mly_snapshot_find_document(const struct mly_snapshot *snapshot, struct mly_str id,
                                        struct mly_arena *arena, struct mly_document *out,
                                        bool *found, struct mly_error *err)
{
    return find_one(snapshot, MLY_STORE_KEY_ID, id, arena, out, found, err);
}

enum mly_err mly_snapshot_find_path(const struct mly_snapshot *snapshot, struct mly_str path,
                                    struct mly_arena *arena, struct mly_document *out, bool *found,
                                    struct mly_error *err)
{
    return find_one(snapshot, MLY_STORE_KEY_PATH, path, arena, out, found, err);
}

enum mly_err mly_snapshot_each_document(const struct mly_snapshot *snapshot, mly_document_fn fn,
                                        void *context, struct mly_error *err)
{
    const struct mly_store_view *documents = snapshot->views[MLY_STORE_DOCUMENTS];
    for (size_t part_i = 0; part_i < documents->part_count; part_i++) {
        const struct mly_store_part *part = &documents->parts[part_i];
        struct mly_store_cell cell = {documents, part, 0};
        for (; cell.row < part->fragment->row_count; cell.row++) {
            if (mly_store_part_is_dead(part, cell.row)) continue;
            struct mly_document document;
            MLY_TRY(mly_store_read_document(&cell, NULL, &document, err));
            MLY_TRY(fn(context, &document, err));
        }
    }
    return MLY_OK;
}

/* ---- chunks ---- */

enum mly_err mly_snapshot_document_chunks(const struct mly_snapshot *snapshot,
                                          struct mly_str document_id, struct mly_arena *arena,
                                          struct mly_chunk_row **out, size_t *count,
                                          struct mly_error *err)
{
    return mly_store_document_chunks(snapshot->views[MLY_STORE_CHUNKS], document_id, arena, out,
                                     count, err);
}

enum mly_err mly_snapshot_read_chunk(const struct mly_snapshot *snapshot, uint64_t row_address,
                                     struct mly_arena *arena, struct mly_chunk_row *out,
                                     struct mly_error *err)
{
    struct mly_store_cell cell;
    MLY_TRY(mly_store_cell_at(snapshot->views[MLY_STORE_CHUNKS], row_address, &cell, err));
    return mly_store_read_chunk(&cell, arena, out, err);
}

size_t mly_snapshot_block_count(const struct mly_snapshot *snapshot)
{
    return snapshot->views[MLY_STORE_CHUNKS]->block_count;
}

void mly_snapshot_get_block(const struct mly_snapshot *snapshot, size_t block_i,
                            struct mly_vector_block *out)
{
    *out = snapshot->views[MLY_STORE_CHUNKS]->blocks[block_i];
}
