/* Lanes and timers.
 *
 * In: tasks, and moments at which they are due. Out: their calls, on threads that are started when
 * a task finds none of its lane waiting, up to the lane's limit. The loop only tells when: a timer
 * that is up becomes a task. */
#include "os/runtime.h"

#include "os/crew.h"
#include "os/lock.h"
#include "os/registry.h"

#define LANE_THREADS_MAX 16u

struct lane {
    struct mly_runtime *runtime;
    struct mly_cond wake;
    /* guarded by the runtime's mutex */
    struct mly_task *first, *last;
    uint32_t limit, count, idle, queued; /* threads: at most, started, waiting; tasks */
    uint64_t threads[LANE_THREADS_MAX];
};

struct mly_runtime {
    const struct mly_env *env;
    struct mly_runtime *next; /* the registry's, and so are these two */
    uint64_t holds;
    bool forgotten; /* we are in a child of the process that made it */
    struct mly_mutex mutex;
    struct mly_cond changed; /* a timer's run has ended */
    /* guarded by mutex */
    struct mly_loop *loop; /* NULL: not needed yet */
    struct mly_crew *crew; /* the same */
    struct lane lanes[MLY_LANES];
    bool quit;
};

enum timer_state { TIMER_IDLE, TIMER_QUEUED, TIMER_RUNNING };

struct mly_timer {
    struct mly_runtime *runtime;
    enum mly_lane lane;
    void (*run)(void *context);
    void *context;
    struct mly_task task;
    struct mly_loop_item *item;
    /* guarded by the runtime's mutex */
    enum timer_state state;
    bool again; /* it was up while it was running */
};

/* ---- lanes ---- */

static void *run_lane(void *argument)
{
    struct lane *lane = argument;
    struct mly_runtime *runtime = lane->runtime;
    mly_mutex_lock(&runtime->mutex);
    for (;;) {
        while (lane->first == NULL && !runtime->quit) {
            lane->idle++;
            mly_cond_wait(&lane->wake, &runtime->mutex);
            lane->idle--;
        }
        struct mly_task *task = lane->first;
        if (task == NULL) break;
        lane->first = task->next;
        if (lane->first == NULL) lane->last = NULL;
        lane->queued--;
        mly_mutex_unlock(&runtime->mutex);
        task->run(task->context);
        mly_mutex_lock(&runtime->mutex);
    }
    mly_mutex_unlock(&runtime->mutex);
    return NULL;
}

/* mutex is held. 0 or -errno. */
static int start_thread(struct lane *lane)
{
    const struct mly_env *env = lane->runtime->env;
    int result = env->thread_start(env->context, run_lane, lane, &lane->threads[lane->count]);
    if (result == 0) lane->count++;
    return result;
}

enum mly_err mly_runtime_ready(struct mly_runtime *runtime, enum mly_lane lane_i,
                               struct mly_error *err)
{
    struct lane *lane = &runtime->lanes[lane_i];
    mly_mutex_lock(&runtime->mutex);
    int result = lane->count > 0 ? 0 : start_thread(lane);
    mly_mutex_unlock(&runtime->mutex);
    if (result == 0) return MLY_OK;
    return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot start a thread");
}

/* mutex is held. */
static void push(struct lane *lane, struct mly_task *task)
{
    task->next = NULL;
    if (lane->last != NULL) {
        lane->last->next = task;
    } else {
        lane->first = task;
    }
    lane->last = task;
    lane->queued++;
    /* Threads that were woken count as waiting until they are there; what is queued for them does,
     * too. One that cannot be started now leaves the task to those that are. */
    if (lane->queued > lane->idle && lane->count < lane->limit) (void)start_thread(lane);
    mly_cond_wake_one(&lane->wake);
}

void mly_runtime_post(struct mly_runtime *runtime, enum mly_lane lane_i, struct mly_task *task)
{
    mly_mutex_lock(&runtime->mutex);
    push(&runtime->lanes[lane_i], task);
    mly_mutex_unlock(&runtime->mutex);
}

/* mutex is held. */
static bool withdraw(struct lane *lane, struct mly_task *task)
{
    struct mly_task *before = NULL;
    for (struct mly_task *at = lane->first; at != NULL; before = at, at = at->next) {
        if (at != task) continue;
        if (before == NULL) {
            lane->first = task->next;
        } else {
            before->next = task->next;
        }
        if (lane->last == task) lane->last = before;
        lane->queued--;
        return true;
    }
    return false;
}

