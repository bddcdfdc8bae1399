/* Lists a folder: depth first through descriptors, never by joining paths, so that a folder that is
 * swapped for a link on the way leads nowhere. Sorted at the end. */
#include "source/source.h"

#include "base/bytes.h"
#include "base/limits.h"

#include <stdlib.h>

/* All paths of a listing together; ten million files of usual length stay below it. */
#define LISTING_BYTES_MAX ((size_t)1 << 30)
/* One path: names of 255 bytes at the greatest depth. */
#define BELOW_BYTES_MAX ((MLY_WALK_DEPTH_MAX + 2) * 256)

struct walker {
    const struct mly_env *env;
    const struct mly_walk_options *options;
    struct mly_listing *out;
    struct mly_bytes path; /* of the folder or file in hand, below the root */
    struct mly_str rest;   /* what is left of the path that is to be listed alone; "": all there */
};

static bool any_matches(const char *const *patterns, size_t count, struct mly_str path,
                        bool is_folder)
{
    for (size_t i = 0; i < count; i++) {
        struct mly_str pattern = mly_str_of(patterns[i]);
        if (is_folder ? mly_glob_match_folder(pattern, path) : mly_glob_match(pattern, path)) {
            return true;
        }
    }
    return false;
}

static bool patterns_want(const struct mly_walk_options *options, struct mly_str path)
{
    if (options->include_count > 0 &&
        !any_matches(options->include, options->include_count, path, false)) {
        return false;
    }
    return !any_matches(options->exclude, options->exclude_count, path, false);
}

/* Parts of a store, ours or LanceDB's, hold no texts to be read as files. */
static bool is_of_a_store(const char *name)
{
    static const char suffix[] = ".lance";
    size_t bytes = strlen(name);
    if (strcmp(name, "_memalloy") == 0) return true;
    return bytes > sizeof(suffix) - 1 && strcmp(name + bytes - (sizeof(suffix) - 1), suffix) == 0;
}

bool mly_source_wants(const struct mly_walk_options *options, struct mly_str path)
{
    for (size_t i = 0; i < path.bytes; i++) {
        if (path.data[i] == '.' && (i == 0 || path.data[i - 1] == '/')) return false;
    }
    return patterns_want(options, path);
}

static enum mly_err grow(struct mly_mem *mem, void **items, size_t *capacity, size_t item_bytes,
                         struct mly_error *err)
{
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    size_t bytes;
    if (!mly_size_mul(wanted, item_bytes, &bytes)) bytes = SIZE_MAX;
    void *grown = mly_mem_realloc(mem, *items, bytes);
    if (grown == NULL) return mly_fail_nomem(err, bytes);
    *items = grown;
    *capacity = wanted;
    return MLY_OK;
}

static enum mly_err keep(struct walker *walker, struct mly_str text, struct mly_str *out,
                         struct mly_error *err)
{
    struct mly_arena *arena = &walker->out->arena;
    if (arena->bytes + text.bytes + 16 > arena->bytes_max) {
        return mly_fail(err, MLY_ERR_LIMIT, "paths of %zu bytes in all, limit is %zu",
                        arena->bytes + text.bytes, arena->bytes_max);
    }
    *out = mly_arena_copy(arena, text);
    return out->data == NULL ? mly_fail_nomem(err, text.bytes + 1) : MLY_OK;
}

static enum mly_err add_found(struct walker *walker, const struct mly_file_info *info,
                              struct mly_error *err)
{
    struct mly_listing *out = walker->out;
    struct mly_str path;
    MLY_TRY(keep(walker, mly_bytes_view(&walker->path), &path, err));
    if (out->count == out->capacity) {
        void *items = out->items;
        MLY_TRY(grow(out->arena.mem, &items, &out->capacity, sizeof(out->items[0]), err));
        out->items = items;
    }
    out->items[out->count] = (struct mly_found){path, mly_source_stamp(info), info->links > 1};
    out->count++;
    return MLY_OK;
}

static enum mly_err add_unread(struct walker *walker, size_t path_bytes, const char *reason,
                               struct mly_error *err)
{
    struct mly_listing *out = walker->out;
    struct mly_str path = mly_bytes_view(&walker->path);
    path.bytes = path_bytes;
    MLY_TRY(keep(walker, path, &path, err));
    struct mly_str why;
    MLY_TRY(keep(walker, mly_str_of(reason), &why, err));
    if (out->unread_count == out->unread_capacity) {
        size_t capacity = out->unread_capacity;
        void *items = out->unread;
        MLY_TRY(grow(out->arena.mem, &items, &capacity, sizeof(out->unread[0]), err));
        out->unread = items;
        capacity = out->unread_capacity;
        items = out->unread_reasons;
        MLY_TRY(grow(out->arena.mem, &items, &capacity, sizeof(out->unread[0]), err));
        out->unread_reasons = items;
        out->unread_capacity = capacity;
    }
    out->unread[out->unread_count] = path;
    out->unread_reasons[out->unread_count] = why;
    out->unread_count++;
    return MLY_OK;
}

