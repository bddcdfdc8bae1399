/* Key files: which rows of one data file have which key, sorted, so that opening a store and
 * finding a row cost nothing per row. Layout in docs/FORMAT.md, "Key files".
 *
 * A key file is derived: it can be deleted at any time, is never synced, and one that is missing,
 * damaged or of other data is no error of the store's. What it says of a row is a guess until the
 * row itself was compared; that it leaves no row out is what its sums and its subject are for.
 *
 * Owns     the file its mapping; a draft its lists. Both are freed by their close or deinit.
 * Threads  an open file may be searched from any thread; a draft belongs to one.
 * Errors   NOTFOUND there is none; CORRUPT it is damaged, or of another subject; IO, NOMEM, LIMIT.
 */
#ifndef MLY_STORE_STORE_KEYFILE_H
#define MLY_STORE_STORE_KEYFILE_H

#include "base/err.h"
#include "os/os.h"

#include <stdatomic.h>

#define MLY_KEYFILE_KEYS_MAX 2

/* Which data a key file is of. */
struct mly_keyfile_subject {
    uint64_t binding; /* a hash of the data files' names and of where the columns stand in them */
    uint64_t row_count;
    uint32_t key_count; /* 1 to MLY_KEYFILE_KEYS_MAX */
};

/* Consecutive rows with one hash. */
struct mly_keyfile_run {
    uint64_t hash;
    uint32_t first, count;
};

/* ---- reading ---- */

struct mly_keyfile;

/* Costs what its sums take: 1 byte per 1,024 of the file. */
MLY_MUST_USE enum mly_err mly_keyfile_open(const struct mly_env *env, const char *path,
                                           const struct mly_keyfile_subject *subject,
                                           struct mly_keyfile **out, struct mly_error *err);
/* Accepts NULL. */
void mly_keyfile_close(struct mly_keyfile *file);
uint64_t mly_keyfile_run_count(const struct mly_keyfile *file, size_t key_i);
/* The first run whose hash is not below hash; the run count where there is none. */
MLY_MUST_USE enum mly_err mly_keyfile_find(struct mly_keyfile *file, size_t key_i, uint64_t hash,
                                           uint64_t *run_i, struct mly_error *err);
/* run_i below the run count. CORRUPT where the block it stands in does not pass its sum. */
MLY_MUST_USE enum mly_err mly_keyfile_get(struct mly_keyfile *file, size_t key_i, uint64_t run_i,
                                          struct mly_keyfile_run *out, struct mly_error *err);
/* Rows of files that were skipped, ascending; all of them were checked when the file was opened. */
size_t mly_keyfile_skipped_count(const struct mly_keyfile *file);
uint32_t mly_keyfile_skipped(const struct mly_keyfile *file, size_t i);

/* ---- making ---- */

/* What is gathered before it is written. */
struct mly_keyfile_draft {
    struct mly_mem *mem;
    struct mly_keyfile_runs {
        struct mly_keyfile_run *items;
        size_t count, capacity;
    } keys[MLY_KEYFILE_KEYS_MAX];
    uint32_t *skipped;
    size_t skipped_count, skipped_capacity;
};

void mly_keyfile_draft_init(struct mly_keyfile_draft *draft, struct mly_mem *mem);
void mly_keyfile_draft_deinit(struct mly_keyfile_draft *draft);
/* Rows of a key come in ascending order, each once. */
MLY_MUST_USE enum mly_err mly_keyfile_draft_add(struct mly_keyfile_draft *draft, size_t key_i,
                                                uint64_t hash, uint32_t row, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_keyfile_draft_skip(struct mly_keyfile_draft *draft, uint32_t row,
                                                 struct mly_error *err);
/* Sorts the draft and makes it the file of that name, in the place of one that is there. The folder
 * exists. On failure nothing new has a name, where it can be helped. */
MLY_MUST_USE enum mly_err mly_keyfile_write(const struct mly_env *env, const char *folder,
                                            const char *name,
                                            const struct mly_keyfile_subject *subject,
                                            struct mly_keyfile_draft *draft, struct mly_error *err);
/* By hash, then by row; needs no memory. */
void mly_keyfile_sort(struct mly_keyfile_run *runs, size_t count);

#endif
