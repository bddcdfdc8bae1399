/* The table's production side: each function is one call to Linux, with the error turned into
 * -errno. Nothing is retried or explained here, so that what tests replace is exactly what the
 * system does. */
#define _GNU_SOURCE
#include "os/env.h"
#include "os/env_int.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#if defined(__linux__)
#include <sys/vfs.h>
#endif
#include <time.h>
#include <unistd.h>

#define FILE_MODE 0600
#define DIR_MODE 0700

/* A struct mly_dir_stream is the system's DIR under another name. */
static int result_of(int result)
{
    return result < 0 ? -errno : result;
}

static int sys_open(void *context, int dir_fd, const char *path, uint32_t flags)
{
    (void)context;
    int native = O_CLOEXEC;
    native |= (flags & MLY_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & MLY_OPEN_CREATE) != 0) native |= O_CREAT;
    if ((flags & MLY_OPEN_EXCL) != 0) native |= O_EXCL;
    if ((flags & MLY_OPEN_DIR) != 0) native |= O_DIRECTORY;
    if ((flags & MLY_OPEN_FOLLOW) == 0) native |= O_NOFOLLOW;
    if ((flags & MLY_OPEN_NONBLOCK) != 0) native |= O_NONBLOCK | O_NOCTTY;
    return result_of(openat(dir_fd, path, native, FILE_MODE));
}

static int sys_close(void *context, int fd)
{
    (void)context;
    return result_of(close(fd));
}

static int64_t sys_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    (void)context;
    ssize_t done = pread(fd, out, bytes, (off_t)offset);
    return done < 0 ? -errno : done;
}

static int64_t sys_pwrite(void *context, int fd, const void *data, size_t bytes, uint64_t offset)
{
    (void)context;
    ssize_t done = pwrite(fd, data, bytes, (off_t)offset);
    return done < 0 ? -errno : done;
}

static int sys_sync_data(void *context, int fd)
{
    (void)context;
#if defined(__APPLE__)
    return result_of(fcntl(fd, F_FULLFSYNC)); /* fsync there leaves the drive's cache unwritten */
#else
    return result_of(fdatasync(fd));
#endif
}

static int sys_sync_dir(void *context, int fd)
{
    (void)context;
    return result_of(fsync(fd));
}

static int sys_write_back(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    (void)context;
#if defined(__linux__)
    return result_of(sync_file_range(fd, (off_t)offset, (off_t)bytes, SYNC_FILE_RANGE_WRITE));
#else
    (void)fd;
    (void)offset;
    (void)bytes;
    return 0;
#endif
}

static int sys_truncate(void *context, int fd, uint64_t bytes)
{
    (void)context;
    return result_of(ftruncate(fd, (off_t)bytes));
}

static int sys_allocate(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    (void)context;
#if defined(__linux__)
    return result_of(fallocate(fd, 0, (off_t)offset, (off_t)bytes));
#else
    (void)fd;
    (void)offset;
    (void)bytes;
    return -EOPNOTSUPP;
#endif
}

static int64_t ns_of(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fill_info(const struct stat *native, struct mly_file_info *out)
{
    *out = (struct mly_file_info){
        .kind = S_ISREG(native->st_mode)   ? MLY_KIND_FILE
                : S_ISDIR(native->st_mode) ? MLY_KIND_DIR
                : S_ISLNK(native->st_mode) ? MLY_KIND_LINK
                                           : MLY_KIND_OTHER,
        .device = (uint64_t)native->st_dev,
        .inode = (uint64_t)native->st_ino,
        .links = (uint64_t)native->st_nlink,
        .bytes = (uint64_t)native->st_size,
        .modified_ns = ns_of(native->st_mtim),
        .changed_ns = ns_of(native->st_ctim),
        .mode = (uint32_t)native->st_mode & 07777u,
        .owner = (uint32_t)native->st_uid,
    };
}

static int sys_info(void *context, int fd, struct mly_file_info *out)
{
    (void)context;
    struct stat native;
    if (fstat(fd, &native) != 0) return -errno;
    fill_info(&native, out);
    return 0;
}

static int sys_map(void *context, int fd, size_t bytes, const void **out)
{
    (void)context;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return -errno;
    *out = map;
    return 0;
}

/* Whole pages: at may lie anywhere in a mapping. */
static int sys_advise(void *context, const void *at, size_t bytes, enum mly_advice advice)
{
    (void)context;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)at / page * page;
    size_t whole = (uintptr_t)at + bytes - first;
    /* What POSIX calls so does nothing in glibc. */
    if (advice == MLY_ADVICE_GONE) return result_of(madvise((void *)first, whole, MADV_DONTNEED));
    int native = advice == MLY_ADVICE_RANDOM ? POSIX_MADV_RANDOM : POSIX_MADV_WILLNEED;
    return -posix_madvise((void *)first, whole, native);
}

