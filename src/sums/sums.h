/* Sums of files: CRC32C of each block of 64 KB, in a file beside. What is kept was right once; a
 * block is checked when it is first read, so that opening costs nothing.
 *
 * Owns     struct mly_sums owns its numbers; the mapping it checks is the caller's.
 * Threads  a struct mly_sums may be checked from several threads at once; a block may then be
 *          summed twice.
 * Errors   CORRUPT names what it was told the file is called, and the block; NOTFOUND where there
 *          are no sums; IO, LIMIT, NOMEM.
 */
#ifndef MLY_SUMS_SUMS_H
#define MLY_SUMS_SUMS_H

#include "base/bytes.h"
#include "base/err.h"
#include "kern/crc32c.h"
#include "os/os.h"

#include <stdatomic.h>

#define MLY_SUMS_BLOCK_BYTES ((size_t)64 << 10)

struct mly_sums {
    struct mly_mem *mem;
    mly_crc32c_fn crc;
    uint64_t file_bytes;
    size_t block_count;
    uint32_t *sums;           /* u32[block_count] */
    _Atomic uint8_t *checked; /* 1: the block was right when it was read first */
};

/* Sums bytes of data: a file that was just written, or one that is adopted as it is. */
MLY_MUST_USE enum mly_err mly_sums_make(struct mly_mem *mem, const uint8_t *data, uint64_t bytes,
                                        struct mly_sums *out, struct mly_error *err);
/* Accepts one that is all zero. */
void mly_sums_deinit(struct mly_sums *sums);

/* Sums a file while it is written from its beginning on. */
struct mly_sums_maker {
    mly_crc32c_fn crc;
    uint64_t file_bytes;
    uint32_t sum; /* of the block that is not full yet */
    struct mly_bytes sums;
};
/* Needs no memory yet. */
void mly_sums_maker_init(struct mly_sums_maker *maker, struct mly_mem *mem);
void mly_sums_maker_deinit(struct mly_sums_maker *maker);
MLY_MUST_USE enum mly_err mly_sums_maker_add(struct mly_sums_maker *maker, const void *data,
                                             size_t bytes, struct mly_error *err);
/* The maker still needs its deinit. */
MLY_MUST_USE enum mly_err mly_sums_maker_finish(struct mly_sums_maker *maker, struct mly_sums *out,
                                                struct mly_error *err);

/* Puts them into a file of that name, in the place of one that is there; readers see all of it or
 * none. Nothing is synced: sums can be made again, and what a power cut left of them is told as
 * CORRUPT when it is read. */
MLY_MUST_USE enum mly_err mly_sums_write(const struct mly_env *env, const char *path,
                                         const struct mly_sums *sums, struct mly_error *err);
/* Reads them; CORRUPT where that file itself is damaged. */
MLY_MUST_USE enum mly_err mly_sums_read(const struct mly_env *env, const char *path,
                                        struct mly_sums *out, struct mly_error *err);

/* Is what data has from offset on (bytes of it, within the file) still what was summed? data is the
 * whole file, file_bytes long; blocks that were checked before are not summed again. name is for
 * messages. */
MLY_MUST_USE enum mly_err mly_sums_check(struct mly_sums *sums, const uint8_t *data,
                                         uint64_t file_bytes, uint64_t offset, uint64_t bytes,
                                         const char *name, struct mly_error *err);
/* Reads the whole file of that path, whatever was checked before. *first_bad is the block that
 * differs; may be NULL. */
MLY_MUST_USE enum mly_err mly_sums_verify(const struct mly_env *env, const struct mly_sums *sums,
                                          const char *path, uint64_t *first_bad,
                                          struct mly_error *err);

#endif
