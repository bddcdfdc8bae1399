/* What is told of a folder, and when: with a clock of the test's own. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "fault_env.h"
#include "temp_dir.h"
#include "watch/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[TEMP_DIR_BYTES], real[4096];
static uint64_t now_ms;

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir);
    assert_non_null(realpath(dir, real));
    now_ms = 1000;
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static const char *at(const char *name)
{
    static char paths[4][8192];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof(paths[0]), "%s/%s", real, name);
    return path;
}

static void put(const char *name)
{
    temp_dir_write(real, name, "text", 4);
}

/* No hidden names. */
static bool wants(void *context, struct mly_str path, bool is_folder,
                  const struct mly_file_info *info)
{
    (void)context;
    (void)is_folder;
    (void)info;
    for (size_t i = 0; i < path.bytes; i++) {
        if (path.data[i] == '.' && (i == 0 || path.data[i - 1] == '/')) return false;
    }
    return true;
}

static const struct mly_watch_options options = {.wants = wants};

static struct mly_watch *open_on(const struct mly_env *env)
{
    struct mly_watch *watch;
    struct mly_error err;
    enum mly_err rc = mly_watch_open(env, real, &options, &watch, &err);
    if (rc == MLY_ERR_UNSUPPORTED) skip();
    assert_int_equal(rc, MLY_OK);
    return watch;
}

static struct mly_watch *open_watch(void)
{
    return open_on(mly_env_system());
}

static void look(struct mly_watch *watch)
{
    struct mly_error err;
    assert_int_equal(mly_watch_read(watch, now_ms, &err), MLY_OK);
    assert_int_equal(mly_watch_settle(watch, now_ms, &err), MLY_OK);
}

/* What is told now: "a b/ c", sorted, folders with a "/"; "*" is everything. */
static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *told(struct mly_watch *watch)
{
    static char text[4096];
    struct mly_watch_batch batch;
    struct mly_error err;
    char *names[64];
    look(watch);
    assert_int_equal(mly_watch_take(watch, now_ms, &batch, &err), MLY_OK);
    assert_true(batch.count < 64);
    for (size_t i = 0; i < batch.count; i++) {
        assert_true(asprintf(&names[i], "%.*s%s", (int)batch.items[i].path.bytes,
                             batch.items[i].path.data, batch.items[i].is_folder ? "/" : "") >= 0);
    }
    qsort(names, batch.count, sizeof(names[0]), by_text);
    size_t end = (size_t)snprintf(text, sizeof(text), "%s", batch.is_all ? "*" : "");
    for (size_t i = 0; i < batch.count; i++) {
        end += (size_t)snprintf(text + end, sizeof(text) - end, "%s%s", i > 0 ? " " : "", names[i]);
        free(names[i]);
    }
    mly_watch_batch_deinit(&batch);
    return text;
}

static void a_file_is_told_once_when_it_is_at_rest(void **state)
{
    (void)state;
    struct mly_watch *watch = open_watch();
    assert_true(mly_watch_due(watch, now_ms) == MLY_WATCH_NEVER);
    put("a.txt");
    assert_string_equal(told(watch), "");
    assert_int_equal(mly_watch_due(watch, now_ms), 100);
    now_ms += 99;
    assert_string_equal(told(watch), "");
    now_ms += 1;
    assert_string_equal(told(watch), "a.txt");
    assert_string_equal(told(watch), "");
    assert_true(mly_watch_due(watch, now_ms) == MLY_WATCH_NEVER);
    assert_int_equal(unlink(at("a.txt")), 0);
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "a.txt");
    mly_watch_close(watch);
}

static void a_file_that_is_open_waits_longer_and_at_most_two_seconds(void **state)
{
    (void)state;
    struct mly_watch *watch = open_watch();
    int fd = open(at("log.txt"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "x", 1), 1);
    look(watch);
    assert_int_equal(mly_watch_due(watch, now_ms), 500);
    uint64_t begun_ms = now_ms;
    const char *said = "";
    while (said[0] == '\0') {
        now_ms += 100;
        assert_int_equal(write(fd, "x", 1), 1);
        said = told(watch);
        assert_true(now_ms - begun_ms <= 2000);
    }
    assert_string_equal(said, "log.txt");
    assert_int_equal(now_ms - begun_ms, 2000);
    close(fd);
    look(watch);
    assert_int_equal(mly_watch_due(watch, now_ms), 100);
    mly_watch_close(watch);
}

