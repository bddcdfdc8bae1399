/* The table of centroids: two levels of panels, as linear_u8s8_f32 takes them.
 *
 * In: centroids as floats. Out: one block of bytes that can be written to a file as it stands and
 * looked at in a mapped one.
 */
#include "index/cells_int.h"
#include "kern/codes.h"

#include <math.h>
#include <string.h>

#define PANEL MLY_CELLS_PANEL
#define STEP MLY_KERN_STEP
#define FLOATS 5

static size_t group_panels(size_t panel_count)
{
    return (panel_count + PANEL - 1) / PANEL;
}

static size_t level_bytes(size_t width, size_t panel_count)
{
    return panel_count * PANEL * (width + FLOATS * sizeof(float));
}

size_t mly_cells_bytes(size_t width, size_t panel_count)
{
    return level_bytes(width, panel_count) + level_bytes(width, group_panels(panel_count));
}

/* Panels are multiples of 4 KB and the floats of 256 bytes, so each part is aligned to 64. */
static void view_level(void *bytes, size_t width, size_t panel_count, struct mly_cells_level *out)
{
    const size_t places = panel_count * PANEL;
    float *floats = (float *)(void *)((int8_t *)bytes + places * width);
    *out = (struct mly_cells_level){
        .panels = bytes,
        .scales = floats,
        .sums = floats + places,
        .biases = floats + 2 * places,
        .ranks = floats + 3 * places,
        .squares = floats + 4 * places,
        .panel_count = panel_count,
    };
}

void mly_cells_view(void *bytes, size_t width, size_t panel_count, bool is_cosine,
                    struct mly_cells *out)
{
    *out = (struct mly_cells){.bytes = bytes, .width = width, .is_cosine = is_cosine};
    view_level(bytes, width, panel_count, &out->cells);
    view_level((int8_t *)bytes + level_bytes(width, panel_count), width, group_panels(panel_count),
               &out->groups);
}

static int8_t *stored(const struct mly_cells_level *level, size_t width, size_t place, size_t i)
{
    const size_t panel = place / PANEL * (width / STEP) + i / STEP;
    return level->panels + (panel * PANEL + place % PANEL) * STEP;
}

static void clear_place(struct mly_cells_level *level, size_t width, size_t place)
{
    for (size_t i = 0; i < width; i += STEP) {
        memset(stored(level, width, place, i), 0, STEP);
    }
    level->scales[place] = 0.0f;
    level->sums[place] = 0.0f;
    level->biases[place] = -INFINITY;
    level->ranks[place] = 1.0f;
    level->squares[place] = 0.0f;
}

static void clear_level(struct mly_cells_level *level, size_t width)
{
    for (size_t place = 0; place < level->panel_count * PANEL; place++) {
        clear_place(level, width, place);
    }
}

void mly_cells_level_set(struct mly_cells_level *level, size_t width, size_t place,
                         const float *centroid)
{
    int8_t q[MLY_KERN_CODE_DIM_MAX];
    float scale;
    int32_t sum = 0, squares = 0;
    mly_kern_quantize_f32_s8(centroid, width, q, &scale);
    for (size_t i = 0; i < width; i += STEP) {
        memcpy(stored(level, width, place, i), q + i, STEP);
        for (size_t j = i; j < i + STEP; j++) {
            sum += q[j];
            squares += q[j] * q[j];
        }
    }
    const float length = sqrtf((float)squares) * scale;
    level->scales[place] = scale;
    level->sums[place] = scale * (float)sum;
    level->biases[place] = 0.0f;
    level->ranks[place] = length > 0.0f ? 1.0f / length : 0.0f;
    level->squares[place] = length * length;
}

struct mly_cells_level mly_cells_level_part(const struct mly_cells_level *level, size_t width,
                                            size_t panel_first, size_t panel_count)
{
    const size_t first = panel_first * PANEL;
    return (struct mly_cells_level){
        .panels = level->panels + first * width,
        .scales = level->scales + first,
        .sums = level->sums + first,
        .biases = level->biases + first,
        .ranks = level->ranks + first,
        .squares = level->squares + first,
        .panel_count = panel_count,
    };
}

static void get_place(const struct mly_cells_level *level, size_t width, size_t place,
                      float *centroid)
{
    for (size_t i = 0; i < width; i += STEP) {
        const int8_t *four = stored(level, width, place, i);
        for (size_t j = 0; j < STEP; j++) {
            centroid[i + j] = (float)four[j] * level->scales[place];
        }
    }
}

enum mly_err mly_cells_create(struct mly_mem *mem, size_t width, size_t panel_count, bool is_cosine,
                              struct mly_cells *out, struct mly_error *err)
{
    const size_t bytes = mly_cells_bytes(width, panel_count);
    void *block = mly_mem_alloc_aligned(mem, bytes);
    *out = (struct mly_cells){0};
    if (block == NULL) return mly_fail_nomem(err, bytes);
    mly_cells_view(block, width, panel_count, is_cosine, out);
    out->mem = mem;
    clear_level(&out->cells, width);
    clear_level(&out->groups, width);
    return MLY_OK;
}

