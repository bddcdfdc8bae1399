/* In: a folder as sentence encoders are published. Out: which files, which pooling, how many word
 * pieces and ids. The tokenizer itself is others' to read. What is missing has a default; what is
 * there and means something that we do not do is refused. */
#include "embed/onnx/onnx_int.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

/* Half a million pieces of 100 bytes; configurations are far smaller. */
#define JSON_BYTES_MAX ((size_t)64 << 20)

static enum mly_err join(struct mly_arena *arena, const char *folder, const char *name,
                         const char **out, struct mly_error *err)
{
    const size_t bytes = strlen(folder) + 1 + strlen(name) + 1;
    if (bytes > MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%.60s...: the path of %s is longer than %zu bytes",
                        folder, name, MLY_PATH_BYTES_MAX - 1);
    }
    char *path = mly_arena_take(arena, bytes);
    if (path == NULL) return mly_fail_nomem(err, bytes);
    (void)snprintf(path, bytes, "%s/%s", folder, name);
    *out = path;
    return MLY_OK;
}

static enum mly_err parse(struct mly_str text, const char *path, json_t **out,
                          struct mly_error *err)
{
    json_error_t fault;
    json_t *value =
        json_loadb(text.bytes > 0 ? text.data : "", text.bytes, JSON_REJECT_DUPLICATES, &fault);
    if (value != NULL) {
        *out = value;
        return MLY_OK;
    }
    if (json_error_code(&fault) == json_error_out_of_memory) {
        return mly_fail(err, MLY_ERR_NOMEM, "out of memory while reading %s", path);
    }
    return mly_fail(err, MLY_ERR_CORRUPT, "%s cannot be read as JSON: %s at line %d", path,
                    fault.text, fault.line);
}

enum mly_err mly_onnx_json_read(const struct mly_env *env, const char *path, json_t **out,
                                struct mly_error *err)
{
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_bytes text;
    bool exists = false;
    *out = NULL;
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, path, &exists, err));
    if (!exists) return MLY_OK;
    mly_bytes_init(&text, env->mem, JSON_BYTES_MAX);
    enum mly_err rc = mly_file_open(
        env, MLY_AT_CWD, path, MLY_OPEN_READ | MLY_OPEN_FOLLOW | MLY_OPEN_NONBLOCK, &file, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_read_all(&file, &text, err);
    if (rc != MLY_OK) {
        (void)mly_fail_in(err, rc, "%s", path);
        goto done;
    }
    rc = parse(mly_bytes_view(&text), path, out, err);
done:
    mly_file_close(&file);
    mly_bytes_deinit(&text);
    return rc;
}

/* The JSON of folder/name, or NULL where there is none. */
static enum mly_err read_config(const struct mly_env *env, struct mly_arena *arena,
                                const char *folder, const char *name, json_t **out,
                                struct mly_error *err)
{
    const char *path = NULL;
    *out = NULL;
    MLY_TRY(join(arena, folder, name, &path, err));
    return mly_onnx_json_read(env, path, out, err);
}

static enum mly_err find_model(const struct mly_env *env, struct mly_arena *arena,
                               const char *folder, const char **out, struct mly_error *err)
{
    static const char *const names[] = {"model.onnx", "onnx/model.onnx"};
    for (size_t i = 0; i < 2; i++) {
        bool exists = false;
        MLY_TRY(join(arena, folder, names[i], out, err));
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, *out, &exists, err));
        if (exists) return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_MODEL, "the folder %s has neither model.onnx nor onnx/model.onnx",
                    folder);
}

static bool ends_with(const char *text, const char *end)
{
    const size_t bytes = strlen(text), end_bytes = strlen(end);
    return bytes >= end_bytes && strcmp(text + bytes - end_bytes, end) == 0;
}

/* The steps of sentence-transformers. Unit length is what we give in any case. */
static enum mly_err check_modules(const json_t *modules, struct mly_error *err)
{
    for (size_t i = 0; i < json_array_size(modules); i++) {
        const json_t *step = json_array_get(modules, i);
        const json_t *type = json_object_get(step, "type"), *path = json_object_get(step, "path");
        const char *name = json_is_string(type) ? json_string_value(type) : "(none)";
        const char *folder = json_is_string(path) ? json_string_value(path) : "";
        if (ends_with(name, ".Transformer") || ends_with(name, ".Normalize")) continue;
        if (!ends_with(name, ".Pooling")) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "modules.json: a step of type %.80s is not supported", name);
        }
        if (strcmp(folder, "1_Pooling") != 0) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "modules.json: the pooling lies in \"%.80s\", expected 1_Pooling",
                            folder);
        }
    }
    return MLY_OK;
}

