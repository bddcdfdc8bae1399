/* Checkpoints: what the log has goes into the tables, where other programs see it.
 *
 * In: the newest snapshot. Out: one version more of each table, in which the tail's live rows are a
 * fragment and replaced rows are dead; then the log up to there is not needed any more. Small
 * fragments of ours are merged into the new one, so that a thousand runs of the command leave a
 * handful of files. The chunks come first; each table's memalloy.lsn says what it has, so that a
 * crash between the two is nothing that needs mending. */
#include "store/store_index_int.h"

#include "base/limits.h"

/* Lost races against other programs before giving up; the last ones merge nothing. */
#define CHECKPOINT_TRIES 20
#define MERGING_TRIES 10
#define TAIL_BYTES_MAX ((uint64_t)8 << 20)
/* Of records that the tables have: a segment with more is left. */
#define LOG_BYTES_KEPT ((uint64_t)1 << 20)
/* The newest, and the one to fall back on. */
#define VERSIONS_KEPT 2
/* Fragments of fewer rows than that are merged where there are more of them than that, but none
 * with more bytes than that: what was loaded in one go is not worth writing twice. */
#define MERGE_BYTES_MAX ((uint64_t)32 << 20)
static const struct {
    uint64_t rows;
    size_t count;
} MERGE_LEVELS[] = {{4096, 3}, {65536, 15}};

/* ---- what is written ---- */

/* One table's part of a checkpoint. */
struct round {
    struct mly_store *store;
    struct mly_store_view *view; /* with the tail */
    struct mly_store_view *base;
    bool *chosen; /* parts whose live rows are written anew */
    struct mly_lance_deletion_change *changes;
    struct mly_lance_deletions *whole; /* sets of all rows, of merged parts */
    size_t change_count, whole_count;
    struct mly_lance_data_file *files; /* loads as they are, and what is written; not owned */
    size_t file_count;
    uint64_t live_rows; /* of the chosen parts */
};

static uint64_t live_rows(const struct mly_store_part *part)
{
    return part->row_count - (part->dead == NULL ? 0 : part->dead->set.deleted_count);
}

/* Is part part_i one of ours, and small enough? Bytes of dead rows do not count. */
static bool is_small(const struct mly_store_view *view, size_t part_i, uint64_t below)
{
    const struct mly_store_part *part = &view->parts[part_i];
    uint64_t rows = live_rows(part);
    uint64_t bytes = part->fragment->file_bytes / (part->row_count + 1) * rows;
    return rows < below && bytes < MERGE_BYTES_MAX &&
           mly_lance_manifest_is_our_fragment(view->manifest, part_i);
}

/* Only what we wrote into a table that has no columns of others: theirs would be lost. */
static bool may_merge(const struct mly_store_view *view)
{
    size_t column_count;
    (void)mly_store_columns(view->table->kind, &column_count);
    size_t ours = 0;
    for (size_t i = 0; i < column_count; i++)
        ours += view->fields[i] != MLY_LANCE_NO_FIELD;
    return view->manifest != NULL && ours == mly_lance_manifest_field_count(view->manifest);
}

static void choose_parts(struct round *round, bool merging)
{
    const struct mly_store_view *view = round->view;
    for (size_t i = view->base_count; i < view->part_count; i++) {
        const struct mly_store_part *part = &view->parts[i];
        if (part->fragment->slab == NULL && part->dead == NULL) {
            round->files[round->file_count++] = *part->fragment->file;
            continue;
        }
        round->chosen[i] = live_rows(part) > 0;
        round->live_rows += live_rows(part);
    }
    if (!merging || !may_merge(view)) return;
    for (size_t level = 0; level < sizeof(MERGE_LEVELS) / sizeof(MERGE_LEVELS[0]); level++) {
        const uint64_t below = MERGE_LEVELS[level].rows;
        size_t count = round->live_rows > 0 && round->live_rows < below;
        for (size_t i = 0; i < view->base_count; i++) {
            count += !round->chosen[i] && is_small(view, i, below);
        }
        if (count <= MERGE_LEVELS[level].count) continue;
        for (size_t i = 0; i < view->base_count; i++) {
            if (round->chosen[i] || !is_small(view, i, below)) continue;
            round->chosen[i] = true;
            round->live_rows += live_rows(&view->parts[i]);
        }
    }
}

