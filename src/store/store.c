/* Opening and closing a store, and what is known of its model.
 *
 * In: a folder, that need not exist yet. Out: the store, with both tables' newest manifests read;
 * nothing is written before the first begin. */
#include "store/store_index_int.h"

#include "base/limits.h"
#include "base/show.h"

/* A checkpoint at close waits that long for whoever writes. */
#define CLOSE_WAIT_S 1.0
#define CHECKPOINT_SECONDS 30.0

/* ---- open ---- */

/* An absolute path: the working directory may change while the store is open. */
static enum mly_err make_absolute(struct mly_store *store, const char *path, struct mly_error *err)
{
    struct mly_bytes folder;
    enum mly_err rc = MLY_OK;
    mly_bytes_init(&folder, store->mem, 2 * MLY_PATH_BYTES_MAX);
    if (path[0] == '/') {
        store->path = mly_mem_copy(store->mem, path, strlen(path));
    } else {
        rc = mly_dir_real_path(store->env, ".", &folder, err);
        if (rc == MLY_OK) rc = mly_bytes_append(&folder, "", 1, err);
        if (rc != MLY_OK) goto done;
        store->path = mly_store_join(store->mem, (const char *)folder.data, path);
    }
    if (store->path == NULL) rc = mly_fail_nomem(err, strlen(path) + 1);
done:
    mly_bytes_deinit(&folder);
    return rc;
}

/* A folder that is not there is an empty store for those who may write. */
static enum mly_err check_folder(const struct mly_store *store, struct mly_error *err)
{
    struct mly_file_info info;
    enum mly_err rc = mly_file_info_at(store->env, MLY_AT_CWD, store->path, true, &info, err);
    if (rc == MLY_ERR_NOTFOUND) {
        if (!store->read_only) return MLY_OK;
        return mly_fail(err, MLY_ERR_NOTFOUND, "no store at %s", store->path);
    }
    if (rc == MLY_OK && info.kind != MLY_KIND_DIR) {
        return mly_fail(err, MLY_ERR_INVAL, "store path %s is not a folder", store->path);
    }
    return rc;
}

/* Commits rest on locks, links and syncs as disks of this machine have them. */
static enum mly_err refuse_network(const struct mly_store *store, struct mly_error *err)
{
    const char *kind = NULL;
    MLY_TRY(mly_dir_network_kind(store->env, store->path, &kind, err));
    if (kind == NULL) return MLY_OK;
    return mly_fail(err, MLY_ERR_UNSUPPORTED,
                    "%.300s is on a file system of kind %s, where a store is safe neither from "
                    "loss nor from other machines; opening it there must be asked for",
                    store->path, kind);
}

