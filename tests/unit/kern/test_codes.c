/* The scan of codes and the products with records: every set against the definition, bit for bit;
 * the definition, the rotation and the codes against doubles. */
#include "kern_cases.h"

#include "kern/codes.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CODES = MLY_KERN_BLOCK_CODES, WIDTH_MAX = MLY_KERN_CODE_DIM_MAX };

static double product(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)a[i] * (double)b[i];
    }
    return sum;
}

static void rotation_keeps_lengths_and_products(void **state)
{
    (void)state;
    struct numbers numbers = {201};
    static float x[WIDTH_MAX], y[WIDTH_MAX], rx[WIDTH_MAX + 1], ry[WIDTH_MAX + 1];
    for (size_t dim = 1; dim <= WIDTH_MAX; dim += dim < 130 ? 1 : 131) {
        struct mly_kern_rotation rotation;
        mly_kern_rotation_init(&rotation, dim);
        assert_int_equal(rotation.width, (dim + 63) / 64 * 64);
        fill_floats(&numbers, x, dim, 1.0f);
        fill_floats(&numbers, y, dim, 1.0f);
        rx[rotation.width] = ry[rotation.width] = 7.0f;
        mly_kern_rotate(&rotation, x, rx);
        mly_kern_rotate(&rotation, y, ry);
        const double size = product(x, x, dim);
        assert_true(fabs(product(rx, rx, rotation.width) - size) < 1e-5 * size);
        assert_true(fabs(product(rx, ry, rotation.width) - product(x, y, dim)) < 1e-5 * size);
        assert_true(rx[rotation.width] == 7.0f && ry[rotation.width] == 7.0f);
    }
}

static void rotation_spreads_a_single_number_over_all(void **state)
{
    (void)state;
    static float x[WIDTH_MAX], out[WIDTH_MAX];
    static const size_t dims[] = {8, 64, 100, 192, 320, 384, 448, 768, 1000, 1536, 4096};
    for (size_t d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
        struct mly_kern_rotation rotation;
        mly_kern_rotation_init(&rotation, dims[d]);
        for (size_t at = 0; at < dims[d]; at += 1 + dims[d] / 7) {
            memset(x, 0, sizeof(x));
            x[at] = 1.0f;
            mly_kern_rotate(&rotation, x, out);
            double fourth = 0.0; /* 1 / width where all are equal, 3 / width where Gaussian */
            for (size_t i = 0; i < rotation.width; i++) {
                fourth += pow((double)out[i], 4.0);
            }
            assert_true(fourth * (double)rotation.width < 4.5);
        }
    }
}

/* FNV-1a over words. */
static void add_word(uint64_t *sum, uint32_t word)
{
    *sum = (*sum ^ word) * 0x100000001b3u;
}

static void add_floats(uint64_t *sum, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof(bits));
        add_word(sum, bits);
    }
}

/* Codes on disk depend on these bits, on every machine and for ever. */
static void rotations_and_codes_have_known_bits(void **state)
{
    (void)state;
    struct numbers numbers = {203};
    static float x[900], rotated[960], centroid[960];
    uint8_t code[960 / 8];
    float both[2];
    struct mly_kern_rotation rotation;
    mly_kern_rotation_init(&rotation, 900);
    fill_floats(&numbers, x, 900, 1.0f);
    fill_floats(&numbers, centroid, 960, 0.2f);
    mly_kern_rotate(&rotation, x, rotated);
    mly_kern_code_make(rotated, centroid, 960, code, &both[0], &both[1]);
    uint64_t sum = 0xcbf29ce484222325u;
    add_floats(&sum, rotated, 960);
    add_floats(&sum, both, 2);
    for (size_t i = 0; i < sizeof(code); i++) {
        add_word(&sum, code[i]);
    }
    assert_true(sum == 0x6acb1c38cd02c3e0u);
}

