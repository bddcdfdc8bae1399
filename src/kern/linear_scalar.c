/* Linear layers on quantised rows, the definition: u8 x s8 products summed exactly in 32 bits, then
 * one float formula per output.
 *
 *   y = (sum * scale) * row_scale + (weight_sum * row_low + bias)
 *
 * The zero point of a row (low) costs one product because the sum of each output's weights is known
 * beforehand.
 */
#include "kern/kern_int.h"

#include <math.h>

static void panel_sums(const uint8_t *row, const int8_t *panel, size_t in,
                       int32_t sums[MLY_KERN_PANEL])
{
    for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
        sums[o] = 0;
    }
    for (size_t i = 0; i < in; i += MLY_KERN_STEP) {
        const int8_t *step = panel + i * MLY_KERN_PANEL;
        const int16_t a0 = row[i], a1 = row[i + 1], a2 = row[i + 2], a3 = row[i + 3];
        for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
            const int8_t *w = step + MLY_KERN_STEP * o;
            sums[o] += a0 * w[0] + a1 * w[1] + a2 * w[2] + a3 * w[3];
        }
    }
}

/* y of one row and one panel. */
static void panel_outputs(const struct mly_kern_rows *rows, size_t row,
                          const struct mly_kern_linear *linear, size_t first,
                          float y[MLY_KERN_PANEL])
{
    int32_t sums[MLY_KERN_PANEL];
    panel_sums(rows->q + row * rows->stride, linear->panels + first * linear->in, linear->in, sums);
    for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
        y[o] = (float)sums[o] * linear->scale[first + o] * rows->scale[row] +
               (linear->sum[first + o] * rows->low[row] + linear->bias[first + o]);
    }
}

static float gelu(float x)
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const float size = fabsf(x);
    const float a = size < KERN_GELU_END ? size : KERN_GELU_END;
    float p = c[8];
    for (size_t i = 8; i > 0; i--) {
        p = p * a + c[i - 1];
    }
    return (x > 0.0f ? x : 0.0f) + p;
}

void mly_kern_linear_u8s8_f32_scalar(const struct mly_kern_rows *rows,
                                     const struct mly_kern_linear *linear, float *out,
                                     size_t out_stride)
{
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        for (size_t row = 0; row < rows->count; row++) {
            panel_outputs(rows, row, linear, first, out + row * out_stride + first);
        }
    }
}

void mly_kern_linear_add_u8s8_f32_scalar(const struct mly_kern_rows *rows,
                                         const struct mly_kern_linear *linear, float *out,
                                         size_t out_stride)
{
    float y[MLY_KERN_PANEL];
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        for (size_t row = 0; row < rows->count; row++) {
            panel_outputs(rows, row, linear, first, y);
            mly_kern_add_f32_scalar(y, MLY_KERN_PANEL, out + row * out_stride + first);
        }
    }
}

void mly_kern_linear_gelu_u8s8_f32_scalar(const struct mly_kern_rows *rows,
                                          const struct mly_kern_linear *linear, float *out,
                                          size_t out_stride)
{
    float y[MLY_KERN_PANEL];
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        for (size_t row = 0; row < rows->count; row++) {
            panel_outputs(rows, row, linear, first, y);
            for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
                out[row * out_stride + first + o] = gelu(y[o]);
            }
        }
    }
}
