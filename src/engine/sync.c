/* A folder comes in as a sorted list of files with their stamps. Files whose stamp and row agree
 * are not even opened; the others are read, and where their text did change, embedded. Documents of
 * files that are gone are removed. Commits are made in batches, so that an interruption keeps what
 * was done. */
#include "engine/sync_int.h"

#include "base/limits.h"
#include "source/source.h"

#include <string.h>

/* A file written within this time before its row was: a later write may have left the same stamp
 * (coarse clocks), so its content is looked at again. */
#define RACY_US ((int64_t)2000000)

static void set_todo(struct sync *sync, size_t i)
{
    sync->todo[i / 64] |= (uint64_t)1 << (i % 64);
}

static bool is_todo(const struct sync *sync, size_t i)
{
    return (sync->todo[i / 64] >> (i % 64) & 1) != 0;
}

enum mly_err mly_sync_full_path(const struct sync *sync, struct mly_str path,
                                struct mly_arena *arena, struct mly_str *out, struct mly_error *err)
{
    bool slash = sync->root.data[sync->root.bytes - 1] == '/';
    size_t bytes = sync->root.bytes + (slash ? 0 : 1) + path.bytes;
    char *full = mly_arena_take(arena, bytes + 1);
    if (full == NULL) return mly_fail_nomem(err, bytes + 1);
    memcpy(full, sync->root.data, sync->root.bytes);
    size_t at = sync->root.bytes;
    if (!slash) full[at++] = '/';
    memcpy(full + at, path.data, path.bytes);
    full[bytes] = '\0';
    *out = (struct mly_str){full, bytes};
    return MLY_OK;
}

static bool is_same_stamp(const struct mly_document *document, const struct mly_file_stamp *stamp)
{
    const struct mly_file_stamp *old = &document->stamp;
    return document->has_stamp && old->device == stamp->device && old->inode == stamp->inode &&
           old->modified_ns == stamp->modified_ns && old->changed_ns == stamp->changed_ns;
}

static bool is_unchanged(const struct mly_document *document, const struct mly_file_stamp *stamp)
{
    return is_same_stamp(document, stamp) &&
           stamp->changed_ns / 1000 + RACY_US < document->updated_at_us;
}

static bool was_skipped(const struct mly_document *document)
{
    return mly_str_equal(document->status, MLY_STR("skipped"));
}

/* *lost: chunks of the document are gone; another program removed them, so a stamp or hash that
 * agrees does not mean that its text can be found. */
static enum mly_err find_loss(struct sync *sync, const struct mly_document *document, bool *lost,
                              struct mly_error *err)
{
    size_t count = 0;
    *lost = false;
    if (was_skipped(document) || document->chunk_count <= 0) return MLY_OK;
    MLY_TRY(mly_snapshot_count_chunks(sync->snapshot, document->id, &count, err));
    *lost = count < (uint64_t)document->chunk_count;
    return MLY_OK;
}

/* Looks at every listed file's row; what needs no opening is settled here. */
static enum mly_err plan(struct sync *sync, struct mly_error *err)
{
    struct mly_arena arena;
    mly_arena_init(&arena, sync->env->mem, SIZE_MAX);
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < sync->listing.count && rc == MLY_OK; i++) {
        const struct mly_found *file = &sync->listing.items[i];
        struct mly_str path;
        struct mly_document document;
        bool found = false;
        mly_arena_reset(&arena);
        rc = mly_sync_full_path(sync, file->path, &arena, &path, err);
        if (rc == MLY_OK) {
            rc = mly_snapshot_find_path(sync->snapshot, path, &arena, &document, &found, err);
        }
        bool lost = false;
        if (rc == MLY_OK && found) rc = find_loss(sync, &document, &lost, err);
        if (rc != MLY_OK) break;
        if (found && document.has_stamp) mly_sync_note_device(sync, document.stamp.device);
        if (found && !lost && is_unchanged(&document, &file->stamp)) {
            if (was_skipped(&document)) {
                rc = mly_report_skip(sync->report, document.path, document.reason, err);
            } else {
                sync->report->counts.unchanged++;
            }
            continue;
        }
        set_todo(sync, i);
        sync->report->other_names = sync->report->other_names || file->has_other_names;
        if (found && !was_skipped(&document)) rc = mly_sync_keep_changed(sync, &document, err);
        sync->watcher.progress.files_total++;
        sync->watcher.progress.bytes_total += (uint64_t)file->stamp.byte_count;
    }
    mly_arena_deinit(&arena);
    return rc;
}

