/* Private to embed/: the weights of a model as they stand in the mapped file, and the encoder's
 * parts, which the quantiser uses too.
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

enum mly_model_precision { MLY_MODEL_INT8, MLY_MODEL_BF16, MLY_MODEL_F32 };
enum mly_model_pooling { MLY_MODEL_MEAN, MLY_MODEL_CLS };

struct mly_model_norm {
    const float *weight, *bias; /* f32[h] */
};

/* The model's precision says which. */
union mly_model_linear {
    struct mly_kern_linear int8;
    struct mly_kern_linear_f32 f32;
    struct mly_kern_linear_bf16 bf16;
};

struct mly_model_layer {
    union mly_model_linear attention_in;  /* h -> 3 h: queries, keys, values */
    union mly_model_linear attention_out; /* h -> h */
    union mly_model_linear ffn_in;        /* h -> n */
    union mly_model_linear ffn_out;       /* n -> h */
    struct mly_model_norm attention_norm, ffn_norm;
    /* int8: f32[h], what a row is multiplied by before it is quantised for attention_in and ffn_in;
     * NULL: nothing. Both or none. */
    const float *attention_factor, *ffn_factor;
};

struct mly_model_config {
    size_t hidden, intermediate, heads, layers, positions, pieces_max, vocabulary;
    float epsilon;
    enum mly_model_precision precision;
    enum mly_model_pooling pooling;
};

/* Rows of the vocabulary, [vocabulary][h], as the precision says. */
union mly_model_words {
    const int8_t *int8; /* row i is word_scale[i] * stored */
    const uint16_t *bf16;
    const float *f32;
};

struct mly_model {
    struct mly_mem *mem;
    struct mly_map map;
    struct mly_model_config config;
    struct mly_model_card card;
    struct mly_str data;     /* all tensors */
    struct mly_str data_sum; /* hex, as the header has it */
    union mly_model_words words;
    const float *word_scale; /* f32[vocabulary]; int8 only */
    const float *position;   /* f32[positions][h], token type 0 included */
    struct mly_model_norm word_norm;
    struct mly_model_layer *layers;
    char *text; /* what the card's strings point into */
};

/* Maps the file and checks all of its header; data is looked at only by verify. */
MLY_MUST_USE enum mly_err mly_model_map(const struct mly_env *env, const char *path,
                                        struct mly_model *out, struct mly_error *err);
void mly_model_close(struct mly_model *model);
/* model_weights.c: the tensors that the configuration calls for, and the tokenizer. */
struct mly_tensors;
MLY_MUST_USE enum mly_err mly_model_find_weights(const struct mly_tensors *tensors,
                                                 struct mly_model *model, struct mly_error *err);

/* What one worker needs beside the rows of a block. */
struct mly_encoder_desk {
    float *scratch;   /* attention's */
    float *inner;     /* f32[MLY_ENCODER_INNER_ROWS][n] */
    uint8_t *inner_q; /* u8[MLY_ENCODER_INNER_ROWS][n] */
    float *inner_scale, *inner_low;
    float *scaled;          /* int8: f32[h], a row times its factors */
    uint16_t *inner_halves; /* bf16: [MLY_ENCODER_INNER_ROWS][n] */
};

/* The rows of one block of up to rows_max: one allocation for each part, so that sanitizers see
 * what runs over. */
struct mly_encoder_room {
    float *x;           /* f32[rows][h]: the residual stream */
    uint8_t *q;         /* u8[rows][h] */
    float *scale, *low; /* f32[rows] of q */
    float *projected;   /* f32[groups][rows][3][group's outputs], or one group at a time */
    float *mixed;       /* f32[rows][h]: attention's outputs */
    uint16_t *halves;   /* bf16: [rows][h], what goes into a product */
    struct mly_encoder_desk desk;
};

/* Rows of the largest block. */
size_t mly_encoder_rows_max(const struct mly_model_config *config);
MLY_MUST_USE enum mly_err mly_encoder_room_init(struct mly_encoder_room *room, struct mly_mem *mem,
                                                const struct mly_model_config *config,
                                                struct mly_error *err);
void mly_encoder_room_deinit(struct mly_encoder_room *room, struct mly_mem *mem);

/* The four products of a layer. */
enum mly_encoder_product {
    MLY_ENCODER_ATTENTION_IN,
    MLY_ENCODER_ATTENTION_OUT,
    MLY_ENCODER_FFN_IN,
    MLY_ENCODER_FFN_OUT,
};

