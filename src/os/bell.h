/* A descriptor that can be read from a ring on until it is hushed: how threads of ours wake an
 * event loop of somebody else's. */
#ifndef MLY_OS_BELL_H
#define MLY_OS_BELL_H

#include "base/err.h"
#include "os/env.h"

struct mly_bell {
    const struct mly_env *env;
    int fd; /* -1: closed */
};
#define MLY_BELL_CLOSED ((struct mly_bell){NULL, -1})

MLY_MUST_USE enum mly_err mly_bell_open(const struct mly_env *env, struct mly_bell *out,
                                        struct mly_error *err);
/* Any thread; rings that nobody has heard yet are one. */
void mly_bell_ring(const struct mly_bell *bell);
void mly_bell_hush(const struct mly_bell *bell);
void mly_bell_close(struct mly_bell *bell);

#endif
