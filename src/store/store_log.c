/* The store's log: followed by those who read, opened and replaced by the one who writes.
 *
 * In: segments in _memalloy/wal. Out: the records beyond those that are known, kept oldest first
 * (store_tail.c), and for the writer a log that has no more than that. Opening it is also all that
 * recovery is. */
#include "store/store_state_int.h"

#include <stdio.h>

#define PULSE_MS 50

void mly_store_stop_following(struct mly_store *store)
{
    mly_log_reader_close(store->reader);
    store->reader = NULL;
}

/* Keeps what is not known yet: the rest is our own, or in the tables by now. */
static enum mly_err take_record(void *context, const struct mly_log_record *from,
                                struct mly_error *err)
{
    struct mly_store *store = context;
    struct mly_store_record *record = NULL;
    if (from->lsn <= store->seen_lsn) return MLY_OK;
    MLY_TRY(mly_store_record_read(store->mem, from, &record, err));
    MLY_TRY(mly_store_keep_record(store, record, err));
    store->seen_lsn = from->lsn;
    return MLY_OK;
}

enum mly_err mly_store_follow_log(struct mly_store *store, struct mly_error *err)
{
    if (store->reader == NULL) {
        MLY_TRY(mly_log_reader_open(store->env, store->log_dir, store->seen_lsn, false,
                                    &store->reader, err));
    }
    for (;;) {
        struct mly_log_record from;
        bool found;
        MLY_TRY(mly_log_reader_next(store->reader, &from, &found, err));
        if (!found) return MLY_OK;
        MLY_TRY(take_record(store, &from, err));
    }
}

bool mly_store_knows_log(const struct mly_store *store)
{
    struct mly_log_status status;
    if (store->log == NULL || store->log_stale || store->current == NULL) return false;
    mly_log_get_status(store->log, &status);
    return status.last_lsn == store->seen_lsn;
}

void mly_store_resume_log(struct mly_store *store, bool same)
{
    mly_mutex_lock(&store->mutex);
    while (store->settling > 0) /* flush has hold of the log */
        mly_cond_wait_ms(&store->cond, &store->mutex, PULSE_MS);
    struct mly_log *log = store->log;
    if (same && mly_store_knows_log(store)) {
        mly_log_resume(log);
        store->log_ready = true;
        log = NULL;
    } else {
        store->log = NULL;
    }
    mly_mutex_unlock(&store->mutex);
    /* What it still had to sync the next writer's open has synced. */
    (void)mly_log_close(log, NULL);
}

void mly_store_yield_log(struct mly_store *store)
{
    if (store->log != NULL) mly_log_yield(store->log);
    store->log_ready = false;
}

/* Closes a log that is not to be written on; whoever waits for its syncs comes first. */
static void drop_log(struct mly_store *store)
{
    mly_mutex_lock(&store->mutex);
    while (store->settling > 0)
        mly_cond_wait_ms(&store->cond, &store->mutex, PULSE_MS);
    struct mly_log *log = store->log;
    store->log = NULL;
    store->log_ready = false;
    mly_mutex_unlock(&store->mutex);
    (void)mly_log_close(log, NULL);
}

/* No new segment could be made either: nothing may be concluded about what is on disk, and the
 * tables get new files. */
enum mly_err mly_store_replace_log(struct mly_store *store, struct mly_error *err)
{
    if (store->log != NULL && mly_log_has_failed(store->log)) {
        drop_log(store);
        mly_mutex_lock(&store->mutex);
        store->log_lost = true;
        mly_mutex_unlock(&store->mutex);
    }
    if (!store->log_lost) return MLY_OK;
    MLY_TRY(mly_store_run_checkpoint(store, err));
    mly_mutex_lock(&store->mutex);
    store->log_fresh = true;
    store->log_lost = false;
    mly_mutex_unlock(&store->mutex);
    return MLY_OK;
}

static void note_report(struct mly_store *store, const struct mly_log_report *from)
{
    if (from->dropped_bytes == 0) return;
    store->report.dropped_bytes += from->dropped_bytes;
    store->report.kept = from->kept;
    snprintf(store->report.reason, sizeof(store->report.reason), "%s", from->reason);
}

enum mly_err mly_store_open_log(struct mly_store *store, struct mly_error *err)
{
    if (store->log_ready) return MLY_OK;
    struct mly_log_report report = {0};
    struct mly_log_options options = {
        .memory = store->in_memory,
        .from_lsn = store->seen_lsn,
        .floor_lsn = store->seen_lsn,
        .fresh = store->log_fresh,
        .lost_dir = store->lost_dir,
        .replay = take_record,
        .context = store,
    };
    _Static_assert(MLY_STORE_TABLES * MLY_STORE_UUID_BYTES == MLY_LOG_OWNER_BYTES, "a UUID each");
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        mly_store_view_uuid(store->tables[kind].newest,
                            options.owner + (size_t)kind * MLY_STORE_UUID_BYTES);
    }
    drop_log(store);
    struct mly_log *log = NULL;
    MLY_TRY(mly_log_open(store->env, store->log_dir, &options, &log, &report, err));
    mly_mutex_lock(&store->mutex);
    store->log = log;
    store->log_ready = true;
    store->log_fresh = store->log_stale = false;
    mly_store_stop_following(store);
    note_report(store, &report);
    enum mly_err rc = mly_store_renew(store, err);
    mly_mutex_unlock(&store->mutex);
    return rc;
}
