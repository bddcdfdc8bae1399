/* libuv's loop on a thread of its own.
 *
 * In: orders of other threads (a timer to set, an item to begin or end, work to do), kept under a
 * mutex and announced by the one call of libuv's that any thread may make. Out: the calls of the
 * items' functions. All else of libuv is touched by the loop's thread alone. */
#define _GNU_SOURCE
#include "os/loop.h"

#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <uv.h>

/* libuv ends the process where a list of descriptors cannot grow by some bytes. So that much memory
 * is asked for, and given back, before a loop or a watch is made. */
#define PROBE_BYTES ((size_t)64 << 10)
/* libuv loses the first of the descriptors that a loop needs where it does not get the others. So
 * that many are asked for first, as well. */
#define PROBE_PIPES 4

enum item_kind { ITEM_TIMER, ITEM_WATCH };

struct mly_loop_item {
    union {
        uv_handle_t any;
        uv_timer_t timer;
        uv_poll_t watch;
    } uv; /* the loop thread's */
    struct mly_loop *loop;
    enum item_kind kind;
    mly_loop_fn fn;
    void *context;
    int fd;
    bool begun; /* the loop thread's: uv is initialised */
    /* guarded by the loop's mutex */
    struct mly_loop_item *next; /* among those with orders */
    bool ordered, set, end, ended, began;
    bool own_end; /* by fn itself: nobody waits, the loop frees it */
    uint64_t ms;
    int result; /* of beginning */
};

struct mly_loop {
    const struct mly_env *env;
    uv_loop_t uv;
    uv_async_t async;
    uint64_t thread;
    pthread_t self; /* the loop thread's own, for is_own */
    struct mly_mutex mutex;
    struct mly_cond changed; /* an item began or ended, or the thread runs */
    /* guarded by mutex */
    struct mly_loop_item *orders;
    struct mly_loop_post *posts, *posts_last;
    bool quit, runs;
};

/* ---- the loop's thread ---- */

static void on_timer(uv_timer_t *uv)
{
    struct mly_loop_item *item = uv->data;
    item->fn(item->context);
}

static void on_watch(uv_poll_t *uv, int status, int events)
{
    struct mly_loop_item *item = uv->data;
    (void)status; /* one that fails is watched no more; whoever reads it finds out why */
    (void)events;
    item->fn(item->context);
}

static void on_closed(uv_handle_t *uv)
{
    struct mly_loop_item *item = uv->data;
    struct mly_loop *loop = item->loop;
    mly_mutex_lock(&loop->mutex);
    item->ended = true;
    bool own_end = item->own_end;
    mly_cond_wake_all(&loop->changed);
    mly_mutex_unlock(&loop->mutex);
    if (own_end) mly_mem_free(loop->env->mem, item);
}

static int begin_item(struct mly_loop *loop, struct mly_loop_item *item)
{
    int result;
    if (item->kind == ITEM_TIMER) {
        result = uv_timer_init(&loop->uv, &item->uv.timer);
    } else {
        result = uv_poll_init(&loop->uv, &item->uv.watch, item->fd);
    }
    if (result != 0) return result;
    item->begun = true;
    item->uv.any.data = item;
    if (item->kind == ITEM_TIMER) return 0;
    return uv_poll_start(&item->uv.watch, UV_READABLE | UV_DISCONNECT, on_watch);
}

/* What was ordered of one item since it was looked at. */
static void obey(struct mly_loop *loop, struct mly_loop_item *item)
{
    mly_mutex_lock(&loop->mutex);
    bool set = item->set, end = item->end, begin = !item->began;
    uint64_t ms = item->ms;
    item->set = item->ordered = false;
    mly_mutex_unlock(&loop->mutex);
    if (begin) {
        int result = begin_item(loop, item);
        mly_mutex_lock(&loop->mutex);
        item->began = true;
        item->result = result;
        mly_cond_wake_all(&loop->changed);
        mly_mutex_unlock(&loop->mutex);
    }
    if (end) {
        if (item->begun) {
            uv_close(&item->uv.any, on_closed);
        } else {
            item->uv.any.data = item;
            on_closed(&item->uv.any);
        }
    } else if (set && item->kind == ITEM_WATCH) {
        (void)uv_poll_start(&item->uv.watch, UV_READABLE | UV_DISCONNECT, on_watch);
    } else if (set && ms == MLY_LOOP_NEVER) {
        uv_timer_stop(&item->uv.timer);
    } else if (set) {
        uv_timer_start(&item->uv.timer, on_timer, ms, 0);
    }
}

