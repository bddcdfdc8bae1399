/* In: text at the start of a word that is not plain ASCII. Out: its pieces.
 *
 * Characters are folded one by one (decomposed, accents dropped, lower-cased: one look-up in the
 * Unicode tables) and gathered, each with the bytes that it came from, until something ends the
 * word. Marks that are kept have to be brought into canonical order: a stable insertion by class
 * among the marks since the last starter. A word that ran beyond 100 characters is [UNK] whatever
 * follows, so that this needs a fixed piece of stack and no allocation. */
#include "token/token_int.h"

#include "base/utf8.h"

struct letter {
    uint32_t code_point;
    uint32_t byte_start, byte_end; /* of the character it is part of */
    uint8_t order;                 /* canonical combining class; 0: a starter */
};

struct word {
    struct letter letters[MLY_WORD_CHARS_MAX];
    size_t count;
    size_t barrier; /* letters before it keep their places: a dropped starter stood there */
    bool too_long;
    uint32_t byte_start, byte_end;
};

/* Never reads behind the end of the text; bytes that are not UTF-8, which callers rule out, become
 * U+FFFD, which is dropped, or some other character above ASCII. */
static uint32_t decode(struct mly_str text, size_t at, size_t *bytes)
{
    const uint8_t *p = (const uint8_t *)text.data + at;
    size_t left = text.bytes - at;
    uint32_t code_point = 0xFFFD;
    *bytes = 1;
    if (p[0] < 0x80) {
        code_point = p[0];
    } else if (p[0] >= 0xC2 && p[0] < 0xE0 && left >= 2) {
        *bytes = 2;
        code_point = (p[0] & 0x1Fu) << 6 | (p[1] & 0x3Fu);
    } else if (p[0] >= 0xE0 && p[0] < 0xF0 && left >= 3) {
        *bytes = 3;
        code_point = (p[0] & 0x0Fu) << 12 | (p[1] & 0x3Fu) << 6 | (p[2] & 0x3Fu);
    } else if (p[0] >= 0xF0 && p[0] < 0xF5 && left >= 4) {
        *bytes = 4;
        code_point =
            (p[0] & 0x07u) << 18 | (p[1] & 0x3Fu) << 12 | (p[2] & 0x3Fu) << 6 | (p[3] & 0x3Fu);
    }
    if (code_point > 0x10FFFF || (code_point < 0x80 && *bytes > 1)) return 0xFFFD;
    return code_point;
}

static void add_letter(struct word *word, uint32_t code_point, uint8_t order, size_t start,
                       size_t end)
{
    struct letter letter = {code_point, (uint32_t)start, (uint32_t)end, order};
    if (word->count == 0) word->byte_start = letter.byte_start;
    word->byte_end = letter.byte_end;
    if (word->count == MLY_WORD_CHARS_MAX) {
        word->too_long = true;
        return;
    }
    size_t place = word->count;
    while (order > 0 && place > word->barrier && word->letters[place - 1].order > order) {
        place--;
    }
    if (place < word->count) {
        /* Marks that change places share the bytes of all of them, so that spans keep their order.
         */
        letter.byte_start = word->letters[place].byte_start;
        for (size_t i = word->count; i > place; i--) {
            word->letters[i] = word->letters[i - 1];
            word->letters[i].byte_start = letter.byte_start;
            word->letters[i].byte_end = letter.byte_end;
        }
    }
    word->letters[place] = letter;
    word->count++;
}

static void add_hangul(struct word *word, uint32_t syllable, size_t start, size_t end)
{
    /* The Unicode Standard, section 3.12: 19 leading, 21 vowel and 27 trailing jamo. */
    uint32_t i = syllable - 0xAC00u;
    add_letter(word, 0x1100u + i / 588u, 0, start, end);
    add_letter(word, 0x1161u + i % 588u / 28u, 0, start, end);
    if (i % 28u != 0) add_letter(word, 0x11A7u + i % 28u, 0, start, end);
}

static void add_sequence(struct word *word, uint32_t sequence_i, size_t start, size_t end)
{
    const uint32_t *parts = mly_fold_sequences + sequence_i;
    for (uint32_t i = 1; i <= parts[0]; i++) {
        add_letter(word, parts[i], mly_fold_record_order(mly_fold_record(parts[i])), start, end);
    }
}

