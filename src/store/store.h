/* Keeps documents and chunks in two Lance tables (docs/FORMAT.md) and gives snapshots of them.
 *
 *   <path>/documents.lance   one row per document; files that were skipped are rows too
 *   <path>/chunks.lance      one row per chunk, with its vector
 *   <path>/_memalloy/        lock, store.json
 *
 * Owns     a snapshot is counted: pin gives one, release takes it back. What is read from it is
 * borrowed until its release, or copied into the caller's arena where an arena is asked for.
 * Threads  a store may be used from any thread; a snapshot is read-only.
 * Errors   CORRUPT names the file; BUSY another writer; READONLY; MISMATCH another model or
 * dimension; IO; NOMEM.
 */
#ifndef MLY_STORE_STORE_H
#define MLY_STORE_STORE_H

#include "base/arena.h"
#include "base/err.h"
#include "flow/flow.h"
#include "index/vindex.h"
#include "log/log.h"
#include "os/os.h"

struct mly_store;
struct mly_snapshot;

struct mly_store_options {
    bool read_only;
    bool allow_network; /* a network file system is not refused */
    uint32_t lock_wait_ms;
    uint32_t checkpoint_after_ms; /* a commit is in the tables after that; 0: 30 s */
    /* What a commit's OK means where the commit does not say. MEMORY: nothing is written at all,
     * and what was committed is gone with the store object. */
    enum mly_durability durability;
    uint32_t
        dim; /* of a new store; 0: not known yet, it must be known at the first commit with rows */
    struct mly_str model_id, model_hash; /* recorded with the tables; null: none. Copied. */
    const struct mly_kern *kern;         /* for the vector index; NULL: none is used or made */
    /* Rows from which there is an index, and rows of a data file from which it is in it; 0: as it
     * pays. */
    uint32_t index_rows_min, index_file_rows_min;
};

/* Writes nothing. A folder that does not exist is an empty store (NOTFOUND where read_only). A
 * store with another dim than asked for, or made with another model, is MISMATCH. */
MLY_MUST_USE enum mly_err mly_store_open(const struct mly_env *env, const char *path,
                                         const struct mly_store_options *options,
                                         struct mly_store **out, struct mly_error *err);
/* The same for a handle: where another handle of this process has the store open with these options
 * and in that manner (what else must be equal, in the caller's words), both have one object. */
MLY_MUST_USE enum mly_err mly_store_hold(const struct mly_env *env, const char *path,
                                         const struct mly_store_options *options,
                                         struct mly_str manner, struct mly_store **out,
                                         struct mly_error *err);
/* mly_store_close by the last that holds it; by others: what was written is in the tables, or says
 * why it is not durable. Accepts NULL. */
enum mly_err mly_store_drop(struct mly_store *store, struct mly_error *err);
/* Every snapshot must have been released. Makes a checkpoint where there is something to be
 * written; gives why it, or what was acknowledged, could not be made durable; the store is gone
 * whatever it gives. Accepts NULL. */
enum mly_err mly_store_close(struct mly_store *store, struct mly_error *err);
/* Says which model will write from now on, where it was not known at open; MISMATCH as at open. */
MLY_MUST_USE enum mly_err mly_store_set_model(struct mly_store *store, struct mly_str model_id,
                                              struct mly_str model_hash, uint32_t dim,
                                              struct mly_error *err);

/* What is recorded of a model beside its id and hash; null or empty: nothing. */
struct mly_store_model {
    struct mly_str pooling, quantisation, query_prefix, passage_prefix;
};
/* Copies what stands in the tables from the next commit on; the first call counts. The hash names
 * all of it, so nothing is compared. */
MLY_MUST_USE enum mly_err mly_store_describe_model(struct mly_store *store,
                                                   const struct mly_store_model *model,
                                                   struct mly_error *err);

/* What open or set_model asked for, or the first commit with vectors made of it; 0: not known. */
uint32_t mly_store_dim(struct mly_store *store);

/* ---- reading ---- */

struct mly_store_counts {
    uint64_t documents, skipped, chunks;
    uint64_t documents_version, chunks_version; /* 0: no such table yet */
    uint64_t documents_fragments, chunks_fragments;
    uint64_t file_bytes;
    uint32_t dim; /* 0: not known yet */
};

/* The newest state, other programs' commits included. */
MLY_MUST_USE enum mly_err mly_store_pin(struct mly_store *store, struct mly_snapshot **out,
                                        struct mly_error *err);
