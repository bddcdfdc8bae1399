/* The guard of recall: searches for rows that are there, beside what looking at every vector finds.
 *
 * In: a snapshot with one segment that was not measured yet, or has lost many rows since. Out: what
 * part of the ten nearest it finds of each of some rows (which leave themselves out), for some
 * recalls that may be asked for; where it is less than that, searches in this segment look at more
 * from then on. */
#include "store/store_index_int.h"

#include <math.h>

#define NEAREST ((size_t)10)
#define SAMPLES_MAX ((size_t)100)
#define SAMPLES_MIN ((size_t)20)
/* Products, of numbers, that a measurement may cost: some seconds of one core. */
#define PRODUCTS 2e10
#define TILE_ROWS ((size_t)512)
/* Of scores: rows that are equally near may have been found for one another. */
#define ROUNDING 1e-5f
/* So much less is no fault of the index: rows that are there lie nearer to their own cells than
 * questions do, so that less is looked at for them (0.015 among 200,000 sentences), and chance. */
#define SLACK 0.025f
/* What was measured holds until one in so many of the rows came or went. */
#define CHANGED_PARTS 10

struct sample {
    const float *vector; /* in the snapshot */
    uint64_t address;
    float best[NEAREST]; /* descending, of the others */
    size_t count;
};

struct guard {
    struct mly_store *store;
    struct mly_snapshot *snapshot;
    const struct mly_snapshot_index *index;
    mly_vindex_pulse_fn pulse;
    void *pulse_context;
    size_t dim, sample_count;
    struct sample samples[SAMPLES_MAX];
    float scores[TILE_ROWS];
};

static enum mly_err beat(const struct guard *guard, struct mly_error *err)
{
    return guard->pulse == NULL ? MLY_OK : guard->pulse(guard->pulse_context, 1, err);
}

static bool is_dead(const struct mly_vector_block *block, size_t row)
{
    return block->dead != NULL && (block->dead[row / 8] >> (row % 8) & 1) != 0;
}

/* Some of the rows that the segment covers, evenly among them. */
static enum mly_err choose(struct guard *guard, struct mly_error *err)
{
    size_t blocks = mly_snapshot_block_count(guard->snapshot), wanted = 0;
    uint64_t rows = 0, at = 0;
    struct mly_vector_block block;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < blocks; i++) {
            if (!mly_snapshot_index_covers(guard->index, i)) continue;
            MLY_TRY(mly_snapshot_get_block(guard->snapshot, i, &block, err));
            guard->dim = block.dim;
            if (pass == 0) rows += block.row_count;
            for (size_t row = 0; pass == 1 && row < block.row_count; row++, at++) {
                size_t count = guard->sample_count;
                if (count == wanted) return MLY_OK;
                if (at < rows / wanted * count || is_dead(&block, row)) continue;
                guard->samples[guard->sample_count++] = (struct sample){
                    .vector = block.values + row * block.dim, .address = block.first_address + row};
            }
        }
        if (rows == 0) return MLY_OK;
        double budget = PRODUCTS / ((double)rows * (double)guard->dim);
        wanted = budget > (double)SAMPLES_MAX ? SAMPLES_MAX : (size_t)budget;
        if (wanted < SAMPLES_MIN) wanted = SAMPLES_MIN;
        if (wanted > rows) wanted = (size_t)rows;
    }
    return MLY_OK;
}

static void offer(struct sample *sample, float score)
{
    if (isnan(score) || (sample->count == NEAREST && score <= sample->best[NEAREST - 1])) return;
    size_t at = sample->count < NEAREST ? sample->count++ : NEAREST - 1;
    for (; at > 0 && sample->best[at - 1] < score; at--)
        sample->best[at] = sample->best[at - 1];
    sample->best[at] = score;
}

/* Looks at every vector for all samples. */
static enum mly_err find_truth(struct guard *guard, struct mly_error *err)
{
    const struct mly_kern *kern = guard->store->index->kern;
    for (size_t i = 0; i < mly_snapshot_block_count(guard->snapshot); i++) {
        struct mly_vector_block block;
        if (!mly_snapshot_index_covers(guard->index, i)) continue;
        MLY_TRY(mly_snapshot_get_block(guard->snapshot, i, &block, err));
        for (size_t first = 0; first < block.row_count; first += TILE_ROWS) {
            size_t left = block.row_count - first, rows = left < TILE_ROWS ? left : TILE_ROWS;
            MLY_TRY(beat(guard, err));
            for (size_t s = 0; s < guard->sample_count; s++) {
                struct sample *sample = &guard->samples[s];
                kern->scores_f32(sample->vector, block.values + first * block.dim, rows, block.dim,
                                 guard->scores);
                for (size_t row = 0; row < rows; row++) {
                    if (sample->count == NEAREST && guard->scores[row] <= sample->best[NEAREST - 1])
                        continue;
                    uint64_t address = block.first_address + first + row;
                    if (address == sample->address || is_dead(&block, first + row)) continue;
                    offer(sample, guard->scores[row]);
                }
            }
        }
    }
    return MLY_OK;
}

