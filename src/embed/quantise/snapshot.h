/* A sentence encoder as others publish it: a folder with config.json, model.safetensors,
 * tokenizer.json or vocab.txt, and the files of sentence-transformers. Opening checks all of it:
 * every setting that we do not follow and every tensor that is missing, too many or of another
 * shape is named.
 *
 * Range    encoders of BERT's architecture (model types bert, roberta, xlm-roberta), F32, F16 or
 *          BF16 weights in one file, pooling by mean or first piece; nothing is executed.
 * Owns     the snapshot owns what its card points to; files stay mapped until it is closed.
 * Threads  read-only once open.
 * Errors   NOTFOUND and IO; MODEL a folder that lacks a file or a tensor; UNSUPPORTED a setting
 *          that we cannot follow; CORRUPT a file that cannot be read; INVAL options; LIMIT; NOMEM.
 */
#ifndef MLY_EMBED_QUANTISE_SNAPSHOT_H
#define MLY_EMBED_QUANTISE_SNAPSHOT_H

#include "base/err.h"
#include "os/os.h"

#include <stdint.h>

/* Instructions are a sentence or two. */
#define MLY_PREFIX_BYTES_MAX 512
#define MLY_MODEL_ID_BYTES_MAX 128

struct mly_snapshot;

/* Nulls and zeros: what the folder says. */
struct mly_snapshot_options {
    const char *id, *pooling, *query_prefix, *passage_prefix;
    uint32_t pieces_max;
};

/* Where a setting comes from, for people to read: "the option", "config_sentence_transformers.json"
 * ... */
struct mly_snapshot_card {
    struct mly_str id, architecture; /* "bert", "xlm-roberta" */
    struct mly_str query_prefix, passage_prefix, pooling;
    const char *prefix_from, *pooling_from, *pieces_from;
    struct mly_str tokenizer; /* the bytes of tokenizer.json, or of vocab.txt */
    bool tokenizer_is_list;   /* vocab.txt */
    size_t hidden, intermediate, heads, layers, positions, pieces_max, vocabulary;
    uint64_t epsilon_femto; /* of the norms, in units of 1e-15 */
    size_t tensors_ignored; /* heads for training and the like */
    char sha256[65];        /* of model.safetensors */
};

MLY_MUST_USE enum mly_err mly_snapshot_open(const struct mly_env *env, const char *path,
                                            const struct mly_snapshot_options *options,
                                            struct mly_snapshot **out, struct mly_error *err);
void mly_snapshot_close(struct mly_snapshot *snapshot);
/* Borrowed until close. */
const struct mly_snapshot_card *mly_snapshot_card(const struct mly_snapshot *snapshot);

/* Parts of a layer. */
enum mly_snapshot_part {
    MLY_PART_QUERY,
    MLY_PART_KEY,
    MLY_PART_VALUE,
    MLY_PART_ATTENTION_OUT,
    MLY_PART_FFN_IN,
    MLY_PART_FFN_OUT,
    MLY_PART_ATTENTION_NORM,
    MLY_PART_FFN_NORM,
    MLY_PART_COUNT,
};
/* The part's weights f32[out][in], or f32[hidden] of a norm. CORRUPT where a number is not finite.
 */
MLY_MUST_USE enum mly_err mly_snapshot_weights(const struct mly_snapshot *snapshot, size_t layer,
                                               enum mly_snapshot_part part, float *out,
                                               struct mly_error *err);
MLY_MUST_USE enum mly_err mly_snapshot_bias(const struct mly_snapshot *snapshot, size_t layer,
                                            enum mly_snapshot_part part, float *out,
                                            struct mly_error *err);
/* count rows of the word embeddings, f32[count][hidden]. */
MLY_MUST_USE enum mly_err mly_snapshot_words(const struct mly_snapshot *snapshot, size_t first,
                                             size_t count, float *out, struct mly_error *err);
/* f32[positions][hidden], token type 0 included. */
MLY_MUST_USE enum mly_err mly_snapshot_positions(const struct mly_snapshot *snapshot, float *out,
                                                 struct mly_error *err);
/* The norm of the embeddings, f32[hidden] each. */
MLY_MUST_USE enum mly_err mly_snapshot_word_norm(const struct mly_snapshot *snapshot, float *weight,
                                                 float *bias, struct mly_error *err);

#endif
