/* The life of a watch: opened on a kernel, ended by itself or by the kernel's close, whichever is
 * first. The loop's thread only takes note of events; all else is watching_work.c. */
#include "engine/watching.h"

#include <string.h>

#define QUIET_MS 100u
#define PATIENCE_MS 2000u
#define POLL_MS 2000u
#define RECONCILE_S 600u
#define EVENTS_MAX 10000u
#define WAIT_MS_MAX ((uint64_t)24 * 3600 * 1000)

uint64_t mly_watching_now(const struct memalloy_watch *watch)
{
    const struct mly_env *env = watch->birth_env;
    return (uint64_t)(env->monotonic_ns(env->context) / 1000000);
}

void mly_watching_arm(struct memalloy_watch *watch)
{
    if (watch->closing || watch->is_working || watch->timer == NULL) return;
    uint64_t now_ms = mly_watching_now(watch);
    uint64_t wait_ms = watch->next_full_ms > now_ms ? watch->next_full_ms - now_ms : 0;
    if (watch->full_wanted) wait_ms = 0;
    if (watch->room != NULL && !watch->is_settling) {
        struct mly_watch_info info;
        mly_watch_get_info(watch->room, &info);
        uint64_t due_ms = info.root_gone ? 0 : mly_watch_due(watch->room, now_ms);
        if (due_ms < wait_ms) wait_ms = due_ms;
    }
    if (watch->failed_ms > now_ms && watch->failed_ms - now_ms > wait_ms) {
        wait_ms = watch->failed_ms - now_ms;
    }
    mly_timer_set(watch->timer, wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX);
}

/* ---- the kernel's list ---- */

static void drop_watches(struct mly_watches *watches)
{
    mly_mutex_lock(&watches->mutex);
    bool last = --watches->holds == 0;
    mly_mutex_unlock(&watches->mutex);
    if (!last) return;
    mly_cond_deinit(&watches->changed);
    mly_mutex_deinit(&watches->mutex);
    mly_mem_free(watches->mem, watches);
}

/* The kernel's, made when it is first asked for, held once more. */
static enum mly_err hold_watches(memalloy_kernel *kernel, struct mly_watches **out,
                                 struct mly_error *err)
{
    struct mly_mem *mem = kernel->birth_env->mem;
    mly_mutex_lock(&kernel->mutex);
    struct mly_watches *watches = kernel->watches;
    if (watches == NULL) {
        watches = mly_mem_array(mem, 1, sizeof(*watches));
        if (watches != NULL) {
            watches->mem = mem;
            watches->holds = 1;
            mly_mutex_init(&watches->mutex);
            mly_cond_init(&watches->changed);
            kernel->watches = watches;
        }
    }
    if (watches != NULL) {
        mly_mutex_lock(&watches->mutex);
        watches->holds++;
        mly_mutex_unlock(&watches->mutex);
    }
    mly_mutex_unlock(&kernel->mutex);
    if (watches == NULL) return mly_fail_nomem(err, sizeof(*watches));
    *out = watches;
    return MLY_OK;
}

static void end(struct memalloy_watch *watch)
{
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event),
                                         .kind = MEMALLOY_WATCH_ENDED};
    mly_mutex_lock(&watch->mutex);
    watch->closing = true;
    mly_mutex_unlock(&watch->mutex);
    mly_timer_destroy(watch->timer);
    mly_watching_close_room(watch);
    mly_runtime_drop(watch->runtime);
    mly_mutex_lock(&watch->mutex);
    watch->timer = NULL;
    watch->runtime = NULL;
    watch->kernel = NULL;
    watch->env = NULL;
    watch->status.state = MEMALLOY_WATCH_IS_ENDED;
    mly_mutex_unlock(&watch->mutex);
    mly_watching_tell(watch, &event);
}

