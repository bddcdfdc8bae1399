/* In: events. Out: paths at rest.
 *
 * Folders that come are put on a list and watched later, as that may take long; whatever happened
 * in them until then is covered, as a folder that came is told as a whole. */
#include "watch/watch_int.h"

#include <stdio.h>
#include <string.h>

#define QUIET_MS 100u
#define WRITING_MS 500u
#define PATIENCE_MS 2000u

struct mly_watch {
    const struct mly_env *env;
    struct mly_watch_options options;
    struct mly_notify *notify;
    struct watch_folders folders;
    struct watch_waiting waiting;
    struct mly_arena fresh_arena;
    struct mly_bytes fresh; /* struct mly_str[]: folders that came and are not watched yet */
    struct mly_bytes path;  /* of the event in hand */
    bool rewatch;           /* all folders are to be looked for again */
    uint64_t lost;
    bool root_gone;
};

enum mly_err mly_watch_open(const struct mly_env *env, const char *root,
                            const struct mly_watch_options *options, struct mly_watch **out,
                            struct mly_error *err)
{
    struct mly_watch *watch = mly_mem_array(env->mem, 1, sizeof(*watch));
    if (watch == NULL) return mly_fail_nomem(err, sizeof(*watch));
    watch->env = env;
    watch->options = *options;
    if (watch->options.quiet_ms == 0) watch->options.quiet_ms = QUIET_MS;
    if (watch->options.writing_ms == 0) watch->options.writing_ms = WRITING_MS;
    if (watch->options.patience_ms == 0) watch->options.patience_ms = PATIENCE_MS;
    mly_watch_waiting_init(&watch->waiting, env->mem);
    mly_arena_init(&watch->fresh_arena, env->mem, SIZE_MAX);
    mly_bytes_init(&watch->fresh, env->mem, SIZE_MAX);
    mly_bytes_init(&watch->path, env->mem, SIZE_MAX);
    enum mly_err rc = mly_notify_open(env, &watch->notify, err);
    mly_watch_folders_init(&watch->folders, env, &watch->options, watch->notify);
    if (rc == MLY_OK) {
        rc = mly_file_open(env, MLY_AT_CWD, root, MLY_OPEN_READ | MLY_OPEN_DIR,
                           &watch->folders.root, err);
    }
    if (rc == MLY_OK) rc = mly_watch_folders_add(&watch->folders, MLY_STR(""), err);
    if (rc != MLY_OK) {
        mly_watch_close(watch);
        return rc;
    }
    *out = watch;
    return MLY_OK;
}

void mly_watch_close(struct mly_watch *watch)
{
    if (watch == NULL) return;
    mly_watch_folders_deinit(&watch->folders);
    mly_notify_close(watch->notify);
    mly_watch_waiting_deinit(&watch->waiting);
    mly_arena_deinit(&watch->fresh_arena);
    mly_bytes_deinit(&watch->fresh);
    mly_bytes_deinit(&watch->path);
    mly_mem_free(watch->env->mem, watch);
}

int mly_watch_fd(const struct mly_watch *watch)
{
    return mly_notify_fd(watch->notify);
}

/* ---- events ---- */

static void note_all(struct mly_watch *watch, uint64_t now_ms)
{
    mly_watch_waiting_note_all(&watch->waiting, now_ms, watch->options.quiet_ms,
                               watch->options.patience_ms);
}

/* Memory that runs out here makes it everything: nothing may be missed. */
static void forget_fresh(struct mly_watch *watch, uint64_t now_ms)
{
    watch->rewatch = true;
    watch->fresh.bytes = 0;
    mly_arena_reset(&watch->fresh_arena);
    note_all(watch, now_ms);
}

static void note_fresh(struct mly_watch *watch, struct mly_str path, uint64_t now_ms)
{
    struct mly_str copy = mly_arena_copy(&watch->fresh_arena, path);
    if (watch->rewatch) return;
    if (copy.data == NULL || mly_bytes_append(&watch->fresh, &copy, sizeof(copy), NULL) != MLY_OK) {
        forget_fresh(watch, now_ms);
    }
}

static enum mly_err path_of(struct mly_watch *watch, const struct watch_folder *folder,
                            struct mly_str name, struct mly_str *out, struct mly_error *err)
{
    watch->path.bytes = 0;
    MLY_TRY(mly_bytes_append(&watch->path, folder->path, folder->bytes, err));
    if (folder->bytes > 0) MLY_TRY(mly_bytes_append(&watch->path, "/", 1, err));
    MLY_TRY(mly_bytes_append(&watch->path, name.data, name.bytes, err));
    *out = mly_bytes_view(&watch->path);
    return MLY_OK;
}

static void note_folder(struct mly_watch *watch, const struct mly_notify_event *event,
                        struct mly_str path, uint64_t now_ms)
{
    /* One that was removed was empty, and its own number ends. */
    if (event->kind == MLY_NOTIFY_WENT && event->is_moved) {
        mly_watch_folders_remove(&watch->folders, path);
    }
    if (event->kind == MLY_NOTIFY_CAME) note_fresh(watch, path, now_ms);
    /* Rights that changed may open a folder, or close it. */
    if (event->kind == MLY_NOTIFY_CHANGED) note_fresh(watch, path, now_ms);
    mly_watch_waiting_note(&watch->waiting, path, true, now_ms, watch->options.quiet_ms,
                           watch->options.patience_ms);
}

