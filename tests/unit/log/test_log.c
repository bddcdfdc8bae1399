/* The log's door, on a real folder: what is appended comes back, over reopening, segments, owners,
 * retiring, and to readers beside the writer. */
#define _GNU_SOURCE
#include "log_cases.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

static struct mly_log *open_log(struct mly_log_options options, struct case_replay *replay)
{
    struct mly_error err = {0};
    struct mly_log *log = NULL;
    memset(replay, 0, sizeof(*replay));
    options.replay = case_replay_fn;
    options.context = replay;
    case_ok(mly_log_open(mly_env_system(), dir, &options, &log, NULL, &err), &err);
    assert_false(replay->wrong);
    return log;
}

static void close_log(struct mly_log *log)
{
    struct mly_error err = {0};
    case_ok(mly_log_close(log, &err), &err);
}

static void append_all(struct mly_log *log, uint64_t first, uint64_t last,
                       enum mly_durability durability)
{
    struct mly_error err = {0};
    for (uint64_t number = first; number <= last; number++)
        case_ok(case_append(log, number, durability, &err), &err);
}

static void check_read(uint64_t from, uint64_t last)
{
    struct mly_error err = {0};
    struct case_replay seen;
    for (int strict = 0; strict < 2; strict++) {
        case_ok(case_read(mly_env_system(), dir, from, strict, &seen, &err), &err);
        assert_false(seen.wrong);
        assert_int_equal(seen.count, last - from);
        if (seen.count > 0) assert_int_equal(seen.last, last);
    }
}

static void nothing_is_made_before_the_first_record(void **state)
{
    (void)state;
    struct stat info;
    struct case_replay replay;
    struct mly_log *log = open_log(case_log_options(), &replay);
    check_read(0, 0);
    close_log(log);
    assert_int_not_equal(stat(dir, &info), 0);
}

static void records_come_back_after_reopening(void **state)
{
    (void)state;
    static const enum mly_durability levels[] = {MLY_DURABILITY_FULL, MLY_DURABILITY_NORMAL,
                                                 MLY_DURABILITY_OFF};
    struct case_replay replay;
    uint64_t last = 0;
    for (int round = 0; round < 9; round++) {
        struct mly_log *log = open_log(case_log_options(), &replay);
        assert_int_equal(replay.count, last);
        append_all(log, last + 1, last + 40, levels[round % 3]);
        last += 40;
        check_read(0, last);
        check_read(last - 7, last);
        close_log(log);
    }
    struct mly_log *log = open_log(case_log_options(), &replay);
    assert_int_equal(replay.last, last);
    struct mly_log_status status;
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 1); /* a clean end is written on */
    close_log(log);
}

static void a_segment_is_left_when_its_records_are_not_needed(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_error err = {0};
    struct mly_log_status status;
    struct mly_log_options options = case_log_options();
    struct mly_log *log = open_log(options, &replay);
    case_ok(mly_log_turn(log, 0, &err), &err); /* there is none yet */
    append_all(log, 1, 40, MLY_DURABILITY_OFF);
    case_ok(mly_log_turn(log, (uint64_t)1 << 30, &err), &err);
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 1);
    case_ok(mly_log_turn(log, 1000, &err), &err);
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 2);
    assert_int_equal(status.synced_lsn, 40);
    check_read(0, 40);
    check_read(40, 40);
    case_ok(mly_log_turn(log, 4096, &err), &err); /* nothing but a header */
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 2);
    append_all(log, 41, 50, MLY_DURABILITY_NORMAL);
    check_read(0, 50);
    case_ok(mly_log_turn(log, 5000, &err), &err);
    close_log(log);
    log = open_log(options, &replay);
    assert_int_equal(replay.last, 50);
    append_all(log, 51, 52, MLY_DURABILITY_FULL);
    case_ok(mly_log_retire(log, 40, &err), &err);
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 2);
    check_read(40, 52);
    close_log(log);
}

static void segments_change_and_are_retired(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_error err = {0};
    struct mly_log_status status;
    struct mly_log_options options = case_log_options();
    options.segment_bytes = 20000;
    struct mly_log *log = open_log(options, &replay);
    append_all(log, 1, 200, MLY_DURABILITY_OFF);
    mly_log_get_status(log, &status);
    assert_true(status.segments > 3);
    check_read(0, 200);
    case_ok(mly_log_retire(log, 150, &err), &err);
    check_read(150, 200);
    struct case_replay seen;
    assert_int_equal(case_read(mly_env_system(), dir, 0, false, &seen, &err), MLY_ERR_CONFLICT);
    close_log(log);
    options.from_lsn = 150;
    log = open_log(options, &replay);
    assert_int_equal(replay.first, 151);
    assert_int_equal(replay.last, 200);
    case_ok(mly_log_retire(log, 1000, &err), &err);
    mly_log_get_status(log, &status);
    assert_int_equal(status.segments, 1);
    append_all(log, 201, 210, MLY_DURABILITY_FULL);
    check_read(205, 210);
    close_log(log);
    options.from_lsn = 0;
    struct mly_log *none = NULL;
    assert_int_equal(mly_log_open(mly_env_system(), dir, &options, &none, NULL, &err),
                     MLY_ERR_CORRUPT); /* the tables know less than what was retired */
    assert_non_null(strstr(err.message, "are missing"));
}

