/* The threads that all pools of a runtime share; pool.c has them, runtime.c their life. */
#ifndef MLY_OS_CREW_H
#define MLY_OS_CREW_H

#include "base/err.h"
#include "os/env.h"

struct mly_crew;
struct mly_runtime;

/* No thread yet. */
MLY_MUST_USE enum mly_err mly_crew_create(const struct mly_env *env, struct mly_crew **out,
                                          struct mly_error *err);
/* Joins them. Accepts NULL. */
void mly_crew_destroy(struct mly_crew *crew);
/* In a child of fork(): only frees. Accepts NULL. */
void mly_crew_forget(struct mly_crew *crew);
/* The runtime's, made at first use. */
MLY_MUST_USE enum mly_err mly_runtime_get_crew(struct mly_runtime *runtime, struct mly_crew **out,
                                               struct mly_error *err);
/* Are we in a child of the process that made it? */
bool mly_runtime_is_forgotten(const struct mly_runtime *runtime);

#endif
