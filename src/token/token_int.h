/* Private to token/: the tokenizer's tables, what a call works with, the steps of encoding. */
#ifndef MLY_TOKEN_TOKEN_INT_H
#define MLY_TOKEN_TOKEN_INT_H

#include "token/compiled.h"
#include "token/token.h"
#include "token/trie.h"
#include "token/unicode.h"
#include "token/window.h"

#include <stdatomic.h>

/* The fast way of BERT uncased: a longer word is [UNK]; counted in characters after normalisation,
 * as HF counts. */
#define MLY_WORD_CHARS_MAX 100
#define MLY_WORD_BYTES_MAX (4 * MLY_WORD_CHARS_MAX)
/* Added tokens that the fast way looks for: [PAD] [UNK] [CLS] [SEP] [MASK] and a few more. */
#define MLY_SPECIALS 8
/* Scratch kept for the next call: more threads at once make their own and drop it. */
#define MLY_SCRATCH_SLOTS 16

struct mly_special {
    struct mly_str text;
    int32_t id;
};

/* BERT uncased with its default settings and plain added tokens: encode.c and fold.c. */
struct mly_bert {
    bool usable;
    uint32_t tail_base;     /* the node after "##": where the rest of a word is looked up */
    int32_t punct_ids[128]; /* of ASCII punctuation, [UNK] where the vocabulary lacks it */
    uint8_t byte_kind[256]; /* enum mly_fold_kind of ASCII; CONTROL for all that needs care */
    uint8_t byte_lower[256];
    struct mly_special specials[MLY_SPECIALS];
    size_t special_count;
};

/* What a step makes of an ASCII character; MLY_ASCII_CARE: see for yourself. */
#define MLY_ASCII_CARE 0x80u
struct mly_ascii {
    uint8_t map[128];
    bool same; /* of all of them */
};

/* A character while text is brought into canonical order, and its bytes in the text. */
struct mly_letter {
    uint32_t code_point;
    uint32_t start, end;
    uint32_t order;
};

/* Viterbi: the best way to the end of so many bytes. */
struct mly_path {
    double score;
    uint32_t from; /* MLY_PATH_NONE: there is none yet */
    int32_t id;
};
#define MLY_PATH_NONE UINT32_MAX

struct mly_symbol {
    int32_t id;
    uint32_t start, bytes; /* bytes 0: it was merged into another */
    uint32_t previous, next;
};
struct mly_candidate {
    uint32_t rank, place;
    int32_t id;
};

/* What one call of encode works with. */
struct mly_scratch {
    struct mly_mem *mem;
    struct mly_window window, spare;
    struct mly_letter *letters;
    size_t letter_capacity;
    struct mly_path *paths;
    size_t path_capacity;
    struct mly_symbol *symbols;
    size_t symbol_capacity;
    struct mly_candidate *heap;
    size_t heap_capacity;
};

