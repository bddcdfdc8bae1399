/* Becoming the writer, and ceasing to be.
 *
 * In: the segments that are there. Out: their records, replayed in order; what a crash left behind
 * the last of them is kept elsewhere and reported; writing goes on in the newest segment where
 * nothing at all stands behind its last record, and else in a new one. */
#include "base/limits.h"
#include "log/log_int.h"

#include <stdio.h>

#define SEGMENT_BYTES ((uint64_t)16 << 20)
#define SYNC_WITHIN_MS 100u
#define COPY_BYTES ((size_t)64 << 10)

/* What opening is about to find out. */
struct recovery {
    struct mly_log *log;
    const struct mly_log_options *options;
    struct mly_log_report report;
    uint64_t next_lsn;
};

/* ---- dropped bytes ---- */

static enum mly_err copy_bytes(const struct log_cursor *from, uint64_t offset, uint64_t end,
                               const struct mly_file *to, struct mly_error *err)
{
    uint8_t *buffer = mly_mem_alloc(from->env->mem, COPY_BYTES);
    struct mly_file_info info;
    if (buffer == NULL) return mly_fail_nomem(err, COPY_BYTES);
    enum mly_err rc = mly_file_info(&from->file, &info, err);
    if (rc == MLY_OK && end > info.bytes) end = info.bytes;
    for (uint64_t at = offset; rc == MLY_OK && at < end;) {
        size_t part = end - at < COPY_BYTES ? (size_t)(end - at) : COPY_BYTES;
        rc = mly_file_read(&from->file, buffer, part, at, err);
        if (rc == MLY_OK) rc = mly_file_write(to, buffer, part, at - offset, err);
        at += part;
    }
    if (rc == MLY_OK) rc = mly_file_sync(to, err);
    mly_mem_free(from->env->mem, buffer);
    return rc;
}

/* Under a name that says where they stood: another try finds them kept already. */
static enum mly_err keep_dropped(const struct log_cursor *cursor, const char *dir,
                                 struct mly_error *err)
{
    const struct mly_env *env = cursor->env;
    char name[64], path[MLY_PATH_BYTES_MAX], temporary[MLY_PATH_BYTES_MAX];
    struct mly_file file = MLY_FILE_CLOSED;
    bool there = false;
    (void)snprintf(name, sizeof(name), ".tmp-%s-%llu", cursor->name,
                   (unsigned long long)cursor->offset);
    MLY_TRY(mly_log_path(dir, name, temporary, err));
    MLY_TRY(mly_log_path(dir, name + strlen(".tmp-"), path, err));
    MLY_TRY(mly_dir_make(env, MLY_AT_CWD, dir, err));
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &there, err));
    if (there) return MLY_OK;
    (void)env->unlink(env->context, MLY_AT_CWD, temporary);
    MLY_TRY(mly_file_open(env, MLY_AT_CWD, temporary,
                          MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &file, err));
    enum mly_err rc = copy_bytes(cursor, cursor->offset, cursor->dirty_end, &file, err);
    mly_file_close(&file);
    if (rc == MLY_OK) rc = mly_file_rename(env, MLY_AT_CWD, temporary, path, err);
    if (rc != MLY_OK) {
        (void)env->unlink(env->context, MLY_AT_CWD, temporary);
        return rc;
    }
    return mly_dir_sync(env, MLY_AT_CWD, dir, err);
}

/* Failing to keep them is no reason not to open: they stay in their segment, which then stays. */
static void drop_tail(struct recovery *recovery, const struct log_cursor *cursor, const char *why)
{
    struct mly_log_report *report = &recovery->report;
    struct mly_error ignored = {0};
    const char *dir = recovery->options->lost_dir;
    report->dropped_offset = cursor->offset;
    report->dropped_bytes = cursor->dirty_end - cursor->offset;
    (void)snprintf(report->dropped_file, sizeof(report->dropped_file), "%s", cursor->name);
    (void)snprintf(report->reason, sizeof(report->reason),
                   "%s: record %llu, at %llu, %s; %llu bytes from there on are dropped",
                   cursor->name, (unsigned long long)cursor->next_lsn,
                   (unsigned long long)cursor->offset, why,
                   (unsigned long long)report->dropped_bytes);
    report->kept = dir != NULL && keep_dropped(cursor, dir, &ignored) == MLY_OK;
    if (!report->kept) recovery->log->held_generation = cursor->head.generation;
}

