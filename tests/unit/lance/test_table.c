/* Tables as a whole: what is written is read, versions follow one another, losers of a race are
 * told, and nobody's words are lost on the way. */
#include "lance_place.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void no_folder_and_an_empty_folder_are_no_table(void **state)
{
    (void)state;
    bool stale = true;
    assert_null(load());
    EXPECT_OK(mly_lance_manifest_is_stale(table, NULL, &stale, &err));
    assert_false(stale);
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(mly_lance_table_make(table, &err));
    assert_null(load());
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    for (uint64_t rows = 1; rows <= 20; rows += 1 + rows / 4) {
        struct mly_lance_manifest *manifest = create(rows);
        struct mly_lance_fragment_info info;
        assert_int_equal(mly_lance_manifest_version(manifest), 1);
        assert_int_equal(mly_lance_manifest_fragment_count(manifest), 1);
        mly_lance_manifest_get_fragment(manifest, 0, &info);
        assert_int_equal(info.id, 0);
        assert_int_equal(info.row_count, rows);
        assert_int_equal(info.deleted_count, 0);
        assert_true(info.file_bytes > 0);
        case_check_rows(table, manifest, 0, 0);
        mly_lance_manifest_destroy(manifest);
        manifest = load();
        case_check_rows(table, manifest, 0, 0);
        mly_lance_manifest_destroy(manifest);
        temp_dir_remove(path);
    }
}

static void fields_and_config_are_found_by_name(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(3);
    assert_int_equal(mly_lance_manifest_field_count(manifest), CASE_FIELD_COUNT);
    for (size_t i = 0; i < CASE_FIELD_COUNT; i++) {
        struct mly_lance_field field;
        size_t found = mly_lance_manifest_find_field(manifest, case_fields[i].name);
        assert_int_equal(found, i);
        mly_lance_manifest_get_field(manifest, found, &field);
        assert_int_equal(field.type, case_fields[i].type);
        assert_int_equal(field.dim, case_fields[i].dim);
        assert_int_equal(field.nullable, case_fields[i].nullable);
        assert_int_equal(field.id, i);
    }
    assert_int_equal(mly_lance_manifest_find_field(manifest, MLY_STR("ID")), MLY_LANCE_NO_FIELD);
    struct mly_str mark = mly_lance_manifest_config(manifest, MLY_STR("memalloy.mark"));
    assert_true(mly_str_equal(mark, MLY_STR("first")));
    assert_null(mly_lance_manifest_config(manifest, MLY_STR("memalloy.other")).data);
    mly_lance_manifest_destroy(manifest);
}

static void pages_are_cut_by_size_and_found_by_row(void **state)
{
    (void)state;
    struct mly_lance_field fields[] = {{MLY_STR("v"), MLY_LANCE_VECTOR, 1000, true, 0},
                                       {MLY_STR("t"), MLY_LANCE_STRING, 0, true, 1}};
    enum { ROWS = 5000 };
    static float values[1000];
    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    struct mly_lance_manifest *manifest;
    struct mly_lance_fragment *fragment;
    struct mly_lance_vectors vectors = {0};
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(mly_lance_writer_open(table, fields, 2, &writer, &err));
    for (size_t row = 0; row < ROWS; row++) {
        char text[3000];
        memset(text, 'a' + (int)(row % 26), sizeof(text));
        values[0] = (float)row;
        EXPECT_OK(mly_lance_put_vector(writer, 0, values, &err));
        EXPECT_OK(mly_lance_put_string(writer, 1, (struct mly_str){text, row % 3000}, &err));
    }
    EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
    mly_lance_writer_close(writer);
    struct mly_lance_change change = {
        .files = &file, .file_count = 1, .fields = fields, .field_count = 2};
    EXPECT_OK(mly_lance_commit(table, NULL, &change, &manifest, NULL, &err));
    EXPECT_OK(mly_lance_fragment_open(table, manifest, 0, &fragment, &err));
    uint64_t file_bytes;
    struct mly_str name = mly_lance_fragment_file_of(fragment, 1, &file_bytes);
    assert_true(mly_str_equal(name, mly_str_of(file.name)));
    assert_int_equal(file_bytes, file.file_bytes);
    assert_null(mly_lance_fragment_file_of(fragment, 2, &file_bytes).data);
    assert_null(mly_lance_fragment_file_of(fragment, MLY_LANCE_NO_FIELD, &file_bytes).data);
    mly_lance_data_file_deinit(&file);
    size_t pages = 0;
    for (uint64_t row = 0; row < ROWS; row = vectors.first_row + vectors.row_count) {
        EXPECT_OK(mly_lance_get_vectors(fragment, 0, row, &vectors, &err));
        assert_int_equal(vectors.first_row, row);
        assert_int_equal(row % 8, 0);
        assert_true(vectors.row_count * 4000 <= (8u << 20));
        assert_true(vectors.values[0] == (float)row);
        pages++;
    }
    assert_true(pages >= 3);
    for (uint64_t row = 0; row < ROWS; row += 7) {
        struct mly_str text;
        EXPECT_OK(mly_lance_get_string(fragment, 1, row, &text, &err));
        assert_int_equal(text.bytes, row % 3000);
        if (text.bytes > 0) assert_int_equal(text.data[text.bytes - 1], 'a' + (int)(row % 26));
    }
    mly_lance_fragment_close(fragment);
    mly_lance_manifest_destroy(manifest);
}

