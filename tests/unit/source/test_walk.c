/* Folder walks on real folders: what is listed, what is not, and what is said of the rest. */
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
#include <time.h>
#include <unistd.h>

static char root[TEMP_DIR_BYTES];
static int root_fd = -1;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(root);
    root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return root_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    close(root_fd);
    temp_dir_remove(root);
    return 0;
}

static void make_folder(const char *name)
{
    assert_int_equal(mkdirat(root_fd, name, 0700), 0);
}

static void make_file(const char *name)
{
    temp_dir_write(root, name, name, strlen(name));
}

/* The listing as "a;b/c;" and behind a "!" the unread folders. */
static void check_walk(const struct mly_walk_options *options, const char *expected)
{
    struct mly_listing listing = {0};
    struct mly_error err = {0};
    assert_int_equal(mly_source_walk(mly_env_system(), root, options, &listing, &err), MLY_OK);
    char shown[2048] = "";
    size_t at = 0;
    for (size_t i = 0; i < listing.count; i++) {
        at += (size_t)snprintf(shown + at, sizeof(shown) - at, "%s;", listing.items[i].path.data);
        assert_int_equal(strlen(listing.items[i].path.data), listing.items[i].path.bytes);
        assert_true(mly_source_wants(options, listing.items[i].path));
    }
    for (size_t i = 0; i < listing.unread_count; i++) {
        at += (size_t)snprintf(shown + at, sizeof(shown) - at, "!%s;", listing.unread[i].data);
        assert_true(listing.unread_reasons[i].bytes > 0);
    }
    assert_string_equal(shown, expected);
    mly_listing_deinit(&listing);
    mly_listing_deinit(&listing);
}

static const struct mly_walk_options everything = {0};

static void files_are_listed_in_the_order_of_their_paths(void **state)
{
    (void)state;
    check_walk(&everything, "");
    make_folder("b");
    make_folder("b/c");
    make_folder("empty");
    make_file("b.txt");
    make_file("b/c/x");
    make_file("b/a");
    make_file("a");
    make_file("Z");
    make_file("\xC3\xA9");
    check_walk(&everything, "Z;a;b.txt;b/a;b/c/x;\xC3\xA9;");
}

static void hidden_names_links_and_devices_are_left_out(void **state)
{
    (void)state;
    make_folder("in");
    make_folder(".git");
    make_file(".git/config");
    make_file(".hidden");
    make_file("in/.hidden");
    make_file("in/a");
    assert_int_equal(symlinkat("in/a", root_fd, "link_to_file"), 0);
    assert_int_equal(symlinkat("in", root_fd, "link_to_folder"), 0);
    assert_int_equal(symlinkat("/etc", root_fd, "link_out"), 0);
    assert_int_equal(symlinkat("/etc/passwd", root_fd, "file_out"), 0);
    assert_int_equal(symlinkat(".", root_fd, "loop"), 0);
    assert_int_equal(symlinkat("nowhere", root_fd, "dangling"), 0);
    assert_int_equal(mkfifoat(root_fd, "fifo", 0600), 0);
    check_walk(&everything, "in/a;");
    assert_false(mly_source_wants(&everything, MLY_STR("in/.hidden")));
    assert_false(mly_source_wants(&everything, MLY_STR(".git/config")));
    assert_true(mly_source_wants(&everything, MLY_STR("in/a.b")));
}

static void patterns_choose(void **state)
{
    (void)state;
    make_folder("src");
    make_folder("src/build");
    make_folder("docs");
    make_file("src/a.py");
    make_file("src/a.c");
    make_file("src/build/b.py");
    make_file("docs/a.md");
    make_file("top.py");
    static const char *const python[] = {"*.py"};
    static const char *const two[] = {"docs", "src/*.c"};
    static const char *const build[] = {"build", "top.*"};
    check_walk(&(struct mly_walk_options){.include = python, .include_count = 1},
               "src/a.py;src/build/b.py;top.py;");
    check_walk(&(struct mly_walk_options){.include = two, .include_count = 2},
               "docs/a.md;src/a.c;");
    check_walk(&(struct mly_walk_options){.exclude = build, .exclude_count = 2},
               "docs/a.md;src/a.c;src/a.py;");
    check_walk(
        &(struct mly_walk_options){
            .include = python, .include_count = 1, .exclude = build, .exclude_count = 2},
        "src/a.py;");
    static const char *const wrong[] = {"a["};
    struct mly_listing listing = {0};
    struct mly_error err = {0};
    assert_int_equal(
        mly_source_walk(mly_env_system(), root,
                        &(struct mly_walk_options){.exclude = wrong, .exclude_count = 1}, &listing,
                        &err),
        MLY_ERR_INVAL);
    assert_string_equal(err.message, "pattern \"a[\" has a \"[\" without a \"]\"");
}

