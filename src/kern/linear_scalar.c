/* Linear layers on quantised rows, the definition: u8 x s8 products summed exactly in 32 bits, then
 * one float formula per output.
 *
 *   y = (sum * scale) * row_scale + (weight_sum * row_low + bias)
 *
 * The zero point of a row (low) costs one product because the sum of each output's weights is known
 * beforehand. The products are taken in floats, because compilers for every floor have vectors of
 * them and hardly one of bytes: a sum over CHUNK inputs is below 2^24, so it is exact in any order,
 * and clang 14 makes it four times as fast as integers (gcc 12 hardly faster).
 */
#include "kern/kern_int.h"

#include <math.h>
#include <string.h>

#define CHUNK 64 /* 64 * 255 * 127 < 2^24; divides every number of inputs */
#define ROWS                                                                                       \
    32 /* share one unpacked chunk of weights; it and their sums stay in the first cache           \
        */

typedef float chunk_weights[CHUNK][MLY_KERN_PANEL];

static void unpack_chunk(const int8_t *chunk, chunk_weights weights)
{
    for (size_t i = 0; i < CHUNK; i++) {
        const int8_t *step = chunk + i / MLY_KERN_STEP * MLY_KERN_STEP * MLY_KERN_PANEL;
        for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
            weights[i][o] = (float)step[MLY_KERN_STEP * o + i % MLY_KERN_STEP];
        }
    }
}

/* Two rows at a time, which share the loads of the weights; b may be a. */
static void add_chunk(const uint8_t *restrict a, const uint8_t *restrict b, chunk_weights weights,
                      int32_t *restrict a_sums, int32_t *restrict b_sums)
{
    float a_part[MLY_KERN_PANEL] = {0}, b_part[MLY_KERN_PANEL] = {0};
    for (size_t i = 0; i < CHUNK; i += 4) {
        const float a0 = a[i], a1 = a[i + 1], a2 = a[i + 2], a3 = a[i + 3];
        const float b0 = b[i], b1 = b[i + 1], b2 = b[i + 2], b3 = b[i + 3];
        for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
            const float w0 = weights[i][o], w1 = weights[i + 1][o];
            const float w2 = weights[i + 2][o], w3 = weights[i + 3][o];
            a_part[o] += (a0 * w0 + a1 * w1) + (a2 * w2 + a3 * w3);
            b_part[o] += (b0 * w0 + b1 * w1) + (b2 * w2 + b3 * w3);
        }
    }
    for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
        a_sums[o] += (int32_t)a_part[o];
        b_sums[o] += (int32_t)b_part[o];
    }
}

/* The sums of one panel for up to ROWS rows. */
static void panel_sums(const struct mly_kern_rows *rows, size_t row, size_t count,
                       const int8_t *panel, size_t in, int32_t sums[ROWS][MLY_KERN_PANEL])
{
    chunk_weights weights;
    memset(sums, 0, ROWS * sizeof(sums[0]));
    for (size_t i = 0; i < in; i += CHUNK) {
        unpack_chunk(panel + i * MLY_KERN_PANEL, weights);
        for (size_t r = 0; r < count; r += 2) { /* An odd last row goes with itself. */
            const size_t other = r + 1 < count ? r + 1 : r;
            const uint8_t *q = rows->q + (row + r) * rows->stride + i;
            add_chunk(q, q + (other - r) * rows->stride, weights, sums[r], sums[r + 1]);
        }
    }
}

static float gelu(float x)
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const float size = fabsf(x);
    const float a = size < KERN_GELU_END ? size : KERN_GELU_END;
    float p = c[4];
    for (size_t i = 4; i > 0; i--) {
        p = p * a + c[i - 1];
    }
    return (x > 0.0f ? x : 0.0f) + p;
}

/* What becomes of an output. */
typedef void finish_fn(const float y[MLY_KERN_PANEL], float *out);

static void store(const float y[MLY_KERN_PANEL], float *out)
{
    memcpy(out, y, MLY_KERN_PANEL * sizeof(y[0]));
}

static void add(const float y[MLY_KERN_PANEL], float *out)
{
    for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
        out[o] = out[o] + y[o];
    }
}

static void store_gelu(const float y[MLY_KERN_PANEL], float *out)
{
    for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
        out[o] = gelu(y[o]);
    }
}

static void linear_rows(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear,
                        float *out, size_t out_stride, finish_fn *finish)
{
    int32_t sums[ROWS][MLY_KERN_PANEL];
    float y[MLY_KERN_PANEL];
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const float *scale = linear->scale + first, *sum = linear->sum + first;
        const float *bias = linear->bias + first;
        for (size_t row = 0; row < rows->count; row += ROWS) {
            const size_t left = rows->count - row, count = left < ROWS ? left : ROWS;
            panel_sums(rows, row, count, linear->panels + first * linear->in, linear->in, sums);
            for (size_t r = 0; r < count; r++) {
                const float row_scale = rows->scale[row + r], row_low = rows->low[row + r];
                for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
                    y[o] = (float)sums[r][o] * scale[o] * row_scale + (sum[o] * row_low + bias[o]);
                }
                finish(y, out + (row + r) * out_stride + first);
            }
        }
    }
}

void mly_kern_linear_u8s8_f32_scalar(const struct mly_kern_rows *rows,
                                     const struct mly_kern_linear *linear, float *out,
                                     size_t out_stride)
{
    linear_rows(rows, linear, out, out_stride, store);
}

void mly_kern_linear_add_u8s8_f32_scalar(const struct mly_kern_rows *rows,
                                         const struct mly_kern_linear *linear, float *out,
                                         size_t out_stride)
{
    linear_rows(rows, linear, out, out_stride, add);
}

void mly_kern_linear_gelu_u8s8_f32_scalar(const struct mly_kern_rows *rows,
                                          const struct mly_kern_linear *linear, float *out,
                                          size_t out_stride)
{
    linear_rows(rows, linear, out, out_stride, store_gelu);
}
