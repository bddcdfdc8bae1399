/* Slabs: rows of the tail in memory.
 *
 * In: rows that records hold. Out: their vectors side by side, so that a thousand single adds are a
 * few blocks to search and not a thousand. Rows are only added; whoever made a view knows how many
 * there were. */
#include "store/store_state_int.h"

#include "base/limits.h"

/* Of the vectors of one slab. */
#define SLAB_BYTES ((size_t)384 << 10)

enum mly_err mly_store_slab_make(struct mly_mem *mem, enum mly_store_table_kind kind, uint32_t dim,
                                 struct mly_store_slab **out, struct mly_error *err)
{
    struct mly_store_slab *slab = mly_mem_array(mem, 1, sizeof(*slab));
    if (slab == NULL) return mly_fail_nomem(err, sizeof(*slab));
    slab->capacity = MLY_SLAB_ROWS;
    if (kind == MLY_STORE_CHUNKS) {
        slab->dim = dim;
        /* Of a table of dimension 0 as of 1. */
        const size_t row_bytes = ((size_t)dim + (dim == 0)) * sizeof(float);
        const size_t fitting = SLAB_BYTES / row_bytes;
        if (fitting < slab->capacity) slab->capacity = fitting;
        if (slab->capacity < MLY_SLAB_ROWS_MIN) slab->capacity = MLY_SLAB_ROWS_MIN;
        size_t bytes = slab->capacity * row_bytes;
        slab->vectors = mly_mem_alloc_aligned(mem, bytes);
        if (slab->vectors == NULL) {
            mly_mem_free(mem, slab);
            return mly_fail_nomem(err, bytes);
        }
    }
    *out = slab;
    return MLY_OK;
}

void mly_store_slab_destroy(struct mly_mem *mem, struct mly_store_slab *slab)
{
    if (slab == NULL) return;
    for (size_t i = 0; i < slab->count; i++)
        mly_store_record_release(slab->records[i]);
    mly_mem_free(mem, slab->vectors);
    mly_mem_free(mem, slab);
}

void mly_store_slab_add(struct mly_store_slab *slab, enum mly_store_table_kind kind,
                        const struct mly_store_new_row *row)
{
    size_t i = slab->count;
    slab->records[i] = mly_store_record_retain(row->record);
    slab->rows[i] = row->row;
    if (kind == MLY_STORE_CHUNKS) {
        const float *vector = ((const struct mly_chunk_row *)row->row)->vector;
        float *to = slab->vectors + i * slab->dim;
        if (vector != NULL) {
            memcpy(to, vector, slab->dim * sizeof(float));
            slab->valid[i / 8] = (uint8_t)(slab->valid[i / 8] | 1u << (i % 8));
        } else {
            memset(to, 0, slab->dim * sizeof(float));
            slab->has_null = true;
        }
    }
    slab->count++;
}

struct mly_str mly_store_slab_string(const struct mly_store_slab *slab,
                                     enum mly_store_table_kind kind, uint64_t row, size_t column)
{
    if (kind == MLY_STORE_CHUNKS) {
        return ((const struct mly_chunk_row *)slab->rows[row])->document_id;
    }
    const struct mly_document *document = slab->rows[row];
    switch (column) {
    case MLY_DOCUMENT_ID:
        return document->id;
    case MLY_DOCUMENT_PATH:
        return document->path;
    case MLY_DOCUMENT_PATH_RAW:
        return document->path_raw;
    default:
        return document->status;
    }
}

/* ---- rows ---- */

static enum mly_err copy_texts(struct mly_str *const *texts, size_t count, struct mly_arena *arena,
                               struct mly_error *err)
{
    for (size_t i = 0; arena != NULL && i < count; i++) {
        if (texts[i]->data == NULL) continue;
        struct mly_str copy = mly_arena_copy(arena, *texts[i]);
        if (copy.data == NULL) return mly_fail_nomem(err, texts[i]->bytes + 1);
        *texts[i] = copy;
    }
    return MLY_OK;
}

enum mly_err mly_store_slab_document(const struct mly_store_slab *slab, uint64_t row_i,
                                     struct mly_arena *arena, struct mly_document *out,
                                     struct mly_error *err)
{
    struct mly_document document = *(const struct mly_document *)slab->rows[row_i];
    struct mly_str *texts[] = {&document.id,    &document.path,     &document.path_raw,
                               &document.title, &document.metadata, &document.status,
                               &document.reason};
    /* As the table gives them: it has one column for both lengths. */
    if (document.has_stamp) {
        document.byte_count = document.stamp.byte_count;
    } else {
        memset(&document.stamp, 0, sizeof(document.stamp));
    }
    MLY_TRY(copy_texts(texts, sizeof(texts) / sizeof(texts[0]), arena, err));
    *out = document;
    return MLY_OK;
}

enum mly_err mly_store_slab_chunk(const struct mly_store_slab *slab, uint64_t row_i,
                                  struct mly_arena *arena, struct mly_chunk_row *out,
                                  struct mly_error *err)
{
    struct mly_chunk_row row = *(const struct mly_chunk_row *)slab->rows[row_i];
    if (row.vector != NULL) row.vector = slab->vectors + row_i * slab->dim;
    struct mly_str *texts[] = {&row.document_id, &row.content, &row.metadata, &row.heading};
    MLY_TRY(copy_texts(texts, sizeof(texts) / sizeof(texts[0]), arena, err));
    *out = row;
    return MLY_OK;
}
