/* Attention of one head over one sequence with AVX2. The definition is attention_scalar.c.
 *
 * Keys are turned into f32[columns / 16][head_dim][16], columns being the sequence's length rounded
 * up to 16 (zeros behind the end), so that a tile reads them in one run. Six rows of scores by 16
 * columns fill 12 registers, and so do six rows of outputs by 16 dimensions. Each sum still runs in
 * the definition's order: product, then sum.
 */
#include "kern/kern_int.h"

#if !defined(__AVX2__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define ROWS 6
#define COLUMNS KERN_LANES
#define HALF 8 /* floats in one register */

static inline float fold(__m256 low, __m256 high)
{
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float most_of(__m256 eight)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* 2^x as the definition has it. */
static inline __m256 exp2_negative(__m256 x)
{
    static const float c[] = KERN_EXP2_COEFFICIENTS;
    const __m256 round = _mm256_set1_ps(KERN_ROUND);
    const __m256 clamped = _mm256_max_ps(x, _mm256_set1_ps(KERN_EXP2_MIN));
    const __m256 shifted = _mm256_add_ps(clamped, round);
    const __m256 f = _mm256_sub_ps(clamped, _mm256_sub_ps(shifted, round));
    __m256 p = _mm256_set1_ps(c[5]);
    p = _mm256_add_ps(_mm256_mul_ps(p, f), _mm256_set1_ps(c[4]));
    p = _mm256_add_ps(_mm256_mul_ps(p, f), _mm256_set1_ps(c[3]));
    p = _mm256_add_ps(_mm256_mul_ps(p, f), _mm256_set1_ps(c[2]));
    p = _mm256_add_ps(_mm256_mul_ps(p, f), _mm256_set1_ps(c[1]));
    p = _mm256_add_ps(_mm256_mul_ps(p, f), _mm256_set1_ps(c[0]));
    const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));
}

