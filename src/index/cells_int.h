/* Private to the files of cells.h: levels made ready for ranks, and places in them. */
#ifndef MLY_INDEX_CELLS_INT_H
#define MLY_INDEX_CELLS_INT_H

#include "index/cells.h"

/* A level whose linear_u8s8_f32 gives ranks: (c . x) / |c|, or c . x - |c|^2 / 2. */
struct cells_ranker {
    const int8_t *panels; /* of the level */
    float *scales, *sums, *biases;
    size_t width, panel_count;
};

/* Floats for the arrays of a ranker. */
static inline size_t cells_ranker_floats(size_t panel_count)
{
    return 3 * panel_count * MLY_CELLS_PANEL;
}
/* floats: room for cells_ranker_floats(level->panel_count). Follows what is in level now. */
void mly_cells_rank_by(struct cells_ranker *ranker, const struct mly_cells_level *level,
                       size_t width, bool is_cosine, float *floats);
/* scores f32[rows->count][panel_count * 64] of the panels from panel_first on. */
void mly_cells_ranks(const struct mly_kern *kern, const struct cells_ranker *ranker,
                     size_t panel_first, size_t panel_count, const struct mly_kern_rows *rows,
                     float *scores);
/* The first of the greatest. n: a multiple of 16. */
size_t mly_cells_greatest(const float *scores, size_t n);

/* Places of one level. */
void mly_cells_level_set(struct mly_cells_level *level, size_t width, size_t place,
                         const float *centroid);
/* The level that has panel_count panels of another one from panel_first on. */
struct mly_cells_level mly_cells_level_part(const struct mly_cells_level *level, size_t width,
                                            size_t panel_first, size_t panel_count);

/* Some rows, copied together. q: u8[rows_max][width], 64; numbers: f32[2][rows_max]. */
struct cells_batch {
    uint8_t *q;
    float *scale, *low;
};
/* Copies row rows[i] of sample to place i. */
struct mly_kern_rows mly_cells_gather(const struct mly_kern_rows *sample, size_t width,
                                      const uint32_t *rows, size_t count,
                                      const struct cells_batch *batch);

/* ---- cells_means.c: k-means ---- */

#define CELLS_BATCH ((size_t)64)

/* What one thread works in. */
struct cells_room {
    struct cells_batch batch; /* of CELLS_BATCH rows */
    float *scores;            /* f32[CELLS_BATCH][places] */
    float *mean;              /* f32[width] */
};

struct cells_rooms {
    struct mly_mem *mem;
    void *bytes;
    struct cells_room *items;
    size_t count;
};
/* Rooms for levels of up to panels_max panels. */
MLY_MUST_USE enum mly_err mly_cells_rooms_create(struct mly_mem *mem, size_t count, size_t width,
                                                 size_t panels_max, struct cells_rooms *out,
                                                 struct mly_error *err);
void mly_cells_rooms_destroy(struct cells_rooms *rooms);

/* k-means of some rows of a sample. level has room for count centroids, k of which are found. */
struct cells_means {
    const struct mly_kern *kern;
    const struct mly_kern_rows *sample;
    size_t width;
    bool is_cosine;
    const uint32_t *rows; /* u32[count]: which rows of the sample */
    size_t count, k;
    struct mly_cells_level level;
    float *floats;           /* for the level's ranker */
    uint32_t *cells, *order; /* u32[count]: each row's cell, out; scratch */
    uint32_t *starts;        /* u32[k + 1]: scratch */
    size_t rounds;
};
/* Alone, in one room. */
void mly_cells_means(struct cells_means *means, struct cells_room *room);
/* In all threads of a pool, which may be NULL; asks the pulse between rounds. */
MLY_MUST_USE enum mly_err mly_cells_means_by_all(struct cells_means *means,
                                                 const struct mly_cells_trainer *trainer,
                                                 const struct cells_rooms *rooms,
                                                 struct mly_error *err);

/* Cells and order of all rows beside the centroids that were found. */
void mly_cells_means_assign_all(struct cells_means *means, const struct mly_cells_trainer *trainer,
                                const struct cells_rooms *rooms);

/* Rows by cell: starts[c] to starts[c + 1] of order are the places of cell c's rows, in order. */
void mly_cells_sort(const uint32_t *cells, size_t count, size_t k, uint32_t *order,
                    uint32_t *starts);
/* The mean of rows[order[i]] for i below count. */
void mly_cells_mean(const struct mly_kern_rows *sample, size_t width, const uint32_t *rows,
                    const uint32_t *order, size_t count, float *mean);

static inline void cells_run(struct mly_pool *pool, size_t part_count, mly_pool_part_fn part,
                             void *context)
{
    if (pool != NULL) {
        mly_pool_run(pool, part_count, part, context);
        return;
    }
    for (size_t part_i = 0; part_i < part_count; part_i++) {
        part(context, part_i, 0);
    }
}

static inline enum mly_err cells_pulse(const struct mly_cells_trainer *trainer,
                                       struct mly_error *err)
{
    return trainer->pulse == NULL ? MLY_OK : trainer->pulse(trainer->pulse_context, err);
}

/* ---- cells_assign.c ---- */

/* The nearest cell of each row, which are u8 rows that lie together; at most 4 * CELLS_BATCH of
 * them. */
void mly_cells_nearest(struct mly_assigner *assigner, uint32_t worker_i,
                       const struct mly_kern_rows *rows, uint32_t *out);

#endif
