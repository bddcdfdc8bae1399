/* The pool: each part once, on as many threads as there are, shared with other pools, and without
 * any where none can be started. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "fault_env.h"
#include "os/clock.h"
#include "os/pool.h"
#include "os/runtime.h"

#include <pthread.h>
#include <string.h>

#define PARTS 1000

struct job {
    _Atomic int seen[PARTS];
    _Atomic int in_use[8]; /* per worker: is somebody in it */
    _Atomic bool clash;
};

static void count_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct job *job = context;
    if (atomic_fetch_add(&job->in_use[worker_i], 1) != 0) atomic_store(&job->clash, true);
    atomic_fetch_add(&job->seen[part_i], 1);
    atomic_fetch_sub(&job->in_use[worker_i], 1);
}

static void run_jobs(const struct mly_env *env, uint32_t threads)
{
    struct mly_pool *pool = NULL;
    assert_int_equal(mly_pool_create(env, threads, &pool, NULL), MLY_OK);
    for (size_t parts = 0; parts <= PARTS; parts = parts * 2 + 1) {
        struct job job;
        memset(&job, 0, sizeof(job));
        mly_pool_run(pool, parts, count_part, &job);
        for (size_t i = 0; i < PARTS; i++) {
            assert_int_equal(atomic_load(&job.seen[i]), i < parts ? 1 : 0);
        }
        assert_false(atomic_load(&job.clash));
    }
    mly_pool_destroy(pool);
}

enum { STAGES = 9 };

struct stages {
    const size_t *counts;
    _Atomic size_t seen[STAGES];
    _Atomic int in_use[8];
    _Atomic bool clash, early;
};

static void count_stage(void *context, size_t stage_i, size_t part_i, uint32_t worker_i)
{
    struct stages *stages = context;
    if (atomic_fetch_add(&stages->in_use[worker_i], 1) != 0) atomic_store(&stages->clash, true);
    for (size_t i = 0; i < stage_i; i++) {
        if (atomic_load(&stages->seen[i]) != stages->counts[i]) atomic_store(&stages->early, true);
    }
    for (volatile size_t i = 0; i < part_i % 7 * 50; i++) {
    }
    atomic_fetch_add(&stages->seen[stage_i], 1);
    atomic_fetch_sub(&stages->in_use[worker_i], 1);
}

static void no_stage_begins_before_the_one_before_is_done(void **state)
{
    (void)state;
    static const size_t counts[][STAGES] = {{1, 12, 1, 12, 3, 0, 0, 40, 7},
                                            {0, 0, 5, 1, 1, 1, 9, 0, 0},
                                            {0, 0, 0, 0, 0, 0, 0, 0, 0},
                                            {1, 1, 1, 1, 1, 1, 1, 1, 1},
                                            {2, 2, 2, 2, 2, 2, 2, 2, 500}};
    for (uint32_t threads = 1; threads <= 5; threads++) {
        struct mly_pool *pool = NULL;
        assert_int_equal(mly_pool_create(mly_env_system(), threads, &pool, NULL), MLY_OK);
        for (size_t round = 0; round < 400; round++) {
            struct stages stages;
            memset(&stages, 0, sizeof(stages));
            stages.counts = counts[round % 5];
            const size_t stage_count = round % 11 == 10 ? 0 : STAGES;
            mly_pool_run_stages(pool, stages.counts, stage_count, count_stage, &stages);
            for (size_t i = 0; i < STAGES; i++) {
                assert_int_equal(atomic_load(&stages.seen[i]),
                                 stage_count == 0 ? 0 : stages.counts[i]);
            }
            assert_false(atomic_load(&stages.clash));
            assert_false(atomic_load(&stages.early));
        }
        mly_pool_destroy(pool);
    }
}

