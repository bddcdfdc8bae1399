/* The engine for model.onnx over a stand-in for ONNX Runtime: what it asks of the library, what it
 * makes of the answers, and that every failing call leaves nothing behind.
 */
#define _POSIX_C_SOURCE 200809L /* setenv, mkdir */
#include "onnx_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[TEMP_DIR_BYTES];

enum { TEXTS = 60 };

/* Sequences of all lengths, mixed. */
struct texts {
    int32_t ids[TEXTS * ONNX_PIECES_MAX];
    size_t starts[TEXTS + 1];
    float wanted[TEXTS][FAKE_DIM];
};

/* wanted: the mean of all rows, or the first. */
static struct texts *make_texts(bool mean)
{
    struct texts *texts = calloc(1, sizeof(*texts));
    assert_non_null(texts);
    uint32_t seed = 7;
    for (size_t s = 0; s < TEXTS; s++) {
        size_t pieces = 2 + s * s * 11 % (ONNX_PIECES_MAX - 1);
        if (s == 5) pieces = ONNX_PIECES_MAX;
        const size_t start = texts->starts[s];
        double sums[FAKE_DIM] = {0}, square = 0;
        for (size_t i = start; i < start + pieces; i++) {
            seed = seed * 1664525u + 1013904223u;
            texts->ids[i] = (int32_t)((seed >> 8) % ONNX_VOCABULARY);
            for (size_t d = 0; (mean || i == start) && d < FAKE_DIM; d++) {
                sums[d] += (double)fake_number(texts->ids[i], d);
            }
        }
        for (size_t d = 0; d < FAKE_DIM; d++) {
            square += sums[d] * sums[d];
        }
        for (size_t d = 0; d < FAKE_DIM; d++) {
            texts->wanted[s][d] = (float)(sums[d] / sqrt(square));
        }
        texts->starts[s + 1] = start + pieces;
    }
    return texts;
}

static void check_near(const float *got, const float *wanted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(got[i] - wanted[i]) < 1e-6f)) {
            fail_msg("number %zu is %g, not %g", i, (double)got[i], (double)wanted[i]);
        }
    }
}

/* Opens the folder, encodes all texts and compares. */
static void check_vectors(const char *folder, bool mean)
{
    struct onnx_engine engine;
    struct mly_error err = {0};
    struct texts *texts = make_texts(mean);
    float out[TEXTS][FAKE_DIM];
    if (onnx_open(&engine, folder, NULL, &err) != MLY_OK) fail_msg("%s", err.message);
    assert_int_equal(
        mly_embedder_encode(engine.embedder, texts->ids, texts->starts, TEXTS, out[0], &err),
        MLY_OK);
    check_near(out[0], texts->wanted[0], TEXTS * FAKE_DIM);
    for (size_t s = 0; s < TEXTS; s++) {
        float alone[FAKE_DIM];
        assert_int_equal(
            mly_embedder_encode(engine.embedder, texts->ids, texts->starts + s, 1, alone, &err),
            MLY_OK);
        assert_memory_equal(alone, out[s], sizeof(alone));
    }
    onnx_close(&engine);
    free(texts);
}

static void pieces_are_averaged_without_padding(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    check_vectors(onnx_folder(dir), true);
    assert_int_equal(fake->live, 0);
    assert_true(fake->texts_most > 10 && fake->cells_most <= 1024);
}

static void the_first_piece_is_taken_where_the_folder_says_cls(void **state)
{
    (void)state;
    onnx_fake();
    const char *folder = onnx_folder(dir);
    onnx_write(folder, "1_Pooling/config.json",
               "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}", NULL, NULL);
    check_vectors(folder, false);
    onnx_write(folder, "1_Pooling/config.json", "{\"pooling_mode\":\"cls\"}", NULL, NULL);
    check_vectors(folder, false);
}

static void a_sentence_embedding_is_taken_as_it_is(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    fake->outputs[0].name = "token_embeddings";
    fake->outputs[0].rank = 3;
    fake->outputs[2] = (struct fake_port){"sentence_embedding", 1, 2};
    check_vectors(onnx_folder(dir), true);
    assert_int_equal(fake->live, 0);
}

