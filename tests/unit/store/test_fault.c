/* Every allocation and every file call of open, begin, commit, pin, find and close fails once, and
 * from some call on for ever: the store is then as before or, once mended, as after; nothing is
 * leaked, and the message says something. */
#define _GNU_SOURCE
#include "store/store_state_int.h"

#include "store_cases.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "test_pace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENTS 6

#define FAIL_STEP TEST_PACE(1, 7, 9)

struct ledger {
    char folder[TEMP_DIR_BYTES];
    struct case_entry entries[DOCUMENTS];
    struct case_entry wanted[DOCUMENTS];
    struct case_document documents[DOCUMENTS];
    struct mly_change changes[DOCUMENTS];
    size_t change_count;
    uint64_t runs, mended, rolled_back;
};

enum fault_kind { FAIL_ALLOCATION, FAIL_FILE_CALL };

static void want_put(struct ledger *ledger, uint32_t number, uint32_t version)
{
    struct case_document *document = &ledger->documents[ledger->change_count];
    ledger->wanted[number] = case_entry(true, version, (uint32_t)ledger->runs % 1000);
    case_make(document, number, version, ledger->wanted[number].stamp);
    ledger->changes[ledger->change_count++] = case_change(document);
}

static void want_touch(struct ledger *ledger, uint32_t number)
{
    if (!ledger->entries[number].there) return;
    want_put(ledger, number, ledger->entries[number].version);
    ledger->changes[ledger->change_count - 1].kind = MLY_CHANGE_TOUCH;
}

static void want_removed(struct ledger *ledger, uint32_t number)
{
    want_put(ledger, number, 1);
    ledger->wanted[number].there = false;
    ledger->changes[ledger->change_count - 1].kind = MLY_CHANGE_REMOVE;
}

typedef void (*scenario_fn)(struct ledger *ledger);

static uint32_t next_version(const struct ledger *ledger)
{
    return 1 + (uint32_t)(ledger->runs % 9);
}

static void replace_one(struct ledger *ledger)
{
    want_put(ledger, 1, next_version(ledger));
}

static void put_new(struct ledger *ledger)
{
    want_put(ledger, 4, next_version(ledger));
}

static void mixed(struct ledger *ledger)
{
    want_put(ledger, 1, next_version(ledger));
    want_touch(ledger, 2);
    want_removed(ledger, 3);
    want_put(ledger, 4, next_version(ledger));
    want_put(ledger, 5, 0);
}

/* Everything the door offers, in one life of a handle. *committed: the changes were acknowledged.
 */
static enum mly_err live_once(const struct fault_env *fault, const struct ledger *ledger,
                              bool *committed, struct mly_error *err)
{
    struct mly_store *store = NULL;
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    struct mly_document document;
    struct mly_chunk_row *rows;
    size_t count;
    bool found;
    struct mly_store_options options = case_options();
    options.lock_wait_ms = 20;
    mly_arena_init(&arena, fault->env.mem, (size_t)1 << 30);
    *committed = false;
    enum mly_err rc = mly_store_open(&fault->env, ledger->folder, &options, &store, err);
    if (rc != MLY_OK) goto done;
    rc = mly_store_begin(store, err);
    if (rc != MLY_OK) goto done;
    rc =
        mly_store_commit(store, ledger->changes, ledger->change_count, MLY_DURABILITY_DEFAULT, err);
    (void)mly_store_end(store, NULL);
    if (rc != MLY_OK) goto done;
    *committed = true;
    rc = mly_store_pin(store, &snapshot, err);
    if (rc != MLY_OK) goto done;
    rc =
        mly_snapshot_find_document(snapshot, MLY_STR("document-1"), &arena, &document, &found, err);
    if (rc != MLY_OK) goto done;
    rc = mly_snapshot_find_path(snapshot, MLY_STR("/folder/file 1.txt"), &arena, &document, &found,
                                err);
    if (rc != MLY_OK) goto done;
    rc = mly_snapshot_document_chunks(snapshot, MLY_STR("document-1"), &arena, &rows, &count, err);
done:
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
    (void)mly_store_close(store, NULL);
    return rc;
}

/* Of the chunks table, whether readers are given it or not. */
static uint64_t newest_chunks_version(const char *folder)
{
    char path[TEMP_DIR_BYTES + 32];
    struct mly_error err = {0};
    struct mly_lance_table *table = NULL;
    struct mly_lance_manifest *manifest = NULL;
    snprintf(path, sizeof(path), "%s/chunks.lance", folder);
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
    uint64_t version = manifest == NULL ? 0 : mly_lance_manifest_version(manifest);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
    return version;
}

