/* Scanning codes of one bit, and products with records of 8 bits, with AVX2.
 *
 * A register is two bytes of 16 codes; their tables of four bits lie in the two halves of two
 * others, so one shuffle looks 32 of them up. What four bytes add is at most 240 and is widened
 * then: one sum of 16 bits takes pairs of bytes as they are (modulo 2^16), another the upper ones,
 * and the lower ones are the first less the second.
 */
#include "kern/codes.h"
#include "kern/kern_int.h"

#if !defined(__AVX2__) || !defined(__F16C__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define REGISTER 32
#define HALF 8 /* lanes, or estimates, in one register */
#define CODES MLY_KERN_BLOCK_CODES

static inline __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

static inline float fold(__m256 low, __m256 high)
{
    const __m256 eight = _mm256_add_ps(low, high);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline __m256 term(const int8_t *row, const float *x)
{
    const __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)row);
    const __m256 numbers = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    return _mm256_mul_ps(numbers, _mm256_loadu_ps(x));
}

float mly_kern_dot_s8_f32_avx2(const int8_t *row, const float *x, size_t n)
{
    const size_t rest = n % KERN_LANES, whole = n - rest;
    __m256 low = _mm256_setzero_ps(), high = low;
    for (size_t i = 0; i < whole; i += KERN_LANES) {
        low = _mm256_add_ps(low, term(row + i, x + i));
        high = _mm256_add_ps(high, term(row + i + HALF, x + i + HALF));
    }
    if (rest > 0) { /* 0 is added to the other lanes: none of them is -0 */
        int8_t last_row[KERN_LANES] = {0};
        float last_x[KERN_LANES] = {0};
        for (size_t i = 0; i < rest; i++) {
            last_row[i] = row[whole + i];
            last_x[i] = x[whole + i];
        }
        low = _mm256_add_ps(low, term(last_row, last_x));
        high = _mm256_add_ps(high, term(last_row + HALF, last_x + HALF));
    }
    return fold(low, high);
}

/* What two bytes of each code add. */
static inline __m256i look_up(__m256i codes, const uint8_t *low, const uint8_t *high)
{
    const __m256i four_bits = _mm256_set1_epi8(15);
    const __m256i of_low = _mm256_shuffle_epi8(load(low), _mm256_and_si256(codes, four_bits));
    const __m256i of_high =
        _mm256_shuffle_epi8(load(high), _mm256_and_si256(_mm256_srli_epi16(codes, 4), four_bits));
    return _mm256_add_epi8(of_low, of_high);
}

/* Both halves of a register together: 8 sums of 16 bits. */
static inline __m128i halves(__m256i sums)
{
    return _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

struct query {
    const uint8_t *low, *high;
    size_t bytes; /* of the 16 codes of a block */
    __m256i middle;
    __m256 step, base, floor;
};

static inline __m256 estimate(const struct query *query, __m128i sums, const uint8_t *numbers)
{
    const __m128i *eight = (const __m128i *)(const void *)numbers;
    const __m256 factor = _mm256_cvtph_ps(_mm_loadu_si128(eight));
    const __m256 offset = _mm256_cvtph_ps(_mm_loadu_si128(eight + 2));
    const __m256i sum = _mm256_cvtepu16_epi32(sums);
    const __m256i centred = _mm256_sub_epi32(_mm256_add_epi32(sum, sum), query->middle);
    const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(centred), query->step);
    const __m256 with_offset = _mm256_add_ps(_mm256_mul_ps(factor, product), offset);
    return _mm256_add_ps(with_offset, query->base);
}

static inline uint32_t above(const struct query *query, __m256 estimates)
{
    const __m256 is_above = _mm256_cmp_ps(estimates, query->floor, _CMP_GT_OQ);
    return (uint32_t)_mm256_movemask_ps(is_above);
}

static inline uint32_t scan_block(const struct query *query, const uint8_t *block, uint32_t asked,
                                  float *estimates)
{
    __m256i pairs = _mm256_setzero_si256(), upper = pairs;
    for (size_t i = 0; i < query->bytes; i += 2 * REGISTER) {
        const uint8_t *low = query->low + i, *high = query->high + i;
        const __m256i first = look_up(load(block + i), low, high);
        const __m256i second = look_up(load(block + i + REGISTER), low + REGISTER, high + REGISTER);
        const __m256i both = _mm256_add_epi8(first, second);
        pairs = _mm256_add_epi16(pairs, both);
        upper = _mm256_add_epi16(upper, _mm256_srli_epi16(both, 8));
    }
    const __m128i even = halves(_mm256_sub_epi16(pairs, _mm256_slli_epi16(upper, 8)));
    const __m128i odd = halves(upper);
    const uint8_t *numbers = block + query->bytes;
    const __m256 first = estimate(query, _mm_unpacklo_epi16(even, odd), numbers);
    const __m256 second = estimate(query, _mm_unpackhi_epi16(even, odd), numbers + 2 * HALF);
    const uint32_t found = (above(query, first) | above(query, second) << HALF) & asked;
    if (found != 0) {
        _mm256_storeu_ps(estimates, first);
        _mm256_storeu_ps(estimates + HALF, second);
    }
    return found;
}

void mly_kern_scan_codes_avx2(const struct mly_kern_code_query *query, const uint8_t *blocks,
                              size_t stride, size_t block_count, float base, float floor,
                              const uint16_t *wanted, float *estimates, uint16_t *hits)
{
    const struct query q = {
        .low = query->tables,
        .high = query->tables + query->width * 2,
        .bytes = query->width * 2,
        .middle = _mm256_set1_epi32(15 * (int32_t)query->width),
        .step = _mm256_set1_ps(query->step),
        .base = _mm256_set1_ps(base),
        .floor = _mm256_set1_ps(floor),
    };
    for (size_t b = 0; b < block_count; b++) {
        const uint32_t asked = wanted == NULL ? 0xffffu : wanted[b];
        hits[b] = 0;
        if (asked == 0) continue;
        hits[b] = (uint16_t)scan_block(&q, blocks + b * stride, asked, estimates + b * CODES);
    }
}
