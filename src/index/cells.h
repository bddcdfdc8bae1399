/* Cells: where centroids are, how they are found, and which of them a vector belongs to.
 *
 * A table has two levels. Level cells: the centroids, in panels of 64; near ones share a panel, and
 * not every place of a panel has a cell. Level groups: one centroid for each panel. Who looks for
 * the nearest cells looks through all groups, and then through the panels of the best ones only.
 *
 * Shapes   everything here is rotated (kern/codes.h): f32[n][width].
 * Numbers  a centroid is scale * 8 bits; codes are made beside it as it stands here, so a table's
 *          c . q is right but for the 8 bits of q.
 * Same     centroids and cells have equal bits in every kernel set and for any number of threads.
 * Ranks    the nearest cell of x has the greatest rank: (c . x) / |c| for the cosine, else
 *          c . x - |c|^2 / 2.
 * Owns     a table with mem owns its bytes; one without (mly_cells_view) borrows them.
 * Errors   NOMEM, and whatever pulse returns.
 */
#ifndef MLY_INDEX_CELLS_H
#define MLY_INDEX_CELLS_H

#include "base/err.h"
#include "base/mem.h"
#include "kern/kern.h"
#include "os/lock.h"
#include "os/pool.h"

#define MLY_CELLS_PANEL ((size_t)MLY_KERN_PANEL)
#define MLY_CELLS_NONE UINT32_MAX

/* One level: s8 panels[panel_count][width / 4][64][4] as linear_u8s8_f32 takes them, then five
 * times f32[panel_count * 64]. A place without a cell has zeros, bias -inf and rank 1. */
struct mly_cells_level {
    int8_t *panels;
    float *scales, *sums, *biases; /* centroid = scale * stored; scale * sum of stored; 0 */
    float *ranks, *squares;        /* 1 / length (0 for no length), length squared */
    size_t panel_count;
};

struct mly_cells {
    struct mly_mem *mem;
    void *bytes; /* cells, then groups */
    size_t width;
    bool is_cosine;
    struct mly_cells_level cells, groups;
};

/* Of a table, a multiple of 64. */
size_t mly_cells_bytes(size_t width, size_t panel_count);
/* A table in bytes, 64, that somebody else keeps: only to be read. */
void mly_cells_view(void *bytes, size_t width, size_t panel_count, bool is_cosine,
                    struct mly_cells *out);
/* A table of empty places. */
MLY_MUST_USE enum mly_err mly_cells_create(struct mly_mem *mem, size_t width, size_t panel_count,
                                           bool is_cosine, struct mly_cells *out,
                                           struct mly_error *err);
/* The same cells with room for more. */
MLY_MUST_USE enum mly_err mly_cells_grow(struct mly_cells *cells, size_t panel_count,
                                         struct mly_error *err);
/* Safe on zeros, and twice. */
void mly_cells_deinit(struct mly_cells *cells);

/* cell_i is below panel_count * 64. Groups are as they were until mly_cells_regroup. */
void mly_cells_set(struct mly_cells *cells, size_t cell_i, const float *centroid);
void mly_cells_clear(struct mly_cells *cells, size_t cell_i);
bool mly_cells_has(const struct mly_cells *cells, size_t cell_i);
void mly_cells_get(const struct mly_cells *cells, size_t cell_i, float *centroid);
/* Makes each group the mean of its panel's cells. */
void mly_cells_regroup(struct mly_cells *cells);
/* An empty place near a cell: in its panel, or else in the panel with room whose group is nearest.
 * MLY_CELLS_NONE: the table is full. */
uint32_t mly_cells_place_near(const struct mly_cells *cells, size_t cell_i);

/* ---- finding centroids ---- */

/* How many rows of row_count are enough to find cell_count centroids. */
size_t mly_cells_sample_count(uint64_t row_count, size_t cell_count);

/* What training and splitting need. */
struct mly_cells_trainer {
    struct mly_mem *mem;
    const struct mly_kern *kern;
    struct mly_pool *pool; /* may be NULL: this thread alone */
    mly_pulse_fn pulse;    /* may be NULL; asked every some 10 ms */
    void *pulse_context;
};
/* About cell_count cells of the rows of a sample: rotated rows by quantize_f32_u8, sample->count of
 * them, at least one. out: a new table. */
MLY_MUST_USE enum mly_err mly_cells_train(const struct mly_cells_trainer *trainer,
                                          const struct mly_kern_rows *sample, size_t width,
                                          bool is_cosine, size_t cell_count, struct mly_cells *out,
                                          struct mly_error *err);
/* Cuts rows (of one cell that grew too large; one at least) in two: sides[i] is 0 or 1, centroids
 * f32[2][width] are the means of the sides. *is_cut: false where the rows are all alike. */
MLY_MUST_USE enum mly_err mly_cells_split(const struct mly_cells_trainer *trainer,
                                          const struct mly_kern_rows *rows, size_t width,
                                          uint8_t *sides, float *centroids, bool *is_cut,
                                          struct mly_error *err);

/* ---- cells of vectors ---- */

/* Assigns rows to cells. It sees a table as it was when it was made. */
struct mly_assigner;
/* For worker_count threads at a time. cells is borrowed. */
MLY_MUST_USE enum mly_err mly_assigner_create(struct mly_mem *mem, const struct mly_kern *kern,
                                              const struct mly_cells *cells, size_t worker_count,
                                              struct mly_assigner **out, struct mly_error *err);
void mly_assigner_destroy(struct mly_assigner *assigner);
/* out[i][0]: the nearest cell of rows f32[count][width]; out[i][1]: a second one such that a query
 * for which the first one's code errs much is likely to find the other's good (SOAR: the residuals
 * are far from parallel); MLY_CELLS_NONE where there is one cell only. Any count; batches of some
 * hundreds are the fastest. */
void mly_assign(struct mly_assigner *assigner, uint32_t worker_i, const float *rows, size_t count,
                uint32_t (*out)[2]);

#endif
