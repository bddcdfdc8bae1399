/* Walks the line: opens stores and models, ingests, answers. The only room that knows all others.
 *
 * The functions are those of <memalloy.h>, on a system table of the caller's choice and with the
 * inner error struct; api.c gives them to the world on the real system. What a function does, takes
 * and gives stands in <memalloy.h>.
 *
 * Threads  a kernel's mutex guards its model, its chunking and its count of calls under way; it is
 * never held while anything else is called that may wait.
 */
#ifndef MLY_ENGINE_ENGINE_H
#define MLY_ENGINE_ENGINE_H

#include "base/err.h"
#include "os/os.h"

#include <memalloy.h>

MLY_MUST_USE enum mly_err mly_engine_model_open(const struct mly_env *env,
                                                const struct memalloy_model_options *options,
                                                memalloy_model **out, struct mly_error *err);
void mly_engine_model_close(memalloy_model *model);
MLY_MUST_USE enum mly_err mly_engine_model_info(const memalloy_model *model,
                                                struct memalloy_model_info *out,
                                                struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_models_list(const struct mly_env *env,
                                                 const struct memalloy_model_options *options,
                                                 memalloy_models **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_model_add(const struct mly_env *env, const char *name,
                                               const struct memalloy_convert_options *options,
                                               struct memalloy_convert_report *out,
                                               struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_model_remove(const struct mly_env *env, const char *name,
                                                  struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_model_verify(const memalloy_model *model,
                                                  struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_embed(memalloy_model *model, const struct memalloy_str *texts,
                                           size_t count,
                                           const struct memalloy_embed_options *options, float *out,
                                           size_t *truncated_count, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_tokenize(memalloy_model *model, struct mly_str text,
                                              bool special_tokens, memalloy_tokens **out,
                                              struct mly_error *err);
/* env is that of the model, where there is one. */
MLY_MUST_USE enum mly_err mly_engine_chunk(const struct mly_env *env, memalloy_model *model,
                                           const struct memalloy_chunking *chunking,
                                           struct mly_str text, memalloy_chunks **out,
                                           struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_convert(const struct mly_env *env,
                                             const struct memalloy_convert_options *options,
                                             struct memalloy_convert_report *out,
                                             struct mly_error *err);

/* A store. */
MLY_MUST_USE enum mly_err mly_engine_open(const struct mly_env *env, const char *path,
                                          const struct memalloy_options *options,
                                          memalloy_kernel **out, struct mly_error *err);
/* Frees the kernel whatever it gives. */
enum mly_err mly_engine_close(memalloy_kernel *kernel, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_flush(memalloy_kernel *kernel, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_checkpoint(memalloy_kernel *kernel, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_verify(memalloy_kernel *kernel, memalloy_verify_fn fn,
                                            void *context, uint64_t *damaged,
                                            struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_open_report(memalloy_kernel *kernel,
                                                 struct memalloy_open_report *out,
                                                 struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_set_chunking(memalloy_kernel *kernel,
                                                  const struct memalloy_chunking *chunking,
                                                  struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_status(memalloy_kernel *kernel, struct memalloy_status *out,
                                            struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_count(memalloy_kernel *kernel, uint64_t *out,
                                           struct mly_error *err);

/* What changes it. */
MLY_MUST_USE enum mly_err mly_engine_add_text(memalloy_kernel *kernel, struct mly_str text,
                                              const struct memalloy_add_options *options,
                                              struct memalloy_id *out_id, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_add_file(memalloy_kernel *kernel, const char *path,
                                              const struct memalloy_add_options *options,
                                              struct memalloy_id *out_id, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_add_vectors(memalloy_kernel *kernel,
                                                 const struct memalloy_str *contents,
                                                 const float *vectors, size_t count, size_t dim,
                                                 const struct memalloy_add_options *options,
                                                 struct memalloy_id *out_ids,
                                                 struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_remove(memalloy_kernel *kernel, struct mly_str document_id,
                                            const struct memalloy_write_options *options,
                                            bool *removed, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_add_texts(memalloy_kernel *kernel,
                                               const struct memalloy_str *texts, size_t count,
                                               const struct memalloy_add_options *options,
                                               struct memalloy_id *out_ids, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_update_metadata(memalloy_kernel *kernel,
                                                     struct mly_str document_id,
                                                     struct mly_str metadata,
                                                     const struct memalloy_write_options *options,
                                                     struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_sync(memalloy_kernel *kernel, const char *folder,
                                          const struct memalloy_sync_options *options,
                                          memalloy_report **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_watch_open(memalloy_kernel *kernel, const char *folder,
                                                const struct memalloy_watch_options *options,
                                                memalloy_watch **out, struct mly_error *err);

/* What reads it. */
MLY_MUST_USE enum mly_err mly_engine_search_text(memalloy_kernel *kernel, struct mly_str query,
                                                 const struct memalloy_search_options *options,
                                                 memalloy_hits **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_search_vector(memalloy_kernel *kernel, const float *vector,
                                                   size_t dim,
                                                   const struct memalloy_search_options *options,
                                                   memalloy_hits **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_search_vectors(memalloy_kernel *kernel, const float *vectors,
                                                    size_t count, size_t dim,
                                                    const struct memalloy_search_options *options,
                                                    memalloy_hits **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_make_index(memalloy_kernel *kernel,
                                                const struct memalloy_index_options *options,
                                                bool *made, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_get_index_status(memalloy_kernel *kernel,
                                                      struct memalloy_index_status *out,
                                                      struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_get_document(memalloy_kernel *kernel, struct mly_str id,
                                                  memalloy_documents **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_get_document_at(memalloy_kernel *kernel, const char *path,
                                                     memalloy_documents **out,
                                                     struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_list(memalloy_kernel *kernel, size_t limit,
                                          struct mly_str after, memalloy_documents **out,
                                          struct mly_error *err);

#endif
