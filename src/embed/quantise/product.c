/* The weights of a layer's products: loaded, turned into panels, packed. */
#include "embed/quantise/quantise_int.h"

#include <math.h>

/* The softmax is to the base 2: log2(e) / sqrt(head size) goes into the queries, where it costs
 * nothing. */
#define LOG2_E 1.4426950408889634

const char *const mly_product_names[MLY_PRODUCT_COUNT] = {"attention_in", "attention_out", "ffn_in",
                                                          "ffn_out"};

void mly_product_shape(const struct mly_snapshot_card *card, enum mly_product product, size_t *out,
                       size_t *in)
{
    *in = product == MLY_PRODUCT_FFN_OUT ? card->intermediate : card->hidden;
    *out = product == MLY_PRODUCT_ATTENTION_IN ? 3 * card->hidden
           : product == MLY_PRODUCT_FFN_IN     ? card->intermediate
                                               : card->hidden;
}

static enum mly_err load_attention_in(const struct mly_conversion *work, size_t layer,
                                      float *weights, float *bias, struct mly_error *err)
{
    static const enum mly_snapshot_part parts[] = {MLY_PART_QUERY, MLY_PART_KEY, MLY_PART_VALUE};
    const size_t hidden = work->card->hidden;
    const double factor = LOG2_E / sqrt((double)(hidden / work->card->heads));
    for (size_t i = 0; i < 3; i++) {
        MLY_TRY(mly_snapshot_weights(work->snapshot, layer, parts[i], weights + i * hidden * hidden,
                                     err));
        MLY_TRY(mly_snapshot_bias(work->snapshot, layer, parts[i], bias + i * hidden, err));
    }
    for (size_t i = 0; i < hidden * hidden; i++) {
        weights[i] = (float)((double)weights[i] * factor);
    }
    for (size_t i = 0; i < hidden; i++) {
        bias[i] = (float)((double)bias[i] * factor);
    }
    return MLY_OK;
}

enum mly_err mly_product_load(const struct mly_conversion *work, size_t layer,
                              enum mly_product product, float *weights, float *bias,
                              struct mly_error *err)
{
    if (product == MLY_PRODUCT_ATTENTION_IN) {
        return load_attention_in(work, layer, weights, bias, err);
    }
    const enum mly_snapshot_part part = product == MLY_PRODUCT_ATTENTION_OUT
                                            ? MLY_PART_ATTENTION_OUT
                                        : product == MLY_PRODUCT_FFN_IN ? MLY_PART_FFN_IN
                                                                        : MLY_PART_FFN_OUT;
    MLY_TRY(mly_snapshot_weights(work->snapshot, layer, part, weights, err));
    return mly_snapshot_bias(work->snapshot, layer, part, bias, err);
}

void mly_product_panels(const float *weights, size_t out, size_t in, float *panels)
{
    for (size_t o = 0; o < out; o++) {
        float *panel = panels + o / MLY_KERN_PANEL * in * MLY_KERN_PANEL + o % MLY_KERN_PANEL;
        for (size_t i = 0; i < in; i++) {
            panel[i * MLY_KERN_PANEL] = weights[o * in + i];
        }
    }
}

void mly_product_pack(const int8_t *stored, size_t out, size_t in, int8_t *packed)
{
    for (size_t o = 0; o < out; o++) {
        int8_t *panel =
            packed + o / MLY_KERN_PANEL * in * MLY_KERN_PANEL + o % MLY_KERN_PANEL * MLY_KERN_STEP;
        for (size_t i = 0; i < in; i++) {
            panel[i / MLY_KERN_STEP * MLY_KERN_STEP * MLY_KERN_PANEL + i % MLY_KERN_STEP] =
                stored[o * in + i];
        }
    }
}
