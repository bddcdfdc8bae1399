/* The tail: what the log has and the tables have not.
 *
 * In: two views and records. Out: views in which the records' documents are as the records say.
 * Records are gathered until one of them concerns a document that another of them concerned: then
 * what was gathered goes into the views first, as the rows to be replaced are looked up there. */
#include "store/store_state_int.h"

#include "base/limits.h"

#define TOUCHED_MIN 64

/* What is gathered for one table. */
struct gathered {
    struct mly_store_rows dead;
    struct mly_store_new_row *rows;
    size_t count, capacity;
    bool follows; /* the record in hand is to be applied to it */
};

struct work {
    struct mly_store *store;
    struct mly_store_view *views[MLY_STORE_TABLES];
    struct gathered tables[MLY_STORE_TABLES];
    uint32_t dim;
    uint64_t *touched; /* hashes of document ids, open addressing; 0: free */
    size_t touched_count, touched_capacity;
};

/* ---- which documents are gathered ---- */

static enum mly_err grow_touched(struct work *work, struct mly_error *err)
{
    size_t capacity = work->touched_capacity == 0 ? TOUCHED_MIN : work->touched_capacity * 2;
    uint64_t *touched = mly_mem_array(work->store->mem, capacity, sizeof(touched[0]));
    if (touched == NULL) return mly_fail_nomem(err, capacity * sizeof(touched[0]));
    for (size_t i = 0; i < work->touched_capacity; i++) {
        if (work->touched[i] == 0) continue;
        size_t slot = work->touched[i] & (capacity - 1);
        while (touched[slot] != 0)
            slot = (slot + 1) & (capacity - 1);
        touched[slot] = work->touched[i];
    }
    mly_mem_free(work->store->mem, work->touched);
    work->touched = touched;
    work->touched_capacity = capacity;
    return MLY_OK;
}

/* *again: the document may have been touched since the views were grown. */
static enum mly_err touch(struct work *work, struct mly_str id, bool *again, struct mly_error *err)
{
    uint64_t hash = mly_hash_quick(id) | 1;
    if (2 * work->touched_count >= work->touched_capacity) MLY_TRY(grow_touched(work, err));
    size_t slot = hash & (work->touched_capacity - 1);
    while (work->touched[slot] != 0 && work->touched[slot] != hash)
        slot = (slot + 1) & (work->touched_capacity - 1);
    *again = work->touched[slot] == hash;
    if (!*again) work->touched_count++;
    work->touched[slot] = hash;
    return MLY_OK;
}

/* ---- growing the views ---- */

static enum mly_err settle(struct work *work, struct mly_error *err)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct gathered *gathered = &work->tables[kind];
        if (gathered->count == 0 && gathered->dead.count == 0) continue;
        struct mly_store_view *view = NULL;
        mly_store_rows_sort(&gathered->dead);
        MLY_TRY(mly_store_view_grow(work->views[kind], &gathered->dead, gathered->rows,
                                    gathered->count, work->dim, NULL, &view, err));
        mly_store_view_release(work->views[kind]);
        work->views[kind] = view;
        gathered->count = gathered->dead.count = 0;
    }
    if (work->touched_capacity > 0) {
        memset(work->touched, 0, work->touched_capacity * sizeof(work->touched[0]));
    }
    work->touched_count = 0;
    return MLY_OK;
}

static enum mly_err add_row(struct work *work, enum mly_store_table_kind kind,
                            struct mly_store_record *record, const void *row, struct mly_error *err)
{
    struct gathered *gathered = &work->tables[kind];
    if (gathered->count == gathered->capacity) {
        size_t capacity = gathered->capacity == 0 ? 32 : gathered->capacity * 2;
        size_t bytes = capacity * sizeof(gathered->rows[0]);
        struct mly_store_new_row *rows = mly_mem_realloc(work->store->mem, gathered->rows, bytes);
        if (rows == NULL) return mly_fail_nomem(err, bytes);
        gathered->rows = rows;
        gathered->capacity = capacity;
    }
    gathered->rows[gathered->count++] = (struct mly_store_new_row){record, row};
    return MLY_OK;
}

