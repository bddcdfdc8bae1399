/* A query becomes a unit vector, the vector becomes matches, the matches become hits that own all
 * their text. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "base/utf8.h"
#include "engine/report.h"
#include "search/search.h"

#include <string.h>

#define TOP_K_DEFAULT ((size_t)5)
/* Hits whose columns are fetched from memory together. */
#define FETCHED_HITS ((size_t)16)

struct memalloy_hits {
    struct mly_mem *mem;
    struct mly_arena arena;
    struct memalloy_hit *items;
    size_t count;
};

enum mly_err mly_engine_take_ask(const memalloy_kernel *kernel,
                                 const struct memalloy_search_options *options,
                                 struct mly_asked *out, struct mly_error *err)
{
    struct memalloy_search_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_search_options", err));
    if (local.top_k > MLY_TOP_K_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "top_k %zu, limit is %zu", local.top_k,
                        (size_t)MLY_TOP_K_MAX);
    }
    MLY_TRY(mly_options_recall(local.recall, err));
    *out = (struct mly_asked){
        .top_k = local.top_k > 0 ? local.top_k : TOP_K_DEFAULT,
        .recall = (float)(local.recall > 0 ? local.recall : kernel->recall),
        .explain = local.explain,
        .document_ids = local.document_ids,
        .document_id_count = local.document_id_count,
        .progress = local.progress,
        .progress_context = local.progress_context,
    };
    if (local.document_ids == NULL && local.document_id_count > 0) {
        return mly_fail(err, MLY_ERR_INVAL, "%zu document ids, and document_ids is NULL",
                        local.document_id_count);
    }
    return MLY_OK;
}

enum mly_err mly_engine_select(memalloy_kernel *kernel, const struct mly_snapshot *snapshot,
                               const struct mly_asked *asked, struct mly_selection **out,
                               struct mly_error *err)
{
    *out = NULL;
    if (asked->document_ids == NULL) return MLY_OK;
    struct mly_mem *mem = kernel->env->mem;
    struct mly_str *ids = mly_mem_array(mem, asked->document_id_count + 1, sizeof(ids[0]));
    if (ids == NULL) return mly_fail_nomem(err, asked->document_id_count * sizeof(ids[0]));
    for (size_t i = 0; i < asked->document_id_count; i++)
        ids[i] = (struct mly_str){asked->document_ids[i].data, asked->document_ids[i].bytes};
    enum mly_err rc = mly_snapshot_select(snapshot, ids, asked->document_id_count, out, err);
    mly_mem_free(mem, ids);
    return rc;
}

void mly_engine_explain(const struct mly_asked *asked, const struct mly_search_stats *stats)
{
    if (asked->explain == NULL) return;
    const struct memalloy_search_explain explain = {
        .struct_bytes = sizeof(explain),
        .cells = stats->index.cell_count,
        .cells_read = stats->index.cells_read,
        .codes_read = stats->index.codes_read,
        .records_read = stats->index.records_read,
        .vectors_read = stats->index.vectors_read,
        .scanned_rows = stats->scanned_rows,
        .bytes_read = stats->index.bytes_read,
        .rank_s = stats->index.rank_seconds,
        .scan_s = stats->index.scan_seconds,
        .record_s = stats->index.record_seconds,
        .vector_s = stats->index.vector_seconds,
        .exact_s = stats->scan_seconds,
        .index_was_damaged = stats->index_was_damaged,
    };
    mly_options_give(asked->explain, &explain, sizeof(explain));
}

/* Is the file, as far as size and time tell, another than the one that was indexed, or gone? */
static bool is_stale(const struct mly_env *env, const struct mly_document *file)
{
    struct mly_file_info info;
    const char *path = file->path_raw.data != NULL ? file->path_raw.data : file->path.data;
    if (path == NULL || !file->has_stamp) return false;
    int result = env->info_at(env->context, MLY_AT_CWD, path, false, &info);
    if (result != 0) return mly_file_is_missing(result); /* no permission, say: nobody knows */
    return info.kind != MLY_KIND_FILE || info.modified_ns != file->stamp.modified_ns ||
           (int64_t)info.bytes != file->stamp.byte_count;
}

static enum mly_err fill_hit(const struct mly_env *env, const struct mly_snapshot *snapshot,
                             struct mly_match match, struct mly_arena *arena,
                             struct memalloy_hit *out, struct mly_error *err)
{
    struct mly_chunk_row row;
    struct mly_document file = {0};
    bool found = false;
    MLY_TRY(mly_snapshot_read_chunk(snapshot, match.row_address, arena, &row, err));
    if (row.document_id.data != NULL) {
        MLY_TRY(mly_snapshot_find_file_of(snapshot, row.document_id, arena, &file, &found, err));
    }
    struct mly_str chunk_id = mly_arena_copy(arena, mly_str_of(row.id));
    if (chunk_id.data == NULL) return mly_fail_nomem(err, sizeof(row.id));
    *out = (struct memalloy_hit){
        .struct_bytes = sizeof(*out),
        .score = (double)match.score,
        .chunk_id = mly_str_out(chunk_id),
        .document_id = mly_str_out(row.document_id),
        .content = mly_str_out(row.content),
        .metadata = mly_str_out(row.metadata),
        .path = mly_str_out(found ? file.path : MLY_STR_NULL),
        .stale = found && is_stale(env, &file),
        .heading = mly_str_out(row.heading),
        .ordinal = row.ordinal,
        .byte_start = row.byte_start,
        .byte_end = row.byte_end,
        .line_start = row.line_start,
        .line_end = row.line_end,
        .page_start = row.page_start,
        .page_end = row.page_end,
    };
    return MLY_OK;
}

