/* A model file becomes pointers: its configuration is read from the metadata, every tensor that the
 * configuration calls for is looked up and must have just that type and shape.
 *
 * In: a path. Out: a struct mly_model whose weights are the mapped file itself.
 */
#include "embed/embed_int.h"

#include "base/hash.h"
#include "embed/safetensors.h"
#include "embed/scan.h"

#include <stdio.h>

#define CONFIG_BYTES_MAX 4096
#define FORMAT_VERSION "1"

/* A value of the metadata, still escaped; null where the key is missing. */
static struct mly_str metadata_get(const struct mly_tensors *tensors, struct mly_str wanted)
{
    struct mly_scan scan = mly_scan_of(tensors->metadata);
    struct mly_str key, value;
    if (tensors->metadata.data == NULL || !mly_scan_mark(&scan, '{')) return MLY_STR_NULL;
    do {
        if (!mly_scan_string(&scan, &key) || !mly_scan_mark(&scan, ':') ||
            !mly_scan_string(&scan, &value)) {
            return MLY_STR_NULL;
        }
        if (mly_str_equal(key, wanted)) return value;
    } while (mly_scan_mark(&scan, ','));
    return MLY_STR_NULL;
}

static enum mly_err check_format(const struct mly_tensors *tensors, struct mly_error *err)
{
    const struct mly_str format = metadata_get(tensors, MLY_STR("format"));
    const struct mly_str version = metadata_get(tensors, MLY_STR("format_version"));
    if (!mly_str_equal(format, MLY_STR("memalloy-model"))) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "a safetensors file, but not one that tools/make_model.py made");
    }
    if (!mly_str_equal(version, MLY_STR(FORMAT_VERSION))) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "model format version %.*s, this memalloy reads " FORMAT_VERSION,
                        (int)(version.bytes < 20 ? version.bytes : 20),
                        version.data == NULL ? "" : version.data);
    }
    return MLY_OK;
}

/* One setting of the configuration: a number with its range, or a word that must be this one. */
struct setting {
    struct mly_str key;
    size_t *number;
    size_t min, max;
    struct mly_str word;
    bool seen;
};

static enum mly_err read_setting(struct mly_scan *scan, struct setting *setting,
                                 struct mly_error *err)
{
    uint64_t number = 0;
    struct mly_str word;
    const char *key = setting->key.data;
    if (setting->seen) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s stands twice in the model's configuration", key);
    }
    setting->seen = true;
    if (setting->number == NULL) {
        if (!mly_scan_plain(scan, &word)) {
            return mly_fail(err, MLY_ERR_CORRUPT, "%s of the model's configuration is no text",
                            key);
        }
        if (!mly_str_equal(word, setting->word)) {
            return mly_fail(err, MLY_ERR_MODEL, "the model's %s is %.*s, only %s can be run", key,
                            (int)(word.bytes < 40 ? word.bytes : 40), word.data,
                            setting->word.data);
        }
        return MLY_OK;
    }
    if (!mly_scan_number(scan, &number)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s of the model's configuration is no whole number",
                        key);
    }
    if (number < setting->min || number > setting->max) {
        return mly_fail(err, MLY_ERR_MODEL, "the model's %s is %llu, it must be %zu to %zu", key,
                        (unsigned long long)number, setting->min, setting->max);
    }
    *setting->number = (size_t)number;
    return MLY_OK;
}

static enum mly_err read_settings(struct mly_str text, struct setting *settings, size_t count,
                                  struct mly_error *err)
{
    struct mly_scan scan = mly_scan_of(text);
    bool ok = mly_scan_mark(&scan, '{');
    while (ok) {
        struct mly_str key;
        size_t i = 0;
        ok = mly_scan_plain(&scan, &key) && mly_scan_mark(&scan, ':');
        if (!ok) break;
        while (i < count && !mly_str_equal(settings[i].key, key)) {
            i++;
        }
        if (i == count) {
            return mly_fail(err, MLY_ERR_MODEL,
                            "the model's configuration has %.*s, which this "
                            "memalloy does not know",
                            (int)(key.bytes < 40 ? key.bytes : 40), key.data);
        }
        MLY_TRY(read_setting(&scan, &settings[i], err));
        if (!mly_scan_mark(&scan, ',')) break;
    }
    if (!ok || !mly_scan_mark(&scan, '}') || !mly_scan_done(&scan)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model's configuration cannot be read");
    }
    for (size_t i = 0; i < count; i++) {
        if (!settings[i].seen) {
            return mly_fail(err, MLY_ERR_CORRUPT, "the model's configuration lacks %s",
                            settings[i].key.data);
        }
    }
    return MLY_OK;
}

