/* Names become models: a name is a path, or else one in the models' folder. The folder is listed by
 * opening what is in it, so that what cannot be used says why. */
#include "engine/engine_int.h"

#include "base/limits.h"
#include "mly_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MODEL_NAME "all-minilm-l6-v2.safetensors"
#define ENDING ".safetensors"
/* Far more than anybody has; each is opened. */
#define MODELS_MAX ((size_t)4096)

struct memalloy_models {
    struct mly_mem *mem;
    struct mly_arena arena;
    const char *folder;
    struct memalloy_model_entry *items;
    size_t count, capacity;
};

/* ---- where models are ---- */

static const char *variable_of(const struct mly_env *env, const char *name)
{
    const char *value = env->variable(env->context, name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static enum mly_err print_path(char out[MLY_PATH_BYTES_MAX], const char *a, const char *b,
                               const char *c, struct mly_error *err)
{
    const int bytes = snprintf(out, MLY_PATH_BYTES_MAX, "%s%s%s", a, b, c);
    if (bytes >= 0 && (size_t)bytes < MLY_PATH_BYTES_MAX) return MLY_OK;
    return mly_fail(err, MLY_ERR_LIMIT, "model path is longer than %zu bytes",
                    (size_t)MLY_PATH_BYTES_MAX - 1);
}

enum mly_err mly_models_folder(const struct mly_env *env, char out[MLY_PATH_BYTES_MAX],
                               struct mly_error *err)
{
    const char *models = variable_of(env, "MEMALLOY_MODELS");
    const char *data = variable_of(env, "XDG_DATA_HOME"), *home = variable_of(env, "HOME");
    if (models != NULL) return print_path(out, models, "", "", err);
    if (data != NULL && data[0] == '/') return print_path(out, data, "/memalloy/models", "", err);
    if (home != NULL) return print_path(out, home, "/.local/share/memalloy/models", "", err);
    return mly_fail(err, MLY_ERR_NOTFOUND,
                    "where are the models? neither MEMALLOY_MODELS nor HOME is set");
}

bool mly_models_is_name(const char *text)
{
    return text[0] != '\0' && text[0] != '.' && strchr(text, '/') == NULL;
}

/* *found: the folder has it, and its path is in out. */
static enum mly_err find_name(const struct mly_env *env, const char *name,
                              char out[MLY_PATH_BYTES_MAX], bool *found, struct mly_error *err)
{
    static const char *const endings[] = {"", ENDING};
    char folder[MLY_PATH_BYTES_MAX], place[MLY_PATH_BYTES_MAX];
    *found = false;
    if (!mly_models_is_name(name) || mly_models_folder(env, folder, NULL) != MLY_OK) return MLY_OK;
    MLY_TRY(print_path(place, folder, "/", name, err));
    for (size_t i = 0; i < 2 && !*found; i++) {
        MLY_TRY(print_path(out, place, endings[i], "", err));
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, out, found, err));
    }
    return MLY_OK;
}

enum mly_err mly_models_find(const struct mly_env *env, const char *wanted,
                             char out[MLY_PATH_BYTES_MAX], struct mly_error *err)
{
    bool found = false;
    if (wanted == NULL) wanted = variable_of(env, "MEMALLOY_MODEL");
    if (wanted == NULL) {
        MLY_TRY(print_path(out, MLY_MODEL_DIR, "/", DEFAULT_MODEL_NAME, err));
        MLY_TRY(mly_file_exists(env, MLY_AT_CWD, out, &found, err));
        if (found) return MLY_OK;
        return mly_fail(err, MLY_ERR_MODEL,
                        "there is no model file %s; make it with `make model`, or name one with "
                        "MEMALLOY_MODEL",
                        out);
    }
    MLY_TRY(print_path(out, wanted, "", "", err));
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, out, &found, err));
    if (found) return MLY_OK;
    MLY_TRY(find_name(env, wanted, out, &found, err));
    if (found) return MLY_OK;
    char folder[MLY_PATH_BYTES_MAX];
    if (mly_models_is_name(wanted) && mly_models_folder(env, folder, NULL) == MLY_OK) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "there is no model file %.150s, and no model of that name in %.200s",
                        wanted, folder);
    }
    return mly_fail(err, MLY_ERR_MODEL, "there is no model file %s", wanted);
}

