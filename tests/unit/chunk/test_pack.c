/* Where the cuts fall: the rules on random texts, edits that settle, large texts in linear time. */
#include "chunk_cases.h"

#include "base/hash.h"

#include "mly_cmocka.h"
#include "test_pace.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static struct mly_mem mem = MLY_MEM_INIT;

static void free_text(struct mly_str text)
{
    mly_mem_free(&mem, (void *)(uintptr_t)text.data);
}

static void random_texts_are_covered_within_all_limits(void **state)
{
    (void)state;
    uint64_t seed = 20261122;
    for (int i = 0; i < 1500; i++) {
        struct mly_str text = random_text(&mem, seed + (uint64_t)i, 1 + next_random(&seed) % 5000);
        enum memalloy_chunking_kind kind = (enum memalloy_chunking_kind)(i % 4);
        int64_t size = 1 + (int64_t)(next_random(&seed) % (i % 3 == 0 ? 12 : 254));
        int64_t overlap = (int64_t)(next_random(&seed) % (uint64_t)size);
        if (i % 5 == 0) overlap = 0;
        bool metered = kind == MEMALLOY_CHUNKING_HEADING || kind == MEMALLOY_CHUNKING_TOKEN ||
                       next_random(&seed) % 2 == 0;
        struct mly_chunks chunks;
        split_and_check(&mem, text, kind, size, overlap, metered, &chunks);
        mly_chunks_deinit(&chunks);
        free_text(text);
    }
    assert_int_equal(mem.live, 0);
}

static void the_same_text_gives_the_same_chunks(void **state)
{
    (void)state;
    struct mly_str text = random_text(&mem, 99, 60000);
    struct mly_chunks a;
    struct mly_chunks b;
    split_and_check(&mem, text, MEMALLOY_CHUNKING_HEADING, 100, 10, true, &a);
    split_and_check(&mem, text, MEMALLOY_CHUNKING_HEADING, 100, 10, true, &b);
    assert_int_equal(a.count, b.count);
    for (size_t i = 0; i < a.count; i++) {
        assert_int_equal(a.items[i].byte_start, b.items[i].byte_start);
        assert_int_equal(a.items[i].byte_end, b.items[i].byte_end);
        assert_true(mly_str_equal(a.items[i].heading, b.items[i].heading));
    }
    mly_chunks_deinit(&a);
    mly_chunks_deinit(&b);
    free_text(text);
}

/* A text of sentences of random words: paragraph_sentences in each paragraph, or one line. */
static struct mly_str prose(uint64_t seed, size_t bytes, size_t paragraph_sentences)
{
    char *data = mly_mem_alloc(&mem, bytes + 400);
    assert_non_null(data);
    size_t at = 0;
    size_t sentences = 0;
    while (at < bytes) {
        size_t words = 5 + next_random(&seed) % 20;
        for (size_t w = 0; w < words; w++) {
            size_t letters = 1 + next_random(&seed) % 9;
            for (size_t l = 0; l < letters; l++) {
                char c = (char)('a' + (char)(next_random(&seed) % 26));
                if (w == 0 && l == 0) c = (char)(c - 'a' + 'A');
                data[at++] = c;
            }
            data[at++] = w + 1 < words ? ' ' : '.';
        }
        sentences++;
        bool end = paragraph_sentences > 0 && sentences % paragraph_sentences == 0;
        data[at++] = end ? '\n' : ' ';
        if (end) data[at++] = '\n';
    }
    return (struct mly_str){data, at};
}

/* Chunks of b whose content is not among those of a. */
static size_t count_new(struct mly_str text_a, const struct mly_chunks *a, struct mly_str text_b,
                        const struct mly_chunks *b)
{
    size_t count = 0;
    for (size_t i = 0; i < b->count; i++) {
        struct mly_str content =
            mly_str_slice(text_b, b->items[i].byte_start, b->items[i].byte_end);
        bool known = false;
        for (size_t k = 0; k < a->count && !known; k++) {
            known = mly_str_equal(
                content, mly_str_slice(text_a, a->items[k].byte_start, a->items[k].byte_end));
        }
        count += !known;
    }
    return count;
}