/* 8 x 8 floats: to[i][j] = from[j][i], rows of to COLUMNS floats apart. */
static inline void turn_block(const float *from, size_t stride, float *to)
{
    __m256 a[HALF], b[HALF];
    for (size_t i = 0; i < HALF; i++) {
        a[i] = _mm256_loadu_ps(from + i * stride);
    }
    for (size_t i = 0; i < 4; i++) { /* pairs of rows */
        b[2 * i] = _mm256_unpacklo_ps(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = _mm256_unpackhi_ps(a[2 * i], a[2 * i + 1]);
    }
    for (size_t i = 0; i < 2; i++) { /* fours: a[4 i + c] has column c of each half */
        a[4 * i] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0x44);
        a[4 * i + 1] = _mm256_shuffle_ps(b[4 * i], b[4 * i + 2], 0xee);
        a[4 * i + 2] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0x44);
        a[4 * i + 3] = _mm256_shuffle_ps(b[4 * i + 1], b[4 * i + 3], 0xee);
    }
    for (size_t c = 0; c < 4; c++) {
        _mm256_store_ps(to + c * COLUMNS, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
        _mm256_store_ps(to + (4 + c) * COLUMNS, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
    }
}

static void turn_keys(const float *k, size_t stride, size_t tokens, size_t head_dim, float *turned)
{
    for (size_t u = 0; u < tokens; u += HALF) {
        float *to = turned + u / COLUMNS * COLUMNS * head_dim + u % COLUMNS;
        for (size_t i = 0; i < head_dim && u + HALF <= tokens; i += HALF) {
            turn_block(k + u * stride + i, stride, to + i * COLUMNS);
        }
    }
    const size_t end = (tokens + COLUMNS - 1) / COLUMNS * COLUMNS;
    for (size_t u = tokens / HALF * HALF; u < end; u++) { /* what blocks have left, and zeros */
        float *to = turned + u / COLUMNS * COLUMNS * head_dim + u % COLUMNS;
        for (size_t i = 0; i < head_dim; i++) {
            to[i * COLUMNS] = u < tokens ? k[u * stride + i] : 0.0f;
        }
    }
}

/* Side by side: their own stride makes them share few sets of the first cache. */
static void copy_values(const float *v, size_t stride, size_t tokens, size_t head_dim,
                        float *values)
{
    for (size_t u = 0; u < tokens; u++) {
        for (size_t i = 0; i < head_dim; i += HALF) {
            _mm256_store_ps(values + u * head_dim + i, _mm256_loadu_ps(v + u * stride + i));
        }
    }
}

#define STEP(sum, factor, value) sum = _mm256_add_ps(sum, _mm256_mul_ps(factor, value))
#define START(r) __m256 s##r##0 = _mm256_setzero_ps(), s##r##1 = s##r##0

#define SCORE_ROW(r)                                                                               \
    do {                                                                                           \
        const __m256 factor = _mm256_set1_ps(q[r][i]);                                             \
        STEP(s##r##0, factor, k0);                                                                 \
        STEP(s##r##1, factor, k1);                                                                 \
    } while (0)
#define SCORE_STORE(r)                                                                             \
    do {                                                                                           \
        _mm256_store_ps(scores + r * columns, s##r##0);                                            \
        _mm256_store_ps(scores + r * columns + HALF, s##r##1);                                     \
    } while (0)

/* scores: f32[6][columns], 16 columns of it from here on; turned: f32[head_dim][16]. */
static inline void score_tile(const float *const q[ROWS], const float *turned, size_t head_dim,
                              float *scores, size_t columns)
{
    START(0);
    START(1);
    START(2);
    START(3);
    START(4);
    START(5);
    for (size_t i = 0; i < head_dim; i++) {
        const __m256 k0 = _mm256_load_ps(turned + i * COLUMNS);
        const __m256 k1 = _mm256_load_ps(turned + i * COLUMNS + HALF);
        SCORE_ROW(0);
        SCORE_ROW(1);
        SCORE_ROW(2);
        SCORE_ROW(3);
        SCORE_ROW(4);
        SCORE_ROW(5);
    }
    SCORE_STORE(0);
    SCORE_STORE(1);
    SCORE_STORE(2);
    SCORE_STORE(3);
    SCORE_STORE(4);
    SCORE_STORE(5);
}

/* All bits set in the columns that are positions of the sequence, of eight from u on. */
static inline __m256 real_columns(size_t u, size_t tokens)
{
    static const int32_t ones_then_zeros[2 * HALF] = {-1, -1, -1, -1, -1, -1, -1, -1};
    const size_t left = tokens > u ? tokens - u : 0, count = left < HALF ? left : HALF;
    const void *from = ones_then_zeros + HALF - count;
    return _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i *)from));
}

/* Turns a row of scores into weights; returns their sum in lanes. A column behind the end adds 0
 * to its lane: a lane is never -0, so that is as good as leaving it. */
static inline float soften(float *row, size_t tokens)
{
    __m256 most = _mm256_set1_ps(row[0]);
    for (size_t u = 0; u < tokens; u += HALF) {
        const __m256 score = _mm256_load_ps(row + u);
        most = _mm256_max_ps(_mm256_blendv_ps(most, score, real_columns(u, tokens)), most);
    }
    const __m256 top = _mm256_set1_ps(most_of(most));
    __m256 low = _mm256_setzero_ps(), high = low;
    for (size_t u = 0; u < tokens; u += COLUMNS) {
        const __m256 a = exp2_negative(_mm256_sub_ps(_mm256_load_ps(row + u), top));
        const __m256 b = exp2_negative(_mm256_sub_ps(_mm256_load_ps(row + u + HALF), top));
        _mm256_store_ps(row + u, a);
        _mm256_store_ps(row + u + HALF, b);
        low = _mm256_add_ps(low, _mm256_and_ps(a, real_columns(u, tokens)));
        high = _mm256_add_ps(high, _mm256_and_ps(b, real_columns(u + HALF, tokens)));
    }
    return fold(low, high);
}

#define MIX_ROW(r)                                                                                 \
    do {                                                                                           \
        const __m256 factor = _mm256_set1_ps(weights[r * columns + u]);                            \
        STEP(s##r##0, factor, v0);                                                                 \
        STEP(s##r##1, factor, v1);                                                                 \
    } while (0)
#define MIX_STORE(r)                                                                               \
    do {                                                                                           \
        if (r < count) {                                                                           \
            const __m256 factor = _mm256_set1_ps(factors[r]);                                      \
            _mm256_storeu_ps(out + r * out_stride, _mm256_mul_ps(s##r##0, factor));                \
            _mm256_storeu_ps(out + r * out_stride + HALF, _mm256_mul_ps(s##r##1, factor));         \
        }                                                                                          \
    } while (0)

/* 16 dimensions of six rows. */
static inline void mix_tile(const float *weights, size_t columns, const float *values,
                            size_t head_dim, size_t tokens, const float factors[ROWS], size_t count,
                            float *out, size_t out_stride)
{
    START(0);
    START(1);
    START(2);
    START(3);
    START(4);
    START(5);
    for (size_t u = 0; u < tokens; u++) {
        const __m256 v0 = _mm256_load_ps(values + u * head_dim);
        const __m256 v1 = _mm256_load_ps(values + u * head_dim + HALF);
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

void mly_kern_attention_f32_avx2(const float *q, const float *k, const float *v, size_t stride,
                                 size_t tokens, size_t head_dim, float *scratch, float *out,
                                 size_t out_stride)
{
    const size_t columns = (tokens + COLUMNS - 1) / COLUMNS * COLUMNS;
    float *turned = scratch;
    float *values = scratch + head_dim * columns;
    float *weights = values + head_dim * columns;
    turn_keys(k, stride, tokens, head_dim, turned);
    copy_values(v, stride, tokens, head_dim, values);
    for (size_t t = 0; t < tokens; t += ROWS) {
        const size_t count = tokens - t < ROWS ? tokens - t : ROWS;
        const float *rows[ROWS];
        float factors[ROWS];
        for (size_t r = 0; r < ROWS; r++) { /* A short tile repeats its last row. */
            rows[r] = q + (t + (r < count ? r : count - 1)) * stride;
        }
        for (size_t u = 0; u < columns; u += COLUMNS) {
            score_tile(rows, turned + u * head_dim, head_dim, weights + u, columns);
        }
        for (size_t r = 0; r < ROWS; r++) {
            factors[r] = 1.0f / soften(weights + r * columns, tokens);
        }
        for (size_t i = 0; i < head_dim; i += COLUMNS) {
            mix_tile(weights, columns, values + i, head_dim, tokens, factors, count,
                     out + t * out_stride + i, out_stride);
        }
    }
}
