/* Private to the quantiser: sequences on their way through an encoder's layers, all of them step by
 * step, so that a layer's weights can be decided when its inputs are known.
 *
 * Shapes   rows are word pieces, the sequences one behind the other; h = hidden, n = intermediate.
 */
#ifndef MLY_EMBED_QUANTISE_STREAM_H
#define MLY_EMBED_QUANTISE_STREAM_H

#include "embed/quantise/gptq.h"

struct mly_sequences {
    const int32_t *ids;
    const size_t *starts; /* [count + 1] */
    size_t count;
};

struct mly_stream_shape {
    size_t hidden, intermediate, heads, pieces_max;
    float epsilon;
};

struct mly_stream {
    const struct mly_workshop *workshop;
    struct mly_stream_shape shape;
    struct mly_sequences sequences;
    size_t rows;
    float *x, *mixed;   /* f32[rows][h] */
    float *projected;   /* f32[rows][3 h] */
    uint8_t *q;         /* u8[rows][h]: inputs in 8 bits */
    uint8_t *inner_q;   /* u8[rows][n] */
    float *scale, *low; /* f32[rows], of the last that was quantised */
    float *desks;       /* one for each worker */
    size_t desk_floats;
};

/* Weights of a norm. */
struct mly_stream_norm {
    const float *weight, *bias;
};
/* A linear layer in floats: panels f32[out / 64][in][64]. */
struct mly_stream_linear {
    const float *panels, *bias;
    size_t in, out;
};

/* eight_bits: room for what is in 8 bits is needed too. */
MLY_MUST_USE enum mly_err mly_stream_init(struct mly_stream *stream,
                                          const struct mly_workshop *workshop,
                                          const struct mly_stream_shape *shape,
                                          const struct mly_sequences *sequences, bool eight_bits,
                                          struct mly_error *err);
void mly_stream_deinit(struct mly_stream *stream);

/* x is the words' rows by now: adds positions, f32[positions][h], and normalises. */
void mly_stream_place(struct mly_stream *stream, const float *positions,
                      const struct mly_stream_norm *norm);
void mly_stream_normalise(struct mly_stream *stream, const struct mly_stream_norm *norm);
/* projected -> mixed, in floats: how the engine rounds within attention may change from one version
 * to the next, and a model file should not. */
void mly_stream_attend(struct mly_stream *stream);
/* The vectors f32[count][h], the mean or the first of x's rows at unit length. */
void mly_stream_pool(const struct mly_stream *stream, bool mean, float *out);

/* In 8 bits: from x or mixed, times factor (NULL: as they are), into q. */
struct mly_kern_rows mly_stream_quantise(struct mly_stream *stream, const float *rows,
                                         const float *factor);
/* q -> projected; q -> inner_q through GELU; x + (q -> out), or, where inner, x + (inner_q ->
 * out). */
void mly_stream_project(struct mly_stream *stream, const struct mly_kern_linear *linear);
void mly_stream_add(struct mly_stream *stream, const struct mly_kern_linear *linear, bool inner);
struct mly_kern_rows mly_stream_inner(struct mly_stream *stream,
                                      const struct mly_kern_linear *linear);

/* In floats: x -> projected; x + (mixed -> out); x + (x -> GELU -> out). */
void mly_stream_project_floats(struct mly_stream *stream, const struct mly_stream_linear *linear);
void mly_stream_add_floats(struct mly_stream *stream, const struct mly_stream_linear *linear);
void mly_stream_inner_floats(struct mly_stream *stream, const struct mly_stream_linear *in,
                             const struct mly_stream_linear *out);

#endif
