/* Codebooks: what the pieces of residuals are rounded to.
 *
 * In: partitions and centroids. Out: 256 entries for each piece, by k-means of a sample, and the
 * entries nearest to a residual. The nearest entry c of x has the greatest c . x - |c|^2 / 2, for
 * all 256 at once. */
#include "index/cells_int.h"
#include "index/ivfpq_int.h"

#include <string.h>

#define ENTRIES MLY_IVFPQ_ENTRIES
#define ROUNDS 12
#define SAMPLE_ROWS ((size_t)65536)

/* ---- nearest entries ---- */

enum mly_err mly_ivfpq_ranker_init(struct ivfpq_ranker *ranker, const struct mly_ivfpq *ivfpq,
                                   struct mly_error *err)
{
    struct mly_mem *mem = ivfpq->mem;
    const size_t numbers = ivfpq->dim * ENTRIES;
    *ranker = (struct ivfpq_ranker){.mem = mem};
    ranker->tables = mly_mem_array(mem, numbers, sizeof(float));
    ranker->biases = mly_mem_array(mem, ivfpq->sub_count * ENTRIES, sizeof(float));
    if (ranker->tables == NULL || ranker->biases == NULL) {
        return mly_fail_nomem(err, numbers * sizeof(float));
    }
    return MLY_OK;
}

void mly_ivfpq_ranker_deinit(struct ivfpq_ranker *ranker)
{
    if (ranker->mem == NULL) return;
    mly_mem_free(ranker->mem, ranker->tables);
    mly_mem_free(ranker->mem, ranker->biases);
}

void mly_ivfpq_ranker_set(struct ivfpq_ranker *ranker, const struct mly_ivfpq *ivfpq, size_t sub_i)
{
    const size_t sub_dim = ivfpq->sub_dim;
    const float *entries = ivfpq->codebook + sub_i * ENTRIES * sub_dim;
    float *table = ranker->tables + sub_i * ENTRIES * sub_dim;
    for (size_t e = 0; e < ENTRIES; e++) {
        float square = 0;
        for (size_t d = 0; d < sub_dim; d++) {
            const float x = entries[e * sub_dim + d];
            table[d * ENTRIES + e] = x;
            square += x * x;
        }
        ranker->biases[sub_i * ENTRIES + e] = -0.5f * square;
    }
}

/* One number beside all entries: simple enough for compilers to find the vectors. */
static void add_products(float x, const float *restrict table, float *restrict scores)
{
    for (size_t e = 0; e < ENTRIES; e++)
        scores[e] += x * table[e];
}

void mly_ivfpq_nearest(const struct ivfpq_ranker *ranker, const struct mly_ivfpq *ivfpq,
                       size_t sub_i, const float *residuals, size_t count, uint8_t *out)
{
    const size_t sub_dim = ivfpq->sub_dim;
    const float *table = ranker->tables + sub_i * ENTRIES * sub_dim;
    for (size_t i = 0; i < count; i++) {
        const float *x = residuals + i * ivfpq->dim + sub_i * sub_dim;
        float scores[ENTRIES];
        memcpy(scores, ranker->biases + sub_i * ENTRIES, sizeof(scores));
        for (size_t d = 0; d < sub_dim; d++)
            add_products(x[d], table + d * ENTRIES, scores);
        out[i] = (uint8_t)mly_cells_greatest(scores, ENTRIES);
    }
}

/* ---- training ---- */

struct training {
    struct mly_ivfpq *ivfpq;
    struct ivfpq_ranker ranker;
    float *residuals; /* f32[wanted + 1][dim]: the sample */
    size_t wanted, taken;
    uint64_t seen; /* rows of a partition */
    double *sums;  /* f64[workers][256][sub_dim] */
    size_t round;
};

static enum mly_err sample_tile(void *context, const struct ivfpq_tile *tile, struct mly_error *err)
{
    struct training *training = context;
    const struct mly_ivfpq *ivfpq = training->ivfpq;
    const uint64_t all = ivfpq->row_count, wanted = training->wanted;
    (void)err;
    for (size_t i = 0; i < tile->count; i++) {
        const uint32_t partition = ivfpq->partitions[tile->index + i];
        if (partition == IVFPQ_NONE) continue;
        const uint64_t row = training->seen++;
        if ((row + 1) * wanted / all == row * wanted / all) continue;
        float *residual = training->residuals + training->taken * ivfpq->dim;
        const float *centroid = ivfpq->centroids + partition * ivfpq->dim;
        if (!mly_ivfpq_unit(ivfpq, tile, i, residual)) continue;
        for (size_t d = 0; d < ivfpq->dim; d++)
            residual[d] -= centroid[d];
        training->taken++;
    }
    return MLY_OK;
}

/* Where an entry that has nothing begins: at a row of its share of the sample. */
static size_t seed_row(const struct training *training, size_t entry_i)
{
    const size_t count = training->taken;
    uint64_t state = (training->round * ENTRIES + entry_i + 1) * 0x9e3779b97f4a7c15u;
    state ^= state >> 31;
    const size_t first = entry_i * count / ENTRIES;
    const size_t more = (entry_i + 1) * count / ENTRIES - first;
    return more == 0 ? first : first + (size_t)(state % more);
}