static void a_model_without_types_gets_none(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    fake->inputs[0] = (struct fake_port){"attention_mask", 7, 2};
    fake->inputs[1] = (struct fake_port){"input_ids", 7, 2};
    fake->inputs[2].name = NULL;
    check_vectors(onnx_folder(dir), true);
}

static void ranges_that_a_batch_would_share_mean_one_text_at_a_time(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    const char *folder = onnx_folder(dir);
    const struct onnx_bytes model = onnx_model("DynamicQuantizeLinear", "", 0);
    temp_dir_write(folder, "model.onnx", model.data, model.bytes);
    check_vectors(folder, true);
    assert_int_equal(fake->texts_most, 1);
}

static void the_library_is_told_to_keep_small(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_OK);
    assert_true(fake->arena_off && fake->pattern_off && fake->spinning_off);
    assert_int_equal(fake->intra_threads, 2);
    assert_int_equal(fake->inter_threads, 1);
    assert_int_equal(fake->log_level, 4);
    onnx_close(&engine);
}

static void the_card_says_what_the_folder_says(void **state)
{
    (void)state;
    onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    const char *folder = onnx_folder(dir);
    char hash[2][65];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(onnx_open(&engine, folder, NULL, &err), MLY_OK);
        const struct mly_model_card *card = mly_embedder_card(engine.embedder);
        assert_int_equal(card->dim, FAKE_DIM);
        assert_int_equal(card->pieces_max, i == 0 ? 300 : 128);
        assert_string_equal(card->id.data, i == 0 ? "them/small" : "small-model");
        assert_string_equal(card->quantisation.data, "onnx");
        assert_string_equal(card->kernels.data, "onnxruntime 1.2.3");
        assert_int_equal(card->tokenizer_form, MLY_TOKENIZER_JSON);
        assert_true(mly_str_starts_with(card->tokenizer, MLY_STR("{\"version\":")));
        assert_int_equal(card->vocabulary, 31);
        memcpy(hash[i], card->hash.data, 65);
        assert_int_equal(strlen(hash[i]), 64);
        assert_int_equal(mly_embedder_verify(engine.embedder, &err), MLY_OK);
        onnx_write(folder, "tokenizer.json", onnx_tokenizer, "\"1.0\"", "\"1.1\"");
        assert_int_equal(mly_embedder_verify(engine.embedder, &err), MLY_ERR_CORRUPT);
        onnx_write(folder, "tokenizer.json", onnx_tokenizer, NULL, NULL);
        onnx_close(&engine);
        onnx_write(folder, "config.json", "{}", NULL, NULL);
        onnx_write(folder, "sentence_bert_config.json", "{\"max_seq_length\":null}", NULL, NULL);
    }
    assert_string_not_equal(hash[0], hash[1]); /* Texts are cut elsewhere: other vectors. */
}

