/* How much memory, which file systems, how durable: what a caller may ask of a kernel beside its
 * work. And many texts at once. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "engine/engine_int.h"
#include "fault_env.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char dir[TEMP_DIR_BYTES];
static char model_path[TEMP_DIR_BYTES + 64];
static char store_path[TEMP_DIR_BYTES + 64];
static int store_count;

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir);
    snprintf(model_path, sizeof(model_path), "%s", tiny_model(dir, &tiny_small, 3));
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static int new_store(void **state)
{
    (void)state;
    snprintf(store_path, sizeof(store_path), "%s/kb%d", dir, store_count++);
    return 0;
}

static struct memalloy_str str(const char *text)
{
    return (struct memalloy_str){text, strlen(text)};
}

static int open_on(const struct mly_env *env, uint64_t memory, uint32_t flags, int durability,
                   memalloy_kernel **out, struct mly_error *err)
{
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = model_path, .threads = 1};
    struct memalloy_options options = {.struct_bytes = sizeof(options),
                                       .flags = flags,
                                       .model = &model,
                                       .durability = durability,
                                       .memory_bytes_max = memory};
    return (int)mly_engine_open(env, store_path, &options, out, err);
}

/* One life with so much memory; NOMEM at any point is fine and leaves nothing. */
static enum mly_err live_within(const struct mly_env *env, uint64_t memory, struct mly_error *err)
{
    memalloy_kernel *kernel = NULL;
    memalloy_hits *hits = NULL;
    struct memalloy_id id;
    enum mly_err rc = (enum mly_err)open_on(env, memory, 0, 0, &kernel, err);
    if (rc == MLY_OK) rc = mly_engine_add_text(kernel, MLY_STR("alpha beta"), NULL, &id, err);
    if (rc == MLY_OK) rc = mly_engine_search_text(kernel, MLY_STR("beta"), NULL, &hits, err);
    if (kernel != NULL) mly_kernel_explain(kernel, rc, err);
    enum mly_err closed = mly_engine_close(kernel, NULL);
    if (closed != MLY_OK && rc == MLY_OK) rc = closed;
    /* Results outlive what they were asked of. */
    if (rc == MLY_OK) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        assert_int_equal(memalloy_hits_count(hits), 1);
        memalloy_hits_get(hits, 0, &hit);
        assert_int_equal(hit.content.bytes, 10);
    }
    memalloy_hits_destroy(hits);
    return rc;
}

static void any_limit_is_kept_and_named(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    size_t refused = 0;
    uint64_t memory = 64;
    for (; memory < (uint64_t)1 << 32; memory += memory / 8) {
        struct mly_error err = {0};
        enum mly_err rc = live_within(&fault.env, memory, &err);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.mem.bytes, 0);
        assert_int_equal(fault.open_count, 0);
        if (rc == MLY_OK) break;
        char limit[64];
        snprintf(limit, sizeof(limit), "the memory limit is %llu bytes",
                 (unsigned long long)memory);
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_non_null(strstr(err.message, limit));
        refused++;
        temp_dir_remove(store_path);
    }
    assert_true(refused > 20);
    assert_true(memory < (uint64_t)64 << 20);
}

/* A document that does not fit is refused; those that were there, and others, are not touched. */
static void what_is_too_large_for_the_limit_leaves_the_store_as_it_was(void **state)
{
    (void)state;
    static char large[1 << 20];
    struct fault_env fault;
    struct mly_error err = {0};
    memalloy_kernel *kernel = NULL;
    struct memalloy_id id;
    uint64_t count = 0;
    fault_env_init(&fault);
    for (size_t i = 0; i < sizeof(large); i++) {
        large[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 7);
    }
    assert_int_equal(open_on(&fault.env, 2 << 20, 0, 0, &kernel, &err), MLY_OK);
    assert_int_equal(mly_engine_add_text(kernel, MLY_STR("alpha"), NULL, &id, &err), MLY_OK);
    const uint64_t before = fault.mem.bytes;
    for (int i = 0; i < 3; i++) {
        const struct mly_str text = {large, sizeof(large)};
        assert_int_equal(mly_engine_add_text(kernel, text, NULL, &id, &err), MLY_ERR_NOMEM);
        assert_true(fault.mem.bytes < (2 << 20) + (64 << 10));
    }
    assert_true(fault.mem.bytes < before + (256 << 10)); /* nothing piles up */
    assert_int_equal(mly_engine_add_text(kernel, MLY_STR("beta"), NULL, &id, &err), MLY_OK);
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, 2);
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
    assert_int_equal(fault.mem.live, 0);
}