static void seed(const struct training *training, size_t sub_i, size_t entry_i)
{
    const struct mly_ivfpq *ivfpq = training->ivfpq;
    const size_t sub_dim = ivfpq->sub_dim, row = seed_row(training, entry_i);
    memcpy(ivfpq->codebook + (sub_i * ENTRIES + entry_i) * sub_dim,
           training->residuals + row * ivfpq->dim + sub_i * sub_dim, sub_dim * sizeof(float));
}

static void add_rows(const struct training *training, size_t sub_i, size_t first, size_t count,
                     const uint8_t *nearest, double *sums, uint64_t *counts)
{
    const struct mly_ivfpq *ivfpq = training->ivfpq;
    const size_t sub_dim = ivfpq->sub_dim;
    for (size_t i = 0; i < count; i++) {
        const float *x = training->residuals + (first + i) * ivfpq->dim + sub_i * sub_dim;
        double *sum = sums + nearest[i] * sub_dim;
        for (size_t d = 0; d < sub_dim; d++)
            sum[d] += (double)x[d];
        counts[nearest[i]]++;
    }
}

/* One round of one piece, by one thread. */
static void train_sub(void *context, size_t sub_i, uint32_t worker_i)
{
    struct training *training = context;
    const struct mly_ivfpq *ivfpq = training->ivfpq;
    const size_t sub_dim = ivfpq->sub_dim;
    double *sums = training->sums + worker_i * ENTRIES * sub_dim;
    uint64_t counts[ENTRIES] = {0};
    uint8_t nearest[IVFPQ_PART_ROWS];
    memset(sums, 0, ENTRIES * sub_dim * sizeof(sums[0]));
    mly_ivfpq_ranker_set(&training->ranker, ivfpq, sub_i);
    for (size_t first = 0; first < training->taken; first += IVFPQ_PART_ROWS) {
        const size_t left = training->taken - first;
        const size_t count = left < IVFPQ_PART_ROWS ? left : IVFPQ_PART_ROWS;
        mly_ivfpq_nearest(&training->ranker, ivfpq, sub_i, training->residuals + first * ivfpq->dim,
                          count, nearest);
        add_rows(training, sub_i, first, count, nearest, sums, counts);
    }
    for (size_t e = 0; e < ENTRIES; e++) {
        float *entry = ivfpq->codebook + (sub_i * ENTRIES + e) * sub_dim;
        if (counts[e] == 0) {
            if (training->round < ROUNDS) seed(training, sub_i, e);
            continue;
        }
        for (size_t d = 0; d < sub_dim; d++)
            entry[d] = (float)(sums[e * sub_dim + d] / (double)counts[e]);
    }
}

static enum mly_err take_sample(struct training *training, struct mly_error *err)
{
    struct mly_ivfpq *ivfpq = training->ivfpq;
    struct mly_mem *mem = ivfpq->mem;
    const size_t row_bytes = ivfpq->dim * sizeof(float);
    size_t wanted = ivfpq->row_count < SAMPLE_ROWS ? (size_t)ivfpq->row_count : SAMPLE_ROWS;
    if (wanted > IVFPQ_SAMPLE_BYTES / row_bytes) wanted = IVFPQ_SAMPLE_BYTES / row_bytes;
    training->wanted = wanted;
    training->residuals = mly_mem_array(mem, (wanted + 1) * ivfpq->dim, sizeof(float));
    training->sums =
        mly_mem_array(mem, ivfpq_workers(ivfpq) * ENTRIES * ivfpq->sub_dim, sizeof(double));
    if (training->residuals == NULL || training->sums == NULL) {
        return mly_fail_nomem(err, (wanted + 1) * row_bytes);
    }
    MLY_TRY(mly_ivfpq_each_tile(ivfpq, IVFPQ_DONE_ASSIGN, IVFPQ_DONE_ASSIGN, sample_tile, training,
                                err));
    /* Rows of zeros where there is none. */
    if (training->taken == 0) training->taken = 1;
    return mly_ivfpq_ranker_init(&training->ranker, ivfpq, err);
}

enum mly_err mly_ivfpq_train_codebook(struct mly_ivfpq *ivfpq, struct mly_error *err)
{
    struct training training = {.ivfpq = ivfpq};
    const size_t numbers = ivfpq->sub_count * ENTRIES * ivfpq->sub_dim;
    ivfpq->codebook = mly_mem_array(ivfpq->mem, numbers, sizeof(float));
    if (ivfpq->codebook == NULL) return mly_fail_nomem(err, numbers * sizeof(float));
    enum mly_err rc = take_sample(&training, err);
    for (size_t sub_i = 0; rc == MLY_OK && sub_i < ivfpq->sub_count; sub_i++) {
        for (size_t e = 0; e < ENTRIES; e++)
            seed(&training, sub_i, e);
    }
    for (training.round = 1; rc == MLY_OK && training.round <= ROUNDS; training.round++) {
        const double part = (double)(training.round - 1) / ROUNDS;
        rc = mly_ivfpq_pulse(
            ivfpq, IVFPQ_DONE_ASSIGN + (IVFPQ_DONE_CODEBOOK - IVFPQ_DONE_ASSIGN) * part, err);
        if (rc == MLY_OK) mly_ivfpq_run(ivfpq, ivfpq->sub_count, train_sub, &training);
    }
    mly_ivfpq_ranker_deinit(&training.ranker);
    mly_mem_free(ivfpq->mem, training.residuals);
    mly_mem_free(ivfpq->mem, training.sums);
    return rc;
}
