/* Speaks the Lance table format: columns <-> data files (version 2.0), manifests, deletion files,
 * transactions. docs/FORMAT.md has the bytes; lancedb and pylance read what is written here, and
 * what they do to such a table is read back.
 *
 *   <table>/data/NAME.lance        columns of one fragment's rows, never changed once named
 *   <table>/_deletions/             the rows of a fragment that are dead, one complete set per file
 *   <table>/_transactions/N.txn     what each version did, for writers that must catch up
 *   <table>/_versions/N.manifest    one per version; the newest is the table
 *   <table>/_indices/UUID/          of an index that others search in
 *
 * Commit   every file is synced before it gets its name and every directory before anything refers
 *          to a name in it: data and deletion files, then data/ and _deletions/, the transaction
 *          file, _transactions/, the manifest's temporary file; then the link that decides, then
 *          _versions/. Only then OK. The version hint comes last and may fail unnoticed.
 * Owns     see each; what a manifest or fragment gives is borrowed until its destroy or close.
 * Threads  a table, a manifest and a fragment are read-only and may be shared; a writer belongs to
 *          one thread at a time.
 * Errors   CORRUPT, UNSUPPORTED, IO name the file; NOMEM; LIMIT.
 */
#ifndef MLY_LANCE_LANCE_H
#define MLY_LANCE_LANCE_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/str.h"
#include "os/os.h"

#include <stdint.h>

/* ---- schema ---- */

enum mly_lance_type {
    MLY_LANCE_STRING, /* UTF-8, not checked when read */
    MLY_LANCE_BINARY,
    MLY_LANCE_INT64,
    MLY_LANCE_TIMESTAMP_US, /* since 1970 */
    MLY_LANCE_FLOAT32,
    MLY_LANCE_VECTOR, /* f32[dim] */
    MLY_LANCE_OTHER,  /* somebody else's column: carried along, never read or written */
    /* only in files of indices, and only written */
    MLY_LANCE_UINT64,
    MLY_LANCE_CODES, /* u8[dim] */
};

struct mly_lance_field {
    struct mly_str name;
    enum mly_lance_type type;
    uint32_t dim; /* VECTOR, CODES: 1 or more; else 0 */
    bool nullable;
    int32_t id; /* of a new table: its position, from 0 */
};

#define MLY_LANCE_NO_FIELD SIZE_MAX

/* ---- a table: the name of a directory ---- */

struct mly_lance_table;

/* Touches no disk. path is copied; make it absolute if the working directory may change. */
MLY_MUST_USE enum mly_err mly_lance_table_open(const struct mly_env *env, const char *path,
                                               struct mly_lance_table **out, struct mly_error *err);
/* Accepts NULL. Manifests, fragments and writers of the table must be gone. */
void mly_lance_table_close(struct mly_lance_table *table);
/* Sums of the table's files, block by block, are kept in the folder of this name (copied; made when
 * it is needed). Everything that is written gets sums then, and everything that has sums is
 * compared with them when it is first read: manifests and deletion files as a whole, data files
 * block by block. A file without sums is read as it is. Call it right after open. */
MLY_MUST_USE enum mly_err mly_lance_table_set_sums(struct mly_lance_table *table, const char *path,
                                                   struct mly_error *err);
/* Borrowed. */
const char *mly_lance_table_path(const struct mly_lance_table *table);
/* Makes the table's directory (its parent must exist) and those inside it; all durable when OK. Not
 * a table until the first commit. */
MLY_MUST_USE enum mly_err mly_lance_table_make(const struct mly_lance_table *table,
                                               struct mly_error *err);

/* ---- manifests: one version of a table ---- */

struct mly_lance_manifest;

/* The newest version; *out is NULL (and the result OK) where there is no table: no directory, or
 * none of its files is a manifest. UNSUPPORTED where it needs features that are unknown here. */
MLY_MUST_USE enum mly_err mly_lance_manifest_load(const struct mly_lance_table *table,
                                                  struct mly_lance_manifest **out,
                                                  struct mly_error *err);
/* What load_sound passed over. */
struct mly_lance_unsound {
    uint64_t count;          /* versions; 0: none */
    uint64_t version;        /* the newest of them */
    struct mly_error reason; /* what is wrong with it */
};
/* The newest version that is sound: as load, but a newer one whose manifest is CORRUPT (it does not
 * parse, or does not pass its sum) is passed over where it was made by us, which is what its
 * transaction file says. Only the caller knows whether what such a version did is elsewhere: in a
 * log. CORRUPT as load gives it where a damaged version is not known to be ours, or nothing before
 * it is sound. */
