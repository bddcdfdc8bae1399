/* The verdicts of the store on its files, one after the other, for a caller. */
#include "engine/engine_int.h"

#include <string.h>

struct verifying {
    memalloy_verify_fn fn;
    void *context;
    uint64_t damaged;
};

static enum mly_err tell(void *context, const struct mly_store_verified *file,
                         struct mly_error *err)
{
    struct verifying *verifying = context;
    struct memalloy_verified local = {
        .struct_bytes = sizeof(local),
        .path = {file->path, strlen(file->path)},
        .bytes = file->bytes,
        .has_sums = file->has_sums ? 1 : 0,
    };
    if (file->code != MLY_OK) {
        local.reason = (struct memalloy_str){file->reason, strlen(file->reason)};
        verifying->damaged++;
    }
    if (verifying->fn == NULL || verifying->fn(verifying->context, &local) == 0) return MLY_OK;
    return mly_fail(err, MLY_ERR_CANCELLED, "cancelled");
}

enum mly_err mly_engine_verify(memalloy_kernel *kernel, memalloy_verify_fn fn, void *context,
                               uint64_t *damaged, struct mly_error *err)
{
    struct verifying verifying = {fn, context, 0};
    MLY_TRY(mly_kernel_enter(kernel, err));
    enum mly_err rc = mly_store_verify(kernel->store, tell, &verifying, err);
    mly_kernel_leave(kernel);
    if (rc == MLY_OK) *damaged = verifying.damaged;
    return rc;
}
