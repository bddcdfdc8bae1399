/* One commit of many changes, to both tables.
 *
 * In: changes. Out: new versions of the tables, in an order in which a crash leaves nothing that
 * begin cannot mend:
 *
 *   1  chunks     new rows, and the rows they replace die        commit id A
 *   2  documents  new rows, replaced and removed rows die        commit id A, or B if 3 follows
 *   3  chunks     the rows of removed documents die              commit id B
 *
 * Tables whose commit ids differ were left between two steps (docs/FORMAT.md S-2). */
#include "store/store_int.h"

#include "base/limits.h"

#include <stdio.h>

/* Lost races against other programs before giving up. */
#define STEP_TRIES 20
#define CONFIG_MAX 12

enum mly_err mly_store_newest(struct mly_store *store, enum mly_store_table_kind kind,
                              struct mly_store_view **out, struct mly_error *err)
{
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = mly_store_table_refresh(&store->tables[kind], err);
    if (rc == MLY_OK) *out = mly_store_view_retain(store->tables[kind].newest);
    mly_mutex_unlock(&store->mutex);
    return rc;
}

/* ---- one step: one commit to one table ---- */

struct config {
    struct mly_lance_pair pairs[CONFIG_MAX];
    size_t count;
    char table_id[37], format[12], dim[12];
};

static void add_pair(struct config *config, const struct mly_store_view *view, struct mly_str key,
                     struct mly_str value)
{
    if (value.data == NULL || mly_store_view_config(view, key).data != NULL) return;
    config->pairs[config->count++] = (struct mly_lance_pair){key, value};
}

