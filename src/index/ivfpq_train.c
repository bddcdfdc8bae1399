/* Partitions of an IVF_PQ index.
 *
 * In: rows. Out: which partition each row is in, and the centroids. Cells of a sample (cells.h) say
 * where a row belongs; the centroids are the means of the rows themselves. */
#include "index/ivfpq_int.h"

#include "index/cells.h"
#include "kern/codes.h"

#include <math.h>
#include <string.h>

/* Those who search in it look through 20 partitions where they are not told how many: large ones
 * find more then. */
#define ROWS_PER_PARTITION ((uint64_t)4096)
#define PARTITIONS_MAX ((uint64_t)65536)
/* Numbers of a piece that is coded by one byte, at best. */
#define SUB_DIM ((size_t)8)

size_t mly_ivfpq_partitions_for(uint64_t row_count)
{
    uint64_t count = (row_count + ROWS_PER_PARTITION / 2) / ROWS_PER_PARTITION;
    if (count > PARTITIONS_MAX) count = PARTITIONS_MAX;
    return count == 0 ? 1 : (size_t)count;
}

size_t mly_ivfpq_subs_for(size_t dim)
{
    for (size_t sub_dim = SUB_DIM; sub_dim <= 2 * SUB_DIM; sub_dim++) {
        if (dim % sub_dim == 0) return dim / sub_dim;
    }
    for (size_t sub_dim = SUB_DIM - 1; sub_dim > 1; sub_dim--) {
        if (dim % sub_dim == 0) return dim / sub_dim;
    }
    return dim;
}

/* ---- rows ---- */

enum mly_err mly_ivfpq_pulse(const struct mly_ivfpq *ivfpq, double done, struct mly_error *err)
{
    const struct mly_vindex_maker *maker = ivfpq->maker;
    return maker->pulse == NULL ? MLY_OK : maker->pulse(maker->pulse_context, done, err);
}

void mly_ivfpq_run(const struct mly_ivfpq *ivfpq, size_t part_count, mly_pool_part_fn part,
                   void *context)
{
    if (ivfpq->maker->pool != NULL) {
        mly_pool_run(ivfpq->maker->pool, part_count, part, context);
        return;
    }
    for (size_t i = 0; i < part_count; i++)
        part(context, i, 0);
}

enum mly_err mly_ivfpq_each_tile(const struct mly_ivfpq *ivfpq, double done_from, double done_to,
                                 ivfpq_tile_fn fn, void *context, struct mly_error *err)
{
    uint64_t index = 0;
    for (size_t file_i = 0; file_i < ivfpq->file_count; file_i++) {
        const struct mly_vindex_file *file = &ivfpq->files[file_i];
        struct mly_vindex_rows rows;
        for (uint32_t row = 0; row < file->row_count; row += (uint32_t)rows.row_count) {
            MLY_TRY(mly_vindex_get_rows(ivfpq->maker, file_i, file, row, &rows, err));
            for (size_t at = 0; at < rows.row_count; at += IVFPQ_TILE_ROWS) {
                const size_t left = rows.row_count - at;
                const struct ivfpq_tile tile = {
                    .values = rows.values + at * ivfpq->dim,
                    .none = rows.none,
                    .none_first = at,
                    .count = left < IVFPQ_TILE_ROWS ? left : IVFPQ_TILE_ROWS,
                    .file_i = file_i,
                    .row = row + (uint32_t)at,
                    .index = index,
                };
                MLY_TRY(fn(context, &tile, err));
                index += tile.count;
                const double part = (double)index / (double)ivfpq->all_rows;
                MLY_TRY(mly_ivfpq_pulse(ivfpq, done_from + (done_to - done_from) * part, err));
            }
        }
    }
    return MLY_OK;
}

bool mly_ivfpq_unit(const struct mly_ivfpq *ivfpq, const struct ivfpq_tile *tile, size_t i,
                    float *out)
{
    const float *value = tile->values + i * ivfpq->dim;
    if (vindex_is_set(tile->none, tile->none_first + i)) return false;
    const float square = ivfpq->maker->kern->dot_f32(value, value, ivfpq->dim);
    const float scale = 1.0f / sqrtf(square);
    if (!isfinite(square) || !isfinite(scale)) return false;
    for (size_t d = 0; d < ivfpq->dim; d++)
        out[d] = value[d] * scale;
    return true;
}

/* ---- cells of a sample ---- */

struct sample {
    const struct mly_ivfpq *ivfpq;
    struct mly_kern_rotation rotation;
    uint8_t *q;
    float *scales, *lows, *unit, *turned;
    size_t wanted, taken;
};

