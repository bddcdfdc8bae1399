/* Private to lance/: what its files share. The door is lance.h. */
#ifndef MLY_LANCE_LANCE_INT_H
#define MLY_LANCE_LANCE_INT_H

#include "lance/lance.h"

#include "base/arena.h"
#include "base/endian.h"
#include "base/limits.h"
#include "sums/sums.h"

#include "lance_format.pb-c.h"

#include <string.h>

/* ---- numbers of the format (docs/FORMAT.md) ---- */

#define LANCE_FOOTER_BYTES ((size_t)40)          /* of a data file */
#define LANCE_MANIFEST_FOOTER_BYTES ((size_t)16) /* of a manifest */
#define LANCE_ALIGN ((uint64_t)64)               /* every buffer of a data file begins there */
#define LANCE_PARENT_NONE (-1)
#define LANCE_FIELD_TOMBSTONE (-2) /* a column that its table no longer has */

/* Of one name in a folder: file systems have none longer, manifests with such are refused. */
#define LANCE_FILE_NAME_BYTES_MAX ((size_t)255)

#define LANCE_FLAG_DELETIONS ((uint64_t)1)
#define LANCE_FLAG_OBSOLETE ((uint64_t)4)
#define LANCE_FLAG_CONFIG ((uint64_t)8)
#define LANCE_FLAGS_KNOWN (LANCE_FLAG_DELETIONS | LANCE_FLAG_OBSOLETE | LANCE_FLAG_CONFIG)

/* Ours: a page is flushed when its column has gathered this much. Readers take any size; the
 * official writer uses 8 MB. Half of that keeps a writer's memory low. */
#define LANCE_PAGE_BYTES ((size_t)4 << 20)
/* Encodings inside encodings: the format's deepest of ours is 4. */
#define LANCE_ENCODING_DEPTH_MAX 8
/* What unpacking one section may take: bounds what a small hostile file can make of itself. */
#define LANCE_UNPACK_BYTES_MAX ((size_t)1 << 30)

/* ---- bytes ---- */

/* Are bytes at offset inside a whole of total? Never wraps. */
static inline bool lance_inside(uint64_t offset, uint64_t bytes, uint64_t total)
{
    return offset <= total && bytes <= total - offset;
}

static inline bool lance_bit(const uint8_t *bits, uint64_t i)
{
    return (bits[i >> 3] >> (i & 7) & 1) != 0;
}

static inline struct mly_str lance_pb_str(ProtobufCBinaryData data)
{
    return (struct mly_str){data.data == NULL ? "" : (const char *)data.data, data.len};
}

/* A name that is one file of the folder it counts from: nothing else may be opened by a manifest.
 */
static inline bool lance_is_plain_name(struct mly_str name)
{
    if (name.bytes == 0 || name.bytes > LANCE_FILE_NAME_BYTES_MAX) return false;
    if (memchr(name.data, '/', name.bytes) != NULL) return false;
    if (memchr(name.data, '\0', name.bytes) != NULL) return false;
    return name.data[0] != '.';
}

/* ---- protobuf (lance_pb.c) ---- */

/* Unpacks bytes through mem. what names the file and section in messages. CORRUPT, NOMEM, LIMIT. */
MLY_MUST_USE enum mly_err mly_lance_unpack(struct mly_mem *mem,
                                           const ProtobufCMessageDescriptor *type,
                                           const uint8_t *data, size_t bytes, const char *what,
                                           ProtobufCMessage **out, struct mly_error *err);
void mly_lance_unpacked_free(struct mly_mem *mem, ProtobufCMessage *message);
/* A message of some bytes. */
MLY_MUST_USE enum mly_err mly_lance_pack(const ProtobufCMessage *message, struct mly_bytes *out,
                                         struct mly_error *err);
/* The same with the u32 of its length in front, as manifests keep sections. */
MLY_MUST_USE enum mly_err mly_lance_pack_section(const ProtobufCMessage *message,
                                                 struct mly_bytes *out, struct mly_error *err);
static inline ProtobufCBinaryData lance_pb_data(struct mly_str text)
{
    /* protobuf-c's packing only reads, its types cannot say so. */
    return (ProtobufCBinaryData){text.bytes, (uint8_t *)(uintptr_t)text.data};
}

/* ---- schema (lance_schema.c) ---- */

/* Reads a logical type; OTHER where it is none of ours. */
void mly_lance_parse_type(struct mly_str logical_type, enum mly_lance_type *type, uint32_t *dim);
/* Checks fields that are to be written: types, names, ids. */
MLY_MUST_USE enum mly_err mly_lance_check_fields(const struct mly_lance_field *fields,
                                                 size_t field_count, struct mly_error *err);
