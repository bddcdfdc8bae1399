/* Commits.
 *
 * In: changes. Out: a record of the log, and the snapshot that shows it, in this order: what cannot
 * be shown is found out before the record is written, and what is written is shown. The tables get
 * it later (store_checkpoint.c). */
#include "store/store_index_int.h"
#include "store/store_state_int.h"

#include "base/limits.h"

#include <stdio.h>

#define CONFIG_MAX 13
#define TABLE_TRIES 3

/* ---- one version of a table ---- */

struct config {
    struct mly_lance_pair pairs[CONFIG_MAX];
    size_t count;
    char table_id[37], format[12], dim[12], lsn[24];
};

static void add_pair(struct config *config, const struct mly_store_view *view, struct mly_str key,
                     struct mly_str value)
{
    if (value.data == NULL || mly_store_view_config(view, key).data != NULL) return;
    config->pairs[config->count++] = (struct mly_lance_pair){key, value};
}

/* What the manifest shall say and does not say yet. */
static enum mly_err fill_config(struct mly_store *store, const struct mly_store_view *view,
                                uint64_t lsn, uint32_t table_dim, struct config *config,
                                struct mly_error *err)
{
    config->count = 0;
    snprintf(config->lsn, sizeof(config->lsn), "%llu", (unsigned long long)lsn);
    config->pairs[config->count++] = (struct mly_lance_pair){MLY_KEY_LSN, mly_str_of(config->lsn)};
    if (mly_store_view_config(view, MLY_KEY_TABLE).data == NULL) {
        MLY_TRY(mly_uuid4(store->env, config->table_id, err));
        add_pair(config, view, MLY_KEY_TABLE, mly_str_of(config->table_id));
    }
    snprintf(config->format, sizeof(config->format), "%d", MLY_STORE_FORMAT);
    add_pair(config, view, MLY_KEY_FORMAT, mly_str_of(config->format));
    add_pair(config, view, MLY_KEY_METRIC, MLY_STR("cosine"));
    uint32_t dim = view->dim != 0 ? view->dim : table_dim;
    snprintf(config->dim, sizeof(config->dim), "%u", dim);
    if (dim != 0) add_pair(config, view, MLY_KEY_DIM, mly_str_of(config->dim));
    mly_mutex_lock(&store->mutex);
    add_pair(config, view, MLY_KEY_MODEL_ID, mly_str_of(store->model_id));
    add_pair(config, view, MLY_KEY_MODEL_HASH, mly_str_of(store->model_hash));
    const struct mly_str keys[MLY_STORE_MODEL_DETAILS] = {
        MLY_KEY_MODEL_POOLING, MLY_KEY_MODEL_QUANTISATION, MLY_KEY_MODEL_QUERY_PREFIX,
        MLY_KEY_MODEL_PASSAGE_PREFIX};
    for (size_t i = 0; i < MLY_STORE_MODEL_DETAILS; i++) {
        add_pair(config, view, keys[i], mly_str_of(store->model_details[i]));
    }
    mly_mutex_unlock(&store->mutex);
    return MLY_OK;
}

enum mly_err mly_store_commit_table(struct mly_store *store, struct mly_store_view *base,
                                    struct mly_lance_change *change, uint64_t lsn, uint32_t dim,
                                    bool *visible, struct mly_error *err)
{
    struct config config;
    struct mly_lance_field fields[MLY_STORE_COLUMNS_MAX];
    MLY_TRY(fill_config(store, base, lsn, dim, &config, err));
    change->config = config.pairs;
    change->config_count = config.count;
    if (base->manifest == NULL) {
        mly_store_new_fields(base->table->kind, dim, fields, &change->field_count);
        change->fields = fields;
    }
    enum mly_err rc =
        mly_lance_commit(base->table->lance, base->manifest, change, NULL, visible, err);
    change->fields = NULL;
    change->config = NULL;
    return rc;
}

/* ---- what a commit needs ---- */

static enum mly_err check_changes(const struct mly_change *changes, size_t change_count,
                                  uint64_t *chunk_count, struct mly_error *err)
{
    *chunk_count = 0;
    for (size_t i = 0; i < change_count; i++) {
        const struct mly_change *change = &changes[i];
        struct mly_str id = change->document.id;
        if (id.data == NULL || id.bytes == 0 || id.bytes > MLY_ID_BYTES_MAX) {
            return mly_fail(err, MLY_ERR_INVAL, "document id of %zu bytes, must be 1 to %zu",
                            id.bytes, MLY_ID_BYTES_MAX);
        }
        if (change->kind != MLY_CHANGE_PUT) continue;
        for (size_t row = 0; row < change->row_count; row++) {
            if (change->rows[row].vector == NULL) {
                return mly_fail(err, MLY_ERR_INVAL, "chunk %zu of document %.80s has no vector",
                                row, id.data);
            }
        }
        *chunk_count += change->row_count;
    }
    return MLY_OK;
}

