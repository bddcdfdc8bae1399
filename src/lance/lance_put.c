/* Rows for the writer, many at once: each column gathers them in its page, and a page that is full
 * goes to the file. Values of one column come together, so that what must be asked is asked once
 * for all of them; long runs of vectors go to the file from where they stand. */
#include "lance/lance_int.h"
#include "lance/lance_writer_int.h"

#include "base/endian.h"

#include <inttypes.h>
#include <string.h>

/* A run of vectors of that many bytes becomes a page as it is. */
#define RUN_BYTES_MIN ((size_t)256 << 10)

/* ---- what they share ---- */

static enum mly_err find_column(struct mly_lance_writer *writer, size_t column_i,
                                enum mly_lance_type a, enum mly_lance_type b, size_t count,
                                struct lance_column_writer **out, struct mly_error *err)
{
    if (column_i >= writer->column_count || writer->is_complete) {
        return mly_fail(err, MLY_ERR_INVAL, "column %zu of %zu", column_i, writer->column_count);
    }
    struct lance_column_writer *column = &writer->columns[column_i];
    if (column->field.type != a && column->field.type != b) {
        return mly_fail(err, MLY_ERR_INVAL, "column %.100s has another type",
                        column->field.name.data);
    }
    /* An index has the rows of many fragments. */
    if (writer->extra == NULL &&
        (count > MLY_FRAGMENT_ROWS_MAX || column->rows > MLY_FRAGMENT_ROWS_MAX - count)) {
        return mly_fail(err, MLY_ERR_LIMIT, "a fragment takes %zu rows", MLY_FRAGMENT_ROWS_MAX);
    }
    *out = column;
    return MLY_OK;
}

/* Rows that still fit into the page. Pages of vectors begin at rows that are multiples of 8, so
 * that scans take the bits of dead rows as they stand. */
static size_t rows_left(const struct lance_column_writer *column, size_t value_bytes)
{
    size_t rows = LANCE_PAGE_BYTES / value_bytes;
    if (column->field.type == MLY_LANCE_VECTOR && rows >= 8) rows = rows / 8 * 8;
    if (rows == 0) rows = 1; /* a row that is larger than a page */
    return column->page_rows >= rows ? 0 : rows - (size_t)column->page_rows;
}

/* Values of rows; room was made. */
static void add_values(struct lance_column_writer *column, const void *values, size_t bytes)
{
    memcpy(column->values.data + column->values.bytes, values, bytes);
    column->values.bytes += bytes;
}

/* Bits of count rows more, set where is_null (NULL: none) says no; room was made. */
static void add_bits(struct lance_column_writer *column, const bool *is_null, size_t count)
{
    size_t first = (size_t)column->page_rows;
    size_t bytes = (first + count + 7) / 8;
    memset(column->valid.data + column->valid.bytes, 0, bytes - column->valid.bytes);
    column->valid.bytes = bytes;
    uint8_t *bits = column->valid.data;
    size_t nulls = 0;
    for (size_t i = 0; i < count; i++) {
        size_t row = first + i;
        if (is_null == NULL && row % 8 == 0 && count - i >= 8) {
            bits[row >> 3] = 0xFF;
            i += 7;
            continue;
        }
        bool null = is_null != NULL && is_null[i];
        nulls += null;
        bits[row >> 3] |= (uint8_t)((unsigned)!null << (row & 7));
    }
    column->page_nulls += nulls;
    column->page_rows += count;
    column->rows += count;
}

static enum mly_err reserve(struct lance_column_writer *column, size_t count, size_t value_bytes,
                            size_t text_bytes, struct mly_error *err)
{
    MLY_TRY(mly_bytes_reserve(&column->values, count * value_bytes, err));
    MLY_TRY(mly_bytes_reserve(&column->bytes, text_bytes, err));
    return mly_bytes_reserve(&column->valid, count / 8 + 1, err);
}

static enum mly_err fail_null(const struct lance_column_writer *column, size_t i,
                              struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_INVAL, "column %.100s takes no null, row %" PRIu64 " is one",
                    column->field.name.data, column->rows + i);
}

static enum mly_err check_nulls(const struct lance_column_writer *column, const bool *is_null,
                                size_t count, struct mly_error *err)
{
    if (is_null == NULL || column->field.nullable) return MLY_OK;
    for (size_t i = 0; i < count; i++) {
        if (is_null[i]) return fail_null(column, i, err);
    }
    return MLY_OK;
}

/* ---- numbers ---- */

