/* Calls on the library's threads: how they end, how they are cancelled, counted, told of, and left
 * alone by a child of fork(). */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "engine/calls.h"
#include "fault_env.h"
#include "os/clock.h"

#include <memalloy.h>

#include <poll.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 2000 };

static memalloy_calls *open_calls(uint32_t limit)
{
    memalloy_calls *calls = NULL;
    struct memalloy_error err = {0};
    const struct memalloy_calls_options options = {.struct_bytes = sizeof(options), .limit = limit};
    if (memalloy_calls_open(&options, &calls, &err) != MEMALLOY_OK) fail_msg("%s", err.message);
    return calls;
}

static memalloy_call *start(memalloy_calls *calls, memalloy_work_fn work, void *context,
                            int is_long, void (*done)(void *context))
{
    memalloy_call *call = NULL;
    struct memalloy_error err = {0};
    const struct memalloy_call_options options = {sizeof(options), is_long, done};
    if (memalloy_call_start(calls, work, context, &options, &call, &err) != MEMALLOY_OK) {
        fail_msg("%s", err.message);
    }
    return call;
}

static int add_one(void *context, memalloy_call *self, struct memalloy_error *err)
{
    (void)self;
    (void)err;
    atomic_fetch_add((_Atomic int *)context, 1);
    return MEMALLOY_OK;
}

static int fail_with_words(void *context, memalloy_call *self, struct memalloy_error *err)
{
    (void)context;
    (void)self;
    err->code = MEMALLOY_ERR_CORRUPT;
    memcpy(err->message, "words", sizeof("words"));
    return MEMALLOY_ERR_CORRUPT;
}

/* Tells its progress until it is cancelled. */
static int work_on(void *context, memalloy_call *self, struct memalloy_error *err)
{
    struct memalloy_progress progress = {.struct_bytes = sizeof(progress), .path = "a/file"};
    (void)err;
    if (context != NULL) atomic_fetch_add((_Atomic int *)context, 1);
    for (uint64_t i = 1;; i++) {
        progress.items_done = i;
        if (memalloy_call_progress(self, &progress) != 0) return MEMALLOY_ERR_CANCELLED;
        mly_clock_sleep_ms(mly_env_system(), 1);
    }
}

static bool reaches(_Atomic int *value, int wanted)
{
    for (int i = 0; i < 5000 && atomic_load(value) < wanted; i++)
        mly_clock_sleep_ms(mly_env_system(), 1);
    return atomic_load(value) >= wanted;
}

static void whoever_waits_gets_the_result(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(0);
    struct memalloy_error err = {0};
    _Atomic int runs = 0;
    memalloy_call *good = start(calls, add_one, &runs, 0, NULL);
    memalloy_call *bad = start(calls, fail_with_words, NULL, 1, NULL);
    assert_int_equal(memalloy_call_wait(good, 5000), 1);
    assert_int_equal(memalloy_call_wait(bad, 5000), 1);
    assert_int_equal(memalloy_call_result(good, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_call_result(bad, &err), MEMALLOY_ERR_CORRUPT);
    assert_string_equal(err.message, "words");
    assert_int_equal(atomic_load(&runs), 1);
    memalloy_call_destroy(good);
    memalloy_calls_close(calls);
    assert_int_equal(memalloy_call_result(bad, NULL),
                     MEMALLOY_ERR_CORRUPT); /* its handle is good */
    memalloy_call_destroy(bad);
    assert_int_equal(memalloy_call_start(NULL, add_one, NULL, NULL, &good, &err),
                     MEMALLOY_ERR_INVAL);
}

static void what_runs_and_what_waits_is_cancelled(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(0);
    struct memalloy_error err = {0};
    _Atomic int begun = 0;
    memalloy_call *running[20];
    for (int i = 0; i < 20; i++)
        running[i] = start(calls, work_on, &begun, 1, NULL);
    assert_true(reaches(&begun, 2));
    assert_int_equal(memalloy_call_wait(running[0], 20), 0);
    assert_int_equal(memalloy_call_result(running[0], &err), MEMALLOY_ERR_INVAL);
    /* A short one does not wait for them. */
    _Atomic int runs = 0;
    memalloy_call *quick = start(calls, add_one, &runs, 0, NULL);
    assert_int_equal(memalloy_call_wait(quick, 5000), 1);
    double before = mly_clock_seconds(mly_env_system());
    for (int i = 19; i >= 0; i--)
        memalloy_call_cancel(running[i]);
    int never_begun = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(memalloy_call_wait(running[i], 5000), 1);
        assert_true(memalloy_call_is_cancelled(running[i]));
        assert_int_equal(memalloy_call_result(running[i], &err), MEMALLOY_ERR_CANCELLED);
        never_begun += strstr(err.message, "before it began") != NULL;
    }
    assert_true(mly_clock_seconds(mly_env_system()) - before < 2);
    assert_true(never_begun > 0);
    for (int i = 0; i < 20; i++)
        memalloy_call_destroy(running[i]);
    memalloy_call_destroy(quick);
    memalloy_calls_close(calls);
}

