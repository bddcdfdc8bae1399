/* What works beside the callers: one loop and a few threads for the process, shared by all handles.
 *
 * Life     a handle holds the runtime of its table and drops it at its close. Threads are made when
 *          something needs them, and are gone when the last handle has dropped it. The last drop
 *          is not made on a thread of the runtime's.
 * Threads  everything may be called from any thread. The threads here block all signals.
 * Fork     in a child the parent's runtime is never touched: drops and destroys only free. A hold
 *          there makes a new one.
 * Errors   NOMEM; IO where the system has no thread or descriptor left. What was made ready once
 *          does not fail later.
 */
#ifndef MLY_OS_RUNTIME_H
#define MLY_OS_RUNTIME_H

#include "os/loop.h"

struct mly_runtime;

/* No thread yet. Tables with an origin share that one's. */
MLY_MUST_USE enum mly_err mly_runtime_hold(const struct mly_env *env, struct mly_runtime **out,
                                           struct mly_error *err);
/* Accepts NULL. */
void mly_runtime_drop(struct mly_runtime *runtime);

/* Queues with threads of their own, so that nothing waits for what is slower than itself. */
enum mly_lane {
    MLY_LANE_SYNC,   /* what was promised within a tenth of a second */
    MLY_LANE_UPKEEP, /* what nobody waits for: checkpoints */
    MLY_LANE_CALLS,  /* what somebody waits for elsewhere, and soon */
    MLY_LANE_WORK,   /* the same, but it may take long */
    MLY_LANE_WATCH,  /* what changed in folders that are followed */
    MLY_LANES
};

/* Something to be done; the caller's memory, until run was called. */
struct mly_task {
    void (*run)(void *context);
    void *context;
    struct mly_task *next; /* the lane's */
};
/* From now on there is a thread for what is posted. */
MLY_MUST_USE enum mly_err mly_runtime_ready(struct mly_runtime *runtime, enum mly_lane lane,
                                            struct mly_error *err);
/* First come, first served, by as many threads as the lane may have. The lane is ready. */
void mly_runtime_post(struct mly_runtime *runtime, enum mly_lane lane, struct mly_task *task);
/* Takes a task back: false where it is running, or has run. */
bool mly_runtime_withdraw(struct mly_runtime *runtime, enum mly_lane lane, struct mly_task *task);

/* The loop, made at first use; for watches. */
MLY_MUST_USE enum mly_err mly_runtime_get_loop(struct mly_runtime *runtime, struct mly_loop **out,
                                               struct mly_error *err);

/* Work that is due at a moment. */
struct mly_timer;
/* run(context) on a thread of the lane when the time is up; never twice at once. Not set yet. */
MLY_MUST_USE enum mly_err mly_timer_create(struct mly_runtime *runtime, enum mly_lane lane,
                                           void (*run)(void *context), void *context,
                                           struct mly_timer **out, struct mly_error *err);
/* In ms from now on, once; MLY_LOOP_NEVER: not at all. What was set before counts no more, but may
 * be on its way already. Never fails. */
void mly_timer_set(struct mly_timer *timer, uint64_t ms);
/* When it returns run does not run and never will. Not from within run. Accepts NULL. */
void mly_timer_destroy(struct mly_timer *timer);

#endif
