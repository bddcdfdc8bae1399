/* Lists of codes as other programs keep them: every vector once, in the nearest partition or one
 * almost as near, with the codes nearest to what is left of it; the same bytes from every kernel
 * set and number of threads; rows that have no direction are left out. */
#include "index/ivfpq.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "test_pace.h"
#include "vindex_cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Everything that came out, turned back: codes by row. */
struct lists {
    const struct vindex_case *of;
    size_t dim, partition_count, sub_count;
    float *centroids, *codebook;
    uint64_t rows, *partition_rows;
    uint32_t *partition[CASE_FILES_MAX]; /* of each row, UINT32_MAX: none */
    uint8_t *codes[CASE_FILES_MAX];      /* [rows][sub_count] */
    size_t next_partition;
};

static enum mly_err take(void *context, size_t partition_i, const uint64_t *rows,
                         const uint8_t *codes, size_t count, struct mly_error *err)
{
    struct lists *lists = context;
    (void)err;
    assert_int_equal(partition_i, lists->next_partition++);
    assert_int_equal(count, lists->partition_rows[partition_i]);
    for (size_t i = 0; i < count; i++) {
        const size_t file_i = (size_t)(rows[i] >> 32), row = (size_t)(rows[i] & UINT32_MAX);
        assert_true(file_i < lists->of->file_count);
        assert_true(row < lists->of->files[file_i].row_count);
        assert_true(i == 0 || rows[i] > rows[i - 1]);
        assert_int_equal(lists->partition[file_i][row], UINT32_MAX);
        lists->partition[file_i][row] = (uint32_t)partition_i;
        for (size_t s = 0; s < lists->sub_count; s++)
            lists->codes[file_i][row * lists->sub_count + s] = codes[s * count + i];
    }
    lists->rows += count;
    return MLY_OK;
}

static void *copy_of(const void *from, size_t bytes)
{
    void *to = malloc(bytes);
    assert_non_null(to);
    memcpy(to, from, bytes);
    return to;
}

static void keep_info(struct lists *lists, const struct mly_ivfpq_info *info)
{
    lists->dim = info->dim;
    lists->partition_count = info->partition_count;
    lists->sub_count = info->sub_count;
    lists->partition_rows = copy_of(info->partition_rows, info->partition_count * sizeof(uint64_t));
    lists->centroids = copy_of(info->centroids, info->partition_count * info->dim * sizeof(float));
    lists->codebook = copy_of(info->codebook, 256 * info->dim * sizeof(float));
    for (size_t i = 0; i < lists->of->file_count; i++) {
        const size_t rows = lists->of->files[i].row_count;
        lists->partition[i] = malloc(rows * sizeof(uint32_t));
        lists->codes[i] = calloc(rows, info->sub_count);
        assert_true(lists->partition[i] != NULL && lists->codes[i] != NULL);
        memset(lists->partition[i], 0xFF, rows * sizeof(uint32_t));
    }
}