MLY_MUST_USE enum mly_err mly_lance_manifest_load_sound(const struct mly_lance_table *table,
                                                        struct mly_lance_manifest **out,
                                                        struct mly_lance_unsound *unsound,
                                                        struct mly_error *err);
/* Moves the damaged manifests above manifest's version into the folder (made where it is missing),
 * as "<table>-<name>": then manifest is the newest, and is committed on. A sound one, which another
 * program has just put there, stays and ends it, unless it is also (may be NULL). The caller holds
 * the writer's lock and has what load_sound gave. Durable when OK. */
MLY_MUST_USE enum mly_err mly_lance_set_aside(const struct mly_lance_table *table,
                                              const struct mly_lance_manifest *manifest,
                                              const struct mly_lance_manifest *also,
                                              const char *folder, struct mly_error *err);
/* The version before that of manifest; NOTFOUND where there is none, or none any more. */
MLY_MUST_USE enum mly_err mly_lance_manifest_load_before(const struct mly_lance_table *table,
                                                         const struct mly_lance_manifest *manifest,
                                                         struct mly_lance_manifest **out,
                                                         struct mly_error *err);
/* Accepts NULL. */
void mly_lance_manifest_destroy(struct mly_lance_manifest *manifest);
/* Two calls to the system: is this still the newest version? *stale also where the table was
 * dropped or made anew. manifest NULL: stale where there may be a table by now. */
MLY_MUST_USE enum mly_err mly_lance_manifest_is_stale(const struct mly_lance_table *table,
                                                      const struct mly_lance_manifest *manifest,
                                                      bool *stale, struct mly_error *err);

uint64_t mly_lance_manifest_version(const struct mly_lance_manifest *manifest);
size_t mly_lance_manifest_field_count(const struct mly_lance_manifest *manifest);
/* Top-level fields in the table's order. field_i below the count. */
void mly_lance_manifest_get_field(const struct mly_lance_manifest *manifest, size_t field_i,
                                  struct mly_lance_field *out);
/* MLY_LANCE_NO_FIELD where there is none. Names are compared byte by byte. */
size_t mly_lance_manifest_find_field(const struct mly_lance_manifest *manifest,
                                     struct mly_str name);
/* Every commit of ours sets this configuration to the number of the version that it makes. Other
 * programs carry it along unchanged, so a version is ours exactly where both agree. */
#define MLY_LANCE_OWN_KEY "memalloy.version"
bool mly_lance_manifest_is_ours(const struct mly_lance_manifest *manifest);
/* A null string where the key is absent. */
struct mly_str mly_lance_manifest_config(const struct mly_lance_manifest *manifest,
                                         struct mly_str key);

struct mly_lance_fragment_info {
    uint64_t id;
    uint64_t row_count;     /* physical: deleted rows included; row addresses count these */
    uint64_t deleted_count; /* what the manifest says; 0 where there is no deletion file */
    uint64_t file_bytes;    /* of its data files, 0 where the manifest does not say */
};
size_t mly_lance_manifest_fragment_count(const struct mly_lance_manifest *manifest);
void mly_lance_manifest_get_fragment(const struct mly_lance_manifest *manifest, size_t fragment_i,
                                     struct mly_lance_fragment_info *out);
/* SIZE_MAX where there is no fragment of that id. Ids are unique. */
size_t mly_lance_manifest_find_fragment(const struct mly_lance_manifest *manifest, uint64_t id);
/* Were all data files of the fragment written by us? */
bool mly_lance_manifest_is_our_fragment(const struct mly_lance_manifest *manifest,
                                        size_t fragment_i);
/* Do both versions keep the fragment of this id in the same data files, under the same schema? Then
 * a struct mly_lance_fragment opened for one serves the other. False where one lacks it. */
bool mly_lance_manifest_same_data(const struct mly_lance_manifest *a,
                                  const struct mly_lance_manifest *b, uint64_t fragment_id);
/* The same for its deletion file. */
bool mly_lance_manifest_same_deletions(const struct mly_lance_manifest *a,
                                       const struct mly_lance_manifest *b, uint64_t fragment_id);

/* ---- reading a fragment ---- */

/* The data files of a fragment, mapped or, where they are small, in memory. Opening checks all that
 * describes the data; offsets inside it are checked as they are used, so that opening stays cheap.
 * field_i is the manifest's. Fields that no file has are all null. */
