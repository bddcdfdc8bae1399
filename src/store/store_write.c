/* Rows as a data file.
 *
 * In: parts of a view. Out: one data file with their live rows; the table does not name it yet.
 * Columns that the table lacks are left out: somebody else made it. */
#include "store/store_state_int.h"

#include "base/show.h"

#include <stddef.h>

#define NO_COLUMN SIZE_MAX

/* A data file being written and where it has our columns. */
struct sheet {
    struct mly_lance_writer *writer;
    size_t columns[MLY_STORE_COLUMNS_MAX];
};

/* A column of somebody else's that has no value here must be one that may be null. */
enum mly_err mly_store_check_foreign(const struct mly_store_view *view, struct mly_error *err)
{
    size_t field_count = mly_lance_manifest_field_count(view->manifest);
    for (size_t field_i = 0; field_i < field_count; field_i++) {
        struct mly_lance_field field;
        mly_lance_manifest_get_field(view->manifest, field_i, &field);
        bool ours = field.nullable;
        for (size_t i = 0; i < MLY_STORE_COLUMNS_MAX; i++) {
            ours = ours || view->fields[i] == field_i;
        }
        if (!ours) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "%s: column \"%.*s\" must not be null, and new rows have no value for "
                            "it",
                            mly_lance_table_path(view->table->lance), MLY_SHOWN(field.name, 80));
        }
    }
    return MLY_OK;
}

static enum mly_err open_sheet(const struct mly_store_view *view, uint32_t dim, struct sheet *sheet,
                               struct mly_error *err)
{
    struct mly_lance_field fields[MLY_STORE_COLUMNS_MAX];
    size_t count = 0;
    size_t column_count;
    (void)mly_store_columns(view->table->kind, &column_count);
    for (size_t i = 0; i < MLY_STORE_COLUMNS_MAX; i++)
        sheet->columns[i] = NO_COLUMN;
    if (view->manifest == NULL) {
        mly_store_new_fields(view->table->kind, dim, fields, &count);
        for (size_t i = 0; i < count; i++)
            sheet->columns[i] = i;
    } else {
        MLY_TRY(mly_store_check_foreign(view, err));
        for (size_t i = 0; i < column_count; i++) {
            if (view->fields[i] == MLY_LANCE_NO_FIELD) continue;
            mly_lance_manifest_get_field(view->manifest, view->fields[i], &fields[count]);
            sheet->columns[i] = count++;
        }
    }
    return mly_lance_writer_open(view->table->lance, fields, count, &sheet->writer, err);
}

/* How many rows go through a column's gathering at once. */
#define STRIP_ROWS ((size_t)128)

/* Rows by whose fields columns are filled: row i of count is at items[i]. */
struct strip {
    const void *items[STRIP_ROWS];
    struct mly_str document_ids[STRIP_ROWS]; /* of chunks */
    size_t count;
};

struct column_field {
    size_t column, offset;
};

static const void *field_of(const struct strip *strip, size_t i, size_t offset)
{
    return (const unsigned char *)strip->items[i] + offset;
}

static enum mly_err put_texts(const struct sheet *sheet, size_t column,
                              const struct mly_str *values, size_t count, struct mly_error *err)
{
    if (sheet->columns[column] == NO_COLUMN) return MLY_OK;
    return mly_lance_put_strings(sheet->writer, sheet->columns[column], values, count, err);
}

static enum mly_err put_numbers(const struct sheet *sheet, size_t column, const int64_t *values,
                                const bool *is_null, size_t count, struct mly_error *err)
{
    if (sheet->columns[column] == NO_COLUMN) return MLY_OK;
    size_t nulls = 0;
    for (size_t i = 0; i < count; i++)
        nulls += is_null[i];
    if (nulls == count) {
        return mly_lance_put_nulls(sheet->writer, sheet->columns[column], count, err);
    }
    return mly_lance_put_int64s(sheet->writer, sheet->columns[column], values, is_null, count, err);
}

static enum mly_err put_text_fields(const struct sheet *sheet, const struct strip *strip,
                                    const struct column_field *fields, size_t field_count,
                                    struct mly_error *err)
{
    for (size_t field_i = 0; field_i < field_count; field_i++) {
        struct mly_str values[STRIP_ROWS];
        for (size_t i = 0; i < strip->count; i++)
            memcpy(&values[i], field_of(strip, i, fields[field_i].offset), sizeof(values[i]));
        MLY_TRY(put_texts(sheet, fields[field_i].column, values, strip->count, err));
    }
    return MLY_OK;
}