static void codes_are_signs_and_two_numbers(void **state)
{
    (void)state;
    struct numbers numbers = {204};
    float x[448], c[448], factor, offset;
    uint8_t code[448 / 8];
    for (size_t width = 64; width <= 448; width += 64) {
        fill_floats(&numbers, x, width, 1.0f);
        fill_floats(&numbers, c, width, 0.5f);
        mly_kern_code_make(x, c, width, code, &factor, &offset);
        double squares = 0.0, sizes = 0.0, products = 0.0, signs = 0.0;
        for (size_t i = 0; i < width; i++) {
            const double rest = (double)x[i] - (double)c[i], sign = rest > 0.0 ? 1.0 : -1.0;
            assert_int_equal(code[i / 8] >> (i % 8) & 1, rest > 0.0);
            squares += rest * rest;
            sizes += fabs(rest);
            products += rest * (double)c[i];
            signs += sign * (double)c[i];
        }
        assert_true(fabs((double)factor - squares / sizes) < 1e-5);
        assert_true(fabs((double)offset - (products - squares / sizes * signs)) < 1e-4);
    }
    mly_kern_code_make(c, c, 448, code, &factor, &offset);
    assert_true(factor == 0.0f && offset == 0.0f);
}

static void half_floats_round_to_even_and_come_back(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x10000; half++) {
        const float x = mly_kern_f32_from_half((uint16_t)half);
        const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
        if (exponent == 31 && fraction != 0) {
            assert_true(isnan(x));
            continue;
        }
        const double size =
            exponent == 0 ? ldexp(fraction, -24) : ldexp(1024.0 + fraction, (int)exponent - 25);
        const double wanted = exponent == 31 ? INFINITY : size;
        assert_true((double)x == (half >> 15 != 0 ? -wanted : wanted));
        assert_int_equal(mly_kern_half_from_f32(x), half);
        if (exponent == 31 || half == 0x7bff || half == 0xfbff) continue;
        const float next = mly_kern_f32_from_half((uint16_t)(half + 1));
        const float middle = (x + next) / 2.0f; /* exact; ties go to the even one */
        assert_int_equal(mly_kern_half_from_f32(middle), half + half % 2);
        assert_int_equal(mly_kern_half_from_f32(nextafterf(middle, x)), half);
        assert_int_equal(mly_kern_half_from_f32(nextafterf(middle, next)), half + 1);
    }
    assert_int_equal(mly_kern_half_from_f32(65505.0f), 0x7bff);
    assert_int_equal(mly_kern_half_from_f32(-1e38f), 0xfbff);
    assert_int_equal(mly_kern_half_from_f32(INFINITY), 0x7c00);
    assert_int_equal(mly_kern_half_from_f32(NAN) & 0x7c00, 0x7c00);
}

static void records_lose_half_a_step(void **state)
{
    (void)state;
    struct numbers numbers = {205};
    float x[411], scale;
    int8_t q[411];
    for (size_t n = 1; n <= 411; n += 1 + n / 9) {
        const float size = n % 3 == 0 ? 1e-12f : n % 3 == 1 ? 1.0f : 1e30f;
        fill_floats(&numbers, x, n, size);
        mly_kern_quantize_f32_s8(x, n, q, &scale);
        bool is_used = false;
        for (size_t i = 0; i < n; i++) {
            const double back = (double)q[i] * (double)scale;
            assert_true(fabs(back - (double)x[i]) <= (double)scale * 0.5001);
            is_used = is_used || q[i] == 127 || q[i] == -127;
        }
        assert_true(is_used);
    }
    memset(x, 0, sizeof(x));
    x[3] = 1e-38f;
    mly_kern_quantize_f32_s8(x, 411, q, &scale);
    assert_true(scale == 0.0f && q[3] == 0);
}

