/* Making key files.
 *
 * In: a draft: runs in the order of the rows. Out: the file, under its name only when it is whole.
 * It is not synced: what a power cut leaves of it does not pass its sums, and is made again. */
#include "store/store_keyfile_int.h"

#include "base/limits.h"

#include <stdio.h>
#include <string.h>

#define RUNS_MIN 256
/* Below this, insertion beats splitting. */
#define SMALL_SORT 24
/* Bytes of (hash, row), the biggest first: what splits the runs of a bucket. */
#define KEY_BYTES 12
#define BUFFER_BLOCKS 64

/* ---- the draft ---- */

void mly_keyfile_draft_init(struct mly_keyfile_draft *draft, struct mly_mem *mem)
{
    *draft = (struct mly_keyfile_draft){.mem = mem};
}

void mly_keyfile_draft_deinit(struct mly_keyfile_draft *draft)
{
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++)
        mly_mem_free(draft->mem, draft->keys[i].items);
    mly_mem_free(draft->mem, draft->skipped);
    *draft = (struct mly_keyfile_draft){.mem = draft->mem};
}

/* items for at least one more; half as many again, as these lists are large and short-lived. */
static enum mly_err grow(struct mly_mem *mem, void **items, size_t *capacity, size_t item_bytes,
                         struct mly_error *err)
{
    size_t wanted = *capacity < RUNS_MIN ? RUNS_MIN : *capacity + *capacity / 2;
    size_t bytes;
    if (!mly_size_mul(wanted, item_bytes, &bytes)) return mly_fail_nomem(err, SIZE_MAX);
    void *grown = mly_mem_realloc(mem, *items, bytes);
    if (grown == NULL) return mly_fail_nomem(err, bytes);
    *items = grown;
    *capacity = wanted;
    return MLY_OK;
}

enum mly_err mly_keyfile_draft_add(struct mly_keyfile_draft *draft, size_t key_i, uint64_t hash,
                                   uint32_t row, struct mly_error *err)
{
    struct mly_keyfile_runs *runs = &draft->keys[key_i];
    if (runs->count > 0) {
        struct mly_keyfile_run *last = &runs->items[runs->count - 1];
        if (last->hash == hash && last->first + last->count == row) {
            last->count++;
            return MLY_OK;
        }
    }
    if (runs->count == runs->capacity) {
        void *items = runs->items;
        MLY_TRY(grow(draft->mem, &items, &runs->capacity, sizeof(runs->items[0]), err));
        runs->items = items;
    }
    runs->items[runs->count++] = (struct mly_keyfile_run){hash, row, 1};
    return MLY_OK;
}

enum mly_err mly_keyfile_draft_skip(struct mly_keyfile_draft *draft, uint32_t row,
                                    struct mly_error *err)
{
    if (draft->skipped_count == draft->skipped_capacity) {
        void *items = draft->skipped;
        MLY_TRY(grow(draft->mem, &items, &draft->skipped_capacity, sizeof(draft->skipped[0]), err));
        draft->skipped = items;
    }
    draft->skipped[draft->skipped_count++] = row;
    return MLY_OK;
}

/* ---- sorting ---- */

static bool comes_before(const struct mly_keyfile_run *a, const struct mly_keyfile_run *b)
{
    return a->hash < b->hash || (a->hash == b->hash && a->first < b->first);
}

static void insert_sort(struct mly_keyfile_run *runs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct mly_keyfile_run run = runs[i];
        size_t at = i;
        for (; at > 0 && comes_before(&run, &runs[at - 1]); at--)
            runs[at] = runs[at - 1];
        runs[at] = run;
    }
}

static size_t digit(const struct mly_keyfile_run *run, int byte_i)
{
    return byte_i < 8 ? (size_t)(run->hash >> (56 - 8 * byte_i)) & 255
                      : (size_t)(run->first >> (24 - 8 * (byte_i - 8))) & 255;
}

/* Puts every run into the bucket of its digit, in place; ends[b] is where bucket b ends. */
static void split(struct mly_keyfile_run *runs, size_t count, int byte_i, size_t ends[256])
{
    size_t next[256];
    memset(ends, 0, 256 * sizeof(ends[0]));
    for (size_t i = 0; i < count; i++)
        ends[digit(&runs[i], byte_i)]++;
    size_t sum = 0;
    for (size_t b = 0; b < 256; b++) {
        next[b] = sum;
        sum += ends[b];
        ends[b] = sum;
    }
    for (size_t b = 0; b < 256; b++) {
        while (next[b] < ends[b]) {
            struct mly_keyfile_run run = runs[next[b]];
            /* Follow the run's place, and that of the run found there, until one belongs here. */
            for (size_t to = digit(&run, byte_i); to != b; to = digit(&run, byte_i)) {
                struct mly_keyfile_run other = runs[next[to]];
                runs[next[to]++] = run;
                run = other;
            }
            runs[next[b]++] = run;
        }
    }
}

