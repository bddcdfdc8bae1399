/* One store with an index in a folder of its own, for the programs that test one: the folder is new
 * for each of their tests, and gone after it. Included once by each. */
#ifndef MLY_TEST_INDEX_PLACE_H
#define MLY_TEST_INDEX_PLACE_H

#include "index_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

static char path[TEMP_DIR_BYTES];

static inline int set_up(void **state)
{
    (void)state;
    temp_dir_make(path);
    temp_dir_remove(path);
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(path);
    return 0;
}

static inline struct mly_store *open_store(bool read_only)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    index_ok(index_open(mly_env_system(), path, read_only, &store, &err), &err);
    return store;
}

#endif
