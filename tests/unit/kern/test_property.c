/* Every operation of every set against the definition, over drawn sizes, places and numbers: odd
 * counts of rows, pointers aligned to 4 bytes only, rows of equal numbers, of denormal, huge and
 * mixed ones, bytes at both ends. MLY_TEST_SEED picks other draws, MEMALLOY_TEST_LONG more.
 *
 * Where the definition gives a number that is not finite, the others must too; which one is not
 * promised.
 */
#include "kern_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static uint64_t start_seed(void)
{
    const char *text = getenv("MLY_TEST_SEED");
    const uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : 0;
    return seed != 0 ? seed : 401;
}

static size_t rounds(size_t usual)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL ? 100 * usual : usual;
}

static size_t draw(struct numbers *numbers, size_t from, size_t to)
{
    return from + (size_t)((next_bits(numbers) >> 20) % (to - from + 1));
}

/* Floats of one of several kinds. */
static void draw_floats(struct numbers *numbers, float *out, size_t n)
{
    static const float sizes[] = {1.0f, 5.0f, 1e-41f, 1e-20f, 1e12f, 1e30f};
    const size_t kind = draw(numbers, 0, 9);
    const float one = next_float(numbers, 3.0f);
    for (size_t i = 0; i < n; i++) {
        float x = next_float(numbers, sizes[kind < 6 ? kind : 0]);
        if (kind == 6) x = one;                                   /* equal */
        if (kind == 7) x = i % 2 == 0 ? 0.0f : -0.0f;             /* nothing */
        if (kind == 8) x *= exp2f((float)draw(numbers, 0, 40));   /* mixed */
        if (kind == 9 && draw(numbers, 0, 30) == 0) x *= 1000.0f; /* few are far out */
        out[i] = x;
    }
}

static void draw_bytes(struct numbers *numbers, void *out, size_t n, int low, int high)
{
    uint8_t *bytes = out;
    const size_t kind = draw(numbers, 0, 4);
    for (size_t i = 0; i < n; i++) {
        const int inside = low + (int)draw(numbers, 0, (size_t)(high - low));
        const int ends = draw(numbers, 0, 1) == 0 ? low : high;
        bytes[i] = (uint8_t)(kind == 0 ? low : kind == 1 ? high : kind == 2 ? ends : inside);
    }
}

static void same(const char *what, const struct mly_kern *set, uint64_t seed, const float *wanted,
                 const float *got, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (isfinite(wanted[i])) {
            same_floats(what, set->name, seed, wanted + i, got + i, 1);
        } else if (isfinite(got[i])) {
            fail_msg("%s, set %s, seed %llu: number %zu is %a, the definition gives none", what,
                     set->name, (unsigned long long)seed, i, (double)got[i]);
        }
    }
}

struct sets {
    const struct mly_kern *items[SETS_MAX], *scalar;
    size_t count;
};

static struct sets all_sets(void)
{
    struct sets sets = {.scalar = mly_kern_pick("scalar")};
    sets.count = list_sets(sets.items);
    return sets;
}

enum { N_MAX = 2048, PLACES = 4 };

