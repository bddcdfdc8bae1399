/* Segments built and searched: recall against a plain scan, dead and allowed rows, files that are
 * gone, several segments at once, every metric, odd dimensions, all rows asked for, rows that have
 * no vector; the same bytes and answers from every kernel set and number of threads. */
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "vindex_cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUERIES 60
#define K 10

static char folder[TEMP_DIR_BYTES];

static int make_folder(void **state)
{
    (void)state;
    temp_dir_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static void ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("%s", err->message);
}

static struct mly_vindex *build(struct vindex_case *of, const char *set, struct mly_pool *pool)
{
    return vindex_case_build(of, folder, NULL, set, pool);
}

static void the_nearest_are_found(void **state)
{
    (void)state;
    static const enum mly_vindex_metric metrics[] = {MLY_VINDEX_COSINE, MLY_VINDEX_DOT,
                                                     MLY_VINDEX_L2};
    static const uint32_t rows[] = {3000, 1, 2500};
    for (size_t i = 0; i < 3; i++) {
        struct vindex_case of;
        struct mly_vindex_part parts[3];
        vindex_case_make(&of, metrics[i], 96, rows, 3, 1 + i);
        vindex_case_parts(&of, parts);
        struct mly_vindex *segment = build(&of, NULL, NULL);
        assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
        assert_true(vindex_case_recall(&of, segment, parts, 1, K) >= 0.99);
        mly_vindex_close(segment);
        vindex_case_free(&of);
    }
}

static void every_dimension_works(void **state)
{
    (void)state;
    static const size_t dims[] = {8, 17, 64, 65, 100, 384, 1000, 4096};
    static const uint32_t rows[] = {700};
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++) {
        struct vindex_case of;
        struct mly_vindex_part parts[1];
        vindex_case_make(&of, MLY_VINDEX_COSINE, dims[i], rows, 1, 20 + i);
        vindex_case_parts(&of, parts);
        struct mly_vindex *segment = build(&of, NULL, NULL);
        assert_true(vindex_case_recall(&of, segment, parts, 1, K) >= (dims[i] < 64 ? 0.9 : 0.99));
        mly_vindex_close(segment);
        vindex_case_free(&of);
    }
}

static void rows_that_may_not_be_found_are_not(void **state)
{
    (void)state;
    static const uint32_t rows[] = {2000, 1500, 1200};
    struct vindex_case of;
    struct mly_vindex_part parts[3];
    vindex_case_make(&of, MLY_VINDEX_COSINE, 64, rows, 3, 5);
    vindex_case_parts(&of, parts);
    of.none[0] = calloc(1, 2000 / 8 + 1);
    uint8_t *dead = calloc(1, 2000 / 8 + 1), *allowed = calloc(1, 2000 / 8 + 1);
    assert_true(of.none[0] != NULL && dead != NULL && allowed != NULL);
    for (size_t i = 0; i < 2000; i += 3)
        of.none[0][i / 8] = (uint8_t)(of.none[0][i / 8] | 1 << i % 8);
    struct mly_vindex *segment = build(&of, NULL, NULL);
    for (size_t i = 0; i < 1500; i += 2)
        dead[i / 8] = (uint8_t)(dead[i / 8] | 1 << i % 8);
    /* vindex_case_recall itself compares with a scan that honours all of them. */
    parts[1].dead = dead;
    assert_true(vindex_case_recall(&of, segment, parts, 1, K) >= 0.99);
    parts[2].is_present = false;
    assert_true(vindex_case_recall(&of, segment, parts, 1, K) >= 0.99);
    parts[0].allowed = allowed;
    parts[1].is_present = false;
    for (size_t i = 0; i < 2000; i += 50)
        allowed[i / 8] = (uint8_t)(allowed[i / 8] | 1 << i % 8);
    /* Fewer than are wanted at first: all cells are read. */
    assert_true(vindex_case_recall(&of, segment, parts, 0.9F, 30) >= 0.99);
    memset(allowed, 0, 2000 / 8 + 1);
    allowed[10] = 1;
    assert_true(vindex_case_recall(&of, segment, parts, 0.9F, K) >= 0.99);
    mly_vindex_close(segment);
    free(dead);
    free(allowed);
    vindex_case_free(&of);
}

