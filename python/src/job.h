/* A call into the library, taken apart: its arguments, the work without the GIL, the result. So one
 * description serves all ways of calling. On a RAGKernel it runs at once; where it is the main
 * thread that calls, and it may take long, on a thread of the library's while the caller waits,
 * since a wait can be left on Ctrl-C whatever the work is at (aside.c); for an AsyncRAGKernel on
 * such a thread, too, and its end waits in line until the event loop takes it (async.c). Those
 * threads never touch Python.
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
    struct mlypy_state *state;
    struct mlypy_kernel *kernel; /* held, and counted in; NULL: the call is not one on a store */
    memalloy_kernel *handle;
    bool is_brief, is_heavy; /* whatever its kind says: not worth another thread, or worth it */
    PyObject *held;          /* list of objects that are borrowed from */
    memalloy_progress_fn progress; /* for the options of the call */
    void *progress_context;
    /* of one that an event loop waits for */
    PyObject *ticket;       /* NULL: it runs at once */
    memalloy_call *call;    /* NULL: not started */
    struct mlypy_job *next; /* of the kernel's, or of the module's that were left */
    /* of one that the main thread waits for */
    memalloy_calls *calls;    /* its own */
    PyThread_type_lock ended; /* held until it has ended */
    long pid;
};

/* All zero but for what is said above; kernel may be a view (async.c). NULL with an exception,
 * ClosedError among others. */
void *mlypy_job_new(struct mlypy_kernel *kernel, const struct mlypy_job_kind *kind);
/* The same without a kernel. */
void *mlypy_job_new_free(struct mlypy_state *state, const struct mlypy_job_kind *kind);
/* Holds object until the job ends. False with an exception. */
bool mlypy_job_hold(struct mlypy_job *job, PyObject *object);
/* The result; None where it was only started. callback may be NULL. */
PyObject *mlypy_job_call(struct mlypy_job *job, PyObject *callback);
/* One that was not called, or has ended. */
void mlypy_job_free(struct mlypy_job *job);

/* aside.c: is this the thread that Ctrl-C interrupts? */
bool mlypy_is_main_thread(void);
/* mlypy_job_call on a thread of the library's. */
PyObject *mlypy_job_aside(struct mlypy_job *job);
/* Frees those that were left and have ended meanwhile. */
void mlypy_jobs_sweep(struct mlypy_state *state);
/* settle(seconds): cancels those that were left and waits for them; True if none is left. */
PyObject *mlypy_settle(PyObject *module, PyObject *seconds);

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
