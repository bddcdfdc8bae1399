/* In: a folder, patterns, whom to tell. Out: a report. The library calls back on the thread that
 * made the call, so the GIL is taken back with that thread's own state: signals are looked at, the
 * user's function is called, and an exception of either stops the sync and travels up. */
#include "convert.h"
#include "kernel_type.h"
#include "raise.h"
#include "report_type.h"

#include <string.h>

static const char *stage_name(int stage)
{
    switch (stage) {
    case MEMALLOY_STAGE_WALK:
        return "walk";
    case MEMALLOY_STAGE_INDEX:
        return "index";
    default:
        return "done";
    }
}

static PyObject *progress_object(struct mlypy_state *state, const struct memalloy_progress *at)
{
    PyObject *object = PyStructSequence_New(state->progress_type);
    if (object == NULL) {
        return NULL;
    }
    PyObject *fields[] = {
        PyUnicode_FromString(stage_name(at->stage)),
        at->path == NULL ? Py_NewRef(Py_None)
                         : PyUnicode_DecodeUTF8(at->path, (Py_ssize_t)strlen(at->path), "replace"),
        PyLong_FromUnsignedLongLong(at->files_done),
        PyLong_FromUnsignedLongLong(at->files_total),
        PyLong_FromUnsignedLongLong(at->bytes_done),
        PyLong_FromUnsignedLongLong(at->bytes_total),
        PyLong_FromUnsignedLongLong(at->chunks_done),
        PyFloat_FromDouble(at->elapsed_s),
        at->remaining_s < 0.0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(at->remaining_s),
        PyFloat_FromDouble(at->bytes_per_s),
    };
    bool ok = true;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        ok = ok && fields[i] != NULL;
        PyStructSequence_SetItem(object, (Py_ssize_t)i, fields[i]);
    }
    if (!ok) {
        Py_CLEAR(object);
    }
    return object;
}

/* 0 to go on, 1 to stop; with or without an exception set. */
static int tell(struct mlypy_sync *sync, const struct memalloy_progress *at)
{
    if (PyErr_CheckSignals() < 0) {
        return 1;
    }
    if (sync->callback != NULL) {
        PyObject *progress = progress_object(sync->kernel->state, at);
        PyObject *answer =
            progress == NULL ? NULL : PyObject_CallFunctionObjArgs(sync->callback, progress, NULL);
        Py_XDECREF(progress);
        int stop = answer == NULL || answer == Py_False;
        Py_XDECREF(answer);
        if (stop) {
            return 1;
        }
    }
    return sync->kernel->closed ? 1 : 0;
}

static int on_progress(void *context, const struct memalloy_progress *at)
{
    struct mlypy_sync *sync = context;
    PyEval_RestoreThread(sync->thread);
    /* After the first exception nobody is asked again, should the library report once more. */
    int stop = PyErr_Occurred() != NULL ? 1 : tell(sync, at);
    sync->thread = PyEval_SaveThread();
    return stop;
}

/* Patterns as C strings: *tuple owns them, *array is the caller's to free. */
static bool patterns(PyObject *object, const char *name, PyObject **tuple, const char ***array,
                     size_t *count)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    *tuple = mlypy_tuple(object, name, "a sequence of str or None");
    if (*tuple == NULL) {
        return false;
    }
    *count = (size_t)PyTuple_Size(*tuple);
    *array = mlypy_array(*count, sizeof(**array));
    if (*array == NULL) {
        return false;
    }
    for (size_t i = 0; i < *count; i++) {
        char item[48];
        PyOS_snprintf(item, sizeof(item), "%s[%zu]", name, i);
        (*array)[i] = mlypy_cstring(PyTuple_GetItem(*tuple, (Py_ssize_t)i), item);
        if ((*array)[i] == NULL) {
            return false;
        }
    }
    return true;
}

/* What to call: NULL for None and False, a printer for True, or the callable. New reference. */
static bool progress_callback(PyObject *object, PyObject **out)
{
    if (object == NULL || object == Py_None || object == Py_False) {
        return true;
    }
    if (object == Py_True) {
        PyObject *module = PyImport_ImportModule("memalloy._progress");
        *out = module == NULL ? NULL : PyObject_CallMethod(module, "Printer", NULL);
        Py_XDECREF(module);
        return *out != NULL;
    }
    if (!PyCallable_Check(object)) {
        mlypy_raise_type("progress", "True, a callable or None", object);
        return false;
    }
    *out = Py_NewRef(object);
    return true;
}

