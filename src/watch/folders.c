/* The folders that are watched, by the system's numbers.
 *
 * In: folders as they come and go. Out: where an event happened. Folders are entered name by name
 * through descriptors, and never through a link, so that nothing outside the root is watched. */
#include "watch/watch_int.h"

#include "base/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BELOW_BYTES_MAX ((MLY_WALK_DEPTH_MAX + 2) * 256)

void mly_watch_folders_init(struct watch_folders *folders, const struct mly_env *env,
                            const struct mly_watch_options *options, struct mly_notify *notify)
{
    *folders = (struct watch_folders){
        .env = env, .options = options, .notify = notify, .root = MLY_FILE_CLOSED};
}

void mly_watch_folders_deinit(struct watch_folders *folders)
{
    for (size_t i = 0; i < folders->count; i++)
        mly_mem_free(folders->env->mem, folders->items[i].path);
    mly_mem_free(folders->env->mem, folders->items);
    mly_mem_free(folders->env->mem, folders->slots);
    mly_file_close(&folders->root);
    folders->items = NULL;
    folders->slots = NULL;
    folders->count = folders->capacity = folders->slot_count = 0;
}

/* ---- by number ---- */

static size_t home_of(const struct watch_folders *folders, int32_t number)
{
    return ((uint32_t)number * 2654435761u) & (folders->slot_count - 1);
}

static uint32_t *slot_of(const struct watch_folders *folders, int32_t number)
{
    size_t mask = folders->slot_count - 1;
    for (size_t at = home_of(folders, number);; at = (at + 1) & mask) {
        uint32_t *slot = &folders->slots[at];
        if (*slot == 0 || folders->items[*slot - 1].number == number) return slot;
    }
}

const struct watch_folder *mly_watch_folders_find(const struct watch_folders *folders,
                                                  int32_t number)
{
    uint32_t *slot = folders->slots == NULL ? NULL : slot_of(folders, number);
    return slot == NULL || *slot == 0 ? NULL : &folders->items[*slot - 1];
}

static void fill_slots(struct watch_folders *folders)
{
    if (folders->slots == NULL) return;
    memset(folders->slots, 0, folders->slot_count * sizeof(uint32_t));
    for (size_t i = 0; i < folders->count; i++)
        *slot_of(folders, folders->items[i].number) = (uint32_t)i + 1;
}

static enum mly_err grow(struct watch_folders *folders, struct mly_error *err)
{
    struct mly_mem *mem = folders->env->mem;
    if (folders->count < folders->capacity) return MLY_OK;
    size_t capacity = folders->capacity == 0 ? 64 : folders->capacity * 2;
    struct watch_folder *items =
        mly_mem_realloc(mem, folders->items, capacity * sizeof(folders->items[0]));
    if (items == NULL) return mly_fail_nomem(err, capacity * sizeof(folders->items[0]));
    folders->items = items;
    uint32_t *slots = mly_mem_array(mem, capacity * 2, sizeof(slots[0]));
    if (slots == NULL) return mly_fail_nomem(err, capacity * 2 * sizeof(slots[0]));
    mly_mem_free(mem, folders->slots);
    folders->slots = slots;
    folders->slot_count = capacity * 2;
    folders->capacity = capacity;
    fill_slots(folders);
    return MLY_OK;
}

/* One that is watched already, under another path, has been moved: it goes by its new one. */
static enum mly_err keep(struct watch_folders *folders, int32_t number, struct mly_str path,
                         struct mly_error *err)
{
    MLY_TRY(grow(folders, err));
    char *text = mly_mem_copy(folders->env->mem, path.data, path.bytes);
    if (text == NULL) return mly_fail_nomem(err, path.bytes + 1);
    uint32_t *slot = slot_of(folders, number);
    if (*slot != 0) {
        struct watch_folder *folder = &folders->items[*slot - 1];
        mly_mem_free(folders->env->mem, folder->path);
        folder->path = text;
        folder->bytes = path.bytes;
        return MLY_OK;
    }
    folders->items[folders->count] = (struct watch_folder){number, text, path.bytes};
    *slot = (uint32_t)++folders->count;
    return MLY_OK;
}

