/* The scratch of a search, and what its steps share. */
#ifndef MLY_INDEX_VINDEX_ROOM_H
#define MLY_INDEX_VINDEX_ROOM_H

#include "index/vindex_int.h"

#include <string.h>

/* A block of a source, as the search sees it; bitmaps begin at its first row. */
struct vindex_view {
    const struct mly_vindex_part *part; /* NULL: not to be found */
    const uint8_t *dead, *allowed;
    const uint8_t *passing; /* where rows are selected: those of them that are not dead */
    uint32_t file_i, first_row;
};

/* A cell among those of all sources; the greater score comes first. */
struct vindex_ranked {
    float score; /* of the order in which they are read */
    float base;  /* centroid . query */
    uint32_t source_i, cell_i;
};

/* A row that may be one of the nearest: score is an estimate, then of its record, then its own. */
struct vindex_candidate {
    float score;
    uint32_t source_i, slot;
};

/* Of the nearest so many are followed while cells are read. */
#define VINDEX_NEAREST_MAX ((size_t)128)

/* What the sources need in turn: views of source i begin at first_views[i]. */
struct mly_vindex_room {
    const struct mly_env *env;
    struct mly_mem *mem;
    struct mly_kern_rotation rotation;
    /* each grows as needed */
    float *turned;   /* f32[width] */
    uint8_t *bytes;  /* u8[width]: the query for the centroids */
    uint8_t *tables; /* for the codes */
    size_t width_room;
    float *products; /* f32: of the groups of one source */
    size_t product_room;
    struct vindex_ranked *groups; /* cell_i is a panel of cells */
    size_t group_room, group_count;
    struct vindex_ranked *ranked; /* the cells of the groups that were opened */
    size_t ranked_room, ranked_count;
    struct vindex_view *views;
    size_t view_room;
    size_t *first_views;
    size_t source_room;
    struct vindex_candidate *pool;
    size_t pool_room, pool_count;
    struct mly_match *matches;
    size_t match_room;
    uint64_t *passing; /* of views whose bits had to be made */
    size_t passing_room;
    const uint8_t **bits; /* as views[].passing, for quick looks */
    size_t bits_room;
    uint16_t *masks[2]; /* u16[blocks]: which codes of a cell pass; of this one and the next */
    size_t mask_room[2];
    /* of this search */
    const struct mly_vindex_source *sources;
    size_t source_count;
    const struct mly_vindex_ask *ask;
    enum mly_vindex_metric metric;
    struct mly_kern_code_query query;
    float query_length, bytes_scale, bytes_low;
    size_t pool_wanted; /* what the pool is cut back to */
    bool is_cold;       /* something came from disk: everything else is asked for at once */
    size_t scan_end;    /* of ranked: cells before it are going to be read */
    float floor;        /* estimates at or below it are of no use */
    /* The best estimates of different rows, descending: the nearest as far as is known. */
    struct vindex_candidate nearest[VINDEX_NEAREST_MAX];
    size_t nearest_count, nearest_wanted;
    uint64_t vector_count;
    /* where rows are selected */
    bool is_selected, is_sifting; /* sifting: row numbers are looked at before codes */
    uint64_t pass_count;          /* rows that pass */
    float passed;                 /* codes of such rows that were read */
    float pairs, pairs_most;      /* of codes of a cell, one of which passes: both do; all */
    size_t sifted_i;              /* of ranked: masks are there */
    struct mly_vindex_stats stats;
};

/* Where a query's nearest cell (of the nearest group) is: those with near numbers read much the
 * same. */
MLY_MUST_USE enum mly_err mly_vindex_nearest_cell(struct mly_vindex_room *room,
                                                  const struct mly_vindex_source *sources,
                                                  size_t source_count,
                                                  const struct mly_vindex_ask *ask, uint64_t *out,
                                                  struct mly_error *err);

/* How far a search looks. */
struct vindex_effort {
    size_t probes, probes_min, pool;
    float gap;
};
struct vindex_effort mly_vindex_effort(const struct mly_vindex_ask *ask, uint64_t vector_count,
                                       size_t cell_count);

/* step: 0 to MLY_VINDEX_STEP_MAX, which is everything. */
void mly_vindex_strengthen(struct vindex_effort *effort, uint32_t step, size_t cell_count);

/* Scores the groups of all sources. */
MLY_MUST_USE enum mly_err mly_vindex_rank(struct mly_vindex_room *room, struct mly_error *err);
/* Opens groups until wanted cells are ranked, with some to choose from; all of them where more than
 * the first cells are wanted, as then none may be left out. *opened: how many are. */
void mly_vindex_open_groups(struct mly_vindex_room *room, size_t wanted, bool is_first,
                            size_t *opened);
/* Adds the cells of a group to room->ranked. */
void mly_vindex_rank_group(struct mly_vindex_room *room, size_t group_i);
/* Puts the items whose score is at least least before the others; how many they are. */
size_t mly_vindex_rank_above(struct vindex_ranked *items, size_t count, float least);
/* Puts the best wanted of the count items from start on in order behind start. */
void mly_vindex_rank_next(struct vindex_ranked *items, size_t count, size_t start, size_t wanted);
static inline bool mly_vindex_cell_was_read(const struct mly_vindex_room *room, size_t ranked_i)
{
    const struct vindex_ranked *ranked = &room->ranked[ranked_i];
    const struct mly_vindex *segment = room->sources[ranked->source_i].segment;
    return atomic_load_explicit(&segment->checked[ranked->cell_i], memory_order_relaxed) != 0;
}
/* Asks the disk for ranked cells from first on up to scan_end. */
void mly_vindex_scan_soon(struct mly_vindex_room *room, size_t first);
/* Seconds in which nothing is read from disk: what takes longer did. */
#define VINDEX_WARM_SECONDS 60e-6
/* Reads a cell's codes into the pool. */
MLY_MUST_USE enum mly_err mly_vindex_scan(struct mly_vindex_room *room, size_t ranked_i,
                                          struct mly_error *err);
