/* A newest manifest that is damaged: passed over where it was ours, told where it was not, moved
 * out of the way and not lost, and its number is used again. */
#include "lance_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROWS 20
#define NEWEST 4

static char lost[TEMP_DIR_BYTES + 32];

static int setup_fallback(void **state)
{
    if (setup_with_sums(state) != 0) return 1;
    snprintf(lost, sizeof(lost), "%s/private/lost+found", folder);
    return 0;
}

static void version_path(uint64_t version, char *out, size_t bytes)
{
    char name[LANCE_VERSION_NAME_BYTES];
    mly_lance_version_name(version, LANCE_NAMING_V2, name);
    snprintf(out, bytes, "%s/_versions/%s", path, name);
}

static size_t read_file(const char *file_path, uint8_t *out, size_t bytes_max)
{
    FILE *file = fopen(file_path, "rb");
    assert_non_null(file);
    size_t bytes = fread(out, 1, bytes_max, file);
    fclose(file);
    return bytes;
}

static void write_file(const char *file_path, const uint8_t *data, size_t bytes)
{
    FILE *file = fopen(file_path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    fclose(file);
}

static void damage(uint64_t version)
{
    char file_path[TEMP_DIR_BYTES + 128];
    version_path(version, file_path, sizeof(file_path));
    write_file(file_path, (const uint8_t *)"rubbish", 7);
}

/* Loads what is sound and reads all of it; the version that it is. */
static enum mly_err load_sound(const struct mly_lance_table *on, struct mly_lance_unsound *unsound,
                               struct mly_lance_manifest **out, struct mly_error *error)
{
    uint64_t live, sum;
    MLY_TRY(mly_lance_manifest_load_sound(on, out, unsound, error));
    if (*out == NULL) return MLY_OK;
    enum mly_err rc = case_sum(on, *out, &live, &sum, error);
    if (rc == MLY_OK) assert_int_equal(live, ROWS);
    if (rc != MLY_OK) mly_lance_manifest_destroy(*out);
    return rc;
}

static void expect_sound(uint64_t version, uint64_t passed_over)
{
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest;
    EXPECT_OK(load_sound(table, &unsound, &manifest, &err));
    assert_int_equal(mly_lance_manifest_version(manifest), version);
    assert_int_equal(unsound.count, passed_over);
    mly_lance_manifest_destroy(manifest);
}

static void what_is_sound_is_taken_as_it_is(void **state)
{
    (void)state;
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest;
    EXPECT_OK(load_sound(table, &unsound, &manifest, &err));
    assert_null(manifest);
    assert_int_equal(unsound.count, 0);
    make_history(ROWS, NEWEST);
    expect_sound(NEWEST, 0);
}

static void every_damage_of_the_newest_manifest_leads_to_the_one_before(void **state)
{
    (void)state;
    static uint8_t data[1 << 16];
    char file_path[TEMP_DIR_BYTES + 128];
    make_history(ROWS, NEWEST);
    version_path(NEWEST, file_path, sizeof(file_path));
    size_t bytes = read_file(file_path, data, sizeof(data));
    for (size_t i = 0; i < bytes; i += 7) {
        data[i] ^= (uint8_t)(1u << i % 8);
        write_file(file_path, data, bytes);
        expect_sound(NEWEST - 1, 1);
        data[i] ^= (uint8_t)(1u << i % 8);
    }
    for (size_t keep = 0; keep < bytes; keep += 150) {
        write_file(file_path, data, keep);
        expect_sound(NEWEST - 1, 1);
    }
    write_file(file_path, data, bytes);
    expect_sound(NEWEST, 0);
    damage(NEWEST);
    damage(NEWEST - 1);
    expect_sound(NEWEST - 2, 2);
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest;
    EXPECT_OK(load_sound(table, &unsound, &manifest, &err));
    mly_lance_manifest_destroy(manifest);
    assert_int_equal(unsound.version, NEWEST);
    assert_non_null(strstr(unsound.reason.message, "18446744073709551611.manifest"));
}

static void damage_of_what_is_not_ours_is_told(void **state)
{
    (void)state;
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest = NULL;
    make_history(ROWS, NEWEST);
    /* Another program's version, half written: nothing of ours read version 4. */
    damage(NEWEST + 1);
    temp_dir_write(path, "_transactions/4-0dfd3b3f-7a3b-4a7e-8f4b-3f3f3f3f3f3f.txn", "x", 1);
    case_expect(mly_lance_manifest_load_sound(table, &manifest, &unsound, &err), MLY_ERR_CORRUPT,
                &err);
    assert_non_null(strstr(err.message, "18446744073709551610.manifest"));
    assert_null(manifest);
    /* Ours above it changes nothing. */
    damage(NEWEST + 2);
    temp_dir_write(path, "_transactions/5-aaaaaaaa-aaaa-8aaa-8aaa-aaaa6d6c7901.txn", "x", 1);
    case_expect(mly_lance_manifest_load_sound(table, &manifest, &unsound, &err), MLY_ERR_CORRUPT,
                &err);
    assert_non_null(strstr(err.message, "18446744073709551610.manifest"));
}

static void where_nothing_is_sound_that_is_told(void **state)
{
    (void)state;
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest = NULL;
    make_history(ROWS, NEWEST);
    for (uint64_t version = 1; version <= NEWEST; version++) {
        damage(version);
    }
    case_expect(mly_lance_manifest_load_sound(table, &manifest, &unsound, &err), MLY_ERR_CORRUPT,
                &err);
    assert_non_null(strstr(err.message, "18446744073709551611.manifest"));
    assert_non_null(strstr(err.message, "no version before it is sound"));
}

/* Passes over what is damaged, sets it aside and commits; the version that this makes. */
static enum mly_err mend(const struct mly_lance_table *on, uint64_t *version,
                         struct mly_error *error)
{
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest, *next = NULL;
    uint64_t row = 15;
    bool visible;
    MLY_TRY(load_sound(on, &unsound, &manifest, error));
    enum mly_err rc = mly_lance_set_aside(on, manifest, NULL, lost, error);
    if (rc == MLY_OK) rc = case_update(on, manifest, 1, &row, 1, &next, &visible, error);
    if (rc == MLY_OK) *version = mly_lance_manifest_version(next);
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(manifest);
    return rc;
}

static void what_is_damaged_is_kept_elsewhere_and_its_number_used_again(void **state)
{
    (void)state;
    uint8_t data[64];
    char file_path[TEMP_DIR_BYTES + 128];
    uint64_t version = 0;
    make_history(ROWS, NEWEST);
    for (int round = 0; round < 2; round++) {
        damage(NEWEST);
        damage(NEWEST - 1);
        EXPECT_OK(mend(table, &version, &err));
        assert_int_equal(version, NEWEST - 1);
        expect_sound(NEWEST - 1, 0);
        const char *number = round == 0 ? "" : ".1";
        snprintf(file_path, sizeof(file_path), "%s/a t.lance-18446744073709551611.manifest%s", lost,
                 number);
        assert_int_equal(read_file(file_path, data, sizeof(data)), 7);
        snprintf(file_path, sizeof(file_path), "%s/a t.lance-18446744073709551612.manifest%s", lost,
                 number);
        assert_memory_equal(data, "rubbish", 7);
        assert_int_equal(read_file(file_path, data, sizeof(data)), 7);
    }
    /* Nothing is moved where nothing is damaged. */
    struct mly_lance_manifest *manifest;
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    EXPECT_OK(mly_lance_set_aside(table, manifest, NULL, lost, &err));
    mly_lance_manifest_destroy(manifest);
    expect_sound(NEWEST - 1, 0);
}

/* While we thought that the newest was damaged, another program made a sound one above it. */
static void a_sound_version_is_never_moved(void **state)
{
    (void)state;
    struct mly_lance_unsound unsound;
    struct mly_lance_manifest *manifest;
    uint8_t newest[4096];
    char name[64];
    char file_path[TEMP_DIR_BYTES + 128];
    make_history(ROWS, NEWEST);
    snprintf(name, sizeof(name), "_versions/18446744073709551611.manifest");
    snprintf(file_path, sizeof(file_path), "%s/%s", path, name);
    size_t bytes = read_file(file_path, newest, sizeof(newest));
    damage(NEWEST);
    EXPECT_OK(load_sound(table, &unsound, &manifest, &err));
    temp_dir_write(path, name, newest, bytes);
    EXPECT_OK(mly_lance_set_aside(table, manifest, NULL, lost, &err));
    mly_lance_manifest_destroy(manifest);
    expect_sound(NEWEST, 0);
}

static void a_failure_on_the_way_can_be_tried_again(void **state)
{
    (void)state;
    for (int by_memory = 0; by_memory < 2; by_memory++) {
        bool fired = true;
        for (uint64_t fail_at = 1; fired; fail_at++) {
            struct fault_env own;
            struct mly_lance_table *other;
            uint64_t version;
            make_history(ROWS, NEWEST);
            damage(NEWEST);
            fault_env_init(&own);
            own.fail_errno = EIO;
            EXPECT_OK(mly_lance_table_open(&own.env, path, &other, &err));
            EXPECT_OK(mly_lance_table_set_sums(other, sums_path, &err));
            if (by_memory == 1) {
                own.mem.fail_at = own.mem.calls + fail_at;
            } else {
                own.fail_at = fail_at;
            }
            err.message[0] = '\0';
            enum mly_err rc = mend(other, &version, &err);
            fired = by_memory == 1 ? own.mem.calls >= own.mem.fail_at : own.calls >= fail_at;
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            mly_lance_table_close(other);
            assert_int_equal(own.mem.live, 0);
            assert_int_equal(own.open_count, 0);
            /* Version 4 of before or of now, or 3: each is whole. */
            struct mly_lance_unsound unsound;
            struct mly_lance_manifest *manifest;
            EXPECT_OK(load_sound(table, &unsound, &manifest, &err));
            assert_in_range(mly_lance_manifest_version(manifest), NEWEST - 1, NEWEST);
            mly_lance_manifest_destroy(manifest);
            temp_dir_remove(path);
            temp_dir_remove(sums_path);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_fallback, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_sound_is_taken_as_it_is),
        TEST(every_damage_of_the_newest_manifest_leads_to_the_one_before),
        TEST(damage_of_what_is_not_ours_is_told),
        TEST(where_nothing_is_sound_that_is_told),
        TEST(what_is_damaged_is_kept_elsewhere_and_its_number_used_again),
        TEST(a_sound_version_is_never_moved),
        TEST(a_failure_on_the_way_can_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
