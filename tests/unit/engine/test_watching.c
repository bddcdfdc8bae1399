/* Folders that are followed: what happens in them is in the store soon after, and said. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "engine/engine_int.h"
#include "sync_cases.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON_MS 10000u

static memalloy_watch *open_watch(memalloy_kernel *kernel, uint32_t flags)
{
    const struct memalloy_watch_options options = {
        .struct_bytes = sizeof(options), .flags = flags, .quiet_ms = 30, .poll_ms = 50};
    memalloy_watch *watch = NULL;
    struct mly_error err = {0};
    if (mly_engine_watch_open(kernel, sync_root, &options, &watch, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    return watch;
}

static struct memalloy_watch_status status_of(memalloy_watch *watch)
{
    struct memalloy_watch_status status = {.struct_bytes = sizeof(status)};
    memalloy_watch_get_status(watch, &status);
    return status;
}

/* All that was written is in the store. */
static void settle(memalloy_kernel *kernel, memalloy_watch *watch)
{
    if (!memalloy_watch_settle(watch, SOON_MS)) {
        struct memalloy_watch_status status = status_of(watch);
        fail_msg("pending %d, state %d: %s", (int)status.pending, status.state, status.reason);
    }
    assert_int_equal(sync_differences(kernel), 0);
}

/* Waits for an event of that kind whose path ends so; the others before it are thrown away. */
static struct memalloy_watch_event expect(memalloy_watch *watch, int kind, const char *end)
{
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
    while (memalloy_watch_next(watch, SOON_MS, &event)) {
        size_t bytes = strlen(end);
        if (event.kind != kind || event.path.bytes < bytes) continue;
        if (bytes == 0) return event;
        if (memcmp(event.path.data + event.path.bytes - bytes, end, bytes) == 0) return event;
    }
    fail_msg("no event %d of %s", kind, end);
    return event;
}

