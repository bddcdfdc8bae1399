/* Key files alone: what is found in them beside a plain array, damage of every byte, and failing of
 * every call. */
#define _GNU_SOURCE
#include "store/store_keyfile_int.h"

#include "base/hash.h"
#include "crash_env.h"
#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[TEMP_DIR_BYTES];
static char path[TEMP_DIR_BYTES + 16];

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/a.keys", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static void ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("%s", err->message);
}

/* How hashes fall in a file that is tried. */
enum spread { EVEN, TIGHT, EQUAL, LOW_BITS, SPREADS };

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 31) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 27) * 0xBF58476D1CE4E5B9u;
    return x ^ x >> 29;
}

static uint64_t hash_of(enum spread spread, uint64_t number)
{
    switch (spread) {
    case EVEN:
        return mix(number + 1);
    case TIGHT:
        return number % 5 == 0 ? UINT64_MAX - number : number;
    case EQUAL:
        return number % 3 * 0x5555555555555555u;
    default:
        return (uint64_t)7 << 60 | (mix(number + 1) & 0xFFFF);
    }
}

/* Rows 2 * i have key 0 in runs of 2 documents each, odd rows have none; key 1 is row for row. */
static void fill(struct mly_keyfile_draft *draft, enum spread spread, uint32_t rows)
{
    for (uint32_t row = 0; row < rows; row++) {
        if (row % 7 != 6) {
            ok(mly_keyfile_draft_add(draft, 0, hash_of(spread, row / 5), row, NULL), NULL);
        }
        ok(mly_keyfile_draft_add(draft, 1, hash_of(spread, row), row, NULL), NULL);
        if (row % 11 == 3) ok(mly_keyfile_draft_skip(draft, row, NULL), NULL);
    }
}

static struct mly_keyfile_subject subject_of(uint32_t rows)
{
    return (struct mly_keyfile_subject){.binding = 77, .row_count = rows, .key_count = 2};
}

static enum mly_err make(const struct mly_env *env, enum spread spread, uint32_t rows,
                         struct mly_error *err)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_keyfile_draft draft;
    struct mly_keyfile_subject subject = subject_of(rows);
    mly_keyfile_draft_init(&draft, &mem);
    fill(&draft, spread, rows);
    enum mly_err rc = mly_keyfile_write(env, folder, "a.keys", &subject, &draft, err);
    mly_keyfile_draft_deinit(&draft);
    assert_int_equal(mem.live, 0);
    return rc;
}

/* Counts the rows with that hash and fails where one of them should not have it. */
static enum mly_err look_up(struct mly_keyfile *file, enum spread spread, size_t key_i,
                            uint64_t hash, uint64_t *rows, struct mly_error *err)
{
    uint64_t run_i;
    *rows = 0;
    MLY_TRY(mly_keyfile_find(file, key_i, hash, &run_i, err));
    uint32_t end = 0;
    for (; run_i < mly_keyfile_run_count(file, key_i); run_i++) {
        struct mly_keyfile_run run;
        MLY_TRY(mly_keyfile_get(file, key_i, run_i, &run, err));
        if (run.hash != hash) break;
        assert_true(*rows == 0 || run.first > end);
        end = run.first + run.count - 1;
        for (uint32_t row = run.first; row <= end; row++) {
            assert_int_equal(hash_of(spread, key_i == 0 ? row / 5 : row), hash);
            assert_true(key_i != 0 || row % 7 != 6);
        }
        *rows += run.count;
    }
    return MLY_OK;
}

static uint64_t expected_rows(enum spread spread, size_t key_i, uint64_t hash, uint32_t rows)
{
    uint64_t count = 0;
    for (uint32_t row = 0; row < rows; row++) {
        if (key_i == 0 && row % 7 == 6) continue;
        count += hash_of(spread, key_i == 0 ? row / 5 : row) == hash;
    }
    return count;
}

static void check_file(enum spread spread, uint32_t rows)
{
    struct mly_error err = {0};
    struct mly_keyfile *file = NULL;
    struct mly_keyfile_subject subject = subject_of(rows);
    ok(make(mly_env_system(), spread, rows, &err), &err);
    ok(mly_keyfile_open(mly_env_system(), path, &subject, &file, &err), &err);
    assert_int_equal(mly_keyfile_skipped_count(file), (rows + 7) / 11);
    for (size_t i = 0; i < mly_keyfile_skipped_count(file); i++)
        assert_int_equal(mly_keyfile_skipped(file, i), 11 * i + 3);
    for (size_t key_i = 0; key_i < 2; key_i++) {
        for (uint32_t row = 0; row <= rows + 5; row += 1 + rows / 97) {
            for (uint64_t beside = 0; beside < 3; beside++) {
                uint64_t hash = hash_of(spread, key_i == 0 ? row / 5 : row) + beside - 1;
                uint64_t found;
                ok(look_up(file, spread, key_i, hash, &found, &err), &err);
                assert_int_equal(found, expected_rows(spread, key_i, hash, rows));
            }
        }
    }
    mly_keyfile_close(file);
}

