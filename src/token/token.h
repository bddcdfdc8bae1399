/* Turns text into word pieces: BERT's uncased tokenizer, ids equal to HF tokenizers', with byte
 * spans.
 *
 * Steps    special tokens ([CLS] and the like) are matched in the raw text, as HF does; the rest is
 *          cleaned of controls, CJK set apart, decomposed (NFD), stripped of accents, lower-cased;
 *          split at white space and punctuation; then greedy longest match. A word of more than 100
 *          characters or without a match is [UNK].
 *
 * Spans    half open, in bytes of the text as given, on borders of characters, never empty; starts
 *          and ends never go back. A piece covers the characters its letters came from. Parts of
 *          one character (Hangul) each have its whole span, and so have marks that canonical order
 *          makes change places with each other. A dropped accent belongs to the character before
 *          it; dropped controls belong to a piece only where they stand inside it.
 *
 * Same     ids depend on nothing but text and vocabulary: tests/golden/token.
 *
 * Owns     the tokenizer owns its tables; tokens are the caller's, freed with mly_tokens_deinit.
 *
 * Threads  a tokenizer is read-only once created and may be shared.
 *
 * Errors   CORRUPT a vocabulary that lacks [UNK], [CLS] or [SEP], or has a piece that is empty,
 *          stands twice or is not UTF-8; LIMIT one of more than 8 MiB, or a text of 4 GiB; NOMEM.
 *
 * Cost     no allocation but where out grows; 2.5 KB of stack.
 *
 * Source   Devlin et al. 2018; HF tokenizers 0.23, BertNormalizer, BertPreTokenizer, WordPiece.
 */
#ifndef MLY_TOKEN_TOKEN_H
#define MLY_TOKEN_TOKEN_H

#include "base/bytes.h"
#include "base/err.h"
#include "flow/flow.h"

struct mly_tokenizer;

/* What stands around a sequence, and what else a model has to know of its tokenizer. */
#define MLY_FRAME_MAX 4
struct mly_tokenizer_frame {
    int32_t prefix[MLY_FRAME_MAX], suffix[MLY_FRAME_MAX]; /* [CLS] and [SEP], <s> and </s> ... */
    uint32_t prefix_count, suffix_count;
    int32_t pad_id;
    uint32_t id_count;   /* ids are below it */
    uint32_t pieces_max; /* at which the file says to cut, frame included; 0: it does not say */
};

/* Turns a tokenizer.json into bytes that MLY_TOKENIZER_COMPILED takes: relocatable, the same on
 * every machine, used where they lie without being unpacked. out is appended to.
 * Errors  UNSUPPORTED a setting that we do not follow exactly, with its name and value; CORRUPT
 * what is no tokenizer.json; LIMIT; NOMEM. */
MLY_MUST_USE enum mly_err mly_tokenizer_compile(struct mly_mem *mem, struct mly_str json,
                                                struct mly_bytes *out, struct mly_error *err);
/* The bytes are copied, but for compiled ones that begin at a multiple of 8: those are borrowed
 * until destroy. Nothing in them is trusted. */
MLY_MUST_USE enum mly_err mly_tokenizer_create(struct mly_mem *mem, enum mly_tokenizer_form form,
                                               struct mly_str bytes, struct mly_tokenizer **out,
                                               struct mly_error *err);
void mly_tokenizer_destroy(struct mly_tokenizer *tokenizer);
/* Borrowed until destroy. */
const struct mly_tokenizer_frame *mly_tokenizer_frame(const struct mly_tokenizer *tokenizer);

void mly_tokens_init(struct mly_tokens *tokens, struct mly_mem *mem);
void mly_tokens_deinit(struct mly_tokens *tokens);
/* Clears out and fills it with the word pieces of text (well-formed UTF-8), without adding special
 * tokens. out is empty on failure. */
MLY_MUST_USE enum mly_err mly_tokenizer_encode(const struct mly_tokenizer *tokenizer,
                                               struct mly_str text, struct mly_tokens *out,
                                               struct mly_error *err);

#endif