static void every_part_runs_once_for_any_thread_count(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    for (int round = 0; round < 50; round++) {
        run_jobs(&fault.env, 1);
        run_jobs(&fault.env, 2);
        run_jobs(&fault.env, 5);
    }
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

static void a_pool_without_threads_still_works(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    for (uint64_t fail_at = 1; fail_at < 6; fail_at++) {
        fault_env_reset(&fault);
        atomic_store(&fault.fail_at, fail_at);
        atomic_store(&fault.fail_forever, true);
        run_jobs(&fault.env, 5);
    }
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

static void memory_that_runs_out_is_an_error(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_pool *pool = NULL;
        struct mly_error err = {0};
        fault_env_reset(&fault);
        atomic_store(&fault.mem.calls, 0);
        atomic_store(&fault.mem.fail_at, fail_at);
        enum mly_err rc = mly_pool_create(&fault.env, 5, &pool, &err);
        mly_pool_destroy(pool);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        if (rc == MLY_OK) {
            assert_true(fail_at > 3);
            break;
        }
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_true(err.message[0] != '\0');
    }
}

/* ---- several pools ---- */

static void *run_many_jobs(void *argument)
{
    for (int i = 0; i < 20; i++)
        run_jobs(argument, 3);
    return NULL;
}

static void pools_share_their_threads(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_runtime *runtime = NULL;
    pthread_t threads[4];
    assert_int_equal(mly_runtime_hold(&fault.env, &runtime, NULL), MLY_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_many_jobs, &fault.env), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    /* Two beside each caller were enough for all of the 80 pools. */
    assert_int_equal(atomic_load(&fault.calls), 2);
    mly_runtime_drop(runtime);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

struct ingest {
    struct mly_pool *pool;
    _Atomic int parts, others; /* begun; of these by others than the caller */
    _Atomic bool stop;
};

static void ingest_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct ingest *ingest = context;
    (void)part_i;
    if (atomic_load(&ingest->stop)) return;
    atomic_fetch_add(&ingest->parts, 1);
    if (worker_i != 0) atomic_fetch_add(&ingest->others, 1);
    mly_clock_sleep_ms(mly_env_system(), 2);
}

static void *run_ingest(void *argument)
{
    struct ingest *ingest = argument;
    mly_pool_run(ingest->pool, 100000, ingest_part, ingest);
    return NULL;
}

struct search {
    _Atomic int parts, others;
};

static void search_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct search *search = context;
    (void)part_i;
    atomic_fetch_add(&search->parts, 1);
    if (worker_i != 0) atomic_fetch_add(&search->others, 1);
    mly_clock_sleep_ms(mly_env_system(), 2);
}

static void an_urgent_job_takes_workers_from_others_and_gives_them_back(void **state)
{
    (void)state;
    struct ingest ingest = {.parts = 0};
    struct mly_pool *urgent = NULL;
    pthread_t thread;
    assert_int_equal(mly_pool_create(mly_env_system(), 4, &ingest.pool, NULL), MLY_OK);
    assert_int_equal(mly_pool_create(mly_env_system(), 4, &urgent, NULL), MLY_OK);
    mly_pool_set_urgent(urgent, true);
    assert_int_equal(pthread_create(&thread, NULL, run_ingest, &ingest), 0);
    for (int i = 0; i < 5000 && atomic_load(&ingest.others) < 6; i++)
        mly_clock_sleep_ms(mly_env_system(), 1);
    assert_true(atomic_load(&ingest.others) >= 6);
    for (int round = 0; round < 5; round++) {
        struct search search = {.parts = 0};
        int before = atomic_load(&ingest.others);
        mly_pool_run(urgent, 200, search_part, &search);
        assert_int_equal(atomic_load(&search.parts), 200);
        /* All three workers came: most parts are theirs, and few of the ingest's. */
        assert_true(atomic_load(&search.others) > 100);
        assert_true(atomic_load(&ingest.others) - before < 60);
        int after = atomic_load(&ingest.others);
        for (int i = 0; i < 5000 && atomic_load(&ingest.others) < after + 6; i++)
            mly_clock_sleep_ms(mly_env_system(), 1);
        assert_true(atomic_load(&ingest.others) >= after + 6); /* they are back */
    }
    atomic_store(&ingest.stop, true);
    pthread_join(thread, NULL);
    mly_pool_destroy(urgent);
    mly_pool_destroy(ingest.pool);
}

static void too_many_threads_are_refused(void **state)
{
    (void)state;
    struct mly_pool *pool = NULL;
    struct mly_error err = {0};
    assert_int_equal(mly_pool_create(mly_env_system(), 100000, &pool, &err), MLY_ERR_LIMIT);
    assert_non_null(strstr(err.message, "100000"));
    assert_null(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_runs_once_for_any_thread_count),
        cmocka_unit_test(no_stage_begins_before_the_one_before_is_done),
        cmocka_unit_test(a_pool_without_threads_still_works),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
        cmocka_unit_test(pools_share_their_threads),
        cmocka_unit_test(an_urgent_job_takes_workers_from_others_and_gives_them_back),
        cmocka_unit_test(too_many_threads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
