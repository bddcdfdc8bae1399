/* Sums of files of every awkward length: written, read, checked block by block; every changed byte
 * of a file and of its sums is found, every allocation and file call may fail, power cuts leave no
 * half of them that passes for whole. */
#include "sums/sums.h"

#include "crash_env.h"
#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK MLY_SUMS_BLOCK_BYTES
#define BYTES_MAX (3 * BLOCK + 100)

static uint8_t data[BYTES_MAX];
static char folder[TEMP_DIR_BYTES], file_path[TEMP_DIR_BYTES + 8], sums_path[TEMP_DIR_BYTES + 8];

static int make_folder(void **state)
{
    (void)state;
    uint64_t seed = 3;
    temp_dir_make(folder);
    snprintf(file_path, sizeof(file_path), "%s/file", folder);
    snprintf(sums_path, sizeof(sums_path), "%s/sums", folder);
    for (size_t i = 0; i < BYTES_MAX; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        data[i] = (uint8_t)(seed >> 56);
    }
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static void ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("%s", err->message);
}

static void every_length_comes_back(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 99};
    const struct mly_env *env = mly_env_system();
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct mly_sums made = {0};
        struct mly_sums sums = {0};
        struct mly_error err = {0};
        temp_dir_write(folder, "file", data, lengths[i]);
        ok(mly_sums_make(env->mem, data, lengths[i], &made, &err), &err);
        ok(mly_sums_write(env, sums_path, &made, &err), &err);
        ok(mly_sums_read(env, sums_path, &sums, &err), &err);
        assert_int_equal(sums.block_count, (lengths[i] + BLOCK - 1) / BLOCK);
        if (sums.block_count > 0) {
            assert_memory_equal(sums.sums, made.sums, 4 * sums.block_count);
        }
        ok(mly_sums_verify(env, &sums, file_path, NULL, &err), &err);
        ok(mly_sums_check(&sums, data, lengths[i], 0, lengths[i], "file", &err), &err);
        assert_int_equal(mly_sums_check(&sums, data, lengths[i] + 1, 0, lengths[i], "file", &err),
                         MLY_ERR_CORRUPT);
        assert_int_equal(mly_sums_check(&sums, data, lengths[i], 1, lengths[i], "file", &err),
                         MLY_ERR_INVAL);
        mly_sums_deinit(&sums);
        mly_sums_deinit(&made);
    }
}

static void a_block_is_checked_once_and_alone(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    struct mly_sums made = {0};
    struct mly_sums sums = {0};
    struct mly_error err = {0};
    ok(mly_sums_make(env->mem, data, BYTES_MAX, &made, &err), &err);
    ok(mly_sums_write(env, sums_path, &made, &err), &err);
    ok(mly_sums_read(env, sums_path, &sums, &err), &err);
    data[BLOCK + 5] ^= 1;
    ok(mly_sums_check(&sums, data, BYTES_MAX, 0, BLOCK, "file", &err), &err);
    ok(mly_sums_check(&sums, data, BYTES_MAX, 2 * BLOCK, 10, "file", &err), &err);
    assert_int_equal(mly_sums_check(&sums, data, BYTES_MAX, BLOCK - 1, 2, "the file", &err),
                     MLY_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "the file: bytes 65536 to 131071"));
    assert_int_equal(mly_sums_check(&sums, data, BYTES_MAX, BLOCK, 1, "file", &err),
                     MLY_ERR_CORRUPT); /* again: it was not marked */
    data[BLOCK + 5] ^= 1;
    ok(mly_sums_check(&sums, data, BYTES_MAX, BLOCK - 1, 2, "file", &err), &err);
    data[BLOCK + 5] ^= 1;
    ok(mly_sums_check(&sums, data, BYTES_MAX, BLOCK, 1, "file", &err), &err); /* known by now */
    uint64_t bad = 0;
    temp_dir_write(folder, "file", data, BYTES_MAX);
    assert_int_equal(mly_sums_verify(env, &sums, file_path, &bad, &err), MLY_ERR_CORRUPT);
    assert_int_equal(bad, 1);
    data[BLOCK + 5] ^= 1;
    temp_dir_write(folder, "file", data, BLOCK);
    assert_int_equal(mly_sums_verify(env, &sums, file_path, &bad, &err), MLY_ERR_CORRUPT);
    mly_sums_deinit(&sums);
    mly_sums_deinit(&made);
}

