/* A new segment out of an old one.
 *
 * In: segments, the files that are to be covered, and where rows of other files went. Out: a
 * segment of these files. Codes of the largest segment are copied, cell by cell, with new slots:
 * they depend on a row and its cell's centroid only. Rows that it does not have are put into its
 * cells; then cells are mended where they grew or shrank. Sequential, and no rebuild. */
#include "index/vindex_fold.h"

#include <string.h>

/* Where less than one row in this many is in the old segment, cells of all are worth finding. */
#define COVERED_MIN_PART 3

static size_t find_file(const struct vindex_folding *folding, struct mly_str name)
{
    for (size_t i = 0; i < folding->job->file_count; i++) {
        if (mly_str_equal(folding->job->files[i].name, name)) return i;
    }
    return SIZE_MAX;
}

static const struct mly_vindex_move *find_move(const struct vindex_folding *folding,
                                               struct mly_str name)
{
    for (size_t i = 0; i < folding->job->move_count; i++) {
        if (mly_str_equal(folding->job->moves[i].from, name)) return &folding->job->moves[i];
    }
    for (size_t i = 0; i < folding->found_count; i++) {
        if (mly_str_equal(folding->found[i].from, name)) return &folding->found[i];
    }
    return NULL;
}

static enum mly_err count_gone(struct vindex_folding *folding, struct vindex_route *route,
                               uint32_t row_count, uint32_t *total, struct mly_error *err)
{
    *total = 0;
    if (route->gone == NULL) return MLY_OK;
    size_t steps = (size_t)row_count / VINDEX_ROUTE_ROWS + 1;
    route->gone_before = mly_mem_array(folding->draft.mem, steps, sizeof(uint32_t));
    if (route->gone_before == NULL) return mly_fail_nomem(err, steps * sizeof(uint32_t));
    for (uint32_t row = 0; row < row_count; row++) {
        if (row % VINDEX_ROUTE_ROWS == 0) route->gone_before[row / VINDEX_ROUTE_ROWS] = *total;
        *total += vindex_is_set(route->gone, row) ? 1 : 0;
    }
    return MLY_OK;
}

static enum mly_err find_route(struct vindex_folding *folding, size_t file_i, struct mly_error *err)
{
    struct mly_vindex_file file = mly_vindex_file(folding->base, file_i);
    struct vindex_route *route = &folding->routes[file_i];
    *route = (struct vindex_route){.to_i = find_file(folding, file.name)};
    if (route->to_i == SIZE_MAX) {
        const struct mly_vindex_move *move = find_move(folding, file.name);
        if (move == NULL) return MLY_OK;
        *route = (struct vindex_route){
            .to_i = move->to_i, .to_first = move->to_first, .gone = move->gone};
    }
    uint32_t gone = 0;
    MLY_TRY(count_gone(folding, route, file.row_count, &gone, err));
    bool is_inside = route->to_i < folding->job->file_count;
    uint32_t room = is_inside ? folding->job->files[route->to_i].row_count : 0;
    if (is_inside && route->to_first <= room && file.row_count - gone <= room - route->to_first) {
        return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_INVAL, "index: %u rows of %.*s cannot have gone to row %u of %u",
                    file.row_count - gone, (int)file.name.bytes, file.name.data, route->to_first,
                    room);
}

/* False where the row is gone. */
static bool follow(const struct vindex_folding *folding, uint32_t slot, size_t *file_i,
                   uint32_t *row)
{
    const struct vindex_block *block = &folding->base->blocks[slot >> 16];
    const struct vindex_route *route = &folding->routes[block->file_i];
    uint32_t old = block->first_row + (slot & 0xFFFF), before = 0;
    if (route->to_i == SIZE_MAX) return false;
    if (route->gone != NULL) {
        if (vindex_is_set(route->gone, old)) return false;
        before = route->gone_before[old / VINDEX_ROUTE_ROWS];
        for (uint32_t i = old / VINDEX_ROUTE_ROWS * VINDEX_ROUTE_ROWS; i < old; i++)
            before += vindex_is_set(route->gone, i) ? 1 : 0;
    }
    *file_i = route->to_i;
    *row = route->to_first + old - before;
    const uint8_t *const *dead = folding->job->dead;
    return dead == NULL || !vindex_is_set(dead[*file_i], *row);
}

