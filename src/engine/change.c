/* Documents that are there: removed, or given other metadata. Each is looked for without the
 * writer's lock first, since what is not there must not wait, nor make a store; and once more with
 * it, since others may have been faster. */
#include "engine/engine_int.h"

#include "base/json.h"
#include "engine/report.h"

/* Becomes the writer; who watches is asked while others write. */
static enum mly_err begin(memalloy_kernel *kernel, const struct mly_write_request *request,
                          struct mly_error *err)
{
    struct mly_watcher watcher;
    if (request->progress == NULL) return mly_store_begin(kernel->store, err);
    mly_watcher_init(&watcher, kernel->env, request->progress, request->progress_context);
    MLY_TRY(mly_store_begin_pulsed(kernel->store, mly_watcher_pulse, &watcher, err));
    enum mly_err rc = mly_watcher_tell(&watcher, true, err);
    if (rc != MLY_OK) (void)mly_store_end(kernel->store, NULL);
    return rc;
}

/* durability NULL: only looks whether it is there. */
static enum mly_err find_or_remove(memalloy_kernel *kernel, struct mly_str id,
                                   const enum mly_durability *durability, bool *found,
                                   struct mly_error *err)
{
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    MLY_TRY(mly_store_pin(kernel->store, &snapshot, err));
    mly_arena_init(&arena, kernel->env->mem, SIZE_MAX);
    struct mly_change change = {.kind = MLY_CHANGE_REMOVE};
    enum mly_err rc =
        mly_snapshot_find_document(snapshot, id, &arena, &change.document, found, err);
    /* Passages without their document's row answer searches, so they can be removed by its id. */
    size_t chunk_count = 0;
    if (rc == MLY_OK && !*found) {
        rc = mly_snapshot_count_chunks(snapshot, id, &chunk_count, err);
        change.document.id = id;
        *found = chunk_count > 0;
    }
    mly_snapshot_release(snapshot);
    if (rc == MLY_OK && *found && durability != NULL) {
        rc = mly_store_commit(kernel->store, &change, 1, *durability, err);
    }
    mly_arena_deinit(&arena);
    return rc;
}

enum mly_err mly_engine_remove(memalloy_kernel *kernel, struct mly_str document_id,
                               const struct memalloy_write_options *options, bool *removed,
                               struct mly_error *err)
{
    struct mly_write_request request;
    if (document_id.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "document id is NULL");
    MLY_TRY(mly_options_write(options, &request, err));
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    /* Looked for first without the lock: an id that is not there must not wait, nor make a store.
     */
    bool found = false;
    enum mly_err rc = find_or_remove(kernel, document_id, NULL, &found, err);
    if (rc == MLY_OK && found) {
        rc = begin(kernel, &request, err);
        if (rc == MLY_OK) {
            rc = find_or_remove(kernel, document_id, &request.durability, &found, err);
            enum mly_err end = mly_store_end(kernel->store, rc == MLY_OK ? err : NULL);
            if (rc == MLY_OK) rc = end;
        }
    }
    mly_kernel_leave(kernel);
    if (rc == MLY_OK) *removed = found;
    return rc;
}

/* Whether the document is there with other metadata than that; NOTFOUND. */
static enum mly_err find_other(memalloy_kernel *kernel, struct mly_str id, struct mly_str metadata,
                               bool *other, struct mly_error *err)
{
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    struct mly_document document;
    bool found = false;
    MLY_TRY(mly_store_pin(kernel->store, &snapshot, err));
    mly_arena_init(&arena, kernel->env->mem, SIZE_MAX);
    enum mly_err rc = mly_snapshot_find_document(snapshot, id, &arena, &document, &found, err);
    if (rc == MLY_OK && found) {
        found = document.status.data == NULL || mly_str_equal(document.status, MLY_STR("ok"));
    }
    if (rc == MLY_OK && !found) {
        rc = mly_fail(err, MLY_ERR_NOTFOUND, "there is no document %.*s",
                      (int)(id.bytes < 300 ? id.bytes : 300), id.data);
    }
    if (rc == MLY_OK) *other = !mly_str_equal(document.metadata, metadata);
    mly_arena_deinit(&arena);
    mly_snapshot_release(snapshot);
    return rc;
}

static enum mly_err update_as_writer(memalloy_kernel *kernel, struct mly_str id,
                                     struct mly_str metadata,
                                     const struct mly_write_request *request, struct mly_error *err)
{
    const struct mly_change change = {
        .kind = MLY_CHANGE_METADATA,
        .document = {.id = id,
                     .metadata = metadata,
                     .updated_at_us = mly_clock_wall_us(kernel->env)},
    };
    bool other = false;
    MLY_TRY(begin(kernel, request, err));
    enum mly_err rc = find_other(kernel, id, metadata, &other, err);
    if (rc == MLY_OK && other) {
        rc = mly_store_commit(kernel->store, &change, 1, request->durability, err);
    }
    enum mly_err end = mly_store_end(kernel->store, rc == MLY_OK ? err : NULL);
    return rc == MLY_OK ? end : rc;
}

enum mly_err mly_engine_update_metadata(memalloy_kernel *kernel, struct mly_str document_id,
                                        struct mly_str metadata,
                                        const struct memalloy_write_options *options,
                                        struct mly_error *err)
{
    struct mly_write_request request;
    bool other = false;
    if (document_id.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "document id is NULL");
    if (metadata.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "metadata is NULL");
    MLY_TRY(mly_json_check_object(metadata, "metadata", err));
    MLY_TRY(mly_options_write(options, &request, err));
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    enum mly_err rc = find_other(kernel, document_id, metadata, &other, err);
    if (rc == MLY_OK && other) {
        rc = update_as_writer(kernel, document_id, metadata, &request, err);
    }
    mly_kernel_leave(kernel);
    return rc;
}
