/* Sets of dead rows: as Roaring bitmaps, compared with CRoaring where it is there, and as the
 * official library's Arrow files. */
#include "lance_cases.h"

#include "lance/lance_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_ROARING
#include <roaring/roaring.h>
#endif

static struct mly_mem mem;
static struct mly_error err;

/* Shapes of sets over row_count rows. */
enum shape { EVERY_ROW, EVERY_THIRD, FEW, ONE_BLOCK, LAST_ONLY, SHAPES };

static void fill(struct mly_lance_deletions *set, enum shape shape)
{
    for (uint64_t row = 0; row < set->row_count; row++) {
        bool dead = shape == EVERY_ROW || (shape == EVERY_THIRD && row % 3 == 0) ||
                    (shape == FEW && row % 10007 == 5) ||
                    (shape == ONE_BLOCK && row >= 100 && row < 70100) ||
                    (shape == LAST_ONLY && row + 1 == set->row_count);
        if (dead) EXPECT_OK(mly_lance_deletions_add(set, row, &err));
    }
}

static void check_same(const struct mly_lance_deletions *a, const struct mly_lance_deletions *b)
{
    assert_int_equal(a->deleted_count, b->deleted_count);
    for (uint64_t row = 0; row < a->row_count; row++) {
        assert_int_equal(mly_lance_deletions_has(a, row), mly_lance_deletions_has(b, row));
    }
}

static void sets_survive_their_file_form(void **state)
{
    (void)state;
    const uint64_t row_counts[] = {1, 7, 8, 4096, 4097, 65535, 65536, 65537, 200001};
    for (size_t i = 0; i < sizeof(row_counts) / sizeof(row_counts[0]); i++) {
        for (int shape = 0; shape < SHAPES; shape++) {
            struct mly_lance_deletions set, back;
            struct mly_bytes bytes;
            mly_lance_deletions_init(&set, &mem, row_counts[i]);
            mly_lance_deletions_init(&back, &mem, row_counts[i]);
            mly_bytes_init(&bytes, &mem, MLY_META_BYTES_MAX);
            fill(&set, (enum shape)shape);
            EXPECT_OK(mly_lance_roaring_write(&set, &bytes, &err));
            EXPECT_OK(mly_lance_roaring_read(bytes.data, bytes.bytes, &back, &err));
            check_same(&set, &back);
            mly_bytes_deinit(&bytes);
            mly_lance_deletions_deinit(&set);
            mly_lance_deletions_deinit(&back);
        }
    }
    assert_int_equal(mem.live, 0);
}

static void a_copy_is_a_set_of_its_own(void **state)
{
    (void)state;
    struct mly_lance_deletions set, copy;
    mly_lance_deletions_init(&set, &mem, 10);
    EXPECT_OK(mly_lance_deletions_copy(&set, &copy, &err));
    assert_int_equal(copy.deleted_count, 0);
    EXPECT_OK(mly_lance_deletions_add(&set, 3, &err));
    EXPECT_OK(mly_lance_deletions_add(&set, 3, &err));
    assert_int_equal(set.deleted_count, 1);
    EXPECT_OK(mly_lance_deletions_copy(&set, &copy, &err));
    EXPECT_OK(mly_lance_deletions_add(&set, 4, &err));
    assert_true(mly_lance_deletions_has(&copy, 3));
    assert_false(mly_lance_deletions_has(&copy, 4));
    case_expect(mly_lance_deletions_add(&set, 10, &err), MLY_ERR_INVAL, &err);
    assert_false(mly_lance_deletions_has(&set, 10));
    mly_lance_deletions_deinit(&set);
    mly_lance_deletions_deinit(&copy);
    assert_int_equal(mem.live, 0);
}

/* Bytes of a set of 100 rows that none can be read from. */
struct refusal {
    const char *data;
    size_t bytes;
    const char *message;
};

