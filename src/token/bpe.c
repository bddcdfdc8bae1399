/* In: a word. Out: its pieces, by byte pair encoding (Sennrich et al. 2016).
 *
 * Nearly all words are pieces themselves: where merging a piece's own bytes leads back to it, which
 * was tried when the tokenizer was compiled, one walk through the trie is all. Other words are
 * merged with a heap, by rank and place, in the very order of HF tokenizers, whose stale candidates
 * count as long as the pair at their place makes the same piece. */
#include "token/token_int.h"

#define NONE UINT32_MAX
/* As far as the builder of the table lets an entry stray. */
#define PROBES_MAX 64

static const struct mly_merge *find_merge(const struct mly_compiled *c, int32_t left, int32_t right)
{
    if (c->merges == NULL || left < 0 || right < 0) return NULL;
    size_t slot = mly_merge_slot((uint32_t)left, (uint32_t)right);
    for (int i = 0; i < PROBES_MAX; i++, slot++) {
        const struct mly_merge *merge = &c->merges[slot & c->merge_mask];
        if (merge->right == MLY_MERGE_EMPTY) return NULL;
        if (merge->left == (uint32_t)left && merge->right == (uint32_t)right) return merge;
    }
    return NULL;
}

static bool before(const struct mly_candidate *a, const struct mly_candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->place < b->place;
}

