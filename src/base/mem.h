/* Memory: one allocator value, given at birth and handed down; counted, limited, and made to fail
 * by tests.
 *
 * Units    bytes count as they were asked for, without what the allocator itself needs for a block.
 * Owns     what alloc, array and realloc give is freed with mly_mem_free of the same mly_mem.
 * Threads  safe: the counters are atomic.
 * Errors   NULL where memory cannot be had (the only NULL-means-failure here); callers turn it into
 * NOMEM with mly_fail_nomem.
 */
#ifndef MLY_BASE_MEM_H
#define MLY_BASE_MEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mly_mem {
    _Atomic uint64_t calls;    /* requests so far, failed ones included */
    _Atomic int64_t live;      /* blocks not freed yet */
    _Atomic uint64_t fail_at;  /* 0: never; n: request n fails (counted in calls from 1) */
    _Atomic bool fail_forever; /* and so do all after it */
    _Atomic uint64_t bytes;    /* in blocks not freed yet */
    uint64_t bytes_max;        /* 0: no ceiling */
    bool tight;                /* arenas and buffers ask for what they need and no more: each of
                                  their requests can fail, and each end of a piece is seen */
    struct mly_mem *above;     /* where it takes from and what counts the same once more; or NULL */
};

/* A fresh allocator on top of the C library's. */
#define MLY_MEM_INIT {0}

/* An allocator that takes from above and never holds more than bytes_max. NULL: no memory. It is
 * gone after mly_mem_let_go and the free of its last block, whichever comes later, so that results
 * may outlive the handle they were asked of. */
struct mly_mem *mly_mem_create_limited(struct mly_mem *above, uint64_t bytes_max);
/* mem may be NULL. */
void mly_mem_let_go(struct mly_mem *mem);

/* bytes may be 0: the result is then a block that can be freed. Not zeroed. */
void *mly_mem_alloc(struct mly_mem *mem, size_t bytes);
/* count * item_bytes, zeroed; NULL where the product does not fit. */
void *mly_mem_array(struct mly_mem *mem, size_t count, size_t item_bytes);
/* bytes of a text, with a NUL behind them; text may be NULL where bytes is 0. */
char *mly_mem_copy(struct mly_mem *mem, const char *text, size_t bytes);
/* Aligned to 64 bytes (a cache line, the widest vector); not zeroed; freed with mly_mem_free. */
void *mly_mem_alloc_aligned(struct mly_mem *mem, size_t bytes);
/* block may be NULL; it stays valid on failure. */
void *mly_mem_realloc(struct mly_mem *mem, void *block, size_t bytes);
/* block may be NULL. */
void mly_mem_free(struct mly_mem *mem, void *block);

/* False where the product or sum does not fit; *out is untouched then. */
bool mly_size_mul(size_t a, size_t b, size_t *out);
bool mly_size_add(size_t a, size_t b, size_t *out);

#endif
