/* memalloy: the memory kernel for AI applications that run on one machine.
 *
 * Point it at a folder or hand it text: it chunks, embeds, stores and answers with cited passages.
 * No server, no network. This is the whole C interface; the Python package and the command use
 * nothing else.
 *
 * Text     UTF-8, given by pointer and byte count; it may hold NUL. Strings of hits and documents
 *          are NUL-terminated as well; contents of chunks are not.
 * Spans    byte spans are half open and count from 0; lines and pages count from 1 and are
 *          inclusive; -1 is unknown.
 * Structs  those that begin with struct_bytes are filled in with sizeof by the caller, options and
 *          results alike, so that a newer library knows which fields the caller knows. Zero in
 *          every other field means the default.
 * Owns     open/close and create/destroy come in pairs; every close and destroy accepts NULL, and
 *          so does every count. What a getter gives is borrowed from the object it was asked of,
 *          and valid until that object is destroyed.
 * Errors   functions that can fail return 0 (MEMALLOY_OK) or a code of MEMALLOY_ERR_MAP, and then
 *          fill in err, which is last and may be NULL. On failure the out parameters are untouched
 *          and the store is as before the call.
 * Threads  every handle may be used from any thread; results are read-only and may be shared.
 * Fork     a handle that was used before fork() fails with MEMALLOY_ERR_FORKED in the child;
 *          closing it there only frees memory. A store that was only opened is opened anew in each
 *          child at its first use there.
 */
#ifndef MEMALLOY_H
#define MEMALLOY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MEMALLOY_API __attribute__((visibility("default")))
#define MEMALLOY_CHECK __attribute__((warn_unused_result))
#else
#define MEMALLOY_API
#define MEMALLOY_CHECK
#endif
#define MEMALLOY_CALL MEMALLOY_API MEMALLOY_CHECK
#define MEMALLOY_VERSION_MAJOR 0
#define MEMALLOY_VERSION_MINOR 2
#define MEMALLOY_VERSION_PATCH 0

/* ---- errors ---- */

/* X(name, value, Python exception, text). Values are pinned: append only. */
#define MEMALLOY_ERR_MAP(X)                                                                        \
    X(OK, 0, None, "ok")                                                                           \
    X(NOMEM, 1, OutOfMemoryError, "out of memory")                                                 \
    X(INVAL, 2, InvalidArgumentError, "invalid argument")                                          \
    X(LIMIT, 3, LimitError, "a limit was exceeded")                                                \
    X(IO, 4, StoreIOError, "input or output failed")                                               \
    X(NOTFOUND, 5, NotFoundError, "not found")                                                     \
    X(CORRUPT, 6, CorruptError, "damaged data")                                                    \
    X(BUSY, 7, LockedError, "another process writes to this store")                                \
    X(READONLY, 8, ReadOnlyError, "the store is open for reading only")                            \
    X(CLOSED, 9, ClosedError, "the handle is closed")                                              \
    X(FORKED, 10, ForkedError, "the handle belongs to the parent process")                         \
    X(MODEL, 11, ModelError, "the model cannot be used")                                           \
    X(MISMATCH, 12, ModelMismatchError, "the store was made with another model")                   \
    X(UNSUPPORTED, 13, UnsupportedError, "not supported")                                          \
    X(CANCELLED, 14, CancelledError, "cancelled")                                                  \
    X(CONFLICT, 15, ConflictError, "another writer was faster")                                    \
    X(PARSE, 16, ParseError, "not readable as text")                                               \
    X(INTERNAL, 17, InternalError, "a mistake of memalloy's own")

/* The codes of the map under their names: MEMALLOY_ERR_NOMEM ... */
enum memalloy_err {
#define MEMALLOY_ERR_ENUM(name, value, exception, text) MEMALLOY_ERR_##name = (value),
    MEMALLOY_ERR_MAP(MEMALLOY_ERR_ENUM)
#undef MEMALLOY_ERR_ENUM
        MEMALLOY_OK = 0
};

