/* A folder, a store and a tiny model, for tests of what follows a folder; and the check that all of
 * them end with: the store holds the folder, file by file and hash by hash.
 */
#ifndef MLY_ENGINE_SYNC_CASES_H
#define MLY_ENGINE_SYNC_CASES_H

#include "os/os.h"
#include "temp_dir.h"

#include <memalloy.h>

#include <stdbool.h>

extern char sync_dir[TEMP_DIR_BYTES];          /* the test's own */
extern char sync_root[TEMP_DIR_BYTES + 16];    /* the folder that is followed */
extern char sync_outside[TEMP_DIR_BYTES + 16]; /* one beside it */

/* Setup and teardown of a test. */
int sync_set_up(void **state);
int sync_tear_down(void **state);
/* A new store below sync_dir, or the one of that name again. */
memalloy_kernel *sync_open(const struct mly_env *env, const char *name);

/* Below sync_root; folders on the way are made. */
void sync_write(const char *name, const char *text);
void sync_remove(const char *name);
void sync_rename(const char *from, const char *to);
/* Syncs sync_root and gives what it did; the numbers add up, or the test fails. paths: a list that
 * NULL ends, or NULL. */
struct memalloy_sync_counts sync_now(memalloy_kernel *kernel, const char *const *paths);
/* How many files differ between the folder and the store; told on the error stream. */
size_t sync_differences(memalloy_kernel *kernel);
/* The id of a file's document, until the next call; NULL: it has none. */
const char *sync_id(memalloy_kernel *kernel, const char *name);

#endif
