/* Linear layers in floats: what all sets share. A panel's outputs are summed for a block of rows,
 * one chunk of inputs after the other, so that a chunk's weights stay in the first cache while the
 * rows pass. bf16 weights are unpacked once per chunk and block and then are floats like any other:
 * a product of two bf16 is exact in a float, so nothing is lost by taking it there.
 */
#include "kern/kern_int.h"

#include <stdalign.h>
#include <string.h>

#define ROWS 48 /* share one unpacked chunk; their sums are 12 KB */
_Static_assert(ROWS % KERN_FLOAT_TILE == 0, "the last tile of a block has all its rows of sums");

typedef float tile_inputs[KERN_FLOAT_TILE][KERN_FLOAT_CHUNK];

/* A short tile repeats its last row. */
static size_t tile_row(size_t first, size_t r, size_t count)
{
    return first + r < count ? first + r : count - 1;
}

void mly_kern_linear_f32_by(const struct kern_float_parts *parts, const float *rows, size_t stride,
                            size_t count, const struct mly_kern_linear_f32 *linear,
                            enum mly_kern_finish finish, float *out, size_t out_stride)
{
    alignas(64) float sums[ROWS][MLY_KERN_PANEL];
    alignas(64) tile_inputs x;
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const float *panel = linear->panels + first * linear->in;
        for (size_t row = 0; row < count; row += ROWS) {
            const size_t n = count - row < ROWS ? count - row : ROWS;
            memset(sums, 0, sizeof(sums));
            for (size_t i = 0; i < linear->in; i += KERN_FLOAT_CHUNK) {
                for (size_t t = 0; t < n; t += KERN_FLOAT_TILE) {
                    for (size_t r = 0; r < KERN_FLOAT_TILE; r++) {
                        memcpy(x[r], rows + (row + tile_row(t, r, n)) * stride + i, sizeof(x[r]));
                    }
                    parts->add_tile(x[0], panel + i * MLY_KERN_PANEL, sums[t]);
                }
            }
            parts->finish(sums[0], linear->bias + first, n, finish, out + row * out_stride + first,
                          out_stride);
        }
    }
}

static inline float widen(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* Inputs 1, 0, 3, 2 ... of a row, as floats. */
static void widen_inputs(const uint16_t *row, float *out)
{
    for (size_t i = 0; i < KERN_FLOAT_CHUNK; i += 2) {
        out[i] = widen((uint32_t)row[i + 1] << 16);
        out[i + 1] = widen((uint32_t)row[i] << 16);
    }
}

void mly_kern_linear_bf16_by(const struct kern_float_parts *parts, const uint16_t *rows,
                             size_t stride, size_t count, const struct mly_kern_linear_bf16 *linear,
                             enum mly_kern_finish finish, float *out, size_t out_stride)
{
    alignas(64) float sums[ROWS][MLY_KERN_PANEL];
    alignas(64) float weights[KERN_FLOAT_CHUNK * MLY_KERN_PANEL];
    alignas(64) tile_inputs x;
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const uint16_t *panel = linear->panels + first * linear->in;
        for (size_t row = 0; row < count; row += ROWS) {
            const size_t n = count - row < ROWS ? count - row : ROWS;
            memset(sums, 0, sizeof(sums));
            for (size_t i = 0; i < linear->in; i += KERN_FLOAT_CHUNK) {
                parts->unpack(panel + i * MLY_KERN_PANEL, weights);
                for (size_t t = 0; t < n; t += KERN_FLOAT_TILE) {
                    for (size_t r = 0; r < KERN_FLOAT_TILE; r++) {
                        widen_inputs(rows + (row + tile_row(t, r, n)) * stride + i, x[r]);
                    }
                    parts->add_tile(x[0], weights, sums[t]);
                }
            }
            parts->finish(sums[0], linear->bias + first, n, finish, out + row * out_stride + first,
                          out_stride);
        }
    }
}
