/* The tensors of a snapshot: which must be there, of which shape, and how their numbers become
 * floats.
 */
#include "embed/quantise/snapshot_int.h"

#include <math.h>
#include <stdio.h>

#define NAME_BYTES 128

static const char *const part_names[MLY_PART_COUNT] = {
    "attention.self.query",       "attention.self.key", "attention.self.value",
    "attention.output.dense",     "intermediate.dense", "output.dense",
    "attention.output.LayerNorm", "output.LayerNorm",
};

static bool is_norm(enum mly_snapshot_part part)
{
    return part == MLY_PART_ATTENTION_NORM || part == MLY_PART_FFN_NORM;
}

static void part_shape(const struct mly_snapshot_card *card, enum mly_snapshot_part part,
                       uint64_t shape[2])
{
    shape[0] = part == MLY_PART_FFN_IN ? card->intermediate : card->hidden;
    shape[1] = part == MLY_PART_FFN_OUT ? card->intermediate : card->hidden;
}

static void part_name(const struct mly_snapshot *snapshot, size_t layer,
                      enum mly_snapshot_part part, bool bias, char out[NAME_BYTES])
{
    const char *end = is_norm(part) ? snapshot->norm_names[bias] : bias ? "bias" : "weight";
    (void)snprintf(out, NAME_BYTES, "encoder.layer.%zu.%s.%s", layer, part_names[part], end);
}

static const struct mly_tensor *find(const struct mly_snapshot *snapshot, const char *name)
{
    char whole[NAME_BYTES + 16];
    (void)snprintf(whole, sizeof(whole), "%s%s", snapshot->prefix, name);
    return mly_tensors_find(&snapshot->tensors, whole);
}

static enum mly_err check_tensor(const struct mly_snapshot *snapshot, const char *name,
                                 const uint64_t *shape, size_t rank, struct mly_error *err)
{
    const struct mly_tensor *tensor = find(snapshot, name);
    if (tensor == NULL) {
        return mly_fail(err, MLY_ERR_MODEL, "the tensor %s%s is missing", snapshot->prefix, name);
    }
    if (tensor->type != MLY_TENSOR_F32 && tensor->type != MLY_TENSOR_F16 &&
        tensor->type != MLY_TENSOR_BF16) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "the numbers of tensor %s are none of F32, F16 and BF16", name);
    }
    bool fits = tensor->rank == rank;
    for (size_t i = 0; fits && i < rank; i++) {
        fits = tensor->shape[i] == shape[i];
    }
    if (fits) return MLY_OK;
    return mly_fail(err, MLY_ERR_CORRUPT,
                    "tensor %s has %zu dimensions of %llu and %llu, config.json calls for %zu of "
                    "%llu and %llu",
                    name, tensor->rank,
                    (unsigned long long)(tensor->rank > 0 ? tensor->shape[0] : 0),
                    (unsigned long long)(tensor->rank > 1 ? tensor->shape[1] : 1), rank,
                    (unsigned long long)shape[0], (unsigned long long)(rank > 1 ? shape[1] : 1));
}

static enum mly_err check_layer(const struct mly_snapshot *snapshot, size_t layer,
                                struct mly_error *err)
{
    char name[NAME_BYTES];
    for (int i = 0; i < MLY_PART_COUNT; i++) {
        const enum mly_snapshot_part part = (enum mly_snapshot_part)i;
        uint64_t shape[2];
        part_shape(&snapshot->card, part, shape);
        part_name(snapshot, layer, part, false, name);
        MLY_TRY(check_tensor(snapshot, name, shape, is_norm(part) ? 1 : 2, err));
        part_name(snapshot, layer, part, true, name);
        MLY_TRY(check_tensor(snapshot, name, shape, 1, err));
    }
    return MLY_OK;
}

/* Is this one of the tensors that check_layer has seen? */
static bool is_known_part(const struct mly_snapshot *snapshot, struct mly_str rest)
{
    char name[NAME_BYTES];
    size_t layer = 0, at = 0;
    while (at < rest.bytes && at < 4 && rest.data[at] >= '0' && rest.data[at] <= '9') {
        layer = layer * 10 + (size_t)(rest.data[at++] - '0');
    }
    if (at == 0 || layer >= snapshot->card.layers) return false;
    for (int i = 0; i < 2 * MLY_PART_COUNT; i++) {
        part_name(snapshot, layer, (enum mly_snapshot_part)(i / 2), i % 2 == 1, name);
        const struct mly_str known = mly_str_of(name + sizeof("encoder.layer.") - 1);
        if (mly_str_equal(known, rest)) return true;
    }
    return false;
}