static enum mly_err open_tables(struct mly_store *store, struct mly_error *err)
{
    static const char *const names[MLY_STORE_TABLES] = {"documents.lance", "chunks.lance"};
    static const char *const sums[MLY_STORE_TABLES] = {"_memalloy/sums/documents",
                                                       "_memalloy/sums/chunks"};
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_table *table = &store->tables[kind];
        char *path = mly_store_join(store->mem, store->path, names[kind]);
        char *sums_path = mly_store_join(store->mem, store->path, sums[kind]);
        enum mly_err rc = MLY_OK;
        if (path == NULL || sums_path == NULL) rc = mly_fail_nomem(err, strlen(store->path) + 32);
        if (rc == MLY_OK) rc = mly_lance_table_open(store->env, path, &table->lance, err);
        if (rc == MLY_OK) rc = mly_lance_table_set_sums(table->lance, sums_path, err);
        mly_mem_free(store->mem, path);
        mly_mem_free(store->mem, sums_path);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

static enum mly_err fill_store(struct mly_store *store, const char *path,
                               const struct mly_store_options *options, struct mly_error *err)
{
    store->read_only = options->read_only;
    store->lock_wait_ms = options->lock_wait_ms;
    store->durability = options->durability;
    store->in_memory = options->durability == MLY_DURABILITY_MEMORY;
    store->asked = MLY_DURABILITY_DEFAULT;
    store->checkpoint_s = mly_clock_seconds(store->env);
    store->checkpoint_after_s = options->checkpoint_after_ms * 1e-3;
    if (options->checkpoint_after_ms == 0) store->checkpoint_after_s = CHECKPOINT_SECONDS;
    if (options->durability >= MLY_DURABILITY_DEFAULT) {
        return mly_fail(err, MLY_ERR_INVAL, "durability %d, there are 0 to %d",
                        (int)options->durability, (int)MLY_DURABILITY_MEMORY);
    }
    if (path[0] == '\0') return mly_fail(err, MLY_ERR_INVAL, "store path is empty");
    if (strlen(path) > MLY_PATH_BYTES_MAX - 256) {
        return mly_fail(err, MLY_ERR_LIMIT, "store path of %zu bytes, the limit is %zu",
                        strlen(path), MLY_PATH_BYTES_MAX - 256);
    }
    MLY_TRY(make_absolute(store, path, err));
    MLY_TRY(mly_random_bytes(store->env, &store->token, sizeof(store->token), err));
    store->token >>= 2; /* read as a signed number from the lock's file */
    store->log_dir = mly_store_join(store->mem, store->path, "_memalloy/wal");
    store->lost_dir = mly_store_join(store->mem, store->path, "_memalloy/lost+found");
    if (store->log_dir == NULL || store->lost_dir == NULL) {
        return mly_fail_nomem(err, strlen(store->path) + 32);
    }
    MLY_TRY(check_folder(store, err));
    if (!options->allow_network) MLY_TRY(refuse_network(store, err));
    MLY_TRY(open_tables(store, err));
    MLY_TRY(mly_store_index_init(store, options, err));
    MLY_TRY(mly_store_set_model(store, options->model_id, options->model_hash, options->dim, err));
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = mly_store_renew(store, err);
    if (rc == MLY_OK) rc = mly_store_check_model(store, err);
    store->report.records = store->record_count;
    mly_mutex_unlock(&store->mutex);
    return rc;
}

enum mly_err mly_store_open(const struct mly_env *env, const char *path,
                            const struct mly_store_options *options, struct mly_store **out,
                            struct mly_error *err)
{
    struct mly_store *store = mly_mem_array(env->mem, 1, sizeof(*store));
    if (store == NULL) return mly_fail_nomem(err, sizeof(*store));
    store->env = env;
    store->mem = env->mem;
    store->pid = env->pid(env->context);
    store->lock_file = MLY_LOCK_FILE_CLOSED;
    store->serial_next = 1;
    mly_mutex_init(&store->mutex);
    mly_mutex_init(&store->key_mutex);
    mly_cond_init(&store->cond);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_table *table = &store->tables[kind];
        table->store = store;
        table->kind = (enum mly_store_table_kind)kind;
        for (size_t i = 0; i < MLY_STORE_KEYS; i++)
            mly_keys_init(&table->keys[i], store->mem);
    }
    enum mly_err rc = fill_store(store, path, options, err);
    if (rc != MLY_OK) {
        (void)mly_store_close(store, NULL);
        return rc;
    }
    *out = store;
    return MLY_OK;
}

/* What this object wrote goes into the tables, where nobody else writes for long. */
static void put_away(struct mly_store *store, bool trim)
{
    mly_mutex_lock(&store->mutex);
    bool wrote = store->wrote;
    mly_mutex_unlock(&store->mutex);
    if (!wrote || store->in_memory) return;
    struct mly_store_wait wait = {mly_clock_seconds(store->env) + CLOSE_WAIT_S, NULL, NULL};
    if (mly_store_begin_until(store, &wait, NULL) != MLY_OK) return;
    (void)!mly_store_run_checkpoint(store, NULL);
    if (trim && store->log_ready) mly_log_trim(store->log);
    (void)mly_store_end(store, NULL);
}

enum mly_err mly_store_settle(struct mly_store *store, struct mly_error *err)
{
    put_away(store, false);
    return mly_store_flush(store, err);
}

/* What cannot go into the tables is durable in the log all the same. */
static enum mly_err finish(struct mly_store *store, struct mly_error *err)
{
    put_away(store, true);
    enum mly_err rc = store->log == NULL ? MLY_OK : mly_log_flush(store->log, err);
    (void)mly_log_close(store->log, NULL);
    store->log = NULL;
    return rc;
}

enum mly_err mly_store_close(struct mly_store *store, struct mly_error *err)
{
    if (store == NULL) return MLY_OK;
    /* In a child of fork() other threads were cut off in the midst of whatever they did: what they
     * wait for cannot be destroyed, what they changed not be freed. The lock's file is closed. */
    if (store->pid != store->env->pid(store->env->context)) return MLY_OK;
    mly_store_idle_stop(store);
    mly_store_index_stop(store);
    enum mly_err rc = finish(store, err);
    mly_lock_file_close(&store->lock_file);
    mly_store_stop_following(store);
    mly_snapshot_release(store->current);
    mly_store_drop_records(store, UINT64_MAX);
    mly_mem_free(store->mem, store->records);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_table *table = &store->tables[kind];
        mly_store_view_release(table->newest);
        mly_store_view_release(table->ahead);
        mly_lance_table_close(table->lance);
        for (size_t i = 0; i < MLY_STORE_KEYS; i++)
            mly_keys_deinit(&table->keys[i]);
    }
    mly_store_index_deinit(store);
    mly_cond_deinit(&store->cond);
    mly_mutex_deinit(&store->key_mutex);
    mly_mutex_deinit(&store->mutex);
    mly_mem_free(store->mem, store->path);
    mly_mem_free(store->mem, store->log_dir);
    mly_mem_free(store->mem, store->lost_dir);
    mly_mem_free(store->mem, store->share.manner);
    mly_mem_free(store->mem, store->model_id);
    mly_mem_free(store->mem, store->model_hash);
    for (size_t i = 0; i < MLY_STORE_MODEL_DETAILS; i++) {
        mly_mem_free(store->mem, store->model_details[i]);
    }
    mly_mem_free(store->mem, store);
    return rc;
}

