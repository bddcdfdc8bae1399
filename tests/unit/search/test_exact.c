/* Exact search against sorting everything, on a snapshot of the test's own: its functions are
 * defined here, so that the linker takes them in place of the store's.
 */
#include "mly_cmocka.h"

#include "search/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIM 5
#define ROWS_MAX 3000
#define BLOCKS 3

struct mly_snapshot {
    float values[ROWS_MAX][DIM];
    uint8_t dead[BLOCKS][ROWS_MAX / 8 + 1];
    size_t block_rows[BLOCKS];
    size_t row_count;
    uint64_t live;
    size_t reads; /* of rows, for ties */
    bool reads_fail;
};

static size_t first_row(const struct mly_snapshot *snapshot, size_t block_i)
{
    size_t row = 0;
    for (size_t i = 0; i < block_i; i++) {
        row += snapshot->block_rows[i];
    }
    return row;
}

bool mly_snapshot_index_covers(const struct mly_snapshot_index *index, size_t block_i)
{
    (void)index;
    (void)block_i;
    fail_msg("an exact search asks no index");
    return true;
}

uint64_t mly_selection_row_count(const struct mly_selection *selection)
{
    (void)selection;
    fail_msg("nothing is selected");
    return 0;
}

size_t mly_selection_run(const struct mly_selection *selection,
                         const struct mly_vector_block *block, size_t *row)
{
    (void)selection;
    (void)block;
    (void)row;
    fail_msg("nothing is selected");
    return 0;
}

enum mly_err mly_selection_sources(struct mly_selection *selection,
                                   const struct mly_snapshot_index *index,
                                   const struct mly_vindex_source **out, size_t *count,
                                   struct mly_error *err)
{
    (void)selection;
    (void)index;
    (void)out;
    (void)count;
    (void)err;
    fail_msg("nothing is selected");
    return MLY_ERR_INVAL;
}

const struct mly_vindex_source *mly_snapshot_index_sources(const struct mly_snapshot_index *index,
                                                           size_t *count)
{
    (void)index;
    (void)count;
    fail_msg("an exact search asks no index");
    return NULL;
}

size_t mly_snapshot_block_count(const struct mly_snapshot *snapshot)
{
    (void)snapshot;
    return BLOCKS;
}

enum mly_err mly_snapshot_get_block(const struct mly_snapshot *snapshot, size_t block_i,
                                    struct mly_vector_block *out, struct mly_error *err)
{
    (void)err;
    *out = (struct mly_vector_block){
        .first_address = (uint64_t)block_i << 32,
        .values = snapshot->values[first_row(snapshot, block_i)],
        .row_count = snapshot->block_rows[block_i],
        .dim = DIM,
        .dead = snapshot->dead[block_i],
    };
    return MLY_OK;
}

void mly_snapshot_get_counts(const struct mly_snapshot *snapshot, struct mly_store_counts *out)
{
    *out = (struct mly_store_counts){.chunks = snapshot->live, .dim = DIM};
}

/* Documents of 7 rows; ids run against the row addresses, so that order by address would be wrong.
 */
enum mly_err mly_snapshot_read_chunk(const struct mly_snapshot *snapshot, uint64_t row_address,
                                     struct mly_arena *arena, struct mly_chunk_row *out,
                                     struct mly_error *err)
{
    ((struct mly_snapshot *)(uintptr_t)snapshot)->reads++;
    if (snapshot->reads_fail) return mly_fail(err, MLY_ERR_CORRUPT, "row is damaged");
    size_t row = first_row(snapshot, (size_t)(row_address >> 32)) + (uint32_t)row_address;
    char id[8];
    size_t number = 9999 - row / 7;
    for (size_t i = 0; i < 4; i++, number /= 10) {
        id[3 - i] = (char)('0' + number % 10);
    }
    memset(out, 0, sizeof(*out));
    out->document_id = mly_arena_copy(arena, (struct mly_str){id, 4});
    out->ordinal = (int64_t)(row % 7);
    return out->document_id.data != NULL ? MLY_OK : mly_fail_nomem(err, 5);
}

