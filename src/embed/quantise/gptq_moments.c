/* In: a layer's inputs as rows of bytes. Out: their mean, their slope over a row's lowest value,
 * and the covariance of what is left.
 *
 * The mean is taken off before products are summed, so that floats have digits enough for the rest.
 * Rows are taken a chunk at a time: turned (a row for each column) and in panels, so that the sum
 * over rows is a product of matrices.
 */
#include "embed/quantise/gptq_int.h"
#include "embed/quantise/matrix.h"

#include <string.h>

#define PANEL MLY_MATRIX_PANEL
#define CHUNK 512 /* rows; a multiple of 64 */

struct measure {
    const struct mly_workshop *workshop;
    const struct mly_kern_rows *inputs;
    size_t in;
    double low_mean, low_spread; /* sum of squares */
    struct mly_gptq_moments *moments;
    float *turned, *panels; /* f32[in][CHUNK], f32[in / 64][CHUNK][64] */
    size_t first, count;    /* rows of the chunk in hand */
};

float *mly_gptq_floats(struct mly_mem *mem, size_t count, size_t width)
{
    size_t bytes;
    if (!mly_size_mul(count, width, &bytes) || !mly_size_mul(bytes, sizeof(float), &bytes))
        return NULL;
    float *made = mly_mem_alloc_aligned(mem, bytes);
    if (made != NULL) memset(made, 0, bytes);
    return made;
}

static float value(const struct mly_kern_rows *inputs, size_t row, size_t column)
{
    return (float)inputs->q[row * inputs->stride + column] * inputs->scale[row] + inputs->low[row];
}

static void measure_low(struct measure *measure)
{
    const struct mly_kern_rows *inputs = measure->inputs;
    double sum = 0.0, spread = 0.0;
    for (size_t row = 0; row < inputs->count; row++) {
        sum += (double)inputs->low[row];
    }
    measure->low_mean = sum / (double)inputs->count;
    for (size_t row = 0; row < inputs->count; row++) {
        const double off = (double)inputs->low[row] - measure->low_mean;
        spread += off * off;
    }
    measure->low_spread = spread;
}

/* Mean and slope of 64 columns. */
static void measure_columns(void *context, size_t part_i, uint32_t worker_i)
{
    struct measure *measure = context;
    const struct mly_kern_rows *inputs = measure->inputs;
    double sum[PANEL] = {0}, shared[PANEL] = {0};
    (void)worker_i;
    for (size_t row = 0; row < inputs->count; row++) {
        const double off = (double)inputs->low[row] - measure->low_mean;
        for (size_t i = 0; i < PANEL; i++) {
            const double x = (double)value(inputs, row, part_i * PANEL + i);
            sum[i] += x;
            shared[i] += off * x;
        }
    }
    for (size_t i = 0; i < PANEL; i++) {
        const double slope = measure->low_spread > 0.0 ? shared[i] / measure->low_spread : 0.0;
        measure->moments->slope[part_i * PANEL + i] = slope;
        measure->moments->mean[part_i * PANEL + i] =
            sum[i] / (double)inputs->count - slope * measure->low_mean;
    }
}

/* What is left of 64 columns of the chunk, in both forms. Rows beyond the last are zero. */
static void fill_columns(void *context, size_t part_i, uint32_t worker_i)
{
    struct measure *measure = context;
    float *panel = measure->panels + part_i * CHUNK * PANEL;
    const double *mean = measure->moments->mean + part_i * PANEL;
    const double *slope = measure->moments->slope + part_i * PANEL;
    (void)worker_i;
    for (size_t r = 0; r < CHUNK; r++) {
        float *target = panel + r * PANEL;
        if (r >= measure->count) {
            memset(target, 0, PANEL * sizeof(target[0]));
            continue;
        }
        const size_t row = measure->first + r;
        const double low = (double)measure->inputs->low[row];
        for (size_t i = 0; i < PANEL; i++) {
            const double x = (double)value(measure->inputs, row, part_i * PANEL + i);
            target[i] = (float)(x - (mean[i] + slope[i] * low));
        }
    }
    for (size_t i = 0; i < PANEL; i++) {
        float *target = measure->turned + (part_i * PANEL + i) * CHUNK;
        for (size_t r = 0; r < CHUNK; r++) {
            target[r] = panel[r * PANEL + i];
        }
    }
}

/* The rows of 64 columns of the covariance, up to the diagonal. */
static void add_products(void *context, size_t part_i, uint32_t worker_i)
{
    struct measure *measure = context;
    const size_t in = measure->in, block = in / PANEL - 1 - part_i; /* the longest first */
    const struct mly_matrix_rows rows = {measure->turned + block * PANEL * CHUNK, CHUNK, PANEL};
    (void)worker_i;
    mly_matrix_add(measure->workshop->kern, &rows, measure->panels, CHUNK * PANEL, CHUNK,
                   (block + 1) * PANEL, measure->moments->covariance + block * PANEL * in, in);
}

static void measure_products(struct measure *measure)
{
    struct mly_pool *pool = measure->workshop->pool;
    const size_t in = measure->in, rows = measure->inputs->count;
    float *covariance = measure->moments->covariance;
    for (size_t first = 0; first < rows; first += CHUNK) {
        measure->first = first;
        measure->count = rows - first < CHUNK ? rows - first : CHUNK;
        mly_pool_run(pool, in / PANEL, fill_columns, measure);
        mly_pool_run(pool, in / PANEL, add_products, measure);
    }
    for (size_t i = 0; i < in; i++) {
        for (size_t j = i + 1; j < in; j++) {
            covariance[i * in + j] = covariance[j * in + i];
        }
    }
}

enum mly_err mly_gptq_measure(const struct mly_workshop *workshop,
                              const struct mly_kern_rows *inputs, size_t in,
                              struct mly_gptq_moments *out, struct mly_error *err)
{
    struct mly_mem *mem = workshop->env->mem;
    struct mly_gptq_moments made = {
        .mean = mly_mem_array(mem, in, sizeof(double)),
        .slope = mly_mem_array(mem, in, sizeof(double)),
        .covariance = mly_gptq_floats(mem, in, in),
    };
    struct measure measure = {
        .workshop = workshop,
        .inputs = inputs,
        .in = in,
        .moments = &made,
        .turned = mly_gptq_floats(mem, in, CHUNK),
        .panels = mly_gptq_floats(mem, in, CHUNK),
    };
    enum mly_err rc = MLY_OK;
    if (made.mean == NULL || made.slope == NULL || made.covariance == NULL ||
        measure.turned == NULL || measure.panels == NULL) {
        rc = mly_fail_nomem(err, in * (in + 2 * CHUNK) * sizeof(float));
        goto done;
    }
    measure_low(&measure);
    mly_pool_run(workshop->pool, in / PANEL, measure_columns, &measure);
    measure_products(&measure);
    *out = made; /* Moved. */
    made = (struct mly_gptq_moments){0};
done:
    mly_mem_free(mem, measure.turned);
    mly_mem_free(mem, measure.panels);
    mly_gptq_moments_deinit(&made, mem);
    return rc;
}

void mly_gptq_moments_deinit(struct mly_gptq_moments *moments, struct mly_mem *mem)
{
    mly_mem_free(mem, moments->mean);
    mly_mem_free(mem, moments->slope);
    mly_mem_free(mem, moments->covariance);
    *moments = (struct mly_gptq_moments){0};
}
