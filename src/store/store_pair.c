/* Which versions of the two tables belong together.
 *
 * In: the newest version of both, whose commit ids differ: a writer is between them, or was when it
 * died. Out: the newest versions of each that have the same id, found by looking back one version
 * after the other; only manifests are read for it. */
#include "store/store_int.h"

static struct mly_str commit_at(const struct mly_store_history *history, size_t depth)
{
    if (depth == 0) return mly_store_view_config(history->newest, MLY_KEY_COMMIT);
    if (history->back[depth] == NULL) return MLY_STR_NULL;
    return mly_lance_manifest_config(history->back[depth], MLY_KEY_COMMIT);
}

/* Reads one version more; none where there is nothing before, or where it cannot be read any more.
 */
static enum mly_err look_back(struct mly_store *store, struct mly_store_history *history,
                              struct mly_error *err)
{
    struct mly_lance_manifest *last = history->newest->manifest;
    if (history->count > 1) last = history->back[history->count - 1];
    if (last == NULL) {
        history->ended = true;
        return MLY_OK;
    }
    if (history->count == history->capacity) {
        size_t capacity = history->capacity == 0 ? 4 : history->capacity * 2;
        size_t bytes = capacity * sizeof(history->back[0]);
        struct mly_lance_manifest **back = mly_mem_realloc(store->mem, history->back, bytes);
        if (back == NULL) return mly_fail_nomem(err, bytes);
        history->back = back;
        history->capacity = capacity;
    }
    struct mly_lance_manifest *before = NULL;
    if (mly_lance_manifest_version(last) > 1) {
        struct mly_error why = {0};
        enum mly_err rc =
            mly_lance_manifest_load_before(history->newest->table->lance, last, &before, &why);
        if (rc == MLY_ERR_NOMEM || rc == MLY_ERR_IO) {
            if (err != NULL) *err = why;
            return rc;
        }
        history->ended = rc != MLY_OK; /* cleaned away, or damaged */
        if (rc != MLY_OK) return MLY_OK;
    }
    history->back[history->count++] = before;
    return MLY_OK;
}

/* Makes the version depth back known, where there is one. */
static enum mly_err reach(struct mly_store *store, struct mly_store_history *history, size_t depth,
                          struct mly_error *err)
{
    while (history->count <= depth && !history->ended) {
        if (history->count == 0) {
            /* back[0] stands for newest. */
            history->back = mly_mem_array(store->mem, 4, sizeof(history->back[0]));
            if (history->back == NULL) return mly_fail_nomem(err, 4 * sizeof(history->back[0]));
            history->capacity = 4;
            history->count = 1;
            continue;
        }
        MLY_TRY(look_back(store, history, err));
    }
    return MLY_OK;
}

/* The pair nearest to the newest of both: an id stands in consecutive versions, and of those
 * the last ones count. */
static enum mly_err find(struct mly_store_pair *pair, size_t depth_max, struct mly_error *err)
{
    struct mly_store_history *documents = &pair->tables[MLY_STORE_DOCUMENTS];
    struct mly_store_history *chunks = &pair->tables[MLY_STORE_CHUNKS];
    for (size_t sum = 1; sum <= 2 * depth_max; sum++) {
        MLY_TRY(reach(pair->store, documents, sum < depth_max ? sum : depth_max, err));
        MLY_TRY(reach(pair->store, chunks, sum < depth_max ? sum : depth_max, err));
        if (sum > documents->count + chunks->count) return MLY_OK;
        for (size_t depth = 0; depth <= sum; depth++) {
            size_t chunks_depth = sum - depth;
            if (depth >= documents->count || chunks_depth >= chunks->count) continue;
            if (!mly_str_equal(commit_at(documents, depth), commit_at(chunks, chunks_depth))) {
                continue;
            }
            pair->depth[MLY_STORE_DOCUMENTS] = depth;
            pair->depth[MLY_STORE_CHUNKS] = chunks_depth;
            pair->found = true;
            return MLY_OK;
        }
    }
    return MLY_OK;
}

enum mly_err mly_store_pair_find(struct mly_store_pair *pair, struct mly_store *store,
                                 struct mly_store_view *documents, struct mly_store_view *chunks,
                                 size_t depth_max, struct mly_error *err)
{
    *pair = (struct mly_store_pair){.store = store};
    pair->tables[MLY_STORE_DOCUMENTS].newest = documents;
    pair->tables[MLY_STORE_CHUNKS].newest = chunks;
    /* A table that was taken away, or chunks made anew by somebody else: no step of ours leaves
     * that, and what was before is not what is. */
    if (documents->manifest == NULL || chunks->manifest == NULL ||
        mly_store_view_config(chunks, MLY_KEY_COMMIT).data == NULL) {
        return MLY_OK;
    }
    return find(pair, depth_max, err);
}

void mly_store_pair_deinit(struct mly_store_pair *pair)
{
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        struct mly_store_history *history = &pair->tables[kind];
        for (size_t i = 1; i < history->count; i++)
            mly_lance_manifest_destroy(history->back[i]);
        mly_mem_free(pair->store->mem, history->back);
    }
}

enum mly_err mly_store_pair_view(struct mly_store_pair *pair, enum mly_store_table_kind kind,
                                 struct mly_store_view **out, struct mly_error *err)
{
    struct mly_store_history *history = &pair->tables[kind];
    size_t depth = pair->depth[kind];
    struct mly_error why = {0};
    *out = NULL;
    if (depth == 0) {
        *out = mly_store_view_retain(history->newest);
        return MLY_OK;
    }
    enum mly_err rc = mly_store_view_make(history->newest, history->back[depth], out, &why);
    if (rc == MLY_OK) history->back[depth] = NULL;
    if (rc == MLY_ERR_NOTFOUND || rc == MLY_ERR_CORRUPT) return MLY_OK;
    if (rc != MLY_OK && err != NULL) *err = why;
    return rc;
}

const struct mly_lance_manifest *mly_store_pair_next_chunks(const struct mly_store_pair *pair)
{
    size_t depth = pair->depth[MLY_STORE_CHUNKS];
    const struct mly_store_history *history = &pair->tables[MLY_STORE_CHUNKS];
    if (!pair->found || depth == 0) return NULL;
    return depth == 1 ? history->newest->manifest : history->back[depth - 1];
}
