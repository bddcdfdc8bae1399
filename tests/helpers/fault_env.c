/* Each function: count, fail if it is the one, else hand on to the real system. Closing never fails
 * for real, since a descriptor that is not closed would only make the test leak. */
#include "fault_env.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct mly_env *real(void)
{
    return mly_env_system();
}

/* 0, or the -errno that this call must give. */
static int next_fault(struct fault_env *fault, const char *name, bool may_interrupt)
{
    if (may_interrupt && atomic_load(&fault->interrupt) &&
        atomic_fetch_add(&fault->interrupts, 1) % 2 == 0) {
        return -EINTR;
    }
    uint64_t call = atomic_fetch_add(&fault->calls, 1) + 1;
    uint64_t fail_at = atomic_load(&fault->fail_at);
    if (fail_at == 0) return 0;
    if (call == fail_at && fault->kill) raise(SIGKILL);
    if (call == fail_at) fault->failed_call = name;
    bool now = call == fail_at || (call > fail_at && atomic_load(&fault->fail_forever));
    return now ? -fault->fail_errno : 0;
}

#define FAULT(name, may_interrupt)                                                                 \
    struct fault_env *fault = context;                                                             \
    int fault_result = next_fault(fault, name, may_interrupt);                                     \
    if (fault_result != 0) return fault_result

static int counted(struct fault_env *fault, int result)
{
    if (result >= 0) atomic_fetch_add(&fault->open_count, 1);
    return result;
}

static int fault_open(void *context, int dir_fd, const char *path, uint32_t flags)
{
    FAULT("open", true);
    return counted(fault, real()->open(NULL, dir_fd, path, flags));
}

static int fault_close(void *context, int fd)
{
    struct fault_env *fault = context;
    int result = next_fault(fault, "close", false);
    atomic_fetch_sub(&fault->open_count, 1);
    int closed = real()->close(NULL, fd);
    return result != 0 ? result : closed;
}

static int64_t fault_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    FAULT("pread", true);
    if (fault->short_transfers && bytes > 7) bytes = 7;
    return real()->pread(NULL, fd, out, bytes, offset);
}

static int64_t fault_pwrite(void *context, int fd, const void *data, size_t bytes, uint64_t offset)
{
    FAULT("pwrite", true);
    if (fault->short_transfers && bytes > 7) bytes = 7;
    return real()->pwrite(NULL, fd, data, bytes, offset);
}

static int fault_sync_data(void *context, int fd)
{
    FAULT("sync_data", true);
    return real()->sync_data(NULL, fd);
}

static int fault_sync_dir(void *context, int fd)
{
    FAULT("sync_dir", true);
    return real()->sync_dir(NULL, fd);
}

static int fault_truncate(void *context, int fd, uint64_t bytes)
{
    FAULT("truncate", false);
    return real()->truncate(NULL, fd, bytes);
}

/* A hint: that it always fails must change nothing. */
static int fault_write_back(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    (void)context;
    (void)fd;
    (void)offset;
    (void)bytes;
    return -EIO;
}

static int fault_allocate(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    FAULT("allocate", true);
    if (fault->no_allocate) return -EOPNOTSUPP;
    return real()->allocate(NULL, fd, offset, bytes);
}

static int fault_info(void *context, int fd, struct mly_file_info *out)
{
    FAULT("info", false);
    return real()->info(NULL, fd, out);
}

static int fault_map(void *context, int fd, size_t bytes, const void **out)
{
    FAULT("map", false);
    return counted(fault, real()->map(NULL, fd, bytes, out));
}

static int fault_unmap(void *context, const void *map, size_t bytes)
{
    struct fault_env *fault = context;
    atomic_fetch_sub(&fault->open_count, 1);
    return real()->unmap(NULL, map, bytes);
}

/* Advice that fails is not reported, so it is not failed. */
static int fault_advise(void *context, const void *at, size_t bytes, enum mly_advice advice)
{
    (void)context;
    return real()->advise(NULL, at, bytes, advice);
}

