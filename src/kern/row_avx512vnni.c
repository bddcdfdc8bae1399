/* What happens to one row of floats between the products, with AVX-512. The definition is
 * row_scalar.c; n is a multiple of 16, so a register is the sixteen lanes.
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

/* 1.0f / sqrtf in the instructions of one float: library calls are not for this file. */
static inline float inverse_root(float x)
{
    const __m128 root = _mm_sqrt_ss(_mm_set_ss(x));
    return 1.0f / _mm_cvtss_f32(root);
}

void mly_kern_dequantize_s8_f32_avx512vnni(const int8_t *row, float scale, const float *base,
                                           size_t n, float *out)
{
    const __m512 factor = _mm512_set1_ps(scale);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(row + i));
        const __m512 value = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
        const __m512 sum = _mm512_add_ps(_mm512_mul_ps(value, factor), _mm512_loadu_ps(base + i));
        _mm512_storeu_ps(out + i, sum);
    }
}

static inline __m512 root_of(__m512 lanes, size_t n, float epsilon)
{
    return _mm512_set1_ps(inverse_root(fold(lanes) / (float)n + epsilon));
}

#define NORM_ROWS 4

/* So many rows side by side: what one row's sums wait for, the others hide. */
static inline void norm_rows(float *x, const float *weight, const float *bias, size_t n,
                             float epsilon)
{
    __m512 sums[NORM_ROWS], means[NORM_ROWS];
    for (size_t r = 0; r < NORM_ROWS; r++) {
        sums[r] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t r = 0; r < NORM_ROWS; r++) {
            sums[r] = _mm512_add_ps(sums[r], _mm512_loadu_ps(x + r * n + i));
        }
    }
    for (size_t r = 0; r < NORM_ROWS; r++) {
        means[r] = _mm512_set1_ps(fold(sums[r]) / (float)n);
        sums[r] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < n; i += KERN_LANES) {
        for (size_t r = 0; r < NORM_ROWS; r++) {
            const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + r * n + i), means[r]);
            sums[r] = _mm512_add_ps(sums[r], _mm512_mul_ps(d, d));
        }
    }
    for (size_t r = 0; r < NORM_ROWS; r++) {
        sums[r] = root_of(sums[r], n, epsilon);
    }
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m512 by = _mm512_loadu_ps(weight + i), plus = _mm512_loadu_ps(bias + i);
        for (size_t r = 0; r < NORM_ROWS; r++) {
            const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + r * n + i), means[r]);
            const __m512 u = _mm512_mul_ps(d, sums[r]);
            _mm512_storeu_ps(x + r * n + i, _mm512_add_ps(_mm512_mul_ps(u, by), plus));
        }
    }
}

static inline void norm_row(float *x, const float *weight, const float *bias, size_t n,
                            float epsilon)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += KERN_LANES) {
        sum = _mm512_add_ps(sum, _mm512_loadu_ps(x + i));
    }
    const __m512 mean = _mm512_set1_ps(fold(sum) / (float)n);
    sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m512 d = _mm512_sub_ps(_mm512_loadu_ps(x + i), mean);
        sum = _mm512_add_ps(sum, _mm512_mul_ps(d, d));
    }
    const __m512 factor = root_of(sum, n, epsilon);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m512 u = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), mean), factor);
        const __m512 y = _mm512_mul_ps(u, _mm512_loadu_ps(weight + i));
        _mm512_storeu_ps(x + i, _mm512_add_ps(y, _mm512_loadu_ps(bias + i)));
    }
}

void mly_kern_layer_norm_f32_avx512vnni(float *x, size_t count, const float *weight,
                                        const float *bias, size_t n, float epsilon)
{
    size_t row = 0;
    for (; row + NORM_ROWS <= count; row += NORM_ROWS) {
        norm_rows(x + row * n, weight, bias, n, epsilon);
    }
    for (; row < count; row++) {
        norm_row(x + row * n, weight, bias, n, epsilon);
    }
}

static inline __m512 times(const float *x, const float *factor, size_t i)
{
    const __m512 value = _mm512_loadu_ps(x + i);
    return factor == NULL ? value : _mm512_mul_ps(value, _mm512_loadu_ps(factor + i));
}

