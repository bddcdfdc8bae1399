/* What the reading and the making of key files share: where things stand in one. */
#ifndef MLY_STORE_STORE_KEYFILE_INT_H
#define MLY_STORE_STORE_KEYFILE_INT_H

#include "base/endian.h"
#include "kern/crc32c.h"
#include "store/store_keyfile.h"

#define KEYFILE_MAGIC "MLY-KEY\n"
#define KEYFILE_FORMAT 1u
/* Small, as a lookup sums each block that it touches first; a page, as that is what is read. */
#define KEYFILE_BLOCK_BYTES ((size_t)4096)
#define KEYFILE_RUN_BYTES ((size_t)16)
/* Runs per entry of the fan, on average: a lookup reads one place of it and one of the runs. */
#define KEYFILE_FAN 16

enum {
    KEYFILE_AT_FORMAT = 8,
    KEYFILE_AT_KEYS = 12,
    KEYFILE_AT_BINDING = 16,
    KEYFILE_AT_ROWS = 24,
    KEYFILE_AT_RUNS = 32, /* u64 for each of MLY_KEYFILE_KEYS_MAX */
    KEYFILE_AT_SKIPPED = 48,
    KEYFILE_AT_SUMS_SUM = 56,
    KEYFILE_AT_SUM = 60,
    KEYFILE_HEAD_BYTES = 64
};

/* Header, sums, fan and runs of each key, skipped rows: each begins at a block. It follows from the
 * counts alone. */
struct mly_keyfile_shape {
    uint64_t run_counts[MLY_KEYFILE_KEYS_MAX], skipped_count;
    uint64_t fan_counts[MLY_KEYFILE_KEYS_MAX];
    uint64_t sums_at, fans_at[MLY_KEYFILE_KEYS_MAX], runs_at[MLY_KEYFILE_KEYS_MAX];
    uint64_t skipped_at, bytes;
    uint64_t first_block; /* the first that has a sum: blocks of header and sums have none */
    uint64_t block_count; /* of those that have one */
};

/* From its counts; false where no fragment has so many. */
bool mly_keyfile_lay_out(struct mly_keyfile_shape *shape);

/* Hashes are spread evenly over the entries of a fan; entry i says which is the first run of those
 * that fall on i or behind. */
static inline uint64_t keyfile_fan_i(uint64_t hash, uint64_t fan_count)
{
    return (hash >> 32) * fan_count >> 32; /* fan_count < 2^32 */
}

#endif