static void the_stores_own_folder_is_never_entered(void **state)
{
    (void)state;
    make_folder("kb");
    make_file("kb/data");
    make_file("a");
    struct stat native;
    assert_int_equal(fstatat(root_fd, "kb", &native, 0), 0);
    struct mly_walk_options options = {.skip_device = (uint64_t)native.st_dev,
                                       .skip_inode = (uint64_t)native.st_ino,
                                       .has_skip = true};
    check_walk(&options, "a;");
    assert_int_equal(fstat(root_fd, &native), 0);
    options.skip_inode = (uint64_t)native.st_ino;
    check_walk(&options, "");
}

static void roots_that_are_none_are_refused_and_a_link_may_be_one(void **state)
{
    (void)state;
    make_file("a");
    make_folder("d");
    make_file("d/x");
    char path[TEMP_DIR_BYTES + 20];
    struct mly_listing listing = {0};
    struct mly_error err = {0};
    (void)snprintf(path, sizeof(path), "%s/missing", root);
    assert_int_equal(mly_source_walk(mly_env_system(), path, &everything, &listing, &err),
                     MLY_ERR_NOTFOUND);
    (void)snprintf(path, sizeof(path), "%s/a", root);
    assert_int_equal(mly_source_walk(mly_env_system(), path, &everything, &listing, &err),
                     MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "is not a folder"));
    assert_int_equal(symlinkat("d", root_fd, "link"), 0);
    (void)snprintf(path, sizeof(path), "%s/link/", root);
    assert_int_equal(mly_source_walk(mly_env_system(), path, &everything, &listing, &err), MLY_OK);
    assert_int_equal(listing.count, 1);
    assert_string_equal(listing.items[0].path.data, "x");
    mly_listing_deinit(&listing);
}

static void names_are_bytes(void **state)
{
    (void)state;
    make_file("new\nline");
    make_file("not\xFF"
              "utf8");
    make_file("sp ace");
    check_walk(&everything, "new\nline;not\xFF"
                            "utf8;sp ace;");
}

/* An env that refuses to list folders or to look at files of one name. */
static const char *refused_name;
static struct mly_env refusing;

static int refuse_dir_open(void *context, int dir_fd, const char *path, struct mly_dir_stream **out)
{
    if (strcmp(path, refused_name) == 0) return -EACCES;
    return mly_env_system()->dir_open(context, dir_fd, path, out);
}

static int refuse_info_at(void *context, int dir_fd, const char *path, bool follow,
                          struct mly_file_info *out)
{
    if (strcmp(path, refused_name) == 0) return -EACCES;
    return mly_env_system()->info_at(context, dir_fd, path, follow, out);
}

static void what_cannot_be_read_is_said_and_the_walk_goes_on(void **state)
{
    (void)state;
    make_folder("closed");
    make_folder("open");
    make_file("closed/a");
    make_file("open/b");
    make_file("open/odd");
    make_file("z");
    refusing = *mly_env_system();
    refusing.dir_open = refuse_dir_open;
    refused_name = "closed";
    struct mly_listing listing = {0};
    struct mly_error err = {0};
    assert_int_equal(mly_source_walk(&refusing, root, &everything, &listing, &err), MLY_OK);
    assert_int_equal(listing.count, 3);
    assert_int_equal(listing.unread_count, 1);
    assert_string_equal(listing.unread[0].data, "closed");
    assert_non_null(strstr(listing.unread_reasons[0].data, "Permission denied"));
    mly_listing_deinit(&listing);

    refusing.dir_open = mly_env_system()->dir_open;
    refusing.info_at = refuse_info_at;
    refused_name = "odd";
    assert_int_equal(mly_source_walk(&refusing, root, &everything, &listing, &err), MLY_OK);
    assert_int_equal(listing.count, 3);
    assert_int_equal(listing.unread_count, 1);
    assert_string_equal(listing.unread[0].data, "open");
    mly_listing_deinit(&listing);
    refused_name = "z"; /* in the root */
    assert_int_equal(mly_source_walk(&refusing, root, &everything, &listing, &err), MLY_OK);
    assert_int_equal(listing.unread_count, 1);
    assert_string_equal(listing.unread[0].data, "");
    mly_listing_deinit(&listing);
}

/* Puts a link to /etc in the place of the folder "swap" between the look at it and its opening. */
static int swap_dir_open(void *context, int dir_fd, const char *path, struct mly_dir_stream **out)
{
    if (strcmp(path, "swap") == 0) {
        assert_int_equal(unlinkat(dir_fd, "swap", AT_REMOVEDIR), 0);
        assert_int_equal(symlinkat("/etc", dir_fd, "swap"), 0);
    }
    if (strcmp(path, "gone") == 0) assert_int_equal(unlinkat(dir_fd, "gone", AT_REMOVEDIR), 0);
    return mly_env_system()->dir_open(context, dir_fd, path, out);
}

