/* Many searches at once: queries are taken in the order of their nearest cells, so that those that
 * follow each other on a thread find the cells that they read in the processor's cache (a tenth
 * more of them in a second among a million vectors). Each thread has a room. */
#include "index/vindex_room.h"

#include <stdlib.h>
#include <string.h>

/* Queries that a thread takes at a time, and so many that an order pays. */
#define PART ((size_t)16)
#define ORDERED_MIN ((size_t)32)

struct batch {
    const struct mly_vindex_source *sources;
    size_t source_count;
    const struct mly_vindex_ask *ask;
    const float *queries;
    struct mly_match *out;
    size_t *counts;
    struct worker *workers;
    struct turn *turns; /* [query_count], in the order in which they are taken */
    size_t query_count, part;
};

struct turn {
    uint64_t place;
    size_t query_i;
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

static void search_one(struct batch *batch, size_t query_i, struct worker *worker)
{
    struct mly_vindex_ask ask = *batch->ask;
    struct mly_vindex_stats stats;
    const struct mly_match *matches;
    size_t count;
    batch->counts[query_i] = 0;
    if (worker->rc != MLY_OK) return;
    ask.query = batch->queries + query_i * ask.dim;
    worker->rc = mly_vindex_search(worker->room, batch->sources, batch->source_count, &ask,
                                   &matches, &count, &stats, &worker->err);
    if (worker->rc != MLY_OK) return;
    if (count > 0) memcpy(batch->out + query_i * ask.k, matches, count * sizeof(matches[0]));
    batch->counts[query_i] = count;
    add_stats(&worker->stats, &stats);
}

static size_t part_end(const struct batch *batch, size_t part_i)
{
    const size_t end = (part_i + 1) * batch->part;
    return end < batch->query_count ? end : batch->query_count;
}

static void find_place(void *context, size_t part_i, uint32_t worker_i)
{
    struct batch *batch = context;
    struct worker *worker = &batch->workers[worker_i];
    const size_t end = part_end(batch, part_i);
    for (size_t i = part_i * batch->part; i < end; i++) {
        struct mly_vindex_ask ask = *batch->ask;
        batch->turns[i] = (struct turn){0, i};
        ask.query = batch->queries + i * ask.dim;
        if (worker->rc != MLY_OK || batch->query_count < ORDERED_MIN) continue;
        worker->rc = mly_vindex_nearest_cell(worker->room, batch->sources, batch->source_count,
                                             &ask, &batch->turns[i].place, &worker->err);
    }
}

static void search_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct batch *batch = context;
    const size_t end = part_end(batch, part_i);
    for (size_t i = part_i * batch->part; i < end; i++)
        search_one(batch, batch->turns[i].query_i, &batch->workers[worker_i]);
}

static int compare_turns(const void *a, const void *b)
{
    const struct turn *x = a, *y = b;
    if (x->place != y->place) return x->place < y->place ? -1 : 1;
    return (x->query_i > y->query_i) - (x->query_i < y->query_i);
}

static void run_parts(struct mly_pool *pool, mly_pool_part_fn part, struct batch *batch)
{
    size_t count = (batch->query_count + batch->part - 1) / batch->part;
    if (pool != NULL) {
        mly_pool_run(pool, count, part, batch);
    } else {
        for (size_t i = 0; i < count; i++)
            part(batch, i, 0);
    }
}

enum mly_err mly_vindex_search_many(const struct mly_env *env, struct mly_pool *pool,
                                    const struct mly_vindex_source *sources, size_t source_count,
                                    const struct mly_vindex_ask *ask, const float *queries,
                                    size_t query_count, struct mly_match *out, size_t *counts,
                                    struct mly_vindex_stats *stats, struct mly_error *err)
{
    size_t worker_count = pool == NULL ? 1 : mly_pool_thread_count(pool);
    struct batch batch = {sources, source_count, ask,  queries,     out,
                          counts,  NULL,         NULL, query_count, 0};
    enum mly_err rc = MLY_OK;
    batch.workers = mly_mem_array(env->mem, worker_count, sizeof(batch.workers[0]));
    /* Few of them are for all threads all the same. */
    batch.part = query_count / (4 * worker_count) < PART ? query_count / (4 * worker_count) : PART;
    if (batch.part == 0) batch.part = 1;
    if (batch.workers == NULL) return mly_fail_nomem(err, worker_count * sizeof(struct worker));
    batch.turns = mly_mem_array(env->mem, query_count + 1, sizeof(batch.turns[0]));
    if (batch.turns == NULL) rc = mly_fail_nomem(err, query_count * sizeof(batch.turns[0]));
    for (size_t i = 0; i < worker_count && rc == MLY_OK; i++)
        rc = mly_vindex_room_create(env, &batch.workers[i].room, err);
    if (rc != MLY_OK) goto done;
    run_parts(pool, find_place, &batch);
    qsort(batch.turns, query_count, sizeof(batch.turns[0]), compare_turns);
    run_parts(pool, search_part, &batch);
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
    mly_mem_free(env->mem, batch.turns);
    mly_mem_free(env->mem, batch.workers);
    return rc;
}
