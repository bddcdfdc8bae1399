/* tokenizer.json: what is followed, what is refused by name, what is damaged. That it is followed
 * exactly is tests/golden/token. */
#include "mly_cmocka.h"

#include "token/token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char bert[] =
    "{\"version\":\"1.0\",\"truncation\":{\"max_length\":128},\"added_tokens\":["
    "{\"id\":0,\"content\":\"[PAD]\",\"lstrip\":false,\"normalized\":false,\"special\":true},"
    "{\"id\":1,\"content\":\"[UNK]\"},{\"id\":2,\"content\":\"[CLS]\"},"
    "{\"id\":3,\"content\":\"[SEP]\"},{\"id\":4,\"content\":\"[MASK]\"}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
    "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
    "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"}},"
    "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"special_tokens\":{"
    "\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2]},\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3]}}},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
    "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{"
    "\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,\"a\":5,\"##b\":6,\",\":7}}}";

static const char unigram[] =
    "{\"added_tokens\":[],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"Metaspace\","
    "\"replacement\":\"\xe2\x96\x81\",\"add_prefix_space\":true},\"post_processor\":null,"
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"\xe2\x96\x81\",-2.5],"
    "[\"a\",-1.5],[\"\xe2\x96\x81"
    "a\",-3],[\"b\",-4]]}}";

static const char bpe[] =
    "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true},"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3},"
    "\"merges\":[\"a b\"]}}";

