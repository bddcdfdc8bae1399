/* Files and directories: short transfers, interruptions, every call failing in turn, and what is
 * left behind. */
#include "mly_cmocka.h"

#include "fault_env.h"
#include "os/os.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char dir_path[TEMP_DIR_BYTES];

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir_path);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir_path);
    return 0;
}

static const char *below(const char *name)
{
    static char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/%s", dir_path, name);
    return path;
}

/* Writes a file, reads it back by three ways, and removes it. */
static enum mly_err round_trip(const struct mly_env *env, struct mly_error *err)
{
    char data[1000];
    for (size_t i = 0; i < sizeof(data); i++) {
        data[i] = (char)i;
    }
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_map map = {0};
    struct mly_bytes bytes;
    mly_bytes_init(&bytes, env->mem, 4096);
    enum mly_err rc = mly_file_create(env, MLY_AT_CWD, below("f"), data, sizeof(data), err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_open(env, MLY_AT_CWD, below("f"), MLY_OPEN_READ, &file, err);
    if (rc != MLY_OK) goto done;
    rc = mly_file_read_all(&file, &bytes, err);
    if (rc != MLY_OK) goto done;
    assert_int_equal(bytes.bytes, sizeof(data));
    assert_memory_equal(bytes.data, data, sizeof(data));
    rc = mly_file_map(env, MLY_AT_CWD, below("f"), &map, err);
    if (rc != MLY_OK) goto done;
    assert_memory_equal(map.data, data, sizeof(data));
    rc = mly_dir_sync(env, MLY_AT_CWD, dir_path, err);
done:
    mly_map_close(&map);
    mly_file_close(&file);
    mly_bytes_deinit(&bytes);
    (void)mly_env_system()->unlink(NULL, MLY_AT_CWD, below("f"));
    return rc;
}

static void short_and_interrupted_transfers_are_continued(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    fault.short_transfers = true;
    atomic_store(&fault.interrupt, true);
    struct mly_error err = {0};
    assert_int_equal(round_trip(&fault.env, &err), MLY_OK);
    assert_true(atomic_load(&fault.interrupts) > 100);
    assert_int_equal(atomic_load(&fault.open_count), 0);
}

static void every_call_may_fail_and_nothing_leaks(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    uint64_t failures = 0;
    for (uint64_t fail_at = 1;; fail_at++) {
        fault_env_reset(&fault);
        atomic_store(&fault.fail_at, fail_at);
        struct mly_error err = {0};
        enum mly_err rc = round_trip(&fault.env, &err);
        assert_int_equal(atomic_load(&fault.open_count), 0);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        if (fault.failed_call == NULL) break;
        if (strcmp(fault.failed_call, "close") == 0)
            continue; /* nothing to report: it was synced */
        failures++;
        assert_int_equal(rc, MLY_ERR_IO);
        assert_int_equal(err.system_errno, EIO);
        assert_true(err.message[0] != '\0');
    }
    assert_true(failures >= 10);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct fault_env fault;
    fault_env_init(&fault);
    for (uint64_t fail_at = 1;; fail_at++) {
        fault_env_reset(&fault);
        atomic_store(&fault.mem.fail_at, fail_at);
        struct mly_error err = {0};
        enum mly_err rc = round_trip(&fault.env, &err);
        assert_int_equal(atomic_load(&fault.open_count), 0);
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_NOMEM);
    }
}

static void a_file_that_ends_early_is_damage(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    struct mly_error err = {0};
    assert_int_equal(mly_file_create(env, MLY_AT_CWD, below("s"), "abc", 3, &err), MLY_OK);
    assert_int_equal(mly_file_create(env, MLY_AT_CWD, below("s"), "abc", 3, &err), MLY_ERR_IO);
    struct mly_file file = MLY_FILE_CLOSED;
    assert_int_equal(mly_file_open(env, MLY_AT_CWD, below("s"), MLY_OPEN_READ, &file, &err),
                     MLY_OK);
    char out[8];
    assert_int_equal(mly_file_read(&file, out, 4, 0, &err), MLY_ERR_CORRUPT);
    struct mly_bytes bytes;
    mly_bytes_init(&bytes, env->mem, 2);
    assert_int_equal(mly_file_read_all(&file, &bytes, &err), MLY_ERR_LIMIT);
    mly_bytes_deinit(&bytes);
    mly_file_close(&file);
    assert_int_equal(mly_file_open(env, MLY_AT_CWD, below("none"), MLY_OPEN_READ, &file, &err),
                     MLY_ERR_NOTFOUND);
    assert_int_equal(mly_file_unlink(env, MLY_AT_CWD, below("none"), &err), MLY_OK);
}

