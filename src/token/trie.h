/* The vocabulary as a double-array trie over bytes: one load and one comparison a byte.
 *
 * The child of a node with base B by byte b is cell B ^ b, if that cell's label is b. No two nodes
 * share a base, so that the label alone tells whose child a cell is; leaves have base 0, and cells
 * 0 to 255 stay empty. Byte 0 does not occur in pieces: label 0 marks an empty cell.
 *
 * Owns     the cells; mly_trie_deinit frees them.
 * Threads  read-only once built.
 * Source   Aoe 1989 (double array); Yata et al. 2007 (labels as checks, XOR as transition).
 */
#ifndef MLY_TOKEN_TRIE_H
#define MLY_TOKEN_TRIE_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>

struct mly_trie_cell {
    uint32_t base_label; /* base << 8 | label */
    int32_t id;          /* of the piece that ends here, or -1 */
};

struct mly_trie_piece {
    struct mly_str text;
    int32_t id;
};

struct mly_trie {
    struct mly_trie_cell *cells;
    size_t cell_count; /* a multiple of 256 */
    uint32_t root_base;
};

/* Bases have 24 bits. BERT's vocabulary is 0.23 MB, the largest multilingual ones about 4 MB. */
#define MLY_TRIE_BYTES_MAX ((size_t)8 << 20)

/* pieces: one a line, ids count the lines from 0.
 * Errors  CORRUPT a piece that is empty, stands twice, holds NUL or is not UTF-8; LIMIT more than
 * MLY_TRIE_BYTES_MAX; NOMEM. */
MLY_MUST_USE enum mly_err mly_trie_build(struct mly_mem *mem, struct mly_str pieces,
                                         struct mly_trie *out, struct mly_error *err);
/* The same of any pieces with any ids, of any bytes but 0; a text that stands twice has the id of
 * the last one.
 * Errors  CORRUPT a piece that is empty or holds NUL; LIMIT; NOMEM. */
MLY_MUST_USE enum mly_err mly_trie_build_pieces(struct mly_mem *mem,
                                                const struct mly_trie_piece *pieces, size_t count,
                                                struct mly_trie *out, struct mly_error *err);
void mly_trie_deinit(struct mly_mem *mem, struct mly_trie *trie);
/* Where walking piece from the root leads: its cell, or NULL where no piece begins so. */
const struct mly_trie_cell *mly_trie_find(const struct mly_trie *trie, struct mly_str piece);

#endif