/* Told the inputs of a product just before they are rounded and multiplied: f32[count][width], the
 * first of them row first of the block. */
typedef void (*mly_encoder_watch_fn)(void *context, size_t layer_i,
                                     enum mly_encoder_product product, const float *rows,
                                     size_t first, size_t count, size_t width);

/* A block of sequences that stand one behind the other, and what it is encoded with. */
struct mly_encoder_block {
    const struct mly_model *model;
    const struct mly_kern *kern;
    struct mly_encoder_room *room;
    const int32_t *ids;
    const size_t *starts;       /* sequence s has ids[starts[s]] .. ids[starts[s + 1]] */
    size_t count;               /* sequences */
    size_t rows;                /* word pieces, rows_max at most */
    mly_encoder_watch_fn watch; /* NULL: nobody */
    void *watch_context;
};

/* Heads go in groups, the fewest whose outputs are whole panels: what attention reads was just
 * written, and is small enough to be in the second cache still. */
struct mly_encoder_groups {
    size_t width; /* outputs of a group's queries, or keys, or values */
    size_t heads; /* of a group */
    size_t count;
};
struct mly_encoder_groups mly_encoder_groups_of(const struct mly_model_config *config);

/* What the precisions do differently (encoder_int8.c, encoder_float.c). Rows first to end of the
 * block, of all columns or of one group of heads, or one head of one sequence: parts that touch
 * nothing in common, so that several workers may do them at the same time, each at its own desk. */
struct mly_encoder_steps {
    /* x: the rows of the vocabulary and the positions, summed; not normalised yet. */
    void (*look_up)(const struct mly_encoder_block *block, size_t first, size_t end);
    /* x -> what project multiplies */
    void (*prepare)(const struct mly_encoder_block *block, size_t layer_i, size_t first, size_t end,
                    struct mly_encoder_desk *desk);
    /* -> out: f32[end - first][3][group's width], queries, keys and values */
    void (*project)(const struct mly_encoder_block *block, size_t layer_i, size_t group,
                    size_t first, size_t end, float *out);
    /* -> mixed; projected: what project gave for the head's group, from the sequence's first row */
    void (*attend)(const struct mly_encoder_block *block, size_t sequence, size_t head,
                   const float *projected, struct mly_encoder_desk *desk);
    /* mixed -> x: attention's way out, its norm, the feed-forward part and its norm */
    void (*finish)(const struct mly_encoder_block *block, size_t layer_i, size_t first, size_t end,
                   struct mly_encoder_desk *desk);
};
extern const struct mly_encoder_steps mly_encoder_int8, mly_encoder_float;
const struct mly_encoder_steps *mly_encoder_steps_of(enum mly_model_precision precision);

/* The parts of a run, for those who want to look between them: x from the ids; one layer, x -> x;
 * the vectors f32[count][h]. False: a vector is not finite or has no length. */
void mly_encoder_begin(const struct mly_encoder_block *block);
void mly_encoder_layer(const struct mly_encoder_block *block, size_t layer_i);
bool mly_encoder_end(const struct mly_encoder_block *block, float *out);
/* All of it. */
bool mly_encoder_run(const struct mly_encoder_block *block, float *out);
/* The same by all workers of a pool; rooms: one for each, for its desk. Gives the same bits. */
bool mly_encoder_run_team(const struct mly_encoder_block *block, struct mly_pool *pool,
                          struct mly_encoder_room *rooms, float *out);
/* x, prepared, -> mixed, for the heads of one group and sequences first to end. */
void mly_encoder_mix(const struct mly_encoder_block *block, size_t layer_i, size_t group,
                     size_t first, size_t end, struct mly_encoder_room *room);
/* Rows of x from their ids, normalised: mly_encoder_begin for a part of the block. */
void mly_encoder_begin_rows(const struct mly_encoder_block *block, size_t first, size_t end);

/* For the steps: norm of rows first to end of x, in place. */
void mly_encoder_normalise(const struct mly_encoder_block *block, const struct mly_model_norm *norm,
                           size_t first, size_t end);
/* The position of row within its sequence, and its word piece. */
struct mly_encoder_place {
    size_t sequence, position;
};
/* Of the first row; then move on with next. */
struct mly_encoder_place mly_encoder_place_of(const struct mly_encoder_block *block, size_t row);
void mly_encoder_place_next(const struct mly_encoder_block *block, struct mly_encoder_place *place);

#endif
