/* The disk is a table of inodes; every change is done to it at once and put on a list. A crash
 * starts from what the disk was at first and does the list again, leaving things out. */
#include "crash_env_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FD_FIRST 5000
#define FDS 4096
#define BYTES_MAX ((uint64_t)1 << 30)

/* Which descriptor is what: one table for all disks, as descriptors must not be mixed up. */
static struct {
    struct crash_env *crash;
    size_t inode;
} fds[FDS];
static pthread_mutex_t fd_mutex = PTHREAD_MUTEX_INITIALIZER;

struct crash_stream {
    struct crash_env *crash;
    int fd;
    char (*names)[NAME_BYTES];
    size_t count, at;
};

void *crash_need(void *block)
{
    if (block == NULL) abort();
    return block;
}

/* ---- the disk ---- */

size_t crash_new_inode(struct crash_env *crash, bool is_dir)
{
    if (crash->inode_count == crash->inode_capacity) {
        crash->inode_capacity = crash->inode_capacity * 2 + 16;
        crash->inodes =
            crash_need(realloc(crash->inodes, crash->inode_capacity * sizeof(crash->inodes[0])));
    }
    memset(&crash->inodes[crash->inode_count], 0, sizeof(crash->inodes[0]));
    crash->inodes[crash->inode_count].is_dir = is_dir;
    return crash->inode_count++;
}

void crash_set_size(struct crash_inode *inode, uint64_t bytes)
{
    if (bytes > BYTES_MAX) abort();
    if (bytes > inode->capacity) {
        inode->capacity = bytes < 4096 ? 4096 : bytes + bytes / 4;
        inode->data = crash_need(realloc(inode->data, inode->capacity));
    }
    if (bytes > inode->bytes) memset(inode->data + inode->bytes, 0, bytes - inode->bytes);
    inode->bytes = bytes;
}

static struct crash_entry *find_entry(const struct crash_inode *dir, const char *name)
{
    for (size_t i = 0; i < dir->entry_count; i++) {
        if (strcmp(dir->entries[i].name, name) == 0) return &dir->entries[i];
    }
    return NULL;
}

void crash_set_entry(struct crash_inode *dir, const char *name, size_t inode)
{
    struct crash_entry *entry = find_entry(dir, name);
    if (entry == NULL) {
        dir->entries =
            crash_need(realloc(dir->entries, (dir->entry_count + 1) * sizeof(dir->entries[0])));
        entry = &dir->entries[dir->entry_count++];
        snprintf(entry->name, NAME_BYTES, "%s", name);
    }
    entry->inode = inode;
}

static void remove_entry(struct crash_inode *dir, const char *name)
{
    struct crash_entry *entry = find_entry(dir, name);
    if (entry != NULL) *entry = dir->entries[--dir->entry_count];
}

/* Does the part of an operation that keep says: bit i of it for sector i of a write. */
void crash_apply(struct crash_env *crash, const struct crash_op *op, const uint8_t *keep)
{
    struct crash_inode *inode = &crash->inodes[op->inode];
    inode->changed++;
    switch (op->kind) {
    case OP_WRITE:
        for (uint64_t done = 0; done < op->bytes;) {
            uint64_t sector = (op->offset + done) / SECTOR;
            uint64_t part = (sector + 1) * SECTOR - (op->offset + done);
            uint64_t bit = sector - op->offset / SECTOR;
            if (part > op->bytes - done) part = op->bytes - done;
            if (keep == NULL || (keep[bit / 8] >> bit % 8 & 1) != 0) {
                uint64_t end = op->offset + done + part;
                if (end > inode->bytes) crash_set_size(inode, end);
                memcpy(inode->data + op->offset + done, op->data + done, part);
            }
            done += part;
        }
        break;
    case OP_SIZE:
        crash_set_size(inode, op->bytes);
        break;
    case OP_GROW:
        if (op->bytes > inode->bytes) crash_set_size(inode, op->bytes);
        break;
    case OP_ADD:
        crash_set_entry(inode, op->name, op->target);
        break;
    case OP_REMOVE:
        remove_entry(inode, op->name);
        break;
    case OP_MOVE:
        remove_entry(inode, op->name);
        crash_set_entry(inode, op->to, op->target);
        break;
    case OP_SYNC:
        break;
    }
}

