/* A layer in 8 bits: each product's weights are rounded for the inputs that the calibration's rows
 * have by then, and the rows go on through the rounded product.
 *
 * Some inputs are many times as wide as others and would take a row's range of 256 steps for
 * themselves. Where the inputs come from a norm they are scaled before they are rounded, and the
 * weights the other way (smoothing); the engine has the factors in the file.
 */
#include "embed/quantise/quantise_int.h"

#include <math.h>

/* The largest number of each column, in size. */
static void measure_columns(const float *rows, size_t count, size_t width, float *most)
{
    memset(most, 0, width * sizeof(most[0]));
    for (size_t row = 0; row < count; row++) {
        for (size_t i = 0; i < width; i++) {
            const float size = fabsf(rows[row * width + i]);
            most[i] = size > most[i] ? size : most[i];
        }
    }
}

/* work->factor for rows f32[rows][in], and the weights divided by it: the root of how much wider
 * the column of the weights is than that of the rows. So both bear an equal part of it. */
static void smooth(struct mly_conversion *work, const float *rows, size_t out, size_t in)
{
    float *weights = work->room.weights, *factor = work->factor, *wide = work->wide;
    measure_columns(rows, work->calibration.rows, in, wide);
    measure_columns(weights, out, in, factor);
    for (size_t i = 0; i < in; i++) {
        const bool both = wide[i] > 0.0f && factor[i] > 0.0f;
        factor[i] = both ? sqrtf(factor[i]) / sqrtf(wide[i]) : 1.0f;
    }
    for (size_t o = 0; o < out; o++) {
        for (size_t i = 0; i < in; i++) {
            weights[o * in + i] /= factor[i];
        }
    }
}

/* Rounds a product whose weights are loaded, writes it, and gives it as the engine has it. */
static enum mly_err round_product(struct mly_conversion *work, enum mly_product product,
                                  const struct mly_kern_rows *rows, const float *factor,
                                  struct mly_kern_linear *linear, struct mly_error *err)
{
    struct mly_product_room *room = &work->room;
    struct mly_model_writer *writer = &work->writer;
    size_t out, in;
    mly_product_shape(work->card, product, &out, &in);
    const struct mly_gptq_layer layer = {room->weights, room->bias, in, out};
    const struct mly_gptq_result result = {room->stored, room->scale, room->sum, room->new_bias};
    MLY_TRY(mly_gptq_round(&work->job->workshop, &layer, rows, &result, err));
    mly_product_pack(room->stored, out, in, room->packed);
    *linear =
        (struct mly_kern_linear){room->packed, room->scale, room->sum, room->new_bias, in, out};
    MLY_TRY(mly_model_writer_put(writer, room->packed, out * in, err));
    MLY_TRY(mly_model_writer_put(writer, room->scale, out * sizeof(float), err));
    MLY_TRY(mly_model_writer_put(writer, room->sum, out * sizeof(float), err));
    MLY_TRY(mly_model_writer_put(writer, room->new_bias, out * sizeof(float), err));
    if (factor == NULL) return MLY_OK;
    return mly_model_writer_put(writer, factor, in * sizeof(float), err);
}

static enum mly_err load(struct mly_conversion *work, size_t layer, enum mly_product product,
                         struct mly_error *err)
{
    const char *const names[] = {"attention in", "attention out", "inner layer in",
                                 "inner layer out"};
    const double share =
        ((double)layer + (double)product / MLY_PRODUCT_COUNT) / (double)work->card->layers;
    MLY_TRY(mly_convert_tell(work, names[product], share, err));
    return mly_product_load(work, layer, product, work->room.weights, work->room.bias, err);
}

static enum mly_err convert_attention(struct mly_conversion *work, size_t layer,
                                      struct mly_error *err)
{
    struct mly_stream *stream = &work->calibration;
    struct mly_kern_linear linear;
    size_t out, in;
    MLY_TRY(load(work, layer, MLY_PRODUCT_ATTENTION_IN, err));
    mly_product_shape(work->card, MLY_PRODUCT_ATTENTION_IN, &out, &in);
    smooth(work, stream->x, out, in);
    struct mly_kern_rows rows = mly_stream_quantise(stream, stream->x, work->factor);
    MLY_TRY(round_product(work, MLY_PRODUCT_ATTENTION_IN, &rows, work->factor, &linear, err));
    mly_stream_project(stream, &linear);
    mly_stream_attend(stream);
    MLY_TRY(load(work, layer, MLY_PRODUCT_ATTENTION_OUT, err));
    rows = mly_stream_quantise(stream, stream->mixed, NULL);
    MLY_TRY(round_product(work, MLY_PRODUCT_ATTENTION_OUT, &rows, NULL, &linear, err));
    mly_stream_add(stream, &linear, false);
    const struct mly_stream_norm norm = {work->norm[0], work->norm[1]};
    mly_stream_normalise(stream, &norm);
    return MLY_OK;
}

static enum mly_err convert_inner(struct mly_conversion *work, size_t layer, struct mly_error *err)
{
    struct mly_stream *stream = &work->calibration;
    struct mly_kern_linear linear;
    size_t out, in;
    MLY_TRY(load(work, layer, MLY_PRODUCT_FFN_IN, err));
    mly_product_shape(work->card, MLY_PRODUCT_FFN_IN, &out, &in);
    smooth(work, stream->x, out, in);
    struct mly_kern_rows rows = mly_stream_quantise(stream, stream->x, work->factor);
    MLY_TRY(round_product(work, MLY_PRODUCT_FFN_IN, &rows, work->factor, &linear, err));
    rows = mly_stream_inner(stream, &linear);
    MLY_TRY(load(work, layer, MLY_PRODUCT_FFN_OUT, err));
    MLY_TRY(round_product(work, MLY_PRODUCT_FFN_OUT, &rows, NULL, &linear, err));
    mly_stream_add(stream, &linear, true);
    const struct mly_stream_norm norm = {work->norm[2], work->norm[3]};
    mly_stream_normalise(stream, &norm);
    return MLY_OK;
}

enum mly_err mly_convert_layer_int8(struct mly_conversion *work, size_t layer,
                                    struct mly_error *err)
{
    MLY_TRY(convert_attention(work, layer, err));
    MLY_TRY(convert_inner(work, layer, err));
    for (size_t i = 0; i < 4; i++) {
        MLY_TRY(mly_model_writer_put(&work->writer, work->norm[i],
                                     work->card->hidden * sizeof(float), err));
    }
    return MLY_OK;
}
