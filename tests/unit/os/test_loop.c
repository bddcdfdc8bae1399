/* The loop: moments, descriptors and work handed over by any thread, and the end of each while it
 * may be running. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "fault_env.h"
#include "os/clock.h"
#include "os/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

static struct mly_loop *start(const struct mly_env *env)
{
    struct mly_loop *loop = NULL;
    struct mly_error err = {0};
    if (mly_loop_create(env, &loop, &err) != MLY_OK) fail_msg("%s", err.message);
    return loop;
}

static void count(void *context)
{
    atomic_fetch_add((_Atomic int *)context, 1);
}

/* At most 5 s. */
static bool reaches(_Atomic int *value, int wanted)
{
    for (int i = 0; i < 5000 && atomic_load(value) < wanted; i++)
        mly_clock_sleep_ms(mly_env_system(), 1);
    return atomic_load(value) >= wanted;
}

static void a_timer_runs_when_its_time_is_up_and_no_sooner(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_loop *loop = start(&fault.env);
    struct mly_loop_item *timer = NULL;
    _Atomic int runs = 0;
    assert_int_equal(mly_loop_timer_create(loop, count, &runs, &timer, NULL), MLY_OK);
    mly_clock_sleep_ms(&fault.env, 20);
    assert_int_equal(atomic_load(&runs), 0); /* it was not set */
    double before = mly_clock_seconds(&fault.env);
    mly_loop_timer_set(timer, 30);
    assert_true(reaches(&runs, 1));
    assert_true(mly_clock_seconds(&fault.env) - before >= 0.028);
    mly_clock_sleep_ms(&fault.env, 60);
    assert_int_equal(atomic_load(&runs), 1); /* once */
    /* What is set later counts, what was set before does not. */
    mly_loop_timer_set(timer, 10);
    mly_loop_timer_set(timer, 3600000);
    mly_clock_sleep_ms(&fault.env, 50);
    assert_int_equal(atomic_load(&runs), 1);
    mly_loop_timer_set(timer, 5);
    assert_true(reaches(&runs, 2));
    mly_loop_timer_set(timer, 10);
    mly_loop_timer_set(timer, MLY_LOOP_NEVER);
    mly_clock_sleep_ms(&fault.env, 50);
    assert_int_equal(atomic_load(&runs), 2);
    mly_loop_item_destroy(timer, false);
    mly_loop_destroy(loop);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

static void timers_run_in_the_order_of_their_moments(void **state)
{
    (void)state;
    enum { TIMERS = 200 };
    struct mly_loop *loop = start(mly_env_system());
    static struct mly_loop_item *timers[TIMERS];
    static _Atomic int runs[TIMERS];
    for (int i = 0; i < TIMERS; i++) {
        atomic_store(&runs[i], 0);
        assert_int_equal(mly_loop_timer_create(loop, count, &runs[i], &timers[i], NULL), MLY_OK);
    }
    for (int i = TIMERS - 1; i >= 0; i--)
        mly_loop_timer_set(timers[i], i < TIMERS / 2 ? 1 : 3600000);
    for (int i = 0; i < TIMERS; i++) {
        if (i < TIMERS / 2) assert_true(reaches(&runs[i], 1));
    }
    for (int i = 0; i < TIMERS; i++) {
        mly_loop_item_destroy(timers[i], false);
        assert_int_equal(atomic_load(&runs[i]), i < TIMERS / 2);
    }
    mly_loop_destroy(loop);
}

struct own_end {
    struct mly_loop_item *item;
    _Atomic int runs;
};

static void end_myself(void *context)
{
    struct own_end *own = context;
    mly_loop_item_destroy(own->item, false);
    atomic_fetch_add(&own->runs, 1);
}

static void an_item_may_end_itself(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_loop *loop = start(&fault.env);
    for (int i = 0; i < 50; i++) {
        struct own_end own = {NULL, 0};
        assert_int_equal(mly_loop_timer_create(loop, end_myself, &own, &own.item, NULL), MLY_OK);
        mly_loop_timer_set(own.item, 0);
        assert_true(reaches(&own.runs, 1));
    }
    mly_loop_destroy(loop);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

struct reading {
    int fd;
    _Atomic int bytes;
};

static void read_some(void *context)
{
    struct reading *reading = context;
    char bytes[64];
    ssize_t done = read(reading->fd, bytes, sizeof(bytes));
    if (done > 0) atomic_fetch_add(&reading->bytes, (int)done);
}

static void a_watch_tells_when_a_descriptor_can_be_read(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_loop *loop = start(&fault.env);
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct reading reading = {ends[0], 0};
    struct mly_loop_item *watch = NULL;
    assert_int_equal(mly_loop_watch_create(loop, ends[0], read_some, &reading, &watch, NULL),
                     MLY_OK);
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(write(ends[1], "x", 1), 1);
        if (i % 10 == 0) assert_true(reaches(&reading.bytes, i));
    }
    mly_loop_item_destroy(watch, false);
    assert_int_equal(write(ends[1], "x", 1), 1);
    mly_clock_sleep_ms(&fault.env, 20);
    assert_int_equal(atomic_load(&reading.bytes), 100);
    /* One whose other end is gone is told of as well. */
    _Atomic int told = 0;
    assert_int_equal(mly_loop_watch_create(loop, ends[0], count, &told, &watch, NULL), MLY_OK);
    close(ends[1]);
    assert_true(reaches(&told, 1));
    mly_loop_item_destroy(watch, false);
    close(ends[0]);
    mly_loop_destroy(loop);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

static void what_cannot_be_watched_is_refused(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_loop *loop = start(&fault.env);
    struct mly_loop_item *watch = NULL;
    struct mly_error err = {0};
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_true(file >= 0);
    assert_int_equal(mly_loop_watch_create(loop, file, count, NULL, &watch, &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "cannot be watched"));
    assert_int_equal(mly_loop_watch_create(loop, -1, count, NULL, &watch, &err), MLY_ERR_INVAL);
    close(file);
    assert_int_equal(mly_loop_watch_create(loop, file, count, NULL, &watch, &err), MLY_ERR_INVAL);
    assert_null(watch);
    mly_loop_destroy(loop);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

/* ---- storms ---- */

enum { THREADS = 4, POSTS = 20000 };

struct storm {
    struct mly_loop *loop;
    struct mly_loop_post *posts;
    _Atomic int *runs;
};

static void *post_all(void *argument)
{
    struct storm *storm = argument;
    for (int i = 0; i < POSTS; i++)
        mly_loop_post(storm->loop, &storm->posts[i]);
    return NULL;
}

static void a_storm_of_posts_loses_none(void **state)
{
    (void)state;
    struct mly_loop *loop = start(mly_env_system());
    static struct mly_loop_post posts[THREADS][POSTS];
    struct storm storms[THREADS];
    pthread_t threads[THREADS];
    _Atomic int runs = 0;
    for (int t = 0; t < THREADS; t++) {
        for (int i = 0; i < POSTS; i++)
            posts[t][i] = (struct mly_loop_post){count, &runs, NULL};
        storms[t] = (struct storm){loop, posts[t], &runs};
        assert_int_equal(pthread_create(&threads[t], NULL, post_all, &storms[t]), 0);
    }
    for (int t = 0; t < THREADS; t++)
        pthread_join(threads[t], NULL);
    assert_true(reaches(&runs, THREADS * POSTS));
    mly_clock_sleep_ms(mly_env_system(), 5);
    assert_int_equal(atomic_load(&runs), THREADS * POSTS);
    mly_loop_destroy(loop);
}

static void *set_and_end(void *argument)
{
    struct storm *storm = argument;
    for (int i = 0; i < 500; i++) {
        struct mly_loop_item *timer = NULL;
        if (mly_loop_timer_create(storm->loop, count, storm->runs, &timer, NULL) != MLY_OK)
            return argument;
        for (int k = 0; k < 20; k++)
            mly_loop_timer_set(timer, (uint64_t)(k % 3));
        if (i % 3 == 0) mly_clock_sleep_ms(mly_env_system(), 1);
        mly_loop_item_destroy(timer, false);
    }
    return NULL;
}

static void timers_of_many_threads_come_and_go(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_loop *loop = start(&fault.env);
    struct storm storm = {loop, NULL, NULL};
    _Atomic int runs = 0;
    storm.runs = &runs;
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, set_and_end, &storm), 0);
    for (int t = 0; t < THREADS; t++) {
        void *result = NULL;
        pthread_join(threads[t], &result);
        assert_null(result);
    }
    assert_true(atomic_load(&runs) > 0);
    int before = atomic_load(&runs);
    mly_clock_sleep_ms(&fault.env, 10);
    assert_int_equal(atomic_load(&runs), before); /* all are gone */
    mly_loop_destroy(loop);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

/* ---- what the thread is, and what is left behind ---- */

static void look_at_signals(void *context)
{
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    bool all = sigismember(&blocked, SIGINT) == 1 && sigismember(&blocked, SIGTERM) == 1 &&
               sigismember(&blocked, SIGCHLD) == 1 && sigismember(&blocked, SIGALRM) == 1;
    atomic_store((_Atomic int *)context, all ? 2 : 1);
}

static void its_thread_blocks_all_signals(void **state)
{
    (void)state;
    struct mly_loop *loop = start(mly_env_system());
    _Atomic int seen = 0;
    struct mly_loop_post post = {look_at_signals, &seen, NULL};
    mly_loop_post(loop, &post);
    assert_true(reaches(&seen, 1));
    assert_int_equal(atomic_load(&seen), 2);
    mly_loop_destroy(loop);
}

static int open_descriptors(void)
{
    int open_count = 0;
    for (int fd = 0; fd < 1024; fd++)
        open_count += fcntl(fd, F_GETFD) != -1;
    return open_count;
}

static void descriptors_are_given_back_and_closed_on_exec(void **state)
{
    (void)state;
    mly_loop_destroy(start(mly_env_system())); /* libuv keeps two of the process's first loop */
    int before = open_descriptors();
    struct mly_loop *loop = start(mly_env_system());
    for (int fd = 3; fd < 1024; fd++) {
        int flags = fcntl(fd, F_GETFD);
        char path[32];
        char target[64] = "";
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (flags == -1 || readlink(path, target, sizeof(target) - 1) < 0) continue;
        if (strncmp(target, "anon_inode", 10) == 0) assert_true((flags & FD_CLOEXEC) != 0);
    }
    mly_loop_destroy(loop);
    assert_int_equal(open_descriptors(), before);
}

/* ---- failures ---- */

static void everything_that_can_fail_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    int before = open_descriptors();
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_loop *loop = NULL;
        struct mly_loop_item *timer = NULL;
        struct mly_loop_item *watch = NULL;
        struct mly_error err = {0};
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        fault_env_reset(&fault);
        atomic_store(&fault.mem.calls, 0);
        atomic_store(&fault.mem.fail_at, fail_at);
        enum mly_err rc = mly_loop_create(&fault.env, &loop, &err);
        if (rc == MLY_OK) rc = mly_loop_timer_create(loop, count, NULL, &timer, &err);
        if (rc == MLY_OK) rc = mly_loop_watch_create(loop, ends[0], count, NULL, &watch, &err);
        mly_loop_item_destroy(watch, false);
        mly_loop_item_destroy(timer, false);
        mly_loop_destroy(loop);
        close(ends[0]);
        close(ends[1]);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        assert_int_equal(open_descriptors(), before);
        if (rc == MLY_OK) {
            assert_true(fail_at > 4);
            break;
        }
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_true(err.message[0] != '\0');
    }
}