/* Ends it, or waits until whoever is at it has. */
static void end_once(struct memalloy_watch *watch)
{
    struct mly_watches *watches = watch->watches;
    mly_mutex_lock(&watches->mutex);
    bool ours = !watch->is_ending;
    watch->is_ending = true;
    while (!ours && !watch->is_ended)
        mly_cond_wait(&watches->changed, &watches->mutex);
    mly_mutex_unlock(&watches->mutex);
    if (!ours) return;
    end(watch);
    mly_mutex_lock(&watches->mutex);
    struct memalloy_watch **at = &watches->first;
    while (*at != NULL && *at != watch)
        at = &(*at)->next;
    if (*at == watch) *at = watch->next;
    watch->is_ended = true;
    mly_cond_wake_all(&watches->changed);
    mly_mutex_unlock(&watches->mutex);
}

void mly_watches_close(struct mly_watches *watches)
{
    if (watches == NULL) return;
    mly_mutex_lock(&watches->mutex);
    watches->closing = true;
    while (watches->first != NULL) {
        struct memalloy_watch *watch = watches->first;
        if (watch->is_ending) {
            mly_cond_wait(&watches->changed, &watches->mutex);
            continue;
        }
        mly_mutex_unlock(&watches->mutex);
        end_once(watch);
        mly_mutex_lock(&watches->mutex);
    }
    mly_mutex_unlock(&watches->mutex);
    drop_watches(watches);
}

/* ---- opening ---- */

static enum mly_err copy_patterns(struct memalloy_watch *watch, const char *const **patterns,
                                  size_t count, struct mly_error *err)
{
    const char **copies = mly_arena_array(&watch->arena, count + 1, sizeof(copies[0]));
    if (copies == NULL) return mly_fail_nomem(err, (count + 1) * sizeof(copies[0]));
    for (size_t i = 0; i < count; i++) {
        if (*patterns == NULL || (*patterns)[i] == NULL) {
            return mly_fail(err, MLY_ERR_INVAL, "pattern %zu is NULL", i);
        }
        MLY_TRY(mly_glob_check(mly_str_of((*patterns)[i]), err));
        copies[i] = mly_arena_copy(&watch->arena, mly_str_of((*patterns)[i])).data;
        if (copies[i] == NULL) return mly_fail_nomem(err, strlen((*patterns)[i]) + 1);
    }
    *patterns = copies;
    return MLY_OK;
}

static enum mly_err take_options(struct memalloy_watch *watch, struct mly_error *err)
{
    struct memalloy_watch_options *options = &watch->options;
    const uint32_t known = MEMALLOY_WATCH_POLL | MEMALLOY_WATCH_FLAT;
    enum mly_durability durability;
    if ((options->flags & ~known) != 0) {
        return mly_fail(err, MLY_ERR_INVAL, "flags 0x%x of memalloy_watch_options are not known",
                        options->flags & ~known);
    }
    MLY_TRY(mly_options_durability(options->durability, &durability, err));
    MLY_TRY(copy_patterns(watch, &options->include, options->include_count, err));
    MLY_TRY(copy_patterns(watch, &options->exclude, options->exclude_count, err));
    if (options->quiet_ms == 0) options->quiet_ms = QUIET_MS;
    if (options->patience_ms == 0) options->patience_ms = PATIENCE_MS;
    if (options->poll_ms == 0) options->poll_ms = POLL_MS;
    if (options->reconcile_s == 0) options->reconcile_s = RECONCILE_S;
    if (options->events_max == 0) options->events_max = EVENTS_MAX;
    bool is_flat = (options->flags & MEMALLOY_WATCH_FLAT) != 0;
    watch->sync = (struct memalloy_sync_options){
        .struct_bytes = sizeof(watch->sync),
        .include = options->include,
        .include_count = options->include_count,
        .exclude = options->exclude,
        .exclude_count = options->exclude_count,
        .file_bytes_max = options->file_bytes_max,
        .durability = options->durability,
        .flags = is_flat ? MEMALLOY_SYNC_FLAT : 0,
    };
    watch->walk = (struct mly_walk_options){
        .include = options->include,
        .include_count = options->include_count,
        .exclude = options->exclude,
        .exclude_count = options->exclude_count,
        .is_flat = is_flat,
    };
    return MLY_OK;
}

