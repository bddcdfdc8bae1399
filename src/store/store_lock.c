/* The lock between processes.
 *
 * In: the store. Out: the folder, and the lock on byte 0 of _memalloy/lock. The lock is the
 * kernel's, and dies with its holder; what stands in the file says who wrote last: for the message
 * of those who wait, and for that writer to know that the log is as it left it. */
#include "store/store_state_int.h"

#include "base/limits.h"

#include <stdio.h>

#define HOLDER_BYTES 64
#define LOCK_TRIES 10
#define LOCK_BYTE 0
#define LINE_BYTE 1

char *mly_store_join(struct mly_mem *mem, const char *path, const char *name)
{
    size_t path_bytes = strlen(path);
    size_t name_bytes = strlen(name);
    char *joined = mly_mem_alloc(mem, path_bytes + name_bytes + 2);
    if (joined == NULL) return NULL;
    memcpy(joined, path, path_bytes);
    joined[path_bytes] = '/';
    memcpy(joined + path_bytes + 1, name, name_bytes + 1);
    return joined;
}

/* Says who writes: for the messages of those who wait, and for whoever wrote before, to know that
 * the log is not as it left it. So it must not fail unseen. */
static enum mly_err write_holder(struct mly_store *store, struct mly_error *err)
{
    char text[HOLDER_BYTES];
    memset(text, ' ', sizeof(text));
    const int bytes = snprintf(
        text, sizeof(text), "%lld %lld %llu", (long long)store->env->pid(store->env->context),
        (long long)(mly_clock_wall_us(store->env) / 1000000), (unsigned long long)store->token);
    text[bytes] = ' '; /* three numbers of 20 digits at most: there is room */
    text[HOLDER_BYTES - 1] = '\n';
    return mly_file_write(&store->lock_file.file, text, sizeof(text), 0, err);
}

static bool read_number(const char **text, const char *end, int64_t *out)
{
    int64_t value = 0;
    const char *start = *text;
    while (*text < end && **text >= '0' && **text <= '9' && value < INT64_MAX / 10 - 9) {
        value = value * 10 + (*(*text)++ - '0');
    }
    while (*text < end && **text == ' ')
        (*text)++;
    *out = value;
    return *text > start;
}

/* Was it this object that wrote last? Then the log is as it left it. */
static bool wrote_last(const struct mly_store *store)
{
    char text[HOLDER_BYTES];
    const char *at = text;
    const char *end = text + sizeof(text);
    int64_t pid;
    int64_t since_s;
    int64_t token;
    return mly_file_read(&store->lock_file.file, text, sizeof(text), 0, NULL) == MLY_OK &&
           read_number(&at, end, &pid) && read_number(&at, end, &since_s) &&
           read_number(&at, end, &token) && (uint64_t)token == store->token;
}

/* Puts the name of the store, and of the process that holds the lock where it says so, into err. */
static enum mly_err fail_busy(struct mly_store *store, const struct mly_file *file,
                              struct mly_error *err)
{
    char text[HOLDER_BYTES];
    const char *at = text;
    int64_t pid;
    int64_t since_s;
    if (mly_file_read(file, text, sizeof(text), 0, NULL) == MLY_OK &&
        read_number(&at, text + sizeof(text), &pid) &&
        read_number(&at, text + sizeof(text), &since_s)) {
        int64_t age_s = mly_clock_wall_us(store->env) / 1000000 - since_s;
        return mly_fail(
            err, MLY_ERR_BUSY, "store %s: process %lld has been writing for %lld s; waited %u ms",
            store->path, (long long)pid, (long long)(age_s < 0 ? 0 : age_s), store->lock_wait_ms);
    }
    return mly_fail(err, MLY_ERR_BUSY, "store %s: another process is writing; waited %u ms",
                    store->path, store->lock_wait_ms);
}

/* Is the file that was locked still the one that has the name? Somebody may have removed the folder
 * while we waited; a lock on a file without a name keeps nobody out. */
static enum mly_err check_name(const struct mly_store *store, const char *path,
                               const struct mly_file *file, bool *same, struct mly_error *err)
{
    struct mly_file_info held;
    struct mly_file_info named;
    MLY_TRY(mly_file_info(file, &held, err));
    enum mly_err rc = mly_file_info_at(store->env, MLY_AT_CWD, path, false, &named, err);
    *same = rc == MLY_OK && held.device == named.device && held.inode == named.inode;
    return rc == MLY_ERR_NOTFOUND ? MLY_OK : rc;
}

/* A pulse may end the waiting with any result: BUSY too is then its own. */
struct waiting {
    const struct mly_store_wait *wait;
    bool *given_up;
};

static enum mly_err ask(void *context, struct mly_error *err)
{
    const struct waiting *waiting = context;
    if (waiting->wait->pulse == NULL) return MLY_OK;
    enum mly_err rc = waiting->wait->pulse(waiting->wait->context, err);
    *waiting->given_up = rc != MLY_OK;
    return rc;
}

