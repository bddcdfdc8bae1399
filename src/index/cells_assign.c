/* Which cells a vector belongs to: the nearest one of the panels of the best groups, and a second
 * one beside it (SOAR).
 *
 * In: batches of rows. A batch is looked at panel by panel, so that a panel is read once for all
 * rows that want it. Each row keeps a short list of its nearest cells; panels are visited in their
 * order, so neither batches nor threads change what a list holds.
 */
#include "index/cells_int.h"
#include "kern/codes.h"

#include <math.h>
#include <string.h>

#define PANEL MLY_CELLS_PANEL
/* Groups whose panels are looked through, and cells among which the second one is chosen. */
#define GROUPS 16
#define NEAR 12
/* Of SOAR: what a parallel part of the residuals costs beside the distance. */
#define LAMBDA 1.0f

#define ASSIGN_BATCH (4 * CELLS_BATCH)

struct near {
    float ranks[NEAR]; /* falling */
    uint32_t cells[NEAR];
    size_t count;
};

/* What one thread works in. A batch's rows, those that want one panel, and their scores. */
struct worker {
    struct cells_batch batch;    /* of ASSIGN_BATCH rows */
    struct cells_batch gathered; /* of CELLS_BATCH rows */
    float *scores;               /* f32[CELLS_BATCH][places of the groups] */
    float *rest;                 /* f32[width] */
    uint32_t *groups;            /* u32[ASSIGN_BATCH][GROUPS] */
    uint32_t *wanting;           /* u32[ASSIGN_BATCH * GROUPS]: rows, by panel */
    uint32_t *starts;            /* u32[panels + 1]: of each panel in wanting */
    struct near *near;           /* [ASSIGN_BATCH] */
};

struct mly_assigner {
    struct mly_mem *mem;
    const struct mly_kern *kern;
    const struct mly_cells *cells;
    size_t width, panel_count;
    size_t group_count; /* how many of the groups each row looks through */
    uint32_t any_cell;  /* for rows that no rank is a number for */
    struct cells_ranker cell_ranker, group_ranker;
    float *floats;
    int8_t *rows; /* s8[places][width]: the cells once more, one after the other */
    void *room;
    struct worker *workers;
};

void mly_assigner_destroy(struct mly_assigner *assigner)
{
    if (assigner == NULL) return;
    mly_mem_free(assigner->mem, assigner->floats);
    mly_mem_free(assigner->mem, assigner->rows);
    mly_mem_free(assigner->mem, assigner->room);
    mly_mem_free(assigner->mem, assigner->workers);
    mly_mem_free(assigner->mem, assigner);
}

