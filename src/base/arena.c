/* A list of blocks that double in size; pieces are cut from the newest. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

struct mly_arena_block {
    struct mly_arena_block *older;
    size_t used;
    size_t capacity;
    size_t padding; /* keeps data at 16 bytes */
    unsigned char data[];
};

#define ARENA_BLOCK_BYTES_MIN ((size_t)4096)
#define ARENA_BLOCK_BYTES_MAX ((size_t)1 << 20)

void mly_arena_init(struct mly_arena *arena, struct mly_mem *mem, size_t bytes_max)
{
    *arena = (struct mly_arena){.mem = mem, .bytes_max = bytes_max};
}

static void free_blocks(struct mly_arena *arena, struct mly_arena_block *block)
{
    while (block != NULL) {
        struct mly_arena_block *older = block->older;
        mly_mem_free(arena->mem, block);
        block = older;
    }
}

void mly_arena_deinit(struct mly_arena *arena)
{
    free_blocks(arena, arena->block);
    arena->block = NULL;
    arena->bytes = 0;
}

void mly_arena_reset(struct mly_arena *arena)
{
    if (arena->block == NULL) return;
    free_blocks(arena, arena->block->older);
    arena->block->older = NULL;
    arena->block->used = 0;
    arena->bytes = 0;
}

static struct mly_arena_block *add_block(struct mly_arena *arena, size_t bytes)
{
    size_t capacity = arena->block == NULL ? ARENA_BLOCK_BYTES_MIN : arena->block->capacity * 2;
    if (capacity > ARENA_BLOCK_BYTES_MAX) capacity = ARENA_BLOCK_BYTES_MAX;
    if (capacity < bytes || arena->mem->tight) capacity = bytes;
    size_t total;
    if (!mly_size_add(capacity, sizeof(struct mly_arena_block), &total)) return NULL;
    struct mly_arena_block *block = mly_mem_alloc(arena->mem, total);
    if (block == NULL) return NULL;
    *block = (struct mly_arena_block){.older = arena->block, .capacity = capacity};
    arena->block = block;
    return block;
}

void *mly_arena_take(struct mly_arena *arena, size_t bytes)
{
    if (bytes > SIZE_MAX - 15) return NULL;
    size_t rounded = (bytes + 15) & ~(size_t)15;
    if (rounded > arena->bytes_max || arena->bytes > arena->bytes_max - rounded) return NULL;
    struct mly_arena_block *block = arena->block;
    if (block == NULL || block->capacity - block->used < rounded) {
        block = add_block(arena, rounded);
        if (block == NULL) return NULL;
    }
    void *piece = block->data + block->used;
    block->used += rounded;
    arena->bytes += rounded;
    return piece;
}

void *mly_arena_array(struct mly_arena *arena, size_t count, size_t item_bytes)
{
    size_t bytes;
    if (!mly_size_mul(count, item_bytes, &bytes)) return NULL;
    void *piece = mly_arena_take(arena, bytes);
    if (piece != NULL) memset(piece, 0, bytes);
    return piece;
}

struct mly_str mly_arena_copy(struct mly_arena *arena, struct mly_str text)
{
    if (text.bytes == SIZE_MAX) return MLY_STR_NULL;
    char *copy = mly_arena_take(arena, text.bytes + 1);
    if (copy == NULL) return MLY_STR_NULL;
    if (text.bytes > 0) memcpy(copy, text.data, text.bytes);
    copy[text.bytes] = '\0';
    return (struct mly_str){copy, text.bytes};
}
