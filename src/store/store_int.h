/* What a table is made of, for the files of store/; the store itself: store_state_int.h.
 *
 * A view is one state of a table: the fragments of a manifest (opened once, counted, shared by the
 * views that have them), behind them the tail, which is what the log has and the manifest has not,
 * and the dead rows of both. A snapshot is one view of each table.
 *
 * Threads  mutex guards what the store calls newest, current and records, and who writes; while
 * committing is set only the writing thread changes them. key_mutex guards the key indexes; it is
 * taken last and nothing is released while it is held. Views, fragments and dead sets are read-only
 * once made, their counts atomic; a slab only grows, behind what older views see of it.
 */
#ifndef MLY_STORE_STORE_INT_H
#define MLY_STORE_STORE_INT_H

#include "base/bytes.h"
#include "lance/lance.h"
#include "log/operation.h"
#include "store/store.h"
#include "store/store_keyfile.h"

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
/* Up to which record of the log the table has everything. */
#define MLY_KEY_LSN MLY_STR("memalloy.lsn")

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

/* ---- loads: store_load.c ---- */

/* What is longer goes round the log. */
#define MLY_STORE_RECORD_BYTES ((uint64_t)8 << 20)

/* Data files that the log names; of a record they belong to its arena. */
struct mly_store_load {
    struct mly_lance_data_file files[MLY_STORE_TABLES]; /* name "": none */
    bool is_new; /* none of its documents replaces one; never read from a log */
};
bool mly_store_is_load(const struct mly_change *changes, size_t change_count, uint32_t dim);
/* Or is it an operation of the record, even so? */
bool mly_store_goes_into_load(const struct mly_change *change);
struct mly_store;
/* Complete, with durable names; deinit it. */
MLY_MUST_USE enum mly_err mly_store_load_write(struct mly_store *store,
                                               const struct mly_change *changes,
                                               size_t change_count, struct mly_store_load *out,
                                               struct mly_error *err);
