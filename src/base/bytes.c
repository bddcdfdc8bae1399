/* Doubles until it fits, so that appending is linear over all. */
#include "base/bytes.h"

#include <string.h>

void mly_bytes_init(struct mly_bytes *buffer, struct mly_mem *mem, size_t bytes_max)
{
    *buffer = (struct mly_bytes){.mem = mem, .bytes_max = bytes_max};
}

void mly_bytes_deinit(struct mly_bytes *buffer)
{
    if (buffer->data != NULL) mly_mem_free(buffer->mem, buffer->data);
    buffer->data = NULL;
    buffer->bytes = 0;
    buffer->capacity = 0;
}

enum mly_err mly_bytes_reserve(struct mly_bytes *buffer, size_t more_bytes, struct mly_error *err)
{
    size_t needed;
    if (!mly_size_add(buffer->bytes, more_bytes, &needed) || needed > buffer->bytes_max) {
        return mly_fail(err, MLY_ERR_LIMIT, "buffer of %zu bytes and %zu more, limit is %zu",
                        buffer->bytes, more_bytes, buffer->bytes_max);
    }
    if (needed <= buffer->capacity) return MLY_OK;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity < needed) {
        capacity = capacity > buffer->bytes_max / 2 ? buffer->bytes_max : capacity * 2;
    }
    if (buffer->mem->tight) capacity = needed;
    uint8_t *data = mly_mem_realloc(buffer->mem, buffer->data, capacity);
    if (data == NULL) return mly_fail_nomem(err, capacity);
    buffer->data = data;
    buffer->capacity = capacity;
    return MLY_OK;
}

enum mly_err mly_bytes_append(struct mly_bytes *buffer, const void *data, size_t bytes,
                              struct mly_error *err)
{
    MLY_TRY(mly_bytes_reserve(buffer, bytes, err));
    if (bytes > 0) memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += bytes;
    return MLY_OK;
}

enum mly_err mly_bytes_append_zeros(struct mly_bytes *buffer, size_t bytes, struct mly_error *err)
{
    MLY_TRY(mly_bytes_reserve(buffer, bytes, err));
    if (bytes > 0) memset(buffer->data + buffer->bytes, 0, bytes);
    buffer->bytes += bytes;
    return MLY_OK;
}

enum mly_err mly_bytes_append_u32le(struct mly_bytes *buffer, uint32_t value, struct mly_error *err)
{
    uint8_t le[4];
    for (int i = 0; i < 4; i++) {
        le[i] = (uint8_t)(value >> (8 * i));
    }
    return mly_bytes_append(buffer, le, sizeof(le), err);
}

enum mly_err mly_bytes_append_u64le(struct mly_bytes *buffer, uint64_t value, struct mly_error *err)
{
    uint8_t le[8];
    for (int i = 0; i < 8; i++) {
        le[i] = (uint8_t)(value >> (8 * i));
    }
    return mly_bytes_append(buffer, le, sizeof(le), err);
}

struct mly_str mly_bytes_view(const struct mly_bytes *buffer)
{
    return (struct mly_str){buffer->data == NULL ? "" : (const char *)buffer->data, buffer->bytes};
}
