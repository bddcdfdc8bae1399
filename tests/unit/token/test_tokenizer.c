/* Vocabularies: what is taken, what is refused, and every allocation failing in turn. */
#include "mly_cmocka.h"

#include "tiny_vocab.h"
#include "token/trie.h"

#include <stdio.h>
#include <string.h>

static void assert_refused(struct mly_str vocabulary, enum mly_err code, const char *words)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    assert_int_equal(
        mly_tokenizer_create(&mem, MLY_TOKENIZER_VOCABULARY, vocabulary, &tokenizer, &err), code);
    assert_null(tokenizer);
    assert_non_null(strstr(err.message, words));
    assert_int_equal(mem.live, 0);
}

static void a_vocabulary_gives_its_special_ids(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_tokenizer *tokenizer = tiny_tokenizer(&mem);
    assert_non_null(tokenizer);
    assert_int_equal(mly_tokenizer_frame(tokenizer)->prefix[0], TINY_CLS);
    assert_int_equal(mly_tokenizer_frame(tokenizer)->suffix[0], TINY_SEP);
    mly_tokenizer_destroy(tokenizer);
    mly_tokenizer_destroy(NULL);
    assert_int_equal(mem.live, 0);
}

static void a_vocabulary_without_a_special_piece_is_refused_by_its_name(void **state)
{
    (void)state;
    assert_refused(MLY_STR("[CLS]\n[SEP]\na\n"), MLY_ERR_CORRUPT, "vocabulary has no [UNK]");
    assert_refused(MLY_STR("[UNK]\n[SEP]\na\n"), MLY_ERR_CORRUPT, "vocabulary has no [CLS]");
    assert_refused(MLY_STR("[UNK]\n[CLS]\na\n"), MLY_ERR_CORRUPT, "vocabulary has no [SEP]");
    assert_refused(MLY_STR(""), MLY_ERR_CORRUPT, "vocabulary has no [UNK]");
    assert_refused(MLY_STR("[UNK]\r\n[CLS]\r\n[SEP]\r\n"), MLY_ERR_CORRUPT, "no [UNK]");
}

static void a_piece_that_stands_twice_is_refused_with_both_ids(void **state)
{
    (void)state;
    assert_refused(MLY_STR("[UNK]\n[CLS]\n[SEP]\nab\na\nab\n"), MLY_ERR_CORRUPT,
                   "\"ab\" stands twice, as 3 and 5");
}

static void pieces_that_are_no_text_are_refused_with_their_id(void **state)
{
    (void)state;
    assert_refused(MLY_STR("[UNK]\n[CLS]\n\n[SEP]\n"), MLY_ERR_CORRUPT, "piece 2 is empty");
    assert_refused(MLY_STR("[UNK]\n[CLS]\n[SEP]\na\0b\n"), MLY_ERR_CORRUPT, "piece 3 is not UTF-8");
    assert_refused(MLY_STR("[UNK]\n[CLS]\n[SEP]\n\xff\n"), MLY_ERR_CORRUPT, "piece 3 is not UTF-8");
}

static void a_vocabulary_above_the_limit_is_refused_unread(void **state)
{
    (void)state;
    assert_refused((struct mly_str){"a", MLY_TRIE_BYTES_MAX + 1}, MLY_ERR_LIMIT, "8388609");
}

static void the_last_line_needs_no_line_feed(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    assert_int_equal(mly_tokenizer_create(&mem, MLY_TOKENIZER_VOCABULARY,
                                          MLY_STR("[UNK]\n[CLS]\n[SEP]"), &tokenizer, &err),
                     MLY_OK);
    assert_int_equal(mly_tokenizer_frame(tokenizer)->suffix[0], 2);
    mly_tokenizer_destroy(tokenizer);
}

/* Numbers in base 7 by many letters make nodes with few and with many children. */
static size_t number_piece(unsigned i, char out[32])
{
    static const char *const digits[] = {"a", "b", "\xc3\xa9", "\xe4\xb8\xad", "z", "##", "\x7f"};
    size_t bytes = 0;
    out[bytes++] = (char)('!' + i % 90);
    for (unsigned rest = i / 90 + 1; rest > 0; rest /= 7) {
        size_t digit_bytes = strlen(digits[rest % 7]);
        memcpy(out + bytes, digits[rest % 7], digit_bytes);
        bytes += digit_bytes;
    }
    return bytes;
}

static void each_of_many_pieces_is_found_and_nothing_else(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    static char text[COUNT * 32];
    size_t bytes = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        bytes += number_piece(i, text + bytes);
        text[bytes++] = '\n';
    }
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_trie trie;
    assert_int_equal(mly_trie_build(&mem, (struct mly_str){text, bytes}, &trie, &err), MLY_OK);
    for (unsigned i = 0; i < 2 * COUNT; i++) {
        char piece[32];
        size_t piece_bytes = number_piece(i, piece);
        const struct mly_trie_cell *cell =
            mly_trie_find(&trie, (struct mly_str){piece, piece_bytes});
        assert_int_equal(cell != NULL ? cell->id : -1, i < COUNT ? (int)i : -1);
    }
    assert_null(mly_trie_find(&trie, MLY_STR("\0")));
    mly_trie_deinit(&mem, &trie);
    mly_trie_deinit(&mem, &trie);
    assert_int_equal(mem.live, 0);
}

static void every_allocation_of_create_may_fail(void **state)
{
    (void)state;
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        mem.fail_at = fail_at;
        struct mly_error err = {0};
        struct mly_tokenizer *tokenizer = NULL;
        enum mly_err rc = mly_tokenizer_create(&mem, MLY_TOKENIZER_VOCABULARY,
                                               MLY_STR(TINY_VOCABULARY), &tokenizer, &err);
        if (rc == MLY_OK) {
            assert_true(fail_at > 5);
            mly_tokenizer_destroy(tokenizer);
            assert_int_equal(mem.live, 0);
            break;
        }
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_null(tokenizer);
        assert_int_equal(mem.live, 0);
        assert_true(err.message[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vocabulary_gives_its_special_ids),
        cmocka_unit_test(a_vocabulary_without_a_special_piece_is_refused_by_its_name),
        cmocka_unit_test(a_piece_that_stands_twice_is_refused_with_both_ids),
        cmocka_unit_test(pieces_that_are_no_text_are_refused_with_their_id),
        cmocka_unit_test(a_vocabulary_above_the_limit_is_refused_unread),
        cmocka_unit_test(the_last_line_needs_no_line_feed),
        cmocka_unit_test(each_of_many_pieces_is_found_and_nothing_else),
        cmocka_unit_test(every_allocation_of_create_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
