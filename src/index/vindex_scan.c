/* The first look: which cells, and which codes in them.
 *
 * In: a turned query. Out: a pool of candidates. Cells of all sources compete in one ranking, by
 * the angle to their centroid (cosine, dot) or by its distance. A code whose estimate is above the
 * floor is looked up in the bitmaps; where the pool is full its worse half is dropped, and the
 * floor rises. */
#include "index/vindex_room.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Blocks that are scanned at a time, and how far ahead of them memory is asked for: cells are short
 * and lie anywhere, so that the processor does not find out by itself what comes next (a third less
 * time where they come from memory). It goes to the second level: the first has too few places for
 * lines that are under way, and then everything waits (a fifth less time again). */
#define SCAN_BLOCKS 4
#define AHEAD_BLOCKS 16

/* ---- cells ---- */

/* As cells.h has it: the nearest has the greatest. Comparable among the tables of one metric. */
static float rank_of(const struct mly_vindex_room *room, const struct mly_cells_level *level,
                     size_t place, float product)
{
    if (room->metric == MLY_VINDEX_COSINE) return product * level->ranks[place];
    return product - 0.5f * level->squares[place];
}

static void multiply(const struct mly_vindex_room *room, const struct mly_vindex *segment,
                     const struct mly_cells_level *level, size_t first_panel, size_t panel_count,
                     float *out)
{
    size_t first = first_panel * MLY_CELLS_PANEL, width = segment->head.width;
    struct mly_kern_linear linear = {level->panels + first * width,
                                     level->scales + first,
                                     level->sums + first,
                                     level->biases + first,
                                     width,
                                     panel_count * MLY_CELLS_PANEL};
    struct mly_kern_rows rows = {room->bytes, &room->bytes_scale, &room->bytes_low, 1, width};
    segment->kern->linear_u8s8_f32(&rows, &linear, out, linear.out);
}

/* Panels of cells become entries of ranked that stand for all cells in them. */
static void rank_groups(struct mly_vindex_room *room, uint32_t source_i)
{
    const struct mly_vindex *segment = room->sources[source_i].segment;
    const struct mly_cells_level *level = &segment->centroids.groups;
    multiply(room, segment, level, 0, level->panel_count, room->products);
    for (uint32_t i = 0; i < segment->centroids.cells.panel_count; i++) {
        float score = rank_of(room, level, i, room->products[i]);
        room->groups[room->group_count++] = (struct vindex_ranked){score, 0, source_i, i};
    }
}

void mly_vindex_rank_group(struct mly_vindex_room *room, size_t group_i)
{
    const struct vindex_ranked *group = &room->groups[group_i];
    const struct mly_vindex *segment = room->sources[group->source_i].segment;
    const struct mly_cells_level *level = &segment->centroids.cells;
    float products[MLY_CELLS_PANEL];
    multiply(room, segment, level, group->cell_i, 1, products);
    float inverse = room->metric == MLY_VINDEX_COSINE && room->query_length > 0
                        ? 1.0f / room->query_length
                        : 1.0f;
    for (uint32_t i = 0; i < MLY_CELLS_PANEL; i++) {
        uint32_t cell_i = group->cell_i * (uint32_t)MLY_CELLS_PANEL + i;
        if (segment->cells[cell_i].count == 0) continue;
        float score = rank_of(room, level, cell_i, products[i]) * inverse;
        room->ranked[room->ranked_count++] =
            (struct vindex_ranked){score, products[i], group->source_i, cell_i};
    }
}

enum mly_err mly_vindex_rank(struct mly_vindex_room *room, struct mly_error *err)
{
    const struct mly_vindex *first = room->sources[0].segment;
    size_t width = first->head.width, groups = 0, products = 0;
    for (size_t i = 0; i < room->source_count; i++) {
        const struct mly_cells *cells = &room->sources[i].segment->centroids;
        groups += cells->cells.panel_count;
        if (products < cells->groups.panel_count) products = cells->groups.panel_count;
    }
    void *blocks[] = {room->groups, room->ranked, room->products};
    MLY_TRY(
        mly_vindex_grow(room, &blocks[0], &room->group_room, groups, sizeof(room->groups[0]), err));
    room->groups = blocks[0];
    MLY_TRY(mly_vindex_grow(room, &blocks[1], &room->ranked_room, groups * MLY_CELLS_PANEL,
                            sizeof(room->ranked[0]), err));
    room->ranked = blocks[1];
    MLY_TRY(mly_vindex_grow(room, &blocks[2], &room->product_room, products * MLY_CELLS_PANEL,
                            sizeof(float), err));
    room->products = blocks[2];
    room->group_count = 0;
    room->ranked_count = 0;
    first->kern->quantize_f32_u8(room->turned, NULL, width, room->bytes, &room->bytes_scale,
                                 &room->bytes_low);
    for (uint32_t i = 0; i < room->source_count; i++)
        rank_groups(room, i);
    return MLY_OK;
}

