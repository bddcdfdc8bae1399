/* In: the configurations of a snapshot folder. Out: sizes, pooling, length and name of the model.
 * What is missing has the default of those who wrote it; what is there and means something that we
 * do not do is refused by name.
 */
#include "embed/embed_int.h"
#include "embed/quantise/snapshot_int.h"

#include "base/limits.h"

#include <math.h>
#include <stdio.h>

/* A word of the configuration, or a default where it is missing or null. */
static const char *word_of(const json_t *object, const char *key, const char *otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_string_value(value) : otherwise;
}

static enum mly_err check_word(const json_t *config, const char *key, const char *wanted,
                               struct mly_error *err)
{
    const json_t *value = json_object_get(config, key);
    if (value == NULL || json_is_null(value)) return MLY_OK;
    const char *word = json_is_string(value) ? json_string_value(value) : "(no text)";
    if (strcmp(word, wanted) == 0) return MLY_OK;
    return mly_fail(err, MLY_ERR_UNSUPPORTED, "config.json: %s is %.60s; only %s is supported", key,
                    word, wanted);
}

static enum mly_err take_size(const json_t *config, const char *key, size_t min, size_t max,
                              size_t *out, struct mly_error *err)
{
    const json_t *value = json_object_get(config, key);
    if (!json_is_integer(value)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "config.json: %s is missing or no whole number", key);
    }
    const json_int_t number = json_integer_value(value);
    if (number < (json_int_t)min || number > (json_int_t)max) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED, "config.json: %s is %lld, it must be %zu to %zu",
                        key, (long long)number, min, max);
    }
    *out = (size_t)number;
    return MLY_OK;
}

/* The rows of the table before the first real position: XLM-R counts from behind the padding's id.
 */
static enum mly_err take_architecture(struct mly_snapshot *snapshot, const json_t *config,
                                      struct mly_error *err)
{
    static const char *const flags[] = {"is_decoder", "add_cross_attention"};
    const char *type = word_of(config, "model_type", "(none)");
    const bool roberta = strcmp(type, "roberta") == 0 || strcmp(type, "xlm-roberta") == 0;
    if (!roberta && strcmp(type, "bert") != 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "config.json: the architecture (model_type) is %.60s; bert, roberta and "
                        "xlm-roberta are supported",
                        type);
    }
    MLY_TRY(check_word(config, "hidden_act", "gelu", err));
    MLY_TRY(check_word(config, "position_embedding_type", "absolute", err));
    for (size_t i = 0; i < 2; i++) {
        if (!json_is_true(json_object_get(config, flags[i]))) continue;
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "config.json: %s is true; only encoders are "
                        "supported",
                        flags[i]);
    }
    if (roberta) {
        size_t padding = 1;
        if (json_is_integer(json_object_get(config, "pad_token_id"))) {
            MLY_TRY(take_size(config, "pad_token_id", 0, 64, &padding, err));
        }
        snapshot->positions_skipped = padding + 1;
    }
    return mly_snapshot_copy(snapshot, type, &snapshot->card.architecture, err);
}

