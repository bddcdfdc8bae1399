/* Dot products of floats, the definition: sixteen partial sums, folded in a fixed order.
 *
 * The lanes stand in an array and the inner loop has a fixed count, so that compilers keep them in
 * whatever vector registers the floor has without changing the order.
 */
#include "kern/kern_int.h"

float mly_kern_dot_f32_scalar(const float *a, const float *b, size_t n)
{
    float lanes[KERN_LANES] = {0};
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        for (size_t lane = 0; lane < KERN_LANES; lane++) {
            lanes[lane] += a[i + lane] * b[i + lane];
        }
    }
    for (size_t lane = 0; i + lane < n; lane++) {
        lanes[lane] += a[i + lane] * b[i + lane];
    }
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

void mly_kern_scores_f32_scalar(const float *query, const float *rows, size_t row_count, size_t dim,
                                float *scores)
{
    for (size_t row = 0; row < row_count; row++) {
        scores[row] = mly_kern_dot_f32_scalar(query, rows + row * dim, dim);
    }
}
