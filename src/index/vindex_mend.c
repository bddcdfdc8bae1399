/* Mending cells after a fold (LIRE: Xu et al. 2023, SPFresh).
 *
 * In: a draft in which some cells are too large or too small. Out: the same rows; large cells are
 * cut in two, small ones dissolved, and every row that stands in such a cell or in one beside it
 * goes to the cells that are the nearest to it now. All other codes stay as they are. Vectors come
 * from the records. */
#include "index/vindex_fold.h"

#include <string.h>

/* A cell is cut above this many times what cells have on average, dissolved below one in that. */
#define LARGE 2
#define SMALL 4
#define CODES_MIN 32
#define NEIGHBOURS 8
/* A cell of copies of one row cannot be cut: it must not be tried for ever. */
#define ROUNDS 4
#define BATCH ((size_t)512)

struct mend {
    struct vindex_folding *folding;
    struct vindex_records *records; /* [file_count] */
    uint32_t (*cells)[2];           /* [rows]: where each row is; MLY_CELLS_NONE: nowhere */
    uint32_t (*next)[2];            /* where it should be; both are NONE: it stays */
    uint8_t *changed;               /* u8[cells]: its centroid is another one, or none */
    uint8_t *near;                  /* u8[cells]: its rows are looked at */
    float *scores;                  /* f32[cells] */
    size_t cell_count;              /* that these have room for */
    uint64_t target;
    /* a batch of rows */
    float *turned; /* f32[BATCH][width] */
    uint64_t rows[BATCH];
    uint32_t slots[BATCH];
    uint32_t batch_cells[BATCH][2];
};

static uint64_t row_of(const struct mend *mend, uint32_t slot)
{
    return mend->folding->block_rows[slot >> 16] + (slot & 0xFFFF);
}

/* The record of a slot. */
static enum mly_err get_record(const struct mend *mend, uint32_t slot, const uint8_t **out,
                               struct mly_error *err)
{
    const struct vindex_draft *draft = &mend->folding->draft;
    size_t low = 0, high = draft->file_count, bytes = vindex_record_bytes(draft->width);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (draft->first_blocks[middle] <= slot >> 16) {
            low = middle;
        } else {
            high = middle;
        }
    }
    size_t row =
        (size_t)((slot >> 16) - draft->first_blocks[low]) * VINDEX_BLOCK_ROWS + (slot & 0xFFFF);
    const uint8_t *record = mend->records[low].map.data;
    uint32_t sum;
    if (record == NULL) return mly_fail(err, MLY_ERR_CORRUPT, "vector index: no records");
    record += VINDEX_RECORDS_HEAD_BYTES + row * bytes;
    memcpy(&sum, record + bytes - 4, 4);
    if (mend->folding->put.crc(0, record, bytes - 4) != sum) {
        return mly_fail(err, MLY_ERR_CORRUPT, "vector index: a record does not pass its sum");
    }
    *out = record;
    return MLY_OK;
}

/* ---- which cells ---- */

static void find_rows(struct mend *mend)
{
    const struct vindex_draft *draft = &mend->folding->draft;
    memset(mend->cells, 0xFF, (size_t)draft->row_count * sizeof(mend->cells[0]));
    for (uint32_t c = 0; c < draft->cell_count; c++) {
        for (uint32_t i = 0; i < draft->cells[c].count; i++) {
            uint32_t *cells = mend->cells[row_of(mend, mly_vindex_draft_slot_at(draft, c, i))];
            cells[cells[0] == MLY_CELLS_NONE ? 0 : 1] = c;
        }
    }
}

static bool is_large(const struct mend *mend, uint32_t cell_i)
{
    return mend->folding->draft.cells[cell_i].count > LARGE * mend->target;
}

/* Cells beside centroid f32[width] are looked at. */
static void mark_near(struct mend *mend, const float *centroid)
{
    const struct vindex_draft *draft = &mend->folding->draft;
    const struct mly_cells_level *level = &draft->centroids.cells;
    mend->folding->maker->kern->scores_f32(centroid, mend->folding->put.centroids,
                                           draft->cell_count, draft->width, mend->scores);
    for (size_t c = 0; c < draft->cell_count; c++)
        mend->scores[c] -= 0.5f * level->squares[c];
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        size_t best = SIZE_MAX;
        for (size_t c = 0; c < draft->cell_count; c++) {
            if (mend->near[c] != 0 || !mly_cells_has(&draft->centroids, c)) continue;
            if (best == SIZE_MAX || mend->scores[c] > mend->scores[best]) best = c;
        }
        if (best == SIZE_MAX) return;
        mend->near[best] = 1;
    }
}