/* What went wrong: the thing, the value, the limit. system_errno is 0 where the system was not
 * involved. */
#define MEMALLOY_ERROR_BYTES 512
struct memalloy_error {
    int code;
    int system_errno;
    char message[MEMALLOY_ERROR_BYTES];
};

/* Static text for a code, for instance "damaged data"; never NULL. */
MEMALLOY_API const char *memalloy_err_text(int code);
/* Static name of a code, for instance "CORRUPT"; never NULL. */
MEMALLOY_API const char *memalloy_err_name(int code);
/* "0.2.0" */
MEMALLOY_API const char *memalloy_version(void);

/* ---- text and progress ---- */

/* Borrowed bytes. data is NULL where the value is unknown (a null of the table), "" where it is
 * empty. */
struct memalloy_str {
    const char *data;
    size_t bytes;
};

enum memalloy_stage {
    MEMALLOY_STAGE_WALK = 0,    /* looking for files: total unknown */
    MEMALLOY_STAGE_INDEX = 1,   /* reading, chunking, embedding and storing what changed */
    MEMALLOY_STAGE_DONE = 2,    /* reported once, at the end */
    MEMALLOY_STAGE_EMBED = 3,   /* of memalloy_embed: items are texts, bytes those of the texts */
    MEMALLOY_STAGE_VECTORS = 4, /* making the vector index */
};

/* Counts so far. bytes_total and files_total cover what this call must read, known once the walk is
 * done; rates are of this call; remaining_s is below 0 while it cannot be told. */
struct memalloy_progress {
    size_t struct_bytes;
    int stage;
    const char *path; /* the file in hand, or NULL; valid during the callback */
    uint64_t files_done, files_total;
    uint64_t bytes_done, bytes_total, chunks_done;
    double elapsed_s, remaining_s, bytes_per_s;
    uint64_t items_done, items_total; /* in the stage's own unit; 0 where it has none */
};

/* Called from the thread that made the call, some thirty times a second; a result other than 0
 * cancels: what was committed stays, the call fails with CANCELLED. */
typedef int (*memalloy_progress_fn)(void *context, const struct memalloy_progress *progress);

/* ---- models ---- */

/* A sentence encoder: a read-only mapping of one model file and a pool of worker threads; or a
 * folder with model.onnx, which ONNX Runtime runs if it is installed. */
typedef struct memalloy_model memalloy_model;

struct memalloy_model_options {
    size_t struct_bytes;
    /* a model file, a folder with model.onnx and tokenizer.json, or the name of either in the
     * models' folder; NULL: $MEMALLOY_MODEL, else the installed default */
    const char *path;
    uint32_t threads; /* 0: every core the process may use */
    /* kernel set to force ("scalar", "avx2", "avx512vnni"); NULL: the best of this machine */
    const char *kernels;
    /* for folders; $MEMALLOY_ONNXRUNTIME goes before it; NULL: the system's */
    const char *onnxruntime_path;
};

struct memalloy_model_info {
    size_t struct_bytes;
    struct memalloy_str id; /* "all-MiniLM-L6-v2" */
    /* hex BLAKE2b-256 of the model file's header: names its tensors and checksums; of a folder: of
     * model.onnx, tokenizer.json, pooling and length */
    struct memalloy_str hash;
    struct memalloy_str quantisation; /* "int8"; "onnx" for a folder */
    struct memalloy_str kernels;      /* the kernel set in use; "onnxruntime 1.31.0" */
    struct memalloy_str path;
    uint32_t dim;
    uint32_t pieces_max; /* word pieces the model reads, [CLS] and [SEP] included */
    uint32_t threads;
    struct memalloy_str pooling; /* "mean" or "cls" */
    /* put in front of every query and of every passage; "" for most models */
    struct memalloy_str query_prefix, passage_prefix;
    struct memalloy_str tokenizer;       /* its kind: "word pieces", "unigram", "byte pairs" */
    struct memalloy_str license, source; /* as the file says; data is NULL where it does not */
    uint32_t layers, vocabulary;         /* layers is 0 for a folder */
    uint64_t file_bytes;                 /* 0 for a folder */
};

