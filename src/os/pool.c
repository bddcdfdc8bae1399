/* A pool is a caller's view of the runtime's crew: threads that all pools share, urgent jobs first.
 * In a job workers and the caller take parts, by a ticket that names the stage and its next part,
 * until none is left. Who finishes the last part of a stage opens the next one. So a
 * worker that wakes late, or is kept from its core, holds up nobody but by the part in its hands. A
 * job's end is the moment when the last worker has left it, so that its context may live on the
 * caller's stack.
 */
#include "os/pool.h"

#include "os/crew.h"
#include "os/lock.h"
#include "os/runtime.h"

#include <stdatomic.h>

/* More threads than this help no machine we know and would cost workspaces. */
#define POOL_THREADS_MAX 256u
/* Looks at the ticket before a waiting thread sleeps: some 20 microseconds, about what sleeping and
 * being woken costs. */
#define POOL_SPINS 600

/* Why a worker goes. */
enum leaving { LEAVE_DONE, LEAVE_FOR_URGENT };

#define SLOT_WORDS (POOL_THREADS_MAX / 64)

struct mly_pool {
    const struct mly_env *env;
    struct mly_runtime *runtime;
    struct mly_crew *crew;
    uint32_t thread_count;
    struct mly_mutex job_mutex; /* held by the caller of run: one job at a time */
    /* guarded by the crew's mutex */
    struct mly_pool *next_job; /* of the crew's open jobs */
    bool open;                 /* the job may still be entered */
    bool urgent;
    uint32_t wanted, busy; /* workers besides the caller: at most, and in it */
    uint64_t slots[SLOT_WORDS];
    struct mly_cond idle;
    /* the job; constant while it is open or anybody is busy */
    mly_pool_stage_fn stage;
    void *context;
    const size_t *part_counts;
    size_t stage_count;
    _Atomic uint64_t ticket; /* stage << 32 | next part */
    _Atomic size_t done;     /* parts of this stage */
    struct mly_mutex mutex;
    _Atomic uint32_t sleepers; /* waiting for another stage; changed with the mutex held */
    struct mly_cond next;      /* tells them */
};

/* The threads of all pools of a runtime. */
struct mly_crew {
    const struct mly_env *env;
    struct mly_mutex mutex; /* guards what follows; nothing is called with it held */
    struct mly_cond wake;
    struct mly_pool *jobs; /* open; urgent ones first, then as they came */
    uint64_t threads[POOL_THREADS_MAX];
    uint32_t count;
    bool quit;
    _Atomic uint32_t urgent_wants; /* workers that urgent jobs have not got */
};

/* ---- a pool's life ---- */

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
    enum mly_err rc = mly_runtime_hold(env, &pool->runtime, err);
    if (rc == MLY_OK) rc = mly_runtime_get_crew(pool->runtime, &pool->crew, err);
    if (rc != MLY_OK) {
        mly_runtime_drop(pool->runtime);
        mly_mem_free(env->mem, pool);
        return rc;
    }
    mly_mutex_init(&pool->job_mutex);
    mly_mutex_init(&pool->mutex);
    mly_cond_init(&pool->idle);
    mly_cond_init(&pool->next);
    *out = pool;
    return MLY_OK;
}

void mly_pool_destroy(struct mly_pool *pool)
{
    if (pool == NULL) return;
    if (!mly_runtime_is_forgotten(pool->runtime)) {
        mly_cond_deinit(&pool->next);
        mly_cond_deinit(&pool->idle);
        mly_mutex_deinit(&pool->mutex);
        mly_mutex_deinit(&pool->job_mutex);
    }
    mly_runtime_drop(pool->runtime);
    mly_mem_free(pool->env->mem, pool);
}

uint32_t mly_pool_thread_count(const struct mly_pool *pool)
{
    return pool->thread_count;
}

void mly_pool_set_urgent(struct mly_pool *pool, bool urgent)
{
    mly_mutex_lock(&pool->crew->mutex);
    if (!pool->open) pool->urgent = urgent;
    mly_mutex_unlock(&pool->crew->mutex);
}

/* ---- a job ---- */

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

/* Takes parts until the last stage has none left; the caller of run also waits for its end. Workers
 * leave between two parts where an urgent job has not got all it wants. */
static enum leaving run_parts(struct mly_pool *pool, uint32_t worker_i, bool gives_way)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    for (;;) {
        const size_t stage_i = (size_t)(ticket >> 32), part_i = (size_t)(ticket & UINT32_MAX);
        if (stage_i >= pool->stage_count) return LEAVE_DONE;
        if (part_i >= pool->part_counts[stage_i]) {
            const bool last = skip_empty(pool, stage_i + 1) == pool->stage_count;
            if (last && worker_i != 0) return LEAVE_DONE;
            wait_for_stage(pool, stage_i);
            ticket = atomic_load(&pool->ticket);
            continue;
        }
        if (gives_way &&
            atomic_load_explicit(&pool->crew->urgent_wants, memory_order_relaxed) > 0) {
            return LEAVE_FOR_URGENT;
        }
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket + 1)) continue;
        pool->stage(pool->context, stage_i, part_i, worker_i);
        if (atomic_fetch_add(&pool->done, 1) + 1 == pool->part_counts[stage_i])
            open_next_stage(pool, stage_i);
        ticket = atomic_load(&pool->ticket);
    }
}

/* The crew's mutex is held in these. */

static void close_job(struct mly_pool *pool)
{
    if (!pool->open) return;
    struct mly_pool **at = &pool->crew->jobs;
    while (*at != pool)
        at = &(*at)->next_job;
    *at = pool->next_job;
    pool->open = false;
    if (pool->urgent) atomic_fetch_sub(&pool->crew->urgent_wants, pool->wanted - pool->busy);
}

