/* The nearest rows, by segments of the index where there are any, and by a scan of what they lack.
 *
 * In: a query, a snapshot. Out: the best of both, with the vectors' own scores. Where a segment
 * turns out damaged the answer comes from the vectors alone. */
#include "search/search_int.h"

#include "os/clock.h"
#include "os/lock.h"

#include <string.h>

/* Searches at once that keep their scratch. */
#define ROOMS_KEPT 8

struct mly_searcher {
    const struct mly_env *env;
    struct mly_mem *mem;
    struct mly_mutex mutex; /* guards what follows */
    struct mly_vindex_room *rooms[ROOMS_KEPT];
    size_t count;
};

enum mly_err mly_searcher_create(const struct mly_env *env, struct mly_searcher **out,
                                 struct mly_error *err)
{
    struct mly_searcher *searcher = mly_mem_array(env->mem, 1, sizeof(*searcher));
    if (searcher == NULL) return mly_fail_nomem(err, sizeof(*searcher));
    searcher->env = env;
    searcher->mem = env->mem;
    mly_mutex_init(&searcher->mutex);
    *out = searcher;
    return MLY_OK;
}

void mly_searcher_destroy(struct mly_searcher *searcher)
{
    if (searcher == NULL) return;
    for (size_t i = 0; i < searcher->count; i++)
        mly_vindex_room_destroy(searcher->rooms[i]);
    mly_mutex_deinit(&searcher->mutex);
    mly_mem_free(searcher->mem, searcher);
}

const struct mly_env *mly_searcher_env(const struct mly_searcher *searcher)
{
    return searcher->env;
}

static enum mly_err take_room(struct mly_searcher *searcher, struct mly_vindex_room **out,
                              struct mly_error *err)
{
    *out = NULL;
    mly_mutex_lock(&searcher->mutex);
    if (searcher->count > 0) *out = searcher->rooms[--searcher->count];
    mly_mutex_unlock(&searcher->mutex);
    return *out != NULL ? MLY_OK : mly_vindex_room_create(searcher->env, out, err);
}

static void give_room(struct mly_searcher *searcher, struct mly_vindex_room *room)
{
    mly_mutex_lock(&searcher->mutex);
    if (searcher->count < ROOMS_KEPT) {
        searcher->rooms[searcher->count++] = room;
        room = NULL;
    }
    mly_mutex_unlock(&searcher->mutex);
    mly_vindex_room_destroy(room);
}

static enum mly_err ask_index(struct mly_searcher *searcher, struct mly_scan *scan,
                              struct mly_snapshot *snapshot, const struct mly_snapshot_index *index,
                              const struct mly_search_ask *ask, struct mly_search_stats *stats,
                              struct mly_error *err)
{
    struct mly_vindex_room *room;
    const struct mly_match *matches;
    size_t source_count, count;
    const struct mly_vindex_source *sources;
    MLY_TRY(mly_scan_sources(index, ask, &sources, &source_count, err));
    const struct mly_vindex_ask inner = {
        .query = ask->query,
        .dim = ask->dim,
        .k = scan->heap_max + SEARCH_TIES,
        .recall = ask->recall,
        .recalled = scan->heap_max,
        .vector = mly_snapshot_get_vector,
        .vector_context = snapshot,
    };
    MLY_TRY(take_room(searcher, &room, err));
    enum mly_err rc = mly_vindex_search(room, sources, source_count, &inner, &matches, &count,
                                        &stats->index, err);
    for (size_t i = 0; rc == MLY_OK && i < count; i++)
        rc = mly_scan_offer(scan, matches[i], err);
    give_room(searcher, room);
    return rc;
}

static enum mly_err look(struct mly_searcher *searcher, struct mly_scan *scan,
                         struct mly_snapshot *snapshot, const struct mly_search_ask *ask,
                         struct mly_search_stats *stats, struct mly_error *err)
{
    struct mly_snapshot_index *index = NULL;
    if (ask->recall < 1) MLY_TRY(mly_snapshot_open_index(snapshot, &index, err));
    enum mly_err rc = MLY_OK;
    if (index != NULL) {
        rc = ask_index(searcher, scan, snapshot, index, ask, stats, err);
        if (rc == MLY_ERR_CORRUPT) {
            mly_snapshot_distrust_index(index);
            mly_snapshot_close_index(index);
            index = NULL;
            stats->index_was_damaged = true;
            scan->heap_count = 0;
            rc = MLY_OK;
        }
    }
    double start = mly_clock_seconds(searcher->env);
    if (rc == MLY_OK) rc = mly_scan_blocks(&scan, 1, index, &stats->scanned_rows, err);
    stats->scan_seconds = mly_clock_seconds(searcher->env) - start;
    mly_snapshot_close_index(index);
    return rc;
}

enum mly_err mly_search_nearest(struct mly_searcher *searcher, struct mly_snapshot *snapshot,
                                const struct mly_kern *kern, const struct mly_search_ask *ask,
                                struct mly_match **out, size_t *count,
                                struct mly_search_stats *stats, struct mly_error *err)
{
    struct mly_scan *scan = NULL;
    struct mly_search_stats own;
    if (stats == NULL) stats = &own;
    memset(stats, 0, sizeof(*stats));
    MLY_TRY(mly_scan_open(snapshot, kern, searcher->mem, ask, &scan, err));
    enum mly_err rc = MLY_OK;
    if (scan->heap_max > 0) rc = look(searcher, scan, snapshot, ask, stats, err);
    if (rc == MLY_OK) rc = mly_scan_take(scan, out, count, err);
    mly_scan_close(scan);
    return rc;
}
