/* Attention in integers with VNNI, one head of one sequence. The definition is attention_s8_scalar.c.
 *
 * Queries become unsigned bytes by adding 128; what that adds to a score, 128 times the sum of the
 * key's bytes, is subtracted by what the sums start from. Keys stand as u8 products want them, four
 * dimensions of sixteen pieces in a register (head_dim / 4 of those for each column of a score), and
 * values as pairs of pieces in 16 bits, beside weights of 11 bits. Eight rows by two registers are
 * 16 sums.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512VNNI__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define ROWS 8
/* Where scores behind the sequence's end start from: they are never the greatest. */
#define NO_SCORE (-(1 << 30))

struct head {
    int32_t *scores;  /* s32[ROWS][columns] */
    int32_t *starts;  /* s32[columns] */
    int8_t *keys;     /* s8[head_dim / 4][columns][4] */
    int16_t *values;  /* s16[columns / 2][head_dim][2] */
    uint8_t *queries; /* u8[tokens][head_dim] */
    int16_t *weights; /* s16[ROWS][columns] */
    float *steps;     /* f32[head_dim], of the values */
    size_t tokens, head_dim, columns;
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
                z[j] = four_keys(k + first * stride + i, stride, count, factor);
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

static inline __m512i broadcast(const void *four_bytes)
{
    int32_t value;
    __builtin_memcpy(&value, four_bytes, sizeof(value));
    return _mm512_set1_epi32(value);
}

#define EACH_ROW(what) what(0) what(1) what(2) what(3) what(4) what(5) what(6) what(7)

#define SCORE_START(r) __m512i s##r##0 = start0, s##r##1 = start1;
#define SCORE_STEP(r)                                                                              \
    {                                                                                              \
        const __m512i four = broadcast(q[r] + i);                                                  \
        s##r##0 = _mm512_dpbusd_epi32(s##r##0, four, k0);                                          \
        if (wide) s##r##1 = _mm512_dpbusd_epi32(s##r##1, four, k1);                                \
    }
#define SCORE_STORE(r)                                                                             \
    _mm512_store_si512(scores + r * head->columns, s##r##0);                                       \
    if (wide) _mm512_store_si512(scores + r * head->columns + KERN_LANES, s##r##1);

/* Scores of eight rows and 32 columns from u on (16 where wide is 0). */
static inline __attribute__((always_inline)) void
score_tile(const struct head *head, const uint8_t *const q[ROWS], size_t u, int wide)
{
    const __m512i start0 = _mm512_load_si512(head->starts + u);
    const __m512i start1 = wide ? _mm512_load_si512(head->starts + u + KERN_LANES) : start0;
    const int8_t *keys = head->keys + u * 4;
    int32_t *scores = head->scores + u;
    EACH_ROW(SCORE_START)
    for (size_t i = 0; i < head->head_dim; i += 4) {
        const __m512i k0 = _mm512_load_si512(keys);
        const __m512i k1 = wide ? _mm512_load_si512(keys + 4 * KERN_LANES) : k0;
        EACH_ROW(SCORE_STEP)
        keys += 4 * head->columns;
    }
    EACH_ROW(SCORE_STORE)
}

/* 2047 * 2^x, whole, as the definition has it, for the scores of sixteen columns. */
static inline __m512i weights_of(__m512i scores, __m512i most, __m512 scale)
{
    static const float c[] = KERN_WEIGHT_COEFFICIENTS;
    const __m512 round = _mm512_set1_ps(KERN_ROUND);
    const __m512 x = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(scores, most)), scale);
    const __m512 clamped = _mm512_max_ps(x, _mm512_set1_ps(KERN_WEIGHT_MIN));
    const __m512 shifted = _mm512_add_ps(clamped, round);
    const __m512 f = _mm512_sub_ps(clamped, _mm512_sub_ps(shifted, round));
    __m512 p = _mm512_set1_ps(c[3]);
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[2]));
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[1]));
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[0]));
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    const __m512i bits = _mm512_add_epi32(_mm512_castps_si512(p), exponent);
    return _mm512_cvtps_epi32(_mm512_castsi512_ps(bits));
}

/* Turns a row of scores into weights; returns their sum. */
static inline int32_t soften(const int32_t *scores, int16_t *weights, size_t tokens, float by)
{
    const size_t whole = tokens - tokens % KERN_LANES;
    __m512i greatest = _mm512_load_si512(scores), sum = _mm512_setzero_si512();
    for (size_t u = KERN_LANES; u < tokens; u += KERN_LANES) {
        greatest = _mm512_max_epi32(greatest, _mm512_load_si512(scores + u));
    }
    const __m512i most = _mm512_set1_epi32(_mm512_reduce_max_epi32(greatest));
    const __m512 scale = _mm512_set1_ps(by);
    for (size_t u = 0; u < whole; u += KERN_LANES) {
        const __m512i weight = weights_of(_mm512_load_si512(scores + u), most, scale);
        sum = _mm512_add_epi32(sum, weight);
        _mm256_store_si256((__m256i *)(void *)(weights + u), _mm512_cvtepi32_epi16(weight));
    }
    if (whole < tokens) {
        const __mmask16 mask = (__mmask16)((1u << (tokens - whole)) - 1u);
        const __m512i weight = _mm512_maskz_mov_epi32(
            mask, weights_of(_mm512_load_si512(scores + whole), most, scale));
        sum = _mm512_add_epi32(sum, weight);
        _mm256_store_si256((__m256i *)(void *)(weights + whole), _mm512_cvtepi32_epi16(weight));
    }
    return _mm512_reduce_add_epi32(sum);
}

