/* Layers in f32 and bf16: the definition against doubles, every set against the definition. */
#include "kern_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct layer {
    size_t in, out, count, stride, out_stride;
    float *panels, *bias, *rows, *start;
    uint16_t *panels_bf16, *rows_bf16;
    struct mly_kern_linear_f32 f32;
    struct mly_kern_linear_bf16 bf16;
};

static float from_bf16(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* A bf16 that is 0 or between 2^-56 and 2^(2 * spread - 56) in size; a quarter are near 1. */
static uint16_t next_bf16(struct numbers *numbers, unsigned spread)
{
    const uint64_t bits = next_bits(numbers);
    const unsigned exponent =
        bits >> 60 < 4 ? 126 : 127 - 56 + (unsigned)(bits >> 32) % (2 * spread + 1);
    if (bits >> 59 == 31) return 0;
    return (uint16_t)((bits >> 20 & 1) << 15 | exponent << 7 | (bits >> 8 & 127));
}

/* spread 0: numbers of size 1. */
static struct layer make_layer(struct numbers *numbers, size_t in, size_t out, size_t count,
                               unsigned spread)
{
    struct layer layer = {in,   out,  count, in + 2, out + 3, NULL, NULL,
                          NULL, NULL, NULL,  NULL,   {0},     {0}};
    layer.panels = room(in * out * sizeof(float));
    layer.panels_bf16 = room(in * out * sizeof(uint16_t));
    layer.bias = room(out * sizeof(float));
    layer.rows = room((count + 1) * layer.stride * sizeof(float));
    layer.rows_bf16 = room((count + 1) * layer.stride * sizeof(uint16_t));
    layer.start = room((count + 1) * layer.out_stride * sizeof(float));
    fill_floats(numbers, layer.panels, in * out, 1.0f);
    fill_floats(numbers, layer.bias, out, 1.0f);
    fill_floats(numbers, layer.rows, count * layer.stride, 2.0f);
    fill_floats(numbers, layer.start, (count + 1) * layer.out_stride, 1.0f);
    const struct mly_kern *scalar = mly_kern_pick("scalar");
    scalar->round_f32_bf16(layer.panels, in * out, layer.panels_bf16);
    scalar->round_f32_bf16(layer.rows, count * layer.stride, layer.rows_bf16);
    for (size_t i = 0; spread > 0 && i < in * out; i++) {
        layer.panels_bf16[i] = next_bf16(numbers, spread);
        layer.panels[i] = next_float(numbers, ldexpf(1.0f, (int)(next_bits(numbers) >> 58) - 32));
    }
    for (size_t i = 0; spread > 0 && i < count * layer.stride; i++) {
        layer.rows_bf16[i] = next_bf16(numbers, spread);
    }
    layer.f32 = (struct mly_kern_linear_f32){layer.panels, layer.bias, in, out};
    layer.bf16 = (struct mly_kern_linear_bf16){layer.panels_bf16, layer.bias, in, out};
    return layer;
}

static void free_layer(struct layer *layer)
{
    free(layer->panels);
    free(layer->panels_bf16);
    free(layer->bias);
    free(layer->rows);
    free(layer->rows_bf16);
    free(layer->start);
}

static void run(const struct mly_kern *kern, const struct layer *layer, bool bf16,
                enum mly_kern_finish finish, float *out)
{
    if (bf16) {
        kern->linear_bf16(layer->rows_bf16, layer->stride, layer->count, &layer->bf16, finish, out,
                          layer->out_stride);
    } else {
        kern->linear_f32(layer->rows, layer->stride, layer->count, &layer->f32, finish, out,
                         layer->out_stride);
    }
}

static void compare_sets(const struct layer *layer, uint64_t seed)
{
    static const char *const names[] = {"linear_f32",  "linear_f32, add",  "linear_f32, gelu",
                                        "linear_bf16", "linear_bf16, add", "linear_bf16, gelu"};
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    const size_t floats = (layer->count + 1) * layer->out_stride;
    float *wanted = room(floats * sizeof(float)), *got = room(floats * sizeof(float));
    for (unsigned part = 0; part < 6; part++) {
        const bool bf16 = part >= 3;
        memcpy(wanted, layer->start, floats * sizeof(float));
        run(scalar, layer, bf16, (enum mly_kern_finish)(part % 3), wanted);
        for (size_t s = 0; s < count; s++) {
            memcpy(got, layer->start, floats * sizeof(float));
            run(sets[s], layer, bf16, (enum mly_kern_finish)(part % 3), got);
            same_floats(names[part], sets[s]->name, seed, wanted, got, floats);
        }
    }
    free(wanted);
    free(got);
}

static double exact(const struct layer *layer, bool bf16, size_t row, size_t o, double *size)
{
    double sum = (double)layer->bias[o];
    *size = fabs(sum);
    for (size_t i = 0; i < layer->in; i++) {
        const size_t at = (o / 64 * layer->in + i) * 64 + o % 64;
        const size_t pair = ((o / 64 * (layer->in / 2) + i / 2) * 64 + o % 64) * 2 + i % 2;
        const float x = bf16 ? from_bf16(layer->rows_bf16[row * layer->stride + i])
                             : layer->rows[row * layer->stride + i];
        const float w = bf16 ? from_bf16(layer->panels_bf16[pair]) : layer->panels[at];
        sum += (double)x * (double)w;
        *size += fabs((double)x * (double)w);
    }
    return sum;
}

static void the_definition_is_the_formula(void **state)
{
    (void)state;
    struct numbers numbers = {301};
    struct layer layer = make_layer(&numbers, 128, 192, 7, 0);
    const size_t floats = 8 * layer.out_stride;
    float *out = room(floats * sizeof(float));
    for (unsigned part = 0; part < 6; part++) {
        const bool bf16 = part >= 3;
        memcpy(out, layer.start, floats * sizeof(float));
        run(mly_kern_pick("scalar"), &layer, bf16, (enum mly_kern_finish)(part % 3), out);
        for (size_t row = 0; row < 7; row++) {
            for (size_t o = 0; o < 192; o++) {
                double size = 0.0, y = exact(&layer, bf16, row, o, &size);
                const size_t at = row * layer.out_stride + o;
                if (part % 3 == 1) y += (double)layer.start[at];
                if (part % 3 == 2) y = y * 0.5 * (1.0 + erf(y / sqrt(2.0)));
                assert_true(fabs(y - (double)out[at]) < 1e-6 + 128 * 6e-8 * size);
            }
        }
    }
    free(out);
    free_layer(&layer);
}

static void gelu_is_good_to_a_millionth_everywhere(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    struct numbers numbers = {302};
    struct layer layer = make_layer(&numbers, 64, 64, 1, 0);
    memset(layer.panels, 0, 64 * 64 * sizeof(float)); /* y is the bias */
    double worst = 0.0;
    for (size_t s = 0; s < count; s++) {
        for (float x = -14.0f; x < 14.0f; x += 0.04f) {
            float out[64];
            for (size_t o = 0; o < 64; o++) {
                layer.bias[o] = x + 0.04f * (float)o / 64.0f;
            }
            run(sets[s], &layer, false, MLY_KERN_GELU, out);
            for (size_t o = 0; o < 64; o++) {
                const double y = (double)layer.bias[o], size = fabs(y) > 1.0 ? fabs(y) : 1.0;
                const double off = fabs(y * 0.5 * (1.0 + erf(y / sqrt(2.0))) - (double)out[o]);
                worst = off / size > worst ? off / size : worst;
            }
        }
    }
    print_message("gelu is off by %.2e at most\n", worst);
    assert_true(worst < 1e-6);
    free_layer(&layer);
}

static void all_sets_have_equal_bits_at_every_row_count(void **state)
{
    (void)state;
    struct numbers numbers = {303};
    for (size_t count = 0; count <= 110; count += count < 20 ? 1 : 9) { /* sets work in blocks */
        struct layer layer = make_layer(&numbers, count % 2 == 0 ? 64 : 192, 128, count, 0);
        compare_sets(&layer, 303);
        free_layer(&layer);
    }
}

static void all_sets_have_equal_bits_at_the_shapes_of_models(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{384, 1152}, {384, 384}, {1536, 384},
                                       {768, 64},   {320, 64},  {4096, 64}};
    struct numbers numbers = {304};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct layer layer = make_layer(&numbers, shapes[i][0], shapes[i][1], 13, 0);
        compare_sets(&layer, 304);
        free_layer(&layer);
    }
}