static void products_with_records_have_equal_bits(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX], *scalar = mly_kern_pick("scalar");
    const size_t count = list_sets(sets);
    struct numbers numbers = {206};
    float x[1031];
    int8_t rows[1033];
    for (size_t n = 1; n <= 1031; n += n < 70 ? 1 : 31) {
        for (size_t offset = 0; offset < 2; offset++) {
            const int8_t *row = rows + offset;
            fill_floats(&numbers, x, n, 1.0f);
            fill_bytes(&numbers, rows, sizeof(rows));
            const float wanted = scalar->dot_s8_f32(row, x, n);
            double sum = 0.0, size = 0.0;
            for (size_t i = 0; i < n; i++) {
                sum += (double)row[i] * (double)x[i];
                size += fabs((double)row[i] * (double)x[i]);
            }
            assert_true(fabs((double)wanted - sum) <= size * 80.0 * 6e-8);
            for (size_t s = 0; s < count; s++) {
                const float got = sets[s]->dot_s8_f32(row, x, n);
                same_floats("dot_s8_f32", sets[s]->name, 206, &wanted, &got, 1);
            }
        }
    }
}

/* Blocks of random codes with a query; some places hold no code. */
struct scan_case {
    size_t width, stride, count;
    uint8_t *blocks, *tables;
    struct mly_kern_code_query query;
    float *levels; /* 2 * level - 15 for each dimension, of the query as it is tabled */
};

static struct scan_case make_case(struct numbers *numbers, size_t width, size_t count)
{
    struct scan_case c = {.width = width, .count = count};
    c.stride = MLY_KERN_BLOCK_BYTES(width) + next_bits(numbers) % 5 * 16;
    c.blocks = room(count * c.stride + 16);
    c.tables = room(MLY_KERN_QUERY_BYTES(width));
    c.levels = room(width * sizeof(float));
    float *query = room(width * sizeof(float));
    fill_floats(numbers, query, width, 1.0f);
    fill_bytes(numbers, c.blocks, count * c.stride);
    for (size_t b = 0; b < count; b++) {
        uint8_t *block = c.blocks + b * c.stride, code[WIDTH_MAX / 8];
        mly_kern_block_clear(block, width);
        for (size_t place = 0; place < CODES; place++) {
            if (b + 1 == count && place > 9) break;
            fill_bytes(numbers, code, width / 8);
            struct mly_kern_code_numbers both = {
                mly_kern_half_from_f32(fabsf(next_float(numbers, 0.1f))),
                mly_kern_half_from_f32(next_float(numbers, 1.0f)),
            };
            mly_kern_block_put(block, width, place, code, both);
        }
    }
    mly_kern_query_make(query, width, c.tables, &c.query);
    float most = 0.0f;
    for (size_t i = 0; i < width; i++) {
        most = fabsf(query[i]) > most ? fabsf(query[i]) : most;
    }
    for (size_t i = 0; i < width; i++) {
        const double level = ((double)query[i] / (double)most * 15.0 + 15.0) / 2.0;
        c.levels[i] = (float)(2.0 * nearbyint(level) - 15.0);
    }
    free(query);
    return c;
}

static void free_case(struct scan_case *c)
{
    free(c->blocks);
    free(c->tables);
    free(c->levels);
}

static void scanning_gives_what_the_codes_say(void **state)
{
    (void)state;
    const struct mly_kern *scalar = mly_kern_pick("scalar");
    struct numbers numbers = {207};
    for (size_t width = 64; width <= WIDTH_MAX; width += width < 512 ? 64 : 512) {
        struct scan_case c = make_case(&numbers, width, 3);
        float estimates[3 * CODES];
        uint16_t hits[3];
        scalar->scan_codes(&c.query, c.blocks, c.stride, 3, 0.25f, -1e30f, NULL, estimates, hits);
        assert_int_equal(hits[0], 0xffff);
        assert_int_equal(hits[1], 0xffff);
        assert_int_equal(hits[2], 0x03ff); /* the places without a code are not found */
        for (size_t at = 0; at < 2 * CODES + 10; at++) {
            uint8_t code[WIDTH_MAX / 8];
            const struct mly_kern_code_numbers both =
                mly_kern_block_get(c.blocks + at / CODES * c.stride, width, at % CODES, code);
            double sum = 0.0;
            for (size_t i = 0; i < width; i++) {
                const int bit = code[i / 8] >> (i % 8) & 1;
                sum += bit != 0 ? (double)c.levels[i] : -(double)c.levels[i];
            }
            const double wanted =
                (double)mly_kern_f32_from_half(both.factor) * sum * (double)c.query.step +
                (double)mly_kern_f32_from_half(both.offset) + 0.25;
            assert_true(fabs((double)estimates[at] - wanted) < 1e-5);
        }
        free_case(&c);
    }
}

