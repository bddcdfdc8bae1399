#include "plain_encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static double from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return (double)value;
}

/* The weight of output o for input i, and the bias of o, as the drawings in kern.h have them. */
static double weight(const struct mly_model *model, const union mly_model_linear *linear, size_t o,
                     size_t i, size_t in)
{
    if (model->config.precision == MLY_MODEL_F32)
        return (double)linear->f32.panels[(o / 64 * in + i) * 64 + o % 64];
    if (model->config.precision == MLY_MODEL_BF16)
        return from_bf16(
            linear->bf16.panels[((o / 64 * (in / 2) + i / 2) * 64 + o % 64) * 2 + i % 2]);
    const size_t at = ((o / 64 * (in / 4) + i / 4) * 64 + o % 64) * 4 + i % 4;
    return (double)linear->int8.panels[at] * (double)linear->int8.scale[o];
}

static double bias(const struct mly_model *model, const union mly_model_linear *linear, size_t o)
{
    const enum mly_model_precision precision = model->config.precision;
    const float *values = precision == MLY_MODEL_F32    ? linear->f32.bias
                          : precision == MLY_MODEL_BF16 ? linear->bf16.bias
                                                        : linear->int8.bias;
    return (double)values[o];
}

static double word(const struct mly_model *model, size_t id, size_t i)
{
    const size_t at = id * model->config.hidden + i;
    if (model->config.precision == MLY_MODEL_F32) return (double)model->words.f32[at];
    if (model->config.precision == MLY_MODEL_BF16) return from_bf16(model->words.bf16[at]);
    return (double)model->words.int8[at] * (double)model->word_scale[id];
}

static void normalise(const struct mly_model *model, const struct mly_model_norm *norm, double *x)
{
    const size_t n = model->config.hidden;
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        mean += x[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        square += (x[i] - mean) * (x[i] - mean) / (double)n;
    }
    const double factor = 1.0 / sqrt(square + (double)model->config.epsilon);
    for (size_t i = 0; i < n; i++) {
        x[i] = (x[i] - mean) * factor * (double)norm->weight[i] + (double)norm->bias[i];
    }
}

/* rows[pieces][in] -> out[pieces][outs]; factor may be NULL. */
static void multiply(const struct mly_model *model, const union mly_model_linear *linear, size_t in,
                     size_t outs, const double *rows, const float *factor, size_t pieces,
                     double *out)
{
    for (size_t o = 0; o < outs; o++) {
        for (size_t t = 0; t < pieces; t++) {
            out[t * outs + o] = bias(model, linear, o);
        }
        for (size_t i = 0; i < in; i++) {
            double w = weight(model, linear, o, i, in);
            if (factor != NULL) w *= (double)factor[i];
            for (size_t t = 0; t < pieces; t++) {
                out[t * outs + o] += rows[t * in + i] * w;
            }
        }
    }
}

static void attend(const struct mly_model *model, const double *projected, size_t pieces,
                   double *mixed)
{
    const size_t h = model->config.hidden, size = h / model->config.heads;
    double *weights = malloc(pieces * sizeof(double));
    for (size_t head = 0; head < model->config.heads; head++) {
        for (size_t t = 0; t < pieces; t++) {
            const double *q = projected + t * 3 * h + head * size;
            double sum = 0.0;
            for (size_t u = 0; u < pieces; u++) {
                const double *k = projected + u * 3 * h + h + head * size;
                double score = 0.0;
                for (size_t i = 0; i < size; i++) {
                    score += q[i] * k[i];
                }
                weights[u] = exp2(score);
                sum += weights[u];
            }
            for (size_t i = 0; i < size; i++) {
                double value = 0.0;
                for (size_t u = 0; u < pieces; u++) {
                    value += weights[u] * projected[u * 3 * h + 2 * h + head * size + i];
                }
                mixed[t * h + head * size + i] = value / sum;
            }
        }
    }
    free(weights);
}

static void add(const double *from, size_t n, double *to)
{
    for (size_t i = 0; i < n; i++) {
        to[i] += from[i];
    }
}

static void run_layer(const struct mly_model *model, const struct mly_model_layer *layer,
                      size_t pieces, double *x)
{
    const size_t h = model->config.hidden, n = model->config.intermediate;
    double *projected = malloc(pieces * 3 * h * sizeof(double));
    double *mixed = malloc(pieces * h * sizeof(double));
    double *inner = malloc(pieces * n * sizeof(double));
    double *out = malloc(pieces * h * sizeof(double));
    multiply(model, &layer->attention_in, h, 3 * h, x, layer->attention_factor, pieces, projected);
    attend(model, projected, pieces, mixed);
    multiply(model, &layer->attention_out, h, h, mixed, NULL, pieces, out);
    add(out, pieces * h, x);
    for (size_t t = 0; t < pieces; t++) {
        normalise(model, &layer->attention_norm, x + t * h);
    }
    multiply(model, &layer->ffn_in, h, n, x, layer->ffn_factor, pieces, inner);
    for (size_t i = 0; i < pieces * n; i++) {
        inner[i] = inner[i] * 0.5 * (1.0 + erf(inner[i] / sqrt(2.0)));
    }
    multiply(model, &layer->ffn_out, n, h, inner, NULL, pieces, out);
    add(out, pieces * h, x);
    for (size_t t = 0; t < pieces; t++) {
        normalise(model, &layer->ffn_norm, x + t * h);
    }
    free(projected);
    free(mixed);
    free(inner);
    free(out);
}

void plain_encode(const struct mly_model *model, const int32_t *ids, size_t pieces, double *out)
{
    const size_t h = model->config.hidden;
    double *x = malloc(pieces * h * sizeof(double)), square = 0.0;
    for (size_t t = 0; t < pieces; t++) {
        for (size_t i = 0; i < h; i++) {
            x[t * h + i] = word(model, (size_t)ids[t], i) + (double)model->position[t * h + i];
        }
        normalise(model, &model->word_norm, x + t * h);
    }
    for (size_t l = 0; l < model->config.layers; l++) {
        run_layer(model, &model->layers[l], pieces, x);
    }
    memset(out, 0, h * sizeof(double));
    for (size_t t = 0; t < (model->config.pooling == MLY_MODEL_CLS ? 1 : pieces); t++) {
        add(x + t * h, h, out);
    }
    for (size_t i = 0; i < h; i++) {
        square += out[i] * out[i];
    }
    for (size_t i = 0; i < h; i++) {
        out[i] /= sqrt(square);
    }
    free(x);
}

double plain_cosine(const double *a, const float *b, size_t n)
{
    double dot = 0.0, left = 0.0, right = 0.0;
    for (size_t i = 0; i < n; i++) {
        dot += a[i] * (double)b[i];
        left += a[i] * a[i];
        right += (double)b[i] * (double)b[i];
    }
    return dot / sqrt(left * right);
}