/* One of two ways: a word ("mean"), or a flag for each way there is. */
static enum mly_err read_pooling(const json_t *config, enum mly_onnx_pooling *out,
                                 struct mly_error *err)
{
    static const char prefix[] = "pooling_mode_";
    const char *chosen = NULL, *key;
    const json_t *value = json_object_get(config, "pooling_mode");
    if (json_is_string(value)) chosen = json_string_value(value);
    json_t *each;
    json_object_foreach((json_t *)config, key, each)
    {
        if (strncmp(key, prefix, sizeof(prefix) - 1) != 0 || !json_is_true(each)) continue;
        if (chosen != NULL) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "1_Pooling/config.json: %.60s beside %.60s; only one pooling at a time "
                            "is supported",
                            key, chosen);
        }
        chosen = key + sizeof(prefix) - 1;
    }
    if (chosen == NULL || strcmp(chosen, "mean") == 0 || strcmp(chosen, "mean_tokens") == 0) {
        *out = MLY_ONNX_MEAN;
        return MLY_OK;
    }
    if (strcmp(chosen, "cls") == 0 || strcmp(chosen, "cls_token") == 0) {
        *out = MLY_ONNX_CLS;
        return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_UNSUPPORTED,
                    "1_Pooling/config.json: pooling %.60s; mean and cls are supported", chosen);
}

/* False where the number is missing or null. */
static bool take_pieces(const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value)) return false;
    *out = json_integer_value(value);
    return true;
}

/* One more than the largest id that a tokenizer.json gives. */
static enum mly_err count_ids(const json_t *tokenizer, uint32_t *out, struct mly_error *err)
{
    json_t *vocabulary = json_object_get(json_object_get(tokenizer, "model"), "vocab");
    const json_t *added = json_object_get(tokenizer, "added_tokens");
    json_int_t count = (json_int_t)json_array_size(vocabulary); /* unigram: ids are places */
    const char *key;
    json_t *value;
    json_object_foreach(vocabulary, key, value)
    {
        if (json_integer_value(value) >= count) count = json_integer_value(value) + 1;
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *id = json_object_get(json_array_get(added, i), "id");
        if (json_integer_value(id) >= count) count = json_integer_value(id) + 1;
    }
    if (count < 1 || count > INT32_MAX) {
        return mly_fail(err, MLY_ERR_CORRUPT, "tokenizer.json has %lld ids, at least 1 is needed",
                        (long long)count);
    }
    *out = (uint32_t)count;
    return MLY_OK;
}

/* What stands behind a shorter text of a batch; the mask says that it is nothing. */
static int64_t find_pad(const json_t *tokenizer, const json_t *config, uint32_t id_count)
{
    int64_t pad = 0;
    if (!take_pieces(json_object_get(tokenizer, "padding"), "pad_id", &pad)) {
        (void)take_pieces(config, "pad_token_id", &pad);
    }
    return pad >= 0 && pad < id_count ? pad : 0;
}

static enum mly_err set_pieces(struct mly_onnx_folder *out, int64_t pieces, struct mly_error *err)
{
    if (pieces < 3) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "the model reads %lld word pieces, at least 3 are needed",
                        (long long)pieces);
    }
    out->pieces_max = (uint32_t)(pieces < MLY_ONNX_PIECES_MAX ? pieces : MLY_ONNX_PIECES_MAX);
    return MLY_OK;
}

/* One prompt of sentence-transformers, under one of two names, into arena. */
static enum mly_err take_prompt(struct mly_arena *arena, const json_t *prompts, const char *name,
                                const char *other, struct mly_str *out, struct mly_error *err)
{
    const json_t *prompt = json_object_get(prompts, name);
    if (prompt == NULL && other != NULL) prompt = json_object_get(prompts, other);
    struct mly_str text = MLY_STR("");
    if (json_is_string(prompt)) text = mly_str_of(json_string_value(prompt));
    *out = mly_arena_copy(arena, text);
    return out->data == NULL ? mly_fail_nomem(err, text.bytes + 1) : MLY_OK;
}