static void every_changed_byte_is_found(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    struct mly_error err = {0};
    struct mly_sums made = {0};
    const size_t bytes = BLOCK + 3000;
    ok(mly_sums_make(env->mem, data, bytes, &made, &err), &err);
    for (size_t i = 0; i < bytes; i += i % 97 == 0 ? 1 : 13) {
        atomic_store(&made.checked[0], 0);
        atomic_store(&made.checked[1], 0);
        data[i] ^= (uint8_t)(1u << i % 8);
        assert_int_equal(mly_sums_check(&made, data, bytes, 0, bytes, "file", &err),
                         MLY_ERR_CORRUPT);
        data[i] ^= (uint8_t)(1u << i % 8);
    }
    ok(mly_sums_write(env, sums_path, &made, &err), &err);
    uint8_t kept[100];
    struct mly_file file;
    struct mly_file_info info;
    ok(mly_file_open(env, MLY_AT_CWD, sums_path, MLY_OPEN_WRITE, &file, &err), &err);
    ok(mly_file_info(&file, &info, &err), &err);
    assert_int_equal(info.bytes, 56);
    ok(mly_file_read(&file, kept, 56, 0, &err), &err);
    for (size_t i = 0; i < 56 * 8; i++) {
        struct mly_sums sums = {0};
        uint8_t byte = kept[i / 8] ^ (uint8_t)(1u << i % 8);
        ok(mly_file_write(&file, &byte, 1, i / 8, &err), &err);
        assert_int_equal(mly_sums_read(env, sums_path, &sums, &err), MLY_ERR_CORRUPT);
        ok(mly_file_write(&file, &kept[i / 8], 1, i / 8, &err), &err);
    }
    for (uint64_t cut = 0; cut < 56; cut++) {
        struct mly_sums sums = {0};
        ok(mly_file_truncate(&file, cut, &err), &err);
        assert_int_equal(mly_sums_read(env, sums_path, &sums, &err), MLY_ERR_CORRUPT);
        ok(mly_file_write(&file, kept, 56, 0, &err), &err);
    }
    mly_file_close(&file);
    mly_sums_deinit(&made);
}

static enum mly_err live(const struct mly_env *env, struct mly_error *err)
{
    struct mly_sums made = {0};
    struct mly_sums sums = {0};
    enum mly_err rc = mly_sums_make(env->mem, data, BYTES_MAX, &made, err);
    if (rc == MLY_OK) rc = mly_sums_write(env, sums_path, &made, err);
    if (rc == MLY_OK) rc = mly_sums_read(env, sums_path, &sums, err);
    if (rc == MLY_OK) rc = mly_sums_verify(env, &sums, file_path, NULL, err);
    mly_sums_deinit(&sums);
    mly_sums_deinit(&made);
    return rc;
}

static void every_call_and_allocation_may_fail(void **state)
{
    (void)state;
    temp_dir_write(folder, "file", data, BYTES_MAX);
    for (int kind = 0; kind < 2; kind++) {
        bool fired = true;
        for (uint64_t fail_at = 1; fired; fail_at++) {
            struct fault_env fault;
            struct mly_error err = {0};
            fault_env_init(&fault);
            if (kind == 0) fault.fail_at = fail_at;
            if (kind == 1) fault.mem.fail_at = fail_at;
            enum mly_err rc = live(&fault.env, &err);
            fired = kind == 0 ? fault.calls >= fail_at : fault.mem.calls >= fail_at;
            bool close_only = kind == 0 && fired && strcmp(fault.failed_call, "close") == 0;
            if (fired && !close_only) {
                assert_int_not_equal(rc, MLY_OK);
                assert_true(err.message[0] != '\0');
            } else {
                ok(rc, &err);
            }
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
        }
    }
}