static void an_edit_changes_a_few_chunks_only(void **state)
{
    (void)state;
    static const char inserted[] = "Here is a new sentence of the author. ";
    static const size_t shapes[] = {0, 1, 3, 8}; /* one line, and sentences per paragraph */
    size_t worst = 0;
    size_t total = 0;
    size_t edits = 0;
    for (size_t s = 0; s < 4; s++) {
        for (uint64_t seed = 1; seed <= 10; seed++) {
            struct mly_str text = prose(seed, 110000, shapes[s]);
            struct mly_chunks before;
            split_and_check(&mem, text, MEMALLOY_CHUNKING_HEADING, 254, 0, true, &before);
            assert_true(before.count > 140);
            size_t at = text.bytes / 2;
            while (text.data[at - 1] != ' ' && text.data[at - 1] != '\n') {
                at++;
            }
            struct mly_str edited = {mly_mem_alloc(&mem, text.bytes + sizeof(inserted)),
                                     text.bytes + sizeof(inserted) - 1};
            char *data = (char *)(uintptr_t)edited.data;
            memcpy(data, text.data, at);
            memcpy(data + at, inserted, sizeof(inserted) - 1);
            memcpy(data + at + sizeof(inserted) - 1, text.data + at, text.bytes - at);
            struct mly_chunks after;
            split_and_check(&mem, edited, MEMALLOY_CHUNKING_HEADING, 254, 0, true, &after);
            size_t changed = count_new(text, &before, edited, &after);
            assert_true(changed >= 1);
            if (changed > worst) worst = changed;
            total += changed;
            edits++;
            mly_chunks_deinit(&before);
            mly_chunks_deinit(&after);
            free_text(text);
            free_text(edited);
        }
    }
    print_message("%zu edits: %.1f chunks changed on average, %zu at most\n", edits,
                  (double)total / (double)edits, worst);
    assert_true(worst <= 16);
    assert_true(total <= edits * 5);
}

static void chunks_are_well_filled(void **state)
{
    (void)state;
    struct mly_str text = prose(5, 200000, 4);
    struct mly_chunks chunks;
    split_and_check(&mem, text, MEMALLOY_CHUNKING_HEADING, 254, 0, true, &chunks);
    size_t pieces = fake_count(text);
    assert_true(pieces / chunks.count >= 150);
    for (size_t i = 0; i < chunks.count; i++) {
        struct mly_str content =
            mly_str_slice(text, chunks.items[i].byte_start, chunks.items[i].byte_end);
        assert_true(fake_count(content) >= 254 / 4 - 1);
        char last = content.data[content.bytes - 1];
        assert_true(last == ' ' || last == '\n');
    }
    mly_chunks_deinit(&chunks);
    free_text(text);
}

static void check_cuts(enum memalloy_chunking_kind kind, int64_t size, int64_t overlap,
                       const char *text, const char *expected)
{
    struct mly_chunks chunks;
    split_and_check(&mem, mly_str_of(text), kind, size, overlap, true, &chunks);
    char joined[1024] = "";
    size_t at = 0;
    for (size_t i = 0; i < chunks.count; i++) {
        size_t bytes = chunks.items[i].byte_end - chunks.items[i].byte_start;
        assert_true(at + bytes + 2 < sizeof(joined));
        if (i > 0) joined[at++] = '|';
        memcpy(joined + at, text + chunks.items[i].byte_start, bytes);
        at += bytes;
    }
    joined[at] = '\0';
    assert_string_equal(joined, expected);
    mly_chunks_deinit(&chunks);
}

static void sentences_end_where_people_end_them(void **state)
{
    (void)state;
    const enum memalloy_chunking_kind sentence = MEMALLOY_CHUNKING_SENTENCE;
    check_cuts(sentence, 12, 0, "One is. Two is. Three is.", "One is. |Two is. |Three is.");
    check_cuts(sentence, 20, 0, "Is it? \"Yes!\" she said. No.", "Is it? |\"Yes!\" she said. No.");
    check_cuts(sentence, 30, 0, "Ask Dr. Who. He knows e.g. 3.14 of it.",
               "Ask Dr. Who. |He knows e.g. 3.14 of it.");
    check_cuts(sentence, 24, 0, "J. R. Smith was here. So was I.",
               "J. R. Smith was here. |So was I.");
    check_cuts(sentence, 12, 0, "first line\nsecond line\n", "first line\n|second line\n");
    check_cuts(sentence, 16, 0, "- one thing\n- two things\n- three",
               "- one thing\n|- two things\n|- three");
    check_cuts(sentence, 10, 0, "a bcd efgh ijk lmno pqr", "a bcd |efgh ijk |lmno pqr");
    check_cuts(sentence, 4, 0, "abcdefghij", "abcd|efgh|ij");
}

