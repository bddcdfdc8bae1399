/* The second look and the third: records of 8 bits, then the vectors.
 *
 * In: a pool of candidates, ordered by place. Out: the best of them by their own scores, as an
 * exact scan would give them. */
#include "index/vindex_room.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Records are fetched from memory while those before them are scored: first the page is looked up,
 * which takes longest, then come the lines. */
#define AHEAD_PAGE 32
#define AHEAD 16
/* Vectors that are fetched together. */
#define GROUP ((size_t)16)
/* The error of a record's score is about its scale * |q| / sqrt(12), of a difference of two sqrt(2)
 * times that; five times it is hardly ever passed. */
#define ERROR_FACTOR 2.05f

static const struct vindex_view *view_of(const struct mly_vindex_room *room,
                                         const struct vindex_candidate *candidate)
{
    return &room->views[room->first_views[candidate->source_i] + (candidate->slot >> 16)];
}

static void fetch(const struct mly_vindex_room *room, size_t i, bool is_whole)
{
    if (i >= room->pool_count) return;
    const struct vindex_candidate *candidate = &room->pool[i];
    const struct mly_vindex *segment = room->sources[candidate->source_i].segment;
    const struct vindex_view *view = view_of(room, candidate);
    const uint8_t *data = segment->records[view->file_i].map.data;
    size_t bytes = vindex_record_bytes(segment->head.width);
    if (data == NULL) return;
    data += VINDEX_RECORDS_HEAD_BYTES + (view->first_row + (candidate->slot & 0xFFFF)) * bytes;
    for (size_t at = 0; at < (is_whole ? bytes : 1); at += 64)
        __builtin_prefetch(data + at, 0, 2);
}

/* Asks the disk for the records of candidates from first on. */
static void ask_for_records(const struct mly_vindex_room *room, size_t first)
{
    for (size_t i = first; i < room->pool_count; i++) {
        const struct mly_vindex *segment = room->sources[room->pool[i].source_i].segment;
        const struct vindex_view *view = view_of(room, &room->pool[i]);
        size_t bytes = vindex_record_bytes(segment->head.width);
        size_t row = view->first_row + (room->pool[i].slot & 0xFFFF);
        mly_map_advise(&segment->records[view->file_i].map, VINDEX_RECORDS_HEAD_BYTES + row * bytes,
                       bytes, MLY_ADVICE_SOON);
    }
}

/* *scale is the record's, for the error. */
static enum mly_err score_record(const struct mly_vindex_room *room,
                                 struct vindex_candidate *candidate, float *scale,
                                 struct mly_error *err)
{
    const struct mly_vindex *segment = room->sources[candidate->source_i].segment;
    const struct vindex_view *view = view_of(room, candidate);
    size_t width = segment->head.width;
    const uint8_t *record =
        mly_vindex_record(segment, view->file_i, view->first_row + (candidate->slot & 0xFFFF));
    if (record == NULL) {
        return mly_fail(err, MLY_ERR_CORRUPT, "vector index: a record does not pass its sum");
    }
    const int8_t *q = (const int8_t *)record;
    memcpy(scale, record + width, 4);
    candidate->score = *scale * segment->kern->dot_s8_f32(q, room->turned, width);
    if (room->metric == MLY_VINDEX_L2) {
        int32_t square = 0;
        for (size_t i = 0; i < width; i++)
            square += q[i] * q[i];
        candidate->score -= 0.5f * *scale * *scale * (float)square;
    }
    return MLY_OK;
}

static float distance_score(const float *a, const float *b, size_t n)
{
    float lanes[16] = {0};
    for (size_t i = 0; i < n; i += 16) {
        for (size_t lane = 0; lane < 16 && i + lane < n; lane++) {
            float difference = a[i + lane] - b[i + lane];
            lanes[lane] += difference * difference;
        }
    }
    for (size_t half = 8; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    }
    return -lanes[0];
}

