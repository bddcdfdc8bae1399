/* The door of index/: nearest vectors from disk, without reading them all.
 *
 * A segment is one file that covers the vectors of some data files, which never change and whose
 * names are never used again: it is right for every snapshot that has these files, whatever else
 * that has. Vectors stand in cells around a centroid, as codes of one bit per dimension (RaBitQ);
 * beside it lies a file of records for each data file (8 bits per dimension) for the second look.
 * The third is the caller's: the final scores are of the vectors themselves. Everything here is
 * derived and can be made again; docs/FORMAT.md, "Vector index", has the bytes.
 *
 * Shapes   vectors: f32[n][dim], row-major, 4-byte aligned. Bitmaps: bit i (LSB first) of byte
 *          i / 8 is row i of a data file.
 * Units    scores: greater is nearer: the dot product, or minus the squared distance.
 * Range    dim 8 to 4096; cosine is for vectors of unit length.
 * Same     a segment of the same rows has the same bytes, and a search the same answer, in every
 *          kernel set and for any number of threads.
 * Owns     mly_vindex_open gives a handle for mly_vindex_close; what is passed in is borrowed for
 *          the call.
 * Threads  an open segment may be searched from several threads, one room per thread.
 * Errors   CORRUPT: what was read is not what was written; the caller throws the segment away and
 *          scans. NOTFOUND, IO, LIMIT, NOMEM, INVAL.
 */
#ifndef MLY_INDEX_VINDEX_H
#define MLY_INDEX_VINDEX_H

#include "base/err.h"
#include "base/str.h"
#include "flow/flow.h"
#include "kern/kern.h"
#include "os/os.h"

/* Below this many rows a segment does not pay: a plain scan takes less than a millisecond. */
#define MLY_VINDEX_ROWS_MIN ((uint64_t)20000)
#define MLY_VINDEX_DIM_MIN ((size_t)8)
#define MLY_VINDEX_DIM_MAX ((size_t)4096)
/* Names of data files. */
#define MLY_VINDEX_NAME_BYTES_MAX ((size_t)255)
/* "<uuid>.vec" and a NUL. */
#define MLY_VINDEX_SEGMENT_NAME_BYTES ((size_t)41)
/* Where the two kinds of files lie, below the folder that every call is given. */
#define MLY_VINDEX_SEGMENTS "vectors"
#define MLY_VINDEX_RECORDS "records"
#define MLY_VINDEX_RECORDS_SUFFIX ".q8"

enum mly_vindex_metric { MLY_VINDEX_COSINE, MLY_VINDEX_DOT, MLY_VINDEX_L2 };

struct mly_vindex; /* an open segment */

/* ---- making ---- */

/* A data file: its name (unique for ever) and how many rows it has, dead ones included. */
struct mly_vindex_file {
    struct mly_str name;
    uint32_t row_count;
};

/* Some consecutive rows, borrowed until the next call for rows. */
struct mly_vindex_rows {
    const float *values; /* f32[row_count][dim] */
    const uint8_t *none; /* bit i: row i is left out (dead, or without a vector); NULL: none is */
    size_t row_count;
};

/* Gives rows of file file_i from row_first on, at least one, as many as lie together. Every row is
 * asked for several times; the answers must be the same. Called from the thread of the caller. */
typedef enum mly_err (*mly_vindex_rows_fn)(void *context, size_t file_i, uint32_t row_first,
                                           struct mly_vindex_rows *out, struct mly_error *err);
/* Asked often while something long runs; done goes from 0 to 1. Anything but MLY_OK ends it. */
typedef enum mly_err (*mly_vindex_pulse_fn)(void *context, double done, struct mly_error *err);

/* What every making of files needs. */
struct mly_vindex_maker {
    const struct mly_env *env;
    const struct mly_kern *kern;
    struct mly_pool *pool; /* may be NULL: this thread alone */
    const char *folder;    /* it exists; what is missing below it is made */
    enum mly_vindex_metric metric;
    size_t dim;
    mly_vindex_rows_fn rows;
    void *rows_context;
    mly_vindex_pulse_fn pulse; /* may be NULL */
    void *pulse_context;
};

