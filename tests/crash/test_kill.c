/* kill -9 at random moments, while a store is opened, written by one to three threads, closed or
 * mended: nothing acknowledged is lost, nothing is there in part, every store opens, twice. */
#define _GNU_SOURCE
#include "driver.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 3
#define CYCLES 500
#define CYCLES_LONG 10000
#define STRETCH_MAX 16
#define CYCLES_PER_STORE 250

/* ---- in a child, which leaves by _exit ---- */

struct work {
    memalloy_kernel *kernel;
    struct driver_board *board;
    struct driver_writer *writer;
    uint64_t operations;
};

static void give_up(struct driver_board *board, const char *doing, const struct memalloy_error *err)
{
    (void)snprintf(board->why, sizeof(board->why), "%s: %s", doing, err->message);
    _exit(1);
}

static void *do_work(void *argument)
{
    struct work *work = argument;
    struct memalloy_error err = {0};
    for (uint64_t i = 0; i < work->operations; i++) {
        struct driver_mark *mark = &work->board->marks[work->writer->writer];
        if (driver_do(work->kernel, work->writer, mark, &err) != MEMALLOY_OK) {
            give_up(work->board, "an operation fails", &err);
        }
    }
    return NULL;
}

/* Opens, writes, closes, over and over. */
static void child_writes(struct driver_board *board, struct driver_writer *writers, size_t threads,
                         uint64_t random)
{
    for (;;) {
        struct memalloy_error err = {0};
        memalloy_kernel *kernel = NULL;
        pthread_t ids[THREADS_MAX];
        struct work work[THREADS_MAX];
        if (driver_open(driver_folder, driver_model_path, 0, &kernel, &err) != MEMALLOY_OK) {
            give_up(board, "it does not open for writing", &err);
        }
        atomic_fetch_add(&board->counts[1], 1);
        uint64_t operations = 1 + driver_random(&random) % 40;
        for (size_t i = 0; i < threads; i++) {
            work[i] = (struct work){kernel, board, &writers[i], operations};
            if (pthread_create(&ids[i], NULL, do_work, &work[i]) != 0) _exit(2);
        }
        for (size_t i = 0; i < threads; i++)
            pthread_join(ids[i], NULL);
        if (memalloy_close(kernel, &err) != MEMALLOY_OK) {
            give_up(board, "it does not close", &err);
        }
        atomic_fetch_add(&board->counts[0], 1);
    }
}

static void child_checks(struct driver_board *board, struct driver_writer *writers)
{
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    uint64_t began[THREADS_MAX];
    for (size_t i = 0; i < THREADS_MAX; i++)
        began[i] = atomic_load(&board->marks[i].began);
    for (int time = 0; time < 2; time++) {
        if (driver_open(driver_folder, driver_model_path, 0, &kernel, &err) != MEMALLOY_OK) {
            give_up(board, "it does not open", &err);
        }
        uint64_t random = 1;
        if (!driver_learn(kernel, writers, THREADS_MAX, began, board, true, board->why) ||
            !driver_search(kernel, &random, board->why)) {
            _exit(1);
        }
        if (memalloy_close(kernel, &err) != MEMALLOY_OK) give_up(board, "closing after it", &err);
        for (size_t i = 0; i < THREADS_MAX; i++)
            began[i] = writers[i].number; /* the second time it must be the same state */
    }
    for (size_t i = 0; i < THREADS_MAX; i++)
        board->found[i] = writers[i].number;
    _exit(0);
}

/* ---- in the parent, which never opens a store ---- */

static void fail_cycle(const struct driver_board *board, uint64_t cycle, uint64_t seed,
                       const char *what)
{
    char text[1200];
    (void)snprintf(text, sizeof(text), "kill %llu, MLY_TEST_SEED=%llu: %s: %s",
                   (unsigned long long)cycle, (unsigned long long)seed, what, board->why);
    fail_msg("%s", text);
}

/* Kills it after so many microseconds; true where it had not ended by itself. */
static bool kill_after(pid_t child, uint64_t microseconds, int *status)
{
    usleep((useconds_t)microseconds);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, status, 0), child);
    return WIFSIGNALED(*status) && WTERMSIG(*status) == SIGKILL;
}

