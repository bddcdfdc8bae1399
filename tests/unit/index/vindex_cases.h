/* Vectors for the tests of index/: clusters of clusters, served in pieces, and their exact answers.
 */
#ifndef MLY_TEST_VINDEX_CASES_H
#define MLY_TEST_VINDEX_CASES_H

#include "index/vindex.h"

#define CASE_FILES_MAX 16

struct vindex_case {
    size_t dim, file_count;
    enum mly_vindex_metric metric;
    struct mly_vindex_file files[CASE_FILES_MAX];
    char names[CASE_FILES_MAX][48];
    float *values[CASE_FILES_MAX]; /* f32[row_count][dim] */
    uint8_t *none[CASE_FILES_MAX]; /* a bitmap, or NULL */
    size_t run_rows;               /* rows given at a time */
    uint64_t calls;
};

/* Fills the files' vectors; of unit length for cosine. The same seed gives the same. */
void vindex_case_make(struct vindex_case *of, enum mly_vindex_metric metric, size_t dim,
                      const uint32_t *row_counts, size_t file_count, uint64_t seed);
void vindex_case_free(struct vindex_case *of);
/* A vector that is like one of the rows. */
void vindex_case_query(const struct vindex_case *of, uint64_t seed, float *out);
struct mly_vindex_maker vindex_case_maker(struct vindex_case *of, const struct mly_env *env,
                                          const char *folder);
/* Every file present, nothing dead; first addresses are file_i << 32. */
void vindex_case_parts(struct vindex_case *of, struct mly_vindex_part *parts);
/* mly_vindex_vector_fn; the part's context is the case. */
enum mly_err vindex_case_vector(void *context, const struct mly_vindex_part *part, uint32_t row,
                                const float **out, struct mly_error *err);
/* The k nearest among the parts that are present, by a plain scan; returns how many. */
size_t vindex_case_exact(const struct vindex_case *of, const struct mly_vindex_part *parts,
                         const float *query, size_t k, struct mly_match *out);

/* Builds (or folds, where fold is not NULL) and opens; fails the test where it cannot, or where the
 * segment does not verify. set, pool: NULL for the best kernels, one thread. */
struct mly_vindex *vindex_case_build(struct vindex_case *of, const char *folder,
                                     const struct mly_vindex_fold *fold, const char *set,
                                     struct mly_pool *pool);
/* How much of the exact answers is found; every score that is given must be right. */
double vindex_case_recall(const struct vindex_case *of, struct mly_vindex *segment,
                          const struct mly_vindex_part *parts, float wanted, size_t k);

#endif
