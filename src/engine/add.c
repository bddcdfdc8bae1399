/* Documents that are handed in, as text or as a file. */
#include "engine/engine_int.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "engine/report.h"

#include <string.h>

enum mly_err mly_take_add_request(const struct memalloy_add_options *options,
                                  struct mly_add_request *out, struct mly_error *err)
{
    struct memalloy_add_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_add_options", err));
    out->wanted_id = mly_str_in(local.document_id);
    out->metadata = mly_str_in(local.metadata);
    out->progress = local.progress;
    out->progress_context = local.progress_context;
    MLY_TRY(mly_options_durability(local.durability, &out->durability, err));
    if (out->wanted_id.data != NULL) MLY_TRY(mly_check_document_id(out->wanted_id, err));
    if (out->metadata.data != NULL) {
        MLY_TRY(mly_json_check_object(out->metadata, "metadata", err));
    }
    return MLY_OK;
}

void mly_fill_document(struct mly_ingest_item *item, const struct mly_env *env,
                       const struct mly_add_request *request, const struct mly_document *old,
                       const struct mly_text *text)
{
    int64_t now_us = mly_clock_wall_us(env);
    struct mly_document *document = &item->document;
    item->keeps_metadata = request == NULL || request->metadata.data == NULL;
    document->metadata = MLY_STR("{}");
    if (!item->keeps_metadata) {
        document->metadata = request->metadata;
    } else if (old != NULL && old->metadata.data != NULL) {
        document->metadata = old->metadata;
    }
    document->status = MLY_STR("ok");
    document->reason = MLY_STR_NULL;
    document->content_hash = text->hash;
    document->has_content_hash = true;
    document->byte_count = (int64_t)text->text.bytes;
    document->created_at_us = old != NULL && old->created_at_us > 0 ? old->created_at_us : now_us;
    document->updated_at_us = now_us;
}

bool mly_is_same_text(const struct mly_document *old, const struct mly_text *text,
                      const struct mly_add_request *request)
{
    if (!old->has_content_hash || !mly_str_equal(old->status, MLY_STR("ok"))) return false;
    if (memcmp(old->content_hash.bytes, text->hash.bytes, MLY_HASH_BYTES) != 0) return false;
    return request->metadata.data == NULL || mly_str_equal(request->metadata, old->metadata);
}

/* One call of add: what was asked, and what is answered. */
struct add_call {
    struct mly_add_request request;
    struct mly_text text; /* of a text that was handed in */
    const char *path;     /* of a file */
    struct memalloy_id id;
    struct mly_watcher watcher;
    const struct mly_ingest *ingest; /* for the watcher */
};

/* Called between batches of the embedder, so that a long text can be given up. */
static enum mly_err tell_added(void *context, struct mly_error *err)
{
    struct add_call *call = context;
    const struct mly_ingest *ingest = call->ingest;
    struct memalloy_progress *progress = &call->watcher.progress;
    size_t targets = ingest->targets.bytes / sizeof(struct mly_chunk_row *);
    progress->chunks_done = ingest->chunks_embedded;
    progress->bytes_total = ingest->text_bytes;
    if (targets > 0) {
        progress->bytes_done = (uint64_t)((double)ingest->text_bytes *
                                          (double)ingest->chunks_embedded / (double)targets);
    }
    return mly_watcher_tell(&call->watcher, false, err);
}

static void watch(struct add_call *call, struct mly_ingest *ingest)
{
    if (call->request.progress == NULL) return;
    mly_watcher_init(&call->watcher, ingest->kernel->env, call->request.progress,
                     call->request.progress_context);
    call->watcher.progress.stage = MEMALLOY_STAGE_INDEX;
    call->watcher.progress.path = call->path;
    call->watcher.progress.files_total = 1;
    call->ingest = ingest;
    ingest->pulse = tell_added;
    ingest->pulse_context = call;
    ingest->pulse_last_s = &call->watcher.last_s;
}

static enum mly_err add_text_in(struct mly_ingest *ingest, struct add_call *call,
                                struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    const struct mly_add_request *request = &call->request;
    struct mly_ingest_item item = {.kind = MLY_CHANGE_PUT, .text = call->text};
    struct mly_document old;
    MLY_TRY(
        mly_choose_document_id(env, request->wanted_id, &ingest->arena, &item.document.id, err));
    mly_give_id(&call->id, item.document.id);
    item.is_new = request->wanted_id.data == NULL;
    if (!item.is_new) {
        MLY_TRY(mly_snapshot_find_document(ingest->snapshot, item.document.id, &ingest->arena, &old,
                                           &item.replaces, err));
        if (item.replaces && old.path.data != NULL) {
            return mly_fail(err, MLY_ERR_INVAL, "document %.64s is the file %.300s, not a text",
                            old.id.data, old.path.data);
        }
        if (item.replaces && mly_is_same_text(&old, &call->text, request)) return MLY_OK;
    }
    mly_fill_document(&item, env, request, item.replaces ? &old : NULL, &call->text);
    MLY_TRY(mly_ingest_add(ingest, &item, err));
    call->text = (struct mly_text){0}; /* the ingest's now */
    return mly_ingest_commit(ingest, err);
}

