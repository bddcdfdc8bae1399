/* What a watch does when its timer is up: on a thread of the lane's, one at a time for a watch.
 *
 * In: the room's paths at rest. Out: syncs of these, and events. What fails is tried again, later
 * and later; what the system cannot watch is looked at at intervals; a folder that is not there is
 * waited for. */
#include "engine/watching.h"

#include <stdio.h>
#include <string.h>

#define BACKOFF_MS 1000u
#define BACKOFF_MS_MAX 60000u
/* Of its time, what part a watch without events may look at everything: 1 of so many. */
#define POLL_SHARE 20u

/* ---- what is of interest ---- */

static bool is_of_a_store(struct mly_str name)
{
    return mly_str_equal(name, MLY_STR("_memalloy")) ||
           (name.bytes > 6 && memcmp(name.data + name.bytes - 6, ".lance", 6) == 0);
}

/* A mly_watch_wants_fn: on the loop's thread too, so nothing is asked of the system. */
static bool wants(void *context, struct mly_str path, bool is_folder,
                  const struct mly_file_info *info)
{
    const struct memalloy_watch *watch = context;
    const struct mly_walk_options *walk = &watch->walk;
    size_t name = path.bytes;
    if (!is_folder) return mly_source_wants(walk, path);
    if (walk->is_flat) return false;
    while (name > 0 && path.data[name - 1] != '/')
        name--;
    struct mly_str last = mly_str_slice(path, name, path.bytes);
    if ((last.bytes > 0 && last.data[0] == '.') || is_of_a_store(last)) return false;
    if (info != NULL && walk->has_skip && info->device == walk->skip_device &&
        info->inode == walk->skip_inode) {
        return false;
    }
    for (size_t i = 0; i < walk->exclude_count; i++) {
        if (mly_glob_match_folder(mly_str_of(walk->exclude[i]), path)) return false;
    }
    return true;
}

/* The store's own folder, once it is there. */
static void find_store(struct memalloy_watch *watch)
{
    const struct mly_env *env = watch->env;
    struct mly_file_info info;
    if (env->info_at(env->context, MLY_AT_CWD, watch->kernel->path.data, true, &info) != 0) return;
    watch->walk.skip_device = info.device;
    watch->walk.skip_inode = info.inode;
    watch->walk.has_skip = true;
}

/* ---- events of the system ---- */

static void on_events(void *context)
{
    struct memalloy_watch *watch = context;
    mly_mutex_lock(&watch->mutex);
    bool rest = watch->closing || watch->room == NULL || watch->is_settling;
    if (!rest && mly_watch_read(watch->room, mly_watching_now(watch), NULL) != MLY_OK) {
        watch->is_broken = watch->full_wanted = rest = true;
    }
    /* The descriptor says so as long as there is something to be read. */
    if (rest && watch->item != NULL) {
        mly_loop_watch_rest(watch->item);
        watch->is_resting = true;
    }
    mly_watching_arm(watch);
    mly_cond_wake_all(&watch->changed);
    mly_mutex_unlock(&watch->mutex);
}

void mly_watching_close_room(struct memalloy_watch *watch)
{
    mly_mutex_lock(&watch->mutex);
    struct mly_loop_item *item = watch->item;
    mly_mutex_unlock(&watch->mutex);
    mly_loop_item_destroy(item, false);
    mly_mutex_lock(&watch->mutex);
    struct mly_watch *room = watch->room;
    watch->room = NULL;
    watch->item = NULL;
    watch->is_broken = watch->is_resting = false;
    watch->status.folders = watch->status.unwatched = 0;
    mly_mutex_unlock(&watch->mutex);
    mly_watch_close(room);
}