/* Merged parts go as a whole, others have what died since. */
static enum mly_err list_deletions(struct round *round, struct mly_error *err)
{
    const struct mly_store_view *view = round->view;
    for (size_t i = 0; i < view->base_count; i++) {
        const struct mly_store_part *part = &view->parts[i];
        const struct mly_lance_deletions *set = NULL;
        if (round->chosen[i]) {
            struct mly_lance_deletions *whole = &round->whole[round->whole_count];
            mly_lance_deletions_init(whole, round->store->mem, part->row_count);
            round->whole_count++;
            for (uint64_t row = 0; row < part->row_count; row++) {
                MLY_TRY(mly_lance_deletions_add(whole, row, err));
            }
            set = whole;
        } else if (part->dead != round->base->parts[i].dead) {
            set = &part->dead->set;
        }
        if (set == NULL) continue;
        round->changes[round->change_count++] =
            (struct mly_lance_deletion_change){part->fragment->id, set};
    }
    return MLY_OK;
}

static enum mly_err begin_round(struct round *round, bool merging, struct mly_error *err)
{
    struct mly_mem *mem = round->store->mem;
    size_t count = round->view->part_count + 1;
    round->chosen = mly_mem_array(mem, count, sizeof(round->chosen[0]));
    round->changes = mly_mem_array(mem, count, sizeof(round->changes[0]));
    round->whole = mly_mem_array(mem, count, sizeof(round->whole[0]));
    round->files = mly_mem_array(mem, count, sizeof(round->files[0]));
    if (round->chosen == NULL || round->changes == NULL || round->whole == NULL ||
        round->files == NULL) {
        return mly_fail_nomem(err, count * sizeof(round->whole[0]));
    }
    choose_parts(round, merging);
    return list_deletions(round, err);
}

static void end_round(struct round *round)
{
    struct mly_mem *mem = round->store->mem;
    for (size_t i = 0; i < round->whole_count; i++)
        mly_lance_deletions_deinit(&round->whole[i]);
    mly_mem_free(mem, round->chosen);
    mly_mem_free(mem, round->changes);
    mly_mem_free(mem, round->whole);
    mly_mem_free(mem, round->files);
}

static enum mly_err commit_round(struct round *round, uint64_t lsn, bool *visible,
                                 struct mly_error *err)
{
    struct mly_lance_data_file file = {0};
    uint64_t row_count = 0;
    const struct mly_lance_table *lance = round->view->table->lance;
    enum mly_err rc = MLY_OK;
    if (round->live_rows > 0) {
        rc = mly_store_write_parts(round->view, round->chosen, &file, &row_count, err);
        if (rc != MLY_OK) goto done;
    }
    if (row_count > 0) round->files[round->file_count++] = file;
    struct mly_lance_change change = {
        .files = round->files,
        .file_count = round->file_count,
        .deletions = round->changes,
        .deletion_count = round->change_count,
    };
    rc = mly_store_commit_table(round->store, round->base, &change, lsn, round->view->dim, visible,
                                err);
    if (rc != MLY_OK && row_count > 0 && !*visible) mly_lance_data_file_discard(lance, &file);
done:
    mly_lance_data_file_deinit(&file);
    return rc;
}

/* ---- one table ---- */

/* *older: up to which record the version before has everything. */
static enum mly_err checkpoint_table(struct mly_store *store, enum mly_store_table_kind kind,
                                     uint64_t lsn, uint64_t *older, struct mly_error *err)
{
    for (int attempt = 1;; attempt++) {
        mly_mutex_lock(&store->mutex);
        enum mly_err rc = mly_store_renew(store, err);
        struct mly_store_view *view = NULL;
        if (rc == MLY_OK) view = mly_store_view_retain(store->current->views[kind]);
        mly_mutex_unlock(&store->mutex);
        if (rc != MLY_OK) return rc;
        struct mly_store_view *base = mly_store_view_base(view);
        uint64_t base_lsn = base->lsn;
        /* A table that nothing was put into is not made for its number's sake. */
        if (base->manifest == NULL || base_lsn >= lsn) {
            mly_store_view_release(view);
            return MLY_OK;
        }
        bool visible = false;
        struct round round = {.store = store, .view = view, .base = base};
        rc = begin_round(&round, attempt <= MERGING_TRIES, err);
        if (rc == MLY_OK) rc = commit_round(&round, lsn, &visible, err);
        end_round(&round);
        mly_store_view_release(view);
        if (rc == MLY_OK && base_lsn < *older) *older = base_lsn;
        if (rc != MLY_ERR_CONFLICT || attempt >= CHECKPOINT_TRIES) return rc;
    }
}

