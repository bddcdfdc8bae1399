/* Converting published models: random weights in folders as others publish them. What the numbers
 * are is compared with numpy in tests/python/test_convert.py.
 */
#include "engine/engine.h"

#include "fault_env.h"
#include "kern/kern.h"
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "tiny_snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of a model of random weights: whoever changes what the quantiser computes changes it. */
#define KNOWN_HASH "d958c429042cef110405a5000601ba1093c2e26544a6a2c752fdcc2aeeb374ff"

static char dir[TEMP_DIR_BYTES];
static char out_path[TEMP_DIR_BYTES + 16], text_path[TEMP_DIR_BYTES + 16];

static int make_dir(void **state)
{
    static const char text[] = "the cat sat on the mat and looked at the sea\n\n"
                               "a long way from here a bell rang twice and was still\n\n"
                               "nothing at all was heard of them again\n";
    (void)state;
    temp_dir_make(dir);
    (void)snprintf(out_path, sizeof(out_path), "%s/model", dir);
    (void)snprintf(text_path, sizeof(text_path), "%s/text", dir);
    temp_dir_write(dir, "text", text, sizeof(text) - 1);
    return 0;
}

static int drop_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

/* Fast: little text, nothing compared. */
static struct memalloy_convert_options brief(const char *folder)
{
    return (struct memalloy_convert_options){
        .struct_bytes = sizeof(struct memalloy_convert_options),
        .source_path = folder,
        .out_path = out_path,
        .calibration_path = text_path,
        .threads = 2,
        .overwrite = 1,
        .no_quality = 1,
    };
}

static enum mly_err run(const struct memalloy_convert_options *options,
                        struct memalloy_convert_report *report, struct mly_error *err)
{
    struct fault_env fault;
    fault_env_init(&fault);
    report->struct_bytes = sizeof(*report);
    const enum mly_err rc = mly_engine_convert(&fault.env, options, report, err);
    if (rc != MLY_OK && getenv("V")) print_message("%s\n", err->message);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    return rc;
}

static void a_model_of_each_precision_is_made_and_compared(void **state)
{
    static const struct {
        const char *name;
        double least;
    } cases[] = {{"f32", 0.999999}, {"bf16", 0.999}, {"int8", 0.97}};
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    for (size_t i = 0; i < 3; i++) {
        struct memalloy_convert_options options = brief(folder);
        struct memalloy_convert_report report;
        struct mly_error err = {0};
        options.quantisation = cases[i].name;
        options.calibration_path = NULL;
        options.no_quality = 0;
        assert_int_equal(run(&options, &report, &err), MLY_OK);
        assert_string_equal(report.id, "tiny-model");
        assert_string_equal(report.architecture, "bert");
        assert_string_equal(report.quantisation, cases[i].name);
        assert_int_equal(strlen(report.hash), 64);
        assert_int_equal(report.dim, 64);
        assert_int_equal(report.pieces_max, 96);
        assert_int_equal(report.vocabulary, SNAPSHOT_PIECES);
        assert_int_equal(report.tensors_ignored, 1);
        assert_true(report.passages >= 100 && report.queries >= 100 && report.file_bytes > 100000);
        assert_true(report.passages_min >= cases[i].least && report.passages_mean <= 1.000001);
        assert_true(report.queries_min >= cases[i].least && report.queries_mean <= 1.000001);
    }
}

static char *read_file(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*bytes + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, *bytes, file), *bytes);
    (void)fclose(file);
    return data;
}

static void the_bytes_do_not_depend_on_threads_or_kernel_sets(void **state)
{
    const struct mly_kern *sets[8];
    const size_t count = mly_kern_list(sets, 8);
    char *first = NULL;
    size_t first_bytes = 0;
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    for (size_t i = 0; i < 2 * count; i++) {
        struct memalloy_convert_options options = brief(folder);
        struct memalloy_convert_report report;
        struct mly_error err = {0};
        options.kernels = sets[i / 2]->name;
        options.threads = i % 2 == 0 ? 1 : 3;
        assert_int_equal(run(&options, &report, &err), MLY_OK);
        size_t bytes;
        char *data = read_file(out_path, &bytes);
        if (first == NULL) {
            first = data;
            first_bytes = bytes;
            continue;
        }
        assert_int_equal(bytes, first_bytes);
        assert_memory_equal(data, first, bytes);
        free(data);
    }
    free(first);
}

