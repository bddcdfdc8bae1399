/* Turns text into the pieces that a model knows, with byte spans: ids equal to HF tokenizers', for
 * BERT's vocabulary and for any tokenizer.json of WordPiece, unigram or BPE that we can follow
 * exactly.
 *
 * Steps    added tokens ([CLS] and the like) are matched in the raw text; the rest is normalised,
 *          cut into words, and each word into pieces. Which steps those are the tokenizer says; the
 *          common one, BERT uncased, has a way of its own that is several times as fast.
 *
 * Spans    half open, in bytes of the text as given, on borders of characters, never empty; starts
 *          and ends never go back. A piece covers the characters its letters came from. Parts of
 *          one character (Hangul, bytes) each have its whole span, and so have marks that canonical
 *          order makes change places with each other. A dropped accent belongs to the character
 *          before it; dropped controls belong to a piece only where they stand inside it. A space
 *          that a piece begins with is its own; one that the tokenizer puts in front has the span
 *          of the character behind it.
 *
 * Same     ids depend on nothing but text and tokenizer: tests/golden/token.
 *
 * Owns     the tokenizer owns its tables; tokens are the caller's, freed with mly_tokens_deinit.
 *
 * Threads  a tokenizer is read-only once created and may be shared; what a call works with is kept
 *          for the next one, in slots that are taken without a lock.
 *
 * Errors   CORRUPT a vocabulary that lacks [UNK], [CLS] or [SEP], or has a piece that is empty,
 *          stands twice or is not UTF-8, and compiled bytes that are damaged; UNSUPPORTED a setting
 *          that we do not follow; LIMIT pieces of more than 8 MiB, or a text of 4 GiB; NOMEM.
 *
 * Cost     no allocation when warm, but where out grows. Linear in the text (n log n in one word of
 *          a BPE); memory for some KB of it, or for all where nothing says where to cut.
 *
 * Source   Devlin et al. 2018, Kudo 2018, Sennrich et al. 2016; HF tokenizers 0.23.
 */
#ifndef MLY_TOKEN_TOKEN_H
#define MLY_TOKEN_TOKEN_H

#include "base/bytes.h"
#include "base/err.h"
#include "flow/flow.h"

#include <stdbool.h>

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

/* How it finds pieces: "word pieces", "unigram", "byte pairs". Static. */
const char *mly_tokenizer_kind(const struct mly_tokenizer *tokenizer);

/* True where a text cut behind white space has the pieces of its parts: blanks are nothing by
 * themselves and words do not know where they stand. */
bool mly_tokenizer_is_additive(const struct mly_tokenizer *tokenizer);

void mly_tokens_init(struct mly_tokens *tokens, struct mly_mem *mem);
void mly_tokens_deinit(struct mly_tokens *tokens);
/* Clears out and fills it with the word pieces of text (well-formed UTF-8), without adding special
 * tokens. out is empty on failure. */
MLY_MUST_USE enum mly_err mly_tokenizer_encode(const struct mly_tokenizer *tokenizer,
                                               struct mly_str text, struct mly_tokens *out,
                                               struct mly_error *err);

#endif
