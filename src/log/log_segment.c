/* Making the newest segment, and giving records their place in it.
 *
 * In: what is unsynced. Out: a file that holds it, complete and synced before it gets its name, and
 * the name synced before anything relies on it. A new segment begins with the record behind the
 * last durable one: what older segments have from there on does not count any more. */
#include "base/limits.h"
#include "log/log_int.h"

#include <stdio.h>

/* Room is taken in steps, so that most syncs need not record a new size. */
#define STEP_BYTES_MIN ((uint64_t)64 << 10)
#define STEP_BYTES_MAX ((uint64_t)1 << 20)

static uint64_t step_bytes(const struct mly_log *log)
{
    uint64_t step = log->segment_bytes / 16;
    if (step < STEP_BYTES_MIN) return STEP_BYTES_MIN;
    return step > STEP_BYTES_MAX ? STEP_BYTES_MAX : log_round_up(step, LOG_PAGE_BYTES);
}

void mly_log_place(struct mly_log *log, struct log_batch *batch,
                   const struct log_segment_head *head, uint64_t offset, uint64_t synced_lsn,
                   uint32_t *previous)
{
    uint8_t *at = batch->bytes.data;
    for (uint64_t i = 0; i < batch->record_count; i++) {
        struct log_record_head record;
        mly_log_get_draft(at, &record);
        record.salt = head->salt;
        record.lsn = batch->first_lsn + i;
        record.synced_lsn = synced_lsn;
        record.offset = offset;
        record.previous = *previous;
        size_t bytes = (size_t)log_record_bytes(record.payload_bytes);
        /* A draft is not zero, as the header will not be. */
        record.zero_pieces = mly_log_zero_pieces(at, bytes, offset);
        mly_log_put_record_head(log->crc, &record, at);
        *previous = record.sum;
        at += bytes;
        offset += bytes;
    }
}

enum mly_err mly_log_make_room(struct mly_log *log, const struct mly_file *file,
                               uint64_t *allocated, uint64_t end, bool urgent,
                               struct mly_error *err)
{
    uint64_t step = step_bytes(log);
    uint64_t reserve = step / 8; /* for removals, where the disk is full */
    if (end + reserve <= *allocated) return MLY_OK;
    uint64_t wanted = log_round_up(end + reserve, step);
    enum mly_err rc = mly_file_allocate(file, *allocated, wanted - *allocated, err);
    if (rc == MLY_OK) {
        *allocated = wanted;
        return MLY_OK;
    }
    if (urgent && end <= *allocated) return MLY_OK;
    return mly_fail_in(err, rc, "log %s", log->dir);
}

static enum mly_err write_unsynced(struct mly_log *log, const struct mly_file *file,
                                   const struct log_segment_head *head, uint64_t *end,
                                   uint32_t *previous, struct mly_error *err)
{
    for (struct log_batch *batch = log->unsynced; batch != NULL; batch = batch->next) {
        mly_log_place(log, batch, head, *end, head->first_lsn - 1, previous);
        MLY_TRY(mly_file_write(file, batch->bytes.data, batch->bytes.bytes, *end, err));
        *end += batch->bytes.bytes;
    }
    return MLY_OK;
}

/* What is known of a segment while it is made. */
struct birth {
    struct mly_file file;
    struct log_segment_head head;
    uint64_t end, allocated;
    uint32_t previous;
    char temporary[MLY_PATH_BYTES_MAX], path[MLY_PATH_BYTES_MAX];
};

static enum mly_err fill_segment(struct mly_log *log, struct birth *birth, struct mly_error *err)
{
    uint8_t page[LOG_PAGE_BYTES];
    mly_log_put_segment_head(log->crc, &birth->head, page);
    birth->previous = birth->head.sum;
    birth->end = LOG_PAGE_BYTES;
    MLY_TRY(mly_log_make_room(log, &birth->file, &birth->allocated,
                              LOG_PAGE_BYTES + log->unsynced_bytes, false, err));
    MLY_TRY(mly_file_write(&birth->file, page, sizeof(page), 0, err));
    MLY_TRY(write_unsynced(log, &birth->file, &birth->head, &birth->end, &birth->previous, err));
    MLY_TRY(mly_file_sync(&birth->file, err));
    birth->end = log_round_up(birth->end, LOG_PAGE_BYTES);
    return MLY_OK;
}

static enum mly_err name_segment(struct mly_log *log, struct birth *birth, struct mly_error *err)
{
    MLY_TRY(mly_file_rename(log->env, MLY_AT_CWD, birth->temporary, birth->path, err));
    enum mly_err rc = mly_dir_sync(log->env, MLY_AT_CWD, log->dir, err);
    if (rc != MLY_OK) {
        /* It may have the name or not; what is in it must not count, as it was not acknowledged. */
        (void)log->env->unlink(log->env->context, MLY_AT_CWD, birth->path);
    }
    return rc;
}