static void the_known_model_has_its_known_hash(void **state)
{
    struct snapshot_kind kind = snapshot_plain;
    (void)state;
    kind.list = true; /* the compiled form of a tokenizer is not ours to know */
    const char *folder = snapshot_make(dir, &kind);
    struct memalloy_convert_options options = brief(folder);
    struct memalloy_convert_report report;
    struct mly_error err = {0};
    assert_int_equal(run(&options, &report, &err), MLY_OK);
    assert_string_equal(report.hash, KNOWN_HASH);
}

static void settings_come_from_the_folder_or_the_options(void **state)
{
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    struct memalloy_convert_options options = brief(folder);
    struct memalloy_convert_report report;
    struct mly_error err = {0};
    options.out_path = NULL; /* only looked at */
    assert_int_equal(run(&options, &report, &err), MLY_OK);
    assert_string_equal(report.pooling, "mean");
    assert_string_equal(report.pooling_from, "1_Pooling/config.json");
    assert_string_equal(report.query_prefix, "ask: ");
    assert_string_equal(report.passage_prefix, "say: ");
    assert_string_equal(report.prefix_from, "config_sentence_transformers.json");
    assert_string_equal(report.pieces_from, "sentence_bert_config.json");
    assert_string_equal(report.hash, "");
    options.pooling = "cls";
    options.pieces_max = 40;
    options.query_prefix = "";
    options.passage_prefix = "with \"quotes\"\n";
    options.id = "other";
    options.out_path = out_path;
    assert_int_equal(run(&options, &report, &err), MLY_OK);
    assert_string_equal(report.pooling, "cls");
    assert_string_equal(report.query_prefix, "");
    assert_string_equal(report.prefix_from, "the option");
    assert_int_equal(report.pieces_max, 40);
    memalloy_model *model = NULL;
    const struct memalloy_model_options open = {.struct_bytes = sizeof(open), .path = out_path};
    assert_int_equal(mly_engine_model_open(mly_env_system(), &open, &model, &err), MLY_OK);
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    assert_int_equal(mly_engine_model_info(model, &info, &err), MLY_OK);
    assert_string_equal(info.id.data, "other");
    assert_string_equal(info.pooling.data, "cls");
    assert_string_equal(info.query_prefix.data, "");
    assert_string_equal(info.passage_prefix.data, "with \"quotes\"\n");
    assert_string_equal(info.hash.data, report.hash);
    assert_int_equal(info.pieces_max, 40);
    mly_engine_model_close(model);
}

static void families_have_their_prefixes(void **state)
{
    static const struct {
        const char *id, *query, *passage;
    } cases[] = {
        {"e5-small-v2", "query: ", "passage: "},
        {"multilingual-E5-base", "query: ", "passage: "},
        {"bge-base-en-v1.5", "Represent this sentence for searching relevant passages: ", ""},
        {"gte-small", "", ""},
        {"multilingual-e5-large-instruct", "", ""},
    };
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    snapshot_change(folder, "config_sentence_transformers.json", NULL, "{}");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memalloy_convert_options options = brief(folder);
        struct memalloy_convert_report report;
        struct mly_error err = {0};
        options.out_path = NULL;
        options.id = cases[i].id;
        assert_int_equal(run(&options, &report, &err), MLY_OK);
        assert_string_equal(report.query_prefix, cases[i].query);
        assert_string_equal(report.passage_prefix, cases[i].passage);
    }
}

