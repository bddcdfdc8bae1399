/* Linear layers: the definition against plain arithmetic, every set against the definition. */
#include "kern_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct layer {
    struct mly_kern_linear linear;
    struct mly_kern_rows rows;
    int8_t *panels;
    uint8_t *q;
    float *scale, *sum, *bias, *row_scale, *row_low;
    float *start; /* what the outputs hold before */
    size_t stride;
};

static void make_layer(struct layer *layer, struct numbers *numbers, size_t in, size_t out,
                       size_t count, int extreme)
{
    layer->panels = room(in * out);
    layer->q = room(in * count + 64);
    layer->scale = room(out * sizeof(float));
    layer->sum = room(out * sizeof(float));
    layer->bias = room(out * sizeof(float));
    layer->row_scale = room(count * sizeof(float) + 4);
    layer->row_low = room(count * sizeof(float) + 4);
    layer->stride = out + 3; /* rows of outputs need not touch */
    layer->start = room((count + 1) * layer->stride * sizeof(float));
    fill_bytes(numbers, layer->panels, in * out);
    fill_bytes(numbers, layer->q, in * count);
    if (extreme != 0) {
        memset(layer->panels, extreme > 0 ? 127 : -127, in * out);
        memset(layer->q, 255, in * count);
    }
    fill_floats(numbers, layer->scale, out, 0.003f);
    fill_floats(numbers, layer->sum, out, 1.0f);
    fill_floats(numbers, layer->bias, out, 1.0f);
    fill_floats(numbers, layer->row_scale, count, 0.02f);
    fill_floats(numbers, layer->row_low, count, 2.0f);
    fill_floats(numbers, layer->start, (count + 1) * layer->stride, 1.0f);
    layer->linear =
        (struct mly_kern_linear){layer->panels, layer->scale, layer->sum, layer->bias, in, out};
    layer->rows = (struct mly_kern_rows){layer->q, layer->row_scale, layer->row_low, count, in};
}

static void free_layer(struct layer *layer)
{
    free(layer->panels);
    free(layer->q);
    free(layer->scale);
    free(layer->sum);
    free(layer->bias);
    free(layer->row_scale);
    free(layer->row_low);
    free(layer->start);
}

/* The exact integer sum, from the drawing in kern.h. */
static int64_t exact_sum(const struct layer *layer, size_t row, size_t o)
{
    const size_t in = layer->linear.in;
    int64_t sum = 0;
    for (size_t i = 0; i < in; i++) {
        const size_t at = ((o / 64 * (in / 4) + i / 4) * 64 + o % 64) * 4 + i % 4;
        sum += (int64_t)layer->q[row * in + i] * layer->panels[at];
    }
    return sum;
}

static void compare_sets(const struct layer *layer, uint64_t seed)
{
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    const size_t floats = (layer->rows.count + 1) * layer->stride;
    float *wanted = room(floats * sizeof(float)), *got = room(floats * sizeof(float));
    for (size_t s = 0; s < count; s++) {
        memcpy(wanted, layer->start, floats * sizeof(float));
        memcpy(got, layer->start, floats * sizeof(float));
        scalar->linear_u8s8_f32(&layer->rows, &layer->linear, wanted, layer->stride);
        sets[s]->linear_u8s8_f32(&layer->rows, &layer->linear, got, layer->stride);
        same_floats("linear", sets[s]->name, seed, wanted, got, floats);
        scalar->linear_add_u8s8_f32(&layer->rows, &layer->linear, wanted, layer->stride);
        sets[s]->linear_add_u8s8_f32(&layer->rows, &layer->linear, got, layer->stride);
        same_floats("linear_add", sets[s]->name, seed, wanted, got, floats);
        scalar->linear_gelu_u8s8_f32(&layer->rows, &layer->linear, wanted, layer->stride);
        sets[s]->linear_gelu_u8s8_f32(&layer->rows, &layer->linear, got, layer->stride);
        same_floats("linear_gelu", sets[s]->name, seed, wanted, got, floats);
    }
    free(wanted);
    free(got);
}

