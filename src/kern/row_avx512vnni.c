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

void mly_kern_layer_norm_f32_avx512vnni(float *x, const float *weight, const float *bias, size_t n,
                                        float epsilon)
{
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += KERN_LANES) {
        lanes = _mm512_add_ps(lanes, _mm512_loadu_ps(x + i));
    }
    const __m512 mean = _mm512_set1_ps(fold(lanes) / (float)n);
    lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m512 difference = _mm512_sub_ps(_mm512_loadu_ps(x + i), mean);
        lanes = _mm512_add_ps(lanes, _mm512_mul_ps(difference, difference));
    }
    const __m512 factor = _mm512_set1_ps(inverse_root(fold(lanes) / (float)n + epsilon));
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m512 unit = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), mean), factor);
        const __m512 y = _mm512_add_ps(_mm512_mul_ps(unit, _mm512_loadu_ps(weight + i)),
                                       _mm512_loadu_ps(bias + i));
        _mm512_storeu_ps(x + i, y);
    }
}

static inline void quantize(const float *x, size_t n, float low, float high, uint8_t *q,
                            float *scale)
{
    *scale = (high - low) / 255.0f + KERN_SCALE_MIN;
    const __m512 factor = _mm512_set1_ps(1.0f / *scale), start = _mm512_set1_ps(low);
    const __m512 none = _mm512_setzero_ps(), most = _mm512_set1_ps(255.0f);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        __m512 value = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), start), factor);
        /* The order of the operands matters: not-a-number becomes the second. */
        value = _mm512_min_ps(_mm512_max_ps(value, none), most);
        const __m512i rounded = _mm512_cvtps_epi32(value); /* to nearest even */
        _mm_storeu_si128((__m128i *)(void *)(q + i), _mm512_cvtepi32_epi8(rounded));
    }
}

void mly_kern_quantize_f32_u8_avx512vnni(const float *x, size_t n, uint8_t *q, float *scale,
                                         float *low)
{
    __m512 least = _mm512_loadu_ps(x), most = least;
    for (size_t i = KERN_LANES; i < n; i += KERN_LANES) {
        const __m512 value = _mm512_loadu_ps(x + i);
        least = _mm512_min_ps(value, least);
        most = _mm512_max_ps(value, most);
    }
    *low = _mm512_reduce_min_ps(least) + 0.0f; /* As the definition: -0 becomes 0. */
    quantize(x, n, *low, _mm512_reduce_max_ps(most), q, scale);
}

void mly_kern_quantize_from_f32_u8_avx512vnni(const float *x, size_t n, float low, uint8_t *q,
                                              float *scale)
{
    __m512 most = _mm512_set1_ps(low);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        most = _mm512_max_ps(_mm512_loadu_ps(x + i), most);
    }
    quantize(x, n, low, _mm512_reduce_max_ps(most), q, scale);
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
