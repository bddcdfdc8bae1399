/* Tables of centroids, their training on rows around known middles, and which cells vectors get. */
#include "index/cells.h"
#include "kern/codes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { WIDTH = 128, SETS_MAX = 8 };

static uint64_t next_bits(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dULL;
}

/* About Gaussian, of deviation 1. */
static float next_float(uint64_t *state)
{
    float sum = 0.0f;
    for (int i = 0; i < 12; i++) {
        sum += (float)(next_bits(state) >> 40) * 0x1p-24f;
    }
    return sum - 6.0f;
}

/* Rows around middles that are far apart: row i belongs to middle i % middle_count. */
struct sample {
    float *rows; /* f32[count][WIDTH] */
    uint8_t *q;
    float *scale, *low;
    struct mly_kern_rows quantised;
};

static struct sample make_sample(size_t count, size_t middle_count, float spread, bool unit)
{
    struct sample sample;
    uint64_t state = 77 + count;
    float *middles = calloc(middle_count * WIDTH, sizeof(float));
    sample.rows = calloc(count * WIDTH, sizeof(float));
    sample.q = calloc(count, WIDTH);
    sample.scale = calloc(count, sizeof(float));
    sample.low = calloc(count, sizeof(float));
    for (size_t i = 0; i < middle_count * WIDTH; i++) {
        middles[i] = next_float(&state);
    }
    for (size_t i = 0; i < count; i++) {
        float *row = sample.rows + i * WIDTH, size = 0.0f;
        for (size_t d = 0; d < WIDTH; d++) {
            row[d] = middles[i % middle_count * WIDTH + d] + spread * next_float(&state);
            size += row[d] * row[d];
        }
        for (size_t d = 0; d < WIDTH && unit; d++) {
            row[d] /= sqrtf(size);
        }
        mly_kern_pick("scalar")->quantize_f32_u8(row, NULL, WIDTH, sample.q + i * WIDTH,
                                                 &sample.scale[i], &sample.low[i]);
    }
    sample.quantised = (struct mly_kern_rows){sample.q, sample.scale, sample.low, count, WIDTH};
    free(middles);
    return sample;
}

static void free_sample(struct sample *sample)
{
    free(sample->rows);
    free(sample->q);
    free(sample->scale);
    free(sample->low);
}

static float distance(const float *a, const float *b)
{
    float sum = 0.0f;
    for (size_t i = 0; i < WIDTH; i++) {
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    }
    return sum;
}

static void a_centroid_comes_back_with_its_length(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_cells cells, view;
    uint64_t seed = 5;
    float in[WIDTH], out[WIDTH];
    assert_int_equal(mly_cells_create(&mem, WIDTH, 3, true, &cells, NULL), MLY_OK);
    for (size_t at = 0; at < 3 * MLY_CELLS_PANEL; at++) {
        assert_false(mly_cells_has(&cells, at));
    }
    for (size_t at = 0; at < 3 * MLY_CELLS_PANEL; at += 5) {
        float largest = 0.0f, square = 0.0f;
        for (size_t i = 0; i < WIDTH; i++) {
            in[i] = next_float(&seed);
            largest = fabsf(in[i]) > largest ? fabsf(in[i]) : largest;
        }
        mly_cells_set(&cells, at, in);
        mly_cells_get(&cells, at, out);
        for (size_t i = 0; i < WIDTH; i++) {
            assert_true(fabsf(in[i] - out[i]) <= largest / 127.0f * 0.501f);
            square += out[i] * out[i];
        }
        assert_true(fabsf(cells.cells.squares[at] - square) < 1e-4f * square);
        assert_true(fabsf(cells.cells.ranks[at] * sqrtf(square) - 1.0f) < 1e-4f);
    }
    mly_cells_view(cells.bytes, WIDTH, 3, true, &view);
    mly_cells_clear(&cells, 5);
    for (size_t at = 0; at < 3 * MLY_CELLS_PANEL; at++) {
        assert_int_equal(mly_cells_has(&view, at), at % 5 == 0 && at != 5);
    }
    mly_cells_deinit(&view);
    mly_cells_deinit(&cells);
    mly_cells_deinit(&cells);
    assert_int_equal(mem.live, 0);
}

