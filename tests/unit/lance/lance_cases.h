/* Rows whose values follow from their number, written and checked by every test of lance. */
#ifndef MLY_TEST_LANCE_CASES_H
#define MLY_TEST_LANCE_CASES_H

#include "mly_cmocka.h"

#include "lance/lance.h"

#include <protobuf-c/protobuf-c.h>

#define CASE_DIM 5
#define CASE_FIELD_COUNT 7
extern const struct mly_lance_field case_fields[CASE_FIELD_COUNT];

/* Fails the test with the message where code is not the one that is wanted. */
void case_expect(enum mly_err got, enum mly_err wanted, const struct mly_error *err);
/* The same, and the message has those words in it. */
void case_check_refused(enum mly_err got, enum mly_err wanted, const char *message,
                        const struct mly_error *err);
#define EXPECT_OK(call) case_expect((call), MLY_OK, &err)

/* Writes rows first to first + count - 1. */
enum mly_err case_write(const struct mly_lance_table *table, uint64_t first, uint64_t count,
                        struct mly_lance_data_file *out, struct mly_error *err);
/* Makes the table with one fragment of those rows and "memalloy.mark" = "first". */
enum mly_err case_create(const struct mly_lance_table *table, uint64_t first, uint64_t count,
                         struct mly_lance_manifest **out, bool *visible, struct mly_error *err);
/* Adds rows 1000 to 1000 + count - 1 and deletes the given rows of fragment 0, in one commit. */
enum mly_err case_update(const struct mly_lance_table *table, const struct mly_lance_manifest *base,
                         uint64_t count, const uint64_t *dead, size_t dead_count,
                         struct mly_lance_manifest **out, bool *visible, struct mly_error *err);

/* Puts pb (struct _MlyPb__Manifest's base) in the place of the manifest of its version, behind an
 * index section of the bytes "index" at 0, and loads the newest. */
struct mly_lance_manifest *case_exchange(const struct mly_lance_table *table,
                                         const ProtobufCMessage *pb);

/* Reads every value of every row and adds up what it is: the same number for the same content. */
enum mly_err case_sum(const struct mly_lance_table *table,
                      const struct mly_lance_manifest *manifest, uint64_t *live, uint64_t *sum,
                      struct mly_error *err);
/* Checks that the fragment has the rows from first on, as case_write made them. */
void case_check_fragment(const struct mly_lance_fragment *fragment, uint64_t first);
/* The same of the manifest's fragment_i. */
void case_check_rows(const struct mly_lance_table *table, const struct mly_lance_manifest *manifest,
                     size_t fragment_i, uint64_t first);

#endif
