/* Linear layers on quantised rows with VNNI: tiles of 6 rows by 64 outputs.
 *
 * The inner loop holds 24 sums, 4 registers of weights and 4 broadcast inputs: all 32 registers. It
 * is written in assembly because gcc 12 spills the sums when it is given intrinsics, which halved
 * the speed; and so is the float formula of linear_scalar.c behind it, because the sums would go
 * through memory otherwise. A panel of 384 inputs (24 KB) stays in the first cache while all rows
 * pass it.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512VNNI__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>
#include <stdalign.h>
#include <stddef.h>

#define TILE_ROWS 6

/* What a tile needs once its sums are there; the assembly knows where each part stands. */
struct finish {
    const float *scale, *sum, *bias; /* of the panel's outputs */
    float *out;
    size_t stride; /* of out, in bytes */
    const float *gelu;
    float row_scale[TILE_ROWS], row_low[TILE_ROWS];
};
_Static_assert(offsetof(struct finish, gelu) == 40 && offsetof(struct finish, row_scale) == 48 &&
                   offsetof(struct finish, row_low) == 72,
               "numbers in assembly");

/* Row r has the sums zmm 4 r to 4 r + 3; its inputs go through one of the last registers in turn.
 * Rows 0, 1, 2 and 4 are reached from a and the stride, 3 and 5 from b. */
#define CLEAR(c0, c1, c2, c3)                                                                      \
    "vpxord %%zmm" #c0 ", %%zmm" #c0 ", %%zmm" #c0 "\n\t"                                          \
    "vpxord %%zmm" #c1 ", %%zmm" #c1 ", %%zmm" #c1 "\n\t"                                          \
    "vpxord %%zmm" #c2 ", %%zmm" #c2 ", %%zmm" #c2 "\n\t"                                          \
    "vpxord %%zmm" #c3 ", %%zmm" #c3 ", %%zmm" #c3 "\n\t"
#define DOT(at, by, c0, c1, c2, c3)                                                                \
    "vpbroadcastd " at ", %%zmm" #by "\n\t"                                                        \
    "vpdpbusd %%zmm24, %%zmm" #by ", %%zmm" #c0 "\n\t"                                             \
    "vpdpbusd %%zmm25, %%zmm" #by ", %%zmm" #c1 "\n\t"                                             \
    "vpdpbusd %%zmm26, %%zmm" #by ", %%zmm" #c2 "\n\t"                                             \
    "vpdpbusd %%zmm27, %%zmm" #by ", %%zmm" #c3 "\n\t"
#define CLEAR_1 CLEAR(0, 1, 2, 3)
#define CLEAR_2 CLEAR_1 CLEAR(4, 5, 6, 7)
#define CLEAR_3 CLEAR_2 CLEAR(8, 9, 10, 11)
#define CLEAR_4 CLEAR_3 CLEAR(12, 13, 14, 15)
#define CLEAR_5 CLEAR_4 CLEAR(16, 17, 18, 19)
#define CLEAR_6 CLEAR_5 CLEAR(20, 21, 22, 23)
#define DOT_1 DOT("(%[a])", 28, 0, 1, 2, 3)
#define DOT_2 DOT_1 DOT("(%[a],%[s])", 29, 4, 5, 6, 7)
#define DOT_3 DOT_2 DOT("(%[a],%[s],2)", 30, 8, 9, 10, 11)
#define DOT_4 DOT_3 DOT("(%[b])", 31, 12, 13, 14, 15)
#define DOT_5 DOT_4 DOT("(%[a],%[s],4)", 28, 16, 17, 18, 19)
#define DOT_6 DOT_5 DOT("(%[b],%[s],2)", 29, 20, 21, 22, 23)
#define STEPS(count)                                                                               \
    CLEAR_##count ".p2align 5\n1:\n\t"                                                             \
                  "vmovdqa64 (%[panel]), %%zmm24\n\t"                                              \
                  "vmovdqa64 64(%[panel]), %%zmm25\n\t"                                            \
                  "vmovdqa64 128(%[panel]), %%zmm26\n\t"                                           \
                  "vmovdqa64 192(%[panel]), %%zmm27\n\t" DOT_##count "add $4, %[a]\n\t"            \
                                                                     "add $4, %[b]\n\t"            \
                                                                     "add $256, %[panel]\n\t"      \
                                                                     "cmp %[end], %[panel]\n\t"    \
                                                                     "jb 1b\n\t"

/* The formula of linear_scalar.c for one row of a column of sixteen outputs, whose scale, sum and
 * bias are in zmm 24 to 26. */