static void the_definition_is_the_formula(void **state)
{
    (void)state;
    struct numbers numbers = {201};
    struct layer layer;
    make_layer(&layer, &numbers, 128, 192, 7, 0);
    float *out = room(8 * layer.stride * sizeof(float));
    float *with = room(8 * layer.stride * sizeof(float));
    const struct mly_kern *scalar = mly_kern_pick("scalar");
    scalar->linear_u8s8_f32(&layer.rows, &layer.linear, out, layer.stride);
    scalar->linear_gelu_u8s8_f32(&layer.rows, &layer.linear, with, layer.stride);
    for (size_t row = 0; row < 7; row++) {
        for (size_t o = 0; o < 192; o++) {
            const double y = (double)exact_sum(&layer, row, o) * (double)layer.scale[o] *
                                 (double)layer.row_scale[row] +
                             (double)layer.sum[o] * (double)layer.row_low[row] +
                             (double)layer.bias[o];
            assert_true(fabs(y - (double)out[row * layer.stride + o]) < 1e-4);
            const double gelu = y * 0.5 * (1.0 + erf(y / sqrt(2.0)));
            assert_true(fabs(gelu - (double)with[row * layer.stride + o]) < 2e-3);
            assert_true(with[row * layer.stride + o] >= MLY_KERN_GELU_MIN);
        }
    }
    free(out);
    free(with);
    free_layer(&layer);
}

static void gelu_is_within_its_bound_everywhere(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    struct numbers numbers = {202};
    struct layer layer;
    make_layer(&layer, &numbers, 64, 64, 1, 0);
    memset(layer.panels, 0, 64 * 64); /* y is the bias */
    layer.row_low[0] = 0.0f;
    double worst = 0.0;
    for (size_t s = 0; s < count; s++) {
        for (float x = -12.0f; x < 12.0f; x += 0.04f) {
            float out[64];
            for (size_t o = 0; o < 64; o++) {
                layer.bias[o] = x + 0.04f * (float)o / 64.0f;
            }
            sets[s]->linear_gelu_u8s8_f32(&layer.rows, &layer.linear, out, 64);
            for (size_t o = 0; o < 64; o++) {
                const double y = (double)layer.bias[o];
                const double off = fabs(y * 0.5 * (1.0 + erf(y / sqrt(2.0))) - (double)out[o]);
                worst = off > worst ? off : worst;
                assert_true(out[o] >= MLY_KERN_GELU_MIN);
            }
        }
    }
    print_message("gelu is off by %.2e at most\n", worst);
    assert_true(worst < 1.7e-3);
    free_layer(&layer);
}

static void all_sets_have_equal_bits_at_every_row_count(void **state)
{
    (void)state;
    struct numbers numbers = {203};
    for (size_t count = 0; count <= 110; count += count < 20 ? 1 : 9) { /* sets work in blocks */
        struct layer layer;
        make_layer(&layer, &numbers, count % 2 == 0 ? 64 : 192, 128, count, 0);
        compare_sets(&layer, 203);
        free_layer(&layer);
    }
}

static void all_sets_have_equal_bits_at_the_shapes_of_models(void **state)
{
    (void)state;
    static const size_t shapes[][2] = {{384, 1152}, {384, 384}, {384, 1536}, {1536, 384},
                                       {768, 64},   {320, 64},  {4096, 64}};
    struct numbers numbers = {204};
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct layer layer;
        make_layer(&layer, &numbers, shapes[i][0], shapes[i][1], 13, 0);
        compare_sets(&layer, 204);
        free_layer(&layer);
    }
}

static void the_largest_sums_are_exact(void **state)
{
    (void)state;
    struct numbers numbers = {205};
    for (int extreme = -1; extreme <= 1; extreme += 2) {
        struct layer layer;
        make_layer(&layer, &numbers, MLY_KERN_IN_MAX, 64, 2, extreme);
        layer.scale[0] = layer.row_scale[0] = 1.0f;
        layer.row_low[0] = 0.0f;
        layer.bias[0] = 0.0f;
        compare_sets(&layer, 205);
        float *out = room(2 * layer.stride * sizeof(float));
        mly_kern_pick(NULL)->linear_u8s8_f32(&layer.rows, &layer.linear, out, layer.stride);
        assert_true(out[0] == (float)(255 * 127 * extreme) * (float)MLY_KERN_IN_MAX);
        free(out);
        free_layer(&layer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definition_is_the_formula),
        cmocka_unit_test(gelu_is_within_its_bound_everywhere),
        cmocka_unit_test(all_sets_have_equal_bits_at_every_row_count),
        cmocka_unit_test(all_sets_have_equal_bits_at_the_shapes_of_models),
        cmocka_unit_test(the_largest_sums_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
