/* Private to the files of ivfpq.h. */
#ifndef MLY_INDEX_IVFPQ_INT_H
#define MLY_INDEX_IVFPQ_INT_H

#include "index/ivfpq.h"
#include "index/vindex_put.h"

#define IVFPQ_NONE UINT32_MAX
#define IVFPQ_TILE_ROWS ((size_t)1024)
#define IVFPQ_PART_ROWS ((size_t)64)
#define IVFPQ_SAMPLE_BYTES ((size_t)64 << 20)

/* How far it is after each step. */
#define IVFPQ_DONE_SAMPLE 0.02
#define IVFPQ_DONE_CELLS 0.08
#define IVFPQ_DONE_ASSIGN 0.3
#define IVFPQ_DONE_CODEBOOK 0.6

struct mly_ivfpq {
    struct mly_mem *mem;
    const struct mly_vindex_maker *maker;
    const struct mly_vindex_file *files;
    size_t file_count, dim, sub_count, sub_dim;
    uint64_t all_rows;    /* of the files */
    uint32_t *partitions; /* u32[all_rows]: of each row, or IVFPQ_NONE */
    size_t partition_count;
    uint64_t row_count;
    uint64_t *partition_rows;
    float *centroids, *codebook;
};

/* Rows that lie together. */
struct ivfpq_tile {
    const float *values; /* f32[count][dim] */
    const uint8_t *none; /* bit none_first + i: row i has no vector; NULL: all have */
    size_t none_first, count, file_i;
    uint32_t row;   /* of the first, in its file */
    uint64_t index; /* of the first, among all */
};
typedef enum mly_err (*ivfpq_tile_fn)(void *context, const struct ivfpq_tile *tile,
                                      struct mly_error *err);
/* Calls fn for all rows in their order, and tells the pulse. */
MLY_MUST_USE enum mly_err mly_ivfpq_each_tile(const struct mly_ivfpq *ivfpq, double done_from,
                                              double done_to, ivfpq_tile_fn fn, void *context,
                                              struct mly_error *err);
/* Row i of a tile with length 1; false: it has no such thing. */
bool mly_ivfpq_unit(const struct mly_ivfpq *ivfpq, const struct ivfpq_tile *tile, size_t i,
                    float *out);
MLY_MUST_USE enum mly_err mly_ivfpq_pulse(const struct mly_ivfpq *ivfpq, double done,
                                          struct mly_error *err);
static inline size_t ivfpq_workers(const struct mly_ivfpq *ivfpq)
{
    return ivfpq->maker->pool == NULL ? 1 : mly_pool_thread_count(ivfpq->maker->pool);
}
void mly_ivfpq_run(const struct mly_ivfpq *ivfpq, size_t part_count, mly_pool_part_fn part,
                   void *context);

/* ---- nearest entries (ivfpq_codes.c) ---- */

/* A codebook turned round, so that one number meets all entries at once. */
struct ivfpq_ranker {
    struct mly_mem *mem;
    float *tables; /* f32[sub_count][sub_dim][256] */
    float *biases; /* f32[sub_count][256] */
};
MLY_MUST_USE enum mly_err mly_ivfpq_ranker_init(struct ivfpq_ranker *ranker,
                                                const struct mly_ivfpq *ivfpq,
                                                struct mly_error *err);
void mly_ivfpq_ranker_deinit(struct ivfpq_ranker *ranker);
/* Takes over what the codebook's piece sub_i has now. */
void mly_ivfpq_ranker_set(struct ivfpq_ranker *ranker, const struct mly_ivfpq *ivfpq, size_t sub_i);
/* The nearest entries of piece sub_i of residuals f32[count][dim]. */
void mly_ivfpq_nearest(const struct ivfpq_ranker *ranker, const struct mly_ivfpq *ivfpq,
                       size_t sub_i, const float *residuals, size_t count, uint8_t *out);
/* Fills ivfpq->codebook; partitions and centroids are there. */
MLY_MUST_USE enum mly_err mly_ivfpq_train_codebook(struct mly_ivfpq *ivfpq, struct mly_error *err);

#endif
