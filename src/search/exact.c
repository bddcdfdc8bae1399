/* A pass over every vector, a tile of rows at a time so that scores stay in the cache, into a heap
 * whose root is the worst match that is kept. Most rows lose against the root at once; only ties
 * look at the table. */
#include "search/search_int.h"

#include <math.h>

/* Between two questions to who watches: about a millisecond. */
#define PULSE_TILES ((size_t)16)
/* Of a tile that several scans look at: in the second level of cache, beside other things. */
#define SHARED_TILE_ROWS ((size_t)128)

/* *better: a comes before b. */
static enum mly_err breaks_tie(struct mly_scan *scan, struct mly_match a, struct mly_match b,
                               bool *better, struct mly_error *err)
{
    struct mly_chunk_row row_a;
    struct mly_chunk_row row_b;
    mly_arena_reset(&scan->arena);
    MLY_TRY(mly_snapshot_read_chunk(scan->snapshot, a.row_address, &scan->arena, &row_a, err));
    MLY_TRY(mly_snapshot_read_chunk(scan->snapshot, b.row_address, &scan->arena, &row_b, err));
    int order = 0;
    if (row_a.document_id.data != NULL && row_b.document_id.data != NULL) {
        order = mly_str_compare(row_a.document_id, row_b.document_id);
    }
    if (order == 0) order = (row_a.ordinal > row_b.ordinal) - (row_a.ordinal < row_b.ordinal);
    if (order == 0) order = a.row_address < b.row_address ? -1 : 1;
    *better = order < 0;
    return MLY_OK;
}

static enum mly_err is_better(struct mly_scan *scan, struct mly_match a, struct mly_match b,
                              bool *better, struct mly_error *err)
{
    if (a.score > b.score || a.score < b.score) {
        *better = a.score > b.score;
        return MLY_OK;
    }
    return breaks_tie(scan, a, b, better, err);
}

/* Lets the match at root_i sink until both below it are better. */
static enum mly_err sink(struct mly_scan *scan, size_t root_i, size_t count, struct mly_error *err)
{
    struct mly_match *heap = scan->heap;
    for (;;) {
        size_t worst_i = root_i;
        for (size_t child_i = 2 * root_i + 1; child_i <= 2 * root_i + 2; child_i++) {
            if (child_i >= count) break;
            bool better;
            MLY_TRY(is_better(scan, heap[worst_i], heap[child_i], &better, err));
            if (better) worst_i = child_i;
        }
        if (worst_i == root_i) return MLY_OK;
        struct mly_match swap = heap[root_i];
        heap[root_i] = heap[worst_i];
        heap[worst_i] = swap;
        root_i = worst_i;
    }
}

static enum mly_err rise(struct mly_scan *scan, size_t leaf_i, struct mly_error *err)
{
    struct mly_match *heap = scan->heap;
    while (leaf_i > 0) {
        size_t parent_i = (leaf_i - 1) / 2;
        bool better;
        MLY_TRY(is_better(scan, heap[parent_i], heap[leaf_i], &better, err));
        if (!better) return MLY_OK;
        struct mly_match swap = heap[leaf_i];
        heap[leaf_i] = heap[parent_i];
        heap[parent_i] = swap;
        leaf_i = parent_i;
    }
    return MLY_OK;
}

enum mly_err mly_scan_offer(struct mly_scan *scan, struct mly_match match, struct mly_error *err)
{
    if (scan->heap_count < scan->heap_max) {
        scan->heap[scan->heap_count] = match;
        return rise(scan, scan->heap_count++, err);
    }
    bool better;
    MLY_TRY(is_better(scan, match, scan->heap[0], &better, err));
    if (!better) return MLY_OK;
    scan->heap[0] = match;
    return sink(scan, 0, scan->heap_count, err);
}

static enum mly_err scan_tile(struct mly_scan *scan, const struct mly_vector_block *block,
                              size_t start, size_t rows, struct mly_error *err)
{
    scan->kern->scores_f32(scan->query, block->values + start * scan->dim, rows, scan->dim,
                           scan->scores);
    for (size_t i = 0; i < rows; i++) {
        size_t row_i = start + i;
        if (scan->heap_count == scan->heap_max && scan->scores[i] < scan->heap[0].score) continue;
        if (block->dead != NULL && (block->dead[row_i / 8] >> (row_i % 8) & 1) != 0) continue;
        if (isnan(scan->scores[i])) continue;
        struct mly_match match = {block->first_address + row_i, scan->scores[i]};
        MLY_TRY(mly_scan_offer(scan, match, err));
    }
    return MLY_OK;
}

/* Rows from first on, count of them: a tile is looked at for all scans while it is in the cache. */
static enum mly_err scan_rows(struct mly_scan *const *scans, size_t scan_count,
                              const struct mly_vector_block *block, size_t first, size_t count,
                              struct mly_error *err)
{
    const struct mly_scan *one = scans[0];
    const size_t tile = scan_count > 1 ? SHARED_TILE_ROWS : SCAN_TILE_ROWS;
    size_t beat = PULSE_TILES * SCAN_TILE_ROWS / scan_count / tile * tile;
    if (beat == 0) beat = tile;
    for (size_t start = first; start < first + count; start += tile) {
        size_t rows = first + count - start;
        if (one->pulse != NULL && (start - first) % beat == 0) {
            MLY_TRY(one->pulse(one->pulse_context, err));
        }
        if (rows > tile) rows = tile;
        for (size_t i = 0; i < scan_count; i++)
            MLY_TRY(scan_tile(scans[i], block, start, rows, err));
    }
    return MLY_OK;
}