/* text with the first from replaced by to; freed by the caller. */
static char *changed(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    const size_t bytes = strlen(text) + strlen(to) + 1;
    char *out = test_malloc(bytes);
    (void)snprintf(out, bytes, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

/* code MLY_OK: it is taken. word stands in the message. */
static void check(const char *text, const char *from, const char *to, enum mly_err code,
                  const char *word)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    char *json = changed(text, from, to);
    const enum mly_err rc =
        mly_tokenizer_create(&mem, MLY_TOKENIZER_JSON, mly_str_of(json), &tokenizer, &err);
    if (rc != code || strstr(err.message, word) == NULL) {
        fail_msg("%s: \"%s\" was expected, it is %d: %s", to, word, (int)rc, err.message);
    }
    mly_tokenizer_destroy(tokenizer);
    test_free(json);
    assert_int_equal(mem.live, 0);
}

static void settings_that_are_not_followed_are_refused_by_name(void **state)
{
    (void)state;
    const enum mly_err no = MLY_ERR_UNSUPPORTED;
    check(bert, "\"WordPiece\"", "\"WordLevel\"", no, "model.type is \"WordLevel\"");
    check(bert, "\"unk_token\":\"[UNK]\"", "\"unk_token\":\"<unk>\"", no, "model.unk_token is");
    check(bert, ":100,", ":100.0,", no, "max_input_chars_per_word is 100.0");
    check(bert, "BertNormalizer", "ByteLevel", no, "normalizer.type is \"ByteLevel\"");
    check(bert, "\"clean_text\":true,", "", no, "normalizer.clean_text is missing");
    check(bert, "BertPreTokenizer", "UnicodeScripts", no, "pre_tokenizer.type is");
    check(bert, "TemplateProcessing", "Other", no, "post_processor.type is \"Other\"");
    check(bert, "{\"id\":\"[CLS]\",\"type", "{\"id\":\"<s>\",\"type", no, "post_processor.single");
    check(bert, "\"type_id\":0", "\"type_id\":1", no, "post_processor.type_id is 1");
    check(bert, "\"id\":2,", "\"id\":12,", no, "added_tokens.[CLS] is 12");
    check(bert, "\"id\":4,\"content\":\"[MASK]\"", "\"id\":4,\"content\":\"[MINE]\"", no,
          "added_tokens.[MINE] is 4");
    check(bert, "{\"max_length\":128}", "{\"max_length\":128,\"direction\":\"Left\"}", no,
          "truncation.direction is \"Left\"");
    check(unigram, "\"unk_id\":0", "\"unk_id\":null", no, "model.unk_id is null");
    check(unigram, "\"replacement\":\"\xe2\x96\x81\"", "\"replacement\":\"_\"", no,
          "pre_tokenizer.replacement is \"_\"");
    check(unigram, "\"add_prefix_space\":true", "\"add_prefix_space\":false", no,
          "pre_tokenizer.add_prefix_space is false");
    check(unigram, "\"normalizer\":null",
          "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[ab]\"},\"content\":\"\"}",
          no, "normalizer.pattern is");
    check(bpe, "\"merges\"", "\"dropout\":0.1,\"merges\"", no, "model.dropout is 0.1");
    check(bpe, "\"merges\"", "\"end_of_word_suffix\":\"</w>\",\"merges\"", no,
          "model.end_of_word_suffix is \"</w>\"");
    check(bpe, "{\"type\":\"ByteLevel\",",
          "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"x+\"},", no,
          "pre_tokenizer.pattern is");
}

static void settings_that_mean_the_same_are_taken(void **state)
{
    (void)state;
    check(bert, "\"strip_accents\":null", "\"strip_accents\":false", MLY_OK, "");
    check(bert, "\"strip_accents\":null,", "", MLY_OK, "");
    check(bert, "\"##\"", "\"\"", MLY_OK, "");
    check(bert, "{\"type\":\"TemplateProcessing\",",
          "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2],", MLY_OK, "");
    check(unigram, "\"add_prefix_space\":true", "\"prepend_scheme\":\"first\"", MLY_OK, "");
    check(bpe, "[\"a b\"]", "[[\"a\",\"b\"]]", MLY_OK, "");
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    const enum mly_err no = MLY_ERR_CORRUPT;
    check(bert, "}}}", "}}", no, "cannot be read as JSON");
    check(bert, "\"a\":5", "\"a\":-5", no, "piece \"a\" has no id");
    check(bert, "\"a\":5", "\"a\":\"5\"", no, "piece \"a\" has no id");
    check(bert, "\"a\":5", "\"a\":16777216", no, "piece \"a\" has no id");
    check(bert, "\"a\":5", "\"a\":5,\"a\":6", no, "duplicate");
    check(unigram, "[\"a\",-1.5]", "[\"a\"]", no, "model.vocab[2]");
    check(unigram, "\"normalizer\":null",
          "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"//\"}", no,
          "is cut off");
    check(unigram, "\"normalizer\":null",
          "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"a b\"}", no,
          "not base64");
    check(bpe, "\"a b\"", "\"a c\"", no, "\"c\", which is no piece");
    check(bpe, "\"a b\"", "\"ab\"", no, "model.merges[0] is no pair");
    check("[]", "[]", "[]", MLY_ERR_UNSUPPORTED, "model is missing");
    check("x", "x", "", no, "cannot be read");
}

static void the_frame_is_read(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_tokenizer *tokenizer = NULL;
    assert_int_equal(
        mly_tokenizer_create(&mem, MLY_TOKENIZER_JSON, mly_str_of(bert), &tokenizer, &err), MLY_OK);
    const struct mly_tokenizer_frame *frame = mly_tokenizer_frame(tokenizer);
    assert_int_equal(frame->prefix_count, 1);
    assert_int_equal(frame->suffix_count, 1);
    assert_int_equal(frame->prefix[0], 2);
    assert_int_equal(frame->suffix[0], 3);
    assert_int_equal(frame->pad_id, 0);
    assert_int_equal(frame->id_count, 8);
    assert_int_equal(frame->pieces_max, 128);
    mly_tokenizer_destroy(tokenizer);
}

static void the_same_file_gives_the_same_bytes_wherever_they_lie(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes first, second;
    mly_bytes_init(&first, &mem, SIZE_MAX / 2);
    mly_bytes_init(&second, &mem, SIZE_MAX / 2);
    assert_int_equal(mly_bytes_append(&second, "x", 1, &err), MLY_OK);
    assert_int_equal(mly_tokenizer_compile(&mem, mly_str_of(unigram), &first, &err), MLY_OK);
    assert_int_equal(mly_tokenizer_compile(&mem, mly_str_of(unigram), &second, &err), MLY_OK);
    assert_int_equal(second.bytes, first.bytes + 1);
    assert_memory_equal(first.data, second.data + 1, first.bytes);
    struct mly_tokenizer *tokenizer = NULL;
    const struct mly_str shifted = {(const char *)second.data + 1, first.bytes};
    assert_int_equal(mly_tokenizer_create(&mem, MLY_TOKENIZER_COMPILED, shifted, &tokenizer, &err),
                     MLY_OK);
    struct mly_tokens tokens;
    mly_tokens_init(&tokens, &mem);
    assert_int_equal(mly_tokenizer_encode(tokenizer, MLY_STR("a b"), &tokens, &err), MLY_OK);
    assert_int_equal(tokens.count, 3);
    assert_int_equal(tokens.items[0].id, 3);
    assert_int_equal(tokens.items[1].id, 1);
    assert_int_equal(tokens.items[2].id, 4);
    mly_tokens_deinit(&tokens);
    mly_tokenizer_destroy(tokenizer);
    mly_bytes_deinit(&first);
    mly_bytes_deinit(&second);
    assert_int_equal(mem.live, 0);
}

/* Texts of a compiled tokenizer are not looked at when it is opened: what a step puts in place of
 * something may be no UTF-8, and the next step has to copy it. */
static void text_of_steps_that_is_not_utf8_does_no_harm(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes bytes;
    struct mly_tokenizer *tokenizer = NULL;
    struct mly_tokens tokens;
    static char text[8000];
    char *json = changed(unigram, "\"normalizer\":null",
                         "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
                         "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},"
                         "\"content\":\"\xc3\xa9\xc3\xa9\"},"
                         "{\"type\":\"Prepend\",\"prepend\":\"b\"}]}");
    mly_bytes_init(&bytes, &mem, SIZE_MAX / 2);
    assert_int_equal(mly_tokenizer_compile(&mem, mly_str_of(json), &bytes, &err), MLY_OK);
    for (size_t i = 0; i < bytes.bytes - 3; i++) {
        if (memcmp(bytes.data + i, "\xc3\xa9\xc3\xa9", 4) == 0) memset(bytes.data + i, 0x80, 4);
    }
    assert_int_equal(mly_tokenizer_create(&mem, MLY_TOKENIZER_COMPILED, mly_bytes_view(&bytes),
                                          &tokenizer, &err),
                     MLY_OK);
    memset(text, 'a', sizeof(text));
    mly_tokens_init(&tokens, &mem);
    const struct mly_str whole = {text, sizeof(text)};
    assert_int_equal(mly_tokenizer_encode(tokenizer, whole, &tokens, &err), MLY_OK);
    assert_true(tokens.count > 0);
    for (size_t i = 0; i < tokens.count; i++) {
        assert_true(tokens.items[i].byte_start <= tokens.items[i].byte_end);
        assert_true(tokens.items[i].byte_end <= sizeof(text));
    }
    mly_tokens_deinit(&tokens);
    mly_tokenizer_destroy(tokenizer);
    mly_bytes_deinit(&bytes);
    test_free(json);
    assert_int_equal(mem.live, 0);
}

/* Few merges that all fall on one place of the table, whatever its size. */
static void merges_made_to_collide_take_no_huge_table(void **state)
{
    (void)state;
    enum { PAIRS = 70 };
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes out;
    char *json = test_malloc(65536);
    size_t used = (size_t)snprintf(json, 65536, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0");
    /* left * 0x7F4A7C15 + (right * 0x9E3779B97F4A7C15 >> 32), modulo 2^28, is 0. */
    const uint32_t low = 0x7F4A7C15u;
    uint32_t inverse = low;
    for (int i = 0; i < 5; i++) {
        inverse *= 2 - low * inverse;
    }
    char merges[8192] = "";
    size_t merges_used = 0, pairs = 0;
    for (uint32_t right = 1; pairs < PAIRS; right++) {
        const uint32_t high = (uint32_t)(right * 0x9E3779B97F4A7C15u >> 32);
        const uint32_t left = (0u - high) * inverse & 0xFFFFFFFu;
        if (left < 100000 || left >= (1u << 24) - 2) continue;
        used +=
            (size_t)snprintf(json + used, 65536 - used, ",\"x%zu\":%u,\"y%zu\":%u,\"x%zuy%zu\":%zu",
                             pairs, left, pairs, right, pairs, pairs, 50000 + pairs);
        merges_used += (size_t)snprintf(merges + merges_used, sizeof(merges) - merges_used,
                                        "%s\"x%zu y%zu\"", pairs > 0 ? "," : "", pairs, pairs);
        pairs++;
    }
    (void)snprintf(json + used, 65536 - used, "},\"merges\":[%s]}}", merges);
    mly_bytes_init(&out, &mem, SIZE_MAX / 2);
    assert_int_equal(mly_tokenizer_compile(&mem, mly_str_of(json), &out, &err), MLY_ERR_LIMIT);
    assert_non_null(strstr(err.message, "merges"));
    mly_bytes_deinit(&out);
    test_free(json);
    assert_int_equal(mem.live, 0);
}

/* A hundred thousand pieces and 20000 added tokens: seconds where each is looked for one by one. */
static void many_added_tokens_take_no_ages(void **state)
{
    (void)state;
    enum { PIECES = 100000, ADDED = 20000, ROOM = 8 << 20 };
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes out;
    char *json = test_malloc(ROOM);
    size_t used =
        (size_t)snprintf(json, ROOM, "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[");
    for (int i = 0; i < PIECES; i++) {
        used += (size_t)snprintf(json + used, ROOM - used, "%s[\"p%d\",-1]", i > 0 ? "," : "", i);
    }
    used += (size_t)snprintf(json + used, ROOM - used, "]},\"added_tokens\":[");
    for (int i = 0; i < ADDED; i++) { /* the first is a piece */
        used += (size_t)snprintf(json + used, ROOM - used, "%s{\"id\":%d,\"content\":\"%c%d\"}",
                                 i > 0 ? "," : "", i == 0 ? 7 : PIECES + i - 1, i == 0 ? 'p' : 'x',
                                 i == 0 ? 7 : i);
    }
    used += (size_t)snprintf(json + used, ROOM - used, "]}");
    mly_bytes_init(&out, &mem, SIZE_MAX / 2);
    const clock_t start = clock();
    assert_int_equal(mly_tokenizer_compile(&mem, (struct mly_str){json, used}, &out, &err), MLY_OK);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 8.0);
    mly_bytes_deinit(&out);
    test_free(json);
    assert_int_equal(mem.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_that_are_not_followed_are_refused_by_name),
        cmocka_unit_test(settings_that_mean_the_same_are_taken),
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(the_frame_is_read),
        cmocka_unit_test(the_same_file_gives_the_same_bytes_wherever_they_lie),
        cmocka_unit_test(text_of_steps_that_is_not_utf8_does_no_harm),
        cmocka_unit_test(many_added_tokens_take_no_ages),
        cmocka_unit_test(merges_made_to_collide_take_no_huge_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
