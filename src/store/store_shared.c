/* Handles of one process that open one store in the same way share one object: one writer among
 * them, one tail in memory, one thread that keeps the index, and syncs that their threads wait for
 * together.
 *
 * In: path, options. Out: an object that another handle has, or a new one. */
#include "store/store_state_int.h"

#include <string.h>

struct wanted {
    const struct mly_env *env;
    const char *path;
    const struct mly_store_options *options;
    struct mly_str manner;
};

static bool same_options(const struct mly_store_options *a, const struct mly_store_options *b)
{
    return a->read_only == b->read_only && a->allow_network == b->allow_network &&
           a->lock_wait_ms == b->lock_wait_ms && a->checkpoint_after_ms == b->checkpoint_after_ms &&
           a->durability == b->durability && a->dim == b->dim && a->kern == b->kern &&
           a->index_rows_min == b->index_rows_min &&
           a->index_file_rows_min == b->index_file_rows_min;
}

static bool inode_at(const struct mly_env *env, const char *path, struct mly_file_info *out)
{
    return env->info_at(env->context, MLY_AT_CWD, path, true, out) == 0;
}

static bool same_file(const struct mly_file_info *a, const struct mly_file_info *b)
{
    return a->device == b->device && a->inode == b->inode;
}

/* Is what stands at the path now what the object works on? A folder may have been removed, and made
 * again; one that was not there at first was made by whoever wrote first. */
static bool is_in_place(struct mly_store *store)
{
    const struct mly_env *env = store->env;
    const struct mly_store_share *share = &store->share;
    struct mly_file_info now, lock, held;
    if (!inode_at(env, store->path, &now)) return false;
    if (share->folder_was_there) return same_file(&share->folder, &now);
    char *path = mly_store_join(store->mem, store->path, "_memalloy/lock");
    mly_mutex_lock(&store->mutex);
    bool same = path != NULL && store->lock_file.file.fd >= 0 && inode_at(env, path, &lock) &&
                env->info(env->context, store->lock_file.file.fd, &held) == 0 &&
                same_file(&lock, &held);
    mly_mutex_unlock(&store->mutex);
    mly_mem_free(store->mem, path);
    return same;
}

static bool fits(void *context, const struct mly_registry_share *share)
{
    const struct wanted *wanted = context;
    const struct mly_store *store = share->thing;
    return store->env == wanted->env && strcmp(store->path, wanted->path) == 0 &&
           same_options(&store->share.options, wanted->options) &&
           mly_str_equal(mly_str_of(store->share.manner), wanted->manner);
}

enum mly_err mly_store_hold(const struct mly_env *env, const char *path,
                            const struct mly_store_options *options, struct mly_str manner,
                            struct mly_store **out, struct mly_error *err)
{
    struct wanted wanted = {env, path, options, manner};
    struct mly_registry_share *share = NULL;
    if (options->durability != MLY_DURABILITY_MEMORY) share = mly_registry_find(fits, &wanted);
    struct mly_store *store = share == NULL ? NULL : share->thing;
    if (store != NULL && is_in_place(store)) {
        *out = store;
        return MLY_OK;
    }
    (void)mly_store_drop(store, NULL);
    store = NULL;
    MLY_TRY(mly_store_open(env, path, options, &store, err));
    store->share.options = *options;
    store->share.manner = mly_mem_copy(store->mem, manner.data, manner.bytes);
    if (store->share.manner == NULL) {
        (void)mly_store_close(store, NULL);
        return mly_fail_nomem(err, manner.bytes + 1);
    }
    store->share.folder_was_there = inode_at(env, store->path, &store->share.folder);
    store->share.entry.thing = store;
    mly_registry_share(&store->share.entry);
    *out = store;
    return MLY_OK;
}

enum mly_err mly_store_drop(struct mly_store *store, struct mly_error *err)
{
    if (store == NULL) return MLY_OK;
    if (store->pid != store->env->pid(store->env->context)) return MLY_OK;
    if (mly_registry_unshare(&store->share.entry, true)) return mly_store_close(store, err);
    /* Others go on with it; what this handle wrote is in the tables, and durable, all the same. It
     * is held until then, as they may all leave meanwhile. */
    enum mly_err rc = mly_store_settle(store, err);
    if (!mly_registry_unshare(&store->share.entry, false)) return rc;
    enum mly_err end = mly_store_close(store, rc == MLY_OK ? err : NULL);
    return rc == MLY_OK ? end : rc;
}
