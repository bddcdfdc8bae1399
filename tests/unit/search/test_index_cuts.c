/* A store whose index is being built, folded, measured and thrown away while the power is cut, over
 * a disk in memory that leaves whatever a file system may, and while the process is killed, at each
 * of its file calls: answers are right at once, and the index comes back by itself. */
#define _GNU_SOURCE
#include "crash_env.h"
#include "fault_env.h"
#include "index_cases.h"
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "test_pace.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDER "/kb"

#define SLOW TEST_PACE(1, 4, 4)

static bool is_long(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL;
}

/* How many rows a store may have from a moment on. */
struct mark {
    size_t moment;
    uint64_t rows_min, rows_max;
};

#define MARKS 32

struct life {
    struct crash_env *crash; /* NULL: a real one */
    struct mark marks[MARKS];
    size_t count;
    uint64_t rows;
};

static void mark(struct life *life, uint64_t rows_min, uint64_t rows_max)
{
    if (life->crash == NULL) return;
    assert_true(life->count < MARKS);
    life->marks[life->count++] = (struct mark){crash_env_now(life->crash), rows_min, rows_max};
}

/* rows: there are then, all of them in the tables. */
static enum mly_err settle(struct life *life, struct mly_store *store, uint64_t rows,
                           struct mly_error *err)
{
    MLY_TRY(mly_store_checkpoint(store, err));
    MLY_TRY(index_make(store, err));
    life->rows = rows;
    mark(life, rows, rows);
    return MLY_OK;
}

/* Documents that are there or not until they are settled. */
static enum mly_err put(struct life *life, struct mly_store *store, uint32_t first, uint32_t count,
                        uint32_t version, uint64_t more, struct mly_error *err)
{
    mark(life, life->rows, life->rows + more);
    MLY_TRY(index_put(store, first, count, version, err));
    return settle(life, store, life->rows + more, err);
}

/* Built, folded with new files, with files that vanished by merging, with rows that died, built
 * anew at twice the size, and taken away where too few rows are left. */
static enum mly_err live(struct life *life, struct mly_store *store, struct mly_error *err)
{
    MLY_TRY(put(life, store, 0, 8, 1, (uint64_t)8 * INDEX_ROWS_EACH, err));
    MLY_TRY(put(life, store, 8, 2, 1, (uint64_t)2 * INDEX_ROWS_EACH, err));
    MLY_TRY(put(life, store, 3, 4, 2, 0, err));
    MLY_TRY(put(life, store, 10, 1, 1, INDEX_ROWS_EACH, err));
    MLY_TRY(put(life, store, 11, 1, 1, INDEX_ROWS_EACH, err));
    MLY_TRY(put(life, store, 12, 16, 1, (uint64_t)16 * INDEX_ROWS_EACH, err));
    mark(life, life->rows - (uint64_t)24 * INDEX_ROWS_EACH, life->rows);
    MLY_TRY(index_remove(store, 4, 24, err));
    return settle(life, store, 4 * INDEX_ROWS_EACH, err);
}

/* ---- power cuts ---- */

struct trial {
    const struct life *life;
    uint64_t states, indexed, damaged;
};

static bool check_cut(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct trial *trial = context;
    const struct life *life = trial->life;
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct index_seen seen;
    uint64_t rows_min = 0, rows_max = 0;
    for (size_t i = 0; i < life->count && life->marks[i].moment <= choice->moment; i++) {
        rows_min = life->marks[i].rows_min;
        rows_max = life->marks[i].rows_max;
    }
    index_ok(index_open(&after->env, FOLDER, false, &store, &err), &err);
    index_check(&after->env, store, FOLDER, &seen);
    if (seen.rows < rows_min || seen.rows > rows_max) {
        char text[1500];
        crash_env_describe(&after[0], choice, text, sizeof(text));
        fail_msg("%llu rows, there may be %llu to %llu", (unsigned long long)seen.rows,
                 (unsigned long long)rows_min, (unsigned long long)rows_max);
    }
    trial->states++;
    trial->indexed += seen.indexed > 0;
    trial->damaged += seen.was_damaged;
    index_ok(mly_store_close(store, &err), &err);
    assert_int_equal(after->mem.live, 0);
    assert_int_equal(after->open_count, 0);
    return true;
}

static void every_power_cut_leaves_right_answers(void **state)
{
    (void)state;
    struct crash_env *crash = calloc(1, sizeof(*crash));
    struct life life = {.crash = crash};
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    uint64_t states = 0;
    assert_non_null(crash);
    crash_env_init(crash);
    index_ok(index_open(&crash->env, FOLDER, false, &store, &err), &err);
    mark(&life, 0, 0);
    index_ok(live(&life, store, &err), &err);
    index_ok(mly_store_close(store, &err), &err);
    struct trial trial = {&life, 0, 0, 0};
    const struct crash_effort effort = {
        .singles = 1, .randoms = 2, .stride = is_long() ? 2 : 131 * SLOW};
    assert_true(crash_env_each(crash, effort, check_cut, &trial, &states));
    print_message("ran: %llu power cuts, an index was of use after %llu, damaged in %llu\n",
                  (unsigned long long)trial.states, (unsigned long long)trial.indexed,
                  (unsigned long long)trial.damaged);
    assert_true(trial.states > 0 && trial.indexed > 0);
    crash_env_deinit(crash);
    free(crash);
}

/* ---- kills ---- */

static char path[TEMP_DIR_BYTES];

/* A process that is killed before its file call kill_at. True: it was. */
static bool run_and_kill(uint64_t kill_at)
{
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static struct fault_env fault;
        struct life life = {0};
        struct mly_error err = {0};
        struct mly_store *store = NULL;
        fault_env_init(&fault);
        fault.fail_at = kill_at;
        fault.kill = true;
        if (index_open(&fault.env, path, false, &store, &err) != MLY_OK) _exit(1);
        if (live(&life, store, &err) != MLY_OK) _exit(2);
        if (mly_store_close(store, &err) != MLY_OK) _exit(3);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status)) assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static void whenever_the_process_is_killed_answers_are_right(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    uint64_t runs = 0, indexed = 0, step = is_long() ? 3 : 151 * SLOW;
    temp_dir_make(path);
    for (uint64_t kill_at = 1;; kill_at += step) {
        struct mly_error err = {0};
        struct mly_store *store = NULL;
        struct index_seen seen;
        temp_dir_remove(path);
        bool was_killed = run_and_kill(kill_at);
        index_ok(index_open(env, path, false, &store, &err), &err);
        index_check(env, store, path, &seen);
        indexed += seen.indexed > 0;
        /* It goes on from there. */
        index_ok(index_put(store, 0, 9, 3, &err), &err);
        index_ok(mly_store_checkpoint(store, &err), &err);
        index_check(env, store, path, &seen);
        assert_true(seen.rows >= (uint64_t)9 * INDEX_ROWS_EACH);
        index_ok(mly_store_close(store, &err), &err);
        runs++;
        if (!was_killed) break;
    }
    temp_dir_remove(path);
    print_message("ran: %llu kills, an index was of use after %llu\n", (unsigned long long)runs - 1,
                  (unsigned long long)indexed);
    assert_true(runs > 4 && indexed > 0);
}

int main(int argc, char **argv)
{
    if (argc == 2) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_power_cut_leaves_right_answers),
        cmocka_unit_test(whenever_the_process_is_killed_answers_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
