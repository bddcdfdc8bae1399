/* Key files, read in place.
 *
 * In: a hash. Out: the runs of rows that have it. The hash leads to an entry of the fan, this one
 * to some sixteen runs, which are halved: two pages of a file of any size. A block is summed when
 * it is touched first. */
#include "store/store_keyfile_int.h"

#include "base/limits.h"

#include <string.h>

/* Files of less than this are read: a mapping costs more. */
#define COPY_BELOW_BYTES ((size_t)64 << 10)

struct mly_keyfile {
    struct mly_mem *mem;
    struct mly_map map;
    mly_crc32c_fn crc;
    struct mly_keyfile_shape shape;
    uint64_t row_count;
    _Atomic uint8_t *checked; /* u8[block_count]: the block was right when it was touched first */
};

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + KEYFILE_BLOCK_BYTES - 1) / KEYFILE_BLOCK_BYTES * KEYFILE_BLOCK_BYTES;
}

bool mly_keyfile_lay_out(struct mly_keyfile_shape *shape)
{
    uint64_t at = 0;
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++) {
        uint64_t runs = shape->run_counts[i];
        if (runs > MLY_FRAGMENT_ROWS_MAX) return false;
        shape->fan_counts[i] = (runs + KEYFILE_FAN - 1) / KEYFILE_FAN;
        shape->fans_at[i] = at;
        at += round_up(shape->fan_counts[i] * 4);
        shape->runs_at[i] = at;
        at += round_up(runs * KEYFILE_RUN_BYTES);
    }
    if (shape->skipped_count > MLY_FRAGMENT_ROWS_MAX) return false;
    shape->skipped_at = at;
    at += round_up(shape->skipped_count * 4);
    shape->block_count = at / KEYFILE_BLOCK_BYTES;
    /* So far as if there were nothing before. */
    shape->sums_at = KEYFILE_BLOCK_BYTES;
    uint64_t start = shape->sums_at + round_up(shape->block_count * 4);
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++) {
        shape->fans_at[i] += start;
        shape->runs_at[i] += start;
    }
    shape->skipped_at += start;
    shape->first_block = start / KEYFILE_BLOCK_BYTES;
    shape->bytes = start + at;
    return shape->bytes <= SIZE_MAX;
}

static enum mly_err fail_damaged(const char *what, struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "key file: %s", what);
}

static enum mly_err read_head(struct mly_keyfile *file, const struct mly_keyfile_subject *subject,
                              struct mly_error *err)
{
    const uint8_t *head = file->map.data;
    struct mly_keyfile_shape *shape = &file->shape;
    if (file->map.bytes < KEYFILE_BLOCK_BYTES || memcmp(head, KEYFILE_MAGIC, 8) != 0 ||
        mly_get_u32le(head + KEYFILE_AT_SUM) != file->crc(0, head, KEYFILE_AT_SUM)) {
        return fail_damaged("its header is none", err);
    }
    if (mly_get_u32le(head + KEYFILE_AT_FORMAT) != KEYFILE_FORMAT ||
        mly_get_u32le(head + KEYFILE_AT_KEYS) != subject->key_count ||
        mly_get_u64le(head + KEYFILE_AT_BINDING) != subject->binding ||
        mly_get_u64le(head + KEYFILE_AT_ROWS) != subject->row_count) {
        return fail_damaged("it is of other data", err);
    }
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++)
        shape->run_counts[i] = mly_get_u64le(head + KEYFILE_AT_RUNS + 8 * i);
    shape->skipped_count = mly_get_u64le(head + KEYFILE_AT_SKIPPED);
    if (!mly_keyfile_lay_out(shape) || shape->bytes != file->map.bytes) {
        return fail_damaged("its size is not what its header says", err);
    }
    uint32_t sum = file->crc(0, head + shape->sums_at, (size_t)shape->block_count * 4);
    if (mly_get_u32le(head + KEYFILE_AT_SUMS_SUM) != sum) {
        return fail_damaged("its sums do not pass their own", err);
    }
    file->row_count = subject->row_count;
    return MLY_OK;
}

/* offset is beyond header and sums. */
static bool block_is_whole(struct mly_keyfile *file, uint64_t offset)
{
    uint64_t block = offset / KEYFILE_BLOCK_BYTES;
    uint64_t i = block - file->shape.first_block;
    /* Relaxed is enough: what is guarded is the file, which no thread writes. */
    if (atomic_load_explicit(&file->checked[i], memory_order_relaxed) != 0) return true;
    const uint8_t *data = file->map.data + block * KEYFILE_BLOCK_BYTES;
    uint32_t sum = mly_get_u32le(file->map.data + file->shape.sums_at + 4 * i);
    if (file->crc(0, data, KEYFILE_BLOCK_BYTES) != sum) return false;
    atomic_store_explicit(&file->checked[i], 1, memory_order_relaxed);
    return true;
}