static bool ranks_before(const void *one, const void *other)
{
    const struct vindex_ranked *a = one, *b = other;
    if (a->score > b->score || a->score < b->score) return a->score > b->score;
    if (a->source_i != b->source_i) return a->source_i < b->source_i;
    return a->cell_i < b->cell_i;
}

static void swap_ranked(struct vindex_ranked *a, struct vindex_ranked *b)
{
    struct vindex_ranked kept = *a;
    *a = *b;
    *b = kept;
}

size_t mly_vindex_rank_above(struct vindex_ranked *items, size_t count, float least)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (items[i].score >= least) swap_ranked(&items[i], &items[kept++]);
    }
    return kept;
}

void mly_vindex_rank_next(struct vindex_ranked *items, size_t count, size_t start, size_t wanted)
{
    if (wanted > count - start) wanted = count - start;
    vindex_part(items + start, count - start, sizeof(items[0]), wanted, ranks_before);
    vindex_sort(items + start, wanted, sizeof(items[0]), ranks_before);
}

/* ---- the pool ---- */

static bool is_better(const void *one, const void *other)
{
    const struct vindex_candidate *a = one, *b = other;
    if (a->score > b->score || a->score < b->score) return a->score > b->score;
    if (a->source_i != b->source_i) return a->source_i < b->source_i;
    return a->slot < b->slot;
}

void mly_vindex_pool_order(struct mly_vindex_room *room)
{
    vindex_sort(room->pool, room->pool_count, sizeof(room->pool[0]), is_better);
}

/* By place, the best estimate of a row first. */
static bool is_before(const void *one, const void *other)
{
    const struct vindex_candidate *a = one, *b = other;
    if (a->source_i != b->source_i) return a->source_i < b->source_i;
    if (a->slot != b->slot) return a->slot < b->slot;
    return a->score > b->score;
}

void mly_vindex_pool_unite(struct mly_vindex_room *room)
{
    size_t kept = 0;
    vindex_sort(room->pool, room->pool_count, sizeof(room->pool[0]), is_before);
    for (size_t i = 0; i < room->pool_count; i++) {
        if (kept > 0 && room->pool[i].slot == room->pool[kept - 1].slot &&
            room->pool[i].source_i == room->pool[kept - 1].source_i) {
            continue;
        }
        room->pool[kept++] = room->pool[i];
    }
    room->pool_count = kept;
}

void mly_vindex_pool_cut(struct mly_vindex_room *room)
{
    struct vindex_candidate *items = room->pool;
    const size_t wanted = room->pool_wanted;
    if (room->pool_count <= wanted) return;
    vindex_part(items, room->pool_count, sizeof(items[0]), wanted, is_better);
    room->pool_count = wanted;
    room->floor = items[0].score;
    for (size_t i = 1; i < wanted; i++) {
        if (items[i].score < room->floor) room->floor = items[i].score;
    }
}

/* ---- codes ---- */

static bool may_be_found(const struct vindex_view *view, uint32_t row)
{
    if (view->passing != NULL) return (view->passing[row / 8] >> (row % 8) & 1) != 0;
    if (view->part == NULL) return false;
    if (view->dead != NULL && (view->dead[row / 8] >> (row % 8) & 1) != 0) return false;
    return view->allowed == NULL || (view->allowed[row / 8] >> (row % 8) & 1) != 0;
}

/* A row is once among them, however many cells it stands in. */
static void follow_nearest(struct mly_vindex_room *room, const struct vindex_candidate *found)
{
    struct vindex_candidate *nearest = room->nearest;
    size_t at = room->nearest_count;
    for (size_t i = 0; i < room->nearest_count; i++) {
        if (nearest[i].slot != found->slot || nearest[i].source_i != found->source_i) continue;
        if (nearest[i].score >= found->score) return;
        at = i; /* the better estimate takes its place, further up */
        break;
    }
    if (at == room->nearest_wanted) at--;
    if (at == room->nearest_count) room->nearest_count++;
    for (; at > 0 && nearest[at - 1].score < found->score; at--)
        nearest[at] = nearest[at - 1];
    nearest[at] = *found;
}

static void take_hits(struct mly_vindex_room *room, uint32_t source_i, const uint8_t *slots,
                      uint32_t hits, const float *estimates, float unit)
{
    const struct vindex_view *views = room->views + room->first_views[source_i];
    while (hits != 0) {
        size_t lane = (size_t)__builtin_ctz(hits);
        hits &= hits - 1;
        float score = estimates[lane] * unit;
        uint32_t slot;
        if (!(score > room->floor)) continue;
        memcpy(&slot, slots + 4 * lane, 4);
        if (slot == VINDEX_NO_SLOT || !may_be_found(&views[slot >> 16], slot & 0xFFFF)) continue;
        if (room->pool_count == room->pool_room) {
            mly_vindex_pool_cut(room);
            if (!(score > room->floor)) continue;
        }
        struct vindex_candidate found = {score, source_i, slot};
        room->pool[room->pool_count++] = found;
        if (room->nearest_count < room->nearest_wanted ||
            score > room->nearest[room->nearest_wanted - 1].score) {
            follow_nearest(room, &found);
        }
    }
}