static enum mly_err walk_folder(struct walker *walker, struct mly_dir *dir, size_t depth,
                                struct mly_error *err);

/* Enters the folder name of parent_fd, whose path is in hand. What goes wrong with it alone is
 * noted. */
static enum mly_err enter_folder(struct walker *walker, int parent_fd, const char *name,
                                 size_t depth, struct mly_error *err)
{
    struct mly_str path = mly_bytes_view(&walker->path);
    const struct mly_walk_options *options = walker->options;
    if (any_matches(options->exclude, options->exclude_count, path, true)) return MLY_OK;
    struct mly_dir dir;
    struct mly_error why = {0};
    if (depth > MLY_WALK_DEPTH_MAX) {
        (void)mly_fail(&why, MLY_ERR_LIMIT, "deeper than %zu folders", MLY_WALK_DEPTH_MAX);
        return add_unread(walker, path.bytes, why.message, err);
    }
    enum mly_err rc = mly_dir_open(walker->env, parent_fd, name, &dir, &why);
    if (rc == MLY_ERR_NOTFOUND) return MLY_OK; /* Gone since it was listed. */
    if (rc == MLY_ERR_NOMEM) {
        if (err != NULL) *err = why;
        return rc;
    }
    if (rc != MLY_OK) return add_unread(walker, path.bytes, why.message, err);
    rc = walk_folder(walker, &dir, depth, err);
    mly_dir_close(&dir);
    return rc;
}

static enum mly_err take_entry(struct walker *walker, int fd, const char *name, size_t depth,
                               const struct mly_file_info *info, struct mly_error *err)
{
    if (info->kind == MLY_KIND_DIR) {
        if (walker->options->is_flat) return MLY_OK;
        return enter_folder(walker, fd, name, depth + 1, err);
    }
    if (info->kind != MLY_KIND_FILE || walker->rest.bytes > 0) return MLY_OK;
    if (!patterns_want(walker->options, mly_bytes_view(&walker->path))) return MLY_OK;
    return add_found(walker, info, err);
}

/* True for the store's own folder. */
static enum mly_err is_skipped(struct walker *walker, int fd, bool *out, struct mly_error *err)
{
    *out = false;
    if (!walker->options->has_skip) return MLY_OK;
    struct mly_file folder = {walker->env, fd};
    struct mly_file_info info;
    MLY_TRY(mly_file_info(&folder, &info, err));
    *out = info.device == walker->options->skip_device && info.inode == walker->options->skip_inode;
    return MLY_OK;
}

/* An entry of the folder in hand. What goes wrong with looking at it stands in why and *look. */
static enum mly_err look_at(struct walker *walker, int fd, const char *name, size_t depth,
                            enum mly_err *look, struct mly_error *why, struct mly_error *err)
{
    size_t folder_bytes = walker->path.bytes;
    struct mly_file_info info;
    *look = MLY_OK;
    if (name[0] == '.') return MLY_OK;
    if (folder_bytes > 0) MLY_TRY(mly_bytes_append(&walker->path, "/", 1, err));
    MLY_TRY(mly_bytes_append(&walker->path, name, strlen(name), err));
    *look = mly_file_info_at(walker->env, fd, name, false, &info, why);
    if (*look == MLY_OK && !(info.kind == MLY_KIND_DIR && is_of_a_store(name))) {
        MLY_TRY(take_entry(walker, fd, name, depth, &info, err));
    }
    if (*look == MLY_ERR_NOTFOUND) *look = MLY_OK; /* gone since it was listed */
    walker->path.bytes = folder_bytes;
    return MLY_OK;
}

/* The next name of the path that is to be listed alone. */
static enum mly_err follow_rest(struct walker *walker, int fd, size_t depth, enum mly_err *look,
                                struct mly_error *why, struct mly_error *err)
{
    char name[256];
    struct mly_str *rest = &walker->rest;
    const char *slash = memchr(rest->data, '/', rest->bytes);
    size_t bytes = slash == NULL ? rest->bytes : (size_t)(slash - rest->data);
    *look = MLY_OK;
    if (bytes >= sizeof(name)) return MLY_OK; /* no file system has such names */
    memcpy(name, rest->data, bytes);
    name[bytes] = '\0';
    *rest = mly_str_slice(*rest, slash == NULL ? bytes : bytes + 1, rest->bytes);
    return look_at(walker, fd, name, depth, look, why, err);
}

