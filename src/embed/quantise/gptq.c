/* The rounding itself: 64 outputs at a time, column after column, the error of each column handed
 * to those that come later in the proportions that cancel it best.
 *
 * For every output four ranges are tried, and the one that leaves the least error is kept; its
 * scale is fitted afterwards. What then remains in the outputs' mean, and in their slope over a
 * row's lowest value, goes into bias and sum.
 */
#include "embed/quantise/gptq_int.h"
#include "embed/quantise/matrix.h"

#include <math.h>
#include <string.h>

#define PANEL MLY_MATRIX_PANEL
#define STORED_MAX 127.0f
/* Adding 1.5 * 2^23 rounds to the nearest integer, ties to even. */
#define ROUND 12582912.0f

static const float clips[] = {1.0f, 0.94f, 0.88f, 0.82f};
#define CLIP_COUNT (sizeof(clips) / sizeof(clips[0]))

/* One worker's: 64 outputs. */
struct room {
    float *weights;        /* f32[64][in], in the order of rounding */
    float *errors, *whole; /* f32[64][in] */
    float wanted[PANEL][PANEL];
    float step[PANEL];
    double loss[PANEL], least[PANEL];
    float best_step[PANEL];
    int8_t *best; /* s8[64][in] */
};

struct rounding {
    const struct mly_workshop *workshop;
    const struct mly_gptq_layer *layer;
    const struct mly_gptq_moments *moments;
    const struct mly_gptq_factor *factor;
    const struct mly_gptq_result *out;
    struct room *rooms;
};

static void take_weights(const struct rounding *work, struct room *room, size_t first)
{
    const size_t in = work->layer->in;
    for (size_t r = 0; r < PANEL; r++) {
        const float *from = work->layer->weights + (first + r) * in;
        float *to = room->weights + r * in, most = 0.0f;
        for (size_t k = 0; k < in; k++) {
            to[k] = from[work->factor->order[k]];
            most = fabsf(to[k]) > most ? fabsf(to[k]) : most;
        }
        room->step[r] = most > 0.0f ? most / STORED_MAX : 1.0f;
        room->least[r] = INFINITY;
    }
}

/* One block of columns of one row. weights, errors and whole are the row's at the block. */
static double round_row(const struct mly_gptq_factor *factor, size_t block, float *wanted,
                        const float *weights, float *errors, float *whole)
{
    double loss = 0.0;
    const float *feedback = factor->feedback + block * factor->in + block * PANEL;
    for (size_t k = PANEL; k-- > 0;) {
        const float column = wanted[k];
        const float low = column > -STORED_MAX ? column : -STORED_MAX;
        const float rounded = ((low < STORED_MAX ? low : STORED_MAX) + ROUND) - ROUND;
        const float left = factor->own[block + k] * (column - rounded);
        const float error = weights[k] - rounded;
        const float *share = feedback + k * PANEL;
        loss += (double)left * (double)left;
        whole[k] = rounded;
        errors[k] = error;
        for (size_t i = 0; i < k; i++) {
            wanted[i] += error * share[i];
        }
    }
    return loss;
}

/* All columns with the room's steps times clip: whole numbers and what they lose. */
static void round_columns(const struct rounding *work, struct room *room, float clip)
{
    const struct mly_gptq_factor *factor = work->factor;
    const size_t in = factor->in;
    float scaled[PANEL];
    memset(room->loss, 0, sizeof(room->loss));
    for (size_t block = in; block > 0;) {
        const size_t end = block;
        block -= PANEL;
        for (size_t r = 0; r < PANEL; r++) {
            const float step = room->step[r] * clip, *weights = room->weights + r * in + block;
            for (size_t k = 0; k < PANEL; k++) {
                room->wanted[r][k] = weights[k] / step;
            }
            /* Until its block is rounded, the row's errors hold the weights in steps. */
            memcpy(room->errors + r * in + block, room->wanted[r], sizeof(room->wanted[r]));
        }
        if (end < in) {
            const struct mly_matrix_rows rows = {room->errors + end, in, PANEL};
            mly_matrix_add(work->workshop->kern, &rows, factor->feedback + block * in + end * PANEL,
                           0, in - end, PANEL, room->wanted[0], PANEL);
        }
        for (size_t r = 0; r < PANEL; r++) {
            float *errors = room->errors + r * in + block;
            memcpy(scaled, errors, sizeof(scaled));
            room->loss[r] += round_row(factor, block, room->wanted[r], scaled, errors,
                                       room->whole + r * in + block);
        }
    }
}

static void keep_better(struct room *room, size_t in, float clip)
{
    for (size_t r = 0; r < PANEL; r++) {
        const float step = room->step[r] * clip;
        const double loss = room->loss[r] * ((double)step * (double)step);
        if (!(loss < room->least[r])) continue;
        room->least[r] = loss;
        room->best_step[r] = step;
        for (size_t k = 0; k < in; k++) {
            room->best[r * in + k] = (int8_t)room->whole[r * in + k];
        }
    }
}