static size_t blocks_of(const struct mly_vindex *segment, uint32_t cell_i)
{
    size_t count = segment->cells[cell_i].count;
    return (count + MLY_KERN_BLOCK_CODES - 1) / MLY_KERN_BLOCK_CODES;
}

/* Where reading goes on: cell after cell in their order. */
struct ahead {
    const struct mly_vindex_room *room;
    size_t ranked_i, block_i;
};

static void fetch_ahead(struct ahead *ahead, size_t blocks)
{
    const struct mly_vindex_room *room = ahead->room;
    while (blocks > 0 && ahead->ranked_i < room->scan_end) {
        const struct vindex_ranked *ranked = &room->ranked[ahead->ranked_i];
        const struct mly_vindex *segment = room->sources[ranked->source_i].segment;
        size_t stride = vindex_stride(segment->head.width);
        size_t left = blocks_of(segment, ranked->cell_i) - ahead->block_i;
        size_t count = left < blocks ? left : blocks;
        const uint8_t *at =
            segment->map.data + segment->cells[ranked->cell_i].at + ahead->block_i * stride;
        for (size_t i = 0; i < count * stride; i += 64)
            __builtin_prefetch(at + i, 0, 2);
        blocks -= count;
        ahead->block_i += count;
        if (count < left) return;
        ahead->block_i = 0;
        ahead->ranked_i++;
    }
}

void mly_vindex_scan_soon(struct mly_vindex_room *room, size_t first)
{
    room->is_cold = true;
    for (size_t i = first; i < room->scan_end; i++) {
        const struct mly_vindex *segment = room->sources[room->ranked[i].source_i].segment;
        const struct vindex_cell *cell = &segment->cells[room->ranked[i].cell_i];
        mly_map_advise(&segment->map, (size_t)cell->at,
                       (size_t)vindex_cell_bytes(segment->head.width, cell->count),
                       MLY_ADVICE_SOON);
    }
}

static size_t count_wanted(const uint16_t *masks, size_t blocks)
{
    size_t count = 0;
    for (size_t b = 0; b < blocks; b++)
        count += masks[b] != 0 ? 1 : 0;
    return count;
}

/* read: blocks whose codes were read; of the others the row numbers were. */
static void count_scan(struct mly_vindex_room *room, size_t codes, size_t block_count, size_t read,
                       size_t stride)
{
    room->stats.cells_read++;
    room->stats.codes_read += read == block_count ? codes : read * MLY_KERN_BLOCK_CODES;
    room->stats.bytes_read +=
        read * stride + (block_count - read) * MLY_KERN_BLOCK_CODES * sizeof(uint32_t);
    if (room->is_selected && !room->is_sifting) {
        room->passed += (float)codes * (float)room->pass_count / (float)room->vector_count;
    }
}

enum mly_err mly_vindex_scan(struct mly_vindex_room *room, size_t ranked_i, struct mly_error *err)
{
    const struct vindex_ranked *ranked = &room->ranked[ranked_i];
    struct mly_vindex *segment = room->sources[ranked->source_i].segment;
    size_t width = segment->head.width, stride = vindex_stride(width), read = 0;
    float unit = segment->head.unit, estimates[SCAN_BLOCKS * MLY_KERN_BLOCK_CODES];
    uint16_t hits[SCAN_BLOCKS];
    const uint16_t *masks = NULL;
    const uint8_t *bytes;
    MLY_TRY(mly_vindex_cell(segment, ranked->cell_i, &bytes, err));
    if (room->is_sifting) MLY_TRY(mly_vindex_sift(room, ranked_i, &masks, err));
    size_t block_count = blocks_of(segment, ranked->cell_i);
    struct ahead ahead = {room, ranked_i, AHEAD_BLOCKS};
    if (block_count <= AHEAD_BLOCKS) ahead = (struct ahead){room, ranked_i + 1, 0};
    struct mly_kern_code_query query = room->query;
    query.step /= unit;
    for (size_t first = 0; first < block_count; first += SCAN_BLOCKS) {
        size_t blocks = block_count - first < SCAN_BLOCKS ? block_count - first : SCAN_BLOCKS;
        const uint16_t *wanted = masks == NULL ? NULL : masks + first;
        size_t some = wanted == NULL ? blocks : count_wanted(wanted, blocks);
        const uint8_t *at = bytes + first * stride;
        if (masks == NULL) fetch_ahead(&ahead, blocks);
        if (some == 0) continue;
        read += some;
        segment->kern->scan_codes(&query, at, stride, blocks, ranked->base / unit / unit,
                                  room->floor / unit / unit, wanted, estimates, hits);
        for (size_t b = 0; b < blocks; b++) {
            if (hits[b] == 0) continue;
            take_hits(room, ranked->source_i, at + b * stride + MLY_KERN_BLOCK_BYTES(width),
                      hits[b], estimates + b * MLY_KERN_BLOCK_CODES, unit * unit);
        }
    }
    count_scan(room, segment->cells[ranked->cell_i].count, block_count, read, stride);
    return MLY_OK;
}
