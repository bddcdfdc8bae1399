/* Values out of an open fragment. A row's page is found by halving; most fragments of ours have a
 * handful of pages. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <string.h>

/* Of a text; the processor goes on by itself. */
#define FETCHED_BYTES ((size_t)512)

/* *page is NULL where the field has no column here: null. */
static enum mly_err find_page(const struct mly_lance_fragment *fragment, size_t field_i,
                              uint64_t row, const struct lance_page **page, struct mly_error *err)
{
    *page = NULL;
    if (row >= fragment->row_count) {
        return mly_fail(err, MLY_ERR_INVAL, "row %" PRIu64 " of a fragment of %" PRIu64, row,
                        fragment->row_count);
    }
    if (field_i == MLY_LANCE_NO_FIELD) return MLY_OK;
    const struct lance_column *column = &fragment->columns[field_i];
    if (column->page_count == 0) return MLY_OK;
    size_t low = 0, high = column->page_count - 1;
    while (low < high) {
        size_t middle = low + (high - low + 1) / 2;
        if (column->pages[middle].first_row <= row) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    *page = &column->pages[low];
    return MLY_OK;
}

static enum mly_err check_type(const struct mly_lance_fragment *fragment, size_t field_i,
                               enum mly_lance_type a, enum mly_lance_type b, struct mly_error *err)
{
    if (field_i == MLY_LANCE_NO_FIELD) return MLY_OK;
    if (field_i >= fragment->column_count) {
        return mly_fail(err, MLY_ERR_INVAL, "field %zu of %zu", field_i, fragment->column_count);
    }
    const struct mly_lance_field *field = &fragment->columns[field_i].field;
    if (field->type == a || field->type == b) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "column %.100s of table %s has another type",
                    field->name.data, fragment->table->path);
}

static enum mly_err fail_row(const struct mly_lance_fragment *fragment, size_t field_i,
                             uint64_t row, enum mly_err rc, struct mly_error *err)
{
    const struct lance_column *column = &fragment->columns[field_i];
    return mly_fail_in(err, rc, "%s/data/%s, column %.100s, row %" PRIu64, fragment->table->path,
                       fragment->files[column->file_i].name.data, column->field.name.data, row);
}

/* Bytes of the field's page that are about to be used: are they what was written? */
static enum mly_err check(const struct mly_lance_fragment *fragment, size_t field_i, const void *at,
                          uint64_t bytes, struct mly_error *err)
{
    return lance_check(&fragment->files[fragment->columns[field_i].file_i], at, bytes, err);
}

static enum mly_err read_null(const struct mly_lance_fragment *fragment, size_t field_i,
                              const struct lance_page *page, uint64_t row, bool *is_null,
                              struct mly_error *err)
{
    *is_null = page == NULL || page->kind == LANCE_PAGE_NULL;
    if (*is_null || page->valid == NULL) return MLY_OK;
    uint64_t i = row - page->first_row;
    MLY_TRY(check(fragment, field_i, page->valid + i / 8, 1, err));
    *is_null = !lance_bit(page->valid, i);
    return MLY_OK;
}

/* The number of the item that a row of a dictionary page has; *is_null where it has none. */
static enum mly_err read_item(const struct mly_lance_fragment *fragment, size_t field_i,
                              const struct lance_page *page, uint64_t row, uint64_t *item_i,
                              bool *is_null, struct mly_error *err)
{
    const uint8_t *at = page->values + (row - page->first_row);
    MLY_TRY(check(fragment, field_i, at, 1, err));
    uint64_t item = *at;
    *is_null = item == 0;
    if (item <= page->strings.count) {
        *item_i = item - 1;
        return MLY_OK;
    }
    enum mly_err rc = mly_fail(err, MLY_ERR_CORRUPT,
                               "item %" PRIu64 " of a dictionary of "
                               "%" PRIu64,
                               item, page->strings.count);
    return fail_row(fragment, field_i, row, rc, err);
}

enum mly_err mly_lance_get_string(const struct mly_lance_fragment *fragment, size_t field_i,
                                  uint64_t row, struct mly_str *out, struct mly_error *err)
{
    const struct lance_page *page;
    bool is_null;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_STRING, MLY_LANCE_BINARY, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    MLY_TRY(read_null(fragment, field_i, page, row, &is_null, err));
    uint64_t i = is_null ? 0 : row - page->first_row;
    if (!is_null && page->kind == LANCE_PAGE_DICTIONARY) {
        MLY_TRY(read_item(fragment, field_i, page, row, &i, &is_null, err));
    }
    *out = MLY_STR_NULL;
    if (is_null) return MLY_OK;
    /* A string begins where the one before it ends. */
    uint64_t first_end = i == 0 ? 0 : i - 1;
    MLY_TRY(
        check(fragment, field_i, page->strings.ends + 8 * first_end, 8 * (i - first_end + 1), err));
    struct mly_str found;
    enum mly_err rc = mly_lance_strings_get(&page->strings, i, &found, err);
    if (rc != MLY_OK) return fail_row(fragment, field_i, row, rc, err);
    if (found.data != NULL) MLY_TRY(check(fragment, field_i, found.data, found.bytes, err));
    *out = found;
    return MLY_OK;
}

