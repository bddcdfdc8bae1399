/* Eight threads append at every durability while others read and ask: numbers are given once,
 * acknowledged records are there, syncs are shared. For TSan as much as for its own sake. */
#include "log_cases.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8

static char folder[TEMP_DIR_BYTES];
static char dir[TEMP_DIR_BYTES + 8];

static int make_folder(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(dir, sizeof(dir), "%s/wal", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

struct worker {
    struct mly_log *log;
    uint32_t number;
    int appends;
    bool all_full;
    uint64_t acknowledged, failed;
    bool wrong;
};
/* What a record says: who wrote it, and his how manieth it is. */
struct note {
    uint32_t worker, i;
    uint8_t more[200];
};

static _Atomic bool done;

static void *append_notes(void *argument)
{
    struct worker *worker = argument;
    uint64_t before = 0;
    for (int i = 0; i < worker->appends; i++) {
        struct note note = {worker->number, (uint32_t)i, {0}};
        struct mly_log_entry entry = {.type = 9, .payload = {(const char *)&note, sizeof(note)}};
        enum mly_durability durability = MLY_DURABILITY_FULL;
        if (!worker->all_full)
            durability = (enum mly_durability)((worker->number + (uint32_t)i) % 3);
        struct mly_error err = {0};
        struct mly_log_status status;
        uint64_t lsn = 0;
        if (mly_log_append(worker->log, &entry, 1, durability, &lsn, &err) != MLY_OK) {
            worker->failed++;
            continue;
        }
        worker->acknowledged++;
        mly_log_get_status(worker->log, &status);
        if (lsn <= before || status.last_lsn < lsn) worker->wrong = true;
        if (durability == MLY_DURABILITY_FULL && status.synced_lsn < lsn) worker->wrong = true;
        before = lsn;
    }
    return NULL;
}

static void *read_notes(void *argument)
{
    struct worker *worker = argument;
    struct mly_log_reader *reader = NULL;
    struct mly_error err = {0};
    struct mly_log_record record;
    uint64_t last = 0;
    bool found = true;
    if (mly_log_reader_open(mly_env_system(), dir, 0, false, &reader, &err) != MLY_OK) return NULL;
    /* Whether all was written is asked before looking: what comes between is looked for again. */
    for (bool last_look = false; !last_look || found;) {
        last_look = atomic_load(&done);
        if (mly_log_reader_next(reader, &record, &found, &err) != MLY_OK) {
            worker->wrong = true;
            break;
        }
        if (found && (record.lsn != last + 1 || record.payload.bytes != sizeof(struct note))) {
            worker->wrong = true;
        }
        if (found) last = record.lsn;
    }
    worker->acknowledged = last;
    mly_log_reader_close(reader);
    return NULL;
}

static void *flush_and_retire(void *argument)
{
    struct worker *worker = argument;
    while (!atomic_load(&done)) {
        struct mly_error err = {0};
        struct mly_log_status status;
        mly_log_get_status(worker->log, &status);
        if (mly_log_flush(worker->log, &err) != MLY_OK) worker->failed++;
        if (mly_log_retire(worker->log, 0, &err) != MLY_OK) worker->wrong = true;
        mly_clock_sleep_ms(mly_env_system(), 3);
    }
    return NULL;
}

struct tally {
    uint32_t next[THREADS]; /* of each worker's notes */
    uint64_t count;
    bool wrong;
};

static enum mly_err tally(void *context, const struct mly_log_record *record, struct mly_error *err)
{
    struct tally *tally = context;
    struct note note;
    (void)err;
    memcpy(&note, record->payload.data, sizeof(note));
    if (note.worker >= THREADS || note.i < tally->next[note.worker]) tally->wrong = true;
    if (note.worker < THREADS) tally->next[note.worker] = note.i + 1;
    tally->count++;
    return MLY_OK;
}

static int appends_each(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL ? 5000 : 300;
}

/* Runs the threads over an open log; the records that were acknowledged. */
static uint64_t run_threads(struct mly_log *log, bool all_full, uint64_t *failed)
{
    struct worker workers[THREADS];
    struct worker reader = {.log = log};
    struct worker flusher = {.log = log};
    pthread_t threads[THREADS], read_thread, flush_thread;
    uint64_t acknowledged = 0;
    atomic_store(&done, false);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){log, i, appends_each(), all_full, 0, 0, false};
        assert_int_equal(pthread_create(&threads[i], NULL, append_notes, &workers[i]), 0);
    }
    assert_int_equal(pthread_create(&read_thread, NULL, read_notes, &reader), 0);
    assert_int_equal(pthread_create(&flush_thread, NULL, flush_and_retire, &flusher), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(workers[i].wrong);
        acknowledged += workers[i].acknowledged;
        *failed += workers[i].failed;
    }
    atomic_store(&done, true);
    pthread_join(read_thread, NULL);
    pthread_join(flush_thread, NULL);
    assert_false(reader.wrong || flusher.wrong);
    assert_int_equal(reader.acknowledged, acknowledged);
    return acknowledged;
}

