/* What a caller may ask for and must not get, and tables as other programs leave them: commits,
 * fields and rows that are refused, and those odd ones that are not. */
#include "lance_place.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ROWS 10

/* ---- names of tables ---- */

static void a_table_has_a_path_of_some_length(void **state)
{
    (void)state;
    struct mly_lance_table *other = NULL;
    static char long_path[MLY_PATH_BYTES_MAX + 1];
    memset(long_path, 'p', MLY_PATH_BYTES_MAX);
    CHECK_REFUSED(mly_lance_table_open(&fault.env, "", &other, &err), MLY_ERR_LIMIT,
                  "table path of 0 bytes");
    CHECK_REFUSED(mly_lance_table_open(&fault.env, long_path, &other, &err), MLY_ERR_LIMIT,
                  "table path of 4096 bytes");
    assert_null(other);
    EXPECT_OK(mly_lance_table_open(&fault.env, "/a//", &other, &err));
    assert_string_equal(mly_lance_table_path(other), "/a");
    CHECK_REFUSED(mly_lance_table_set_sums(other, "", &err), MLY_ERR_LIMIT, "path of 0 bytes");
    CHECK_REFUSED(mly_lance_table_set_sums(other, long_path, &err), MLY_ERR_LIMIT,
                  "path of 4096 bytes");
    mly_lance_table_close(other);
    EXPECT_OK(mly_lance_table_open(&fault.env, "/", &other, &err));
    assert_string_equal(mly_lance_table_path(other), "/");
    mly_lance_table_close(other);
    mly_lance_table_close(NULL);
    /* What fits here and not there the system refuses. */
    long_path[MLY_PATH_BYTES_MAX - 1] = '\0';
    struct mly_lance_manifest *manifest;
    EXPECT_OK(mly_lance_table_open(&fault.env, long_path, &other, &err));
    assert_int_equal(mly_lance_manifest_load(other, &manifest, &err), MLY_ERR_IO);
    mly_lance_table_close(other);
}

/* ---- commits ---- */

static void commits_that_say_nothing_or_too_much_are_refused(void **state)
{
    (void)state;
    struct mly_lance_pair pair = {MLY_STR("k"), MLY_STR("v")};
    struct mly_lance_change change = {.config = &pair, .config_count = 1};
    struct mly_lance_deletions set;
    struct mly_lance_deletion_change dead[2] = {{0, &set}, {0, &set}};
    struct mly_lance_field fields[CASE_FIELD_COUNT];
    const enum mly_err inval = MLY_ERR_INVAL;
    EXPECT_OK(mly_lance_table_make(table, &err));
    mly_lance_deletions_init(&set, fault.env.mem, ROWS);
    CHECK_REFUSED(mly_lance_commit(table, NULL, &change, NULL, NULL, &err), inval,
                  "fields are given at creation and only there");
    memcpy(fields, case_fields, sizeof(fields));
    change.fields = fields;
    change.field_count = CASE_FIELD_COUNT;
    change.deletions = dead;
    change.deletion_count = 1;
    CHECK_REFUSED(mly_lance_commit(table, NULL, &change, NULL, NULL, &err), inval,
                  "a new table has nothing to delete");
    change.deletion_count = 0;
    fields[2].id = 9;
    CHECK_REFUSED(mly_lance_commit(table, NULL, &change, NULL, NULL, &err), inval,
                  "field 2 of a new table has id 9");
    fields[2].id = 2;
    EXPECT_OK(mly_lance_commit(table, NULL, &change, NULL, NULL, &err)); /* without a row */
    struct mly_lance_manifest *manifest;
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), inval,
                  "fields are given at creation and only there");
    change.fields = NULL;
    pair.key = MLY_STR_NULL;
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), inval,
                  "configuration 0 has no key");
    pair.key = MLY_STR(MLY_LANCE_OWN_KEY);
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), inval,
                  "memalloy.version is set by every commit itself");
    change.config_count = 0;
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), inval,
                  "there is nothing to commit");
    change.deletions = dead;
    change.deletion_count = 1;
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), inval,
                  "there is no fragment 0");
    mly_lance_manifest_destroy(manifest);
    mly_lance_deletions_deinit(&set);
}