static void run_posts(struct mly_loop *loop)
{
    mly_mutex_lock(&loop->mutex);
    struct mly_loop_post *post = loop->posts;
    loop->posts = loop->posts_last = NULL;
    mly_mutex_unlock(&loop->mutex);
    while (post != NULL) {
        struct mly_loop_post *next = post->next; /* post is the caller's again once it runs */
        post->run(post->context);
        post = next;
    }
}

static void on_async(uv_async_t *async)
{
    struct mly_loop *loop = async->data;
    uv_update_time(&loop->uv);
    mly_mutex_lock(&loop->mutex);
    struct mly_loop_item *item = loop->orders;
    loop->orders = NULL;
    mly_mutex_unlock(&loop->mutex);
    while (item != NULL) {
        mly_mutex_lock(&loop->mutex);
        struct mly_loop_item *next = item->next; /* once obeyed it may be gone, or stand in line */
        mly_mutex_unlock(&loop->mutex);
        obey(loop, item);
        item = next;
    }
    run_posts(loop);
    mly_mutex_lock(&loop->mutex);
    bool quit = loop->quit;
    mly_mutex_unlock(&loop->mutex);
    if (quit && !uv_is_closing((uv_handle_t *)async)) uv_close((uv_handle_t *)async, NULL);
}

static void *run_loop(void *argument)
{
    struct mly_loop *loop = argument;
    mly_mutex_lock(&loop->mutex);
    loop->self = pthread_self();
    loop->runs = true;
    mly_cond_wake_all(&loop->changed);
    mly_mutex_unlock(&loop->mutex);
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT); /* until its last handle, async, is closed */
    return NULL;
}

/* ---- making and ending it ---- */

static bool probe_memory(const struct mly_env *env)
{
    void *probe = mly_mem_alloc(env->mem, PROBE_BYTES);
    mly_mem_free(env->mem, probe);
    return probe != NULL;
}

/* 0 or -errno. */
static int probe_descriptors(void)
{
    int ends[PROBE_PIPES][2];
    int count = 0;
    int result = 0;
    while (count < PROBE_PIPES && result == 0) {
        if (pipe2(ends[count], O_CLOEXEC) == 0) {
            count++;
        } else {
            result = -errno;
        }
    }
    while (count-- > 0) {
        (void)close(ends[count][0]);
        (void)close(ends[count][1]);
    }
    return result;
}

