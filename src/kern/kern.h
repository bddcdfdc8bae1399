/* Arithmetic: what a kernel set computes, and the promise that all sets compute the same bits.
 *
 * Same     every operation gives the same bits in every set, with gcc and clang: integers exactly;
 *          floats because the order of operations is fixed here (16 lanes, see below), products and
 *          sums are rounded one by one (never fused), and exp and GELU are polynomials of our own.
 *          docs/NUMERICS.md says why and how it is tested.
 * Lanes    a sum over n floats is 16 partial sums: lane l adds the terms l, l + 16, l + 32 ... in
 *          this order from 0; the lanes are then folded 16 to 8 (l + (l + 8)), 8 to 4, 4 to 2, 2 to
 *          1. A lane without a term is left as it is.
 * Align    pointers need the alignment of their type, no more, unless a line says "64".
 * Owns     nothing: no allocation, no errors, no I/O. Outputs never overlap inputs unless said.
 * Threads  tables are constant; every operation may run anywhere.
 */
#ifndef MLY_KERN_KERN_H
#define MLY_KERN_KERN_H

#include <stddef.h>
#include <stdint.h>

/* Weights of a linear layer stand in panels of this many outputs. */
#define MLY_KERN_PANEL 64
/* Inputs that one step of the integer product takes from a panel for each output. */
#define MLY_KERN_STEP 4
/* The largest sum 255 * 127 * in must fit 31 bits. */
#define MLY_KERN_IN_MAX 65536
/* GELU never goes below this; the lower end of its 8 bit range. */
#define MLY_KERN_GELU_MIN (-0.17f)
/* 2^-56: products of two such numbers, and their sums, are whole multiples of 2^-126. */
#define MLY_KERN_BF16_MIN 0x1p-56f

/* y = W x + bias for quantised rows. in is a multiple of 64, out of MLY_KERN_PANEL.
 * panels: s8[out / 64][in / 4][64][4], 64: the weight of output o for input i is
 *         panels[o / 64][i / 4][o % 64][i % 4].
 * scale: real weight = scale * stored; sum: what the low value of a row is multiplied by, about
 * scale * (sum of the stored weights), with the quantiser's correction. */
struct mly_kern_linear {
    const int8_t *panels;
    const float *scale, *sum, *bias; /* f32[out] */
    size_t in, out;
};

/* The same with weights as floats: panels f32[out / 64][in][64], 64. */
struct mly_kern_linear_f32 {
    const float *panels, *bias;
    size_t in, out;
};

/* The same with weights as the upper halves of floats: panels bf16[out / 64][in / 2][64][2], 64. */
struct mly_kern_linear_bf16 {
    const uint16_t *panels;
    const float *bias;
    size_t in, out;
};

/* Rows of unsigned bytes: real value = scale[row] * q + low[row]. */
struct mly_kern_rows {
    const uint8_t *q; /* u8[count][stride] */
    const float *scale, *low;
    size_t count, stride;
};

/* What becomes of an output y: out = y, out = out + y, or out = gelu(y), off by 1e-6 at most (of
 * y, where y is above 1). */
enum mly_kern_finish { MLY_KERN_STORE, MLY_KERN_ADD, MLY_KERN_GELU };

/* What attention needs beyond its inputs: floats for sequences of up to tokens_max. */
#define MLY_KERN_ATTENTION_FLOATS(tokens_max, head_dim)                                            \
    (((((tokens_max) + 63) / 64) * 64) * (2 * (size_t)(head_dim) + 16))

/* What attention in integers needs, in bytes. */
#define MLY_KERN_ATTENTION_S8_BYTES(tokens_max, head_dim)                                          \
    (((((tokens_max) + 31) / 32) * 32) * (8 * (size_t)(head_dim) + 64) + 64 * (size_t)(head_dim))
/* Sequences for it: 2048 * 127 * tokens must fit 31 bits. */
#define MLY_KERN_ATTENTION_S8_TOKENS_MAX 8192
/* Heads for it: scores, up to 127 * 127 * head_dim, must be exact in a float. */
#define MLY_KERN_HEAD_DIM_MAX 1024

struct mly_kern_code_query; /* codes.h */

struct mly_kern {
    const char *name;

    /* The sum of a[i] * b[i] in lanes; n >= 1. */
    float (*dot_f32)(const float *a, const float *b, size_t n);
    /* scores[r] = dot_f32(query, rows + r * dim, dim). */
    void (*scores_f32)(const float *query, const float *rows, size_t row_count, size_t dim,
                       float *scores);

    /* The operations below take n, in, out and head_dim as multiples of 16. */

