/* The steps of the encoder for weights in f32 and in bf16. f32 is the reference: every number as
 * the model was published, but for the order of sums. In bf16, rows are rounded in front of each
 * product as the weights were; sums, the residual stream, norms, GELU and attention stay in floats.
 */
#include "embed/embed_int.h"

#include <string.h>

static void look_up(const struct mly_encoder_block *block, size_t first, size_t end)
{
    const struct mly_model *model = block->model;
    const size_t hidden = model->config.hidden;
    struct mly_encoder_place place = mly_encoder_place_of(block, first);
    for (size_t row = first; row < end; row++) {
        const size_t id = (size_t)block->ids[block->starts[0] + row];
        const float *position = model->position + place.position * hidden;
        float *x = block->room->x + row * hidden;
        if (model->config.precision == MLY_MODEL_F32) {
            memcpy(x, model->words.f32 + id * hidden, hidden * sizeof(x[0]));
        } else {
            for (size_t i = 0; i < hidden; i++) {
                const uint32_t bits = (uint32_t)model->words.bf16[id * hidden + i] << 16;
                memcpy(&x[i], &bits, sizeof(bits));
            }
        }
        block->kern->add_f32(position, hidden, x);
        mly_encoder_place_next(block, &place);
    }
}

/* One product: count rows that stand in rows, the first of them row first of the block, through
 * linear into out. halves: room for them in bf16. */
struct product {
    size_t layer_i;
    enum mly_encoder_product product;
    const union mly_model_linear *linear;
    size_t in;
    const float *rows;
    uint16_t *halves;
    size_t first, count;
    enum mly_kern_finish finish;
    float *out;
    size_t out_stride;
};

/* NULL for f32. */
static uint16_t *halves_of(const struct mly_encoder_block *block, size_t row)
{
    uint16_t *halves = block->room->halves;
    return halves == NULL ? NULL : halves + row * block->model->config.hidden;
}

/* What its rows become in front of the product. */
static void round_rows(const struct mly_encoder_block *block, const struct product *p)
{
    if (block->watch != NULL) {
        block->watch(block->watch_context, p->layer_i, p->product, p->rows, p->first, p->count,
                     p->in);
    }
    if (block->model->config.precision == MLY_MODEL_F32) return;
    block->kern->round_f32_bf16(p->rows, p->count * p->in, p->halves);
}

static void multiply_rounded(const struct mly_encoder_block *block, const struct product *p)
{
    if (block->model->config.precision == MLY_MODEL_F32) {
        block->kern->linear_f32(p->rows, p->in, p->count, &p->linear->f32, p->finish, p->out,
                                p->out_stride);
        return;
    }
    block->kern->linear_bf16(p->halves, p->in, p->count, &p->linear->bf16, p->finish, p->out,
                             p->out_stride);
}

static void multiply(const struct mly_encoder_block *block, const struct product *product)
{
    round_rows(block, product);
    multiply_rounded(block, product);
}

/* Rows first to end of x into attention_in; where they go is not said yet. */
static struct product way_in(const struct mly_encoder_block *block, size_t layer_i, size_t first,
                             size_t end)
{
    const size_t hidden = block->model->config.hidden;
    return (struct product){
        .layer_i = layer_i,
        .product = MLY_ENCODER_ATTENTION_IN,
        .in = hidden,
        .rows = block->room->x + first * hidden,
        .halves = halves_of(block, first),
        .first = first,
        .count = end - first,
        .finish = MLY_KERN_STORE,
    };
}

static void prepare(const struct mly_encoder_block *block, size_t layer_i, size_t first, size_t end,
                    struct mly_encoder_desk *desk)
{
    (void)desk;
    const struct product product = way_in(block, layer_i, first, end);
    round_rows(block, &product);
}

/* Outputs first to first + width of a layer. */
static union mly_model_linear part_of(const struct mly_model *model,
                                      const union mly_model_linear *all, size_t first, size_t width)
{
    union mly_model_linear part = *all;
    if (model->config.precision == MLY_MODEL_F32) {
        part.f32.panels += first * part.f32.in;
        part.f32.bias += first;
        part.f32.out = width;
    } else {
        part.bf16.panels += first * part.bf16.in;
        part.bf16.bias += first;
        part.bf16.out = width;
    }
    return part;
}

static void project(const struct mly_encoder_block *block, size_t layer_i, size_t group,
                    size_t first, size_t end, float *out)
{
    const struct mly_model *model = block->model;
    const size_t width = mly_encoder_groups_of(&model->config).width;
    struct product product = way_in(block, layer_i, first, end);
    product.out_stride = 3 * width;
    for (size_t i = 0; i < 3; i++) {
        const union mly_model_linear part =
            part_of(model, &model->layers[layer_i].attention_in,
                    i * model->config.hidden + group * width, width);
        product.linear = &part;
        product.out = out + i * width;
        multiply_rounded(block, &product);
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
    block->kern->attention_f32(q, q + width, q + 2 * width, 3 * width, pieces, head_dim,
                               desk->scratch, block->room->mixed + first * hidden + head * head_dim,
                               hidden);
}

/* Rows first to first + count, MLY_ENCODER_INNER_ROWS at most. */
static void feed_forward(const struct mly_encoder_block *block, size_t layer_i, size_t first,
                         size_t count, struct mly_encoder_desk *desk)
{
    const struct mly_model_layer *layer = &block->model->layers[layer_i];
    const size_t hidden = block->model->config.hidden, inner = block->model->config.intermediate;
    struct product product = {
        .layer_i = layer_i,
        .product = MLY_ENCODER_FFN_IN,
        .linear = &layer->ffn_in,
        .in = hidden,
        .rows = block->room->x + first * hidden,
        .halves = halves_of(block, first),
        .first = first,
        .count = count,
        .finish = MLY_KERN_GELU,
        .out = desk->inner,
        .out_stride = inner,
    };
    multiply(block, &product);
    product.product = MLY_ENCODER_FFN_OUT;
    product.linear = &layer->ffn_out;
    product.in = inner;
    product.rows = desk->inner;
    product.halves = desk->inner_halves;
    product.finish = MLY_KERN_ADD;
    product.out = block->room->x + first * hidden;
    product.out_stride = hidden;
    multiply(block, &product);
    mly_encoder_normalise(block, &layer->ffn_norm, first, first + count);
}

static void finish(const struct mly_encoder_block *block, size_t layer_i, size_t first, size_t end,
                   struct mly_encoder_desk *desk)
{
    const struct mly_model_layer *layer = &block->model->layers[layer_i];
    const size_t hidden = block->model->config.hidden;
    const struct product product = {
        .layer_i = layer_i,
        .product = MLY_ENCODER_ATTENTION_OUT,
        .linear = &layer->attention_out,
        .in = hidden,
        .rows = block->room->mixed + first * hidden,
        .halves = halves_of(block, first),
        .first = first,
        .count = end - first,
        .finish = MLY_KERN_ADD,
        .out = block->room->x + first * hidden,
        .out_stride = hidden,
    };
    multiply(block, &product);
    mly_encoder_normalise(block, &layer->attention_norm, first, end);
    for (size_t at = first; at < end; at += MLY_ENCODER_INNER_ROWS) {
        const size_t left = end - at;
        feed_forward(block, layer_i, at,
                     left < MLY_ENCODER_INNER_ROWS ? left : MLY_ENCODER_INNER_ROWS, desk);
    }
}

const struct mly_encoder_steps mly_encoder_float = {look_up, prepare, project, attend, finish};
