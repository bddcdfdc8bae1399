/* Reads the little JSON that a model file's header is made of, from left to right, without memory.
 *
 * Every function skips the white space in front of what it reads, and says false, leaving the
 * cursor anywhere, where something else stands there.
 */
#ifndef MLY_EMBED_SCAN_H
#define MLY_EMBED_SCAN_H

#include "base/str.h"

#include <stdint.h>

struct mly_scan {
    const char *at, *end;
};

struct mly_scan mly_scan_of(struct mly_str text);
/* Takes the character mark. */
bool mly_scan_mark(struct mly_scan *scan, char mark);
/* Is mark next? Takes nothing but white space. */
bool mly_scan_sees(struct mly_scan *scan, char mark);
/* A string as it stands between its quotes, escapes and all. */
bool mly_scan_string(struct mly_scan *scan, struct mly_str *out);
/* A string without escapes. */
bool mly_scan_plain(struct mly_scan *scan, struct mly_str *out);
/* A whole number from 0 to 2^64 - 1, without sign, point or leading zeros. */
bool mly_scan_number(struct mly_scan *scan, uint64_t *out);
/* Nothing but white space is left. */
bool mly_scan_done(struct mly_scan *scan);
/* The text that the inside of a string stands for, into out; false where an escape is not one of
 * \" \\ \/ \n \t or out_bytes do not do. */
bool mly_scan_unescape(struct mly_str raw, char *out, size_t out_bytes, size_t *written);

#endif
