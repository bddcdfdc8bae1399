/* Cutting a cell that grew too large in two.
 *
 * 2-means from two rows that are far apart: the one farthest from the middle, and the one farthest
 * from that. Where one side would get next to nothing the rows are cut at the middle of their
 * places along the line between the two centroids, so that a cell of which nearly all is one point
 * does not stay as large as it is.
 */
#include "index/cells_int.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS 6
/* A side has a 16th of the rows at least. */
#define SIDE_PART 16

struct split {
    const struct mly_kern *kern;
    const struct mly_kern_rows *rows;
    size_t width;
    float *row, *line;  /* f32[width]: the row that is looked at; from centroid 0 to 1 */
    float *centroids;   /* f32[2][width] */
    float *along, *cut; /* f32[rows->count]: places on the line; the same, sorted */
    uint8_t *sides;
    size_t counts[2];
};

static const float *get_row(struct split *split, size_t i)
{
    const struct mly_kern_rows *rows = split->rows;
    const uint8_t *q = rows->q + i * rows->stride;
    for (size_t d = 0; d < split->width; d++) {
        split->row[d] = (float)q[d] * rows->scale[i] + rows->low[i];
    }
    return split->row;
}

/* Means of the sides, as far as they have rows. */
static void find_means(struct split *split)
{
    const size_t width = split->width;
    float *sums[2] = {split->centroids, split->centroids + width};
    split->counts[0] = split->counts[1] = 0;
    memset(split->centroids, 0, 2 * width * sizeof(float));
    for (size_t i = 0; i < split->rows->count; i++) {
        const float *row = get_row(split, i);
        float *sum = sums[split->sides[i]];
        for (size_t d = 0; d < width; d++) {
            sum[d] += row[d];
        }
        split->counts[split->sides[i]]++;
    }
    for (size_t side = 0; side < 2; side++) {
        if (split->counts[side] == 0) continue;
        for (size_t d = 0; d < width; d++) {
            sums[side][d] /= (float)split->counts[side];
        }
    }
}

/* The row farthest from point; *distance is squared, but for |point|^2. */
static size_t find_farthest(struct split *split, const float *point)
{
    size_t farthest = 0;
    float most = -INFINITY;
    for (size_t i = 0; i < split->rows->count; i++) {
        const float *row = get_row(split, i);
        const float size = split->kern->dot_f32(row, row, split->width);
        const float distance = size - 2.0f * split->kern->dot_f32(row, point, split->width);
        if (distance > most) {
            most = distance;
            farthest = i;
        }
    }
    return farthest;
}

/* Two centroids to begin with; false where they would be the same. */
static bool find_ends(struct split *split)
{
    const size_t width = split->width, bytes = width * sizeof(float);
    float *ends[2] = {split->centroids, split->centroids + width};
    memset(split->sides, 0, split->rows->count);
    find_means(split);
    const size_t first = find_farthest(split, ends[0]);
    memcpy(ends[0], get_row(split, first), bytes);
    const size_t second = find_farthest(split, ends[0]);
    memcpy(ends[1], get_row(split, second), bytes);
    return memcmp(ends[0], ends[1], bytes) != 0;
}

/* split->along: where each row is between the centroids: above 0 nearer to the second. */
static void find_along(struct split *split)
{
    const size_t width = split->width;
    const float *from = split->centroids, *to = from + width;
    const float middle =
        0.5f * (split->kern->dot_f32(to, to, width) - split->kern->dot_f32(from, from, width));
    for (size_t d = 0; d < width; d++) {
        split->line[d] = to[d] - from[d];
    }
    for (size_t i = 0; i < split->rows->count; i++) {
        const float *row = get_row(split, i);
        split->along[i] = split->kern->dot_f32(row, split->line, width) - middle;
        split->sides[i] = split->along[i] > 0.0f;
    }
}

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Rows below the middle one to side 0, those above to side 1, and those that are equal to it to
 * whichever has less. */
static void cut_in_the_middle(struct split *split)
{
    const size_t count = split->rows->count;
    size_t left = count / 2;
    memcpy(split->cut, split->along, count * sizeof(float));
    qsort(split->cut, count, sizeof(float), by_size);
    const float middle = split->cut[count / 2];
    for (size_t i = 0; i < count; i++) {
        if (split->along[i] < middle) left--;
    }
    for (size_t i = 0; i < count; i++) {
        const bool is_equal = !(split->along[i] < middle) && !(split->along[i] > middle);
        split->sides[i] = split->along[i] > middle || (is_equal && left == 0);
        if (is_equal && left > 0) left--;
    }
    find_means(split);
}

static bool cut(struct split *split)
{
    if (!find_ends(split)) return false;
    for (size_t round = 0; round < ROUNDS; round++) {
        find_along(split);
        find_means(split);
        if (split->counts[0] == 0 || split->counts[1] == 0) break;
    }
    const size_t least = split->rows->count / SIDE_PART;
    if (split->counts[0] <= least || split->counts[1] <= least) cut_in_the_middle(split);
    return split->counts[0] > 0 && split->counts[1] > 0;
}

enum mly_err mly_cells_split(const struct mly_cells_trainer *trainer,
                             const struct mly_kern_rows *rows, size_t width, uint8_t *sides,
                             float *centroids, bool *is_cut, struct mly_error *err)
{
    struct split split = {
        .kern = trainer->kern,
        .rows = rows,
        .width = width,
        .sides = sides,
        .centroids = centroids,
    };
    float *scratch = mly_mem_array(trainer->mem, 2 * width + 2 * rows->count, sizeof(float));
    *is_cut = false;
    if (scratch == NULL) {
        return mly_fail_nomem(err, (2 * width + 2 * rows->count) * sizeof(float));
    }
    split.row = scratch;
    split.line = scratch + width;
    split.along = split.line + width;
    split.cut = split.along + rows->count;
    *is_cut = cut(&split);
    mly_mem_free(trainer->mem, scratch);
    return MLY_OK;
}