static void a_network_file_system_must_be_asked_for(void **state)
{
    (void)state;
    struct fault_env fault;
    struct mly_error err = {0};
    memalloy_kernel *kernel = NULL;
    fault_env_init(&fault);
    fault.file_system = 0x6969;
    assert_int_equal(open_on(&fault.env, 0, 0, 0, &kernel, &err), MLY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "NFS"));
    assert_non_null(strstr(err.message, store_path));
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(open_on(&fault.env, 0, MEMALLOY_OPEN_NETWORK_FS, 0, &kernel, &err), MLY_OK);
    assert_int_equal(mly_engine_add_text(kernel, MLY_STR("alpha"), NULL, NULL, &err), MLY_OK);
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
    assert_int_equal(open_on(&fault.env, 0, MEMALLOY_OPEN_READONLY, 0, &kernel, &err),
                     MLY_ERR_UNSUPPORTED);
}

static void a_durability_without_a_name_is_refused(void **state)
{
    (void)state;
    struct mly_error err = {0};
    memalloy_kernel *kernel = NULL;
    const struct memalloy_add_options add = {.struct_bytes = sizeof(add), .durability = -1};
    const struct memalloy_write_options write = {.struct_bytes = sizeof(write), .durability = 9};
    const struct memalloy_sync_options sync = {.struct_bytes = sizeof(sync), .durability = 5};
    memalloy_report *report = NULL;
    bool removed = false;
    assert_int_equal(open_on(mly_env_system(), 0, 0, 5, &kernel, &err), MLY_ERR_INVAL);
    assert_string_equal(err.message, "durability 5 is none of 0 to 4");
    for (int level = 0; level < MEMALLOY_DURABILITY_MEMORY; level++) {
        assert_int_equal(open_on(mly_env_system(), 0, 0, level, &kernel, &err), MLY_OK);
        const struct memalloy_add_options good = {.struct_bytes = sizeof(good),
                                                  .durability = level};
        assert_int_equal(mly_engine_add_text(kernel, MLY_STR("alpha"), &good, NULL, &err), MLY_OK);
        assert_int_equal(mly_engine_flush(kernel, &err), MLY_OK);
        assert_int_equal(mly_engine_checkpoint(kernel, &err), MLY_OK);
        assert_int_equal(mly_engine_add_text(kernel, MLY_STR("a"), &add, NULL, &err),
                         MLY_ERR_INVAL);
        assert_int_equal(mly_engine_remove(kernel, MLY_STR("a"), &write, &removed, &err),
                         MLY_ERR_INVAL);
        assert_int_equal(mly_engine_sync(kernel, dir, &sync, &report, &err), MLY_ERR_INVAL);
        assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
    }
    assert_int_equal(open_on(mly_env_system(), 0, MEMALLOY_OPEN_READONLY, 0, &kernel, &err),
                     MLY_OK);
    assert_int_equal(mly_engine_flush(kernel, &err), MLY_ERR_READONLY);
    assert_int_equal(mly_engine_checkpoint(kernel, &err), MLY_ERR_READONLY);
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
}

/* ---- many texts ---- */

static void many_texts_are_one_commit(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    struct mly_error err = {0};
    memalloy_kernel *kernel = NULL;
    struct memalloy_str texts[COUNT];
    char storage[COUNT][32];
    struct memalloy_id ids[COUNT];
    uint64_t count = 0;
    for (int i = 0; i < COUNT; i++) {
        snprintf(storage[i], sizeof(storage[i]), "alpha beta %d", i);
        texts[i] = str(storage[i]);
    }
    assert_int_equal(open_on(mly_env_system(), 0, 0, 0, &kernel, &err), MLY_OK);
    assert_int_equal(mly_engine_add_texts(kernel, texts, COUNT, NULL, ids, &err), MLY_OK);
    assert_int_equal(mly_engine_add_texts(kernel, texts, 0, NULL, NULL, &err), MLY_OK);
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        memalloy_documents *found = NULL;
        struct memalloy_document document = {.struct_bytes = sizeof(document)};
        const struct mly_str id = {ids[i].text, ids[i].bytes};
        assert_int_equal(mly_engine_get_document(kernel, id, &found, &err), MLY_OK);
        memalloy_documents_get(found, 0, &document);
        assert_string_equal(document.content.data, storage[i]);
        memalloy_documents_destroy(found);
    }
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
}

