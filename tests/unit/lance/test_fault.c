/* Every allocation and every file call fails in turn while a table is made, changed and read: an
 * error with a message, nothing leaked, and on disk the old state or the new one. */
#include "fault_env.h"
#include "lance_cases.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>

#define FIRST_ROWS 20
#define SECOND_ROWS 3
static const uint64_t dead_rows[] = {4, 5};

/* What a run has come to. */
struct outcome {
    bool visible[2]; /* versions 1 and 2, as the commits told */
};

/* Creates, updates, loads and reads a table; stops at the first failure. */
static enum mly_err run(const struct mly_env *env, const char *path, struct outcome *out,
                        struct mly_error *err)
{
    struct mly_lance_table *table;
    struct mly_lance_manifest *first = NULL, *second = NULL, *loaded = NULL;
    uint64_t live, sum;
    bool stale;
    *out = (struct outcome){0};
    MLY_TRY(mly_lance_table_open(env, path, &table, err));
    enum mly_err rc = case_create(table, 0, FIRST_ROWS, &first, &out->visible[0], err);
    if (rc != MLY_OK) goto done;
    rc = case_update(table, first, SECOND_ROWS, dead_rows, 2, &second, &out->visible[1], err);
    if (rc != MLY_OK) goto done;
    rc = mly_lance_manifest_is_stale(table, first, &stale, err);
    if (rc != MLY_OK) goto done;
    assert_true(stale);
    rc = mly_lance_manifest_load(table, &loaded, err);
    if (rc != MLY_OK) goto done;
    rc = case_sum(table, loaded, &live, &sum, err);
    if (rc == MLY_OK) assert_int_equal(live, FIRST_ROWS + SECOND_ROWS - 2);
done:
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(second);
    mly_lance_manifest_destroy(loaded);
    mly_lance_table_close(table);
    return rc;
}

/* With nothing failing: the table is at the version that the commits told, and whole. */
static void check_disk(const char *path, const struct outcome *told)
{
    struct mly_error err;
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest;
    uint64_t live, sum;
    EXPECT_OK(mly_lance_table_open(mly_env_system(), path, &table, &err));
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    uint64_t version = manifest == NULL ? 0 : mly_lance_manifest_version(manifest);
    assert_int_equal(version, told->visible[1] ? 2 : told->visible[0] ? 1 : 0);
    if (manifest != NULL) {
        EXPECT_OK(case_sum(table, manifest, &live, &sum, &err));
        assert_int_equal(live, version == 1 ? FIRST_ROWS : FIRST_ROWS + SECOND_ROWS - 2);
        case_check_rows(table, manifest, 0, 0);
    }
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

static void every_allocation_that_fails_is_told(void **state)
{
    (void)state;
    char folder[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 32];
    struct fault_env fault;
    struct mly_error err;
    struct outcome outcome;
    temp_dir_make(folder);
    uint64_t fail_at = 1;
    for (;; fail_at++) {
        fault_env_init(&fault);
        fault.mem.fail_at = fail_at;
        err.message[0] = '\0';
        snprintf(path, sizeof(path), "%s/%llu.lance", folder, (unsigned long long)fail_at);
        enum mly_err rc = run(&fault.env, path, &outcome, &err);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        check_disk(path, &outcome);
        temp_dir_remove(path);
        if (rc == MLY_OK) break;
        case_expect(rc, MLY_ERR_NOMEM, &err);
        assert_true(err.message[0] != '\0');
    }
    print_message("%llu allocations\n", (unsigned long long)fail_at - 1);
    assert_true(fail_at > 100);
    temp_dir_remove(folder);
}

static void fail_every_call(int fail_errno, bool forever)
{
    char folder[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 32];
    struct fault_env fault;
    struct mly_error err;
    struct outcome outcome;
    temp_dir_make(folder);
    uint64_t fail_at = 1, unnoticed = 0;
    for (;; fail_at++) {
        fault_env_init(&fault);
        fault.fail_at = fail_at;
        fault.fail_errno = fail_errno;
        fault.fail_forever = forever;
        err.message[0] = '\0';
        snprintf(path, sizeof(path), "%s/%llu.lance", folder, (unsigned long long)fail_at);
        enum mly_err rc = run(&fault.env, path, &outcome, &err);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        check_disk(path, &outcome);
        temp_dir_remove(path);
        if (fault.calls < fail_at) break;
        if (rc == MLY_OK) {
            unnoticed++;
        } else {
            assert_true(rc == MLY_ERR_IO || rc == MLY_ERR_NOTFOUND || rc == MLY_ERR_NOMEM);
            assert_true(err.message[0] != '\0');
        }
    }
    /* Closing, the hint and the removal of temporary names may fail without a word. */
    print_message("%llu calls, %llu of no consequence\n", (unsigned long long)fail_at - 1,
                  (unsigned long long)unnoticed);
    assert_true(fail_at > 50);
    assert_true(unnoticed * 2 < fail_at);
    temp_dir_remove(folder);
}

static void every_file_call_that_fails_leaves_the_old_state_or_the_new(void **state)
{
    (void)state;
    fail_every_call(EIO, false);
}

static void a_full_disk_leaves_the_old_state_or_the_new(void **state)
{
    (void)state;
    fail_every_call(ENOSPC, true);
}

static void short_and_interrupted_transfers_are_continued(void **state)
{
    (void)state;
    char folder[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 32];
    struct fault_env fault;
    struct mly_error err;
    struct outcome outcome;
    temp_dir_make(folder);
    fault_env_init(&fault);
    fault.short_transfers = true;
    fault.interrupt = true;
    snprintf(path, sizeof(path), "%s/t.lance", folder);
    EXPECT_OK(run(&fault.env, path, &outcome, &err));
    check_disk(path, &outcome);
    temp_dir_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_that_fails_is_told),
        cmocka_unit_test(every_file_call_that_fails_leaves_the_old_state_or_the_new),
        cmocka_unit_test(a_full_disk_leaves_the_old_state_or_the_new),
        cmocka_unit_test(short_and_interrupted_transfers_are_continued),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
