/* Strings and files as texts: what is read, what is refused and with which words. */
#define _GNU_SOURCE
#include "source/source.h"

#include "base/limits.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[TEMP_DIR_BYTES];
static int dir_fd = -1;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(dir);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(dir_fd);
    temp_dir_remove(dir);
    return 0;
}

static enum mly_err read_file(const char *name, uint64_t bytes_max, struct mly_text *text,
                              struct mly_error *err)
{
    struct mly_file_stamp stamp = {0};
    return mly_source_from_file(mly_env_system(), dir_fd, name, bytes_max, text, &stamp, err);
}

static void expect_text(const void *data, size_t bytes, size_t before)
{
    temp_dir_write(dir, "a.txt", data, bytes);
    struct mly_text text = {0};
    struct mly_error err = {0};
    assert_int_equal(read_file("a.txt", 0, &text, &err), MLY_OK);
    assert_int_equal(text.bytes_before, before);
    assert_int_equal(text.text.bytes, bytes - before);
    assert_memory_equal(text.text.data, (const char *)data + before, bytes - before);
    struct mly_hash hash = mly_hash_bytes(text.text);
    assert_memory_equal(hash.bytes, text.hash.bytes, MLY_HASH_BYTES);
    mly_text_deinit(&text);
    mly_text_deinit(&text);
}

static void expect_refused(const void *data, size_t bytes, enum mly_err code, const char *message)
{
    temp_dir_write(dir, "b.txt", data, bytes);
    struct mly_text text = {0};
    struct mly_error err = {0};
    assert_int_equal(read_file("b.txt", 20000, &text, &err), code);
    assert_string_equal(err.message, message);
    assert_null(text.buffer);
}

static void texts_are_read_byte_for_byte(void **state)
{
    (void)state;
    expect_text("", 0, 0);
    expect_text("one\r\ntwo\rthree\n", 15, 0);
    expect_text("\xEF\xBB\xBFhello", 8, 3);
    expect_text("\xEF\xBB\xBF", 3, 3);
    expect_text("\xEF\xBB\xBF\xEF\xBB\xBFx", 7, 3); /* one mark, and then a character */
    expect_text("\xE4\xB8\xAD\xF0\x9F\x91\xA9", 7, 0);
    char large[9000];
    memset(large, 'x', sizeof(large));
    large[8500] = '\0'; /* behind the first 8 KiB */
    expect_text(large, sizeof(large), 0);
}

static void what_is_not_text_is_refused_with_byte_and_offset(void **state)
{
    (void)state;
    expect_refused("hello world \xFF x", 15, MLY_ERR_PARSE, "not UTF-8: byte 0xff at offset 12");
    expect_refused("\xEF\xBB\xBF\x80", 4, MLY_ERR_PARSE, "not UTF-8: byte 0x80 at offset 3");
    expect_refused("ab\xE4\xB8", 4, MLY_ERR_PARSE, "not UTF-8: byte 0xe4 at offset 2");
    expect_refused("\xED\xA0\x80", 3, MLY_ERR_PARSE, "not UTF-8: byte 0xed at offset 0");
    expect_refused("\xC0\xAF", 2, MLY_ERR_PARSE, "not UTF-8: byte 0xc0 at offset 0");
    expect_refused("abc\0def", 7, MLY_ERR_PARSE, "binary: byte 0x00 at offset 3");
    char large[20001];
    memset(large, 'x', sizeof(large));
    large[8191] = '\0';
    expect_refused(large, 20000, MLY_ERR_PARSE, "binary: byte 0x00 at offset 8191");
    expect_refused(large, 20001, MLY_ERR_LIMIT, "file of 20001 bytes, limit is 20000");
}

