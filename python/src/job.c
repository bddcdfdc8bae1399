/* In: a description of a call. Out: its result, now; or the job on its way (aside.c, async.c). */
#include "job.h"

#include "raise.h"
#include "watch.h"

void *mlypy_job_new_free(struct mlypy_state *state, const struct mlypy_job_kind *kind)
{
    mlypy_jobs_sweep(state);
    struct mlypy_job *job = PyMem_Calloc(1, kind->bytes);
    if (job == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    job->kind = kind;
    job->state = state;
    return job;
}

void *mlypy_job_new(struct mlypy_kernel *kernel, const struct mlypy_job_kind *kind)
{
    struct mlypy_kernel *real = kernel->view_of == NULL ? kernel : kernel->view_of;
    struct mlypy_job *job = mlypy_job_new_free(real->state, kind);
    if (job == NULL) {
        return NULL;
    }
    if (!mlypy_kernel_enter(real)) {
        PyMem_Free(job);
        return NULL;
    }
    job->kernel = (struct mlypy_kernel *)Py_NewRef((PyObject *)real);
    job->handle = real->handle;
    job->ticket = Py_XNewRef(kernel->ticket);
    return job;
}

bool mlypy_job_hold(struct mlypy_job *job, PyObject *object)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    if (job->held == NULL) {
        job->held = PyList_New(0);
    }
    return job->held != NULL && PyList_Append(job->held, object) == 0;
}

void mlypy_job_free(struct mlypy_job *job)
{
    if (job->kind->clear != NULL) {
        job->kind->clear(job);
    }
    if (job->kernel != NULL) {
        mlypy_kernel_leave(job->kernel);
    }
    Py_XDECREF(job->held);
    Py_XDECREF(job->ticket);
    Py_XDECREF((PyObject *)job->kernel);
    PyMem_Free(job);
}

PyObject *mlypy_job_call(struct mlypy_job *job, PyObject *callback)
{
    if (job->ticket != NULL) {
        return mlypy_job_start(job);
    }
    /* A callback is asked before the work goes on, so that it is made here. */
    const bool is_heavy = job->is_heavy || (job->kind->is_long && !job->is_brief);
    if (callback == NULL && is_heavy && mlypy_is_main_thread()) {
        return mlypy_job_aside(job);
    }
    struct mlypy_watch watch;
    struct memalloy_error err = {0};
    PyObject *result = NULL;
    job->progress = mlypy_watch_progress;
    job->progress_context = &watch;
    mlypy_watch_begin(&watch, job->state, job->kernel, callback);
    int rc = job->kind->run(job, &err);
    mlypy_watch_end(&watch);
    if (!mlypy_watch_failed(&watch, rc, &err)) {
        result = job->kind->finish == NULL ? Py_NewRef(Py_None) : job->kind->finish(job);
    }
    mlypy_job_free(job);
    return result;
}
