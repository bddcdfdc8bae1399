/* Rows come in column by column, gather in a page per column, and leave as soon as the page is
 * full: buffers first, padded to 64 bytes, the metadata of all pages at the end (docs/FORMAT.md).
 * The file has a temporary name until it is complete and synced. */
#include "lance/lance_int.h"
#include "lance/lance_writer_int.h"

#include <inttypes.h>
#include <string.h>

#define HINT_BYTES ((uint64_t)1 << 20)
/* Runs of fewer bytes are written before a thread for them has begun. */
#define AHEAD_BYTES_MIN ((uint64_t)2 << 20)

static void deinit_column(struct lance_column_writer *column)
{
    mly_bytes_deinit(&column->values);
    mly_bytes_deinit(&column->bytes);
    mly_bytes_deinit(&column->valid);
    mly_bytes_deinit(&column->pages);
}

void mly_lance_writer_close(struct mly_lance_writer *writer)
{
    if (writer == NULL) return;
    struct mly_mem *mem = writer->table->env->mem;
    bool made = writer->file.fd >= 0;
    (void)!mly_lance_ahead_join(writer, NULL);
    mly_file_close(&writer->file);
    if (made && !writer->is_named)
        mly_lance_unlink(writer->table, writer->folder, writer->temp_name);
    for (size_t i = 0; writer->columns != NULL && i < writer->column_count; i++) {
        deinit_column(&writer->columns[i]);
    }
    mly_mem_free(mem, writer->columns);
    mly_sums_maker_deinit(&writer->maker);
    mly_arena_deinit(&writer->arena);
    mly_mem_free(mem, writer);
}

static enum mly_err init_columns(struct mly_lance_writer *writer,
                                 const struct mly_lance_field *fields, size_t field_count,
                                 struct mly_error *err)
{
    struct mly_mem *mem = writer->table->env->mem;
    writer->columns = mly_mem_array(mem, field_count, sizeof(writer->columns[0]));
    if (writer->columns == NULL) {
        return mly_fail_nomem(err, field_count * sizeof(writer->columns[0]));
    }
    writer->column_count = field_count;
    for (size_t i = 0; i < field_count; i++) {
        struct lance_column_writer *column = &writer->columns[i];
        /* A page may hold one value that is larger than a page. */
        size_t page_max = LANCE_PAGE_BYTES + MLY_META_BYTES_MAX;
        column->field = fields[i];
        mly_bytes_init(&column->values, mem, page_max);
        mly_bytes_init(&column->bytes, mem, page_max);
        mly_bytes_init(&column->valid, mem, page_max);
        mly_bytes_init(&column->pages, mem, MLY_META_BYTES_MAX);
        column->field.name = mly_arena_copy(&writer->arena, fields[i].name);
        if (column->field.name.data == NULL) return mly_fail_nomem(err, fields[i].name.bytes);
    }
    return MLY_OK;
}

enum mly_err mly_lance_writer_open(const struct mly_lance_table *table,
                                   const struct mly_lance_field *fields, size_t field_count,
                                   struct mly_lance_writer **out, struct mly_error *err)
{
    MLY_TRY(mly_lance_check_fields(fields, field_count, err));
    return mly_lance_writer_open_in(table, "data", fields, field_count, out, err);
}

enum mly_err mly_lance_writer_open_in(const struct mly_lance_table *table, const char *folder,
                                      const struct mly_lance_field *fields, size_t field_count,
                                      struct mly_lance_writer **out, struct mly_error *err)
{
    struct lance_path path;
    struct mly_lance_writer *writer = mly_mem_array(table->env->mem, 1, sizeof(*writer));
    if (writer == NULL) return mly_fail_nomem(err, sizeof(*writer));
    writer->table = table;
    writer->folder = folder;
    writer->file = MLY_FILE_CLOSED;
    mly_arena_init(&writer->arena, table->env->mem, MLY_META_BYTES_MAX);
    mly_sums_maker_init(&writer->maker, table->env->mem);
    enum mly_err rc = init_columns(writer, fields, field_count, err);
    if (rc != MLY_OK) goto done;
    rc = mly_lance_need_folder(table, folder, err);
    if (rc != MLY_OK) goto done;
    rc = mly_lance_temp_name(table, writer->temp_name, err);
    if (rc != MLY_OK) goto done;
    mly_lance_path(table, folder, writer->temp_name, &path);
    rc = mly_file_open(table->env, MLY_AT_CWD, path.text,
                       MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL, &writer->file, err);
    if (rc != MLY_OK) goto done;
    *out = writer;
    writer = NULL;
done:
    mly_lance_writer_close(writer);
    return rc;
}

