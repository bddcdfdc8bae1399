/* Tokenizers of every kind (tests/golden/token/kinds): spans of random text, damaged compiled
 * bytes, allocations that fail, words of a megabyte. */
#include "mly_cmocka.h"

#include "base/utf8.h"
#include "token/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const kinds[] = {
    "bpe_cl100k",    "bpe_meta",      "bpe_roberta",   "unigram_added",   "unigram_bytes",
    "unigram_first", "unigram_parts", "unigram_split", "wordpiece_cased", "wordpiece_other",
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct mly_mem shared = MLY_MEM_INIT;

/* The compiled form of a kind, made once; freed at the end. */
static struct mly_str compiled(size_t kind)
{
    static struct mly_bytes all[KINDS];
    if (all[kind].bytes > 0) return mly_bytes_view(&all[kind]);
    char path[1024];
    (void)snprintf(path, sizeof(path), MLY_TEST_KINDS "/%s.json", kinds[kind]);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    static char text[1 << 20];
    const size_t bytes = fread(text, 1, sizeof(text), file);
    fclose(file);
    struct mly_error err = {0};
    mly_bytes_init(&all[kind], &shared, SIZE_MAX / 2);
    if (mly_tokenizer_compile(&shared, (struct mly_str){text, bytes}, &all[kind], &err) != MLY_OK) {
        fail_msg("%s: %s", kinds[kind], err.message);
    }
    return mly_bytes_view(&all[kind]);
}

static struct mly_tokenizer *open_kind(struct mly_mem *mem, size_t kind)
{
    struct mly_tokenizer *tokenizer = NULL;
    struct mly_error err = {0};
    if (mly_tokenizer_create(mem, MLY_TOKENIZER_COMPILED, compiled(kind), &tokenizer, &err) !=
        MLY_OK) {
        fail_msg("%s: %s", kinds[kind], err.message);
    }
    return tokenizer;
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

/* MLY_TEST_SEED repeats a run. */
static uint64_t pick_seed(void)
{
    const char *given = getenv("MLY_TEST_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("MLY_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed * 2 + 1;
}

static size_t random_text(uint64_t *seed, char *text, size_t chars)
{
    static const uint32_t tricky[] = {'a',    'c',    ' ',    ' ',    ',',    '\'',    's',
                                      0,      0x301,  0x323,  0x302E, 0x1B44, 0x9C7,   0x9BE,
                                      0x4E2D, 0xD55C, 0x1112, 0x1161, 0x11AB, 0x200D,  0x200B,
                                      0xA0,   0xE9,   '\r',   '\n',   0xFFFD, 0x1F600, 0x2581,
                                      0xFF21, 0xFB01, '<',    '1',    0x130,  0x1F1E9, 0x3000};
    size_t bytes = 0;
    for (size_t i = 0; i < chars; i++) {
        const uint64_t dice = next_random(seed);
        uint32_t point = tricky[(dice >> 8) % (sizeof(tricky) / sizeof(tricky[0]))];
        if (dice % 5 == 0) point = (uint32_t)((dice >> 8) % 0x110000);
        if (point >= 0xD800 && point < 0xE000) point = 'c';
        bytes += mly_utf8_encode(point, text + bytes);
    }
    return bytes;
}

static void assert_spans_hold(struct mly_str text, const struct mly_tokens *tokens, bool borders)
{
    uint32_t start = 0, end = 0;
    for (size_t i = 0; i < tokens->count; i++) {
        const struct mly_token *token = &tokens->items[i];
        assert_true(token->byte_start >= start && token->byte_end >= end);
        assert_true(token->byte_start < token->byte_end && token->byte_end <= text.bytes);
        start = token->byte_start;
        end = token->byte_end;
        if (!borders) continue;
        assert_true(mly_utf8_is_start(text.data[start]));
        assert_true(end == text.bytes || mly_utf8_is_start(text.data[end]));
    }
}

static void spans_of_random_text_are_in_order_and_on_borders(void **state)
{
    (void)state;
    uint64_t seed = pick_seed();
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tokenizer *tokenizer = open_kind(&mem, kind);
        struct mly_tokens tokens;
        mly_tokens_init(&tokens, &mem);
        for (int round = 0; round < 1500; round++) {
            char *text = test_malloc(4 * 64);
            const size_t bytes = random_text(&seed, text, next_random(&seed) % 64);
            struct mly_error err = {0};
            const struct mly_str string = {text, bytes};
            assert_int_equal(mly_tokenizer_encode(tokenizer, string, &tokens, &err), MLY_OK);
            assert_spans_hold(string, &tokens, true);
            test_free(text);
        }
        mly_tokens_deinit(&tokens);
        mly_tokenizer_destroy(tokenizer);
        assert_int_equal(mem.live, 0);
    }
}

static void bytes_that_are_not_utf8_do_no_harm(void **state)
{
    (void)state;
    uint64_t seed = pick_seed();
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tokenizer *tokenizer = open_kind(&mem, kind);
        struct mly_tokens tokens;
        mly_tokens_init(&tokens, &mem);
        for (int round = 0; round < 2000; round++) {
            const size_t bytes = 1 + next_random(&seed) % 24;
            char *text = test_malloc(bytes);
            for (size_t i = 0; i < bytes; i++) {
                text[i] = (char)(next_random(&seed) >> 32 | (next_random(&seed) & 0x80));
            }
            struct mly_error err = {0};
            const struct mly_str string = {text, bytes};
            assert_int_equal(mly_tokenizer_encode(tokenizer, string, &tokens, &err), MLY_OK);
            assert_spans_hold(string, &tokens, false);
            test_free(text);
        }
        mly_tokens_deinit(&tokens);
        mly_tokenizer_destroy(tokenizer);
    }
}

