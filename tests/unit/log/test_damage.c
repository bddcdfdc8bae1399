/* Rot: every byte of a log is changed, every sector zeroed, the file cut off at every sector. What
 * is read is right, or the damage is told; only the end of the file may be mistaken for a tail that
 * a crash tore, and then it is reported and kept. */
#include "log_cases.h"

#include "crash_env.h"
#include "mly_cmocka.h"
#include "test_pace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DIR "/kb/wal"
#define SEGMENT DIR "/0000000000000001.wal"
#define RECORDS 12

struct rot {
    struct crash_env base;
    uint64_t corrupt, harmless, dropped;
    uint64_t last; /* that there are */
};

static int make_log(void **state)
{
    struct rot *rot = calloc(1, sizeof(*rot));
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    struct mly_error err = {0};
    assert_non_null(rot);
    crash_env_init(&rot->base);
    case_ok(mly_dir_make(&rot->base.env, MLY_AT_CWD, "/kb", &err), &err);
    options.segment_bytes = 100000;
    case_ok(mly_log_open(&rot->base.env, DIR, &options, &log, NULL, &err), &err);
    for (uint64_t number = 1; number <= RECORDS; number++) {
        enum mly_durability durability = number % 3 == 1 ? MLY_DURABILITY_OFF : MLY_DURABILITY_FULL;
        case_ok(case_append(log, number, durability, &err), &err);
    }
    case_ok(mly_log_close(log, &err), &err);
    rot->last = RECORDS;
    *state = rot;
    return 0;
}

static int free_log(void **state)
{
    struct rot *rot = *state;
    crash_env_deinit(&rot->base);
    free(rot);
    return 0;
}

static void copy_disk(const struct rot *rot, struct crash_env *out)
{
    const struct crash_choice all = {rot->base.op_count, CRASH_KEEP_ALL, 0};
    crash_env_cut(&rot->base, &all, out);
}

static uint64_t file_bytes(struct crash_env *disk)
{
    struct mly_file_info info;
    struct mly_error err = {0};
    case_ok(mly_file_info_at(&disk->env, MLY_AT_CWD, SEGMENT, false, &info, &err), &err);
    return info.bytes;
}

static void edit(struct crash_env *disk, uint64_t offset, const uint8_t *data, size_t bytes)
{
    struct mly_file file;
    struct mly_error err = {0};
    case_ok(mly_file_open(&disk->env, MLY_AT_CWD, SEGMENT, MLY_OPEN_WRITE, &file, &err), &err);
    case_ok(mly_file_write(&file, data, bytes, offset, &err), &err);
    mly_file_close(&file);
}

static uint8_t byte_at(struct crash_env *disk, uint64_t offset)
{
    struct mly_file file;
    struct mly_error err = {0};
    uint8_t byte;
    case_ok(mly_file_open(&disk->env, MLY_AT_CWD, SEGMENT, MLY_OPEN_READ, &file, &err), &err);
    case_ok(mly_file_read(&file, &byte, 1, offset, &err), &err);
    mly_file_close(&file);
    return byte;
}

/* Opens what there is. True: nothing is said and nothing is missing. */
static bool check(struct rot *rot, struct crash_env *disk, bool may_drop)
{
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    struct mly_log_report report;
    struct case_replay replay = {0};
    struct case_replay seen = {0};
    struct case_replay loose = {0};
    struct mly_error err = {0};
    options.replay = case_replay_fn;
    options.context = &replay;
    options.lost_dir = "/kb/lost";
    enum mly_err read_rc = case_read(&disk->env, DIR, 0, true, &seen, &err);
    enum mly_err loose_rc = case_read(&disk->env, DIR, 0, false, &loose, &err);
    assert_true(loose_rc == MLY_OK || loose_rc == MLY_ERR_CORRUPT);
    enum mly_err rc = mly_log_open(&disk->env, DIR, &options, &log, &report, &err);
    assert_false(replay.wrong || seen.wrong || loose.wrong);
    assert_int_equal(rc, read_rc);
    if (rc != MLY_OK) {
        assert_int_equal(rc, MLY_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "0000000000000001.wal"));
        rot->corrupt++;
        return false;
    }
    case_ok(mly_log_close(log, &err), &err);
    assert_int_equal(replay.count, seen.count);
    if (replay.count == rot->last) {
        rot->harmless++; /* padding, or room that was never written, which is told */
        return true;
    }
    assert_true(may_drop);
    /* Never silently: a log that lost its end says so. */
    assert_true(report.dropped_bytes > 0 && report.kept);
    rot->dropped++;
    return false;
}