static void strings_keep_every_byte(void **state)
{
    (void)state;
    struct mly_text text = {0};
    struct mly_error err = {0};
    struct mly_str with_mark = MLY_STR("\xEF\xBB\xBF"
                                       "a\0b");
    assert_int_equal(mly_source_from_string(with_mark, &text, &err), MLY_OK);
    assert_ptr_equal(text.text.data, with_mark.data);
    assert_int_equal(text.text.bytes, 6);
    assert_int_equal(text.bytes_before, 0);
    mly_text_deinit(&text);
    assert_int_equal(mly_source_from_string(MLY_STR_NULL, &text, &err), MLY_OK);
    assert_non_null(text.text.data);
    assert_int_equal(text.text.bytes, 0);
    assert_int_equal(mly_source_from_string(MLY_STR("a\xFF"), &text, &err), MLY_ERR_PARSE);
    assert_string_equal(err.message, "not UTF-8: byte 0xff at offset 1");
    struct mly_str huge = {"", MLY_DOCUMENT_BYTES_MAX + 1};
    assert_int_equal(mly_source_from_string(huge, &text, &err), MLY_ERR_LIMIT);
    assert_string_equal(err.message, "text of 67108865 bytes, limit is 67108864");
}

static void the_stamp_is_the_files(void **state)
{
    (void)state;
    temp_dir_write(dir, "s.txt", "hello", 5);
    struct stat native;
    assert_int_equal(fstatat(dir_fd, "s.txt", &native, 0), 0);
    struct mly_text text = {0};
    struct mly_file_stamp stamp = {0};
    assert_int_equal(
        mly_source_from_file(mly_env_system(), dir_fd, "s.txt", 0, &text, &stamp, NULL), MLY_OK);
    assert_int_equal(stamp.inode, native.st_ino);
    assert_int_equal(stamp.device, native.st_dev);
    assert_int_equal(stamp.byte_count, 5);
    assert_int_equal(stamp.modified_ns,
                     (int64_t)native.st_mtim.tv_sec * 1000000000 + native.st_mtim.tv_nsec);
    assert_int_equal(stamp.changed_ns,
                     (int64_t)native.st_ctim.tv_sec * 1000000000 + native.st_ctim.tv_nsec);
    mly_text_deinit(&text);
}

static void only_regular_files_are_read_and_nothing_is_waited_for(void **state)
{
    (void)state;
    struct mly_text text = {0};
    struct mly_error err = {0};
    assert_int_equal(mkfifoat(dir_fd, "fifo", 0600), 0);
    assert_int_equal(read_file("fifo", 0, &text, &err), MLY_ERR_PARSE);
    assert_string_equal(err.message, "not a regular file");
    assert_int_equal(mkdirat(dir_fd, "folder", 0700), 0);
    assert_int_equal(read_file("folder", 0, &text, &err), MLY_ERR_PARSE);
    assert_string_equal(err.message, "a folder, not a file");
    assert_int_equal(read_file("missing", 0, &text, &err), MLY_ERR_NOTFOUND);
    struct mly_file_stamp stamp;
    assert_int_equal(
        mly_source_from_file(mly_env_system(), MLY_AT_CWD, "/dev/zero", 0, &text, &stamp, &err),
        MLY_ERR_PARSE);
}

static void below_a_folder_no_link_is_followed(void **state)
{
    (void)state;
    struct mly_text text = {0};
    struct mly_error err = {0};
    assert_int_equal(mkdirat(dir_fd, "real", 0700), 0);
    temp_dir_write(dir, "real/in.txt", "in", 2);
    assert_int_equal(symlinkat("real", dir_fd, "link"), 0);
    assert_int_equal(symlinkat("real/in.txt", dir_fd, "link.txt"), 0);
    assert_int_equal(read_file("real/in.txt", 0, &text, &err), MLY_OK);
    mly_text_deinit(&text);
    assert_int_equal(read_file("link/in.txt", 0, &text, &err), MLY_ERR_IO);
    assert_int_equal(read_file("link.txt", 0, &text, &err), MLY_ERR_IO);
    assert_int_equal(read_file("real/in.txt/", 0, &text, &err), MLY_ERR_IO);
    static const char *const outside[] = {"../x", "real/../real/in.txt", "/etc/passwd",
                                          "",     "real//in.txt",        "./real/in.txt"};
    for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
        assert_int_equal(read_file(outside[i], 0, &text, &err), MLY_ERR_INVAL);
    }
    char path[TEMP_DIR_BYTES + 20]; /* The caller's own path may be a link. */
    (void)snprintf(path, sizeof(path), "%s/link.txt", dir);
    struct mly_file_stamp stamp;
    assert_int_equal(
        mly_source_from_file(mly_env_system(), MLY_AT_CWD, path, 0, &text, &stamp, &err), MLY_OK);
    assert_int_equal(text.text.bytes, 2);
    mly_text_deinit(&text);
}

