/* The calls of the table that descriptors of Linux's own kinds are behind: inotify(7), eventfd(2).
 * As in env_system.c, nothing is retried or explained. */
#define _GNU_SOURCE
#include "os/env_int.h"

#include <errno.h>
#include <unistd.h>
#if defined(__linux__)
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#define NOTIFY_KINDS                                                                               \
    (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_CREATE | IN_MOVED_TO | IN_DELETE |                \
     IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_EXCL_UNLINK | IN_ONLYDIR)

static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

int mly_sys_notify_open(void *context)
{
    (void)context;
    return result_of(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
}

int mly_sys_notify_add(void *context, int fd, int dir_fd)
{
    (void)context;
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", dir_fd);
    return result_of(inotify_add_watch(fd, path, NOTIFY_KINDS));
}

int mly_sys_notify_remove(void *context, int fd, int watch)
{
    (void)context;
    return result_of(inotify_rm_watch(fd, watch));
}

int64_t mly_sys_notify_read(void *context, int fd, void *out, size_t bytes)
{
    (void)context;
    ssize_t done = read(fd, out, bytes);
    return done < 0 ? -errno : done;
}

int mly_sys_bell_open(void *context)
{
    (void)context;
    return result_of(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int mly_sys_bell_ring(void *context, int fd)
{
    (void)context;
    const uint64_t one = 1;
    return write(fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

int mly_sys_bell_hush(void *context, int fd)
{
    (void)context;
    uint64_t rings;
    return read(fd, &rings, sizeof(rings)) < 0 ? -errno : 0;
}
#else
int mly_sys_notify_open(void *context)
{
    (void)context;
    return -ENOSYS;
}

int mly_sys_notify_add(void *context, int fd, int dir_fd)
{
    (void)context;
    (void)fd;
    (void)dir_fd;
    return -ENOSYS;
}

int mly_sys_notify_remove(void *context, int fd, int watch)
{
    (void)context;
    (void)fd;
    (void)watch;
    return -ENOSYS;
}

int64_t mly_sys_notify_read(void *context, int fd, void *out, size_t bytes)
{
    (void)context;
    (void)fd;
    (void)out;
    (void)bytes;
    return -ENOSYS;
}

int mly_sys_bell_open(void *context)
{
    (void)context;
    return -ENOSYS;
}

int mly_sys_bell_ring(void *context, int fd)
{
    (void)context;
    (void)fd;
    return -ENOSYS;
}

int mly_sys_bell_hush(void *context, int fd)
{
    (void)context;
    (void)fd;
    return -ENOSYS;
}
#endif