/* Fields as the format has them, in arena; names are borrowed. */
MLY_MUST_USE enum mly_err mly_lance_fields_to_pb(const struct mly_lance_field *fields,
                                                 size_t field_count, struct mly_arena *arena,
                                                 MlyPb__Field ***out, struct mly_error *err);

/* ---- table (lance_table.c) ---- */

struct mly_lance_table {
    const struct mly_env *env;
    char *path; /* without a slash at its end */
    size_t path_bytes;
    char *sums_path; /* NULL: there are no sums */
};

/* Room for the longest path of a table or of its sums, and two names below it: it always fits, and
 * what is too long for the system the system refuses. */
struct lance_path {
    char text[MLY_PATH_BYTES_MAX + 2 * LANCE_FILE_NAME_BYTES_MAX + 2];
};
/* "<table>/<folder>/<name>"; folder or name may be NULL. */
void mly_lance_path(const struct mly_lance_table *table, const char *folder, const char *name,
                    struct lance_path *out);
/* A result other than MLY_OK ends the listing and is passed on. */
typedef enum mly_err (*mly_lance_name_fn)(void *context, const char *folder, const char *name,
                                          struct mly_error *err);
/* Every name in that folder of the table, in no order; one that is not there has none.
 * lance_folder.c */
MLY_MUST_USE enum mly_err mly_lance_each_name(const struct mly_lance_table *table,
                                              const char *folder, mly_lance_name_fn fn,
                                              void *context, struct mly_error *err);
/* Makes the folder where it is missing: tables of other programs have only those that they needed.
 */
MLY_MUST_USE enum mly_err mly_lance_need_folder(const struct mly_lance_table *table,
                                                const char *folder, struct mly_error *err);
/* Writes to a temporary name beside path, syncs, renames. */
MLY_MUST_USE enum mly_err mly_lance_write_file(const struct mly_lance_table *table,
                                               const char *folder, const char *name,
                                               const void *data, size_t bytes,
                                               struct mly_error *err);
/* Unlinks where it can; for what no version names. */
void mly_lance_unlink(const struct mly_lance_table *table, const char *folder, const char *name);
/* ".tmp-" and 32 hex digits. */
#define LANCE_TEMP_NAME_BYTES 40
MLY_MUST_USE enum mly_err mly_lance_temp_name(const struct mly_lance_table *table, char *out,
                                              struct mly_error *err);
/* A whole file, at most bytes_max; out is appended to. */
MLY_MUST_USE enum mly_err mly_lance_read_file(const struct mly_env *env, const char *path,
                                              struct mly_bytes *out, struct mly_file_info *info,
                                              struct mly_error *err);

/* ---- names of files that are ours (lance_names.c) ---- */

/* 16 bytes of a UUID of version 8 that ends in a mark of ours, else chance. */
MLY_MUST_USE enum mly_err mly_lance_own_uuid(const struct mly_lance_table *table, uint8_t out[16],
                                             struct mly_error *err);
/* What a name in one of the table's folders says about who gave it. */
enum lance_name_kind {
    LANCE_NAME_FOREIGN,
    LANCE_NAME_TEMPORARY,   /* ours, and never seen by anybody else */
    LANCE_NAME_DATA,        /* ours, as those that follow: a version may name it */
    LANCE_NAME_DELETIONS,   /* ours */
    LANCE_NAME_TRANSACTION, /* ours */
    LANCE_NAME_INDEX        /* ours: a folder */
};
enum lance_name_kind mly_lance_name_kind(const char *name);
/* Is it a transaction of ours that read this version? */
bool mly_lance_is_own_transaction(const char *name, uint64_t read_version);
/* ".lance" and all. */
void mly_lance_data_name(const uint8_t uuid[16], char out[MLY_LANCE_NAME_BYTES]);
void mly_lance_uuid_text(const uint8_t uuid[16], char out[37]);
/* A number for a deletion file. */
MLY_MUST_USE enum mly_err mly_lance_deletion_id(const struct mly_lance_table *table, uint64_t *out,
                                                struct mly_error *err);

/* ---- sums (lance_sums.c) ---- */

/* What the name of a file's sums has behind the file's own. */
#define LANCE_SUMS_SUFFIX ".sum"
/* *found false: there are none, or none that can be read; out is untouched then. */
MLY_MUST_USE enum mly_err mly_lance_sums_read(const struct mly_lance_table *table, const char *name,
                                              struct mly_sums *out, bool *found,
                                              struct mly_error *err);
/* These three do nothing where the table has no sums, and what fails in them is not told: a file
 * without sums can be read. */
void mly_lance_sums_write(const struct mly_lance_table *table, const char *name,
                          const struct mly_sums *sums);
void mly_lance_sums_make(const struct mly_lance_table *table, const char *name, const void *data,
                         size_t bytes);
