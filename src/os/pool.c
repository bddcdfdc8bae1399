/* One job at a time: workers and the caller take part numbers from a shared counter until none is
 * left. A job's end is the moment when the last worker has left it, so that its context may live on
 * the caller's stack. */
#include "os/pool.h"

#include "os/lock.h"

#include <stdatomic.h>

/* More threads than this help no machine we know and would cost workspaces. */
#define POOL_THREADS_MAX 256u

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
    mly_pool_part_fn part;
    void *context;
    size_t part_count;
    _Atomic size_t next_part;
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
    *out = pool;
    return MLY_OK;
}

/* part is the caller's copy, taken with the mutex held: the field is cleared as soon as the last
 * part has been taken, which may be between our taking one and our calling it. */
static void run_parts(struct mly_pool *pool, mly_pool_part_fn part, uint32_t worker_i)
{
    for (;;) {
        size_t part_i = atomic_fetch_add(&pool->next_part, 1);
        if (part_i >= pool->part_count) return;
        part(pool->context, part_i, worker_i);
    }
}

static void *run_worker(void *argument)
{
    struct pool_worker *worker = argument;
    struct mly_pool *pool = worker->pool;
    uint64_t seen = 0;
    mly_mutex_lock(&pool->mutex);
    for (;;) {
        while (!pool->quit && (pool->job == seen || pool->part == NULL)) {
            mly_cond_wait(&pool->wake, &pool->mutex);
        }
        if (pool->quit) break;
        seen = pool->job;
        mly_pool_part_fn part = pool->part;
        pool->busy++;
        mly_mutex_unlock(&pool->mutex);
        run_parts(pool, part, worker->worker_i);
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

void mly_pool_run(struct mly_pool *pool, size_t part_count, mly_pool_part_fn part, void *context)
{
    if (part_count == 0) return;
    mly_mutex_lock(&pool->job_mutex);
    if (part_count > 1) start_workers(pool);
    mly_mutex_lock(&pool->mutex);
    pool->part = part;
    pool->context = context;
    pool->part_count = part_count;
    atomic_store(&pool->next_part, 0);
    if (part_count > 1 && pool->worker_count > 0) {
        pool->job++;
        mly_cond_wake_all(&pool->wake);
    }
    mly_mutex_unlock(&pool->mutex);
    run_parts(pool, part, 0);
    mly_mutex_lock(&pool->mutex);
    /* No part is left to take. Workers that have not woken yet must not enter this job any more. */
    pool->part = NULL;
    while (pool->busy > 0) {
        mly_cond_wait(&pool->idle, &pool->mutex);
    }
    mly_mutex_unlock(&pool->mutex);
    mly_mutex_unlock(&pool->job_mutex);
}
