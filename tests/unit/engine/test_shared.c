/* Handles of one process on one store: those that were opened in the same way have one object below
 * them, and so one lock file; others, and those on a folder that was made again, have their own. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "temp_dir.h"

#include <memalloy.h>

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DIM = 4, THREADS = 6, ROUNDS = 12 };

static char dir[TEMP_DIR_BYTES], store[TEMP_DIR_BYTES + 8];
static const float vector[DIM] = {1, 2, 3, 4};

static memalloy_kernel *open_with(int durability)
{
    const struct memalloy_options options = {.struct_bytes = sizeof(options),
                                             .flags = MEMALLOY_OPEN_NO_MODEL,
                                             .dim = DIM,
                                             .durability = durability};
    memalloy_kernel *kernel = NULL;
    struct memalloy_error err = {0};
    if (memalloy_open(&kernel, store, &options, &err) != MEMALLOY_OK) fail_msg("%s", err.message);
    return kernel;
}

static int add(memalloy_kernel *kernel)
{
    const struct memalloy_str text = {"x", 1};
    return memalloy_add_vectors(kernel, &text, vector, 1, DIM, NULL, NULL, NULL);
}

static uint64_t count(memalloy_kernel *kernel)
{
    uint64_t found = 0;
    assert_int_equal(memalloy_count(kernel, &found, NULL), MEMALLOY_OK);
    return found;
}

/* Descriptors of lock files that this process has open. */
static int locks(void)
{
    int found = 0;
    DIR *fds = opendir("/proc/self/fd");
    assert_non_null(fds);
    for (const struct dirent *entry; (entry = readdir(fds)) != NULL;) {
        char target[512] = "";
        ssize_t bytes = readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1);
        if (bytes > 0 && strstr(target, "/_memalloy/lock") != NULL) found++;
    }
    closedir(fds);
    return found;
}

static int new_store(void **state)
{
    (void)state;
    temp_dir_make(dir);
    (void)snprintf(store, sizeof(store), "%s/kb", dir);
    return 0;
}

static int no_store(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static void handles_of_one_manner_have_one_object(void **state)
{
    (void)state;
    memalloy_kernel *first = open_with(MEMALLOY_DURABILITY_FULL);
    assert_int_equal(add(first), 0); /* makes the folder */
    memalloy_kernel *second = open_with(MEMALLOY_DURABILITY_FULL);
    assert_int_equal(add(second), 0);
    assert_int_equal(locks(), 1);
    assert_int_equal(count(first), 2);
    /* What one has written is in the tables when it is closed, as if it were alone. */
    assert_int_equal(memalloy_close(first, NULL), 0);
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    assert_int_equal(memalloy_get_status(second, &status, NULL), 0);
    assert_true(status.documents_version > 0);
    assert_int_equal(add(second), 0);
    assert_int_equal(count(second), 3);
    assert_int_equal(memalloy_close(second, NULL), 0);
    assert_int_equal(locks(), 0);
}

static void handles_of_other_manners_have_their_own(void **state)
{
    (void)state;
    memalloy_kernel *first = open_with(MEMALLOY_DURABILITY_FULL);
    assert_int_equal(add(first), 0);
    memalloy_kernel *second = open_with(MEMALLOY_DURABILITY_OFF);
    assert_int_equal(add(second), 0);
    assert_int_equal(locks(), 2);
    assert_int_equal(count(first), 2);
    assert_int_equal(memalloy_close(first, NULL), 0);
    assert_int_equal(memalloy_close(second, NULL), 0);
    first = open_with(MEMALLOY_DURABILITY_MEMORY);
    second = open_with(MEMALLOY_DURABILITY_MEMORY);
    assert_int_equal(add(first), 0);
    assert_int_equal(count(second), 2);
    assert_int_equal(memalloy_close(first, NULL), 0);
    assert_int_equal(memalloy_close(second, NULL), 0);
}

static void a_folder_that_was_made_again_is_another_store(void **state)
{
    (void)state;
    memalloy_kernel *first = open_with(MEMALLOY_DURABILITY_OFF);
    assert_int_equal(add(first), 0);
    temp_dir_remove(store);
    memalloy_kernel *second = open_with(MEMALLOY_DURABILITY_OFF);
    assert_int_equal(count(second), 0);
    assert_int_equal(add(second), 0);
    memalloy_kernel *third = open_with(MEMALLOY_DURABILITY_OFF);
    assert_int_equal(count(third), 1);
    assert_int_equal(add(third), 0);
    assert_int_equal(count(second), 2);
    assert_int_equal(locks(), 2);
    (void)memalloy_close(first, NULL);
    assert_int_equal(memalloy_close(third, NULL), 0);
    assert_int_equal(memalloy_close(second, NULL), 0);
}

static void a_child_of_fork_shares_nothing_with_its_parent(void **state)
{
    (void)state;
    memalloy_kernel *first = open_with(MEMALLOY_DURABILITY_OFF);
    assert_int_equal(add(first), 0);
    memalloy_kernel *unused = open_with(MEMALLOY_DURABILITY_OFF);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        uint64_t found = 0;
        int rc = memalloy_count(first, &found, NULL) == MEMALLOY_ERR_FORKED ? 0 : 1;
        memalloy_close(first, NULL);
        memalloy_kernel *own = open_with(MEMALLOY_DURABILITY_OFF);
        if (add(own) != 0 || add(unused) != 0 || locks() != 1) rc = 2;
        if (memalloy_close(unused, NULL) != 0 || memalloy_close(own, NULL) != 0) rc = 3;
        _exit(rc);
    }
    int result = 1;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    assert_int_equal(count(first), 3);
    assert_int_equal(memalloy_close(first, NULL), 0);
    assert_int_equal(memalloy_close(unused, NULL), 0);
}

