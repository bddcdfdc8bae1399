/* Linear layers on quantised rows with VNNI: tiles of 6 rows by 64 outputs.
 *
 * The inner loop holds 24 sums, 4 registers of weights and a broadcast input. It is written in
 * assembly because gcc 12 spills the sums when it is given intrinsics, which halved the speed; and
 * so is the float formula of linear_scalar.c behind it, because the sums would go through memory
 * otherwise. With GELU they do: the formula is long then, and goes between the dot products of the
 * next tile, which leave half of the units idle. A panel of 384 inputs (24 KB) stays in the first
 * cache while all rows pass it.
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
    float row_scale[TILE_ROWS], row_low[TILE_ROWS];
};
_Static_assert(offsetof(struct finish, row_scale) == 40 && offsetof(struct finish, row_low) == 64,
               "numbers in assembly");

/* Row r has the sums zmm 4 r to 4 r + 3. Rows 0, 1, 2 and 4 are reached from a and the stride, 3
 * and 5 from b. */
#define CLEAR(c0, c1, c2, c3)                                                                      \
    "vpxord %%zmm" #c0 ", %%zmm" #c0 ", %%zmm" #c0 "\n\t"                                          \
    "vpxord %%zmm" #c1 ", %%zmm" #c1 ", %%zmm" #c1 "\n\t"                                          \
    "vpxord %%zmm" #c2 ", %%zmm" #c2 ", %%zmm" #c2 "\n\t"                                          \
    "vpxord %%zmm" #c3 ", %%zmm" #c3 ", %%zmm" #c3 "\n\t"
#define DOT(at, c0, c1, c2, c3)                                                                    \
    "vpbroadcastd " at ", %%zmm28\n\t"                                                             \
    "vpdpbusd %%zmm24, %%zmm28, %%zmm" #c0 "\n\t"                                                  \
    "vpdpbusd %%zmm25, %%zmm28, %%zmm" #c1 "\n\t"                                                  \
    "vpdpbusd %%zmm26, %%zmm28, %%zmm" #c2 "\n\t"                                                  \
    "vpdpbusd %%zmm27, %%zmm28, %%zmm" #c3 "\n\t"
#define CLEAR_1 CLEAR(0, 1, 2, 3)
#define CLEAR_2 CLEAR_1 CLEAR(4, 5, 6, 7)
#define CLEAR_3 CLEAR_2 CLEAR(8, 9, 10, 11)
#define CLEAR_4 CLEAR_3 CLEAR(12, 13, 14, 15)
#define CLEAR_5 CLEAR_4 CLEAR(16, 17, 18, 19)
#define CLEAR_6 CLEAR_5 CLEAR(20, 21, 22, 23)
#define DOT_1 DOT("(%[a])", 0, 1, 2, 3)
#define DOT_2 DOT_1 DOT("(%[a],%[s])", 4, 5, 6, 7)
#define DOT_3 DOT_2 DOT("(%[a],%[s],2)", 8, 9, 10, 11)
#define DOT_4 DOT_3 DOT("(%[b])", 12, 13, 14, 15)
#define DOT_5 DOT_4 DOT("(%[a],%[s],4)", 16, 17, 18, 19)
#define DOT_6 DOT_5 DOT("(%[b],%[s],2)", 20, 21, 22, 23)
#define STEP(count)                                                                                \
    "vmovdqa64 (%[panel]), %%zmm24\n\t"                                                            \
    "vmovdqa64 64(%[panel]), %%zmm25\n\t"                                                          \
    "vmovdqa64 128(%[panel]), %%zmm26\n\t"                                                         \
    "vmovdqa64 192(%[panel]), %%zmm27\n\t" DOT_##count "add $4, %[a]\n\t"                          \
                                                       "add $4, %[b]\n\t"                          \
                                                       "add $256, %[panel]\n\t"