/* Null where a number is below zero. */
static enum mly_err put_number_fields(const struct sheet *sheet, const struct strip *strip,
                                      const struct column_field *fields, size_t field_count,
                                      struct mly_error *err)
{
    for (size_t field_i = 0; field_i < field_count; field_i++) {
        int64_t values[STRIP_ROWS];
        bool is_null[STRIP_ROWS];
        for (size_t i = 0; i < strip->count; i++) {
            memcpy(&values[i], field_of(strip, i, fields[field_i].offset), sizeof(values[i]));
            is_null[i] = values[i] < 0;
        }
        MLY_TRY(put_numbers(sheet, fields[field_i].column, values, is_null, strip->count, err));
    }
    return MLY_OK;
}

/* ---- documents ---- */

#define DOCUMENT_FIELD(column, name) {column, offsetof(struct mly_document, name)}

/* What says nothing of a document that has no stamp. */
static enum mly_err put_stamps(const struct sheet *sheet, const struct strip *strip,
                               struct mly_error *err)
{
    static const struct column_field fields[] = {
        DOCUMENT_FIELD(MLY_DOCUMENT_DEVICE, stamp.device),
        DOCUMENT_FIELD(MLY_DOCUMENT_INODE, stamp.inode),
        DOCUMENT_FIELD(MLY_DOCUMENT_CHANGED_NS, stamp.changed_ns),
        DOCUMENT_FIELD(MLY_DOCUMENT_MODIFIED_NS, stamp.modified_ns),
    };
    int64_t values[STRIP_ROWS];
    bool is_null[STRIP_ROWS];
    for (size_t field_i = 0; field_i < sizeof(fields) / sizeof(fields[0]); field_i++) {
        for (size_t i = 0; i < strip->count; i++) {
            const struct mly_document *document = strip->items[i];
            memcpy(&values[i], field_of(strip, i, fields[field_i].offset), sizeof(values[i]));
            is_null[i] = !document->has_stamp;
        }
        MLY_TRY(put_numbers(sheet, fields[field_i].column, values, is_null, strip->count, err));
    }
    /* Of a file the column says how long the file is: that is what a changed file is seen by. */
    for (size_t i = 0; i < strip->count; i++) {
        const struct mly_document *document = strip->items[i];
        values[i] = document->has_stamp ? document->stamp.byte_count : document->byte_count;
        is_null[i] = values[i] < 0;
    }
    return put_numbers(sheet, MLY_DOCUMENT_BYTE_COUNT, values, is_null, strip->count, err);
}

static enum mly_err put_hashes(const struct sheet *sheet, const struct strip *strip,
                               struct mly_error *err)
{
    char hex[STRIP_ROWS][2 * MLY_HASH_BYTES + 1];
    struct mly_str values[STRIP_ROWS];
    for (size_t i = 0; i < strip->count; i++) {
        const struct mly_document *document = strip->items[i];
        values[i] = MLY_STR_NULL;
        if (!document->has_content_hash) continue;
        mly_hash_to_hex(&document->content_hash, hex[i]);
        values[i] = (struct mly_str){hex[i], 2 * MLY_HASH_BYTES};
    }
    return put_texts(sheet, MLY_DOCUMENT_CONTENT_HASH, values, strip->count, err);
}

static enum mly_err put_documents(const struct sheet *sheet, const struct strip *strip,
                                  struct mly_error *err)
{
    static const struct column_field texts[] = {
        DOCUMENT_FIELD(MLY_DOCUMENT_ID, id),
        DOCUMENT_FIELD(MLY_DOCUMENT_PATH, path),
        DOCUMENT_FIELD(MLY_DOCUMENT_PATH_RAW, path_raw),
        DOCUMENT_FIELD(MLY_DOCUMENT_TITLE, title),
        DOCUMENT_FIELD(MLY_DOCUMENT_METADATA, metadata),
        DOCUMENT_FIELD(MLY_DOCUMENT_STATUS, status),
        DOCUMENT_FIELD(MLY_DOCUMENT_REASON, reason),
    };
    static const struct column_field numbers[] = {
        DOCUMENT_FIELD(MLY_DOCUMENT_CHUNK_COUNT, chunk_count),
        DOCUMENT_FIELD(MLY_DOCUMENT_CREATED_AT, created_at_us),
        DOCUMENT_FIELD(MLY_DOCUMENT_UPDATED_AT, updated_at_us),
    };
    MLY_TRY(put_text_fields(sheet, strip, texts, sizeof(texts) / sizeof(texts[0]), err));
    MLY_TRY(put_hashes(sheet, strip, err));
    MLY_TRY(put_stamps(sheet, strip, err));
    return put_number_fields(sheet, strip, numbers, sizeof(numbers) / sizeof(numbers[0]), err);
}

