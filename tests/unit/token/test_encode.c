/* Encoding: the rules of words and spans on a vocabulary that one can read, then random text. Ids
 * against the real vocabulary are tests/golden/token. */
#include "mly_cmocka.h"

#include "base/utf8.h"
#include "tiny_vocab.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct fixture {
    struct mly_mem mem;
    struct mly_tokenizer *tokenizer;
    struct mly_tokens tokens;
};

static int set_up(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){0};
    fixture.tokenizer = tiny_tokenizer(&fixture.mem);
    mly_tokens_init(&fixture.tokens, &fixture.mem);
    *state = &fixture;
    return fixture.tokenizer != NULL ? 0 : 1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mly_tokens_deinit(&f->tokens);
    mly_tokens_deinit(&f->tokens);
    mly_tokenizer_destroy(f->tokenizer);
    return f->mem.live == 0 ? 0 : 1;
}

static void encode(struct fixture *f, struct mly_str text)
{
    struct mly_error err = {0};
    assert_int_equal(mly_tokenizer_encode(f->tokenizer, text, &f->tokens, &err), MLY_OK);
}

static void assert_tokens(struct fixture *f, struct mly_str text, const struct mly_token *expected,
                          size_t count)
{
    encode(f, text);
    assert_int_equal(f->tokens.count, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(f->tokens.items[i].id, expected[i].id);
        assert_int_equal(f->tokens.items[i].byte_start, expected[i].byte_start);
        assert_int_equal(f->tokens.items[i].byte_end, expected[i].byte_end);
    }
}

#define ASSERT_TOKENS(f, literal, ...)                                                             \
    do {                                                                                           \
        const struct mly_token expected[] = {__VA_ARGS__};                                         \
        assert_tokens(f, MLY_STR(literal), expected, sizeof(expected) / sizeof(expected[0]));      \
    } while (0)

static void the_longest_piece_wins_and_its_bytes_are_told(void **state)
{
    ASSERT_TOKENS(*state, " Cafe,CAING  a", {TINY_CAFE, 1, 5}, {TINY_COMMA, 5, 6}, {TINY_CA, 6, 8},
                  {TINY_TAIL_ING, 8, 11}, {TINY_A, 13, 14});
}

static void a_word_that_does_not_fall_into_pieces_is_unknown_as_a_whole(void **state)
{
    ASSERT_TOKENS(*state, "a caq a", {TINY_A, 0, 1}, {TINY_UNK, 2, 5}, {TINY_A, 6, 7});
    ASSERT_TOKENS(*state, "\xc3\xa9\xc3\xa9;", {TINY_UNK, 0, 4}, {TINY_UNK, 4, 5});
}

static void texts_without_words_have_no_pieces(void **state)
{
    struct fixture *f = *state;
    encode(f, MLY_STR(""));
    assert_int_equal(f->tokens.count, 0);
    encode(f, MLY_STR_NULL);
    assert_int_equal(f->tokens.count, 0);
    encode(f, MLY_STR(" \t\r\n\xc2\xa0\xe3\x80\x80"));
    assert_int_equal(f->tokens.count, 0);
    encode(f, MLY_STR("\xcc\x81")); /* a lone accent */
    assert_int_equal(f->tokens.count, 0);
    encode(f, MLY_STR("\0\x01\xef\xbb\xbf\xef\xbf\xbd")); /* NUL, control, BOM, U+FFFD */
    assert_int_equal(f->tokens.count, 0);
}

static void accents_fall_away_and_belong_to_their_letter(void **state)
{
    /* Composed and decomposed; then after a comma, after CJK, and with nothing before it. */
    ASSERT_TOKENS(*state, "caf\xc3\xa9 a", {TINY_CAFE, 0, 5}, {TINY_A, 6, 7});
    ASSERT_TOKENS(*state, "cafe\xcc\x81 a", {TINY_CAFE, 0, 6}, {TINY_A, 7, 8});
    ASSERT_TOKENS(*state,
                  ",\xcc\x81"
                  "a",
                  {TINY_COMMA, 0, 3}, {TINY_A, 3, 4});
    ASSERT_TOKENS(*state, "\xe4\xb8\xad\xcc\x81", {TINY_ZHONG, 0, 5});
    ASSERT_TOKENS(*state,
                  ", \xcc\x81"
                  "a",
                  {TINY_COMMA, 0, 1}, {TINY_A, 4, 5});
    ASSERT_TOKENS(*state,
                  "[CLS]\xcc\x81"
                  "a",
                  {TINY_CLS, 0, 5}, {TINY_A, 7, 8});
}

