/* Power cuts over a disk in memory, at every moment of the workloads of crash_workloads.h: whatever
 * a file system may leave, the store opens, is in one of the states that were committed, none that
 * was acknowledged is missing, every file that it names is whole, it can be written on, and opens
 * again as it was. Each sync is then left out, in a process of its own, to see that some cut shows
 * it. */
#define _GNU_SOURCE
#include "crash_workloads.h"

#include "lance/lance_int.h"
#include "mly_cmocka.h"
#include "test_pace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* After so many states the recovery of one is cut off as well. */
#define SECOND_EVERY 199

/* Which states are legal: entries[low] to entries[high], and the looker's own document. */
struct legal {
    const struct crash_ledger *ledger;
    size_t low, high;
    bool marker_may, marker_must;
};

/* For messages: where a check failed. */
static struct {
    const struct crash_env *crash;
    struct crash_choice choice;
    const char *workload;
} place;

static void fail_here(const char *what, const char *why)
{
    char text[1500];
    crash_env_describe(place.crash, &place.choice, text, sizeof(text));
    fail_msg("%s: %s: %s (%s)", place.workload, what, why, text);
}

static void fine(enum mly_err rc, const struct mly_error *err, const char *what)
{
    if (rc != MLY_OK) fail_here(what, err->message);
}

/* ---- what a store shows ---- */

/* Which of the legal states it is; *legal has only that one then. */
static void look(struct mly_store *store, struct legal *legal)
{
    struct mly_error err = {0};
    struct mly_snapshot *snapshot = NULL;
    struct mly_mem mem = MLY_MEM_INIT;
    struct case_entry entries[CRASH_DOCUMENTS];
    fine(mly_store_pin(store, &snapshot, &err), &err, "pin");
    for (size_t i = legal->low; i <= legal->high; i++) {
        for (int marker = legal->marker_must; marker <= (int)legal->marker_may; marker++) {
            memcpy(entries, legal->ledger->entries[i], sizeof(entries));
            entries[0] = case_entry(marker != 0, 3, 0);
            if (!crash_is_state(snapshot, &mem, entries)) continue;
            case_check_snapshot(snapshot, &mem, entries, CRASH_DOCUMENTS);
            mly_snapshot_release(snapshot);
            assert_int_equal(mem.live, 0);
            legal->low = legal->high = i;
            legal->marker_may = legal->marker_must = marker != 0;
            return;
        }
    }
    mly_snapshot_release(snapshot);
    char text[80];
    snprintf(text, sizeof(text), "none of the states %zu to %zu", legal->low, legal->high);
    fail_here("look", text);
}

static enum mly_err see_file(void *context, const struct mly_store_verified *file,
                             struct mly_error *err)
{
    (void)context;
    (void)err;
    if (file->code != MLY_OK) fail_here(file->path, file->reason);
    return MLY_OK;
}

static enum mly_err see_old_file(void *context, const struct mly_lance_verified *file,
                                 struct mly_error *err)
{
    (void)context;
    (void)err;
    if (file->code != MLY_OK) fail_here(file->path, file->reason);
    return MLY_OK;
}

/* Other programs read the transaction of the newest version. */
static void check_transaction(const struct mly_env *env, const char *table_path,
                              const struct mly_lance_manifest *manifest)
{
    struct mly_error err = {0};
    struct mly_bytes bytes;
    struct mly_file_info info;
    char path[512];
    struct mly_str name = lance_pb_str(manifest->pb->transaction_file);
    snprintf(path, sizeof(path), "%s/_transactions/%.*s", table_path, (int)name.bytes, name.data);
    mly_bytes_init(&bytes, env->mem, 1 << 20);
    fine(mly_lance_read_file(env, path, &bytes, &info, &err), &err, "transaction");
    MlyPb__Transaction *transaction = mly_pb__transaction__unpack(NULL, bytes.bytes, bytes.data);
    if (bytes.bytes == 0 || transaction == NULL) fail_here(path, "no transaction");
    mly_pb__transaction__free_unpacked(transaction, NULL);
    mly_bytes_deinit(&bytes);
}

/* As other programs look at the tables, who know nothing of a log or of falling back: the newest
 * version is whole, with its transaction, and as new as they saw it; so is each version before it
 * that has a name. */
