/* Linear layers on quantised rows with the dot product of bytes: tiles of 4 rows by 16 outputs.
 *
 * sdot multiplies signed bytes, our rows are unsigned: a row's bytes are taken less 128 (their
 * highest bit turned over), and 128 times the sum of an output's weights is what its sums start
 * from. Both are exact in 32 bits. One sdot takes the four inputs of a step, which stand in one
 * quarter of a row's register, for four outputs. 16 sums, 4 registers of weights and 4 of rows: 24
 * of 32. The sums go to the float formula of linear_scalar.c.
 */
#include "kern/kern_int.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "this file needs the flags of its set"
#endif

#include <arm_neon.h>

#define TILE_ROWS 4
#define TILE_OUTPUTS 16
#define QUARTER 4 /* numbers of 32 bits in one register */
#define STEP_BYTES (MLY_KERN_PANEL * MLY_KERN_STEP)
_Static_assert(MLY_KERN_STEP == 4, "sdot sums four products");

/* start: s32[64], 128 times the sum of each output's weights. */
static void panel_start(const int8_t *panel, size_t in, int32_t start[MLY_KERN_PANEL])
{
    const int8x16_t ones = vdupq_n_s8(1);
    for (size_t o = 0; o < MLY_KERN_PANEL; o += TILE_OUTPUTS) {
        const int8_t *weights = panel + o * MLY_KERN_STEP;
        int32x4_t a = vdupq_n_s32(0), b = a, c = a, d = a;
        for (size_t i = 0; i < in; i += MLY_KERN_STEP) {
            a = vdotq_s32(a, vld1q_s8(weights), ones);
            b = vdotq_s32(b, vld1q_s8(weights + 16), ones);
            c = vdotq_s32(c, vld1q_s8(weights + 32), ones);
            d = vdotq_s32(d, vld1q_s8(weights + 48), ones);
            weights += STEP_BYTES;
        }
        vst1q_s32(start + o, vshlq_n_s32(a, 7));
        vst1q_s32(start + o + QUARTER, vshlq_n_s32(b, 7));
        vst1q_s32(start + o + 2 * QUARTER, vshlq_n_s32(c, 7));
        vst1q_s32(start + o + 3 * QUARTER, vshlq_n_s32(d, 7));
    }
}

#define LOAD(r) vreinterpretq_s8_u8(veorq_u8(vld1q_u8(rows[r] + i), highest))
#define DOT_ROW(r, lane)                                                                           \
    do {                                                                                           \
        s##r##0 = vdotq_laneq_s32(s##r##0, w0, q##r, lane);                                        \
        s##r##1 = vdotq_laneq_s32(s##r##1, w1, q##r, lane);                                        \
        s##r##2 = vdotq_laneq_s32(s##r##2, w2, q##r, lane);                                        \
        s##r##3 = vdotq_laneq_s32(s##r##3, w3, q##r, lane);                                        \
    } while (0)
#define DOT_STEP(lane)                                                                             \
    do {                                                                                           \
        const int8x16_t w0 = vld1q_s8(weights), w1 = vld1q_s8(weights + 16);                       \
        const int8x16_t w2 = vld1q_s8(weights + 32), w3 = vld1q_s8(weights + 48);                  \
        weights += STEP_BYTES;                                                                     \
        DOT_ROW(0, lane);                                                                          \
        DOT_ROW(1, lane);                                                                          \
        DOT_ROW(2, lane);                                                                          \
        DOT_ROW(3, lane);                                                                          \
    } while (0)