/* The text in windows and in one go gives the same pieces: nothing reaches across the cuts. */
static void long_texts_are_the_sum_of_their_windows(void **state)
{
    (void)state;
    static const char part[] = "caf\xc3\xa9 a word, don't 12 x  y\xe4\xb8\xad\xe6\x96\x87 <mask> b";
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tokenizer *tokenizer = open_kind(&mem, kind);
        struct mly_tokens one, many;
        struct mly_error err = {0};
        mly_tokens_init(&one, &mem);
        mly_tokens_init(&many, &mem);
        enum { COPIES = 4000 };
        const size_t bytes = sizeof(part) - 1;
        char *text = test_malloc((bytes + 1) * COPIES);
        for (size_t i = 0; i < COPIES; i++) {
            memcpy(text + i * (bytes + 1), part, bytes);
            text[i * (bytes + 1) + bytes] = ' ';
        }
        const struct mly_str two = {text, 2 * (bytes + 1) - 1}, three = {text, 3 * (bytes + 1) - 1};
        assert_int_equal(mly_tokenizer_encode(tokenizer, two, &one, &err), MLY_OK);
        assert_int_equal(mly_tokenizer_encode(tokenizer, three, &many, &err), MLY_OK);
        const size_t each = many.count - one.count, first = one.count - each;
        const struct mly_str all = {text, COPIES * (bytes + 1) - 1};
        assert_int_equal(mly_tokenizer_encode(tokenizer, all, &many, &err), MLY_OK);
        assert_int_equal(many.count, first + (COPIES - 1) * each);
        for (size_t i = first + each; i < many.count; i++) {
            assert_int_equal(many.items[i].id, many.items[i - each].id);
        }
        assert_spans_hold(all, &many, true);
        const uint64_t calls = mem.calls;
        assert_int_equal(mly_tokenizer_encode(tokenizer, all, &many, &err), MLY_OK);
        assert_int_equal(mem.calls, calls); /* a warm tokenizer allocates nothing */
        mly_tokens_deinit(&one);
        mly_tokens_deinit(&many);
        mly_tokenizer_destroy(tokenizer);
        test_free(text);
        assert_int_equal(mem.live, 0);
    }
}

static void words_of_a_megabyte_take_no_ages(void **state)
{
    (void)state;
    static const char *const units[] = {"a", "\xcc\x81", "\xed\x95\x9c", "'", "1", " ", "\n"};
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tokenizer *tokenizer = open_kind(&mem, kind);
        struct mly_tokens tokens;
        mly_tokens_init(&tokens, &mem);
        const size_t bytes = (size_t)1 << 20;
        char *text = test_malloc(bytes);
        for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
            const size_t unit = strlen(units[u]);
            for (size_t i = 0; i + unit <= bytes; i += unit) {
                memcpy(text + i, units[u], unit);
            }
            struct mly_error err = {0};
            const struct mly_str string = {text, bytes / unit * unit};
            const clock_t start = clock();
            assert_int_equal(mly_tokenizer_encode(tokenizer, string, &tokens, &err), MLY_OK);
            const double took = (double)(clock() - start) / CLOCKS_PER_SEC;
            if (took > 5.0) fail_msg("%s: %.1f s for \"%s\"", kinds[kind], took, units[u]);
            assert_spans_hold(string, &tokens, true);
        }
        test_free(text);
        mly_tokens_deinit(&tokens);
        mly_tokenizer_destroy(tokenizer);
        assert_int_equal(mem.live, 0);
    }
}

/* Opens bytes and, where they open, encodes with them: a wrong answer is allowed, reading outside
 * them is not. */