static void every_row_of_a_hash_is_found_and_no_other(void **state)
{
    (void)state;
    const uint32_t counts[] = {0, 1, 2, 7, 24, 25, 255, 256, 257, 1000, 4097, 20000};
    for (int spread = 0; spread < SPREADS; spread++) {
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
            check_file((enum spread)spread, counts[i]);
    }
}

static void runs_are_sorted_by_hash_and_row(void **state)
{
    (void)state;
    static struct mly_keyfile_run runs[70000];
    const uint64_t masks[] = {UINT64_MAX, 0xFF, (uint64_t)0xFF << 56, 0, 0xF0F0F0F000000000u};
    for (size_t m = 0; m < sizeof(masks) / sizeof(masks[0]); m++) {
        for (size_t count = 0; count <= 70000; count = count * 3 + 1) {
            uint64_t sum_before = 0, sum_after = 0;
            for (size_t i = 0; i < count; i++) {
                uint32_t row = (uint32_t)(mix(i) << 17 | i);
                runs[i] = (struct mly_keyfile_run){mix(i + 1) & masks[m], row, 1};
                sum_before += mix(runs[i].hash ^ row);
            }
            mly_keyfile_sort(runs, count);
            for (size_t i = 0; i < count; i++) {
                sum_after += mix(runs[i].hash ^ runs[i].first);
                if (i == 0) continue;
                assert_true(runs[i - 1].hash < runs[i].hash || (runs[i - 1].hash == runs[i].hash &&
                                                                runs[i - 1].first < runs[i].first));
            }
            assert_int_equal(sum_before, sum_after);
        }
    }
}

/* The hash stands in files, so it must stay what it is. */
static void the_hash_of_a_key_stays(void **state)
{
    (void)state;
    assert_true(mly_hash_quick(MLY_STR("")) == 0x2D06800538D394C2u);
    assert_true(mly_hash_quick(MLY_STR("document-0")) == 0xEB50BAB8110FD42Bu);
    static const char text[300] = "a text that is longer than what XXH3 has its short ways for";
    assert_true(mly_hash_quick((struct mly_str){text, 300}) == 0x063946D040F7C580u);
}

static size_t read_file(uint8_t *out, size_t bytes_max)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    size_t bytes = fread(out, 1, bytes_max, stream);
    fclose(stream);
    return bytes;
}

static void a_flipped_bit_is_found_or_changes_nothing(void **state)
{
    (void)state;
    static uint8_t bytes[65536];
    const uint32_t rows = 300;
    struct mly_error err = {0};
    struct mly_keyfile_subject subject = subject_of(rows);
    ok(make(mly_env_system(), EVEN, rows, &err), &err);
    size_t count = read_file(bytes, sizeof(bytes));
    assert_true(count > 4 * 4096 && count < sizeof(bytes));
    size_t refused = 0, seen_later = 0;
    for (size_t i = 0; i < count; i += i < 200 || i % 4096 < 64 ? 1 : 13) {
        struct mly_keyfile *file = NULL;
        bytes[i] ^= (uint8_t)(1u << i % 8);
        temp_dir_write(folder, "a.keys", bytes, count);
        bytes[i] ^= (uint8_t)(1u << i % 8);
        enum mly_err rc = mly_keyfile_open(mly_env_system(), path, &subject, &file, &err);
        if (rc != MLY_OK) {
            assert_int_equal(rc, MLY_ERR_CORRUPT);
            assert_non_null(strstr(err.message, "a.keys"));
            refused++;
            continue;
        }
        bool corrupt = false;
        for (uint32_t row = 0; row < rows; row++) {
            uint64_t found;
            rc = look_up(file, EVEN, 1, hash_of(EVEN, row), &found, &err);
            corrupt = corrupt || rc == MLY_ERR_CORRUPT;
            if (rc == MLY_OK) assert_int_equal(found, 1);
        }
        seen_later += corrupt;
        mly_keyfile_close(file);
    }
    assert_true(refused > 50);
    assert_true(seen_later > 300); /* bytes of the runs of key 1: a block and a half */
    for (size_t cut = 0; cut < count; cut += 509) {
        struct mly_keyfile *file = NULL;
        temp_dir_write(folder, "a.keys", bytes, cut);
        assert_int_equal(mly_keyfile_open(mly_env_system(), path, &subject, &file, &err),
                         MLY_ERR_CORRUPT);
    }
}

