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

/* factor for rows f32[rows][in], and the loaded weights divided by it: the root of how much wider
 * the column of the weights is than that of the rows. So both bear an equal part of it. */
static void smooth(struct mly_conversion *work, const float *rows, float *factor, size_t out,
                   size_t in)
{
    float *weights = work->room.weights, *wide = work->wide;
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

/* Rounds a product whose weights are loaded, and gives it as the engine has it. */
static enum mly_err round_product(struct mly_conversion *work, enum mly_product product,
                                  const struct mly_kern_rows *rows, struct mly_kern_linear *linear,
                                  struct mly_error *err)
{
    struct mly_product_room *room = &work->room;
    size_t out, in;
    mly_product_shape(work->card, product, &out, &in);
    const struct mly_gptq_layer layer = {room->weights, room->bias, in, out};
    const struct mly_gptq_result result = {room->stored, room->scale, room->sum, room->new_bias};
    MLY_TRY(mly_gptq_round(&work->job->workshop, &layer, rows, &result, err));
    mly_product_pack(room->stored, out, in, room->packed);
    *linear =
        (struct mly_kern_linear){room->packed, room->scale, room->sum, room->new_bias, in, out};
    return MLY_OK;
}

static enum mly_err put_product(struct mly_conversion *work, const struct mly_kern_linear *linear,
                                const float *factor, struct mly_error *err)
{
    struct mly_model_writer *writer = &work->writer;
    const size_t out = linear->out, in = linear->in;
    MLY_TRY(mly_model_writer_put(writer, linear->panels, out * in, err));
    MLY_TRY(mly_model_writer_put(writer, linear->scale, out * sizeof(float), err));
    MLY_TRY(mly_model_writer_put(writer, linear->sum, out * sizeof(float), err));
    MLY_TRY(mly_model_writer_put(writer, linear->bias, out * sizeof(float), err));
    if (factor == NULL) return MLY_OK;
    return mly_model_writer_put(writer, factor, in * sizeof(float), err);
}

/* Multiplies an output of the product in hand. */
static void scale_output(struct mly_product_room *room, size_t o, float by)
{
    room->scale[o] *= by;
    room->sum[o] *= by;
    room->new_bias[o] *= by;
}

/* The engine rounds queries and keys to 8 bits, all dimensions of a head alike. A dimension in
 * which one of them is wide and the other narrow is made equally wide in both, which changes no
 * score. */
static void balance(struct mly_conversion *work)
{
    const size_t hidden = work->card->hidden;
    float *most = work->wide; /* f32[3][h] */
    measure_columns(work->calibration.projected, work->calibration.rows, 3 * hidden, most);
    for (size_t i = 0; i < hidden; i++) {
        if (!(most[i] > 0.0f && most[hidden + i] > 0.0f)) continue;
        const float by = sqrtf(most[hidden + i]) / sqrtf(most[i]);
        scale_output(&work->room, i, by);
        scale_output(&work->room, hidden + i, 1.0f / by);
    }
}

/* The same for the inputs of attention's way out: they are sums of values, so the values' outputs
 * can be made larger or smaller at no cost. The weights of the way out are loaded. */
static void smooth_values(struct mly_conversion *work)
{
    struct mly_stream *stream = &work->calibration;
    const size_t hidden = work->card->hidden;
    smooth(work, stream->mixed, work->fold, hidden, hidden);
    for (size_t i = 0; i < hidden; i++) {
        scale_output(&work->room, 2 * hidden + i, work->fold[i]);
    }
    for (size_t row = 0; row < stream->rows; row++) {
        for (size_t i = 0; i < hidden; i++) {
            stream->mixed[row * hidden + i] *= work->fold[i];
        }
    }
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
    const struct mly_stream_norm norm = {work->norm[0], work->norm[1]};
    const size_t hidden = work->card->hidden;
    struct mly_kern_linear linear;
    MLY_TRY(load(work, layer, MLY_PRODUCT_ATTENTION_IN, err));
    smooth(work, stream->x, work->factor, 3 * hidden, hidden);
    struct mly_kern_rows rows = mly_stream_quantise(stream, stream->x, work->factor);
    MLY_TRY(round_product(work, MLY_PRODUCT_ATTENTION_IN, &rows, &linear, err));
    mly_stream_project(stream, &linear);
    balance(work);
    mly_stream_project(stream, &linear);
    mly_stream_attend(stream);
    MLY_TRY(load(work, layer, MLY_PRODUCT_ATTENTION_OUT, err));
    smooth_values(work);
    MLY_TRY(put_product(work, &linear, work->factor, err));
    rows = mly_stream_quantise(stream, stream->mixed, NULL);
    MLY_TRY(round_product(work, MLY_PRODUCT_ATTENTION_OUT, &rows, &linear, err));
    MLY_TRY(put_product(work, &linear, NULL, err));
    mly_stream_add(stream, &linear, false);
    mly_stream_normalise(stream, &norm);
    return MLY_OK;
}

static enum mly_err convert_inner(struct mly_conversion *work, size_t layer, struct mly_error *err)
{
    struct mly_stream *stream = &work->calibration;
    const struct mly_stream_norm norm = {work->norm[2], work->norm[3]};
    struct mly_kern_linear linear;
    MLY_TRY(load(work, layer, MLY_PRODUCT_FFN_IN, err));
    smooth(work, stream->x, work->factor, work->card->intermediate, work->card->hidden);
    struct mly_kern_rows rows = mly_stream_quantise(stream, stream->x, work->factor);
    MLY_TRY(round_product(work, MLY_PRODUCT_FFN_IN, &rows, &linear, err));
    MLY_TRY(put_product(work, &linear, work->factor, err));
    rows = mly_stream_inner(stream, &linear);
    MLY_TRY(load(work, layer, MLY_PRODUCT_FFN_OUT, err));
    MLY_TRY(round_product(work, MLY_PRODUCT_FFN_OUT, &rows, &linear, err));
    MLY_TRY(put_product(work, &linear, NULL, err));
    mly_stream_add(stream, &linear, true);
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
