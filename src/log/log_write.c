/* Appending, together.
 *
 * In: records of many threads. Out: their bytes in the newest segment, and syncs. Whoever waits and
 * finds nobody at it writes what all have queued, or syncs what all have written; writing goes on
 * beside a sync, at the next page. What is not synced yet is kept in memory: where a sync fails,
 * nothing may be concluded about the file, and all of it goes into a new one. */
#include "log/log_int.h"

/* More than that is synced, whatever durability was asked for: it is kept in memory. */
#define UNSYNCED_BYTES_MAX ((size_t)8 << 20)

/* Room for removals where the disk is full, kept also when the rest is given back. */
#define TRIMMED_BYTES ((uint64_t)64 << 10)

/* ---- waiters ---- */

static void finish(struct log_waiter *waiter, enum mly_err rc, const struct mly_error *error)
{
    waiter->rc = rc;
    if (rc != MLY_OK) waiter->error = *error;
    waiter->done = true;
}

/* Those whose records are durable now; all of them where the log has failed. */
static void finish_synced(struct mly_log *log)
{
    struct log_waiter **at = &log->sync_waiters;
    while (*at != NULL) {
        struct log_waiter *waiter = *at;
        if (waiter->lsn > log->synced_lsn && !log->failed) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        if (waiter->lsn <= log->synced_lsn) {
            finish(waiter, MLY_OK, NULL);
        } else {
            finish(waiter, MLY_ERR_IO, &log->failure);
        }
    }
}

static void fail_queue(struct mly_log *log, struct log_batch *queue, enum mly_err rc,
                       const struct mly_error *error)
{
    while (queue != NULL) {
        struct log_batch *batch = queue;
        queue = batch->next;
        finish(batch->waiter, rc, error);
        mly_log_batch_destroy(log->mem, batch);
    }
}

/* A sync failed, and a new file could not be had either. */
static void fail_for_good(struct mly_log *log, enum mly_err rc, const struct mly_error *why)
{
    log->failed = true;
    log->failure = *why;
    (void)mly_fail_in(&log->failure, rc, "log %s: a sync failed and what it was for is lost",
                      log->dir);
    log->failure.code = MLY_ERR_IO;
    finish_synced(log);
    fail_queue(log, log->queue, MLY_ERR_IO, &log->failure);
    log->queue = NULL;
}

static void set_synced(struct mly_log *log, uint64_t lsn)
{
    if (lsn > log->synced_lsn) log->synced_lsn = lsn;
    mly_log_drop_unsynced(log, log->synced_lsn);
    finish_synced(log);
}

/* ---- syncing ---- */

/* At half the time: threads wake late. */
static int64_t soon_ns(const struct mly_log *log)
{
    return (int64_t)log->sync_within_ms * 500000;
}

/* mutex is held, and nobody writes or syncs. */
static void lead_sync(struct mly_log *log)
{
    struct mly_error why = {0};
    uint64_t lsn = log->last_lsn;
    log->syncing = true;
    log->align = true;
    log->unsynced_since_ns = 0;
    mly_mutex_unlock(&log->mutex);
    enum mly_err rc = mly_file_sync(&log->file, &why);
    mly_mutex_lock(&log->mutex);
    log->syncs++;
    if (rc == MLY_OK) {
        set_synced(log, lsn);
    } else {
        /* Whoever writes now did not wait for us, and will not. */
        while (log->writing)
            mly_cond_wait(&log->changed, &log->mutex);
        log->writing = true;
        bool yielded = log->yielded;
        mly_mutex_unlock(&log->mutex);
        if (!yielded) rc = mly_log_renew(log, &why);
        mly_mutex_lock(&log->mutex);
        log->writing = false;
        if (rc != MLY_OK) fail_for_good(log, rc, &why);
        finish_synced(log);
    }
    log->syncing = false;
    mly_cond_wake_all(&log->changed);
}

/* On a thread of the runtime's. */
static void sync_when_due(void *context)
{
    struct mly_log *log = context;
    mly_mutex_lock(&log->mutex);
    while (log->unsynced_since_ns != 0 && !log->failed && !log->stop) {
        int64_t due_ns = log->unsynced_since_ns + soon_ns(log);
        int64_t left_ns = due_ns - log->env->monotonic_ns(log->env->context);
        if (left_ns > 0) {
            mly_timer_set(log->timer, (uint64_t)(left_ns / 1000000) + 1);
            break;
        }
        if (log->writing || log->syncing) {
            mly_cond_wait(&log->changed, &log->mutex);
        } else {
            lead_sync(log);
        }
    }
    mly_mutex_unlock(&log->mutex);
}

