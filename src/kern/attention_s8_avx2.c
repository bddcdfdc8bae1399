/* Attention in integers with AVX2, one head of one sequence. The definition is in
 * attention_s8_scalar.c.
 *
 * Everything stands in 16 bits for vpmaddwd, which sums exact products of pairs: dimensions 2 i and
 * 2 i + 1 of a key beside each other, and pairs of pieces of the values. Four rows of scores by 16
 * columns are 8 sums, and so are four rows of outputs by 16 dimensions.
 */
#include "kern/kern_int.h"

#if !defined(__AVX2__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define ROWS 4
#define HALF 8 /* numbers of 32 bits in one register */
/* Scores behind the sequence's end: never the greatest. */
#define NO_SCORE (-(1 << 30))

struct head {
    int32_t *scores;  /* s32[ROWS][columns] */
    int16_t *keys;    /* s16[columns / 16][head_dim / 2][16][2] */
    int16_t *values;  /* s16[columns / 2][head_dim][2] */
    int16_t *weights; /* s16[ROWS][columns] */
    int16_t *queries; /* s16[tokens][head_dim] */
    float *steps;     /* f32[head_dim], of the values */
    size_t tokens, head_dim, columns;
    float scale;
};

static inline __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline void store(void *to, __m256i value)
{
    _mm256_storeu_si256((__m256i *)to, value);
}

static inline __m256 size_of(const float *x)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_loadu_ps(x));
}

static inline __m256i to_whole(const float *x, __m256 factor)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), factor));
}

static inline float step_of(__m256 largest)
{
    const __m128 four =
        _mm_max_ps(_mm256_castps256_ps128(largest), _mm256_extractf128_ps(largest, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two))) / 127.0f + KERN_SCALE_MIN;
}

/* The largest sizes: all of q, all of k, of v those of each dimension. */
static void find_steps(struct head *head, const float *q, const float *k, const float *v,
                       size_t stride, float *query_step, float *key_step)
{
    __m256 q_most = _mm256_setzero_ps(), k_most = q_most;
    for (size_t i = 0; i < head->head_dim; i += HALF) {
        __m256 v_most = _mm256_setzero_ps();
        for (size_t t = 0; t < head->tokens; t++) {
            q_most = _mm256_max_ps(size_of(q + t * stride + i), q_most);
            k_most = _mm256_max_ps(size_of(k + t * stride + i), k_most);
            v_most = _mm256_max_ps(size_of(v + t * stride + i), v_most);
        }
        const __m256 step = _mm256_add_ps(_mm256_div_ps(v_most, _mm256_set1_ps(127.0f)),
                                          _mm256_set1_ps(KERN_SCALE_MIN));
        _mm256_storeu_ps(head->steps + i, step);
    }
    *query_step = step_of(q_most);
    *key_step = step_of(k_most);
}

static void fill_queries(const struct head *head, const float *q, size_t stride, float step)
{
    const __m256 factor = _mm256_set1_ps(1.0f / step);
    for (size_t t = 0; t < head->tokens; t++) {
        for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
            const float *x = q + t * stride + i;
            const __m256i words =
                _mm256_packs_epi32(to_whole(x, factor), to_whole(x + HALF, factor));
            store(head->queries + t * head->head_dim + i, _mm256_permute4x64_epi64(words, 0xd8));
        }
    }
}

