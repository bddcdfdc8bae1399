/* Rows of the tables as the goods of flow.h.
 *
 * In: a row of a view. Out: a document or a chunk; columns that are missing read as null, since
 * other programs make such tables too. */
#include "store/store_state_int.h"

size_t mly_store_view_find_part(const struct mly_store_view *view, uint64_t fragment_id)
{
    /* The tail's ids lie beyond those of any table. */
    for (size_t i = view->base_count; i < view->part_count; i++) {
        if (view->parts[i].fragment->id == fragment_id) return i;
    }
    size_t part_i = view->manifest == NULL
                        ? MLY_STORE_NO_PART
                        : mly_lance_manifest_find_fragment(view->manifest, fragment_id);
    return part_i < view->base_count ? part_i : MLY_STORE_NO_PART;
}

enum mly_err mly_store_cell_at(const struct mly_store_view *view, uint64_t address,
                               struct mly_store_cell *out, struct mly_error *err)
{
    size_t part_i = mly_store_view_find_part(view, address >> 32);
    uint64_t row = address & UINT32_MAX;
    if (part_i == MLY_STORE_NO_PART || row >= view->parts[part_i].row_count ||
        mly_store_part_is_dead(&view->parts[part_i], row)) {
        return mly_fail(err, MLY_ERR_INVAL, "no row %llu of fragment %llu in this snapshot",
                        (unsigned long long)row, (unsigned long long)(address >> 32));
    }
    *out = (struct mly_store_cell){view, &view->parts[part_i], row};
    return MLY_OK;
}

enum mly_err mly_store_cell_string(const struct mly_store_cell *cell, size_t column,
                                   struct mly_str *out, struct mly_error *err)
{
    const struct mly_store_fragment *fragment = cell->part->fragment;
    if (fragment->slab != NULL) {
        *out = mly_store_slab_string(fragment->slab, fragment->table->kind, cell->row, column);
        return MLY_OK;
    }
    return mly_lance_get_string(cell->part->fragment->data, cell->view->fields[column], cell->row,
                                out, err);
}

enum mly_err mly_store_cell_int64(const struct mly_store_cell *cell, size_t column,
                                  int64_t null_value, int64_t *out, struct mly_error *err)
{
    return mly_lance_get_int64(cell->part->fragment->data, cell->view->fields[column], cell->row,
                               null_value, out, err);
}

static enum mly_err read_text(const struct mly_store_cell *cell, size_t column,
                              struct mly_arena *arena, struct mly_str *out, struct mly_error *err)
{
    struct mly_str value;
    MLY_TRY(mly_store_cell_string(cell, column, &value, err));
    if (arena != NULL && value.data != NULL) {
        struct mly_str copy = mly_arena_copy(arena, value);
        if (copy.data == NULL) return mly_fail_nomem(err, value.bytes + 1);
        value = copy;
    }
    *out = value;
    return MLY_OK;
}

/* Times before 1970 are negative and mean something, so their null is another number. */
static enum mly_err read_stamp(const struct mly_store_cell *cell, struct mly_document *out,
                               struct mly_error *err)
{
    struct {
        size_t column;
        int64_t *value;
    } numbers[] = {
        {MLY_DOCUMENT_DEVICE, &out->stamp.device},
        {MLY_DOCUMENT_INODE, &out->stamp.inode},
        {MLY_DOCUMENT_MODIFIED_NS, &out->stamp.modified_ns},
        {MLY_DOCUMENT_CHANGED_NS, &out->stamp.changed_ns},
        {MLY_DOCUMENT_BYTE_COUNT, &out->stamp.byte_count},
    };
    out->has_stamp = true;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        MLY_TRY(mly_store_cell_int64(cell, numbers[i].column, INT64_MIN, numbers[i].value, err));
        if (*numbers[i].value == INT64_MIN) out->has_stamp = false;
    }
    if (!out->has_stamp) memset(&out->stamp, 0, sizeof(out->stamp));
    return MLY_OK;
}

