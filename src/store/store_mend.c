/* Mends what an interrupted commit left between the tables.
 *
 * In: two tables whose commit ids differ. Out: two that agree. Chunks that the interrupted commit
 * put and that no document names die, and those of documents that it removed; chunks that other
 * programs have put without a document are theirs, and stay. A document that was there before and
 * whose chunks are all of the interrupted commit gets the row that fits them, without its file's
 * stamp, so that the next sync looks at the file again. */
#include "store/store_int.h"

#include "base/limits.h"

struct mend {
    struct mly_store *store;
    struct mly_store_view *documents, *chunks;
    /* What was there before the interrupted commit, and the version of chunks that it made (NULL:
     * it made none yet). Views are NULL where other programs have cleaned the past away. */
    struct mly_store_pair pair;
    struct mly_store_view *documents_before, *chunks_before;
    const struct mly_lance_manifest *chunks_next;
    struct mly_change *changes;
    size_t change_count, change_capacity;
    struct mly_arena arena;   /* what changes point into */
    struct mly_arena scratch; /* of one document */
    struct mly_bytes text;
};

/* ---- leftovers ---- */

static enum mly_err find_document_rows(const struct mend *mend, struct mly_str id,
                                       struct mly_store_rows *rows, struct mly_error *err)
{
    rows->count = 0;
    return mly_store_find_rows(mend->documents, MLY_STORE_KEY_ID, id, rows, err);
}

static bool knows_before(const struct mend *mend)
{
    return mend->documents_before != NULL && mend->chunks_before != NULL;
}

static bool has_fragment(const struct mly_lance_manifest *manifest, uint64_t id)
{
    return manifest != NULL && mly_lance_manifest_find_fragment(manifest, id) != SIZE_MAX;
}

/* Did the interrupted commit put this fragment? Only where knows_before. */
static bool is_of_commit(const struct mend *mend, uint64_t fragment_id)
{
    return has_fragment(mend->chunks_next, fragment_id) &&
           !has_fragment(mend->chunks_before->manifest, fragment_id);
}

/* Chunk ids of ours are UUIDs of version 8. */
static bool is_our_form(struct mly_str id)
{
    if (id.data == NULL || id.bytes != 36 || id.data[14] != '8') return false;
    for (size_t i = 0; i < id.bytes; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        char byte = (char)id.data[i];
        bool digit = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');
        if (dash ? byte != '-' : !digit) return false;
    }
    return true;
}

/* Is the chunk one that the interrupted commit left? Its document has no row. */
static enum mly_err is_leftover(const struct mend *mend, const struct mly_store_cell *cell,
                                struct mly_str document_id, struct mly_store_rows *rows, bool *out,
                                struct mly_error *err)
{
    *out = false;
    if (!knows_before(mend)) {
        struct mly_str id;
        MLY_TRY(mly_store_cell_string(cell, MLY_CHUNK_ID, &id, err));
        *out = is_our_form(id);
        return MLY_OK;
    }
    if (is_of_commit(mend, cell->part->fragment->id)) {
        *out = true;
        return MLY_OK;
    }
    rows->count = 0;
    MLY_TRY(mly_store_find_rows(mend->documents_before, MLY_STORE_KEY_ID, document_id, rows, err));
    *out = rows->count > 0;
    return MLY_OK;
}

static enum mly_err find_orphans_in(struct mend *mend, const struct mly_store_view *chunks,
                                    const struct mly_store_part *part, struct mly_store_rows *rows,
                                    struct mly_store_rows *orphans, struct mly_error *err)
{
    struct mly_store_cell cell = {chunks, part, 0};
    struct mly_str last = MLY_STR_NULL;
    bool has_document = false;
    for (; cell.row < part->fragment->row_count; cell.row++) {
        if (mly_store_part_is_dead(part, cell.row)) continue;
        int64_t ordinal;
        struct mly_str id;
        MLY_TRY(mly_store_cell_int64(&cell, MLY_CHUNK_ORDINAL, -1, &ordinal, err));
        MLY_TRY(mly_store_cell_string(&cell, MLY_CHUNK_DOCUMENT_ID, &id, err));
        if (ordinal < 0 || id.data == NULL) continue; /* somebody else's */
        if (!mly_str_equal(id, last)) {
            MLY_TRY(find_document_rows(mend, id, rows, err));
            has_document = rows->count > 0;
            last = id;
        }
        if (has_document) continue;
        bool leftover;
        MLY_TRY(is_leftover(mend, &cell, id, rows, &leftover, err));
        if (leftover) {
            MLY_TRY(mly_store_rows_add(orphans, part->fragment->id << 32 | cell.row, err));
        }
    }
    return MLY_OK;
}

