/* A kernel is a store, a chunking and, once it is needed, a model. Calls are counted so that close
 * can wait for them. */
#include "engine/engine_int.h"

#include "base/limits.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define RECALL_DEFAULT 0.95
#define LOCK_WAIT_MS_DEFAULT 10000u

/* The absolute path of the store, in the kernel's arena: the working directory may change later.
 * The folder itself may not exist yet; the nearest parent that does is resolved and the rest kept.
 */
static enum mly_err resolve_path(memalloy_kernel *kernel, const char *path, struct mly_error *err)
{
    const struct mly_env *env = kernel->env;
    size_t bytes = strlen(path);
    if (bytes == 0) return mly_fail(err, MLY_ERR_INVAL, "path of the store is empty");
    if (bytes >= MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "path of the store has %zu bytes, limit is %zu", bytes,
                        (size_t)MLY_PATH_BYTES_MAX - 1);
    }
    char head[MLY_PATH_BYTES_MAX];
    memcpy(head, path, bytes + 1);
    size_t head_bytes = bytes;
    bool exists = false;
    while (head_bytes > 0) {
        head[head_bytes] = '\0';
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, head, &exists, err));
        if (exists) break;
        while (head_bytes > 0 && head[head_bytes - 1] == '/') {
            head_bytes--;
        }
        while (head_bytes > 0 && head[head_bytes - 1] != '/') {
            head_bytes--;
        }
    }
    struct mly_bytes full;
    mly_bytes_init(&full, env->mem, 2 * MLY_PATH_BYTES_MAX);
    enum mly_err rc = mly_dir_real_path(env, head_bytes > 0 ? head : ".", &full, err);
    if (rc == MLY_OK && head_bytes < bytes) {
        if (full.bytes == 0 || full.data[full.bytes - 1] != '/') {
            rc = mly_bytes_append(&full, "/", 1, err);
        }
        if (rc == MLY_OK) rc = mly_bytes_append(&full, path + head_bytes, bytes - head_bytes, err);
    }
    if (rc == MLY_OK) {
        kernel->path = mly_arena_copy(&kernel->arena, mly_bytes_view(&full));
        if (kernel->path.data == NULL) rc = mly_fail_nomem(err, full.bytes);
    }
    mly_bytes_deinit(&full);
    return rc;
}

static enum mly_err copy_text(memalloy_kernel *kernel, const char **text, struct mly_error *err)
{
    if (*text == NULL) return MLY_OK;
    struct mly_str copy = mly_arena_copy(&kernel->arena, mly_str_of(*text));
    if (copy.data == NULL) return mly_fail_nomem(err, strlen(*text) + 1);
    *text = copy.data;
    return MLY_OK;
}

/* Handles with another model, or a limit of memory of their own, have a store of their own. */
static enum mly_err open_store(memalloy_kernel *kernel, struct mly_store **out,
                               struct mly_error *err)
{
    const struct mly_store_options *options = &kernel->store_options;
    if (kernel->own_mem != NULL) {
        return mly_store_open(kernel->env, kernel->path.data, options, out, err);
    }
    const char *model = kernel->model_options.path;
    struct mly_str manner = kernel->no_model ? MLY_STR("no model")
                            : model == NULL  ? MLY_STR("")
                                             : mly_str_of(model);
    return mly_store_hold(kernel->env, kernel->path.data, options, manner, out, err);
}

