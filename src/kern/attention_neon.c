/* Attention of one head over one sequence with NEON. The definition is attention_scalar.c.
 *
 * Keys are turned into f32[columns / 16][head_dim][16], columns being the sequence's length rounded
 * up to 16 (zeros behind the end), so that a tile reads them in one run. Four rows of scores by 16
 * columns fill 16 registers, and so do four rows of outputs by 16 dimensions. Each sum still runs
 * in the definition's order: product, then sum, never fused.
 */
#include "kern/kern_int.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "this file needs the flags of its set"
#endif

#include <arm_neon.h>

#define ROWS 4
#define COLUMNS KERN_LANES
#define QUARTER 4 /* floats in one register */

/* 2^x as the definition has it; vmaxnmq takes the other operand for not-a-number. */
static inline float32x4_t exp2_negative(float32x4_t x)
{
    static const float c[] = KERN_EXP2_COEFFICIENTS;
    const float32x4_t round = vdupq_n_f32(KERN_ROUND);
    const float32x4_t clamped = vmaxnmq_f32(x, vdupq_n_f32(KERN_EXP2_MIN));
    const float32x4_t shifted = vaddq_f32(clamped, round);
    const float32x4_t f = vsubq_f32(clamped, vsubq_f32(shifted, round));
    float32x4_t p = vdupq_n_f32(c[5]);
    p = vaddq_f32(vmulq_f32(p, f), vdupq_n_f32(c[4]));
    p = vaddq_f32(vmulq_f32(p, f), vdupq_n_f32(c[3]));
    p = vaddq_f32(vmulq_f32(p, f), vdupq_n_f32(c[2]));
    p = vaddq_f32(vmulq_f32(p, f), vdupq_n_f32(c[1]));
    p = vaddq_f32(vmulq_f32(p, f), vdupq_n_f32(c[0]));
    const int32x4_t exponent = vshlq_n_s32(vreinterpretq_s32_f32(shifted), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));
}

/* 4 x 4 floats: to[i][j] = from[j][i], rows of to COLUMNS floats apart. */
static inline void turn_block(const float *from, size_t stride, float *to)
{
    const float32x4_t a = vld1q_f32(from), b = vld1q_f32(from + stride);
    const float32x4_t c = vld1q_f32(from + 2 * stride), d = vld1q_f32(from + 3 * stride);
    const float64x2_t ab_even = vreinterpretq_f64_f32(vtrn1q_f32(a, b));
    const float64x2_t ab_odd = vreinterpretq_f64_f32(vtrn2q_f32(a, b));
    const float64x2_t cd_even = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
    const float64x2_t cd_odd = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
    vst1q_f32(to, vreinterpretq_f32_f64(vtrn1q_f64(ab_even, cd_even)));
    vst1q_f32(to + COLUMNS, vreinterpretq_f32_f64(vtrn1q_f64(ab_odd, cd_odd)));
    vst1q_f32(to + 2 * COLUMNS, vreinterpretq_f32_f64(vtrn2q_f64(ab_even, cd_even)));
    vst1q_f32(to + 3 * COLUMNS, vreinterpretq_f32_f64(vtrn2q_f64(ab_odd, cd_odd)));
}

static void turn_keys(const float *k, size_t stride, size_t tokens, size_t head_dim, float *turned)
{
    const size_t whole = tokens / QUARTER * QUARTER;
    for (size_t u = 0; u < whole; u += QUARTER) {
        float *to = turned + u / COLUMNS * COLUMNS * head_dim + u % COLUMNS;
        for (size_t i = 0; i < head_dim; i += QUARTER) {
            turn_block(k + u * stride + i, stride, to + i * COLUMNS);
        }
    }
    const size_t end = (tokens + COLUMNS - 1) / COLUMNS * COLUMNS;
    for (size_t u = whole; u < end; u++) { /* what blocks have left, and zeros */
        float *to = turned + u / COLUMNS * COLUMNS * head_dim + u % COLUMNS;
        for (size_t i = 0; i < head_dim; i++) {
            to[i * COLUMNS] = u < tokens ? k[u * stride + i] : 0.0f;
        }
    }
}

