/* Attention in integers with VNNI, one head of one sequence. The definition is in
 * attention_s8_scalar.c.
 *
 * Queries become unsigned bytes by adding 128; what that adds to a score, 128 times the sum of the
 * key's bytes, is subtracted by what the sums start from. Keys stand as u8 products want them, four
 * dimensions of sixteen pieces in a register (head_dim / 4 of those for each column of a score),
 * and values as pairs of pieces in 16 bits, beside weights of 11 bits. Eight rows by two registers
 * are 16 sums.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512VNNI__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>
#include <stdalign.h>
#include <stddef.h>
#include <string.h>

#define ROWS 8
#define COLUMNS 32
/* Where scores behind the sequence's end start from: they are never the greatest. */
#define NO_SCORE (-(1 << 30))

struct head {
    int32_t *scores;                          /* s32[columns / 32][ROWS][32] */
    int32_t *starts;                          /* s32[columns] */
    int8_t *keys;                             /* s8[head_dim / 4][columns][4] */
    int16_t *values;                          /* s16[columns / 2][head_dim][2] */
    uint8_t *queries;                         /* u8[tokens rounded up to ROWS][head_dim] */
    int16_t *weights;                         /* s16[2][ROWS][stride] */
    float *steps;                             /* f32[head_dim], of the values */
    size_t tokens, head_dim, columns, stride; /* stride: columns rounded up to 32 */
    float scale;
};

static inline float step_of(__m512 largest)
{
    return _mm512_reduce_max_ps(largest) / 127.0f + KERN_SCALE_MIN;
}

static inline __m512i to_whole(const float *x, __m512 factor)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), factor));
}

/* The largest sizes: all of q, all of k, of v those of each dimension. */
static void find_steps(struct head *head, const float *q, const float *k, const float *v,
                       size_t stride, float *query_step, float *key_step)
{
    __m512 q_most = _mm512_setzero_ps(), k_most = q_most;
    for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
        __m512 v_most = _mm512_setzero_ps();
        for (size_t t = 0; t < head->tokens; t++) {
            const size_t at = t * stride + i;
            q_most = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(q + at)), q_most);
            k_most = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(k + at)), k_most);
            v_most = _mm512_max_ps(_mm512_abs_ps(_mm512_loadu_ps(v + at)), v_most);
        }
        const __m512 step = _mm512_add_ps(_mm512_div_ps(v_most, _mm512_set1_ps(127.0f)),
                                          _mm512_set1_ps(KERN_SCALE_MIN));
        _mm512_storeu_ps(head->steps + i, step);
    }
    *query_step = step_of(q_most);
    *key_step = step_of(k_most);
}

static void fill_queries(const struct head *head, const float *q, size_t stride, float step)
{
    const __m512 factor = _mm512_set1_ps(1.0f / step);
    const __m128i above = _mm_set1_epi8((char)0x80);
    for (size_t t = 0; t < head->tokens; t++) {
        for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
            const __m128i bytes = _mm512_cvtepi32_epi8(to_whole(q + t * stride + i, factor));
            _mm_storeu_si128((__m128i *)(void *)(head->queries + t * head->head_dim + i),
                             _mm_xor_si128(bytes, above));
        }
    }
    const size_t rest = (ROWS - head->tokens % ROWS) % ROWS; /* Their outputs go nowhere. */
    memset(head->queries + head->tokens * head->head_dim, 0, rest * head->head_dim);
}

/* Sixteen dimensions of up to four pieces: in quarter l of the register the dimensions 4 l to
 * 4 l + 3 of each piece. */
static inline __m512i four_keys(const float *k, size_t stride, size_t count, __m512 factor)
{
    const __m512i none = _mm512_setzero_si512();
    const __m512i a = count > 0 ? to_whole(k, factor) : none;
    const __m512i b = count > 1 ? to_whole(k + stride, factor) : none;
    const __m512i c = count > 2 ? to_whole(k + 2 * stride, factor) : none;
    const __m512i d = count > 3 ? to_whole(k + 3 * stride, factor) : none;
    return _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
}