/* Writes a segment that covers files, and the records that are not there yet. name_out is its name
 * in MLY_VINDEX_SEGMENTS: it has it only when it is whole. Nothing is synced: what a power cut
 * leaves does not pass its sums. Rows with numbers that are not finite are left out. */
MLY_MUST_USE enum mly_err mly_vindex_build(const struct mly_vindex_maker *maker,
                                           const struct mly_vindex_file *files, size_t file_count,
                                           char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES],
                                           struct mly_error *err);

/* A data file whose rows went, in their order, into another one: a row that gone does not have went
 * to row to_first of files[to_i], the next one behind it, and so on. */
struct mly_vindex_move {
    struct mly_str from;
    size_t to_i;
    uint32_t to_first;
    const uint8_t *gone; /* bitmap over the rows of from; NULL: all went */
};

/* A new segment of files, out of open ones: what these have of the files, or of files that moved
 * into them, is taken over; rows of other files are gone (without moves, those of files that are
 * gone are looked for in files that are new); rows that dead names (dead[i]: bitmap of
 * files[i], or NULL; dead may be NULL) are left out; the rest is asked of maker->rows and put into
 * the cells that are there. Cells that grew or shrank much are split or merged where they are. */
struct mly_vindex_fold {
    struct mly_vindex *const *segments;
    size_t segment_count;
    const struct mly_vindex_file *files;
    const uint8_t *const *dead;
    size_t file_count;
    const struct mly_vindex_move *moves;
    size_t move_count;
};
MLY_MUST_USE enum mly_err mly_vindex_fold(const struct mly_vindex_maker *maker,
                                          const struct mly_vindex_fold *fold,
                                          char name_out[MLY_VINDEX_SEGMENT_NAME_BYTES],
                                          struct mly_error *err);

/* ---- segments ---- */

/* Cheap: header, tables and centroids are checked, a cell when it is first read. A record file that
 * is missing does not hinder: its data file may be gone. */
MLY_MUST_USE enum mly_err mly_vindex_open(const struct mly_env *env, const struct mly_kern *kern,
                                          const char *folder, const char *name,
                                          struct mly_vindex **out, struct mly_error *err);
/* Accepts NULL. Nobody may be searching it. */
void mly_vindex_close(struct mly_vindex *segment);

/* What is in it; posting_count counts a vector once for each cell that it stands in. */
struct mly_vindex_info {
    enum mly_vindex_metric metric;
    size_t dim, file_count, cell_count;
    uint64_t row_count;     /* of the files, all of them */
    uint64_t vector_count;  /* that were put in */
    uint64_t posting_count; /* their codes */
    uint64_t segment_bytes, record_bytes;
};
void mly_vindex_get_info(const struct mly_vindex *segment, struct mly_vindex_info *out);
/* Borrowed until close. */
struct mly_vindex_file mly_vindex_file(const struct mly_vindex *segment, size_t file_i);

/* Reads every byte of the segment and of its records, whatever was checked before. */
MLY_MUST_USE enum mly_err mly_vindex_verify(struct mly_vindex *segment, struct mly_error *err);

/* Removes every other segment, and the records of all but these files; segment NULL: all of them.
 * For whoever makes segments, with nobody else making any; those that are open stay readable. */
void mly_vindex_clean(const struct mly_env *env, const char *folder, const char *segment,
                      const struct mly_vindex_file *files, size_t file_count);

/* ---- what was measured ---- */

/* Recalls that are measured, and steps by which searches look at more than the tables have. */
#define MLY_VINDEX_LEVELS 3
#define MLY_VINDEX_STEP_MAX 7u
#define MLY_VINDEX_RECALL 0.95f
#define MLY_VINDEX_GUARD_SUFFIX ".recall"

struct mly_vindex_level {
    float recall, measured;
    uint32_t step; /* with which it was measured */
};
struct mly_vindex_guard {
    uint32_t samples;                                  /* 0: nothing was measured */
    uint64_t rows;                                     /* that could be found then */
    struct mly_vindex_level levels[MLY_VINDEX_LEVELS]; /* recall ascending */
};
void mly_vindex_get_guard(const struct mly_vindex *segment, struct mly_vindex_guard *out);
/* Searches of the segment look at as much more; from any thread. */
void mly_vindex_set_guard(struct mly_vindex *segment, const struct mly_vindex_guard *guard);
/* Beside the segment's file; open reads it too, where it is there. */
MLY_MUST_USE enum mly_err mly_vindex_guard_write(const struct mly_vindex *segment,
                                                 const char *folder, const char *name,
                                                 const struct mly_vindex_guard *guard,
                                                 struct mly_error *err);