    /* out[i] = row[i] * scale + base[i]. */
    void (*dequantize_s8_f32)(const int8_t *row, float scale, const float *base, size_t n,
                              float *out);
    /* x = (x - mean) / sqrt(variance + epsilon) * weight + bias, in place, for each row of x
     * f32[count][n]. Mean first, then the variance of the differences: two sums in lanes. */
    void (*layer_norm_f32)(float *x, size_t count, const float *weight, const float *bias, size_t n,
                           float epsilon);
    /* q[i] = round to nearest even of (y[i] - low) / scale; low and scale from the row's minimum
     * and maximum; y[i] = x[i] * factor[i], or x[i] where factor is NULL. */
    void (*quantize_f32_u8)(const float *x, const float *factor, size_t n, uint8_t *q, float *scale,
                            float *low);
    /* The same with low given; values below it become 0. */
    void (*quantize_from_f32_u8)(const float *x, size_t n, float low, uint8_t *q, float *scale);
    /* out[row][o] = y, f32[rows.count][out_stride]. */
    void (*linear_u8s8_f32)(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear,
                            float *out, size_t out_stride);
    /* out[row][o] = out[row][o] + y. */
    void (*linear_add_u8s8_f32)(const struct mly_kern_rows *rows,
                                const struct mly_kern_linear *linear, float *out,
                                size_t out_stride);
    /* out[row][o] = gelu(y), never below MLY_KERN_GELU_MIN. */
    void (*linear_gelu_u8s8_f32)(const struct mly_kern_rows *rows,
                                 const struct mly_kern_linear *linear, float *out,
                                 size_t out_stride);
    /* One head of one sequence: out[t] = sum over u of softmax2(q[t] . k[u]) * v[u], where softmax2
     * is to the base 2 (the factor log2(e) / sqrt(head_dim) stands in q) and safe for any input:
     * the row's maximum is subtracted. Rows of q, k, v are stride floats apart, rows of out
     * out_stride. scratch: MLY_KERN_ATTENTION_FLOATS(tokens, head_dim), 64. */
    void (*attention_f32)(const float *q, const float *k, const float *v, size_t stride,
                          size_t tokens, size_t head_dim, float *scratch, float *out,
                          size_t out_stride);
    /* The same in integers, for models of 8 bits. q, k and each dimension of v are rounded to -127
     * .. 127 (step: the largest size of the sequence in this head / 127 + 1e-20; ties to even);
     * scores are exact sums s[u] of these. The weight of u is 2048 * 2^x, x = (s[u] - the greatest
     * s) * (query step * key step), by the integer formula of attention_s8_scalar.c;
     * out[i] = (exact sum over u of weight * v) * (1 / exact sum of the weights) * value step[i].
     * scratch: MLY_KERN_ATTENTION_S8_BYTES(tokens, head_dim), 64. */
    void (*attention_s8)(const float *q, const float *k, const float *v, size_t stride,
                         size_t tokens, size_t head_dim, void *scratch, float *out,
                         size_t out_stride);
    /* Layers on rows of floats, y = bias + the sum of x * w: from 0, one product and one sum after
     * the other, in the order of the inputs; then the bias. rows: f32[count][stride]. */
    void (*linear_f32)(const float *rows, size_t stride, size_t count,
                       const struct mly_kern_linear_f32 *linear, enum mly_kern_finish finish,
                       float *out, size_t out_stride);
    /* rows: bf16[count][stride]. The order within each pair of inputs is turned: 1, 0, 3, 2 ... as
     * vpdpbf16ps has it. That instruction takes numbers below 2^-126 for 0; no sum comes near them
     * where all inputs and weights are 0 or at least MLY_KERN_BF16_MIN in size. */
    void (*linear_bf16)(const uint16_t *rows, size_t stride, size_t count,
                        const struct mly_kern_linear_bf16 *linear, enum mly_kern_finish finish,
                        float *out, size_t out_stride);
    /* The upper half of x[i], rounded to nearest even; 0 where x[i] is below MLY_KERN_BF16_MIN in
     * size. */
    void (*round_f32_bf16)(const float *x, size_t n, uint16_t *out);
    /* sum[i] = sum[i] + x[i]. */
    void (*add_f32)(const float *x, size_t n, float *sum);
    /* x[i] = x[i] * factor. */
    void (*scale_f32)(float *x, size_t n, float factor);

    /* The sum of x[i] * row[i] in lanes, as dot_f32 has it; n >= 1. */
    float (*dot_s8_f32)(const int8_t *row, const float *x, size_t n);
    /* Estimates of 16 * block_count codes (codes.h says what a block is): for place l of block b
     *     sum = what the query's tables give for the code, exactly
     *     estimates[16 b + l] = factor * ((2 * sum - 15 * width) * step) + offset + base.
     * Bit l of hits[b] is set where the estimate is above floor. Blocks whose wanted[b] is 0 are
     * left out, and of the others only the wanted bits are set; wanted may be NULL: all. Estimates
     * of a block without a hit are not promised. blocks: stride bytes apart, a multiple of 16. */
    void (*scan_codes)(const struct mly_kern_code_query *query, const uint8_t *blocks,
                       size_t stride, size_t block_count, float base, float floor,
                       const uint16_t *wanted, float *estimates, uint16_t *hits);
};

/* The set of that name, or the best that this machine can run where wanted is NULL. NULL: there is
 * no set of that name, or this machine cannot run it. The tables live as long as the program. */
const struct mly_kern *mly_kern_pick(const char *wanted);
/* Fills in up to out_max sets that this machine can run, best first; returns how many there are. */
size_t mly_kern_list(const struct mly_kern **out, size_t out_max);

#endif