struct mly_lance_fragment;

/* Needs the manifest only during the call. A data file of another version than 2.0, or an encoding
 * that is unknown here, is UNSUPPORTED. */
MLY_MUST_USE enum mly_err mly_lance_fragment_open(const struct mly_lance_table *table,
                                                  const struct mly_lance_manifest *manifest,
                                                  size_t fragment_i,
                                                  struct mly_lance_fragment **out,
                                                  struct mly_error *err);
/* The same for a data file that no version names yet: fields are the table's, which field_i counts
 * then; those that the file lacks are all null. fragment_id is what mly_lance_fragment_id says. */
struct mly_lance_data_file;
MLY_MUST_USE enum mly_err
mly_lance_fragment_open_file(const struct mly_lance_table *table,
                             const struct mly_lance_field *fields, size_t field_count,
                             const struct mly_lance_data_file *file, uint64_t fragment_id,
                             struct mly_lance_fragment **out, struct mly_error *err);
/* Accepts NULL. */
void mly_lance_fragment_close(struct mly_lance_fragment *fragment);
uint64_t mly_lance_fragment_id(const struct mly_lance_fragment *fragment);
uint64_t mly_lance_fragment_row_count(const struct mly_lance_fragment *fragment);
/* The name, inside data/, of the file that has a field's values, and its size; a null string where
 * none has. Borrowed from the fragment. */
struct mly_str mly_lance_fragment_file_of(const struct mly_lance_fragment *fragment, size_t field_i,
                                          uint64_t *file_bytes);

/* row below the row count; INVAL where the field has another type; CORRUPT where the bytes
 * contradict themselves. field_i MLY_LANCE_NO_FIELD reads as null. */

/* STRING, BINARY. out->data is NULL for a null; borrowed from the fragment. */
MLY_MUST_USE enum mly_err mly_lance_get_string(const struct mly_lance_fragment *fragment,
                                               size_t field_i, uint64_t row, struct mly_str *out,
                                               struct mly_error *err);
/* Asks memory for what get_string or get_int64 of that row will read: where a text stands; with
 * is_there, the text. Nothing fails. */
void mly_lance_fetch(const struct mly_lance_fragment *fragment, size_t field_i, uint64_t row,
                     bool is_there);
/* INT64, TIMESTAMP_US. null_value is given for a null. */
MLY_MUST_USE enum mly_err mly_lance_get_int64(const struct mly_lance_fragment *fragment,
                                              size_t field_i, uint64_t row, int64_t null_value,
                                              int64_t *out, struct mly_error *err);
/* FLOAT32. */
MLY_MUST_USE enum mly_err mly_lance_get_float32(const struct mly_lance_fragment *fragment,
                                                size_t field_i, uint64_t row, bool *is_null,
                                                float *out, struct mly_error *err);

/* Vectors that stand next to each other: those of one page, row first_row first. */
struct mly_lance_vectors {
    const float *values; /* f32[row_count][dim], aligned to 4 bytes; NULL: all of them are null */
    uint64_t first_row;
    size_t row_count, dim;
    const uint8_t *valid; /* bit i (LSB first) clear: row first_row + i is null; NULL: none is */
};
/* VECTOR. The page that holds row: begin with 0, go on at first_row + row_count. The values are not
 * compared with their sums here: whoever uses them calls mly_lance_check_vectors first. */
MLY_MUST_USE enum mly_err mly_lance_get_vectors(const struct mly_lance_fragment *fragment,
                                                size_t field_i, uint64_t row,
                                                struct mly_lance_vectors *out,
                                                struct mly_error *err);
/* VECTOR. Are the values of count rows from row on what was written? CORRUPT names file and bytes.
 * What was right once is not looked at again; then it costs next to nothing. */
MLY_MUST_USE enum mly_err mly_lance_check_vectors(const struct mly_lance_fragment *fragment,
                                                  size_t field_i, uint64_t row, uint64_t count,
                                                  struct mly_error *err);

/* ---- deletions ---- */

/* The dead rows of one fragment, a bitmap. */
struct mly_lance_deletions {
    struct mly_mem *mem;
    uint8_t *bits; /* bit i (LSB first) set: row i is dead; NULL: none is */
    uint64_t row_count, deleted_count;
};

/* Needs no memory yet. */
void mly_lance_deletions_init(struct mly_lance_deletions *set, struct mly_mem *mem,
                              uint64_t row_count);