/* ---- chunks ---- */

#define CHUNK_FIELD(column, name) {column, offsetof(struct mly_chunk_row, name)}

static enum mly_err put_vector(const struct sheet *sheet, const float *vector,
                               struct mly_error *err)
{
    size_t column = sheet->columns[MLY_CHUNK_VECTOR];
    if (vector == NULL) return mly_lance_put_null(sheet->writer, column, err);
    return mly_lance_put_vector(sheet->writer, column, vector, err);
}

/* All but the vectors. */
static enum mly_err put_chunks(const struct sheet *sheet, const struct strip *strip,
                               struct mly_error *err)
{
    static const struct column_field texts[] = {
        CHUNK_FIELD(MLY_CHUNK_CONTENT, content),
        CHUNK_FIELD(MLY_CHUNK_METADATA, metadata),
        CHUNK_FIELD(MLY_CHUNK_HEADING, heading),
    };
    static const struct column_field numbers[] = {
        CHUNK_FIELD(MLY_CHUNK_ORDINAL, ordinal),   CHUNK_FIELD(MLY_CHUNK_BYTE_START, byte_start),
        CHUNK_FIELD(MLY_CHUNK_BYTE_END, byte_end), CHUNK_FIELD(MLY_CHUNK_LINE_START, line_start),
        CHUNK_FIELD(MLY_CHUNK_LINE_END, line_end), CHUNK_FIELD(MLY_CHUNK_PAGE_START, page_start),
        CHUNK_FIELD(MLY_CHUNK_PAGE_END, page_end), CHUNK_FIELD(MLY_CHUNK_CREATED_AT, created_at_us),
    };
    struct mly_str ids[STRIP_ROWS];
    for (size_t i = 0; i < strip->count; i++) {
        const struct mly_chunk_row *row = strip->items[i];
        ids[i] = mly_str_of(row->id);
    }
    MLY_TRY(put_texts(sheet, MLY_CHUNK_ID, ids, strip->count, err));
    MLY_TRY(put_texts(sheet, MLY_CHUNK_DOCUMENT_ID, strip->document_ids, strip->count, err));
    MLY_TRY(put_text_fields(sheet, strip, texts, sizeof(texts) / sizeof(texts[0]), err));
    return put_number_fields(sheet, strip, numbers, sizeof(numbers) / sizeof(numbers[0]), err);
}

/* Empties the strip. */
static enum mly_err put_strip(const struct sheet *sheet, enum mly_store_table_kind kind,
                              struct strip *strip, struct mly_error *err)
{
    enum mly_err rc = kind == MLY_STORE_DOCUMENTS ? put_documents(sheet, strip, err)
                                                  : put_chunks(sheet, strip, err);
    strip->count = 0;
    return rc;
}

/* ---- the file ---- */

static enum mly_err put_row(const struct sheet *sheet, const struct mly_store_cell *cell,
                            struct mly_error *err)
{
    struct mly_document document;
    struct mly_chunk_row row;
    struct strip strip;
    strip.count = 1;
    if (cell->view->table->kind == MLY_STORE_DOCUMENTS) {
        MLY_TRY(mly_store_read_document(cell, NULL, &document, err));
        strip.items[0] = &document;
    } else {
        MLY_TRY(mly_store_read_chunk(cell, NULL, &row, err));
        MLY_TRY(put_vector(sheet, row.vector, err));
        strip.items[0] = &row;
        strip.document_ids[0] = row.document_id;
    }
    return put_strip(sheet, cell->view->table->kind, &strip, err);
}

