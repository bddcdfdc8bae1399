/* Products of matrices of floats whose sums have one order, so that they have the same bits on
 * every machine: each output is summed over the inputs in their order, products and sums rounded
 * one by one. Lanes of a vector are different outputs, so a set may be as wide as it likes.
 *
 * Shapes   rows f32[count][stride]; panels f32[outs / 64][in][64]; out f32[count][out_stride].
 * Range    in and outs are multiples of 64.
 */
#ifndef MLY_EMBED_QUANTISE_MATRIX_H
#define MLY_EMBED_QUANTISE_MATRIX_H

#include "kern/kern.h"

#define MLY_MATRIX_PANEL MLY_KERN_PANEL

struct mly_matrix_rows {
    const float *at;
    size_t stride, count;
};

/* out[r][o] = out[r][o] + (sum over i of rows[r][i] * panels[o / 64][i][o % 64]); panel_stride:
 * floats from one panel to the next, so that the inputs of a panel may be a part of it. */
void mly_matrix_add(const struct mly_kern *kern, const struct mly_matrix_rows *rows,
                    const float *panels, size_t panel_stride, size_t in, size_t outs, float *out,
                    size_t out_stride);

#endif
