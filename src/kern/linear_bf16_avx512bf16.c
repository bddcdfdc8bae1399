/* Linear layers in bf16 with vpdpbf16ps: tiles of 6 rows by 64 outputs, as in linear_avx512vnni.c.
 * Of each pair of inputs the instruction adds the second one's product, rounds, adds the first
 * one's, rounds: that is the order which linear_float_scalar.c gives by hand.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512BF16__)
#error "this file needs the flags of its set"
#endif

#include <stdalign.h>

#define DOT4(b, s0, s1, s2, s3)                                                                    \
    "vdpbf16ps %%zmm24, %%zmm" b ", %%zmm" s0 "\n\t"                                               \
    "vdpbf16ps %%zmm25, %%zmm" b ", %%zmm" s1 "\n\t"                                               \
    "vdpbf16ps %%zmm26, %%zmm" b ", %%zmm" s2 "\n\t"                                               \
    "vdpbf16ps %%zmm27, %%zmm" b ", %%zmm" s3 "\n\t"
#define ROW(row, b, s0, s1, s2, s3)                                                                \
    "vpbroadcastd (%[" row "],%[i]), %%zmm" b "\n\t" DOT4(b, s0, s1, s2, s3)
#define WEIGHTS                                                                                    \
    "vmovdqa64 (%[panel]), %%zmm24\n\t"                                                            \
    "vmovdqa64 64(%[panel]), %%zmm25\n\t"                                                          \
    "vmovdqa64 128(%[panel]), %%zmm26\n\t"                                                         \
    "vmovdqa64 192(%[panel]), %%zmm27\n\t"
#define ROWS                                                                                       \
    ROW("r0", "28", "0", "1", "2", "3")                                                            \
    ROW("r1", "29", "4", "5", "6", "7")                                                            \
    ROW("r2", "30", "8", "9", "10", "11")                                                          \
    ROW("r3", "31", "12", "13", "14", "15")                                                        \
    ROW("r4", "28", "16", "17", "18", "19")                                                        \
    ROW("r5", "29", "20", "21", "22", "23")
#define CLEAR(at, s) "vpxord %%zmm" s ", %%zmm" s ", %%zmm" s "\n\t"
#define STORE(at, s) "vmovaps %%zmm" s ", " at "(%[sums])\n\t"
#define FOUR(move, at, s0, s1, s2, s3)                                                             \
    move(at "+0", s0) move(at "+64", s1) move(at "+128", s2) move(at "+192", s3)
#define SUMS(move)                                                                                 \
    FOUR(move, "0", "0", "1", "2", "3")                                                            \
    FOUR(move, "256", "4", "5", "6", "7")                                                          \
    FOUR(move, "512", "8", "9", "10", "11")                                                        \
    FOUR(move, "768", "12", "13", "14", "15")                                                      \
    FOUR(move, "1024", "16", "17", "18", "19")                                                     \
    FOUR(move, "1280", "20", "21", "22", "23")
#define NEXT                                                                                       \
    "add $256, %[panel]\n\t"                                                                       \
    "add $4, %[i]\n\t"                                                                             \
    "cmp %[end], %[i]\n\t"                                                                         \
    "jb 1b\n\t"

/* sums: f32[6][64], 64; rows: six pointers, which may repeat; in is even, above 0. */
static inline void tile_sums(const uint16_t *const rows[KERN_FLOAT_TILE], const uint16_t *panel,
                             size_t in, float *sums)
{
    size_t i = 0; /* bytes */
    __asm__ volatile(SUMS(CLEAR) ".p2align 5\n1:\n\t" WEIGHTS ROWS NEXT SUMS(STORE)
                     : [panel] "+r"(panel), [i] "+r"(i)
                     : [end] "r"(2 * in), [sums] "r"(sums), [r0] "r"(rows[0]), [r1] "r"(rows[1]),
                       [r2] "r"(rows[2]), [r3] "r"(rows[3]), [r4] "r"(rows[4]), [r5] "r"(rows[5])
                     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                       "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",
                       "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",
                       "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
}

void mly_kern_linear_bf16_avx512bf16(const uint16_t *rows, size_t stride, size_t count,
                                     const struct mly_kern_linear_bf16 *linear,
                                     enum mly_kern_finish finish, float *out, size_t out_stride)
{
    alignas(64) float sums[KERN_FLOAT_TILE * MLY_KERN_PANEL];
    for (size_t first = 0; first < linear->out; first += MLY_KERN_PANEL) {
        const uint16_t *panel = linear->panels + first * linear->in;
        for (size_t row = 0; row < count; row += KERN_FLOAT_TILE) {
            const size_t left = count - row, n = left < KERN_FLOAT_TILE ? left : KERN_FLOAT_TILE;
            const uint16_t *tile[KERN_FLOAT_TILE];
            for (size_t r = 0; r < KERN_FLOAT_TILE; r++) { /* A short tile repeats its last row. */
                tile[r] = rows + (row + (r < n ? r : n - 1)) * stride;
            }
            tile_sums(tile, panel, linear->in, sums);
            mly_kern_float_finish_avx512vnni(sums, linear->bias + first, n, finish,
                                             out + row * out_stride + first, out_stride);
        }
    }
}