/* Called between batches of the embedder: progress stands between what was read before and what is
 * being embedded. */
static enum mly_err tell_embedded(void *context, struct mly_error *err)
{
    struct sync *sync = context;
    size_t targets = sync->ingest.targets.bytes / sizeof(struct mly_chunk_row *);
    uint64_t before = sync->report->counts.chunks_embedded;
    uint64_t done = sync->ingest.chunks_embedded - before;
    struct memalloy_progress *progress = &sync->watcher.progress;
    progress->chunks_done = sync->ingest.chunks_embedded;
    if (targets > 0) {
        progress->bytes_done = sync->embedded + (uint64_t)((double)sync->ingest.text_bytes *
                                                           (double)done / (double)targets);
    }
    return mly_watcher_tell(&sync->watcher, false, err);
}

/* What a commit did with one item, in the report. */
static int count_item(const struct mly_ingest_item *item, struct memalloy_sync_counts *counts)
{
    if (item->kind == MLY_CHANGE_REMOVE) {
        counts->removed += item->replaces;
        return item->replaces ? MEMALLOY_FILE_REMOVED : 0;
    }
    if (was_skipped(&item->document)) {
        counts->removed += item->replaces; /* it was a text, and is none any more */
        return MEMALLOY_FILE_SKIPPED;
    }
    if (item->kind == MLY_CHANGE_PUT) {
        counts->chunks += item->row_count;
        counts->added += !item->replaces;
        counts->replaced += item->replaces;
        return item->replaces ? MEMALLOY_FILE_REPLACED : MEMALLOY_FILE_ADDED;
    }
    counts->moved += item->moved_from.data != NULL;
    counts->unchanged += item->moved_from.data == NULL;
    return item->moved_from.data != NULL ? MEMALLOY_FILE_MOVED : 0;
}

/* Called for each item of a commit, once it is one. */
static void tell_done(void *context, const struct mly_ingest_item *item)
{
    struct sync *sync = context;
    struct memalloy_file_event event = {.struct_bytes = sizeof(event)};
    event.kind = count_item(item, &sync->report->counts);
    if (event.kind == 0 || sync->file_fn == NULL) return;
    event.path = mly_str_out(item->document.path);
    event.old_path = mly_str_out(item->moved_from_shown);
    event.reason = mly_str_out(item->document.reason);
    event.document_id = mly_str_out(item->document.id);
    sync->file_fn(sync->file_context, &event);
}

static enum mly_err commit(struct sync *sync, struct mly_error *err)
{
    /* Added after the commit: while it embeds, tell_embedded counts these bytes as they are done.
     */
    uint64_t text_bytes = sync->ingest.text_bytes;
    MLY_TRY(mly_ingest_commit(&sync->ingest, err));
    sync->embedded += text_bytes;
    sync->watcher.progress.path = NULL; /* it was in the ingest's arena */
    struct memalloy_sync_counts *counts = &sync->report->counts;
    counts->chunks_embedded = sync->ingest.chunks_embedded;
    counts->tokens = sync->ingest.tokens_embedded;
    sync->watcher.progress.bytes_done = sync->embedded;
    sync->watcher.progress.files_done = sync->files_read;
    return mly_watcher_tell(&sync->watcher, false, err);
}

