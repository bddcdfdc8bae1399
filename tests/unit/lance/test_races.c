/* What changes while it is read: versions that go between being listed and being opened, a table
 * that is made anew, another program's version in the midst of mending; and bytes that change in a
 * file that is open. */
#include "lance_place.h"
#include "test_pace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 10

/* The next so many manifests that are to be opened are gone by then. */
static uint64_t vanishing;
static int vanish_errno;
static int (*real_open)(void *context, int dir_fd, const char *name, uint32_t flags);

static int open_or_vanish(void *context, int dir_fd, const char *name, uint32_t flags)
{
    if (vanishing > 0 && (flags & MLY_OPEN_CREATE) == 0 && strstr(name, ".manifest") != NULL) {
        vanishing--;
        return -vanish_errno;
    }
    return real_open(context, dir_fd, name, flags);
}

static int setup_race(void **state)
{
    int rc = setup(state);
    real_open = fault.env.open;
    fault.env.open = open_or_vanish;
    vanishing = 0;
    vanish_errno = ENOENT;
    return rc;
}

static void a_version_that_goes_while_it_is_looked_for_is_looked_for_again(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = NULL;
    struct mly_lance_unsound unsound;
    make_history(ROWS, 3);
    vanishing = LANCE_LOAD_TRIES - 1;
    manifest = load();
    mly_lance_manifest_destroy(manifest);
    vanishing = LANCE_LOAD_TRIES;
    assert_int_equal(mly_lance_manifest_load(table, &manifest, &err), MLY_ERR_NOTFOUND);
    vanishing = LANCE_LOAD_TRIES - 1;
    EXPECT_OK(mly_lance_manifest_load_sound(table, &manifest, &unsound, &err));
    mly_lance_manifest_destroy(manifest);
    vanishing = LANCE_LOAD_TRIES;
    assert_int_equal(mly_lance_manifest_load_sound(table, &manifest, &unsound, &err),
                     MLY_ERR_NOTFOUND);
    assert_int_equal(vanishing, 0);
}

static void cleaning_goes_on_without_a_version_that_went(void **state)
{
    (void)state;
    struct mly_lance_keep keep = {.versions = 1};
    struct mly_lance_cleaned report;
    make_history(ROWS, 4);
    vanishing = 1;
    EXPECT_OK(mly_lance_clean(table, &keep, &report, &err));
    assert_false(report.is_frozen);
    vanishing = 1;
    vanish_errno = EIO;
    make_history(ROWS, 1);
    assert_int_equal(mly_lance_clean(table, &keep, &report, &err), MLY_ERR_IO);
}

static void there_is_nothing_before_the_first_version(void **state)
{
    (void)state;
    make_history(ROWS, 1);
    struct mly_lance_manifest *manifest = load(), *before = NULL;
    CHECK_REFUSED(mly_lance_manifest_load_before(table, manifest, &before, &err), MLY_ERR_NOTFOUND,
                  "there is nothing before version 1");
    assert_null(before);
    mly_lance_manifest_destroy(manifest);
    temp_dir_remove(path);
    make_history(ROWS, 3);
    manifest = load();
    EXPECT_OK(mly_lance_manifest_load_before(table, manifest, &before, &err));
    assert_int_equal(mly_lance_manifest_version(before), 2);
    mly_lance_manifest_destroy(before);
    mly_lance_manifest_destroy(manifest);
}

static void a_table_is_stale_once_it_is_another(void **state)
{
    (void)state;
    char file[TEMP_DIR_BYTES + 96], name[LANCE_VERSION_NAME_BYTES];
    bool stale;
    make_history(ROWS, 1);
    struct mly_lance_manifest *manifest = load();
    mly_lance_version_name(1, LANCE_NAMING_V2, name);
    snprintf(file, sizeof(file), "%s/_versions/%s", path, name);
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, NULL));
    assert_false(stale);
    struct mly_file_info was = manifest->info;
    manifest->info.modified_ns++; /* written in its place */
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, &err));
    assert_true(stale);
    manifest->info = was;
    manifest->info.bytes++;
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, &err));
    assert_true(stale);
    manifest->info = was;
    manifest->info.device++; /* another file system is mounted there */
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, &err));
    assert_true(stale);
    manifest->info = was;
    fault.fail_errno = EIO;
    for (uint64_t call = 1; call <= 2; call++) {
        fault.fail_at = fault.calls + call;
        assert_int_equal(mly_lance_manifest_is_stale(table, manifest, &stale, &err), MLY_ERR_IO);
    }
    assert_int_equal(unlink(file), 0);
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, &err));
    assert_true(stale);
    mly_lance_manifest_destroy(manifest);
}

