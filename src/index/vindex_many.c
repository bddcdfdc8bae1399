/* Many searches at once: each thread has a room and takes one query after the other. */
#include "index/vindex_room.h"

#include <string.h>

struct batch {
    const struct mly_vindex_source *sources;
    size_t source_count;
    const struct mly_vindex_ask *ask;
    const float *queries;
    struct mly_match *out;
    size_t *counts;
    struct worker *workers;
};

struct worker {
    struct mly_vindex_room *room;
    struct mly_vindex_stats stats;
    enum mly_err rc;
    struct mly_error err;
};

static void add_stats(struct mly_vindex_stats *to, const struct mly_vindex_stats *from)
{
    to->cell_count = from->cell_count > to->cell_count ? from->cell_count : to->cell_count;
    to->cells_read += from->cells_read;
    to->codes_read += from->codes_read;
    to->records_read += from->records_read;
    to->vectors_read += from->vectors_read;
    to->bytes_read += from->bytes_read;
    to->rank_seconds += from->rank_seconds;
    to->scan_seconds += from->scan_seconds;
    to->record_seconds += from->record_seconds;
    to->vector_seconds += from->vector_seconds;
}

static void search_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct batch *batch = context;
    struct worker *worker = &batch->workers[worker_i];
    struct mly_vindex_ask ask = *batch->ask;
    struct mly_vindex_stats stats;
    const struct mly_match *matches;
    size_t count;
    batch->counts[part_i] = 0;
    if (worker->rc != MLY_OK) return;
    ask.query = batch->queries + part_i * ask.dim;
    worker->rc = mly_vindex_search(worker->room, batch->sources, batch->source_count, &ask,
                                   &matches, &count, &stats, &worker->err);
    if (worker->rc != MLY_OK) return;
    if (count > 0) memcpy(batch->out + part_i * ask.k, matches, count * sizeof(matches[0]));
    batch->counts[part_i] = count;
    add_stats(&worker->stats, &stats);
}

enum mly_err mly_vindex_search_many(const struct mly_env *env, struct mly_pool *pool,
                                    const struct mly_vindex_source *sources, size_t source_count,
                                    const struct mly_vindex_ask *ask, const float *queries,
                                    size_t query_count, struct mly_match *out, size_t *counts,
                                    struct mly_vindex_stats *stats, struct mly_error *err)
{
    size_t worker_count = pool == NULL ? 1 : mly_pool_thread_count(pool);
    struct batch batch = {sources, source_count, ask, queries, out, counts, NULL};
    enum mly_err rc = MLY_OK;
    batch.workers = mly_mem_array(env->mem, worker_count, sizeof(batch.workers[0]));
    if (batch.workers == NULL) return mly_fail_nomem(err, worker_count * sizeof(struct worker));
    for (size_t i = 0; i < worker_count && rc == MLY_OK; i++)
        rc = mly_vindex_room_create(env, &batch.workers[i].room, err);
    if (rc != MLY_OK) goto done;
    if (pool != NULL) {
        mly_pool_run(pool, query_count, search_part, &batch);
    } else {
        for (size_t i = 0; i < query_count; i++)
            search_part(&batch, i, 0);
    }
    if (stats != NULL) *stats = (struct mly_vindex_stats){0};
    for (size_t i = 0; i < worker_count; i++) {
        if (stats != NULL) add_stats(stats, &batch.workers[i].stats);
        if (batch.workers[i].rc == MLY_OK || rc != MLY_OK) continue;
        rc = batch.workers[i].rc;
        if (err != NULL) *err = batch.workers[i].err;
    }
done:
    for (size_t i = 0; i < worker_count; i++)
        mly_vindex_room_destroy(batch.workers[i].room);
    mly_mem_free(env->mem, batch.workers);
    return rc;
}
