/* <memalloy.h> on the real system: the one place where an inner error becomes the caller's. Handles
 * are made by engine/ with the system's table; what comes in from C is checked for NULL here. */
#include "engine/engine.h"

#include "chunk/chunk.h"
#include "engine/engine_int.h"

#include <string.h>

_Static_assert(MLY_ERROR_BYTES == MEMALLOY_ERROR_BYTES, "messages are copied whole");

const char *memalloy_err_text(int code)
{
    switch (code) {
#define ERR_TEXT(name, value, exception, text)                                                     \
    case value:                                                                                    \
        return text;
        MEMALLOY_ERR_MAP(ERR_TEXT)
#undef ERR_TEXT
    default:
        return "unknown error";
    }
}

const char *memalloy_err_name(int code)
{
    switch (code) {
#define ERR_NAME(name, value, exception, text)                                                     \
    case value:                                                                                    \
        return #name;
        MEMALLOY_ERR_MAP(ERR_NAME)
#undef ERR_NAME
    default:
        return "UNKNOWN";
    }
}

#define VERSION_TEXT_OF(number) #number
#define VERSION_TEXT(number) VERSION_TEXT_OF(number)

const char *memalloy_version(void)
{
    return VERSION_TEXT(MEMALLOY_VERSION_MAJOR) "." VERSION_TEXT(
        MEMALLOY_VERSION_MINOR) "." VERSION_TEXT(MEMALLOY_VERSION_PATCH);
}

static int give(enum mly_err rc, const struct mly_error *inner, struct memalloy_error *err)
{
    if (rc == MLY_OK || err == NULL) return (int)rc;
    err->code = (int)rc;
    err->system_errno = inner->system_errno;
    memcpy(err->message, inner->message, sizeof(err->message));
    return (int)rc;
}

/* The same after a call on a kernel. */
static int give_of(const memalloy_kernel *kernel, enum mly_err rc, struct mly_error *inner,
                   struct memalloy_error *err)
{
    mly_kernel_explain(kernel, rc, inner);
    return give(rc, inner, err);
}

static int refuse_null(const char *name, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    return give(mly_fail(&inner, MLY_ERR_INVAL, "%s is NULL", name), &inner, err);
}

int memalloy_model_open(memalloy_model **out, const struct memalloy_model_options *options,
                        struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (out == NULL) return refuse_null("out", err);
    return give(mly_engine_model_open(mly_env_system(), options, out, &inner), &inner, err);
}

int memalloy_model_convert(const struct memalloy_convert_options *options,
                           struct memalloy_convert_report *out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (options == NULL) return refuse_null("options", err);
    return give(mly_engine_convert(mly_env_system(), options, out, &inner), &inner, err);
}

void memalloy_model_close(memalloy_model *model)
{
    mly_engine_model_close(model);
}

int memalloy_model_get_info(const memalloy_model *model, struct memalloy_model_info *out,
                            struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (model == NULL || out == NULL) return refuse_null("model or out", err);
    return give(mly_engine_model_info(model, out, &inner), &inner, err);
}

int memalloy_models_list(memalloy_models **out, const struct memalloy_model_options *options,
                         struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (out == NULL) return refuse_null("out", err);
    return give(mly_engine_models_list(mly_env_system(), options, out, &inner), &inner, err);
}

int memalloy_model_add(const char *name, const struct memalloy_convert_options *options,
                       struct memalloy_convert_report *out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (options == NULL) return refuse_null("options", err);
    return give(mly_engine_model_add(mly_env_system(), name, options, out, &inner), &inner, err);
}

int memalloy_model_remove(const char *name, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (name == NULL) return refuse_null("name", err);
    return give(mly_engine_model_remove(mly_env_system(), name, &inner), &inner, err);
}

int memalloy_model_verify(const memalloy_model *model, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (model == NULL) return refuse_null("model", err);
    return give(mly_engine_model_verify(model, &inner), &inner, err);
}

int memalloy_embed(memalloy_model *model, const struct memalloy_str *texts, size_t count,
                   const struct memalloy_embed_options *options, float *out,
                   size_t *truncated_count, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (model == NULL) return refuse_null("model", err);
    if (count > 0 && (texts == NULL || out == NULL)) return refuse_null("texts or out", err);
    return give(mly_engine_embed(model, texts, count, options, out, truncated_count, &inner),
                &inner, err);
}

