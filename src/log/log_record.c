/* The bytes of headers, in and out of little-endian form. */
#include "log/log_int.h"

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

static void put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *at)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value |= (uint32_t)at[i] << (8 * i);
    return value;
}

static uint64_t get_u64(const uint8_t *at)
{
    return (uint64_t)get_u32(at) | (uint64_t)get_u32(at + 4) << 32;
}

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
    put_u32(out + SEGMENT_FORMAT, LOG_FORMAT);
    put_u64(out + SEGMENT_GENERATION, head->generation);
    put_u64(out + SEGMENT_SALT, head->salt);
    put_u64(out + SEGMENT_FIRST_LSN, head->first_lsn);
    memcpy(out + SEGMENT_OWNER, head->owner, MLY_LOG_OWNER_BYTES);
    head->sum = crc(0, out, SEGMENT_SUM);
    put_u32(out + SEGMENT_SUM, head->sum);
}

bool mly_log_get_segment_head(mly_crc32c_fn crc, const uint8_t *data, struct log_segment_head *out)
{
    if (memcmp(data, SEGMENT_MAGIC, 8) != 0) return false;
    *out = (struct log_segment_head){
        .generation = get_u64(data + SEGMENT_GENERATION),
        .salt = get_u64(data + SEGMENT_SALT),
        .first_lsn = get_u64(data + SEGMENT_FIRST_LSN),
        .sum = get_u32(data + SEGMENT_SUM),
    };
    memcpy(out->owner, data + SEGMENT_OWNER, MLY_LOG_OWNER_BYTES);
    return out->sum == crc(0, data, SEGMENT_SUM) && get_u32(data + SEGMENT_FORMAT) == LOG_FORMAT &&
           out->first_lsn > 0 &&
           mly_log_is_zero(data + SEGMENT_BYTES, LOG_PAGE_BYTES - SEGMENT_BYTES);
}

void mly_log_put_record_head(mly_crc32c_fn crc, struct log_record_head *head,
                             uint8_t out[LOG_HEAD_BYTES])
{
    put_u32(out, RECORD_MAGIC);
    put_u32(out + RECORD_TYPE, head->type);
    put_u64(out + RECORD_SALT, head->salt);
    put_u64(out + RECORD_LSN, head->lsn);
    put_u64(out + RECORD_SYNCED_LSN, head->synced_lsn);
    put_u64(out + RECORD_OFFSET, head->offset);
    put_u32(out + RECORD_PAYLOAD_BYTES, head->payload_bytes);
    put_u32(out + RECORD_PAYLOAD_SUM, head->payload_sum);
    put_u32(out + RECORD_PREVIOUS, head->previous);
    put_u32(out + RECORD_ZERO_PIECES, head->zero_pieces);
    put_u32(out + RECORD_RESERVED, 0);
    head->sum = crc(0, out, RECORD_SUM);
    put_u32(out + RECORD_SUM, head->sum);
}

void mly_log_put_draft(uint32_t type, uint32_t payload_bytes, uint32_t payload_sum,
                       uint8_t out[LOG_HEAD_BYTES])
{
    memset(out, 0, LOG_HEAD_BYTES);
    put_u32(out, RECORD_MAGIC);
    put_u32(out + RECORD_TYPE, type);
    put_u32(out + RECORD_PAYLOAD_BYTES, payload_bytes);
    put_u32(out + RECORD_PAYLOAD_SUM, payload_sum);
}

void mly_log_get_draft(const uint8_t *data, struct log_record_head *out)
{
    *out = (struct log_record_head){
        .type = get_u32(data + RECORD_TYPE),
        .payload_bytes = get_u32(data + RECORD_PAYLOAD_BYTES),
        .payload_sum = get_u32(data + RECORD_PAYLOAD_SUM),
    };
}

bool mly_log_get_record_head(mly_crc32c_fn crc, const uint8_t *data, struct log_record_head *out)
{
    if (get_u32(data) != RECORD_MAGIC) return false;
    *out = (struct log_record_head){
        .type = get_u32(data + RECORD_TYPE),
        .salt = get_u64(data + RECORD_SALT),
        .lsn = get_u64(data + RECORD_LSN),
        .synced_lsn = get_u64(data + RECORD_SYNCED_LSN),
        .offset = get_u64(data + RECORD_OFFSET),
        .payload_bytes = get_u32(data + RECORD_PAYLOAD_BYTES),
        .payload_sum = get_u32(data + RECORD_PAYLOAD_SUM),
        .previous = get_u32(data + RECORD_PREVIOUS),
        .zero_pieces = get_u32(data + RECORD_ZERO_PIECES),
        .sum = get_u32(data + RECORD_SUM),
    };
    return out->sum == crc(0, data, RECORD_SUM) && out->payload_bytes > 0 &&
           out->payload_bytes <= MLY_LOG_PAYLOAD_BYTES_MAX;
}

bool mly_log_resembles(const uint8_t *data, uint64_t salt, uint64_t lsn, uint64_t offset)
{
    if (get_u64(data + RECORD_SALT) == salt) return true;
    return get_u32(data) == RECORD_MAGIC && get_u64(data + RECORD_LSN) == lsn &&
           get_u64(data + RECORD_OFFSET) == offset;
}
