/* Memory: one allocator value, given at birth and handed down; counted, limited, and made to fail
 * by tests.
 *
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
};

/* A fresh allocator on top of the C library's. */
#define MLY_MEM_INIT {0}

/* bytes may be 0: the result is then a block that can be freed. Not zeroed. */
void *mly_mem_alloc(struct mly_mem *mem, size_t bytes);
/* count * item_bytes, zeroed; NULL where the product does not fit. */
void *mly_mem_array(struct mly_mem *mem, size_t count, size_t item_bytes);
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
