/* The BERT encoder over one block of sequences: word pieces in, unit vectors out.
 *
 * The sequences stand one behind the other without padding; everything but attention and pooling
 * works on single rows, and attention only looks within its sequence, so a vector cannot depend on
 * what else is in the block. Rows are quantised to 8 bits in front of each product; the residual
 * stream, the norms and attention stay in floats.
 *
 * Source: Devlin et al. 2018, section 3; mean pooling and unit length as sentence-transformers
 * does.
 */
#include "embed/embed_int.h"

#include <math.h>
#include <string.h>

size_t mly_encoder_rows_max(const struct mly_model_config *config)
{
    return config->pieces_max > MLY_ENCODER_ROWS ? config->pieces_max : MLY_ENCODER_ROWS;
}

/* count * item_bytes, aligned to 64; NULL where there is no memory or the product does not fit. */
static void *take_part(struct mly_mem *mem, size_t count, size_t width, size_t item_bytes)
{
    size_t bytes;
    if (!mly_size_mul(count, width, &bytes) || !mly_size_mul(bytes, item_bytes, &bytes))
        return NULL;
    return mly_mem_alloc_aligned(mem, bytes);
}

enum mly_err mly_encoder_room_init(struct mly_encoder_room *room, struct mly_mem *mem,
                                   const struct mly_model_config *config, struct mly_error *err)
{
    const size_t rows = mly_encoder_rows_max(config), hidden = config->hidden;
    const size_t inner_rows = MLY_ENCODER_INNER_ROWS, inner = config->intermediate;
    const size_t head_dim = hidden / config->heads;
    struct mly_encoder_room made = {
        .x = take_part(mem, rows, hidden, sizeof(float)),
        .q = take_part(mem, rows, hidden, 1),
        .scale = take_part(mem, rows, 1, sizeof(float)),
        .low = take_part(mem, rows, 1, sizeof(float)),
        .projected = take_part(mem, rows, 3 * hidden, sizeof(float)),
        .mixed = take_part(mem, rows, hidden, sizeof(float)),
        .scratch = take_part(mem, MLY_KERN_ATTENTION_FLOATS(config->pieces_max, head_dim), 1,
                             sizeof(float)),
        .inner = take_part(mem, inner_rows, inner, sizeof(float)),
        .inner_q = take_part(mem, inner_rows, inner, 1),
        .inner_scale = take_part(mem, inner_rows, 1, sizeof(float)),
        .inner_low = take_part(mem, inner_rows, 1, sizeof(float)),
    };
    if (made.x == NULL || made.q == NULL || made.scale == NULL || made.low == NULL ||
        made.projected == NULL || made.mixed == NULL || made.scratch == NULL ||
        made.inner == NULL || made.inner_q == NULL || made.inner_scale == NULL ||
        made.inner_low == NULL) {
        mly_encoder_room_deinit(&made, mem);
        return mly_fail_nomem(err, rows * hidden * 6 * sizeof(float));
    }
    *room = made;
    return MLY_OK;
}

void mly_encoder_room_deinit(struct mly_encoder_room *room, struct mly_mem *mem)
{
    mly_mem_free(mem, room->x);
    mly_mem_free(mem, room->q);
    mly_mem_free(mem, room->scale);
    mly_mem_free(mem, room->low);
    mly_mem_free(mem, room->projected);
    mly_mem_free(mem, room->mixed);
    mly_mem_free(mem, room->scratch);
    mly_mem_free(mem, room->inner);
    mly_mem_free(mem, room->inner_q);
    mly_mem_free(mem, room->inner_scale);
    mly_mem_free(mem, room->inner_low);
    *room = (struct mly_encoder_room){0};
}

struct block {
    const struct mly_model *model;
    const struct mly_kern *kern;
    struct mly_encoder_room *room;
    const int32_t *ids;
    const size_t *starts;
    size_t count; /* sequences */
    size_t rows;  /* word pieces */
};

static void embed_words(const struct block *block)
{
    const struct mly_model *model = block->model;
    const size_t hidden = model->config.hidden;
    const struct mly_model_norm *norm = &model->word_norm;
    size_t row = 0;
    for (size_t s = 0; s < block->count; s++) {
        const int32_t *ids = block->ids + block->starts[s];
        const size_t pieces = block->starts[s + 1] - block->starts[s];
        for (size_t t = 0; t < pieces; t++, row++) {
            const size_t id = (size_t)ids[t];
            float *x = block->room->x + row * hidden;
            block->kern->dequantize_s8_f32(model->words + id * hidden, model->word_scale[id],
                                           model->position + t * hidden, hidden, x);
            block->kern->layer_norm_f32(x, norm->weight, norm->bias, hidden, model->config.epsilon);
        }
    }
}