void mly_lance_sums_forget(const struct mly_lance_table *table, const char *name);
/* Removes those of all versions: the table was made anew. */
void mly_lance_sums_clear(const struct mly_lance_table *table);
/* Removes those of files that are gone, and what killed writers left of others. */
MLY_MUST_USE enum mly_err mly_lance_sums_clean(const struct mly_lance_table *table,
                                               struct mly_error *err);
/* Is the whole of a file that was read (path names it) what was written? OK without sums. */
MLY_MUST_USE enum mly_err mly_lance_sums_check(const struct mly_lance_table *table,
                                               const char *name, const char *path,
                                               const struct mly_bytes *bytes,
                                               struct mly_error *err);

/* ---- indices (lance_index.c, lance_index_file.c) ---- */

#define LANCE_INDICES_FOLDER "_indices"
#define LANCE_INDEX_FOLDER_BYTES 48
/* "_indices/<uuid>" */
void mly_lance_index_folder(const uint8_t uuid[16], char out[LANCE_INDEX_FOLDER_BYTES]);
#define LANCE_INDEX_MAIN "index.idx"
#define LANCE_INDEX_AUXILIARY "auxiliary.idx"
#define LANCE_INDEX_SUMS_BYTES 64
/* Under which the sums of one of its files are kept: "<uuid>-<name>". */
void mly_lance_index_sums_name(const uint8_t uuid[16], const char *name,
                               char out[LANCE_INDEX_SUMS_BYTES]);
/* Calls fn for the files of every index of ours that the manifest names. bytes: 0 where the
 * manifest does not say. */
