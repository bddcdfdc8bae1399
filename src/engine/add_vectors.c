/* Documents with ready vectors: each content is a document of one chunk, and all of a call are one
 * commit. */
#include "engine/engine_int.h"

#include "base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vectors_request {
    const struct memalloy_str *contents;
    const float *vectors;
    size_t count, dim;
    const struct memalloy_add_options *options;
    struct memalloy_id *out_ids;
};

/* The options of content i: their distance is what the caller's header says, not ours. */
static const struct memalloy_add_options *options_of(const struct vectors_request *request,
                                                     size_t i)
{
    if (request->options == NULL) return NULL;
    const unsigned char *first = (const unsigned char *)request->options;
    return (const void *)(first + i * request->options->struct_bytes);
}

/* One content and its vector become an item with one row. */
static enum mly_err add_one_vector(struct mly_ingest *ingest, const struct vectors_request *request,
                                   size_t i, struct mly_error *err)
{
    const struct mly_env *env = ingest->kernel->env;
    struct mly_add_request add;
    struct mly_ingest_item item = {.kind = MLY_CHANGE_PUT};
    struct mly_document old;
    char what[48];
    struct mly_str content = mly_str_in(request->contents[i]);
    if (content.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "content %zu is NULL", i);
    MLY_TRY(mly_take_add_request(options_of(request, i), &add, err));
    MLY_TRY(mly_source_from_string(content, &item.text, err));
    MLY_TRY(mly_choose_document_id(env, add.wanted_id, &ingest->arena, &item.document.id, err));
    MLY_TRY(mly_snapshot_find_document(ingest->snapshot, item.document.id, &ingest->arena, &old,
                                       &item.replaces, err));
    if (item.replaces && old.path.data != NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "document %.64s is the file %.300s, not a text",
                        old.id.data, old.path.data);
    }
    mly_fill_document(&item, env, &add, item.replaces ? &old : NULL, &item.text);
    item.document.chunk_count = 1;
    item.rows = mly_arena_array(&ingest->arena, 1, sizeof(item.rows[0]));
    float *vector = mly_arena_array(&ingest->arena, request->dim, sizeof(float));
    if (item.rows == NULL || vector == NULL) return mly_fail_nomem(err, request->dim * 4);
    snprintf(what, sizeof(what), "vector %zu", i);
    MLY_TRY(mly_unit_vector(request->vectors + i * request->dim, request->dim, what, vector, err));
    int64_t lines = 1;
    for (size_t at = 0; at + 1 < content.bytes; at++) {
        lines += content.data[at] == '\n';
    }
    item.rows[0] = (struct mly_chunk_row){
        .document_id = item.document.id,
        .content = item.text.text,
        .metadata = item.document.metadata,
        .byte_end = (int64_t)item.text.text.bytes,
        .line_start = 1,
        .line_end = lines,
        .page_start = -1,
        .page_end = -1,
        .created_at_us = item.document.updated_at_us,
        .vector = vector,
    };
    item.row_count = 1;
    MLY_TRY(mly_make_chunk_ids(env->mem, item.document.id, item.rows, 1, err));
    struct mly_str id = item.document.id;
    MLY_TRY(mly_ingest_add(ingest, &item, err));
    mly_give_id(request->out_ids != NULL ? &request->out_ids[i] : NULL, id);
    return MLY_OK;
}

static int compare_ids(const void *a, const void *b)
{
    const struct mly_ingest_item *const *item_a = a;
    const struct mly_ingest_item *const *item_b = b;
    return mly_str_compare((*item_a)->document.id, (*item_b)->document.id);
}

/* Two contents under one id in one call: which would win is anybody's guess, so neither does. */
static enum mly_err check_ids_differ(struct mly_ingest *ingest, struct mly_error *err)
{
    const struct mly_ingest_item **order =
        mly_arena_array(&ingest->arena, ingest->count, sizeof(order[0]));
    if (order == NULL) return mly_fail_nomem(err, ingest->count * sizeof(order[0]));
    for (size_t i = 0; i < ingest->count; i++) {
        order[i] = &ingest->items[i];
    }
    qsort(order, ingest->count, sizeof(order[0]), compare_ids);
    for (size_t i = 1; i < ingest->count; i++) {
        if (mly_str_equal(order[i - 1]->document.id, order[i]->document.id)) {
            return mly_fail(err, MLY_ERR_INVAL, "document id %.100s is given twice",
                            order[i]->document.id.data);
        }
    }
    return MLY_OK;
}

static enum mly_err check_dim(const struct mly_ingest *ingest, size_t dim, struct mly_error *err)
{
    struct mly_store_counts counts;
    mly_snapshot_get_counts(ingest->snapshot, &counts);
    if (counts.dim != 0 && counts.dim != dim) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, the store's have %u", dim,
                        counts.dim);
    }
    /* The store may be empty and yet open for another dimension, that of open() or its model. */
    uint32_t asked = mly_store_dim(ingest->kernel->store);
    if (asked != 0 && asked != dim) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, the store is open for %u",
                        dim, asked);
    }
    return MLY_OK;
}

static enum mly_err add_vectors_in(struct mly_ingest *ingest, const struct vectors_request *request,
                                   struct mly_error *err)
{
    MLY_TRY(check_dim(ingest, request->dim, err));
    for (size_t i = 0; i < request->count; i++) {
        MLY_TRY(add_one_vector(ingest, request, i, err));
    }
    MLY_TRY(check_ids_differ(ingest, err));
    ingest->dim = (uint32_t)request->dim; /* the commit checks it again */
    return mly_ingest_commit(ingest, err);
}

enum mly_err mly_engine_add_vectors(memalloy_kernel *kernel, const struct memalloy_str *contents,
                                    const float *vectors, size_t count, size_t dim,
                                    const struct memalloy_add_options *options,
                                    struct memalloy_id *out_ids, struct mly_error *err)
{
    struct vectors_request request = {contents, vectors, count, dim, options, NULL};
    if (dim == 0 || dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "vectors have %zu numbers, they must have 1 to %zu",
                        dim, (size_t)MLY_DIM_MAX);
    }
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    struct mly_mem *mem = kernel->env->mem;
    enum mly_err rc = MLY_OK;
    /* Ids are given out only when all is stored. */
    request.out_ids = mly_mem_array(mem, count, sizeof(request.out_ids[0]));
    if (request.out_ids == NULL) {
        rc = mly_fail_nomem(err, count * sizeof(request.out_ids[0]));
        goto done;
    }
    rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc != MLY_OK) goto done;
    struct mly_ingest ingest;
    mly_ingest_init(&ingest, kernel, snapshot);
    if (count > 0) rc = add_vectors_in(&ingest, &request, err);
    mly_ingest_deinit(&ingest);
    mly_snapshot_release(snapshot);
    if (rc == MLY_OK && out_ids != NULL && count > 0) {
        memcpy(out_ids, request.out_ids, count * sizeof(out_ids[0]));
    }
done:
    mly_mem_free(mem, request.out_ids);
    mly_kernel_leave(kernel);
    return rc;
}
