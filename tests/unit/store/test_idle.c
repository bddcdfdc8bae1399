/* The checkpoint that comes by itself: in time, beside other writers, beside the close, in a child
 * of fork(), and where no thread can be had. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[TEMP_DIR_BYTES];
static char path[TEMP_DIR_BYTES + 8];
static struct mly_error err;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/kb", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static struct mly_store *open_env(const struct mly_env *env, uint32_t after_ms)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.checkpoint_after_ms = after_ms;
    options.durability = MLY_DURABILITY_OFF;
    options.lock_wait_ms = 10000;
    case_ok(mly_store_open(env, path, &options, &store, &err), &err);
    return store;
}

/* Records that the tables have not, as whoever opens the store finds them. */
static uint64_t records_beyond(void)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    struct mly_store_report report;
    options.read_only = true;
    case_ok(mly_store_open(mly_env_system(), path, &options, &store, &err), &err);
    mly_store_get_report(store, &report);
    case_ok(mly_store_close(store, &err), &err);
    return report.records;
}

/* At most 5 s. */
static bool tables_have_all(void)
{
    for (int i = 0; i < 500 && records_beyond() > 0; i++)
        mly_clock_sleep_ms(mly_env_system(), 10);
    return records_beyond() == 0;
}

static void an_idle_store_puts_its_tail_into_the_tables(void **state)
{
    (void)state;
    struct mly_store *store = open_env(mly_env_system(), 300);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 3; i++)
            case_ok(case_put(store, round * 3 + i, 1, &err), &err);
        assert_int_equal(records_beyond(), 3); /* not at once */
        assert_true(tables_have_all());
    }
    struct case_entry entries[9];
    for (size_t i = 0; i < 9; i++)
        entries[i] = case_entry(true, 1, 0);
    case_check(store, entries, 9);
    /* Nothing is left to be done by the close. */
    struct mly_snapshot *snapshot = NULL;
    struct mly_store_counts before, after;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &before);
    mly_snapshot_release(snapshot);
    case_ok(mly_store_close(store, &err), &err);
    store = open_env(mly_env_system(), 0);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &after);
    mly_snapshot_release(snapshot);
    assert_int_equal(before.chunks_version, after.chunks_version);
    case_ok(mly_store_close(store, &err), &err);
}

static void what_comes_later_does_not_put_it_off(void **state)
{
    (void)state;
    struct mly_store *store = open_env(mly_env_system(), 200);
    bool seen = false;
    for (uint32_t i = 0; i < 100 && !seen; i++) {
        case_ok(case_put(store, i, 1, &err), &err);
        mly_clock_sleep_ms(mly_env_system(), 20);
        seen = records_beyond() < i / 2;
    }
    assert_true(seen);
    case_ok(mly_store_close(store, &err), &err);
}

static void it_waits_for_whoever_writes(void **state)
{
    (void)state;
    struct mly_store *store = open_env(mly_env_system(), 50);
    struct mly_store *other = open_env(mly_env_system(), 3600000);
    case_ok(case_put(store, 0, 1, &err), &err);
    case_ok(mly_store_begin(other, &err), &err);
    mly_clock_sleep_ms(mly_env_system(), 300);
    assert_true(records_beyond() > 0); /* the lock is the other's */
    case_ok(mly_store_end(other, &err), &err);
    assert_true(tables_have_all());
    case_ok(mly_store_close(other, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
}

static void a_close_at_any_moment_of_it_is_whole(void **state)
{
    (void)state;
    uint64_t seed = 7;
    struct fault_env fault;
    fault_env_init(&fault);
    for (uint32_t i = 0; i < 60; i++) {
        struct mly_store *store = open_env(&fault.env, 1 + i % 4);
        case_ok(case_put(store, i % 20, 1 + i / 20, &err), &err);
        fault.env.sleep_ns(fault.env.context, case_random(&seed) % 8000000);
        if (i % 3 == 0) case_ok(case_put(store, (i + 7) % 20, 1 + i / 20, &err), &err);
        case_ok(mly_store_close(store, &err), &err);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        assert_int_equal(atomic_load(&fault.open_count), 0);
    }
    assert_int_equal(records_beyond(), 0);
}

static void without_a_thread_the_next_write_and_the_close_do_it(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    /* Every call of the table's in turn, until the one that starts a thread has been among them. */
    bool found = false;
    for (uint64_t fail_at = 1; !found && fail_at < 3000; fail_at++) {
        fault_env_reset(&fault);
        struct mly_store *store = open_env(&fault.env, 10);
        case_ok(case_put(store, 0, (uint32_t)fail_at, &err), &err);
        case_ok(mly_store_close(store, &err), &err);
        store = open_env(&fault.env, 10);
        uint64_t before = atomic_load(&fault.calls);
        fault.fail_errno = EAGAIN;
        atomic_store(&fault.fail_at, before + fail_at);
        fault.failed_call = NULL;
        enum mly_err rc = case_put(store, 1, (uint32_t)fail_at, NULL);
        atomic_store(&fault.fail_at, 0);
        found = fault.failed_call != NULL && strcmp(fault.failed_call, "thread_start") == 0;
        if (found) {
            case_ok(rc, &err);
            mly_clock_sleep_ms(&fault.env, 100);
            assert_int_equal(records_beyond(), 1);
            case_ok(case_put(store, 2, 1, &err), &err); /* 10 ms are over */
            assert_int_equal(records_beyond(), 0);
        }
        (void)!mly_store_close(store, NULL);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
    }
    assert_true(found);
}

static int write_in_child(struct mly_store *parents)
{
    if (mly_store_close(parents, NULL) != MLY_OK) return 2;
    struct mly_store *store = open_env(mly_env_system(), 50);
    if (case_put(store, 1, 1, NULL) != MLY_OK) return 3;
    if (!tables_have_all()) return 4;
    return mly_store_close(store, NULL) == MLY_OK ? 0 : 5;
}

static void a_child_of_fork_has_its_own(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    print_message("skip: the thread sanitizer does not bear threads that a child starts\n");
    skip();
#endif
    for (int i = 0; i < 10; i++) {
        struct mly_store *store = open_env(mly_env_system(), 100);
        case_ok(case_put(store, 0, (uint32_t)i + 1, &err), &err);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(20);
            _exit(write_in_child(store));
        }
        int status = -1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        case_ok(case_put(store, 0, (uint32_t)i + 100, &err), &err);
        assert_true(tables_have_all());
        case_ok(mly_store_close(store, &err), &err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_idle_store_puts_its_tail_into_the_tables, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_comes_later_does_not_put_it_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_waits_for_whoever_writes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_close_at_any_moment_of_it_is_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_thread_the_next_write_and_the_close_do_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_child_of_fork_has_its_own, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