/* Two centroids in the place of one. */
static enum mly_err cut_cell(struct mend *mend, uint32_t cell_i, struct mly_error *err)
{
    struct vindex_draft *draft = &mend->folding->draft;
    size_t width = draft->width, count = draft->cells[cell_i].count;
    uint8_t *q = mly_mem_array(draft->mem, count, width + 1);
    float *floats = mly_mem_array(draft->mem, 2 * (count + width), sizeof(float));
    float *lows = floats + count, *centroids = floats + 2 * count;
    enum mly_err rc = MLY_OK;
    bool is_cut = false;
    if (q == NULL || floats == NULL) {
        rc = mly_fail_nomem(err, count * (width + 9));
        goto done;
    }
    for (uint32_t i = 0; i < count && rc == MLY_OK; i++) {
        const uint8_t *record;
        rc = get_record(mend, mly_vindex_draft_slot_at(draft, cell_i, i), &record, err);
        if (rc != MLY_OK) goto done;
        memcpy(&floats[i], record + width, sizeof(float));
        lows[i] = -128 * floats[i];
        for (size_t d = 0; d < width; d++)
            q[i * width + d] = (uint8_t)((int8_t)record[d] + 128);
    }
    const struct mly_vindex_maker *maker = mend->folding->maker;
    struct mly_cells_trainer trainer = {draft->mem, maker->kern, maker->pool, NULL, NULL};
    struct mly_kern_rows rows = {q, floats, lows, count, width};
    rc = mly_cells_split(&trainer, &rows, width, q + count * width, centroids, &is_cut, err);
    if (rc != MLY_OK || !is_cut) goto done;
    uint32_t place = mly_cells_place_near(&draft->centroids, cell_i);
    if (place == MLY_CELLS_NONE) goto done;
    mark_near(mend, mend->folding->put.centroids + cell_i * width);
    mly_cells_set(&draft->centroids, cell_i, centroids);
    mly_cells_set(&draft->centroids, place, centroids + width);
    mend->changed[cell_i] = mend->near[cell_i] = 1;
    mend->changed[place] = mend->near[place] = 1;
done:
    mly_mem_free(draft->mem, floats);
    mly_mem_free(draft->mem, q);
    return rc;
}

/* Room for as many cells as will be cut, and for what is kept about each. */
static enum mly_err make_room(struct mend *mend, size_t more, struct mly_error *err)
{
    struct vindex_draft *draft = &mend->folding->draft;
    size_t used = 0, panels = draft->centroids.cells.panel_count;
    for (size_t c = 0; c < draft->cell_count; c++)
        used += mly_cells_has(&draft->centroids, c) ? 1 : 0;
    if (used + more > draft->cell_count) {
        panels += (more + MLY_CELLS_PANEL - 1) / MLY_CELLS_PANEL + panels / 16;
        MLY_TRY(mly_cells_grow(&draft->centroids, panels, err));
        MLY_TRY(mly_vindex_draft_cells(draft, err));
        mly_cells_regroup(&draft->centroids);
        mly_vindex_put_deinit(&mend->folding->put);
        MLY_TRY(mly_vindex_put_init(&mend->folding->put, mend->folding->maker, draft, err));
    }
    mly_mem_free(draft->mem, mend->changed);
    mly_mem_free(draft->mem, mend->near);
    mly_mem_free(draft->mem, mend->scores);
    mend->changed = mly_mem_array(draft->mem, draft->cell_count, 1);
    mend->near = mly_mem_array(draft->mem, draft->cell_count, 1);
    mend->scores = mly_mem_array(draft->mem, draft->cell_count, sizeof(float));
    if (mend->changed != NULL && mend->near != NULL && mend->scores != NULL) return MLY_OK;
    return mly_fail_nomem(err, draft->cell_count * 6);
}

