/* The BERT encoder over one block of sequences: word pieces in, unit vectors out.
 *
 * The sequences stand one behind the other without padding; everything but attention and pooling
 * works on single rows, and attention only looks within its sequence, so a vector cannot depend on
 * what else is in the block. What a product does depends on the model's precision and is in
 * encoder_int8.c and encoder_float.c; this is the order of things.
 *
 * Source: Devlin et al. 2018, section 3; pooling and unit length as sentence-transformers does.
 */
#include "embed/embed_int.h"

#include <math.h>
#include <string.h>

const struct mly_encoder_steps *mly_encoder_steps_of(enum mly_model_precision precision)
{
    return precision == MLY_MODEL_INT8 ? &mly_encoder_int8 : &mly_encoder_float;
}

struct mly_encoder_place mly_encoder_place_of(const struct mly_encoder_block *block, size_t row)
{
    const size_t at = block->starts[0] + row;
    size_t sequence = 0;
    while (block->starts[sequence + 1] <= at) {
        sequence++;
    }
    return (struct mly_encoder_place){sequence, at - block->starts[sequence]};
}

void mly_encoder_place_next(const struct mly_encoder_block *block, struct mly_encoder_place *place)
{
    place->position++;
    if (block->starts[place->sequence] + place->position < block->starts[place->sequence + 1])
        return;
    place->sequence++;
    place->position = 0;
}

void mly_encoder_normalise(const struct mly_encoder_block *block, const struct mly_model_norm *norm,
                           size_t first, size_t end)
{
    const size_t hidden = block->model->config.hidden;
    block->kern->layer_norm_f32(block->room->x + first * hidden, end - first, norm->weight,
                                norm->bias, hidden, block->model->config.epsilon);
}

void mly_encoder_begin_rows(const struct mly_encoder_block *block, size_t first, size_t end)
{
    mly_encoder_steps_of(block->model->config.precision)->look_up(block, first, end);
    mly_encoder_normalise(block, &block->model->word_norm, first, end);
}

void mly_encoder_begin(const struct mly_encoder_block *block)
{
    mly_encoder_begin_rows(block, 0, block->rows);
}

struct mly_encoder_groups mly_encoder_groups_of(const struct mly_model_config *config)
{
    const size_t head_dim = config->hidden / config->heads;
    size_t width = MLY_KERN_PANEL;
    while (width % head_dim != 0) { /* ends at hidden at the latest, a multiple of both */
        width += MLY_KERN_PANEL;
    }
    return (struct mly_encoder_groups){width, width / head_dim, config->hidden / width};
}

void mly_encoder_mix(const struct mly_encoder_block *block, size_t layer_i, size_t group,
                     size_t first, size_t end, struct mly_encoder_room *room)
{
    const struct mly_encoder_steps *steps = mly_encoder_steps_of(block->model->config.precision);
    const struct mly_encoder_groups groups = mly_encoder_groups_of(&block->model->config);
    const size_t *starts = block->starts;
    steps->project(block, layer_i, group, starts[first] - starts[0], starts[end] - starts[0],
                   room->projected);
    for (size_t s = first; s < end; s++) {
        const float *projected = room->projected + (starts[s] - starts[first]) * 3 * groups.width;
        for (size_t head = 0; head < groups.heads; head++) {
            steps->attend(block, s, group * groups.heads + head, projected, &room->desk);
        }
    }
}

void mly_encoder_layer(const struct mly_encoder_block *block, size_t layer_i)
{
    const struct mly_encoder_steps *steps = mly_encoder_steps_of(block->model->config.precision);
    struct mly_encoder_desk *desk = &block->room->desk;
    const size_t groups = mly_encoder_groups_of(&block->model->config).count;
    steps->prepare(block, layer_i, 0, block->rows, desk);
    for (size_t group = 0; group < groups; group++) {
        mly_encoder_mix(block, layer_i, group, 0, block->count, block->room);
    }
    steps->finish(block, layer_i, 0, block->rows, desk);
}

/* The mean of a sequence's rows, or its first, at unit length; the mean's divisor cancels out. */
static bool pool_rows(const struct mly_encoder_block *block, size_t sequence, float *out)
{
    const size_t hidden = block->model->config.hidden;
    const size_t first = block->starts[sequence] - block->starts[0];
    const size_t end = block->model->config.pooling == MLY_MODEL_CLS
                           ? first + 1
                           : block->starts[sequence + 1] - block->starts[0];
    memcpy(out, block->room->x + first * hidden, hidden * sizeof(out[0]));
    for (size_t row = first + 1; row < end; row++) {
        block->kern->add_f32(block->room->x + row * hidden, hidden, out);
    }
    const float square = block->kern->dot_f32(out, out, hidden);
    if (!(square > 0.0f) || !isfinite(square)) return false;
    block->kern->scale_f32(out, hidden, 1.0f / sqrtf(square));
    return true;
}

bool mly_encoder_end(const struct mly_encoder_block *block, float *out)
{
    bool ok = true;
    for (size_t s = 0; s < block->count; s++) {
        if (!pool_rows(block, s, out + s * block->model->config.hidden)) ok = false;
    }
    return ok;
}

bool mly_encoder_run(const struct mly_encoder_block *block, float *out)
{
    mly_encoder_begin(block);
    for (size_t i = 0; i < block->model->config.layers; i++) {
        mly_encoder_layer(block, i);
    }
    return mly_encoder_end(block, out);
}
