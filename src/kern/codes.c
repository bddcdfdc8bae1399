/* Vectors to codes and queries to tables: what happens once for each vector, in plain C.
 *
 * Every loop here either has no sum (each number comes out of a fixed chain of its own, so however
 * a compiler vectorises it the bits are the same) or keeps the 16 lanes of kern.h in an array.
 */
#include "kern/codes.h"
#include "kern/kern_int.h"

#include <math.h>
#include <string.h>

#define WORD 64
#define LEVEL_MAX 15u
/* Rows with nothing larger have no direction worth keeping; dividing by less could overflow. */
#define SIZE_MIN 1e-30f

/* splitmix64: the flips must be the same for ever, since codes on disk depend on them. */
static uint64_t next_flips(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t x = *state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void mly_kern_rotation_init(struct mly_kern_rotation *rotation, size_t dim)
{
    uint64_t state = 0x6d656d616c6c6f79u;
    rotation->dim = dim;
    rotation->width = MLY_KERN_CODE_WIDTH(dim);
    for (size_t round = 0; round < MLY_KERN_ROTATION_ROUNDS; round++) {
        for (size_t word = 0; word < MLY_KERN_CODE_DIM_MAX / WORD; word++) {
            rotation->flips[round][word] = next_flips(&state);
        }
    }
}

/* The sign bits of four numbers. */
#define SIGNS(a, b, c, d)                                                                          \
    {(uint32_t)(a) << 31, (uint32_t)(b) << 31, (uint32_t)(c) << 31, (uint32_t)(d) << 31}
static const uint32_t signs_of[16][4] = {
    SIGNS(0, 0, 0, 0), SIGNS(1, 0, 0, 0), SIGNS(0, 1, 0, 0), SIGNS(1, 1, 0, 0),
    SIGNS(0, 0, 1, 0), SIGNS(1, 0, 1, 0), SIGNS(0, 1, 1, 0), SIGNS(1, 1, 1, 0),
    SIGNS(0, 0, 0, 1), SIGNS(1, 0, 0, 1), SIGNS(0, 1, 0, 1), SIGNS(1, 1, 0, 1),
    SIGNS(0, 0, 1, 1), SIGNS(1, 0, 1, 1), SIGNS(0, 1, 1, 1), SIGNS(1, 1, 1, 1),
};

/* As words of 64 bits: what compilers make of four words of 32 is slow. */
static void flip(float *x, size_t n, const uint64_t *flips)
{
    for (size_t i = 0; i < n; i += 4) {
        uint64_t pairs[2], signs[2];
        memcpy(signs, signs_of[flips[i / WORD] >> (i % WORD) & 15u], sizeof(signs));
        memcpy(pairs, x + i, sizeof(pairs));
        pairs[0] ^= signs[0];
        pairs[1] ^= signs[1];
        memcpy(x + i, pairs, sizeof(pairs));
    }
}

/* (a, b) becomes (a + b, a - b). */
static void butterflies(float *restrict a, float *restrict b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float sum = a[i] + b[i], difference = a[i] - b[i];
        a[i] = sum;
        b[i] = difference;
    }
}

/* The first two rounds of a Hadamard transform: pairs 1 and then 2 apart. */
static void hadamard_fours(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        const float a = x[i] + x[i + 1], b = x[i] - x[i + 1];
        const float c = x[i + 2] + x[i + 3], d = x[i + 2] - x[i + 3];
        x[i] = a + c;
        x[i + 1] = b + d;
        x[i + 2] = a - c;
        x[i + 3] = b - d;
    }
}

/* Two rounds at once: pairs half and then 2 * half apart. */
static void butterflies_twice(float *restrict x, size_t half)
{
    float *restrict a = x, *restrict b = x + half, *restrict c = b + half, *restrict d = c + half;
    for (size_t i = 0; i < half; i++) {
        const float sum_0 = a[i] + b[i], less_0 = a[i] - b[i];
        const float sum_1 = c[i] + d[i], less_1 = c[i] - d[i];
        a[i] = sum_0 + sum_1;
        b[i] = less_0 + less_1;
        c[i] = sum_0 - sum_1;
        d[i] = less_0 - less_1;
    }
}

/* n: a power of two, 64 or more. */
static void hadamard(float *x, size_t n)
{
    size_t half = 4;
    hadamard_fours(x, n);
    for (; 4 * half <= n; half *= 4) {
        for (size_t i = 0; i < n; i += 4 * half) {
            butterflies_twice(x + i, half);
        }
    }
    if (half < n) butterflies(x, x + half, half);
}

static void scale_by(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] * factor;
    }
}

