/* Power cuts over a disk in memory: at every moment of twelve workloads and in every way that a
 * file system may answer, the log opens, has every record that was acknowledged as durable, none
 * that was never begun, no hole, and can be written on. And every sync is needed: with any one of
 * them left out, some cut shows it. */
#include "log_cases.h"

#include "crash_env.h"
#include "mly_cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR "/kb/wal"
#define LOST "/kb/lost+found"
#define MARKS_MAX 1024

/* From this moment on: what had been begun, what must be there, what is not asked for any more. */
struct mark {
    size_t moment;
    uint64_t begun, durable, from, floor;
};

struct ledger {
    struct crash_env crash;
    struct mark marks[MARKS_MAX];
    size_t mark_count;
    struct mark now;
    struct mly_log *log;
    struct mly_log_options options;
    bool check_again; /* recovery is cut off too */
    uint64_t states, torn, kept;
    uint64_t syncs; /* until the last mark */
    const char *wrong;
};

static void mark(struct ledger *ledger)
{
    assert_true(ledger->mark_count < MARKS_MAX);
    ledger->now.moment = crash_env_now(&ledger->crash);
    ledger->marks[ledger->mark_count++] = ledger->now;
    ledger->syncs = ledger->crash.syncs;
}

/* Both tables have everything up to there now; something is written for it, so that there is a
 * moment before. */
static void checkpoint(struct ledger *ledger, uint64_t lsn)
{
    struct mly_error err = {0};
    char path[64];
    snprintf(path, sizeof(path), "/table-%llu", (unsigned long long)lsn);
    struct mly_file file;
    case_ok(mly_file_open(&ledger->crash.env, MLY_AT_CWD, path, MLY_OPEN_WRITE | MLY_OPEN_CREATE,
                          &file, &err),
            &err);
    mly_file_close(&file);
    ledger->now.from = ledger->now.floor = ledger->now.durable = lsn;
    if (ledger->now.begun < lsn) ledger->now.begun = lsn;
    mark(ledger);
}

static struct mark mark_at(const struct ledger *ledger, size_t moment)
{
    struct mark found = {0};
    for (size_t i = 0; i < ledger->mark_count; i++) {
        if (ledger->marks[i].moment <= moment) found = ledger->marks[i];
    }
    return found;
}

/* ---- workloads ---- */

static void open_log(struct ledger *ledger)
{
    struct mly_error err = {0};
    ledger->options.lost_dir = LOST;
    ledger->options.from_lsn = ledger->now.from;
    ledger->options.floor_lsn = ledger->now.floor;
    case_ok(mly_log_open(&ledger->crash.env, DIR, &ledger->options, &ledger->log, NULL, &err),
            &err);
}

static void close_log(struct ledger *ledger)
{
    struct mly_error err = {0};
    case_ok(mly_log_close(ledger->log, &err), &err);
    ledger->now.durable = ledger->now.begun;
    mark(ledger);
}

static void flush(struct ledger *ledger)
{
    struct mly_error err = {0};
    case_ok(mly_log_flush(ledger->log, &err), &err);
    ledger->now.durable = ledger->now.begun;
    mark(ledger);
}

static void append(struct ledger *ledger, enum mly_durability durability)
{
    struct mly_error err = {0};
    ledger->now.begun++;
    mark(ledger);
    case_ok(case_append(ledger->log, ledger->now.begun, durability, &err), &err);
    if (durability == MLY_DURABILITY_FULL) ledger->now.durable = ledger->now.begun;
    mark(ledger);
}

static void append_many(struct ledger *ledger, size_t count, enum mly_durability durability)
{
    static uint8_t payloads[8][CASE_PAYLOAD_MAX];
    struct mly_log_entry entries[8];
    struct mly_error err = {0};
    uint64_t lsn;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = ledger->now.begun + 1 + i;
        entries[i] = (struct mly_log_entry){.type = (uint32_t)(number % 7)};
        entries[i].payload.data = (const char *)payloads[i];
        entries[i].payload.bytes = case_payload(number, payloads[i]);
    }
    ledger->now.begun += count;
    mark(ledger);
    case_ok(mly_log_append(ledger->log, entries, count, durability, &lsn, &err), &err);
    if (durability == MLY_DURABILITY_FULL) ledger->now.durable = ledger->now.begun;
    mark(ledger);
}

static void appends(struct ledger *ledger, int count, enum mly_durability durability)
{
    for (int i = 0; i < count; i++)
        append(ledger, durability);
}