/* What a healthy handle finds afterwards. */
static void check_after(struct ledger *ledger, bool committed)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_snapshot *snapshot = NULL;
    struct mly_store_counts before;
    struct mly_store_counts after;
    struct mly_store_options options = case_options();
    case_ok(mly_store_open(mly_env_system(), ledger->folder, &options, &store, &err), &err);
    case_ok(mly_store_pin(store, &snapshot, &err), &err); /* readers read before it is mended */
    mly_snapshot_get_counts(snapshot, &before);
    bool apart = newest_chunks_version(ledger->folder) > before.chunks_version;
    if (apart) case_check_snapshot(snapshot, store->mem, ledger->entries, DOCUMENTS);
    mly_snapshot_release(snapshot);
    if (committed) memcpy(ledger->entries, ledger->wanted, sizeof(ledger->entries));
    case_learn(store, ledger->entries, ledger->wanted, DOCUMENTS);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &after);
    mly_snapshot_release(snapshot);
    ledger->rolled_back += apart && after.chunks == before.chunks;
    for (size_t i = 0; i < DOCUMENTS; i++)
        ledger->mended += ledger->entries[i].mended;
    (void)mly_store_close(store, NULL);
}

/* The same store for every run: a call's number must mean the same call. */
static void fill(struct ledger *ledger)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    temp_dir_remove(ledger->folder);
    memset(ledger->entries, 0, sizeof(ledger->entries));
    memcpy(ledger->wanted, ledger->entries, sizeof(ledger->wanted));
    ledger->change_count = 0;
    for (uint32_t i = 1; i < 4; i++)
        want_put(ledger, i, i);
    case_ok(mly_store_open(mly_env_system(), ledger->folder, &options, &store, &err), &err);
    case_ok(case_commit(store, ledger->changes, ledger->change_count, &err), &err);
    (void)mly_store_close(store, NULL);
    memcpy(ledger->entries, ledger->wanted, sizeof(ledger->entries));
    ledger->change_count = 0;
}

static void fail_every_call(struct ledger *ledger, scenario_fn scenario, enum fault_kind kind,
                            bool forever)
{
    bool fired = true;
    for (uint64_t fail_at = 1; fired; fail_at += FAIL_STEP) {
        struct fault_env fault;
        struct mly_error err = {0};
        bool committed;
        fault_env_init(&fault);
        fault.fail_errno = fail_at % 2 == 0 ? EIO : ENOSPC;
        fill(ledger);
        ledger->runs++;
        scenario(ledger);
        if (kind == FAIL_ALLOCATION) {
            fault.mem.fail_at = fail_at;
            fault.mem.fail_forever = forever;
        } else {
            fault.fail_at = fail_at;
            fault.fail_forever = forever;
        }
        enum mly_err rc = live_once(&fault, ledger, &committed, &err);
        fired = (kind == FAIL_ALLOCATION ? fault.mem.calls : fault.calls) >= fail_at;
        if (!fired) case_ok(rc, &err);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (rc != MLY_OK) {
            assert_int_equal(rc, kind == FAIL_ALLOCATION ? MLY_ERR_NOMEM : MLY_ERR_IO);
            assert_true(err.message[0] != '\0');
            assert_int_equal(err.code, rc);
        }
        check_after(ledger, committed);
    }
}

/* In a short run each scenario goes through some of the ways to fail, all of them together through
 * all. */
#define ONCE_ALLOCATION 1u
#define ONCE_FILE_CALL 2u
#define FROM_THEN_ON 4u

static bool is_long_run(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL;
}

static void every_failure(scenario_fn scenario, struct ledger *ledger, unsigned ways)
{
    if (is_long_run()) ways = ONCE_ALLOCATION | ONCE_FILE_CALL | FROM_THEN_ON;
    memset(ledger, 0, sizeof(*ledger));
    temp_dir_make(ledger->folder);
    if (ways & ONCE_ALLOCATION) fail_every_call(ledger, scenario, FAIL_ALLOCATION, false);
    if (ways & ONCE_FILE_CALL) fail_every_call(ledger, scenario, FAIL_FILE_CALL, false);
    if (ways & FROM_THEN_ON) fail_every_call(ledger, scenario, FAIL_FILE_CALL, true);
    temp_dir_remove(ledger->folder);
    printf("# %llu runs: %llu left chunks without a document, %llu a document with newer chunks\n",
           (unsigned long long)ledger->runs, (unsigned long long)ledger->rolled_back,
           (unsigned long long)ledger->mended);
}

