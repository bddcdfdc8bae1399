/* The door of watch/: which files and folders below a root changed, and when they are at rest.
 *
 * A path is told when nothing happened to it for a while, or, where something happens all the time,
 * when it has waited long enough: nothing starves. What was lost on the way (too many events, too
 * many folders) is told as "everything". What a path is now, whether it is there at all, the caller
 * looks up: order and number of events mean nothing.
 *
 * Units    moments are milliseconds of a clock that nobody sets; the caller gives them.
 * Paths    below the root, "a/b.txt", bytes as the system has them; "" is the root.
 * Owns     mly_watch_open gives a handle for mly_watch_close; a batch has its own deinit.
 * Threads  one at a time. Nothing here waits.
 * Errors   of os/notify.h.
 */
#ifndef MLY_WATCH_WATCH_H
#define MLY_WATCH_WATCH_H

#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"
#include "os/os.h"

struct mly_watch;

/* Is that file of interest (is_folder: are any below it)? Asked often. */
typedef bool (*mly_watch_wants_fn)(void *context, struct mly_str path, bool is_folder,
                                   const struct mly_file_info *info);

struct mly_watch_options {
    mly_watch_wants_fn wants; /* info is NULL where it is not known */
    void *context;
    uint32_t quiet_ms;    /* without events until a path is told; 0: 100 */
    uint32_t writing_ms;  /* the same while somebody may be writing it; 0: 500 */
    uint32_t patience_ms; /* the longest that it waits; 0: 2,000 */
};

/* Watches root, which is a real path, and every wanted folder below it. Folders that the system
 * does not watch any more are counted (mly_watch_info), as they have to be looked after otherwise.
 */
MLY_MUST_USE enum mly_err mly_watch_open(const struct mly_env *env, const char *root,
                                         const struct mly_watch_options *options,
                                         struct mly_watch **out, struct mly_error *err);
/* Accepts NULL. */
void mly_watch_close(struct mly_watch *watch);
/* Can be read when there is something for mly_watch_read. */
int mly_watch_fd(const struct mly_watch *watch);

/* Takes note of what happened so far. Short: folders that came are watched by mly_watch_settle. */
MLY_MUST_USE enum mly_err mly_watch_read(struct mly_watch *watch, uint64_t now_ms,
                                         struct mly_error *err);
/* Watches folders that came meanwhile. What was put into them before is told with them. */
MLY_MUST_USE enum mly_err mly_watch_settle(struct mly_watch *watch, uint64_t now_ms,
                                           struct mly_error *err);

#define MLY_WATCH_NEVER UINT64_MAX
/* Milliseconds until there is something for mly_watch_settle or mly_watch_take; 0: now. */
uint64_t mly_watch_due(const struct mly_watch *watch, uint64_t now_ms);

struct mly_watch_item {
    struct mly_str path;
    bool is_folder; /* it is, or was, a folder: everything below it may have changed */
};
struct mly_watch_batch {
    struct mly_arena arena;
    struct mly_watch_item *items;
    size_t count;
    bool is_all; /* everything below the root; there are no items then */
};
/* What is at rest now. After mly_watch_settle. */
MLY_MUST_USE enum mly_err mly_watch_take(struct mly_watch *watch, uint64_t now_ms,
                                         struct mly_watch_batch *out, struct mly_error *err);
/* Safe to repeat. */
void mly_watch_batch_deinit(struct mly_watch_batch *batch);
/* To be told again in wait_ms: a batch that could not be worked on. */
void mly_watch_give_back(struct mly_watch *watch, const struct mly_watch_batch *batch,
                         uint64_t now_ms, uint32_t wait_ms);

struct mly_watch_info {
    size_t folders;   /* that are watched */
    size_t unwatched; /* that should be, and are not */
    char reason[200]; /* of the last of those */
    size_t pending;   /* paths that are not told yet; "everything" is one */
    uint64_t lost;    /* times that events were lost */
    bool root_gone;   /* removed, moved or unmounted; nothing is told any more */
};
void mly_watch_get_info(const struct mly_watch *watch, struct mly_watch_info *out);

#endif