static void a_folder_swapped_for_a_link_leads_nowhere(void **state)
{
    (void)state;
    make_folder("swap");
    make_folder("gone");
    make_file("a");
    struct mly_env env = *mly_env_system();
    env.dir_open = swap_dir_open;
    struct mly_listing listing = {0};
    assert_int_equal(mly_source_walk(&env, root, &everything, &listing, NULL), MLY_OK);
    assert_int_equal(listing.count, 1);
    assert_int_equal(listing.unread_count, 1); /* "gone" is not among them: it is gone */
    assert_string_equal(listing.unread[0].data, "swap");
    mly_listing_deinit(&listing);
}

static void what_is_too_deep_is_said(void **state)
{
    (void)state;
    int fd = dup(root_fd);
    for (size_t i = 0; i < MLY_WALK_DEPTH_MAX + 2; i++) {
        assert_int_equal(mkdirat(fd, "d", 0700), 0);
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(fd);
        fd = next;
        int file = openat(fd, "f", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(file >= 0);
        close(file);
    }
    close(fd);
    struct mly_listing listing = {0};
    assert_int_equal(mly_source_walk(mly_env_system(), root, &everything, &listing, NULL), MLY_OK);
    assert_int_equal(listing.count, MLY_WALK_DEPTH_MAX);
    assert_int_equal(listing.unread_count, 1);
    assert_string_equal(listing.unread_reasons[0].data, "deeper than 200 folders");
    assert_int_equal(listing.unread[0].bytes, 2 * (MLY_WALK_DEPTH_MAX + 1) - 1);
    mly_listing_deinit(&listing);
}

static void every_failing_call_and_allocation_is_survived(void **state)
{
    (void)state;
    make_folder("a");
    make_folder("a/b");
    make_file("a/b/c");
    make_file("a/d");
    make_file("e");
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct fault_env fault;
            fault_env_init(&fault);
            if (kind == 0) fault.mem.fail_at = fail_at;
            if (kind == 1) fault.fail_at = fail_at;
            fault.fail_errno = EIO;
            struct mly_listing listing = {0};
            struct mly_error err = {0};
            enum mly_err rc = mly_source_walk(&fault.env, root, &everything, &listing, &err);
            bool reached = kind == 0 ? fault.mem.calls >= fail_at : fault.calls >= fail_at;
            bool all = listing.count == 3 && listing.unread_count == 0;
            if (rc == MLY_OK) {
                /* Nothing is left out in silence; a failing close or look loses nothing. */
                assert_true(all || listing.unread_count > 0);
                if (kind == 0) assert_true(all && !reached);
                mly_listing_deinit(&listing);
            } else {
                assert_int_equal(rc, kind == 0 ? MLY_ERR_NOMEM : MLY_ERR_IO);
                assert_true(err.message[0] != '\0');
                assert_null(listing.items);
            }
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            if (!reached) {
                assert_int_equal(rc, MLY_OK);
                assert_true(all && fail_at > 4);
                break;
            }
        }
    }
}

static void many_files_are_listed_quickly(void **state)
{
    (void)state;
    char name[64];
    for (int i = 0; i < 20000; i++) {
        if (i % 1000 == 0) {
            (void)snprintf(name, sizeof(name), "folder%02d", i / 1000);
            make_folder(name);
        }
        (void)snprintf(name, sizeof(name), "folder%02d/file%05d.txt", i / 1000, i);
        int file = openat(root_fd, name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(file >= 0);
        close(file);
    }
    struct timespec start;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    struct mly_listing listing = {0};
    assert_int_equal(mly_source_walk(mly_env_system(), root, &everything, &listing, NULL), MLY_OK);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    print_message("20000 files: %.3f s\n", (double)(end.tv_sec - start.tv_sec) +
                                               1e-9 * (double)(end.tv_nsec - start.tv_nsec));
    assert_int_equal(listing.count, 20000);
    for (size_t i = 1; i < listing.count; i++) {
        assert_true(mly_str_compare(listing.items[i - 1].path, listing.items[i].path) < 0);
    }
    mly_listing_deinit(&listing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_listed_in_the_order_of_their_paths, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(hidden_names_links_and_devices_are_left_out, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(patterns_choose, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_stores_own_folder_is_never_entered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(roots_that_are_none_are_refused_and_a_link_may_be_one,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_are_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_is_said_and_the_walk_goes_on, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_folder_swapped_for_a_link_leads_nowhere, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_too_deep_is_said, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_failing_call_and_allocation_is_survived, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_files_are_listed_quickly, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