/* Changes centroids; *is_any: some are others now. */
static enum mly_err change_centroids(struct mend *mend, bool is_first, bool *is_any,
                                     struct mly_error *err)
{
    struct vindex_draft *draft = &mend->folding->draft;
    size_t large = 0, small = 0, there = 0;
    *is_any = false;
    for (uint32_t c = 0; c < draft->cell_count; c++)
        large += is_large(mend, c) ? 1 : 0;
    MLY_TRY(make_room(mend, large, err));
    size_t count = draft->cell_count;
    for (uint32_t c = 0; c < count && large > 0; c++) {
        if (is_large(mend, c) && mend->changed[c] == 0) MLY_TRY(cut_cell(mend, c, err));
    }
    for (uint32_t c = 0; c < count; c++)
        there += mly_cells_has(&draft->centroids, c) ? 1 : 0;
    for (uint32_t c = 0; c < count && is_first; c++) {
        bool is_small = draft->cells[c].count * SMALL < mend->target;
        if (!is_small || mend->changed[c] != 0 || !mly_cells_has(&draft->centroids, c)) continue;
        if (++small >= there) break; /* one must stay */
        mly_cells_clear(&draft->centroids, c);
        mend->changed[c] = mend->near[c] = 1;
    }
    for (uint32_t c = 0; c < count; c++)
        *is_any = *is_any || mend->changed[c] != 0;
    if (!*is_any) return MLY_OK;
    mly_cells_regroup(&draft->centroids);
    mly_vindex_put_deinit(&mend->folding->put);
    return mly_vindex_put_init(&mend->folding->put, mend->folding->maker, draft, err);
}

/* ---- rows ---- */

typedef enum mly_err (*batch_fn)(struct mend *mend, size_t count, struct mly_error *err);

static enum mly_err load_row(struct mend *mend, size_t i, uint32_t slot, struct mly_error *err)
{
    size_t width = mend->folding->draft.width;
    const uint8_t *record;
    float scale;
    MLY_TRY(get_record(mend, slot, &record, err));
    memcpy(&scale, record + width, sizeof(scale));
    for (size_t d = 0; d < width; d++)
        mend->turned[i * width + d] = scale * (float)(int8_t)record[d];
    mend->rows[i] = row_of(mend, slot);
    mend->slots[i] = slot;
    return MLY_OK;
}

static bool is_looked_at(const struct mend *mend, uint64_t row)
{
    const uint32_t *cells = mend->cells[row];
    return (cells[0] != MLY_CELLS_NONE && mend->near[cells[0]] != 0) ||
           (cells[1] != MLY_CELLS_NONE && mend->near[cells[1]] != 0);
}

/* Every row that stands in a cell that is looked at, once, in batches. */
static enum mly_err each_row(struct mend *mend, batch_fn fn, struct mly_error *err)
{
    const struct vindex_draft *draft = &mend->folding->draft;
    size_t count = 0;
    for (size_t file_i = 0; file_i < draft->file_count; file_i++) {
        for (uint32_t row = 0; row < draft->files[file_i].row_count; row++) {
            uint32_t slot = vindex_draft_slot(draft, file_i, row);
            if (!is_looked_at(mend, row_of(mend, slot))) continue;
            MLY_TRY(load_row(mend, count, slot, err));
            if (++count < BATCH) continue;
            MLY_TRY(fn(mend, count, err));
            count = 0;
        }
    }
    return count == 0 ? MLY_OK : fn(mend, count, err);
}

static enum mly_err assign_batch(struct mend *mend, size_t count, struct mly_error *err)
{
    const struct mly_vindex_maker *maker = mend->folding->maker;
    mly_assign(mend->folding->put.assigner, 0, mend->turned, count, mend->batch_cells);
    for (size_t i = 0; i < count; i++)
        memcpy(mend->next[mend->rows[i]], mend->batch_cells[i], sizeof(mend->next[0]));
    if (maker->pulse == NULL) return MLY_OK;
    return maker->pulse(maker->pulse_context, 0.8, err);
}

static bool has_cell(const uint32_t cells[2], uint32_t cell_i)
{
    return cells[0] == cell_i || cells[1] == cell_i;
}

