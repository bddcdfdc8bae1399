/* Open, add, search, read, remove and close, with every allocation and every file call failing in
 * turn. After each failure: a code and a message, nothing leaked, and the store opens again with
 * everything that was acknowledged and nothing of what was not.
 */
#include "mly_cmocka.h"

#include "engine/engine.h"
#include "fault_env.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DIM 4
#define DOCUMENTS 3

static const char *const ids[DOCUMENTS] = {"a", "b", "c"};
static const char *const contents[DOCUMENTS] = {"first text", "second\ntext", ""};
static const float vectors[DOCUMENTS * DIM] = {1, 0, 0, 0, 0, 2, 0, 0, 0, 0, -3, 1};

/* What was acknowledged before the failure. */
struct acks {
    bool added;   /* a, b, c */
    bool removed; /* b */
    bool updated; /* the metadata of a */
};

static struct memalloy_str str(const char *text)
{
    return (struct memalloy_str){text, strlen(text)};
}

static enum mly_err open_store(const struct mly_env *env, const char *dir, memalloy_kernel **out,
                               struct mly_error *err)
{
    char path[TEMP_DIR_BYTES + 16];
    snprintf(path, sizeof(path), "%s/kb", dir);
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .flags = MEMALLOY_OPEN_NO_MODEL, .dim = DIM};
    return mly_engine_open(env, path, &options, out, err);
}

static enum mly_err add_all(memalloy_kernel *kernel, struct mly_error *err)
{
    struct memalloy_str texts[DOCUMENTS];
    struct memalloy_add_options options[DOCUMENTS];
    struct memalloy_id given[DOCUMENTS];
    for (size_t i = 0; i < DOCUMENTS; i++) {
        texts[i] = str(contents[i]);
        options[i] = (struct memalloy_add_options){.struct_bytes = sizeof(options[i]),
                                                   .document_id = str(ids[i]),
                                                   .metadata = str("{\"n\":1}")};
    }
    enum mly_err rc =
        mly_engine_add_vectors(kernel, texts, vectors, DOCUMENTS, DIM, options, given, err);
    if (rc == MLY_OK) assert_string_equal(given[1].text, "b");
    return rc;
}

static enum mly_err search(memalloy_kernel *kernel, size_t expected, struct mly_error *err)
{
    memalloy_hits *hits = NULL;
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = 100};
    const float query[DIM] = {0, 1, 0, 0};
    MLY_TRY(mly_engine_search_vector(kernel, query, DIM, &options, &hits, err));
    assert_int_equal(memalloy_hits_count(hits), expected);
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    memalloy_hits_get(hits, 0, &hit);
    if (expected == DOCUMENTS) {
        assert_string_equal(hit.content.data, "second\ntext");
        assert_true(hit.score == 1.0);
        assert_int_equal(hit.line_end, 2);
    }
    memalloy_hits_destroy(hits);
    return MLY_OK;
}

static enum mly_err read_back(memalloy_kernel *kernel, const char *id, const char *content,
                              struct mly_error *err)
{
    memalloy_documents *documents = NULL;
    struct mly_str wanted = {id, strlen(id)};
    MLY_TRY(mly_engine_get_document(kernel, wanted, &documents, err));
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents_get(documents, 0, &document);
    assert_string_equal(document.content.data, content);
    assert_int_equal(document.altered, 0);
    memalloy_documents_destroy(documents);
    return MLY_OK;
}

static enum mly_err list(memalloy_kernel *kernel, size_t expected, struct mly_error *err)
{
    memalloy_documents *documents = NULL;
    MLY_TRY(mly_engine_list(kernel, 0, MLY_STR_NULL, &documents, err));
    assert_int_equal(memalloy_documents_count(documents), expected);
    memalloy_documents_destroy(documents);
    return MLY_OK;
}

/* A file that could not be read is not told from one that is damaged; nothing else is. */
static enum mly_err verify(memalloy_kernel *kernel, struct mly_error *err)
{
    uint64_t damaged = 0;
    MLY_TRY(mly_engine_verify(kernel, NULL, NULL, &damaged, err));
    return damaged == 0 ? MLY_OK : mly_fail(err, MLY_ERR_IO, "a file could not be read");
}

/* The whole life of a store; acks tells how far it came. */
static enum mly_err live(const struct mly_env *env, const char *dir, struct acks *acks,
                         struct mly_error *err)
{
    memalloy_kernel *kernel = NULL;
    bool removed = false;
    MLY_TRY(open_store(env, dir, &kernel, err));
    enum mly_err rc = add_all(kernel, err);
    if (rc != MLY_OK) goto done;
    acks->added = true;
    rc = search(kernel, DOCUMENTS, err);
    if (rc != MLY_OK) goto done;
    rc = read_back(kernel, "b", "second\ntext", err);
    if (rc != MLY_OK) goto done;
    rc = mly_engine_remove(kernel, MLY_STR("b"), NULL, &removed, err);
    if (rc != MLY_OK) goto done;
    assert_true(removed);
    acks->removed = true;
    rc = list(kernel, DOCUMENTS - 1, err);
    if (rc != MLY_OK) goto done;
    rc = mly_engine_update_metadata(kernel, MLY_STR("a"), MLY_STR("{\"n\":2}"), NULL, err);
    if (rc != MLY_OK) goto done;
    acks->updated = true;
    rc = verify(kernel, err);
done:
    mly_engine_close(kernel, NULL);
    return rc;
}

