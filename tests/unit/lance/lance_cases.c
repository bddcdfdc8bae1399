#include "lance_cases.h"

#include "base/hash.h"
#include "lance/lance_int.h"
#include "temp_dir.h"

#include <stdio.h>
#include <string.h>

const struct mly_lance_field case_fields[CASE_FIELD_COUNT] = {
    {{"id", 2}, MLY_LANCE_STRING, 0, false, 0},
    {{"vector", 6}, MLY_LANCE_VECTOR, CASE_DIM, true, 1},
    {{"content", 7}, MLY_LANCE_STRING, 0, true, 2},
    {{"n", 1}, MLY_LANCE_INT64, 0, true, 3},
    {{"at", 2}, MLY_LANCE_TIMESTAMP_US, 0, false, 4},
    {{"x", 1}, MLY_LANCE_FLOAT32, 0, true, 5},
    {{"raw", 3}, MLY_LANCE_BINARY, 0, true, 6},
};

void case_expect(enum mly_err got, enum mly_err wanted, const struct mly_error *err)
{
    if (got == wanted) return;
    print_message("got %d, wanted %d: %s\n", (int)got, (int)wanted,
                  got == MLY_OK ? "" : err->message);
    assert_int_equal(got, wanted);
}

/* What row i holds. */
struct row {
    char id[32];
    char content[64];
    float vector[CASE_DIM];
    bool has_vector, has_content, has_n, has_x, has_raw;
    int64_t n, at;
    float x;
    char raw[3];
};

static struct row make_row(uint64_t i)
{
    struct row row = {
        .has_vector = i % 7 != 3,
        .has_content = i % 4 != 1,
        .has_n = i % 3 != 2,
        .has_x = i % 5 != 0,
        .has_raw = i % 2 == 0,
        .n = (int64_t)i * -1000003,
        .at = 1700000000000000 + (int64_t)i,
        .x = (float)i * 0.25f,
        .raw = {(char)i, 0, (char)0xFF},
    };
    snprintf(row.id, sizeof(row.id), "row-%llu", (unsigned long long)i);
    snprintf(row.content, sizeof(row.content), "%.*s", (int)(i % 40),
             "the quick brown fox jumps over the lazy dog");
    for (size_t j = 0; j < CASE_DIM; j++) {
        row.vector[j] = (float)i + (float)j / 8;
    }
    return row;
}

static enum mly_err put_row(struct mly_lance_writer *writer, const struct row *row,
                            struct mly_error *err)
{
    struct mly_str content = row->has_content ? mly_str_of(row->content) : MLY_STR_NULL;
    struct mly_str raw = row->has_raw ? (struct mly_str){row->raw, 3} : MLY_STR_NULL;
    MLY_TRY(mly_lance_put_string(writer, 0, mly_str_of(row->id), err));
    if (row->has_vector) {
        MLY_TRY(mly_lance_put_vector(writer, 1, row->vector, err));
    } else {
        MLY_TRY(mly_lance_put_null(writer, 1, err));
    }
    MLY_TRY(mly_lance_put_string(writer, 2, content, err));
    if (row->has_n) {
        MLY_TRY(mly_lance_put_int64(writer, 3, row->n, err));
    } else {
        MLY_TRY(mly_lance_put_null(writer, 3, err));
    }
    MLY_TRY(mly_lance_put_int64(writer, 4, row->at, err));
    if (row->has_x) {
        MLY_TRY(mly_lance_put_float32(writer, 5, row->x, err));
    } else {
        MLY_TRY(mly_lance_put_null(writer, 5, err));
    }
    return mly_lance_put_string(writer, 6, raw, err);
}

enum mly_err case_write(const struct mly_lance_table *table, uint64_t first, uint64_t count,
                        struct mly_lance_data_file *out, struct mly_error *err)
{
    struct mly_lance_writer *writer = NULL;
    MLY_TRY(mly_lance_writer_open(table, case_fields, CASE_FIELD_COUNT, &writer, err));
    enum mly_err rc = MLY_OK;
    for (uint64_t i = 0; i < count && rc == MLY_OK; i++) {
        struct row row = make_row(first + i);
        rc = put_row(writer, &row, err);
    }
    if (rc == MLY_OK) rc = mly_lance_writer_finish(writer, out, err);
    mly_lance_writer_close(writer);
    return rc;
}

/* Commits, and discards the file where no version has it. */
static enum mly_err commit_file(const struct mly_lance_table *table,
                                const struct mly_lance_manifest *base,
                                struct mly_lance_change *change, uint64_t first, uint64_t count,
                                struct mly_lance_manifest **out, bool *visible,
                                struct mly_error *err)
{
    struct mly_lance_data_file file = {0};
    struct mly_lance_pair mark = {MLY_STR("memalloy.mark"),
                                  base == NULL ? MLY_STR("first") : MLY_STR("second")};
    *visible = false;
    MLY_TRY(case_write(table, first, count, &file, err));
    change->files = &file;
    change->file_count = 1;
    change->config = &mark;
    change->config_count = 1;
    enum mly_err rc = mly_lance_commit(table, base, change, out, visible, err);
    if (!*visible) mly_lance_data_file_discard(table, &file);
    mly_lance_data_file_deinit(&file);
    return rc;
}

