/* What the allocator counts, and what it refuses. */
#include "mly_cmocka.h"

#include "base/mem.h"

#include <string.h>

static void bytes_are_counted_as_they_were_asked_for(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    void *plain = mly_mem_alloc(&mem, 100);
    void *array = mly_mem_array(&mem, 10, 7);
    void *aligned = mly_mem_alloc_aligned(&mem, 1000);
    void *empty = mly_mem_alloc(&mem, 0);
    assert_int_equal(mem.bytes, 1170);
    assert_int_equal(mem.live, 4);
    assert_int_equal((uintptr_t)aligned % 64, 0);
    assert_int_equal((uintptr_t)plain % 16, 0);
    plain = mly_mem_realloc(&mem, plain, 50);
    assert_int_equal(mem.bytes, 1120);
    mly_mem_free(&mem, plain);
    mly_mem_free(&mem, array);
    mly_mem_free(&mem, aligned);
    mly_mem_free(&mem, empty);
    mly_mem_free(&mem, NULL);
    assert_int_equal(mem.bytes, 0);
    assert_int_equal(mem.live, 0);
}

static void blocks_that_move_keep_what_is_in_them(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    for (int aligned = 0; aligned < 2; aligned++) {
        unsigned char *block =
            aligned ? mly_mem_alloc_aligned(&mem, 300) : mly_mem_alloc(&mem, 300);
        for (int i = 0; i < 300; i++) {
            block[i] = (unsigned char)i;
        }
        block = mly_mem_realloc(&mem, block, 100000);
        for (int i = 0; i < 300; i++) {
            assert_int_equal(block[i], (unsigned char)i);
        }
        memset(block, 7, 100000);
        block = mly_mem_realloc(&mem, block, 10);
        assert_int_equal(block[9], 7);
        assert_int_equal(mem.bytes, 10);
        mly_mem_free(&mem, block);
    }
    assert_int_equal(mem.bytes, 0);
    assert_int_equal(mem.live, 0);
}

static void a_limit_is_never_passed_and_a_refusal_changes_nothing(void **state)
{
    (void)state;
    struct mly_mem above = MLY_MEM_INIT;
    struct mly_mem *mem = mly_mem_create_limited(&above, 1000);
    const uint64_t before = above.bytes;
    char *block = mly_mem_alloc(mem, 600);
    assert_non_null(block);
    block[0] = 'x';
    assert_null(mly_mem_alloc(mem, 401));
    assert_null(mly_mem_alloc_aligned(mem, 401));
    assert_null(mly_mem_array(mem, 401, 1));
    assert_null(mly_mem_alloc(mem, SIZE_MAX));
    assert_null(mly_mem_alloc(mem, SIZE_MAX - 8));
    assert_null(mly_mem_alloc_aligned(mem, SIZE_MAX));
    /* What moves may be there twice for a while. */
    assert_null(mly_mem_realloc(mem, block, 601));
    assert_int_equal(block[0], 'x');
    assert_int_equal(mem->bytes, 600);
    assert_int_equal(above.bytes, before + 600);
    void *rest = mly_mem_alloc(mem, 400);
    assert_non_null(rest);
    mly_mem_free(mem, rest);
    mly_mem_free(mem, block);
    assert_int_equal(above.bytes, before);
    mly_mem_let_go(mem);
    assert_int_equal(above.bytes, 0);
    assert_int_equal(above.live, 0);
}

static void an_allocator_is_gone_with_its_last_block(void **state)
{
    (void)state;
    struct mly_mem above = MLY_MEM_INIT;
    struct mly_mem *mem = mly_mem_create_limited(&above, 1000);
    void *block = mly_mem_alloc(mem, 10);
    mly_mem_let_go(mem);
    assert_int_equal(above.live, 2);
    void *late = mly_mem_alloc(mem, 10); /* whoever has a block may have more */
    mly_mem_free(mem, block);
    assert_int_equal(above.live, 2);
    mly_mem_free(mem, late);
    assert_int_equal(above.live, 0);
    assert_int_equal(above.bytes, 0);
    mly_mem_let_go(NULL);
}

static void failures_above_are_failures_below(void **state)
{
    (void)state;
    struct mly_mem above = MLY_MEM_INIT;
    struct mly_mem *mem = mly_mem_create_limited(&above, 1000);
    above.fail_at = above.calls + 2;
    void *block = mly_mem_alloc(mem, 10);
    assert_non_null(block);
    assert_null(mly_mem_alloc(mem, 10));
    assert_int_equal(mem->bytes, 10);
    assert_int_equal(mem->live, 2); /* the block, and who made the allocator */
    mly_mem_free(mem, block);
    mly_mem_let_go(mem);
    above.fail_at = above.calls + 1;
    assert_null(mly_mem_create_limited(&above, 1000));
    assert_int_equal(above.live, 0);
    assert_int_equal(above.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_counted_as_they_were_asked_for),
        cmocka_unit_test(blocks_that_move_keep_what_is_in_them),
        cmocka_unit_test(a_limit_is_never_passed_and_a_refusal_changes_nothing),
        cmocka_unit_test(an_allocator_is_gone_with_its_last_block),
        cmocka_unit_test(failures_above_are_failures_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
