/* kill -9 at every call to the system that a writer makes: the process ends before call n, for each
 * n (some n only, where one is not patient) until it comes to its end; whoever opens the store next
 * is now and then killed in the same way. */
#define _GNU_SOURCE
#include "driver.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPERATIONS 10
#define CALLS_MAX 20000
#define MENDING_CALLS 80
#define STRIDE 5 /* where one is not patient: every fifth call, other ones each time */

/* Some operations with a new start in the middle, killed before call kill_at. */
static void child_writes(struct driver_board *board, struct driver_writer *writer, uint64_t kill_at)
{
    static struct fault_env fault;
    struct memalloy_error err = {0};
    fault_env_init(&fault);
    fault.kill = true;
    atomic_store(&fault.fail_at, kill_at);
    for (int half = 0; half < 2; half++) {
        memalloy_kernel *kernel = NULL;
        int rc = driver_open_in(&fault.env, driver_folder, driver_model_path, 0, &kernel, &err);
        for (int i = 0; rc == MEMALLOY_OK && i < OPERATIONS / 2; i++)
            rc = driver_do(kernel, writer, &board->marks[0], &err);
        if (rc == MEMALLOY_OK) rc = memalloy_close(kernel, &err);
        if (rc != MEMALLOY_OK) {
            (void)snprintf(board->why, sizeof(board->why), "it writes no more: %s", err.message);
            _exit(1);
        }
    }
    _exit(0);
}

/* true where it was killed */
static bool run_child(struct driver_board *board, struct driver_writer *writer, uint64_t kill_at)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) child_writes(board, writer, kill_at);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return true;
    if (WIFSIGNALED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("kill before call %llu: status %d: %s", (unsigned long long)kill_at, status,
                 board->why);
    }
    return false;
}

static void check(struct driver_board *board, struct driver_writer *writer, uint64_t calls)
{
    if (driver_check_twice(board, writer, 1)) return;
    fail_msg("MLY_TEST_SEED=%llu, kill before call %llu: %s", (unsigned long long)writer->seed,
             (unsigned long long)calls, board->why);
}

static void every_call_may_be_the_last(void **state)
{
    (void)state;
    uint64_t seed = driver_seed();
    uint64_t random = seed * 2 + 1;
    uint64_t stride = driver_is_long() ? 1 : STRIDE;
    uint64_t calls = 1 + driver_random(&random) % stride;
    uint64_t kills = 0, mendings = 0;
    struct driver_board *board = driver_board_make();
    for (bool is_killed = true; is_killed && calls < CALLS_MAX; calls += stride) {
        struct driver_writer writer = {.seed = seed};
        temp_dir_remove(driver_folder);
        memset(board, 0, sizeof(*board));
        is_killed = run_child(board, &writer, calls);
        kills += is_killed;
        if (driver_random(&random) % 2 == 0) {
            check(board, &writer, calls);
            mendings += run_child(board, &writer, 1 + driver_random(&random) % MENDING_CALLS);
        }
        check(board, &writer, calls);
    }
    print_message("ran: %llu kills, each before another call, %llu of what came after them too "
                  "(seed %llu)\n",
                  (unsigned long long)kills, (unsigned long long)mendings,
                  (unsigned long long)seed);
    assert_true(calls > 100 && calls < CALLS_MAX);
    driver_board_free(board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_call_may_be_the_last, driver_set_up,
                                        driver_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
