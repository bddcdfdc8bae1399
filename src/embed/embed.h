/* Turns word pieces into unit vectors: a BERT-like encoder at int8, bf16 or f32 from one mapped
 * model file, or any model in a folder with model.onnx, run by ONNX Runtime (embed/onnx/onnx.h).
 *
 * Shapes   ids: i32, the sequences one behind the other; starts: size_t[count + 1],
 *          starts[i]..starts[i + 1] is sequence i; out: f32[count][dim], row-major, L2 norm 1.
 * Units    a sequence counts [CLS] and [SEP]: 2 to pieces_max.
 * Same     a vector depends on its own ids only: bit-equal for any batch, order and thread count;
 *          between kernel sets as docs/NUMERICS.md says. ONNX Runtime: within 1e-5.
 * Owns     borrows ids and starts, writes out; weights are mapped, never copied.
 * Threads  one embedder may be used from many threads; its pool runs one batch at a time.
 * Errors   MODEL a file that is not a model of ours, CORRUPT one that is damaged, NOTFOUND; INVAL
 *          an id outside the vocabulary or an empty sequence; LIMIT a sequence that is too long;
 *          NOMEM.
 */
#ifndef MLY_EMBED_EMBED_H
#define MLY_EMBED_EMBED_H

#include "base/err.h"
#include "flow/flow.h"
#include "kern/kern.h"
#include "os/os.h"

struct mly_embedder;

struct mly_model_card {
    struct mly_str id, hash;
    struct mly_str quantisation;                 /* int8, bf16, f32 */
    struct mly_str pooling;                      /* mean, cls */
    struct mly_str query_prefix, passage_prefix; /* put in front of texts; empty where there is
                                                    none, null where the model does not say */
    struct mly_str tokenizer; /* in this form; a model's file, so that nothing in it is trusted */
    enum mly_tokenizer_form tokenizer_form;
    struct mly_str kernels;         /* what runs it, where that is not our kernel set; else null */
    struct mly_str license, source; /* null where the model does not say */
    uint32_t dim, pieces_max;
    uint32_t layers;     /* 0: not known */
    uint32_t vocabulary; /* ids are below it */
};

/* pool and kern must outlive the embedder. */
MLY_MUST_USE enum mly_err mly_embedder_open(const struct mly_env *env, const struct mly_kern *kern,
                                            struct mly_pool *pool, const char *path,
                                            struct mly_embedder **out, struct mly_error *err);
/* The same for a folder. library: the path of libonnxruntime; NULL: the system's. The variable
 * MEMALLOY_ONNXRUNTIME goes before both. Threads are the library's own, as many as the pool has. */
MLY_MUST_USE enum mly_err mly_embedder_open_folder(const struct mly_env *env, struct mly_pool *pool,
                                                   const char *path, const char *library,
                                                   struct mly_embedder **out,
                                                   struct mly_error *err);
/* Reads all weights (20 MB and more) and compares them with the header's checksum: CORRUPT where
 * they differ. Open checks the header and the shapes only, so that it stays cheap. */
MLY_MUST_USE enum mly_err mly_embedder_verify(const struct mly_embedder *embedder,
                                              struct mly_error *err);
void mly_embedder_close(struct mly_embedder *embedder);
/* Borrowed until close. */
const struct mly_model_card *mly_embedder_card(const struct mly_embedder *embedder);
MLY_MUST_USE enum mly_err mly_embedder_encode(struct mly_embedder *embedder, const int32_t *ids,
                                              const size_t *starts, size_t count, float *out,
                                              struct mly_error *err);

#endif
