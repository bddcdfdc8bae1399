/* Linear layers in floats, the definition: each output is a chain of its own, product, sum,
 * product, sum, in the order of the inputs. Written so that compilers find the vectors of the
 * floor.
 */
#include "kern/kern_int.h"

#include <math.h>
#include <string.h>

/* Two rows, which share the loads of the weights, and four inputs, which share those of the sums.
 */
static void add_rows(const float *restrict a, const float *restrict b,
                     const float *restrict weights, float *restrict a_sums, float *restrict b_sums)
{
    for (size_t i = 0; i < KERN_FLOAT_CHUNK; i += 4) {
        const float *restrict w = weights + i * MLY_KERN_PANEL;
        const float a0 = a[i], a1 = a[i + 1], a2 = a[i + 2], a3 = a[i + 3];
        const float b0 = b[i], b1 = b[i + 1], b2 = b[i + 2], b3 = b[i + 3];
        for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
            const float w0 = w[o], w1 = w[MLY_KERN_PANEL + o];
            const float w2 = w[2 * MLY_KERN_PANEL + o], w3 = w[3 * MLY_KERN_PANEL + o];
            a_sums[o] = (((a_sums[o] + a0 * w0) + a1 * w1) + a2 * w2) + a3 * w3;
            b_sums[o] = (((b_sums[o] + b0 * w0) + b1 * w1) + b2 * w2) + b3 * w3;
        }
    }
}

static void add_tile(const float *x, const float *weights, float *sums)
{
    for (size_t r = 0; r < KERN_FLOAT_TILE; r += 2) {
        add_rows(x + r * KERN_FLOAT_CHUNK, x + (r + 1) * KERN_FLOAT_CHUNK, weights,
                 sums + r * MLY_KERN_PANEL, sums + (r + 1) * MLY_KERN_PANEL);
    }
}

static void unpack(const uint16_t *chunk, float *weights)
{
    for (size_t i = 0; i < KERN_FLOAT_CHUNK; i += 2) {
        const uint16_t *pairs = chunk + i * MLY_KERN_PANEL;
        uint32_t bits[2][MLY_KERN_PANEL];
        for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
            bits[0][o] = (uint32_t)pairs[2 * o + 1] << 16;
            bits[1][o] = (uint32_t)pairs[2 * o] << 16;
        }
        memcpy(weights + i * MLY_KERN_PANEL, bits, sizeof(bits));
    }
}

static float gelu(float x)
{
    static const float c[] = KERN_FINE_GELU_COEFFICIENTS;
    const float size = fabsf(x);
    const float a =
        (size < KERN_FINE_GELU_END ? size : KERN_FINE_GELU_END) - KERN_FINE_GELU_END / 2;
    float p = c[KERN_FINE_GELU_DEGREE];
    for (size_t i = KERN_FINE_GELU_DEGREE; i > 0; i--) {
        p = p * a + c[i - 1];
    }
    return (x > 0.0f ? x : 0.0f) + p;
}

void mly_kern_float_finish_scalar(const float *sums, const float *bias, size_t count,
                                  enum mly_kern_finish finish, float *out, size_t out_stride)
{
    for (size_t row = 0; row < count; row++) {
        for (size_t o = 0; o < MLY_KERN_PANEL; o++) {
            const float y = sums[row * MLY_KERN_PANEL + o] + bias[o];
            float *target = out + row * out_stride + o;
            *target = finish == MLY_KERN_ADD ? *target + y : finish == MLY_KERN_GELU ? gelu(y) : y;
        }
    }
}

static const struct kern_float_parts parts = {add_tile, unpack, mly_kern_float_finish_scalar};

void mly_kern_linear_f32_scalar(const float *rows, size_t stride, size_t count,
                                const struct mly_kern_linear_f32 *linear,
                                enum mly_kern_finish finish, float *out, size_t out_stride)
{
    mly_kern_linear_f32_by(&parts, rows, stride, count, linear, finish, out, out_stride);
}

void mly_kern_linear_bf16_scalar(const uint16_t *rows, size_t stride, size_t count,
                                 const struct mly_kern_linear_bf16 *linear,
                                 enum mly_kern_finish finish, float *out, size_t out_stride)
{
    mly_kern_linear_bf16_by(&parts, rows, stride, count, linear, finish, out, out_stride);
}

void mly_kern_round_f32_bf16_scalar(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
        out[i] = (uint16_t)(isnan(x[i]) ? 0x7fc0 : fabsf(x[i]) < MLY_KERN_BF16_MIN ? 0 : rounded);
    }
}
