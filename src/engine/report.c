/* Reports and progress; see report.h. */
#include "engine/report.h"

#include <string.h>

#define TELL_EVERY_S 0.03

enum mly_err mly_report_create(const struct mly_env *env, memalloy_report **out,
                               struct mly_error *err)
{
    memalloy_report *report = mly_mem_array(env->mem, 1, sizeof(*report));
    if (report == NULL) return mly_fail_nomem(err, sizeof(*report));
    report->mem = env->mem;
    report->counts.struct_bytes = sizeof(report->counts);
    mly_arena_init(&report->arena, env->mem, SIZE_MAX);
    *out = report;
    return MLY_OK;
}

enum mly_err mly_report_skip(memalloy_report *report, struct mly_str path, struct mly_str reason,
                             struct mly_error *err)
{
    if (report->skip_count == report->skip_capacity) {
        size_t capacity = report->skip_capacity == 0 ? 16 : report->skip_capacity * 2;
        size_t bytes = capacity * sizeof(report->skips[0]);
        struct report_skip *skips = mly_mem_realloc(report->mem, report->skips, bytes);
        if (skips == NULL) return mly_fail_nomem(err, bytes);
        report->skips = skips;
        report->skip_capacity = capacity;
    }
    struct report_skip skip = {mly_arena_copy(&report->arena, path),
                               mly_arena_copy(&report->arena, reason)};
    if (skip.path.data == NULL || skip.reason.data == NULL) {
        return mly_fail_nomem(err, path.bytes + reason.bytes + 2);
    }
    report->skips[report->skip_count++] = skip;
    report->counts.skipped = report->skip_count;
    return MLY_OK;
}

void memalloy_report_get(const memalloy_report *report, struct memalloy_sync_counts *out)
{
    mly_options_give(out, &report->counts, sizeof(report->counts));
}

void memalloy_report_get_skipped(const memalloy_report *report, size_t index,
                                 struct memalloy_str *out_path, struct memalloy_str *out_reason)
{
    *out_path = mly_str_out(report->skips[index].path);
    *out_reason = mly_str_out(report->skips[index].reason);
}

void memalloy_report_destroy(memalloy_report *report)
{
    if (report == NULL) return;
    struct mly_mem *mem = report->mem;
    mly_arena_deinit(&report->arena);
    mly_mem_free(mem, report->skips);
    mly_mem_free(mem, report);
}

void mly_watcher_init(struct mly_watcher *watcher, const struct mly_env *env,
                      memalloy_progress_fn fn, void *context)
{
    *watcher = (struct mly_watcher){.env = env, .fn = fn, .context = context};
    watcher->start_s = mly_clock_seconds(env);
    watcher->last_s = watcher->start_s;
    watcher->every_s = TELL_EVERY_S;
    watcher->progress.struct_bytes = sizeof(watcher->progress);
    watcher->progress.remaining_s = -1.0;
}

enum mly_err mly_watcher_tell(struct mly_watcher *watcher, bool now, struct mly_error *err)
{
    if (watcher->fn == NULL) return MLY_OK;
    double now_s = mly_clock_seconds(watcher->env);
    if (!now && now_s - watcher->last_s < watcher->every_s) return MLY_OK;
    watcher->last_s = now_s;
    struct memalloy_progress *progress = &watcher->progress;
    progress->elapsed_s = now_s - watcher->start_s;
    progress->bytes_per_s = 0.0;
    progress->remaining_s = -1.0;
    if (progress->elapsed_s > 0.0 && progress->bytes_done > 0) {
        progress->bytes_per_s = (double)progress->bytes_done / progress->elapsed_s;
        if (progress->bytes_total >= progress->bytes_done) {
            progress->remaining_s =
                (double)(progress->bytes_total - progress->bytes_done) / progress->bytes_per_s;
        }
    }
    if (progress->stage == MEMALLOY_STAGE_DONE) progress->remaining_s = 0.0;
    if (watcher->fn(watcher->context, progress) == 0) return MLY_OK;
    if (progress->items_total == 0 && progress->files_total == 0) {
        return mly_fail(err, MLY_ERR_CANCELLED, "cancelled");
    }
    if (progress->items_total > 0) {
        return mly_fail(err, MLY_ERR_CANCELLED, "cancelled after %llu of %llu%s",
                        (unsigned long long)progress->items_done,
                        (unsigned long long)progress->items_total,
                        progress->stage == MEMALLOY_STAGE_EMBED ? " texts" : "");
    }
    return mly_fail(err, MLY_ERR_CANCELLED, "cancelled after %llu of %llu files",
                    (unsigned long long)progress->files_done,
                    (unsigned long long)progress->files_total);
}

enum mly_err mly_watcher_pulse(void *context, struct mly_error *err)
{
    return mly_watcher_tell(context, false, err);
}
