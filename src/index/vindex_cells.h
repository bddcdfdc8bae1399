/* Centroids of a sample, and which cells a vector belongs to. */
#ifndef MLY_INDEX_VINDEX_CELLS_H
#define MLY_INDEX_VINDEX_CELLS_H

#include "index/vindex_int.h"

/* How many cells rows are put into. */
size_t mly_vindex_cell_count(uint64_t row_count);
/* How many rows of them are looked at to find centroids. */
size_t mly_vindex_sample_count(uint64_t row_count, size_t cell_count, size_t dim);

/* Centroids for assigning. */
struct vindex_centroids {
    struct mly_mem *mem;
    const struct mly_kern *kern;
    size_t dim, count;
    float *values; /* f32[count][dim] */
    float *halves; /* half the square of each one's length */
};
void mly_vindex_centroids_deinit(struct vindex_centroids *centroids);
/* Finds count centroids of sample f32[sample_count][dim]. */
MLY_MUST_USE enum mly_err mly_vindex_centroids_find(struct vindex_centroids *centroids,
                                                    const struct mly_vindex_maker *maker,
                                                    const float *sample, size_t sample_count,
                                                    size_t count, struct mly_error *err);
/* The nearest cell of x and a second one; the second is VINDEX_NO_CELL where there is none. scores:
 * scratch, f32[count]. */
void mly_vindex_assign(const struct vindex_centroids *centroids, const float *x, float *scores,
                       uint32_t out[2]);

#endif
