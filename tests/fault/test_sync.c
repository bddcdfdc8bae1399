/* A folder is synced, edited and synced again while every allocation and every file call fails in
 * turn, the model's included. Whatever happened, the next sync on a healthy system makes the store
 * equal to the folder.
 */
#include "mly_cmocka.h"

#include "engine/engine.h"
#include "fault_env.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char model_dir[TEMP_DIR_BYTES];
static char model_path[TEMP_DIR_BYTES + 64];

static int make_model(void **state)
{
    (void)state;
    temp_dir_make(model_dir);
    snprintf(model_path, sizeof(model_path), "%s", tiny_model(model_dir, &tiny_small, 7));
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    temp_dir_remove(model_dir);
    return 0;
}

static const char *const before[] = {"# One\n\nfirst text\n\n## Two\n\nsecond text\n", "plain\n"};
static const char *const after[] = {"# One\n\nfirst text\n\n## Two\n\nother text\n", "new file\n"};

static void write_text(const char *dir, const char *name, const char *text)
{
    temp_dir_write(dir, name, text, strlen(text));
}

static void make_folder(const char *folder)
{
    mkdir(folder, 0700);
    write_text(folder, "a.md", before[0]);
    write_text(folder, "b.txt", before[1]);
    temp_dir_write(folder, "c.bin", "\0\1\2", 3);
}

static void edit_folder(const char *folder)
{
    char path[TEMP_DIR_BYTES + 64];
    write_text(folder, "a.md", after[0]);
    write_text(folder, "d.txt", after[1]);
    snprintf(path, sizeof(path), "%s/b.txt", folder);
    remove(path);
}

static enum mly_err open_store(const struct mly_env *env, const char *dir, memalloy_kernel **out,
                               struct mly_error *err)
{
    char path[TEMP_DIR_BYTES + 16];
    snprintf(path, sizeof(path), "%s/kb", dir);
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = model_path, .threads = 1};
    struct memalloy_options options = {.struct_bytes = sizeof(options), .model = &model};
    return mly_engine_open(env, path, &options, out, err);
}

static enum mly_err sync_folder(memalloy_kernel *kernel, const char *folder,
                                struct memalloy_sync_counts *counts, struct mly_error *err)
{
    memalloy_report *report = NULL;
    MLY_TRY(mly_engine_sync(kernel, folder, NULL, &report, err));
    counts->struct_bytes = sizeof(*counts);
    memalloy_report_get(report, counts);
    memalloy_report_destroy(report);
    return MLY_OK;
}

static enum mly_err live(const struct mly_env *env, const char *dir, const char *folder,
                         struct mly_error *err)
{
    memalloy_kernel *kernel = NULL;
    memalloy_hits *hits = NULL;
    struct memalloy_sync_counts counts;
    MLY_TRY(open_store(env, dir, &kernel, err));
    enum mly_err rc = sync_folder(kernel, folder, &counts, err);
    edit_folder(folder);
    if (rc == MLY_OK) rc = sync_folder(kernel, folder, &counts, err);
    if (rc == MLY_OK) rc = mly_engine_search_text(kernel, MLY_STR("text"), NULL, &hits, err);
    memalloy_hits_destroy(hits);
    mly_engine_close(kernel, NULL);
    return rc;
}

static void check_file(memalloy_kernel *kernel, const char *folder, const char *name,
                       const char *expected)
{
    char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    memalloy_documents *documents = NULL;
    struct mly_error err = {0};
    enum mly_err rc = mly_engine_get_document_at(kernel, path, &documents, &err);
    if (rc != MLY_OK) fail_msg("%s: %s", name, err.message);
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents_get(documents, 0, &document);
    assert_string_equal(document.content.data, expected);
    assert_int_equal(document.altered, 0);
    memalloy_documents_destroy(documents);
}

/* One healthy sync, and the store is the folder; another, and nothing is left to do. */
static void check_store(const char *dir, const char *folder)
{
    memalloy_kernel *kernel = NULL;
    struct mly_error err = {0};
    struct memalloy_sync_counts counts;
    uint64_t count = 0;
    edit_folder(folder);
    assert_int_equal(open_store(mly_env_system(), dir, &kernel, &err), MLY_OK);
    enum mly_err rc = sync_folder(kernel, folder, &counts, &err);
    if (rc != MLY_OK) fail_msg("healthy sync: %s", err.message);
    assert_int_equal(counts.skipped, 1);
    check_file(kernel, folder, "a.md", after[0]);
    check_file(kernel, folder, "d.txt", after[1]);
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, 2);
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    assert_int_equal(mly_engine_status(kernel, &status, &err), MLY_OK);
    assert_int_equal(status.chunks, 3);
    assert_int_equal(status.skipped, 1);
    assert_int_equal(sync_folder(kernel, folder, &counts, &err), MLY_OK);
    assert_int_equal(counts.chunks_embedded, 0);
    assert_int_equal(counts.added + counts.replaced + counts.removed, 0);
    mly_engine_close(kernel, NULL);
}

static bool fail_once(uint64_t fail_at, bool memory, bool forever, int code)
{
    struct fault_env fault;
    char dir[TEMP_DIR_BYTES];
    char folder[TEMP_DIR_BYTES + 16];
    temp_dir_make(dir);
    snprintf(folder, sizeof(folder), "%s/in", dir);
    make_folder(folder);
    fault_env_init(&fault);
    fault.fail_errno = code;
    atomic_store(memory ? &fault.mem.fail_at : &fault.fail_at, fail_at);
    atomic_store(memory ? &fault.mem.fail_forever : &fault.fail_forever, forever);
    struct mly_error err = {0};
    enum mly_err rc = live(&fault.env, dir, folder, &err);
    bool reached = memory ? atomic_load(&fault.mem.calls) >= fail_at : fault.failed_call != NULL;
    if (rc != MLY_OK) {
        assert_true(err.message[0] != '\0');
        if (memory) assert_int_equal(rc, MLY_ERR_NOMEM);
    }
    assert_int_equal(atomic_load(&fault.mem.live), 0);
    assert_int_equal(atomic_load(&fault.open_count), 0);
    check_store(dir, folder);
    temp_dir_remove(dir);
    return reached;
}

static void fail_each(bool memory, bool forever, int code)
{
    uint64_t fail_at = 1;
    while (fail_once(fail_at, memory, forever, code)) {
        fail_at++;
    }
    print_message("%s %s: %llu failed in turn\n", memory ? "allocations" : "file calls",
                  forever ? "and all after" : "once", (unsigned long long)fail_at - 1);
    assert_true(fail_at > 100);
}

static void a_sync_that_runs_out_of_memory_is_made_good_by_the_next(void **state)
{
    (void)state;
    fail_each(true, false, 0);
}

static void a_sync_whose_disk_fails_once_is_made_good_by_the_next(void **state)
{
    (void)state;
    fail_each(false, false, EIO);
}

static void a_sync_whose_disk_stays_full_is_made_good_by_the_next(void **state)
{
    (void)state;
    fail_each(false, true, ENOSPC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sync_that_runs_out_of_memory_is_made_good_by_the_next),
        cmocka_unit_test(a_sync_whose_disk_fails_once_is_made_good_by_the_next),
        cmocka_unit_test(a_sync_whose_disk_stays_full_is_made_good_by_the_next),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
