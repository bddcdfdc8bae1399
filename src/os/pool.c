/* One job at a time: workers and the caller take parts, by a ticket that names the stage and its
 * next part, until none is left. Who finishes the last part of a stage opens the next one. So a
 * worker that wakes late, or is kept from its core, holds up nobody but by the part in its hands. A
 * job's end is the moment when the last worker has left it, so that its context may live on the
 * caller's stack.
 */
#include "os/pool.h"

#include "os/lock.h"

#include <stdatomic.h>

/* More threads than this help no machine we know and would cost workspaces. */
#define POOL_THREADS_MAX 256u
/* Looks at the ticket before a waiting thread sleeps: some 20 microseconds, about what sleeping and
 * being woken costs. */
#define POOL_SPINS 600

struct pool_worker {
    struct mly_pool *pool;
    uint64_t thread;
    uint32_t worker_i;
};

struct mly_pool {
    const struct mly_env *env;
    int64_t pid; /* of the process that started the workers */
    uint32_t thread_count;
    struct mly_mutex job_mutex; /* held by the caller of run: one job at a time */
    struct mly_mutex mutex;     /* guards what follows; nothing is called with it held */
    struct mly_cond wake, idle;
    struct pool_worker *workers;
    uint32_t worker_count; /* started; the caller of run is one more */
    bool tried;            /* to start them */
    bool quit;
    uint64_t job; /* counts jobs, so that a worker knows a new one */
    uint32_t busy;
    bool open;     /* the job may still be entered */
    size_t widest; /* parts of its widest stage: more workers would find nothing to do */
    /* the job; constant while it is open or anybody is busy */
    mly_pool_stage_fn stage;
    void *context;
    const size_t *part_counts;
    size_t stage_count;
    _Atomic uint64_t ticket;   /* stage << 32 | next part */
    _Atomic size_t done;       /* parts of this stage */
    _Atomic uint32_t sleepers; /* waiting for another stage; changed with the mutex held */
    struct mly_cond next;      /* tells them */
};

enum mly_err mly_pool_create(const struct mly_env *env, uint32_t thread_count,
                             struct mly_pool **out, struct mly_error *err)
{
    if (thread_count > POOL_THREADS_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%u threads, limit is %u", thread_count,
                        POOL_THREADS_MAX);
    }
    if (thread_count == 0) {
        int cores = env->cpu_count(env->context);
        thread_count = cores < 1 ? 1u : (uint32_t)cores;
        if (thread_count > POOL_THREADS_MAX) thread_count = POOL_THREADS_MAX;
    }
    struct mly_pool *pool = mly_mem_array(env->mem, 1, sizeof(*pool));
    if (pool == NULL) return mly_fail_nomem(err, sizeof(*pool));
    pool->env = env;
    pool->thread_count = thread_count;
    mly_mutex_init(&pool->job_mutex);
    mly_mutex_init(&pool->mutex);
    mly_cond_init(&pool->wake);
    mly_cond_init(&pool->idle);
    mly_cond_init(&pool->next);
    *out = pool;
    return MLY_OK;
}

static uint64_t ticket_of(size_t stage_i)
{
    return (uint64_t)stage_i << 32;
}

/* The first stage from stage_i on that has parts, or stage_count. */
static size_t skip_empty(const struct mly_pool *pool, size_t stage_i)
{
    while (stage_i < pool->stage_count && pool->part_counts[stage_i] == 0) {
        stage_i++;
    }
    return stage_i;
}

static void open_next_stage(struct mly_pool *pool, size_t stage_i)
{
    atomic_store(&pool->done, 0);
    atomic_store(&pool->ticket, ticket_of(skip_empty(pool, stage_i + 1)));
    /* A sleeper counts itself and then looks at the ticket, we do it the other way round: one of us
     * sees the other. */
    if (atomic_load(&pool->sleepers) == 0) return;
    mly_mutex_lock(&pool->mutex);
    mly_cond_wake_all(&pool->next);
    mly_mutex_unlock(&pool->mutex);
}

static inline void pause_core(void)
{
#if defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Until the stage is over. */
static void wait_for_stage(struct mly_pool *pool, size_t stage_i)
{
    const uint64_t end = ticket_of(stage_i + 1);
    for (int i = 0; i < POOL_SPINS; i++) {
        if (atomic_load_explicit(&pool->ticket, memory_order_acquire) >= end) return;
        pause_core();
    }
    mly_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleepers, 1);
    while (atomic_load(&pool->ticket) < end) {
        mly_cond_wait(&pool->next, &pool->mutex);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
    mly_mutex_unlock(&pool->mutex);
}

/* Takes parts until the last stage has none left; the caller of run also waits for its end. */
static void run_parts(struct mly_pool *pool, uint32_t worker_i)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    for (;;) {
        const size_t stage_i = (size_t)(ticket >> 32), part_i = (size_t)(ticket & UINT32_MAX);
        if (stage_i >= pool->stage_count) return;
        if (part_i >= pool->part_counts[stage_i]) {
            const bool last = skip_empty(pool, stage_i + 1) == pool->stage_count;
            if (last && worker_i != 0) return;
            wait_for_stage(pool, stage_i);
            ticket = atomic_load(&pool->ticket);
            continue;
        }
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1)) continue;
        pool->stage(pool->context, stage_i, part_i, worker_i);
        if (atomic_fetch_add(&pool->done, 1) + 1 == pool->part_counts[stage_i])
            open_next_stage(pool, stage_i);
        ticket = atomic_load(&pool->ticket);
    }
}