/* MODEL where there is no such file, it is not a model of ours, or ONNX Runtime is missing or
 * fails; UNSUPPORTED where a folder has settings that cannot be followed, the setting named;
 * CORRUPT where it is damaged. */
MEMALLOY_CALL int memalloy_model_open(memalloy_model **out,
                                      const struct memalloy_model_options *options,
                                      struct memalloy_error *err);
MEMALLOY_API void memalloy_model_close(memalloy_model *model);
MEMALLOY_CALL int memalloy_model_get_info(const memalloy_model *model,
                                          struct memalloy_model_info *out,
                                          struct memalloy_error *err);

/* Reads all weights and compares them with the file's checksum, which opening does not: CORRUPT
 * where they differ. Of a folder: CORRUPT where its files changed since it was opened. */
MEMALLOY_CALL int memalloy_model_verify(const memalloy_model *model, struct memalloy_error *err);

/* The models' folder, $MEMALLOY_MODELS, else $XDG_DATA_HOME/memalloy/models, else
 * ~/.local/share/memalloy/models: model files, named without ".safetensors", and folders with
 * model.onnx or links to such. Each is opened (its weights are not read), in the order of names;
 * the default model comes last where it lies elsewhere, its path for a name. Of options, path and
 * threads are not looked at. */
typedef struct memalloy_models memalloy_models;
struct memalloy_model_entry {
    size_t struct_bytes;
    struct memalloy_str name, path;
    struct memalloy_str error;              /* why it cannot be used; data is NULL where it can */
    const struct memalloy_model_info *info; /* NULL where it cannot be used */
    int is_default;
};
MEMALLOY_CALL int memalloy_models_list(memalloy_models **out,
                                       const struct memalloy_model_options *options,
                                       struct memalloy_error *err);
MEMALLOY_API size_t memalloy_models_count(const memalloy_models *models);
MEMALLOY_API const char *memalloy_models_folder(const memalloy_models *models);
MEMALLOY_API void memalloy_models_get(const memalloy_models *models, size_t index,
                                      struct memalloy_model_entry *out);
MEMALLOY_API void memalloy_models_destroy(memalloy_models *models);
/* Removes the file or link of that name from the models' folder; NOTFOUND. Programs that have the
 * model open keep it. */
MEMALLOY_CALL int memalloy_model_remove(const char *name, struct memalloy_error *err);

/* What a text is to the model: many are trained to tell what is asked from what is found, by a
 * prefix. Stores embed what they hold as passages and what is searched for as queries. */
enum memalloy_embed_kind { MEMALLOY_EMBED_PASSAGE = 0, MEMALLOY_EMBED_QUERY = 1 };

struct memalloy_embed_options {
    size_t struct_bytes;
    int kind;                      /* enum memalloy_embed_kind */
    memalloy_progress_fn progress; /* NULL: nobody; else asked every 50 ms or so */
    void *progress_context;
    unsigned char *truncated; /* NULL, or an array of count: 1 where the text was cut off, else 0 */
};

/* Turns texts into unit vectors. out: f32[count][dim], row-major. options NULL: passages. A text
 * that is longer than the model reads is cut off at pieces_max, its prefix counted; with options
 * or *truncated_count (may be NULL) one learns of it. A vector never depends on its batch or on
 * threads; with ONNX Runtime, by no more than 1e-5 in any number. On failure out holds nothing that
 * means anything. */
MEMALLOY_CALL int memalloy_embed(memalloy_model *model, const struct memalloy_str *texts,
                                 size_t count, const struct memalloy_embed_options *options,
                                 float *out, size_t *truncated_count, struct memalloy_error *err);

