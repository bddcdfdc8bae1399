/* Eight threads on two handles of one store: four write, one lists, one searches, one opens and
 * closes handles of its own, one asks for status. Under TSan for longer: the point is that it finds
 * nothing. */
#define _GNU_SOURCE
#include "driver.h"

#include "mly_cmocka.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 8
#define WRITERS 4
#define HANDLES 2

#if defined(__SANITIZE_THREAD__)
#define SECONDS 10
#else
#define SECONDS 3
#endif
#define SECONDS_LONG 120

struct stress {
    memalloy_kernel *kernels[HANDLES];
    struct driver_board *board;
    uint64_t seed;
    pthread_mutex_t mutex;
    char why[DRIVER_WHY_BYTES];
};

struct task {
    struct stress *stress;
    uint32_t number;
    uint64_t random, done;
};

static bool goes_on(struct stress *stress)
{
    return !atomic_load(&stress->board->stop);
}

static void complain(struct stress *stress, const char *doing, const char *message)
{
    pthread_mutex_lock(&stress->mutex);
    if (stress->why[0] == '\0') {
        (void)snprintf(stress->why, sizeof(stress->why), "%s: %.700s", doing, message);
    }
    pthread_mutex_unlock(&stress->mutex);
    atomic_store(&stress->board->stop, true);
}

static memalloy_kernel *some_kernel(struct task *task)
{
    return task->stress->kernels[driver_random(&task->random) % HANDLES];
}

static void *writes(void *argument)
{
    struct task *task = argument;
    struct memalloy_error err = {0};
    struct driver_writer writer = {.writer = task->number, .seed = task->stress->seed};
    struct driver_mark *mark = &task->stress->board->marks[task->number];
    for (; goes_on(task->stress); task->done++) {
        if (driver_do(some_kernel(task), &writer, mark, &err) != MEMALLOY_OK) {
            complain(task->stress, "an operation fails", err.message);
        }
    }
    return NULL;
}

/* Lists what is there: each thread's writes in order and whole, nothing acknowledged missing. */
static void look(struct task *task, memalloy_kernel *kernel, struct driver_writer *writers)
{
    char why[DRIVER_WHY_BYTES];
    struct driver_board *board = task->stress->board;
    for (size_t i = 0; i < WRITERS; i++)
        driver_advance_to(&writers[i], atomic_load(&board->marks[i].acked));
    if (!driver_learn(kernel, writers, WRITERS, NULL, board, false, why)) {
        complain(task->stress, "a reader", why);
    }
}

static void start_looking(const struct task *task, struct driver_writer writers[WRITERS])
{
    for (uint32_t i = 0; i < WRITERS; i++)
        writers[i] = (struct driver_writer){.writer = i, .seed = task->stress->seed};
}

static void *lists(void *argument)
{
    struct task *task = argument;
    struct driver_writer writers[WRITERS];
    start_looking(task, writers);
    for (; goes_on(task->stress); task->done++)
        look(task, some_kernel(task), writers);
    return NULL;
}

static void *searches(void *argument)
{
    struct task *task = argument;
    char why[DRIVER_WHY_BYTES];
    for (; goes_on(task->stress); task->done++) {
        if (!driver_search(some_kernel(task), &task->random, why)) {
            complain(task->stress, "a search", why);
        }
    }
    return NULL;
}

static void *opens(void *argument)
{
    struct task *task = argument;
    struct driver_writer writers[WRITERS];
    start_looking(task, writers);
    for (; goes_on(task->stress); task->done++) {
        struct memalloy_error err = {0};
        memalloy_kernel *kernel = NULL;
        if (driver_open(driver_folder, driver_model_path, 0, &kernel, &err) != MEMALLOY_OK) {
            complain(task->stress, "it does not open", err.message);
            return NULL;
        }
        look(task, kernel, writers);
        if (memalloy_close(kernel, &err) != MEMALLOY_OK) {
            complain(task->stress, "it does not close", err.message);
        }
    }
    return NULL;
}

static void *asks(void *argument)
{
    struct task *task = argument;
    for (; goes_on(task->stress); task->done++) {
        struct memalloy_error err = {0};
        struct memalloy_status status = {.struct_bytes = sizeof(status)};
        memalloy_kernel *kernel = some_kernel(task);
        uint64_t count = 0;
        if (memalloy_get_status(kernel, &status, &err) != MEMALLOY_OK ||
            memalloy_count(kernel, &count, &err) != MEMALLOY_OK) {
            complain(task->stress, "status", err.message);
        }
        usleep(500);
    }
    return NULL;
}

static void eight_threads_get_along(void **state)
{
    (void)state;
    static void *(*const tasks_of[THREADS])(void *) = {writes, writes,   writes, writes,
                                                       lists,  searches, opens,  asks};
    struct stress stress = {.board = driver_board_make(), .seed = driver_seed()};
    struct memalloy_error err = {0};
    struct task tasks[THREADS];
    pthread_t threads[THREADS];
    struct driver_writer writers[WRITERS];
    uint64_t began[WRITERS];
    const char *given = getenv("MLY_TEST_SECONDS");
    unsigned seconds = given != NULL ? (unsigned)strtoul(given, NULL, 10)
                                     : (driver_is_long() ? SECONDS_LONG : SECONDS);
    pthread_mutex_init(&stress.mutex, NULL);
    for (size_t i = 0; i < HANDLES; i++) {
        if (driver_open(driver_folder, driver_model_path, 0, &stress.kernels[i], &err) !=
            MEMALLOY_OK) {
            fail_msg("%s", err.message);
        }
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        tasks[i] =
            (struct task){.stress = &stress, .number = i, .random = stress.seed * 2 + i * 2 + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, tasks_of[i], &tasks[i]), 0);
    }
    for (unsigned i = 0; i < seconds * 20 && goes_on(&stress); i++)
        usleep(50000);
    atomic_store(&stress.board->stop, true);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (stress.why[0] != '\0') {
        fail_msg("MLY_TEST_SEED=%llu: %s", (unsigned long long)stress.seed, stress.why);
    }
    start_looking(&tasks[0], writers);
    for (size_t i = 0; i < WRITERS; i++) {
        began[i] = atomic_load(&stress.board->marks[i].acked);
        driver_advance_to(&writers[i], began[i]);
    }
    for (size_t i = 0; i < HANDLES; i++) {
        if (!driver_learn(stress.kernels[i], writers, WRITERS, began, NULL, true, stress.why)) {
            fail_msg("MLY_TEST_SEED=%llu: %s", (unsigned long long)stress.seed, stress.why);
        }
        if (memalloy_close(stress.kernels[i], &err) != MEMALLOY_OK) fail_msg("%s", err.message);
    }
    print_message(
        "ran: %d threads for %u s: %llu operations, %llu lists, %llu searches, %llu opens "
        "(seed %llu)\n",
        THREADS, seconds,
        (unsigned long long)(tasks[0].done + tasks[1].done + tasks[2].done + tasks[3].done),
        (unsigned long long)tasks[4].done, (unsigned long long)tasks[5].done,
        (unsigned long long)tasks[6].done, (unsigned long long)stress.seed);
    pthread_mutex_destroy(&stress.mutex);
    driver_board_free(stress.board);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(eight_threads_get_along, driver_set_up, driver_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
