/* Snapshots: the newest state of both tables, pinned, and what is read from it.
 *
 * In: the newest manifests, and what the log has beyond them. Out: one view of each table. Where
 * nothing changed since the last pin the same snapshot is given again. */
#include "store/store_state_int.h"

#include "base/show.h"

/* Checkpoints of other processes between reading the manifests and reading the log. */
#define RENEW_TRIES 8

static struct mly_store_view *newest(const struct mly_store *store, enum mly_store_table_kind kind)
{
    return store->tables[kind].newest;
}

static uint64_t view_version(const struct mly_store_view *view)
{
    return view->manifest == NULL ? 0 : mly_lance_manifest_version(view->manifest);
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
    return mly_fail(
        err, MLY_ERR_MISMATCH,
        "store %s was made with model %.*s%s%.*s (hash %.*s), not %.*s (hash %.*s)", store->path,
        MLY_SHOWN(id, 80), kind.data != NULL ? " " : "", MLY_SHOWN(kind, 20), MLY_SHOWN(hash, 12),
        MLY_SHOWN(mly_str_of(store->model_id), 80), MLY_SHOWN(mly_str_of(store->model_hash), 12));
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
    mly_snapshot_close_index(snapshot->index);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        mly_store_view_release(snapshot->views[kind]);
    }
    mly_mem_free(mem, snapshot);
}

enum mly_err mly_store_make_snapshot(struct mly_store *store,
                                     struct mly_store_view *views[MLY_STORE_TABLES],
                                     struct mly_snapshot **out, struct mly_error *err)
{
    struct mly_snapshot *snapshot = mly_mem_array(store->mem, 1, sizeof(*snapshot));
    if (snapshot == NULL) {
        for (int kind = 0; kind < MLY_STORE_TABLES; kind++)
            mly_store_view_release(views[kind]);
        return mly_fail_nomem(err, sizeof(*snapshot));
    }
    atomic_init(&snapshot->refs, 1);
    snapshot->store = store;
    memcpy(snapshot->views, views, sizeof(snapshot->views));
    *out = snapshot;
    return MLY_OK;
}

/* ---- catching up ---- */

/* Up to which number both tables, and one of them, have everything. A table that is not there, or
 * that somebody else made, has no number: it does not wait for older records. */
static void find_lsns(const struct mly_store *store, uint64_t *older, uint64_t *newer)
{
    *older = UINT64_MAX;
    *newer = 0;
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        const struct mly_store_view *view = newest(store, (enum mly_store_table_kind)kind);
        if (mly_store_view_config(view, MLY_KEY_LSN).data == NULL) continue;
        uint64_t lsn = view->lsn;
        if (lsn < *older) *older = lsn;
        if (lsn > *newer) *newer = lsn;
    }
    if (*older == UINT64_MAX) *older = 0;
}

/* What current must be built from anew: its views stand on other manifests by now. */
static bool is_rebased(const struct mly_store *store)
{
    if (store->current == NULL) return true;
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        if (mly_store_view_base(store->current->views[kind]) !=
            newest(store, (enum mly_store_table_kind)kind)) {
            return true;
        }
    }
    return false;
}

static enum mly_err build_current(struct mly_store *store, struct mly_error *err)
{
    struct mly_store_view *from[MLY_STORE_TABLES];
    struct mly_store_view *views[MLY_STORE_TABLES];
    bool rebased = is_rebased(store);
    if (!rebased && store->applied == store->record_count) return MLY_OK;
    if (rebased) {
        uint64_t older;
        uint64_t newer;
        find_lsns(store, &older, &newer);
        if (!store->in_memory) mly_store_drop_records(store, older);
        store->applied = 0;
    }
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        from[kind] =
            rebased ? newest(store, (enum mly_store_table_kind)kind) : store->current->views[kind];
    }
    /* There may be no array yet, and nothing is added to NULL. */
    const size_t waiting = store->record_count - store->applied;
    MLY_TRY(mly_store_apply(store, from, waiting > 0 ? store->records + store->applied : NULL,
                            waiting, views, err));
    struct mly_snapshot *snapshot = NULL;
    MLY_TRY(mly_store_make_snapshot(store, views, &snapshot, err));
    mly_snapshot_release(store->current);
    store->current = snapshot;
    store->applied = store->record_count;
    mly_store_weigh_records(store);
    return MLY_OK;
}