static void no_more_are_taken_than_the_limit(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(3);
    struct memalloy_error err = {0};
    memalloy_call *call[4] = {NULL};
    for (int i = 0; i < 3; i++)
        call[i] = start(calls, work_on, NULL, 1, NULL);
    assert_int_equal(memalloy_call_start(calls, work_on, NULL, NULL, &call[3], &err),
                     MEMALLOY_ERR_LIMIT);
    assert_non_null(strstr(err.message, "limit is 3"));
    memalloy_call_destroy(call[0]); /* cancels it, and waits */
    _Atomic int runs = 0;
    int rc = MEMALLOY_ERR_LIMIT;
    for (int i = 0; i < 1000 && rc == MEMALLOY_ERR_LIMIT; i++) { /* its thread is on its way out */
        rc = memalloy_call_start(calls, add_one, &runs, NULL, &call[0], &err);
        if (rc != MEMALLOY_OK) mly_clock_sleep_ms(mly_env_system(), 1);
    }
    assert_int_equal(rc, MEMALLOY_OK);
    memalloy_calls_close(calls); /* cancels the others */
    for (int i = 0; i < 3; i++)
        memalloy_call_destroy(call[i]);
}

static void each_stands_in_line_once(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(MANY);
    static memalloy_call *call[MANY];
    static _Atomic int both;
    atomic_store(&both, 0);
    for (int i = 0; i < MANY; i++)
        call[i] = start(calls, add_one, &both, i % 2, NULL);
    assert_true(reaches(&both, MANY));
    void *given = NULL;
    int taken = 0;
    for (int i = 0; i < 5000 && taken < MANY; i++) {
        while (memalloy_calls_next(calls, &given)) {
            assert_ptr_equal(given, &both);
            taken++;
        }
        mly_clock_sleep_ms(mly_env_system(), 1);
    }
    assert_int_equal(taken, MANY);
    for (int i = 0; i < MANY; i++)
        memalloy_call_destroy(call[i]);
    memalloy_calls_close(calls);
}

static _Atomic int told;

static void tell(void *context)
{
    (void)context;
    atomic_fetch_add(&told, 1);
}

static void a_function_is_told_instead_of_the_line(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(0);
    _Atomic int runs = 0;
    void *given = NULL;
    atomic_store(&told, 0);
    memalloy_call *call = start(calls, add_one, &runs, 0, tell);
    assert_true(reaches(&told, 1));
    assert_int_equal(memalloy_calls_next(calls, &given), 0);
    memalloy_call_destroy(call);
    memalloy_calls_close(calls);
    assert_int_equal(atomic_load(&told), 1);
}

static bool is_readable(int fd, int ms)
{
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return poll(&wanted, 1, ms) == 1;
}

static void an_event_loop_is_woken_by_ends_and_by_progress(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(0);
    const int fd = memalloy_calls_descriptor(calls);
    void *given = NULL;
    _Atomic int runs = 0;
    assert_false(is_readable(fd, 20));
    memalloy_call *quick = start(calls, add_one, &runs, 0, NULL);
    assert_true(is_readable(fd, 5000));
    assert_int_equal(memalloy_calls_next(calls, &given), 1);
    assert_ptr_equal(given, &runs);
    assert_int_equal(memalloy_calls_next(calls, &given), 0);
    assert_false(is_readable(fd, 20));
    _Atomic int begun = 0;
    memalloy_call *slow = start(calls, work_on, &begun, 1, NULL);
    struct memalloy_progress progress = {.struct_bytes = sizeof(progress)};
    uint64_t last = 0;
    for (int round = 0; round < 5; round++) {
        assert_true(is_readable(fd, 5000));
        assert_int_equal(memalloy_calls_next(calls, &given), 0); /* quiet again */
        if (memalloy_call_get_progress(slow, &progress)) {
            assert_true(progress.items_done > last);
            assert_string_equal(progress.path, "a/file");
            last = progress.items_done;
        }
    }
    assert_true(last > 0);
    memalloy_call_destroy(slow);
    memalloy_call_destroy(quick);
    memalloy_calls_close(calls);
}