int memalloy_tokenize(memalloy_model *model, const char *text, size_t text_bytes,
                      int special_tokens, memalloy_tokens **out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (model == NULL || out == NULL) return refuse_null("model or out", err);
    struct mly_str str = {text, text_bytes};
    return give(mly_engine_tokenize(model, str, special_tokens != 0, out, &inner), &inner, err);
}

int memalloy_chunk_text(memalloy_model *model, const struct memalloy_chunking *chunking,
                        const char *text, size_t text_bytes, memalloy_chunks **out,
                        struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (out == NULL) return refuse_null("out", err);
    const struct mly_env *env = model != NULL ? model->env : mly_env_system();
    struct mly_str str = {text, text_bytes};
    return give(mly_engine_chunk(env, model, chunking, str, out, &inner), &inner, err);
}

int memalloy_chunking_check(const struct memalloy_chunking *chunking, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    struct mly_chunking resolved;
    return give(mly_options_chunking(chunking, &resolved, &inner), &inner, err);
}

int memalloy_open(memalloy_kernel **out, const char *path, const struct memalloy_options *options,
                  struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (out == NULL || path == NULL) return refuse_null("out or path", err);
    return give(mly_engine_open(mly_env_system(), path, options, out, &inner), &inner, err);
}

int memalloy_close(memalloy_kernel *kernel, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    return give(mly_engine_close(kernel, &inner), &inner, err);
}

int memalloy_flush(memalloy_kernel *kernel, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    return give_of(kernel, mly_engine_flush(kernel, &inner), &inner, err);
}

int memalloy_checkpoint(memalloy_kernel *kernel, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    return give_of(kernel, mly_engine_checkpoint(kernel, &inner), &inner, err);
}

int memalloy_set_chunking(memalloy_kernel *kernel, const struct memalloy_chunking *chunking,
                          struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    return give_of(kernel, mly_engine_set_chunking(kernel, chunking, &inner), &inner, err);
}

int memalloy_add_text(memalloy_kernel *kernel, const char *text, size_t text_bytes,
                      const struct memalloy_add_options *options, struct memalloy_id *out_id,
                      struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    struct mly_str str = {text, text_bytes};
    return give_of(kernel, mly_engine_add_text(kernel, str, options, out_id, &inner), &inner, err);
}

int memalloy_add_file(memalloy_kernel *kernel, const char *path,
                      const struct memalloy_add_options *options, struct memalloy_id *out_id,
                      struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    return give_of(kernel, mly_engine_add_file(kernel, path, options, out_id, &inner), &inner, err);
}

int memalloy_add_vectors(memalloy_kernel *kernel, const struct memalloy_str *contents,
                         const float *vectors, size_t count, size_t dim,
                         const struct memalloy_add_options *options, struct memalloy_id *out_ids,
                         struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    if (count > 0 && (contents == NULL || vectors == NULL)) {
        return refuse_null("contents or vectors", err);
    }
    return give_of(
        kernel,
        mly_engine_add_vectors(kernel, contents, vectors, count, dim, options, out_ids, &inner),
        &inner, err);
}

int memalloy_verify(memalloy_kernel *kernel, memalloy_verify_fn fn, void *context,
                    uint64_t *out_damaged, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    uint64_t damaged = 0;
    if (kernel == NULL) return refuse_null("kernel", err);
    enum mly_err rc = mly_engine_verify(kernel, fn, context, &damaged, &inner);
    if (rc == MLY_OK && out_damaged != NULL) *out_damaged = damaged;
    return give_of(kernel, rc, &inner, err);
}

int memalloy_get_open_report(memalloy_kernel *kernel, struct memalloy_open_report *out,
                             struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    return give_of(kernel, mly_engine_open_report(kernel, out, &inner), &inner, err);
}

int memalloy_add_texts(memalloy_kernel *kernel, const struct memalloy_str *texts, size_t count,
                       const struct memalloy_add_options *options, struct memalloy_id *out_ids,
                       struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    if (count > 0 && texts == NULL) return refuse_null("texts", err);
    return give_of(kernel, mly_engine_add_texts(kernel, texts, count, options, out_ids, &inner),
                   &inner, err);
}

int memalloy_update_metadata(memalloy_kernel *kernel, struct memalloy_str document_id,
                             struct memalloy_str metadata,
                             const struct memalloy_write_options *options,
                             struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    return give_of(kernel,
                   mly_engine_update_metadata(kernel, mly_str_in(document_id), mly_str_in(metadata),
                                              options, &inner),
                   &inner, err);
}

