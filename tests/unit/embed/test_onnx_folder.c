/* What a folder says of its model: every pooling and step that we do not follow is refused by name,
 * and a model file is not given to ONNX Runtime before it was looked through.
 */
#include "onnx_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[TEMP_DIR_BYTES];

/* Opens a folder that must not open; words must stand in the message. */
static void check_refused(const char *folder, enum mly_err wanted, const char *word)
{
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    const enum mly_err rc = onnx_open(&engine, folder, NULL, &err);
    if (rc != wanted || strstr(err.message, word) == NULL) {
        fail_msg("\"%s\" was expected, it is %d: %s", word, (int)rc, err.message);
    }
    onnx_close(&engine);
    assert_int_equal(fake->live, 0);
}

static void check_opens(const char *folder, uint32_t pieces_max)
{
    struct onnx_engine engine;
    struct mly_error err = {0};
    onnx_fake();
    if (onnx_open(&engine, folder, NULL, &err) != MLY_OK) fail_msg("%s", err.message);
    assert_int_equal(mly_embedder_card(engine.embedder)->pieces_max, pieces_max);
    onnx_close(&engine);
}

static void check_tokenizer(const char *from, const char *to, enum mly_err wanted, const char *word)
{
    const char *folder = onnx_folder(dir);
    onnx_write(folder, "tokenizer.json", onnx_tokenizer, from, to);
    if (wanted == MLY_OK) {
        check_opens(folder, 300);
    } else {
        check_refused(folder, wanted, word);
    }
}

static void damaged_tokenizers_are_refused(void **state)
{
    (void)state;
    const enum mly_err no = MLY_ERR_CORRUPT;
    check_tokenizer("}}}", "}}", no, "cannot be read as JSON");
    check_tokenizer("\"b\":6", "\"a\":6", no, "duplicate");
    const char *folder = onnx_folder(dir);
    onnx_write(folder, "tokenizer.json", "[]", NULL, NULL);
    check_refused(folder, no, "at least 1 is needed");
    onnx_write(folder, "tokenizer.json", "", NULL, NULL);
    check_refused(folder, no, "tokenizer.json");
}

static void poolings_and_steps_that_we_do_not_do_are_refused(void **state)
{
    (void)state;
    const char *folder = onnx_folder(dir);
    onnx_write(folder, "1_Pooling/config.json", onnx_pooling, "max_tokens\":false",
               "max_tokens\":true");
    check_refused(folder, MLY_ERR_UNSUPPORTED, "only one pooling");
    onnx_write(folder, "1_Pooling/config.json", "{\"pooling_mode_lasttoken\":true}", NULL, NULL);
    check_refused(folder, MLY_ERR_UNSUPPORTED, "pooling lasttoken");
    onnx_write(folder, "1_Pooling/config.json", "{", NULL, NULL);
    check_refused(folder, MLY_ERR_CORRUPT, "1_Pooling/config.json");
    folder = onnx_folder(dir);
    onnx_write(folder, "modules.json", onnx_modules, "models.Normalize", "models.Dense");
    check_refused(folder, MLY_ERR_UNSUPPORTED, "models.Dense");
    onnx_write(folder, "modules.json", onnx_modules, "1_Pooling", "../../etc");
    check_refused(folder, MLY_ERR_UNSUPPORTED, "\"../../etc\"");
}

static void the_number_of_pieces_has_three_places(void **state)
{
    (void)state;
    const char *folder = onnx_folder(dir);
    onnx_write(folder, "sentence_bert_config.json", "{}", NULL, NULL);
    check_opens(folder, 128);
    onnx_write(folder, "tokenizer.json", onnx_tokenizer, "{\"max_length\":128}", "null");
    check_opens(folder, 512);
    onnx_write(folder, "config.json", "{\"max_position_embeddings\":100}", NULL, NULL);
    check_opens(folder, 100);
    onnx_write(folder, "config.json", "{\"max_position_embeddings\":8192}", NULL, NULL);
    check_opens(folder, 512);
    onnx_write(folder, "config.json", "{\"max_position_embeddings\":2}", NULL, NULL);
    check_refused(folder, MLY_ERR_UNSUPPORTED, "at least 3");
}

static void what_is_missing_is_said(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES + 64], moved[TEMP_DIR_BYTES + 64];
    const char *folder = onnx_folder(dir);
    snprintf(path, sizeof(path), "%s/tokenizer.json", folder);
    assert_int_equal(remove(path), 0);
    check_refused(folder, MLY_ERR_MODEL, "has no tokenizer.json");
    folder = onnx_folder(dir);
    snprintf(path, sizeof(path), "%s/model.onnx", folder);
    snprintf(moved, sizeof(moved), "%s/moved", folder);
    assert_int_equal(rename(path, moved), 0);
    check_refused(folder, MLY_ERR_MODEL, "neither model.onnx nor onnx/model.onnx");
}

static void check_port(bool is_input, struct fake_port port, const char *word)
{
    struct fake_ort *fake = onnx_fake();
    struct onnx_engine engine;
    struct mly_error err = {0};
    struct fake_port *ports = is_input ? fake->inputs : fake->outputs;
    ports[0] = ports[1] = ports[2] = port;
    assert_int_equal(onnx_open(&engine, onnx_folder(dir), NULL, &err), MLY_ERR_UNSUPPORTED);
    if (strstr(err.message, word) == NULL) fail_msg("%s", err.message);
    onnx_close(&engine);
    assert_int_equal(fake->live, 0);
}

