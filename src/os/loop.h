/* A thread that waits: for moments, for descriptors, for work that other threads hand it. Made by
 * runtime.h, which is what other rooms use.
 *
 * Threads  all functions of items run on the loop's thread, one after the other, and so must be
 *          short: what takes long they hand to a lane (runtime.h). Everything here may be called
 *          from any thread. The loop's thread blocks all signals.
 * Owns     an item belongs to whoever made it, and is destroyed before the loop is.
 * Fork     the child has no such thread: there a loop is never touched, an item's destroy only
 *          frees.
 * Errors   NOMEM; IO where the system has no descriptor or thread left.
 */
#ifndef MLY_OS_LOOP_H
#define MLY_OS_LOOP_H

#include "base/err.h"
#include "os/env.h"

struct mly_loop;
struct mly_loop_item;
typedef void (*mly_loop_fn)(void *context);

/* Starts the thread. */
MLY_MUST_USE enum mly_err mly_loop_create(const struct mly_env *env, struct mly_loop **out,
                                          struct mly_error *err);
/* Ends and joins the thread. Not on the thread itself. Accepts NULL. */
void mly_loop_destroy(struct mly_loop *loop);

/* Work that is handed over; the caller's memory, until run was called. */
struct mly_loop_post {
    mly_loop_fn run;
    void *context;
    struct mly_loop_post *next; /* the loop's */
};
/* run is called once, soon. Never fails. */
void mly_loop_post(struct mly_loop *loop, struct mly_loop_post *post);

/* Calls fn when the time is up; it is not set yet. */
MLY_MUST_USE enum mly_err mly_loop_timer_create(struct mly_loop *loop, mly_loop_fn fn,
                                                void *context, struct mly_loop_item **out,
                                                struct mly_error *err);
#define MLY_LOOP_NEVER UINT64_MAX
/* Once, in ms from now on; what was set before counts no more. Never fails. */
void mly_loop_timer_set(struct mly_loop_item *timer, uint64_t ms);
/* Calls fn whenever the descriptor can be read, or its other end is gone. INVAL for a descriptor
 * that cannot be waited for. It must stay open until the watch is destroyed, and does not block
 * from now on. */
MLY_MUST_USE enum mly_err mly_loop_watch_create(struct mly_loop *loop, int fd, mly_loop_fn fn,
                                                void *context, struct mly_loop_item **out,
                                                struct mly_error *err);
/* fn is not called until the watch is told to go on. On the loop's own thread. */
void mly_loop_watch_rest(struct mly_loop_item *watch);
void mly_loop_watch_go_on(struct mly_loop_item *watch);
/* When it returns fn does not run and never will; on the loop's own thread, never again after this
 * call of it. forgotten: the loop is a parent process's. Accepts NULL. */
void mly_loop_item_destroy(struct mly_loop_item *item, bool forgotten);

/* Is the caller the loop's thread? */
bool mly_loop_is_own(const struct mly_loop *loop);

#endif
