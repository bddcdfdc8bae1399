/* Documents whose files are gone.
 *
 * In: the listing, and the documents in scope. Out: those that have no file any more, by the hash
 * of their text, so that a file that was moved or renamed finds its document again. Nothing is
 * gone on a guess: what cannot be looked at stays, and so does what was on a disk that may be
 * away. */
#include "engine/sync_int.h"

#include <errno.h>
#include <stdlib.h>

/* Files of one content among which the one that was moved is looked for by its inode. */
#define INODE_LOOKS_MAX 16

static bool is_listed(const struct mly_listing *listing, struct mly_str path)
{
    size_t low = 0;
    size_t high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = mly_str_compare(listing->items[middle].path, path);
        if (order == 0) return true;
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return false;
}

/* ---- what the system says ---- */

/* Opens the folder that path is in, name by name, no link followed; rest: what is left of the path.
 * Stops at what cannot be opened: *result says why, and out is the last that could. */
static void open_nearest(struct sync *sync, struct mly_str path, struct mly_file *out,
                         struct mly_str *rest, int *result)
{
    const struct mly_env *env = sync->env;
    int fd = sync->root_dir.fd;
    *rest = path;
    *result = 0;
    for (;;) {
        char name[256];
        const char *slash = memchr(rest->data, '/', rest->bytes);
        size_t bytes = slash == NULL ? rest->bytes : (size_t)(slash - rest->data);
        if (slash == NULL || bytes >= sizeof(name)) return;
        memcpy(name, rest->data, bytes);
        name[bytes] = '\0';
        do {
            *result = env->open(env->context, fd, name, MLY_OPEN_READ | MLY_OPEN_DIR);
        } while (*result == -EINTR);
        if (*result < 0) return;
        mly_file_close(out);
        *out = (struct mly_file){env, *result};
        fd = out->fd;
        *rest = mly_str_slice(*rest, bytes + 1, rest->bytes);
    }
}

static bool is_known_device(const struct sync *sync, int64_t device)
{
    for (size_t i = 0; i < sync->device_count; i++) {
        if (sync->devices[i] == device) return true;
    }
    return false;
}

void mly_sync_note_device(struct sync *sync, int64_t device)
{
    if (is_known_device(sync, device) || sync->device_count == SYNC_DEVICES_MAX) return;
    sync->devices[sync->device_count++] = device;
}

bool mly_sync_is_gone(struct sync *sync, struct mly_str below, int64_t device, bool *is_away)
{
    const struct mly_env *env = sync->env;
    struct mly_file folder = MLY_FILE_CLOSED;
    struct mly_file_info info;
    struct mly_str rest;
    int result;
    *is_away = false;
    open_nearest(sync, below, &folder, &rest, &result);
    int fd = folder.fd >= 0 ? folder.fd : sync->root_dir.fd;
    bool gone = mly_file_is_missing(result) || result == -ELOOP; /* a link is no folder */
    if (result >= 0) {
        char name[256];
        bool fits = rest.bytes > 0 && rest.bytes < sizeof(name); /* no file system has others */
        if (fits) memcpy(name, rest.data, rest.bytes);
        name[fits ? rest.bytes : 0] = '\0';
        result = fits ? env->info_at(env->context, fd, name, false, &info) : -ENOENT;
        gone = result == 0 ? info.kind != MLY_KIND_FILE : mly_file_is_missing(result);
    }
    /* A folder on which a disk was mounted is there, and empty, while the disk is away. That a
     * disk has another number now is seen by its other files. */
    if (gone && device >= 0 && env->info(env->context, fd, &info) == 0) {
        *is_away = (int64_t)info.device != device && !is_known_device(sync, device);
    }
    mly_file_close(&folder);
    return gone;
}

/* ---- finding them ---- */

/* The path below the root of a document's file; data NULL: it is elsewhere, or no file's. */
static struct mly_str below_root(const struct sync *sync, const struct mly_document *document,
                                 struct mly_str *full)
{
    struct mly_str path = document->path_raw.data != NULL ? document->path_raw : document->path;
    struct mly_str root = sync->root;
    *full = path;
    if (document->id.data == NULL || document->id.bytes == 0) return MLY_STR_NULL;
    if (path.data == NULL || !mly_str_starts_with(path, root)) return MLY_STR_NULL;
    bool slash = root.data[root.bytes - 1] == '/';
    if (!slash && (path.bytes == root.bytes || path.data[root.bytes] != '/')) return MLY_STR_NULL;
    return mly_str_slice(path, root.bytes + (slash ? 0 : 1), path.bytes);
}

static enum mly_err keep(struct sync *sync, const struct mly_document *document,
                         struct mly_str path, bool is_there, struct mly_error *err)
{
    struct sync_goners *gone = &sync->gone;
    if (gone->count == gone->capacity) {
        size_t capacity = gone->capacity == 0 ? 16 : gone->capacity * 2;
        size_t bytes = capacity * sizeof(gone->items[0]);
        struct sync_gone *items = mly_mem_realloc(sync->env->mem, gone->items, bytes);
        if (items == NULL) return mly_fail_nomem(err, bytes);
        gone->items = items;
        gone->capacity = capacity;
    }
    struct sync_gone item = {
        .id = mly_arena_copy(&gone->arena, document->id),
        .path = mly_arena_copy(&gone->arena, path),
        .shown = mly_arena_copy(&gone->arena, document->path),
        .hash = document->content_hash,
        .inode = document->has_stamp ? document->stamp.inode : -1,
        .is_text = mly_str_equal(document->status, MLY_STR("ok")) && document->has_content_hash,
        .is_there = is_there,
    };
    if (item.id.data == NULL || item.path.data == NULL || item.shown.data == NULL) {
        return mly_fail_nomem(err, document->id.bytes + 2 * path.bytes + 3);
    }
    gone->items[gone->count++] = item;
    return MLY_OK;
}

