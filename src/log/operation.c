/* Document operations in and out of bytes. Reading trusts nothing: every length is checked against
 * what is left, so that the worst a wrong byte can do is CORRUPT or another text. */
#include "log/operation.h"

#include "base/endian.h"
#include "base/limits.h"

#include <string.h>

#define FORMAT 1u
#define NULL_BYTES UINT32_MAX
#define SAME_BYTES (UINT32_MAX - 1)
#define HEAD_BYTES ((size_t)24)
#define ALIGNMENT ((size_t)64)
#define DOCUMENT_NUMBERS 9
#define ROW_NUMBERS 8
/* Of a row: its numbers, whether it has a vector, the lengths of four strings. */
#define ROW_BYTES_MIN ((size_t)(ROW_NUMBERS * 8 + 4 + 4 * 4))

enum { FLAG_STAMP = 1, FLAG_HASH = 2, FLAGS_ALL = 3 };

/* ---- both ways: which fields, in which order ---- */

static void list_document(struct mly_document *document, int64_t *numbers[DOCUMENT_NUMBERS],
                          struct mly_str *strings[7])
{
    numbers[0] = &document->stamp.device;
    numbers[1] = &document->stamp.inode;
    numbers[2] = &document->stamp.byte_count;
    numbers[3] = &document->stamp.modified_ns;
    numbers[4] = &document->stamp.changed_ns;
    numbers[5] = &document->byte_count;
    numbers[6] = &document->chunk_count;
    numbers[7] = &document->created_at_us;
    numbers[8] = &document->updated_at_us;
    strings[0] = &document->id;
    strings[1] = &document->path;
    strings[2] = &document->path_raw;
    strings[3] = &document->title;
    strings[4] = &document->metadata;
    strings[5] = &document->status;
    strings[6] = &document->reason;
}
#define DOCUMENT_STRINGS 7

static void list_row(struct mly_chunk_row *row, int64_t *numbers[ROW_NUMBERS])
{
    numbers[0] = &row->ordinal;
    numbers[1] = &row->byte_start;
    numbers[2] = &row->byte_end;
    numbers[3] = &row->line_start;
    numbers[4] = &row->line_end;
    numbers[5] = &row->page_start;
    numbers[6] = &row->page_end;
    numbers[7] = &row->created_at_us;
}

/* ---- encode ---- */

static enum mly_err put_string(struct mly_bytes *out, struct mly_str text, struct mly_error *err)
{
    if (text.data == NULL) return mly_bytes_append_u32le(out, NULL_BYTES, err);
    if (text.bytes >= SAME_BYTES) {
        return mly_fail(err, MLY_ERR_LIMIT, "text of %zu bytes, the limit is %u", text.bytes,
                        SAME_BYTES - 1);
    }
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)text.bytes, err));
    return mly_bytes_append(out, text.data, text.bytes, err);
}

static enum mly_err put_document(struct mly_bytes *out, const struct mly_document *document,
                                 struct mly_error *err)
{
    struct mly_document copy = *document;
    int64_t *numbers[DOCUMENT_NUMBERS];
    struct mly_str *strings[DOCUMENT_STRINGS];
    list_document(&copy, numbers, strings);
    for (size_t i = 0; i < DOCUMENT_NUMBERS; i++)
        MLY_TRY(mly_bytes_append_u64le(out, (uint64_t)*numbers[i], err));
    MLY_TRY(mly_bytes_append(out, document->content_hash.bytes, MLY_HASH_BYTES, err));
    for (size_t i = 0; i < DOCUMENT_STRINGS; i++)
        MLY_TRY(put_string(out, *strings[i], err));
    return MLY_OK;
}

static enum mly_err put_row(struct mly_bytes *out, const struct mly_document *document,
                            const struct mly_chunk_row *row, struct mly_error *err)
{
    struct mly_chunk_row copy = *row;
    int64_t *numbers[ROW_NUMBERS];
    list_row(&copy, numbers);
    for (size_t i = 0; i < ROW_NUMBERS; i++)
        MLY_TRY(mly_bytes_append_u64le(out, (uint64_t)*numbers[i], err));
    MLY_TRY(mly_bytes_append_u32le(out, row->vector != NULL, err));
    MLY_TRY(put_string(out, mly_str_of(row->id), err));
    MLY_TRY(put_string(out, row->content, err));
    if (row->metadata.data != NULL && mly_str_equal(row->metadata, document->metadata)) {
        MLY_TRY(mly_bytes_append_u32le(out, SAME_BYTES, err));
    } else {
        MLY_TRY(put_string(out, row->metadata, err));
    }
    return put_string(out, row->heading, err);
}

/* The machines we run on keep floats as they are written. */
static enum mly_err put_vectors(struct mly_bytes *out, size_t start,
                                const struct mly_operation *operation, struct mly_error *err)
{
    size_t beyond = (out->bytes - start) % ALIGNMENT;
    if (beyond != 0) MLY_TRY(mly_bytes_append_zeros(out, ALIGNMENT - beyond, err));
    for (size_t i = 0; i < operation->row_count; i++) {
        const float *vector = operation->rows[i].vector;
        if (vector == NULL) continue;
        MLY_TRY(mly_bytes_append(out, vector, operation->dim * sizeof(float), err));
    }
    return MLY_OK;
}