static bool has_document(memalloy_kernel *kernel, const char *id, const char *content)
{
    struct mly_error err = {0};
    enum mly_err rc = read_back(kernel, id, content, &err);
    assert_true(rc == MLY_OK || rc == MLY_ERR_NOTFOUND);
    return rc == MLY_OK;
}

static bool has_metadata(memalloy_kernel *kernel, const char *metadata)
{
    memalloy_documents *documents = NULL;
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    if (mly_engine_get_document(kernel, MLY_STR("a"), &documents, NULL) != MLY_OK) return false;
    memalloy_documents_get(documents, 0, &document);
    bool same = strcmp(document.metadata.data, metadata) == 0;
    memalloy_documents_destroy(documents);
    return same;
}

/* Opens with the real system, lets it mend, and compares with what was acknowledged. */
static void check_store(const char *dir, const struct acks *acks)
{
    memalloy_kernel *kernel = NULL;
    struct mly_error err = {0};
    assert_int_equal(open_store(mly_env_system(), dir, &kernel, &err), MLY_OK);
    struct memalloy_str text = str("another");
    const float vector[DIM] = {0, 0, 0, 1};
    enum mly_err rc = mly_engine_add_vectors(kernel, &text, vector, 1, DIM, NULL, NULL, &err);
    if (rc != MLY_OK) fail_msg("cannot write after a failure: %s", err.message);
    bool a = has_document(kernel, "a", contents[0]);
    bool b = has_document(kernel, "b", contents[1]);
    bool c = has_document(kernel, "c", contents[2]);
    assert_int_equal(a, c);
    if (acks->added) assert_true(a);
    if (acks->removed) assert_false(b);
    if (b) assert_true(a); /* one commit: all or none */
    if (acks->updated) assert_true(has_metadata(kernel, "{\"n\":2}"));
    if (a && !acks->removed) assert_false(has_metadata(kernel, "{\"n\":2}"));
    if (a && !b) assert_true(acks->added);
    uint64_t count = 0;
    assert_int_equal(mly_engine_count(kernel, &count, &err), MLY_OK);
    assert_int_equal(count, (uint64_t)a + b + c + 1);
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    assert_int_equal(mly_engine_status(kernel, &status, &err), MLY_OK);
    assert_int_equal(status.chunks, count); /* none without its document, none missing */
    mly_engine_close(kernel, NULL);
}

/* One life with call or allocation fail_at failing; false where nothing was left to fail. */
static bool fail_once(uint64_t fail_at, bool memory, bool forever, int code)
{
    struct fault_env fault;
    char dir[TEMP_DIR_BYTES];
    temp_dir_make(dir);
    fault_env_init(&fault);
    fault.fail_errno = code;
    atomic_store(memory ? &fault.mem.fail_at : &fault.fail_at, fail_at);
    atomic_store(memory ? &fault.mem.fail_forever : &fault.fail_forever, forever);
    struct acks acks = {0};
    struct mly_error err = {0};
    enum mly_err rc = live(&fault.env, dir, &acks, &err);
    bool reached = memory ? atomic_load(&fault.mem.calls) >= fail_at : fault.failed_call != NULL;
    if (rc != MLY_OK) {
        assert_true(err.message[0] != '\0');
        assert_int_equal(err.code, rc);
        if (memory) assert_int_equal(rc, MLY_ERR_NOMEM);
    }
    assert_int_equal(atomic_load(&fault.mem.live), 0);
    assert_int_equal(atomic_load(&fault.open_count), 0);
    check_store(dir, &acks);
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
    assert_true(fail_at > 50);
}

static void every_allocation_may_fail_once(void **state)
{
    (void)state;
    fail_each(true, false, 0);
}

static void every_allocation_may_fail_for_good(void **state)
{
    (void)state;
    fail_each(true, true, 0);
}

static void every_file_call_may_fail_once(void **state)
{
    (void)state;
    fail_each(false, false, EIO);
}

static void every_file_call_may_fail_for_good(void **state)
{
    (void)state;
    fail_each(false, true, ENOSPC);
}

static void short_and_interrupted_calls_change_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    char dir[TEMP_DIR_BYTES];
    temp_dir_make(dir);
    fault_env_init(&fault);
    fault.short_transfers = true;
    atomic_store(&fault.interrupt, true);
    struct acks acks = {0};
    struct mly_error err = {0};
    enum mly_err rc = live(&fault.env, dir, &acks, &err);
    if (rc != MLY_OK) fail_msg("%s", err.message);
    assert_true(acks.removed);
    check_store(dir, &acks);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail_once),
        cmocka_unit_test(every_allocation_may_fail_for_good),
        cmocka_unit_test(every_file_call_may_fail_once),
        cmocka_unit_test(every_file_call_may_fail_for_good),
        cmocka_unit_test(short_and_interrupted_calls_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
