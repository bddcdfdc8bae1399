/* Segments folded: new files come in, old ones go or move into others, dead rows are dropped; after
 * every step the nearest are found, the bytes verify, and no cell is much larger than others. */
#include "index/vindex_int.h"

#include "mly_cmocka.h"
#include "temp_dir.h"
#include "vindex_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* The first count files of a case. */
static struct vindex_case first_files(const struct vindex_case *of, size_t count)
{
    struct vindex_case first = *of;
    first.file_count = count;
    return first;
}

static void assert_cells_are_even(const struct mly_vindex *segment)
{
    uint64_t most = 0;
    for (size_t i = 0; i < segment->head.cell_count; i++) {
        if (segment->cells[i].count > most) most = segment->cells[i].count;
    }
    uint64_t target =
        2 * segment->head.vector_count / mly_vindex_cells_for(segment->head.vector_count);
    assert_true(most <= 4 * target + 64);
}

static void new_files_come_in(void **state)
{
    (void)state;
    static const enum mly_vindex_metric metrics[] = {MLY_VINDEX_COSINE, MLY_VINDEX_DOT,
                                                     MLY_VINDEX_L2};
    static const uint32_t rows[] = {3000, 500, 700, 800, 2000, 900, 1500, 2500};
    for (size_t m = 0; m < 3; m++) {
        struct vindex_case of;
        struct mly_vindex_part parts[8];
        vindex_case_make(&of, metrics[m], 64, rows, 8, 3 + m);
        vindex_case_parts(&of, parts);
        struct vindex_case now = first_files(&of, 1);
        struct mly_vindex *segment = vindex_case_build(&now, folder, NULL, NULL, NULL);
        uint64_t total = rows[0];
        for (size_t count = 2; count <= 8; count++) {
            now = first_files(&of, count);
            struct mly_vindex_fold fold = {
                .segments = &segment, .segment_count = 1, .files = now.files, .file_count = count};
            struct mly_vindex *next = vindex_case_build(&now, folder, &fold, NULL, NULL);
            struct mly_vindex_info info;
            total += rows[count - 1];
            mly_vindex_get_info(next, &info);
            assert_int_equal(info.vector_count, total);
            assert_int_equal(info.posting_count, 2 * total);
            assert_cells_are_even(next);
            assert_true(vindex_case_recall(&now, next, parts, 0.95F, K) >= 0.95);
            assert_true(vindex_case_recall(&now, next, parts, 1, K) >= 0.99);
            mly_vindex_close(segment);
            segment = next;
        }
        mly_vindex_close(segment);
        vindex_case_free(&of);
    }
}