static void a_thread_that_cannot_be_started_is_an_error(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_loop *loop = NULL;
    struct mly_error err = {0};
    int before = open_descriptors();
    fault.fail_errno = EAGAIN;
    atomic_store(&fault.fail_at, 1);
    assert_int_equal(mly_loop_create(&fault.env, &loop, &err), MLY_ERR_IO);
    assert_string_equal(fault.failed_call, "thread_start");
    assert_non_null(strstr(err.message, "thread"));
    assert_null(loop);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
    assert_int_equal(open_descriptors(), before);
}

/* libuv takes no allocator per loop. Here, and nowhere else, it gets one for the process. */
static _Atomic int64_t uv_calls;
static _Atomic int64_t uv_fail_at;

static bool uv_may(void)
{
    return atomic_fetch_add(&uv_calls, 1) + 1 != atomic_load(&uv_fail_at);
}

static void *uv_malloc(size_t bytes)
{
    return uv_may() ? malloc(bytes) : NULL;
}

static void *uv_calloc(size_t count_of, size_t bytes)
{
    return uv_may() ? calloc(count_of, bytes) : NULL;
}

/* Never fails: libuv ends the process where its list of descriptors cannot grow (loop.c). */
static void *uv_realloc(void *block, size_t bytes)
{
    return realloc(block, bytes);
}