enum mly_err mly_lance_put_int64s(struct mly_lance_writer *writer, size_t column_i,
                                  const int64_t *values, const bool *is_null, size_t count,
                                  struct mly_error *err)
{
    struct lance_column_writer *column = NULL;
    MLY_TRY(find_column(writer, column_i, MLY_LANCE_INT64, MLY_LANCE_TIMESTAMP_US, count, &column,
                        err));
    MLY_TRY(check_nulls(column, is_null, count, err));
    for (size_t at = 0; at < count;) {
        size_t part = rows_left(column, 8);
        if (part == 0) {
            MLY_TRY(mly_lance_flush_page(writer, column, err));
            continue;
        }
        if (part > count - at) part = count - at;
        MLY_TRY(reserve(column, part, 8, 0, err));
        uint8_t *to = column->values.data + column->values.bytes;
        for (size_t i = 0; i < part; i++) {
            bool null = is_null != NULL && is_null[at + i];
            mly_put_u64le(to + 8 * i, null ? 0 : (uint64_t)values[at + i]);
        }
        column->values.bytes += 8 * part;
        add_bits(column, is_null == NULL ? NULL : is_null + at, part);
        at += part;
    }
    return MLY_OK;
}

enum mly_err mly_lance_put_int64(struct mly_lance_writer *writer, size_t column_i, int64_t value,
                                 struct mly_error *err)
{
    return mly_lance_put_int64s(writer, column_i, &value, NULL, 1, err);
}

enum mly_err mly_lance_put_float32(struct mly_lance_writer *writer, size_t column_i, float value,
                                   struct mly_error *err)
{
    struct lance_column_writer *column = NULL;
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    MLY_TRY(find_column(writer, column_i, MLY_LANCE_FLOAT32, MLY_LANCE_FLOAT32, 1, &column, err));
    if (rows_left(column, 4) == 0) MLY_TRY(mly_lance_flush_page(writer, column, err));
    MLY_TRY(reserve(column, 1, 4, 0, err));
    mly_put_u32le(column->values.data + column->values.bytes, bits);
    column->values.bytes += 4;
    add_bits(column, NULL, 1);
    return MLY_OK;
}

/* ---- of indices ---- */

enum mly_err mly_lance_put_raw(struct mly_lance_writer *writer, size_t column_i, const void *values,
                               size_t row_count, struct mly_error *err)
{
    struct lance_column_writer *column = NULL;
    const uint8_t *at = values;
    MLY_TRY(
        find_column(writer, column_i, MLY_LANCE_UINT64, MLY_LANCE_CODES, row_count, &column, err));
    const size_t bytes = lance_value_bytes(&column->field);
    while (row_count > 0) {
        size_t part = rows_left(column, bytes);
        if (part == 0) {
            MLY_TRY(mly_lance_flush_page(writer, column, err));
            continue;
        }
        if (part > row_count) part = row_count;
        MLY_TRY(reserve(column, part, bytes, 0, err));
        add_values(column, at, part * bytes);
        add_bits(column, NULL, part);
        at += part * bytes;
        row_count -= part;
    }
    return MLY_OK;
}

/* ---- vectors ---- */

/* How many rows of those at hand become pages where they stand; 0: they are gathered. */
static size_t run_rows(const struct lance_column_writer *column, size_t bytes, size_t count)
{
    size_t full = rows_left(column, bytes);
    if (column->page_rows > 0 || full % 8 != 0) return 0;
    if (count % 8 == 0 && count >= RUN_BYTES_MIN / bytes) return count;
    return count / full * full;
}

enum mly_err mly_lance_put_vectors(struct mly_lance_writer *writer, size_t column_i,
                                   const float *values, size_t count, struct mly_error *err)
{
    struct lance_column_writer *column = NULL;
    MLY_TRY(find_column(writer, column_i, MLY_LANCE_VECTOR, MLY_LANCE_VECTOR, count, &column, err));
    const size_t dim = column->field.dim;
    const size_t bytes = dim * sizeof(float);
    while (count > 0) {
        size_t part = run_rows(column, bytes, count);
        if (part > 0) {
            size_t full = rows_left(column, bytes);
            MLY_TRY(mly_lance_write_run(writer, column, values, part, full, err));
        } else {
            part = rows_left(column, bytes);
            if (part == 0) {
                MLY_TRY(mly_lance_flush_page(writer, column, err));
                continue;
            }
            if (part > count) part = count;
            MLY_TRY(reserve(column, part, bytes, 0, err));
            add_values(column, values, part * bytes);
            add_bits(column, NULL, part);
        }
        values += part * dim;
        count -= part;
    }
    return MLY_OK;
}

enum mly_err mly_lance_put_vector(struct mly_lance_writer *writer, size_t column_i,
                                  const float *values, struct mly_error *err)
{
    return mly_lance_put_vectors(writer, column_i, values, 1, err);
}

/* ---- texts ---- */

/* As many of the values as fit into the page, at least one where it is empty; *bytes: of them. */
static size_t texts_left(const struct lance_column_writer *column, const struct mly_str *values,
                         size_t count, size_t *bytes)
{
    size_t page = column->values.bytes + column->bytes.bytes;
    size_t fit = 0;
    *bytes = 0;
    for (; fit < count; fit++) {
        size_t more = values[fit].data == NULL ? 0 : values[fit].bytes;
        bool is_first = fit == 0 && column->page_rows == 0;
        if (page + *bytes + 8 * fit + 8 + more > LANCE_PAGE_BYTES && !is_first) break;
        *bytes += more;
    }
    return fit;
}

