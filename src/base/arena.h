/* A batch's memory: taken piece by piece, given back all at once.
 *
 * Owns     everything taken from it, until reset or deinit.
 * Errors   NULL where memory or the ceiling is exhausted; callers turn it into NOMEM with
 *          mly_fail_nomem.
 * Threads  one at a time.
 */
#ifndef MLY_BASE_ARENA_H
#define MLY_BASE_ARENA_H

#include "base/mem.h"
#include "base/str.h"

struct mly_arena_block;

struct mly_arena {
    struct mly_mem *mem;
    struct mly_arena_block *block;
    size_t bytes; /* taken since the last reset */
    size_t bytes_max;
};

/* Needs no memory yet. */
void mly_arena_init(struct mly_arena *arena, struct mly_mem *mem, size_t bytes_max);
void mly_arena_deinit(struct mly_arena *arena);
/* Frees all but one block. */
void mly_arena_reset(struct mly_arena *arena);
/* Aligned to 16 bytes, not zeroed. */
void *mly_arena_take(struct mly_arena *arena, size_t bytes);
/* count * item_bytes, zeroed; NULL also where the product does not fit. */
void *mly_arena_array(struct mly_arena *arena, size_t count, size_t item_bytes);
/* A copy with a NUL behind it; data is NULL only where memory failed. A null text gives an empty
 * one. */
struct mly_str mly_arena_copy(struct mly_arena *arena, struct mly_str text);

#endif
