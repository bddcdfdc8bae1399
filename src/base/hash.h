/* Hashes: BLAKE2b (RFC 7693) where two texts must never be taken for one, XXH3 for tables of
 * keys. */
#ifndef MLY_BASE_HASH_H
#define MLY_BASE_HASH_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MLY_HASH_BYTES 32
struct mly_hash {
    uint8_t bytes[MLY_HASH_BYTES];
};

/* BLAKE2b-256 of several parts; each part's length is hashed before it, so that ("ab","c") is not
 * ("a","bc"). A null part counts as an empty one. */
struct mly_hash mly_hash_parts(const struct mly_str *parts, size_t part_count);
/* BLAKE2b-256 of the plain bytes: what `b2sum -l 256` prints. */
struct mly_hash mly_hash_bytes(struct mly_str text);
/* The same over bytes that come in parts. create gives NULL where there is no memory. */
struct mly_mem;
struct mly_hasher;
struct mly_hasher *mly_hasher_create(struct mly_mem *mem);
void mly_hasher_destroy(struct mly_hasher *hasher);
void mly_hasher_add(struct mly_hasher *hasher, const void *data, size_t bytes);
/* Once, at the end. */
struct mly_hash mly_hasher_end(struct mly_hasher *hasher);
/* XXH3-64: fast; the same for ever (key files hold it), but two texts may have one. */
uint64_t mly_hash_quick(struct mly_str text);
/* 64 hex digits and a NUL. */
void mly_hash_to_hex(const struct mly_hash *hash, char out[2 * MLY_HASH_BYTES + 1]);

/* The value of a lower case digit; -1: it is none. */
int mly_hex_digit(char c);
/* Lower case digits, two for each byte and nothing else; false: something else. */
bool mly_hex_read(struct mly_str text, uint8_t *out, size_t bytes);

#endif