static enum mly_err bury(struct work *work, enum mly_store_table_kind kind, struct mly_str id,
                         struct mly_error *err)
{
    size_t key = kind == MLY_STORE_DOCUMENTS ? MLY_STORE_KEY_ID : MLY_STORE_KEY_DOCUMENT_ID;
    return mly_store_find_rows(work->views[kind], key, id, &work->tables[kind].dead, err);
}

/* ---- operations ---- */

/* The document's newest row once more, with other metadata. */
static enum mly_err revise_document(struct work *work, struct mly_store_record *record,
                                    const struct mly_operation *operation, struct mly_error *err)
{
    struct mly_store_view *view = work->views[MLY_STORE_DOCUMENTS];
    struct mly_store_rows *dead = &work->tables[MLY_STORE_DOCUMENTS].dead;
    size_t before = dead->count;
    MLY_TRY(bury(work, MLY_STORE_DOCUMENTS, operation->document.id, err));
    if (dead->count == before) return MLY_OK;
    uint64_t newest = dead->items[before];
    for (size_t i = before; i < dead->count; i++)
        newest = dead->items[i] > newest ? dead->items[i] : newest;
    struct mly_store_cell cell;
    struct mly_document *document = mly_arena_array(&record->arena, 1, sizeof(*document));
    if (document == NULL) return mly_fail_nomem(err, sizeof(*document));
    MLY_TRY(mly_store_cell_at(view, newest, &cell, err));
    MLY_TRY(mly_store_read_document(&cell, &record->arena, document, err));
    document->metadata = operation->document.metadata;
    document->updated_at_us = operation->document.updated_at_us;
    return add_row(work, MLY_STORE_DOCUMENTS, record, document, err);
}

static enum mly_err revise_chunks(struct work *work, struct mly_store_record *record,
                                  const struct mly_operation *operation, struct mly_error *err)
{
    struct mly_store_view *view = work->views[MLY_STORE_CHUNKS];
    struct mly_store_rows *dead = &work->tables[MLY_STORE_CHUNKS].dead;
    MLY_TRY(bury(work, MLY_STORE_CHUNKS, operation->document.id, err));
    mly_store_rows_sort(dead); /* each once; what was gathered before is settled */
    for (size_t i = 0; i < dead->count; i++) {
        struct mly_store_cell cell;
        struct mly_chunk_row *row = mly_arena_array(&record->arena, 1, sizeof(*row));
        if (row == NULL) return mly_fail_nomem(err, sizeof(*row));
        MLY_TRY(mly_store_cell_at(view, dead->items[i], &cell, err));
        MLY_TRY(mly_store_read_chunk(&cell, &record->arena, row, err));
        row->metadata = operation->document.metadata;
        if (row->vector != NULL) {
            size_t bytes = view->dim * sizeof(float);
            float *vector = mly_arena_take(&record->arena, bytes);
            if (vector == NULL) return mly_fail_nomem(err, bytes);
            memcpy(vector, row->vector, bytes);
            row->vector = vector;
        }
        work->dim = view->dim;
        MLY_TRY(add_row(work, MLY_STORE_CHUNKS, record, row, err));
    }
    return MLY_OK;
}

static enum mly_err put(struct work *work, struct mly_store_record *record,
                        const struct mly_operation *operation, struct mly_error *err)
{
    uint32_t dim = work->views[MLY_STORE_CHUNKS]->dim;
    if (operation->row_count > 0) {
        if (dim != 0 && dim != operation->dim) {
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "log: vectors of %u numbers for a table of %u numbers", operation->dim,
                            dim);
        }
        work->dim = operation->dim;
    }
    if (!operation->is_new) {
        MLY_TRY(bury(work, MLY_STORE_CHUNKS, operation->document.id, err));
    }
    for (size_t i = 0; i < operation->row_count; i++) {
        MLY_TRY(add_row(work, MLY_STORE_CHUNKS, record, &operation->rows[i], err));
    }
    return MLY_OK;
}

