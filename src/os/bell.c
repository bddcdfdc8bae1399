/* Reading an eventfd takes all that was added, so that it is quiet again. */
#include "os/bell.h"

#include <errno.h>

enum mly_err mly_bell_open(const struct mly_env *env, struct mly_bell *out, struct mly_error *err)
{
    int fd = env->bell_open(env->context);
    if (fd < 0) {
        return mly_fail_errno(err, MLY_ERR_IO, -fd, "cannot make a descriptor to be woken by");
    }
    *out = (struct mly_bell){env, fd};
    return MLY_OK;
}

void mly_bell_ring(const struct mly_bell *bell)
{
    while (bell->env->bell_ring(bell->env->context, bell->fd) == -EINTR) {
    }
}

void mly_bell_hush(const struct mly_bell *bell)
{
    while (bell->env->bell_hush(bell->env->context, bell->fd) == -EINTR) {
    }
}

void mly_bell_close(struct mly_bell *bell)
{
    if (bell->fd >= 0) (void)bell->env->close(bell->env->context, bell->fd);
    bell->fd = -1;
}
