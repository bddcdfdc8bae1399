/* A model file: opened, verified, and one text encoded with it. Input: a byte that picks one of our
 * three precisions, and the JSON of the header; the tensors behind it are those of a small model.
 */
#include "fuzz.h"

#include "embed/embed.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KINDS 3

static struct tiny_file model(size_t kind)
{
    static const struct tiny_kind *const kinds[KINDS] = {&tiny_int8, &tiny_bf16, &tiny_f32};
    static struct tiny_file files[KINDS]; /* Made once: stays reachable until the end. */
    if (files[kind].bytes == NULL) files[kind] = tiny_make_as(&tiny_small, kinds[kind], 3);
    return files[kind];
}

static void encode(struct mly_embedder *embedder)
{
    static const int32_t ids[] = {2, 7, 5, 3};
    static const size_t starts[] = {0, 4};
    struct mly_error err = {0};
    const uint32_t dim = mly_embedder_card(embedder)->dim;
    fuzz_check(dim != 0 && dim <= 65536, "a width is in its bounds");
    float *out = malloc(dim * sizeof(out[0]));
    if (out == NULL) abort();
    enum mly_err rc = mly_embedder_encode(embedder, ids, starts, 1, out, &err);
    fuzz_check_result(rc, &err);
    for (uint32_t i = 0; rc == MLY_OK && i < dim; i++) {
        fuzz_check(isfinite(out[i]), "a vector is finite");
    }
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static char file[512 << 10];
    char path[TEMP_DIR_BYTES + 32];
    if (bytes < 1) return 0;
    const struct tiny_file tiny = model(data[0] % KINDS);
    /* Spaces up to where aligned tensors may begin, as our writers put them. */
    const size_t header = (bytes - 1 + 8 + 63) / 64 * 64 - 8;
    const size_t tensors = tiny.count - 8 - tiny.header_bytes;
    if (8 + header + tensors > sizeof(file)) return 0;
    for (size_t byte = 0; byte < 8; byte++) {
        file[byte] = (char)((uint64_t)header >> (8 * byte) & 0xff);
    }
    memset(file + 8, ' ', header);
    memcpy(file + 8, data + 1, bytes - 1);
    memcpy(file + 8 + header, tiny.bytes + 8 + tiny.header_bytes, tensors);
    temp_dir_write(fuzz_dir(), "m.safetensors", file, 8 + header + tensors);
    snprintf(path, sizeof(path), "%s/m.safetensors", fuzz_dir());

    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_pool *pool = NULL;
    struct mly_embedder *embedder = NULL;
    fault_env_init(&fault);
    fuzz_check(mly_pool_create(&fault.env, 1, &pool, &err) == MLY_OK, "a pool can be made");
    enum mly_err rc =
        mly_embedder_open(&fault.env, mly_kern_pick(NULL), pool, path, &embedder, &err);
    fuzz_check_result(rc, &err);
    if (rc == MLY_OK) {
        encode(embedder);
        fuzz_check_result(mly_embedder_verify(embedder, &err), &err);
    }
    mly_embedder_close(embedder);
    mly_pool_destroy(pool);
    fuzz_check_clean(&fault);
    return 0;
}

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    if (i >= KINDS) return false;
    const struct tiny_file tiny = model(i);
    fuzz_put_byte(out, (uint8_t)i);
    fuzz_put(out, tiny.bytes + 8, tiny.header_bytes);
    return true;
}
