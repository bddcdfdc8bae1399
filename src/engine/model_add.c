/* A published folder becomes a model of the models' folder: converted into a file, or, for ONNX
 * Runtime, linked to. */
#include "engine/engine_int.h"

#include "base/limits.h"

#include <inttypes.h>
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

#define COPY(to, from) mly_options_copy_text((to), sizeof(to), mly_str_in(from))

/* Everything that says what is linked to; the numbers of a conversion stay 0. */
static void fill_report(const struct memalloy_model_info *info, struct memalloy_convert_report *out)
{
    COPY(out->id, info->id);
    COPY(out->hash, info->hash);
    (void)snprintf(out->architecture, sizeof(out->architecture), "onnx");
    COPY(out->pooling, info->pooling);
    (void)snprintf(out->quantisation, sizeof(out->quantisation), "onnx");
    COPY(out->query_prefix, info->query_prefix);
    COPY(out->passage_prefix, info->passage_prefix);
    out->dim = info->dim;
    out->pieces_max = info->pieces_max;
    out->vocabulary = info->vocabulary;
}

/* A link that is there is replaced in one step: at no moment is there none. */
static enum mly_err put_link(const struct mly_env *env, const char *target, const char *path,
                             bool overwrite, struct mly_error *err)
{
    char part[MLY_PATH_BYTES_MAX];
    uint32_t salt = 0;
    if (!overwrite) return mly_file_symlink(env, target, MLY_AT_CWD, path, err);
    const int drawn = env->random(env->context, &salt, sizeof(salt));
    if (drawn < 0) return mly_fail_errno(err, MLY_ERR_IO, -drawn, "no random number could be had");
    const int bytes = snprintf(part, sizeof(part), "%s.%08" PRIx32 ".part", path, salt);
    if (bytes < 0 || (size_t)bytes >= sizeof(part)) {
        return mly_fail(err, MLY_ERR_LIMIT, "model path is longer than %zu bytes",
                        sizeof(part) - 1);
    }
    MLY_TRY(mly_file_symlink(env, target, MLY_AT_CWD, part, err));
    enum mly_err rc = mly_file_rename(env, MLY_AT_CWD, part, path, err);
    if (rc != MLY_OK) {
        enum mly_err removed = mly_file_unlink(env, MLY_AT_CWD, part, NULL);
        (void)removed; /* what cannot be removed stays; its name says what it is */
    }
    return rc;
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
    if (rc == MLY_OK) {
        rc = put_link(env, (const char *)real.data, path, options->overwrite != 0, err);
    }
    mly_bytes_deinit(&real);
    return rc;
}

static enum mly_err check_quantisation(const char *wanted, struct mly_error *err)
{
    static const char *const names[] = {"int8", "bf16", "f32", "onnx"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (wanted == NULL || strcmp(wanted, names[i]) == 0) return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_INVAL, "quantisation %.40s is none of int8, bf16, f32 and onnx",
                    wanted);
}

static enum mly_err add(const struct mly_env *env, const char *name,
                        struct memalloy_convert_options *options,
                        struct memalloy_convert_report *report, struct mly_error *err)
{
    char folder[MLY_PATH_BYTES_MAX], path[MLY_PATH_BYTES_MAX];
    char chosen[NAME_BYTES] = "";
    const bool linked = options->quantisation != NULL && strcmp(options->quantisation, "onnx") == 0;
    if (options->source_path == NULL) return mly_fail(err, MLY_ERR_INVAL, "source_path is NULL");
    MLY_TRY(check_quantisation(options->quantisation, err));
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