#define STEPS(count)                                                                               \
    CLEAR_##count ".p2align 5\n1:\n\t" STEP(count) "cmp %[end], %[panel]\n\t"                      \
                                                   "jb 1b\n\t"

/* The formula of linear_scalar.c for one row of a column of sixteen outputs, whose scale, sum and
 * bias are in zmm 24 to 26. */
#define VALUE(r, c)                                                                                \
    "vcvtdq2ps %%zmm" #c ", %%zmm" #c "\n\t"                                                       \
    "vbroadcastss 40+4*" #r "(%[f]), %%zmm27\n\t"                                                  \
    "vbroadcastss 64+4*" #r "(%[f]), %%zmm28\n\t"                                                  \
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
    "lea (%%rdi,%%r8,2), %%r9\n\t"                                                                 \
    "add %%r8, %%r9\n\t" ROWS_##count(what, 0, 0, 4, 8, 12, 16, 20)                                \
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
                         : "cc", "memory", "rax", "rcx", "rdx", "rdi", "r8", "r9", "xmm0", "xmm1", \
                           "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",         \
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

static void linear_tiles(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear,
                         float *out, size_t out_stride, tile_fn *const tiles[TILE_ROWS])
{
    struct finish finish = {.stride = out_stride * sizeof(float)};
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

/* A tile whose sums wait for the formula with GELU, and where the next one stops meanwhile. */
struct waiting {
    const float *scale, *sum, *bias; /* of the panel's outputs */
    float *out;
    size_t stride;                /* of out, in bytes */
    const float *gelu;            /* fill_gelu's */
    const int8_t *both_end, *end; /* of the next tile's panel: where rows to finish end; its end */
    int32_t *sums;                /* s32[TILE_ROWS][64], 64 */
    float row_scale[TILE_ROWS], row_low[TILE_ROWS];
};
_Static_assert(offsetof(struct waiting, stride) == 32 && offsetof(struct waiting, gelu) == 40 &&
                   offsetof(struct waiting, both_end) == 48 &&
                   offsetof(struct waiting, end) == 56 && offsetof(struct waiting, sums) == 64 &&
                   offsetof(struct waiting, row_scale) == 72 &&
                   offsetof(struct waiting, row_low) == 96 &&
                   sizeof(((struct waiting *)0)->row_low) == 24,
               "numbers in assembly");

#define KEEP(r, c0, c1, c2, c3)                                                                    \
    "vmovdqa64 %%zmm" #c0 ", 256*" #r "(%%r10)\n\t"                                                \
    "vmovdqa64 %%zmm" #c1 ", 256*" #r "+64(%%r10)\n\t"                                             \
    "vmovdqa64 %%zmm" #c2 ", 256*" #r "+128(%%r10)\n\t"                                            \
    "vmovdqa64 %%zmm" #c3 ", 256*" #r "+192(%%r10)\n\t"
#define KEEP_1 KEEP(0, 0, 1, 2, 3)
#define KEEP_2 KEEP_1 KEEP(1, 4, 5, 6, 7)
#define KEEP_3 KEEP_2 KEEP(2, 8, 9, 10, 11)
#define KEEP_4 KEEP_3 KEEP(3, 12, 13, 14, 15)
#define KEEP_5 KEEP_4 KEEP(4, 16, 17, 18, 19)
#define KEEP_6 KEEP_5 KEEP(5, 20, 21, 22, 23)
/* The formula for sixteen outputs of the row that the pointers stand at. */
#define WAITING(v)                                                                                 \
    "vcvtdq2ps 64*" #v "(%%r10), %%zmm29\n\t"                                                      \
    "vbroadcastss 24(%%r9), %%zmm30\n\t"                                                           \
    "vmulps 64*" #v "(%%rax), %%zmm29, %%zmm29\n\t"                                                \
    "vmulps 64*" #v "(%%rcx), %%zmm30, %%zmm30\n\t"                                                \
    "vmulps (%%r9)%{1to16%}, %%zmm29, %%zmm29\n\t"                                                 \
    "vaddps 64*" #v "(%%rdx), %%zmm30, %%zmm30\n\t"                                                \
    "vaddps %%zmm30, %%zmm29, %%zmm29\n\t"
/* rsi: fill_gelu's. The order of the operands matters for not-a-number. */
#define GELU(v)                                                                                    \
    WAITING(v)                                                                                     \
    "vandps (%%rsi), %%zmm29, %%zmm30\n\t"                                                         \
    "vminps 64(%%rsi), %%zmm30, %%zmm30\n\t"                                                       \
    "vmulps 128(%%rsi), %%zmm30, %%zmm31\n\t"                                                      \
    "vaddps 192(%%rsi), %%zmm31, %%zmm31\n\t"                                                      \
    "vmulps %%zmm30, %%zmm31, %%zmm31\n\t"                                                         \
    "vaddps 256(%%rsi), %%zmm31, %%zmm31\n\t"                                                      \
    "vmulps %%zmm30, %%zmm31, %%zmm31\n\t"                                                         \
    "vaddps 320(%%rsi), %%zmm31, %%zmm31\n\t"                                                      \
    "vmulps %%zmm30, %%zmm31, %%zmm31\n\t"                                                         \
    "vaddps 384(%%rsi), %%zmm31, %%zmm31\n\t"                                                      \
    "vmaxps 448(%%rsi), %%zmm29, %%zmm29\n\t"                                                      \
    "vaddps %%zmm31, %%zmm29, %%zmm29\n\t"                                                         \
    "vmovups %%zmm29, 64*" #v "(%%rdi)\n\t"
#define QUARTER(count, v) STEP(count) GELU(v) STEP(count) STEP(count) STEP(count)
#define GELU_TILE(count)                                                                           \
    static void tile_GELU_##count(const uint8_t *a, const uint8_t *b, size_t stride,               \
                                  const int8_t *panel, const struct waiting *before)               \
    {                                                                                              \
        __asm__ volatile(                                                                          \
            "mov (%[t]), %%rax\n\t"                                                                \
            "mov 8(%[t]), %%rcx\n\t"                                                               \
            "mov 16(%[t]), %%rdx\n\t"                                                              \
            "mov 24(%[t]), %%rdi\n\t"                                                              \
            "mov 40(%[t]), %%rsi\n\t"                                                              \
            "lea 72(%[t]), %%r9\n\t"                                                               \
            "mov 64(%[t]), %%r10\n\t" CLEAR_##count                                                \
            "cmp 48(%[t]), %[panel]\n\t"                                                           \
            "jae 2f\n\t"                                                                           \
            ".p2align 5\n1:\n\t" QUARTER(count, 0) QUARTER(count, 1) QUARTER(count, 2)             \
                QUARTER(count, 3) "add $256, %%r10\n\t"                                            \
                                  "add $4, %%r9\n\t"                                               \
                                  "add 32(%[t]), %%rdi\n\t"                                        \
                                  "cmp 48(%[t]), %[panel]\n\t"                                     \
                                  "jb 1b\n\t"                                                      \
                                  "2:\n\t"                                                         \
                                  "mov 56(%[t]), %%rax\n\t"                                        \
                                  "mov 64(%[t]), %%r10\n\t"                                        \
                                  "cmp %%rax, %[panel]\n\t"                                        \
                                  "jae 4f\n\t"                                                     \
                                  ".p2align 5\n3:\n\t" STEP(count) "cmp %%rax, %[panel]\n\t"       \
                                                                   "jb 3b\n\t"                     \
                                                                   "4:\n\t" KEEP_##count           \
            : [a] "+r"(a), [b] "+r"(b), [panel] "+r"(panel)                                        \
            : [s] "r"(stride), [t] "r"(before)                                                     \
            : "cc", "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r9", "r10", "xmm0", "xmm1",      \
              "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",    \
              "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20",     \
              "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",     \
              "xmm30", "xmm31");                                                                   \
    }
