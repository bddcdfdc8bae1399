/* k-means (Lloyd) of rows of 8 bits: ranks come out of the kernels' integer products, so that they
 * are fast and the same everywhere, and means are summed in the order of the rows, so that the
 * number of threads changes nothing.
 */
#include "index/cells_int.h"

#include <math.h>
#include <string.h>

#define PANEL MLY_CELLS_PANEL
#define LANES ((size_t)16)
#define PART_ROWS (4 * CELLS_BATCH)

void mly_cells_rank_by(struct cells_ranker *ranker, const struct mly_cells_level *level,
                       size_t width, bool is_cosine, float *floats)
{
    const size_t places = level->panel_count * PANEL;
    *ranker = (struct cells_ranker){
        .panels = level->panels,
        .scales = floats,
        .sums = floats + places,
        .biases = floats + 2 * places,
        .width = width,
        .panel_count = level->panel_count,
    };
    for (size_t i = 0; i < places; i++) {
        const float factor = is_cosine ? level->ranks[i] : 1.0f;
        ranker->scales[i] = level->scales[i] * factor;
        ranker->sums[i] = level->sums[i] * factor;
        ranker->biases[i] = level->biases[i] - (is_cosine ? 0.0f : level->squares[i] * 0.5f);
    }
}

void mly_cells_ranks(const struct mly_kern *kern, const struct cells_ranker *ranker,
                     size_t panel_first, size_t panel_count, const struct mly_kern_rows *rows,
                     float *scores)
{
    const size_t first = panel_first * PANEL;
    const struct mly_kern_linear linear = {
        .panels = ranker->panels + first * ranker->width,
        .scale = ranker->scales + first,
        .sum = ranker->sums + first,
        .bias = ranker->biases + first,
        .in = ranker->width,
        .out = panel_count * PANEL,
    };
    kern->linear_u8s8_f32(rows, &linear, scores, linear.out);
}

size_t mly_cells_greatest(const float *scores, size_t n)
{
    float most[16];
    uint32_t at[16];
    for (size_t lane = 0; lane < LANES; lane++) {
        most[lane] = scores[lane];
        at[lane] = (uint32_t)lane;
    }
    for (size_t i = LANES; i < n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            const bool is_more = scores[i + lane] > most[lane];
            most[lane] = is_more ? scores[i + lane] : most[lane];
            at[lane] = is_more ? (uint32_t)(i + lane) : at[lane];
        }
    }
    size_t best = 0;
    for (size_t lane = 1; lane < LANES; lane++) {
        const bool is_first = !(most[lane] < most[best]) && at[lane] < at[best];
        if (most[lane] > most[best] || is_first) best = lane;
    }
    return at[best];
}

struct mly_kern_rows mly_cells_gather(const struct mly_kern_rows *sample, size_t width,
                                      const uint32_t *rows, size_t count,
                                      const struct cells_batch *batch)
{
    for (size_t i = 0; i < count; i++) {
        memcpy(batch->q + i * width, sample->q + rows[i] * sample->stride, width);
        batch->scale[i] = sample->scale[rows[i]];
        batch->low[i] = sample->low[rows[i]];
    }
    return (struct mly_kern_rows){batch->q, batch->scale, batch->low, count, width};
}

enum mly_err mly_cells_rooms_create(struct mly_mem *mem, size_t count, size_t width,
                                    size_t panels_max, struct cells_rooms *out,
                                    struct mly_error *err)
{
    const size_t floats = CELLS_BATCH * (panels_max * PANEL + 2) + width;
    const size_t each = (CELLS_BATCH * width + floats * sizeof(float) + 63) / 64 * 64;
    *out = (struct cells_rooms){.mem = mem, .count = count};
    out->items = mly_mem_array(mem, count, sizeof(out->items[0]));
    if (out->items == NULL) return mly_fail_nomem(err, count * sizeof(out->items[0]));
    out->bytes = mly_mem_alloc_aligned(mem, count * each);
    if (out->bytes == NULL) {
        mly_cells_rooms_destroy(out);
        return mly_fail_nomem(err, count * each);
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t *at = (uint8_t *)out->bytes + i * each;
        float *numbers = (float *)(void *)(at + CELLS_BATCH * width);
        out->items[i] = (struct cells_room){
            .batch = {at, numbers, numbers + CELLS_BATCH},
            .mean = numbers + 2 * CELLS_BATCH,
            .scores = numbers + 2 * CELLS_BATCH + width,
        };
    }
    return MLY_OK;
}

void mly_cells_rooms_destroy(struct cells_rooms *rooms)
{
    if (rooms->mem == NULL) return;
    mly_mem_free(rooms->mem, rooms->items);
    mly_mem_free(rooms->mem, rooms->bytes);
    *rooms = (struct cells_rooms){0};
}

void mly_cells_sort(const uint32_t *cells, size_t count, size_t k, uint32_t *order,
                    uint32_t *starts)
{
    memset(starts, 0, (k + 1) * sizeof(starts[0]));
    for (size_t i = 0; i < count; i++) {
        starts[cells[i] + 1]++;
    }
    for (size_t c = 0; c < k; c++) {
        starts[c + 1] += starts[c];
    }
    for (size_t i = 0; i < count; i++) {
        order[starts[cells[i]]++] = (uint32_t)i;
    }
    for (size_t c = k; c > 0; c--) {
        starts[c] = starts[c - 1];
    }
    starts[0] = 0;
}