bool mly_runtime_withdraw(struct mly_runtime *runtime, enum mly_lane lane_i, struct mly_task *task)
{
    if (runtime->forgotten) return true;
    mly_mutex_lock(&runtime->mutex);
    bool found = withdraw(&runtime->lanes[lane_i], task);
    mly_mutex_unlock(&runtime->mutex);
    return found;
}

/* ---- life ---- */

static const struct mly_env *origin_of(const struct mly_env *env)
{
    while (env->origin != NULL)
        env = env->origin;
    return env;
}

static uint32_t lane_limit(const struct mly_env *env, enum mly_lane lane)
{
    if (lane == MLY_LANE_SYNC) return 4;
    if (lane == MLY_LANE_UPKEEP) return 2;
    if (lane == MLY_LANE_WATCH) return 4; /* a long first look does not hold up other folders */
    /* Calls wait for the disk now and then. */
    int cores = env->cpu_count(env->context);
    uint32_t wanted = cores < 1 ? 3u : (uint32_t)cores + 2;
    return wanted < LANE_THREADS_MAX ? wanted : LANE_THREADS_MAX;
}

static struct mly_runtime *make(const struct mly_env *env)
{
    struct mly_runtime *runtime = mly_mem_array(env->mem, 1, sizeof(*runtime));
    if (runtime == NULL) return NULL;
    runtime->env = env;
    mly_mutex_init(&runtime->mutex);
    mly_cond_init(&runtime->changed);
    for (int i = 0; i < MLY_LANES; i++) {
        runtime->lanes[i].runtime = runtime;
        runtime->lanes[i].limit = lane_limit(env, (enum mly_lane)i);
        mly_cond_init(&runtime->lanes[i].wake);
    }
    return runtime;
}

enum mly_err mly_runtime_hold(const struct mly_env *env, struct mly_runtime **out,
                              struct mly_error *err)
{
    env = origin_of(env);
    struct mly_registry *registry = mly_registry_enter();
    struct mly_runtime *runtime = registry->runtimes;
    while (runtime != NULL && runtime->env != env)
        runtime = runtime->next;
    if (runtime == NULL) {
        runtime = make(env);
        if (runtime != NULL) {
            runtime->next = registry->runtimes;
            registry->runtimes = runtime;
        }
    }
    if (runtime != NULL) runtime->holds++;
    mly_registry_leave();
    if (runtime == NULL) return mly_fail_nomem(err, sizeof(*runtime));
    *out = runtime;
    return MLY_OK;
}

/* Nobody holds it any more, and nobody can find it. */
static void destroy(struct mly_runtime *runtime)
{
    const struct mly_env *env = runtime->env;
    mly_loop_destroy(runtime->loop);
    mly_crew_destroy(runtime->crew);
    mly_mutex_lock(&runtime->mutex);
    runtime->quit = true;
    for (int i = 0; i < MLY_LANES; i++)
        mly_cond_wake_all(&runtime->lanes[i].wake);
    mly_mutex_unlock(&runtime->mutex);
    for (int i = 0; i < MLY_LANES; i++) {
        struct lane *lane = &runtime->lanes[i];
        for (uint32_t t = 0; t < lane->count; t++)
            (void)env->thread_join(env->context, lane->threads[t]);
        mly_cond_deinit(&lane->wake);
    }
    mly_cond_deinit(&runtime->changed);
    mly_mutex_deinit(&runtime->mutex);
    mly_mem_free(env->mem, runtime);
}

/* The same in a child: there is nobody to join, and locks may be held by threads that are not here.
 * A loop's memory stays, as only libuv could free it. */
static void destroy_forgotten(struct mly_runtime *runtime)
{
    mly_crew_forget(runtime->crew);
    mly_mem_free(runtime->env->mem, runtime);
}

void mly_runtime_drop(struct mly_runtime *runtime)
{
    if (runtime == NULL) return;
    struct mly_registry *registry = mly_registry_enter();
    bool last = --runtime->holds == 0, forgotten = runtime->forgotten;
    if (last) {
        struct mly_runtime **at = forgotten ? &registry->forgotten : &registry->runtimes;
        while (*at != runtime)
            at = &(*at)->next;
        *at = runtime->next;
    }
    mly_registry_leave();
    /* Threads are joined outside: they may open what the registry lists. */
    if (last && forgotten) destroy_forgotten(runtime);
    if (last && !forgotten) destroy(runtime);
}