static void deletions_must_add_something_to_a_fragment_once(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(ROWS), *next = NULL;
    struct mly_lance_deletions set, other;
    struct mly_lance_deletion_change dead[2] = {{0, &set}, {1, &other}};
    struct mly_lance_change change = {.deletions = dead, .deletion_count = 1};
    struct mly_lance_data_file file;
    mly_lance_deletions_init(&set, fault.env.mem, ROWS + 1);
    mly_lance_deletions_init(&other, fault.env.mem, 3);
    EXPECT_OK(mly_lance_deletions_add(&set, 1, &err));
    EXPECT_OK(mly_lance_deletions_add(&other, 1, &err));
    assert_false(mly_lance_deletions_has(&set, ROWS + 1));
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), MLY_ERR_INVAL,
                  "a set of 1 of 11 adds nothing");
    mly_lance_deletions_deinit(&set);
    mly_lance_deletions_init(&set, fault.env.mem, ROWS);
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), MLY_ERR_INVAL,
                  "a set of 0 of 10 adds nothing");
    EXPECT_OK(mly_lance_deletions_add(&set, 1, &err));
    EXPECT_OK(case_write(table, 50, 3, &file, &err));
    struct mly_lance_change append = {.files = &file, .file_count = 1};
    EXPECT_OK(mly_lance_commit(table, manifest, &append, &next, NULL, &err)); /* rows alone */
    mly_lance_manifest_destroy(manifest);
    change.deletion_count = 2;
    dead[1].fragment_id = 0;
    CHECK_REFUSED(mly_lance_commit(table, next, &change, NULL, NULL, &err), MLY_ERR_INVAL,
                  "deletions of fragment 0 are given twice");
    dead[1].fragment_id = 1;
    EXPECT_OK(mly_lance_commit(table, next, &change, &manifest, NULL, &err)); /* deletions alone */
    mly_lance_manifest_destroy(next);
    uint64_t live, sum;
    EXPECT_OK(case_sum(table, manifest, &live, &sum, &err));
    assert_int_equal(live, ROWS + 3 - 2);
    CHECK_REFUSED(mly_lance_deletions_read(table, manifest, 2, &set, &err), MLY_ERR_INVAL,
                  "fragment 2 of 2");
    mly_lance_manifest_destroy(manifest);
    mly_lance_data_file_deinit(&file);
    mly_lance_deletions_deinit(&set);
    mly_lance_deletions_deinit(&other);
}

