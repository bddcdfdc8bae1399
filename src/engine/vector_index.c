/* The vector index through the engine: making it, asking about it, and searching for many vectors.
 *
 * In: a kernel. Out: segments below the store's folder; hits. */
#include "engine/engine_int.h"

#include "engine/report.h"
#include "os/clock.h"
#include "os/pool.h"

#include <stdio.h>
#include <string.h>

#define THOUSANDTHS 1000

/* ---- making ---- */

struct telling {
    const memalloy_kernel *kernel;
    const struct memalloy_index_options *options;
    double start_s;
    double from, to; /* what is made now is this part of all */
};

static enum mly_err tell(void *context, double done, struct mly_error *err)
{
    const struct telling *telling = context;
    if (telling->options->progress == NULL) return MLY_OK;
    double elapsed_s = mly_clock_seconds(telling->kernel->env) - telling->start_s;
    done = telling->from + (telling->to - telling->from) * done;
    const struct memalloy_progress progress = {
        .struct_bytes = sizeof(progress),
        .stage = MEMALLOY_STAGE_VECTORS,
        .elapsed_s = elapsed_s,
        .remaining_s = done > 0.01 ? elapsed_s / done * (1 - done) : -1,
        .items_done = (uint64_t)(done * THOUSANDTHS),
        .items_total = THOUSANDTHS,
    };
    if (telling->options->progress(telling->options->progress_context, &progress) == 0) {
        return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_CANCELLED, "cancelled while the vector index was made");
}

/* Of both, where both are asked for: about what each takes. */
#define LANCE_FROM 0.5

static enum mly_err make_lance(memalloy_kernel *kernel, struct mly_pool *pool,
                               struct telling *telling, bool *made, struct mly_error *err)
{
    bool own = false;
    telling->from = LANCE_FROM;
    telling->to = 1;
    enum mly_err rc = mly_store_make_lance_index(kernel->store, pool, telling->options->check != 0,
                                                 tell, telling, &own, err);
    *made = *made || own;
    return rc;
}

enum mly_err mly_engine_make_index(memalloy_kernel *kernel,
                                   const struct memalloy_index_options *options, bool *made,
                                   struct mly_error *err)
{
    struct memalloy_index_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_index_options", err));
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    struct telling telling = {kernel, &local, mly_clock_seconds(kernel->env), 0,
                              local.lance ? LANCE_FROM : 1};
    struct mly_pool *pool = NULL;
    enum mly_err rc = mly_pool_create(kernel->env, kernel->threads, &pool, err);
    /* Rows of the log are no part of a data file yet. */
    if (rc == MLY_OK) rc = mly_store_checkpoint(kernel->store, err);
    if (rc == MLY_OK && local.check) rc = mly_store_check_index(kernel->store, err);
    if (rc == MLY_OK) rc = mly_store_make_index(kernel->store, pool, tell, &telling, made, err);
    if (rc == MLY_OK && local.lance) rc = make_lance(kernel, pool, &telling, made, err);
    if (pool != NULL) mly_pool_destroy(pool);
    mly_kernel_leave(kernel);
    return rc;
}

enum mly_err mly_engine_get_index_status(memalloy_kernel *kernel, struct memalloy_index_status *out,
                                         struct mly_error *err)
{
    struct mly_store_index_state state;
    struct mly_store_lance_index lance = {.is_there = false};
    MLY_TRY(mly_kernel_enter(kernel, err));
    enum mly_err rc = mly_store_get_index_state(kernel->store, &state, err);
    if (rc == MLY_OK) rc = mly_store_get_lance_index(kernel->store, &lance, err);
    mly_kernel_leave(kernel);
    if (rc != MLY_OK) return rc;
    const struct mly_vindex_level *level =
        &state.guard.levels[mly_vindex_guard_level(&state.guard, (float)kernel->recall)];
    const struct memalloy_index_status status = {
        .struct_bytes = sizeof(status),
        .rows = state.rows,
        .pending = state.is_due ? state.pending : 0,
        .cells = state.cells,
        .index_bytes = state.segment_bytes,
        .record_bytes = state.record_bytes,
        .is_due = state.is_due,
        .is_running = state.is_running,
        .done = state.is_running ? state.done : 0,
        .recall = kernel->recall,
        .has_lance = lance.is_there,
        .lance_rows = lance.rows,
        .lance_pending = lance.is_there ? lance.pending : 0,
        .lance_bytes = lance.bytes,
        .measured_recall = (double)level->measured,
        .samples = state.guard.samples,
        .effort_steps = level->step,
    };
    mly_options_give(out, &status, sizeof(status));
    return MLY_OK;
}

