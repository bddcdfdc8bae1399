/* Every file call and every allocation of a life of the log fails, once and from then on, with
 * several errors; transfers are cut short and interrupted; the disk is full. What was acknowledged
 * is there, what failed is not, nothing leaks. */
#include "log_cases.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[TEMP_DIR_BYTES];
static char dir[TEMP_DIR_BYTES + 8];
static char lost[TEMP_DIR_BYTES + 8];

static int make_folder(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(dir, sizeof(dir), "%s/wal", folder);
    snprintf(lost, sizeof(lost), "%s/lost", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static struct mly_log_options small(void)
{
    struct mly_log_options options = case_log_options();
    options.segment_bytes = 9000;
    options.lost_dir = lost;
    options.sync_within_ms = 3600000;
    return options;
}

/* What one life did. */
struct life {
    uint64_t acknowledged; /* the newest record that was */
    uint64_t failed;
    bool lost; /* a sync failed and no new segment could be made: what is there is not told */
    enum mly_err rc;
    struct mly_error err;
};

/* Some records already there; 12 more at every durability, a reader beside, retiring, closing. */
static void live(const struct mly_env *env, uint64_t there, struct life *life)
{
    static const enum mly_durability levels[] = {MLY_DURABILITY_FULL, MLY_DURABILITY_OFF,
                                                 MLY_DURABILITY_NORMAL};
    struct mly_log_options options = small();
    struct mly_log *log = NULL;
    struct case_replay replay = {0};
    struct case_replay seen;
    struct mly_error *err = &life->err;
    options.replay = case_replay_fn;
    options.context = &replay;
    life->acknowledged = there;
    life->rc = mly_log_open(env, dir, &options, &log, NULL, err);
    if (life->rc != MLY_OK) return;
    assert_false(replay.wrong);
    assert_int_equal(replay.count, there);
    for (int i = 0; i < 12; i++) {
        struct mly_log_status status;
        enum mly_err rc = i == 8 ? mly_log_turn(log, 4096, err) : MLY_OK;
        if (rc != MLY_OK) {
            life->rc = rc;
            if (strstr(err->message, "a sync failed") != NULL) life->lost = true;
        }
        mly_log_get_status(log, &status);
        rc = case_append(log, status.last_lsn + 1, levels[i % 3], err);
        if (rc == MLY_OK) {
            life->acknowledged++;
            assert_int_equal(life->acknowledged, status.last_lsn + 1);
        } else {
            assert_true(err->message[0] != '\0');
            life->rc = rc;
            life->failed++;
            if (strstr(err->message, "a sync failed") != NULL) life->lost = true;
        }
    }
    enum mly_err rc = case_read(env, dir, 0, false, &seen, err);
    if (rc == MLY_OK && !life->lost) {
        assert_false(seen.wrong);
        assert_int_equal(seen.count, life->acknowledged);
    }
    if (rc != MLY_OK) life->rc = rc;
    rc = mly_log_retire(log, 0, err);
    if (rc == MLY_OK) rc = mly_log_flush(log, err);
    if (rc != MLY_OK) life->rc = rc;
    rc = mly_log_close(log, err);
    if (rc != MLY_OK) {
        life->rc = rc;
        if (strstr(err->message, "a sync failed") != NULL) life->lost = true;
    }
}

/* A healthy handle finds what was acknowledged and nothing else. */
static void check_after(const struct life *life)
{
    struct mly_log_options options = small();
    struct mly_log *log = NULL;
    struct case_replay replay = {0};
    struct case_replay seen;
    struct mly_error err = {0};
    options.replay = case_replay_fn;
    options.context = &replay;
    case_ok(mly_log_open(mly_env_system(), dir, &options, &log, NULL, &err), &err);
    assert_false(replay.wrong);
    if (!life->lost) assert_int_equal(replay.count, life->acknowledged);
    uint64_t last = replay.count;
    assert_true(last >= life->acknowledged);
    for (int i = 0; i < 3; i++)
        case_ok(case_append(log, ++last, MLY_DURABILITY_FULL, &err), &err);
    case_ok(mly_log_close(log, &err), &err);
    case_ok(case_read(mly_env_system(), dir, 0, true, &seen, &err), &err);
    assert_false(seen.wrong);
    assert_int_equal(seen.count, last);
}

static void fill(uint64_t count)
{
    struct mly_log_options options = small();
    struct mly_log *log = NULL;
    struct mly_error err = {0};
    temp_dir_remove(dir);
    temp_dir_remove(lost);
    case_ok(mly_log_open(mly_env_system(), dir, &options, &log, NULL, &err), &err);
    for (uint64_t number = 1; number <= count; number++)
        case_ok(case_append(log, number, MLY_DURABILITY_OFF, &err), &err);
    case_ok(mly_log_close(log, &err), &err);
}

enum fault_kind { FAIL_ALLOCATION, FAIL_FILE_CALL };

static uint64_t fail_every_call(enum fault_kind kind, bool forever, int fail_errno,
                                bool no_allocate)
{
    uint64_t runs = 0;
    bool fired = true;
    for (uint64_t fail_at = 1; fired; fail_at++) {
        struct fault_env fault;
        struct life life = {0};
        fault_env_init(&fault);
        fault.no_allocate = no_allocate;
        fault.fail_errno = fail_errno;
        fill(5);
        if (kind == FAIL_ALLOCATION) {
            fault.mem.fail_at = fail_at;
            fault.mem.fail_forever = forever;
        } else {
            fault.fail_at = fail_at;
            fault.fail_forever = forever;
        }
        live(&fault.env, 5, &life);
        fired = kind == FAIL_ALLOCATION ? fault.mem.calls >= fail_at : fault.calls >= fail_at;
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (kind == FAIL_ALLOCATION && fired) assert_int_equal(life.rc, MLY_ERR_NOMEM);
        if (!fired) assert_int_equal(life.rc, MLY_OK);
        fault_env_reset(&fault);
        check_after(&life);
        runs++;
    }
    return runs;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t runs = fail_every_call(FAIL_ALLOCATION, false, EIO, false);
    runs += fail_every_call(FAIL_ALLOCATION, true, EIO, false);
    print_message("%llu runs\n", (unsigned long long)runs);
    assert_true(runs > 40);
}

static void every_file_call_may_fail(void **state)
{
    (void)state;
    static const int errnos[] = {EIO, ENOSPC, EMFILE, EACCES};
    uint64_t runs = 0;
    for (size_t i = 0; i < 4; i++) {
        runs += fail_every_call(FAIL_FILE_CALL, false, errnos[i], i % 2 == 1);
        runs += fail_every_call(FAIL_FILE_CALL, true, errnos[i], i % 2 == 0);
    }
    print_message("%llu runs\n", (unsigned long long)runs);
    assert_true(runs > 500);
}

static void short_and_interrupted_transfers_change_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    struct life life = {0};
    fill(5);
    fault_env_init(&fault);
    fault.interrupt = true;
    fault.short_transfers = true;
    live(&fault.env, 5, &life);
    case_ok(life.rc, &life.err);
    assert_int_equal(life.acknowledged, 17);
    check_after(&life);
}

/* ---- one call alone ---- */

struct sore {
    struct mly_env env;
    uint64_t allocates, syncs, opens; /* so many more succeed */
    bool sore;
};
static int sore_allocate(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    struct sore *sore = context;
    if (sore->sore && sore->allocates == 0) return -ENOSPC;
    sore->allocates -= sore->sore;
    return mly_env_system()->allocate(NULL, fd, offset, bytes);
}
static int sore_sync(void *context, int fd)
{
    struct sore *sore = context;
    if (sore->sore && sore->syncs == 0) {
        sore->syncs = UINT64_MAX; /* the next one says that all is well: it must not be believed */
        return -EIO;
    }
    sore->syncs -= sore->sore;
    return mly_env_system()->sync_data(NULL, fd);
}
static void sore_init(struct sore *sore)
{
    *sore = (struct sore){.env = *mly_env_system()};
    sore->env.context = sore;
    sore->env.allocate = sore_allocate;
    sore->env.sync_data = sore_sync;
    sore->allocates = sore->syncs = UINT64_MAX;
    sore->sore = true;
}

static void removals_find_room_on_a_full_disk(void **state)
{
    (void)state;
    struct sore sore;
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    struct mly_error err = {0};
    uint64_t number = 0;
    uint64_t lsn;
    sore_init(&sore);
    sore.allocates = 1; /* the segment's birth */
    case_ok(mly_log_open(&sore.env, dir, &options, &log, NULL, &err), &err);
    enum mly_err rc = MLY_OK;
    while (rc == MLY_OK)
        rc = case_append(log, ++number, MLY_DURABILITY_FULL, &err);
    assert_int_equal(rc, MLY_ERR_IO);
    assert_int_equal(err.system_errno, ENOSPC);
    int urgent = 0;
    for (rc = MLY_OK; rc == MLY_OK; urgent += rc == MLY_OK) {
        struct mly_log_entry entry = {.type = 1, .payload = MLY_STR("gone"), .urgent = true};
        rc = mly_log_append(log, &entry, 1, MLY_DURABILITY_FULL, &lsn, &err);
    }
    assert_true(urgent >= 16);
    sore.sore = false; /* somebody made room */
    struct mly_log_entry entry = {.type = 1, .payload = MLY_STR("more")};
    case_ok(mly_log_append(log, &entry, 1, MLY_DURABILITY_FULL, &lsn, &err), &err);
    assert_int_equal(lsn, number - 1 + (uint64_t)urgent + 1);
    case_ok(mly_log_close(log, &err), &err);
}

static void a_failed_sync_is_not_asked_again(void **state)
{
    (void)state;
    struct sore sore;
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    struct mly_error err = {0};
    struct mly_log_status status;
    struct case_replay seen;
    sore_init(&sore);
    case_ok(mly_log_open(&sore.env, dir, &options, &log, NULL, &err), &err);
    case_ok(case_append(log, 1, MLY_DURABILITY_FULL, &err), &err);
    case_ok(case_append(log, 2, MLY_DURABILITY_OFF, &err), &err);
    sore.syncs = 0;
    case_ok(case_append(log, 3, MLY_DURABILITY_FULL, &err), &err);
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 2); /* all that was not durable went into a new file */
    assert_int_equal(status.synced_lsn, 3);
    case_ok(case_append(log, 4, MLY_DURABILITY_FULL, &err), &err);
    case_ok(case_read(mly_env_system(), dir, 0, true, &seen, &err), &err);
    assert_false(seen.wrong);
    assert_int_equal(seen.count, 4);
    case_ok(case_read(mly_env_system(), dir, 1, true, &seen, &err), &err);
    assert_int_equal(seen.count, 3);
    case_ok(mly_log_retire(log, 1, &err), &err);
    case_ok(case_read(mly_env_system(), dir, 1, true, &seen, &err), &err);
    assert_int_equal(seen.count, 3);
    case_ok(mly_log_close(log, &err), &err);
}

