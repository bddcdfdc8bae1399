/* What is open in this process, and what fork() does to it. */
#include "os/registry.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct mly_registry registry; /* guarded by mutex */

static void before_fork(void)
{
    pthread_mutex_lock(&mutex);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&mutex);
}

/* Closing does not unlock: the parent's descriptor is still there. */
static void after_fork_in_child(void)
{
    for (struct mly_lock_file *lock = registry.lock_files; lock != NULL; lock = lock->next)
        mly_file_close(&lock->file);
    registry.lock_files = NULL;
    mly_runtime_forget(&registry);
    registry.shares = NULL;
    pthread_mutex_unlock(&mutex);
}

static void watch_fork(void)
{
    (void)pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

struct mly_registry *mly_registry_enter(void)
{
    pthread_once(&once, watch_fork);
    pthread_mutex_lock(&mutex);
    return &registry;
}

void mly_registry_leave(void)
{
    pthread_mutex_unlock(&mutex);
}

struct mly_registry_share *mly_registry_find(bool (*fits)(void *context,
                                                          const struct mly_registry_share *share),
                                             void *context)
{
    struct mly_registry_share *share = mly_registry_enter()->shares;
    while (share != NULL && !fits(context, share))
        share = share->next;
    if (share != NULL) share->holds++;
    mly_registry_leave();
    return share;
}

void mly_registry_share(struct mly_registry_share *share)
{
    struct mly_registry *list = mly_registry_enter();
    share->holds = 1;
    share->next = list->shares;
    list->shares = share;
    mly_registry_leave();
}

bool mly_registry_unshare(struct mly_registry_share *share, bool only_last)
{
    struct mly_registry *list = mly_registry_enter();
    bool last = share->holds == 1;
    if (last || !only_last) share->holds--;
    struct mly_registry_share **at = &list->shares;
    while (last && *at != share)
        at = &(*at)->next;
    if (last) *at = share->next;
    mly_registry_leave();
    return last;
}
