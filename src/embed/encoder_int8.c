/* The steps of the encoder for weights of 8 bits: rows are quantised to 8 bits in front of each
 * product, and within attention; the residual stream and the norms stay in floats.
 */
#include "embed/embed_int.h"

/* Rows of the vocabulary are far apart, and most of them in no cache: asked for so many rows before
 * they are read. */
#define ROWS_AHEAD 6
#define LINE_BYTES 64

static void ask_for(const struct mly_model *model, int32_t id)
{
    const int8_t *row = model->words.int8 + (size_t)id * model->config.hidden;
    for (size_t i = 0; i < model->config.hidden; i += LINE_BYTES) {
        __builtin_prefetch(row + i);
    }
    __builtin_prefetch(&model->word_scale[id]);
}

static void look_up(const struct mly_encoder_block *block, size_t first, size_t end)
{
    const struct mly_model *model = block->model;
    const int32_t *ids = block->ids + block->starts[0];
    const size_t hidden = model->config.hidden;
    struct mly_encoder_place place = mly_encoder_place_of(block, first);
    for (size_t row = first; row < end && row < first + ROWS_AHEAD; row++) {
        ask_for(model, ids[row]);
    }
    for (size_t row = first; row < end; row++) {
        const size_t id = (size_t)ids[row];
        if (row + ROWS_AHEAD < end) ask_for(model, ids[row + ROWS_AHEAD]);
        block->kern->dequantize_s8_f32(model->words.int8 + id * hidden, model->word_scale[id],
                                       model->position + place.position * hidden, hidden,
                                       block->room->x + row * hidden);
        mly_encoder_place_next(block, &place);
    }
}

/* 8 bits for rows first to end of f32[][hidden], into the room's q; factor may be NULL. */
static struct mly_kern_rows quantise(const struct mly_encoder_block *block, size_t layer_i,
                                     enum mly_encoder_product product, const float *rows,
                                     const float *factor, size_t first, size_t end,
                                     struct mly_encoder_desk *desk)
{
    struct mly_encoder_room *room = block->room;
    const size_t hidden = block->model->config.hidden;
    for (size_t row = first; row < end; row++) {
        const float *x = rows + row * hidden;
        const float *by = factor;
        if (block->watch != NULL) {
            for (size_t i = 0; factor != NULL && i < hidden; i++) {
                desk->scaled[i] = x[i] * factor[i];
            }
            x = factor != NULL ? desk->scaled : x;
            by = NULL;
            block->watch(block->watch_context, layer_i, product, x, row, 1, hidden);
        }
        block->kern->quantize_f32_u8(x, by, hidden, room->q + row * hidden, &room->scale[row],
                                     &room->low[row]);
    }
    return (struct mly_kern_rows){room->q + first * hidden, room->scale + first, room->low + first,
                                  end - first, hidden};
}

static void prepare(const struct mly_encoder_block *block, size_t layer_i, size_t first, size_t end,
                    struct mly_encoder_desk *desk)
{
    const struct mly_model_layer *layer = &block->model->layers[layer_i];
    (void)quantise(block, layer_i, MLY_ENCODER_ATTENTION_IN, block->room->x,
                   layer->attention_factor, first, end, desk);
}

static void project(const struct mly_encoder_block *block, size_t layer_i, size_t group,
                    size_t first, size_t end, float *out)
{
    const struct mly_encoder_room *room = block->room;
    const struct mly_kern_linear *all = &block->model->layers[layer_i].attention_in.int8;
    const size_t hidden = all->in, width = mly_encoder_groups_of(&block->model->config).width;
    const struct mly_kern_rows rows = {room->q + first * hidden, room->scale + first,
                                       room->low + first, end - first, hidden};
    for (size_t i = 0; i < 3; i++) {
        const size_t at = i * hidden + group * width;
        const struct mly_kern_linear part = {all->panels + at * hidden,
                                             all->scale + at,
                                             all->sum + at,
                                             all->bias + at,
                                             hidden,
                                             width};
        block->kern->linear_u8s8_f32(&rows, &part, out + i * width, 3 * width);
    }
}