/* Removes the files, too. */
void mly_store_load_discard(struct mly_store *store, struct mly_store_load *load);
void mly_store_load_deinit(struct mly_store_load *load);
MLY_MUST_USE enum mly_err mly_store_load_encode(const struct mly_store_load *load,
                                                struct mly_bytes *out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_store_load_decode(struct mly_str payload, struct mly_arena *arena,
                                                struct mly_store_load **out, struct mly_error *err);

/* ---- records: store_record.c ---- */

#define MLY_STORE_UUID_BYTES 16

/* One commit as the log has it. The payload is that of one log record; FORMAT.md, "Commits". */
struct mly_store_record {
    _Atomic uint32_t refs;
    struct mly_mem *mem;
    uint64_t lsn; /* 0: not in the log yet */
    /* the tables that it was written for */
    uint8_t owner[MLY_STORE_TABLES * MLY_STORE_UUID_BYTES];
    struct mly_bytes payload;
    struct mly_arena arena; /* what is decoded of it, and rows that were made from older ones */
    struct mly_operation *operations;
    size_t count;
    struct mly_store_load *load; /* NULL: none; it comes before the operations */
};
/* Encodes changes, but for those that load has (NULL: none). The record has one reference. LIMIT
 * where they do not fit into one. */
MLY_MUST_USE enum mly_err mly_store_record_make(struct mly_mem *mem,
                                                const struct mly_change *changes, size_t count,
                                                uint32_t dim, const struct mly_store_load *load,
                                                struct mly_store_record **out,
                                                struct mly_error *err);
/* Copies and decodes what the log gave. */
MLY_MUST_USE enum mly_err mly_store_record_read(struct mly_mem *mem,
                                                const struct mly_log_record *from,
                                                struct mly_store_record **out,
                                                struct mly_error *err);
struct mly_store_record *mly_store_record_retain(struct mly_store_record *record);
/* Accepts NULL. */
void mly_store_record_release(struct mly_store_record *record);

/* ---- views: store_view.c ---- */

struct mly_store_table;
struct mly_store_rows;

/* Ids of the tail's parts, from 2^32 - 1 down; then they begin again. */
#define MLY_STORE_TAIL_PARTS_MAX ((uint32_t)1 << 24)
#define MLY_STORE_KEYS 2 /* documents: by id, by path; chunks: by document id */

/* Rows of the tail in memory: what records hold, and the vectors side by side. */
#define MLY_SLAB_ROWS 256
#define MLY_SLAB_ROWS_MIN 16
struct mly_store_slab {
    uint32_t dim;
    size_t capacity, count; /* rows; the count grows, views know how many they see */
    struct mly_store_record *records[MLY_SLAB_ROWS]; /* whom the rows borrow from */
    const void *rows[MLY_SLAB_ROWS];  /* struct mly_document or struct mly_chunk_row */
    float *vectors;                   /* chunks: f32[capacity][dim] */
    uint8_t valid[MLY_SLAB_ROWS / 8]; /* bit i (LSB first) clear: row i has no vector */
    bool has_null;
};

/* store_slab.c */
MLY_MUST_USE enum mly_err mly_store_slab_make(struct mly_mem *mem, enum mly_store_table_kind kind,
                                              uint32_t dim, struct mly_store_slab **out,
                                              struct mly_error *err);
/* Accepts NULL. */
void mly_store_slab_destroy(struct mly_mem *mem, struct mly_store_slab *slab);
/* There is room. */
struct mly_store_new_row;
void mly_store_slab_add(struct mly_store_slab *slab, enum mly_store_table_kind kind,
                        const struct mly_store_new_row *row);
/* column: one that is looked up or counted; there is no other here. */
struct mly_str mly_store_slab_string(const struct mly_store_slab *slab,
                                     enum mly_store_table_kind kind, uint64_t row, size_t column);
/* Strings are copied into arena, or borrowed where it is NULL. */
MLY_MUST_USE enum mly_err mly_store_slab_document(const struct mly_store_slab *slab, uint64_t row_i,
                                                  struct mly_arena *arena, struct mly_document *out,
                                                  struct mly_error *err);
MLY_MUST_USE enum mly_err mly_store_slab_chunk(const struct mly_store_slab *slab, uint64_t row_i,
                                               struct mly_arena *arena, struct mly_chunk_row *out,
                                               struct mly_error *err);

enum mly_keyfile_state {
    MLY_KEYFILE_GOOD,
    MLY_KEYFILE_BAD, /* the rows stand in memory */
    MLY_KEYFILE_LEFT /* the same; it was made anew for the next one who opens the store, or making
                        it failed once: it is not tried again */
};

/* A fragment's data files, opened once, or a slab. */
struct mly_store_fragment {
    _Atomic uint32_t refs;
    struct mly_store_table *table;
    struct mly_lance_fragment *data; /* NULL: it is a slab */
    struct mly_store_slab *slab;
    struct mly_store_record *record;        /* of a load that no manifest names yet, else NULL */
    const struct mly_lance_data_file *file; /* the record's */
    uint32_t serial;                        /* never given twice in the life of the store object */
    uint64_t id, row_count, file_bytes;     /* of a slab: its capacity */
    /* By which its rows are found; NULL: none. It may come later, but never goes. One that turned
     * out damaged stays, and the rows stand in memory. */
    struct mly_keyfile *_Atomic keyfile;
    _Atomic uint8_t keyfile_state;
    uint32_t *skipped; /* documents: rows whose status is "skipped", ascending; or in keyfile */
    size_t skipped_count, skipped_capacity;
    /* guarded by key_mutex: in which generation of the key index its rows stand (0: none), how many
     * of them, and in how many runs */
    uint32_t keyed_generation[MLY_STORE_KEYS];
    uint64_t keyed_rows[MLY_STORE_KEYS];
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
    uint64_t row_count;          /* that this view sees, dead ones included */
};

/* One state of a table. Parts are in the order of the manifest's fragments, those of the tail
 * behind them, with ids from 2^32 - 1 downwards. */
struct mly_store_view {
    _Atomic uint32_t refs;
    struct mly_store_table *table;
    struct mly_store_view *base;         /* the manifest's own view; NULL: this is it */
    struct mly_lance_manifest *manifest; /* the base's; NULL: there is no table */
    size_t base_count;                   /* parts of the manifest */
    uint64_t lsn; /* of a base: up to which record of the log the table has everything */
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
    struct mly_store_view *newest; /* guarded by mutex; NULL: never looked */
    uint64_t unsound;              /* guarded by mutex; damaged versions of ours above newest */
    struct mly_store_view *ahead;  /* guarded by mutex; the version above newest, where it has what
                                      the log lost; else NULL */
    uint32_t tail_parts;           /* made so far */
    struct mly_keys keys[MLY_STORE_KEYS]; /* guarded by key_mutex */
};

/* Makes table->newest the newest version that is sound. The log must have what those above it did:
 * what follows the log finds out. mutex is held. */
MLY_MUST_USE enum mly_err mly_store_table_refresh(struct mly_store_table *table,
                                                  struct mly_error *err);
/* After a log that ends before what one table has: the table goes back to the version before, which
 * the log is kept for (S-6). *done false: that is not how it is. mutex is held. */
MLY_MUST_USE enum mly_err mly_store_step_back(struct mly_store *store, bool *done,
                                              struct mly_error *err);
/* Undoes that: only who holds the lock can be sure. mutex is held. */
void mly_store_step_forth(struct mly_store *store);
/* Moves the damaged versions above them to lost+found. The lock and mutex are held, and the log has
 * been followed. */
MLY_MUST_USE enum mly_err mly_store_set_aside(struct mly_store *store, struct mly_error *err);
/* For store_grow.c. A view with nothing in it, to be filled and finished. */
MLY_MUST_USE enum mly_err mly_store_view_new(struct mly_store_table *table,
                                             struct mly_store_view **out, struct mly_error *err);
/* What follows from the parts: counts, vectors to scan, where to find a part. */
MLY_MUST_USE enum mly_err mly_store_view_finish(struct mly_store_view *view, struct mly_error *err);
/* Accepts NULL. */
void mly_store_dead_release(struct mly_store_dead *dead);
/* Notes that the row is a file that was skipped; rows come in order. */
MLY_MUST_USE enum mly_err mly_store_fragment_skip(struct mly_store_fragment *fragment,
                                                  struct mly_mem *mem, uint32_t row,
                                                  struct mly_error *err);

/* ---- growing: store_grow.c ---- */

/* A row to be added to the tail; what it points to belongs to the record. */
struct mly_store_new_row {
    struct mly_store_record *record;
    const void *row; /* struct mly_document or struct mly_chunk_row */
};
/* A fragment of the record's load, to be added to views like this one; release it. */
MLY_MUST_USE enum mly_err mly_store_fragment_adopt(const struct mly_store_view *view,
                                                   struct mly_store_record *record,
                                                   struct mly_store_fragment **out,
                                                   struct mly_error *err);
void mly_store_fragment_release(struct mly_store_fragment *fragment);
/* What old has, without the rows of dead (sorted), and with rows behind it, and behind them the
 * adopted fragment (NULL: none). dim is of the rows' vectors. One thread at a time for each table.
 */
MLY_MUST_USE enum mly_err mly_store_view_grow(struct mly_store_view *old,
                                              const struct mly_store_rows *dead,
                                              const struct mly_store_new_row *rows,
                                              size_t row_count, uint32_t dim,
                                              struct mly_store_fragment *adopted,
                                              struct mly_store_view **out, struct mly_error *err);
/* The manifest's view that this one stands on. */
static inline struct mly_store_view *mly_store_view_base(struct mly_store_view *view)
{
    return view->base != NULL ? view->base : view;
}
struct mly_store_view *mly_store_view_retain(struct mly_store_view *view);
/* Accepts NULL. */
void mly_store_view_release(struct mly_store_view *view);
/* Of decimal digits; 0 where they are none. */
uint64_t mly_store_number(struct mly_str text);
/* The table's own UUID; all zero where there is no table, or it was not made by us. */
void mly_store_view_uuid(const struct mly_store_view *view, uint8_t out[MLY_STORE_UUID_BYTES]);
/* MLY_STORE_NO_PART where the view does not have the fragment. */
#define MLY_STORE_NO_PART SIZE_MAX
size_t mly_store_view_find_serial(const struct mly_store_view *view, uint32_t serial);
/* The same by the fragment's id, which is the upper half of a row address. store_rows.c */
size_t mly_store_view_find_part(const struct mly_store_view *view, uint64_t fragment_id);
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
/* Asks memory for what read_chunk will read: where texts stand, then (is_there) the texts. */
void mly_store_fetch_chunk(const struct mly_store_cell *cell, bool is_there);
MLY_MUST_USE enum mly_err mly_store_read_chunk(const struct mly_store_cell *cell,
                                               struct mly_arena *arena, struct mly_chunk_row *out,
                                               struct mly_error *err);

/* ---- key files of fragments: store_keying.c ---- */

/* NULL where there is none, or no good one; close it. */
struct mly_keyfile *mly_store_keys_open(const struct mly_store_view *view,
                                        const struct mly_store_fragment *fragment);
/* Makes those that are missing and takes away those of data that is gone; failing does no harm. For
 * the holder of the lock. */
void mly_store_keys_make(const struct mly_store_view *view);

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
/* key_i is one of the view's table. A null string where the row has no such key. */
MLY_MUST_USE enum mly_err mly_store_read_key(const struct mly_store_cell *cell, size_t key_i,
                                             struct mly_str *out, struct mly_error *err);
/* Appends the live rows of the view that have the key, in no order; one may be there twice. */
MLY_MUST_USE enum mly_err mly_store_find_rows(const struct mly_store_view *view, size_t key_i,
                                              struct mly_str key, struct mly_store_rows *out,
                                              struct mly_error *err);
/* The chunks of a document by ordinal, those without one last. */
MLY_MUST_USE enum mly_err mly_store_document_chunks(const struct mly_store_view *chunks,
                                                    struct mly_str document_id,
                                                    struct mly_arena *arena,
                                                    struct mly_chunk_row **out, size_t *count,
                                                    struct mly_error *err);

#endif
