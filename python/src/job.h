/* A call into the library, taken apart: its arguments, the work without the GIL, the result. So one
 * description serves both ways of calling. On a RAGKernel it runs at once; for an AsyncRAGKernel it
 * runs on a thread of the library's, which never touches Python, and its end waits in line until
 * the event loop takes it (async.c).
 *
 * Life     mlypy_job_new, mlypy_job_hold for what the arguments point into, mlypy_job_call, which
 *          takes the job whatever it gives; or mlypy_job_free before that.
 * Threads  run is called without the GIL, everything else with it.
 */
#ifndef MLYPY_JOB_H
#define MLYPY_JOB_H

#include "kernel_type.h"

struct mlypy_job;

struct mlypy_job_kind {
    size_t bytes; /* of the struct that begins with struct mlypy_job */
    bool is_long; /* it may take seconds */
    int (*run)(struct mlypy_job *job, struct memalloy_error *err);
    PyObject *(*finish)(struct mlypy_job *job); /* after MEMALLOY_OK; NULL: None */
    void (*clear)(struct mlypy_job *job);       /* frees what is the kind's own; NULL: nothing */
};

struct mlypy_job {
    const struct mlypy_job_kind *kind;
    struct mlypy_kernel *kernel; /* held, and counted in */
    memalloy_kernel *handle;
    PyObject *held;                /* list of objects that are borrowed from */
    memalloy_progress_fn progress; /* for the options of the call */
    void *progress_context;
    /* of one that an event loop waits for */
    PyObject *ticket;       /* NULL: it runs at once */
    memalloy_call *call;    /* NULL: not started */
    struct mlypy_job *next; /* of the kernel's */
};

/* All zero but for what is said above; kernel may be a view (async.c). NULL with an exception,
 * ClosedError among others. */
void *mlypy_job_new(struct mlypy_kernel *kernel, const struct mlypy_job_kind *kind);
/* Holds object until the job ends. False with an exception. */
bool mlypy_job_hold(struct mlypy_job *job, PyObject *object);
/* The result; None where it was only started. callback may be NULL. */
PyObject *mlypy_job_call(struct mlypy_job *job, PyObject *callback);
/* One that was not called, or has ended. */
void mlypy_job_free(struct mlypy_job *job);

/* async.c: hands the job to the library's threads. Takes it; None or NULL. */
PyObject *mlypy_job_start(struct mlypy_job *job);
/* Methods for AsyncRAGKernel. */
PyObject *mlypy_kernel_start(PyObject *object, PyObject *args);
PyObject *mlypy_kernel_take(PyObject *object, PyObject *unused);
PyObject *mlypy_kernel_cancel(PyObject *object, PyObject *ticket);
PyObject *mlypy_kernel_descriptor(PyObject *object, PyObject *unused);
PyObject *mlypy_kernel_abandon(PyObject *object, PyObject *unused);
/* Where the kernel is closed by a job: its end. */
PyObject *mlypy_kernel_close_later(PyObject *object, PyObject *args, PyObject *kwargs);

#endif
