/* How a store keeps its index up: what is measured again, and when. */
#include "index_place.h"

static struct mly_store_index_state state_of(struct mly_store *store)
{
    struct mly_store_index_state state;
    struct mly_error err = {0};
    index_ok(mly_store_get_index_state(store, &state, &err), &err);
    return state;
}

/* Rows that died are not looked at: cells of the others may be further apart than they were. */
static void recall_is_measured_again_when_a_tenth_of_the_rows_went(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_store *store = open_store(false);
    index_ok(index_put(store, 0, 12, 1, &err), &err);
    index_ok(mly_store_checkpoint(store, &err), &err);
    index_ok(index_make(store, &err), &err);
    struct mly_store_index_state at = state_of(store);
    assert_true(at.is_measured && at.guard.samples > 0);
    assert_int_equal(at.guard.rows, 12 * INDEX_ROWS_EACH);
    const uint64_t cells = at.cells, bytes = at.segment_bytes;

    index_ok(index_remove(store, 3, 1, &err), &err);
    index_ok(mly_store_checkpoint(store, &err), &err);
    index_ok(index_make(store, &err), &err);
    at = state_of(store);
    assert_true(at.is_measured);
    assert_int_equal(at.guard.rows, 12 * INDEX_ROWS_EACH);

    index_ok(index_remove(store, 5, 1, &err), &err);
    index_ok(mly_store_checkpoint(store, &err), &err);
    index_ok(index_make(store, &err), &err);
    at = state_of(store);
    assert_true(at.is_measured && !at.is_due);
    assert_int_equal(at.guard.rows, 10 * INDEX_ROWS_EACH);
    assert_true(at.cells == cells && at.segment_bytes == bytes); /* nothing was made for it */
    index_ok(index_look(mly_env_system(), store, NULL, &err), &err);
    index_ok(mly_store_close(store, &err), &err);

    /* It stands beside the segment. */
    store = open_store(true);
    at = state_of(store);
    assert_int_equal(at.guard.rows, 10 * INDEX_ROWS_EACH);
    assert_true(at.is_measured);
    index_ok(mly_store_close(store, &err), &err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(recall_is_measured_again_when_a_tenth_of_the_rows_went),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