static int64_t sys_resident_files(void *context)
{
    (void)context;
#if defined(__linux__)
    /* In pages: all, resident, and of those of files and shared memory. */
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t bytes = read(fd, text, sizeof(text) - 1);
    int failure = errno;
    close(fd);
    if (bytes <= 0) return bytes < 0 ? -failure : -EIO;
    text[bytes] = '\0';
    char *end = text;
    uint64_t pages = 0;
    for (int i = 0; i < 3; i++)
        pages = strtoull(end, &end, 10);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
#else
    return -ENOSYS;
#endif
}

static int sys_unmap(void *context, const void *map, size_t bytes)
{
    (void)context;
    return result_of(munmap((void *)(uintptr_t)map, bytes));
}

static int lock_byte(int fd, uint64_t byte, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    return result_of(fcntl(fd, F_OFD_SETLK, &lock));
}

static int sys_lock(void *context, int fd, uint64_t byte)
{
    (void)context;
    int result = lock_byte(fd, byte, F_WRLCK);
    return result == -EACCES ? -EAGAIN : result; /* POSIX allows either */
}

static int sys_unlock(void *context, int fd, uint64_t byte)
{
    (void)context;
    return lock_byte(fd, byte, F_UNLCK);
}

static int sys_lock_is_held(void *context, int fd, uint64_t byte)
{
    (void)context;
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return -errno;
    return lock.l_type != F_UNLCK;
}

static int sys_info_at(void *context, int dir_fd, const char *path, bool follow,
                       struct mly_file_info *out)
{
    (void)context;
    struct stat native;
    if (fstatat(dir_fd, path, &native, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    fill_info(&native, out);
    return 0;
}

static int sys_make_dir(void *context, int dir_fd, const char *path)
{
    (void)context;
    return result_of(mkdirat(dir_fd, path, DIR_MODE));
}

static int sys_rename(void *context, int dir_fd, const char *from, const char *to)
{
    (void)context;
    return result_of(renameat(dir_fd, from, dir_fd, to));
}

static int sys_link(void *context, int dir_fd, const char *from, const char *to)
{
    (void)context;
    return result_of(linkat(dir_fd, from, dir_fd, to, 0));
}

static int sys_symlink(void *context, const char *target, int dir_fd, const char *path)
{
    (void)context;
    return result_of(symlinkat(target, dir_fd, path));
}

static int sys_unlink(void *context, int dir_fd, const char *path)
{
    (void)context;
    return result_of(unlinkat(dir_fd, path, 0));
}

static int sys_remove_dir(void *context, int dir_fd, const char *path)
{
    (void)context;
    return result_of(unlinkat(dir_fd, path, AT_REMOVEDIR));
}

static int64_t sys_real_path(void *context, const char *path, char *out, size_t out_bytes)
{
    (void)context;
    char resolved[PATH_MAX]; /* its own buffer, so that it allocates nothing behind our back */
    if (realpath(path, resolved) == NULL) return -errno;
    size_t bytes = strlen(resolved);
    if (bytes >= out_bytes) return -ENAMETOOLONG;
    memcpy(out, resolved, bytes + 1);
    return (int64_t)bytes;
}

static int sys_dir_open(void *context, int dir_fd, const char *path, struct mly_dir_stream **out)
{
    (void)context;
    int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return -errno;
    DIR *native = fdopendir(fd);
    if (native == NULL) {
        int result = -errno;
        close(fd);
        return result;
    }
    *out = (struct mly_dir_stream *)native;
    return 0;
}

static int sys_dir_next(void *context, struct mly_dir_stream *stream, const char **name)
{
    (void)context;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir((DIR *)stream);
        if (entry == NULL) return -errno;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        *name = entry->d_name;
        return 1;
    }
}

static int sys_dir_fd(void *context, struct mly_dir_stream *stream)
{
    (void)context;
    return dirfd((DIR *)stream);
}

static int sys_dir_close(void *context, struct mly_dir_stream *stream)
{
    (void)context;
    return result_of(closedir((DIR *)stream));
}

static int64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return ns_of(time);
}

static int64_t sys_wall_ns(void *context)
{
    (void)context;
    return clock_ns(CLOCK_REALTIME);
}

static int64_t sys_monotonic_ns(void *context)
{
    (void)context;
    return clock_ns(CLOCK_MONOTONIC);
}

