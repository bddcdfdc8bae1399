/* What the door offers beside putting and finding: metadata, loads, verifying, listing, scanning,
 * checkpoints, flushing. Every allocation and every file call of it fails once: an error says so,
 * nothing is leaked, and the store is as before or as after. And values at their limits. */
#define _GNU_SOURCE
#include "store_place.h"

#include "base/limits.h"
#include "fault_env.h"
#include "test_pace.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENTS 5

static struct case_entry entries[DOCUMENTS], wanted[DOCUMENTS];

/* Fragments with dead rows. */
static void fill(void)
{
    memset(entries, 0, sizeof(entries));
    temp_dir_remove(folder);
    struct mly_store *store = open_store(mly_env_system());
    for (uint32_t i = 1; i < 4; i++) {
        case_ok(case_put(store, i, i, &err), &err);
        entries[i] = case_entry(true, i, 0);
    }
    case_ok(mly_store_checkpoint(store, &err), &err);
    case_ok(case_put(store, 2, 5, &err), &err);
    entries[2] = case_entry(true, 5, 0);
    case_ok(mly_store_close(store, &err), &err);
}

static enum mly_err see_file(void *context, const struct mly_store_verified *file,
                             struct mly_error *why)
{
    uint64_t *files = context;
    (void)why;
    *files += file->code == MLY_OK;
    return MLY_OK;
}

static enum mly_err see_document(void *context, const struct mly_document *document,
                                 struct mly_error *why)
{
    uint64_t *count = context;
    (void)why;
    *count += document->id.bytes > 0;
    return MLY_OK;
}

/* ---- lives ---- */

typedef enum mly_err (*life_fn)(struct mly_store *store, struct mly_error *why);

static enum mly_err read_all(struct mly_store *store, struct mly_error *why)
{
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    struct mly_mem mem = MLY_MEM_INIT;
    uint64_t count = 0;
    size_t chunks = 0;
    MLY_TRY(mly_store_pin(store, &snapshot, why));
    mly_arena_init(&arena, &mem, (size_t)1 << 30);
    enum mly_err rc = mly_snapshot_each_document(snapshot, see_document, &count, why);
    if (rc == MLY_OK) rc = mly_snapshot_count_chunks(snapshot, MLY_STR("document-2"), &chunks, why);
    for (size_t i = 0; rc == MLY_OK && i < mly_snapshot_block_count(snapshot); i++) {
        struct mly_vector_block block;
        struct mly_chunk_row row;
        rc = mly_snapshot_get_block(snapshot, i, &block, why);
        for (size_t j = 0; rc == MLY_OK && j < block.row_count; j++) {
            if (block.dead != NULL && (block.dead[j / 8] >> j % 8 & 1) != 0) continue;
            rc = mly_snapshot_read_chunk(snapshot, block.first_address + j, &arena, &row, why);
        }
    }
    mly_arena_deinit(&arena);
    mly_snapshot_release(snapshot);
    if (rc == MLY_OK) assert_int_equal(count, 3);
    return rc;
}

static enum mly_err verify(struct mly_store *store, struct mly_error *why)
{
    uint64_t files = 0;
    return mly_store_verify(store, see_file, &files, why);
}

static enum mly_err set_metadata(struct mly_store *store, struct mly_error *why)
{
    struct case_document document;
    wanted[1].metadata = 9;
    case_make_entry(&document, 1, &wanted[1]);
    struct mly_change change = {.kind = MLY_CHANGE_METADATA, .document = document.document};
    MLY_TRY(case_commit(store, &change, 1, why));
    MLY_TRY(mly_store_flush(store, why));
    return mly_store_checkpoint(store, why);
}

static enum mly_err remove_one(struct mly_store *store, struct mly_error *why)
{
    wanted[3].there = false;
    MLY_TRY(case_remove(store, 3, why));
    return mly_store_checkpoint(store, why);
}

