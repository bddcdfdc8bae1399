/* Finding rows by key: document id and path in documents, document id in chunks.
 *
 * In: a key and a view. Out: the rows of the view that have it. The index maps hashes to rows of
 * fragments, whatever view they are in; it is filled when somebody first asks, one new fragment
 * after the other, and every candidate is compared with the row itself. */
#include "store/store_state_int.h"

/* An index of fewer runs is not worth throwing away. */
#define GONE_RUNS_MIN 4096

void mly_store_rows_init(struct mly_store_rows *rows, struct mly_mem *mem)
{
    *rows = (struct mly_store_rows){.mem = mem};
}

void mly_store_rows_deinit(struct mly_store_rows *rows)
{
    mly_mem_free(rows->mem, rows->items);
    *rows = (struct mly_store_rows){.mem = rows->mem};
}

enum mly_err mly_store_rows_add(struct mly_store_rows *rows, uint64_t address,
                                struct mly_error *err)
{
    if (rows->count == rows->capacity) {
        size_t capacity = rows->capacity == 0 ? 32 : rows->capacity * 2;
        size_t bytes;
        if (!mly_size_mul(capacity, sizeof(rows->items[0]), &bytes)) {
            return mly_fail_nomem(err, SIZE_MAX);
        }
        uint64_t *items = mly_mem_realloc(rows->mem, rows->items, bytes);
        if (items == NULL) return mly_fail_nomem(err, bytes);
        rows->items = items;
        rows->capacity = capacity;
    }
    rows->items[rows->count++] = address;
    return MLY_OK;
}

/* One step of heapsort, which needs no memory and has no worst case. */
static void sink_address(uint64_t *items, size_t root, size_t count)
{
    for (;;) {
        size_t child = 2 * root + 1;
        if (child >= count) return;
        if (child + 1 < count && items[child + 1] > items[child]) child++;
        if (items[child] <= items[root]) return;
        uint64_t swap = items[root];
        items[root] = items[child];
        items[child] = swap;
        root = child;
    }
}

void mly_store_rows_sort(struct mly_store_rows *rows)
{
    uint64_t *items = rows->items;
    bool sorted = true;
    for (size_t i = 1; i < rows->count; i++)
        sorted = sorted && items[i - 1] <= items[i];
    for (size_t i = sorted ? 0 : rows->count / 2; i-- > 0;)
        sink_address(items, i, rows->count);
    for (size_t i = sorted ? 0 : rows->count; i-- > 1;) {
        uint64_t last = items[i];
        items[i] = items[0];
        items[0] = last;
        sink_address(items, 0, i);
    }
    size_t kept = 0;
    for (size_t i = 0; i < rows->count; i++) {
        if (kept == 0 || items[kept - 1] != items[i]) items[kept++] = items[i];
    }
    rows->count = kept;
}

/* ---- keys ---- */

enum mly_err mly_store_read_key(const struct mly_store_cell *cell, size_t key_i,
                                struct mly_str *out, struct mly_error *err)
{
    if (cell->view->table->kind == MLY_STORE_CHUNKS) {
        return mly_store_cell_string(cell, MLY_CHUNK_DOCUMENT_ID, out, err);
    }
    if (key_i == MLY_STORE_KEY_ID) return mly_store_cell_string(cell, MLY_DOCUMENT_ID, out, err);
    MLY_TRY(mly_store_cell_string(cell, MLY_DOCUMENT_PATH_RAW, out, err));
    if (out->data != NULL) return MLY_OK;
    return mly_store_cell_string(cell, MLY_DOCUMENT_PATH, out, err);
}

/* Of the index in memory, from that of key files. */
static uint32_t short_hash(uint64_t hash)
{
    return (uint32_t)(hash ^ hash >> 32);
}

