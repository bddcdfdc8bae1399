/* In: a text. Out: its pieces, with any tokenizer.
 *
 * Added tokens are found in the text as it stands; what lies between them is normalised, searched
 * once more for those that are looked for after that, cut into words, and the words into pieces. A
 * long stretch is taken in windows that end where a letter follows a single space: nothing that any
 * of the steps does reaches across such a place (open.c says which steps those are), so that memory
 * is bounded whatever the length. */
#include "token/property.h"
#include "token/token_int.h"

#include "base/utf8.h"

#define WINDOW_BYTES ((size_t)4096)

/* A token that was found, with the blanks that it takes along. */
struct found {
    size_t start, end;
    int32_t id;
};

static uint32_t bits_behind(const uint8_t *bytes, size_t at, size_t count)
{
    size_t taken = 0;
    return mly_property(mly_window_decode(bytes + at, count - at, &taken))->bits;
}

/* Where the character before at begins. */
static size_t step_back(const uint8_t *bytes, size_t at, size_t low)
{
    at--;
    for (int i = 0; i < 3 && at > low && !mly_utf8_is_start((char)bytes[at]); i++) {
        at--;
    }
    return at;
}

/* The next added token in bytes[at:count] that counts. low: nothing before it is taken along. */
static bool find_added(const struct mly_compiled *c, const struct mly_trie *trie,
                       const uint8_t begins[256], const uint8_t *bytes, size_t low, size_t at,
                       size_t count, struct found *out, size_t *match_end)
{
    for (; at < count; at++) {
        if (!begins[bytes[at]]) continue;
        uint32_t base = trie->root_base;
        size_t end = 0;
        int32_t found = -1;
        for (size_t i = at; i < count; i++) {
            const struct mly_trie_cell cell = trie->cells[base ^ bytes[i]];
            if ((cell.base_label & 0xFFu) != bytes[i] || bytes[i] == 0) break;
            base = cell.base_label >> 8;
            if (cell.id < 0) continue;
            found = cell.id;
            end = i + 1;
        }
        if (found < 0) continue;
        const struct mly_added *added = &c->added[found];
        *match_end = end;
        *out = (struct found){at, end, added->id};
        if (added->flags & MLY_ADDED_WORD) {
            const bool before =
                at > 0 && (bits_behind(bytes, step_back(bytes, at, 0), count) & MLY_IS_WORD);
            const bool after = end < count && (bits_behind(bytes, end, count) & MLY_IS_WORD);
            if (before || after) {
                at = end - 1;
                continue;
            }
        }
        while ((added->flags & MLY_ADDED_LSTRIP) && out->start > low) {
            const size_t back = step_back(bytes, out->start, low);
            if ((bits_behind(bytes, back, count) & MLY_IS_SPACE) == 0) break;
            out->start = back;
        }
        while ((added->flags & MLY_ADDED_RSTRIP) && out->end < count) {
            size_t taken = 0;
            const uint32_t next = mly_window_decode(bytes + out->end, count - out->end, &taken);
            if ((mly_property(next)->bits & MLY_IS_SPACE) == 0) break;
            out->end += taken;
        }
        return true;
    }
    return false;
}

static enum mly_err put_added(struct mly_tokens *out, int32_t id, uint32_t start, uint32_t end,
                              struct mly_error *err)
{
    MLY_TRY(mly_tokens_reserve(out, 1, err));
    if (out->count > 0) {
        const struct mly_token *before = &out->items[out->count - 1];
        if (start < before->byte_start) start = before->byte_start;
        if (end < before->byte_end) end = before->byte_end;
    }
    out->items[out->count++] = (struct mly_token){id, start, end};
    return MLY_OK;
}

/* What was normalised, between the added tokens that are looked for only now. */
static enum mly_err encode_window(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                                  struct mly_tokens *out, struct mly_error *err)
{
    const struct mly_compiled *c = &t->compiled;
    struct mly_window *window = &scratch->window;
    size_t at = 0, search = 0, match_end = 0;
    struct found found;
    while (c->normal.cell_count > 0 && find_added(c, &c->normal, t->normal_begins, window->bytes,
                                                  at, search, window->count, &found, &match_end)) {
        MLY_TRY(mly_cut(t, scratch, at, found.start, out, err));
        MLY_TRY(put_added(out, found.id, mly_window_start(window, found.start),
                          mly_window_end(window, found.end - 1), err));
        at = found.end;
        search = found.end > match_end ? found.end : match_end;
    }
    return mly_cut(t, scratch, at, window->count, out, err);
}

static bool is_safe_start(uint32_t c)
{
    const struct mly_property *property = mly_property(c);
    return (property->bits & MLY_IS_LETTER) && !(property->bits & MLY_IS_SECOND) &&
           mly_property_order(property) == 0 && property->nfkd == 0 &&
           (property->bits >> 24 & 0xFu) == MLY_CLUSTER_OTHER;
}

/* Where a window that begins at from may end, at most at to. */
static size_t window_end(const struct mly_tokenizer *t, struct mly_str text, size_t from, size_t to)
{
    if (!t->cut_anywhere || to - from <= WINDOW_BYTES) return to;
    const uint8_t *bytes = (const uint8_t *)text.data;
    for (size_t at = from + WINDOW_BYTES; at + 1 < to; at++) {
        if (bytes[at] != ' ') continue;
        size_t taken = 0;
        const uint32_t before = bits_behind(bytes, step_back(bytes, at, from), to);
        const uint32_t next = mly_window_decode(bytes + at + 1, to - at - 1, &taken);
        const uint32_t solid = MLY_IS_LETTER | MLY_IS_NUMBER | MLY_IS_PUNCT;
        if ((before & solid) && !(before & (MLY_IS_SPACE | MLY_IS_GAP)) && is_safe_start(next)) {
            return at;
        }
    }
    return to;
}

/* text[from:to], which has no added token that is looked for in the text as it stands. */
static enum mly_err encode_segment(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                                   struct mly_str text, size_t from, size_t to,
                                   struct mly_tokens *out, struct mly_error *err)
{
    for (size_t at = from; at < to;) {
        const size_t end = window_end(t, text, at, to);
        MLY_TRY(mly_window_load(&scratch->window, text, at, end, err));
        MLY_TRY(mly_normalize(t, scratch, at == from, end == to, err));
        MLY_TRY(encode_window(t, scratch, out, err));
        at = end;
    }
    return MLY_OK;
}

enum mly_err mly_pipeline_encode(const struct mly_tokenizer *t, struct mly_scratch *scratch,
                                 struct mly_str text, struct mly_tokens *out, struct mly_error *err)
{
    const struct mly_compiled *c = &t->compiled;
    const uint8_t *bytes = (const uint8_t *)text.data;
    size_t at = 0, search = 0, match_end = 0;
    struct found found;
    while (c->raw.cell_count > 0 && find_added(c, &c->raw, t->raw_begins, bytes, at, search,
                                               text.bytes, &found, &match_end)) {
        MLY_TRY(encode_segment(t, scratch, text, at, found.start, out, err));
        MLY_TRY(put_added(out, found.id, (uint32_t)found.start, (uint32_t)found.end, err));
        at = found.end;
        search = found.end > match_end ? found.end : match_end;
    }
    return encode_segment(t, scratch, text, at, text.bytes, out, err);
}
