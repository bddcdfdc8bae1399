/* memalloy: folders that are followed. Included by <memalloy.h>.
 *
 * A watch makes the store follow a folder for as long as it is open: first everything is looked at,
 * as memalloy_sync does, then what changes, once it is at rest. It works on threads of the
 * process's one runtime, not on one of its own. On Linux the system tells what changed; where it
 * does not (another system, a network's file system, more folders than it watches for one user) the
 * folder is looked at every poll_ms instead, which is said in an event. Besides everything is
 * looked at every reconcile_s. A folder that vanishes is waited for; nothing is removed meanwhile.
 *
 * What happened is put in line as events: whoever wants to know takes them with
 * memalloy_watch_next. Nobody has to: beyond events_max the oldest go, and their number is told.
 *
 * Owns     open and close come in pairs. memalloy_close ends the watches of its kernel; their
 *          handles stay good for what is left in line, until their own close.
 * Threads  everything may be called from any thread, but next by one thread at a time.
 * Fork     in a child the watch is not there: next gives nothing, close only frees.
 */
#ifndef MEMALLOY_WATCH_H
#define MEMALLOY_WATCH_H

#include <memalloy.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One folder that is followed. */
typedef struct memalloy_watch memalloy_watch;

#define MEMALLOY_WATCH_POLL 1u /* the system is not asked: the folder is looked at every poll_ms */
#define MEMALLOY_WATCH_FLAT 2u /* files of the folder itself, none of the folders in it */

struct memalloy_watch_options {
    size_t struct_bytes;
    /* as of memalloy_sync; copied */
    const char *const *include;
    size_t include_count;
    const char *const *exclude;
    size_t exclude_count;
    uint64_t file_bytes_max;
    int durability;
    uint32_t flags;       /* MEMALLOY_WATCH_ */
    uint32_t quiet_ms;    /* a file at rest for that long is read; 0: 100 */
    uint32_t patience_ms; /* one that never rests is read after that; 0: 2,000 */
    uint32_t poll_ms;     /* between two looks where there are no events, or more where a look takes
                             more than a twentieth of that; 0: 2,000 */
    uint32_t reconcile_s; /* between two looks at everything; 0: 600 */
    uint32_t events_max;  /* that are kept in line; 0: 10,000 */
    /* called when there are events in line, on a thread of the library's, soon to return, and not
     * to close anything; NULL: nobody */
    void (*news)(void *context);
    void *context;
};

/* options may be NULL. READONLY; NOTFOUND; INVAL. Returns at once: what goes wrong later is an
 * event. */
MEMALLOY_CALL int memalloy_watch_open(memalloy_kernel *kernel, const char *folder,
                                      const struct memalloy_watch_options *options,
                                      memalloy_watch **out, struct memalloy_error *err);
/* Ends what it is doing within a tenth of a second or so (what was committed stays), and frees. */
MEMALLOY_API void memalloy_watch_close(memalloy_watch *watch);

enum memalloy_watch_kind {
    /* 1 to 5: enum memalloy_file_change */
    MEMALLOY_WATCH_SYNCED = 16,  /* everything was looked at; count files are there */
    MEMALLOY_WATCH_PROBLEM = 17, /* with the reason: what cannot be followed as it should */
    MEMALLOY_WATCH_SOLVED = 18,  /* no such problem any more */
    MEMALLOY_WATCH_MISSED = 19,  /* count events were not taken in time: nobody can have them */
    MEMALLOY_WATCH_ENDED = 20,   /* the last event */
};
struct memalloy_watch_event {
    size_t struct_bytes;
    int kind;
    /* valid until the next call of next, or close */
    struct memalloy_str path, old_path, reason, document_id;
    uint64_t count;
};
/* 1 and the next event, for which it waits at most wait_ms; 0: none came. */
MEMALLOY_API int memalloy_watch_next(memalloy_watch *watch, uint32_t wait_ms,
                                     struct memalloy_watch_event *out);
/* Can be read while events are in line; nobody reads it. -1 in a child of fork(). */
MEMALLOY_API int memalloy_watch_descriptor(const memalloy_watch *watch);

enum memalloy_watch_state {
    MEMALLOY_WATCH_IS_STARTING = 0,  /* everything is being looked at for the first time */
    MEMALLOY_WATCH_IS_FOLLOWING = 1, /* the system tells what changes */
    MEMALLOY_WATCH_IS_POLLING = 2,   /* the folder is looked at every poll_ms */
    MEMALLOY_WATCH_IS_WAITING = 3,   /* for a folder that is not there */
    MEMALLOY_WATCH_IS_ENDED = 4,
};
struct memalloy_watch_status {
    size_t struct_bytes;
    int state;
    int is_syncing;
    uint64_t pending; /* paths that wait, or are being looked at; "everything" is one. 0: the store
                         has what the folder has */
    uint64_t files;   /* when everything was last looked at */
    uint64_t skipped; /* of those; with reasons in the store */
    uint64_t failed;  /* syncs that failed, since the last that did not */
    uint64_t folders, unwatched; /* that the system watches; that it should and does not */
    uint64_t lost;               /* times that the system lost events: everything was looked at */
    uint64_t added, replaced, removed, moved, chunks_embedded; /* since it was opened */
    uint64_t files_done, files_total;                          /* of what is under way */
    char reason[400];                                          /* of a problem; "": none */
};
MEMALLOY_API void memalloy_watch_get_status(memalloy_watch *watch,
                                            struct memalloy_watch_status *out);
/* 1 once nothing is pending, for which it waits at most wait_ms; 0: something still is. What was
 * written before the call is in the store then, unless it failed or is being written still. */
MEMALLOY_API int memalloy_watch_settle(memalloy_watch *watch, uint32_t wait_ms);

#ifdef __cplusplus
}
#endif

#endif
