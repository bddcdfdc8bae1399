/* Private to kern/: the parts of the sets and the constants that all of them share.
 *
 * One file per operation and instruction set, compiled with that set's flags; what leaves such a
 * file is named after the set, so that the linker can never take one set's function for another's.
 */
#ifndef MLY_KERN_KERN_INT_H
#define MLY_KERN_KERN_INT_H

#include "kern/kern.h"

#include <stdbool.h>

#define KERN_LANES 16

/* GELU(x) = max(x, 0) + P(min(|x|, KERN_GELU_END)): P is the minimax polynomial of
 * a * (Phi(a) - 1), found by Lawson's iteration; off by 1.7e-3 at most, a tenth of the 8 bit step
 * that follows. */
#define KERN_GELU_END 3.2f
#define KERN_GELU_COEFFICIENTS                                                                     \
    {0.00166921027f, -0.538841188f, 0.543281615f, -0.185273394f, 0.0212595854f}
/* The same good to 4e-7, for layers whose outputs stay floats: P(min(|x|, END) - END / 2), around
 * the middle so that Horner's sums stay small. */
#define KERN_FINE_GELU_END 5.5f
#define KERN_FINE_GELU_DEGREE 16
#define KERN_FINE_GELU_COEFFICIENTS                                                                \
    {-0.00819438044f,  0.022028273f,     -0.0252908301f,   0.0148430839f,    -0.00312950951f,      \
     -0.00165642274f,  0.00145339489f,   -0.000386095344f, -4.66424244e-05f, 6.04899942e-05f,      \
     -1.08990034e-05f, -3.39353937e-06f, 1.35624248e-06f,  7.07739218e-08f,  -6.84932004e-08f,     \
     2.07005135e-10f,  1.41859025e-09f}
/* 2^f for f in [-0.5, 0.5], minimax with the constant fixed at 1; off by 1e-7 at most. */
#define KERN_EXP2_COEFFICIENTS                                                                     \
    {1.0f, 0.693147242f, 0.24022235f, 0.0555030853f, 0.00967187528f, 0.00134072558f}
/* Weights of softmax below 2^-125 are given as that: still a normal number. */
#define KERN_EXP2_MIN (-125.0f)
/* 1.5 * 2^23: adding it rounds to the nearest integer, ties to even, and leaves that integer in the
 * low bits. */
#define KERN_ROUND 12582912.0f
/* Attention in integers: 2^(f / 32768) * 16384 for f from 0 to 32767 is
 * 16384 + half(f * (KERN_WEIGHT_1 + half(f * KERN_WEIGHT_2))), half(x) = (x + 2^14) >> 15: off by
 * 0.21 % at most. Exponents are in steps of 1 / 2048. */
#define KERN_WEIGHT_1 10912
#define KERN_WEIGHT_2 5404
#define KERN_WEIGHT_BITS 11
/* Keeps the product of a difference of scores and their scale finite. */
#define KERN_SCALE_MAX 1e30f
/* A row of equal values has no range; this keeps the division defined. */
#define KERN_SCALE_MIN 1e-20f

/* Layers in floats (linear_float.c): what a set has of its own. A tile is KERN_FLOAT_TILE rows by
 * the outputs of one panel, a chunk KERN_FLOAT_CHUNK inputs; it divides every number of inputs. */
#define KERN_FLOAT_TILE 6
#define KERN_FLOAT_CHUNK 64
struct kern_float_parts {
    /* sums[r][o] = sums[r][o] + x[r][i] * weights[i][o] for i = 0, 1 ...; all 64. x: f32[6][64],
     * weights: f32[64][64], sums: f32[6][64]. */
    void (*add_tile)(const float *x, const float *weights, float *sums);
    /* bf16[32][64][2] -> f32[64][64]: inputs 1, 0, 3, 2 ... */
    void (*unpack)(const uint16_t *chunk, float *weights);
    /* count rows of sums f32[][64] with 64 biases into out. */
    void (*finish)(const float *sums, const float *bias, size_t count, enum mly_kern_finish finish,
                   float *out, size_t out_stride);
};
void mly_kern_linear_f32_by(const struct kern_float_parts *parts, const float *rows, size_t stride,
                            size_t count, const struct mly_kern_linear_f32 *linear,
                            enum mly_kern_finish finish, float *out, size_t out_stride);