/* ---- both ---- */

/* Indices go only while nobody makes one. */
static void clean_table(struct mly_store *store, const struct mly_lance_table *lance)
{
    struct mly_lance_keep keep = {.versions = VERSIONS_KEPT};
    struct mly_lock_file lock = MLY_LOCK_FILE_CLOSED;
    bool exists = false;
    char *path = mly_store_join(store->mem, mly_lance_table_path(lance), "_indices");
    if (path != NULL && store->index != NULL &&
        mly_file_exists(store->env, MLY_AT_CWD, path, &exists, NULL) == MLY_OK && exists) {
        (void)!mly_store_index_lock(store, false, NULL, NULL, &lock, &keep.indices, NULL);
    }
    mly_mem_free(store->mem, path);
    (void)!mly_lance_clean(lance, &keep, NULL, NULL);
    mly_lock_file_close(&lock);
}

/* What is not removed now is removed the next time, and so it is with sums that are not made. */
static void clean_tables(struct mly_store *store)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        const struct mly_store_table *table = &store->tables[kind];
        clean_table(store, table->lance);
        mly_mutex_lock(&store->mutex);
        struct mly_store_view *view = mly_store_view_retain(table->newest);
        mly_mutex_unlock(&store->mutex);
        if (view->manifest != NULL) {
            (void)!mly_lance_adopt(table->lance, view->manifest, NULL, NULL);
        }
        mly_store_view_release(view);
    }
}

/* What the new fragments' rows are found by. */
static void make_keys(struct mly_store *store)
{
    struct mly_store_view *views[MLY_STORE_TABLES];
    mly_mutex_lock(&store->mutex);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_view *view = store->current->views[kind];
        views[kind] = mly_store_view_retain(mly_store_view_base(view));
    }
    mly_mutex_unlock(&store->mutex);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        mly_store_keys_make(views[kind]);
        mly_store_view_release(views[kind]);
    }
}

static enum mly_err checkpoint_tables(struct mly_store *store, struct mly_error *err)
{
    uint64_t lsn = store->seen_lsn;
    uint64_t older = lsn;
    /* A manifest must not have what a power cut takes out of the log. */
    if (store->log != NULL) MLY_TRY(mly_log_flush(store->log, err));
    MLY_TRY(checkpoint_table(store, MLY_STORE_CHUNKS, lsn, &older, err));
    MLY_TRY(checkpoint_table(store, MLY_STORE_DOCUMENTS, lsn, &older, err));
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = mly_store_renew(store, err);
    mly_mutex_unlock(&store->mutex);
    if (rc != MLY_OK) return rc;
    /* The manifests before the newest need the log from their number on: one of the newest that
     * cannot be read must not be the end. */
    if (store->log != NULL) MLY_TRY(mly_log_retire(store->log, older, err));
    /* Opening reads the newest segment. Failing does no harm. */
    if (store->log != NULL) (void)!mly_log_turn(store->log, LOG_BYTES_KEPT, NULL);
    /* A log that failed may have a record all the same, of a load whose files no table names. */
    if (!store->log_lost) clean_tables(store);
    make_keys(store);
    return MLY_OK;
}

enum mly_err mly_store_run_checkpoint(struct mly_store *store, struct mly_error *err)
{
    mly_mutex_lock(&store->mutex);
    enum mly_err rc = mly_store_renew(store, err);
    bool needed = rc == MLY_OK && store->record_count > 0;
    store->committing = needed;
    mly_mutex_unlock(&store->mutex);
    if (!needed) return rc;
    if (!store->log_lost) rc = mly_store_open_log(store, err);
    if (rc == MLY_OK) rc = checkpoint_tables(store, err);
    mly_mutex_lock(&store->mutex);
    store->committing = false;
    if (rc == MLY_OK) store->wrote = false;
    store->checkpoint_s = mly_clock_seconds(store->env);
    mly_mutex_unlock(&store->mutex);
    return rc;
}

enum mly_err mly_store_checkpoint_if_due(struct mly_store *store, struct mly_error *err)
{
    double now_s = mly_clock_seconds(store->env);
    mly_mutex_lock(&store->mutex);
    bool due = !store->in_memory && store->record_count > 0 &&
               (store->tail_bytes >= TAIL_BYTES_MAX ||
                now_s - store->checkpoint_s >= store->checkpoint_after_s);
    mly_mutex_unlock(&store->mutex);
    if (!due) return MLY_OK;
    return mly_store_run_checkpoint(store, err);
}
