/* What a model file holds: its tensors in their order, and its metadata. docs/NUMERICS.md draws it.
 */
#include "embed/quantise/quantise_int.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const precisions[] = {"int8", "bf16", "f32"};

static enum mly_err plan_floats(struct mly_conversion *work, size_t layer, const char *name,
                                const char *part, uint64_t count, struct mly_error *err)
{
    char whole[64];
    (void)snprintf(whole, sizeof(whole), "layer.%zu.%s%s", layer, name, part);
    return mly_model_writer_plan(&work->writer, whole, MLY_TENSOR_F32, &count, 1, err);
}

static enum mly_err plan_product(struct mly_conversion *work, size_t layer,
                                 enum mly_product product, struct mly_error *err)
{
    const char *name = mly_product_names[product];
    char whole[64];
    size_t out, in;
    mly_product_shape(work->card, product, &out, &in);
    const uint64_t int8[] = {out / MLY_KERN_PANEL, in / MLY_KERN_STEP, MLY_KERN_PANEL,
                             MLY_KERN_STEP};
    const uint64_t bf16[] = {out / MLY_KERN_PANEL, in / 2, MLY_KERN_PANEL, 2};
    const uint64_t f32[] = {out / MLY_KERN_PANEL, in, MLY_KERN_PANEL};
    const bool rounded = work->job->precision == MLY_QUANTISE_INT8;
    (void)snprintf(whole, sizeof(whole), "layer.%zu.%s.weight", layer, name);
    switch (work->job->precision) {
    case MLY_QUANTISE_INT8:
        MLY_TRY(mly_model_writer_plan(&work->writer, whole, MLY_TENSOR_I8, int8, 4, err));
        MLY_TRY(plan_floats(work, layer, name, ".scale", out, err));
        MLY_TRY(plan_floats(work, layer, name, ".sum", out, err));
        break;
    case MLY_QUANTISE_BF16:
        MLY_TRY(mly_model_writer_plan(&work->writer, whole, MLY_TENSOR_BF16, bf16, 4, err));
        break;
    case MLY_QUANTISE_F32:
        MLY_TRY(mly_model_writer_plan(&work->writer, whole, MLY_TENSOR_F32, f32, 3, err));
        break;
    }
    MLY_TRY(plan_floats(work, layer, name, ".bias", out, err));
    if (rounded && (product == MLY_PRODUCT_ATTENTION_IN || product == MLY_PRODUCT_FFN_IN)) {
        return plan_floats(work, layer, name, ".factor", in, err);
    }
    return MLY_OK;
}

static enum mly_err plan_layer(struct mly_conversion *work, size_t layer, struct mly_error *err)
{
    static const char *const norms[] = {"attention_norm", "ffn_norm"};
    for (int i = 0; i < MLY_PRODUCT_COUNT; i++) {
        MLY_TRY(plan_product(work, layer, (enum mly_product)i, err));
    }
    for (size_t i = 0; i < 2; i++) {
        MLY_TRY(plan_floats(work, layer, norms[i], ".weight", work->card->hidden, err));
        MLY_TRY(plan_floats(work, layer, norms[i], ".bias", work->card->hidden, err));
    }
    return MLY_OK;
}

/* In the order of the file: what is no multiple of 64 bytes comes last, so that the rest is aligned
 * without holes, which safetensors forbids. */
static enum mly_err plan_tensors(struct mly_conversion *work, struct mly_error *err)
{
    struct mly_model_writer *writer = &work->writer;
    const struct mly_quantise_job *job = work->job;
    const uint64_t hidden = work->card->hidden, vocabulary = job->vocabulary;
    const uint64_t words[] = {vocabulary, hidden}, places[] = {work->card->positions, hidden};
    const uint64_t tokenizer = job->tokenizer.bytes;
    const enum mly_tensor_type type = job->precision == MLY_QUANTISE_INT8   ? MLY_TENSOR_I8
                                      : job->precision == MLY_QUANTISE_BF16 ? MLY_TENSOR_BF16
                                                                            : MLY_TENSOR_F32;
    MLY_TRY(mly_model_writer_plan(writer, "embeddings.word", type, words, 2, err));
    MLY_TRY(mly_model_writer_plan(writer, "embeddings.position", MLY_TENSOR_F32, places, 2, err));
    MLY_TRY(
        mly_model_writer_plan(writer, "embeddings.norm.weight", MLY_TENSOR_F32, &hidden, 1, err));
    MLY_TRY(mly_model_writer_plan(writer, "embeddings.norm.bias", MLY_TENSOR_F32, &hidden, 1, err));
    for (size_t i = 0; i < work->card->layers; i++) {
        MLY_TRY(plan_layer(work, i, err));
    }
    if (type == MLY_TENSOR_I8) {
        MLY_TRY(mly_model_writer_plan(writer, "embeddings.word_scale", MLY_TENSOR_F32, &vocabulary,
                                      1, err));
    }
    return mly_model_writer_plan(writer, job->tokenizer_is_list ? "vocabulary" : "tokenizer",
                                 MLY_TENSOR_U8, &tokenizer, 1, err);
}

