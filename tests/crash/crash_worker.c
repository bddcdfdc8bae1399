/* What power_cut.py starts: a writer that says through its standard output what it begins and what
 * was acknowledged, and a reader that says what is there.
 *
 *   crash_worker model DIR                         makes the tiny model, prints its path
 *   crash_worker write STORE MODEL SEED LEVEL FROM ...    a thread for each number; until killed
 *   crash_worker check STORE MODEL SEED LOW:HIGH ...      a pair for each writer; prints what is
 *                                                         there
 */
#define _GNU_SOURCE
#include "driver.h"

#include "tiny_model.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const levels[] = {"full", "normal", "off", "memory"};

struct work {
    memalloy_kernel *kernel;
    struct driver_writer writer;
    struct driver_mark *mark;
};

/* One line in one write, so that threads do not mix theirs. */
static void say(char what, uint32_t writer, uint64_t number)
{
    char line[64];
    int bytes = snprintf(line, sizeof(line), "%c %u %llu %lld\n", what, writer,
                         (unsigned long long)number, (long long)driver_now_ns());
    if (write(STDOUT_FILENO, line, (size_t)bytes) != bytes) _exit(3);
}

/* After the cut every call fails; whoever kills us knows when that was. */
static void *write_on(void *argument)
{
    struct work *work = argument;
    struct memalloy_error err = {0};
    for (;;) {
        uint64_t number = work->writer.number + 1;
        say('b', work->writer.writer, number);
        if (driver_do(work->kernel, &work->writer, work->mark, &err) != MEMALLOY_OK) {
            (void)fprintf(stderr, "operation %llu: %s\n", (unsigned long long)number, err.message);
            pause();
        }
        say('a', work->writer.writer, number);
    }
    return NULL;
}

static int level_of(const char *name)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(levels[i], name) == 0) return i + 1;
    (void)fprintf(stderr, "no durability is called %s\n", name);
    exit(2);
}

static int write_store(int argc, char **argv)
{
    static struct work work[DRIVER_WRITERS_MAX];
    struct driver_board *board = driver_board_make();
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    uint64_t seed = strtoull(argv[4], NULL, 10);
    if (driver_open(argv[2], argv[3], level_of(argv[5]), &kernel, &err) != MEMALLOY_OK) {
        (void)fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    for (uint32_t i = 0; i + 6 < (uint32_t)argc && i < DRIVER_WRITERS_MAX; i++) {
        pthread_t id;
        work[i] = (struct work){.kernel = kernel, .mark = &board->marks[i]};
        work[i].writer = (struct driver_writer){.writer = i, .seed = seed};
        driver_advance_to(&work[i].writer, strtoull(argv[i + 6], NULL, 10));
        if (pthread_create(&id, NULL, write_on, &work[i]) != 0) return 1;
    }
    pause();
    return 1;
}

static int check_store(int argc, char **argv)
{
    struct driver_writer writers[DRIVER_WRITERS_MAX];
    uint64_t began[DRIVER_WRITERS_MAX], last[DRIVER_WRITERS_MAX];
    char why[DRIVER_WHY_BYTES] = "";
    struct memalloy_error err = {0};
    size_t count = 0;
    for (int i = 5; i < argc && count < DRIVER_WRITERS_MAX; i++, count++) {
        char *colon;
        writers[count] =
            (struct driver_writer){.writer = (uint32_t)count, .seed = strtoull(argv[4], NULL, 10)};
        driver_advance_to(&writers[count], strtoull(argv[i], &colon, 10));
        if (*colon != ':') return 2;
        last[count] = began[count] = strtoull(colon + 1, NULL, 10);
    }
    for (int time = 0; time < 2; time++) {
        memalloy_kernel *kernel = NULL;
        uint64_t random = 1;
        if (driver_open(argv[2], argv[3], 0, &kernel, &err) != MEMALLOY_OK) {
            printf("it does not open: %s\n", err.message);
            return 1;
        }
        if (!driver_learn(kernel, writers, count, began, NULL, true, why) ||
            !driver_search(kernel, &random, why)) {
            printf("%s\n", why);
            return 1;
        }
        if (memalloy_close(kernel, &err) != MEMALLOY_OK) {
            printf("it does not close: %s\n", err.message);
            return 1;
        }
        for (size_t i = 0; i < count; i++)
            began[i] = writers[i].number;
    }
    printf("found");
    for (size_t i = 0; i < count; i++)
        driver_skip_same(&writers[i], last[i]);
    for (size_t i = 0; i < count; i++)
        printf(" %llu", (unsigned long long)writers[i].number);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "model") == 0) {
        printf("%s\n", tiny_model(argv[2], &tiny_small, 3));
        return 0;
    }
    if (argc > 6 && strcmp(argv[1], "write") == 0) return write_store(argc, argv);
    if (argc > 5 && strcmp(argv[1], "check") == 0) return check_store(argc, argv);
    (void)fprintf(stderr, "see the head of crash_worker.c\n");
    return 2;
}