/* Files 0 and 1 without some rows become one, 2 stays, 3 is gone, 4 is new. */
static void files_move_and_go(void **state)
{
    (void)state;
    static const uint32_t rows[] = {1500, 1000, 2000, 700};
    struct vindex_case of;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 64, rows, 4, 9);
    struct mly_vindex *segment = vindex_case_build(&of, folder, NULL, NULL, NULL);
    struct vindex_case now = {.dim = 64, .metric = of.metric, .file_count = 3, .run_rows = 333};
    uint8_t *gone[2] = {calloc(1, 1500 / 8 + 1), calloc(1, 1000 / 8 + 1)};
    uint8_t *dead = calloc(1, 2000 / 8 + 1);
    float *merged = malloc(2500 * 64 * sizeof(float)), *fresh = malloc(800 * 64 * sizeof(float));
    assert_true(gone[0] && gone[1] && dead && merged && fresh);
    uint32_t count = 0, firsts[2];
    for (size_t f = 0; f < 2; f++) {
        firsts[f] = count;
        for (size_t i = 0; i < rows[f]; i++) {
            if (i % 7 == 3 || (i > 600 && i < 640)) {
                gone[f][i / 8] = (uint8_t)(gone[f][i / 8] | 1 << i % 8);
                continue;
            }
            memcpy(merged + count++ * 64, of.values[f] + i * 64, 64 * sizeof(float));
        }
    }
    for (size_t i = 0; i < 2000; i += 5)
        dead[i / 8] = (uint8_t)(dead[i / 8] | 1 << i % 8);
    for (uint64_t i = 0; i < 800; i++)
        vindex_case_query(&of, 10000 + i, fresh + i * 64);
    now.files[0] = (struct mly_vindex_file){MLY_STR("merged.lance"), count};
    now.files[1] = of.files[2];
    now.files[2] = (struct mly_vindex_file){MLY_STR("fresh.lance"), 800};
    now.values[0] = merged;
    now.values[1] = of.values[2];
    now.values[2] = fresh;
    now.none[1] = dead;
    const uint8_t *dead_rows[] = {NULL, dead, NULL};
    struct mly_vindex_move moves[] = {{of.files[0].name, 0, firsts[0], gone[0]},
                                      {of.files[1].name, 0, firsts[1], gone[1]}};
    struct mly_vindex_fold fold = {&segment, 1, now.files, dead_rows, 3, moves, 2};
    struct mly_vindex_part parts[3];
    vindex_case_parts(&now, parts);
    struct mly_vindex *next = vindex_case_build(&now, folder, &fold, NULL, NULL);
    struct mly_vindex_info info;
    mly_vindex_get_info(next, &info);
    assert_int_equal(info.vector_count, count + 1600 + 800);
    assert_true(vindex_case_recall(&now, next, parts, 1, K) >= 0.99);
    /* The same is found where nobody says what moved. */
    fold.move_count = 0;
    struct mly_vindex *found = vindex_case_build(&now, folder, &fold, NULL, NULL);
    assert_int_equal(found->map.bytes, next->map.bytes);
    assert_memory_equal(found->map.data, next->map.data, next->map.bytes);
    mly_vindex_close(found);
    fold.move_count = 2;
    /* A move that cannot be is refused. */
    const struct mly_env *env = mly_env_system();
    struct mly_vindex_maker maker = vindex_case_maker(&now, env, folder);
    struct mly_error err;
    char name[MLY_VINDEX_SEGMENT_NAME_BYTES];
    moves[1].to_first += 20;
    assert_int_equal(mly_vindex_fold(&maker, &fold, name, &err), MLY_ERR_INVAL);
    mly_vindex_close(next);
    mly_vindex_close(segment);
    free(gone[0]);
    free(gone[1]);
    free(dead);
    free(merged);
    free(fresh);
    vindex_case_free(&of);
}

/* Most rows die: small cells are dissolved. Then rows that are all alike come: cells that cannot be
 * cut do no harm. */
static void cells_shrink_and_fill(void **state)
{
    (void)state;
    static const uint32_t rows[] = {6000, 1500};
    struct vindex_case of;
    struct mly_vindex_part parts[2];
    vindex_case_make(&of, MLY_VINDEX_COSINE, 64, rows, 2, 77);
    vindex_case_parts(&of, parts);
    for (size_t i = 1; i < 1500; i++)
        memcpy(of.values[1] + i * 64, of.values[1], 64 * sizeof(float));
    struct vindex_case now = first_files(&of, 1);
    struct mly_vindex *segment = vindex_case_build(&now, folder, NULL, NULL, NULL);
    struct mly_vindex_info before, after;
    mly_vindex_get_info(segment, &before);
    of.none[0] = calloc(1, 6000 / 8 + 1);
    assert_non_null(of.none[0]);
    for (size_t i = 0; i < 6000; i++) {
        if (of.values[0][i * 64] > -0.05F && i > 800) {
            of.none[0][i / 8] = (uint8_t)(of.none[0][i / 8] | 1 << i % 8);
        }
    }
    now = first_files(&of, 1);
    const uint8_t *dead[] = {of.none[0], NULL};
    struct mly_vindex_fold fold = {&segment, 1, of.files, dead, 1, NULL, 0};
    struct mly_vindex *next = vindex_case_build(&now, folder, &fold, NULL, NULL);
    mly_vindex_get_info(next, &after);
    assert_true(after.vector_count < before.vector_count && after.cell_count < before.cell_count);
    assert_true(vindex_case_recall(&now, next, parts, 1, K) >= 0.99);
    mly_vindex_close(segment);
    segment = next;
    fold.file_count = 2;
    next = vindex_case_build(&of, folder, &fold, NULL, NULL);
    assert_true(vindex_case_recall(&of, next, parts, 1, K) >= 0.99);
    mly_vindex_close(next);
    mly_vindex_close(segment);
    vindex_case_free(&of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(new_files_come_in, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(files_move_and_go, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(cells_shrink_and_fill, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