void mly_kern_linear_bf16_by(const struct kern_float_parts *parts, const uint16_t *rows,
                             size_t stride, size_t count, const struct mly_kern_linear_bf16 *linear,
                             enum mly_kern_finish finish, float *out, size_t out_stride);

#define KERN_DECLARE_FLOAT(isa)                                                                    \
    void mly_kern_linear_f32_##isa(const float *rows, size_t stride, size_t count,                 \
                                   const struct mly_kern_linear_f32 *linear,                       \
                                   enum mly_kern_finish finish, float *out, size_t out_stride);    \
    void mly_kern_linear_bf16_##isa(const uint16_t *rows, size_t stride, size_t count,             \
                                    const struct mly_kern_linear_bf16 *linear,                     \
                                    enum mly_kern_finish finish, float *out, size_t out_stride);   \
    void mly_kern_round_f32_bf16_##isa(const float *x, size_t n, uint16_t *out);                   \
    void mly_kern_float_finish_##isa(const float *sums, const float *bias, size_t count,           \
                                     enum mly_kern_finish finish, float *out, size_t out_stride);
/* What one set has of each part. */
#define KERN_DECLARE_DOT(isa)                                                                      \
    float mly_kern_dot_f32_##isa(const float *a, const float *b, size_t n);                        \
    void mly_kern_scores_f32_##isa(const float *query, const float *rows, size_t row_count,        \
                                   size_t dim, float *scores);
#define KERN_DECLARE_ROW(isa)                                                                      \
    void mly_kern_dequantize_s8_f32_##isa(const int8_t *row, float scale, const float *base,       \
                                          size_t n, float *out);                                   \
    void mly_kern_layer_norm_f32_##isa(float *x, size_t count, const float *weight,                \
                                       const float *bias, size_t n, float epsilon);                \
    void mly_kern_quantize_f32_u8_##isa(const float *x, const float *factor, size_t n, uint8_t *q, \
                                        float *scale, float *low);                                 \
    void mly_kern_quantize_from_f32_u8_##isa(const float *x, size_t n, float low, uint8_t *q,      \
                                             float *scale);                                        \
    void mly_kern_add_f32_##isa(const float *x, size_t n, float *sum);                             \
    void mly_kern_scale_f32_##isa(float *x, size_t n, float factor);
#define KERN_DECLARE_LINEAR(isa)                                                                   \
    void mly_kern_linear_u8s8_f32_##isa(const struct mly_kern_rows *rows,                          \
                                        const struct mly_kern_linear *linear, float *out,          \
                                        size_t out_stride);                                        \
    void mly_kern_linear_add_u8s8_f32_##isa(const struct mly_kern_rows *rows,                      \
                                            const struct mly_kern_linear *linear, float *out,      \
                                            size_t out_stride);                                    \
    void mly_kern_linear_gelu_u8s8_f32_##isa(const struct mly_kern_rows *rows,                     \
                                             const struct mly_kern_linear *linear, float *out,     \
                                             size_t out_stride);
#define KERN_DECLARE_ATTENTION(isa)                                                                \
    void mly_kern_attention_f32_##isa(const float *q, const float *k, const float *v,              \
                                      size_t stride, size_t tokens, size_t head_dim,               \
                                      float *scratch, float *out, size_t out_stride);
#define KERN_DECLARE_ATTENTION_S8(isa)                                                             \
    void mly_kern_attention_s8_##isa(const float *q, const float *k, const float *v,               \
                                     size_t stride, size_t tokens, size_t head_dim, void *scratch, \
                                     float *out, size_t out_stride);
#define KERN_DECLARE_CODES(isa)                                                                    \
    float mly_kern_dot_s8_f32_##isa(const int8_t *row, const float *x, size_t n);                  \
    void mly_kern_scan_codes_##isa(const struct mly_kern_code_query *query, const uint8_t *blocks, \
                                   size_t stride, size_t block_count, float base, float floor,     \
                                   const uint16_t *wanted, float *estimates, uint16_t *hits);
