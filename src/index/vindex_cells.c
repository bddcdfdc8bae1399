/* k-means (Lloyd 1982) on a sample, and two cells for each vector: the nearest, and one whose
 * residual is as far from parallel to the first one's as can be (SOAR, Sun et al. 2023), so that a
 * query that misses one of them is likely to find the other. */
#include "index/vindex_cells.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define CELLS_PER_ROOT 4.5
#define ROWS_PER_CELL_MIN 96
#define SAMPLE_PER_CELL 40
#define SAMPLE_BYTES_MAX ((size_t)200 << 20)
#define ITERATIONS 6
#define PART_ROWS 64
#define NEAR 8

size_t mly_vindex_cell_count(uint64_t row_count)
{
    double root = sqrt((double)row_count) * CELLS_PER_ROOT;
    uint64_t count = row_count / ROWS_PER_CELL_MIN;
    if ((double)count > root) count = (uint64_t)root;
    if (count > VINDEX_CELLS_MAX) count = VINDEX_CELLS_MAX;
    return count == 0 ? 1 : (size_t)count;
}

size_t mly_vindex_sample_count(uint64_t row_count, size_t cell_count, size_t dim)
{
    uint64_t count = (uint64_t)cell_count * SAMPLE_PER_CELL;
    uint64_t most = SAMPLE_BYTES_MAX / (dim * sizeof(float));
    if (count > most) count = most;
    if (count > row_count) count = row_count;
    return (size_t)count;
}

void mly_vindex_centroids_deinit(struct vindex_centroids *centroids)
{
    mly_mem_free(centroids->mem, centroids->values);
    mly_mem_free(centroids->mem, centroids->halves);
    *centroids = (struct vindex_centroids){.mem = centroids->mem};
}

struct search {
    const struct vindex_centroids *centroids;
    const float *sample;
    size_t sample_count;
    uint32_t *cells; /* u32[sample_count] */
    float *scores;   /* f32[workers][count] */
};

static void assign_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct search *search = context;
    const struct vindex_centroids *centroids = search->centroids;
    float *scores = search->scores + worker_i * centroids->count;
    size_t end = (part_i + 1) * PART_ROWS;
    if (end > search->sample_count) end = search->sample_count;
    for (size_t i = part_i * PART_ROWS; i < end; i++) {
        centroids->kern->scores_f32(search->sample + i * centroids->dim, centroids->values,
                                    centroids->count, centroids->dim, scores);
        uint32_t best = 0;
        for (size_t c = 0; c < centroids->count; c++) {
            scores[c] -= centroids->halves[c];
            if (scores[c] > scores[best]) best = (uint32_t)c;
        }
        search->cells[i] = best;
    }
}

static void run_parts(struct mly_pool *pool, size_t part_count, mly_pool_part_fn part,
                      void *context)
{
    if (pool != NULL) {
        mly_pool_run(pool, part_count, part, context);
        return;
    }
    for (size_t i = 0; i < part_count; i++)
        part(context, i, 0);
}

static void set_halves(struct vindex_centroids *centroids)
{
    for (size_t c = 0; c < centroids->count; c++) {
        const float *value = centroids->values + c * centroids->dim;
        centroids->halves[c] = 0.5f * centroids->kern->dot_f32(value, value, centroids->dim);
    }
}

/* Each centroid becomes the mean of its rows; one without rows goes to a row. */
static void move_centroids(struct vindex_centroids *centroids, const struct search *search,
                           uint32_t *counts, size_t round)
{
    size_t dim = centroids->dim;
    memset(counts, 0, centroids->count * sizeof(counts[0]));
    memset(centroids->values, 0, centroids->count * dim * sizeof(float));
    for (size_t i = 0; i < search->sample_count; i++) {
        float *value = centroids->values + search->cells[i] * dim;
        const float *row = search->sample + i * dim;
        for (size_t d = 0; d < dim; d++)
            value[d] += row[d];
        counts[search->cells[i]]++;
    }
    for (size_t c = 0; c < centroids->count; c++) {
        float *value = centroids->values + c * dim;
        if (counts[c] == 0) {
            size_t row = (c * 7919 + round * 104729) % search->sample_count;
            memcpy(value, search->sample + row * dim, dim * sizeof(float));
            continue;
        }
        float inverse = 1.0f / (float)counts[c];
        for (size_t d = 0; d < dim; d++)
            value[d] *= inverse;
    }
    set_halves(centroids);
}