/* A row for a file that is not indexed, with the reason. Chunks that it had before go. */
static enum mly_err add_skipped(struct sync *sync, struct mly_ingest_item *item,
                                const struct mly_file_stamp *stamp, const struct mly_document *old,
                                const char *reason, struct mly_error *err)
{
    struct mly_document *document = &item->document;
    struct mly_str copy = mly_arena_copy(&sync->ingest.arena, mly_str_of(reason));
    if (copy.data == NULL) return mly_fail_nomem(err, strlen(reason) + 1);
    int64_t now_us = mly_clock_wall_us(sync->env);
    item->kind = old != NULL && !was_skipped(old) ? MLY_CHANGE_PUT : MLY_CHANGE_TOUCH;
    document->stamp = *stamp;
    document->has_stamp = true;
    document->byte_count = stamp->byte_count;
    document->chunk_count = 0;
    item->keeps_metadata = true;
    document->metadata = old != NULL && old->metadata.data != NULL ? old->metadata : MLY_STR("{}");
    document->status = MLY_STR("skipped");
    document->reason = copy;
    document->created_at_us = old != NULL && old->created_at_us > 0 ? old->created_at_us : now_us;
    document->updated_at_us = now_us;
    MLY_TRY(mly_report_skip(sync->report, document->path, copy, err));
    return mly_ingest_add(&sync->ingest, item, err);
}

/* A new file whose content a gone one had is that one's: its document gets the new path. *old is
 * its row then, else data NULL. */
static enum mly_err find_moved(struct sync *sync, struct mly_ingest_item *item,
                               const struct mly_text *text, const struct mly_file_stamp *stamp,
                               struct mly_document *old, bool *found, struct mly_error *err)
{
    *found = false;
    struct sync_gone *gone = mly_sync_take_gone(sync, &text->hash, stamp->inode);
    if (gone == NULL) return MLY_OK;
    MLY_TRY(
        mly_snapshot_find_document(sync->snapshot, gone->id, &sync->ingest.arena, old, found, err));
    if (!*found) return MLY_OK;
    item->document.id = old->id;
    item->moved_from = gone->path;
    item->moved_from_shown = gone->shown;
    item->replaces = true;
    return MLY_OK;
}

/* A file that was read: its row only where the text is the same, else its text too. */
static enum mly_err add_text(struct sync *sync, struct mly_ingest_item *item,
                             const struct mly_file_stamp *stamp, const struct mly_document *old,
                             struct mly_text *text, struct mly_error *err)
{
    struct mly_document moved;
    bool has_moved = false;
    if (old == NULL) MLY_TRY(find_moved(sync, item, text, stamp, &moved, &has_moved, err));
    if (has_moved) old = &moved;
    item->text = *text;
    mly_fill_document(item, sync->env, NULL, old, text);
    item->document.stamp = *stamp;
    item->document.has_stamp = true;
    bool lost = false;
    if (old != NULL) MLY_TRY(find_loss(sync, old, &lost, err));
    bool same = old != NULL && !was_skipped(old) && !lost && old->has_content_hash &&
                memcmp(old->content_hash.bytes, text->hash.bytes, MLY_HASH_BYTES) == 0;
    if (same) {
        item->kind = MLY_CHANGE_TOUCH;
        item->document.title = old->title;
        item->document.chunk_count = old->chunk_count;
    } else {
        item->donor_id = mly_sync_find_donor(sync, &text->hash);
    }
    MLY_TRY(mly_ingest_add(&sync->ingest, item, err));
    *text = (struct mly_text){0};
    return MLY_OK;
}

/* The stamp of a file that could not become a text; false where the file cannot be looked at. */
static bool get_stamp(struct sync *sync, const char *path, struct mly_file_stamp *out)
{
    struct mly_file_info info;
    enum mly_err rc = mly_file_info_at(sync->env, MLY_AT_CWD, path, false, &info, NULL);
    if (rc == MLY_OK) *out = mly_source_stamp(&info);
    return rc == MLY_OK;
}