enum mly_err mly_store_flush(struct mly_store *store, struct mly_error *err)
{
    mly_mutex_lock(&store->mutex);
    struct mly_log *log = store->log;
    store->settling += log != NULL; /* so that it stays */
    mly_mutex_unlock(&store->mutex);
    if (log == NULL) return MLY_OK;
    enum mly_err rc = mly_log_flush(log, err);
    mly_store_settled(store);
    return rc;
}

enum mly_err mly_store_checkpoint(struct mly_store *store, struct mly_error *err)
{
    if (store->in_memory) return MLY_OK;
    MLY_TRY(mly_store_begin(store, err));
    enum mly_err rc = mly_store_run_checkpoint(store, err);
    enum mly_err end = mly_store_end(store, rc == MLY_OK ? err : NULL);
    return rc == MLY_OK ? end : rc;
}

void mly_store_get_report(struct mly_store *store, struct mly_store_report *out)
{
    mly_mutex_lock(&store->mutex);
    *out = store->report;
    mly_mutex_unlock(&store->mutex);
}

/* ---- model ---- */

/* A text is set once and then stays, so that a commit may read it without a copy. */
static enum mly_err set_text(const struct mly_store *store, char **where, struct mly_str text,
                             const char *what, struct mly_error *err)
{
    if (text.data == NULL) return MLY_OK;
    if (*where != NULL) {
        if (mly_str_equal(mly_str_of(*where), text)) return MLY_OK;
        return mly_fail(err, MLY_ERR_MISMATCH, "store %s is open with %s %.80s, not %.*s",
                        store->path, what, *where, MLY_SHOWN(text, 80));
    }
    char *copy = mly_mem_copy(store->mem, text.data, text.bytes);
    if (copy == NULL) return mly_fail_nomem(err, text.bytes + 1);
    *where = copy;
    return MLY_OK;
}

uint32_t mly_store_dim(struct mly_store *store)
{
    mly_mutex_lock(&store->mutex);
    uint32_t dim = store->dim;
    mly_mutex_unlock(&store->mutex);
    return dim;
}

static enum mly_err set_model_locked(struct mly_store *store, struct mly_str model_id,
                                     struct mly_str model_hash, uint32_t dim, struct mly_error *err)
{
    if (dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "vectors of %u numbers, the limit is %zu", dim,
                        MLY_DIM_MAX);
    }
    if (dim != 0 && store->dim != 0 && dim != store->dim) {
        return mly_fail(err, MLY_ERR_MISMATCH, "store %s is open for vectors of %u numbers, not %u",
                        store->path, store->dim, dim);
    }
    MLY_TRY(set_text(store, &store->model_id, model_id, "model", err));
    MLY_TRY(set_text(store, &store->model_hash, model_hash, "model file", err));
    if (dim != 0) store->dim = dim;
    return store->current == NULL ? MLY_OK : mly_store_check_model(store, err);
}

enum mly_err mly_store_set_model(struct mly_store *store, struct mly_str model_id,
                                 struct mly_str model_hash, uint32_t dim, struct mly_error *err)
{
    mly_mutex_lock(&store->mutex);
    char *id_before = store->model_id;
    char *hash_before = store->model_hash;
    uint32_t dim_before = store->dim;
    enum mly_err rc = set_model_locked(store, model_id, model_hash, dim, err);
    if (rc != MLY_OK) {
        /* As before the call. */
        if (id_before == NULL) {
            mly_mem_free(store->mem, store->model_id);
            store->model_id = NULL;
        }
        if (hash_before == NULL) {
            mly_mem_free(store->mem, store->model_hash);
            store->model_hash = NULL;
        }
        store->dim = dim_before;
    }
    mly_mutex_unlock(&store->mutex);
    return rc;
}

enum mly_err mly_store_describe_model(struct mly_store *store, const struct mly_store_model *model,
                                      struct mly_error *err)
{
    const struct mly_str texts[MLY_STORE_MODEL_DETAILS] = {
        model->pooling, model->quantisation, model->query_prefix, model->passage_prefix};
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&store->mutex);
    for (size_t i = 0; i < MLY_STORE_MODEL_DETAILS && rc == MLY_OK; i++) {
        if (texts[i].bytes == 0 || store->model_details[i] != NULL) continue;
        store->model_details[i] = mly_mem_copy(store->mem, texts[i].data, texts[i].bytes);
        if (store->model_details[i] == NULL) rc = mly_fail_nomem(err, texts[i].bytes + 1);
    }
    mly_mutex_unlock(&store->mutex);
    return rc;
}