static enum mly_err open_room(struct memalloy_watch *watch, struct mly_error *err)
{
    const struct mly_watch_options options = {
        .wants = wants,
        .context = watch,
        .quiet_ms = watch->options.quiet_ms,
        .writing_ms = watch->options.quiet_ms > 500 ? watch->options.quiet_ms : 500,
        .patience_ms = watch->options.patience_ms,
    };
    const char *network = NULL;
    struct mly_watch *room = NULL;
    struct mly_loop *loop = NULL;
    struct mly_loop_item *item = NULL;
    MLY_TRY(mly_dir_network_kind(watch->env, watch->root.data, &network, err));
    if (network != NULL) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "of files on %s the system does not tell what changes elsewhere", network);
    }
    MLY_TRY(mly_runtime_get_loop(watch->runtime, &loop, err));
    MLY_TRY(mly_watch_open(watch->env, watch->root.data, &options, &room, err));
    mly_mutex_lock(&watch->mutex);
    watch->room = room;
    mly_mutex_unlock(&watch->mutex);
    enum mly_err rc = mly_loop_watch_create(loop, mly_watch_fd(room), on_events, watch, &item, err);
    mly_mutex_lock(&watch->mutex);
    watch->item = item;
    mly_mutex_unlock(&watch->mutex);
    if (rc != MLY_OK) mly_watching_close_room(watch);
    return rc;
}

/* ---- the folder ---- */

/* False where there is none. One that is another than before is watched anew. */
static bool find_root(struct memalloy_watch *watch)
{
    const struct mly_env *env = watch->env;
    struct mly_file_info info;
    bool there = env->info_at(env->context, MLY_AT_CWD, watch->root.data, false, &info) == 0 &&
                 info.kind == MLY_KIND_DIR;
    mly_mutex_lock(&watch->mutex);
    struct mly_watch_info known = {0};
    if (watch->room != NULL) mly_watch_get_info(watch->room, &known);
    bool other = !there || info.device != watch->root_device || info.inode != watch->root_inode ||
                 known.root_gone || watch->is_broken;
    bool has_room = watch->room != NULL;
    watch->full_wanted = watch->full_wanted || (has_room && other);
    mly_mutex_unlock(&watch->mutex);
    if (has_room && other) mly_watching_close_room(watch);
    if (there) {
        watch->root_device = info.device;
        watch->root_inode = info.inode;
    }
    return there;
}

/* Where there are to be events and are none: opens them, or says why there are none. */
static void find_events(struct memalloy_watch *watch)
{
    struct mly_error err = {0};
    char text[400];
    if ((watch->options.flags & MEMALLOY_WATCH_POLL) != 0 || watch->room != NULL) return;
    /* A system that has none left is asked again when everything is looked at anyway. */
    if (watch->is_polling && mly_watching_now(watch) < watch->next_try_ms) return;
    watch->is_polling = open_room(watch, &err) != MLY_OK;
    watch->next_try_ms = mly_watching_now(watch) + (uint64_t)watch->options.reconcile_s * 1000;
    if (!watch->is_polling) {
        watch->events_problem[0] = '\0';
        return;
    }
    (void)snprintf(text, sizeof(text), "%.300s; it is looked at every %u ms", err.message,
                   watch->options.poll_ms);
    memcpy(watch->events_problem, text, sizeof(text));
}

/* ---- one look ---- */

static int on_progress(void *context, const struct memalloy_progress *progress)
{
    struct memalloy_watch *watch = context;
    mly_mutex_lock(&watch->mutex);
    bool closing = watch->closing;
    watch->status.files_done = progress->files_done;
    watch->status.files_total = progress->files_total;
    mly_mutex_unlock(&watch->mutex);
    return closing;
}

static void on_file(void *context, const struct memalloy_file_event *event)
{
    struct memalloy_watch *watch = context;
    /* What has no row is tried, and passed over, at each look. */
    bool passed_over = event->kind == MEMALLOY_FILE_SKIPPED && event->document_id.data == NULL;
    if (passed_over && watch->is_full && !watch->is_first) return;
    const struct memalloy_watch_event copy = {.struct_bytes = sizeof(copy),
                                              .kind = event->kind,
                                              .path = event->path,
                                              .old_path = event->old_path,
                                              .reason = event->reason,
                                              .document_id = event->document_id};
    mly_watching_tell(watch, &copy);
}

