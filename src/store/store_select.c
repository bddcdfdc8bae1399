/* The rows of some documents, as searches want them.
 *
 * In: document ids. Out: a bitmap for each part of the chunks that has rows of theirs. They are
 * found by the keys, so that it takes as long as there are ids and rows, however large the store.
 */
#include "store/store_index_int.h"

struct mly_selection {
    struct mly_mem *mem;
    const struct mly_store_view *view; /* the snapshot's */
    uint8_t **bits;                    /* [part_count]; NULL: no row of that part */
    uint64_t *counts;                  /* [part_count] */
    uint64_t row_count;
    struct mly_vindex_source *sources; /* of the index that was asked for last */
    struct mly_vindex_part *parts;
};

static enum mly_err select_row(struct mly_selection *selection, uint64_t address,
                               struct mly_error *err)
{
    const struct mly_store_view *view = selection->view;
    size_t part_i = mly_store_view_find_part(view, address >> 32);
    uint64_t row = address & UINT32_MAX;
    if (part_i == MLY_STORE_NO_PART || row >= view->parts[part_i].row_count) return MLY_OK;
    if (selection->bits[part_i] == NULL) {
        size_t bytes = (size_t)(view->parts[part_i].row_count / 8 + 1);
        selection->bits[part_i] = mly_mem_array(selection->mem, bytes, 1);
        if (selection->bits[part_i] == NULL) return mly_fail_nomem(err, bytes);
    }
    uint8_t *byte = &selection->bits[part_i][row / 8];
    uint8_t bit = (uint8_t)(1U << (row % 8));
    if ((*byte & bit) != 0) return MLY_OK; /* an id that was named twice */
    *byte |= bit;
    selection->counts[part_i]++;
    selection->row_count++;
    return MLY_OK;
}

static enum mly_err select_all(struct mly_selection *selection, const struct mly_str *document_ids,
                               size_t count, struct mly_error *err)
{
    struct mly_store_rows rows;
    enum mly_err rc = MLY_OK;
    mly_store_rows_init(&rows, selection->mem);
    for (size_t i = 0; rc == MLY_OK && i < count; i++) {
        rows.count = 0;
        rc = mly_store_find_rows(selection->view, MLY_STORE_KEY_DOCUMENT_ID, document_ids[i], &rows,
                                 err);
        for (size_t j = 0; rc == MLY_OK && j < rows.count; j++)
            rc = select_row(selection, rows.items[j], err);
    }
    mly_store_rows_deinit(&rows);
    return rc;
}

enum mly_err mly_snapshot_select(const struct mly_snapshot *snapshot,
                                 const struct mly_str *document_ids, size_t count,
                                 struct mly_selection **out, struct mly_error *err)
{
    const struct mly_store_view *view = snapshot->views[MLY_STORE_CHUNKS];
    struct mly_mem *mem = snapshot->store->mem;
    struct mly_selection *selection = mly_mem_array(mem, 1, sizeof(*selection));
    if (selection == NULL) return mly_fail_nomem(err, sizeof(*selection));
    selection->mem = mem;
    selection->view = view;
    selection->bits = mly_mem_array(mem, view->part_count + 1, sizeof(selection->bits[0]));
    selection->counts = mly_mem_array(mem, view->part_count + 1, sizeof(selection->counts[0]));
    enum mly_err rc = MLY_OK;
    if (selection->bits == NULL || selection->counts == NULL) {
        rc = mly_fail_nomem(err, view->part_count * sizeof(selection->counts[0]));
    }
    if (rc == MLY_OK) rc = select_all(selection, document_ids, count, err);
    if (rc != MLY_OK) {
        mly_selection_destroy(selection);
        return rc;
    }
    *out = selection;
    return MLY_OK;
}

void mly_selection_destroy(struct mly_selection *selection)
{
    if (selection == NULL) return;
    for (size_t i = 0; selection->bits != NULL && i < selection->view->part_count; i++)
        mly_mem_free(selection->mem, selection->bits[i]);
    mly_mem_free(selection->mem, selection->bits);
    mly_mem_free(selection->mem, selection->counts);
    mly_mem_free(selection->mem, selection->sources);
    mly_mem_free(selection->mem, selection->parts);
    mly_mem_free(selection->mem, selection);
}

uint64_t mly_selection_row_count(const struct mly_selection *selection)
{
    return selection->row_count;
}

size_t mly_selection_run(const struct mly_selection *selection,
                         const struct mly_vector_block *block, size_t *row)
{
    size_t part_i = mly_store_view_find_part(selection->view, block->first_address >> 32);
    const uint8_t *bits = part_i == MLY_STORE_NO_PART ? NULL : selection->bits[part_i];
    size_t first = (size_t)(block->first_address & UINT32_MAX), count = 0;
    if (bits == NULL) return 0;
    for (; *row < block->row_count; ++*row) {
        size_t at = first + *row;
        if (at % 8 == 0 && bits[at / 8] == 0) {
            *row += 7;
            continue;
        }
        if ((bits[at / 8] >> (at % 8) & 1) != 0) break;
    }
    while (*row + count < block->row_count) {
        size_t at = first + *row + count;
        if ((bits[at / 8] >> (at % 8) & 1) == 0) break;
        count++;
    }
    return count;
}

enum mly_err mly_selection_sources(struct mly_selection *selection,
                                   const struct mly_snapshot_index *index,
                                   const struct mly_vindex_source **out, size_t *count,
                                   struct mly_error *err)
{
    const struct mly_store_part *first = selection->view->parts;
    size_t part_count = 0;
    for (size_t i = 0; i < index->source_count; i++) {
        struct mly_vindex_info info;
        mly_vindex_get_info(index->sources[i].segment, &info);
        part_count += info.file_count;
    }
    mly_mem_free(selection->mem, selection->sources);
    mly_mem_free(selection->mem, selection->parts);
    selection->sources =
        mly_mem_array(selection->mem, index->source_count + 1, sizeof(selection->sources[0]));
    selection->parts = mly_mem_array(selection->mem, part_count + 1, sizeof(selection->parts[0]));
    if (selection->sources == NULL || selection->parts == NULL) {
        return mly_fail_nomem(err, part_count * sizeof(selection->parts[0]));
    }
    struct mly_vindex_part *parts = selection->parts;
    for (size_t i = 0; i < index->source_count; i++) {
        struct mly_vindex_info info;
        mly_vindex_get_info(index->sources[i].segment, &info);
        selection->sources[i] = (struct mly_vindex_source){index->sources[i].segment, parts};
        for (size_t f = 0; f < info.file_count; f++, parts++) {
            *parts = index->sources[i].parts[f];
            if (!parts->is_present) continue;
            size_t part_i = (size_t)((const struct mly_store_part *)parts->context - first);
            parts->is_present = selection->bits[part_i] != NULL;
            parts->dead = NULL; /* none is selected */
            parts->allowed = selection->bits[part_i];
            parts->allowed_count = selection->counts[part_i];
        }
    }
    *out = selection->sources;
    *count = index->source_count;
    return MLY_OK;
}
