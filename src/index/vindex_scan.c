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

/* Blocks whose estimates stay in the nearest cache. */
#define SCAN_BLOCKS 64

/* ---- cells ---- */

static enum mly_err rank_source(struct mly_vindex_room *room, uint32_t source_i,
                                const struct mly_kern_rows *rows, struct mly_error *err)
{
    const struct mly_vindex *segment = room->sources[source_i].segment;
    void *products = room->products;
    MLY_TRY(mly_vindex_grow(room, &products, &room->product_room, segment->centroids.out,
                            sizeof(float), err));
    room->products = products;
    segment->kern->linear_u8s8_f32(rows, &segment->centroids, room->products,
                                   segment->centroids.out);
    float inverse = room->query_length > 0 ? 1.0f / room->query_length : 0;
    struct vindex_ranked *ranked = room->ranked + room->ranked_count;
    for (uint32_t i = 0; i < segment->head.cell_count; i++) {
        float base = room->products[i], score = base;
        if (segment->cells[i].count == 0) continue;
        if (room->metric == MLY_VINDEX_L2) score -= 0.5f * segment->squares[i];
        if (room->metric == MLY_VINDEX_COSINE) score *= segment->ranks[i] * inverse;
        *ranked++ = (struct vindex_ranked){score, base, source_i, i};
    }
    room->ranked_count = (size_t)(ranked - room->ranked);
    return MLY_OK;
}

enum mly_err mly_vindex_rank(struct mly_vindex_room *room, struct mly_error *err)
{
    const struct mly_vindex *first = room->sources[0].segment;
    size_t width = first->head.width, cells = 0;
    float scale, low;
    for (size_t i = 0; i < room->source_count; i++)
        cells += room->sources[i].segment->head.cell_count;
    void *ranked = room->ranked;
    MLY_TRY(
        mly_vindex_grow(room, &ranked, &room->ranked_room, cells, sizeof(room->ranked[0]), err));
    room->ranked = ranked;
    room->ranked_count = 0;
    first->kern->quantize_f32_u8(room->turned, NULL, width, room->bytes, &scale, &low);
    struct mly_kern_rows rows = {room->bytes, &scale, &low, 1, width};
    for (uint32_t i = 0; i < room->source_count; i++) {
        MLY_TRY(rank_source(room, i, &rows, err));
    }
    room->stats.cell_count = room->ranked_count;
    return MLY_OK;
}

static bool ranks_before(const struct vindex_ranked *a, const struct vindex_ranked *b)
{
    if (a->score > b->score || a->score < b->score) return a->score > b->score;
    if (a->source_i != b->source_i) return a->source_i < b->source_i;
    return a->cell_i < b->cell_i;
}

static int compare_ranked(const void *a, const void *b)
{
    return ranks_before(a, b) ? -1 : ranks_before(b, a) ? 1 : 0;
}

static void swap_ranked(struct vindex_ranked *a, struct vindex_ranked *b)
{
    struct vindex_ranked kept = *a;
    *a = *b;
    *b = kept;
}

void mly_vindex_rank_next(struct mly_vindex_room *room, size_t start, size_t wanted)
{
    struct vindex_ranked *items = room->ranked;
    size_t low = start, high = room->ranked_count;
    if (wanted > high - start) wanted = high - start;
    /* Hoare's selection: the best wanted come before all others. */
    while (high - low > 1) {
        size_t at = low;
        swap_ranked(&items[low + (high - low) / 2], &items[high - 1]);
        for (size_t i = low; i < high - 1; i++) {
            if (ranks_before(&items[i], &items[high - 1])) swap_ranked(&items[i], &items[at++]);
        }
        swap_ranked(&items[at], &items[high - 1]);
        if (start + wanted <= at) {
            high = at;
        } else {
            low = at + 1;
        }
    }
    qsort(items + start, wanted, sizeof(items[0]), compare_ranked);
}

/* ---- the pool ---- */

static bool is_better(const struct vindex_candidate *a, const struct vindex_candidate *b)
{
    if (a->score > b->score || a->score < b->score) return a->score > b->score;
    if (a->source_i != b->source_i) return a->source_i < b->source_i;
    return a->slot < b->slot;
}

int mly_vindex_compare_best(const void *a, const void *b)
{
    return is_better(a, b) ? -1 : is_better(b, a) ? 1 : 0;
}

