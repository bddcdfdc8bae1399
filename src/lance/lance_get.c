/* Values out of an open fragment. A row's page is found by halving; most fragments of ours have a
 * handful of pages. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <string.h>

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

static bool is_null_at(const struct lance_page *page, uint64_t row)
{
    return page == NULL || page->kind == LANCE_PAGE_NULL ||
           (page->valid != NULL && !lance_bit(page->valid, row - page->first_row));
}

enum mly_err mly_lance_get_string(const struct mly_lance_fragment *fragment, size_t field_i,
                                  uint64_t row, struct mly_str *out, struct mly_error *err)
{
    const struct lance_page *page;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_STRING, MLY_LANCE_BINARY, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    if (is_null_at(page, row)) {
        *out = MLY_STR_NULL;
        return MLY_OK;
    }
    uint64_t i = row - page->first_row;
    if (page->kind == LANCE_PAGE_DICTIONARY) {
        uint64_t item = page->values[i];
        if (item == 0) {
            *out = MLY_STR_NULL;
            return MLY_OK;
        }
        i = item - 1;
        if (i >= page->strings.count) {
            enum mly_err rc = mly_fail(err, MLY_ERR_CORRUPT,
                                       "item %" PRIu64 " of a dictionary of "
                                       "%" PRIu64,
                                       item, page->strings.count);
            return fail_row(fragment, field_i, row, rc, err);
        }
    }
    enum mly_err rc = mly_lance_strings_get(&page->strings, i, out, err);
    if (rc != MLY_OK) return fail_row(fragment, field_i, row, rc, err);
    return MLY_OK;
}

enum mly_err mly_lance_get_int64(const struct mly_lance_fragment *fragment, size_t field_i,
                                 uint64_t row, int64_t null_value, int64_t *out,
                                 struct mly_error *err)
{
    const struct lance_page *page;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_INT64, MLY_LANCE_TIMESTAMP_US, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    if (is_null_at(page, row)) {
        *out = null_value;
    } else {
        *out = (int64_t)lance_load_u64(page->values + 8 * (row - page->first_row));
    }
    return MLY_OK;
}

enum mly_err mly_lance_get_float32(const struct mly_lance_fragment *fragment, size_t field_i,
                                   uint64_t row, bool *is_null, float *out, struct mly_error *err)
{
    const struct lance_page *page;
    MLY_TRY(check_type(fragment, field_i, MLY_LANCE_FLOAT32, MLY_LANCE_FLOAT32, err));
    MLY_TRY(find_page(fragment, field_i, row, &page, err));
    *is_null = is_null_at(page, row);
    *out = 0;
    if (!*is_null) {
        uint32_t bits = lance_load_u32(page->values + 4 * (row - page->first_row));
        memcpy(out, &bits, sizeof(bits));
    }
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
    out->values = (const float *)(const void *)page->values;
    out->valid = page->valid;
    return MLY_OK;
}
