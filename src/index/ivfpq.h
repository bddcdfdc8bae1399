/* The other index: inverted lists of product-quantised residuals (IVF_PQ), as other programs keep
 * it. Partitions around centroids; of each vector the difference to its partition's centroid, cut
 * into short pieces of which each becomes the number of the nearest of 256 (Jegou, Douze, Schmid
 * 2011, "Product Quantization for Nearest Neighbor Search"). We make it and never search in it.
 *
 * In: rows, asked for some four times. Out: centroids, codebooks, and the codes of one partition
 * after the other.
 *
 * Shapes   vectors are brought to length 1 first; rows without a vector, of no length or with
 *          numbers that are not finite are left out.
 * Memory   four bytes for each row, 64 MB of a sample, then 64 MB of codes (or those of the largest
 *          partition, where they are more).
 * Same     equal bits in every kernel set and for any number of threads.
 * Owns     train gives a handle for destroy; maker and files are borrowed until then.
 * Errors   NOMEM; INVAL for a dimension out of range; what rows and pulse return.
 */
#ifndef MLY_INDEX_IVFPQ_H
#define MLY_INDEX_IVFPQ_H

#include "index/vindex.h"

/* As many as a codebook has entries: fewer rows are better looked at one by one. */
#define MLY_IVFPQ_ROWS_MIN ((uint64_t)256)
#define MLY_IVFPQ_ENTRIES ((size_t)256)

struct mly_ivfpq;

struct mly_ivfpq_info {
    size_t dim, partition_count, sub_count; /* sub_count pieces of dim / sub_count numbers each */
    uint64_t row_count;                     /* that are in a partition */
    const uint64_t *partition_rows;         /* [partition_count] */
    const float *centroids;                 /* f32[partition_count][dim] */
    const float *codebook;                  /* f32[sub_count][256][dim / sub_count] */
};

/* How many partitions so many rows get. */
size_t mly_ivfpq_partitions_for(uint64_t row_count);
/* Into how many pieces vectors are cut. */
size_t mly_ivfpq_subs_for(size_t dim);

/* maker's folder and metric are not looked at; its pulse gets 0 to 1 over train and encode. */
MLY_MUST_USE enum mly_err mly_ivfpq_train(const struct mly_vindex_maker *maker,
                                          const struct mly_vindex_file *files, size_t file_count,
                                          struct mly_ivfpq **out, struct mly_error *err);
/* Accepts NULL. */
void mly_ivfpq_destroy(struct mly_ivfpq *ivfpq);
/* Borrowed until destroy. */
void mly_ivfpq_get_info(const struct mly_ivfpq *ivfpq, struct mly_ivfpq_info *out);

/* One partition: rows[i] is the number of a file << 32 | the row in it, ascending; codes are
 * u8[sub_count][count]. Borrowed during the call. */
typedef enum mly_err (*mly_ivfpq_put_fn)(void *context, size_t partition_i, const uint64_t *rows,
                                         const uint8_t *codes, size_t count, struct mly_error *err);
/* Calls put for every partition, in their order. */
MLY_MUST_USE enum mly_err mly_ivfpq_encode(struct mly_ivfpq *ivfpq, mly_ivfpq_put_fn put,
                                           void *context, struct mly_error *err);

#endif
