/* What the files of store/ share.
 *
 * A table's version is a view: its manifest, its fragments (opened once, counted, shared by the
 * views that have them) and their dead rows. A snapshot is one view of each table.
 *
 * Threads  mutex guards what the store calls newest and current, and who writes; key_mutex the key
 * indexes. key_mutex is taken last and nothing is released while it is held. Views, fragments and
 * dead sets are read-only once made, their counts atomic.
 */
#ifndef MLY_STORE_STORE_INT_H
#define MLY_STORE_STORE_INT_H

#include "base/bytes.h"
#include "lance/lance.h"
#include "store/store.h"

#include <stdatomic.h>

/* ---- columns: store_schema.c ---- */

enum mly_document_column {
    MLY_DOCUMENT_ID,
    MLY_DOCUMENT_PATH,
    MLY_DOCUMENT_PATH_RAW,
    MLY_DOCUMENT_DEVICE,
    MLY_DOCUMENT_INODE,
    MLY_DOCUMENT_CHANGED_NS,
    MLY_DOCUMENT_TITLE,
    MLY_DOCUMENT_METADATA,
    MLY_DOCUMENT_CONTENT_HASH,
    MLY_DOCUMENT_BYTE_COUNT,
    MLY_DOCUMENT_CHUNK_COUNT,
    MLY_DOCUMENT_STATUS,
    MLY_DOCUMENT_REASON,
    MLY_DOCUMENT_MODIFIED_NS,
    MLY_DOCUMENT_CREATED_AT,
    MLY_DOCUMENT_UPDATED_AT,
    MLY_DOCUMENT_COLUMNS
};

enum mly_chunk_column {
    MLY_CHUNK_ID,
    MLY_CHUNK_VECTOR,
    MLY_CHUNK_DOCUMENT_ID,
    MLY_CHUNK_CONTENT,
    MLY_CHUNK_METADATA,
    MLY_CHUNK_ORDINAL,
    MLY_CHUNK_BYTE_START,
    MLY_CHUNK_BYTE_END,
    MLY_CHUNK_LINE_START,
    MLY_CHUNK_LINE_END,
    MLY_CHUNK_PAGE_START,
    MLY_CHUNK_PAGE_END,
    MLY_CHUNK_HEADING,
    MLY_CHUNK_CREATED_AT,
    MLY_CHUNK_COLUMNS
};

#define MLY_STORE_COLUMNS_MAX 16

struct mly_store_column {
    struct mly_str name;
    enum mly_lance_type type;
    bool nullable;
    bool needed; /* a table without it is not ours to read; all others read as null */
};

enum mly_store_table_kind { MLY_STORE_DOCUMENTS, MLY_STORE_CHUNKS, MLY_STORE_TABLES };

/* Borrowed, static. */
const struct mly_store_column *mly_store_columns(enum mly_store_table_kind kind, size_t *count);
/* The fields of a new table; fields has room for MLY_STORE_COLUMNS_MAX. */
void mly_store_new_fields(enum mly_store_table_kind kind, uint32_t dim,
                          struct mly_lance_field *fields, size_t *count);
/* Where the manifest has our columns, by name; one of another type counts as absent. UNSUPPORTED
 * where a needed one is missing or the format is newer than ours. name is for messages. */
MLY_MUST_USE enum mly_err mly_store_find_fields(enum mly_store_table_kind kind, const char *name,
                                                const struct mly_lance_manifest *manifest,
                                                size_t fields[MLY_STORE_COLUMNS_MAX], uint32_t *dim,
                                                struct mly_error *err);