void mly_runtime_forget(struct mly_registry *registry)
{
    struct mly_runtime *runtime = registry->runtimes;
    while (runtime != NULL) {
        struct mly_runtime *next = runtime->next;
        runtime->forgotten = true;
        runtime->next = registry->forgotten;
        registry->forgotten = runtime;
        runtime = next;
    }
    registry->runtimes = NULL;
}

enum mly_err mly_runtime_get_loop(struct mly_runtime *runtime, struct mly_loop **out,
                                  struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&runtime->mutex);
    if (runtime->loop == NULL) rc = mly_loop_create(runtime->env, &runtime->loop, err);
    if (rc == MLY_OK) *out = runtime->loop;
    mly_mutex_unlock(&runtime->mutex);
    return rc;
}

enum mly_err mly_runtime_get_crew(struct mly_runtime *runtime, struct mly_crew **out,
                                  struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&runtime->mutex);
    if (runtime->crew == NULL) rc = mly_crew_create(runtime->env, &runtime->crew, err);
    if (rc == MLY_OK) *out = runtime->crew;
    mly_mutex_unlock(&runtime->mutex);
    return rc;
}

bool mly_runtime_is_forgotten(const struct mly_runtime *runtime)
{
    return runtime->forgotten;
}

/* ---- timers ---- */

/* On the loop's thread. */
static void on_time(void *context)
{
    struct mly_timer *timer = context;
    struct mly_runtime *runtime = timer->runtime;
    mly_mutex_lock(&runtime->mutex);
    if (timer->state == TIMER_IDLE) {
        timer->state = TIMER_QUEUED;
        push(&runtime->lanes[timer->lane], &timer->task);
    } else {
        timer->again = timer->state == TIMER_RUNNING;
    }
    mly_mutex_unlock(&runtime->mutex);
}

/* On the lane's. */
static void run_timer(void *context)
{
    struct mly_timer *timer = context;
    struct mly_runtime *runtime = timer->runtime;
    mly_mutex_lock(&runtime->mutex);
    timer->state = TIMER_RUNNING;
    mly_mutex_unlock(&runtime->mutex);
    timer->run(timer->context);
    mly_mutex_lock(&runtime->mutex);
    timer->state = TIMER_IDLE;
    if (timer->again) {
        timer->again = false;
        timer->state = TIMER_QUEUED;
        push(&runtime->lanes[timer->lane], &timer->task);
    }
    mly_cond_wake_all(&runtime->changed);
    mly_mutex_unlock(&runtime->mutex);
}

enum mly_err mly_timer_create(struct mly_runtime *runtime, enum mly_lane lane,
                              void (*run)(void *context), void *context, struct mly_timer **out,
                              struct mly_error *err)
{
    struct mly_loop *loop = NULL;
    MLY_TRY(mly_runtime_ready(runtime, lane, err));
    MLY_TRY(mly_runtime_get_loop(runtime, &loop, err));
    struct mly_timer *timer = mly_mem_array(runtime->env->mem, 1, sizeof(*timer));
    if (timer == NULL) return mly_fail_nomem(err, sizeof(*timer));
    timer->runtime = runtime;
    timer->lane = lane;
    timer->run = run;
    timer->context = context;
    timer->task = (struct mly_task){run_timer, timer, NULL};
    enum mly_err rc = mly_loop_timer_create(loop, on_time, timer, &timer->item, err);
    if (rc != MLY_OK) {
        mly_mem_free(runtime->env->mem, timer);
        return rc;
    }
    *out = timer;
    return MLY_OK;
}

void mly_timer_set(struct mly_timer *timer, uint64_t ms)
{
    if (!timer->runtime->forgotten) mly_loop_timer_set(timer->item, ms);
}

void mly_timer_destroy(struct mly_timer *timer)
{
    if (timer == NULL) return;
    struct mly_runtime *runtime = timer->runtime;
    mly_loop_item_destroy(timer->item, runtime->forgotten);
    if (!runtime->forgotten) {
        mly_mutex_lock(&runtime->mutex);
        timer->again = false;
        /* One that left the queue and does not run yet is about to. */
        if (timer->state == TIMER_QUEUED && withdraw(&runtime->lanes[timer->lane], &timer->task)) {
            timer->state = TIMER_IDLE;
        }
        while (timer->state != TIMER_IDLE)
            mly_cond_wait(&runtime->changed, &runtime->mutex);
        mly_mutex_unlock(&runtime->mutex);
    }
    mly_mem_free(runtime->env->mem, timer);
}