/* Takes over what a cell has of rows that still are. */
static enum mly_err copy_cell(struct vindex_folding *folding, uint32_t cell_i,
                              struct mly_error *err)
{
    size_t width = folding->draft.width, stride = vindex_stride(width);
    const uint8_t *bytes;
    MLY_TRY(mly_vindex_cell(folding->base, cell_i, &bytes, err));
    for (uint32_t i = 0; i < folding->base->cells[cell_i].count; i++) {
        const uint8_t *block = bytes + i / MLY_KERN_BLOCK_CODES * stride;
        uint32_t slot, row, place;
        size_t file_i;
        memcpy(&slot, block + MLY_KERN_BLOCK_BYTES(width) + i % MLY_KERN_BLOCK_CODES * 4, 4);
        if (!follow(folding, slot, &file_i, &row)) continue;
        slot = vindex_draft_slot(&folding->draft, file_i, row);
        MLY_TRY(mly_vindex_draft_add(&folding->draft, cell_i, slot, &place, err));
        mly_vindex_draft_copy(&folding->draft, cell_i, place, block, i % MLY_KERN_BLOCK_CODES);
        uint8_t *bits = &folding->covered[file_i][row / 8];
        if ((*bits >> row % 8 & 1) == 0) folding->draft.vector_count++;
        *bits = (uint8_t)(*bits | 1u << row % 8);
    }
    return MLY_OK;
}

static enum mly_err take_over(struct vindex_folding *folding, struct mly_error *err)
{
    const struct mly_vindex *base = folding->base;
    struct vindex_draft *draft = &folding->draft;
    size_t panels = base->centroids.cells.panel_count;
    draft->unit = base->head.unit;
    MLY_TRY(mly_cells_create(draft->mem, draft->width, panels, draft->metric == MLY_VINDEX_COSINE,
                             &draft->centroids, err));
    memcpy(draft->centroids.bytes, base->centroids.bytes, mly_cells_bytes(draft->width, panels));
    MLY_TRY(mly_vindex_draft_cells(draft, err));
    for (uint32_t i = 0; i < base->head.cell_count; i++) {
        MLY_TRY(copy_cell(folding, i, err));
        if (folding->maker->pulse == NULL || i % 256 != 0) continue;
        MLY_TRY(folding->maker->pulse(folding->maker->pulse_context,
                                      0.3 * i / (double)base->head.cell_count, err));
    }
    return MLY_OK;
}

static enum mly_err make_tables(struct vindex_folding *folding, struct mly_error *err)
{
    struct mly_mem *mem = folding->draft.mem;
    size_t files = folding->job->file_count, old_files = folding->base->head.file_count;
    folding->routes = mly_mem_array(mem, old_files + 1, sizeof(folding->routes[0]));
    folding->covered = mly_mem_array(mem, files + 1, sizeof(folding->covered[0]));
    folding->block_rows =
        mly_mem_array(mem, folding->draft.block_count + 1, sizeof(folding->block_rows[0]));
    if (folding->routes == NULL || folding->covered == NULL || folding->block_rows == NULL) {
        return mly_fail_nomem(err, (files + old_files) * sizeof(folding->routes[0]));
    }
    for (size_t i = 0; i < old_files; i++)
        folding->routes[i].to_i = SIZE_MAX;
    uint64_t rows = 0, block_i = 0;
    for (size_t i = 0; i < files; i++) {
        uint32_t count = folding->job->files[i].row_count;
        folding->covered[i] = mly_mem_array(mem, count / 8 + 1, 1);
        if (folding->covered[i] == NULL) return mly_fail_nomem(err, count / 8 + 1);
        for (uint32_t first = 0; first < count; first += VINDEX_BLOCK_ROWS) {
            folding->block_rows[block_i++] = rows + first;
            if (count - first <= VINDEX_BLOCK_ROWS) break;
        }
        rows += count;
    }
    if (folding->job->move_count == 0) MLY_TRY(mly_vindex_find_moves(folding, err));
    for (size_t i = 0; i < old_files; i++)
        MLY_TRY(find_route(folding, i, err));
    return MLY_OK;
}

