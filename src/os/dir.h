/* Directories: making, syncing, listing. Errors as in file.h. */
#ifndef MLY_OS_DIR_H
#define MLY_OS_DIR_H

#include "os/file.h"

/* Makes the directory (mode 0700) and syncs the one above it; one that exists is fine. */
MLY_MUST_USE enum mly_err mly_dir_make(const struct mly_env *env, int dir_fd, const char *path,
                                       struct mly_error *err);
/* The same with all missing parents. */
MLY_MUST_USE enum mly_err mly_dir_make_all(const struct mly_env *env, const char *path,
                                           struct mly_error *err);
/* Removes an empty directory; one that is missing, or has something in it, is fine and stays. */
MLY_MUST_USE enum mly_err mly_dir_remove(const struct mly_env *env, int dir_fd, const char *path,
                                         struct mly_error *err);
/* Names that were made, linked or renamed in it are durable when it returns OK. */
MLY_MUST_USE enum mly_err mly_dir_sync(const struct mly_env *env, int dir_fd, const char *path,
                                       struct mly_error *err);
/* The absolute path without symbolic links; NOTFOUND where it does not exist. out is appended to.
 */
MLY_MUST_USE enum mly_err mly_dir_real_path(const struct mly_env *env, const char *path,
                                            struct mly_bytes *out, struct mly_error *err);
/* What kind of file system path, or the nearest folder above it that exists, is on, where it is one
 * over which locks, links and syncs are not what they are on a disk of this machine: "NFS"; NULL
 * where it is a plain one, or the system does not tell. */
MLY_MUST_USE enum mly_err mly_dir_network_kind(const struct mly_env *env, const char *path,
                                               const char **out, struct mly_error *err);

/* A directory being listed; entries without "." and "..", in no order. */
struct mly_dir {
    const struct mly_env *env;
    struct mly_dir_stream *stream; /* NULL: closed */
};
MLY_MUST_USE enum mly_err mly_dir_open(const struct mly_env *env, int dir_fd, const char *path,
                                       struct mly_dir *out, struct mly_error *err);
/* *name is NULL at the end, else borrowed until the next call. */
MLY_MUST_USE enum mly_err mly_dir_next(struct mly_dir *dir, const char **name,
                                       struct mly_error *err);
/* The descriptor that names inside count from; the stream's own. */
int mly_dir_fd(const struct mly_dir *dir);
void mly_dir_close(struct mly_dir *dir);

#endif