static void all_rows_can_be_asked_for(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1300};
    struct vindex_case of;
    struct mly_vindex_part parts[1];
    vindex_case_make(&of, MLY_VINDEX_COSINE, 32, rows, 1, 9);
    vindex_case_parts(&of, parts);
    struct mly_vindex *segment = build(&of, NULL, NULL);
    assert_true(vindex_case_recall(&of, segment, parts, 0.9F, 5000) > 0.9999);
    mly_vindex_close(segment);
    vindex_case_free(&of);
}

static void odd_vectors_do_no_harm(void **state)
{
    (void)state;
    static const uint32_t rows[] = {900};
    struct vindex_case of;
    struct mly_vindex_part parts[1];
    vindex_case_make(&of, MLY_VINDEX_COSINE, 48, rows, 1, 11);
    vindex_case_parts(&of, parts);
    for (size_t i = 0; i < 48; i++) {
        of.values[0][i] = NAN;
        of.values[0][2 * 48 + i] = 0;
        for (size_t copy = 100; copy < 130; copy++)
            of.values[0][copy * 48 + i] = of.values[0][99 * 48 + i];
    }
    of.values[0][5 * 48 + 3] = INFINITY;
    of.none[0] = calloc(1, 900 / 8 + 1); /* what the scan leaves out as well */
    assert_non_null(of.none[0]);
    of.none[0][0] = 1 | 1 << 5;
    uint8_t *none = of.none[0];
    of.none[0] = NULL;
    struct mly_vindex *segment = build(&of, NULL, NULL);
    of.none[0] = none;
    assert_true(vindex_case_recall(&of, segment, parts, 1, 5000) > 0.9999);
    mly_vindex_close(segment);
    vindex_case_free(&of);
}

/* What the segments of two names have, or fails. */
static void assert_same_file(const struct mly_vindex_info *a, const struct mly_vindex_info *b)
{
    assert_memory_equal(a, b, sizeof(*a));
}

static void kernels_and_threads_do_not_show(void **state)
{
    (void)state;
    static const uint32_t rows[] = {2600, 900};
    const struct mly_env *env = mly_env_system();
    const struct mly_kern *sets[8];
    struct vindex_case of;
    struct mly_vindex_part parts[2];
    struct mly_error err = {0};
    struct mly_pool *pool = NULL;
    float query[80];
    struct mly_match first[K];
    struct mly_vindex_info first_info = {0};
    vindex_case_make(&of, MLY_VINDEX_COSINE, 80, rows, 2, 31);
    vindex_case_parts(&of, parts);
    ok(mly_pool_create(env, 2, &pool, &err), &err);
    size_t set_count = mly_kern_list(sets, 8);
    for (size_t s = 0; s < set_count; s++) {
        struct mly_vindex *segment = build(&of, sets[s]->name, s % 2 == 0 ? NULL : pool);
        struct mly_vindex_source source = {segment, parts};
        struct mly_vindex_room *room = NULL;
        struct mly_vindex_info info = {0};
        mly_vindex_get_info(segment, &info);
        if (s == 0) first_info = info;
        assert_same_file(&info, &first_info);
        ok(mly_vindex_room_create(env, &room, &err), &err);
        for (uint64_t q = 0; q < 20; q++) {
            const struct mly_match *got;
            size_t count;
            vindex_case_query(&of, q, query);
            struct mly_vindex_ask ask = {
                .query = query, .dim = 80, .k = K, .vector = vindex_case_vector};
            ok(mly_vindex_search(room, &source, 1, &ask, &got, &count, NULL, &err), &err);
            assert_int_equal(count, K);
            if (q > 0) continue;
            if (s == 0) memcpy(first, got, sizeof(first));
            for (size_t i = 0; i < K; i++) {
                assert_int_equal(got[i].row_address, first[i].row_address);
                assert_true(got[i].score >= first[i].score && got[i].score <= first[i].score);
            }
        }
        mly_vindex_room_destroy(room);
        mly_vindex_close(segment);
    }
    mly_pool_destroy(pool);
    vindex_case_free(&of);
}