static void sample_deinit(struct sample *sample)
{
    struct mly_mem *mem = sample->ivfpq->mem;
    mly_mem_free(mem, sample->q);
    mly_mem_free(mem, sample->scales);
    mly_mem_free(mem, sample->lows);
    mly_mem_free(mem, sample->unit);
    mly_mem_free(mem, sample->turned);
}

static enum mly_err sample_init(struct sample *sample, size_t cell_count, struct mly_error *err)
{
    const struct mly_ivfpq *ivfpq = sample->ivfpq;
    const size_t width = sample->rotation.width;
    size_t wanted = mly_cells_sample_count(ivfpq->all_rows, cell_count);
    if (wanted > IVFPQ_SAMPLE_BYTES / width) wanted = IVFPQ_SAMPLE_BYTES / width;
    sample->wanted = wanted;
    sample->q = mly_mem_array(ivfpq->mem, wanted + 1, width);
    sample->scales = mly_mem_array(ivfpq->mem, wanted + 1, sizeof(float));
    sample->lows = mly_mem_array(ivfpq->mem, wanted + 1, sizeof(float));
    sample->unit = mly_mem_array(ivfpq->mem, width, sizeof(float));
    sample->turned = mly_mem_array(ivfpq->mem, width, sizeof(float));
    if (sample->q == NULL || sample->scales == NULL || sample->lows == NULL ||
        sample->unit == NULL || sample->turned == NULL) {
        return mly_fail_nomem(err, wanted * (width + 8));
    }
    return MLY_OK;
}

static enum mly_err sample_tile(void *context, const struct ivfpq_tile *tile, struct mly_error *err)
{
    struct sample *sample = context;
    const struct mly_ivfpq *ivfpq = sample->ivfpq;
    const uint64_t all = ivfpq->all_rows, wanted = sample->wanted;
    (void)err;
    for (size_t i = 0; i < tile->count; i++) {
        const uint64_t row = tile->index + i;
        if ((row + 1) * wanted / all == row * wanted / all) continue;
        if (!mly_ivfpq_unit(ivfpq, tile, i, sample->unit)) continue;
        mly_kern_rotate(&sample->rotation, sample->unit, sample->turned);
        ivfpq->maker->kern->quantize_f32_u8(sample->turned, NULL, sample->rotation.width,
                                            sample->q + sample->taken * sample->rotation.width,
                                            &sample->scales[sample->taken],
                                            &sample->lows[sample->taken]);
        sample->taken++;
    }
    return MLY_OK;
}

static enum mly_err cells_pulse(void *context, struct mly_error *err)
{
    return mly_ivfpq_pulse(context, IVFPQ_DONE_SAMPLE, err);
}

static enum mly_err find_cells(struct mly_ivfpq *ivfpq, size_t cell_count, struct mly_cells *out,
                               struct mly_error *err)
{
    struct sample sample = {.ivfpq = ivfpq};
    mly_kern_rotation_init(&sample.rotation, ivfpq->dim);
    enum mly_err rc = sample_init(&sample, cell_count, err);
    if (rc == MLY_OK)
        rc = mly_ivfpq_each_tile(ivfpq, 0, IVFPQ_DONE_SAMPLE, sample_tile, &sample, err);
    if (rc == MLY_OK) {
        /* One row of zeros where there is no vector at all. */
        if (sample.taken == 0) sample.taken = 1;
        const struct mly_cells_trainer trainer = {ivfpq->mem, ivfpq->maker->kern,
                                                  ivfpq->maker->pool, cells_pulse, ivfpq};
        const struct mly_kern_rows rows = {sample.q, sample.scales, sample.lows, sample.taken,
                                           sample.rotation.width};
        /* Who searches goes by the distance of the centroids, not by their angle. */
        rc = mly_cells_train(&trainer, &rows, sample.rotation.width, false, cell_count, out, err);
    }
    sample_deinit(&sample);
    return rc;
}

/* ---- partitions of rows ---- */

struct assigning {
    struct mly_ivfpq *ivfpq;
    const struct mly_cells *cells; /* NULL: there is one only */
    struct mly_assigner *assigner;
    struct mly_kern_rotation rotation;
    size_t place_count;
    uint64_t *counts; /* [place_count] */
    double *sums;     /* f64[place_count][dim] */
    const struct ivfpq_tile *tile;
    float *units, *turned; /* f32[tile rows][dim], [width] */
    uint32_t (*found)[2];  /* [tile rows] */
    bool has[IVFPQ_TILE_ROWS];
};

