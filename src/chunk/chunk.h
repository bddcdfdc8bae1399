/* Cuts a text into chunks that cover it without a gap.
 *
 * Rules    white space between blocks belongs to the chunk before it, leading white space to the
 * first chunk; a blank text is one chunk, an empty one has none. Overlap repeats bytes at the start
 * of the next chunk. A chunk that the meter calls longer than pieces_max is split further, whatever
 * the strategy; heading and token chunks have at most MLY_CHUNK_BYTES_MAX bytes. Cuts fall between
 * code points. Units    heading and token sizes count word pieces, sentence and fixed sizes code
 * points. Owns     out, freed with mly_chunks_deinit; its spans index text. Threads  no state.
 * Errors   INVAL sizes, naming both; INVAL heading or token without a meter; NOMEM; what the meter
 * returns.
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

/* Puts the kind's own sizes in place of defaults and checks the rest. */
MLY_MUST_USE enum mly_err mly_chunking_resolve(struct mly_chunking *chunking,
                                               struct mly_error *err);
/* chunking is resolved; meter may be NULL for sentence and fixed. */
MLY_MUST_USE enum mly_err mly_chunk_split(struct mly_mem *mem, struct mly_str text,
                                          const struct mly_chunking *chunking,
                                          const struct mly_meter *meter, struct mly_chunks *out,
                                          struct mly_error *err);
void mly_chunks_deinit(struct mly_chunks *chunks);

#endif