static void make(struct vindex_case *of, const char *set, struct mly_pool *pool, struct lists *out)
{
    struct mly_error err = {0};
    struct mly_ivfpq *ivfpq = NULL;
    struct mly_ivfpq_info info;
    struct mly_vindex_maker maker = vindex_case_maker(of, mly_env_system(), NULL);
    maker.pool = pool;
    if (set != NULL) maker.kern = mly_kern_pick(set);
    *out = (struct lists){.of = of};
    if (mly_ivfpq_train(&maker, of->files, of->file_count, &ivfpq, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    mly_ivfpq_get_info(ivfpq, &info);
    keep_info(out, &info);
    if (mly_ivfpq_encode(ivfpq, take, out, &err) != MLY_OK) fail_msg("%s", err.message);
    assert_int_equal(out->next_partition, info.partition_count);
    assert_int_equal(out->rows, info.row_count);
    mly_ivfpq_destroy(ivfpq);
}

static void drop(struct lists *lists)
{
    for (size_t i = 0; i < lists->of->file_count; i++) {
        free(lists->partition[i]);
        free(lists->codes[i]);
    }
    free(lists->partition_rows);
    free(lists->centroids);
    free(lists->codebook);
}

/* A row of length 1, as the lists have it; false: it has no direction. */
static bool unit_of(const struct vindex_case *of, size_t file_i, size_t row, double *out)
{
    const float *x = of->values[file_i] + row * of->dim;
    double square = 0;
    if (of->none[file_i] != NULL && (of->none[file_i][row / 8] >> row % 8 & 1) != 0) return false;
    for (size_t d = 0; d < of->dim; d++)
        square += (double)x[d] * (double)x[d];
    if (!isfinite(square) || square < 1e-30 || square > 3e38) return false;
    for (size_t d = 0; d < of->dim; d++)
        out[d] = (double)x[d] / sqrt(square);
    return true;
}

static double distance(const double *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (a[i] - (double)b[i]) * (a[i] - (double)b[i]);
    return sum;
}

/* Checks a row's codes; *error grows by what they leave of it, *whole by all of it. */
static void check_codes(const struct lists *lists, size_t file_i, size_t row, double *unit,
                        double *error, double *whole)
{
    const uint32_t partition = lists->partition[file_i][row];
    const float *centroid = lists->centroids + partition * lists->dim;
    const size_t sub_dim = lists->dim / lists->sub_count;
    for (size_t d = 0; d < lists->dim; d++) {
        unit[d] -= (double)centroid[d];
        *whole += unit[d] * unit[d];
    }
    for (size_t s = 0; s < lists->sub_count; s++) {
        const float *entries = lists->codebook + s * 256 * sub_dim;
        const uint8_t code = lists->codes[file_i][row * lists->sub_count + s];
        double best = INFINITY;
        for (size_t e = 0; e < 256; e++) {
            const double far = distance(unit + s * sub_dim, entries + e * sub_dim, sub_dim);
            if (far < best) best = far;
        }
        const double mine = distance(unit + s * sub_dim, entries + code * sub_dim, sub_dim);
        assert_true(mine <= best + 1e-5);
        *error += mine;
    }
}

/* Every row that has a direction is in one list, near its centroid, with its nearest codes; how
 * much of what the centroids leave the codes leave. */
static double check(const struct lists *lists)
{
    const struct vindex_case *of = lists->of;
    double *unit = malloc(lists->dim * sizeof(double)), error = 0, whole = 0;
    size_t in = 0, nearest = 0;
    assert_non_null(unit);
    for (size_t i = 0; i < of->file_count; i++) {
        for (size_t row = 0; row < of->files[i].row_count; row++) {
            const bool has = unit_of(of, i, row, unit);
            const uint32_t partition = lists->partition[i][row];
            assert_int_equal(has, partition != UINT32_MAX);
            if (!has) continue;
            const double mine =
                distance(unit, lists->centroids + partition * lists->dim, lists->dim);
            double best = INFINITY;
            for (size_t p = 0; p < lists->partition_count; p++) {
                const double far = distance(unit, lists->centroids + p * lists->dim, lists->dim);
                if (far < best) best = far;
            }
            in++;
            nearest += mine <= best + 1e-6;
            check_codes(lists, i, row, unit, &error, &whole);
        }
    }
    assert_int_equal(in, lists->rows);
    assert_true((double)nearest >= 0.7 * (double)in);
    free(unit);
    return error / (whole + 1e-9);
}

static void every_vector_is_in_one_list_with_its_nearest_codes(void **state)
{
    (void)state;
    static const uint32_t rows[] = {6000, 1, 7000};
    struct vindex_case of;
    struct lists lists;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 32, rows, 3, 4);
    make(&of, NULL, NULL, &lists);
    assert_in_range(lists.partition_count, 2, 4);
    assert_int_equal(lists.partition_count, mly_ivfpq_partitions_for(13001));
    assert_int_equal(lists.rows, 13001);
    const double left = check(&lists);
    print_message("codes leave %.3f\n", left);
    assert_true(left < 0.35);
    drop(&lists);
    vindex_case_free(&of);
}

static void every_dimension_has_pieces_that_fit(void **state)
{
    (void)state;
    static const size_t dims[] = {1, 2, 7, 8, 12, 13, 100, 127, 384, 1000};
    static const uint32_t rows[] = {400};
    for (size_t i = 0; i < sizeof(dims) / sizeof(dims[0]); i++) {
        struct vindex_case of;
        struct lists lists;
        vindex_case_make(&of, MLY_VINDEX_COSINE, dims[i], rows, 1, 20 + i);
        make(&of, NULL, NULL, &lists);
        assert_int_equal(dims[i] % lists.sub_count, 0);
        assert_true(dims[i] / lists.sub_count <= 16);
        assert_true(check(&lists) < 0.5);
        drop(&lists);
        vindex_case_free(&of);
    }
    for (size_t dim = 1; dim <= 4096; dim++) {
        const size_t subs = mly_ivfpq_subs_for(dim);
        assert_true(subs >= 1 && subs <= dim && dim % subs == 0 && dim / subs <= 16);
    }
    assert_int_equal(mly_ivfpq_subs_for(384), 48);
    assert_int_equal(mly_ivfpq_partitions_for(0), 1);
    assert_int_equal(mly_ivfpq_partitions_for(UINT64_MAX / 2), 65536);
}

static void rows_without_a_direction_are_left_out(void **state)
{
    (void)state;
    static const uint32_t rows[] = {900, 64};
    struct vindex_case of;
    struct lists lists;
    vindex_case_make(&of, MLY_VINDEX_L2, 16, rows, 2, 9);
    of.none[0] = calloc(1, 900 / 8 + 1);
    of.none[1] = malloc(64 / 8 + 1);
    assert_true(of.none[0] != NULL && of.none[1] != NULL);
    memset(of.none[1], 0xFF, 64 / 8 + 1);
    for (size_t i = 0; i < 900; i += 7)
        of.none[0][i / 8] = (uint8_t)(of.none[0][i / 8] | 1 << i % 8);
    memset(of.values[0] + 1 * 16, 0, 16 * sizeof(float));
    of.values[0][2 * 16 + 3] = NAN;
    of.values[0][3 * 16 + 3] = -INFINITY;
    of.values[0][4 * 16 + 3] = 3e38F;
    make(&of, NULL, NULL, &lists);
    assert_int_equal(lists.rows, 900 - 129 - 4);
    (void)check(&lists);
    drop(&lists);
    /* And where nothing is left there is nothing. */
    memset(of.none[0], 0xFF, 900 / 8 + 1);
    make(&of, NULL, NULL, &lists);
    assert_int_equal(lists.rows, 0);
    assert_int_equal(lists.partition_count, 0);
    drop(&lists);
    vindex_case_free(&of);
}

static void rows_that_are_all_alike_are_one_list(void **state)
{
    (void)state;
    static const uint32_t rows[] = {9000};
    struct vindex_case of;
    struct lists lists;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 8, rows, 1, 9);
    for (size_t i = 1; i < 9000; i++)
        memcpy(of.values[0] + i * 8, of.values[0], 8 * sizeof(float));
    make(&of, NULL, NULL, &lists);
    assert_int_equal(lists.rows, 9000);
    (void)check(&lists);
    drop(&lists);
    vindex_case_free(&of);
}