static void no_changed_byte_goes_unseen(void **state)
{
    struct rot *rot = *state;
    uint64_t bytes = 0;
    struct crash_env disk;
    copy_disk(rot, &disk);
    bytes = file_bytes(&disk);
    crash_env_deinit(&disk);
    uint64_t seed = 5;
    /* Behind the records there is room that was never written: some of it is enough. */
    uint64_t used = bytes;
    for (uint64_t offset = 0; offset < used; offset += TEST_PACE(1, 3, 5)) {
        copy_disk(rot, &disk);
        uint8_t was = byte_at(&disk, offset);
        uint8_t now = was ^ (uint8_t)(1u << case_random(&seed) % 8);
        edit(&disk, offset, &now, 1);
        (void)check(rot, &disk, false);
        crash_env_deinit(&disk);
        if (offset > 60000 && was == 0) offset += 997;
    }
    print_message("%llu bytes: %llu changes told, %llu harmless, no record lost\n",
                  (unsigned long long)used, (unsigned long long)rot->corrupt,
                  (unsigned long long)rot->harmless);
    assert_true(rot->corrupt > TEST_PACE(10000, 3000, 2000));
    assert_int_equal(rot->dropped, 0);
}

static void zeroed_sectors_are_told_or_reported(void **state)
{
    struct rot *rot = *state;
    static const uint8_t zeros[512];
    struct crash_env disk;
    copy_disk(rot, &disk);
    uint64_t bytes = file_bytes(&disk);
    crash_env_deinit(&disk);
    for (uint64_t offset = 0; offset < bytes; offset += 512) {
        copy_disk(rot, &disk);
        edit(&disk, offset, zeros, sizeof(zeros));
        (void)check(rot, &disk, true);
        crash_env_deinit(&disk);
    }
    print_message("%llu told, %llu reported as a torn tail, %llu harmless\n",
                  (unsigned long long)rot->corrupt, (unsigned long long)rot->dropped,
                  (unsigned long long)rot->harmless);
    assert_true(rot->corrupt > 5);
    assert_true(rot->dropped <= 14); /* the last sync's, and its single record */
}

static void salvage_opens_what_is_damaged(void **state)
{
    struct rot *rot = *state;
    struct mly_log_options options = case_log_options();
    struct mly_log *log = NULL;
    struct mly_log_report report;
    struct case_replay replay = {0};
    struct mly_error err = {0};
    struct crash_env disk;
    copy_disk(rot, &disk);
    uint8_t byte = byte_at(&disk, 4096 + 70) ^ 1; /* in the first record */
    edit(&disk, 4096 + 70, &byte, 1);
    options.replay = case_replay_fn;
    options.context = &replay;
    options.lost_dir = "/kb/lost";
    assert_int_equal(mly_log_open(&disk.env, DIR, &options, &log, &report, &err), MLY_ERR_CORRUPT);
    options.salvage = true;
    case_ok(mly_log_open(&disk.env, DIR, &options, &log, &report, &err), &err);
    assert_int_equal(replay.count, 0);
    assert_true(report.kept && report.dropped_bytes > 5000);
    assert_int_equal(report.dropped_offset, 4096);
    case_ok(case_append(log, 1, MLY_DURABILITY_FULL, &err), &err);
    case_ok(mly_log_close(log, &err), &err);
    struct case_replay seen;
    case_ok(case_read(&disk.env, DIR, 0, true, &seen, &err), &err);
    assert_int_equal(seen.count, 1);
    crash_env_deinit(&disk);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_log, free_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_changed_byte_goes_unseen),
        TEST(zeroed_sectors_are_told_or_reported),
        TEST(salvage_opens_what_is_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
