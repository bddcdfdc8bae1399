/* Attention: the definition against doubles, every set against the definition. */
#include "kern_cases.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { TOKENS_MAX = 300 };

struct head {
    float *block, *scratch;
    size_t tokens, head_dim, stride;
};

static struct head make_head(struct numbers *numbers, size_t tokens, size_t head_dim, float size)
{
    struct head head = {NULL, NULL, tokens, head_dim, 3 * head_dim + 5};
    head.block = room(tokens * head.stride * sizeof(float));
    head.scratch = room(MLY_KERN_ATTENTION_FLOATS(tokens, head_dim) * sizeof(float));
    fill_floats(numbers, head.block, tokens * head.stride, size);
    return head;
}

static void run(const struct mly_kern *kern, const struct head *head, float *out)
{
    const float *q = head->block, *k = q + head->head_dim, *v = k + head->head_dim;
    fill_bytes(&(struct numbers){7}, head->scratch, 64); /* Nothing is expected of it. */
    kern->attention_f32(q, k, v, head->stride, head->tokens, head->head_dim, head->scratch, out,
                        head->head_dim + 1);
}

static void check_against_doubles(const struct head *head, const float *out)
{
    double weights[TOKENS_MAX];
    const float *q = head->block, *k = q + head->head_dim, *v = k + head->head_dim;
    for (size_t t = 0; t < head->tokens; t++) {
        double most = -INFINITY, sum = 0.0;
        for (size_t u = 0; u < head->tokens; u++) {
            weights[u] = 0.0;
            for (size_t i = 0; i < head->head_dim; i++) {
                weights[u] += (double)q[t * head->stride + i] * (double)k[u * head->stride + i];
            }
            most = weights[u] > most ? weights[u] : most;
        }
        for (size_t u = 0; u < head->tokens; u++) {
            weights[u] = exp2(weights[u] - most);
            sum += weights[u];
        }
        for (size_t i = 0; i < head->head_dim; i++) {
            double wanted = 0.0;
            for (size_t u = 0; u < head->tokens; u++) {
                wanted += weights[u] / sum * (double)v[u * head->stride + i];
            }
            assert_true(fabs(wanted - (double)out[t * (head->head_dim + 1) + i]) < 2e-5);
        }
    }
}

static void the_definition_is_near_doubles(void **state)
{
    (void)state;
    struct numbers numbers = {301};
    for (size_t tokens = 1; tokens <= 70; tokens += 1 + tokens / 8) {
        struct head head = make_head(&numbers, tokens, 32, 1.0f);
        float *out = room(tokens * 33 * sizeof(float));
        run(mly_kern_pick("scalar"), &head, out);
        check_against_doubles(&head, out);
        free(out);
        free(head.block);
        free(head.scratch);
    }
}

static void compare_sets(struct numbers *numbers, size_t tokens, size_t head_dim, float size)
{
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets), floats = tokens * (head_dim + 1);
    struct head head = make_head(numbers, tokens, head_dim, size);
    float *wanted = room(floats * sizeof(float)), *got = room(floats * sizeof(float));
    run(mly_kern_pick("scalar"), &head, wanted);
    for (size_t i = 0; i < floats; i++) {
        assert_true(isfinite(wanted[i]));
    }
    for (size_t s = 0; s < count; s++) {
        memset(got, 0, floats * sizeof(float));
        run(sets[s], &head, got);
        same_floats("attention", sets[s]->name, 302, wanted, got, floats);
    }
    free(wanted);
    free(got);
    free(head.block);
    free(head.scratch);
}

static void all_sets_have_equal_bits_at_every_length(void **state)
{
    (void)state;
    struct numbers numbers = {302};
    for (size_t tokens = 1; tokens <= 70; tokens++) {
        compare_sets(&numbers, tokens, 32, 2.0f);
    }
    compare_sets(&numbers, 128, 32, 2.0f);
    compare_sets(&numbers, 255, 32, 2.0f);
    compare_sets(&numbers, TOKENS_MAX, 32, 2.0f);
}

static void all_sets_have_equal_bits_at_other_head_sizes(void **state)
{
    (void)state;
    struct numbers numbers = {303};
    static const size_t dims[] = {16, 32, 48, 64, 80, 128};
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++) {
        compare_sets(&numbers, 37, dims[i], 1.5f);
    }
}

static void scores_of_any_size_give_finite_weights(void **state)
{
    (void)state;
    struct numbers numbers = {304};
    compare_sets(&numbers, 45, 32, 1e3f);
    compare_sets(&numbers, 45, 32, 1e15f);
    compare_sets(&numbers, 45, 32, 1e-30f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definition_is_near_doubles),
        cmocka_unit_test(all_sets_have_equal_bits_at_every_length),
        cmocka_unit_test(all_sets_have_equal_bits_at_other_head_sizes),
        cmocka_unit_test(scores_of_any_size_give_finite_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