static size_t rounded(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static void *take(uint8_t **at, size_t bytes)
{
    void *taken = *at;
    *at += rounded(bytes);
    return taken;
}

static size_t batch_bytes(size_t rows, size_t width)
{
    return rounded(rows * width) + 2 * rounded(rows * sizeof(float));
}

static size_t worker_bytes(size_t width, size_t panels, size_t places)
{
    const size_t groups = rounded(ASSIGN_BATCH * GROUPS * sizeof(uint32_t));
    return batch_bytes(ASSIGN_BATCH, width) + batch_bytes(CELLS_BATCH, width) +
           rounded(CELLS_BATCH * places * sizeof(float)) + rounded(width * sizeof(float)) +
           2 * groups + rounded((panels + 1) * sizeof(uint32_t)) +
           rounded(ASSIGN_BATCH * sizeof(struct near));
}

static struct cells_batch take_batch(uint8_t **at, size_t rows, size_t width)
{
    struct cells_batch batch;
    batch.q = take(at, rows * width);
    batch.scale = take(at, rows * sizeof(float));
    batch.low = take(at, rows * sizeof(float));
    return batch;
}

static void lay_out(struct worker *worker, uint8_t *at, size_t width, size_t panels, size_t places)
{
    worker->batch = take_batch(&at, ASSIGN_BATCH, width);
    worker->gathered = take_batch(&at, CELLS_BATCH, width);
    worker->scores = take(&at, CELLS_BATCH * places * sizeof(float));
    worker->rest = take(&at, width * sizeof(float));
    worker->groups = take(&at, ASSIGN_BATCH * GROUPS * sizeof(uint32_t));
    worker->wanting = take(&at, ASSIGN_BATCH * GROUPS * sizeof(uint32_t));
    worker->starts = take(&at, (panels + 1) * sizeof(uint32_t));
    worker->near = take(&at, ASSIGN_BATCH * sizeof(struct near));
}

static void unpack_rows(const struct mly_cells_level *level, size_t width, int8_t *rows)
{
    const size_t step = MLY_KERN_STEP;
    const int8_t *from = level->panels;
    for (size_t panel = 0; panel < level->panel_count; panel++) {
        for (size_t i = 0; i < width; i += step) {
            for (size_t place = 0; place < PANEL; place++, from += step) {
                memcpy(rows + (panel * PANEL + place) * width + i, from, step);
            }
        }
    }
}

static enum mly_err make_room(struct mly_assigner *assigner, size_t worker_count,
                              struct mly_error *err)
{
    const size_t width = assigner->width, panels = assigner->panel_count;
    const size_t group_panels = assigner->cells->groups.panel_count;
    const size_t floats = cells_ranker_floats(panels) + cells_ranker_floats(group_panels);
    const size_t each = worker_bytes(width, panels, group_panels * PANEL);
    struct mly_mem *mem = assigner->mem;
    assigner->floats = mly_mem_array(mem, floats, sizeof(float));
    assigner->rows = mly_mem_array(mem, panels * PANEL, width);
    assigner->room = mly_mem_alloc_aligned(mem, worker_count * each);
    assigner->workers = mly_mem_array(mem, worker_count, sizeof(assigner->workers[0]));
    if (assigner->floats == NULL || assigner->rows == NULL || assigner->room == NULL ||
        assigner->workers == NULL) {
        return mly_fail_nomem(err, worker_count * each + panels * PANEL * width);
    }
    for (size_t i = 0; i < worker_count; i++) {
        lay_out(&assigner->workers[i], (uint8_t *)assigner->room + i * each, width, panels,
                group_panels * PANEL);
    }
    return MLY_OK;
}

enum mly_err mly_assigner_create(struct mly_mem *mem, const struct mly_kern *kern,
                                 const struct mly_cells *cells, size_t worker_count,
                                 struct mly_assigner **out, struct mly_error *err)
{
    struct mly_assigner *assigner = mly_mem_array(mem, 1, sizeof(*assigner));
    *out = NULL;
    if (assigner == NULL) return mly_fail_nomem(err, sizeof(*assigner));
    assigner->mem = mem;
    assigner->kern = kern;
    assigner->cells = cells;
    assigner->width = cells->width;
    assigner->panel_count = cells->cells.panel_count;
    assigner->group_count = assigner->panel_count < GROUPS ? assigner->panel_count : GROUPS;
    const enum mly_err rc = make_room(assigner, worker_count, err);
    if (rc != MLY_OK) {
        mly_assigner_destroy(assigner);
        return rc;
    }
    mly_cells_rank_by(&assigner->cell_ranker, &cells->cells, cells->width, cells->is_cosine,
                      assigner->floats);
    mly_cells_rank_by(&assigner->group_ranker, &cells->groups, cells->width, cells->is_cosine,
                      assigner->floats + cells_ranker_floats(assigner->panel_count));
    unpack_rows(&cells->cells, cells->width, assigner->rows);
    while (assigner->any_cell + 1 < assigner->panel_count * PANEL &&
           !mly_cells_has(cells, assigner->any_cell)) {
        assigner->any_cell++;
    }
    *out = assigner;
    return MLY_OK;
}

/* ---- the nearest cells ---- */

/* Keeps the greatest ranks, the first of equal ones first. */
static void keep(float *ranks, uint32_t *items, size_t *count, size_t count_max, float rank,
                 uint32_t item)
{
    size_t at = *count < count_max ? (*count)++ : count_max - 1;
    for (; at > 0 && ranks[at - 1] < rank; at--) {
        ranks[at] = ranks[at - 1];
        items[at] = items[at - 1];
    }
    ranks[at] = rank;
    items[at] = item;
}

static void keep_greatest(const float *scores, size_t n, uint32_t first_item, float *ranks,
                          uint32_t *items, size_t *count, size_t count_max)
{
    if (count_max == 0) return;
    float least = *count < count_max ? -INFINITY : ranks[count_max - 1];
    for (size_t i = 0; i < n; i++) {
        if (!(scores[i] > least)) continue;
        keep(ranks, items, count, count_max, scores[i], first_item + (uint32_t)i);
        if (*count == count_max) least = ranks[count_max - 1];
    }
}

static struct mly_kern_rows part_of(const struct mly_kern_rows *rows, size_t first)
{
    struct mly_kern_rows part = *rows;
    part.q += first * rows->stride;
    part.scale += first;
    part.low += first;
    part.count = rows->count - first < CELLS_BATCH ? rows->count - first : CELLS_BATCH;
    return part;
}

/* worker->groups: panels of each row, as many as assigner->group_count. */
static void choose_groups(const struct mly_assigner *assigner, struct worker *worker,
                          const struct mly_kern_rows *rows)
{
    const size_t places = assigner->group_ranker.panel_count * PANEL;
    for (size_t first = 0; first < rows->count; first += CELLS_BATCH) {
        const struct mly_kern_rows part = part_of(rows, first);
        mly_cells_ranks(assigner->kern, &assigner->group_ranker, 0,
                        assigner->group_ranker.panel_count, &part, worker->scores);
        for (size_t r = 0; r < part.count; r++) {
            float ranks[GROUPS];
            uint32_t *groups = worker->groups + (first + r) * GROUPS;
            size_t count = 0;
            keep_greatest(worker->scores + r * places, assigner->panel_count, 0, ranks, groups,
                          &count, assigner->group_count);
            for (; count < assigner->group_count; count++) {
                groups[count] = MLY_CELLS_NONE; /* fewer groups have cells */
            }
        }
    }
}

/* worker->wanting: the rows of each panel, in order. */
static void sort_by_panel(const struct mly_assigner *assigner, struct worker *worker,
                          size_t row_count)
{
    uint32_t *starts = worker->starts;
    memset(starts, 0, (assigner->panel_count + 1) * sizeof(starts[0]));
    for (size_t r = 0; r < row_count; r++) {
        for (size_t g = 0; g < assigner->group_count; g++) {
            const uint32_t panel = worker->groups[r * GROUPS + g];
            if (panel != MLY_CELLS_NONE) starts[panel + 1]++;
        }
    }
    for (size_t panel = 0; panel < assigner->panel_count; panel++) {
        starts[panel + 1] += starts[panel];
    }
    for (size_t r = 0; r < row_count; r++) {
        for (size_t g = 0; g < assigner->group_count; g++) {
            const uint32_t panel = worker->groups[r * GROUPS + g];
            if (panel != MLY_CELLS_NONE) worker->wanting[starts[panel]++] = (uint32_t)r;
        }
    }
    memmove(starts + 1, starts, assigner->panel_count * sizeof(starts[0]));
    starts[0] = 0;
}

static void look_through_panel(const struct mly_assigner *assigner, struct worker *worker,
                               const struct mly_kern_rows *rows, size_t panel)
{
    const size_t end = worker->starts[panel + 1];
    for (size_t first = worker->starts[panel]; first < end; first += CELLS_BATCH) {
        const size_t count = end - first < CELLS_BATCH ? end - first : CELLS_BATCH;
        const uint32_t *which = worker->wanting + first;
        const struct mly_kern_rows gathered =
            mly_cells_gather(rows, assigner->width, which, count, &worker->gathered);
        mly_cells_ranks(assigner->kern, &assigner->cell_ranker, panel, 1, &gathered,
                        worker->scores);
        for (size_t r = 0; r < count; r++) {
            struct near *near = &worker->near[which[r]];
            keep_greatest(worker->scores + r * PANEL, PANEL, (uint32_t)(panel * PANEL), near->ranks,
                          near->cells, &near->count, NEAR);
        }
    }
}

/* Fills worker->near for up to ASSIGN_BATCH rows. */
static void find_near(const struct mly_assigner *assigner, struct worker *worker,
                      const struct mly_kern_rows *rows)
{
    choose_groups(assigner, worker, rows);
    sort_by_panel(assigner, worker, rows->count);
    for (size_t r = 0; r < rows->count; r++) {
        worker->near[r].count = 0;
    }
    for (size_t panel = 0; panel < assigner->panel_count; panel++) {
        look_through_panel(assigner, worker, rows, panel);
    }
    for (size_t r = 0; r < rows->count; r++) {
        struct near *near = &worker->near[r];
        if (near->count > 0) continue;
        near->cells[0] = assigner->any_cell;
        near->count = 1;
    }
}

void mly_cells_nearest(struct mly_assigner *assigner, uint32_t worker_i,
                       const struct mly_kern_rows *rows, uint32_t *out)
{
    struct worker *worker = &assigner->workers[worker_i];
    find_near(assigner, worker, rows);
    for (size_t r = 0; r < rows->count; r++) {
        out[r] = worker->near[r].cells[0];
    }
}

/* ---- the second cell ---- */

/* With r = x - c of the first cell: least |x - c'|^2 + LAMBDA * (r . (x - c'))^2 / |r|^2. */
static uint32_t second_cell(const struct mly_assigner *assigner, struct worker *worker,
                            const float *x, const struct near *near)
{
    const struct mly_cells_level *level = &assigner->cells->cells;
    const size_t width = assigner->width;
    const uint32_t first = near->cells[0];
    const int8_t *row = assigner->rows + first * width;
    float *rest = worker->rest, least = INFINITY;
    uint32_t found = MLY_CELLS_NONE;
    for (size_t i = 0; i < width; i++) {
        rest[i] = x[i] - (float)row[i] * level->scales[first];
    }
    const float size = assigner->kern->dot_f32(rest, rest, width) + 1e-20f;
    const float along = assigner->kern->dot_f32(rest, x, width);
    for (size_t n = 1; n < near->count; n++) {
        const uint32_t cell = near->cells[n];
        const float scale = level->scales[cell];
        const float with_x =
            assigner->kern->dot_s8_f32(assigner->rows + cell * width, x, width) * scale;
        const float with_rest =
            assigner->kern->dot_s8_f32(assigner->rows + cell * width, rest, width) * scale;
        const float parallel = along - with_rest;
        const float distance = level->squares[cell] - 2.0f * with_x; /* but for |x|^2 */
        const float loss = distance + LAMBDA * parallel * parallel / size;
        if (loss < least) {
            least = loss;
            found = cell;
        }
    }
    return found;
}

void mly_assign(struct mly_assigner *assigner, uint32_t worker_i, const float *rows, size_t count,
                uint32_t (*out)[2])
{
    struct worker *worker = &assigner->workers[worker_i];
    const size_t width = assigner->width;
    for (size_t first = 0; first < count; first += ASSIGN_BATCH) {
        const size_t some = count - first < ASSIGN_BATCH ? count - first : ASSIGN_BATCH;
        const struct mly_kern_rows batch = {
            .q = worker->batch.q,
            .scale = worker->batch.scale,
            .low = worker->batch.low,
            .count = some,
            .stride = width,
        };
        for (size_t r = 0; r < some; r++) {
            assigner->kern->quantize_f32_u8(rows + (first + r) * width, NULL, width,
                                            worker->batch.q + r * width, &worker->batch.scale[r],
                                            &worker->batch.low[r]);
        }
        find_near(assigner, worker, &batch);
        for (size_t r = 0; r < some; r++) {
            const struct near *near = &worker->near[r];
            out[first + r][0] = near->cells[0];
            out[first + r][1] = second_cell(assigner, worker, rows + (first + r) * width, near);
        }
    }
}
