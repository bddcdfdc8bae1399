/* Four writing and four reading processes on one store, killed and stopped at random. Each reader
 * sees whole states that never go back; a dead writer's place is taken at once, a stopped one makes
 * others wait. */
#define _GNU_SOURCE
#include "driver.h"

#include "mly_cmocka.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITERS 4
#define READERS 4
#define SECONDS 10
#define SECONDS_LONG 120
#define TAKEOVER_MS_MAX 3000.0 /* of a machine that is busy; the figure is printed */

enum { COUNT_LOOKS, COUNT_OPENS };

static void give_up(struct driver_board *board, const char *doing, const char *message)
{
    char why[DRIVER_WHY_BYTES];
    (void)snprintf(why, sizeof(why), "%s: %.700s", doing, message);
    memcpy(board->why, why, sizeof(why));
    _exit(1);
}

static memalloy_kernel *open_store(struct driver_board *board)
{
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    if (driver_open(driver_folder, driver_model_path, 0, &kernel, &err) != MEMALLOY_OK) {
        give_up(board, "it does not open", err.message);
    }
    atomic_fetch_add(&board->counts[COUNT_OPENS], 1);
    return kernel;
}

static void close_store(struct driver_board *board, memalloy_kernel *kernel)
{
    struct memalloy_error err = {0};
    if (memalloy_close(kernel, &err) != MEMALLOY_OK) {
        give_up(board, "it does not close", err.message);
    }
}

/* Goes on where the one before was killed: what that had in hand is there or not. */
static void child_writes(struct driver_board *board, uint32_t number, uint64_t random)
{
    struct driver_mark *mark = &board->marks[number];
    struct driver_writer writer = {.writer = number};
    struct memalloy_error err = {0};
    char why[DRIVER_WHY_BYTES];
    memalloy_kernel *kernel = open_store(board);
    driver_advance_to(&writer, atomic_load(&mark->acked));
    if (!driver_learn(kernel, &writer, 1, NULL, board, false, why)) {
        give_up(board, "a writer that starts", why);
    }
    atomic_store(&mark->acked, writer.number);
    for (;;) {
        if (driver_do(kernel, &writer, mark, &err) != MEMALLOY_OK) {
            give_up(board, "an operation fails", err.message);
        }
        if (driver_random(&random) % 50 == 0) {
            close_store(board, kernel);
            kernel = open_store(board);
        }
    }
}

/* Is it the store, or what this handle knows of it? */
static void look_again(struct driver_board *board, memalloy_kernel *kernel,
                       struct driver_writer *writers, const char *why)
{
    char again[DRIVER_WHY_BYTES] = "all is well", fresh[DRIVER_WHY_BYTES] = "all is well";
    char all[3 * DRIVER_WHY_BYTES];
    usleep(20000);
    (void)driver_learn(kernel, writers, WRITERS, NULL, board, false, again);
    (void)driver_learn(open_store(board), writers, WRITERS, NULL, board, false, fresh);
    (void)snprintf(all, sizeof(all), "%.300s; 20 ms later: %.150s; to a new handle: %.150s", why,
                   again, fresh);
    give_up(board, "a reader", all);
}

static void child_reads(struct driver_board *board, uint64_t random)
{
    struct driver_writer writers[WRITERS];
    char why[DRIVER_WHY_BYTES];
    memalloy_kernel *kernel = open_store(board);
    for (uint32_t i = 0; i < WRITERS; i++)
        writers[i] = (struct driver_writer){.writer = i};
    for (;;) {
        for (uint32_t i = 0; i < WRITERS; i++)
            driver_advance_to(&writers[i], atomic_load(&board->marks[i].acked));
        if (!driver_learn(kernel, writers, WRITERS, NULL, board, false, why) ||
            !driver_search(kernel, &random, why)) {
            look_again(board, kernel, writers, why);
        }
        atomic_fetch_add(&board->counts[COUNT_LOOKS], 1);
        if (driver_random(&random) % 30 == 0) {
            close_store(board, kernel);
            kernel = open_store(board);
        }
        usleep((useconds_t)(driver_random(&random) % 3000));
    }
}

static pid_t start(struct driver_board *board, uint32_t number, uint64_t random)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (number < WRITERS) child_writes(board, number, random);
        child_reads(board, random);
    }
    return child;
}

static uint64_t acked(const struct driver_board *board)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < WRITERS; i++)
        sum += atomic_load(&board->marks[i].acked);
    return sum;
}

/* Milliseconds until somebody writes again. */
static double until_written(const struct driver_board *board)
{
    uint64_t before = acked(board);
    int64_t begin = driver_now_ns();
    double waited = 0;
    while (acked(board) == before && waited < TAKEOVER_MS_MAX) {
        usleep(200);
        waited = (double)(driver_now_ns() - begin) / 1e6;
    }
    return waited;
}

static void end(pid_t child)
{
    int status = 0;
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
}

