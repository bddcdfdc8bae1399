/* What the files of log/ share: the bytes of a segment, and the writer's state. */
#ifndef MLY_LOG_LOG_INT_H
#define MLY_LOG_LOG_INT_H

#include "kern/crc32c.h"
#include "log/log.h"

#include <string.h>

/* ---- bytes: log_record.c ---- */

/* A record's header never crosses a sector and begins a line: a crash leaves it whole or zero. */
#define LOG_HEAD_BYTES ((size_t)64)
/* What a disk writes whole or not at all. */
#define LOG_SECTOR_BYTES ((uint64_t)512)
/* What the system writes at once: behind a sync writing goes on at a multiple of it, so that what
 * is durable is never written again. */
#define LOG_PAGE_BYTES ((uint64_t)4096)
#define LOG_FORMAT 1u
#define LOG_NAME_BYTES 24

struct log_segment_head {
    uint64_t generation, salt, first_lsn;
    uint8_t owner[MLY_LOG_OWNER_BYTES];
    uint32_t sum; /* of the header: what the first record's previous is */
};

struct log_record_head {
    uint64_t salt, lsn, synced_lsn, offset;
    uint32_t type, payload_bytes, payload_sum, previous, zero_pieces;
    uint32_t sum; /* of the header */
};

static inline uint64_t log_round_up(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}
/* A record in the file, header and padding included. */
static inline uint64_t log_record_bytes(uint64_t payload_bytes)
{
    return log_round_up(LOG_HEAD_BYTES + payload_bytes, LOG_HEAD_BYTES);
}
bool mly_log_is_zero(const uint8_t *data, size_t bytes);
/* Pieces of data that are all zero, where sectors cut it: data stands at offset. */
uint32_t mly_log_zero_pieces(const uint8_t *data, size_t bytes, uint64_t offset);
void mly_log_put_segment_head(mly_crc32c_fn crc, struct log_segment_head *head,
                              uint8_t out[LOG_PAGE_BYTES]);
bool mly_log_get_segment_head(mly_crc32c_fn crc, const uint8_t *data, struct log_segment_head *out);
/* Fills in head->sum. */
void mly_log_put_record_head(mly_crc32c_fn crc, struct log_record_head *head,
                             uint8_t out[LOG_HEAD_BYTES]);
/* What is known of a record before its place is: into the same fields. */
void mly_log_put_draft(uint32_t type, uint32_t payload_bytes, uint32_t payload_sum,
                       uint8_t out[LOG_HEAD_BYTES]);
void mly_log_get_draft(const uint8_t *data, struct log_record_head *out);
/* False where these are no header's bytes. */
bool mly_log_get_record_head(mly_crc32c_fn crc, const uint8_t *data, struct log_record_head *out);
/* Were these bytes once the header of that record? Payload does not have the salt by chance. */
bool mly_log_resembles(const uint8_t *data, uint64_t salt, uint64_t lsn, uint64_t offset);

/* ---- folder: log_folder.c ---- */

struct log_segment {
    uint64_t generation, first_lsn;
};
struct log_segments {
    struct mly_mem *mem;
    struct log_segment *items; /* by generation */
    size_t count, capacity;
};
void mly_log_segment_name(uint64_t generation, char out[LOG_NAME_BYTES]);
void mly_log_segments_deinit(struct log_segments *segments);
MLY_MUST_USE enum mly_err mly_log_segments_add(struct log_segments *segments,
                                               struct log_segment segment, struct mly_error *err);
/* Reads the folder and the headers; none where there is no folder. Names that are not ours are
 * ignored; remove_temporary: what was being made when its writer died is removed. */
MLY_MUST_USE enum mly_err mly_log_list(const struct mly_env *env, mly_crc32c_fn crc,
                                       const char *dir, bool remove_temporary,
                                       struct log_segments *out, struct mly_error *err);
/* dir/name, below MLY_PATH_BYTES_MAX. */
MLY_MUST_USE enum mly_err mly_log_path(const char *dir, const char *name, char *out,
                                       struct mly_error *err);

/* ---- one segment, read: log_cursor.c ---- */

/* What stands where the next record should. */
enum log_find {
    LOG_FIND_RECORD,
    LOG_FIND_END,     /* nothing, up to the end of the file */
    LOG_FIND_TORN,    /* what a crash may leave of writing that was not synced */
    LOG_FIND_DAMAGED, /* what no crash leaves */
};

/* Goes from record to record of one segment. */
struct log_cursor {
    const struct mly_env *env;
    mly_crc32c_fn crc;
    struct mly_file file;
    char name[LOG_NAME_BYTES];
    struct log_segment_head head;
    uint64_t offset;   /* behind the last record; the next one is there or at the next page */
    uint64_t next_lsn; /* that it must have */
    uint32_t previous; /* sum of the header before it */
    uint8_t *window;   /* bytes of the file, zeros behind its end */
    uint64_t window_offset;
    size_t window_bytes, window_capacity;
    bool is_idle;       /* there was no next record when it was last looked for */
    uint64_t dirty_end; /* after a judgement: behind the last byte that is not zero */
};
MLY_MUST_USE enum mly_err mly_log_cursor_open(const struct mly_env *env, mly_crc32c_fn crc,
                                              const char *dir, uint64_t generation,
                                              struct log_cursor *out, struct mly_error *err);