static void fill_keys(const struct head *head, const float *k, size_t stride, float step)
{
    const __m512 factor = _mm512_set1_ps(1.0f / step);
    const __m512i bytes_of_128 = _mm512_set1_epi8((char)0x80);
    for (size_t u = 0; u < head->columns; u += KERN_LANES) {
        __m512i added = _mm512_setzero_si512();
        for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
            __m512i z[4];
            for (size_t j = 0; j < 4; j++) {
                const size_t first = u + 4 * j;
                const size_t count = first < head->tokens ? head->tokens - first : 0;
                z[j] = four_keys(count > 0 ? k + first * stride + i : k, stride, count, factor);
            }
            const __m512i even_low = _mm512_shuffle_i32x4(z[0], z[1], 0x88);
            const __m512i odd_low = _mm512_shuffle_i32x4(z[0], z[1], 0xdd);
            const __m512i even_high = _mm512_shuffle_i32x4(z[2], z[3], 0x88);
            const __m512i odd_high = _mm512_shuffle_i32x4(z[2], z[3], 0xdd);
            z[0] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
            z[1] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
            z[2] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
            z[3] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
            for (size_t j = 0; j < 4; j++) {
                _mm512_store_si512(head->keys + ((i / 4 + j) * head->columns + u) * 4, z[j]);
                added = _mm512_dpbusd_epi32(added, bytes_of_128, z[j]);
            }
        }
        __m512i start = _mm512_sub_epi32(_mm512_setzero_si512(), added);
        if (u + KERN_LANES > head->tokens) {
            const __mmask16 behind = (__mmask16)(0xffffu << (head->tokens - u));
            start = _mm512_mask_mov_epi32(start, behind, _mm512_set1_epi32(NO_SCORE));
        }
        _mm512_store_si512(head->starts + u, start);
    }
}

static void fill_values(const struct head *head, const float *v, size_t stride)
{
    for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
        const __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_loadu_ps(head->steps + i));
        for (size_t u = 0; u < head->tokens; u += 2) {
            const __m512i even = to_whole(v + u * stride + i, factor);
            const __m512i odd = u + 1 < head->tokens ? to_whole(v + (u + 1) * stride + i, factor)
                                                     : _mm512_setzero_si512();
            const __m512i pair =
                _mm512_mask_blend_epi16(0xaaaaaaaau, even, _mm512_slli_epi32(odd, 16));
            _mm512_store_si512(head->values + u * head->head_dim + 2 * i, pair);
        }
    }
}

/* Eight rows by two registers: row r has the sums zmm 2 r and 2 r + 1. In assembly because gcc 12
 * moves every sum to another register and back when it is given intrinsics. Of what stands between
 * the dot products only other products and stores take time: so the maxima are taken beside the
 * scores, and the weights beside the mix of the rows before. */
#define ALL_SUMS(what)                                                                             \
    what(0, 0, 1) what(1, 2, 3) what(2, 4, 5) what(3, 6, 7) what(4, 8, 9) what(5, 10, 11)          \
        what(6, 12, 13) what(7, 14, 15)
#define START_NARROW(r, c0, c1) "vmovdqa64 %%zmm16, %%zmm" #c0 "\n\t"
#define START_WIDE(r, c0, c1) START_NARROW(r, c0, c1) "vmovdqa64 %%zmm17, %%zmm" #c1 "\n\t"
#define LOAD_NARROW(from) "vmovdqa64 (%[" from "]), %%zmm16\n\t"
#define LOAD_WIDE(from) LOAD_NARROW(from) "vmovdqa64 64(%[" from "]), %%zmm17\n\t"
#define DOT_NARROW(dot, at, by, c0, c1)                                                            \
    "vpbroadcastd " at ", %%zmm" #by "\n\t" dot " %%zmm16, %%zmm" #by ", %%zmm" #c0 "\n\t"
#define DOT_WIDE(dot, at, by, c0, c1)                                                              \
    DOT_NARROW(dot, at, by, c0, c1) dot " %%zmm17, %%zmm" #by ", %%zmm" #c1 "\n\t"
