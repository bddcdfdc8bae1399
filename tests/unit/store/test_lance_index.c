/* The index of the table's own format in a store: made where it is due and not otherwise, beside
 * rows that come and go, with whatever fails; and the rows of some documents, for searches. */
#define _GNU_SOURCE
#include "store_place.h"

#include "fault_env.h"
#include "store/store_state_int.h"
#include "test_pace.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MANY 40u /* documents: more than 256 chunks */

static struct fault_env fault;

static int set_up_faults(void **state)
{
    fault_env_init(&fault);
    return set_up(state);
}

static int tear_down_faults(void **state)
{
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    return tear_down(state);
}

/* No other index is made beside it. */
static struct mly_store_options options_of(const char *kern)
{
    struct mly_store_options options = case_options();
    options.kern = kern == NULL ? NULL : mly_kern_pick(kern);
    options.index_rows_min = UINT32_MAX;
    return options;
}

static struct mly_store *open_with(const struct mly_env *env, struct mly_store_options options)
{
    struct mly_store *store = NULL;
    case_ok(mly_store_open(env, folder, &options, &store, &err), &err);
    return store;
}

static struct mly_store *open_one(void)
{
    return open_with(&fault.env, options_of("scalar"));
}

/* Documents first to first + count - 1, in the tables. */
static void put_many(struct mly_store *store, uint32_t first, uint32_t count)
{
    static struct case_document documents[MANY];
    struct mly_change changes[MANY];
    for (uint32_t i = 0; i < count; i++) {
        case_make(&documents[i], first + i, 8, 0);
        changes[i] = case_change(&documents[i]);
        changes[i].dim = CASE_DIM;
    }
    case_ok(case_commit(store, changes, count, &err), &err);
    case_ok(mly_store_checkpoint(store, &err), &err);
}

static struct mly_store_lance_index state_of(struct mly_store *store)
{
    struct mly_store_lance_index state;
    case_ok(mly_store_get_lance_index(store, &state, &err), &err);
    return state;
}

static bool make(struct mly_store *store, bool check)
{
    bool made;
    case_ok(mly_store_make_lance_index(store, NULL, check, NULL, NULL, &made, &err), &err);
    return made;
}

static uint64_t count_chunks(struct mly_store *store)
{
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &counts);
    mly_snapshot_release(snapshot);
    return counts.chunks;
}

static void it_is_made_where_it_is_due(void **state)
{
    (void)state;
    struct mly_store *store = open_one();
    assert_false(make(store, false)); /* there is no table */
    assert_false(state_of(store).is_there);
    put_many(store, 1, 3);
    assert_false(make(store, true)); /* too few rows */
    put_many(store, 1, MANY);
    const uint64_t rows = count_chunks(store);
    assert_true(rows >= 256);
    assert_true(make(store, false));
    assert_false(make(store, true));
    assert_true(state_of(store).is_there && state_of(store).is_ivf_pq);
    assert_int_equal(state_of(store).rows, rows);
    assert_int_equal(state_of(store).pending, 0);
    assert_true(state_of(store).bytes > 0);
    put_many(store, 1, 1); /* one replaced: far from due */
    assert_false(make(store, false));
    assert_true(state_of(store).pending > 0);
    case_ok(case_remove(store, 2, &err), &err);
    assert_true(state_of(store).rows < rows);
    put_many(store, MANY + 1, MANY / 4);
    assert_true(make(store, false));
    assert_int_equal(state_of(store).rows, count_chunks(store));
    case_ok(mly_store_close(store, &err), &err);
    store = open_one();
    assert_int_equal(state_of(store).rows, count_chunks(store));
    case_ok(mly_store_close(store, &err), &err);
}