static void a_folder_that_came_is_watched_with_all_that_is_in_it(void **state)
{
    (void)state;
    struct mly_watch *watch = open_watch();
    assert_int_equal(mkdir(at("new"), 0700), 0);
    assert_int_equal(mkdir(at("new/deep"), 0700), 0);
    put("new/deep/early.txt"); /* before anybody could watch it */
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "new/");
    put("new/deep/late.txt");
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "new/deep/late.txt");
    mly_watch_close(watch);
}

static void a_folder_that_moved_goes_by_its_new_name(void **state)
{
    (void)state;
    assert_int_equal(mkdir(at("old"), 0700), 0);
    assert_int_equal(mkdir(at("old/sub"), 0700), 0);
    struct mly_watch *watch = open_watch();
    assert_int_equal(rename(at("old"), at("new")), 0);
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "new/ old/");
    put("new/sub/a.txt");
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "new/sub/a.txt");
    /* Out of the root: what happens there is nobody's business. */
    char outside[TEMP_DIR_BYTES];
    temp_dir_make(outside);
    assert_int_equal(rmdir(outside), 0);
    assert_int_equal(rename(at("new"), outside), 0);
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "new/");
    temp_dir_write(outside, "sub/b.txt", "b", 1);
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "");
    struct mly_watch_info info;
    mly_watch_get_info(watch, &info);
    assert_int_equal(info.folders, 1);
    temp_dir_remove(outside);
    mly_watch_close(watch);
}

static void a_tree_that_is_removed_is_forgotten(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        char name[40];
        snprintf(name, sizeof(name), "tree%d", i);
        assert_int_equal(mkdir(at(name), 0700), 0);
        snprintf(name, sizeof(name), "tree%d/a", i);
        assert_int_equal(mkdir(at(name), 0700), 0);
    }
    struct mly_watch *watch = open_watch();
    struct mly_watch_info info;
    mly_watch_get_info(watch, &info);
    assert_int_equal(info.folders, 201);
    for (int i = 0; i < 100; i += 2) {
        char name[40];
        snprintf(name, sizeof(name), "tree%d", i);
        temp_dir_remove(at(name));
    }
    look(watch);
    mly_watch_get_info(watch, &info);
    assert_int_equal(info.folders, 101);
    now_ms += 100;
    struct mly_watch_batch batch;
    struct mly_error err;
    assert_int_equal(mly_watch_take(watch, now_ms, &batch, &err), MLY_OK);
    assert_int_equal(batch.count, 100);
    mly_watch_batch_deinit(&batch);
    /* Those that stayed are seen still. */
    put("tree51/a/x.txt");
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "tree51/a/x.txt");
    mly_watch_close(watch);
}

static void an_atomic_save_tells_the_name_that_stays(void **state)
{
    (void)state;
    put("note.md");
    struct mly_watch *watch = open_watch();
    put(".note.md.swp"); /* vim */
    put("note.md~");
    assert_int_equal(rename(at("note.md"), at("note.md~")), 0);
    put("note.md");
    assert_int_equal(unlink(at("note.md~")), 0);
    assert_int_equal(unlink(at(".note.md.swp")), 0);
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "note.md note.md~");
    put("sedAb12"); /* sed -i */
    assert_int_equal(rename(at("sedAb12"), at("note.md")), 0);
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "note.md sedAb12");
    mly_watch_close(watch);
}