/* Once. OK without a timer where the system has no thread for it: whoever asked waits then. */
static enum mly_err make_timer(struct mly_log *log, struct mly_error *err)
{
    if (log->timer_tried) return MLY_OK;
    enum mly_err rc = mly_runtime_hold(log->env, &log->runtime, err);
    if (rc == MLY_OK) {
        rc = mly_timer_create(log->runtime, MLY_LANE_SYNC, sync_when_due, log, &log->timer, err);
    }
    if (rc == MLY_ERR_NOMEM) {
        mly_runtime_drop(log->runtime);
        log->runtime = NULL;
        return rc;
    }
    log->timer_tried = true;
    return MLY_OK;
}

void mly_log_stop_timer(struct mly_log *log)
{
    mly_mutex_lock(&log->mutex);
    log->stop = true;
    mly_cond_wake_all(&log->changed);
    mly_mutex_unlock(&log->mutex);
    mly_timer_destroy(log->timer);
    mly_runtime_drop(log->runtime);
}

/* ---- writing ---- */

static bool needs_segment(const struct mly_log *log)
{
    return log->file.fd < 0 || log->spent || log->end >= log->segment_bytes;
}

/* A full segment is synced before the next one is made; one that is spent is not trusted, and what
 * it may have lost goes into the next. *trusted: the old one may be written on. mutex is held,
 * writing and syncing are ours. */
static enum mly_err change_segment(struct mly_log *log, bool *trusted, struct mly_error *err)
{
    uint64_t lsn = log->last_lsn;
    enum mly_err rc = MLY_OK;
    *trusted = log->file.fd >= 0 && !log->spent;
    bool sync = *trusted && log->unsynced != NULL;
    mly_mutex_unlock(&log->mutex);
    if (sync) rc = mly_file_sync(&log->file, err);
    mly_mutex_lock(&log->mutex);
    log->syncs += sync;
    bool sync_failed = rc != MLY_OK;
    if (sync_failed) *trusted = false;
    if (sync && !sync_failed) {
        log->align = true;
        log->unsynced_since_ns = 0;
        set_synced(log, lsn);
    }
    mly_mutex_unlock(&log->mutex);
    rc = mly_log_renew(log, err);
    mly_mutex_lock(&log->mutex);
    if (rc != MLY_OK && sync_failed) fail_for_good(log, rc, err);
    finish_synced(log);
    return rc;
}

/* Writes one batch; *previous goes along. mutex is not held. */
static enum mly_err write_batch(struct mly_log *log, struct log_batch *batch, uint64_t synced_lsn,
                                uint32_t *previous, bool *spoilt, struct mly_error *err)
{
    uint64_t end = log->end + batch->bytes.bytes;
    *spoilt = false;
    MLY_TRY(mly_log_make_room(log, &log->file, &log->allocated, end, batch->urgent, err));
    mly_log_place(log, batch, &log->head, log->end, synced_lsn, previous);
    enum mly_err rc =
        mly_file_write(&log->file, batch->bytes.data, batch->bytes.bytes, log->end, err);
    if (rc != MLY_OK) {
        /* What is there is half of it. It would count for nothing, but readers need not look at it
         * again and again; nothing is written to this file any more. */
        *spoilt = true;
        (void)!mly_file_truncate(&log->file, log->end, NULL);
        return mly_fail_in(err, rc, "log %s", log->dir);
    }
    return MLY_OK;
}

/* mutex is held. */
static void take_written(struct mly_log *log, struct log_batch *batch, uint32_t previous)
{
    struct log_waiter *waiter = batch->waiter;
    /* Thousands of them may be there: none is looked at. */
    if (log->unsynced == NULL) {
        log->unsynced = batch;
    } else {
        log->unsynced_last->next = batch;
    }
    log->unsynced_last = batch;
    batch->next = NULL;
    batch->waiter = NULL;
    log->unsynced_bytes += batch->bytes.bytes;
    log->end += batch->bytes.bytes;
    log->previous = previous;
    log->last_lsn = batch->first_lsn + batch->record_count - 1;
    waiter->lsn = log->last_lsn;
    waiter->written = true;
    if (log->unsynced_bytes > UNSYNCED_BYTES_MAX) waiter->full = true;
    if (waiter->full) {
        waiter->next = log->sync_waiters;
        log->sync_waiters = waiter;
    } else {
        finish(waiter, MLY_OK, NULL);
    }
}

/* Writes what is queued. mutex is held, and nobody writes; where a new segment is needed, nobody
 * syncs either. */
