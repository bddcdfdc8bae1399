/* The runtime: shared, counted, made when needed, gone after the last drop, and left alone by
 * children of fork(). */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "fault_env.h"
#include "os/clock.h"
#include "os/lock.h"
#include "os/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

static int count_threads(void)
{
    int found = 0;
    DIR *folder = opendir("/proc/self/task");
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
        found += entry->d_name[0] != '.';
    closedir(folder);
    return found;
}

static bool is_emulated(void)
{
    return getenv("MLY_TEST_EMULATED") != NULL;
}

/* One that was joined may be listed for a moment. At most a second. An emulator has threads of its
 * own when it likes. */
static bool are_threads(int wanted)
{
    int more = is_emulated() ? 3 : 0, found = 0;
    for (int i = 0; i < 1000; i++) {
        found = count_threads();
        if (found == wanted) return true;
        mly_clock_sleep_ms(mly_env_system(), 1);
    }
    return found >= wanted - more && found <= wanted + more;
}

static void one_runtime_is_shared_and_has_no_thread_until_it_needs_one(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_env copy = fault.env;
    copy.origin = &fault.env;
    struct mly_runtime *first = NULL, *second = NULL, *other = NULL;
    int before = count_threads();
    assert_int_equal(mly_runtime_hold(&fault.env, &first, NULL), MLY_OK);
    assert_int_equal(mly_runtime_hold(&copy, &second, NULL), MLY_OK);
    assert_int_equal(mly_runtime_hold(mly_env_system(), &other, NULL), MLY_OK);
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, other);
    assert_true(are_threads(before));
    struct mly_timer *timer = NULL;
    _Atomic int runs = 0;
    assert_int_equal(mly_timer_create(first, MLY_LANE_SYNC, count, &runs, &timer, NULL), MLY_OK);
    assert_true(are_threads(before + 2)); /* the loop's, the lane's */
    mly_runtime_drop(first);
    mly_timer_set(timer, 1);
    assert_true(reaches(&runs, 1)); /* the second holds it */
    mly_timer_destroy(timer);
    mly_runtime_drop(second);
    assert_true(are_threads(before));
    mly_runtime_drop(other);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

/* ---- lanes ---- */

struct meeting {
    _Atomic int here, go;
};

static void meet(void *context)
{
    struct meeting *meeting = context;
    atomic_fetch_add(&meeting->here, 1);
    while (atomic_load(&meeting->go) == 0)
        mly_clock_sleep_ms(mly_env_system(), 1);
}

static void a_lane_gets_threads_as_tasks_come_up_to_its_limit(void **state)
{
    (void)state;
    struct mly_runtime *runtime = NULL;
    assert_int_equal(mly_runtime_hold(mly_env_system(), &runtime, NULL), MLY_OK);
    assert_int_equal(mly_runtime_ready(runtime, MLY_LANE_SYNC, NULL), MLY_OK);
    struct meeting meeting = {0, 0};
    struct mly_task tasks[10];
    for (int i = 0; i < 10; i++) {
        tasks[i] = (struct mly_task){meet, &meeting, NULL};
        mly_runtime_post(runtime, MLY_LANE_SYNC, &tasks[i]);
    }
    assert_true(reaches(&meeting.here, 4));
    mly_clock_sleep_ms(mly_env_system(), 20);
    assert_int_equal(atomic_load(&meeting.here), 4); /* its limit */
    /* Another lane does not wait for it. */
    _Atomic int other = 0;
    struct mly_task task = {count, &other, NULL};
    assert_int_equal(mly_runtime_ready(runtime, MLY_LANE_UPKEEP, NULL), MLY_OK);
    mly_runtime_post(runtime, MLY_LANE_UPKEEP, &task);
    assert_true(reaches(&other, 1));
    assert_true(mly_runtime_withdraw(runtime, MLY_LANE_SYNC, &tasks[9]));
    assert_true(mly_runtime_withdraw(runtime, MLY_LANE_SYNC, &tasks[6]));
    assert_false(mly_runtime_withdraw(runtime, MLY_LANE_SYNC, &tasks[6]));
    assert_false(mly_runtime_withdraw(runtime, MLY_LANE_SYNC, &tasks[0]));
    mly_runtime_post(runtime, MLY_LANE_SYNC, &tasks[9]);
    atomic_store(&meeting.go, 1);
    assert_true(reaches(&meeting.here, 9));
    mly_runtime_drop(runtime);
    assert_int_equal(atomic_load(&meeting.here), 9);
}

enum { THREADS = 4, ROUNDS = 300, TASKS = 64 };