static void a_file_must_have_what_takes_no_null_and_nothing_else(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(ROWS);
    EXPECT_OK(mly_lance_adopt(table, manifest, NULL, &err)); /* there are no sums to make */
    struct mly_lance_field fields[2] = {case_fields[3], case_fields[5]};
    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    struct mly_lance_change change = {.files = &file, .file_count = 1};
    EXPECT_OK(mly_lance_writer_open(table, fields, 1, &writer, &err));
    EXPECT_OK(mly_lance_put_int64(writer, 0, 1, &err));
    EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
    mly_lance_writer_close(writer);
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), MLY_ERR_INVAL,
                  "column id takes no null and");
    mly_lance_data_file_discard(table, &file);
    mly_lance_data_file_deinit(&file);
    /* What takes null may be missing. */
    struct mly_lance_field needed[2] = {case_fields[0], case_fields[4]};
    EXPECT_OK(mly_lance_writer_open(table, needed, 2, &writer, &err));
    EXPECT_OK(mly_lance_put_string(writer, 0, MLY_STR("x"), &err));
    EXPECT_OK(mly_lance_put_int64(writer, 1, 1, &err));
    EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
    mly_lance_writer_close(writer);
    struct mly_lance_manifest *next;
    EXPECT_OK(mly_lance_commit(table, manifest, &change, &next, NULL, &err));
    mly_lance_manifest_destroy(manifest);
    manifest = next;
    mly_lance_data_file_deinit(&file);
    struct mly_lance_field extra[CASE_FIELD_COUNT + 1];
    memcpy(extra, case_fields, sizeof(case_fields));
    extra[CASE_FIELD_COUNT] =
        (struct mly_lance_field){MLY_STR("more"), MLY_LANCE_INT64, 0, true, CASE_FIELD_COUNT};
    EXPECT_OK(mly_lance_writer_open(table, extra, CASE_FIELD_COUNT + 1, &writer, &err));
    EXPECT_OK(mly_lance_put_string(writer, 0, MLY_STR("x"), &err));
    EXPECT_OK(mly_lance_put_int64(writer, 4, 1, &err));
    static const size_t nullable[] = {1, 2, 3, 5, 6, 7};
    for (size_t i = 0; i < sizeof(nullable) / sizeof(nullable[0]); i++)
        EXPECT_OK(mly_lance_put_null(writer, nullable[i], &err));
    EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
    mly_lance_writer_close(writer);
    CHECK_REFUSED(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), MLY_ERR_INVAL,
                  "has 1 columns that the table does not have");
    mly_lance_data_file_discard(table, &file);
    mly_lance_data_file_deinit(&file);
    mly_lance_manifest_destroy(manifest);
}

static void what_others_wrote_is_committed_on_where_it_can_be(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(ROWS), *odd, *next;
    struct mly_lance_fragment_info info;
    struct mly_lance_data_file file;
    struct mly_lance_change change = {.files = &file, .file_count = 1};
    MlyPb__Manifest pb = *manifest->pb;
    MlyPb__NamedVersion format = MLY_PB__NAMED_VERSION__INIT;
    EXPECT_OK(case_write(table, 50, 3, &file, &err));
    pb.has_writer_flags = true;
    pb.writer_flags = 1 << 20;
    odd = case_exchange(table, &pb.base);
    CHECK_REFUSED(mly_lance_commit(table, odd, &change, NULL, NULL, &err), MLY_ERR_UNSUPPORTED,
                  "writing the table needs features 0x100000");
    mly_lance_manifest_destroy(odd);
    pb.writer_flags = 0;
    pb.data_format = NULL;
    odd = case_exchange(table, &pb.base);
    CHECK_REFUSED(mly_lance_commit(table, odd, &change, NULL, NULL, &err), MLY_ERR_UNSUPPORTED,
                  "data files are of another kind");
    mly_lance_manifest_destroy(odd);
    format.has_version = true;
    format.version = lance_pb_data(MLY_STR("2.1 and something that is not printed"));
    pb.data_format = &format;
    odd = case_exchange(table, &pb.base);
    CHECK_REFUSED(mly_lance_commit(table, odd, &change, NULL, NULL, &err), MLY_ERR_UNSUPPORTED,
                  "data files are 2.1 and something that is not pr, only");
    mly_lance_manifest_destroy(odd);
    pb.data_format = manifest->pb->data_format;
    pb.has_fragment_id_max = true;
    pb.fragment_id_max = UINT32_MAX;
    odd = case_exchange(table, &pb.base);
    CHECK_REFUSED(mly_lance_commit(table, odd, &change, NULL, NULL, &err), MLY_ERR_LIMIT,
                  "fragment 4294967297, limit is");
    mly_lance_manifest_destroy(odd);
    /* It does not say the largest id, and has an index that is none of ours. */
    pb.has_fragment_id_max = false;
    pb.has_index_section = true;
    pb.index_section = 0;
    odd = case_exchange(table, &pb.base);
    EXPECT_OK(mly_lance_commit(table, odd, &change, &next, NULL, &err));
    mly_lance_manifest_get_fragment(next, 1, &info);
    assert_int_equal(info.id, 1);
    assert_int_equal(next->index_section_bytes, 5);
    assert_memory_equal(next->index_section, "index", 5);
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(odd);
    mly_lance_manifest_destroy(manifest);
    mly_lance_data_file_deinit(&file);
}

