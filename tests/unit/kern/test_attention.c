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

/* Attention in integers. */
static void run_s8(const struct mly_kern *kern, const struct head *head, float *out)
{
    const float *q = head->block, *k = q + head->head_dim, *v = k + head->head_dim;
    void *scratch = room(MLY_KERN_ATTENTION_S8_BYTES(head->tokens, head->head_dim));
    fill_bytes(&(struct numbers){8}, scratch,
               MLY_KERN_ATTENTION_S8_BYTES(head->tokens, head->head_dim));
    kern->attention_s8(q, k, v, head->stride, head->tokens, head->head_dim, scratch, out,
                       head->head_dim + 1);
    free(scratch);
}

static void compare_sets_s8_of(const struct head *head)
{
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = mly_kern_list(sets, SETS_MAX);
    const size_t floats = head->tokens * (head->head_dim + 1);
    float *wanted = room(floats * sizeof(float)), *got = room(floats * sizeof(float));
    run_s8(mly_kern_pick("scalar"), head, wanted);
    for (size_t i = 0; i < floats; i++) {
        assert_true(isfinite(wanted[i]));
    }
    for (size_t s = 0; s < count; s++) {
        memset(got, 0, floats * sizeof(float));
        run_s8(sets[s], head, got);
        same_floats("attention_s8", sets[s]->name, 305, wanted, got, floats);
    }
    free(wanted);
    free(got);
}

static void free_head(struct head *head)
{
    free(head->block);
    free(head->scratch);
}

static void compare_sets_s8(struct numbers *numbers, size_t tokens, size_t head_dim, float size)
{
    struct head head = make_head(numbers, tokens, head_dim, size);
    compare_sets_s8_of(&head);
    free_head(&head);
}

/* The formula of kern.h in whole numbers and doubles; what is left is the polynomial's error. */
static double s8_against_doubles(const struct head *head, const float *out)
{
    const size_t d = head->head_dim, tokens = head->tokens;
    double worst = 0.0, steps[3 * 128] = {0.0}, most[2] = {0.0, 0.0}, weights[TOKENS_MAX];
    for (size_t t = 0; t < tokens; t++) {
        for (size_t i = 0; i < 3 * d; i++) {
            const double size = fabs((double)head->block[t * head->stride + i]);
            steps[i] = size > steps[i] ? size : steps[i];
            if (i < 2 * d && size > most[i / d]) most[i / d] = size;
        }
    }
    for (size_t t = 0; t < tokens; t++) {
        const float *q = head->block + t * head->stride;
        double greatest = -INFINITY, sum = 0.0;
        for (size_t u = 0; u < tokens; u++) {
            const float *k = head->block + u * head->stride + d;
            weights[u] = 0.0;
            for (size_t i = 0; i < d; i++) {
                weights[u] += rint((double)q[i] * 127.0 / most[0]) * most[0] / 127.0 *
                              rint((double)k[i] * 127.0 / most[1]) * most[1] / 127.0;
            }
            greatest = weights[u] > greatest ? weights[u] : greatest;
        }
        for (size_t u = 0; u < tokens; u++) {
            weights[u] = exp2(weights[u] - greatest);
            sum += weights[u];
        }
        for (size_t i = 0; i < d; i++) {
            const double step = steps[2 * d + i] / 127.0;
            double wanted = 0.0;
            for (size_t u = 0; u < tokens; u++) {
                const float *v = head->block + u * head->stride + 2 * d;
                wanted += weights[u] / sum * rint((double)v[i] / step) * step;
            }
            const double off = fabs(wanted - (double)out[t * (d + 1) + i]) / steps[2 * d + i];
            worst = off > worst ? off : worst;
        }
    }
    return worst;
}

