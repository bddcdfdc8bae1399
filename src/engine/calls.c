/* Calls that threads of the runtime make.
 *
 * In: a function of the caller's. Out: its result, kept for whoever waits, told by a function, or
 * put in line for an event loop. The queue counts what is under way, so that nobody can put more in
 * than a limit. */
#include "engine/calls.h"

#include "engine/engine_int.h"
#include "os/bell.h"

#include <stdatomic.h>
#include <string.h>

#define LIMIT_DEFAULT 1000u
#define LIMIT_MAX 1000000u
#define PROGRESS_PATH_BYTES 1024

struct memalloy_cancel {
    const struct mly_env *env;
    _Atomic bool asked;
};

struct memalloy_calls {
    const struct mly_env *env;
    int64_t pid;
    struct mly_runtime *runtime;
    struct mly_bell bell;
    uint32_t limit;
    struct mly_mutex mutex;  /* guards what follows, and calls' fields that say so */
    struct mly_cond changed; /* a call has ended */
    uint32_t under_way;      /* started, and done not yet called */
    uint32_t handles;        /* calls not destroyed, and the caller's own handle */
    bool closing;
    struct memalloy_call *all;         /* not ended */
    struct memalloy_call *line, *last; /* ended, to be given by next */
};

struct memalloy_call {
    struct memalloy_calls *calls;
    memalloy_work_fn work;
    void *context;
    void (*done)(void *context);
    enum mly_lane lane;
    struct mly_task task;
    _Atomic bool cancelled;
    /* guarded by mutex */
    struct memalloy_call *next, *before; /* in all */
    struct memalloy_call *next_in_line;
    bool ended, in_line;
    int rc;
    struct memalloy_error error;
    struct memalloy_progress newest, given;
    char newest_path[PROGRESS_PATH_BYTES], given_path[PROGRESS_PATH_BYTES];
    bool has_news;
};

static int give(enum mly_err rc, const struct mly_error *inner, struct memalloy_error *err)
{
    if (rc == MLY_OK || err == NULL) return (int)rc;
    err->code = (int)rc;
    err->system_errno = inner->system_errno;
    memcpy(err->message, inner->message, sizeof(err->message));
    return (int)rc;
}

/* ---- cancelling ---- */

enum mly_err mly_engine_cancel_create(const struct mly_env *env, memalloy_cancel **out,
                                      struct mly_error *err)
{
    memalloy_cancel *cancel = mly_mem_array(env->mem, 1, sizeof(*cancel));
    if (cancel == NULL) return mly_fail_nomem(err, sizeof(*cancel));
    cancel->env = env;
    *out = cancel;
    return MLY_OK;
}

int memalloy_cancel_create(memalloy_cancel **out, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    enum mly_err rc = out == NULL ? mly_fail(&inner, MLY_ERR_INVAL, "out is NULL")
                                  : mly_engine_cancel_create(mly_env_system(), out, &inner);
    return give(rc, &inner, err);
}

void memalloy_cancel_ask(memalloy_cancel *cancel)
{
    if (cancel != NULL) atomic_store(&cancel->asked, true);
}

int memalloy_cancel_is_asked(const memalloy_cancel *cancel)
{
    return cancel != NULL && atomic_load(&cancel->asked);
}

int memalloy_cancel_progress(void *cancel, const struct memalloy_progress *progress)
{
    (void)progress;
    return memalloy_cancel_is_asked(cancel);
}

void memalloy_cancel_destroy(memalloy_cancel *cancel)
{
    if (cancel != NULL) mly_mem_free(cancel->env->mem, cancel);
}

/* ---- the queue ---- */

enum mly_err mly_engine_calls_open(const struct mly_env *env,
                                   const struct memalloy_calls_options *options,
                                   memalloy_calls **out, struct mly_error *err)
{
    struct memalloy_calls_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_calls_options", err));
    if (local.limit > LIMIT_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%u calls, limit is %u", local.limit, LIMIT_MAX);
    }
    memalloy_calls *calls = mly_mem_array(env->mem, 1, sizeof(*calls));
    if (calls == NULL) return mly_fail_nomem(err, sizeof(*calls));
    calls->env = env;
    calls->pid = env->pid(env->context);
    calls->limit = local.limit == 0 ? LIMIT_DEFAULT : local.limit;
    calls->handles = 1;
    calls->bell = MLY_BELL_CLOSED;
    enum mly_err rc = mly_runtime_hold(env, &calls->runtime, err);
    if (rc == MLY_OK) rc = mly_bell_open(env, &calls->bell, err);
    if (rc != MLY_OK) {
        mly_runtime_drop(calls->runtime);
        mly_mem_free(env->mem, calls);
        return rc;
    }
    mly_mutex_init(&calls->mutex);
    mly_cond_init(&calls->changed);
    *out = calls;
    return MLY_OK;
}