/* A file that is tried again next time. */
static void tell_passed(struct sync *sync, struct mly_str path, const char *reason)
{
    const struct memalloy_file_event event = {.struct_bytes = sizeof(event),
                                              .kind = MEMALLOY_FILE_SKIPPED,
                                              .path = mly_str_out(path),
                                              .reason = {reason, strlen(reason)}};
    if (sync->file_fn != NULL) sync->file_fn(sync->file_context, &event);
}

static enum mly_err open_file(struct sync *sync, const struct mly_found *file, struct mly_str path,
                              struct mly_ingest_item *item, const struct mly_document *old,
                              struct mly_error *err)
{
    struct mly_text text = {0};
    struct mly_file_stamp stamp = {0};
    struct mly_error fault = {0};
    double start = mly_clock_seconds(sync->env);
    enum mly_err rc = mly_source_from_file(sync->env, sync->root_dir.fd, file->path.data,
                                           sync->file_bytes_max, &text, &stamp, &fault);
    sync->read_s += mly_clock_seconds(sync->env) - start;
    if (rc == MLY_OK) {
        sync->report->counts.bytes += text.text.bytes + text.bytes_before;
        rc = add_text(sync, item, &stamp, old, &text, err);
        mly_text_deinit(&text);
        return rc;
    }
    if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", fault.message);
    if (rc == MLY_ERR_NOTFOUND) { /* gone since the walk: the next sync removes it */
        sync->report->counts.files--;
        return MLY_OK;
    }
    bool is_content = rc == MLY_ERR_PARSE || rc == MLY_ERR_LIMIT;
    if (!is_content || !get_stamp(sync, path.data, &stamp)) {
        /* It could not be read, or kept changing: what the store has of it stays, and it is tried
         * again next time. */
        tell_passed(sync, item->document.path, fault.message);
        return mly_report_skip(sync->report, item->document.path, mly_str_of(fault.message), err);
    }
    if (rc == MLY_ERR_LIMIT && old != NULL && !was_skipped(old) && is_same_stamp(old, &stamp)) {
        sync->report->counts
            .unchanged++; /* indexed under a larger limit, and the same file still */
        return MLY_OK;
    }
    return add_skipped(sync, item, &stamp, old, fault.message, err);
}

static enum mly_err index_file(struct sync *sync, const struct mly_found *file,
                               struct mly_error *err)
{
    struct mly_arena *arena = &sync->ingest.arena;
    struct mly_ingest_item item = {.kind = MLY_CHANGE_PUT, .is_of_path = true};
    struct mly_document old;
    struct mly_str path;
    MLY_TRY(mly_sync_full_path(sync, file->path, arena, &path, err));
    MLY_TRY(mly_snapshot_find_path(sync->snapshot, path, arena, &old, &item.replaces, err));
    MLY_TRY(mly_show_path(path, arena, &item.document, err));
    if (item.replaces) {
        item.document.id = old.id;
    } else {
        MLY_TRY(mly_choose_document_id(sync->env, MLY_STR_NULL, arena, &item.document.id, err));
    }
    struct memalloy_progress *progress = &sync->watcher.progress;
    progress->path = item.document.path.data;
    size_t text_bytes = sync->ingest.text_bytes;
    enum mly_err rc = open_file(sync, file, path, &item, item.replaces ? &old : NULL, err);
    sync->files_read++;
    if (sync->ingest.count == 0) progress->files_done = sync->files_read;
    /* What is passed over is no work: left in the total it would make the remaining time a lie. */
    if (sync->ingest.text_bytes == text_bytes) {
        progress->bytes_total -= (uint64_t)file->stamp.byte_count;
    }
    return rc;
}

static enum mly_err index_files(struct sync *sync, struct mly_error *err)
{
    sync->watcher.progress.stage = MEMALLOY_STAGE_INDEX;
    for (size_t i = 0; i < sync->listing.count; i++) {
        if (!is_todo(sync, i)) continue;
        MLY_TRY(index_file(sync, &sync->listing.items[i], err));
        if (mly_ingest_is_full(&sync->ingest)) MLY_TRY(commit(sync, err));
        MLY_TRY(mly_watcher_tell(&sync->watcher, false, err));
    }
    return commit(sync, err);
}