#define STEP(load, do, dot)                                                                        \
    load("b") do(dot, "(%[a])", 18, 0, 1) do(dot, "(%[a],%[s])", 19, 2, 3) do(                     \
        dot, "(%[a],%[s],2)", 18, 4,                                                               \
        5) do(dot, "(%[a],%[s3])", 19, 6,                                                          \
              7) do(dot, "(%[a],%[s],4)", 18, 8,                                                   \
                    9) do(dot, "(%[a],%[s5])", 19, 10,                                             \
                          11) do(dot, "(%[a],%[s3],2)", 18, 12,                                    \
                                 13) do(dot, "(%[a],%[s7])", 19, 14,                               \
                                        15) "add $4, %[a]\n\t"                                     \
                                            "add %[b_stride], %[b]\n\t"
/* Scores in halves of registers: between dot products a store of 64 bytes takes 1.5 cycles of Zen
 * 4, two of 32 take half a cycle. */
#define STORE_HALVES(c, at)                                                                        \
    "vmovdqa64 %%ymm" #c ", " at "(%[sums])\n\t"                                                   \
    "vextracti64x4 $1, %%zmm" #c ", 32+" at "(%[sums])\n\t"
#define STORE_NARROW(r, c0, c1) STORE_HALVES(c0, #r "*128")
#define STORE_WIDE(r, c0, c1) STORE_HALVES(c0, #r "*128") STORE_HALVES(c1, "64+" #r "*128")
#define MAX_NARROW(r, c0, c1) "vpmaxsd %%zmm" #c0 ", %[m" #r "], %[m" #r "]\n\t"
#define MAX_WIDE(r, c0, c1) MAX_NARROW(r, c0, c1) MAX_NARROW(r, c1, c1)
#define STRIDES(stride)                                                                            \
    [s] "r"(stride), [s3] "r"(3 * (stride)), [s5] "r"(5 * (stride)), [s7] "r"(7 * (stride))
#define SUM_REGISTERS                                                                              \
    "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",        \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18",   \
        "xmm19"
#define SOFTEN_REGISTERS                                                                           \
    "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29",      \
        "xmm30", "xmm31"

/* Where a run of columns begins, how many blocks it has; assembly knows the places. */
struct score_run {
    const uint8_t *queries;
    const int8_t *keys;
    size_t blocks, steps; /* above 0 */
};
_Static_assert(offsetof(struct score_run, keys) == 8 && offsetof(struct score_run, blocks) == 16 &&
                   offsetof(struct score_run, steps) == 24,
               "numbers in assembly");

/* Scores of eight rows; the rows' greatest so far, in all lanes, get greater by them. */
#define SCORE(name, start, load, do, max, store)                                                   \
    static inline void name(struct score_run *run, size_t a_stride, size_t b_stride,               \
                            const int32_t *starts, int32_t *sums, __m512i most[ROWS])              \
    {                                                                                              \
        const void *a, *b;                                                                         \
        size_t left;                                                                               \
        __asm__ volatile("1:\n\t"                                                                  \
                         "mov (%[run]), %[a]\n\t"                                                  \
                         "mov 8(%[run]), %[b]\n\t"                                                 \
                         "mov 24(%[run]), %[left]\n\t" load("starts")                              \
                             ALL_SUMS(start) ".p2align 5\n2:\n\t" STEP(                            \
                                 load, do, "vpdpbusd") "dec %[left]\n\t"                           \
                                                       "jnz 2b\n\t" ALL_SUMS(max) ALL_SUMS(        \
                                                           store) "add $128, %[starts]\n\t"        \
                                                                  "add $1024, %[sums]\n\t"         \
                                                                  "addq $128, 8(%[run])\n\t"       \
                                                                  "decq 16(%[run])\n\t"            \
                                                                  "jnz 1b\n\t"                     \
                         : [a] "=&r"(a), [b] "=&r"(b), [left] "=&r"(left), [starts] "+&r"(starts), \
                           [sums] "+&r"(sums), [m0] "+&v"(most[0]), [m1] "+&v"(most[1]),           \
                           [m2] "+&v"(most[2]), [m3] "+&v"(most[3]), [m4] "+&v"(most[4]),          \
                           [m5] "+&v"(most[5]), [m6] "+&v"(most[6]), [m7] "+&v"(most[7])           \
                         : [run] "r"(run), [b_stride] "r"(b_stride), STRIDES(a_stride)             \
                         : SUM_REGISTERS);                                                         \
    }