static void *run_worker(void *argument)
{
    struct pool_worker *worker = argument;
    struct mly_pool *pool = worker->pool;
    uint64_t seen = 0;
    mly_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->quit && (pool->job == seen || !pool->open)) {
            mly_cond_wait(&pool->wake, &pool->mutex);
        }
        if (pool->quit) break;
        seen = pool->job;
        if (worker->worker_i >= pool->widest) continue;
        pool->busy++;
        mly_mutex_unlock(&pool->mutex);
        run_parts(pool, worker->worker_i);
        mly_mutex_lock(&pool->mutex);
        pool->busy--;
        if (pool->busy == 0) mly_cond_wake_all(&pool->idle);
    }
    mly_mutex_unlock(&pool->mutex);
    return NULL;
}

/* Once; a pool that gets fewer threads, or none, works with those. */
static void start_workers(struct mly_pool *pool)
{
    if (pool->tried) return;
    pool->tried = true;
    pool->pid = pool->env->pid(pool->env->context);
    uint32_t wanted = pool->thread_count - 1;
    if (wanted == 0) return;
    pool->workers = mly_mem_array(pool->env->mem, wanted, sizeof(pool->workers[0]));
    if (pool->workers == NULL) return;
    for (uint32_t i = 0; i < wanted; i++) {
        struct pool_worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->worker_i = i + 1;
        if (pool->env->thread_start(pool->env->context, run_worker, worker, &worker->thread) < 0) {
            return;
        }
        pool->worker_count++;
    }
}

void mly_pool_destroy(struct mly_pool *pool)
{
    if (pool == NULL) return;
    const struct mly_env *env = pool->env;
    bool ours = pool->worker_count > 0 && pool->pid == env->pid(env->context);
    if (ours) {
        mly_mutex_lock(&pool->mutex);
        pool->quit = true;
        mly_cond_wake_all(&pool->wake);
        mly_mutex_unlock(&pool->mutex);
        for (uint32_t i = 0; i < pool->worker_count; i++) {
            (void)env->thread_join(env->context, pool->workers[i].thread);
        }
        mly_cond_deinit(&pool->next);
        mly_cond_deinit(&pool->idle);
        mly_cond_deinit(&pool->wake);
        mly_mutex_deinit(&pool->mutex);
        mly_mutex_deinit(&pool->job_mutex);
    }
    mly_mem_free(env->mem, pool->workers);
    mly_mem_free(env->mem, pool);
}

uint32_t mly_pool_thread_count(const struct mly_pool *pool)
{
    return pool->thread_count;
}

void mly_pool_run_stages(struct mly_pool *pool, const size_t *part_counts, size_t stage_count,
                         mly_pool_stage_fn stage, void *context)
{
    size_t widest = 0;
    for (size_t i = 0; i < stage_count; i++) {
        widest = part_counts[i] > widest ? part_counts[i] : widest;
    }
    mly_mutex_lock(&pool->job_mutex);
    if (widest > 1) start_workers(pool);
    mly_mutex_lock(&pool->mutex);
    pool->stage = stage;
    pool->context = context;
    pool->part_counts = part_counts;
    pool->stage_count = stage_count;
    atomic_store(&pool->done, 0);
    atomic_store(&pool->ticket, ticket_of(skip_empty(pool, 0)));
    pool->widest = widest;
    if (widest > 1 && pool->worker_count > 0) {
        pool->open = true;
        pool->job++;
        mly_cond_wake_all(&pool->wake);
    }
    mly_mutex_unlock(&pool->mutex);
    run_parts(pool, 0);
    mly_mutex_lock(&pool->mutex);
    /* No part is left to take. Workers that have not woken yet must not enter this job any more. */
    pool->open = false;
    while (pool->busy > 0) {
        mly_cond_wait(&pool->idle, &pool->mutex);
    }
    mly_mutex_unlock(&pool->mutex);
    mly_mutex_unlock(&pool->job_mutex);
}

/* A job of one stage. */
struct flat_job {
    mly_pool_part_fn part;
    void *context;
};

static void run_flat(void *context, size_t stage_i, size_t part_i, uint32_t worker_i)
{
    const struct flat_job *job = context;
    (void)stage_i;
    job->part(job->context, part_i, worker_i);
}

void mly_pool_run(struct mly_pool *pool, size_t part_count, mly_pool_part_fn part, void *context)
{
    struct flat_job job = {part, context};
    if (part_count > 0) mly_pool_run_stages(pool, &part_count, 1, run_flat, &job);
}