static void check_for_others(const struct mly_env *env, const struct crash_mark *mark)
{
    for (size_t i = 0; i < CRASH_TABLES; i++) {
        struct mly_error err = {0};
        struct mly_lance_table *table = NULL;
        struct mly_lance_manifest *manifest = NULL;
        fine(mly_lance_table_open(env, crash_tables[i], &table, &err), &err, "table");
        fine(mly_lance_manifest_load(table, &manifest, &err), &err, "manifest");
        uint64_t version = manifest == NULL ? 0 : mly_lance_manifest_version(manifest);
        if (version < mark->versions[i]) fail_here(crash_tables[i], "an older version");
        if (manifest != NULL) check_transaction(env, crash_tables[i], manifest);
        while (manifest != NULL) {
            struct mly_lance_manifest *before = NULL;
            fine(mly_lance_verify(table, manifest, see_old_file, NULL, &err), &err, "verify");
            enum mly_err rc = mly_lance_manifest_load_before(table, manifest, &before, &err);
            if (rc != MLY_ERR_NOTFOUND) fine(rc, &err, "a version before");
            mly_lance_manifest_destroy(manifest);
            manifest = before;
        }
        mly_lance_table_close(table);
    }
}

static struct mly_store *open_store(const struct mly_env *env)
{
    struct mly_store *store = NULL;
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    fine(mly_store_open(env, CRASH_FOLDER, &options, &store, &err), &err, "it does not open");
    return store;
}

static void check_files(struct mly_store *store)
{
    struct mly_error err = {0};
    fine(mly_store_verify(store, see_file, NULL, &err), &err, "verify");
}

/* A disk that keeps its word leaves no table that has what the log lost. */
static void check_report(struct mly_store *store, const struct crash_ledger *ledger)
{
    struct mly_store_report report;
    mly_store_get_report(store, &report);
    if (ledger->is_failing || strstr(report.reason, "the log ends before it") == NULL) return;
    fail_here("report", report.reason);
}

/* What stood behind the log's last record is still there, or it is kept; and so is the damaged
 * version once there is another. */
static void check_kept(const struct mly_env *env, struct mly_store *store,
                       const struct mly_bytes *aside)
{
    struct mly_store_report report;
    mly_store_get_report(store, &report);
    if (aside->bytes == 0 || report.dropped_bytes > 0 || crash_is_kept(env, aside)) return;
    fail_here("lost+found", "what was put aside is not kept");
}

/* Opens it, looks, writes on, looks, opens it again. */
static void check_disk(struct crash_env *disk, const struct crash_mark *mark, struct legal *legal,
                       size_t *written)
{
    struct mly_error err = {0};
    const struct crash_ledger *ledger = legal->ledger;
    if (!ledger->is_damaged || mark->moment >= ledger->mended) check_for_others(&disk->env, mark);
    struct mly_store *store = open_store(&disk->env);
    look(store, legal);
    fine(mly_store_begin(store, &err), &err, "begin");
    (void)mly_store_end(store, NULL);
    look(store, legal);
    check_report(store, ledger);
    check_files(store);
    fine(case_put(store, 0, 3, &err), &err, "it cannot be written on");
    *written = crash_env_now(disk);
    if (!ledger->is_damaged) check_kept(&disk->env, store, &ledger->aside);
    legal->marker_may = legal->marker_must = true;
    look(store, legal);
    fine(mly_store_close(store, &err), &err, "close");
    store = open_store(&disk->env);
    look(store, legal);
    check_files(store);
    check_kept(&disk->env, store, &ledger->aside);
    fine(mly_store_close(store, &err), &err, "close");
    check_for_others(&disk->env, mark);
    assert_int_equal(disk->mem.live, 0);
    assert_int_equal(disk->open_count, 0);
}

/* ---- cuts ---- */

struct trial {
    struct crash_ledger *ledger;
    bool check_again;
    uint64_t states, seconds;
};

struct second {
    struct legal legal; /* with the first cut's state */
    struct crash_mark mark;
    size_t written; /* from this moment on the looker's document must be there */
};

/* The recovery of a cut is cut as well, and so is what was written after it. */
static bool check_second(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    const struct second *second = context;
    struct legal legal = second->legal;
    size_t written;
    place.choice = *choice;
    legal.marker_may = true;
    legal.marker_must = choice->moment >= second->written;
    check_disk(after, &second->mark, &legal, &written);
    return true;
}