void mly_snapshot_release(struct mly_snapshot *snapshot);
void mly_snapshot_get_counts(const struct mly_snapshot *snapshot, struct mly_store_counts *out);
/* What the tables say of the model that wrote them; null where they do not. */
struct mly_str mly_snapshot_model_id(const struct mly_snapshot *snapshot);
struct mly_str mly_snapshot_model_hash(const struct mly_snapshot *snapshot);
struct mly_store_model mly_snapshot_model(const struct mly_snapshot *snapshot);

/* Rows that were skipped count as documents here: look at status. Strings are copied into arena. */
MLY_MUST_USE enum mly_err mly_snapshot_find_document(const struct mly_snapshot *snapshot,
                                                     struct mly_str id, struct mly_arena *arena,
                                                     struct mly_document *out, bool *found,
                                                     struct mly_error *err);
/* Its file alone: path, path_raw; of the stamp, byte_count and modified_ns where has_stamp. */
MLY_MUST_USE enum mly_err mly_snapshot_find_file_of(const struct mly_snapshot *snapshot,
                                                    struct mly_str id, struct mly_arena *arena,
                                                    struct mly_document *out, bool *found,
                                                    struct mly_error *err);
/* path: the file's absolute path, its own bytes. */
MLY_MUST_USE enum mly_err mly_snapshot_find_path(const struct mly_snapshot *snapshot,
                                                 struct mly_str path, struct mly_arena *arena,
                                                 struct mly_document *out, bool *found,
                                                 struct mly_error *err);
/* Called for every document row, in no order; strings are borrowed during the call. A result other
 * than MLY_OK stops the listing and is passed on. */
typedef enum mly_err (*mly_document_fn)(void *context, const struct mly_document *document,
                                        struct mly_error *err);
MLY_MUST_USE enum mly_err mly_snapshot_each_document(const struct mly_snapshot *snapshot,
                                                     mly_document_fn fn, void *context,
                                                     struct mly_error *err);
/* The chunks of a document by ordinal (those without one last), into arena; vectors are borrowed
 * from the snapshot. */
MLY_MUST_USE enum mly_err mly_snapshot_document_chunks(const struct mly_snapshot *snapshot,
                                                       struct mly_str document_id,
                                                       struct mly_arena *arena,
                                                       struct mly_chunk_row **out, size_t *count,
                                                       struct mly_error *err);
/* How many there are. */
MLY_MUST_USE enum mly_err mly_snapshot_count_chunks(const struct mly_snapshot *snapshot,
                                                    struct mly_str document_id, size_t *count,
                                                    struct mly_error *err);
MLY_MUST_USE enum mly_err mly_snapshot_read_chunk(const struct mly_snapshot *snapshot,
                                                  uint64_t row_address, struct mly_arena *arena,
                                                  struct mly_chunk_row *out, struct mly_error *err);

/* Asks memory for some of them, so that reading them one by one need not wait for each. */
void mly_snapshot_fetch_chunks(const struct mly_snapshot *snapshot, const struct mly_match *matches,
                               size_t count);

/* Vectors of consecutive rows of one fragment, for scans. */
struct mly_vector_block {
    uint64_t first_address; /* row address of row 0; the others follow by 1 */
    const float *values;    /* f32[row_count][dim], row-major, 4-byte aligned at least */
    size_t row_count, dim;
    const uint8_t
        *dead; /* bitmap, bit i (LSB first) set: row i is deleted or has no vector; NULL: none is */
};
size_t mly_snapshot_block_count(const struct mly_snapshot *snapshot);
/* CORRUPT where the vectors are not what was written; looked at when they are first asked for. */
MLY_MUST_USE enum mly_err mly_snapshot_get_block(const struct mly_snapshot *snapshot,
                                                 size_t block_i, struct mly_vector_block *out,
                                                 struct mly_error *err);

/* ---- the vector index ---- */

/* What the snapshot has of the segments (index/vindex.h) that are there now. */
struct mly_snapshot_index;
/* *out NULL: no row of it is in any. Close it before the snapshot is released. */
MLY_MUST_USE enum mly_err mly_snapshot_open_index(struct mly_snapshot *snapshot,
                                                  struct mly_snapshot_index **out,
                                                  struct mly_error *err);