static void other_forms_of_the_same_are_read(void **state)
{
    static const struct snapshot_kind kinds[] = {
        {.model_type = "bert", .prefix = "bert.", .type = "F32", .old_names = true},
        {.model_type = "bert", .prefix = "", .type = "F16", .list = true},
        {.model_type = "bert", .prefix = "", .type = "BF16"},
        {.model_type = "xlm-roberta", .prefix = "roberta.", .type = "F32", .skipped = 2},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct memalloy_convert_options options = brief(snapshot_make(dir, &kinds[i]));
        struct memalloy_convert_report report;
        struct mly_error err = {0};
        options.no_quality = 0;
        options.quantisation = "f32";
        assert_int_equal(run(&options, &report, &err), MLY_OK);
        assert_string_equal(report.architecture, kinds[i].model_type);
        assert_true(report.passages_min > 0.999999);
    }
}

static void the_last_line_of_a_list_of_pieces_may_have_no_end(void **state)
{
    const struct snapshot_kind kind = {
        .model_type = "bert", .prefix = "", .type = "F32", .list = true};
    struct memalloy_convert_report report;
    struct mly_error err = {0};
    (void)state;
    const char *folder = snapshot_make(dir, &kind);
    snapshot_change(folder, "vocab.txt", "the\n", "the");
    const struct memalloy_convert_options options = brief(folder);
    assert_int_equal(run(&options, &report, &err), MLY_OK);
    assert_int_equal(report.vocabulary, SNAPSHOT_PIECES);
}

struct refusal {
    const char *file, *from, *to;
    enum mly_err code;
    const char *message;
};

static void refuse(const char *folder, enum mly_err code, const char *message)
{
    struct memalloy_convert_options options = brief(folder);
    struct memalloy_convert_report report = {0};
    struct mly_error err = {0};
    assert_int_equal(access(out_path, F_OK), -1);
    assert_int_equal(run(&options, &report, &err), code);
    if (strstr(err.message, message) == NULL) fail_msg("%s: not %s", err.message, message);
    assert_int_equal(access(out_path, F_OK), -1);
}

static void what_is_not_supported_is_named(void **state)
{
    static const struct refusal cases[] = {
        {"config.json", "\"bert\"", "\"mpnet\"", MLY_ERR_UNSUPPORTED, "model_type) is mpnet"},
        {"config.json", "gelu", "gelu_new", MLY_ERR_UNSUPPORTED, "hidden_act is gelu_new"},
        {"config.json", "absolute", "relative_key", MLY_ERR_UNSUPPORTED, "relative_key"},
        {"config.json", "hidden_size\":64", "hidden_size\":72", MLY_ERR_UNSUPPORTED, "72"},
        {"config.json", "\"hidden_size\":64,", "", MLY_ERR_CORRUPT, "hidden_size is missing"},
        {"config.json", "heads\":4", "heads\":8", MLY_ERR_UNSUPPORTED, "8 heads"},
        {"config.json", "hidden_size\":64,\"intermediate_size\":128,\"num_attention_heads\":4",
         "hidden_size\":1088,\"intermediate_size\":128,\"num_attention_heads\":1",
         MLY_ERR_UNSUPPORTED, "at most 1024"},
        {"config.json", "layers\":2", "layers\":3", MLY_ERR_MODEL,
         "encoder.layer.2.attention.self.query.weight is missing"},
        {"config.json", "layers\":2", "layers\":1", MLY_ERR_UNSUPPORTED,
         "encoder.layer.1.attention.self.query.weight has no place"},
        {"config.json", "vocab_size\":58", "vocab_size\":59", MLY_ERR_CORRUPT, "58 and 64"},
        {"config.json", "1e-12", "1", MLY_ERR_UNSUPPORTED, "layer_norm_eps is 1"},
        {"config.json", NULL, "{", MLY_ERR_CORRUPT, "cannot be read as JSON"},
        {"modules.json", ".Pooling\"", ".Dense\"", MLY_ERR_UNSUPPORTED, "Dense"},
        {"modules.json", "1_Pooling", "2_Pooling", MLY_ERR_UNSUPPORTED, "2_Pooling"},
        {"1_Pooling/config.json", "mean_tokens\":true", "max_tokens\":true", MLY_ERR_UNSUPPORTED,
         "pooling is max_tokens"},
        {"1_Pooling/config.json", "token\":false", "token\":true", MLY_ERR_UNSUPPORTED,
         "one pooling at a time"},
        {"1_Pooling/config.json", ":64", ":65", MLY_ERR_CORRUPT, "word_embedding_dimension is 65"},
        {"sentence_bert_config.json", "96", "101", MLY_ERR_UNSUPPORTED, "101 word pieces"},
        {"tokenizer.json", "WordPiece", "WordLevel", MLY_ERR_UNSUPPORTED, "WordLevel"},
        {"tokenizer.json",
         "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],\"cls\":[\"[CLS]\",2]}", "null",
         MLY_ERR_UNSUPPORTED, "post_processor puts 0 word pieces"},
    };
    (void)state;
    (void)unlink(out_path);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *folder = snapshot_make(dir, &snapshot_plain);
        snapshot_change(folder, cases[i].file, cases[i].from, cases[i].to);
        refuse(folder, cases[i].code, cases[i].message);
    }
}