/* Document 1 in version 8 has CASE_CHUNKS_MAX chunks of big metadata. */
static enum mly_err load(struct mly_store *store, struct mly_error *why)
{
    static struct case_document document;
    wanted[1] = case_entry(true, 8, 0);
    wanted[1].metadata = CASE_METADATA_BIG;
    case_make_entry(&document, 1, &wanted[1]);
    struct mly_change change = case_change(&document);
    change.dim = CASE_DIM;
    return case_commit(store, &change, 1, why);
}

static enum mly_err live(const struct fault_env *fault, life_fn life, struct mly_error *why)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.lock_wait_ms = 20;
    enum mly_err rc = mly_store_open(&fault->env, folder, &options, &store, why);
    if (rc == MLY_OK) rc = life(store, why);
    (void)mly_store_close(store, NULL);
    return rc;
}

static void fail_each(life_fn life, bool writes, bool allocations, uint64_t step)
{
    uint64_t runs = 0;
    bool fired = true;
    const char *wanted_step = getenv("MLY_TEST_STEP");
    step *= TEST_PACE(1, 5, 7);
    if (wanted_step != NULL) step = strtoull(wanted_step, NULL, 10);
    if (getenv("MEMALLOY_TEST_LONG") != NULL) step = 1;
    for (uint64_t fail_at = 1; fired; fail_at += step, runs++) {
        struct fault_env fault;
        struct mly_error why = {0};
        if (writes || runs == 0) fill();
        memcpy(wanted, entries, sizeof(wanted));
        fault_env_init(&fault);
        fault.fail_errno = fail_at % 2 == 0 ? EIO : ENOSPC;
        if (allocations) {
            fault.mem.fail_at = fail_at;
        } else {
            fault.fail_at = fail_at;
        }
        enum mly_err rc = live(&fault, life, &why);
        fired = (allocations ? fault.mem.calls : fault.calls) >= fail_at;
        if (!fired) case_ok(rc, &why);
        if (rc != MLY_OK) {
            assert_int_equal(rc, allocations ? MLY_ERR_NOMEM : MLY_ERR_IO);
            assert_true(why.message[0] != '\0');
        }
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (!writes && fail_at % 64 != 1) continue;
        struct mly_store *store = open_store(mly_env_system());
        if (rc == MLY_OK) {
            case_check(store, wanted, DOCUMENTS);
        } else {
            case_learn(store, entries, wanted, DOCUMENTS);
        }
        case_ok(mly_store_close(store, &err), &err);
    }
    print_message("ran: %llu failures\n", (unsigned long long)runs);
}

static void reading_survives_every_failure(void **state)
{
    (void)state;
    fail_each(read_all, false, true, 3);
    fail_each(read_all, false, false, 1);
}

static void verifying_survives_every_failure(void **state)
{
    (void)state;
    fail_each(verify, false, true, 3);
}

static void metadata_survives_every_failure(void **state)
{
    (void)state;
    fail_each(set_metadata, true, true, 5);
    fail_each(set_metadata, true, false, 3);
}

static void a_removal_survives_every_failure(void **state)
{
    (void)state;
    fail_each(remove_one, true, true, 5);
    fail_each(remove_one, true, false, 3);
}

static void a_load_survives_every_failure(void **state)
{
    (void)state;
    fail_each(load, true, true, 29);
    fail_each(load, true, false, 11);
}

/* ---- limits ---- */

static enum mly_err try_open(const char *path, const struct mly_store_options *options)
{
    struct mly_store *store = NULL;
    err = (struct mly_error){0};
    enum mly_err rc = mly_store_open(mly_env_system(), path, options, &store, &err);
    if (rc == MLY_OK) case_ok(mly_store_close(store, &err), &err);
    return rc;
}

static void what_cannot_be_opened_is_said(void **state)
{
    (void)state;
    static char long_path[MLY_PATH_BYTES_MAX];
    struct mly_store_options options = case_options();
    assert_int_equal(try_open("", &options), MLY_ERR_INVAL);
    memset(long_path, 'a', sizeof(long_path) - 1);
    assert_int_equal(try_open(long_path, &options), MLY_ERR_LIMIT);
    options.durability = (enum mly_durability)99;
    assert_int_equal(try_open(folder, &options), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "durability 99"));
    options = case_options();
    options.dim = (uint32_t)MLY_DIM_MAX + 1;
    assert_int_equal(try_open(folder, &options), MLY_ERR_LIMIT);
}

