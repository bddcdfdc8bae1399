/* BLAKE2b by libb2, XXH3 by libxxhash. */
#include "base/hash.h"

#include "base/mem.h"

#include <blake2.h>
#include <xxhash.h>

struct mly_hash mly_hash_parts(const struct mly_str *parts, size_t part_count)
{
    blake2b_state state;
    struct mly_hash hash;
    blake2b_init(&state, MLY_HASH_BYTES);
    for (size_t i = 0; i < part_count; i++) {
        uint8_t length[8];
        for (int b = 0; b < 8; b++) {
            length[b] = (uint8_t)((uint64_t)parts[i].bytes >> (8 * b));
        }
        blake2b_update(&state, length, sizeof(length));
        if (parts[i].bytes > 0) {
            blake2b_update(&state, (const uint8_t *)parts[i].data, parts[i].bytes);
        }
    }
    blake2b_final(&state, hash.bytes, MLY_HASH_BYTES);
    return hash;
}

struct mly_hash mly_hash_bytes(struct mly_str text)
{
    struct mly_hash hash;
    blake2b(hash.bytes, text.bytes > 0 ? text.data : "", NULL, MLY_HASH_BYTES, text.bytes, 0);
    return hash;
}

struct mly_hasher {
    struct mly_mem *mem;
    blake2b_state state;
};

struct mly_hasher *mly_hasher_create(struct mly_mem *mem)
{
    struct mly_hasher *hasher = mly_mem_alloc_aligned(mem, sizeof(*hasher)); /* libb2 asks for 64 */
    if (hasher == NULL) return NULL;
    hasher->mem = mem;
    blake2b_init(&hasher->state, MLY_HASH_BYTES);
    return hasher;
}

void mly_hasher_destroy(struct mly_hasher *hasher)
{
    if (hasher != NULL) mly_mem_free(hasher->mem, hasher);
}

void mly_hasher_add(struct mly_hasher *hasher, const void *data, size_t bytes)
{
    if (bytes > 0) blake2b_update(&hasher->state, data, bytes);
}

struct mly_hash mly_hasher_end(struct mly_hasher *hasher)
{
    struct mly_hash hash;
    blake2b_final(&hasher->state, hash.bytes, MLY_HASH_BYTES);
    return hash;
}

uint64_t mly_hash_quick(struct mly_str text)
{
    return XXH3_64bits(text.bytes > 0 ? text.data : "", text.bytes);
}

void mly_hash_to_hex(const struct mly_hash *hash, char out[2 * MLY_HASH_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < MLY_HASH_BYTES; i++) {
        out[2 * i] = digits[hash->bytes[i] >> 4];
        out[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    out[2 * MLY_HASH_BYTES] = '\0';
}

int mly_hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

bool mly_hex_read(struct mly_str text, uint8_t *out, size_t bytes)
{
    if (text.data == NULL || text.bytes != 2 * bytes) return false;
    for (size_t i = 0; i < bytes; i++) {
        int high = mly_hex_digit(text.data[2 * i]);
        int low = mly_hex_digit(text.data[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