static enum mly_err check_operation(const struct mly_operation *operation, uint32_t *vectors,
                                    struct mly_error *err)
{
    *vectors = 0;
    if (operation->document.id.data == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "an operation without a document id");
    }
    if (operation->row_count > UINT32_MAX || operation->dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%zu rows of %u numbers, the limits are %u and %zu",
                        operation->row_count, operation->dim, UINT32_MAX, MLY_DIM_MAX);
    }
    for (size_t i = 0; i < operation->row_count; i++)
        *vectors += operation->rows[i].vector != NULL;
    if (*vectors > 0 && operation->dim == 0) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors of no numbers");
    }
    return MLY_OK;
}

static enum mly_err encode(const struct mly_operation *operation, uint32_t vectors,
                           struct mly_bytes *out, struct mly_error *err)
{
    const struct mly_document *document = &operation->document;
    const size_t start = out->bytes;
    const uint32_t head[HEAD_BYTES / 4] = {
        FORMAT,
        (uint32_t)operation->kind,
        operation->dim,
        (uint32_t)operation->row_count,
        (document->has_stamp ? FLAG_STAMP : 0u) | (document->has_content_hash ? FLAG_HASH : 0u),
        vectors,
    };
    for (size_t i = 0; i < HEAD_BYTES / 4; i++)
        MLY_TRY(mly_bytes_append_u32le(out, head[i], err));
    MLY_TRY(put_document(out, document, err));
    for (size_t i = 0; i < operation->row_count; i++)
        MLY_TRY(put_row(out, document, &operation->rows[i], err));
    return vectors == 0 ? MLY_OK : put_vectors(out, start, operation, err);
}

enum mly_err mly_operation_encode(const struct mly_operation *operation, struct mly_bytes *out,
                                  struct mly_error *err)
{
    uint32_t vectors;
    size_t before = out->bytes;
    MLY_TRY(check_operation(operation, &vectors, err));
    enum mly_err rc = encode(operation, vectors, out, err);
    if (rc != MLY_OK) out->bytes = before;
    return rc;
}

/* ---- decode ---- */

struct source {
    const uint8_t *at;
    size_t left, whole;
};

static enum mly_err fail_bytes(const struct source *source, const char *what, struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "log record: %s at byte %zu of %zu", what,
                    source->whole - source->left, source->whole);
}

static enum mly_err take(struct source *source, size_t bytes, const uint8_t **out,
                         struct mly_error *err)
{
    if (bytes > source->left) return fail_bytes(source, "it ends too early", err);
    *out = source->at;
    source->at += bytes;
    source->left -= bytes;
    return MLY_OK;
}

static enum mly_err take_u32(struct source *source, uint32_t *out, struct mly_error *err)
{
    const uint8_t *at = NULL;
    MLY_TRY(take(source, 4, &at, err));
    *out = mly_get_u32le(at);
    return MLY_OK;
}

static enum mly_err take_number(struct source *source, int64_t *out, struct mly_error *err)
{
    const uint8_t *at = NULL;
    MLY_TRY(take(source, 8, &at, err));
    *out = (int64_t)mly_get_u64le(at);
    return MLY_OK;
}

/* same: what SAME_BYTES stands for; NULL: nothing. */
static enum mly_err take_string(struct source *source, const struct mly_str *same,
                                struct mly_str *out, struct mly_error *err)
{
    uint32_t bytes = 0;
    const uint8_t *at = NULL;
    MLY_TRY(take_u32(source, &bytes, err));
    *out = MLY_STR_NULL;
    if (bytes == NULL_BYTES) return MLY_OK;
    if (bytes == SAME_BYTES && same != NULL && same->data != NULL) {
        *out = *same;
        return MLY_OK;
    }
    MLY_TRY(take(source, bytes, &at, err));
    *out = (struct mly_str){(const char *)at, bytes};
    return MLY_OK;
}

static enum mly_err take_document(struct source *source, struct mly_document *out,
                                  struct mly_error *err)
{
    int64_t *numbers[DOCUMENT_NUMBERS];
    struct mly_str *strings[DOCUMENT_STRINGS];
    const uint8_t *hash = NULL;
    list_document(out, numbers, strings);
    for (size_t i = 0; i < DOCUMENT_NUMBERS; i++)
        MLY_TRY(take_number(source, numbers[i], err));
    MLY_TRY(take(source, MLY_HASH_BYTES, &hash, err));
    memcpy(out->content_hash.bytes, hash, MLY_HASH_BYTES);
    for (size_t i = 0; i < DOCUMENT_STRINGS; i++)
        MLY_TRY(take_string(source, NULL, strings[i], err));
    if (out->id.data == NULL || out->id.bytes == 0 || out->id.bytes > MLY_ID_BYTES_MAX) {
        return fail_bytes(source, "a document id that cannot be one", err);
    }
    return MLY_OK;
}