#define MLY_STORE_FORMAT 1
#define MLY_KEY_FORMAT MLY_STR("memalloy.format")
#define MLY_KEY_TABLE MLY_STR("memalloy.table")
#define MLY_KEY_MODEL_ID MLY_STR("memalloy.model_id")
#define MLY_KEY_MODEL_HASH MLY_STR("memalloy.model_hash")
#define MLY_KEY_MODEL_POOLING MLY_STR("memalloy.model_pooling")
#define MLY_KEY_MODEL_QUANTISATION MLY_STR("memalloy.model_quantisation")
#define MLY_KEY_MODEL_QUERY_PREFIX MLY_STR("memalloy.model_query_prefix")
#define MLY_KEY_MODEL_PASSAGE_PREFIX MLY_STR("memalloy.model_passage_prefix")
#define MLY_KEY_DIM MLY_STR("memalloy.dim")
#define MLY_KEY_METRIC MLY_STR("memalloy.metric")
#define MLY_STORE_MODEL_DETAILS 4
#define MLY_KEY_COMMIT MLY_STR("memalloy.commit")

/* ---- key indexes: store_keys.c ---- */

/* Consecutive rows of one fragment with one hash. */
struct mly_key_run {
    uint32_t hash;
    uint32_t next; /* run in the same bucket, MLY_KEY_END at the end */
    uint32_t serial, first, count;
};
#define MLY_KEY_END UINT32_MAX

/* From the hash of a key to rows that may have it. Rows of fragments that are gone stay in it until
 * they are too many: whoever looks something up checks every candidate. */
struct mly_keys {
    struct mly_mem *mem;
    uint32_t *buckets;
    size_t bucket_count; /* a power of two, or 0 */
    struct mly_key_run *runs;
    size_t count, capacity;
    uint32_t generation;        /* grows when everything is thrown away */
    _Atomic uint64_t gone_runs; /* of fragments that are gone */
};

void mly_keys_init(struct mly_keys *keys, struct mly_mem *mem);
void mly_keys_deinit(struct mly_keys *keys);
/* Forgets everything. */
void mly_keys_reset(struct mly_keys *keys);
/* Rows of a fragment must come in order. */
MLY_MUST_USE enum mly_err mly_keys_add(struct mly_keys *keys, uint32_t hash, uint32_t serial,
                                       uint32_t row, struct mly_error *err);
/* Takes back the newest runs until count are left. */
void mly_keys_cut(struct mly_keys *keys, size_t count);
/* The first run with that hash after run_i (MLY_KEY_END: from the start), or MLY_KEY_END. */
uint32_t mly_keys_next(const struct mly_keys *keys, uint32_t hash, uint32_t run_i);

/* ---- views: store_view.c ---- */

struct mly_store_table;

#define MLY_STORE_KEYS 2 /* documents: by id, by path; chunks: by document id */

/* A fragment's data files, opened once. */
struct mly_store_fragment {
    _Atomic uint32_t refs;
    struct mly_store_table *table;
    struct mly_lance_fragment *data;
    uint32_t serial; /* never given twice in the life of the store object */
    uint64_t id, row_count, file_bytes;
    uint32_t *skipped; /* documents: rows whose status is "skipped", ascending */
    size_t skipped_count, skipped_capacity;
    /* guarded by key_mutex: in which generation of the key index its rows stand (0: none), and in
     * how many runs */
    uint32_t keyed_generation[MLY_STORE_KEYS];
    uint64_t keyed_runs[MLY_STORE_KEYS];
};

/* The dead rows of a fragment, shared by the views that agree on them. */
struct mly_store_dead {
    _Atomic uint32_t refs;
    struct mly_mem *mem;
    struct mly_lance_deletions set;
};

struct mly_store_part {
    struct mly_store_fragment *fragment;
    struct mly_store_dead *dead; /* NULL: no row is dead */
};