static void singles(struct ledger *ledger)
{
    open_log(ledger);
    appends(ledger, 9, MLY_DURABILITY_FULL);
    close_log(ledger);
}

static void normal_and_flush(struct ledger *ledger)
{
    open_log(ledger);
    appends(ledger, 5, MLY_DURABILITY_NORMAL);
    flush(ledger);
    appends(ledger, 4, MLY_DURABILITY_NORMAL);
    close_log(ledger);
}

static void off_and_close(struct ledger *ledger)
{
    open_log(ledger);
    appends(ledger, 8, MLY_DURABILITY_OFF);
    close_log(ledger);
}

static void mixed(struct ledger *ledger)
{
    open_log(ledger);
    for (int i = 0; i < 4; i++) {
        append(ledger, MLY_DURABILITY_OFF);
        append(ledger, MLY_DURABILITY_NORMAL);
        append(ledger, MLY_DURABILITY_FULL);
    }
    close_log(ledger);
}

static void small_segments(struct ledger *ledger)
{
    ledger->options.segment_bytes = 12000;
    open_log(ledger);
    appends(ledger, 14, MLY_DURABILITY_FULL);
    close_log(ledger);
}

static void small_segments_unsynced(struct ledger *ledger)
{
    ledger->options.segment_bytes = 9000;
    open_log(ledger);
    appends(ledger, 16, MLY_DURABILITY_OFF);
    flush(ledger);
    append(ledger, MLY_DURABILITY_OFF);
    close_log(ledger);
}

static void several_at_once(struct ledger *ledger)
{
    open_log(ledger);
    append_many(ledger, 8, MLY_DURABILITY_FULL);
    append_many(ledger, 5, MLY_DURABILITY_OFF);
    append_many(ledger, 3, MLY_DURABILITY_FULL);
    close_log(ledger);
}

static void reopened(struct ledger *ledger)
{
    for (int i = 0; i < 4; i++) {
        open_log(ledger);
        append(ledger, MLY_DURABILITY_FULL);
        append(ledger, MLY_DURABILITY_OFF);
        close_log(ledger);
    }
}

/* A process that was killed: its records are in the system's memory. Whoever opens next relies on
 * them. */
static void killed(struct ledger *ledger)
{
    struct mly_error err = {0};
    open_log(ledger);
    append(ledger, MLY_DURABILITY_FULL);
    appends(ledger, 4, MLY_DURABILITY_OFF);
    struct mly_log *dead = ledger->log;
    open_log(ledger);
    ledger->now.durable = ledger->now.begun;
    mark(ledger);
    append(ledger, MLY_DURABILITY_FULL);
    close_log(ledger);
    (void)!mly_log_close(dead, &err); /* too late to matter: it is behind the last moment */
}

static void retired(struct ledger *ledger)
{
    struct mly_error err = {0};
    ledger->options.segment_bytes = 9000;
    open_log(ledger);
    for (int i = 0; i < 5; i++) {
        appends(ledger, 4, MLY_DURABILITY_OFF);
        flush(ledger);
        checkpoint(ledger, ledger->now.durable);
        case_ok(mly_log_retire(ledger->log, ledger->now.from, &err), &err);
    }
    close_log(ledger);
}

static void owners(struct ledger *ledger)
{
    struct mly_error err = {0};
    open_log(ledger);
    appends(ledger, 3, MLY_DURABILITY_OFF);
    ledger->options.owner[1] = 1;
    case_ok(mly_log_set_owner(ledger->log, ledger->options.owner, &err), &err);
    ledger->now.durable = ledger->now.begun;
    mark(ledger);
    appends(ledger, 3, MLY_DURABILITY_FULL);
    close_log(ledger);
}

static void beyond_a_floor(struct ledger *ledger)
{
    open_log(ledger);
    appends(ledger, 4, MLY_DURABILITY_FULL);
    close_log(ledger);
    checkpoint(ledger, 50);
    open_log(ledger);
    appends(ledger, 4, MLY_DURABILITY_FULL);
    close_log(ledger);
}

static const struct {
    const char *name;
    void (*run)(struct ledger *ledger);
} workloads[] = {
    {"single appends", singles},
    {"normal, then flush", normal_and_flush},
    {"off, then close", off_and_close},
    {"mixed", mixed},
    {"small segments", small_segments},
    {"small segments, unsynced", small_segments_unsynced},
    {"several at once", several_at_once},
    {"reopened", reopened},
    {"killed", killed},
    {"retired", retired},
    {"owners", owners},
    {"beyond a floor", beyond_a_floor},
};
#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