/* ---- selections: vindex_select.c, vindex_sift.c ---- */

/* Finds out which rows pass. */
MLY_MUST_USE enum mly_err mly_vindex_select(struct mly_vindex_room *room, struct mly_error *err);
/* Is it quicker to look at the records of all that pass? */
bool mly_vindex_is_few(const struct mly_vindex_room *room, const struct vindex_effort *effort,
                       size_t cell_count);
/* Puts all that pass into the pool. */
MLY_MUST_USE enum mly_err mly_vindex_take_all(struct mly_vindex_room *room, struct mly_error *err);
/* Cells until the nearest of those that pass are found, about. */
float mly_vindex_cells_until(const struct mly_vindex_room *room, const struct vindex_effort *effort,
                             size_t cell_count);
/* Else: reads about so many cells, until the nearest of them are found, into the pool. */
MLY_MUST_USE enum mly_err mly_vindex_scan_selected(struct mly_vindex_room *room,
                                                   const struct vindex_effort *effort,
                                                   size_t cell_count, float cells,
                                                   struct mly_error *err);
/* Which codes of a ranked cell pass, u16 for each block; looks at the next cell, too. */
MLY_MUST_USE enum mly_err mly_vindex_sift(struct mly_vindex_room *room, size_t ranked_i,
                                          const uint16_t **masks, struct mly_error *err);
static inline float vindex_share(const struct mly_vindex_room *room)
{
    return room->pass_count < room->vector_count
               ? (float)room->pass_count / (float)room->vector_count
               : 1;
}
/* Not the compiler's: without the processor's instruction, which not all have, that is a call. */
static inline uint32_t vindex_count_bits(uint64_t word)
{
    if (word == 0) return 0;
    word -= word >> 1 & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)(word * UINT64_C(0x0101010101010101) >> 56);
}

/* ---- the pool ---- */

/* Leaves one candidate of each row, the best, ordered by source and slot. */
void mly_vindex_pool_unite(struct mly_vindex_room *room);
/* Leaves the best pool_wanted; floor rises to the least of them. */
void mly_vindex_pool_cut(struct mly_vindex_room *room);
/* Orders the pool by score, then by place, so that it is always the same. */
void mly_vindex_pool_order(struct mly_vindex_room *room);
/* Gives the candidates the scores of their records, then those that may be among the best k their
 * own; the pool is ordered by these then. */
MLY_MUST_USE enum mly_err mly_vindex_rescore(struct mly_vindex_room *room, struct mly_error *err);

/* Puts items in order, in place: Shell's sort with Ciura's gaps (2001), each about 2.25 times the
 * next. For the hundreds that a search sorts it takes a third of qsort's time, as the order is
 * compiled in. before(a, b): a comes first, and never before(a, a). */
typedef bool (*mly_vindex_before_fn)(const void *a, const void *b);
#define VINDEX_SORT_BYTES_MAX ((size_t)16)
static inline __attribute__((always_inline)) void
vindex_sort(void *items, size_t count, size_t item_bytes, mly_vindex_before_fn before)
{
    static const size_t gaps[] = {1,    4,    10,   23,    57,    132,    301,    701,
                                  1750, 3937, 8858, 19930, 44842, 100894, 227011, 510774};
    uint8_t *bytes = items, kept[VINDEX_SORT_BYTES_MAX];
    for (size_t level = sizeof(gaps) / sizeof(gaps[0]); level-- > 0;) {
        size_t gap = gaps[level];
        for (size_t i = gap; i < count; i++) {
            size_t at = i;
            memcpy(kept, bytes + i * item_bytes, item_bytes);
            for (; at >= gap && before(kept, bytes + (at - gap) * item_bytes); at -= gap)
                memcpy(bytes + at * item_bytes, bytes + (at - gap) * item_bytes, item_bytes);
            memcpy(bytes + at * item_bytes, kept, item_bytes);
        }
    }
}

/* Puts the first wanted of them, in any order, before all others: Hoare's selection. */
static inline __attribute__((always_inline)) void vindex_part(void *items, size_t count,
                                                              size_t item_bytes, size_t wanted,
                                                              mly_vindex_before_fn before)
{
    uint8_t *bytes = items, kept[VINDEX_SORT_BYTES_MAX];
    size_t low = 0, high = count;
    while (high - low > 1) {
        uint8_t *last = bytes + (high - 1) * item_bytes, *at = bytes + low * item_bytes;
        uint8_t *middle = bytes + (low + (high - low) / 2) * item_bytes;
        memcpy(kept, middle, item_bytes);
        memcpy(middle, last, item_bytes);
        memcpy(last, kept, item_bytes);
        for (uint8_t *item = at; item < last; item += item_bytes) {
            if (!before(item, last)) continue;
            memcpy(kept, item, item_bytes);
            memcpy(item, at, item_bytes);
            memcpy(at, kept, item_bytes);
            at += item_bytes;
        }
        memcpy(kept, at, item_bytes);
        memcpy(at, last, item_bytes);
        memcpy(last, kept, item_bytes);
        size_t place = (size_t)(at - bytes) / item_bytes;
        if (wanted <= place) {
            high = place;
        } else {
            low = place + 1;
        }
    }
}

/* Room for count items of item_bytes; what was in it may be lost. */
MLY_MUST_USE enum mly_err mly_vindex_grow(struct mly_vindex_room *room, void **items,
                                          size_t *capacity, size_t count, size_t item_bytes,
                                          struct mly_error *err);

#endif