static void one_bad_text_keeps_all_out_and_is_named(void **state)
{
    (void)state;
    struct mly_error err = {0};
    memalloy_kernel *kernel = NULL;
    struct memalloy_str texts[3] = {str("alpha"), {"bad \xff", 5}, str("beta")};
    struct memalloy_add_options options[3] = {{.struct_bytes = sizeof(options[0])},
                                              {.struct_bytes = sizeof(options[0])},
                                              {.struct_bytes = sizeof(options[0])}};
    struct memalloy_id ids[3] = {{.bytes = 77}};
    uint64_t count = 9;
    assert_int_equal(open_on(mly_env_system(), 0, 0, 0, &kernel, &err), MLY_OK);
    assert_int_not_equal(mly_engine_add_texts(kernel, texts, 3, options, ids, &err), MLY_OK);
    assert_non_null(strstr(err.message, "text 1: "));
    assert_int_equal(ids[0].bytes, 77);
    texts[1] = (struct memalloy_str){NULL, 0};
    assert_int_equal(mly_engine_add_texts(kernel, texts, 3, options, ids, &err), MLY_ERR_INVAL);
    assert_string_equal(err.message, "text 1: it is NULL");
    texts[1] = str("gamma");
    options[2].metadata = str("[]");
    assert_int_equal(mly_engine_add_texts(kernel, texts, 3, options, ids, &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "text 2: "));
    options[2].metadata = (struct memalloy_str){NULL, 0};
    options[0].document_id = options[2].document_id = str("same");
    assert_int_equal(mly_engine_add_texts(kernel, texts, 3, options, ids, &err), MLY_ERR_INVAL);
    assert_string_equal(err.message, "document id same is given twice");
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, 0);
    /* What is there already and the same is left as it is, and an id twice is refused even then. */
    options[2].document_id = str("other");
    assert_int_equal(mly_engine_add_texts(kernel, texts, 3, options, ids, &err), MLY_OK);
    assert_int_equal(mly_engine_add_texts(kernel, texts, 1, options, ids, &err), MLY_OK);
    assert_string_equal(ids[0].text, "same");
    options[2].document_id = str("same");
    assert_int_equal(mly_engine_add_texts(kernel, texts, 3, options, ids, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, 3);
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
}

static int cancel(void *context, const struct memalloy_progress *progress)
{
    *(int *)context += 1;
    assert_int_equal(progress->stage, MEMALLOY_STAGE_INDEX);
    return 1;
}

static void many_texts_can_be_given_up(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    static char large[100000]; /* one is asked ten times a second: it must take a while */
    struct mly_error err = {0};
    memalloy_kernel *kernel = NULL;
    int asked = 0;
    uint64_t count = 9;
    struct memalloy_str texts[COUNT];
    struct memalloy_add_options options[COUNT];
    for (size_t i = 0; i < sizeof(large); i++) {
        large[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 7);
    }
    for (int i = 0; i < COUNT; i++) {
        texts[i] = (struct memalloy_str){large, sizeof(large)};
        options[i] = (struct memalloy_add_options){
            .struct_bytes = sizeof(options[i]), .progress = cancel, .progress_context = &asked};
    }
    assert_int_equal(open_on(mly_env_system(), 0, 0, 0, &kernel, &err), MLY_OK);
    assert_int_equal(mly_engine_add_texts(kernel, texts, COUNT, options, NULL, &err),
                     MLY_ERR_CANCELLED);
    assert_int_equal(asked, 1);
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, 0);
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
}

