/* Linear layers in floats with AVX2: tiles of 6 rows by 16 outputs. The definition is
 * linear_float_scalar.c.
 *
 * 12 sums, 2 registers of weights, 1 broadcast input and 1 product: all 16 registers; in assembly
 * because gcc 12 spills the sums when it is given intrinsics.
 */
#include "kern/kern_int.h"

#if !defined(__AVX2__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define HALF 8 /* floats in one register */
_Static_assert(KERN_FLOAT_CHUNK == 64 && MLY_KERN_PANEL == 64, "numbers in assembly");

#define ROW(at, a, b)                                                                              \
    "vbroadcastss " at "(%[x]), %%ymm14\n\t"                                                       \
    "vmulps %%ymm12, %%ymm14, %%ymm15\n\t"                                                         \
    "vmulps %%ymm13, %%ymm14, %%ymm14\n\t"                                                         \
    "vaddps %%ymm15, %%ymm" a ", %%ymm" a "\n\t"                                                   \
    "vaddps %%ymm14, %%ymm" b ", %%ymm" b "\n\t"
#define LOAD(at, a, b)                                                                             \
    "vmovaps " at "(%[sums]), %%ymm" a "\n\t"                                                      \
    "vmovaps " at "+32(%[sums]), %%ymm" b "\n\t"
#define STORE(at, a, b)                                                                            \
    "vmovaps %%ymm" a ", " at "(%[sums])\n\t"                                                      \
    "vmovaps %%ymm" b ", " at "+32(%[sums])\n\t"
#define ROWS(what)                                                                                 \
    what("0", "0", "1") what("256", "2", "3") what("512", "4", "5") what("768", "6", "7")          \
        what("1024", "8", "9") what("1280", "10", "11")
#define WEIGHTS                                                                                    \
    "vmovups (%[weights]), %%ymm12\n\t"                                                            \
    "vmovups 32(%[weights]), %%ymm13\n\t"
#define NEXT                                                                                       \
    "add $256, %[weights]\n\t"                                                                     \
    "add $4, %[x]\n\t"                                                                             \
    "cmp %[end], %[weights]\n\t"                                                                   \
    "jb 1b\n\t"

/* 16 outputs of the tile; weights and sums begin at them. */
static inline void add_part(const float *x, const float *weights, float *sums)
{
    const float *const end = weights + KERN_FLOAT_CHUNK * MLY_KERN_PANEL;
    __asm__ volatile(ROWS(LOAD) ".p2align 5\n1:\n\t" WEIGHTS ROWS(ROW) NEXT ROWS(STORE)
                     : [x] "+r"(x), [weights] "+r"(weights)
                     : [end] "r"(end), [sums] "r"(sums)
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                       "xmm15");
}

static void add_tile(const float *x, const float *weights, float *sums)
{
    for (size_t o = 0; o < MLY_KERN_PANEL; o += KERN_LANES) {
        add_part(x, weights + o, sums + o);
    }
}

static inline __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static void unpack(const uint16_t *chunk, float *weights)
{
    const __m256i upper = _mm256_set1_epi32((int32_t)0xffff0000);
    for (size_t i = 0; i < KERN_FLOAT_CHUNK; i += 2) {
        for (size_t o = 0; o < MLY_KERN_PANEL; o += HALF) {
            const __m256i pairs = load(chunk + i * MLY_KERN_PANEL + 2 * o);
            float *to = weights + i * MLY_KERN_PANEL + o;
            _mm256_storeu_ps(to, _mm256_castsi256_ps(_mm256_and_si256(pairs, upper)));
            _mm256_storeu_ps(to + MLY_KERN_PANEL,
                             _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)));
        }
    }
}

static inline __m256 gelu(__m256 x)
{
    static const float c[] = KERN_FINE_GELU_COEFFICIENTS;
    const __m256 size = _mm256_min_ps(_mm256_andnot_ps(_mm256_set1_ps(-0.0f), x),
                                      _mm256_set1_ps(KERN_FINE_GELU_END));
    const __m256 a = _mm256_sub_ps(size, _mm256_set1_ps(KERN_FINE_GELU_END / 2));
    __m256 p = _mm256_set1_ps(c[KERN_FINE_GELU_DEGREE]);
    for (size_t i = KERN_FINE_GELU_DEGREE; i > 0; i--) {
        p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[i - 1]));
    }
    return _mm256_add_ps(_mm256_max_ps(x, _mm256_setzero_ps()), p);
}

void mly_kern_float_finish_avx2(const float *sums, const float *bias, size_t count,
                                enum mly_kern_finish finish, float *out, size_t out_stride)
{
    for (size_t row = 0; row < count; row++) {
        for (size_t o = 0; o < MLY_KERN_PANEL; o += HALF) {
            float *target = out + row * out_stride + o;
            __m256 y = _mm256_add_ps(_mm256_loadu_ps(sums + row * MLY_KERN_PANEL + o),
                                     _mm256_loadu_ps(bias + o));
            if (finish == MLY_KERN_ADD) y = _mm256_add_ps(_mm256_loadu_ps(target), y);
            if (finish == MLY_KERN_GELU) y = gelu(y);
            _mm256_storeu_ps(target, y);
        }
    }
}

static const struct kern_float_parts parts = {add_tile, unpack, mly_kern_float_finish_avx2};

void mly_kern_linear_f32_avx2(const float *rows, size_t stride, size_t count,
                              const struct mly_kern_linear_f32 *linear, enum mly_kern_finish finish,
                              float *out, size_t out_stride)
{
    mly_kern_linear_f32_by(&parts, rows, stride, count, linear, finish, out, out_stride);
}

void mly_kern_linear_bf16_avx2(const uint16_t *rows, size_t stride, size_t count,
                               const struct mly_kern_linear_bf16 *linear,
                               enum mly_kern_finish finish, float *out, size_t out_stride)
{
    mly_kern_linear_bf16_by(&parts, rows, stride, count, linear, finish, out, out_stride);
}

/* Eight numbers, rounded, each in the low half of its 32 bits. */
static inline __m256i round_eight(const float *x)
{
    const __m256 value = _mm256_loadu_ps(x), size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), value);
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i more = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, more), 16);
    const __m256 small = _mm256_cmp_ps(size, _mm256_set1_ps(MLY_KERN_BF16_MIN), _CMP_LT_OQ);
    const __m256 none = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
    const __m256i large = _mm256_andnot_si256(_mm256_castps_si256(small), rounded);
    return _mm256_blendv_epi8(large, _mm256_set1_epi32(0x7fc0), _mm256_castps_si256(none));
}

void mly_kern_round_f32_bf16_avx2(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m256i both = _mm256_packus_epi32(round_eight(x + i), round_eight(x + i + HALF));
        _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm256_permute4x64_epi64(both, 0xd8));
    }
}