static void check_all(uint64_t acknowledged)
{
    struct mly_error err = {0};
    struct tally seen = {.count = 0};
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    options.replay = tally;
    options.context = &seen;
    case_ok(mly_log_open(mly_env_system(), dir, &options, &log, NULL, &err), &err);
    assert_false(seen.wrong);
    assert_int_equal(seen.count, acknowledged);
    case_ok(mly_log_close(log, &err), &err);
}

static void eight_writers_share_a_log(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_log *log = NULL;
    struct mly_log_options options = case_log_options();
    uint64_t failed = 0;
    options.segment_bytes = 100000;
    options.sync_within_ms = 4;
    case_ok(mly_log_open(mly_env_system(), dir, &options, &log, NULL, &err), &err);
    uint64_t acknowledged = run_threads(log, false, &failed);
    assert_int_equal(failed, 0);
    case_ok(mly_log_close(log, &err), &err);
    check_all(acknowledged);
}

static int slow_sync(void *context, int fd)
{
    (void)context;
    (void)mly_env_system()->sleep_ns(NULL, 2000000);
    return mly_env_system()->sync_data(NULL, fd);
}

static void waiting_writers_share_a_sync(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_log *log = NULL;
    struct mly_log_options options = case_log_options();
    struct mly_log_status status;
    struct mly_env env = *mly_env_system();
    uint64_t failed = 0;
    env.sync_data = slow_sync; /* as a disk's */
    case_ok(mly_log_open(&env, dir, &options, &log, NULL, &err), &err);
    uint64_t acknowledged = run_threads(log, true, &failed);
    mly_log_get_status(log, &status);
    print_message("%llu records, %llu syncs\n", (unsigned long long)acknowledged,
                  (unsigned long long)status.syncs);
    assert_int_equal(failed, 0);
    assert_true(status.syncs * 3 < acknowledged);
    case_ok(mly_log_close(log, &err), &err);
    check_all(acknowledged);
}

static _Atomic uint64_t sync_calls;

static int failing_sync(void *context, int fd)
{
    (void)context;
    if (atomic_fetch_add(&sync_calls, 1) % 7 == 3) return -EIO;
    return mly_env_system()->sync_data(NULL, fd);
}

static void a_disk_that_fails_now_and_then_loses_nothing(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_log *log = NULL;
    struct mly_log_options options = case_log_options();
    struct mly_env env = *mly_env_system();
    uint64_t failed = 0;
    options.segment_bytes = 60000;
    options.sync_within_ms = 3;
    env.sync_data = failing_sync;
    case_ok(mly_log_open(&env, dir, &options, &log, NULL, &err), &err);
    uint64_t acknowledged = run_threads(log, false, &failed);
    enum mly_err rc = mly_log_close(log, &err);
    assert_int_equal(failed, 0); /* the file after a failed sync is always a good one here */
    case_ok(rc, &err);
    check_all(acknowledged);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(eight_writers_share_a_log),
        TEST(waiting_writers_share_a_sync),
        TEST(a_disk_that_fails_now_and_then_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