static struct ledger ledger;

static void a_new_document_survives_every_failure(void **state)
{
    (void)state;
    every_failure(put_new, &ledger, ONCE_FILE_CALL);
    assert_int_equal(ledger.mended + ledger.rolled_back, 0); /* nothing is ever half there */
}

static void a_replaced_document_survives_every_failure(void **state)
{
    (void)state;
    every_failure(replace_one, &ledger, FROM_THEN_ON);
    assert_int_equal(ledger.mended + ledger.rolled_back, 0);
}

static void a_mixed_commit_survives_every_failure(void **state)
{
    (void)state;
    every_failure(mixed, &ledger, ONCE_ALLOCATION | ONCE_FILE_CALL);
    assert_int_equal(ledger.mended + ledger.rolled_back, 0);
}

/* Nothing is there yet: folders and tables are made in each run. */
static void the_first_commit_survives_every_failure(void **state)
{
    (void)state;
    for (int round = 0; round < 3; round++) {
        if (round == 1 && !is_long_run()) continue;
        bool fired = true;
        for (uint64_t fail_at = 1; fired; fail_at += FAIL_STEP) {
            struct fault_env fault;
            struct mly_error err = {0};
            bool committed;
            fault_env_init(&fault);
            fault.fail_errno = EIO;
            memset(&ledger, 0, sizeof(ledger));
            temp_dir_make(ledger.folder);
            temp_dir_remove(ledger.folder);
            want_put(&ledger, 1, 3);
            if (round == 0) {
                fault.mem.fail_at = fail_at;
            } else {
                fault.fail_at = fail_at;
                fault.fail_forever = round == 2;
            }
            enum mly_err rc = live_once(&fault, &ledger, &committed, &err);
            fired = (round == 0 ? fault.mem.calls : fault.calls) >= fail_at;
            if (!fired) case_ok(rc, &err);
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            check_after(&ledger, committed);
            temp_dir_remove(ledger.folder);
        }
    }
}

static void short_transfers_and_interruptions_change_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    struct mly_error err = {0};
    bool committed;
    memset(&ledger, 0, sizeof(ledger));
    temp_dir_make(ledger.folder);
    fill(&ledger);
    mixed(&ledger);
    fault_env_init(&fault);
    fault.short_transfers = true;
    fault.interrupt = true;
    case_ok(live_once(&fault, &ledger, &committed, &err), &err);
    assert_true(committed);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    check_after(&ledger, committed);
    temp_dir_remove(ledger.folder);
}

/* A handle that has seen a failure goes on as soon as the disk does. */
static void a_handle_is_usable_after_a_failure(void **state)
{
    (void)state;
    memset(&ledger, 0, sizeof(ledger));
    temp_dir_make(ledger.folder);
    fill(&ledger);
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    fault_env_init(&fault);
    fault.fail_errno = EIO;
    case_ok(mly_store_open(&fault.env, ledger.folder, &options, &store, &err), &err);
    uint64_t failures = 0;
    for (uint64_t fail_in = 1; fail_in < 60; fail_in++) {
        ledger.runs++;
        ledger.change_count = 0;
        memcpy(ledger.wanted, ledger.entries, sizeof(ledger.wanted));
        mixed(&ledger);
        fault.fail_at = fault.calls + fail_in;
        fault.fail_forever = true;
        enum mly_err rc = case_commit(store, ledger.changes, ledger.change_count, &err);
        fault.fail_at = 0;
        if (rc == MLY_OK) memcpy(ledger.entries, ledger.wanted, sizeof(ledger.entries));
        failures += rc != MLY_OK;
        case_learn(store, ledger.entries, ledger.wanted, DOCUMENTS);
    }
    assert_true(failures > 10);
    (void)mly_store_close(store, NULL);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    temp_dir_remove(ledger.folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_document_survives_every_failure),
        cmocka_unit_test(a_replaced_document_survives_every_failure),
        cmocka_unit_test(a_mixed_commit_survives_every_failure),
        cmocka_unit_test(the_first_commit_survives_every_failure),
        cmocka_unit_test(short_transfers_and_interruptions_change_nothing),
        cmocka_unit_test(a_handle_is_usable_after_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