/* What is known of the log is thrown away, to be read again. */
static void start_over(struct mly_store *store)
{
    mly_store_stop_following(store);
    mly_store_drop_records(store, UINT64_MAX);
    store->seen_lsn = store->forgotten_lsn = 0;
    store->applied = 0;
    store->log_ready = false;
    mly_snapshot_release(store->current);
    store->current = NULL;
}

/* Where no table has a number, what an older log has is for tables that are gone: nothing waits for
 * its beginning. */
static enum mly_err skip_orphans(struct mly_store *store, struct mly_error *err)
{
    uint64_t first;
    MLY_TRY(mly_log_find_first(store->env, store->log_dir, &first, err));
    if (first > 1) store->seen_lsn = first - 1;
    return MLY_OK;
}

/* One look at the log, after one at the tables. CONFLICT, or CORRUPT: they may belong to different
 * moments. *short_log: it is whole, and ends before what one table has. */
static enum mly_err catch_up(struct mly_store *store, bool *short_log, struct mly_error *err)
{
    *short_log = false;
    uint64_t older;
    uint64_t newer;
    find_lsns(store, &older, &newer);
    /* A table is behind what was forgotten: a version was passed over, or taken back. */
    if (older < store->forgotten_lsn) start_over(store);
    if (store->seen_lsn < older) {
        /* A checkpoint took what we had not seen. */
        mly_store_stop_following(store);
        store->seen_lsn = older;
    }
    if (newer == 0 && store->seen_lsn == 0) MLY_TRY(skip_orphans(store, err));
    /* Nobody else has written. */
    if (store->log_ready || (store->seen_lsn >= newer && mly_store_wrote_last(store))) {
        return MLY_OK;
    }

    enum mly_err rc = mly_store_follow_log(store, err);
    *short_log = rc == MLY_OK && store->seen_lsn < newer;
    if (*short_log) {
        rc = mly_fail(err, MLY_ERR_CORRUPT,
                      "store %s: one table has everything up to commit %llu, and the log ends at "
                      "%llu",
                      store->path, (unsigned long long)newer, (unsigned long long)store->seen_lsn);
    }
    if (rc != MLY_OK) mly_store_stop_following(store);
    return rc;
}

/* Was there a table of ours that is gone, or is another one by now? What the log said may have been
 * for that one. */
static bool is_other_table(const struct mly_store_view *before, const struct mly_store_view *after)
{
    static const uint8_t none[MLY_STORE_UUID_BYTES];
    uint8_t uuids[2][MLY_STORE_UUID_BYTES];
    if (before == NULL || before == after) return false;
    mly_store_view_uuid(before, uuids[0]);
    mly_store_view_uuid(after, uuids[1]);
    return memcmp(uuids[0], none, sizeof(none)) != 0 &&
           memcmp(uuids[0], uuids[1], sizeof(none)) != 0;
}

static enum mly_err refresh_tables(struct mly_store *store, bool *changed, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    bool others = false;
    *changed = false;
    for (int kind = 0; rc == MLY_OK && kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_view *before = store->tables[kind].newest;
        if (before != NULL) mly_store_view_retain(before);
        rc = mly_store_table_refresh(&store->tables[kind], err);
        if (rc == MLY_OK) {
            const struct mly_store_view *after = store->tables[kind].newest;
            *changed = *changed || after != before;
            others = others || is_other_table(before, after);
        }
        mly_store_view_release(before);
    }
    if (others && !store->in_memory) start_over(store);
    return rc;
}