static void expect_same(const struct lists *a, const struct lists *b)
{
    assert_int_equal(a->partition_count, b->partition_count);
    assert_memory_equal(a->centroids, b->centroids, a->partition_count * a->dim * sizeof(float));
    assert_memory_equal(a->codebook, b->codebook, 256 * a->dim * sizeof(float));
    for (size_t i = 0; i < a->of->file_count; i++) {
        const size_t rows = a->of->files[i].row_count;
        assert_memory_equal(a->partition[i], b->partition[i], rows * sizeof(uint32_t));
        assert_memory_equal(a->codes[i], b->codes[i], rows * a->sub_count);
    }
}

static void bytes_are_the_same_everywhere(void **state)
{
    (void)state;
    static const uint32_t rows[] = {7000, 2000};
    const struct mly_kern *sets[16];
    const size_t set_count = mly_kern_list(sets, 16);
    struct vindex_case of;
    struct lists first, other;
    struct mly_pool *pool = NULL;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 24, rows, 2, 31);
    make(&of, NULL, NULL, &first);
    for (size_t i = 0; i < set_count && i < 16; i++) {
        make(&of, sets[i]->name, NULL, &other);
        expect_same(&first, &other);
        drop(&other);
    }
    assert_int_equal(mly_pool_create(mly_env_system(), 3, &pool, NULL), MLY_OK);
    of.run_rows = 5;
    make(&of, NULL, pool, &other);
    expect_same(&first, &other);
    drop(&other);
    mly_pool_destroy(pool);
    drop(&first);
    vindex_case_free(&of);
}