/* Tables of other programs have only the folders that they needed. */
static void folders_are_made_where_they_are_missing(void **state)
{
    (void)state;
    char file[TEMP_DIR_BYTES + 64];
    struct mly_lance_manifest *manifest = create(ROWS), *next;
    uint64_t dead = 1;
    bool visible;
    snprintf(file, sizeof(file), "%s/_deletions", path);
    assert_int_equal(rmdir(file), 0);
    EXPECT_OK(case_update(table, manifest, 2, &dead, 1, &next, &visible, &err));
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(manifest);
}

/* ---- fields and writers ---- */

static void fields_that_cannot_be_written_are_refused(void **state)
{
    (void)state;
    static char long_name[200];
    memset(long_name, 'n', sizeof(long_name) - 1);
    const struct {
        struct mly_lance_field field;
        const char *message;
    } cases[] = {
        {{MLY_STR_NULL, MLY_LANCE_INT64, 0, true, 1}, "field 1 has no name"},
        {{MLY_STR(""), MLY_LANCE_INT64, 0, true, 1}, "field 1 has no name"},
        {{MLY_STR("a"), MLY_LANCE_OTHER, 0, true, 1}, "field a has a type that is not written"},
        {{MLY_STR("a"), MLY_LANCE_INT64, 0, true, -1}, "field a has id -1"},
        {{MLY_STR("a"), MLY_LANCE_INT64, 1, true, 1}, "field a has dimension 1, limit is 0"},
        {{MLY_STR("a"), MLY_LANCE_VECTOR, 0, true, 1}, "field a has dimension 0, limit is 65536"},
        {{MLY_STR("a"), MLY_LANCE_VECTOR, 65537, true, 1}, "field a has dimension 65537"},
        {{MLY_STR("a"), MLY_LANCE_INT64, 0, true, 0}, "field a (id 0) is there twice"},
        {{MLY_STR("id"), MLY_LANCE_INT64, 0, true, 1}, "field id (id 1) is there twice"},
        {{{long_name, 199}, MLY_LANCE_OTHER, 0, true, 1}, "nnn has a type that is not written"},
    };
    struct mly_lance_writer *writer = NULL;
    EXPECT_OK(mly_lance_table_make(table, &err));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mly_lance_field fields[2] = {case_fields[0], cases[i].field};
        CHECK_REFUSED(mly_lance_writer_open(table, fields, 2, &writer, &err), MLY_ERR_INVAL,
                      cases[i].message);
    }
    CHECK_REFUSED(mly_lance_writer_open(table, case_fields, 0, &writer, &err), MLY_ERR_INVAL,
                  "a table needs at least one field");
    assert_null(writer);
}

