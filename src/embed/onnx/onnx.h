/* The embedding engine for any other model: a folder with model.onnx and tokenizer.json, run by
 * ONNX Runtime. Behind embed.h; only embedder.c includes this.
 *
 * Same     a vector depends on its own ids but for the rounding of another batch's shape: below
 *          1e-5 in any number. Models that take ranges of numbers at run time get one text at a
 *          time.
 * Threads  a model may be used from many threads at once.
 * Errors   those of embed.h; MODEL where ONNX Runtime is missing or fails; UNSUPPORTED a setting
 *          that we could not follow.
 */
#ifndef MLY_EMBED_ONNX_ONNX_H
#define MLY_EMBED_ONNX_ONNX_H

#include "embed/embed.h"

struct mly_onnx;

/* The functions of embed.h of the same names. library: the path of libonnxruntime, or NULL. */
MLY_MUST_USE enum mly_err mly_onnx_open(const struct mly_env *env, uint32_t threads,
                                        const char *path, const char *library,
                                        struct mly_onnx **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_onnx_verify(const struct mly_onnx *onnx, struct mly_error *err);
void mly_onnx_close(struct mly_onnx *onnx);
const struct mly_model_card *mly_onnx_card(const struct mly_onnx *onnx);
MLY_MUST_USE enum mly_err mly_onnx_encode(const struct mly_onnx *onnx, const int32_t *ids,
                                          const size_t *starts, size_t count, float *out,
                                          struct mly_error *err);

#endif