static enum mly_err find_root(struct memalloy_watch *watch, const char *folder,
                              struct mly_error *err)
{
    const struct mly_env *env = watch->env;
    struct mly_file_info info;
    struct mly_bytes root;
    mly_bytes_init(&root, env->mem, MLY_PATH_BYTES_MAX);
    enum mly_err rc = mly_dir_real_path(env, folder, &root, err);
    if (rc == MLY_OK) {
        watch->root = mly_arena_copy(&watch->arena, mly_bytes_view(&root));
        if (watch->root.data == NULL) rc = mly_fail_nomem(err, root.bytes + 1);
    }
    mly_bytes_deinit(&root);
    if (rc != MLY_OK) return rc;
    MLY_TRY(mly_file_info_at(env, MLY_AT_CWD, watch->root.data, false, &info, err));
    if (info.kind == MLY_KIND_DIR) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "%s is not a folder", folder);
}

/* What may fail is done; from here on it works. */
static enum mly_err begin(struct memalloy_watch *watch, struct mly_error *err)
{
    struct mly_watches *watches = watch->watches;
    MLY_TRY(mly_bell_open(watch->birth_env, &watch->bell, err));
    MLY_TRY(mly_runtime_hold(watch->birth_env, &watch->runtime, err));
    MLY_TRY(mly_timer_create(watch->runtime, MLY_LANE_WATCH, mly_watching_work, watch,
                             &watch->timer, err));
    mly_mutex_lock(&watches->mutex);
    bool closing = watches->closing;
    if (!closing) {
        watch->next = watches->first;
        watches->first = watch;
    }
    mly_mutex_unlock(&watches->mutex);
    if (closing) return mly_fail(err, MLY_ERR_CLOSED, "the store is closed");
    mly_timer_set(watch->timer, 0);
    return MLY_OK;
}

static void destroy(struct memalloy_watch *watch)
{
    mly_watching_free_line(watch);
    mly_bell_close(&watch->bell);
    mly_arena_deinit(&watch->arena);
    mly_cond_deinit(&watch->changed);
    mly_mutex_deinit(&watch->mutex);
    if (watch->watches != NULL) drop_watches(watch->watches);
    mly_mem_free(watch->mem, watch);
}

static enum mly_err open_entered(memalloy_kernel *kernel, const char *folder,
                                 const struct memalloy_watch_options *options, memalloy_watch **out,
                                 struct mly_error *err)
{
    struct mly_mem *mem = kernel->birth_env->mem;
    memalloy_watch *watch = mly_mem_array(mem, 1, sizeof(*watch));
    if (watch == NULL) return mly_fail_nomem(err, sizeof(*watch));
    watch->mem = mem;
    watch->env = kernel->env;
    watch->birth_env = kernel->birth_env;
    watch->pid = kernel->pid;
    watch->kernel = kernel;
    watch->options = *options;
    watch->is_first = true;
    watch->full_wanted = true;
    watch->bell = MLY_BELL_CLOSED;
    mly_arena_init(&watch->arena, mem, SIZE_MAX);
    mly_mutex_init(&watch->mutex);
    mly_cond_init(&watch->changed);
    enum mly_err rc = take_options(watch, err);
    if (rc == MLY_OK) rc = find_root(watch, folder, err);
    if (rc == MLY_OK) rc = hold_watches(kernel, &watch->watches, err);
    if (rc == MLY_OK) rc = begin(watch, err);
    if (rc != MLY_OK) {
        mly_timer_destroy(watch->timer);
        mly_runtime_drop(watch->runtime);
        destroy(watch);
        return rc;
    }
    *out = watch;
    return MLY_OK;
}

enum mly_err mly_engine_watch_open(memalloy_kernel *kernel, const char *folder,
                                   const struct memalloy_watch_options *options,
                                   memalloy_watch **out, struct mly_error *err)
{
    struct memalloy_watch_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_watch_options", err));
    MLY_TRY(mly_kernel_enter_writing(kernel, err));
    enum mly_err rc = open_entered(kernel, folder, &local, out, err);
    mly_kernel_leave(kernel);
    return rc;
}

void memalloy_watch_close(memalloy_watch *watch)
{
    if (watch == NULL) return;
    if (watch->pid != watch->birth_env->pid(watch->birth_env->context)) {
        mly_bell_close(&watch->bell);
        return; /* its memory is among what the parent's threads had in hand */
    }
    end_once(watch);
    destroy(watch);
}