static bool is_dead(const struct mly_snapshot *snapshot, size_t row)
{
    size_t block_i = 0;
    while (row >= snapshot->block_rows[block_i]) {
        row -= snapshot->block_rows[block_i++];
    }
    return (snapshot->dead[block_i][row / 8] >> (row % 8) & 1) != 0;
}

/* levels: how many different values a coordinate has; few make many ties. */
static struct mly_snapshot *make_snapshot(unsigned seed, size_t row_count, int levels)
{
    struct mly_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    srand(seed);
    snapshot->row_count = row_count;
    snapshot->block_rows[0] = row_count / 2;
    snapshot->block_rows[1] = row_count / 3;
    snapshot->block_rows[2] = row_count - row_count / 2 - row_count / 3;
    for (size_t row = 0; row < row_count; row++) {
        for (size_t i = 0; i < DIM; i++) {
            snapshot->values[row][i] = (float)(rand() % levels) / (float)levels - 0.5f;
        }
    }
    for (size_t block_i = 0; block_i < BLOCKS; block_i++) {
        for (size_t row = 0; row < snapshot->block_rows[block_i]; row++) {
            if (rand() % 10 == 0) {
                snapshot->dead[block_i][row / 8] |= (uint8_t)(1u << (row % 8));
            } else {
                snapshot->live++;
            }
        }
    }
    return snapshot;
}

struct expected {
    float score;
    size_t row;
};

static int compare_expected(const void *a, const void *b)
{
    const struct expected *x = a;
    const struct expected *y = b;
    if (x->score > y->score || x->score < y->score) return x->score > y->score ? -1 : 1;
    size_t document_x = 9999 - x->row / 7;
    size_t document_y = 9999 - y->row / 7;
    if (document_x != document_y) return document_x < document_y ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void compare_with_sorting(unsigned seed, size_t row_count, int levels, size_t k)
{
    struct mly_snapshot *snapshot = make_snapshot(seed, row_count, levels);
    const struct mly_kern *kern = mly_kern_pick("scalar");
    const float query[DIM] = {0.3f, -0.2f, 0.5f, 0.1f, -0.4f};
    struct expected *all = calloc(row_count + 1, sizeof(*all));
    size_t live = 0;
    for (size_t row = 0; row < row_count; row++) {
        if (is_dead(snapshot, row)) continue;
        all[live++] = (struct expected){kern->dot_f32(query, snapshot->values[row], DIM), row};
    }
    qsort(all, live, sizeof(*all), compare_expected);
    const struct mly_kern *sets[8];
    size_t set_count = mly_kern_list(sets, 8);
    for (size_t set_i = 0; set_i < set_count; set_i++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_match *matches = NULL;
        size_t count = 0;
        struct mly_error err = {0};
        assert_int_equal(
            mly_search_exact(snapshot, sets[set_i], &mem, query, DIM, k, &matches, &count, &err),
            MLY_OK);
        assert_int_equal(count, k < live ? k : live);
        for (size_t i = 0; i < count; i++) {
            uint64_t address = matches[i].row_address;
            size_t row = first_row(snapshot, (size_t)(address >> 32)) + (uint32_t)address;
            assert_int_equal(row, all[i].row);
            assert_true(matches[i].score == all[i].score);
        }
        mly_mem_free(&mem, matches);
        assert_int_equal(mem.live, 0);
    }
    free(all);
    free(snapshot);
}

static void the_order_is_that_of_sorting_everything(void **state)
{
    (void)state;
    static const size_t ks[] = {1, 2, 5, 17, 100, 2500, 1000000};
    for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++) {
        compare_with_sorting(1 + (unsigned)i, ROWS_MAX, 1000, ks[i]);
        compare_with_sorting(100 + (unsigned)i, ROWS_MAX, 3, ks[i]);
        compare_with_sorting(200 + (unsigned)i, 40, 2, ks[i]);
        compare_with_sorting(300 + (unsigned)i, 0, 2, ks[i]);
    }
}

