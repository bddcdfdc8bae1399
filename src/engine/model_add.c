/* A published folder becomes a model of the models' folder: converted into a file, or, for ONNX
 * Runtime, linked to. */
#include "engine/engine_int.h"

#include "base/limits.h"

#include <stdio.h>
#include <string.h>

#define NAME_BYTES sizeof(((struct memalloy_convert_report *)0)->name)

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* The last part of a path before end, as [*start, *end). */
static struct mly_str last_part(struct mly_str path)
{
    size_t start = path.bytes;
    while (start > 0 && path.data[start - 1] != '/') {
        start--;
    }
    return mly_str_slice(path, start, path.bytes);
}

static struct mly_str parent_of(struct mly_str path)
{
    const size_t last = last_part(path).bytes;
    return mly_str_slice(path, 0, path.bytes > last ? path.bytes - last - 1 : 0);
}

/* The folder's own name; in the cache of Hugging Face, models--ORG--NAME/snapshots/HASH, NAME. */
static struct mly_str name_of_folder(struct mly_str path)
{
    const struct mly_str above = parent_of(path), grand = last_part(parent_of(above));
    if (!mly_str_equal(last_part(above), MLY_STR("snapshots")) ||
        !mly_str_starts_with(grand, MLY_STR("models--"))) {
        return last_part(path);
    }
    size_t start = grand.bytes;
    while (start > 2 && memcmp(grand.data + start - 2, "--", 2) != 0) {
        start--;
    }
    return mly_str_slice(grand, start, grand.bytes);
}

/* name, or one made of the folder's, into out. */
static enum mly_err choose_name(const struct mly_env *env, const char *name, const char *source,
                                char out[NAME_BYTES], struct mly_error *err)
{
    if (name != NULL) {
        if (!mly_models_is_name(name) || strlen(name) >= NAME_BYTES) {
            return mly_fail(err, MLY_ERR_INVAL,
                            "\"%.200s\" is no name for a model: it may not have a slash, a dot in "
                            "front, nothing, or more than %zu bytes",
                            name, NAME_BYTES - 1);
        }
        memcpy(out, name, strlen(name) + 1);
        return MLY_OK;
    }
    struct mly_bytes real;
    mly_bytes_init(&real, env->mem, MLY_PATH_BYTES_MAX);
    enum mly_err rc = mly_dir_real_path(env, source, &real, err);
    if (rc == MLY_OK) {
        const struct mly_str part = name_of_folder(mly_bytes_view(&real));
        size_t bytes = 0;
        for (size_t i = 0; i < part.bytes && bytes + 1 < NAME_BYTES; i++) {
            if (bytes == 0 && part.data[i] == '.') continue;
            out[bytes++] = part.data[i];
            if (!is_plain(out[bytes - 1])) out[bytes - 1] = '-';
        }
        out[bytes] = '\0';
        if (bytes == 0) {
            rc = mly_fail(err, MLY_ERR_INVAL, "the folder %s gives no name: give one", source);
        }
    }
    mly_bytes_deinit(&real);
    return rc;
}

/* Everything that says what is linked to; the numbers of a conversion stay 0. */
static void fill_report(const struct memalloy_model_info *info, struct memalloy_convert_report *out)
{
    (void)snprintf(out->id, sizeof(out->id), "%s", info->id.data);
    (void)snprintf(out->hash, sizeof(out->hash), "%s", info->hash.data);
    (void)snprintf(out->architecture, sizeof(out->architecture), "onnx");
    (void)snprintf(out->pooling, sizeof(out->pooling), "%s", info->pooling.data);
    (void)snprintf(out->quantisation, sizeof(out->quantisation), "onnx");
    (void)snprintf(out->query_prefix, sizeof(out->query_prefix), "%s", info->query_prefix.data);
    (void)snprintf(out->passage_prefix, sizeof(out->passage_prefix), "%s",
                   info->passage_prefix.data);
    out->dim = info->dim;
    out->pieces_max = info->pieces_max;
    out->vocabulary = info->vocabulary;
}

