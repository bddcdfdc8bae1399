/* In: a vocabulary, one piece a line. Out: a double-array trie.
 *
 * Two steps: a plain trie of child lists (which finds duplicates on the way), then its nodes,
 * breadth first, are given bases at which all their children fall on free cells. Free cells hang in
 * a list; a node that fits nowhere in the first few gets a fresh block of 256. Upper levels have
 * many children and come first, the long tails with one child each then fill the gaps. */
#include "token/trie.h"

#include "base/utf8.h"

#include <stdbool.h>

#define BLOCK 256u
#define TRIES_MAX 64

struct node {
    uint32_t first_child, next_sibling; /* 0: none; node 0 is the root */
    int32_t id;
    uint32_t cell; /* where the node was put */
    uint8_t byte;
};

struct builder {
    struct mly_mem *mem;
    struct node *nodes;
    size_t node_count;
    uint32_t *queue; /* nodes, breadth first */
    struct mly_trie_cell *cells;
    uint32_t *next_free, *previous_free; /* a ring through cell 0, which is never free itself */
    bool *base_taken;
    size_t cell_count, cell_capacity;
};

/* The child by byte, or 0. It comes to the front of its list: pieces that share a beginning share
 * the next letters too, and the walk is half as long. */
static uint32_t child_of(struct builder *b, uint32_t node_i, uint8_t byte)
{
    uint32_t child = b->nodes[node_i].first_child, before = 0;
    while (child != 0 && b->nodes[child].byte != byte) {
        before = child;
        child = b->nodes[child].next_sibling;
    }
    if (child != 0 && before != 0) {
        b->nodes[before].next_sibling = b->nodes[child].next_sibling;
        b->nodes[child].next_sibling = b->nodes[node_i].first_child;
        b->nodes[node_i].first_child = child;
    }
    return child;
}

/* The node at the end of piece, made where it is not there. */
static uint32_t node_of(struct builder *b, struct mly_str piece)
{
    uint32_t node_i = 0;
    for (size_t i = 0; i < piece.bytes; i++) {
        uint8_t byte = (uint8_t)piece.data[i];
        uint32_t child = child_of(b, node_i, byte);
        if (child == 0) {
            child = (uint32_t)b->node_count++;
            b->nodes[child] = (struct node){
                .next_sibling = b->nodes[node_i].first_child,
                .id = -1,
                .byte = byte,
            };
            b->nodes[node_i].first_child = child;
        }
        node_i = child;
    }
    return node_i;
}

static enum mly_err insert_line(struct builder *b, struct mly_str piece, int32_t id,
                                struct mly_error *err)
{
    if (piece.bytes == 0) {
        return mly_fail(err, MLY_ERR_CORRUPT, "vocabulary piece %d is empty", (int)id);
    }
    if (memchr(piece.data, 0, piece.bytes) != NULL || mly_utf8_check(piece) != piece.bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT, "vocabulary piece %d is not UTF-8 text", (int)id);
    }
    uint32_t node_i = node_of(b, piece);
    if (b->nodes[node_i].id >= 0) {
        int shown = piece.bytes < 100 ? (int)piece.bytes : 100;
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "vocabulary piece \"%.*s\" stands twice, as %d and %d", shown, piece.data,
                        (int)b->nodes[node_i].id, (int)id);
    }
    b->nodes[node_i].id = id;
    return MLY_OK;
}

static enum mly_err insert_lines(struct builder *b, struct mly_str pieces, struct mly_error *err)
{
    int32_t id = 0;
    for (size_t at = 0; at < pieces.bytes; id++) {
        const char *end = memchr(pieces.data + at, '\n', pieces.bytes - at);
        size_t stop = end != NULL ? (size_t)(end - pieces.data) : pieces.bytes;
        MLY_TRY(insert_line(b, mly_str_slice(pieces, at, stop), id, err));
        at = stop + 1;
    }
    return MLY_OK;
}

/* Grows an array of count to capacity items; the old block stays the builder's on failure. */
static bool grow_array(struct mly_mem *mem, void **block, size_t capacity, size_t item_bytes)
{
    void *moved = mly_mem_realloc(mem, *block, capacity * item_bytes);
    if (moved == NULL) return false;
    *block = moved;
    return true;
}