SCORE(score_wide, START_WIDE, LOAD_WIDE, DOT_WIDE, MAX_WIDE, STORE_WIDE)
SCORE(score_narrow, START_NARROW, LOAD_NARROW, DOT_NARROW, MAX_NARROW, STORE_NARROW)

/* Numbers of weights_of and its like in assembly. */
#define EIGHT(x) x, x, x, x, x, x, x, x
#define ALL(x) EIGHT(x), EIGHT(x), EIGHT(x), EIGHT(x)
static const alignas(64) int16_t soften_numbers[8][COLUMNS] = {
    {0, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 6, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 7},
    {ALL(0x7ff0)},
    {ALL(KERN_WEIGHT_2)},
    {ALL(KERN_WEIGHT_1)},
    {ALL(16384)},
    {ALL(2)},
    {ALL(0)},
    {ALL(1)},
};

/* A row's scores as they become weights: their greatest in all lanes, the weights' sum over the
 * lanes. */
struct row {
    alignas(64) int32_t most[KERN_LANES], sum[KERN_LANES];
};
_Static_assert(sizeof(struct row) == 128, "numbers in assembly");

/* A mix of values, and the rows of scores that become weights meanwhile: of each the blocks of 32
 * columns that are full. */
struct mix_run {
    size_t rows, blocks;            /* of scores; rows may be 0 */
    size_t scores_back, weights_on; /* bytes from a row's end to the next one's begin */
    size_t rest;                    /* steps of the mix after that */
    int32_t *sums;                  /* s32[ROWS][32] */
    float scale;
};
_Static_assert(offsetof(struct mix_run, blocks) == 8 &&
                   offsetof(struct mix_run, scores_back) == 16 &&
                   offsetof(struct mix_run, weights_on) == 24 &&
                   offsetof(struct mix_run, rest) == 32 && offsetof(struct mix_run, sums) == 40 &&
                   offsetof(struct mix_run, scale) == 48,
               "numbers in assembly");

/* weights_of for 32 scores, and the sum; zmm 23: the sum, 24: the greatest, 25: the scale, 26 to
 * 31: the order and the first five numbers. */
#define SOFTEN                                                                                     \
    "vmovdqa64 (%[sums]), %%zmm20\n\t"                                                             \
    "vmovdqa64 64(%[sums]), %%zmm21\n\t"                                                           \
    "vpsubd %%zmm24, %%zmm20, %%zmm20\n\t"                                                         \
    "vpsubd %%zmm24, %%zmm21, %%zmm21\n\t"                                                         \
    "vcvtdq2ps %%zmm20, %%zmm20\n\t"                                                               \
    "vcvtdq2ps %%zmm21, %%zmm21\n\t"                                                               \
    "vmulps %%zmm25, %%zmm20, %%zmm20\n\t"                                                         \
    "vmulps %%zmm25, %%zmm21, %%zmm21\n\t"                                                         \
    "vcvtps2dq %%zmm20, %%zmm20\n\t"                                                               \
    "vcvtps2dq %%zmm21, %%zmm21\n\t"                                                               \
    "vpackssdw %%zmm21, %%zmm20, %%zmm20\n\t"                                                      \
    "vpermq %%zmm20, %%zmm26, %%zmm20\n\t"                                                         \
    "vpsllw $4, %%zmm20, %%zmm21\n\t"                                                              \
    "vpandd %%zmm27, %%zmm21, %%zmm21\n\t"                                                         \
    "vpmulhrsw %%zmm28, %%zmm21, %%zmm22\n\t"                                                      \
    "vpaddw %%zmm29, %%zmm22, %%zmm22\n\t"                                                         \
    "vpmulhrsw %%zmm22, %%zmm21, %%zmm22\n\t"                                                      \
    "vpaddw %%zmm30, %%zmm22, %%zmm22\n\t"                                                         \
    "vpsraw $11, %%zmm20, %%zmm20\n\t"                                                             \
    "vpsubw %%zmm20, %%zmm31, %%zmm20\n\t"                                                         \
    "vpsrlvw %%zmm20, %%zmm22, %%zmm22\n\t"                                                        \
    "vpavgw 384(%[numbers]), %%zmm22, %%zmm22\n\t"                                                 \
    "vpdpwssd 448(%[numbers]), %%zmm22, %%zmm23\n\t"                                               \
    "vmovdqa64 %%zmm22, (%[weights])\n\t"