static void a_file_of_other_data_is_refused(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_keyfile *file = NULL;
    ok(make(mly_env_system(), EVEN, 300, &err), &err);
    const struct mly_keyfile_subject others[] = {
        {.binding = 78, .row_count = 300, .key_count = 2},
        {.binding = 77, .row_count = 301, .key_count = 2},
        {.binding = 77, .row_count = 300, .key_count = 1},
    };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mly_keyfile_open(mly_env_system(), path, &others[i], &file, &err),
                         MLY_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "other data"));
    }
    (void)unlink(path);
    assert_int_equal(mly_keyfile_open(mly_env_system(), path, &others[0], &file, &err),
                     MLY_ERR_NOTFOUND);
}

/* Sums as a writer of ours would have put them. */
static void seal(uint8_t *bytes, const struct mly_keyfile_shape *shape)
{
    mly_crc32c_fn crc = mly_crc32c_pick();
    uint8_t *sums = bytes + shape->sums_at;
    for (uint64_t i = 0; i < shape->block_count; i++) {
        const uint8_t *block = bytes + (shape->first_block + i) * KEYFILE_BLOCK_BYTES;
        mly_put_u32le(sums + 4 * i, crc(0, block, KEYFILE_BLOCK_BYTES));
    }
    mly_put_u32le(bytes + KEYFILE_AT_SUMS_SUM, crc(0, sums, (size_t)shape->block_count * 4));
    mly_put_u32le(bytes + KEYFILE_AT_SUM, crc(0, bytes, KEYFILE_AT_SUM));
}

/* What opening it says, or the first look-up that fails, of all rows. */
static void look_for_lies(const struct mly_keyfile_subject *subject, const char *message)
{
    struct mly_error err = {0};
    struct mly_keyfile *file = NULL;
    enum mly_err rc = mly_keyfile_open(mly_env_system(), path, subject, &file, &err);
    for (uint32_t row = 0; rc == MLY_OK && row < subject->row_count; row++) {
        struct mly_keyfile_run run = {0};
        uint64_t run_i;
        rc = mly_keyfile_find(file, 1, hash_of(EVEN, row), &run_i, &err);
        if (rc != MLY_OK || run_i >= mly_keyfile_run_count(file, 1)) continue;
        rc = mly_keyfile_get(file, 1, run_i, &run, &err);
        if (rc == MLY_OK) assert_true(run.first + run.count <= subject->row_count);
    }
    mly_keyfile_close(file);
    if (rc != MLY_ERR_CORRUPT) fail_msg("%s: it was not told", message);
    if (strstr(err.message, message) == NULL) fail_msg("\"%s\" is not: %s", err.message, message);
}

/* Whoever makes its sums right may still say what cannot be. */
static void numbers_that_cannot_be_are_refused_whatever_the_sums_say(void **state)
{
    (void)state;
    static uint8_t bytes[65536], kept[65536];
    struct mly_error err = {0};
    const struct mly_keyfile_subject subject = subject_of(300);
    ok(make(mly_env_system(), EVEN, 300, &err), &err);
    const size_t count = read_file(kept, sizeof(kept));
    struct mly_keyfile_shape shape = {.skipped_count = mly_get_u64le(kept + KEYFILE_AT_SKIPPED)};
    for (size_t i = 0; i < MLY_KEYFILE_KEYS_MAX; i++)
        shape.run_counts[i] = mly_get_u64le(kept + KEYFILE_AT_RUNS + 8 * i);
    assert_true(mly_keyfile_lay_out(&shape) && shape.bytes == count);
    assert_true(shape.fan_counts[1] > 3 && shape.skipped_count > 2);
    const struct {
        uint64_t at;
        uint32_t value;
        const char *message;
    } lies[] = {
        {KEYFILE_AT_FORMAT, 2, "other data"},
        {KEYFILE_AT_RUNS + 4, 1, "size is not"}, /* more than a fragment has */
        {KEYFILE_AT_SKIPPED + 4, 1, "size is not"},
        {KEYFILE_AT_RUNS, (uint32_t)shape.run_counts[0] + 1000, "size is not"},
        {shape.skipped_at, 300, "not in order"},
        {shape.skipped_at + 4, mly_get_u32le(kept + shape.skipped_at), "not in order"},
        {shape.fans_at[1] + 4, (uint32_t)shape.run_counts[1] + 1, "leads beyond"},
        {shape.fans_at[1] + 4 * (shape.fan_counts[1] - 1), UINT32_MAX, "leads beyond"},
        {shape.runs_at[1] + 8, 300, "rows that are not there"},
        {shape.runs_at[1] + 12, 301, "rows that are not there"},
    };
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        memcpy(bytes, kept, count);
        mly_put_u32le(bytes + lies[i].at, lies[i].value);
        seal(bytes, &shape);
        temp_dir_write(folder, "a.keys", bytes, count);
        look_for_lies(&subject, lies[i].message);
    }
    /* Blocks that are found rotten where a look-up touches them. */
    const uint64_t rotten[] = {shape.fans_at[1], shape.runs_at[1]};
    for (size_t i = 0; i < sizeof(rotten) / sizeof(rotten[0]); i++) {
        memcpy(bytes, kept, count);
        bytes[rotten[i]] ^= 1;
        temp_dir_write(folder, "a.keys", bytes, count);
        look_for_lies(&subject, "a block does not pass its sum");
    }
}

