/* Linear layers on quantised rows with 256 bit registers and vpdpbusd: tiles of 6 rows by 16
 * outputs.
 *
 * The instruction has two encodings. Processors with AVX-VNNI and without AVX-512 know the VEX one
 * alone, which is what this file is built into the library with. The tests build it a second time
 * with the EVEX one (KERN_TEST_EVEX), so that its arithmetic can be checked on a processor with
 * AVX-512 too; nothing but the prefix of that one instruction differs. In assembly because gcc 12
 * spills the sums when it is given intrinsics: 12 sums, 2 registers of weights and 1 broadcast
 * input. The sums go to the float formula of linear_scalar.c.
 */
#include "kern/kern_int.h"

#if defined(KERN_TEST_EVEX)
#if !defined(__AVX512VL__) || !defined(__AVX512VNNI__)
#error "this file needs the flags of its set"
#endif
#define DPBUSD "%{evex%} vpdpbusd "
#define OF_SET(name) name##_evexvnni
KERN_DECLARE_LINEAR(evexvnni)
#else
#if !defined(__AVX2__) || !defined(__AVXVNNI__) || defined(__AVX512F__)
#error "this file needs the flags of its set"
#endif
#define DPBUSD "%{vex%} vpdpbusd "
#define OF_SET(name) name##_avxvnni
#endif

#include <immintrin.h>
#include <stdalign.h>

#define TILE_ROWS 6
#define TILE_OUTPUTS 16
#define HALF 8 /* numbers of 32 bits in one register */
_Static_assert(MLY_KERN_PANEL == 64 && MLY_KERN_STEP == 4, "numbers in assembly");

#define DOT2(row, a, b)                                                                            \
    "vpbroadcastd (%[" row "],%[i]), %%ymm14\n\t" DPBUSD "%%ymm12, %%ymm14, %%ymm" a "\n\t" DPBUSD \
    "%%ymm13, %%ymm14, %%ymm" b "\n\t"
#define CLEAR2(a, b)                                                                               \
    "vpxor %%ymm" a ", %%ymm" a ", %%ymm" a "\n\t"                                                 \
    "vpxor %%ymm" b ", %%ymm" b ", %%ymm" b "\n\t"
#define STORE2(at, a, b)                                                                           \
    "vmovdqa %%ymm" a ", " at "+0(%[sums])\n\t"                                                    \
    "vmovdqa %%ymm" b ", " at "+32(%[sums])\n\t"
#define CLEAR                                                                                      \
    CLEAR2("0", "1")                                                                               \
    CLEAR2("2", "3") CLEAR2("4", "5") CLEAR2("6", "7") CLEAR2("8", "9") CLEAR2("10", "11")
#define WEIGHTS                                                                                    \
    "vmovdqa (%[weights]), %%ymm12\n\t"                                                            \
    "vmovdqa 32(%[weights]), %%ymm13\n\t"
#define DOT                                                                                        \
    DOT2("r0", "0", "1")                                                                           \
    DOT2("r1", "2", "3")                                                                           \
    DOT2("r2", "4", "5") DOT2("r3", "6", "7") DOT2("r4", "8", "9") DOT2("r5", "10", "11")
#define STORE                                                                                      \
    STORE2("0", "0", "1")                                                                          \
    STORE2("256", "2", "3")                                                                        \
    STORE2("512", "4", "5")                                                                        \
    STORE2("768", "6", "7") STORE2("1024", "8", "9") STORE2("1280", "10", "11")

/* sums: s32[6][stride MLY_KERN_PANEL], 32, 16 of each row. rows: six pointers, which may repeat;
 * weights: those of the 16 outputs in a panel; in is a multiple of 4, above 0. */
