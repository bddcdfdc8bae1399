/* Turns text into word pieces: BERT's uncased tokenizer, ids equal to HF tokenizers', with byte
 * spans.
 *
 * Steps    clean, pad CJK, lower-case and strip accents (NFD), split at white space and
 * punctuation, greedy longest match; a word of more than 100 characters or without a match is
 * [UNK]. Owns     the tokenizer owns its tables; tokens are the caller's, freed with
 * mly_tokens_deinit. Threads  a tokenizer is read-only once created and may be shared. Errors
 * CORRUPT a vocabulary without [UNK], [CLS] or [SEP]; LIMIT a text of 4 GiB or more; NOMEM. Source
 * Devlin et al. 2018; HF tokenizers 0.23, BertNormalizer, BertPreTokenizer, WordPiece.
 */
#ifndef MLY_TOKEN_TOKEN_H
#define MLY_TOKEN_TOKEN_H

#include "base/err.h"
#include "flow/flow.h"

struct mly_tokenizer;

/* vocabulary: the pieces in the order of their ids, one a line, as vocab.txt has them. It is
 * copied. */
MLY_MUST_USE enum mly_err mly_tokenizer_create(struct mly_mem *mem, struct mly_str vocabulary,
                                               struct mly_tokenizer **out, struct mly_error *err);
void mly_tokenizer_destroy(struct mly_tokenizer *tokenizer);
int32_t mly_tokenizer_cls_id(const struct mly_tokenizer *tokenizer);
int32_t mly_tokenizer_sep_id(const struct mly_tokenizer *tokenizer);

void mly_tokens_init(struct mly_tokens *tokens, struct mly_mem *mem);
void mly_tokens_deinit(struct mly_tokens *tokens);
/* Clears out and fills it with the word pieces of text (well-formed UTF-8), without special tokens.
 * Allocates only where out has to grow. */
MLY_MUST_USE enum mly_err mly_tokenizer_encode(const struct mly_tokenizer *tokenizer,
                                               struct mly_str text, struct mly_tokens *out,
                                               struct mly_error *err);

#endif
