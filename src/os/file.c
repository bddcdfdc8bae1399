/* Table calls become operations: EINTR is retried, short transfers are continued, errors get the
 * name of the thing. */
#include "os/file.h"

#include "os/maps.h"

#include <errno.h>

/* More than this at once is refused by some kernels. */
#define TRANSFER_BYTES_MAX ((size_t)1 << 30)

enum mly_err mly_file_open(const struct mly_env *env, int dir_fd, const char *path, uint32_t flags,
                           struct mly_file *out, struct mly_error *err)
{
    int fd;
    do {
        fd = env->open(env->context, dir_fd, path, flags);
    } while (fd == -EINTR);
    if (fd < 0) return mly_fail_errno(err, MLY_ERR_IO, -fd, "cannot open %s", path);
    *out = (struct mly_file){env, fd};
    return MLY_OK;
}

void mly_file_close(struct mly_file *file)
{
    if (file->fd < 0) return;
    /* Never retried: after EINTR the descriptor is gone, and its number may be another file's. */
    (void)file->env->close(file->env->context, file->fd);
    file->fd = -1;
}

enum mly_err mly_file_info(const struct mly_file *file, struct mly_file_info *out,
                           struct mly_error *err)
{
    int result = file->env->info(file->env->context, file->fd, out);
    if (result < 0) {
        return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot look at an open file");
    }
    return MLY_OK;
}

/* Reads up to bytes; *done is less only at the end of the file. */
static enum mly_err read_up_to(const struct mly_file *file, void *out, size_t bytes,
                               uint64_t offset, size_t *done, struct mly_error *err)
{
    uint8_t *to = out;
    *done = 0;
    while (*done < bytes) {
        size_t part = bytes - *done;
        if (part > TRANSFER_BYTES_MAX) part = TRANSFER_BYTES_MAX;
        int64_t got =
            file->env->pread(file->env->context, file->fd, to + *done, part, offset + *done);
        if (got == -EINTR) continue;
        if (got < 0) {
            return mly_fail_errno(err, MLY_ERR_IO, (int)-got, "cannot read %zu bytes at %llu", part,
                                  (unsigned long long)(offset + *done));
        }
        if (got == 0) break;
        *done += (size_t)got;
    }
    return MLY_OK;
}

enum mly_err mly_file_read(const struct mly_file *file, void *out, size_t bytes, uint64_t offset,
                           struct mly_error *err)
{
    size_t done;
    MLY_TRY(read_up_to(file, out, bytes, offset, &done, err));
    if (done < bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT, "file ends at %llu, %zu bytes at %llu were expected",
                        (unsigned long long)(offset + done), bytes, (unsigned long long)offset);
    }
    return MLY_OK;
}

/* At the ceiling of a buffer: a file that grew meanwhile must not be taken for one that fits. */
static enum mly_err check_end(const struct mly_file *file, uint64_t offset, struct mly_error *err)
{
    uint8_t next;
    size_t done;
    MLY_TRY(read_up_to(file, &next, 1, offset, &done, err));
    if (done == 0) return MLY_OK;
    return mly_fail(err, MLY_ERR_LIMIT, "file has more than %llu bytes, the limit",
                    (unsigned long long)offset);
}

enum mly_err mly_file_read_all(const struct mly_file *file, struct mly_bytes *out,
                               struct mly_error *err)
{
    struct mly_file_info info;
    MLY_TRY(mly_file_info(file, &info, err));
    /* One byte more than its size: a file that grows meanwhile is then seen to. */
    uint64_t expected = info.bytes + 1;
    if (expected > SIZE_MAX || (size_t)info.bytes > out->bytes_max - out->bytes) {
        return mly_fail(err, MLY_ERR_LIMIT, "file has %llu bytes, limit is %zu",
                        (unsigned long long)info.bytes, out->bytes_max - out->bytes);
    }
    uint64_t offset = 0;
    for (;;) {
        size_t room = out->bytes_max - out->bytes;
        size_t part = (size_t)(expected > offset ? expected - offset : 65536);
        if (part > room) part = room;
        if (part == 0) return check_end(file, offset, err);
        MLY_TRY(mly_bytes_reserve(out, part, err));
        size_t done;
        MLY_TRY(read_up_to(file, out->data + out->bytes, part, offset, &done, err));
        out->bytes += done;
        offset += done;
        if (done < part) return MLY_OK;
    }
}

