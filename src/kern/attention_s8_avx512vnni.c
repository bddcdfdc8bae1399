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
    int16_t *weights;                         /* s16[ROWS][stride] */
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
 * moves every sum to another register and back when it is given intrinsics. */
#define CLEAR_NARROW                                                                               \
    "vmovdqa64 (%[start]), %%zmm16\n\t"                                                            \
    "vmovdqa64 %%zmm16, %%zmm0\n\tvmovdqa64 %%zmm16, %%zmm2\n\t"                                   \
    "vmovdqa64 %%zmm16, %%zmm4\n\tvmovdqa64 %%zmm16, %%zmm6\n\t"                                   \
    "vmovdqa64 %%zmm16, %%zmm8\n\tvmovdqa64 %%zmm16, %%zmm10\n\t"                                  \
    "vmovdqa64 %%zmm16, %%zmm12\n\tvmovdqa64 %%zmm16, %%zmm14\n\t"
#define CLEAR_WIDE                                                                                 \
    CLEAR_NARROW                                                                                   \
    "vmovdqa64 64(%[start]), %%zmm17\n\t"                                                          \
    "vmovdqa64 %%zmm17, %%zmm1\n\tvmovdqa64 %%zmm17, %%zmm3\n\t"                                   \
    "vmovdqa64 %%zmm17, %%zmm5\n\tvmovdqa64 %%zmm17, %%zmm7\n\t"                                   \
    "vmovdqa64 %%zmm17, %%zmm9\n\tvmovdqa64 %%zmm17, %%zmm11\n\t"                                  \
    "vmovdqa64 %%zmm17, %%zmm13\n\tvmovdqa64 %%zmm17, %%zmm15\n\t"
#define LOAD_NARROW "vmovdqa64 (%[b]), %%zmm16\n\t"
#define LOAD_WIDE LOAD_NARROW "vmovdqa64 64(%[b]), %%zmm17\n\t"
#define STEP_NARROW(dot, at, by, c0, c1)                                                           \
    "vpbroadcastd " at ", %%zmm" #by "\n\t" dot " %%zmm16, %%zmm" #by ", %%zmm" #c0 "\n\t"
#define STEP_WIDE(dot, at, by, c0, c1)                                                             \
    STEP_NARROW(dot, at, by, c0, c1) dot " %%zmm17, %%zmm" #by ", %%zmm" #c1 "\n\t"
#define STORE_NARROW(r, c0, c1) "vmovdqa64 %%zmm" #c0 ", " #r "*128(%[sums])\n\t"
#define STORE_WIDE(r, c0, c1)                                                                      \
    STORE_NARROW(r, c0, c1) "vmovdqa64 %%zmm" #c1 ", 64+" #r "*128(%[sums])\n\t"
#define EACH_ROW_STEP(step, dot)                                                                   \
    step(dot, "(%[a])", 18, 0, 1) step(dot, "(%[a],%[s])", 19, 2, 3)                               \
        step(dot, "(%[a],%[s],2)", 20, 4, 5) step(dot, "(%[a],%[s3])", 21, 6, 7)                   \
            step(dot, "(%[a],%[s],4)", 22, 8, 9) step(dot, "(%[a],%[s5])", 23, 10, 11)             \
                step(dot, "(%[a],%[s3],2)", 24, 12, 13) step(dot, "(%[a],%[s7])", 25, 14, 15)
#define EACH_ROW_STORE(store)                                                                      \
    store(0, 0, 1) store(1, 2, 3) store(2, 4, 5) store(3, 6, 7) store(4, 8, 9) store(5, 10, 11)    \
        store(6, 12, 13) store(7, 14, 15)
