/* In: calls by name with a ticket, from an AsyncRAGKernel (_async.py). Out: tickets with results,
 * exceptions and progress, whenever its event loop asks for them. The library's threads run the
 * work and ring a descriptor; they never touch Python. */
#include "job.h"

#include "raise.h"
#include "watch.h"

#include <string.h>

/* What a loop that does not listen may pile up. _async.py lets far fewer through. */
enum { CALLS_MAX = 100000 };

static bool open_calls(struct mlypy_kernel *self)
{
    const struct memalloy_calls_options options = {sizeof(options), CALLS_MAX};
    struct memalloy_error err = {0};
    if (self->queue != NULL) {
        return true;
    }
    if (memalloy_calls_open(&options, &self->queue, &err) != MEMALLOY_OK) {
        mlypy_raise(self->state, &err);
        return false;
    }
    return true;
}

/* On a thread of the library's. */
static int run_job(void *context, memalloy_call *call, struct memalloy_error *err)
{
    struct mlypy_job *job = context;
    job->progress_context = call;
    return job->kind->run(job, err);
}

PyObject *mlypy_job_start(struct mlypy_job *job)
{
    struct mlypy_kernel *self = job->kernel;
    struct memalloy_error err = {0};
    const struct memalloy_call_options options = {
        .struct_bytes = sizeof(options),
        .is_long = job->kind->is_long,
    };
    job->progress = memalloy_call_progress;
    if (!open_calls(self)) {
        mlypy_job_free(job);
        return NULL;
    }
    int rc = memalloy_call_start(self->queue, run_job, job, &options, &job->call, &err);
    if (rc != MEMALLOY_OK) {
        PyObject *nothing = mlypy_raise(self->state, &err);
        mlypy_job_free(job);
        return nothing;
    }
    job->next = self->jobs;
    self->jobs = job;
    return Py_NewRef(Py_None);
}

/* ---- by name */

typedef PyObject *(*keyword_method)(PyObject *object, PyObject *args, PyObject *kwargs);

static PyObject *count(PyObject *object, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return mlypy_kernel_count(object, NULL);
}

static PyObject *status(PyObject *object, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return mlypy_kernel_status(object, NULL);
}

static PyObject *index_status(PyObject *object, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return mlypy_kernel_index_status(object, NULL);
}

static PyObject *verify(PyObject *object, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return mlypy_kernel_verify(object, NULL);
}

static PyObject *flush(PyObject *object, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return mlypy_kernel_flush(object, NULL);
}

static PyObject *checkpoint(PyObject *object, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return mlypy_kernel_checkpoint(object, NULL);
}

static const struct {
    const char *name;
    keyword_method method;
} methods[] = {
    {"add_block", mlypy_kernel_add_block},
    {"add_document", mlypy_kernel_add_document},
    {"add_file", mlypy_kernel_add_file},
    {"add_vectors", mlypy_kernel_add_vectors},
    {"checkpoint", checkpoint},
    {"close", mlypy_kernel_close_later},
    {"count", count},
    {"explain", mlypy_kernel_explain},
    {"flush", flush},
    {"get_document", mlypy_kernel_get_document},
    {"index_status", index_status},
    {"list_documents", mlypy_kernel_list_documents},
    {"make_index", mlypy_kernel_make_index},
    {"remove_document", mlypy_kernel_remove_document},
    {"search", mlypy_kernel_search},
    {"search_vector", mlypy_kernel_search_vector},
    {"search_vectors", mlypy_kernel_search_vectors},
    {"status", status},
    {"sync", mlypy_kernel_sync},
    {"update_metadata", mlypy_kernel_update_metadata},
    {"verify", verify},
};

/* _start(ticket, name, args, kwargs): as kernel.name(*args, **kwargs), on another thread. The
 * method is given a view of the kernel that carries the ticket: it makes its job of it and keeps
 * nothing else. */
PyObject *mlypy_kernel_start(PyObject *object, PyObject *args)
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *ticket;
    const char *name;
    PyObject *call_args;
    PyObject *call_kwargs;
    if (!PyArg_ParseTuple(args, "OsO!O!", &ticket, &name, &PyTuple_Type, &call_args, &PyDict_Type,
                          &call_kwargs)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, name) != 0) {
            continue;
        }
        struct mlypy_kernel view = {.state = self->state, .view_of = self, .ticket = ticket};
        return methods[i].method((PyObject *)&view, call_args, call_kwargs);
    }
    return PyErr_Format(PyExc_AttributeError, "no method %s to be started", name);
}

/* ---- what came of it */

