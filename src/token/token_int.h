/* Private to token/: the tokenizer's tables and the steps of encoding. */
#ifndef MLY_TOKEN_TOKEN_INT_H
#define MLY_TOKEN_TOKEN_INT_H

#include "token/token.h"
#include "token/trie.h"
#include "token/unicode.h"

/* A longer word is [UNK]; counted in characters after normalisation, as HF counts. */
#define MLY_WORD_CHARS_MAX 100
#define MLY_WORD_BYTES_MAX (4 * MLY_WORD_CHARS_MAX)
/* [PAD] [UNK] [CLS] [SEP] [MASK]: recognised in the raw text, before it is normalised. */
#define MLY_SPECIALS 5
#define MLY_COMPILED_MAGIC "mly-toks"

struct mly_special {
    struct mly_str text;
    int32_t id; /* -1: the vocabulary lacks it */
};

struct mly_tokenizer {
    struct mly_mem *mem;
    struct mly_trie trie;
    uint32_t tail_base;     /* the node after "##": where the rest of a word is looked up */
    int32_t punct_ids[128]; /* of ASCII punctuation, [UNK] where the vocabulary lacks it */
    uint8_t byte_kind[256]; /* enum mly_fold_kind of ASCII; CONTROL for all that needs care */
    uint8_t byte_lower[256];
    struct mly_special specials[MLY_SPECIALS];
    int32_t unk_id;
    struct mly_tokenizer_frame frame;
};

/* Room for more items. */
MLY_MUST_USE enum mly_err mly_tokens_reserve(struct mly_tokens *tokens, size_t more,
                                             struct mly_error *err);
/* Greedy longest match. word: bytes normalised but for the case of ASCII. Writes pieces with spans
 * offset + place in word to items, room for bytes of them; returns how many, 0 where the word does
 * not fall into pieces. */
size_t mly_wordpiece_match(const struct mly_tokenizer *tokenizer, const uint8_t *word, size_t bytes,
                           uint32_t offset, struct mly_token *items);
/* Encodes one word, or what has to be dropped, of any characters, from text[*at], and moves *at
 * behind it. segment_start: where the text began, or the last special token ended. */
MLY_MUST_USE enum mly_err mly_fold_encode_word(const struct mly_tokenizer *tokenizer,
                                               struct mly_str text, size_t segment_start,
                                               size_t *at, struct mly_tokens *out,
                                               struct mly_error *err);

#endif