static int fault_notify_open(void *context)
{
    FAULT("notify_open", false);
    return counted(fault, real()->notify_open(NULL));
}

static int fault_notify_add(void *context, int fd, int dir_fd)
{
    FAULT("notify_add", false);
    return real()->notify_add(NULL, fd, dir_fd);
}

static int64_t fault_notify_read(void *context, int fd, void *out, size_t bytes)
{
    FAULT("notify_read", true);
    return real()->notify_read(NULL, fd, out, bytes);
}

static int fault_bell_open(void *context)
{
    FAULT("bell_open", false);
    return counted(fault, real()->bell_open(NULL));
}

/* One that cannot be rung or hushed is not heard of. */
static int fault_bell_ring(void *context, int fd)
{
    (void)context;
    return real()->bell_ring(NULL, fd);
}

static int fault_bell_hush(void *context, int fd)
{
    (void)context;
    return real()->bell_hush(NULL, fd);
}

static int fault_lock(void *context, int fd, uint64_t byte)
{
    FAULT("lock", true);
    return real()->lock(NULL, fd, byte);
}

static int fault_unlock(void *context, int fd, uint64_t byte)
{
    (void)context;
    return real()->unlock(NULL, fd, byte);
}

static int fault_lock_is_held(void *context, int fd, uint64_t byte)
{
    FAULT("lock_is_held", true);
    return real()->lock_is_held(NULL, fd, byte);
}

static int fault_info_at(void *context, int dir_fd, const char *path, bool follow,
                         struct mly_file_info *out)
{
    FAULT("info_at", true);
    return real()->info_at(NULL, dir_fd, path, follow, out);
}

static int fault_make_dir(void *context, int dir_fd, const char *path)
{
    FAULT("make_dir", false);
    return real()->make_dir(NULL, dir_fd, path);
}

static int fault_rename(void *context, int dir_fd, const char *from, const char *to)
{
    FAULT("rename", false);
    return real()->rename(NULL, dir_fd, from, to);
}

static int fault_link(void *context, int dir_fd, const char *from, const char *to)
{
    FAULT("link", false);
    return real()->link(NULL, dir_fd, from, to);
}

static int fault_symlink(void *context, const char *target, int dir_fd, const char *path)
{
    FAULT("symlink", false);
    return real()->symlink(NULL, target, dir_fd, path);
}

static int fault_unlink(void *context, int dir_fd, const char *path)
{
    FAULT("unlink", false);
    return real()->unlink(NULL, dir_fd, path);
}

static int fault_remove_dir(void *context, int dir_fd, const char *path)
{
    FAULT("remove_dir", false);
    return real()->remove_dir(NULL, dir_fd, path);
}

static int64_t fault_real_path(void *context, const char *path, char *out, size_t out_bytes)
{
    FAULT("real_path", false);
    return real()->real_path(NULL, path, out, out_bytes);
}

static int fault_file_system(void *context, const char *path, uint32_t *out)
{
    FAULT("file_system", true);
    *out = fault->file_system;
    return fault->file_system != 0 ? 0 : real()->file_system(NULL, path, out);
}

static int fault_dir_open(void *context, int dir_fd, const char *path, struct mly_dir_stream **out)
{
    FAULT("dir_open", true);
    return counted(fault, real()->dir_open(NULL, dir_fd, path, out));
}

static int fault_dir_next(void *context, struct mly_dir_stream *stream, const char **name)
{
    FAULT("dir_next", false);
    return real()->dir_next(NULL, stream, name);
}

static int fault_dir_fd(void *context, struct mly_dir_stream *stream)
{
    (void)context;
    return real()->dir_fd(NULL, stream);
}

static int fault_dir_close(void *context, struct mly_dir_stream *stream)
{
    struct fault_env *fault = context;
    atomic_fetch_sub(&fault->open_count, 1);
    return real()->dir_close(NULL, stream);
}