/* A second file takes the place of the first while that is still read. */
static void a_file_is_replaced_while_it_is_read(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_keyfile *before = NULL;
    struct mly_keyfile *after = NULL;
    uint64_t found;
    struct mly_keyfile_subject subject = subject_of(20000);
    ok(make(mly_env_system(), EVEN, 20000, &err), &err);
    ok(mly_keyfile_open(mly_env_system(), path, &subject, &before, &err), &err);
    ok(make(mly_env_system(), LOW_BITS, 20000, &err), &err);
    ok(mly_keyfile_open(mly_env_system(), path, &subject, &after, &err), &err);
    ok(look_up(before, EVEN, 1, hash_of(EVEN, 19999), &found, &err), &err);
    assert_int_equal(found, 1);
    ok(look_up(after, LOW_BITS, 1, hash_of(LOW_BITS, 19999), &found, &err), &err);
    assert_true(found > 0);
    mly_keyfile_close(before);
    mly_keyfile_close(after);
}

static void check_one_call(struct fault_env *fault, const struct mly_keyfile_subject *subject,
                           enum mly_err rc)
{
    struct mly_keyfile *file = NULL;
    struct mly_error err = {0};
    fault_env_reset(fault);
    fault->mem.fail_at = 0;
    assert_int_equal(fault->mem.live, 0);
    assert_int_equal(fault->open_count, 0);
    if (rc == MLY_OK) return;
    /* Nothing is there, or all of it: never half a file. */
    enum mly_err open_rc = mly_keyfile_open(&fault->env, path, subject, &file, &err);
    assert_true(open_rc == MLY_OK || open_rc == MLY_ERR_NOTFOUND);
    mly_keyfile_close(file);
    (void)unlink(path);
}

/* Every call of the system's in turn, then every allocation. */
static void making_survives_every_failure(void **state)
{
    (void)state;
    const struct mly_keyfile_subject subject = subject_of(5000);
    struct fault_env fault;
    struct mly_error err = {0};
    fault_env_init(&fault);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        for (uint64_t n = 1; n < 1000; n++) {
            fault_env_reset(&fault);
            fault.fail_errno = ENOSPC;
            if (of_memory) fault.mem.fail_at = atomic_load(&fault.mem.calls) + n;
            if (!of_memory) fault.fail_at = n;
            enum mly_err rc = make(&fault.env, EVEN, 5000, &err);
            bool reached = of_memory ? atomic_load(&fault.mem.calls) >= fault.mem.fail_at
                                     : atomic_load(&fault.calls) >= n;
            check_one_call(&fault, &subject, rc);
            if (!reached) break;
            assert_true(n < 900);
        }
    }
}