static void sequences_that_cannot_be_are_refused(void **state)
{
    (void)state;
    onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    float out[FAKE_DIM];
    int32_t ids[ONNX_PIECES_MAX + 1] = {0};
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_OK);
    struct mly_embedder *e = engine.embedder;
    assert_int_equal(mly_embedder_encode(e, ids, (size_t[]){0, 1}, 1, out, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_embedder_encode(e, ids, (size_t[]){3, 1}, 1, out, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_embedder_encode(e, ids, (size_t[]){0, 301}, 1, out, &err), MLY_ERR_LIMIT);
    assert_non_null(strstr(err.message, "limit is 300"));
    ids[1] = ONNX_VOCABULARY;
    assert_int_equal(mly_embedder_encode(e, ids, (size_t[]){0, 2}, 1, out, &err), MLY_ERR_INVAL);
    ids[1] = -1;
    assert_int_equal(mly_embedder_encode(e, ids, (size_t[]){0, 2}, 1, out, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_embedder_encode(e, ids, (size_t[]){0}, 0, out, &err), MLY_OK);
    onnx_close(&engine);
}

static void outputs_that_are_not_as_told_are_errors(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    struct texts *texts = make_texts(true);
    float out[TEXTS * FAKE_DIM];
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_OK);
    fake->extra_rows = 1;
    assert_int_equal(
        mly_embedder_encode(engine.embedder, texts->ids, texts->starts, TEXTS, out, &err),
        MLY_ERR_MODEL);
    assert_non_null(strstr(err.message, "shape"));
    fake->extra_rows = 0;
    fake->not_a_number = true;
    assert_int_equal(
        mly_embedder_encode(engine.embedder, texts->ids, texts->starts, TEXTS, out, &err),
        MLY_ERR_CORRUPT);
    fake->not_a_number = false;
    assert_int_equal(
        mly_embedder_encode(engine.embedder, texts->ids, texts->starts, TEXTS, out, &err), MLY_OK);
    onnx_close(&engine);
    assert_int_equal(fake->live, 0);
    free(texts);
}

static void every_failing_call_of_the_library_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    struct texts *texts = make_texts(true);
    float out[TEXTS * FAKE_DIM];
    const char *folder = onnx_folder(dir);
    size_t told = 0;
    bool reached = true;
    for (uint64_t fail_at = 1; reached; fail_at++) {
        struct fake_ort *fake = onnx_fake();
        struct onnx_engine engine;
        struct mly_error err = {0};
        fake->fail_at = fail_at;
        enum mly_err rc = onnx_open(&engine, folder, NULL, &err);
        const bool opened = rc == MLY_OK;
        if (opened) {
            rc = mly_embedder_encode(engine.embedder, texts->ids, texts->starts, TEXTS, out, &err);
        }
        reached = fake->calls >= fail_at;
        fake->fail_at = 0;
        if (rc != MLY_OK) {
            told++;
            assert_int_equal(rc, MLY_ERR_MODEL);
            assert_non_null(strstr(err.message, "ONNX Runtime cannot "));
            assert_non_null(strstr(err.message, "the test says no"));
        }
        if (opened) { /* The handle is still good. */
            assert_int_equal(
                mly_embedder_encode(engine.embedder, texts->ids, texts->starts, TEXTS, out, NULL),
                MLY_OK);
            check_near(out, texts->wanted[0], TEXTS * FAKE_DIM);
        }
        onnx_close(&engine);
        assert_int_equal(fake->live, 0);
    }
    assert_true(told > 60);
    free(texts);
}

static void memory_that_the_library_lacks_is_said_so(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    fake->fail_at = 1;
    fake->fail_text = "Exception: std::bad_alloc";
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_ERR_NOMEM);
    onnx_close(&engine);
}

static void check_failures(bool memory)
{
    struct texts *texts = make_texts(true);
    float out[TEXTS * FAKE_DIM];
    const char *folder = onnx_folder(dir);
    uint64_t fail_at = 1;
    for (bool all_done = false; !all_done; fail_at++) {
        struct fake_ort *fake = onnx_fake();
        struct fault_env fault;
        struct mly_pool *pool = NULL;
        struct mly_embedder *embedder = NULL;
        struct mly_error err = {0};
        fault_env_init(&fault);
        assert_int_equal(mly_pool_create(&fault.env, 1, &pool, &err), MLY_OK);
        if (memory) {
            fault.mem.fail_at = fault.mem.calls + fail_at;
        } else {
            fault.fail_at = fail_at;
        }
        enum mly_err rc =
            mly_embedder_open_folder(&fault.env, pool, folder, MLY_TEST_FAKE_ORT, &embedder, &err);
        if (rc == MLY_OK) {
            rc = mly_embedder_encode(embedder, texts->ids, texts->starts, TEXTS, out, &err);
        } else {
            assert_null(embedder);
        }
        if (memory) {
            all_done = fault.mem.calls < fault.mem.fail_at;
            assert_int_equal(rc, all_done ? MLY_OK : MLY_ERR_NOMEM);
        } else {
            all_done = fault.failed_call == NULL;
        }
        if (rc != MLY_OK) assert_true(err.message[0] != '\0');
        mly_embedder_close(embedder);
        mly_pool_destroy(pool);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        assert_int_equal(fake->live, 0);
    }
    assert_true(fail_at > (memory ? 10 : 20));
    free(texts);
}

