/* Scanning codes of one bit, and products with records of 8 bits, with NEON.
 *
 * A register is one byte of 16 codes; two table look-ups add what its lower and upper four bits
 * stand for. What two bytes add is at most 240 and is widened then into 16 sums of 16 bits.
 * Products and sums stay apart: vmlaq may be fused, which rounds once instead of twice.
 */
#include "kern/codes.h"
#include "kern/kern_int.h"

#if !defined(__ARM_FEATURE_DOTPROD)
#error "this file needs the flags of its set"
#endif

#include <arm_neon.h>
#include <string.h>

#define QUARTER 4 /* lanes, or estimates, in one register */
#define CODES MLY_KERN_BLOCK_CODES

struct lanes {
    float32x4_t a, b, c, d;
};

static inline float fold(struct lanes lanes)
{
    const float32x4_t four = vaddq_f32(vaddq_f32(lanes.a, lanes.c), vaddq_f32(lanes.b, lanes.d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

static inline float32x4_t term(float32x4_t sum, int16x4_t numbers, const float *x)
{
    const float32x4_t row = vcvtq_f32_s32(vmovl_s16(numbers));
    return vaddq_f32(sum, vmulq_f32(row, vld1q_f32(x)));
}

static inline struct lanes step(struct lanes lanes, const int8_t *row, const float *x)
{
    const int8x16_t bytes = vld1q_s8(row);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
    return (struct lanes){
        term(lanes.a, vget_low_s16(low), x),
        term(lanes.b, vget_high_s16(low), x + QUARTER),
        term(lanes.c, vget_low_s16(high), x + 2 * QUARTER),
        term(lanes.d, vget_high_s16(high), x + 3 * QUARTER),
    };
}

float mly_kern_dot_s8_f32_neon(const int8_t *row, const float *x, size_t n)
{
    const size_t rest = n % KERN_LANES, whole = n - rest;
    const float32x4_t zero = vdupq_n_f32(0.0f);
    struct lanes lanes = {zero, zero, zero, zero};
    for (size_t i = 0; i < whole; i += KERN_LANES) {
        lanes = step(lanes, row + i, x + i);
    }
    if (rest > 0) { /* 0 is added to the other lanes: none of them is -0 */
        int8_t last_row[KERN_LANES] = {0};
        float last_x[KERN_LANES] = {0};
        memcpy(last_row, row + whole, rest * sizeof(row[0]));
        memcpy(last_x, x + whole, rest * sizeof(x[0]));
        lanes = step(lanes, last_row, last_x);
    }
    return fold(lanes);
}

/* What one byte of each code adds. */
static inline uint8x16_t look_up(const uint8_t *codes, const uint8_t *low, const uint8_t *high)
{
    const uint8x16_t code = vld1q_u8(codes);
    const uint8x16_t of_low = vqtbl1q_u8(vld1q_u8(low), vandq_u8(code, vdupq_n_u8(15)));
    const uint8x16_t of_high = vqtbl1q_u8(vld1q_u8(high), vshrq_n_u8(code, 4));
    return vaddq_u8(of_low, of_high);
}

struct query {
    const uint8_t *low, *high;
    size_t bytes; /* of the 16 codes of a block */
    int32x4_t middle;
    float32x4_t step, base, floor;
};

/* Four half floats. */
static inline float32x4_t halves_at(const uint8_t *halves)
{
    uint16x4_t four;
    memcpy(&four, halves, sizeof(four));
    return vcvt_f32_f16(vreinterpret_f16_u16(four));
}

static inline float32x4_t estimate(const struct query *query, uint16x4_t sums,
                                   const uint8_t *numbers)
{
    const float32x4_t factor = halves_at(numbers), offset = halves_at(numbers + 2 * CODES);
    const int32x4_t sum = vreinterpretq_s32_u32(vmovl_u16(sums));
    const int32x4_t centred = vsubq_s32(vaddq_s32(sum, sum), query->middle);
    const float32x4_t product = vmulq_f32(vcvtq_f32_s32(centred), query->step);
    const float32x4_t with_offset = vaddq_f32(vmulq_f32(factor, product), offset);
    return vaddq_f32(with_offset, query->base);
}

/* Bits 0 to 3: which of four are above the floor. */
static inline uint32_t above(const struct query *query, float32x4_t estimates)
{
    static const uint32_t bits[QUARTER] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcgtq_f32(estimates, query->floor), vld1q_u32(bits)));
}

static inline uint32_t scan_block(const struct query *query, const uint8_t *block, uint32_t asked,
                                  float *estimates)
{
    uint16x8_t low_sums = vdupq_n_u16(0), high_sums = low_sums;
    for (size_t i = 0; i < query->bytes; i += 2 * CODES) {
        const uint8_t *low = query->low + i, *high = query->high + i;
        const uint8x16_t first = look_up(block + i, low, high);
        const uint8x16_t second = look_up(block + i + CODES, low + CODES, high + CODES);
        const uint8x16_t both = vaddq_u8(first, second);
        low_sums = vaddw_u8(low_sums, vget_low_u8(both));
        high_sums = vaddw_u8(high_sums, vget_high_u8(both));
    }
    const uint8_t *numbers = block + query->bytes;
    const float32x4_t four[QUARTER] = {
        estimate(query, vget_low_u16(low_sums), numbers),
        estimate(query, vget_high_u16(low_sums), numbers + 2 * QUARTER),
        estimate(query, vget_low_u16(high_sums), numbers + 4 * QUARTER),
        estimate(query, vget_high_u16(high_sums), numbers + 6 * QUARTER),
    };
    uint32_t found = 0;
    for (uint32_t i = 0; i < QUARTER; i++) {
        found |= above(query, four[i]) << (i * QUARTER);
    }
    found &= asked;
    if (found == 0) return 0;
    for (size_t i = 0; i < QUARTER; i++) {
        vst1q_f32(estimates + i * QUARTER, four[i]);
    }
    return found;
}

void mly_kern_scan_codes_neon(const struct mly_kern_code_query *query, const uint8_t *blocks,
                              size_t stride, size_t block_count, float base, float floor,
                              const uint16_t *wanted, float *estimates, uint16_t *hits)
{
    const struct query q = {
        .low = query->tables,
        .high = query->tables + query->width * 2,
        .bytes = query->width * 2,
        .middle = vdupq_n_s32(15 * (int32_t)query->width),
        .step = vdupq_n_f32(query->step),
        .base = vdupq_n_f32(base),
        .floor = vdupq_n_f32(floor),
    };
    for (size_t b = 0; b < block_count; b++) {
        const uint32_t asked = wanted == NULL ? 0xffffu : wanted[b];
        hits[b] = 0;
        if (asked == 0) continue;
        hits[b] = (uint16_t)scan_block(&q, blocks + b * stride, asked, estimates + b * CODES);
    }
}