static void opening_survives_every_failure(void **state)
{
    (void)state;
    const struct mly_keyfile_subject subject = subject_of(5000);
    struct fault_env fault;
    struct mly_error err = {0};
    fault_env_init(&fault);
    ok(make(&fault.env, EVEN, 5000, &err), &err);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        size_t failed = 0;
        for (uint64_t n = 1; n < 100; n++) {
            struct mly_keyfile *file = NULL;
            fault_env_reset(&fault);
            fault.fail_errno = EIO;
            if (of_memory) fault.mem.fail_at = atomic_load(&fault.mem.calls) + n;
            if (!of_memory) fault.fail_at = n;
            enum mly_err rc = mly_keyfile_open(&fault.env, path, &subject, &file, &err);
            bool reached = of_memory ? atomic_load(&fault.mem.calls) >= fault.mem.fail_at
                                     : atomic_load(&fault.calls) >= n;
            mly_keyfile_close(file);
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            failed += rc != MLY_OK;
            if (rc != MLY_OK) assert_int_equal(rc, of_memory ? MLY_ERR_NOMEM : MLY_ERR_IO);
            if (!reached) break;
        }
        assert_true(failed > 0);
    }
}

static void a_draft_survives_every_failing_allocation(void **state)
{
    (void)state;
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_keyfile_draft draft;
        struct mly_error err = {0};
        enum mly_err rc = MLY_OK;
        mem.fail_at = fail_at;
        mly_keyfile_draft_init(&draft, &mem);
        for (uint32_t row = 0; row < 2000 && rc == MLY_OK; row++) {
            rc = mly_keyfile_draft_add(&draft, row % 2, mix(row), row, &err);
            if (rc == MLY_OK) rc = mly_keyfile_draft_skip(&draft, row, &err);
        }
        mly_keyfile_draft_deinit(&draft);
        assert_int_equal(mem.live, 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_NOMEM);
    }
}

/* Which files a power cut was seen to leave. */
struct seen {
    uint32_t rows;
    size_t whole, other;
};

static bool check_after_cut(void *context, struct crash_env *after,
                            const struct crash_choice *choice)
{
    struct seen *seen = context;
    struct mly_keyfile *file = NULL;
    const struct mly_keyfile_subject subject = subject_of(seen->rows);
    (void)choice;
    enum mly_err rc = mly_keyfile_open(&after->env, "/k/a.keys", &subject, &file, NULL);
    if (rc != MLY_OK) {
        seen->other++;
        return rc == MLY_ERR_NOTFOUND || rc == MLY_ERR_CORRUPT;
    }
    bool damaged = false;
    for (uint32_t row = 0; row < seen->rows; row += 3) {
        uint64_t found;
        rc = look_up(file, EVEN, 1, hash_of(EVEN, row), &found, NULL);
        damaged = damaged || rc == MLY_ERR_CORRUPT;
        if (rc == MLY_OK && found != 1) return false;
    }
    seen->whole += !damaged;
    seen->other += damaged;
    mly_keyfile_close(file);
    return true;
}

/* Nothing is synced, so anything may be left of it: never one that leaves a row out. */
static void what_a_power_cut_leaves_is_whole_or_told(void **state)
{
    (void)state;
    struct crash_env crash;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct seen seen = {.rows = 700};
    const struct mly_keyfile_subject subject = subject_of(seen.rows);
    struct mly_keyfile_draft draft;
    uint64_t states = 0;
    crash_env_init(&crash);
    assert_int_equal(crash.env.make_dir(crash.env.context, MLY_AT_CWD, "/k"), 0);
    mly_keyfile_draft_init(&draft, &mem);
    fill(&draft, EVEN, seen.rows);
    ok(mly_keyfile_write(&crash.env, "/k", "a.keys", &subject, &draft, &err), &err);
    mly_keyfile_draft_deinit(&draft);
    const struct crash_effort effort = {.singles = CRASH_ALL_SINGLES, .randoms = 40};
    assert_true(crash_env_each(&crash, effort, check_after_cut, &seen, &states));
    assert_true(states > 100);
    assert_true(seen.whole > 0);
    assert_true(seen.other > 50);
    crash_env_deinit(&crash);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(every_row_of_a_hash_is_found_and_no_other),
        IN_FOLDER(runs_are_sorted_by_hash_and_row),
        IN_FOLDER(the_hash_of_a_key_stays),
        IN_FOLDER(a_flipped_bit_is_found_or_changes_nothing),
        IN_FOLDER(a_file_of_other_data_is_refused),
        IN_FOLDER(numbers_that_cannot_be_are_refused_whatever_the_sums_say),
        IN_FOLDER(a_file_is_replaced_while_it_is_read),
        IN_FOLDER(making_survives_every_failure),
        IN_FOLDER(opening_survives_every_failure),
        IN_FOLDER(a_draft_survives_every_failing_allocation),
        IN_FOLDER(what_a_power_cut_leaves_is_whole_or_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
