/* Linear layers on quantised rows with VNNI: tiles of 6 rows by 64 outputs.
 *
 * The inner loop holds 24 sums, 4 registers of weights and 4 broadcast inputs: all 32 registers. It
 * is written in assembly because gcc 12 spills the sums when it is given intrinsics, which halved
 * the speed. The sums go through a tile in the first cache to the float formula of linear_scalar.c,
 * one function for each thing that can be done with the outputs. A panel of 384 inputs (24 KB)
 * stays in the first cache while all rows pass it.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512VNNI__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>
#include <stdalign.h>

#define TILE_ROWS 6
#define VECTORS (MLY_KERN_PANEL / KERN_LANES)

/* Row r has the sums zmm 4 r to 4 r + 3; its inputs go through one of the last registers in turn. */
#define CLEAR(c0, c1, c2, c3)                                                                      \
    "vpxord %%zmm" #c0 ", %%zmm" #c0 ", %%zmm" #c0 "\n\t"                                          \
    "vpxord %%zmm" #c1 ", %%zmm" #c1 ", %%zmm" #c1 "\n\t"                                          \
    "vpxord %%zmm" #c2 ", %%zmm" #c2 ", %%zmm" #c2 "\n\t"                                          \
    "vpxord %%zmm" #c3 ", %%zmm" #c3 ", %%zmm" #c3 "\n\t"
#define DOT(row, b, c0, c1, c2, c3)                                                                \
    "vpbroadcastd (%[" #row "],%[i]), %%zmm" #b "\n\t"                                             \
    "vpdpbusd %%zmm24, %%zmm" #b ", %%zmm" #c0 "\n\t"                                              \
    "vpdpbusd %%zmm25, %%zmm" #b ", %%zmm" #c1 "\n\t"                                              \
    "vpdpbusd %%zmm26, %%zmm" #b ", %%zmm" #c2 "\n\t"                                              \
    "vpdpbusd %%zmm27, %%zmm" #b ", %%zmm" #c3 "\n\t"
#define STORE(at, c0, c1, c2, c3)                                                                  \
    "vmovdqa64 %%zmm" #c0 ", " #at "(%[sums])\n\t"                                                 \
    "vmovdqa64 %%zmm" #c1 ", " #at "+64(%[sums])\n\t"                                              \
    "vmovdqa64 %%zmm" #c2 ", " #at "+128(%[sums])\n\t"                                             \
    "vmovdqa64 %%zmm" #c3 ", " #at "+192(%[sums])\n\t"
#define CLEAR_1 CLEAR(0, 1, 2, 3)
#define CLEAR_2 CLEAR_1 CLEAR(4, 5, 6, 7)
#define CLEAR_3 CLEAR_2 CLEAR(8, 9, 10, 11)
#define CLEAR_4 CLEAR_3 CLEAR(12, 13, 14, 15)
#define CLEAR_5 CLEAR_4 CLEAR(16, 17, 18, 19)
#define CLEAR_6 CLEAR_5 CLEAR(20, 21, 22, 23)
#define DOT_1 DOT(r0, 28, 0, 1, 2, 3)
#define DOT_2 DOT_1 DOT(r1, 29, 4, 5, 6, 7)
#define DOT_3 DOT_2 DOT(r2, 30, 8, 9, 10, 11)
#define DOT_4 DOT_3 DOT(r3, 31, 12, 13, 14, 15)
#define DOT_5 DOT_4 DOT(r4, 28, 16, 17, 18, 19)
#define DOT_6 DOT_5 DOT(r5, 29, 20, 21, 22, 23)
#define STORE_1 STORE(0, 0, 1, 2, 3)
#define STORE_2 STORE_1 STORE(256, 4, 5, 6, 7)
#define STORE_3 STORE_2 STORE(512, 8, 9, 10, 11)
#define STORE_4 STORE_3 STORE(768, 12, 13, 14, 15)
#define STORE_5 STORE_4 STORE(1024, 16, 17, 18, 19)
#define STORE_6 STORE_5 STORE(1280, 20, 21, 22, 23)
#define WEIGHTS                                                                                    \
    "vmovdqa64 (%[panel]), %%zmm24\n\t"                                                            \
    "vmovdqa64 64(%[panel]), %%zmm25\n\t"                                                          \
    "vmovdqa64 128(%[panel]), %%zmm26\n\t"                                                         \
    "vmovdqa64 192(%[panel]), %%zmm27\n\t"
#define NEXT                                                                                       \
    "add $256, %[panel]\n\t"                                                                       \
    "add $4, %[i]\n\t"                                                                             \
    "cmp %[in], %[i]\n\t"                                                                          \
    "jb 1b\n\t"
