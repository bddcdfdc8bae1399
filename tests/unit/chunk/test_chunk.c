/* The door: sizes, refusals, empty and blank texts, the ancestor's faults, failing allocations. */
#include "chunk_cases.h"

#include "base/utf8.h"

#include "mly_cmocka.h"

#include <string.h>

static struct mly_mem mem = MLY_MEM_INIT;

static void expect_refused(enum memalloy_chunking_kind kind, int64_t size, int64_t overlap,
                           const char *message)
{
    struct mly_chunking chunking = {kind, size, overlap};
    struct mly_error err = {0};
    assert_int_equal(mly_chunking_resolve(&chunking, &err), MLY_ERR_INVAL);
    assert_string_equal(err.message, message);
    assert_int_equal(chunking.size, size);
    struct mly_meter meter = fake_meter(254);
    struct mly_chunks chunks = {0};
    assert_int_equal(mly_chunk_split(&mem, MLY_STR("a b c"), &chunking, &meter, &chunks, &err),
                     MLY_ERR_INVAL);
    assert_null(chunks.items);
}

static void sizes_that_cannot_be_are_refused_with_both_numbers(void **state)
{
    (void)state;
    expect_refused(MEMALLOY_CHUNKING_FIXED, 50, 50, "chunk overlap 50 must be below chunk size 50");
    expect_refused(MEMALLOY_CHUNKING_TOKEN, 50, 60, "chunk overlap 60 must be below chunk size 50");
    expect_refused(MEMALLOY_CHUNKING_SENTENCE, 0, 0,
                   "chunk size 0 (with overlap 0) must be above 0");
    expect_refused(MEMALLOY_CHUNKING_FIXED, -3, 2,
                   "chunk size -3 (with overlap 2) must be above 0");
    expect_refused(MEMALLOY_CHUNKING_HEADING, 100, -1,
                   "chunk overlap -1 (with size 100) must not be below 0");
    expect_refused(MEMALLOY_CHUNKING_SENTENCE, MEMALLOY_SIZE_DEFAULT, 600,
                   "chunk overlap 600 must be below chunk size 500");
    expect_refused((enum memalloy_chunking_kind)9, 10, 1, "chunking kind 9 is none of 0 to 3");
    expect_refused((enum memalloy_chunking_kind)(-1), 10, 1, "chunking kind -1 is none of 0 to 3");
}

static void defaults_are_the_kinds_own(void **state)
{
    (void)state;
    static const int64_t expected[4][2] = {{254, 0}, {500, 50}, {500, 50}, {254, 32}};
    for (int kind = 0; kind < 4; kind++) {
        struct mly_chunking chunking = {(enum memalloy_chunking_kind)kind, MEMALLOY_SIZE_DEFAULT,
                                        MEMALLOY_SIZE_DEFAULT};
        assert_int_equal(mly_chunking_resolve(&chunking, NULL), MLY_OK);
        assert_int_equal(chunking.size, expected[kind][0]);
        assert_int_equal(chunking.overlap, expected[kind][1]);
    }
    struct mly_chunking small = {MEMALLOY_CHUNKING_SENTENCE, 20, MEMALLOY_SIZE_DEFAULT};
    assert_int_equal(mly_chunking_resolve(&small, NULL), MLY_OK);
    assert_int_equal(small.overlap, 2);
    struct mly_chunking one = {MEMALLOY_CHUNKING_FIXED, 1, MEMALLOY_SIZE_DEFAULT};
    assert_int_equal(mly_chunking_resolve(&one, NULL), MLY_OK);
    assert_int_equal(one.overlap, 0);
    struct mly_chunking large = {MEMALLOY_CHUNKING_FIXED, INT64_MAX, INT64_MAX - 1};
    assert_int_equal(mly_chunking_resolve(&large, NULL), MLY_OK);
}

static void piece_counting_kinds_need_a_meter(void **state)
{
    (void)state;
    struct mly_chunking heading = {MEMALLOY_CHUNKING_HEADING, 254, 0};
    struct mly_chunking token = {MEMALLOY_CHUNKING_TOKEN, 254, 32};
    struct mly_chunks chunks = {0};
    struct mly_error err = {0};
    assert_int_equal(mly_chunk_split(&mem, MLY_STR("a"), &heading, NULL, &chunks, &err),
                     MLY_ERR_INVAL);
    assert_string_equal(err.message, "heading chunking counts word pieces and needs a model");
    assert_int_equal(mly_chunk_split(&mem, MLY_STR("a"), &token, NULL, &chunks, &err),
                     MLY_ERR_INVAL);
    assert_string_equal(err.message, "token chunking counts word pieces and needs a model");
}

