/* A folder that is followed under all that happens to folders: storms, lost events, the end of the
 * process, editors, and those who want what lies outside read. In the end the store is the folder.
 */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "engine/engine_int.h"
#include "sync_cases.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OPERATIONS 2000
#define OPERATIONS_LONG 100000
#define SOON_MS 20000u
#define SOON_MS_LONG 300000u

static int root_fd = -1, outside_fd = -1;
static uint64_t seed = 20261123;
static unsigned counter;

static int set_up(void **state)
{
    if (sync_set_up(state) != 0) return -1;
    root_fd = open(sync_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    outside_fd = open(sync_outside, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return root_fd < 0 || outside_fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
    close(root_fd);
    close(outside_fd);
    return sync_tear_down(state);
}

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(((seed >> 33) * below) >> 31);
}

static memalloy_watch *open_watch(memalloy_kernel *kernel)
{
    const struct memalloy_watch_options options = {
        .struct_bytes = sizeof(options), .quiet_ms = 20, .patience_ms = 200, .reconcile_s = 3600};
    memalloy_watch *watch = NULL;
    struct mly_error err = {0};
    if (mly_engine_watch_open(kernel, sync_root, &options, &watch, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    return watch;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double settle(memalloy_kernel *kernel, memalloy_watch *watch)
{
    double start_s = now_s();
    bool is_long = getenv("MEMALLOY_TEST_LONG") != NULL;
    if (!memalloy_watch_settle(watch, is_long ? SOON_MS_LONG : SOON_MS)) {
        struct memalloy_watch_status status = {.struct_bytes = sizeof(status)};
        memalloy_watch_get_status(watch, &status);
        fail_msg("pending %d, state %d: %s", (int)status.pending, status.state, status.reason);
    }
    double took_s = now_s() - start_s;
    assert_int_equal(sync_differences(kernel), 0);
    return took_s;
}

/* ---- a storm ---- */

/* A name of few, so that they meet. */
static const char *a_name(char out[64])
{
    static const char *const folders[] = {"", "a/", "b/", "a/c/", "a/c/d/", "b/e/", "f\xff/"};
    static const char *const files[] = {"1.txt", "2.md",   "3",       "0.md",  "4 \xc3\xa9.txt",
                                        "5.txt", "6\n.md", "7\xfe.t", "8.txt", "9.txt"};
    snprintf(out, 64, "%s%s", folders[draw(7)], files[draw(10)]);
    return out;
}

static const char *a_folder(char out[64])
{
    static const char *const folders[] = {"a", "b", "a/c", "a/c/d", "b/e", "f\xff", "g", "b/a"};
    snprintf(out, 64, "%s", folders[draw(8)]);
    return out;
}

static void put(int dir_fd, const char *name, int flags)
{
    char text[128];
    int bytes = snprintf(text, sizeof(text), "text %u %u", draw(40), draw(2) ? ++counter : 0);
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    if (fd < 0) return; /* there is no such folder, or it is one */
    for (int i = 0; i < bytes; i += 7)
        (void)!write(fd, text + i, (size_t)(bytes - i < 7 ? bytes - i : 7));
    close(fd);
}

static void remove_all(const char *name)
{
    char path[TEMP_DIR_BYTES + 128];
    snprintf(path, sizeof(path), "%s/%s", sync_root, name);
    temp_dir_remove(path);
}

static void operate(void)
{
    char one[64], two[64];
    switch (draw(16)) {
    case 0:
    case 1:
        (void)mkdirat(root_fd, a_folder(one), 0700);
        break;
    case 2:
        (void)renameat(root_fd, a_name(one), root_fd, a_name(two));
        break;
    case 3:
        (void)renameat(root_fd, a_folder(one), root_fd, a_folder(two));
        break;
    case 4:
        (void)unlinkat(root_fd, a_name(one), 0);
        break;
    case 5:
        if (draw(4) == 0) remove_all(a_folder(one));
        break;
    case 6:
        (void)renameat(root_fd, a_folder(one), outside_fd, "away");
        break;
    case 7:
        (void)renameat(outside_fd, "away", root_fd, a_folder(one));
        break;
    case 8: /* an atomic save */
        put(root_fd, ".tmp", O_TRUNC);
        (void)renameat(root_fd, ".tmp", root_fd, a_name(one));
        break;
    case 9: /* no hard links: of a name that came and went nobody knows which file it was */
        (void)renameat2(root_fd, a_name(one), root_fd, a_name(two), RENAME_EXCHANGE);
        break;
    case 10:
        (void)symlinkat(draw(2) ? "../outside" : "a", root_fd, a_name(one));
        break;
    case 11:
        (void)fchmodat(root_fd, a_name(one), draw(2) ? 0600 : 0644, 0);
        break;
    case 12:
        put(root_fd, draw(3) ? a_name(one) : "a/.hidden", O_APPEND);
        break;
    default:
        put(root_fd, a_name(one), O_TRUNC);
    }
}

static void pause_us(uint32_t most)
{
    struct timespec pause = {0, (long)draw(most) * 1000};
    (void)nanosleep(&pause, NULL);
}

static void after_a_storm_the_store_is_the_folder(void **state)
{
    (void)state;
    int operations = getenv("MEMALLOY_TEST_LONG") != NULL ? OPERATIONS_LONG : OPERATIONS;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    memalloy_watch *watch = open_watch(kernel);
    double slowest_s = 0;
    for (int i = 1; i <= operations; i++) {
        operate();
        if (i % 4 == 0) pause_us(2000);
        if (i % (operations / 4) != 0) continue;
        double took_s = settle(kernel, watch);
        if (took_s > slowest_s) slowest_s = took_s;
    }
    struct memalloy_watch_status status = {.struct_bytes = sizeof(status)};
    memalloy_watch_get_status(watch, &status);
    print_message("%d operations: %u added, %u replaced, %u moved, %u removed; settled in %.2f s\n",
                  operations, (unsigned)status.added, (unsigned)status.replaced,
                  (unsigned)status.moved, (unsigned)status.removed, slowest_s);
    assert_int_equal(status.failed, 0);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- the end of the process ---- */

static void follow_until_killed(void)
{
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    (void)open_watch(kernel);
    for (;;)
        pause();
}

static void a_process_that_was_killed_goes_on_where_it_was(void **state)
{
    (void)state;
    int rounds = getenv("MEMALLOY_TEST_LONG") != NULL ? 200 : 6;
    for (int round = 0; round < rounds; round++) {
        pid_t child = fork();
        if (child == 0) follow_until_killed();
        for (int i = 0; i < 200; i++) {
            operate();
            if (i % 2 == 0) pause_us(1000);
        }
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        for (int i = 0; i < 50; i++)
            operate(); /* while nobody looks */
    }
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    memalloy_watch *watch = open_watch(kernel);
    (void)settle(kernel, watch);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- lost events ---- */

static _Atomic bool is_held, drops;

/* The system's line fills up while nobody reads it; or what is in it is lost, and it says so. */
static int64_t read_held(void *context, int fd, void *out, size_t bytes)
{
    if (atomic_load(&is_held)) return -EAGAIN;
    int64_t result = mly_env_system()->notify_read(context, fd, out, bytes);
    if (result <= 0 || !atomic_exchange(&drops, false)) return result;
    while (result > 0)
        result = mly_env_system()->notify_read(context, fd, out, bytes);
    const struct inotify_event lost = {.wd = -1, .mask = IN_Q_OVERFLOW};
    memcpy(out, &lost, sizeof(lost));
    return (int64_t)sizeof(lost);
}

static void lost_events_lose_nothing(void **state)
{
    (void)state;
    bool is_long = getenv("MEMALLOY_TEST_LONG") != NULL;
    int files = is_long ? 20000 : 400;
    static struct mly_env env;
    env = *mly_env_system();
    env.notify_read = read_held;
    env.origin = mly_env_system();
    memalloy_kernel *kernel = sync_open(&env, "kb");
    memalloy_watch *watch = open_watch(kernel);
    for (int i = 0; i < 10; i++) { /* the others are new when nobody reads */
        char name[16];
        snprintf(name, sizeof(name), "%d", i);
        assert_int_equal(mkdirat(root_fd, name, 0700), 0);
    }
    (void)settle(kernel, watch);
    atomic_store(&is_held, true);
    atomic_store(&drops, !is_long); /* 20,000 creates are more than the system keeps */
    for (int i = 0; i < files; i++) {
        char name[64];
        snprintf(name, sizeof(name), "%d", i % 20);
        (void)mkdirat(root_fd, name, 0700);
        snprintf(name, sizeof(name), "%d/%d.txt", i % 20, i);
        put(root_fd, name, O_TRUNC);
    }
    atomic_store(&is_held, false);
    (void)settle(kernel, watch);
    struct memalloy_watch_status status = {.struct_bytes = sizeof(status)};
    memalloy_watch_get_status(watch, &status);
    assert_true(status.lost > 0);
    assert_int_equal(status.files, files);
    put(root_fd, "3/later.txt", 0); /* folders are watched again */
    (void)settle(kernel, watch);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- editors ---- */

static char new_text[64];

static void write_to(const char *name, int flags)
{
    int fd = openat(root_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
    assert_true(fd >= 0);
    for (size_t i = 0; i < strlen(new_text); i += 10) {
        size_t left = strlen(new_text) - i;
        assert_true(write(fd, new_text + i, left < 10 ? left : 10) > 0);
    }
    close(fd);
}

static void move(const char *from, const char *to)
{
    assert_int_equal(renameat(root_fd, from, root_fd, to), 0);
}

static void exchange(const char *one, const char *two)
{
    assert_int_equal(renameat2(root_fd, one, root_fd, two, RENAME_EXCHANGE), 0);
}

static void drop(const char *name)
{
    assert_int_equal(unlinkat(root_fd, name, 0), 0);
}

static void copy_to(const char *name)
{
    assert_int_equal(linkat(root_fd, "note.txt", root_fd, name, 0), 0);
}

/* Ways to save a file, as programs were seen to do it. */
static void save(int way)
{
    switch (way) {
    case 0: /* nano, VS Code, notepad: in place */
        return write_to("note.txt", O_TRUNC);
    case 1: /* vim: a probe, the old one aside, a new one */
        write_to("4913", O_EXCL);
        drop("4913");
        move("note.txt", "note.txt~");
        write_to("note.txt", O_EXCL);
        drop("note.txt~");
        return;
    case 2: /* vim, backupcopy=yes */
        write_to("note.txt~", O_EXCL);
        write_to("note.txt", O_TRUNC);
        drop("note.txt~");
        return;
    case 3: /* emacs: a lock that is a dangling link, the old one aside */
        assert_int_equal(symlinkat("ada@host.1", root_fd, ".#note.txt"), 0);
        move("note.txt", "note.txt~");
        write_to("note.txt", O_EXCL);
        drop(".#note.txt");
        drop("note.txt~");
        return;
    case 4: /* gedit, kate, Sublime: a hidden one over it */
        write_to(".goutputstream-X", O_EXCL);
        move(".goutputstream-X", "note.txt");
        return;
    case 5: /* sed -i */
        write_to("sedAbc123", O_EXCL);
        assert_int_equal(fchmodat(root_fd, "sedAbc123", 0644, 0), 0);
        move("sedAbc123", "note.txt");
        return;
    case 6: /* LibreOffice: a lock, a new one, the old one aside */
        write_to(".~lock.note.txt#", O_EXCL);
        write_to("lu12345.tmp", O_EXCL);
        move("note.txt", "note.bak");
        move("lu12345.tmp", "note.txt");
        drop("note.bak");
        drop(".~lock.note.txt#");
        return;
    case 7: /* JetBrains */
        write_to("note.txt___jb_tmp___", O_EXCL);
        move("note.txt", "note.txt___jb_old___");
        move("note.txt___jb_tmp___", "note.txt");
        drop("note.txt___jb_old___");
        return;
    case 8: /* removed and made again: cp --remove-destination, git checkout */
        drop("note.txt");
        write_to("note.txt", O_EXCL);
        return;
    case 9: /* both at once */
        write_to("new.tmp", O_EXCL);
        exchange("new.tmp", "note.txt");
        drop("new.tmp");
        return;
    case 10: /* a second name for the old one, a new one over it: rsync --backup, Kate */
        copy_to("note.txt.old");
        write_to("note.part", O_EXCL);
        move("note.part", "note.txt");
        drop("note.txt.old");
        return;
    default: /* moved into a folder, changed there, moved back */
        assert_int_equal(mkdirat(root_fd, "work", 0700), 0);
        move("note.txt", "work/note.txt");
        write_to("work/note.txt", O_TRUNC);
        move("work/note.txt", "note.txt");
        assert_int_equal(unlinkat(root_fd, "work", AT_REMOVEDIR), 0);
    }
}

static void however_it_is_saved_a_file_keeps_its_document(void **state)
{
    (void)state;
    memalloy_kernel *kernel = sync_open(mly_env_system(), "kb");
    sync_write("note.txt", "the first text");
    memalloy_watch *watch = open_watch(kernel);
    (void)settle(kernel, watch);
    char id[64];
    snprintf(id, sizeof(id), "%s", sync_id(kernel, "note.txt"));
    for (int way = 0; way < 12; way++) {
        snprintf(new_text, sizeof(new_text), "text number %d of them all", way);
        save(way);
        (void)settle(kernel, watch);
        assert_string_equal(sync_id(kernel, "note.txt"), id);
    }
    uint64_t count = 0;
    assert_int_equal(mly_engine_count(kernel, &count, NULL), MLY_OK);
    assert_int_equal(count, 1);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

/* ---- what lies outside ---- */

static struct stat secret;
static _Atomic int secrets_opened;
static _Atomic bool attackers_stop;

static int open_watched(void *context, int dir_fd, const char *path, uint32_t flags)
{
    int fd = mly_env_system()->open(context, dir_fd, path, flags);
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0 && info.st_ino == secret.st_ino &&
        info.st_dev == secret.st_dev) {
        atomic_fetch_add(&secrets_opened, 1);
    }
    return fd;
}

static void *swap_paths(void *argument)
{
    unsigned i = 0;
    (void)argument;
    while (!atomic_load(&attackers_stop)) {
        (void)unlinkat(root_fd, "file", 0);
        if (i % 3 == 0) (void)symlinkat("../outside/secret", root_fd, "file");
        if (i % 3 == 1) (void)mkfifoat(root_fd, "file", 0600);
        if (i % 3 == 2) put(root_fd, "file", O_EXCL);
        (void)renameat(root_fd, "folder", root_fd, "aside");
        if (i % 2 == 0) (void)symlinkat("../outside", root_fd, "folder");
        (void)renameat(root_fd, "aside/secret", root_fd, "aside/other");
        (void)renameat(root_fd, "aside/other", root_fd, "aside/secret");
        (void)unlinkat(root_fd, "folder", 0);
        (void)renameat(root_fd, "aside", root_fd, "folder");
        i++;
    }
    return NULL;
}

static void nothing_outside_is_read(void **state)
{
    (void)state;
    pthread_t attacker;
    static struct mly_env env;
    env = *mly_env_system();
    env.open = open_watched;
    env.origin = mly_env_system();
    put(outside_fd, "secret", O_EXCL);
    assert_int_equal(fstatat(outside_fd, "secret", &secret, 0), 0);
    sync_write("folder/secret", "not the one outside");
    memalloy_kernel *kernel = sync_open(&env, "kb");
    memalloy_watch *watch = open_watch(kernel);
    assert_int_equal(pthread_create(&attacker, NULL, swap_paths, NULL), 0);
    static const char *const all[] = {"file", "folder", "folder/secret", NULL};
    for (int i = 0; i < (getenv("MEMALLOY_TEST_LONG") != NULL ? 1000 : 60); i++)
        (void)sync_now(kernel, i % 2 == 0 ? NULL : all);
    atomic_store(&attackers_stop, true);
    pthread_join(attacker, NULL);
    (void)settle(kernel, watch);
    /* Links and pipes that stay. */
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof(name), "link%d", i);
        if (i % 4 == 0) (void)symlinkat("../outside/secret", root_fd, name);
        if (i % 4 == 1) (void)symlinkat("/proc/self/mem", root_fd, name);
        if (i % 4 == 2) (void)mkfifoat(root_fd, name, 0600);
        if (i % 4 == 3) (void)mknodat(root_fd, name, S_IFCHR | 0600, 0x103); /* /dev/null */
    }
    (void)settle(kernel, watch);
    assert_int_equal(atomic_load(&secrets_opened), 0);
    memalloy_watch_close(watch);
    assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
}

#define STORM_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORM_TEST(a_process_that_was_killed_goes_on_where_it_was), /* before there are threads */
        STORM_TEST(after_a_storm_the_store_is_the_folder),
        STORM_TEST(lost_events_lose_nothing),
        STORM_TEST(however_it_is_saved_a_file_keeps_its_document),
        STORM_TEST(nothing_outside_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
