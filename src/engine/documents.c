/* Documents are read back from their chunks, which are their text (DESIGN 2), and checked against
 * the hash that was taken when they were added. */
#include "engine/engine_int.h"

#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

struct memalloy_documents {
    struct mly_mem *mem;
    struct mly_arena arena;
    struct memalloy_document *items;
    size_t count;
};

static enum mly_err create_documents(memalloy_kernel *kernel, memalloy_documents **out,
                                     struct mly_error *err)
{
    memalloy_documents *documents = mly_mem_array(kernel->env->mem, 1, sizeof(*documents));
    if (documents == NULL) return mly_fail_nomem(err, sizeof(*documents));
    documents->mem = kernel->env->mem;
    mly_arena_init(&documents->arena, documents->mem, SIZE_MAX);
    *out = documents;
    return MLY_OK;
}

static bool is_text(const struct mly_document *document)
{
    return document->status.data == NULL || mly_str_equal(document->status, MLY_STR("ok"));
}

/* The store gives -1 for none. */
static int64_t time_out(int64_t time_us)
{
    return time_us == -1 ? MEMALLOY_TIME_UNKNOWN : time_us;
}

static void fill_document(const struct mly_document *from, struct memalloy_document *out)
{
    *out = (struct memalloy_document){
        .struct_bytes = sizeof(*out),
        .id = mly_str_out(from->id),
        .path = mly_str_out(from->path),
        .title = mly_str_out(from->title),
        .metadata = mly_str_out(from->metadata.data != NULL ? from->metadata : MLY_STR("{}")),
        .byte_count = from->byte_count,
        .chunk_count = from->chunk_count,
        .created_at_us = time_out(from->created_at_us),
        .updated_at_us = time_out(from->updated_at_us),
    };
}

/* Puts the chunks together, each after the end of the one before. *whole is false where bytes are
 * missing or a chunk has no place; all content is given even then. */
static enum mly_err join_chunks(const struct mly_chunk_row *rows, size_t count,
                                struct mly_arena *arena, struct mly_str *out, bool *whole,
                                struct mly_error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        if (!mly_size_add(bytes, rows[i].content.bytes, &bytes) || bytes == SIZE_MAX) {
            return mly_fail(err, MLY_ERR_LIMIT, "document of %zu chunks is too large", count);
        }
    }
    char *text = mly_arena_take(arena, bytes + 1);
    if (text == NULL) return mly_fail_nomem(err, bytes + 1);
    size_t at = 0;
    int64_t end = count > 0 ? rows[0].byte_start : 0;
    *whole = true;
    for (size_t i = 0; i < count; i++) {
        const struct mly_chunk_row *row = &rows[i];
        size_t overlap = 0;
        bool placed = row->byte_start >= 0 && row->byte_end >= row->byte_start &&
                      (uint64_t)(row->byte_end - row->byte_start) == row->content.bytes &&
                      row->byte_start <= end && row->byte_end >= end;
        if (placed) {
            overlap = (size_t)(end - row->byte_start);
            end = row->byte_end;
        } else {
            *whole = false;
        }
        memcpy(text + at, row->content.bytes > 0 ? row->content.data + overlap : "",
               row->content.bytes - overlap);
        at += row->content.bytes - overlap;
    }
    text[at] = '\0';
    *out = (struct mly_str){text, at};
    return MLY_OK;
}

/* Fills in the one document of documents, whose arena document's strings live in. */
static enum mly_err read_document(const struct mly_snapshot *snapshot,
                                  const struct mly_document *document,
                                  memalloy_documents *documents, struct mly_error *err)
{
    struct mly_arena *arena = &documents->arena;
    struct mly_chunk_row *rows = NULL;
    size_t count = 0;
    struct mly_str content;
    bool whole = true;
    MLY_TRY(mly_snapshot_document_chunks(snapshot, document->id, arena, &rows, &count, err));
    MLY_TRY(join_chunks(rows, count, arena, &content, &whole, err));
    documents->items = mly_arena_array(arena, 1, sizeof(documents->items[0]));
    if (documents->items == NULL) return mly_fail_nomem(err, sizeof(documents->items[0]));
    documents->count = 1;
    fill_document(document, &documents->items[0]);
    documents->items[0].content = mly_str_out(content);
    struct mly_hash hash = mly_hash_bytes(content);
    bool same = document->has_content_hash &&
                memcmp(hash.bytes, document->content_hash.bytes, MLY_HASH_BYTES) == 0;
    documents->items[0].altered = whole && same ? 0 : 1;
    return MLY_OK;
}