static enum mly_err begin_birth(struct mly_log *log, struct birth *birth, struct mly_error *err)
{
    char name[LOG_NAME_BYTES + 8];
    char temporary[LOG_NAME_BYTES + 16];
    uint64_t last = 0;
    if (log->segments.count > 0) last = log->segments.items[log->segments.count - 1].generation;
    birth->head.generation = last + 1;
    birth->head.first_lsn = log->synced_lsn + 1;
    memcpy(birth->head.owner, log->owner, sizeof(birth->head.owner));
    mly_log_segment_name(birth->head.generation, name);
    (void)snprintf(temporary, sizeof(temporary), ".tmp-%s", name);
    MLY_TRY(mly_log_path(log->dir, name, birth->path, err));
    MLY_TRY(mly_log_path(log->dir, temporary, birth->temporary, err));
    MLY_TRY(mly_random_bytes(log->env, &birth->head.salt, sizeof(birth->head.salt), err));
    if (!log->dir_made) MLY_TRY(mly_dir_make(log->env, MLY_AT_CWD, log->dir, err));
    log->dir_made = true;
    /* One that an earlier try left. */
    (void)log->env->unlink(log->env->context, MLY_AT_CWD, birth->temporary);
    return mly_file_open(log->env, MLY_AT_CWD, birth->temporary,
                         MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &birth->file, err);
}

enum mly_err mly_log_renew(struct mly_log *log, struct mly_error *err)
{
    struct birth birth = {.file = MLY_FILE_CLOSED};
    mly_mutex_lock(&log->mutex);
    enum mly_err rc =
        mly_log_segments_add(&log->segments, (struct log_segment){0, log->synced_lsn + 1}, err);
    if (rc == MLY_OK) log->segments.count--; /* room for it, so that nothing fails at the end */
    mly_mutex_unlock(&log->mutex);
    if (rc != MLY_OK) return rc;
    rc = begin_birth(log, &birth, err);
    if (rc != MLY_OK) goto done;
    rc = fill_segment(log, &birth, err);
    if (rc == MLY_OK) rc = name_segment(log, &birth, err);
    if (rc != MLY_OK) {
        (void)log->env->unlink(log->env->context, MLY_AT_CWD, birth.temporary);
        goto done;
    }
    mly_mutex_lock(&log->mutex);
    mly_file_close(&log->file);
    log->file = birth.file;
    birth.file = MLY_FILE_CLOSED;
    log->head = birth.head;
    log->end = birth.end;
    log->allocated = birth.allocated;
    log->previous = birth.previous;
    log->align = log->spent = false;
    log->syncs++;
    log->segments.items[log->segments.count++] =
        (struct log_segment){birth.head.generation, birth.head.first_lsn};
    mly_log_drop_unsynced(log, log->last_lsn);
    log->synced_lsn = log->last_lsn;
    log->unsynced_since_ns = 0;
    mly_mutex_unlock(&log->mutex);
done:
    mly_file_close(&birth.file);
    return rc;
}

void mly_log_batch_destroy(struct mly_mem *mem, struct log_batch *batch)
{
    if (batch == NULL) return;
    mly_bytes_deinit(&batch->bytes);
    mly_mem_free(mem, batch);
}

void mly_log_drop_unsynced(struct mly_log *log, uint64_t lsn)
{
    while (log->unsynced != NULL &&
           log->unsynced->first_lsn + log->unsynced->record_count - 1 <= lsn) {
        struct log_batch *batch = log->unsynced;
        log->unsynced = batch->next;
        log->unsynced_bytes -= batch->bytes.bytes;
        mly_log_batch_destroy(log->mem, batch);
    }
}

/* ---- retiring ---- */

enum mly_err mly_log_retire(struct mly_log *log, uint64_t lsn, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    if (log->memory) return MLY_OK;
    mly_mutex_lock(&log->mutex);
    /* Oldest first: what is left is always without a hole. */
    while (rc == MLY_OK && log->segments.count > 1 && log->segments.items[1].first_lsn <= lsn + 1 &&
           log->segments.items[0].generation > log->held_generation) {
        char name[LOG_NAME_BYTES], path[MLY_PATH_BYTES_MAX];
        mly_log_segment_name(log->segments.items[0].generation, name);
        rc = mly_log_path(log->dir, name, path, err);
        if (rc == MLY_OK) rc = mly_file_unlink(log->env, MLY_AT_CWD, path, err);
        if (rc != MLY_OK) break;
        /* The folder is not synced: a segment that comes back has nothing that anybody needs. */
        log->segments.count--;
        memmove(log->segments.items, log->segments.items + 1,
                log->segments.count * sizeof(log->segments.items[0]));
    }
    mly_mutex_unlock(&log->mutex);
    return rc;
}
