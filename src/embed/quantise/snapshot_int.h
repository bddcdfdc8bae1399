/* Private to the snapshot: its files and tensors. */
#ifndef MLY_EMBED_QUANTISE_SNAPSHOT_INT_H
#define MLY_EMBED_QUANTISE_SNAPSHOT_INT_H

#include "embed/quantise/snapshot.h"
#include "embed/safetensors.h"

#include "base/arena.h"

#include <jansson.h>

struct mly_snapshot {
    const struct mly_env *env;
    struct mly_arena arena; /* of the card's texts */
    struct mly_snapshot_card card;
    struct mly_map weights, tokenizer;
    struct mly_tensors tensors;
    const char *prefix;        /* of the tensors' names: "", "bert." ... */
    size_t positions_skipped;  /* rows of the table before position 0 */
    const char *norm_names[2]; /* of a norm's weight and bias: older files have gamma and beta */
};

/* The folder's configurations, NULL where a file is missing. */
struct mly_snapshot_files {
    json_t *config, *modules, *pooling, *sentence, *prompts, *tokenizer;
};

/* Settings: fills in the card but for the tokenizer's bytes and the checksum. */
MLY_MUST_USE enum mly_err mly_snapshot_settings(struct mly_snapshot *snapshot, const char *path,
                                                const struct mly_snapshot_files *files,
                                                const struct mly_snapshot_options *options,
                                                struct mly_error *err);
MLY_MUST_USE enum mly_err mly_snapshot_prefixes(struct mly_snapshot *snapshot,
                                                const struct mly_snapshot_files *files,
                                                const struct mly_snapshot_options *options,
                                                struct mly_error *err);
/* Checks that every tensor is there, with its shape, and that no layer has one that we do not know.
 */
MLY_MUST_USE enum mly_err mly_snapshot_check_tensors(struct mly_snapshot *snapshot,
                                                     const struct mly_snapshot_files *files,
                                                     struct mly_error *err);
/* A copy in the arena. */
MLY_MUST_USE enum mly_err mly_snapshot_copy(struct mly_snapshot *snapshot, const char *text,
                                            struct mly_str *out, struct mly_error *err);

#endif
