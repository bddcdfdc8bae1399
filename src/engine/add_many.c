/* Many documents in one commit: texts, which are embedded together, or contents with ready vectors,
 * each of which is a document of one chunk. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "engine/report.h"
#include "os/pool.h"

#include <stdlib.h>
#include <string.h>

struct many {
    const struct memalloy_str *contents;
    const float *vectors; /* NULL: they are to be made of the contents */
    size_t count, dim;
    const struct memalloy_add_options *options;
    struct mly_arena arena; /* ids outlive the commit */
    struct mly_str *ids;    /* [count] */
    size_t given;           /* of ids, the caller's */
    struct mly_uuid_source uuids;
    struct mly_watcher watcher;
    const struct mly_ingest *ingest; /* for the watcher */
};

/* The options of item i: their distance is what the caller's header says, not ours. */
static const struct memalloy_add_options *options_of(const struct many *many, size_t i)
{
    if (many->options == NULL) return NULL;
    const unsigned char *first = (const unsigned char *)many->options;
    return (const void *)(first + i * many->options->struct_bytes);
}

/* Whether anything is there under the id, and whether it may be replaced. */
static enum mly_err find_old(struct mly_ingest *ingest, struct mly_ingest_item *item,
                             struct mly_document *old, struct mly_error *err)
{
    if (item->is_new) return MLY_OK;
    MLY_TRY(mly_snapshot_find_document(ingest->snapshot, item->document.id, &ingest->arena, old,
                                       &item->replaces, err));
    if (item->replaces && old->path.data != NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "document %.64s is the file %.300s, not a text",
                        old->id.data, old->path.data);
    }
    return MLY_OK;
}

static enum mly_err choose_id(struct mly_ingest *ingest, struct many *many, size_t i,
                              struct mly_str wanted, struct mly_ingest_item *item,
                              struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    item->is_new = wanted.data == NULL;
    if (item->is_new) {
        MLY_TRY(mly_make_document_id(env, &many->uuids, &many->arena, &many->ids[i], err));
    } else {
        MLY_TRY(mly_choose_document_id(env, wanted, &many->arena, &many->ids[i], err));
        many->given++;
    }
    item->document.id = many->ids[i];
    return MLY_OK;
}

/* One text becomes an item, whose text is the caller's to free where it was not added. */
static enum mly_err add_one(struct mly_ingest *ingest, struct many *many, size_t i,
                            struct mly_ingest_item *item, struct mly_error *err)
{
    struct mly_add_request add;
    struct mly_document old;
    struct mly_str content = mly_str_in(many->contents[i]);
    if (content.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "it is NULL");
    MLY_TRY(mly_take_add_request(options_of(many, i), &add, err));
    MLY_TRY(mly_source_from_string(content, &item->text, err));
    MLY_TRY(choose_id(ingest, many, i, add.wanted_id, item, err));
    MLY_TRY(find_old(ingest, item, &old, err));
    if (item->replaces && mly_is_same_text(&old, &item->text, &add)) return MLY_OK;
    mly_fill_document(item, ingest->kernel->env, &add, item->replaces ? &old : NULL, &item->text);
    MLY_TRY(mly_ingest_add(ingest, item, err));
    item->text = (struct mly_text){0}; /* the ingest's now */
    return MLY_OK;
}

static enum mly_err add_texts(struct mly_ingest *ingest, struct many *many, struct mly_error *err)
{
    for (size_t i = 0; i < many->count; i++) {
        struct mly_ingest_item item = {.kind = MLY_CHANGE_PUT};
        enum mly_err rc = add_one(ingest, many, i, &item, err);
        mly_text_deinit(&item.text);
        const bool its_own = rc == MLY_ERR_INVAL || rc == MLY_ERR_LIMIT || rc == MLY_ERR_PARSE;
        if (its_own) return mly_fail_in(err, rc, "text %zu", i);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

/* ---- contents with vectors ---- */

/* Fewer rows than that are not worth waking threads for. */
#define PART_ROWS ((size_t)512)

/* What the threads share. Each part has rows of its own. */
struct row_work {
    const struct many *many;
    struct mly_ingest_item *items; /* [count], their ids chosen */
    struct mly_chunk_row *rows;    /* [count], one of each */
    float *vectors;                /* [count][dim] */
    struct row_failure {
        enum mly_err rc;
        struct mly_error err;
    } *failures; /* of each part */
};

/* "vector 17", for a message that hardly ever comes: printf would take as long as the vector. */
#define VECTOR_NAME_BYTES 32

static void name_vector(size_t i, char out[VECTOR_NAME_BYTES])
{
    static const char word[] = "vector ";
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + i % 10);
        i /= 10;
    } while (i > 0);
    memcpy(out, word, sizeof(word) - 1);
    char *at = out + sizeof(word) - 1;
    while (count > 0)
        *at++ = digits[--count];
    *at = '\0';
}

