/* UTF-8: every scalar value there and back, and the classic ways of being wrong. */
#include "mly_cmocka.h"

#include "base/utf8.h"

static void every_scalar_value_survives_the_round_trip(void **state)
{
    (void)state;
    for (uint32_t code_point = 0; code_point <= 0x10FFFF; code_point++) {
        if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
        char text[4];
        size_t bytes = mly_utf8_encode(code_point, text);
        struct mly_str str = {text, bytes};
        size_t read = 0;
        assert_int_equal(mly_utf8_check(str), bytes);
        assert_int_equal(mly_utf8_decode(str, 0, &read), code_point);
        assert_int_equal(read, bytes);
    }
}

static void malformed_text_is_found_at_its_first_byte(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes, at;
    } cases[] = {
        {"abcdefgh\xFF", 9, 8},
        {"\x80", 1, 0},
        {"\xC0\x80", 2, 0},
        {"\xC1\xBF", 2, 0},
        {"\xE0\x80\x80", 3, 0},
        {"a\xED\xA0\x80", 4, 1},
        {"\xF0\x80\x80\x80", 4, 0},
        {"\xF4\x90\x80\x80", 4, 0},
        {"\xF5\x80\x80\x80", 4, 0},
        {"ok\xE2\x82", 4, 2},
        {"\xE2\x82\xAC\xE2", 4, 3},
        {"\xC3", 1, 0},
        {"\xF0\x9F\x98\x80\xF0\x9F", 6, 4},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mly_str str = {cases[i].text, cases[i].bytes};
        assert_int_equal(mly_utf8_check(str), cases[i].at);
    }
}

static void code_points_are_counted(void **state)
{
    (void)state;
    assert_int_equal(mly_utf8_count(MLY_STR("")), 0);
    assert_int_equal(mly_utf8_count(MLY_STR("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80")), 4);
    assert_int_equal(mly_utf8_check(MLY_STR("12345678a\xC3\xA9")), 11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_scalar_value_survives_the_round_trip),
        cmocka_unit_test(malformed_text_is_found_at_its_first_byte),
        cmocka_unit_test(code_points_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