static enum mly_err check_config(const struct mly_model_config *config, struct mly_error *err)
{
    if (config->hidden % MLY_KERN_PANEL != 0 || config->intermediate % MLY_KERN_PANEL != 0) {
        return mly_fail(err, MLY_ERR_MODEL, "the model's sizes %zu and %zu must be multiples of %d",
                        config->hidden, config->intermediate, MLY_KERN_PANEL);
    }
    if (config->hidden % config->heads != 0 || config->hidden / config->heads % 16 != 0) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "the model's heads, %zu of %zu numbers, must be multiples of 16 wide",
                        config->heads, config->hidden);
    }
    if (config->pieces_max > config->positions) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model reads %zu pieces but has %zu positions",
                        config->pieces_max, config->positions);
    }
    return MLY_OK;
}

static enum mly_err read_config(const struct mly_tensors *tensors, struct mly_model_config *out,
                                struct mly_error *err)
{
    char buffer[CONFIG_BYTES_MAX];
    size_t bytes = 0, femto = 0;
    struct mly_model_config config = {0};
    struct setting settings[] = {
        {.key = MLY_STR("architecture"), .word = MLY_STR("bert")},
        {.key = MLY_STR("pooling"), .word = MLY_STR("mean")},
        {MLY_STR("heads"), &config.heads, 1, MLY_MODEL_SIZE_MAX / 16, MLY_STR_NULL, false},
        {MLY_STR("hidden"), &config.hidden, 64, MLY_MODEL_SIZE_MAX, MLY_STR_NULL, false},
        {MLY_STR("intermediate"), &config.intermediate, 64, MLY_KERN_IN_MAX, MLY_STR_NULL, false},
        {MLY_STR("layers"), &config.layers, 1, MLY_MODEL_LAYERS_MAX, MLY_STR_NULL, false},
        {MLY_STR("positions"), &config.positions, 2, 65536, MLY_STR_NULL, false},
        {MLY_STR("pieces_max"), &config.pieces_max, 2, MLY_MODEL_PIECES_MAX, MLY_STR_NULL, false},
        {MLY_STR("vocabulary"), &config.vocabulary, 1, MLY_MODEL_VOCABULARY_MAX, MLY_STR_NULL,
         false},
        /* In units of 1e-15, so that no decimal fraction has to be parsed. */
        {MLY_STR("layer_norm_epsilon_femto"), &femto, 1, 1000000000000u, MLY_STR_NULL, false},
    };
    const struct mly_str raw = metadata_get(tensors, MLY_STR("config"));
    if (raw.data == NULL || !mly_scan_unescape(raw, buffer, sizeof(buffer), &bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model's configuration cannot be read");
    }
    MLY_TRY(read_settings((struct mly_str){buffer, bytes}, settings,
                          sizeof(settings) / sizeof(settings[0]), err));
    config.epsilon = (float)((double)femto * 1e-15);
    MLY_TRY(check_config(&config, err));
    *out = config;
    return MLY_OK;
}

/* The data of one tensor, which must have just this type and shape. */
struct find {
    const struct mly_tensors *tensors;
    const char *prefix; /* put in front of every name */
    struct mly_error *err;
};

static enum mly_err find_tensor(const struct find *find, const char *name, const char *part,
                                enum mly_tensor_type type, const uint64_t *shape, size_t rank,
                                const void **out)
{
    char whole[96];
    (void)snprintf(whole, sizeof(whole), "%s%s%s", find->prefix, name, part);
    const struct mly_tensor *tensor = mly_tensors_find(find->tensors, whole);
    if (tensor == NULL) {
        return mly_fail(find->err, MLY_ERR_CORRUPT, "the model file lacks the tensor %s", whole);
    }
    bool fits = tensor->type == type && tensor->rank == rank;
    for (size_t i = 0; fits && i < rank; i++) {
        fits = tensor->shape[i] == shape[i];
    }
    if (!fits) {
        return mly_fail(find->err, MLY_ERR_CORRUPT,
                        "tensor %s of the model file has not the type and shape that its "
                        "configuration calls for",
                        whole);
    }
    /* Panels are read with aligned loads; floats need four. */
    const uintptr_t align = type == MLY_TENSOR_F32 ? 4 : rank == 4 ? 64 : 1;
    if ((uintptr_t)tensor->data % align != 0) {
        return mly_fail(find->err, MLY_ERR_CORRUPT, "tensor %s of the model file is not aligned",
                        whole);
    }
    *out = tensor->data;
    return MLY_OK;
}

static enum mly_err find_floats(const struct find *find, const char *name, const char *part,
                                size_t count, const float **out)
{
    const void *data = NULL;
    const uint64_t shape[] = {count};
    MLY_TRY(find_tensor(find, name, part, MLY_TENSOR_F32, shape, 1, &data));
    *out = data;
    return MLY_OK;
}

static enum mly_err find_linear(const struct find *find, const char *name, size_t in, size_t outs,
                                struct mly_kern_linear *linear)
{
    const void *data = NULL;
    const uint64_t shape[] = {outs / MLY_KERN_PANEL, in / MLY_KERN_STEP, MLY_KERN_PANEL,
                              MLY_KERN_STEP};
    MLY_TRY(find_tensor(find, name, ".weight", MLY_TENSOR_I8, shape, 4, &data));
    linear->panels = data;
    linear->in = in;
    linear->out = outs;
    MLY_TRY(find_floats(find, name, ".scale", outs, &linear->scale));
    MLY_TRY(find_floats(find, name, ".sum", outs, &linear->sum));
    return find_floats(find, name, ".bias", outs, &linear->bias);
}

static enum mly_err find_norm(const struct find *find, const char *name, size_t size,
                              struct mly_model_norm *norm)
{
    MLY_TRY(find_floats(find, name, ".weight", size, &norm->weight));
    return find_floats(find, name, ".bias", size, &norm->bias);
}

static enum mly_err find_layer(const struct mly_tensors *tensors, size_t layer_i,
                               const struct mly_model_config *config, struct mly_model_layer *layer,
                               struct mly_error *err)
{
    char prefix[32];
    (void)snprintf(prefix, sizeof(prefix), "layer.%zu.", layer_i);
    const struct find find = {tensors, prefix, err};
    const size_t hidden = config->hidden, inner = config->intermediate;
    MLY_TRY(find_linear(&find, "attention_in", hidden, 3 * hidden, &layer->attention_in));
    MLY_TRY(find_linear(&find, "attention_out", hidden, hidden, &layer->attention_out));
    MLY_TRY(find_linear(&find, "ffn_in", hidden, inner, &layer->ffn_in));
    MLY_TRY(find_linear(&find, "ffn_out", inner, hidden, &layer->ffn_out));
    MLY_TRY(find_norm(&find, "attention_norm", hidden, &layer->attention_norm));
    return find_norm(&find, "ffn_norm", hidden, &layer->ffn_norm);
}

static enum mly_err find_vocabulary(const struct mly_tensors *tensors, struct mly_model *model,
                                    struct mly_error *err)
{
    const struct mly_tensor *tensor = mly_tensors_find(tensors, "vocabulary");
    if (tensor == NULL || tensor->type != MLY_TENSOR_U8 || tensor->rank != 1) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model file lacks the tensor vocabulary");
    }
    size_t lines = 0;
    for (size_t i = 0; i < tensor->bytes; i++) {
        lines += tensor->data[i] == '\n';
    }
    if (lines != model->config.vocabulary) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model has %zu word pieces and %zu embeddings",
                        lines, model->config.vocabulary);
    }
    model->card.vocabulary = (struct mly_str){(const char *)tensor->data, tensor->bytes};
    return MLY_OK;
}

