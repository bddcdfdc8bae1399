/* Directories: a new name is durable only when the directory that holds it is synced, so making one
 * syncs its parent. */
#include "os/dir.h"

#include "base/limits.h"

#include <errno.h>
#include <string.h>

/* The directory that holds path's last name, into out of MLY_PATH_BYTES_MAX. */
static enum mly_err parent_of(const char *path, char *out, struct mly_error *err)
{
    size_t bytes = strlen(path);
    if (bytes >= MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "path of %zu bytes, limit is %zu", bytes,
                        (size_t)MLY_PATH_BYTES_MAX - 1);
    }
    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    while (bytes > 0 && path[bytes - 1] != '/') {
        bytes--;
    }
    if (bytes == 0) {
        memcpy(out, ".", 2);
        return MLY_OK;
    }
    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    memcpy(out, path, bytes);
    out[bytes] = '\0';
    return MLY_OK;
}

enum mly_err mly_dir_make(const struct mly_env *env, int dir_fd, const char *path,
                          struct mly_error *err)
{
    char parent[MLY_PATH_BYTES_MAX];
    MLY_TRY(parent_of(path, parent, err));
    int result = env->make_dir(env->context, dir_fd, path);
    if (result == -EEXIST) {
        struct mly_file_info info;
        MLY_TRY(mly_file_info_at(env, dir_fd, path, true, &info, err));
        if (info.kind != MLY_KIND_DIR) {
            return mly_fail(err, MLY_ERR_INVAL, "%s is not a folder", path);
        }
    } else if (result < 0) {
        return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot make folder %s", path);
    }
    /* Also where it existed: whoever made it may have died before this. */
    return mly_dir_sync(env, dir_fd, parent, err);
}

enum mly_err mly_dir_remove(const struct mly_env *env, int dir_fd, const char *path,
                            struct mly_error *err)
{
    int result = env->remove_dir(env->context, dir_fd, path);
    if (result == 0 || result == -ENOENT || result == -ENOTEMPTY || result == -EEXIST) {
        return MLY_OK;
    }
    return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot remove folder %s", path);
}

enum mly_err mly_dir_make_all(const struct mly_env *env, const char *path, struct mly_error *err)
{
    char parent[MLY_PATH_BYTES_MAX];
    MLY_TRY(parent_of(path, parent, err));
    bool exists = true;
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
    if (exists) {
        struct mly_file_info info;
        MLY_TRY(mly_file_info_at(env, MLY_AT_CWD, path, true, &info, err));
        if (info.kind == MLY_KIND_DIR) return MLY_OK;
        return mly_fail(err, MLY_ERR_INVAL, "%s is not a folder", path);
    }
    /* Depth is bounded: each level shortens the path, which is below MLY_PATH_BYTES_MAX. */
    char prefix[MLY_PATH_BYTES_MAX];
    size_t bytes = strlen(path);
    for (size_t i = 1; i <= bytes; i++) {
        if (i < bytes && path[i] != '/') continue;
        if (path[i - 1] == '/') continue;
        memcpy(prefix, path, i);
        prefix[i] = '\0';
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, prefix, &exists, err));
        if (!exists) MLY_TRY(mly_dir_make(env, MLY_AT_CWD, prefix, err));
    }
    return MLY_OK;
}

enum mly_err mly_dir_sync(const struct mly_env *env, int dir_fd, const char *path,
                          struct mly_error *err)
{
    struct mly_file dir = MLY_FILE_CLOSED;
    MLY_TRY(mly_file_open(env, dir_fd, path, MLY_OPEN_READ | MLY_OPEN_DIR | MLY_OPEN_FOLLOW, &dir,
                          err));
    int result;
    do {
        result = env->sync_dir(env->context, dir.fd);
    } while (result == -EINTR);
    mly_file_close(&dir);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot sync folder %s", path);
    return MLY_OK;
}

enum mly_err mly_dir_real_path(const struct mly_env *env, const char *path, struct mly_bytes *out,
                               struct mly_error *err)
{
    char resolved[MLY_PATH_BYTES_MAX];
    int64_t bytes = env->real_path(env->context, path, resolved, sizeof(resolved));
    if (bytes < 0) return mly_fail_errno(err, MLY_ERR_IO, (int)-bytes, "cannot find %s", path);
    return mly_bytes_append(out, resolved, (size_t)bytes, err);
}

enum mly_err mly_dir_network_kind(const struct mly_env *env, const char *path, const char **out,
                                  struct mly_error *err)
{
    /* Numbers of Linux, which never change. FUSE may be a disk of this machine: nobody can tell. */
    static const struct {
        uint32_t number;
        const char *name;
    } kinds[] = {
        {0x6969, "NFS"},          {0x517b, "SMB"},
        {0xfe534d42, "SMB"},      {0xff534d42, "CIFS"},
        {0x01021997, "9P"},       {0x65735546, "FUSE"},
        {0x00c36400, "Ceph"},     {0x5346414f, "AFS"},
        {0x6b414653, "AFS"},      {0x73757245, "Coda"},
        {0x564c, "NCP"},          {0x01161970, "GFS2"},
        {0x7461636f, "OCFS2"},    {0x0bd00bd0, "Lustre"},
        {0x47504653, "GPFS"},     {0x19830326, "BeeGFS"},
        {0xaad7aaea, "PanFS"},    {0x786f4256, "VirtualBox's"},
        {0xbacbacbc, "VMware's"}, {0x7c7c6673, "Parallels'"},
    };
    uint32_t number = 0;
    char at[MLY_PATH_BYTES_MAX], above[MLY_PATH_BYTES_MAX];
    int result;
    *out = NULL;
    MLY_TRY(parent_of(path, above, err)); /* its length is checked */
    memcpy(at, path, strlen(path) + 1);
    while ((result = env->file_system(env->context, at, &number)) < 0) {
        if (result == -EINTR) continue;
        if (!mly_file_is_missing(result) || strcmp(at, above) == 0) break;
        memcpy(at, above, strlen(above) + 1);
        MLY_TRY(parent_of(at, above, err));
    }
    if (result == -ENOSYS) return MLY_OK;
    if (result < 0) {
        return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot tell the file system of %s", path);
    }
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (kinds[i].number == number) *out = kinds[i].name;
    }
    return MLY_OK;
}

enum mly_err mly_dir_open(const struct mly_env *env, int dir_fd, const char *path,
                          struct mly_dir *out, struct mly_error *err)
{
    struct mly_dir_stream *stream = NULL;
    int result;
    do {
        result = env->dir_open(env->context, dir_fd, path, &stream);
    } while (result == -EINTR);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot list folder %s", path);
    *out = (struct mly_dir){env, stream};
    return MLY_OK;
}

enum mly_err mly_dir_next(struct mly_dir *dir, const char **name, struct mly_error *err)
{
    *name = NULL;
    int result = dir->env->dir_next(dir->env->context, dir->stream, name);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot list a folder");
    if (result == 0) *name = NULL;
    return MLY_OK;
}

int mly_dir_fd(const struct mly_dir *dir)
{
    return dir->env->dir_fd(dir->env->context, dir->stream);
}

void mly_dir_close(struct mly_dir *dir)
{
    if (dir->stream != NULL) (void)dir->env->dir_close(dir->env->context, dir->stream);
    dir->stream = NULL;
}
