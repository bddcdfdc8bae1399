/* The key index alone: chains, runs, cutting back. */
#include "store/store_state_int.h"

#include "mly_cmocka.h"

static void rows_of_a_hash_are_found_and_no_others(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_keys keys;
    mly_keys_init(&keys, &mem);
    assert_int_equal(mly_keys_next(&keys, 5, MLY_KEY_END), MLY_KEY_END);
    for (uint32_t row = 0; row < 5000; row++) {
        assert_int_equal(mly_keys_add(&keys, row / 10 % 100, 1 + row / 1000, row % 1000, NULL),
                         MLY_OK);
    }
    for (uint32_t hash = 0; hash < 200; hash++) {
        size_t rows = 0;
        uint32_t last_serial = UINT32_MAX;
        for (uint32_t i = mly_keys_next(&keys, hash, MLY_KEY_END); i != MLY_KEY_END;
             i = mly_keys_next(&keys, hash, i)) {
            assert_int_equal(keys.runs[i].hash, hash);
            assert_int_equal(keys.runs[i].first, hash * 10);
            assert_int_equal(keys.runs[i].count, 10);
            assert_true(keys.runs[i].serial < last_serial); /* newest first */
            last_serial = keys.runs[i].serial;
            rows += keys.runs[i].count;
        }
        assert_int_equal(rows, hash < 100 ? 50 : 0);
    }
    mly_keys_deinit(&keys);
    assert_int_equal(mem.live, 0);
}

static void cutting_takes_back_the_newest_and_nothing_else(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_keys keys;
    mly_keys_init(&keys, &mem);
    for (uint32_t i = 0; i < 300; i++) {
        assert_int_equal(mly_keys_add(&keys, i % 7, 1, 2 * i, NULL), MLY_OK);
    }
    mly_keys_cut(&keys, 100);
    size_t rows = 0;
    for (uint32_t hash = 0; hash < 7; hash++) {
        for (uint32_t i = mly_keys_next(&keys, hash, MLY_KEY_END); i != MLY_KEY_END;
             i = mly_keys_next(&keys, hash, i)) {
            assert_true(i < 100);
            rows++;
        }
    }
    assert_int_equal(rows, 100);
    mly_keys_reset(&keys);
    assert_int_equal(keys.generation, 2);
    assert_int_equal(mly_keys_next(&keys, 0, MLY_KEY_END), MLY_KEY_END);
    mly_keys_deinit(&keys);
    assert_int_equal(mem.live, 0);
}

static void adding_survives_every_failing_allocation(void **state)
{
    (void)state;
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_keys keys;
        struct mly_error err = {0};
        mem.fail_at = fail_at;
        mly_keys_init(&keys, &mem);
        enum mly_err rc = MLY_OK;
        size_t added = 0;
        for (; rc == MLY_OK && added < 1000; added += rc == MLY_OK) {
            rc = mly_keys_add(&keys, (uint32_t)added * 77, 1, (uint32_t)added * 2, &err);
        }
        size_t found = 0;
        for (size_t i = 0; i < added; i++) {
            found += mly_keys_next(&keys, (uint32_t)i * 77, MLY_KEY_END) != MLY_KEY_END;
        }
        assert_int_equal(found, added);
        mly_keys_deinit(&keys);
        assert_int_equal(mem.live, 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_NOMEM);
        assert_true(err.message[0] != '\0');
    }
}

static void sorting_addresses_gives_each_once_in_order(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_store_rows rows;
    for (size_t count = 0; count < 200; count++) {
        mly_store_rows_init(&rows, &mem);
        uint64_t number = count + 1;
        for (size_t i = 0; i < count; i++) {
            number = number * 6364136223846793005u + 1442695040888963407u;
            assert_int_equal(mly_store_rows_add(&rows, number >> 57, NULL), MLY_OK);
        }
        bool wanted[128] = {false};
        size_t distinct = 0;
        for (size_t i = 0; i < count; i++) {
            distinct += !wanted[rows.items[i]];
            wanted[rows.items[i]] = true;
        }
        mly_store_rows_sort(&rows);
        assert_int_equal(rows.count, distinct);
        for (size_t i = 0; i < rows.count; i++) {
            assert_true(wanted[rows.items[i]]);
            if (i > 0) assert_true(rows.items[i - 1] < rows.items[i]);
        }
        mly_store_rows_deinit(&rows);
    }
    assert_int_equal(mem.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_hash_are_found_and_no_others),
        cmocka_unit_test(cutting_takes_back_the_newest_and_nothing_else),
        cmocka_unit_test(adding_survives_every_failing_allocation),
        cmocka_unit_test(sorting_addresses_gives_each_once_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
