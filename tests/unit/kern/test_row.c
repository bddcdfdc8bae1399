/* Every set against the definition, bit for bit; the definition against doubles. */
#include "kern_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const size_t widths[] = {16, 32, 48, 64, 112, 384, 400, 768, 1536};
#define WIDTHS (sizeof(widths) / sizeof(widths[0]))

static void dot_is_near_the_exact_sum(void **state)
{
    (void)state;
    struct numbers numbers = {101};
    float a[777], b[777];
    fill_floats(&numbers, a, 777, 1.0f);
    fill_floats(&numbers, b, 777, 1.0f);
    for (size_t n = 1; n <= 777; n += 1 + n / 40) {
        double sum = 0.0, size = 0.0;
        for (size_t i = 0; i < n; i++) {
            sum += (double)a[i] * (double)b[i];
            size += fabs((double)a[i] * (double)b[i]);
        }
        const double got = (double)mly_kern_pick("scalar")->dot_f32(a, b, n);
        assert_true(fabs(got - sum) <= size * 60.0 * 6e-8);
    }
}

static void dot_and_scores_have_equal_bits_at_every_width_and_alignment(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    struct numbers numbers = {102};
    enum { ROWS = 11, DIM_MAX = 1030 };
    float *block = room((ROWS + 1) * DIM_MAX * sizeof(float) + 64);
    for (size_t dim = 1; dim <= DIM_MAX; dim += dim < 70 ? 1 : 41) {
        for (size_t offset = 0; offset < 2; offset++) { /* in floats: 4-byte alignment only */
            float *query = block + offset, *rows = query + dim, wanted[ROWS], got[ROWS];
            fill_floats(&numbers, query, (ROWS + 1) * dim, 2.0f);
            for (size_t row = 0; row < ROWS; row++) {
                wanted[row] = scalar->dot_f32(query, rows + row * dim, dim);
            }
            for (size_t s = 0; s < count; s++) {
                for (size_t n = 0; n <= ROWS; n++) {
                    memset(got, 0, sizeof(got));
                    sets[s]->scores_f32(query, rows, n, dim, got);
                    same_floats("scores", sets[s]->name, 102, wanted, got, n);
                    for (size_t row = n; row < ROWS; row++) {
                        assert_true(got[row] == 0.0f);
                    }
                }
                got[0] = sets[s]->dot_f32(query, rows, dim);
                same_floats("dot", sets[s]->name, 102, wanted, got, 1);
            }
        }
    }
    free(block);
}

enum { NORM_ROWS = 6 }; /* sets take up to four side by side */

static void normalised_rows_have_equal_bits(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    struct numbers numbers = {103};
    static float x[NORM_ROWS * 1536], wanted[NORM_ROWS * 1536], got[NORM_ROWS * 1536];
    float weight[1536], bias[1536];
    for (size_t w = 0; w < NORM_ROWS * WIDTHS; w++) {
        const size_t n = widths[w / NORM_ROWS], rows = w % NORM_ROWS + 1;
        fill_floats(&numbers, x, rows * n, w / NORM_ROWS % 2 == 0 ? 3.0f : 1e-6f);
        fill_floats(&numbers, weight, n, 2.0f);
        fill_floats(&numbers, bias, n, 0.5f);
        memcpy(wanted, x, rows * n * sizeof(float));
        scalar->layer_norm_f32(wanted, rows, weight, bias, n, 1e-12f);
        double mean = 0.0, variance = 0.0;
        for (size_t i = 0; i < n; i++) {
            mean += (double)x[i] / (double)n;
        }
        for (size_t i = 0; i < n; i++) {
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
        }
        for (size_t i = 0; i < n; i++) {
            const double y = ((double)x[i] - mean) / sqrt(variance + 1e-12) * (double)weight[i] +
                             (double)bias[i];
            assert_true(fabs(y - (double)wanted[i]) < 2e-5);
        }
        for (size_t s = 0; s < count; s++) {
            memcpy(got, x, rows * n * sizeof(float));
            sets[s]->layer_norm_f32(got, rows, weight, bias, n, 1e-12f);
            same_floats("layer_norm", sets[s]->name, 103, wanted, got, rows * n);
        }
    }
}

static void check_quantised(const struct mly_kern *kern, const float *x, size_t n, const float *low)
{
    const struct mly_kern *scalar = mly_kern_pick("scalar");
    uint8_t wanted[1536], got[1536];
    float scales[2], lows[2] = {0, 0};
    if (low == NULL) {
        scalar->quantize_f32_u8(x, NULL, n, wanted, &scales[0], &lows[0]);
        kern->quantize_f32_u8(x, NULL, n, got, &scales[1], &lows[1]);
    } else {
        scalar->quantize_from_f32_u8(x, n, *low, wanted, &scales[0]);
        kern->quantize_from_f32_u8(x, n, *low, got, &scales[1]);
        lows[0] = lows[1] = *low;
    }
    same_floats("scale of quantize", kern->name, 104, &scales[0], &scales[1], 1);
    same_floats("low of quantize", kern->name, 104, &lows[0], &lows[1], 1);
    assert_memory_equal(wanted, got, n);
    for (size_t i = 0; i < n; i++) {
        const double back = (double)wanted[i] * (double)scales[0] + (double)lows[0];
        const double value = x[i] > lows[0] ? (double)x[i] : (double)lows[0];
        assert_true(fabs(back - value) <= (double)scales[0] * 0.5001 + 1e-18);
    }
}

