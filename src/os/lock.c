/* Mutexes are the system's own; a file lock is tried with growing pauses, since waiting in the
 * kernel could not be given up. */
#include "os/lock.h"

#include "os/clock.h"

#include <errno.h>

void mly_mutex_init(struct mly_mutex *mutex)
{
    pthread_mutex_init(&mutex->native, NULL);
}

void mly_mutex_deinit(struct mly_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->native);
}

void mly_mutex_lock(struct mly_mutex *mutex)
{
    pthread_mutex_lock(&mutex->native);
}

void mly_mutex_unlock(struct mly_mutex *mutex)
{
    pthread_mutex_unlock(&mutex->native);
}

void mly_cond_init(struct mly_cond *cond)
{
    pthread_cond_init(&cond->native, NULL);
}

void mly_cond_deinit(struct mly_cond *cond)
{
    pthread_cond_destroy(&cond->native);
}

void mly_cond_wait(struct mly_cond *cond, struct mly_mutex *mutex)
{
    pthread_cond_wait(&cond->native, &mutex->native);
}

void mly_cond_wake_all(struct mly_cond *cond)
{
    pthread_cond_broadcast(&cond->native);
}

enum mly_err mly_lock_take(const struct mly_file *file, uint64_t byte, uint32_t wait_ms,
                           struct mly_error *err)
{
    const struct mly_env *env = file->env;
    double end = mly_clock_seconds(env) + wait_ms * 1e-3;
    uint32_t pause_ms = 1;
    for (;;) {
        int result = env->lock(env->context, file->fd, byte);
        if (result == 0) return MLY_OK;
        if (result == -EINTR) continue;
        if (result != -EAGAIN) {
            return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot lock a file");
        }
        if (mly_clock_seconds(env) >= end) {
            return mly_fail(err, MLY_ERR_BUSY, "the lock was not free within %u ms", wait_ms);
        }
        mly_clock_sleep_ms(env, pause_ms);
        if (pause_ms < 16) pause_ms *= 2;
    }
}

enum mly_err mly_lock_is_held(const struct mly_file *file, uint64_t byte, bool *held,
                              struct mly_error *err)
{
    int result;
    do {
        result = file->env->lock_is_held(file->env->context, file->fd, byte);
    } while (result == -EINTR);
    if (result < 0) return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot look at a lock");
    *held = result > 0;
    return MLY_OK;
}

void mly_lock_release(const struct mly_file *file, uint64_t byte)
{
    (void)file->env->unlock(file->env->context, file->fd, byte);
}
