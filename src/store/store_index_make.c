/* Making segments: what is due, the vectors for it, and what may go afterwards.
 *
 * In: the newest snapshot. Out: one segment that covers its data files, and no other. Dead rows are
 * put in like others: an older snapshot may still see them, and who searches passes over those that
 * are dead for it. */
#include "store/store_index_int.h"

#include "base/limits.h"

#include <stdio.h>

/* A segment is written anew when so much is outside of it, or gone from it. */
#define PENDING_PARTS ((uint64_t)16)
#define GONE_PARTS ((uint64_t)4)
struct making {
    struct mly_store *store;
    struct mly_snapshot *snapshot;
    const struct mly_store_view *view;
    struct mly_store_vectors vectors;
    struct mly_vindex_file *files; /* of the parts of vectors, in their order */
    size_t file_count;
    uint64_t row_count; /* of the files */
    mly_vindex_pulse_fn pulse;
    void *pulse_context;
};

/* ---- what is due ---- */

struct balance {
    uint64_t covered, pending, gone; /* rows: in segments, outside, of data files that are gone */
    size_t segments, segments_in_use;
    bool is_measured;
};

static enum mly_err weigh(struct mly_snapshot *snapshot, struct balance *out, struct mly_error *err)
{
    const struct mly_store_view *view = snapshot->views[MLY_STORE_CHUNKS];
    struct mly_snapshot_index *index = NULL;
    *out = (struct balance){0};
    MLY_TRY(mly_snapshot_open_index(snapshot, &index, err));
    for (size_t i = 0; i < view->part_count; i++) {
        struct mly_str name;
        if (!mly_store_index_covers(view, &view->parts[i], &name)) continue;
        bool is_covered = index != NULL && index->covers_part[i];
        *(is_covered ? &out->covered : &out->pending) += view->parts[i].row_count;
    }
    for (size_t i = 0; index != NULL && i < index->source_count; i++) {
        struct mly_vindex_info info;
        mly_vindex_get_info(index->sources[i].segment, &info);
        out->gone += info.row_count;
    }
    out->gone -= out->covered;
    out->segments_in_use = index == NULL ? 0 : index->source_count;
    out->is_measured = mly_store_index_is_measured(snapshot, index);
    mly_snapshot_close_index(index);
    mly_mutex_lock(&snapshot->store->mutex);
    out->segments = snapshot->store->index->count;
    mly_mutex_unlock(&snapshot->store->mutex);
    return MLY_OK;
}

static bool is_due(const struct mly_store *store, const struct balance *balance)
{
    uint64_t rows = balance->covered + balance->pending;
    if (rows < store->index->rows_min) return balance->segments > 0;
    return balance->segments != 1 || balance->segments_in_use != 1 ||
           balance->pending > balance->covered / PENDING_PARTS ||
           balance->gone > balance->covered / GONE_PARTS;
}

enum mly_err mly_store_get_index_state(struct mly_store *store, struct mly_store_index_state *out,
                                       struct mly_error *err)
{
    struct mly_snapshot *snapshot = NULL;
    struct balance balance;
    *out = (struct mly_store_index_state){0};
    if (store->index == NULL) return MLY_OK;
    MLY_TRY(mly_store_pin(store, &snapshot, err));
    enum mly_err rc = weigh(snapshot, &balance, err);
    mly_snapshot_release(snapshot);
    if (rc != MLY_OK) return rc;
    out->rows = balance.covered;
    out->pending = balance.pending;
    out->is_due = is_due(store, &balance);
    out->is_measured = balance.is_measured;
    mly_mutex_lock(&store->mutex);
    for (size_t i = 0; i < store->index->count; i++) {
        struct mly_vindex_info info;
        mly_vindex_get_info(store->index->segments[i]->vindex, &info);
        out->segments++;
        out->cells += info.cell_count;
        out->segment_bytes += info.segment_bytes;
        out->record_bytes += info.record_bytes;
        if (i == 0) mly_vindex_get_guard(store->index->segments[i]->vindex, &out->guard);
    }
    mly_mutex_unlock(&store->mutex);
    mly_mutex_lock(&store->index->task_mutex);
    out->is_running = store->index->running;
    mly_mutex_unlock(&store->index->task_mutex);
    out->done = atomic_load(&store->index->done);
    return MLY_OK;
}

/* ---- making ---- */

static enum mly_err list_files(struct making *making, struct mly_error *err)
{
    const struct mly_store_view *view = making->view;
    struct mly_mem *mem = making->store->mem;
    MLY_TRY(mly_store_vectors_init(&making->vectors, making->store, view, err));
    making->files = mly_mem_array(mem, view->part_count + 1, sizeof(making->files[0]));
    if (making->files == NULL) {
        return mly_fail_nomem(err, view->part_count * sizeof(making->files[0]));
    }
    for (size_t i = 0; i < view->part_count; i++) {
        const struct mly_store_part *part = &view->parts[i];
        struct mly_str name;
        if (!mly_store_index_covers(view, part, &name)) continue;
        making->vectors.parts[making->file_count] = part;
        making->files[making->file_count++] =
            (struct mly_vindex_file){name, (uint32_t)part->row_count};
        making->row_count += part->row_count;
    }
    return MLY_OK;
}