/* Word pieces of a text with their byte spans in it. Special tokens ([CLS], [SEP]) have the empty
 * spans at both ends. */
typedef struct memalloy_tokens memalloy_tokens;
MEMALLOY_CALL int memalloy_tokenize(memalloy_model *model, const char *text, size_t text_bytes,
                                    int special_tokens, memalloy_tokens **out,
                                    struct memalloy_error *err);
MEMALLOY_API size_t memalloy_tokens_count(const memalloy_tokens *tokens);
MEMALLOY_API const int32_t *memalloy_tokens_ids(const memalloy_tokens *tokens);
/* Borrowed: pairs of (byte_start, byte_end), one pair per token. */
MEMALLOY_API const uint64_t *memalloy_tokens_spans(const memalloy_tokens *tokens);
MEMALLOY_API void memalloy_tokens_destroy(memalloy_tokens *tokens);

/* ---- chunking ---- */

enum memalloy_chunking_kind {
    MEMALLOY_CHUNKING_HEADING =
        0, /* Markdown headings, then paragraphs, then sentences; sizes in word pieces */
    MEMALLOY_CHUNKING_SENTENCE = 1, /* whole sentences; sizes in characters (code points) */
    MEMALLOY_CHUNKING_FIXED = 2,    /* sizes in characters (code points) */
    MEMALLOY_CHUNKING_TOKEN = 3,    /* sizes in word pieces */
};

/* Sizes of this value are the kind's own: heading 254 and 0, token 254 and 32, sentence and fixed
 * 500 and 50. */
#define MEMALLOY_SIZE_DEFAULT INT64_MIN

struct memalloy_chunking {
    size_t struct_bytes;
    int kind;
    int64_t size;    /* of a chunk at most; above 0 */
    int64_t overlap; /* of neighbours at most; from 0 to size - 1 */
};

struct memalloy_chunk {
    size_t struct_bytes;
    struct memalloy_str content; /* text[byte_start:byte_end] */
    struct memalloy_str heading; /* those above it, joined by " > "; data is NULL: none */
    uint64_t byte_start, byte_end, line_start, line_end;
};

/* The chunks of a text: they cover it without a gap. model counts word pieces; without one (NULL)
 * heading and token chunking are refused and the others do not check that a model could read the
 * chunk whole. */
typedef struct memalloy_chunks memalloy_chunks;
MEMALLOY_CALL int memalloy_chunk_text(memalloy_model *model,
                                      const struct memalloy_chunking *chunking, const char *text,
                                      size_t text_bytes, memalloy_chunks **out,
                                      struct memalloy_error *err);
MEMALLOY_API size_t memalloy_chunks_count(const memalloy_chunks *chunks);
/* Fills in *out, whose struct_bytes is set. index must be below the count. */
MEMALLOY_API void memalloy_chunks_get(const memalloy_chunks *chunks, size_t index,
                                      struct memalloy_chunk *out);
MEMALLOY_API void memalloy_chunks_destroy(memalloy_chunks *chunks);
/* Checks sizes as every call that takes a chunking does. */
MEMALLOY_CALL int memalloy_chunking_check(const struct memalloy_chunking *chunking,
                                          struct memalloy_error *err);

/* ---- stores ---- */

/* An open store. */
typedef struct memalloy_kernel memalloy_kernel;

#define MEMALLOY_OPEN_READONLY 1u   /* never writes; the store must exist */
#define MEMALLOY_OPEN_NO_MODEL 2u   /* ready vectors only: dim must be given for a new store */
#define MEMALLOY_OPEN_NETWORK_FS 4u /* also on NFS, SMB, 9P, FUSE ..., which are UNSUPPORTED else */

