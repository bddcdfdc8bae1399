/* Dot products of floats with AVX2: the sixteen lanes of the definition are two registers.
 *
 * Several rows go side by side, because a single chain of additions waits for itself; that changes
 * no row's order.
 */
#include "kern/kern_int.h"

#if !defined(__AVX2__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define HALF 8 /* lanes in one register */

struct lanes {
    __m256 low, high;
};

static inline struct lanes no_lanes(void)
{
    return (struct lanes){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

static inline float fold(struct lanes lanes)
{
    const __m256 eight = _mm256_add_ps(lanes.low, lanes.high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline struct lanes step(struct lanes lanes, const float *a, const float *b)
{
    const __m256 low = _mm256_mul_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(b));
    const __m256 high = _mm256_mul_ps(_mm256_loadu_ps(a + HALF), _mm256_loadu_ps(b + HALF));
    return (struct lanes){_mm256_add_ps(lanes.low, low), _mm256_add_ps(lanes.high, high)};
}

/* All bits set for the first rest of sixteen lanes. */
struct mask {
    __m256i low, high;
};

static inline struct mask first_lanes(size_t rest)
{
    static const int32_t ones_then_zeros[2 * KERN_LANES] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                                            -1, -1, -1, -1, -1, -1, -1, -1};
    const int32_t *from = ones_then_zeros + KERN_LANES - rest;
    return (struct mask){_mm256_loadu_si256((const __m256i *)(const void *)from),
                         _mm256_loadu_si256((const __m256i *)(const void *)(from + HALF))};
}

/* Lanes beyond the end are not read, and 0 is added to them: a lane is never -0 (it starts at 0),
 * so that is as good as leaving it. */
static inline struct lanes last(struct lanes lanes, const float *a, const float *b, size_t rest)
{
    if (rest == 0) return lanes;
    const struct mask mask = first_lanes(rest);
    const __m256 low =
        _mm256_mul_ps(_mm256_maskload_ps(a, mask.low), _mm256_maskload_ps(b, mask.low));
    lanes.low = _mm256_add_ps(lanes.low, low);
    if (rest > HALF) {
        const __m256 high = _mm256_mul_ps(_mm256_maskload_ps(a + HALF, mask.high),
                                          _mm256_maskload_ps(b + HALF, mask.high));
        lanes.high = _mm256_add_ps(lanes.high, high);
    }
    return lanes;
}

float mly_kern_dot_f32_avx2(const float *a, const float *b, size_t n)
{
    const size_t rest = n % KERN_LANES, whole = n - rest;
    struct lanes lanes = no_lanes();
    for (size_t i = 0; i < whole; i += KERN_LANES) {
        lanes = step(lanes, a + i, b + i);
    }
    return fold(last(lanes, a + whole, b + whole, rest));
}

void mly_kern_scores_f32_avx2(const float *query, const float *rows, size_t row_count, size_t dim,
                              float *scores)
{
    const size_t rest = dim % KERN_LANES, whole = dim - rest;
    size_t row = 0;
    for (; row + 4 <= row_count; row += 4) {
        const float *a = rows + row * dim, *b = a + dim, *c = b + dim, *d = c + dim;
        struct lanes la = no_lanes(), lb = la, lc = la, ld = la;
        for (size_t i = 0; i < whole; i += KERN_LANES) {
            la = step(la, query + i, a + i);
            lb = step(lb, query + i, b + i);
            lc = step(lc, query + i, c + i);
            ld = step(ld, query + i, d + i);
        }
        scores[row] = fold(last(la, query + whole, a + whole, rest));
        scores[row + 1] = fold(last(lb, query + whole, b + whole, rest));
        scores[row + 2] = fold(last(lc, query + whole, c + whole, rest));
        scores[row + 3] = fold(last(ld, query + whole, d + whole, rest));
    }
    for (; row < row_count; row++) {
        scores[row] = mly_kern_dot_f32_avx2(query, rows + row * dim, dim);
    }
}