/* ---- many vectors ---- */

/* What a search for some of them may take where somebody watches, and how few they may be: they
 * share what they read, and threads. */
#define WATCHED_SEARCH_S 0.04
#define WATCHED_VECTORS_MIN ((size_t)8)

static enum mly_err make_units(const float *vectors, size_t count, size_t dim, float *units,
                               struct mly_error *err)
{
    for (size_t i = 0; i < count; i++) {
        char what[48];
        (void)snprintf(what, sizeof(what), "vector %zu", i);
        MLY_TRY(mly_unit_vector(vectors + i * dim, dim, what, units + i * dim, err));
    }
    return MLY_OK;
}

struct found {
    struct mly_match **matches; /* [count] */
    size_t *counts;
    memalloy_hits **hits;
};

static void free_found(struct mly_mem *mem, struct found *found, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (found->matches != NULL) mly_mem_free(mem, found->matches[i]);
        if (found->hits != NULL) memalloy_hits_destroy(found->hits[i]);
    }
    mly_mem_free(mem, found->matches);
    mly_mem_free(mem, found->counts);
    mly_mem_free(mem, found->hits);
}

static void add_stats(struct mly_search_stats *sum, const struct mly_search_stats *more)
{
    const struct mly_vindex_stats *index = &more->index;
    sum->index.cell_count = index->cell_count;
    sum->index.cells_read += index->cells_read;
    sum->index.codes_read += index->codes_read;
    sum->index.records_read += index->records_read;
    sum->index.vectors_read += index->vectors_read;
    sum->index.bytes_read += index->bytes_read;
    sum->index.rank_seconds += index->rank_seconds;
    sum->index.scan_seconds += index->scan_seconds;
    sum->index.record_seconds += index->record_seconds;
    sum->index.vector_seconds += index->vector_seconds;
    sum->scanned_rows += more->scanned_rows;
    sum->scan_seconds += more->scan_seconds;
    sum->index_was_damaged = sum->index_was_damaged || more->index_was_damaged;
}

/* Of those that a search of so many seconds had, how many make one that somebody who watches can
 * wait for. */
static size_t fit_vectors(size_t count, double seconds)
{
    const double fit = seconds > 0.0 ? (double)count / seconds * WATCHED_SEARCH_S : 1e9;
    if (fit < (double)WATCHED_VECTORS_MIN) return WATCHED_VECTORS_MIN;
    return fit < 1e9 ? (size_t)fit : (size_t)1000000000;
}

/* All at once, or, where somebody watches, some after the other. */
static enum mly_err match(memalloy_kernel *kernel, struct mly_snapshot *snapshot,
                          struct mly_pool *pool, const struct mly_search_ask *ask,
                          const float *units, size_t count, struct mly_watcher *watcher,
                          struct found *found, struct mly_search_stats *stats,
                          struct mly_error *err)
{
    size_t batch = watcher->fn == NULL ? count : WATCHED_VECTORS_MIN;
    for (size_t i = 0; i < count;) {
        struct mly_search_stats own;
        const size_t now = count - i < batch ? count - i : batch;
        const double start = mly_clock_seconds(kernel->env);
        MLY_TRY(mly_search_many(kernel->searcher, pool, snapshot, kernel->kern, ask,
                                units + i * ask->dim, now, found->matches + i, found->counts + i,
                                &own, err));
        add_stats(stats, &own);
        i += now;
        watcher->progress.items_done = i;
        MLY_TRY(mly_watcher_tell(watcher, false, err));
        batch = fit_vectors(now, mly_clock_seconds(kernel->env) - start);
    }
    return MLY_OK;
}

