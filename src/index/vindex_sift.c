/* Selections of many rows: the cells where the nearest of them are.
 *
 * In: which rows pass. Out: the pool. A block of codes is read where one of them passes, which its
 * row numbers tell; those of the next cell are looked at while the codes of this one are on their
 * way. No more cells are read when they are too far below the nearest rows found. */
#include "index/vindex_room.h"

#include <math.h>
#include <string.h>

/* How far that is depends on the effort's gap, less where few of the rows around those found pass
 * (per tenth of them); cells are more where the best is far above the nearest rows, the weight is
 * that of the rows that pass. */
#define GAP_PER_TENTH 0.05f
#define BEST_WEIGHT 0.38f
/* Estimates so far below the k-th best one may be better than it; of 384 dimensions. */
#define POOL_DEPTH 0.065f
/* A pool may be so much larger for it. */
#define POOL_FACTOR 2
/* Of a larger part of the rows so many blocks have one that reading all of them is quicker than
 * looking at their row numbers before. */
#define SIFTED_SHARE 0.05f
/* Of a smaller part so few are found that a larger pool costs nothing. */
#define POOLED_SHARE 0.25f

/* ---- which codes ---- */

/* Bit l: the code in place l of the block passes. count: places with a code. */
static uint16_t sift_block(const uint8_t *const *bits, const uint8_t *numbers, size_t count)
{
    uint32_t slots[MLY_KERN_BLOCK_CODES], mask = 0;
    memcpy(slots, numbers, sizeof(slots));
    for (size_t lane = count; lane-- > 0;) {
        uint32_t slot = slots[lane];
        mask = mask << 1 | ((uint32_t)bits[slot >> 16][(slot & 0xFFFF) >> 3] >> (slot & 7) & 1);
    }
    return (uint16_t)mask;
}

/* Row numbers of a ranked cell; NULL where there is none such. */
static const uint8_t *numbers_of(const struct mly_vindex_room *room, size_t ranked_i,
                                 size_t *blocks)
{
    *blocks = 0;
    if (ranked_i >= room->scan_end) return NULL;
    const struct vindex_ranked *ranked = &room->ranked[ranked_i];
    const struct mly_vindex *segment = room->sources[ranked->source_i].segment;
    const struct vindex_cell *cell = &segment->cells[ranked->cell_i];
    *blocks = (cell->count + MLY_KERN_BLOCK_CODES - 1) / MLY_KERN_BLOCK_CODES;
    return segment->map.data + cell->at + MLY_KERN_BLOCK_BYTES(segment->head.width);
}

static enum mly_err sift(struct mly_vindex_room *room, size_t ranked_i, struct mly_error *err)
{
    const struct vindex_ranked *ranked = &room->ranked[ranked_i];
    struct mly_vindex *segment = room->sources[ranked->source_i].segment;
    const uint8_t *const *bits = room->bits + room->first_views[ranked->source_i];
    size_t width = segment->head.width, stride = vindex_stride(width);
    size_t count = segment->cells[ranked->cell_i].count, turn = ranked_i % 2;
    size_t block_count, next_count;
    const uint8_t *at, *numbers = numbers_of(room, ranked_i, &block_count);
    const uint8_t *next = numbers_of(room, ranked_i + 1, &next_count);
    uint32_t passed = 0;
    MLY_TRY(mly_vindex_cell(segment, ranked->cell_i, &at, err));
    void *masks = room->masks[turn];
    MLY_TRY(mly_vindex_grow(room, &masks, &room->mask_room[turn], block_count,
                            sizeof(room->masks[0][0]), err));
    room->masks[turn] = masks;
    room->sifted_i = ranked_i;
    for (size_t b = 0; b < block_count; b++, count -= MLY_KERN_BLOCK_CODES) {
        size_t places = count < MLY_KERN_BLOCK_CODES ? count : MLY_KERN_BLOCK_CODES;
        if (b < next_count) __builtin_prefetch(next + b * stride, 0, 2);
        uint16_t mask = sift_block(bits, numbers + b * stride, places);
        room->masks[turn][b] = mask;
        if (mask == 0) continue;
        passed += vindex_count_bits(mask);
        for (size_t i = 0; i < MLY_KERN_BLOCK_BYTES(width); i += 64)
            __builtin_prefetch(at + b * stride + i, 0, 2);
    }
    for (size_t b = block_count; b < next_count; b++)
        __builtin_prefetch(next + b * stride, 0, 2);
    float codes = (float)segment->cells[ranked->cell_i].count;
    room->passed += (float)passed;
    if (passed > 1) room->pairs += (float)passed * (float)(passed - 1);
    room->pairs_most += (float)passed * (codes - 1);
    return MLY_OK;
}

enum mly_err mly_vindex_sift(struct mly_vindex_room *room, size_t ranked_i, const uint16_t **masks,
                             struct mly_error *err)
{
    if (room->sifted_i != ranked_i) MLY_TRY(sift(room, ranked_i, err));
    if (ranked_i + 1 < room->scan_end) MLY_TRY(sift(room, ranked_i + 1, err));
    *masks = room->masks[ranked_i % 2];
    return MLY_OK;
}

