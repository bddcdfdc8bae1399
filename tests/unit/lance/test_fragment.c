/* Data files as another writer or damage could make them, and what a manifest says of them. */
#include "lance_place.h"

#include <stdio.h>
#include <string.h>

#define ROWS 10

/* Writes one row of fragment 0 anew with other bytes at its end, and opens it. */
static enum mly_err open_with(const struct mly_lance_manifest *manifest, size_t from_end,
                              const void *bytes, size_t count)
{
    static uint8_t data[1 << 16];
    char file[TEMP_DIR_BYTES + 400];
    struct mly_lance_fragment *fragment;
    struct mly_str name = lance_pb_str(manifest->pb->fragments[0]->files[0]->path);
    snprintf(file, sizeof(file), "%s/data/%.*s", path, (int)name.bytes, name.data);
    FILE *stream = fopen(file, "rb");
    assert_non_null(stream);
    size_t size = fread(data, 1, sizeof(data), stream);
    fclose(stream);
    uint8_t kept[16];
    memcpy(kept, data + size - from_end, count);
    memcpy(data + size - from_end, bytes, count);
    stream = fopen(file, "wb");
    assert_int_equal(fwrite(data, 1, size, stream), size);
    fclose(stream);
    enum mly_err rc = mly_lance_fragment_open(table, manifest, 0, &fragment, &err);
    if (rc == MLY_OK) mly_lance_fragment_close(fragment);
    memcpy(data + size - from_end, kept, count);
    stream = fopen(file, "wb");
    assert_int_equal(fwrite(data, 1, size, stream), size);
    fclose(stream);
    return rc;
}

static void footers_that_cannot_be_are_refused(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(ROWS);
    static const uint16_t versions[][3] = {/* major, minor, is it fine? */
                                           {0, 3, 1}, {2, 0, 1}, {0, 2, 0},
                                           {2, 1, 0}, {1, 0, 0}, {3, 3, 0}};
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        const uint8_t bytes[4] = {(uint8_t)versions[i][0], 0, (uint8_t)versions[i][1], 0};
        enum mly_err rc = open_with(manifest, 8, bytes, 4);
        if (versions[i][2] == 1) {
            EXPECT_OK(rc);
        } else {
            CHECK_REFUSED(rc, MLY_ERR_UNSUPPORTED, "only 2.0 is supported");
        }
    }
    CHECK_REFUSED(open_with(manifest, 4, "LANX", 4), MLY_ERR_CORRUPT, "do not end as a data file");
    CHECK_REFUSED(open_with(manifest, 16, "\0\0\0\0", 4), MLY_ERR_CORRUPT, "0 global buffers");
    CHECK_REFUSED(open_with(manifest, 16, "\xff\xff\xff\xff", 4), MLY_ERR_CORRUPT,
                  "global buffers are not inside");
    CHECK_REFUSED(open_with(manifest, 12, "\xff\xff\xff\xff", 4), MLY_ERR_CORRUPT,
                  "4294967295 columns");
    CHECK_REFUSED(open_with(manifest, 12, "\1\0\0\0", 4), MLY_ERR_CORRUPT,
                  "is said to be column 1 of 1");
    CHECK_REFUSED(open_with(manifest, 24, "\xff\xff\xff\xff\xff\xff\xff\xff", 8), MLY_ERR_CORRUPT,
                  "are not inside it");
    CHECK_REFUSED(open_with(manifest, 32, "\xff\xff\xff\xff\xff\xff\xff\xff", 8), MLY_ERR_CORRUPT,
                  "are not inside it");
    mly_lance_manifest_destroy(manifest);
}

static enum mly_err open_exchanged(const MlyPb__Manifest *pb)
{
    struct mly_lance_fragment *fragment;
    struct mly_lance_manifest *manifest = case_exchange(table, &pb->base);
    enum mly_err rc = mly_lance_fragment_open(table, manifest, 0, &fragment, &err);
    if (rc == MLY_OK) mly_lance_fragment_close(fragment);
    mly_lance_manifest_destroy(manifest);
    return rc;
}