#define TILE(count)                                                                                \
    static inline void tile_sums_##count(const uint8_t *row, size_t stride, const int8_t *panel,   \
                                         size_t in, int32_t *sums)                                 \
    {                                                                                              \
        size_t i = 0;                                                                              \
        __asm__ volatile(                                                                          \
            CLEAR_##count ".p2align 5\n1:\n\t" WEIGHTS DOT_##count NEXT STORE_##count              \
            : [panel] "+r"(panel), [i] "+r"(i)                                                     \
            : [in] "r"(in), [sums] "r"(sums), [r0] "r"(row), [r1] "r"(row + (count > 1) * stride), \
              [r2] "r"(row + (count > 2) * 2 * stride), [r3] "r"(row + (count > 3) * 3 * stride),  \
              [r4] "r"(row + (count > 4) * 4 * stride), [r5] "r"(row + (count > 5) * 5 * stride)   \
            : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",      \
              "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",       \
              "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",     \
              "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");                               \
    }
TILE(1)
TILE(2)
TILE(3)
TILE(4)
TILE(5)
TILE(6)

/* sums: s32[count][64], 64, of count rows from row on: 1 to 6 of them; in is a multiple of 4. */
static inline void tile_sums(size_t count, const uint8_t *row, size_t stride, const int8_t *panel,
                             size_t in, int32_t *sums)
{
    switch (count) {
    case 1:
        tile_sums_1(row, stride, panel, in, sums);
        break;
    case 2:
        tile_sums_2(row, stride, panel, in, sums);
        break;
    case 3:
        tile_sums_3(row, stride, panel, in, sums);
        break;
    case 4:
        tile_sums_4(row, stride, panel, in, sums);
        break;
    case 5:
        tile_sums_5(row, stride, panel, in, sums);
        break;
    default:
        tile_sums_6(row, stride, panel, in, sums);
        break;
    }
}

/* Sixteen outputs of one row. */
static inline __m512 finish(const int32_t *sums, __m512 scale, __m512 sum, __m512 bias,
                            float row_scale, float row_low)
{
    const __m512 value = _mm512_cvtepi32_ps(_mm512_load_si512(sums));
    const __m512 product = _mm512_mul_ps(_mm512_mul_ps(value, scale), _mm512_set1_ps(row_scale));
    const __m512 base = _mm512_add_ps(_mm512_mul_ps(sum, _mm512_set1_ps(row_low)), bias);
    return _mm512_add_ps(product, base);
}

static inline __m512 gelu(__m512 x)
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const __m512 a = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(KERN_GELU_END));
    __m512 p = _mm512_set1_ps(c[4]);
    p = _mm512_add_ps(_mm512_mul_ps(p, a), _mm512_set1_ps(c[3]));
    p = _mm512_add_ps(_mm512_mul_ps(p, a), _mm512_set1_ps(c[2]));
    p = _mm512_add_ps(_mm512_mul_ps(p, a), _mm512_set1_ps(c[1]));
    p = _mm512_add_ps(_mm512_mul_ps(p, a), _mm512_set1_ps(c[0]));
    return _mm512_add_ps(_mm512_max_ps(x, _mm512_setzero_ps()), p);
}

enum finish_kind { FINISH_STORE, FINISH_ADD, FINISH_GELU };

/* The rows of one tile through the float formula; kind is a constant in each caller. */
static inline __attribute__((always_inline)) void
finish_tile(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear, size_t row,
            size_t count, size_t first, const int32_t *sums, float *out, size_t out_stride,
            enum finish_kind kind)
{
    for (size_t v = 0; v < VECTORS; v++) {
        const size_t o = first + v * KERN_LANES;
        const __m512 scale = _mm512_loadu_ps(linear->scale + o);
        const __m512 sum = _mm512_loadu_ps(linear->sum + o);
        const __m512 bias = _mm512_loadu_ps(linear->bias + o);
        for (size_t r = 0; r < count; r++) {
            float *target = out + (row + r) * out_stride + o;
            __m512 y = finish(sums + r * MLY_KERN_PANEL + v * KERN_LANES, scale, sum, bias,
                              rows->scale[row + r], rows->low[row + r]);
            if (kind == FINISH_ADD) y = _mm512_add_ps(_mm512_loadu_ps(target), y);
            if (kind == FINISH_GELU) y = gelu(y);
            _mm512_storeu_ps(target, y);
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
            tile_sums(count, rows->q + row * rows->stride, rows->stride, panel, linear->in, sums);
            finish_tile(rows, linear, row, count, first, sums, out, out_stride, kind);
        }
    }
}

void mly_kern_linear_u8s8_f32_avx512vnni(const struct mly_kern_rows *rows,
                                         const struct mly_kern_linear *linear, float *out,
                                         size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_STORE);
}

void mly_kern_linear_add_u8s8_f32_avx512vnni(const struct mly_kern_rows *rows,
                                             const struct mly_kern_linear *linear, float *out,
                                             size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_ADD);
}

void mly_kern_linear_gelu_u8s8_f32_avx512vnni(const struct mly_kern_rows *rows,
                                              const struct mly_kern_linear *linear, float *out,
                                              size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, FINISH_GELU);
}
