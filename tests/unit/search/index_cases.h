/* A small store with an index of its own, and what it must answer whatever happened to it: what
 * looking at every vector of the same snapshot finds. */
#ifndef MLY_TEST_INDEX_CASES_H
#define MLY_TEST_INDEX_CASES_H

#include "search/search.h"

#define INDEX_DIM 12
#define INDEX_ROWS_EACH 20
#define INDEX_DOCUMENTS 32
/* Rows from which there is an index, and rows of a data file from which it is in it. */
#define INDEX_ROWS_MIN 120
#define INDEX_FILE_ROWS_MIN 16
#define INDEX_K 7

/* Fails the test with the message where rc is not OK. */
void index_ok(enum mly_err rc, const struct mly_error *err);
enum mly_err index_open(const struct mly_env *env, const char *path, bool read_only,
                        struct mly_store **out, struct mly_error *err);
/* begin, commit, end: puts documents first to first + count, with vectors of that version. */
enum mly_err index_put(struct mly_store *store, uint32_t first, uint32_t count, uint32_t version,
                       struct mly_error *err);
enum mly_err index_remove(struct mly_store *store, uint32_t first, uint32_t count,
                          struct mly_error *err);
enum mly_err index_make(struct mly_store *store, struct mly_error *err);

struct index_seen {
    uint64_t rows;    /* there are */
    uint64_t indexed; /* of them, those that were not looked at one by one */
    bool was_damaged; /* a search said so */
};
/* Searches for several things through the index, one by one and all at once. Where a search says OK
 * and its answer is not the exact one, the test fails; other results are passed on. seen may be
 * NULL. */
enum mly_err index_look(const struct mly_env *env, struct mly_store *store, struct index_seen *seen,
                        struct mly_error *err);
/* Of a healthy store of that path: right before the index is looked through and made, and after it;
 * then nothing is due, and where it was made, what lies about is one segment, its guard's file, and
 * records. */
void index_check(const struct mly_env *env, struct mly_store *store, const char *path,
                 struct index_seen *seen);

#endif