GELU_TILE(1)
GELU_TILE(2)
GELU_TILE(3)
GELU_TILE(4)
GELU_TILE(5)
GELU_TILE(6)

/* Takes the formula to one row of a tile, alone. */
static void finish_row(const struct waiting *tile, size_t row)
{
    __asm__ volatile("mov (%[t]), %%rax\n\t"
                     "mov 8(%[t]), %%rcx\n\t"
                     "mov 16(%[t]), %%rdx\n\t"
                     "mov 40(%[t]), %%rsi\n\t"
                     "mov %[scale], %%r9\n\t"
                     "mov %[sums], %%r10\n\t"
                     "mov %[out], %%rdi\n\t" GELU(0) GELU(1) GELU(2) GELU(3)
                     :
                     : [t] "r"(tile), [scale] "r"(tile->row_scale + row),
                       [sums] "r"(tile->sums + row * MLY_KERN_PANEL),
                       [out] "r"((char *)tile->out + row * tile->stride)
                     : "cc", "memory", "rax", "rcx", "rdx", "rsi", "rdi", "r9", "r10", "xmm29",
                       "xmm30", "xmm31");
}

/* Inputs of a panel in whose time a tile finishes a row of the one before. */
#define ROW_INPUTS 64

/* The absolute value's bits, where the polynomial ends, its factors, zero. */
static void fill_gelu(float gelu[8 * KERN_LANES])
{
    static const float c[] = KERN_GELU_COEFFICIENTS;
    const float constants[8] = {0.0f, KERN_GELU_END, c[4], c[3], c[2], c[1], c[0], 0.0f};
    for (size_t i = 0; i < 8; i++) {
        _mm512_store_ps(gelu + i * KERN_LANES, _mm512_set1_ps(constants[i]));
    }
    _mm512_store_si512(gelu, _mm512_set1_epi32(0x7fffffff));
}