static enum mly_err find_dim(struct mly_store *store, const struct mly_snapshot *before,
                             const struct mly_change *changes, size_t change_count, uint32_t *out,
                             struct mly_error *err)
{
    uint64_t chunk_count;
    MLY_TRY(check_changes(changes, change_count, &chunk_count, err));
    uint32_t dim = before->views[MLY_STORE_CHUNKS]->dim;
    if (dim == 0) dim = mly_store_dim(store);
    for (size_t i = 0; i < change_count; i++) {
        if (changes[i].kind != MLY_CHANGE_PUT || changes[i].dim == 0) continue;
        if (dim == 0) dim = changes[i].dim;
        if (dim != changes[i].dim) {
            return mly_fail(err, MLY_ERR_MISMATCH, "store %s has vectors of %u numbers, not %u",
                            store->path, dim, changes[i].dim);
        }
    }
    if (dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "vectors of %u numbers, the limit is %zu", dim,
                        MLY_DIM_MAX);
    }
    if (chunk_count > 0 && dim == 0) {
        return mly_fail(err, MLY_ERR_INVAL, "store %s: the vectors' dimension is not known",
                        store->path);
    }
    *out = dim;
    return MLY_OK;
}

/* With the number up to which it has everything; CONFLICT where somebody else was faster. */
static enum mly_err number_table(struct mly_store *store, struct mly_store_view *base, uint64_t lsn,
                                 uint32_t dim, struct mly_error *err)
{
    struct mly_lance_change change = {.file_count = 0};
    /* A manifest must not have what a power cut takes out of the log. */
    if (lsn > 0) {
        MLY_TRY(mly_store_open_log(store, err));
        MLY_TRY(mly_log_flush(store->log, err));
    }
    MLY_TRY(mly_lance_table_make(base->table->lance, err));
    return mly_store_commit_table(store, base, &change, lsn, dim, NULL, err);
}

/* A table that is not there is made, and one of somebody else's gets its number: without one nobody
 * could tell which records of the log it has, once the other table has them. */
static enum mly_err make_table(struct mly_store *store, enum mly_store_table_kind kind,
                               uint32_t dim, bool *made, struct mly_error *err)
{
    struct mly_store_table *table = &store->tables[kind];
    for (int attempt = 1;; attempt++) {
        mly_mutex_lock(&store->mutex);
        enum mly_err rc = attempt == 1 ? MLY_OK : mly_store_renew(store, err);
        struct mly_store_view *base = mly_store_view_retain(table->newest);
        uint64_t lsn = store->seen_lsn;
        mly_mutex_unlock(&store->mutex);
        if (rc == MLY_OK && base->manifest != NULL) rc = mly_store_check_foreign(base, err);
        bool has_number = mly_store_view_config(base, MLY_KEY_LSN).data != NULL;
        if (rc == MLY_OK && !has_number) rc = number_table(store, base, lsn, dim, err);
        *made = *made || !has_number;
        mly_store_view_release(base);
        if (rc != MLY_ERR_CONFLICT || attempt == TABLE_TRIES) return rc;
    }
}

/* The log names the tables that its records are for, so they come first. The documents' table is
 * made before the chunks': one that is missing later was taken away by somebody. */
static enum mly_err make_tables(struct mly_store *store, uint32_t dim, struct mly_error *err)
{
    bool made = false;
    if (store->in_memory) return MLY_OK;
    MLY_TRY(make_table(store, MLY_STORE_DOCUMENTS, dim, &made, err));
    if (dim != 0) MLY_TRY(make_table(store, MLY_STORE_CHUNKS, dim, &made, err));
    if (!made) return MLY_OK;
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = mly_store_renew(store, err);
    mly_mutex_unlock(&store->mutex);
    if (rc == MLY_OK) mly_store_write_json(store);
    return rc;
}

/* ---- commit ---- */

static enum mly_err append(struct mly_store *store, struct mly_store_record *record, bool urgent,
                           enum mly_durability durability, struct mly_error *err)
{
    const struct mly_log_entry entry = {
        .type = MLY_STORE_RECORD_TYPE,
        .payload = mly_bytes_view(&record->payload),
        .urgent = urgent,
    };
    /* Whoever wants more waits for it in end, when others may write. */
    if (durability == MLY_DURABILITY_FULL) durability = MLY_DURABILITY_OFF;
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        mly_store_view_uuid(store->tables[kind].newest,
                            record->owner + (size_t)kind * MLY_STORE_UUID_BYTES);
    }
    MLY_TRY(mly_log_set_owner(store->log, record->owner, err));
    return mly_log_append(store->log, &entry, 1, durability, &record->lsn, err);
}

