/* In: text. Out: pieces with their byte spans: this is the door. What follows is BERT uncased, the
 * tokenizer of our own models; any other goes through pipeline.c.
 *
 * A word of ASCII letters and digits, nearly all of most texts, is matched where it stands: its
 * bytes go through a table for case straight into the trie, and the place in the text is the span.
 * Punctuation is one look-up. All else goes to fold.c, word by word. */
#include "token/token_int.h"

size_t mly_wordpiece_match(const struct mly_tokenizer *tokenizer, const uint8_t *word, size_t bytes,
                           uint32_t offset, struct mly_token *items)
{
    const struct mly_trie_cell *cells = tokenizer->trie.cells;
    const uint8_t *lower = tokenizer->bert.byte_lower;
    uint32_t base = tokenizer->trie.root_base;
    size_t count = 0;
    for (size_t start = 0; start < bytes; base = tokenizer->bert.tail_base) {
        int32_t id = -1;
        size_t stop = start;
        for (size_t i = start; i < bytes; i++) {
            uint8_t byte = lower[word[i]];
            struct mly_trie_cell cell = cells[base ^ byte];
            if ((cell.base_label & 0xFFu) != byte) break;
            base = cell.base_label >> 8;
            if (cell.id >= 0) {
                id = cell.id;
                stop = i + 1;
            }
        }
        if (id < 0) return 0;
        items[count++] = (struct mly_token){id, offset + (uint32_t)start, offset + (uint32_t)stop};
        start = stop;
    }
    return count;
}

/* An added token is matched as it stands, wherever it stands, before anything else; the longest. */
static const struct mly_special *special_at(const struct mly_tokenizer *tokenizer,
                                            struct mly_str text, size_t at)
{
    const struct mly_str rest = mly_str_slice(text, at, text.bytes);
    const struct mly_special *found = NULL;
    for (size_t i = 0; i < tokenizer->bert.special_count; i++) {
        const struct mly_special *special = &tokenizer->bert.specials[i];
        if (found != NULL && special->text.bytes <= found->text.bytes) continue;
        if (mly_str_starts_with(rest, special->text)) found = special;
    }
    return found;
}

static void encode_ascii_word(const struct mly_tokenizer *tokenizer, const uint8_t *bytes,
                              size_t start, size_t stop, struct mly_tokens *out)
{
    size_t count = 0;
    if (stop - start <= MLY_WORD_CHARS_MAX) {
        count = mly_wordpiece_match(tokenizer, bytes + start, stop - start, (uint32_t)start,
                                    out->items + out->count);
    }
    if (count == 0) {
        out->items[out->count] =
            (struct mly_token){tokenizer->unk_id, (uint32_t)start, (uint32_t)stop};
        count = 1;
    }
    out->count += count;
}

static enum mly_err encode(const struct mly_tokenizer *tokenizer, struct mly_str text,
                           struct mly_tokens *out, struct mly_error *err)
{
    const uint8_t *bytes = (const uint8_t *)text.data;
    const uint8_t *kinds = tokenizer->bert.byte_kind;
    size_t at = 0, segment_start = 0;
    while (at < text.bytes) {
        uint8_t kind = kinds[bytes[at]];
        if (kind == MLY_FOLD_SPACE) {
            at++;
            continue;
        }
        if (out->capacity - out->count < MLY_WORD_CHARS_MAX) {
            MLY_TRY(mly_tokens_reserve(out, MLY_WORD_CHARS_MAX, err));
        }
        if (kind == MLY_FOLD_WORD) {
            size_t stop = at + 1;
            while (stop < text.bytes && kinds[bytes[stop]] == MLY_FOLD_WORD) {
                stop++;
            }
            if (stop == text.bytes || kinds[bytes[stop]] != MLY_FOLD_CONTROL) {
                encode_ascii_word(tokenizer, bytes, at, stop, out);
                at = stop;
                continue;
            }
        } else if (kind == MLY_FOLD_PUNCT) {
            const struct mly_special *special =
                bytes[at] == '[' ? special_at(tokenizer, text, at) : NULL;
            size_t stop = at + (special != NULL ? special->text.bytes : 1);
            int32_t id = special != NULL ? special->id : tokenizer->bert.punct_ids[bytes[at]];
            out->items[out->count++] = (struct mly_token){id, (uint32_t)at, (uint32_t)stop};
            at = stop;
            if (special != NULL) segment_start = stop;
            continue;
        }
        MLY_TRY(mly_fold_encode_word(tokenizer, text, segment_start, &at, out, err));
    }
    return MLY_OK;
}

enum mly_err mly_tokenizer_encode(const struct mly_tokenizer *tokenizer, struct mly_str text,
                                  struct mly_tokens *out, struct mly_error *err)
{
    out->count = 0;
    if ((uint64_t)text.bytes > UINT32_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "text of %zu bytes is above the limit of %lu",
                        text.bytes, (unsigned long)UINT32_MAX);
    }
    enum mly_err rc = MLY_OK;
    if (tokenizer->bert.usable) {
        rc = encode(tokenizer, text, out, err);
    } else if (text.bytes > 0) {
        struct mly_scratch *scratch = mly_scratch_take(tokenizer);
        if (scratch == NULL) return mly_fail_nomem(err, sizeof(*scratch));
        rc = mly_pipeline_encode(tokenizer, scratch, text, out, err);
        mly_scratch_give(tokenizer, scratch);
    }
    if (rc != MLY_OK) out->count = 0;
    return rc;
}
