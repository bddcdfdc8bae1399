/* In: the library's calls for progress. Out: signals seen, the user's function called. The library
 * calls on the thread that made the call, so the GIL is taken back with that thread's own state; an
 * exception of a signal handler or of the function stops the work and travels up. */
#include "watch.h"

#include "job.h"
#include "raise.h"

#include <string.h>

static const double TELL_EVERY_S = 0.09;

static const char *stage_name(int stage)
{
    switch (stage) {
    case MEMALLOY_STAGE_WALK:
        return "walk";
    case MEMALLOY_STAGE_INDEX:
        return "index";
    case MEMALLOY_STAGE_EMBED:
        return "embed";
    case MEMALLOY_STAGE_VECTORS:
        return "vectors";
    default:
        return "done";
    }
}

PyObject *mlypy_watch_progress_object(struct mlypy_state *state, const struct memalloy_progress *at)
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
        PyLong_FromUnsignedLongLong(at->items_done),
        PyLong_FromUnsignedLongLong(at->items_total),
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

/* The library asks more often than anybody reads. */
static bool is_due(struct mlypy_watch *watch, const struct memalloy_progress *at)
{
    if (at->stage == watch->told_stage && at->stage != MEMALLOY_STAGE_DONE &&
        at->elapsed_s - watch->told_s < TELL_EVERY_S) {
        return false;
    }
    watch->told_s = at->elapsed_s;
    watch->told_stage = at->stage;
    return true;
}

/* 0 to go on, 1 to stop; with or without an exception set. */
static int tell(struct mlypy_watch *watch, const struct memalloy_progress *at)
{
    if (PyErr_CheckSignals() < 0) {
        return 1;
    }
    if (watch->callback != NULL && is_due(watch, at)) {
        PyObject *progress = mlypy_watch_progress_object(watch->state, at);
        PyObject *answer =
            progress == NULL ? NULL : PyObject_CallFunctionObjArgs(watch->callback, progress, NULL);
        Py_XDECREF(progress);
        int stop = answer == NULL || answer == Py_False;
        Py_XDECREF(answer);
        if (stop) {
            return 1;
        }
    }
    return watch->kernel != NULL && watch->kernel->closed ? 1 : 0;
}

int mlypy_watch_progress(void *context, const struct memalloy_progress *at)
{
    struct mlypy_watch *watch = context;
    /* No signal comes to this thread and nobody is to be told: the GIL is left to others. */
    if (!watch->is_main && watch->callback == NULL) {
        return watch->kernel != NULL && __atomic_load_n(&watch->kernel->closed, __ATOMIC_RELAXED);
    }
    PyEval_RestoreThread(watch->thread);
    /* After the first exception nobody is asked again, should the library report once more. */
    int stop = PyErr_Occurred() != NULL ? 1 : tell(watch, at);
    watch->thread = PyEval_SaveThread();
    return stop;
}

bool mlypy_watch_callback(PyObject *object, PyObject **out)
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

void mlypy_watch_note(struct mlypy_watch *watch, struct mlypy_state *state,
                      struct mlypy_kernel *kernel, PyObject *callback)
{
    *watch = (struct mlypy_watch){
        .next = kernel != NULL ? kernel->watches : NULL,
        .state = state,
        .kernel = kernel,
        .callback = callback,
        .thread_id = PyThread_get_thread_ident(),
        .is_main = mlypy_is_main_thread(),
        .told_stage = -1,
    };
    if (kernel != NULL) {
        kernel->watches = watch;
    }
}

void mlypy_watch_begin(struct mlypy_watch *watch, struct mlypy_state *state,
                       struct mlypy_kernel *kernel, PyObject *callback)
{
    mlypy_watch_note(watch, state, kernel, callback);
    /* Not Py_BEGIN_ALLOW_THREADS: the callback needs the saved state. */
    watch->thread = PyEval_SaveThread();
}

void mlypy_watch_forget(const struct mlypy_watch *watch)
{
    if (watch->kernel == NULL) {
        return;
    }
    struct mlypy_watch **place = &watch->kernel->watches;
    while (*place != NULL && *place != watch) {
        place = &(*place)->next;
    }
    if (*place != NULL) {
        *place = watch->next;
    }
}

void mlypy_watch_end(struct mlypy_watch *watch)
{
    PyEval_RestoreThread(watch->thread);
    mlypy_watch_forget(watch);
}

bool mlypy_watch_failed(const struct mlypy_watch *watch, int rc, const struct memalloy_error *err)
{
    const struct mlypy_kernel *kernel = watch->kernel;
    if (PyErr_Occurred()) { /* of the callback or a signal: it is the reason for CANCELLED */
        return true;
    }
    if (rc == MEMALLOY_ERR_CANCELLED && kernel != NULL && kernel->closed) {
        mlypy_raise_code(watch->state, MEMALLOY_ERR_CLOSED, "the store was closed during the call");
    } else if (rc != MEMALLOY_OK) {
        mlypy_raise(watch->state, err);
    }
    return rc != MEMALLOY_OK;
}

static PyStructSequence_Field progress_fields[] = {
    {"stage", "'walk' while looking for files, 'index'; 'embed'; 'vectors' of make_index;\n'done'"},
    {"path", "the file in hand, or None"},
    {"files_done", "files read so far"},
    {"files_total", "files that this call must read; known once the walk is done"},
    {"bytes_done", "bytes read so far"},
    {"bytes_total", "bytes that this call must read; known once the walk is done"},
    {"chunks_done", "chunks so far"},
    {"elapsed_s", "seconds since the call"},
    {"remaining_s", "seconds that are left, or None while that cannot be told"},
    {"bytes_per_s", "rate of this call"},
    {"items_done", "texts embedded so far, of embed; thousandths, of make_index"},
    {"items_total", "texts of this call, of embed; 1000, of make_index"},
    {NULL, NULL},
};

PyStructSequence_Desc mlypy_progress_desc = {
    .name = "memalloy.Progress",
    .doc = "How far a call has come.",
    .fields = progress_fields,
    .n_in_sequence = 10,
};
