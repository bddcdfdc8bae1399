/* Many documents in one commit: texts, which are embedded together, or contents with ready vectors,
 * each of which is a document of one chunk. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "engine/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct many {
    const struct memalloy_str *contents;
    const float *vectors; /* NULL: they are to be made of the contents */
    size_t count, dim;
    const struct memalloy_add_options *options;
    struct memalloy_id *ids;
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

/* The vector as the caller has it is all that there is to one row. */
static enum mly_err make_row(struct mly_ingest *ingest, const struct many *many, size_t i,
                             struct mly_ingest_item *item, struct mly_error *err)
{
    const struct mly_str content = item->text.text;
    char what[48];
    item->document.chunk_count = 1;
    item->rows = mly_arena_array(&ingest->arena, 1, sizeof(item->rows[0]));
    float *vector = mly_arena_array(&ingest->arena, many->dim, sizeof(float));
    if (item->rows == NULL || vector == NULL) return mly_fail_nomem(err, many->dim * 4);
    snprintf(what, sizeof(what), "vector %zu", i);
    MLY_TRY(mly_unit_vector(many->vectors + i * many->dim, many->dim, what, vector, err));
    int64_t lines = 1;
    for (size_t at = 0; at + 1 < content.bytes; at++) {
        lines += content.data[at] == '\n';
    }
    item->rows[0] = (struct mly_chunk_row){
        .document_id = item->document.id,
        .content = content,
        .metadata = item->document.metadata,
        .byte_end = (int64_t)content.bytes,
        .line_start = 1,
        .line_end = lines,
        .page_start = -1,
        .page_end = -1,
        .created_at_us = item->document.updated_at_us,
        .vector = vector,
    };
    item->row_count = 1;
    return mly_make_chunk_ids(ingest->kernel->env->mem, item->document.id, item->rows, 1, err);
}

/* One content becomes an item, whose text is the caller's to free where it was not added. */
static enum mly_err add_one(struct mly_ingest *ingest, const struct many *many, size_t i,
                            struct mly_ingest_item *item, struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    struct mly_add_request add;
    struct mly_document old;
    struct mly_str content = mly_str_in(many->contents[i]);
    if (content.data == NULL && many->vectors == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "it is NULL");
    }
    if (content.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "content %zu is NULL", i);
    MLY_TRY(mly_take_add_request(options_of(many, i), &add, err));
    MLY_TRY(mly_source_from_string(content, &item->text, err));
    MLY_TRY(mly_choose_document_id(env, add.wanted_id, &ingest->arena, &item->document.id, err));
    mly_give_id(&many->ids[i], item->document.id);
    MLY_TRY(mly_snapshot_find_document(ingest->snapshot, item->document.id, &ingest->arena, &old,
                                       &item->replaces, err));
    if (item->replaces && old.path.data != NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "document %.64s is the file %.300s, not a text",
                        old.id.data, old.path.data);
    }
    if (many->vectors == NULL && item->replaces && mly_is_same_text(&old, &item->text, &add)) {
        return MLY_OK;
    }
    mly_fill_document(item, env, &add, item->replaces ? &old : NULL, &item->text);
    if (many->vectors != NULL) MLY_TRY(make_row(ingest, many, i, item, err));
    MLY_TRY(mly_ingest_add(ingest, item, err));
    item->text = (struct mly_text){0}; /* the ingest's now */
    return MLY_OK;
}

static int compare_ids(const void *a, const void *b)
{
    const struct memalloy_id *const *id_a = a;
    const struct memalloy_id *const *id_b = b;
    return mly_str_compare((struct mly_str){(*id_a)->text, (*id_a)->bytes},
                           (struct mly_str){(*id_b)->text, (*id_b)->bytes});
}

/* Two contents under one id in one call: which would win is anybody's guess, so neither does. */
static enum mly_err check_ids_differ(struct mly_ingest *ingest, const struct many *many,
                                     struct mly_error *err)
{
    const struct memalloy_id **order =
        mly_arena_array(&ingest->arena, many->count, sizeof(order[0]));
    if (order == NULL) return mly_fail_nomem(err, many->count * sizeof(order[0]));
    for (size_t i = 0; i < many->count; i++) {
        order[i] = &many->ids[i];
    }
    qsort(order, many->count, sizeof(order[0]), compare_ids);
    for (size_t i = 1; i < many->count; i++) {
        if (compare_ids(&order[i - 1], &order[i]) == 0) {
            return mly_fail(err, MLY_ERR_INVAL, "document id %.100s is given twice",
                            order[i]->text);
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
}

static enum mly_err add_all(struct mly_ingest *ingest, struct many *many, struct mly_error *err)
{
    struct mly_add_request first;
    MLY_TRY(mly_take_add_request(many->options, &first, err));
    ingest->durability = first.durability;
    if (many->vectors != NULL) {
        MLY_TRY(check_dim(ingest, many->dim, err));
    } else {
        watch(many, ingest, &first);
    }
    for (size_t i = 0; i < many->count; i++) {
        struct mly_ingest_item item = {.kind = MLY_CHANGE_PUT};
        enum mly_err rc = add_one(ingest, many, i, &item, err);
        mly_text_deinit(&item.text);
        const bool its_own = rc == MLY_ERR_INVAL || rc == MLY_ERR_LIMIT || rc == MLY_ERR_PARSE;
        if (its_own && many->vectors == NULL) return mly_fail_in(err, rc, "text %zu", i);
        if (rc != MLY_OK) return rc;
    }
    MLY_TRY(check_ids_differ(ingest, many, err));
    ingest->dim = (uint32_t)many->dim; /* the commit checks it again */
    return mly_ingest_commit(ingest, err);
}

static enum mly_err add_many(memalloy_kernel *kernel, struct many *many,
                             struct memalloy_id *out_ids, struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    struct mly_mem *mem = kernel->env->mem;
    enum mly_err rc = MLY_OK;
    /* Ids are given out only when all is stored. */
    many->ids = mly_mem_array(mem, many->count, sizeof(many->ids[0]));
    if (many->ids == NULL) {
        rc = mly_fail_nomem(err, many->count * sizeof(many->ids[0]));
        goto done;
    }
    rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc != MLY_OK) goto done;
    struct mly_ingest ingest;
    mly_ingest_init(&ingest, kernel, snapshot);
    if (many->count > 0) rc = add_all(&ingest, many, err);
    mly_ingest_deinit(&ingest);
    mly_snapshot_release(snapshot);
    if (rc == MLY_OK && out_ids != NULL && many->count > 0) {
        memcpy(out_ids, many->ids, many->count * sizeof(out_ids[0]));
    }
done:
    mly_mem_free(mem, many->ids);
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
