/* What a sync looks at, what it takes for gone, moved or changed, and what of it is embedded. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "engine/engine_int.h"
#include "fault_env.h"
#include "sync_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static memalloy_kernel *filled_store(const char *name)
{
    memalloy_kernel *kernel = sync_open(mly_env_system(), name);
    sync_write("a.txt", "alpha");
    sync_write("notes/b.txt", "beta");
    sync_write("notes/deep/c.txt", "gamma");
    sync_write("notes.txt", "delta");
    struct memalloy_sync_counts counts = sync_now(kernel, NULL);
    assert_int_equal(counts.added, 4);
    assert_int_equal(sync_differences(kernel), 0);
    return kernel;
}

#define PATHS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void only_what_is_named_is_looked_at(void **state)
{
    (void)state;
    memalloy_kernel *kernel = filled_store("kb");
    sync_write("a.txt", "alpha two");
    sync_write("notes/b.txt", "beta two");
    sync_write("notes/new.txt", "new");
    sync_write("notes.txt", "delta two");
    struct memalloy_sync_counts counts = sync_now(kernel, PATHS("a.txt"));
    assert_int_equal(counts.files, 1);
    assert_int_equal(counts.replaced, 1);
    assert_int_equal(sync_differences(kernel), 3);
    /* Names that begin alike are others; what is named twice is looked at once. */
    counts = sync_now(kernel, PATHS("notes/b.txt", "./notes//", "notes/deep", "not there"));
    assert_int_equal(counts.files, 3);
    assert_int_equal(counts.replaced, 1);
    assert_int_equal(counts.added, 1);
    assert_int_equal(counts.unchanged, 1);
    assert_int_equal(sync_differences(kernel), 1);
    char whole[TEMP_DIR_BYTES + 32];
    snprintf(whole, sizeof(whole), "%s/notes.txt", sync_root);
    counts = sync_now(kernel, PATHS(whole));
    assert_int_equal(counts.replaced, 1);
    assert_int_equal(sync_differences(kernel), 0);
    counts = sync_now(kernel, PATHS("."));
    assert_int_equal(counts.files, 5);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void rows_of_files_that_are_gone_below_go(void **state)
{
    (void)state;
    memalloy_kernel *kernel = filled_store("kb");
    sync_remove("notes/deep");
    sync_remove("a.txt");
    struct memalloy_sync_counts counts = sync_now(kernel, PATHS("notes"));
    assert_int_equal(counts.removed, 1);
    assert_null(sync_id(kernel, "notes/deep/c.txt"));
    assert_non_null(sync_id(kernel, "a.txt"));
    counts = sync_now(kernel, PATHS("a.txt"));
    assert_int_equal(counts.removed, 1);
    /* A file in the place of a folder, and the other way around. */
    sync_remove("notes");
    sync_remove("notes.txt");
    sync_write("notes", "no folder any more");
    sync_write("notes.txt/e.txt", "epsilon");
    counts = sync_now(kernel, PATHS("notes", "notes.txt"));
    assert_int_equal(counts.removed, 2);
    assert_int_equal(counts.added, 2);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void what_only_a_link_leads_to_is_gone(void **state)
{
    (void)state;
    char link_path[TEMP_DIR_BYTES + 64];
    memalloy_kernel *kernel = filled_store("kb");
    sync_rename("notes", "moved");
    snprintf(link_path, sizeof(link_path), "%s/notes", sync_root);
    assert_int_equal(symlink("moved", link_path), 0);
    struct memalloy_sync_counts counts = sync_now(kernel, PATHS("notes", "moved"));
    assert_int_equal(counts.moved, 2);
    assert_int_equal(counts.chunks_embedded, 0);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void paths_that_lead_out_are_refused(void **state)
{
    (void)state;
    memalloy_kernel *kernel = filled_store("kb");
    const char *const paths[] = {"../outside", "/etc", "a/../../b", "notes/.."};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct memalloy_sync_options options = {
            .struct_bytes = sizeof(options), .paths = &paths[i], .path_count = 1};
        memalloy_report *report = NULL;
        struct mly_error err = {0};
        assert_int_equal(mly_engine_sync(kernel, sync_root, &options, &report, &err),
                         MLY_ERR_INVAL);
        assert_non_null(strstr(err.message, paths[i]));
    }
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- moved files ---- */

static void moved_files_keep_their_documents(void **state)
{
    (void)state;
    memalloy_kernel *kernel = filled_store("kb");
    struct mly_error err = {0};
    char id[64];
    snprintf(id, sizeof(id), "%s", sync_id(kernel, "notes/deep/c.txt"));
    assert_int_equal(
        mly_engine_update_metadata(kernel, mly_str_of(id), MLY_STR("{\"k\":1}"), NULL, &err),
        MLY_OK);
    sync_rename("notes", "archive");
    sync_rename("a.txt", "archive/z.txt");
    struct memalloy_sync_counts counts = sync_now(kernel, NULL);
    assert_int_equal(counts.moved, 3);
    assert_int_equal(counts.added + counts.removed + counts.replaced, 0);
    assert_int_equal(counts.chunks_embedded, 0);
    assert_string_equal(sync_id(kernel, "archive/deep/c.txt"), id);
    memalloy_documents *documents = NULL;
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    assert_int_equal(mly_engine_get_document(kernel, mly_str_of(id), &documents, &err), MLY_OK);
    memalloy_documents_get(documents, 0, &document);
    assert_string_equal(document.metadata.data, "{\"k\":1}");
    assert_string_equal(document.content.data, "gamma");
    memalloy_documents_destroy(documents);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
    /* The same after the tables were written and read again. */
    kernel = sync_open(mly_env_system(), "kb");
    assert_string_equal(sync_id(kernel, "archive/deep/c.txt"), id);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(sync_now(kernel, NULL).unchanged, 4);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void no_text_is_embedded_again_under_another_name(void **state)
{
    (void)state;
    memalloy_kernel *kernel = filled_store("kb");
    /* Over another file. */
    sync_rename("a.txt", "notes.txt");
    struct memalloy_sync_counts counts = sync_now(kernel, NULL);
    assert_int_equal(counts.replaced, 1);
    assert_int_equal(counts.removed, 1);
    assert_int_equal(counts.chunks_embedded, 0);
    assert_int_equal(sync_differences(kernel), 0);
    /* Two that change places. */
    sync_rename("notes.txt", "t");
    sync_rename("notes/b.txt", "notes.txt");
    sync_rename("t", "notes/b.txt");
    counts = sync_now(kernel, NULL);
    assert_int_equal(counts.replaced, 2);
    assert_int_equal(counts.chunks_embedded, 0);
    assert_int_equal(sync_differences(kernel), 0);
    /* Several of one content: each finds one, and a copy is none's. */
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof(name), "same/%d.txt", i);
        sync_write(name, "the same words");
    }
    assert_int_equal(sync_now(kernel, NULL).added, 5);
    sync_rename("same", "others");
    sync_write("others/copy.txt", "the same words");
    counts = sync_now(kernel, NULL);
    assert_int_equal(counts.moved, 5);
    assert_int_equal(counts.added, 1);
    assert_int_equal(counts.chunks_embedded, 0);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* Another program moves the same file, or removes the document, between plan and commit. */
struct meanwhile {
    memalloy_kernel *kernel;
    char id[64];
    int how, acts;
};

static int act_meanwhile(void *context, const struct memalloy_progress *progress)
{
    struct meanwhile *other = context;
    bool removed;
    if (progress->stage != MEMALLOY_STAGE_WALK || other->acts++ > 0) return 0;
    if (other->how == 0) (void)sync_now(other->kernel, NULL);
    if (other->how == 1) {
        assert_int_equal(
            mly_engine_remove(other->kernel, mly_str_of(other->id), NULL, &removed, NULL), MLY_OK);
    }
    if (other->how == 2) {
        (void)sync_now(other->kernel, NULL);
        sync_rename("b.txt", "c.txt");
        (void)sync_now(other->kernel, NULL);
        sync_rename("c.txt", "b.txt");
    }
    return 0;
}

static void a_move_that_others_were_faster_with_ends_well(void **state)
{
    (void)state;
    for (int how = 0; how < 3; how++) {
        char name[8];
        snprintf(name, sizeof(name), "kb%d", how);
        memalloy_kernel *kernel = sync_open(mly_env_system(), name);
        sync_write("a.txt", "alpha");
        (void)sync_now(kernel, NULL);
        struct meanwhile other = {.kernel = kernel, .how = how};
        snprintf(other.id, sizeof(other.id), "%s", sync_id(kernel, "a.txt"));
        sync_rename("a.txt", "b.txt");
        struct memalloy_sync_options options = {
            .struct_bytes = sizeof(options), .progress = act_meanwhile, .progress_context = &other};
        memalloy_report *report = NULL;
        struct mly_error err = {0};
        if (mly_engine_sync(kernel, sync_root, &options, &report, &err) != MLY_OK) {
            fail_msg("%d: %s", how, err.message);
        }
        memalloy_report_destroy(report);
        if (how == 2) (void)sync_now(kernel, NULL);
        assert_int_equal(sync_differences(kernel), 0);
        assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
        sync_remove("b.txt");
    }
}

/* ---- changed files ---- */

enum { PARAGRAPHS = 1500, PARAGRAPH_MAX = 50, EDITS = 60 };
static char paragraphs[PARAGRAPHS][PARAGRAPH_MAX + 3];
static char text[sizeof(paragraphs)];

static uint32_t random_state = 7;
static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)random_state * limit) >> 32);
}