/* ---- coming ---- */

struct adding {
    struct watch_folders *folders;
    struct mly_bytes path; /* of the folder in hand */
};

/* One that may not be entered is no loss: nobody could read what is in it, and that its rights
 * change is an event of the folder above. */
static void note_unwatched(struct watch_folders *folders, const struct mly_error *why)
{
    if (why->system_errno == EACCES || why->system_errno == EPERM) return;
    folders->unwatched++;
    (void)snprintf(folders->reason, sizeof(folders->reason), "%.*s",
                   (int)sizeof(folders->reason) - 1, why->message);
}

static enum mly_err add_open(struct adding *adding, struct mly_dir *dir, size_t depth,
                             struct mly_error *err);

/* Enters an entry, if it is a folder that is wanted. What goes wrong with it alone is counted. */
static enum mly_err add_entry(struct adding *adding, int dir_fd, const char *name, size_t depth,
                              struct mly_error *err)
{
    struct watch_folders *folders = adding->folders;
    const struct mly_watch_options *options = folders->options;
    struct mly_str path = mly_bytes_view(&adding->path);
    struct mly_file_info info;
    struct mly_error why;
    struct mly_dir dir;
    enum mly_err rc = mly_file_info_at(folders->env, dir_fd, name, false, &info, &why);
    if (rc == MLY_OK && info.kind != MLY_KIND_DIR) return MLY_OK;
    if (rc == MLY_OK && !options->wants(options->context, path, true, &info)) return MLY_OK;
    if (rc == MLY_OK && depth > MLY_WALK_DEPTH_MAX) return MLY_OK; /* nor does a walk enter it */
    if (rc == MLY_OK) rc = mly_dir_open(folders->env, dir_fd, name, &dir, &why);
    if (rc == MLY_ERR_NOTFOUND) return MLY_OK; /* gone again */
    if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", why.message);
    if (rc != MLY_OK) {
        note_unwatched(folders, &why);
        return MLY_OK;
    }
    rc = add_open(adding, &dir, depth, err);
    mly_dir_close(&dir);
    return rc;
}

static enum mly_err add_entries(struct adding *adding, struct mly_dir *dir, size_t depth,
                                struct mly_error *err)
{
    size_t bytes = adding->path.bytes;
    struct mly_error why;
    for (;;) {
        const char *name;
        enum mly_err rc = mly_dir_next(dir, &name, &why);
        if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", why.message);
        if (rc != MLY_OK) note_unwatched(adding->folders, &why);
        if (rc != MLY_OK || name == NULL) return MLY_OK;
        if (bytes > 0) MLY_TRY(mly_bytes_append(&adding->path, "/", 1, err));
        MLY_TRY(mly_bytes_append(&adding->path, name, strlen(name), err));
        MLY_TRY(add_entry(adding, mly_dir_fd(dir), name, depth + 1, err));
        adding->path.bytes = bytes;
    }
}

/* It is watched first and listed then: what comes meanwhile is seen one way or the other. */
static enum mly_err add_open(struct adding *adding, struct mly_dir *dir, size_t depth,
                             struct mly_error *err)
{
    struct watch_folders *folders = adding->folders;
    struct mly_error why;
    int32_t number;
    enum mly_err rc = mly_notify_add(folders->notify, mly_dir_fd(dir), &number, &why);
    if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", why.message);
    if (rc == MLY_OK) {
        MLY_TRY(keep(folders, number, mly_bytes_view(&adding->path), err));
    } else {
        note_unwatched(folders, &why);
    }
    return add_entries(adding, dir, depth, err);
}