static void what_a_manifest_says_of_a_data_file_is_compared_with_it(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest = create(ROWS);
    MlyPb__DataFile *file = manifest->pb->fragments[0]->files[0];
    EXPECT_OK(open_exchanged(manifest->pb));
    uint64_t bytes = file->file_bytes;
    file->file_bytes++;
    CHECK_REFUSED(open_exchanged(manifest->pb), MLY_ERR_CORRUPT, "bytes, it is said to have");
    file->file_bytes = 0; /* as some writers say "unknown" */
    EXPECT_OK(open_exchanged(manifest->pb));
    file->has_file_bytes = false;
    EXPECT_OK(open_exchanged(manifest->pb));
    file->has_file_bytes = true;
    file->file_bytes = bytes;
    file->column_indices[1] = -1;
    CHECK_REFUSED(open_exchanged(manifest->pb), MLY_ERR_CORRUPT, "is said to be column -1 of 7");
    file->column_indices[1] = 7;
    CHECK_REFUSED(open_exchanged(manifest->pb), MLY_ERR_CORRUPT, "is said to be column 7 of 7");
    file->column_indices[1] = 1;
    file->field_ids[1] = 0;
    CHECK_REFUSED(open_exchanged(manifest->pb), MLY_ERR_CORRUPT, "or is there twice");
    file->field_ids[1] = LANCE_FIELD_TOMBSTONE;
    EXPECT_OK(open_exchanged(manifest->pb)); /* a column that was dropped: null in all rows */
    struct mly_lance_manifest *odd = case_exchange(table, &manifest->pb->base);
    struct mly_lance_fragment *fragment;
    uint64_t file_bytes;
    EXPECT_OK(mly_lance_fragment_open(table, odd, 0, &fragment, &err));
    assert_null(mly_lance_fragment_file_of(fragment, 1, &file_bytes).data);
    assert_non_null(mly_lance_fragment_file_of(fragment, 0, &file_bytes).data);
    struct mly_lance_vectors vectors;
    EXPECT_OK(mly_lance_get_vectors(fragment, 1, 0, &vectors, &err));
    assert_null(vectors.values);
    assert_int_equal(vectors.row_count, ROWS);
    EXPECT_OK(mly_lance_get_vectors(fragment, MLY_LANCE_NO_FIELD, 0, &vectors, &err));
    assert_int_equal(vectors.dim, 0);
    CHECK_REFUSED(mly_lance_get_vectors(fragment, 1, ROWS, &vectors, &err), MLY_ERR_INVAL,
                  "row 10 of a fragment of 10");
    CHECK_REFUSED(mly_lance_get_vectors(fragment, 0, 0, &vectors, &err), MLY_ERR_INVAL,
                  "column id of table");
    float real;
    int64_t number;
    bool is_null;
    CHECK_REFUSED(mly_lance_get_float32(fragment, 0, 0, &is_null, &real, &err), MLY_ERR_INVAL,
                  "column id of table");
    CHECK_REFUSED(mly_lance_get_float32(fragment, 5, ROWS, &is_null, &real, &err), MLY_ERR_INVAL,
                  "row 10 of");
    CHECK_REFUSED(mly_lance_get_int64(fragment, 3, ROWS, 0, &number, &err), MLY_ERR_INVAL,
                  "row 10 of");
    mly_lance_fragment_close(fragment);
    mly_lance_manifest_destroy(odd);
    mly_lance_manifest_destroy(manifest);
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (size_t i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

/* A file with room for a section that is larger than any that is read. */
static void a_section_has_a_limit(void **state)
{
    (void)state;
    const uint64_t section = (uint64_t)MLY_META_BYTES_MAX + 1;
    uint8_t end[16 + LANCE_FOOTER_BYTES] = {0};
    char file[TEMP_DIR_BYTES + 64];
    struct mly_lance_data_file description = {.row_count = 1};
    struct mly_lance_fragment *fragment;
    EXPECT_OK(mly_lance_table_make(table, &err));
    snprintf(description.name, sizeof(description.name), "large.lance");
    description.file_bytes = section + sizeof(end);
    put_u64(end + 8, section);       /* of the global buffer at 0 */
    put_u64(end + 16 + 16, section); /* where that stands */
    end[16 + 24] = 1;
    end[16 + 34] = 3;
    memcpy(end + sizeof(end) - 4, "LANC", 4);
    snprintf(file, sizeof(file), "%s/data/large.lance", path);
    FILE *stream = fopen(file, "wb");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)section, SEEK_SET), 0);
    assert_int_equal(fwrite(end, 1, sizeof(end), stream), sizeof(end));
    fclose(stream);
    CHECK_REFUSED(
        mly_lance_fragment_open_file(table, case_fields, 1, &description, 0, &fragment, &err),
        MLY_ERR_CORRUPT, "global buffer 0 has 268435457 bytes");
    /* And no file is smaller than a footer. */
    temp_dir_write(path, "data/small.lance", end, 39);
    snprintf(description.name, sizeof(description.name), "small.lance");
    description.file_bytes = 39;
    CHECK_REFUSED(
        mly_lance_fragment_open_file(table, case_fields, 1, &description, 0, &fragment, &err),
        MLY_ERR_CORRUPT, "its 39 bytes do not end as a data file");
    description.field_count = SIZE_MAX;
    assert_int_equal(
        mly_lance_fragment_open_file(table, case_fields, 1, &description, 0, &fragment, &err),
        MLY_ERR_CORRUPT);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(footers_that_cannot_be_are_refused),
        TEST(what_a_manifest_says_of_a_data_file_is_compared_with_it),
        TEST(a_section_has_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