/* What the manifest shall say and does not say yet. */
static enum mly_err fill_config(struct mly_store *store, const struct mly_store_step *step,
                                const struct mly_store_view *view, struct config *config,
                                struct mly_error *err)
{
    config->count = 0;
    struct mly_str commit_id = mly_store_view_config(view, MLY_KEY_COMMIT);
    struct mly_str wanted = step->commit_id.bytes == 0 ? MLY_STR_NULL : step->commit_id;
    if (step->commit_id.data != NULL && !mly_str_equal(commit_id, wanted)) {
        config->pairs[config->count++] = (struct mly_lance_pair){MLY_KEY_COMMIT, wanted};
    }
    if (mly_store_view_config(view, MLY_KEY_TABLE).data == NULL) {
        MLY_TRY(mly_uuid4(store->env, config->table_id, err));
        add_pair(config, view, MLY_KEY_TABLE, mly_str_of(config->table_id));
    }
    snprintf(config->format, sizeof(config->format), "%d", MLY_STORE_FORMAT);
    add_pair(config, view, MLY_KEY_FORMAT, mly_str_of(config->format));
    add_pair(config, view, MLY_KEY_METRIC, MLY_STR("cosine"));
    uint32_t dim = view->dim != 0 ? view->dim : step->dim;
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

/* The dead rows of a view with more of them: one complete set for every fragment concerned. */
struct dead_sets {
    struct mly_mem *mem;
    struct mly_lance_deletion_change *changes;
    struct mly_lance_deletions *sets;
    size_t count;
};

static void deinit_dead_sets(struct dead_sets *dead)
{
    for (size_t i = 0; i < dead->count; i++)
        mly_lance_deletions_deinit(&dead->sets[i]);
    mly_mem_free(dead->mem, dead->sets);
    mly_mem_free(dead->mem, dead->changes);
    *dead = (struct dead_sets){.mem = dead->mem};
}

/* rows are sorted. */
static enum mly_err make_dead_sets(const struct mly_store_view *view,
                                   const struct mly_store_rows *rows, struct dead_sets *out,
                                   struct mly_error *err)
{
    if (rows->count == 0) return MLY_OK;
    size_t fragment_count = 1;
    for (size_t i = 1; i < rows->count; i++) {
        fragment_count += rows->items[i] >> 32 != rows->items[i - 1] >> 32;
    }
    out->sets = mly_mem_array(out->mem, fragment_count, sizeof(out->sets[0]));
    out->changes = mly_mem_array(out->mem, fragment_count, sizeof(out->changes[0]));
    if (out->sets == NULL || out->changes == NULL) {
        return mly_fail_nomem(err, fragment_count * sizeof(out->sets[0]));
    }
    struct mly_lance_deletions *set = NULL;
    for (size_t i = 0; i < rows->count; i++) {
        uint64_t fragment_id = rows->items[i] >> 32;
        if (i == 0 || fragment_id != rows->items[i - 1] >> 32) {
            struct mly_store_cell cell;
            MLY_TRY(mly_store_cell_at(view, rows->items[i], &cell, err));
            set = &out->sets[out->count];
            if (cell.part->dead == NULL) {
                mly_lance_deletions_init(set, out->mem, cell.part->fragment->row_count);
            } else {
                MLY_TRY(mly_lance_deletions_copy(&cell.part->dead->set, set, err));
            }
            out->changes[out->count++] = (struct mly_lance_deletion_change){fragment_id, set};
        }
        MLY_TRY(mly_lance_deletions_add(set, rows->items[i] & UINT32_MAX, err));
    }
    return MLY_OK;
}

/* After a lost race the table may have other columns than those the file was written for. */
static enum mly_err check_file(const struct mly_store_view *view,
                               const struct mly_lance_data_file *file, struct mly_error *err)
{
    size_t table_fields =
        view->manifest == NULL ? 0 : mly_lance_manifest_field_count(view->manifest);
    for (size_t i = 0; i < file->field_count; i++) {
        bool there = view->manifest == NULL;
        for (size_t field_i = 0; !there && field_i < table_fields; field_i++) {
            struct mly_lance_field field;
            mly_lance_manifest_get_field(view->manifest, field_i, &field);
            there = field.id == file->field_ids[i];
        }
        if (!there) {
            return mly_fail(err, MLY_ERR_CONFLICT,
                            "%s: another program changed the columns during the commit",
                            mly_lance_table_path(view->table->lance));
        }
    }
    return MLY_OK;
}

static enum mly_err try_step(struct mly_store *store, const struct mly_store_step *step,
                             const struct mly_store_view *view, struct mly_error *err)
{
    struct mly_store_rows rows;
    struct dead_sets dead = {.mem = store->mem};
    struct config config;
    struct mly_lance_field fields[MLY_STORE_COLUMNS_MAX];
    size_t field_count = 0;
    mly_store_rows_init(&rows, store->mem);
    enum mly_err rc = fill_config(store, step, view, &config, err);
    if (rc != MLY_OK) goto done;
    if (step->collect != NULL) {
        rc = step->collect(step->context, view, &rows, err);
        if (rc != MLY_OK) goto done;
        mly_store_rows_sort(&rows);
        rc = make_dead_sets(view, &rows, &dead, err);
        if (rc != MLY_OK) goto done;
    }
    /* Keys that are merely missing are no reason for a commit of their own. */
    bool has_commit_id = config.count > 0 && mly_str_equal(config.pairs[0].key, MLY_KEY_COMMIT);
    if (view->manifest != NULL && step->file == NULL && dead.count == 0 && !has_commit_id) {
        goto done;
    }
    if (view->manifest == NULL) {
        mly_store_new_fields(view->table->kind, step->dim, fields, &field_count);
    }
    struct mly_lance_change change = {
        .files = step->file,
        .file_count = step->file != NULL,
        .deletions = dead.changes,
        .deletion_count = dead.count,
        .config = config.pairs,
        .config_count = config.count,
        .fields = field_count > 0 ? fields : NULL,
        .field_count = field_count,
    };
    rc = mly_lance_commit(view->table->lance, view->manifest, &change, NULL, step->visible, err);
done:
    deinit_dead_sets(&dead);
    mly_store_rows_deinit(&rows);
    return rc;
}

enum mly_err mly_store_run_step(struct mly_store *store, const struct mly_store_step *step,
                                struct mly_error *err)
{
    for (int attempt = 1;; attempt++) {
        struct mly_store_view *view = NULL;
        enum mly_err rc = mly_store_newest(store, step->table->kind, &view, err);
        if (rc == MLY_OK && attempt > 1 && step->file != NULL) {
            rc = check_file(view, step->file, err);
            if (rc == MLY_ERR_CONFLICT) attempt = STEP_TRIES;
        }
        if (rc == MLY_OK) rc = try_step(store, step, view, err);
        mly_store_view_release(view);
        if (rc != MLY_ERR_CONFLICT || attempt >= STEP_TRIES) return rc;
    }
}

/* ---- which rows die ---- */

struct victims {
    const struct mly_change *changes;
    size_t change_count;
    bool of_put, of_touch, of_remove; /* changes of these kinds */
};

static enum mly_err collect_victims(void *context, const struct mly_store_view *view,
                                    struct mly_store_rows *out, struct mly_error *err)
{
    const struct victims *victims = context;
    size_t key_i =
        view->table->kind == MLY_STORE_DOCUMENTS ? MLY_STORE_KEY_ID : MLY_STORE_KEY_DOCUMENT_ID;
    for (size_t i = 0; i < victims->change_count; i++) {
        const struct mly_change *change = &victims->changes[i];
        bool wanted = change->kind == MLY_CHANGE_PUT     ? victims->of_put
                      : change->kind == MLY_CHANGE_TOUCH ? victims->of_touch
                                                         : victims->of_remove;
        if (wanted) MLY_TRY(mly_store_find_rows(view, key_i, change->document.id, out, err));
    }
    return MLY_OK;
}

static enum mly_err has_victims(struct mly_store *store, const struct victims *victims,
                                const struct mly_store_view *view, bool *out, struct mly_error *err)
{
    struct mly_store_rows rows;
    mly_store_rows_init(&rows, store->mem);
    enum mly_err rc = collect_victims((void *)victims, view, &rows, err);
    *out = rows.count > 0;
    mly_store_rows_deinit(&rows);
    return rc;
}

/* ---- documents ---- */

/* A new documents table is made empty and first, so that one that is missing later was taken away
 * by somebody: begin must not take its chunks for leftovers. */
static enum mly_err make_documents(struct mly_store *store, uint32_t dim, struct mly_error *err)
{
    struct mly_store_table *table = &store->tables[MLY_STORE_DOCUMENTS];
    MLY_TRY(mly_lance_table_make(table->lance, err));
    struct mly_store_step step = {.table = table, .dim = dim};
    return mly_store_run_step(store, &step, err);
}

enum mly_err mly_store_commit_documents(struct mly_store *store, const struct mly_change *changes,
                                        size_t change_count, struct mly_str commit_id, uint32_t dim,
                                        struct mly_error *err)
{
    struct mly_store_view *view = NULL;
    struct mly_lance_data_file file = {0};
    uint64_t row_count = 0;
    bool visible = false;
    struct victims victims = {changes, change_count, true, true, true};
    enum mly_err rc = mly_store_newest(store, MLY_STORE_DOCUMENTS, &view, err);
    if (rc != MLY_OK) goto done;
    if (view->manifest == NULL) {
        rc = make_documents(store, dim, err);
        if (rc != MLY_OK) goto done;
        mly_store_view_release(view);
        view = NULL;
        rc = mly_store_newest(store, MLY_STORE_DOCUMENTS, &view, err);
        if (rc != MLY_OK) goto done;
    }
    rc = mly_store_write_rows(view, changes, change_count, 0, &file, &row_count, err);
    if (rc != MLY_OK) goto done;
    struct mly_store_step step = {
        .table = &store->tables[MLY_STORE_DOCUMENTS],
        .file = row_count > 0 ? &file : NULL,
        .collect = collect_victims,
        .context = &victims,
        .commit_id = commit_id,
        .dim = dim,
        .visible = &visible,
    };
    rc = mly_store_run_step(store, &step, err);
    if (rc != MLY_OK && row_count > 0 && !visible) {
        mly_lance_data_file_discard(step.table->lance, &file);
    }
done:
    mly_lance_data_file_deinit(&file);
    mly_store_view_release(view);
    return rc;
}

/* ---- the whole ---- */

/* view is of chunks, before the commit. */
static enum mly_err commit_chunks(struct mly_store *store, const struct mly_store_view *view,
                                  struct victims *victims, struct mly_str commit_id, uint32_t dim,
                                  struct mly_error *err)
{
    struct mly_store_table *table = &store->tables[MLY_STORE_CHUNKS];
    struct mly_lance_data_file file = {0};
    uint64_t row_count = 0;
    bool visible = false;
    enum mly_err rc = MLY_OK;
    if (view->manifest == NULL) rc = mly_lance_table_make(table->lance, err);
    if (rc != MLY_OK) goto done;
    rc = mly_store_write_rows(view, victims->changes, victims->change_count, dim, &file, &row_count,
                              err);
    if (rc != MLY_OK) goto done;
    struct mly_store_step step = {
        .table = table,
        .file = row_count > 0 ? &file : NULL,
        .collect = collect_victims,
        .context = victims,
        .commit_id = commit_id,
        .dim = dim,
        .visible = &visible,
    };
    rc = mly_store_run_step(store, &step, err);
    if (rc != MLY_OK && row_count > 0 && !visible) mly_lance_data_file_discard(table->lance, &file);
done:
    mly_lance_data_file_deinit(&file);
    return rc;
}

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

/* What a commit will do, found out before its first step. */
struct plan {
    uint32_t dim;
    bool puts_chunks, removes_chunks;
    char id_first[37], id_last[37];
};

static enum mly_err make_plan(struct mly_store *store, const struct mly_change *changes,
                              size_t change_count, const struct mly_store_view *chunks,
                              struct plan *plan, struct mly_error *err)
{
    uint64_t chunk_count;
    MLY_TRY(check_changes(changes, change_count, &chunk_count, err));
    plan->dim = chunks->dim != 0 ? chunks->dim : mly_store_dim(store);
    for (size_t i = 0; i < change_count; i++) {
        if (changes[i].kind == MLY_CHANGE_METADATA) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED, "metadata cannot be changed yet");
        }
        if (changes[i].kind != MLY_CHANGE_PUT || changes[i].dim == 0) continue;
        if (plan->dim == 0) plan->dim = changes[i].dim;
        if (plan->dim != changes[i].dim) {
            return mly_fail(err, MLY_ERR_MISMATCH, "store %s has vectors of %u numbers, not %u",
                            store->path, plan->dim, changes[i].dim);
        }
    }
    if (plan->dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "vectors of %u numbers, the limit is %zu", plan->dim,
                        MLY_DIM_MAX);
    }
    if (chunk_count > 0 && plan->dim == 0) {
        return mly_fail(err, MLY_ERR_INVAL, "store %s: the vectors' dimension is not known",
                        store->path);
    }
    struct victims replaced = {changes, change_count, true, false, false};
    struct victims removed = {changes, change_count, false, false, true};
    MLY_TRY(has_victims(store, &replaced, chunks, &plan->puts_chunks, err));
    MLY_TRY(has_victims(store, &removed, chunks, &plan->removes_chunks, err));
    plan->puts_chunks = plan->puts_chunks || chunk_count > 0 ||
                        (chunks->manifest == NULL && plan->dim != 0 && change_count > 0);
    MLY_TRY(mly_uuid4(store->env, plan->id_first, err));
    return mly_uuid4(store->env, plan->id_last, err);
}

