/* Attention of one head over one sequence with AVX-512. The definition is attention_scalar.c.
 *
 * Keys are turned into f32[head_dim][columns], columns being the sequence's length rounded up to 64
 * (zeros behind the end). Six rows of scores by 64 columns fill 24 registers; six rows of outputs
 * by 32 dimensions fill 12. Each sum still runs in the definition's order: product, then sum.
 */
#include "kern/kern_int.h"

#if !defined(__AVX512F__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define ROWS 6
#define COLUMNS 64

static inline float fold(__m512 lanes)
{
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* 2^x as the definition has it. */
static inline __m512 exp2_negative(__m512 x)
{
    static const float c[] = KERN_EXP2_COEFFICIENTS;
    const __m512 round = _mm512_set1_ps(KERN_ROUND);
    const __m512 clamped = _mm512_max_ps(x, _mm512_set1_ps(KERN_EXP2_MIN));
    const __m512 shifted = _mm512_add_ps(clamped, round);
    const __m512 f = _mm512_sub_ps(clamped, _mm512_sub_ps(shifted, round));
    __m512 p = _mm512_set1_ps(c[5]);
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[4]));
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[3]));
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[2]));
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[1]));
    p = _mm512_add_ps(_mm512_mul_ps(p, f), _mm512_set1_ps(c[0]));
    const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted), 23);
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), exponent));
}

/* 16 x 16 floats: to[i][j] = from[j][i]. */
static inline void turn_block(const float *from, size_t stride, float *to, size_t to_stride)
{
    __m512 a[16], b[16];
    for (size_t i = 0; i < 16; i++) {
        a[i] = _mm512_loadu_ps(from + i * stride);
    }
    for (size_t i = 0; i < 8; i++) { /* pairs of rows */
        b[2 * i] = _mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    for (size_t i = 0; i < 4; i++) { /* fours: a[4 i + c] has column c of each quarter */
        const __m512d l0 = _mm512_castps_pd(b[4 * i]), l1 = _mm512_castps_pd(b[4 * i + 2]);
        const __m512d h0 = _mm512_castps_pd(b[4 * i + 1]), h1 = _mm512_castps_pd(b[4 * i + 3]);
        a[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(l0, l1));
        a[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(l0, l1));
        a[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(h0, h1));
        a[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(h0, h1));
    }
    for (size_t c = 0; c < 4; c++) {
        const __m512 even_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x88);
        const __m512 odd_low = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd);
        const __m512 even_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88);
        const __m512 odd_high = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd);
        _mm512_store_ps(to + c * to_stride, _mm512_shuffle_f32x4(even_low, even_high, 0x88));
        _mm512_store_ps(to + (4 + c) * to_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0x88));
        _mm512_store_ps(to + (8 + c) * to_stride, _mm512_shuffle_f32x4(even_low, even_high, 0xdd));
        _mm512_store_ps(to + (12 + c) * to_stride, _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd));
    }
}

static void turn_keys(const float *k, size_t stride, size_t tokens, size_t head_dim, float *turned,
                      size_t columns)
{
    for (size_t i = 0; i < head_dim; i += 16) {
        size_t u = 0;
        for (; u + 16 <= tokens; u += 16) {
            turn_block(k + u * stride + i, stride, turned + i * columns + u, columns);
        }
        for (size_t j = i; j < i + 16; j++) {
            for (size_t rest = u; rest < columns; rest++) {
                turned[j * columns + rest] = rest < tokens ? k[rest * stride + j] : 0.0f;
            }
        }
    }
}

/* Side by side: their own stride makes them share few sets of the first cache. */
static void copy_values(const float *v, size_t stride, size_t tokens, size_t head_dim,
                        float *values)
{
    for (size_t u = 0; u < tokens; u++) {
        for (size_t i = 0; i < head_dim; i += 16) {
            _mm512_store_ps(values + u * head_dim + i, _mm512_loadu_ps(v + u * stride + i));
        }
    }
}

#define STEP(sum, factor, value) sum = _mm512_add_ps(sum, _mm512_mul_ps(factor, value))

