/* The rounding of weights: inputs depend on each other, as a model's do, and are not centred. */
#include "embed/quantise/gptq.h"

#include "fault_env.h"
#include "mly_cmocka.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define IN 128
#define OUT 64
#define ROWS 2000
#define SOURCES 24

static uint8_t q[ROWS][IN];
static float scale[ROWS], low[ROWS], weights[OUT][IN], bias[OUT];
static const struct mly_kern_rows inputs = {q[0], scale, low, ROWS, IN};

static uint64_t state = 5;
static float next_float(void)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(state >> 40) / 8388608.0f - 1.0f;
}

static int make_layer(void **context)
{
    static float mix[SOURCES][IN];
    const struct mly_kern *kern = mly_kern_pick("scalar");
    (void)context;
    for (size_t i = 0; i < SOURCES * IN; i++) {
        mix[i / IN][i % IN] = next_float();
    }
    for (size_t row = 0; row < ROWS; row++) {
        float x[IN], from[SOURCES];
        for (size_t s = 0; s < SOURCES; s++) {
            from[s] = next_float();
        }
        for (size_t i = 0; i < IN; i++) {
            x[i] = 1.0f + 0.2f * next_float();
            for (size_t s = 0; s < SOURCES; s++) {
                x[i] += from[s] * mix[s][i];
            }
        }
        kern->quantize_f32_u8(x, NULL, IN, q[row], &scale[row], &low[row]);
    }
    for (size_t o = 0; o < OUT; o++) {
        bias[o] = next_float();
        for (size_t i = 0; i < IN; i++) {
            weights[o][i] = next_float();
        }
    }
    return 0;
}

struct rounded {
    int8_t stored[OUT][IN];
    float scale[OUT], sum[OUT], bias[OUT];
};

static struct rounded round_layer(const struct mly_kern_rows *rows, enum mly_err wanted)
{
    static struct rounded made;
    struct fault_env fault;
    struct mly_error err = {0};
    fault_env_init(&fault);
    struct mly_workshop workshop = {&fault.env, mly_kern_pick("scalar"), NULL};
    assert_int_equal(mly_pool_create(&fault.env, 2, &workshop.pool, &err), MLY_OK);
    const struct mly_gptq_layer layer = {weights[0], bias, IN, OUT};
    const struct mly_gptq_result result = {made.stored[0], made.scale, made.sum, made.bias};
    assert_int_equal(mly_gptq_round(&workshop, &layer, rows, &result, &err), wanted);
    mly_pool_destroy(workshop.pool);
    assert_int_equal(fault.mem.live, 0);
    return made;
}

static struct rounded round_to_nearest(void)
{
    static struct rounded made;
    for (size_t o = 0; o < OUT; o++) {
        float most = 0.0f;
        double sum = 0.0;
        for (size_t i = 0; i < IN; i++) {
            most = fabsf(weights[o][i]) > most ? fabsf(weights[o][i]) : most;
        }
        made.scale[o] = most / 127.0f;
        made.bias[o] = bias[o];
        for (size_t i = 0; i < IN; i++) {
            made.stored[o][i] = (int8_t)lrintf(weights[o][i] / made.scale[o]);
            sum += (double)made.stored[o][i];
        }
        made.sum[o] = (float)(sum * (double)made.scale[o]);
    }
    return made;
}

/* The outputs' mean squared error, and the largest mean error of an output. */
static double error_of(const struct rounded *made, double *mean_most)
{
    double total = 0.0;
    *mean_most = 0.0;
    for (size_t o = 0; o < OUT; o++) {
        double mean = 0.0;
        for (size_t row = 0; row < ROWS; row++) {
            double wanted = (double)bias[o], sum = 0.0;
            for (size_t i = 0; i < IN; i++) {
                const double steps = (double)q[row][i];
                wanted += (steps * (double)scale[row] + (double)low[row]) * (double)weights[o][i];
                sum += steps * (double)made->stored[o][i];
            }
            const double got = sum * (double)made->scale[o] * (double)scale[row] +
                               ((double)made->sum[o] * (double)low[row] + (double)made->bias[o]);
            mean += (got - wanted) / ROWS;
            total += (got - wanted) * (got - wanted);
        }
        *mean_most = fabs(mean) > *mean_most ? fabs(mean) : *mean_most;
    }
    return total / (ROWS * OUT);
}

static void outputs_change_far_less_than_by_rounding_to_nearest(void **context)
{
    double mean_most, nearest_mean;
    (void)context;
    const struct rounded made = round_layer(&inputs, MLY_OK), nearest = round_to_nearest();
    const double error = error_of(&made, &mean_most);
    assert_true(error < 0.3 * error_of(&nearest, &nearest_mean));
    assert_true(mean_most < 1e-3 && mean_most < 0.2 * nearest_mean);
    for (size_t i = 0; i < OUT * IN; i++) {
        assert_true(made.stored[i / IN][i % IN] >= -127);
    }
}

static void an_output_without_weights_gives_its_bias(void **context)
{
    float kept[IN];
    (void)context;
    memcpy(kept, weights[3], sizeof(kept));
    memset(weights[3], 0, sizeof(kept));
    const struct rounded made = round_layer(&inputs, MLY_OK);
    memcpy(weights[3], kept, sizeof(kept));
    for (size_t i = 0; i < IN; i++) {
        assert_int_equal(made.stored[3][i], 0);
    }
    assert_true(fabsf(made.bias[3] - bias[3]) < 1e-6f && fabsf(made.sum[3]) < 1e-6f);
}

static void inputs_that_are_all_equal_are_refused(void **context)
{
    static uint8_t none[10 * IN];
    static const float flat[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct mly_kern_rows rows = {none, flat, flat, 10, IN};
    (void)context;
    (void)round_layer(&rows, MLY_ERR_MODEL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_change_far_less_than_by_rounding_to_nearest),
        cmocka_unit_test(an_output_without_weights_gives_its_bias),
        cmocka_unit_test(inputs_that_are_all_equal_are_refused),
    };
    return cmocka_run_group_tests(tests, make_layer, NULL);
}
