/* The checkpoint that comes when nobody writes any more.
 *
 * In: the end of each write. Out: a timer, set to the moment at which the tail has waited long
 * enough; then a thread of the runtime becomes the writer for a moment, as any other, and what
 * was committed is in the tables, where other programs see it. */
#include "store/store_state_int.h"

/* Somebody else was writing, or it failed: until it is tried again. */
#define AGAIN_SECONDS 5.0

static void set_timer(struct mly_store *store, double seconds)
{
    mly_timer_set(store->idle_timer, seconds <= 0 ? 1 : (uint64_t)(seconds * 1e3) + 1);
}

static void checkpoint(void *context)
{
    struct mly_store *store = context;
    /* Waits for nobody: whoever writes now sets the timer anew. */
    const struct mly_store_wait wait = {mly_clock_seconds(store->env), NULL, NULL};
    if (mly_store_begin_until(store, &wait, NULL) == MLY_OK) {
        store->idle_due_s = 0;
        (void)!mly_store_end(store, NULL);
    } else {
        double seconds = store->checkpoint_after_s;
        set_timer(store, seconds < AGAIN_SECONDS ? seconds : AGAIN_SECONDS);
    }
}

static bool has_timer(struct mly_store *store)
{
    if (!store->idle_tried) {
        store->idle_tried = true;
        if (mly_runtime_hold(store->env, &store->runtime, NULL) == MLY_OK) {
            (void)!mly_timer_create(store->runtime, MLY_LANE_UPKEEP, checkpoint, store,
                                    &store->idle_timer, NULL);
        }
    }
    return store->idle_timer != NULL;
}

void mly_store_idle_soon(struct mly_store *store)
{
    mly_mutex_lock(&store->mutex);
    bool wanted = store->wrote && store->record_count > 0 && !store->in_memory;
    double due_s = store->checkpoint_s + store->checkpoint_after_s;
    mly_mutex_unlock(&store->mutex);
    /* Once for each tail: what comes later does not put it off. */
    if (!wanted || store->idle_due_s == due_s || !has_timer(store)) return;
    store->idle_due_s = due_s;
    set_timer(store, due_s - mly_clock_seconds(store->env));
}

void mly_store_idle_stop(struct mly_store *store)
{
    mly_timer_destroy(store->idle_timer);
    mly_runtime_drop(store->runtime);
    store->idle_timer = NULL;
    store->runtime = NULL;
}