static void models_with_other_inputs_and_outputs_are_refused(void **state)
{
    (void)state;
    check_port(true, (struct fake_port){"pixels", 1, 4}, "an input pixels");
    check_port(true, (struct fake_port){"input_ids", 6, 2}, "element type 6");
    check_port(true, (struct fake_port){"input_ids", 7, 3}, "rank 3");
    check_port(true, (struct fake_port){"input_ids", 7, 0}, "input_ids");
    check_port(true, (struct fake_port){NULL, 0, 0}, "takes no input");
    check_port(false, (struct fake_port){"last_hidden_state", 10, 3}, "none of the model's 3");
    check_port(false, (struct fake_port){"pooler_output", 1, 2}, "none of the model's 3");
}

static void check_model(const struct onnx_bytes *model, size_t bytes, enum mly_err wanted,
                        const char *word)
{
    const char *folder = onnx_folder(dir);
    temp_dir_write(folder, "model.onnx", model->data, bytes);
    check_refused(folder, wanted, word);
}

static void tensors_in_other_files_are_refused(void **state)
{
    (void)state;
    static const char entry[] = "\x6a\x12\x0a\x08location\x12\x06/etc/x"; /* external_data */
    struct onnx_bytes model = onnx_model("Constant", entry, sizeof(entry) - 1);
    check_model(&model, model.bytes, MLY_ERR_UNSUPPORTED, "external data");
    model = onnx_model("Constant", "\x70\x01", 2); /* data_location: EXTERNAL */
    check_model(&model, model.bytes, MLY_ERR_UNSUPPORTED, "external data");
    model = onnx_model("Constant", "\x70\x81\x80\x80\x80\x10", 6); /* the same, spelled longer */
    check_model(&model, model.bytes, MLY_ERR_UNSUPPORTED, "external data");
    model = onnx_model("Constant", "\xf2\x80\x00\x01x", 5); /* so is the field's number */
    check_model(&model, model.bytes, MLY_ERR_UNSUPPORTED, "external data");
}

static void files_that_are_no_models_are_refused(void **state)
{
    (void)state;
    const struct onnx_bytes model = onnx_model("Add", "", 0);
    struct onnx_bytes bad = {.data = {0x0b}, .bytes = 1}; /* a group */
    check_model(&bad, 0, MLY_ERR_CORRUPT, "no graph");
    check_model(&bad, 1, MLY_ERR_CORRUPT, "not an ONNX model");
    for (size_t bytes = 1; bytes < model.bytes; bytes++) {
        check_model(&model, bytes, MLY_ERR_CORRUPT, "not an ONNX model");
    }
}

static void graphs_without_end_are_refused(void **state)
{
    (void)state;
    /* graph -> node -> attribute -> graph ... each a length that goes on to the end. */
    static const unsigned char step[] = {0x0a, 0x2a, 0x32};
    unsigned char data[500];
    const size_t bytes = sizeof(data);
    size_t at = 0;
    data[at++] = 0x3a;
    for (size_t i = 0; at + 3 <= bytes; i++) {
        const size_t left = bytes - at - 2;
        data[at++] = (unsigned char)(left & 0x7f) | 0x80;
        data[at++] = (unsigned char)(left >> 7);
        if (at < bytes) data[at++] = step[i % 3];
    }
    while (at < bytes) {
        data[at++] = 0;
    }
    const char *folder = onnx_folder(dir);
    temp_dir_write(folder, "model.onnx", data, bytes);
    check_refused(folder, MLY_ERR_LIMIT, "nested");
}

/* Sanitizers see what reads beyond; here it must only end. */
static void random_damage_ends_in_an_error_or_a_model(void **state)
{
    (void)state;
    const char *folder = onnx_folder(dir);
    uint32_t seed = 5;
    for (size_t round = 0; round < 2000; round++) {
        struct onnx_bytes model = onnx_model("DynamicQuantizeLinear", "\x08\x01\x4a\x02xy", 6);
        struct onnx_engine engine;
        struct mly_error err = {0};
        onnx_fake();
        for (size_t i = 0; i <= round % 3; i++) {
            seed = seed * 1664525u + 1013904223u;
            model.data[(seed >> 8) % model.bytes] = (unsigned char)(seed >> 24);
        }
        temp_dir_write(folder, "model.onnx", model.data, model.bytes);
        const enum mly_err rc = onnx_open(&engine, folder, NULL, &err);
        assert_true(rc == MLY_OK || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_UNSUPPORTED);
        onnx_close(&engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_tokenizers_are_refused),
        cmocka_unit_test(poolings_and_steps_that_we_do_not_do_are_refused),
        cmocka_unit_test(the_number_of_pieces_has_three_places),
        cmocka_unit_test(what_is_missing_is_said),
        cmocka_unit_test(models_with_other_inputs_and_outputs_are_refused),
        cmocka_unit_test(tensors_in_other_files_are_refused),
        cmocka_unit_test(files_that_are_no_models_are_refused),
        cmocka_unit_test(graphs_without_end_are_refused),
        cmocka_unit_test(random_damage_ends_in_an_error_or_a_model),
    };
    temp_dir_make(dir);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_dir_remove(dir);
    return failed;
}