/* Accepts NULL. */
void mly_snapshot_close_index(struct mly_snapshot_index *index);
/* Borrowed until close. */
const struct mly_vindex_source *mly_snapshot_index_sources(const struct mly_snapshot_index *index,
                                                           size_t *count);
/* Is that block of the snapshot in a segment? Others are to be scanned. */
bool mly_snapshot_index_covers(const struct mly_snapshot_index *index, size_t block_i);
/* A mly_vindex_vector_fn for these sources; context is the snapshot. */
MLY_MUST_USE enum mly_err mly_snapshot_get_vector(void *context, const struct mly_vindex_part *part,
                                                  uint32_t row, const float **out,
                                                  struct mly_error *err);

/* The rows of some documents, of one snapshot, which must outlive it. */
struct mly_selection;
/* Ids that the snapshot does not have are passed over; no ids: no rows. */
MLY_MUST_USE enum mly_err mly_snapshot_select(const struct mly_snapshot *snapshot,
                                              const struct mly_str *document_ids, size_t count,
                                              struct mly_selection **out, struct mly_error *err);
/* Accepts NULL. */
void mly_selection_destroy(struct mly_selection *selection);
uint64_t mly_selection_row_count(const struct mly_selection *selection);
/* The next selected rows of a block from *row on: how many lie together, from *row, which is moved,
 * on; 0: no more. */
size_t mly_selection_run(const struct mly_selection *selection,
                         const struct mly_vector_block *block, size_t *row);
/* The index's sources for the selected rows alone; borrowed until the next call, destroy, or close
 * of the index. */
MLY_MUST_USE enum mly_err mly_selection_sources(struct mly_selection *selection,
                                                const struct mly_snapshot_index *index,
                                                const struct mly_vindex_source **out, size_t *count,
                                                struct mly_error *err);

/* A search found damage: what is damaged is thrown away, and made again by whoever makes it. */
void mly_snapshot_distrust_index(struct mly_snapshot_index *index);

/* Makes whatever of the index is missing or behind: reads the vectors, writes below
 * _memalloy/index. Needs no turn among writers; waits for whoever is at it. *made false: nothing
 * was due. pool may be NULL. What pulse gives, if not OK, ends it; nothing changed then. */
MLY_MUST_USE enum mly_err mly_store_make_index(struct mly_store *store, struct mly_pool *pool,
                                               mly_vindex_pulse_fn pulse, void *context, bool *made,
                                               struct mly_error *err);
/* Reads every segment, and throws those away that are damaged. */
MLY_MUST_USE enum mly_err mly_store_check_index(struct mly_store *store, struct mly_error *err);
/* Lets a thread of the store's do that where it is due, and returns at once. close stops it. */
void mly_store_index_soon(struct mly_store *store);

struct mly_store_index_state {
    uint64_t rows;    /* that segments have, of the newest snapshot; 0: everything is scanned */
    uint64_t pending; /* that could be in one and are scanned; below INDEX_ROWS_MIN they stay so */
    uint64_t segments, cells, segment_bytes, record_bytes;
    bool is_due, is_running, is_measured;
    double done;                   /* of what is running, 0 to 1 */
    struct mly_vindex_guard guard; /* of the largest segment */
};
MLY_MUST_USE enum mly_err mly_store_get_index_state(struct mly_store *store,
                                                    struct mly_store_index_state *out,
                                                    struct mly_error *err);

/* An index of the table's own format (lance/lance.h), in the table of chunks: for other programs
 * that search there, who keep it up then. Nothing here searches in it. */
struct mly_store_lance_index {
    bool is_there;    /* of any kind, whoever made it */
    bool is_ivf_pq;   /* of the kind that is made here */
    uint64_t rows;    /* of the newest snapshot that are in it */
    uint64_t pending; /* that are not */
    uint64_t bytes;
};
MLY_MUST_USE enum mly_err mly_store_get_lance_index(struct mly_store *store,
                                                    struct mly_store_lance_index *out,
                                                    struct mly_error *err);
/* Makes it where it is missing or far behind; check: or damaged, where we made it. Needs a turn
 * among writers at its end only. *made false: nothing was due, or there are fewer vectors than
 * MLY_IVFPQ_ROWS_MIN. UNSUPPORTED where one of another kind is behind. pool may be NULL; what pulse
 * gives, if not OK, ends it. */