/* Finds one document by id or, where that is null, by path, and reads it. */
static enum mly_err find_document(const struct mly_snapshot *snapshot, struct mly_str id,
                                  struct mly_str path, memalloy_documents *documents,
                                  struct mly_error *err)
{
    struct mly_document document;
    struct mly_arena *arena = &documents->arena;
    bool found = false;
    if (id.data != NULL) {
        MLY_TRY(mly_snapshot_find_document(snapshot, id, arena, &document, &found, err));
    } else {
        MLY_TRY(mly_snapshot_find_path(snapshot, path, arena, &document, &found, err));
    }
    size_t orphan_count = 0;
    if (!found && id.data != NULL) {
        /* Passages whose document's row another program removed: what there is of it is given. */
        MLY_TRY(mly_snapshot_count_chunks(snapshot, id, &orphan_count, err));
        struct mly_str copy = mly_arena_copy(arena, id);
        if (copy.data == NULL) return mly_fail_nomem(err, id.bytes + 1);
        document = (struct mly_document){.id = copy,
                                         .byte_count = -1,
                                         .chunk_count = -1,
                                         .created_at_us = -1,
                                         .updated_at_us = -1};
    }
    if (!found && orphan_count == 0) {
        struct mly_str name = id.data != NULL ? id : path;
        return mly_fail(err, MLY_ERR_NOTFOUND, "there is no document %.*s",
                        (int)(name.bytes < 300 ? name.bytes : 300), name.data);
    }
    if (!is_text(&document)) {
        return mly_fail(err, MLY_ERR_NOTFOUND, "%.300s was skipped: %s",
                        document.path.data != NULL ? document.path.data : document.id.data,
                        document.reason.data != NULL ? document.reason.data
                                                     : "for no known reason");
    }
    return read_document(snapshot, &document, documents, err);
}

static enum mly_err find_and_read(memalloy_kernel *kernel, struct mly_str id, struct mly_str path,
                                  memalloy_documents **out, struct mly_error *err)
{
    struct mly_snapshot *snapshot = NULL;
    memalloy_documents *documents = NULL;
    MLY_TRY(mly_store_pin(kernel->store, &snapshot, err));
    enum mly_err rc = create_documents(kernel, &documents, err);
    if (rc == MLY_OK) rc = find_document(snapshot, id, path, documents, err);
    mly_snapshot_release(snapshot);
    if (rc != MLY_OK) {
        memalloy_documents_destroy(documents);
        return rc;
    }
    *out = documents;
    return MLY_OK;
}

enum mly_err mly_engine_get_document(memalloy_kernel *kernel, struct mly_str id,
                                     memalloy_documents **out, struct mly_error *err)
{
    if (id.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "document id is NULL");
    MLY_TRY(mly_kernel_enter(kernel, err));
    enum mly_err rc = find_and_read(kernel, id, MLY_STR_NULL, out, err);
    mly_kernel_leave(kernel);
    return rc;
}

enum mly_err mly_engine_get_document_at(memalloy_kernel *kernel, const char *path,
                                        memalloy_documents **out, struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_bytes full;
    mly_bytes_init(&full, kernel->env->mem, MLY_PATH_BYTES_MAX);
    struct mly_error unresolved = {0};
    enum mly_err rc = mly_dir_real_path(kernel->env, path, &full, &unresolved);
    /* A file that is gone may still be known by the path as given. */
    if (rc == MLY_OK) {
        rc = find_and_read(kernel, MLY_STR_NULL, mly_bytes_view(&full), out, err);
    } else if (mly_file_is_missing(-unresolved.system_errno)) {
        rc = find_and_read(kernel, MLY_STR_NULL, mly_str_of(path), out, err);
    } else {
        rc = mly_fail(err, rc, "%s", unresolved.message);
    }
    mly_bytes_deinit(&full);
    mly_kernel_leave(kernel);
    return rc;
}