/* The disk works while rows are gathered. end: what was written reaches to there. */
static void hint(struct mly_lance_writer *writer, uint64_t end, uint64_t bytes_min)
{
    uint64_t bytes = end - writer->hinted_bytes;
    if (bytes < bytes_min) return;
    mly_file_write_back(&writer->file, writer->hinted_bytes, bytes);
    writer->hinted_bytes = end;
}

enum mly_err mly_lance_write_at(struct mly_lance_writer *writer, const void *data, size_t bytes,
                                uint64_t offset, struct mly_error *err)
{
    enum mly_err rc = mly_file_write(&writer->file, data, bytes, offset, err);
    if (rc != MLY_OK) {
        return mly_fail_in(err, rc, "%s/%s/%s", writer->table->path, writer->folder,
                           writer->temp_name);
    }
    hint(writer, offset + bytes, HINT_BYTES);
    return MLY_OK;
}

static enum mly_err add_sums(struct mly_lance_writer *writer, const void *data, size_t bytes,
                             struct mly_error *err)
{
    if (writer->table->sums_path == NULL) return MLY_OK;
    return mly_sums_maker_add(&writer->maker, data, bytes, err);
}

/* Summed before it is written, in parts that stay near the processor: memory is read once. */
static enum mly_err write_bytes(struct mly_lance_writer *writer, const void *data, size_t bytes,
                                struct mly_error *err)
{
    const uint8_t *at = data;
    MLY_TRY(mly_lance_ahead_join(writer, err));
    while (bytes > 0) {
        /* To where large pages of the system's cache begin. */
        size_t part = LANCE_WRITE_BYTES - (size_t)(writer->file_bytes % LANCE_WRITE_BYTES);
        if (part > bytes) part = bytes;
        MLY_TRY(add_sums(writer, at, part, err));
        MLY_TRY(mly_lance_write_at(writer, at, part, writer->file_bytes, err));
        writer->file_bytes += part;
        at += part;
        bytes -= part;
    }
    return MLY_OK;
}

/* Appends a buffer to the file and tells where it stands. */
static enum mly_err write_buffer(struct mly_lance_writer *writer, const void *data, size_t bytes,
                                 uint64_t *offset, struct mly_error *err)
{
    static const uint8_t zeros[LANCE_ALIGN] = {0};
    size_t padding = (size_t)((LANCE_ALIGN - writer->file_bytes % LANCE_ALIGN) % LANCE_ALIGN);
    MLY_TRY(write_bytes(writer, zeros, padding, err));
    *offset = writer->file_bytes;
    return write_bytes(writer, data, bytes, err);
}

enum mly_err mly_lance_put_global(struct mly_lance_writer *writer, const void *data, size_t bytes,
                                  struct lance_global *out, struct mly_error *err)
{
    out->bytes = bytes;
    return write_buffer(writer, data, bytes, &out->offset, err);
}

/* Nulls of a text column: their end carries the mark, which is above every end of the page. */
static void mark_null_strings(struct lance_column_writer *column)
{
    uint64_t adjustment = (uint64_t)column->bytes.bytes + 1;
    for (uint64_t i = 0; i < column->page_rows; i++) {
        if (lance_bit(column->valid.data, i)) continue;
        uint8_t *at = column->values.data + 8 * i;
        uint64_t end = mly_get_u64le(at) + adjustment;
        for (int byte_i = 0; byte_i < 8; byte_i++) {
            at[byte_i] = (uint8_t)(end >> (8 * byte_i));
        }
    }
}

static enum mly_err write_page(struct mly_lance_writer *writer, struct lance_column_writer *column,
                               const void *values, size_t values_bytes,
                               struct lance_page_record *record, struct mly_error *err)
{
    bool is_text = lance_is_text(column->field.type);
    if (record->null_count == record->row_count) return MLY_OK; /* No buffers at all. */
    if (is_text && record->null_count > 0) mark_null_strings(column);
    if (!is_text && record->null_count > 0) {
        MLY_TRY(write_buffer(writer, column->valid.data, column->valid.bytes, &record->valid_offset,
                             err));
        record->valid_bytes = column->valid.bytes;
    }
    MLY_TRY(write_buffer(writer, values, values_bytes, &record->values_offset, err));
    record->values_bytes = values_bytes;
    if (is_text) {
        MLY_TRY(write_buffer(writer, column->bytes.data, column->bytes.bytes, &record->text_offset,
                             err));
        record->text_bytes = column->bytes.bytes;
    }
    return MLY_OK;
}

