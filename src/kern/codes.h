/* Vectors as codes of one bit for each dimension, and what their search needs in plain C: the
 * rotation, the codes, their blocks, the query's tables, records of 8 bits, half floats. What runs
 * over many codes is in the table of kern.h (scan_codes, dot_s8_f32).
 *
 * Idea     RaBitQ: of a rotated vector's difference x - c to its cell's centroid c the signs are
 *          kept, and two numbers, factor and offset, so that for any query q
 *              x . q  is about  c . q + offset + factor * (signs . q).
 *          The query has 4 bits a dimension: q[i] is about step * (2 * level[i] - 15), so that
 *          signs . q is step * an exact integer.
 * Same     equal bits everywhere: integers, sums in the 16 lanes of kern.h, products and sums
 *          rounded one by one.
 * Shapes   dim numbers are rotated into width = MLY_KERN_CODE_WIDTH(dim), a multiple of 64.
 * Units    whatever the vectors have; signs are +1 and -1, a set bit is +1.
 * Threads  plain functions without state.
 */
#ifndef MLY_KERN_CODES_H
#define MLY_KERN_CODES_H

#include "kern/kern.h"

#define MLY_KERN_CODE_DIM_MIN 1
#define MLY_KERN_CODE_DIM_MAX 4096
#define MLY_KERN_CODE_WIDTH(dim) (((size_t)(dim) + 63) / 64 * 64)
#define MLY_KERN_ROTATION_ROUNDS 4

/* A fixed rotation: the same for every index of that width, here and on all machines. */
struct mly_kern_rotation {
    size_t dim, width;
    uint64_t flips[MLY_KERN_ROTATION_ROUNDS][MLY_KERN_CODE_DIM_MAX / 64]; /* bit i: x[i] = -x[i] */
};

/* dim: MLY_KERN_CODE_DIM_MIN to MLY_KERN_CODE_DIM_MAX. */
void mly_kern_rotation_init(struct mly_kern_rotation *rotation, size_t dim);
/* out: f32[width]. Lengths and products of vectors stay what they were, but for rounding. */
void mly_kern_rotate(const struct mly_kern_rotation *rotation, const float *x, float *out);

/* The code of x beside centroid, both rotated, f32[width]: bit i of code u8[width / 8] (the lowest
 * bit of a byte first) is x[i] > centroid[i]. A difference of nothing has factor 0. */
void mly_kern_code_make(const float *x, const float *centroid, size_t width, uint8_t *code,
                        float *factor, float *offset);

/* 16 codes stand in a block: u8[width / 8][16] (byte b of code l at [b][l]), then half floats
 * factor[16] and offset[16]. A place without a code has factor 0 and offset -inf: no scan finds it.
 * Blocks may stand further apart than their bytes, with something of the caller's between. */
#define MLY_KERN_BLOCK_CODES 16
#define MLY_KERN_BLOCK_BYTES(width) ((size_t)(width) * 2 + 64)
/* As half floats, little endian on disk as in memory. */
struct mly_kern_code_numbers {
    uint16_t factor, offset;
};
#define MLY_KERN_NO_CODE {0, 0xfc00}
/* place is below MLY_KERN_BLOCK_CODES. */
void mly_kern_block_clear(uint8_t *block, size_t width);
void mly_kern_block_put(uint8_t *block, size_t width, size_t place, const uint8_t *code,
                        struct mly_kern_code_numbers numbers);
struct mly_kern_code_numbers mly_kern_block_get(const uint8_t *block, size_t width, size_t place,
                                                uint8_t *code);

/* Rounded to nearest even; beyond 65504 in size: 65504, infinity stays infinity. */
uint16_t mly_kern_half_from_f32(float x);
float mly_kern_f32_from_half(uint16_t half);

/* A query for scan_codes. tables: u8[2][width / 8][16], 64: what the low (0) and high (1) four bits
 * of byte b of a code add to the sum over the dimensions of (bit ? level : 15 - level). */
#define MLY_KERN_QUERY_BYTES(width) ((size_t)(width) * 4)
struct mly_kern_code_query {
    const uint8_t *tables;
    float step;
    size_t width;
};
/* tables: MLY_KERN_QUERY_BYTES(width), 64; out borrows it. query: rotated, f32[width], finite. */
void mly_kern_query_make(const float *query, size_t width, uint8_t *tables,
                         struct mly_kern_code_query *out);

/* q[i] = round to nearest even of x[i] / scale, -127 to 127; scale = the largest size / 127. A row
 * of nothing above 1e-30 in size has scale 0 and zeros. */
void mly_kern_quantize_f32_s8(const float *x, size_t n, int8_t *q, float *scale);

#endif