static bool check_cut(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct mly_sums sums = {0};
    struct mly_error err = {0};
    const struct mly_sums *made = context;
    (void)choice;
    /* There are none, or all of them, or it is seen that they are not whole. */
    enum mly_err rc = mly_sums_read(&after->env, "/sums", &sums, &err);
    bool legal = rc == MLY_ERR_NOTFOUND || rc == MLY_ERR_CORRUPT;
    if (rc == MLY_OK) {
        legal = sums.block_count == made->block_count &&
                memcmp(sums.sums, made->sums, 4 * sums.block_count) == 0;
    }
    mly_sums_deinit(&sums);
    return legal;
}

static void power_cuts_leave_what_is_told_from_whole_sums(void **state)
{
    (void)state;
    struct crash_env crash;
    struct mly_error err = {0};
    struct mly_sums made = {0};
    uint64_t states = 0;
    crash_env_init(&crash);
    ok(mly_sums_make(&crash.mem, data, BYTES_MAX, &made, &err), &err);
    ok(mly_sums_write(&crash.env, "/sums", &made, &err), &err);
    ok(mly_sums_write(&crash.env, "/sums", &made, &err), &err);
    assert_true(crash_env_each(&crash, (struct crash_effort){0, CRASH_ALL_SINGLES, 20, 0, 0},
                               check_cut, &made, &states));
    assert_true(states > 20);
    mly_sums_deinit(&made);
    crash_env_deinit(&crash);
}

static void sums_made_while_writing_are_the_same(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK + 99};
    static const size_t steps[] = {1000, BLOCK, BLOCK - 1, 2 * BLOCK + 1, BYTES_MAX};
    struct mly_mem mem = MLY_MEM_INIT;
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct mly_sums made = {0};
        struct mly_error err = {0};
        ok(mly_sums_make(&mem, data, lengths[i], &made, &err), &err);
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            struct mly_sums_maker maker;
            struct mly_sums sums = {0};
            mly_sums_maker_init(&maker, &mem);
            for (size_t at = 0; at < lengths[i]; at += steps[j]) {
                size_t bytes = lengths[i] - at < steps[j] ? lengths[i] - at : steps[j];
                ok(mly_sums_maker_add(&maker, data + at, bytes, &err), &err);
            }
            ok(mly_sums_maker_finish(&maker, &sums, &err), &err);
            assert_int_equal(sums.file_bytes, lengths[i]);
            assert_int_equal(sums.block_count, made.block_count);
            if (made.block_count > 0) {
                assert_memory_equal(sums.sums, made.sums, 4 * made.block_count);
            }
            mly_sums_deinit(&sums);
            mly_sums_maker_deinit(&maker);
        }
        mly_sums_deinit(&made);
    }
    /* A request that fails is told, and the blocks before it are not lost. */
    struct mly_sums_maker maker;
    struct mly_error err = {0};
    mly_sums_maker_init(&maker, &mem);
    mem.fail_at = mem.calls + 1;
    assert_int_equal(mly_sums_maker_add(&maker, data, BLOCK, &err), MLY_ERR_NOMEM);
    assert_int_equal(maker.file_bytes, 0);
    mly_sums_maker_deinit(&maker);
    assert_int_equal(mem.live, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_length_comes_back),
        TEST(a_block_is_checked_once_and_alone),
        TEST(every_changed_byte_is_found),
        TEST(every_call_and_allocation_may_fail),
        TEST(power_cuts_leave_what_is_told_from_whole_sums),
        TEST(sums_made_while_writing_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