static bool is_known(const struct mly_snapshot *snapshot, struct mly_str name)
{
    static const char *const embeddings[] = {
        "word_embeddings.weight",
        "position_embeddings.weight",
        "token_type_embeddings.weight",
        "position_ids",
        "token_type_ids",
    };
    const struct mly_str layers = MLY_STR("encoder.layer."), words = MLY_STR("embeddings.");
    char norm[32];
    if (mly_str_starts_with(name, layers)) {
        return is_known_part(snapshot, mly_str_slice(name, layers.bytes, name.bytes));
    }
    const struct mly_str rest = mly_str_slice(name, words.bytes, name.bytes);
    for (size_t i = 0; i < sizeof(embeddings) / sizeof(embeddings[0]); i++) {
        if (mly_str_equal(rest, mly_str_of(embeddings[i]))) return true;
    }
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(norm, sizeof(norm), "LayerNorm.%s", snapshot->norm_names[i]);
        if (mly_str_equal(rest, mly_str_of(norm))) return true;
    }
    return false;
}

/* A tensor that we do not know within the encoder would be left out of what it computes; others
 * (pooler, heads for training) have no part in a sentence's vector. */
static enum mly_err check_others(struct mly_snapshot *snapshot, struct mly_error *err)
{
    const struct mly_str prefix = mly_str_of(snapshot->prefix);
    for (size_t i = 0; i < snapshot->tensors.count; i++) {
        struct mly_str name = snapshot->tensors.items[i].name;
        const bool within = mly_str_starts_with(name, prefix);
        if (within) name = mly_str_slice(name, prefix.bytes, name.bytes);
        if (!within || (!mly_str_starts_with(name, MLY_STR("encoder.")) &&
                        !mly_str_starts_with(name, MLY_STR("embeddings.")))) {
            snapshot->card.tensors_ignored++;
        } else if (!is_known(snapshot, name)) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "the tensor %.*s has no place in the architecture %s of config.json",
                            (int)(name.bytes < 100 ? name.bytes : 100), name.data,
                            snapshot->card.architecture.data);
        }
    }
    return MLY_OK;
}

static enum mly_err find_prefix(struct mly_snapshot *snapshot, struct mly_error *err)
{
    static const char *const prefixes[] = {"", "bert.", "roberta.", "model.", "0.auto_model."};
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        snapshot->prefix = prefixes[i];
        if (find(snapshot, "embeddings.word_embeddings.weight") == NULL) continue;
        const bool old = find(snapshot, "embeddings.LayerNorm.gamma") != NULL;
        snapshot->norm_names[0] = old ? "gamma" : "weight";
        snapshot->norm_names[1] = old ? "beta" : "bias";
        return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_MODEL,
                    "the tensor embeddings.word_embeddings.weight is missing (looked for without a "
                    "prefix and with bert., roberta., model. and 0.auto_model.)");
}

enum mly_err mly_snapshot_check_tensors(struct mly_snapshot *snapshot,
                                        const struct mly_snapshot_files *files,
                                        struct mly_error *err)
{
    const struct mly_snapshot_card *card = &snapshot->card;
    const uint64_t words[] = {card->vocabulary, card->hidden};
    const uint64_t positions[] = {card->positions + snapshot->positions_skipped, card->hidden};
    const json_t *type_count = json_object_get(files->config, "type_vocab_size");
    const json_int_t types = json_is_integer(type_count) ? json_integer_value(type_count) : 2;
    const uint64_t type_shape[] = {(uint64_t)types, card->hidden};
    char name[NAME_BYTES];
    if (types < 1) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "config.json: type_vocab_size is %lld, at least 1 is needed",
                        (long long)types);
    }
    MLY_TRY(find_prefix(snapshot, err));
    MLY_TRY(check_tensor(snapshot, "embeddings.word_embeddings.weight", words, 2, err));
    MLY_TRY(check_tensor(snapshot, "embeddings.position_embeddings.weight", positions, 2, err));
    MLY_TRY(check_tensor(snapshot, "embeddings.token_type_embeddings.weight", type_shape, 2, err));
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof(name), "embeddings.LayerNorm.%s", snapshot->norm_names[i]);
        MLY_TRY(check_tensor(snapshot, name, &words[1], 1, err));
    }
    for (size_t i = 0; i < card->layers; i++) {
        MLY_TRY(check_layer(snapshot, i, err));
    }
    return check_others(snapshot, err);
}