static enum mly_err link_folder(const struct mly_env *env, const char *path,
                                const struct memalloy_convert_options *options,
                                struct memalloy_convert_report *out, struct mly_error *err)
{
    struct memalloy_model_options model_options = {
        .struct_bytes = sizeof(model_options),
        .path = options->source_path,
        .threads = 1,
        .onnxruntime_path = options->onnxruntime_path,
    };
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    struct mly_bytes real;
    memalloy_model *model = NULL;
    if (options->query_prefix != NULL || options->passage_prefix != NULL ||
        options->pooling != NULL || options->pieces_max != 0) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "pooling, prefixes and length of a folder for ONNX Runtime stand in its "
                        "own files");
    }
    mly_bytes_init(&real, env->mem, MLY_PATH_BYTES_MAX);
    enum mly_err rc = mly_engine_model_open(env, &model_options, &model, err);
    if (rc == MLY_OK) rc = mly_engine_model_info(model, &info, err);
    if (rc == MLY_OK && !mly_str_equal(mly_str_in(info.quantisation), MLY_STR("onnx"))) {
        rc = mly_fail(err, MLY_ERR_INVAL, "%s is no folder for ONNX Runtime", options->source_path);
    }
    if (rc == MLY_OK) fill_report(&info, out);
    mly_engine_model_close(model);
    if (rc == MLY_OK) rc = mly_dir_real_path(env, options->source_path, &real, err);
    if (rc == MLY_OK) rc = mly_bytes_append(&real, "", 1, err);
    if (rc == MLY_OK && options->overwrite) rc = mly_file_unlink(env, MLY_AT_CWD, path, err);
    if (rc == MLY_OK) {
        rc = mly_file_symlink(env, (const char *)real.data, MLY_AT_CWD, path, err);
    }
    mly_bytes_deinit(&real);
    return rc;
}

static enum mly_err add(const struct mly_env *env, const char *name,
                        struct memalloy_convert_options *options,
                        struct memalloy_convert_report *report, struct mly_error *err)
{
    char folder[MLY_PATH_BYTES_MAX], path[MLY_PATH_BYTES_MAX];
    char chosen[NAME_BYTES] = "";
    const bool linked = options->quantisation != NULL && strcmp(options->quantisation, "onnx") == 0;
    if (options->source_path == NULL) return mly_fail(err, MLY_ERR_INVAL, "source_path is NULL");
    MLY_TRY(choose_name(env, name, options->source_path, chosen, err));
    MLY_TRY(mly_models_folder(env, folder, err));
    const int bytes =
        snprintf(path, sizeof(path), "%s/%s%s", folder, chosen, linked ? "" : ".safetensors");
    if (bytes < 0 || (size_t)bytes >= sizeof(path)) {
        return mly_fail(err, MLY_ERR_LIMIT, "model path is longer than %zu bytes",
                        sizeof(path) - 1);
    }
    MLY_TRY(mly_dir_make_all(env, folder, err));
    options->out_path = path;
    if (options->id == NULL) options->id = chosen;
    if (linked) {
        MLY_TRY(link_folder(env, path, options, report, err));
        MLY_TRY(mly_dir_sync(env, MLY_AT_CWD, folder, err));
    } else {
        MLY_TRY(mly_engine_convert(env, options, report, err));
    }
    memcpy(report->name, chosen, sizeof(chosen));
    return MLY_OK;
}

enum mly_err mly_engine_model_add(const struct mly_env *env, const char *name,
                                  const struct memalloy_convert_options *options,
                                  struct memalloy_convert_report *out, struct mly_error *err)
{
    struct memalloy_convert_options local = {.struct_bytes = sizeof(local)};
    struct memalloy_convert_report report = {.struct_bytes = sizeof(report)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_convert_options", err));
    MLY_TRY(add(env, name, &local, &report, err));
    if (out != NULL) mly_options_give(out, &report, sizeof(report));
    return MLY_OK;
}