#define STEP(sum, row, value) sum = vaddq_f32(sum, vmulq_n_f32(value, factor##row))
#define STEP_ROW(r, x)                                                                             \
    do {                                                                                           \
        STEP(s##r##0, r, x##0);                                                                    \
        STEP(s##r##1, r, x##1);                                                                    \
        STEP(s##r##2, r, x##2);                                                                    \
        STEP(s##r##3, r, x##3);                                                                    \
    } while (0)
#define START(r)                                                                                   \
    float32x4_t s##r##0 = vdupq_n_f32(0.0f), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0
#define SCORE_STORE(r)                                                                             \
    do {                                                                                           \
        vst1q_f32(scores + r * columns, s##r##0);                                                  \
        vst1q_f32(scores + r * columns + QUARTER, s##r##1);                                        \
        vst1q_f32(scores + r * columns + 2 * QUARTER, s##r##2);                                    \
        vst1q_f32(scores + r * columns + 3 * QUARTER, s##r##3);                                    \
    } while (0)

/* scores: f32[4][columns], 16 columns of it from here on; turned: f32[head_dim][16]. */
static inline void score_tile(const float *const q[ROWS], const float *turned, size_t head_dim,
                              float *scores, size_t columns)
{
    START(0);
    START(1);
    START(2);
    START(3);
    for (size_t i = 0; i < head_dim; i++) {
        const float32x4_t k0 = vld1q_f32(turned), k1 = vld1q_f32(turned + QUARTER);
        const float32x4_t k2 = vld1q_f32(turned + 2 * QUARTER);
        const float32x4_t k3 = vld1q_f32(turned + 3 * QUARTER);
        const float factor0 = q[0][i], factor1 = q[1][i], factor2 = q[2][i], factor3 = q[3][i];
        STEP_ROW(0, k);
        STEP_ROW(1, k);
        STEP_ROW(2, k);
        STEP_ROW(3, k);
        turned += COLUMNS;
    }
    SCORE_STORE(0);
    SCORE_STORE(1);
    SCORE_STORE(2);
    SCORE_STORE(3);
}

/* Turns a row of scores into weights; returns their sum in lanes. What stands behind the end of
 * the sequence, up to columns, is first made a copy of its first score, which changes no maximum,
 * and afterwards 0, which changes no lane: a lane is never -0. */
static inline float soften(float *row, size_t tokens, size_t columns)
{
    for (size_t u = tokens; u < columns; u++) {
        row[u] = row[0];
    }
    float32x4_t most = vld1q_f32(row);
    for (size_t u = QUARTER; u < columns; u += QUARTER) {
        most = vmaxq_f32(vld1q_f32(row + u), most);
    }
    const float32x4_t top = vdupq_n_f32(vmaxvq_f32(most));
    for (size_t u = 0; u < columns; u += QUARTER) {
        vst1q_f32(row + u, exp2_negative(vsubq_f32(vld1q_f32(row + u), top)));
    }
    for (size_t u = tokens; u < columns; u++) {
        row[u] = 0.0f;
    }
    float32x4_t a = vdupq_n_f32(0.0f), b = a, c = a, d = a;
    for (size_t u = 0; u < columns; u += COLUMNS) {
        a = vaddq_f32(a, vld1q_f32(row + u));
        b = vaddq_f32(b, vld1q_f32(row + u + QUARTER));
        c = vaddq_f32(c, vld1q_f32(row + u + 2 * QUARTER));
        d = vaddq_f32(d, vld1q_f32(row + u + 3 * QUARTER));
    }
    const float32x4_t four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

#define MIX_STORE(r)                                                                               \
    do {                                                                                           \
        if (r < count) {                                                                           \
            float *to = out + r * out_stride;                                                      \
            vst1q_f32(to, vmulq_n_f32(s##r##0, factors[r]));                                       \
            vst1q_f32(to + QUARTER, vmulq_n_f32(s##r##1, factors[r]));                             \
            vst1q_f32(to + 2 * QUARTER, vmulq_n_f32(s##r##2, factors[r]));                         \
            vst1q_f32(to + 3 * QUARTER, vmulq_n_f32(s##r##3, factors[r]));                         \
        }                                                                                          \
    } while (0)

/* 16 dimensions of four rows. */
static inline void mix_tile(const float *weights, size_t columns, const float *v, size_t stride,
                            size_t tokens, const float factors[ROWS], size_t count, float *out,
                            size_t out_stride)
{
    START(0);
    START(1);
    START(2);
    START(3);
    for (size_t u = 0; u < tokens; u++) {
        const float32x4_t v0 = vld1q_f32(v), v1 = vld1q_f32(v + QUARTER);
        const float32x4_t v2 = vld1q_f32(v + 2 * QUARTER), v3 = vld1q_f32(v + 3 * QUARTER);
        const float factor0 = weights[u], factor1 = weights[columns + u];
        const float factor2 = weights[2 * columns + u], factor3 = weights[3 * columns + u];
        STEP_ROW(0, v);
        STEP_ROW(1, v);
        STEP_ROW(2, v);
        STEP_ROW(3, v);
        v += stride;
    }
    MIX_STORE(0);
    MIX_STORE(1);
    MIX_STORE(2);
    MIX_STORE(3);
}

void mly_kern_attention_f32_neon(const float *q, const float *k, const float *v, size_t stride,
                                 size_t tokens, size_t head_dim, float *scratch, float *out,
                                 size_t out_stride)
{
    const size_t columns = (tokens + COLUMNS - 1) / COLUMNS * COLUMNS;
    float *turned = scratch;
    float *weights = scratch + head_dim * columns;
    turn_keys(k, stride, tokens, head_dim, turned);
    for (size_t t = 0; t < tokens; t += ROWS) {
        const size_t count = tokens - t < ROWS ? tokens - t : ROWS;
        const float *rows[ROWS];
        float factors[ROWS];
        for (size_t r = 0; r < ROWS; r++) { /* A short tile repeats its last row. */
            rows[r] = q + (t + (r < count ? r : count - 1)) * stride;
        }
        for (size_t u = 0; u < columns; u += COLUMNS) {
            score_tile(rows, turned + u * head_dim, head_dim, weights + u, columns);
        }
        for (size_t r = 0; r < ROWS; r++) {
            factors[r] = 1.0f / soften(weights + r * columns, tokens, columns);
        }
        for (size_t i = 0; i < head_dim; i += COLUMNS) {
            mix_tile(weights, columns, v + i, stride, tokens, factors, count,
                     out + t * out_stride + i, out_stride);
        }
    }
}
