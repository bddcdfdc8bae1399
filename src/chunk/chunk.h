/* Cuts a text into chunks that cover it without a gap.
 *
 * Rules    white space between blocks belongs to the chunk before it, leading white space to the
 *          first chunk; a blank text is one chunk (or more, where it is longer than a chunk may
 *          be), an empty one has none. Overlap repeats bytes at the start of the next chunk, from a
 *          sentence or word on; it is left out where a sentence or word would not fit because of
 *          it, and across headings. A chunk that the meter calls longer than pieces_max is split
 *          further, whatever the strategy: sizes in word pieces above pieces_max count as it, with
 *          the overlap in proportion. heading and token chunks have at most MLY_CHUNK_BYTES_MAX
 *          bytes, all that were measured 32 KiB. Cuts fall between code points, and inside a
 *          user-perceived character only where nothing else fits.
 * heading  begins a chunk at each Markdown heading that has a body above it; borders within a
 *          section are picked by content, so that an edit changes a few chunks. What of "#" in
 *          source code is a heading: outline.c.
 * Units    heading and token sizes count word pieces, sentence and fixed sizes code points, white
 *          space included. Lines end at LF (so CRLF is one end, a lone CR none); line_start is that
 *          of the first byte, line_end that of the last byte that is not white space (of a blank
 *          chunk: the last byte).
 * Same     chunks depend on text, sizes and meter alone.
 * Owns     out, freed with mly_chunks_deinit; its spans index text.
 * Threads  no state.
 * Errors   INVAL sizes, naming both; INVAL heading or token without a meter; NOMEM; what the meter
 *          returns. out is untouched then.
 * Cost     linear in the bytes of all chunks; 12 bytes of memory for each piece of 256 KiB of text.
 */
#ifndef MLY_CHUNK_CHUNK_H
#define MLY_CHUNK_CHUNK_H

#include "base/err.h"
#include "flow/flow.h"

struct mly_chunking {
    enum memalloy_chunking_kind kind;
    int64_t size;    /* MEMALLOY_SIZE_DEFAULT: the kind's own */
    int64_t overlap; /* MEMALLOY_SIZE_DEFAULT: the kind's own */
};

/* Puts the kind's own sizes in place of defaults and checks the rest. A default overlap of a size
 * below the kind's own is smaller in proportion. */
MLY_MUST_USE enum mly_err mly_chunking_resolve(struct mly_chunking *chunking,
                                               struct mly_error *err);
/* chunking is resolved; meter may be NULL for sentence and fixed. */
MLY_MUST_USE enum mly_err mly_chunk_split(struct mly_mem *mem, struct mly_str text,
                                          const struct mly_chunking *chunking,
                                          const struct mly_meter *meter, struct mly_chunks *out,
                                          struct mly_error *err);
/* Safe to repeat. */
void mly_chunks_deinit(struct mly_chunks *chunks);

#endif