/* The vector as the caller has it is all that there is to one row. */
static enum mly_err make_row(const struct row_work *work, size_t i, struct mly_error *err)
{
    const struct many *many = work->many;
    struct mly_ingest_item *item = &work->items[i];
    const struct mly_str content = mly_str_in(many->contents[i]);
    float *vector = work->vectors + i * many->dim;
    char what[VECTOR_NAME_BYTES];
    if (content.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "content %zu is NULL", i);
    MLY_TRY(mly_source_from_string(content, &item->text, err));
    name_vector(i, what);
    MLY_TRY(mly_unit_vector(many->vectors + i * many->dim, many->dim, what, vector, err));
    int64_t lines = 1;
    for (size_t at = 0; at + 1 < content.bytes; at++) {
        lines += content.data[at] == '\n';
    }
    work->rows[i] = (struct mly_chunk_row){
        .document_id = item->document.id,
        .content = content,
        .byte_end = (int64_t)content.bytes,
        .line_start = 1,
        .line_end = lines,
        .page_start = -1,
        .page_end = -1,
        .vector = vector,
    };
    item->rows = &work->rows[i];
    item->row_count = 1;
    return mly_make_chunk_ids(NULL, item->document.id, item->rows, 1, err);
}

static void make_part(void *context, size_t part_i, uint32_t worker_i)
{
    const struct row_work *work = context;
    struct row_failure *failure = &work->failures[part_i];
    size_t end = (part_i + 1) * PART_ROWS;
    if (end > work->many->count) end = work->many->count;
    (void)worker_i;
    for (size_t i = part_i * PART_ROWS; i < end && failure->rc == MLY_OK; i++) {
        failure->rc = make_row(work, i, &failure->err);
    }
}

/* Everything about the rows that needs nothing but themselves. */
static enum mly_err make_rows(struct mly_ingest *ingest, struct row_work *work,
                              struct mly_error *err)
{
    size_t parts = (work->many->count + PART_ROWS - 1) / PART_ROWS;
    struct mly_pool *pool = NULL;
    work->failures = mly_arena_array(&ingest->arena, parts, sizeof(work->failures[0]));
    if (work->failures == NULL) return mly_fail_nomem(err, parts * sizeof(work->failures[0]));
    if (parts > 1) {
        MLY_TRY(mly_pool_create(ingest->kernel->env, ingest->kernel->threads, &pool, err));
        mly_pool_run(pool, parts, make_part, work);
        mly_pool_destroy(pool);
    } else {
        make_part(work, 0, 0);
    }
    for (size_t i = 0; i < parts; i++) {
        const struct row_failure *failure = &work->failures[i];
        if (failure->rc != MLY_OK) return mly_fail(err, failure->rc, "%s", failure->err.message);
    }
    return MLY_OK;
}

/* What is asked of the store, one row after the other. */
static enum mly_err finish_row(struct mly_ingest *ingest, const struct mly_add_request *add,
                               struct mly_ingest_item *item, struct mly_error *err)
{
    struct mly_document old;
    MLY_TRY(find_old(ingest, item, &old, err));
    mly_fill_document(item, ingest->kernel->env, add, item->replaces ? &old : NULL, &item->text);
    item->document.chunk_count = 1;
    item->rows[0].metadata = item->document.metadata;
    item->rows[0].created_at_us = item->document.updated_at_us;
    return MLY_OK;
}

static enum mly_err add_rows(struct mly_ingest *ingest, struct many *many, struct mly_error *err)
{
    const size_t count = many->count;
    struct mly_add_request *adds = mly_arena_array(&ingest->arena, count, sizeof(adds[0]));
    struct row_work work = {
        .many = many,
        .rows = mly_arena_take(&ingest->arena, count * sizeof(work.rows[0])),
    };
    size_t bytes;
    MLY_TRY(mly_ingest_room(ingest, count, &work.items, err));
    if (mly_size_mul(count, many->dim * sizeof(float), &bytes)) {
        work.vectors = mly_arena_take(&ingest->arena, bytes);
    }
    if (adds == NULL || work.rows == NULL || work.vectors == NULL) {
        return mly_fail_nomem(err, count * (many->dim * sizeof(float) + sizeof(work.rows[0])));
    }
    for (size_t i = 0; i < count; i++) {
        work.items[i].kind = MLY_CHANGE_PUT;
        MLY_TRY(mly_take_add_request(options_of(many, i), &adds[i], err));
        MLY_TRY(choose_id(ingest, many, i, adds[i].wanted_id, &work.items[i], err));
    }
    MLY_TRY(make_rows(ingest, &work, err));
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(finish_row(ingest, &adds[i], &work.items[i], err));
    }
    mly_ingest_fill_room(ingest, count);
    return MLY_OK;
}

/* ---- both ---- */

static int compare_ids(const void *a, const void *b)
{
    return mly_str_compare(*(const struct mly_str *)a, *(const struct mly_str *)b);
}

/* Two contents under one id in one call: which would win is anybody's guess, so neither does. */
static enum mly_err check_ids_differ(struct mly_ingest *ingest, const struct many *many,
                                     struct mly_error *err)
{
    if (many->given < 2) return MLY_OK;
    struct mly_str *order = mly_arena_array(&ingest->arena, many->count, sizeof(order[0]));
    if (order == NULL) return mly_fail_nomem(err, many->count * sizeof(order[0]));
    memcpy(order, many->ids, many->count * sizeof(order[0]));
    qsort(order, many->count, sizeof(order[0]), compare_ids);
    for (size_t i = 1; i < many->count; i++) {
        if (compare_ids(&order[i - 1], &order[i]) == 0) {
            return mly_fail(err, MLY_ERR_INVAL, "document id %.100s is given twice", order[i].data);
        }
    }
    return MLY_OK;
}