/* ---- which cells ---- */

/* How far to look: at more cells than most, which had more rows that pass, only where they are near
 * these. */
struct reach {
    size_t probes, probes_min, pool;
    size_t cells_most;
    float passed_most, gap;
};

static bool is_over(const struct mly_vindex_room *room, const struct reach *reach, size_t done)
{
    if (done < reach->probes_min || room->nearest_count < room->nearest_wanted) return false;
    if (room->floor == -INFINITY && room->pool_count < reach->pool) return false;
    if (done >= reach->cells_most && room->passed >= reach->passed_most) return true;
    if (room->metric != MLY_VINDEX_COSINE || !(room->query_length > 0)) return false;
    float near = room->nearest[room->nearest_wanted - 1].score / room->query_length;
    float share = vindex_share(room), around = share;
    if (room->pairs > share * room->pairs_most) around = room->pairs / room->pairs_most;
    float gap = reach->gap + GAP_PER_TENTH * log10f(around);
    float best = BEST_WEIGHT * share * (room->ranked[0].score - near);
    return room->ranked[done].score < near + best - (gap > 0 ? gap : 0);
}

/* Reads ranked cells from *done up to wanted; *over: that is enough. As for all rows: where one
 * comes from disk all others are asked for. */
static enum mly_err scan_up_to(struct mly_vindex_room *room, const struct reach *reach,
                               size_t wanted, size_t *done, bool *over, struct mly_error *err)
{
    double last = mly_clock_seconds(room->env);
    bool is_asked = *done < wanted && !mly_vindex_cell_was_read(room, *done);
    room->scan_end = wanted;
    if (is_asked) mly_vindex_scan_soon(room, *done);
    for (; *done < wanted; ++*done) {
        *over = is_over(room, reach, *done);
        if (*over) break;
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

static enum mly_err scan_cells(struct mly_vindex_room *room, const struct reach *reach,
                               struct mly_error *err)
{
    size_t done = 0, wanted = reach->probes, opened = 0;
    bool over = false;
    double start = mly_clock_seconds(room->env);
    for (;;) {
        if (opened < room->group_count) {
            mly_vindex_open_groups(room, wanted, done == 0, &opened);
        }
        if (done == room->ranked_count) break;
        if (wanted > room->ranked_count) wanted = room->ranked_count;
        mly_vindex_rank_next(room->ranked, room->ranked_count, done, wanted - done);
        double ranked = mly_clock_seconds(room->env);
        room->stats.rank_seconds += ranked - start;
        MLY_TRY(scan_up_to(room, reach, wanted, &done, &over, err));
        start = mly_clock_seconds(room->env);
        room->stats.scan_seconds += start - ranked;
        /* Rows that stand in several cells counted several times, so far. */
        if (room->floor == -INFINITY) mly_vindex_pool_unite(room);
        if (over && (room->floor > -INFINITY || room->pool_count >= reach->pool)) break;
        wanted = done + (done < 32 ? 32 : done);
    }
    return MLY_OK;
}

/* Leaves what a pool has, and as many as may be among the nearest besides. */
static void trim_pool(struct mly_vindex_room *room, size_t wanted)
{
    float width = (float)room->sources[0].segment->head.width;
    float depth = POOL_DEPTH * sqrtf(384 / width) * room->query_length;
    size_t last = room->ask->k < room->nearest_count ? room->ask->k : room->nearest_count;
    size_t deep = 0;
    for (size_t i = 0; last > 0 && i < room->pool_count; i++)
        deep += room->pool[i].score >= room->nearest[last - 1].score - depth ? 1 : 0;
    room->pool_wanted = deep > wanted ? deep : wanted;
    mly_vindex_pool_cut(room);
}

enum mly_err mly_vindex_scan_selected(struct mly_vindex_room *room,
                                      const struct vindex_effort *effort, size_t cell_count,
                                      float cells, struct mly_error *err)
{
    struct reach reach = {.probes = effort->probes,
                          .probes_min = effort->probes_min,
                          .pool = effort->pool,
                          .gap = effort->gap,
                          .cells_most = (size_t)cells};
    for (size_t i = 0; i < room->source_count; i++)
        reach.passed_most += (float)room->sources[i].segment->head.posting_count;
    reach.passed_most *= cells / (float)cell_count * vindex_share(room);
    /* About as many are read: they are ordered at once. */
    if (reach.probes < reach.cells_most * 2 / 5) reach.probes = reach.cells_most * 2 / 5;
    room->is_sifting = vindex_share(room) <= SIFTED_SHARE;
    if (vindex_share(room) <= POOLED_SHARE) room->pool_wanted = POOL_FACTOR * effort->pool;
    MLY_TRY(scan_cells(room, &reach, err));
    mly_vindex_pool_cut(room);
    mly_vindex_pool_unite(room);
    trim_pool(room, effort->pool);
    return MLY_OK;
}
