/* Inside the chunk room: borders (where a text may be cut, and how well), the outline (headings of
 * a Markdown text), the ruler (word pieces between two places), the packer (borders to chunks).
 *
 * Units    positions are byte offsets in the whole text and stand between code points.
 */
#ifndef MLY_CHUNK_CHUNK_INT_H
#define MLY_CHUNK_CHUNK_INT_H

#include "base/err.h"
#include "chunk/chunk.h"
#include "flow/flow.h"

/* ---- borders */

/* How good a cut is; higher is better. */
enum mly_border {
    MLY_BORDER_POINT = 0, /* inside a user-perceived character, or CRLF */
    MLY_BORDER_GRAPHEME,  /* inside a word, or in front of white space */
    MLY_BORDER_SPLIT,     /* behind punctuation, between ideographs */
    MLY_BORDER_WORD,      /* behind white space */
    MLY_BORDER_LINE,
    MLY_BORDER_SENTENCE,  /* and list items */
    MLY_BORDER_PARAGRAPH, /* behind a blank line; the end of the text */
    MLY_BORDER_COUNT
};

enum mly_stop { MLY_STOP_NONE = 0, MLY_STOP_DOT, MLY_STOP_MARK, MLY_STOP_WIDE };

/* Walks over code points; what it says of a place depends only on the text since start. */
struct mly_border_scan {
    struct mly_str text;
    size_t at;
    uint32_t ahead; /* the code point at at */
    size_t ahead_bytes;
    size_t stop_at; /* where the stop stands */
    enum mly_stop stop;
    uint32_t newlines;  /* in the white space just passed */
    uint32_t regionals; /* regional indicators in a row just passed */
};
/* start is below text.bytes. */
void mly_border_start(struct mly_border_scan *scan, struct mly_str text, size_t start);
/* Passes one code point; what the place behind it, scan->at, is. scan->at is below text.bytes. */
enum mly_border mly_border_next(struct mly_border_scan *scan);
/* White_Space of Unicode. */
bool mly_border_is_space(uint32_t code_point);
/* The highest place up to at that is not inside a code point. */
size_t mly_border_floor(struct mly_str text, size_t at);
/* The start of the next code point. at is below text.bytes. */
size_t mly_border_after(struct mly_str text, size_t at);

/* Pairs of first and last code point, ascending: marks_tables.c. */
extern const uint32_t mly_marks[][2];
extern const size_t mly_marks_count;

/* ---- outline */

/* A part of a text under one heading; it ends where the next begins. */
struct mly_section {
    size_t start;
    size_t heading_offset;
    size_t heading_bytes; /* 0: no heading above */
};
struct mly_outline {
    struct mly_mem *mem;
    struct mly_section *items;
    size_t count, capacity;
    char *headings; /* paths, "A > B" */
    size_t heading_bytes, heading_capacity;
};
/* At least one section for a text that is not empty. */
MLY_MUST_USE enum mly_err mly_outline_read(struct mly_mem *mem, struct mly_str text,
                                           struct mly_outline *out, struct mly_error *err);
void mly_outline_deinit(struct mly_outline *outline);

/* ---- ruler */

/* Knows the word pieces of a window of the text, so that memory stays bounded. */
struct mly_ruler {
    const struct mly_meter *meter;
    struct mly_str text;
    struct mly_tokens tokens; /* of text[start:end] */
    size_t start, end;
    struct mly_tokens check; /* of a piece that is measured by itself */
};
void mly_ruler_init(struct mly_ruler *ruler, struct mly_mem *mem, const struct mly_meter *meter,
                    struct mly_str text);
void mly_ruler_deinit(struct mly_ruler *ruler);
/* Makes the window cover text[from:from + need_bytes] or to the end of the text. */
MLY_MUST_USE enum mly_err mly_ruler_cover(struct mly_ruler *ruler, size_t from, size_t need_bytes,
                                          struct mly_error *err);
/* Pieces of the window that begin in front of at. */
size_t mly_ruler_index(const struct mly_ruler *ruler, size_t at);
/* Where piece index begins; the window's end beyond the last. */
size_t mly_ruler_position(const struct mly_ruler *ruler, size_t index);
/* True where cutting at both places cannot change a piece: they stand behind white space. */
bool mly_ruler_is_safe(const struct mly_ruler *ruler, size_t from, size_t to);
/* Counts text[from:to] by itself; *cut is where piece number limit begins, if there are more. */
MLY_MUST_USE enum mly_err mly_ruler_measure(struct mly_ruler *ruler, size_t from, size_t to,
                                            size_t limit, size_t *out_count, size_t *cut,
                                            struct mly_error *err);

/* ---- packer */

struct mly_packer {
    struct mly_mem *mem;
    struct mly_str text;
    struct mly_ruler *ruler; /* NULL without a meter */
    struct mly_chunks *out;
    enum memalloy_chunking_kind kind;
    size_t pieces_max, points_max, bytes_max; /* of a chunk; SIZE_MAX: no limit */
    size_t overlap;                           /* pieces or points, as kind says */
    size_t line_at, line;                     /* the line of the place line_at */
};
/* Appends the chunks of text[start:end]. Only the first may begin before the end of the last. */
MLY_MUST_USE enum mly_err mly_packer_run(struct mly_packer *packer, size_t start, size_t end,
                                         struct mly_str heading, struct mly_error *err);

#endif