/* To nearest even. Not-a-number, and what does not fit, becomes the least integer. */
static inline __m512i to_whole(__m512 x, __m512 low, __m512 factor)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(x, low), factor));
}

/* The packing saturates at 0 and 255. It works within quarters of a register: the numbers 4 j to
 * 4 j + 3 of the four sources stand in quarter j, source by source, until the last step. */
static inline __attribute__((always_inline)) void
quantize(const float *x, const float *by, size_t n, float low, float high, uint8_t *q, float *scale)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    *scale = (high - low) / 255.0f + KERN_SCALE_MIN;
    const __m512 factor = _mm512_set1_ps(1.0f / *scale), start = _mm512_set1_ps(low);
    size_t i = 0;
    for (; i + 4 * KERN_LANES <= n; i += 4 * KERN_LANES) {
        const __m512i a = to_whole(times(x, by, i), start, factor);
        const __m512i b = to_whole(times(x, by, i + KERN_LANES), start, factor);
        const __m512i c = to_whole(times(x, by, i + 2 * KERN_LANES), start, factor);
        const __m512i d = to_whole(times(x, by, i + 3 * KERN_LANES), start, factor);
        const __m512i bytes =
            _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
        _mm512_storeu_si512(q + i, _mm512_permutexvar_epi32(order, bytes));
    }
    for (; i < n; i += KERN_LANES) {
        const __m512i a = to_whole(times(x, by, i), start, factor);
        const __m512i positive = _mm512_max_epi32(a, _mm512_setzero_si512());
        _mm_storeu_si128((__m128i *)(void *)(q + i), _mm512_cvtusepi32_epi8(positive));
    }
}

/* The least and the greatest number of two registers in one go: *high is -(the least of -most). */
static inline void fold_range(__m512 least, __m512 most, float *low, float *high)
{
    const __m512 none = _mm512_setzero_ps(), negative = _mm512_sub_ps(none, most);
    const __m512 first = _mm512_shuffle_f32x4(least, negative, 0x44);
    const __m512 second = _mm512_shuffle_f32x4(least, negative, 0xee);
    __m512 eights = _mm512_min_ps(first, second); /* eight numbers for each of the two */
    eights = _mm512_min_ps(eights, _mm512_shuffle_f32x4(eights, eights, 0xb1));
    eights = _mm512_min_ps(eights, _mm512_permute_ps(eights, 0x4e));
    eights = _mm512_min_ps(eights, _mm512_permute_ps(eights, 0xb1));
    *low = _mm512_cvtss_f32(eights);
    *high = -_mm_cvtss_f32(_mm512_extractf32x4_ps(eights, 2));
}

void mly_kern_quantize_f32_u8_avx512vnni(const float *x, const float *factor, size_t n, uint8_t *q,
                                         float *scale, float *low)
{
    __m512 least = times(x, factor, 0), most = least;
    for (size_t i = KERN_LANES; i < n; i += KERN_LANES) {
        const __m512 value = times(x, factor, i);
        least = _mm512_min_ps(value, least);
        most = _mm512_max_ps(value, most);
    }
    float lowest, highest;
    fold_range(least, most, &lowest, &highest);
    *low = lowest + 0.0f; /* As the definition: -0 becomes 0. */
    quantize(x, factor, n, *low, highest, q, scale);
}

void mly_kern_quantize_from_f32_u8_avx512vnni(const float *x, size_t n, float low, uint8_t *q,
                                              float *scale)
{
    __m512 most = _mm512_set1_ps(low);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        most = _mm512_max_ps(_mm512_loadu_ps(x + i), most);
    }
    quantize(x, NULL, n, low, _mm512_reduce_max_ps(most), q, scale);
}

void mly_kern_add_f32_avx512vnni(const float *x, size_t n, float *sum)
{
    for (size_t i = 0; i < n; i += KERN_LANES) {
        _mm512_storeu_ps(sum + i, _mm512_add_ps(_mm512_loadu_ps(sum + i), _mm512_loadu_ps(x + i)));
    }
}

void mly_kern_scale_f32_avx512vnni(float *x, size_t n, float factor)
{
    const __m512 factors = _mm512_set1_ps(factor);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_loadu_ps(x + i), factors));
    }
}