static struct ledger *run_workload(size_t i, uint64_t skip_sync)
{
    struct ledger *ledger = calloc(1, sizeof(*ledger));
    assert_non_null(ledger);
    crash_env_init(&ledger->crash);
    struct mly_error err = {0};
    case_ok(mly_dir_make(&ledger->crash.env, MLY_AT_CWD, "/kb", &err), &err);
    ledger->crash.syncs = 0;
    ledger->crash.skip_sync = skip_sync;
    ledger->options = case_log_options();
    ledger->options.segment_bytes = 200000;
    ledger->options.sync_within_ms = 3600000; /* the flusher would sync when it likes */
    mark(ledger);
    workloads[i].run(ledger);
    return ledger;
}

static void free_ledger(struct ledger *ledger)
{
    crash_env_deinit(&ledger->crash);
    free(ledger);
}

/* ---- what a cut leaves ---- */

static bool is_wrong(struct ledger *ledger, const char *why)
{
    ledger->wrong = why;
    return false;
}

static bool check_written_on(struct ledger *ledger, struct crash_env *after,
                             const struct mark *mark, uint64_t last)
{
    struct mly_error err = {0};
    struct mly_log_options options = ledger->options;
    struct mly_log *log = NULL;
    struct case_replay replay = {0};
    struct mly_log_report report;
    options.lost_dir = LOST;
    options.from_lsn = mark->from;
    options.floor_lsn = mark->floor;
    options.replay = case_replay_fn;
    options.context = &replay;
    if (mly_log_open(&after->env, DIR, &options, &log, &report, &err) != MLY_OK) {
        return is_wrong(ledger, "it does not open a second time");
    }
    bool right = !replay.wrong && (replay.count == 0 || replay.last == last);
    uint64_t next = last;
    for (int i = 0; right && i < 3; i++) {
        right = case_append(log, ++next, MLY_DURABILITY_FULL, &err) == MLY_OK;
    }
    right = mly_log_close(log, &err) == MLY_OK && right;
    if (!right) return is_wrong(ledger, "it cannot be written on");
    struct case_replay seen;
    if (case_read(&after->env, DIR, mark->from, true, &seen, &err) != MLY_OK || seen.wrong ||
        seen.last != next) {
        return is_wrong(ledger, "what was written after it does not come back");
    }
    return true;
}

static bool check_once(struct ledger *ledger, struct crash_env *after, const struct mark *mark)
{
    struct mly_error err = {0};
    struct mly_log_options options = ledger->options;
    struct mly_log *log = NULL;
    struct case_replay replay = {0};
    struct case_replay seen = {0};
    struct mly_log_report report;
    options.lost_dir = LOST;
    options.from_lsn = mark->from;
    options.floor_lsn = mark->floor;
    options.replay = case_replay_fn;
    options.context = &replay;
    /* Where the log ends before what the tables have, readers are not asked beyond it. */
    enum mly_err rc = case_read(&after->env, DIR, mark->from, true, &seen, &err);
    if (rc != MLY_OK || seen.wrong) return is_wrong(ledger, "a reader does not get through");
    if (mly_log_open(&after->env, DIR, &options, &log, &report, &err) != MLY_OK) {
        return is_wrong(ledger, "it does not open");
    }
    ledger->torn += report.reason[0] != '\0';
    ledger->kept += report.kept;
    if (report.reason[0] != '\0' && !report.kept)
        return is_wrong(ledger, "dropped bytes are not kept");
    if (mly_log_close(log, &err) != MLY_OK) return is_wrong(ledger, "it does not close");
    uint64_t last = replay.count == 0 ? mark->from : replay.last;
    if (replay.wrong || seen.count != replay.count) return is_wrong(ledger, "records are wrong");
    if (replay.count > 0 && replay.first != mark->from + 1)
        return is_wrong(ledger, "there is a hole");
    if (last < mark->durable) return is_wrong(ledger, "a durable record is lost");
    if (last > mark->begun) return is_wrong(ledger, "a record was never begun");
    if (last < mark->floor) last = mark->floor;
    return check_written_on(ledger, after, mark, last);
}

struct second {
    struct ledger *ledger;
    struct mark mark;
};

