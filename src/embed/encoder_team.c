/* One block by all workers of a pool: products by rows, attention by heads, in stages.
 *
 * A worker reads other workers' rows in attention only, so two stages a layer do: the rows of a
 * part go from one layer's end to the next one's products without a stop. What is computed, and in
 * which order, is the same for any cut, so the bits are.
 */
#include "embed/embed_int.h"

#include "os/pool.h"

/* Rows go through the products in tiles of so many; a large part is a number of whole tiles. */
#define TILE_ROWS 6
/* A part of fewer rows is not worth its own way through the weights. */
#define PART_ROWS_MIN 8
#define STAGES_MAX (2 * MLY_MODEL_LAYERS_MAX + 1)

struct team {
    const struct mly_encoder_block *block;
    const struct mly_encoder_steps *steps;
    struct mly_encoder_room *rooms; /* of which only the desks are used, and the block's rows */
    size_t row_parts, unit;         /* rows of a part: a multiple of unit */
    size_t head_groups;             /* parts of one head's sequences */
};

static void run_rows(const struct team *team, size_t layer_i, size_t part_i,
                     struct mly_encoder_desk *desk)
{
    const struct mly_encoder_block *block = team->block;
    const size_t units = (block->rows + team->unit - 1) / team->unit;
    const size_t first = part_i * units / team->row_parts * team->unit;
    size_t end = (part_i + 1) * units / team->row_parts * team->unit;
    if (end > block->rows) end = block->rows;
    if (first >= end) return;
    if (layer_i == 0) {
        mly_encoder_begin_rows(block, first, end);
    } else {
        team->steps->finish(block, layer_i - 1, first, end, desk);
    }
    if (layer_i < block->model->config.layers) {
        team->steps->project(block, layer_i, first, end, desk);
    }
}

static void run_heads(const struct team *team, size_t part_i, struct mly_encoder_desk *desk)
{
    const struct mly_encoder_block *block = team->block;
    const size_t head = part_i / team->head_groups;
    for (size_t s = part_i % team->head_groups; s < block->count; s += team->head_groups) {
        team->steps->attend(block, s, head, desk);
    }
}

/* Stage 2 l: the rows between the attention of layers l - 1 and l; stage 2 l + 1: attention. */
static void run_stage(void *context, size_t stage_i, size_t part_i, uint32_t worker_i)
{
    const struct team *team = context;
    struct mly_encoder_desk *desk = &team->rooms[worker_i].desk;
    if (stage_i % 2 == 0) {
        run_rows(team, stage_i / 2, part_i, desk);
    } else {
        run_heads(team, part_i, desk);
    }
}

/* As many parts as make the workers' shares equal, each small enough for the inner rows' room. */
static size_t choose_parts(size_t rows, size_t workers)
{
    const size_t full = workers * MLY_ENCODER_INNER_ROWS;
    const size_t most = (rows + PART_ROWS_MIN - 1) / PART_ROWS_MIN;
    const size_t parts = workers * ((rows + full - 1) / full);
    return parts < most ? parts : most;
}

bool mly_encoder_run_team(const struct mly_encoder_block *block, struct mly_pool *pool,
                          struct mly_encoder_room *rooms, float *out)
{
    const struct mly_model_config *config = &block->model->config;
    const size_t workers = mly_pool_thread_count(pool);
    const size_t parts = choose_parts(block->rows, workers);
    size_t counts[STAGES_MAX];
    struct team team = {
        .block = block,
        .steps = mly_encoder_steps_of(config->precision),
        .rooms = rooms,
        .row_parts = parts,
        .unit = block->rows / parts >= 4 * TILE_ROWS ? TILE_ROWS : 2,
        /* Long sequences cost more than short ones: apart, while there are few. */
        .head_groups = block->count < workers * 4 ? block->count : workers * 4,
    };
    for (size_t i = 0; i < 2 * config->layers + 1; i++) {
        counts[i] = i % 2 == 0 ? team.row_parts : config->heads * team.head_groups;
    }
    mly_pool_run_stages(pool, counts, 2 * config->layers + 1, run_stage, &team);
    return mly_encoder_end(block, out);
}