enum mly_err case_create(const struct mly_lance_table *table, uint64_t first, uint64_t count,
                         struct mly_lance_manifest **out, bool *visible, struct mly_error *err)
{
    struct mly_lance_change change = {.fields = case_fields, .field_count = CASE_FIELD_COUNT};
    *visible = false;
    MLY_TRY(mly_lance_table_make(table, err));
    return commit_file(table, NULL, &change, first, count, out, visible, err);
}

enum mly_err case_update(const struct mly_lance_table *table, const struct mly_lance_manifest *base,
                         uint64_t count, const uint64_t *dead, size_t dead_count,
                         struct mly_lance_manifest **out, bool *visible, struct mly_error *err)
{
    struct mly_lance_deletions set;
    struct mly_lance_deletion_change deletion = {0, &set};
    struct mly_lance_change change = {.deletions = &deletion, .deletion_count = 1};
    *visible = false;
    size_t fragment_i = mly_lance_manifest_find_fragment(base, 0);
    MLY_TRY(mly_lance_deletions_read(table, base, fragment_i, &set, err));
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < dead_count && rc == MLY_OK; i++) {
        rc = mly_lance_deletions_add(&set, dead[i], err);
    }
    if (rc == MLY_OK) rc = commit_file(table, base, &change, 1000, count, out, visible, err);
    mly_lance_deletions_deinit(&set);
    return rc;
}

static void mix(uint64_t *sum, const void *data, size_t bytes)
{
    uint64_t hash = mly_hash_quick((struct mly_str){bytes == 0 ? "" : data, bytes});
    *sum = *sum * 31 + hash + bytes;
}

static enum mly_err sum_value(const struct mly_lance_fragment *fragment, size_t field_i,
                              const struct mly_lance_field *field, uint64_t row, uint64_t *sum,
                              struct mly_error *err)
{
    struct mly_str text;
    int64_t number;
    float real;
    bool is_null;
    struct mly_lance_vectors vectors;
    /* Asking memory for it changes nothing, whatever the file says. */
    mly_lance_fetch(fragment, field_i, row, false);
    mly_lance_fetch(fragment, field_i, row, true);
    if (row == 0) mly_lance_fetch(fragment, SIZE_MAX - 1, row, true);
    if (row == 0) mly_lance_fetch(fragment, field_i, UINT64_MAX, true);
    switch (field->type) {
    case MLY_LANCE_STRING:
    case MLY_LANCE_BINARY:
        MLY_TRY(mly_lance_get_string(fragment, field_i, row, &text, err));
        mix(sum, text.data, text.bytes);
        *sum += text.data == NULL;
        return MLY_OK;
    case MLY_LANCE_INT64:
    case MLY_LANCE_TIMESTAMP_US:
        MLY_TRY(mly_lance_get_int64(fragment, field_i, row, -1, &number, err));
        mix(sum, &number, sizeof(number));
        return MLY_OK;
    case MLY_LANCE_FLOAT32:
        MLY_TRY(mly_lance_get_float32(fragment, field_i, row, &is_null, &real, err));
        mix(sum, &real, sizeof(real));
        *sum += is_null;
        return MLY_OK;
    case MLY_LANCE_VECTOR:
        MLY_TRY(mly_lance_check_vectors(fragment, field_i, row, 1, err));
        MLY_TRY(mly_lance_get_vectors(fragment, field_i, row, &vectors, err));
        uint64_t i = row - vectors.first_row;
        if (vectors.values == NULL || i >= vectors.row_count) return MLY_OK;
        if (vectors.valid != NULL && (vectors.valid[i >> 3] >> (i & 7) & 1) == 0) return MLY_OK;
        mix(sum, vectors.values + i * vectors.dim, vectors.dim * sizeof(float));
        return MLY_OK;
    case MLY_LANCE_OTHER:
    case MLY_LANCE_UINT64:
    case MLY_LANCE_CODES:
        break;
    }
    return MLY_OK;
}

static enum mly_err sum_fragment(const struct mly_lance_fragment *fragment,
                                 const struct mly_lance_manifest *manifest,
                                 const struct mly_lance_deletions *dead, uint64_t *live,
                                 uint64_t *sum, struct mly_error *err)
{
    for (uint64_t row = 0; row < mly_lance_fragment_row_count(fragment); row++) {
        if (mly_lance_deletions_has(dead, row)) continue;
        (*live)++;
        for (size_t i = 0; i < mly_lance_manifest_field_count(manifest); i++) {
            struct mly_lance_field field;
            mly_lance_manifest_get_field(manifest, i, &field);
            MLY_TRY(sum_value(fragment, i, &field, row, sum, err));
        }
    }
    return MLY_OK;
}

