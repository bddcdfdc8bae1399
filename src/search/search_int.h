/* The scan, and the best of what it and others found. */
#ifndef MLY_SEARCH_SEARCH_INT_H
#define MLY_SEARCH_SEARCH_INT_H

#include "search/search.h"

#define SCAN_TILE_ROWS ((size_t)512)

struct mly_scan {
    const struct mly_snapshot *snapshot;
    const struct mly_kern *kern;
    struct mly_mem *mem;
    const float *query;
    size_t dim;
    const struct mly_selection *selection; /* NULL: all rows */
    mly_pulse_fn pulse;                    /* NULL: nobody is asked */
    void *pulse_context;
    struct mly_arena arena;      /* for the rows of a tie */
    struct mly_match *heap;      /* root: the worst */
    size_t heap_count, heap_max; /* heap_max: k, or all there are; 0: nothing may be offered */
    float scores[SCAN_TILE_ROWS];
};

MLY_MUST_USE enum mly_err mly_scan_open(const struct mly_snapshot *snapshot,
                                        const struct mly_kern *kern, struct mly_mem *mem,
                                        const struct mly_search_ask *ask, struct mly_scan **out,
                                        struct mly_error *err);
/* Keeps the match if it is one of the best so far; each row once. */
MLY_MUST_USE enum mly_err mly_scan_offer(struct mly_scan *scan, struct mly_match match,
                                         struct mly_error *err);
/* The sources of the index for what is asked. */
MLY_MUST_USE enum mly_err mly_scan_sources(const struct mly_snapshot_index *index,
                                           const struct mly_search_ask *ask,
                                           const struct mly_vindex_source **out, size_t *count,
                                           struct mly_error *err);
/* Offers every row that the index (NULL: none) does not cover to all scans, which are of one
 * snapshot and selection, and beat with the pulse of the first; *rows: so many were looked at. */
MLY_MUST_USE enum mly_err mly_scan_blocks(struct mly_scan *const *scans, size_t scan_count,
                                          const struct mly_snapshot_index *index, uint64_t *rows,
                                          struct mly_error *err);
/* The best, in order; *out is the caller's. */
MLY_MUST_USE enum mly_err mly_scan_take(struct mly_scan *scan, struct mly_match **out,
                                        size_t *count, struct mly_error *err);
void mly_scan_close(struct mly_scan *scan);

/* Rows beyond k that segments are asked for: which of equal scores are kept is decided by the scan.
 */
#define SEARCH_TIES ((size_t)8)
const struct mly_env *mly_searcher_env(const struct mly_searcher *searcher);

#endif