static void folders_are_made_with_their_parents_and_private(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    struct mly_error err = {0};
    char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/a/b//c/", dir_path);
    assert_int_equal(mly_dir_make_all(env, path, &err), MLY_OK);
    assert_int_equal(mly_dir_make_all(env, path, &err), MLY_OK);
    struct mly_file_info info;
    assert_int_equal(mly_file_info_at(env, MLY_AT_CWD, path, false, &info, &err), MLY_OK);
    assert_int_equal(info.kind, MLY_KIND_DIR);
    assert_int_equal(info.mode, 0700);
    temp_dir_write(dir_path, "file", "x", 1);
    snprintf(path, sizeof(path), "%s/file", dir_path);
    assert_int_equal(mly_dir_make_all(env, path, &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "not a folder"));
}

static void a_lock_is_exclusive_and_dies_with_its_file(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    struct mly_error err = {0};
    struct mly_file first = MLY_FILE_CLOSED;
    struct mly_file second = MLY_FILE_CLOSED;
    uint32_t flags = MLY_OPEN_WRITE | MLY_OPEN_CREATE;
    assert_int_equal(mly_file_open(env, MLY_AT_CWD, below("lock"), flags, &first, &err), MLY_OK);
    assert_int_equal(mly_file_open(env, MLY_AT_CWD, below("lock"), flags, &second, &err), MLY_OK);
    assert_int_equal(mly_lock_take(&first, 0, 0, &err), MLY_OK);
    assert_int_equal(mly_lock_take(&second, 0, 20, &err), MLY_ERR_BUSY);
    assert_int_equal(mly_lock_take(&second, 1, 0, &err), MLY_OK);
    mly_file_close(&first);
    assert_int_equal(mly_lock_take(&second, 0, 0, &err), MLY_OK);
    mly_lock_release(&second, 0);
    mly_file_close(&second);
}

static void uuids_have_their_version_and_sort_by_time(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    char first[37];
    char second[37];
    assert_int_equal(mly_uuid7(env, first, NULL), MLY_OK);
    mly_clock_sleep_ms(env, 3);
    assert_int_equal(mly_uuid7(env, second, NULL), MLY_OK);
    assert_int_equal(strlen(first), 36);
    assert_int_equal(first[14], '7');
    assert_true(strcmp(first, second) < 0);
    uint8_t hash[16] = {0};
    mly_uuid8(hash, first);
    assert_string_equal(first, "00000000-0000-8000-8000-000000000000");
}

static void a_pipe_is_not_waited_for_where_a_file_is_mapped(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_map map = {0};
    assert_int_equal(mkfifo(below("pipe"), 0600), 0);
    assert_int_equal(mly_file_map(mly_env_system(), MLY_AT_CWD, below("pipe"), &map, &err),
                     MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "is not a regular file"));
}

static void network_file_systems_are_told_by_their_numbers(void **state)
{
    (void)state;
    static const struct {
        uint32_t number;
        const char *name;
    } cases[] = {{0x6969, "NFS"}, {0x517b, "SMB"},      {0xff534d42, "CIFS"}, {0x1021997, "9P"},
                 {0xef53, NULL},  {0x65735546, "FUSE"}, {0x01021994, NULL},   {0x58465342, NULL}};
    struct fault_env fault;
    struct mly_error err = {0};
    const char *kind = "?";
    fault_env_init(&fault);
    fault.interrupt = true;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fault.file_system = cases[i].number;
        assert_int_equal(mly_dir_network_kind(&fault.env, dir_path, &kind, &err), MLY_OK);
        if (cases[i].name == NULL) {
            assert_null(kind);
        } else {
            assert_string_equal(kind, cases[i].name);
        }
    }
    /* The real one, of folders that are yet to be made: that of the nearest that is there. */
    fault.file_system = 0;
    assert_int_equal(mly_dir_network_kind(&fault.env, below("a/b/c"), &kind, &err), MLY_OK);
    assert_int_equal(mly_dir_network_kind(&fault.env, "a/b", &kind, &err), MLY_OK);
    fault.fail_at = fault.calls + 1;
    fault.fail_errno = EIO;
    assert_int_equal(mly_dir_network_kind(&fault.env, dir_path, &kind, &err), MLY_ERR_IO);
    assert_non_null(strstr(err.message, dir_path));
    fault.fail_at = fault.calls + 1;
    fault.fail_errno = ENOSYS;
    assert_int_equal(mly_dir_network_kind(&fault.env, dir_path, &kind, &err), MLY_OK);
    assert_null(kind);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_and_interrupted_transfers_are_continued),
        cmocka_unit_test(every_call_may_fail_and_nothing_leaks),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(a_file_that_ends_early_is_damage),
        cmocka_unit_test(folders_are_made_with_their_parents_and_private),
        cmocka_unit_test(a_lock_is_exclusive_and_dies_with_its_file),
        cmocka_unit_test(a_pipe_is_not_waited_for_where_a_file_is_mapped),
        cmocka_unit_test(network_file_systems_are_told_by_their_numbers),
        cmocka_unit_test(uuids_have_their_version_and_sort_by_time),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
