/* What the files of engine/ share. */
#ifndef MLY_ENGINE_ENGINE_INT_H
#define MLY_ENGINE_ENGINE_INT_H

#include "engine/engine.h"

#include "chunk/chunk.h"
#include "base/limits.h"
#include "embed/embed.h"
#include "flow/flow.h"
#include "kern/kern.h"
#include "search/search.h"
#include "source/source.h"
#include "store/store.h"
#include "token/token.h"

/* One batch at a time goes through a model, and a query before everything that waits: pthread
 * mutexes alone would let an ingest take its own lock again and again. */
struct mly_gate {
    struct mly_mutex mutex; /* guards what follows */
    struct mly_cond free;
    bool busy;
    uint64_t urgent; /* callers that wait and go first */
};

/* What stands in front of every text of a kind. */
struct mly_prefix {
    struct mly_str text;      /* the embedder's; empty: nothing */
    struct mly_tokens tokens; /* its word pieces when it stands alone */
};

struct memalloy_model {
    const struct mly_env *env;
    int64_t pid;
    const struct mly_kern *kern;
    struct mly_pool *pool;
    struct mly_embedder *embedder;
    struct mly_tokenizer *tokenizer;
    struct mly_prefix prefixes[2]; /* by enum memalloy_embed_kind */
    struct mly_gate gate;
    char *path;
    uint64_t file_bytes; /* 0: a folder */
};

struct memalloy_kernel {
    const struct mly_env *env;       /* the caller's, or own_env */
    struct mly_env own_env;          /* the caller's with own_mem, where memory is limited */
    struct mly_mem *own_mem;         /* NULL: no limit */
    const struct mly_env *birth_env; /* where the kernel itself was taken from */
    _Atomic int64_t pid;             /* of the process that opened it */
    _Atomic bool is_used; /* a call was made on it: a child of fork() has no use for it */
    struct mly_store_options store_options;
    struct mly_runtime *runtime; /* held, so that its threads stay between calls */
    struct mly_store *store;
    struct mly_searcher *searcher;
    const struct mly_kern *kern;
    struct mly_arena arena; /* path and options, for the kernel's life */
    struct mly_str path;
    bool read_only, no_model;
    double recall; /* of searches that do not say */
    uint32_t threads;
    struct memalloy_model_options model_options;
    struct mly_mutex mutex; /* guards what follows */
    struct mly_cond idle;
    uint64_t calls; /* under way */
    bool closing;
    struct mly_chunking chunking;
    struct mly_str model_texts[4]; /* as status gave them last, in arena */
    memalloy_model *model;         /* NULL until it is needed; never replaced after */
    struct mly_watches *watches;   /* NULL: there was none yet */
};

/* ---- watching.c ---- */

/* Ends all watches and lets go of them; in a child of fork() nothing is done. Accepts NULL. */
void mly_watches_close(struct mly_watches *watches);

/* ---- options.c ---- */

/* Copies given (NULL: nothing) over local, which holds the defaults and begins with its own
 * struct_bytes. Fields that the caller does not know keep their defaults; fields that we do not
 * know must be zero. INVAL otherwise. */
MLY_MUST_USE enum mly_err mly_options_take(void *local, size_t local_bytes, const void *given,
                                           const char *name, struct mly_error *err);
/* Fills the caller's struct from ours as far as the caller knows it. */
void mly_options_give(void *caller, const void *local, size_t local_bytes);
/* chunking NULL: heading. Checked and resolved. */
MLY_MUST_USE enum mly_err mly_options_chunking(const struct memalloy_chunking *chunking,
                                               struct mly_chunking *out, struct mly_error *err);
/* As much of the text as fits with a NUL behind it, cut between characters. */
void mly_options_copy_text(char *out, size_t out_bytes, struct mly_str text);
/* As the store names it; INVAL for a number that has no name. */
MLY_MUST_USE enum mly_err mly_options_durability(int given, enum mly_durability *out,
                                                 struct mly_error *err);
struct mly_write_request {
    enum mly_durability durability;
    memalloy_progress_fn progress; /* NULL: nobody watches */
    void *progress_context;
};
/* Of calls that take nothing else; options may be NULL. */
MLY_MUST_USE enum mly_err mly_options_write(const struct memalloy_write_options *options,
                                            struct mly_write_request *out, struct mly_error *err);
/* Checks that every float is a number and the vector is not all zero, and brings it to unit length.
 * what names it. */