void mly_vindex_guard_read(struct mly_vindex *segment, const char *folder, const char *name);
/* The level that a search with that recall (0: MLY_VINDEX_RECALL) goes by. */
size_t mly_vindex_guard_level(const struct mly_vindex_guard *guard, float recall);

/* ---- searching ---- */

/* What the caller's snapshot has of one file that a segment covers. */
struct mly_vindex_part {
    bool is_present;        /* false: the snapshot does not have this file; the rest is not read */
    uint64_t first_address; /* address of row 0; the others follow by 1 */
    const uint8_t *dead;    /* rows that are not to be found; NULL: none */
    const uint8_t *allowed; /* rows that may be found; NULL: all */
    uint64_t allowed_count; /* how many they are; 0: not counted */
    void *context;          /* for mly_vindex_vector_fn */
};

/* A segment, and a part for each of its files, in their order. */
struct mly_vindex_source {
    struct mly_vindex *segment;
    const struct mly_vindex_part *parts;
};

/* The vector of a row of that part, borrowed until the search ends; *out NULL: it has none. */
typedef enum mly_err (*mly_vindex_vector_fn)(void *context, const struct mly_vindex_part *part,
                                             uint32_t row, const float **out,
                                             struct mly_error *err);

/* What to look for. */
struct mly_vindex_ask {
    const float *query;
    size_t dim, k;
    float recall;    /* part of the true nearest to be found, 0.5 to 1; 0: 0.95 */
    size_t recalled; /* of so many of the k: the others may be missed more often; 0: of all */
    mly_vindex_vector_fn vector;
    void *vector_context;
    /* 0: as recall needs. Cells that are read at most, codes that get a second look, and how far
     * below the middle of the best cell and the last of the k nearest (in cosine) a cell may be. */
    uint32_t probes_max, pool;
    float gap;
    bool is_trial; /* for who measures: step instead of what was measured */
    uint32_t step;
};

/* What a search did, for explain. */
struct mly_vindex_stats {
    uint64_t cell_count; /* there are */
    uint64_t cells_read, codes_read, records_read, vectors_read;
    uint64_t bytes_read; /* of cells, records and vectors, from memory or disk */
    double rank_seconds, scan_seconds, record_seconds, vector_seconds;
};

/* Scratch of one search after the other; grows as needed, so that a warm search asks for no memory.
 */
struct mly_vindex_room;
MLY_MUST_USE enum mly_err mly_vindex_room_create(const struct mly_env *env,
                                                 struct mly_vindex_room **out,
                                                 struct mly_error *err);
/* Accepts NULL. */
void mly_vindex_room_destroy(struct mly_vindex_room *room);

/* The ask->k nearest of all sources (of one metric and dimension) together, best first, equal
 * scores by address; fewer only where there are no more rows that may be found. Scores are of the
 * vectors themselves. *out is borrowed until the room's next search. stats may be NULL. */
MLY_MUST_USE enum mly_err mly_vindex_search(struct mly_vindex_room *room,
                                            const struct mly_vindex_source *sources,
                                            size_t source_count, const struct mly_vindex_ask *ask,
                                            const struct mly_match **out, size_t *out_count,
                                            struct mly_vindex_stats *stats, struct mly_error *err);

/* The same for several queries of one dimension, k and recall, by the pool's threads (NULL: this
 * one): out[i] is f of queries + i * ask->dim and has room for ask->k, counts[i] are filled. ask's
 * query is not read. */
MLY_MUST_USE enum mly_err mly_vindex_search_many(
    const struct mly_env *env, struct mly_pool *pool, const struct mly_vindex_source *sources,
    size_t source_count, const struct mly_vindex_ask *ask, const float *queries, size_t query_count,
    struct mly_match *out, size_t *counts, struct mly_vindex_stats *stats, struct mly_error *err);

#endif
