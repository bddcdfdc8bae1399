/* The steps of an encoder over all rows at once, shared out among the pool's workers by rows (or by
 * sequences, in attention). The numbers of a row never depend on who does it.
 */
#include "embed/quantise/stream.h"

#include "embed/quantise/gptq_int.h"

#include <math.h>
#include <string.h>

#define ROWS 64

struct step {
    struct mly_stream *stream;
    const float *rows, *factor;
    const struct mly_stream_norm *norm;
    const struct mly_kern_linear *linear;
    bool inner;
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

static float *desk_of(const struct mly_stream *stream, uint32_t worker_i)
{
    return stream->desks + worker_i * stream->desk_floats;
}

enum mly_err mly_stream_init(struct mly_stream *stream, const struct mly_workshop *workshop,
                             const struct mly_stream_shape *shape,
                             const struct mly_sequences *sequences, bool eight_bits,
                             struct mly_error *err)
{
    struct mly_mem *mem = workshop->env->mem;
    const size_t rows = sequences->starts[sequences->count] - sequences->starts[0];
    const size_t hidden = shape->hidden, inner = shape->intermediate;
    const size_t head_dim = hidden / shape->heads;
    const size_t attention = MLY_KERN_ATTENTION_FLOATS(shape->pieces_max, head_dim) + 16;
    *stream = (struct mly_stream){workshop, *shape, *sequences, rows, .x = NULL};
    stream->desk_floats = attention > ROWS * inner ? attention : ROWS * inner;
    stream->desk_floats = (stream->desk_floats + 15) / 16 * 16;
    stream->x = mly_gptq_floats(mem, rows, hidden);
    stream->mixed = mly_gptq_floats(mem, rows, hidden);
    stream->projected = mly_gptq_floats(mem, rows, 3 * hidden);
    stream->desks =
        mly_gptq_floats(mem, mly_pool_thread_count(workshop->pool), stream->desk_floats);
    bool ok = stream->x != NULL && stream->mixed != NULL && stream->projected != NULL &&
              stream->desks != NULL;
    if (eight_bits) {
        stream->q = mly_mem_array(mem, rows, hidden);
        stream->inner_q = mly_mem_array(mem, rows, inner);
        stream->scale = mly_mem_array(mem, rows, sizeof(float));
        stream->low = mly_mem_array(mem, rows, sizeof(float));
        ok = ok && stream->q != NULL && stream->inner_q != NULL && stream->scale != NULL &&
             stream->low != NULL;
    }
    if (ok) return MLY_OK;
    mly_stream_deinit(stream);
    return mly_fail_nomem(err, rows * (hidden * 22 + inner));
}

void mly_stream_deinit(struct mly_stream *stream)
{
    if (stream->workshop == NULL) return;
    struct mly_mem *mem = stream->workshop->env->mem;
    mly_mem_free(mem, stream->x);
    mly_mem_free(mem, stream->mixed);
    mly_mem_free(mem, stream->projected);
    mly_mem_free(mem, stream->desks);
    mly_mem_free(mem, stream->q);
    mly_mem_free(mem, stream->inner_q);
    mly_mem_free(mem, stream->scale);
    mly_mem_free(mem, stream->low);
    *stream = (struct mly_stream){.workshop = NULL};
}

void mly_stream_place(struct mly_stream *stream, const float *positions,
                      const struct mly_stream_norm *norm)
{
    const size_t hidden = stream->shape.hidden, *starts = stream->sequences.starts;
    for (size_t s = 0; s < stream->sequences.count; s++) {
        for (size_t at = starts[s]; at < starts[s + 1]; at++) {
            stream->workshop->kern->add_f32(positions + (at - starts[s]) * hidden, hidden,
                                            stream->x + (at - starts[0]) * hidden);
        }
    }
    mly_stream_normalise(stream, norm);
}

static void normalise_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t hidden = stream->shape.hidden;
    (void)worker_i;
    stream->workshop->kern->layer_norm_f32(stream->x + part_i * ROWS * hidden,
                                           part_rows(stream, part_i), step->norm->weight,
                                           step->norm->bias, hidden, stream->shape.epsilon);
}

void mly_stream_normalise(struct mly_stream *stream, const struct mly_stream_norm *norm)
{
    struct step step = {.norm = norm};
    run_rows(stream, normalise_rows, &step);
}

static void attend_sequence(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t hidden = stream->shape.hidden, heads = stream->shape.heads, width = 3 * hidden;
    const size_t *starts = stream->sequences.starts, head_dim = hidden / heads;
    const struct mly_kern *kern = stream->workshop->kern;
    const size_t first = starts[part_i] - starts[0], pieces = starts[part_i + 1] - starts[part_i];
    for (size_t head = 0; head < heads; head++) {
        const float *q = stream->projected + first * width + head * head_dim;
        float *desk = desk_of(stream, worker_i);
        float *mixed = stream->mixed + first * hidden + head * head_dim;
        kern->attention_f32(q, q + hidden, q + 2 * hidden, width, pieces, head_dim, desk, mixed,
                            hidden);
    }
}