#define KERN_DECLARE_SET(isa)                                                                      \
    KERN_DECLARE_DOT(isa)                                                                          \
    KERN_DECLARE_ROW(isa)                                                                          \
    KERN_DECLARE_LINEAR(isa)                                                                       \
    KERN_DECLARE_ATTENTION(isa)                                                                    \
    KERN_DECLARE_ATTENTION_S8(isa)                                                                 \
    KERN_DECLARE_FLOAT(isa)                                                                        \
    KERN_DECLARE_CODES(isa)

/* A table from parts, which need not be of one set. */
#define KERN_SET_OF(set, dot, row, linear, attention, integers, floats, halves, codes)             \
    {                                                                                              \
        .name = set,                                                                               \
        .dot_f32 = mly_kern_dot_f32_##dot,                                                         \
        .scores_f32 = mly_kern_scores_f32_##dot,                                                   \
        .dequantize_s8_f32 = mly_kern_dequantize_s8_f32_##row,                                     \
        .layer_norm_f32 = mly_kern_layer_norm_f32_##row,                                           \
        .quantize_f32_u8 = mly_kern_quantize_f32_u8_##row,                                         \
        .quantize_from_f32_u8 = mly_kern_quantize_from_f32_u8_##row,                               \
        .linear_u8s8_f32 = mly_kern_linear_u8s8_f32_##linear,                                      \
        .linear_add_u8s8_f32 = mly_kern_linear_add_u8s8_f32_##linear,                              \
        .linear_gelu_u8s8_f32 = mly_kern_linear_gelu_u8s8_f32_##linear,                            \
        .attention_f32 = mly_kern_attention_f32_##attention,                                       \
        .attention_s8 = mly_kern_attention_s8_##integers,                                          \
        .add_f32 = mly_kern_add_f32_##row,                                                         \
        .scale_f32 = mly_kern_scale_f32_##row,                                                     \
        .linear_f32 = mly_kern_linear_f32_##floats,                                                \
        .linear_bf16 = mly_kern_linear_bf16_##halves,                                              \
        .round_f32_bf16 = mly_kern_round_f32_bf16_##floats,                                        \
        .dot_s8_f32 = mly_kern_dot_s8_f32_##codes,                                                 \
        .scan_codes = mly_kern_scan_codes_##codes,                                                 \
    }
#define KERN_SET(isa) KERN_SET_OF(#isa, isa, isa, isa, isa, isa, isa, isa, isa)

KERN_DECLARE_SET(scalar)
#if defined(__x86_64__)
KERN_DECLARE_SET(avx2)
KERN_DECLARE_LINEAR(avxvnni)
KERN_DECLARE_SET(avx512vnni)
void mly_kern_linear_bf16_avx512bf16(const uint16_t *rows, size_t stride, size_t count,
                                     const struct mly_kern_linear_bf16 *linear,
                                     enum mly_kern_finish finish, float *out, size_t out_stride);
/* Does this machine run AVX2 and F16C, and does its system save the registers? */
bool mly_kern_cpu_has_avx2(void);
/* The same with AVX-VNNI: the dot product of bytes in 256 bits, without AVX-512. */
bool mly_kern_cpu_has_avxvnni(void);
/* Does this machine run AVX-512 F, BW, VL, DQ and VNNI, and does its system save the registers? */
bool mly_kern_cpu_has_avx512vnni(void);
/* All that, and the dot product of bf16? */
bool mly_kern_cpu_has_avx512bf16(void);
#elif defined(__aarch64__)
KERN_DECLARE_DOT(neon)
KERN_DECLARE_ROW(neon)
KERN_DECLARE_LINEAR(neon)
KERN_DECLARE_ATTENTION(neon)
KERN_DECLARE_ATTENTION_S8(neon)
KERN_DECLARE_CODES(neon)
/* Does this machine have the dot product of bytes (ARMv8.2-A's extension)? */
bool mly_kern_cpu_has_dotprod(void);
#endif

#endif