/* All rows, dead ones too: a row that is dead in this view may live in an older one. */
static enum mly_err index_fragment(const struct mly_store_view *view,
                                   const struct mly_store_part *part, size_t key_i,
                                   struct mly_error *err)
{
    struct mly_keys *keys = &view->table->keys[key_i];
    struct mly_store_fragment *fragment = part->fragment;
    if (fragment->keyed_generation[key_i] != keys->generation) {
        fragment->keyed_rows[key_i] = fragment->keyed_runs[key_i] = 0;
    }
    struct mly_store_cell cell = {view, part, fragment->keyed_rows[key_i]};
    size_t count_before = keys->count;
    enum mly_err rc = MLY_OK;
    for (; rc == MLY_OK && cell.row < part->row_count; cell.row++) {
        struct mly_str key;
        rc = mly_store_read_key(&cell, key_i, &key, err);
        if (rc == MLY_OK && key.data != NULL) {
            rc = mly_keys_add(keys, short_hash(mly_hash_quick(key)), fragment->serial,
                              (uint32_t)cell.row, err);
        }
    }
    if (rc != MLY_OK) {
        mly_keys_cut(keys, count_before);
        return rc;
    }
    fragment->keyed_generation[key_i] = keys->generation;
    fragment->keyed_rows[key_i] = part->row_count;
    fragment->keyed_runs[key_i] += keys->count - count_before;
    return MLY_OK;
}

static bool is_found_by_file(const struct mly_store_fragment *fragment)
{
    return atomic_load(&fragment->keyfile) != NULL &&
           atomic_load(&fragment->keyfile_state) == MLY_KEYFILE_GOOD;
}

/* Puts the fragments of the view that are new and have no key file into the index. key_mutex is
 * held. */
static enum mly_err index_view(struct mly_store_view *view, size_t key_i, struct mly_error *err)
{
    struct mly_keys *keys = &view->table->keys[key_i];
    uint64_t gone = atomic_load(&keys->gone_runs);
    if (gone > GONE_RUNS_MIN && gone > keys->count / 2) mly_keys_reset(keys);
    if (view->keyed_generation[key_i] == keys->generation) return MLY_OK;
    for (size_t i = 0; i < view->part_count; i++) {
        const struct mly_store_fragment *fragment = view->parts[i].fragment;
        if (is_found_by_file(fragment)) continue;
        if (fragment->keyed_generation[key_i] != keys->generation ||
            fragment->keyed_rows[key_i] < view->parts[i].row_count) {
            MLY_TRY(index_fragment(view, &view->parts[i], key_i, err));
        }
    }
    view->keyed_generation[key_i] = keys->generation;
    return MLY_OK;
}

/* What is looked for. */
struct quest {
    const struct mly_store_view *view;
    size_t key_i;
    struct mly_str key;
    uint64_t hash;
    struct mly_store_rows *out;
};

/* The rows of one run that live in the view and have the key. */
static enum mly_err check_run(const struct quest *quest, const struct mly_store_part *part,
                              uint64_t first, uint64_t count, struct mly_error *err)
{
    struct mly_store_cell cell = {quest->view, part, first};
    uint64_t end = first + count;
    if (end > part->row_count) end = part->row_count; /* a newer view has seen more */
    for (; cell.row < end; cell.row++) {
        if (mly_store_part_is_dead(part, cell.row)) continue;
        struct mly_str value;
        MLY_TRY(mly_store_read_key(&cell, quest->key_i, &value, err));
        if (value.data != NULL && mly_str_equal(value, quest->key)) {
            MLY_TRY(mly_store_rows_add(quest->out, part->fragment->id << 32 | cell.row, err));
        }
    }
    return MLY_OK;
}

