/* The part of the table's production side that has a file of its own (env_events.c). */
#ifndef MLY_OS_ENV_INT_H
#define MLY_OS_ENV_INT_H

#include <stddef.h>
#include <stdint.h>

int mly_sys_notify_open(void *context);
int mly_sys_notify_add(void *context, int fd, int dir_fd);
int mly_sys_notify_remove(void *context, int fd, int watch);
int64_t mly_sys_notify_read(void *context, int fd, void *out, size_t bytes);
int mly_sys_bell_open(void *context);
int mly_sys_bell_ring(void *context, int fd);
int mly_sys_bell_hush(void *context, int fd);

#endif
