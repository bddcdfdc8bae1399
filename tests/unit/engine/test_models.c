/* The models' folder: names, what is listed and why some of it cannot be used, removal, the remedy
 * that a mismatch names, and every allocation and file call failing once. */
#define _GNU_SOURCE
#include "engine/engine.h"

#include "onnx_cases.h"
#include "tiny_model.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[TEMP_DIR_BYTES];
static const char *models_variable, *model_variable, *data_variable, *home_variable;

static const char *variable(void *context, const char *name)
{
    (void)context;
    if (strcmp(name, "MEMALLOY_MODELS") == 0) return models_variable;
    if (strcmp(name, "MEMALLOY_MODEL") == 0) return model_variable;
    if (strcmp(name, "XDG_DATA_HOME") == 0) return data_variable;
    if (strcmp(name, "HOME") == 0) return home_variable;
    return NULL;
}

static void init_env(struct fault_env *fault)
{
    fault_env_init(fault);
    fault->env.variable = variable;
}

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir);
    models_variable = dir;
    model_variable = data_variable = home_variable = NULL;
    onnx_fake();
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static void put_model(const char *name, uint64_t seed)
{
    struct tiny_file file = tiny_make(&tiny_small, seed);
    (void)tiny_write(&file, dir, name);
    free(file.bytes);
}

/* One that works, one that is cut off, a folder, a link to nothing, and what is no model. */
static void fill_folder(void)
{
    char gone[TEMP_DIR_BYTES + 32];
    struct tiny_file file = tiny_make(&tiny_small, 5);
    put_model("works.safetensors", 5);
    file.count /= 2;
    (void)tiny_write(&file, dir, "half.safetensors");
    free(file.bytes);
    temp_dir_write(dir, "README", "hello", 5);
    temp_dir_write(dir, ".hidden.safetensors", "hello", 5);
    (void)onnx_folder(dir); /* small-model */
    snprintf(gone, sizeof(gone), "%s/gone", dir);
    assert_int_equal(symlink("/nowhere/at/all", gone), 0);
}

static memalloy_models *list(const struct mly_env *env)
{
    const struct memalloy_model_options options = {.struct_bytes = sizeof(options),
                                                   .onnxruntime_path = MLY_TEST_FAKE_ORT};
    memalloy_models *models = NULL;
    struct mly_error err = {0};
    if (mly_engine_models_list(env, &options, &models, &err) != MLY_OK) fail_msg("%s", err.message);
    return models;
}

static struct memalloy_model_entry entry_of(const memalloy_models *models, size_t i)
{
    struct memalloy_model_entry entry = {.struct_bytes = sizeof(entry)};
    memalloy_models_get(models, i, &entry);
    return entry;
}

/* Without the default model of this build, which comes last where it is there. */
static size_t own_count(const memalloy_models *models)
{
    const size_t count = memalloy_models_count(models);
    if (count == 0) return 0;
    const struct memalloy_model_entry last = entry_of(models, count - 1);
    const bool elsewhere = strncmp(last.path.data, dir, strlen(dir)) != 0;
    return last.is_default && elsewhere ? count - 1 : count;
}

static void the_folder_is_listed_with_what_is_broken(void **state)
{
    (void)state;
    struct fault_env fault;
    init_env(&fault);
    fill_folder();
    memalloy_models *models = list(&fault.env);
    assert_string_equal(memalloy_models_folder(models), dir);
    assert_int_equal(own_count(models), 4);
    struct memalloy_model_entry entry = entry_of(models, 0);
    assert_string_equal(entry.name.data, "gone");
    assert_null(entry.info);
    assert_non_null(entry.error.data);
    entry = entry_of(models, 1);
    assert_string_equal(entry.name.data, "half");
    assert_null(entry.info);
    assert_non_null(strstr(entry.error.data, "cut off"));
    entry = entry_of(models, 2);
    assert_string_equal(entry.name.data, "small-model");
    assert_null(entry.error.data);
    assert_string_equal(entry.info->quantisation.data, "onnx");
    assert_int_equal(entry.info->dim, FAKE_DIM);
    entry = entry_of(models, 3);
    assert_string_equal(entry.name.data, "works");
    assert_null(entry.error.data);
    assert_int_equal(entry.info->dim, 64);
    assert_int_equal(entry.info->layers, 2);
    assert_true(entry.info->file_bytes > 1000);
    assert_string_equal(entry.info->pooling.data, "mean");
    assert_int_equal(entry.is_default, 0);
    memalloy_models_destroy(models);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
}