/* ---- listing ---- */

static enum mly_err copy_to(struct mly_arena *arena, struct mly_str text, struct memalloy_str *out,
                            struct mly_error *err)
{
    if (text.data == NULL) {
        *out = (struct memalloy_str){NULL, 0};
        return MLY_OK;
    }
    const struct mly_str copy = mly_arena_copy(arena, text);
    if (copy.data == NULL) return mly_fail_nomem(err, text.bytes + 1);
    *out = mly_str_out(copy);
    return MLY_OK;
}

/* The info of an open model, its texts copied. */
static enum mly_err copy_info(struct mly_arena *arena, const memalloy_model *model,
                              const struct memalloy_model_info **out, struct mly_error *err)
{
    struct memalloy_model_info *info = mly_arena_array(arena, 1, sizeof(*info));
    if (info == NULL) return mly_fail_nomem(err, sizeof(*info));
    info->struct_bytes = sizeof(*info);
    MLY_TRY(mly_engine_model_info(model, info, err));
    struct memalloy_str *const texts[] = {
        &info->id,        &info->hash,    &info->quantisation, &info->kernels,
        &info->path,      &info->pooling, &info->query_prefix, &info->passage_prefix,
        &info->tokenizer, &info->license, &info->source,
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        MLY_TRY(copy_to(arena, mly_str_in(*texts[i]), texts[i], err));
    }
    *out = info;
    return MLY_OK;
}

static enum mly_err grow(memalloy_models *models, struct mly_error *err)
{
    if (models->count < models->capacity) return MLY_OK;
    if (models->count >= MODELS_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "the folder %s has more than %zu models",
                        models->folder, MODELS_MAX);
    }
    const size_t capacity = models->capacity == 0 ? 16 : models->capacity * 2;
    const size_t bytes = capacity * sizeof(models->items[0]);
    struct memalloy_model_entry *items = mly_mem_realloc(models->mem, models->items, bytes);
    if (items == NULL) return mly_fail_nomem(err, bytes);
    models->items = items;
    models->capacity = capacity;
    return MLY_OK;
}

/* Opens what lies at path and notes what it is or why it cannot be opened; only want of memory is
 * the listing's own failure. */
static enum mly_err add_entry(const struct mly_env *env, memalloy_models *models,
                              struct mly_str name, const char *path,
                              const struct memalloy_model_options *options, struct mly_error *err)
{
    struct memalloy_model_options local = *options;
    struct memalloy_model_entry entry = {.struct_bytes = sizeof(entry)};
    struct mly_error why = {0};
    memalloy_model *model = NULL;
    MLY_TRY(grow(models, err));
    local.path = path;
    enum mly_err rc = mly_engine_model_open(env, &local, &model, &why);
    if (rc == MLY_ERR_NOMEM) {
        if (err != NULL) *err = why;
        return rc;
    }
    struct mly_arena *arena = &models->arena;
    const struct mly_str reason = rc == MLY_OK ? MLY_STR_NULL : mly_str_of(why.message);
    rc = copy_to(arena, name, &entry.name, err);
    if (rc == MLY_OK) rc = copy_to(arena, mly_str_of(path), &entry.path, err);
    if (rc == MLY_OK) rc = copy_to(arena, reason, &entry.error, err);
    if (rc == MLY_OK && model != NULL) rc = copy_info(arena, model, &entry.info, err);
    mly_engine_model_close(model);
    if (rc == MLY_OK) models->items[models->count++] = entry;
    return rc;
}