/* ---- reading what is there ---- */

/* What stands behind the last record of the newest segment; *clean: nothing. */
static enum mly_err settle_tail(struct recovery *recovery, struct log_cursor *cursor, bool *clean,
                                struct mly_error *err)
{
    enum log_find find;
    MLY_TRY(mly_log_cursor_judge(cursor, &find, err));
    *clean = find == LOG_FIND_END;
    if (find == LOG_FIND_DAMAGED && !recovery->options->salvage) {
        enum mly_err rc = mly_log_fail_damaged(cursor, err);
        return mly_fail_in(err, rc, "log %s", recovery->log->dir);
    }
    if (!*clean) {
        drop_tail(recovery, cursor,
                  find == LOG_FIND_TORN ? "was not wholly written when its writer ended"
                                        : "is damaged");
    }
    return MLY_OK;
}

static enum mly_err fail_missing(const struct mly_log *log, uint64_t first, uint64_t end,
                                 struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "log %s: records %llu to %llu are missing", log->dir,
                    (unsigned long long)first, (unsigned long long)end - 1);
}

/* The records of one segment below limit, where the next one begins. */
static enum mly_err replay_segment(struct recovery *recovery, struct log_cursor *cursor,
                                   uint64_t limit, struct mly_error *err)
{
    const struct mly_log_options *options = recovery->options;
    while (cursor->next_lsn < limit) {
        struct mly_log_record record;
        bool found;
        MLY_TRY(mly_log_cursor_next(cursor, &record, &found, err));
        if (!found) break;
        recovery->next_lsn = cursor->next_lsn;
        if (record.lsn <= options->from_lsn) continue;
        recovery->report.records++;
        if (options->replay != NULL) MLY_TRY(options->replay(options->context, &record, err));
    }
    if (limit == UINT64_MAX || cursor->next_lsn >= limit || limit - 1 <= options->from_lsn) {
        return MLY_OK;
    }
    /* It was synced before the next one was made: whatever stands there, no crash left it. */
    enum log_find find;
    MLY_TRY(mly_log_cursor_judge(cursor, &find, err));
    if (find == LOG_FIND_END) return fail_missing(recovery->log, cursor->next_lsn, limit, err);
    enum mly_err rc = mly_log_fail_damaged(cursor, err);
    return mly_fail_in(err, rc, "log %s", recovery->log->dir);
}

/* Writing goes on behind what is there. What was read may be in memory only, as its writer was
 * killed before it synced: others will rely on it from now on. */
static enum mly_err adopt_newest(struct mly_log *log, const struct log_cursor *cursor, bool clean,
                                 struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    struct mly_file_info info;
    MLY_TRY(mly_log_path(log->dir, cursor->name, path, err));
    MLY_TRY(mly_file_open(log->env, MLY_AT_CWD, path, MLY_OPEN_WRITE, &log->file, err));
    MLY_TRY(mly_file_sync(&log->file, err));
    MLY_TRY(mly_file_info(&log->file, &info, err));
    log->head = cursor->head;
    log->previous = cursor->previous;
    log->end = log_round_up(cursor->offset, LOG_PAGE_BYTES);
    log->allocated = info.bytes > log->end ? info.bytes : log->end;
    log->spent = !clean || memcmp(log->owner, cursor->head.owner, sizeof(log->owner)) != 0;
    return MLY_OK;
}