/* Runs work on a fresh ingest over a fresh snapshot; every way out releases both. */
static enum mly_err with_ingest(memalloy_kernel *kernel, struct add_call *call,
                                enum mly_err (*work)(struct mly_ingest *ingest,
                                                     struct add_call *call, struct mly_error *err),
                                struct mly_error *err)
{
    struct mly_snapshot *snapshot = NULL;
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    enum mly_err rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc == MLY_OK) {
        struct mly_ingest ingest;
        mly_ingest_init(&ingest, kernel, snapshot);
        ingest.durability = call->request.durability;
        watch(call, &ingest);
        rc = work(&ingest, call, err);
        mly_ingest_deinit(&ingest);
        mly_snapshot_release(snapshot);
    }
    mly_kernel_leave(kernel);
    return rc;
}

enum mly_err mly_engine_add_text(memalloy_kernel *kernel, struct mly_str text,
                                 const struct memalloy_add_options *options,
                                 struct memalloy_id *out_id, struct mly_error *err)
{
    struct add_call call = {0};
    if (text.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "text is NULL");
    MLY_TRY(mly_take_add_request(options, &call.request, err));
    MLY_TRY(mly_source_from_string(text, &call.text, err));
    enum mly_err rc = with_ingest(kernel, &call, add_text_in, err);
    mly_text_deinit(&call.text);
    if (rc == MLY_OK && out_id != NULL) *out_id = call.id;
    return rc;
}

/* The id of the file's document, old or new, into the item. *found: old is that of path. */
static enum mly_err choose_file_id(struct mly_ingest *ingest, const struct mly_add_request *request,
                                   struct mly_str path, struct mly_ingest_item *item,
                                   struct mly_document *old, struct mly_error *err)
{
    MLY_TRY(
        mly_snapshot_find_path(ingest->snapshot, path, &ingest->arena, old, &item->replaces, err));
    struct mly_str wanted = request->wanted_id;
    if (item->replaces) {
        item->document.id = old->id;
        if (wanted.data == NULL || mly_str_equal(wanted, old->id)) return MLY_OK;
        return mly_fail(err, MLY_ERR_INVAL, "%.300s is document %.64s already, not %.*s", path.data,
                        old->id.data, (int)(wanted.bytes < 64 ? wanted.bytes : 64), wanted.data);
    }
    MLY_TRY(mly_choose_document_id(ingest->kernel->env, wanted, &ingest->arena, &item->document.id,
                                   err));
    bool taken = false;
    struct mly_document other;
    MLY_TRY(mly_snapshot_find_document(ingest->snapshot, item->document.id, &ingest->arena, &other,
                                       &taken, err));
    if (!taken) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "document id %.64s is taken by another document",
                    item->document.id.data);
}

/* path is absolute, in ingest's arena; text is the file's and is taken on success. */
static enum mly_err add_file_text(struct mly_ingest *ingest, struct add_call *call,
                                  struct mly_str path, const struct mly_file_stamp *stamp,
                                  struct mly_text *text, struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    struct mly_ingest_item item = {.kind = MLY_CHANGE_PUT, .text = *text};
    struct mly_document old;
    MLY_TRY(choose_file_id(ingest, &call->request, path, &item, &old, err));
    MLY_TRY(mly_show_path(path, &ingest->arena, &item.document, err));
    mly_fill_document(&item, env, &call->request, item.replaces ? &old : NULL, text);
    item.document.stamp = *stamp;
    item.document.has_stamp = true;
    if (item.replaces && mly_is_same_text(&old, text, &call->request)) {
        item.kind = MLY_CHANGE_TOUCH;
        item.document.title = old.title;
        item.document.chunk_count = old.chunk_count;
    }
    mly_give_id(&call->id, item.document.id);
    MLY_TRY(mly_ingest_add(ingest, &item, err));
    *text = (struct mly_text){0};
    return mly_ingest_commit(ingest, err);
}

static enum mly_err add_file_in(struct mly_ingest *ingest, struct add_call *call,
                                struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    struct mly_bytes full;
    mly_bytes_init(&full, env->mem, MLY_PATH_BYTES_MAX);
    enum mly_err rc = mly_dir_real_path(env, call->path, &full, err);
    struct mly_str path = MLY_STR_NULL;
    if (rc == MLY_OK) {
        path = mly_arena_copy(&ingest->arena, mly_bytes_view(&full));
        if (path.data == NULL) rc = mly_fail_nomem(err, full.bytes);
    }
    mly_bytes_deinit(&full);
    if (rc != MLY_OK) return rc;
    struct mly_file_stamp stamp;
    struct mly_text text = {0};
    rc = mly_source_from_file(env, MLY_AT_CWD, path.data, MLY_FILE_BYTES_MAX, &text, &stamp, err);
    if (rc == MLY_OK) rc = add_file_text(ingest, call, path, &stamp, &text, err);
    mly_text_deinit(&text);
    return rc;
}

enum mly_err mly_engine_add_file(memalloy_kernel *kernel, const char *path,
                                 const struct memalloy_add_options *options,
                                 struct memalloy_id *out_id, struct mly_error *err)
{
    struct add_call call = {.path = path};
    if (path == NULL) return mly_fail(err, MLY_ERR_INVAL, "path is NULL");
    MLY_TRY(mly_take_add_request(options, &call.request, err));
    MLY_TRY(with_ingest(kernel, &call, add_file_in, err));
    if (out_id != NULL) *out_id = call.id;
    return MLY_OK;
}