static void the_default_is_marked_or_comes_last(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES + 64], folder[TEMP_DIR_BYTES + 64];
    struct fault_env fault;
    init_env(&fault);
    put_model("b.safetensors", 1);
    put_model("a.safetensors", 2);
    model_variable = "b";
    memalloy_models *models = list(&fault.env);
    assert_int_equal(memalloy_models_count(models), 2);
    assert_int_equal(entry_of(models, 0).is_default, 0);
    assert_int_equal(entry_of(models, 1).is_default, 1);
    memalloy_models_destroy(models);
    /* The folder is not there, the default lies elsewhere. */
    snprintf(path, sizeof(path), "%s/a.safetensors", dir);
    snprintf(folder, sizeof(folder), "%s/none", dir);
    model_variable = path;
    models_variable = folder;
    models = list(&fault.env);
    assert_int_equal(memalloy_models_count(models), 1);
    assert_string_equal(entry_of(models, 0).name.data, path);
    assert_int_equal(entry_of(models, 0).is_default, 1);
    memalloy_models_destroy(models);
}

static enum mly_err try_open(const struct mly_env *env, const char *name, struct mly_error *err)
{
    const struct memalloy_model_options options = {.struct_bytes = sizeof(options), .path = name};
    memalloy_model *model = NULL;
    const enum mly_err rc = mly_engine_model_open(env, &options, &model, err);
    mly_engine_model_close(model);
    return rc;
}

static void a_name_is_a_path_first_and_then_one_of_the_folder(void **state)
{
    (void)state;
    struct fault_env fault;
    struct mly_error err = {0};
    init_env(&fault);
    put_model("mine.safetensors", 1);
    assert_int_equal(try_open(&fault.env, "mine", &err), MLY_OK);
    assert_int_equal(try_open(&fault.env, "mine.safetensors", &err), MLY_OK);
    model_variable = "mine";
    assert_int_equal(try_open(&fault.env, NULL, &err), MLY_OK);
    assert_int_equal(try_open(&fault.env, "yours", &err), MLY_ERR_MODEL);
    assert_non_null(strstr(err.message, "no model of that name in"));
    assert_non_null(strstr(err.message, dir));
    assert_int_equal(try_open(&fault.env, "./mine", &err), MLY_ERR_MODEL);
    assert_null(strstr(err.message, dir));
    /* A bare name that is a file here means that file. */
    char before[4096];
    assert_non_null(getcwd(before, sizeof(before)));
    char work[TEMP_DIR_BYTES + 16];
    snprintf(work, sizeof(work), "%s/work", dir);
    assert_int_equal(mkdir(work, 0700), 0);
    temp_dir_write(work, "mine", "not a model", 11);
    assert_int_equal(chdir(work), 0);
    assert_int_equal(try_open(&fault.env, "mine", &err), MLY_ERR_MODEL);
    assert_int_equal(chdir(before), 0);
}

static void the_folder_follows_the_variables(void **state)
{
    (void)state;
    struct fault_env fault;
    init_env(&fault);
    models_variable = "";
    data_variable = "/data";
    home_variable = "/home/me";
    memalloy_models *models = list(&fault.env);
    assert_string_equal(memalloy_models_folder(models), "/data/memalloy/models");
    memalloy_models_destroy(models);
    data_variable = "relative"; /* the base directory standard wants it ignored */
    models = list(&fault.env);
    assert_string_equal(memalloy_models_folder(models), "/home/me/.local/share/memalloy/models");
    memalloy_models_destroy(models);
    home_variable = NULL;
    struct mly_error err = {0};
    models = NULL;
    assert_int_equal(mly_engine_models_list(&fault.env, NULL, &models, &err), MLY_ERR_NOTFOUND);
    assert_null(models);
    assert_int_equal(try_open(&fault.env, "name", &err), MLY_ERR_MODEL);
}

