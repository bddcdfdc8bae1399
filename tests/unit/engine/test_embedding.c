/* Texts into vectors through <memalloy.h>'s door: kinds and their prefixes, what is cut off, who is
 * told, who may stop it, and every allocation failing once. */
#define _GNU_SOURCE
#include "engine/engine.h"

#include "onnx_cases.h"
#include "tiny_model.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[TEMP_DIR_BYTES];
static char tiny_path[TEMP_DIR_BYTES + 64];

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir);
    snprintf(tiny_path, sizeof(tiny_path), "%s", tiny_model(dir, &tiny_small, 3));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static struct memalloy_str str(const char *text)
{
    return (struct memalloy_str){text, strlen(text)};
}

static memalloy_model *open_model(const struct mly_env *env, const char *path)
{
    struct memalloy_model_options options = {.struct_bytes = sizeof(options),
                                             .path = path,
                                             .threads = 2,
                                             .onnxruntime_path = MLY_TEST_FAKE_ORT};
    memalloy_model *model = NULL;
    struct mly_error err = {0};
    if (mly_engine_model_open(env, &options, &model, &err) != MLY_OK) fail_msg("%s", err.message);
    return model;
}

/* A folder whose prompts are "q " and "p p ". */
static const char *prefixed_folder(void)
{
    const char *folder = onnx_folder(dir);
    onnx_write(folder, "config_sentence_transformers.json",
               "{\"prompts\":{\"query\":\"q \",\"document\":\"p p \"}}", NULL, NULL);
    return folder;
}

static void embed_one(memalloy_model *model, const char *text, int kind, float out[FAKE_DIM],
                      bool *cut)
{
    unsigned char flag = 2;
    size_t truncated = 9;
    struct memalloy_embed_options options = {
        .struct_bytes = sizeof(options), .kind = kind, .truncated = &flag};
    const struct memalloy_str texts[] = {str(text)};
    struct mly_error err = {0};
    if (mly_engine_embed(model, texts, 1, &options, out, &truncated, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(flag, truncated);
    if (cut != NULL) *cut = flag == 1;
}

static void a_kind_puts_its_prefix_in_front(void **state)
{
    (void)state;
    onnx_fake();
    memalloy_model *plain = open_model(mly_env_system(), onnx_folder(dir));
    memalloy_model *prefixed = open_model(mly_env_system(), prefixed_folder());
    float a[FAKE_DIM], b[FAKE_DIM];
    embed_one(plain, "q x y", MEMALLOY_EMBED_PASSAGE, a, NULL);
    embed_one(prefixed, "x y", MEMALLOY_EMBED_QUERY, b, NULL);
    assert_memory_equal(a, b, sizeof(a));
    embed_one(plain, "p p x y", MEMALLOY_EMBED_QUERY, a, NULL);
    embed_one(prefixed, "x y", MEMALLOY_EMBED_PASSAGE, b, NULL);
    assert_memory_equal(a, b, sizeof(a));
    embed_one(prefixed, "x y", MEMALLOY_EMBED_QUERY, a, NULL);
    assert_memory_not_equal(a, b, sizeof(a));
    embed_one(plain, "q", MEMALLOY_EMBED_PASSAGE, a, NULL);
    embed_one(prefixed, "", MEMALLOY_EMBED_QUERY, b, NULL);
    assert_memory_equal(a, b, sizeof(a));
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)}, other = info;
    assert_int_equal(mly_engine_model_info(prefixed, &info, NULL), MLY_OK);
    assert_string_equal(info.query_prefix.data, "q ");
    assert_string_equal(info.passage_prefix.data, "p p ");
    assert_string_equal(info.pooling.data, "mean");
    assert_int_equal(mly_engine_model_info(plain, &other, NULL), MLY_OK);
    assert_int_equal(other.query_prefix.bytes, 0);
    assert_non_null(other.query_prefix.data);
    assert_string_not_equal(info.hash.data, other.hash.data);
    mly_engine_model_close(plain);
    mly_engine_model_close(prefixed);
}

/* count letters with blanks between them: as many word pieces */
static char *letters(size_t count, char letter)
{
    char *text = malloc(2 * count + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = letter;
        text[2 * i + 1] = ' ';
    }
    text[2 * count] = '\0';
    return text;
}

static void what_is_cut_off_is_the_text_and_never_its_prefix(void **state)
{
    (void)state;
    onnx_fake();
    memalloy_model *prefixed = open_model(mly_env_system(), prefixed_folder());
    float whole[FAKE_DIM], longer[FAKE_DIM];
    bool cut = true;
    const size_t room = ONNX_PIECES_MAX - 2 - 2; /* "p p" */
    char *fits = letters(room, 'x'), *beyond = letters(room + 1, 'x');
    embed_one(prefixed, fits, MEMALLOY_EMBED_PASSAGE, whole, &cut);
    assert_false(cut);
    embed_one(prefixed, beyond, MEMALLOY_EMBED_PASSAGE, longer, &cut);
    assert_true(cut);
    assert_memory_equal(whole, longer, sizeof(whole));
    embed_one(prefixed, beyond, MEMALLOY_EMBED_QUERY, longer, &cut);
    assert_false(cut); /* "q" is shorter by one piece */
    free(fits);
    free(beyond);
    mly_engine_model_close(prefixed);
}