/* ---- files that are gone ---- */

static enum mly_err remove_one(struct sync *sync, const struct sync_gone *gone,
                               struct mly_error *err)
{
    struct mly_str root = sync->root;
    size_t before = root.bytes + (root.data[root.bytes - 1] == '/' ? 0 : 1);
    struct mly_ingest_item item = {.kind = MLY_CHANGE_REMOVE, .replaces = gone->is_text};
    bool is_away;
    item.document.id = gone->id;
    item.document.path = gone->shown;
    /* It may have come back meanwhile. */
    if (!mly_sync_is_gone(sync, mly_str_slice(gone->path, before, gone->path.bytes), -1,
                          &is_away)) {
        return MLY_OK;
    }
    MLY_TRY(mly_ingest_add(&sync->ingest, &item, err));
    return mly_ingest_is_full(&sync->ingest) ? commit(sync, err) : MLY_OK;
}

static enum mly_err remove_gone(struct sync *sync, struct mly_error *err)
{
    for (size_t i = 0; i < sync->gone.count; i++) {
        const struct sync_gone *gone = &sync->gone.items[i];
        if (!gone->is_taken && !gone->is_there) MLY_TRY(remove_one(sync, gone, err));
    }
    return commit(sync, err);
}

/* ---- the whole ---- */

/* Makes a list of files of the folder at sync->root. */
static enum mly_err walk(struct sync *sync, const struct memalloy_sync_options *options,
                         struct mly_error *err)
{
    struct mly_walk_options walk = {
        .include = options->include,
        .include_count = options->include_count,
        .exclude = options->exclude,
        .exclude_count = options->exclude_count,
        .is_flat = (options->flags & MEMALLOY_SYNC_FLAT) != 0,
        .only = sync->scope == NULL ? NULL : sync->only,
        .only_count = sync->scope_count,
    };
    struct mly_file_info info;
    bool exists = false;
    MLY_TRY(mly_file_exists(sync->env, MLY_AT_CWD, sync->kernel->path.data, &exists, err));
    if (exists) {
        MLY_TRY(mly_file_info_at(sync->env, MLY_AT_CWD, sync->kernel->path.data, true, &info, err));
        if (info.device == sync->root_device && info.inode == sync->root_inode) {
            return mly_fail(err, MLY_ERR_INVAL, "%s is the store itself, not a folder of texts",
                            sync->root.data);
        }
        walk.skip_device = info.device;
        walk.skip_inode = info.inode;
        walk.has_skip = true;
    }
    double start = mly_clock_seconds(sync->env);
    MLY_TRY(mly_watcher_tell(&sync->watcher, true, err));
    MLY_TRY(mly_source_walk(sync->env, sync->root.data, &walk, &sync->listing, err));
    sync->report->counts.walk_s = mly_clock_seconds(sync->env) - start;
    for (size_t i = 0; i < sync->listing.unread_count; i++) {
        struct mly_document shown = {0};
        struct mly_str path;
        MLY_TRY(
            mly_sync_full_path(sync, sync->listing.unread[i], &sync->listing.arena, &path, err));
        MLY_TRY(mly_show_path(path, &sync->listing.arena, &shown, err));
        MLY_TRY(mly_report_skip(sync->report, shown.path, sync->listing.unread_reasons[i], err));
    }
    sync->report->counts.files = sync->listing.count;
    sync->report->counts.unread = sync->listing.unread_count;
    size_t words = sync->listing.count / 64 + 1;
    sync->todo = mly_mem_array(sync->env->mem, words, sizeof(sync->todo[0]));
    return sync->todo != NULL ? MLY_OK : mly_fail_nomem(err, words * sizeof(sync->todo[0]));
}