/* Where the log does not have what a damaged version did, that is what is wrong. */
static enum mly_err explain_unsound(const struct mly_store *store, struct mly_error *err)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        if (store->tables[kind].unsound == 0) continue;
        return mly_fail(err, MLY_ERR_CORRUPT, "%s; and the log does not have what it did",
                        store->report.reason);
    }
    return MLY_ERR_CORRUPT;
}

/* *again: the tables and the log may have been of different moments. */
static enum mly_err try_to_renew(struct mly_store *store, int attempt, bool *again,
                                 struct mly_error *err)
{
    bool changed;
    *again = false;
    MLY_TRY(refresh_tables(store, &changed, err));
    /* A log that was read from its beginning, beside tables that stayed as they were, is so. */
    bool doubtful = store->reader != NULL || changed || attempt == 1;
    if (!store->in_memory) {
        bool short_log;
        enum mly_err rc = catch_up(store, &short_log, err);
        *again = (rc == MLY_ERR_CONFLICT || rc == MLY_ERR_CORRUPT) && doubtful;
        if (short_log && !*again) MLY_TRY(mly_store_step_back(store, again, err));
        if ((rc == MLY_ERR_CONFLICT || rc == MLY_ERR_CORRUPT) && !*again) {
            if (err != NULL) err->code = MLY_ERR_CORRUPT;
            rc = explain_unsound(store, err);
        }
        if (rc != MLY_OK) return rc;
    }
    enum mly_err rc = build_current(store, err);
    /* A load's file that a checkpoint has just written anew. */
    *again = rc == MLY_ERR_NOTFOUND && !store->in_memory;
    if (rc == MLY_ERR_NOTFOUND && attempt == RENEW_TRIES) {
        if (err != NULL) err->code = MLY_ERR_CORRUPT;
        rc = MLY_ERR_CORRUPT;
    }
    return rc;
}

enum mly_err mly_store_renew(struct mly_store *store, struct mly_error *err)
{
    for (int attempt = 1;; attempt++) {
        bool again;
        enum mly_err rc = try_to_renew(store, attempt, &again, err);
        if (again && attempt == RENEW_TRIES && rc == MLY_ERR_CONFLICT) {
            return mly_fail_in(err, MLY_ERR_BUSY, "store %s: it changes too fast", store->path);
        }
        if (!again || attempt == RENEW_TRIES) return rc;
        start_over(store);
        if (attempt > 1) mly_clock_sleep_ms(store->env, 1);
    }
}

