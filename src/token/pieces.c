/* In: a word of a window. Out: its pieces with their places in the text; WordPiece for any settings
 * is here, the other models have files of their own. */
#include "token/token_int.h"

#include "base/utf8.h"

void mly_pieces_put(const struct mly_scratch *scratch, const struct mly_word *word, int32_t id,
                    size_t from, size_t to, struct mly_tokens *out)
{
    const struct mly_window *window = &scratch->window; /* item 0 is none of the text's */
    /* A space that we put there has the place of the character behind it. */
    if (word->lead && from == word->first) {
        from++;
        if (to <= from) to = from + 1;
    }
    if (window->same) {
        while (from > 1 && !mly_utf8_is_start((char)window->bytes[from])) {
            from--;
        }
        while (to < window->count && !mly_utf8_is_start((char)window->bytes[to])) {
            to++;
        }
    }
    uint32_t start = mly_window_start(window, from), end = mly_window_end(window, to - 1);
    if (out->count > 0) {
        const struct mly_token *before = &out->items[out->count - 1];
        if (start < before->byte_start) start = before->byte_start;
        if (end < before->byte_end) end = before->byte_end;
    }
    out->items[out->count++] = (struct mly_token){id, start, end};
}

static size_t count_chars(const uint8_t *bytes, size_t count, size_t most)
{
    size_t chars = 0;
    for (size_t i = 0; i < count && chars <= most; i++) {
        chars += mly_utf8_is_start((char)bytes[i]);
    }
    return chars;
}

/* The longest piece that word[at:end] begins with; 0 where there is none. */
static size_t longest(const struct mly_trie *trie, uint32_t base, const uint8_t *bytes,
                      size_t count, int32_t *id)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        const struct mly_trie_cell cell = trie->cells[base ^ bytes[i]];
        if ((cell.base_label & 0xFFu) != bytes[i]) break;
        base = cell.base_label >> 8;
        if (cell.id >= 0) {
            *id = cell.id;
            found = i + 1;
        }
    }
    return found;
}

enum mly_err mly_wordpiece_encode(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                                  const struct mly_word *word, struct mly_tokens *out,
                                  struct mly_error *err)
{
    const uint8_t *bytes = scratch->window.bytes;
    const size_t most = t->compiled.settings->word_chars_max, kept = out->count;
    const size_t count = word->end - word->first;
    bool fits = count <= most || count_chars(bytes + word->first, count, most) <= most;
    size_t at = word->first;
    while (fits && at < word->end) {
        int32_t id = 0;
        const uint32_t base = at == word->first ? t->compiled.cells.root_base : t->tail_base;
        const size_t taken = longest(&t->compiled.cells, base, bytes + at, word->end - at, &id);
        fits = taken > 0;
        if (!fits) break;
        MLY_TRY(mly_tokens_reserve(out, 1, err));
        mly_pieces_put(scratch, word, id, at, at + taken, out);
        at += taken;
    }
    if (fits) return MLY_OK;
    out->count = kept;
    MLY_TRY(mly_tokens_reserve(out, 1, err));
    mly_pieces_put(scratch, word, t->compiled.settings->unk_id, word->first, word->end, out);
    return MLY_OK;
}