static enum mly_err find_weights(const struct mly_tensors *tensors, struct mly_model *model,
                                 struct mly_error *err)
{
    const struct mly_model_config *config = &model->config;
    const struct find find = {tensors, "", err};
    const void *data = NULL;
    const uint64_t words[] = {config->vocabulary, config->hidden};
    const uint64_t positions[] = {config->positions, config->hidden};
    MLY_TRY(find_tensor(&find, "embeddings.word", "", MLY_TENSOR_I8, words, 2, &data));
    model->words = data;
    MLY_TRY(find_tensor(&find, "embeddings.position", "", MLY_TENSOR_F32, positions, 2, &data));
    model->position = data;
    MLY_TRY(
        find_floats(&find, "embeddings.word_scale", "", config->vocabulary, &model->word_scale));
    MLY_TRY(find_norm(&find, "embeddings.norm", config->hidden, &model->word_norm));
    MLY_TRY(find_vocabulary(tensors, model, err));
    model->layers = mly_mem_array(model->mem, config->layers, sizeof(model->layers[0]));
    if (model->layers == NULL) {
        return mly_fail_nomem(err, config->layers * sizeof(model->layers[0]));
    }
    for (size_t i = 0; i < config->layers; i++) {
        MLY_TRY(find_layer(tensors, i, config, &model->layers[i], err));
    }
    return MLY_OK;
}

