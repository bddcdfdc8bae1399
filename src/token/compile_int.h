/* Private to the compiler: a tokenizer.json on its way to bytes. */
#ifndef MLY_TOKEN_COMPILE_INT_H
#define MLY_TOKEN_COMPILE_INT_H

#include "token/token_int.h"

#include <jansson.h>

/* What will become the sections. */
struct mly_draft {
    struct mly_mem *mem;
    struct mly_settings settings;
    struct mly_step steps[2 * MLY_STEPS_MAX]; /* normalizers, then pre-tokenizers */
    size_t step_count;
    struct mly_trie cells, raw, normal;
    double *scores;
    size_t score_count;
    struct mly_merge *merges;
    size_t merge_slots;
    int32_t symbols[256];
    bool has_symbols;
    struct mly_added *added;
    size_t added_count;
    struct mly_bytes charsmap, texts;
    json_t *vocabulary; /* borrowed; an object, or unigram's array */
    json_t *places;     /* NULL, or the array's texts with their places */
};

/* UNSUPPORTED: part.key is value. */
enum mly_err mly_compile_refuse(const char *part, const char *key, const json_t *value,
                                struct mly_error *err);
/* The string at key, or "". */
const char *mly_compile_text(const json_t *object, const char *key);
/* A flag that must be there; false where it is no flag, and then value is refused. */
MLY_MUST_USE enum mly_err mly_compile_flag(const json_t *object, const char *part, const char *key,
                                           bool *out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_compile_keep(struct mly_draft *draft, struct mly_str text,
                                           struct mly_text_ref *out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_compile_normalizer(struct mly_draft *draft, const json_t *normalizer,
                                                 struct mly_error *err);
MLY_MUST_USE enum mly_err mly_compile_pre_tokenizer(struct mly_draft *draft,
                                                    const json_t *pre_tokenizer,
                                                    struct mly_error *err);
MLY_MUST_USE enum mly_err mly_compile_model(struct mly_draft *draft, const json_t *model,
                                            struct mly_error *err);
/* Of BPE: merges, and which pieces are what their bytes merge into. */
MLY_MUST_USE enum mly_err mly_compile_merges(struct mly_draft *draft, const json_t *model,
                                             struct mly_error *err);
MLY_MUST_USE enum mly_err mly_compile_added(struct mly_draft *draft, const json_t *list,
                                            struct mly_error *err);
MLY_MUST_USE enum mly_err mly_compile_frame(struct mly_draft *draft, const json_t *tokenizer,
                                            struct mly_error *err);
/* The id of a piece of the model; -1 where it is none. */
int64_t mly_compile_id(const struct mly_draft *draft, const char *piece);
/* The draft as tables, for what the compiler has to run. Borrowed from it. */
struct mly_compiled mly_compile_view(const struct mly_draft *draft);
/* GPT-2's stand-ins for bytes: the byte that a character stands for, or -1. */
int mly_compile_byte_of(uint32_t code_point);

#endif