static void tensors_are_checked_one_by_one(void **state)
{
    static const char query[] = "encoder.layer.1.attention.self.query.bias";
    struct snapshot_kind kind = snapshot_plain;
    (void)state;
    (void)unlink(out_path);
    kind.missing = query;
    refuse(snapshot_make(dir, &kind), MLY_ERR_MODEL, query);
    kind = snapshot_plain;
    kind.extra = "encoder.layer.0.attention.relative.weight";
    refuse(snapshot_make(dir, &kind), MLY_ERR_UNSUPPORTED, kind.extra);
    kind = snapshot_plain;
    kind.infinite = "encoder.layer.1.output.dense.weight";
    refuse(snapshot_make(dir, &kind), MLY_ERR_CORRUPT, kind.infinite);
    kind = snapshot_plain;
    kind.infinite = "embeddings.word_embeddings.weight";
    refuse(snapshot_make(dir, &kind), MLY_ERR_CORRUPT, "number 0 of tensor");
}

static void other_files_of_weights_are_refused_by_name(void **state)
{
    char path[TEMP_DIR_BYTES + 64];
    (void)state;
    (void)unlink(out_path);
    const char *folder = snapshot_make(dir, &snapshot_plain);
    (void)snprintf(path, sizeof(path), "%s/model.safetensors", folder);
    assert_int_equal(unlink(path), 0);
    refuse(folder, MLY_ERR_MODEL, "has no model.safetensors");
    temp_dir_write(folder, "pytorch_model.bin", "x", 1);
    refuse(folder, MLY_ERR_UNSUPPORTED, "pytorch_model.bin (a pickle");
    refuse(path, MLY_ERR_NOTFOUND, "model.safetensors");
    refuse(text_path, MLY_ERR_INVAL, "is no folder");
}

static int stop_at_a_half(void *context, const char *step, double share)
{
    (void)context;
    assert_non_null(step);
    return share >= 0.5;
}

static size_t count_entries(void)
{
    char command[TEMP_DIR_BYTES + 64];
    size_t count = 0;
    (void)snprintf(command, sizeof(command), "ls -A '%s' | wc -l", dir);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fscanf(pipe, "%zu", &count), 1);
    (void)pclose(pipe);
    return count;
}

static void nothing_is_left_of_what_was_cancelled_or_in_the_way(void **state)
{
    (void)state;
    (void)unlink(out_path);
    const char *folder = snapshot_make(dir, &snapshot_plain);
    struct memalloy_convert_options options = brief(folder);
    struct memalloy_convert_report report;
    struct mly_error err = {0};
    const size_t before = count_entries();
    options.progress = stop_at_a_half;
    assert_int_equal(run(&options, &report, &err), MLY_ERR_CANCELLED);
    assert_int_equal(count_entries(), before);
    options.progress = NULL;
    options.overwrite = 0;
    assert_int_equal(run(&options, &report, &err), MLY_OK);
    assert_int_equal(count_entries(), before + 1);
    assert_int_equal(run(&options, &report, &err), MLY_ERR_CONFLICT);
    options.quantisation = "int4";
    assert_int_equal(run(&options, &report, &err), MLY_ERR_INVAL);
    assert_int_equal(count_entries(), before + 1);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    struct memalloy_convert_options options = brief(folder);
    for (uint64_t fail_at = 1;; fail_at++) {
        assert_true(fail_at < 3000);
        struct fault_env fault;
        struct mly_error err = {0};
        fault_env_init(&fault);
        fault.mem.fail_at = fail_at;
        (void)unlink(out_path);
        const enum mly_err rc = mly_engine_convert(&fault.env, &options, NULL, &err);
        /* The name comes last, after the file was opened and measured. */
        assert_int_equal(access(out_path, F_OK), rc == MLY_OK ? 0 : -1);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        /* A pool that gets no memory for its threads works with one. */
        if (rc == MLY_OK && fault.mem.calls < fail_at) break;
        if (rc != MLY_OK) assert_int_equal(rc, MLY_ERR_NOMEM);
        if (rc != MLY_OK) assert_true(err.message[0] != '\0');
    }
}