MLY_MUST_USE enum mly_err mly_unit_vector(const float *in, size_t dim, const char *what, float *out,
                                          struct mly_error *err);

static inline struct mly_str mly_str_in(struct memalloy_str text)
{
    return (struct mly_str){text.data, text.bytes};
}
static inline struct memalloy_str mly_str_out(struct mly_str text)
{
    return (struct memalloy_str){text.data, text.bytes};
}

/* 0, or 0.5 to 1. */
MLY_MUST_USE enum mly_err mly_options_recall(double given, struct mly_error *err);

/* ---- add_many.c ---- */

/* INVAL where the snapshot's vectors have another dimension. */
MLY_MUST_USE enum mly_err mly_engine_check_dim(const struct mly_snapshot *snapshot, size_t dim,
                                               struct mly_error *err);

/* ---- answer.c ---- */

/* Search options, resolved. */
struct mly_asked {
    size_t top_k;
    float recall;
    struct memalloy_search_explain *explain; /* NULL: nobody asks */
    const struct memalloy_str *document_ids; /* NULL: all */
    size_t document_id_count;
    memalloy_progress_fn progress; /* NULL: nobody watches */
    void *progress_context;
};
MLY_MUST_USE enum mly_err mly_engine_take_ask(const memalloy_kernel *kernel,
                                              const struct memalloy_search_options *options,
                                              struct mly_asked *out, struct mly_error *err);
/* The rows of the documents that are asked for; NULL where that is all. */
MLY_MUST_USE enum mly_err mly_engine_select(memalloy_kernel *kernel,
                                            const struct mly_snapshot *snapshot,
                                            const struct mly_asked *asked,
                                            struct mly_selection **out, struct mly_error *err);
void mly_engine_explain(const struct mly_asked *asked, const struct mly_search_stats *stats);
MLY_MUST_USE enum mly_err mly_engine_make_hits(memalloy_kernel *kernel,
                                               const struct mly_snapshot *snapshot,
                                               const struct mly_match *matches, size_t count,
                                               memalloy_hits **out, struct mly_error *err);

/* ---- models.c ---- */

/* The kernel set of that name, $MEMALLOY_KERNELS where wanted is NULL, else the best there is. */
MLY_MUST_USE enum mly_err mly_choose_kern(const struct mly_env *env, const char *wanted,
                                          const struct mly_kern **out, struct mly_error *err);
/* The word pieces of a text for a chunker: context is the model. */
struct mly_meter mly_model_meter(memalloy_model *model);
/* How many word pieces of a text fit between those that stand around it. */
size_t mly_model_text_pieces_max(const memalloy_model *model);
/* Appends one sequence for the embedder: the first count tokens in the tokenizer's frame to ids
 * (i32), and where it ends to starts (size_t). */
MLY_MUST_USE enum mly_err mly_model_frame(const memalloy_model *model,
                                          const struct mly_tokens *tokens, size_t count,
                                          struct mly_bytes *ids, struct mly_bytes *starts,
                                          struct mly_error *err);
MLY_MUST_USE enum mly_err mly_model_check(const memalloy_model *model, struct mly_error *err);
/* INVAL where a text of the caller's is NULL or not UTF-8, LIMIT where it is too long. */
MLY_MUST_USE enum mly_err mly_model_check_text(struct mly_str text, const char *what, size_t text_i,
                                               struct mly_error *err);
/* Word pieces that go to the embedder at once: enough to keep every thread busy, few enough that
 * who comes next waits for a fifth of a second at most. */
size_t mly_model_batch_pieces(const memalloy_model *model);
/* The same for callers who want to be asked every 50 ms or so, from what the last batch took. */
size_t mly_model_fit_batch(const memalloy_model *model, size_t pieces, double seconds);
#define MLY_WATCHED_PIECES_MIN ((size_t)256)
/* mly_embedder_encode when it is the caller's turn; an urgent caller's is the next. */
MLY_MUST_USE enum mly_err mly_model_encode(memalloy_model *model, const int32_t *ids,
                                           const size_t *starts, size_t count, bool urgent,
                                           float *out, struct mly_error *err);

/* ---- model_folder.c ---- */

/* $MEMALLOY_MODELS, else below $XDG_DATA_HOME, else below ~; it may not exist. */
MLY_MUST_USE enum mly_err mly_models_folder(const struct mly_env *env, char out[MLY_PATH_BYTES_MAX],
                                            struct mly_error *err);
