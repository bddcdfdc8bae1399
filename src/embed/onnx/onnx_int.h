/* Private to embed/onnx/: what a folder says about its model, and the model as ONNX Runtime has it.
 */
#ifndef MLY_EMBED_ONNX_ONNX_INT_H
#define MLY_EMBED_ONNX_ONNX_INT_H

#include "embed/embed.h"
#include "embed/onnx/onnx.h"
#include "embed/onnx/ort.h"

#include "base/arena.h"
#include "base/limits.h"

#include <jansson.h>

/* Positions that BERT's descendants have; longer ones would need more memory than we promise. */
#define MLY_ONNX_PIECES_MAX 512
/* input_ids, attention_mask, token_type_ids. */
#define MLY_ONNX_INPUTS_MAX 3

/* The library, loaded: once for each model that uses it; the system counts. */
struct mly_ort {
    const struct mly_env *env;
    void *library;
    const struct mly_ort_api *api;
    const char *version; /* the library's own text */
};

enum mly_onnx_pooling { MLY_ONNX_MEAN, MLY_ONNX_CLS };

/* What stands in the folder beside the weights. */
struct mly_onnx_folder {
    const char *model_path, *tokenizer_path;
    struct mly_str id;
    uint32_t id_count; /* ids are below it */
    int64_t pad_id;
    enum mly_onnx_pooling pooling;
    uint32_t pieces_max;
    struct mly_str query_prefix, passage_prefix; /* empty: none */
};

struct mly_onnx_session {
    const struct mly_ort_api *api;
    struct mly_ort_env *env;
    struct mly_ort_options *options;
    struct mly_ort_session *session;
    struct mly_ort_memory *memory;
    struct mly_ort_allocator *allocator; /* the library's */
    size_t input_count;
    uint8_t inputs[MLY_ONNX_INPUTS_MAX]; /* which of mly_onnx_input_names, in the model's order */
    char *output_name;                   /* allocator's */
    size_t output_rank;                  /* 3: a vector for each token; 2: one for each text */
    bool alone; /* a text's numbers would depend on the texts beside it: one at a time */
};

extern const char *const mly_onnx_input_names[MLY_ONNX_INPUTS_MAX];

struct mly_onnx {
    const struct mly_env *env;
    int64_t pid; /* of the process that opened it */
    struct mly_arena arena;
    struct mly_onnx_folder folder;
    struct mly_map tokenizer; /* tokenizer.json, for whoever cuts the texts */
    struct mly_ort ort;
    struct mly_onnx_session session;
    struct mly_model_card card;
};

/* Finds and loads the library: $MEMALLOY_ONNXRUNTIME, else wanted (may be NULL), else the system's.
 * MODEL where there is none. */
MLY_MUST_USE enum mly_err mly_ort_load(const struct mly_env *env, const char *wanted,
                                       struct mly_ort *out, struct mly_error *err);
void mly_ort_unload(struct mly_ort *ort);
/* Turns a status into a message behind what, and releases it; NULL is OK. */
MLY_MUST_USE enum mly_err mly_ort_check(const struct mly_ort_api *api, mly_ort_result status,
                                        const char *what, struct mly_error *err);

/* Reads everything but the weights; strings live in arena. */
MLY_MUST_USE enum mly_err mly_onnx_folder_read(const struct mly_env *env, struct mly_arena *arena,
                                               const char *path, struct mly_onnx_folder *out,
                                               struct mly_error *err);
/* A file of JSON, read and parsed; *out stays NULL where there is no such file. The caller drops
 * it. */
MLY_MUST_USE enum mly_err mly_onnx_json_read(const struct mly_env *env, const char *path,
                                             json_t **out, struct mly_error *err);
/* Walks a model file's messages: CORRUPT where they are none, UNSUPPORTED where tensors lie in
 * other files. *alone: ranges of numbers are taken over a whole batch at run time. */
MLY_MUST_USE enum mly_err mly_onnx_scan(const uint8_t *data, size_t bytes, bool *alone,
                                        struct mly_error *err);

/* Makes a session of the model's bytes, which may go afterwards. deinit takes a half-made one. */
MLY_MUST_USE enum mly_err mly_onnx_session_init(struct mly_onnx_session *session,
                                                const struct mly_ort_api *api, const uint8_t *model,
                                                size_t model_bytes, uint32_t threads,
                                                struct mly_error *err);
void mly_onnx_session_deinit(struct mly_onnx_session *session);

/* Runs two padding pieces through the model and gives the width of its output. */
MLY_MUST_USE enum mly_err mly_onnx_probe(const struct mly_onnx *onnx, uint32_t *dim,
                                         struct mly_error *err);

#endif
