/* A model file becomes pointers: its configuration is read from the metadata here, the tensors that
 * it calls for are looked up in model_weights.c.
 *
 * In: a path. Out: a struct mly_model whose weights are the mapped file itself.
 */
#include "embed/embed_int.h"

#include "base/hash.h"
#include "base/utf8.h"
#include "embed/safetensors.h"
#include "embed/scan.h"

#include <stdio.h>

#define CONFIG_BYTES_MAX 8192
#define TEXT_BYTES_MAX 256    /* of a name or a checksum */
#define PREFIX_BYTES_MAX 1024 /* of what is put in front of a text */

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
    const struct mly_str name = metadata_get(tensors, MLY_STR("format"));
    const struct mly_str version = metadata_get(tensors, MLY_STR("format_version"));
    if (!mly_str_equal(name, MLY_STR("memalloy-model"))) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "a safetensors file, but not a model that memalloy made; "
                        "`memalloy model add` makes one");
    }
    if (mly_str_equal(version, MLY_STR("2"))) return MLY_OK;
    if (mly_str_equal(version, MLY_STR("1"))) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "the model was made by an older memalloy (format version 1, this one reads "
                        "2); make it again with `memalloy model add`");
    }
    return mly_fail(err, MLY_ERR_MODEL, "model format version %.*s, this memalloy reads 2",
                    (int)(version.bytes < 20 ? version.bytes : 20),
                    version.data == NULL ? "" : version.data);
}

/* One setting of the configuration: a number with its range, a word out of some (its index), or a
 * text that is copied. */
struct setting {
    struct mly_str key;
    size_t *number;
    size_t min, max;
    const char *const *words; /* ends with NULL */
    struct mly_str *text;
    char *copy; /* PREFIX_BYTES_MAX */
    bool seen;
};

static enum mly_err read_word(const struct setting *setting, struct mly_str word,
                              struct mly_error *err)
{
    const char *const *words = setting->words;
    char all[64] = "";
    for (size_t i = 0, used = 0; words[i] != NULL; i++) {
        if (mly_str_equal(word, mly_str_of(words[i]))) {
            *setting->number = i;
            return MLY_OK;
        }
        used +=
            (size_t)snprintf(all + used, sizeof(all) - used, "%s%s", i > 0 ? ", " : "", words[i]);
    }
    return mly_fail(err, MLY_ERR_MODEL, "the model's %s is %.*s, only %s can be run",
                    setting->key.data, (int)(word.bytes < 40 ? word.bytes : 40), word.data, all);
}

static enum mly_err read_text(const struct setting *setting, struct mly_str raw,
                              struct mly_error *err)
{
    size_t bytes = 0;
    if (!mly_scan_unescape(raw, setting->copy, PREFIX_BYTES_MAX - 1, &bytes)) {
        return mly_fail(
            err, MLY_ERR_CORRUPT,
            "%s of the model's configuration cannot be read, or is longer than %d bytes",
            setting->key.data, PREFIX_BYTES_MAX - 1);
    }
    *setting->text = (struct mly_str){setting->copy, bytes};
    if (mly_utf8_check(*setting->text) == bytes && memchr(setting->copy, 0, bytes) == NULL)
        return MLY_OK;
    return mly_fail(err, MLY_ERR_CORRUPT, "%s of the model's configuration is not UTF-8",
                    setting->key.data);
}