static enum mly_err beat(void *context, double done, struct mly_error *err)
{
    struct making *making = context;
    atomic_store(&making->store->index->done, done);
    return making->pulse == NULL ? MLY_OK : making->pulse(making->pulse_context, done, err);
}

/* The old segments, when the new one is there, and records of data files that are gone. */
static void clean(struct mly_store *store, const struct making *making, const char *keep)
{
    mly_mutex_lock(&store->mutex);
    mly_store_index_refresh(store);
    for (size_t i = store->index->count; i-- > 0;) {
        struct mly_store_segment *segment = store->index->segments[i];
        if (strcmp(segment->name, keep) != 0) mly_store_index_remove(store, segment);
    }
    mly_mutex_unlock(&store->mutex);
    mly_vindex_clean(store->env, store->index->folder, keep[0] == '\0' ? NULL : keep, making->files,
                     making->file_count);
}

/* The open segments, for fold; they stay open, as only we remove them now. */
static enum mly_err hold_segments(struct mly_store *store, struct mly_store_segment ***out,
                                  size_t *count, struct mly_error *err)
{
    struct mly_store_index *index = store->index;
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&store->mutex);
    *count = index->count;
    *out = mly_mem_array(store->mem, index->count + 1, sizeof((*out)[0]));
    if (*out == NULL) rc = mly_fail_nomem(err, index->count * sizeof((*out)[0]));
    for (size_t i = 0; rc == MLY_OK && i < index->count; i++)
        (*out)[i] = mly_store_segment_retain(index->segments[i]);
    mly_mutex_unlock(&store->mutex);
    return rc;
}

/* A segment that grew to twice its size gets new cells: then that was due anyway. */
static bool may_fold(struct mly_store_segment *const *segments, size_t count, uint64_t rows,
                     size_t dim)
{
    for (size_t i = 0; i < count; i++) {
        struct mly_vindex_info info;
        mly_vindex_get_info(segments[i]->vindex, &info);
        if (info.metric != MLY_VINDEX_COSINE || info.dim != dim) return false;
    }
    return count > 0 && rows / 2 <= segments[0]->vector_count;
}

static enum mly_err fold(const struct making *making, const struct mly_vindex_maker *maker,
                         char name[MLY_VINDEX_SEGMENT_NAME_BYTES], bool *folded,
                         struct mly_error *err)
{
    struct mly_store *store = making->store;
    struct mly_store_segment **segments = NULL;
    struct mly_vindex **open = NULL;
    size_t count = 0;
    *folded = false;
    enum mly_err rc = hold_segments(store, &segments, &count, err);
    if (rc == MLY_OK && may_fold(segments, count, making->row_count, maker->dim)) {
        open = mly_mem_array(store->mem, count, sizeof(open[0]));
        if (open == NULL) rc = mly_fail_nomem(err, count * sizeof(open[0]));
        for (size_t i = 0; rc == MLY_OK && i < count; i++)
            open[i] = segments[i]->vindex;
        const struct mly_vindex_fold what = {.segments = open,
                                             .segment_count = count,
                                             .files = making->files,
                                             .file_count = making->file_count};
        if (rc == MLY_OK) rc = mly_vindex_fold(maker, &what, name, err);
        *folded = rc == MLY_OK;
        if (rc == MLY_ERR_CORRUPT) rc = MLY_OK; /* a new one is made of the vectors alone */
    }
    for (size_t i = 0; segments != NULL && i < count; i++)
        mly_store_segment_release(segments[i]);
    mly_mem_free(store->mem, open);
    mly_mem_free(store->mem, segments);
    return rc;
}

enum mly_err mly_store_check_index(struct mly_store *store, struct mly_error *err)
{
    struct mly_store_segment **segments = NULL;
    size_t count = 0;
    if (store->index == NULL) return MLY_OK;
    mly_mutex_lock(&store->mutex);
    mly_store_index_refresh(store);
    mly_mutex_unlock(&store->mutex);
    MLY_TRY(hold_segments(store, &segments, &count, err));
    for (size_t i = 0; i < count; i++) {
        if (mly_vindex_verify(segments[i]->vindex, NULL) != MLY_OK) {
            mly_mutex_lock(&store->mutex);
            mly_store_index_remove(store, segments[i]);
            mly_mutex_unlock(&store->mutex);
        }
        mly_store_segment_release(segments[i]);
    }
    mly_mem_free(store->mem, segments);
    return MLY_OK;
}