void mly_stream_attend(struct mly_stream *stream)
{
    struct step step = {.stream = stream};
    mly_pool_run(stream->workshop->pool, stream->sequences.count, attend_sequence, &step);
}

void mly_stream_pool(const struct mly_stream *stream, bool mean, float *out)
{
    const struct mly_kern *kern = stream->workshop->kern;
    const size_t hidden = stream->shape.hidden, *starts = stream->sequences.starts;
    for (size_t s = 0; s < stream->sequences.count; s++) {
        const float *x = stream->x + (starts[s] - starts[0]) * hidden;
        float *vector = out + s * hidden;
        memcpy(vector, x, hidden * sizeof(vector[0]));
        for (size_t r = 1; mean && r < starts[s + 1] - starts[s]; r++) {
            kern->add_f32(x + r * hidden, hidden, vector);
        }
        kern->scale_f32(vector, hidden, 1.0f / sqrtf(kern->dot_f32(vector, vector, hidden)));
    }
}

static void quantise_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t hidden = stream->shape.hidden;
    (void)worker_i;
    for (size_t r = 0; r < part_rows(stream, part_i); r++) {
        const size_t row = part_i * ROWS + r;
        stream->workshop->kern->quantize_f32_u8(step->rows + row * hidden, step->factor, hidden,
                                                stream->q + row * hidden, &stream->scale[row],
                                                &stream->low[row]);
    }
}

struct mly_kern_rows mly_stream_quantise(struct mly_stream *stream, const float *rows,
                                         const float *factor)
{
    struct step step = {.rows = rows, .factor = factor};
    run_rows(stream, quantise_rows, &step);
    return (struct mly_kern_rows){stream->q, stream->scale, stream->low, stream->rows,
                                  stream->shape.hidden};
}

/* A part of q or, where wide, of inner_q. */
static struct mly_kern_rows rows_of(const struct mly_stream *stream, size_t part_i, bool wide)
{
    const size_t first = part_i * ROWS;
    const size_t stride = wide ? stream->shape.intermediate : stream->shape.hidden;
    return (struct mly_kern_rows){(wide ? stream->inner_q : stream->q) + first * stride,
                                  stream->scale + first, stream->low + first,
                                  part_rows(stream, part_i), stride};
}

static void project_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const struct mly_kern_rows rows = rows_of(stream, part_i, false);
    const size_t width = 3 * stream->shape.hidden;
    (void)worker_i;
    stream->workshop->kern->linear_u8s8_f32(&rows, step->linear,
                                            stream->projected + part_i * ROWS * width, width);
}

void mly_stream_project(struct mly_stream *stream, const struct mly_kern_linear *linear)
{
    struct step step = {.linear = linear};
    run_rows(stream, project_rows, &step);
}

static void add_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const size_t hidden = stream->shape.hidden;
    const struct mly_kern_rows rows = rows_of(stream, part_i, step->inner);
    (void)worker_i;
    stream->workshop->kern->linear_add_u8s8_f32(&rows, step->linear,
                                                stream->x + part_i * ROWS * hidden, hidden);
}

void mly_stream_add(struct mly_stream *stream, const struct mly_kern_linear *linear, bool inner)
{
    struct step step = {.linear = linear, .inner = inner};
    run_rows(stream, add_rows, &step);
}

static void inner_rows(void *context, size_t part_i, uint32_t worker_i)
{
    const struct step *step = context;
    const struct mly_stream *stream = step->stream;
    const struct mly_kern *kern = stream->workshop->kern;
    const struct mly_kern_rows rows = rows_of(stream, part_i, false);
    const size_t inner = stream->shape.intermediate;
    float *desk = desk_of(stream, worker_i);
    kern->linear_gelu_u8s8_f32(&rows, step->linear, desk, inner);
    for (size_t r = 0; r < rows.count; r++) {
        const size_t row = part_i * ROWS + r;
        stream->low[row] = MLY_KERN_GELU_MIN;
        kern->quantize_from_f32_u8(desk + r * inner, inner, MLY_KERN_GELU_MIN,
                                   stream->inner_q + row * inner, &stream->scale[row]);
    }
}

struct mly_kern_rows mly_stream_inner(struct mly_stream *stream,
                                      const struct mly_kern_linear *linear)
{
    struct step step = {.linear = linear};
    run_rows(stream, inner_rows, &step);
    return (struct mly_kern_rows){stream->inner_q, stream->scale, stream->low, stream->rows,
                                  stream->shape.intermediate};
}
