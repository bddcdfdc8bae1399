/* Building a segment from rows.
 *
 * In: rows of data files, asked for twice. Out: records of each file, and a segment. A first pass
 * takes a sample, which gives the centroids; the second puts every row (vindex_put.c). */
#include "index/vindex_put.h"

#include <math.h>
#include <string.h>

/* Cells grow with the root of the rows, so that looking for cells and looking through them grow
 * alike; small ones would be half empty blocks. */
#define CELLS_PER_ROOT 9.0
#define ROWS_PER_CELL_MIN 96
#define SAMPLE_BYTES_MAX ((size_t)160 << 20)
/* How far a build is when it has the sample, and when it has the centroids. */
#define DONE_SAMPLE 0.1
#define DONE_CENTROIDS 0.4

size_t mly_vindex_cells_for(uint64_t row_count)
{
    double root = sqrt((double)row_count) * CELLS_PER_ROOT;
    uint64_t count = row_count / ROWS_PER_CELL_MIN;
    if ((double)count > root) count = (uint64_t)root;
    if (count > VINDEX_CELLS_MAX / 2) count = VINDEX_CELLS_MAX / 2;
    return count == 0 ? 1 : (size_t)count;
}

/* Turned rows in 8 bits. */
struct sample {
    struct mly_mem *mem;
    uint8_t *q;
    float *scales, *lows, *turned;
    size_t wanted, taken;
    float longest; /* square of a length */
};

static void sample_deinit(struct sample *sample)
{
    mly_mem_free(sample->mem, sample->q);
    mly_mem_free(sample->mem, sample->scales);
    mly_mem_free(sample->mem, sample->lows);
    mly_mem_free(sample->mem, sample->turned);
}

static enum mly_err sample_init(struct sample *sample, const struct vindex_draft *draft,
                                size_t cell_count, struct mly_error *err)
{
    size_t wanted = mly_cells_sample_count(draft->row_count, cell_count);
    if (wanted > SAMPLE_BYTES_MAX / draft->width) wanted = SAMPLE_BYTES_MAX / draft->width;
    *sample = (struct sample){.mem = draft->mem, .wanted = wanted};
    sample->q = mly_mem_array(draft->mem, wanted + 1, draft->width);
    sample->scales = mly_mem_array(draft->mem, wanted + 1, sizeof(float));
    sample->lows = mly_mem_array(draft->mem, wanted + 1, sizeof(float));
    sample->turned = mly_mem_array(draft->mem, draft->width, sizeof(float));
    if (sample->q == NULL || sample->scales == NULL || sample->lows == NULL ||
        sample->turned == NULL) {
        return mly_fail_nomem(err, wanted * (draft->width + 8));
    }
    return MLY_OK;
}

static void add_to_sample(const struct mly_vindex_maker *maker,
                          const struct mly_kern_rotation *rotation, struct sample *sample,
                          const float *value)
{
    float square = maker->kern->dot_f32(value, value, rotation->dim);
    size_t at = sample->taken;
    if (!isfinite(square)) return;
    if (square > sample->longest) sample->longest = square;
    mly_kern_rotate(rotation, value, sample->turned);
    maker->kern->quantize_f32_u8(sample->turned, NULL, rotation->width,
                                 sample->q + at * rotation->width, &sample->scales[at],
                                 &sample->lows[at]);
    sample->taken++;
}

static enum mly_err take_sample(const struct mly_vindex_maker *maker,
                                const struct vindex_draft *draft, struct sample *sample,
                                struct mly_error *err)
{
    struct mly_kern_rotation rotation;
    uint64_t row_i = 0, all = draft->row_count;
    mly_kern_rotation_init(&rotation, draft->dim);
    for (size_t file_i = 0; file_i < draft->file_count; file_i++) {
        const struct mly_vindex_file *file = &draft->files[file_i];
        struct mly_vindex_rows rows;
        for (uint32_t row = 0; row < file->row_count; row += (uint32_t)rows.row_count) {
            MLY_TRY(mly_vindex_get_rows(maker, file_i, file, row, &rows, err));
            for (size_t i = 0; i < rows.row_count; i++, row_i++) {
                /* Every (all / wanted)-th row. */
                if ((row_i + 1) * sample->wanted / all == row_i * sample->wanted / all) continue;
                if (vindex_is_set(rows.none, i)) continue;
                add_to_sample(maker, &rotation, sample, rows.values + i * draft->dim);
            }
            if (maker->pulse == NULL) continue;
            MLY_TRY(
                maker->pulse(maker->pulse_context, DONE_SAMPLE * (double)row_i / (double)all, err));
        }
    }
    return MLY_OK;
}

static enum mly_err train_pulse(void *context, struct mly_error *err)
{
    const struct mly_vindex_maker *maker = context;
    return maker->pulse(maker->pulse_context, DONE_SAMPLE, err);
}

static enum mly_err find_centroids(const struct mly_vindex_maker *maker, struct vindex_draft *draft,
                                   struct mly_error *err)
{
    struct sample sample;
    size_t count = mly_vindex_cells_for(draft->row_count);
    enum mly_err rc = sample_init(&sample, draft, count, err);
    if (rc == MLY_OK) rc = take_sample(maker, draft, &sample, err);
    if (rc != MLY_OK) goto done;
    /* One row of zeros where no row has a vector. */
    if (sample.taken == 0) sample.taken = 1;
    if (count > sample.taken) count = sample.taken;
    /* Factors and offsets are half floats: neither too large nor too small for them. */
    int exponent = 0;
    if (sample.longest > 0) (void)frexpf(sqrtf(sample.longest), &exponent);
    draft->unit = ldexpf(1.0f, exponent - 1);
    struct mly_cells_trainer trainer = {draft->mem, maker->kern, maker->pool, NULL, NULL};
    if (maker->pulse != NULL) {
        trainer.pulse = train_pulse;
        trainer.pulse_context = (void *)(uintptr_t)maker;
    }
    struct mly_kern_rows rows = {sample.q, sample.scales, sample.lows, sample.taken, draft->width};
    rc = mly_cells_train(&trainer, &rows, draft->width, draft->metric == MLY_VINDEX_COSINE, count,
                         &draft->centroids, err);
    if (rc == MLY_OK) rc = mly_vindex_draft_cells(draft, err);
done:
    sample_deinit(&sample);
    return rc;
}

enum mly_err mly_vindex_build(const struct mly_vindex_maker *maker,
                              const struct mly_vindex_file *files, size_t file_count,
                              char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES], struct mly_error *err)
{
    struct vindex_draft draft = {.mem = maker->env->mem};
    struct vindex_put put = {0};
    enum mly_err rc = mly_vindex_draft_init(&draft, maker->env->mem, maker, files, file_count, err);
    if (rc == MLY_OK) rc = mly_vindex_make_folders(maker, err);
    if (rc == MLY_OK) rc = find_centroids(maker, &draft, err);
    if (rc == MLY_OK) rc = mly_vindex_put_init(&put, maker, &draft, err);
    put.done_from = DONE_CENTROIDS;
    put.rows_all = draft.row_count;
    for (size_t i = 0; i < file_count && rc == MLY_OK; i++)
        rc = mly_vindex_put_file(&put, i, NULL, err);
    mly_vindex_put_deinit(&put);
    if (rc == MLY_OK) rc = mly_vindex_draft_write(&draft, maker->env, maker->folder, name_out, err);
    mly_vindex_draft_deinit(&draft);
    return rc;
}
