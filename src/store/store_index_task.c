/* The thread that keeps the index up with the tables, so that nobody waits for it.
 *
 * In: a hint that something may have changed. Out: a thread, where something is due and none is at
 * it; it ends when nothing is. It works alone: the other cores are the caller's. */
#include "store/store_index_int.h"

/* Loads go first: while they follow each other the thread rests, but not for ever. */
#define QUIET_S 0.3
#define REST_MS_MAX 10000u
#define REST_MS 20u

/* One turn of the thread. */
struct task {
    struct mly_store *store;
    uint32_t rested_ms;
};

static bool is_wanted(const struct mly_store_index *index)
{
    return !atomic_load(&index->stop) && atomic_load(&index->callers) == 0;
}

static void rest(struct task *task)
{
    struct mly_store_index *index = task->store->index;
    for (; task->rested_ms < REST_MS_MAX && is_wanted(index); task->rested_ms += REST_MS) {
        double quiet_s = mly_clock_seconds(task->store->env) - atomic_load(&index->loaded_s);
        if (quiet_s >= QUIET_S) return;
        mly_mutex_lock(&index->task_mutex);
        mly_cond_wait_ms(&index->task_cond, &index->task_mutex, REST_MS);
        mly_mutex_unlock(&index->task_mutex);
    }
}

static enum mly_err ask_stop(void *context, double done, struct mly_error *err)
{
    (void)done;
    struct task *task = context;
    const struct mly_store *store = task->store;
    rest(task);
    if (is_wanted(store->index)) return MLY_OK;
    return mly_fail(err, MLY_ERR_CANCELLED, "store %s: it is not this thread's work now",
                    store->path);
}

void mly_store_index_yield(struct mly_store *store)
{
    if (store->index == NULL) return;
    atomic_store(&store->index->loaded_s, mly_clock_seconds(store->env));
}

static void *run(void *argument)
{
    struct mly_store *store = argument;
    struct mly_store_index *index = store->index;
    bool made = true;
    while (made && !atomic_load(&index->stop)) {
        struct task task = {.store = store};
        rest(&task);
        /* What cannot be made now is made another time; until then its rows are scanned. */
        if (mly_store_index_make(store, NULL, false, ask_stop, &task, &made, NULL) != MLY_OK)
            made = false;
    }
    mly_mutex_lock(&index->task_mutex);
    index->running = false;
    mly_mutex_unlock(&index->task_mutex);
    return NULL;
}

/* Did anything change since it was last asked? */
static bool has_news(struct mly_store *store)
{
    struct mly_store_index *index = store->index;
    mly_mutex_lock(&store->mutex);
    /* Loads are data files of the tail before a manifest names them. */
    const struct mly_store_view *view =
        store->current == NULL ? NULL : store->current->views[MLY_STORE_CHUNKS];
    uint64_t version =
        view == NULL || view->manifest == NULL ? 0 : mly_lance_manifest_version(view->manifest);
    size_t parts = view == NULL ? 0 : view->part_count;
    bool news = version != index->looked_version || parts != index->looked_parts ||
                index->generation != index->looked_generation;
    index->looked_version = version;
    index->looked_parts = parts;
    index->looked_generation = index->generation;
    mly_mutex_unlock(&store->mutex);
    return news;
}

void mly_store_index_soon(struct mly_store *store)
{
    struct mly_store_index *index = store->index;
    struct mly_store_index_state state;
    if (index == NULL || store->read_only || atomic_load(&index->callers) > 0) return;
    if (!has_news(store)) return;
    if (mly_store_get_index_state(store, &state, NULL) != MLY_OK) return;
    if (!state.is_due && state.is_measured) return;
    uint64_t old = 0;
    mly_mutex_lock(&index->task_mutex);
    bool start = !index->starting && !index->running && !atomic_load(&index->stop);
    bool join = start && index->joinable;
    if (start) {
        old = index->thread;
        index->starting = index->running = true;
        index->joinable = false;
    }
    mly_mutex_unlock(&index->task_mutex);
    if (!start) return;
    if (join) (void)store->env->thread_join(store->env->context, old);
    uint64_t thread = 0;
    bool started = store->env->thread_start(store->env->context, run, store, &thread) == 0;
    mly_mutex_lock(&index->task_mutex);
    index->starting = false;
    index->joinable = started;
    index->thread = thread;
    if (!started) index->running = false;
    mly_cond_wake_all(&index->task_cond);
    mly_mutex_unlock(&index->task_mutex);
}

void mly_store_index_stop(struct mly_store *store)
{
    struct mly_store_index *index = store->index;
    if (index == NULL) return;
    mly_mutex_lock(&index->task_mutex);
    atomic_store(&index->stop, true);
    mly_cond_wake_all(&index->task_cond);
    /* One that is being started has no number yet. */
    while (index->starting)
        mly_cond_wait_ms(&index->task_cond, &index->task_mutex, 50);
    bool join = index->joinable;
    index->joinable = false;
    mly_mutex_unlock(&index->task_mutex);
    if (join) (void)store->env->thread_join(store->env->context, index->thread);
}
