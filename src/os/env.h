/* The system table: every call to the system and every allocation goes through it, so that tests
 * can fail, cut and record each of them. Production's table (mly_env_system) calls the system
 * directly.
 *
 * Errors   the table's functions return 0 or more on success and -errno on failure; they neither
 *          retry nor explain. Code outside os/ uses file.h, dir.h, lock.h, pool.h and clock.h,
 *          which do both.
 * Threads  the functions may be called from any thread.
 */
#ifndef MLY_OS_ENV_H
#define MLY_OS_ENV_H

#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a part of a mapped file is going to be read: in no order, so that nothing is read besides;
 * soon, so that it is read now, beside whatever else is; or not for now, so that the process lets
 * go of its pages (the system may keep them). */
enum mly_advice { MLY_ADVICE_RANDOM, MLY_ADVICE_SOON, MLY_ADVICE_GONE };

enum mly_file_kind { MLY_KIND_FILE, MLY_KIND_DIR, MLY_KIND_LINK, MLY_KIND_OTHER };

struct mly_file_info {
    enum mly_file_kind kind;
    uint64_t device, inode, bytes;
    int64_t modified_ns, changed_ns;
    uint32_t mode; /* permission bits */
    uint32_t owner;
    uint64_t links; /* names that the file has; 0: not known */
};

/* How a file is opened; always with O_CLOEXEC and O_NOFOLLOW on the last name unless FOLLOW is set.
 */
#define MLY_OPEN_READ 1u
#define MLY_OPEN_WRITE 2u     /* and READ */
#define MLY_OPEN_CREATE 4u    /* mode 0600 */
#define MLY_OPEN_EXCL 8u      /* it must not exist */
#define MLY_OPEN_DIR 16u      /* it must be a directory */
#define MLY_OPEN_FOLLOW 32u   /* symbolic links */
#define MLY_OPEN_NONBLOCK 64u /* never wait for the other end of a FIFO */

#define MLY_AT_CWD (-100) /* dir_fd: names count from the working directory */

struct mly_dir_stream;
struct mly_maps;

struct mly_env {
    struct mly_mem *mem;
    struct mly_maps *maps; /* what of files is mapped through it (maps.h), or NULL */
    void *context;         /* given to every call below */
    /* the table that it was copied from with another mem, whose runtime it shares; NULL: none */
    const struct mly_env *origin;
    /* files */
    int (*open)(void *context, int dir_fd, const char *path, uint32_t flags);
    int (*close)(void *context, int fd);
    int64_t (*pread)(void *context, int fd, void *out, size_t bytes, uint64_t offset);
    int64_t (*pwrite)(void *context, int fd, const void *data, size_t bytes, uint64_t offset);
    int (*sync_data)(void *context, int fd); /* fdatasync: data and size */
    int (*sync_dir)(void *context, int fd);  /* fsync of a directory: its names */
    /* a hint, nothing is promised: what was written there may go to the disk at once, as it will be
     * synced soon; waits for nothing */
    int (*write_back)(void *context, int fd, uint64_t offset, uint64_t bytes);
    int (*truncate)(void *context, int fd, uint64_t bytes);
    /* room on the disk for bytes from offset on, zeros where nothing was written; the file grows
     * where it is shorter. -EOPNOTSUPP where the file system cannot */
    int (*allocate)(void *context, int fd, uint64_t offset, uint64_t bytes);
    int (*info)(void *context, int fd, struct mly_file_info *out);
    int (*map)(void *context, int fd, size_t bytes, const void **out); /* read-only, shared */
    int (*unmap)(void *context, const void *map, size_t bytes);
    int (*advise)(void *context, const void *at, size_t bytes, enum mly_advice advice);
    /* bytes of mapped files, of whatever mapping, in this process's memory; -ENOSYS: unknown */
    int64_t (*resident_files)(void *context);
    /* OFD lock of one byte, exclusive, without waiting: 0, or -EAGAIN where another holds it */
    int (*lock)(void *context, int fd, uint64_t byte);
    int (*unlock)(void *context, int fd, uint64_t byte);
    /* 1 where another descriptor holds that lock, else 0; takes nothing */
    int (*lock_is_held)(void *context, int fd, uint64_t byte);
    /* names */
    int (*info_at)(void *context, int dir_fd, const char *path, bool follow,
                   struct mly_file_info *out);
    int (*make_dir)(void *context, int dir_fd, const char *path); /* mode 0700 */
    int (*rename)(void *context, int dir_fd, const char *from, const char *to);
    int (*link)(void *context, int dir_fd, const char *from, const char *to);
    int (*symlink)(void *context, const char *target, int dir_fd, const char *path);
    int (*unlink)(void *context, int dir_fd, const char *path);
    int (*remove_dir)(void *context, int dir_fd, const char *path); /* an empty one */
    /* the absolute path without links, into out of out_bytes; its length */
    int64_t (*real_path)(void *context, const char *path, char *out, size_t out_bytes);
    /* the number by which the system tells kinds of file systems apart, of that which path is on;
     * -ENOSYS where it does not tell */
    int (*file_system)(void *context, const char *path, uint32_t *out);
    /* directories: entries come without "." and ".."; 1: *name is valid until the next call; 0: the
     * end */
    int (*dir_open)(void *context, int dir_fd, const char *path, struct mly_dir_stream **out);
    int (*dir_next)(void *context, struct mly_dir_stream *stream, const char **name);
    int (*dir_fd)(void *context, struct mly_dir_stream *stream);
    int (*dir_close)(void *context, struct mly_dir_stream *stream);
    /* changes in folders, as inotify(7) tells them; -ENOSYS where the system has no such thing. The
     * folder is an open one, so that its name cannot lead elsewhere meanwhile. */
    int (*notify_open)(void *context);                    /* a descriptor that never blocks */
    int (*notify_add)(void *context, int fd, int dir_fd); /* a number for the folder */
    int (*notify_remove)(void *context, int fd, int watch);
    int64_t (*notify_read)(void *context, int fd, void *out, size_t bytes); /* whole events */
    /* a descriptor of eventfd(2) that never blocks: rung, it can be read until it is hushed */
    int (*bell_open)(void *context);
    int (*bell_ring)(void *context, int fd);
    int (*bell_hush)(void *context, int fd);
    /* the rest */
    int64_t (*wall_ns)(void *context);      /* since 1970 */
    int64_t (*monotonic_ns)(void *context); /* since some moment */
    int (*sleep_ns)(void *context, int64_t ns);
    int (*random)(void *context, void *out, size_t bytes);
    int64_t (*pid)(void *context);
    int (*cpu_count)(void *context); /* cores this process may use: affinity and cgroup quota */
    const char *(*variable)(void *context, const char *name); /* getenv; NULL if unset */
    int (*thread_start)(void *context, void *(*run)(void *), void *argument, uint64_t *out);
    int (*thread_join)(void *context, uint64_t thread);
    /* shared libraries, by path or by a name that the system looks for; on failure the system's
     * reason is put into why */
    int (*library_open)(void *context, const char *name, void **out, char *why, size_t why_bytes);
    void *(*library_symbol)(void *context, void *library, const char *symbol); /* NULL: none */
    int (*library_close)(void *context, void *library);
};

/* The real system, with an allocator of its own, made once for the process. */
const struct mly_env *mly_env_system(void);

#endif