/* The recovery of a crash was cut off as well: what is lost must not grow. */
static bool check_second(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct second *second = context;
    (void)choice;
    /* Its own new records may be there or not. */
    struct mark mark = second->mark;
    mark.begun += 3;
    return check_once(second->ledger, after, &mark);
}

static bool check(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct ledger *ledger = context;
    struct mark mark = mark_at(ledger, choice->moment);
    if (!check_once(ledger, after, &mark)) return false;
    if (!ledger->check_again || (choice->moment + choice->number) % 37 != 0) return true;
    struct second second = {ledger, mark};
    return crash_env_each(after, (struct crash_effort){0, CRASH_ALL_SINGLES, 1, 0, 0}, check_second,
                          &second, &ledger->states);
}

static uint64_t random_count(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL ? 60 : 6;
}

static struct crash_effort effort(const struct ledger *ledger, uint64_t randoms)
{
    return (struct crash_effort){ledger->marks[0].moment, CRASH_ALL_SINGLES, randoms, 0, 0};
}

/* Prints what was wrong where. */
struct first_wrong {
    struct ledger *ledger;
    struct crash_choice choice;
};

static bool check_and_note(void *context, struct crash_env *after,
                           const struct crash_choice *choice)
{
    struct first_wrong *wrong = context;
    wrong->choice = *choice;
    return check(wrong->ledger, after, choice);
}

static void every_power_cut_leaves_a_legal_log(void **state)
{
    (void)state;
    uint64_t states = 0;
    uint64_t torn = 0;
    for (size_t i = 0; i < WORKLOADS; i++) {
        struct ledger *ledger = run_workload(i, 0);
        struct first_wrong wrong = {.ledger = ledger};
        ledger->check_again = true;
        if (!crash_env_each(&ledger->crash, effort(ledger, random_count()), check_and_note, &wrong,
                            &ledger->states)) {
            char text[2000];
            crash_env_describe(&ledger->crash, &wrong.choice, text, sizeof(text));
            fail_msg("%s: %s (%s)", workloads[i].name, ledger->wrong, text);
        }
        states += ledger->states;
        torn += ledger->torn;
        assert_int_equal(ledger->torn, ledger->kept);
        free_ledger(ledger);
    }
    print_message("%llu crash states over %zu workloads, %llu with a torn tail\n",
                  (unsigned long long)states, WORKLOADS, (unsigned long long)torn);
    assert_true(states > 5000);
    assert_true(torn > 100);
}

static void every_sync_is_needed(void **state)
{
    (void)state;
    uint64_t mutants = 0;
    uint64_t killed_count = 0;
    uint64_t idle = 0;
    for (size_t i = 0; i < WORKLOADS; i++) {
        struct ledger *ledger = run_workload(i, 0);
        uint64_t syncs = ledger->syncs;
        free_ledger(ledger);
        for (uint64_t skip = 1; skip <= syncs; skip++) {
            uint64_t states = 0;
            ledger = run_workload(i, skip);
            if (!ledger->crash.skipped_work) { /* a disk would not notice either */
                idle++;
                free_ledger(ledger);
                continue;
            }
            bool legal = crash_env_each(&ledger->crash, effort(ledger, 4), check, ledger, &states);
            mutants++;
            killed_count += !legal;
            if (legal) {
                print_message("%s: sync %llu of %llu (%s) is not missed\n", workloads[i].name,
                              (unsigned long long)skip, (unsigned long long)syncs,
                              crash_env_skipped(&ledger->crash));
            }
            free_ledger(ledger);
        }
    }
    print_message("%llu of %llu syncs were missed when left out, %llu had nothing to do\n",
                  (unsigned long long)killed_count, (unsigned long long)mutants,
                  (unsigned long long)idle);
    assert_int_equal(killed_count, mutants);
}

/* ---- dropped bytes ---- */

/* What recovery drops: the tail of the first segment, as a cut left it. */
struct dropped {
    uint8_t bytes[16384];
    size_t byte_count;
    uint64_t offset;
};

static size_t read_file(struct crash_env *crash, const char *path, uint64_t offset, uint8_t *out,
                        size_t bytes)
{
    struct mly_file file;
    if (mly_file_open(&crash->env, MLY_AT_CWD, path, MLY_OPEN_READ, &file, NULL) != MLY_OK) {
        return 0;
    }
    int64_t got = crash->env.pread(crash, file.fd, out, bytes, offset);
    mly_file_close(&file);
    return got < 0 ? 0 : (size_t)got;
}

