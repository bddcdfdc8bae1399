/* The real model against float32 vectors that tools/check_model.py computed with plain numpy.
 * Without models/all-minilm-l6-v2.safetensors (make model) it is skipped, and says so.
 *
 * Golden file: i32 count, i32 dim; per text i32 n, i32[n] word pieces, f32[dim].
 */
#include "embed/embed.h"
#include "mly_cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COUNT_MAX = 64, PIECES_MAX = 256, DIM = 384 };

static int32_t ids[COUNT_MAX * PIECES_MAX];
static size_t starts[COUNT_MAX + 1];
static float wanted[COUNT_MAX * DIM];

static int32_t read_number(FILE *file)
{
    int32_t number = -1;
    assert_int_equal(fread(&number, sizeof(number), 1, file), 1);
    return number;
}

static size_t read_golden(void)
{
    FILE *file = fopen(MLY_TEST_GOLDEN, "rb");
    assert_non_null(file);
    const size_t count = (size_t)read_number(file);
    assert_in_range(count, 1, COUNT_MAX);
    assert_int_equal(read_number(file), DIM);
    for (size_t s = 0; s < count; s++) {
        const size_t n = (size_t)read_number(file);
        assert_in_range(n, 2, PIECES_MAX);
        assert_int_equal(fread(ids + starts[s], sizeof(ids[0]), n, file), n);
        assert_int_equal(fread(wanted + s * DIM, sizeof(float), DIM, file), DIM);
        starts[s + 1] = starts[s] + n;
    }
    assert_int_equal(fclose(file), 0);
    return count;
}

static void vectors_are_near_the_float_model(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_pool *pool = NULL;
    struct mly_embedder *embedder = NULL;
    FILE *model = fopen(MLY_TEST_MODEL, "rb");
    if (model == NULL) {
        print_message("SKIPPED: %s is not there (make model)\n", MLY_TEST_MODEL);
        skip();
    }
    (void)fclose(model);
    const size_t count = read_golden();
    assert_int_equal(mly_pool_create(mly_env_system(), 0, &pool, &err), MLY_OK);
    if (mly_embedder_open(mly_env_system(), mly_kern_pick(NULL), pool, MLY_TEST_MODEL, &embedder,
                          &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(mly_embedder_verify(embedder, &err), MLY_OK);
    assert_int_equal(mly_embedder_card(embedder)->dim, DIM);
    float *got = malloc(count * DIM * sizeof(float));
    assert_non_null(got);
    assert_int_equal(mly_embedder_encode(embedder, ids, starts, count, got, &err), MLY_OK);
    double sum = 0.0, least = 1.0;
    for (size_t s = 0; s < count; s++) {
        double cosine = 0.0;
        for (size_t i = 0; i < DIM; i++) {
            cosine += (double)got[s * DIM + i] * (double)wanted[s * DIM + i];
        }
        sum += cosine;
        least = cosine < least ? cosine : least;
    }
    print_message("%zu texts: cosine to float32 mean %.6f, least %.6f\n", count,
                  sum / (double)count, least);
    assert_true(sum / (double)count >= 0.998);
    assert_true(least >= 0.99);
    free(got);
    mly_embedder_close(embedder);
    mly_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_near_the_float_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