/* What "acknowledged" means. flush, checkpoint and close make durable all there is. */
enum memalloy_durability {
    MEMALLOY_DURABILITY_DEFAULT = 0, /* of open: full; of a call: as the store was opened */
    MEMALLOY_DURABILITY_FULL = 1,    /* it survives a power cut */
    MEMALLOY_DURABILITY_NORMAL = 2,  /* the end of the process; of a power cut all but 100 ms */
    MEMALLOY_DURABILITY_OFF = 3,     /* the same without a bound of time */
    MEMALLOY_DURABILITY_MEMORY = 4,  /* nothing: of open only */
};

struct memalloy_options {
    size_t struct_bytes;
    uint32_t flags;
    uint32_t dim;          /* of a new store without a model; otherwise 0, or what it must be */
    uint32_t threads;      /* 0: every core the process may use */
    uint32_t lock_wait_ms; /* how long to wait for another writer; 0: 10,000 */
    const struct memalloy_model_options *model; /* NULL: the default, loaded when needed */
    const struct memalloy_chunking *chunking;   /* NULL: heading with its own sizes */
    int durability;                             /* enum memalloy_durability */
    /* what this handle, its model and its results hold at most; a call
     * that needs more fails with NOMEM and changes nothing. What is mapped of files is let go of
     * beyond it. 0: no limit */
    uint64_t memory_bytes_max;
    /* of the true nearest passages, what part a search must find, 0.5 to 1, where it does not say
     * itself; 1: every vector is looked at. 0: 0.95 */
    double recall;
};

/* Opens the store in the folder path, which is made (with its parents) at the first write. */
MEMALLOY_CALL int memalloy_open(memalloy_kernel **out, const char *path,
                                const struct memalloy_options *options, struct memalloy_error *err);
/* Waits for calls of other threads on this handle, checkpoints, and frees it, whatever it returns:
 * an error says what of the acknowledged could not be made durable. */
MEMALLOY_API int memalloy_close(memalloy_kernel *kernel, struct memalloy_error *err);
/* All that was acknowledged before the call is durable. */
MEMALLOY_CALL int memalloy_flush(memalloy_kernel *kernel, struct memalloy_error *err);
/* The same, and it stands in the Lance tables, where other programs see it. */
MEMALLOY_CALL int memalloy_checkpoint(memalloy_kernel *kernel, struct memalloy_error *err);

/* What a crash or damage had left, since the store was opened. */
struct memalloy_open_report {
    size_t struct_bytes;
    uint64_t records;       /* commits that were in the log and not in the tables yet */
    uint64_t dropped_bytes; /* of the log; with kept 1 they are in _memalloy/lost+found */
    int kept;
    char reason[400]; /* why they were, or what was set aside; "": neither */
};
MEMALLOY_CALL int memalloy_get_open_report(memalloy_kernel *kernel,
                                           struct memalloy_open_report *out,
                                           struct memalloy_error *err);

/* One file as memalloy_verify found it. */
struct memalloy_verified {
    size_t struct_bytes;
    struct memalloy_str path, reason; /* what is wrong with it; data is NULL: nothing */
    uint64_t bytes;
    int has_sums; /* 0: written by another program; its values were read, not compared */
};
typedef int (*memalloy_verify_fn)(void *context, const struct memalloy_verified *file);
/* Reads every file of the store. Damage does not fail the call: fn, which may be NULL, is told of
 * each file, *out_damaged counts. A result of fn other than 0 cancels. */
MEMALLOY_CALL int memalloy_verify(memalloy_kernel *kernel, memalloy_verify_fn fn, void *context,
                                  uint64_t *out_damaged, struct memalloy_error *err);
MEMALLOY_CALL int memalloy_set_chunking(memalloy_kernel *kernel,
                                        const struct memalloy_chunking *chunking,
                                        struct memalloy_error *err);

/* A document id: the caller's (1 to 512 bytes of UTF-8), else a UUIDv7. */
#define MEMALLOY_ID_BYTES_MAX 512
struct memalloy_id {
    size_t bytes;
    char text[MEMALLOY_ID_BYTES_MAX + 8]; /* NUL-terminated */
};

