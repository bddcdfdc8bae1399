/* Private to kern/: the parts of CRC32C. */
#ifndef MLY_KERN_CRC32C_INT_H
#define MLY_KERN_CRC32C_INT_H

#include "kern/crc32c.h"

#include <stdbool.h>

extern const uint32_t mly_crc32c_table[8][256];
/* What moves a sum over one and over two stripes of MLY_CRC32C_STRIPE bytes. */
#define MLY_CRC32C_STRIPE ((size_t)1024)
extern const uint64_t mly_crc32c_stripe_1, mly_crc32c_stripe_2;

#if defined(__x86_64__)
/* SSE 4.2 and PCLMULQDQ. */
bool mly_crc32c_cpu_has_sse42(void);
uint32_t mly_crc32c_sse42(uint32_t crc, const void *data, size_t bytes);
#elif defined(__aarch64__)
/* The CRC extension of ARMv8. */
bool mly_crc32c_cpu_has_arm(void);
uint32_t mly_crc32c_arm(uint32_t crc, const void *data, size_t bytes);
#endif

#endif
