/* What the two files of the disk in memory share. */
#ifndef MLY_TEST_CRASH_ENV_INT_H
#define MLY_TEST_CRASH_ENV_INT_H

#include "crash_env.h"

#define SECTOR 512
#define NAME_BYTES 128

struct crash_entry {
    char name[NAME_BYTES];
    size_t inode;
};

struct crash_inode {
    bool is_dir;
    uint8_t *data;
    uint64_t bytes, capacity;
    struct crash_entry *entries;
    size_t entry_count;
    int64_t changed;
    int locked[4]; /* descriptor that holds byte i, or 0 */
    /* what it was when the disk was made */
    uint8_t *first_data;
    uint64_t first_bytes;
    struct crash_entry *first_entries;
    size_t first_entry_count;
};

enum op_kind { OP_WRITE, OP_SIZE, OP_GROW, OP_ADD, OP_REMOVE, OP_MOVE, OP_SYNC };

struct crash_op {
    enum op_kind kind;
    size_t inode; /* of the file, or of the folder */
    uint64_t offset, bytes;
    uint8_t *data;
    char name[NAME_BYTES], to[NAME_BYTES];
    size_t target; /* the inode that the name leads to */
    bool is_dir;   /* of target */
    bool forsaken; /* a sync of it failed: no later one covers it */
};

/* block; ends the program where it is NULL. */
void *crash_need(void *block);
size_t crash_new_inode(struct crash_env *crash, bool is_dir);
void crash_set_size(struct crash_inode *inode, uint64_t bytes);
void crash_set_entry(struct crash_inode *dir, const char *name, size_t inode);
/* Does the part of an operation that keep says: bit i of it for sector i of a write; NULL: all. */
void crash_apply(struct crash_env *crash, const struct crash_op *op, const uint8_t *keep);

#endif
