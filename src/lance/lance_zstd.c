/* Zstandard with our allocator: what the official writer puts into Arrow deletion files of more
 * than a few rows. */
#define ZSTD_STATIC_LINKING_ONLY /* for the allocator; unchanged since zstd 1.3 */
#include <zstd.h>

#include "lance/lance_int.h"

struct state {
    struct mly_mem *mem;
    bool out_of_memory;
};

static void *state_alloc(void *data, size_t bytes)
{
    struct state *state = data;
    void *block = mly_mem_alloc(state->mem, bytes);
    if (block == NULL) state->out_of_memory = true;
    return block;
}

static void state_free(void *data, void *block)
{
    struct state *state = data;
    mly_mem_free(state->mem, block);
}

enum mly_err mly_lance_zstd_read(struct mly_mem *mem, const uint8_t *data, size_t bytes,
                                 size_t expected_bytes, struct mly_bytes *out,
                                 struct mly_error *err)
{
    struct state state = {.mem = mem};
    ZSTD_customMem allocator = {state_alloc, state_free, &state};
    MLY_TRY(mly_bytes_reserve(out, expected_bytes, err));
    ZSTD_DCtx *context = ZSTD_createDCtx_advanced(allocator);
    if (context == NULL) return mly_fail_nomem(err, expected_bytes);
    size_t done = ZSTD_decompressDCtx(context, out->data + out->bytes, expected_bytes, data, bytes);
    ZSTD_freeDCtx(context);
    if (state.out_of_memory) return mly_fail_nomem(err, expected_bytes);
    if (ZSTD_isError(done)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its %zu compressed bytes cannot be expanded: %s",
                        bytes, ZSTD_getErrorName(done));
    }
    if (done != expected_bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT, "its compressed bytes expand to %zu, not %zu", done,
                        expected_bytes);
    }
    out->bytes += done;
    return MLY_OK;
}
