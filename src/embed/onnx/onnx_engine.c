/* In: the path of a folder. Out: an engine behind embed.h's door: the folder's settings, the
 * library, a session, and the card that says which model it is.
 *
 * The hash names all that a vector depends on: the weights, the tokenizer, the pooling, the length
 * at which texts are cut and the prefixes. */
#include "embed/onnx/onnx_int.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

static struct mly_str map_view(const struct mly_map *map)
{
    return (struct mly_str){(const char *)map->data, map->bytes};
}

/* Over the model's bytes and what stands beside them. */
static enum mly_err hash_model(const struct mly_onnx *onnx, const struct mly_map *model,
                               char hex[2 * MLY_HASH_BYTES + 1], struct mly_error *err)
{
    const struct mly_onnx_folder *folder = &onnx->folder;
    struct mly_map tokenizer = {0};
    char settings[64];
    MLY_TRY(mly_file_map(onnx->env, MLY_AT_CWD, folder->tokenizer_path, &tokenizer, err));
    (void)snprintf(settings, sizeof(settings), "%s %u",
                   folder->pooling == MLY_ONNX_MEAN ? "mean" : "cls", folder->pieces_max);
    const struct mly_str parts[] = {map_view(model),      map_view(&tokenizer),
                                    mly_str_of(settings), folder->query_prefix,
                                    MLY_STR("\n"),        folder->passage_prefix};
    /* Without prefixes the hash is the one that stores of earlier versions hold. */
    const bool prefixed = folder->query_prefix.bytes + folder->passage_prefix.bytes > 0;
    const struct mly_hash hash = mly_hash_parts(parts, prefixed ? 6 : 3);
    mly_hash_to_hex(&hash, hex);
    mly_map_close(&tokenizer);
    return MLY_OK;
}

static enum mly_err fill_card(struct mly_onnx *onnx, const struct mly_map *model,
                              struct mly_error *err)
{
    char hex[2 * MLY_HASH_BYTES + 1], kernels[64];
    MLY_TRY(hash_model(onnx, model, hex, err));
    (void)snprintf(kernels, sizeof(kernels), "onnxruntime %s", onnx->ort.version);
    struct mly_model_card *card = &onnx->card;
    card->id = onnx->folder.id;
    card->tokenizer = map_view(&onnx->tokenizer);
    card->tokenizer_form = MLY_TOKENIZER_JSON;
    card->vocabulary = onnx->folder.id_count;
    card->pieces_max = onnx->folder.pieces_max;
    card->quantisation = MLY_STR("onnx");
    card->pooling = onnx->folder.pooling == MLY_ONNX_MEAN ? MLY_STR("mean") : MLY_STR("cls");
    card->query_prefix = onnx->folder.query_prefix;
    card->passage_prefix = onnx->folder.passage_prefix;
    card->hash = mly_arena_copy(&onnx->arena, mly_str_of(hex));
    card->kernels = mly_arena_copy(&onnx->arena, mly_str_of(kernels));
    if (card->hash.data == NULL || card->kernels.data == NULL) {
        return mly_fail_nomem(err, sizeof(hex) + sizeof(kernels));
    }
    return mly_onnx_probe(onnx, &card->dim, err);
}

static enum mly_err fill(struct mly_onnx *onnx, uint32_t threads, const char *path,
                         const char *library, struct mly_error *err)
{
    struct mly_map model = {0};
    enum mly_err rc = mly_onnx_folder_read(onnx->env, &onnx->arena, path, &onnx->folder, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_map(onnx->env, MLY_AT_CWD, onnx->folder.tokenizer_path, &onnx->tokenizer, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_map(onnx->env, MLY_AT_CWD, onnx->folder.model_path, &model, err);
    if (rc != MLY_OK) goto done;
    rc = mly_ort_load(onnx->env, library, &onnx->ort, err);
    if (rc != MLY_OK) goto done;
    rc =
        mly_onnx_session_init(&onnx->session, onnx->ort.api, model.data, model.bytes, threads, err);
    if (rc == MLY_OK) rc = fill_card(onnx, &model, err);
    if (rc != MLY_OK) (void)mly_fail_in(err, rc, "%s", onnx->folder.model_path);
done:
    mly_map_close(&model); /* The session has what it needs of it. */
    return rc;
}

enum mly_err mly_onnx_open(const struct mly_env *env, uint32_t threads, const char *path,
                           const char *library, struct mly_onnx **out, struct mly_error *err)
{
    struct mly_onnx *onnx = mly_mem_array(env->mem, 1, sizeof(*onnx));
    if (onnx == NULL) return mly_fail_nomem(err, sizeof(*onnx));
    onnx->env = env;
    onnx->pid = env->pid(env->context);
    onnx->ort.env = env;
    mly_arena_init(&onnx->arena, env->mem, SIZE_MAX);
    enum mly_err rc = fill(onnx, threads, path, library, err);
    if (rc != MLY_OK) {
        mly_onnx_close(onnx);
        return rc;
    }
    *out = onnx;
    return MLY_OK;
}

/* In a forked child the library's threads are gone, and it would wait for them: nothing of it is
 * touched there. */
void mly_onnx_close(struct mly_onnx *onnx)
{
    if (onnx == NULL) return;
    struct mly_mem *mem = onnx->env->mem;
    if (onnx->pid == onnx->env->pid(onnx->env->context)) {
        mly_onnx_session_deinit(&onnx->session);
        mly_ort_unload(&onnx->ort);
    }
    mly_map_close(&onnx->tokenizer);
    mly_arena_deinit(&onnx->arena);
    mly_mem_free(mem, onnx);
}

const struct mly_model_card *mly_onnx_card(const struct mly_onnx *onnx)
{
    return &onnx->card;
}

enum mly_err mly_onnx_verify(const struct mly_onnx *onnx, struct mly_error *err)
{
    struct mly_map model = {0};
    char hex[2 * MLY_HASH_BYTES + 1];
    MLY_TRY(mly_file_map(onnx->env, MLY_AT_CWD, onnx->folder.model_path, &model, err));
    enum mly_err rc = hash_model(onnx, &model, hex, err);
    mly_map_close(&model);
    if (rc == MLY_OK && !mly_str_equal(mly_str_of(hex), onnx->card.hash)) {
        rc = mly_fail(err, MLY_ERR_CORRUPT,
                      "%s or its tokenizer.json has changed since it was opened",
                      onnx->folder.model_path);
    }
    return rc;
}
