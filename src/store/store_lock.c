/* Who may write: one thread of one process.
 *
 * In: the store. Out: the folder, and the lock on byte 0 of _memalloy/lock. What stands in that
 * file is for the message of those who wait: the lock itself is the kernel's, and dies with its
 * holder. */
#include "store/store_int.h"

#include <stdio.h>

#define HOLDER_BYTES 64
#define LOCK_TRIES 10
#define PULSE_MS 50

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

/* Says who writes, for others' messages. The text is not needed for anything else, so failing is
 * fine. */
static void write_holder(struct mly_store *store)
{
    char text[HOLDER_BYTES];
    memset(text, ' ', sizeof(text));
    int bytes =
        snprintf(text, sizeof(text), "%lld %lld", (long long)store->env->pid(store->env->context),
                 (long long)(mly_clock_wall_us(store->env) / 1000000));
    if (bytes < 0 || bytes >= HOLDER_BYTES) return;
    text[bytes] = ' ';
    text[HOLDER_BYTES - 1] = '\n';
    (void)!mly_file_write(&store->lock_file.file, text, sizeof(text), 0, NULL);
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

static uint32_t remaining_ms(const struct mly_store *store, const struct mly_store_wait *wait)
{
    double left_ms = (wait->end_s - mly_clock_seconds(store->env)) * 1e3;
    return left_ms <= 0 ? 0 : left_ms < (double)UINT32_MAX ? (uint32_t)left_ms : UINT32_MAX;
}

static enum mly_err try_lock(struct mly_store *store, const char *folder, const char *path,
                             const struct mly_store_wait *wait, bool *taken, struct mly_error *err)
{
    struct mly_lock_file *lock = &store->lock_file;
    MLY_TRY(mly_dir_make_all(store->env, store->path, err));
    MLY_TRY(mly_dir_make(store->env, MLY_AT_CWD, folder, err));
    enum mly_err rc = mly_lock_file_open(store->env, path, lock, err);
    if (rc == MLY_ERR_NOTFOUND) return MLY_OK; /* the folder went away again */
    if (rc != MLY_OK) return rc;
    bool given_up = false;
    struct waiting waiting = {wait, &given_up};
    rc = mly_lock_take_pulsed(&lock->file, 0, remaining_ms(store, wait), ask, &waiting, err);
    if (rc == MLY_ERR_BUSY && !given_up) rc = fail_busy(store, &lock->file, err);
    if (rc == MLY_OK) rc = check_name(store, path, &lock->file, taken, err);
    if (rc != MLY_OK || !*taken) mly_lock_file_close(lock); /* which gives the lock back */
    return rc;
}

enum mly_err mly_store_lock(struct mly_store *store, const struct mly_store_wait *wait,
                            struct mly_error *err)
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
    if (rc == MLY_OK) write_holder(store);
    mly_mem_free(store->mem, folder);
    mly_mem_free(store->mem, path);
    return rc;
}

enum mly_err mly_store_lock_is_held(struct mly_store *store, bool *held, struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_error why = {0};
    enum mly_err rc = MLY_OK;
    char *path = mly_store_join(store->mem, store->path, "_memalloy/lock");
    *held = false;
    if (path == NULL) return mly_fail_nomem(err, strlen(store->path) + 16);
    /* Where it cannot be opened nobody has written yet, or nothing can be told. */
    if (mly_file_open(store->env, MLY_AT_CWD, path, MLY_OPEN_READ, &file, &why) == MLY_OK) {
        rc = mly_lock_is_held(&file, 0, held, err);
    }
    mly_file_close(&file);
    mly_mem_free(store->mem, path);
    return rc;
}

void mly_store_unlock(struct mly_store *store)
{
    mly_lock_release(&store->lock_file.file, 0);
    mly_lock_file_close(&store->lock_file);
}

/* ---- taking turns in this process ---- */

static void leave_turns(struct mly_store *store, const struct mly_store_turn *turn)
{
    struct mly_store_turn **at = &store->turns;
    while (*at != turn)
        at = &(*at)->next;
    *at = turn->next;
    mly_cond_wake_all(&store->cond);
}

/* Becomes the thread that writes. */
static enum mly_err take_turn(struct mly_store *store, const struct mly_store_wait *wait,
                              struct mly_error *err)
{
    struct mly_store_turn turn = {NULL};
    enum mly_err rc = MLY_OK;
    mly_mutex_lock(&store->mutex);
    struct mly_store_turn **last = &store->turns;
    while (*last != NULL)
        last = &(*last)->next;
    *last = &turn;
    while (store->writing || store->turns != &turn) {
        uint32_t left_ms = remaining_ms(store, wait);
        if (left_ms == 0) {
            rc = mly_fail(err, MLY_ERR_BUSY,
                          "store %s: another thread of this process is writing; waited %u ms",
                          store->path, store->lock_wait_ms);
            break;
        }
        mly_cond_wait_ms(&store->cond, &store->mutex,
                         left_ms < PULSE_MS || wait->pulse == NULL ? left_ms : PULSE_MS);
        if (wait->pulse == NULL) continue;
        mly_mutex_unlock(&store->mutex);
        rc = wait->pulse(wait->context, err);
        mly_mutex_lock(&store->mutex);
        if (rc != MLY_OK) break;
    }
    leave_turns(store, &turn);
    if (rc == MLY_OK) store->writing = true;
    mly_mutex_unlock(&store->mutex);
    return rc;
}

enum mly_err mly_store_begin(struct mly_store *store, struct mly_error *err)
{
    return mly_store_begin_pulsed(store, NULL, NULL, err);
}

enum mly_err mly_store_begin_pulsed(struct mly_store *store, mly_pulse_fn pulse, void *context,
                                    struct mly_error *err)
{
    if (store->read_only) {
        return mly_fail(err, MLY_ERR_READONLY, "store %s is open for reading only", store->path);
    }
    struct mly_store_wait wait = {mly_clock_seconds(store->env) + store->lock_wait_ms * 1e-3, pulse,
                                  context};
    MLY_TRY(take_turn(store, &wait, err));
    enum mly_err rc = mly_store_lock(store, &wait, err);
    bool locked = rc == MLY_OK;
    bool whole = true;
    if (rc == MLY_OK) {
        mly_mutex_lock(&store->mutex);
        store->locked = true;
        rc = mly_store_renew(store, err);
        if (rc == MLY_OK) rc = mly_store_check_model(store, err);
        if (rc == MLY_OK) whole = mly_store_is_whole(store);
        store->committing = rc == MLY_OK && !whole;
        mly_mutex_unlock(&store->mutex);
    }
    if (rc == MLY_OK && !whole) rc = mly_store_mend(store, err);
    mly_mutex_lock(&store->mutex);
    store->committing = false;
    mly_mutex_unlock(&store->mutex);
    if (rc != MLY_OK && locked) (void)mly_store_end(store, NULL);
    if (rc != MLY_OK && !locked) {
        mly_mutex_lock(&store->mutex);
        store->writing = false;
        mly_cond_wake_all(&store->cond);
        mly_mutex_unlock(&store->mutex);
    }
    return rc;
}

enum mly_err mly_store_end(struct mly_store *store, struct mly_error *err)
{
    (void)err;
    /* Before the lock is given back: from then on others may be between the tables. */
    mly_mutex_lock(&store->mutex);
    store->locked = false;
    mly_mutex_unlock(&store->mutex);
    mly_store_unlock(store);
    mly_mutex_lock(&store->mutex);
    store->writing = false;
    mly_cond_wake_all(&store->cond);
    mly_mutex_unlock(&store->mutex);
    return MLY_OK;
}