static void an_empty_text_has_no_chunk_and_a_blank_one_has_one(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        struct mly_chunks chunks;
        split_and_check(&mem, MLY_STR(""), (enum memalloy_chunking_kind)kind, 100, 10, true,
                        &chunks);
        assert_int_equal(chunks.count, 0);
        mly_chunks_deinit(&chunks);
        split_and_check(&mem, MLY_STR(" \n\t \r\n  "), (enum memalloy_chunking_kind)kind, 100, 10,
                        true, &chunks);
        assert_int_equal(chunks.count, 1);
        mly_chunks_deinit(&chunks);
        mly_chunks_deinit(&chunks); /* Safe to repeat. */
    }
    assert_int_equal(mem.live, 0);
}

static void an_overlap_of_all_but_one_ends(void **state)
{
    (void)state;
    struct mly_str text = repeat_text(&mem, "some words in a row. ", 2000);
    for (int kind = 0; kind < 4; kind++) {
        for (int64_t size = 1; size < 60; size += 7) {
            struct mly_chunks chunks;
            split_and_check(&mem, text, (enum memalloy_chunking_kind)kind, size, size - 1, true,
                            &chunks);
            assert_true(chunks.count <= text.bytes);
            mly_chunks_deinit(&chunks);
        }
    }
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
    assert_int_equal(mem.live, 0);
}

static void the_sentence_chunker_does_not_triple_the_text(void **state)
{
    (void)state;
    struct mly_str text =
        repeat_text(&mem, "This is one of the sentences that the ancestor stored. ", 120000);
    struct mly_chunks chunks;
    split_and_check(&mem, text, MEMALLOY_CHUNKING_SENTENCE, 500, 50, true, &chunks);
    size_t bytes = 0;
    for (size_t i = 0; i < chunks.count; i++) {
        bytes += chunks.items[i].byte_end - chunks.items[i].byte_start;
    }
    assert_true(bytes <=
                text.bytes + text.bytes / 8); /* 450 new ones in 500 at the worst, and a bit */
    assert_true(chunks.count < text.bytes / 300);
    mly_chunks_deinit(&chunks);
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
}

static void chinese_without_blanks_is_cut_at_its_stops(void **state)
{
    (void)state;
    /* "Today the weather is good." without blanks, 9 code points with the stop. */
    const char *sentence = "\xE4\xBB\x8A\xE5\xA4\xA9\xE5\xA4\xA9\xE6\xB0\x94\xE5\xBE\x88\xE5\xA5"
                           "\xBD\xE5\x95\x8A\xE3\x80\x82";
    struct mly_str text = repeat_text(&mem, sentence, 18000);
    static const enum memalloy_chunking_kind kinds[] = {
        MEMALLOY_CHUNKING_SENTENCE, MEMALLOY_CHUNKING_HEADING, MEMALLOY_CHUNKING_TOKEN};
    for (size_t i = 0; i < 3; i++) {
        struct mly_chunks chunks;
        split_and_check(&mem, text, kinds[i], 200, 20, true, &chunks);
        assert_true(chunks.count >= 6000 / 200);
        for (size_t k = 0; kinds[i] != MEMALLOY_CHUNKING_TOKEN && k < chunks.count; k++) {
            assert_memory_equal(text.data + chunks.items[k].byte_end - 3, "\xE3\x80\x82", 3);
        }
        mly_chunks_deinit(&chunks);
    }
    struct mly_chunks chunks; /* Without a meter as well. */
    split_and_check(&mem, text, MEMALLOY_CHUNKING_SENTENCE, 500, 50, false, &chunks);
    assert_true(chunks.count >= 12);
    mly_chunks_deinit(&chunks);
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
}

static void fixed_takes_cjk_and_emoji_and_keeps_characters_whole(void **state)
{
    (void)state;
    const char *family = "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7";
    struct mly_str text = repeat_text(&mem, family, 1800);
    for (int64_t size = 5; size < 40; size++) {
        struct mly_chunks chunks;
        split_and_check(&mem, text, MEMALLOY_CHUNKING_FIXED, size, 0, false, &chunks);
        for (size_t i = 0; i < chunks.count; i++) {
            assert_int_equal(chunks.items[i].byte_start % strlen(family), 0);
        }
        mly_chunks_deinit(&chunks);
    }
    struct mly_chunks chunks; /* Smaller than one: cut between code points. */
    split_and_check(&mem, text, MEMALLOY_CHUNKING_FIXED, 2, 1, true, &chunks);
    mly_chunks_deinit(&chunks);
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
    text = repeat_text(&mem, "e\xCC\x81\r\n", 600);
    split_and_check(&mem, text, MEMALLOY_CHUNKING_FIXED, 5, 0, false, &chunks);
    for (size_t i = 0; i < chunks.count; i++) {
        char first = text.data[chunks.items[i].byte_start];
        assert_true(first == 'e' || first == '\r');
    }
    mly_chunks_deinit(&chunks);
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
}

