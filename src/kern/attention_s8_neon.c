/* Attention in integers with the dot product of bytes, one head of one sequence. The definition is
 * attention_s8_scalar.c.
 *
 * sdot sums four products of signed bytes: four dimensions of a key for scores, four pieces of the
 * values for outputs. A weight is up to 2048, so it is taken apart, 128 * high + low, and the
 * values pass twice: the sums of the high parts are shifted by 7 before the low ones are added.
 * Four rows by 16 columns (or dimensions) are 16 registers of sums.
 */
#include "kern/kern_int.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "this file needs the flags of its set"
#endif

#include <arm_neon.h>

#define ROWS 4
#define QUARTER 4 /* numbers of 32 bits in one register */
#define STEP_BYTES (KERN_LANES * MLY_KERN_STEP)

struct head {
    int32_t *scores;  /* s32[ROWS][columns] */
    float *steps;     /* f32[head_dim], of the values */
    int8_t *keys;     /* s8[columns / 16][head_dim / 4][16][4] */
    int8_t *values;   /* s8[columns / 4][head_dim][4] */
    int8_t *queries;  /* s8[tokens][head_dim] */
    int8_t *parts[2]; /* s8[ROWS][columns], of the weights: high, low */
    size_t tokens, head_dim, columns;
    float scale;
};

static inline float step_of(float largest)
{
    return largest / 127.0f + KERN_SCALE_MIN;
}

/* The largest sizes: all of q, all of k, of v those of each dimension. */
static void find_steps(struct head *head, const float *q, const float *k, const float *v,
                       size_t stride, float *query_step, float *key_step)
{
    float32x4_t q_most = vdupq_n_f32(0.0f), k_most = q_most;
    for (size_t i = 0; i < head->head_dim; i += QUARTER) {
        float32x4_t v_most = vdupq_n_f32(0.0f);
        for (size_t t = 0; t < head->tokens; t++) {
            q_most = vmaxq_f32(vabsq_f32(vld1q_f32(q + t * stride + i)), q_most);
            k_most = vmaxq_f32(vabsq_f32(vld1q_f32(k + t * stride + i)), k_most);
            v_most = vmaxq_f32(vabsq_f32(vld1q_f32(v + t * stride + i)), v_most);
        }
        const float32x4_t part = vdivq_f32(v_most, vdupq_n_f32(127.0f));
        vst1q_f32(head->steps + i, vaddq_f32(part, vdupq_n_f32(KERN_SCALE_MIN)));
    }
    *query_step = step_of(vmaxvq_f32(q_most));
    *key_step = step_of(vmaxvq_f32(k_most));
}

/* Four whole numbers in 16 bits; ties go to even. */
static inline int16x4_t to_whole(const float *x, float32x4_t factor)
{
    return vmovn_s32(vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x), factor)));
}

static inline int8x16_t sixteen_to_whole(const float *x, float32x4_t factor)
{
    const int16x8_t a = vcombine_s16(to_whole(x, factor), to_whole(x + QUARTER, factor));
    const int16x8_t b =
        vcombine_s16(to_whole(x + 2 * QUARTER, factor), to_whole(x + 3 * QUARTER, factor));
    return vcombine_s8(vmovn_s16(a), vmovn_s16(b));
}

static void fill_queries(const struct head *head, const float *q, size_t stride, float step)
{
    const float32x4_t factor = vdupq_n_f32(1.0f / step);
    for (size_t t = 0; t < head->tokens; t++) {
        for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
            vst1q_s8(head->queries + t * head->head_dim + i,
                     sixteen_to_whole(q + t * stride + i, factor));
        }
    }
}