/* For a step: again for every version that it is tried on. */
static enum mly_err collect_orphans(void *context, const struct mly_store_view *view,
                                    struct mly_store_rows *out, struct mly_error *err)
{
    struct mend *mend = context;
    struct mly_store_rows rows;
    mly_store_rows_init(&rows, mend->store->mem);
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; rc == MLY_OK && i < view->part_count; i++) {
        rc = find_orphans_in(mend, view, &view->parts[i], &rows, out, err);
    }
    mly_store_rows_deinit(&rows);
    return rc;
}

/* ---- documents whose chunks are newer than their row ---- */

/* The text of chunks that are whole: ordinals from 0, spans without a gap. */
static enum mly_err join_chunks(struct mend *mend, const struct mly_chunk_row *rows, size_t count,
                                bool *whole, struct mly_error *err)
{
    mend->text.bytes = 0;
    *whole = false;
    int64_t end = count > 0 ? rows[0].byte_start : 0;
    for (size_t i = 0; i < count; i++) {
        const struct mly_chunk_row *row = &rows[i];
        if (row->ordinal != (int64_t)i || row->byte_start < 0 || row->byte_start > end ||
            row->byte_end < end || row->byte_end - row->byte_start != (int64_t)row->content.bytes) {
            return MLY_OK;
        }
        int64_t overlap = end - row->byte_start;
        MLY_TRY(mly_bytes_append(&mend->text, row->content.data + overlap,
                                 row->content.bytes - (size_t)overlap, err));
        end = row->byte_end;
    }
    *whole = true;
    return MLY_OK;
}

static enum mly_err add_change(struct mend *mend, const struct mly_document *document,
                               struct mly_error *err)
{
    if (mend->change_count == mend->change_capacity) {
        size_t capacity = mend->change_capacity == 0 ? 8 : mend->change_capacity * 2;
        size_t bytes = capacity * sizeof(mend->changes[0]);
        struct mly_change *changes = mly_mem_realloc(mend->store->mem, mend->changes, bytes);
        if (changes == NULL) return mly_fail_nomem(err, bytes);
        mend->changes = changes;
        mend->change_capacity = capacity;
    }
    mend->changes[mend->change_count++] =
        (struct mly_change){.kind = MLY_CHANGE_TOUCH, .document = *document};
    return MLY_OK;
}

/* The row that fits the chunks, where the one that is there does not. */
static enum mly_err renew_row(struct mend *mend, uint64_t row_address,
                              const struct mly_chunk_row *rows, size_t count, struct mly_error *err)
{
    struct mly_store_cell cell;
    struct mly_document document;
    MLY_TRY(mly_store_cell_at(mend->documents, row_address, &cell, err));
    MLY_TRY(mly_store_read_document(&cell, &mend->arena, &document, err));
    struct mly_hash hash = mly_hash_bytes(mly_bytes_view(&mend->text));
    struct mly_str metadata = rows[0].metadata;
    bool same_text = document.has_content_hash && document.chunk_count == (int64_t)count &&
                     memcmp(&hash, &document.content_hash, sizeof(hash)) == 0;
    if (same_text && (metadata.data == NULL || mly_str_equal(metadata, document.metadata))) {
        return MLY_OK;
    }
    if (metadata.data != NULL) {
        document.metadata = mly_arena_copy(&mend->arena, metadata);
        if (document.metadata.data == NULL) return mly_fail_nomem(err, metadata.bytes);
    }
    document.content_hash = hash;
    document.has_content_hash = true;
    document.byte_count = (int64_t)mend->text.bytes;
    document.chunk_count = (int64_t)count;
    document.status = MLY_STR("ok");
    document.reason = MLY_STR_NULL;
    document.has_stamp = false;
    document.updated_at_us = mly_clock_wall_us(mend->store->env);
    return add_change(mend, &document, err);
}

static enum mly_err check_document(struct mend *mend, struct mly_str id, uint64_t fragment_id,
                                   struct mly_store_rows *rows, struct mly_error *err)
{
    MLY_TRY(find_document_rows(mend, id, rows, err));
    if (rows->count != 1) return MLY_OK;
    uint64_t document_row = rows->items[0];
    rows->count = 0;
    MLY_TRY(mly_store_find_rows(mend->chunks, MLY_STORE_KEY_DOCUMENT_ID, id, rows, err));
    for (size_t i = 0; i < rows->count; i++) {
        if (rows->items[i] >> 32 != fragment_id) return MLY_OK;
    }
    struct mly_chunk_row *chunk_rows;
    size_t count;
    bool whole;
    mly_arena_reset(&mend->scratch);
    MLY_TRY(mly_store_document_chunks(mend->chunks, id, &mend->scratch, &chunk_rows, &count, err));
    enum mly_err rc = join_chunks(mend, chunk_rows, count, &whole, err);
    if (rc == MLY_ERR_LIMIT) return MLY_OK; /* no commit of ours */
    if (rc != MLY_OK || !whole || count == 0) return rc;
    return renew_row(mend, document_row, chunk_rows, count, err);
}