uint32_t mly_store_wait_ms(const struct mly_store *store, const struct mly_store_wait *wait)
{
    double left_ms = (wait->end_s - mly_clock_seconds(store->env)) * 1e3;
    return left_ms <= 0 ? 0 : left_ms < (double)UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX;
}

/* Who cannot have the lock at once shows it by holding the byte behind it, one at a time. */
static enum mly_err wait_in_line(struct mly_store *store, struct waiting *waiting,
                                 struct mly_error *err)
{
    const struct mly_file *file = &store->lock_file.file;
    if (mly_lock_take(file, LOCK_BYTE, 0, NULL) == MLY_OK) return MLY_OK;
    MLY_TRY(mly_lock_take_pulsed(file, LINE_BYTE, mly_store_wait_ms(store, waiting->wait), ask,
                                 waiting, err));
    enum mly_err rc = mly_lock_take_pulsed(file, LOCK_BYTE, mly_store_wait_ms(store, waiting->wait),
                                           ask, waiting, err);
    mly_lock_release(file, LINE_BYTE);
    return rc;
}

/* *taken false: the file has lost its name meanwhile. */
static enum mly_err lock_open_file(struct mly_store *store, const char *path,
                                   const struct mly_store_wait *wait, bool *taken,
                                   struct mly_error *err)
{
    struct mly_lock_file *lock = &store->lock_file;
    bool given_up = false;
    struct waiting waiting = {wait, &given_up};
    enum mly_err rc = wait_in_line(store, &waiting, err);
    if (rc == MLY_ERR_BUSY && !given_up) rc = fail_busy(store, &lock->file, err);
    if (rc != MLY_OK) return rc;
    rc = check_name(store, path, &lock->file, taken, err);
    if (rc != MLY_OK) mly_lock_release(&lock->file, LOCK_BYTE);
    return rc;
}

static enum mly_err try_lock(struct mly_store *store, const char *folder, const char *path,
                             const struct mly_store_wait *wait, bool *taken, struct mly_error *err)
{
    struct mly_lock_file *lock = &store->lock_file;
    if (lock->file.fd < 0) {
        MLY_TRY(mly_dir_make_all(store->env, store->path, err));
        MLY_TRY(mly_dir_make(store->env, MLY_AT_CWD, folder, err));
        mly_mutex_lock(&store->mutex); /* pins look at it */
        enum mly_err rc = mly_lock_file_open(store->env, path, lock, err);
        mly_mutex_unlock(&store->mutex);
        if (rc == MLY_ERR_NOTFOUND) return MLY_OK; /* the folder went away again */
        if (rc != MLY_OK) return rc;
    }
    MLY_TRY(lock_open_file(store, path, wait, taken, err));
    if (!*taken) {
        mly_mutex_lock(&store->mutex);
        mly_lock_file_close(lock); /* which gives the lock back */
        mly_mutex_unlock(&store->mutex);
    }
    return MLY_OK;
}

enum mly_err mly_store_lock(struct mly_store *store, const struct mly_store_wait *wait,
                            bool *same_log, struct mly_error *err)
{
    bool taken = false;
    enum mly_err rc = MLY_OK;
    char *path = NULL;
    char *folder = mly_store_join(store->mem, store->path, "_memalloy");
    if (folder != NULL) path = mly_store_join(store->mem, folder, "lock");
    if (path == NULL) rc = mly_fail_nomem(err, strlen(store->path) + 16);
    for (int attempt = 0; rc == MLY_OK && !taken; attempt++) {
        if (attempt == LOCK_TRIES) {
            rc = mly_fail(err, MLY_ERR_IO, "store %s: the folder is being removed", store->path);
        } else {
            rc = try_lock(store, folder, path, wait, &taken, err);
        }
    }
    if (rc == MLY_OK) {
        *same_log = wrote_last(store);
        mly_mutex_lock(&store->mutex);
        store->log_stale = store->log_stale || !*same_log; /* before our name stands there */
        mly_mutex_unlock(&store->mutex);
        rc = write_holder(store, err);
        if (rc != MLY_OK) mly_store_unlock(store);
    }
    mly_mem_free(store->mem, folder);
    mly_mem_free(store->mem, path);
    return rc;
}

void mly_store_unlock(struct mly_store *store)
{
    mly_lock_release(&store->lock_file.file, LOCK_BYTE);
}

bool mly_store_wrote_last(const struct mly_store *store)
{
    char path[MLY_PATH_BYTES_MAX + 32];
    bool same = false;
    if (store->lock_file.file.fd < 0 || !mly_store_knows_log(store)) return false;
    (void)snprintf(path, sizeof(path), "%s/_memalloy/lock", store->path);
    return check_name(store, path, &store->lock_file.file, &same, NULL) == MLY_OK && same &&
           wrote_last(store);
}

bool mly_store_others_wait(const struct mly_store *store)
{
    bool held = false;
    return mly_lock_is_held(&store->lock_file.file, LINE_BYTE, &held, NULL) == MLY_OK && held;
}