static void a_larger_table_has_the_same_cells(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_cells cells;
    uint64_t seed = 6;
    float in[WIDTH], before[WIDTH], after[WIDTH];
    assert_int_equal(mly_cells_create(&mem, WIDTH, 1, true, &cells, NULL), MLY_OK);
    for (size_t at = 0; at < MLY_CELLS_PANEL; at++) {
        for (size_t i = 0; i < WIDTH; i++) {
            in[i] = next_float(&seed);
        }
        mly_cells_set(&cells, at, in);
    }
    mly_cells_regroup(&cells);
    mly_cells_get(&cells, 63, before);
    assert_int_equal(mly_cells_place_near(&cells, 3), MLY_CELLS_NONE);
    mly_cells_clear(&cells, 17);
    assert_int_equal(mly_cells_place_near(&cells, 3), 17);
    mly_cells_set(&cells, 17, in);
    mem.fail_at = mem.calls + 1;
    assert_int_equal(mly_cells_grow(&cells, 70, NULL), MLY_ERR_NOMEM);
    mem.fail_at = 0;
    assert_int_equal(cells.cells.panel_count, 1);
    assert_int_equal(mly_cells_grow(&cells, 70, NULL), MLY_OK);
    assert_int_equal(mly_cells_grow(&cells, 70, NULL), MLY_OK);
    assert_int_equal(cells.groups.panel_count, 2);
    mly_cells_get(&cells, 63, after);
    assert_memory_equal(before, after, sizeof(before));
    assert_true(cells.groups.biases[0] >= 0.0f && cells.groups.biases[1] < 0.0f);
    assert_int_equal(mly_cells_place_near(&cells, 3), 64);
    mly_cells_deinit(&cells);
    assert_int_equal(mem.live, 0);
}

static void two_level_places_are_near(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_cells cells;
    float in[WIDTH];
    assert_int_equal(mly_cells_create(&mem, WIDTH, 4, false, &cells, NULL), MLY_OK);
    for (size_t at = 0; at < 4 * MLY_CELLS_PANEL; at++) {
        const size_t panel = at / MLY_CELLS_PANEL; /* along a line: panels 0, 3, 1, 2 */
        const float where[] = {0.0f, 20.0f, 30.0f, 9.0f};
        for (size_t i = 0; i < WIDTH; i++) {
            in[i] = where[panel] + (float)(at % 3);
        }
        if (panel == 0 || at % MLY_CELLS_PANEL < 60) mly_cells_set(&cells, at, in);
    }
    mly_cells_regroup(&cells);
    assert_int_equal(mly_cells_place_near(&cells, 10), 3 * MLY_CELLS_PANEL + 60);
    assert_int_equal(mly_cells_place_near(&cells, 70), MLY_CELLS_PANEL + 60);
    mly_cells_deinit(&cells);
}

static struct mly_cells train(struct mly_mem *mem, const struct mly_kern *kern,
                              struct mly_pool *pool, const struct sample *sample, bool is_cosine,
                              size_t cell_count)
{
    const struct mly_cells_trainer trainer = {.mem = mem, .kern = kern, .pool = pool};
    struct mly_cells cells;
    assert_int_equal(
        mly_cells_train(&trainer, &sample->quantised, WIDTH, is_cosine, cell_count, &cells, NULL),
        MLY_OK);
    return cells;
}

static size_t used(const struct mly_cells *cells)
{
    size_t count = 0;
    for (size_t at = 0; at < cells->cells.panel_count * MLY_CELLS_PANEL; at++) {
        count += mly_cells_has(cells, at);
    }
    return count;
}