enum mly_err mly_engine_make_hits(memalloy_kernel *kernel, const struct mly_snapshot *snapshot,
                                  const struct mly_match *matches, size_t count,
                                  memalloy_hits **out, struct mly_error *err)
{
    struct mly_mem *mem = kernel->env->mem;
    memalloy_hits *hits = mly_mem_array(mem, 1, sizeof(*hits));
    if (hits == NULL) return mly_fail_nomem(err, sizeof(*hits));
    hits->mem = mem;
    mly_arena_init(&hits->arena, mem, SIZE_MAX);
    enum mly_err rc = MLY_OK;
    hits->items = mly_arena_array(&hits->arena, count, sizeof(hits->items[0]));
    if (hits->items == NULL) rc = mly_fail_nomem(err, count * sizeof(hits->items[0]));
    for (size_t i = 0; i < count && rc == MLY_OK; i++) {
        size_t left = count - i;
        if (i % FETCHED_HITS == 0) {
            mly_snapshot_fetch_chunks(snapshot, matches + i,
                                      left < FETCHED_HITS ? left : FETCHED_HITS);
        }
        rc = fill_hit(kernel->env, snapshot, matches[i], &hits->arena, &hits->items[i], err);
    }
    hits->count = count;
    if (rc != MLY_OK) {
        memalloy_hits_destroy(hits);
        return rc;
    }
    *out = hits;
    return MLY_OK;
}

/* A blank passage has a direction for the model, but nothing to say. */
static bool is_blank(struct memalloy_str text)
{
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] == '\0' || strchr(" \t\r\n\f\v", text.data[i]) == NULL) return false;
    }
    return true;
}

static size_t drop_blanks(memalloy_hits *hits)
{
    size_t kept = 0;
    for (size_t i = 0; i < hits->count; i++) {
        if (!is_blank(hits->items[i].content)) hits->items[kept++] = hits->items[i];
    }
    size_t dropped = hits->count - kept;
    hits->count = kept;
    return dropped;
}

/* with_blanks: blank passages answer too, as they do where the caller gave the vectors. */
static enum mly_err search_among(memalloy_kernel *kernel, struct mly_snapshot *snapshot,
                                 struct mly_selection *selection, const float *unit, size_t dim,
                                 const struct mly_asked *asked, bool with_blanks,
                                 memalloy_hits **out, struct mly_error *err)
{
    struct mly_watcher watcher;
    mly_watcher_init(&watcher, kernel->env, asked->progress, asked->progress_context);
    for (size_t wanted = asked->top_k;;) {
        struct mly_match *matches = NULL;
        memalloy_hits *hits = NULL;
        size_t count = 0;
        struct mly_search_stats stats;
        const struct mly_search_ask ask = {.query = unit,
                                           .dim = dim,
                                           .k = wanted,
                                           .recall = asked->recall,
                                           .selection = selection,
                                           .pulse = watcher.fn == NULL ? NULL : mly_watcher_pulse,
                                           .pulse_context = &watcher};
        MLY_TRY(mly_search_nearest(kernel->searcher, snapshot, kernel->kern, &ask, &matches, &count,
                                   &stats, err));
        mly_engine_explain(asked, &stats);
        if (stats.scanned_rows >= MLY_VINDEX_ROWS_MIN) mly_store_index_soon(kernel->store);
        enum mly_err rc = mly_engine_make_hits(kernel, snapshot, matches, count, &hits, err);
        mly_mem_free(kernel->env->mem, matches);
        if (rc != MLY_OK) return rc;
        size_t dropped = with_blanks ? 0 : drop_blanks(hits);
        if (hits->count >= asked->top_k || dropped == 0 || count < wanted) {
            if (hits->count > asked->top_k) hits->count = asked->top_k;
            *out = hits;
            return MLY_OK;
        }
        memalloy_hits_destroy(hits); /* blanks took places: look further */
        wanted = wanted <= MLY_TOP_K_MAX / 2 ? wanted * 2 : MLY_TOP_K_MAX;
        if (wanted < asked->top_k + dropped) wanted = asked->top_k + dropped;
    }
}

static enum mly_err search_unit(memalloy_kernel *kernel, struct mly_snapshot *snapshot,
                                const float *unit, size_t dim, const struct mly_asked *asked,
                                bool with_blanks, memalloy_hits **out, struct mly_error *err)
{
    struct mly_selection *selection;
    MLY_TRY(mly_engine_select(kernel, snapshot, asked, &selection, err));
    enum mly_err rc =
        search_among(kernel, snapshot, selection, unit, dim, asked, with_blanks, out, err);
    mly_selection_destroy(selection);
    return rc;
}

