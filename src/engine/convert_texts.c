/* Text to calibrate with, or to compare on, becomes sequences of word pieces, each with the prefix
 * that the model wants in front of it.
 */
#include "engine/convert_int.h"

#include "base/utf8.h"

#include <string.h>

/* Short texts give other inputs than long ones: the first words of a passage count as a query. */
#define BRIEF_WORDS 10
#define IDS_BYTES_MAX ((size_t)256 << 20)

enum mly_err mly_convert_texts_init(struct mly_convert_texts *texts, struct mly_mem *mem,
                                    const struct mly_tokenizer *tokenizer,
                                    const struct mly_snapshot_card *card, struct mly_error *err)
{
    const size_t zero = 0;
    *texts = (struct mly_convert_texts){.tokenizer = tokenizer, .card = card};
    mly_tokens_init(&texts->tokens, mem);
    mly_bytes_init(&texts->text, mem, IDS_BYTES_MAX);
    mly_bytes_init(&texts->ids, mem, IDS_BYTES_MAX);
    mly_bytes_init(&texts->starts, mem, IDS_BYTES_MAX);
    return mly_bytes_append(&texts->starts, &zero, sizeof(zero), err);
}

void mly_convert_texts_deinit(struct mly_convert_texts *texts)
{
    if (texts->tokenizer == NULL) return;
    mly_tokens_deinit(&texts->tokens);
    mly_bytes_deinit(&texts->text);
    mly_bytes_deinit(&texts->ids);
    mly_bytes_deinit(&texts->starts);
    texts->tokenizer = NULL;
}

static enum mly_err add_text(struct mly_convert_texts *texts, struct mly_str prefix,
                             struct mly_str text, struct mly_error *err)
{
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(texts->tokenizer);
    const size_t room = texts->card->pieces_max - frame->prefix_count - frame->suffix_count;
    texts->text.bytes = 0;
    MLY_TRY(mly_bytes_append(&texts->text, prefix.data, prefix.bytes, err));
    MLY_TRY(mly_bytes_append(&texts->text, text.data, text.bytes, err));
    MLY_TRY(
        mly_tokenizer_encode(texts->tokenizer, mly_bytes_view(&texts->text), &texts->tokens, err));
    const size_t count = texts->tokens.count < room ? texts->tokens.count : room;
    MLY_TRY(
        mly_bytes_append(&texts->ids, frame->prefix, frame->prefix_count * sizeof(int32_t), err));
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(mly_bytes_append(&texts->ids, &texts->tokens.items[i].id, sizeof(int32_t), err));
    }
    MLY_TRY(
        mly_bytes_append(&texts->ids, frame->suffix, frame->suffix_count * sizeof(int32_t), err));
    const size_t end = texts->ids.bytes / sizeof(int32_t);
    MLY_TRY(mly_bytes_append(&texts->starts, &end, sizeof(end), err));
    texts->count++;
    return MLY_OK;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

static struct mly_str trim(struct mly_str text)
{
    while (text.bytes > 0 && is_space(text.data[0])) {
        text = mly_str_slice(text, 1, text.bytes);
    }
    while (text.bytes > 0 && is_space(text.data[text.bytes - 1])) {
        text.bytes--;
    }
    return text;
}

static struct mly_str first_words(struct mly_str text)
{
    size_t words = 0, at = 0;
    while (at < text.bytes) {
        while (at < text.bytes && !is_space(text.data[at])) {
            at++;
        }
        if (++words == BRIEF_WORDS) break;
        while (at < text.bytes && is_space(text.data[at])) {
            at++;
        }
    }
    return mly_str_slice(text, 0, at);
}

/* Where mark begins at or behind at, or the text's end. */
static size_t find(struct mly_str text, size_t at, struct mly_str mark)
{
    for (; at + mark.bytes <= text.bytes; at++) {
        if (memcmp(text.data + at, mark.data, mark.bytes) == 0) return at;
    }
    return text.bytes;
}

enum mly_err mly_convert_add_passages(struct mly_convert_texts *texts, struct mly_str text,
                                      bool brief, struct mly_error *err)
{
    const size_t bad = mly_utf8_check(text);
    if (bad < text.bytes) {
        return mly_fail(err, MLY_ERR_INVAL, "it is not UTF-8: byte 0x%02x at offset %zu",
                        (unsigned char)text.data[bad], bad);
    }
    struct mly_str mark = MLY_STR("\n%%\n");
    size_t at = find(text, 0, mark);
    if (at == text.bytes) { /* No such line: paragraphs, from the first byte on. */
        mark = MLY_STR("\n\n");
        at = 0;
    }
    while (at < text.bytes) {
        const size_t end = find(text, at + 1, mark);
        struct mly_str passage = mly_str_slice(text, at, end);
        if (mly_str_starts_with(passage, mark)) {
            passage = mly_str_slice(passage, mark.bytes, passage.bytes);
        }
        passage = trim(passage);
        at = end;
        if (passage.bytes == 0) continue;
        MLY_TRY(add_text(texts, texts->card->passage_prefix, passage, err));
        if (brief) MLY_TRY(add_text(texts, texts->card->query_prefix, first_words(passage), err));
    }
    return MLY_OK;
}

enum mly_err mly_convert_add_queries(struct mly_convert_texts *texts, struct mly_str text,
                                     struct mly_error *err)
{
    for (size_t at = 0; at < text.bytes;) {
        const size_t end = find(text, at, MLY_STR("\n"));
        const struct mly_str line = trim(mly_str_slice(text, at, end));
        at = end + 1;
        if (line.bytes == 0 || line.data[0] == '#') continue;
        MLY_TRY(add_text(texts, texts->card->query_prefix, line, err));
    }
    return MLY_OK;
}

struct mly_sequences mly_convert_sequences(const struct mly_convert_texts *texts)
{
    return (struct mly_sequences){(const int32_t *)(const void *)texts->ids.data,
                                  (const size_t *)(const void *)texts->starts.data, texts->count};
}