static void centroids_are_near_the_rows(void **state)
{
    (void)state;
    enum { ROWS = 3000, CELLS = 300 };
    for (int is_cosine = 0; is_cosine < 2; is_cosine++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct sample sample = make_sample(ROWS, 150, 0.3f, is_cosine != 0);
        struct mly_cells cells = train(&mem, mly_kern_pick(NULL), NULL, &sample, is_cosine, CELLS);
        struct mly_assigner *assigner;
        static uint32_t of[ROWS][2];
        float centroid[WIDTH];
        double near = 0.0, all = 0.0;
        size_t first_better = 0;
        assert_in_range(used(&cells), CELLS * 9 / 10, CELLS * 11 / 10);
        assert_true(cells.cells.panel_count >= CELLS / MLY_CELLS_PANEL);
        assert_int_equal(mly_assigner_create(&mem, mly_kern_pick(NULL), &cells, 1, &assigner, NULL),
                         MLY_OK);
        mly_assign(assigner, 0, sample.rows, ROWS, of);
        for (size_t i = 0; i < ROWS; i++) {
            const float *row = sample.rows + i * WIDTH;
            assert_true(mly_cells_has(&cells, of[i][0]) && mly_cells_has(&cells, of[i][1]));
            assert_int_not_equal(of[i][0], of[i][1]);
            mly_cells_get(&cells, of[i][0], centroid);
            const float here = distance(row, centroid);
            near += (double)here;
            all += (double)distance(row, sample.rows + (i * 7 + 1) % ROWS * WIDTH);
            mly_cells_get(&cells, of[i][1], centroid);
            first_better += here <= distance(row, centroid) * 1.001f;
        }
        /* the spread around a middle is 0.09 of what lies between the middles: 2 * (1 + 0.09) */
        assert_true(near < all * 0.055);
        assert_true(first_better > ROWS * 97 / 100);
        mly_assigner_destroy(assigner);
        mly_cells_deinit(&cells);
        free_sample(&sample);
        assert_int_equal(mem.live, 0);
    }
}

static void nearly_every_row_gets_the_nearest_cell_of_all(void **state)
{
    (void)state;
    enum { ROWS = 5000, CELLS = 1200 };
    struct mly_mem mem = MLY_MEM_INIT;
    struct sample sample = make_sample(ROWS, 60, 0.8f, true);
    struct mly_cells cells = train(&mem, mly_kern_pick(NULL), NULL, &sample, true, CELLS);
    struct mly_assigner *assigner;
    static uint32_t of[ROWS][2];
    const size_t places = cells.cells.panel_count * MLY_CELLS_PANEL;
    float *centroids = calloc(places * WIDTH, sizeof(float)),
          *ranks = calloc(places, sizeof(float));
    size_t right = 0;
    assert_true(cells.cells.panel_count > 20); /* more than are looked through */
    assert_int_equal(mly_assigner_create(&mem, mly_kern_pick(NULL), &cells, 1, &assigner, NULL),
                     MLY_OK);
    mly_assign(assigner, 0, sample.rows, ROWS, of);
    for (size_t at = 0; at < places; at++) {
        mly_cells_get(&cells, at, centroids + at * WIDTH);
    }
    for (size_t i = 0; i < ROWS; i += 10) {
        float best = -INFINITY;
        mly_kern_pick(NULL)->scores_f32(sample.rows + i * WIDTH, centroids, places, WIDTH, ranks);
        for (size_t at = 0; at < places; at++) {
            ranks[at] *= cells.cells.ranks[at];
            if (mly_cells_has(&cells, at) && ranks[at] > best) best = ranks[at];
        }
        right += ranks[of[i][0]] > best - 0.003f;
    }
    free(centroids);
    free(ranks);
    assert_true(right > ROWS / 10 * 95 / 100);
    mly_assigner_destroy(assigner);
    mly_cells_deinit(&cells);
    free_sample(&sample);
}

/* A segment has the same bytes wherever it is built. */
static void sets_and_threads_change_no_bit(void **state)
{
    (void)state;
    enum { ROWS = 3000, CELLS = 200 };
    const struct mly_kern *sets[SETS_MAX];
    const size_t set_count = mly_kern_list(sets, SETS_MAX);
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_pool *pool;
    struct sample sample = make_sample(ROWS, 40, 0.6f, true);
    static uint32_t wanted[ROWS][2], got[ROWS][2];
    struct mly_assigner *assigner;
    assert_int_equal(mly_pool_create(mly_env_system(), 3, &pool, NULL), MLY_OK);
    for (int is_cosine = 0; is_cosine < 2; is_cosine++) {
        const struct mly_kern *scalar = mly_kern_pick("scalar");
        struct mly_cells first = train(&mem, scalar, NULL, &sample, is_cosine, CELLS);
        const size_t bytes = mly_cells_bytes(WIDTH, first.cells.panel_count);
        assert_int_equal(mly_assigner_create(&mem, scalar, &first, 1, &assigner, NULL), MLY_OK);
        mly_assign(assigner, 0, sample.rows, ROWS, wanted);
        mly_assigner_destroy(assigner);
        for (size_t s = 0; s < set_count; s++) {
            struct mly_cells other =
                train(&mem, sets[s], s % 2 == 0 ? pool : NULL, &sample, is_cosine, CELLS);
            assert_int_equal(other.cells.panel_count, first.cells.panel_count);
            assert_memory_equal(other.bytes, first.bytes, bytes);
            assert_int_equal(mly_assigner_create(&mem, sets[s], &other, 1, &assigner, NULL),
                             MLY_OK);
            for (size_t i = 0; i < ROWS; i += 100) { /* other batches */
                mly_assign(assigner, 0, sample.rows + i * WIDTH, 100, got + i);
            }
            assert_memory_equal(wanted, got, sizeof(got));
            mly_assigner_destroy(assigner);
            mly_cells_deinit(&other);
        }
        mly_cells_deinit(&first);
    }
    mly_pool_destroy(pool);
    free_sample(&sample);
    assert_int_equal(mem.live, 0);
}

