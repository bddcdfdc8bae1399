/* Private to the quantiser: the parts of GPTQ.
 *
 * Columns stand in the order of their inputs' size, the smallest first, and are rounded from the
 * last to the first: place p of the order has column order[p].
 */
#ifndef MLY_EMBED_QUANTISE_GPTQ_INT_H
#define MLY_EMBED_QUANTISE_GPTQ_INT_H

#include "embed/quantise/gptq.h"

#define GPTQ_BLOCK MLY_KERN_PANEL

/* What the inputs of a layer are like. x = mean + slope * low + rest; mean and slope can be
 * carried by bias and sum at no cost, so the covariance is that of the rest. */
struct mly_gptq_moments {
    double *mean, *slope; /* f64[in] */
    float *covariance;    /* f32[in][in], by column; a sum over rows, not a mean */
};

/* From the covariance: the order, and what rounding needs in it. */
struct mly_gptq_factor {
    size_t in;
    uint32_t *order;   /* [in] */
    float *covariance; /* f32[in / 64][in][64], damped, in that order */
    float *feedback;   /* f32[in / 64][in][64]: how much of row's error column takes back */
    float *own;        /* f32[in]: the root of what later columns cannot predict of this one */
};

MLY_MUST_USE enum mly_err mly_gptq_measure(const struct mly_workshop *workshop,
                                           const struct mly_kern_rows *inputs, size_t in,
                                           struct mly_gptq_moments *out, struct mly_error *err);
void mly_gptq_moments_deinit(struct mly_gptq_moments *moments, struct mly_mem *mem);
MLY_MUST_USE enum mly_err mly_gptq_factorise(const struct mly_workshop *workshop,
                                             const struct mly_gptq_moments *moments, size_t in,
                                             struct mly_gptq_factor *out, struct mly_error *err);
void mly_gptq_factor_deinit(struct mly_gptq_factor *factor, struct mly_mem *mem);

/* count * width floats, zeroed, aligned to 64; NULL where there is no memory. */
float *mly_gptq_floats(struct mly_mem *mem, size_t count, size_t width);

#endif