static void rows_without_a_number_are_left_out(void **state)
{
    (void)state;
    struct mly_snapshot *snapshot = make_snapshot(7, 100, 1000);
    memset(snapshot->dead, 0, sizeof(snapshot->dead));
    snapshot->live = 100;
    for (size_t row = 0; row < 100; row += 2) {
        snapshot->values[row][row % DIM] = NAN;
    }
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_match *matches = NULL;
    size_t count = 0;
    const float query[DIM] = {1, 1, 1, 1, 1};
    assert_int_equal(mly_search_exact(snapshot, mly_kern_pick(NULL), &mem, query, DIM, 1000,
                                      &matches, &count, NULL),
                     MLY_OK);
    assert_int_equal(count, 50);
    for (size_t i = 0; i < count; i++) {
        bool is_number = matches[i].score <= 0.0f || matches[i].score > 0.0f;
        assert_true(is_number);
    }
    mly_mem_free(&mem, matches);
    free(snapshot);
}

static void a_wrong_dimension_names_both(void **state)
{
    (void)state;
    struct mly_snapshot *snapshot = make_snapshot(7, 100, 1000);
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_match *matches = NULL;
    size_t count = 0;
    struct mly_error err = {0};
    const float query[DIM + 1] = {1};
    assert_int_equal(mly_search_exact(snapshot, mly_kern_pick(NULL), &mem, query, DIM + 1, 5,
                                      &matches, &count, &err),
                     MLY_ERR_INVAL);
    assert_string_equal(err.message, "vector has 6 numbers, the store's have 5");
    assert_null(matches);
    assert_int_equal(mem.live, 0);
    free(snapshot);
}

static void failures_leave_nothing_behind(void **state)
{
    (void)state;
    struct mly_snapshot *snapshot = make_snapshot(9, 200, 2);
    const float query[DIM] = {1, 0, 0, 0, 0};
    struct mly_match *matches = NULL;
    size_t count = 0;
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_error err = {0};
        atomic_store(&mem.fail_at, fail_at);
        enum mly_err rc = mly_search_exact(snapshot, mly_kern_pick(NULL), &mem, query, DIM, 10,
                                           &matches, &count, &err);
        if (rc == MLY_OK) {
            mly_mem_free(&mem, matches);
            assert_int_equal(mem.live, 0);
            assert_true(fail_at > 3);
            break;
        }
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_true(err.message[0] != '\0');
        assert_int_equal(mem.live, 0);
    }
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    snapshot->reads_fail = true;
    assert_int_equal(mly_search_exact(snapshot, mly_kern_pick(NULL), &mem, query, DIM, 10, &matches,
                                      &count, &err),
                     MLY_ERR_CORRUPT);
    assert_int_equal(mem.live, 0);
    free(snapshot);
}

static void only_ties_read_rows(void **state)
{
    (void)state;
    struct mly_snapshot *snapshot = make_snapshot(11, ROWS_MAX, 1000003);
    const float query[DIM] = {0.31f, -0.27f, 0.53f, 0.11f, -0.43f};
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_match *matches = NULL;
    size_t count = 0;
    assert_int_equal(mly_search_exact(snapshot, mly_kern_pick(NULL), &mem, query, DIM, 10, &matches,
                                      &count, NULL),
                     MLY_OK);
    assert_true(snapshot->reads < 20);
    mly_mem_free(&mem, matches);
    free(snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_that_of_sorting_everything),
        cmocka_unit_test(rows_without_a_number_are_left_out),
        cmocka_unit_test(a_wrong_dimension_names_both),
        cmocka_unit_test(failures_leave_nothing_behind),
        cmocka_unit_test(only_ties_read_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