static void fill_keys(const struct head *head, const float *k, size_t stride, float step)
{
    const float32x4_t factor = vdupq_n_f32(1.0f / step);
    for (size_t u = 0; u < head->columns; u++) {
        int8_t *to = head->keys + u / KERN_LANES * KERN_LANES * head->head_dim +
                     u % KERN_LANES * MLY_KERN_STEP;
        for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
            int32x4_t fours = vdupq_n_s32(0);
            if (u < head->tokens) {
                fours = vreinterpretq_s32_s8(sixteen_to_whole(k + u * stride + i, factor));
            }
            int8_t *step_i = to + i / MLY_KERN_STEP * STEP_BYTES;
            vst1q_lane_s32((int32_t *)(void *)step_i, fours, 0);
            vst1q_lane_s32((int32_t *)(void *)(step_i + STEP_BYTES), fours, 1);
            vst1q_lane_s32((int32_t *)(void *)(step_i + 2 * STEP_BYTES), fours, 2);
            vst1q_lane_s32((int32_t *)(void *)(step_i + 3 * STEP_BYTES), fours, 3);
        }
    }
}

static void fill_values(const struct head *head, const float *v, size_t stride)
{
    for (size_t i = 0; i < head->head_dim; i += QUARTER) {
        const float32x4_t factor = vdivq_f32(vdupq_n_f32(1.0f), vld1q_f32(head->steps + i));
        for (size_t u = 0; u < head->tokens; u += MLY_KERN_STEP) {
            int16x4_t rows[MLY_KERN_STEP];
            for (size_t j = 0; j < MLY_KERN_STEP; j++) {
                rows[j] = u + j < head->tokens ? to_whole(v + (u + j) * stride + i, factor)
                                               : vdup_n_s16(0);
            }
            /* To the order of dimensions, each with its four pieces. */
            const int16x4x2_t first = vzip_s16(rows[0], rows[2]);
            const int16x4x2_t second = vzip_s16(rows[1], rows[3]);
            const int16x8x2_t both = vzipq_s16(vcombine_s16(first.val[0], first.val[1]),
                                               vcombine_s16(second.val[0], second.val[1]));
            vst1q_s8(head->values + u * head->head_dim + i * MLY_KERN_STEP,
                     vcombine_s8(vmovn_s16(both.val[0]), vmovn_s16(both.val[1])));
        }
    }
}

#define EACH_ROW(what) what(0) what(1) what(2) what(3)
#define START(r)                                                                                   \
    int32x4_t s##r##0 = vdupq_n_s32(0), s##r##1 = s##r##0, s##r##2 = s##r##0, s##r##3 = s##r##0;
#define DOT_ROW(r, lane)                                                                           \
    s##r##0 = vdotq_laneq_s32(s##r##0, b0, a##r, lane);                                            \
    s##r##1 = vdotq_laneq_s32(s##r##1, b1, a##r, lane);                                            \
    s##r##2 = vdotq_laneq_s32(s##r##2, b2, a##r, lane);                                            \
    s##r##3 = vdotq_laneq_s32(s##r##3, b3, a##r, lane);
/* Sixteen columns or dimensions, four products of each; step: from those to the next four. */
#define DOT_STEP(from, step, lane)                                                                 \
    {                                                                                              \
        const int8x16_t b0 = vld1q_s8(from), b1 = vld1q_s8(from + 16);                             \
        const int8x16_t b2 = vld1q_s8(from + 32), b3 = vld1q_s8(from + 48);                        \
        DOT_ROW(0, lane)                                                                           \
        DOT_ROW(1, lane)                                                                           \
        DOT_ROW(2, lane)                                                                           \
        DOT_ROW(3, lane)                                                                           \
        from += step;                                                                              \
    }
