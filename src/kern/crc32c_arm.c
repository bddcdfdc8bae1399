/* CRC32C by the CRC extension of ARMv8. */
#include "kern/crc32c_int.h"

#include <arm_acle.h>
#include <string.h>

uint32_t mly_crc32c_arm(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    uint32_t sum = ~crc;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        uint64_t value;
        memcpy(&value, at, sizeof(value));
        sum = __crc32cd(sum, value);
    }
    for (; bytes > 0; bytes--, at++) {
        sum = __crc32cb(sum, *at);
    }
    return ~sum;
}