static void finish_counts(struct sync *sync)
{
    struct memalloy_sync_counts *counts = &sync->report->counts;
    counts->read_s = sync->read_s;
    counts->chunk_s = sync->ingest.times.chunk_s;
    counts->token_s = sync->ingest.times.token_s;
    counts->embed_s = sync->ingest.times.embed_s;
    counts->store_s = sync->ingest.times.store_s;
    counts->total_s = mly_clock_seconds(sync->env) - sync->watcher.start_s;
}

static enum mly_err run(struct sync *sync, const struct memalloy_sync_options *options,
                        struct mly_error *err)
{
    MLY_TRY(walk(sync, options, err));
    MLY_TRY(plan(sync, err));
    MLY_TRY(mly_sync_find_gone(sync, err));
    MLY_TRY(index_files(sync, err));
    MLY_TRY(remove_gone(sync, err));
    finish_counts(sync);
    sync->watcher.progress.stage = MEMALLOY_STAGE_DONE;
    sync->watcher.progress.bytes_done = sync->watcher.progress.bytes_total;
    /* All is done: it is too late to cancel. */
    enum mly_err told = mly_watcher_tell(&sync->watcher, true, NULL);
    (void)told;
    return MLY_OK;
}

/* The folder's absolute path into sync->root, in the kernel's own terms. */
static enum mly_err find_root(struct sync *sync, const char *folder, struct mly_bytes *root,
                              struct mly_error *err)
{
    struct mly_file_info info;
    MLY_TRY(mly_dir_real_path(sync->env, folder, root, err));
    MLY_TRY(mly_bytes_append(root, "", 1, err));
    sync->root = (struct mly_str){(const char *)root->data, root->bytes - 1};
    MLY_TRY(mly_file_info_at(sync->env, MLY_AT_CWD, sync->root.data, true, &info, err));
    if (info.kind != MLY_KIND_DIR) {
        return mly_fail(err, MLY_ERR_INVAL, "%s is not a folder", folder);
    }
    sync->root_device = info.device;
    sync->root_inode = info.inode;
    return mly_file_open(sync->env, MLY_AT_CWD, sync->root.data, MLY_OPEN_READ | MLY_OPEN_DIR,
                         &sync->root_dir, err);
}

/* A model that was named and is not the store's is told, though nothing may have to be embedded. */
static enum mly_err check_model(struct sync *sync, struct mly_error *err)
{
    memalloy_model *model = NULL;
    if (sync->kernel->no_model || sync->kernel->model_options.path == NULL) return MLY_OK;
    if (mly_snapshot_model_hash(sync->snapshot).data == NULL) return MLY_OK;
    return mly_kernel_get_model(sync->kernel, &model, err);
}

static enum mly_err sync_as_caller(struct sync *sync, const char *folder,
                                   const struct memalloy_sync_options *options,
                                   const struct mly_sync_path *paths, size_t count,
                                   struct mly_error *err)
{
    struct mly_bytes root;
    mly_bytes_init(&root, sync->env->mem, MLY_PATH_BYTES_MAX);
    mly_arena_init(&sync->scope_arena, sync->env->mem, SIZE_MAX);
    mly_arena_init(&sync->gone.arena, sync->env->mem, SIZE_MAX);
    enum mly_err rc = find_root(sync, folder, &root, err);
    if (rc == MLY_OK) rc = mly_sync_take_scope(sync, paths, count, err);
    if (rc != MLY_OK) goto done;
    rc = mly_store_pin(sync->kernel->store, &sync->snapshot, err);
    if (rc != MLY_OK) goto done;
    rc = check_model(sync, err);
    mly_ingest_init(&sync->ingest, sync->kernel, sync->snapshot);
    sync->ingest.durability = sync->durability;
    sync->ingest.pulse = sync->watcher.fn == NULL ? NULL : tell_embedded;
    sync->ingest.pulse_context = sync;
    sync->ingest.pulse_last_s = &sync->watcher.last_s;
    sync->ingest.done = tell_done;
    if (rc == MLY_OK) rc = run(sync, options, err);
    mly_ingest_deinit(&sync->ingest);
    mly_snapshot_release(sync->snapshot);
    mly_listing_deinit(&sync->listing);
    mly_mem_free(sync->env->mem, sync->todo);
done:
    mly_sync_gone_deinit(sync);
    mly_arena_deinit(&sync->scope_arena);
    mly_file_close(&sync->root_dir);
    mly_bytes_deinit(&root);
    return rc;
}