static void memory_that_libuv_does_not_get_is_an_error(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    int failures = 0;
    int before = open_descriptors();
    for (int64_t fail_at = 1;; fail_at++) {
        struct mly_loop *loop = NULL;
        struct mly_error err = {0};
        atomic_store(&uv_calls, 0);
        atomic_store(&uv_fail_at, fail_at);
        enum mly_err rc = mly_loop_create(&fault.env, &loop, &err);
        atomic_store(&uv_fail_at, 0);
        mly_loop_destroy(loop);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        assert_int_equal(open_descriptors(), before);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_NOMEM);
        failures++;
    }
    assert_true(failures > 0);
}

static void descriptors_that_run_out_are_an_error(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit few = {256 < before.rlim_max ? 256 : before.rlim_max, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    static int taken[256];
    int count_taken = 0;
    for (int fd = dup(2); fd >= 0; fd = dup(2))
        taken[count_taken++] = fd;
    int failures = 0;
    for (;;) {
        struct mly_loop *loop = NULL;
        struct mly_error err = {0};
        enum mly_err rc = mly_loop_create(&fault.env, &loop, &err);
        mly_loop_destroy(loop);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_IO);
        failures++;
        if (count_taken == 0) fail_msg("%s", err.message);
        close(taken[--count_taken]);
    }
    for (int i = 0; i < count_taken; i++)
        close(taken[i]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(failures > 0);
}

int main(void)
{
    (void)uv_replace_allocator(uv_malloc, uv_realloc, uv_calloc, free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timer_runs_when_its_time_is_up_and_no_sooner),
        cmocka_unit_test(timers_run_in_the_order_of_their_moments),
        cmocka_unit_test(an_item_may_end_itself),
        cmocka_unit_test(a_watch_tells_when_a_descriptor_can_be_read),
        cmocka_unit_test(what_cannot_be_watched_is_refused),
        cmocka_unit_test(a_storm_of_posts_loses_none),
        cmocka_unit_test(timers_of_many_threads_come_and_go),
        cmocka_unit_test(its_thread_blocks_all_signals),
        cmocka_unit_test(descriptors_are_given_back_and_closed_on_exec),
        cmocka_unit_test(everything_that_can_fail_is_an_error_and_leaves_nothing),
        cmocka_unit_test(a_thread_that_cannot_be_started_is_an_error),
        cmocka_unit_test(memory_that_libuv_does_not_get_is_an_error),
        cmocka_unit_test(descriptors_that_run_out_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