static void *open_add_close(void *failed)
{
    const struct memalloy_options options = {.struct_bytes = sizeof(options),
                                             .flags = MEMALLOY_OPEN_NO_MODEL,
                                             .dim = DIM,
                                             .durability = MEMALLOY_DURABILITY_OFF};
    const struct memalloy_str text = {"x", 1};
    for (int i = 0; i < ROUNDS; i++) {
        struct memalloy_error err = {0};
        memalloy_kernel *kernel = NULL;
        int rc = memalloy_open(&kernel, store, &options, &err);
        if (rc == MEMALLOY_OK) {
            rc = memalloy_add_vectors(kernel, &text, vector, 1, DIM, NULL, NULL, &err);
            int end = memalloy_close(kernel, rc == MEMALLOY_OK ? &err : NULL);
            if (rc == MEMALLOY_OK) rc = end;
        }
        if (rc != MEMALLOY_OK) {
            fprintf(stderr, "round %d: %s\n", i, err.message);
            atomic_fetch_add((_Atomic int *)failed, 1);
        }
    }
    return NULL;
}

static void threads_may_open_and_close_at_once(void **state)
{
    (void)state;
    _Atomic int failed = 0;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_add_close, &failed), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&failed), 0);
    memalloy_kernel *kernel = open_with(MEMALLOY_DURABILITY_OFF);
    assert_int_equal(count(kernel), THREADS * ROUNDS);
    assert_int_equal(memalloy_close(kernel, NULL), 0);
    assert_int_equal(locks(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(handles_of_one_manner_have_one_object, new_store, no_store),
        cmocka_unit_test_setup_teardown(handles_of_other_manners_have_their_own, new_store,
                                        no_store),
        cmocka_unit_test_setup_teardown(a_folder_that_was_made_again_is_another_store, new_store,
                                        no_store),
        cmocka_unit_test_setup_teardown(a_child_of_fork_shares_nothing_with_its_parent, new_store,
                                        no_store),
        cmocka_unit_test_setup_teardown(threads_may_open_and_close_at_once, new_store, no_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