static void a_chunk_leaves_room_for_the_prefix_and_does_not_hold_it(void **state)
{
    (void)state;
    onnx_fake();
    memalloy_model *prefixed = open_model(mly_env_system(), prefixed_folder());
    char *text = letters(1000, 'x');
    memalloy_chunks *chunks = NULL;
    struct memalloy_chunking fixed = {.struct_bytes = sizeof(fixed),
                                      .kind = MEMALLOY_CHUNKING_FIXED,
                                      .size = 100000,
                                      .overlap = 0};
    const struct mly_str all = mly_str_of(text);
    assert_int_equal(mly_engine_chunk(mly_env_system(), prefixed, &fixed, all, &chunks, NULL),
                     MLY_OK);
    size_t end = 0;
    for (size_t i = 0; i < memalloy_chunks_count(chunks); i++) {
        struct memalloy_chunk chunk = {.struct_bytes = sizeof(chunk)};
        memalloy_chunks_get(chunks, i, &chunk);
        assert_true(chunk.content.bytes <= 2 * (ONNX_PIECES_MAX - 4));
        assert_int_equal(chunk.byte_start, end);
        assert_memory_equal(chunk.content.data, text + end, chunk.content.bytes);
        end = chunk.byte_end;
    }
    assert_int_equal(end, all.bytes);
    memalloy_chunks_destroy(chunks);
    free(text);
    mly_engine_model_close(prefixed);
}

static void a_prefix_that_leaves_no_room_is_refused(void **state)
{
    (void)state;
    onnx_fake();
    const char *folder = onnx_folder(dir);
    char *prompt = letters(ONNX_PIECES_MAX, 'x');
    char json[2 * ONNX_PIECES_MAX + 64];
    snprintf(json, sizeof(json), "{\"prompts\":{\"query\":\"%s\"}}", prompt);
    free(prompt);
    onnx_write(folder, "config_sentence_transformers.json", json, NULL, NULL);
    struct memalloy_model_options options = {.struct_bytes = sizeof(options),
                                             .path = folder,
                                             .threads = 1,
                                             .onnxruntime_path = MLY_TEST_FAKE_ORT};
    memalloy_model *model = NULL;
    struct mly_error err = {0};
    assert_int_equal(mly_engine_model_open(mly_env_system(), &options, &model, &err),
                     MLY_ERR_MODEL);
    assert_non_null(strstr(err.message, "takes 300 word pieces of the 298"));
    assert_null(model);
}

static void prompts_that_are_not_pooled_are_refused(void **state)
{
    (void)state;
    onnx_fake();
    const char *folder = prefixed_folder();
    onnx_write(folder, "1_Pooling/config.json", onnx_pooling, "{", "{\"include_prompt\":false,");
    struct memalloy_model_options options = {
        .struct_bytes = sizeof(options), .path = folder, .onnxruntime_path = MLY_TEST_FAKE_ORT};
    memalloy_model *model = NULL;
    struct mly_error err = {0};
    assert_int_equal(mly_engine_model_open(mly_env_system(), &options, &model, &err),
                     MLY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "include_prompt"));
}

/* ---- progress ---- */

#define MANY 400

struct witness {
    uint64_t calls, stop_at, done, total, bytes_total;
    int stage;
};

static int look(void *context, const struct memalloy_progress *progress)
{
    struct witness *witness = context;
    assert_true(progress->items_done >= witness->done);
    assert_true(progress->bytes_done <= progress->bytes_total);
    witness->done = progress->items_done;
    witness->total = progress->items_total;
    witness->bytes_total = progress->bytes_total;
    witness->stage = progress->stage;
    return ++witness->calls == witness->stop_at;
}

static void make_many(struct memalloy_str texts[MANY], char *long_text)
{
    for (size_t i = 0; i < MANY; i++) {
        texts[i] = (struct memalloy_str){long_text, 2 * (i % 90)};
    }
}

static void watching_changes_no_vector(void **state)
{
    (void)state;
    memalloy_model *model = open_model(mly_env_system(), tiny_path);
    struct memalloy_str texts[MANY];
    char *text = letters(100, 'a');
    make_many(texts, text);
    float *a = calloc(MANY * 64, sizeof(float)), *b = calloc(MANY * 64, sizeof(float));
    assert_non_null(a);
    assert_non_null(b);
    struct witness witness = {0};
    struct memalloy_embed_options options = {
        .struct_bytes = sizeof(options), .progress = look, .progress_context = &witness};
    assert_int_equal(mly_engine_embed(model, texts, MANY, NULL, a, NULL, NULL), MLY_OK);
    /* Long enough for several calls, however fast this machine is. */
    for (int i = 0; i < 200 && witness.calls < 2; i++) {
        witness.done = 0;
        assert_int_equal(mly_engine_embed(model, texts, MANY, &options, b, NULL, NULL), MLY_OK);
        assert_memory_equal(a, b, MANY * 64 * sizeof(float));
        if (witness.calls == 0 && i == 199) skip();
    }
    free(a);
    free(b);
    free(text);
    mly_engine_model_close(model);
}