static enum mly_err read_number(const struct setting *setting, struct mly_scan *scan,
                                struct mly_error *err)
{
    uint64_t number = 0;
    const char *key = setting->key.data;
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

static enum mly_err read_setting(struct mly_scan *scan, struct setting *setting,
                                 struct mly_error *err)
{
    struct mly_str text;
    const char *key = setting->key.data;
    if (setting->seen) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s stands twice in the model's configuration", key);
    }
    setting->seen = true;
    if (setting->words == NULL && setting->text == NULL) return read_number(setting, scan, err);
    if (!mly_scan_string(scan, &text)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s of the model's configuration is no text", key);
    }
    return setting->words != NULL ? read_word(setting, text, err) : read_text(setting, text, err);
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
    if (config->hidden % config->heads != 0 || config->hidden / config->heads % 16 != 0 ||
        config->hidden / config->heads > MLY_KERN_HEAD_DIM_MAX) {
        return mly_fail(err, MLY_ERR_MODEL,
                        "the model's heads, %zu of %zu numbers, must be multiples of 16 wide, at "
                        "most %d",
                        config->heads, config->hidden, MLY_KERN_HEAD_DIM_MAX);
    }
    if (config->pieces_max > config->positions) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model reads %zu pieces but has %zu positions",
                        config->pieces_max, config->positions);
    }
    return MLY_OK;
}

/* Words in the order of the enumerations. */
static const char *const architectures[] = {"bert", NULL};
static const char *const poolings[] = {"mean", "cls", NULL};
static const char *const tokenizers[] = {"vocabulary", "compiled", NULL};
static const char *const precisions[] = {"int8", "bf16", "f32", NULL};

/* Where the texts of the card stand in model->text. */
enum { TEXT_ID, TEXT_QUANTISATION, TEXT_SUM, TEXT_HASH, TEXT_LICENSE, TEXT_SOURCE, TEXT_COUNT };
#define PREFIXES_AT ((size_t)TEXT_COUNT * TEXT_BYTES_MAX)
#define CARD_BYTES (PREFIXES_AT + (size_t)2 * PREFIX_BYTES_MAX)

static enum mly_err read_config(const struct mly_tensors *tensors, struct mly_model *model,
                                struct mly_error *err)
{
    char buffer[CONFIG_BYTES_MAX], *prefixes = model->text + PREFIXES_AT;
    size_t bytes = 0, femto = 0, architecture, pooling = 0, form = MLY_TOKENIZER_VOCABULARY;
    struct mly_model_config *config = &model->config;
    struct mly_model_card *card = &model->card;
#define NUMBER(name, target, least, most)                                                          \
    {                                                                                              \
        .key = MLY_STR(name), .number = (target), .min = (least), .max = (most)                    \
    }
#define WORD(name, target, list)                                                                   \
    {                                                                                              \
        .key = MLY_STR(name), .number = (target), .words = (list)                                  \
    }
#define TEXT(name, target, to)                                                                     \
    {                                                                                              \
        .key = MLY_STR(name), .text = (target), .copy = (to)                                       \
    }
    struct setting settings[] = {
        WORD("architecture", &architecture, architectures),
        WORD("pooling", &pooling, poolings),
        WORD("tokenizer", &form, tokenizers),
        TEXT("query_prefix", &card->query_prefix, prefixes),
        TEXT("passage_prefix", &card->passage_prefix, prefixes + PREFIX_BYTES_MAX),
        NUMBER("heads", &config->heads, 1, MLY_MODEL_SIZE_MAX / 16),
        NUMBER("hidden", &config->hidden, 64, MLY_MODEL_SIZE_MAX),
        NUMBER("intermediate", &config->intermediate, 64, MLY_KERN_IN_MAX),
        NUMBER("layers", &config->layers, 1, MLY_MODEL_LAYERS_MAX),
        NUMBER("positions", &config->positions, 2, 65536),
        NUMBER("pieces_max", &config->pieces_max, 2, MLY_MODEL_PIECES_MAX),
        NUMBER("vocabulary", &config->vocabulary, 1, MLY_MODEL_VOCABULARY_MAX),
        /* In units of 1e-15, so that no decimal fraction has to be parsed. */
        NUMBER("layer_norm_epsilon_femto", &femto, 1, 1000000000000u),
    };
    const struct mly_str raw = metadata_get(tensors, MLY_STR("config"));
    if (raw.data == NULL || !mly_scan_unescape(raw, buffer, sizeof(buffer), &bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model's configuration cannot be read");
    }
    MLY_TRY(read_settings((struct mly_str){buffer, bytes}, settings,
                          sizeof(settings) / sizeof(settings[0]), err));
    config->epsilon = (float)((double)femto * 1e-15);
    config->pooling = (enum mly_model_pooling)pooling;
    card->pooling = mly_str_of(poolings[pooling]);
    card->tokenizer_form = (enum mly_tokenizer_form)form;
    return check_config(config, err);
}

static enum mly_err read_precision(const struct mly_tensors *tensors, struct mly_model *model,
                                   struct mly_error *err)
{
    size_t precision = 0;
    const struct setting setting = {
        .key = MLY_STR("quantisation"), .number = &precision, .words = precisions};
    const struct mly_str word = metadata_get(tensors, setting.key);
    if (word.data == NULL) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model's quantisation cannot be read");
    }
    MLY_TRY(read_word(&setting, word, err));
    model->config.precision = (enum mly_model_precision)precision;
    return MLY_OK;
}

