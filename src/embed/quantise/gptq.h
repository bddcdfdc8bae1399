/* Rounds the weights of a linear layer to 8 bits so that its outputs change least (GPTQ).
 *
 * In: weights f32[out][in], bias f32[out], and the inputs that calibration text gives the layer, as
 * the engine will have them: rows of unsigned bytes. Out: int8 weights with scale, sum and bias.
 *
 * Same     the same bytes on every machine and for any number of threads: every number is made by
 *          one worker in one order of single operations.
 * Errors   NOMEM; MODEL where inputs cannot be used; CANCELLED.
 * Source   Frantar et al. 2022, GPTQ, in the form of Chee et al. 2023, QuIP, section 3.
 */
#ifndef MLY_EMBED_QUANTISE_GPTQ_H
#define MLY_EMBED_QUANTISE_GPTQ_H

#include "base/err.h"
#include "kern/kern.h"
#include "os/os.h"

/* Who works, and with what. */
struct mly_workshop {
    const struct mly_env *env;
    const struct mly_kern *kern;
    struct mly_pool *pool;
};

/* weights: f32[out][in]. in and out are multiples of 64. */
struct mly_gptq_layer {
    const float *weights, *bias;
    size_t in, out;
};

/* stored: s8[out][in]; scale, sum and bias: f32[out], as kern.h's linear layers have them. */
struct mly_gptq_result {
    int8_t *stored;
    float *scale, *sum, *bias;
};

MLY_MUST_USE enum mly_err mly_gptq_round(const struct mly_workshop *workshop,
                                         const struct mly_gptq_layer *layer,
                                         const struct mly_kern_rows *inputs,
                                         const struct mly_gptq_result *out, struct mly_error *err);

#endif