static void record(struct crash_env *crash, struct crash_op op)
{
    if (crash->op_count == crash->op_capacity) {
        crash->op_capacity = crash->op_capacity * 2 + 64;
        crash->ops = crash_need(realloc(crash->ops, crash->op_capacity * sizeof(crash->ops[0])));
    }
    crash_apply(crash, &op, NULL);
    crash->ops[crash->op_count++] = op;
}

/* The inode of a path, or -errno; *dir and name are those of its last part. */
static int64_t look_up(struct crash_env *crash, int dir_fd, const char *path, size_t *dir,
                       char name[NAME_BYTES])
{
    size_t at = path[0] == '/' || dir_fd < FD_FIRST ? 0 : fds[dir_fd - FD_FIRST].inode;
    int64_t found = (int64_t)at;
    *dir = at;
    snprintf(name, NAME_BYTES, ".");
    while (*path != '\0') {
        size_t bytes = strcspn(path, "/");
        if (bytes > 0 && !(bytes == 1 && path[0] == '.')) {
            if (found < 0) return found == -ENOENT ? -ENOENT : found;
            if (!crash->inodes[found].is_dir) return -ENOTDIR;
            if (bytes >= NAME_BYTES) return -ENAMETOOLONG;
            *dir = (size_t)found;
            memcpy(name, path, bytes);
            name[bytes] = '\0';
            const struct crash_entry *entry = find_entry(&crash->inodes[*dir], name);
            found = entry == NULL ? -ENOENT : (int64_t)entry->inode;
            if (found < 0 && path[bytes + strspn(path + bytes, "/")] != '\0') return -ENOENT;
        }
        path += bytes;
        path += strspn(path, "/");
    }
    return found;
}

static int open_fd(struct crash_env *crash, size_t inode)
{
    pthread_mutex_lock(&fd_mutex);
    int fd = -EMFILE;
    for (int i = 0; i < FDS; i++) {
        if (fds[i].crash != NULL) continue;
        fds[i].crash = crash;
        fds[i].inode = inode;
        fd = FD_FIRST + i;
        break;
    }
    pthread_mutex_unlock(&fd_mutex);
    if (fd >= 0) crash->open_count++;
    return fd;
}

#define CRASH_ENTER()                                                                              \
    struct crash_env *crash = context;                                                             \
    pthread_mutex_lock(&crash->mutex)
#define CRASH_LEAVE(result)                                                                        \
    do {                                                                                           \
        pthread_mutex_unlock(&crash->mutex);                                                       \
        return (result);                                                                           \
    } while (0)

static size_t inode_of(const struct crash_env *crash, int fd)
{
    if (fd < FD_FIRST || fd >= FD_FIRST + FDS || fds[fd - FD_FIRST].crash != crash) abort();
    return fds[fd - FD_FIRST].inode;
}

/* ---- the table: files ---- */

static int crash_open(void *context, int dir_fd, const char *path, uint32_t flags)
{
    CRASH_ENTER();
    size_t dir;
    char name[NAME_BYTES];
    int64_t found = look_up(crash, dir_fd, path, &dir, name);
    if (found == -ENOENT && (flags & MLY_OPEN_CREATE) != 0) {
        /* A missing folder above it gives ENOENT too. */
        size_t above;
        char last[NAME_BYTES];
        const char *slash = strrchr(path, '/');
        char parent[4096];
        snprintf(parent, sizeof(parent), "%.*s", slash == NULL ? 0 : (int)(slash - path), path);
        if (slash != NULL && look_up(crash, dir_fd, parent, &above, last) < 0) CRASH_LEAVE(-ENOENT);
        struct crash_op op = {
            .kind = OP_ADD, .inode = dir, .target = crash_new_inode(crash, false)};
        snprintf(op.name, NAME_BYTES, "%s", name);
        record(crash, op);
        CRASH_LEAVE(open_fd(crash, op.target));
    }
    if (found < 0) CRASH_LEAVE((int)found);
    if ((flags & MLY_OPEN_EXCL) != 0) CRASH_LEAVE(-EEXIST);
    if ((flags & MLY_OPEN_DIR) != 0 && !crash->inodes[found].is_dir) CRASH_LEAVE(-ENOTDIR);
    CRASH_LEAVE(open_fd(crash, (size_t)found));
}