static void one_commit_adds_and_deletes(void **state)
{
    (void)state;
    struct mly_lance_manifest *first = create(50), *second;
    struct mly_lance_deletions dead;
    bool visible, stale;
    uint64_t rows[] = {0, 49, 7};
    EXPECT_OK(mly_lance_manifest_is_stale(table, first, &stale, &err));
    assert_false(stale);
    EXPECT_OK(case_update(table, first, 5, rows, 3, &second, &visible, &err));
    EXPECT_OK(mly_lance_manifest_is_stale(table, first, &stale, &err));
    assert_true(stale);
    EXPECT_OK(mly_lance_manifest_is_stale(table, second, &stale, &err));
    assert_false(stale);
    assert_int_equal(mly_lance_manifest_version(second), 2);
    assert_int_equal(mly_lance_manifest_fragment_count(second), 2);
    assert_int_equal(mly_lance_manifest_find_fragment(second, 1), 1);
    assert_int_equal(mly_lance_manifest_find_fragment(second, 2), SIZE_MAX);
    assert_true(mly_lance_manifest_same_data(first, second, 0));
    assert_false(mly_lance_manifest_same_deletions(first, second, 0));
    assert_false(mly_lance_manifest_same_data(first, second, 1));
    case_check_rows(table, second, 0, 0);
    case_check_rows(table, second, 1, 1000);
    EXPECT_OK(mly_lance_deletions_read(table, second, 0, &dead, &err));
    assert_int_equal(dead.deleted_count, 3);
    for (uint64_t row = 0; row < 50; row++) {
        assert_int_equal(mly_lance_deletions_has(&dead, row), row == 0 || row == 7 || row == 49);
    }
    mly_lance_deletions_deinit(&dead);
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(second);
}

static void a_fragment_whose_rows_all_die_is_gone_and_its_id_is_not_used_again(void **state)
{
    (void)state;
    struct mly_lance_manifest *first = create(3), *second, *third;
    uint64_t rows[] = {0, 1, 2};
    bool visible;
    EXPECT_OK(case_update(table, first, 2, rows, 3, &second, &visible, &err));
    assert_int_equal(mly_lance_manifest_fragment_count(second), 1);
    assert_int_equal(mly_lance_manifest_find_fragment(second, 0), SIZE_MAX);
    struct mly_lance_deletions set;
    mly_lance_deletions_init(&set, &fault.mem, 2);
    EXPECT_OK(mly_lance_deletions_add(&set, 0, &err));
    EXPECT_OK(mly_lance_deletions_add(&set, 1, &err));
    struct mly_lance_data_file file;
    EXPECT_OK(case_write(table, 9, 1, &file, &err));
    struct mly_lance_deletion_change deletion = {1, &set};
    struct mly_lance_change change = {
        .files = &file, .file_count = 1, .deletions = &deletion, .deletion_count = 1};
    EXPECT_OK(mly_lance_commit(table, second, &change, &third, NULL, &err));
    assert_int_equal(mly_lance_manifest_fragment_count(third), 1);
    assert_int_equal(mly_lance_manifest_find_fragment(third, 2), 0);
    mly_lance_data_file_deinit(&file);
    mly_lance_deletions_deinit(&set);
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(second);
    mly_lance_manifest_destroy(third);
}