static void those_who_may_not_make_it_do_not(void **state)
{
    (void)state;
    bool made = true;
    struct mly_store *store = open_with(&fault.env, options_of(NULL));
    put_many(store, 1, MANY);
    assert_false(make(store, false)); /* without kernels */
    case_ok(mly_store_close(store, &err), &err);
    struct mly_store_options options = options_of("scalar");
    options.read_only = true;
    store = open_with(&fault.env, options);
    assert_int_equal(mly_store_make_lance_index(store, NULL, false, NULL, NULL, &made, &err),
                     MLY_ERR_READONLY);
    assert_false(made);
    case_ok(mly_store_close(store, &err), &err);
    options = options_of("scalar");
    options.durability = MLY_DURABILITY_MEMORY;
    store = open_with(&fault.env, options);
    put_many(store, 1, MANY);
    assert_false(make(store, false));
    assert_false(state_of(store).is_there);
    case_ok(mly_store_close(store, &err), &err);
}

/* ---- what comes between ---- */

struct meanwhile {
    struct mly_store *other;
    uint64_t pulses, at;
    uint32_t rounds;
    bool cancel;
};

static enum mly_err go_on(void *context, double done, struct mly_error *why)
{
    struct meanwhile *meanwhile = context;
    assert_true(done >= 0 && done <= 1);
    if (++meanwhile->pulses != meanwhile->at) return MLY_OK;
    if (meanwhile->cancel) return mly_fail(why, MLY_ERR_CANCELLED, "enough");
    for (uint32_t i = 0; i < meanwhile->rounds; i++) {
        case_ok(case_put(meanwhile->other, 100 + i, 3, &err), &err);
        case_ok(mly_store_checkpoint(meanwhile->other, &err), &err);
    }
    return MLY_OK;
}

static void whoever_ends_it_leaves_nothing(void **state)
{
    (void)state;
    struct mly_store *store = open_one();
    bool made;
    put_many(store, 1, MANY);
    enum mly_err rc = MLY_ERR_CANCELLED;
    struct meanwhile meanwhile = {.cancel = true};
    for (uint64_t at = 1; rc != MLY_OK; at++) {
        meanwhile.at = at;
        meanwhile.pulses = 0;
        rc = mly_store_make_lance_index(store, NULL, false, go_on, &meanwhile, &made, &err);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_CANCELLED);
        assert_false(made || state_of(store).is_there);
    }
    assert_true(made && meanwhile.at > 5);
    case_ok(mly_store_close(store, &err), &err);
}

/* Fragments that went meanwhile stay named in it; what came is not in it. */
static void others_write_on_while_it_is_made(void **state)
{
    (void)state;
    for (uint32_t rounds = 1; rounds <= 20; rounds += 19) { /* so many that they are merged */
        struct mly_store *store = open_one(), *other = open_one();
        bool made;
        put_many(store, 1, MANY);
        const uint64_t rows = count_chunks(store);
        struct meanwhile meanwhile = {.other = other, .at = 3, .rounds = rounds};
        case_ok(mly_store_make_lance_index(store, NULL, false, go_on, &meanwhile, &made, &err),
                &err);
        assert_true(made);
        assert_true(count_chunks(store) > rows);
        assert_true(state_of(store).rows + state_of(store).pending == count_chunks(store));
        assert_true(state_of(store).pending > 0);
        case_ok(mly_store_close(other, &err), &err);
        case_ok(mly_store_close(store, &err), &err);
        temp_dir_remove(folder);
    }
}

/* ---- failures and damage ---- */

