/* Rows that come many at once: the same is read as of rows one by one, whatever the pieces were,
 * and a long run of vectors that a thread writes fails as everything else does. */
#include "fault_env.h"
#include "lance_cases.h"
#include "temp_dir.h"
#include "test_pace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DIM = 48, ROWS = 30000 };

static const struct mly_lance_field fields[] = {{MLY_STR("v"), MLY_LANCE_VECTOR, DIM, true, 0},
                                                {MLY_STR("t"), MLY_LANCE_STRING, 0, true, 1},
                                                {MLY_STR("n"), MLY_LANCE_INT64, 0, true, 2},
                                                {MLY_STR("k"), MLY_LANCE_STRING, 0, false, 3},
                                                {MLY_STR("i"), MLY_LANCE_INT64, 0, false, 4}};
enum { FIELDS = sizeof(fields) / sizeof(fields[0]) };

static char folder[TEMP_DIR_BYTES];
static char path[TEMP_DIR_BYTES + 16];
static char sums[TEMP_DIR_BYTES + 16];
static struct fault_env fault;
static struct mly_lance_table *table;
static struct mly_error err;

static float vectors[ROWS][DIM];
static char letters[ROWS][16];
static struct mly_str texts[ROWS], keys[ROWS];
static int64_t numbers[ROWS];
static bool is_null[ROWS];

static int setup(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/a.lance", folder);
    snprintf(sums, sizeof(sums), "%s/sums", folder);
    fault_env_init(&fault);
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t i = 0; i < DIM; i++)
            vectors[row][i] = (float)(row * DIM + i);
        int bytes = snprintf(letters[row], sizeof(letters[row]), "text %zu", row);
        keys[row] = (struct mly_str){letters[row], (size_t)bytes};
        texts[row] = row % 7 == 3 ? MLY_STR_NULL : keys[row];
        numbers[row] = (int64_t)row - 5;
        is_null[row] = row % 5 == 0 || (row >= 9000 && row < 12000);
    }
    EXPECT_OK(mly_lance_table_open(&fault.env, path, &table, &err));
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(mly_lance_table_set_sums(table, sums, &err));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mly_lance_table_close(table);
    temp_dir_remove(folder);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    return 0;
}

/* All rows of every column; vectors_first before the others, as loads do it. */
static enum mly_err put_all(struct mly_lance_writer *writer, size_t piece, size_t run)
{
    for (size_t row = 0; row < ROWS; row += run) {
        size_t count = ROWS - row < run ? ROWS - row : run;
        MLY_TRY(mly_lance_put_vectors(writer, 0, vectors[row], count, &err));
    }
    for (size_t row = 0; row < ROWS;) {
        size_t count = ROWS - row < piece ? ROWS - row : piece;
        size_t nulls = 0;
        while (nulls < count && is_null[row + nulls])
            nulls++;
        MLY_TRY(mly_lance_put_strings(writer, 1, texts + row, count, &err));
        MLY_TRY(mly_lance_put_strings(writer, 3, keys + row, count, &err));
        MLY_TRY(mly_lance_put_int64s(writer, 4, numbers + row, NULL, count, &err));
        MLY_TRY(mly_lance_put_nulls(writer, 2, nulls, &err));
        MLY_TRY(mly_lance_put_int64s(writer, 2, numbers + row + nulls, is_null + row + nulls,
                                     count - nulls, &err));
        row += count;
    }
    return MLY_OK;
}

static void check_row(const struct mly_lance_fragment *fragment, size_t row)
{
    struct mly_lance_vectors page;
    struct mly_str text;
    int64_t number;
    EXPECT_OK(mly_lance_get_vectors(fragment, 0, row, &page, &err));
    EXPECT_OK(mly_lance_check_vectors(fragment, 0, row, 1, &err));
    assert_int_equal(page.first_row % 8, 0);
    assert_null(page.valid);
    assert_memory_equal(page.values + (row - page.first_row) * DIM, vectors[row],
                        sizeof(vectors[row]));
    EXPECT_OK(mly_lance_get_string(fragment, 1, row, &text, &err));
    assert_true(texts[row].data == NULL ? text.data == NULL : mly_str_equal(text, texts[row]));
    EXPECT_OK(mly_lance_get_string(fragment, 3, row, &text, &err));
    assert_true(mly_str_equal(text, keys[row]));
    EXPECT_OK(mly_lance_get_int64(fragment, 2, row, -77, &number, &err));
    assert_int_equal(number, is_null[row] ? -77 : numbers[row]);
    EXPECT_OK(mly_lance_get_int64(fragment, 4, row, -77, &number, &err));
    assert_int_equal(number, numbers[row]);
}

static void pieces_of_any_size_are_read_as_rows(void **state)
{
    (void)state;
    /* Together, in runs for the thread, in runs without it, gathered, and one by one. */
    static const size_t runs[] = {ROWS, 20000, 2048, 777, 1};
    static const size_t pieces[] = {ROWS, 256, 129, 8, 1};
    fault.mem.tight = false; /* many rows: no allocation fails here */
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        struct mly_lance_writer *writer;
        struct mly_lance_data_file file;
        struct mly_lance_manifest *manifest;
        struct mly_lance_fragment *fragment;
        EXPECT_OK(mly_lance_writer_open(table, fields, FIELDS, &writer, &err));
        EXPECT_OK(put_all(writer, pieces[i], runs[i]));
        EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
        mly_lance_writer_close(writer);
        struct mly_lance_change change = {
            .files = &file, .file_count = 1, .fields = fields, .field_count = FIELDS};
        EXPECT_OK(mly_lance_commit(table, NULL, &change, &manifest, NULL, &err));
        EXPECT_OK(mly_lance_fragment_open(table, manifest, 0, &fragment, &err));
        assert_int_equal(mly_lance_fragment_row_count(fragment), ROWS);
        for (size_t row = 0; row < ROWS; row++)
            check_row(fragment, row);
        mly_lance_fragment_close(fragment);
        mly_lance_manifest_destroy(manifest);
        mly_lance_data_file_deinit(&file);
        temp_dir_remove(path);
        temp_dir_remove(sums);
        EXPECT_OK(mly_lance_table_make(table, &err));
    }
}

