/* Power cuts over a disk in memory, tried on the store's commits: whatever a file system may leave,
 * the store opens, has every commit that was acknowledged, and of the one in hand each document
 * wholly as before or wholly as after it. Each sync is then left out in turn, in a process of its
 * own, to see whether some cut shows it. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "crash_env.h"
#include "mly_cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOLDER "/kb"
#define DOCUMENTS 6
#define COMMITS 5

struct ledger {
    struct crash_env crash;
    /* after commit i; 0: the empty store. From began[i] on i + 1 may be there, from done[i] on it
     * must. */
    struct case_entry entries[COMMITS + 1][DOCUMENTS];
    size_t began[COMMITS], done[COMMITS];
    uint64_t syncs_done;
};

struct commit {
    struct case_document documents[DOCUMENTS];
    struct mly_change changes[DOCUMENTS];
    size_t count;
};

static void want(struct commit *commit, struct case_entry *entries, uint32_t number,
                 uint32_t version, enum mly_change_kind kind)
{
    struct case_document *document = &commit->documents[commit->count];
    entries[number] = case_entry(kind != MLY_CHANGE_REMOVE, version, 1);
    case_make(document, number, version, 1);
    commit->changes[commit->count] = case_change(document);
    commit->changes[commit->count++].kind = kind;
}

static void make_commit(size_t i, struct commit *commit, struct case_entry *entries)
{
    commit->count = 0;
    switch (i) {
    case 0:
        for (uint32_t number = 1; number < 4; number++)
            want(commit, entries, number, number, MLY_CHANGE_PUT);
        break;
    case 1:
        want(commit, entries, 1, 5, MLY_CHANGE_PUT);
        break;
    case 2:
        want(commit, entries, 2, 6, MLY_CHANGE_PUT);
        want(commit, entries, 3, 3, MLY_CHANGE_REMOVE);
        want(commit, entries, 4, 7, MLY_CHANGE_PUT);
        want(commit, entries, 5, 0, MLY_CHANGE_TOUCH);
        break;
    case 3:
        want(commit, entries, 1, 5, MLY_CHANGE_REMOVE);
        break;
    default:
        want(commit, entries, 1, 2, MLY_CHANGE_PUT);
        break;
    }
}

static struct ledger *run_commits(uint64_t skip_sync)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));
    struct commit *commit = calloc(1, sizeof(*commit));
    struct mly_store *store = NULL;
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    assert_true(ledger != NULL && commit != NULL);
    crash_env_init(&ledger->crash);
    ledger->crash.skip_sync = skip_sync;
    case_ok(mly_store_open(&ledger->crash.env, FOLDER, &options, &store, &err), &err);
    for (size_t i = 0; i < COMMITS; i++) {
        memcpy(ledger->entries[i + 1], ledger->entries[i], sizeof(ledger->entries[i]));
        make_commit(i, commit, ledger->entries[i + 1]);
        ledger->began[i] = crash_env_now(&ledger->crash);
        case_ok(case_commit(store, commit->changes, commit->count, &err), &err);
        ledger->done[i] = crash_env_now(&ledger->crash);
    }
    ledger->syncs_done = ledger->crash.syncs;
    (void)mly_store_close(store, NULL);
    free(commit);
    return ledger;
}

static void free_ledger(struct ledger *ledger)
{
    crash_env_deinit(&ledger->crash);
    free(ledger);
}

/* Fails the test, or ends the process where there is none. */
static bool check(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct ledger *ledger = context;
    struct case_entry entries[DOCUMENTS], wanted[DOCUMENTS];
    struct mly_store *store = NULL;
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    size_t done = 0;
    size_t began = 0;
    while (done < COMMITS && ledger->done[done] <= choice->moment)
        done++;
    while (began < COMMITS && ledger->began[began] < choice->moment)
        began++;
    memcpy(entries, ledger->entries[done], sizeof(entries));
    memcpy(wanted, ledger->entries[began > done ? began : done], sizeof(wanted));
    enum mly_err rc = mly_store_open(&after->env, FOLDER, &options, &store, &err);
    if (rc != MLY_OK) {
        char text[1500];
        crash_env_describe(&ledger->crash, choice, text, sizeof(text));
        fail_msg("it does not open: %s (%s)", err.message, text);
    }
    case_learn(store, entries, wanted, DOCUMENTS);
    case_ok(case_put(store, 0, 3, &err), &err);
    entries[0] = case_entry(true, 3, 0);
    (void)mly_store_close(store, NULL);
    return true;
}

static bool is_long(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL;
}

/* What is never synced (version hints, temporary names) stays uncovered for ever: the newest
 * operations are those that matter. */
static struct crash_effort effort(void)
{
    if (is_long()) return (struct crash_effort){0, CRASH_ALL_SINGLES, 20};
    return (struct crash_effort){0, 3, 2};
}

static void every_power_cut_leaves_a_legal_store(void **state)
{
    (void)state;
    struct ledger *ledger = run_commits(0);
    uint64_t states = 0;
    assert_true(crash_env_each(&ledger->crash, effort(), check, ledger, &states));
    print_message("%llu crash states of %d commits\n", (unsigned long long)states, COMMITS);
    free_ledger(ledger);
}

/* A process that leaves one sync out: true where some cut showed it. */
static bool is_missed(uint64_t skip)
{
    char number[24];
    snprintf(number, sizeof(number), "%llu", (unsigned long long)skip);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL ||
            freopen("/dev/null", "w", stdout) == NULL) {
            _exit(3);
        }
        execl("/proc/self/exe", "test_crash", "--mutant", number, (char *)NULL);
        _exit(3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3) fail_msg("cannot start the test again");
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static void every_sync_is_needed(void **state)
{
    (void)state;
    struct ledger *ledger = run_commits(0);
    uint64_t syncs = ledger->syncs_done;
    uint64_t missed = 0, idle = 0;
    free_ledger(ledger);
    if (!is_long()) {
        print_message("skip: takes minutes; set MEMALLOY_TEST_LONG\n");
        skip();
    }
    for (uint64_t left_out = 1; left_out <= syncs; left_out++) {
        ledger = run_commits(left_out);
        bool work = ledger->crash.skipped_work;
        if (!work) {
            idle++;
        } else if (is_missed(left_out)) {
            missed++;
        } else {
            print_message("sync %llu of %llu (%s) is not missed\n", (unsigned long long)left_out,
                          (unsigned long long)syncs, crash_env_skipped(&ledger->crash));
        }
        free_ledger(ledger);
    }
    print_message("%llu of %llu syncs were missed when left out, %llu had nothing to do\n",
                  (unsigned long long)missed, (unsigned long long)(syncs - idle),
                  (unsigned long long)idle);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--mutant") == 0) {
        struct ledger *ledger = run_commits(strtoull(argv[2], NULL, 10));
        uint64_t states = 0;
        printf("without sync %s, of %s\n", argv[2], crash_env_skipped(&ledger->crash));
        fflush(stdout);
        bool legal =
            crash_env_each(&ledger->crash, (struct crash_effort){0, 3, 3}, check, ledger, &states);
        free_ledger(ledger);
        return legal ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_power_cut_leaves_a_legal_store),
        cmocka_unit_test(every_sync_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
