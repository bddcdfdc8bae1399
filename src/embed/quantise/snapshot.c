/* Opens the files of a snapshot folder, one after the other, and closes them. */
#include "embed/quantise/snapshot_int.h"

#include "base/limits.h"
#include "base/sha256.h"

#include <stdio.h>

#define CONFIG_BYTES_MAX ((size_t)4 << 20)
/* Of a multilingual model: 17 MB. */
#define TOKENIZER_BYTES_MAX ((size_t)64 << 20)

static enum mly_err join(const char *folder, const char *name, char out[MLY_PATH_BYTES_MAX],
                         struct mly_error *err)
{
    const int bytes = snprintf(out, MLY_PATH_BYTES_MAX, "%s/%s", folder, name);
    if (bytes < 0 || (size_t)bytes >= MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%.60s...: the path of %s is longer than %zu bytes",
                        folder, name, MLY_PATH_BYTES_MAX - 1);
    }
    return MLY_OK;
}

static enum mly_err parse(struct mly_str text, json_t **out, struct mly_error *err)
{
    json_error_t fault;
    *out = json_loadb(text.bytes > 0 ? text.data : "", text.bytes, JSON_REJECT_DUPLICATES, &fault);
    if (*out != NULL) return MLY_OK;
    if (json_error_code(&fault) == json_error_out_of_memory) {
        return mly_fail(err, MLY_ERR_NOMEM, "out of memory while reading JSON");
    }
    return mly_fail(err, MLY_ERR_CORRUPT, "it cannot be read as JSON: %s at line %d", fault.text,
                    fault.line);
}

/* NULL where there is no such file. */
static enum mly_err read_json(const struct mly_env *env, const char *folder, const char *name,
                              json_t **out, struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_bytes text;
    bool exists = false;
    MLY_TRY(join(folder, name, path, err));
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
    if (!exists) return MLY_OK;
    mly_bytes_init(&text, env->mem, CONFIG_BYTES_MAX);
    enum mly_err rc = mly_file_open(
        env, MLY_AT_CWD, path, MLY_OPEN_READ | MLY_OPEN_FOLLOW | MLY_OPEN_NONBLOCK, &file, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_read_all(&file, &text, err);
    if (rc == MLY_OK) rc = parse(mly_bytes_view(&text), out, err);
    if (rc == MLY_OK && !json_is_object(*out) && !json_is_array(*out)) {
        rc = mly_fail(err, MLY_ERR_CORRUPT, "it is no JSON object");
    }
    if (rc != MLY_OK) (void)mly_fail_in(err, rc, "%s", path);
done:
    mly_file_close(&file);
    mly_bytes_deinit(&text);
    return rc;
}

static enum mly_err read_files(const struct mly_env *env, const char *folder,
                               struct mly_snapshot_files *files, struct mly_error *err)
{
    MLY_TRY(read_json(env, folder, "config.json", &files->config, err));
    if (files->config == NULL) {
        return mly_fail(err, MLY_ERR_MODEL, "the folder %s has no config.json", folder);
    }
    MLY_TRY(read_json(env, folder, "modules.json", &files->modules, err));
    MLY_TRY(read_json(env, folder, "1_Pooling/config.json", &files->pooling, err));
    MLY_TRY(read_json(env, folder, "sentence_bert_config.json", &files->sentence, err));
    MLY_TRY(read_json(env, folder, "config_sentence_transformers.json", &files->prompts, err));
    return read_json(env, folder, "tokenizer_config.json", &files->tokenizer, err);
}

static void drop_files(struct mly_snapshot_files *files)
{
    json_decref(files->config);
    json_decref(files->modules);
    json_decref(files->pooling);
    json_decref(files->sentence);
    json_decref(files->prompts);
    json_decref(files->tokenizer);
}

static enum mly_err map_weights(struct mly_snapshot *snapshot, const char *folder,
                                struct mly_error *err)
{
    static const char *const others[][2] = {
        {"pytorch_model.bin", "a pickle, which can run programs"},
        {"model.safetensors.index.json", "weights in several files"},
        {"model.onnx", "a model for ONNX Runtime, which opens the folder as it is"},
    };
    const struct mly_env *env = snapshot->env;
    char path[MLY_PATH_BYTES_MAX];
    bool exists = false;
    MLY_TRY(join(folder, "model.safetensors", path, err));
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
    for (size_t i = 0; !exists && i < sizeof(others) / sizeof(others[0]); i++) {
        bool other = false;
        MLY_TRY(join(folder, others[i][0], path, err));
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &other, err));
        if (!other) continue;
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "the folder %s has %s (%s) and no model.safetensors; only weights in one "
                        "model.safetensors are read",
                        folder, others[i][0], others[i][1]);
    }
    if (!exists) {
        return mly_fail(err, MLY_ERR_MODEL, "the folder %s has no model.safetensors", folder);
    }
    MLY_TRY(join(folder, "model.safetensors", path, err));
    MLY_TRY(mly_file_map(env, MLY_AT_CWD, path, &snapshot->weights, err));
    const struct mly_str bytes = {(const char *)snapshot->weights.data, snapshot->weights.bytes};
    const enum mly_err rc = mly_tensors_read(env->mem, bytes, &snapshot->tensors, err);
    return rc == MLY_OK ? MLY_OK : mly_fail_in(err, rc, "%s", path);
}

