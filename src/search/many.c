/* Many queries at once: the segments are asked for all of them together, what they lack is read
 * once for several queries by each thread.
 *
 * In: queries. Out: for each what mly_search_nearest would give. */
#include "search/search_int.h"

#include "os/clock.h"
#include "os/pool.h"

#include <stdatomic.h>
#include <string.h>

/* Queries that share what is scanned. */
#define GROUP ((size_t)16)

struct many {
    struct mly_searcher *searcher;
    struct mly_pool *pool;
    struct mly_snapshot *snapshot;
    const struct mly_kern *kern;
    const struct mly_search_ask *ask;
    const float *queries;
    size_t query_count;
    const struct mly_snapshot_index *index; /* NULL: none */
    struct mly_match *found;                /* by segments: [query_count][asked] */
    size_t *found_counts;
    size_t asked;
    struct mly_match **out;
    size_t *counts;
    struct answer *answers; /* of the groups */
    size_t group;           /* queries of one */
    _Atomic bool stopped;   /* who watches wants no more */
};

/* Of some queries, by the thread that has them. */
struct answer {
    enum mly_err rc;
    struct mly_error err;
    uint64_t scanned_rows;
    double seconds;
};

/* The pulse of the thread that called, and of the others. */
static enum mly_err ask_caller(void *context, struct mly_error *err)
{
    struct many *many = context;
    enum mly_err rc = many->ask->pulse(many->ask->pulse_context, err);
    if (rc != MLY_OK) atomic_store(&many->stopped, true);
    return rc;
}

static enum mly_err is_stopped(void *context, struct mly_error *err)
{
    const struct many *many = context;
    if (!atomic_load_explicit(&many->stopped, memory_order_relaxed)) return MLY_OK;
    return mly_fail(err, MLY_ERR_CANCELLED, "cancelled");
}

/* Begins with what the segments found. */
static enum mly_err open_scan(struct many *many, size_t query_i, uint32_t worker_i,
                              struct mly_scan **out, struct mly_error *err)
{
    struct mly_search_ask one = *many->ask;
    if (one.pulse != NULL) {
        one.pulse = worker_i == 0 ? ask_caller : is_stopped;
        one.pulse_context = many;
    }
    one.query = many->queries + query_i * one.dim;
    MLY_TRY(mly_scan_open(many->snapshot, many->kern, mly_searcher_env(many->searcher)->mem, &one,
                          out, err));
    size_t count = many->index == NULL ? 0 : many->found_counts[query_i];
    if ((*out)->heap_max == 0) count = 0;
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(mly_scan_offer(*out, many->found[query_i * many->asked + i], err));
    }
    return MLY_OK;
}

static enum mly_err scan_group(struct many *many, size_t first, size_t count, uint32_t worker_i,
                               struct answer *answer)
{
    struct mly_scan *scans[GROUP] = {NULL};
    struct mly_error *err = &answer->err;
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; rc == MLY_OK && i < count; i++)
        rc = open_scan(many, first + i, worker_i, &scans[i], err);
    if (rc == MLY_OK && scans[0]->heap_max > 0) {
        rc = mly_scan_blocks(scans, count, many->index, &answer->scanned_rows, err);
        answer->scanned_rows *= count;
    }
    for (size_t i = 0; rc == MLY_OK && i < count; i++)
        rc = mly_scan_take(scans[i], &many->out[first + i], &many->counts[first + i], err);
    for (size_t i = 0; i < count; i++)
        if (scans[i] != NULL) mly_scan_close(scans[i]);
    return rc;
}

static void answer_group(void *context, size_t group_i, uint32_t worker_i)
{
    struct many *many = context;
    struct answer *answer = &many->answers[group_i];
    const struct mly_env *env = mly_searcher_env(many->searcher);
    size_t first = group_i * many->group, count = many->query_count - first;
    double start = mly_clock_seconds(env);
    answer->rc =
        scan_group(many, first, count < many->group ? count : many->group, worker_i, answer);
    answer->seconds = mly_clock_seconds(env) - start;
}