enum mly_err mly_store_pin(struct mly_store *store, struct mly_snapshot **out,
                           struct mly_error *err)
{
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = MLY_OK;
    /* Other processes see a record from the moment it is written: so must we, or whoever asks both
     * would see it go again. */
    while (store->appending)
        mly_cond_wait_ms(&store->cond, &store->mutex, 50);
    /* What our own commit is about to show is not there yet. */
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

/* Where another program has made two of them, the newest counts. */
static enum mly_err find_cell(const struct mly_snapshot *snapshot, size_t key_i, struct mly_str key,
                              struct mly_store_cell *out, bool *found, struct mly_error *err)
{
    const struct mly_store_view *documents = snapshot->views[MLY_STORE_DOCUMENTS];
    struct mly_store_rows rows;
    mly_store_rows_init(&rows, snapshot->store->mem);
    enum mly_err rc = mly_store_find_rows(documents, key_i, key, &rows, err);
    bool is_there = rc == MLY_OK && rows.count > 0;
    if (is_there) {
        mly_store_rows_sort(&rows);
        rc = mly_store_cell_at(documents, rows.items[rows.count - 1], out, err);
    }
    if (rc == MLY_OK) *found = is_there;
    mly_store_rows_deinit(&rows);
    return rc;
}

static enum mly_err find_one(const struct mly_snapshot *snapshot, size_t key_i, struct mly_str key,
                             struct mly_arena *arena, struct mly_document *out, bool *found,
                             struct mly_error *err)
{
    struct mly_store_cell cell;
    bool is_there = false;
    MLY_TRY(find_cell(snapshot, key_i, key, &cell, &is_there, err));
    if (is_there) MLY_TRY(mly_store_read_document(&cell, arena, out, err));
    *found = is_there;
    return MLY_OK;
}

static enum mly_err copy_cell(const struct mly_store_cell *cell, size_t column,
                              struct mly_arena *arena, struct mly_str *out, struct mly_error *err)
{
    struct mly_str text;
    *out = MLY_STR_NULL;
    MLY_TRY(mly_store_cell_string(cell, column, &text, err));
    if (text.data == NULL) return MLY_OK;
    *out = mly_arena_copy(arena, text);
    return out->data == NULL ? mly_fail_nomem(err, text.bytes + 1) : MLY_OK;
}

enum mly_err mly_snapshot_find_file_of(const struct mly_snapshot *snapshot, struct mly_str id,
                                       struct mly_arena *arena, struct mly_document *out,
                                       bool *found, struct mly_error *err)
{
    struct mly_store_cell cell;
    struct mly_document document = {0};
    struct mly_file_stamp *stamp = &document.stamp;
    MLY_TRY(find_cell(snapshot, MLY_STORE_KEY_ID, id, &cell, found, err));
    if (!*found) return MLY_OK;
    if (cell.part->fragment->slab != NULL) return mly_store_read_document(&cell, arena, out, err);
    MLY_TRY(copy_cell(&cell, MLY_DOCUMENT_PATH, arena, &document.path, err));
    if (document.path.data != NULL) {
        MLY_TRY(copy_cell(&cell, MLY_DOCUMENT_PATH_RAW, arena, &document.path_raw, err));
        MLY_TRY(mly_store_cell_int64(&cell, MLY_DOCUMENT_MODIFIED_NS, INT64_MIN,
                                     &stamp->modified_ns, err));
        MLY_TRY(mly_store_cell_int64(&cell, MLY_DOCUMENT_BYTE_COUNT, -1, &stamp->byte_count, err));
        document.has_stamp = stamp->modified_ns != INT64_MIN;
    }
    *out = document;
    return MLY_OK;
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
        for (; cell.row < part->row_count; cell.row++) {
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

void mly_snapshot_fetch_chunks(const struct mly_snapshot *snapshot, const struct mly_match *matches,
                               size_t count)
{
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < count; i++) {
            struct mly_store_cell cell;
            if (mly_store_cell_at(snapshot->views[MLY_STORE_CHUNKS], matches[i].row_address, &cell,
                                  NULL) == MLY_OK) {
                mly_store_fetch_chunk(&cell, turn == 1);
            }
        }
    }
}

size_t mly_snapshot_block_count(const struct mly_snapshot *snapshot)
{
    return snapshot->views[MLY_STORE_CHUNKS]->block_count;
}

enum mly_err mly_snapshot_get_block(const struct mly_snapshot *snapshot, size_t block_i,
                                    struct mly_vector_block *out, struct mly_error *err)
{
    const struct mly_store_view *view = snapshot->views[MLY_STORE_CHUNKS];
    const struct mly_vector_block *block = &view->blocks[block_i];
    size_t part_i = mly_store_view_find_part(view, block->first_address >> 32);
    const struct mly_lance_fragment *data =
        part_i == MLY_STORE_NO_PART ? NULL : view->parts[part_i].fragment->data;
    mly_maps_trim(snapshot->store->env->maps); /* whoever asks for blocks may want all of them */
    if (data != NULL) {
        MLY_TRY(mly_lance_check_vectors(data, view->fields[MLY_CHUNK_VECTOR],
                                        block->first_address & UINT32_MAX, block->row_count, err));
    }
    *out = *block;
    return MLY_OK;
}