static int crash_close(void *context, int fd)
{
    CRASH_ENTER();
    struct crash_inode *inode = &crash->inodes[inode_of(crash, fd)];
    for (size_t i = 0; i < 4; i++) {
        if (inode->locked[i] == fd) inode->locked[i] = 0;
    }
    pthread_mutex_lock(&fd_mutex);
    fds[fd - FD_FIRST].crash = NULL;
    pthread_mutex_unlock(&fd_mutex);
    crash->open_count--;
    CRASH_LEAVE(0);
}

static int64_t crash_pread(void *context, int fd, void *out, size_t bytes, uint64_t offset)
{
    CRASH_ENTER();
    const struct crash_inode *inode = &crash->inodes[inode_of(crash, fd)];
    uint64_t there = inode->bytes > offset ? inode->bytes - offset : 0;
    if (there > bytes) there = bytes;
    if (there > 0) memcpy(out, inode->data + offset, there);
    CRASH_LEAVE((int64_t)there);
}

static int64_t crash_pwrite(void *context, int fd, const void *data, size_t bytes, uint64_t offset)
{
    CRASH_ENTER();
    struct crash_op op = {
        .kind = OP_WRITE, .inode = inode_of(crash, fd), .offset = offset, .bytes = bytes};
    op.data = crash_need(malloc(bytes == 0 ? 1 : bytes));
    memcpy(op.data, data, bytes);
    record(crash, op);
    CRASH_LEAVE((int64_t)bytes);
}

/* Has the inode changed since it was synced last? */
static bool has_work(const struct crash_env *crash, size_t inode)
{
    for (size_t i = crash->op_count; i > 0; i--) {
        if (crash->ops[i - 1].inode == inode) return crash->ops[i - 1].kind != OP_SYNC;
    }
    return false;
}

/* What no sync has covered yet none will. */
static void forsake(struct crash_env *crash, size_t inode)
{
    for (size_t i = crash->op_count; i > 0; i--) {
        if (crash->ops[i - 1].inode != inode) continue;
        if (crash->ops[i - 1].kind == OP_SYNC) break;
        crash->ops[i - 1].forsaken = true;
    }
}

static int sync_inode(void *context, int fd)
{
    CRASH_ENTER();
    crash->syncs++;
    struct crash_op op = {.kind = OP_SYNC, .inode = inode_of(crash, fd)};
    if (crash->fail_sync > 0 && crash->syncs >= crash->fail_sync &&
        crash->syncs < crash->fail_sync + crash->fail_count) {
        forsake(crash, op.inode);
        CRASH_LEAVE(-EIO);
    }
    if (crash->syncs == crash->skip_sync) {
        crash->skipped_work = has_work(crash, op.inode);
        crash->skipped_inode = op.inode;
        crash->skipped_moment = crash->op_count;
    } else {
        record(crash, op);
    }
    CRASH_LEAVE(0);
}

static int crash_sync_data(void *context, int fd)
{
    return sync_inode(context, fd);
}

static int crash_sync_dir(void *context, int fd)
{
    return sync_inode(context, fd);
}

static int crash_truncate(void *context, int fd, uint64_t bytes)
{
    CRASH_ENTER();
    record(crash, (struct crash_op){.kind = OP_SIZE, .inode = inode_of(crash, fd), .bytes = bytes});
    CRASH_LEAVE(0);
}

/* What reaches the disk without a sync is up to the states that are tried. */
static int crash_write_back(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    (void)context;
    (void)fd;
    (void)offset;
    (void)bytes;
    return 0;
}

static int crash_allocate(void *context, int fd, uint64_t offset, uint64_t bytes)
{
    CRASH_ENTER();
    struct crash_op op = {.kind = OP_GROW, .inode = inode_of(crash, fd), .bytes = offset + bytes};
    record(crash, op);
    CRASH_LEAVE(0);
}

static void fill_info(const struct crash_env *crash, size_t i, struct mly_file_info *out)
{
    const struct crash_inode *inode = &crash->inodes[i];
    *out = (struct mly_file_info){
        .kind = inode->is_dir ? MLY_KIND_DIR : MLY_KIND_FILE,
        .device = 77,
        .inode = i + 1,
        .bytes = inode->bytes,
        .modified_ns = 1000 + inode->changed,
        .changed_ns = 1000 + inode->changed,
        .mode = inode->is_dir ? 0700 : 0600,
    };
}

static int crash_info(void *context, int fd, struct mly_file_info *out)
{
    CRASH_ENTER();
    fill_info(crash, inode_of(crash, fd), out);
    CRASH_LEAVE(0);
}