static void assign_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct assigning *assigning = context;
    const struct mly_ivfpq *ivfpq = assigning->ivfpq;
    const size_t first = part_i * IVFPQ_PART_ROWS, width = assigning->rotation.width;
    size_t end = first + IVFPQ_PART_ROWS;
    if (end > assigning->tile->count) end = assigning->tile->count;
    for (size_t i = first; i < end; i++) {
        float *unit = assigning->units + i * ivfpq->dim;
        assigning->has[i] = mly_ivfpq_unit(ivfpq, assigning->tile, i, unit);
        assigning->found[i][0] = 0;
        if (assigning->cells == NULL) continue;
        if (!assigning->has[i]) memset(unit, 0, ivfpq->dim * sizeof(unit[0]));
        mly_kern_rotate(&assigning->rotation, unit, assigning->turned + i * width);
    }
    if (assigning->cells == NULL) return;
    mly_assign(assigning->assigner, worker_i, assigning->turned + first * width, end - first,
               assigning->found + first);
}

static enum mly_err assign_tile(void *context, const struct ivfpq_tile *tile, struct mly_error *err)
{
    struct assigning *assigning = context;
    struct mly_ivfpq *ivfpq = assigning->ivfpq;
    (void)err;
    assigning->tile = tile;
    mly_ivfpq_run(ivfpq, (tile->count + IVFPQ_PART_ROWS - 1) / IVFPQ_PART_ROWS, assign_part,
                  assigning);
    /* By one thread and in order, so that sums are the same every time. */
    for (size_t i = 0; i < tile->count; i++) {
        const uint32_t place = assigning->found[i][0];
        ivfpq->partitions[tile->index + i] = assigning->has[i] ? place : IVFPQ_NONE;
        if (!assigning->has[i]) continue;
        const float *unit = assigning->units + i * ivfpq->dim;
        double *sum = assigning->sums + place * ivfpq->dim;
        for (size_t d = 0; d < ivfpq->dim; d++)
            sum[d] += (double)unit[d];
        assigning->counts[place]++;
        ivfpq->row_count++;
    }
    return MLY_OK;
}

static enum mly_err assigning_init(struct assigning *assigning, struct mly_error *err)
{
    const struct mly_ivfpq *ivfpq = assigning->ivfpq;
    struct mly_mem *mem = ivfpq->mem;
    mly_kern_rotation_init(&assigning->rotation, ivfpq->dim);
    assigning->place_count = 1;
    if (assigning->cells != NULL) {
        assigning->place_count = assigning->cells->cells.panel_count * MLY_CELLS_PANEL;
        MLY_TRY(mly_assigner_create(mem, ivfpq->maker->kern, assigning->cells, ivfpq_workers(ivfpq),
                                    &assigning->assigner, err));
    }
    const size_t width = assigning->rotation.width;
    assigning->counts = mly_mem_array(mem, assigning->place_count, sizeof(assigning->counts[0]));
    assigning->sums = mly_mem_array(mem, assigning->place_count * ivfpq->dim, sizeof(double));
    assigning->units = mly_mem_array(mem, IVFPQ_TILE_ROWS * ivfpq->dim, sizeof(float));
    assigning->turned = mly_mem_array(mem, IVFPQ_TILE_ROWS * width, sizeof(float));
    assigning->found = mly_mem_array(mem, IVFPQ_TILE_ROWS, sizeof(assigning->found[0]));
    if (assigning->counts == NULL || assigning->sums == NULL || assigning->units == NULL ||
        assigning->turned == NULL || assigning->found == NULL) {
        return mly_fail_nomem(err, (assigning->place_count + IVFPQ_TILE_ROWS) * width * 8);
    }
    return MLY_OK;
}

static void assigning_deinit(struct assigning *assigning)
{
    struct mly_mem *mem = assigning->ivfpq->mem;
    mly_assigner_destroy(assigning->assigner);
    mly_mem_free(mem, assigning->counts);
    mly_mem_free(mem, assigning->sums);
    mly_mem_free(mem, assigning->units);
    mly_mem_free(mem, assigning->turned);
    mly_mem_free(mem, assigning->found);
}

/* Places that have rows become partitions, in their order. */
static enum mly_err number_partitions(const struct assigning *assigning, struct mly_error *err)
{
    struct mly_ivfpq *ivfpq = assigning->ivfpq;
    const size_t dim = ivfpq->dim, places = assigning->place_count;
    uint32_t *numbers = mly_mem_array(ivfpq->mem, places, sizeof(numbers[0]));
    ivfpq->partition_rows = mly_mem_array(ivfpq->mem, places, sizeof(uint64_t));
    ivfpq->centroids = mly_mem_array(ivfpq->mem, places * dim, sizeof(float));
    if (numbers == NULL || ivfpq->partition_rows == NULL || ivfpq->centroids == NULL) {
        mly_mem_free(ivfpq->mem, numbers);
        return mly_fail_nomem(err, places * dim * sizeof(float));
    }
    for (size_t place = 0; place < places; place++) {
        const uint64_t count = assigning->counts[place];
        if (count == 0) continue;
        const size_t number = ivfpq->partition_count++;
        numbers[place] = (uint32_t)number;
        ivfpq->partition_rows[number] = count;
        for (size_t d = 0; d < dim; d++) {
            const double mean = assigning->sums[place * dim + d] / (double)count;
            ivfpq->centroids[number * dim + d] = (float)mean;
        }
    }
    for (uint64_t i = 0; i < ivfpq->all_rows; i++) {
        uint32_t *partition = &ivfpq->partitions[i];
        if (*partition != IVFPQ_NONE) *partition = numbers[*partition];
    }
    mly_mem_free(ivfpq->mem, numbers);
    return MLY_OK;
}