static enum mly_err start(struct mly_loop *loop, struct mly_error *err)
{
    int result = probe_descriptors();
    if (result == 0) result = uv_loop_init(&loop->uv);
    if (result != 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot make a loop");
    result = uv_async_init(&loop->uv, &loop->async, on_async);
    if (result != 0) {
        (void)uv_loop_close(&loop->uv);
        return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot make a loop's waker");
    }
    loop->async.data = loop;
    result = loop->env->thread_start(loop->env->context, run_loop, loop, &loop->thread);
    if (result == 0) return MLY_OK;
    uv_close((uv_handle_t *)&loop->async, NULL);
    (void)uv_run(&loop->uv, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop->uv);
    return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot start a thread");
}

enum mly_err mly_loop_create(const struct mly_env *env, struct mly_loop **out,
                             struct mly_error *err)
{
    struct mly_loop *loop = mly_mem_array(env->mem, 1, sizeof(*loop));
    if (loop == NULL || !probe_memory(env)) {
        mly_mem_free(env->mem, loop);
        return mly_fail_nomem(err, loop == NULL ? sizeof(*loop) : PROBE_BYTES);
    }
    loop->env = env;
    mly_mutex_init(&loop->mutex);
    mly_cond_init(&loop->changed);
    enum mly_err rc = start(loop, err);
    if (rc != MLY_OK) {
        mly_cond_deinit(&loop->changed);
        mly_mutex_deinit(&loop->mutex);
        mly_mem_free(env->mem, loop);
        return rc;
    }
    mly_mutex_lock(&loop->mutex);
    while (!loop->runs)
        mly_cond_wait(&loop->changed, &loop->mutex);
    mly_mutex_unlock(&loop->mutex);
    *out = loop;
    return MLY_OK;
}

void mly_loop_destroy(struct mly_loop *loop)
{
    if (loop == NULL) return;
    const struct mly_env *env = loop->env;
    mly_mutex_lock(&loop->mutex);
    loop->quit = true;
    mly_mutex_unlock(&loop->mutex);
    (void)uv_async_send(&loop->async);
    (void)env->thread_join(env->context, loop->thread);
    (void)uv_loop_close(&loop->uv);
    mly_cond_deinit(&loop->changed);
    mly_mutex_deinit(&loop->mutex);
    mly_mem_free(env->mem, loop);
}

bool mly_loop_is_own(const struct mly_loop *loop)
{
    return pthread_equal(loop->self, pthread_self()) != 0;
}

/* ---- orders ---- */

/* mutex is held. */
static void order(struct mly_loop_item *item)
{
    struct mly_loop *loop = item->loop;
    if (item->ordered) return;
    item->ordered = true;
    item->next = loop->orders;
    loop->orders = item;
    /* One call wakes for all orders that stand there when the loop looks. */
    if (item->next == NULL && loop->posts == NULL) (void)uv_async_send(&loop->async);
}

void mly_loop_post(struct mly_loop *loop, struct mly_loop_post *post)
{
    post->next = NULL;
    mly_mutex_lock(&loop->mutex);
    if (loop->posts_last != NULL) {
        loop->posts_last->next = post;
    } else {
        loop->posts = post;
        if (loop->orders == NULL) (void)uv_async_send(&loop->async);
    }
    loop->posts_last = post;
    mly_mutex_unlock(&loop->mutex);
}

static struct mly_loop_item *make_item(struct mly_loop *loop, enum item_kind kind, int fd,
                                       mly_loop_fn fn, void *context)
{
    struct mly_loop_item *item = mly_mem_array(loop->env->mem, 1, sizeof(*item));
    if (item == NULL) return NULL;
    item->loop = loop;
    item->kind = kind;
    item->fd = fd;
    item->fn = fn;
    item->context = context;
    return item;
}

enum mly_err mly_loop_timer_create(struct mly_loop *loop, mly_loop_fn fn, void *context,
                                   struct mly_loop_item **out, struct mly_error *err)
{
    *out = make_item(loop, ITEM_TIMER, -1, fn, context);
    return *out == NULL ? mly_fail_nomem(err, sizeof(**out)) : MLY_OK;
}

void mly_loop_timer_set(struct mly_loop_item *timer, uint64_t ms)
{
    mly_mutex_lock(&timer->loop->mutex);
    timer->set = true;
    timer->ms = ms;
    order(timer);
    mly_mutex_unlock(&timer->loop->mutex);
}

enum mly_err mly_loop_watch_create(struct mly_loop *loop, int fd, mly_loop_fn fn, void *context,
                                   struct mly_loop_item **out, struct mly_error *err)
{
    if (fd < 0) return mly_fail(err, MLY_ERR_INVAL, "descriptor %d cannot be watched", fd);
    struct mly_loop_item *item = make_item(loop, ITEM_WATCH, fd, fn, context);
    if (item == NULL || !probe_memory(loop->env)) {
        mly_mem_free(loop->env->mem, item);
        return mly_fail_nomem(err, sizeof(*item));
    }
    if (mly_loop_is_own(loop)) {
        item->began = true;
        item->result = begin_item(loop, item);
    } else {
        mly_mutex_lock(&loop->mutex);
        order(item);
        while (!item->began)
            mly_cond_wait(&loop->changed, &loop->mutex);
        mly_mutex_unlock(&loop->mutex);
    }
    if (item->result != 0) {
        int result = item->result;
        mly_loop_item_destroy(item, false);
        return mly_fail_errno(err, result == -ENOMEM ? MLY_ERR_NOMEM : MLY_ERR_INVAL, -result,
                              "descriptor %d cannot be watched", fd);
    }
    *out = item;
    return MLY_OK;
}

void mly_loop_watch_rest(struct mly_loop_item *watch)
{
    (void)uv_poll_stop(&watch->uv.watch);
}

void mly_loop_watch_go_on(struct mly_loop_item *watch)
{
    mly_mutex_lock(&watch->loop->mutex);
    watch->set = true;
    order(watch);
    mly_mutex_unlock(&watch->loop->mutex);
}

void mly_loop_item_destroy(struct mly_loop_item *item, bool forgotten)
{
    if (item == NULL) return;
    struct mly_loop *loop = item->loop;
    const struct mly_env *env = loop->env;
    if (forgotten) {
        mly_mem_free(env->mem, item);
        return;
    }
    mly_mutex_lock(&loop->mutex);
    item->end = true;
    item->own_end = mly_loop_is_own(loop);
    bool own_end = item->own_end;
    order(item);
    while (!own_end && !item->ended)
        mly_cond_wait(&loop->changed, &loop->mutex);
    mly_mutex_unlock(&loop->mutex);
    if (!own_end) mly_mem_free(env->mem, item);
}