static enum mly_err commit_all(struct mly_store *store, const struct mly_change *changes,
                               size_t change_count, struct mly_error *err)
{
    struct mly_store_view *documents = NULL;
    struct mly_store_view *chunks = NULL;
    struct plan plan;
    enum mly_err rc = mly_store_newest(store, MLY_STORE_DOCUMENTS, &documents, err);
    if (rc != MLY_OK) goto done;
    rc = mly_store_newest(store, MLY_STORE_CHUNKS, &chunks, err);
    if (rc != MLY_OK) goto done;
    rc = make_plan(store, changes, change_count, chunks, &plan, err);
    if (rc != MLY_OK) goto done;
    if (documents->manifest == NULL) {
        rc = make_documents(store, plan.dim, err);
        if (rc != MLY_OK) goto done;
    }
    struct mly_str commit_id = plan.puts_chunks ? mly_str_of(plan.id_first) : MLY_STR_NULL;
    if (plan.puts_chunks) {
        struct victims replaced = {changes, change_count, true, false, false};
        rc = commit_chunks(store, chunks, &replaced, commit_id, plan.dim, err);
        if (rc != MLY_OK) goto done;
    }
    if (plan.removes_chunks) commit_id = mly_str_of(plan.id_last);
    rc = mly_store_commit_documents(store, changes, change_count, commit_id, plan.dim, err);
    if (rc != MLY_OK) goto done;
    if (plan.removes_chunks) {
        struct victims removed = {changes, change_count, false, false, true};
        struct mly_store_step step = {
            .table = &store->tables[MLY_STORE_CHUNKS],
            .collect = collect_victims,
            .context = &removed,
            .commit_id = commit_id,
        };
        rc = mly_store_run_step(store, &step, err);
        if (rc != MLY_OK) goto done;
    }
    /* Only now: what failed must leave no dimension behind. */
    mly_mutex_lock(&store->mutex);
    if (plan.puts_chunks && store->dim == 0) store->dim = plan.dim;
    mly_mutex_unlock(&store->mutex);
    if (chunks->manifest == NULL || documents->manifest == NULL) {
        mly_store_write_json(store);
    }
done:
    mly_store_view_release(documents);
    mly_store_view_release(chunks);
    return rc;
}

enum mly_err mly_store_commit(struct mly_store *store, const struct mly_change *changes,
                              size_t change_count, enum mly_durability durability,
                              struct mly_error *err)
{
    (void)durability;
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = MLY_OK;
    if (!store->locked) {
        rc = mly_fail(err, MLY_ERR_INTERNAL, "store %s: commit outside of begin and end",
                      store->path);
    }
    if (rc == MLY_OK) rc = mly_store_renew(store, err);
    bool split = rc == MLY_OK && !mly_store_is_whole(store);
    /* Other threads read what was there before until the commit is whole. */
    store->committing = rc == MLY_OK;
    mly_mutex_unlock(&store->mutex);
    /* An earlier commit between this begin and end failed half way. */
    if (rc == MLY_OK && split) rc = mly_store_mend(store, err);
    if (rc == MLY_OK && change_count > 0) rc = commit_all(store, changes, change_count, err);
    mly_mutex_lock(&store->mutex);
    store->committing = false;
    mly_mutex_unlock(&store->mutex);
    return rc;
}
