/* In: bytes of inotify events. Out: one event after the other, in the terms of the header. */
#include "os/notify.h"

#include <errno.h>
#include <string.h>
#if defined(__linux__)
#include <sys/inotify.h>
#endif

#define BUFFER_BYTES ((size_t)64 << 10)

struct mly_notify {
    const struct mly_env *env;
    int fd;
    size_t start, end; /* of what was read and not given yet */
    uint8_t buffer[BUFFER_BYTES];
};

static enum mly_err fail_limit(int result, const char *what, const char *setting,
                               struct mly_error *err)
{
    if (result == -ENOSYS) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "this system does not tell of changes in folders");
    }
    if (result == -ENOSPC || result == -EMFILE) {
        return mly_fail(err, MLY_ERR_LIMIT, "the system watches no more %s (%s)", what, setting);
    }
    if (result == -ENOMEM) return mly_fail(err, MLY_ERR_NOMEM, "no memory to watch a folder");
    return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot watch a folder");
}

enum mly_err mly_notify_open(const struct mly_env *env, struct mly_notify **out,
                             struct mly_error *err)
{
    struct mly_notify *notify = mly_mem_array(env->mem, 1, sizeof(*notify));
    if (notify == NULL) return mly_fail_nomem(err, sizeof(*notify));
    notify->env = env;
    notify->fd = env->notify_open(env->context);
    if (notify->fd < 0) {
        enum mly_err rc = fail_limit(notify->fd, "programs", "fs.inotify.max_user_instances", err);
        mly_mem_free(env->mem, notify);
        return rc;
    }
    *out = notify;
    return MLY_OK;
}

void mly_notify_close(struct mly_notify *notify)
{
    if (notify == NULL) return;
    (void)notify->env->close(notify->env->context, notify->fd);
    mly_mem_free(notify->env->mem, notify);
}

int mly_notify_fd(const struct mly_notify *notify)
{
    return notify->fd;
}

enum mly_err mly_notify_add(struct mly_notify *notify, int dir_fd, int32_t *folder,
                            struct mly_error *err)
{
    int result = notify->env->notify_add(notify->env->context, notify->fd, dir_fd);
    if (result < 0) return fail_limit(result, "folders", "fs.inotify.max_user_watches", err);
    *folder = result;
    return MLY_OK;
}

void mly_notify_remove(struct mly_notify *notify, int32_t folder)
{
    (void)notify->env->notify_remove(notify->env->context, notify->fd, folder);
}

#if defined(__linux__)
static bool kind_of(uint32_t mask, enum mly_notify_kind *out)
{
    if ((mask & IN_Q_OVERFLOW) != 0) {
        *out = MLY_NOTIFY_LOST;
    } else if ((mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) != 0) {
        *out = MLY_NOTIFY_ENDED;
    } else if ((mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
        *out = MLY_NOTIFY_CAME;
    } else if ((mask & (IN_DELETE | IN_MOVED_FROM)) != 0) {
        *out = MLY_NOTIFY_WENT;
    } else if ((mask & IN_CLOSE_WRITE) != 0) {
        *out = MLY_NOTIFY_WRITTEN;
    } else if ((mask & (IN_MODIFY | IN_ATTRIB)) != 0) {
        *out = MLY_NOTIFY_CHANGED;
    } else {
        return false;
    }
    return true;
}

/* Takes one event out of the buffer; false where it is of no interest. */
static bool take(struct mly_notify *notify, struct mly_notify_event *out)
{
    struct inotify_event event;
    const uint8_t *at = notify->buffer + notify->start;
    size_t left = notify->end - notify->start;
    if (left < sizeof(event)) {
        notify->start = notify->end; /* the system gives whole events */
        return false;
    }
    memcpy(&event, at, sizeof(event));
    if (event.len > left - sizeof(event)) {
        notify->start = notify->end;
        return false;
    }
    notify->start += sizeof(event) + event.len;
    const char *name = (const char *)at + sizeof(event);
    const char *end = event.len == 0 ? NULL : memchr(name, '\0', event.len);
    *out = (struct mly_notify_event){
        .folder = event.wd,
        .is_folder = (event.mask & IN_ISDIR) != 0,
        .is_moved = (event.mask & (IN_MOVED_FROM | IN_MOVED_TO)) != 0,
        .name = {name, end != NULL ? (size_t)(end - name) : event.len},
    };
    return kind_of(event.mask, &out->kind);
}
#else
static bool take(struct mly_notify *notify, struct mly_notify_event *out)
{
    (void)out;
    notify->start = notify->end;
    return false;
}
#endif

enum mly_err mly_notify_next(struct mly_notify *notify, struct mly_notify_event *out, bool *found,
                             struct mly_error *err)
{
    const struct mly_env *env = notify->env;
    *found = false;
    for (;;) {
        while (notify->start < notify->end) {
            if (!take(notify, out)) continue;
            *found = true;
            return MLY_OK;
        }
        int64_t bytes = env->notify_read(env->context, notify->fd, notify->buffer, BUFFER_BYTES);
        if (bytes == -EINTR) continue;
        if (bytes == -EAGAIN || bytes == 0) return MLY_OK;
        if (bytes < 0) {
            return mly_fail_errno(err, MLY_ERR_IO, (int)-bytes, "cannot read changes in folders");
        }
        notify->start = 0;
        notify->end = (size_t)bytes;
    }
}