static enum mly_err write_rows(struct mly_lance_writer *writer, struct lance_column_writer *column,
                               const void *values, size_t values_bytes,
                               struct lance_page_record *record, struct mly_error *err)
{
    MLY_TRY(write_page(writer, column, values, values_bytes, record, err));
    return mly_bytes_append(&column->pages, record, sizeof(*record), err);
}

/* One page after the other, and nothing stands between them. */
static enum mly_err plan_run(struct mly_lance_writer *writer, struct lance_column_writer *column,
                             const uint8_t *values, size_t row_count, size_t rows_max,
                             struct mly_error *err)
{
    const size_t row_bytes = lance_value_bytes(&column->field);
    struct lance_ahead *ahead = &writer->ahead;
    ahead->pages =
        mly_mem_array(writer->table->env->mem, row_count / rows_max + 1, sizeof(ahead->pages[0]));
    if (ahead->pages == NULL) return mly_fail_nomem(err, row_count / rows_max);
    for (size_t row = 0; row < row_count; ahead->count++) {
        size_t rows = row_count - row < rows_max ? row_count - row : rows_max;
        uint64_t bytes = (uint64_t)rows * row_bytes;
        struct lance_page_record record = {.first_row = column->rows,
                                           .row_count = rows,
                                           .values_offset = writer->file_bytes,
                                           .values_bytes = bytes};
        MLY_TRY(mly_bytes_append(&column->pages, &record, sizeof(record), err));
        ahead->pages[ahead->count] =
            (struct lance_ahead_page){values + row * row_bytes, bytes, writer->file_bytes};
        writer->file_bytes += bytes;
        column->rows += rows;
        row += rows;
    }
    return MLY_OK;
}

enum mly_err mly_lance_write_run(struct mly_lance_writer *writer,
                                 struct lance_column_writer *column, const void *values,
                                 size_t row_count, size_t rows_max, struct mly_error *err)
{
    const size_t row_bytes = lance_value_bytes(&column->field);
    const uint64_t bytes = (uint64_t)row_count * row_bytes;
    uint64_t begin = 0;
    MLY_TRY(write_buffer(writer, NULL, 0, &begin, err)); /* the padding */
    if (bytes < AHEAD_BYTES_MIN || row_bytes * rows_max % LANCE_ALIGN != 0) {
        for (size_t row = 0; row < row_count;) {
            size_t rows = row_count - row < rows_max ? row_count - row : rows_max;
            struct lance_page_record record = {.first_row = column->rows, .row_count = rows};
            MLY_TRY(write_rows(writer, column, (const uint8_t *)values + row * row_bytes,
                               rows * row_bytes, &record, err));
            column->rows += rows;
            row += rows;
        }
        return MLY_OK;
    }
    MLY_TRY(plan_run(writer, column, values, row_count, rows_max, err));
    mly_lance_ahead_start(writer);
    return add_sums(writer, values, (size_t)bytes, err);
}

enum mly_err mly_lance_flush_page(struct mly_lance_writer *writer,
                                  struct lance_column_writer *column, struct mly_error *err)
{
    if (column->page_rows == 0) return MLY_OK;
    struct lance_page_record record = {
        .first_row = column->rows - column->page_rows,
        .row_count = column->page_rows,
        .null_count = column->page_nulls,
    };
    MLY_TRY(write_rows(writer, column, column->values.data, column->values.bytes, &record, err));
    column->values.bytes = 0;
    column->bytes.bytes = 0;
    column->valid.bytes = 0;
    column->page_rows = 0;
    column->page_nulls = 0;
    return MLY_OK;
}

static enum mly_err check_rows(const struct mly_lance_writer *writer, struct mly_error *err)
{
    uint64_t rows = writer->columns[0].rows;
    if (rows == 0) return mly_fail(err, MLY_ERR_INVAL, "a data file needs at least one row");
    for (size_t i = 1; i < writer->column_count; i++) {
        if (writer->columns[i].rows != rows) {
            return mly_fail(err, MLY_ERR_INVAL,
                            "column %.100s has %" PRIu64 " rows, column %.100s %" PRIu64,
                            writer->columns[i].field.name.data, writer->columns[i].rows,
                            writer->columns[0].field.name.data, rows);
        }
    }
    return MLY_OK;
}