static void *come_and_go(void *argument)
{
    const struct mly_env *env = argument;
    _Atomic int runs = 0, timer_runs = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct mly_runtime *runtime = NULL;
        struct mly_timer *timer = NULL;
        struct mly_task tasks[TASKS];
        if (mly_runtime_hold(env, &runtime, NULL) != MLY_OK) return argument;
        if (mly_timer_create(runtime, MLY_LANE_UPKEEP, count, &timer_runs, &timer, NULL) != MLY_OK)
            return argument;
        mly_timer_set(timer, (uint64_t)(round % 2));
        if (mly_runtime_ready(runtime, MLY_LANE_CALLS, NULL) != MLY_OK) return argument;
        for (int i = 0; i < TASKS; i++) {
            tasks[i] = (struct mly_task){count, &runs, NULL};
            mly_runtime_post(runtime, MLY_LANE_CALLS, &tasks[i]);
        }
        if (!reaches(&runs, (round + 1) * TASKS)) return argument;
        mly_timer_destroy(timer);
        mly_runtime_drop(runtime);
    }
    return NULL;
}

static void it_may_come_and_go_in_many_threads(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    int before = count_threads();
    pthread_t threads[THREADS];
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, come_and_go, &fault.env), 0);
    for (int t = 0; t < THREADS; t++) {
        void *result = NULL;
        pthread_join(threads[t], &result);
        assert_null(result);
    }
    assert_true(are_threads(before));
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

/* ---- timers ---- */

struct slow {
    struct mly_timer *timer;
    _Atomic int runs, inside;
    _Atomic bool clash;
};

static void run_slowly(void *context)
{
    struct slow *slow = context;
    if (atomic_fetch_add(&slow->inside, 1) != 0) atomic_store(&slow->clash, true);
    mly_clock_sleep_ms(mly_env_system(), 5);
    atomic_fetch_sub(&slow->inside, 1);
    if (atomic_fetch_add(&slow->runs, 1) < 10) mly_timer_set(slow->timer, 0); /* by itself */
}

static void a_timer_never_runs_twice_at_once_and_its_end_waits_for_it(void **state)
{
    (void)state;
    struct mly_runtime *runtime = NULL;
    struct slow slow = {.runs = 0};
    assert_int_equal(mly_runtime_hold(mly_env_system(), &runtime, NULL), MLY_OK);
    assert_int_equal(mly_timer_create(runtime, MLY_LANE_SYNC, run_slowly, &slow, &slow.timer, NULL),
                     MLY_OK);
    for (int i = 0; i < 60; i++) {
        mly_timer_set(slow.timer, 0);
        mly_clock_sleep_ms(mly_env_system(), 1);
    }
    assert_true(reaches(&slow.runs, 11));
    mly_timer_set(slow.timer, 0);
    mly_clock_sleep_ms(mly_env_system(), 2);
    mly_timer_destroy(slow.timer);
    int runs = atomic_load(&slow.runs);
    assert_int_equal(atomic_load(&slow.inside), 0);
    mly_clock_sleep_ms(mly_env_system(), 20);
    assert_int_equal(atomic_load(&slow.runs), runs);
    assert_false(atomic_load(&slow.clash));
    mly_runtime_drop(runtime);
}

/* ---- failures ---- */

static enum mly_err use_once(const struct mly_env *env, struct mly_error *err)
{
    struct mly_runtime *runtime = NULL;
    struct mly_timer *timer = NULL;
    _Atomic int runs = 0;
    enum mly_err rc = mly_runtime_hold(env, &runtime, err);
    if (rc == MLY_OK) rc = mly_timer_create(runtime, MLY_LANE_SYNC, count, &runs, &timer, err);
    if (rc == MLY_OK) {
        mly_timer_set(timer, 0);
        assert_true(reaches(&runs, 1));
    }
    mly_timer_destroy(timer);
    mly_runtime_drop(runtime);
    return rc;
}

static void every_failure_is_an_error_and_leaves_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    int before = count_threads();
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct mly_error err = {0};
            fault_env_reset(&fault);
            fault.fail_errno = EAGAIN;
            atomic_store(&fault.mem.calls, 0);
            atomic_store(&fault.mem.fail_at, kind == 0 ? fail_at : 0);
            atomic_store(&fault.fail_at, kind == 1 ? fail_at : 0);
            enum mly_err rc = use_once(&fault.env, &err);
            assert_int_equal(atomic_load(&fault.mem.live), 0);
            assert_true(are_threads(before));
            if (rc == MLY_OK) {
                assert_true(fail_at > 2);
                break;
            }
            assert_int_equal(rc, kind == 0 ? MLY_ERR_NOMEM : MLY_ERR_IO);
            assert_true(err.message[0] != '\0');
        }
    }
}

static void a_lane_that_gets_no_more_threads_does_with_what_it_has(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_runtime *runtime = NULL;
    assert_int_equal(mly_runtime_hold(&fault.env, &runtime, NULL), MLY_OK);
    assert_int_equal(mly_runtime_ready(runtime, MLY_LANE_CALLS, NULL), MLY_OK);
    int before = count_threads();
    fault.fail_errno = EAGAIN;
    atomic_store(&fault.fail_at, atomic_load(&fault.calls) + 1);
    atomic_store(&fault.fail_forever, true);
    struct mly_task tasks[100];
    _Atomic int runs = 0;
    for (int i = 0; i < 100; i++) {
        tasks[i] = (struct mly_task){count, &runs, NULL};
        mly_runtime_post(runtime, MLY_LANE_CALLS, &tasks[i]);
    }
    assert_true(reaches(&runs, 100));
    assert_true(are_threads(before));
    mly_runtime_drop(runtime);
    assert_int_equal(atomic_load(&fault.mem.live), 0);
}