static enum mly_err check_texts(const struct lance_column_writer *column,
                                const struct mly_str *values, size_t count, struct mly_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (values[i].data == NULL) {
            if (!column->field.nullable) return fail_null(column, i, err);
        } else if (values[i].bytes > MLY_META_BYTES_MAX) {
            return mly_fail(err, MLY_ERR_LIMIT, "text of %zu bytes, limit is %zu", values[i].bytes,
                            MLY_META_BYTES_MAX);
        }
    }
    return MLY_OK;
}

static void copy_texts(struct lance_column_writer *column, const struct mly_str *values,
                       size_t count)
{
    uint8_t *ends = column->values.data + column->values.bytes;
    uint8_t *texts = column->bytes.data;
    size_t end = column->bytes.bytes;
    for (size_t i = 0; i < count; i++) {
        bool is_null = values[i].data == NULL;
        size_t bytes = is_null ? 0 : values[i].bytes;
        if (bytes > 0) memcpy(texts + end, values[i].data, bytes);
        end += bytes;
        mly_put_u64le(ends + 8 * i, end);
    }
    column->values.bytes += 8 * count;
    column->bytes.bytes = end;
}

enum mly_err mly_lance_put_strings(struct mly_lance_writer *writer, size_t column_i,
                                   const struct mly_str *values, size_t count,
                                   struct mly_error *err)
{
    struct lance_column_writer *column = NULL;
    MLY_TRY(find_column(writer, column_i, MLY_LANCE_STRING, MLY_LANCE_BINARY, count, &column, err));
    MLY_TRY(check_texts(column, values, count, err));
    while (count > 0) {
        bool is_null[256];
        size_t bytes;
        size_t most = count < sizeof(is_null) ? count : sizeof(is_null);
        size_t part = texts_left(column, values, most, &bytes);
        if (part == 0) {
            MLY_TRY(mly_lance_flush_page(writer, column, err));
            continue;
        }
        MLY_TRY(reserve(column, part, 8, bytes, err));
        copy_texts(column, values, part);
        for (size_t i = 0; i < part; i++)
            is_null[i] = values[i].data == NULL;
        add_bits(column, is_null, part);
        values += part;
        count -= part;
    }
    return MLY_OK;
}

enum mly_err mly_lance_put_string(struct mly_lance_writer *writer, size_t column_i,
                                  struct mly_str value, struct mly_error *err)
{
    return mly_lance_put_strings(writer, column_i, &value, 1, err);
}

/* ---- nulls ---- */

static enum mly_err put_null_texts(struct mly_lance_writer *writer, size_t column_i, size_t count,
                                   struct mly_error *err)
{
    static const struct mly_str nulls[64];
    for (size_t part; count > 0; count -= part) {
        part = count < 64 ? count : 64;
        MLY_TRY(mly_lance_put_strings(writer, column_i, nulls, part, err));
    }
    return MLY_OK;
}

enum mly_err mly_lance_put_nulls(struct mly_lance_writer *writer, size_t column_i, size_t count,
                                 struct mly_error *err)
{
    struct lance_column_writer *column = NULL;
    if (column_i >= writer->column_count) {
        return mly_fail(err, MLY_ERR_INVAL, "column %zu of %zu", column_i, writer->column_count);
    }
    const struct mly_lance_field *field = &writer->columns[column_i].field;
    if (lance_is_text(field->type)) return put_null_texts(writer, column_i, count, err);
    const size_t bytes = lance_value_bytes(field);
    MLY_TRY(find_column(writer, column_i, field->type, field->type, count, &column, err));
    if (!field->nullable && count > 0) return fail_null(column, 0, err);
    while (count > 0) {
        size_t part = rows_left(column, bytes);
        if (part == 0) {
            MLY_TRY(mly_lance_flush_page(writer, column, err));
            continue;
        }
        if (part > count) part = count;
        MLY_TRY(reserve(column, part, bytes, 0, err));
        memset(column->values.data + column->values.bytes, 0, part * bytes);
        column->values.bytes += part * bytes;
        size_t valid = ((size_t)column->page_rows + part + 7) / 8;
        memset(column->valid.data + column->valid.bytes, 0, valid - column->valid.bytes);
        column->valid.bytes = valid;
        column->page_nulls += part;
        column->page_rows += part;
        column->rows += part;
        count -= part;
    }
    return MLY_OK;
}

enum mly_err mly_lance_put_null(struct mly_lance_writer *writer, size_t column_i,
                                struct mly_error *err)
{
    return mly_lance_put_nulls(writer, column_i, 1, err);
}
