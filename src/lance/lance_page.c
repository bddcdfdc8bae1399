/* A page's encoding (version 2.0: encodings inside encodings) becomes pointers into the mapped
 * file. Every extent is compared with the file and the number of rows here, once; what stands in
 * the buffers is looked at when it is used. */
#include "lance/lance_int.h"

#include "base/show.h"

#include <inttypes.h>
#include <string.h>

struct buffer {
    const uint8_t *data;
    uint64_t bytes;
};

/* The page being read: for messages and buffer lookups. */
struct page_reader {
    const struct lance_page_source *source;
    const MlyPb__Page *pb;
};

static int printed_name(const struct page_reader *reader)
{
    size_t bytes = reader->source->field->name.bytes;
    return (int)(bytes < 100 ? bytes : 100);
}

static enum mly_err fail_page(const struct page_reader *reader, enum mly_err code, const char *what,
                              uint64_t value, struct mly_error *err)
{
    const struct lance_page_source *source = reader->source;
    return mly_fail(err, code, "%s, column %.*s: %s (%" PRIu64 ")", source->file,
                    printed_name(reader), source->field->name.data, what, value);
}

static enum mly_err get_buffer(const struct page_reader *reader, const MlyPb__Buffer *pb,
                               struct buffer *out, struct mly_error *err)
{
    uint32_t i = pb == NULL ? 0 : pb->buffer_index;
    if (pb != NULL && pb->buffer_type != 0) {
        return fail_page(reader, MLY_ERR_UNSUPPORTED, "a buffer outside the page is not supported",
                         (uint64_t)(uint32_t)pb->buffer_type, err);
    }
    if (i >= reader->pb->n_buffer_offsets || i >= reader->pb->n_buffer_sizes) {
        return fail_page(reader, MLY_ERR_CORRUPT, "the page has no buffer of that number", i, err);
    }
    uint64_t offset = reader->pb->buffer_offsets[i];
    uint64_t bytes = reader->pb->buffer_sizes[i];
    if (!lance_inside(offset, bytes, reader->source->map->bytes)) {
        return fail_page(reader, MLY_ERR_CORRUPT, "a buffer lies beyond the end of the file",
                         offset, err);
    }
    *out = (struct buffer){reader->source->map->data + offset, bytes};
    return MLY_OK;
}

/* values of the given width, per_row of them per row, all inside the buffer. */
static enum mly_err get_flat(const struct page_reader *reader, const MlyPb__Flat *flat,
                             uint64_t bits, uint64_t rows, uint64_t per_row, struct buffer *out,
                             struct mly_error *err)
{
    if (flat->compression != NULL && flat->compression->scheme.len > 0) {
        struct mly_str scheme = lance_pb_str(flat->compression->scheme);
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "%s, column %.*s: pages compressed as %.*s are not supported",
                        reader->source->file, printed_name(reader),
                        reader->source->field->name.data, MLY_SHOWN(scheme, 32));
    }
    if (flat->bits_per_value != bits) {
        return fail_page(reader, MLY_ERR_UNSUPPORTED, "values of that many bits are not supported",
                         flat->bits_per_value, err);
    }
    MLY_TRY(get_buffer(reader, flat->buffer, out, err));
    /* rows < 2^31, per_row <= 2^16, bits <= 64: no product wraps. */
    uint64_t needed = (rows * per_row * bits + 7) / 8;
    if (out->bytes < needed) {
        return fail_page(reader, MLY_ERR_CORRUPT, "a buffer is too short for its rows", out->bytes,
                         err);
    }
    return MLY_OK;
}

static enum mly_err open_encoding(const struct page_reader *reader, ProtobufCBinaryData data,
                                  int depth, MlyPb__ArrayEncoding **out, struct mly_error *err)
{
    if (depth > LANCE_ENCODING_DEPTH_MAX) {
        return fail_page(reader, MLY_ERR_CORRUPT, "its encodings are nested too deeply",
                         (uint64_t)depth, err);
    }
    ProtobufCMessage *message;
    MLY_TRY(mly_lance_unpack(reader->source->mem, &mly_pb__array_encoding__descriptor, data.data,
                             data.len, reader->source->file, &message, err));
    *out = (MlyPb__ArrayEncoding *)message;
    return MLY_OK;
}

/* An encoding without the wrappers that say where nulls are. */
struct leaf {
    MlyPb__ArrayEncoding *encoding; /* owned by the caller; NULL: all null */
    const uint8_t *valid;
};

/* Opens data and goes through Nullable. rows_of_validity 0: a validity bitmap is skipped over, not
 * read. */