/* The rows' operations on n floats; x, y, z and what is written lie at any multiple of 4 bytes. */
static void compare_row(const struct sets *sets, struct numbers *numbers, uint64_t seed)
{
    static float block[3][N_MAX + PLACES], out[2][N_MAX + PLACES];
    static uint8_t q[2][N_MAX + PLACES];
    const size_t n = 16 * draw(numbers, 1, N_MAX / 16), place = draw(numbers, 0, PLACES - 1);
    float *x = block[0] + place, *y = block[1] + draw(numbers, 0, PLACES - 1), *z = block[2];
    float *wanted = out[0] + place, *got = out[1] + draw(numbers, 0, PLACES - 1), s[2], low[2];
    draw_floats(numbers, x, n);
    draw_floats(numbers, y, n);
    draw_floats(numbers, z, n);
    for (size_t i = 0; i < sets->count; i++) {
        const struct mly_kern *set = sets->items[i], *scalar = sets->scalar;
        const size_t odd = draw(numbers, 1, n);
        s[0] = scalar->dot_f32(x, y, odd);
        s[1] = set->dot_f32(x, y, odd);
        same("dot", set, seed, &s[0], &s[1], 1);
        scalar->dequantize_s8_f32((const int8_t *)(const void *)(x + 1), 0.013f, y, n / 2, wanted);
        set->dequantize_s8_f32((const int8_t *)(const void *)(x + 1), 0.013f, y, n / 2, got);
        same("dequantize", set, seed, wanted, got, n / 2);
        memcpy(wanted, x, n * sizeof(float));
        memcpy(got, x, n * sizeof(float));
        scalar->layer_norm_f32(wanted, 1, y, z, n, 1e-12f);
        set->layer_norm_f32(got, 1, y, z, n, 1e-12f);
        same("layer_norm", set, seed, wanted, got, n);
        memcpy(got, x, n * sizeof(float));
        memcpy(wanted, x, n * sizeof(float));
        scalar->add_f32(y, n, wanted);
        set->add_f32(y, n, got);
        same("add", set, seed, wanted, got, n);
        scalar->scale_f32(wanted, n, z[0]);
        set->scale_f32(got, n, z[0]);
        same("scale", set, seed, wanted, got, n);
        const float *factor = draw(numbers, 0, 1) == 0 ? NULL : y;
        scalar->quantize_f32_u8(x, factor, n, q[0], &s[0], &low[0]);
        set->quantize_f32_u8(x, factor, n, q[1] + place, &s[1], &low[1]);
        same("scale of quantize", set, seed, &s[0], &s[1], 1);
        same("low of quantize", set, seed, &low[0], &low[1], 1);
        if (isfinite(s[0])) assert_memory_equal(q[0], q[1] + place, n);
        scalar->quantize_from_f32_u8(x, n, MLY_KERN_GELU_MIN, q[0], &s[0]);
        set->quantize_from_f32_u8(x, n, MLY_KERN_GELU_MIN, q[1] + place, &s[1]);
        same("scale of quantize_from", set, seed, &s[0], &s[1], 1);
        if (isfinite(s[0])) assert_memory_equal(q[0], q[1] + place, n);
    }
}

static void rows_of_all_sizes_have_equal_bits(void **state)
{
    (void)state;
    const struct sets sets = all_sets();
    const uint64_t seed = start_seed();
    struct numbers numbers = {seed};
    for (size_t left = rounds(300); left > 0; left--) {
        compare_row(&sets, &numbers, seed);
    }
}

typedef void linear_fn(const struct mly_kern_rows *rows, const struct mly_kern_linear *linear,
                       float *out, size_t out_stride);

static void compare_linear(const struct sets *sets, struct numbers *numbers, uint64_t seed)
{
    const size_t in = 64 * draw(numbers, 1, draw(numbers, 0, 9) == 0 ? 32 : 8);
    const size_t out = 64 * draw(numbers, 1, 3), count = draw(numbers, 1, 60);
    const size_t stride = in + draw(numbers, 0, 40), floats = count * (out + 1);
    int8_t *panels = room(in * out);
    uint8_t *q = room(count * stride + PLACES), *rows_q = q + draw(numbers, 0, PLACES - 1);
    float *each = room((3 * out + 2 * count + PLACES) * sizeof(float));
    float *scale = each + draw(numbers, 0, PLACES - 1);
    float *start = room(floats * sizeof(float)), *wanted = room(floats * sizeof(float));
    float *got = room((floats + PLACES) * sizeof(float)), *result = got + draw(numbers, 0, 3);
    draw_bytes(numbers, panels, in * out, -127, 127);
    draw_bytes(numbers, rows_q, count * stride, 0, 255);
    draw_floats(numbers, scale, 3 * out);
    draw_floats(numbers, scale + 3 * out, 2 * count);
    draw_floats(numbers, start, floats);
    const struct mly_kern_linear linear = {panels, scale, scale + out, scale + 2 * out, in, out};
    const struct mly_kern_rows rows = {rows_q, scale + 3 * out, scale + 3 * out + count, count,
                                       stride};
    for (size_t i = 0; i < sets->count; i++) {
        linear_fn *const ours[] = {sets->items[i]->linear_u8s8_f32,
                                   sets->items[i]->linear_add_u8s8_f32,
                                   sets->items[i]->linear_gelu_u8s8_f32};
        linear_fn *const theirs[] = {sets->scalar->linear_u8s8_f32,
                                     sets->scalar->linear_add_u8s8_f32,
                                     sets->scalar->linear_gelu_u8s8_f32};
        for (size_t op = 0; op < 3; op++) {
            memcpy(wanted, start, floats * sizeof(float));
            memcpy(result, start, floats * sizeof(float));
            theirs[op](&rows, &linear, wanted, out + 1);
            ours[op](&rows, &linear, result, out + 1);
            same("linear", sets->items[i], seed, wanted, result, floats);
        }
    }
    free(panels);
    free(q);
    free(each);
    free(start);
    free(wanted);
    free(got);
}

