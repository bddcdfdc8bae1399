/* CRC32C against known sums, against a bit by bit definition, and the sets against each other at
 * every length and alignment that takes another path. */
#include "kern/crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define BYTES ((size_t)20000)

static uint8_t data[BYTES];

static void fill(void)
{
    uint64_t state = 7;
    for (size_t i = 0; i < BYTES; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        data[i] = (uint8_t)(state >> 56);
    }
}

static uint32_t bit_by_bit(const uint8_t *at, size_t bytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= at[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static void known_sums_come_out(void **state)
{
    (void)state;
    uint8_t text[32];
    mly_crc32c_fn fast = mly_crc32c_pick();
    assert_int_equal(fast(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(mly_crc32c_scalar(0, "123456789", 9), 0xe3069283u);
    memset(text, 0, sizeof(text)); /* RFC 3720, B.4 */
    assert_int_equal(fast(0, text, 32), 0x8a9136aau);
    memset(text, 0xff, sizeof(text));
    assert_int_equal(fast(0, text, 32), 0x62a8ab43u);
    for (uint8_t i = 0; i < 32; i++)
        text[i] = i;
    assert_int_equal(fast(0, text, 32), 0x46dd794eu);
    assert_int_equal(fast(0, NULL, 0), 0);
}

static void the_fast_set_and_the_tables_agree_at_every_length(void **state)
{
    (void)state;
    fill();
    mly_crc32c_fn fast = mly_crc32c_pick();
    for (size_t bytes = 0; bytes < 10000; bytes += bytes < 80 || bytes % 1024 > 1000 ? 1 : 37) {
        uint32_t wanted = mly_crc32c_scalar(0, data + bytes % 9, bytes);
        if (bytes < 4000) assert_int_equal(wanted, bit_by_bit(data + bytes % 9, bytes));
        assert_int_equal(fast(0, data + bytes % 9, bytes), wanted);
    }
}

static void a_sum_goes_on_where_it_was_left(void **state)
{
    (void)state;
    fill();
    mly_crc32c_fn fast = mly_crc32c_pick();
    uint32_t wanted = fast(0, data, BYTES);
    for (size_t cut = 0; cut <= BYTES; cut += 61) {
        assert_int_equal(fast(fast(0, data, cut), data + cut, BYTES - cut), wanted);
        assert_int_equal(
            mly_crc32c_scalar(mly_crc32c_scalar(0, data, cut), data + cut, BYTES - cut), wanted);
    }
}

static void every_flipped_bit_changes_the_sum(void **state)
{
    (void)state;
    fill();
    mly_crc32c_fn fast = mly_crc32c_pick();
    uint32_t before = fast(0, data, 4096);
    for (size_t bit = 0; bit < 4096 * 8; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(fast(0, data, 4096), before);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_sums_come_out),
        cmocka_unit_test(the_fast_set_and_the_tables_agree_at_every_length),
        cmocka_unit_test(a_sum_goes_on_where_it_was_left),
        cmocka_unit_test(every_flipped_bit_changes_the_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
