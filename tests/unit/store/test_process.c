/* Several threads, handles and processes on one store, some of them killed. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DOCUMENTS 30
#define KILLS 30

static char folder[TEMP_DIR_BYTES];

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static struct mly_store *open_store(uint32_t lock_wait_ms)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.lock_wait_ms = lock_wait_ms;
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    return store;
}

/* In a child there is nothing to assert with: it says what is wrong and leaves with 1. */
static void child_ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc == MLY_OK) return;
    fprintf(stderr, "child: error %d: %s\n", (int)rc, err->message);
    _exit(1);
}

static struct mly_store *child_open(void)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.lock_wait_ms = 60000;
    child_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    return store;
}

static void wait_ok(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- several writers ---- */

static void commits_of_several_processes_are_all_there(void **state)
{
    (void)state;
    enum { CHILDREN = 3 };
    pid_t children[CHILDREN];
    for (uint32_t child = 0; child < CHILDREN; child++) {
        children[child] = fork();
        assert_true(children[child] >= 0);
        if (children[child] != 0) continue;
        struct mly_error err = {0};
        struct mly_store *store = child_open();
        for (uint32_t i = child; i < DOCUMENTS; i += CHILDREN) {
            child_ok(case_put(store, i, 1, &err), &err);
            child_ok(case_put(store, i, 2 + i % 5, &err), &err);
            if (i % 4 == 0) child_ok(case_remove(store, i, &err), &err);
        }
        (void)mly_store_close(store, NULL);
        _exit(0);
    }
    /* A reader in between sees whole snapshots, whatever stands in them. */
    struct mly_store *store = open_store(1000);
    for (int i = 0; i < 20; i++) {
        struct mly_error err = {0};
        struct mly_snapshot *snapshot = NULL;
        struct mly_store_counts counts;
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        mly_snapshot_get_counts(snapshot, &counts);
        assert_true(counts.documents <= DOCUMENTS);
        mly_snapshot_release(snapshot);
        usleep(2000);
    }
    for (int i = 0; i < CHILDREN; i++)
        wait_ok(children[i]);
    struct case_entry entries[DOCUMENTS];
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        entries[i] = case_entry(i % 4 != 0, 2 + i % 5, 0);
    case_check(store, entries, DOCUMENTS);
    (void)mly_store_close(store, NULL);
}

struct thread_work {
    struct mly_store *store;
    uint32_t first;
    struct mly_error err;
    enum mly_err rc;
};

static void *thread_puts(void *argument)
{
    struct thread_work *work = argument;
    for (uint32_t i = work->first; i < DOCUMENTS && work->rc == MLY_OK; i += 3) {
        struct mly_snapshot *snapshot = NULL;
        struct mly_arena arena;
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_chunk_row *rows;
        size_t count = 0;
        char id[32];
        work->rc = case_put(work->store, i, 3, &work->err);
        if (work->rc != MLY_OK) break;
        /* What was acknowledged is in the next snapshot. */
        snprintf(id, sizeof(id), "document-%u", i);
        mly_arena_init(&arena, &mem, (size_t)1 << 24);
        work->rc = mly_store_pin(work->store, &snapshot, &work->err);
        if (work->rc == MLY_OK) {
            work->rc = mly_snapshot_document_chunks(snapshot, mly_str_of(id), &arena, &rows, &count,
                                                    &work->err);
        }
        if (work->rc == MLY_OK && count == 0) {
            work->rc = mly_fail(&work->err, MLY_ERR_INTERNAL, "%s is not there", id);
        }
        mly_snapshot_release(snapshot);
        mly_arena_deinit(&arena);
    }
    return NULL;
}

static void threads_take_turns_on_one_handle(void **state)
{
    (void)state;
    struct thread_work work[3];
    pthread_t threads[3];
    struct mly_store *store = open_store(1000);
    for (uint32_t i = 0; i < 3; i++) {
        work[i] = (struct thread_work){.store = store, .first = i};
        assert_int_equal(pthread_create(&threads[i], NULL, thread_puts, &work[i]), 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        case_ok(work[i].rc, &work[i].err);
    }
    struct case_entry entries[DOCUMENTS];
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        entries[i] = case_entry(true, 3, 0);
    case_check(store, entries, DOCUMENTS);
    (void)mly_store_close(store, NULL);
}

static void a_writer_that_waits_in_vain_is_told_who_writes(void **state)
{
    (void)state;
    int ready[2];
    int leave[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(leave), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct mly_error err = {0};
        struct mly_store *store = child_open();
        child_ok(mly_store_begin(store, &err), &err);
        if (write(ready[1], "x", 1) != 1 || read(leave[0], &byte, 1) != 1) _exit(1);
        (void)mly_store_end(store, NULL);
        (void)mly_store_close(store, NULL);
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    struct mly_error err = {0};
    char pid[32];
    snprintf(pid, sizeof(pid), "process %ld ", (long)child);
    struct mly_store *store = open_store(30);
    assert_int_equal(mly_store_begin(store, &err), MLY_ERR_BUSY);
    assert_non_null(strstr(err.message, folder));
    assert_non_null(strstr(err.message, pid));
    assert_int_equal(write(leave[1], "x", 1), 1);
    wait_ok(child);
    case_ok(mly_store_begin(store, &err), &err);
    (void)mly_store_end(store, NULL);
    (void)mly_store_close(store, NULL);
    close(ready[0]);
    close(ready[1]);
    close(leave[0]);
    close(leave[1]);
}

static double seconds(void)
{
    return mly_clock_seconds(mly_env_system());
}

static void *waits(void *argument)
{
    struct thread_work *work = argument;
    work->rc = mly_store_begin(work->store, &work->err);
    if (work->rc == MLY_OK) (void)mly_store_end(work->store, NULL);
    return NULL;
}

static void threads_wait_no_longer_together_than_each(void **state)
{
    (void)state;
    enum { WAITERS = 4 };
    struct mly_error err = {0};
    struct mly_store *other = open_store(1000);
    struct mly_store *store = open_store(300);
    struct thread_work work[WAITERS];
    pthread_t threads[WAITERS];
    case_ok(mly_store_begin(other, &err), &err);
    double start = seconds();
    for (int i = 0; i < WAITERS; i++) {
        work[i] = (struct thread_work){.store = store};
        assert_int_equal(pthread_create(&threads[i], NULL, waits, &work[i]), 0);
    }
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(work[i].rc, MLY_ERR_BUSY);
        assert_non_null(strstr(work[i].err.message, "300 ms"));
    }
    double waited = seconds() - start;
    assert_true(waited >= 0.29 && waited < 0.9); /* one after the other it were 1.2 */
    (void)mly_store_end(other, NULL);
    case_ok(mly_store_begin(store, &err), &err);
    (void)mly_store_end(store, NULL);
    (void)mly_store_close(store, NULL);
    (void)mly_store_close(other, NULL);
}

/* Gives up at the third question. */
static enum mly_err give_up(void *context, struct mly_error *err)
{
    int *asked = context;
    (*asked)++;
    return *asked < 3 ? MLY_OK : mly_fail(err, MLY_ERR_CANCELLED, "the user has had enough");
}

static void waiting_for_the_lock_can_be_given_up(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_store *other = open_store(1000);
    struct mly_store *store = open_store(60000);
    double start = seconds();
    int asked = 0;
    case_ok(mly_store_begin(other, &err), &err);
    /* another process's, or handle's */
    assert_int_equal(mly_store_begin_pulsed(store, give_up, &asked, &err), MLY_ERR_CANCELLED);
    assert_string_equal(err.message, "the user has had enough");
    (void)mly_store_end(other, NULL);
    /* another thread's */
    case_ok(mly_store_begin(store, &err), &err);
    asked = 0;
    assert_int_equal(mly_store_begin_pulsed(store, give_up, &asked, &err), MLY_ERR_CANCELLED);
    (void)mly_store_end(store, NULL);
    assert_true(seconds() - start < 5);
    asked = 0;
    case_ok(mly_store_begin_pulsed(store, give_up, &asked, &err), &err);
    assert_int_equal(asked, 0);
    (void)mly_store_end(store, NULL);
    (void)mly_store_close(store, NULL);
    (void)mly_store_close(other, NULL);
}

/* ---- fork ---- */

static void a_child_of_a_writer_does_not_keep_its_lock(void **state)
{
    (void)state;
    int ready[2];
    int leave[2];
    char byte;
    pid_t grandchild;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(leave), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct mly_error err = {0};
        struct mly_store *store = child_open();
        child_ok(mly_store_begin(store, &err), &err);
        grandchild = fork();
        if (grandchild == 0) {
            /* Lives on, as a child that was forked for something else does. */
            close(leave[1]);
            _exit(read(leave[0], &byte, 1) == 1 ? 0 : 1);
        }
        if (write(ready[1], &grandchild, sizeof(grandchild)) != sizeof(grandchild)) _exit(1);
        pause();
        _exit(1);
    }
    assert_int_equal(read(ready[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    struct mly_error err = {0};
    struct mly_store *store = open_store(50);
    assert_int_equal(mly_store_begin(store, &err), MLY_ERR_BUSY); /* the fork unlocked nothing */
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(kill(grandchild, 0), 0);
    case_ok(mly_store_begin(store, &err), &err);
    (void)mly_store_end(store, NULL);
    (void)mly_store_close(store, NULL);
    assert_int_equal(write(leave[1], "x", 1), 1);
    close(ready[0]);
    close(ready[1]);
    close(leave[0]);
    close(leave[1]);
}

static void a_store_is_closed_in_a_child_while_threads_waited_for_it(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_store *store = open_store(60000);
    struct thread_work work = {.store = store};
    pthread_t thread;
    case_ok(mly_store_begin(store, &err), &err);
    assert_int_equal(pthread_create(&thread, NULL, waits, &work), 0);
    usleep(50000); /* until it waits; where it does not yet, the test merely says less */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(10); /* rather than hanging for ever */
        (void)mly_store_close(store, NULL);
        _exit(0);
    }
    wait_ok(child);
    (void)mly_store_end(store, NULL);
    pthread_join(thread, NULL);
    case_ok(work.rc, &work.err);
    (void)mly_store_close(store, NULL);
}

/* ---- kill -9 ---- */

/* What a child says through its pipe: before a commit what it wants, after it that it has it. */
struct message {
    uint32_t number, version;
    uint8_t there, acknowledged;
};

static void say(int pipe_fd, struct message message)
{
    if (write(pipe_fd, &message, sizeof(message)) != (ssize_t)sizeof(message)) _exit(1);
}

static void child_works(int pipe_fd, uint64_t random)
{
    struct mly_error err = {0};
    struct mly_store *store = child_open();
    for (;;) {
        struct message message = {.number = case_random(&random) % DOCUMENTS};
        message.there = case_random(&random) % 4 != 0;
        message.version = 1 + case_random(&random) % 200;
        say(pipe_fd, message);
        enum mly_err rc = message.there ? case_put(store, message.number, message.version, &err)
                                        : case_remove(store, message.number, &err);
        child_ok(rc, &err);
        message.acknowledged = 1;
        say(pipe_fd, message);
    }
}

static void no_acknowledged_document_is_lost_to_kill_9(void **state)
{
    (void)state;
    struct case_entry entries[DOCUMENTS];
    struct case_entry wanted[DOCUMENTS];
    memset(entries, 0, sizeof(entries));
    const char *given = getenv("MLY_TEST_SEED");
    const char *kills_given = getenv("MLY_TEST_KILLS");
    long kills = kills_given != NULL ? strtol(kills_given, NULL, 10) : KILLS;
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    uint64_t random = seed * 2 + 1;
    uint64_t acknowledged = 0;
    uint64_t mended = 0;
    for (long kill_i = 0; kill_i < kills; kill_i++) {
        int pipe_fds[2];
        assert_int_equal(pipe(pipe_fds), 0);
        uint64_t child_random = (uint64_t)case_random(&random) * 2 + 1;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            close(pipe_fds[0]);
            child_works(pipe_fds[1], child_random);
        }
        close(pipe_fds[1]);
        usleep(5000 + case_random(&random) % 60000);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        struct message message;
        memcpy(wanted, entries, sizeof(wanted));
        while (read(pipe_fds[0], &message, sizeof(message)) == (ssize_t)sizeof(message)) {
            wanted[message.number] = case_entry(message.there, message.version, 0);
            if (message.acknowledged) entries[message.number] = wanted[message.number];
            acknowledged += message.acknowledged;
        }
        close(pipe_fds[0]);
        struct mly_store *store = open_store(1000);
        case_learn(store, entries, wanted, DOCUMENTS);
        (void)mly_store_close(store, NULL);
        for (size_t i = 0; i < DOCUMENTS; i++)
            mended += entries[i].mended;
    }
    printf("# seed %llu: %ld kills, %llu commits acknowledged, %llu rows mended\n",
           (unsigned long long)seed, kills, (unsigned long long)acknowledged,
           (unsigned long long)mended);
    assert_true(acknowledged > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(commits_of_several_processes_are_all_there, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(threads_take_turns_on_one_handle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_writer_that_waits_in_vain_is_told_who_writes, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(threads_wait_no_longer_together_than_each, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(waiting_for_the_lock_can_be_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_child_of_a_writer_does_not_keep_its_lock, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_store_is_closed_in_a_child_while_threads_waited_for_it,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_acknowledged_document_is_lost_to_kill_9, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