static void gelu_tiles(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear,
                       float *out, size_t out_stride)
{
    /* Tiles of 1 to 6 rows. Their sums take the place of those that waited. */
    static void (*const tiles[TILE_ROWS])(const uint8_t *a, const uint8_t *b, size_t stride,
                                          const int8_t *panel, const struct waiting *before) = {
        tile_GELU_1, tile_GELU_2, tile_GELU_3, tile_GELU_4, tile_GELU_5, tile_GELU_6,
    };
    alignas(64) float gelu[8 * KERN_LANES];
    alignas(64) int32_t sums[TILE_ROWS * MLY_KERN_PANEL];
    struct waiting tile = {.stride = out_stride * sizeof(float), .gelu = gelu, .sums = sums};
    size_t waiting = 0; /* rows of the tile */
    fill_gelu(gelu);
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const int8_t *panel = linear->panels + first * linear->in;
        for (size_t row = 0; row < rows->count; row += TILE_ROWS) {
            const size_t left = rows->count - row, count = left < TILE_ROWS ? left : TILE_ROWS;
            const uint8_t *a = rows->q + row * rows->stride;
            while (waiting > linear->in / ROW_INPUTS) {
                finish_row(&tile, --waiting);
            }
            tile.both_end = panel + waiting * ROW_INPUTS * MLY_KERN_PANEL;
            tile.end = panel + linear->in * MLY_KERN_PANEL;
            tiles[count - 1](a, count > 3 ? a + 3 * rows->stride : a, rows->stride, panel, &tile);
            waiting = count;
            tile.scale = linear->scale + first;
            tile.sum = linear->sum + first;
            tile.bias = linear->bias + first;
            tile.out = out + row * out_stride + first;
            for (size_t r = 0; r < count; r++) {
                tile.row_scale[r] = rows->scale[row + r];
                tile.row_low[r] = rows->low[row + r];
            }
        }
    }
    while (waiting > 0) {
        finish_row(&tile, --waiting);
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
    gelu_tiles(rows, linear, out, out_stride);
}
