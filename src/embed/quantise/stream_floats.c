/* The steps of an encoder in floats, without any rounding of weights: what the published model
 * computes, to compare ours with.
 */
#include "embed/quantise/stream.h"

#include "embed/quantise/matrix.h"

#include <math.h>
#include <string.h>

#define ROWS 64

struct step {
    struct mly_stream *stream;
    const struct mly_stream_linear *linear, *then;
};

static size_t part_rows(const struct mly_stream *stream, size_t part_i)
{
    const size_t left = stream->rows - part_i * ROWS;
    return left < ROWS ? left : ROWS;
}

static void run_rows(struct mly_stream *stream, mly_pool_part_fn part, struct step *step)
{
    step->stream = stream;
    mly_pool_run(stream->workshop->pool, (stream->rows + ROWS - 1) / ROWS, part, step);
}

/* out = out + rows * weights + bias; fresh: out is empty. */
static void multiply(const struct mly_stream *stream, const struct mly_stream_linear *linear,
                     const float *rows, size_t count, float *out, bool fresh)
{
    const struct mly_matrix_rows from = {rows, linear->in, count};
    for (size_t r = 0; r < count; r++) {
        float *target = out + r * linear->out;
        if (fresh) {
            memcpy(target, linear->bias, linear->out * sizeof(target[0]));
        } else {
            stream->workshop->kern->add_f32(linear->bias, linear->out, target);
        }
    }
    mly_matrix_add(stream->workshop->kern, &from, linear->panels, linear->in * MLY_MATRIX_PANEL,
                   linear->in, linear->out, out, linear->out);
}

static void project_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t first = part_i * ROWS, hidden = stream->shape.hidden;
    (void)worker_i;
    multiply(stream, step->linear, stream->x + first * hidden, part_rows(stream, part_i),
             stream->projected + first * 3 * hidden, true);
}

void mly_stream_project_floats(struct mly_stream *stream, const struct mly_stream_linear *linear)
{
    struct step step = {.linear = linear};
    run_rows(stream, project_rows, &step);
}

static void add_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t at = part_i * ROWS * stream->shape.hidden;
    (void)worker_i;
    multiply(stream, step->linear, stream->mixed + at, part_rows(stream, part_i), stream->x + at,
             false);
}

void mly_stream_add_floats(struct mly_stream *stream, const struct mly_stream_linear *linear)
{
    struct step step = {.linear = linear};
    run_rows(stream, add_rows, &step);
}

static void inner_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t inner = stream->shape.intermediate, count = part_rows(stream, part_i);
    float *desk = stream->desks + worker_i * stream->desk_floats;
    float *x = stream->x + part_i * ROWS * stream->shape.hidden;
    multiply(stream, step->linear, x, count, desk, true);
    for (size_t i = 0; i < count * inner; i++) {
        desk[i] = desk[i] * 0.5f * (1.0f + erff(desk[i] * 0.70710678f));
    }
    multiply(stream, step->then, desk, count, x, false);
}

void mly_stream_inner_floats(struct mly_stream *stream, const struct mly_stream_linear *in,
                             const struct mly_stream_linear *out)
{
    struct step step = {.linear = in, .then = out};
    run_rows(stream, inner_rows, &step);
}
