/* Searches among some of the rows: as good as among all of them, whether many or few are selected,
 * wherever these are, and with dead ones among them. */
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "vindex_cases.h"

#include <stdlib.h>
#include <string.h>

#define K 10
#define ROWS 24000u

static char folder[TEMP_DIR_BYTES];
static struct vindex_case of;
static struct mly_vindex *segment;
static struct mly_vindex_part parts[2];
static uint8_t allowed[2][ROWS / 8], dead[2][ROWS / 8];

static int make(void **state)
{
    (void)state;
    static const uint32_t rows[] = {ROWS, ROWS / 2};
    temp_dir_make(folder);
    vindex_case_make(&of, MLY_VINDEX_COSINE, 64, rows, 2, 77);
    segment = vindex_case_build(&of, folder, NULL, NULL, NULL);
    return 0;
}

static int drop(void **state)
{
    (void)state;
    mly_vindex_close(segment);
    vindex_case_free(&of);
    temp_dir_remove(folder);
    return 0;
}

static void clear(void)
{
    vindex_case_parts(&of, parts);
    memset(allowed, 0, sizeof(allowed));
    memset(dead, 0, sizeof(dead));
    for (size_t i = 0; i < 2; i++)
        parts[i].allowed = allowed[i];
}

static void allow(size_t file_i, size_t row)
{
    allowed[file_i][row / 8] = (uint8_t)(allowed[file_i][row / 8] | 1u << row % 8);
}

static void count(void)
{
    for (size_t i = 0; i < 2; i++) {
        parts[i].allowed_count = 0;
        for (size_t b = 0; b < sizeof(allowed[i]); b++)
            parts[i].allowed_count += (uint64_t)__builtin_popcount(allowed[i][b]);
    }
}

static uint64_t mixed(uint64_t x)
{
    x *= UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 32;
}

/* One row of every `of_many`, in no order. */
static void allow_some(uint64_t of_many)
{
    for (size_t i = 0; i < 2; i++) {
        for (size_t row = 0; row < of.files[i].row_count; row++) {
            if (mixed(row + i * ROWS) % of_many == 0) allow(i, row);
        }
    }
}

static struct mly_vindex_stats look(float recall)
{
    struct mly_error err = {0};
    struct mly_vindex_room *room = NULL;
    struct mly_vindex_source source = {segment, parts};
    struct mly_vindex_stats stats;
    const struct mly_match *got;
    size_t got_count;
    float query[64];
    vindex_case_query(&of, 5, query);
    struct mly_vindex_ask ask = {
        .query = query, .dim = 64, .k = K, .recall = recall, .vector = vindex_case_vector};
    assert_int_equal(mly_vindex_room_create(mly_env_system(), &room, &err), MLY_OK);
    assert_int_equal(mly_vindex_search(room, &source, 1, &ask, &got, &got_count, &stats, &err),
                     MLY_OK);
    mly_vindex_room_destroy(room);
    return stats;
}

static void any_share_of_the_rows_is_found_as_well_as_all(void **state)
{
    (void)state;
    static const uint64_t shares[] = {1, 2, 4, 10, 100, 1000, 8000};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        clear();
        allow_some(shares[i]);
        assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
        count();
        assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
        assert_true(vindex_case_recall(&of, segment, parts, 0.97F, K) >= 0.97);
    }
}

static void few_rows_are_all_looked_at_and_no_cell(void **state)
{
    (void)state;
    clear();
    allow_some(100);
    count();
    struct mly_vindex_stats stats = look(0.95F);
    assert_int_equal(stats.cells_read, 0);
    assert_int_equal(stats.codes_read, 0);
    assert_int_equal(stats.records_read, parts[0].allowed_count + parts[1].allowed_count);
    assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) > 0.9999);
}

static void codes_of_rows_that_do_not_pass_are_mostly_left_out(void **state)
{
    (void)state;
    clear();
    /* Half of one file, by its order: cells have rows of both files. */
    for (size_t row = 0; row < ROWS / 4; row++)
        allow(0, row);
    count();
    struct mly_vindex_stats some = look(0.95F);
    assert_true(some.cells_read > 0 && some.codes_read > 0);
    assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
}

/* Rows that are near one of them, as documents on one subject are. */
static void allow_near(size_t row, float least)
{
    const struct mly_kern *kern = mly_kern_pick("scalar");
    const float *middle = of.values[0] + row * of.dim;
    for (size_t i = 0; i < 2; i++) {
        for (size_t r = 0; r < of.files[i].row_count; r++) {
            if (kern->dot_f32(middle, of.values[i] + r * of.dim, of.dim) >= least) allow(i, r);
        }
    }
    count();
}

static void rows_on_one_subject_are_found_from_anywhere(void **state)
{
    (void)state;
    static const float leasts[] = {0.4F, 0.2F, 0.1F, 0.0F};
    for (size_t i = 0; i < sizeof(leasts) / sizeof(leasts[0]); i++) {
        clear();
        allow_near(i * 1000 + 17, leasts[i]);
        /* Queries are like any of the rows: most of them are far from these. */
        double recall = vindex_case_recall(&of, segment, parts, 0.95F, K);
        if (recall < 0.95) fail_msg("least %g: recall %g", (double)leasts[i], recall);
    }
}

static void dead_rows_of_a_selection_are_not_found(void **state)
{
    (void)state;
    static const uint64_t shares[] = {2, 5, 100};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        clear();
        allow_some(shares[i]);
        count();
        for (size_t row = 0; row < ROWS; row += 2)
            dead[0][row / 8] = (uint8_t)(dead[0][row / 8] | 1u << row % 8);
        parts[0].dead = dead[0];
        assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
        parts[1].is_present = false;
        assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
    }
}

static void one_file_may_be_selected_from_and_the_other_whole(void **state)
{
    (void)state;
    clear();
    allow_some(50);
    parts[1].allowed = NULL;
    assert_true(vindex_case_recall(&of, segment, parts, 0.95F, K) >= 0.95);
    clear();
    parts[1].allowed = NULL;
    parts[1].is_present = false;
    assert_int_equal(look(0.95F).records_read, 0);
}

static void more_can_be_asked_for_than_are_selected(void **state)
{
    (void)state;
    clear();
    allow_some(40);
    assert_true(vindex_case_recall(&of, segment, parts, 0.95F, 3000) > 0.9999);
    clear();
    allow_some(4);
    count();
    assert_true(vindex_case_recall(&of, segment, parts, 0.95F, 20000) > 0.9999);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_share_of_the_rows_is_found_as_well_as_all),
        cmocka_unit_test(few_rows_are_all_looked_at_and_no_cell),
        cmocka_unit_test(codes_of_rows_that_do_not_pass_are_mostly_left_out),
        cmocka_unit_test(rows_on_one_subject_are_found_from_anywhere),
        cmocka_unit_test(dead_rows_of_a_selection_are_not_found),
        cmocka_unit_test(one_file_may_be_selected_from_and_the_other_whole),
        cmocka_unit_test(more_can_be_asked_for_than_are_selected),
    };
    return cmocka_run_group_tests(tests, make, drop);
}
