/* In: the covariance of a layer's inputs. Out: the order in which columns are rounded, and its
 * factor (Cholesky), from which the feedback of rounding errors is read.
 *
 * A block of 64 columns at a time: what the columns before it explain is a product of matrices;
 * within the block, in doubles, one column after the other.
 */
#include "embed/quantise/gptq_int.h"
#include "embed/quantise/matrix.h"

#include <math.h>
#include <string.h>

#define PANEL MLY_MATRIX_PANEL
/* Of the inputs' mean square, added to each: calibration text is not all text. */
#define DAMPING 0.01
/* More of it, should the factor fail: inputs that depend on each other to the last digit. */
#define DAMPING_MAX 1.0

struct factorise {
    const struct mly_workshop *workshop;
    struct mly_gptq_factor *factor;
    float *lower; /* f32[in][in] */
    float *panel; /* f32[in][64]: the block's rows, turned */
    size_t block; /* its first column */
    double square[PANEL][PANEL];
};

/* Smallest first; equal ones in the order of columns. */
static void sort_columns(const float *covariance, size_t in, uint32_t *order, uint32_t *spare)
{
    for (size_t i = 0; i < in; i++) {
        order[i] = (uint32_t)i;
    }
    for (size_t width = 1; width < in; width *= 2) {
        for (size_t start = 0; start < in; start += 2 * width) {
            const size_t middle = start + width < in ? start + width : in;
            const size_t end = start + 2 * width < in ? start + 2 * width : in;
            size_t a = start, b = middle;
            for (size_t at = start; at < end; at++) {
                const bool left = a < middle && (b >= end || covariance[order[a] * (in + 1)] <=
                                                                 covariance[order[b] * (in + 1)]);
                spare[at] = left ? order[a++] : order[b++];
            }
        }
        memcpy(order, spare, in * sizeof(order[0]));
    }
}

static void fill_covariance(const float *covariance, double damping, struct mly_gptq_factor *factor)
{
    const size_t in = factor->in;
    double mean = 0.0;
    for (size_t i = 0; i < in; i++) {
        mean += (double)covariance[i * (in + 1)];
    }
    const float more = (float)(mean / (double)in * damping);
    for (size_t k = 0; k < in; k++) {
        float *panel = factor->covariance + k / PANEL * in * PANEL + k % PANEL;
        const float *column = covariance + factor->order[k] * in;
        for (size_t j = 0; j < in; j++) {
            panel[j * PANEL] = column[factor->order[j]] + (j == k ? more : 0.0f);
        }
    }
}

static void fill_lower(const struct mly_gptq_factor *factor, float *lower)
{
    const size_t in = factor->in;
    for (size_t k = 0; k < in; k += PANEL) {
        for (size_t j = 0; j < in; j++) {
            memcpy(lower + j * in + k, factor->covariance + k * in + j * PANEL,
                   PANEL * sizeof(lower[0]));
        }
    }
}

/* Takes what the columns before the block explain off 64 of its rows. */
static void subtract_rows(void *context, size_t part_i, uint32_t worker_i)
{
    struct factorise *work = context;
    const size_t in = work->factor->in, first = work->block + part_i * PANEL;
    float *at = work->lower + first * in;
    const struct mly_matrix_rows rows = {at, in, PANEL};
    (void)worker_i;
    mly_matrix_add(work->workshop->kern, &rows, work->panel, 0, work->block, PANEL,
                   at + work->block, in);
}

static bool factor_square(struct factorise *work)
{
    const size_t in = work->factor->in;
    const float *at = work->lower + work->block * (in + 1);
    for (size_t r = 0; r < PANEL; r++) {
        for (size_t k = 0; k <= r; k++) {
            double left = (double)at[r * in + k];
            for (size_t j = 0; j < k; j++) {
                left -= work->square[r][j] * work->square[k][j];
            }
            if (k < r) {
                work->square[r][k] = left / work->square[k][k];
            } else if (left > 0.0) {
                work->square[r][r] = sqrt(left);
            } else {
                return false;
            }
        }
    }
    return true;
}