/* "a.safetensors" is named a. */
static struct mly_str name_of(const char *file)
{
    struct mly_str name = mly_str_of(file);
    const size_t ending = sizeof(ENDING) - 1;
    if (name.bytes > ending && strcmp(file + name.bytes - ending, ENDING) == 0) {
        name.bytes -= ending;
    }
    return name;
}

/* Other files may lie there (a README, what a conversion left); models are named so, or folders. */
static enum mly_err is_model_file(const struct mly_env *env, const char *path, const char *file,
                                  bool *out, struct mly_error *err)
{
    struct mly_file_info info;
    *out = name_of(file).bytes < strlen(file);
    if (*out) return MLY_OK;
    const enum mly_err rc = mly_file_info_at(env, MLY_AT_CWD, path, true, &info, err);
    /* A link to what is gone is a model that is broken. */
    *out = rc == MLY_ERR_NOTFOUND || (rc == MLY_OK && info.kind == MLY_KIND_DIR);
    return rc == MLY_ERR_NOTFOUND ? MLY_OK : rc;
}

static int compare_entries(const void *a, const void *b)
{
    const struct memalloy_model_entry *entry_a = a, *entry_b = b;
    return mly_str_compare(mly_str_in(entry_a->name), mly_str_in(entry_b->name));
}

static enum mly_err list_folder(const struct mly_env *env, memalloy_models *models,
                                const struct memalloy_model_options *options, struct mly_error *err)
{
    struct mly_dir dir = {0};
    const char *file = NULL;
    char path[MLY_PATH_BYTES_MAX];
    bool exists = false, wanted = false;
    MLY_TRY(mly_file_exists(env, MLY_AT_CWD, models->folder, &exists, err));
    if (!exists) return MLY_OK;
    MLY_TRY(mly_dir_open(env, MLY_AT_CWD, models->folder, &dir, err));
    enum mly_err rc = mly_dir_next(&dir, &file, err);
    while (rc == MLY_OK && file != NULL) {
        if (mly_models_is_name(file)) {
            rc = print_path(path, models->folder, "/", file, err);
            if (rc == MLY_OK) rc = is_model_file(env, path, file, &wanted, err);
            if (rc == MLY_OK && wanted) {
                rc = add_entry(env, models, name_of(file), path, options, err);
            }
        }
        if (rc == MLY_OK) rc = mly_dir_next(&dir, &file, err);
    }
    mly_dir_close(&dir);
    if (rc == MLY_OK && models->count > 1) {
        qsort(models->items, models->count, sizeof(models->items[0]), compare_entries);
    }
    return rc;
}

/* The default is marked where it is in the folder, else it comes behind what is. */
static enum mly_err mark_default(const struct mly_env *env, memalloy_models *models,
                                 const struct memalloy_model_options *options,
                                 struct mly_error *err)
{
    char path[MLY_PATH_BYTES_MAX];
    const enum mly_err rc = mly_models_find(env, NULL, path, NULL);
    if (rc != MLY_OK) return rc == MLY_ERR_NOMEM ? mly_fail_nomem(err, 0) : MLY_OK;
    for (size_t i = 0; i < models->count; i++) {
        if (strcmp(models->items[i].path.data, path) == 0) {
            models->items[i].is_default = 1;
            return MLY_OK;
        }
    }
    MLY_TRY(add_entry(env, models, mly_str_of(path), path, options, err));
    models->items[models->count - 1].is_default = 1;
    return MLY_OK;
}

static enum mly_err fill(const struct mly_env *env, memalloy_models *models,
                         const struct memalloy_model_options *given, struct mly_error *err)
{
    struct memalloy_model_options options = {.struct_bytes = sizeof(options)};
    char folder[MLY_PATH_BYTES_MAX];
    MLY_TRY(mly_options_take(&options, sizeof(options), given, "memalloy_model_options", err));
    options.threads = 1; /* none is started for it */
    MLY_TRY(mly_models_folder(env, folder, err));
    struct memalloy_str copy = {NULL, 0};
    MLY_TRY(copy_to(&models->arena, mly_str_of(folder), &copy, err));
    models->folder = copy.data;
    MLY_TRY(list_folder(env, models, &options, err));
    return mark_default(env, models, &options, err);
}