/* ---- fork ---- */

/* In a child: what the parent made is only freed, what the child makes works. 0: so it was. In a
 * storm others were at work when it was forked. */
static int look_in_child(struct mly_runtime *parents, struct mly_timer *timer, bool in_storm)
{
    _Atomic int runs = 0;
    mly_timer_set(timer, 0);
    mly_timer_destroy(timer);
    mly_runtime_drop(parents);
#if defined(__SANITIZE_ADDRESS__)
    if (in_storm) return 0; /* its allocator's locks stay with the threads that are not here */
#endif
    (void)in_storm;
    if (is_emulated()) return 0; /* an emulator does not bear threads in a child */
    struct mly_runtime *own = NULL;
    struct mly_timer *own_timer = NULL;
    /* It may lie where the parent's was, as that was freed. */
    if (mly_runtime_hold(mly_env_system(), &own, NULL) != MLY_OK) return 3;
#if defined(__SANITIZE_THREAD__)
    return 0; /* it does not bear threads that a child starts */
#endif
    if (!are_threads(1)) return 2;
    if (mly_timer_create(own, MLY_LANE_SYNC, count, &runs, &own_timer, NULL) != MLY_OK) return 4;
    mly_timer_set(own_timer, 1);
    if (!reaches(&runs, 1)) return 5;
    mly_timer_destroy(own_timer);
    mly_runtime_drop(own);
    return are_threads(1) ? 0 : 6;
}

static int fork_once(struct mly_runtime *runtime, struct mly_timer *timer, bool in_storm)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(10); /* one that hangs is killed */
        _exit(look_in_child(runtime, timer, in_storm));
    }
    int status = -1;
    return child < 0 || waitpid(child, &status, 0) != child ? -1 : status;
}

static _Atomic bool storm_ends;

static void *storm(void *argument)
{
    struct mly_timer *timer = argument;
    struct mly_env copy = *mly_env_system();
    while (!atomic_load(&storm_ends)) {
        struct mly_runtime *runtime = NULL;
        mly_timer_set(timer, 0);
        /* One of its own, that is made and ended all the time. */
        if (mly_runtime_hold(&copy, &runtime, NULL) != MLY_OK) return argument;
        if (mly_runtime_ready(runtime, MLY_LANE_CALLS, NULL) != MLY_OK) return argument;
        mly_runtime_drop(runtime);
    }
    return NULL;
}

static void a_child_leaves_it_alone_and_gets_its_own(void **state)
{
    (void)state;
    struct mly_runtime *runtime = NULL;
    struct mly_timer *timer = NULL;
    _Atomic int runs = 0;
    assert_int_equal(mly_runtime_hold(mly_env_system(), &runtime, NULL), MLY_OK);
    assert_int_equal(mly_timer_create(runtime, MLY_LANE_SYNC, count, &runs, &timer, NULL), MLY_OK);
    mly_timer_set(timer, 0);
    assert_true(reaches(&runs, 1));
    assert_int_equal(fork_once(runtime, timer, false), 0);
    /* While others are at it, in whatever they hold at that moment. */
    pthread_t threads[2];
    atomic_store(&storm_ends, false);
    for (int t = 0; t < 2; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, storm, timer), 0);
    int children =
        is_emulated() ? 0 : 100; /* an emulator of many threads does not survive fork() */
    for (int i = 0; i < children; i++)
        assert_int_equal(fork_once(runtime, timer, true), 0);
    atomic_store(&storm_ends, true);
    for (int t = 0; t < 2; t++) {
        void *result = NULL;
        pthread_join(threads[t], &result);
        assert_null(result);
    }
    /* The parent's is as it was. */
    int before = atomic_load(&runs);
    mly_timer_set(timer, 0);
    assert_true(reaches(&runs, before + 1));
    mly_timer_destroy(timer);
    mly_runtime_drop(runtime);
    print_message("ran: %d children\n", children + 1);
}

static void *do_nothing(void *argument)
{
    return argument;
}

int main(void)
{
    /* A sanitizer has a thread of its own from the first one on. */
    pthread_t thread;
    if (pthread_create(&thread, NULL, do_nothing, NULL) == 0) pthread_join(thread, NULL);

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_runtime_is_shared_and_has_no_thread_until_it_needs_one),
        cmocka_unit_test(a_lane_gets_threads_as_tasks_come_up_to_its_limit),
        cmocka_unit_test(it_may_come_and_go_in_many_threads),
        cmocka_unit_test(a_timer_never_runs_twice_at_once_and_its_end_waits_for_it),
        cmocka_unit_test(every_failure_is_an_error_and_leaves_nothing),
        cmocka_unit_test(a_lane_that_gets_no_more_threads_does_with_what_it_has),
        cmocka_unit_test(a_child_leaves_it_alone_and_gets_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