/* 64 rows of the block's columns, below its square. */
static void solve_rows(void *context, size_t part_i, uint32_t worker_i)
{
    struct factorise *work = context;
    const size_t in = work->factor->in, first = work->block + part_i * PANEL;
    (void)worker_i;
    for (size_t r = 0; r < PANEL; r++) {
        float *row = work->lower + (first + r) * in + work->block;
        double left[PANEL];
        for (size_t k = 0; k < PANEL; k++) {
            left[k] = part_i == 0 ? work->square[r][k] : (double)row[k];
        }
        for (size_t k = 0; part_i > 0 && k < PANEL; k++) {
            left[k] /= work->square[k][k];
            for (size_t later = k + 1; later < PANEL; later++) {
                left[later] -= left[k] * work->square[later][k];
            }
        }
        for (size_t k = 0; k < PANEL; k++) {
            row[k] = part_i > 0 || k <= r ? (float)left[k] : 0.0f;
        }
    }
}

/* False: not positive, as far as floats can tell. */
static bool factor_lower(struct factorise *work)
{
    const size_t in = work->factor->in;
    for (work->block = 0; work->block < in; work->block += PANEL) {
        const size_t below = (in - work->block) / PANEL;
        for (size_t k = 0; k < PANEL; k++) {
            const float *row = work->lower + (work->block + k) * in;
            for (size_t i = 0; i < work->block; i++) {
                work->panel[i * PANEL + k] = -row[i];
            }
        }
        if (work->block > 0) mly_pool_run(work->workshop->pool, below, subtract_rows, work);
        if (!factor_square(work)) return false;
        mly_pool_run(work->workshop->pool, below, solve_rows, work);
    }
    return true;
}

static void fill_feedback(const float *lower, struct mly_gptq_factor *factor)
{
    const size_t in = factor->in;
    for (size_t k = 0; k < in; k++) {
        factor->own[k] = lower[k * (in + 1)];
    }
    for (size_t k = 0; k < in; k += PANEL) {
        for (size_t j = k; j < in; j++) {
            float *target = factor->feedback + k * in + j * PANEL;
            for (size_t i = 0; i < PANEL; i++) {
                target[i] = j > k + i ? lower[j * in + k + i] / factor->own[k + i] : 0.0f;
            }
        }
    }
}

static enum mly_err factor_damped(struct factorise *work, const float *covariance,
                                  struct mly_error *err)
{
    for (double damping = DAMPING; damping <= DAMPING_MAX; damping *= 10.0) {
        fill_covariance(covariance, damping, work->factor);
        fill_lower(work->factor, work->lower);
        if (factor_lower(work)) {
            fill_feedback(work->lower, work->factor);
            return MLY_OK;
        }
    }
    return mly_fail(err, MLY_ERR_MODEL,
                    "the inputs that calibration gives a layer are all equal or not finite");
}

enum mly_err mly_gptq_factorise(const struct mly_workshop *workshop,
                                const struct mly_gptq_moments *moments, size_t in,
                                struct mly_gptq_factor *out, struct mly_error *err)
{
    struct mly_mem *mem = workshop->env->mem;
    struct mly_gptq_factor made = {
        .in = in,
        .order = mly_mem_array(mem, in, sizeof(uint32_t)),
        .covariance = mly_gptq_floats(mem, in, in),
        .feedback = mly_gptq_floats(mem, in, in),
        .own = mly_gptq_floats(mem, in, 1),
    };
    uint32_t *spare = mly_mem_array(mem, in, sizeof(uint32_t));
    struct factorise *work = mly_mem_array(mem, 1, sizeof(*work));
    float *lower = mly_gptq_floats(mem, in, in), *panel = mly_gptq_floats(mem, in, PANEL);
    enum mly_err rc = MLY_OK;
    if (made.order == NULL || made.covariance == NULL || made.feedback == NULL ||
        made.own == NULL || spare == NULL || work == NULL || lower == NULL || panel == NULL) {
        rc = mly_fail_nomem(err, in * in * 3 * sizeof(float));
        goto done;
    }
    work->workshop = workshop;
    work->factor = &made;
    work->lower = lower;
    work->panel = panel;
    sort_columns(moments->covariance, in, made.order, spare);
    rc = factor_damped(work, moments->covariance, err);
    if (rc != MLY_OK) goto done;
    *out = made; /* Moved. */
    made = (struct mly_gptq_factor){0};
done:
    mly_mem_free(mem, spare);
    mly_mem_free(mem, lower);
    mly_mem_free(mem, panel);
    mly_mem_free(mem, work);
    mly_gptq_factor_deinit(&made, mem);
    return rc;
}

void mly_gptq_factor_deinit(struct mly_gptq_factor *factor, struct mly_mem *mem)
{
    mly_mem_free(mem, factor->order);
    mly_mem_free(mem, factor->covariance);
    mly_mem_free(mem, factor->feedback);
    mly_mem_free(mem, factor->own);
    *factor = (struct mly_gptq_factor){0};
}