struct memalloy_add_options {
    size_t struct_bytes;
    struct memalloy_str document_id; /* data NULL: a new one; an id that exists is replaced */
    struct memalloy_str metadata;    /* a JSON object; data NULL: {} */
    memalloy_progress_fn progress;   /* as in a sync, where embedding takes long; NULL: nobody */
    void *progress_context;
    int durability; /* enum memalloy_durability; of several documents, the first one's */
};

/* Adds a text. out_id may be NULL. The same text and metadata under the same id change nothing;
 * changed text embeds only the chunks that changed. */
MEMALLOY_CALL int memalloy_add_text(memalloy_kernel *kernel, const char *text, size_t text_bytes,
                                    const struct memalloy_add_options *options,
                                    struct memalloy_id *out_id, struct memalloy_error *err);
/* Adds or refreshes one file; its document keeps its id for as long as its path is known. A file
 * that is not text, not UTF-8 or too large fails with PARSE or LIMIT and leaves nothing behind. */
MEMALLOY_CALL int memalloy_add_file(memalloy_kernel *kernel, const char *path,
                                    const struct memalloy_add_options *options,
                                    struct memalloy_id *out_id, struct memalloy_error *err);
/* Adds count documents of one chunk each with vectors of the caller's: f32[count][dim], finite and
 * not all zero, stored at unit length; each number is read once. options is NULL or an array of
 * count; out_ids is NULL or an array of count. One commit: all or none. options[0] has the
 * progress. */
MEMALLOY_CALL int memalloy_add_vectors(memalloy_kernel *kernel, const struct memalloy_str *contents,
                                       const float *vectors, size_t count, size_t dim,
                                       const struct memalloy_add_options *options,
                                       struct memalloy_id *out_ids, struct memalloy_error *err);
/* Adds count texts, embedded together; as add_vectors in all else. */
MEMALLOY_CALL int memalloy_add_texts(memalloy_kernel *kernel, const struct memalloy_str *texts,
                                     size_t count, const struct memalloy_add_options *options,
                                     struct memalloy_id *out_ids, struct memalloy_error *err);

/* Of writes that take nothing else. */
struct memalloy_write_options {
    size_t struct_bytes;
    int durability;
    memalloy_progress_fn progress; /* asked while it waits for others who write; NULL: nobody */
    void *progress_context;
};
/* Another JSON object for a document that is there (NOTFOUND); nothing is embedded. */
MEMALLOY_CALL int memalloy_update_metadata(memalloy_kernel *kernel, struct memalloy_str document_id,
                                           struct memalloy_str metadata,
                                           const struct memalloy_write_options *options,
                                           struct memalloy_error *err);
/* *out_removed is 1 if the document was there, 0 if there is no such id. */
MEMALLOY_CALL int memalloy_remove_document(memalloy_kernel *kernel, struct memalloy_str document_id,
                                           const struct memalloy_write_options *options,
                                           int *out_removed, struct memalloy_error *err);
/* Documents, without files that were skipped. */
MEMALLOY_CALL int memalloy_count(memalloy_kernel *kernel, uint64_t *out,
                                 struct memalloy_error *err);

struct memalloy_status {
    size_t struct_bytes;
    uint64_t documents, chunks, skipped;
    uint64_t documents_version, chunks_version; /* of the Lance tables; 0: not made yet */
    uint64_t documents_fragments, chunks_fragments;
    uint64_t file_bytes; /* of the data files of both tables */
    uint32_t dim;        /* 0: not known yet */
    uint32_t threads;
    int read_only;
    struct memalloy_chunking chunking;
    /* borrowed from the kernel; those of the model are "" where there is none */
    struct memalloy_str path, model_id, model_hash, model_pooling, model_quantisation;
};
MEMALLOY_CALL int memalloy_get_status(memalloy_kernel *kernel, struct memalloy_status *out,
                                      struct memalloy_error *err);

/* ---- folders ---- */