/* Random signs and a Hadamard transform spread what stands in one number over all. Where the width
 * is no power of two the transform covers its beginning and its end in turn, and half way the two
 * halves are mixed (behind every round it would leave some inputs uneven); what the transform grows
 * by is taken back at once. */
void mly_kern_rotate(const struct mly_kern_rotation *rotation, const float *x, float *out)
{
    const size_t dim = rotation->dim, width = rotation->width;
    size_t block = WORD;
    while (block * 2 <= width) {
        block *= 2;
    }
    const float shrink = 1.0f / sqrtf((float)block);
    memcpy(out, x, dim * sizeof(x[0]));
    memset(out + dim, 0, (width - dim) * sizeof(out[0]));
    for (size_t round = 0; round < MLY_KERN_ROTATION_ROUNDS; round++) {
        float *part = round % 2 == 0 ? out : out + (width - block);
        flip(out, width, rotation->flips[round]);
        hadamard(part, block);
        scale_by(part, block, shrink);
        if (round == 1 && block < width) {
            butterflies(out, out + width / 2, width / 2);
            scale_by(out, width, 0.707106781f);
        }
    }
}

static float fold(const float lanes[KERN_LANES])
{
    float sums[KERN_LANES];
    memcpy(sums, lanes, sizeof(sums));
    for (size_t half = KERN_LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) {
            sums[lane] += sums[lane + half];
        }
    }
    return sums[0];
}

void mly_kern_code_make(const float *x, const float *centroid, size_t width, uint8_t *code,
                        float *factor, float *offset)
{
    float squares[KERN_LANES] = {0}, sizes[KERN_LANES] = {0};
    float products[KERN_LANES] = {0}, signs[KERN_LANES] = {0};
    memset(code, 0, width / 8);
    for (size_t i = 0; i < width; i += KERN_LANES) {
        uint32_t bits = 0;
        for (size_t lane = 0; lane < KERN_LANES; lane++) {
            const float c = centroid[i + lane], rest = x[i + lane] - c;
            squares[lane] += rest * rest;
            sizes[lane] += fabsf(rest);
            products[lane] += rest * c;
            signs[lane] += rest > 0.0f ? c : -c;
        }
        for (size_t lane = 0; lane < KERN_LANES; lane++) {
            bits |= (uint32_t)(x[i + lane] - centroid[i + lane] > 0.0f) << lane;
        }
        code[i / 8] = (uint8_t)bits;
        code[i / 8 + 1] = (uint8_t)(bits >> 8);
    }
    const float size = fold(sizes);
    *factor = size > 0.0f ? fold(squares) / size : 0.0f;
    const float taken = *factor * fold(signs);
    *offset = fold(products) - taken;
}

void mly_kern_block_clear(uint8_t *block, size_t width)
{
    const struct mly_kern_code_numbers none = MLY_KERN_NO_CODE;
    memset(block, 0, MLY_KERN_BLOCK_BYTES(width));
    uint8_t *offsets = block + width * 2 + MLY_KERN_BLOCK_CODES * sizeof(uint16_t);
    for (size_t place = 0; place < MLY_KERN_BLOCK_CODES; place++) {
        memcpy(offsets + place * sizeof(uint16_t), &none.offset, sizeof(uint16_t));
    }
}

void mly_kern_block_put(uint8_t *block, size_t width, size_t place, const uint8_t *code,
                        struct mly_kern_code_numbers numbers)
{
    for (size_t byte = 0; byte < width / 8; byte++) {
        block[byte * MLY_KERN_BLOCK_CODES + place] = code[byte];
    }
    uint8_t *factors = block + width * 2;
    uint8_t *offsets = factors + MLY_KERN_BLOCK_CODES * sizeof(uint16_t);
    memcpy(factors + place * sizeof(uint16_t), &numbers.factor, sizeof(uint16_t));
    memcpy(offsets + place * sizeof(uint16_t), &numbers.offset, sizeof(uint16_t));
}

struct mly_kern_code_numbers mly_kern_block_get(const uint8_t *block, size_t width, size_t place,
                                                uint8_t *code)
{
    struct mly_kern_code_numbers numbers;
    for (size_t byte = 0; byte < width / 8; byte++) {
        code[byte] = block[byte * MLY_KERN_BLOCK_CODES + place];
    }
    const uint8_t *factors = block + width * 2;
    const uint8_t *offsets = factors + MLY_KERN_BLOCK_CODES * sizeof(uint16_t);
    memcpy(&numbers.factor, factors + place * sizeof(uint16_t), sizeof(uint16_t));
    memcpy(&numbers.offset, offsets + place * sizeof(uint16_t), sizeof(uint16_t));
    return numbers;
}