MLY_MUST_USE enum mly_err mly_store_make_lance_index(struct mly_store *store, struct mly_pool *pool,
                                                     bool check, mly_vindex_pulse_fn pulse,
                                                     void *context, bool *made,
                                                     struct mly_error *err);

/* ---- writing ---- */

enum mly_change_kind {
    MLY_CHANGE_PUT,    /* document and all its chunks; replaces the document of that id */
    MLY_CHANGE_TOUCH,  /* the document's row only: a new stamp, or a file that is skipped and has no
                          chunks */
    MLY_CHANGE_REMOVE, /* document and chunks; only document.id is looked at */
    MLY_CHANGE_METADATA, /* metadata of the document and of its chunks; only id, metadata and
                            updated_at_us of the document are looked at. A document that is not
                            there stays away. */
};

/* The table has one byte_count: of a document with a stamp it is stamp.byte_count, the whole file's
 * (a byte order mark counted), and both read back as it. Rows are written under document.id. */
struct mly_change {
    enum mly_change_kind kind;
    struct mly_document document;
    const struct mly_chunk_row *rows; /* PUT: every chunk, with id, ordinal and vector */
    size_t row_count;
    uint32_t
        dim; /* of the rows' vectors; 0: the store's. Another one than the store's is MISMATCH */
    bool is_new; /* PUT: the id was made for it just now, so that there is nothing to replace */
};

/* Becomes the writer: takes the lock (BUSY after lock_wait_ms), catches up with other programs'
 * commits, and mends what an interrupted commit left between the two tables. Every begin needs its
 * end; other threads wait in begin. */
MLY_MUST_USE enum mly_err mly_store_begin(struct mly_store *store, struct mly_error *err);
/* The same; while it waits, for threads or processes, pulse (may be NULL) is asked at least every
 * 50 ms, with no lock of the store's held: a result other than MLY_OK ends the waiting and is
 * given. All waiting together takes lock_wait_ms; threads of one process take turns as they came.
 */
MLY_MUST_USE enum mly_err mly_store_begin_pulsed(struct mly_store *store, mly_pulse_fn pulse,
                                                 void *context, struct mly_error *err);
/* Lets others write, then waits until what was committed since begin is as durable as was asked:
 * only its OK acknowledges. Threads that wait share syncs. */
enum mly_err mly_store_end(struct mly_store *store, struct mly_error *err);
/* Between begin and end: one commit of all changes (ids differ); later pins see all of it, or none
 * where it fails. After the end of the process it is there; when end returns OK it is as durable as
 * asked. MEMORY is INVAL unless the store was opened so. */
MLY_MUST_USE enum mly_err mly_store_commit(struct mly_store *store,
                                           const struct mly_change *changes, size_t change_count,
                                           enum mly_durability durability, struct mly_error *err);
/* Everything that was committed before the call is durable when it returns OK. */
MLY_MUST_USE enum mly_err mly_store_flush(struct mly_store *store, struct mly_error *err);
/* Puts everything that was committed into the tables, where other programs see it: takes the lock
 * as begin does. */
MLY_MUST_USE enum mly_err mly_store_checkpoint(struct mly_store *store, struct mly_error *err);

/* What had to be dropped or mended since the store was opened; all zero: nothing. */
struct mly_store_report {
    uint64_t records;       /* commits that were found in the log and not in the tables */
    uint64_t dropped_bytes; /* of the log, that no crash-free end leaves */
    bool kept;              /* they are in _memalloy/lost+found */
    char reason[400];       /* of dropped bytes, or of a manifest that was set aside; "": neither */
};
void mly_store_get_report(struct mly_store *store, struct mly_store_report *out);

/* What became of one file, the log being one. */
struct mly_store_verified {
    const char *path; /* borrowed during the call, as reason is */
    uint64_t bytes;
    bool has_sums;      /* its bytes were compared; else its values were read */
    enum mly_err code;  /* OK, or what is wrong with it */
    const char *reason; /* of that; "": nothing */
};
/* A result other than MLY_OK ends the reading and is passed on. */
typedef enum mly_err (*mly_store_verified_fn)(void *context, const struct mly_store_verified *file,
                                              struct mly_error *err);
/* Reads every file of the newest state and tells fn of each. Damage is no failure of this call. */
MLY_MUST_USE enum mly_err mly_store_verify(struct mly_store *store, mly_store_verified_fn fn,
                                           void *context, struct mly_error *err);

#endif
