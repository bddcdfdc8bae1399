/* The write-ahead log: records, each whole or not there, in one order, acknowledged as durable as
 * their writer asks (docs/FORMAT.md, "The log").
 *
 *   <dir>/0000000000000001.wal     segments; each byte of one is written at most once
 *   <dir>/.tmp-...                 one that is being made
 *
 * Writer   one per folder: whoever opens it holds the store's lock. Its threads share syncs: all
 *          that was written when a sync begins is durable when it ends, whoever waits.
 * Readers  any number, in any process, take no lock and are never waited for.
 * Owns     a log and a reader own their descriptors and buffers; payloads are borrowed until the
 *          next call on the same reader.
 * Threads  a log may be used from any thread; a reader belongs to one at a time. In a child of
 *          fork() a log gives FORKED, and its close leaves everything alone.
 * Errors   CORRUPT names file and offset; IO, a full disk among it; LIMIT; NOMEM; CONFLICT for
 *          readers that must start over.
 */
#ifndef MLY_LOG_LOG_H
#define MLY_LOG_LOG_H

#include "base/bytes.h"
#include "base/err.h"
#include "os/os.h"

#include <stdint.h>

/* One record: a document operation with text, chunks and vectors. What is larger goes into
 * fragments directly, and the log has their names. */
#define MLY_LOG_PAYLOAD_BYTES_MAX ((size_t)16 << 20)
#define MLY_LOG_OWNER_BYTES 32

enum mly_durability {
    MLY_DURABILITY_FULL,    /* acknowledged: it survives a power cut */
    MLY_DURABILITY_NORMAL,  /* it survives the end of the process; a sync begins soon after */
    MLY_DURABILITY_OFF,     /* the same; a sync comes with a flush, a full segment, or 8 MB later */
    MLY_DURABILITY_MEMORY,  /* nothing is written at all; a log is opened so, or not */
    MLY_DURABILITY_DEFAULT, /* of a call: what was chosen when the store was opened */
};

/* One record as it is read. */
struct mly_log_record {
    uint64_t lsn; /* from 1; each record has one more than that before it */
    uint32_t type;
    struct mly_str payload; /* begins at a multiple of 64 in memory */
    const uint8_t *owner;   /* u8[MLY_LOG_OWNER_BYTES], as the segment's writer gave it */
};
/* A result other than MLY_OK ends the reading and is given. */
typedef enum mly_err (*mly_log_record_fn)(void *context, const struct mly_log_record *record,
                                          struct mly_error *err);

struct mly_log_options {
    bool memory; /* MLY_DURABILITY_MEMORY: dir is not looked at */
    /* Records up to this one are not needed: what stands beyond is replayed. */
    uint64_t from_lsn;
    /* New records come beyond this one, whatever the log ends with. */
    uint64_t floor_lsn;
    uint8_t owner[MLY_LOG_OWNER_BYTES]; /* of new segments: whose records these are */
    uint64_t segment_bytes;             /* a new one beyond that; 0: 16 MB */
    uint32_t sync_within_ms;            /* of MLY_DURABILITY_NORMAL; 0: 100 */
    /* The newest segment is not written on, however whole it looks: a sync of it failed. */
    bool fresh;
    /* Damage ends the log where it stands instead of being CORRUPT; what is behind it is dropped,
     * kept and reported like a torn tail. */
    bool salvage;
    const char *lost_dir;     /* where dropped bytes are kept; made if needed */
    mly_log_record_fn replay; /* called for each record beyond from_lsn; may be NULL */
    void *context;
};

/* What opening found. */
struct mly_log_report {
    uint64_t records, last_lsn; /* replayed; the newest there is, 0: none */
    uint64_t dropped_bytes;     /* behind the last whole record, up to the last that is not zero */
    uint64_t dropped_offset;    /* in dropped_file */
    char dropped_file[32];
    char reason[160]; /* "" where nothing was dropped */
    bool kept;        /* the dropped bytes are in lost_dir; else they stay where they are */
};

struct mly_log;

