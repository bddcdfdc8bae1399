/* Files: the table's calls with retries after EINTR, short transfers continued, errors explained.
 *
 * Paths    dir_fd MLY_AT_CWD or a directory's descriptor; messages use the path as it was given.
 * Owns     a struct mly_file holds a descriptor, a struct mly_map a mapping: both closed by their
 *          close.
 * Errors   IO with the system's text, NOTFOUND where a name is missing, NOMEM.
 */
#ifndef MLY_OS_FILE_H
#define MLY_OS_FILE_H

#include "base/bytes.h"
#include "base/err.h"
#include "os/env.h"

struct mly_file {
    const struct mly_env *env;
    int fd; /* -1: closed */
};
#define MLY_FILE_CLOSED ((struct mly_file){NULL, -1})

/* A file that is read in place. data is NULL where the file is empty. It must never be truncated by
 * anybody while it is mapped: ours are only written before they get their name, and unlinked after.
 */
struct mly_map {
    const struct mly_env *env;
    const uint8_t *data;
    size_t bytes;
    bool copied; /* data is memory of env->mem */
};

MLY_MUST_USE enum mly_err mly_file_open(const struct mly_env *env, int dir_fd, const char *path,
                                        uint32_t flags, struct mly_file *out,
                                        struct mly_error *err);
/* Closing a closed file does nothing. A failing close of a file that was synced loses nothing and
 * is not reported. */
void mly_file_close(struct mly_file *file);
MLY_MUST_USE enum mly_err mly_file_info(const struct mly_file *file, struct mly_file_info *out,
                                        struct mly_error *err);
/* Exactly bytes; CORRUPT where the file ends before. */
MLY_MUST_USE enum mly_err mly_file_read(const struct mly_file *file, void *out, size_t bytes,
                                        uint64_t offset, struct mly_error *err);
/* Appends the whole file to out; LIMIT where out's ceiling would be passed. */
MLY_MUST_USE enum mly_err mly_file_read_all(const struct mly_file *file, struct mly_bytes *out,
                                            struct mly_error *err);
MLY_MUST_USE enum mly_err mly_file_write(const struct mly_file *file, const void *data,
                                         size_t bytes, uint64_t offset, struct mly_error *err);
/* Lets the disk begin with what was written there, which is to be synced soon. */
void mly_file_write_back(const struct mly_file *file, uint64_t offset, uint64_t bytes);
/* Data and size are on disk when it returns OK. After a failure nothing may be concluded about what
 * is. */
MLY_MUST_USE enum mly_err mly_file_sync(const struct mly_file *file, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_file_truncate(const struct mly_file *file, uint64_t bytes,
                                            struct mly_error *err);
/* Room on the disk for bytes from offset on, which reads as zeros: writing there later cannot fail
 * for want of it. offset is at or behind the end. Where the file system has no call for it, zeros
 * are written. */
MLY_MUST_USE enum mly_err mly_file_allocate(const struct mly_file *file, uint64_t offset,
                                            uint64_t bytes, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_file_map(const struct mly_env *env, int dir_fd, const char *path,
                                       struct mly_map *out, struct mly_error *err);
/* The same, but a file of less than copy_below bytes is read into memory: a process may have some
 * 65,000 mappings and no more, and each takes whole pages. */
MLY_MUST_USE enum mly_err mly_file_map_or_copy(const struct mly_env *env, int dir_fd,
                                               const char *path, size_t copy_below,
                                               struct mly_map *out, struct mly_error *err);
void mly_map_close(struct mly_map *map);
/* How bytes from offset on are going to be read. Advice only: what fails is not reported. */
void mly_map_advise(const struct mly_map *map, size_t offset, size_t bytes, enum mly_advice advice);

/* Writes data to path (which must not exist) and syncs it; on failure no file of that name is left
 * where it can be helped. The directory's name for it is durable only after mly_dir_sync. */
MLY_MUST_USE enum mly_err mly_file_create(const struct mly_env *env, int dir_fd, const char *path,
                                          const void *data, size_t bytes, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_file_info_at(const struct mly_env *env, int dir_fd, const char *path,
                                           bool follow, struct mly_file_info *out,
                                           struct mly_error *err);
MLY_MUST_USE enum mly_err mly_file_exists(const struct mly_env *env, int dir_fd, const char *path,
                                          bool *out, struct mly_error *err);
/* True where a result of the table says that there is no such name: it is missing, or what should
 * be a folder above it is none. Every other failure leaves open whether it is there. */
bool mly_file_is_missing(int result);
/* CONFLICT where the new name exists. */
MLY_MUST_USE enum mly_err mly_file_link(const struct mly_env *env, int dir_fd, const char *from,
                                        const char *to, struct mly_error *err);
/* A symbolic link to target, as it is; CONFLICT where path exists. */
MLY_MUST_USE enum mly_err mly_file_symlink(const struct mly_env *env, const char *target,
                                           int dir_fd, const char *path, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_file_rename(const struct mly_env *env, int dir_fd, const char *from,
                                          const char *to, struct mly_error *err);
/* A name that is missing already is fine. */
MLY_MUST_USE enum mly_err mly_file_unlink(const struct mly_env *env, int dir_fd, const char *path,
                                          struct mly_error *err);

#endif