/* vocab.txt does where there is no tokenizer.json, if it is BERT's uncased list. */
static enum mly_err map_tokenizer(struct mly_snapshot *snapshot, const char *folder,
                                  const struct mly_snapshot_files *files, struct mly_error *err)
{
    const struct mly_env *env = snapshot->env;
    char path[MLY_PATH_BYTES_MAX];
    bool exists = false;
    MLY_TRY(join(folder, "tokenizer.json", path, err));
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
    if (!exists) {
        MLY_TRY(join(folder, "vocab.txt", path, err));
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
        if (!exists) {
            return mly_fail(err, MLY_ERR_MODEL, "the folder %s has no tokenizer.json", folder);
        }
        if (!json_is_true(json_object_get(files->tokenizer, "do_lower_case"))) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "the folder %s has no tokenizer.json, and tokenizer_config.json does "
                            "not say do_lower_case; vocab.txt alone does for uncased models only",
                            folder);
        }
        snapshot->card.tokenizer_is_list = true;
    }
    MLY_TRY(mly_file_map(env, MLY_AT_CWD, path, &snapshot->tokenizer, err));
    if (snapshot->tokenizer.bytes == 0 || snapshot->tokenizer.bytes > TOKENIZER_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s has %zu bytes, limit is %zu", path,
                        snapshot->tokenizer.bytes, TOKENIZER_BYTES_MAX);
    }
    snapshot->card.tokenizer =
        (struct mly_str){(const char *)snapshot->tokenizer.data, snapshot->tokenizer.bytes};
    return MLY_OK;
}

static enum mly_err open_parts(struct mly_snapshot *snapshot, const char *path,
                               const struct mly_snapshot_options *options,
                               struct mly_snapshot_files *files, struct mly_error *err)
{
    struct mly_file_info info;
    MLY_TRY(mly_file_info_at(snapshot->env, MLY_AT_CWD, path, true, &info, err));
    if (info.kind != MLY_KIND_DIR) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "%s is no folder; a model is converted from a folder with config.json, "
                        "model.safetensors and tokenizer.json",
                        path);
    }
    MLY_TRY(read_files(snapshot->env, path, files, err));
    enum mly_err rc = mly_snapshot_settings(snapshot, path, files, options, err);
    if (rc == MLY_OK) rc = mly_snapshot_prefixes(snapshot, files, options, err);
    if (rc != MLY_OK) return mly_fail_in(err, rc, "%s", path);
    MLY_TRY(map_weights(snapshot, path, err));
    rc = mly_snapshot_check_tensors(snapshot, files, err);
    if (rc != MLY_OK) return mly_fail_in(err, rc, "%s/model.safetensors", path);
    MLY_TRY(map_tokenizer(snapshot, path, files, err));
    mly_sha256_hex((struct mly_str){(const char *)snapshot->weights.data, snapshot->weights.bytes},
                   snapshot->card.sha256);
    return MLY_OK;
}

enum mly_err mly_snapshot_open(const struct mly_env *env, const char *path,
                               const struct mly_snapshot_options *options,
                               struct mly_snapshot **out, struct mly_error *err)
{
    struct mly_snapshot *snapshot = mly_mem_array(env->mem, 1, sizeof(*snapshot));
    if (snapshot == NULL) return mly_fail_nomem(err, sizeof(*snapshot));
    struct mly_snapshot_files files = {0};
    snapshot->env = env;
    snapshot->tensors.mem = env->mem;
    mly_arena_init(&snapshot->arena, env->mem, (size_t)1 << 20);
    enum mly_err rc = open_parts(snapshot, path, options, &files, err);
    drop_files(&files);
    if (rc != MLY_OK) {
        mly_snapshot_close(snapshot);
        return rc;
    }
    *out = snapshot;
    return MLY_OK;
}

void mly_snapshot_close(struct mly_snapshot *snapshot)
{
    if (snapshot == NULL) return;
    mly_tensors_deinit(&snapshot->tensors);
    mly_map_close(&snapshot->weights);
    mly_map_close(&snapshot->tokenizer);
    mly_arena_deinit(&snapshot->arena);
    mly_mem_free(snapshot->env->mem, snapshot);
}

const struct mly_snapshot_card *mly_snapshot_card(const struct mly_snapshot *snapshot)
{
    return &snapshot->card;
}

enum mly_err mly_snapshot_copy(struct mly_snapshot *snapshot, const char *text, struct mly_str *out,
                               struct mly_error *err)
{
    *out = mly_arena_copy(&snapshot->arena, mly_str_of(text));
    return out->data == NULL ? mly_fail_nomem(err, strlen(text) + 1) : MLY_OK;
}
