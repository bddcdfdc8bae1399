/* One search: rank the cells, scan the best until the pool is good enough, look again, give k.
 *
 * In: a query and open segments, each with what the caller's snapshot has of its files. Out: rows
 * and their exact scores. */
#include "index/vindex_room.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the room ---- */

enum mly_err mly_vindex_room_create(const struct mly_env *env, struct mly_vindex_room **out,
                                    struct mly_error *err)
{
    struct mly_vindex_room *room = mly_mem_array(env->mem, 1, sizeof(*room));
    if (room == NULL) return mly_fail_nomem(err, sizeof(*room));
    room->env = env;
    room->mem = env->mem;
    *out = room;
    return MLY_OK;
}

void mly_vindex_room_destroy(struct mly_vindex_room *room)
{
    if (room == NULL) return;
    void *blocks[] = {room->turned,   room->bytes,       room->groups,  room->tables,
                      room->products, room->ranked,      room->views,   room->first_views,
                      room->pool,     room->matches,     room->passing, room->masks[0],
                      room->masks[1], (void *)room->bits};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
        mly_mem_free(room->mem, blocks[i]);
    mly_mem_free(room->mem, room);
}

enum mly_err mly_vindex_grow(struct mly_vindex_room *room, void **items, size_t *capacity,
                             size_t count, size_t item_bytes, struct mly_error *err)
{
    size_t bytes;
    if (count <= *capacity && *items != NULL) return MLY_OK;
    if (!mly_size_mul(count + count / 8 + 1, item_bytes, &bytes)) {
        return mly_fail_nomem(err, SIZE_MAX);
    }
    void *grown = mly_mem_alloc_aligned(room->mem, bytes);
    if (grown == NULL) return mly_fail_nomem(err, bytes);
    mly_mem_free(room->mem, *items);
    *items = grown;
    *capacity = count + count / 8 + 1;
    return MLY_OK;
}

static enum mly_err grow_query(struct mly_vindex_room *room, size_t width, struct mly_error *err)
{
    if (width <= room->width_room) return MLY_OK;
    float *turned = mly_mem_alloc_aligned(room->mem, width * sizeof(float));
    uint8_t *bytes = mly_mem_alloc_aligned(room->mem, width);
    uint8_t *tables = mly_mem_alloc_aligned(room->mem, MLY_KERN_QUERY_BYTES(width));
    if (turned == NULL || bytes == NULL || tables == NULL) {
        mly_mem_free(room->mem, turned);
        mly_mem_free(room->mem, bytes);
        mly_mem_free(room->mem, tables);
        return mly_fail_nomem(err, width * 9);
    }
    mly_mem_free(room->mem, room->turned);
    mly_mem_free(room->mem, room->bytes);
    mly_mem_free(room->mem, room->tables);
    room->turned = turned;
    room->bytes = bytes;
    room->tables = tables;
    room->width_room = width;
    return MLY_OK;
}

/* ---- how far to look ---- */

/* What part of the ten nearest was found with which effort among a million sentences (384
 * dimensions, 1,000 of them held out as queries), less 0.0045; with fewer rows it is more. */
struct effort_row {
    float recall, gap, probes, pool;
};
static const struct effort_row effort_rows[] = {
    {0.831F, 0.07F, 12, 40},   {0.855F, 0.10F, 24, 45},   {0.925F, 0.17F, 64, 52},
    {0.949F, 0.20F, 96, 58},   {0.9655F, 0.23F, 128, 64}, {0.978F, 0.26F, 192, 80},
    {0.987F, 0.30F, 256, 110}, {0.991F, 0.34F, 384, 150}, {0.9935F, 0.40F, 640, 200},
};
#define EFFORT_ROWS (sizeof(effort_rows) / sizeof(effort_rows[0]))

static size_t between(float a, float b, float part)
{
    return (size_t)(a + (b - a) * part + 0.5F);
}

