/* Finds the rows that are nearest to a query.
 *
 * Shapes   query: f32[dim]; out: at most k matches, best first.
 * Order    score from high to low; equal scores by document id, then ordinal, then row address.
 *          Rows whose vector gives no number (NaN) are left out.
 * Owns     *out is the caller's, freed with mly_mem_free.
 * Threads  a searcher may be used from any thread; snapshot and kern are read-only.
 * Errors   INVAL dim is not the store's; NOMEM; what reading a row for a tie returns.
 * Cost     rows that no segment of the index has: one pass over their vectors, rows * dim
 *          multiply-adds, 4 * rows * dim bytes. Others: index/vindex.h.
 */
#ifndef MLY_SEARCH_SEARCH_H
#define MLY_SEARCH_SEARCH_H

#include "base/err.h"
#include "flow/flow.h"
#include "kern/kern.h"
#include "os/lock.h"
#include "store/store.h"

/* Looks at every vector. score is the dot product: the cosine, since stored vectors and query have
 * unit length. k may be beyond the store. */
MLY_MUST_USE enum mly_err mly_search_exact(const struct mly_snapshot *snapshot,
                                           const struct mly_kern *kern, struct mly_mem *mem,
                                           const float *query, size_t dim, size_t k,
                                           struct mly_match **out, size_t *count,
                                           struct mly_error *err);

/* Keeps scratch for searches, so that a warm one asks for little memory. */
struct mly_searcher;
MLY_MUST_USE enum mly_err mly_searcher_create(const struct mly_env *env, struct mly_searcher **out,
                                              struct mly_error *err);
/* Accepts NULL. */
void mly_searcher_destroy(struct mly_searcher *searcher);

struct mly_search_ask {
    const float *query;
    size_t dim, k;
    float recall; /* of the true nearest, as index/vindex.h has it; 0: its default; 1: all of them,
                     by looking at every vector */
    struct mly_selection *selection; /* of the snapshot: where to look; NULL: everywhere */
    /* asked every millisecond or so of a scan, by the thread that called; what it gives, if not OK,
     * ends the search. NULL: nobody is asked */
    mly_pulse_fn pulse;
    void *pulse_context;
};

/* What a search did. */
struct mly_search_stats {
    struct mly_vindex_stats index; /* all zero where no segment was asked */
    uint64_t scanned_rows;         /* whose vectors were looked at one by one */
    double scan_seconds;
    bool index_was_damaged; /* what is damaged was thrown away, and every vector looked at */
};

/* The same with the index where there is one: the scores are as exact, and so is the order; rows
 * may be missed as recall allows. stats may be NULL. */
MLY_MUST_USE enum mly_err mly_search_nearest(struct mly_searcher *searcher,
                                             struct mly_snapshot *snapshot,
                                             const struct mly_kern *kern,
                                             const struct mly_search_ask *ask,
                                             struct mly_match **out, size_t *count,
                                             struct mly_search_stats *stats, struct mly_error *err);

/* The same for count queries, f32[count][ask->dim], by the pool's threads (NULL: this one); ask's
 * query is not read. out[i] and counts[i] are of query i; on failure no out is the caller's. stats
 * (may be NULL) are the sums. */
MLY_MUST_USE enum mly_err
mly_search_many(struct mly_searcher *searcher, struct mly_pool *pool, struct mly_snapshot *snapshot,
                const struct mly_kern *kern, const struct mly_search_ask *ask, const float *queries,
                size_t query_count, struct mly_match **out, size_t *counts,
                struct mly_search_stats *stats, struct mly_error *err);

#endif
