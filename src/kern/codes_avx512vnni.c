/* Scanning codes of one bit, and products with records of 8 bits, with AVX-512.
 *
 * A register is four bytes of 16 codes; their tables of four bits lie in the four quarters of two
 * others, so one shuffle looks 64 of them up. What eight bytes add is at most 240 and is widened
 * then: one sum of 16 bits takes pairs of bytes as they are (modulo 2^16), another the upper ones,
 * and the lower ones are the first less the second. (Counting the bits of code xor plane with
 * vpopcntq took 1.3 times as long on a Zen 4.)
 */
#include "kern/codes.h"
#include "kern/kern_int.h"

#if !defined(__AVX512BW__)
#error "this file needs the flags of its set"
#endif

#include <immintrin.h>

#define REGISTER 64
#define CODES MLY_KERN_BLOCK_CODES

static inline float fold(__m512 lanes)
{
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

float mly_kern_dot_s8_f32_avx512vnni(const int8_t *row, const float *x, size_t n)
{
    const size_t whole = n - n % KERN_LANES;
    const __mmask16 mask = (__mmask16)((1u << (n % KERN_LANES)) - 1u);
    __m512 lanes = _mm512_setzero_ps();
    for (size_t i = 0; i < whole; i += KERN_LANES) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(row + i));
        const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
        lanes = _mm512_add_ps(lanes, _mm512_mul_ps(numbers, _mm512_loadu_ps(x + i)));
    }
    if (mask != 0) {
        const __m128i bytes = _mm_maskz_loadu_epi8(mask, row + whole);
        const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
        const __m512 product = _mm512_mul_ps(numbers, _mm512_maskz_loadu_ps(mask, x + whole));
        lanes = _mm512_mask_add_ps(lanes, mask, lanes, product);
    }
    return fold(lanes);
}

/* What four bytes of each code add. */
static inline __m512i look_up(__m512i codes, const uint8_t *low, const uint8_t *high)
{
    const __m512i four_bits = _mm512_set1_epi8(15);
    const __m512i of_low =
        _mm512_shuffle_epi8(_mm512_loadu_si512(low), _mm512_and_si512(codes, four_bits));
    const __m512i of_high = _mm512_shuffle_epi8(
        _mm512_loadu_si512(high), _mm512_and_si512(_mm512_srli_epi16(codes, 4), four_bits));
    return _mm512_add_epi8(of_low, of_high);
}

/* Pairs of bytes as sums of 16 bits, and their upper bytes alone. */
struct sums {
    __m512i pairs, upper;
};

static inline struct sums add(struct sums sums, __m512i bytes)
{
    return (struct sums){_mm512_add_epi16(sums.pairs, bytes),
                         _mm512_add_epi16(sums.upper, _mm512_srli_epi16(bytes, 8))};
}

/* The four quarters of a register together: 8 sums of 16 bits. */
static inline __m128i quarters(__m512i sums)
{
    const __m256i half =
        _mm256_add_epi16(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
    return _mm_add_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static inline __m512i sixteen_sums(struct sums sums)
{
    const __m512i lower = _mm512_sub_epi16(sums.pairs, _mm512_slli_epi16(sums.upper, 8));
    const __m128i even = quarters(lower), odd = quarters(sums.upper);
    const __m256i all =
        _mm256_set_m128i(_mm_unpackhi_epi16(even, odd), _mm_unpacklo_epi16(even, odd));
    return _mm512_cvtepu16_epi32(all);
}

struct query {
    const uint8_t *low, *high;
    size_t bytes; /* of the 16 codes of a block */
    __m512i middle;
    __m512 step, base, floor;
};

static inline uint32_t finish(const struct query *query, struct sums sums, const uint8_t *numbers,
                              uint32_t asked, float *estimates)
{
    const __m256i *halves = (const __m256i *)(const void *)numbers;
    const __m512 factor = _mm512_cvtph_ps(_mm256_loadu_si256(halves));
    const __m512 offset = _mm512_cvtph_ps(_mm256_loadu_si256(halves + 1));
    const __m512i sum = sixteen_sums(sums);
    const __m512i centred = _mm512_sub_epi32(_mm512_add_epi32(sum, sum), query->middle);
    const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(centred), query->step);
    const __m512 with_offset = _mm512_add_ps(_mm512_mul_ps(factor, product), offset);
    const __m512 estimate = _mm512_add_ps(with_offset, query->base);
    const uint32_t found =
        _mm512_mask_cmp_ps_mask((__mmask16)asked, estimate, query->floor, _CMP_GT_OQ);
    if (found != 0) _mm512_storeu_ps(estimates, estimate);
    return found;
}

static inline uint32_t scan_block(const struct query *query, const uint8_t *block, uint32_t asked,
                                  float *estimates)
{
    struct sums sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t i = 0; i < query->bytes; i += 2 * REGISTER) {
        const uint8_t *low = query->low + i, *high = query->high + i;
        const __m512i first = look_up(_mm512_loadu_si512(block + i), low, high);
        const __m512i second =
            look_up(_mm512_loadu_si512(block + i + REGISTER), low + REGISTER, high + REGISTER);
        sums = add(sums, _mm512_add_epi8(first, second));
    }
    return finish(query, sums, block + query->bytes, asked, estimates);
}

void mly_kern_scan_codes_avx512vnni(const struct mly_kern_code_query *query, const uint8_t *blocks,
                                    size_t stride, size_t block_count, float base, float floor,
                                    const uint16_t *wanted, float *estimates, uint16_t *hits)
{
    const struct query q = {
        .low = query->tables,
        .high = query->tables + query->width * 2,
        .bytes = query->width * 2,
        .middle = _mm512_set1_epi32(15 * (int32_t)query->width),
        .step = _mm512_set1_ps(query->step),
        .base = _mm512_set1_ps(base),
        .floor = _mm512_set1_ps(floor),
    };
    for (size_t b = 0; b < block_count; b++) {
        const uint32_t asked = wanted == NULL ? 0xffffu : wanted[b];
        hits[b] = 0;
        if (asked == 0) continue;
        hits[b] = (uint16_t)scan_block(&q, blocks + b * stride, asked, estimates + b * CODES);
    }
}