/* One version of a table. Parts are in the order of the manifest's fragments. */
struct mly_store_view {
    _Atomic uint32_t refs;
    struct mly_store_table *table;
    struct mly_lance_manifest *manifest; /* NULL: there is no table */
    size_t fields[MLY_STORE_COLUMNS_MAX];
    uint32_t dim;
    struct mly_store_part *parts;
    size_t part_count;
    uint32_t *slots; /* serial -> part + 1, open addressing; slot_count is a power of two */
    size_t slot_count;
    uint64_t live_count, skipped_count, file_bytes;
    struct mly_vector_block *blocks; /* chunks */
    size_t block_count, block_capacity;
    struct mly_arena bits; /* dead bitmaps of blocks that could not be borrowed */
    uint32_t keyed_generation[MLY_STORE_KEYS]; /* guarded by key_mutex: all parts are in it */
};

struct mly_store_table {
    struct mly_store *store;
    enum mly_store_table_kind kind;
    struct mly_lance_table *lance;
    struct mly_store_view *newest;        /* guarded by mutex; NULL: never looked */
    struct mly_keys keys[MLY_STORE_KEYS]; /* guarded by key_mutex */
};

/* Makes table->newest the newest version. mutex is held. */
MLY_MUST_USE enum mly_err mly_store_table_refresh(struct mly_store_table *table,
                                                  struct mly_error *err);
/* The view of another version of the table of like, with which it shares what did not change. Where
 * it returns OK, manifest (NULL: there is no table) is the view's. mutex is held. */
MLY_MUST_USE enum mly_err mly_store_view_make(const struct mly_store_view *like,
                                              struct mly_lance_manifest *manifest,
                                              struct mly_store_view **out, struct mly_error *err);
struct mly_store_view *mly_store_view_retain(struct mly_store_view *view);
/* Accepts NULL. */
void mly_store_view_release(struct mly_store_view *view);
/* MLY_STORE_NO_PART where the view does not have the fragment. */
#define MLY_STORE_NO_PART SIZE_MAX
size_t mly_store_view_find_serial(const struct mly_store_view *view, uint32_t serial);
/* A null string where there is no table or no such key. */
struct mly_str mly_store_view_config(const struct mly_store_view *view, struct mly_str key);

static inline bool mly_store_part_is_dead(const struct mly_store_part *part, uint64_t row)
{
    return part->dead != NULL && mly_lance_deletions_has(&part->dead->set, row);
}

/* ---- rows: store_rows.c ---- */

/* One row of a view. */
struct mly_store_cell {
    const struct mly_store_view *view;
    const struct mly_store_part *part;
    uint64_t row;
};

/* The row of an address; INVAL where the view does not have it or it is dead. */
MLY_MUST_USE enum mly_err mly_store_cell_at(const struct mly_store_view *view, uint64_t address,
                                            struct mly_store_cell *out, struct mly_error *err);
/* column is one of the view's table. A null string where it is null or absent. Borrowed from the
 * view. */