static void removing_takes_the_file_or_the_link_and_no_more(void **state)
{
    (void)state;
    struct fault_env fault;
    struct mly_error err = {0};
    init_env(&fault);
    fill_folder();
    assert_int_equal(mly_engine_model_remove(&fault.env, "half", &err), MLY_OK);
    assert_int_equal(mly_engine_model_remove(&fault.env, "half", &err), MLY_ERR_NOTFOUND);
    assert_int_equal(mly_engine_model_remove(&fault.env, "gone", &err), MLY_OK);
    assert_int_equal(mly_engine_model_remove(&fault.env, "works.safetensors", &err), MLY_OK);
    assert_int_equal(mly_engine_model_remove(&fault.env, "small-model", &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "is a folder"));
    const char *const names[] = {"", ".", "..", "../x", "/etc/passwd", ".hidden"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(mly_engine_model_remove(&fault.env, names[i], &err), MLY_ERR_INVAL);
    }
    memalloy_models *models = list(&fault.env);
    assert_int_equal(own_count(models), 1);
    memalloy_models_destroy(models);
}

static void a_mismatch_names_the_model_that_fits(void **state)
{
    (void)state;
    char store[TEMP_DIR_BYTES + 16];
    struct fault_env fault;
    struct mly_error err = {0};
    init_env(&fault);
    put_model("one.safetensors", 1);
    put_model("two.safetensors", 2);
    snprintf(store, sizeof(store), "%s/kb", dir);
    struct memalloy_model_options model = {.struct_bytes = sizeof(model), .path = "one"};
    struct memalloy_options options = {.struct_bytes = sizeof(options), .model = &model};
    memalloy_kernel *kernel = NULL;
    assert_int_equal(mly_engine_open(&fault.env, store, &options, &kernel, &err), MLY_OK);
    const struct mly_str text = MLY_STR("a text");
    assert_int_equal(mly_engine_add_text(kernel, text, NULL, NULL, &err), MLY_OK);
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    assert_int_equal(mly_engine_status(kernel, &status, &err), MLY_OK);
    assert_string_equal(status.model_pooling.data, "mean");
    assert_string_equal(status.model_quantisation.data, "int8");
    mly_engine_close(kernel, NULL);
    model.path = "two";
    assert_int_equal(mly_engine_open(&fault.env, store, &options, &kernel, &err), MLY_OK);
    assert_int_equal(mly_engine_add_text(kernel, text, NULL, NULL, &err), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "; open it with the model one"));
    assert_int_equal(mly_engine_model_remove(&fault.env, "one", NULL), MLY_OK);
    assert_int_equal(mly_engine_add_text(kernel, text, NULL, NULL, &err), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "or put the texts into a new store"));
    mly_engine_close(kernel, NULL);
    assert_int_equal(fault.mem.live, 0);
}

static enum mly_err add_link(const struct mly_env *env, const char *name, const char *source,
                             struct memalloy_convert_report *report, struct mly_error *err)
{
    const struct memalloy_convert_options options = {.struct_bytes = sizeof(options),
                                                     .source_path = source,
                                                     .quantisation = "onnx",
                                                     .onnxruntime_path = MLY_TEST_FAKE_ORT};
    return mly_engine_model_add(env, name, &options, report, err);
}

