/* Private to the quantiser: a conversion under way. */
#ifndef MLY_EMBED_QUANTISE_QUANTISE_INT_H
#define MLY_EMBED_QUANTISE_QUANTISE_INT_H

#include "embed/quantise/gptq_int.h"
#include "embed/quantise/model_writer.h"
#include "embed/quantise/quantise.h"

/* Rows of the table of words that are in hand at a time. */
#define MLY_CONVERT_WORDS 1024

/* Products of a layer, in the order of the file. */
enum mly_product {
    MLY_PRODUCT_ATTENTION_IN,
    MLY_PRODUCT_ATTENTION_OUT,
    MLY_PRODUCT_FFN_IN,
    MLY_PRODUCT_FFN_OUT,
    MLY_PRODUCT_COUNT,
};

/* One product's weights, in every form; room for the largest. */
struct mly_product_room {
    float *weights, *bias; /* f32[out][in], f32[out]: as published, the queries' factor within */
    float *panels;         /* f32[out / 64][in][64] */
    int8_t *stored, *packed;
    float *scale, *sum, *new_bias; /* f32[out] */
};

struct mly_conversion {
    const struct mly_snapshot *snapshot;
    const struct mly_snapshot_card *card;
    const struct mly_quantise_job *job;
    struct mly_mem *mem;
    struct mly_model_writer writer;
    struct mly_product_room room;
    float *second_panels; /* of ffn_out, beside ffn_in's */
    float *second_bias;   /* f32[h] */
    float *norms;         /* f32[11][h]: all that follow */
    float *norm[4];       /* weight and bias of attention's norm, then of the other */
    float *fold;          /* f32[h]: what values are multiplied by */
    float *wide;          /* f32[3][h] */
    float *factor;        /* what the inputs of a product are multiplied by */
    float *positions;     /* f32[positions][h] */
    float *word_norm[2];
    float *words;         /* f32[WORDS][h]: a part of the table */
    int8_t *stored_words; /* s8[WORDS][h] */
    float *word_scale;    /* f32[vocabulary] */
    struct mly_stream calibration, samples;
};

void mly_product_shape(const struct mly_snapshot_card *card, enum mly_product product, size_t *out,
                       size_t *in);
extern const char *const mly_product_names[MLY_PRODUCT_COUNT];

/* weights and bias of a product, from the snapshot. */
MLY_MUST_USE enum mly_err mly_product_load(const struct mly_conversion *work, size_t layer,
                                           enum mly_product product, float *weights, float *bias,
                                           struct mly_error *err);
/* f32[out][in] -> f32[out / 64][in][64]; s8[out][in] -> s8[out / 64][in / 4][64][4]. */
void mly_product_panels(const float *weights, size_t out, size_t in, float *panels);
void mly_product_pack(const int8_t *stored, size_t out, size_t in, int8_t *packed);

/* To nearest, ties to even. */
uint16_t mly_convert_bf16(float value);

/* Runs the samples, in floats, through a layer whose norms are loaded. */
MLY_MUST_USE enum mly_err mly_convert_reference(struct mly_conversion *work, size_t layer,
                                                struct mly_error *err);
/* Writes a layer, running the calibration's rows through it. */
MLY_MUST_USE enum mly_err mly_convert_layer_int8(struct mly_conversion *work, size_t layer,
                                                 struct mly_error *err);
MLY_MUST_USE enum mly_err mly_convert_layer_floats(struct mly_conversion *work, size_t layer,
                                                   struct mly_error *err);
/* The table of words, in its place in the file; fills in the x of both streams. */
MLY_MUST_USE enum mly_err mly_convert_words(struct mly_conversion *work, struct mly_error *err);
/* Names, shapes and metadata of the whole file. */
MLY_MUST_USE enum mly_err mly_convert_plan(struct mly_conversion *work, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_convert_tell(struct mly_conversion *work, const char *step,
                                           double share, struct mly_error *err);

#endif
