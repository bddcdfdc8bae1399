/* From a sample to a table of cells: k-means twice. First into groups of some 48 cells each, which
 * get a panel of their own; then each group into its cells; then all cells together once more.
 *
 * A list of the sample's rows is cut into pieces, one for each group, until no piece wants more
 * cells than a panel should have.
 */
#include "index/cells_int.h"

#include <stdlib.h>
#include <string.h>

#define PANEL MLY_CELLS_PANEL
/* Cells that a panel is given on average, so that places are left for cells that split. */
#define GROUP_CELLS ((size_t)48)
#define SAMPLE_PER_CELL ((size_t)48)
/* Rows of the sample that are enough for a group. */
#define SAMPLE_PER_GROUP ((size_t)256)
#define GROUP_ROUNDS 8
#define CELL_ROUNDS 8
#define ALL_ROUNDS 2
#define PART_ROWS (4 * CELLS_BATCH)

size_t mly_cells_sample_count(uint64_t row_count, size_t cell_count)
{
    const uint64_t enough = (uint64_t)cell_count * SAMPLE_PER_CELL;
    return (size_t)(enough < row_count ? enough : row_count);
}

/* Rows first to first + count of the list, which want so many cells. */
struct piece {
    size_t first, count, cell_count;
};

struct training {
    const struct mly_cells_trainer *trainer;
    const struct mly_kern_rows *sample;
    size_t width;
    bool is_cosine;
    uint32_t *rows;                    /* the list; u32[sample->count] */
    uint32_t *cells, *order, *scratch; /* the same */
    struct piece *pieces;              /* [piece_max] */
    size_t piece_count, piece_max;
    struct mly_cells table; /* what k-means into groups works on */
    float *floats;          /* of its ranker, or of one panel for each worker */
    uint32_t *starts;       /* the same */
    size_t group_max;
    struct cells_rooms rooms;
    struct mly_cells *out;
};

static size_t wanted_groups(size_t cell_count)
{
    return cell_count <= PANEL ? 1 : (cell_count + GROUP_CELLS - 1) / GROUP_CELLS;
}

static void free_training(struct training *training)
{
    struct mly_mem *mem = training->trainer->mem;
    mly_mem_free(mem, training->rows);
    mly_mem_free(mem, training->pieces);
    mly_mem_free(mem, training->floats);
    mly_mem_free(mem, training->starts);
    mly_cells_deinit(&training->table);
    mly_cells_rooms_destroy(&training->rooms);
}

static size_t worker_count(const struct mly_cells_trainer *trainer)
{
    return trainer->pool == NULL ? 1 : mly_pool_thread_count(trainer->pool);
}

static enum mly_err make_training(struct training *training, size_t cell_count,
                                  struct mly_error *err)
{
    struct mly_mem *mem = training->trainer->mem;
    const size_t count = training->sample->count, groups = wanted_groups(cell_count);
    const size_t panels = (groups + PANEL - 1) / PANEL, workers = worker_count(training->trainer);
    const size_t levels = panels > workers ? panels : workers;
    training->piece_max = 3 * groups;
    training->group_max = groups;
    training->rows = mly_mem_array(mem, count, 4 * sizeof(training->rows[0]));
    training->pieces = mly_mem_array(mem, training->piece_max, sizeof(training->pieces[0]));
    training->floats = mly_mem_array(mem, cells_ranker_floats(levels), sizeof(float));
    training->starts = mly_mem_array(mem, levels * PANEL + workers, sizeof(training->starts[0]));
    if (training->rows == NULL || training->pieces == NULL || training->floats == NULL ||
        training->starts == NULL) {
        return mly_fail_nomem(err, count * 4 * sizeof(training->rows[0]));
    }
    training->cells = training->rows + count;
    training->order = training->cells + count;
    training->scratch = training->order + count;
    for (size_t i = 0; i < count; i++) {
        training->rows[i] = (uint32_t)i;
    }
    MLY_TRY(
        mly_cells_create(mem, training->width, panels, training->is_cosine, &training->table, err));
    return mly_cells_rooms_create(mem, workers, training->width, panels, &training->rooms, err);
}