static enum mly_err take_prompts(struct mly_arena *arena, const json_t *config,
                                 const json_t *pooling, struct mly_onnx_folder *out,
                                 struct mly_error *err)
{
    const json_t *prompts = json_object_get(config, "prompts");
    MLY_TRY(take_prompt(arena, prompts, "query", NULL, &out->query_prefix, err));
    MLY_TRY(take_prompt(arena, prompts, "passage", "document", &out->passage_prefix, err));
    const bool prefixed = out->query_prefix.bytes + out->passage_prefix.bytes > 0;
    if (prefixed && json_is_false(json_object_get(pooling, "include_prompt"))) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "1_Pooling/config.json: include_prompt false, beside prompts; prompts are "
                        "pooled with their texts here");
    }
    return MLY_OK;
}

static enum mly_err take_id(const struct mly_env *env, struct mly_arena *arena, const char *path,
                            const json_t *config, struct mly_str *out, struct mly_error *err)
{
    const json_t *name = json_object_get(config, "_name_or_path");
    struct mly_str id = mly_str_of(json_is_string(name) ? json_string_value(name) : "");
    char real[MLY_PATH_BYTES_MAX];
    if (id.bytes == 0) {
        const int64_t bytes = env->real_path(env->context, path, real, sizeof(real));
        if (bytes < 0) {
            return mly_fail_errno(err, MLY_ERR_IO, (int)-bytes, "cannot find where %s is", path);
        }
        const char *start = real + bytes;
        while (start > real && start[-1] != '/') {
            start--;
        }
        id = (struct mly_str){start, (size_t)(real + bytes - start)};
    }
    if (id.bytes == 0) id = MLY_STR("onnx");
    if (id.bytes > MLY_ID_BYTES_MAX) {
        id.bytes = MLY_ID_BYTES_MAX;
        while (id.bytes > 1 && !mly_utf8_is_start(id.data[id.bytes])) {
            id.bytes--;
        }
    }
    *out = mly_arena_copy(arena, id);
    return out->data == NULL ? mly_fail_nomem(err, id.bytes + 1) : MLY_OK;
}

enum mly_err mly_onnx_folder_read(const struct mly_env *env, struct mly_arena *arena,
                                  const char *path, struct mly_onnx_folder *out,
                                  struct mly_error *err)
{
    json_t *tokenizer = NULL, *config = NULL, *sentence = NULL, *pooling = NULL, *modules = NULL;
    json_t *prompts = NULL;
    struct mly_onnx_folder folder = {.pooling = MLY_ONNX_MEAN};
    enum mly_err rc = find_model(env, arena, path, &folder.model_path, err);
    if (rc == MLY_OK) rc = join(arena, path, "tokenizer.json", &folder.tokenizer_path, err);
    if (rc == MLY_OK) rc = mly_onnx_json_read(env, folder.tokenizer_path, &tokenizer, err);
    if (rc == MLY_OK && tokenizer == NULL) {
        rc = mly_fail(err, MLY_ERR_MODEL, "the folder %s has no tokenizer.json", path);
    }
    if (rc == MLY_OK) rc = count_ids(tokenizer, &folder.id_count, err);
    if (rc == MLY_OK) rc = read_config(env, arena, path, "config.json", &config, err);
    if (rc == MLY_OK) {
        rc = read_config(env, arena, path, "sentence_bert_config.json", &sentence, err);
    }
    if (rc == MLY_OK) rc = read_config(env, arena, path, "1_Pooling/config.json", &pooling, err);
    if (rc == MLY_OK) rc = read_config(env, arena, path, "modules.json", &modules, err);
    if (rc == MLY_OK) {
        rc = read_config(env, arena, path, "config_sentence_transformers.json", &prompts, err);
    }
    if (rc == MLY_OK) rc = check_modules(modules, err);
    if (rc == MLY_OK) rc = read_pooling(pooling, &folder.pooling, err);
    if (rc == MLY_OK) {
        int64_t pieces = MLY_ONNX_PIECES_MAX;
        const json_t *cut = json_object_get(tokenizer, "truncation");
        if (!take_pieces(sentence, "max_seq_length", &pieces) &&
            !take_pieces(cut, "max_length", &pieces)) {
            (void)take_pieces(config, "max_position_embeddings", &pieces);
        }
        rc = set_pieces(&folder, pieces, err);
    }
    folder.pad_id = find_pad(tokenizer, config, folder.id_count);
    if (rc == MLY_OK) rc = take_prompts(arena, prompts, pooling, &folder, err);
    if (rc == MLY_OK) rc = take_id(env, arena, path, config, &folder.id, err);
    if (rc == MLY_OK) *out = folder;
    json_decref(prompts);
    json_decref(modules);
    json_decref(pooling);
    json_decref(sentence);
    json_decref(config);
    json_decref(tokenizer);
    return rc;
}