/* Folders that came are watched; what is at rest is taken. *full: everything is to be looked at. */
static enum mly_err take_batch(struct memalloy_watch *watch, struct mly_watch_batch *batch,
                               bool *full, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    *batch = (struct mly_watch_batch){0};
    mly_mutex_lock(&watch->mutex);
    struct mly_watch *room = watch->room;
    watch->is_settling = room != NULL;
    mly_mutex_unlock(&watch->mutex);
    if (room != NULL) rc = mly_watch_settle(room, mly_watching_now(watch), err);
    mly_mutex_lock(&watch->mutex);
    watch->is_settling = false;
    if (watch->is_resting && !watch->is_broken && watch->item != NULL) {
        watch->is_resting = false;
        mly_loop_watch_go_on(watch->item);
    }
    uint64_t now_ms = mly_watching_now(watch);
    if (rc == MLY_OK && room != NULL) rc = mly_watch_take(room, now_ms, batch, err);
    *full = watch->full_wanted || batch->is_all || now_ms >= watch->next_full_ms;
    if (rc == MLY_OK) {
        watch->busy = *full ? 1 : batch->count;
        watch->looks_begun += *full;
        watch->full_wanted = false;
        if (*full) watch->look_owed = false;
    }
    mly_mutex_unlock(&watch->mutex);
    return rc;
}

static enum mly_err sync_batch(struct memalloy_watch *watch, const struct mly_watch_batch *batch,
                               struct memalloy_sync_counts *counts, struct mly_error *err)
{
    struct mly_sync_path *paths = NULL;
    memalloy_report *report = NULL;
    struct memalloy_sync_options options = watch->sync;
    size_t count = watch->is_full ? 0 : batch->count;
    options.progress = on_progress;
    options.progress_context = watch;
    options.file = on_file;
    options.file_context = watch;
    if (!watch->is_full) {
        paths = mly_mem_array(watch->mem, count + 1, sizeof(paths[0]));
        if (paths == NULL) return mly_fail_nomem(err, (count + 1) * sizeof(paths[0]));
        for (size_t i = 0; i < count; i++)
            paths[i] = (struct mly_sync_path){batch->items[i].path, batch->items[i].is_folder};
    }
    enum mly_err rc =
        mly_sync(watch->kernel, watch->root.data, &options, paths, count, &report, err);
    if (rc == MLY_OK) {
        memalloy_report_get(report, counts);
        watch->other_names = report->other_names;
        memalloy_report_destroy(report);
    }
    mly_mem_free(watch->mem, paths);
    return rc;
}

static void note_done(struct memalloy_watch *watch, const struct memalloy_sync_counts *counts,
                      uint64_t begun_ms)
{
    uint64_t now_ms = mly_watching_now(watch);
    uint64_t poll_ms = (now_ms - begun_ms) * POLL_SHARE;
    if (poll_ms < watch->options.poll_ms) poll_ms = watch->options.poll_ms;
    mly_mutex_lock(&watch->mutex);
    struct memalloy_watch_status *status = &watch->status;
    struct mly_watch_info info = {0};
    if (watch->room != NULL) mly_watch_get_info(watch->room, &info);
    bool polls = watch->room == NULL || info.unwatched > 0;
    if (watch->is_full) {
        watch->next_full_ms =
            now_ms + (polls ? poll_ms : (uint64_t)watch->options.reconcile_s * 1000);
        watch->looks_done = watch->looks_begun;
        watch->rest_ms = now_ms + (now_ms - begun_ms) * POLL_SHARE;
        status->files = counts->files;
        status->skipped = counts->skipped;
    }
    /* Folders may have come that the system does not watch. */
    if (polls && watch->next_full_ms > now_ms + poll_ms) watch->next_full_ms = now_ms + poll_ms;
    /* The system tells of a file under the name by which it was opened. */
    if (!watch->is_full && watch->other_names) {
        watch->look_owed = true;
        if (watch->next_full_ms > watch->rest_ms) watch->next_full_ms = watch->rest_ms;
    }
    status->state = watch->room == NULL ? MEMALLOY_WATCH_IS_POLLING : MEMALLOY_WATCH_IS_FOLLOWING;
    status->failed = 0;
    status->added += counts->added;
    status->replaced += counts->replaced;
    status->removed += counts->removed;
    status->moved += counts->moved;
    status->chunks_embedded += counts->chunks_embedded;
    mly_mutex_unlock(&watch->mutex);
    watch->backoff_ms = 0;
    char text[400];
    memcpy(text, watch->events_problem, sizeof(text));
    if (info.unwatched > 0) {
        (void)snprintf(text, sizeof(text),
                       "%zu folders are not watched: %.200s; everything is looked at at intervals",
                       info.unwatched, info.reason);
    }
    mly_watching_tell_problem(watch, text);
}