/* Patterns are globs on the path below the folder: * and ? stop at "/", ** does not, [a-z] is a
 * class; one without "/" matches names at any depth; one that matches a folder takes everything
 * below it. */
#define MEMALLOY_SYNC_FLAT 1u /* files of the folder itself, none of the folders in it */

/* What became of a file; told once it is committed. */
enum memalloy_file_change {
    MEMALLOY_FILE_ADDED = 1,
    MEMALLOY_FILE_REPLACED = 2,
    MEMALLOY_FILE_REMOVED = 3, /* it is gone */
    MEMALLOY_FILE_MOVED = 4,   /* the document of old_path, whose content it has, is its own now */
    /* with the reason; told once while the file is the same, but at each sync where it could not be
     * read, has no row, and so no document_id */
    MEMALLOY_FILE_SKIPPED = 5,
};
struct memalloy_file_event {
    size_t struct_bytes;
    int kind;
    struct memalloy_str path, old_path, reason, document_id; /* valid during the call */
};
typedef void (*memalloy_file_fn)(void *context, const struct memalloy_file_event *event);

struct memalloy_sync_options {
    size_t struct_bytes;
    const char *const *include; /* none: every file */
    size_t include_count;
    const char *const *exclude;
    size_t exclude_count;
    uint64_t file_bytes_max; /* larger files are skipped with a reason; 0: 64 MiB */
    memalloy_progress_fn progress;
    void *progress_context;
    int durability; /* enum memalloy_durability */
    /* Only these files and folders, there or gone: "notes/a.md" is below the folder; NULL: all. */
    const char *const *paths;
    size_t path_count;
    uint32_t flags;        /* MEMALLOY_SYNC_ */
    memalloy_file_fn file; /* NULL: nobody wants to know */
    void *file_context;
};

/* files + unread + away = added + replaced + moved + unchanged + skipped. */
struct memalloy_sync_counts {
    size_t struct_bytes;
    uint64_t added, replaced, removed, unchanged; /* documents */
    uint64_t skipped; /* files passed over with a reason, known from before or new */
    uint64_t bytes;   /* of files that were read */
    uint64_t chunks, chunks_embedded; /* of added and replaced documents; the others were kept */
    uint64_t tokens;                  /* word pieces embedded, special tokens included */
    double walk_s, read_s, chunk_s, token_s, embed_s, store_s, total_s;
    uint64_t moved;  /* files that were moved or renamed: nothing was embedded */
    uint64_t files;  /* that were found and looked at */
    uint64_t unread; /* folders that could not be listed: skipped, too */
    uint64_t away;   /* files that are gone, and kept as their disk may be away: skipped, too */
};

/* What one sync did. */
typedef struct memalloy_report memalloy_report;

/* Makes the store follow a folder: files new or changed are (re)indexed, documents of files that
 * are gone are removed (not where their disk may be away: the folder is on another one now); a new
 * file with the content of one that is gone takes over its document, id, metadata and vectors.
 * Files that the patterns leave out are left as they are in the store. Hidden
 * and binary files are left out, symbolic links are not followed out of the folder. */
MEMALLOY_CALL int memalloy_sync(memalloy_kernel *kernel, const char *folder,
                                const struct memalloy_sync_options *options, memalloy_report **out,
                                struct memalloy_error *err);
MEMALLOY_API void memalloy_report_get(const memalloy_report *report,
                                      struct memalloy_sync_counts *out);
/* Files that were skipped, with their reasons: "not UTF-8: byte 0xff at offset 12". index below
 * counts.skipped. */
MEMALLOY_API void memalloy_report_get_skipped(const memalloy_report *report, size_t index,
                                              struct memalloy_str *out_path,
                                              struct memalloy_str *out_reason);
MEMALLOY_API void memalloy_report_destroy(memalloy_report *report);

/* ---- search and reading ---- */