#define TILE(name, dot, width)                                                                     \
    static inline void name(const void *a, size_t a_stride, const void *b, size_t b_stride,        \
                            size_t steps, const int32_t *start, int32_t *sums)                     \
    {                                                                                              \
        __asm__ volatile(CLEAR_##width ".p2align 5\n1:\n\t" LOAD_##width EACH_ROW_STEP(            \
                             STEP_##width, dot) "add $4, %[a]\n\t"                                 \
                                                "add %[b_stride], %[b]\n\t"                        \
                                                "dec %[steps]\n\t"                                 \
                                                "jnz 1b\n\t" EACH_ROW_STORE(STORE_##width)         \
                         : [a] "+r"(a), [b] "+r"(b), [steps] "+r"(steps)                           \
                         : [s] "r"(a_stride), [s3] "r"(3 * a_stride), [s5] "r"(5 * a_stride),      \
                           [s7] "r"(7 * a_stride), [b_stride] "r"(b_stride), [start] "r"(start),   \
                           [sums] "r"(sums)                                                        \
                         : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", \
                           "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",    \
                           "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", \
                           "xmm23", "xmm24", "xmm25");                                             \
    }
/* sums: s32[8][32], 64: start (two registers, 64) and the products of rows a and columns b. In each
 * of the steps (above 0) four bytes of a row of a, and of b 64 or 128 bytes, 64. */
TILE(score_wide, "vpdpbusd", WIDE)
TILE(score_narrow, "vpdpbusd", NARROW)
TILE(mix_wide, "vpdpwssd", WIDE)
TILE(mix_narrow, "vpdpwssd", NARROW)

/* How far scores are below the greatest, in steps of 1 / 2048; far below is any large number. */
static inline __m512i steps_below(const int32_t *scores, __m512i most, __m512 scale)
{
    const __m512i below = _mm512_sub_epi32(_mm512_load_si512(scores), most);
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(below), scale));
}

/* The weights of 32 columns as the definition has them, in 16 bits. */
static inline __m512i weights_of(const int32_t *scores, __m512i most, __m512 scale)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
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

static inline __m512i greatest_of(const struct head *head, size_t r)
{
    const int32_t *scores = head->scores + r * COLUMNS;
    __m512i greatest = _mm512_set1_epi32(NO_SCORE);
    size_t left = head->columns;
    for (; left >= COLUMNS; left -= COLUMNS) {
        const __m512i low = _mm512_load_si512(scores);
        const __m512i high = _mm512_load_si512(scores + KERN_LANES);
        greatest = _mm512_max_epi32(greatest, _mm512_max_epi32(low, high));
        scores += COLUMNS * ROWS;
    }
    if (left > 0) greatest = _mm512_max_epi32(greatest, _mm512_load_si512(scores));
    return _mm512_set1_epi32(_mm512_reduce_max_epi32(greatest));
}

/* Turns a row of scores into weights; returns their sums over the register. */
static inline __m512i soften(const struct head *head, size_t r, __m512i most)
{
    const __m512 scale = _mm512_set1_ps(head->scale);
    const __m512i ones = _mm512_set1_epi16(1);
    const int32_t *scores = head->scores + r * COLUMNS;
    int16_t *weights = head->weights + r * head->stride;
    __m512i sum = _mm512_setzero_si512();
    size_t left = head->tokens;
    for (; left >= COLUMNS; left -= COLUMNS) {
        const __m512i weight = weights_of(scores, most, scale);
        sum = _mm512_dpwssd_epi32(sum, weight, ones);
        _mm512_store_si512(weights, weight);
        scores += COLUMNS * ROWS;
        weights += COLUMNS;
    }
    if (left > 0) {
        const __mmask32 mask = (__mmask32)((1u << left) - 1u);
        const __m512i weight = _mm512_maskz_mov_epi16(mask, weights_of(scores, most, scale));
        sum = _mm512_dpwssd_epi32(sum, weight, ones);
        _mm512_store_si512(weights, weight);
    }
    return sum;
}

/* factors: 1 / the sum of its weights for each of count rows. All the greatest first, all the sums
 * last: what one row waits for, the others hide. */
static void soften_rows(const struct head *head, size_t count, float factors[ROWS])
{
    __m512i most[ROWS], sums[ROWS];
    for (size_t r = 0; r < count; r++) {
        most[r] = greatest_of(head, r);
    }
    for (size_t r = 0; r < count; r++) {
        sums[r] = soften(head, r, most[r]);
    }
    for (size_t r = 0; r < count; r++) {
        factors[r] = 1.0f / (float)_mm512_reduce_add_epi32(sums[r]);
    }
}

/* Up to eight rows from t on. */
static void attend_rows(const struct head *head, size_t t, size_t count, float *out,
                        size_t out_stride)
{
    static const alignas(64) int32_t zeros[COLUMNS] = {0};
    const size_t head_dim = head->head_dim, key_stride = 4 * head->columns;
    const uint8_t *q = head->queries + t * head_dim;
    float factors[ROWS];
    size_t u = 0;
    for (; u + COLUMNS <= head->columns; u += COLUMNS) {
        score_wide(q, head_dim, head->keys + 4 * u, key_stride, head_dim / 4, head->starts + u,
                   head->scores + u * ROWS);
    }
    if (u < head->columns) {
        score_narrow(q, head_dim, head->keys + 4 * u, key_stride, head_dim / 4, head->starts + u,
                     head->scores + u * ROWS);
    }
    soften_rows(head, count, factors);
    for (size_t i = 0; i < head_dim; i += COLUMNS) {
        const size_t stride = head->stride * sizeof(head->weights[0]);
        (head_dim - i < COLUMNS ? mix_narrow : mix_wide)(
            head->weights, stride, head->values + 2 * i, 2 * head_dim * sizeof(head->values[0]),
            (head->tokens + 1) / 2, zeros, head->scores);
        for (size_t j = i; j < head_dim && j < i + COLUMNS; j += KERN_LANES) {
            const __m512 step = _mm512_loadu_ps(head->steps + j);
            for (size_t r = 0; r < count; r++) {
                const __m512i sum = _mm512_load_si512(head->scores + r * COLUMNS + j - i);
                const __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factors[r]));
                _mm512_storeu_ps(out + r * out_stride + j, _mm512_mul_ps(y, step));
            }
        }
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
    head.keys = (int8_t *)(head.weights + ROWS * wide);
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
    for (size_t t = 0; t < tokens; t += ROWS) {
        const size_t count = tokens - t < ROWS ? tokens - t : ROWS;
        attend_rows(&head, t, count, out + t * out_stride, out_stride);
    }
}
