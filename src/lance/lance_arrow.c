/* Deletion files of kind "arrow": an Arrow IPC file with one batch of one column, u32 row offsets
 * in no order. Only as much of its flatbuffers is walked as leads to that buffer.
 *
 *   "ARROW1\0\0" messages ... footer flatbuffer, i32 its bytes, "ARROW1"
 *   Footer.recordBatches[0] = Block{i64 offset, i32 metadata bytes, i64 body bytes}
 *   message at offset: [u32 0xFFFFFFFF] u32 bytes, flatbuffer Message{.., header: RecordBatch}
 *   RecordBatch{i64 rows, nodes, buffers: {i64 offset, i64 bytes} in the body, compression}
 *   with compression a buffer is i64 its bytes when expanded (-1: it is not compressed), data
 *
 * Source   Apache Arrow format/File.fbs, Message.fbs; FlatBuffers' binary format. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <string.h>

#define MAGIC "ARROW1"
#define MAGIC_BYTES 6u
#define FOOTER_BATCHES 3 /* field numbers in the schemas */
#define MESSAGE_HEADER_TYPE 1
#define MESSAGE_HEADER 2
#define HEADER_RECORD_BATCH 3
#define BATCH_ROWS 0
#define BATCH_BUFFERS 2
#define BATCH_COMPRESSION 3
#define COMPRESSION_CODEC 0
#define CODEC_LZ4 0 /* the schema's default: absent */
#define CODEC_ZSTD 1

struct flat {
    const uint8_t *data;
    size_t bytes;
};

static enum mly_err fail_flat(size_t at, struct mly_error *err)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "its Arrow metadata points beyond itself at %zu", at);
}

static enum mly_err read_u32(struct flat flat, size_t at, uint32_t *out, struct mly_error *err)
{
    if (!lance_inside(at, 4, flat.bytes)) return fail_flat(at, err);
    *out = mly_get_u32le(flat.data + at);
    return MLY_OK;
}

static enum mly_err read_u64(struct flat flat, size_t at, uint64_t *out, struct mly_error *err)
{
    if (!lance_inside(at, 8, flat.bytes)) return fail_flat(at, err);
    *out = mly_get_u64le(flat.data + at);
    return MLY_OK;
}

/* Follows the offset that stands at `at`. */
static enum mly_err follow(struct flat flat, size_t at, size_t *out, struct mly_error *err)
{
    uint32_t offset = 0;
    MLY_TRY(read_u32(flat, at, &offset, err));
    if (offset > flat.bytes - at) return fail_flat(at, err);
    *out = at + offset;
    return MLY_OK;
}

/* Where field number i of the table stands; *out is 0 where it is absent (no field can be at 0). */
static enum mly_err find_field(struct flat flat, size_t table, size_t i, size_t *out,
                               struct mly_error *err)
{
    uint32_t back = 0;
    *out = 0;
    MLY_TRY(read_u32(flat, table, &back, err));
    int64_t vtable = (int64_t)table - (int32_t)back;
    if (vtable < 0 || !lance_inside((uint64_t)vtable, 4, flat.bytes)) return fail_flat(table, err);
    const uint8_t *at = flat.data + vtable;
    size_t vtable_bytes = mly_get_u16le(at);
    if (4 + 2 * i + 2 > vtable_bytes) return MLY_OK;
    if (!lance_inside((uint64_t)vtable, vtable_bytes, flat.bytes)) return fail_flat(table, err);
    size_t offset = mly_get_u16le(at + 4 + 2 * i);
    if (offset == 0) return MLY_OK;
    if (offset > flat.bytes - table) return fail_flat(table, err);
    *out = table + offset;
    return MLY_OK;
}

static enum mly_err need_field(struct flat flat, size_t table, size_t i, size_t *out,
                               struct mly_error *err)
{
    MLY_TRY(find_field(flat, table, i, out, err));
    if (*out == 0) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its Arrow metadata has no field %zu at %zu", i,
                        table);
    }
    return MLY_OK;
}

struct block {
    uint64_t offset, metadata_bytes, body_bytes;
};

static enum mly_err read_footer(const uint8_t *data, size_t bytes, struct block *out,
                                struct mly_error *err)
{
    if (bytes < 2 * MAGIC_BYTES + 6 || memcmp(data, MAGIC, MAGIC_BYTES) != 0 ||
        memcmp(data + bytes - MAGIC_BYTES, MAGIC, MAGIC_BYTES) != 0) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its %zu bytes are no Arrow file", bytes);
    }
    size_t footer_end = bytes - MAGIC_BYTES - 4;
    uint32_t footer_bytes = mly_get_u32le(data + footer_end);
    if (footer_bytes > footer_end) return fail_flat(footer_end, err);
    struct flat flat = {data + footer_end - footer_bytes, footer_bytes};
    size_t root, at, blocks;
    uint32_t count = 0, metadata_bytes = 0;
    MLY_TRY(follow(flat, 0, &root, err));
    MLY_TRY(need_field(flat, root, FOOTER_BATCHES, &at, err));
    MLY_TRY(follow(flat, at, &blocks, err));
    MLY_TRY(read_u32(flat, blocks, &count, err));
    if (count != 1) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "has %u Arrow batches, 1 is supported", count);
    }
    MLY_TRY(read_u64(flat, blocks + 4, &out->offset, err));
    MLY_TRY(read_u32(flat, blocks + 12, &metadata_bytes, err));
    MLY_TRY(read_u64(flat, blocks + 20, &out->body_bytes, err));
    out->metadata_bytes = metadata_bytes;
    if (!lance_inside(out->offset, out->metadata_bytes, bytes) ||
        !lance_inside(out->offset + out->metadata_bytes, out->body_bytes, bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its Arrow batch at %" PRIu64 " is beyond %zu bytes",
                        out->offset, bytes);
    }
    return MLY_OK;
}