typedef enum mly_err (*mly_lance_index_file_fn)(void *context, const char *folder, const char *name,
                                                const char *sums_name, uint64_t bytes,
                                                struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lance_each_index_file(const struct mly_lance_manifest *manifest,
                                                    mly_lance_index_file_fn fn, void *context,
                                                    struct mly_error *err);
/* Calls fn with the uuid, as text, of every index that the manifest names. */
MLY_MUST_USE enum mly_err mly_lance_each_index(const struct mly_lance_manifest *manifest,
                                               void (*fn)(void *context, const char *uuid),
                                               void *context, struct mly_error *err);
/* Is that file what was written? Reads it whole. *has_sums may be NULL. */
MLY_MUST_USE enum mly_err mly_lance_index_file_check(const struct mly_lance_table *table,
                                                     const char *folder, const char *name,
                                                     const char *sums_name, uint64_t bytes,
                                                     bool *has_sums, struct mly_error *err);

/* ---- manifest (lance_manifest.c, lance_versions.c) ---- */

enum lance_naming { LANCE_NAMING_V1, LANCE_NAMING_V2 };

struct lance_fragment_order {
    uint64_t id;
    size_t fragment_i;
};

struct mly_lance_manifest {
    struct mly_mem *mem;
    MlyPb__Manifest *pb;
    enum lance_naming naming;
    struct mly_file_info info; /* of its file, to see that it is still the same one */
    struct mly_lance_field *fields;
    size_t field_count;
    struct lance_fragment_order *order; /* by id */
    uint8_t *index_section;             /* pb, without its length; NULL: none */
    size_t index_section_bytes;
};

/* How often a listing is repeated when what it named is gone before it is opened. */
#define LANCE_LOAD_TRIES 5
#define LANCE_VERSION_NAME_BYTES 40
/* The file name of a version. */
void mly_lance_version_name(uint64_t version, enum lance_naming naming, char *out);
/* False for anything that is not a version: temporary files, the hint, detached versions. */
bool mly_lance_parse_version_name(const char *name, uint64_t *version, enum lance_naming *naming);
/* The newest version below that number; *version is 0 where there is none. */
MLY_MUST_USE enum mly_err mly_lance_find_version(const struct mly_lance_table *table,
                                                 uint64_t below, uint64_t *version,
                                                 enum lance_naming *naming, struct mly_error *err);
/* A manifest's bytes: is there nothing of ours in them? Such a version has no sums: those of its
 * name are of a table that was dropped, and was at the same number once. */
bool mly_lance_is_strange(const void *data, size_t bytes);
/* NOTFOUND where there is no such version, or none any more. */
MLY_MUST_USE enum mly_err mly_lance_load_version(const struct mly_lance_table *table,
                                                 uint64_t version, enum lance_naming naming,
                                                 struct mly_lance_manifest **out,
                                                 struct mly_error *err);
/* Bytes of a manifest file -> manifest, all of it checked; info and naming are left to the caller.
 */
MLY_MUST_USE enum mly_err mly_lance_manifest_parse(struct mly_mem *mem, const uint8_t *data,
                                                   size_t bytes, const char *path,
                                                   struct mly_lance_manifest **out,
                                                   struct mly_error *err);

/* ---- pages of data file version 2.0 (lance_page.c) ---- */

enum lance_page_kind {
    LANCE_PAGE_NULL,       /* nothing but nulls, no buffers */
    LANCE_PAGE_FLAT,       /* values: 32 or 64 bits per row */
    LANCE_PAGE_VECTOR,     /* values: f32[dim] per row */
    LANCE_PAGE_BINARY,     /* values: u64 per row, the end of its bytes */
    LANCE_PAGE_DICTIONARY, /* values: u8 per row, 0 is null, else 1 + item */
};

/* Byte strings one after the other: ends[i] is where string i ends in bytes; one that is null has
 * null_adjustment added. */
struct lance_strings {
    const uint8_t *ends; /* u64[count] */
    uint64_t count;
    const uint8_t *bytes;
    uint64_t byte_count, null_adjustment;
};

/* Pointers go into the mapped file; every extent is checked, the offsets in ends are not yet. */
struct lance_page {
    enum lance_page_kind kind;
    uint64_t first_row, row_count;
    const uint8_t *valid; /* bit clear: null; NULL: none is, but see strings */
    const uint8_t *values;
    struct lance_strings strings; /* BINARY: rows; DICTIONARY: items */
};

/* Where a page's bytes may lie and how to name it. */
struct lance_page_source {
    struct mly_mem *mem;
    const struct mly_map *map;
    const char *file;
    const struct mly_lance_field *field;
};
/* row_count and first_row of out are set by the caller before. */
MLY_MUST_USE enum mly_err mly_lance_page_read(const struct lance_page_source *source,
                                              const MlyPb__Page *pb, struct lance_page *out,
                                              struct mly_error *err);
/* String i of strings; CORRUPT where its bounds are none. */
MLY_MUST_USE enum mly_err mly_lance_strings_get(const struct lance_strings *strings, uint64_t i,
                                                struct mly_str *out, struct mly_error *err);

/* ---- fragment (lance_fragment.c, lance_get.c) ---- */

/* One field of the table in one fragment. page_count 0 of a fragment with rows: all null. */
struct lance_column {
    struct mly_lance_field field; /* name: points into the fragment's own copy */
    struct lance_page *pages;
    size_t page_count;
    size_t file_i; /* of its data file, for messages */
};

struct lance_open_file {
    struct mly_map map;
    struct mly_str name;   /* inside data/ */
    const char *path;      /* for messages */
    struct mly_sums *sums; /* NULL: it has none */
};
/* Bytes inside file's map: are they what was written? file has sums. */
MLY_MUST_USE enum mly_err mly_lance_check_range(const struct lance_open_file *file, const void *at,
                                                uint64_t bytes, struct mly_error *err);
static inline enum mly_err lance_check(const struct lance_open_file *file, const void *at,
                                       uint64_t bytes, struct mly_error *err)
{
    return file->sums == NULL ? MLY_OK : mly_lance_check_range(file, at, bytes, err);
}

struct mly_lance_fragment {
    struct mly_arena arena; /* holds all below */
    const struct mly_lance_table *table;
    uint64_t id, row_count;
    struct lance_open_file *files;
    size_t file_count;
    struct lance_column *columns; /* the manifest's top-level fields */
    size_t column_count;
};

/* ---- deletion files (lance_roaring.c, lance_arrow.c) ---- */

/* Adds the rows of a 32-bit portable Roaring bitmap to out. */
MLY_MUST_USE enum mly_err mly_lance_roaring_read(const uint8_t *data, size_t bytes,
                                                 struct mly_lance_deletions *out,
                                                 struct mly_error *err);
/* Appends set as one. */
MLY_MUST_USE enum mly_err mly_lance_roaring_write(const struct mly_lance_deletions *set,
                                                  struct mly_bytes *out, struct mly_error *err);
/* Adds the rows of an Arrow IPC file with one column of u32 to out. */
MLY_MUST_USE enum mly_err mly_lance_arrow_read(const uint8_t *data, size_t bytes,
                                               struct mly_lance_deletions *out,
                                               struct mly_error *err);
/* Appends what bytes expand to, which is expected_bytes or CORRUPT. (lance_zstd.c) */
MLY_MUST_USE enum mly_err mly_lance_zstd_read(struct mly_mem *mem, const uint8_t *data,
                                              size_t bytes, size_t expected_bytes,
                                              struct mly_bytes *out, struct mly_error *err);
#define LANCE_DELETION_NAME_BYTES 80
#define LANCE_DELETION_ARROW 0
#define LANCE_DELETION_BITMAP 1
void mly_lance_deletion_name(uint64_t fragment_id, const MlyPb__DeletionFile *file, char *out);

#endif