static int sys_sleep_ns(void *context, int64_t ns)
{
    (void)context;
    struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    return -clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

static int sys_random(void *context, void *out, size_t bytes)
{
    (void)context;
    ssize_t done = getrandom(out, bytes, 0);
    if (done < 0) return -errno;
    return (size_t)done == bytes ? 0 : -EINTR; /* up to 256 bytes come whole or not at all */
}

static int64_t sys_pid(void *context)
{
    (void)context;
    return getpid();
}

/* The cgroup's quota in whole cores, rounded up; 0 where there is none. Version 2's file, then
 * version 1's. */
static int quota_cores(void)
{
    long long quota = -1;
    long long period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file != NULL) {
        if (fscanf(file, "%lld %lld", &quota, &period) != 2) quota = -1;
        fclose(file);
    } else {
        file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
        if (file == NULL) return 0;
        if (fscanf(file, "%lld", &quota) != 1) quota = -1;
        fclose(file);
        file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
        if (file == NULL) return 0;
        if (fscanf(file, "%lld", &period) != 1) period = 0;
        fclose(file);
    }
    if (quota <= 0 || period <= 0) return 0;
    long long cores = (quota + period - 1) / period;
    return cores > 1024 ? 1024 : (int)cores;
}

static int sys_cpu_count(void *context)
{
    (void)context;
    cpu_set_t set;
    int cores = 0;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
    if (cores < 1) cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    int quota = quota_cores();
    if (quota > 0 && quota < cores) cores = quota;
    return cores < 1 ? 1 : cores;
}

static const char *sys_variable(void *context, const char *name)
{
    (void)context;
    return getenv(name);
}

static int sys_thread_start(void *context, void *(*run)(void *), void *argument, uint64_t *out)
{
    (void)context;
    /* Signals belong to the host's threads: Ctrl-C must reach Python's main thread. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_t thread;
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int result = pthread_create(&thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result != 0) return -result;
    *out = (uint64_t)thread;
    return 0;
}

static int sys_thread_join(void *context, uint64_t thread)
{
    (void)context;
    return -pthread_join((pthread_t)thread, NULL);
}

/* Stays loaded after its last close: libraries of C++ with threads of their own do not bear to be
 * taken away from under what they left behind. */
static int sys_library_open(void *context, const char *name, void **out, char *why,
                            size_t why_bytes)
{
    (void)context;
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL) {
        const char *text = dlerror();
        snprintf(why, why_bytes, "%s", text == NULL ? "no reason given" : text);
        return -ELIBACC;
    }
    *out = library;
    return 0;
}

static void *sys_library_symbol(void *context, void *library, const char *symbol)
{
    (void)context;
    return dlsym(library, symbol);
}

static int sys_library_close(void *context, void *library)
{
    (void)context;
    return dlclose(library) == 0 ? 0 : -EINVAL;
}

static int sys_file_system(void *context, const char *path, uint32_t *out)
{
    (void)context;
#if defined(__linux__)
    struct statfs native;
    if (statfs(path, &native) != 0) return -errno;
    *out = (uint32_t)native.f_type;
    return 0;
#else
    (void)path;
    (void)out;
    return -ENOSYS;
#endif
}

static struct mly_mem system_mem = MLY_MEM_INIT; /* counters only */

static const struct mly_env system_env = {
    .mem = &system_mem,
    .open = sys_open,
    .close = sys_close,
    .pread = sys_pread,
    .pwrite = sys_pwrite,
    .sync_data = sys_sync_data,
    .write_back = sys_write_back,
    .sync_dir = sys_sync_dir,
    .truncate = sys_truncate,
    .allocate = sys_allocate,
    .info = sys_info,
    .map = sys_map,
    .unmap = sys_unmap,
    .advise = sys_advise,
    .resident_files = sys_resident_files,
    .lock = sys_lock,
    .unlock = sys_unlock,
    .lock_is_held = sys_lock_is_held,
    .info_at = sys_info_at,
    .make_dir = sys_make_dir,
    .rename = sys_rename,
    .link = sys_link,
    .symlink = sys_symlink,
    .unlink = sys_unlink,
    .remove_dir = sys_remove_dir,
    .real_path = sys_real_path,
    .file_system = sys_file_system,
    .dir_open = sys_dir_open,
    .dir_next = sys_dir_next,
    .dir_fd = sys_dir_fd,
    .dir_close = sys_dir_close,
    .notify_open = mly_sys_notify_open,
    .notify_add = mly_sys_notify_add,
    .notify_remove = mly_sys_notify_remove,
    .notify_read = mly_sys_notify_read,
    .bell_open = mly_sys_bell_open,
    .bell_ring = mly_sys_bell_ring,
    .bell_hush = mly_sys_bell_hush,
    .wall_ns = sys_wall_ns,
    .monotonic_ns = sys_monotonic_ns,
    .sleep_ns = sys_sleep_ns,
    .random = sys_random,
    .pid = sys_pid,
    .cpu_count = sys_cpu_count,
    .variable = sys_variable,
    .thread_start = sys_thread_start,
    .thread_join = sys_thread_join,
    .library_open = sys_library_open,
    .library_symbol = sys_library_symbol,
    .library_close = sys_library_close,
};

const struct mly_env *mly_env_system(void)
{
    return &system_env;
}