#define CLEAR(r, c0, c1)                                                                           \
    "vpxord %%zmm" #c0 ", %%zmm" #c0 ", %%zmm" #c0 "\n\t"                                          \
    "vpxord %%zmm" #c1 ", %%zmm" #c1 ", %%zmm" #c1 "\n\t"
#define MIX_WIDE STEP(LOAD_WIDE, DOT_WIDE, "vpdpwssd")

/* run->sums = the rows a times the columns b, 32 of them. In each of the steps four bytes of a row
 * of a, and of b 128 bytes. */
static void mix_wide(struct mix_run *run, const int16_t *a, size_t a_stride, const int16_t *b,
                     size_t b_stride, const int32_t *scores, int16_t *weights, struct row *rows)
{
    size_t left;
    __asm__ volatile(
        ALL_SUMS(CLEAR) "cmpq $0, (%[run])\n\t"
                        "je 3f\n\t"
                        "vbroadcastss 48(%[run]), %%zmm25\n\t"
                        "vmovdqa64 (%[numbers]), %%zmm26\n\t"
                        "vmovdqa64 64(%[numbers]), %%zmm27\n\t"
                        "vmovdqa64 128(%[numbers]), %%zmm28\n\t"
                        "vmovdqa64 192(%[numbers]), %%zmm29\n\t"
                        "vmovdqa64 256(%[numbers]), %%zmm30\n\t"
                        "vmovdqa64 320(%[numbers]), %%zmm31\n\t"
                        "1:\n\t"
                        "mov 8(%[run]), %[left]\n\t"
                        "vmovdqa64 (%[rows]), %%zmm24\n\t"
                        "vmovdqa64 64(%[rows]), %%zmm23\n\t"
                        ".p2align 5\n2:\n\t" MIX_WIDE SOFTEN MIX_WIDE "add $1024, %[sums]\n\t"
                        "add $64, %[weights]\n\t"
                        "dec %[left]\n\t"
                        "jnz 2b\n\t"
                        "vmovdqa64 %%zmm23, 64(%[rows])\n\t"
                        "add $128, %[rows]\n\t"
                        "sub 16(%[run]), %[sums]\n\t"
                        "add 24(%[run]), %[weights]\n\t"
                        "decq (%[run])\n\t"
                        "jnz 1b\n\t"
                        "3:\n\t"
                        "mov 32(%[run]), %[left]\n\t"
                        "test %[left], %[left]\n\t"
                        "jz 5f\n\t"
                        ".p2align 5\n4:\n\t" MIX_WIDE "dec %[left]\n\t"
                        "jnz 4b\n\t"
                        "5:\n\t"
                        "mov 40(%[run]), %[sums]\n\t" ALL_SUMS(STORE_WIDE)
        : [a] "+&r"(a), [b] "+&r"(b), [left] "=&r"(left), [sums] "+&r"(scores),
          [weights] "+&r"(weights), [rows] "+&r"(rows)
        : [run] "r"(run), [numbers] "r"(soften_numbers), [b_stride] "r"(b_stride), STRIDES(a_stride)
        : SUM_REGISTERS, SOFTEN_REGISTERS);
}