static void check_refusals(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mly_lance_deletions set;
        mly_lance_deletions_init(&set, &mem, 100);
        case_check_refused(
            mly_lance_roaring_read((const uint8_t *)cases[i].data, cases[i].bytes, &set, &err),
            MLY_ERR_CORRUPT, cases[i].message, &err);
        mly_lance_deletions_deinit(&set);
    }
}

static void what_is_no_roaring_bitmap_is_refused(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        {"", 0, "ends at 0"},
        {"\x3a\x30\x00", 3, "ends at 3"},
        {"\x3c\x30\x00\x00\x00\x00\x00\x00", 8, "no Roaring bitmap does"},
        {"\x3a\x30\x00\x00\x01\x00\x00\x00", 8, "were expected"},
        {"\x3a\x30\x00\x00\xff\xff\xff\xff", 8, "limit is 65536"},
        /* one container, key 0, two values, the same twice */
        {"\x3a\x30\0\0\1\0\0\0\0\0\1\0\x10\0\0\0\5\0\5\0", 20, "has 1 rows, not 2"},
        /* row 200 of 100 */
        {"\x3a\x30\0\0\1\0\0\0\0\0\0\0\x10\0\0\0\xc8\0", 18, "names row 200"},
        /* a run from 65535 on of 2 */
        {"\x3b\x30\0\0\1\0\0\1\0\1\0\xff\xff\1\0", 15, "run to 65536"},
    };
    check_refusals(cases, sizeof(cases) / sizeof(cases[0]));
}

/* 5,000 rows in bits, 3 in an array, and both in runs. */
static void rows_beyond_the_fragment_are_refused_in_every_form(void **state)
{
    (void)state;
    static const struct refusal cases[] = {
        /* a run of rows 98 to 102 */
        {"\x3b\x30\0\0\1\0\0\4\0\1\0\x62\0\4\0", 15, "names row 100"},
        /* no run is there, no run's bounds, no bitmap of runs */
        {"\x3b\x30\0\0\1\0\0\4\0", 9, "ends at 9"},
        {"\x3b\x30\0\0\1\0\0\4\0\1\0", 11, "ends at 11"},
        {"\x3b\x30\0\0", 4, "ends at 4"},
        {"\x3b\x30\0\0\1", 5, "ends at 5"},
        /* a container of runs' kind that has none: an array of row 7 */
        {"\x3b\x30\0\0\0\0\0\1\0\7\0", 11, "ends at 11"},
    };
    struct mly_lance_deletions set, small;
    struct mly_bytes bytes;
    check_refusals(cases, sizeof(cases) / sizeof(cases[0]));
    mly_lance_deletions_init(&set, &mem, 5000);
    mly_bytes_init(&bytes, &mem, MLY_META_BYTES_MAX);
    fill(&set, EVERY_ROW);
    EXPECT_OK(mly_lance_roaring_write(&set, &bytes, &err));
    for (uint64_t rows = 1; rows < 20; rows++) {
        mly_lance_deletions_init(&small, &mem, rows);
        case_check_refused(mly_lance_roaring_read(bytes.data, bytes.bytes, &small, &err),
                           MLY_ERR_CORRUPT, "names row", &err);
        mly_lance_deletions_deinit(&small);
    }
    mly_bytes_deinit(&bytes);
    mly_lance_deletions_deinit(&set);
    assert_int_equal(mem.live, 0);
}

/* A copy, and the file's form there and back. */
static enum mly_err copy_write_read(const struct mly_lance_deletions *set)
{
    struct mly_lance_deletions copy, back;
    struct mly_bytes bytes;
    MLY_TRY(mly_lance_deletions_copy(set, &copy, &err));
    mly_lance_deletions_init(&back, &mem, set->row_count);
    mly_bytes_init(&bytes, &mem, MLY_META_BYTES_MAX);
    enum mly_err rc = mly_lance_roaring_write(&copy, &bytes, &err);
    if (rc == MLY_OK) rc = mly_lance_roaring_read(bytes.data, bytes.bytes, &back, &err);
    if (rc == MLY_OK) check_same(set, &back);
    mly_bytes_deinit(&bytes);
    mly_lance_deletions_deinit(&copy);
    mly_lance_deletions_deinit(&back);
    return rc;
}

