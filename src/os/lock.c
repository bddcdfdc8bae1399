/* Mutexes are the system's own; a file lock is tried with growing pauses, since waiting in the
 * kernel could not be given up. */
#define _GNU_SOURCE
#include "os/lock.h"

#include "os/clock.h"
#include "os/registry.h"

#include <errno.h>
#include <time.h>

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
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&cond->native, &attributes);
    pthread_condattr_destroy(&attributes);
}

void mly_cond_deinit(struct mly_cond *cond)
{
    pthread_cond_destroy(&cond->native);
}

void mly_cond_wait(struct mly_cond *cond, struct mly_mutex *mutex)
{
    pthread_cond_wait(&cond->native, &mutex->native);
}

void mly_cond_wait_ms(struct mly_cond *cond, struct mly_mutex *mutex, uint32_t ms)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += ms / 1000;
    end.tv_nsec += (long)(ms % 1000) * 1000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_nsec -= 1000000000;
        end.tv_sec++;
    }
    (void)pthread_cond_timedwait(&cond->native, &mutex->native, &end);
}

void mly_cond_wake_one(struct mly_cond *cond)
{
    pthread_cond_signal(&cond->native);
}

void mly_cond_wake_all(struct mly_cond *cond)
{
    pthread_cond_broadcast(&cond->native);
}

/* ---- files that are open to be locked ---- */

enum mly_err mly_lock_file_open(const struct mly_env *env, const char *path,
                                struct mly_lock_file *out, struct mly_error *err)
{
    *out = MLY_LOCK_FILE_CLOSED;
    struct mly_registry *registry = mly_registry_enter();
    enum mly_err rc = mly_file_open(
        env, MLY_AT_CWD, path, MLY_OPEN_READ | MLY_OPEN_WRITE | MLY_OPEN_CREATE, &out->file, err);
    if (rc == MLY_OK) {
        out->next = registry->lock_files;
        registry->lock_files = out;
    }
    mly_registry_leave();
    return rc;
}

void mly_lock_file_close(struct mly_lock_file *lock)
{
    struct mly_registry *registry = mly_registry_enter();
    for (struct mly_lock_file **at = &registry->lock_files; *at != NULL; at = &(*at)->next) {
        if (*at != lock) continue;
        *at = lock->next;
        break;
    }
    mly_file_close(&lock->file);
    mly_registry_leave();
}

/* ---- one byte of a file ---- */

enum mly_err mly_lock_take(const struct mly_file *file, uint64_t byte, uint32_t wait_ms,
                           struct mly_error *err)
{
    return mly_lock_take_pulsed(file, byte, wait_ms, NULL, NULL, err);
}

enum mly_err mly_lock_take_pulsed(const struct mly_file *file, uint64_t byte, uint32_t wait_ms,
                                  mly_pulse_fn pulse, void *context, struct mly_error *err)
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
        if (pulse != NULL) MLY_TRY(pulse(context, err));
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