static void control_characters_vanish_from_within_words(void **state)
{
    ASSERT_TOKENS(*state, "ca\0fe\x01", {TINY_CAFE, 0, 5});
    ASSERT_TOKENS(*state,
                  "ca\xe2\x80\x8b"
                  "fe",
                  {TINY_CAFE, 0, 7});                                  /* zero width space */
    ASSERT_TOKENS(*state, "a\tca\n", {TINY_A, 0, 1}, {TINY_CA, 2, 4}); /* these are spaces */
}

static void cjk_characters_are_words_and_cut_the_word_around_them(void **state)
{
    ASSERT_TOKENS(*state,
                  "a\xe4\xb8\xad\xe4\xb8\xad"
                  "ca",
                  {TINY_A, 0, 1}, {TINY_ZHONG, 1, 4}, {TINY_ZHONG, 4, 7}, {TINY_CA, 7, 9});
}

static void parts_of_one_character_share_its_bytes(void **state)
{
    ASSERT_TOKENS(*state, "\xed\x95\x9c", {TINY_JAMO_HIEUH, 0, 3}, {TINY_TAIL_JAMO_A, 0, 3},
                  {TINY_TAIL_JAMO_NIEUN, 0, 3});
}

static void case_follows_unicode(void **state)
{
    ASSERT_TOKENS(*state, "\xce\xa9 \xe2\x84\xa6", {TINY_OMEGA, 0, 2}, {TINY_OMEGA, 3, 6});
}

static void kept_marks_are_put_in_canonical_order(void **state)
{
    ASSERT_TOKENS(*state, "a\xe1\xad\x84\xe3\x80\xae", {TINY_A, 0, 1}, {TINY_TAIL_1B44, 1, 4},
                  {TINY_TAIL_302E, 4, 7});
    ASSERT_TOKENS(*state, "a\xe3\x80\xae\xe1\xad\x84", {TINY_A, 0, 1}, {TINY_TAIL_1B44, 1, 7},
                  {TINY_TAIL_302E, 1, 7});
    /* A dropped accent between them that is no starter does not stand in the way; one that is
     * (U+0CBF, Kannada vowel sign I) does. */
    ASSERT_TOKENS(*state, "a\xe3\x80\xae\xcc\x81\xe1\xad\x84", {TINY_A, 0, 1},
                  {TINY_TAIL_1B44, 1, 9}, {TINY_TAIL_302E, 1, 9});
    ASSERT_TOKENS(*state, "a\xe3\x80\xae\xe0\xb2\xbf\xe1\xad\x84", {TINY_A, 0, 1},
                  {TINY_TAIL_302E, 1, 7}, {TINY_TAIL_1B44, 7, 10});
}

static void special_tokens_are_matched_in_the_raw_text(void **state)
{
    ASSERT_TOKENS(*state, "[CLS] [MASK]", {TINY_CLS, 0, 5}, {TINY_MASK, 6, 12});
    ASSERT_TOKENS(*state, "a[SEP]ca", {TINY_A, 0, 1}, {TINY_SEP, 1, 6}, {TINY_CA, 6, 8});
    ASSERT_TOKENS(*state, "\xc3\xa1[PAD]", {TINY_A, 0, 2}, {TINY_PAD, 2, 7});
    ASSERT_TOKENS(*state, "[[UNK]", {TINY_BRACKET, 0, 1}, {TINY_UNK, 1, 6});
    ASSERT_TOKENS(*state, "[cls", {TINY_BRACKET, 0, 1}, {TINY_UNK, 1, 4});
    ASSERT_TOKENS(*state, "[", {TINY_BRACKET, 0, 1});
}