static void the_slower_of_two_writers_gets_a_conflict_and_leaves_nothing(void **state)
{
    (void)state;
    struct mly_lance_manifest *base = create(10), *next, *loser = NULL;
    uint64_t rows[] = {1};
    bool visible = true;
    EXPECT_OK(case_update(table, base, 1, rows, 1, &next, &visible, &err));
    rows[0] = 2;
    case_expect(case_update(table, base, 1, rows, 1, &loser, &visible, &err), MLY_ERR_CONFLICT,
                &err);
    assert_non_null(strstr(err.message, "version 2"));
    assert_false(visible);
    assert_null(loser);
    EXPECT_OK(case_update(table, next, 1, rows, 1, &loser, &visible, &err));
    struct mly_lance_fragment_info info;
    mly_lance_manifest_get_fragment(loser, 0, &info);
    assert_int_equal(info.deleted_count, 2);
    mly_lance_manifest_destroy(base);
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(loser);
    case_expect(case_create(table, 0, 1, &loser, &visible, &err), MLY_ERR_CONFLICT, &err);
    /* Two deletion files, three transactions and data files are what three versions name. */
    const char *const folders[] = {"data", "_deletions", "_transactions", "_versions"};
    const size_t counts[] = {3, 2, 3, 4};
    for (size_t i = 0; i < 4; i++) {
        char name[sizeof(path) + 32];
        struct mly_dir dir;
        const char *entry;
        size_t count = 0;
        snprintf(name, sizeof(name), "%s/%s", path, folders[i]);
        EXPECT_OK(mly_dir_open(&fault.env, MLY_AT_CWD, name, &dir, &err));
        for (;;) {
            EXPECT_OK(mly_dir_next(&dir, &entry, &err));
            if (entry == NULL) break;
            count++;
        }
        mly_dir_close(&dir);
        assert_int_equal(count, counts[i]);
    }
}

static void config_is_set_kept_and_removed(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(1), *next;
    struct mly_lance_pair pairs[] = {{MLY_STR("a"), MLY_STR("1")}, {MLY_STR("b"), MLY_STR("")}};
    struct mly_lance_change change = {.config = pairs, .config_count = 2};
    EXPECT_OK(mly_lance_commit(table, manifest, &change, &next, NULL, &err));
    mly_lance_manifest_destroy(manifest);
    manifest = next;
    pairs[0].value = MLY_STR_NULL;
    change.config_count = 1;
    EXPECT_OK(mly_lance_commit(table, manifest, &change, &next, NULL, &err));
    assert_null(mly_lance_manifest_config(next, MLY_STR("a")).data);
    assert_true(mly_str_equal(mly_lance_manifest_config(next, MLY_STR("b")), MLY_STR("")));
    assert_true(
        mly_str_equal(mly_lance_manifest_config(next, MLY_STR("memalloy.mark")), MLY_STR("first")));
    mly_lance_manifest_destroy(manifest);
    mly_lance_manifest_destroy(next);
}

static void a_table_made_anew_is_stale_at_the_same_version(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(1);
    bool stale = false;
    temp_dir_remove(path);
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, &err));
    assert_true(stale);
    struct mly_lance_manifest *anew = create(2);
    EXPECT_OK(mly_lance_manifest_is_stale(table, manifest, &stale, &err));
    assert_true(stale);
    EXPECT_OK(mly_lance_manifest_is_stale(table, anew, &stale, &err));
    assert_false(stale);
    mly_lance_manifest_destroy(manifest);
    mly_lance_manifest_destroy(anew);
}

static enum mly_err open_file(const struct mly_lance_data_file *file,
                              struct mly_lance_fragment **out)
{
    return mly_lance_fragment_open_file(table, case_fields, CASE_FIELD_COUNT, file, UINT32_MAX, out,
                                        &err);
}

static void a_data_file_is_read_before_a_version_names_it(void **state)
{
    (void)state;
    struct mly_lance_data_file file;
    struct mly_lance_fragment *fragment;
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(case_write(table, 7, 30, &file, &err));
    EXPECT_OK(open_file(&file, &fragment));
    assert_int_equal(mly_lance_fragment_id(fragment), UINT32_MAX);
    assert_int_equal(mly_lance_fragment_row_count(fragment), 30);
    case_check_fragment(fragment, 7);
    mly_lance_fragment_close(fragment);
    /* A column that came to the table later is null in this file. */
    struct mly_lance_field fields[CASE_FIELD_COUNT + 1];
    memcpy(fields, case_fields, sizeof(case_fields));
    fields[CASE_FIELD_COUNT] =
        (struct mly_lance_field){MLY_STR("later"), MLY_LANCE_INT64, 0, true, CASE_FIELD_COUNT};
    EXPECT_OK(mly_lance_fragment_open_file(table, fields, CASE_FIELD_COUNT + 1, &file, 5, &fragment,
                                           &err));
    int64_t number;
    EXPECT_OK(mly_lance_get_int64(fragment, CASE_FIELD_COUNT, 29, 77, &number, &err));
    assert_int_equal(number, 77);
    case_check_fragment(fragment, 7);
    mly_lance_fragment_close(fragment);
    /* Out of memory at every request. */
    enum mly_err rc = MLY_ERR_NOMEM;
    for (uint64_t i = 1; rc != MLY_OK; i++) {
        fault.mem.fail_at = fault.mem.calls + i;
        rc = open_file(&file, &fragment);
        if (rc != MLY_OK) case_expect(rc, MLY_ERR_NOMEM, &err);
    }
    fault.mem.fail_at = 0;
    mly_lance_fragment_close(fragment);
    mly_lance_data_file_deinit(&file);
}