static void overlap_repeats_whole_sentences_or_words(void **state)
{
    (void)state;
    check_cuts(MEMALLOY_CHUNKING_SENTENCE, 24, 10, "One is. Two is. Three is. Four is.",
               "One is. Two is. |Two is. Three is. |Three is. Four is.");
    check_cuts(MEMALLOY_CHUNKING_SENTENCE, 24, 9, "One is. Two is. Three is. Four is.",
               "One is. Two is. |Two is. Three is. |is. Four is.");
    check_cuts(MEMALLOY_CHUNKING_TOKEN, 4, 2, "a b c d e f g", "a b c d |c d e f |e f g");
}

static void blanks_belong_to_the_chunk_before(void **state)
{
    (void)state;
    check_cuts(MEMALLOY_CHUNKING_TOKEN, 2, 0, "  a b   \n\n c   d  ", "  a b   \n\n |c   d  ");
    check_cuts(MEMALLOY_CHUNKING_HEADING, 2, 0, "\n\na b\n\n\nc d", "\n\na b\n\n\n|c d");
}

/* Of this thread, so that other work on the machine does not count. */
static double seconds(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

/* Quadratic would be hours. */
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SECONDS_MAX 4.0
#else
#define SECONDS_MAX 60.0
#endif

static void ten_megabytes_on_one_line_take_linear_time(void **state)
{
    (void)state;
    static const struct {
        const char *name, *part;
    } cases[] = {{"letters", "x"},
                 {"words", "some words in a row. "},
                 {"blanks", " "},
                 {"line feeds", "\n"},
                 {"headings", "# a\n\nb\n\n"},
                 {"Chinese", "\xE4\xB8\xAD\xE6\x96\x87"},
                 {"emoji", "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7"},
                 {"marks", "\xCC\x81"},
                 {"commas", "1,"},
                 {"dots", "."}};
    static const enum memalloy_chunking_kind kinds[] = {
        MEMALLOY_CHUNKING_HEADING, MEMALLOY_CHUNKING_SENTENCE, MEMALLOY_CHUNKING_FIXED,
        MEMALLOY_CHUNKING_TOKEN};
    struct mly_meter meter = fake_meter(254);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mly_str text = repeat_text(&mem, cases[i].part, (size_t)TEST_PACE(10, 2, 1) << 20);
        for (size_t k = 0; k < 4; k++) {
            struct mly_chunking chunking = {kinds[k], MEMALLOY_SIZE_DEFAULT, MEMALLOY_SIZE_DEFAULT};
            assert_int_equal(mly_chunking_resolve(&chunking, NULL), MLY_OK);
            struct mly_chunks chunks;
            double start = seconds();
            assert_int_equal(mly_chunk_split(&mem, text, &chunking, &meter, &chunks, NULL), MLY_OK);
            double taken = seconds() - start;
            print_message("%-10s kind %d: %7zu chunks, %.2f s\n", cases[i].name, (int)kinds[k],
                          chunks.count, taken);
            assert_true(taken < SECONDS_MAX);
            size_t covered = 0;
            for (size_t c = 0; c < chunks.count; c++) {
                assert_true(chunks.items[c].byte_start <= covered);
                assert_true(chunks.items[c].byte_end > covered);
                covered = chunks.items[c].byte_end;
            }
            assert_int_equal(covered, text.bytes);
            mly_chunks_deinit(&chunks);
        }
        free_text(text);
    }
    assert_int_equal(mem.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts_are_covered_within_all_limits),
        cmocka_unit_test(the_same_text_gives_the_same_chunks),
        cmocka_unit_test(an_edit_changes_a_few_chunks_only),
        cmocka_unit_test(chunks_are_well_filled),
        cmocka_unit_test(sentences_end_where_people_end_them),
        cmocka_unit_test(overlap_repeats_whole_sentences_or_words),
        cmocka_unit_test(blanks_belong_to_the_chunk_before),
        cmocka_unit_test(ten_megabytes_on_one_line_take_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