/* The same for 16 columns; no scores. */
static void mix_narrow(struct mix_run *run, const int16_t *a, size_t a_stride, const int16_t *b,
                       size_t b_stride)
{
    size_t left = run->rest;
    __asm__ volatile(ALL_SUMS(CLEAR) ".p2align 5\n1:\n\t" STEP(
                         LOAD_NARROW, DOT_NARROW, "vpdpwssd") "dec %[left]\n\t"
                                                              "jnz 1b\n\t" ALL_SUMS(STORE_NARROW)
                     : [a] "+&r"(a), [b] "+&r"(b), [left] "+&r"(left)
                     : [sums] "r"(run->sums), [b_stride] "r"(b_stride), STRIDES(a_stride)
                     : SUM_REGISTERS);
}

/* One number of each of eight registers, in the order that place_of gives: what FOLD makes of all
 * of its sixteen. */
#define FOLD(name, what)                                                                           \
    static inline __m512i name(const __m512i x[ROWS])                                              \
    {                                                                                              \
        __m512i pairs[ROWS / 2], fours[2];                                                         \
        for (size_t i = 0; i < ROWS / 2; i++) {                                                    \
            pairs[i] = what(_mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]),                         \
                            _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]));                        \
        }                                                                                          \
        for (size_t i = 0; i < 2; i++) {                                                           \
            fours[i] = what(_mm512_unpacklo_epi64(pairs[2 * i], pairs[2 * i + 1]),                 \
                            _mm512_unpackhi_epi64(pairs[2 * i], pairs[2 * i + 1]));                \
        }                                                                                          \
        const __m512i all = what(_mm512_shuffle_i32x4(fours[0], fours[1], 0x44),                   \
                                 _mm512_shuffle_i32x4(fours[0], fours[1], 0xee));                  \
        return what(all, _mm512_shuffle_i32x4(all, all, 0xb1));                                    \
    }
FOLD(fold_greatest, _mm512_max_epi32)
FOLD(fold_sums, _mm512_add_epi32)

static inline size_t place_of(size_t r)
{
    return r < 4 ? r : r + 4;
}

/* How far scores are below the greatest, in steps of 1 / 2048; far below is any large number. */
static inline __m512i steps_below(const int32_t *scores, __m512i most, __m512 scale)
{
    const __m512i below = _mm512_sub_epi32(_mm512_load_si512(scores), most);
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(below), scale));
}

/* The weights of 32 columns as the definition has them, in 16 bits. */
static inline __m512i weights_of(const int32_t *scores, __m512i most, __m512 scale)
{
    const __m512i order = _mm512_load_si512(soften_numbers[0]);
    const __m512i first = steps_below(scores, most, scale);
    const __m512i second = steps_below(scores + KERN_LANES, most, scale);
    /* Saturates at -32768: numbers that do not fit 32 bits have become the least one of those. */
    const __m512i x = _mm512_permutexvar_epi64(order, _mm512_packs_epi32(first, second));
    const __m512i fraction = _mm512_and_si512(_mm512_slli_epi16(x, 4), _mm512_set1_epi16(0x7ff0));
    __m512i power = _mm512_mulhrs_epi16(fraction, _mm512_set1_epi16(KERN_WEIGHT_2));
    power = _mm512_add_epi16(power, _mm512_set1_epi16(KERN_WEIGHT_1));
    power = _mm512_mulhrs_epi16(fraction, power);
    power = _mm512_add_epi16(power, _mm512_set1_epi16(16384));
    const __m512i shift =
        _mm512_sub_epi16(_mm512_set1_epi16(2), _mm512_srai_epi16(x, KERN_WEIGHT_BITS));
    return _mm512_avg_epu16(_mm512_srlv_epi16(power, shift), _mm512_setzero_si512());
}

/* Turns scores of one row into weights, from a block of columns on; returns their sum over the
 * lanes. */
