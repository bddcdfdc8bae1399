/* Events in line for whoever takes them, and what a watch says of itself.
 *
 * In: what happened, from the lane's thread. Out: the same, one by one, to any thread. The line is
 * bounded: nobody has to read it. */
#include "engine/watching.h"

#include <stdio.h>
#include <string.h>

static struct memalloy_str copy_text(char **at, struct memalloy_str text)
{
    struct memalloy_str copy = {NULL, 0};
    if (text.data == NULL) return copy;
    memcpy(*at, text.data, text.bytes);
    (*at)[text.bytes] = '\0';
    copy = (struct memalloy_str){*at, text.bytes};
    *at += text.bytes + 1;
    return copy;
}

static struct watching_event *copy_event(struct mly_mem *mem,
                                         const struct memalloy_watch_event *event)
{
    size_t bytes = event->path.bytes + event->old_path.bytes + event->reason.bytes +
                   event->document_id.bytes + 4;
    struct watching_event *copy = mly_mem_alloc(mem, sizeof(*copy) + bytes);
    if (copy == NULL) return NULL;
    char *at = (char *)(copy + 1);
    copy->next = NULL;
    copy->event = *event;
    copy->event.path = copy_text(&at, event->path);
    copy->event.old_path = copy_text(&at, event->old_path);
    copy->event.reason = copy_text(&at, event->reason);
    copy->event.document_id = copy_text(&at, event->document_id);
    return copy;
}

/* mutex is held. */
static struct watching_event *take_first(struct memalloy_watch *watch)
{
    struct watching_event *first = watch->line;
    if (first == NULL) return NULL;
    watch->line = first->next;
    if (watch->line == NULL) watch->last = NULL;
    watch->line_count--;
    return first;
}

void mly_watching_tell(struct memalloy_watch *watch, const struct memalloy_watch_event *event)
{
    struct watching_event *copy = copy_event(watch->mem, event);
    mly_mutex_lock(&watch->mutex);
    if (watch->line_count >= watch->options.events_max) {
        mly_mem_free(watch->mem, take_first(watch));
        watch->missed++;
    }
    if (copy == NULL) {
        watch->missed++;
    } else {
        if (watch->last == NULL) {
            watch->line = copy;
        } else {
            watch->last->next = copy;
        }
        watch->last = copy;
        watch->line_count++;
    }
    mly_bell_ring(&watch->bell);
    mly_cond_wake_all(&watch->changed);
    mly_mutex_unlock(&watch->mutex);
    if (watch->options.news != NULL) watch->options.news(watch->options.context);
}

void mly_watching_tell_problem(struct memalloy_watch *watch, const char *reason)
{
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
    char text[sizeof(watch->problem)];
    (void)snprintf(text, sizeof(text), "%s", reason);
    mly_mutex_lock(&watch->mutex);
    bool same = strcmp(watch->problem, text) == 0;
    memcpy(watch->problem, text, sizeof(text));
    mly_mutex_unlock(&watch->mutex);
    if (same) return;
    event.kind = text[0] == '\0' ? MEMALLOY_WATCH_SOLVED : MEMALLOY_WATCH_PROBLEM;
    if (text[0] != '\0') event.reason = (struct memalloy_str){text, strlen(text)};
    mly_watching_tell(watch, &event);
}

void mly_watching_free_line(struct memalloy_watch *watch)
{
    while (watch->line != NULL)
        mly_mem_free(watch->mem, take_first(watch));
    mly_mem_free(watch->mem, watch->given);
    watch->given = NULL;
}

/* ---- asked by anybody ---- */

static bool is_foreign(const memalloy_watch *watch)
{
    return watch->pid != watch->birth_env->pid(watch->birth_env->context);
}