static int64_t ticks;

/* Every look at the clock is a tenth of a second later than the last. */
static int64_t running_clock(void *context)
{
    (void)context;
    return ticks += 100000000;
}

static void a_callback_is_told_and_may_stop_it(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    fault.env.monotonic_ns = running_clock;
    memalloy_model *model = open_model(&fault.env, tiny_path);
    struct memalloy_str texts[MANY];
    char *text = letters(100, 'a');
    make_many(texts, text);
    float *out = calloc(MANY * 64, sizeof(float));
    assert_non_null(out);
    struct witness witness = {.stop_at = 3};
    struct memalloy_embed_options options = {
        .struct_bytes = sizeof(options), .progress = look, .progress_context = &witness};
    struct mly_error err = {0};
    assert_int_equal(mly_engine_embed(model, texts, MANY, &options, out, NULL, &err),
                     MLY_ERR_CANCELLED);
    assert_int_equal(witness.calls, 3);
    assert_int_equal(witness.stage, MEMALLOY_STAGE_EMBED);
    assert_int_equal(witness.total, MANY);
    assert_true(witness.done > 0 && witness.done < MANY / 4);
    assert_true(witness.bytes_total > 0);
    assert_non_null(strstr(err.message, "of 400 texts"));
    witness = (struct witness){0};
    assert_int_equal(mly_engine_embed(model, texts, MANY, &options, out, NULL, &err), MLY_OK);
    assert_int_equal(witness.done, MANY);
    free(out);
    free(text);
    mly_engine_model_close(model);
    assert_int_equal(fault.mem.live, 0);
}

static void bad_arguments_are_refused_by_name(void **state)
{
    (void)state;
    memalloy_model *model = open_model(mly_env_system(), tiny_path);
    float out[64];
    struct mly_error err = {0};
    const struct memalloy_str good[] = {str("a")}, bad[] = {{"\xff", 1}}, null[] = {{NULL, 0}};
    struct memalloy_embed_options options = {.struct_bytes = sizeof(options), .kind = 2};
    assert_int_equal(mly_engine_embed(model, good, 1, &options, out, NULL, &err), MLY_ERR_INVAL);
    assert_string_equal(err.message, "kind 2 of an embed is none of 0 (passage) and 1 (query)");
    assert_int_equal(mly_engine_embed(model, bad, 1, NULL, out, NULL, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_engine_embed(model, null, 1, NULL, out, NULL, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_engine_embed(model, NULL, 0, NULL, NULL, NULL, &err), MLY_OK);
    mly_engine_model_close(model);
}

static void every_failing_allocation_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    onnx_fake();
    const char *folder = prefixed_folder();
    struct memalloy_str texts[] = {str("x y"), str(""), str("a b c")};
    for (uint64_t fail_at = 1;; fail_at++) {
        struct fault_env fault;
        fault_env_init(&fault);
        struct memalloy_model_options options = {.struct_bytes = sizeof(options),
                                                 .path = folder,
                                                 .threads = 2,
                                                 .onnxruntime_path = MLY_TEST_FAKE_ORT};
        struct mly_error err = {0};
        memalloy_model *model = NULL;
        float out[3 * FAKE_DIM];
        fault.mem.fail_at = fail_at;
        enum mly_err rc = mly_engine_model_open(&fault.env, &options, &model, &err);
        if (rc == MLY_OK) rc = mly_engine_embed(model, texts, 3, NULL, out, NULL, &err);
        const bool failed = fault.mem.calls >= fail_at;
        mly_engine_model_close(model);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (!failed) {
            assert_int_equal(rc, MLY_OK);
            assert_true(fail_at > 10);
            return;
        }
        assert_true(rc == MLY_ERR_NOMEM);
        assert_true(err.message[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kind_puts_its_prefix_in_front),
        cmocka_unit_test(what_is_cut_off_is_the_text_and_never_its_prefix),
        cmocka_unit_test(a_chunk_leaves_room_for_the_prefix_and_does_not_hold_it),
        cmocka_unit_test(a_prefix_that_leaves_no_room_is_refused),
        cmocka_unit_test(prompts_that_are_not_pooled_are_refused),
        cmocka_unit_test(watching_changes_no_vector),
        cmocka_unit_test(a_callback_is_told_and_may_stop_it),
        cmocka_unit_test(bad_arguments_are_refused_by_name),
        cmocka_unit_test(every_failing_allocation_is_told_and_leaks_nothing),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