int memalloy_calls_open(const struct memalloy_calls_options *options, memalloy_calls **out,
                        struct memalloy_error *err)
{
    struct mly_error inner = {0};
    enum mly_err rc = out == NULL ? mly_fail(&inner, MLY_ERR_INVAL, "out is NULL")
                                  : mly_engine_calls_open(mly_env_system(), options, out, &inner);
    return give(rc, &inner, err);
}

static bool is_foreign(const memalloy_calls *calls)
{
    return calls->pid != calls->env->pid(calls->env->context);
}

/* One handle less; the last takes the memory with it. mutex is held, and given back. */
static void let_go(memalloy_calls *calls)
{
    bool last = --calls->handles == 0;
    mly_mutex_unlock(&calls->mutex);
    if (!last) return;
    mly_cond_deinit(&calls->changed);
    mly_mutex_deinit(&calls->mutex);
    mly_mem_free(calls->env->mem, calls);
}

void memalloy_calls_close(memalloy_calls *calls)
{
    if (calls == NULL || is_foreign(calls)) return;
    mly_mutex_lock(&calls->mutex);
    calls->closing = true;
    for (memalloy_call *call = calls->all; call != NULL; call = call->next)
        atomic_store(&call->cancelled, true);
    while (calls->under_way > 0)
        mly_cond_wait(&calls->changed, &calls->mutex);
    calls->line = calls->last = NULL;
    mly_mutex_unlock(&calls->mutex);
    mly_bell_close(&calls->bell);
    mly_runtime_drop(calls->runtime);
    mly_mutex_lock(&calls->mutex);
    let_go(calls);
}

/* ---- a call ---- */

/* mutex is held. */
static void put_in_line(memalloy_call *call)
{
    memalloy_calls *calls = call->calls;
    call->in_line = true;
    call->next_in_line = NULL;
    if (calls->last != NULL) {
        calls->last->next_in_line = call;
    } else {
        calls->line = call;
    }
    calls->last = call;
    mly_bell_ring(&calls->bell);
}

/* On a thread of the runtime's. */
static void run(void *argument)
{
    memalloy_call *call = argument;
    memalloy_calls *calls = call->calls;
    struct memalloy_error error = {0};
    int rc;
    if (atomic_load(&call->cancelled)) {
        struct mly_error inner = {0};
        enum mly_err code = mly_fail(&inner, MLY_ERR_CANCELLED, "cancelled before it began");
        rc = give(code, &inner, &error);
    } else {
        rc = call->work(call->context, call, &error);
    }
    void (*done)(void *context) = call->done;
    void *context = call->context;
    mly_mutex_lock(&calls->mutex);
    if (call->before != NULL) call->before->next = call->next;
    if (call->next != NULL) call->next->before = call->before;
    if (calls->all == call) calls->all = call->next;
    call->rc = rc;
    call->error = error;
    call->ended = true;
    if (done == NULL) put_in_line(call);
    mly_cond_wake_all(&calls->changed);
    mly_mutex_unlock(&calls->mutex);
    /* From here on the call may be destroyed. */
    if (done != NULL) done(context);
    mly_mutex_lock(&calls->mutex);
    calls->under_way--;
    mly_cond_wake_all(&calls->changed);
    mly_mutex_unlock(&calls->mutex);
}

static enum mly_err enlist(memalloy_calls *calls, memalloy_call *call, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&calls->mutex);
    if (calls->closing) {
        rc = mly_fail(err, MLY_ERR_CLOSED, "the calls are closed");
    } else if (calls->under_way >= calls->limit) {
        rc = mly_fail(err, MLY_ERR_LIMIT, "%u calls are under way, the limit is %u",
                      calls->under_way, calls->limit);
    } else {
        calls->under_way++;
        calls->handles++;
        call->next = calls->all;
        if (call->next != NULL) call->next->before = call;
        calls->all = call;
    }
    mly_mutex_unlock(&calls->mutex);
    return rc;
}

static enum mly_err start(memalloy_calls *calls, memalloy_work_fn work, void *context,
                          const struct memalloy_call_options *options, memalloy_call **out,
                          struct mly_error *err)
{
    struct memalloy_call_options local = {.struct_bytes = sizeof(local)};
    if (calls == NULL || work == NULL || out == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "calls, work or out is NULL");
    }
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_call_options", err));
    if (is_foreign(calls)) {
        return mly_fail(err, MLY_ERR_FORKED, "the calls were opened before fork()");
    }
    enum mly_lane lane = local.is_long ? MLY_LANE_WORK : MLY_LANE_CALLS;
    MLY_TRY(mly_runtime_ready(calls->runtime, lane, err));
    memalloy_call *call = mly_mem_array(calls->env->mem, 1, sizeof(*call));
    if (call == NULL) return mly_fail_nomem(err, sizeof(*call));
    call->calls = calls;
    call->work = work;
    call->context = context;
    call->done = local.done;
    call->lane = lane;
    call->task = (struct mly_task){run, call, NULL};
    enum mly_err rc = enlist(calls, call, err);
    if (rc != MLY_OK) {
        mly_mem_free(calls->env->mem, call);
        return rc;
    }
    *out = call; /* before it may end */
    mly_runtime_post(calls->runtime, lane, &call->task);
    return MLY_OK;
}

