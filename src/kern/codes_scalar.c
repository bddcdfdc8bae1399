/* Scanning codes of one bit, and products with records of 8 bits: the definition. kern.h and
 * codes.h say what each computes.
 */
#include "kern/codes.h"
#include "kern/kern_int.h"

#include <string.h>

#define TABLE 16 /* of four bits */

float mly_kern_dot_s8_f32_scalar(const int8_t *row, const float *x, size_t n)
{
    float lanes[KERN_LANES] = {0};
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        for (size_t lane = 0; lane < KERN_LANES; lane++) {
            lanes[lane] += (float)row[i + lane] * x[i + lane];
        }
    }
    for (size_t lane = 0; i + lane < n; lane++) {
        lanes[lane] += (float)row[i + lane] * x[i + lane];
    }
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            lanes[lane] += lanes[lane + half];
        }
    }
    return lanes[0];
}

static void sum_block(const uint8_t *tables, const uint8_t *codes, size_t width,
                      int32_t sums[MLY_KERN_BLOCK_CODES])
{
    memset(sums, 0, MLY_KERN_BLOCK_CODES * sizeof(sums[0]));
    for (size_t byte = 0; byte < width / 8; byte++) {
        const uint8_t *low = tables + byte * TABLE, *high = low + width / 8 * TABLE;
        const uint8_t *code = codes + byte * MLY_KERN_BLOCK_CODES;
        for (size_t place = 0; place < MLY_KERN_BLOCK_CODES; place++) {
            sums[place] += low[code[place] & 15] + high[code[place] >> 4];
        }
    }
}

static float half_at(const uint8_t *halves, size_t place)
{
    uint16_t half;
    memcpy(&half, halves + place * sizeof(half), sizeof(half));
    return mly_kern_f32_from_half(half);
}

void mly_kern_scan_codes_scalar(const struct mly_kern_code_query *query, const uint8_t *blocks,
                                size_t stride, size_t block_count, float base, float floor,
                                const uint16_t *wanted, float *estimates, uint16_t *hits)
{
    const size_t width = query->width;
    const int32_t middle = 15 * (int32_t)width;
    for (size_t b = 0; b < block_count; b++) {
        const uint32_t asked = wanted == NULL ? 0xffffu : wanted[b];
        uint32_t found = 0;
        if (asked != 0) {
            const uint8_t *block = blocks + b * stride, *factors = block + width * 2;
            const uint8_t *offsets = factors + MLY_KERN_BLOCK_CODES * sizeof(uint16_t);
            int32_t sums[MLY_KERN_BLOCK_CODES];
            sum_block(query->tables, block, width, sums);
            for (size_t place = 0; place < MLY_KERN_BLOCK_CODES; place++) {
                const float product = (float)(2 * sums[place] - middle) * query->step;
                const float with_factor = half_at(factors, place) * product;
                const float estimate = with_factor + half_at(offsets, place) + base;
                estimates[b * MLY_KERN_BLOCK_CODES + place] = estimate;
                found |= (uint32_t)(estimate > floor) << place;
            }
        }
        hits[b] = (uint16_t)(found & asked);
    }
}