static int crash_map(void *context, int fd, size_t bytes, const void **out)
{
    CRASH_ENTER();
    const struct crash_inode *inode = &crash->inodes[inode_of(crash, fd)];
    uint8_t *copy = crash_need(calloc(1, bytes));
    memcpy(copy, inode->data, bytes < inode->bytes ? bytes : (size_t)inode->bytes);
    *out = copy;
    crash->open_count++;
    CRASH_LEAVE(0);
}

/* Its maps are copies in memory, which must not be given back. */
static int crash_advise(void *context, const void *at, size_t bytes, enum mly_advice advice)
{
    (void)context;
    (void)at;
    (void)bytes;
    (void)advice;
    return 0;
}

static int crash_unmap(void *context, const void *map, size_t bytes)
{
    CRASH_ENTER();
    (void)bytes;
    free((void *)(uintptr_t)map);
    crash->open_count--;
    CRASH_LEAVE(0);
}

static int crash_lock(void *context, int fd, uint64_t byte)
{
    CRASH_ENTER();
    int *holder = &crash->inodes[inode_of(crash, fd)].locked[byte % 4];
    int result = *holder == 0 || *holder == fd ? 0 : -EAGAIN;
    if (result == 0) *holder = fd;
    CRASH_LEAVE(result);
}

static int crash_unlock(void *context, int fd, uint64_t byte)
{
    CRASH_ENTER();
    int *holder = &crash->inodes[inode_of(crash, fd)].locked[byte % 4];
    if (*holder == fd) *holder = 0;
    CRASH_LEAVE(0);
}

static int crash_lock_is_held(void *context, int fd, uint64_t byte)
{
    CRASH_ENTER();
    int holder = crash->inodes[inode_of(crash, fd)].locked[byte % 4];
    CRASH_LEAVE(holder != 0 && holder != fd);
}

/* ---- the table: names ---- */

static int crash_info_at(void *context, int dir_fd, const char *path, bool follow,
                         struct mly_file_info *out)
{
    CRASH_ENTER();
    size_t dir;
    char name[NAME_BYTES];
    (void)follow;
    int64_t found = look_up(crash, dir_fd, path, &dir, name);
    if (found >= 0) fill_info(crash, (size_t)found, out);
    CRASH_LEAVE(found < 0 ? (int)found : 0);
}

static int crash_make_dir(void *context, int dir_fd, const char *path)
{
    CRASH_ENTER();
    struct crash_op op = {.kind = OP_ADD};
    int64_t found = look_up(crash, dir_fd, path, &op.inode, op.name);
    if (found >= 0) CRASH_LEAVE(-EEXIST);
    if (found != -ENOENT) CRASH_LEAVE((int)found);
    op.target = crash_new_inode(crash, true);
    op.is_dir = true;
    record(crash, op);
    CRASH_LEAVE(0);
}

/* A move between folders is a name in the one and none in the other, each with its own sync. */
static int name_twice(void *context, int dir_fd, const char *from, const char *to, bool move)
{
    CRASH_ENTER();
    struct crash_op op = {.kind = move ? OP_MOVE : OP_ADD};
    size_t dir;
    int64_t found = look_up(crash, dir_fd, from, &dir, op.name);
    if (found < 0) CRASH_LEAVE((int)found);
    int64_t there = look_up(crash, dir_fd, to, &op.inode, op.to);
    if (there < 0 && there != -ENOENT) CRASH_LEAVE((int)there);
    if (op.inode != dir && move) {
        struct crash_op add = {.kind = OP_ADD, .inode = op.inode, .target = (size_t)found};
        struct crash_op away = {.kind = OP_REMOVE, .inode = dir};
        memcpy(add.name, op.to, NAME_BYTES);
        memcpy(away.name, op.name, NAME_BYTES);
        record(crash, add);
        record(crash, away);
        CRASH_LEAVE(0);
    }
    if (!move && there >= 0) CRASH_LEAVE(-EEXIST);
    if (!move) memcpy(op.name, op.to, NAME_BYTES);
    op.target = (size_t)found;
    record(crash, op);
    CRASH_LEAVE(0);
}

static int crash_rename(void *context, int dir_fd, const char *from, const char *to)
{
    return name_twice(context, dir_fd, from, to, true);
}

static int crash_link(void *context, int dir_fd, const char *from, const char *to)
{
    return name_twice(context, dir_fd, from, to, false);
}

