/* Who may write: one thread of one process, from begin to end.
 *
 * In: the store. Out: the turn among this process's threads, then the lock among processes, with
 * which goes the right to write on the log. Threads that wait in end for their sync keep the lock
 * together; where another process stands in line it comes first. */
#include "store/store_state_int.h"

#define PULSE_MS 20
#define YIELD_MS 20

/* ---- taking turns in this process ---- */

static void leave_turns(struct mly_store *store, const struct mly_store_turn *turn)
{
    struct mly_store_turn **at = &store->turns;
    while (*at != turn)
        at = &(*at)->next;
    *at = turn->next;
    mly_cond_wake_all(&store->cond);
}

/* Becomes the thread that writes. */
static enum mly_err take_turn(struct mly_store *store, const struct mly_store_wait *wait,
                              struct mly_error *err)
{
    struct mly_store_turn turn = {NULL};
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&store->mutex);
    struct mly_store_turn **last = &store->turns;
    while (*last != NULL)
        last = &(*last)->next;
    *last = &turn;
    while (store->writing || store->turns != &turn) {
        uint32_t left_ms = mly_store_wait_ms(store, wait);
        if (left_ms == 0) {
            rc = mly_fail(err, MLY_ERR_BUSY,
                          "store %s: another thread of this process is writing; waited %u ms",
                          store->path, store->lock_wait_ms);
            break;
        }
        mly_cond_wait_ms(&store->cond, &store->mutex,
                         left_ms < PULSE_MS || wait->pulse == NULL ? left_ms : PULSE_MS);
        if (wait->pulse == NULL) continue;
        mly_mutex_unlock(&store->mutex);
        rc = wait->pulse(wait->context, err);
        mly_mutex_lock(&store->mutex);
        if (rc != MLY_OK) break;
    }
    leave_turns(store, &turn);
    if (rc == MLY_OK) store->writing = true;
    mly_mutex_unlock(&store->mutex);
    return rc;
}

/* ---- the lock, kept while threads of ours wait for a sync ---- */

/* mutex is held, and nobody writes or settles. */
static void give_back(struct mly_store *store)
{
    mly_store_yield_log(store);
    store->lock_held = false;
    mly_store_unlock(store);
}

void mly_store_settled(struct mly_store *store)
{
    mly_mutex_lock(&store->mutex);
    store->settling--;
    if (store->settling == 0 && !store->writing && store->lock_held) give_back(store);
    mly_cond_wake_all(&store->cond);
    mly_mutex_unlock(&store->mutex);
}

/* The lock is ours still: may we go on? Where another process waits it comes first. */
static enum mly_err keep_lock(struct mly_store *store, const struct mly_store_wait *wait,
                              struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&store->mutex);
    if (store->lock_held && mly_store_others_wait(store)) {
        while (store->settling > 0)
            mly_cond_wait_ms(&store->cond, &store->mutex, PULSE_MS);
        give_back(store);
        mly_mutex_unlock(&store->mutex);
        /* Long enough for the other to see that it is free. */
        if (wait->pulse != NULL) rc = wait->pulse(wait->context, err);
        mly_clock_sleep_ms(store->env, YIELD_MS);
        return rc;
    }
    mly_mutex_unlock(&store->mutex);
    return rc;
}

static enum mly_err take_lock(struct mly_store *store, const struct mly_store_wait *wait,
                              struct mly_error *err)
{
    bool same_log = false;
    MLY_TRY(keep_lock(store, wait, err));
    if (store->lock_held) return MLY_OK;
    MLY_TRY(mly_store_lock(store, wait, &same_log, err));
    mly_mutex_lock(&store->mutex);
    store->lock_held = true;
    mly_mutex_unlock(&store->mutex);
    mly_store_resume_log(store, same_log);
    return MLY_OK;
}

/* ---- begin and end ---- */

enum mly_err mly_store_begin(struct mly_store *store, struct mly_error *err)
{
    return mly_store_begin_pulsed(store, NULL, NULL, err);
}

enum mly_err mly_store_begin_pulsed(struct mly_store *store, mly_pulse_fn pulse, void *context,
                                    struct mly_error *err)
{
    struct mly_store_wait wait = {mly_clock_seconds(store->env) + store->lock_wait_ms * 1e-3, pulse,
                                  context};
    return mly_store_begin_until(store, &wait, err);
}

enum mly_err mly_store_begin_until(struct mly_store *store, const struct mly_store_wait *wait,
                                   struct mly_error *err)
{
    if (store->read_only) {
        return mly_fail(err, MLY_ERR_READONLY, "store %s is open for reading only", store->path);
    }
    MLY_TRY(take_turn(store, wait, err));
    enum mly_err rc = store->in_memory ? MLY_OK : take_lock(store, wait, err);
    mly_mutex_lock(&store->mutex);
    mly_store_step_forth(store);
    if (rc == MLY_OK) rc = mly_store_renew(store, err);
    if (rc == MLY_OK && !store->in_memory) rc = mly_store_set_aside(store, err);
    if (rc == MLY_OK) rc = mly_store_check_model(store, err);
    mly_mutex_unlock(&store->mutex);
    if (rc == MLY_OK && !store->in_memory) rc = mly_store_replace_log(store, err);
    if (rc != MLY_OK) (void)mly_store_end(store, NULL);
    return rc;
}

enum mly_err mly_store_end(struct mly_store *store, struct mly_error *err)
{
    /* What does not get into the tables now stays in the log. */
    if (store->lock_held) (void)!mly_store_checkpoint_if_due(store, NULL);
    mly_store_idle_soon(store);
    mly_mutex_lock(&store->mutex);
    bool wait = store->asked == MLY_DURABILITY_FULL && !store->in_memory;
    struct mly_log *log = store->log;
    store->asked = MLY_DURABILITY_DEFAULT;
    store->writing = false;
    store->settling++;
    mly_cond_wake_all(&store->cond);
    mly_mutex_unlock(&store->mutex);
    enum mly_err rc = wait && log != NULL ? mly_log_flush(log, err) : MLY_OK;
    mly_store_settled(store);
    mly_store_index_soon(store);
    return rc;
}