static enum mly_err check_documents_of(struct mend *mend, const struct mly_store_part *part,
                                       struct mly_error *err)
{
    struct mly_store_cell cell = {mend->chunks, part, 0};
    struct mly_store_rows rows;
    struct mly_str last = MLY_STR_NULL;
    mly_store_rows_init(&rows, mend->store->mem);
    enum mly_err rc = MLY_OK;
    for (; rc == MLY_OK && cell.row < part->fragment->row_count; cell.row++) {
        if (mly_store_part_is_dead(part, cell.row)) continue;
        struct mly_str id;
        rc = mly_store_cell_string(&cell, MLY_CHUNK_DOCUMENT_ID, &id, err);
        if (rc != MLY_OK || id.data == NULL || mly_str_equal(id, last)) continue;
        last = id;
        rc = check_document(mend, id, part->fragment->id, &rows, err);
    }
    mly_store_rows_deinit(&rows);
    return rc;
}

/* Where the past is not known, only the newest fragment can hold what an interrupted commit put. */
static enum mly_err check_documents(struct mend *mend, struct mly_error *err)
{
    for (size_t i = 0; i < mend->chunks->part_count; i++) {
        const struct mly_store_part *part = &mend->chunks->parts[i];
        bool wanted = knows_before(mend) ? is_of_commit(mend, part->fragment->id)
                                         : i + 1 == mend->chunks->part_count;
        if (wanted) MLY_TRY(check_documents_of(mend, part, err));
    }
    return MLY_OK;
}

/* ---- both ---- */

static enum mly_err find_before(struct mend *mend, struct mly_error *err)
{
    struct mly_store *store = mend->store;
    MLY_TRY(mly_store_pair_find(&mend->pair, store, mend->documents, mend->chunks,
                                MLY_STORE_BACK_MEND, err));
    if (!mend->pair.found) return MLY_OK;
    mend->chunks_next = mly_store_pair_next_chunks(&mend->pair);
    mly_mutex_lock(&store->mutex);
    enum mly_err rc =
        mly_store_pair_view(&mend->pair, MLY_STORE_DOCUMENTS, &mend->documents_before, err);
    if (rc == MLY_OK) {
        rc = mly_store_pair_view(&mend->pair, MLY_STORE_CHUNKS, &mend->chunks_before, err);
    }
    mly_mutex_unlock(&store->mutex);
    return rc;
}

static enum mly_err mend_tables(struct mend *mend, struct mly_error *err)
{
    struct mly_store *store = mend->store;
    struct mly_str commit_id = MLY_STR("");
    char text[37];
    bool had_documents = mend->documents->manifest != NULL;
    if (mend->chunks->manifest != NULL) {
        MLY_TRY(mly_uuid4(store->env, text, err));
        commit_id = mly_str_of(text);
        if (had_documents) MLY_TRY(check_documents(mend, err));
    }
    MLY_TRY(mly_store_commit_documents(store, mend->changes, mend->change_count, commit_id,
                                       mend->chunks->dim, err));
    if (mend->chunks->manifest == NULL) return MLY_OK;
    struct mly_store_step step = {
        .table = &store->tables[MLY_STORE_CHUNKS],
        /* A documents table that is gone was taken away by somebody: see make_documents. */
        .collect = had_documents ? collect_orphans : NULL,
        .context = mend,
        .commit_id = commit_id,
    };
    return mly_store_run_step(store, &step, err);
}

enum mly_err mly_store_mend(struct mly_store *store, struct mly_error *err)
{
    struct mend mend = {.store = store, .pair = {.store = store}};
    mly_arena_init(&mend.arena, store->mem, SIZE_MAX / 2);
    mly_arena_init(&mend.scratch, store->mem, SIZE_MAX / 2);
    mly_bytes_init(&mend.text, store->mem, MLY_DOCUMENT_BYTES_MAX);
    enum mly_err rc = mly_store_newest(store, MLY_STORE_DOCUMENTS, &mend.documents, err);
    if (rc != MLY_OK) goto done;
    rc = mly_store_newest(store, MLY_STORE_CHUNKS, &mend.chunks, err);
    if (rc != MLY_OK) goto done;
    rc = find_before(&mend, err);
    if (rc != MLY_OK) goto done;
    rc = mend_tables(&mend, err);
done:
    if (rc != MLY_OK) mly_fail_in(err, rc, "store %s: mending an interrupted commit", store->path);
    mly_mem_free(store->mem, mend.changes);
    mly_bytes_deinit(&mend.text);
    mly_arena_deinit(&mend.arena);
    mly_arena_deinit(&mend.scratch);
    mly_store_view_release(mend.documents_before);
    mly_store_view_release(mend.chunks_before);
    mly_store_pair_deinit(&mend.pair);
    mly_store_view_release(mend.documents);
    mly_store_view_release(mend.chunks);
    return rc;
}