/* Sums that cancel, that are lost in larger ones, that fall to the smallest there can be. */
static void all_sets_have_equal_bits_for_numbers_of_all_sizes(void **state)
{
    (void)state;
    struct numbers numbers = {305};
    for (unsigned spread = 1; spread <= 56; spread += 5) {
        struct layer layer = make_layer(&numbers, 192, 64, 9, spread);
        memset(layer.bias, 0, 64 * sizeof(float));
        compare_sets(&layer, 305);
        free_layer(&layer);
    }
}

static uint16_t rounded(float x)
{
    if (isnan(x)) return 0x7fc0;
    if (fabsf(x) < MLY_KERN_BF16_MIN) return 0;
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    const uint32_t below = bits & 0xffff0000u;
    if (isinf(x)) return (uint16_t)(below >> 16);
    const uint32_t rest = bits & 0xffffu, odd = below >> 16 & 1;
    const bool up = rest > 0x8000 || (rest == 0x8000 && odd == 1);
    return (uint16_t)((below >> 16) + (up ? 1u : 0u));
}

static void every_float_is_rounded_to_the_nearest(void **state)
{
    (void)state;
    static const uint16_t rests[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x4000, 0xc000};
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    for (size_t s = 0; s < count; s++) {
        for (uint32_t upper = 0; upper <= 0xffff; upper += 2) {
            float x[16];
            uint16_t out[17] = {0};
            for (uint32_t i = 0; i < 16; i++) {
                const uint32_t bits = (upper + i / 8) << 16 | rests[i % 8];
                memcpy(&x[i], &bits, sizeof(bits));
            }
            out[16] = 0xabcd;
            sets[s]->round_f32_bf16(x, 16, out);
            for (size_t i = 0; i < 16; i++) {
                if (out[i] != rounded(x[i])) {
                    fail_msg("set %s rounds %a to %04x, not %04x", sets[s]->name, (double)x[i],
                             out[i], rounded(x[i]));
                }
            }
            assert_int_equal(out[16], 0xabcd);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definition_is_the_formula),
        cmocka_unit_test(gelu_is_good_to_a_millionth_everywhere),
        cmocka_unit_test(all_sets_have_equal_bits_at_every_row_count),
        cmocka_unit_test(all_sets_have_equal_bits_at_the_shapes_of_models),
        cmocka_unit_test(all_sets_have_equal_bits_for_numbers_of_all_sizes),
        cmocka_unit_test(every_float_is_rounded_to_the_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
