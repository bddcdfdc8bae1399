/* What a store may be doing when the power goes: commits of all kinds, checkpoints, several
 * writers, syncs that fail, recovery itself. Each is done to a disk in memory, and at every moment
 * it is known which states the store may be in: commits are in a row, so a state is a number of
 * them.
 */
#ifndef MLY_TEST_CRASH_WORKLOADS_H
#define MLY_TEST_CRASH_WORKLOADS_H

#include "store_cases.h"

#include "base/bytes.h"
#include "base/limits.h"
#include "crash_env.h"

#define CRASH_FOLDER "/kb"
#define CRASH_DOCUMENTS 10 /* number 0 is left to those who look */
#define CRASH_COMMITS 40
#define CRASH_MARKS 160

#define CRASH_TABLES 2
extern const char *const crash_tables[CRASH_TABLES]; /* their paths */

/* From this moment on: so many commits may be there, so many must, and other programs must see
 * these versions of the tables or newer ones. */
struct crash_mark {
    size_t moment, begun, durable;
    uint64_t versions[CRASH_TABLES];
};

struct crash_ledger {
    struct crash_env crash;
    /* after commit i; 0: what there was at first */
    struct case_entry entries[CRASH_COMMITS + 1][CRASH_DOCUMENTS];
    struct crash_mark marks[CRASH_MARKS];
    size_t mark_count;
    struct crash_mark now;
    size_t first_moment; /* what comes before is preparation */
    uint64_t first_sync, last_sync;
    bool is_costly;         /* its states have many bytes */
    bool is_damaged;        /* the newest version of a table is */
    size_t mended;          /* up to this moment, which is one of a mark */
    bool is_failing;        /* the disk: a table may have what the log lost */
    struct mly_store *dead; /* a writer that was killed: it is closed when all is over */
    struct mly_bytes aside; /* what a recovery finds and puts aside, in memory of its own */
    struct mly_mem mem;
    struct case_document documents[CRASH_DOCUMENTS];
    struct mly_change changes[CRASH_DOCUMENTS];
    size_t change_count;
};

size_t crash_workload_count(void);
const char *crash_workload_name(size_t workload_i);
/* skip_sync: of the disk; 0: none. */
struct crash_ledger *crash_workload_run(size_t workload_i, uint64_t skip_sync);
void crash_ledger_free(struct crash_ledger *ledger);
struct crash_mark crash_mark_at(const struct crash_ledger *ledger, size_t moment);

/* Appends the content of a file of lost+found; false where there is none. */
bool crash_take_kept(const struct mly_env *env, struct mly_bytes *out);
/* Has a file of lost+found this content? */
bool crash_is_kept(const struct mly_env *env, const struct mly_bytes *content);

/* Is the snapshot the one of these entries? Looks at documents only. */
bool crash_is_state(const struct mly_snapshot *snapshot, struct mly_mem *mem,
                    const struct case_entry *entries);

#endif
