/* The vector index of a store: segments below _memalloy/index (index/vindex.h), which the chunks'
 * data files are looked up in.
 *
 * A segment covers data files, which never change, and leaves no row of them out that has a vector:
 * dead rows are told apart by the snapshot. So every segment is right for every snapshot that has
 * its files, newer or older, and nothing needs to be published together with a commit.
 *
 * Threads  store->mutex guards the list of segments and what snapshots have of them; segments are
 * read-only and counted.
 */
#ifndef MLY_STORE_STORE_INDEX_INT_H
#define MLY_STORE_STORE_INDEX_INT_H

#include "index/vindex.h"
#include "store/store_state_int.h"

/* Fragments of fewer rows are scanned; they are going to be merged. */
#define MLY_STORE_INDEXED_ROWS_MIN ((uint64_t)512)

struct mly_store_segment {
    _Atomic uint32_t refs;
    struct mly_mem *mem;
    char name[MLY_VINDEX_SEGMENT_NAME_BYTES];
    struct mly_vindex *vindex;
    uint64_t vector_count;
};

/* What a snapshot has of the segments. What it points to is the snapshot's, but for segments. */
struct mly_snapshot_index {
    _Atomic uint32_t refs;
    struct mly_mem *mem;
    struct mly_store *store;
    uint64_t generation; /* of the list that it was made from */
    struct mly_store_segment **segments;
    struct mly_vindex_source *sources; /* [source_count], the segments in use, in their order */
    size_t source_count;
    struct mly_vindex_part *parts; /* of all sources */
    bool *covers_part;             /* [part_count] of the chunks' view */
    bool *covers_block;            /* [block_count] of it */
};

/* NULL in a store that has none: opened without kernels, or in memory alone. */
struct mly_store_index {
    const struct mly_kern *kern;
    uint64_t rows_min, file_rows_min; /* of an index, of a data file in it */
    char *folder;                     /* _memalloy/index */
    char *segments_folder;
    struct mly_store_segment **segments; /* the largest first */
    size_t count;
    uint64_t generation;       /* grows when the list changes */
    struct mly_file_info seen; /* of the folder of segments, when it was listed */
    bool listed, young;        /* young: it may have changed since without a sign of it */
    /* the builder: store_index_task.c */
    struct mly_mutex task_mutex; /* guards what follows */
    struct mly_cond task_cond;
    bool starting, running, joinable;
    _Atomic bool stop;
    _Atomic uint32_t callers; /* threads that make it now, and do not wait for the builder */
    uint64_t thread;
    _Atomic double loaded_s; /* when the last load was written, by mly_clock_seconds */
    _Atomic double done;     /* of what is being made, 0 to 1 */
    size_t looked_parts;
    uint64_t looked_version; /* of the chunks, when it was last asked whether anything is due */
    uint64_t looked_generation;
};

struct mly_store_segment *mly_store_segment_retain(struct mly_store_segment *segment);
/* Accepts NULL. */
void mly_store_segment_release(struct mly_store_segment *segment);

MLY_MUST_USE enum mly_err mly_store_index_init(struct mly_store *store,
                                               const struct mly_store_options *options,
                                               struct mly_error *err);
void mly_store_index_deinit(struct mly_store *store);
/* Lists the folder again where it changed; store->mutex is held. What cannot be opened is left
 * out. */
void mly_store_index_refresh(struct mly_store *store);
/* Removes a segment's file, and forgets it; store->mutex is held. */
void mly_store_index_remove(struct mly_store *store, struct mly_store_segment *segment);

/* wait: for whoever is at it; else nothing is made then. store_index_make.c */
MLY_MUST_USE enum mly_err mly_store_index_make(struct mly_store *store, struct mly_pool *pool,
                                               bool wait, mly_vindex_pulse_fn pulse, void *context,
                                               bool *made, struct mly_error *err);
/* A load is under way: the builder rests, for 10 seconds at most. store_index_task.c */
void mly_store_index_yield(struct mly_store *store);
/* Measures what was not yet; store_index_guard.c. */
MLY_MUST_USE enum mly_err mly_store_index_measure(struct mly_snapshot *snapshot,
                                                  mly_vindex_pulse_fn pulse, void *context,
                                                  struct mly_error *err);
/* Is there nothing to be measured? index: the snapshot's, or NULL. */
bool mly_store_index_is_measured(const struct mly_snapshot *snapshot,
                                 const struct mly_snapshot_index *index);
/* Ends the builder's thread, for good. store_index_task.c */
void mly_store_index_stop(struct mly_store *store);
/* Whoever makes an index of any kind has this lock, of all processes one. wait: pulse is asked
 * meanwhile; else *taken may be false. Close lock in any case. store_index_make.c */
MLY_MUST_USE enum mly_err mly_store_index_lock(struct mly_store *store, bool wait,
                                               mly_vindex_pulse_fn pulse, void *context,
                                               struct mly_lock_file *lock, bool *taken,
                                               struct mly_error *err);

/* ---- vectors for making: store_index_rows.c ---- */

/* The vectors of some parts of a view, which is borrowed. */
struct mly_store_vectors {
    const struct mly_env *env;
    struct mly_mem *mem;
    const struct mly_store_view *view;
    const struct mly_store_part *
        *parts;        /* room for all of the view; file file_i is parts[file_i] */
    bool without_dead; /* dead rows are given as rows without a vector */
    uint8_t *none;     /* bits for rows without a vector */
    size_t none_bytes;
    float *zeros;
};
MLY_MUST_USE enum mly_err mly_store_vectors_init(struct mly_store_vectors *vectors,
                                                 struct mly_store *store,
                                                 const struct mly_store_view *view,
                                                 struct mly_error *err);
/* Safe on zeros. */
void mly_store_vectors_deinit(struct mly_store_vectors *vectors);
/* A mly_vindex_rows_fn; context: struct mly_store_vectors. */
MLY_MUST_USE enum mly_err mly_store_vectors_give(void *context, size_t file_i, uint32_t row_first,
                                                 struct mly_vindex_rows *out,
                                                 struct mly_error *err);

/* The name of the data file with the vectors of a part that an index may cover; false: none may. */
bool mly_store_index_covers(const struct mly_store_view *view, const struct mly_store_part *part,
                            struct mly_str *name);

#endif