/* Most are killed when they write, not when they start. */
static void wait_for_open(const struct driver_board *board, uint64_t opens)
{
    for (int i = 0; i < 50000 && atomic_load(&board->counts[1]) == opens; i++)
        usleep(100);
}

static void check_after(struct driver_board *board, struct driver_writer *writers, uint64_t cycle,
                        uint64_t seed, uint64_t *random)
{
    int status = 0;
    for (size_t i = 0; i < THREADS_MAX; i++)
        driver_advance_to(&writers[i], atomic_load(&board->marks[i].acked));
    /* Now and then what mends is killed as well. */
    for (bool again = true; again;) {
        again = driver_random(random) % 4 == 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) child_checks(board, writers);
        if (again) {
            if (kill_after(child, driver_random(random) % 6000, &status)) continue;
        } else {
            assert_int_equal(waitpid(child, &status, 0), child);
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            fail_cycle(board, cycle, seed, WIFSIGNALED(status) ? "the check died" : "afterwards");
        }
    }
    for (size_t i = 0; i < THREADS_MAX; i++) {
        driver_advance_to(&writers[i], board->found[i]);
        atomic_store(&board->marks[i].began, board->found[i]);
        atomic_store(&board->marks[i].acked, board->found[i]);
    }
}

static void no_acknowledged_operation_is_lost_to_kill_9(void **state)
{
    (void)state;
    uint64_t seed = driver_seed();
    uint64_t random = seed * 2 + 1;
    const char *given = getenv("MLY_TEST_KILLS");
    uint64_t cycles =
        given != NULL ? strtoull(given, NULL, 10) : (driver_is_long() ? CYCLES_LONG : CYCLES);
    uint64_t acked = 0, in_flight_seen = 0, stretch = 1;
    struct driver_board *board = driver_board_make();
    struct driver_writer writers[THREADS_MAX];
    for (uint64_t cycle = 1; cycle <= cycles; cycle++) {
        if (cycle % CYCLES_PER_STORE == 1) {
            temp_dir_remove(driver_folder);
            memset(board->marks, 0, sizeof(board->marks));
            for (uint32_t i = 0; i < THREADS_MAX; i++)
                writers[i] = (struct driver_writer){.writer = i, .seed = seed + cycle};
        }
        size_t threads = driver_random(&random) % 3 == 0 ? THREADS_MAX : 1;
        uint64_t child_random = driver_random(&random) * 2 + 1;
        uint64_t after = 0;
        int status = 0;
        uint64_t opens = atomic_load(&board->counts[1]);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) child_writes(board, writers, threads, child_random);
        /* On a machine that is busy with other things writers get more time, too. */
        if (acked * 2 < cycle && stretch < STRETCH_MAX) stretch *= 2;
        if (acked > cycle && stretch > 1) stretch /= 2;
        uint64_t most = (driver_random(&random) % 2 == 0 ? 5000 : 40000) * stretch;
        if (driver_random(&random) % 4 != 0) wait_for_open(board, opens);
        if (!kill_after(child, driver_random(&random) % most, &status)) {
            fail_cycle(board, cycle, seed, "the writer ended by itself");
        }
        for (size_t i = 0; i < THREADS_MAX; i++)
            acked += atomic_load(&board->marks[i].acked) - writers[i].number;
        for (size_t i = 0; i < THREADS_MAX; i++)
            after += atomic_load(&board->marks[i].acked);
        check_after(board, writers, cycle, seed, &random);
        for (size_t i = 0; i < THREADS_MAX; i++)
            in_flight_seen += writers[i].number;
        in_flight_seen -= after;
    }
    print_message("ran: %llu kills, %llu operations acknowledged, %llu seen that were in hand, "
                  "%llu closes (seed %llu)\n",
                  (unsigned long long)cycles, (unsigned long long)acked,
                  (unsigned long long)in_flight_seen,
                  (unsigned long long)atomic_load(&board->counts[0]), (unsigned long long)seed);
    assert_true(acked > cycles / 4); /* however slow the machine */
    driver_board_free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_acknowledged_operation_is_lost_to_kill_9, driver_set_up,
                                        driver_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
