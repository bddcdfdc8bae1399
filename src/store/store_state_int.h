/* The store itself, and what moves it: snapshots, the tail, the log, the lock.
 *
 * Threads  as store_int.h says; each group of calls says which lock it wants held.
 */
#ifndef MLY_STORE_STORE_STATE_INT_H
#define MLY_STORE_STORE_STATE_INT_H

#include "os/registry.h"
#include "store/store_int.h"

struct mly_snapshot {
    _Atomic uint32_t refs;
    struct mly_store *store;
    struct mly_store_view *views[MLY_STORE_TABLES];
    struct mly_snapshot_index *index; /* guarded by mutex; NULL: never asked for */
};

/* A thread that waits in begin; it stands on that thread's stack. */
struct mly_store_turn {
    struct mly_store_turn *next;
};

/* Who else may have the object: store_shared.c. Constant while it is listed, but for the entry. */
struct mly_store_share {
    struct mly_registry_share entry; /* guarded by the registry */
    struct mly_store_options options;
    char *manner;                /* NULL: it is not shared */
    struct mly_file_info folder; /* what was at the path when it was opened */
    bool folder_was_there;
};

struct mly_store {
    const struct mly_env *env;
    struct mly_mem *mem;
    int64_t pid; /* of the process that opened it */
    char *path;  /* absolute */
    char *log_dir, *lost_dir;
    bool read_only, in_memory; /* nothing is written at all */
    uint32_t lock_wait_ms;
    enum mly_durability durability;
    uint64_t token; /* of this object, for the lock's file */
    struct mly_store_table tables[MLY_STORE_TABLES];
    struct mly_mutex key_mutex;
    struct mly_mutex mutex;
    struct mly_cond cond; /* writing became false, or the lock may be given back */
    /* guarded by mutex */
    uint32_t dim;                /* asked for; 0: whatever the table has */
    char *model_id, *model_hash; /* NULL: not known */
    /* of the same model, set once and then read by every commit: pooling, quantisation, prefix of
     * queries, of passages; NULL: none */
    char *model_details[MLY_STORE_MODEL_DETAILS];
    uint32_t serial_next;
    struct mly_snapshot *current; /* the newest state that was looked for; NULL: nothing yet */
    bool writing;                 /* between begin and end */
    struct mly_store_turn *turns; /* who waits for that, the longest first */
    bool lock_held;               /* the lock between processes is ours */
    size_t settling;              /* threads that wait in end for their sync */
    bool committing;              /* a commit is under way: pins get current */
    bool appending;               /* its record is being written: pins wait */
    struct mly_store_report report;
    /* what the log has and the older of the tables has not, oldest first */
    struct mly_store_record **records;
    size_t record_count, record_capacity;
    size_t applied;         /* of records: they are in current */
    uint64_t seen_lsn;      /* the newest record that was looked at */
    uint64_t forgotten_lsn; /* up to this one there are none: records are all between it and seen */
    uint64_t tail_bytes;    /* of the records, what was made from older rows among it */
    struct mly_log_reader *reader;
    bool reader_used; /* and the tables were looked at since it was made */
    /* the writer's: the lock's file, and the log, which stays open and is ours again where nobody
     * else has written meanwhile */
    struct mly_lock_file lock_file;
    bool folder_made; /* _memalloy is there, and durable */
    struct mly_log *log;
    bool log_stale;            /* others have written since: it must be opened anew */
    bool log_fresh;            /* the next log begins a segment of its own */
    bool log_lost;             /* a sync of it failed for good: what it had goes into the tables */
    bool wrote;                /* this object, since the last checkpoint */
    bool log_ready;            /* the lock is held, and the log has all that current shows */
    enum mly_durability asked; /* by the commits since begin, the strongest */
    double checkpoint_s;       /* when the tail was empty last */
    struct mly_store_index *index; /* NULL: none is used; store_index_int.h */
    /* the checkpoint that comes by itself; of whoever writes */
    double checkpoint_after_s;
    struct mly_runtime *runtime;  /* NULL: not needed yet */
    struct mly_timer *idle_timer; /* NULL: there is none yet, or cannot be */
    double idle_due_s;            /* what it is set to; 0: nothing */
    bool idle_tried;
    struct mly_store_share share;
};

/* store.c: what was written is in the tables, where nobody else writes for long, and durable. */
MLY_MUST_USE enum mly_err mly_store_settle(struct mly_store *store, struct mly_error *err);

/* store_snapshot.c; mutex is held in all of these */
/* Makes current the newest version of both tables. */
MLY_MUST_USE enum mly_err mly_store_renew(struct mly_store *store, struct mly_error *err);
/* Does the asked-for model and dimension agree with what the tables say? */
MLY_MUST_USE enum mly_err mly_store_check_model(const struct mly_store *store,
                                                struct mly_error *err);

/* ---- the tail: store_tail.c; mutex is held, or committing set ---- */

/* Two views with what the records do to from. *out of a table is from's where nothing changed;
 * release both. */
MLY_MUST_USE enum mly_err mly_store_apply(struct mly_store *store,
                                          struct mly_store_view *const from[MLY_STORE_TABLES],
                                          struct mly_store_record *const *records, size_t count,
                                          struct mly_store_view *out[MLY_STORE_TABLES],
                                          struct mly_error *err);
/* Takes the record over. */
MLY_MUST_USE enum mly_err mly_store_keep_record(struct mly_store *store,
                                                struct mly_store_record *record,
                                                struct mly_error *err);
