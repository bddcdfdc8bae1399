/* CRC32C by the processor's own instruction. It takes three cycles and can be begun every cycle, so
 * long inputs are summed in three stripes at once; a carry-less product moves the sums of the
 * first two to where the third ends. */
#include "kern/crc32c_int.h"

#include <nmmintrin.h>
#include <string.h>
#include <wmmintrin.h>

static uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t product(uint64_t crc, uint64_t power)
{
    __m128i wide = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc),
                                        _mm_cvtsi64_si128((long long)power), 0);
    return (uint64_t)_mm_cvtsi128_si64(wide);
}

uint32_t mly_crc32c_sse42(uint32_t crc, const void *data, size_t bytes)
{
    const size_t stripe = MLY_CRC32C_STRIPE;
    const uint8_t *at = data;
    uint64_t first = ~crc;
    for (; bytes >= 3 * stripe; bytes -= 3 * stripe, at += 3 * stripe) {
        uint64_t second = 0;
        uint64_t third = 0;
        for (size_t i = 0; i < stripe; i += 8) {
            first = _mm_crc32_u64(first, load_u64(at + i));
            second = _mm_crc32_u64(second, load_u64(at + stripe + i));
            third = _mm_crc32_u64(third, load_u64(at + 2 * stripe + i));
        }
        uint64_t moved = product(first, mly_crc32c_stripe_2) ^ product(second, mly_crc32c_stripe_1);
        first = _mm_crc32_u64(0, moved) ^ third;
    }
    for (; bytes >= 8; bytes -= 8, at += 8) {
        first = _mm_crc32_u64(first, load_u64(at));
    }
    uint32_t rest = (uint32_t)first;
    for (; bytes > 0; bytes--, at++) {
        rest = _mm_crc32_u8(rest, *at);
    }
    return ~rest;
}
