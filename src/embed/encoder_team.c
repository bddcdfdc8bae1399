/* One block by all workers of a pool: rows and heads by turns, in stages.
 *
 * A worker reads other workers' rows in attention only, so two stages a layer do: one by rows, from
 * attention's end to the next layer's beginning, and one by groups of heads, from the products that
 * attention needs to its outputs. Where there are more workers than groups, the products have a
 * stage of their own, by groups and rows. What is computed, and in which order, is the same for any
 * cut, so the bits are.
 */
#include "embed/embed_int.h"

#include "os/pool.h"

/* Rows go through the products in tiles of so many; a large part is a number of whole tiles. */
#define TILE_ROWS 6
/* A part of fewer rows is not worth its own way through the weights. */
#define PART_ROWS_MIN 8
#define STAGES_MAX (3 * MLY_MODEL_LAYERS_MAX + 1)

struct team {
    const struct mly_encoder_block *block;
    const struct mly_encoder_steps *steps;
    struct mly_encoder_room *rooms; /* one for each worker; the block's rows are in its own */
    struct mly_encoder_groups groups;
    size_t row_parts, unit; /* rows of a part: a multiple of unit */
    size_t runs;            /* parts of one group's sequences, one behind the other */
    bool apart;             /* the products of attention have a stage of their own */
};

struct span {
    size_t first, end;
};

static struct span rows_of(const struct team *team, size_t part_i)
{
    const size_t rows = team->block->rows, units = (rows + team->unit - 1) / team->unit;
    const size_t end = (part_i + 1) * units / team->row_parts * team->unit;
    return (struct span){part_i * units / team->row_parts * team->unit, end < rows ? end : rows};
}

/* Sequences of a run: those that begin within its share of the rows. */
static struct span sequences_of(const struct team *team, size_t run_i)
{
    const struct mly_encoder_block *block = team->block;
    struct span span = {0, 0};
    const size_t *starts = block->starts;
    while (span.first < block->count &&
           (starts[span.first] - starts[0]) * team->runs < run_i * block->rows) {
        span.first++;
    }
    span.end = span.first;
    while (span.end < block->count &&
           (starts[span.end] - starts[0]) * team->runs < (run_i + 1) * block->rows) {
        span.end++;
    }
    return span;
}

static void run_rows(const struct team *team, size_t layer_i, size_t part_i,
                     struct mly_encoder_desk *desk)
{
    const struct mly_encoder_block *block = team->block;
    const struct span rows = rows_of(team, part_i);
    if (rows.first >= rows.end) return;
    if (layer_i == 0) {
        mly_encoder_begin_rows(block, rows.first, rows.end);
    } else {
        team->steps->finish(block, layer_i - 1, rows.first, rows.end, desk);
    }
    if (layer_i < block->model->config.layers) {
        team->steps->prepare(block, layer_i, rows.first, rows.end, desk);
    }
}

/* Where the products of a group of heads stand, from a row of the block on. */
static float *projected_at(const struct team *team, size_t group, size_t row)
{
    const struct mly_encoder_block *block = team->block;
    return block->room->projected + (group * block->rows + row) * 3 * team->groups.width;
}

static void run_products(const struct team *team, size_t layer_i, size_t part_i)
{
    const size_t group = part_i / team->row_parts;
    const struct span rows = rows_of(team, part_i % team->row_parts);
    if (rows.first >= rows.end) return;
    team->steps->project(team->block, layer_i, group, rows.first, rows.end,
                         projected_at(team, group, rows.first));
}

static void run_head(const struct team *team, size_t part_i, struct mly_encoder_desk *desk)
{
    const struct mly_encoder_block *block = team->block;
    const size_t head = part_i / block->count, s = part_i % block->count;
    const float *projected =
        projected_at(team, head / team->groups.heads, block->starts[s] - block->starts[0]);
    team->steps->attend(block, s, head, projected, desk);
}

static void run_group(const struct team *team, size_t layer_i, size_t part_i,
                      struct mly_encoder_room *room)
{
    const struct span span = sequences_of(team, part_i % team->runs);
    if (span.first >= span.end) return;
    mly_encoder_mix(team->block, layer_i, part_i / team->runs, span.first, span.end, room);
}

/* Each layer's stages, and behind the last one its rows. */
static void run_stage(void *context, size_t stage_i, size_t part_i, uint32_t worker_i)
{
    const struct team *team = context;
    struct mly_encoder_room *room = &team->rooms[worker_i];
    const size_t stages = team->apart ? 3 : 2, layer_i = stage_i / stages;
    if (stage_i % stages == 0) {
        run_rows(team, layer_i, part_i, &room->desk);
    } else if (!team->apart) {
        run_group(team, layer_i, part_i, room);
    } else if (stage_i % stages == 1) {
        run_products(team, layer_i, part_i);
    } else {
        run_head(team, part_i, &room->desk);
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

/* The fewest runs whose parts can be shared out equally, or nearly so. */
static size_t choose_runs(size_t sequences, size_t groups, size_t workers)
{
    size_t runs = 1;
    while (runs < sequences && groups * runs % workers != 0 && groups * runs < 4 * workers) {
        runs++;
    }
    return runs;
}

bool mly_encoder_run_team(const struct mly_encoder_block *block, struct mly_pool *pool,
                          struct mly_encoder_room *rooms, float *out)
{
    const struct mly_model_config *config = &block->model->config;
    const size_t workers = mly_pool_thread_count(pool);
    const size_t parts = choose_parts(block->rows, workers);
    struct team team = {
        .block = block,
        .steps = mly_encoder_steps_of(config->precision),
        .rooms = rooms,
        .groups = mly_encoder_groups_of(config),
        .row_parts = parts,
        .unit = block->rows / parts >= 4 * TILE_ROWS ? TILE_ROWS : 2,
    };
    team.runs = choose_runs(block->count, team.groups.count, workers);
    team.apart = team.runs * team.groups.count < workers;
    const size_t stages = team.apart ? 3 : 2;
    size_t counts[STAGES_MAX];
    for (size_t i = 0; i < stages * config->layers + 1; i++) {
        counts[i] = i % stages == 0 ? parts : team.groups.count * team.runs;
        if (team.apart && i % stages == 1) counts[i] = team.groups.count * parts;
        if (team.apart && i % stages == 2) counts[i] = config->heads * block->count;
    }
    mly_pool_run_stages(pool, counts, stages * config->layers + 1, run_stage, &team);
    return mly_encoder_end(block, out);
}