static enum mly_err describe(const struct mly_lance_writer *writer, struct mly_lance_data_file *out,
                             struct mly_error *err)
{
    struct mly_mem *mem = writer->table->env->mem;
    *out = (struct mly_lance_data_file){
        .mem = mem,
        .field_count = writer->column_count,
        .row_count = writer->columns[0].rows,
        .file_bytes = writer->file_bytes,
    };
    out->field_ids = mly_mem_array(mem, writer->column_count, sizeof(out->field_ids[0]));
    if (out->field_ids == NULL) return mly_fail_nomem(err, writer->column_count * sizeof(int32_t));
    for (size_t i = 0; i < writer->column_count; i++) {
        out->field_ids[i] = writer->columns[i].field.id;
    }
    uint8_t uuid[16];
    MLY_TRY(mly_lance_own_uuid(writer->table, uuid, err));
    mly_lance_data_name(uuid, out->name);
    return MLY_OK;
}

static enum mly_err sync_and_name(struct mly_lance_writer *writer, const char *name,
                                  struct mly_error *err)
{
    struct lance_path temp, path;
    mly_lance_path(writer->table, writer->folder, writer->temp_name, &temp);
    mly_lance_path(writer->table, writer->folder, name, &path);
    enum mly_err rc = mly_file_sync(&writer->file, err);
    if (rc != MLY_OK) return mly_fail_in(err, rc, "%s", temp.text);
    return mly_file_rename(writer->table->env, MLY_AT_CWD, temp.text, path.text, err);
}

static void write_sums(struct mly_lance_writer *writer, const char *name)
{
    struct mly_sums sums = {0};
    struct mly_error ignored;
    if (writer->table->sums_path == NULL) return;
    if (mly_sums_maker_finish(&writer->maker, &sums, &ignored) != MLY_OK) return;
    mly_lance_sums_write(writer->table, name, &sums);
    mly_sums_deinit(&sums);
}

static enum mly_err write_tail(struct mly_lance_writer *writer, struct mly_error *err)
{
    struct mly_bytes tail;
    uint64_t offset = 0;
    mly_bytes_init(&tail, writer->table->env->mem, MLY_META_BYTES_MAX);
    /* The tail's first buffer is aligned like the others, so that it can be counted from there. */
    enum mly_err rc = write_buffer(writer, NULL, 0, &offset, err);
    if (rc == MLY_OK) rc = mly_lance_encode_tail(writer, offset, &tail, err);
    if (rc == MLY_OK) rc = write_buffer(writer, tail.data, tail.bytes, &offset, err);
    mly_bytes_deinit(&tail);
    return rc;
}

enum mly_err mly_lance_writer_complete(struct mly_lance_writer *writer, struct mly_error *err)
{
    if (writer->is_complete) return MLY_OK;
    /* Files of indices may be empty. */
    if (writer->extra == NULL) MLY_TRY(check_rows(writer, err));
    for (size_t i = 0; i < writer->column_count; i++) {
        MLY_TRY(mly_lance_flush_page(writer, &writer->columns[i], err));
    }
    MLY_TRY(write_tail(writer, err));
    writer->is_complete = true;
    hint(writer, writer->file_bytes, 1);
    return MLY_OK;
}

enum mly_err mly_lance_writer_finish_as(struct mly_lance_writer *writer, const char *name,
                                        const char *sums_name, struct mly_error *err)
{
    MLY_TRY(mly_lance_writer_complete(writer, err));
    MLY_TRY(sync_and_name(writer, name, err));
    writer->is_named = true;
    write_sums(writer, sums_name);
    return MLY_OK;
}

enum mly_err mly_lance_writer_finish(struct mly_lance_writer *writer,
                                     struct mly_lance_data_file *out, struct mly_error *err)
{
    struct mly_lance_data_file file = {0};
    if (writer->is_named) return mly_fail(err, MLY_ERR_INVAL, "the data file is finished already");
    MLY_TRY(mly_lance_writer_complete(writer, err));
    enum mly_err rc = describe(writer, &file, err);
    if (rc == MLY_OK) rc = sync_and_name(writer, file.name, err);
    if (rc != MLY_OK) {
        mly_lance_data_file_deinit(&file);
        return rc;
    }
    writer->is_named = true;
    write_sums(writer, file.name);
    *out = file;
    return MLY_OK;
}

void mly_lance_data_file_deinit(struct mly_lance_data_file *file)
{
    if (file->field_ids != NULL) mly_mem_free(file->mem, file->field_ids);
    file->field_ids = NULL;
    file->field_count = 0;
}

void mly_lance_data_file_discard(const struct mly_lance_table *table,
                                 const struct mly_lance_data_file *file)
{
    mly_lance_unlink(table, "data", file->name);
    mly_lance_sums_forget(table, file->name);
}