static enum mly_err take_sizes(struct mly_snapshot *snapshot, const json_t *config,
                               struct mly_error *err)
{
    struct mly_snapshot_card *card = &snapshot->card;
    const size_t skipped = snapshot->positions_skipped;
    MLY_TRY(take_size(config, "hidden_size", 64, MLY_MODEL_SIZE_MAX, &card->hidden, err));
    MLY_TRY(take_size(config, "intermediate_size", 64, MLY_KERN_IN_MAX, &card->intermediate, err));
    MLY_TRY(take_size(config, "num_hidden_layers", 1, MLY_MODEL_LAYERS_MAX, &card->layers, err));
    MLY_TRY(take_size(config, "num_attention_heads", 1, card->hidden, &card->heads, err));
    MLY_TRY(take_size(config, "vocab_size", 4, MLY_MODEL_VOCABULARY_MAX, &card->vocabulary, err));
    MLY_TRY(take_size(config, "max_position_embeddings", skipped + 4, 65536 + skipped,
                      &card->positions, err));
    card->positions -= skipped;
    if (card->hidden % MLY_KERN_PANEL != 0 || card->intermediate % MLY_KERN_PANEL != 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "config.json: hidden_size %zu and intermediate_size %zu must be multiples "
                        "of %d",
                        card->hidden, card->intermediate, MLY_KERN_PANEL);
    }
    if (card->hidden % card->heads != 0 || card->hidden / card->heads % 16 != 0 ||
        card->hidden / card->heads > MLY_KERN_HEAD_DIM_MAX) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "config.json: %zu heads in %zu numbers; a head must be a multiple of 16 "
                        "numbers wide, at most %d",
                        card->heads, card->hidden, MLY_KERN_HEAD_DIM_MAX);
    }
    const json_t *epsilon = json_object_get(config, "layer_norm_eps");
    const double value = epsilon == NULL ? 1e-12 : json_number_value(epsilon);
    if (!(value >= 1e-15 && value <= 1e-3)) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "config.json: layer_norm_eps is %g, it must be 1e-15 to 0.001", value);
    }
    card->epsilon_femto = (uint64_t)(value * 1e15 + 0.5);
    return MLY_OK;
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
        const char *name = word_of(step, "type", "(none)");
        if (ends_with(name, ".Transformer") || ends_with(name, ".Normalize")) continue;
        if (!ends_with(name, ".Pooling")) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "modules.json: a step of type %.80s is not supported", name);
        }
        const char *folder = word_of(step, "path", "");
        if (strcmp(folder, "1_Pooling") != 0) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "modules.json: the pooling lies in \"%.80s\", expected 1_Pooling",
                            folder);
        }
    }
    return MLY_OK;
}

/* One of two ways: a word ("mean"), or a flag for each way there is. */
static enum mly_err choose_pooling(const json_t *config, const char **out, struct mly_error *err)
{
    static const char prefix[] = "pooling_mode_";
    const char *chosen = word_of(config, "pooling_mode", NULL), *key;
    json_t *each;
    json_object_foreach((json_t *)config, key, each)
    {
        if (strncmp(key, prefix, sizeof(prefix) - 1) != 0 || !json_is_true(each)) continue;
        if (chosen != NULL) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "1_Pooling/config.json: %.60s beside %.60s; one pooling at a time is "
                            "supported",
                            key, chosen);
        }
        chosen = key + sizeof(prefix) - 1;
    }
    *out = chosen;
    return MLY_OK;
}

static enum mly_err take_pooling(struct mly_snapshot *snapshot,
                                 const struct mly_snapshot_files *files, const char *option,
                                 struct mly_error *err)
{
    struct mly_snapshot_card *card = &snapshot->card;
    const char *chosen = NULL, *from = "the option";
    if (option != NULL) {
        chosen = option;
    } else if (files->pooling != NULL) {
        from = "1_Pooling/config.json";
        MLY_TRY(choose_pooling(files->pooling, &chosen, err));
        if (json_is_false(json_object_get(files->pooling, "include_prompt"))) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "1_Pooling/config.json: include_prompt is false, which is not "
                            "supported");
        }
    } else {
        from = "the default, for want of 1_Pooling/config.json";
        chosen = "mean";
    }
    if (chosen == NULL) chosen = "none";
    const bool mean = strcmp(chosen, "mean") == 0 || strcmp(chosen, "mean_tokens") == 0;
    const bool cls = strcmp(chosen, "cls") == 0 || strcmp(chosen, "cls_token") == 0;
    if (!mean && !cls) {
        return mly_fail(err, option != NULL ? MLY_ERR_INVAL : MLY_ERR_UNSUPPORTED,
                        "%s: the pooling is %.60s; mean and cls are supported", from, chosen);
    }
    card->pooling = mean ? MLY_STR("mean") : MLY_STR("cls");
    card->pooling_from = from;
    const json_t *width = json_object_get(files->pooling, "word_embedding_dimension");
    if (json_is_integer(width) && json_integer_value(width) != (json_int_t)card->hidden) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "1_Pooling/config.json: word_embedding_dimension is %lld, hidden_size of "
                        "config.json is %zu",
                        (long long)json_integer_value(width), card->hidden);
    }
    return MLY_OK;
}

