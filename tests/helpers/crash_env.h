/* A system table over a disk that lives in memory and remembers the order of everything that was
 * done to it, so that a power cut can be tried at every moment and in every way a file system may
 * answer it.
 *
 * What survives at a moment: whatever a sync covers. Of the rest, anything may be there or not, in
 * any combination: each 512 bytes of a write, each change of a size, each name that was made, moved
 * or removed. A sync of a file covers its bytes and its size, one of a folder the names in it,
 * nothing else; a name that was not synced is lost with all that is below it. This is more than
 * ext4 and xfs do (they keep the order of names), and what POSIX allows.
 *
 * Bytes that were never written are zeros, files are looked up without links, locks are kept, and
 * the clock, chance and threads are the system's. Paths begin with "/".
 */
#ifndef MLY_TEST_CRASH_ENV_H
#define MLY_TEST_CRASH_ENV_H

#include "os/env.h"

#include <pthread.h>

struct crash_inode;
struct crash_op;

struct crash_env {
    struct mly_env env; /* give &crash->env to the code under test */
    struct mly_mem mem;
    pthread_mutex_t mutex;
    struct crash_inode *inodes;
    size_t inode_count, inode_capacity;
    struct crash_op *ops; /* since the disk was made, or came out of a crash */
    size_t op_count, op_capacity;
    int64_t open_count;    /* descriptors, streams, mappings */
    uint64_t syncs;        /* calls so far */
    uint64_t skip_sync;    /* this one, counted from 1, does nothing and says it did; 0: none */
    size_t skipped_inode;  /* what that was to cover */
    bool skipped_work;     /* there was something that it would have covered */
    size_t skipped_moment; /* operations before it */
    /* This sync and fail_count - 1 more give EIO, 0: none; what they were to cover no later one
     * covers, as a system forgets what it could not write. */
    uint64_t fail_sync;
    uint64_t fail_count;
};

/* A disk with nothing but "/". */
void crash_env_init(struct crash_env *crash);
void crash_env_deinit(struct crash_env *crash);

/* How a power cut answers what no sync covers. */
enum crash_kind {
    CRASH_DROP_ALL,
    CRASH_KEEP_ALL,
    CRASH_DROP_ONE, /* all others kept; number counts the uncovered */
    CRASH_KEEP_ONE,
    CRASH_PREFIX, /* number of them kept, in order */
    CRASH_RANDOM  /* each on its own, writes in parts; number is the seed */
};
struct crash_choice {
    size_t moment; /* operations done: 0 to op_count */
    enum crash_kind kind;
    uint64_t number;
};
/* The disk after a power cut: everything on it is durable. */
void crash_env_cut(const struct crash_env *crash, const struct crash_choice *choice,
                   struct crash_env *out);
/* Operations before moment that no sync covers. */
size_t crash_env_uncovered(const struct crash_env *crash, size_t moment);
/* Operations so far: a moment to remember. */
size_t crash_env_now(struct crash_env *crash);

/* How much is tried at each moment. */
struct crash_effort {
    size_t first_moment;
    size_t singles; /* so many of the newest uncovered operations: dropped alone, kept alone, and
                       cut off from there on */
    uint64_t randoms;
    size_t stride;      /* only each so manieth moment; 0: each */
    size_t last_moment; /* 0: the newest */
};
#define CRASH_ALL_SINGLES SIZE_MAX
/* Calls fn for the disk after each of these cuts, and those with everything dropped and everything
 * kept. fn's false ends it and is given. *states counts. */
typedef bool (*crash_fn)(void *context, struct crash_env *after, const struct crash_choice *choice);
bool crash_env_each(const struct crash_env *crash, struct crash_effort effort, crash_fn fn,
                    void *context, uint64_t *states);
/* The moment of the first sync of what the one that was left out was for, after that one; SIZE_MAX:
 * there is none. From then on nothing is different. */
size_t crash_env_made_up(const struct crash_env *crash);
/* The last name of what the sync that was left out was for. */
const char *crash_env_skipped(const struct crash_env *crash);
/* For messages. */
void crash_env_describe(const struct crash_env *crash, const struct crash_choice *choice, char *out,
                        size_t out_bytes);

#endif