static void unlink_job(struct mlypy_kernel *self, const struct mlypy_job *job)
{
    struct mlypy_job **at = &self->jobs;
    while (*at != NULL && *at != job) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = job->next;
    }
}

/* New reference to the exception that is set. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* (ticket, what, value), what being "result" or "error". Frees the job. */
static PyObject *end_of(struct mlypy_kernel *self, struct mlypy_job *job)
{
    struct memalloy_error err = {0};
    PyObject *value = NULL;
    const char *what = "result";
    int rc = memalloy_call_result(job->call, &err);
    unlink_job(self, job);
    if (rc != MEMALLOY_OK) {
        mlypy_raise(self->state, &err);
    } else {
        value = job->kind->finish == NULL ? Py_NewRef(Py_None) : job->kind->finish(job);
    }
    if (value == NULL) {
        what = "error";
        value = take_exception();
    }
    PyObject *item = value == NULL ? NULL : Py_BuildValue("(OsN)", job->ticket, what, value);
    memalloy_call_destroy(job->call);
    mlypy_job_free(job);
    return item;
}

static bool append(PyObject *list, PyObject *item)
{
    int rc = item == NULL ? -1 : PyList_Append(list, item);
    Py_XDECREF(item);
    return rc == 0;
}

/* _take(): a list of (ticket, "result" | "error" | "progress", value). */
PyObject *mlypy_kernel_take(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *list = PyList_New(0);
    void *context = NULL;
    bool ok = list != NULL;
    while (ok && self->queue != NULL && memalloy_calls_next(self->queue, &context)) {
        ok = append(list, end_of(self, context));
    }
    /* After the line was empty, so that what comes now rings again. */
    for (struct mlypy_job *job = self->jobs; ok && job != NULL; job = job->next) {
        struct memalloy_progress progress = {.struct_bytes = sizeof(progress)};
        if (job->kind->is_long && memalloy_call_get_progress(job->call, &progress)) {
            PyObject *value = mlypy_watch_progress_object(self->state, &progress);
            ok = append(list, value == NULL
                                  ? NULL
                                  : Py_BuildValue("(OsN)", job->ticket, "progress", value));
        }
    }
    if (!ok) {
        Py_CLEAR(list);
    }
    return list;
}

/* _cancel(ticket): None is for all. */
PyObject *mlypy_kernel_cancel(PyObject *object, PyObject *ticket)
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    for (struct mlypy_job *job = self->jobs; job != NULL; job = job->next) {
        if (ticket == Py_None || job->ticket == ticket) {
            memalloy_call_cancel(job->call);
        }
    }
    return Py_NewRef(Py_None);
}

/* _descriptor(): can be read when there is something to _take(). */
PyObject *mlypy_kernel_descriptor(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    return open_calls(self) ? PyLong_FromLong(memalloy_calls_descriptor(self->queue)) : NULL;
}

/* _abandon(): cancels all, waits for their ends, and drops them. */
PyObject *mlypy_kernel_abandon(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    memalloy_calls *queue = self->queue;
    struct mlypy_job *job = self->jobs;
    self->queue = NULL;
    self->jobs = NULL;
    Py_BEGIN_ALLOW_THREADS
    memalloy_calls_close(queue);
    Py_END_ALLOW_THREADS
    while (job != NULL) {
        struct mlypy_job *next = job->next;
        memalloy_call_destroy(job->call);
        mlypy_job_free(job);
        job = next;
    }
    return Py_NewRef(Py_None);
}

/* ---- the end */

static int run_close(struct mlypy_job *job, struct memalloy_error *err)
{
    memalloy_kernel *handle = job->handle;
    job->handle = NULL;
    return memalloy_close(handle, err);
}

static void clear_close(struct mlypy_job *job)
{
    (void)memalloy_close(job->handle, NULL); /* where it never ran */
}

static const struct mlypy_job_kind close_kind = {
    .bytes = sizeof(struct mlypy_job), .is_long = true, .run = run_close, .clear = clear_close};

PyObject *mlypy_kernel_close_later(PyObject *object, PyObject *Py_UNUSED(args),
                                   PyObject *Py_UNUSED(kwargs))
{
    struct mlypy_kernel *view = (struct mlypy_kernel *)object;
    struct mlypy_job *job = mlypy_job_new(view, &close_kind);
    if (job == NULL) {
        return NULL;
    }
    /* From here on nobody gets in; the handle is the job's. */
    job->kernel->handle = NULL;
    __atomic_store_n(&job->kernel->closed, true, __ATOMIC_RELAXED);
    return mlypy_job_call(job, NULL);
}