static enum mly_err train_groups(struct training *training, struct cells_means *means,
                                 struct mly_error *err)
{
    const uint32_t *rows = means->rows;
    const size_t count = means->count, enough = means->k * SAMPLE_PER_GROUP;
    const struct mly_cells_trainer *trainer = training->trainer;
    for (size_t place = 0; place < means->level.panel_count * PANEL; place++) {
        mly_cells_clear(&training->table, place);
    }
    if (count > enough) {
        for (size_t i = 0; i < enough; i++) {
            training->scratch[i] = rows[i * count / enough];
        }
        means->rows = training->scratch;
        means->count = enough;
    }
    MLY_TRY(mly_cells_means_by_all(means, trainer, &training->rooms, err));
    if (count > enough) {
        means->rows = rows;
        means->count = count;
        mly_cells_means_assign_all(means, trainer, &training->rooms);
    }
    return MLY_OK;
}

/* Puts the rows of a piece into the order of their groups, and the groups' pieces in its place. */
static void replace_piece(struct training *training, size_t piece_i,
                          const struct cells_means *means)
{
    const struct piece old = training->pieces[piece_i];
    uint32_t *rows = training->rows + old.first;
    bool is_first = true;
    for (size_t i = 0; i < old.count; i++) {
        training->scratch[i] = rows[means->order[i]];
    }
    memcpy(rows, training->scratch, old.count * sizeof(rows[0]));
    for (size_t g = 0; g < means->k; g++) {
        size_t first = means->starts[g], count = means->starts[g + 1] - first;
        if (count == 0) continue;
        if (count == old.count) { /* all alike: any cut is as good */
            first = 0;
            count = old.count / 2;
            training->pieces[training->piece_count++] = (struct piece){
                old.first + count, old.count - count, old.cell_count - old.cell_count / 2};
        }
        const size_t cells = (count * old.cell_count + old.count / 2) / old.count;
        const struct piece piece = {old.first + first, count, cells == 0 ? 1 : cells};
        if (is_first) {
            training->pieces[piece_i] = piece;
        } else {
            training->pieces[training->piece_count++] = piece;
        }
        is_first = false;
    }
}

static enum mly_err cut_piece(struct training *training, size_t piece_i, struct mly_error *err)
{
    const struct piece piece = training->pieces[piece_i];
    size_t k = wanted_groups(piece.cell_count);
    if (k > training->group_max) k = training->group_max;
    struct cells_means means = {
        .kern = training->trainer->kern,
        .sample = training->sample,
        .width = training->width,
        .is_cosine = training->is_cosine,
        .rows = training->rows + piece.first,
        .count = piece.count,
        .k = k,
        .level = mly_cells_level_part(&training->table.cells, training->width, 0,
                                      (k + PANEL - 1) / PANEL),
        .floats = training->floats,
        .cells = training->cells,
        .order = training->order,
        .starts = training->starts,
        .rounds = GROUP_ROUNDS,
    };
    MLY_TRY(train_groups(training, &means, err));
    replace_piece(training, piece_i, &means);
    return MLY_OK;
}

static bool wants_cut(const struct training *training, const struct piece *piece)
{
    const size_t groups = wanted_groups(piece->cell_count);
    return groups > 1 && piece->count > 1 && training->piece_count + groups <= training->piece_max;
}

static enum mly_err cut_into_groups(struct training *training, size_t cell_count,
                                    struct mly_error *err)
{
    training->pieces[0] = (struct piece){0, training->sample->count, cell_count};
    training->piece_count = 1;
    for (size_t i = 0; i < training->piece_count;) {
        if (wants_cut(training, &training->pieces[i])) {
            MLY_TRY(cut_piece(training, i, err));
        } else {
            i++;
        }
    }
    return MLY_OK;
}

/* Cells of one group, by one thread. */
static void train_piece(void *context, size_t piece_i, uint32_t worker_i)
{
    struct training *training = context;
    const struct piece piece = training->pieces[piece_i];
    size_t k = piece.cell_count < PANEL ? piece.cell_count : PANEL;
    if (k > piece.count) k = piece.count;
    struct cells_means means = {
        .kern = training->trainer->kern,
        .sample = training->sample,
        .width = training->width,
        .is_cosine = training->is_cosine,
        .rows = training->rows + piece.first,
        .count = piece.count,
        .k = k,
        .level = mly_cells_level_part(&training->out->cells, training->width, piece_i, 1),
        .floats = training->floats + worker_i * cells_ranker_floats(1),
        .cells = training->cells + piece.first,
        .order = training->order + piece.first,
        .starts = training->starts + worker_i * (PANEL + 1),
        .rounds = CELL_ROUNDS,
    };
    mly_cells_means(&means, &training->rooms.items[worker_i]);
}