static size_t count_found(const struct sample *sample, const struct mly_match *matches,
                          size_t count)
{
    size_t found = 0;
    for (size_t i = 0; i < count && found < sample->count; i++) {
        if (matches[i].row_address == sample->address) continue;
        found += matches[i].score >= sample->best[sample->count - 1] - ROUNDING ? 1 : 0;
    }
    return found;
}

static enum mly_err measure(const struct guard *guard, struct mly_vindex_room *room, float recall,
                            uint32_t step, float *out, struct mly_error *err)
{
    size_t found = 0, all = 0;
    for (size_t s = 0; s < guard->sample_count; s++) {
        const struct sample *sample = &guard->samples[s];
        const struct mly_vindex_ask ask = {.query = sample->vector,
                                           .dim = guard->dim,
                                           .k = NEAREST + 1,
                                           .recall = recall,
                                           .vector = mly_snapshot_get_vector,
                                           .vector_context = guard->snapshot,
                                           .is_trial = true,
                                           .step = step};
        const struct mly_match *matches;
        size_t count;
        MLY_TRY(beat(guard, err));
        MLY_TRY(
            mly_vindex_search(room, guard->index->sources, 1, &ask, &matches, &count, NULL, err));
        found += count_found(sample, matches, count);
        all += sample->count;
    }
    *out = all == 0 ? 1 : (float)found / (float)all;
    return MLY_OK;
}

static enum mly_err find_steps(const struct guard *guard, struct mly_vindex_guard *out,
                               struct mly_error *err)
{
    static const float recalls[MLY_VINDEX_LEVELS] = {0.9f, MLY_VINDEX_RECALL, 0.98f};
    struct mly_vindex_room *room = NULL;
    MLY_TRY(mly_vindex_room_create(guard->store->env, &room, err));
    enum mly_err rc = MLY_OK;
    uint32_t step = 0;
    for (size_t i = 0; rc == MLY_OK && i < MLY_VINDEX_LEVELS; i++) {
        float measured = 0;
        for (;; step++) {
            rc = measure(guard, room, recalls[i], step, &measured, err);
            if (rc != MLY_OK || measured >= recalls[i] - SLACK || step == MLY_VINDEX_STEP_MAX)
                break;
        }
        out->levels[i] = (struct mly_vindex_level){recalls[i], measured, step};
    }
    out->samples = (uint32_t)guard->sample_count;
    mly_vindex_room_destroy(room);
    return rc;
}

/* Rows of the segment that may be found in the snapshot. */
static uint64_t count_rows(const struct mly_snapshot *snapshot,
                           const struct mly_snapshot_index *index)
{
    const struct mly_store_view *view = snapshot->views[MLY_STORE_CHUNKS];
    uint64_t rows = 0;
    for (size_t i = 0; i < view->part_count; i++) {
        const struct mly_store_part *part = &view->parts[i];
        if (!index->covers_part[i]) continue;
        rows += part->row_count - (part->dead == NULL ? 0 : part->dead->set.deleted_count);
    }
    return rows;
}

bool mly_store_index_is_measured(const struct mly_snapshot *snapshot,
                                 const struct mly_snapshot_index *index)
{
    struct mly_vindex_guard guard;
    if (index == NULL || index->source_count != 1) return true;
    mly_vindex_get_guard(index->sources[0].segment, &guard);
    if (guard.samples == 0) return false;
    uint64_t rows = count_rows(snapshot, index);
    uint64_t changed = rows > guard.rows ? rows - guard.rows : guard.rows - rows;
    return changed <= guard.rows / CHANGED_PARTS;
}

enum mly_err mly_store_index_measure(struct mly_snapshot *snapshot, mly_vindex_pulse_fn pulse,
                                     void *context, struct mly_error *err)
{
    struct mly_store *store = snapshot->store;
    struct mly_snapshot_index *index = NULL;
    MLY_TRY(mly_snapshot_open_index(snapshot, &index, err));
    /* Another process may have measured meanwhile. */
    bool is_measured = mly_store_index_is_measured(snapshot, index);
    if (!is_measured) {
        mly_vindex_guard_read(index->sources[0].segment, store->index->folder,
                              index->segments[0]->name);
        is_measured = mly_store_index_is_measured(snapshot, index);
    }
    if (is_measured) {
        mly_snapshot_close_index(index);
        return MLY_OK;
    }
    struct guard *guard = mly_mem_array(store->mem, 1, sizeof(*guard));
    enum mly_err rc = guard == NULL ? mly_fail_nomem(err, sizeof(*guard)) : MLY_OK;
    if (rc == MLY_OK) {
        struct mly_vindex_guard out = {0};
        guard->store = store;
        guard->snapshot = snapshot;
        guard->index = index;
        guard->pulse = pulse;
        guard->pulse_context = context;
        rc = choose(guard, err);
        if (rc == MLY_OK) rc = find_truth(guard, err);
        if (rc == MLY_OK && guard->sample_count > 0) rc = find_steps(guard, &out, err);
        out.rows = count_rows(snapshot, index);
        if (rc == MLY_OK && out.samples > 0) {
            mly_vindex_set_guard(index->sources[0].segment, &out);
            rc = mly_vindex_guard_write(index->sources[0].segment, store->index->folder,
                                        index->segments[0]->name, &out, err);
        }
    }
    mly_mem_free(store->mem, guard);
    mly_snapshot_close_index(index);
    return rc;
}