/* Everything that was to be done is to be done again, later. */
static void note_failed(struct memalloy_watch *watch, const struct mly_watch_batch *batch,
                        const char *reason)
{
    uint32_t wait_ms = watch->backoff_ms == 0 ? BACKOFF_MS : watch->backoff_ms * 2;
    watch->backoff_ms = wait_ms < BACKOFF_MS_MAX ? wait_ms : BACKOFF_MS_MAX;
    uint64_t now_ms = mly_watching_now(watch);
    mly_mutex_lock(&watch->mutex);
    watch->failed_ms = now_ms + watch->backoff_ms;
    watch->status.failed++;
    if (watch->is_full || watch->room == NULL) {
        watch->full_wanted = true;
    } else {
        mly_watch_give_back(watch->room, batch, now_ms, watch->backoff_ms);
    }
    mly_mutex_unlock(&watch->mutex);
    mly_watching_tell_problem(watch, reason);
}

static bool is_closing(struct memalloy_watch *watch)
{
    mly_mutex_lock(&watch->mutex);
    bool closing = watch->closing;
    mly_mutex_unlock(&watch->mutex);
    return closing;
}

static void look(struct memalloy_watch *watch)
{
    struct mly_watch_batch batch = {0};
    struct memalloy_sync_counts counts = {.struct_bytes = sizeof(counts)};
    struct mly_error err = {0};
    uint64_t begun_ms = mly_watching_now(watch);
    bool full = false;
    enum mly_err rc = take_batch(watch, &batch, &full, &err);
    bool anything = full || batch.count > 0;
    bool tells = watch->is_first || batch.is_all || watch->backoff_ms > 0;
    watch->is_full = full;
    if (rc == MLY_OK && anything) rc = sync_batch(watch, &batch, &counts, &err);
    if (rc == MLY_OK && anything) {
        note_done(watch, &counts, begun_ms);
        if (full) watch->is_first = false;
    } else if (rc != MLY_OK && !(rc == MLY_ERR_CANCELLED && is_closing(watch))) {
        if (rc == MLY_ERR_NOMEM) watch->is_full = true;
        note_failed(watch, &batch, err.message);
    }
    mly_mutex_lock(&watch->mutex);
    watch->busy = 0;
    watch->status.files_done = watch->status.files_total = 0;
    mly_mutex_unlock(&watch->mutex);
    if (rc == MLY_OK && full && tells) {
        const struct memalloy_watch_event event = {
            .struct_bytes = sizeof(event), .kind = MEMALLOY_WATCH_SYNCED, .count = counts.files};
        mly_watching_tell(watch, &event);
    }
    mly_watch_batch_deinit(&batch);
}

static void wait_for_root(struct memalloy_watch *watch)
{
    char text[400];
    mly_mutex_lock(&watch->mutex);
    watch->status.state = MEMALLOY_WATCH_IS_WAITING;
    watch->full_wanted = true;
    watch->failed_ms = mly_watching_now(watch) + watch->options.poll_ms;
    mly_mutex_unlock(&watch->mutex);
    (void)snprintf(text, sizeof(text),
                   "%.300s is not there: its documents stay, and it is waited for",
                   watch->root.data);
    mly_watching_tell_problem(watch, text);
}

void mly_watching_work(void *context)
{
    struct memalloy_watch *watch = context;
    mly_mutex_lock(&watch->mutex);
    bool closing = watch->closing;
    watch->is_working = true;
    mly_mutex_unlock(&watch->mutex);
    if (closing) return;
    if (find_root(watch)) {
        find_store(watch);
        find_events(watch);
        look(watch);
    } else {
        wait_for_root(watch);
    }
    mly_mutex_lock(&watch->mutex);
    watch->is_working = false;
    mly_watching_arm(watch);
    mly_cond_wake_all(&watch->changed);
    mly_mutex_unlock(&watch->mutex);
}