/* The batch's only column. */
struct column {
    uint64_t rows;
    uint64_t offset, bytes; /* of its values in the body */
    bool is_compressed;
};

static enum mly_err read_compression(struct flat message, size_t batch, bool *is_compressed,
                                     struct mly_error *err)
{
    size_t at, table, codec_at;
    *is_compressed = false;
    MLY_TRY(find_field(message, batch, BATCH_COMPRESSION, &at, err));
    if (at == 0) return MLY_OK;
    MLY_TRY(follow(message, at, &table, err));
    MLY_TRY(find_field(message, table, COMPRESSION_CODEC, &codec_at, err));
    if (codec_at >= message.bytes) return fail_flat(codec_at, err);
    unsigned codec = codec_at == 0 ? CODEC_LZ4 : message.data[codec_at];
    if (codec != CODEC_ZSTD) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "its Arrow batch is compressed with codec %u, only zstd (1) is supported",
                        codec);
    }
    *is_compressed = true;
    return MLY_OK;
}

static enum mly_err read_batch(struct flat message, struct column *out, struct mly_error *err)
{
    size_t root, at, batch, buffers;
    uint32_t count = 0;
    MLY_TRY(follow(message, 0, &root, err));
    MLY_TRY(need_field(message, root, MESSAGE_HEADER_TYPE, &at, err));
    if (at >= message.bytes || message.data[at] != HEADER_RECORD_BATCH) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its Arrow block is no record batch");
    }
    MLY_TRY(need_field(message, root, MESSAGE_HEADER, &at, err));
    MLY_TRY(follow(message, at, &batch, err));
    MLY_TRY(read_compression(message, batch, &out->is_compressed, err));
    MLY_TRY(find_field(message, batch, BATCH_ROWS, &at, err));
    if (at != 0) MLY_TRY(read_u64(message, at, &out->rows, err));
    MLY_TRY(need_field(message, batch, BATCH_BUFFERS, &at, err));
    MLY_TRY(follow(message, at, &buffers, err));
    MLY_TRY(read_u32(message, buffers, &count, err));
    /* Validity and values: one column of fixed width. */
    if (count != 2) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "has %u Arrow buffers, 2 are supported", count);
    }
    MLY_TRY(read_u64(message, buffers + 4 + 16, &out->offset, err));
    return read_u64(message, buffers + 4 + 24, &out->bytes, err);
}

static enum mly_err add_rows(struct flat values, uint64_t rows, struct mly_lance_deletions *out,
                             struct mly_error *err)
{
    if (rows > values.bytes / 4) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its Arrow batch has %" PRIu64 " rows in %zu bytes",
                        rows, values.bytes);
    }
    for (uint64_t i = 0; i < rows; i++) {
        uint32_t row = mly_get_u32le(values.data + 4 * i);
        if (row >= out->row_count) {
            return mly_fail(err, MLY_ERR_CORRUPT, "names row %u of a fragment of %" PRIu64, row,
                            out->row_count);
        }
        MLY_TRY(mly_lance_deletions_add(out, row, err));
    }
    return MLY_OK;
}

static enum mly_err add_compressed_rows(struct flat buffer, uint64_t rows,
                                        struct mly_lance_deletions *out, struct mly_error *err)
{
    uint64_t expanded = 0;
    MLY_TRY(read_u64(buffer, 0, &expanded, err));
    struct flat data = {buffer.data + 8, buffer.bytes - 8};
    if (expanded == UINT64_MAX) return add_rows(data, rows, out, err);
    /* Each row of the fragment at most once, and a pad. */
    uint64_t expanded_max = out->row_count * 4 + 64;
    if (expanded > expanded_max) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "its Arrow batch expands to %" PRIu64 " bytes, limit is %" PRIu64, expanded,
                        expanded_max);
    }
    struct mly_bytes values;
    mly_bytes_init(&values, out->mem, MLY_META_BYTES_MAX);
    enum mly_err rc =
        mly_lance_zstd_read(out->mem, data.data, data.bytes, (size_t)expanded, &values, err);
    if (rc == MLY_OK) {
        rc = add_rows((struct flat){values.data, values.bytes}, rows, out, err);
    }
    mly_bytes_deinit(&values);
    return rc;
}

enum mly_err mly_lance_arrow_read(const uint8_t *data, size_t bytes,
                                  struct mly_lance_deletions *out, struct mly_error *err)
{
    struct block block = {0};
    struct column column = {0};
    MLY_TRY(read_footer(data, bytes, &block, err));
    struct flat message = {data + block.offset, (size_t)block.metadata_bytes};
    uint32_t head = 0;
    MLY_TRY(read_u32(message, 0, &head, err));
    /* Since Arrow 0.15 a mark stands before the length. */
    size_t skipped = head == UINT32_MAX ? 8 : 4;
    if (message.bytes < skipped) return fail_flat(0, err);
    message.data += skipped;
    message.bytes -= skipped;
    MLY_TRY(read_batch(message, &column, err));
    if (!lance_inside(column.offset, column.bytes, block.body_bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "its Arrow values of %" PRIu64 " bytes lie beyond their body of %" PRIu64,
                        column.bytes, block.body_bytes);
    }
    struct flat values = {data + block.offset + block.metadata_bytes + column.offset,
                          (size_t)column.bytes};
    if (column.is_compressed) return add_compressed_rows(values, column.rows, out, err);
    return add_rows(values, column.rows, out, err);
}