static void hash_signs_in_text_are_no_continuation(void **state)
{
    ASSERT_TOKENS(*state, "##a", {TINY_HASH, 0, 1}, {TINY_HASH, 1, 2}, {TINY_A, 2, 3});
}

static void words_of_100_characters_are_words_and_of_101_unknown(void **state)
{
    struct fixture *f = *state;
    char text[512];
    memset(text, 'a', 102);
    encode(f, (struct mly_str){text, 100});
    assert_int_equal(f->tokens.count, 91); /* the long piece, and 90 times ##a */
    assert_int_equal(f->tokens.items[0].id, TINY_LONG);
    encode(f, (struct mly_str){text, 101});
    assert_int_equal(f->tokens.count, 1);
    assert_int_equal(f->tokens.items[0].id, TINY_UNK);
    assert_int_equal(f->tokens.items[0].byte_end, 101);

    /* Counted after normalisation: 100 letters with an accent each are 200 characters before. */
    for (size_t i = 0; i < 101; i++) {
        memcpy(text + 3 * i, "a\xcc\x81", 3);
    }
    encode(f, (struct mly_str){text, 300});
    assert_int_equal(f->tokens.count, 91);
    assert_int_equal(f->tokens.items[90].byte_end, 300);
    encode(f, (struct mly_str){text, 303});
    assert_int_equal(f->tokens.count, 1);
    assert_int_equal(f->tokens.items[0].id, TINY_UNK);
    assert_int_equal(f->tokens.items[0].byte_end, 303);
}

static void a_line_of_10_mb_is_encoded(void **state)
{
    struct fixture *f = *state;
    size_t bytes = (size_t)10 << 20;
    char *text = test_malloc(bytes);
    memset(text, 'a', bytes);
    encode(f, (struct mly_str){text, bytes});
    assert_int_equal(f->tokens.count, 1);
    assert_int_equal(f->tokens.items[0].byte_end, bytes);
    for (size_t i = 0; i + 3 <= bytes; i += 3) {
        memcpy(text + i, "\xe4\xb8\xad", 3);
    }
    encode(f, (struct mly_str){text, bytes / 3 * 3});
    assert_int_equal(f->tokens.count, bytes / 3);
    assert_int_equal(f->tokens.items[f->tokens.count - 1].byte_end, bytes / 3 * 3);
    memset(text, ',', bytes);
    encode(f, (struct mly_str){text, bytes});
    assert_int_equal(f->tokens.count, bytes);
    test_free(text);
}

static void a_text_of_4_gib_is_refused_unread(void **state)
{
    struct fixture *f = *state;
    struct mly_error err = {0};
    encode(f, MLY_STR("a"));
    struct mly_str text = {"a", (size_t)UINT32_MAX + 1};
    assert_int_equal(mly_tokenizer_encode(f->tokenizer, text, &f->tokens, &err), MLY_ERR_LIMIT);
    assert_non_null(strstr(err.message, "4294967296"));
    assert_int_equal(f->tokens.count, 0);
}

static void encoding_allocates_nothing_when_warm(void **state)
{
    struct fixture *f = *state;
    encode(f, MLY_STR("cafe, \xc3\xa1 \xe4\xb8\xad \xed\x95\x9c caing"));
    uint64_t calls = f->mem.calls;
    for (int i = 0; i < 100; i++) {
        encode(f, MLY_STR("caing \xed\x95\x9c \xc3\xa1, cafe \xe4\xb8\xad"));
    }
    assert_int_equal(f->mem.calls, calls);
}