enum mly_err mly_sync_keep_changed(struct sync *sync, const struct mly_document *document,
                                   struct mly_error *err)
{
    if (!document->has_content_hash) return MLY_OK;
    return keep(sync, document, MLY_STR(""), true, err);
}

static enum mly_err look_at(struct sync *sync, const struct mly_document *document,
                            struct mly_error *err)
{
    struct mly_str path;
    struct mly_str below = below_root(sync, document, &path);
    if (below.data == NULL || below.bytes == 0 || is_listed(&sync->listing, below)) return MLY_OK;
    bool is_away;
    int64_t device = document->has_stamp ? document->stamp.device : -1;
    if (!mly_sync_is_gone(sync, below, device, &is_away)) return MLY_OK;
    if (is_away) {
        sync->report->counts.away++;
        return mly_report_skip(sync->report, document->path,
                               MLY_STR("kept: its disk may be away, as the folder is on another"),
                               err);
    }
    return keep(sync, document, path, false, err);
}

static enum mly_err note_row(void *context, const struct mly_document *document,
                             struct mly_error *err)
{
    struct sync *sync = context;
    struct mly_str path;
    struct mly_str below = below_root(sync, document, &path);
    if (below.data == NULL || !mly_sync_is_in_scope(sync, below, true)) return MLY_OK;
    return look_at(sync, document, err);
}

static bool can_be_taken(const struct sync_gone *item)
{
    return item->is_text && !item->is_there;
}

static int by_hash(const void *a, const void *b)
{
    const struct sync_gone *left = a;
    const struct sync_gone *right = b;
    int order = memcmp(left->hash.bytes, right->hash.bytes, MLY_HASH_BYTES);
    return order != 0 ? order : (int)can_be_taken(right) - (int)can_be_taken(left);
}

enum mly_err mly_sync_find_gone(struct sync *sync, struct mly_error *err)
{
    bool all = sync->scope == NULL;
    struct mly_arena arena;
    mly_arena_init(&arena, sync->env->mem, SIZE_MAX);
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < sync->scope_count && rc == MLY_OK; i++) {
        struct mly_document document;
        struct mly_str path;
        bool found = false;
        all = all || sync->scope[i].is_folder;
        if (sync->scope[i].is_folder) continue;
        mly_arena_reset(&arena);
        rc = mly_sync_full_path(sync, sync->scope[i].path, &arena, &path, err);
        if (rc == MLY_OK) {
            rc = mly_snapshot_find_path(sync->snapshot, path, &arena, &document, &found, err);
        }
        if (rc == MLY_OK && found) rc = look_at(sync, &document, err);
    }
    mly_arena_deinit(&arena);
    if (rc == MLY_OK && all) rc = mly_snapshot_each_document(sync->snapshot, note_row, sync, err);
    if (sync->gone.count > 1) {
        qsort(sync->gone.items, sync->gone.count, sizeof(sync->gone.items[0]), by_hash);
    }
    return rc;
}

/* ---- files that are there again ---- */

/* The first of that hash, or gone->count. */
static size_t find_first(const struct sync_goners *gone, const struct mly_hash *hash)
{
    size_t low = 0, high = gone->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (memcmp(gone->items[middle].hash.bytes, hash->bytes, MLY_HASH_BYTES) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool found =
        low < gone->count && memcmp(gone->items[low].hash.bytes, hash->bytes, MLY_HASH_BYTES) == 0;
    return found ? low : gone->count;
}

struct sync_gone *mly_sync_take_gone(struct sync *sync, const struct mly_hash *hash, int64_t inode)
{
    struct sync_goners *gone = &sync->gone;
    struct sync_gone *items = gone->items;
    size_t low = find_first(gone, hash);
    if (low == gone->count) return NULL;
    size_t first = low + items[low].taken;
    size_t best = gone->count;
    for (size_t i = first; i < gone->count && i < first + INODE_LOOKS_MAX; i++) {
        bool same = memcmp(items[i].hash.bytes, hash->bytes, MLY_HASH_BYTES) == 0;
        if (!same || !can_be_taken(&items[i])) break;
        if (best == gone->count || items[i].inode == inode) best = i;
        if (items[i].inode == inode) break;
    }
    if (best == gone->count) return NULL;
    size_t taken = items[low].taken;
    struct sync_gone swap = items[best];
    items[best] = items[first];
    items[first] = swap;
    items[first].is_taken = true;
    items[low].taken = taken + 1;
    return &items[first];
}

struct mly_str mly_sync_find_donor(const struct sync *sync, const struct mly_hash *hash)
{
    size_t low = find_first(&sync->gone, hash);
    return low == sync->gone.count ? MLY_STR_NULL : sync->gone.items[low].id;
}

void mly_sync_gone_deinit(struct sync *sync)
{
    mly_mem_free(sync->env->mem, sync->gone.items);
    if (sync->gone.arena.mem != NULL) mly_arena_deinit(&sync->gone.arena);
    sync->gone = (struct sync_goners){0};
}