static void attend(const struct mly_encoder_block *block, size_t sequence, size_t head,
                   const float *projected, struct mly_encoder_desk *desk)
{
    const struct mly_encoder_groups groups = mly_encoder_groups_of(&block->model->config);
    const size_t hidden = block->model->config.hidden, width = groups.width;
    const size_t head_dim = width / groups.heads;
    const size_t first = block->starts[sequence] - block->starts[0];
    const size_t pieces = block->starts[sequence + 1] - block->starts[sequence];
    const float *q = projected + head % groups.heads * head_dim;
    block->kern->attention_s8(q, q + width, q + 2 * width, 3 * width, pieces, head_dim,
                              desk->scratch, block->room->mixed + first * hidden + head * head_dim,
                              hidden);
}

/* Rows first to first + count, MLY_ENCODER_INNER_ROWS at most, which stand in rows. */
static void feed_forward(const struct mly_encoder_block *block, size_t layer_i,
                         const struct mly_kern_rows *rows, size_t first,
                         struct mly_encoder_desk *desk)
{
    const struct mly_model_layer *layer = &block->model->layers[layer_i];
    const size_t hidden = block->model->config.hidden, inner = block->model->config.intermediate;
    block->kern->linear_gelu_u8s8_f32(rows, &layer->ffn_in.int8, desk->inner, inner);
    for (size_t row = 0; row < rows->count; row++) {
        const float *x = desk->inner + row * inner;
        if (block->watch != NULL) {
            block->watch(block->watch_context, layer_i, MLY_ENCODER_FFN_OUT, x, first + row, 1,
                         inner);
        }
        desk->inner_low[row] = MLY_KERN_GELU_MIN;
        block->kern->quantize_from_f32_u8(x, inner, MLY_KERN_GELU_MIN, desk->inner_q + row * inner,
                                          &desk->inner_scale[row]);
    }
    const struct mly_kern_rows between = {desk->inner_q, desk->inner_scale, desk->inner_low,
                                          rows->count, inner};
    block->kern->linear_add_u8s8_f32(&between, &layer->ffn_out.int8,
                                     block->room->x + first * hidden, hidden);
    mly_encoder_normalise(block, &layer->ffn_norm, first, first + rows->count);
}

static void finish(const struct mly_encoder_block *block, size_t layer_i, size_t first, size_t end,
                   struct mly_encoder_desk *desk)
{
    const struct mly_model_layer *layer = &block->model->layers[layer_i];
    struct mly_encoder_room *room = block->room;
    const size_t hidden = block->model->config.hidden;
    const struct mly_kern_rows mixed =
        quantise(block, layer_i, MLY_ENCODER_ATTENTION_OUT, room->mixed, NULL, first, end, desk);
    block->kern->linear_add_u8s8_f32(&mixed, &layer->attention_out.int8, room->x + first * hidden,
                                     hidden);
    mly_encoder_normalise(block, &layer->attention_norm, first, end);
    const struct mly_kern_rows all =
        quantise(block, layer_i, MLY_ENCODER_FFN_IN, room->x, layer->ffn_factor, first, end, desk);
    for (size_t at = 0; at < all.count; at += MLY_ENCODER_INNER_ROWS) {
        const size_t left = all.count - at;
        const size_t count = left < MLY_ENCODER_INNER_ROWS ? left : MLY_ENCODER_INNER_ROWS;
        const struct mly_kern_rows part = {all.q + at * hidden, all.scale + at, all.low + at, count,
                                           hidden};
        feed_forward(block, layer_i, &part, first + at, desk);
    }
}

const struct mly_encoder_steps mly_encoder_int8 = {look_up, prepare, project, attend, finish};
