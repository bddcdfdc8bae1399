/* 32-bit Roaring bitmaps in their portable form (Lemire, Kaser, Kurz et al. 2018, "Roaring Bitmaps:
 * Implementation of an Optimized Software Library"; RoaringFormatSpec), to and from a flat bitmap.
 *
 *   u32 cookie; containers of 65,536 values each, by ascending key (the upper 16 bits):
 *   12346: u32 count;                         then per container u16 key, u16 cardinality - 1
 *   12347 | (count - 1) << 16: run bitmap;    the same; then u32 offset of each container
 *   container: sorted u16s up to 4,096 values, above it 8,192 bytes of bits; or u16 runs and
 *   per run u16 start, u16 length - 1
 *
 * Our own, though a library exists: the one at hand (CRoaring 0.2) writes to standard error on bad
 * input, asserts where memory fails, and trusts cardinalities. The tests compare with it. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <string.h>

#define COOKIE_PLAIN 12346u
#define COOKIE_RUNS 12347u
/* With runs, offsets are only there from this many containers on. */
#define OFFSETS_FROM 4u
#define ARRAY_VALUES_MAX 4096u
#define BITSET_BYTES 8192u
#define CONTAINER_VALUES 65536u

struct reader {
    const uint8_t *data;
    size_t bytes, offset;
};

static enum mly_err take(struct reader *reader, size_t bytes, const uint8_t **out,
                         struct mly_error *err)
{
    if (!lance_inside(reader->offset, bytes, reader->bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "ends at %zu, %zu bytes at %zu were expected",
                        reader->bytes, bytes, reader->offset);
    }
    *out = reader->data + reader->offset;
    reader->offset += bytes;
    return MLY_OK;
}

static enum mly_err add(struct mly_lance_deletions *out, uint64_t row, struct mly_error *err)
{
    if (row >= out->row_count) {
        return mly_fail(err, MLY_ERR_CORRUPT, "names row %" PRIu64 " of a fragment of %" PRIu64,
                        row, out->row_count);
    }
    return mly_lance_deletions_add(out, row, err);
}

static enum mly_err read_array(struct reader *reader, uint64_t base, uint32_t count,
                               struct mly_lance_deletions *out, struct mly_error *err)
{
    const uint8_t *values = NULL;
    MLY_TRY(take(reader, 2 * (size_t)count, &values, err));
    for (uint32_t i = 0; i < count; i++) {
        MLY_TRY(add(out, base + mly_get_u16le(values + 2 * (size_t)i), err));
    }
    return MLY_OK;
}

/* Eight rows from first on, a multiple of 8: at once where they are inside the set. */
static enum mly_err add_byte(struct mly_lance_deletions *out, uint64_t first, unsigned bits,
                             struct mly_error *err)
{
    if (out->bits == NULL || first + 8 > out->row_count) {
        for (unsigned i = 0; i < 8; i++) {
            if ((bits >> i & 1) != 0) MLY_TRY(add(out, first + i, err));
        }
        return MLY_OK;
    }
    unsigned fresh = bits & ~(unsigned)out->bits[first >> 3];
    out->bits[first >> 3] = (uint8_t)(out->bits[first >> 3] | bits);
    for (; fresh != 0; fresh &= fresh - 1)
        out->deleted_count++;
    return MLY_OK;
}

static enum mly_err read_bitset(struct reader *reader, uint64_t base,
                                struct mly_lance_deletions *out, struct mly_error *err)
{
    const uint8_t *bits = NULL;
    MLY_TRY(take(reader, BITSET_BYTES, &bits, err));
    for (uint32_t i = 0; i < BITSET_BYTES; i++) {
        if (bits[i] != 0) MLY_TRY(add_byte(out, base + 8 * (uint64_t)i, bits[i], err));
    }
    return MLY_OK;
}

static enum mly_err read_runs(struct reader *reader, uint64_t base, struct mly_lance_deletions *out,
                              struct mly_error *err)
{
    const uint8_t *runs = NULL;
    MLY_TRY(take(reader, 2, &runs, err));
    uint32_t count = mly_get_u16le(runs);
    MLY_TRY(take(reader, 4 * (size_t)count, &runs, err));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t start = mly_get_u16le(runs + 4 * (size_t)i);
        uint32_t last = start + mly_get_u16le(runs + 4 * (size_t)i + 2);
        if (last >= CONTAINER_VALUES) {
            return mly_fail(err, MLY_ERR_CORRUPT, "has a run to %u, limit is %u", last,
                            CONTAINER_VALUES - 1);
        }
        for (uint32_t value = start; value <= last; value++) {
            MLY_TRY(add(out, base + value, err));
        }
    }
    return MLY_OK;
}