struct vindex_effort mly_vindex_effort(const struct mly_vindex_ask *ask, uint64_t vector_count,
                                       size_t cell_count)
{
    float recall = ask->recall > 0 ? ask->recall : MLY_VINDEX_RECALL;
    struct vindex_effort effort = {cell_count, 8, 400, INFINITY};
    if (recall < effort_rows[0].recall) recall = effort_rows[0].recall;
    for (size_t i = 1; i < EFFORT_ROWS; i++) {
        const struct effort_row *low = &effort_rows[i - 1], *high = &effort_rows[i];
        if (recall > high->recall) continue;
        float part = (recall - low->recall) / (high->recall - low->recall);
        effort.gap = low->gap + (high->gap - low->gap) * part;
        effort.probes = between(low->probes, high->probes, part);
        effort.pool = between(low->pool, high->pool, part);
        break;
    }
    if (ask->probes_max > 0) effort.probes = ask->probes_max;
    if (ask->pool > 0) effort.pool = ask->pool;
    if (ask->gap > 0) effort.gap = ask->gap;
    size_t k = ask->k < vector_count ? ask->k : (size_t)vector_count;
    if (effort.pool < 3 * k) effort.pool = 3 * k;
    if (effort.probes > cell_count) effort.probes = cell_count;
    return effort;
}

/* ---- the search ---- */

/* Cells to choose from for each that is read, and groups besides. */
#define GROUP_CHOICE 14
#define GROUPS_MIN 8
/* How much below the best cell's cosine the last of the nearest rows may be, half of it. */
#define LAST_BELOW_BEST 0.05F
/* Fewer than ten rows are looked for as far as ten. */
#define NEAREST_MIN ((size_t)10)

static enum mly_err check_ask(const struct mly_vindex_room *room, struct mly_error *err)
{
    const struct mly_vindex_ask *ask = room->ask;
    for (size_t i = 0; i < room->source_count; i++) {
        const struct vindex_head *head = &room->sources[i].segment->head;
        if (head->dim != ask->dim) {
            return mly_fail(err, MLY_ERR_INVAL, "vector has %zu numbers, the index's have %u",
                            ask->dim, head->dim);
        }
        if (head->metric != room->sources[0].segment->head.metric) {
            return mly_fail(err, MLY_ERR_INVAL, "segments of two metrics in one search");
        }
    }
    for (size_t i = 0; i < ask->dim; i++) {
        if (!isfinite(ask->query[i])) {
            return mly_fail(err, MLY_ERR_INVAL, "number %zu of the query is not finite", i);
        }
    }
    if (!(ask->recall >= 0 && ask->recall <= 1)) {
        return mly_fail(err, MLY_ERR_INVAL, "recall %g, it must be 0 to 1", (double)ask->recall);
    }
    return MLY_OK;
}

static enum mly_err set_views(struct mly_vindex_room *room, struct mly_error *err)
{
    size_t count = 0;
    for (size_t i = 0; i < room->source_count; i++)
        count += room->sources[i].segment->head.block_count;
    void *views = room->views, *firsts = room->first_views;
    MLY_TRY(mly_vindex_grow(room, &views, &room->view_room, count, sizeof(room->views[0]), err));
    room->views = views;
    MLY_TRY(mly_vindex_grow(room, &firsts, &room->source_room, room->source_count, sizeof(size_t),
                            err));
    room->first_views = firsts;
    count = 0;
    for (size_t i = 0; i < room->source_count; i++) {
        const struct mly_vindex *segment = room->sources[i].segment;
        room->first_views[i] = count;
        for (uint32_t b = 0; b < segment->head.block_count; b++) {
            const struct vindex_block *block = &segment->blocks[b];
            const struct mly_vindex_part *part = &room->sources[i].parts[block->file_i];
            struct vindex_view *view = &room->views[count++];
            if (part->is_present && part->allowed != NULL) room->is_selected = true;
            *view = (struct vindex_view){
                .file_i = block->file_i,
                .first_row = block->first_row,
                .part = part->is_present ? part : NULL,
                .dead = part->dead == NULL ? NULL : part->dead + block->first_row / 8,
                .allowed = part->allowed == NULL ? NULL : part->allowed + block->first_row / 8,
            };
        }
    }
    return MLY_OK;
}