static void unlink_sync(struct mlypy_kernel *self, const struct mlypy_sync *sync)
{
    struct mlypy_sync **place = &self->syncs;
    while (*place != NULL && *place != sync) {
        place = &(*place)->next;
    }
    if (*place != NULL) {
        *place = sync->next;
    }
}

static PyObject *sync_result(struct mlypy_kernel *self, int rc, const memalloy_report *report,
                             const struct memalloy_error *err)
{
    if (PyErr_Occurred()) { /* of the callback or a signal: it is the reason for CANCELLED */
        return NULL;
    }
    if (rc == MEMALLOY_ERR_CANCELLED && self->closed) {
        return mlypy_raise_code(self->state, MEMALLOY_ERR_CLOSED,
                                "the store was closed during the sync");
    }
    return rc == MEMALLOY_OK ? mlypy_report_from(self->state, report)
                             : mlypy_raise(self->state, err);
}

static PyObject *run_sync(struct mlypy_kernel *self, const char *folder, PyObject *callback,
                          struct memalloy_sync_options *options)
{
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    struct mlypy_sync sync = {
        .next = self->syncs,
        .kernel = self,
        .callback = callback,
        .thread_id = PyThread_get_thread_ident(),
    };
    self->syncs = &sync;
    options->progress = on_progress;
    options->progress_context = &sync;
    memalloy_report *report = NULL;
    struct memalloy_error err = {0};
    /* Not Py_BEGIN_ALLOW_THREADS: the callback needs the saved state. */
    sync.thread = PyEval_SaveThread();
    int rc = memalloy_sync(self->handle, folder, options, &report, &err);
    PyEval_RestoreThread(sync.thread);
    PyObject *result = sync_result(self, rc, report, &err);
    memalloy_report_destroy(report);
    unlink_sync(self, &sync);
    mlypy_kernel_leave(self);
    return result;
}

PyObject *mlypy_kernel_sync(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"folder", "include", "exclude", "progress", "max_file_bytes", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *folder;
    PyObject *include = NULL;
    PyObject *exclude = NULL;
    PyObject *progress = NULL;
    PyObject *max_bytes_object = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOO", names, &folder, &include, &exclude,
                                     &progress, &max_bytes_object)) {
        return NULL;
    }
    struct memalloy_sync_options options = {.struct_bytes = sizeof(options)};
    PyObject *include_tuple = NULL;
    PyObject *exclude_tuple = NULL;
    const char **include_array = NULL;
    const char **exclude_array = NULL;
    PyObject *callback = NULL;
    PyObject *result = NULL;
    int64_t max_bytes = 0;
    PyObject *folder_bytes = mlypy_path(folder, "folder");
    if (folder_bytes != NULL &&
        patterns(include, "include", &include_tuple, &include_array, &options.include_count) &&
        patterns(exclude, "exclude", &exclude_tuple, &exclude_array, &options.exclude_count) &&
        mlypy_int_or_none(self->state, max_bytes_object, "max_file_bytes", 1, INT64_MAX, true,
                          &max_bytes) &&
        progress_callback(progress, &callback)) {
        options.include = include_array;
        options.exclude = exclude_array;
        options.file_bytes_max = (uint64_t)max_bytes;
        result = run_sync(self, PyBytes_AsString(folder_bytes), callback, &options);
    }
    Py_XDECREF(folder_bytes);
    Py_XDECREF(include_tuple);
    Py_XDECREF(exclude_tuple);
    PyMem_Free((void *)include_array);
    PyMem_Free((void *)exclude_array);
    Py_XDECREF(callback);
    return result;
}

static PyStructSequence_Field progress_fields[] = {
    {"stage", "'walk' while looking for files, 'index', 'done'"},
    {"path", "the file in hand, or None"},
    {"files_done", "files read so far"},
    {"files_total", "files that this call must read; known once the walk is done"},
    {"bytes_done", "bytes read so far"},
    {"bytes_total", "bytes that this call must read; known once the walk is done"},
    {"chunks_done", "chunks so far"},
    {"elapsed_s", "seconds since the call"},
    {"remaining_s", "seconds that are left, or None while that cannot be told"},
    {"bytes_per_s", "rate of this call"},
    {NULL, NULL},
};

PyStructSequence_Desc mlypy_progress_desc = {
    .name = "memalloy.Progress",
    .doc = "How far a sync has come.",
    .fields = progress_fields,
    .n_in_sequence = 10,
};
