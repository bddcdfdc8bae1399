/* Locks: between threads (mutex, condition) and between processes (one byte of a file, OFD locks,
 * which die with the last descriptor and not with any other close in the process). */
#ifndef MLY_OS_LOCK_H
#define MLY_OS_LOCK_H

#include "os/file.h"

#include <pthread.h>

struct mly_mutex {
    pthread_mutex_t native;
};
struct mly_cond {
    pthread_cond_t native;
};

void mly_mutex_init(struct mly_mutex *mutex);
void mly_mutex_deinit(struct mly_mutex *mutex);
void mly_mutex_lock(struct mly_mutex *mutex);
void mly_mutex_unlock(struct mly_mutex *mutex);
void mly_cond_init(struct mly_cond *cond);
void mly_cond_deinit(struct mly_cond *cond);
void mly_cond_wait(struct mly_cond *cond, struct mly_mutex *mutex);
/* The same, at most about ms by a clock that nobody sets; the caller looks again why it waited. */
void mly_cond_wait_ms(struct mly_cond *cond, struct mly_mutex *mutex, uint32_t ms);
void mly_cond_wake_one(struct mly_cond *cond);
void mly_cond_wake_all(struct mly_cond *cond);

/* A file that is opened to be locked. The lock belongs to what was opened and so to every process
 * that inherits it: a child of fork() closes it at once, or the lock would outlive the parent. */
struct mly_lock_file {
    struct mly_file file;
    struct mly_lock_file *next; /* of all that are open in this process */
};
#define MLY_LOCK_FILE_CLOSED ((struct mly_lock_file){{NULL, -1}, NULL})

/* For reading and writing; made where it does not exist. *out must stay where it is until its
 * close. */
MLY_MUST_USE enum mly_err mly_lock_file_open(const struct mly_env *env, const char *path,
                                             struct mly_lock_file *out, struct mly_error *err);
/* Gives its locks back. Closing a closed one does nothing; in a child of fork() it is closed. */
void mly_lock_file_close(struct mly_lock_file *lock);

/* Takes the exclusive lock on one byte of an open file, waiting at most wait_ms; BUSY after that.
 */
MLY_MUST_USE enum mly_err mly_lock_take(const struct mly_file *file, uint64_t byte,
                                        uint32_t wait_ms, struct mly_error *err);
/* Does another descriptor, of whatever process, hold that lock? Takes nothing and never waits. */
MLY_MUST_USE enum mly_err mly_lock_is_held(const struct mly_file *file, uint64_t byte, bool *held,
                                           struct mly_error *err);
/* The same, and pulse (may be NULL) is asked every 50 ms or more often: a result other than MLY_OK
 * ends the waiting and is given. */
typedef enum mly_err (*mly_pulse_fn)(void *context, struct mly_error *err);
MLY_MUST_USE enum mly_err mly_lock_take_pulsed(const struct mly_file *file, uint64_t byte,
                                               uint32_t wait_ms, mly_pulse_fn pulse, void *context,
                                               struct mly_error *err);
void mly_lock_release(const struct mly_file *file, uint64_t byte);

#endif