static void versions_of_either_naming_are_read(void **state)
{
    (void)state;
    char from[TEMP_DIR_BYTES + 96], to[TEMP_DIR_BYTES + 96], name[LANCE_VERSION_NAME_BYTES];
    bool visible;
    make_history(ROWS, 1);
    mly_lance_version_name(1, LANCE_NAMING_V2, name);
    snprintf(from, sizeof(from), "%s/_versions/%s", path, name);
    snprintf(to, sizeof(to), "%s/_versions/1.manifest", path);
    assert_int_equal(rename(from, to), 0);
    struct mly_lance_manifest *manifest = load(), *next;
    uint64_t dead = 3;
    EXPECT_OK(case_update(table, manifest, 2, &dead, 1, &next, &visible, &err));
    snprintf(to, sizeof(to), "%s/_versions/2.manifest", path);
    assert_int_equal(access(to, F_OK), 0);
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(manifest);
    manifest = load();
    assert_int_equal(mly_lance_manifest_version(manifest), 2);
    mly_lance_manifest_destroy(manifest);
}

/* What is not a file at all. */
static void a_folder_is_no_manifest(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = NULL;
    make_history(ROWS, 1);
    temp_dir_remove(path);
    EXPECT_OK(mly_lance_table_make(table, &err));
    char file[TEMP_DIR_BYTES + 96];
    snprintf(file, sizeof(file), "%s/_versions/1.manifest", path);
    EXPECT_OK(mly_dir_make(&fault.env, MLY_AT_CWD, file, &err));
    CHECK_REFUSED(mly_lance_manifest_load(table, &manifest, &err), MLY_ERR_CORRUPT,
                  "not a regular file");
}

/* ---- setting aside ---- */

/* Versions above base go, if also is the newest of them as it was loaded. */
static enum mly_err set_aside(struct mly_lance_table *on, uint64_t base,
                              const struct mly_lance_manifest *also)
{
    char lost[TEMP_DIR_BYTES + 16];
    struct mly_lance_manifest *manifest;
    snprintf(lost, sizeof(lost), "%s/lost", folder);
    EXPECT_OK(mly_lance_load_version(on, base, LANCE_NAMING_V2, &manifest, &err));
    enum mly_err rc = mly_lance_set_aside(on, manifest, also, lost, &err);
    mly_lance_manifest_destroy(manifest);
    return rc;
}

static void a_sound_version_goes_where_it_is_the_one_that_is_meant(void **state)
{
    (void)state;
    make_history(ROWS, 3);
    struct mly_lance_manifest *newest = load();
    assert_int_equal(mly_lance_manifest_version(newest), 3);
    newest->info.modified_ns++; /* it was exchanged meanwhile */
    EXPECT_OK(set_aside(table, 2, newest));
    newest->info.modified_ns--;
    struct mly_lance_manifest *still = load();
    assert_int_equal(mly_lance_manifest_version(still), 3);
    mly_lance_manifest_destroy(still);
    EXPECT_OK(set_aside(table, 2, newest));
    still = load();
    assert_int_equal(mly_lance_manifest_version(still), 2);
    /* Another one is not meant. */
    EXPECT_OK(set_aside(table, 1, newest));
    mly_lance_manifest_destroy(still);
    still = load();
    assert_int_equal(mly_lance_manifest_version(still), 2);
    mly_lance_manifest_destroy(still);
    mly_lance_manifest_destroy(newest);
}

static void setting_aside_can_fail_at_every_call(void **state)
{
    (void)state;
    bool fired = true;
    fault.fail_errno = EIO;
    for (uint64_t fail_at = 1; fired; fail_at++) {
        temp_dir_remove(path);
        make_history(ROWS, 3);
        struct mly_lance_manifest *newest = load(), *base, *now;
        EXPECT_OK(mly_lance_load_version(table, 2, LANCE_NAMING_V2, &base, &err));
        char lost[TEMP_DIR_BYTES + 16];
        snprintf(lost, sizeof(lost), "%s/lost", folder);
        temp_dir_remove(lost);
        fault.fail_at = fault.calls + fail_at;
        enum mly_err rc = mly_lance_set_aside(table, base, newest, lost, &err);
        fired = fault.calls >= fault.fail_at;
        fault.fail_at = 0;
        if (!fired) EXPECT_OK(rc);
        now = load();
        uint64_t version = mly_lance_manifest_version(now);
        assert_true(rc == MLY_OK ? version == 2 : version == 2 || version == 3);
        mly_lance_manifest_destroy(now);
        mly_lance_manifest_destroy(base);
        mly_lance_manifest_destroy(newest);
        assert_true(fail_at < 100);
    }
}