#define VALUE(r, c)                                                                                \
    "vcvtdq2ps %%zmm" #c ", %%zmm" #c "\n\t"                                                       \
    "vbroadcastss 48+4*" #r "(%[f]), %%zmm27\n\t"                                                  \
    "vbroadcastss 72+4*" #r "(%[f]), %%zmm28\n\t"                                                  \
    "vmulps %%zmm24, %%zmm" #c ", %%zmm" #c "\n\t"                                                 \
    "vmulps %%zmm28, %%zmm25, %%zmm28\n\t"                                                         \
    "vmulps %%zmm27, %%zmm" #c ", %%zmm" #c "\n\t"                                                 \
    "vaddps %%zmm26, %%zmm28, %%zmm28\n\t"                                                         \
    "vaddps %%zmm28, %%zmm" #c ", %%zmm" #c "\n\t"
#define STORE(v, r, c, at) VALUE(r, c) "vmovups %%zmm" #c ", 64*" #v at "\n\t"
#define ADD(v, r, c, at)                                                                           \
    VALUE(r, c)                                                                                    \
    "vaddps 64*" #v at ", %%zmm" #c ", %%zmm" #c "\n\t"                                            \
    "vmovups %%zmm" #c ", 64*" #v at "\n\t"
/* rsi: gelu_table. The order of the operands matters for not-a-number. */
#define GELU(v, r, c, at)                                                                          \
    VALUE(r, c)                                                                                    \
    "vandps (%%rsi), %%zmm" #c ", %%zmm29\n\t"                                                     \
    "vminps 64(%%rsi), %%zmm29, %%zmm29\n\t"                                                       \
    "vmulps 128(%%rsi), %%zmm29, %%zmm30\n\t"                                                      \
    "vaddps 192(%%rsi), %%zmm30, %%zmm30\n\t"                                                      \
    "vmulps %%zmm29, %%zmm30, %%zmm30\n\t"                                                         \
    "vaddps 256(%%rsi), %%zmm30, %%zmm30\n\t"                                                      \
    "vmulps %%zmm29, %%zmm30, %%zmm30\n\t"                                                         \
    "vaddps 320(%%rsi), %%zmm30, %%zmm30\n\t"                                                      \
    "vmulps %%zmm29, %%zmm30, %%zmm30\n\t"                                                         \
    "vaddps 384(%%rsi), %%zmm30, %%zmm30\n\t"                                                      \
    "vmaxps %%zmm31, %%zmm" #c ", %%zmm" #c "\n\t"                                                 \
    "vaddps %%zmm30, %%zmm" #c ", %%zmm" #c "\n\t"                                                 \
    "vmovups %%zmm" #c ", 64*" #v at "\n\t"
#define COLUMN(v)                                                                                  \
    "vmovups 64*" #v "(%%rax), %%zmm24\n\t"                                                        \
    "vmovups 64*" #v "(%%rcx), %%zmm25\n\t"                                                        \
    "vmovups 64*" #v "(%%rdx), %%zmm26\n\t"
/* rdi: out, r8: its stride, r9: its row 3. */
#define ROWS_1(what, v, c0, c1, c2, c3, c4, c5) COLUMN(v) what(v, 0, c0, "(%%rdi)")
#define ROWS_2(what, v, c0, c1, c2, c3, c4, c5)                                                    \
    ROWS_1(what, v, c0, c1, c2, c3, c4, c5) what(v, 1, c1, "(%%rdi,%%r8)")
#define ROWS_3(what, v, c0, c1, c2, c3, c4, c5)                                                    \
    ROWS_2(what, v, c0, c1, c2, c3, c4, c5) what(v, 2, c2, "(%%rdi,%%r8,2)")
#define ROWS_4(what, v, c0, c1, c2, c3, c4, c5)                                                    \
    ROWS_3(what, v, c0, c1, c2, c3, c4, c5) what(v, 3, c3, "(%%r9)")
#define ROWS_5(what, v, c0, c1, c2, c3, c4, c5)                                                    \
    ROWS_4(what, v, c0, c1, c2, c3, c4, c5) what(v, 4, c4, "(%%rdi,%%r8,4)")
#define ROWS_6(what, v, c0, c1, c2, c3, c4, c5)                                                    \
    ROWS_5(what, v, c0, c1, c2, c3, c4, c5) what(v, 5, c5, "(%%r9,%%r8,2)")