MLY_MUST_USE enum mly_err mly_store_cell_string(const struct mly_store_cell *cell, size_t column,
                                                struct mly_str *out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_store_cell_int64(const struct mly_store_cell *cell, size_t column,
                                               int64_t null_value, int64_t *out,
                                               struct mly_error *err);
/* Strings are copied into arena, or borrowed from the view where it is NULL. */
MLY_MUST_USE enum mly_err mly_store_read_document(const struct mly_store_cell *cell,
                                                  struct mly_arena *arena, struct mly_document *out,
                                                  struct mly_error *err);
MLY_MUST_USE enum mly_err mly_store_read_chunk(const struct mly_store_cell *cell,
                                               struct mly_arena *arena, struct mly_chunk_row *out,
                                               struct mly_error *err);

/* ---- lookup: store_lookup.c ---- */

enum mly_store_key { MLY_STORE_KEY_ID = 0, MLY_STORE_KEY_PATH = 1, MLY_STORE_KEY_DOCUMENT_ID = 0 };

/* Row addresses. */
struct mly_store_rows {
    struct mly_mem *mem;
    uint64_t *items;
    size_t count, capacity;
};
void mly_store_rows_init(struct mly_store_rows *rows, struct mly_mem *mem);
void mly_store_rows_deinit(struct mly_store_rows *rows);
MLY_MUST_USE enum mly_err mly_store_rows_add(struct mly_store_rows *rows, uint64_t address,
                                             struct mly_error *err);
/* Ascending, each once. */
void mly_store_rows_sort(struct mly_store_rows *rows);
/* Appends the live rows of the view that have the key. */
MLY_MUST_USE enum mly_err mly_store_find_rows(const struct mly_store_view *view, size_t key_i,
                                              struct mly_str key, struct mly_store_rows *out,
                                              struct mly_error *err);
/* The chunks of a document by ordinal, those without one last. */
MLY_MUST_USE enum mly_err mly_store_document_chunks(const struct mly_store_view *chunks,
                                                    struct mly_str document_id,
                                                    struct mly_arena *arena,
                                                    struct mly_chunk_row **out, size_t *count,
                                                    struct mly_error *err);

/* ---- the store ---- */

struct mly_snapshot {
    _Atomic uint32_t refs;
    struct mly_store *store;
    struct mly_store_view *views[MLY_STORE_TABLES];
};

/* A thread that waits in begin; it stands on that thread's stack. */
struct mly_store_turn {
    struct mly_store_turn *next;
};

struct mly_store {
    const struct mly_env *env;
    struct mly_mem *mem;
    int64_t pid; /* of the process that opened it */
    char *path;  /* absolute */
    bool read_only;
    uint32_t lock_wait_ms;
    struct mly_store_table tables[MLY_STORE_TABLES];
    struct mly_mutex key_mutex;
    struct mly_mutex mutex;
    struct mly_cond cond; /* writing became false */
    /* guarded by mutex */
    uint32_t dim;                /* asked for; 0: whatever the table has */
    char *model_id, *model_hash; /* NULL: not known */
    /* of the same model, set once and then read by every commit: pooling, quantisation, prefix of
     * queries, of passages; NULL: none */
    char *model_details[MLY_STORE_MODEL_DETAILS];
    uint32_t serial_next;
    struct mly_snapshot *current; /* what was pinned last; NULL: nothing yet */
    bool writing;                 /* between begin and end */
    struct mly_store_turn *turns; /* who waits for that, the longest first */
    bool locked;                  /* and the lock is ours: nobody else is between the tables */
    bool committing;              /* a commit is under way: pins get current */
    uint64_t split_versions[MLY_STORE_TABLES]; /* two versions that do not belong together; current
                                                  is what is given for them */
    /* the writer's */
    struct mly_lock_file lock_file;
};

/* ---- versions that belong together: store_pair.c ---- */

/* The newest versions of both tables that come from one commit, where the newest of all do not.
 * Versions of a manifest are kept here from the newest back. */
struct mly_store_pair {
    struct mly_store *store;
    struct mly_store_history {
        struct mly_store_view *newest;
        struct mly_lance_manifest **back; /* back[i]: i versions before newest; back[0] is unused,
                                             NULL: there was no table yet */
        size_t count, capacity;           /* of back, from 0 */
        bool ended;                       /* there is nothing before */
    } tables[MLY_STORE_TABLES];
    size_t depth[MLY_STORE_TABLES]; /* of the pair: how many versions back */
    bool found;
};
/* How far readers look back, and whoever mends: others may have committed since. */
#define MLY_STORE_BACK_READER 4
#define MLY_STORE_BACK_MEND 64
/* depth_max: versions back of each table. The views must stay. mutex need not be held. */
MLY_MUST_USE enum mly_err mly_store_pair_find(struct mly_store_pair *pair, struct mly_store *store,
                                              struct mly_store_view *documents,
                                              struct mly_store_view *chunks, size_t depth_max,
                                              struct mly_error *err);
void mly_store_pair_deinit(struct mly_store_pair *pair);
/* The pair's version of a table; release it. *out NULL where its files are gone. mutex is held. */
MLY_MUST_USE enum mly_err mly_store_pair_view(struct mly_store_pair *pair,
                                              enum mly_store_table_kind kind,
                                              struct mly_store_view **out, struct mly_error *err);

/* The version of chunks that came next after the pair's; NULL where the pair's is the newest.
 * Borrowed from the pair. */
const struct mly_lance_manifest *mly_store_pair_next_chunks(const struct mly_store_pair *pair);

/* store_snapshot.c; mutex is held in all of these */
/* Makes current the newest version of both tables. */
MLY_MUST_USE enum mly_err mly_store_renew(struct mly_store *store, struct mly_error *err);
/* Does the asked-for model and dimension agree with what the tables say? */
MLY_MUST_USE enum mly_err mly_store_check_model(const struct mly_store *store,
                                                struct mly_error *err);
/* Do both tables' newest versions come from the same store commit? */
bool mly_store_is_whole(const struct mly_store *store);

/* ---- writing: store_write.c, store_commit.c, store_mend.c, store_lock.c ---- */

/* All rows of the changes' documents or chunks as a data file of the table; *out_rows 0: there are
 * none and no file was made. */
MLY_MUST_USE enum mly_err mly_store_write_rows(const struct mly_store_view *view,
                                               const struct mly_change *changes,
                                               size_t change_count, uint32_t dim,
                                               struct mly_lance_data_file *out, uint64_t *out_rows,
                                               struct mly_error *err);

/* Adds to out the rows of view that are to die. Called again for a newer view after a lost race. */
typedef enum mly_err (*mly_store_collect_fn)(void *context, const struct mly_store_view *view,
                                             struct mly_store_rows *out, struct mly_error *err);
/* One commit to one table. */
struct mly_store_step {
    struct mly_store_table *table;
    const struct mly_lance_data_file *file; /* NULL: no new rows */
    mly_store_collect_fn collect;           /* NULL: no row dies */
    void *context;
    struct mly_str commit_id; /* data NULL: stays as it is; bytes 0: the key is removed */
    uint32_t dim;             /* of a new table */
    bool *visible;            /* set where readers can see the step, even on failure; may be NULL */
};
MLY_MUST_USE enum mly_err mly_store_run_step(struct mly_store *store,
                                             const struct mly_store_step *step,
                                             struct mly_error *err);
/* The newest version of a table, for the writer; release it. */
MLY_MUST_USE enum mly_err mly_store_newest(struct mly_store *store, enum mly_store_table_kind kind,
                                           struct mly_store_view **out, struct mly_error *err);
/* The documents' part of a commit: their new rows, and the rows they replace die. The documents
 * table is made where there is none. */
MLY_MUST_USE enum mly_err mly_store_commit_documents(struct mly_store *store,
                                                     const struct mly_change *changes,
                                                     size_t change_count, struct mly_str commit_id,
                                                     uint32_t dim, struct mly_error *err);
/* Mends what an interrupted commit left between the tables; the lock is held. */
MLY_MUST_USE enum mly_err mly_store_mend(struct mly_store *store, struct mly_error *err);
/* How long a begin may wait, and whom it asks meanwhile. */
struct mly_store_wait {
    double end_s; /* by mly_clock_seconds */
    mly_pulse_fn pulse;
    void *context;
};
/* store_lock.c: the lock between processes, into lock_file */
MLY_MUST_USE enum mly_err mly_store_lock(struct mly_store *store, const struct mly_store_wait *wait,
                                         struct mly_error *err);
void mly_store_unlock(struct mly_store *store);
/* Is somebody writing, as far as can be told? Takes nothing. */
MLY_MUST_USE enum mly_err mly_store_lock_is_held(struct mly_store *store, bool *held,
                                                 struct mly_error *err);
/* Repeats what the manifests say in _memalloy/store.json, for people; failing does no harm. */
void mly_store_write_json(struct mly_store *store);

/* path/name, for the caller to free; NULL where memory failed. */
char *mly_store_join(struct mly_mem *mem, const char *path, const char *name);

#endif