void mly_lance_deletions_deinit(struct mly_lance_deletions *set);
/* out is initialised here. */
MLY_MUST_USE enum mly_err mly_lance_deletions_copy(const struct mly_lance_deletions *set,
                                                   struct mly_lance_deletions *out,
                                                   struct mly_error *err);
/* A row that is dead already is fine; INVAL beyond row_count. */
MLY_MUST_USE enum mly_err mly_lance_deletions_add(struct mly_lance_deletions *set, uint64_t row,
                                                  struct mly_error *err);
static inline bool mly_lance_deletions_has(const struct mly_lance_deletions *set, uint64_t row)
{
    return set->bits != NULL && row < set->row_count && (set->bits[row >> 3] >> (row & 7) & 1) != 0;
}
/* The set that the manifest names for the fragment (empty where it names none). out is initialised
 * here. */
MLY_MUST_USE enum mly_err mly_lance_deletions_read(const struct mly_lance_table *table,
                                                   const struct mly_lance_manifest *manifest,
                                                   size_t fragment_i,
                                                   struct mly_lance_deletions *out,
                                                   struct mly_error *err);

/* ---- writing a data file ---- */

#define MLY_LANCE_NAME_BYTES 64
/* A data file that is complete and synced under its name, not yet part of any version. Plain data;
 * fields is owned and freed by deinit. */
struct mly_lance_data_file {
    struct mly_mem *mem;
    char name[MLY_LANCE_NAME_BYTES]; /* inside data/ */
    int32_t *field_ids;              /* of its columns, in their order */
    size_t field_count;
    uint64_t row_count, file_bytes;
};
void mly_lance_data_file_deinit(struct mly_lance_data_file *file);
/* Unlinks a file that no version will name. Failing is not reported: an orphan does no harm. */
void mly_lance_data_file_discard(const struct mly_lance_table *table,
                                 const struct mly_lance_data_file *file);

/* Takes rows column by column and streams them out in pages of at most some MB, so that memory
 * stays bounded by columns * page. Columns may run apart, but finish wants the same count in all.
 */
struct mly_lance_writer;

/* fields: those that the file shall have (copied), with their ids in the table; what the table has
 * besides is null in these rows. mly_lance_table_make comes before. */
MLY_MUST_USE enum mly_err mly_lance_writer_open(const struct mly_lance_table *table,
                                                const struct mly_lance_field *fields,
                                                size_t field_count, struct mly_lance_writer **out,
                                                struct mly_error *err);
/* column_i counts the fields given to open. INVAL where a null comes to a field that has none, or
 * a value of another type. After a failure only close is left. */