static void check_scan(const struct mly_kern *set, const struct scan_case *c, size_t blocks,
                       float floor, const uint16_t *wanted_places)
{
    enum { BLOCKS_MAX = 40 };
    float wanted[BLOCKS_MAX * CODES], got[(BLOCKS_MAX + 1) * CODES];
    uint16_t wanted_hits[BLOCKS_MAX], got_hits[BLOCKS_MAX + 1];
    memset(got_hits, 0x5a, sizeof(got_hits));
    for (size_t i = 0; i < (BLOCKS_MAX + 1) * CODES; i++) {
        got[i] = 99.0f;
    }
    mly_kern_pick("scalar")->scan_codes(&c->query, c->blocks, c->stride, blocks, -0.3f, floor,
                                        wanted_places, wanted, wanted_hits);
    set->scan_codes(&c->query, c->blocks, c->stride, blocks, -0.3f, floor, wanted_places, got,
                    got_hits);
    for (size_t b = 0; b < blocks; b++) {
        assert_int_equal(wanted_hits[b], got_hits[b]);
        if (got_hits[b] == 0) continue;
        same_floats("scan", set->name, 208, wanted + b * CODES, got + b * CODES, CODES);
    }
    assert_int_equal(got_hits[blocks], 0x5a5a);
    for (size_t i = blocks * CODES; i < (BLOCKS_MAX + 1) * CODES; i++) {
        assert_true(got[i] == 99.0f);
    }
}

static void scans_have_equal_bits(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    struct numbers numbers = {208};
    for (size_t width = 64; width <= WIDTH_MAX; width += width < 512 ? 64 : 896) {
        struct scan_case c = make_case(&numbers, width, 40);
        uint16_t places[40];
        for (size_t b = 0; b < 40; b++) {
            places[b] = b % 3 == 0 ? 0 : (uint16_t)next_bits(&numbers);
        }
        for (size_t s = 0; s < count; s++) {
            for (size_t blocks = 0; blocks <= 40; blocks += 1 + blocks / 5) {
                check_scan(sets[s], &c, blocks, -INFINITY, NULL);
                check_scan(sets[s], &c, blocks, -0.2f, NULL);
                check_scan(sets[s], &c, blocks, INFINITY, NULL);
                check_scan(sets[s], &c, blocks, -0.3f, places);
            }
        }
        free_case(&c);
    }
}

/* All bits set, all levels at their ends: the largest sums there are. */
static void the_largest_sums_do_not_overflow(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = list_sets(sets);
    static float query[WIDTH_MAX];
    uint8_t *block = room(MLY_KERN_BLOCK_BYTES(WIDTH_MAX));
    uint8_t *tables = room(MLY_KERN_QUERY_BYTES(WIDTH_MAX)), code[WIDTH_MAX / 8];
    memset(code, 0xff, sizeof(code));
    mly_kern_block_clear(block, WIDTH_MAX);
    for (size_t i = 0; i < WIDTH_MAX; i++) {
        query[i] = 1.0f;
    }
    struct mly_kern_code_numbers both = {mly_kern_half_from_f32(1.0f), 0};
    for (size_t place = 0; place < CODES; place++) {
        mly_kern_block_put(block, WIDTH_MAX, place, code, both);
    }
    for (int sign = -1; sign <= 1; sign += 2) {
        struct mly_kern_code_query made;
        query[0] = (float)sign;
        for (size_t i = 0; i < WIDTH_MAX; i++) {
            query[i] = (float)sign;
        }
        mly_kern_query_make(query, WIDTH_MAX, tables, &made);
        for (size_t s = 0; s < count; s++) {
            float got[CODES];
            uint16_t hits;
            sets[s]->scan_codes(&made, block, 0, 1, 0.0f, -1e30f, NULL, got, &hits);
            assert_int_equal(hits, 0xffff);
            for (size_t place = 0; place < CODES; place++) {
                assert_true(fabsf(got[place] - (float)sign * (float)WIDTH_MAX) < 0.01f);
            }
        }
    }
    free(block);
    free(tables);
}