static void several_segments_and_queries_go_together(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1500, 1100};
    const struct mly_env *env = mly_env_system();
    struct vindex_case of, one, two;
    struct mly_vindex_part parts[2];
    struct mly_error err = {0};
    struct mly_pool *pool = NULL;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 64, rows, 2, 41);
    vindex_case_parts(&of, parts);
    one = of;
    one.file_count = 1;
    two = of;
    two.file_count = 1;
    two.files[0] = of.files[1];
    two.values[0] = of.values[1];
    struct mly_vindex_source sources[] = {{build(&one, NULL, NULL), &parts[0]},
                                          {build(&two, NULL, NULL), &parts[1]}};
    float *queries = malloc(QUERIES * 64 * sizeof(float));
    struct mly_match *got = malloc(QUERIES * K * sizeof(*got));
    assert_true(queries != NULL && got != NULL);
    size_t counts[QUERIES], found = 0;
    for (uint64_t q = 0; q < QUERIES; q++)
        vindex_case_query(&of, q, queries + q * 64);
    struct mly_vindex_ask ask = {.dim = 64, .k = K, .recall = 1, .vector = vindex_case_vector};
    struct mly_vindex_stats stats;
    ok(mly_pool_create(env, 2, &pool, &err), &err);
    ok(mly_vindex_search_many(env, pool, sources, 2, &ask, queries, QUERIES, got, counts, &stats,
                              &err),
       &err);
    for (size_t q = 0; q < QUERIES; q++) {
        struct mly_match exact[K];
        assert_int_equal(counts[q], K);
        (void)vindex_case_exact(&of, parts, queries + q * 64, K, exact);
        for (size_t i = 0; i < K; i++) {
            for (size_t j = 0; j < K; j++)
                found += exact[j].row_address == got[q * K + i].row_address ? 1 : 0;
        }
    }
    assert_true((double)found >= 0.99 * QUERIES * K);
    assert_true(stats.codes_read > 0 && stats.records_read > 0 && stats.cells_read > 0);
    mly_pool_destroy(pool);
    mly_vindex_close(sources[0].segment);
    mly_vindex_close(sources[1].segment);
    free(queries);
    free(got);
    vindex_case_free(&of);
}

static void a_warm_search_allocates_nothing(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1500};
    const struct mly_env *env = mly_env_system();
    struct vindex_case of;
    struct mly_vindex_part parts[1];
    struct mly_vindex_room *room = NULL;
    struct mly_error err = {0};
    float query[64];
    uint64_t calls = 0;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 64, rows, 1, 51);
    vindex_case_parts(&of, parts);
    struct mly_vindex *segment = build(&of, NULL, NULL);
    struct mly_vindex_source source = {segment, parts};
    ok(mly_vindex_room_create(env, &room, &err), &err);
    for (uint64_t q = 0; q < 50; q++) {
        const struct mly_match *got;
        size_t count;
        vindex_case_query(&of, q, query);
        struct mly_vindex_ask ask = {
            .query = query, .dim = 64, .k = K, .vector = vindex_case_vector};
        ok(mly_vindex_search(room, &source, 1, &ask, &got, &count, NULL, &err), &err);
        if (q == 20) calls = env->mem->calls;
    }
    assert_int_equal(env->mem->calls, calls);
    mly_vindex_room_destroy(room);
    mly_vindex_close(segment);
    vindex_case_free(&of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_nearest_are_found, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(every_dimension_works, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(rows_that_may_not_be_found_are_not, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(all_rows_can_be_asked_for, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(odd_vectors_do_no_harm, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(kernels_and_threads_do_not_show, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(several_segments_and_queries_go_together, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_warm_search_allocates_nothing, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