static void layers_of_all_sizes_have_equal_bits(void **state)
{
    (void)state;
    const struct sets sets = all_sets();
    const uint64_t seed = start_seed();
    struct numbers numbers = {seed + 1};
    for (size_t left = rounds(40); left > 0; left--) {
        compare_linear(&sets, &numbers, seed);
    }
}

static void compare_attention(const struct sets *sets, struct numbers *numbers, uint64_t seed)
{
    const size_t head_dim = 16 * draw(numbers, 1, 6), tokens = draw(numbers, 1, 150);
    const size_t stride = 3 * head_dim + draw(numbers, 0, 9), out_stride = head_dim + 1;
    const size_t floats = tokens * out_stride;
    float *block = room((tokens * stride + PLACES) * sizeof(float));
    float *q = block + draw(numbers, 0, PLACES - 1);
    float *scratch = room(MLY_KERN_ATTENTION_FLOATS(tokens, head_dim) * sizeof(float));
    void *bytes = room(MLY_KERN_ATTENTION_S8_BYTES(tokens, head_dim));
    float *wanted = room(floats * sizeof(float)), *got = room(floats * sizeof(float));
    for (size_t t = 0; t < tokens; t++) { /* each row of a kind of its own */
        float *row = q + t * stride;
        fill_floats(numbers, row, 3 * head_dim, 2.0f);
        if (draw(numbers, 0, 3) == 0) draw_floats(numbers, row, 3 * head_dim);
        for (size_t i = 0; i < 3 * head_dim; i++) { /* Scores that are no numbers have no order. */
            if (fabsf(row[i]) > 1e15f) row[i] *= 1e-18f;
        }
    }
    const float *k = q + head_dim, *v = k + head_dim;
    for (size_t i = 0; i < sets->count; i++) {
        const struct mly_kern *set = sets->items[i], *scalar = sets->scalar;
        scalar->attention_f32(q, k, v, stride, tokens, head_dim, scratch, wanted, out_stride);
        set->attention_f32(q, k, v, stride, tokens, head_dim, scratch, got, out_stride);
        same("attention", set, seed, wanted, got, floats);
        scalar->attention_s8(q, k, v, stride, tokens, head_dim, bytes, wanted, out_stride);
        set->attention_s8(q, k, v, stride, tokens, head_dim, bytes, got, out_stride);
        same("attention in integers", set, seed, wanted, got, floats);
    }
    free(block);
    free(scratch);
    free(bytes);
    free(wanted);
    free(got);
}

static void attention_of_all_sizes_has_equal_bits(void **state)
{
    (void)state;
    const struct sets sets = all_sets();
    const uint64_t seed = start_seed();
    struct numbers numbers = {seed + 2};
    for (size_t left = rounds(40); left > 0; left--) {
        compare_attention(&sets, &numbers, seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_all_sizes_have_equal_bits),
        cmocka_unit_test(layers_of_all_sizes_have_equal_bits),
        cmocka_unit_test(attention_of_all_sizes_has_equal_bits),
    };
    print_message("seed %llu\n", (unsigned long long)start_seed());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