static void links_lead_nowhere_and_hidden_names_are_not_told(void **state)
{
    (void)state;
    char outside[TEMP_DIR_BYTES];
    temp_dir_make(outside);
    assert_int_equal(symlink(outside, at("link")), 0);
    assert_int_equal(mkdir(at(".git"), 0700), 0);
    struct mly_watch *watch = open_watch();
    struct mly_watch_info info;
    mly_watch_get_info(watch, &info);
    assert_int_equal(info.folders, 1);
    temp_dir_write(outside, "a.txt", "a", 1);
    put(".git/index");
    put(".hidden");
    look(watch);
    now_ms += 5000;
    assert_string_equal(told(watch), "");
    /* A folder that is swapped for a link before it is looked at. */
    struct mly_error err;
    assert_int_equal(mkdir(at("swap"), 0700), 0);
    assert_int_equal(mly_watch_read(watch, now_ms, &err), MLY_OK);
    assert_int_equal(rmdir(at("swap")), 0);
    assert_int_equal(symlink(outside, at("swap")), 0);
    look(watch);
    mly_watch_get_info(watch, &info);
    assert_int_equal(info.folders, 1);
    temp_dir_remove(outside);
    mly_watch_close(watch);
}

static void lost_events_are_everything(void **state)
{
    (void)state;
    struct mly_watch *watch = open_watch();
    assert_int_equal(mkdir(at("sub"), 0700), 0);
    for (int i = 0; i < 20000; i++) { /* the system keeps 16,384 */
        char name[40];
        snprintf(name, sizeof(name), "sub%d", i);
        int fd = open(at(name), O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        close(fd);
    }
    struct mly_watch_info info;
    look(watch);
    mly_watch_get_info(watch, &info);
    assert_true(info.lost > 0);
    assert_int_equal(info.pending, 1);
    assert_int_equal(info.folders, 2);
    now_ms += 100;
    assert_string_equal(told(watch), "*");
    put("sub/a.txt");
    look(watch);
    now_ms += 100;
    assert_string_equal(told(watch), "sub/a.txt");
    mly_watch_close(watch);
}

static int adds_left;
static int add_some(void *context, int fd, int dir_fd)
{
    (void)context;
    if (adds_left-- <= 0) return -ENOSPC;
    return mly_env_system()->notify_add(NULL, fd, dir_fd);
}

static void folders_beyond_the_systems_limit_are_counted_and_named(void **state)
{
    (void)state;
    struct mly_env env = *mly_env_system();
    struct mly_watch_info info;
    env.notify_add = add_some;
    adds_left = 2;
    for (int i = 0; i < 5; i++) {
        char name[40];
        snprintf(name, sizeof(name), "f%d", i);
        assert_int_equal(mkdir(at(name), 0700), 0);
    }
    struct mly_watch *watch = open_on(&env);
    mly_watch_get_info(watch, &info);
    assert_int_equal(info.folders, 2);
    assert_int_equal(info.unwatched, 4);
    assert_non_null(strstr(info.reason, "fs.inotify.max_user_watches"));
    mly_watch_close(watch);
}

static int open_none(void *context)
{
    (void)context;
    return -ENOSYS;
}

static void a_system_without_it_says_so(void **state)
{
    (void)state;
    struct mly_env env = *mly_env_system();
    struct mly_watch *watch;
    struct mly_error err;
    env.notify_open = open_none;
    assert_int_equal(mly_watch_open(&env, real, &options, &watch, &err), MLY_ERR_UNSUPPORTED);
    assert_int_equal(mly_watch_open(mly_env_system(), at("none"), &options, &watch, &err),
                     MLY_ERR_NOTFOUND);
}

static void what_is_given_back_is_told_again(void **state)
{
    (void)state;
    struct mly_watch *watch = open_watch();
    struct mly_watch_batch batch;
    struct mly_error err;
    put("a.txt");
    look(watch);
    now_ms += 100;
    assert_int_equal(mly_watch_take(watch, now_ms, &batch, &err), MLY_OK);
    assert_int_equal(batch.count, 1);
    mly_watch_give_back(watch, &batch, now_ms, 1000);
    mly_watch_batch_deinit(&batch);
    assert_int_equal(mly_watch_due(watch, now_ms), 1000);
    now_ms += 1000;
    assert_string_equal(told(watch), "a.txt");
    batch = (struct mly_watch_batch){.is_all = true};
    mly_watch_give_back(watch, &batch, now_ms, 50);
    now_ms += 50;
    assert_string_equal(told(watch), "*");
    mly_watch_close(watch);
}

static void a_root_that_goes_is_told_and_nothing_is_removed_for_it(void **state)
{
    (void)state;
    struct mly_watch *watch = open_watch();
    struct mly_watch_info info;
    char elsewhere[4200];
    snprintf(elsewhere, sizeof(elsewhere), "%s.moved", real);
    assert_int_equal(rename(real, elsewhere), 0);
    look(watch);
    mly_watch_get_info(watch, &info);
    assert_true(info.root_gone);
    assert_int_equal(info.pending, 0);
    mly_watch_close(watch);
    assert_int_equal(rename(elsewhere, real), 0);
}

/* A day of it under memory that runs out at every request in turn: an error or not, what changed is
 * told in the end. */
static void memory_that_runs_out_hides_nothing(void **state)
{
    (void)state;
    struct fault_env fault;
    bool is_done = false;
    fault_env_init(&fault);
    for (uint64_t n = 1; !is_done; n++) {
        struct mly_watch *watch = NULL;
        struct mly_watch_batch batch;
        struct mly_error err;
        assert_true(n < 2000);
        assert_int_equal(mkdir(at("sub"), 0700), 0);
        fault_env_reset(&fault);
        enum mly_err opened = mly_watch_open(&fault.env, real, &options, &watch, &err);
        if (opened == MLY_ERR_UNSUPPORTED) skip();
        assert_int_equal(opened, MLY_OK);
        atomic_store(&fault.mem.fail_at, atomic_load(&fault.mem.calls) + n);
        assert_int_equal(mkdir(at("sub/new"), 0700), 0);
        put("sub/new/a.txt");
        enum mly_err rc = mly_watch_read(watch, now_ms, &err);
        if (rc == MLY_OK) rc = mly_watch_settle(watch, now_ms, &err);
        bool failed = rc != MLY_OK;
        now_ms += 3000;
        if (rc == MLY_OK) rc = mly_watch_take(watch, now_ms, &batch, &err);
        if (rc != MLY_OK) {
            assert_int_equal(rc, MLY_ERR_NOMEM);
            failed = true;
            rc = mly_watch_read(watch, now_ms, &err);
            if (rc == MLY_OK) rc = mly_watch_settle(watch, now_ms, &err);
            assert_int_equal(rc, MLY_OK);
            now_ms += 3000;
            assert_int_equal(mly_watch_take(watch, now_ms, &batch, &err), MLY_OK);
        }
        atomic_store(&fault.mem.fail_at, 0);
        assert_true(batch.is_all || batch.count > 0);
        is_done = !failed && !batch.is_all;
        mly_watch_batch_deinit(&batch);
        put("sub/new/b.txt");
        assert_int_equal(mly_watch_read(watch, now_ms, &err), MLY_OK);
        now_ms += 3000;
        assert_int_equal(mly_watch_take(watch, now_ms, &batch, &err), MLY_OK);
        assert_true(batch.is_all || batch.count == 1);
        mly_watch_batch_deinit(&batch);
        mly_watch_close(watch);
        temp_dir_remove(at("sub"));
        assert_int_equal(atomic_load(&fault.mem.live), 0);
        assert_int_equal(atomic_load(&fault.open_count), 0);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_told_once_when_it_is_at_rest),
        TEST(a_file_that_is_open_waits_longer_and_at_most_two_seconds),
        TEST(a_folder_that_came_is_watched_with_all_that_is_in_it),
        TEST(a_folder_that_moved_goes_by_its_new_name),
        TEST(a_tree_that_is_removed_is_forgotten),
        TEST(an_atomic_save_tells_the_name_that_stays),
        TEST(links_lead_nowhere_and_hidden_names_are_not_told),
        TEST(lost_events_are_everything),
        TEST(folders_beyond_the_systems_limit_are_counted_and_named),
        TEST(a_system_without_it_says_so),
        TEST(what_is_given_back_is_told_again),
        TEST(a_root_that_goes_is_told_and_nothing_is_removed_for_it),
        TEST(memory_that_runs_out_hides_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