static enum mly_err apply_to_chunks(struct work *work, struct mly_store_record *record,
                                    const struct mly_operation *operation, struct mly_error *err)
{
    switch (operation->kind) {
    case MLY_OPERATION_PUT:
        return put(work, record, operation, err);
    case MLY_OPERATION_REMOVE:
        return bury(work, MLY_STORE_CHUNKS, operation->document.id, err);
    case MLY_OPERATION_METADATA:
        return revise_chunks(work, record, operation, err);
    case MLY_OPERATION_TOUCH:
        break;
    }
    return MLY_OK;
}

static enum mly_err apply_to_documents(struct work *work, struct mly_store_record *record,
                                       const struct mly_operation *operation, struct mly_error *err)
{
    if (operation->kind == MLY_OPERATION_METADATA) {
        return revise_document(work, record, operation, err);
    }
    if (!operation->is_new) {
        MLY_TRY(bury(work, MLY_STORE_DOCUMENTS, operation->document.id, err));
    }
    if (operation->kind == MLY_OPERATION_REMOVE) return MLY_OK;
    return add_row(work, MLY_STORE_DOCUMENTS, record, &operation->document, err);
}

/* Every document of the load replaces the one of its id. */
static enum mly_err find_replaced(struct work *work, enum mly_store_table_kind kind,
                                  struct mly_store_fragment *fragment, struct mly_error *err)
{
    const struct mly_store_part part = {.fragment = fragment, .row_count = fragment->row_count};
    struct mly_store_cell cell = {work->views[kind], &part, 0};
    size_t column = kind == MLY_STORE_DOCUMENTS ? (size_t)MLY_DOCUMENT_ID : MLY_CHUNK_DOCUMENT_ID;
    struct mly_str last = MLY_STR_NULL;
    for (; cell.row < part.row_count; cell.row++) {
        struct mly_str id;
        MLY_TRY(mly_store_cell_string(&cell, column, &id, err));
        if (id.data == NULL || (last.data != NULL && mly_str_equal(id, last))) continue;
        MLY_TRY(bury(work, kind, id, err));
        last = id;
    }
    return MLY_OK;
}

static enum mly_err apply_load(struct work *work, struct mly_store_record *record,
                               enum mly_store_table_kind kind, struct mly_error *err)
{
    struct mly_store_fragment *fragment = NULL;
    struct mly_store_view *view = NULL;
    struct gathered *gathered = &work->tables[kind];
    MLY_TRY(mly_store_fragment_adopt(work->views[kind], record, &fragment, err));
    enum mly_err rc = record->load->is_new ? MLY_OK : find_replaced(work, kind, fragment, err);
    if (rc == MLY_OK) {
        mly_store_rows_sort(&gathered->dead);
        rc = mly_store_view_grow(work->views[kind], &gathered->dead, NULL, 0, 0, fragment, &view,
                                 err);
    }
    mly_store_fragment_release(fragment);
    if (rc != MLY_OK) return rc;
    gathered->dead.count = 0;
    mly_store_view_release(work->views[kind]);
    work->views[kind] = view;
    return MLY_OK;
}

static enum mly_err apply_record(struct work *work, struct mly_store_record *record,
                                 struct mly_error *err)
{
    if (record->load != NULL) MLY_TRY(settle(work, err));
    for (int kind = 0; record->load != NULL && kind < MLY_STORE_TABLES; kind++) {
        if (!work->tables[kind].follows || record->load->files[kind].name[0] == '\0') continue;
        MLY_TRY(apply_load(work, record, (enum mly_store_table_kind)kind, err));
    }
    for (size_t i = 0; i < record->count; i++) {
        const struct mly_operation *operation = &record->operations[i];
        bool again;
        MLY_TRY(touch(work, operation->document.id, &again, err));
        if (again || operation->kind == MLY_OPERATION_METADATA) {
            MLY_TRY(settle(work, err));
            MLY_TRY(touch(work, operation->document.id, &again, err));
        }
        if (work->tables[MLY_STORE_CHUNKS].follows) {
            MLY_TRY(apply_to_chunks(work, record, operation, err));
        }
        if (work->tables[MLY_STORE_DOCUMENTS].follows) {
            MLY_TRY(apply_to_documents(work, record, operation, err));
        }
    }
    return MLY_OK;
}