void mly_log_cursor_close(struct log_cursor *cursor);
/* *found false: no whole record stands where the next one should. The payload is borrowed until the
 * next call. */
MLY_MUST_USE enum mly_err mly_log_cursor_next(struct log_cursor *cursor, struct mly_log_record *out,
                                              bool *found, struct mly_error *err);
/* Why there is none, by what stands there and behind. */
MLY_MUST_USE enum mly_err mly_log_cursor_judge(struct log_cursor *cursor, enum log_find *out,
                                               struct mly_error *err);
/* Is there a record behind that says that the next one had been synced? */
MLY_MUST_USE enum mly_err mly_log_cursor_has_proof(struct log_cursor *cursor, bool *out,
                                                   struct mly_error *err);
/* CORRUPT, with name and offset. */
enum mly_err mly_log_fail_damaged(const struct log_cursor *cursor, struct mly_error *err);

/* ---- the writer: log_write.c, log_segment.c, log_open.c ---- */

/* A thread that waits in append; it stands on that thread's stack. */
struct log_waiter {
    struct log_waiter *next;
    uint64_t lsn; /* of its last record, once written */
    bool full, written, done;
    enum mly_err rc;
    struct mly_error error;
};

/* The records of one append. Their headers are drafts until their place is known. */
struct log_batch {
    struct log_batch *next;
    struct mly_bytes bytes;
    uint64_t first_lsn, record_count;
    struct log_waiter *waiter; /* until it is written */
    bool urgent;
};

struct mly_log {
    const struct mly_env *env;
    struct mly_mem *mem;
    mly_crc32c_fn crc;
    int64_t pid;
    char *dir;
    bool memory, dir_made;
    uint64_t segment_bytes;
    uint32_t sync_within_ms;
    struct mly_mutex mutex;
    struct mly_cond changed; /* a write or a sync ended */
    /* guarded by mutex */
    uint8_t owner[MLY_LOG_OWNER_BYTES];
    bool writing, syncing;      /* somebody is; the file and what is below belongs to them */
    struct log_batch *queue;    /* not written yet, oldest first */
    struct log_batch *unsynced; /* written, oldest first: kept until a sync says it is durable */
    struct log_batch *unsynced_last; /* of these, where there is one */
    size_t unsynced_bytes;
    struct log_waiter *sync_waiters;
    uint64_t last_lsn, synced_lsn;
    int64_t unsynced_since_ns; /* the first acknowledgement that a sync must follow; 0: none */
    bool align;                /* a sync has begun since the last write */
    bool spent;                /* nothing more may be written to the file */
    bool yielded;              /* others may write: no new segment is ours to make */
    bool failed;               /* a sync failed, and no new segment could be made */
    struct mly_error failure;
    uint64_t syncs;
    struct log_segments segments;
    uint64_t held_generation; /* up to this one segments have bytes that could not be kept elsewhere
                               */
    /* the newest segment; of whoever writes */
    struct mly_file file; /* closed: there is none */
    struct log_segment_head head;
    uint64_t end, allocated;
    uint32_t previous;
    /* what syncs for MLY_DURABILITY_NORMAL */
    struct mly_runtime *runtime;
    struct mly_timer *timer; /* NULL: there is none yet, or cannot be */
    bool timer_tried, stop;
};

/* A new newest segment, with all that is unsynced in it; durable, with its name, when it returns
 * OK. The file before it is closed. mutex is not held, writing and syncing are the caller's. */
MLY_MUST_USE enum mly_err mly_log_renew(struct mly_log *log, struct mly_error *err);
/* Gives the records of a batch their places from offset on and fills in their headers; *previous
 * goes along. */
void mly_log_place(struct mly_log *log, struct log_batch *batch,
                   const struct log_segment_head *head, uint64_t offset, uint64_t synced_lsn,
                   uint32_t *previous);
/* Room for writing up to end and what is kept back behind it. */
MLY_MUST_USE enum mly_err mly_log_make_room(struct mly_log *log, const struct mly_file *file,
                                            uint64_t *allocated, uint64_t end, bool urgent,
                                            struct mly_error *err);
/* Accepts NULL. */
void mly_log_batch_destroy(struct mly_mem *mem, struct log_batch *batch);
/* Frees the unsynced batches up to lsn. mutex is held. */
void mly_log_drop_unsynced(struct mly_log *log, uint64_t lsn);
/* When it returns nothing syncs by itself any more. */
void mly_log_stop_timer(struct mly_log *log);

#endif
