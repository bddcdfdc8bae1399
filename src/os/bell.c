/* An eventfd: reading takes all that was added, so that it is quiet again. */
#include "os/bell.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum mly_err mly_bell_open(struct mly_bell *out, struct mly_error *err)
{
    out->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (out->fd >= 0) return MLY_OK;
    return mly_fail_errno(err, MLY_ERR_IO, errno, "cannot make a descriptor to be woken by");
}

void mly_bell_ring(const struct mly_bell *bell)
{
    const uint64_t one = 1;
    while (write(bell->fd, &one, sizeof(one)) < 0 && errno == EINTR) {
    }
}

void mly_bell_hush(const struct mly_bell *bell)
{
    uint64_t rings;
    while (read(bell->fd, &rings, sizeof(rings)) < 0 && errno == EINTR) {
    }
}

void mly_bell_close(struct mly_bell *bell)
{
    if (bell->fd >= 0) (void)close(bell->fd);
    bell->fd = -1;
}