/* A table follows what it has not yet, and what was written for it and not for one of its name that
 * is gone. */
static bool follows(const struct mly_store_view *view, const struct mly_store_record *record)
{
    if (record->lsn == 0) return true;
    if (view->manifest == NULL) return false;
    uint8_t uuid[MLY_STORE_UUID_BYTES];
    mly_store_view_uuid(view, uuid);
    return record->lsn > view->lsn &&
           memcmp(uuid, record->owner + view->table->kind * sizeof(uuid), sizeof(uuid)) == 0;
}

enum mly_err mly_store_apply(struct mly_store *store,
                             struct mly_store_view *const from[MLY_STORE_TABLES],
                             struct mly_store_record *const *records, size_t count,
                             struct mly_store_view *out[MLY_STORE_TABLES], struct mly_error *err)
{
    struct work work = {.store = store};
    enum mly_err rc = MLY_OK;
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        work.views[kind] = mly_store_view_retain(from[kind]);
        mly_store_rows_init(&work.tables[kind].dead, store->mem);
    }
    for (size_t i = 0; rc == MLY_OK && i < count; i++) {
        for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
            work.tables[kind].follows =
                store->in_memory || follows(mly_store_view_base(work.views[kind]), records[i]);
        }
        rc = apply_record(&work, records[i], err);
    }
    if (rc == MLY_OK) rc = settle(&work, err);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        mly_store_rows_deinit(&work.tables[kind].dead);
        mly_mem_free(store->mem, work.tables[kind].rows);
        if (rc == MLY_OK) {
            out[kind] = work.views[kind];
        } else {
            mly_store_view_release(work.views[kind]);
        }
    }
    mly_mem_free(store->mem, work.touched);
    return rc;
}

/* ---- records that are kept ---- */

/* In memory. A load weighs something, too: there must not be too many parts. */
uint64_t mly_store_record_weight(const struct mly_store_record *record)
{
    return record->payload.bytes + record->arena.bytes +
           (record->load == NULL ? 0 : MLY_STORE_RECORD_BYTES / 16);
}

enum mly_err mly_store_keep_record(struct mly_store *store, struct mly_store_record *record,
                                   struct mly_error *err)
{
    if (store->record_count == store->record_capacity) {
        size_t capacity = store->record_capacity == 0 ? 32 : store->record_capacity * 2;
        size_t bytes = capacity * sizeof(store->records[0]);
        struct mly_store_record **records = mly_mem_realloc(store->mem, store->records, bytes);
        if (records == NULL) {
            mly_store_record_release(record);
            return mly_fail_nomem(err, bytes);
        }
        store->records = records;
        store->record_capacity = capacity;
    }
    store->records[store->record_count++] = record;
    return MLY_OK;
}

void mly_store_forget_newest(struct mly_store *store)
{
    struct mly_store_record *record = store->records[--store->record_count];
    mly_store_record_release(record);
}

void mly_store_weigh_records(struct mly_store *store)
{
    store->tail_bytes = 0;
    for (size_t i = 0; i < store->record_count; i++)
        store->tail_bytes += mly_store_record_weight(store->records[i]);
}

void mly_store_drop_records(struct mly_store *store, uint64_t lsn)
{
    size_t kept = 0;
    for (size_t i = 0; i < store->record_count; i++) {
        struct mly_store_record *record = store->records[i];
        if (record->lsn <= lsn) {
            mly_store_record_release(record);
        } else {
            store->records[kept++] = record;
        }
    }
    store->record_count = kept;
    if (lsn != UINT64_MAX && lsn > store->forgotten_lsn) store->forgotten_lsn = lsn;
    mly_store_weigh_records(store);
}