static enum mly_err fill_kernel(memalloy_kernel *kernel, const char *path,
                                const struct memalloy_options *options, struct mly_error *err)
{
    MLY_TRY(mly_options_chunking(options->chunking, &kernel->chunking, err));
    struct memalloy_model_options *model = &kernel->model_options;
    model->struct_bytes = sizeof(*model);
    MLY_TRY(mly_options_take(model, sizeof(*model), options->model, "memalloy_model_options", err));
    MLY_TRY(copy_text(kernel, &model->path, err));
    MLY_TRY(copy_text(kernel, &model->kernels, err));
    MLY_TRY(copy_text(kernel, &model->onnxruntime_path, err));
    if (model->threads == 0) model->threads = options->threads;
    if (options->dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "dim %u, limit is %zu", options->dim,
                        (size_t)MLY_DIM_MAX);
    }
    kernel->read_only = (options->flags & MEMALLOY_OPEN_READONLY) != 0;
    kernel->no_model = (options->flags & MEMALLOY_OPEN_NO_MODEL) != 0;
    kernel->threads = model->threads;
    MLY_TRY(mly_choose_kern(kernel->env, model->kernels, &kernel->kern, err));
    MLY_TRY(mly_options_recall(options->recall, err));
    kernel->recall = options->recall > 0 ? options->recall : RECALL_DEFAULT;
    MLY_TRY(mly_searcher_create(kernel->env, &kernel->searcher, err));
    enum mly_durability durability;
    MLY_TRY(mly_options_durability(options->durability, &durability, err));
    if (durability == MLY_DURABILITY_DEFAULT) durability = MLY_DURABILITY_FULL;
    MLY_TRY(resolve_path(kernel, path, err));
    struct mly_store_options store = {
        .read_only = kernel->read_only,
        .allow_network = (options->flags & MEMALLOY_OPEN_NETWORK_FS) != 0,
        .durability = durability,
        .lock_wait_ms = options->lock_wait_ms > 0 ? options->lock_wait_ms : LOCK_WAIT_MS_DEFAULT,
        .dim = options->dim,
        .kern = kernel->kern,
    };
    kernel->store_options = store;
    return open_store(kernel, &kernel->store, err);
}

/* The kernel gets an allocator of its own, and with it a table that names it. */
static enum mly_err limit_memory(memalloy_kernel *kernel, uint64_t bytes_max, struct mly_error *err)
{
    if (bytes_max == 0) return MLY_OK;
    kernel->own_mem = mly_mem_create_limited(kernel->env->mem, bytes_max);
    if (kernel->own_mem == NULL) return mly_fail_nomem(err, sizeof(*kernel->own_mem));
    kernel->own_env = *kernel->env;
    kernel->own_env.mem = kernel->own_mem;
    kernel->own_env.origin = kernel->birth_env;
    kernel->env = &kernel->own_env;
    return mly_maps_create(kernel->birth_env, kernel->own_mem, bytes_max, &kernel->own_env.maps,
                           err);
}

void mly_kernel_explain(const memalloy_kernel *kernel, enum mly_err rc, struct mly_error *err)
{
    if (rc != MLY_ERR_NOMEM || kernel->own_mem == NULL || err == NULL) return;
    const size_t used = strlen(err->message);
    (void)snprintf(err->message + used, sizeof(err->message) - used,
                   "; the memory limit is %llu bytes, of which %llu are in use",
                   (unsigned long long)kernel->own_mem->bytes_max,
                   (unsigned long long)atomic_load(&kernel->own_mem->bytes));
}

enum mly_err mly_engine_open(const struct mly_env *env, const char *path,
                             const struct memalloy_options *options, memalloy_kernel **out,
                             struct mly_error *err)
{
    struct memalloy_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_options", err));
    const uint32_t known =
        MEMALLOY_OPEN_READONLY | MEMALLOY_OPEN_NO_MODEL | MEMALLOY_OPEN_NETWORK_FS;
    if ((local.flags & ~known) != 0) {
        return mly_fail(err, MLY_ERR_INVAL, "flags 0x%x of memalloy_options are not known",
                        local.flags & ~known);
    }
    memalloy_kernel *kernel = mly_mem_array(env->mem, 1, sizeof(*kernel));
    if (kernel == NULL) return mly_fail_nomem(err, sizeof(*kernel));
    kernel->env = env;
    kernel->birth_env = env;
    kernel->pid = env->pid(env->context);
    mly_mutex_init(&kernel->mutex);
    mly_cond_init(&kernel->idle);
    enum mly_err rc = limit_memory(kernel, local.memory_bytes_max, err);
    mly_arena_init(&kernel->arena, kernel->env->mem, SIZE_MAX);
    if (rc == MLY_OK) rc = mly_runtime_hold(env, &kernel->runtime, err);
    if (rc == MLY_OK) rc = fill_kernel(kernel, path, &local, err);
    if (rc != MLY_OK) {
        mly_kernel_explain(kernel, rc, err);
        enum mly_err closed = mly_engine_close(kernel, NULL);
        (void)closed; /* nothing was written */
        return rc;
    }
    *out = kernel;
    return MLY_OK;
}