/* Counting documents must not fail later. */
static enum mly_err check_skipped(struct mly_keyfile *file, struct mly_error *err)
{
    const struct mly_keyfile_shape *shape = &file->shape;
    for (uint64_t at = shape->skipped_at; at < shape->bytes; at += KEYFILE_BLOCK_BYTES) {
        if (!block_is_whole(file, at)) return fail_damaged("its skipped rows differ", err);
    }
    for (size_t i = 0; i < shape->skipped_count; i++) {
        uint32_t row = mly_keyfile_skipped(file, i);
        if (row >= file->row_count || (i > 0 && row <= mly_keyfile_skipped(file, i - 1))) {
            return fail_damaged("its skipped rows are not in order", err);
        }
    }
    return MLY_OK;
}

enum mly_err mly_keyfile_open(const struct mly_env *env, const char *path,
                              const struct mly_keyfile_subject *subject, struct mly_keyfile **out,
                              struct mly_error *err)
{
    struct mly_keyfile *file = mly_mem_array(env->mem, 1, sizeof(*file));
    if (file == NULL) return mly_fail_nomem(err, sizeof(*file));
    file->mem = env->mem;
    file->crc = mly_crc32c_pick();
    enum mly_err rc =
        mly_file_map_or_copy(env, MLY_AT_CWD, path, COPY_BELOW_BYTES, &file->map, err);
    if (rc != MLY_OK) goto done;
    rc = read_head(file, subject, err);
    if (rc != MLY_OK) {
        rc = mly_fail_in(err, rc, "%s", path);
        goto done;
    }
    size_t blocks = (size_t)file->shape.block_count;
    file->checked = mly_mem_array(env->mem, blocks + 1, sizeof(file->checked[0]));
    if (file->checked == NULL) {
        rc = mly_fail_nomem(err, blocks + 1);
        goto done;
    }
    rc = check_skipped(file, err);
    if (rc != MLY_OK) {
        rc = mly_fail_in(err, rc, "%s", path);
        goto done;
    }
    *out = file;
    file = NULL;
done:
    mly_keyfile_close(file);
    return rc;
}

void mly_keyfile_close(struct mly_keyfile *file)
{
    if (file == NULL) return;
    mly_map_close(&file->map);
    mly_mem_free(file->mem, (void *)file->checked);
    mly_mem_free(file->mem, file);
}

uint64_t mly_keyfile_run_count(const struct mly_keyfile *file, size_t key_i)
{
    return file->shape.run_counts[key_i];
}

size_t mly_keyfile_skipped_count(const struct mly_keyfile *file)
{
    return (size_t)file->shape.skipped_count;
}

uint32_t mly_keyfile_skipped(const struct mly_keyfile *file, size_t i)
{
    return mly_get_u32le(file->map.data + file->shape.skipped_at + 4 * i);
}

/* ---- searching ---- */

static enum mly_err get_hash(struct mly_keyfile *file, size_t key_i, uint64_t run_i, uint64_t *out,
                             struct mly_error *err)
{
    uint64_t at = file->shape.runs_at[key_i] + run_i * KEYFILE_RUN_BYTES;
    if (!block_is_whole(file, at)) return fail_damaged("a block does not pass its sum", err);
    *out = mly_get_u64le(file->map.data + at);
    return MLY_OK;
}

enum mly_err mly_keyfile_get(struct mly_keyfile *file, size_t key_i, uint64_t run_i,
                             struct mly_keyfile_run *out, struct mly_error *err)
{
    uint64_t hash = 0;
    MLY_TRY(get_hash(file, key_i, run_i, &hash, err));
    const uint8_t *at = file->map.data + file->shape.runs_at[key_i] + run_i * KEYFILE_RUN_BYTES;
    uint32_t first = mly_get_u32le(at + 8);
    uint32_t count = mly_get_u32le(at + 12);
    if (first >= file->row_count || count > file->row_count - first) {
        return fail_damaged("it names rows that are not there", err);
    }
    *out = (struct mly_keyfile_run){hash, first, count};
    return MLY_OK;
}

/* The runs among which those of a hash are, if there are any. */
static enum mly_err read_fan(struct mly_keyfile *file, size_t key_i, uint64_t hash, uint64_t *low,
                             uint64_t *high, struct mly_error *err)
{
    const struct mly_keyfile_shape *shape = &file->shape;
    uint64_t fan_i = keyfile_fan_i(hash, shape->fan_counts[key_i]);
    uint64_t at = shape->fans_at[key_i] + 4 * fan_i;
    bool is_last = fan_i + 1 == shape->fan_counts[key_i];
    if (!block_is_whole(file, at) || (!is_last && !block_is_whole(file, at + 4))) {
        return fail_damaged("a block does not pass its sum", err);
    }
    *low = mly_get_u32le(file->map.data + at);
    *high = is_last ? shape->run_counts[key_i] : mly_get_u32le(file->map.data + at + 4);
    if (*low > *high || *high > shape->run_counts[key_i]) {
        return fail_damaged("its fan leads beyond it", err);
    }
    return MLY_OK;
}

enum mly_err mly_keyfile_find(struct mly_keyfile *file, size_t key_i, uint64_t hash,
                              uint64_t *run_i, struct mly_error *err)
{
    uint64_t low = 0, high = 0;
    if (file->shape.run_counts[key_i] > 0) MLY_TRY(read_fan(file, key_i, hash, &low, &high, err));
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        uint64_t value = 0;
        MLY_TRY(get_hash(file, key_i, middle, &value, err));
        if (value < hash) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *run_i = low;
    return MLY_OK;
}
