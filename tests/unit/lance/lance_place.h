/* One table in a folder of its own, for the programs that test one: made anew for each of their
 * tests, through a system table that fails on request; nothing may be left of it. Included once by
 * each. */
#ifndef MLY_TEST_LANCE_PLACE_H
#define MLY_TEST_LANCE_PLACE_H

#include "fault_env.h"
#include "lance_cases.h"
#include "temp_dir.h"

#include "lance/lance_commit_int.h"

#include <stdio.h>

static char folder[TEMP_DIR_BYTES];
static char path[TEMP_DIR_BYTES + 32], sums_path[TEMP_DIR_BYTES + 32];
static struct fault_env fault;
static struct mly_lance_table *table;
static struct mly_error err;

#define CHECK_REFUSED(call, code, message) case_check_refused((call), (code), (message), &err)

/* A table without sums; the name has a space, as a user's folder may. */
static inline int setup(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/a t.lance", folder);
    snprintf(sums_path, sizeof(sums_path), "%s/private/sums/t", folder);
    fault_env_init(&fault);
    return mly_lance_table_open(&fault.env, path, &table, &err) == MLY_OK ? 0 : 1;
}

static inline int setup_with_sums(void **state)
{
    if (setup(state) != 0) return 1;
    return mly_lance_table_set_sums(table, sums_path, &err) == MLY_OK ? 0 : 1;
}

static inline int teardown(void **state)
{
    (void)state;
    mly_lance_table_close(table);
    temp_dir_remove(folder);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    return 0;
}

/* Version 1, of rows 0 to rows - 1. */
static inline struct mly_lance_manifest *create(uint64_t rows)
{
    struct mly_lance_manifest *manifest;
    bool visible;
    EXPECT_OK(case_create(table, 0, rows, &manifest, &visible, &err));
    assert_true(visible);
    return manifest;
}

/* The newest version, or NULL. */
static inline struct mly_lance_manifest *load(void)
{
    struct mly_lance_manifest *manifest;
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    return manifest;
}

/* Versions 1 to last; each after the first has a row more and one less. */
static inline void make_history(uint64_t rows, uint64_t last)
{
    struct mly_lance_manifest *manifest = create(rows), *next;
    bool visible;
    for (uint64_t version = 2; version <= last; version++) {
        EXPECT_OK(case_update(table, manifest, 1, &version, 1, &next, &visible, &err));
        mly_lance_manifest_destroy(manifest);
        manifest = next;
    }
    mly_lance_manifest_destroy(manifest);
}

#endif
