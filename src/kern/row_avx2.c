/* What happens to one row of floats between the products, with AVX2. The definition is
 * row_scalar.c; n is a multiple of 16, so two registers are the sixteen lanes.
 */
#include "kern/kern_int.h"

#if !defined(__AVX2__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define HALF 8 /* lanes in one register */

static inline float fold(__m256 low, __m256 high)
{
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float least_of(__m256 eight)
{
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

static inline float most_of(__m256 eight)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* 1.0f / sqrtf in the instructions of one float: library calls are not for this file. */
static inline float inverse_root(float x)
{
    const __m128 root = _mm_sqrt_ss(_mm_set_ss(x));
    return 1.0f / _mm_cvtss_f32(root);
}

void mly_kern_dequantize_s8_f32_avx2(const int8_t *row, float scale, const float *base, size_t n,
                                     float *out)
{
    const __m256 factor = _mm256_set1_ps(scale);
    for (size_t i = 0; i < n; i += HALF) {
        const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)(row + i));
        const __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
        const __m256 sum = _mm256_add_ps(_mm256_mul_ps(value, factor), _mm256_loadu_ps(base + i));
        _mm256_storeu_ps(out + i, sum);
    }
}

static void layer_norm(float *x, const float *weight, const float *bias, size_t n, float epsilon)
{
    __m256 low = _mm256_setzero_ps(), high = low;
    for (size_t i = 0; i < n; i += KERN_LANES) {
        low = _mm256_add_ps(low, _mm256_loadu_ps(x + i));
        high = _mm256_add_ps(high, _mm256_loadu_ps(x + i + HALF));
    }
    const __m256 mean = _mm256_set1_ps(fold(low, high) / (float)n);
    low = high = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m256 a = _mm256_sub_ps(_mm256_loadu_ps(x + i), mean);
        const __m256 b = _mm256_sub_ps(_mm256_loadu_ps(x + i + HALF), mean);
        low = _mm256_add_ps(low, _mm256_mul_ps(a, a));
        high = _mm256_add_ps(high, _mm256_mul_ps(b, b));
    }
    const __m256 factor = _mm256_set1_ps(inverse_root(fold(low, high) / (float)n + epsilon));
    for (size_t i = 0; i < n; i += HALF) {
        const __m256 unit = _mm256_mul_ps(_mm256_sub_ps(_mm256_loadu_ps(x + i), mean), factor);
        const __m256 y = _mm256_add_ps(_mm256_mul_ps(unit, _mm256_loadu_ps(weight + i)),
                                       _mm256_loadu_ps(bias + i));
        _mm256_storeu_ps(x + i, y);
    }
}

void mly_kern_layer_norm_f32_avx2(float *x, size_t count, const float *weight, const float *bias,
                                  size_t n, float epsilon)
{
    for (size_t row = 0; row < count; row++) {
        layer_norm(x + row * n, weight, bias, n, epsilon);
    }
}

/* Eight bytes as integers of 32 bits. */
static inline __m256i to_bytes(__m256 x, __m256 low, __m256 factor)
{
    const __m256 value = _mm256_mul_ps(_mm256_sub_ps(x, low), factor);
    /* The order of the operands matters: not-a-number becomes the second. */
    const __m256 at_least_0 = _mm256_max_ps(value, _mm256_setzero_ps());
    return _mm256_cvtps_epi32(_mm256_min_ps(at_least_0, _mm256_set1_ps(255.0f))); /* to even */
}

static inline __m256 times(const float *x, const float *factor, size_t i)
{
    const __m256 value = _mm256_loadu_ps(x + i);
    return factor == NULL ? value : _mm256_mul_ps(value, _mm256_loadu_ps(factor + i));
}

static inline void quantize(const float *x, const float *by, size_t n, float low, float high,
                            uint8_t *q, float *scale)
{
    *scale = (high - low) / 255.0f + KERN_SCALE_MIN;
    const __m256 factor = _mm256_set1_ps(1.0f / *scale), start = _mm256_set1_ps(low);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m256i a = to_bytes(times(x, by, i), start, factor);
        const __m256i b = to_bytes(times(x, by, i + HALF), start, factor);
        /* Packing works within halves of 128 bits: a0 b0 a1 b1 is put right by the permutation. */
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
        const __m128i bytes =
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((__m128i *)(void *)(q + i), bytes);
    }
}

void mly_kern_quantize_f32_u8_avx2(const float *x, const float *factor, size_t n, uint8_t *q,
                                   float *scale, float *low)
{
    __m256 least = times(x, factor, 0), most = least;
    for (size_t i = HALF; i < n; i += HALF) {
        const __m256 value = times(x, factor, i);
        least = _mm256_min_ps(value, least);
        most = _mm256_max_ps(value, most);
    }
    *low = least_of(least) + 0.0f; /* As the definition: -0 becomes 0. */
    quantize(x, factor, n, *low, most_of(most), q, scale);
}

void mly_kern_quantize_from_f32_u8_avx2(const float *x, size_t n, float low, uint8_t *q,
                                        float *scale)
{
    __m256 most = _mm256_set1_ps(low);
    for (size_t i = 0; i < n; i += HALF) {
        most = _mm256_max_ps(_mm256_loadu_ps(x + i), most);
    }
    quantize(x, NULL, n, low, most_of(most), q, scale);
}

void mly_kern_add_f32_avx2(const float *x, size_t n, float *sum)
{
    for (size_t i = 0; i < n; i += HALF) {
        _mm256_storeu_ps(sum + i, _mm256_add_ps(_mm256_loadu_ps(sum + i), _mm256_loadu_ps(x + i)));
    }
}

void mly_kern_scale_f32_avx2(float *x, size_t n, float factor)
{
    const __m256 factors = _mm256_set1_ps(factor);
    for (size_t i = 0; i < n; i += HALF) {
        _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), factors));
    }
}