static bool check(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct trial *trial = context;
    const struct crash_ledger *ledger = trial->ledger;
    struct crash_mark mark = crash_mark_at(ledger, choice->moment);
    struct second second = {{ledger, mark.durable, mark.begun, false, false}, mark, 0};
    place.crash = &ledger->crash;
    place.choice = *choice;
    check_disk(after, &mark, &second.legal, &second.written);
    if (!trial->check_again || ++trial->states % SECOND_EVERY != 97) return true;
    place.crash = after;
    return crash_env_each(after, (struct crash_effort){0, 0, 1, 5, 0}, check_second, &second,
                          &trial->seconds);
}

static bool is_long(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL;
}

static struct crash_effort effort(const struct crash_ledger *ledger)
{
    if (is_long()) return (struct crash_effort){ledger->first_moment, 2, 3, 0, 0};
    return (struct crash_effort){ledger->first_moment, 1, 1,
                                 (ledger->is_costly ? 11 : 4) * TEST_PACE(1, 5, 7), 0};
}

/* MLY_TEST_WORKLOAD: the number of one that is looked at alone. */
static bool is_chosen(size_t workload_i)
{
    const char *chosen = getenv("MLY_TEST_WORKLOAD");
    return chosen == NULL || strtoull(chosen, NULL, 10) == workload_i;
}

static void every_power_cut_leaves_a_legal_store(void **state)
{
    (void)state;
    uint64_t states = 0, seconds = 0;
    for (size_t i = 0; i < crash_workload_count(); i++) {
        uint64_t own = 0;
        if (!is_chosen(i)) continue;
        struct trial trial = {crash_workload_run(i, 0), true, 0, 0};
        place.workload = crash_workload_name(i);
        assert_true(
            crash_env_each(&trial.ledger->crash, effort(trial.ledger), check, &trial, &own));
        print_message("%-30s %5llu crash states, %5llu of recoveries, %zu commits, %llu syncs\n",
                      place.workload, (unsigned long long)own, (unsigned long long)trial.seconds,
                      trial.ledger->now.begun,
                      (unsigned long long)(trial.ledger->last_sync - trial.ledger->first_sync));
        states += own;
        seconds += trial.seconds;
        crash_ledger_free(trial.ledger);
    }
    assert_true(states > 0); /* MLY_TEST_WORKLOAD may name none */
    print_message("ran: %llu crash states over %zu workloads, %llu of them of recoveries\n",
                  (unsigned long long)(states + seconds), crash_workload_count(),
                  (unsigned long long)seconds);
    if (getenv("MLY_TEST_WORKLOAD") == NULL) {
        assert_true(states + seconds >= (is_long() ? 50000 : TEST_PACE(5000, 1000, 700)));
    }
}

/* ---- every sync left out ---- */

/* A process that leaves one sync out: true where some cut showed it. */
static bool is_missed(size_t workload_i, uint64_t skip)
{
    char workload[24], number[24];
    snprintf(workload, sizeof(workload), "%zu", workload_i);
    snprintf(number, sizeof(number), "%llu", (unsigned long long)skip);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL ||
            freopen("/dev/null", "w", stdout) == NULL) {
            _exit(3);
        }
        execl("/proc/self/exe", "test_crash", "--mutant", workload, number, (char *)NULL);
        _exit(3);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3) fail_msg("cannot start the test again");
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

/* Syncs that may be left out, by workload (NULL: any) and the last name of what they are for, and
 * why they stay; most: of those that the workload has so many, 0: all. */
static const struct {
    const char *workload, *name, *why;
    uint64_t most;
} spare[] = {
    {NULL, "sums", "derived, and made again; every folder is made by the one function that syncs",
     0},
    {NULL, "store.json", "nothing reads it; every small file is made by the function that syncs",
     0},
    {"metadata", "_versions", "an old version that comes back has its files: they were not removed",
     0},
    {"merging", "_versions", "the same, of cleanings after nothing was merged: others are missed",
     6},
    {"checkpoints", "_versions", "the same", 0},
    {"sessions", "_versions", "the same", 0},
    {"handles in turn", "_versions", "the same", 0},
    {"beside another program", "_versions", "the same", 0},
    {"a sync that fails", "_versions", "the same", 0},
    {"a disk that fails for a while", "_versions", "the same", 0},
    {"a damaged manifest", "_versions", "the same", 0},
    {"a disk that fails for a while", "0000000000000001.wal",
     "the tables have what is in that log by then; after a kill the same sync is missed", 1},
};