static enum mly_err open_leaf(const struct page_reader *reader, ProtobufCBinaryData data,
                              uint64_t validity_rows, struct leaf *out, struct mly_error *err)
{
    *out = (struct leaf){0};
    MlyPb__ArrayEncoding *encoding = NULL;
    MlyPb__ArrayEncoding *validity = NULL;
    enum mly_err rc = MLY_OK;
    for (int depth = 0;; depth++) {
        MlyPb__ArrayEncoding *next = NULL;
        rc = open_encoding(reader, data, depth, &next, err);
        if (rc != MLY_OK) goto done;
        if (encoding != NULL) mly_lance_unpacked_free(reader->source->mem, &encoding->base);
        encoding = next;
        const MlyPb__Nullable *nullable = encoding->nullable;
        if (nullable == NULL) break;
        if (nullable->no_null != NULL) {
            data = nullable->no_null->values;
        } else if (nullable->some_null != NULL && out->valid == NULL && validity == NULL) {
            rc = open_encoding(reader, nullable->some_null->validity, depth + 1, &validity, err);
            if (rc != MLY_OK) goto done;
            if (validity->flat == NULL) {
                rc = fail_page(reader, MLY_ERR_UNSUPPORTED,
                               "its nulls are encoded in an unknown way", 0, err);
                goto done;
            }
            struct buffer bits;
            rc = get_flat(reader, validity->flat, 1, validity_rows, 1, &bits, err);
            if (rc != MLY_OK) goto done;
            if (validity_rows > 0) out->valid = bits.data;
            data = nullable->some_null->values;
        } else if (nullable->all_null != NULL) {
            goto done; /* encoding is freed below: a leaf without one */
        } else {
            rc = fail_page(reader, MLY_ERR_UNSUPPORTED, "its nulls are encoded in an unknown way",
                           1, err);
            goto done;
        }
        /* data points into encoding, which the next round frees only after opening data. */
    }
    out->encoding = encoding;
    encoding = NULL;
done:
    if (encoding != NULL) mly_lance_unpacked_free(reader->source->mem, &encoding->base);
    if (validity != NULL) mly_lance_unpacked_free(reader->source->mem, &validity->base);
    return rc;
}

static void close_leaf(const struct page_reader *reader, struct leaf *leaf)
{
    if (leaf->encoding != NULL) mly_lance_unpacked_free(reader->source->mem, &leaf->encoding->base);
    leaf->encoding = NULL;
}

/* The buffer of plain values inside data. A null among them is read as what stands there where
 * nulls_skipped, else not supported. */
static enum mly_err read_plain(const struct page_reader *reader, ProtobufCBinaryData data,
                               uint64_t bits, uint64_t rows, uint64_t per_row, bool nulls_skipped,
                               struct buffer *out, struct mly_error *err)
{
    struct leaf leaf;
    MLY_TRY(open_leaf(reader, data, nulls_skipped ? rows * per_row : rows, &leaf, err));
    enum mly_err rc = MLY_OK;
    if (leaf.encoding == NULL || leaf.encoding->flat == NULL ||
        (leaf.valid != NULL && !nulls_skipped)) {
        rc = fail_page(reader, MLY_ERR_UNSUPPORTED, "its values are encoded in an unknown way",
                       bits, err);
    } else {
        rc = get_flat(reader, leaf.encoding->flat, bits, rows, per_row, out, err);
    }
    close_leaf(reader, &leaf);
    return rc;
}

static enum mly_err read_strings(const struct page_reader *reader, const MlyPb__Binary *binary,
                                 uint64_t count, struct lance_strings *out, struct mly_error *err)
{
    struct buffer ends, bytes;
    MLY_TRY(read_plain(reader, binary->indices, 64, count, 1, false, &ends, err));
    MLY_TRY(read_plain(reader, binary->bytes, 8, 0, 1, false, &bytes, err));
    if (binary->null_adjustment == 0) {
        return fail_page(reader, MLY_ERR_CORRUPT, "its null adjustment cannot be",
                         binary->null_adjustment, err);
    }
    *out = (struct lance_strings){
        .ends = ends.data,
        .count = count,
        .bytes = bytes.data,
        .byte_count = bytes.bytes,
        .null_adjustment = binary->null_adjustment,
    };
    return MLY_OK;
}

static enum mly_err read_dictionary(const struct page_reader *reader,
                                    const MlyPb__Dictionary *dictionary, struct lance_page *out,
                                    struct mly_error *err)
{
    struct buffer indices;
    struct leaf items;
    MLY_TRY(read_plain(reader, dictionary->indices, 8, out->row_count, 1, false, &indices, err));
    MLY_TRY(open_leaf(reader, dictionary->items, dictionary->item_count, &items, err));
    enum mly_err rc = MLY_OK;
    if (items.encoding == NULL || items.encoding->binary == NULL || items.valid != NULL ||
        dictionary->item_count > 255) {
        rc = fail_page(reader, MLY_ERR_UNSUPPORTED, "its dictionary is encoded in an unknown way",
                       dictionary->item_count, err);
    } else {
        rc = read_strings(reader, items.encoding->binary, dictionary->item_count, &out->strings,
                          err);
        out->kind = LANCE_PAGE_DICTIONARY;
        out->values = indices.data;
    }
    close_leaf(reader, &items);
    return rc;
}