struct memalloy_hit {
    size_t struct_bytes;
    double score; /* cosine similarity: 1 is equal, -1 opposite */
    struct memalloy_str chunk_id, document_id;
    struct memalloy_str content;  /* the passage */
    struct memalloy_str metadata; /* of the document, JSON */
    struct memalloy_str path;     /* data is NULL for text that was handed in */
    struct memalloy_str heading;
    int64_t ordinal; /* which chunk of the document, from 0 */
    int64_t byte_start, byte_end, line_start, line_end, page_start, page_end;
    /* 1: the file is gone, or, as far as size and time tell, not the one that was indexed */
    int stale;
};

struct memalloy_search_explain;
struct memalloy_search_options {
    size_t struct_bytes;
    size_t top_k;  /* 0: 5; at most 2^31 - 1; k beyond the store gives all */
    double recall; /* 0: as the store was opened with */
    struct memalloy_search_explain
        *explain; /* filled in, its struct_bytes set; NULL: nobody asks */
    /* The documents to search in; NULL: all. Ids that the store does not have are passed over; with
     * none left, or document_id_count 0, nothing is found. */
    const struct memalloy_str *document_ids;
    size_t document_id_count;
    memalloy_progress_fn progress; /* asked every 50 ms or so, the counts zero; NULL: nobody */
    void *progress_context;
};

/* Hits, best first; ties by document id, then ordinal. */
typedef struct memalloy_hits memalloy_hits;
MEMALLOY_CALL int memalloy_search_text(memalloy_kernel *kernel, const char *query,
                                       size_t query_bytes,
                                       const struct memalloy_search_options *options,
                                       memalloy_hits **out, struct memalloy_error *err);
MEMALLOY_CALL int memalloy_search_vector(memalloy_kernel *kernel, const float *vector, size_t dim,
                                         const struct memalloy_search_options *options,
                                         memalloy_hits **out, struct memalloy_error *err);
MEMALLOY_API size_t memalloy_hits_count(const memalloy_hits *hits);
MEMALLOY_API void memalloy_hits_get(const memalloy_hits *hits, size_t index,
                                    struct memalloy_hit *out);
MEMALLOY_API void memalloy_hits_destroy(memalloy_hits *hits);

/* A time that is not known: another program wrote the row without it. */
#define MEMALLOY_TIME_UNKNOWN INT64_MIN

struct memalloy_document {
    size_t struct_bytes;
    struct memalloy_str id, path, title, metadata;
    struct memalloy_str content; /* the whole text; data is NULL in listings */
    int64_t byte_count, chunk_count;
    int64_t created_at_us, updated_at_us; /* since 1970, or MEMALLOY_TIME_UNKNOWN */
    int altered; /* 1: another program changed rows, which no longer give the text as added */
};

/* One document with its text, or pages of documents without it. */
typedef struct memalloy_documents memalloy_documents;
MEMALLOY_CALL int memalloy_get_document(memalloy_kernel *kernel, struct memalloy_str document_id,
                                        memalloy_documents **out, struct memalloy_error *err);
/* The document of a file, by its path. */
MEMALLOY_CALL int memalloy_get_document_at(memalloy_kernel *kernel, const char *path,
                                           memalloy_documents **out, struct memalloy_error *err);
/* At most limit documents (0: all) in the order of their ids, behind the id after (or all). */
MEMALLOY_CALL int memalloy_list_documents(memalloy_kernel *kernel, size_t limit,
                                          struct memalloy_str after, memalloy_documents **out,
                                          struct memalloy_error *err);
MEMALLOY_API size_t memalloy_documents_count(const memalloy_documents *documents);
MEMALLOY_API void memalloy_documents_get(const memalloy_documents *documents, size_t index,
                                         struct memalloy_document *out);
MEMALLOY_API void memalloy_documents_destroy(memalloy_documents *documents);

#ifdef __cplusplus
}
#endif

#include <memalloy_calls.h>
#include <memalloy_convert.h>
#include <memalloy_index.h>
#include <memalloy_watch.h>

#endif