static void few_rows_or_equal_rows_are_no_trouble(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    const struct mly_kern *kern = mly_kern_pick(NULL);
    for (size_t rows = 1; rows <= 2001; rows += 500) {
        struct sample sample = make_sample(rows, 1, 0.0f, true); /* all alike */
        struct mly_cells cells = train(&mem, kern, NULL, &sample, true, 400);
        struct mly_assigner *assigner;
        uint32_t of[3][2];
        assert_int_equal(mly_assigner_create(&mem, kern, &cells, 1, &assigner, NULL), MLY_OK);
        mly_assign(assigner, 0, sample.rows, rows < 3 ? rows : 3, of);
        assert_true(mly_cells_has(&cells, of[0][0]));
        if (rows == 1) assert_int_equal(of[0][1], MLY_CELLS_NONE);
        mly_assigner_destroy(assigner);
        mly_cells_deinit(&cells);
        free_sample(&sample);
    }
    struct sample zero = make_sample(5, 1, 0.0f, false);
    memset(zero.q, 0, 5 * WIDTH);
    memset(zero.scale, 0, 5 * sizeof(float));
    memset(zero.low, 0, 5 * sizeof(float));
    struct mly_cells cells = train(&mem, kern, NULL, &zero, true, 2);
    mly_cells_deinit(&cells);
    free_sample(&zero);
    assert_int_equal(mem.live, 0);
}

static void a_row_of_no_numbers_gets_some_cell(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct sample sample = make_sample(500, 10, 0.3f, true);
    for (int is_cosine = 0; is_cosine < 2; is_cosine++) {
        struct mly_cells cells =
            train(&mem, mly_kern_pick(NULL), NULL, &sample, is_cosine != 0, 20);
        struct mly_assigner *assigner;
        uint32_t of[3][2];
        float rows[3 * WIDTH];
        for (size_t i = 0; i < WIDTH; i++) {
            rows[i] = NAN;
            rows[WIDTH + i] = i % 2 == 0 ? 3e38f : -3e38f;
            rows[2 * WIDTH + i] = 0.0f;
        }
        assert_int_equal(mly_assigner_create(&mem, mly_kern_pick(NULL), &cells, 1, &assigner, NULL),
                         MLY_OK);
        mly_assign(assigner, 0, rows, 3, of);
        for (size_t i = 0; i < 3; i++) {
            assert_true(of[i][0] < cells.cells.panel_count * MLY_CELLS_PANEL);
            assert_true(mly_cells_has(&cells, of[i][0]));
        }
        mly_assigner_destroy(assigner);
        mly_cells_deinit(&cells);
    }
    free_sample(&sample);
}

static void a_cell_is_cut_where_its_rows_part(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    const struct mly_cells_trainer trainer = {.mem = &mem, .kern = mly_kern_pick(NULL)};
    struct sample sample = make_sample(601, 2, 0.3f, false);
    uint8_t sides[601];
    float centroids[2 * WIDTH];
    bool is_cut;
    assert_int_equal(
        mly_cells_split(&trainer, &sample.quantised, WIDTH, sides, centroids, &is_cut, NULL),
        MLY_OK);
    assert_true(is_cut);
    for (size_t i = 0; i < 601; i++) {
        const float *row = sample.rows + i * WIDTH, *own = centroids + sides[i] * WIDTH;
        assert_int_equal(sides[i] == sides[0], i % 2 == 0);
        assert_true(distance(row, own) < 0.2f * WIDTH);
    }
    free_sample(&sample);
}

