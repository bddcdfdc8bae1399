/* One store in a folder of its own, for the programs that test one: the folder is new for each of
 * their tests, and gone after it. Included once by each. */
#ifndef MLY_TEST_STORE_PLACE_H
#define MLY_TEST_STORE_PLACE_H

#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <stdlib.h>
#include <unistd.h>

static char folder[TEMP_DIR_BYTES];
static struct mly_error err;

static inline int set_up(void **state)
{
    (void)state;
    temp_dir_make(folder);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static inline struct mly_store *open_store(const struct mly_env *env)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    case_ok(mly_store_open(env, folder, &options, &store, &err), &err);
    return store;
}

/* Thousands of commits: on a disk their syncs take minutes. */
static inline void work_in_memory(void)
{
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 0);
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