static void quantised_rows_have_equal_bytes_and_lose_half_a_step(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    struct numbers numbers = {104};
    float x[1536];
    const float from = MLY_KERN_GELU_MIN;
    for (size_t w = 0; w < WIDTHS; w++) {
        for (size_t s = 0; s < count; s++) {
            fill_floats(&numbers, x, widths[w], 5.0f);
            check_quantised(sets[s], x, widths[w], NULL);
            check_quantised(sets[s], x, widths[w], &from);
            for (size_t i = 0; i < widths[w]; i++) { /* exact halves: ties go to even */
                x[i] = (float)(next_bits(&numbers) % 511) / 2.0f;
            }
            x[0] = 0.0f;
            x[1] = 255.0f;
            check_quantised(sets[s], x, widths[w], NULL);
            for (size_t i = 0; i < widths[w]; i++) { /* no range at all */
                x[i] = i % 2 == 0 ? 0.0f : -0.0f;
            }
            check_quantised(sets[s], x, widths[w], NULL);
            check_quantised(sets[s], x, widths[w], &from);
        }
    }
}

static void rows_may_be_scaled_before_they_are_quantised(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    struct numbers numbers = {106};
    float x[1536], factor[1536], y[1536];
    uint8_t wanted[1536], got[1536];
    for (size_t w = 0; w < WIDTHS; w++) {
        float scales[2], lows[2];
        fill_floats(&numbers, x, widths[w], 4.0f);
        fill_floats(&numbers, factor, widths[w], 2.0f);
        for (size_t i = 0; i < widths[w]; i++) {
            y[i] = x[i] * factor[i];
        }
        scalar->quantize_f32_u8(y, NULL, widths[w], wanted, &scales[0], &lows[0]);
        for (size_t s = 0; s < count; s++) {
            sets[s]->quantize_f32_u8(x, factor, widths[w], got, &scales[1], &lows[1]);
            same_floats("scale of scaled", sets[s]->name, 106, &scales[0], &scales[1], 1);
            same_floats("low of scaled", sets[s]->name, 106, &lows[0], &lows[1], 1);
            assert_memory_equal(wanted, got, widths[w]);
        }
    }
}

static void infinite_and_missing_numbers_stay_within_bytes(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    float x[32];
    uint8_t q[32];
    float scale, low;
    for (size_t s = 0; s < count; s++) {
        for (size_t i = 0; i < 32; i++) {
            x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
        }
        sets[s]->quantize_f32_u8(x, NULL, 32, q, &scale, &low); /* Sanitizers watch. */
        sets[s]->quantize_from_f32_u8(x, 32, 0.0f, q, &scale);
        assert_int_equal(q[0], 0);
    }
}

static void the_small_operations_have_equal_bits(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    struct numbers numbers = {105};
    int8_t bytes[1536];
    float x[1536], base[1536], wanted[1536], got[1536];
    for (size_t w = 0; w < WIDTHS; w++) {
        const size_t n = widths[w];
        fill_bytes(&numbers, bytes, n);
        fill_floats(&numbers, x, n, 3.0f);
        fill_floats(&numbers, base, n, 3.0f);
        for (size_t s = 0; s < count; s++) {
            scalar->dequantize_s8_f32(bytes, 0.0123f, base, n, wanted);
            sets[s]->dequantize_s8_f32(bytes, 0.0123f, base, n, got);
            same_floats("dequantize", sets[s]->name, 105, wanted, got, n);
            scalar->add_f32(x, n, wanted);
            sets[s]->add_f32(x, n, got);
            same_floats("add", sets[s]->name, 105, wanted, got, n);
            scalar->scale_f32(wanted, n, 0.77f);
            sets[s]->scale_f32(got, n, 0.77f);
            same_floats("scale", sets[s]->name, 105, wanted, got, n);
        }
        assert_true(wanted[3] == ((float)bytes[3] * 0.0123f + base[3] + x[3]) * 0.77f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dot_is_near_the_exact_sum),
        cmocka_unit_test(dot_and_scores_have_equal_bits_at_every_width_and_alignment),
        cmocka_unit_test(normalised_rows_have_equal_bits),
        cmocka_unit_test(quantised_rows_have_equal_bytes_and_lose_half_a_step),
        cmocka_unit_test(rows_may_be_scaled_before_they_are_quantised),
        cmocka_unit_test(infinite_and_missing_numbers_stay_within_bytes),
        cmocka_unit_test(the_small_operations_have_equal_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