static void open_job(struct mly_pool *pool)
{
    struct mly_pool **at = &pool->crew->jobs;
    while (*at != NULL && (!pool->urgent || (*at)->urgent))
        at = &(*at)->next_job;
    pool->next_job = *at;
    *at = pool;
    pool->open = true;
    if (pool->urgent) atomic_fetch_add(&pool->crew->urgent_wants, pool->wanted);
}

/* The number that picks its workspace. Low ones first: what they have is in somebody's cache. */
static uint32_t enter_job(struct mly_pool *pool)
{
    uint32_t worker_i = 1;
    while ((pool->slots[worker_i / 64] >> (worker_i % 64) & 1) != 0)
        worker_i++;
    pool->slots[worker_i / 64] |= (uint64_t)1 << (worker_i % 64);
    pool->busy++;
    if (pool->urgent) atomic_fetch_sub(&pool->crew->urgent_wants, 1);
    return worker_i;
}

static void leave_job(struct mly_pool *pool, uint32_t worker_i, enum leaving why)
{
    /* Nobody else need look: there is no part left to take. */
    if (why == LEAVE_DONE) close_job(pool);
    pool->slots[worker_i / 64] &= ~((uint64_t)1 << (worker_i % 64));
    pool->busy--;
    if (pool->open && pool->urgent) atomic_fetch_add(&pool->crew->urgent_wants, 1);
    if (pool->busy == 0) mly_cond_wake_all(&pool->idle);
}

static struct mly_pool *find_job(const struct mly_crew *crew)
{
    struct mly_pool *job = crew->jobs;
    while (job != NULL && job->busy >= job->wanted)
        job = job->next_job;
    return job;
}

static void *run_worker(void *argument)
{
    struct mly_crew *crew = argument;
    mly_mutex_lock(&crew->mutex);
    for (;;) {
        struct mly_pool *job = find_job(crew);
        if (job == NULL) {
            if (crew->quit) break;
            mly_cond_wait(&crew->wake, &crew->mutex);
            continue;
        }
        const uint32_t worker_i = enter_job(job);
        const bool gives_way = !job->urgent;
        mly_mutex_unlock(&crew->mutex);
        const enum leaving why = run_parts(job, worker_i, gives_way);
        mly_mutex_lock(&crew->mutex);
        leave_job(job, worker_i, why);
    }
    mly_mutex_unlock(&crew->mutex);
    return NULL;
}

/* As many as the largest pool wants, or as can be had. */
static void start_workers(struct mly_crew *crew, uint32_t wanted)
{
    while (crew->count < wanted) {
        if (crew->env->thread_start(crew->env->context, run_worker, crew,
                                    &crew->threads[crew->count]) < 0) {
            return;
        }
        crew->count++;
    }
}

/* ---- the crew's life ---- */

enum mly_err mly_crew_create(const struct mly_env *env, struct mly_crew **out,
                             struct mly_error *err)
{
    struct mly_crew *crew = mly_mem_array(env->mem, 1, sizeof(*crew));
    if (crew == NULL) return mly_fail_nomem(err, sizeof(*crew));
    crew->env = env;
    mly_mutex_init(&crew->mutex);
    mly_cond_init(&crew->wake);
    *out = crew;
    return MLY_OK;
}

void mly_crew_forget(struct mly_crew *crew)
{
    if (crew != NULL) mly_mem_free(crew->env->mem, crew);
}

void mly_crew_destroy(struct mly_crew *crew)
{
    if (crew == NULL) return;
    const struct mly_env *env = crew->env;
    mly_mutex_lock(&crew->mutex);
    crew->quit = true;
    mly_cond_wake_all(&crew->wake);
    mly_mutex_unlock(&crew->mutex);
    for (uint32_t i = 0; i < crew->count; i++)
        (void)env->thread_join(env->context, crew->threads[i]);
    mly_cond_deinit(&crew->wake);
    mly_mutex_deinit(&crew->mutex);
    mly_mem_free(env->mem, crew);
}

/* ---- running ---- */

void mly_pool_run_stages(struct mly_pool *pool, const size_t *part_counts, size_t stage_count,
                         mly_pool_stage_fn stage, void *context)
{
    struct mly_crew *crew = pool->crew;
    size_t widest = 0;
    for (size_t i = 0; i < stage_count; i++) {
        widest = part_counts[i] > widest ? part_counts[i] : widest;
    }
    mly_mutex_lock(&pool->job_mutex);
    mly_mutex_lock(&crew->mutex);
    pool->stage = stage;
    pool->context = context;
    pool->part_counts = part_counts;
    pool->stage_count = stage_count;
    atomic_store(&pool->done, 0);
    atomic_store(&pool->ticket, ticket_of(skip_empty(pool, 0)));
    /* More workers than parts of the widest stage would find nothing to do. */
    pool->wanted = widest < 2 ? 0 : pool->thread_count - 1;
    if (pool->wanted > 0 && widest - 1 < pool->wanted) pool->wanted = (uint32_t)(widest - 1);
    if (pool->wanted > 0) {
        start_workers(crew, pool->thread_count - 1);
        open_job(pool);
        mly_cond_wake_all(&crew->wake);
    }
    mly_mutex_unlock(&crew->mutex);
    (void)run_parts(pool, 0, false);
    mly_mutex_lock(&crew->mutex);
    /* No part is left to take. Workers that have not woken yet must not enter this job any more. */
    close_job(pool);
    while (pool->busy > 0) {
        mly_cond_wait(&pool->idle, &crew->mutex);
    }
    mly_mutex_unlock(&crew->mutex);
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