static void lead_write(struct mly_log *log)
{
    struct mly_error why = {0};
    enum mly_err rc = MLY_OK;
    struct log_batch *queue = log->queue;
    log->queue = NULL;
    log->writing = true;
    if (needs_segment(log)) {
        bool trusted;
        log->syncing = true;
        rc = change_segment(log, &trusted, &why);
        log->syncing = false;
        if (trusted) rc = MLY_OK; /* a segment that is longer than usual */
    }
    if (log->align) log->end = log_round_up(log->end, LOG_PAGE_BYTES);
    log->align = false;
    while (rc == MLY_OK && queue != NULL) {
        struct log_batch *batch = queue;
        uint64_t synced_lsn = log->synced_lsn;
        uint32_t previous = log->previous;
        bool spoilt;
        queue = batch->next;
        batch->first_lsn = log->last_lsn + 1;
        mly_mutex_unlock(&log->mutex);
        enum mly_err written = write_batch(log, batch, synced_lsn, &previous, &spoilt, &why);
        mly_mutex_lock(&log->mutex);
        if (written == MLY_OK) {
            take_written(log, batch, previous);
            continue;
        }
        batch->next = NULL;
        fail_queue(log, batch, written, &why);
        if (!spoilt) continue; /* there was no room; what is urgent may still find some */
        log->spent = true;
        rc = written;
    }
    fail_queue(log, queue, rc, &why);
    log->writing = false;
    mly_cond_wake_all(&log->changed);
}

/* ---- append ---- */

static enum mly_err make_batch(struct mly_log *log, const struct mly_log_entry *entries,
                               size_t count, struct log_batch **out, struct mly_error *err)
{
    size_t bytes = 0;
    bool urgent = true;
    for (size_t i = 0; i < count; i++) {
        size_t payload = entries[i].payload.bytes;
        if (payload == 0 || payload > MLY_LOG_PAYLOAD_BYTES_MAX) {
            return mly_fail(err, payload == 0 ? MLY_ERR_INVAL : MLY_ERR_LIMIT,
                            "log record of %zu bytes, the limits are 1 and %zu", payload,
                            MLY_LOG_PAYLOAD_BYTES_MAX);
        }
        if (!mly_size_add(bytes, (size_t)log_record_bytes(payload), &bytes)) {
            return mly_fail(err, MLY_ERR_LIMIT, "%zu log records at once are too long", count);
        }
        urgent = urgent && entries[i].urgent;
    }
    struct log_batch *batch = mly_mem_array(log->mem, 1, sizeof(*batch));
    if (batch == NULL) return mly_fail_nomem(err, sizeof(*batch));
    batch->record_count = count;
    batch->urgent = urgent;
    mly_bytes_init(&batch->bytes, log->mem, bytes);
    enum mly_err rc = mly_bytes_append_zeros(&batch->bytes, bytes, err);
    if (rc != MLY_OK) {
        mly_log_batch_destroy(log->mem, batch);
        return rc;
    }
    uint8_t *at = batch->bytes.data;
    for (size_t i = 0; i < count; i++) {
        struct mly_str payload = entries[i].payload;
        uint32_t sum = log->crc(0, payload.data, payload.bytes);
        mly_log_put_draft(entries[i].type, (uint32_t)payload.bytes, sum, at);
        memcpy(at + LOG_HEAD_BYTES, payload.data, payload.bytes);
        at += log_record_bytes(payload.bytes);
    }
    *out = batch;
    return MLY_OK;
}

static enum mly_err check_usable(const struct mly_log *log, struct mly_error *err)
{
    if (!log->failed) return MLY_OK;
    if (err != NULL) *err = log->failure;
    return MLY_ERR_IO;
}

static enum mly_err check_process(const struct mly_log *log, struct mly_error *err)
{
    if (log->pid == log->env->pid(log->env->context)) return MLY_OK;
    return mly_fail(err, MLY_ERR_FORKED, "the log was opened by the parent process");
}

/* Waits until the batch is written and, where asked, synced, and does it where nobody else does.
 * mutex is held. */
static void take_part(struct mly_log *log, struct log_waiter *waiter)
{
    while (!waiter->done) {
        if (!waiter->written && !log->writing && !(log->syncing && needs_segment(log))) {
            lead_write(log);
        } else if (waiter->written && !log->writing && !log->syncing) {
            lead_sync(log);
        } else {
            mly_cond_wait(&log->changed, &log->mutex);
        }
    }
}