static void new_records_come_beyond_the_floor(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_error err = {0};
    struct mly_log *log = open_log(case_log_options(), &replay);
    append_all(log, 1, 5, MLY_DURABILITY_FULL);
    close_log(log);
    struct mly_log_options options = case_log_options();
    options.from_lsn = 20;
    options.floor_lsn = 30;
    log = open_log(options, &replay);
    append_all(log, 31, 35, MLY_DURABILITY_FULL);
    close_log(log);
    check_read(30, 35);
    options.from_lsn = 30;
    log = open_log(options, &replay);
    assert_int_equal(replay.first, 31);
    assert_int_equal(replay.count, 5);
    close_log(log);
    options.from_lsn = 4;
    struct mly_log *none = NULL;
    assert_int_equal(mly_log_open(mly_env_system(), dir, &options, &none, NULL, &err),
                     MLY_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "records 6 to 30 are missing"));
}

static void another_owner_gets_a_segment_of_its_own(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_error err = {0};
    struct mly_log *log = open_log(case_log_options(), &replay);
    append_all(log, 1, 5, MLY_DURABILITY_OFF);
    uint8_t owner[MLY_LOG_OWNER_BYTES] = {'o', 2};
    case_ok(mly_log_set_owner(log, owner, &err), &err);
    append_all(log, 6, 9, MLY_DURABILITY_OFF);
    struct mly_log_reader *reader = NULL;
    case_ok(mly_log_reader_open(mly_env_system(), dir, 0, true, &reader, &err), &err);
    for (uint64_t number = 1; number <= 9; number++) {
        struct mly_log_record record;
        bool found;
        case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
        assert_true(found);
        assert_int_equal(record.owner[1], number < 6 ? 0 : 2);
    }
    mly_log_reader_close(reader);
    close_log(log);
}

static void a_memory_log_writes_nothing(void **state)
{
    (void)state;
    struct stat info;
    struct case_replay replay;
    struct mly_log_options options = case_log_options();
    options.memory = true;
    struct mly_log *log = open_log(options, &replay);
    append_all(log, 1, 50, MLY_DURABILITY_FULL);
    close_log(log);
    assert_int_not_equal(stat(dir, &info), 0);
}

static void several_records_of_one_call_follow_each_other(void **state)
{
    (void)state;
    static uint8_t payloads[10][CASE_PAYLOAD_MAX];
    struct mly_log_entry entries[10];
    struct case_replay replay;
    struct mly_error err = {0};
    uint64_t lsn = 0;
    struct mly_log *log = open_log(case_log_options(), &replay);
    for (uint64_t i = 0; i < 10; i++) {
        entries[i] = (struct mly_log_entry){.type = (uint32_t)((i + 1) % 7)};
        entries[i].payload.data = (const char *)payloads[i];
        entries[i].payload.bytes = case_payload(i + 1, payloads[i]);
    }
    case_ok(mly_log_append(log, entries, 10, MLY_DURABILITY_FULL, &lsn, &err), &err);
    assert_int_equal(lsn, 10);
    check_read(0, 10);
    struct mly_log_status status;
    mly_log_get_status(log, &status);
    assert_int_equal(status.syncs, 2); /* the segment's birth, and all ten records together */
    close_log(log);
}

static void sizes_out_of_range_are_refused(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_error err = {0};
    uint64_t lsn = 0;
    struct mly_log *log = open_log(case_log_options(), &replay);
    struct mly_log_entry entry = {.payload = {"x", 0}};
    assert_int_equal(mly_log_append(log, &entry, 1, MLY_DURABILITY_FULL, &lsn, &err),
                     MLY_ERR_INVAL);
    entry.payload.bytes = MLY_LOG_PAYLOAD_BYTES_MAX + 1;
    assert_int_equal(mly_log_append(log, &entry, 1, MLY_DURABILITY_FULL, &lsn, &err),
                     MLY_ERR_LIMIT);
    assert_int_equal(mly_log_append(log, &entry, 0, MLY_DURABILITY_FULL, &lsn, &err),
                     MLY_ERR_INVAL);
    static char big[(size_t)16 << 20];
    memset(big, 7, sizeof(big));
    entry.payload = (struct mly_str){big, sizeof(big)};
    case_ok(mly_log_append(log, &entry, 1, MLY_DURABILITY_FULL, &lsn, &err), &err);
    case_ok(mly_log_append(log, &entry, 1, MLY_DURABILITY_OFF, &lsn, &err), &err);
    assert_int_equal(lsn, 2);
    close_log(log);
}