static void a_writer_takes_rows_until_it_is_complete(void **state)
{
    (void)state;
    const struct mly_lance_field fields[] = {case_fields[0], case_fields[1]};
    const float vector[CASE_DIM] = {0};
    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(mly_lance_writer_open(table, fields, 2, &writer, &err));
    CHECK_REFUSED(mly_lance_writer_finish(writer, &file, &err), MLY_ERR_INVAL,
                  "a data file needs at least one row");
    CHECK_REFUSED(mly_lance_put_vector(writer, 2, vector, &err), MLY_ERR_INVAL, "column 2 of 2");
    CHECK_REFUSED(mly_lance_put_null(writer, 2, &err), MLY_ERR_INVAL, "column 2 of 2");
    CHECK_REFUSED(mly_lance_put_float32(writer, 0, 1, &err), MLY_ERR_INVAL,
                  "column id has another type");
    struct mly_str huge = {(const char *)fields, MLY_META_BYTES_MAX + 1};
    CHECK_REFUSED(mly_lance_put_string(writer, 0, huge, &err), MLY_ERR_LIMIT,
                  "text of 268435457 bytes");
    EXPECT_OK(mly_lance_put_string(writer, 0, MLY_STR("a"), &err));
    EXPECT_OK(mly_lance_put_string(writer, 0, MLY_STR("b"), &err));
    EXPECT_OK(mly_lance_put_vector(writer, 1, vector, &err));
    CHECK_REFUSED(mly_lance_writer_complete(writer, &err), MLY_ERR_INVAL,
                  "column vector has 1 rows, column id 2");
    EXPECT_OK(mly_lance_put_null(writer, 1, &err));
    EXPECT_OK(mly_lance_writer_complete(writer, &err));
    EXPECT_OK(mly_lance_writer_complete(writer, &err));
    assert_int_equal(mly_lance_put_null(writer, 1, &err), MLY_ERR_INVAL);
    EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
    struct mly_lance_data_file again;
    CHECK_REFUSED(mly_lance_writer_finish(writer, &again, &err), MLY_ERR_INVAL,
                  "the data file is finished already");
    mly_lance_writer_close(writer);
    mly_lance_data_file_deinit(&file);
}

/* A text larger than a page gets a page of its own, the first one too. */
static enum mly_err write_large(struct mly_lance_data_file *file)
{
    static char large[LANCE_PAGE_BYTES + 1000];
    struct mly_lance_writer *writer;
    memset(large, 'x', sizeof(large));
    MLY_TRY(mly_lance_writer_open(table, case_fields, 1, &writer, &err));
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < 3 && rc == MLY_OK; i++)
        rc = mly_lance_put_string(writer, 0, (struct mly_str){large, sizeof(large)}, &err);
    if (rc == MLY_OK) rc = mly_lance_writer_finish(writer, file, &err);
    mly_lance_writer_close(writer);
    return rc;
}

static void a_value_may_be_larger_than_a_page(void **state)
{
    (void)state;
    struct mly_lance_data_file file = {0};
    struct mly_lance_fragment *fragment;
    struct mly_str text;
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(write_large(&file));
    EXPECT_OK(mly_lance_fragment_open_file(table, case_fields, 1, &file, 0, &fragment, &err));
    for (uint64_t row = 0; row < 3; row++) {
        EXPECT_OK(mly_lance_get_string(fragment, 0, row, &text, &err));
        assert_int_equal(text.bytes, LANCE_PAGE_BYTES + 1000);
    }
    mly_lance_fragment_close(fragment);
    mly_lance_data_file_discard(table, &file);
    mly_lance_data_file_deinit(&file);
    /* A disk that is full in the midst of it. */
    uint64_t failures = 0;
    for (fault.fail_errno = ENOSPC;; failures++) {
        fault.fail_at = fault.calls + 1 + failures;
        fault.fail_forever = true;
        enum mly_err rc = write_large(&file);
        bool fired = fault.calls >= fault.fail_at;
        fault_env_reset(&fault);
        if (!fired) {
            EXPECT_OK(rc);
            break;
        }
        if (rc == MLY_OK) {
            mly_lance_data_file_discard(table, &file);
            mly_lance_data_file_deinit(&file);
        } else {
            case_expect(rc, MLY_ERR_IO, &err);
        }
        assert_true(failures < 100);
    }
    assert_true(failures > 5);
    mly_lance_data_file_deinit(&file);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_table_has_a_path_of_some_length),
        TEST(commits_that_say_nothing_or_too_much_are_refused),
        TEST(deletions_must_add_something_to_a_fragment_once),
        TEST(a_file_must_have_what_takes_no_null_and_nothing_else),
        TEST(what_others_wrote_is_committed_on_where_it_can_be),
        TEST(folders_are_made_where_they_are_missing),
        TEST(fields_that_cannot_be_written_are_refused),
        TEST(a_writer_takes_rows_until_it_is_complete),
        TEST(a_value_may_be_larger_than_a_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