static enum mly_err find_partitions(struct mly_ivfpq *ivfpq, struct mly_error *err)
{
    struct mly_cells cells = {0};
    struct assigning assigning = {.ivfpq = ivfpq};
    const size_t wanted = mly_ivfpq_partitions_for(ivfpq->all_rows);
    enum mly_err rc = MLY_OK;
    if (wanted > 1) {
        rc = find_cells(ivfpq, wanted, &cells, err);
        assigning.cells = &cells;
    }
    if (rc == MLY_OK) rc = assigning_init(&assigning, err);
    if (rc == MLY_OK) {
        rc = mly_ivfpq_each_tile(ivfpq, IVFPQ_DONE_CELLS, IVFPQ_DONE_ASSIGN, assign_tile,
                                 &assigning, err);
    }
    if (rc == MLY_OK) rc = number_partitions(&assigning, err);
    assigning_deinit(&assigning);
    mly_cells_deinit(&cells);
    return rc;
}

/* ---- all of it ---- */

void mly_ivfpq_destroy(struct mly_ivfpq *ivfpq)
{
    if (ivfpq == NULL) return;
    mly_mem_free(ivfpq->mem, ivfpq->partitions);
    mly_mem_free(ivfpq->mem, ivfpq->partition_rows);
    mly_mem_free(ivfpq->mem, ivfpq->centroids);
    mly_mem_free(ivfpq->mem, ivfpq->codebook);
    mly_mem_free(ivfpq->mem, ivfpq);
}

void mly_ivfpq_get_info(const struct mly_ivfpq *ivfpq, struct mly_ivfpq_info *out)
{
    *out = (struct mly_ivfpq_info){
        .dim = ivfpq->dim,
        .partition_count = ivfpq->partition_count,
        .sub_count = ivfpq->sub_count,
        .row_count = ivfpq->row_count,
        .partition_rows = ivfpq->partition_rows,
        .centroids = ivfpq->centroids,
        .codebook = ivfpq->codebook,
    };
}

enum mly_err mly_ivfpq_train(const struct mly_vindex_maker *maker,
                             const struct mly_vindex_file *files, size_t file_count,
                             struct mly_ivfpq **out, struct mly_error *err)
{
    struct mly_mem *mem = maker->env->mem;
    if (maker->dim < MLY_KERN_CODE_DIM_MIN || maker->dim > MLY_KERN_CODE_DIM_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "index of vectors of %zu numbers, limit is %d",
                        maker->dim, MLY_KERN_CODE_DIM_MAX);
    }
    struct mly_ivfpq *ivfpq = mly_mem_array(mem, 1, sizeof(*ivfpq));
    if (ivfpq == NULL) return mly_fail_nomem(err, sizeof(*ivfpq));
    ivfpq->mem = mem;
    ivfpq->maker = maker;
    ivfpq->files = files;
    ivfpq->file_count = file_count;
    ivfpq->dim = maker->dim;
    ivfpq->sub_count = mly_ivfpq_subs_for(maker->dim);
    ivfpq->sub_dim = ivfpq->dim / ivfpq->sub_count;
    for (size_t i = 0; i < file_count; i++)
        ivfpq->all_rows += files[i].row_count;
    enum mly_err rc = MLY_OK;
    ivfpq->partitions = mly_mem_array(mem, (size_t)ivfpq->all_rows + 1, sizeof(uint32_t));
    if (ivfpq->partitions == NULL) {
        rc = mly_fail_nomem(err, (size_t)ivfpq->all_rows * sizeof(uint32_t));
    }
    if (rc == MLY_OK) rc = find_partitions(ivfpq, err);
    if (rc == MLY_OK) rc = mly_ivfpq_train_codebook(ivfpq, err);
    if (rc != MLY_OK) {
        mly_ivfpq_destroy(ivfpq);
        return rc;
    }
    *out = ivfpq;
    return MLY_OK;
}