static void a_token_ends_what_asks_it(void **state)
{
    (void)state;
    memalloy_cancel *cancel = NULL;
    assert_int_equal(memalloy_cancel_create(&cancel, NULL), MEMALLOY_OK);
    assert_int_equal(memalloy_cancel_is_asked(cancel), 0);
    assert_int_equal(memalloy_cancel_progress(cancel, NULL), 0);
    memalloy_cancel_ask(cancel);
    assert_int_equal(memalloy_cancel_is_asked(cancel), 1);
    assert_int_equal(memalloy_cancel_progress(cancel, NULL), 1);
    memalloy_cancel_destroy(cancel);
    memalloy_cancel_ask(NULL);
    memalloy_cancel_destroy(NULL);
}

static void every_failure_leaves_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            memalloy_calls *calls = NULL;
            memalloy_call *call = NULL;
            memalloy_cancel *cancel = NULL;
            struct mly_error err = {0};
            struct memalloy_error outer = {0};
            _Atomic int runs = 0;
            fault_env_reset(&fault);
            atomic_store(&fault.mem.calls, 0);
            atomic_store(kind == 0 ? &fault.mem.fail_at : &fault.fail_at, fail_at);
            int rc = (int)mly_engine_calls_open(&fault.env, NULL, &calls, &err);
            if (rc == MEMALLOY_OK) rc = (int)mly_engine_cancel_create(&fault.env, &cancel, &err);
            if (rc == MEMALLOY_OK)
                rc = memalloy_call_start(calls, add_one, &runs, NULL, &call, &outer);
            memalloy_call_destroy(call);
            memalloy_cancel_destroy(cancel);
            memalloy_calls_close(calls);
            assert_int_equal(atomic_load(&fault.mem.live), 0);
            assert_int_equal(atomic_load(&fault.open_count), 0);
            if (rc == MEMALLOY_OK) break;
            assert_int_equal(rc, kind == 0 ? MEMALLOY_ERR_NOMEM : MEMALLOY_ERR_IO);
            assert_true(err.message[0] != '\0' || outer.message[0] != '\0');
        }
    }
}

static int look_in_child(memalloy_calls *calls, memalloy_call *call)
{
    memalloy_call *own = NULL;
    if (memalloy_call_start(calls, work_on, NULL, NULL, &own, NULL) != MEMALLOY_ERR_FORKED)
        return 2;
    if (memalloy_calls_descriptor(calls) != -1 || memalloy_call_wait(call, 10) != 0) return 3;
    memalloy_call_destroy(call);
    memalloy_calls_close(calls);
    return 0;
}

static void a_child_of_fork_leaves_them_alone(void **state)
{
    (void)state;
    memalloy_calls *calls = open_calls(0);
    _Atomic int begun = 0;
    memalloy_call *call = start(calls, work_on, &begun, 1, NULL);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(10);
            _exit(look_in_child(calls, call));
        }
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
    assert_int_equal(memalloy_call_wait(call, 0), 0); /* it goes on */
    memalloy_call_destroy(call);
    memalloy_calls_close(calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_waits_gets_the_result),
        cmocka_unit_test(what_runs_and_what_waits_is_cancelled),
        cmocka_unit_test(no_more_are_taken_than_the_limit),
        cmocka_unit_test(each_stands_in_line_once),
        cmocka_unit_test(a_function_is_told_instead_of_the_line),
        cmocka_unit_test(an_event_loop_is_woken_by_ends_and_by_progress),
        cmocka_unit_test(a_token_ends_what_asks_it),
        cmocka_unit_test(every_failure_leaves_nothing),
        cmocka_unit_test(a_child_of_fork_leaves_them_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
