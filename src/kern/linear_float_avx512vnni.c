/* Linear layers in floats with AVX-512: tiles of 6 rows by 64 outputs. The definition is
 * linear_float_scalar.c.
 *
 * The inner loop holds 24 sums, 4 registers of weights, 1 broadcast input and 3 products: all 32
 * registers; in assembly because gcc 12 spills the sums when it is given intrinsics.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512F__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

_Static_assert(KERN_FLOAT_CHUNK == 64 && MLY_KERN_PANEL == 64, "numbers in assembly");

#define STEP(b, w, product, sum)                                                                   \
    "vmulps %%zmm" w ", %%zmm" b ", %%zmm" product "\n\t"                                          \
    "vaddps %%zmm" product ", %%zmm" sum ", %%zmm" sum "\n\t"
/* One input of one row, `at` bytes behind the tile's, into its four sums. */
#define ROW(at, s0, s1, s2, s3)                                                                    \
    "vbroadcastss " at "(%[x]), %%zmm28\n\t" STEP("28", "24", "29", s0) STEP("28", "25", "30", s1) \
        STEP("28", "26", "31", s2) STEP("28", "27", "29", s3)
#define MOVE4(move, s0, s1, s2, s3, at)                                                            \
    move(at "+0", s0) move(at "+64", s1) move(at "+128", s2) move(at "+192", s3)
#define LOAD(at, s) "vmovaps " at "(%[sums]), %%zmm" s "\n\t"
#define STORE(at, s) "vmovaps %%zmm" s ", " at "(%[sums])\n\t"
#define SUMS(move)                                                                                 \
    MOVE4(move, "0", "1", "2", "3", "0")                                                           \
    MOVE4(move, "4", "5", "6", "7", "256")                                                         \
    MOVE4(move, "8", "9", "10", "11", "512")                                                       \
    MOVE4(move, "12", "13", "14", "15", "768")                                                     \
    MOVE4(move, "16", "17", "18", "19", "1024")                                                    \
    MOVE4(move, "20", "21", "22", "23", "1280")
#define WEIGHTS                                                                                    \
    "vmovups (%[weights]), %%zmm24\n\t"                                                            \
    "vmovups 64(%[weights]), %%zmm25\n\t"                                                          \
    "vmovups 128(%[weights]), %%zmm26\n\t"                                                         \
    "vmovups 192(%[weights]), %%zmm27\n\t"
#define ROWS                                                                                       \
    ROW("0", "0", "1", "2", "3")                                                                   \
    ROW("256", "4", "5", "6", "7")                                                                 \
    ROW("512", "8", "9", "10", "11")                                                               \
    ROW("768", "12", "13", "14", "15")                                                             \
    ROW("1024", "16", "17", "18", "19")                                                            \
    ROW("1280", "20", "21", "22", "23")
#define NEXT                                                                                       \
    "add $256, %[weights]\n\t"                                                                     \
    "add $4, %[x]\n\t"                                                                             \
    "cmp %[end], %[weights]\n\t"                                                                   \
    "jb 1b\n\t"

static void add_tile(const float *x, const float *weights, float *sums)
{
    const float *const end = weights + KERN_FLOAT_CHUNK * MLY_KERN_PANEL;
    __asm__ volatile(SUMS(LOAD) ".p2align 5\n1:\n\t" WEIGHTS ROWS NEXT SUMS(STORE)
                     : [x] "+r"(x), [weights] "+r"(weights)
                     : [end] "r"(end), [sums] "r"(sums)
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
                       "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
                       "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

static void unpack(const uint16_t *chunk, float *weights)
{
    const __m512i upper = _mm512_set1_epi32((int32_t)0xffff0000);
    for (size_t i = 0; i < KERN_FLOAT_CHUNK; i += 2) {
        for (size_t o = 0; o < MLY_KERN_PANEL; o += KERN_LANES) {
            const __m512i pairs = _mm512_loadu_si512(chunk + i * MLY_KERN_PANEL + 2 * o);
            float *to = weights + i * MLY_KERN_PANEL + o;
            _mm512_storeu_si512(to, _mm512_and_si512(pairs, upper));
            _mm512_storeu_si512(to + MLY_KERN_PANEL, _mm512_slli_epi32(pairs, 16));
        }
    }
}

static inline __m512 gelu(__m512 x)
{
    static const float c[] = KERN_FINE_GELU_COEFFICIENTS;
    const __m512 size = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(KERN_FINE_GELU_END));
    const __m512 a = _mm512_sub_ps(size, _mm512_set1_ps(KERN_FINE_GELU_END / 2));
    __m512 p = _mm512_set1_ps(c[KERN_FINE_GELU_DEGREE]);
    for (size_t i = KERN_FINE_GELU_DEGREE; i > 0; i--) {
        p = _mm512_add_ps(_mm512_mul_ps(p, a), _mm512_set1_ps(c[i - 1]));
    }
    return _mm512_add_ps(_mm512_max_ps(x, _mm512_setzero_ps()), p);
}

void mly_kern_float_finish_avx512vnni(const float *sums, const float *bias, size_t count,
                                      enum mly_kern_finish finish, float *out, size_t out_stride)
{
    for (size_t row = 0; row < count; row++) {
        for (size_t o = 0; o < MLY_KERN_PANEL; o += KERN_LANES) {
            float *target = out + row * out_stride + o;
            __m512 y = _mm512_add_ps(_mm512_loadu_ps(sums + row * MLY_KERN_PANEL + o),
                                     _mm512_loadu_ps(bias + o));
            if (finish == MLY_KERN_ADD) y = _mm512_add_ps(_mm512_loadu_ps(target), y);
            if (finish == MLY_KERN_GELU) y = gelu(y);
            _mm512_storeu_ps(target, y);
        }
    }
}

static const struct kern_float_parts parts = {add_tile, unpack, mly_kern_float_finish_avx512vnni};

void mly_kern_linear_f32_avx512vnni(const float *rows, size_t stride, size_t count,
                                    const struct mly_kern_linear_f32 *linear,
                                    enum mly_kern_finish finish, float *out, size_t out_stride)
{
    mly_kern_linear_f32_by(&parts, rows, stride, count, linear, finish, out, out_stride);
}

void mly_kern_linear_bf16_avx512vnni(const uint16_t *rows, size_t stride, size_t count,
                                     const struct mly_kern_linear_bf16 *linear,
                                     enum mly_kern_finish finish, float *out, size_t out_stride)
{
    mly_kern_linear_bf16_by(&parts, rows, stride, count, linear, finish, out, out_stride);
}

void mly_kern_round_f32_bf16_avx512vnni(const float *x, size_t n, uint16_t *out)
{
    const __m512i half = _mm512_set1_epi32(0x7fff), one = _mm512_set1_epi32(1);
    const __m512 least = _mm512_set1_ps(MLY_KERN_BF16_MIN);
    for (size_t i = 0; i < n; i += KERN_LANES) {
        const __m512 value = _mm512_loadu_ps(x + i);
        const __m512i bits = _mm512_castps_si512(value);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        __m512i rounded =
            _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(half, odd)), 16);
        const __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(value), least, _CMP_LT_OQ);
        const __mmask16 none = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
        rounded = _mm512_mask_mov_epi32(rounded, small, _mm512_setzero_si512());
        rounded = _mm512_mask_mov_epi32(rounded, none, _mm512_set1_epi32(0x7fc0));
        _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm512_cvtepi32_epi16(rounded));
    }
}
