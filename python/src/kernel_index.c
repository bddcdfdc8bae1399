/* In: an open store. Out: its vector index, made while one waits, or what there is of it. */
#include "convert.h"
#include "job.h"
#include "watch.h"

struct index_job {
    struct mlypy_job job;
    struct memalloy_index_options options;
    int made;
};

static int run_make(struct mlypy_job *job, struct memalloy_error *err)
{
    struct index_job *index = (struct index_job *)job;
    index->options.progress = job->progress;
    index->options.progress_context = job->progress_context;
    return memalloy_make_index(job->handle, &index->options, &index->made, err);
}

static PyObject *finish_make(struct mlypy_job *job)
{
    return PyBool_FromLong(((struct index_job *)job)->made);
}

PyObject *mlypy_kernel_make_index(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"progress", "check", "lance", NULL};
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct index_job), .is_long = true, .run = run_make, .finish = finish_make};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *progress = NULL;
    PyObject *callback = NULL;
    int check = 0;
    int lance = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$pp", names, &progress, &check, &lance) ||
        !mlypy_watch_callback(progress, &callback)) {
        return NULL;
    }
    PyObject *result = NULL;
    struct index_job *index = mlypy_job_new(self, &kind);
    if (index != NULL) {
        index->options = (struct memalloy_index_options){
            .struct_bytes = sizeof(index->options), .check = check, .lance = lance};
        result = mlypy_job_call(&index->job, callback);
    }
    Py_XDECREF(callback);
    return result;
}

struct index_status_job {
    struct mlypy_job job;
    struct memalloy_index_status status;
};

static int run_status(struct mlypy_job *job, struct memalloy_error *err)
{
    struct memalloy_index_status *status = &((struct index_status_job *)job)->status;
    status->struct_bytes = sizeof(*status);
    return memalloy_get_index_status(job->handle, status, err);
}

static PyObject *finish_status(struct mlypy_job *job)
{
    const struct memalloy_index_status *status = &((struct index_status_job *)job)->status;
    return Py_BuildValue(
        "{s:K,s:K,s:K,s:K,s:K,s:N,s:N,s:d,s:d,s:d,s:K,s:K,s:N,s:K,s:K,s:K}", "rows",
        (unsigned long long)status->rows, "pending", (unsigned long long)status->pending, "cells",
        (unsigned long long)status->cells, "index_bytes", (unsigned long long)status->index_bytes,
        "record_bytes", (unsigned long long)status->record_bytes, "is_due",
        PyBool_FromLong(status->is_due), "is_running", PyBool_FromLong(status->is_running), "done",
        status->done, "recall", status->recall, "measured_recall", status->measured_recall,
        "samples", (unsigned long long)status->samples, "effort_steps",
        (unsigned long long)status->effort_steps, "has_lance", PyBool_FromLong(status->has_lance),
        "lance_rows", (unsigned long long)status->lance_rows, "lance_pending",
        (unsigned long long)status->lance_pending, "lance_bytes",
        (unsigned long long)status->lance_bytes);
}

PyObject *mlypy_kernel_index_status(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct index_status_job), .run = run_status, .finish = finish_status};
    struct index_status_job *job = mlypy_job_new((struct mlypy_kernel *)object, &kind);
    return job == NULL ? NULL : mlypy_job_call(&job->job, NULL);
}