static void every_call_to_the_system_may_fail(void **state)
{
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    struct memalloy_convert_options options = brief(folder);
    const size_t before = count_entries();
    for (uint64_t fail_at = 1;; fail_at++) {
        assert_true(fail_at < 3000);
        struct fault_env fault;
        struct mly_error err = {0};
        fault_env_init(&fault);
        fault.fail_at = fail_at;
        fault.fail_errno = fail_at % 2 == 0 ? EIO : ENOSPC;
        const enum mly_err rc = mly_engine_convert(&fault.env, &options, NULL, &err);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (rc == MLY_OK && fault.calls < fail_at) break;
        if (rc != MLY_OK) assert_true(err.message[0] != '\0');
    }
    /* A file that could not be removed may be left, once. */
    assert_true(count_entries() <= before + 1);
}

static void damaged_files_are_refused_or_read_but_never_beyond_their_end(void **state)
{
    static const char *const names[] = {"config.json", "modules.json", "1_Pooling/config.json",
                                        "config_sentence_transformers.json"};
    uint64_t random = 99;
    (void)state;
    const char *folder = snapshot_make(dir, &snapshot_plain);
    struct memalloy_convert_options options = brief(folder);
    struct memalloy_convert_report report;
    char path[TEMP_DIR_BYTES + 96];
    options.out_path = NULL;
    for (size_t i = 0; i < 5; i++) {
        const char *name = i < 4 ? names[i] : "model.safetensors";
        size_t bytes;
        (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
        char *whole = read_file(path, &bytes);
        char *part = malloc(bytes);
        assert_non_null(part);
        for (size_t round = 0; round < 150; round++) {
            struct mly_error err = {0};
            random = random * 6364136223846793005ull + 1442695040888963407ull;
            const size_t head = bytes < 9000 ? bytes : 9000; /* the header of the weights */
            const size_t at = (size_t)(random >> 33) % head;
            memcpy(part, whole, bytes);
            part[at] = (char)(random >> 20);
            temp_dir_write(folder, name, part, round % 3 == 0 ? at : bytes);
            const enum mly_err rc = run(&options, &report, &err);
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
        }
        temp_dir_write(folder, name, whole, bytes);
        free(part);
        free(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_of_each_precision_is_made_and_compared),
        cmocka_unit_test(the_bytes_do_not_depend_on_threads_or_kernel_sets),
        cmocka_unit_test(the_known_model_has_its_known_hash),
        cmocka_unit_test(settings_come_from_the_folder_or_the_options),
        cmocka_unit_test(families_have_their_prefixes),
        cmocka_unit_test(other_forms_of_the_same_are_read),
        cmocka_unit_test(the_last_line_of_a_list_of_pieces_may_have_no_end),
        cmocka_unit_test(what_is_not_supported_is_named),
        cmocka_unit_test(tensors_are_checked_one_by_one),
        cmocka_unit_test(other_files_of_weights_are_refused_by_name),
        cmocka_unit_test(nothing_is_left_of_what_was_cancelled_or_in_the_way),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_call_to_the_system_may_fail),
        cmocka_unit_test(damaged_files_are_refused_or_read_but_never_beyond_their_end),
    };
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}
