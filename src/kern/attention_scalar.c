/* Attention of one head over one sequence, the definition.
 *
 * Each score is summed over the head's dimensions in their order, each output over the sequence's
 * positions in their order: one product and one sum at a time. So a vector set may take any number
 * of rows and columns side by side without changing a bit. Keys are turned first (dimension by
 * dimension), so that neighbouring scores stand side by side.
 */
#include "kern/kern_int.h"

#include <string.h>

/* 2^x for x <= 0; below KERN_EXP2_MIN, and for not-a-number, 2^KERN_EXP2_MIN. */
static float exp2_negative(float x)
{
    static const float c[] = KERN_EXP2_COEFFICIENTS;
    const float clamped = x > KERN_EXP2_MIN ? x : KERN_EXP2_MIN;
    const float shifted = clamped + KERN_ROUND;
    const float fraction = clamped - (shifted - KERN_ROUND);
    float p = c[5];
    for (size_t i = 5; i > 0; i--) {
        p = p * fraction + c[i - 1];
    }
    uint32_t exponent, bits;
    memcpy(&exponent, &shifted, sizeof(exponent));
    memcpy(&bits, &p, sizeof(bits));
    bits += exponent << 23; /* The rounded integer stands in the low bits of shifted. */
    memcpy(&p, &bits, sizeof(p));
    return p;
}

/* Turns a row of scores into weights; returns their sum (in lanes). */
static float soften(float *row, size_t count)
{
    float most = row[0];
    for (size_t u = 1; u < count; u++) {
        most = row[u] > most ? row[u] : most;
    }
    float lanes[KERN_LANES] = {0};
    for (size_t u = 0; u < count; u++) {
        row[u] = exp2_negative(row[u] - most);
        lanes[u % KERN_LANES] += row[u];
    }
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

void mly_kern_attention_f32_scalar(const float *q, const float *k, const float *v, size_t stride,
                                   size_t tokens, size_t head_dim, float *scratch, float *out,
                                   size_t out_stride)
{
    float *turned = scratch; /* f32[head_dim][tokens] */
    float *row = scratch + head_dim * tokens;
    for (size_t u = 0; u < tokens; u++) {
        for (size_t i = 0; i < head_dim; i++) {
            turned[i * tokens + u] = k[u * stride + i];
        }
    }
    for (size_t t = 0; t < tokens; t++) {
        memset(row, 0, tokens * sizeof(row[0]));
        for (size_t i = 0; i < head_dim; i++) {
            const float factor = q[t * stride + i];
            for (size_t u = 0; u < tokens; u++) {
                row[u] += factor * turned[i * tokens + u];
            }
        }
        const float factor = 1.0f / soften(row, tokens);
        float *target = out + t * out_stride;
        memset(target, 0, head_dim * sizeof(target[0]));
        for (size_t u = 0; u < tokens; u++) {
            for (size_t i = 0; i < head_dim; i++) {
                target[i] += row[u] * v[u * stride + i];
            }
        }
        for (size_t i = 0; i < head_dim; i++) {
            target[i] = target[i] * factor;
        }
    }
}