static void no_side_of_a_cut_is_small(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    const struct mly_cells_trainer trainer = {.mem = &mem, .kern = mly_kern_pick(NULL)};
    for (size_t alone = 0; alone < 4; alone++) { /* rows that are not like all others */
        struct sample sample = make_sample(400, 1, 0.0f, false);
        uint8_t sides[400];
        float centroids[2 * WIDTH];
        bool is_cut;
        size_t ones = 0;
        for (size_t i = 0; i < alone * WIDTH; i++) {
            sample.q[i] = (uint8_t)(i * 31 % 251);
        }
        assert_int_equal(
            mly_cells_split(&trainer, &sample.quantised, WIDTH, sides, centroids, &is_cut, NULL),
            MLY_OK);
        assert_int_equal(is_cut, alone > 0);
        for (size_t i = 0; i < 400; i++) {
            assert_true(!is_cut || sides[i] <= 1);
            ones += is_cut && sides[i] == 1;
        }
        if (is_cut) assert_in_range(ones, 25, 375);
        free_sample(&sample);
    }
    assert_int_equal(mem.live, 0);
}

static void memory_that_cannot_be_had_is_an_error(void **state)
{
    (void)state;
    struct sample sample = make_sample(700, 20, 0.3f, true);
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_cells_trainer trainer = {.mem = &mem, .kern = mly_kern_pick(NULL)};
        struct mly_cells cells;
        struct mly_assigner *assigner = NULL;
        struct mly_error err = {0};
        uint8_t sides[700];
        float centroids[2 * WIDTH];
        bool is_cut;
        mem.fail_at = fail_at;
        enum mly_err rc =
            mly_cells_train(&trainer, &sample.quantised, WIDTH, true, 100, &cells, &err);
        if (rc == MLY_OK) {
            rc = mly_assigner_create(&mem, trainer.kern, &cells, 2, &assigner, &err);
        }
        if (rc == MLY_OK) {
            rc = mly_cells_split(&trainer, &sample.quantised, WIDTH, sides, centroids, &is_cut,
                                 &err);
        }
        mly_assigner_destroy(assigner);
        mly_cells_deinit(&cells);
        assert_int_equal(mem.live, 0);
        if (rc == MLY_OK) {
            assert_in_range(fail_at, 10, 60);
            break;
        }
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_true(err.message[0] != '\0');
    }
    free_sample(&sample);
}

static enum mly_err stop_at(void *context, struct mly_error *err)
{
    int *left = context;
    if (--*left < 0) return mly_fail(err, MLY_ERR_CANCELLED, "stopped");
    return MLY_OK;
}

static void training_stops_when_it_is_asked_to(void **state)
{
    (void)state;
    struct sample sample = make_sample(700, 20, 0.3f, true);
    for (int pulses = 0;; pulses++) {
        struct mly_mem mem = MLY_MEM_INIT;
        int left = pulses;
        struct mly_cells_trainer trainer = {
            .mem = &mem, .kern = mly_kern_pick(NULL), .pulse = stop_at, .pulse_context = &left};
        struct mly_cells cells;
        const enum mly_err rc =
            mly_cells_train(&trainer, &sample.quantised, WIDTH, true, 100, &cells, NULL);
        mly_cells_deinit(&cells);
        assert_int_equal(mem.live, 0);
        if (rc == MLY_OK) {
            assert_in_range(pulses, 5, 100);
            break;
        }
        assert_int_equal(rc, MLY_ERR_CANCELLED);
    }
    free_sample(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_centroid_comes_back_with_its_length),
        cmocka_unit_test(a_larger_table_has_the_same_cells),
        cmocka_unit_test(two_level_places_are_near),
        cmocka_unit_test(centroids_are_near_the_rows),
        cmocka_unit_test(nearly_every_row_gets_the_nearest_cell_of_all),
        cmocka_unit_test(sets_and_threads_change_no_bit),
        cmocka_unit_test(few_rows_or_equal_rows_are_no_trouble),
        cmocka_unit_test(a_row_of_no_numbers_gets_some_cell),
        cmocka_unit_test(a_cell_is_cut_where_its_rows_part),
        cmocka_unit_test(no_side_of_a_cut_is_small),
        cmocka_unit_test(memory_that_cannot_be_had_is_an_error),
        cmocka_unit_test(training_stops_when_it_is_asked_to),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