int memalloy_call_start(memalloy_calls *calls, memalloy_work_fn work, void *context,
                        const struct memalloy_call_options *options, memalloy_call **out,
                        struct memalloy_error *err)
{
    struct mly_error inner = {0};
    return give(start(calls, work, context, options, out, &inner), &inner, err);
}

void memalloy_call_cancel(memalloy_call *call)
{
    if (call != NULL) atomic_store(&call->cancelled, true);
}

int memalloy_call_is_cancelled(const memalloy_call *call)
{
    return call != NULL && atomic_load(&call->cancelled);
}

int memalloy_call_progress(void *context, const struct memalloy_progress *progress)
{
    memalloy_call *call = context;
    memalloy_calls *calls = call->calls;
    mly_mutex_lock(&calls->mutex);
    bool first = !call->has_news;
    call->newest = *progress;
    call->has_news = true;
    if (progress->path != NULL) {
        mly_options_copy_text(call->newest_path, sizeof(call->newest_path),
                              mly_str_of(progress->path));
    }
    mly_mutex_unlock(&calls->mutex);
    if (first && call->done == NULL) mly_bell_ring(&calls->bell);
    return atomic_load(&call->cancelled);
}

int memalloy_call_get_progress(memalloy_call *call, struct memalloy_progress *out)
{
    if (call == NULL || is_foreign(call->calls)) return 0;
    mly_mutex_lock(&call->calls->mutex);
    bool has_news = call->has_news;
    if (has_news) {
        call->has_news = false;
        call->given = call->newest;
        memcpy(call->given_path, call->newest_path, sizeof(call->given_path));
        if (call->given.path != NULL) call->given.path = call->given_path;
    }
    mly_mutex_unlock(&call->calls->mutex);
    if (has_news) mly_options_give(out, &call->given, sizeof(call->given));
    return has_news;
}

int memalloy_call_wait(memalloy_call *call, uint32_t wait_ms)
{
    if (call == NULL || is_foreign(call->calls)) return 0;
    memalloy_calls *calls = call->calls;
    double end_s = mly_clock_seconds(calls->env) + wait_ms * 1e-3;
    mly_mutex_lock(&calls->mutex);
    while (!call->ended) {
        double left_s = end_s - mly_clock_seconds(calls->env);
        if (left_s <= 0) break;
        mly_cond_wait_ms(&calls->changed, &calls->mutex, (uint32_t)(left_s * 1e3) + 1);
    }
    bool ended = call->ended;
    mly_mutex_unlock(&calls->mutex);
    return ended;
}

int memalloy_call_result(memalloy_call *call, struct memalloy_error *err)
{
    struct mly_error inner = {0};
    if (call == NULL || is_foreign(call->calls)) {
        return give(mly_fail(&inner, MLY_ERR_INVAL, "no call of this process"), &inner, err);
    }
    mly_mutex_lock(&call->calls->mutex);
    bool ended = call->ended;
    int rc = call->rc;
    if (ended && rc != MEMALLOY_OK && err != NULL) *err = call->error;
    mly_mutex_unlock(&call->calls->mutex);
    if (ended) return rc;
    return give(mly_fail(&inner, MLY_ERR_INVAL, "the call has not ended"), &inner, err);
}

/* mutex is held. */
static void leave_line(memalloy_call *call)
{
    memalloy_calls *calls = call->calls;
    memalloy_call *before = NULL;
    for (memalloy_call *at = calls->line; at != NULL; before = at, at = at->next_in_line) {
        if (at != call) continue;
        if (before == NULL) {
            calls->line = call->next_in_line;
        } else {
            before->next_in_line = call->next_in_line;
        }
        if (calls->last == call) calls->last = before;
        return;
    }
}

void memalloy_call_destroy(memalloy_call *call)
{
    if (call == NULL || is_foreign(call->calls)) return;
    memalloy_calls *calls = call->calls;
    atomic_store(&call->cancelled, true);
    mly_mutex_lock(&calls->mutex);
    while (!call->ended)
        mly_cond_wait(&calls->changed, &calls->mutex);
    if (call->in_line) leave_line(call);
    mly_mem_free(calls->env->mem, call);
    let_go(calls);
}

/* ---- for event loops ---- */

int memalloy_calls_descriptor(const memalloy_calls *calls)
{
    return calls == NULL || is_foreign(calls) ? -1 : calls->bell.fd;
}

int memalloy_calls_next(memalloy_calls *calls, void **context)
{
    if (calls == NULL || context == NULL || is_foreign(calls)) return 0;
    mly_mutex_lock(&calls->mutex);
    memalloy_call *call = calls->line;
    if (call != NULL) {
        *context = call->context;
        calls->line = call->next_in_line;
        if (calls->line == NULL) calls->last = NULL;
        call->in_line = false;
    } else {
        mly_bell_hush(&calls->bell);
    }
    mly_mutex_unlock(&calls->mutex);
    return call != NULL;
}