/* Rows that are not in the cells where they should be, or whose cell has another centroid. */
static enum mly_err place_batch(struct mend *mend, size_t count, struct mly_error *err)
{
    struct vindex_draft *draft = &mend->folding->draft;
    for (size_t i = 0; i < count; i++) {
        const uint32_t *next = mend->next[mend->rows[i]];
        for (size_t n = 0; n < 2; n++) {
            uint32_t place;
            if (next[n] == MLY_CELLS_NONE) continue;
            if (mend->changed[next[n]] == 0 && has_cell(mend->cells[mend->rows[i]], next[n])) {
                continue;
            }
            MLY_TRY(mly_vindex_draft_add(draft, next[n], mend->slots[i], &place, err));
            mly_vindex_put_code(&mend->folding->put, mend->turned + i * draft->width, next[n],
                                place);
        }
    }
    return MLY_OK;
}

/* Leaves in each cell the codes that are still right. */
static void sweep(struct mend *mend)
{
    struct vindex_draft *draft = &mend->folding->draft;
    for (uint32_t c = 0; c < draft->cell_count; c++) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < draft->cells[c].count; i++) {
            uint64_t row = row_of(mend, mly_vindex_draft_slot_at(draft, c, i));
            bool stays =
                !is_looked_at(mend, row) || (mend->changed[c] == 0 && has_cell(mend->next[row], c));
            if (stays) mly_vindex_draft_shift(draft, c, i, kept++);
        }
        mly_vindex_draft_cut(draft, c, kept);
    }
}

static enum mly_err mend_once(struct mend *mend, bool is_first, bool *is_any, struct mly_error *err)
{
    MLY_TRY(change_centroids(mend, is_first, is_any, err));
    if (!*is_any) return MLY_OK;
    find_rows(mend);
    MLY_TRY(each_row(mend, assign_batch, err));
    sweep(mend);
    return each_row(mend, place_batch, err);
}

static enum mly_err mend_init(struct mend *mend, struct mly_error *err)
{
    const struct vindex_draft *draft = &mend->folding->draft;
    const struct mly_vindex_maker *maker = mend->folding->maker;
    size_t rows = (size_t)draft->row_count;
    mend->cells = mly_mem_array(draft->mem, rows + 1, sizeof(mend->cells[0]));
    mend->next = mly_mem_array(draft->mem, rows + 1, sizeof(mend->next[0]));
    mend->turned = mly_mem_array(draft->mem, BATCH * draft->width, sizeof(float));
    mend->records = mly_mem_array(draft->mem, draft->file_count + 1, sizeof(mend->records[0]));
    if (mend->cells == NULL || mend->next == NULL || mend->turned == NULL ||
        mend->records == NULL) {
        return mly_fail_nomem(err, rows * 2 * sizeof(mend->cells[0]));
    }
    for (size_t i = 0; i < draft->file_count; i++) {
        MLY_TRY(mly_vindex_records_open(maker->env, maker->folder, draft->files[i],
                                        (uint32_t)draft->dim, &mend->records[i], err));
    }
    mend->target = 2 * draft->vector_count / mly_vindex_cells_for(draft->vector_count);
    if (mend->target < CODES_MIN) mend->target = CODES_MIN;
    return MLY_OK;
}

enum mly_err mly_vindex_mend(struct vindex_folding *folding, struct mly_error *err)
{
    struct mly_mem *mem = folding->draft.mem;
    struct mend *mend = mly_mem_array(mem, 1, sizeof(*mend));
    if (mend == NULL) return mly_fail_nomem(err, sizeof(*mend));
    mend->folding = folding;
    bool is_any = folding->draft.vector_count > 0;
    enum mly_err rc = mend_init(mend, err);
    for (int round = 0; round < ROUNDS && is_any && rc == MLY_OK; round++)
        rc = mend_once(mend, round == 0, &is_any, err);
    for (size_t i = 0; mend->records != NULL && i < folding->draft.file_count; i++)
        mly_map_close(&mend->records[i].map);
    void *blocks[] = {mend->cells,  mend->next,   mend->changed, mend->near,
                      mend->scores, mend->turned, mend->records};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
        mly_mem_free(mem, blocks[i]);
    mly_mem_free(mem, mend);
    return rc;
}