enum mly_err mly_engine_models_list(const struct mly_env *env,
                                    const struct memalloy_model_options *options,
                                    memalloy_models **out, struct mly_error *err)
{
    memalloy_models *models = mly_mem_array(env->mem, 1, sizeof(*models));
    if (models == NULL) return mly_fail_nomem(err, sizeof(*models));
    models->mem = env->mem;
    mly_arena_init(&models->arena, env->mem, SIZE_MAX);
    const enum mly_err rc = fill(env, models, options, err);
    if (rc != MLY_OK) {
        memalloy_models_destroy(models);
        return rc;
    }
    *out = models;
    return MLY_OK;
}

size_t memalloy_models_count(const memalloy_models *models)
{
    return models != NULL ? models->count : 0;
}

const char *memalloy_models_folder(const memalloy_models *models)
{
    return models->folder;
}

void memalloy_models_get(const memalloy_models *models, size_t index,
                         struct memalloy_model_entry *out)
{
    mly_options_give(out, &models->items[index], sizeof(models->items[index]));
}

void memalloy_models_destroy(memalloy_models *models)
{
    if (models == NULL) return;
    struct mly_mem *mem = models->mem;
    mly_arena_deinit(&models->arena);
    mly_mem_free(mem, models->items);
    mly_mem_free(mem, models);
}

/* ---- one of them ---- */

void mly_models_name_hash(const struct mly_env *env, struct mly_str hash, char *out,
                          size_t out_bytes)
{
    memalloy_models *models = NULL;
    out[0] = '\0';
    if (mly_engine_models_list(env, NULL, &models, NULL) != MLY_OK) return;
    for (size_t i = 0; i < models->count && out[0] == '\0'; i++) {
        const struct memalloy_model_entry *entry = &models->items[i];
        if (entry->info == NULL || !mly_str_equal(mly_str_in(entry->info->hash), hash)) continue;
        (void)snprintf(out, out_bytes, "%s", entry->name.data);
    }
    memalloy_models_destroy(models);
}

enum mly_err mly_engine_model_remove(const struct mly_env *env, const char *name,
                                     struct mly_error *err)
{
    char folder[MLY_PATH_BYTES_MAX], path[MLY_PATH_BYTES_MAX];
    struct mly_file_info info;
    if (!mly_models_is_name(name)) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "\"%.200s\" is no name of a model: it has a slash, a "
                        "dot in front, or nothing",
                        name);
    }
    MLY_TRY(mly_models_folder(env, folder, err));
    MLY_TRY(print_path(path, folder, "/", name, err));
    /* The link itself where it is one, also where it leads nowhere. */
    enum mly_err rc = mly_file_info_at(env, MLY_AT_CWD, path, false, &info, err);
    if (rc == MLY_ERR_NOTFOUND) {
        char place[MLY_PATH_BYTES_MAX];
        MLY_TRY(print_path(place, folder, "/", name, err));
        MLY_TRY(print_path(path, place, ENDING, "", err));
        rc = mly_file_info_at(env, MLY_AT_CWD, path, false, &info, err);
    }
    if (rc == MLY_ERR_NOTFOUND) {
        return mly_fail(err, MLY_ERR_NOTFOUND, "there is no model %.200s in %.200s", name, folder);
    }
    if (rc != MLY_OK) return rc;
    if (info.kind == MLY_KIND_DIR) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "%.300s is a folder, not a file or link of ours: remove it yourself", path);
    }
    MLY_TRY(mly_file_unlink(env, MLY_AT_CWD, path, err));
    return mly_dir_sync(env, MLY_AT_CWD, folder, err);
}
