/* Products of matrices in one fixed order; see matrix.h. The engine's layers on floats have it. */
#include "embed/quantise/matrix.h"

void mly_matrix_add(const struct mly_kern *kern, const struct mly_matrix_rows *rows,
                    const float *panels, size_t panel_stride, size_t in, size_t outs, float *out,
                    size_t out_stride)
{
    static const float zeros[MLY_MATRIX_PANEL];
    for (size_t o = 0; o < outs; o += MLY_MATRIX_PANEL) {
        const struct mly_kern_linear_f32 panel = {panels + o / MLY_MATRIX_PANEL * panel_stride,
                                                  zeros, in, MLY_MATRIX_PANEL};
        kern->linear_f32(rows->at, rows->stride, rows->count, &panel, MLY_KERN_ADD, out + o,
                         out_stride);
    }
}
