/* CRC32C by tables, eight bytes at a time, and the choice of something faster.
 *
 * In: bytes. Out: their sum. The tables define it; the sets in other files are tested against them.
 */
#include "kern/crc32c_int.h"

#include "base/endian.h"

#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

uint32_t mly_crc32c_scalar(uint32_t crc, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    crc = ~crc;
    for (; bytes >= 8; bytes -= 8, at += 8) {
        uint32_t low = crc ^ mly_get_u32le(at);
        uint32_t high = mly_get_u32le(at + 4);
        crc = mly_crc32c_table[7][low & 255] ^ mly_crc32c_table[6][low >> 8 & 255] ^
              mly_crc32c_table[5][low >> 16 & 255] ^ mly_crc32c_table[4][low >> 24] ^
              mly_crc32c_table[3][high & 255] ^ mly_crc32c_table[2][high >> 8 & 255] ^
              mly_crc32c_table[1][high >> 16 & 255] ^ mly_crc32c_table[0][high >> 24];
    }
    for (; bytes > 0; bytes--, at++) {
        crc = crc >> 8 ^ mly_crc32c_table[0][(crc ^ *at) & 255];
    }
    return ~crc;
}

#if defined(__x86_64__)
bool mly_crc32c_cpu_has_sse42(void)
{
    const uint32_t pclmulqdq = 1u << 1, sse42 = 1u << 20; /* leaf 1, ECX */
    uint32_t a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d) == 0) return false;
    return (c & pclmulqdq) != 0 && (c & sse42) != 0;
}
#elif defined(__aarch64__)
bool mly_crc32c_cpu_has_arm(void)
{
    const unsigned long crc32 = 1ul << 7; /* HWCAP_CRC32 */
    return (getauxval(AT_HWCAP) & crc32) != 0;
}
#endif

mly_crc32c_fn mly_crc32c_pick(void)
{
#if defined(__x86_64__)
    if (mly_crc32c_cpu_has_sse42()) return mly_crc32c_sse42;
#elif defined(__aarch64__)
    if (mly_crc32c_cpu_has_arm()) return mly_crc32c_arm;
#endif
    return mly_crc32c_scalar;
}