static inline void tile_sums(const uint8_t *const rows[TILE_ROWS], const int8_t *weights, size_t in,
                             int32_t *sums)
{
    size_t i = 0;
    __asm__ volatile(CLEAR ".p2align 5\n"
                           "1:\n\t" WEIGHTS DOT "add $256, %[weights]\n\t"
                           "add $4, %[i]\n\t"
                           "cmp %[in], %[i]\n\t"
                           "jb 1b\n\t" STORE
                     : [weights] "+r"(weights), [i] "+r"(i)
                     : [in] "r"(in), [sums] "r"(sums), [r0] "r"(rows[0]), [r1] "r"(rows[1]),
                       [r2] "r"(rows[2]), [r3] "r"(rows[3]), [r4] "r"(rows[4]), [r5] "r"(rows[5])
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14");
}

/* Eight outputs of one row. */
static inline __m256 finish(const int32_t *sums, __m256 scale, __m256 sum, __m256 bias,
                            float row_scale, float row_low)
{
    const __m256 value = _mm256_cvtepi32_ps(_mm256_load_si256((const __m256i *)(const void *)sums));
    const __m256 product = _mm256_mul_ps(_mm256_mul_ps(value, scale), _mm256_set1_ps(row_scale));
    const __m256 base = _mm256_add_ps(_mm256_mul_ps(sum, _mm256_set1_ps(row_low)), bias);
    return _mm256_add_ps(product, base);
}

static inline __m256 gelu(__m256 x)
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    const __m256 a = _mm256_min_ps(size, _mm256_set1_ps(KERN_GELU_END));
    __m256 p = _mm256_set1_ps(c[4]);
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[3]));
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[2]));
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[1]));
    p = _mm256_add_ps(_mm256_mul_ps(p, a), _mm256_set1_ps(c[0]));
    return _mm256_add_ps(_mm256_max_ps(x, _mm256_setzero_ps()), p);
}

enum finish_kind { FINISH_STORE, FINISH_ADD, FINISH_GELU };

/* The rows of one tile of a panel through the float formula; kind is a constant in each caller. */
static inline __attribute__((always_inline)) void
finish_tile(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear, size_t row,
            size_t count, size_t first, const int32_t *sums, float *out, size_t out_stride,
            enum finish_kind kind)
{
    for (size_t v = 0; v < MLY_KERN_PANEL; v += HALF) {
        const __m256 scale = _mm256_loadu_ps(linear->scale + first + v);
        const __m256 sum = _mm256_loadu_ps(linear->sum + first + v);
        const __m256 bias = _mm256_loadu_ps(linear->bias + first + v);
        for (size_t r = 0; r < count; r++) {
            float *target = out + (row + r) * out_stride + first + v;
            __m256 y = finish(sums + r * MLY_KERN_PANEL + v, scale, sum, bias, rows->scale[row + r],
                              rows->low[row + r]);
            if (kind == FINISH_ADD) y = _mm256_add_ps(_mm256_loadu_ps(target), y);
            if (kind == FINISH_GELU) y = gelu(y);
            _mm256_storeu_ps(target, y);
        }
    }
}

static inline __attribute__((always_inline)) void linear_tiles(const struct mly_kern_rows *rows,
                                                               const struct mly_kern_linear *linear,
                                                               float *out, size_t out_stride,
                                                               enum finish_kind kind)
{
    alignas(64) int32_t sums[TILE_ROWS * MLY_KERN_PANEL];
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const int8_t *panel = linear->panels + first * linear->in;
        for (size_t row = 0; row < rows->count; row += TILE_ROWS) {
            const size_t left = rows->count - row;
            const size_t count = left < TILE_ROWS ? left : TILE_ROWS;
            const uint8_t *q[TILE_ROWS];
            for (size_t r = 0; r < TILE_ROWS; r++) { /* A short tile repeats its last row. */
                q[r] = rows->q + (row + (r < count ? r : count - 1)) * rows->stride;
            }
            for (size_t o = 0; o < MLY_KERN_PANEL; o += TILE_OUTPUTS) {
                tile_sums(q, panel + o * MLY_KERN_STEP, linear->in, sums + o);
            }
            finish_tile(rows, linear, row, count, first, sums, out, out_stride, kind);
        }
    }
}

void OF_SET(mly_kern_linear_u8s8_f32)(const struct mly_kern_rows *rows,
                                      const struct mly_kern_linear *linear, float *out,
                                      size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_STORE);
}

void OF_SET(mly_kern_linear_add_u8s8_f32)(const struct mly_kern_rows *rows,
                                          const struct mly_kern_linear *linear, float *out,
                                          size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_ADD);
}

void OF_SET(mly_kern_linear_gelu_u8s8_f32)(const struct mly_kern_rows *rows,
                                           const struct mly_kern_linear *linear, float *out,
                                           size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_GELU);
}