static void every_allocation_of_encode_may_fail(void **state)
{
    struct fixture *f = *state;
    char text[6000];
    for (size_t i = 0; i < sizeof(text); i += 6) {
        memcpy(text + i, i % 12 == 0 ? "ca,a, " : "\xed\x95\x9c\xc3\xa1,", 6);
    }
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        mem.fail_at = fail_at;
        struct mly_tokens tokens;
        mly_tokens_init(&tokens, &mem);
        struct mly_error err = {0};
        struct mly_str all = {text, sizeof(text)};
        enum mly_err rc = mly_tokenizer_encode(f->tokenizer, all, &tokens, &err);
        size_t count = tokens.count;
        mly_tokens_deinit(&tokens);
        assert_int_equal(mem.live, 0);
        if (rc == MLY_OK) {
            assert_true(fail_at > 2);
            assert_true(count > 2000);
            break;
        }
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_int_equal(count, 0);
        assert_true(err.message[0] != '\0');
    }
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void assert_spans_hold(struct fixture *f, struct mly_str text)
{
    encode(f, text);
    uint32_t start = 0, end = 0;
    for (size_t i = 0; i < f->tokens.count; i++) {
        const struct mly_token *token = &f->tokens.items[i];
        assert_true(token->byte_start >= start && token->byte_end >= end);
        assert_true(token->byte_start < token->byte_end && token->byte_end <= text.bytes);
        start = token->byte_start;
        end = token->byte_end;
    }
}

/* MLY_TEST_SEED repeats a run. */
static uint64_t pick_seed(void)
{
    const char *given = getenv("MLY_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("MLY_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed * 2 + 1;
}

static void spans_of_random_characters_are_in_order_and_within_the_text(void **state)
{
    struct fixture *f = *state;
    static const uint32_t tricky[] = {'a',    'c',    ' ',     ',',    '[',    0,       0x301,
                                      0x302E, 0x1B44, 0xCBF,   0x4E2D, 0xD55C, 0x1D160, 0x200B,
                                      0xA0,   0xE9,   0x116B6, 0xFFFD, 0x9CB,  0x1F600, 0x2126};
    uint64_t seed = pick_seed();
    for (int round = 0; round < 20000; round++) {
        char *text = test_malloc(4 * 64); /* The heap's red zones see one byte too far. */
        size_t bytes = 0, count = next_random(&seed) % 64;
        for (size_t i = 0; i < count; i++) {
            uint64_t dice = next_random(&seed);
            uint32_t code_point = tricky[(dice >> 8) % (sizeof(tricky) / sizeof(tricky[0]))];
            if (dice % 4 == 0) code_point = (uint32_t)((dice >> 8) % 0x110000);
            if (code_point >= 0xD800 && code_point < 0xE000) code_point = 'c';
            bytes += mly_utf8_encode(code_point, text + bytes);
        }
        assert_int_equal(mly_utf8_check((struct mly_str){text, bytes}), bytes);
        assert_spans_hold(f, (struct mly_str){text, bytes});
        test_free(text);
    }
}

static void bytes_that_are_not_utf8_do_no_harm(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = pick_seed();
    for (int round = 0; round < 20000; round++) {
        size_t bytes = 1 + next_random(&seed) % 24;
        char *text = test_malloc(bytes);
        for (size_t i = 0; i < bytes; i++) {
            text[i] = (char)(next_random(&seed) >> 32 | (next_random(&seed) & 0x80));
        }
        assert_spans_hold(f, (struct mly_str){text, bytes});
        test_free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_longest_piece_wins_and_its_bytes_are_told, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_word_that_does_not_fall_into_pieces_is_unknown_as_a_whole,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(texts_without_words_have_no_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(accents_fall_away_and_belong_to_their_letter, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(control_characters_vanish_from_within_words, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(cjk_characters_are_words_and_cut_the_word_around_them,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(parts_of_one_character_share_its_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(case_follows_unicode, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kept_marks_are_put_in_canonical_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(special_tokens_are_matched_in_the_raw_text, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(hash_signs_in_text_are_no_continuation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(words_of_100_characters_are_words_and_of_101_unknown,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_line_of_10_mb_is_encoded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_text_of_4_gib_is_refused_unread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(encoding_allocates_nothing_when_warm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_allocation_of_encode_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(spans_of_random_characters_are_in_order_and_within_the_text,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(bytes_that_are_not_utf8_do_no_harm, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
