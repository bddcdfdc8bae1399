/* Buffers and arenas: growth, ceilings, and every allocation failing in turn. */
#include "mly_cmocka.h"

#include "base/arena.h"
#include "base/bytes.h"
#include "base/hash.h"

#include <string.h>

static void a_buffer_grows_up_to_its_ceiling_and_not_beyond(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes buffer;
    mly_bytes_init(&buffer, &mem, 1000);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(mly_bytes_append(&buffer, "0123456789", 10, &err), MLY_OK);
    }
    assert_int_equal(mly_bytes_append(&buffer, "x", 1, &err), MLY_ERR_LIMIT);
    assert_non_null(strstr(err.message, "1000"));
    assert_int_equal(buffer.bytes, 1000);
    assert_memory_equal(buffer.data + 990, "0123456789", 10);
    mly_bytes_deinit(&buffer);
    assert_int_equal(mem.live, 0);
}

static void a_buffer_keeps_its_content_when_memory_fails(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes buffer;
    mly_bytes_init(&buffer, &mem, SIZE_MAX);
    assert_int_equal(mly_bytes_append(&buffer, "abc", 3, &err), MLY_OK);
    atomic_store(&mem.fail_at, atomic_load(&mem.calls) + 1);
    char big[4096] = {0};
    assert_int_equal(mly_bytes_append(&buffer, big, sizeof(big), &err), MLY_ERR_NOMEM);
    assert_true(err.message[0] != '\0');
    assert_int_equal(buffer.bytes, 3);
    assert_memory_equal(buffer.data, "abc", 3);
    mly_bytes_deinit(&buffer);
    assert_int_equal(mem.live, 0);
}

static void a_buffer_refuses_sizes_that_do_not_add_up(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    struct mly_bytes buffer;
    mly_bytes_init(&buffer, &mem, SIZE_MAX);
    assert_int_equal(mly_bytes_append(&buffer, "abc", 3, &err), MLY_OK);
    assert_int_equal(mly_bytes_reserve(&buffer, SIZE_MAX - 1, &err), MLY_ERR_LIMIT);
    mly_bytes_deinit(&buffer);
}

static void an_arena_gives_aligned_pieces_and_frees_them_all(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    mly_arena_init(&arena, &mem, (size_t)1 << 23);
    for (size_t i = 0; i < 3000; i++) {
        unsigned char *piece = mly_arena_take(&arena, i);
        assert_non_null(piece);
        assert_int_equal((uintptr_t)piece % 16, 0);
        memset(piece, 0xAA, i);
    }
    assert_null(mly_arena_take(&arena, (size_t)1 << 23));
    assert_null(mly_arena_array(&arena, SIZE_MAX / 2, 3));
    mly_arena_reset(&arena);
    assert_int_equal(mem.live, 1);
    struct mly_str copy = mly_arena_copy(&arena, MLY_STR("text"));
    assert_string_equal(copy.data, "text");
    mly_arena_deinit(&arena);
    assert_int_equal(mem.live, 0);
}

/* So that tests can fail each of them. */
static void of_tight_memory_every_piece_is_a_request(void **state)
{
    (void)state;
    struct mly_mem above = MLY_MEM_INIT;
    above.tight = true;
    struct mly_mem *mem = mly_mem_create_limited(&above, 1 << 20);
    struct mly_arena arena;
    struct mly_bytes buffer;
    struct mly_error err;
    mly_arena_init(&arena, mem, (size_t)1 << 23);
    mly_bytes_init(&buffer, mem, SIZE_MAX);
    for (size_t i = 1; i <= 10; i++) {
        uint64_t before = mem->calls;
        assert_non_null(mly_arena_take(&arena, 16));
        assert_int_equal(mem->calls, before + 1);
        assert_int_equal(mly_bytes_append(&buffer, "x", 1, &err), MLY_OK);
        assert_int_equal(mem->calls, before + 2);
        assert_int_equal(buffer.capacity, i);
    }
    mly_bytes_deinit(&buffer);
    mly_arena_deinit(&arena);
    mly_mem_let_go(mem);
    assert_int_equal(above.live, 0);
}

static void sizes_that_overflow_are_seen(void **state)
{
    (void)state;
    size_t out = 7;
    assert_false(mly_size_mul(SIZE_MAX, 2, &out));
    assert_false(mly_size_add(SIZE_MAX, 1, &out));
    assert_int_equal(out, 7);
    assert_true(mly_size_mul(SIZE_MAX, 1, &out));
    struct mly_mem mem = MLY_MEM_INIT;
    assert_null(mly_mem_array(&mem, SIZE_MAX, 16));
    assert_int_equal(mem.live, 0);
}

static void hashes_are_those_of_the_specification(void **state)
{
    (void)state;
    /* b2sum -l 256 of "abc" */
    char hex[65];
    struct mly_hash hash = mly_hash_bytes(MLY_STR("abc"));
    mly_hash_to_hex(&hash, hex);
    assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
    struct mly_str ab_c[2] = {MLY_STR("ab"), MLY_STR("c")};
    struct mly_str a_bc[2] = {MLY_STR("a"), MLY_STR("bc")};
    struct mly_hash first = mly_hash_parts(ab_c, 2);
    struct mly_hash second = mly_hash_parts(a_bc, 2);
    assert_memory_not_equal(first.bytes, second.bytes, MLY_HASH_BYTES);
}

static void messages_are_cut_never_overrun(void **state)
{
    (void)state;
    char big[2000];
    memset(big, 'a', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    struct mly_error err = {0};
    assert_int_equal(mly_fail(&err, MLY_ERR_INVAL, "%s", big), MLY_ERR_INVAL);
    assert_int_equal(strlen(err.message), MLY_ERROR_BYTES - 1);
    assert_int_equal(mly_fail_in(&err, MLY_ERR_IO, "%s", big), MLY_ERR_INVAL);
    assert_int_equal(strlen(err.message), MLY_ERROR_BYTES - 1);
    assert_int_equal(mly_fail_errno(&err, MLY_ERR_IO, 2, "no %s", "file"), MLY_ERR_NOTFOUND);
    assert_int_equal(mly_fail(NULL, MLY_ERR_INVAL, "nobody listens"), MLY_ERR_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_grows_up_to_its_ceiling_and_not_beyond),
        cmocka_unit_test(a_buffer_keeps_its_content_when_memory_fails),
        cmocka_unit_test(a_buffer_refuses_sizes_that_do_not_add_up),
        cmocka_unit_test(an_arena_gives_aligned_pieces_and_frees_them_all),
        cmocka_unit_test(of_tight_memory_every_piece_is_a_request),
        cmocka_unit_test(sizes_that_overflow_are_seen),
        cmocka_unit_test(hashes_are_those_of_the_specification),
        cmocka_unit_test(messages_are_cut_never_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
