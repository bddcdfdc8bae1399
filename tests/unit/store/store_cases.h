/* Documents that can be told from their number and version alone, a plain array of which ones there
 * should be, and the comparison of a store with that array.
 */
#ifndef MLY_TEST_STORE_CASES_H
#define MLY_TEST_STORE_CASES_H

#include "store/store.h"

#define CASE_DIM 6
#define CASE_CHUNKS_MAX 12
#define CASE_TEXT_BYTES 96

/* A document of the test's, with everything it points to. */
struct case_document {
    struct mly_document document;
    struct mly_chunk_row rows[CASE_CHUNKS_MAX];
    size_t row_count;
    char id[32], path[64], title[32], metadata[64], reason[32];
    char texts[CASE_CHUNKS_MAX][CASE_TEXT_BYTES];
    char text[CASE_CHUNKS_MAX * CASE_TEXT_BYTES];
    float vectors[CASE_CHUNKS_MAX][CASE_DIM];
};

/* version 0: a file that was skipped, without chunks; else a document of 1 to CASE_CHUNKS_MAX
 * chunks. stamp changes nothing but the file's stamp. */
void case_make(struct case_document *out, uint32_t number, uint32_t version, uint32_t stamp);
/* PUT, or TOUCH for a skipped one. */
struct mly_change case_change(const struct case_document *document);

/* What should be there: one entry for each number. */
struct case_entry {
    bool there;
    uint32_t version, stamp;
    /* The row was made to fit its chunks after an interrupted commit: no stamp, an old title. */
    bool mended;
    uint32_t metadata; /* case_set_metadata; 0: the version's own */
};

static inline struct case_entry case_entry(bool there, uint32_t version, uint32_t stamp)
{
    return (struct case_entry){there, version, stamp, false, 0};
}

/* Other metadata, of document and chunks. CASE_METADATA_BIG has so many bytes that a document with
 * CASE_CHUNKS_MAX chunks makes its commit a load. */
#define CASE_METADATA_BIG UINT32_MAX
void case_set_metadata(struct case_document *document, uint32_t metadata);
/* The document that an entry speaks of, its metadata set. */
void case_make_entry(struct case_document *out, uint32_t number, const struct case_entry *entry);

/* Fails the test where the newest snapshot is not what the entries say, in any way that the door
 * offers to look at it. */
void case_check(struct mly_store *store, const struct case_entry *entries, size_t entry_count);
/* The same of a snapshot. */
void case_check_snapshot(const struct mly_snapshot *snapshot, struct mly_mem *mem,
                         const struct case_entry *entries, size_t entry_count);
/* After a commit that failed or was killed: fails the test unless every document is wholly as in
 * entries or wholly as in wanted, and puts what it is into entries. The next begin mends before. */
void case_learn(struct mly_store *store, struct case_entry *entries,
                const struct case_entry *wanted, size_t entry_count);
/* begin, commit, end. */
enum mly_err case_commit(struct mly_store *store, const struct mly_change *changes, size_t count,
                         struct mly_error *err);
/* PUT (or TOUCH) of one. */
enum mly_err case_put(struct mly_store *store, uint32_t number, uint32_t version,
                      struct mly_error *err);
enum mly_err case_remove(struct mly_store *store, uint32_t number, struct mly_error *err);

/* Fails the test with the message where rc is not OK. */
void case_ok(enum mly_err rc, const struct mly_error *err);
struct mly_store_options case_options(void);

/* xorshift: the same numbers for the same seed everywhere. */
uint32_t case_random(uint64_t *state);

#endif