static inline __m512i soften(const struct head *head, size_t block, const int32_t *scores,
                             __m512i most, int16_t *weights)
{
    const __m512 scale = _mm512_set1_ps(head->scale);
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i sum = _mm512_setzero_si512();
    size_t u = block * COLUMNS;
    scores += block * COLUMNS * ROWS;
    for (; u + COLUMNS <= head->tokens; u += COLUMNS) {
        const __m512i weight = weights_of(scores, most, scale);
        sum = _mm512_dpwssd_epi32(sum, weight, ones);
        _mm512_store_si512(weights + u, weight);
        scores += COLUMNS * ROWS;
    }
    if (u < head->tokens) {
        const __mmask32 mask = (__mmask32)((1u << (head->tokens - u)) - 1u);
        const __m512i weight = _mm512_maskz_mov_epi16(mask, weights_of(scores, most, scale));
        sum = _mm512_dpwssd_epi32(sum, weight, ones);
        _mm512_store_si512(weights + u, weight);
    }
    return sum;
}

/* Scores of the eight rows from t on; most: their greatest. */
static inline void score_rows(const struct head *head, size_t t, __m512i most[ROWS])
{
    const size_t blocks = head->columns / COLUMNS;
    struct score_run run = {head->queries + t * head->head_dim, head->keys, blocks,
                            head->head_dim / 4};
    for (size_t r = 0; r < ROWS; r++) {
        most[r] = _mm512_set1_epi32(NO_SCORE);
    }
    if (blocks > 0) {
        score_wide(&run, head->head_dim, 4 * head->columns, head->starts, head->scores, most);
    }
    if (head->columns % COLUMNS != 0) {
        run.blocks = 1;
        score_narrow(&run, head->head_dim, 4 * head->columns, head->starts + blocks * COLUMNS,
                     head->scores + blocks * COLUMNS * ROWS, most);
    }
    const __m512i greatest = fold_greatest(most);
    for (size_t r = 0; r < ROWS; r++) {
        const __m512i place = _mm512_set1_epi32((int32_t)place_of(r));
        most[r] = _mm512_permutexvar_epi32(place, greatest);
    }
}

/* Eight rows on their way: their weights, and 1 / the sum of those. */
struct tile {
    int16_t *weights;
    alignas(64) float factors[KERN_LANES]; /* at place_of */
};

/* The outputs of up to eight rows: 32 dimensions from i on, or 16, where no more are left. */
static void put_rows(const struct head *head, const struct tile *tile, size_t i, size_t count,
                     float *out, size_t out_stride)
{
    for (size_t j = i; j < head->head_dim && j < i + COLUMNS; j += KERN_LANES) {
        const __m512 step = _mm512_loadu_ps(head->steps + j);
        for (size_t r = 0; r < count; r++) {
            const __m512i sum = _mm512_load_si512(head->scores + r * COLUMNS + j - i);
            const __m512 factor = _mm512_set1_ps(tile->factors[place_of(r)]);
            const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), factor);
            _mm512_storeu_ps(out + r * out_stride + j, _mm512_mul_ps(y, step));
        }
    }
}

/* Mixes the values for the rows of before; meanwhile scores become the weights of next, so many
 * blocks of columns. */
static void mix_rows(const struct head *head, const struct tile *before, size_t count,
                     size_t beside, const struct tile *next, struct row rows[ROWS], float *out,
                     size_t out_stride)
{
    const size_t stride = head->stride * sizeof(head->weights[0]);
    const size_t b_stride = 2 * head->head_dim * sizeof(head->values[0]);
    struct mix_run run = {
        .rows = beside > 0 ? ROWS : 0,
        .blocks = beside,
        .scores_back = beside * COLUMNS * ROWS * sizeof(int32_t) - COLUMNS * sizeof(int32_t),
        .weights_on = (head->stride - beside * COLUMNS) * sizeof(int16_t),
        .rest = (head->tokens + 1) / 2 - beside * (COLUMNS / 2),
        .sums = head->scores,
        .scale = head->scale,
    };
    for (size_t i = 0; i < head->head_dim; i += COLUMNS) {
        if (head->head_dim - i < COLUMNS) {
            mix_narrow(&run, before->weights, stride, head->values + 2 * i, b_stride);
        } else {
            mix_wide(&run, before->weights, stride, head->values + 2 * i, b_stride, head->scores,
                     next->weights, rows);
        }
        run.rest = (head->tokens + 1) / 2; /* and run.rows is 0 now */
        put_rows(head, before, i, count, out, out_stride);
    }
}