/* ---- listing ---- */

struct id_list {
    struct mly_mem *mem;
    struct mly_arena *arena;
    struct mly_str after;
    struct mly_str *items;
    size_t count, capacity;
};

static enum mly_err note_id(void *context, const struct mly_document *document,
                            struct mly_error *err)
{
    struct id_list *list = context;
    if (!is_text(document) || document->id.data == NULL) return MLY_OK;
    if (list->after.data != NULL && mly_str_compare(document->id, list->after) <= 0) return MLY_OK;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        size_t bytes = capacity * sizeof(list->items[0]);
        struct mly_str *items = mly_mem_realloc(list->mem, list->items, bytes);
        if (items == NULL) return mly_fail_nomem(err, bytes);
        list->items = items;
        list->capacity = capacity;
    }
    struct mly_str copy = mly_arena_copy(list->arena, document->id);
    if (copy.data == NULL) return mly_fail_nomem(err, document->id.bytes + 1);
    list->items[list->count++] = copy;
    return MLY_OK;
}

static int compare_ids(const void *a, const void *b)
{
    const struct mly_str *id_a = a;
    const struct mly_str *id_b = b;
    return mly_str_compare(*id_a, *id_b);
}

static enum mly_err fill_list(const struct mly_snapshot *snapshot, const struct id_list *list,
                              size_t count, memalloy_documents *documents, struct mly_error *err)
{
    documents->items = mly_arena_array(&documents->arena, count, sizeof(documents->items[0]));
    if (documents->items == NULL) return mly_fail_nomem(err, count * sizeof(documents->items[0]));
    for (size_t i = 0; i < list->count && documents->count < count; i++) {
        /* Another program may have put one id in twice; one of them is shown. */
        if (i > 0 && mly_str_equal(list->items[i - 1], list->items[i])) continue;
        struct mly_document document;
        bool found = false;
        MLY_TRY(mly_snapshot_find_document(snapshot, list->items[i], &documents->arena, &document,
                                           &found, err));
        if (found) fill_document(&document, &documents->items[documents->count++]);
    }
    return MLY_OK;
}

static enum mly_err list_in(memalloy_kernel *kernel, const struct mly_snapshot *snapshot,
                            size_t limit, struct mly_str after, memalloy_documents **out,
                            struct mly_error *err)
{
    struct mly_arena arena;
    memalloy_documents *documents = NULL;
    MLY_TRY(create_documents(kernel, &documents, err));
    mly_arena_init(&arena, kernel->env->mem, SIZE_MAX);
    struct id_list list = {.mem = kernel->env->mem, .arena = &arena, .after = after};
    enum mly_err rc = mly_snapshot_each_document(snapshot, note_id, &list, err);
    if (rc != MLY_OK) goto done;
    if (list.count > 0) qsort(list.items, list.count, sizeof(list.items[0]), compare_ids);
    size_t count = limit > 0 && limit < list.count ? limit : list.count;
    rc = fill_list(snapshot, &list, count, documents, err);
    if (rc != MLY_OK) goto done;
    *out = documents;
    documents = NULL;
done:
    memalloy_documents_destroy(documents);
    mly_mem_free(kernel->env->mem, list.items);
    mly_arena_deinit(&arena);
    return rc;
}

enum mly_err mly_engine_list(memalloy_kernel *kernel, size_t limit, struct mly_str after,
                             memalloy_documents **out, struct mly_error *err)
{
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    enum mly_err rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc == MLY_OK) {
        rc = list_in(kernel, snapshot, limit, after, out, err);
        mly_snapshot_release(snapshot);
    }
    mly_kernel_leave(kernel);
    return rc;
}

size_t memalloy_documents_count(const memalloy_documents *documents)
{
    return documents != NULL ? documents->count : 0;
}

void memalloy_documents_get(const memalloy_documents *documents, size_t index,
                            struct memalloy_document *out)
{
    mly_options_give(out, &documents->items[index], sizeof(documents->items[index]));
}

void memalloy_documents_destroy(memalloy_documents *documents)
{
    if (documents == NULL) return;
    struct mly_mem *mem = documents->mem;
    mly_arena_deinit(&documents->arena);
    mly_mem_free(mem, documents);
}