static int fault_random(void *context, void *out, size_t bytes)
{
    FAULT("random", true);
    return real()->random(NULL, out, bytes);
}

static int fault_thread_start(void *context, void *(*run)(void *), void *argument, uint64_t *out)
{
    FAULT("thread_start", false);
    return real()->thread_start(NULL, run, argument, out);
}

static int fault_library_open(void *context, const char *name, void **out, char *why,
                              size_t why_bytes)
{
    struct fault_env *fault = context;
    int result = next_fault(fault, "library_open", false);
    if (result != 0) {
        (void)snprintf(why, why_bytes, "the test says no");
        return result;
    }
    return counted(fault, real()->library_open(NULL, name, out, why, why_bytes));
}

static void *fault_library_symbol(void *context, void *library, const char *symbol)
{
    struct fault_env *fault = context;
    if (next_fault(fault, "library_symbol", false) != 0) return NULL;
    return real()->library_symbol(NULL, library, symbol);
}

static int fault_library_close(void *context, void *library)
{
    struct fault_env *fault = context;
    atomic_fetch_sub(&fault->open_count, 1);
    return real()->library_close(NULL, library);
}

void fault_env_init(struct fault_env *fault)
{
    memset(fault, 0, sizeof(*fault));
    fault->env = *real();
    fault->env.mem = &fault->mem;
    fault->mem.tight = true;
    fault->env.context = fault;
    fault->env.open = fault_open;
    fault->env.close = fault_close;
    fault->env.pread = fault_pread;
    fault->env.pwrite = fault_pwrite;
    fault->env.sync_data = fault_sync_data;
    fault->env.sync_dir = fault_sync_dir;
    fault->env.truncate = fault_truncate;
    fault->env.write_back = fault_write_back;
    fault->env.allocate = fault_allocate;
    fault->env.info = fault_info;
    fault->env.map = fault_map;
    fault->env.unmap = fault_unmap;
    fault->env.advise = fault_advise;
    fault->env.notify_open = fault_notify_open;
    fault->env.notify_add = fault_notify_add;
    fault->env.notify_read = fault_notify_read;
    fault->env.bell_open = fault_bell_open;
    fault->env.bell_ring = fault_bell_ring;
    fault->env.bell_hush = fault_bell_hush;
    fault->env.lock = fault_lock;
    fault->env.unlock = fault_unlock;
    fault->env.lock_is_held = fault_lock_is_held;
    fault->env.info_at = fault_info_at;
    fault->env.make_dir = fault_make_dir;
    fault->env.rename = fault_rename;
    fault->env.link = fault_link;
    fault->env.symlink = fault_symlink;
    fault->env.unlink = fault_unlink;
    fault->env.remove_dir = fault_remove_dir;
    fault->env.real_path = fault_real_path;
    fault->env.file_system = fault_file_system;
    fault->env.dir_open = fault_dir_open;
    fault->env.dir_next = fault_dir_next;
    fault->env.dir_fd = fault_dir_fd;
    fault->env.dir_close = fault_dir_close;
    fault->env.random = fault_random;
    fault->env.thread_start = fault_thread_start;
    fault->env.library_open = fault_library_open;
    fault->env.library_symbol = fault_library_symbol;
    fault->env.library_close = fault_library_close;
    fault->fail_errno = EIO;
}

void fault_env_reset(struct fault_env *fault)
{
    atomic_store(&fault->calls, 0);
    atomic_store(&fault->fail_at, 0);
    atomic_store(&fault->fail_forever, false);
    atomic_store(&fault->interrupt, false);
    fault->short_transfers = false;
    fault->no_allocate = false;
    fault->failed_call = NULL;
    fault->fail_errno = EIO;
    atomic_store(&fault->mem.fail_at, 0);
    atomic_store(&fault->mem.calls, 0);
    atomic_store(&fault->mem.fail_forever, false);
}