static void the_definition_in_integers_is_near_doubles(void **state)
{
    (void)state;
    struct numbers numbers = {306};
    double worst = 0.0;
    for (size_t tokens = 1; tokens <= 150; tokens += 1 + tokens / 4) {
        struct head head = make_head(&numbers, tokens, 32, 1.0f);
        float *out = room(tokens * 33 * sizeof(float));
        run_s8(mly_kern_pick("scalar"), &head, out);
        const double off = s8_against_doubles(&head, out);
        worst = off > worst ? off : worst;
        free(out);
        free_head(&head);
    }
    print_message("attention in integers is off by %.1e of the largest value\n", worst);
    assert_true(worst < 4e-3);
}

static void all_sets_have_equal_bits_in_integers(void **state)
{
    (void)state;
    struct numbers numbers = {307};
    for (size_t tokens = 1; tokens <= 70; tokens++) {
        compare_sets_s8(&numbers, tokens, 32, 2.0f);
    }
    static const size_t dims[] = {16, 32, 48, 64, 80, 96, 112, 128};
    static const size_t lengths[] = {1, 2, 7, 16, 31, 37, 64, 65};
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 8; j++) {
            compare_sets_s8(&numbers, lengths[j], dims[i], 1.5f);
        }
    }
    compare_sets_s8(&numbers, 128, 32, 2.0f);
    compare_sets_s8(&numbers, 255, 32, 2.0f);
    compare_sets_s8(&numbers, 512, 64, 2.0f);
    compare_sets_s8(&numbers, 600, 16, 2.0f);
}

static void integers_are_safe_for_any_finite_input(void **state)
{
    (void)state;
    static const float sizes[] = {0.0f,  1e-42f, 1e-38f, 1e-30f, 1e-12f, 1e-3f,
                                  30.0f, 1e3f,   1e15f,  1e25f,  3e38f};
    struct numbers numbers = {308};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        compare_sets_s8(&numbers, 45, 32, sizes[i]);
        compare_sets_s8(&numbers, 64, 48, sizes[i]);
    }
    for (size_t tokens = 1; tokens < 90; tokens += 11) {
        struct head head = make_head(&numbers, tokens, 32, 1.0f);
        for (size_t i = 0; i < tokens * head.stride; i++) { /* equal rows */
            head.block[i] = i % head.stride % 3 == 0 ? -4.0f : 4.0f;
        }
        compare_sets_s8_of(&head);
        head.block[tokens / 2 * head.stride + 32 + 5] = -1e30f; /* one key beyond all */
        compare_sets_s8_of(&head);
        for (size_t t = 0; t < tokens; t++) { /* halves: ties to even */
            for (size_t i = 0; i < 96; i++) {
                head.block[t * head.stride + i] =
                    (float)(next_bits(&numbers) % 509) / 2.0f - 127.0f;
            }
        }
        for (size_t i = 0; i < 96; i++) {
            head.block[i] = 127.0f;
        }
        compare_sets_s8_of(&head);
        free_head(&head);
    }
}

static void the_longest_sequence_does_not_overflow_in_integers(void **state)
{
    (void)state;
    const size_t tokens = MLY_KERN_ATTENTION_S8_TOKENS_MAX;
    const struct mly_kern *kern = mly_kern_pick(NULL);
    struct head head = {.tokens = tokens, .head_dim = 16, .stride = 48};
    head.block = room(tokens * head.stride * sizeof(float));
    for (size_t i = 0; i < tokens * head.stride; i++) {
        head.block[i] = 2.0f;
    }
    float *out = room(tokens * 17 * sizeof(float));
    run_s8(kern, &head, out);
    for (size_t t = 0; t < tokens; t += 1000) {
        assert_true(fabs((double)out[t * 17 + 3] - 2.0) < 1e-5);
    }
    free(out);
    free(head.block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definition_in_integers_is_near_doubles),
        cmocka_unit_test(all_sets_have_equal_bits_in_integers),
        cmocka_unit_test(integers_are_safe_for_any_finite_input),
        cmocka_unit_test(the_longest_sequence_does_not_overflow_in_integers),
        cmocka_unit_test(the_definition_is_near_doubles),
        cmocka_unit_test(all_sets_have_equal_bits_at_every_length),
        cmocka_unit_test(all_sets_have_equal_bits_at_other_head_sizes),
        cmocka_unit_test(scores_of_any_size_give_finite_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