/* Gives count candidates (GROUP at most) their own scores; leaves out those without a vector. */
static enum mly_err score_vectors(const struct mly_vindex_room *room,
                                  const struct vindex_candidate *candidates, size_t count,
                                  size_t *kept, struct mly_error *err)
{
    const struct mly_vindex_ask *ask = room->ask;
    const float *vectors[GROUP];
    for (size_t i = 0; i < count; i++) {
        const struct vindex_view *view = view_of(room, &candidates[i]);
        vectors[i] = NULL;
        MLY_TRY(ask->vector(ask->vector_context, view->part,
                            view->first_row + (candidates[i].slot & 0xFFFF), &vectors[i], err));
        if (vectors[i] == NULL) continue;
        if (room->is_cold) {
            (void)room->env->advise(room->env->context, vectors[i], ask->dim * sizeof(float),
                                    MLY_ADVICE_SOON);
        }
        for (size_t d = 0; d < ask->dim; d += 16)
            __builtin_prefetch(vectors[i] + d);
    }
    for (size_t i = 0; i < count; i++) {
        struct vindex_candidate candidate = candidates[i];
        const struct mly_kern *kern = room->sources[candidate.source_i].segment->kern;
        if (vectors[i] == NULL) continue;
        candidate.score = room->metric == MLY_VINDEX_L2
                              ? distance_score(ask->query, vectors[i], ask->dim)
                              : kern->dot_f32(ask->query, vectors[i], ask->dim);
        if (!isnan(candidate.score)) room->pool[(*kept)++] = candidate;
    }
    return MLY_OK;
}

/* A record of nothing is that of a vector of zeros, or of none: a cell has no such row, but a
 * selection may. */
static enum mly_err has_vector(const struct mly_vindex_room *room,
                               const struct vindex_candidate *candidate, bool *out,
                               struct mly_error *err)
{
    const struct vindex_view *view = view_of(room, candidate);
    const float *vector = NULL;
    MLY_TRY(room->ask->vector(room->ask->vector_context, view->part,
                              view->first_row + (candidate->slot & 0xFFFF), &vector, err));
    *out = vector != NULL;
    return MLY_OK;
}

enum mly_err mly_vindex_rescore(struct mly_vindex_room *room, struct mly_error *err)
{
    struct vindex_candidate *pool = room->pool;
    size_t k = room->ask->k, kept = 0;
    float largest = 0;
    double start = mly_clock_seconds(room->env);
    for (size_t i = 0; i < AHEAD_PAGE; i++)
        fetch(room, i, i < AHEAD);
    if (room->is_cold) ask_for_records(room, 0);
    double last = start;
    for (size_t i = 0; i < room->pool_count; i++) {
        float scale;
        bool is_there = true;
        fetch(room, i + AHEAD_PAGE, false);
        fetch(room, i + AHEAD, true);
        MLY_TRY(score_record(room, &pool[i], &scale, err));
        if (scale > largest) largest = scale;
        if (!(scale > 0)) MLY_TRY(has_vector(room, &pool[i], &is_there, err));
        if (is_there) pool[kept++] = pool[i];
        if (room->is_cold || i % 8 != 0) continue;
        /* As with cells: the first that come from disk bring all others. */
        double now = mly_clock_seconds(room->env);
        room->is_cold = now - last > VINDEX_WARM_SECONDS;
        if (room->is_cold) ask_for_records(room, i + 1);
        last = now;
    }
    room->stats.records_read = room->pool_count;
    room->stats.bytes_read +=
        room->pool_count * vindex_record_bytes(MLY_KERN_CODE_WIDTH(room->ask->dim));
    room->pool_count = kept;
    kept = 0;
    mly_vindex_pool_cut(room); /* of few rows that were selected all came here */
    mly_vindex_pool_order(room);
    double middle = mly_clock_seconds(room->env);
    room->stats.record_seconds += middle - start;
    size_t count = room->pool_count;
    if (count > k) {
        float least = pool[k - 1].score - ERROR_FACTOR * largest * room->query_length;
        for (count = k; count < room->pool_count && pool[count].score >= least; count++) {
        }
    }
    for (size_t i = 0; i < count; i += GROUP) {
        MLY_TRY(score_vectors(room, &pool[i], count - i < GROUP ? count - i : GROUP, &kept, err));
    }
    room->stats.vectors_read = count;
    room->stats.bytes_read += count * room->ask->dim * sizeof(float);
    room->pool_count = kept;
    mly_vindex_pool_order(room);
    room->stats.vector_seconds += mly_clock_seconds(room->env) - middle;
    return MLY_OK;
}