enum mly_err mly_lance_roaring_read(const uint8_t *data, size_t bytes,
                                    struct mly_lance_deletions *out, struct mly_error *err)
{
    struct reader reader = {data, bytes, 0};
    const uint8_t *at = NULL, *heads = NULL, *run_bits = NULL;
    uint32_t count;
    MLY_TRY(take(&reader, 4, &at, err));
    uint32_t cookie = mly_get_u32le(at);
    if (cookie == COOKIE_PLAIN) {
        MLY_TRY(take(&reader, 4, &at, err));
        count = mly_get_u32le(at);
    } else if ((cookie & 0xFFFFu) == COOKIE_RUNS) {
        count = (cookie >> 16) + 1;
        MLY_TRY(take(&reader, (count + 7) / 8, &run_bits, err));
    } else {
        return mly_fail(err, MLY_ERR_CORRUPT, "begins with %u, no Roaring bitmap does", cookie);
    }
    if (count > CONTAINER_VALUES) {
        return mly_fail(err, MLY_ERR_CORRUPT, "has %u containers, limit is %u", count,
                        CONTAINER_VALUES);
    }
    MLY_TRY(take(&reader, 4 * (size_t)count, &heads, err));
    /* Containers stand one after the other, so the offsets say nothing new. */
    if (run_bits == NULL || count >= OFFSETS_FROM) {
        MLY_TRY(take(&reader, 4 * (size_t)count, &at, err));
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t base = (uint64_t)mly_get_u16le(heads + 4 * (size_t)i) << 16;
        uint32_t cardinality = (uint32_t)mly_get_u16le(heads + 4 * (size_t)i + 2) + 1;
        uint64_t before = out->deleted_count;
        if (run_bits != NULL && lance_bit(run_bits, i)) {
            MLY_TRY(read_runs(&reader, base, out, err));
        } else if (cardinality <= ARRAY_VALUES_MAX) {
            MLY_TRY(read_array(&reader, base, cardinality, out, err));
        } else {
            MLY_TRY(read_bitset(&reader, base, out, err));
        }
        if (out->deleted_count - before != cardinality) {
            return mly_fail(err, MLY_ERR_CORRUPT, "container %u has %" PRIu64 " rows, not %u", i,
                            out->deleted_count - before, cardinality);
        }
    }
    return MLY_OK;
}

/* Dead rows of the container of that key, and the bytes that they need. */
static uint32_t count_container(const struct mly_lance_deletions *set, uint64_t key,
                                uint64_t *bytes)
{
    uint64_t end = (key + 1) * CONTAINER_VALUES;
    uint32_t count = 0;
    if (end > set->row_count) end = set->row_count;
    for (uint64_t row = key * CONTAINER_VALUES; row < end; row++) {
        count += mly_lance_deletions_has(set, row);
    }
    *bytes = count <= ARRAY_VALUES_MAX ? 2 * (uint64_t)count : BITSET_BYTES;
    return count;
}

static enum mly_err write_container(const struct mly_lance_deletions *set, uint64_t key,
                                    uint32_t count, struct mly_bytes *out, struct mly_error *err)
{
    uint64_t first = key * CONTAINER_VALUES;
    uint64_t end = first + CONTAINER_VALUES;
    if (end > set->row_count) end = set->row_count;
    if (count > ARRAY_VALUES_MAX) {
        size_t bytes = (size_t)((end - first + 7) / 8);
        MLY_TRY(mly_bytes_append(out, set->bits + first / 8, bytes, err));
        return mly_bytes_append_zeros(out, BITSET_BYTES - bytes, err);
    }
    for (uint64_t row = first; row < end; row++) {
        if (!mly_lance_deletions_has(set, row)) continue;
        uint8_t value[2] = {(uint8_t)row, (uint8_t)(row >> 8)};
        MLY_TRY(mly_bytes_append(out, value, sizeof(value), err));
    }
    return MLY_OK;
}

enum mly_err mly_lance_roaring_write(const struct mly_lance_deletions *set, struct mly_bytes *out,
                                     struct mly_error *err)
{
    uint64_t key_count = (set->row_count + CONTAINER_VALUES - 1) / CONTAINER_VALUES;
    uint64_t bytes;
    uint32_t containers = 0;
    for (uint64_t key = 0; key < key_count; key++) {
        containers += count_container(set, key, &bytes) > 0;
    }
    MLY_TRY(mly_bytes_append_u32le(out, COOKIE_PLAIN, err));
    MLY_TRY(mly_bytes_append_u32le(out, containers, err));
    for (uint64_t key = 0; key < key_count; key++) {
        uint32_t count = count_container(set, key, &bytes);
        if (count == 0) continue;
        MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)key | (count - 1) << 16, err));
    }
    uint64_t offset = 8 + 8 * (uint64_t)containers;
    for (uint64_t key = 0; key < key_count; key++) {
        if (count_container(set, key, &bytes) == 0) continue;
        MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)offset, err));
        offset += bytes;
    }
    for (uint64_t key = 0; key < key_count; key++) {
        uint32_t count = count_container(set, key, &bytes);
        if (count > 0) MLY_TRY(write_container(set, key, count, out, err));
    }
    return MLY_OK;
}