static enum mly_err ask_segments(struct many *many, struct mly_search_stats *stats,
                                 struct mly_error *err)
{
    const struct mly_env *env = mly_searcher_env(many->searcher);
    size_t source_count;
    const struct mly_vindex_source *sources;
    MLY_TRY(mly_scan_sources(many->index, many->ask, &sources, &source_count, err));
    struct mly_store_counts counts;
    mly_snapshot_get_counts(many->snapshot, &counts);
    size_t k = counts.chunks < many->ask->k ? (size_t)counts.chunks : many->ask->k;
    many->asked = k + SEARCH_TIES;
    const struct mly_vindex_ask inner = {
        .dim = many->ask->dim,
        .k = many->asked,
        .recall = many->ask->recall,
        .recalled = k,
        .vector = mly_snapshot_get_vector,
        .vector_context = many->snapshot,
    };
    size_t cells;
    if (!mly_size_mul(many->query_count, many->asked, &cells)) {
        return mly_fail_nomem(err, SIZE_MAX);
    }
    many->found = mly_mem_array(env->mem, cells + 1, sizeof(many->found[0]));
    many->found_counts = mly_mem_array(env->mem, many->query_count + 1, sizeof(size_t));
    if (many->found == NULL || many->found_counts == NULL) {
        return mly_fail_nomem(err, cells * sizeof(many->found[0]));
    }
    return mly_vindex_search_many(env, many->pool, sources, source_count, &inner, many->queries,
                                  many->query_count, many->found, many->found_counts, &stats->index,
                                  err);
}

static enum mly_err run(struct many *many, struct mly_search_stats *stats, struct mly_error *err)
{
    struct mly_snapshot_index *index = NULL;
    enum mly_err rc = MLY_OK;
    if (many->ask->recall < 1) rc = mly_snapshot_open_index(many->snapshot, &index, err);
    many->index = index;
    if (rc == MLY_OK && index != NULL) rc = ask_segments(many, stats, err);
    if (rc == MLY_ERR_CORRUPT && index != NULL) {
        mly_snapshot_distrust_index(index);
        many->index = NULL;
        stats->index_was_damaged = true;
        rc = MLY_OK;
    }
    size_t group_count = (many->query_count + many->group - 1) / many->group;
    if (rc == MLY_OK && many->pool != NULL) {
        mly_pool_run(many->pool, group_count, answer_group, many);
    }
    for (size_t i = 0; rc == MLY_OK && i < group_count; i++) {
        struct answer *answer = &many->answers[i];
        if (many->pool == NULL) answer_group(many, i, 0);
        stats->scanned_rows += answer->scanned_rows;
        stats->scan_seconds += answer->seconds;
        rc = answer->rc;
        if (rc != MLY_OK && err != NULL) *err = answer->err;
    }
    mly_snapshot_close_index(index);
    return rc;
}

enum mly_err mly_search_many(struct mly_searcher *searcher, struct mly_pool *pool,
                             struct mly_snapshot *snapshot, const struct mly_kern *kern,
                             const struct mly_search_ask *ask, const float *queries,
                             size_t query_count, struct mly_match **out, size_t *counts,
                             struct mly_search_stats *stats, struct mly_error *err)
{
    struct mly_mem *mem = mly_searcher_env(searcher)->mem;
    struct mly_search_stats own;
    struct many many = {.searcher = searcher,
                        .pool = pool,
                        .snapshot = snapshot,
                        .kern = kern,
                        .ask = ask,
                        .queries = queries,
                        .query_count = query_count,
                        .out = out,
                        .counts = counts};
    /* Few of them are for all threads all the same. */
    size_t threads = pool == NULL ? 1 : mly_pool_thread_count(pool);
    size_t each = (query_count + threads - 1) / threads;
    many.group = each == 0 ? 1 : each < GROUP ? each : GROUP;
    if (stats == NULL) stats = &own;
    memset(stats, 0, sizeof(*stats));
    for (size_t i = 0; i < query_count; i++)
        out[i] = NULL;
    many.answers = mly_mem_array(mem, query_count + 1, sizeof(many.answers[0]));
    enum mly_err rc = MLY_OK;
    if (many.answers == NULL) rc = mly_fail_nomem(err, query_count * sizeof(many.answers[0]));
    if (rc == MLY_OK) rc = run(&many, stats, err);
    for (size_t i = 0; rc != MLY_OK && i < query_count; i++) {
        mly_mem_free(mem, out[i]);
        out[i] = NULL;
    }
    mly_mem_free(mem, many.answers);
    mly_mem_free(mem, many.found);
    mly_mem_free(mem, many.found_counts);
    return rc;
}
