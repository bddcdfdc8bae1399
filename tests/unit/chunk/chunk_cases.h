/* What the tests of the chunk room share: texts, and the check of all rules of chunk.h. */
#ifndef MLY_TEST_CHUNK_CASES_H
#define MLY_TEST_CHUNK_CASES_H

#include "chunk/chunk.h"

#include <stdbool.h>

/* A meter for tests, so that they need no model: a piece is four letters or digits of a word at
 * most, or one wide code point (U+2E80 and above), or one mark; a word of more than 100 code points
 * is one piece, as BERT's [UNK] is. */
struct mly_meter fake_meter(size_t pieces_max);
size_t fake_count(struct mly_str text);

/* Splits with the fake meter of 254 pieces (or none) and checks every rule of chunk.h; the chunks
 * are the caller's. */
void split_and_check(struct mly_mem *mem, struct mly_str text, enum memalloy_chunking_kind kind,
                     int64_t size, int64_t overlap, bool metered, struct mly_chunks *out);

/* A pseudo random number and the next seed. */
uint64_t next_random(uint64_t *seed);
/* A text of words, marks, blanks, lines, CJK, emoji, combining marks and CRLF; freed with
 * mly_mem_free. */
struct mly_str random_text(struct mly_mem *mem, uint64_t seed, size_t bytes);
/* part, repeated until there are at least bytes. */
struct mly_str repeat_text(struct mly_mem *mem, const char *part, size_t bytes);

#endif