enum mly_err case_sum(const struct mly_lance_table *table,
                      const struct mly_lance_manifest *manifest, uint64_t *live, uint64_t *sum,
                      struct mly_error *err)
{
    *live = 0;
    *sum = 0;
    for (size_t i = 0; i < mly_lance_manifest_fragment_count(manifest); i++) {
        struct mly_lance_fragment *fragment = NULL;
        struct mly_lance_deletions dead;
        MLY_TRY(mly_lance_deletions_read(table, manifest, i, &dead, err));
        enum mly_err rc = mly_lance_fragment_open(table, manifest, i, &fragment, err);
        if (rc == MLY_OK) rc = sum_fragment(fragment, manifest, &dead, live, sum, err);
        mly_lance_fragment_close(fragment);
        mly_lance_deletions_deinit(&dead);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

static void check_text(const struct mly_lance_fragment *fragment, size_t field_i, uint64_t row,
                       struct mly_str expected)
{
    struct mly_error err;
    struct mly_str text;
    EXPECT_OK(mly_lance_get_string(fragment, field_i, row, &text, &err));
    assert_true(mly_str_equal(text, expected));
}

static void check_vector(const struct mly_lance_fragment *fragment, uint64_t at,
                         const struct row *row)
{
    struct mly_error err;
    struct mly_lance_vectors vectors;
    EXPECT_OK(mly_lance_get_vectors(fragment, 1, at, &vectors, &err));
    assert_int_equal(vectors.dim, CASE_DIM);
    assert_true(at >= vectors.first_row && at - vectors.first_row < vectors.row_count);
    uint64_t i = at - vectors.first_row;
    bool valid = vectors.values != NULL &&
                 (vectors.valid == NULL || (vectors.valid[i >> 3] >> (i & 7) & 1) != 0);
    assert_int_equal(valid, row->has_vector);
    if (valid) {
        assert_memory_equal(vectors.values + i * CASE_DIM, row->vector, sizeof(row->vector));
    }
}

void case_check_fragment(const struct mly_lance_fragment *fragment, uint64_t first)
{
    struct mly_error err;
    for (uint64_t at = 0; at < mly_lance_fragment_row_count(fragment); at++) {
        struct row row = make_row(first + at);
        struct mly_str raw = {row.raw, 3};
        int64_t number;
        float real;
        bool is_null;
        check_text(fragment, 0, at, mly_str_of(row.id));
        check_vector(fragment, at, &row);
        check_text(fragment, 2, at, row.has_content ? mly_str_of(row.content) : MLY_STR_NULL);
        EXPECT_OK(mly_lance_get_int64(fragment, 3, at, 77, &number, &err));
        assert_int_equal(number, row.has_n ? row.n : 77);
        EXPECT_OK(mly_lance_get_int64(fragment, 4, at, 77, &number, &err));
        assert_int_equal(number, row.at);
        EXPECT_OK(mly_lance_get_float32(fragment, 5, at, &is_null, &real, &err));
        assert_int_equal(is_null, !row.has_x);
        if (row.has_x) assert_true(real == row.x);
        check_text(fragment, 6, at, row.has_raw ? raw : MLY_STR_NULL);
    }
}

void case_check_rows(const struct mly_lance_table *table, const struct mly_lance_manifest *manifest,
                     size_t fragment_i, uint64_t first)
{
    struct mly_error err;
    struct mly_lance_fragment *fragment;
    EXPECT_OK(mly_lance_fragment_open(table, manifest, fragment_i, &fragment, &err));
    case_check_fragment(fragment, first);
    mly_lance_fragment_close(fragment);
}

void case_check_refused(enum mly_err got, enum mly_err wanted, const char *message,
                        const struct mly_error *err)
{
    case_expect(got, wanted, err);
    if (strstr(err->message, message) == NULL) print_message("%s\n", err->message);
    assert_non_null(strstr(err->message, message));
}

struct mly_lance_manifest *case_exchange(const struct mly_lance_table *table,
                                         const ProtobufCMessage *pb)
{
    struct mly_lance_manifest *manifest;
    struct mly_bytes bytes;
    struct mly_error err;
    char name[LANCE_VERSION_NAME_BYTES], file[LANCE_VERSION_NAME_BYTES + 16];
    mly_bytes_init(&bytes, table->env->mem, MLY_META_BYTES_MAX);
    EXPECT_OK(mly_bytes_append(&bytes, "\5\0\0\0index", 9, &err));
    EXPECT_OK(mly_lance_pack_section(pb, &bytes, &err));
    EXPECT_OK(mly_bytes_append_u64le(&bytes, 9, &err));
    EXPECT_OK(mly_bytes_append_u32le(&bytes, 2u << 16, &err));
    EXPECT_OK(mly_bytes_append(&bytes, "LANC", 4, &err));
    mly_lance_version_name(((const MlyPb__Manifest *)pb)->version, LANCE_NAMING_V2, name);
    snprintf(file, sizeof(file), "_versions/%s", name);
    temp_dir_write(table->path, file, bytes.data, bytes.bytes);
    mly_bytes_deinit(&bytes);
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    return manifest;
}