static void every_failing_allocation_leaves_nothing(void **state)
{
    (void)state;
    check_failures(true);
}

static void every_failing_file_call_leaves_nothing(void **state)
{
    (void)state;
    check_failures(false);
}

static void a_forked_child_frees_and_calls_nothing(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_OK);
    const int64_t live = fake->live;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        mly_embedder_close(engine.embedder);
        mly_pool_destroy(engine.pool);
        /* The library's threads are the parent's, so that nothing of it may be closed here. */
        const bool untouched = fake->live == live && engine.fault.open_count == 1;
        _exit(untouched && engine.fault.mem.live == 0 ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    onnx_close(&engine);
    assert_int_equal(fake->live, 0);
}

static void library_is_looked_for_where_it_was_said(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    const char *folder = onnx_folder(dir);
    assert_int_equal(onnx_open(&engine, folder, "/nowhere/libonnxruntime.so", &err), MLY_ERR_MODEL);
    assert_non_null(strstr(err.message, "/nowhere/libonnxruntime.so"));
    onnx_close(&engine);
    assert_int_equal(onnx_open(&engine, folder, "libm.so.6", &err), MLY_ERR_MODEL);
    assert_non_null(strstr(err.message, "libm.so.6 is not ONNX Runtime"));
    onnx_close(&engine);
    fake->no_api = true;
    assert_int_equal(onnx_open(&engine, folder, NULL, &err), MLY_ERR_MODEL);
    assert_non_null(strstr(err.message, "is ONNX Runtime 1.2.3, 1.5 or newer"));
    onnx_close(&engine);
    fake->no_api = false;
    assert_int_equal(setenv("MEMALLOY_ONNXRUNTIME", MLY_TEST_FAKE_ORT, 1), 0);
    assert_int_equal(onnx_open(&engine, folder, "/nowhere/libonnxruntime.so", &err), MLY_OK);
    onnx_close(&engine);
    assert_int_equal(unsetenv("MEMALLOY_ONNXRUNTIME"), 0);
}

static void *encode_often(void *argument)
{
    struct mly_embedder *embedder = argument;
    struct texts *texts = make_texts(true);
    float out[TEXTS * FAKE_DIM];
    for (size_t i = 0; i < 20; i++) {
        if (mly_embedder_encode(embedder, texts->ids, texts->starts, TEXTS, out, NULL) != MLY_OK) {
            abort();
        }
        check_near(out, texts->wanted[0], TEXTS * FAKE_DIM);
    }
    free(texts);
    return NULL;
}

static void many_threads_may_encode(void **state)
{
    (void)state;
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    pthread_t threads[3];
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, engine.embedder), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    onnx_close(&engine);
    assert_int_equal(fake->live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_averaged_without_padding),
        cmocka_unit_test(the_first_piece_is_taken_where_the_folder_says_cls),
        cmocka_unit_test(a_sentence_embedding_is_taken_as_it_is),
        cmocka_unit_test(a_model_without_types_gets_none),
        cmocka_unit_test(ranges_that_a_batch_would_share_mean_one_text_at_a_time),
        cmocka_unit_test(the_library_is_told_to_keep_small),
        cmocka_unit_test(the_card_says_what_the_folder_says),
        cmocka_unit_test(sequences_that_cannot_be_are_refused),
        cmocka_unit_test(outputs_that_are_not_as_told_are_errors),
        cmocka_unit_test(every_failing_call_of_the_library_is_told_and_leaves_nothing),
        cmocka_unit_test(memory_that_the_library_lacks_is_said_so),
        cmocka_unit_test(every_failing_allocation_leaves_nothing),
        cmocka_unit_test(every_failing_file_call_leaves_nothing),
        cmocka_unit_test(a_forked_child_frees_and_calls_nothing),
        cmocka_unit_test(library_is_looked_for_where_it_was_said),
        cmocka_unit_test(many_threads_may_encode),
    };
    temp_dir_make(dir);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_dir_remove(dir);
    return failed;
}