/* A dropped accent belongs to the character before it, so that a piece is never cut off from it. */
static void add_mark(struct word *word, bool starter, size_t segment_start, size_t start,
                     size_t end, struct mly_tokens *out)
{
    if (word->count > 0) {
        word->byte_end = (uint32_t)end;
        word->letters[word->count - 1].byte_end = (uint32_t)end;
        if (starter) word->barrier = word->count;
    } else if (out->count > 0 && start > segment_start &&
               out->items[out->count - 1].byte_end == start) {
        out->items[out->count - 1].byte_end = (uint32_t)end;
    }
}

static enum mly_err flush(const struct mly_tokenizer *tokenizer, const struct word *word,
                          struct mly_tokens *out, struct mly_error *err)
{
    if (word->count == 0) return MLY_OK;
    char bytes[MLY_WORD_BYTES_MAX];
    uint8_t letter_of[MLY_WORD_BYTES_MAX]; /* which letter a byte belongs to */
    size_t byte_count = 0;
    for (size_t i = 0; i < word->count; i++) {
        size_t stop = byte_count + mly_utf8_encode(word->letters[i].code_point, bytes + byte_count);
        while (byte_count < stop) {
            letter_of[byte_count++] = (uint8_t)i;
        }
    }
    MLY_TRY(mly_tokens_reserve(out, byte_count, err));
    struct mly_token *items = out->items + out->count;
    size_t count = 0;
    if (!word->too_long) {
        count = mly_wordpiece_match(tokenizer, (const uint8_t *)bytes, byte_count, 0, items);
    }
    for (size_t i = 0; i < count; i++) {
        const struct letter *first = &word->letters[letter_of[items[i].byte_start]];
        const struct letter *last = &word->letters[letter_of[items[i].byte_end - 1]];
        items[i].byte_start = first->byte_start;
        items[i].byte_end = last->byte_end;
    }
    if (count == 0) {
        items[0] = (struct mly_token){tokenizer->unk_id, word->byte_start, word->byte_end};
        count = 1;
    }
    out->count += count;
    return MLY_OK;
}

enum mly_err mly_fold_encode_word(const struct mly_tokenizer *tokenizer, struct mly_str text,
                                  size_t segment_start, size_t *at, struct mly_tokens *out,
                                  struct mly_error *err)
{
    struct word word; /* The letters, 1.6 KB, are not cleared: count says which there are. */
    word.count = word.barrier = 0;
    word.byte_start = word.byte_end = 0;
    word.too_long = false;
    bool ended = false;
    while (!ended && *at < text.bytes) {
        size_t bytes = 0;
        uint32_t code_point = decode(text, *at, &bytes);
        size_t start = *at, end = start + bytes;
        uint32_t record = mly_fold_record(code_point);
        uint32_t folded = mly_fold_record_payload(record);
        if (folded == 0) folded = code_point;
        switch (mly_fold_record_kind(record)) {
        case MLY_FOLD_WORD:
            add_letter(&word, folded, mly_fold_record_order(record), start, end);
            break;
        case MLY_FOLD_SEQUENCE:
            add_sequence(&word, mly_fold_record_payload(record), start, end);
            break;
        case MLY_FOLD_HANGUL:
            add_hangul(&word, code_point, start, end);
            break;
        case MLY_FOLD_CONTROL:
            break;
        case MLY_FOLD_MARK:
            add_mark(&word, mly_fold_record_order(record) == 0, segment_start, start, end, out);
            break;
        case MLY_FOLD_SPACE:
            ended = true;
            break;
        case MLY_FOLD_PUNCT:
        case MLY_FOLD_CJK:
            /* A word of its own; the one that it ends goes first, and it is met again. A '[' may
             * begin a special token, which the caller knows. */
            ended = true;
            if (word.count > 0 || code_point < 0x80) {
                end = start;
            } else {
                add_letter(&word, folded, 0, start, end);
            }
            break;
        }
        *at = end;
    }
    return flush(tokenizer, &word, out, err);
}