static bool check_kept(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    const struct dropped *dropped = context;
    uint8_t bytes[16384];
    char kept[80];
    (void)choice;
    if (read_file(after, DIR "/0000000000000001.wal", dropped->offset, bytes,
                  dropped->byte_count) == dropped->byte_count &&
        memcmp(bytes, dropped->bytes, dropped->byte_count) == 0) {
        return true;
    }
    snprintf(kept, sizeof(kept), LOST "/0000000000000001.wal-%llu",
             (unsigned long long)dropped->offset);
    return read_file(after, kept, 0, bytes, dropped->byte_count) == dropped->byte_count &&
           memcmp(bytes, dropped->bytes, dropped->byte_count) == 0;
}

/* A torn tail is dropped, the log written on, and the segment that had it retired. */
static bool drop_and_retire(uint64_t skip_sync, uint64_t *syncs, uint64_t *states)
{
    struct crash_env base, crash;
    struct mly_error err = {0};
    struct mly_log *log = NULL;
    struct mly_log_report report;
    struct mly_log_options options = case_log_options();
    options.segment_bytes = 200000;
    options.lost_dir = LOST;
    crash_env_init(&base);
    case_ok(mly_dir_make(&base.env, MLY_AT_CWD, "/kb", &err), &err);
    case_ok(mly_log_open(&base.env, DIR, &options, &log, NULL, &err), &err);
    case_ok(case_append(log, 1, MLY_DURABILITY_FULL, &err), &err);
    size_t durable = crash_env_now(&base);
    case_ok(case_append(log, 2, MLY_DURABILITY_OFF, &err), &err);
    struct crash_choice choice = {crash_env_now(&base), CRASH_RANDOM, 4};
    assert_true(choice.moment > durable);
    struct dropped dropped = {.byte_count = 1};
    /* The seed decides which sectors are there: one that leaves some and not all. */
    for (report.reason[0] = '\0'; report.reason[0] == '\0'; choice.number++) {
        struct mly_log *other = NULL;
        crash_env_cut(&base, &choice, &crash);
        case_ok(mly_log_open(&crash.env, DIR, &options, &other, &report, &err), &err);
        case_ok(mly_log_close(other, &err), &err);
        crash_env_deinit(&crash);
    }
    choice.number--;
    case_ok(mly_log_close(log, &err), &err);
    crash_env_cut(&base, &choice, &crash);
    crash.skip_sync = skip_sync;
    dropped.offset = report.dropped_offset;
    dropped.byte_count = (size_t)report.dropped_bytes;
    assert_in_range(dropped.byte_count, 1, sizeof(dropped.bytes));
    assert_int_equal(read_file(&crash, DIR "/0000000000000001.wal", dropped.offset, dropped.bytes,
                               dropped.byte_count),
                     dropped.byte_count);
    case_ok(mly_log_open(&crash.env, DIR, &options, &log, NULL, &err), &err);
    uint64_t own_syncs = crash.syncs; /* those that keep the bytes come while it opens */
    case_ok(case_append(log, 2, MLY_DURABILITY_FULL, &err), &err);
    case_ok(mly_log_retire(log, 1, &err), &err);
    case_ok(mly_log_close(log, &err), &err);
    *syncs = own_syncs;
    bool legal = crash_env_each(&crash, (struct crash_effort){0, CRASH_ALL_SINGLES, 20, 0, 0},
                                check_kept, &dropped, states);
    crash_env_deinit(&crash);
    crash_env_deinit(&base);
    return legal;
}

static void dropped_bytes_outlive_their_segment(void **state)
{
    (void)state;
    uint64_t syncs, states = 0, ignored = 0, missed = 0;
    assert_true(drop_and_retire(0, &syncs, &states));
    for (uint64_t skip = 1; skip <= syncs; skip++) {
        bool legal = drop_and_retire(skip, &ignored, &ignored);
        missed += !legal;
    }
    print_message("%llu crash states; %llu syncs of %llu are missed\n", (unsigned long long)states,
                  (unsigned long long)missed, (unsigned long long)syncs);
    /* The file's and its name's. The folder's own name is synced again with that of the log's, and
     * the fourth is of the segment, which nobody had written to. */
    assert_int_equal(missed, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_power_cut_leaves_a_legal_log),
        cmocka_unit_test(every_sync_is_needed),
        cmocka_unit_test(dropped_bytes_outlive_their_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