/* Folders too. */
static int crash_unlink(void *context, int dir_fd, const char *path)
{
    CRASH_ENTER();
    struct crash_op op = {.kind = OP_REMOVE};
    int64_t found = look_up(crash, dir_fd, path, &op.inode, op.name);
    if (found < 0) CRASH_LEAVE((int)found);
    if (crash->inodes[found].entry_count > 0) CRASH_LEAVE(-ENOTEMPTY);
    record(crash, op);
    CRASH_LEAVE(0);
}

static int64_t crash_real_path(void *context, const char *path, char *out, size_t out_bytes)
{
    (void)context;
    int bytes = snprintf(out, out_bytes, "%s", path[0] == '/' ? path : "/");
    return bytes;
}

static int crash_file_system(void *context, const char *path, uint32_t *out)
{
    (void)context;
    (void)path;
    (void)out;
    return -ENOSYS;
}

static int crash_dir_open(void *context, int dir_fd, const char *path, struct mly_dir_stream **out)
{
    CRASH_ENTER();
    size_t dir;
    char name[NAME_BYTES];
    int64_t found = look_up(crash, dir_fd, path, &dir, name);
    if (found < 0) CRASH_LEAVE((int)found);
    const struct crash_inode *inode = &crash->inodes[found];
    if (!inode->is_dir) CRASH_LEAVE(-ENOTDIR);
    struct crash_stream *stream = crash_need(calloc(1, sizeof(*stream)));
    stream->crash = crash;
    stream->count = inode->entry_count;
    stream->names = crash_need(calloc(stream->count + 1, NAME_BYTES));
    for (size_t i = 0; i < stream->count; i++)
        memcpy(stream->names[i], inode->entries[i].name, NAME_BYTES);
    stream->fd = open_fd(crash, (size_t)found);
    *out = (struct mly_dir_stream *)stream;
    CRASH_LEAVE(0);
}

static int crash_dir_next(void *context, struct mly_dir_stream *native, const char **name)
{
    struct crash_stream *stream = (struct crash_stream *)native;
    (void)context;
    if (stream->at == stream->count) return 0;
    *name = stream->names[stream->at++];
    return 1;
}

static int crash_dir_fd(void *context, struct mly_dir_stream *native)
{
    (void)context;
    return ((struct crash_stream *)native)->fd;
}

static int crash_dir_close(void *context, struct mly_dir_stream *native)
{
    struct crash_stream *stream = (struct crash_stream *)native;
    int result = crash_close(context, stream->fd);
    free(stream->names);
    free(stream);
    return result;
}

/* ---- life ---- */

void crash_env_init(struct crash_env *crash)
{
    memset(crash, 0, sizeof(*crash));
    pthread_mutex_init(&crash->mutex, NULL);
    struct mly_env *env = &crash->env;
    *env = *mly_env_system();
    env->mem = &crash->mem;
    env->context = crash;
    env->open = crash_open;
    env->close = crash_close;
    env->pread = crash_pread;
    env->pwrite = crash_pwrite;
    env->sync_data = crash_sync_data;
    env->sync_dir = crash_sync_dir;
    env->write_back = crash_write_back;
    env->truncate = crash_truncate;
    env->allocate = crash_allocate;
    env->info = crash_info;
    env->map = crash_map;
    env->unmap = crash_unmap;
    env->advise = crash_advise;
    env->lock = crash_lock;
    env->unlock = crash_unlock;
    env->lock_is_held = crash_lock_is_held;
    env->info_at = crash_info_at;
    env->make_dir = crash_make_dir;
    env->rename = crash_rename;
    env->link = crash_link;
    env->unlink = crash_unlink;
    env->remove_dir = crash_unlink;
    env->real_path = crash_real_path;
    env->file_system = crash_file_system;
    env->dir_open = crash_dir_open;
    env->dir_next = crash_dir_next;
    env->dir_fd = crash_dir_fd;
    env->dir_close = crash_dir_close;
    (void)crash_new_inode(crash, true);
}

void crash_env_deinit(struct crash_env *crash)
{
    for (size_t i = 0; i < crash->inode_count; i++) {
        free(crash->inodes[i].data);
        free(crash->inodes[i].entries);
        free(crash->inodes[i].first_data);
        free(crash->inodes[i].first_entries);
    }
    for (size_t i = 0; i < crash->op_count; i++)
        free(crash->ops[i].data);
    free(crash->inodes);
    free(crash->ops);
    pthread_mutex_destroy(&crash->mutex);
}
