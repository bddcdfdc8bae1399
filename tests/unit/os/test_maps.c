/* Mapped files under a memory limit: what is given back, when, and that it still reads the same. */
#define _DEFAULT_SOURCE
#include "mly_cmocka.h"

#include "fault_env.h"
#include "os/os.h"
#include "temp_dir.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define FILE_BYTES ((size_t)64 << 20)

static char dir_path[TEMP_DIR_BYTES], file_path[TEMP_DIR_BYTES + 16];

static int make_file(void **state)
{
    (void)state;
    temp_dir_make(dir_path);
    snprintf(file_path, sizeof(file_path), "%s/f", dir_path);
    FILE *stream = fopen(file_path, "wb");
    static uint8_t block[1 << 16];
    assert_non_null(stream);
    for (size_t at = 0; at < FILE_BYTES; at += sizeof(block)) {
        memset(block, (int)(at / sizeof(block) % 251), sizeof(block));
        assert_int_equal(fwrite(block, 1, sizeof(block), stream), sizeof(block));
    }
    assert_int_equal(fclose(stream), 0);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    temp_dir_remove(dir_path);
    return 0;
}

/* The system's table with a limit of its own. */
struct limited {
    struct mly_mem *mem;
    struct mly_env env;
};

static void limit(struct limited *limited, uint64_t bytes_max)
{
    struct mly_error err;
    limited->mem = mly_mem_create_limited(mly_env_system()->mem, bytes_max);
    assert_non_null(limited->mem);
    limited->env = *mly_env_system();
    limited->env.mem = limited->mem;
    assert_int_equal(
        mly_maps_create(mly_env_system(), limited->mem, bytes_max, &limited->env.maps, &err),
        MLY_OK);
}

static void unlimit(struct limited *limited)
{
    mly_maps_destroy(limited->env.maps);
    assert_int_equal(atomic_load(&limited->mem->bytes), 0);
    mly_mem_let_go(limited->mem);
}

static void check_all(const struct mly_map *map)
{
    for (size_t at = 0; at < FILE_BYTES; at += 4096)
        assert_int_equal(map->data[at], (at >> 16) % 251);
}

static int64_t resident(void)
{
    const struct mly_env *env = mly_env_system();
    return env->resident_files(env->context);
}

static void what_is_beyond_the_limit_is_given_back_and_reads_the_same(void **state)
{
    (void)state;
    struct limited limited;
    struct mly_map map = {0};
    struct mly_error err;
    if (resident() < 0) skip(); /* a system that does not tell */
    limit(&limited, MLY_MAPS_BYTES_MIN);
    assert_int_equal(mly_file_map(&limited.env, MLY_AT_CWD, file_path, &map, &err), MLY_OK);
    check_all(&map);
    assert_true(resident() >= (int64_t)FILE_BYTES);
    mly_maps_trim(limited.env.maps);
    assert_true(resident() < (int64_t)MLY_MAPS_BYTES_MIN);
    check_all(&map);
    mly_map_close(&map);
    unlimit(&limited);
}

static void what_is_within_the_limit_stays(void **state)
{
    (void)state;
    struct limited limited;
    struct mly_map map = {0};
    struct mly_error err;
    if (resident() < 0) skip();
    limit(&limited, 2 * FILE_BYTES);
    assert_int_equal(mly_file_map(&limited.env, MLY_AT_CWD, file_path, &map, &err), MLY_OK);
    check_all(&map);
    mly_maps_trim(limited.env.maps);
    assert_true(resident() >= (int64_t)FILE_BYTES);
    /* What is in use otherwise is taken off: less is left. */
    void *own = mly_mem_alloc(limited.mem, FILE_BYTES + (FILE_BYTES >> 1));
    assert_non_null(own);
    mly_maps_trim(limited.env.maps);
    assert_true(resident() < (int64_t)FILE_BYTES);
    mly_mem_free(limited.mem, own);
    mly_map_close(&map);
    unlimit(&limited);
}

static int64_t plenty(void *context)
{
    (void)context;
    return INT64_MAX;
}

static int64_t unknown(void *context)
{
    (void)context;
    return -38; /* ENOSYS */
}

static size_t gone_count;
static int count_gone(void *context, const void *at, size_t bytes, enum mly_advice advice)
{
    (void)context;
    assert_non_null(at);
    assert_int_equal(bytes, FILE_BYTES);
    assert_int_equal(advice, MLY_ADVICE_GONE);
    gone_count++;
    return 0;
}

static void only_what_is_mapped_now_is_given_back(void **state)
{
    (void)state;
    struct mly_env env = *mly_env_system();
    struct mly_map maps[40];
    struct mly_maps *list;
    struct mly_error err;
    env.advise = count_gone;
    env.resident_files = plenty;
    assert_int_equal(mly_maps_create(&env, env.mem, 1, &list, &err), MLY_OK);
    struct mly_env with = env;
    with.maps = list;
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(mly_file_map(&with, MLY_AT_CWD, file_path, &maps[i], &err), MLY_OK);
    mly_maps_trim(list);
    assert_int_equal(gone_count, 40);
    for (size_t i = 0; i < 40; i += 2)
        mly_map_close(&maps[i]);
    gone_count = 0;
    mly_maps_trim(list);
    assert_int_equal(gone_count, 20);
    for (size_t i = 1; i < 40; i += 2)
        mly_map_close(&maps[i]);
    gone_count = 0;
    mly_maps_trim(list);
    env.resident_files = unknown;
    mly_maps_trim(list);
    mly_maps_trim(NULL);
    assert_int_equal(gone_count, 0);
    mly_maps_destroy(list);
    mly_maps_destroy(NULL);
}

static void memory_that_runs_out_leaves_nothing_mapped(void **state)
{
    (void)state;
    struct fault_env fault;
    enum mly_err rc = MLY_ERR_NOMEM;
    fault_env_init(&fault);
    for (uint64_t n = 1; rc != MLY_OK; n++) {
        struct mly_maps *list = NULL;
        struct mly_map map = {0};
        struct mly_error err;
        assert_true(n < 100);
        fault_env_reset(&fault);
        atomic_store(&fault.mem.fail_at, n);
        rc = mly_maps_create(&fault.env, &fault.mem, 1, &list, &err);
        struct mly_env with = fault.env;
        with.maps = list;
        if (rc == MLY_OK) rc = mly_file_map(&with, MLY_AT_CWD, file_path, &map, &err);
        if (rc != MLY_OK) assert_int_equal(rc, MLY_ERR_NOMEM);
        mly_map_close(&map);
        mly_maps_destroy(list);
        assert_int_equal(atomic_load(&fault.open_count), 0);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_beyond_the_limit_is_given_back_and_reads_the_same),
        cmocka_unit_test(what_is_within_the_limit_stays),
        cmocka_unit_test(only_what_is_mapped_now_is_given_back),
        cmocka_unit_test(memory_that_runs_out_leaves_nothing_mapped),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
