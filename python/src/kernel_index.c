/* In: an open store. Out: its vector index, made while one waits, or what there is of it. */
#include "convert.h"
#include "kernel_type.h"
#include "raise.h"
#include "watch.h"

PyObject *mlypy_kernel_make_index(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"progress", "check", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *progress = NULL;
    PyObject *callback = NULL;
    int check = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$p", names, &progress, &check) ||
        !mlypy_watch_callback(progress, &callback)) {
        return NULL;
    }
    PyObject *result = NULL;
    if (mlypy_kernel_enter(self)) {
        struct mlypy_watch watch;
        struct memalloy_error err = {0};
        int made = 0;
        const struct memalloy_index_options options = {.struct_bytes = sizeof(options),
                                                       .progress = mlypy_watch_progress,
                                                       .progress_context = &watch,
                                                       .check = check};
        mlypy_watch_begin(&watch, self->state, self, callback);
        int rc = memalloy_make_index(self->handle, &options, &made, &err);
        mlypy_watch_end(&watch);
        result = mlypy_watch_failed(&watch, rc, &err) ? NULL : PyBool_FromLong(made);
        mlypy_kernel_leave(self);
    }
    Py_XDECREF(callback);
    return result;
}

PyObject *mlypy_kernel_index_status(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    struct memalloy_index_status status = {.struct_bytes = sizeof(status)};
    struct memalloy_error err = {0};
    int rc;
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_get_index_status(self->handle, &status, &err);
    Py_END_ALLOW_THREADS
    mlypy_kernel_leave(self);
    if (rc != MEMALLOY_OK) {
        return mlypy_raise(self->state, &err);
    }
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:K,s:N,s:N,s:d,s:d}", "rows", (unsigned long long)status.rows, "pending",
        (unsigned long long)status.pending, "cells", (unsigned long long)status.cells,
        "index_bytes", (unsigned long long)status.index_bytes, "record_bytes",
        (unsigned long long)status.record_bytes, "is_due", PyBool_FromLong(status.is_due),
        "is_running", PyBool_FromLong(status.is_running), "done", status.done, "recall",
        status.recall);
}