enum mly_err mly_store_read_document(const struct mly_store_cell *cell, struct mly_arena *arena,
                                     struct mly_document *out, struct mly_error *err)
{
    struct mly_document document = {0};
    struct mly_str hash;
    if (cell->part->fragment->slab != NULL) {
        return mly_store_slab_document(cell->part->fragment->slab, cell->row, arena, out, err);
    }
    MLY_TRY(read_text(cell, MLY_DOCUMENT_ID, arena, &document.id, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_PATH, arena, &document.path, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_PATH_RAW, arena, &document.path_raw, err));
    MLY_TRY(read_stamp(cell, &document, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_TITLE, arena, &document.title, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_METADATA, arena, &document.metadata, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_CONTENT_HASH, NULL, &hash, err));
    document.has_content_hash = mly_hex_read(hash, document.content_hash.bytes, MLY_HASH_BYTES);
    MLY_TRY(mly_store_cell_int64(cell, MLY_DOCUMENT_BYTE_COUNT, -1, &document.byte_count, err));
    MLY_TRY(mly_store_cell_int64(cell, MLY_DOCUMENT_CHUNK_COUNT, -1, &document.chunk_count, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_STATUS, arena, &document.status, err));
    MLY_TRY(read_text(cell, MLY_DOCUMENT_REASON, arena, &document.reason, err));
    MLY_TRY(mly_store_cell_int64(cell, MLY_DOCUMENT_CREATED_AT, -1, &document.created_at_us, err));
    MLY_TRY(mly_store_cell_int64(cell, MLY_DOCUMENT_UPDATED_AT, -1, &document.updated_at_us, err));
    *out = document;
    return MLY_OK;
}

void mly_store_fetch_chunk(const struct mly_store_cell *cell, bool is_there)
{
    static const size_t columns[] = {
        MLY_CHUNK_ID,         MLY_CHUNK_DOCUMENT_ID, MLY_CHUNK_CONTENT,    MLY_CHUNK_METADATA,
        MLY_CHUNK_HEADING,    MLY_CHUNK_ORDINAL,     MLY_CHUNK_BYTE_START, MLY_CHUNK_BYTE_END,
        MLY_CHUNK_LINE_START, MLY_CHUNK_LINE_END,    MLY_CHUNK_PAGE_START, MLY_CHUNK_PAGE_END,
        MLY_CHUNK_CREATED_AT};
    const struct mly_lance_fragment *data = cell->part->fragment->data;
    for (size_t i = 0; data != NULL && i < sizeof(columns) / sizeof(columns[0]); i++)
        mly_lance_fetch(data, cell->view->fields[columns[i]], cell->row, is_there);
}

/* NULL where the row has no vector. */
static enum mly_err read_vector(const struct mly_store_cell *cell, const float **out,
                                struct mly_error *err)
{
    struct mly_lance_vectors page;
    MLY_TRY(mly_lance_get_vectors(cell->part->fragment->data, cell->view->fields[MLY_CHUNK_VECTOR],
                                  cell->row, &page, err));
    size_t i = (size_t)(cell->row - page.first_row);
    *out = NULL;
    if (page.values == NULL) return MLY_OK;
    if (page.valid != NULL && (page.valid[i >> 3] >> (i & 7) & 1) == 0) return MLY_OK;
    *out = page.values + i * page.dim;
    return mly_lance_check_vectors(cell->part->fragment->data, cell->view->fields[MLY_CHUNK_VECTOR],
                                   cell->row, 1, err);
}

enum mly_err mly_store_read_chunk(const struct mly_store_cell *cell, struct mly_arena *arena,
                                  struct mly_chunk_row *out, struct mly_error *err)
{
    struct mly_chunk_row row;
    memset(&row, 0, sizeof(row));
    struct mly_str id;
    if (cell->part->fragment->slab != NULL) {
        return mly_store_slab_chunk(cell->part->fragment->slab, cell->row, arena, out, err);
    }
    MLY_TRY(read_text(cell, MLY_CHUNK_ID, NULL, &id, err));
    /* Ours are UUIDs; a longer id of somebody else's is shown by its beginning. */
    size_t id_bytes = id.bytes < sizeof(row.id) - 1 ? id.bytes : sizeof(row.id) - 1;
    if (id_bytes > 0) memcpy(row.id, id.data, id_bytes);
    MLY_TRY(read_text(cell, MLY_CHUNK_DOCUMENT_ID, arena, &row.document_id, err));
    MLY_TRY(read_text(cell, MLY_CHUNK_CONTENT, arena, &row.content, err));
    MLY_TRY(read_text(cell, MLY_CHUNK_METADATA, arena, &row.metadata, err));
    MLY_TRY(read_text(cell, MLY_CHUNK_HEADING, arena, &row.heading, err));
    struct {
        size_t column;
        int64_t *value;
    } numbers[] = {
        {MLY_CHUNK_ORDINAL, &row.ordinal},   {MLY_CHUNK_BYTE_START, &row.byte_start},
        {MLY_CHUNK_BYTE_END, &row.byte_end}, {MLY_CHUNK_LINE_START, &row.line_start},
        {MLY_CHUNK_LINE_END, &row.line_end}, {MLY_CHUNK_PAGE_START, &row.page_start},
        {MLY_CHUNK_PAGE_END, &row.page_end}, {MLY_CHUNK_CREATED_AT, &row.created_at_us},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        MLY_TRY(mly_store_cell_int64(cell, numbers[i].column, -1, numbers[i].value, err));
    }
    MLY_TRY(read_vector(cell, &row.vector, err));
    *out = row;
    return MLY_OK;
}