enum mly_err mly_engine_check_dim(const struct mly_snapshot *snapshot, size_t dim,
                                  struct mly_error *err)
{
    struct mly_store_counts counts;
    mly_snapshot_get_counts(snapshot, &counts);
    if (counts.dim == 0 || counts.dim == dim) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, the store's have %u", dim,
                    counts.dim);
}

static enum mly_err check_dim(const struct mly_ingest *ingest, size_t dim, struct mly_error *err)
{
    MLY_TRY(mly_engine_check_dim(ingest->snapshot, dim, err));
    /* The store may be empty and yet open for another dimension, that of open() or its model. */
    uint32_t asked = mly_store_dim(ingest->kernel->store);
    if (asked != 0 && asked != dim) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, the store is open for %u",
                        dim, asked);
    }
    return MLY_OK;
}

/* Called between batches of the embedder. */
static enum mly_err tell(void *context, struct mly_error *err)
{
    struct many *many = context;
    struct memalloy_progress *progress = &many->watcher.progress;
    size_t targets = many->ingest->targets.bytes / sizeof(struct mly_chunk_row *);
    progress->chunks_done = many->ingest->chunks_embedded;
    progress->bytes_total = many->ingest->text_bytes;
    if (targets > 0) {
        progress->bytes_done = (uint64_t)((double)many->ingest->text_bytes *
                                          (double)progress->chunks_done / (double)targets);
    }
    return mly_watcher_tell(&many->watcher, false, err);
}

static void watch(struct many *many, struct mly_ingest *ingest, const struct mly_add_request *first)
{
    if (first->progress == NULL) return;
    mly_watcher_init(&many->watcher, ingest->kernel->env, first->progress, first->progress_context);
    many->watcher.progress.stage = MEMALLOY_STAGE_INDEX;
    many->watcher.progress.items_total = many->count;
    many->ingest = ingest;
    ingest->pulse = tell;
    ingest->pulse_context = many;
    ingest->pulse_last_s = &many->watcher.last_s;
}

static enum mly_err add_all(struct mly_ingest *ingest, struct many *many, struct mly_error *err)
{
    struct mly_add_request first;
    MLY_TRY(mly_take_add_request(many->options, &first, err));
    ingest->durability = first.durability;
    if (many->vectors != NULL) {
        MLY_TRY(check_dim(ingest, many->dim, err));
    }
    watch(many, ingest, &first);
    MLY_TRY(many->vectors != NULL ? add_rows(ingest, many, err) : add_texts(ingest, many, err));
    MLY_TRY(check_ids_differ(ingest, many, err));
    ingest->dim = (uint32_t)many->dim; /* the commit checks it again */
    return mly_ingest_commit(ingest, err);
}

static enum mly_err add_many(memalloy_kernel *kernel, struct many *many,
                             struct memalloy_id *out_ids, struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    mly_arena_init(&many->arena, kernel->env->mem, SIZE_MAX / 2);
    many->ids = mly_arena_array(&many->arena, many->count, sizeof(many->ids[0]));
    enum mly_err rc = MLY_OK;
    if (many->ids == NULL) rc = mly_fail_nomem(err, many->count * sizeof(many->ids[0]));
    if (rc == MLY_OK) rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc == MLY_OK) {
        struct mly_ingest ingest;
        mly_ingest_init(&ingest, kernel, snapshot);
        if (many->count > 0) rc = add_all(&ingest, many, err);
        mly_ingest_deinit(&ingest);
        mly_snapshot_release(snapshot);
    }
    /* Ids are given out only when all is stored. */
    for (size_t i = 0; rc == MLY_OK && out_ids != NULL && i < many->count; i++) {
        mly_give_id(&out_ids[i], many->ids[i]);
    }
    mly_arena_deinit(&many->arena);
    mly_kernel_leave(kernel);
    return rc;
}

enum mly_err mly_engine_add_vectors(memalloy_kernel *kernel, const struct memalloy_str *contents,
                                    const float *vectors, size_t count, size_t dim,
                                    const struct memalloy_add_options *options,
                                    struct memalloy_id *out_ids, struct mly_error *err)
{
    struct many many = {
        .contents = contents, .vectors = vectors, .count = count, .dim = dim, .options = options};
    if (dim == 0 || dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, they must have 1 to %zu",
                        dim, (size_t)MLY_DIM_MAX);
    }
    return add_many(kernel, &many, out_ids, err);
}

enum mly_err mly_engine_add_texts(memalloy_kernel *kernel, const struct memalloy_str *texts,
                                  size_t count, const struct memalloy_add_options *options,
                                  struct memalloy_id *out_ids, struct mly_error *err)
{
    struct many many = {.contents = texts, .count = count, .options = options};
    return add_many(kernel, &many, out_ids, err);
}
