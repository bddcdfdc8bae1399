/* The columns of both tables, as data; where a manifest has them, by name.
 *
 * In: a manifest, whoever wrote it. Out: for each of our columns the field that holds it. */
#include "store/store_state_int.h"

#include "base/limits.h"
#include "base/show.h"

/* MLY_STR is a compound literal, which C11 does not take for a constant. */
#define NAME(literal) {(literal), sizeof(literal) - 1}
#define TEXT(name_, nullable_, needed_) {NAME(name_), MLY_LANCE_STRING, nullable_, needed_}
#define NUMBER(name_) {NAME(name_), MLY_LANCE_INT64, true, false}
#define MOMENT(name_) {NAME(name_), MLY_LANCE_TIMESTAMP_US, true, false}

static const struct mly_store_column document_columns[MLY_DOCUMENT_COLUMNS] = {
    [MLY_DOCUMENT_ID] = TEXT("id", false, true),
    [MLY_DOCUMENT_PATH] = TEXT("path", true, false),
    [MLY_DOCUMENT_PATH_RAW] = {NAME("path_raw"), MLY_LANCE_BINARY, true, false},
    [MLY_DOCUMENT_DEVICE] = NUMBER("device"),
    [MLY_DOCUMENT_INODE] = NUMBER("inode"),
    [MLY_DOCUMENT_CHANGED_NS] = NUMBER("changed_ns"),
    [MLY_DOCUMENT_TITLE] = TEXT("title", true, false),
    [MLY_DOCUMENT_METADATA] = TEXT("metadata", true, false),
    [MLY_DOCUMENT_CONTENT_HASH] = TEXT("content_hash", true, false),
    [MLY_DOCUMENT_BYTE_COUNT] = NUMBER("byte_count"),
    [MLY_DOCUMENT_CHUNK_COUNT] = NUMBER("chunk_count"),
    [MLY_DOCUMENT_STATUS] = TEXT("status", true, false),
    [MLY_DOCUMENT_REASON] = TEXT("reason", true, false),
    [MLY_DOCUMENT_MODIFIED_NS] = NUMBER("modified_ns"),
    [MLY_DOCUMENT_CREATED_AT] = MOMENT("created_at"),
    [MLY_DOCUMENT_UPDATED_AT] = MOMENT("updated_at"),
};

static const struct mly_store_column chunk_columns[MLY_CHUNK_COLUMNS] = {
    [MLY_CHUNK_ID] = TEXT("id", false, true),
    [MLY_CHUNK_VECTOR] = {NAME("vector"), MLY_LANCE_VECTOR, true, true},
    [MLY_CHUNK_DOCUMENT_ID] = TEXT("document_id", true, true),
    [MLY_CHUNK_CONTENT] = TEXT("content", true, true),
    [MLY_CHUNK_METADATA] = TEXT("metadata", true, false),
    [MLY_CHUNK_ORDINAL] = NUMBER("ordinal"),
    [MLY_CHUNK_BYTE_START] = NUMBER("byte_start"),
    [MLY_CHUNK_BYTE_END] = NUMBER("byte_end"),
    [MLY_CHUNK_LINE_START] = NUMBER("line_start"),
    [MLY_CHUNK_LINE_END] = NUMBER("line_end"),
    [MLY_CHUNK_PAGE_START] = NUMBER("page_start"),
    [MLY_CHUNK_PAGE_END] = NUMBER("page_end"),
    [MLY_CHUNK_HEADING] = TEXT("heading", true, false),
    [MLY_CHUNK_CREATED_AT] = MOMENT("created_at"),
};

const struct mly_store_column *mly_store_columns(enum mly_store_table_kind kind, size_t *count)
{
    *count = kind == MLY_STORE_DOCUMENTS ? MLY_DOCUMENT_COLUMNS : MLY_CHUNK_COLUMNS;
    return kind == MLY_STORE_DOCUMENTS ? document_columns : chunk_columns;
}

void mly_store_new_fields(enum mly_store_table_kind kind, uint32_t dim,
                          struct mly_lance_field *fields, size_t *count)
{
    const struct mly_store_column *columns = mly_store_columns(kind, count);
    for (size_t i = 0; i < *count; i++) {
        fields[i] = (struct mly_lance_field){
            .name = columns[i].name,
            .type = columns[i].type,
            .dim = columns[i].type == MLY_LANCE_VECTOR ? dim : 0,
            .nullable = columns[i].nullable,
            .id = (int32_t)i,
        };
    }
}

/* A whole number of at most nine digits, or UINT32_MAX. */
static uint32_t parse_number(struct mly_str text)
{
    if (text.bytes == 0 || text.bytes > 9) return UINT32_MAX;
    uint32_t value = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return UINT32_MAX;
        value = value * 10 + (uint32_t)(text.data[i] - '0');
    }
    return value;
}

static enum mly_err check_format(const char *name, const struct mly_lance_manifest *manifest,
                                 struct mly_error *err)
{
    struct mly_str format = mly_lance_manifest_config(manifest, MLY_KEY_FORMAT);
    if (format.data != NULL) {
        uint32_t version = parse_number(format);
        if (version == UINT32_MAX) {
            return mly_fail(err, MLY_ERR_CORRUPT, "%s: store format \"%.*s\" is not a number", name,
                            MLY_SHOWN(format, 40));
        }
        if (version > MLY_STORE_FORMAT) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "%s: store format %u was made by a newer memalloy; this one reads up "
                            "to %d",
                            name, version, MLY_STORE_FORMAT);
        }
    }
    struct mly_str metric = mly_lance_manifest_config(manifest, MLY_KEY_METRIC);
    if (metric.data != NULL && !mly_str_equal(metric, MLY_STR("cosine"))) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "%s: metric \"%.*s\" is not cosine", name,
                        MLY_SHOWN(metric, 40));
    }
    return MLY_OK;
}

enum mly_err mly_store_find_fields(enum mly_store_table_kind kind, const char *name,
                                   const struct mly_lance_manifest *manifest,
                                   size_t fields[MLY_STORE_COLUMNS_MAX], uint32_t *dim,
                                   struct mly_error *err)
{
    MLY_TRY(check_format(name, manifest, err));
    size_t count;
    const struct mly_store_column *columns = mly_store_columns(kind, &count);
    *dim = 0;
    for (size_t i = 0; i < MLY_STORE_COLUMNS_MAX; i++) {
        fields[i] = MLY_LANCE_NO_FIELD;
        if (i >= count) continue;
        size_t field_i = mly_lance_manifest_find_field(manifest, columns[i].name);
        if (field_i != MLY_LANCE_NO_FIELD) {
            struct mly_lance_field field;
            mly_lance_manifest_get_field(manifest, field_i, &field);
            if (field.type == columns[i].type) {
                fields[i] = field_i;
                if (field.type == MLY_LANCE_VECTOR) *dim = field.dim;
            }
        }
        if (fields[i] == MLY_LANCE_NO_FIELD && columns[i].needed) {
            return mly_fail(
                err, MLY_ERR_UNSUPPORTED, "%s: no column \"%s\" of %s", name, columns[i].name.data,
                columns[i].type == MLY_LANCE_VECTOR ? "fixed-size lists of float32" : "strings");
        }
    }
    if (*dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%s: vectors of %u numbers, the limit is %zu", name,
                        *dim, MLY_DIM_MAX);
    }
    return MLY_OK;
}
