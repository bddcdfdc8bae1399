/* The one place that calls the C library's allocator. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static bool must_fail(struct mly_mem *mem)
{
    uint64_t call = atomic_fetch_add(&mem->calls, 1) + 1;
    uint64_t fail_at = atomic_load(&mem->fail_at);
    if (fail_at == 0) return false;
    return call == fail_at || (call > fail_at && atomic_load(&mem->fail_forever));
}

void *mly_mem_alloc(struct mly_mem *mem, size_t bytes)
{
    if (must_fail(mem)) return NULL;
    void *block = malloc(bytes > 0 ? bytes : 1);
    if (block != NULL) atomic_fetch_add(&mem->live, 1);
    return block;
}

void *mly_mem_array(struct mly_mem *mem, size_t count, size_t item_bytes)
{
    size_t bytes;
    if (!mly_size_mul(count, item_bytes, &bytes)) return NULL;
    void *block = mly_mem_alloc(mem, bytes);
    if (block != NULL) memset(block, 0, bytes);
    return block;
}

void *mly_mem_alloc_aligned(struct mly_mem *mem, size_t bytes)
{
    if (must_fail(mem)) return NULL;
    size_t rounded;
    if (!mly_size_add(bytes, 64, &rounded)) return NULL;
    void *block = aligned_alloc(64, rounded / 64 * 64);
    if (block != NULL) atomic_fetch_add(&mem->live, 1);
    return block;
}

void *mly_mem_realloc(struct mly_mem *mem, void *block, size_t bytes)
{
    if (must_fail(mem)) return NULL;
    void *moved = realloc(block, bytes > 0 ? bytes : 1);
    if (moved != NULL && block == NULL) atomic_fetch_add(&mem->live, 1);
    return moved;
}

void mly_mem_free(struct mly_mem *mem, void *block)
{
    if (block == NULL) return;
    atomic_fetch_sub(&mem->live, 1);
    free(block);
}

bool mly_size_mul(size_t a, size_t b, size_t *out)
{
    if (b != 0 && a > SIZE_MAX / b) return false;
    *out = a * b;
    return true;
}

bool mly_size_add(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b) return false;
    *out = a + b;
    return true;
}