static float largest(const float *x, size_t n)
{
    float lanes[KERN_LANES] = {0}, most = 0.0f;
    size_t i = 0;
    for (; i + KERN_LANES <= n; i += KERN_LANES) {
        for (size_t lane = 0; lane < KERN_LANES; lane++) {
            const float size = fabsf(x[i + lane]);
            lanes[lane] = size > lanes[lane] ? size : lanes[lane];
        }
    }
    for (; i < n; i++) {
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    for (size_t lane = 0; lane < KERN_LANES; lane++) {
        most = lanes[lane] > most ? lanes[lane] : most;
    }
    return most;
}

/* To the nearest integer, ties to even. value: below 2^21 in size. */
static int32_t to_integer(float value)
{
    const float rounded = value + KERN_ROUND, zero = KERN_ROUND;
    int32_t bits, bits_of_zero;
    memcpy(&bits, &rounded, sizeof(bits));
    memcpy(&bits_of_zero, &zero, sizeof(bits_of_zero));
    return bits - bits_of_zero;
}

/* Not-a-number becomes the least. */
static float clamp(float value, float least, float most)
{
    const float at_least = value > least ? value : least;
    return at_least < most ? at_least : most;
}

void mly_kern_quantize_f32_s8(const float *x, size_t n, int8_t *q, float *scale)
{
    const float most = largest(x, n);
    const bool is_zero = most <= SIZE_MIN;
    const float factor = is_zero ? 0.0f : 127.0f / most;
    *scale = is_zero ? 0.0f : most / 127.0f;
    for (size_t i = 0; i < n; i++) {
        q[i] = (int8_t)to_integer(clamp(x[i] * factor, -127.0f, 127.0f));
    }
}

/* What four bits of a code add: for each of their 16 values the sum of what each bit adds, four
 * values in a word (none is above 60). */
static void fill_table(const uint32_t *levels, uint8_t *table)
{
    const uint32_t a[2] = {LEVEL_MAX - levels[0], levels[0]};
    const uint32_t b[2] = {LEVEL_MAX - levels[1], levels[1]};
    const uint32_t c[2] = {LEVEL_MAX - levels[2], levels[2]};
    const uint32_t d[2] = {LEVEL_MAX - levels[3], levels[3]};
    const uint32_t low =
        (a[0] + b[0]) | (a[1] + b[0]) << 8 | (a[0] + b[1]) << 16 | (a[1] + b[1]) << 24;
    for (size_t high = 0; high < 4; high++) {
        const uint32_t four = low + (c[high & 1] + d[high >> 1]) * 0x01010101u;
        memcpy(table + 4 * high, &four, sizeof(four));
    }
}

void mly_kern_query_make(const float *query, size_t width, uint8_t *tables,
                         struct mly_kern_code_query *out)
{
    const float most = largest(query, width);
    const bool is_zero = most <= SIZE_MIN;
    const float factor = is_zero ? 0.0f : (float)LEVEL_MAX / most;
    for (size_t i = 0; i < width; i += 4) {
        uint32_t levels[4];
        for (size_t j = 0; j < 4; j++) {
            const float place = (query[i + j] * factor + (float)LEVEL_MAX) * 0.5f;
            levels[j] = (uint32_t)to_integer(clamp(place, 0.0f, (float)LEVEL_MAX));
        }
        fill_table(levels, tables + (i / 4 % 2 * (width / 8) + i / 8) * 16);
    }
    const float step = is_zero ? 0.0f : most / (float)LEVEL_MAX;
    *out = (struct mly_kern_code_query){.tables = tables, .step = step, .width = width};
}

uint16_t mly_kern_half_from_f32(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const uint32_t sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (size == 0x7f800000u) return (uint16_t)(sign | 0x7c00u);
    if (size >= 0x477ff000u) return (uint16_t)(sign | 0x7bffu); /* would round to 2^16 */
    if (size < 0x38800000u) {
        float magnitude; /* below 2^-14: a whole number of 2^-24 */
        memcpy(&magnitude, &size, sizeof(magnitude));
        return (uint16_t)(sign | (uint32_t)to_integer(magnitude * 0x1p24f));
    }
    const uint32_t odd = size >> 13 & 1u;
    return (uint16_t)(sign | ((size - 0x38000000u + 0xfffu + odd) >> 13));
}

float mly_kern_f32_from_half(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, size = half & 0x7fffu;
    uint32_t bits = sign;
    if (size >= 0x7c00u) {
        bits |= 0x7f800000u | (size & 0x3ffu) << 13;
    } else if (size >= 0x400u) {
        bits |= (size << 13) + 0x38000000u;
    } else {
        const float small = (float)size * 0x1p-24f;
        uint32_t raw;
        memcpy(&raw, &small, sizeof(raw));
        bits |= raw;
    }
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}
