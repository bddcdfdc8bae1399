/* CRC32C (Castagnoli, as in iSCSI, RFC 3720): finds every burst of up to 32 bits, and any three
 * flipped bits of what is kept on disk here.
 *
 * Pick once and keep the function: asking the processor costs more than summing a small record.
 */
#ifndef MLY_KERN_CRC32C_H
#define MLY_KERN_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The sum of what crc is the sum of (0: of nothing) and bytes of data behind it. */
typedef uint32_t (*mly_crc32c_fn)(uint32_t crc, const void *data, size_t bytes);

/* The fastest that this machine can run; all give the same numbers. */
mly_crc32c_fn mly_crc32c_pick(void);
/* The definition, in tables. */
uint32_t mly_crc32c_scalar(uint32_t crc, const void *data, size_t bytes);

#endif