#define MIX_START(r) __m512i m##r##0 = _mm512_setzero_si512(), m##r##1 = m##r##0;
#define MIX_STEP(r)                                                                                \
    {                                                                                              \
        const __m512i pair = broadcast(weights + r * head->columns + u);                           \
        m##r##0 = _mm512_dpwssd_epi32(m##r##0, pair, v0);                                          \
        if (wide) m##r##1 = _mm512_dpwssd_epi32(m##r##1, pair, v1);                                \
    }
#define MIX_STORE(r)                                                                               \
    if (r < count) {                                                                               \
        float *to = out + r * out_stride;                                                          \
        const __m512 factor = _mm512_set1_ps(factors[r]);                                          \
        const __m512 y0 = _mm512_mul_ps(_mm512_cvtepi32_ps(m##r##0), factor);                      \
        const __m512 y1 = _mm512_mul_ps(_mm512_cvtepi32_ps(m##r##1), factor);                      \
        _mm512_storeu_ps(to, _mm512_mul_ps(y0, step0));                                            \
        if (wide) _mm512_storeu_ps(to + KERN_LANES, _mm512_mul_ps(y1, step1));                     \
    }

/* 32 dimensions of up to eight rows, from i on (16 where wide is 0). */
static inline __attribute__((always_inline)) void mix_tile(const struct head *head, size_t i,
                                                           const float factors[ROWS], size_t count,
                                                           float *out, size_t out_stride, int wide)
{
    const int16_t *weights = head->weights, *values = head->values + 2 * i;
    const __m512 step0 = _mm512_loadu_ps(head->steps + i);
    const __m512 step1 = wide ? _mm512_loadu_ps(head->steps + i + KERN_LANES) : step0;
    EACH_ROW(MIX_START)
    for (size_t u = 0; u < head->tokens; u += 2) {
        const __m512i v0 = _mm512_load_si512(values);
        const __m512i v1 = wide ? _mm512_load_si512(values + 2 * KERN_LANES) : v0;
        EACH_ROW(MIX_STEP)
        values += 2 * head->head_dim;
    }
    EACH_ROW(MIX_STORE)
}

static void attend_rows(const struct head *head, size_t t, size_t count, float *out,
                        size_t out_stride)
{
    const uint8_t *q[ROWS];
    float factors[ROWS];
    size_t u = 0, i = 0;
    for (size_t r = 0; r < ROWS; r++) { /* A short tile repeats its last row. */
        q[r] = head->queries + (t + (r < count ? r : count - 1)) * head->head_dim;
    }
    for (; u + 2 * KERN_LANES <= head->columns; u += 2 * KERN_LANES) {
        score_tile(head, q, u, 1);
    }
    if (u < head->columns) score_tile(head, q, u, 0);
    for (size_t r = 0; r < ROWS; r++) {
        factors[r] =
            1.0f / (float)soften(head->scores + r * head->columns,
                                 head->weights + r * head->columns, head->tokens, head->scale);
    }
    for (; i + 2 * KERN_LANES <= head->head_dim; i += 2 * KERN_LANES) {
        mix_tile(head, i, factors, count, out + i, out_stride, 1);
    }
    if (i < head->head_dim) mix_tile(head, i, factors, count, out + i, out_stride, 0);
}

void mly_kern_attention_s8_avx512vnni(const float *q, const float *k, const float *v, size_t stride,
                                      size_t tokens, size_t head_dim, void *scratch, float *out,
                                      size_t out_stride)
{
    const size_t columns = (tokens + KERN_LANES - 1) / KERN_LANES * KERN_LANES;
    struct head head = {
        .scores = scratch, .tokens = tokens, .head_dim = head_dim, .columns = columns};
    head.starts = head.scores + ROWS * columns;
    head.keys = (int8_t *)(head.starts + columns);
    head.values = (int16_t *)(void *)(head.keys + columns * head_dim);
    head.weights = head.values + columns * head_dim;
    head.steps = (float *)(void *)(head.weights + ROWS * columns);
    head.queries = (uint8_t *)(head.steps + head_dim);
    float query_step, key_step;
    find_steps(&head, q, k, v, stride, &query_step, &key_step);
    head.scale = query_step * key_step < KERN_SCALE_MAX ? query_step * key_step : KERN_SCALE_MAX;
    fill_queries(&head, q, stride, query_step);
    fill_keys(&head, k, stride, key_step);
    fill_values(&head, v, stride);
    for (size_t t = 0; t < tokens; t += ROWS) {
        const size_t count = tokens - t < ROWS ? tokens - t : ROWS;
        attend_rows(&head, t, count, out + t * out_stride, out_stride);
    }
}