static inline void find_factors(struct tile *tile, const __m512i sums[ROWS])
{
    const __m512 sum = _mm512_cvtepi32_ps(fold_sums(sums));
    _mm512_store_ps(tile->factors, _mm512_div_ps(_mm512_set1_ps(1.0f), sum));
}

/* The scores of the eight rows from t on, and their weights but for blocks of columns in the front
 * that are left to mix_rows. */
static inline void weigh_rows(const struct head *head, size_t t, size_t beside, struct tile *tile,
                              struct row rows[ROWS])
{
    __m512i most[ROWS], sums[ROWS];
    score_rows(head, t, most);
    for (size_t r = 0; r < ROWS; r++) {
        sums[r] = soften(head, beside, head->scores + r * COLUMNS, most[r],
                         tile->weights + r * head->stride);
    }
    if (beside == 0) {
        find_factors(tile, sums);
        return;
    }
    for (size_t r = 0; r < ROWS; r++) {
        _mm512_store_si512(rows[r].most, most[r]);
        _mm512_store_si512(rows[r].sum, sums[r]);
    }
}

/* All rows, eight at a time: while the values are mixed by the weights of one eight, the next
 * one's scores become weights. */
static void attend(const struct head *head, float *out, size_t out_stride)
{
    struct row rows[ROWS];
    struct tile tiles[2] = {{.weights = head->weights},
                            {.weights = head->weights + ROWS * head->stride}};
    struct tile *before = &tiles[0], *next = &tiles[1];
    const size_t blocks = head->head_dim < COLUMNS ? 0 : head->tokens / COLUMNS;
    weigh_rows(head, 0, 0, before, rows);
    for (size_t t = 0; t < head->tokens; t += ROWS) {
        const size_t left = head->tokens - t, beside = left > ROWS ? blocks : 0;
        const size_t count = left < ROWS ? left : ROWS;
        if (beside == 0) {
            mix_rows(head, before, count, 0, next, rows, out, out_stride);
            if (left > ROWS) weigh_rows(head, t + ROWS, 0, next, rows);
        } else {
            __m512i sums[ROWS];
            weigh_rows(head, t + ROWS, beside, next, rows);
            mix_rows(head, before, count, beside, next, rows, out, out_stride);
            for (size_t r = 0; r < ROWS; r++) {
                sums[r] = _mm512_load_si512(rows[r].sum);
            }
            find_factors(next, sums);
        }
        out += ROWS * out_stride;
        struct tile *const swapped = before;
        before = next;
        next = swapped;
    }
}

void mly_kern_attention_s8_avx512vnni(const float *q, const float *k, const float *v, size_t stride,
                                      size_t tokens, size_t head_dim, void *scratch, float *out,
                                      size_t out_stride)
{
    const size_t columns = (tokens + KERN_LANES - 1) / KERN_LANES * KERN_LANES;
    const size_t wide = (tokens + COLUMNS - 1) / COLUMNS * COLUMNS;
    struct head head = {.scores = scratch,
                        .tokens = tokens,
                        .head_dim = head_dim,
                        .columns = columns,
                        .stride = wide};
    head.starts = head.scores + ROWS * wide;
    head.weights = (int16_t *)(void *)(head.starts + columns);
    head.keys = (int8_t *)(head.weights + 2 * ROWS * wide);
    head.values = (int16_t *)(void *)(head.keys + columns * head_dim);
    head.steps = (float *)(void *)(head.values + columns * head_dim);
    head.queries = (uint8_t *)(head.steps + head_dim);
    float query_step, key_step;
    find_steps(&head, q, k, v, stride, &query_step, &key_step);
    const float scale = query_step * key_step * 2048.0f;
    head.scale = scale < KERN_SCALE_MAX ? scale : KERN_SCALE_MAX;
    fill_queries(&head, q, stride, query_step);
    fill_keys(&head, k, stride, key_step);
    fill_values(&head, v, stride);
    attend(&head, out, out_stride);
}
