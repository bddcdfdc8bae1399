/* The language of patterns. */
#include "source/source.h"

#include "mly_cmocka.h"

#include <string.h>
#include <time.h>

static void expect(const char *pattern, const char *path, bool matches)
{
    struct mly_error err = {0};
    assert_int_equal(mly_glob_check(mly_str_of(pattern), &err), MLY_OK);
    if (mly_glob_match(mly_str_of(pattern), mly_str_of(path)) != matches) {
        fail_msg("\"%s\" and \"%s\": expected %d", pattern, path, matches);
    }
}

static void a_pattern_without_a_slash_matches_names_at_any_depth(void **state)
{
    (void)state;
    expect("*.py", "a.py", true);
    expect("*.py", "x/y/a.py", true);
    expect("*.py", "a.pyc", false);
    expect("a", "x/a", true);
    expect("a", "x/aa", false);
    expect("*", "x/y", true);
}

static void one_with_a_slash_counts_from_the_folder(void **state)
{
    (void)state;
    expect("docs/*.md", "docs/a.md", true);
    expect("docs/*.md", "x/docs/a.md", false);
    expect("docs/*.md", "docs/b/a.md", false);
    expect("docs/?.md", "docs/a.md", true);
    expect("docs/?.md", "docs/ab.md", false);
    expect("docs?a.md", "docs/a.md", false);
}

static void two_stars_cross_slashes(void **state)
{
    (void)state;
    expect("docs/**", "docs/b/a.md", true);
    expect("docs/**", "docs", false);
    expect("docs/**/a.md", "docs/a.md", true);
    expect("docs/**/a.md", "docs/b/c/a.md", true);
    expect("docs/**/a.md", "docs/b/ca.md", false);
    expect("**/a.md", "a.md", true);
    expect("**/a.md", "x/y/a.md", true);
    expect("**/x/**/y", "x/y", true);
    expect("**/**/y", "a/b/c/y", true);
    expect("do**md", "docs/b/a.md", true);
    expect("**", "x/y/z", true);
    expect("***/z", "x/y/z", true);
}

static void a_folder_that_matches_takes_everything_below(void **state)
{
    (void)state;
    expect("docs", "docs/b/a.md", true);
    expect("b", "docs/b/a.md", true);
    expect("docs/b", "docs/b/a/c", true);
    expect("docs/b", "docs/bb/a", false);
    expect("b/", "docs/b/a.md", true);
    expect("b/", "docs/b", false); /* a file */
    assert_true(mly_glob_match_folder(MLY_STR("b/"), MLY_STR("docs/b")));
    assert_true(mly_glob_match_folder(MLY_STR("b"), MLY_STR("docs/b")));
    assert_false(mly_glob_match_folder(MLY_STR("*.py"), MLY_STR("docs/b")));
}

static void classes_take_ranges_and_can_be_negated(void **state)
{
    (void)state;
    expect("[a-c].txt", "b.txt", true);
    expect("[a-c].txt", "d.txt", false);
    expect("[!a-c].txt", "d.txt", true);
    expect("[^a-c].txt", "a.txt", false);
    expect("[]].txt", "].txt", true);
    expect("[!]].txt", "].txt", false);
    expect("[a-].txt", "-.txt", true);
    expect("[*].txt", "*.txt", true);
    expect("[*].txt", "a.txt", false);
    expect("x[!a]y", "x/y", false);
    expect("[\xC3\xA0-\xC3\xBF]x", "\xC3\xA9x", true); /* e acute */
    expect("?x", "\xC3\xA9x", true);
    expect("?x", "\xFFx", true); /* a byte that is not UTF-8 */
    expect("\xFF*", "\xFFx", true);
}

static void patterns_that_cannot_be_read_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"", "/a", "a[", "a[]", "a[!]", "a[z-a]", "a[b"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct mly_error err = {0};
        assert_int_equal(mly_glob_check(mly_str_of(wrong[i]), &err), MLY_ERR_INVAL);
        assert_true(err.message[0] != '\0');
        (void)mly_glob_match(mly_str_of(wrong[i]), MLY_STR("a/b")); /* no harm */
    }
    char longest[1100];
    memset(longest, 'a', sizeof(longest));
    struct mly_error err = {0};
    assert_int_equal(mly_glob_check((struct mly_str){longest, 1025}, &err), MLY_ERR_LIMIT);
    assert_int_equal(mly_glob_check((struct mly_str){longest, 1024}, &err), MLY_OK);
    assert_true(mly_glob_match((struct mly_str){longest, 1024}, (struct mly_str){longest, 1024}));
    assert_false(mly_glob_match((struct mly_str){longest, 1025}, (struct mly_str){longest, 1025}));
}

static void no_pattern_takes_exponential_time(void **state)
{
    (void)state;
    char pattern[401];
    char path[4001];
    for (size_t i = 0; i < 400; i++) {
        pattern[i] = i % 2 == 0 ? '*' : 'a';
    }
    pattern[399] = 'b';
    memset(path, 'a', 4000);
    clock_t start = clock();
    assert_false(mly_glob_match((struct mly_str){pattern, 400}, (struct mly_str){path, 4000}));
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 2.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pattern_without_a_slash_matches_names_at_any_depth),
        cmocka_unit_test(one_with_a_slash_counts_from_the_folder),
        cmocka_unit_test(two_stars_cross_slashes),
        cmocka_unit_test(a_folder_that_matches_takes_everything_below),
        cmocka_unit_test(classes_take_ranges_and_can_be_negated),
        cmocka_unit_test(patterns_that_cannot_be_read_are_refused),
        cmocka_unit_test(no_pattern_takes_exponential_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