enum mly_err mly_log_append(struct mly_log *log, const struct mly_log_entry *entries, size_t count,
                            enum mly_durability durability, uint64_t *lsn, struct mly_error *err)
{
    struct log_batch *batch = NULL;
    struct log_waiter waiter = {.full = durability == MLY_DURABILITY_FULL};
    MLY_TRY(check_process(log, err));
    if (count == 0) return mly_fail(err, MLY_ERR_INVAL, "no log record to append");
    if (!log->memory) MLY_TRY(make_batch(log, entries, count, &batch, err));
    mly_mutex_lock(&log->mutex);
    enum mly_err rc = check_usable(log, err);
    bool timed = durability == MLY_DURABILITY_NORMAL && !log->memory;
    if (rc == MLY_OK && timed) rc = make_timer(log, err);
    if (rc != MLY_OK) {
        mly_log_batch_destroy(log->mem, batch);
        goto done;
    }
    if (log->memory) {
        log->last_lsn += count;
        *lsn = log->last_lsn;
        goto done;
    }
    if (timed && log->timer == NULL) waiter.full = true;
    batch->waiter = &waiter;
    struct log_batch **last = &log->queue;
    while (*last != NULL)
        last = &(*last)->next;
    *last = batch;
    take_part(log, &waiter);
    rc = waiter.rc;
    if (rc == MLY_OK) *lsn = waiter.lsn;
    if (rc != MLY_OK && err != NULL) *err = waiter.error;
    if (rc == MLY_OK && timed && waiter.lsn > log->synced_lsn && log->unsynced_since_ns == 0) {
        log->unsynced_since_ns = log->env->monotonic_ns(log->env->context);
        mly_timer_set(log->timer, (uint64_t)(soon_ns(log) / 1000000));
    }
done:
    mly_mutex_unlock(&log->mutex);
    return rc;
}

enum mly_err mly_log_flush(struct mly_log *log, struct mly_error *err)
{
    MLY_TRY(check_process(log, err));
    if (log->memory) return MLY_OK;
    mly_mutex_lock(&log->mutex);
    uint64_t lsn = log->last_lsn;
    while (log->synced_lsn < lsn && !log->failed) {
        if (log->writing || log->syncing) {
            mly_cond_wait(&log->changed, &log->mutex);
        } else {
            lead_sync(log);
        }
    }
    enum mly_err rc = log->synced_lsn >= lsn ? MLY_OK : check_usable(log, err);
    mly_mutex_unlock(&log->mutex);
    return rc;
}

enum mly_err mly_log_turn(struct mly_log *log, uint64_t bytes, struct mly_error *err)
{
    MLY_TRY(check_process(log, err));
    if (log->memory) return MLY_OK;
    mly_mutex_lock(&log->mutex);
    while (log->writing || log->syncing)
        mly_cond_wait(&log->changed, &log->mutex);
    enum mly_err rc = MLY_OK;
    if (log->file.fd >= 0 && !log->failed && !log->yielded && log->end > bytes) {
        bool trusted;
        log->writing = log->syncing = true;
        rc = change_segment(log, &trusted, err);
        log->writing = log->syncing = false;
        mly_cond_wake_all(&log->changed);
    }
    mly_mutex_unlock(&log->mutex);
    return rc;
}

enum mly_err mly_log_set_owner(struct mly_log *log, const uint8_t owner[MLY_LOG_OWNER_BYTES],
                               struct mly_error *err)
{
    if (memcmp(log->owner, owner, MLY_LOG_OWNER_BYTES) == 0) return MLY_OK;
    MLY_TRY(mly_log_flush(log, err));
    mly_mutex_lock(&log->mutex);
    memcpy(log->owner, owner, MLY_LOG_OWNER_BYTES);
    log->spent = true;
    mly_mutex_unlock(&log->mutex);
    return MLY_OK;
}

static void set_yielded(struct mly_log *log, bool yielded)
{
    mly_mutex_lock(&log->mutex);
    log->yielded = yielded;
    mly_mutex_unlock(&log->mutex);
}

void mly_log_yield(struct mly_log *log)
{
    set_yielded(log, true);
}

void mly_log_resume(struct mly_log *log)
{
    set_yielded(log, false);
}

bool mly_log_has_failed(struct mly_log *log)
{
    mly_mutex_lock(&log->mutex);
    bool failed = log->failed;
    mly_mutex_unlock(&log->mutex);
    return failed;
}

void mly_log_trim(struct mly_log *log)
{
    mly_mutex_lock(&log->mutex);
    while (log->writing || log->syncing)
        mly_cond_wait(&log->changed, &log->mutex);
    uint64_t kept = log_round_up(log->end, LOG_PAGE_BYTES) + TRIMMED_BYTES;
    if (log->file.fd >= 0 && !log->spent && log->allocated > kept &&
        mly_file_truncate(&log->file, kept, NULL) == MLY_OK) {
        log->allocated = kept;
    }
    mly_mutex_unlock(&log->mutex);
}

void mly_log_get_status(struct mly_log *log, struct mly_log_status *out)
{
    mly_mutex_lock(&log->mutex);
    *out = (struct mly_log_status){
        .last_lsn = log->last_lsn,
        .synced_lsn = log->synced_lsn,
        .segments = log->segments.count,
        .bytes = log->end,
        .syncs = log->syncs,
    };
    mly_mutex_unlock(&log->mutex);
}