struct mly_tokenizer {
    struct mly_mem *mem;
    void *bytes;          /* a copy of the compiled form, or NULL */
    struct mly_trie trie; /* a vocabulary's own, or empty */
    struct mly_compiled compiled;
    struct mly_tokenizer_frame frame;
    int32_t unk_id;
    struct mly_bert bert;
    uint32_t tail_base; /* WordPiece: the node behind the prefix; 0 where nothing is */
    struct mly_ascii ascii[MLY_STEPS_MAX];
    uint8_t raw_begins[256];    /* bytes that an added token begins with */
    uint8_t normal_begins[256]; /* the same after normalising */
    bool cut_anywhere;          /* a long text may be taken in windows */
    _Atomic(struct mly_scratch *) *slots;
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

struct mly_scratch *mly_scratch_take(const struct mly_tokenizer *tokenizer);
void mly_scratch_give(const struct mly_tokenizer *tokenizer, struct mly_scratch *scratch);
void mly_scratch_destroy(struct mly_scratch *scratch);
/* Grows *array to count items of item_bytes; what was in it is kept. */
MLY_MUST_USE enum mly_err mly_scratch_grow(struct mly_scratch *scratch, void **array,
                                           size_t *capacity, size_t count, size_t item_bytes,
                                           struct mly_error *err);

/* Any tokenizer. text: at most 4 GiB. */
MLY_MUST_USE enum mly_err mly_pipeline_encode(const struct mly_tokenizer *tokenizer,
                                              struct mly_scratch *scratch, struct mly_str text,
                                              struct mly_tokens *out, struct mly_error *err);
/* What ASCII becomes in each step. */
void mly_normalize_prepare(struct mly_tokenizer *tokenizer);
/* Runs all normalizers over scratch->window. first, last: of the segment's windows. */
MLY_MUST_USE enum mly_err mly_normalize(const struct mly_tokenizer *tokenizer,
                                        struct mly_scratch *scratch, bool first, bool last,
                                        struct mly_error *err);
/* NFC, NFD, NFKC, NFKD of window into spare. */
MLY_MUST_USE enum mly_err mly_compose(struct mly_scratch *scratch, bool compatible, bool compose,
                                      struct mly_error *err);
/* SentencePiece's map of window into spare. */
MLY_MUST_USE enum mly_err mly_charsmap_run(const struct mly_compiled *compiled,
                                           const struct mly_step *step,
                                           const struct mly_ascii *ascii,
                                           struct mly_scratch *scratch, struct mly_error *err);
/* What the map makes of a text; null where it does not know it. */
struct mly_str mly_charsmap_find(const struct mly_compiled *compiled, const struct mly_step *step,
                                 const uint8_t *bytes, size_t count);
/* Cuts window[from:to] into words and those into pieces. */
MLY_MUST_USE enum mly_err mly_cut(const struct mly_tokenizer *tokenizer,
                                  struct mly_scratch *scratch, size_t from, size_t to,
                                  struct mly_tokens *out, struct mly_error *err);

/* A word: bytes of the window from first, which may be a space that was put there and is none of
 * the text's. */
struct mly_word {
    size_t first, end;
    bool lead;
};
/* Appends a piece, window[from:to]. There must be room. */
void mly_pieces_put(const struct mly_scratch *scratch, const struct mly_word *word, int32_t id,
                    size_t from, size_t to, struct mly_tokens *out);
MLY_MUST_USE enum mly_err mly_wordpiece_encode(const struct mly_tokenizer *tokenizer,
                                               struct mly_scratch *scratch,
                                               const struct mly_word *word, struct mly_tokens *out,
                                               struct mly_error *err);
MLY_MUST_USE enum mly_err mly_unigram_encode(const struct mly_tokenizer *tokenizer,
                                             struct mly_scratch *scratch,
                                             const struct mly_word *word, struct mly_tokens *out,
                                             struct mly_error *err);
MLY_MUST_USE enum mly_err mly_bpe_encode(const struct mly_tokenizer *tokenizer,
                                         struct mly_scratch *scratch, const struct mly_word *word,
                                         struct mly_tokens *out, struct mly_error *err);
/* The symbols that bytes merge into; *count of them, in scratch->symbols; those of 0 bytes are
 * gone. */
MLY_MUST_USE enum mly_err mly_bpe_merge(const struct mly_compiled *compiled,
                                        struct mly_scratch *scratch, const uint8_t *bytes,
                                        size_t byte_count, size_t *count, struct mly_error *err);

/* The node that bytes lead to from base: its cell, or NULL. */
static inline const struct mly_trie_cell *mly_trie_walk(const struct mly_trie *trie, uint32_t base,
                                                        const uint8_t *bytes, size_t count)
{
    const struct mly_trie_cell *cell = NULL;
    for (size_t i = 0; i < count; i++) {
        cell = &trie->cells[base ^ bytes[i]];
        if ((cell->base_label & 0xFFu) != bytes[i] || bytes[i] == 0) return NULL;
        base = cell->base_label >> 8;
    }
    return cell;
}

#endif