static void a_folder_for_onnx_runtime_is_linked_to(void **state)
{
    (void)state;
    static char models[TEMP_DIR_BYTES + 32];
    char source[TEMP_DIR_BYTES + 64], link[TEMP_DIR_BYTES + 64];
    struct fault_env fault;
    struct mly_error err = {0};
    struct memalloy_convert_report report = {.struct_bytes = sizeof(report)};
    init_env(&fault);
    snprintf(source, sizeof(source), "%s", onnx_folder(dir));
    snprintf(models, sizeof(models), "%s/new/models", dir);
    models_variable = models;
    assert_int_equal(add_link(&fault.env, NULL, source, &report, &err), MLY_OK);
    assert_string_equal(report.name, "small-model");
    assert_string_equal(report.quantisation, "onnx");
    assert_int_equal(report.dim, FAKE_DIM);
    snprintf(link, sizeof(link), "%s/small-model", models);
    struct stat info;
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(try_open(&fault.env, "small-model", &err), MLY_ERR_MODEL); /* no library */
    assert_int_equal(add_link(&fault.env, NULL, source, &report, &err), MLY_ERR_CONFLICT);
    assert_int_equal(add_link(&fault.env, "other", source, NULL, &err), MLY_OK);
    assert_int_equal(add_link(&fault.env, "a/b", source, NULL, &err), MLY_ERR_INVAL);
    assert_int_equal(add_link(&fault.env, "x", dir, NULL, &err), MLY_ERR_MODEL);
    put_model("file.safetensors", 1);
    snprintf(source, sizeof(source), "%s/file.safetensors", dir);
    assert_int_equal(add_link(&fault.env, "x", source, NULL, &err), MLY_ERR_INVAL);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
}

static void every_failing_step_of_linking_is_told(void **state)
{
    (void)state;
    static char models[TEMP_DIR_BYTES + 32];
    char source[TEMP_DIR_BYTES + 64], link[TEMP_DIR_BYTES + 64];
    snprintf(source, sizeof(source), "%s", onnx_folder(dir));
    snprintf(models, sizeof(models), "%s/new", dir);
    snprintf(link, sizeof(link), "%s/new/small-model", dir);
    models_variable = models;
    for (int kind = 0; kind < 2; kind++) {
        bool failed = true;
        for (uint64_t fail_at = 1; failed; fail_at++) {
            struct fault_env fault;
            struct mly_error err = {0};
            init_env(&fault);
            temp_dir_remove(models);
            fault.fail_errno = EIO;
            if (kind == 0) fault.mem.fail_at = fail_at;
            if (kind == 1) fault.fail_at = fail_at;
            const enum mly_err rc = add_link(&fault.env, NULL, source, NULL, &err);
            failed = kind == 0 ? fault.mem.calls >= fail_at : fault.calls >= fail_at;
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            if (!failed) assert_int_equal(rc, MLY_OK);
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            if (rc == MLY_OK) assert_int_equal(access(link, F_OK), 0);
        }
    }
}

/* Both calls in one life; the models are as before. */
static enum mly_err live_once(const struct fault_env *fault, struct mly_error *err)
{
    memalloy_models *models = NULL;
    const enum mly_err rc = mly_engine_models_list(&fault->env, NULL, &models, err);
    memalloy_models_destroy(models);
    if (rc != MLY_OK) return rc;
    return mly_engine_model_remove(&fault->env, "half", err);
}

static void every_failure_is_told_and_leaks_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        bool failed = true;
        for (uint64_t fail_at = 1; failed; fail_at++) {
            struct fault_env fault;
            struct mly_error err = {0};
            init_env(&fault);
            put_model("works.safetensors", 5);
            temp_dir_write(dir, "half.safetensors", "half", 4);
            fault.fail_errno = EIO;
            if (kind == 0) fault.mem.fail_at = fail_at;
            if (kind == 1) fault.fail_at = fail_at;
            const enum mly_err rc = live_once(&fault, &err);
            failed = kind == 0 ? fault.mem.calls >= fail_at : fault.calls >= fail_at;
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            if (!failed) assert_int_equal(rc, MLY_OK);
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            if (kind == 0 && failed) assert_int_equal(rc, MLY_ERR_NOMEM);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_folder_is_listed_with_what_is_broken, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(the_default_is_marked_or_comes_last, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_name_is_a_path_first_and_then_one_of_the_folder, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(the_folder_follows_the_variables, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(removing_takes_the_file_or_the_link_and_no_more, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(a_mismatch_names_the_model_that_fits, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_folder_for_onnx_runtime_is_linked_to, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(every_failing_step_of_linking_is_told, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(every_failure_is_told_and_leaks_nothing, make_dir,
                                        remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