#define SPARE_COUNT (sizeof(spare) / sizeof(spare[0]))

/* found: how many of each were left out of this workload. */
static bool is_spare(const char *workload, const char *name, uint64_t found[SPARE_COUNT])
{
    for (size_t i = 0; i < SPARE_COUNT; i++) {
        bool here = spare[i].workload == NULL || strcmp(spare[i].workload, workload) == 0;
        if (!here || strcmp(spare[i].name, name) != 0) continue;
        return ++found[i] <= spare[i].most || spare[i].most == 0;
    }
    return false;
}

/* Was what it was for synced again before anything was acknowledged that it could have been for? So
 * it is with folders that are made one after the other in one folder: each is synced at once. */
static bool is_made_up(const struct crash_ledger *ledger)
{
    size_t moment = crash_env_made_up(&ledger->crash);
    return moment != SIZE_MAX && crash_mark_at(ledger, moment).durable ==
                                     crash_mark_at(ledger, ledger->crash.skipped_moment).durable;
}

#define SKIP_STEP TEST_PACE(1, 24, 24)

static void every_sync_is_needed(void **state)
{
    (void)state;
    uint64_t mutants = 0, missed = 0, idle = 0, made_up = 0, spared = 0;
    for (size_t i = 0; i < crash_workload_count(); i++) {
        if (!is_chosen(i) || (i > 0 && !is_long())) continue;
        struct crash_ledger *ledger = crash_workload_run(i, 0);
        uint64_t first = ledger->first_sync, last = ledger->last_sync;
        uint64_t found[SPARE_COUNT] = {0};
        crash_ledger_free(ledger);
        for (uint64_t skip = first + 1; skip <= last; skip += SKIP_STEP) {
            ledger = crash_workload_run(i, skip);
            if (!ledger->crash.skipped_work) { /* a disk would not notice either */
                idle++;
            } else {
                mutants++;
                bool shown = is_missed(i, skip);
                missed += shown;
                if (!shown && is_made_up(ledger)) {
                    made_up++;
                } else if (!shown && is_spare(crash_workload_name(i),
                                              crash_env_skipped(&ledger->crash), found)) {
                    spared++;
                } else if (!shown) {
                    print_message("%s: sync %llu of %llu (%s) is not missed\n",
                                  crash_workload_name(i), (unsigned long long)(skip - first),
                                  (unsigned long long)(last - first),
                                  crash_env_skipped(&ledger->crash));
                }
            }
            crash_ledger_free(ledger);
        }
    }
    print_message("ran: %llu of %llu syncs were missed when left out; %llu came again before "
                  "anything was acknowledged, %llu are listed, %llu had nothing to do\n",
                  (unsigned long long)missed, (unsigned long long)mutants,
                  (unsigned long long)made_up, (unsigned long long)spared,
                  (unsigned long long)idle);
    assert_int_equal(missed + made_up + spared, mutants);
}

static int run_mutant(size_t workload_i, uint64_t skip)
{
    uint64_t states = 0;
    struct trial trial = {crash_workload_run(workload_i, skip), false, 0, 0};
    place.workload = crash_workload_name(workload_i);
    printf("%s, without sync %llu, of %s\n", place.workload, (unsigned long long)skip,
           crash_env_skipped(&trial.ledger->crash));
    fflush(stdout);
    size_t made_up = crash_env_made_up(&trial.ledger->crash);
    const size_t each = trial.ledger->is_costly ? 1 : 16;
    struct crash_effort tried = {trial.ledger->crash.skipped_moment, each, 6, 0,
                                 made_up == SIZE_MAX ? 0 : made_up};
    bool legal = crash_env_each(&trial.ledger->crash, tried, check, &trial, &states);
    printf("not missed in %llu states\n", (unsigned long long)states);
    crash_ledger_free(trial.ledger);
    return legal ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--mutant") == 0) {
        return run_mutant(strtoull(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
    }
    if (argc == 2) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_power_cut_leaves_a_legal_store),
        cmocka_unit_test(every_sync_is_needed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