/* The path of the model to use: wanted where it exists, else of that name in the models' folder;
 * NULL: $MEMALLOY_MODEL, else the installed one. MODEL where there is none. */
MLY_MUST_USE enum mly_err mly_models_find(const struct mly_env *env, const char *wanted,
                                          char out[MLY_PATH_BYTES_MAX], struct mly_error *err);
/* Whether it can be a name there: no slash, no dot in front, not empty. */
bool mly_models_is_name(const char *text);
/* What a model with that hash is called here, or "": none is found. */
void mly_models_name_hash(const struct mly_env *env, struct mly_str hash, char *out,
                          size_t out_bytes);

/* ---- embedding.c ---- */

/* The prefixes of the model's card, in word pieces; MODEL where they leave no room for a text. */
MLY_MUST_USE enum mly_err mly_model_init_prefixes(memalloy_model *model, struct mly_error *err);
void mly_model_deinit_prefixes(memalloy_model *model);
/* Word pieces of a text of that kind that the model reads, prefix and special tokens not counted.
 */
size_t mly_model_room(const memalloy_model *model, enum memalloy_embed_kind kind);

/* Room for turning texts into sequences, used again for each. */
struct mly_framing {
    struct mly_tokens tokens;
    struct mly_bytes joined; /* prefix and text, or their tokens */
};
void mly_framing_init(struct mly_framing *framing, struct mly_mem *mem);
void mly_framing_deinit(struct mly_framing *framing);
/* Appends the sequence of one text to ids and starts as mly_model_frame does, the kind's prefix in
 * front. *cut: the text was longer than the model reads, its end is missing; never the prefix. */
MLY_MUST_USE enum mly_err mly_model_frame_text(const memalloy_model *model,
                                               enum memalloy_embed_kind kind, struct mly_str text,
                                               struct mly_framing *framing, struct mly_bytes *ids,
                                               struct mly_bytes *starts, bool *cut,
                                               struct mly_error *err);

/* ---- kernel.c ---- */

/* Every call on a kernel begins with enter (FORKED, CLOSED) and ends with leave. */
MLY_MUST_USE enum mly_err mly_kernel_enter(memalloy_kernel *kernel, struct mly_error *err);
void mly_kernel_leave(memalloy_kernel *kernel);
/* enter, and READONLY for a store that must not be written. */
MLY_MUST_USE enum mly_err mly_kernel_enter_writing(memalloy_kernel *kernel, struct mly_error *err);
/* The model, opened when first asked for; MODEL where the kernel was opened without one. */
MLY_MUST_USE enum mly_err mly_kernel_get_model(memalloy_kernel *kernel, memalloy_model **out,
                                               struct mly_error *err);
struct mly_chunking mly_kernel_get_chunking(memalloy_kernel *kernel);
/* Where memory ran out, puts behind the message how much the kernel was allowed. */
void mly_kernel_explain(const memalloy_kernel *kernel, enum mly_err rc, struct mly_error *err);

/* ---- ingest.c: texts -> chunks -> vectors -> one commit ---- */

struct mly_ingest_times {
    double chunk_s, token_s, embed_s, store_s;
};

/* One document on its way into the store. Strings are borrowed or in the ingest's arena. */
struct mly_ingest_item {
    enum mly_change_kind kind;
    struct mly_document document;
    bool replaces;       /* a document of this id is there already */
    bool is_new;         /* its id was made just now: nobody else has it */
    bool keeps_metadata; /* none was given: what the document has stays */
    bool is_of_path;     /* the id is that of the path's document, nobody asked for it */
    /* the document was this file's, which is gone, and gets another path; null: it keeps its own */
    struct mly_str moved_from, moved_from_shown;
    struct mly_str donor_id; /* a document of the snapshot with the same text, or null */
    struct mly_text text;    /* owned by the item once it is added */
    struct mly_chunks chunks;
    struct mly_chunk_row *rows;
    size_t row_count;
};