static enum mly_err read_vectors(const struct page_reader *reader, const MlyPb__FixedSizeList *list,
                                 struct lance_page *out, struct mly_error *err)
{
    uint32_t dim = reader->source->field->dim;
    if (list->dimension != dim) {
        return fail_page(reader, MLY_ERR_CORRUPT,
                         "its vectors have another dimension than the table", list->dimension, err);
    }
    struct buffer values;
    MLY_TRY(read_plain(reader, list->items, 32, out->row_count, dim, true, &values, err));
    if ((uintptr_t)values.data % _Alignof(float) != 0) {
        return fail_page(reader, MLY_ERR_UNSUPPORTED, "its vectors are not aligned to 4 bytes",
                         (uint64_t)(values.data - reader->source->map->data), err);
    }
    out->kind = LANCE_PAGE_VECTOR;
    out->values = values.data;
    return MLY_OK;
}

static enum mly_err read_values(const struct page_reader *reader,
                                const MlyPb__ArrayEncoding *encoding, struct lance_page *out,
                                struct mly_error *err)
{
    struct buffer values;
    switch (reader->source->field->type) {
    case MLY_LANCE_STRING:
    case MLY_LANCE_BINARY:
        if (encoding->binary != NULL) {
            out->kind = LANCE_PAGE_BINARY;
            return read_strings(reader, encoding->binary, out->row_count, &out->strings, err);
        }
        if (encoding->dictionary != NULL) {
            return read_dictionary(reader, encoding->dictionary, out, err);
        }
        break;
    case MLY_LANCE_VECTOR:
        if (encoding->fixed_size_list != NULL) {
            return read_vectors(reader, encoding->fixed_size_list, out, err);
        }
        break;
    case MLY_LANCE_INT64:
    case MLY_LANCE_TIMESTAMP_US:
    case MLY_LANCE_FLOAT32:
        if (encoding->flat != NULL) {
            uint64_t bits = reader->source->field->type == MLY_LANCE_FLOAT32 ? 32 : 64;
            MLY_TRY(get_flat(reader, encoding->flat, bits, out->row_count, 1, &values, err));
            out->kind = LANCE_PAGE_FLAT;
            out->values = values.data;
            return MLY_OK;
        }
        break;
    case MLY_LANCE_OTHER:
    case MLY_LANCE_UINT64:
    case MLY_LANCE_CODES:
        break;
    }
    return fail_page(reader, MLY_ERR_UNSUPPORTED, "its page has an unknown encoding, first row",
                     out->first_row, err);
}

enum mly_err mly_lance_page_read(const struct lance_page_source *source, const MlyPb__Page *pb,
                                 struct lance_page *out, struct mly_error *err)
{
    struct page_reader reader = {source, pb};
    if (pb->encoding == NULL || pb->encoding->direct == NULL) {
        return fail_page(&reader, MLY_ERR_UNSUPPORTED, "its page has no encoding beside it",
                         out->first_row, err);
    }
    ProtobufCBinaryData bytes = pb->encoding->direct->any;
    ProtobufCMessage *message;
    MLY_TRY(mly_lance_unpack(source->mem, &mly_pb__any__descriptor, bytes.data, bytes.len,
                             source->file, &message, err));
    const MlyPb__Any *any = (const MlyPb__Any *)message;
    struct leaf leaf = {0};
    enum mly_err rc;
    if (!mly_str_equal(lance_pb_str(any->type_url), MLY_STR("/lance.encodings.ArrayEncoding"))) {
        rc = fail_page(&reader, MLY_ERR_UNSUPPORTED,
                       "its page is not encoded as version 2.0 does, first row", out->first_row,
                       err);
        goto done;
    }
    rc = open_leaf(&reader, any->value, out->row_count, &leaf, err);
    if (rc != MLY_OK) goto done;
    out->valid = leaf.valid;
    out->kind = LANCE_PAGE_NULL;
    if (leaf.encoding != NULL) rc = read_values(&reader, leaf.encoding, out, err);
done:
    close_leaf(&reader, &leaf);
    mly_lance_unpacked_free(source->mem, message);
    return rc;
}

/* Where string i ends, the mark of a null taken off. */
static uint64_t end_of(const struct lance_strings *strings, uint64_t i, bool *is_null)
{
    uint64_t end = mly_get_u64le(strings->ends + 8 * i);
    *is_null = end >= strings->null_adjustment;
    return *is_null ? end - strings->null_adjustment : end;
}

enum mly_err mly_lance_strings_get(const struct lance_strings *strings, uint64_t i,
                                   struct mly_str *out, struct mly_error *err)
{
    bool is_null, ignored;
    uint64_t start = i == 0 ? 0 : end_of(strings, i - 1, &ignored);
    uint64_t end = end_of(strings, i, &is_null);
    if (is_null) {
        *out = MLY_STR_NULL;
        return MLY_OK;
    }
    if (start > end || end > strings->byte_count) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "a text of bytes %" PRIu64 " to %" PRIu64 " in a page of %" PRIu64, start,
                        end, strings->byte_count);
    }
    /* An empty buffer may stand at the file's end; its address is still inside the mapping or one
     * behind it, and nothing is read through it. */
    *out = (struct mly_str){(const char *)strings->bytes + start, (size_t)(end - start)};
    return MLY_OK;
}