/* What the codes are for: estimates of products near the products, without a bias. */
static void estimates_are_near_the_products(void **state)
{
    (void)state;
    enum { DIM = 384, TRIES = 400 };
    const struct mly_kern *kern = mly_kern_pick(NULL);
    struct numbers numbers = {209};
    struct mly_kern_rotation rotation;
    mly_kern_rotation_init(&rotation, DIM);
    float c[DIM], x[DIM], q[DIM], rc[DIM], rx[DIM], rq[DIM], got[CODES];
    uint8_t *block = room(MLY_KERN_BLOCK_BYTES(DIM)), *tables = room(MLY_KERN_QUERY_BYTES(DIM));
    uint8_t code[DIM / 8];
    double bias = 0.0, squares = 0.0;
    for (size_t t = 0; t < TRIES; t++) {
        fill_floats(&numbers, c, DIM, 0.07f);
        fill_floats(&numbers, x, DIM, 0.05f);
        fill_floats(&numbers, q, DIM, 0.05f);
        for (size_t i = 0; i < DIM; i++) {
            x[i] += c[i];
            q[i] += c[i];
        }
        mly_kern_rotate(&rotation, c, rc);
        mly_kern_rotate(&rotation, x, rx);
        mly_kern_rotate(&rotation, q, rq);
        float factor, offset;
        mly_kern_code_make(rx, rc, DIM, code, &factor, &offset);
        struct mly_kern_code_numbers both = {mly_kern_half_from_f32(factor),
                                             mly_kern_half_from_f32(offset)};
        mly_kern_block_clear(block, DIM);
        mly_kern_block_put(block, DIM, t % CODES, code, both);
        struct mly_kern_code_query query;
        mly_kern_query_make(rq, DIM, tables, &query);
        uint16_t hits;
        kern->scan_codes(&query, block, 0, 1, kern->dot_f32(rc, rq, DIM), -1e30f, NULL, got, &hits);
        assert_int_equal(hits, 1u << t % CODES);
        const double error = (double)got[t % CODES] - product(x, q, DIM);
        bias += error / TRIES;
        squares += error * error / TRIES;
    }
    /* |x - c| |q - c| sqrt((pi / 2 - 1) / dim) = 0.012 for these sizes, and the query's rounding */
    assert_true(sqrt(squares) < 0.025);
    assert_true(fabs(bias) < 0.004);
    free(block);
    free(tables);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rotation_keeps_lengths_and_products),
        cmocka_unit_test(rotation_spreads_a_single_number_over_all),
        cmocka_unit_test(rotations_and_codes_have_known_bits),
        cmocka_unit_test(codes_are_signs_and_two_numbers),
        cmocka_unit_test(half_floats_round_to_even_and_come_back),
        cmocka_unit_test(records_lose_half_a_step),
        cmocka_unit_test(products_with_records_have_equal_bits),
        cmocka_unit_test(scanning_gives_what_the_codes_say),
        cmocka_unit_test(scans_have_equal_bits),
        cmocka_unit_test(the_largest_sums_do_not_overflow),
        cmocka_unit_test(estimates_are_near_the_products),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