enum mly_err mly_vindex_centroids_find(struct vindex_centroids *centroids,
                                       const struct mly_vindex_maker *maker, const float *sample,
                                       size_t sample_count, size_t count, struct mly_error *err)
{
    struct mly_mem *mem = maker->env->mem;
    size_t dim = maker->dim;
    size_t workers = maker->pool == NULL ? 1 : mly_pool_thread_count(maker->pool);
    *centroids =
        (struct vindex_centroids){.mem = mem, .kern = maker->kern, .dim = dim, .count = count};
    struct search search = {centroids, sample, sample_count, NULL, NULL};
    centroids->values = mly_mem_array(mem, count * dim, sizeof(float));
    centroids->halves = mly_mem_array(mem, count, sizeof(float));
    uint32_t *counts = mly_mem_array(mem, count, sizeof(uint32_t));
    search.cells = mly_mem_array(mem, sample_count + 1, sizeof(uint32_t));
    search.scores = mly_mem_array(mem, workers * count, sizeof(float));
    enum mly_err rc = MLY_OK;
    if (centroids->values == NULL || centroids->halves == NULL || counts == NULL ||
        search.cells == NULL || search.scores == NULL) {
        rc = mly_fail_nomem(err, count * dim * sizeof(float));
        goto done;
    }
    if (sample_count == 0) goto done;
    for (size_t c = 0; c < count; c++) {
        size_t row = (size_t)((uint64_t)c * sample_count / count);
        memcpy(centroids->values + c * dim, sample + row * dim, dim * sizeof(float));
    }
    set_halves(centroids);
    for (size_t round = 0; round < ITERATIONS; round++) {
        run_parts(maker->pool, (sample_count + PART_ROWS - 1) / PART_ROWS, assign_part, &search);
        move_centroids(centroids, &search, counts, round);
        if (maker->pulse != NULL) {
            rc = maker->pulse(maker->pulse_context, 0.3 * (double)(round + 1) / ITERATIONS, err);
            if (rc != MLY_OK) goto done;
        }
    }
done:
    mly_mem_free(mem, counts);
    mly_mem_free(mem, search.cells);
    mly_mem_free(mem, search.scores);
    return rc;
}

void mly_vindex_assign(const struct vindex_centroids *centroids, const float *x, float *scores,
                       uint32_t out[2])
{
    size_t dim = centroids->dim, near_count = 0;
    uint32_t near[NEAR];
    centroids->kern->scores_f32(x, centroids->values, centroids->count, dim, scores);
    for (uint32_t c = 0; c < centroids->count; c++) {
        float score = scores[c] - centroids->halves[c];
        size_t at = near_count;
        if (near_count == NEAR) {
            uint32_t last = near[NEAR - 1];
            if (score <= scores[last] - centroids->halves[last]) continue;
            at = NEAR - 1;
        } else {
            near_count++;
        }
        for (; at > 0 && scores[near[at - 1]] - centroids->halves[near[at - 1]] < score; at--)
            near[at] = near[at - 1];
        near[at] = c;
    }
    out[0] = near[0];
    out[1] = VINDEX_NO_CELL;
    float square = centroids->kern->dot_f32(x, x, dim), least = FLT_MAX;
    float first = square - 2 * (scores[near[0]] - centroids->halves[near[0]]);
    for (size_t i = 1; i < near_count; i++) {
        uint32_t c = near[i];
        float size = square - 2 * (scores[c] - centroids->halves[c]);
        float common = square - scores[near[0]] - scores[c] +
                       centroids->kern->dot_f32(centroids->values + near[0] * dim,
                                                centroids->values + c * dim, dim);
        float loss = size + common * common / (first + 1e-9f);
        if (loss < least) {
            least = loss;
            out[1] = c;
        }
    }
}