struct mly_ingest {
    memalloy_kernel *kernel;
    memalloy_model *model;         /* NULL until a chunk must be embedded */
    struct mly_snapshot *snapshot; /* pinned by the caller; where old vectors are looked for */
    uint32_t dim;                  /* of vectors that the caller brings; 0: the store's */
    enum mly_durability durability;
    struct mly_arena arena;
    struct mly_ingest_item *items;
    size_t count, capacity;
    struct mly_chunking chunking;
    size_t row_count;             /* of all items */
    size_t text_bytes;            /* of all items */
    size_t pieces_max;            /* that wait for the embedder before it is time for a commit */
    struct mly_bytes ids, starts; /* of the chunks to embed: i32, size_t */
    struct mly_bytes targets;     /* where their vectors go: struct mly_chunk_row * */
    struct mly_framing framing;
    uint64_t chunks_embedded, tokens_embedded;
    struct mly_ingest_times times;
    size_t batch_pieces; /* that go to the embedder at once, where a pulse is asked */
    /* asked all along; other than OK stops. NULL: nobody watches */
    enum mly_err (*pulse)(void *context, struct mly_error *err);
    void *pulse_context;
    double *pulse_last_s; /* when it told last; 0 makes it tell at once. NULL: unknown */
    /* told of every item once its commit is made, as it was committed; or NULL; pulse's context */
    void (*done)(void *context, const struct mly_ingest_item *item);
};

void mly_ingest_init(struct mly_ingest *ingest, memalloy_kernel *kernel,
                     struct mly_snapshot *snapshot);
void mly_ingest_deinit(struct mly_ingest *ingest);
/* Takes item (its text above all) on success; document.id is set, old vectors of that id are
 * reused. */
MLY_MUST_USE enum mly_err mly_ingest_add(struct mly_ingest *ingest, struct mly_ingest_item *item,
                                         struct mly_error *err);
/* Room for count items, all zero, behind those that were added; to be filled in place, with rows
 * that have their vectors and texts that are borrowed. Then fill_room takes them all. */
MLY_MUST_USE enum mly_err mly_ingest_room(struct mly_ingest *ingest, size_t count,
                                          struct mly_ingest_item **out, struct mly_error *err);
void mly_ingest_fill_room(struct mly_ingest *ingest, size_t count);
/* Embeds what must be embedded and commits everything as one; then it is empty again. */
MLY_MUST_USE enum mly_err mly_ingest_commit(struct mly_ingest *ingest, struct mly_error *err);
/* Time for a commit, so that memory stays bounded. */
bool mly_ingest_is_full(const struct mly_ingest *ingest);

/* ---- add.c ---- */

/* Options of an add that were checked. */
struct mly_add_request {
    struct mly_str wanted_id; /* null: none */
    struct mly_str metadata;  /* null: none was given */
    enum mly_durability durability;
    memalloy_progress_fn progress; /* NULL: nobody watches */
    void *progress_context;
};
MLY_MUST_USE enum mly_err mly_take_add_request(const struct memalloy_add_options *options,
                                               struct mly_add_request *out, struct mly_error *err);
/* Whether what the store has is that text, and nothing is asked that would change its row. */
bool mly_is_same_text(const struct mly_document *old, const struct mly_text *text,
                      const struct mly_add_request *request);
/* Fills item's row for a document of status ok; request may be NULL; old is the row that it
 * replaces, or NULL: its metadata and birth are kept where nothing else is said. */
void mly_fill_document(struct mly_ingest_item *item, const struct mly_env *env,
                       const struct mly_add_request *request, const struct mly_document *old,
                       const struct mly_text *text);

/* ---- ids.c ---- */

MLY_MUST_USE enum mly_err mly_check_document_id(struct mly_str id, struct mly_error *err);
/* The document id in arena: the caller's, or a new UUIDv7. */
MLY_MUST_USE enum mly_err mly_choose_document_id(const struct mly_env *env, struct mly_str wanted,
                                                 struct mly_arena *arena, struct mly_str *out,
                                                 struct mly_error *err);
/* A new UUIDv7 in arena, one of many. */
MLY_MUST_USE enum mly_err mly_make_document_id(const struct mly_env *env,
                                               struct mly_uuid_source *source,
                                               struct mly_arena *arena, struct mly_str *out,
                                               struct mly_error *err);
/* The ids of a document's chunks, into rows, from document id, heading, content and repetition. */
MLY_MUST_USE enum mly_err mly_make_chunk_ids(struct mly_mem *mem, struct mly_str document_id,
                                             struct mly_chunk_row *rows, size_t count,
                                             struct mly_error *err);
void mly_give_id(struct memalloy_id *out, struct mly_str id);
/* Path as it is shown and, where that is not its own bytes, path_raw; both in arena. */
MLY_MUST_USE enum mly_err mly_show_path(struct mly_str raw, struct mly_arena *arena,
                                        struct mly_document *out, struct mly_error *err);

#endif