/* Those of this moment: a call that is under way may open another. */
static void close_watches(memalloy_kernel *kernel)
{
    mly_mutex_lock(&kernel->mutex);
    struct mly_watches *watches = kernel->watches;
    kernel->watches = NULL;
    mly_mutex_unlock(&kernel->mutex);
    mly_watches_close(watches);
}

enum mly_err mly_engine_close(memalloy_kernel *kernel, struct mly_error *err)
{
    if (kernel == NULL) return MLY_OK;
    const struct mly_env *env = kernel->birth_env;
    bool is_foreign = kernel->pid != env->pid(env->context);
    /* A child has the parent's locks, and its watches, as they were. */
    if (!is_foreign) {
        close_watches(kernel);
        mly_mutex_lock(&kernel->mutex);
        kernel->closing = true;
        while (kernel->calls > 0) {
            mly_cond_wait(&kernel->idle, &kernel->mutex);
        }
        mly_mutex_unlock(&kernel->mutex);
        close_watches(kernel);
        mly_cond_deinit(&kernel->idle);
        mly_mutex_deinit(&kernel->mutex);
    }
    mly_engine_model_close(kernel->model);
    mly_searcher_destroy(kernel->searcher);
    enum mly_err rc = kernel->own_mem != NULL ? mly_store_close(kernel->store, err)
                                              : mly_store_drop(kernel->store, err);
    mly_runtime_drop(kernel->runtime);
    mly_arena_deinit(&kernel->arena);
    mly_maps_destroy(kernel->own_env.maps);
    mly_mem_let_go(kernel->own_mem);
    mly_mem_free(env->mem, kernel);
    return rc;
}

static enum mly_err with_store(memalloy_kernel *kernel,
                               enum mly_err (*work)(struct mly_store *store, struct mly_error *err),
                               struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    enum mly_err rc = work(kernel->store, err);
    mly_kernel_leave(kernel);
    return rc;
}

enum mly_err mly_engine_flush(memalloy_kernel *kernel, struct mly_error *err)
{
    return with_store(kernel, mly_store_flush, err);
}

enum mly_err mly_engine_checkpoint(memalloy_kernel *kernel, struct mly_error *err)
{
    return with_store(kernel, mly_store_checkpoint, err);
}

/* In a child of fork(): a handle that nobody had used is opened once more. What it was in the
 * parent is left as it is. */
static enum mly_err open_in_child(memalloy_kernel *kernel, int64_t pid, struct mly_error *err)
{
    /* Another thread may have opened it meanwhile, and used it. */
    if (atomic_load(&kernel->is_used) && atomic_load(&kernel->pid) != pid) {
        return mly_fail(err, MLY_ERR_FORKED,
                        "the store %s was used before fork(); open it again in the child",
                        kernel->path.data);
    }
    struct mly_runtime *runtime = NULL;
    struct mly_store *store = NULL;
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&kernel->mutex); /* free: a call before fork() would have taken it first */
    if (atomic_load(&kernel->pid) != pid) {
        rc = mly_runtime_hold(kernel->birth_env, &runtime, err);
        if (rc == MLY_OK) {
            rc = open_store(kernel, &store, err);
        }
        if (rc == MLY_OK) {
            mly_runtime_drop(kernel->runtime);
            kernel->runtime = runtime;
            kernel->store = store;
            atomic_store(&kernel->pid, pid);
        } else {
            mly_runtime_drop(runtime);
        }
    }
    mly_mutex_unlock(&kernel->mutex);
    return rc;
}

enum mly_err mly_kernel_enter(memalloy_kernel *kernel, struct mly_error *err)
{
    const int64_t pid = kernel->env->pid(kernel->env->context);
    if (atomic_load(&kernel->pid) != pid) MLY_TRY(open_in_child(kernel, pid, err));
    atomic_store(&kernel->is_used, true); /* before the mutex is held */
    mly_mutex_lock(&kernel->mutex);
    bool closing = kernel->closing;
    if (!closing) kernel->calls++;
    mly_mutex_unlock(&kernel->mutex);
    if (closing) return mly_fail(err, MLY_ERR_CLOSED, "the store %s is closed", kernel->path.data);
    return MLY_OK;
}

