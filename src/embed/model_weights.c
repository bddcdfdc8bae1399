/* Looks up the tensors that a model's configuration calls for: each must be there with just that
 * type, shape and alignment.
 *
 * In: the table of tensors. Out: pointers into the mapped file.
 */
#include "embed/embed_int.h"

#include "embed/safetensors.h"

#include <stdio.h>

/* The data of one tensor, which must have just this type and shape. */
struct find {
    const struct mly_tensors *tensors;
    enum mly_model_precision precision;
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
    /* Panels are read with aligned loads, the rest needs what its type needs. */
    const uintptr_t own = type == MLY_TENSOR_F32 ? 4 : type == MLY_TENSOR_BF16 ? 2 : 1;
    if ((uintptr_t)tensor->data % (rank > 2 ? 64 : own) != 0) {
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

static enum mly_err find_int8(const struct find *find, const char *name, size_t in, size_t outs,
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

static enum mly_err find_linear(const struct find *find, const char *name, size_t in, size_t outs,
                                union mly_model_linear *linear)
{
    const void *data = NULL;
    const uint64_t pairs[] = {outs / MLY_KERN_PANEL, in / 2, MLY_KERN_PANEL, 2};
    const uint64_t floats[] = {outs / MLY_KERN_PANEL, in, MLY_KERN_PANEL};
    if (find->precision == MLY_MODEL_INT8) return find_int8(find, name, in, outs, &linear->int8);
    if (find->precision == MLY_MODEL_BF16) {
        MLY_TRY(find_tensor(find, name, ".weight", MLY_TENSOR_BF16, pairs, 4, &data));
        linear->bf16 = (struct mly_kern_linear_bf16){data, NULL, in, outs};
        return find_floats(find, name, ".bias", outs, &linear->bf16.bias);
    }
    MLY_TRY(find_tensor(find, name, ".weight", MLY_TENSOR_F32, floats, 3, &data));
    linear->f32 = (struct mly_kern_linear_f32){data, NULL, in, outs};
    return find_floats(find, name, ".bias", outs, &linear->f32.bias);
}

static enum mly_err find_norm(const struct find *find, const char *name, size_t size,
                              struct mly_model_norm *norm)
{
    MLY_TRY(find_floats(find, name, ".weight", size, &norm->weight));
    return find_floats(find, name, ".bias", size, &norm->bias);
}

/* What rows are multiplied by before they are quantised: for both products of a layer, or none. */
static enum mly_err find_factors(const struct find *find, size_t size,
                                 struct mly_model_layer *layer)
{
    char first[96], second[96];
    (void)snprintf(first, sizeof(first), "%sattention_in.factor", find->prefix);
    (void)snprintf(second, sizeof(second), "%sffn_in.factor", find->prefix);
    if (find->precision != MLY_MODEL_INT8 || (mly_tensors_find(find->tensors, first) == NULL &&
                                              mly_tensors_find(find->tensors, second) == NULL)) {
        return MLY_OK;
    }
    MLY_TRY(find_floats(find, "attention_in", ".factor", size, &layer->attention_factor));
    return find_floats(find, "ffn_in", ".factor", size, &layer->ffn_factor);
}

static enum mly_err find_layer(const struct mly_tensors *tensors, size_t layer_i,
                               const struct mly_model_config *config, struct mly_model_layer *layer,
                               struct mly_error *err)
{
    char prefix[32];
    (void)snprintf(prefix, sizeof(prefix), "layer.%zu.", layer_i);
    const struct find find = {tensors, config->precision, prefix, err};
    const size_t hidden = config->hidden, inner = config->intermediate;
    MLY_TRY(find_linear(&find, "attention_in", hidden, 3 * hidden, &layer->attention_in));
    MLY_TRY(find_linear(&find, "attention_out", hidden, hidden, &layer->attention_out));
    MLY_TRY(find_linear(&find, "ffn_in", hidden, inner, &layer->ffn_in));
    MLY_TRY(find_linear(&find, "ffn_out", inner, hidden, &layer->ffn_out));
    MLY_TRY(find_factors(&find, hidden, layer));
    MLY_TRY(find_norm(&find, "attention_norm", hidden, &layer->attention_norm));
    return find_norm(&find, "ffn_norm", hidden, &layer->ffn_norm);
}

static enum mly_err find_tokenizer(const struct mly_tensors *tensors, struct mly_model *model,
                                   struct mly_error *err)
{
    const bool list = model->card.tokenizer_form == MLY_TOKENIZER_VOCABULARY;
    const char *name = list ? "vocabulary" : "tokenizer";
    const struct mly_tensor *tensor = mly_tensors_find(tensors, name);
    if (tensor == NULL || tensor->type != MLY_TENSOR_U8 || tensor->rank != 1) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model file lacks the tensor %s", name);
    }
    model->card.tokenizer = (struct mly_str){(const char *)tensor->data, tensor->bytes};
    if (!list) return MLY_OK;
    size_t lines = 0;
    for (size_t i = 0; i < tensor->bytes; i++) {
        lines += tensor->data[i] == '\n' || i + 1 == tensor->bytes; /* the last may have no end */
    }
    if (lines != model->config.vocabulary) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model has %zu word pieces and %zu embeddings",
                        lines, model->config.vocabulary);
    }
    return MLY_OK;
}

static enum mly_err find_words(const struct find *find, struct mly_model *model)
{
    static const enum mly_tensor_type types[] = {MLY_TENSOR_I8, MLY_TENSOR_BF16, MLY_TENSOR_F32};
    const struct mly_model_config *config = &model->config;
    const uint64_t shape[] = {config->vocabulary, config->hidden};
    const void *data = NULL;
    MLY_TRY(find_tensor(find, "embeddings.word", "", types[config->precision], shape, 2, &data));
    if (config->precision == MLY_MODEL_BF16) {
        model->words.bf16 = data;
        return MLY_OK;
    }
    if (config->precision == MLY_MODEL_F32) {
        model->words.f32 = data;
        return MLY_OK;
    }
    model->words.int8 = data;
    return find_floats(find, "embeddings.word_scale", "", config->vocabulary, &model->word_scale);
}

enum mly_err mly_model_find_weights(const struct mly_tensors *tensors, struct mly_model *model,
                                    struct mly_error *err)
{
    const struct mly_model_config *config = &model->config;
    const struct find find = {tensors, config->precision, "", err};
    const uint64_t positions[] = {config->positions, config->hidden};
    const void *data = NULL;
    MLY_TRY(find_words(&find, model));
    MLY_TRY(find_tensor(&find, "embeddings.position", "", MLY_TENSOR_F32, positions, 2, &data));
    model->position = data;
    MLY_TRY(find_norm(&find, "embeddings.norm", config->hidden, &model->word_norm));
    MLY_TRY(find_tokenizer(tensors, model, err));
    model->layers = mly_mem_array(model->mem, config->layers, sizeof(model->layers[0]));
    if (model->layers == NULL) {
        return mly_fail_nomem(err, config->layers * sizeof(model->layers[0]));
    }
    for (size_t i = 0; i < config->layers; i++) {
        MLY_TRY(find_layer(tensors, i, config, &model->layers[i], err));
    }
    return MLY_OK;
}