int memalloy_remove_document(memalloy_kernel *kernel, struct memalloy_str document_id,
                             const struct memalloy_write_options *options, int *out_removed,
                             struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL) return refuse_null("kernel", err);
    bool removed = false;
    enum mly_err rc = mly_engine_remove(kernel, mly_str_in(document_id), options, &removed, &inner);
    if (rc == MLY_OK && out_removed != NULL) *out_removed = removed ? 1 : 0;
    return give_of(kernel, rc, &inner, err);
}

int memalloy_count(memalloy_kernel *kernel, uint64_t *out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    return give_of(kernel, mly_engine_count(kernel, out, &inner), &inner, err);
}

int memalloy_get_status(memalloy_kernel *kernel, struct memalloy_status *out,
                        struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    return give_of(kernel, mly_engine_status(kernel, out, &inner), &inner, err);
}

int memalloy_watch_open(memalloy_kernel *kernel, const char *folder,
                        const struct memalloy_watch_options *options, memalloy_watch **out,
                        struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || folder == NULL || out == NULL) {
        return refuse_null("kernel, folder or out", err);
    }
    return give_of(kernel, mly_engine_watch_open(kernel, folder, options, out, &inner), &inner,
                   err);
}

int memalloy_sync(memalloy_kernel *kernel, const char *folder,
                  const struct memalloy_sync_options *options, memalloy_report **out,
                  struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || folder == NULL || out == NULL) {
        return refuse_null("kernel, folder or out", err);
    }
    return give_of(kernel, mly_engine_sync(kernel, folder, options, out, &inner), &inner, err);
}

int memalloy_search_text(memalloy_kernel *kernel, const char *query, size_t query_bytes,
                         const struct memalloy_search_options *options, memalloy_hits **out,
                         struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    struct mly_str str = {query, query_bytes};
    return give_of(kernel, mly_engine_search_text(kernel, str, options, out, &inner), &inner, err);
}

int memalloy_search_vector(memalloy_kernel *kernel, const float *vector, size_t dim,
                           const struct memalloy_search_options *options, memalloy_hits **out,
                           struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || vector == NULL || out == NULL) {
        return refuse_null("kernel, vector or out", err);
    }
    return give_of(kernel, mly_engine_search_vector(kernel, vector, dim, options, out, &inner),
                   &inner, err);
}

int memalloy_search_vectors(memalloy_kernel *kernel, const float *vectors, size_t count, size_t dim,
                            const struct memalloy_search_options *options, memalloy_hits **out,
                            struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || ((vectors == NULL || out == NULL) && count > 0)) {
        return refuse_null("kernel, vectors or out", err);
    }
    return give_of(kernel,
                   mly_engine_search_vectors(kernel, vectors, count, dim, options, out, &inner),
                   &inner, err);
}

int memalloy_make_index(memalloy_kernel *kernel, const struct memalloy_index_options *options,
                        int *out_made, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    bool made = false;
    if (kernel == NULL) return refuse_null("kernel", err);
    enum mly_err rc = mly_engine_make_index(kernel, options, &made, &inner);
    if (rc == MLY_OK && out_made != NULL) *out_made = made;
    return give_of(kernel, rc, &inner, err);
}

int memalloy_get_index_status(memalloy_kernel *kernel, struct memalloy_index_status *out,
                              struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    return give_of(kernel, mly_engine_get_index_status(kernel, out, &inner), &inner, err);
}

int memalloy_get_document(memalloy_kernel *kernel, struct memalloy_str document_id,
                          memalloy_documents **out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    return give_of(kernel, mly_engine_get_document(kernel, mly_str_in(document_id), out, &inner),
                   &inner, err);
}

int memalloy_get_document_at(memalloy_kernel *kernel, const char *path, memalloy_documents **out,
                             struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || path == NULL || out == NULL) {
        return refuse_null("kernel, path or out", err);
    }
    return give_of(kernel, mly_engine_get_document_at(kernel, path, out, &inner), &inner, err);
}

int memalloy_list_documents(memalloy_kernel *kernel, size_t limit, struct memalloy_str after,
                            memalloy_documents **out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (kernel == NULL || out == NULL) return refuse_null("kernel or out", err);
    return give_of(kernel, mly_engine_list(kernel, limit, mly_str_in(after), out, &inner), &inner,
                   err);
}