static enum mly_err take_pieces(struct mly_snapshot *snapshot,
                                const struct mly_snapshot_files *files, uint32_t option,
                                struct mly_error *err)
{
    struct mly_snapshot_card *card = &snapshot->card;
    const json_t *value = json_object_get(files->sentence, "max_seq_length");
    const size_t most =
        card->positions < MLY_MODEL_PIECES_MAX ? card->positions : MLY_MODEL_PIECES_MAX;
    json_int_t pieces = (json_int_t)most;
    card->pieces_from = "max_position_embeddings of config.json";
    if (option != 0) {
        pieces = (json_int_t)option;
        card->pieces_from = "the option";
    } else if (json_is_integer(value)) {
        pieces = json_integer_value(value);
        card->pieces_from = "sentence_bert_config.json";
        /* XLM-R's table is longer than what can be used of it, and some give the table's length. */
        if (pieces > (json_int_t)most &&
            pieces <= (json_int_t)(most + snapshot->positions_skipped)) {
            pieces = (json_int_t)most;
        }
    }
    if (pieces < 4 || pieces > (json_int_t)most) {
        return mly_fail(err, option != 0 ? MLY_ERR_INVAL : MLY_ERR_UNSUPPORTED,
                        "%s: %lld word pieces, the model can read 4 to %zu", card->pieces_from,
                        (long long)pieces, most);
    }
    card->pieces_max = (size_t)pieces;
    return MLY_OK;
}

/* The name that Hugging Face's cache gives it (models--owner--name/snapshots/revision), else the
 * folder's. */
static enum mly_err take_id(struct mly_snapshot *snapshot, const char *path, const char *option,
                            struct mly_error *err)
{
    static const char cache[] = "/models--";
    char real[MLY_PATH_BYTES_MAX];
    const char *id = option;
    if (id == NULL) {
        const struct mly_env *env = snapshot->env;
        const int64_t bytes = env->real_path(env->context, path, real, sizeof(real) - 1);
        if (bytes < 0) {
            return mly_fail_errno(err, MLY_ERR_IO, (int)-bytes, "cannot find where %s is", path);
        }
        real[bytes] = '\0';
        char *found = strstr(real, cache);
        if (found != NULL) {
            found += sizeof(cache) - 1;
            char *end = strchr(found, '/');
            if (end != NULL) *end = '\0';
            for (char *owner = strstr(found, "--"); owner != NULL; owner = strstr(found, "--")) {
                found = owner + 2;
            }
            id = found;
        } else {
            const char *slash = strrchr(real, '/');
            id = slash == NULL ? real : slash + 1;
        }
    }
    const size_t bytes = strlen(id);
    if (bytes == 0 || bytes > MLY_MODEL_ID_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "the model's id has %zu bytes, it must have 1 to %d",
                        bytes, MLY_MODEL_ID_BYTES_MAX);
    }
    for (size_t i = 0; i < bytes; i++) {
        if ((unsigned char)id[i] >= 0x20 && id[i] != 0x7f) continue;
        return mly_fail(err, MLY_ERR_INVAL, "the model's id has a control character at byte %zu",
                        i);
    }
    return mly_snapshot_copy(snapshot, id, &snapshot->card.id, err);
}

enum mly_err mly_snapshot_settings(struct mly_snapshot *snapshot, const char *path,
                                   const struct mly_snapshot_files *files,
                                   const struct mly_snapshot_options *options,
                                   struct mly_error *err)
{
    MLY_TRY(take_architecture(snapshot, files->config, err));
    MLY_TRY(take_sizes(snapshot, files->config, err));
    MLY_TRY(check_modules(files->modules, err));
    MLY_TRY(take_pooling(snapshot, files, options->pooling, err));
    MLY_TRY(take_pieces(snapshot, files, options->pieces_max, err));
    return take_id(snapshot, path, options->id, err);
}
