/* Dot products of floats with AVX-512: the sixteen lanes of the definition are one register.
 *
 * Several rows go side by side, because a single chain of additions waits for itself; that changes
 * no row's order.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512F__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

static inline float fold(__m512 lanes)
{
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline __m512 step(__m512 lanes, const float *a, const float *b)
{
    return _mm512_add_ps(lanes, _mm512_mul_ps(_mm512_loadu_ps(a), _mm512_loadu_ps(b)));
}

/* Lanes beyond the end are neither read nor changed. */
static inline __m512 last(__m512 lanes, const float *a, const float *b, __mmask16 mask)
{
    const __m512 product =
        _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, a), _mm512_maskz_loadu_ps(mask, b));
    return _mm512_mask_add_ps(lanes, mask, lanes, product);
}

float mly_kern_dot_f32_avx512vnni(const float *a, const float *b, size_t n)
{
    const size_t whole = n - n % KERN_LANES;
    const __mmask16 mask = (__mmask16)((1u << (n % KERN_LANES)) - 1u);
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < whole; i += KERN_LANES) {
        lanes = step(lanes, a + i, b + i);
    }
    return fold(last(lanes, a + whole, b + whole, mask));
}

void mly_kern_scores_f32_avx512vnni(const float *query, const float *rows, size_t row_count,
                                    size_t dim, float *scores)
{
    const size_t whole = dim - dim % KERN_LANES;
    const __mmask16 mask = (__mmask16)((1u << (dim % KERN_LANES)) - 1u);
    size_t row = 0;
    for (; row + 4 <= row_count; row += 4) {
        const float *a = rows + row * dim, *b = a + dim, *c = b + dim, *d = c + dim;
        __m512 la = _mm512_setzero_ps(), lb = la, lc = la, ld = la;
        for (size_t i = 0; i < whole; i += KERN_LANES) {
            la = step(la, query + i, a + i);
            lb = step(lb, query + i, b + i);
            lc = step(lc, query + i, c + i);
            ld = step(ld, query + i, d + i);
        }
        scores[row] = fold(last(la, query + whole, a + whole, mask));
        scores[row + 1] = fold(last(lb, query + whole, b + whole, mask));
        scores[row + 2] = fold(last(lc, query + whole, c + whole, mask));
        scores[row + 3] = fold(last(ld, query + whole, d + whole, mask));
    }
    for (; row < row_count; row++) {
        scores[row] = mly_kern_dot_f32_avx512vnni(query, rows + row * dim, dim);
    }
}