/* 8 bits for rows of f32[][hidden], into the room's q. */
static struct mly_kern_rows quantise(const struct block *block, const float *rows)
{
    struct mly_encoder_room *room = block->room;
    const size_t hidden = block->model->config.hidden;
    for (size_t row = 0; row < block->rows; row++) {
        block->kern->quantize_f32_u8(rows + row * hidden, hidden, room->q + row * hidden,
                                     &room->scale[row], &room->low[row]);
    }
    return (struct mly_kern_rows){room->q, room->scale, room->low, block->rows, hidden};
}

static void normalise(const struct block *block, const struct mly_model_norm *norm, size_t first,
                      size_t end)
{
    const size_t hidden = block->model->config.hidden;
    for (size_t row = first; row < end; row++) {
        block->kern->layer_norm_f32(block->room->x + row * hidden, norm->weight, norm->bias, hidden,
                                    block->model->config.epsilon);
    }
}

static void attend(const struct block *block, const struct mly_model_layer *layer)
{
    struct mly_encoder_room *room = block->room;
    const size_t hidden = block->model->config.hidden, heads = block->model->config.heads;
    const size_t head_dim = hidden / heads, width = 3 * hidden;
    struct mly_kern_rows rows = quantise(block, room->x);
    block->kern->linear_u8s8_f32(&rows, &layer->attention_in, room->projected, width);
    for (size_t s = 0; s < block->count; s++) {
        const size_t first = block->starts[s] - block->starts[0];
        const size_t pieces = block->starts[s + 1] - block->starts[s];
        for (size_t head = 0; head < heads; head++) {
            const float *q = room->projected + first * width + head * head_dim;
            block->kern->attention_f32(q, q + hidden, q + 2 * hidden, width, pieces, head_dim,
                                       room->scratch,
                                       room->mixed + first * hidden + head * head_dim, hidden);
        }
    }
    rows = quantise(block, room->mixed);
    block->kern->linear_add_u8s8_f32(&rows, &layer->attention_out, room->x, hidden);
    normalise(block, &layer->attention_norm, 0, block->rows);
}

static void feed_forward(const struct block *block, const struct mly_model_layer *layer)
{
    struct mly_encoder_room *room = block->room;
    const size_t hidden = block->model->config.hidden, inner = block->model->config.intermediate;
    const struct mly_kern_rows all = quantise(block, room->x);
    for (size_t first = 0; first < block->rows; first += MLY_ENCODER_INNER_ROWS) {
        const size_t left = block->rows - first;
        const size_t count = left < MLY_ENCODER_INNER_ROWS ? left : MLY_ENCODER_INNER_ROWS;
        const struct mly_kern_rows part = {all.q + first * hidden, all.scale + first,
                                           all.low + first, count, hidden};
        block->kern->linear_gelu_u8s8_f32(&part, &layer->ffn_in, room->inner, inner);
        for (size_t row = 0; row < count; row++) {
            room->inner_low[row] = MLY_KERN_GELU_MIN;
            block->kern->quantize_from_f32_u8(room->inner + row * inner, inner, MLY_KERN_GELU_MIN,
                                              room->inner_q + row * inner, &room->inner_scale[row]);
        }
        const struct mly_kern_rows between = {room->inner_q, room->inner_scale, room->inner_low,
                                              count, inner};
        block->kern->linear_add_u8s8_f32(&between, &layer->ffn_out, room->x + first * hidden,
                                         hidden);
        normalise(block, &layer->ffn_norm, first, first + count);
    }
}

/* The mean of a sequence's rows at unit length; the mean's divisor cancels out. */
static bool pool_rows(const struct block *block, size_t sequence, float *out)
{
    const size_t hidden = block->model->config.hidden;
    const size_t first = block->starts[sequence] - block->starts[0];
    const size_t end = block->starts[sequence + 1] - block->starts[0];
    memcpy(out, block->room->x + first * hidden, hidden * sizeof(out[0]));
    for (size_t row = first + 1; row < end; row++) {
        block->kern->add_f32(block->room->x + row * hidden, hidden, out);
    }
    const float square = block->kern->dot_f32(out, out, hidden);
    if (!(square > 0.0f) || !isfinite(square)) return false;
    block->kern->scale_f32(out, hidden, 1.0f / sqrtf(square));
    return true;
}

bool mly_encoder_run(const struct mly_model *model, const struct mly_kern *kern,
                     struct mly_encoder_room *room, const int32_t *ids, const size_t *starts,
                     size_t count, float *out)
{
    const struct block block = {model, kern, room, ids, starts, count, starts[count] - starts[0]};
    bool ok = true;
    embed_words(&block);
    for (size_t i = 0; i < model->config.layers; i++) {
        attend(&block, &model->layers[i]);
        feed_forward(&block, &model->layers[i]);
    }
    for (size_t s = 0; s < count; s++) {
        if (!pool_rows(&block, s, out + s * model->config.hidden)) ok = false;
    }
    return ok;
}