static void memory_may_end_at_any_allocation(void **state)
{
    (void)state;
    struct mly_lance_deletions set;
    mem.tight = true;
    for (int shape = 0; shape < 2; shape++) {
        mly_lance_deletions_init(&set, &mem, shape == 0 ? 66000 : 200);
        fill(&set, shape == 0 ? ONE_BLOCK : EVERY_ROW);
        int64_t live = mem.live;
        uint64_t failures = 0;
        enum mly_err rc = MLY_ERR_NOMEM;
        for (; rc != MLY_OK; failures++) {
            mem.fail_at = mem.calls + 1 + failures;
            rc = copy_write_read(&set);
            mem.fail_at = 0;
            if (rc != MLY_OK) case_expect(rc, MLY_ERR_NOMEM, &err);
            assert_int_equal(mem.live, live);
        }
        assert_true(failures > 4);
        mly_lance_deletions_deinit(&set);
    }
    mem.tight = false;
    assert_int_equal(mem.live, 0);
}

#ifdef HAVE_ROARING
static void croaring_reads_ours_and_we_read_croaring(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        struct mly_lance_deletions set, back;
        struct mly_bytes bytes;
        mly_lance_deletions_init(&set, &mem, 300000);
        mly_bytes_init(&bytes, &mem, MLY_META_BYTES_MAX);
        fill(&set, (enum shape)shape);
        EXPECT_OK(mly_lance_roaring_write(&set, &bytes, &err));
        roaring_bitmap_t *theirs =
            roaring_bitmap_portable_deserialize_safe((const char *)bytes.data, bytes.bytes);
        assert_non_null(theirs);
        assert_int_equal(roaring_bitmap_get_cardinality(theirs), set.deleted_count);
        for (uint32_t row = 0; row < 130000; row++) {
            assert_int_equal(roaring_bitmap_contains(theirs, row),
                             mly_lance_deletions_has(&set, row));
        }
        for (int with_runs = 0; with_runs < 2; with_runs++) {
            if (with_runs) roaring_bitmap_run_optimize(theirs);
            size_t size = roaring_bitmap_portable_size_in_bytes(theirs);
            char *form = test_malloc(size);
            assert_int_equal(roaring_bitmap_portable_serialize(theirs, form), size);
            mly_lance_deletions_init(&back, &mem, 300000);
            EXPECT_OK(mly_lance_roaring_read((const uint8_t *)form, size, &back, &err));
            check_same(&set, &back);
            mly_lance_deletions_deinit(&back);
            test_free(form);
        }
        roaring_bitmap_free(theirs);
        mly_bytes_deinit(&bytes);
        mly_lance_deletions_deinit(&set);
    }
    assert_int_equal(mem.live, 0);
}
#endif

/* Tables in data/ (make_data.py): what is dead follows from the predicate. */
static void read_official(const char *name, struct mly_lance_deletions *dead)
{
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest;
    char path[512];
    snprintf(path, sizeof(path), "%s/%s.lance", LANCE_DATA, name);
    EXPECT_OK(mly_lance_table_open(mly_env_system(), path, &table, &err));
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    EXPECT_OK(mly_lance_deletions_read(table, manifest, 0, dead, &err));
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

static void official_arrow_files_are_read(void **state)
{
    (void)state;
    struct mly_lance_deletions dead;
    read_official("raw", &dead);
    for (uint64_t row = 0; row < 130; row++) {
        assert_int_equal(mly_lance_deletions_has(&dead, row), row == 0 || row == 3 || row == 129);
    }
    mly_lance_deletions_deinit(&dead);
}

static void official_arrow_files_under_zstd_are_read(void **state)
{
    (void)state;
    struct mly_lance_deletions dead;
    read_official("zstd", &dead);
    for (uint64_t row = 0; row < 130; row++) {
        assert_int_equal(mly_lance_deletions_has(&dead, row), row % 3 != 0 && row % 2 == 0);
    }
    mly_lance_deletions_deinit(&dead);
}

static size_t read_arrow(const char *name, uint8_t *out, size_t bytes_max)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", LANCE_DATA, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t bytes = fread(out, 1, bytes_max, file);
    fclose(file);
    return bytes;
}