#define STORE_ROW(r)                                                                               \
    do {                                                                                           \
        vst1q_s32(sums + r * MLY_KERN_PANEL, s##r##0);                                             \
        vst1q_s32(sums + r * MLY_KERN_PANEL + QUARTER, s##r##1);                                   \
        vst1q_s32(sums + r * MLY_KERN_PANEL + 2 * QUARTER, s##r##2);                               \
        vst1q_s32(sums + r * MLY_KERN_PANEL + 3 * QUARTER, s##r##3);                               \
    } while (0)
#define START_ROW(r) int32x4_t s##r##0 = t0, s##r##1 = t1, s##r##2 = t2, s##r##3 = t3

/* sums: s32[4][stride MLY_KERN_PANEL], 16 of each row. rows: four pointers, which may repeat; in is
 * a multiple of 16; weights and start are those of the 16 outputs. */
static inline void tile_sums(const uint8_t *const rows[TILE_ROWS], const int8_t *weights, size_t in,
                             const int32_t *start, int32_t *sums)
{
    const uint8x16_t highest = vdupq_n_u8(0x80);
    const int32x4_t t0 = vld1q_s32(start), t1 = vld1q_s32(start + QUARTER);
    const int32x4_t t2 = vld1q_s32(start + 2 * QUARTER), t3 = vld1q_s32(start + 3 * QUARTER);
    START_ROW(0);
    START_ROW(1);
    START_ROW(2);
    START_ROW(3);
    for (size_t i = 0; i < in; i += 4 * MLY_KERN_STEP) {
        const int8x16_t q0 = LOAD(0), q1 = LOAD(1), q2 = LOAD(2), q3 = LOAD(3);
        DOT_STEP(0);
        DOT_STEP(1);
        DOT_STEP(2);
        DOT_STEP(3);
    }
    STORE_ROW(0);
    STORE_ROW(1);
    STORE_ROW(2);
    STORE_ROW(3);
}

/* Four outputs of one row. */
static inline float32x4_t finish(const int32_t *sums, float32x4_t scale, float32x4_t sum,
                                 float32x4_t bias, float row_scale, float row_low)
{
    const float32x4_t value = vcvtq_f32_s32(vld1q_s32(sums));
    const float32x4_t product = vmulq_n_f32(vmulq_f32(value, scale), row_scale);
    return vaddq_f32(product, vaddq_f32(vmulq_n_f32(sum, row_low), bias));
}

static inline float32x4_t gelu(float32x4_t x)
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const float32x4_t a = vminq_f32(vabsq_f32(x), vdupq_n_f32(KERN_GELU_END));
    float32x4_t p = vdupq_n_f32(c[4]);
    p = vaddq_f32(vmulq_f32(p, a), vdupq_n_f32(c[3]));
    p = vaddq_f32(vmulq_f32(p, a), vdupq_n_f32(c[2]));
    p = vaddq_f32(vmulq_f32(p, a), vdupq_n_f32(c[1]));
    p = vaddq_f32(vmulq_f32(p, a), vdupq_n_f32(c[0]));
    return vaddq_f32(vmaxq_f32(x, vdupq_n_f32(0.0f)), p);
}

enum finish_kind { FINISH_STORE, FINISH_ADD, FINISH_GELU };

/* The rows of one tile through the float formula; kind is a constant in each caller. */
static inline __attribute__((always_inline)) void
finish_tile(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear, size_t row,
            size_t count, size_t first, const int32_t *sums, float *out, size_t out_stride,
            enum finish_kind kind)
{
    for (size_t v = 0; v < MLY_KERN_PANEL; v += QUARTER) {
        const float32x4_t scale = vld1q_f32(linear->scale + first + v);
        const float32x4_t sum = vld1q_f32(linear->sum + first + v);
        const float32x4_t bias = vld1q_f32(linear->bias + first + v);
        for (size_t r = 0; r < count; r++) {
            float *target = out + (row + r) * out_stride + first + v;
            float32x4_t y = finish(sums + r * MLY_KERN_PANEL + v, scale, sum, bias,
                                   rows->scale[row + r], rows->low[row + r]);
            if (kind == FINISH_ADD) y = vaddq_f32(vld1q_f32(target), y);
            if (kind == FINISH_GELU) y = gelu(y);
            vst1q_f32(target, y);
        }
    }
}

static inline __attribute__((always_inline)) void linear_tiles(const struct mly_kern_rows *rows,
                                                               const struct mly_kern_linear *linear,
                                                               float *out, size_t out_stride,
                                                               enum finish_kind kind)
{
    int32_t start[MLY_KERN_PANEL], sums[TILE_ROWS * MLY_KERN_PANEL];
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const int8_t *panel = linear->panels + first * linear->in;
        panel_start(panel, linear->in, start);
        for (size_t row = 0; row < rows->count; row += TILE_ROWS) {
            const size_t left = rows->count - row;
            const size_t count = left < TILE_ROWS ? left : TILE_ROWS;
            const uint8_t *q[TILE_ROWS];
            for (size_t r = 0; r < TILE_ROWS; r++) { /* A short tile repeats its last row. */
                q[r] = rows->q + (row + (r < count ? r : count - 1)) * rows->stride;
            }
            for (size_t o = 0; o < MLY_KERN_PANEL; o += TILE_OUTPUTS) {
                tile_sums(q, panel + o * MLY_KERN_STEP, linear->in, start + o, sums + o);
            }
            finish_tile(rows, linear, row, count, first, sums, out, out_stride, kind);
        }
    }
}

void mly_kern_linear_u8s8_f32_neon(const struct mly_kern_rows *rows,
                                   const struct mly_kern_linear *linear, float *out,
                                   size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_STORE);
}

void mly_kern_linear_add_u8s8_f32_neon(const struct mly_kern_rows *rows,
                                       const struct mly_kern_linear *linear, float *out,
                                       size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_ADD);
}

void mly_kern_linear_gelu_u8s8_f32_neon(const struct mly_kern_rows *rows,
                                        const struct mly_kern_linear *linear, float *out,
                                        size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_GELU);
}