/* An empty store needs no vector, and so no model, to answer. */
static bool is_empty(const struct mly_snapshot *snapshot)
{
    struct mly_store_counts counts;
    mly_snapshot_get_counts(snapshot, &counts);
    return counts.chunks == 0;
}

static enum mly_err embed_query(memalloy_kernel *kernel, struct mly_str query, float **unit,
                                size_t *dim, struct mly_error *err)
{
    memalloy_model *model = NULL;
    MLY_TRY(mly_kernel_get_model(kernel, &model, err));
    *dim = mly_embedder_card(model->embedder)->dim;
    *unit = mly_mem_array(kernel->env->mem, *dim, sizeof(float));
    if (*unit == NULL) return mly_fail_nomem(err, *dim * sizeof(float));
    struct memalloy_str text = mly_str_out(query);
    const struct memalloy_embed_options options = {.struct_bytes = sizeof(options),
                                                   .kind = MEMALLOY_EMBED_QUERY};
    return mly_engine_embed(model, &text, 1, &options, *unit, NULL, err);
}

static enum mly_err check_query(struct mly_str query, struct mly_error *err)
{
    if (query.data == NULL) return mly_fail(err, MLY_ERR_INVAL, "query is NULL");
    if (query.bytes > MLY_QUERY_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "query has %zu bytes, limit is %zu", query.bytes,
                        (size_t)MLY_QUERY_BYTES_MAX);
    }
    size_t bad = mly_utf8_check(query);
    if (bad < query.bytes) {
        return mly_fail(err, MLY_ERR_INVAL, "query is not UTF-8: byte 0x%02x at offset %zu",
                        (unsigned char)query.data[bad], bad);
    }
    if (!is_blank(mly_str_out(query))) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "query is blank");
}

enum mly_err mly_engine_search_text(memalloy_kernel *kernel, struct mly_str query,
                                    const struct memalloy_search_options *options,
                                    memalloy_hits **out, struct mly_error *err)
{
    struct mly_asked asked;
    MLY_TRY(mly_engine_take_ask(kernel, options, &asked, err));
    MLY_TRY(check_query(query, err));
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    float *unit = NULL;
    size_t dim = 0;
    enum mly_err rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc != MLY_OK) goto done;
    if (is_empty(snapshot)) {
        mly_engine_explain(&asked, &(struct mly_search_stats){0});
        rc = mly_engine_make_hits(kernel, snapshot, NULL, 0, out, err);
        goto done;
    }
    rc = embed_query(kernel, query, &unit, &dim, err);
    if (rc != MLY_OK) goto done;
    rc = search_unit(kernel, snapshot, unit, dim, &asked, false, out, err);
done:
    mly_mem_free(kernel->env->mem, unit);
    if (snapshot != NULL) mly_snapshot_release(snapshot);
    mly_kernel_leave(kernel);
    return rc;
}

enum mly_err mly_engine_search_vector(memalloy_kernel *kernel, const float *vector, size_t dim,
                                      const struct memalloy_search_options *options,
                                      memalloy_hits **out, struct mly_error *err)
{
    struct mly_asked asked;
    MLY_TRY(mly_engine_take_ask(kernel, options, &asked, err));
    if (dim == 0 || dim > MLY_DIM_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "vector has %zu numbers, it must have 1 to %zu", dim,
                        (size_t)MLY_DIM_MAX);
    }
    MLY_TRY(mly_kernel_enter(kernel, err));
    struct mly_snapshot *snapshot = NULL;
    struct mly_store_counts counts;
    float *unit = mly_mem_array(kernel->env->mem, dim, sizeof(float));
    enum mly_err rc = MLY_OK;
    if (unit == NULL) {
        rc = mly_fail_nomem(err, dim * sizeof(float));
        goto done;
    }
    rc = mly_unit_vector(vector, dim, "vector", unit, err);
    if (rc != MLY_OK) goto done;
    rc = mly_store_pin(kernel->store, &snapshot, err);
    if (rc != MLY_OK) goto done;
    mly_snapshot_get_counts(snapshot, &counts);
    if (counts.dim != 0 && counts.dim != dim) {
        rc = mly_fail(err, MLY_ERR_INVAL, "vector has %zu numbers, the store's have %u", dim,
                      counts.dim);
        goto done;
    }
    rc = search_unit(kernel, snapshot, unit, dim, &asked, true, out, err);
done:
    mly_mem_free(kernel->env->mem, unit);
    if (snapshot != NULL) mly_snapshot_release(snapshot);
    mly_kernel_leave(kernel);
    return rc;
}

size_t memalloy_hits_count(const memalloy_hits *hits)
{
    return hits != NULL ? hits->count : 0;
}

void memalloy_hits_get(const memalloy_hits *hits, size_t index, struct memalloy_hit *out)
{
    mly_options_give(out, &hits->items[index], sizeof(hits->items[index]));
}

void memalloy_hits_destroy(memalloy_hits *hits)
{
    if (hits == NULL) return;
    struct mly_mem *mem = hits->mem;
    mly_arena_deinit(&hits->arena);
    mly_mem_free(mem, hits);
}