/* Scale, sum and bias of one output whose whole numbers are decided. response: whole numbers times
 * the covariance. */
static void fit_output(const struct rounding *work, struct room *room, size_t first, size_t r)
{
    const struct mly_gptq_factor *factor = work->factor;
    const struct mly_gptq_moments *moments = work->moments;
    const size_t in = factor->in, o = first + r;
    const float *weights = room->weights + r * in, *whole = room->whole + r * in;
    const float *response = room->errors + r * in;
    double size = 0.0, shared = 0.0, sum = 0.0, slope = 0.0, mean = 0.0;
    for (size_t k = 0; k < in; k++) {
        size += (double)response[k] * (double)whole[k];
        shared += (double)response[k] * (double)weights[k];
        sum += (double)whole[k];
    }
    const float scale = size > 0.0 ? (float)(shared / size) : room->best_step[r];
    for (size_t k = 0; k < in; k++) {
        const double error = (double)whole[k] * (double)scale - (double)weights[k];
        slope += error * moments->slope[factor->order[k]];
        mean += error * moments->mean[factor->order[k]];
        work->out->stored[o * in + factor->order[k]] = (int8_t)whole[k];
    }
    work->out->scale[o] = scale;
    work->out->sum[o] = (float)(sum * (double)scale - slope);
    work->out->bias[o] = (float)((double)work->layer->bias[o] - mean);
}

static void round_outputs(void *context, size_t part_i, uint32_t worker_i)
{
    const struct rounding *work = context;
    struct room *room = &work->rooms[worker_i];
    const size_t in = work->layer->in, first = part_i * PANEL;
    take_weights(work, room, first);
    for (size_t i = 0; i < CLIP_COUNT; i++) {
        round_columns(work, room, clips[i]);
        keep_better(room, in, clips[i]);
    }
    for (size_t i = 0; i < PANEL * in; i++) {
        room->whole[i] = (float)room->best[i];
    }
    memset(room->errors, 0, PANEL * in * sizeof(float));
    const struct mly_matrix_rows rows = {room->whole, in, PANEL};
    mly_matrix_add(work->workshop->kern, &rows, work->factor->covariance, in * PANEL, in, in,
                   room->errors, in);
    for (size_t r = 0; r < PANEL; r++) {
        fit_output(work, room, first, r);
    }
}

static bool take_room(struct room *room, struct mly_mem *mem, size_t in)
{
    room->weights = mly_gptq_floats(mem, in, PANEL);
    room->errors = mly_gptq_floats(mem, in, PANEL);
    room->whole = mly_gptq_floats(mem, in, PANEL);
    room->best = mly_mem_array(mem, in, PANEL);
    return room->weights != NULL && room->errors != NULL && room->whole != NULL &&
           room->best != NULL;
}

static enum mly_err round_layer(struct rounding *work, struct mly_error *err)
{
    const struct mly_workshop *workshop = work->workshop;
    struct mly_mem *mem = workshop->env->mem;
    const size_t in = work->layer->in, count = mly_pool_thread_count(workshop->pool);
    enum mly_err rc = MLY_OK;
    work->rooms = mly_mem_array(mem, count, sizeof(work->rooms[0]));
    if (work->rooms == NULL) return mly_fail_nomem(err, count * sizeof(work->rooms[0]));
    for (size_t i = 0; i < count && rc == MLY_OK; i++) {
        if (!take_room(&work->rooms[i], mem, in)) rc = mly_fail_nomem(err, in * PANEL * 13);
    }
    if (rc == MLY_OK) {
        mly_pool_run(workshop->pool, work->layer->out / PANEL, round_outputs, work);
    }
    for (size_t i = 0; i < count; i++) {
        mly_mem_free(mem, work->rooms[i].weights);
        mly_mem_free(mem, work->rooms[i].errors);
        mly_mem_free(mem, work->rooms[i].whole);
        mly_mem_free(mem, work->rooms[i].best);
    }
    mly_mem_free(mem, work->rooms);
    return rc;
}

enum mly_err mly_gptq_round(const struct mly_workshop *workshop, const struct mly_gptq_layer *layer,
                            const struct mly_kern_rows *inputs, const struct mly_gptq_result *out,
                            struct mly_error *err)
{
    struct mly_mem *mem = workshop->env->mem;
    struct mly_gptq_moments moments = {0};
    struct mly_gptq_factor factor = {0};
    struct rounding work = {workshop, layer, &moments, &factor, out, NULL};
    enum mly_err rc = mly_gptq_measure(workshop, inputs, layer->in, &moments, err);
    if (rc == MLY_OK) rc = mly_gptq_factorise(workshop, &moments, layer->in, &factor, err);
    if (rc == MLY_OK) rc = round_layer(&work, err);
    mly_gptq_factor_deinit(&factor, mem);
    mly_gptq_moments_deinit(&moments, mem);
    return rc;
}