/* Radix sort from the top (McIlroy, Bostic, McIlroy 1993, "Engineering radix sort", American flag):
 * no second array, and 12 levels at most whatever the hashes are. */
static void sort_from(struct mly_keyfile_run *runs, size_t count, int byte_i)
{
    if (count <= SMALL_SORT || byte_i >= KEY_BYTES) {
        insert_sort(runs, count);
        return;
    }
    size_t ends[256];
    split(runs, count, byte_i, ends);
    size_t start = 0;
    for (size_t b = 0; b < 256; b++) {
        if (ends[b] - start > 1) sort_from(runs + start, ends[b] - start, byte_i + 1);
        start = ends[b];
    }
}

void mly_keyfile_sort(struct mly_keyfile_run *runs, size_t count)
{
    sort_from(runs, count, 0);
}

/* ---- the file ---- */

/* Blocks on their way to the file; each is summed as it leaves. */
struct press {
    const struct mly_file *file;
    const struct mly_keyfile_shape *shape;
    mly_crc32c_fn crc;
    uint8_t *buffer; /* u8[BUFFER_BLOCKS * KEYFILE_BLOCK_BYTES] */
    size_t bytes;    /* in it */
    uint64_t at;     /* where it goes */
    uint8_t *sums;   /* the file's blocks of sums */
};

static enum mly_err flush(struct press *press, struct mly_error *err)
{
    for (size_t done = 0; done < press->bytes; done += KEYFILE_BLOCK_BYTES) {
        uint64_t block_i = (press->at + done) / KEYFILE_BLOCK_BYTES - press->shape->first_block;
        uint32_t sum = press->crc(0, press->buffer + done, KEYFILE_BLOCK_BYTES);
        mly_put_u32le(press->sums + 4 * block_i, sum);
    }
    MLY_TRY(mly_file_write(press->file, press->buffer, press->bytes, press->at, err));
    press->at += press->bytes;
    press->bytes = 0;
    return MLY_OK;
}

/* A section ends at a block's end. */
static enum mly_err end_section(struct press *press, struct mly_error *err)
{
    size_t over = press->bytes % KEYFILE_BLOCK_BYTES;
    if (over > 0) {
        memset(press->buffer + press->bytes, 0, KEYFILE_BLOCK_BYTES - over);
        press->bytes += KEYFILE_BLOCK_BYTES - over;
    }
    return flush(press, err);
}

static enum mly_err press_u32(struct press *press, uint32_t value, struct mly_error *err)
{
    if (press->bytes == BUFFER_BLOCKS * KEYFILE_BLOCK_BYTES) MLY_TRY(flush(press, err));
    mly_put_u32le(press->buffer + press->bytes, value);
    press->bytes += 4;
    return MLY_OK;
}

/* runs are sorted. */
static enum mly_err press_fan(struct press *press, const struct mly_keyfile_runs *runs,
                              uint64_t fan_count, struct mly_error *err)
{
    size_t run_i = 0;
    for (uint64_t fan_i = 0; fan_i < fan_count; fan_i++) {
        while (run_i < runs->count && keyfile_fan_i(runs->items[run_i].hash, fan_count) < fan_i) {
            run_i++;
        }
        MLY_TRY(press_u32(press, (uint32_t)run_i, err));
    }
    return end_section(press, err);
}

static enum mly_err press_runs(struct press *press, const struct mly_keyfile_runs *runs,
                               struct mly_error *err)
{
    for (size_t i = 0; i < runs->count; i++) {
        if (press->bytes == BUFFER_BLOCKS * KEYFILE_BLOCK_BYTES) MLY_TRY(flush(press, err));
        uint8_t *at = press->buffer + press->bytes;
        mly_put_u64le(at, runs->items[i].hash);
        mly_put_u32le(at + 8, runs->items[i].first);
        mly_put_u32le(at + 12, runs->items[i].count);
        press->bytes += KEYFILE_RUN_BYTES;
    }
    return end_section(press, err);
}

static enum mly_err press_skipped(struct press *press, const struct mly_keyfile_draft *draft,
                                  struct mly_error *err)
{
    for (size_t i = 0; i < draft->skipped_count; i++) {
        MLY_TRY(press_u32(press, draft->skipped[i], err));
    }
    return end_section(press, err);
}