static void a_store_may_be_named_from_the_working_folder(void **state)
{
    (void)state;
    char before[4096];
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    fill();
    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(folder), 0);
    enum mly_err rc = mly_store_open(mly_env_system(), ".", &options, &store, &err);
    assert_int_equal(chdir(before), 0);
    case_ok(rc, &err);
    case_check(store, entries, DOCUMENTS); /* whatever the working folder is by now */
    case_ok(mly_store_close(store, &err), &err);
}

static void a_model_is_set_once(void **state)
{
    (void)state;
    fill();
    struct mly_store *store = open_store(mly_env_system());
    case_ok(mly_store_set_model(store, MLY_STR("test-model"), MLY_STR_NULL, 0, &err), &err);
    assert_int_equal(mly_store_set_model(store, MLY_STR("another"), MLY_STR_NULL, 0, &err),
                     MLY_ERR_MISMATCH);
    assert_int_equal(mly_store_set_model(store, MLY_STR_NULL, MLY_STR("11"), 0, &err),
                     MLY_ERR_MISMATCH);
    assert_int_equal(mly_store_set_model(store, MLY_STR_NULL, MLY_STR_NULL, CASE_DIM + 1, &err),
                     MLY_ERR_MISMATCH);
    assert_int_equal(mly_store_dim(store), CASE_DIM);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
}

static void a_commit_of_no_known_form_is_refused(void **state)
{
    (void)state;
    static char long_id[MLY_ID_BYTES_MAX + 1];
    fill();
    struct mly_store *store = open_store(mly_env_system());
    struct case_document document;
    case_make(&document, 4, 2, 0);
    struct mly_change change = case_change(&document);
    memset(long_id, 'i', sizeof(long_id));
    const struct mly_str ids[] = {MLY_STR_NULL, {"", 0}, {long_id, sizeof(long_id)}};
    for (size_t i = 0; i < 3; i++) {
        change.document.id = ids[i];
        assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_INVAL);
    }
    change = case_change(&document);
    change.dim = CASE_DIM + 1;
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_MISMATCH);
    change.dim = 0;
    document.rows[0].vector = NULL;
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "no vector"));
    case_ok(mly_store_begin(store, &err), &err);
    assert_int_equal(mly_store_commit(store, NULL, 0, MLY_DURABILITY_MEMORY, &err), MLY_ERR_INVAL);
    case_ok(mly_store_commit(store, NULL, 0, MLY_DURABILITY_FULL, &err), &err); /* nothing */
    case_ok(mly_store_end(store, &err), &err);
    assert_int_equal(mly_store_commit(store, NULL, 0, MLY_DURABILITY_FULL, &err), MLY_ERR_INTERNAL);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
}

static void in_memory_nothing_is_written(void **state)
{
    (void)state;
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    uint64_t files = 0;
    memset(entries, 0, sizeof(entries));
    temp_dir_remove(folder);
    options.durability = MLY_DURABILITY_MEMORY;
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    case_ok(case_put(store, 1, 3, &err), &err);
    case_ok(case_put(store, 1, 4, &err), &err);
    entries[1] = case_entry(true, 4, 0);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_checkpoint(store, &err), &err);
    case_ok(mly_store_flush(store, &err), &err);
    case_ok(mly_store_verify(store, see_file, &files, &err), &err);
    assert_int_equal(files, 0);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
    assert_int_not_equal(access(folder, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(reading_survives_every_failure),
        ON_DISK(verifying_survives_every_failure),
        ON_DISK(metadata_survives_every_failure),
        ON_DISK(a_removal_survives_every_failure),
        ON_DISK(a_load_survives_every_failure),
        ON_DISK(what_cannot_be_opened_is_said),
        ON_DISK(a_store_may_be_named_from_the_working_folder),
        ON_DISK(a_model_is_set_once),
        ON_DISK(a_commit_of_no_known_form_is_refused),
        ON_DISK(in_memory_nothing_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