void mly_cells_deinit(struct mly_cells *cells)
{
    if (cells->mem != NULL) mly_mem_free(cells->mem, cells->bytes);
    *cells = (struct mly_cells){0};
}

static void copy_level(struct mly_cells_level *to, const struct mly_cells_level *from, size_t width)
{
    const size_t places = from->panel_count * PANEL, bytes = places * sizeof(float);
    memcpy(to->panels, from->panels, places * width);
    memcpy(to->scales, from->scales, bytes);
    memcpy(to->sums, from->sums, bytes);
    memcpy(to->biases, from->biases, bytes);
    memcpy(to->ranks, from->ranks, bytes);
    memcpy(to->squares, from->squares, bytes);
}

enum mly_err mly_cells_grow(struct mly_cells *cells, size_t panel_count, struct mly_error *err)
{
    struct mly_cells larger;
    if (panel_count <= cells->cells.panel_count) return MLY_OK;
    MLY_TRY(
        mly_cells_create(cells->mem, cells->width, panel_count, cells->is_cosine, &larger, err));
    copy_level(&larger.cells, &cells->cells, cells->width);
    copy_level(&larger.groups, &cells->groups, cells->width);
    mly_cells_deinit(cells);
    *cells = larger;
    return MLY_OK;
}

void mly_cells_set(struct mly_cells *cells, size_t cell_i, const float *centroid)
{
    mly_cells_level_set(&cells->cells, cells->width, cell_i, centroid);
}

void mly_cells_clear(struct mly_cells *cells, size_t cell_i)
{
    clear_place(&cells->cells, cells->width, cell_i);
}

static bool has_place(const struct mly_cells_level *level, size_t place)
{
    return level->biases[place] >= 0.0f;
}

bool mly_cells_has(const struct mly_cells *cells, size_t cell_i)
{
    return has_place(&cells->cells, cell_i);
}

void mly_cells_get(const struct mly_cells *cells, size_t cell_i, float *centroid)
{
    get_place(&cells->cells, cells->width, cell_i, centroid);
}

/* A group is in the middle of directions where directions count. */
static void regroup_panel(struct mly_cells *cells, size_t panel)
{
    float mean[MLY_KERN_CODE_DIM_MAX] = {0}, one[MLY_KERN_CODE_DIM_MAX];
    size_t count = 0;
    for (size_t place = panel * PANEL; place < (panel + 1) * PANEL; place++) {
        if (!has_place(&cells->cells, place)) continue;
        const float factor = cells->is_cosine ? cells->cells.ranks[place] : 1.0f;
        get_place(&cells->cells, cells->width, place, one);
        for (size_t i = 0; i < cells->width; i++) {
            mean[i] += one[i] * factor;
        }
        count++;
    }
    if (count == 0) {
        clear_place(&cells->groups, cells->width, panel);
        return;
    }
    for (size_t i = 0; i < cells->width; i++) {
        mean[i] /= (float)count;
    }
    mly_cells_level_set(&cells->groups, cells->width, panel, mean);
}

void mly_cells_regroup(struct mly_cells *cells)
{
    for (size_t panel = 0; panel < cells->cells.panel_count; panel++) {
        regroup_panel(cells, panel);
    }
}

static uint32_t empty_place(const struct mly_cells_level *level, size_t panel)
{
    for (size_t place = panel * PANEL; place < (panel + 1) * PANEL; place++) {
        if (!has_place(level, place)) return (uint32_t)place;
    }
    return MLY_CELLS_NONE;
}

static float squared_distance(const float *a, const float *b, size_t n)
{
    float sum = 0.0f;
    for (size_t i = 0; i < n; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sum;
}

uint32_t mly_cells_place_near(const struct mly_cells *cells, size_t cell_i)
{
    float own[MLY_KERN_CODE_DIM_MAX], other[MLY_KERN_CODE_DIM_MAX], nearest = INFINITY;
    uint32_t found = empty_place(&cells->cells, cell_i / PANEL), fresh = MLY_CELLS_NONE;
    if (found != MLY_CELLS_NONE) return found;
    get_place(&cells->groups, cells->width, cell_i / PANEL, own);
    for (size_t panel = 0; panel < cells->cells.panel_count; panel++) {
        const uint32_t place = empty_place(&cells->cells, panel);
        if (place == MLY_CELLS_NONE) continue;
        if (!has_place(&cells->groups, panel)) {
            if (fresh == MLY_CELLS_NONE) fresh = place;
            continue;
        }
        get_place(&cells->groups, cells->width, panel, other);
        const float distance = squared_distance(own, other, cells->width);
        if (distance < nearest) {
            nearest = distance;
            found = place;
        }
    }
    return found != MLY_CELLS_NONE ? found : fresh;
}