static void files_of_the_system_without_a_size_are_read_to_their_end(void **state)
{
    (void)state;
    struct mly_text text = {0};
    struct mly_file_stamp stamp;
    if (access("/proc/self/status", R_OK) != 0) skip();
    assert_int_equal(mly_source_from_file(mly_env_system(), MLY_AT_CWD, "/proc/self/status", 0,
                                          &text, &stamp, NULL),
                     MLY_OK);
    assert_true(text.text.bytes > 100);
    mly_text_deinit(&text);
}

/* An env whose file changes with each look at it, as often as changes_left says. */
static int changes_left;
static int (*system_info)(void *context, int fd, struct mly_file_info *out);

static int changing_info(void *context, int fd, struct mly_file_info *out)
{
    int result = system_info(context, fd, out);
    if (changes_left > 0) {
        changes_left--;
        out->modified_ns += changes_left + 1;
    }
    return result;
}

static void a_file_that_changes_is_read_again_and_then_given_up(void **state)
{
    (void)state;
    temp_dir_write(dir, "c.txt", "text", 4);
    struct mly_env env = *mly_env_system();
    system_info = env.info;
    env.info = changing_info;
    struct mly_text text = {0};
    struct mly_file_stamp stamp;
    struct mly_error err = {0};
    changes_left = 4; /* read_all looks as well: the second reading meets a quiet file */
    assert_int_equal(mly_source_from_file(&env, dir_fd, "c.txt", 0, &text, &stamp, &err), MLY_OK);
    assert_int_equal(changes_left, 0);
    assert_int_equal(text.text.bytes, 4);
    mly_text_deinit(&text);
    changes_left = 1000;
    assert_int_equal(mly_source_from_file(&env, dir_fd, "c.txt", 0, &text, &stamp, &err),
                     MLY_ERR_CONFLICT);
    assert_string_equal(err.message, "the file changed while it was read, 3 times");
    assert_null(text.buffer);
}

static void every_failing_call_and_allocation_is_survived(void **state)
{
    (void)state;
    assert_int_equal(mkdirat(dir_fd, "deep", 0700), 0);
    char large[70000];
    memset(large, 'x', sizeof(large));
    temp_dir_write(dir, "deep/f.txt", large, sizeof(large));
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct fault_env fault;
            fault_env_init(&fault);
            if (kind == 0) fault.mem.fail_at = fail_at;
            if (kind == 1) fault.fail_at = fail_at;
            fault.fail_errno = EIO;
            fault.short_transfers = kind == 1 && fail_at < 20;
            struct mly_text text = {0};
            struct mly_file_stamp stamp = {0};
            struct mly_error err = {0};
            enum mly_err rc =
                mly_source_from_file(&fault.env, dir_fd, "deep/f.txt", 0, &text, &stamp, &err);
            if (rc == MLY_OK) {
                assert_int_equal(text.text.bytes, sizeof(large));
                mly_text_deinit(&text);
            } else {
                assert_int_equal(rc, kind == 0 ? MLY_ERR_NOMEM : MLY_ERR_IO);
                assert_true(err.message[0] != '\0');
                assert_null(text.buffer);
            }
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            bool done = kind == 0 ? fault.mem.calls < fail_at : fault.calls < fail_at;
            if (done) {
                assert_int_equal(rc, MLY_OK);
                assert_true(fail_at > (kind == 0 ? 1 : 5));
                break;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(texts_are_read_byte_for_byte, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_text_is_refused_with_byte_and_offset, set_up,
                                        tear_down),
        cmocka_unit_test(strings_keep_every_byte),
        cmocka_unit_test_setup_teardown(the_stamp_is_the_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_regular_files_are_read_and_nothing_is_waited_for,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(below_a_folder_no_link_is_followed, set_up, tear_down),
        cmocka_unit_test(files_of_the_system_without_a_size_are_read_to_their_end),
        cmocka_unit_test_setup_teardown(a_file_that_changes_is_read_again_and_then_given_up, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(every_failing_call_and_allocation_is_survived, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
