/* The bytes of headers, in and out of little-endian form. */
#include "log/log_int.h"

#include "base/endian.h"

#define SEGMENT_MAGIC "MLY-LOG\n"
#define RECORD_MAGIC 0x524c594du /* "MYLR" */

/* Offsets in a segment's header; LOG_PAGE_BYTES long, zeros behind. */
enum {
    SEGMENT_FORMAT = 8,
    SEGMENT_GENERATION = 16,
    SEGMENT_SALT = 24,
    SEGMENT_FIRST_LSN = 32,
    SEGMENT_OWNER = 40,
    SEGMENT_SUM = 72,
    SEGMENT_BYTES = 76
};
/* and in a record's. */
enum {
    RECORD_TYPE = 4,
    RECORD_SALT = 8,
    RECORD_LSN = 16,
    RECORD_SYNCED_LSN = 24,
    RECORD_OFFSET = 32,
    RECORD_PAYLOAD_BYTES = 40,
    RECORD_PAYLOAD_SUM = 44,
    RECORD_PREVIOUS = 48,
    RECORD_ZERO_PIECES = 52,
    RECORD_RESERVED = 56,
    RECORD_SUM = 60
};

bool mly_log_is_zero(const uint8_t *data, size_t bytes)
{
    size_t i = 0;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word;
        memcpy(&word, data + i, sizeof(word));
        if (word != 0) return false;
    }
    for (; i < bytes; i++) {
        if (data[i] != 0) return false;
    }
    return true;
}

uint32_t mly_log_zero_pieces(const uint8_t *data, size_t bytes, uint64_t offset)
{
    uint32_t count = 0;
    for (size_t start = 0; start < bytes;) {
        size_t part = (size_t)(LOG_SECTOR_BYTES - (offset + start) % LOG_SECTOR_BYTES);
        if (part > bytes - start) part = bytes - start;
        count += mly_log_is_zero(data + start, part);
        start += part;
    }
    return count;
}

void mly_log_put_segment_head(mly_crc32c_fn crc, struct log_segment_head *head,
                              uint8_t out[LOG_PAGE_BYTES])
{
    memset(out, 0, LOG_PAGE_BYTES);
    memcpy(out, SEGMENT_MAGIC, 8);
    mly_put_u32le(out + SEGMENT_FORMAT, LOG_FORMAT);
    mly_put_u64le(out + SEGMENT_GENERATION, head->generation);
    mly_put_u64le(out + SEGMENT_SALT, head->salt);
    mly_put_u64le(out + SEGMENT_FIRST_LSN, head->first_lsn);
    memcpy(out + SEGMENT_OWNER, head->owner, MLY_LOG_OWNER_BYTES);
    head->sum = crc(0, out, SEGMENT_SUM);
    mly_put_u32le(out + SEGMENT_SUM, head->sum);
}

bool mly_log_get_segment_head(mly_crc32c_fn crc, const uint8_t *data, struct log_segment_head *out)
{
    if (memcmp(data, SEGMENT_MAGIC, 8) != 0) return false;
    *out = (struct log_segment_head){
        .generation = mly_get_u64le(data + SEGMENT_GENERATION),
        .salt = mly_get_u64le(data + SEGMENT_SALT),
        .first_lsn = mly_get_u64le(data + SEGMENT_FIRST_LSN),
        .sum = mly_get_u32le(data + SEGMENT_SUM),
    };
    memcpy(out->owner, data + SEGMENT_OWNER, MLY_LOG_OWNER_BYTES);
    return out->sum == crc(0, data, SEGMENT_SUM) &&
           mly_get_u32le(data + SEGMENT_FORMAT) == LOG_FORMAT && out->first_lsn > 0 &&
           mly_log_is_zero(data + SEGMENT_BYTES, LOG_PAGE_BYTES - SEGMENT_BYTES);
}

void mly_log_put_record_head(mly_crc32c_fn crc, struct log_record_head *head,
                             uint8_t out[LOG_HEAD_BYTES])
{
    mly_put_u32le(out, RECORD_MAGIC);
    mly_put_u32le(out + RECORD_TYPE, head->type);
    mly_put_u64le(out + RECORD_SALT, head->salt);
    mly_put_u64le(out + RECORD_LSN, head->lsn);
    mly_put_u64le(out + RECORD_SYNCED_LSN, head->synced_lsn);
    mly_put_u64le(out + RECORD_OFFSET, head->offset);
    mly_put_u32le(out + RECORD_PAYLOAD_BYTES, head->payload_bytes);
    mly_put_u32le(out + RECORD_PAYLOAD_SUM, head->payload_sum);
    mly_put_u32le(out + RECORD_PREVIOUS, head->previous);
    mly_put_u32le(out + RECORD_ZERO_PIECES, head->zero_pieces);
    mly_put_u32le(out + RECORD_RESERVED, 0);
    head->sum = crc(0, out, RECORD_SUM);
    mly_put_u32le(out + RECORD_SUM, head->sum);
}

void mly_log_put_draft(uint32_t type, uint32_t payload_bytes, uint32_t payload_sum,
                       uint8_t out[LOG_HEAD_BYTES])
{
    memset(out, 0, LOG_HEAD_BYTES);
    mly_put_u32le(out, RECORD_MAGIC);
    mly_put_u32le(out + RECORD_TYPE, type);
    mly_put_u32le(out + RECORD_PAYLOAD_BYTES, payload_bytes);
    mly_put_u32le(out + RECORD_PAYLOAD_SUM, payload_sum);
}

void mly_log_get_draft(const uint8_t *data, struct log_record_head *out)
{
    *out = (struct log_record_head){
        .type = mly_get_u32le(data + RECORD_TYPE),
        .payload_bytes = mly_get_u32le(data + RECORD_PAYLOAD_BYTES),
        .payload_sum = mly_get_u32le(data + RECORD_PAYLOAD_SUM),
    };
}

bool mly_log_get_record_head(mly_crc32c_fn crc, const uint8_t *data, struct log_record_head *out)
{
    if (mly_get_u32le(data) != RECORD_MAGIC) return false;
    *out = (struct log_record_head){
        .type = mly_get_u32le(data + RECORD_TYPE),
        .salt = mly_get_u64le(data + RECORD_SALT),
        .lsn = mly_get_u64le(data + RECORD_LSN),
        .synced_lsn = mly_get_u64le(data + RECORD_SYNCED_LSN),
        .offset = mly_get_u64le(data + RECORD_OFFSET),
        .payload_bytes = mly_get_u32le(data + RECORD_PAYLOAD_BYTES),
        .payload_sum = mly_get_u32le(data + RECORD_PAYLOAD_SUM),
        .previous = mly_get_u32le(data + RECORD_PREVIOUS),
        .zero_pieces = mly_get_u32le(data + RECORD_ZERO_PIECES),
        .sum = mly_get_u32le(data + RECORD_SUM),
    };
    return out->sum == crc(0, data, RECORD_SUM) && out->payload_bytes > 0 &&
           out->payload_bytes <= MLY_LOG_PAYLOAD_BYTES_MAX;
}

bool mly_log_resembles(const uint8_t *data, uint64_t salt, uint64_t lsn, uint64_t offset)
{
    if (mly_get_u64le(data + RECORD_SALT) == salt) return true;
    return mly_get_u32le(data) == RECORD_MAGIC && mly_get_u64le(data + RECORD_LSN) == lsn &&
           mly_get_u64le(data + RECORD_OFFSET) == offset;
}
