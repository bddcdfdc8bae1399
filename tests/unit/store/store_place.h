/* One store in a folder of its own, for the programs that test one: the folder is new for each of
 * their tests, and gone after it. Included once by each. */
#ifndef MLY_TEST_STORE_PLACE_H
#define MLY_TEST_STORE_PLACE_H

#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <dirent.h>
#include <stdio.h>
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

/* ---- files ---- */

static inline void flip(const char *file, long offset)
{
    FILE *stream = fopen(file, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, offset, SEEK_SET), 0);
    int byte = fgetc(stream);
    assert_int_equal(fseek(stream, offset, SEEK_SET), 0);
    assert_int_not_equal(fputc(byte ^ 0x11, stream), EOF);
    fclose(stream);
}

/* The largest file in a table's data, and its size. */
static inline long find_data(const char *table, char *out, size_t out_bytes)
{
    char path[TEMP_DIR_BYTES + 64];
    long largest = 0;
    snprintf(path, sizeof(path), "%s/%s/data", folder, table);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char file[TEMP_DIR_BYTES + 400];
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        FILE *stream = entry->d_name[0] == '.' ? NULL : fopen(file, "rb");
        if (stream == NULL) continue;
        assert_int_equal(fseek(stream, 0, SEEK_END), 0);
        if (ftell(stream) > largest) {
            largest = ftell(stream);
            snprintf(out, out_bytes, "%s", file);
        }
        fclose(stream);
    }
    closedir(dir);
    return largest;
}

#define ON_DISK(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

#endif
