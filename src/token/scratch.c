/* What a call of encode works with is kept between calls, so that a warm tokenizer allocates
 * nothing. Slots are emptied and filled with one atomic exchange each: no lock, and nothing that a
 * fork could leave half done. */
#include "token/token_int.h"

/* A scratch that had to grow beyond it for one huge text is dropped. */
#define KEPT_BYTES ((size_t)4 << 20)

struct mly_scratch *mly_scratch_take(const struct mly_tokenizer *tokenizer)
{
    for (size_t i = 0; i < MLY_SCRATCH_SLOTS; i++) {
        struct mly_scratch *found = atomic_exchange(&tokenizer->slots[i], NULL);
        if (found != NULL) return found;
    }
    struct mly_scratch *scratch = mly_mem_array(tokenizer->mem, 1, sizeof(*scratch));
    if (scratch == NULL) return NULL;
    scratch->mem = tokenizer->mem;
    mly_window_init(&scratch->window, tokenizer->mem);
    mly_window_init(&scratch->spare, tokenizer->mem);
    return scratch;
}

static size_t kept_bytes(const struct mly_scratch *scratch)
{
    return 9 * (scratch->window.capacity + scratch->spare.capacity) +
           scratch->letter_capacity * sizeof(scratch->letters[0]) +
           scratch->path_capacity * sizeof(scratch->paths[0]) +
           scratch->symbol_capacity * sizeof(scratch->symbols[0]) +
           scratch->heap_capacity * sizeof(scratch->heap[0]);
}

void mly_scratch_give(const struct mly_tokenizer *tokenizer, struct mly_scratch *scratch)
{
    for (size_t i = 0; i < MLY_SCRATCH_SLOTS && kept_bytes(scratch) <= KEPT_BYTES; i++) {
        struct mly_scratch *empty = NULL;
        if (atomic_compare_exchange_strong(&tokenizer->slots[i], &empty, scratch)) return;
    }
    mly_scratch_destroy(scratch);
}

void mly_scratch_destroy(struct mly_scratch *scratch)
{
    if (scratch == NULL) return;
    mly_window_deinit(&scratch->window);
    mly_window_deinit(&scratch->spare);
    mly_mem_free(scratch->mem, scratch->letters);
    mly_mem_free(scratch->mem, scratch->paths);
    mly_mem_free(scratch->mem, scratch->symbols);
    mly_mem_free(scratch->mem, scratch->heap);
    mly_mem_free(scratch->mem, scratch);
}

enum mly_err mly_scratch_grow(struct mly_scratch *scratch, void **array, size_t *capacity,
                              size_t count, size_t item_bytes, struct mly_error *err)
{
    if (count <= *capacity) return MLY_OK;
    size_t wanted = 0, bytes = 0;
    if (!mly_size_add(count, count / 2 + 256, &wanted) ||
        !mly_size_mul(wanted, item_bytes, &bytes)) {
        return mly_fail_nomem(err, SIZE_MAX);
    }
    void *grown = mly_mem_realloc(scratch->mem, *array, bytes);
    if (grown == NULL) return mly_fail_nomem(err, bytes);
    *array = grown;
    *capacity = wanted;
    return MLY_OK;
}