enum mly_err mly_file_write(const struct mly_file *file, const void *data, size_t bytes,
                            uint64_t offset, struct mly_error *err)
{
    const uint8_t *from = data;
    size_t done = 0;
    while (done < bytes) {
        size_t part = bytes - done;
        if (part > TRANSFER_BYTES_MAX) part = TRANSFER_BYTES_MAX;
        int64_t put =
            file->env->pwrite(file->env->context, file->fd, from + done, part, offset + done);
        if (put == -EINTR) continue;
        if (put == 0) put = -ENOSPC; /* no progress and no error: treat as full, never spin */
        if (put < 0) {
            return mly_fail_errno(err, MLY_ERR_IO, (int)-put, "cannot write %zu bytes at %llu",
                                  part, (unsigned long long)(offset + done));
        }
        done += (size_t)put;
    }
    return MLY_OK;
}

void mly_file_write_back(const struct mly_file *file, uint64_t offset, uint64_t bytes)
{
    if (bytes > 0) (void)file->env->write_back(file->env->context, file->fd, offset, bytes);
}

enum mly_err mly_file_sync(const struct mly_file *file, struct mly_error *err)
{
    int result;
    do {
        result = file->env->sync_data(file->env->context, file->fd);
    } while (result == -EINTR);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot sync a file");
    return MLY_OK;
}

enum mly_err mly_file_truncate(const struct mly_file *file, uint64_t bytes, struct mly_error *err)
{
    int result;
    do {
        result = file->env->truncate(file->env->context, file->fd, bytes);
    } while (result == -EINTR);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot cut a file off");
    return MLY_OK;
}

enum mly_err mly_file_allocate(const struct mly_file *file, uint64_t offset, uint64_t bytes,
                               struct mly_error *err)
{
    static const uint8_t zeros[65536];
    int result;
    do {
        result = file->env->allocate(file->env->context, file->fd, offset, bytes);
    } while (result == -EINTR);
    if (result == -EOPNOTSUPP || result == -ENOSYS) {
        for (uint64_t done = 0; done < bytes; done += sizeof(zeros)) {
            uint64_t part = bytes - done < sizeof(zeros) ? bytes - done : sizeof(zeros);
            MLY_TRY(mly_file_write(file, zeros, (size_t)part, offset + done, err));
        }
        return MLY_OK;
    }
    if (result < 0) {
        return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot get room for %llu bytes",
                              (unsigned long long)bytes);
    }
    return MLY_OK;
}

static enum mly_err copy_file(const struct mly_file *file, const char *path, size_t bytes,
                              const void **out, struct mly_error *err)
{
    uint8_t *copy = mly_mem_alloc_aligned(file->env->mem, bytes);
    if (copy == NULL) return mly_fail_nomem(err, bytes);
    enum mly_err rc = mly_file_read(file, copy, bytes, 0, err);
    if (rc != MLY_OK) {
        mly_mem_free(file->env->mem, copy);
        return mly_fail_in(err, rc, "%s", path);
    }
    *out = copy;
    return MLY_OK;
}

enum mly_err mly_file_map(const struct mly_env *env, int dir_fd, const char *path,
                          struct mly_map *out, struct mly_error *err)
{
    return mly_file_map_or_copy(env, dir_fd, path, 0, out, err);
}

