/* A layer in floats: run for the samples' sake, and written at f32 or bf16. */
#include "embed/quantise/quantise_int.h"

enum mly_err mly_convert_reference(struct mly_conversion *work, size_t layer, struct mly_error *err)
{
    struct mly_product_room *room = &work->room;
    struct mly_stream *samples = &work->samples;
    const struct mly_stream_norm attention = {work->norm[0], work->norm[1]};
    const struct mly_stream_norm ffn = {work->norm[2], work->norm[3]};
    struct mly_stream_linear linear = {room->panels, room->bias, 0, 0};
    struct mly_stream_linear second = {work->second_panels, work->second_bias, 0, 0};
    if (samples->rows == 0) return MLY_OK;
    MLY_TRY(
        mly_product_load(work, layer, MLY_PRODUCT_ATTENTION_IN, room->weights, room->bias, err));
    mly_product_shape(work->card, MLY_PRODUCT_ATTENTION_IN, &linear.out, &linear.in);
    mly_product_panels(room->weights, linear.out, linear.in, room->panels);
    mly_stream_project_floats(samples, &linear);
    mly_stream_attend(samples);
    MLY_TRY(
        mly_product_load(work, layer, MLY_PRODUCT_ATTENTION_OUT, room->weights, room->bias, err));
    mly_product_shape(work->card, MLY_PRODUCT_ATTENTION_OUT, &linear.out, &linear.in);
    mly_product_panels(room->weights, linear.out, linear.in, room->panels);
    mly_stream_add_floats(samples, &linear);
    mly_stream_normalise(samples, &attention);
    MLY_TRY(
        mly_product_load(work, layer, MLY_PRODUCT_FFN_OUT, room->weights, work->second_bias, err));
    mly_product_shape(work->card, MLY_PRODUCT_FFN_OUT, &second.out, &second.in);
    mly_product_panels(room->weights, second.out, second.in, work->second_panels);
    MLY_TRY(mly_product_load(work, layer, MLY_PRODUCT_FFN_IN, room->weights, room->bias, err));
    mly_product_shape(work->card, MLY_PRODUCT_FFN_IN, &linear.out, &linear.in);
    mly_product_panels(room->weights, linear.out, linear.in, room->panels);
    mly_stream_inner_floats(samples, &linear, &second);
    mly_stream_normalise(samples, &ffn);
    return MLY_OK;
}

/* f32[out][in] -> bf16[out / 64][in / 2][64][2], where the panels of floats are. */
static void pack_bf16(const float *weights, size_t out, size_t in, uint8_t *packed)
{
    for (size_t o = 0; o < out; o++) {
        for (size_t i = 0; i < in; i++) {
            const uint16_t half = mly_convert_bf16(weights[o * in + i]);
            const size_t at =
                ((o / MLY_KERN_PANEL * (in / 2) + i / 2) * MLY_KERN_PANEL + o % MLY_KERN_PANEL) *
                    2 +
                i % 2;
            memcpy(packed + at * sizeof(half), &half, sizeof(half));
        }
    }
}

enum mly_err mly_convert_layer_floats(struct mly_conversion *work, size_t layer,
                                      struct mly_error *err)
{
    struct mly_product_room *room = &work->room;
    const bool half = work->job->precision == MLY_QUANTISE_BF16;
    const size_t hidden = work->card->hidden;
    for (int i = 0; i < MLY_PRODUCT_COUNT; i++) {
        const enum mly_product product = (enum mly_product)i;
        size_t out, in;
        mly_product_shape(work->card, product, &out, &in);
        MLY_TRY(mly_product_load(work, layer, product, room->weights, room->bias, err));
        if (half) {
            pack_bf16(room->weights, out, in, (uint8_t *)room->panels);
        } else {
            mly_product_panels(room->weights, out, in, room->panels);
        }
        MLY_TRY(mly_model_writer_put(&work->writer, room->panels,
                                     out * in * (half ? 2 : sizeof(float)), err));
        MLY_TRY(mly_model_writer_put(&work->writer, room->bias, out * sizeof(float), err));
    }
    for (size_t i = 0; i < 4; i++) {
        MLY_TRY(mly_model_writer_put(&work->writer, work->norm[i], hidden * sizeof(float), err));
    }
    return MLY_OK;
}