#define SCORE_ROW(r)                                                                               \
    do {                                                                                           \
        const __m512 factor = _mm512_set1_ps(q[r][i]);                                             \
        STEP(s##r##0, factor, k0);                                                                 \
        STEP(s##r##1, factor, k1);                                                                 \
        STEP(s##r##2, factor, k2);                                                                 \
        STEP(s##r##3, factor, k3);                                                                 \
    } while (0)
#define SCORE_START(r) __m512 s##r##0 = zero, s##r##1 = zero, s##r##2 = zero, s##r##3 = zero
#define SCORE_STORE(r)                                                                             \
    do {                                                                                           \
        _mm512_store_ps(scores + r * columns, s##r##0);                                            \
        _mm512_store_ps(scores + r * columns + 16, s##r##1);                                       \
        _mm512_store_ps(scores + r * columns + 32, s##r##2);                                       \
        _mm512_store_ps(scores + r * columns + 48, s##r##3);                                       \
    } while (0)

/* scores: f32[6][columns], 64 columns of it from here on; turned likewise. */
static inline void score_tile(const float *const q[ROWS], const float *turned, size_t columns,
                              size_t head_dim, float *scores)
{
    const __m512 zero = _mm512_setzero_ps();
    SCORE_START(0);
    SCORE_START(1);
    SCORE_START(2);
    SCORE_START(3);
    SCORE_START(4);
    SCORE_START(5);
    for (size_t i = 0; i < head_dim; i++) {
        const __m512 k0 = _mm512_load_ps(turned), k1 = _mm512_load_ps(turned + 16);
        const __m512 k2 = _mm512_load_ps(turned + 32), k3 = _mm512_load_ps(turned + 48);
        SCORE_ROW(0);
        SCORE_ROW(1);
        SCORE_ROW(2);
        SCORE_ROW(3);
        SCORE_ROW(4);
        SCORE_ROW(5);
        turned += columns;
    }
    SCORE_STORE(0);
    SCORE_STORE(1);
    SCORE_STORE(2);
    SCORE_STORE(3);
    SCORE_STORE(4);
    SCORE_STORE(5);
}

/* Turns a row of scores into weights; returns their sum in lanes. */
static inline float soften(float *row, size_t tokens)
{
    const size_t whole = tokens - tokens % KERN_LANES;
    const __mmask16 mask = (__mmask16)((1u << (tokens % KERN_LANES)) - 1u);
    __m512 most = _mm512_set1_ps(row[0]);
    for (size_t u = 0; u < whole; u += KERN_LANES) {
        most = _mm512_max_ps(_mm512_load_ps(row + u), most);
    }
    if (mask != 0) most = _mm512_mask_max_ps(most, mask, _mm512_load_ps(row + whole), most);
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    __m512 lanes = _mm512_setzero_ps();
    for (size_t u = 0; u < whole; u += KERN_LANES) {
        const __m512 weight = exp2_negative(_mm512_sub_ps(_mm512_load_ps(row + u), top));
        _mm512_store_ps(row + u, weight);
        lanes = _mm512_add_ps(lanes, weight);
    }
    if (mask != 0) {
        const __m512 weight = exp2_negative(_mm512_sub_ps(_mm512_load_ps(row + whole), top));
        _mm512_store_ps(row + whole, weight);
        lanes = _mm512_mask_add_ps(lanes, mask, lanes, weight);
    }
    return fold(lanes);
}

#define MIX_ROW(r)                                                                                 \
    do {                                                                                           \
        const __m512 factor = _mm512_set1_ps(weights[r * columns + u]);                            \
        STEP(m##r##0, factor, v0);                                                                 \
        STEP(m##r##1, factor, v1);                                                                 \
    } while (0)
#define MIX_START(r) __m512 m##r##0 = zero, m##r##1 = zero
#define MIX_STORE(r)                                                                               \
    do {                                                                                           \
        if (r < count) {                                                                           \
            const __m512 factor = _mm512_set1_ps(factors[r]);                                      \
            _mm512_storeu_ps(out + r * out_stride, _mm512_mul_ps(m##r##0, factor));                \
            if (wide) _mm512_storeu_ps(out + r * out_stride + 16, _mm512_mul_ps(m##r##1, factor)); \
        }                                                                                          \
    } while (0)

/* 32 dimensions of six rows (16 where wide is 0). */
static inline __attribute__((always_inline)) void
mix_tile(const float *weights, size_t columns, const float *v, size_t stride, size_t tokens,
         const float factors[ROWS], size_t count, float *out, size_t out_stride, int wide)
{
    const __m512 zero = _mm512_setzero_ps();
    MIX_START(0);
    MIX_START(1);
    MIX_START(2);
    MIX_START(3);
    MIX_START(4);
    MIX_START(5);
    for (size_t u = 0; u < tokens; u++) {
        const __m512 v0 = _mm512_loadu_ps(v + u * stride);
        const __m512 v1 = wide ? _mm512_loadu_ps(v + u * stride + 16) : zero;
        MIX_ROW(0);
        MIX_ROW(1);
        MIX_ROW(2);
        MIX_ROW(3);
        MIX_ROW(4);
        MIX_ROW(5);
    }
    MIX_STORE(0);
    MIX_STORE(1);
    MIX_STORE(2);
    MIX_STORE(3);
    MIX_STORE(4);
    MIX_STORE(5);
}

void mly_kern_attention_f32_avx512vnni(const float *q, const float *k, const float *v,
                                       size_t stride, size_t tokens, size_t head_dim,
                                       float *scratch, float *out, size_t out_stride)
{
    const size_t columns = (tokens + COLUMNS - 1) / COLUMNS * COLUMNS;
    float *turned = scratch;
    float *values = scratch + head_dim * columns;
    float *weights = values + head_dim * columns;
    turn_keys(k, stride, tokens, head_dim, turned, columns);
    copy_values(v, stride, tokens, head_dim, values);
    for (size_t t = 0; t < tokens; t += ROWS) {
        const size_t count = tokens - t < ROWS ? tokens - t : ROWS;
        const float *rows[ROWS];
        float factors[ROWS];
        for (size_t r = 0; r < ROWS; r++) { /* A short tile repeats its last row. */
            rows[r] = q + (t + (r < count ? r : count - 1)) * stride;
        }
        for (size_t u = 0; u < columns; u += COLUMNS) {
            score_tile(rows, turned + u, columns, head_dim, weights + u);
        }
        for (size_t r = 0; r < ROWS; r++) {
            factors[r] = 1.0f / soften(weights + r * columns, tokens);
        }
        float *target = out + t * out_stride;
        size_t i = 0;
        for (; i + 32 <= head_dim; i += 32) {
            mix_tile(weights, columns, values + i, head_dim, tokens, factors, count, target + i,
                     out_stride, 1);
        }
        if (i < head_dim) {
            mix_tile(weights, columns, values + i, head_dim, tokens, factors, count, target + i,
                     out_stride, 0);
        }
    }
}