/* Takes back what was kept last. */
void mly_store_forget_newest(struct mly_store *store);
uint64_t mly_store_record_weight(const struct mly_store_record *record);
/* Sets tail_bytes. */
void mly_store_weigh_records(struct mly_store *store);
/* Forgets records up to lsn. */
void mly_store_drop_records(struct mly_store *store, uint64_t lsn);
/* A snapshot of the two views, which it takes, whatever it gives. Release it. */
MLY_MUST_USE enum mly_err mly_store_make_snapshot(struct mly_store *store,
                                                  struct mly_store_view *views[MLY_STORE_TABLES],
                                                  struct mly_snapshot **out, struct mly_error *err);

/* ---- writing: store_write.c, store_commit.c, store_checkpoint.c ---- */

/* Of log records: a commit of store_record.c. */
#define MLY_STORE_RECORD_TYPE 1u

/* The rows of the changes that go into a load as one data file, all written, to be finished and
 * closed; *out is left as it is where there are none. */
MLY_MUST_USE enum mly_err mly_store_write_rows(const struct mly_store_view *view,
                                               const struct mly_change *changes,
                                               size_t change_count, struct mly_lance_writer **out,
                                               struct mly_error *err);
/* Live rows of these parts of the view as one data file. *out_rows 0: there are none, and no file.
 */
MLY_MUST_USE enum mly_err mly_store_write_parts(const struct mly_store_view *view,
                                                const bool *chosen, struct mly_lance_data_file *out,
                                                uint64_t *out_rows, struct mly_error *err);
/* UNSUPPORTED where somebody else's column must have a value that new rows have not. */
MLY_MUST_USE enum mly_err mly_store_check_foreign(const struct mly_store_view *view,
                                                  struct mly_error *err);
/* One version more of a table. base: what it is made from; fields only where there is none. */
MLY_MUST_USE enum mly_err mly_store_commit_table(struct mly_store *store,
                                                 struct mly_store_view *base,
                                                 struct mly_lance_change *change, uint64_t lsn,
                                                 uint32_t dim, bool *visible,
                                                 struct mly_error *err);
/* Puts the tail into the tables; between begin and end, committing is not set. */
MLY_MUST_USE enum mly_err mly_store_run_checkpoint(struct mly_store *store, struct mly_error *err);
/* The same where it is due: after 8 MB, or checkpoint_after_s. */
MLY_MUST_USE enum mly_err mly_store_checkpoint_if_due(struct mly_store *store,
                                                      struct mly_error *err);

/* store_idle.c. After a write, before its turn ends: sees to it that the checkpoint comes. Where no
 * timer can be had it comes with a later write, or at close. */
void mly_store_idle_soon(struct mly_store *store);
/* When it returns none comes any more. */
void mly_store_idle_stop(struct mly_store *store);

/* ---- the log: store_log.c ---- */

/* Reads what the log has beyond seen_lsn into records; mutex is held. CONFLICT: look at the tables
 * again. */
MLY_MUST_USE enum mly_err mly_store_follow_log(struct mly_store *store, struct mly_error *err);
void mly_store_stop_following(struct mly_store *store);
/* Becomes the writer of the log; the lock is held, the mutex not. */
MLY_MUST_USE enum mly_err mly_store_open_log(struct mly_store *store, struct mly_error *err);
/* The lock has just been taken. same: nobody else has written meanwhile, so that the log which is
 * open goes on; else it is closed, to be opened anew. mutex is not held. */
void mly_store_resume_log(struct mly_store *store, bool same);
/* The lock is about to be given back; mutex is held. */
void mly_store_yield_log(struct mly_store *store);
/* Where a sync failed for good, what the log had goes into the tables; between begin and end. */
MLY_MUST_USE enum mly_err mly_store_replace_log(struct mly_store *store, struct mly_error *err);
/* Is everything that the log has known? Not where what was known was thrown away since. */
bool mly_store_knows_log(const struct mly_store *store);

/* ---- who writes: store_lock.c, store_begin.c ---- */

/* How long a begin may wait, and whom it asks meanwhile. */
struct mly_store_wait {
    double end_s; /* by mly_clock_seconds */
    mly_pulse_fn pulse;
    void *context;
};
/* What is left of it, in milliseconds. */
uint32_t mly_store_wait_ms(const struct mly_store *store, const struct mly_store_wait *wait);
/* The lock between processes, into lock_file. *same_log: nobody else had it since we had. */
MLY_MUST_USE enum mly_err mly_store_lock(struct mly_store *store, const struct mly_store_wait *wait,
                                         bool *same_log, struct mly_error *err);
void mly_store_unlock(struct mly_store *store);
/* Does another process stand in line for it? */
bool mly_store_others_wait(const struct mly_store *store);
/* Was it this object that wrote last, so that the log has nothing that it does not know? */
bool mly_store_wrote_last(const struct mly_store *store);
MLY_MUST_USE enum mly_err mly_store_begin_until(struct mly_store *store,
                                                const struct mly_store_wait *wait,
                                                struct mly_error *err);
/* One thread less in settling: gives the lock back where it was the last. */
void mly_store_settled(struct mly_store *store);

/* ---- beside it ---- */

/* Repeats what the manifests say in _memalloy/store.json, for people; failing does no harm. */
void mly_store_write_json(struct mly_store *store);
/* path/name, for the caller to free; NULL where memory failed. */
char *mly_store_join(struct mly_mem *mem, const char *path, const char *name);

#endif
