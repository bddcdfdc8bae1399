/* Others change the store while a call prepares its commit: what the call decided on an older
 * snapshot must not undo what they did. Progress callbacks stand for the others, since they come at
 * a known moment.
 */
#include "mly_cmocka.h"

#include "temp_dir.h"
#include "tiny_model.h"

#include <memalloy.h>

#include <stdio.h>
#include <string.h>

static char dir[TEMP_DIR_BYTES];
static char folder[TEMP_DIR_BYTES + 16];
static char file_path[TEMP_DIR_BYTES + 32];

struct other {
    memalloy_kernel *kernel;
    char id[64];
    int acts;
};

static struct memalloy_str str(const char *text)
{
    return (struct memalloy_str){text, strlen(text)};
}

static memalloy_kernel *open_store(const char *name)
{
    char model_path[TEMP_DIR_BYTES + 64];
    char store_path[TEMP_DIR_BYTES + 64];
    snprintf(model_path, sizeof(model_path), "%s", tiny_model(dir, &tiny_small, 3));
    snprintf(store_path, sizeof(store_path), "%s/%s", dir, name);
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = model_path, .threads = 1};
    struct memalloy_options options = {.struct_bytes = sizeof(options), .model = &model};
    memalloy_kernel *kernel = NULL;
    assert_int_equal(memalloy_open(&kernel, store_path, &options, NULL), MEMALLOY_OK);
    return kernel;
}

static int make_folder(void **state)
{
    (void)state;
    temp_dir_make(dir);
    snprintf(folder, sizeof(folder), "%s/.", dir);
    temp_dir_write(dir, "a.txt", "the text", 8);
    snprintf(file_path, sizeof(file_path), "%s/a.txt", dir);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static void sync_with(memalloy_kernel *kernel, memalloy_progress_fn progress, void *context)
{
    static const char *const only[] = {"*.txt"};
    struct memalloy_sync_options options = {.struct_bytes = sizeof(options),
                                            .include = only,
                                            .include_count = 1,
                                            .progress = progress,
                                            .progress_context = context};
    memalloy_report *report = NULL;
    struct memalloy_error err = {0};
    if (memalloy_sync(kernel, folder, &options, &report, &err) != MEMALLOY_OK) {
        fail_msg("%s", err.message);
    }
    memalloy_report_destroy(report);
}

static memalloy_documents *get(memalloy_kernel *kernel, struct memalloy_document *out)
{
    memalloy_documents *documents = NULL;
    struct memalloy_error err = {0};
    if (memalloy_get_document_at(kernel, file_path, &documents, &err) != MEMALLOY_OK) {
        fail_msg("%s", err.message);
    }
    *out = (struct memalloy_document){.struct_bytes = sizeof(*out)};
    memalloy_documents_get(documents, 0, out);
    return documents;
}

/* When the folder is walked, the snapshot is pinned already. */
static int remove_meanwhile(void *context, const struct memalloy_progress *progress)
{
    struct other *other = context;
    if (progress->stage == MEMALLOY_STAGE_WALK && other->acts++ == 0) {
        int removed = 0;
        assert_int_equal(
            memalloy_remove_document(other->kernel, str(other->id), NULL, &removed, NULL),
            MEMALLOY_OK);
        assert_int_equal(removed, 1);
    }
    return 0;
}

static void a_document_that_others_removed_meanwhile_comes_back_whole(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_store("removed");
    struct other other = {.kernel = kernel};
    struct memalloy_document document;
    sync_with(kernel, NULL, NULL);
    memalloy_documents *documents = get(kernel, &document);
    snprintf(other.id, sizeof(other.id), "%s", document.id.data);
    memalloy_documents_destroy(documents);
    /* The file is too young for its stamp to be believed: it is read, and its row only renewed. */
    sync_with(kernel, remove_meanwhile, &other);
    assert_int_equal(other.acts, 1);
    documents = get(kernel, &document);
    assert_string_equal(document.content.data, "the text");
    assert_int_equal(document.altered, 0);
    assert_int_equal(document.chunk_count, 1);
    memalloy_documents_destroy(documents);
    memalloy_close(kernel, NULL);
}

static int label_meanwhile(void *context, const struct memalloy_progress *progress)
{
    struct other *other = context;
    if (progress->stage == MEMALLOY_STAGE_WALK && other->acts++ == 0) {
        struct memalloy_add_options options = {.struct_bytes = sizeof(options),
                                               .metadata = str("{\"v\":2}")};
        assert_int_equal(memalloy_add_file(other->kernel, file_path, &options, NULL, NULL),
                         MEMALLOY_OK);
        temp_dir_write(dir, "a.txt", "new text", 8);
    }
    return 0;
}

static void metadata_that_others_gave_meanwhile_stays(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_store("labelled");
    struct other other = {.kernel = kernel};
    struct memalloy_document document;
    sync_with(kernel, NULL, NULL);
    sync_with(kernel, label_meanwhile, &other);
    assert_int_equal(other.acts, 1);
    memalloy_documents *documents = get(kernel, &document);
    assert_string_equal(document.content.data, "new text");
    assert_string_equal(document.metadata.data, "{\"v\":2}");
    memalloy_documents_destroy(documents);
    memalloy_hits *hits = NULL;
    assert_int_equal(memalloy_search_text(kernel, "x", 1, NULL, &hits, NULL), MEMALLOY_OK);
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    memalloy_hits_get(hits, 0, &hit);
    assert_string_equal(hit.metadata.data, "{\"v\":2}");
    memalloy_hits_destroy(hits);
    memalloy_close(kernel, NULL);
}

static int add_the_file_meanwhile(void *context, const struct memalloy_progress *progress)
{
    struct other *other = context;
    if (progress->stage == MEMALLOY_STAGE_WALK && other->acts++ == 0) {
        struct memalloy_add_options options = {.struct_bytes = sizeof(options),
                                               .document_id = str("mine")};
        assert_int_equal(memalloy_add_file(other->kernel, file_path, &options, NULL, NULL),
                         MEMALLOY_OK);
    }
    return 0;
}

static void a_file_that_others_added_meanwhile_stays_one_document(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_store("added");
    struct other other = {.kernel = kernel};
    struct memalloy_document document;
    uint64_t count = 0;
    sync_with(kernel, add_the_file_meanwhile, &other);
    assert_int_equal(memalloy_count(kernel, &count, NULL), MEMALLOY_OK);
    assert_int_equal(count, 1);
    memalloy_documents *documents = get(kernel, &document);
    assert_string_equal(document.id.data, "mine");
    memalloy_documents_destroy(documents);
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    assert_int_equal(memalloy_get_status(kernel, &status, NULL), MEMALLOY_OK);
    assert_int_equal(status.chunks, 1);
    memalloy_close(kernel, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_document_that_others_removed_meanwhile_comes_back_whole,
                                        make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(metadata_that_others_gave_meanwhile_stays, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_file_that_others_added_meanwhile_stays_one_document,
                                        make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