int memalloy_watch_next(memalloy_watch *watch, uint32_t wait_ms, struct memalloy_watch_event *out)
{
    if (watch == NULL || out == NULL || is_foreign(watch)) return 0;
    const struct mly_env *env = watch->birth_env;
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
    double end_s = mly_clock_seconds(env) + wait_ms / 1000.0;
    mly_mutex_lock(&watch->mutex);
    while (watch->line == NULL && watch->missed == 0) {
        double left_s = end_s - mly_clock_seconds(env);
        if (left_s <= 0.0 || watch->status.state == MEMALLOY_WATCH_IS_ENDED) break;
        mly_cond_wait_ms(&watch->changed, &watch->mutex, (uint32_t)(left_s * 1000.0) + 1);
    }
    bool found = watch->missed > 0 || watch->line != NULL;
    if (watch->missed > 0) {
        event.kind = MEMALLOY_WATCH_MISSED;
        event.count = watch->missed;
        watch->missed = 0;
    } else if (found) {
        mly_mem_free(watch->mem, watch->given);
        watch->given = take_first(watch);
        event = watch->given->event;
    }
    if (watch->line == NULL && watch->missed == 0) mly_bell_hush(&watch->bell);
    mly_mutex_unlock(&watch->mutex);
    if (!found) return 0;
    mly_options_give(out, &event, sizeof(event));
    return 1;
}

int memalloy_watch_descriptor(const memalloy_watch *watch)
{
    return watch == NULL || is_foreign(watch) ? -1 : watch->bell.fd;
}

/* mutex is held. */
static uint64_t count_pending(const memalloy_watch *watch)
{
    struct mly_watch_info info = {0};
    if (watch->room != NULL && !watch->is_settling) mly_watch_get_info(watch->room, &info);
    if (watch->is_settling) info.pending = 1;
    bool full = watch->full_wanted || watch->look_owed || watch->looks_begun == 0;
    return info.pending + watch->busy + (full && watch->busy == 0 ? 1 : 0);
}

void memalloy_watch_get_status(memalloy_watch *watch, struct memalloy_watch_status *out)
{
    if (watch == NULL || out == NULL || is_foreign(watch)) return;
    mly_mutex_lock(&watch->mutex);
    struct memalloy_watch_status status = watch->status;
    if (watch->room != NULL && !watch->is_settling) {
        struct mly_watch_info info;
        mly_watch_get_info(watch->room, &info);
        status.folders = info.folders;
        status.unwatched = info.unwatched;
        status.lost = info.lost;
    }
    bool ended = status.state == MEMALLOY_WATCH_IS_ENDED;
    status.struct_bytes = sizeof(status);
    status.is_syncing = watch->busy > 0;
    status.pending = ended ? 0 : count_pending(watch);
    memcpy(status.reason, watch->problem, sizeof(status.reason));
    mly_mutex_unlock(&watch->mutex);
    mly_options_give(out, &status, sizeof(status));
}

int memalloy_watch_settle(memalloy_watch *watch, uint32_t wait_ms)
{
    if (watch == NULL || is_foreign(watch)) return 1;
    const struct mly_env *env = watch->birth_env;
    double end_s = mly_clock_seconds(env) + wait_ms / 1000.0;
    bool settled = false;
    mly_mutex_lock(&watch->mutex);
    uint64_t look = watch->looks_begun + 1; /* where there are no events, one that begins now */
    bool polls = watch->room == NULL && !watch->closing;
    if (polls) {
        watch->full_wanted = true;
        mly_watching_arm(watch);
    }
    for (;;) {
        if (watch->status.state == MEMALLOY_WATCH_IS_ENDED) settled = true;
        if (settled || watch->closing) break;
        /* What the system has in line and the loop has not read yet. */
        if (watch->room != NULL && !watch->is_settling) {
            if (mly_watch_read(watch->room, mly_watching_now(watch), NULL) != MLY_OK) {
                watch->full_wanted = true;
            }
            mly_watching_arm(watch);
        }
        settled = count_pending(watch) == 0 && (!polls || watch->looks_done >= look);
        double left_s = end_s - mly_clock_seconds(env);
        if (settled || left_s <= 0.0) break;
        uint32_t left_ms = (uint32_t)(left_s * 1000.0) + 1;
        mly_cond_wait_ms(&watch->changed, &watch->mutex, left_ms < 20 ? left_ms : 20);
    }
    mly_mutex_unlock(&watch->mutex);
    return settled;
}
