/* The steps of an encoder in floats, without any rounding of weights: what the published model
 * computes, to compare ours with.
 */
#include "embed/quantise/stream.h"

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

static void multiply(const struct mly_stream *stream, const struct mly_stream_linear *linear,
                     const float *rows, size_t count, enum mly_kern_finish finish, float *out)
{
    const struct mly_kern_linear_f32 layer = {linear->panels, linear->bias, linear->in,
                                              linear->out};
    stream->workshop->kern->linear_f32(rows, linear->in, count, &layer, finish, out, linear->out);
}

static void project_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t first = part_i * ROWS, hidden = stream->shape.hidden;
    (void)worker_i;
    multiply(stream, step->linear, stream->x + first * hidden, part_rows(stream, part_i),
             MLY_KERN_STORE, stream->projected + first * 3 * hidden);
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
    multiply(stream, step->linear, stream->mixed + at, part_rows(stream, part_i), MLY_KERN_ADD,
             stream->x + at);
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
    const size_t count = part_rows(stream, part_i);
    float *desk = stream->desks + worker_i * stream->desk_floats;
    float *x = stream->x + part_i * ROWS * stream->shape.hidden;
    multiply(stream, step->linear, x, count, MLY_KERN_GELU, desk);
    multiply(stream, step->then, desk, count, MLY_KERN_ADD, x);
}

void mly_stream_inner_floats(struct mly_stream *stream, const struct mly_stream_linear *in,
                             const struct mly_stream_linear *out)
{
    struct step step = {.linear = in, .then = out};
    run_rows(stream, inner_rows, &step);
}