/* A text for people; null where there is none that can be shown. */
static struct mly_str take_note(const struct mly_tensors *tensors, struct mly_model *model,
                                struct mly_str key, size_t text_i)
{
    const struct mly_str raw = metadata_get(tensors, key);
    char *text = model->text + text_i * TEXT_BYTES_MAX; /* zeroed: the last byte stays a NUL */
    size_t bytes = 0;
    if (raw.data == NULL || !mly_scan_unescape(raw, text, TEXT_BYTES_MAX - 1, &bytes) ||
        bytes == 0 || mly_utf8_check((struct mly_str){text, bytes}) != bytes) {
        return MLY_STR_NULL;
    }
    return (struct mly_str){text, bytes};
}

/* The card: texts of the metadata, and the hash of the header. */
static enum mly_err fill_card(const struct mly_tensors *tensors, struct mly_model *model,
                              struct mly_error *err)
{
    const struct mly_str keys[] = {MLY_STR("id"), MLY_STR("quantisation"),
                                   MLY_STR("data_blake2b_256")};
    struct mly_str *targets[] = {&model->card.id, &model->card.quantisation, &model->data_sum};
    for (size_t i = 0; i < 3; i++) {
        const struct mly_str raw = metadata_get(tensors, keys[i]);
        char *text = model->text + i * TEXT_BYTES_MAX; /* zeroed: the last byte stays a NUL */
        size_t bytes = 0;
        if (raw.data == NULL || !mly_scan_unescape(raw, text, TEXT_BYTES_MAX - 1, &bytes) ||
            bytes == 0 || mly_utf8_check((struct mly_str){text, bytes}) != bytes) {
            return mly_fail(err, MLY_ERR_CORRUPT, "the model's %s cannot be read", keys[i].data);
        }
        *targets[i] = (struct mly_str){text, bytes};
    }
    model->card.license = take_note(tensors, model, MLY_STR("license"), TEXT_LICENSE);
    model->card.source = take_note(tensors, model, MLY_STR("source"), TEXT_SOURCE);
    const struct mly_hash hash = mly_hash_bytes(tensors->header);
    char *hex = model->text + TEXT_HASH * TEXT_BYTES_MAX;
    mly_hash_to_hex(&hash, hex);
    model->card.hash = mly_str_of(hex);
    model->card.dim = (uint32_t)model->config.hidden;
    model->card.pieces_max = (uint32_t)model->config.pieces_max;
    model->card.layers = (uint32_t)model->config.layers;
    model->card.vocabulary = (uint32_t)model->config.vocabulary;
    return MLY_OK;
}

static enum mly_err read_model(const struct mly_tensors *tensors, struct mly_model *model,
                               struct mly_error *err)
{
    MLY_TRY(check_format(tensors, err));
    model->text = mly_mem_array(model->mem, CARD_BYTES, 1);
    if (model->text == NULL) return mly_fail_nomem(err, CARD_BYTES);
    MLY_TRY(read_config(tensors, model, err));
    MLY_TRY(read_precision(tensors, model, err));
    MLY_TRY(mly_model_find_weights(tensors, model, err));
    return fill_card(tensors, model, err);
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
    if (rc == MLY_OK) rc = read_model(&tensors, &model, err);
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
