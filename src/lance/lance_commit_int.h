/* Private to commit: one commit in the making. */
#ifndef MLY_LANCE_LANCE_COMMIT_INT_H
#define MLY_LANCE_LANCE_COMMIT_INT_H

#include "lance/lance_int.h"

#define LANCE_TXN_NAME_BYTES 80

/* What the change comes to, in messages of the format. All in the arena; what the base's manifest
 * has is borrowed from there. */
struct lance_commit {
    const struct mly_lance_table *table;
    const struct mly_lance_manifest *base; /* NULL: a creation */
    const struct mly_lance_change *change;
    struct mly_arena arena;
    uint64_t read_version;               /* base's, or 0 */
    MlyPb__Field **fields;               /* of a creation */
    MlyPb__Fragment **added;             /* with their ids */
    MlyPb__Fragment **added_without_ids; /* as transactions name them */
    size_t added_count;
    MlyPb__Fragment **updated; /* with their new deletion files */
    size_t updated_count;
    uint64_t *removed;
    size_t removed_count;
    char (*deletion_names)[LANCE_DELETION_NAME_BYTES]; /* files written by this commit */
    size_t deletion_name_count;
    char txn_name[LANCE_TXN_NAME_BYTES];
    bool has_txn_file;
    char own_version[24]; /* MLY_LANCE_OWN_KEY's value */
    struct mly_bytes txn; /* the transaction, packed */
    /* where an index comes */
    MlyPb__IndexMetadata *index;
    MlyPb__IndexMetadata **replaced; /* those of its name, of old_section */
    size_t replaced_count;
    MlyPb__IndexSection *old_section; /* NULL: the base has none */
    struct mly_bytes section;         /* packed, with it */
};

/* Fills in what the commit has of its change's index. lance_index.c */
MLY_MUST_USE enum mly_err mly_lance_make_index(struct lance_commit *commit, struct mly_error *err);

/* Fills in txn_name and txn from what the others say. */
MLY_MUST_USE enum mly_err mly_lance_make_transaction(struct lance_commit *commit,
                                                     struct mly_error *err);
/* The manifest file of the new version. */
MLY_MUST_USE enum mly_err mly_lance_make_manifest(struct lance_commit *commit,
                                                  struct mly_bytes *out, struct mly_error *err);

#endif