static enum mly_err add_number(struct mly_bytes *out, const char *key, uint64_t value,
                               struct mly_error *err)
{
    char text[96];
    (void)snprintf(text, sizeof(text), "\"%s\":%" PRIu64 ",", key, value);
    return mly_bytes_append(out, text, strlen(text), err);
}

static enum mly_err add_text(struct mly_bytes *out, const char *key, struct mly_str value,
                             struct mly_error *err)
{
    MLY_TRY(mly_json_append_text(out, mly_str_of(key), err));
    MLY_TRY(mly_bytes_append(out, ":", 1, err));
    MLY_TRY(mly_json_append_text(out, value, err));
    return mly_bytes_append(out, ",", 1, err);
}

static enum mly_err make_config(const struct mly_conversion *work, struct mly_bytes *out,
                                struct mly_error *err)
{
    const struct mly_snapshot_card *card = work->card;
    const struct mly_str form =
        work->job->tokenizer_is_list ? MLY_STR("vocabulary") : MLY_STR("compiled");
    MLY_TRY(mly_bytes_append(out, "{", 1, err));
    MLY_TRY(add_text(out, "architecture", MLY_STR("bert"), err));
    MLY_TRY(add_number(out, "heads", card->heads, err));
    MLY_TRY(add_number(out, "hidden", card->hidden, err));
    MLY_TRY(add_number(out, "intermediate", card->intermediate, err));
    MLY_TRY(add_number(out, "layer_norm_epsilon_femto", card->epsilon_femto, err));
    MLY_TRY(add_number(out, "layers", card->layers, err));
    MLY_TRY(add_text(out, "passage_prefix", card->passage_prefix, err));
    MLY_TRY(add_number(out, "pieces_max", card->pieces_max, err));
    MLY_TRY(add_text(out, "pooling", card->pooling, err));
    MLY_TRY(add_number(out, "positions", card->positions, err));
    MLY_TRY(add_text(out, "query_prefix", card->query_prefix, err));
    MLY_TRY(add_text(out, "tokenizer", form, err));
    MLY_TRY(add_number(out, "vocabulary", work->job->vocabulary, err));
    out->data[out->bytes - 1] = '}';
    return MLY_OK;
}

static enum mly_err add_notes(struct mly_conversion *work, struct mly_str config,
                              struct mly_error *err)
{
    struct mly_model_writer *writer = &work->writer;
    const struct mly_snapshot_card *card = work->card;
    char notice[256];
    (void)snprintf(notice, sizeof(notice),
                   "Derived from %s: weights %s and reordered, tokenizer unchanged.", card->id.data,
                   work->job->precision == MLY_QUANTISE_INT8   ? "rounded to 8 bits"
                   : work->job->precision == MLY_QUANTISE_BF16 ? "rounded to bfloat16"
                                                               : "unchanged");
    MLY_TRY(mly_model_writer_note(writer, "config", config, err));
    MLY_TRY(mly_model_writer_note(writer, "format", MLY_STR("memalloy-model"), err));
    MLY_TRY(mly_model_writer_note(writer, "format_version", MLY_STR("2"), err));
    MLY_TRY(mly_model_writer_note(writer, "id", card->id, err));
    MLY_TRY(mly_model_writer_note(writer, "license", work->job->license, err));
    MLY_TRY(mly_model_writer_note(writer, "notice", mly_str_of(notice), err));
    MLY_TRY(mly_model_writer_note(writer, "quantisation",
                                  mly_str_of(precisions[work->job->precision]), err));
    MLY_TRY(mly_model_writer_note(writer, "source", work->job->source, err));
    return mly_model_writer_note(writer, "source_sha256", mly_str_of(card->sha256), err);
}

enum mly_err mly_convert_plan(struct mly_conversion *work, struct mly_error *err)
{
    struct mly_bytes config;
    mly_bytes_init(&config, work->mem, 16384);
    enum mly_err rc = make_config(work, &config, err);
    if (rc == MLY_OK) rc = add_notes(work, mly_bytes_view(&config), err);
    mly_bytes_deinit(&config);
    if (rc == MLY_OK) rc = plan_tensors(work, err);
    return rc;
}