static enum mly_err check_options(struct memalloy_sync_options *local,
                                  enum mly_durability *durability, struct mly_error *err)
{
    if (local->file_bytes_max > MLY_DOCUMENT_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "file_bytes_max %llu, limit is %zu",
                        (unsigned long long)local->file_bytes_max, (size_t)MLY_DOCUMENT_BYTES_MAX);
    }
    if ((local->flags & ~MEMALLOY_SYNC_FLAT) != 0) {
        return mly_fail(err, MLY_ERR_INVAL, "flags 0x%x of memalloy_sync_options are not known",
                        local->flags & ~MEMALLOY_SYNC_FLAT);
    }
    if (local->path_count > 0 && local->paths == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "path_count is %zu and paths is NULL",
                        local->path_count);
    }
    if (local->file_bytes_max == 0) local->file_bytes_max = MLY_FILE_BYTES_MAX;
    return mly_options_durability(local->durability, durability, err);
}

enum mly_err mly_sync(memalloy_kernel *kernel, const char *folder,
                      const struct memalloy_sync_options *options,
                      const struct mly_sync_path *paths, size_t count, memalloy_report **out,
                      struct mly_error *err)
{
    struct memalloy_sync_options local = {.struct_bytes = sizeof(local)};
    enum mly_durability durability;
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_sync_options", err));
    MLY_TRY(check_options(&local, &durability, err));
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    struct sync sync = {
        .kernel = kernel,
        .env = kernel->env,
        .root_dir = MLY_FILE_CLOSED,
        .file_bytes_max = local.file_bytes_max,
        .durability = durability,
        .file_fn = local.file,
        .file_context = local.file_context,
    };
    mly_watcher_init(&sync.watcher, kernel->env, local.progress, local.progress_context);
    enum mly_err rc = mly_report_create(kernel->env, &sync.report, err);
    if (rc == MLY_OK) rc = sync_as_caller(&sync, folder, &local, paths, count, err);
    mly_kernel_leave(kernel);
    if (rc != MLY_OK) {
        memalloy_report_destroy(sync.report);
        return rc;
    }
    *out = sync.report;
    return MLY_OK;
}

enum mly_err mly_engine_sync(memalloy_kernel *kernel, const char *folder,
                             const struct memalloy_sync_options *options, memalloy_report **out,
                             struct mly_error *err)
{
    struct memalloy_sync_options local = {.struct_bytes = sizeof(local)};
    enum mly_durability durability;
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_sync_options", err));
    MLY_TRY(check_options(&local, &durability, err));
    if (local.paths == NULL) return mly_sync(kernel, folder, options, NULL, 0, out, err);
    struct mly_mem *mem = kernel->birth_env->mem;
    struct mly_sync_path *paths = mly_mem_array(mem, local.path_count + 1, sizeof(paths[0]));
    if (paths == NULL) return mly_fail_nomem(err, (local.path_count + 1) * sizeof(paths[0]));
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < local.path_count; i++) {
        if (local.paths[i] == NULL) rc = mly_fail(err, MLY_ERR_INVAL, "paths[%zu] is NULL", i);
        paths[i] = (struct mly_sync_path){mly_str_of(local.paths[i]), true};
    }
    if (rc == MLY_OK) rc = mly_sync(kernel, folder, options, paths, local.path_count, out, err);
    mly_mem_free(mem, paths);
    return rc;
}