static void nulls_where_none_may_be_are_refused(void **state)
{
    (void)state;
    struct mly_lance_writer *writer;
    EXPECT_OK(mly_lance_writer_open(table, fields, FIELDS, &writer, &err));
    assert_int_equal(mly_lance_put_nulls(writer, 3, 1, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_lance_put_nulls(writer, 4, 1, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_lance_put_nulls(writer, FIELDS, 1, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_lance_put_strings(writer, 3, texts, 4, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_lance_put_int64s(writer, 4, numbers, is_null, 4, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_lance_put_int64s(writer, 0, numbers, NULL, 4, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_lance_put_vectors(writer, 1, vectors[0], 4, &err), MLY_ERR_INVAL);
    mly_lance_writer_close(writer);
}

/* Numbers and nulls enough for several pages of each column. */
static void pages_that_are_full_are_followed_by_others(void **state)
{
    (void)state;
    enum { LONG = 1200000, STEP = 9973 };
    static const struct mly_lance_field wide[] = {
        {MLY_STR("a"), MLY_LANCE_INT64, 0, true, 0},
        {MLY_STR("b"), MLY_LANCE_INT64, 0, true, 1},
        {MLY_STR("f"), MLY_LANCE_FLOAT32, 0, true, 2},
        {MLY_STR("c"), MLY_LANCE_INT64, 0, false, 3},
    };
    static int64_t values[LONG];
    static bool no_nulls[8];
    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    struct mly_lance_fragment *fragment;
    fault.mem.tight = false;
    for (size_t row = 0; row < LONG; row++)
        values[row] = (int64_t)row * 3;
    EXPECT_OK(mly_lance_writer_open(table, wide, 4, &writer, &err));
    EXPECT_OK(mly_lance_put_int64s(writer, 0, values, NULL, LONG, &err));
    EXPECT_OK(mly_lance_put_nulls(writer, 1, LONG, &err));
    EXPECT_OK(mly_lance_put_nulls(writer, 3, 0, &err)); /* of none there may be */
    for (size_t row = 0; row < LONG; row++)
        EXPECT_OK(mly_lance_put_float32(writer, 2, (float)(row % 1000), &err));
    EXPECT_OK(mly_lance_put_int64s(writer, 3, values, no_nulls, 8, &err));
    EXPECT_OK(mly_lance_put_int64s(writer, 3, values + 8, NULL, LONG - 8, &err));
    EXPECT_OK(mly_lance_writer_finish(writer, &file, &err));
    mly_lance_writer_close(writer);
    EXPECT_OK(mly_lance_fragment_open_file(table, wide, 4, &file, 0, &fragment, &err));
    for (size_t row = 0; row < LONG; row += STEP) {
        int64_t number;
        float real;
        bool null;
        EXPECT_OK(mly_lance_get_int64(fragment, 0, row, -7, &number, &err));
        assert_int_equal(number, values[row]);
        EXPECT_OK(mly_lance_get_int64(fragment, 1, row, -7, &number, &err));
        assert_int_equal(number, -7);
        EXPECT_OK(mly_lance_get_float32(fragment, 2, row, &null, &real, &err));
        assert_true(!null && real == (float)(row % 1000));
        EXPECT_OK(mly_lance_get_int64(fragment, 3, row, -7, &number, &err));
        assert_int_equal(number, values[row]);
    }
    mly_lance_fragment_close(fragment);
    mly_lance_data_file_deinit(&file);
}

/* One run for the thread and few other rows; *reached: the failure was. */
static enum mly_err write_once(bool *finished)
{
    struct mly_lance_writer *writer = NULL;
    struct mly_lance_data_file file = {0};
    *finished = false;
    MLY_TRY(mly_lance_writer_open(table, fields, FIELDS, &writer, &err));
    enum mly_err rc = put_all(writer, ROWS, ROWS);
    if (rc == MLY_OK) rc = mly_lance_writer_finish(writer, &file, &err);
    *finished = rc == MLY_OK;
    mly_lance_writer_close(writer);
    if (rc == MLY_OK) mly_lance_data_file_discard(table, &file);
    mly_lance_data_file_deinit(&file);
    return rc;
}

static void every_failure_of_a_run_is_told(void **state)
{
    (void)state;
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        size_t failed = 0;
        for (uint64_t n = 1;; n += TEST_PACE(1, 5, 7)) {
            int64_t live = fault.mem.live;
            bool finished;
            fault_env_reset(&fault);
            fault.fail_errno = ENOSPC;
            err.message[0] = '\0';
            if (of_memory) fault.mem.fail_at = atomic_load(&fault.mem.calls) + n;
            if (!of_memory) fault.fail_at = n;
            enum mly_err rc = write_once(&finished);
            bool reached = of_memory ? atomic_load(&fault.mem.calls) >= fault.mem.fail_at
                                     : atomic_load(&fault.calls) >= n;
            fault_env_reset(&fault);
            fault.mem.fail_at = 0;
            assert_int_equal(fault.mem.live, live);
            assert_int_equal(fault.open_count, 0);
            failed += rc != MLY_OK;
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            if (!reached) break;
        }
        assert_true(failed > TEST_PACE(10, 3, 2));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_of_any_size_are_read_as_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(nulls_where_none_may_be_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_that_are_full_are_followed_by_others, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_failure_of_a_run_is_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
