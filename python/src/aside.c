/* In: a long call of the main thread. Out: its result, or the exception of a signal's handler at
 * once. The library's thread does the work while this one waits, since a wait can be left at any
 * moment, whatever the work is at: a batch on a machine that has no time, a sync of the disk. Work
 * that is left was cancelled, and ends alone; what it holds is let go of when somebody next looks.
 */
#include "job.h"

#include "raise.h"
#include "watch.h"

#include <unistd.h>

/* Looks whether the store was closed meanwhile; and for so long a call that was interrupted is
 * waited for, so that most of them are over when the exception is there. */
enum { LOOK_US = 100000, PATIENCE_US = 60000, SETTLE_US = 10000 };

/* By attributes alone: a call into Python would run the handlers of signals, and what they raise
 * has no way out of here. Who cannot be told from the main thread waits as that one does. */
bool mlypy_is_main_thread(void)
{
    PyObject *module = PyImport_ImportModule("threading");
    PyObject *thread = module == NULL ? NULL : PyObject_GetAttrString(module, "_main_thread");
    PyObject *ident = thread == NULL ? NULL : PyObject_GetAttrString(thread, "_ident");
    bool is_main = ident == NULL || !PyLong_Check(ident) ||
                   PyLong_AsUnsignedLong(ident) == PyThread_get_thread_ident();
    Py_XDECREF(ident);
    Py_XDECREF(thread);
    Py_XDECREF(module);
    PyErr_Clear();
    return is_main;
}

/* On a thread of the library's, both. */
static int run_job(void *context, memalloy_call *call, struct memalloy_error *err)
{
    struct mlypy_job *job = context;
    job->progress = memalloy_call_progress;
    job->progress_context = call;
    return job->kind->run(job, err);
}

static void note_end(void *context)
{
    PyThread_release_lock(((struct mlypy_job *)context)->ended);
}

/* Gives back what begin made; the call has ended, or never began. */
static void finish(struct mlypy_job *job)
{
    memalloy_call_destroy(job->call);
    Py_BEGIN_ALLOW_THREADS
    memalloy_calls_close(job->calls);
    Py_END_ALLOW_THREADS
    if (job->ended != NULL) {
        PyThread_free_lock(job->ended);
    }
    job->call = NULL;
    job->calls = NULL;
    job->ended = NULL;
}

/* False where there is no thread, or no memory, for it; nothing has begun then. */
static bool begin(struct mlypy_job *job)
{
    const struct memalloy_calls_options options = {sizeof(options), 1};
    const struct memalloy_call_options call_options = {
        .struct_bytes = sizeof(call_options), .is_long = job->kind->is_long, .done = note_end};
    job->pid = (long)getpid();
    job->ended = PyThread_allocate_lock();
    if (job->ended == NULL) {
        return false;
    }
    PyThread_acquire_lock(job->ended, NOWAIT_LOCK);
    if (memalloy_calls_open(&options, &job->calls, NULL) != MEMALLOY_OK ||
        memalloy_call_start(job->calls, run_job, job, &call_options, &job->call, NULL) !=
            MEMALLOY_OK) {
        finish(job);
        return false;
    }
    return true;
}

static PyLockStatus wait_for(const struct mlypy_job *job, long long us, int interruptible)
{
    PyLockStatus got;
    Py_BEGIN_ALLOW_THREADS
    got = PyThread_acquire_lock_timed(job->ended, us, interruptible);
    Py_END_ALLOW_THREADS
    return got;
}

/* Until the call has ended; false with an exception where a signal's handler raised. */
static bool wait_until_ended(const struct mlypy_job *job)
{
    while (wait_for(job, LOOK_US, 1) != PY_LOCK_ACQUIRED) {
        if (PyErr_CheckSignals() < 0) {
            return false;
        }
        if (job->kernel != NULL && job->kernel->closed) {
            memalloy_call_cancel(job->call);
        }
    }
    return true;
}

/* The call was interrupted: true where it has ended soon after. */
static bool give_up(struct mlypy_job *job)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    memalloy_call_cancel(job->call);
    bool ended = wait_for(job, PATIENCE_US, 0) == PY_LOCK_ACQUIRED;
    if (!ended) {
        job->next = job->state->left;
        job->state->left = job;
    }
    PyErr_Restore(type, value, traceback);
    return ended;
}

PyObject *mlypy_job_aside(struct mlypy_job *job)
{
    struct memalloy_error err = {0};
    struct mlypy_watch watch;
    PyObject *result = NULL;
    if (!begin(job)) {
        job->is_brief = true;
        job->is_heavy = false;
        return mlypy_job_call(job, NULL);
    }
    mlypy_watch_note(&watch, job->state, job->kernel, NULL);
    watch.call = job->call;
    bool ended = wait_until_ended(job) || give_up(job);
    mlypy_watch_forget(&watch);
    if (!ended) {
        return NULL;
    }
    int rc = memalloy_call_result(job->call, &err);
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    finish(job);
    PyErr_Restore(type, value, traceback);
    if (!mlypy_watch_failed(&watch, rc, &err)) {
        result = job->kind->finish == NULL ? Py_NewRef(Py_None) : job->kind->finish(job);
    }
    mlypy_job_free(job);
    return result;
}

/* ---- those that were left */

static void drop(struct mlypy_job *job)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    finish(job);
    mlypy_job_free(job);
    PyErr_Restore(type, value, traceback);
}

/* The next that has ended, taken out of the list; those of a parent process are nobody's. */
static struct mlypy_job *take_ended(struct mlypy_state *state)
{
    const long pid = (long)getpid();
    struct mlypy_job **at = &state->left;
    while (*at != NULL) {
        struct mlypy_job *job = *at;
        if (job->pid != pid) {
            *at = job->next;
        } else if (memalloy_call_wait(job->call, 0)) {
            *at = job->next;
            return job;
        } else {
            at = &job->next;
        }
    }
    return NULL;
}

void mlypy_jobs_sweep(struct mlypy_state *state)
{
    for (struct mlypy_job *job; (job = take_ended(state)) != NULL;) {
        drop(job);
    }
}

PyObject *mlypy_settle(PyObject *module, PyObject *seconds)
{
    struct mlypy_state *state = mlypy_module_state(module);
    double left_s = PyFloat_AsDouble(seconds);
    if (PyErr_Occurred()) {
        return NULL;
    }
    mlypy_jobs_sweep(state);
    for (struct mlypy_job *job = state->left; job != NULL; job = job->next) {
        memalloy_call_cancel(job->call);
    }
    while (state->left != NULL && left_s > 0) {
        if (wait_for(state->left, SETTLE_US, 0) != PY_LOCK_ACQUIRED) {
            left_s -= SETTLE_US * 1e-6;
        }
        mlypy_jobs_sweep(state);
    }
    return PyBool_FromLong(state->left == NULL);
}