/* *rows grows by how many were looked at. */
static enum mly_err scan_block(struct mly_scan *const *scans, size_t scan_count,
                               const struct mly_vector_block *block, uint64_t *rows,
                               struct mly_error *err)
{
    const struct mly_selection *selection = scans[0]->selection;
    if (selection == NULL) {
        *rows += block->row_count;
        return scan_rows(scans, scan_count, block, 0, block->row_count, err);
    }
    size_t row = 0, count;
    while ((count = mly_selection_run(selection, block, &row)) > 0) {
        MLY_TRY(scan_rows(scans, scan_count, block, row, count, err));
        *rows += count;
        row += count;
    }
    return MLY_OK;
}

/* Turns the heap into a list, best first: the worst goes to the end, again and again. */
static enum mly_err sort_heap(struct mly_scan *scan, struct mly_error *err)
{
    for (size_t count = scan->heap_count; count > 1; count--) {
        struct mly_match worst = scan->heap[0];
        scan->heap[0] = scan->heap[count - 1];
        scan->heap[count - 1] = worst;
        MLY_TRY(sink(scan, 0, count - 1, err));
    }
    return MLY_OK;
}

enum mly_err mly_scan_blocks(struct mly_scan *const *scans, size_t scan_count,
                             const struct mly_snapshot_index *index, uint64_t *rows,
                             struct mly_error *err)
{
    const struct mly_scan *scan = scans[0];
    size_t block_count = mly_snapshot_block_count(scan->snapshot);
    *rows = 0;
    for (size_t block_i = 0; block_i < block_count; block_i++) {
        struct mly_vector_block block;
        if (index != NULL && mly_snapshot_index_covers(index, block_i)) continue;
        MLY_TRY(mly_snapshot_get_block(scan->snapshot, block_i, &block, err));
        if (block.dim != scan->dim) {
            return mly_fail(err, MLY_ERR_INVAL, "vector has %zu numbers, the store's have %zu",
                            scan->dim, block.dim);
        }
        MLY_TRY(scan_block(scans, scan_count, &block, rows, err));
    }
    return MLY_OK;
}

enum mly_err mly_scan_open(const struct mly_snapshot *snapshot, const struct mly_kern *kern,
                           struct mly_mem *mem, const struct mly_search_ask *ask,
                           struct mly_scan **out, struct mly_error *err)
{
    struct mly_store_counts counts;
    mly_snapshot_get_counts(snapshot, &counts);
    uint64_t rows =
        ask->selection == NULL ? counts.chunks : mly_selection_row_count(ask->selection);
    size_t heap_max = rows < ask->k ? (size_t)rows : ask->k;
    struct mly_scan *scan = mly_mem_array(mem, 1, sizeof(*scan));
    if (scan == NULL) return mly_fail_nomem(err, sizeof(*scan));
    *scan = (struct mly_scan){.snapshot = snapshot,
                              .kern = kern,
                              .mem = mem,
                              .query = ask->query,
                              .dim = ask->dim,
                              .selection = ask->selection,
                              .pulse = ask->pulse,
                              .pulse_context = ask->pulse_context,
                              .heap_max = heap_max};
    mly_arena_init(&scan->arena, mem, SIZE_MAX);
    scan->heap = mly_mem_array(mem, heap_max + 1, sizeof(scan->heap[0]));
    if (scan->heap == NULL) {
        mly_scan_close(scan);
        return mly_fail_nomem(err, heap_max * sizeof(scan->heap[0]));
    }
    *out = scan;
    return MLY_OK;
}

enum mly_err mly_scan_sources(const struct mly_snapshot_index *index,
                              const struct mly_search_ask *ask,
                              const struct mly_vindex_source **out, size_t *count,
                              struct mly_error *err)
{
    if (ask->selection != NULL) {
        return mly_selection_sources(ask->selection, index, out, count, err);
    }
    *out = mly_snapshot_index_sources(index, count);
    return MLY_OK;
}

enum mly_err mly_scan_take(struct mly_scan *scan, struct mly_match **out, size_t *count,
                           struct mly_error *err)
{
    MLY_TRY(sort_heap(scan, err));
    *out = scan->heap;
    *count = scan->heap_count;
    scan->heap = NULL;
    return MLY_OK;
}

void mly_scan_close(struct mly_scan *scan)
{
    mly_mem_free(scan->mem, scan->heap);
    mly_arena_deinit(&scan->arena);
    mly_mem_free(scan->mem, scan);
}

enum mly_err mly_search_exact(const struct mly_snapshot *snapshot, const struct mly_kern *kern,
                              struct mly_mem *mem, const float *query, size_t dim, size_t k,
                              struct mly_match **out, size_t *count, struct mly_error *err)
{
    struct mly_scan *scan = NULL;
    uint64_t rows;
    const struct mly_search_ask ask = {.query = query, .dim = dim, .k = k};
    MLY_TRY(mly_scan_open(snapshot, kern, mem, &ask, &scan, err));
    enum mly_err rc = MLY_OK;
    if (scan->heap_max > 0) rc = mly_scan_blocks(&scan, 1, NULL, &rows, err);
    if (rc == MLY_OK) rc = mly_scan_take(scan, out, count, err);
    mly_scan_close(scan);
    return rc;
}