static enum mly_err grow_cells(struct builder *b, struct mly_error *err)
{
    size_t capacity = b->cell_capacity == 0 ? 64 * BLOCK : 2 * b->cell_capacity;
    void *cells = b->cells, *next = b->next_free, *previous = b->previous_free;
    void *taken = b->base_taken;
    bool ok = grow_array(b->mem, &cells, capacity, sizeof(b->cells[0])) &&
              grow_array(b->mem, &next, capacity, sizeof(b->next_free[0])) &&
              grow_array(b->mem, &previous, capacity, sizeof(b->previous_free[0])) &&
              grow_array(b->mem, &taken, capacity, sizeof(b->base_taken[0]));
    b->cells = cells;
    b->next_free = next;
    b->previous_free = previous;
    b->base_taken = taken;
    if (!ok) return mly_fail_nomem(err, capacity * sizeof(b->cells[0]));
    b->cell_capacity = capacity;
    return MLY_OK;
}

/* A fresh block of empty cells at the end of the free list; the first block stays out of it. */
static enum mly_err add_block(struct builder *b, struct mly_error *err)
{
    if (b->cell_count + BLOCK > (size_t)1 << 24) {
        return mly_fail(err, MLY_ERR_LIMIT, "vocabulary needs more than %d cells", 1 << 24);
    }
    if (b->cell_count == b->cell_capacity) MLY_TRY(grow_cells(b, err));
    uint32_t start = (uint32_t)b->cell_count;
    for (uint32_t cell = start; cell < start + BLOCK; cell++) {
        b->cells[cell] = (struct mly_trie_cell){.id = -1};
        b->base_taken[cell] = false;
        b->next_free[cell] = b->previous_free[cell] = cell;
        if (start > 0) {
            uint32_t last = b->previous_free[0];
            b->next_free[last] = cell;
            b->previous_free[cell] = last;
            b->next_free[cell] = 0;
            b->previous_free[0] = cell;
        }
    }
    b->cell_count += BLOCK;
    return MLY_OK;
}

/* Turns the ring of free cells, so that those in front, which few nodes fit, are tried last. With
 * it, BERT's vocabulary fills three cells in four; without, one in four. */
static void begin_list_at(struct builder *b, uint32_t cell)
{
    b->next_free[b->previous_free[0]] = b->next_free[0];
    b->previous_free[b->next_free[0]] = b->previous_free[0];
    b->previous_free[0] = b->previous_free[cell];
    b->next_free[b->previous_free[0]] = 0;
    b->next_free[0] = cell;
    b->previous_free[cell] = 0;
}

static bool fits(const struct builder *b, uint32_t base, uint32_t first_child)
{
    if (b->base_taken[base]) return false;
    for (uint32_t child = first_child; child != 0; child = b->nodes[child].next_sibling) {
        if (b->cells[base ^ b->nodes[child].byte].base_label != 0) return false;
    }
    return true;
}

static enum mly_err find_base(struct builder *b, uint32_t first_child, uint32_t *base,
                              struct mly_error *err)
{
    uint8_t byte = b->nodes[first_child].byte;
    uint32_t cell = b->next_free[0];
    for (int tries = 0; cell != 0 && tries < TRIES_MAX; tries++, cell = b->next_free[cell]) {
        if (fits(b, cell ^ byte, first_child)) {
            *base = cell ^ byte;
            if (tries > TRIES_MAX / 8) begin_list_at(b, cell);
            return MLY_OK;
        }
    }
    if (cell != 0) begin_list_at(b, cell);
    uint32_t fresh = (uint32_t)b->cell_count;
    MLY_TRY(add_block(b, err));
    *base = fresh;
    return MLY_OK;
}

static enum mly_err place_nodes(struct builder *b, uint32_t *root_base, struct mly_error *err)
{
    MLY_TRY(add_block(b, err));
    size_t queued = 1;
    b->queue[0] = 0;
    for (size_t done = 0; done < queued; done++) {
        uint32_t node_i = b->queue[done], first_child = b->nodes[node_i].first_child;
        if (first_child == 0) continue;
        uint32_t base = 0;
        MLY_TRY(find_base(b, first_child, &base, err));
        b->base_taken[base] = true;
        if (node_i == 0) {
            *root_base = base;
        } else {
            b->cells[b->nodes[node_i].cell].base_label |= base << 8;
        }
        for (uint32_t child = first_child; child != 0; child = b->nodes[child].next_sibling) {
            uint32_t cell = base ^ b->nodes[child].byte;
            b->next_free[b->previous_free[cell]] = b->next_free[cell];
            b->previous_free[b->next_free[cell]] = b->previous_free[cell];
            b->cells[cell] = (struct mly_trie_cell){b->nodes[child].byte, b->nodes[child].id};
            b->nodes[child].cell = cell;
            b->queue[queued++] = child;
        }
    }
    return MLY_OK;
}

