/* In: a kernel, a folder, options. Out: an object that gives events as tuples. Waiting is done in
 * short pieces without the GIL, so that signals and close() are seen. */
#include "folder_watch.h"

#include "convert.h"
#include "kernel_type.h"
#include "raise.h"

#include <string.h>
#include <structmember.h>
#include <time.h>

#define PIECE_MS 50u

struct folder_watch {
    PyObject_HEAD struct mlypy_state *state;
    PyObject *kernel;
    memalloy_watch *handle; /* NULL: closed */
    Py_ssize_t users;       /* threads in a call, which close() waits for */
    bool closing;
    bool taking; /* a thread waits for the next event */
};

/* ---- opening ---- */

/* A tuple of str as C strings that live as long as it; *count is set. PyMem_Free frees it. */
static const char **strings(PyObject *tuple, const char *name, size_t *count)
{
    *count = (size_t)PyTuple_Size(tuple);
    const char **array = mlypy_array(*count, sizeof(array[0]));
    for (size_t i = 0; array != NULL && i < *count; i++) {
        array[i] = mlypy_cstring(PyTuple_GetItem(tuple, (Py_ssize_t)i), name);
        if (array[i] == NULL) {
            PyMem_Free((void *)array);
            return NULL;
        }
    }
    return array;
}

static struct folder_watch *open_with(struct mlypy_kernel *kernel, const char *folder,
                                      const struct memalloy_watch_options *options)
{
    PyTypeObject *type = kernel->state->folder_watch_type;
    struct folder_watch *self = (struct folder_watch *)PyType_GenericAlloc(type, 0);
    if (self == NULL || !mlypy_kernel_enter(kernel)) {
        Py_XDECREF((PyObject *)self);
        return NULL;
    }
    struct memalloy_error err = {0};
    memalloy_watch *handle = NULL;
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_watch_open(kernel->handle, folder, options, &handle, &err);
    Py_END_ALLOW_THREADS
    mlypy_kernel_leave(kernel);
    self->state = kernel->state;
    self->handle = handle;
    self->kernel = Py_NewRef((PyObject *)kernel);
    if (rc != MEMALLOY_OK) {
        Py_DECREF((PyObject *)self);
        return (struct folder_watch *)mlypy_raise(kernel->state, &err);
    }
    return self;
}

PyObject *mlypy_kernel_open_watch(PyObject *object, PyObject *args)
{
    PyObject *folder, *include, *exclude, *durability;
    unsigned long long file_bytes_max;
    unsigned int flags, quiet_ms, patience_ms, poll_ms, reconcile_s;
    struct mlypy_kernel *kernel = (struct mlypy_kernel *)object;
    struct memalloy_watch_options options = {.struct_bytes = sizeof(options)};
    if (!PyArg_ParseTuple(args, "OO!O!KOIIIII", &folder, &PyTuple_Type, &include, &PyTuple_Type,
                          &exclude, &file_bytes_max, &durability, &flags, &quiet_ms, &patience_ms,
                          &poll_ms, &reconcile_s) ||
        !mlypy_durability(kernel->state, durability, &options.durability)) {
        return NULL;
    }
    options.file_bytes_max = file_bytes_max;
    options.flags = flags;
    options.quiet_ms = quiet_ms;
    options.patience_ms = patience_ms;
    options.poll_ms = poll_ms;
    options.reconcile_s = reconcile_s;
    PyObject *path = mlypy_path(folder, "folder");
    const char **included =
        path == NULL ? NULL : strings(include, "include", &options.include_count);
    const char **excluded =
        included == NULL ? NULL : strings(exclude, "exclude", &options.exclude_count);
    struct folder_watch *self = NULL;
    if (excluded != NULL) {
        options.include = included;
        options.exclude = excluded;
        self = open_with(kernel, PyBytes_AsString(path), &options);
    }
    PyMem_Free((void *)included);
    PyMem_Free((void *)excluded);
    Py_XDECREF(path);
    return (PyObject *)self;
}