/* In bytes, of /proc/self/status; 0 where there is none. */
static uint64_t status_bytes(const char *what)
{
    char line[200];
    uint64_t bytes = 0;
    FILE *stream = fopen("/proc/self/status", "r");
    if (stream == NULL) return 0;
    while (fgets(line, sizeof(line), stream) != NULL) {
        if (strncmp(line, what, strlen(what)) == 0) {
            bytes = strtoull(line + strlen(what) + 1, NULL, 10) << 10;
        }
    }
    fclose(stream);
    return bytes;
}

#define WIDE 1024u
#define WIDE_BATCH 500u
#define WIDE_ROWS 15000u /* 61 MB of vectors */

static void fill_wide(memalloy_kernel *kernel)
{
    static float numbers[WIDE_BATCH * WIDE];
    static struct memalloy_str contents[WIDE_BATCH];
    struct mly_error err;
    for (size_t first = 0; first < WIDE_ROWS; first += WIDE_BATCH) {
        for (size_t i = 0; i < WIDE_BATCH * WIDE; i++)
            numbers[i] = (float)((first * WIDE + i) * 2654435761u % 1000) - 499.5F;
        for (size_t i = 0; i < WIDE_BATCH; i++)
            contents[i] = str("row");
        assert_int_equal(memalloy_add_vectors(kernel, contents, numbers, WIDE_BATCH, WIDE, NULL,
                                              NULL, (struct memalloy_error *)&err),
                         0);
    }
    assert_int_equal(mly_engine_checkpoint(kernel, &err), MLY_OK);
}

static void what_is_mapped_keeps_to_the_limit_too(void **state)
{
    (void)state;
    const uint64_t limit = 32u << 20;
    struct memalloy_options options = {.struct_bytes = sizeof(options),
                                       .flags = MEMALLOY_OPEN_NO_MODEL,
                                       .dim = WIDE,
                                       .durability = MEMALLOY_DURABILITY_OFF};
    static float query[WIDE];
    double scores[2];
    memalloy_kernel *kernel;
    struct mly_error err;
    for (size_t i = 0; i < WIDE; i++)
        query[i] = (float)(i % 7) - 3;
    assert_int_equal(mly_engine_open(mly_env_system(), store_path, &options, &kernel, &err),
                     MLY_OK);
    fill_wide(kernel);
    for (int limited = 0; limited < 2; limited++) {
        assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
        options.memory_bytes_max = limited != 0 ? limit : 0;
        assert_int_equal(mly_engine_open(mly_env_system(), store_path, &options, &kernel, &err),
                         MLY_OK);
        FILE *clear = fopen("/proc/self/clear_refs", "w"); /* the peak begins anew */
        bool is_told = clear != NULL && fputs("5", clear) >= 0;
        if (clear != NULL) is_told = fclose(clear) == 0 && is_told;
        uint64_t before = status_bytes("VmRSS:");
        memalloy_hits *hits;
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        assert_int_equal(mly_engine_search_vector(kernel, query, WIDE, NULL, &hits, &err), MLY_OK);
        memalloy_hits_get(hits, 0, &hit);
        scores[limited] = hit.score;
        memalloy_hits_destroy(hits);
        uint64_t grown = status_bytes("VmHWM:") - before;
        /* A page of the table is 8 MB, and the limit is looked at between two. */
        if (is_told && limited == 0) assert_true(grown > (uint64_t)WIDE_ROWS * WIDE * 4);
        if (is_told && limited != 0) assert_in_range(grown, 0, limit + (16u << 20));
        if (is_told && limited != 0) assert_true(status_bytes("RssFile:") <= limit);
    }
    assert_true(scores[0] == scores[1]);
    assert_int_equal(mly_engine_close(kernel, &err), MLY_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(any_limit_is_kept_and_named, new_store),
        cmocka_unit_test_setup(what_is_too_large_for_the_limit_leaves_the_store_as_it_was,
                               new_store),
        cmocka_unit_test_setup(what_is_mapped_keeps_to_the_limit_too, new_store),
        cmocka_unit_test_setup(a_network_file_system_must_be_asked_for, new_store),
        cmocka_unit_test_setup(a_durability_without_a_name_is_refused, new_store),
        cmocka_unit_test_setup(many_texts_are_one_commit, new_store),
        cmocka_unit_test_setup(one_bad_text_keeps_all_out_and_is_named, new_store),
        cmocka_unit_test_setup(many_texts_can_be_given_up, new_store),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
