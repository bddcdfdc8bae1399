#include "kern_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void scalar_is_always_there(void **state)
{
    (void)state;
    const struct mly_kern *kern = mly_kern_pick("scalar");
    assert_non_null(kern);
    assert_string_equal(kern->name, "scalar");
}

static void without_a_wish_the_first_of_the_list_is_picked(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = mly_kern_list(sets, SETS_MAX);
    assert_in_range(count, 1, SETS_MAX);
    assert_ptr_equal(mly_kern_pick(NULL), sets[0]);
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(mly_kern_pick(sets[i]->name), sets[i]);
        print_message("this machine runs %s\n", sets[i]->name);
    }
}

static size_t place_of(const char *name)
{
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = mly_kern_list(sets, SETS_MAX);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(sets[i]->name, name) == 0) return i;
    }
    return SETS_MAX;
}

/* The compiler's own detection, where it knows the name, is a second opinion. */
static void the_list_has_what_the_compiler_finds_too(void **state)
{
    (void)state;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") != 0; /* none of these lacks F16C */
    const int avx512vnni =
        __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
        __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
        __builtin_cpu_supports("avx512vnni") != 0;
    assert_int_equal(mly_kern_pick("avx2") != NULL, avx2);
    assert_int_equal(mly_kern_pick("avx512vnni") != NULL, avx512vnni);
    const int avx512bf16 = avx512vnni && __builtin_cpu_supports("avx512bf16") != 0;
    assert_int_equal(mly_kern_pick("avx512bf16") != NULL, avx512bf16);
    assert_null(mly_kern_pick("neon"));
#else
    assert_null(mly_kern_pick("avx2"));
    assert_null(mly_kern_pick("avxvnni"));
    assert_null(mly_kern_pick("avx512vnni"));
#endif
}

/* tools/run_arm64.py knows which processor it has qemu be. */
static void the_set_that_the_caller_expects_is_picked(void **state)
{
    (void)state;
    const char *expected = getenv("MLY_TEST_EXPECT_SET");
    if (expected == NULL) {
        print_message("skip: MLY_TEST_EXPECT_SET names no set\n");
        skip();
    }
    assert_string_equal(mly_kern_pick(NULL)->name, expected);
}

static void faster_sets_come_first(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t last = mly_kern_list(sets, SETS_MAX) - 1;
    assert_int_equal(place_of("scalar"), last);
    if (mly_kern_pick("avx2") != NULL) assert_int_equal(place_of("avx2"), last - 1);
    const size_t bf16 = mly_kern_pick("avx512bf16") != NULL;
    if (bf16) assert_int_equal(place_of("avx512bf16"), 0);
    if (mly_kern_pick("avx512vnni") != NULL) assert_int_equal(place_of("avx512vnni"), bf16);
}

static void an_unknown_name_gives_nothing(void **state)
{
    (void)state;
    assert_null(mly_kern_pick("sse9"));
    assert_null(mly_kern_pick(""));
    assert_null(mly_kern_pick("Scalar"));
}

static void a_short_list_is_filled_only_as_far_as_it_goes(void **state)
{
    (void)state;
    const struct mly_kern *sets[2] = {NULL, NULL};
    const size_t count = mly_kern_list(sets, 1);
    assert_non_null(sets[0]);
    assert_null(sets[1]);
    assert_int_equal(mly_kern_list(NULL, 0), count);
}

static void no_set_lacks_an_operation(void **state)
{
    (void)state;
    const struct mly_kern *sets[SETS_MAX];
    const size_t count = mly_kern_list(sets, SETS_MAX);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *bytes = (const unsigned char *)sets[i];
        for (size_t at = 0; at + sizeof(void *) <= sizeof(*sets[i]); at += sizeof(void *)) {
            void *entry;
            memcpy(&entry, bytes + at, sizeof(entry));
            assert_non_null(entry);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scalar_is_always_there),
        cmocka_unit_test(without_a_wish_the_first_of_the_list_is_picked),
        cmocka_unit_test(the_list_has_what_the_compiler_finds_too),
        cmocka_unit_test(the_set_that_the_caller_expects_is_picked),
        cmocka_unit_test(faster_sets_come_first),
        cmocka_unit_test(an_unknown_name_gives_nothing),
        cmocka_unit_test(a_short_list_is_filled_only_as_far_as_it_goes),
        cmocka_unit_test(no_set_lacks_an_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