enum mly_err mly_store_write_parts(const struct mly_store_view *view, const bool *chosen,
                                   struct mly_lance_data_file *out, uint64_t *out_rows,
                                   struct mly_error *err)
{
    struct sheet sheet = {0};
    *out_rows = 0;
    enum mly_err rc = open_sheet(view, view->dim, &sheet, err);
    for (size_t i = 0; rc == MLY_OK && i < view->part_count; i++) {
        struct mly_store_cell cell = {view, &view->parts[i], 0};
        if (!chosen[i]) continue;
        for (; rc == MLY_OK && cell.row < cell.part->row_count; cell.row++) {
            if (mly_store_part_is_dead(cell.part, cell.row)) continue;
            rc = put_row(&sheet, &cell, err);
            *out_rows += rc == MLY_OK;
        }
    }
    if (rc == MLY_OK && *out_rows > 0) rc = mly_lance_writer_finish(sheet.writer, out, err);
    mly_lance_writer_close(sheet.writer);
    return rc;
}

/* ---- rows of changes ---- */

/* Vectors that follow each other in memory, as those of one call do, go as one. */
struct run {
    const float *values;
    size_t count;
};

static enum mly_err put_run(const struct sheet *sheet, struct run *run, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    if (run->count > 0) {
        rc = mly_lance_put_vectors(sheet->writer, sheet->columns[MLY_CHUNK_VECTOR], run->values,
                                   run->count, err);
    }
    run->count = 0;
    return rc;
}

static enum mly_err put_all_vectors(const struct sheet *sheet, const struct mly_change *changes,
                                    size_t change_count, uint32_t dim, struct mly_error *err)
{
    struct run run = {0};
    for (size_t i = 0; i < change_count; i++) {
        if (!mly_store_goes_into_load(&changes[i])) continue;
        for (size_t row = 0; row < changes[i].row_count; row++) {
            const float *vector = changes[i].rows[row].vector;
            if (run.count > 0 && run.values + run.count * dim != vector) {
                MLY_TRY(put_run(sheet, &run, err));
            }
            if (run.count == 0) run.values = vector;
            run.count++;
        }
    }
    return put_run(sheet, &run, err);
}

static enum mly_err put_item(const struct sheet *sheet, enum mly_store_table_kind kind,
                             struct strip *strip, const void *item, struct mly_str document_id,
                             struct mly_error *err)
{
    if (strip->count == STRIP_ROWS) MLY_TRY(put_strip(sheet, kind, strip, err));
    strip->items[strip->count] = item;
    strip->document_ids[strip->count] = document_id;
    strip->count++;
    return MLY_OK;
}

static enum mly_err put_all_rows(const struct sheet *sheet, enum mly_store_table_kind kind,
                                 const struct mly_change *changes, size_t change_count,
                                 struct mly_error *err)
{
    struct strip strip;
    strip.count = 0;
    for (size_t i = 0; i < change_count; i++) {
        const struct mly_change *change = &changes[i];
        const struct mly_str id = change->document.id;
        if (!mly_store_goes_into_load(change)) continue;
        if (kind == MLY_STORE_DOCUMENTS) {
            MLY_TRY(put_item(sheet, kind, &strip, &change->document, id, err));
            continue;
        }
        for (size_t row = 0; row < change->row_count; row++)
            MLY_TRY(put_item(sheet, kind, &strip, &change->rows[row], id, err));
    }
    return put_strip(sheet, kind, &strip, err);
}

enum mly_err mly_store_write_rows(const struct mly_store_view *view,
                                  const struct mly_change *changes, size_t change_count,
                                  struct mly_lance_writer **out, struct mly_error *err)
{
    struct sheet sheet = {0};
    const enum mly_store_table_kind kind = view->table->kind;
    size_t row_count = 0;
    for (size_t i = 0; i < change_count; i++)
        row_count += mly_store_goes_into_load(&changes[i]);
    if (row_count == 0) return MLY_OK;
    enum mly_err rc = open_sheet(view, view->dim, &sheet, err);
    if (rc == MLY_OK && kind == MLY_STORE_CHUNKS) {
        rc = put_all_vectors(&sheet, changes, change_count, view->dim, err);
    }
    if (rc == MLY_OK) rc = put_all_rows(&sheet, kind, changes, change_count, err);
    if (rc == MLY_OK) rc = mly_lance_writer_complete(sheet.writer, err);
    if (rc != MLY_OK) {
        mly_lance_writer_close(sheet.writer);
        return rc;
    }
    *out = sheet.writer;
    return MLY_OK;
}