static enum mly_err take_row(struct source *source, const struct mly_document *document,
                             struct mly_chunk_row *out, bool *has_vector, struct mly_error *err)
{
    int64_t *numbers[ROW_NUMBERS];
    struct mly_str id;
    uint32_t vector = 0;
    list_row(out, numbers);
    for (size_t i = 0; i < ROW_NUMBERS; i++)
        MLY_TRY(take_number(source, numbers[i], err));
    MLY_TRY(take_u32(source, &vector, err));
    MLY_TRY(take_string(source, NULL, &id, err));
    if (vector > 1 || id.data == NULL || id.bytes >= sizeof(out->id) ||
        memchr(id.data, '\0', id.bytes) != NULL) {
        return fail_bytes(source, "a chunk that cannot be one", err);
    }
    *has_vector = vector == 1;
    memcpy(out->id, id.data, id.bytes);
    out->id[id.bytes] = '\0';
    out->document_id = document->id;
    MLY_TRY(take_string(source, NULL, &out->content, err));
    MLY_TRY(take_string(source, &document->metadata, &out->metadata, err));
    return take_string(source, NULL, &out->heading, err);
}

/* Where the vectors stand: floats that may be read in place, or a copy. */
static enum mly_err take_vectors(struct source *source, uint32_t vectors, uint32_t dim,
                                 struct mly_arena *arena, const float **out, struct mly_error *err)
{
    const uint8_t *at = NULL;
    size_t bytes;
    size_t beyond = (source->whole - source->left) % ALIGNMENT;
    *out = NULL;
    if (vectors == 0) return MLY_OK;
    if (beyond != 0) MLY_TRY(take(source, ALIGNMENT - beyond, &at, err));
    if (dim == 0 || !mly_size_mul(vectors, dim * sizeof(float), &bytes)) {
        return fail_bytes(source, "vectors of no or too many numbers", err);
    }
    MLY_TRY(take(source, bytes, &at, err));
    if ((uintptr_t)at % sizeof(float) == 0) {
        *out = (const float *)(const void *)at;
        return MLY_OK;
    }
    float *copy = mly_arena_take(arena, bytes);
    if (copy == NULL) return mly_fail_nomem(err, bytes);
    memcpy(copy, at, bytes);
    *out = copy;
    return MLY_OK;
}

static enum mly_err take_rows(struct source *source, uint32_t vectors, struct mly_arena *arena,
                              struct mly_operation *out, struct mly_error *err)
{
    /* A count that the bytes cannot hold must not cost memory. */
    if (out->row_count > source->left / ROW_BYTES_MIN) {
        return fail_bytes(source, "more chunks than there are bytes", err);
    }
    struct mly_chunk_row *rows = mly_arena_array(arena, out->row_count, sizeof(rows[0]));
    bool *has_vector = mly_arena_array(arena, out->row_count, sizeof(has_vector[0]));
    if (rows == NULL || has_vector == NULL) {
        return mly_fail_nomem(err, out->row_count * sizeof(rows[0]));
    }
    uint32_t count = 0;
    for (size_t i = 0; i < out->row_count; i++) {
        MLY_TRY(take_row(source, &out->document, &rows[i], &has_vector[i], err));
        count += has_vector[i];
    }
    if (count != vectors) return fail_bytes(source, "another number of vectors than said", err);
    const float *values;
    MLY_TRY(take_vectors(source, vectors, out->dim, arena, &values, err));
    for (size_t i = 0; i < out->row_count; i++) {
        if (!has_vector[i]) continue;
        rows[i].vector = values;
        values += out->dim;
    }
    out->rows = rows;
    return MLY_OK;
}

enum mly_err mly_operation_decode(struct mly_str payload, struct mly_arena *arena,
                                  struct mly_operation *out, struct mly_error *err)
{
    struct source source = {(const uint8_t *)payload.data, payload.bytes, payload.bytes};
    struct mly_operation operation = {.rows = NULL};
    uint32_t head[HEAD_BYTES / 4] = {0};
    for (size_t i = 0; i < HEAD_BYTES / 4; i++)
        MLY_TRY(take_u32(&source, &head[i], err));
    if (head[0] != FORMAT) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "log record of format %u, known is %u", head[0],
                        FORMAT);
    }
    if (head[1] < MLY_OPERATION_PUT || head[1] > MLY_OPERATION_METADATA || head[2] > MLY_DIM_MAX ||
        head[4] > FLAGS_ALL || (head[3] > 0 && head[1] != MLY_OPERATION_PUT)) {
        return fail_bytes(&source, "an operation that cannot be one", err);
    }
    operation.kind = (enum mly_operation_kind)head[1];
    operation.dim = head[2];
    operation.row_count = head[3];
    operation.document.has_stamp = (head[4] & FLAG_STAMP) != 0;
    operation.document.has_content_hash = (head[4] & FLAG_HASH) != 0;
    MLY_TRY(take_document(&source, &operation.document, err));
    MLY_TRY(take_rows(&source, head[5], arena, &operation, err));
    if (source.left != 0) return fail_bytes(&source, "something behind its end", err);
    *out = operation;
    return MLY_OK;
}