static void fixed_is_exact_where_it_can_be(void **state)
{
    (void)state;
    struct mly_str text = repeat_text(&mem, "abcdefghij", 1000);
    struct mly_chunks chunks;
    split_and_check(&mem, text, MEMALLOY_CHUNKING_FIXED, 100, 20, false, &chunks);
    for (size_t i = 0; i < chunks.count; i++) {
        assert_int_equal(chunks.items[i].byte_start, 80 * i);
        if (i + 1 < chunks.count) assert_int_equal(chunks.items[i].byte_end, 80 * i + 100);
    }
    mly_chunks_deinit(&chunks);
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
}

static void a_chunk_the_model_cannot_read_whole_is_split_further(void **state)
{
    (void)state;
    struct mly_str text = repeat_text(&mem, "ab. ", 40000);
    static const enum memalloy_chunking_kind kinds[] = {
        MEMALLOY_CHUNKING_SENTENCE, MEMALLOY_CHUNKING_FIXED, MEMALLOY_CHUNKING_TOKEN};
    for (size_t i = 0; i < 3; i++) {
        struct mly_chunking chunking = {kinds[i], 1000000, 900000};
        struct mly_meter meter = fake_meter(254);
        struct mly_chunks chunks;
        assert_int_equal(mly_chunk_split(&mem, text, &chunking, &meter, &chunks, NULL), MLY_OK);
        assert_true(chunks.count >= 20000 / 254);
        for (size_t k = 0; k < chunks.count; k++) {
            assert_true(fake_count(mly_str_slice(text, chunks.items[k].byte_start,
                                                 chunks.items[k].byte_end)) <= 254);
        }
        mly_chunks_deinit(&chunks);
    }
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
}

static void every_failing_allocation_is_survived(void **state)
{
    (void)state;
    struct mly_mem texts = MLY_MEM_INIT;
    struct mly_str text = random_text(&texts, 7, 6000);
    struct mly_str headed = repeat_text(&texts, "# A\n\nSome text.\n\n## B\n\nMore.\n\n", 2000);
    for (int round = 0; round < 5; round++) {
        int kind = round < 4 ? round : 0;
        struct mly_str input = round < 4 ? text : headed;
        struct mly_chunking chunking = {(enum memalloy_chunking_kind)kind, 50, 5};
        for (uint64_t fail_at = 1;; fail_at++) {
            struct mly_mem failing = MLY_MEM_INIT;
            failing.fail_at = fail_at;
            struct mly_meter meter = fake_meter(254);
            struct mly_chunks chunks = {0};
            struct mly_error err = {0};
            enum mly_err rc = mly_chunk_split(&failing, input, &chunking, &meter, &chunks, &err);
            if (rc == MLY_OK) {
                assert_true(fail_at > 3);
                mly_chunks_deinit(&chunks);
                assert_int_equal(failing.live, 0);
                break;
            }
            assert_int_equal(rc, MLY_ERR_NOMEM);
            assert_int_equal(failing.live, 0);
            assert_null(chunks.items);
            assert_true(err.message[0] != '\0');
        }
    }
    mly_mem_free(&texts, (void *)(uintptr_t)text.data);
    mly_mem_free(&texts, (void *)(uintptr_t)headed.data);
}

static int refusing_measure(void *context, struct mly_str text, struct mly_tokens *out,
                            struct mly_error *err)
{
    (void)context;
    (void)text;
    (void)out;
    return (int)mly_fail(err, MLY_ERR_LIMIT, "too long for this meter");
}

static void what_the_meter_returns_is_passed_on(void **state)
{
    (void)state;
    struct mly_chunking chunking = {MEMALLOY_CHUNKING_HEADING, 254, 0};
    struct mly_meter meter = {.measure = refusing_measure, .pieces_max = 254};
    struct mly_chunks chunks = {0};
    struct mly_error err = {0};
    assert_int_equal(mly_chunk_split(&mem, MLY_STR("a"), &chunking, &meter, &chunks, &err),
                     MLY_ERR_LIMIT);
    assert_string_equal(err.message, "too long for this meter");
    assert_int_equal(mem.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_that_cannot_be_are_refused_with_both_numbers),
        cmocka_unit_test(defaults_are_the_kinds_own),
        cmocka_unit_test(piece_counting_kinds_need_a_meter),
        cmocka_unit_test(an_empty_text_has_no_chunk_and_a_blank_one_has_one),
        cmocka_unit_test(an_overlap_of_all_but_one_ends),
        cmocka_unit_test(the_sentence_chunker_does_not_triple_the_text),
        cmocka_unit_test(chinese_without_blanks_is_cut_at_its_stops),
        cmocka_unit_test(fixed_takes_cjk_and_emoji_and_keeps_characters_whole),
        cmocka_unit_test(fixed_is_exact_where_it_can_be),
        cmocka_unit_test(a_chunk_the_model_cannot_read_whole_is_split_further),
        cmocka_unit_test(every_failing_allocation_is_survived),
        cmocka_unit_test(what_the_meter_returns_is_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