static enum mly_err insert_pieces(struct builder *b, const struct mly_trie_piece *pieces,
                                  size_t count, struct mly_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct mly_str text = pieces[i].text;
        if (text.bytes == 0 || memchr(text.data, 0, text.bytes) != NULL) {
            return mly_fail(err, MLY_ERR_CORRUPT, "vocabulary piece %d is empty or holds a NUL",
                            (int)pieces[i].id);
        }
        b->nodes[node_of(b, text)].id = pieces[i].id;
    }
    return MLY_OK;
}

/* Room for the worst case, not cleared: what is not needed costs no page. */
static enum mly_err init_builder(struct builder *b, struct mly_mem *mem, size_t text_bytes,
                                 struct mly_error *err)
{
    *b = (struct builder){.mem = mem};
    if (text_bytes > MLY_TRIE_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "vocabulary of %zu bytes is above the limit of %zu",
                        text_bytes, MLY_TRIE_BYTES_MAX);
    }
    b->nodes = mly_mem_alloc(mem, (text_bytes + 1) * sizeof(b->nodes[0]));
    b->queue = mly_mem_alloc(mem, (text_bytes + 1) * sizeof(b->queue[0]));
    if (b->nodes == NULL || b->queue == NULL) {
        return mly_fail_nomem(err, (text_bytes + 1) * sizeof(b->nodes[0]));
    }
    b->nodes[0] = (struct node){.id = -1};
    b->node_count = 1;
    return MLY_OK;
}

static void deinit_builder(struct builder *b)
{
    mly_mem_free(b->mem, b->nodes);
    mly_mem_free(b->mem, b->queue);
    mly_mem_free(b->mem, b->cells);
    mly_mem_free(b->mem, b->next_free);
    mly_mem_free(b->mem, b->previous_free);
    mly_mem_free(b->mem, b->base_taken);
}

static enum mly_err finish(struct builder *b, struct mly_trie *out, struct mly_error *err)
{
    uint32_t root_base = 0;
    MLY_TRY(place_nodes(b, &root_base, err));
    void *cells = b->cells;
    if (!grow_array(b->mem, &cells, b->cell_count, sizeof(b->cells[0]))) {
        return mly_fail_nomem(err, b->cell_count * sizeof(b->cells[0]));
    }
    *out = (struct mly_trie){cells, b->cell_count, root_base};
    b->cells = NULL;
    return MLY_OK;
}

enum mly_err mly_trie_build(struct mly_mem *mem, struct mly_str pieces, struct mly_trie *out,
                            struct mly_error *err)
{
    struct builder b;
    enum mly_err rc = init_builder(&b, mem, pieces.bytes, err);
    if (rc == MLY_OK) rc = insert_lines(&b, pieces, err);
    if (rc == MLY_OK) rc = finish(&b, out, err);
    deinit_builder(&b);
    return rc;
}

enum mly_err mly_trie_build_pieces(struct mly_mem *mem, const struct mly_trie_piece *pieces,
                                   size_t count, struct mly_trie *out, struct mly_error *err)
{
    struct builder b;
    size_t text_bytes = 0;
    for (size_t i = 0; i < count; i++) {
        text_bytes += pieces[i].text.bytes;
    }
    enum mly_err rc = init_builder(&b, mem, text_bytes, err);
    if (rc == MLY_OK) rc = insert_pieces(&b, pieces, count, err);
    if (rc == MLY_OK) rc = finish(&b, out, err);
    deinit_builder(&b);
    return rc;
}

void mly_trie_deinit(struct mly_mem *mem, struct mly_trie *trie)
{
    mly_mem_free(mem, trie->cells);
    *trie = (struct mly_trie){0};
}

const struct mly_trie_cell *mly_trie_find(const struct mly_trie *trie, struct mly_str piece)
{
    const struct mly_trie_cell *cell = NULL;
    uint32_t base = trie->root_base;
    for (size_t i = 0; i < piece.bytes; i++) {
        uint8_t byte = (uint8_t)piece.data[i];
        cell = &trie->cells[base ^ byte];
        if ((cell->base_label & 0xFFu) != byte || byte == 0) return NULL;
        base = cell->base_label >> 8;
    }
    return cell;
}