static void fill_paragraph(size_t i)
{
    size_t bytes = 20 + random_below(PARAGRAPH_MAX - 20);
    for (size_t k = 0; k < bytes; k++)
        paragraphs[i][k] = k % 6 == 5 ? ' ' : (char)('a' + random_below(26));
    memcpy(paragraphs[i] + bytes, ".\n\n", 4);
}

static void write_paragraphs(void)
{
    char *at = text;
    for (size_t i = 0; i < PARAGRAPHS; i++) {
        size_t bytes = strlen(paragraphs[i]);
        memcpy(at, paragraphs[i], bytes);
        at += bytes;
    }
    *at = '\0';
    sync_write("long.txt", text);
}

/* Of 1,000 random edits of a file of 1 MB, 95 % cost 4 chunks at most (issue 8); here fewer of a
 * smaller one, with chunks that are smaller, too. Paragraphs become longer or shorter. */
static void an_edit_embeds_a_few_chunks(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    for (size_t i = 0; i < PARAGRAPHS; i++)
        fill_paragraph(i);
    write_paragraphs();
    struct memalloy_sync_counts counts = sync_now(kernel, NULL);
    assert_true(counts.chunks_embedded > 200);
    int dear = 0;
    for (int i = 0; i < EDITS; i++) {
        fill_paragraph(random_below(PARAGRAPHS));
        write_paragraphs();
        counts = sync_now(kernel, PATHS("long.txt"));
        assert_int_equal(counts.replaced, 1);
        dear += counts.chunks_embedded > 4;
    }
    print_message("%d of %d edits cost more than 4 of %zu chunks\n", dear, EDITS,
                  (size_t)counts.chunks);
    assert_true(dear * 20 <= EDITS);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- disks that are away, and memory ---- */

static bool is_away;

/* As if another disk was under the root's folder than what the store knows. */
static int info_of_another_disk(void *context, int fd, struct mly_file_info *out)
{
    int result = mly_env_system()->info(context, fd, out);
    if (is_away && result == 0 && out->kind == MLY_KIND_DIR) out->device += 1000;
    return result;
}

static void nothing_is_removed_because_a_disk_is_away(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    sync_write("disk/a.txt", "alpha");
    sync_write("disk/b.txt", "beta");
    struct mly_env env = *mly_env_system();
    env.info = info_of_another_disk;
    env.origin = mly_env_system();
    memalloy_kernel *kernel = sync_open(&env, "kb");
    is_away = false;
    assert_int_equal(sync_now(kernel, NULL).added, 2);
    sync_rename("disk", "../outside/disk");
    is_away = true;
    struct memalloy_sync_counts counts = sync_now(kernel, NULL);
    assert_int_equal(counts.removed, 0);
    assert_int_equal(counts.away, 2);
    assert_int_equal(counts.skipped, 2);
    assert_non_null(sync_id(kernel, "disk/a.txt"));
    /* It is there again, under another number: what is gone from it is gone. */
    sync_rename("../outside/disk", "disk");
    sync_remove("disk/b.txt");
    counts = sync_now(kernel, NULL);
    assert_int_equal(counts.removed, 1);
    assert_int_equal(counts.away, 0);
    assert_int_equal(sync_differences(kernel), 0);
    /* The root itself. */
    is_away = false;
    sync_rename("../root", "../root.off");
    memalloy_report *report = NULL;
    assert_int_equal(mly_engine_sync(kernel, sync_root, NULL, &report, NULL), MLY_ERR_NOTFOUND);
    assert_non_null(sync_id(kernel, "disk/a.txt"));
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    memalloy_kernel *kernel = sync_open(&fault.env, "kb");
    sync_write("a.txt", "alpha");
    sync_write("b/c.txt", "gamma");
    (void)sync_now(kernel, NULL);
    sync_rename("a.txt", "z.txt");
    sync_write("b/c.txt", "gamma two");
    sync_write("b/d.txt", "delta");
    const char *const paths[] = {"b", "a.txt", "z.txt"};
    struct memalloy_sync_options options = {
        .struct_bytes = sizeof(options), .paths = paths, .path_count = 3};
    uint64_t refused = 0;
    for (uint64_t n = 1;; n++) {
        memalloy_report *report = NULL;
        struct mly_error err = {0};
        fault.mem.fail_at = fault.mem.calls + n;
        enum mly_err rc = mly_engine_sync(kernel, sync_root, &options, &report, &err);
        fault.mem.fail_at = 0;
        if (rc == MLY_OK) memalloy_report_destroy(report);
        if (rc == MLY_OK && n > 400) break;
        refused += rc == MLY_ERR_NOMEM;
        if (rc != MLY_OK) assert_int_equal(rc, MLY_ERR_NOMEM);
    }
    assert_true(refused > 20);
    assert_int_equal(sync_differences(kernel), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
    assert_int_equal(fault.mem.live, 0);
}

#define SYNC_TEST(name) cmocka_unit_test_setup_teardown(name, sync_set_up, sync_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SYNC_TEST(only_what_is_named_is_looked_at),
        SYNC_TEST(rows_of_files_that_are_gone_below_go),
        SYNC_TEST(what_only_a_link_leads_to_is_gone),
        SYNC_TEST(paths_that_lead_out_are_refused),
        SYNC_TEST(moved_files_keep_their_documents),
        SYNC_TEST(no_text_is_embedded_again_under_another_name),
        SYNC_TEST(a_move_that_others_were_faster_with_ends_well),
        SYNC_TEST(an_edit_embeds_a_few_chunks),
        SYNC_TEST(nothing_is_removed_because_a_disk_is_away),
        SYNC_TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