/* The card: texts of the metadata, and the hash of the header. */
static enum mly_err fill_card(const struct mly_tensors *tensors, struct mly_model *model,
                              struct mly_error *err)
{
    const struct mly_str keys[] = {MLY_STR("id"), MLY_STR("quantisation"),
                                   MLY_STR("data_blake2b_256")};
    struct mly_str *targets[] = {&model->card.id, &model->card.quantisation, &model->data_sum};
    const size_t text_max = 256, hex_bytes = 2 * MLY_HASH_BYTES + 1;
    model->text = mly_mem_array(model->mem, 3 * text_max + hex_bytes, 1);
    if (model->text == NULL) return mly_fail_nomem(err, 3 * text_max + hex_bytes);
    for (size_t i = 0; i < 3; i++) {
        const struct mly_str raw = metadata_get(tensors, keys[i]);
        char *text = model->text + i * text_max; /* zeroed: the last byte stays a NUL */
        size_t bytes = 0;
        if (raw.data == NULL || !mly_scan_unescape(raw, text, text_max - 1, &bytes) || bytes == 0) {
            return mly_fail(err, MLY_ERR_CORRUPT, "the model's %s cannot be read", keys[i].data);
        }
        *targets[i] = (struct mly_str){text, bytes};
    }
    const struct mly_hash hash = mly_hash_bytes(tensors->header);
    mly_hash_to_hex(&hash, model->text + 3 * text_max);
    model->card.hash = mly_str_of(model->text + 3 * text_max);
    model->card.dim = (uint32_t)model->config.hidden;
    model->card.pieces_max = (uint32_t)model->config.pieces_max;
    return MLY_OK;
}

enum mly_err mly_model_map(const struct mly_env *env, const char *path, struct mly_model *out,
                           struct mly_error *err)
{
    struct mly_model model = {.mem = env->mem};
    struct mly_tensors tensors = {.mem = env->mem};
    enum mly_err rc = mly_file_map(env, MLY_AT_CWD, path, &model.map, err);
    if (rc != MLY_OK) goto done;
    rc = mly_tensors_read(env->mem, (struct mly_str){(const char *)model.map.data, model.map.bytes},
                          &tensors, err);
    if (rc == MLY_OK) rc = check_format(&tensors, err);
    if (rc == MLY_OK) rc = read_config(&tensors, &model.config, err);
    if (rc == MLY_OK) rc = find_weights(&tensors, &model, err);
    if (rc == MLY_OK) rc = fill_card(&tensors, &model, err);
    if (rc != MLY_OK) {
        (void)mly_fail_in(err, rc, "%s", path);
        goto done;
    }
    model.data = tensors.data;
    *out = model; /* Moved. */
    model = (struct mly_model){.mem = env->mem};
done:
    mly_tensors_deinit(&tensors);
    mly_model_close(&model);
    return rc;
}

void mly_model_close(struct mly_model *model)
{
    mly_mem_free(model->mem, model->layers);
    mly_mem_free(model->mem, model->text);
    mly_map_close(&model->map);
    model->layers = NULL;
    model->text = NULL;
}