static void set_appending(struct mly_store *store)
{
    mly_mutex_lock(&store->mutex);
    store->appending = true;
    mly_mutex_unlock(&store->mutex);
}

/* Everything that can fail comes before the record is written, but for that. */
static enum mly_err commit_record(struct mly_store *store, struct mly_store_record *record,
                                  bool urgent, uint32_t dim, enum mly_durability durability,
                                  struct mly_error *err)
{
    struct mly_store_view *views[MLY_STORE_TABLES];
    struct mly_snapshot *snapshot = NULL;
    MLY_TRY(mly_store_apply(store, store->current->views, &record, 1, views, err));
    MLY_TRY(mly_store_make_snapshot(store, views, &snapshot, err));
    enum mly_err rc = mly_store_keep_record(store, mly_store_record_retain(record), err);
    if (rc == MLY_OK) {
        set_appending(store);
        rc = append(store, record, urgent, durability, err);
        if (rc != MLY_OK) mly_store_forget_newest(store);
    }
    mly_mutex_lock(&store->mutex);
    store->appending = false;
    mly_cond_wake_all(&store->cond);
    if (rc != MLY_OK) {
        mly_mutex_unlock(&store->mutex);
        mly_snapshot_release(snapshot);
        return rc;
    }
    struct mly_snapshot *before = store->current;
    store->current = snapshot;
    store->seen_lsn = record->lsn;
    store->applied = store->record_count;
    store->wrote = true;
    store->tail_bytes += mly_store_record_weight(record);
    if (store->record_count == 1) store->checkpoint_s = mly_clock_seconds(store->env);
    if (store->dim == 0) store->dim = dim;
    mly_mutex_unlock(&store->mutex);
    mly_snapshot_release(before);
    return MLY_OK;
}

/* committing is set: nobody else changes what the store knows. */
static enum mly_err commit_all(struct mly_store *store, const struct mly_change *changes,
                               size_t change_count, enum mly_durability durability,
                               struct mly_error *err)
{
    struct mly_store_record *record = NULL;
    struct mly_store_load load = {0};
    uint32_t dim = 0;
    bool urgent = true;
    MLY_TRY(find_dim(store, store->current, changes, change_count, &dim, err));
    MLY_TRY(make_tables(store, dim, err));
    MLY_TRY(mly_store_open_log(store, err));
    for (size_t i = 0; i < change_count; i++)
        urgent = urgent && changes[i].kind == MLY_CHANGE_REMOVE;
    bool is_load = !store->in_memory && mly_store_is_load(changes, change_count, dim);
    if (is_load) mly_store_index_yield(store);
    if (is_load) MLY_TRY(mly_store_load_write(store, changes, change_count, &load, err));
    enum mly_err rc = mly_store_record_make(store->mem, changes, change_count, dim,
                                            is_load ? &load : NULL, &record, err);
    if (rc == MLY_OK) rc = commit_record(store, record, urgent, dim, durability, err);
    mly_store_record_release(record);
    if (is_load) mly_store_index_yield(store);
    if (rc == MLY_OK) {
        mly_store_load_deinit(&load);
    } else if (store->log != NULL && mly_log_has_failed(store->log)) {
        mly_store_load_deinit(&load); /* the record may be there, and name them */
    } else {
        mly_store_load_discard(store, &load);
    }
    return rc;
}

static enum mly_err check_durability(const struct mly_store *store, enum mly_durability *durability,
                                     struct mly_error *err)
{
    if (store->in_memory || *durability == MLY_DURABILITY_DEFAULT) {
        *durability = store->durability;
    }
    if (*durability == MLY_DURABILITY_MEMORY && !store->in_memory) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "store %s was not opened with durability \"memory\", so no commit has it",
                        store->path);
    }
    return MLY_OK;
}

enum mly_err mly_store_commit(struct mly_store *store, const struct mly_change *changes,
                              size_t change_count, enum mly_durability durability,
                              struct mly_error *err)
{
    MLY_TRY(check_durability(store, &durability, err));
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = MLY_OK;
    if (!store->writing) {
        rc = mly_fail(err, MLY_ERR_INTERNAL, "store %s: commit outside of begin and end",
                      store->path);
    }
    if (rc == MLY_OK) rc = mly_store_renew(store, err);
    /* Other threads read what was there before until the commit is whole. */
    store->committing = rc == MLY_OK;
    mly_mutex_unlock(&store->mutex);
    if (rc == MLY_OK && change_count > 0) {
        rc = commit_all(store, changes, change_count, durability, err);
    }
    mly_mutex_lock(&store->mutex);
    store->committing = false;
    if (rc == MLY_OK && durability < store->asked) store->asked = durability;
    mly_mutex_unlock(&store->mutex);
    return rc;
}