#define FINISH(count, what)                                                                        \
    "mov (%[f]), %%rax\n\t"                                                                        \
    "mov 8(%[f]), %%rcx\n\t"                                                                       \
    "mov 16(%[f]), %%rdx\n\t"                                                                      \
    "mov 24(%[f]), %%rdi\n\t"                                                                      \
    "mov 32(%[f]), %%r8\n\t"                                                                       \
    "mov 40(%[f]), %%rsi\n\t"                                                                      \
    "lea (%%rdi,%%r8,2), %%r9\n\t"                                                                 \
    "add %%r8, %%r9\n\t"                                                                           \
    "vpxord %%zmm31, %%zmm31, %%zmm31\n\t" ROWS_##count(what, 0, 0, 4, 8, 12, 16, 20)              \
        ROWS_##count(what, 1, 1, 5, 9, 13, 17, 21) ROWS_##count(what, 2, 2, 6, 10, 14, 18, 22)     \
            ROWS_##count(what, 3, 3, 7, 11, 15, 19, 23)
#define TILE(count, what)                                                                          \
    static void tile_##what##_##count(const uint8_t *a, const uint8_t *b, size_t stride,           \
                                      const int8_t *panel, const int8_t *end,                      \
                                      const struct finish *finish)                                 \
    {                                                                                              \
        __asm__ volatile(STEPS(count) FINISH(count, what)                                          \
                         : [a] "+r"(a), [b] "+r"(b), [panel] "+r"(panel)                           \
                         : [s] "r"(stride), [end] "r"(end), [f] "r"(finish)                        \
                         : "cc", "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "xmm0",  \
                           "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                           "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", \
                           "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", \
                           "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");                  \
    }
#define TILES(what)                                                                                \
    TILE(1, what)                                                                                  \
    TILE(2, what)                                                                                  \
    TILE(3, what)                                                                                  \
    TILE(4, what)                                                                                  \
    TILE(5, what)                                                                                  \
    TILE(6, what)                                                                                  \
    static tile_fn *const tiles_##what[TILE_ROWS] = {tile_##what##_1, tile_##what##_2,             \
                                                     tile_##what##_3, tile_##what##_4,             \
                                                     tile_##what##_5, tile_##what##_6};

/* A tile of 1 to 6 rows by 64 outputs: a is its first row, b its fourth, if it has one. */
typedef void tile_fn(const uint8_t *a, const uint8_t *b, size_t stride, const int8_t *panel,
                     const int8_t *end, const struct finish *finish);
TILES(STORE)
TILES(ADD)
TILES(GELU)

static void linear_tiles(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear,
                         float *out, size_t out_stride, tile_fn *const tiles[TILE_ROWS])
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    alignas(64) float gelu[7 * KERN_LANES];
    struct finish finish = {.stride = out_stride * sizeof(float), .gelu = gelu};
    const float constants[7] = {0.0f, KERN_GELU_END, c[4], c[3], c[2], c[1], c[0]};
    for (size_t i = 0; i < 7; i++) {
        _mm512_store_ps(gelu + i * KERN_LANES, _mm512_set1_ps(constants[i]));
    }
    _mm512_store_si512(gelu, _mm512_set1_epi32(0x7fffffff)); /* takes the sign away */
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const int8_t *panel = linear->panels + first * linear->in;
        finish.scale = linear->scale + first;
        finish.sum = linear->sum + first;
        finish.bias = linear->bias + first;
        for (size_t row = 0; row < rows->count; row += TILE_ROWS) {
            const size_t left = rows->count - row, count = left < TILE_ROWS ? left : TILE_ROWS;
            const uint8_t *a = rows->q + row * rows->stride;
            for (size_t r = 0; r < count; r++) {
                finish.row_scale[r] = rows->scale[row + r];
                finish.row_low[r] = rows->low[row + r];
            }
            finish.out = out + row * out_stride + first;
            tiles[count - 1](a, count > 3 ? a + 3 * rows->stride : a, rows->stride, panel,
                             panel + linear->in * MLY_KERN_PANEL, &finish);
        }
    }
}

void mly_kern_linear_u8s8_f32_avx512vnni(const struct mly_kern_rows *rows,
                                         const struct mly_kern_linear *linear, float *out,
                                         size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, tiles_STORE);
}

void mly_kern_linear_add_u8s8_f32_avx512vnni(const struct mly_kern_rows *rows,
                                             const struct mly_kern_linear *linear, float *out,
                                             size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, tiles_ADD);
}

void mly_kern_linear_gelu_u8s8_f32_avx512vnni(const struct mly_kern_rows *rows,
                                              const struct mly_kern_linear *linear, float *out,
                                              size_t out_stride)
{
    linear_tiles(rows, linear, out, out_stride, tiles_GELU);
}
