/* The key index: a chained hash table from key hashes to runs of rows.
 *
 * In: hash and row, row after row. Out: the runs of a hash, newest first. Chains and not open
 * addressing: ten thousand chunks may have one document id, and adding must stay O(1). */
#include "store/store_state_int.h"

#define BUCKETS_MIN 64

void mly_keys_init(struct mly_keys *keys, struct mly_mem *mem)
{
    memset(keys, 0, sizeof(*keys));
    keys->mem = mem;
    keys->generation = 1;
}

void mly_keys_deinit(struct mly_keys *keys)
{
    mly_mem_free(keys->mem, keys->buckets);
    mly_mem_free(keys->mem, keys->runs);
    keys->buckets = NULL;
    keys->runs = NULL;
    keys->bucket_count = keys->count = keys->capacity = 0;
}

void mly_keys_reset(struct mly_keys *keys)
{
    mly_keys_deinit(keys);
    keys->generation++;
    atomic_store(&keys->gone_runs, 0);
}

/* Doubles the buckets and hangs every run where it belongs now, in the same order of age. */
static enum mly_err grow_buckets(struct mly_keys *keys, struct mly_error *err)
{
    size_t bucket_count = keys->bucket_count == 0 ? BUCKETS_MIN : keys->bucket_count * 2;
    uint32_t *buckets = mly_mem_alloc(keys->mem, bucket_count * sizeof(buckets[0]));
    if (buckets == NULL) return mly_fail_nomem(err, bucket_count * sizeof(buckets[0]));
    memset(buckets, 0xFF, bucket_count * sizeof(buckets[0])); /* MLY_KEY_END */
    for (size_t i = 0; i < keys->count; i++) {
        uint32_t *head = &buckets[keys->runs[i].hash & (bucket_count - 1)];
        keys->runs[i].next = *head;
        *head = (uint32_t)i;
    }
    mly_mem_free(keys->mem, keys->buckets);
    keys->buckets = buckets;
    keys->bucket_count = bucket_count;
    return MLY_OK;
}

static enum mly_err grow_runs(struct mly_keys *keys, struct mly_error *err)
{
    size_t capacity = keys->capacity == 0 ? BUCKETS_MIN : keys->capacity * 2;
    size_t bytes;
    if (capacity >= MLY_KEY_END || !mly_size_mul(capacity, sizeof(keys->runs[0]), &bytes)) {
        return mly_fail(err, MLY_ERR_LIMIT, "key index of %zu runs of rows, the limit is %u",
                        capacity, MLY_KEY_END);
    }
    struct mly_key_run *runs = mly_mem_realloc(keys->mem, keys->runs, bytes);
    if (runs == NULL) return mly_fail_nomem(err, bytes);
    keys->runs = runs;
    keys->capacity = capacity;
    return MLY_OK;
}

enum mly_err mly_keys_add(struct mly_keys *keys, uint32_t hash, uint32_t serial, uint32_t row,
                          struct mly_error *err)
{
    if (keys->count > 0) {
        struct mly_key_run *last = &keys->runs[keys->count - 1];
        if (last->hash == hash && last->serial == serial && last->first + last->count == row) {
            last->count++;
            return MLY_OK;
        }
    }
    if (keys->count == keys->capacity) MLY_TRY(grow_runs(keys, err));
    if (keys->count >= keys->bucket_count) MLY_TRY(grow_buckets(keys, err));
    uint32_t *head = &keys->buckets[hash & (keys->bucket_count - 1)];
    keys->runs[keys->count] = (struct mly_key_run){hash, *head, serial, row, 1};
    *head = (uint32_t)keys->count;
    keys->count++;
    return MLY_OK;
}

void mly_keys_cut(struct mly_keys *keys, size_t count)
{
    while (keys->count > count) {
        /* The newest run is the head of its bucket. */
        const struct mly_key_run *last = &keys->runs[keys->count - 1];
        keys->buckets[last->hash & (keys->bucket_count - 1)] = last->next;
        keys->count--;
    }
}

uint32_t mly_keys_next(const struct mly_keys *keys, uint32_t hash, uint32_t run_i)
{
    if (keys->bucket_count == 0) return MLY_KEY_END;
    uint32_t i = run_i == MLY_KEY_END ? keys->buckets[hash & (keys->bucket_count - 1)]
                                      : keys->runs[run_i].next;
    while (i != MLY_KEY_END && keys->runs[i].hash != hash)
        i = keys->runs[i].next;
    return i;
}