static void a_wrong_description_of_a_data_file_is_told(void **state)
{
    (void)state;
    struct mly_lance_data_file file, wrong;
    struct mly_lance_fragment *fragment;
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(case_write(table, 0, 10, &file, &err));
    wrong = file;
    wrong.row_count = 11;
    case_expect(open_file(&wrong, &fragment), MLY_ERR_CORRUPT, &err);
    wrong.row_count = UINT64_MAX;
    case_expect(open_file(&wrong, &fragment), MLY_ERR_CORRUPT, &err);
    wrong = file;
    wrong.file_bytes++;
    case_expect(open_file(&wrong, &fragment), MLY_ERR_CORRUPT, &err);
    wrong = file;
    int32_t ids[CASE_FIELD_COUNT + 1] = {0, 1, 2, 3, 4, 5, 6, 6};
    wrong.field_ids = ids;
    wrong.field_count = CASE_FIELD_COUNT + 1;
    case_expect(open_file(&wrong, &fragment), MLY_ERR_CORRUPT, &err);
    static const char *const names[] = {"", ".x.lance", "a/b.lance", "../x"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        wrong = file;
        snprintf(wrong.name, sizeof(wrong.name), "%s", names[i]);
        case_expect(open_file(&wrong, &fragment), MLY_ERR_CORRUPT, &err);
    }
    wrong = file;
    memset(wrong.name, 'a', sizeof(wrong.name));
    case_expect(open_file(&wrong, &fragment), MLY_ERR_CORRUPT, &err);
    wrong = file;
    wrong.name[0] = 'x';
    case_expect(open_file(&wrong, &fragment), MLY_ERR_NOTFOUND, &err);
    mly_lance_data_file_deinit(&file);
}

static void wrong_use_is_refused(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(2);
    struct mly_lance_fragment *fragment;
    struct mly_str text;
    int64_t number;
    EXPECT_OK(mly_lance_fragment_open(table, manifest, 0, &fragment, &err));
    case_expect(mly_lance_get_string(fragment, 0, 2, &text, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_get_string(fragment, 1, 0, &text, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_get_string(fragment, 99, 0, &text, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_get_int64(fragment, 0, 0, 0, &number, &err), MLY_ERR_INVAL, &err);
    EXPECT_OK(mly_lance_get_int64(fragment, MLY_LANCE_NO_FIELD, 0, -9, &number, &err));
    assert_int_equal(number, -9);
    mly_lance_fragment_close(fragment);
    case_expect(mly_lance_fragment_open(table, manifest, 1, &fragment, &err), MLY_ERR_INVAL, &err);

    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    struct mly_lance_field fields[2] = {case_fields[0], case_fields[3]};
    fields[1].id = 0;
    case_expect(mly_lance_writer_open(table, fields, 2, &writer, &err), MLY_ERR_INVAL, &err);
    fields[1].id = 3;
    EXPECT_OK(mly_lance_writer_open(table, fields, 2, &writer, &err));
    case_expect(mly_lance_put_null(writer, 0, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_put_int64(writer, 0, 1, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_put_int64(writer, 2, 1, &err), MLY_ERR_INVAL, &err);
    EXPECT_OK(mly_lance_put_int64(writer, 1, 1, &err));
    case_expect(mly_lance_writer_finish(writer, &file, &err), MLY_ERR_INVAL, &err);
    mly_lance_writer_close(writer);
    mly_lance_manifest_destroy(manifest);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(no_folder_and_an_empty_folder_are_no_table),
        TEST(what_is_written_is_read),
        TEST(fields_and_config_are_found_by_name),
        TEST(pages_are_cut_by_size_and_found_by_row),
        TEST(one_commit_adds_and_deletes),
        TEST(a_fragment_whose_rows_all_die_is_gone_and_its_id_is_not_used_again),
        TEST(the_slower_of_two_writers_gets_a_conflict_and_leaves_nothing),
        TEST(config_is_set_kept_and_removed),
        TEST(a_table_made_anew_is_stale_at_the_same_version),
        TEST(a_data_file_is_read_before_a_version_names_it),
        TEST(a_wrong_description_of_a_data_file_is_told),
        TEST(wrong_use_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
