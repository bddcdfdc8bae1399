/* Rows as a data file.
 *
 * In: parts of a view. Out: one data file with their live rows; the table does not name it yet.
 * Columns that the table lacks are left out: somebody else made it. */
#include "store/store_state_int.h"

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
                            mly_lance_table_path(view->table->lance),
                            (int)(field.name.bytes < 80 ? field.name.bytes : 80), field.name.data);
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

static enum mly_err put_text(const struct sheet *sheet, size_t column, struct mly_str value,
                             struct mly_error *err)
{
    if (sheet->columns[column] == NO_COLUMN) return MLY_OK;
    return mly_lance_put_string(sheet->writer, sheet->columns[column], value, err);
}

static enum mly_err put_number(const struct sheet *sheet, size_t column, bool is_null,
                               int64_t value, struct mly_error *err)
{
    if (sheet->columns[column] == NO_COLUMN) return MLY_OK;
    if (is_null) return mly_lance_put_null(sheet->writer, sheet->columns[column], err);
    return mly_lance_put_int64(sheet->writer, sheet->columns[column], value, err);
}

/* ---- documents ---- */

static enum mly_err put_document(const struct sheet *sheet, const struct mly_document *document,
                                 struct mly_error *err)
{
    char hex[2 * MLY_HASH_BYTES + 1] = "";
    if (document->has_content_hash) mly_hash_to_hex(&document->content_hash, hex);
    const struct {
        size_t column;
        struct mly_str value;
    } texts[] = {
        {MLY_DOCUMENT_ID, document->id},
        {MLY_DOCUMENT_PATH, document->path},
        {MLY_DOCUMENT_PATH_RAW, document->path_raw},
        {MLY_DOCUMENT_TITLE, document->title},
        {MLY_DOCUMENT_METADATA, document->metadata},
        {MLY_DOCUMENT_CONTENT_HASH, document->has_content_hash ? mly_str_of(hex) : MLY_STR_NULL},
        {MLY_DOCUMENT_STATUS, document->status},
        {MLY_DOCUMENT_REASON, document->reason},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        MLY_TRY(put_text(sheet, texts[i].column, texts[i].value, err));
    }
    bool no_stamp = !document->has_stamp;
    const struct mly_file_stamp *stamp = &document->stamp;
    /* Of a file the column says how long the file is: that is what a changed file is seen by. */
    int64_t byte_count = no_stamp ? document->byte_count : stamp->byte_count;
    const struct {
        size_t column;
        bool is_null;
        int64_t value;
    } numbers[] = {
        {MLY_DOCUMENT_DEVICE, no_stamp, stamp->device},
        {MLY_DOCUMENT_INODE, no_stamp, stamp->inode},
        {MLY_DOCUMENT_CHANGED_NS, no_stamp, stamp->changed_ns},
        {MLY_DOCUMENT_MODIFIED_NS, no_stamp, stamp->modified_ns},
        {MLY_DOCUMENT_BYTE_COUNT, byte_count < 0, byte_count},
        {MLY_DOCUMENT_CHUNK_COUNT, document->chunk_count < 0, document->chunk_count},
        {MLY_DOCUMENT_CREATED_AT, document->created_at_us < 0, document->created_at_us},
        {MLY_DOCUMENT_UPDATED_AT, document->updated_at_us < 0, document->updated_at_us},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        MLY_TRY(put_number(sheet, numbers[i].column, numbers[i].is_null, numbers[i].value, err));
    }
    return MLY_OK;
}

/* ---- chunks ---- */

static enum mly_err put_vector(const struct sheet *sheet, const float *vector,
                               struct mly_error *err)
{
    size_t column = sheet->columns[MLY_CHUNK_VECTOR];
    if (vector == NULL) return mly_lance_put_null(sheet->writer, column, err);
    return mly_lance_put_vector(sheet->writer, column, vector, err);
}

static enum mly_err put_chunk(const struct sheet *sheet, struct mly_str document_id,
                              const struct mly_chunk_row *row, struct mly_error *err)
{
    MLY_TRY(put_text(sheet, MLY_CHUNK_ID, mly_str_of(row->id), err));
    MLY_TRY(put_vector(sheet, row->vector, err));
    MLY_TRY(put_text(sheet, MLY_CHUNK_DOCUMENT_ID, document_id, err));
    MLY_TRY(put_text(sheet, MLY_CHUNK_CONTENT, row->content, err));
    MLY_TRY(put_text(sheet, MLY_CHUNK_METADATA, row->metadata, err));
    MLY_TRY(put_text(sheet, MLY_CHUNK_HEADING, row->heading, err));
    const struct {
        size_t column;
        int64_t value;
    } numbers[] = {
        {MLY_CHUNK_ORDINAL, row->ordinal},   {MLY_CHUNK_BYTE_START, row->byte_start},
        {MLY_CHUNK_BYTE_END, row->byte_end}, {MLY_CHUNK_LINE_START, row->line_start},
        {MLY_CHUNK_LINE_END, row->line_end}, {MLY_CHUNK_PAGE_START, row->page_start},
        {MLY_CHUNK_PAGE_END, row->page_end}, {MLY_CHUNK_CREATED_AT, row->created_at_us},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        MLY_TRY(put_number(sheet, numbers[i].column, numbers[i].value < 0, numbers[i].value, err));
    }
    return MLY_OK;
}

/* ---- the file ---- */

static enum mly_err put_row(const struct sheet *sheet, const struct mly_store_cell *cell,
                            struct mly_error *err)
{
    if (cell->view->table->kind == MLY_STORE_DOCUMENTS) {
        struct mly_document document;
        MLY_TRY(mly_store_read_document(cell, NULL, &document, err));
        return put_document(sheet, &document, err);
    }
    struct mly_chunk_row row;
    MLY_TRY(mly_store_read_chunk(cell, NULL, &row, err));
    return put_chunk(sheet, row.document_id, &row, err);
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

static enum mly_err put_change(const struct sheet *sheet, enum mly_store_table_kind kind,
                               const struct mly_change *change, uint64_t *row_count,
                               struct mly_error *err)
{
    *row_count += kind == MLY_STORE_DOCUMENTS ? 1 : change->row_count;
    if (kind == MLY_STORE_DOCUMENTS) return put_document(sheet, &change->document, err);
    for (size_t i = 0; i < change->row_count; i++) {
        MLY_TRY(put_chunk(sheet, change->document.id, &change->rows[i], err));
    }
    return MLY_OK;
}

enum mly_err mly_store_write_rows(const struct mly_store_view *view,
                                  const struct mly_change *changes, size_t change_count,
                                  struct mly_lance_writer **out, struct mly_error *err)
{
    struct sheet sheet = {0};
    uint64_t row_count = 0;
    enum mly_err rc = open_sheet(view, view->dim, &sheet, err);
    for (size_t i = 0; rc == MLY_OK && i < change_count; i++) {
        if (!mly_store_goes_into_load(&changes[i])) continue;
        rc = put_change(&sheet, view->table->kind, &changes[i], &row_count, err);
    }
    if (rc == MLY_OK && row_count > 0) rc = mly_lance_writer_complete(sheet.writer, err);
    if (rc != MLY_OK || row_count == 0) {
        mly_lance_writer_close(sheet.writer);
        return rc;
    }
    *out = sheet.writer;
    return MLY_OK;
}