/* Opens what leads to path, name by name, and adds what it ends at. */
static enum mly_err add_below(struct adding *adding, int dir_fd, struct mly_str path, size_t from,
                              size_t depth, struct mly_error *err)
{
    struct mly_error why;
    struct mly_dir dir;
    char name[256];
    size_t end = from;
    while (end < path.bytes && path.data[end] != '/')
        end++;
    if (end - from >= sizeof(name)) return MLY_OK; /* no file system has such names */
    memcpy(name, path.data + from, end - from);
    name[end - from] = '\0';
    adding->path.bytes = 0;
    MLY_TRY(mly_bytes_append(&adding->path, path.data, end, err));
    if (end == path.bytes) return add_entry(adding, dir_fd, name, depth, err);
    enum mly_err rc = mly_dir_open(adding->folders->env, dir_fd, name, &dir, &why);
    if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", why.message);
    if (rc != MLY_OK) return MLY_OK; /* gone, or no folder any more: its own event tells */
    rc = depth > MLY_WALK_DEPTH_MAX
             ? MLY_OK
             : add_below(adding, mly_dir_fd(&dir), path, end + 1, depth + 1, err);
    mly_dir_close(&dir);
    return rc;
}

static enum mly_err add_root(struct adding *adding, struct mly_error *err)
{
    struct mly_dir dir;
    MLY_TRY(mly_dir_open(adding->folders->env, adding->folders->root.fd, ".", &dir, err));
    enum mly_err rc = add_open(adding, &dir, 0, err);
    mly_dir_close(&dir);
    return rc;
}

enum mly_err mly_watch_folders_add(struct watch_folders *folders, struct mly_str path,
                                   struct mly_error *err)
{
    struct adding adding = {.folders = folders};
    mly_bytes_init(&adding.path, folders->env->mem, BELOW_BYTES_MAX);
    enum mly_err rc = path.bytes == 0 ? add_root(&adding, err)
                                      : add_below(&adding, folders->root.fd, path, 0, 1, err);
    mly_bytes_deinit(&adding.path);
    return rc;
}

/* ---- going ---- */

static bool is_below(const struct watch_folder *folder, struct mly_str path)
{
    if (path.bytes == 0) return true;
    if (folder->bytes < path.bytes || memcmp(folder->path, path.data, path.bytes) != 0) {
        return false;
    }
    return folder->bytes == path.bytes || folder->path[path.bytes] == '/';
}

void mly_watch_folders_remove(struct watch_folders *folders, struct mly_str path)
{
    size_t kept = 0;
    for (size_t i = 0; i < folders->count; i++) {
        struct watch_folder *folder = &folders->items[i];
        if (!is_below(folder, path)) {
            folders->items[kept++] = *folder;
            continue;
        }
        mly_notify_remove(folders->notify, folder->number);
        mly_mem_free(folders->env->mem, folder->path);
    }
    folders->count = kept;
    fill_slots(folders);
}

/* Empties a slot; those behind it that could not have their own place move up (Knuth, The Art of
 * Computer Programming 3, 6.4, algorithm R). */
static void free_slot(struct watch_folders *folders, uint32_t *slot)
{
    size_t mask = folders->slot_count - 1, hole = (size_t)(slot - folders->slots);
    folders->slots[hole] = 0;
    for (size_t at = (hole + 1) & mask; folders->slots[at] != 0; at = (at + 1) & mask) {
        size_t home = home_of(folders, folders->items[folders->slots[at] - 1].number);
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        folders->slots[hole] = folders->slots[at];
        folders->slots[at] = 0;
        hole = at;
    }
}

void mly_watch_folders_end(struct watch_folders *folders, int32_t number)
{
    uint32_t *slot = folders->slots == NULL ? NULL : slot_of(folders, number);
    if (slot == NULL || *slot == 0) return;
    size_t i = *slot - 1, last = folders->count - 1;
    mly_mem_free(folders->env->mem, folders->items[i].path);
    free_slot(folders, slot);
    if (i != last) {
        *slot_of(folders, folders->items[last].number) = (uint32_t)i + 1;
        folders->items[i] = folders->items[last];
    }
    folders->count = last;
}