static enum mly_err nowhere(void *context, size_t partition_i, const uint64_t *rows,
                            const uint8_t *codes, size_t count, struct mly_error *err)
{
    (void)context, (void)partition_i, (void)rows, (void)codes, (void)count, (void)err;
    return MLY_OK;
}

static enum mly_err run(const struct mly_vindex_maker *maker, const struct vindex_case *of,
                        struct mly_error *err)
{
    struct mly_ivfpq *ivfpq = NULL;
    MLY_TRY(mly_ivfpq_train(maker, of->files, of->file_count, &ivfpq, err));
    enum mly_err rc = mly_ivfpq_encode(ivfpq, nowhere, NULL, err);
    mly_ivfpq_destroy(ivfpq);
    return rc;
}

struct patience {
    uint64_t asked, end_at;
    double last;
};

static enum mly_err grow_tired(void *context, double done, struct mly_error *err)
{
    struct patience *patience = context;
    assert_true(done >= 0 && done <= 1.0 + 1e-9 && done >= patience->last - 1e-9);
    patience->last = done;
    if (++patience->asked != patience->end_at) return MLY_OK;
    return mly_fail(err, MLY_ERR_CANCELLED, "enough");
}

static void it_ends_when_it_is_asked_to(void **state)
{
    (void)state;
    static const uint32_t rows[] = {6500};
    struct vindex_case of;
    struct mly_error err;
    uint64_t end_at = 1;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 8, rows, 1, 3);
    for (;; end_at += TEST_PACE(1, 5, 7)) {
        struct fault_env fault;
        struct patience patience = {.end_at = end_at};
        fault_env_init(&fault);
        struct mly_vindex_maker maker = vindex_case_maker(&of, &fault.env, NULL);
        maker.pulse = grow_tired;
        maker.pulse_context = &patience;
        enum mly_err rc = run(&maker, &of, &err);
        assert_int_equal(fault.mem.live, 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_CANCELLED);
    }
    assert_true(end_at > 20);
    vindex_case_free(&of);
}

static void every_allocation_that_fails_is_told(void **state)
{
    (void)state;
    static const uint32_t rows[] = {6200};
    struct vindex_case of;
    struct mly_error err;
    uint64_t fail_at = 1;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 8, rows, 1, 3);
    for (;; fail_at += TEST_PACE(1, 5, 7)) {
        struct fault_env fault;
        fault_env_init(&fault);
        fault.mem.fail_at = fail_at;
        const struct mly_vindex_maker maker = vindex_case_maker(&of, &fault.env, NULL);
        enum mly_err rc = run(&maker, &of, &err);
        assert_int_equal(fault.mem.live, 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_NOMEM);
    }
    assert_true(fail_at > 30);
    vindex_case_free(&of);
}

static void a_dimension_out_of_range_is_told(void **state)
{
    (void)state;
    static const uint32_t rows[] = {10};
    struct vindex_case of;
    struct mly_error err;
    struct mly_ivfpq *ivfpq = NULL;
    vindex_case_make(&of, MLY_VINDEX_COSINE, 8, rows, 1, 3);
    struct mly_vindex_maker maker = vindex_case_maker(&of, mly_env_system(), NULL);
    maker.dim = 4097;
    assert_int_equal(mly_ivfpq_train(&maker, of.files, 1, &ivfpq, &err), MLY_ERR_INVAL);
    maker.dim = 0;
    assert_int_equal(mly_ivfpq_train(&maker, of.files, 1, &ivfpq, &err), MLY_ERR_INVAL);
    mly_ivfpq_destroy(NULL);
    vindex_case_free(&of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_is_in_one_list_with_its_nearest_codes),
        cmocka_unit_test(every_dimension_has_pieces_that_fit),
        cmocka_unit_test(rows_without_a_direction_are_left_out),
        cmocka_unit_test(rows_that_are_all_alike_are_one_list),
        cmocka_unit_test(bytes_are_the_same_everywhere),
        cmocka_unit_test(it_ends_when_it_is_asked_to),
        cmocka_unit_test(every_allocation_that_fails_is_told),
        cmocka_unit_test(a_dimension_out_of_range_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
