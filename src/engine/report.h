/* What one sync did and is doing: counts, the files that were passed over, and progress for those
 * who watch. */
#ifndef MLY_ENGINE_REPORT_H
#define MLY_ENGINE_REPORT_H

#include "engine/engine_int.h"

struct report_skip {
    struct mly_str path, reason;
};

struct memalloy_report {
    struct mly_mem *mem;    /* it may outlive the kernel and its table */
    struct mly_arena arena; /* of the skips */
    struct report_skip *skips;
    size_t skip_count, skip_capacity;
    struct memalloy_sync_counts counts;
    bool other_names; /* a file changed that has others, which may not have been looked at */
};

MLY_MUST_USE enum mly_err mly_report_create(const struct mly_env *env, memalloy_report **out,
                                            struct mly_error *err);
/* Copies both. */
MLY_MUST_USE enum mly_err mly_report_skip(memalloy_report *report, struct mly_str path,
                                          struct mly_str reason, struct mly_error *err);

/* Tells a callback how far a call is, some thirty times a second. */
struct mly_watcher {
    const struct mly_env *env;
    memalloy_progress_fn fn; /* NULL: nobody watches */
    void *context;
    double start_s, last_s, every_s;
    struct memalloy_progress progress;
};

void mly_watcher_init(struct mly_watcher *watcher, const struct mly_env *env,
                      memalloy_progress_fn fn, void *context);
/* CANCELLED where the callback says so. now: whether it is due or not. */
MLY_MUST_USE enum mly_err mly_watcher_tell(struct mly_watcher *watcher, bool now,
                                           struct mly_error *err);
/* A mly_pulse_fn of a watcher: tells where it is due. */
MLY_MUST_USE enum mly_err mly_watcher_pulse(void *watcher, struct mly_error *err);

#endif