static void what_happens_is_in_the_store(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "root/kb"); /* inside the folder */
    sync_write("a.txt", "alpha");
    sync_write("notes/b.txt", "beta");
    memalloy_watch *watch = open_watch(kernel, 0);
    settle(kernel, watch);
    (void)expect(watch, MEMALLOY_FILE_ADDED, "/a.txt");
    (void)expect(watch, MEMALLOY_FILE_ADDED, "/notes/b.txt");
    assert_int_equal(expect(watch, MEMALLOY_WATCH_SYNCED, "").count, 2);
    assert_int_equal(status_of(watch).state, MEMALLOY_WATCH_IS_FOLLOWING);
    assert_int_equal(status_of(watch).folders, 2);

    sync_write("notes/deep/er/c.txt", "gamma");
    sync_write("a.txt", "alpha two");
    settle(kernel, watch);
    (void)expect(watch, MEMALLOY_FILE_ADDED, "/notes/deep/er/c.txt");
    sync_rename("notes", "archive");
    settle(kernel, watch);
    struct memalloy_watch_event event = expect(watch, MEMALLOY_FILE_MOVED, "archive/deep/er/c.txt");
    assert_non_null(strstr(event.old_path.data, "/notes/deep/er/c.txt"));
    sync_remove("a.txt");
    settle(kernel, watch);
    (void)expect(watch, MEMALLOY_FILE_REMOVED, "/a.txt");
    sync_write("bad.txt", "\xff\xfe nothing that is UTF-8");
    sync_write(".hidden", "nobody looks");
    assert_true(memalloy_watch_settle(watch, SOON_MS));
    event = expect(watch, MEMALLOY_FILE_SKIPPED, "/bad.txt");
    assert_non_null(strstr(event.reason.data, "not UTF-8"));
    sync_remove("bad.txt");
    sync_rename("archive", "../outside/away");
    settle(kernel, watch);
    sync_rename("../outside/away", "back");
    settle(kernel, watch);
    assert_int_equal(status_of(watch).pending, 0);
    assert_int_equal(status_of(watch).failed, 0);
    memalloy_watch_close(watch);
    sync_write("later.txt", "not followed any more");
    mly_clock_sleep_ms(mly_env_system(), 200); /* long enough for one that still ran */
    assert_null(sync_id(kernel, "later.txt"));
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void a_folder_without_events_is_looked_at(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    memalloy_watch *watch = open_watch(kernel, MEMALLOY_WATCH_POLL);
    settle(kernel, watch);
    assert_int_equal(status_of(watch).state, MEMALLOY_WATCH_IS_POLLING);
    sync_write("notes/a.txt", "alpha");
    (void)expect(watch, MEMALLOY_FILE_ADDED, "/notes/a.txt"); /* nobody asked */
    sync_rename("notes", "others");
    settle(kernel, watch);
    (void)expect(watch, MEMALLOY_FILE_MOVED, "/others/a.txt");
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* The system tells of the name by which a file was opened, and of no other. */
static void hard_links_are_followed_under_all_their_names(void **state)
{
    (void)state;
    char first[TEMP_DIR_BYTES + 32], second[TEMP_DIR_BYTES + 32];
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    sync_write("a.txt", "alpha");
    sync_write("deep/b.txt", "beta");
    snprintf(first, sizeof(first), "%s/a.txt", sync_root);
    snprintf(second, sizeof(second), "%s/deep/c.txt", sync_root);
    assert_int_equal(link(first, second), 0);
    memalloy_watch *watch = open_watch(kernel, 0);
    settle(kernel, watch);
    sync_write("deep/c.txt", "alpha two");
    settle(kernel, watch);
    sync_write("a.txt", "alpha three");
    settle(kernel, watch);
    assert_int_equal(status_of(watch).files, 3);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- what the system refuses ---- */

static int adds_left, opens_left;

static int add_few(void *context, int fd, int dir_fd)
{
    if (adds_left <= 0) return -ENOSPC;
    adds_left--;
    return mly_env_system()->notify_add(context, fd, dir_fd);
}

static int open_few(void *context)
{
    return opens_left-- > 0 ? mly_env_system()->notify_open(context) : -EMFILE;
}

static struct mly_env scarce_env(void)
{
    struct mly_env env = *mly_env_system();
    env.notify_add = add_few;
    env.notify_open = open_few;
    env.origin = mly_env_system();
    adds_left = opens_left = 1000;
    return env;
}

static void folders_that_cannot_be_watched_are_looked_at_and_said(void **state)
{
    (void)state;
    static struct mly_env env; /* what fails leaves threads behind */
    env = scarce_env();
    adds_left = 2;
    memalloy_kernel *kernel = sync_open(&env, "kb");
    sync_write("a/1.txt", "alpha");
    sync_write("b/2.txt", "beta");
    sync_write("c/3.txt", "gamma");
    memalloy_watch *watch = open_watch(kernel, 0);
    settle(kernel, watch);
    struct memalloy_watch_event event = expect(watch, MEMALLOY_WATCH_PROBLEM, "");
    assert_non_null(strstr(event.reason.data, "2 folders are not watched"));
    assert_non_null(strstr(event.reason.data, "max_user_watches"));
    assert_int_equal(status_of(watch).unwatched, 2);
    const char *const names[] = {"a/4.txt", "b/5.txt", "c/6.txt"};
    for (size_t i = 0; i < 3; i++) {
        sync_write(names[i], names[i]);
        (void)expect(watch, MEMALLOY_FILE_ADDED, names[i]);
    }
    assert_int_equal(sync_differences(kernel), 0);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void a_system_without_events_is_said(void **state)
{
    (void)state;
    static struct mly_env env; /* what fails leaves threads behind */
    env = scarce_env();
    opens_left = 0;
    memalloy_kernel *kernel = sync_open(&env, "kb");
    memalloy_watch *watch = open_watch(kernel, 0);
    settle(kernel, watch);
    struct memalloy_watch_event event = expect(watch, MEMALLOY_WATCH_PROBLEM, "");
    assert_non_null(strstr(event.reason.data, "max_user_instances"));
    assert_int_equal(status_of(watch).state, MEMALLOY_WATCH_IS_POLLING);
    sync_write("a.txt", "alpha");
    (void)expect(watch, MEMALLOY_FILE_ADDED, "/a.txt");
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void a_folder_that_vanishes_is_waited_for(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    sync_write("a.txt", "alpha");
    memalloy_watch *watch = open_watch(kernel, 0);
    settle(kernel, watch);
    char away[TEMP_DIR_BYTES + 16];
    snprintf(away, sizeof(away), "%s/away", sync_dir);
    assert_int_equal(rename(sync_root, away), 0);
    struct memalloy_watch_event event = expect(watch, MEMALLOY_WATCH_PROBLEM, "");
    assert_non_null(strstr(event.reason.data, "is not there"));
    assert_int_equal(status_of(watch).state, MEMALLOY_WATCH_IS_WAITING);
    uint64_t count = 0;
    assert_int_equal(mly_engine_count(kernel, &count, NULL), MLY_OK);
    assert_int_equal(count, 1);
    assert_int_equal(rename(away, sync_root), 0);
    (void)expect(watch, MEMALLOY_WATCH_SOLVED, "");
    settle(kernel, watch);
    sync_write("b.txt", "beta");
    settle(kernel, watch);
    assert_int_equal(status_of(watch).state, MEMALLOY_WATCH_IS_FOLLOWING);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- life ---- */

static void a_kernel_that_closes_ends_its_watches(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    sync_write("a.txt", "alpha");
    memalloy_watch *first = open_watch(kernel, 0);
    memalloy_watch *second = open_watch(kernel, MEMALLOY_WATCH_POLL);
    settle(kernel, first);
    struct pollfd fd = {.fd = memalloy_watch_descriptor(first), .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 1000), 1);
    (void)expect(first, MEMALLOY_WATCH_SYNCED, "");
    assert_int_equal(poll(&fd, 1, 0), 0);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
    assert_int_equal(poll(&fd, 1, 0), 1);
    (void)expect(first, MEMALLOY_WATCH_ENDED, "");
    (void)expect(second, MEMALLOY_WATCH_ENDED, "");
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
    assert_int_equal(memalloy_watch_next(first, SOON_MS, &event), 0);
    assert_int_equal(status_of(second).state, MEMALLOY_WATCH_IS_ENDED);
    assert_int_equal(memalloy_watch_settle(second, SOON_MS), 1);
    memalloy_watch_close(first);
    memalloy_watch_close(second);
    memalloy_watch_close(NULL);
}

static void what_cannot_be_followed_is_refused(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    memalloy_watch *watch = NULL;
    struct mly_error err = {0};
    struct memalloy_watch_options options = {.struct_bytes = sizeof(options), .flags = 64};
    char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/nothing", sync_root);
    assert_int_equal(mly_engine_watch_open(kernel, path, NULL, &watch, &err), MLY_ERR_NOTFOUND);
    sync_write("nothing", "a file");
    assert_int_equal(mly_engine_watch_open(kernel, path, NULL, &watch, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_engine_watch_open(kernel, sync_root, &options, &watch, &err),
                     MLY_ERR_INVAL);
    const char *const wrong[] = {"[a"};
    options = (struct memalloy_watch_options){
        .struct_bytes = sizeof(options), .include = wrong, .include_count = 1};
    assert_int_equal(mly_engine_watch_open(kernel, sync_root, &options, &watch, &err),
                     MLY_ERR_INVAL);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void events_that_nobody_takes_are_counted(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    const struct memalloy_watch_options options = {
        .struct_bytes = sizeof(options), .quiet_ms = 10, .events_max = 4};
    memalloy_watch *watch = NULL;
    for (int i = 0; i < 9; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%d.txt", i);
        sync_write(name, name);
    }
    assert_int_equal(mly_engine_watch_open(kernel, sync_root, &options, &watch, NULL), MLY_OK);
    settle(kernel, watch);
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
    while (status_of(watch).is_syncing)
        usleep(1000);
    assert_int_equal(memalloy_watch_next(watch, 0, &event), 1);
    assert_int_equal(event.kind, MEMALLOY_WATCH_MISSED);
    assert_int_equal(event.count, 6); /* of nine files and the end */
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

static void a_child_of_fork_leaves_it_alone(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    memalloy_watch *watch = open_watch(kernel, 0);
    settle(kernel, watch);
    pid_t child = fork();
    if (child == 0) {
        struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
        int wrong = memalloy_watch_next(watch, 100, &event);
        wrong += memalloy_watch_descriptor(watch) != -1;
        memalloy_watch_close(watch);
        (void)mly_engine_close(kernel, NULL);
        _exit(wrong);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    sync_write("a.txt", "alpha");
    settle(kernel, watch);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

#define SYNC_TEST(name) cmocka_unit_test_setup_teardown(name, sync_set_up, sync_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SYNC_TEST(what_happens_is_in_the_store),
        SYNC_TEST(a_folder_without_events_is_looked_at),
        SYNC_TEST(hard_links_are_followed_under_all_their_names),
        SYNC_TEST(folders_that_cannot_be_watched_are_looked_at_and_said),
        SYNC_TEST(a_system_without_events_is_said),
        SYNC_TEST(a_folder_that_vanishes_is_waited_for),
        SYNC_TEST(a_kernel_that_closes_ends_its_watches),
        SYNC_TEST(what_cannot_be_followed_is_refused),
        SYNC_TEST(events_that_nobody_takes_are_counted),
        SYNC_TEST(a_child_of_fork_leaves_it_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