void mly_lance_fetch(const struct mly_lance_fragment *fragment, size_t field_i, uint64_t row,
                     bool is_there)
{
    const struct lance_page *page;
    if (field_i != MLY_LANCE_NO_FIELD && field_i >= fragment->column_count) return;
    if (find_page(fragment, field_i, row, &page, NULL) != MLY_OK || page == NULL) return;
    const uint64_t i = row - page->first_row;
    struct mly_str text;
    if (page->kind == LANCE_PAGE_FLAT && !is_there) {
        __builtin_prefetch(page->values + 8 * i);
    } else if (page->kind == LANCE_PAGE_DICTIONARY && !is_there) {
        __builtin_prefetch(page->values + i);
    } else if (page->kind == LANCE_PAGE_BINARY && !is_there) {
        __builtin_prefetch(page->strings.ends + 8 * i);
    } else if (page->kind == LANCE_PAGE_BINARY && i < page->strings.count &&
               mly_lance_strings_get(&page->strings, i, &text, NULL) == MLY_OK &&
               text.data != NULL) {
        for (size_t at = 0; at < text.bytes && at < FETCHED_BYTES; at += 64)
            __builtin_prefetch(text.data + at);
    }
    if (page->valid != NULL && !is_there) __builtin_prefetch(page->valid + i / 8);
}

enum mly_err mly_lance_get_int64(const struct mly_lance_fragment *fragment, size_t field_i,
                                 uint64_t row, int64_t null_value, int64_t *out,
                                 struct mly_error *err)
{
    const struct lance_page *page;
    bool is_null;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_INT64, MLY_LANCE_TIMESTAMP_US, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    MLY_TRY(read_null(fragment, field_i, page, row, &is_null, err));
    *out = null_value;
    if (is_null) return MLY_OK;
    const uint8_t *at = page->values + 8 * (row - page->first_row);
    MLY_TRY(check(fragment, field_i, at, 8, err));
    *out = (int64_t)mly_get_u64le(at);
    return MLY_OK;
}

enum mly_err mly_lance_get_float32(const struct mly_lance_fragment *fragment, size_t field_i,
                                   uint64_t row, bool *is_null, float *out, struct mly_error *err)
{
    const struct lance_page *page;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_FLOAT32, MLY_LANCE_FLOAT32, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    MLY_TRY(read_null(fragment, field_i, page, row, is_null, err));
    *out = 0;
    if (*is_null) return MLY_OK;
    const uint8_t *at = page->values + 4 * (row - page->first_row);
    MLY_TRY(check(fragment, field_i, at, 4, err));
    uint32_t bits = mly_get_u32le(at);
    memcpy(out, &bits, sizeof(bits));
    return MLY_OK;
}

enum mly_err mly_lance_get_vectors(const struct mly_lance_fragment *fragment, size_t field_i,
                                   uint64_t row, struct mly_lance_vectors *out,
                                   struct mly_error *err)
{
    const struct lance_page *page;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_VECTOR, MLY_LANCE_VECTOR, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    *out = (struct mly_lance_vectors){.row_count = (size_t)fragment->row_count};
    if (field_i != MLY_LANCE_NO_FIELD) out->dim = fragment->columns[field_i].field.dim;
    if (page == NULL) return MLY_OK;
    out->first_row = page->first_row;
    out->row_count = (size_t)page->row_count;
    if (page->kind == LANCE_PAGE_NULL) return MLY_OK;
    if (page->valid != NULL) {
        MLY_TRY(check(fragment, field_i, page->valid, (page->row_count + 7) / 8, err));
    }
    out->values = (const float *)(const void *)page->values;
    out->valid = page->valid;
    return MLY_OK;
}

enum mly_err mly_lance_check_vectors(const struct mly_lance_fragment *fragment, size_t field_i,
                                     uint64_t row, uint64_t count, struct mly_error *err)
{
    const struct lance_page *page;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_VECTOR, MLY_LANCE_VECTOR, err));
    for (uint64_t end = row + count; row < end;) {
        MLY_TRY(find_page(fragment, field_i, row, &page, err));
        if (page == NULL) return MLY_OK;
        uint64_t page_end = page->first_row + page->row_count;
        uint64_t part = (page_end < end ? page_end : end) - row;
        uint64_t row_bytes = (uint64_t)fragment->columns[field_i].field.dim * sizeof(float);
        if (page->kind != LANCE_PAGE_NULL) {
            MLY_TRY(check(fragment, field_i, page->values + (row - page->first_row) * row_bytes,
                          part * row_bytes, err));
        }
        row += part;
    }
    return MLY_OK;
}