/* One child that died by itself fails the test. */
static void look_at(const struct driver_board *board, pid_t child, uint64_t seed)
{
    int status = 0;
    if (waitpid(child, &status, WNOHANG) != child) return;
    fail_msg("MLY_TEST_SEED=%llu: a process ended with status %d: %s", (unsigned long long)seed,
             status, board->why);
}

static void several_processes_get_along_when_some_are_killed_or_stopped(void **state)
{
    (void)state;
    uint64_t seed = driver_seed();
    uint64_t random = seed * 2 + 1;
    uint64_t kills = 0, stops = 0;
    double longest_ms = 0;
    const char *given = getenv("MLY_TEST_SECONDS");
    int64_t seconds =
        given != NULL ? strtoll(given, NULL, 10) : (driver_is_long() ? SECONDS_LONG : SECONDS);
    int64_t until = driver_now_ns() + seconds * 1000000000;
    struct driver_board *board = driver_board_make();
    pid_t children[WRITERS + READERS];
    for (uint32_t i = 0; i < WRITERS + READERS; i++)
        children[i] = start(board, i, driver_random(&random) * 2 + 1);
    while (driver_now_ns() < until) {
        uint32_t i = (uint32_t)(driver_random(&random) % (WRITERS + READERS));
        usleep((useconds_t)(driver_random(&random) % 60000));
        for (size_t k = 0; k < WRITERS + READERS; k++)
            look_at(board, children[k], seed);
        if (driver_random(&random) % 3 == 0) {
            stops++;
            kill(children[i], SIGSTOP);
            usleep((useconds_t)(driver_random(&random) % 200000));
            kill(children[i], SIGCONT);
            continue;
        }
        kills++;
        end(children[i]);
        double waited = i < WRITERS ? until_written(board) : 0;
        if (waited > longest_ms) longest_ms = waited;
        if (waited >= TAKEOVER_MS_MAX) fail_msg("nobody writes for %.0f ms after a kill", waited);
        children[i] = start(board, i, driver_random(&random) * 2 + 1);
    }
    for (size_t i = 0; i < WRITERS + READERS; i++) {
        look_at(board, children[i], seed);
        end(children[i]);
    }
    print_message("ran: %d writers and %d readers for %lld s, %llu kills, %llu stops, "
                  "%llu operations, %llu looks, at most %.1f ms until another wrote (seed %llu)\n",
                  WRITERS, READERS, (long long)seconds, (unsigned long long)kills,
                  (unsigned long long)stops, (unsigned long long)acked(board),
                  (unsigned long long)atomic_load(&board->counts[COUNT_LOOKS]), longest_ms,
                  (unsigned long long)seed);
    assert_true(atomic_load(&board->counts[COUNT_LOOKS]) > 0 && acked(board) > 0);
    driver_board_free(board);
}

static void a_writer_that_is_stopped_makes_others_busy_and_not_hang(void **state)
{
    (void)state;
    struct driver_board *board = driver_board_make();
    struct memalloy_error err = {0};
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = driver_model_path, .threads = 1};
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .threads = 1, .lock_wait_ms = 150, .model = &model};
    struct memalloy_add_options add = {.struct_bytes = sizeof(add)};
    memalloy_kernel *kernel = NULL;
    size_t busy = 0;
    uint64_t random = driver_seed() * 2 + 1;
    pid_t child = start(board, 0, 1);
    while (acked(board) == 0)
        usleep(1000);
    assert_int_equal(memalloy_open(&kernel, driver_folder, &options, &err), MEMALLOY_OK);
    for (int i = 0; i < 40; i++) {
        memalloy_documents *documents = NULL;
        usleep((useconds_t)(driver_random(&random) % 5000));
        kill(child, SIGSTOP);
        int64_t begin = driver_now_ns();
        int rc = memalloy_add_text(kernel, "a text", 6, &add, NULL, &err);
        double waited_ms = (double)(driver_now_ns() - begin) / 1e6;
        if (rc == MEMALLOY_ERR_BUSY) {
            char pid[32];
            (void)snprintf(pid, sizeof(pid), "process %ld ", (long)child);
            assert_non_null(strstr(err.message, pid));
            busy++;
        } else if (rc != MEMALLOY_OK) {
            fail_msg("%s", err.message);
        }
        assert_true(waited_ms < 2000);
        /* Whoever reads does not wait. */
        assert_int_equal(
            memalloy_list_documents(kernel, 1, (struct memalloy_str){NULL, 0}, &documents, &err),
            MEMALLOY_OK);
        memalloy_documents_destroy(documents);
        kill(child, SIGCONT);
    }
    end(child);
    assert_int_equal(memalloy_add_text(kernel, "a text", 6, &add, NULL, &err), MEMALLOY_OK);
    assert_int_equal(memalloy_close(kernel, &err), MEMALLOY_OK);
    print_message("ran: 40 stops of a writer, %zu of them in the middle of a commit\n", busy);
    driver_board_free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(several_processes_get_along_when_some_are_killed_or_stopped,
                                        driver_set_up, driver_tear_down),
        cmocka_unit_test_setup_teardown(a_writer_that_is_stopped_makes_others_busy_and_not_hang,
                                        driver_set_up, driver_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