/* key_mutex is held. */
static enum mly_err find_in_memory(const struct quest *quest, struct mly_error *err)
{
    const struct mly_store_view *view = quest->view;
    const struct mly_keys *keys = &view->table->keys[quest->key_i];
    uint32_t hash = short_hash(quest->hash);
    uint32_t run_i = mly_keys_next(keys, hash, MLY_KEY_END);
    for (; run_i != MLY_KEY_END; run_i = mly_keys_next(keys, hash, run_i)) {
        const struct mly_key_run *run = &keys->runs[run_i];
        size_t part_i = mly_store_view_find_serial(view, run->serial);
        if (part_i == MLY_STORE_NO_PART) continue;
        MLY_TRY(check_run(quest, &view->parts[part_i], run->first, run->count, err));
    }
    return MLY_OK;
}

/* *damaged: the file did not pass; what was found so far stays found. */
static enum mly_err find_in_file(const struct quest *quest, const struct mly_store_part *part,
                                 struct mly_keyfile *file, bool *damaged, struct mly_error *err)
{
    uint64_t run_i = 0;
    *damaged = true;
    if (mly_keyfile_find(file, quest->key_i, quest->hash, &run_i, NULL) != MLY_OK) return MLY_OK;
    uint64_t run_count = mly_keyfile_run_count(file, quest->key_i);
    for (; run_i < run_count; run_i++) {
        struct mly_keyfile_run run;
        if (mly_keyfile_get(file, quest->key_i, run_i, &run, NULL) != MLY_OK) return MLY_OK;
        if (run.hash != quest->hash) break;
        MLY_TRY(check_run(quest, part, run.first, run.count, err));
    }
    *damaged = false;
    return MLY_OK;
}

/* From now on the rows of the part stand in memory; what it was that they are looked for now. */
static enum mly_err leave_file(const struct quest *quest, const struct mly_store_part *part,
                               struct mly_error *err)
{
    struct mly_store_table *table = quest->view->table;
    struct mly_store_fragment *fragment = part->fragment;
    mly_mutex_lock(&table->store->key_mutex);
    enum mly_err rc = MLY_OK;
    for (size_t key_i = 0; key_i < MLY_STORE_KEYS && rc == MLY_OK; key_i++) {
        if (table->kind == MLY_STORE_CHUNKS && key_i > 0) break;
        if (fragment->keyed_generation[key_i] == table->keys[key_i].generation) continue;
        rc = index_fragment(quest->view, part, key_i, err);
    }
    if (rc == MLY_OK) {
        uint8_t good = MLY_KEYFILE_GOOD;
        (void)atomic_compare_exchange_strong(&fragment->keyfile_state, &good, MLY_KEYFILE_BAD);
        rc = find_in_memory(quest, err);
    }
    mly_mutex_unlock(&table->store->key_mutex);
    return rc;
}

enum mly_err mly_store_find_rows(const struct mly_store_view *view, size_t key_i,
                                 struct mly_str key, struct mly_store_rows *out,
                                 struct mly_error *err)
{
    if (view->part_count == 0 || key.data == NULL) return MLY_OK;
    const struct quest quest = {view, key_i, key, mly_hash_quick(key), out};
    mly_mutex_lock(&view->table->store->key_mutex);
    /* The view is read-only but for this one mark, which the mutex guards. */
    enum mly_err rc = index_view((struct mly_store_view *)view, key_i, err);
    if (rc == MLY_OK) rc = find_in_memory(&quest, err);
    mly_mutex_unlock(&view->table->store->key_mutex);
    /* After the memory, so that a file that comes or goes meanwhile is missed by neither: one that
     * comes later finds its rows in memory, one that is damaged is tried once more. */
    for (size_t i = 0; i < view->part_count && rc == MLY_OK; i++) {
        struct mly_keyfile *file = atomic_load(&view->parts[i].fragment->keyfile);
        if (file == NULL) continue;
        bool damaged = false;
        rc = find_in_file(&quest, &view->parts[i], file, &damaged, err);
        if (rc == MLY_OK && damaged) rc = leave_file(&quest, &view->parts[i], err);
    }
    return rc;
}

/* ---- the chunks of a document ---- */

/* By ordinal, those without one last; equal ones by address, so that the order is always the same.
 */
