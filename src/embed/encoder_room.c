/* The memory that the encoder works in: sizes from the model's configuration, one allocation for
 * each part.
 */
#include "embed/embed_int.h"

_Static_assert(MLY_MODEL_PIECES_MAX <= MLY_KERN_ATTENTION_S8_TOKENS_MAX,
               "attention in integers takes every sequence that a model may have");

size_t mly_encoder_rows_max(const struct mly_model_config *config)
{
    return config->pieces_max > MLY_ENCODER_ROWS ? config->pieces_max : MLY_ENCODER_ROWS;
}

/* count * width * item_bytes, aligned to 64. NULL where there is no memory or the product does not
 * fit: *ok becomes false then. */
static void *take(struct mly_mem *mem, bool *ok, size_t count, size_t width, size_t item_bytes)
{
    size_t bytes;
    void *part = NULL;
    if (mly_size_mul(count, width, &bytes) && mly_size_mul(bytes, item_bytes, &bytes))
        part = mly_mem_alloc_aligned(mem, bytes);
    if (part == NULL) *ok = false;
    return part;
}

static void free_desk(struct mly_encoder_desk *desk, struct mly_mem *mem)
{
    mly_mem_free(mem, desk->scratch);
    mly_mem_free(mem, desk->inner);
    mly_mem_free(mem, desk->inner_q);
    mly_mem_free(mem, desk->inner_scale);
    mly_mem_free(mem, desk->inner_low);
    mly_mem_free(mem, desk->scaled);
    mly_mem_free(mem, desk->inner_halves);
}

static struct mly_encoder_desk make_desk(struct mly_mem *mem, bool *ok,
                                         const struct mly_model_config *config)
{
    const size_t rows = MLY_ENCODER_INNER_ROWS, inner = config->intermediate;
    const size_t head_dim = config->hidden / config->heads;
    const size_t scratch =
        config->precision == MLY_MODEL_INT8
            ? MLY_KERN_ATTENTION_S8_BYTES(config->pieces_max, head_dim)
            : MLY_KERN_ATTENTION_FLOATS(config->pieces_max, head_dim) * sizeof(float);
    struct mly_encoder_desk desk = {
        .scratch = take(mem, ok, scratch, 1, 1),
        .inner = take(mem, ok, rows, inner, sizeof(float)),
    };
    if (config->precision == MLY_MODEL_INT8) {
        desk.inner_q = take(mem, ok, rows, inner, 1);
        desk.inner_scale = take(mem, ok, rows, 1, sizeof(float));
        desk.inner_low = take(mem, ok, rows, 1, sizeof(float));
        desk.scaled = take(mem, ok, config->hidden, 1, sizeof(float));
    } else if (config->precision == MLY_MODEL_BF16) {
        desk.inner_halves = take(mem, ok, rows, inner, sizeof(uint16_t));
    }
    return desk;
}

enum mly_err mly_encoder_room_init(struct mly_encoder_room *room, struct mly_mem *mem,
                                   const struct mly_model_config *config, struct mly_error *err)
{
    const size_t rows = mly_encoder_rows_max(config), hidden = config->hidden;
    bool ok = true;
    struct mly_encoder_room made = {
        .x = take(mem, &ok, rows, hidden, sizeof(float)),
        .projected = take(mem, &ok, rows, 3 * hidden, sizeof(float)),
        .mixed = take(mem, &ok, rows, hidden, sizeof(float)),
        .desk = make_desk(mem, &ok, config),
    };
    if (config->precision == MLY_MODEL_INT8) {
        made.q = take(mem, &ok, rows, hidden, 1);
        made.scale = take(mem, &ok, rows, 1, sizeof(float));
        made.low = take(mem, &ok, rows, 1, sizeof(float));
    } else if (config->precision == MLY_MODEL_BF16) {
        made.halves = take(mem, &ok, rows, hidden, sizeof(uint16_t));
    }
    if (!ok) {
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
    mly_mem_free(mem, room->halves);
    free_desk(&room->desk, mem);
    *room = (struct mly_encoder_room){0};
}
