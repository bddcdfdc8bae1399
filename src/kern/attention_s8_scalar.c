/* Attention in integers, one head of one sequence, the definition.
 *
 *   q8 = round(q / query step), k8 likewise; v8[u][i] = round(v[u][i] / value step of dimension i)
 *   w[u] = about 2048 * 2^((q8 . k8[u] - their greatest over u) * query step * key step)
 *   out[i] = (sum over u of w[u] * v8[u][i]) * (1 / sum of w) * value step[i]
 *
 * Steps are a 127th of the largest size in the sequence. All sums are of whole numbers: no order
 * can show. They are taken in floats here, as in linear_scalar.c: scores stay below 2^24, outputs
 * over CHUNK pieces too.
 */
#include "kern/kern_int.h"

#include <math.h>
#include <string.h>

#define CHUNK 64 /* 64 * 2048 * 127 < 2^24 */

/* To the nearest whole number, ties to even; for sizes up to 2^21. */
static float to_whole(float x)
{
    return (x + KERN_ROUND) - KERN_ROUND;
}

static float step_of(float largest)
{
    return largest / 127.0f + KERN_SCALE_MIN;
}

static float largest_of(const float *x, size_t stride, size_t tokens, size_t head_dim)
{
    float largest = 0.0f;
    for (size_t t = 0; t < tokens; t++) {
        for (size_t i = 0; i < head_dim; i++) {
            const float size = fabsf(x[t * stride + i]);
            largest = size > largest ? size : largest;
        }
    }
    return largest;
}

static int32_t half(int32_t x)
{
    return (x + (1 << 14)) >> 15;
}

/* The weight of a score that is below the greatest by -x / 2048: 2^(x / 2048) * 2048. */
static float weight_of(float x)
{
    const float clamped = x > -32768.0f ? x : -32768.0f;
    const int32_t above = 32768 + (int32_t)to_whole(clamped); /* 0 to 32768 */
    const int32_t fraction = (above & 2047) << 4;
    const int32_t power = 16384 + half(fraction * (KERN_WEIGHT_1 + half(fraction * KERN_WEIGHT_2)));
    const int32_t shift = 18 - (above >> KERN_WEIGHT_BITS); /* 2 to 18 */
    return (float)(((power >> shift) + 1) >> 1);
}

/* What one call keeps in its scratch. */
struct head {
    float *keys;   /* f32[head_dim][tokens] */
    float *values; /* f32[tokens][head_dim] */
    float *steps;  /* f32[head_dim], of the values */
    float *sums;   /* f32[head_dim], then those of one chunk */
    float *row;    /* f32[tokens] */
    size_t tokens, head_dim;
    float query_factor, scale;
};

static void fill_head(struct head *head, const float *q, const float *k, const float *v,
                      size_t stride)
{
    const size_t tokens = head->tokens, head_dim = head->head_dim;
    const float query_step = step_of(largest_of(q, stride, tokens, head_dim));
    const float key_step = step_of(largest_of(k, stride, tokens, head_dim));
    const float scale = query_step * key_step * 2048.0f, key_factor = 1.0f / key_step;
    head->query_factor = 1.0f / query_step;
    head->scale = scale < KERN_SCALE_MAX ? scale : KERN_SCALE_MAX;
    for (size_t i = 0; i < head_dim; i++) {
        head->steps[i] = step_of(largest_of(v + i, stride, tokens, 1));
        const float factor = 1.0f / head->steps[i];
        for (size_t u = 0; u < tokens; u++) {
            head->keys[i * tokens + u] = to_whole(k[u * stride + i] * key_factor);
            head->values[u * head_dim + i] = to_whole(v[u * stride + i] * factor);
        }
    }
}

/* Turns scores into weights; returns their sum: at most 2048 * 8192, which a float holds. */
static float soften(float *row, size_t tokens, float scale)
{
    float most = row[0], sum = 0.0f;
    for (size_t u = 1; u < tokens; u++) {
        most = row[u] > most ? row[u] : most;
    }
    for (size_t u = 0; u < tokens; u++) {
        row[u] = weight_of((row[u] - most) * scale);
        sum += row[u];
    }
    return sum;
}

/* sums = the weighted sum of the values, f32[head_dim] whole numbers; part likewise, for one chunk.
 * The sum of several chunks is rounded to a float but once, as in the other sets: integers. */
static void mix(const struct head *head, float *out, float factor)
{
    const size_t head_dim = head->head_dim;
    int32_t *sums = (int32_t *)(void *)head->sums;
    float *part = head->sums + head_dim;
    memset(sums, 0, head_dim * sizeof(sums[0]));
    for (size_t first = 0; first < head->tokens; first += CHUNK) {
        const size_t end = head->tokens - first < CHUNK ? head->tokens : first + CHUNK;
        memset(part, 0, head_dim * sizeof(part[0]));
        for (size_t u = first; u < end; u++) {
            const float weight = head->row[u];
            for (size_t i = 0; i < head_dim; i++) {
                part[i] += weight * head->values[u * head_dim + i];
            }
        }
        for (size_t i = 0; i < head_dim; i++) {
            sums[i] += (int32_t)part[i];
        }
    }
    for (size_t i = 0; i < head_dim; i++) {
        out[i] = (float)sums[i] * factor * head->steps[i];
    }
}

void mly_kern_attention_s8_scalar(const float *q, const float *k, const float *v, size_t stride,
                                  size_t tokens, size_t head_dim, void *scratch, float *out,
                                  size_t out_stride)
{
    struct head head = {.keys = scratch, .tokens = tokens, .head_dim = head_dim};
    head.values = head.keys + head_dim * tokens;
    head.steps = head.values + head_dim * tokens;
    head.sums = head.steps + head_dim;
    head.row = head.sums + 2 * head_dim;
    fill_head(&head, q, k, v, stride);
    for (size_t t = 0; t < tokens; t++) {
        memset(head.row, 0, tokens * sizeof(head.row[0]));
        for (size_t i = 0; i < head_dim; i++) {
            const float factor = to_whole(q[t * stride + i] * head.query_factor);
            for (size_t u = 0; u < tokens; u++) {
                head.row[u] += factor * head.keys[i * tokens + u];
            }
        }
        const float sum = soften(head.row, tokens, head.scale);
        mix(&head, out + t * out_stride, 1.0f / sum);
    }
}