static enum mly_err find(memalloy_kernel *kernel, struct mly_snapshot *snapshot, const float *units,
                         size_t count, size_t dim, const struct mly_asked *asked,
                         struct found *found, struct mly_error *err)
{
    struct mly_mem *mem = kernel->env->mem;
    struct mly_search_stats stats = {0};
    struct mly_watcher watcher;
    struct mly_pool *pool = NULL;
    struct mly_selection *selection;
    found->matches = mly_mem_array(mem, count, sizeof(found->matches[0]));
    found->counts = mly_mem_array(mem, count, sizeof(found->counts[0]));
    found->hits = mly_mem_array(mem, count, sizeof(found->hits[0]));
    if (found->matches == NULL || found->counts == NULL || found->hits == NULL) {
        return mly_fail_nomem(err, count * sizeof(found->hits[0]));
    }
    mly_watcher_init(&watcher, kernel->env, asked->progress, asked->progress_context);
    watcher.progress.items_total = count;
    MLY_TRY(mly_engine_select(kernel, snapshot, asked, &selection, err));
    const struct mly_search_ask ask = {.dim = dim,
                                       .k = asked->top_k,
                                       .recall = asked->recall,
                                       .selection = selection,
                                       .pulse = watcher.fn == NULL ? NULL : mly_watcher_pulse,
                                       .pulse_context = &watcher};
    enum mly_err rc = mly_pool_create(kernel->env, kernel->threads, &pool, err);
    if (rc == MLY_OK) {
        mly_pool_set_urgent(pool, true);
        rc = match(kernel, snapshot, pool, &ask, units, count, &watcher, found, &stats, err);
        mly_pool_destroy(pool);
    }
    mly_selection_destroy(selection);
    if (rc != MLY_OK) return rc;
    mly_engine_explain(asked, &stats);
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(mly_engine_make_hits(kernel, snapshot, found->matches[i], found->counts[i],
                                     &found->hits[i], err));
        MLY_TRY(mly_watcher_tell(&watcher, false, err));
    }
    return MLY_OK;
}

enum mly_err mly_engine_search_vectors(memalloy_kernel *kernel, const float *vectors, size_t count,
                                       size_t dim, const struct memalloy_search_options *options,
                                       memalloy_hits **out, struct mly_error *err)
{
    struct mly_asked asked;
    MLY_TRY(mly_engine_take_ask(kernel, options, &asked, err));
    if (dim == 0 || dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, they must have 1 to %zu",
                        dim, (size_t)MLY_DIM_MAX);
    }
    if (count == 0) return MLY_OK;
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_mem *mem = kernel->env->mem;
    struct mly_snapshot *snapshot = NULL;
    struct found found = {NULL, NULL, NULL};
    size_t numbers;
    float *units =
        mly_size_mul(count, dim, &numbers) ? mly_mem_array(mem, numbers, sizeof(float)) : NULL;
    enum mly_err rc = units == NULL ? mly_fail_nomem(err, SIZE_MAX) : MLY_OK;
    if (rc == MLY_OK) rc = make_units(vectors, count, dim, units, err);
    if (rc == MLY_OK) rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc == MLY_OK) rc = mly_engine_check_dim(snapshot, dim, err);
    if (rc == MLY_OK) rc = find(kernel, snapshot, units, count, dim, &asked, &found, err);
    for (size_t i = 0; rc == MLY_OK && i < count; i++) {
        out[i] = found.hits[i];
        found.hits[i] = NULL;
    }
    free_found(mem, &found, count);
    mly_mem_free(mem, units);
    if (snapshot != NULL) mly_snapshot_release(snapshot);
    mly_kernel_leave(kernel);
    return rc;
}