/* Becomes the writer: reads what is there, replays it, settles what a crash left. Nothing is made
 * before the first append. out_report may be NULL. */
MLY_MUST_USE enum mly_err mly_log_open(const struct mly_env *env, const char *dir,
                                       const struct mly_log_options *options, struct mly_log **out,
                                       struct mly_log_report *out_report, struct mly_error *err);
/* flush, and the end of the handle whatever it gives. Accepts NULL. */
enum mly_err mly_log_close(struct mly_log *log, struct mly_error *err);

/* One record to be written. */
struct mly_log_entry {
    uint32_t type;
    struct mly_str payload; /* 1 to MLY_LOG_PAYLOAD_BYTES_MAX bytes */
    /* May use the room that is kept back for it where the disk is full: removals. */
    bool urgent;
};
/* Appends count records in one go, with consecutive numbers; *lsn is the last one's. When it
 * returns OK all are as durable as asked. On failure none is there, now or after a crash, but for
 * this: where a sync failed and no new segment could be made either, what readers and the next open
 * find is not told, and every later call fails. */
MLY_MUST_USE enum mly_err mly_log_append(struct mly_log *log, const struct mly_log_entry *entries,
                                         size_t count, enum mly_durability durability,
                                         uint64_t *lsn, struct mly_error *err);
/* Everything that was acknowledged before the call is durable when it returns OK. */
MLY_MUST_USE enum mly_err mly_log_flush(struct mly_log *log, struct mly_error *err);
/* Records up to lsn are not needed any more: segments that have no others are removed, the newest
 * one excepted. */
MLY_MUST_USE enum mly_err mly_log_retire(struct mly_log *log, uint64_t lsn, struct mly_error *err);
/* Where the newest segment has more than bytes, a new one is made, so that whoever needs only what
 * comes from now on does not read the old one. Where that fails the old one is written on. */
MLY_MUST_USE enum mly_err mly_log_turn(struct mly_log *log, uint64_t bytes, struct mly_error *err);
/* Where it is another: flush; the next record starts a new segment, for that owner. No other thread
 * may append. */
MLY_MUST_USE enum mly_err mly_log_set_owner(struct mly_log *log,
                                            const uint8_t owner[MLY_LOG_OWNER_BYTES],
                                            struct mly_error *err);

/* Others may write from now on: a sync that fails is not made good in a new segment. */
void mly_log_yield(struct mly_log *log);
/* The writer again; nobody else has written meanwhile. */
void mly_log_resume(struct mly_log *log);

/* A sync failed and no new segment could be made: every call fails from now on. */
bool mly_log_has_failed(struct mly_log *log);
/* Gives back most of the room that is kept for records to come: there may be none for long. */
void mly_log_trim(struct mly_log *log);

struct mly_log_status {
    uint64_t last_lsn, synced_lsn; /* written; known to survive a power cut */
    uint64_t segments, bytes;      /* files, and what is written in the newest */
    uint64_t syncs;                /* of data, since it was opened */
};
void mly_log_get_status(struct mly_log *log, struct mly_log_status *out);

/* ---- reading beside a writer ---- */

struct mly_log_reader;

/* The oldest record's number that segments say; 0: there are none. */
MLY_MUST_USE enum mly_err mly_log_find_first(const struct mly_env *env, const char *dir,
                                             uint64_t *out, struct mly_error *err);
/* Gives the records beyond from_lsn. strict: nobody is writing, so that a tail that no crash leaves
 * is CORRUPT and not the end. A folder that does not exist is an empty log. */
MLY_MUST_USE enum mly_err mly_log_reader_open(const struct mly_env *env, const char *dir,
                                              uint64_t from_lsn, bool strict,
                                              struct mly_log_reader **out, struct mly_error *err);
void mly_log_reader_close(struct mly_log_reader *reader);
/* *found false: that is all for now; later calls look again. CONFLICT: records beyond from_lsn were
 * retired: read the tables anew and start over. */
MLY_MUST_USE enum mly_err mly_log_reader_next(struct mly_log_reader *reader,
                                              struct mly_log_record *out, bool *found,
                                              struct mly_error *err);

#endif