static void every_failure_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    const char *wanted = getenv("MLY_TEST_STEP");
    const uint64_t step = (wanted == NULL ? 11 : strtoull(wanted, NULL, 10)) * TEST_PACE(1, 5, 9);
    uint64_t runs = 0;
    struct mly_store *store = open_with(mly_env_system(), options_of("scalar"));
    put_many(store, 1, MANY);
    case_ok(mly_store_close(store, &err), &err);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        bool fired = true;
        for (uint64_t at = 1; fired; at += step, runs++) {
            bool made;
            char path[TEMP_DIR_BYTES + 40];
            fault_env_reset(&fault);
            store = open_one();
            fault.fail_errno = at % 2 == 0 ? EIO : ENOSPC;
            if (of_memory == 1) fault.mem.fail_at = fault.mem.calls + at;
            if (of_memory == 0) fault.fail_at = fault.calls + at;
            err.message[0] = '\0';
            enum mly_err rc =
                mly_store_make_lance_index(store, NULL, true, NULL, NULL, &made, &err);
            fired = of_memory == 1 ? fault.mem.calls >= fault.mem.fail_at
                                   : fault.calls >= fault.fail_at;
            fault.fail_at = 0;
            fault.mem.fail_at = 0;
            assert_true(rc == MLY_OK || (fired && err.message[0] != '\0'));
            if (made) assert_int_equal(state_of(store).pending, 0);
            (void)make(store, true);
            assert_int_equal(state_of(store).rows, count_chunks(store));
            (void)mly_store_close(store, NULL);
            /* To be made again. */
            snprintf(path, sizeof(path), "%s/chunks.lance/_indices", folder);
            temp_dir_remove(path);
        }
    }
    print_message("ran: %llu failures\n", (unsigned long long)runs);
}

/* ---- selections ---- */

static uint64_t count_selected(const struct mly_snapshot *snapshot,
                               const struct mly_selection *selection)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < mly_snapshot_block_count(snapshot); i++) {
        struct mly_vector_block block;
        case_ok(mly_snapshot_get_block(snapshot, i, &block, &err), &err);
        for (size_t row = 0;;) {
            size_t count = mly_selection_run(selection, &block, &row);
            if (count == 0) break;
            rows += count;
            row += count;
        }
    }
    return rows;
}

static void rows_of_named_documents_are_selected(void **state)
{
    (void)state;
    struct mly_store *store = open_one();
    struct mly_snapshot *snapshot;
    char names[MANY][32];
    struct mly_str ids[MANY];
    put_many(store, 1, MANY);
    case_ok(case_remove(store, 3, &err), &err);
    case_ok(case_put(store, 5, 9, &err), &err); /* its rows are in the log alone */
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    for (uint32_t i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof(names[i]), "document-%u", i < 8 ? 1 + i / 2 * 2 : 900 + i);
        ids[i] = mly_str_of(names[i]);
    }
    static const size_t counts[] = {0, 1, 8, MANY};
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        struct mly_selection *selection = NULL;
        size_t wanted = 0;
        for (size_t i = 0; i < counts[c]; i += 2) { /* each is named twice */
            size_t rows;
            case_ok(mly_snapshot_count_chunks(snapshot, ids[i], &rows, &err), &err);
            wanted += rows;
        }
        enum mly_err rc = MLY_ERR_NOMEM;
        for (uint64_t at = 1; rc != MLY_OK; at++) {
            int64_t live = fault.mem.live;
            fault.mem.fail_at = fault.mem.calls + at;
            rc = mly_snapshot_select(snapshot, ids, counts[c], &selection, &err);
            fault.mem.fail_at = 0;
            if (rc == MLY_OK) break;
            assert_int_equal(rc, MLY_ERR_NOMEM);
            assert_int_equal(fault.mem.live, live);
        }
        assert_int_equal(mly_selection_row_count(selection), wanted);
        assert_int_equal(count_selected(snapshot, selection), wanted);
        assert_true((counts[c] == 0) == (wanted == 0));
        mly_selection_destroy(selection);
    }
    mly_selection_destroy(NULL);
    mly_snapshot_release(snapshot);
    case_ok(mly_store_close(store, &err), &err);
}

int main(void)
{
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up_faults, tear_down_faults)
    const struct CMUnitTest tests[] = {
        TEST(it_is_made_where_it_is_due),
        TEST(those_who_may_not_make_it_do_not),
        TEST(whoever_ends_it_leaves_nothing),
        TEST(others_write_on_while_it_is_made),
        TEST(every_failure_leaves_the_old_or_the_new),
        TEST(rows_of_named_documents_are_selected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