/* ---- all cells together ---- */

struct together {
    struct training *training;
    struct mly_assigner *assigner;
    const uint32_t *starts;
};

static void nearest_part(void *context, size_t part_i, uint32_t worker_i)
{
    struct together *together = context;
    struct training *training = together->training;
    const struct mly_kern_rows *sample = training->sample;
    const size_t first = part_i * PART_ROWS, left = sample->count - first;
    const struct mly_kern_rows rows = {
        .q = sample->q + first * sample->stride,
        .scale = sample->scale + first,
        .low = sample->low + first,
        .count = left < PART_ROWS ? left : PART_ROWS,
        .stride = sample->stride,
    };
    mly_cells_nearest(together->assigner, worker_i, &rows, training->cells + first);
}

static void mean_part(void *context, size_t cell_i, uint32_t worker_i)
{
    struct together *together = context;
    struct training *training = together->training;
    const size_t first = together->starts[cell_i], count = together->starts[cell_i + 1] - first;
    float *mean = training->rooms.items[worker_i].mean;
    if (count == 0) return; /* stays where it is */
    mly_cells_mean(training->sample, training->width, training->rows, training->order + first,
                   count, mean);
    mly_cells_set(training->out, cell_i, mean);
}

static enum mly_err train_together(struct training *training, uint32_t *starts,
                                   struct mly_error *err)
{
    const struct mly_cells_trainer *trainer = training->trainer;
    const size_t count = training->sample->count, workers = worker_count(trainer);
    const size_t places = training->out->cells.panel_count * PANEL;
    struct together together = {.training = training, .starts = starts};
    for (size_t i = 0; i < count; i++) {
        training->rows[i] = (uint32_t)i;
    }
    for (size_t round = 0; round < ALL_ROUNDS; round++) {
        MLY_TRY(cells_pulse(trainer, err));
        MLY_TRY(mly_assigner_create(trainer->mem, trainer->kern, training->out, workers,
                                    &together.assigner, err));
        cells_run(trainer->pool, (count + PART_ROWS - 1) / PART_ROWS, nearest_part, &together);
        mly_assigner_destroy(together.assigner);
        mly_cells_sort(training->cells, count, places, training->order, starts);
        cells_run(trainer->pool, places, mean_part, &together);
        mly_cells_regroup(training->out);
    }
    return MLY_OK;
}

static int by_first(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static enum mly_err train_cells(struct training *training, struct mly_error *err)
{
    const struct mly_cells_trainer *trainer = training->trainer;
    const size_t pieces = training->piece_count;
    enum mly_err rc;
    qsort(training->pieces, pieces, sizeof(training->pieces[0]), by_first);
    MLY_TRY(mly_cells_create(trainer->mem, training->width, pieces, training->is_cosine,
                             training->out, err));
    cells_run(trainer->pool, pieces, train_piece, training);
    mly_cells_regroup(training->out);
    uint32_t *starts = mly_mem_array(trainer->mem, pieces * PANEL + 1, sizeof(starts[0]));
    if (starts == NULL) return mly_fail_nomem(err, (pieces * PANEL + 1) * sizeof(starts[0]));
    rc = train_together(training, starts, err);
    mly_mem_free(trainer->mem, starts);
    return rc;
}

enum mly_err mly_cells_train(const struct mly_cells_trainer *trainer,
                             const struct mly_kern_rows *sample, size_t width, bool is_cosine,
                             size_t cell_count, struct mly_cells *out, struct mly_error *err)
{
    struct training training = {
        .trainer = trainer,
        .sample = sample,
        .width = width,
        .is_cosine = is_cosine,
        .out = out,
    };
    if (cell_count > sample->count) cell_count = sample->count;
    *out = (struct mly_cells){0};
    enum mly_err rc = make_training(&training, cell_count, err);
    if (rc == MLY_OK) rc = cut_into_groups(&training, cell_count, err);
    if (rc == MLY_OK) rc = train_cells(&training, err);
    if (rc != MLY_OK) mly_cells_deinit(out);
    free_training(&training);
    return rc;
}
