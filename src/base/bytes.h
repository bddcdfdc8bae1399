/* A growing buffer with a ceiling from birth.
 *
 * Owns     the buffer; mly_bytes_deinit frees it and leaves it empty.
 * Errors   NOMEM; LIMIT where the ceiling would be passed. The content is untouched then.
 */
#ifndef MLY_BASE_BYTES_H
#define MLY_BASE_BYTES_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>

struct mly_bytes {
    struct mly_mem *mem;
    uint8_t *data;
    size_t bytes;
    size_t capacity;
    size_t bytes_max;
};

/* Needs no memory yet. */
void mly_bytes_init(struct mly_bytes *buffer, struct mly_mem *mem, size_t bytes_max);
void mly_bytes_deinit(struct mly_bytes *buffer);
/* Room for more_bytes beyond what is there. */
MLY_MUST_USE enum mly_err mly_bytes_reserve(struct mly_bytes *buffer, size_t more_bytes,
                                            struct mly_error *err);
MLY_MUST_USE enum mly_err mly_bytes_append(struct mly_bytes *buffer, const void *data, size_t bytes,
                                           struct mly_error *err);
MLY_MUST_USE enum mly_err mly_bytes_append_zeros(struct mly_bytes *buffer, size_t bytes,
                                                 struct mly_error *err);
MLY_MUST_USE enum mly_err mly_bytes_append_u32le(struct mly_bytes *buffer, uint32_t value,
                                                 struct mly_error *err);
MLY_MUST_USE enum mly_err mly_bytes_append_u64le(struct mly_bytes *buffer, uint64_t value,
                                                 struct mly_error *err);
/* Borrowed until the buffer changes. */
struct mly_str mly_bytes_view(const struct mly_bytes *buffer);

#endif