PyObject *mlypy_kernel_watch(PyObject *object, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyImport_ImportModule("memalloy._watch");
    PyObject *open = module == NULL ? NULL : PyObject_GetAttrString(module, "open_watch");
    Py_ssize_t count = PyTuple_Size(args);
    PyObject *all = open == NULL ? NULL : PyTuple_New(count + 1);
    PyObject *result = NULL;
    if (all != NULL) {
        PyTuple_SetItem(all, 0, Py_NewRef(object));
        for (Py_ssize_t i = 0; i < count; i++) {
            PyTuple_SetItem(all, i + 1, Py_NewRef(PyTuple_GetItem(args, i)));
        }
        result = PyObject_Call(open, all, kwargs);
    }
    Py_XDECREF(all);
    Py_XDECREF(open);
    Py_XDECREF(module);
    return result;
}

/* ---- asking ---- */

/* False with ClosedError where it is closed. */
static bool enter(struct folder_watch *self)
{
    if (self->handle == NULL || self->closing) {
        mlypy_raise_code(self->state, MEMALLOY_ERR_CLOSED, "the watch is closed");
        return false;
    }
    self->users++;
    return true;
}

static PyObject *text(struct memalloy_str str)
{
    if (str.data == NULL) {
        return Py_NewRef(Py_None);
    }
    return PyUnicode_DecodeUTF8(str.data, (Py_ssize_t)str.bytes, "replace");
}

static double now_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Milliseconds of the next piece of waiting; timeout below 0: for ever. */
static unsigned piece(double timeout, double end_s)
{
    double left_s = timeout < 0.0 ? 1.0 : end_s - now_s();
    if (left_s <= 0.0) {
        return 0;
    }
    return left_s * 1000.0 < PIECE_MS ? (unsigned)(left_s * 1000.0) + 1 : PIECE_MS;
}

/* next(timeout): (kind, path, old_path, reason, document_id, count), or None. */
static PyObject *watch_next(PyObject *object, PyObject *args)
{
    struct folder_watch *self = (struct folder_watch *)object;
    double timeout;
    if (!PyArg_ParseTuple(args, "d", &timeout)) {
        return NULL;
    }
    if (self->taking) {
        PyErr_SetString(PyExc_RuntimeError, "another thread takes the events of this watch");
        return NULL;
    }
    if (!enter(self)) {
        return NULL;
    }
    self->taking = true;
    struct memalloy_watch_event event = {.struct_bytes = sizeof(event)};
    double end_s = now_s() + timeout;
    int found = 0;
    bool ok = true;
    for (;;) {
        unsigned wait_ms = piece(timeout, end_s);
        Py_BEGIN_ALLOW_THREADS
        found = memalloy_watch_next(self->handle, wait_ms, &event);
        Py_END_ALLOW_THREADS
        ok = PyErr_CheckSignals() == 0;
        if (found || !ok || wait_ms == 0 || self->closing) {
            break;
        }
    }
    PyObject *result = NULL;
    if (ok && found) {
        result = Py_BuildValue("(iNNNNK)", event.kind, text(event.path), text(event.old_path),
                               text(event.reason), text(event.document_id),
                               (unsigned long long)event.count);
    } else if (ok) {
        result = Py_NewRef(Py_None);
    }
    self->taking = false;
    self->users--;
    return result;
}

/* settle(timeout): whether nothing is pending. */
static PyObject *watch_settle(PyObject *object, PyObject *args)
{
    struct folder_watch *self = (struct folder_watch *)object;
    double timeout;
    if (!PyArg_ParseTuple(args, "d", &timeout) || !enter(self)) {
        return NULL;
    }
    double end_s = now_s() + timeout;
    int settled = 0;
    bool ok = true;
    for (;;) {
        unsigned wait_ms = piece(timeout, end_s);
        Py_BEGIN_ALLOW_THREADS
        settled = memalloy_watch_settle(self->handle, wait_ms < 1000 ? wait_ms : 1000);
        Py_END_ALLOW_THREADS
        ok = PyErr_CheckSignals() == 0;
        if (settled || !ok || wait_ms == 0 || self->closing) {
            break;
        }
    }
    self->users--;
    return ok ? PyBool_FromLong(settled) : NULL;
}