enum mly_err mly_file_map_or_copy(const struct mly_env *env, int dir_fd, const char *path,
                                  size_t copy_below, struct mly_map *out, struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_file_info info;
    const void *data = NULL;
    /* Not blocking: a pipe in a model's place would be waited for until somebody writes to it. */
    enum mly_err rc = mly_file_open(
        env, dir_fd, path, MLY_OPEN_READ | MLY_OPEN_FOLLOW | MLY_OPEN_NONBLOCK, &file, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_info(&file, &info, err);
    if (rc != MLY_OK) goto done;
    if (info.kind != MLY_KIND_FILE) {
        rc = mly_fail(err, MLY_ERR_INVAL, "%s is not a regular file", path);
        goto done;
    }
    if (info.bytes > SIZE_MAX / 2) {
        rc = mly_fail(err, MLY_ERR_LIMIT, "%s has %llu bytes, too many to map", path,
                      (unsigned long long)info.bytes);
        goto done;
    }
    bool copied = info.bytes > 0 && info.bytes < copy_below;
    if (copied) {
        rc = copy_file(&file, path, (size_t)info.bytes, &data, err);
        if (rc != MLY_OK) goto done;
    } else if (info.bytes > 0) {
        int result = env->map(env->context, file.fd, (size_t)info.bytes, &data);
        if (result < 0) {
            rc = mly_fail_errno(err, MLY_ERR_IO, -result, "cannot map %s", path);
            goto done;
        }
        if (env->maps != NULL) rc = mly_maps_add(env->maps, data, (size_t)info.bytes, err);
        if (rc != MLY_OK) {
            (void)env->unmap(env->context, data, (size_t)info.bytes);
            goto done;
        }
    }
    *out = (struct mly_map){env, data, (size_t)info.bytes, copied};
done:
    mly_file_close(&file);
    return rc;
}

void mly_map_advise(const struct mly_map *map, size_t offset, size_t bytes, enum mly_advice advice)
{
    if (map->data == NULL || map->copied || bytes == 0) return;
    (void)map->env->advise(map->env->context, map->data + offset, bytes, advice);
}

void mly_map_close(struct mly_map *map)
{
    if (map->copied) {
        mly_mem_free(map->env->mem, (void *)(uintptr_t)map->data);
    } else if (map->data != NULL) {
        if (map->env->maps != NULL) mly_maps_remove(map->env->maps, map->data);
        (void)map->env->unmap(map->env->context, map->data, map->bytes);
    }
    map->copied = false;
    map->data = NULL;
    map->bytes = 0;
}

enum mly_err mly_file_create(const struct mly_env *env, int dir_fd, const char *path,
                             const void *data, size_t bytes, struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    MLY_TRY(mly_file_open(env, dir_fd, path, MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL,
                          &file, err));
    enum mly_err rc = mly_file_write(&file, data, bytes, 0, err);
    if (rc == MLY_OK) rc = mly_file_sync(&file, err);
    mly_file_close(&file);
    if (rc != MLY_OK) {
        (void)env->unlink(env->context, dir_fd, path);
        return mly_fail_in(err, rc, "%s", path);
    }
    return MLY_OK;
}

enum mly_err mly_file_info_at(const struct mly_env *env, int dir_fd, const char *path, bool follow,
                              struct mly_file_info *out, struct mly_error *err)
{
    int result;
    do {
        result = env->info_at(env->context, dir_fd, path, follow, out);
    } while (result == -EINTR);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot look at %s", path);
    return MLY_OK;
}

enum mly_err mly_file_exists(const struct mly_env *env, int dir_fd, const char *path, bool *out,
                             struct mly_error *err)
{
    struct mly_file_info info;
    struct mly_error ignored;
    enum mly_err rc =
        mly_file_info_at(env, dir_fd, path, true, &info, err != NULL ? err : &ignored);
    if (rc == MLY_OK || rc == MLY_ERR_NOTFOUND) {
        *out = rc == MLY_OK;
        return MLY_OK;
    }
    return rc;
}

bool mly_file_is_missing(int result)
{
    return result == -ENOENT || result == -ENOTDIR;
}

enum mly_err mly_file_link(const struct mly_env *env, int dir_fd, const char *from, const char *to,
                           struct mly_error *err)
{
    int result = env->link(env->context, dir_fd, from, to);
    if (result == -EEXIST) return mly_fail(err, MLY_ERR_CONFLICT, "%s exists already", to);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot link %s", to);
    return MLY_OK;
}

enum mly_err mly_file_symlink(const struct mly_env *env, const char *target, int dir_fd,
                              const char *path, struct mly_error *err)
{
    int result = env->symlink(env->context, target, dir_fd, path);
    if (result == -EEXIST) return mly_fail(err, MLY_ERR_CONFLICT, "%s exists already", path);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot link %s", path);
    return MLY_OK;
}

enum mly_err mly_file_rename(const struct mly_env *env, int dir_fd, const char *from,
                             const char *to, struct mly_error *err)
{
    int result = env->rename(env->context, dir_fd, from, to);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot rename to %s", to);
    return MLY_OK;
}

enum mly_err mly_file_unlink(const struct mly_env *env, int dir_fd, const char *path,
                             struct mly_error *err)
{
    int result = env->unlink(env->context, dir_fd, path);
    if (result < 0 && result != -ENOENT) {
        return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot remove %s", path);
    }
    return MLY_OK;
}