static enum mly_err press_head(const struct press *press, const struct mly_keyfile_subject *subject,
                               struct mly_error *err)
{
    const struct mly_keyfile_shape *shape = press->shape;
    uint8_t *head = press->buffer;
    memset(head, 0, KEYFILE_BLOCK_BYTES);
    memcpy(head, KEYFILE_MAGIC, 8);
    mly_put_u32le(head + KEYFILE_AT_FORMAT, KEYFILE_FORMAT);
    mly_put_u32le(head + KEYFILE_AT_KEYS, subject->key_count);
    mly_put_u64le(head + KEYFILE_AT_BINDING, subject->binding);
    mly_put_u64le(head + KEYFILE_AT_ROWS, subject->row_count);
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++)
        mly_put_u64le(head + KEYFILE_AT_RUNS + 8 * i, shape->run_counts[i]);
    mly_put_u64le(head + KEYFILE_AT_SKIPPED, shape->skipped_count);
    uint32_t sum = press->crc(0, press->sums, (size_t)shape->block_count * 4);
    mly_put_u32le(head + KEYFILE_AT_SUMS_SUM, sum);
    mly_put_u32le(head + KEYFILE_AT_SUM, press->crc(0, head, KEYFILE_AT_SUM));
    size_t sums_bytes = (size_t)(shape->first_block * KEYFILE_BLOCK_BYTES - shape->sums_at);
    MLY_TRY(mly_file_write(press->file, press->sums, sums_bytes, shape->sums_at, err));
    return mly_file_write(press->file, head, KEYFILE_BLOCK_BYTES, 0, err);
}

static enum mly_err press_all(struct press *press, const struct mly_keyfile_subject *subject,
                              struct mly_keyfile_draft *draft, struct mly_error *err)
{
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++) {
        mly_keyfile_sort(draft->keys[i].items, draft->keys[i].count);
        MLY_TRY(press_fan(press, &draft->keys[i], press->shape->fan_counts[i], err));
        MLY_TRY(press_runs(press, &draft->keys[i], err));
    }
    MLY_TRY(press_skipped(press, draft, err));
    return press_head(press, subject, err);
}

static enum mly_err write_file(const struct mly_env *env, const char *path,
                               const struct mly_keyfile_subject *subject,
                               struct mly_keyfile_draft *draft, struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_keyfile_shape shape = {.skipped_count = draft->skipped_count};
    struct press press = {.file = &file, .shape = &shape, .crc = mly_crc32c_pick()};
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++)
        shape.run_counts[i] = draft->keys[i].count;
    if (!mly_keyfile_lay_out(&shape)) {
        return mly_fail(err, MLY_ERR_LIMIT, "a key file of %zu runs, the limit is %zu",
                        draft->keys[0].count, MLY_FRAGMENT_ROWS_MAX);
    }
    size_t sums_bytes = (size_t)(shape.first_block * KEYFILE_BLOCK_BYTES - shape.sums_at);
    press.at = shape.first_block * KEYFILE_BLOCK_BYTES;
    press.buffer = mly_mem_alloc(env->mem, BUFFER_BLOCKS * KEYFILE_BLOCK_BYTES);
    press.sums = mly_mem_array(env->mem, sums_bytes + 1, 1);
    if (press.buffer == NULL || press.sums == NULL) {
        rc = mly_fail_nomem(err, BUFFER_BLOCKS * KEYFILE_BLOCK_BYTES + sums_bytes);
        goto done;
    }
    rc = mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL,
                       &file, err);
    if (rc != MLY_OK) goto done;
    rc = press_all(&press, subject, draft, err);
    if (rc != MLY_OK) {
        rc = mly_fail_in(err, rc, "%s", path);
        (void)env->unlink(env->context, MLY_AT_CWD, path);
    }
done:
    mly_file_close(&file);
    mly_mem_free(env->mem, press.sums);
    mly_mem_free(env->mem, press.buffer);
    return rc;
}

/* A folder's path with a name behind it. */
#define FILE_PATH_BYTES (2 * MLY_PATH_BYTES_MAX)

enum mly_err mly_keyfile_write(const struct mly_env *env, const char *folder, const char *name,
                               const struct mly_keyfile_subject *subject,
                               struct mly_keyfile_draft *draft, struct mly_error *err)
{
    char temporary[FILE_PATH_BYTES], path[FILE_PATH_BYTES], id[37];
    MLY_TRY(mly_uuid4(env, id, err));
    (void)snprintf(temporary, sizeof(temporary), "%s/.tmp-%s", folder, id);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    MLY_TRY(write_file(env, temporary, subject, draft, err));
    enum mly_err rc = mly_file_rename(env, MLY_AT_CWD, temporary, path, err);
    if (rc != MLY_OK) (void)env->unlink(env->context, MLY_AT_CWD, temporary);
    return rc;
}