/* The name of what is set aside has the table's in it, with and without a folder before it. */
static void a_table_may_be_named_from_the_working_folder(void **state)
{
    (void)state;
    char was[TEMP_DIR_BYTES * 4], file[TEMP_DIR_BYTES + 96], name[LANCE_VERSION_NAME_BYTES];
    struct mly_lance_table *here;
    make_history(ROWS, 2);
    struct mly_lance_manifest *newest = load();
    assert_non_null(getcwd(was, sizeof(was)));
    assert_int_equal(chdir(folder), 0);
    EXPECT_OK(mly_lance_table_open(&fault.env, "a t.lance", &here, &err));
    EXPECT_OK(set_aside(here, 1, newest));
    mly_lance_table_close(here);
    assert_int_equal(chdir(was), 0);
    mly_lance_version_name(2, LANCE_NAMING_V2, name);
    snprintf(file, sizeof(file), "%s/lost/a t.lance-%s", folder, name);
    assert_int_equal(access(file, F_OK), 0);
    mly_lance_manifest_destroy(newest);
}

/* ---- bytes that change under us ---- */

#define MANY_ROWS 30000

/* Reads column by column: the rows that could be read, or a refusal. */
static void read_column(const struct mly_lance_fragment *fragment, size_t field_i,
                        uint64_t *refused)
{
    for (uint64_t row = 0; row < MANY_ROWS; row += 97) {
        struct mly_str text;
        struct mly_lance_vectors vectors;
        int64_t number;
        float real;
        bool is_null;
        enum mly_err rc = MLY_OK;
        switch (case_fields[field_i].type) {
        case MLY_LANCE_STRING:
        case MLY_LANCE_BINARY:
            rc = mly_lance_get_string(fragment, field_i, row, &text, &err);
            break;
        case MLY_LANCE_VECTOR:
            rc = mly_lance_get_vectors(fragment, field_i, row, &vectors, &err);
            if (rc == MLY_OK) rc = mly_lance_check_vectors(fragment, field_i, row, 1, &err);
            break;
        case MLY_LANCE_FLOAT32:
            rc = mly_lance_get_float32(fragment, field_i, row, &is_null, &real, &err);
            break;
        default:
            rc = mly_lance_get_int64(fragment, field_i, row, 0, &number, &err);
        }
        if (rc == MLY_OK) continue;
        case_expect(rc, MLY_ERR_CORRUPT, &err);
        (*refused)++;
    }
}

static void write_at(const char *file, long offset, uint8_t flip)
{
    FILE *stream = fopen(file, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, offset, SEEK_SET), 0);
    int byte = fgetc(stream);
    assert_int_equal(fseek(stream, offset, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ flip, stream), EOF);
    fclose(stream);
}

/* Wherever a byte is another one: it is met where it is read, whatever column it belongs to. */
static void every_kind_of_value_is_compared_with_its_sums(void **state)
{
    (void)state;
    struct mly_lance_data_file file;
    char name[TEMP_DIR_BYTES + 128];
    uint64_t refused[CASE_FIELD_COUNT] = {0}, unopened = 0;
    fault.mem.tight = false; /* many rows: no allocation fails here */
    EXPECT_OK(mly_lance_table_set_sums(table, sums_path, &err));
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(case_write(table, 0, MANY_ROWS, &file, &err));
    snprintf(name, sizeof(name), "%s/data/%s", path, file.name);
    for (uint64_t offset = 0; offset < file.file_bytes; offset += 3001 * TEST_PACE(1, 5, 7)) {
        struct mly_lance_fragment *fragment;
        write_at(name, (long)offset, 0x20);
        enum mly_err rc = mly_lance_fragment_open_file(table, case_fields, CASE_FIELD_COUNT, &file,
                                                       0, &fragment, &err);
        unopened += rc != MLY_OK;
        if (rc == MLY_OK) {
            for (size_t i = 0; i < CASE_FIELD_COUNT; i++)
                read_column(fragment, i, &refused[i]);
            mly_lance_fragment_close(fragment);
        } else {
            case_expect(rc, MLY_ERR_CORRUPT, &err);
        }
        write_at(name, (long)offset, 0x20);
    }
    for (size_t i = 0; i < CASE_FIELD_COUNT; i++)
        assert_true(refused[i] > 0);
    assert_true(unopened > 0);
    mly_lance_data_file_deinit(&file);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_race, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_version_that_goes_while_it_is_looked_for_is_looked_for_again),
        TEST(cleaning_goes_on_without_a_version_that_went),
        TEST(there_is_nothing_before_the_first_version),
        TEST(a_table_is_stale_once_it_is_another),
        TEST(versions_of_either_naming_are_read),
        TEST(a_folder_is_no_manifest),
        TEST(a_sound_version_goes_where_it_is_the_one_that_is_meant),
        TEST(setting_aside_can_fail_at_every_call),
        TEST(a_table_may_be_named_from_the_working_folder),
        TEST(every_kind_of_value_is_compared_with_its_sums),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