void mly_kernel_leave(memalloy_kernel *kernel)
{
    mly_maps_trim(kernel->env->maps);
    mly_mutex_lock(&kernel->mutex);
    kernel->calls--;
    if (kernel->calls == 0) mly_cond_wake_all(&kernel->idle);
    mly_mutex_unlock(&kernel->mutex);
}

enum mly_err mly_kernel_enter_writing(memalloy_kernel *kernel, struct mly_error *err)
{
    if (kernel->read_only) {
        return mly_fail(err, MLY_ERR_READONLY, "the store %s was opened for reading only",
                        kernel->path.data);
    }
    return mly_kernel_enter(kernel, err);
}

/* Puts behind the message what helps: the name of the model that the store was made with, where it
 * is here. */
static void tell_remedy(const memalloy_kernel *kernel, struct mly_error *err)
{
    struct mly_snapshot *snapshot = NULL;
    char name[200] = "";
    if (err == NULL || mly_store_pin(kernel->store, &snapshot, NULL) != MLY_OK) return;
    mly_models_name_hash(kernel->env, mly_snapshot_model_hash(snapshot), name, sizeof(name));
    mly_snapshot_release(snapshot);
    const size_t used = strlen(err->message);
    if (name[0] != '\0') {
        snprintf(err->message + used, sizeof(err->message) - used, "; open it with the model %s",
                 name);
    } else {
        snprintf(err->message + used, sizeof(err->message) - used,
                 "; open it with that model, or put the texts into a new store");
    }
}

/* Loads the model and tells the store of it; a model that does not fit is closed again. */
static enum mly_err load_model(memalloy_kernel *kernel, memalloy_model **out, struct mly_error *err)
{
    memalloy_model *model = NULL;
    MLY_TRY(mly_engine_model_open(kernel->env, &kernel->model_options, &model, err));
    const struct mly_model_card *card = mly_embedder_card(model->embedder);
    const struct mly_store_model details = {card->pooling, card->quantisation, card->query_prefix,
                                            card->passage_prefix};
    enum mly_err rc = mly_store_set_model(kernel->store, card->id, card->hash, card->dim, err);
    if (rc == MLY_ERR_MISMATCH) tell_remedy(kernel, err);
    if (rc == MLY_OK) rc = mly_store_describe_model(kernel->store, &details, err);
    if (rc != MLY_OK) {
        mly_engine_model_close(model);
        return rc;
    }
    *out = model;
    return MLY_OK;
}

enum mly_err mly_kernel_get_model(memalloy_kernel *kernel, memalloy_model **out,
                                  struct mly_error *err)
{
    if (kernel->no_model) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "the store %s was opened without a model: it takes and finds vectors only",
                        kernel->path.data);
    }
    mly_mutex_lock(&kernel->mutex);
    memalloy_model *model = kernel->model;
    mly_mutex_unlock(&kernel->mutex);
    if (model == NULL) {
        /* Loaded without the mutex, since loading waits for the disk: of two threads that do, the
         * second's is dropped.
         */
        MLY_TRY(load_model(kernel, &model, err));
        memalloy_model *extra = NULL;
        mly_mutex_lock(&kernel->mutex);
        if (kernel->model == NULL) {
            kernel->model = model;
        } else {
            extra = model;
            model = kernel->model;
        }
        mly_mutex_unlock(&kernel->mutex);
        mly_engine_model_close(extra);
    }
    *out = model;
    return MLY_OK;
}

struct mly_chunking mly_kernel_get_chunking(memalloy_kernel *kernel)
{
    mly_mutex_lock(&kernel->mutex);
    struct mly_chunking chunking = kernel->chunking;
    mly_mutex_unlock(&kernel->mutex);
    return chunking;
}

enum mly_err mly_engine_set_chunking(memalloy_kernel *kernel,
                                     const struct memalloy_chunking *chunking,
                                     struct mly_error *err)
{
    struct mly_chunking resolved;
    MLY_TRY(mly_options_chunking(chunking, &resolved, err));
    MLY_TRY(mly_kernel_enter(kernel, err));
    mly_mutex_lock(&kernel->mutex);
    kernel->chunking = resolved;
    mly_mutex_unlock(&kernel->mutex);
    mly_kernel_leave(kernel);
    return MLY_OK;
}