static bool comes_before(const struct mly_chunk_row *a, const struct mly_chunk_row *b)
{
    uint64_t a_key = (uint64_t)a->ordinal; /* -1, the null, becomes the largest */
    uint64_t b_key = (uint64_t)b->ordinal;
    return a_key < b_key;
}

/* Merges two sorted halves; stable, and the rows come in the order of their addresses. */
static void merge_rows(const struct mly_chunk_row *from, struct mly_chunk_row *to, size_t start,
                       size_t middle, size_t end)
{
    size_t a = start;
    size_t b = middle;
    for (size_t i = start; i < end; i++) {
        bool take_b = a >= middle || (b < end && comes_before(&from[b], &from[a]));
        to[i] = take_b ? from[b++] : from[a++];
    }
}

static enum mly_err sort_rows(struct mly_chunk_row *rows, size_t count, struct mly_arena *arena,
                              struct mly_error *err)
{
    bool sorted = true;
    for (size_t i = 1; i < count; i++)
        sorted = sorted && !comes_before(&rows[i], &rows[i - 1]);
    if (sorted) return MLY_OK;
    struct mly_chunk_row *other = mly_arena_array(arena, count, sizeof(rows[0]));
    if (other == NULL) return mly_fail_nomem(err, count * sizeof(rows[0]));
    struct mly_chunk_row *from = rows;
    struct mly_chunk_row *to = other;
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t start = 0; start < count; start += 2 * width) {
            size_t middle = start + width < count ? start + width : count;
            size_t end = middle + width < count ? middle + width : count;
            merge_rows(from, to, start, middle, end);
        }
        struct mly_chunk_row *swap = from;
        from = to;
        to = swap;
    }
    if (from != rows) memcpy(rows, from, count * sizeof(rows[0]));
    return MLY_OK;
}

enum mly_err mly_store_document_chunks(const struct mly_store_view *chunks,
                                       struct mly_str document_id, struct mly_arena *arena,
                                       struct mly_chunk_row **out, size_t *count,
                                       struct mly_error *err)
{
    struct mly_store_rows found;
    mly_store_rows_init(&found, chunks->table->store->mem);
    enum mly_err rc =
        mly_store_find_rows(chunks, MLY_STORE_KEY_DOCUMENT_ID, document_id, &found, err);
    if (rc != MLY_OK) goto done;
    mly_store_rows_sort(&found);
    struct mly_chunk_row *rows = mly_arena_array(arena, found.count + 1, sizeof(rows[0]));
    if (rows == NULL) {
        rc = mly_fail_nomem(err, (found.count + 1) * sizeof(rows[0]));
        goto done;
    }
    for (size_t i = 0; i < found.count; i++) {
        struct mly_store_cell cell;
        rc = mly_store_cell_at(chunks, found.items[i], &cell, err);
        if (rc != MLY_OK) goto done;
        rc = mly_store_read_chunk(&cell, arena, &rows[i], err);
        if (rc != MLY_OK) goto done;
    }
    rc = sort_rows(rows, found.count, arena, err);
    if (rc != MLY_OK) goto done;
    *out = rows;
    *count = found.count;
done:
    mly_store_rows_deinit(&found);
    return rc;
}

enum mly_err mly_snapshot_count_chunks(const struct mly_snapshot *snapshot,
                                       struct mly_str document_id, size_t *count,
                                       struct mly_error *err)
{
    const struct mly_store_view *chunks = snapshot->views[MLY_STORE_CHUNKS];
    struct mly_store_rows found;
    mly_store_rows_init(&found, chunks->table->store->mem);
    enum mly_err rc =
        mly_store_find_rows(chunks, MLY_STORE_KEY_DOCUMENT_ID, document_id, &found, err);
    mly_store_rows_sort(&found);
    if (rc == MLY_OK) *count = found.count;
    mly_store_rows_deinit(&found);
    return rc;
}
