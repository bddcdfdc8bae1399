/* UTF-8 as the Unicode Standard 15, section 3.9, table 3-7 defines it: no overlong forms, no
 * surrogates, nothing above U+10FFFF. */
#ifndef MLY_BASE_UTF8_H
#define MLY_BASE_UTF8_H

#include "base/str.h"

#include <stdint.h>

/* The offset of the first byte that is not part of a well-formed sequence; text.bytes where all is
 * well. */
size_t mly_utf8_check(struct mly_str text);
/* Reads the code point at offset (below text.bytes) of well-formed text; *bytes gets its length, 1
 * to 4. */
uint32_t mly_utf8_decode(struct mly_str text, size_t offset, size_t *bytes);
/* Writes 1 to 4 bytes; returns how many. code_point must be a Unicode scalar value. */
size_t mly_utf8_encode(uint32_t code_point, char out[4]);
/* Code points in well-formed text. */
size_t mly_utf8_count(struct mly_str text);

/* True where byte begins a code point. */
static inline bool mly_utf8_is_start(char byte)
{
    return ((unsigned char)byte & 0xC0u) != 0x80u;
}

#endif