static enum mly_err replay_all(struct recovery *recovery, struct mly_error *err)
{
    struct mly_log *log = recovery->log;
    const struct log_segments *segments = &log->segments;
    for (size_t i = 0; i < segments->count; i++) {
        const struct log_segment *segment = &segments->items[i];
        bool last = i + 1 == segments->count;
        uint64_t limit = last ? UINT64_MAX : segments->items[i + 1].first_lsn;
        if (limit - 1 <= recovery->options->from_lsn) continue;
        if (segment->first_lsn > recovery->next_lsn) {
            return fail_missing(log, recovery->next_lsn, segment->first_lsn, err);
        }
        struct log_cursor cursor;
        bool clean = false;
        MLY_TRY(
            mly_log_cursor_open(log->env, log->crc, log->dir, segment->generation, &cursor, err));
        enum mly_err rc = replay_segment(recovery, &cursor, limit, err);
        if (rc == MLY_OK && last) rc = settle_tail(recovery, &cursor, &clean, err);
        if (rc == MLY_OK && last) rc = adopt_newest(log, &cursor, clean, err);
        if (cursor.next_lsn > recovery->next_lsn) recovery->next_lsn = cursor.next_lsn;
        mly_log_cursor_close(&cursor);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

static enum mly_err recover(struct recovery *recovery, struct mly_error *err)
{
    struct mly_log *log = recovery->log;
    const struct mly_log_options *options = recovery->options;
    recovery->next_lsn = options->from_lsn + 1;
    if (!log->memory) {
        MLY_TRY(mly_log_list(log->env, log->crc, log->dir, true, &log->segments, err));
        MLY_TRY(replay_all(recovery, err));
    }
    log->last_lsn = recovery->next_lsn - 1;
    if (options->floor_lsn > log->last_lsn) {
        log->last_lsn = options->floor_lsn;
        log->spent = true;
    }
    if (options->fresh) log->spent = true;
    log->synced_lsn = log->last_lsn;
    recovery->report.last_lsn = log->last_lsn;
    return MLY_OK;
}

/* ---- open and close ---- */

static void destroy(struct mly_log *log)
{
    mly_file_close(&log->file);
    while (log->unsynced != NULL) {
        struct log_batch *batch = log->unsynced;
        log->unsynced = batch->next;
        mly_log_batch_destroy(log->mem, batch);
    }
    mly_log_segments_deinit(&log->segments);
    mly_cond_deinit(&log->changed);
    mly_mutex_deinit(&log->mutex);
    mly_mem_free(log->mem, log->dir);
    mly_mem_free(log->mem, log);
}

enum mly_err mly_log_open(const struct mly_env *env, const char *dir,
                          const struct mly_log_options *options, struct mly_log **out,
                          struct mly_log_report *out_report, struct mly_error *err)
{
    struct mly_log *log = mly_mem_array(env->mem, 1, sizeof(*log));
    size_t dir_bytes = dir == NULL ? 0 : strlen(dir);
    if (log == NULL) return mly_fail_nomem(err, sizeof(*log));
    log->env = env;
    log->mem = env->mem;
    log->crc = mly_crc32c_pick();
    log->pid = env->pid(env->context);
    log->memory = options->memory;
    log->segment_bytes = options->segment_bytes == 0 ? SEGMENT_BYTES : options->segment_bytes;
    log->sync_within_ms = options->sync_within_ms == 0 ? SYNC_WITHIN_MS : options->sync_within_ms;
    log->file = MLY_FILE_CLOSED;
    log->segments.mem = env->mem;
    memcpy(log->owner, options->owner, sizeof(log->owner));
    mly_mutex_init(&log->mutex);
    mly_cond_init(&log->changed);
    struct recovery recovery = {.log = log, .options = options};
    enum mly_err rc = MLY_OK;
    log->dir = mly_mem_alloc(env->mem, dir_bytes + 1);
    if (log->dir == NULL) {
        rc = mly_fail_nomem(err, dir_bytes + 1);
    } else {
        if (dir_bytes > 0) memcpy(log->dir, dir, dir_bytes);
        log->dir[dir_bytes] = '\0';
        rc = recover(&recovery, err);
    }
    if (rc != MLY_OK) {
        destroy(log);
        return rc;
    }
    if (out_report != NULL) *out_report = recovery.report;
    *out = log;
    return MLY_OK;
}

enum mly_err mly_log_close(struct mly_log *log, struct mly_error *err)
{
    if (log == NULL) return MLY_OK;
    /* In a child of fork() other threads were cut off in the midst of whatever they did. */
    if (log->pid != log->env->pid(log->env->context)) return MLY_OK;
    enum mly_err rc = mly_log_flush(log, err);
    mly_log_stop_timer(log);
    destroy(log);
    return rc;
}
