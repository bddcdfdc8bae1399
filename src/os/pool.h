/* A pool: as many of the process's worker threads as its owner may use, the caller included. They
 * run the parts of one job.
 *
 * Threads  shared by all pools of a process (runtime.h), made at the first job that has more than
 *          one part; they block all signals. Jobs of one pool run one after the other, those of
 *          several beside each other: urgent ones take workers away from others, between two parts.
 * Errors   a pool that cannot start threads runs everything on the caller's.
 */
#ifndef MLY_OS_POOL_H
#define MLY_OS_POOL_H

#include "base/err.h"
#include "os/env.h"

struct mly_pool;

/* thread_count 0: every core the process may use: affinity and cgroup quota are looked at. */
MLY_MUST_USE enum mly_err mly_pool_create(const struct mly_env *env, uint32_t thread_count,
                                          struct mly_pool **out, struct mly_error *err);
/* No job is under way. In a forked child it only frees. */
void mly_pool_destroy(struct mly_pool *pool);
/* Of the next jobs: does somebody wait for the answer? */
void mly_pool_set_urgent(struct mly_pool *pool, bool urgent);
uint32_t mly_pool_thread_count(const struct mly_pool *pool);

/* Runs part(context, part_i, worker_i) for every part_i below part_count, each once, and returns
 * when all are done. worker_i is below the thread count and belongs to one thread at a time: it
 * picks a workspace; 0 is the caller's. */
typedef void (*mly_pool_part_fn)(void *context, size_t part_i, uint32_t worker_i);
void mly_pool_run(struct mly_pool *pool, size_t part_count, mly_pool_part_fn part, void *context);

/* The same in stages: no part of a stage begins before all parts of the stage before it are done.
 * Threads that wait for a stage spin for some microseconds before they sleep, so that stages may be
 * short. part_counts: of each stage, below 2^32. */
typedef void (*mly_pool_stage_fn)(void *context, size_t stage_i, size_t part_i, uint32_t worker_i);
void mly_pool_run_stages(struct mly_pool *pool, const size_t *part_counts, size_t stage_count,
                         mly_pool_stage_fn stage, void *context);

#endif
