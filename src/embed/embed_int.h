/* Private to embed/: the weights of a model as they stand in the mapped file, and a worker's room.
 *
 * Shapes   h = hidden, n = intermediate, all multiples of 64; panels as kern.h draws them.
 */
#ifndef MLY_EMBED_EMBED_INT_H
#define MLY_EMBED_EMBED_INT_H

#include "embed/embed.h"

/* Ceilings of what a model file may ask for: beyond them its buffers or its sums would not fit. */
#define MLY_MODEL_SIZE_MAX 16384  /* hidden; BERT large has 1024 */
#define MLY_MODEL_LAYERS_MAX 128  /* BERT large has 24 */
#define MLY_MODEL_PIECES_MAX 8192 /* attention's room grows with it */
#define MLY_MODEL_VOCABULARY_MAX 16777216

/* Rows of a block: as many as keep the weights' way from memory short against the work done with
 * them, and the rows within the second cache. */
#define MLY_ENCODER_ROWS 256
/* The feed-forward part is done for so many rows at a time: its inner rows are four times as wide.
 */
#define MLY_ENCODER_INNER_ROWS 48

struct mly_model_norm {
    const float *weight, *bias; /* f32[h] */
};

struct mly_model_layer {
    struct mly_kern_linear attention_in;  /* h -> 3 h: queries, keys, values */
    struct mly_kern_linear attention_out; /* h -> h */
    struct mly_kern_linear ffn_in;        /* h -> n */
    struct mly_kern_linear ffn_out;       /* n -> h */
    struct mly_model_norm attention_norm, ffn_norm;
};

struct mly_model_config {
    size_t hidden, intermediate, heads, layers, positions, pieces_max, vocabulary;
    float epsilon;
};

struct mly_model {
    struct mly_mem *mem;
    struct mly_map map;
    struct mly_model_config config;
    struct mly_model_card card;
    struct mly_str data;     /* all tensors */
    struct mly_str data_sum; /* hex, as the header has it */
    const int8_t *words;     /* s8[vocabulary][h] */
    const float *word_scale; /* f32[vocabulary] */
    const float *position;   /* f32[positions][h], token type 0 included */
    struct mly_model_norm word_norm;
    struct mly_model_layer *layers;
    char *text; /* what the card's strings point into */
};

/* Maps the file and checks all of its header; data is looked at only by verify. */
MLY_MUST_USE enum mly_err mly_model_map(const struct mly_env *env, const char *path,
                                        struct mly_model *out, struct mly_error *err);
void mly_model_close(struct mly_model *model);

/* What one worker needs to encode blocks of up to rows_max rows: one allocation for each part, so
 * that sanitizers see what runs over. */
struct mly_encoder_room {
    float *x;           /* f32[rows][h]: the residual stream */
    uint8_t *q;         /* u8[rows][h] */
    float *scale, *low; /* f32[rows] of q */
    float *projected;   /* f32[rows][3 h] */
    float *mixed;       /* f32[rows][h]: attention's outputs */
    float *scratch;     /* attention's */
    float *inner;       /* f32[MLY_ENCODER_INNER_ROWS][n] */
    uint8_t *inner_q;   /* u8[MLY_ENCODER_INNER_ROWS][n] */
    float *inner_scale, *inner_low;
};

/* Rows of the largest block. */
size_t mly_encoder_rows_max(const struct mly_model_config *config);
MLY_MUST_USE enum mly_err mly_encoder_room_init(struct mly_encoder_room *room, struct mly_mem *mem,
                                                const struct mly_model_config *config,
                                                struct mly_error *err);
void mly_encoder_room_deinit(struct mly_encoder_room *room, struct mly_mem *mem);

/* Encodes the sequences starts[0] .. starts[count] (together at most rows_max pieces) into
 * out f32[count][h]. False: a vector is not finite or has no length. */
bool mly_encoder_run(const struct mly_model *model, const struct mly_kern *kern,
                     struct mly_encoder_room *room, const int32_t *ids, const size_t *starts,
                     size_t count, float *out);

#endif