static enum mly_err note_event(struct mly_watch *watch, const struct mly_notify_event *event,
                               uint64_t now_ms, struct mly_error *err)
{
    const struct mly_watch_options *options = &watch->options;
    if (event->kind == MLY_NOTIFY_LOST) {
        watch->lost++;
        forget_fresh(watch, now_ms);
        return MLY_OK;
    }
    const struct watch_folder *folder = mly_watch_folders_find(&watch->folders, event->folder);
    if (folder == NULL) return MLY_OK; /* it went, and this was on its way */
    if (event->kind == MLY_NOTIFY_ENDED) {
        if (folder->bytes == 0) watch->root_gone = true;
        mly_watch_folders_end(&watch->folders, event->folder);
        return MLY_OK; /* the folder above tells the rest */
    }
    if (event->name.bytes == 0) return MLY_OK;
    struct mly_str path;
    MLY_TRY(path_of(watch, folder, event->name, &path, err));
    if (!options->wants(options->context, path, event->is_folder, NULL)) return MLY_OK;
    if (event->is_folder) {
        note_folder(watch, event, path, now_ms);
        return MLY_OK;
    }
    bool is_open = event->kind == MLY_NOTIFY_CHANGED;
    mly_watch_waiting_note(&watch->waiting, path, false, now_ms,
                           is_open ? options->writing_ms : options->quiet_ms, options->patience_ms);
    return MLY_OK;
}

enum mly_err mly_watch_read(struct mly_watch *watch, uint64_t now_ms, struct mly_error *err)
{
    for (;;) {
        struct mly_notify_event event;
        bool found;
        enum mly_err rc = mly_notify_next(watch->notify, &event, &found, err);
        if (rc == MLY_OK && !found) return MLY_OK;
        if (rc == MLY_OK) rc = note_event(watch, &event, now_ms, err);
        if (rc != MLY_OK) {
            forget_fresh(watch, now_ms);
            return rc;
        }
    }
}

enum mly_err mly_watch_settle(struct mly_watch *watch, uint64_t now_ms, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    if (watch->rewatch) {
        watch->folders.unwatched = 0;
        mly_watch_folders_remove(&watch->folders, MLY_STR(""));
        rc = mly_watch_folders_add(&watch->folders, MLY_STR(""), err);
        if (rc == MLY_OK) watch->rewatch = false;
        note_all(watch, now_ms);
    }
    const struct mly_str *fresh = (const void *)watch->fresh.data;
    size_t count = watch->fresh.bytes / sizeof(fresh[0]);
    for (size_t i = 0; rc == MLY_OK && i < count; i++)
        rc = mly_watch_folders_add(&watch->folders, fresh[i], err);
    if (rc != MLY_OK) {
        forget_fresh(watch, now_ms);
        return rc;
    }
    watch->fresh.bytes = 0;
    mly_arena_reset(&watch->fresh_arena);
    return MLY_OK;
}

/* ---- paths at rest ---- */

uint64_t mly_watch_due(const struct mly_watch *watch, uint64_t now_ms)
{
    if (watch->fresh.bytes > 0 || watch->rewatch) return 0;
    uint64_t due_ms = mly_watch_waiting_due_ms(&watch->waiting);
    if (due_ms == UINT64_MAX) return MLY_WATCH_NEVER;
    return due_ms > now_ms ? due_ms - now_ms : 0;
}

enum mly_err mly_watch_take(struct mly_watch *watch, uint64_t now_ms, struct mly_watch_batch *out,
                            struct mly_error *err)
{
    return mly_watch_waiting_take(&watch->waiting, now_ms, out, err);
}

void mly_watch_batch_deinit(struct mly_watch_batch *batch)
{
    if (batch->arena.mem != NULL) mly_arena_deinit(&batch->arena);
    *batch = (struct mly_watch_batch){0};
}

void mly_watch_give_back(struct mly_watch *watch, const struct mly_watch_batch *batch,
                         uint64_t now_ms, uint32_t wait_ms)
{
    if (batch->is_all) mly_watch_waiting_note_all(&watch->waiting, now_ms, wait_ms, wait_ms);
    for (size_t i = 0; i < batch->count; i++) {
        mly_watch_waiting_note(&watch->waiting, batch->items[i].path, batch->items[i].is_folder,
                               now_ms, wait_ms, wait_ms);
    }
}

void mly_watch_get_info(const struct mly_watch *watch, struct mly_watch_info *out)
{
    *out = (struct mly_watch_info){
        .folders = watch->folders.count,
        .unwatched = watch->folders.unwatched,
        .pending = watch->waiting.count + (watch->waiting.is_all ? 1 : 0),
        .lost = watch->lost,
        .root_gone = watch->root_gone,
    };
    memcpy(out->reason, watch->folders.reason, sizeof(out->reason));
}