/* A reader that had seen what was taken over into the new segment goes on behind it. */
static void readers_go_on_behind_records_that_moved(void **state)
{
    (void)state;
    struct sore sore;
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    struct mly_log_reader *reader = NULL;
    struct mly_log_record record;
    struct mly_error err = {0};
    bool found;
    sore_init(&sore);
    case_ok(mly_log_open(&sore.env, dir, &options, &log, NULL, &err), &err);
    case_ok(case_append(log, 1, MLY_DURABILITY_FULL, &err), &err);
    case_ok(case_append(log, 2, MLY_DURABILITY_OFF, &err), &err);
    case_ok(mly_log_reader_open(mly_env_system(), dir, 0, false, &reader, &err), &err);
    for (int i = 0; i < 2; i++) {
        case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
        assert_true(found);
    }
    sore.syncs = 0;
    case_ok(case_append(log, 3, MLY_DURABILITY_FULL, &err), &err);
    case_ok(case_append(log, 4, MLY_DURABILITY_FULL, &err), &err);
    for (uint64_t number = 3; number <= 4; number++) {
        case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
        assert_true(found);
        assert_int_equal(record.lsn, number);
        assert_true(case_is_right(&record));
    }
    case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
    assert_false(found);
    mly_log_reader_close(reader);
    case_ok(mly_log_close(log, &err), &err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_allocation_may_fail),
        TEST(every_file_call_may_fail),
        TEST(short_and_interrupted_transfers_change_nothing),
        TEST(removals_find_room_on_a_full_disk),
        TEST(a_failed_sync_is_not_asked_again),
        TEST(readers_go_on_behind_records_that_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