static enum mly_err prepare(struct mly_vindex_room *room, struct mly_error *err)
{
    const struct mly_vindex *first = room->sources[0].segment;
    const struct mly_vindex_ask *ask = room->ask;
    room->metric = (enum mly_vindex_metric)first->head.metric;
    MLY_TRY(check_ask(room, err));
    MLY_TRY(grow_query(room, first->head.width, err));
    if (room->rotation.dim != ask->dim) mly_kern_rotation_init(&room->rotation, ask->dim);
    mly_kern_rotate(&room->rotation, ask->query, room->turned);
    room->query_length = sqrtf(first->kern->dot_f32(ask->query, ask->query, ask->dim));
    mly_kern_query_make(room->turned, first->head.width, room->tables, &room->query);
    room->floor = -INFINITY;
    room->pool_count = 0;
    room->is_cold = room->is_selected = room->is_sifting = false;
    room->vector_count = 0;
    return set_views(room, err);
}

void mly_vindex_open_groups(struct mly_vindex_room *room, size_t wanted, bool is_first,
                            size_t *opened)
{
    size_t start = *opened, target = room->group_count;
    if (is_first) {
        target = wanted * GROUP_CHOICE / MLY_CELLS_PANEL + GROUPS_MIN;
        if (target > room->group_count) target = room->group_count;
    }
    mly_vindex_rank_next(room->groups, room->group_count, start, target - start);
    for (size_t i = start; i < target; i++)
        mly_vindex_rank_group(room, i);
    *opened = target;
}

/* Cells below it are too far: gap below the middle of the best cell and of the last of the nearest
 * rows so far, so that a query whose neighbours are near reads less. */
static float least_score(const struct mly_vindex_room *room, const struct vindex_effort *effort)
{
    if (room->metric != MLY_VINDEX_COSINE || room->ranked_count == 0) return -INFINITY;
    float best = room->ranked[0].score, last = best - 2 * LAST_BELOW_BEST;
    if (room->nearest_count == room->nearest_wanted && room->query_length > 0) {
        last = room->nearest[room->nearest_wanted - 1].score / room->query_length;
    }
    return (best + last) / 2 - effort->gap;
}

/* How many ranked cells are read if those before them give enough candidates. */
static size_t near_cells(const struct mly_vindex_room *room, const struct vindex_effort *effort,
                         size_t done, size_t wanted)
{
    float least = least_score(room, effort);
    size_t count = done > effort->probes_min ? done : effort->probes_min;
    while (count < wanted && room->ranked[count].score >= least)
        count++;
    return count < wanted ? count : wanted;
}

/* Reads cells up to wanted, but for those that are too far. *done: how many are read. Where one
 * takes as long as the disk does, all others are asked for at once: a query that finds nothing in
 * memory takes a few reads' time and not that of a hundred, and one that finds everything asks for
 * nothing. */
static enum mly_err scan_up_to(struct mly_vindex_room *room, const struct vindex_effort *effort,
                               size_t wanted, size_t *done, struct mly_error *err)
{
    double last = mly_clock_seconds(room->env);
    bool is_asked = false;
    room->scan_end = near_cells(room, effort, *done, wanted);
    if (*done < wanted && !mly_vindex_cell_was_read(room, *done)) {
        mly_vindex_scan_soon(room, *done);
        is_asked = true;
    }
    for (; *done < wanted; ++*done) {
        bool is_far =
            *done >= effort->probes_min && room->ranked[*done].score < least_score(room, effort);
        if (is_far && room->pool_count >= room->pool_wanted) break;
        if (*done == room->scan_end) { /* too few are found in those */
            room->scan_end = near_cells(room, effort, *done, wanted);
            if (room->scan_end == *done) room->scan_end = wanted;
            is_asked = false;
        }
        MLY_TRY(mly_vindex_scan(room, *done, err));
        double now = mly_clock_seconds(room->env);
        if (!is_asked && now - last > VINDEX_WARM_SECONDS) {
            mly_vindex_scan_soon(room, *done + 1);
            is_asked = true;
        }
        last = now;
    }
    return MLY_OK;
}

