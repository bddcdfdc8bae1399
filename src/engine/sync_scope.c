/* Which paths a sync looks at.
 *
 * In: paths as somebody names them. Out: the same, each once, in an order in which what is below a
 * path stands right behind it, so that one search finds the path that another one belongs to. */
#include "engine/sync_int.h"

#include <stdlib.h>

/* Bytewise, but "/" comes before everything. */
static int compare(struct mly_str a, struct mly_str b)
{
    size_t bytes = a.bytes < b.bytes ? a.bytes : b.bytes;
    for (size_t i = 0; i < bytes; i++) {
        unsigned char left = (unsigned char)a.data[i], right = (unsigned char)b.data[i];
        if (left == right) continue;
        if (left == '/') return -1;
        if (right == '/') return 1;
        return left < right ? -1 : 1;
    }
    if (a.bytes == b.bytes) return 0;
    return a.bytes < b.bytes ? -1 : 1;
}

static int by_path(const void *a, const void *b)
{
    const struct mly_sync_path *left = a;
    const struct mly_sync_path *right = b;
    return compare(left->path, right->path);
}

static bool is_below(struct mly_str path, struct mly_str folder)
{
    return path.bytes > folder.bytes && path.data[folder.bytes] == '/' &&
           mly_str_starts_with(path, folder);
}

/* Without "." and doubled slashes; INVAL for "..". */
static enum mly_err tidy(struct mly_str path, char *out, size_t *out_bytes, struct mly_error *err)
{
    size_t at = 0, bytes = 0;
    while (at < path.bytes) {
        size_t end = at;
        while (end < path.bytes && path.data[end] != '/')
            end++;
        struct mly_str name = mly_str_slice(path, at, end);
        at = end + 1;
        if (name.bytes == 0 || mly_str_equal(name, MLY_STR("."))) continue;
        if (mly_str_equal(name, MLY_STR(".."))) {
            return mly_fail(err, MLY_ERR_INVAL, "path %.300s may lead out of the folder",
                            path.data);
        }
        if (bytes > 0) out[bytes++] = '/';
        memcpy(out + bytes, name.data, name.bytes);
        bytes += name.bytes;
    }
    *out_bytes = bytes;
    return MLY_OK;
}

/* A path below the root, whoever gave it: "/root/a/b" is "a/b". */
static enum mly_err below_root(const struct sync *sync, struct mly_str path, struct mly_str *out,
                               struct mly_error *err)
{
    struct mly_str root = sync->root;
    *out = path;
    if (path.bytes == 0 || path.data[0] != '/') return MLY_OK;
    if (root.bytes > 1 && !mly_str_equal(path, root) && !is_below(path, root)) {
        return mly_fail(err, MLY_ERR_INVAL, "path %.300s is not below %.150s", path.data,
                        root.data);
    }
    *out = mly_str_slice(path, root.bytes, path.bytes);
    return MLY_OK;
}

enum mly_err mly_sync_take_scope(struct sync *sync, const struct mly_sync_path *paths, size_t count,
                                 struct mly_error *err)
{
    if (paths == NULL) return MLY_OK;
    struct mly_arena *arena = &sync->scope_arena;
    struct mly_sync_path *scope = mly_arena_array(arena, count + 1, sizeof(scope[0]));
    sync->only = mly_arena_array(arena, count + 1, sizeof(sync->only[0]));
    if (scope == NULL || sync->only == NULL) {
        return mly_fail_nomem(err, (count + 1) * sizeof(scope[0]));
    }
    for (size_t i = 0; i < count; i++) {
        struct mly_str below;
        MLY_TRY(below_root(sync, paths[i].path, &below, err));
        char *text = mly_arena_take(arena, below.bytes + 1);
        size_t bytes = 0;
        if (text == NULL) return mly_fail_nomem(err, below.bytes + 1);
        MLY_TRY(tidy(below, text, &bytes, err));
        if (bytes == 0) return MLY_OK; /* the folder itself: everything */
        text[bytes] = '\0';
        scope[i] = (struct mly_sync_path){{text, bytes}, paths[i].is_folder};
    }
    if (count > 1) qsort(scope, count, sizeof(scope[0]), by_path);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct mly_sync_path *last = kept == 0 ? NULL : &scope[kept - 1];
        if (last != NULL && mly_str_equal(scope[i].path, last->path)) {
            last->is_folder = last->is_folder || scope[i].is_folder;
        } else if (last != NULL && is_below(scope[i].path, last->path)) {
            last->is_folder = true;
        } else {
            scope[kept++] = scope[i];
        }
    }
    for (size_t i = 0; i < kept; i++)
        sync->only[i] = scope[i].path;
    sync->scope = scope;
    sync->scope_count = kept;
    return MLY_OK;
}

bool mly_sync_is_in_scope(const struct sync *sync, struct mly_str path, bool folders)
{
    if (sync->scope == NULL) return true;
    size_t low = 0, high = sync->scope_count; /* the last one that is not behind path */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(sync->scope[middle].path, path) <= 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) return false;
    const struct mly_sync_path *item = &sync->scope[low - 1];
    if (folders && !item->is_folder) return false;
    return mly_str_equal(item->path, path) || is_below(path, item->path);
}