static enum mly_err make(struct making *making, struct mly_pool *pool, struct mly_error *err)
{
    struct mly_store *store = making->store;
    char name[MLY_VINDEX_SEGMENT_NAME_BYTES] = "";
    MLY_TRY(list_files(making, err));
    if (making->row_count >= store->index->rows_min) {
        const struct mly_vindex_maker maker = {
            .env = store->env,
            .kern = store->index->kern,
            .pool = pool,
            .folder = store->index->folder,
            .metric = MLY_VINDEX_COSINE,
            .dim = making->view->dim,
            .rows = mly_store_vectors_give,
            .rows_context = &making->vectors,
            .pulse = beat,
            .pulse_context = making,
        };
        bool folded;
        MLY_TRY(fold(making, &maker, name, &folded, err));
        if (!folded) {
            MLY_TRY(mly_vindex_build(&maker, making->files, making->file_count, name, err));
        }
    } else {
        making->file_count = 0; /* nothing stays */
    }
    clean(store, making, name);
    return MLY_OK;
}

/* Who waits asks its pulse. */
static enum mly_err ask(void *context, struct mly_error *err)
{
    const struct making *making = context;
    return making->pulse == NULL ? MLY_OK : making->pulse(making->pulse_context, 0, err);
}

/* One thread of one process makes at a time. *taken false: another is at it, and is not waited
 * for. */
static enum mly_err take_lock(struct making *making, bool wait, struct mly_lock_file *lock,
                              bool *taken, struct mly_error *err)
{
    struct mly_store *store = making->store;
    char path[MLY_PATH_BYTES_MAX];
    *taken = false;
    int bytes = snprintf(path, sizeof(path), "%s/lock", store->index->folder);
    if (bytes < 0 || (size_t)bytes >= sizeof(path)) {
        return mly_fail(err, MLY_ERR_LIMIT, "path of %d bytes, limit is %zu", bytes,
                        sizeof(path) - 1);
    }
    MLY_TRY(mly_dir_make_all(store->env, store->index->folder, err));
    MLY_TRY(mly_lock_file_open(store->env, path, lock, err));
    enum mly_err rc = mly_lock_take_pulsed(&lock->file, 0, wait ? UINT32_MAX : 0, ask, making, err);
    *taken = rc == MLY_OK;
    return rc == MLY_ERR_BUSY && !wait ? MLY_OK : rc;
}

enum mly_err mly_store_index_lock(struct mly_store *store, bool wait, mly_vindex_pulse_fn pulse,
                                  void *context, struct mly_lock_file *lock, bool *taken,
                                  struct mly_error *err)
{
    struct making making = {.store = store, .pulse = pulse, .pulse_context = context};
    return take_lock(&making, wait, lock, taken, err);
}

static enum mly_err make_if_due(struct making *making, struct mly_pool *pool, bool wait, bool *made,
                                struct mly_error *err)
{
    struct mly_store *store = making->store;
    struct balance balance;
    struct mly_lock_file lock = MLY_LOCK_FILE_CLOSED;
    MLY_TRY(weigh(making->snapshot, &balance, err));
    if (!is_due(store, &balance) && balance.is_measured) return MLY_OK;
    bool taken;
    enum mly_err rc = take_lock(making, wait, &lock, &taken, err);
    /* Somebody else may have made it while we came here. */
    if (rc == MLY_OK && taken) rc = weigh(making->snapshot, &balance, err);
    if (rc == MLY_OK && taken && is_due(store, &balance)) {
        atomic_store(&store->index->done, 0.0);
        rc = make(making, pool, err);
        *made = rc == MLY_OK;
    }
    /* Where that fails it is done another time; until then the tables are believed. */
    if (rc == MLY_OK && taken) {
        enum mly_err untold = mly_store_index_measure(making->snapshot, beat, making, NULL);
        (void)untold;
    }
    mly_lock_file_close(&lock);
    return rc;
}

enum mly_err mly_store_index_make(struct mly_store *store, struct mly_pool *pool, bool wait,
                                  mly_vindex_pulse_fn pulse, void *context, bool *made,
                                  struct mly_error *err)
{
    struct making making = {.store = store, .pulse = pulse, .pulse_context = context};
    *made = false;
    MLY_TRY(mly_store_pin(store, &making.snapshot, err));
    making.view = making.snapshot->views[MLY_STORE_CHUNKS];
    enum mly_err rc = MLY_OK;
    if (making.view->dim >= MLY_VINDEX_DIM_MIN && making.view->dim <= MLY_VINDEX_DIM_MAX) {
        rc = make_if_due(&making, pool, wait, made, err);
    }
    mly_store_vectors_deinit(&making.vectors);
    mly_mem_free(store->mem, making.files);
    mly_snapshot_release(making.snapshot);
    return rc;
}

enum mly_err mly_store_make_index(struct mly_store *store, struct mly_pool *pool,
                                  mly_vindex_pulse_fn pulse, void *context, bool *made,
                                  struct mly_error *err)
{
    *made = false;
    if (store->index == NULL) return MLY_OK;
    if (store->read_only) {
        return mly_fail(err, MLY_ERR_READONLY, "store %s is open for reading only", store->path);
    }
    /* The store's own thread makes room: this one has the pool. */
    atomic_fetch_add(&store->index->callers, 1);
    enum mly_err rc = mly_store_index_make(store, pool, true, pulse, context, made, err);
    atomic_fetch_sub(&store->index->callers, 1);
    return rc;
}
