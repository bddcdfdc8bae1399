/* Calls on threads of the runtime's: <memalloy_calls.h> on any system table. */
#ifndef MLY_ENGINE_CALLS_H
#define MLY_ENGINE_CALLS_H

#include "base/err.h"
#include "os/env.h"

MLY_MUST_USE enum mly_err mly_engine_calls_open(const struct mly_env *env,
                                                const struct memalloy_calls_options *options,
                                                memalloy_calls **out, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_engine_cancel_create(const struct mly_env *env, memalloy_cancel **out,
                                                   struct mly_error *err);

#endif