MLY_MUST_USE enum mly_err mly_lance_put_string(struct mly_lance_writer *writer, size_t column_i,
                                               struct mly_str value, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_put_int64(struct mly_lance_writer *writer, size_t column_i,
                                              int64_t value, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_put_float32(struct mly_lance_writer *writer, size_t column_i,
                                                float value, struct mly_error *err);
/* values: f32[dim], copied. */
MLY_MUST_USE enum mly_err mly_lance_put_vector(struct mly_lance_writer *writer, size_t column_i,
                                               const float *values, struct mly_error *err);
/* A null in a column of any type. A null mly_str given to put_string is one too. */
MLY_MUST_USE enum mly_err mly_lance_put_null(struct mly_lance_writer *writer, size_t column_i,
                                             struct mly_error *err);
/* The same for count rows of one column; columns need not keep in step with each other. is_null:
 * bool[count], or NULL: none is. values of vectors: f32[count][dim], which must stay until the
 * writer is complete or closed: a long run is written from where it stands, by a thread. */
MLY_MUST_USE enum mly_err mly_lance_put_strings(struct mly_lance_writer *writer, size_t column_i,
                                                const struct mly_str *values, size_t count,
                                                struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_put_int64s(struct mly_lance_writer *writer, size_t column_i,
                                               const int64_t *values, const bool *is_null,
                                               size_t count, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_put_vectors(struct mly_lance_writer *writer, size_t column_i,
                                                const float *values, size_t count,
                                                struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_put_nulls(struct mly_lance_writer *writer, size_t column_i,
                                              size_t count, struct mly_error *err);
/* Writes the rest, and lets the disk begin with it; no row may follow. For files that are finished
 * one after the other: the disk has all of them before anybody waits. */
MLY_MUST_USE enum mly_err mly_lance_writer_complete(struct mly_lance_writer *writer,
                                                    struct mly_error *err);
/* Does that where it was not done, syncs, and gives the file its name. The name is durable after
 * the commit that uses it. The writer still needs its close. */
MLY_MUST_USE enum mly_err mly_lance_writer_finish(struct mly_lance_writer *writer,
                                                  struct mly_lance_data_file *out,
                                                  struct mly_error *err);
/* Accepts NULL; removes what was not finished. */
void mly_lance_writer_close(struct mly_lance_writer *writer);

/* ---- indices ---- */

/* A vector index of the kind IVF_PQ, for the programs that search such a table: centroids of
 * partitions, and of every row what product quantisation leaves of its difference to its
 * partition's, both of vectors of length 1 (the cosine). Nothing here reads it. */
struct mly_lance_index_shape {
    size_t dim, partition_count, sub_count; /* codes: sub_count bytes a row */
    const uint64_t *partition_rows;         /* [partition_count] */
    const float *centroids;                 /* f32[partition_count][dim] */
    const float *codebook;                  /* f32[sub_count][256][dim / sub_count] */
};

/* Its files are complete and synced; no version names them yet. Plain data. */
struct mly_lance_index {
    uint8_t uuid[16];
    uint32_t sub_count;
    uint64_t row_count, main_bytes, auxiliary_bytes; /* of its two files */
};

struct mly_lance_index_writer;
/* shape is borrowed until close. Makes the index's folder. */
MLY_MUST_USE enum mly_err mly_lance_index_writer_open(const struct mly_lance_table *table,
                                                      const struct mly_lance_index_shape *shape,
                                                      struct mly_lance_index_writer **out,
                                                      struct mly_error *err);
/* The next partition, as many rows as the shape says: u64 addresses[count] (fragment << 32 | row)
 * and u8 codes[sub_count][count]. */
MLY_MUST_USE enum mly_err mly_lance_index_put(struct mly_lance_index_writer *writer,
                                              const uint64_t *addresses, const uint8_t *codes,
                                              size_t count, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_index_writer_finish(struct mly_lance_index_writer *writer,
                                                        struct mly_lance_index *out,
                                                        struct mly_error *err);
/* Accepts NULL; removes what was not finished. */
void mly_lance_index_writer_close(struct mly_lance_index_writer *writer);
/* Removes one that no version will name. Failing is not reported. */
void mly_lance_index_discard(const struct mly_lance_table *table,
                             const struct mly_lance_index *index);

/* What a version says of its indices, whoever made them. */
struct mly_lance_indices;
/* CORRUPT where the manifest's section of them cannot be read. */
MLY_MUST_USE enum mly_err mly_lance_indices_read(const struct mly_lance_manifest *manifest,
                                                 struct mly_lance_indices **out,
                                                 struct mly_error *err);
/* Accepts NULL. The manifest may be gone. */
void mly_lance_indices_destroy(struct mly_lance_indices *indices);
size_t mly_lance_indices_count(const struct mly_lance_indices *indices);
struct mly_lance_index_info {
    struct mly_str name; /* several may have the same: they count as one */
    int32_t field_id;    /* the first of its fields; -1: none */
    bool is_vector, is_ivf_pq, is_ours;
    uint64_t bytes; /* of its files, where it is said */
};
/* Borrowed. index_i below the count. */
void mly_lance_indices_get(const struct mly_lance_indices *indices, size_t index_i,
                           struct mly_lance_index_info *out);
/* Are the rows of that fragment in it? Fragments that are gone stay named. */
bool mly_lance_indices_cover(const struct mly_lance_indices *indices, size_t index_i,
                             uint64_t fragment_id);
/* Are the files of all indices of ours what was written? CORRUPT names the file. OK of one without
 * sums that has its size. */
MLY_MUST_USE enum mly_err mly_lance_indices_check(const struct mly_lance_table *table,
                                                  const struct mly_lance_manifest *manifest,
                                                  struct mly_error *err);

/* ---- commit ---- */

/* An index that comes in the place of all those of its name. */
struct mly_lance_index_change {
    const struct mly_lance_index *index;
    struct mly_str name;
    int32_t field_id;
    uint64_t version;          /* that its rows were read from */
    const uint64_t *fragments; /* whose rows are in it; ids */
    size_t fragment_count;
};

/* New state of a fragment's dead rows: the complete set, more than the manifest had. A set of all
 * rows removes the fragment. */
struct mly_lance_deletion_change {
    uint64_t fragment_id;
    const struct mly_lance_deletions *set;
};

struct mly_lance_pair {
    struct mly_str key, value; /* a null value removes the key */
};

/* One commit. Additions alone are an Append, deletions alone a Delete, both an Update, an index
 * (and nothing of these) a CreateIndex, config alone an UpdateConfig; without a base it is the
 * table's creation. */
struct mly_lance_change {
    const struct mly_lance_data_file *files; /* each becomes a fragment, in this order */
    size_t file_count;
    const struct mly_lance_deletion_change *deletions; /* fragment ids differ */
    size_t deletion_count;
    const struct mly_lance_index_change *index; /* NULL: none */
    const struct mly_lance_pair *config;
    size_t config_count;
    const struct mly_lance_field *fields; /* of a creation; else NULL */
    size_t field_count;
};

/* Makes version base + 1 (base NULL: version 1). CONFLICT where that version exists by now: load
 * the newest, look at it, and try again; files stay usable. Everything that the base's manifest
 * says and that is not changed here, known or not, is carried over. So are indices as they are:
 * rows of new fragments are in none, and of fragments that are gone nobody finds any, as with other
 * programs' commits.
 * *visible (may be NULL) tells whether the new version can be seen, which it can where only a sync
 * after the link failed: then the files must stay and the manifest be loaded again. *out (may be
 * NULL) is the new version, the caller's. */
MLY_MUST_USE enum mly_err mly_lance_commit(const struct mly_lance_table *table,
                                           const struct mly_lance_manifest *base,
                                           const struct mly_lance_change *change,
                                           struct mly_lance_manifest **out, bool *visible,
                                           struct mly_error *err);

/* ---- sums ---- */

/* Makes the sums that are missing of the files that the manifest names, and of its own: of what
 * other programs wrote, and of what was written before there were sums. Reads those files whole. A
 * manifest that has nothing of ours in it gets none.
 * *made (may be NULL) counts them. Nothing to do where the table has no folder of sums. */
MLY_MUST_USE enum mly_err mly_lance_adopt(const struct mly_lance_table *table,
                                          const struct mly_lance_manifest *manifest, uint64_t *made,
                                          struct mly_error *err);

/* What became of one file. */
struct mly_lance_verified {
    const char *path; /* borrowed during the call */
    uint64_t bytes;
    bool has_sums;
    enum mly_err code;  /* OK, or what is wrong with it */
    const char *reason; /* of that; borrowed */
};
/* A result other than MLY_OK ends the reading and is passed on. */
typedef enum mly_err (*mly_lance_verified_fn)(void *context, const struct mly_lance_verified *file,
                                              struct mly_error *err);
/* Reads all files of the version: those that have sums are compared with them, whatever was read
 * before, those that have none are decoded, every value. fn is told of each. Damage is no failure
 * of this call; want of memory is. */
MLY_MUST_USE enum mly_err mly_lance_verify(const struct mly_lance_table *table,
                                           const struct mly_lance_manifest *manifest,
                                           mly_lance_verified_fn fn, void *context,
                                           struct mly_error *err);

/* ---- cleaning ---- */

/* What stays. */
struct mly_lance_keep {
    uint64_t versions;        /* the newest so many, whoever made them; 1 or more */
    const char *const *files; /* data files that no version names, but a log does */
    size_t file_count;
    bool indices; /* all of them: somebody may be writing one */
};
struct mly_lance_cleaned {
    uint64_t versions, data_files, deletion_files, transactions, temporary_files, index_files;
    uint64_t bytes; /* of all of them */
    bool is_frozen; /* nothing but temporary files was removed: see below */
};
/* Removes versions of ours beyond keep, and those files that no version left names: data, deletion
 * and transaction files and indices of ours, and what killed writers of ours left. The caller holds
 * the writer's lock, and no writer of this process is between open and commit, but for files in
 * keep.
 *
 * What others made stays, and so do versions that tags of Lance name. Where there is a version
 * that another program made, ours of the last hour stay: a handle that is behind needs them.
 * Where the table has branches, or something in it cannot be read, nothing but temporary files is
 * removed (is_frozen). Sums of files that are gone go too.
 *
 * A version's name goes first, and durably, before the files that it named. A reader that is about
 * to open files of a version that goes finds them missing: it loads the newest again. report (may
 * be NULL) is set on failure too. */
MLY_MUST_USE enum mly_err mly_lance_clean(const struct mly_lance_table *table,
                                          const struct mly_lance_keep *keep,
                                          struct mly_lance_cleaned *report, struct mly_error *err);

#endif