/* *fault and why: what is wrong with the folder itself; *noted: it is among the unread already. */
static enum mly_err walk_entries(struct walker *walker, struct mly_dir *dir, size_t depth,
                                 enum mly_err *fault, bool *noted, struct mly_error *why,
                                 struct mly_error *err)
{
    int fd = mly_dir_fd(dir);
    bool alone = walker->rest.bytes > 0;
    const char *name = NULL;
    while (*fault == MLY_OK) {
        enum mly_err look;
        if (alone) {
            MLY_TRY(follow_rest(walker, fd, depth, &look, why, err));
        } else {
            *fault = mly_dir_next(dir, &name, why);
            if (*fault != MLY_OK || name == NULL) break;
            MLY_TRY(look_at(walker, fd, name, depth, &look, why, err));
        }
        if (look == MLY_ERR_NOMEM) *fault = look;
        if (look != MLY_OK && look != MLY_ERR_NOMEM && !*noted) {
            MLY_TRY(add_unread(walker, walker->path.bytes, why->message, err));
            *noted = true;
        }
        if (alone) break;
    }
    return MLY_OK;
}

static enum mly_err walk_folder(struct walker *walker, struct mly_dir *dir, size_t depth,
                                struct mly_error *err)
{
    bool noted = false;
    bool skipped = false;
    struct mly_error why = {0};
    enum mly_err fault = is_skipped(walker, mly_dir_fd(dir), &skipped, &why);
    if (fault == MLY_OK && skipped) return MLY_OK;
    MLY_TRY(walk_entries(walker, dir, depth, &fault, &noted, &why, err));
    if (fault == MLY_OK) return MLY_OK;
    if (fault == MLY_ERR_NOMEM || depth == 0) {
        if (err != NULL) *err = why;
        return fault;
    }
    return noted ? MLY_OK : add_unread(walker, walker->path.bytes, why.message, err);
}

static int by_path(const void *a, const void *b)
{
    const struct mly_found *left = a;
    const struct mly_found *right = b;
    return mly_str_compare(left->path, right->path);
}

static enum mly_err check_patterns(const char *const *patterns, size_t count, struct mly_error *err)
{
    for (size_t i = 0; i < count; i++) {
        MLY_TRY(mly_glob_check(mly_str_of(patterns[i]), err));
    }
    return MLY_OK;
}

static enum mly_err open_root(const struct mly_env *env, const char *root, struct mly_dir *out,
                              struct mly_error *err)
{
    struct mly_file_info info;
    MLY_TRY(mly_file_info_at(env, MLY_AT_CWD, root, true, &info, err));
    if (info.kind != MLY_KIND_DIR) return mly_fail(err, MLY_ERR_INVAL, "%s is not a folder", root);
    /* The real path, since a listing does not begin at a link. */
    struct mly_bytes path;
    mly_bytes_init(&path, env->mem, MLY_PATH_BYTES_MAX + 1);
    enum mly_err rc = mly_dir_real_path(env, root, &path, err);
    if (rc == MLY_OK) rc = mly_bytes_append(&path, "", 1, err);
    if (rc == MLY_OK) rc = mly_dir_open(env, MLY_AT_CWD, (const char *)path.data, out, err);
    mly_bytes_deinit(&path);
    return rc;
}

/* All of the root, or what is asked for. */
static enum mly_err walk_root(struct walker *walker, const char *root, struct mly_error *err)
{
    const struct mly_walk_options *options = walker->options;
    size_t count = options->only == NULL ? 1 : options->only_count;
    for (size_t i = 0; i < count; i++) {
        struct mly_dir dir;
        MLY_TRY(open_root(walker->env, root, &dir, err));
        walker->rest = options->only == NULL ? MLY_STR("") : options->only[i];
        walker->path.bytes = 0;
        enum mly_err rc = walk_folder(walker, &dir, 0, err);
        mly_dir_close(&dir);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

enum mly_err mly_source_walk(const struct mly_env *env, const char *root,
                             const struct mly_walk_options *options, struct mly_listing *out,
                             struct mly_error *err)
{
    MLY_TRY(check_patterns(options->include, options->include_count, err));
    MLY_TRY(check_patterns(options->exclude, options->exclude_count, err));
    struct mly_listing listing = {0};
    mly_arena_init(&listing.arena, env->mem, LISTING_BYTES_MAX);
    struct walker walker = {.env = env, .options = options, .out = &listing};
    mly_bytes_init(&walker.path, env->mem, BELOW_BYTES_MAX);
    enum mly_err rc = walk_root(&walker, root, err);
    if (rc != MLY_OK) goto done;
    if (listing.count > 1) qsort(listing.items, listing.count, sizeof(listing.items[0]), by_path);
    *out = listing; /* Moved to the caller. */
    listing = (struct mly_listing){.arena = {.mem = env->mem}};
done:
    mly_bytes_deinit(&walker.path);
    mly_listing_deinit(&listing);
    return rc;
}

void mly_listing_deinit(struct mly_listing *listing)
{
    struct mly_mem *mem = listing->arena.mem;
    if (mem == NULL) return;
    mly_mem_free(mem, listing->items);
    mly_mem_free(mem, listing->unread);
    mly_mem_free(mem, listing->unread_reasons);
    mly_arena_deinit(&listing->arena);
    *listing = (struct mly_listing){0};
}