/* Ranks the cells of the first round, those that are far for no query; how many they are. */
static size_t first_round(struct mly_vindex_room *room, const struct vindex_effort *effort,
                          float *least)
{
    size_t count = room->ranked_count, wanted = effort->probes < count ? effort->probes : count;
    *least = -INFINITY;
    if (room->metric != MLY_VINDEX_COSINE || effort->gap == INFINITY) {
        mly_vindex_rank_next(room->ranked, count, 0, wanted);
        return wanted;
    }
    float best = -INFINITY;
    for (size_t i = 0; i < count; i++)
        best = room->ranked[i].score > best ? room->ranked[i].score : best;
    *least = best - effort->gap - LAST_BELOW_BEST;
    size_t near = mly_vindex_rank_above(room->ranked, count, *least);
    if (near >= effort->probes_min) count = near;
    if (near < effort->probes_min) near = effort->probes_min;
    if (near < wanted) wanted = near;
    mly_vindex_rank_next(room->ranked, count, 0, wanted);
    return wanted;
}

/* Reads cells: the nearest of the effort's, its other ones, then as many again until there are
 * enough candidates. */
static enum mly_err scan_cells(struct mly_vindex_room *room, const struct vindex_effort *effort,
                               struct mly_error *err)
{
    size_t done = 0, wanted = effort->probes, opened = 0;
    float least = -INFINITY;
    for (;;) {
        double start = mly_clock_seconds(room->env);
        if (opened < room->group_count) mly_vindex_open_groups(room, wanted, done == 0, &opened);
        if (wanted > room->ranked_count) wanted = room->ranked_count;
        if (done == 0) {
            wanted = first_round(room, effort, &least);
        } else {
            mly_vindex_rank_next(room->ranked, room->ranked_count, done, wanted - done);
        }
        double ranked = mly_clock_seconds(room->env);
        room->stats.rank_seconds += ranked - start;
        MLY_TRY(scan_up_to(room, effort, wanted, &done, err));
        room->stats.scan_seconds += mly_clock_seconds(room->env) - ranked;
        bool is_cut = done < wanted || least_score(room, effort) >= least;
        if (done < effort->probes && !is_cut && done < room->ranked_count) {
            wanted = effort->probes;
            continue;
        }
        /* A full pool was cut at least once, or is about to be: there is enough to choose from. */
        if (room->pool_count >= 2 * room->pool_wanted || room->floor > -INFINITY) return MLY_OK;
        mly_vindex_pool_unite(room);
        bool is_all = opened == room->group_count && done >= room->ranked_count;
        if (is_all || room->pool_count >= room->pool_wanted) return MLY_OK;
        wanted = done + (done < 32 ? 32 : done);
    }
}

static bool is_better_match(const void *one, const void *other)
{
    const struct mly_match *a = one, *b = other;
    if (a->score > b->score || a->score < b->score) return a->score > b->score;
    return a->row_address < b->row_address;
}

/* How much more is looked at, for what was measured. */
static uint32_t step_of(const struct mly_vindex_room *room)
{
    uint32_t step = 0;
    if (room->ask->is_trial) return room->ask->step;
    for (size_t i = 0; i < room->source_count; i++) {
        struct mly_vindex_guard guard;
        mly_vindex_get_guard(room->sources[i].segment, &guard);
        if (guard.samples == 0) continue;
        uint32_t own = guard.levels[mly_vindex_guard_level(&guard, room->ask->recall)].step;
        step = own > step ? own : step;
    }
    return step;
}

/* Fills the pool with rows that may be among the nearest. */
static enum mly_err fill_pool(struct mly_vindex_room *room, const struct vindex_effort *effort,
                              size_t cell_count, struct mly_error *err)
{
    double start = mly_clock_seconds(room->env);
    if (room->is_selected) {
        MLY_TRY(mly_vindex_select(room, err));
        if (mly_vindex_is_few(room, effort, cell_count)) return mly_vindex_take_all(room, err);
    }
    void *pool = room->pool;
    MLY_TRY(mly_vindex_grow(room, &pool, &room->pool_room, 4 * effort->pool, sizeof(room->pool[0]),
                            err));
    room->pool = pool;
    MLY_TRY(mly_vindex_rank(room, err));
    room->stats.rank_seconds += mly_clock_seconds(room->env) - start;
    if (room->is_selected) {
        float cells = mly_vindex_cells_until(room, effort, cell_count);
        return mly_vindex_scan_selected(room, effort, cell_count, cells, err);
    }
    MLY_TRY(scan_cells(room, effort, err));
    mly_vindex_pool_cut(room);
    mly_vindex_pool_unite(room);
    return MLY_OK;
}