static void add_row(const uint8_t *restrict q, float scale, float low, size_t width,
                    float *restrict sum)
{
    for (size_t i = 0; i < width; i++) {
        sum[i] += (float)q[i] * scale + low;
    }
}

void mly_cells_mean(const struct mly_kern_rows *sample, size_t width, const uint32_t *rows,
                    const uint32_t *order, size_t count, float *mean)
{
    memset(mean, 0, width * sizeof(mean[0]));
    for (size_t i = 0; i < count; i++) {
        const uint32_t row = rows[order[i]];
        add_row(sample->q + row * sample->stride, sample->scale[row], sample->low[row], width,
                mean);
    }
    for (size_t i = 0; i < width; i++) {
        mean[i] /= (float)count;
    }
}

/* A cell without rows begins again at one of them; so do all cells before the first round. */
static void seed_cell(struct cells_means *means, size_t cell_i, size_t round, float *mean)
{
    uint64_t state = (round * means->k + cell_i + 1) * 0x9e3779b97f4a7c15u;
    state ^= state >> 31;
    const size_t first = cell_i * means->count / means->k;
    const size_t more = (cell_i + 1) * means->count / means->k - first;
    const size_t at = more == 0 ? first : first + state % more;
    const uint32_t none = 0, row = means->rows[at < means->count ? at : means->count - 1];
    mly_cells_mean(means->sample, means->width, &row, &none, 1, mean);
}

static void update_cell(struct cells_means *means, size_t cell_i, size_t round, float *mean)
{
    const size_t first = means->starts[cell_i], count = means->starts[cell_i + 1] - first;
    if (count == 0 || round == 0) {
        seed_cell(means, cell_i, round, mean);
    } else {
        mly_cells_mean(means->sample, means->width, means->rows, means->order + first, count, mean);
    }
    mly_cells_level_set(&means->level, means->width, cell_i, mean);
}

static void assign_some(const struct cells_means *means, const struct cells_ranker *ranker,
                        size_t first, size_t end, struct cells_room *room)
{
    const size_t places = means->level.panel_count * PANEL;
    for (size_t i = first; i < end; i += CELLS_BATCH) {
        const size_t count = end - i < CELLS_BATCH ? end - i : CELLS_BATCH;
        const struct mly_kern_rows rows =
            mly_cells_gather(means->sample, means->width, means->rows + i, count, &room->batch);
        mly_cells_ranks(means->kern, ranker, 0, means->level.panel_count, &rows, room->scores);
        for (size_t r = 0; r < count; r++) {
            const size_t best = mly_cells_greatest(room->scores + r * places, places);
            means->cells[i + r] = (uint32_t)(best < means->k ? best : 0);
        }
    }
}

void mly_cells_means(struct cells_means *means, struct cells_room *room)
{
    struct cells_ranker ranker;
    memset(means->starts, 0, (means->k + 1) * sizeof(means->starts[0]));
    for (size_t round = 0; round <= means->rounds; round++) {
        for (size_t cell_i = 0; cell_i < means->k; cell_i++) {
            update_cell(means, cell_i, round, room->mean);
        }
        mly_cells_rank_by(&ranker, &means->level, means->width, means->is_cosine, means->floats);
        assign_some(means, &ranker, 0, means->count, room);
        mly_cells_sort(means->cells, means->count, means->k, means->order, means->starts);
    }
}

struct shared {
    struct cells_means *means;
    const struct cells_rooms *rooms;
    struct cells_ranker ranker;
    size_t round;
};

static void update_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct shared *shared = context;
    update_cell(shared->means, part_i, shared->round, shared->rooms->items[worker_i].mean);
}

static void assign_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct shared *shared = context;
    const size_t first = part_i * PART_ROWS, count = shared->means->count;
    const size_t end = count - first < PART_ROWS ? count : first + PART_ROWS;
    assign_some(shared->means, &shared->ranker, first, end, &shared->rooms->items[worker_i]);
}

static void assign_all(struct shared *shared, struct mly_pool *pool)
{
    struct cells_means *means = shared->means;
    const size_t parts = (means->count + PART_ROWS - 1) / PART_ROWS;
    mly_cells_rank_by(&shared->ranker, &means->level, means->width, means->is_cosine,
                      means->floats);
    cells_run(pool, parts, assign_part, shared);
    mly_cells_sort(means->cells, means->count, means->k, means->order, means->starts);
}

void mly_cells_means_assign_all(struct cells_means *means, const struct mly_cells_trainer *trainer,
                                const struct cells_rooms *rooms)
{
    struct shared shared = {.means = means, .rooms = rooms};
    assign_all(&shared, trainer->pool);
}

enum mly_err mly_cells_means_by_all(struct cells_means *means,
                                    const struct mly_cells_trainer *trainer,
                                    const struct cells_rooms *rooms, struct mly_error *err)
{
    struct shared shared = {.means = means, .rooms = rooms};
    memset(means->starts, 0, (means->k + 1) * sizeof(means->starts[0]));
    for (size_t round = 0; round <= means->rounds; round++) {
        MLY_TRY(cells_pulse(trainer, err));
        shared.round = round;
        cells_run(trainer->pool, means->k, update_part, &shared);
        assign_all(&shared, trainer->pool);
    }
    return MLY_OK;
}
