/* Everything that a store's newest state rests on is read: in comes nothing but the store, out goes
 * a verdict on each file. The log is one of them; what else lies in _memalloy is derived. */
#include "store/store_state_int.h"

#include <stdio.h>

#define LOCK_BYTE 0

struct verifying {
    mly_store_verified_fn fn;
    void *context;
};

static enum mly_err pass_on(void *context, const struct mly_lance_verified *file,
                            struct mly_error *err)
{
    const struct verifying *verifying = context;
    const struct mly_store_verified verified = {
        file->path, file->bytes, file->has_sums, file->code,
        file->code == MLY_OK || file->reason == NULL ? "" : file->reason};
    return verifying->fn(verifying->context, &verified, err);
}

/* Whether another writer may be in the midst of a record. Where that cannot be told, it may. */
static bool is_written(const struct mly_store *store)
{
    struct mly_file file = MLY_FILE_CLOSED;
    char *path = mly_store_join(store->mem, store->path, "_memalloy/lock");
    bool held = true;
    if (path == NULL) return true;
    enum mly_err rc = mly_file_open(store->env, MLY_AT_CWD, path, MLY_OPEN_READ, &file, NULL);
    if (rc == MLY_OK) rc = mly_lock_is_held(&file, LOCK_BYTE, &held, NULL);
    if (rc == MLY_ERR_NOTFOUND) held = false;
    mly_file_close(&file);
    mly_mem_free(store->mem, path);
    return held;
}

/* Every record beyond what the tables have is decoded. */
static enum mly_err read_log(const struct mly_store *store, uint64_t from_lsn, bool strict,
                             uint64_t *bytes, struct mly_error *err)
{
    struct mly_log_reader *reader = NULL;
    struct mly_log_record log_record;
    bool found = true;
    MLY_TRY(mly_log_reader_open(store->env, store->log_dir, from_lsn, strict, &reader, err));
    enum mly_err rc = MLY_OK;
    while (rc == MLY_OK && found) {
        struct mly_store_record *record = NULL;
        rc = mly_log_reader_next(reader, &log_record, &found, err);
        if (rc != MLY_OK || !found) break;
        *bytes += log_record.payload.bytes;
        rc = mly_store_record_read(store->mem, &log_record, &record, err);
        mly_store_record_release(record);
    }
    mly_log_reader_close(reader);
    return rc;
}

/* A writer that comes or goes meanwhile is no damage: then it is read once more. */
static enum mly_err verify_log(const struct mly_store *store, uint64_t from_lsn,
                               const struct verifying *verifying, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    struct mly_error own = {0};
    uint64_t bytes = 0;
    bool exists = false;
    if (store->in_memory) return MLY_OK;
    MLY_TRY(mly_file_exists(store->env, MLY_AT_CWD, store->log_dir, &exists, err));
    if (!exists) return MLY_OK;
    for (int attempt = 0; attempt < 3; attempt++) {
        const bool strict = !is_written(store);
        bytes = 0;
        rc = read_log(store, from_lsn, strict, &bytes, &own);
        if (rc != MLY_ERR_CORRUPT || !strict) break;
    }
    if (rc == MLY_ERR_CONFLICT) rc = MLY_OK; /* a checkpoint took it */
    if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", own.message);
    const struct mly_store_verified verified = {store->log_dir, bytes, true, rc,
                                                rc == MLY_OK ? "" : own.message};
    return verifying->fn(verifying->context, &verified, err);
}

enum mly_err mly_store_verify(struct mly_store *store, mly_store_verified_fn fn, void *context,
                              struct mly_error *err)
{
    struct verifying verifying = {fn, context};
    struct mly_snapshot *snapshot = NULL;
    uint64_t lsn = UINT64_MAX;
    MLY_TRY(mly_store_pin(store, &snapshot, err));
    enum mly_err rc = MLY_OK;
    for (int kind = 0; rc == MLY_OK && kind < MLY_STORE_TABLES; kind++) {
        const struct mly_store_view *base = mly_store_view_base(snapshot->views[kind]);
        const uint64_t has = base->lsn;
        lsn = has < lsn ? has : lsn;
        if (base->manifest == NULL) continue;
        rc = mly_lance_verify(store->tables[kind].lance, base->manifest, pass_on, &verifying, err);
    }
    if (rc == MLY_OK) rc = verify_log(store, lsn, &verifying, err);
    mly_snapshot_release(snapshot);
    return rc;
}