static float of_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, fraction = half & 0x3ffu;
    const uint32_t exponent = half >> 10 & 31u;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    if (exponent == 31) bits = sign | 0x7f800000u | fraction << 13;
    float value;
    memcpy(&value, &bits, sizeof(value));
    if (exponent > 0) return value;
    const float small = (float)fraction * 0x1p-24f;
    return sign != 0 ? -small : small;
}

/* count numbers of the tensor, from number first. */
static enum mly_err read_numbers(const struct mly_tensor *tensor, size_t first, size_t count,
                                 float *out, struct mly_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const size_t at = first + i;
        if (tensor->type == MLY_TENSOR_F32) {
            memcpy(&out[i], tensor->data + at * 4, 4);
        } else {
            uint16_t half;
            memcpy(&half, tensor->data + at * 2, 2);
            const uint32_t bits = (uint32_t)half << 16;
            memcpy(&out[i], &bits, 4);
            if (tensor->type == MLY_TENSOR_F16) out[i] = of_half(half);
        }
        if (!isfinite(out[i])) {
            return mly_fail(err, MLY_ERR_CORRUPT, "number %zu of tensor %.*s is not finite", at,
                            (int)(tensor->name.bytes < 100 ? tensor->name.bytes : 100),
                            tensor->name.data);
        }
    }
    return MLY_OK;
}

static enum mly_err read_whole(const struct mly_snapshot *snapshot, const char *name, float *out,
                               struct mly_error *err)
{
    const struct mly_tensor *tensor = find(snapshot, name);
    size_t count = 1;
    for (size_t i = 0; i < tensor->rank; i++) {
        count *= (size_t)tensor->shape[i];
    }
    return read_numbers(tensor, 0, count, out, err);
}

enum mly_err mly_snapshot_weights(const struct mly_snapshot *snapshot, size_t layer,
                                  enum mly_snapshot_part part, float *out, struct mly_error *err)
{
    char name[NAME_BYTES];
    part_name(snapshot, layer, part, false, name);
    return read_whole(snapshot, name, out, err);
}

enum mly_err mly_snapshot_bias(const struct mly_snapshot *snapshot, size_t layer,
                               enum mly_snapshot_part part, float *out, struct mly_error *err)
{
    char name[NAME_BYTES];
    part_name(snapshot, layer, part, true, name);
    return read_whole(snapshot, name, out, err);
}

enum mly_err mly_snapshot_words(const struct mly_snapshot *snapshot, size_t first, size_t count,
                                float *out, struct mly_error *err)
{
    const size_t hidden = snapshot->card.hidden;
    return read_numbers(find(snapshot, "embeddings.word_embeddings.weight"), first * hidden,
                        count * hidden, out, err);
}

enum mly_err mly_snapshot_positions(const struct mly_snapshot *snapshot, float *out,
                                    struct mly_error *err)
{
    const size_t hidden = snapshot->card.hidden, positions = snapshot->card.positions;
    const struct mly_tensor *types = find(snapshot, "embeddings.token_type_embeddings.weight");
    MLY_TRY(read_numbers(find(snapshot, "embeddings.position_embeddings.weight"),
                         snapshot->positions_skipped * hidden, positions * hidden, out, err));
    for (size_t i = 0; i < hidden; i++) {
        float type;
        MLY_TRY(read_numbers(types, i, 1, &type, err));
        for (size_t p = 0; p < positions; p++) {
            out[p * hidden + i] += type;
        }
    }
    return MLY_OK;
}

enum mly_err mly_snapshot_word_norm(const struct mly_snapshot *snapshot, float *weight, float *bias,
                                    struct mly_error *err)
{
    char name[NAME_BYTES];
    (void)snprintf(name, sizeof(name), "embeddings.LayerNorm.%s", snapshot->norm_names[0]);
    MLY_TRY(read_whole(snapshot, name, weight, err));
    (void)snprintf(name, sizeof(name), "embeddings.LayerNorm.%s", snapshot->norm_names[1]);
    return read_whole(snapshot, name, bias, err);
}