static void normal_records_are_synced_soon(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_log_options options = case_log_options();
    options.sync_within_ms = 40;
    struct mly_log *log = open_log(options, &replay);
    struct mly_log_status status = {0};
    for (uint64_t number = 1; number <= 3; number++) {
        append_all(log, number, number, MLY_DURABILITY_NORMAL);
        double start = mly_clock_seconds(mly_env_system());
        do {
            mly_clock_sleep_ms(mly_env_system(), 1);
            mly_log_get_status(log, &status);
        } while (status.synced_lsn < number && mly_clock_seconds(mly_env_system()) - start < 5.0);
        assert_int_equal(status.synced_lsn, number);
    }
    close_log(log);
}

static void a_reader_follows_a_writer_over_segments(void **state)
{
    (void)state;
    struct case_replay replay;
    struct case_replay seen = {0};
    struct mly_error err = {0};
    struct mly_log_options options = case_log_options();
    options.segment_bytes = 30000;
    struct mly_log *log = open_log(options, &replay);
    struct mly_log_reader *reader = NULL;
    case_ok(mly_log_reader_open(mly_env_system(), dir, 0, false, &reader, &err), &err);
    for (uint64_t number = 1; number <= 300; number++) {
        struct mly_log_record record;
        bool found;
        case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
        assert_false(found);
        append_all(log, number, number, number % 9 == 0 ? MLY_DURABILITY_FULL : MLY_DURABILITY_OFF);
        if (number % 50 == 0) case_ok(mly_log_retire(log, number - 1, &err), &err);
        case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
        assert_true(found);
        case_ok(case_replay_fn(&seen, &record, &err), &err);
    }
    assert_false(seen.wrong);
    assert_int_equal(seen.last, 300);
    mly_log_reader_close(reader);
    close_log(log);
}

/* Makes it look as if nothing had been done in the folder for long, each time another while. */
static void settle_folder(long number)
{
    struct timespec times[2] = {{1600000000 + number, 0}, {1600000000 + number, 0}};
    assert_int_equal(utimensat(AT_FDCWD, dir, times, 0), 0);
}

/* Then a reader knows its segments without listing them, until one comes. */
static void a_reader_of_a_quiet_folder_sees_what_comes(void **state)
{
    (void)state;
    static struct fault_env fault;
    struct case_replay replay, seen = {0};
    struct mly_error err = {0};
    struct mly_log_options options = case_log_options();
    options.segment_bytes = 30000;
    fault_env_init(&fault);
    struct mly_log *log = open_log(options, &replay);
    struct mly_log_reader *reader = NULL;
    append_all(log, 1, 1, MLY_DURABILITY_OFF);
    case_ok(mly_log_reader_open(&fault.env, dir, 0, false, &reader, &err), &err);
    for (uint64_t number = 1; number <= 200; number++) {
        struct mly_log_record record;
        bool found;
        uint64_t calls = 0;
        case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
        assert_true(found);
        case_ok(case_replay_fn(&seen, &record, &err), &err);
        settle_folder((long)number);
        for (int look = 0; look < 3; look++) {
            calls = atomic_load(&fault.calls);
            case_ok(mly_log_reader_next(reader, &record, &found, &err), &err);
            assert_false(found);
        }
        assert_true(atomic_load(&fault.calls) - calls <= 3); /* file, bytes, folder */
        append_all(log, number + 1, number + 1, MLY_DURABILITY_OFF);
        if (number % 50 == 0) case_ok(mly_log_retire(log, number - 1, &err), &err);
    }
    assert_false(seen.wrong);
    assert_int_equal(seen.last, 200);
    mly_log_reader_close(reader);
    close_log(log);
    assert_int_equal(fault.mem.live, 0);
}

static void a_child_of_fork_may_not_append(void **state)
{
    (void)state;
    struct case_replay replay;
    struct mly_log *log = open_log(case_log_options(), &replay);
    append_all(log, 1, 3, MLY_DURABILITY_NORMAL);
    pid_t child = fork();
    if (child == 0) {
        struct mly_error err = {0};
        bool right = case_append(log, 4, MLY_DURABILITY_OFF, &err) == MLY_ERR_FORKED &&
                     mly_log_flush(log, &err) == MLY_ERR_FORKED &&
                     mly_log_close(log, &err) == MLY_OK;
        _exit(right ? 0 : 1);
    }
    int status = 1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    append_all(log, 4, 5, MLY_DURABILITY_FULL);
    close_log(log);
    check_read(0, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_made_before_the_first_record),
        TEST(records_come_back_after_reopening),
        TEST(a_segment_is_left_when_its_records_are_not_needed),
        TEST(segments_change_and_are_retired),
        TEST(new_records_come_beyond_the_floor),
        TEST(another_owner_gets_a_segment_of_its_own),
        TEST(a_memory_log_writes_nothing),
        TEST(several_records_of_one_call_follow_each_other),
        TEST(sizes_out_of_range_are_refused),
        TEST(normal_records_are_synced_soon),
        TEST(a_reader_follows_a_writer_over_segments),
        TEST(a_reader_of_a_quiet_folder_sees_what_comes),
        TEST(a_child_of_fork_may_not_append),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