static void try_damaged(const char *bytes, size_t count)
{
    static const struct mly_str text =
        MLY_STR("caf\xc3\xa9 a <mask> don't 12 \xef\xbc\xa1 \xe4\xb8\xad");
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    struct mly_tokens tokens;
    mly_tokens_init(&tokens, &mem);
    const enum mly_err rc = mly_tokenizer_create(&mem, MLY_TOKENIZER_COMPILED,
                                                 (struct mly_str){bytes, count}, &tokenizer, &err);
    if (rc == MLY_OK) {
        const enum mly_err encoded = mly_tokenizer_encode(tokenizer, text, &tokens, &err);
        assert_true(encoded == MLY_OK || encoded == MLY_ERR_LIMIT);
        assert_spans_hold(text, &tokens, false);
        for (size_t i = 0; i < tokens.count; i++) {
            assert_true(tokens.items[i].id >= 0);
            assert_true((uint32_t)tokens.items[i].id < mly_tokenizer_frame(tokenizer)->id_count);
        }
    } else {
        assert_int_equal(rc, MLY_ERR_CORRUPT);
        assert_true(err.message[0] != '\0');
    }
    mly_tokens_deinit(&tokens);
    mly_tokenizer_destroy(tokenizer);
    assert_int_equal(mem.live, 0);
}

static void damaged_compiled_bytes_do_no_harm(void **state)
{
    (void)state;
    uint64_t seed = pick_seed();
    for (size_t kind = 0; kind < KINDS; kind++) {
        const struct mly_str good = compiled(kind);
        char *bytes = test_malloc(good.bytes);
        memcpy(bytes, good.data, good.bytes);
        for (size_t at = 0; at < good.bytes;) {
            const char saved = bytes[at];
            bytes[at] = (char)(saved ^ (char)(1 + next_random(&seed) % 255));
            try_damaged(bytes, good.bytes);
            bytes[at] = saved;
            /* All of header, settings and steps; of the rest, one byte in many. */
            at += at < 1500 ? 1 : 1 + next_random(&seed) % (good.bytes / 400);
        }
        for (int round = 0; round < 200; round++) {
            for (int i = 0; i < 20; i++) {
                bytes[1000 + next_random(&seed) % (good.bytes - 1000)] = (char)next_random(&seed);
            }
            try_damaged(bytes, good.bytes);
        }
        for (size_t count = 0; count < good.bytes; count += 1 + next_random(&seed) % 5000) {
            char *cut = test_malloc(count + 1);
            memcpy(cut, good.data, count);
            try_damaged(cut, count);
            test_free(cut);
        }
        test_free(bytes);
    }
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < KINDS; kind++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct mly_mem mem = MLY_MEM_INIT;
            struct mly_error err = {0};
            struct mly_tokenizer *tokenizer = NULL;
            struct mly_tokens tokens;
            mem.fail_at = fail_at;
            mly_tokens_init(&tokens, &mem);
            enum mly_err rc = mly_tokenizer_create(&mem, MLY_TOKENIZER_COMPILED, compiled(kind),
                                                   &tokenizer, &err);
            if (rc == MLY_OK) {
                rc = mly_tokenizer_encode(
                    tokenizer, MLY_STR("caf\xc3\xa9 e\xcc\x81\xcc\xa3 zebra \xed\x95\x9c"), &tokens,
                    &err);
            }
            mly_tokens_deinit(&tokens);
            mly_tokenizer_destroy(tokenizer);
            assert_int_equal(mem.live, 0);
            if (rc == MLY_OK) break;
            assert_int_equal(rc, MLY_ERR_NOMEM);
        }
    }
}

static void every_allocation_of_compile_may_fail(void **state)
{
    (void)state;
    static char text[1 << 20];
    for (size_t kind = 0; kind < KINDS; kind++) {
        char path[1024];
        (void)snprintf(path, sizeof(path), MLY_TEST_KINDS "/%s.json", kinds[kind]);
        FILE *file = fopen(path, "rb");
        assert_non_null(file);
        const size_t bytes = fread(text, 1, sizeof(text), file);
        fclose(file);
        for (uint64_t fail_at = 1;; fail_at++) {
            struct mly_mem mem = MLY_MEM_INIT;
            struct mly_error err = {0};
            struct mly_bytes out;
            mem.fail_at = fail_at;
            mly_bytes_init(&out, &mem, SIZE_MAX / 2);
            const enum mly_err rc =
                mly_tokenizer_compile(&mem, (struct mly_str){text, bytes}, &out, &err);
            if (rc != MLY_OK) assert_int_equal(out.bytes, 0);
            mly_bytes_deinit(&out);
            assert_int_equal(mem.live, 0);
            if (rc == MLY_OK) break;
            assert_int_equal(rc, MLY_ERR_NOMEM);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_of_random_text_are_in_order_and_on_borders),
        cmocka_unit_test(bytes_that_are_not_utf8_do_no_harm),
        cmocka_unit_test(long_texts_are_the_sum_of_their_windows),
        cmocka_unit_test(words_of_a_megabyte_take_no_ages),
        cmocka_unit_test(damaged_compiled_bytes_do_no_harm),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_allocation_of_compile_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