#define LOAD_QUERY(r) const int8x16_t a##r = vld1q_s8(q[r] + i);
#define SCORE_STORE(r)                                                                             \
    vst1q_s32(scores + r * head->columns, s##r##0);                                                \
    vst1q_s32(scores + r * head->columns + QUARTER, s##r##1);                                      \
    vst1q_s32(scores + r * head->columns + 2 * QUARTER, s##r##2);                                  \
    vst1q_s32(scores + r * head->columns + 3 * QUARTER, s##r##3);

/* Scores of four rows and 16 columns from u on. */
static inline void score_tile(const struct head *head, const int8_t *const q[ROWS], size_t u)
{
    const int8_t *keys = head->keys + u * head->head_dim;
    int32_t *scores = head->scores + u;
    EACH_ROW(START)
    for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
        EACH_ROW(LOAD_QUERY)
        DOT_STEP(keys, STEP_BYTES, 0)
        DOT_STEP(keys, STEP_BYTES, 1)
        DOT_STEP(keys, STEP_BYTES, 2)
        DOT_STEP(keys, STEP_BYTES, 3)
    }
    EACH_ROW(SCORE_STORE)
}

/* How far scores are below the greatest, in steps of 1 / 2048; -32768 at the least. */
static inline int16x4_t steps_below(const int32_t *scores, int32x4_t most, float scale)
{
    const float32x4_t below = vcvtq_f32_s32(vsubq_s32(vld1q_s32(scores), most));
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(below, scale)));
}

/* The weights of eight columns as the definition has them; vqrdmulhq is its product and half(). */
static inline uint16x8_t weights_of(const int32_t *scores, int32x4_t most, float scale)
{
    const int16x8_t x =
        vcombine_s16(steps_below(scores, most, scale), steps_below(scores + QUARTER, most, scale));
    const int16x8_t fraction = vandq_s16(vshlq_n_s16(x, 4), vdupq_n_s16(0x7ff0));
    int16x8_t power = vqrdmulhq_s16(fraction, vdupq_n_s16(KERN_WEIGHT_2));
    power = vqrdmulhq_s16(fraction, vaddq_s16(power, vdupq_n_s16(KERN_WEIGHT_1)));
    power = vaddq_s16(power, vdupq_n_s16(16384));
    /* To the left by a negative number: to the right, and 0 from 16 on. */
    const int16x8_t left = vsubq_s16(vshrq_n_s16(x, KERN_WEIGHT_BITS), vdupq_n_s16(2));
    return vrshrq_n_u16(vshlq_u16(vreinterpretq_u16_s16(power), left), 1);
}

/* Turns row r's scores into the parts of weights; returns the weights' sum. What stands behind the
 * end is first made a copy of the first score, which changes no maximum, and gets no weight. */
static inline uint32_t soften(const struct head *head, size_t r)
{
    int32_t *scores = head->scores + r * head->columns;
    int8_t *high = head->parts[0] + r * head->columns, *low = head->parts[1] + r * head->columns;
    for (size_t u = head->tokens; u < head->columns; u++) {
        scores[u] = scores[0];
    }
    int32x4_t greatest = vld1q_s32(scores);
    for (size_t u = QUARTER; u < head->columns; u += QUARTER) {
        greatest = vmaxq_s32(greatest, vld1q_s32(scores + u));
    }
    const int32x4_t most = vdupq_n_s32(vmaxvq_s32(greatest));
    uint32x4_t sum = vdupq_n_u32(0);
    for (size_t u = 0; u < head->columns; u += 8) {
        static const uint16_t places[8] = {0, 1, 2, 3, 4, 5, 6, 7};
        const uint16_t left = (uint16_t)(head->tokens > u ? head->tokens - u : 0);
        const uint16x8_t within = vcltq_u16(vld1q_u16(places), vdupq_n_u16(left));
        const uint16x8_t weight = vandq_u16(weights_of(scores + u, most, head->scale), within);
        sum = vpadalq_u16(sum, weight);
        vst1_s8(high + u, vreinterpret_s8_u8(vmovn_u16(vshrq_n_u16(weight, 7))));
        vst1_s8(low + u, vreinterpret_s8_u8(vmovn_u16(vandq_u16(weight, vdupq_n_u16(127)))));
    }
    return vaddvq_u32(sum);
}

#define LOAD_WEIGHTS(r) const int8x16_t a##r = vld1q_s8(part + r * head->columns + u);
#define SHIFT(r)                                                                                   \
    s##r##0 = vshlq_n_s32(s##r##0, 7);                                                             \
    s##r##1 = vshlq_n_s32(s##r##1, 7);                                                             \
    s##r##2 = vshlq_n_s32(s##r##2, 7);                                                             \
    s##r##3 = vshlq_n_s32(s##r##3, 7);
#define MIX_STORE(r)                                                                               \
    if (r < count) {                                                                               \
        float *to = out + r * out_stride;                                                          \
        const float factor = factors[r];                                                           \
        vst1q_f32(to, finish(s##r##0, factor, steps));                                             \
        vst1q_f32(to + QUARTER, finish(s##r##1, factor, steps + QUARTER));                         \
        vst1q_f32(to + 2 * QUARTER, finish(s##r##2, factor, steps + 2 * QUARTER));                 \
        vst1q_f32(to + 3 * QUARTER, finish(s##r##3, factor, steps + 3 * QUARTER));                 \
    }

static inline float32x4_t finish(int32x4_t sums, float factor, const float *steps)
{
    return vmulq_f32(vmulq_n_f32(vcvtq_f32_s32(sums), factor), vld1q_f32(steps));
}

/* 16 dimensions of up to four rows, from i on. */
static inline void mix_tile(const struct head *head, size_t i, const float factors[ROWS],
                            size_t count, float *out, size_t out_stride)
{
    const size_t step = MLY_KERN_STEP * head->head_dim;
    const float *steps = head->steps + i;
    EACH_ROW(START)
    for (size_t which = 0; which < 2; which++) {
        const int8_t *part = head->parts[which], *values = head->values + i * MLY_KERN_STEP;
        EACH_ROW(SHIFT)
        for (size_t u = 0; u < head->columns; u += 4 * MLY_KERN_STEP) {
            EACH_ROW(LOAD_WEIGHTS)
            DOT_STEP(values, step, 0)
            DOT_STEP(values, step, 1)
            DOT_STEP(values, step, 2)
            DOT_STEP(values, step, 3)
        }
    }
    EACH_ROW(MIX_STORE)
}

static void attend_rows(const struct head *head, size_t t, size_t count, float *out,
                        size_t out_stride)
{
    const int8_t *q[ROWS];
    float factors[ROWS];
    for (size_t r = 0; r < ROWS; r++) { /* A short tile repeats its last row. */
        q[r] = head->queries + (t + (r < count ? r : count - 1)) * head->head_dim;
    }
    for (size_t u = 0; u < head->columns; u += KERN_LANES) {
        score_tile(head, q, u);
    }
    for (size_t r = 0; r < ROWS; r++) {
        factors[r] = 1.0f / (float)soften(head, r);
    }
    for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
        mix_tile(head, i, factors, count, out + i, out_stride);
    }
}

void mly_kern_attention_s8_neon(const float *q, const float *k, const float *v, size_t stride,
                                size_t tokens, size_t head_dim, void *scratch, float *out,
                                size_t out_stride)
{
    const size_t columns = (tokens + KERN_LANES - 1) / KERN_LANES * KERN_LANES;
    struct head head = {
        .scores = scratch, .tokens = tokens, .head_dim = head_dim, .columns = columns};
    head.steps = (float *)(void *)(head.scores + ROWS * columns);
    head.keys = (int8_t *)(void *)(head.steps + head_dim);
    head.values = head.keys + columns * head_dim;
    head.queries = head.values + columns * head_dim;
    head.parts[0] = head.queries + columns * head_dim;
    head.parts[1] = head.parts[0] + ROWS * columns;
    float query_step, key_step;
    find_steps(&head, q, k, v, stride, &query_step, &key_step);
    const float scale = query_step * key_step * 2048.0f;
    head.scale = scale < KERN_SCALE_MAX ? scale : KERN_SCALE_MAX;
    fill_queries(&head, q, stride, query_step);
    fill_keys(&head, k, stride, key_step);
    fill_values(&head, v, stride);
    /* Pieces behind the end have no weight, but their values are read. */
    for (size_t u = (tokens + MLY_KERN_STEP - 1) / MLY_KERN_STEP * MLY_KERN_STEP; u < columns;
         u++) {
        for (size_t i = 0; i < head_dim; i++) {
            head.values[u * head_dim + i] = 0;
        }
    }
    for (size_t t = 0; t < tokens; t += ROWS) {
        const size_t count = tokens - t < ROWS ? tokens - t : ROWS;
        attend_rows(&head, t, count, out + t * out_stride, out_stride);
    }
}