static enum mly_err search(struct mly_vindex_room *room, const struct mly_match **out,
                           size_t *out_count, struct mly_error *err)
{
    size_t places = 0;
    MLY_TRY(prepare(room, err));
    for (size_t i = 0; i < room->source_count; i++) {
        const struct mly_vindex *segment = room->sources[i].segment;
        room->vector_count += segment->head.vector_count;
        room->stats.cell_count += segment->used_count;
        places += segment->head.cell_count;
    }
    struct vindex_effort effort = mly_vindex_effort(room->ask, room->vector_count, places);
    mly_vindex_strengthen(&effort, step_of(room), places);
    room->pool_wanted = effort.pool;
    room->nearest_count = 0;
    const size_t recalled = room->ask->recalled > 0 ? room->ask->recalled : room->ask->k;
    room->nearest_wanted = recalled < NEAREST_MIN ? NEAREST_MIN : recalled;
    if (room->nearest_wanted > VINDEX_NEAREST_MAX) room->nearest_wanted = VINDEX_NEAREST_MAX;
    MLY_TRY(fill_pool(room, &effort, places, err));
    void *matches = room->matches;
    MLY_TRY(mly_vindex_rescore(room, err));
    size_t count = room->pool_count;
    MLY_TRY(
        mly_vindex_grow(room, &matches, &room->match_room, count, sizeof(room->matches[0]), err));
    room->matches = matches;
    for (size_t i = 0; i < count; i++) {
        const struct vindex_candidate *candidate = &room->pool[i];
        const struct vindex_view *view =
            &room->views[room->first_views[candidate->source_i] + (candidate->slot >> 16)];
        uint64_t row = view->first_row + (candidate->slot & 0xFFFF);
        room->matches[i] = (struct mly_match){view->part->first_address + row, candidate->score};
    }
    vindex_sort(room->matches, count, sizeof(room->matches[0]), is_better_match);
    *out = room->matches;
    *out_count = count < room->ask->k ? count : room->ask->k;
    return MLY_OK;
}

enum mly_err mly_vindex_search(struct mly_vindex_room *room,
                               const struct mly_vindex_source *sources, size_t source_count,
                               const struct mly_vindex_ask *ask, const struct mly_match **out,
                               size_t *out_count, struct mly_vindex_stats *stats,
                               struct mly_error *err)
{
    room->sources = sources;
    room->source_count = source_count;
    room->ask = ask;
    room->stats = (struct mly_vindex_stats){0};
    *out = NULL;
    *out_count = 0;
    enum mly_err rc = MLY_OK;
    if (source_count > 0 && ask->k > 0) rc = search(room, out, out_count, err);
    if (stats != NULL) *stats = room->stats;
    return rc;
}

enum mly_err mly_vindex_nearest_cell(struct mly_vindex_room *room,
                                     const struct mly_vindex_source *sources, size_t source_count,
                                     const struct mly_vindex_ask *ask, uint64_t *out,
                                     struct mly_error *err)
{
    size_t opened = 0;
    *out = 0;
    room->sources = sources;
    room->source_count = source_count;
    room->ask = ask;
    if (source_count == 0 || ask->k == 0) return MLY_OK;
    MLY_TRY(prepare(room, err));
    MLY_TRY(mly_vindex_rank(room, err));
    while (room->ranked_count == 0 && opened < room->group_count) {
        mly_vindex_rank_next(room->groups, room->group_count, opened, 1);
        mly_vindex_rank_group(room, opened++);
    }
    if (room->ranked_count == 0) return MLY_OK;
    mly_vindex_rank_next(room->ranked, room->ranked_count, 0, 1);
    *out = (uint64_t)room->ranked[0].source_i << 32 | room->ranked[0].cell_i;
    return MLY_OK;
}
