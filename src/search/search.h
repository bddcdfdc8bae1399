/* Finds the rows that are nearest to a query.
 *
 * Shapes   query: f32[dim]; out: at most k matches, best first.
 * Order    score from high to low; equal scores by document id, then ordinal, then row address.
 *          Rows whose vector gives no number (NaN) are left out.
 * Owns     *out is the caller's, freed with mly_mem_free.
 * Threads  no state; snapshot and kern are read-only.
 * Errors   INVAL dim is not the store's; NOMEM; what reading a row for a tie returns.
 * Cost     one pass over all vectors: rows * dim multiply-adds, 4 * rows * dim bytes.
 */
#ifndef MLY_SEARCH_SEARCH_H
#define MLY_SEARCH_SEARCH_H

#include "base/err.h"
#include "flow/flow.h"
#include "kern/kern.h"
#include "store/store.h"

/* score is the dot product: the cosine, since stored vectors and query have unit length. k may be
 * beyond the store. */
MLY_MUST_USE enum mly_err mly_search_exact(const struct mly_snapshot *snapshot,
                                           const struct mly_kern *kern, struct mly_mem *mem,
                                           const float *query, size_t dim, size_t k,
                                           struct mly_match **out, size_t *count,
                                           struct mly_error *err);

#endif