static const char *const arrow_files[] = {
    "raw.lance/_deletions/0-3-669056137453236105.arrow",
    "zstd.lance/_deletions/0-1-15889984440528849046.arrow",
};

static enum mly_err try_arrow(const uint8_t *data, size_t bytes)
{
    struct mly_lance_deletions set;
    mly_lance_deletions_init(&set, &mem, 130);
    enum mly_err rc = mly_lance_arrow_read(data, bytes, &set, &err);
    mly_lance_deletions_deinit(&set);
    assert_int_equal(mem.live, 0);
    return rc;
}

/* Whatever stands there: rows of the fragment, or an error with a message. */
static void every_byte_of_an_arrow_file_may_be_any(void **state)
{
    (void)state;
    static uint8_t data[1 << 16];
    uint64_t refused = 0;
    for (size_t file_i = 0; file_i < 2; file_i++) {
        size_t bytes = read_arrow(arrow_files[file_i], data, sizeof(data));
        EXPECT_OK(try_arrow(data, bytes));
        for (size_t i = 0; i < bytes; i++) {
            const uint8_t was = data[i];
            for (unsigned value = 0; value < 256; value++) {
                data[i] = (uint8_t)value;
                err.message[0] = '\0';
                enum mly_err rc = try_arrow(data, bytes);
                assert_true(rc == MLY_OK || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_UNSUPPORTED ||
                            rc == MLY_ERR_LIMIT);
                assert_true(rc == MLY_OK || err.message[0] != '\0');
                refused += rc != MLY_OK;
            }
            data[i] = was;
        }
    }
    print_message("ran: %llu changed bytes refused\n", (unsigned long long)refused);
    assert_true(refused > 1000);
}

static void memory_may_end_at_any_allocation_of_an_arrow_file(void **state)
{
    (void)state;
    static uint8_t data[1 << 16];
    for (size_t file_i = 0; file_i < 2; file_i++) {
        size_t bytes = read_arrow(arrow_files[file_i], data, sizeof(data));
        uint64_t failures = 0;
        enum mly_err rc = MLY_ERR_NOMEM;
        for (; rc != MLY_OK; failures++) {
            mem.fail_at = mem.calls + 1 + failures;
            rc = try_arrow(data, bytes);
            mem.fail_at = 0;
            if (rc != MLY_OK) case_expect(rc, MLY_ERR_NOMEM, &err);
        }
        assert_true(failures >= (file_i == 0 ? 2 : 4));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_survive_their_file_form),
        cmocka_unit_test(a_copy_is_a_set_of_its_own),
        cmocka_unit_test(what_is_no_roaring_bitmap_is_refused),
        cmocka_unit_test(rows_beyond_the_fragment_are_refused_in_every_form),
        cmocka_unit_test(memory_may_end_at_any_allocation),
#ifdef HAVE_ROARING
        cmocka_unit_test(croaring_reads_ours_and_we_read_croaring),
#endif
        cmocka_unit_test(official_arrow_files_are_read),
        cmocka_unit_test(official_arrow_files_under_zstd_are_read),
        cmocka_unit_test(every_byte_of_an_arrow_file_may_be_any),
        cmocka_unit_test(memory_may_end_at_any_allocation_of_an_arrow_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
