/* memalloy: the vector index, and searching for many vectors. Part of <memalloy.h>, whose rules
 * hold here too.
 *
 * A store of fewer than some 20,000 chunks has no index: every vector is looked at, in less than a
 * millisecond. Larger ones get one below _memalloy/index, made from the tables and kept up by a
 * thread of any handle that may write; it can be deleted at any time. Rows that are not in it yet
 * are looked at one by one, rows that were removed are never found, and scores are exact.
 */
#ifndef MEMALLOY_INDEX_H
#define MEMALLOY_INDEX_H

#include <memalloy.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What one search did, or all of memalloy_search_vectors together; times are CPU or waiting, of all
 * threads. */
struct memalloy_search_explain {
    size_t struct_bytes;
    uint64_t cells, cells_read;                /* of the index: there are; were read */
    uint64_t codes_read;                       /* of one bit per dimension */
    uint64_t records_read;                     /* of 8 bits: the second look */
    uint64_t vectors_read;                     /* of those the vectors themselves: the third */
    uint64_t scanned_rows;                     /* that are in no index */
    uint64_t bytes_read;                       /* of cells, records, vectors; from memory or disk */
    double rank_s, scan_s, record_s, vector_s; /* choosing cells, codes, second and third look */
    double exact_s;                            /* rows that are in no index */
    int index_was_damaged;                     /* it was thrown away; every vector was looked at */
};

/* The same for count vectors, f32[count][dim], with all threads, of one state of the store: out is
 * an array of count. All or none. */
MEMALLOY_CALL int memalloy_search_vectors(memalloy_kernel *kernel, const float *vectors,
                                          size_t count, size_t dim,
                                          const struct memalloy_search_options *options,
                                          memalloy_hits **out, struct memalloy_error *err);

struct memalloy_index_options {
    size_t struct_bytes;
    memalloy_progress_fn progress; /* stage VECTORS: items are thousandths */
    void *progress_context;
    int check; /* reads all of it first: what is damaged is thrown away, and made again */
    /* Also an index of Lance's own kind IVF_PQ in chunks.lance, for lancedb and pylance to search
     * with: made where there is none, or where more than 1/17 of the chunks are not in it. They
     * keep it up then (optimize), and look at the rest one by one. Needs 256 chunks. UNSUPPORTED
     * where there is one of another kind that is behind. memalloy itself does not use it. */
    int lance;
};

/* Makes now, with all threads, whatever of the index is missing or behind, after a checkpoint;
 * waits for whoever is at it. *out_made (may be NULL) is 0 where nothing was due. */
MEMALLOY_CALL int memalloy_make_index(memalloy_kernel *kernel,
                                      const struct memalloy_index_options *options, int *out_made,
                                      struct memalloy_error *err);

struct memalloy_index_status {
    size_t struct_bytes;
    uint64_t rows;    /* in it, of the newest state; 0: every vector is looked at */
    uint64_t pending; /* that are to come into it */
    uint64_t cells, index_bytes, record_bytes;
    int is_due, is_running; /* something is to be made; a thread of this handle is at it */
    double done;            /* of that, from 0 to 1 */
    double recall;          /* as the store was opened with */
    int has_lance;          /* chunks.lance has an index of Lance's own, whoever made it */
    uint64_t lance_rows, lance_pending, lance_bytes; /* chunks in it; not in it; its files */
    /* What part of the true nearest searches with that recall find, as the thread that keeps the
     * index measured by looking at every vector for samples of the rows; 0 samples: not yet. Where
     * it was less, searches look at effort_steps more (7: at everything); it is what they find
     * since. */
    double measured_recall;
    uint64_t samples, effort_steps;
};
MEMALLOY_CALL int memalloy_get_index_status(memalloy_kernel *kernel,
                                            struct memalloy_index_status *out,
                                            struct memalloy_error *err);

#ifdef __cplusplus
}
#endif
#endif