enum mly_err mly_engine_open_report(memalloy_kernel *kernel, struct memalloy_open_report *out,
                                    struct mly_error *err)
{
    struct mly_store_report report;
    MLY_TRY(mly_kernel_enter(kernel, err));
    mly_store_get_report(kernel->store, &report);
    mly_kernel_leave(kernel);
    struct memalloy_open_report local = {.records = report.records,
                                         .dropped_bytes = report.dropped_bytes,
                                         .kept = report.kept ? 1 : 0};
    _Static_assert(sizeof(local.reason) == sizeof(report.reason), "it is copied whole");
    memcpy(local.reason, report.reason, sizeof(local.reason));
    mly_options_give(out, &local, sizeof(local));
    return MLY_OK;
}

/* What a snapshot says of its model must outlive the snapshot: it goes into the kernel's arena,
 * and only where it is new, since status may be asked for ever. */
static enum mly_err keep_text(memalloy_kernel *kernel, struct mly_str text, struct mly_str *kept,
                              struct memalloy_str *out, struct mly_error *err)
{
    mly_mutex_lock(&kernel->mutex);
    bool known = kept->data != NULL && kept->bytes == text.bytes &&
                 (text.bytes == 0 || memcmp(kept->data, text.data, text.bytes) == 0);
    struct mly_str copy = known ? *kept : mly_arena_copy(&kernel->arena, text);
    if (copy.data != NULL) *kept = copy;
    mly_mutex_unlock(&kernel->mutex);
    if (copy.data == NULL) return mly_fail_nomem(err, text.bytes + 1);
    *out = mly_str_out(copy);
    return MLY_OK;
}

static enum mly_err fill_status(memalloy_kernel *kernel, const struct mly_snapshot *snapshot,
                                struct memalloy_status *out, struct mly_error *err)
{
    struct mly_store_counts counts;
    mly_snapshot_get_counts(snapshot, &counts);
    struct mly_chunking chunking = mly_kernel_get_chunking(kernel);
    *out = (struct memalloy_status){
        .documents = counts.documents,
        .chunks = counts.chunks,
        .skipped = counts.skipped,
        .documents_version = counts.documents_version,
        .chunks_version = counts.chunks_version,
        .documents_fragments = counts.documents_fragments,
        .chunks_fragments = counts.chunks_fragments,
        .file_bytes = counts.file_bytes,
        .dim = counts.dim,
        .threads = kernel->threads > 0 ? kernel->threads
                                       : (uint32_t)kernel->env->cpu_count(kernel->env->context),
        .read_only = kernel->read_only,
        .chunking = {.struct_bytes = sizeof(out->chunking),
                     .kind = (int)chunking.kind,
                     .size = chunking.size,
                     .overlap = chunking.overlap},
        .path = mly_str_out(kernel->path),
    };
    const struct mly_store_model model = mly_snapshot_model(snapshot);
    const struct mly_str texts[] = {mly_snapshot_model_id(snapshot),
                                    mly_snapshot_model_hash(snapshot), model.pooling,
                                    model.quantisation};
    struct memalloy_str *const outs[] = {&out->model_id, &out->model_hash, &out->model_pooling,
                                         &out->model_quantisation};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        MLY_TRY(keep_text(kernel, texts[i], &kernel->model_texts[i], outs[i], err));
    }
    return MLY_OK;
}

enum mly_err mly_engine_status(memalloy_kernel *kernel, struct memalloy_status *out,
                               struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    struct memalloy_status status;
    enum mly_err rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc == MLY_OK) {
        rc = fill_status(kernel, snapshot, &status, err);
        mly_snapshot_release(snapshot);
    }
    mly_kernel_leave(kernel);
    if (rc == MLY_OK) mly_options_give(out, &status, sizeof(status));
    return rc;
}

enum mly_err mly_engine_count(memalloy_kernel *kernel, uint64_t *out, struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    enum mly_err rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc == MLY_OK) {
        struct mly_store_counts counts;
        mly_snapshot_get_counts(snapshot, &counts);
        *out = counts.documents;
        mly_snapshot_release(snapshot);
    }
    mly_kernel_leave(kernel);
    return rc;
}
