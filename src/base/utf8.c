/* ASCII goes by eight bytes at a time; everything else by the table of well-formed sequences. */
#include "base/utf8.h"

static bool is_tail(unsigned char byte)
{
    return (byte & 0xC0u) == 0x80u;
}

/* Bytes of the well-formed sequence at p, 0 if there is none. left is at least 1. */
static size_t sequence_bytes(const unsigned char *p, size_t left)
{
    unsigned char b = p[0];
    if (b < 0x80u) return 1;
    if (b < 0xC2u || b > 0xF4u) return 0;
    if (b < 0xE0u) return left >= 2 && is_tail(p[1]) ? 2 : 0;
    if (b < 0xF0u) {
        if (left < 3 || !is_tail(p[1]) || !is_tail(p[2])) return 0;
        if (b == 0xE0u && p[1] < 0xA0u) return 0;
        if (b == 0xEDu && p[1] > 0x9Fu) return 0; /* surrogates */
        return 3;
    }
    if (left < 4 || !is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3])) return 0;
    if (b == 0xF0u && p[1] < 0x90u) return 0;
    if (b == 0xF4u && p[1] > 0x8Fu) return 0;
    return 4;
}

size_t mly_utf8_check(struct mly_str text)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t i = 0;
    while (i < text.bytes) {
        if (text.bytes - i >= 8) {
            uint64_t word;
            memcpy(&word, p + i, sizeof(word));
            if ((word & 0x8080808080808080u) == 0) {
                i += 8;
                continue;
            }
        }
        size_t bytes = sequence_bytes(p + i, text.bytes - i);
        if (bytes == 0) return i;
        i += bytes;
    }
    return text.bytes;
}

uint32_t mly_utf8_decode(struct mly_str text, size_t offset, size_t *bytes)
{
    const unsigned char *p = (const unsigned char *)text.data + offset;
    if (p[0] < 0x80u) {
        *bytes = 1;
        return p[0];
    }
    if (p[0] < 0xE0u) {
        *bytes = 2;
        return ((uint32_t)(p[0] & 0x1Fu) << 6) | (p[1] & 0x3Fu);
    }
    if (p[0] < 0xF0u) {
        *bytes = 3;
        return ((uint32_t)(p[0] & 0x0Fu) << 12) | ((uint32_t)(p[1] & 0x3Fu) << 6) | (p[2] & 0x3Fu);
    }
    *bytes = 4;
    return ((uint32_t)(p[0] & 0x07u) << 18) | ((uint32_t)(p[1] & 0x3Fu) << 12) |
           ((uint32_t)(p[2] & 0x3Fu) << 6) | (p[3] & 0x3Fu);
}

size_t mly_utf8_encode(uint32_t code_point, char out[4])
{
    if (code_point < 0x80u) {
        out[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800u) {
        out[0] = (char)(0xC0u | (code_point >> 6));
        out[1] = (char)(0x80u | (code_point & 0x3Fu));
        return 2;
    }
    if (code_point < 0x10000u) {
        out[0] = (char)(0xE0u | (code_point >> 12));
        out[1] = (char)(0x80u | ((code_point >> 6) & 0x3Fu));
        out[2] = (char)(0x80u | (code_point & 0x3Fu));
        return 3;
    }
    out[0] = (char)(0xF0u | (code_point >> 18));
    out[1] = (char)(0x80u | ((code_point >> 12) & 0x3Fu));
    out[2] = (char)(0x80u | ((code_point >> 6) & 0x3Fu));
    out[3] = (char)(0x80u | (code_point & 0x3Fu));
    return 4;
}

size_t mly_utf8_count(struct mly_str text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.bytes; i++) {
        count += mly_utf8_is_start(text.data[i]);
    }
    return count;
}
