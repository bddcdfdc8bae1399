/* Metadata: any JSON object, and nothing else. */
#include "mly_cmocka.h"

#include "base/json.h"
#include "base/limits.h"

#include <stdlib.h>
#include <string.h>

static enum mly_err check(const char *text, struct mly_error *err)
{
    return mly_json_check_object(mly_str_of(text), "metadata", err);
}

static void objects_of_every_kind_pass(void **state)
{
    (void)state;
    struct mly_error err = {0};
    assert_int_equal(check("{}", &err), MLY_OK);
    assert_int_equal(check("{\"a\":[1,2.5,null,true,{\"b\":\"\\u0000\xF0\x9F\x98\x80\"}]}", &err),
                     MLY_OK);
    assert_int_equal(check("{\"id\":9223372036854775807}", &err), MLY_OK);
    assert_int_equal(check("{\"id\":-123456789012345678901234567890}", &err), MLY_OK);
}

static void everything_else_is_refused_with_the_place(void **state)
{
    (void)state;
    struct mly_error err = {0};
    const char *bad[] = {"",      "[]",       "1",           "null",        "{\"a\":1,\"a\":2}",
                         "{a:1}", "{\"a\":1", "{\"a\":1} x", "{\"a\":NaN}", "{\"a\":\"\xFF\"}",
                         "\"{}\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memset(&err, 0, sizeof(err));
        assert_int_equal(check(bad[i], &err), MLY_ERR_INVAL);
        assert_non_null(strstr(err.message, "metadata"));
    }
    assert_int_equal(check("{\"a\":\n oops}", &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "line 2"));
}

static void too_much_and_too_deep_are_refused(void **state)
{
    (void)state;
    struct mly_error err = {0};
    char *big = malloc(MLY_METADATA_BYTES_MAX + 2);
    memset(big, ' ', MLY_METADATA_BYTES_MAX + 1);
    struct mly_str text = {big, MLY_METADATA_BYTES_MAX + 1};
    assert_int_equal(mly_json_check_object(text, "metadata", &err), MLY_ERR_LIMIT);
    memset(big, '[', 100000);
    text.bytes = 100000;
    assert_int_equal(mly_json_check_object(text, "metadata", &err), MLY_ERR_INVAL);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_of_every_kind_pass),
        cmocka_unit_test(everything_else_is_refused_with_the_place),
        cmocka_unit_test(too_much_and_too_deep_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
