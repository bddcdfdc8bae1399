/* The one thing of the library's that changes and belongs to no handle: what is open in this
 * process, since fork() tells nobody which handles there are.
 *
 * Threads  between enter and leave it is the caller's. It is held over fork(), so that the child
 *          finds it whole.
 */
#ifndef MLY_OS_REGISTRY_H
#define MLY_OS_REGISTRY_H

#include "os/lock.h"
#include "os/runtime.h"

/* What several handles of this process hold together; part of the thing itself. */
struct mly_registry_share {
    struct mly_registry_share *next;
    uint64_t holds;
    void *thing;
};

struct mly_registry {
    struct mly_lock_file *lock_files;  /* open; closed in a child */
    struct mly_runtime *runtimes;      /* held by somebody */
    struct mly_runtime *forgotten;     /* in a child: its parent's, which are never touched again */
    struct mly_registry_share *shares; /* in a child there are none at first */
};

struct mly_registry *mly_registry_enter(void);
void mly_registry_leave(void);
/* One of which fits says yes, held once more; NULL: there is none. fits is called between enter and
 * leave. */
struct mly_registry_share *mly_registry_find(bool (*fits)(void *context,
                                                          const struct mly_registry_share *share),
                                             void *context);
/* Lists a thing that is held by the caller alone. */
void mly_registry_share(struct mly_registry_share *share);
/* True: nobody holds it any more, and nobody finds it. only_last: where others hold it, the caller
 * goes on holding it, too. */
bool mly_registry_unshare(struct mly_registry_share *share, bool only_last);
/* In a child: the list of runtimes becomes forgotten. */
void mly_runtime_forget(struct mly_registry *registry);

#endif