static void folding_deinit(struct vindex_folding *folding)
{
    struct mly_mem *mem = folding->draft.mem;
    mly_vindex_put_deinit(&folding->put);
    mly_vindex_drop_moves(folding);
    for (size_t i = 0; folding->routes != NULL && i < folding->base->head.file_count; i++)
        mly_mem_free(mem, folding->routes[i].gone_before);
    for (size_t i = 0; folding->covered != NULL && i < folding->job->file_count; i++)
        mly_mem_free(mem, folding->covered[i]);
    mly_mem_free(mem, folding->routes);
    mly_mem_free(mem, folding->covered);
    mly_mem_free(mem, folding->block_rows);
    mly_vindex_draft_deinit(&folding->draft);
}

static struct mly_vindex *largest(const struct mly_vindex_fold *job)
{
    struct mly_vindex *base = NULL;
    for (size_t i = 0; i < job->segment_count; i++) {
        if (base == NULL || job->segments[i]->head.vector_count > base->head.vector_count) {
            base = job->segments[i];
        }
    }
    return base;
}

/* Everything but the writing. *is_worth false: nothing was done, as a build is better. */
static enum mly_err fold_all(struct vindex_folding *folding, bool *is_worth, struct mly_error *err)
{
    const struct mly_vindex_fold *job = folding->job;
    struct vindex_draft *draft = &folding->draft;
    MLY_TRY(make_tables(folding, err));
    MLY_TRY(take_over(folding, err));
    *is_worth = draft->vector_count * COVERED_MIN_PART >= draft->row_count;
    if (!*is_worth) return MLY_OK;
    MLY_TRY(mly_vindex_make_folders(folding->maker, err));
    MLY_TRY(mly_vindex_put_init(&folding->put, folding->maker, draft, err));
    folding->put.done_from = 0.3;
    folding->put.done_to = 0.7;
    folding->put.rows_all = draft->row_count;
    for (size_t i = 0; i < job->file_count; i++)
        MLY_TRY(mly_vindex_put_file(&folding->put, i, folding->covered[i], err));
    return mly_vindex_mend(folding, err);
}

enum mly_err mly_vindex_fold(const struct mly_vindex_maker *maker,
                             const struct mly_vindex_fold *fold,
                             char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES], struct mly_error *err)
{
    struct vindex_folding folding = {.maker = maker, .job = fold, .base = largest(fold)};
    bool is_worth = false;
    if (folding.base == NULL) {
        return mly_vindex_build(maker, fold->files, fold->file_count, name_out, err);
    }
    if (folding.base->head.dim != maker->dim || folding.base->head.metric != maker->metric) {
        return mly_fail(err, MLY_ERR_INVAL, "segments of vectors of %u numbers, these have %zu",
                        folding.base->head.dim, maker->dim);
    }
    enum mly_err rc = mly_vindex_draft_init(&folding.draft, maker->env->mem, maker, fold->files,
                                            fold->file_count, err);
    if (rc == MLY_OK) rc = fold_all(&folding, &is_worth, err);
    if (rc == MLY_OK && is_worth) {
        rc = mly_vindex_draft_write(&folding.draft, maker->env, maker->folder, name_out, err);
    }
    folding_deinit(&folding);
    if (rc == MLY_OK && !is_worth) {
        rc = mly_vindex_build(maker, fold->files, fold->file_count, name_out, err);
    }
    return rc;
}
