/* A writer that is between the two tables, or that died there: what other handles are given
 * meanwhile, and what mending takes away. */
#define _GNU_SOURCE
#include "store/store_int.h"

#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENTS 4

/* A writer whose system calls look, at each version of a table that is about to appear, at what the
 * readers are given; at version fail_at it dies. */
static struct {
    char folder[TEMP_DIR_BYTES];
    struct case_entry entries[DOCUMENTS];
    struct mly_store *reader; /* open all the time */
    int links, fail_at;
} world;

static struct mly_store *open_with(const struct mly_env *env, bool read_only)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.read_only = read_only;
    case_ok(mly_store_open(env, world.folder, &options, &store, &err), &err);
    return store;
}

static void check_readers(void)
{
    case_check(world.reader, world.entries, DOCUMENTS);
    struct mly_store *late = open_with(mly_env_system(), true);
    case_check(late, world.entries, DOCUMENTS);
    mly_store_close(late);
}

static int link_watched(void *context, int dir_fd, const char *from, const char *to)
{
    const struct mly_env *real = mly_env_system();
    if (strstr(to, "/_versions/") == NULL) return real->link(context, dir_fd, from, to);
    world.links++;
    if (world.links >= world.fail_at && world.fail_at > 0) return -EIO;
    check_readers();
    return real->link(context, dir_fd, from, to);
}

static struct mly_env watched_env(void)
{
    struct mly_env env = *mly_env_system();
    env.link = link_watched;
    return env;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    temp_dir_make(world.folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mly_store_close(world.reader);
    temp_dir_remove(world.folder);
    return 0;
}

static void put_all(struct mly_store *store)
{
    struct mly_error err = {0};
    for (uint32_t i = 0; i + 1 < DOCUMENTS; i++) {
        case_ok(case_put(store, i, i + 1, &err), &err);
        world.entries[i] = case_entry(true, i + 1, 0);
    }
}

/* Replaces 0, touches 1, removes 2 and adds 3. */
static enum mly_err commit_mixed(struct mly_store *store, struct mly_error *err)
{
    static struct case_document documents[DOCUMENTS];
    struct mly_change changes[DOCUMENTS];
    case_make(&documents[0], 0, 9, 0);
    case_make(&documents[1], 1, 2, 7);
    case_make(&documents[2], 2, 3, 0);
    case_make(&documents[3], 3, 8, 0);
    for (size_t i = 0; i < DOCUMENTS; i++)
        changes[i] = case_change(&documents[i]);
    changes[1].kind = MLY_CHANGE_TOUCH;
    changes[2].kind = MLY_CHANGE_REMOVE;
    return case_commit(store, changes, DOCUMENTS, err);
}

static void readers_are_never_given_half_a_commit(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_env env = watched_env();
    world.reader = open_with(mly_env_system(), false);
    struct mly_store *writer = open_with(&env, false);
    for (uint32_t i = 0; i + 1 < DOCUMENTS; i++) {
        case_ok(case_put(writer, i, i + 1, &err), &err);
        world.entries[i] = case_entry(true, i + 1, 0);
        check_readers();
    }
    case_ok(commit_mixed(writer, &err), &err);
    assert_true(world.links >= 9);
    world.entries[0] = case_entry(true, 9, 0);
    world.entries[1] = case_entry(true, 2, 7);
    world.entries[2] = case_entry(false, 0, 0);
    world.entries[3] = case_entry(true, 8, 0);
    check_readers();
    mly_store_close(writer);
}

static void readers_are_given_what_was_there_before_a_crash(void **state)
{
    (void)state;
    for (int fail_at = 1; fail_at <= 3; fail_at++) {
        struct mly_error err = {0};
        struct mly_env env = watched_env();
        memset(world.entries, 0, sizeof(world.entries));
        temp_dir_remove(world.folder);
        temp_dir_make(world.folder);
        world.reader = open_with(mly_env_system(), false);
        put_all(world.reader);
        struct mly_store *writer = open_with(&env, false);
        world.links = 0;
        world.fail_at = fail_at;
        assert_int_equal(commit_mixed(writer, &err), MLY_ERR_IO);
        mly_store_close(writer);
        check_readers();
        check_readers();
        mly_store_close(world.reader);
        world.reader = NULL;
    }
}

int main(void)
{
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers_are_never_given_half_a_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_are_given_what_was_there_before_a_crash, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
