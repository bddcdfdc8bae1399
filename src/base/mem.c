/* The one place that calls the C library's allocator. In front of every block stands how large it
 * is, since what is freed must be counted off again and no portable call tells. */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES ((size_t)16) /* keeps what malloc gives aligned for every type */
#define ALIGNMENT ((size_t)64)

struct head {
    size_t bytes;  /* asked for */
    size_t before; /* from where the C library's block begins to where ours does */
};
_Static_assert(sizeof(struct head) <= HEAD_BYTES, "the head stands in front of the block");

static struct head *head_of(void *block)
{
    return (struct head *)(void *)((unsigned char *)block - HEAD_BYTES);
}

/* What malloc gave (NULL: nothing) becomes a block of ours. */
static void *make_block(void *start, size_t before, size_t bytes)
{
    if (start == NULL) return NULL;
    void *block = (unsigned char *)start + before;
    *head_of(block) = (struct head){bytes, before};
    return block;
}

static bool must_fail(struct mly_mem *mem)
{
    uint64_t call = atomic_fetch_add(&mem->calls, 1) + 1;
    uint64_t fail_at = atomic_load(&mem->fail_at);
    if (fail_at == 0) return false;
    return call == fail_at || (call > fail_at && atomic_load(&mem->fail_forever));
}

static void unclaim(struct mly_mem *mem, const struct mly_mem *end, size_t bytes)
{
    for (; mem != end; mem = mem->above) {
        atomic_fetch_sub(&mem->bytes, bytes);
    }
}

/* Counts a request in everywhere, or nowhere. */
static bool claim(struct mly_mem *mem, size_t bytes)
{
    for (struct mly_mem *at = mem; at != NULL; at = at->above) {
        bool fails = must_fail(at);
        uint64_t now = atomic_fetch_add(&at->bytes, bytes) + bytes;
        if (fails || (at->bytes_max > 0 && now > at->bytes_max)) {
            unclaim(mem, at->above, bytes);
            return false;
        }
    }
    return true;
}

static void count_block(struct mly_mem *mem)
{
    for (; mem != NULL; mem = mem->above) {
        atomic_fetch_add(&mem->live, 1);
    }
}

/* The other way; the last block of an allocator that was let go takes it along. */
static void uncount_block(struct mly_mem *mem)
{
    while (mem != NULL) {
        struct mly_mem *above = mem->above;
        if (atomic_fetch_sub(&mem->live, 1) == 1 && above != NULL) mly_mem_free(above, mem);
        mem = above;
    }
}

static void *counted(struct mly_mem *mem, void *block, size_t bytes)
{
    if (block != NULL) {
        count_block(mem);
    } else {
        unclaim(mem, NULL, bytes);
    }
    return block;
}

struct mly_mem *mly_mem_create_limited(struct mly_mem *above, uint64_t bytes_max)
{
    struct mly_mem *mem = mly_mem_array(above, 1, sizeof(*mem));
    if (mem == NULL) return NULL;
    mem->above = above;
    mem->bytes_max = bytes_max;
    mem->tight = above->tight;
    atomic_store(&mem->live, 1); /* whoever made it */
    return mem;
}

void mly_mem_let_go(struct mly_mem *mem)
{
    if (mem == NULL) return;
    struct mly_mem *above = mem->above;
    if (atomic_fetch_sub(&mem->live, 1) == 1) mly_mem_free(above, mem);
}

void *mly_mem_alloc(struct mly_mem *mem, size_t bytes)
{
    size_t whole;
    if (!claim(mem, bytes)) return NULL;
    void *start = mly_size_add(bytes, HEAD_BYTES, &whole) ? malloc(whole) : NULL;
    return counted(mem, make_block(start, HEAD_BYTES, bytes), bytes);
}

void *mly_mem_array(struct mly_mem *mem, size_t count, size_t item_bytes)
{
    size_t bytes;
    if (!mly_size_mul(count, item_bytes, &bytes)) return NULL;
    void *block = mly_mem_alloc(mem, bytes);
    if (block != NULL) memset(block, 0, bytes);
    return block;
}

char *mly_mem_copy(struct mly_mem *mem, const char *text, size_t bytes)
{
    size_t whole;
    char *copy = mly_size_add(bytes, 1, &whole) ? mly_mem_alloc(mem, whole) : NULL;
    if (copy == NULL) return NULL;
    if (bytes > 0) memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}

void *mly_mem_alloc_aligned(struct mly_mem *mem, size_t bytes)
{
    size_t whole;
    if (!claim(mem, bytes)) return NULL;
    void *start = mly_size_add(bytes, 2 * ALIGNMENT - 1, &whole)
                      ? aligned_alloc(ALIGNMENT, whole / ALIGNMENT * ALIGNMENT)
                      : NULL;
    return counted(mem, make_block(start, ALIGNMENT, bytes), bytes);
}

/* A block that began at more than its alignment begins at a plain one after it moved: nobody asks
 * for room for vectors this way. */
void *mly_mem_realloc(struct mly_mem *mem, void *block, size_t bytes)
{
    if (block == NULL) return mly_mem_alloc(mem, bytes);
    const struct head old = *head_of(block);
    size_t whole;
    if (!claim(mem, bytes)) return NULL;
    void *moved = NULL;
    if (mly_size_add(bytes, HEAD_BYTES, &whole)) {
        if (old.before == HEAD_BYTES) {
            moved = realloc((unsigned char *)block - HEAD_BYTES, whole);
        } else {
            moved = malloc(whole);
        }
    }
    if (moved != NULL && old.before != HEAD_BYTES) {
        memcpy((unsigned char *)moved + HEAD_BYTES, block, old.bytes < bytes ? old.bytes : bytes);
        free((unsigned char *)block - old.before);
    }
    unclaim(mem, NULL, moved != NULL ? old.bytes : bytes);
    return make_block(moved, HEAD_BYTES, bytes);
}

void mly_mem_free(struct mly_mem *mem, void *block)
{
    if (block == NULL) return;
    const struct head head = *head_of(block);
    unclaim(mem, NULL, head.bytes);
    free((unsigned char *)block - head.before);
    uncount_block(mem);
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
