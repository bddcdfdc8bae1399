/* Products of matrices in one fixed order; see matrix.h. */
#include "embed/quantise/matrix.h"

#include <stdbool.h>

#define PANEL MLY_MATRIX_PANEL

static void add_panel(const float *a, const float *b, size_t in, const float *panel,
                      float *restrict a_out, float *restrict b_out)
{
    for (size_t o = 0; o < PANEL; o += 16) {
        float a_sum[16] = {0}, b_sum[16] = {0};
        for (size_t i = 0; i < in; i++) {
            const float *w = panel + i * PANEL + o;
            const float x = a[i], y = b[i];
            for (size_t l = 0; l < 16; l++) {
                a_sum[l] += x * w[l];
                b_sum[l] += y * w[l];
            }
        }
        for (size_t l = 0; l < 16; l++) {
            a_out[o + l] += a_sum[l];
            if (b_out != NULL) b_out[o + l] += b_sum[l];
        }
    }
}

void mly_matrix_add(const struct mly_kern *kern, const struct mly_matrix_rows *rows,
                    const float *panels, size_t panel_stride, size_t in, size_t outs, float *out,
                    size_t out_stride)
{
    (void)kern;
    for (size_t o = 0; o < outs; o += PANEL) {
        const float *panel = panels + o / PANEL * panel_stride;
        for (size_t r = 0; r < rows->count; r += 2) {
            const float *a = rows->at + r * rows->stride;
            const bool two = r + 1 < rows->count;
            add_panel(a, two ? a + rows->stride : a, in, panel, out + r * out_stride + o,
                      two ? out + (r + 1) * out_stride + o : NULL);
        }
    }
}