static int compare_place(const void *a, const void *b)
{
    const struct vindex_candidate *x = a, *y = b;
    if (x->source_i != y->source_i) return x->source_i < y->source_i ? -1 : 1;
    if (x->slot != y->slot) return x->slot < y->slot ? -1 : 1;
    return (x->score < y->score) - (x->score > y->score);
}

void mly_vindex_pool_unite(struct mly_vindex_room *room)
{
    size_t kept = 0;
    qsort(room->pool, room->pool_count, sizeof(room->pool[0]), compare_place);
    for (size_t i = 0; i < room->pool_count; i++) {
        if (kept > 0 && room->pool[i].slot == room->pool[kept - 1].slot &&
            room->pool[i].source_i == room->pool[kept - 1].source_i) {
            continue;
        }
        room->pool[kept++] = room->pool[i];
    }
    room->pool_count = kept;
}

static void swap_candidates(struct vindex_candidate *a, struct vindex_candidate *b)
{
    struct vindex_candidate kept = *a;
    *a = *b;
    *b = kept;
}

void mly_vindex_pool_cut(struct mly_vindex_room *room)
{
    struct vindex_candidate *items = room->pool;
    size_t low = 0, high = room->pool_count, wanted = room->pool_wanted;
    if (high <= wanted) return;
    while (high - low > 1) {
        size_t at = low;
        swap_candidates(&items[low + (high - low) / 2], &items[high - 1]);
        for (size_t i = low; i < high - 1; i++) {
            if (is_better(&items[i], &items[high - 1])) swap_candidates(&items[i], &items[at++]);
        }
        swap_candidates(&items[at], &items[high - 1]);
        if (wanted <= at) {
            high = at;
        } else {
            low = at + 1;
        }
    }
    room->pool_count = wanted;
    room->floor = items[0].score;
    for (size_t i = 1; i < wanted; i++) {
        if (items[i].score < room->floor) room->floor = items[i].score;
    }
}

/* ---- codes ---- */

static bool may_be_found(const struct vindex_view *view, uint32_t row)
{
    if (view->part == NULL) return false;
    if (view->dead != NULL && (view->dead[row / 8] >> (row % 8) & 1) != 0) return false;
    return view->allowed == NULL || (view->allowed[row / 8] >> (row % 8) & 1) != 0;
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
        if (!may_be_found(&views[slot >> 16], slot & 0xFFFF)) continue;
        if (room->pool_count == room->pool_room) {
            mly_vindex_pool_cut(room);
            if (!(score > room->floor)) continue;
        }
        room->pool[room->pool_count++] = (struct vindex_candidate){score, source_i, slot};
    }
}

enum mly_err mly_vindex_scan(struct mly_vindex_room *room, size_t ranked_i, struct mly_error *err)
{
    const struct vindex_ranked *ranked = &room->ranked[ranked_i];
    struct mly_vindex *segment = room->sources[ranked->source_i].segment;
    size_t width = segment->head.width, stride = vindex_stride(width);
    float unit = segment->head.unit, estimates[SCAN_BLOCKS * MLY_KERN_BLOCK_CODES];
    uint16_t hits[SCAN_BLOCKS];
    const uint8_t *bytes;
    MLY_TRY(mly_vindex_cell(segment, ranked->cell_i, &bytes, err));
    size_t count = segment->cells[ranked->cell_i].count;
    size_t block_count = (count + MLY_KERN_BLOCK_CODES - 1) / MLY_KERN_BLOCK_CODES;
    struct mly_kern_code_query query = room->query;
    query.step /= unit;
    for (size_t first = 0; first < block_count; first += SCAN_BLOCKS) {
        size_t blocks = block_count - first < SCAN_BLOCKS ? block_count - first : SCAN_BLOCKS;
        const uint8_t *at = bytes + first * stride;
        segment->kern->scan_codes(&query, at, stride, blocks, ranked->base / unit / unit,
                                  room->floor / unit / unit, NULL, estimates, hits);
        for (size_t b = 0; b < blocks; b++) {
            if (hits[b] == 0) continue;
            take_hits(room, ranked->source_i, at + b * stride + MLY_KERN_BLOCK_BYTES(width),
                      hits[b], estimates + b * MLY_KERN_BLOCK_CODES, unit * unit);
        }
    }
    room->stats.cells_read++;
    room->stats.codes_read += count;
    room->stats.bytes_read += block_count * stride;
    return MLY_OK;
}
