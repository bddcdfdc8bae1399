/* What happens in folders, as the system tells it: Linux' inotify(7).
 *
 * A folder's events are those of its own entries, not of what is below these. The system keeps a
 * number of them only (fs.inotify.max_queued_events), and tells when some were lost.
 *
 * Threads  one at a time.
 * Errors   UNSUPPORTED the system has no such thing; LIMIT it watches as many folders, or for as
 *          many programs, as it may (the message names the setting); NOTFOUND; IO; NOMEM.
 */
#ifndef MLY_OS_NOTIFY_H
#define MLY_OS_NOTIFY_H

#include "base/err.h"
#include "base/str.h"
#include "os/env.h"

struct mly_notify; /* a descriptor and a buffer */

MLY_MUST_USE enum mly_err mly_notify_open(const struct mly_env *env, struct mly_notify **out,
                                          struct mly_error *err);
/* Accepts NULL. */
void mly_notify_close(struct mly_notify *notify);
/* Can be read when something happened. */
int mly_notify_fd(const struct mly_notify *notify);

/* *folder is the system's number for what is open at dir_fd; the same folder has the same again. */
MLY_MUST_USE enum mly_err mly_notify_add(struct mly_notify *notify, int dir_fd, int32_t *folder,
                                         struct mly_error *err);
/* Of one that is gone already nothing is said. */
void mly_notify_remove(struct mly_notify *notify, int32_t folder);

enum mly_notify_kind {
    MLY_NOTIFY_CAME,    /* the entry was made, or moved in */
    MLY_NOTIFY_WENT,    /* it was removed, or moved out */
    MLY_NOTIFY_CHANGED, /* it is being written, or its times or rights changed */
    MLY_NOTIFY_WRITTEN, /* whoever wrote it closed it */
    MLY_NOTIFY_ENDED,   /* the folder itself is gone or moved away: it has no events any more */
    MLY_NOTIFY_LOST,    /* events were lost, of whatever folder */
};

struct mly_notify_event {
    enum mly_notify_kind kind;
    int32_t folder;      /* not of LOST */
    bool is_folder;      /* the entry is one */
    bool is_moved;       /* CAME, WENT: from or to elsewhere, with all that is in it */
    struct mly_str name; /* of the entry; borrowed until the next call */
};
/* *found false: nothing more for now. */
MLY_MUST_USE enum mly_err mly_notify_next(struct mly_notify *notify, struct mly_notify_event *out,
                                          bool *found, struct mly_error *err);

#endif