static void push(struct mly_candidate *heap, size_t *count, struct mly_candidate one)
{
    size_t at = (*count)++;
    while (at > 0 && before(&one, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = one;
}

static struct mly_candidate pop(struct mly_candidate *heap, size_t *count)
{
    const struct mly_candidate top = heap[0], last = heap[--*count];
    size_t at = 0;
    for (size_t child = 1; child < *count; child = 2 * at + 1) {
        if (child + 1 < *count && before(&heap[child + 1], &heap[child])) child++;
        if (!before(&heap[child], &last)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static void consider(const struct mly_compiled *c, struct mly_scratch *scratch, size_t *heap_count,
                     uint32_t place)
{
    const struct mly_symbol *symbols = scratch->symbols;
    const uint32_t next = symbols[place].next;
    if (next == NONE) return;
    const struct mly_merge *merge = find_merge(c, symbols[place].id, symbols[next].id);
    if (merge == NULL) return;
    push(scratch->heap, heap_count, (struct mly_candidate){merge->rank, place, (int32_t)merge->id});
}

/* Each merge takes one symbol away and offers two candidates at most: room for three of each. */
static enum mly_err merge_all(const struct mly_compiled *c, struct mly_scratch *scratch,
                              size_t count, struct mly_error *err)
{
    struct mly_symbol *symbols = scratch->symbols;
    MLY_TRY(mly_scratch_grow(scratch, (void **)&scratch->heap, &scratch->heap_capacity,
                             3 * count + 1, sizeof(scratch->heap[0]), err));
    size_t heap_count = 0;
    for (size_t i = 0; i < count; i++) {
        symbols[i].previous = i > 0 ? (uint32_t)(i - 1) : NONE;
        symbols[i].next = i + 1 < count ? (uint32_t)(i + 1) : NONE;
    }
    for (size_t i = 0; i + 1 < count; i++) {
        consider(c, scratch, &heap_count, (uint32_t)i);
    }
    while (heap_count > 0) {
        const struct mly_candidate top = pop(scratch->heap, &heap_count);
        struct mly_symbol *here = &symbols[top.place];
        if (here->bytes == 0 || here->next == NONE) continue;
        struct mly_symbol *right = &symbols[here->next];
        const struct mly_merge *merge = find_merge(c, here->id, right->id);
        if (merge == NULL || (int32_t)merge->id != top.id) continue;
        here->id = top.id;
        here->bytes += right->bytes;
        right->bytes = 0;
        here->next = right->next;
        if (here->next != NONE) symbols[here->next].previous = top.place;
        if (here->previous != NONE) consider(c, scratch, &heap_count, here->previous);
        consider(c, scratch, &heap_count, top.place);
    }
    return MLY_OK;
}

static void add(struct mly_symbol *symbols, size_t *count, int32_t id, size_t start, size_t bytes)
{
    symbols[(*count)++] =
        (struct mly_symbol){.id = id, .start = (uint32_t)start, .bytes = (uint32_t)bytes};
}

/* Unknown characters wait until a known one comes, as in HF, and may be fused. */
struct unknown {
    bool waits;
    size_t start, bytes;
};

static void add_unknown(const struct mly_settings *s, struct mly_symbol *symbols, size_t *count,
                        struct unknown *unknown, size_t start, size_t bytes)
{
    if (s->unk_id < 0) return; /* it is left out */
    if (unknown->waits && (s->flags & MLY_MODEL_FUSE_UNK)) {
        unknown->bytes += bytes;
        return;
    }
    if (unknown->waits) add(symbols, count, s->unk_id, unknown->start, unknown->bytes);
    *unknown = (struct unknown){true, start, bytes};
}

static size_t char_bytes(const struct mly_settings *s, uint8_t first, size_t left)
{
    if (s->flags & MLY_MODEL_BYTE_LEVEL) return 1;
    size_t bytes = first < 0xC2 || first > 0xF4 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    return bytes < left ? bytes : left;
}

/* The bytes of a character that is no piece, in place of it; false where one of them is none. */
static bool add_bytes(const struct mly_compiled *c, struct mly_symbol *symbols, size_t *count,
                      const uint8_t *bytes, size_t start, size_t taken)
{
    static const uint8_t mark[] = {0xE2, 0x96, 0x81};
    if (c->symbols == NULL || (c->settings->flags & MLY_MODEL_BYTE_FALLBACK) == 0) return false;
    const bool three = bytes[0] == ' ' && (c->settings->flags & MLY_MODEL_SPACES);
    const uint8_t zero = 0;
    if (bytes[0] == MLY_BYTE_NUL) bytes = &zero;
    if (three) bytes = mark;
    const size_t byte_count = three ? 3 : taken;
    for (size_t i = 0; i < byte_count; i++) {
        if (c->symbols[bytes[i]] < 0) return false;
    }
    for (size_t i = 0; i < byte_count; i++) {
        add(symbols, count, c->symbols[bytes[i]], three ? start : start + i, 1);
    }
    return true;
}

enum mly_err mly_bpe_merge(const struct mly_compiled *c, struct mly_scratch *scratch,
                           const uint8_t *bytes, size_t byte_count, size_t *count,
                           struct mly_error *err)
{
    const struct mly_settings *s = c->settings;
    const bool byte_level = s->flags & MLY_MODEL_BYTE_LEVEL;
    MLY_TRY(mly_scratch_grow(scratch, (void **)&scratch->symbols, &scratch->symbol_capacity,
                             3 * byte_count + 1, sizeof(scratch->symbols[0]), err));
    struct mly_symbol *symbols = scratch->symbols;
    struct unknown unknown = {0};
    *count = 0;
    for (size_t at = 0, taken = 0; at < byte_count; at += taken) {
        taken = char_bytes(s, bytes[at], byte_count - at);
        int32_t id = -1;
        if (byte_level) {
            id = c->symbols[bytes[at] == MLY_BYTE_NUL ? 0 : bytes[at]];
        } else {
            const struct mly_trie_cell *cell =
                mly_trie_walk(&c->cells, c->cells.root_base, bytes + at, taken);
            if (cell != NULL && cell->id >= 0) id = cell->id & ~MLY_CELL_WHOLE;
        }
        if (id >= 0) {
            if (unknown.waits) add(symbols, count, s->unk_id, unknown.start, unknown.bytes);
            unknown.waits = false;
            add(symbols, count, id, at, taken);
        } else if (byte_level || !add_bytes(c, symbols, count, bytes + at, at, taken)) {
            add_unknown(s, symbols, count, &unknown, at, taken);
        }
    }
    if (unknown.waits) add(symbols, count, s->unk_id, unknown.start, unknown.bytes);
    return merge_all(c, scratch, *count, err);
}

enum mly_err mly_bpe_encode(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                            const struct mly_word *word, struct mly_tokens *out,
                            struct mly_error *err)
{
    const struct mly_compiled *c = &t->compiled;
    const uint8_t *bytes = scratch->window.bytes + word->first;
    const size_t byte_count = word->end - word->first;
    const struct mly_trie_cell *cell =
        mly_trie_walk(&c->cells, c->cells.root_base, bytes, byte_count);
    if (cell != NULL && cell->id >= 0 &&
        ((cell->id & MLY_CELL_WHOLE) || (c->settings->flags & MLY_MODEL_IGNORE_MERGES))) {
        MLY_TRY(mly_tokens_reserve(out, 1, err));
        mly_pieces_put(scratch, word, cell->id & ~MLY_CELL_WHOLE, word->first, word->end, out);
        return MLY_OK;
    }
    size_t count = 0;
    MLY_TRY(mly_bpe_merge(c, scratch, bytes, byte_count, &count, err));
    MLY_TRY(mly_tokens_reserve(out, count, err));
    for (size_t i = 0; i < count; i++) {
        const struct mly_symbol *symbol = &scratch->symbols[i];
        if (symbol->bytes == 0) continue;
        const size_t from = word->first + symbol->start;
        size_t to = from + symbol->bytes;
        mly_pieces_put(scratch, word, symbol->id, from, to < word->end ? to : word->end, out);
    }
    return MLY_OK;
}