/* Eight registers of eight numbers of 32 bits: rows become columns. */
static inline void turn_block(__m256i rows[HALF])
{
    __m256 a[HALF], b[HALF];
    for (size_t i = 0; i < HALF; i += 2) { /* pairs of rows */
        const __m256 even = _mm256_castsi256_ps(rows[i]), odd = _mm256_castsi256_ps(rows[i + 1]);
        b[i] = _mm256_unpacklo_ps(even, odd);
        b[i + 1] = _mm256_unpackhi_ps(even, odd);
    }
    for (size_t i = 0; i < HALF; i += 4) { /* fours: a[i + c] has column c of each half */
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (size_t c = 0; c < 4; c++) {
        rows[c] = _mm256_castps_si256(_mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
        rows[4 + c] = _mm256_castps_si256(_mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
    }
}

static void fill_keys(const struct head *head, const float *k, size_t stride, float step)
{
    /* vpackssdw works in halves: of a piece's sixteen dimensions, these pairs stand one behind the
     * other afterwards. */
    static const uint8_t order[HALF] = {0, 1, 4, 5, 2, 3, 6, 7};
    const __m256 factor = _mm256_set1_ps(1.0f / step);
    for (size_t u = 0; u < head->columns; u += HALF) {
        int16_t *to = head->keys + u / KERN_LANES * KERN_LANES * head->head_dim;
        for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
            __m256i rows[HALF];
            for (size_t j = 0; j < HALF; j++) {
                rows[j] = _mm256_setzero_si256();
                if (u + j < head->tokens) {
                    const float *x = k + (u + j) * stride + i;
                    rows[j] = _mm256_packs_epi32(to_whole(x, factor), to_whole(x + HALF, factor));
                }
            }
            turn_block(rows);
            for (size_t j = 0; j < HALF; j++) {
                store(to + (i / 2 + order[j]) * 2 * KERN_LANES + u % KERN_LANES * 2, rows[j]);
            }
        }
    }
}

static void fill_values(const struct head *head, const float *v, size_t stride)
{
    for (size_t i = 0; i < head->head_dim; i += HALF) {
        const __m256 factor = _mm256_div_ps(_mm256_set1_ps(1.0f), _mm256_loadu_ps(head->steps + i));
        for (size_t u = 0; u < head->tokens; u += 2) {
            const __m256i even = to_whole(v + u * stride + i, factor);
            const __m256i odd = u + 1 < head->tokens ? to_whole(v + (u + 1) * stride + i, factor)
                                                     : _mm256_setzero_si256();
            store(head->values + u * head->head_dim + 2 * i,
                  _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0xaa));
        }
    }
}

static inline __m256i broadcast(const int16_t *pair)
{
    int32_t value;
    __builtin_memcpy(&value, pair, sizeof(value));
    return _mm256_set1_epi32(value);
}

#define EACH_ROW(what) what(0) what(1) what(2) what(3)
#define START(r) __m256i s##r##0 = _mm256_setzero_si256(), s##r##1 = s##r##0;
#define STEP(r, factors)                                                                           \
    {                                                                                              \
        const __m256i pair = broadcast(factors);                                                   \
        s##r##0 = _mm256_add_epi32(s##r##0, _mm256_madd_epi16(pair, b0));                          \
        s##r##1 = _mm256_add_epi32(s##r##1, _mm256_madd_epi16(pair, b1));                          \
    }
#define SCORE_STEP(r) STEP(r, q[r] + i)
#define SCORE_STORE(r)                                                                             \
    store(scores + r * head->columns, s##r##0);                                                    \
    store(scores + r * head->columns + HALF, s##r##1);

/* Scores of four rows and 16 columns from u on. */
static inline void score_tile(const struct head *head, const int16_t *const q[ROWS], size_t u)
{
    const int16_t *keys = head->keys + u * head->head_dim;
    int32_t *scores = head->scores + u;
    EACH_ROW(START)
    for (size_t i = 0; i < head->head_dim; i += 2) {
        const __m256i b0 = load(keys), b1 = load(keys + 2 * HALF);
        EACH_ROW(SCORE_STEP)
        keys += 2 * KERN_LANES;
    }
    EACH_ROW(SCORE_STORE)
}

/* How far scores are below the greatest, in steps of 1 / 2048; far below is any large number. */
static inline __m256i steps_below(const int32_t *scores, __m256i most, __m256 scale)
{
    const __m256i below = _mm256_sub_epi32(load(scores), most);
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(below), scale));
}

/* The weights of 16 columns as the definition has them, in 16 bits. */
static inline __m256i weights_of(const int32_t *scores, __m256i most, __m256 scale)
{
    /* A shift by s, up to 16, is the upper half of the product with 2^(16 - s): its upper byte is
     * entry s - 1 of this table, its lower byte entry s - 9. Below 0 vpshufb gives 0. */
    const __m256i powers = _mm256_broadcastsi128_si256(
        _mm_setr_epi8((char)128, 64, 32, 16, 8, 4, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0));
    const __m256i first = steps_below(scores, most, scale);
    const __m256i second = steps_below(scores + HALF, most, scale);
    /* Saturates at -32768: numbers that do not fit 32 bits have become the least one of those. */
    const __m256i x = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
    const __m256i fraction = _mm256_and_si256(_mm256_slli_epi16(x, 4), _mm256_set1_epi16(0x7ff0));
    __m256i power = _mm256_mulhrs_epi16(fraction, _mm256_set1_epi16(KERN_WEIGHT_2));
    power = _mm256_add_epi16(power, _mm256_set1_epi16(KERN_WEIGHT_1));
    power = _mm256_mulhrs_epi16(fraction, power);
    power = _mm256_add_epi16(power, _mm256_set1_epi16(16384));
    __m256i shift = _mm256_sub_epi16(_mm256_set1_epi16(2), _mm256_srai_epi16(x, KERN_WEIGHT_BITS));
    shift = _mm256_min_epi16(shift, _mm256_set1_epi16(16));
    shift = _mm256_or_si256(shift, _mm256_slli_epi16(shift, 8));
    shift = _mm256_add_epi8(shift, _mm256_set1_epi16((short)0xfff7)); /* -1 above, -9 below */
    power = _mm256_mulhi_epu16(power, _mm256_shuffle_epi8(powers, shift));
    return _mm256_avg_epu16(power, _mm256_setzero_si256());
}

static inline int32_t greatest_of(__m256i eight)
{
    const __m128i four =
        _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

static inline int32_t sum_of(__m256i eight)
{
    const __m128i four =
        _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

/* All ones where a column from u on is within the sequence. */
static inline __m256i within(size_t u, size_t tokens)
{
    const __m256i left = _mm256_set1_epi32((int32_t)tokens - (int32_t)u);
    return _mm256_cmpgt_epi32(left, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Turns a row of scores into weights; returns their sum. */
static inline int32_t soften(const int32_t *scores, int16_t *weights, size_t tokens, float by)
{
    const __m256i none = _mm256_set1_epi32(NO_SCORE);
    __m256i greatest = none, sum = _mm256_setzero_si256();
    size_t u = 0;
    for (; u + HALF <= tokens; u += HALF) {
        greatest = _mm256_max_epi32(greatest, load(scores + u));
    }
    if (u < tokens) {
        greatest = _mm256_max_epi32(greatest,
                                    _mm256_blendv_epi8(none, load(scores + u), within(u, tokens)));
    }
    const __m256i most = _mm256_set1_epi32(greatest_of(greatest));
    const __m256 scale = _mm256_set1_ps(by);
    for (u = 0; u < tokens; u += KERN_LANES) {
        __m256i weight = weights_of(scores + u, most, scale);
        if (u + KERN_LANES > tokens) {
            const __m256i low = within(u, tokens), high = within(u + HALF, tokens);
            weight = _mm256_and_si256(
                weight, _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8));
        }
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(weight, _mm256_set1_epi16(1)));
        store(weights + u, weight);
    }
    return sum_of(sum);
}

#define MIX_STEP(r) STEP(r, weights + r * head->columns + u)
#define MIX_STORE(r)                                                                               \
    if (r < count) {                                                                               \
        float *to = out + r * out_stride;                                                          \
        const __m256 factor = _mm256_set1_ps(factors[r]);                                          \
        const __m256 y0 = _mm256_mul_ps(_mm256_cvtepi32_ps(s##r##0), factor);                      \
        const __m256 y1 = _mm256_mul_ps(_mm256_cvtepi32_ps(s##r##1), factor);                      \
        _mm256_storeu_ps(to, _mm256_mul_ps(y0, step0));                                            \
        _mm256_storeu_ps(to + HALF, _mm256_mul_ps(y1, step1));                                     \
    }

/* 16 dimensions of up to four rows, from i on. */
static inline void mix_tile(const struct head *head, size_t i, const float factors[ROWS],
                            size_t count, float *out, size_t out_stride)
{
    const int16_t *weights = head->weights, *values = head->values + 2 * i;
    EACH_ROW(START)
    for (size_t u = 0; u < head->tokens; u += 2) {
        const __m256i b0 = load(values), b1 = load(values + 2 * HALF);
        EACH_ROW(MIX_STEP)
        values += 2 * head->head_dim;
    }
    const __m256 step0 = _mm256_loadu_ps(head->steps + i);
    const __m256 step1 = _mm256_loadu_ps(head->steps + i + HALF);
    EACH_ROW(MIX_STORE)
}

static void attend_rows(const struct head *head, size_t t, size_t count, float *out,
                        size_t out_stride)
{
    const int16_t *q[ROWS];
    float factors[ROWS];
    for (size_t r = 0; r < ROWS; r++) { /* A short tile repeats its last row. */
        q[r] = head->queries + (t + (r < count ? r : count - 1)) * head->head_dim;
    }
    for (size_t u = 0; u < head->columns; u += KERN_LANES) {
        score_tile(head, q, u);
    }
    for (size_t r = 0; r < ROWS; r++) {
        factors[r] =
            1.0f / (float)soften(head->scores + r * head->columns,
                                 head->weights + r * head->columns, head->tokens, head->scale);
    }
    for (size_t i = 0; i < head->head_dim; i += KERN_LANES) {
        mix_tile(head, i, factors, count, out + i, out_stride);
    }
}

void mly_kern_attention_s8_avx2(const float *q, const float *k, const float *v, size_t stride,
                                size_t tokens, size_t head_dim, void *scratch, float *out,
                                size_t out_stride)
{
    const size_t columns = (tokens + KERN_LANES - 1) / KERN_LANES * KERN_LANES;
    struct head head = {
        .scores = scratch, .tokens = tokens, .head_dim = head_dim, .columns = columns};
    head.keys = (int16_t *)(void *)(head.scores + ROWS * columns);
    head.values = head.keys + columns * head_dim;
    head.weights = head.values + columns * head_dim;
    head.steps = (float *)(void *)(head.weights + ROWS * columns);
    head.queries = (int16_t *)(void *)(head.steps + head_dim);
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