static PyObject *watch_status(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct folder_watch *self = (struct folder_watch *)object;
    struct memalloy_watch_status status = {.struct_bytes = sizeof(status)};
    static const char *const states[] = {"starting", "following", "polling", "waiting", "ended"};
    if (!enter(self)) {
        return NULL;
    }
    memalloy_watch_get_status(self->handle, &status);
    self->users--;
    size_t state = (size_t)status.state < sizeof(states) / sizeof(states[0])
                       ? (size_t)status.state
                       : sizeof(states) / sizeof(states[0]) - 1;
    size_t reason_bytes = strlen(status.reason);
    struct memalloy_str reason = {reason_bytes > 0 ? status.reason : NULL, reason_bytes};
    return Py_BuildValue(
        "{s:s,s:N,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:N}", "state",
        states[state], "is_syncing", PyBool_FromLong(status.is_syncing), "pending",
        (unsigned long long)status.pending, "files", (unsigned long long)status.files, "skipped",
        (unsigned long long)status.skipped, "failed", (unsigned long long)status.failed, "folders",
        (unsigned long long)status.folders, "unwatched", (unsigned long long)status.unwatched,
        "lost", (unsigned long long)status.lost, "added", (unsigned long long)status.added,
        "replaced", (unsigned long long)status.replaced, "removed",
        (unsigned long long)status.removed, "moved", (unsigned long long)status.moved,
        "chunks_embedded", (unsigned long long)status.chunks_embedded, "files_done",
        (unsigned long long)status.files_done, "files_total",
        (unsigned long long)status.files_total, "reason", text(reason));
}

static PyObject *watch_fileno(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct folder_watch *self = (struct folder_watch *)object;
    if (!enter(self)) {
        return NULL;
    }
    int fd = memalloy_watch_descriptor(self->handle);
    self->users--;
    return PyLong_FromLong(fd);
}

/* ---- ending ---- */

static PyObject *watch_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct folder_watch *self = (struct folder_watch *)object;
    if (self->handle == NULL || self->closing) {
        return Py_NewRef(Py_None);
    }
    self->closing = true;
    while (self->users > 0) {
        Py_BEGIN_ALLOW_THREADS
        const struct timespec pause = {0, 1000000};
        (void)nanosleep(&pause, NULL);
        Py_END_ALLOW_THREADS
    }
    memalloy_watch *handle = self->handle;
    self->handle = NULL;
    Py_BEGIN_ALLOW_THREADS
    memalloy_watch_close(handle);
    Py_END_ALLOW_THREADS
    return Py_NewRef(Py_None);
}

static int watch_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct folder_watch *)object)->kernel);
    return 0;
}

static int watch_clear(PyObject *object)
{
    Py_CLEAR(((struct folder_watch *)object)->kernel);
    return 0;
}

static void watch_dealloc(PyObject *object)
{
    struct folder_watch *self = (struct folder_watch *)object;
    PyObject_GC_UnTrack(object);
    if (self->handle != NULL) {
        Py_BEGIN_ALLOW_THREADS
        memalloy_watch_close(self->handle);
        Py_END_ALLOW_THREADS
    }
    watch_clear(object);
    mlypy_object_free(object);
}

static PyObject *watch_get_closed(PyObject *object, void *Py_UNUSED(closure))
{
    struct folder_watch *self = (struct folder_watch *)object;
    return PyBool_FromLong(self->handle == NULL || self->closing);
}

static PyMethodDef watch_methods[] = {
    {"next", watch_next, METH_VARARGS, "next($self, timeout, /)\n--\n\nThe next event, or None."},
    {"settle", watch_settle, METH_VARARGS,
     "settle($self, timeout, /)\n--\n\nWhether nothing is pending."},
    {"status", watch_status, METH_NOARGS, "status($self, /)\n--\n\nA dict."},
    {"fileno", watch_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nReadable while there are events."},
    {"close", watch_close, METH_NOARGS, "close($self, /)\n--\n\nEnds it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef watch_getset[] = {
    {"closed", watch_get_closed, NULL, "whether it was closed", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot watch_slots[] = {
    {Py_tp_doc, (void *)"For memalloy.FolderWatch."},
    {Py_tp_dealloc, (void *)watch_dealloc},
    {Py_tp_traverse, (void *)watch_traverse},
    {Py_tp_clear, (void *)watch_clear},
    {Py_tp_methods, watch_methods},
    {Py_tp_getset, watch_getset},
    {0, NULL},
};

PyType_Spec mlypy_folder_watch_spec = {
    .name = "memalloy._memalloy._Watch",
    .basicsize = sizeof(struct folder_watch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = watch_slots,
};
