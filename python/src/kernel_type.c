/* In: a path and options. Out: an open store, and its end. What it can do stands in kernel_add.c,
 * kernel_read.c and kernel_sync.c; here are its life and the table of its methods. */
#include "kernel_type.h"

#include "convert.h"
#include "model_type.h"
#include "raise.h"
#include "strategy_type.h"
#include "watch.h"

#include <string.h>
#include <unistd.h>

/* The lock and the count were copied by fork() in whatever state they were; the threads that would
 * have let go of them were not. */
static bool renew_after_fork(struct mlypy_kernel *self)
{
    PyThread_type_lock idle = PyThread_allocate_lock();
    if (idle == NULL) {
        PyErr_NoMemory();
        return false;
    }
    self->idle = idle; /* the old one may be held for ever: it is left, not freed */
    self->calls = 0;
    self->closing = false;
    self->watches = NULL;
    self->pid = (long)getpid();
    return true;
}

bool mlypy_kernel_enter(struct mlypy_kernel *self)
{
    if (self->handle == NULL || self->closed) {
        mlypy_raise_code(self->state, MEMALLOY_ERR_CLOSED, "the store is closed");
        return false;
    }
    if (self->pid != (long)getpid() && !renew_after_fork(self)) {
        return false;
    }
    if (self->calls == 0) {
        /* Free: only close() waits for it, and then the door is shut. */
        PyThread_acquire_lock(self->idle, NOWAIT_LOCK);
    }
    self->calls++;
    return true;
}

static void close_handle(struct mlypy_kernel *self)
{
    memalloy_kernel *handle = self->handle;
    self->handle = NULL;
    if (handle != NULL) {
        self->closing = true;
        Py_BEGIN_ALLOW_THREADS(void)
        memalloy_close(handle, NULL);
        Py_END_ALLOW_THREADS
        self->closing = false;
    }
}

void mlypy_kernel_leave(struct mlypy_kernel *self)
{
    self->calls--;
    if (self->calls > 0) {
        return;
    }
    if (self->closed) {
        close_handle(self);
    }
    PyThread_release_lock(self->idle);
}

/* Waits until the last call has left and closed the handle; false with an exception where a signal
 * handler raised, the last call closing all the same. */
static bool wait_until_idle(struct mlypy_kernel *self)
{
    for (;;) {
        PyLockStatus got;
        Py_BEGIN_ALLOW_THREADS
        got = PyThread_acquire_lock_timed(self->idle, 100000, 1);
        Py_END_ALLOW_THREADS
        if (got == PY_LOCK_ACQUIRED) {
            PyThread_release_lock(self->idle);
            return true;
        }
        if (PyErr_CheckSignals() < 0) {
            return false;
        }
    }
}

static bool is_in_own_callback(const struct mlypy_kernel *self)
{
    unsigned long thread_id = PyThread_get_thread_ident();
    for (const struct mlypy_watch *watch = self->watches; watch != NULL; watch = watch->next) {
        if (watch->thread_id == thread_id) {
            return true;
        }
    }
    return false;
}

static PyObject *kernel_close(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    if (self->pid != (long)getpid() && !renew_after_fork(self)) {
        return NULL;
    }
    self->closed = true;
    if (self->handle != NULL && self->calls == 0) {
        /* Free: who waits for it waits for a call or for this. */
        PyThread_acquire_lock(self->idle, NOWAIT_LOCK);
        close_handle(self);
        PyThread_release_lock(self->idle);
    } else if (self->handle != NULL || self->closing) {
        /* Who asks for the end may delete the folder next, so that nobody leaves before it. */
        if (!is_in_own_callback(self) && !wait_until_idle(self)) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *kernel_enter_with(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    if (self->handle == NULL || self->closed) {
        return mlypy_raise_code(self->state, MEMALLOY_ERR_CLOSED, "the store is closed");
    }
    return Py_NewRef(object);
}

static PyObject *kernel_exit_with(PyObject *object, PyObject *Py_UNUSED(args))
{
    PyObject *closed = PyObject_CallMethod(object, "close", NULL);
    if (closed == NULL) {
        return NULL;
    }
    Py_DECREF(closed);
    Py_RETURN_FALSE;
}

static void kernel_dealloc(PyObject *object)
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    close_handle(self);
    if (self->idle != NULL && self->calls == 0) {
        PyThread_free_lock(self->idle);
    }
    Py_CLEAR(self->path);
    mlypy_object_free(object);
}

static PyObject *kernel_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                            PyObject *Py_UNUSED(kwargs))
{
    struct mlypy_state *state = mlypy_state_of(type);
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct mlypy_kernel *self =
        state == NULL || alloc == NULL ? NULL : (struct mlypy_kernel *)alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->pid = (long)getpid();
    self->idle = PyThread_allocate_lock();
    if (self->idle == NULL) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

/* Opens path into self, which has no handle yet. model is None or NULL for the default one. */
static int open_store(struct mlypy_kernel *self, PyObject *path, PyObject *model,
                      struct memalloy_options *options)
{
    struct memalloy_model_options model_options = {.struct_bytes = sizeof(model_options)};
    struct memalloy_error err = {0};
    memalloy_kernel *handle = NULL;
    PyObject *model_path = NULL;
    PyObject *runtime = NULL;
    int result = -1;
    PyObject *path_bytes = mlypy_path(path, "path");
    if (path_bytes == NULL) {
        return -1;
    }
    if ((options->flags & MEMALLOY_OPEN_NO_MODEL) == 0) {
        model_path = mlypy_model_path(model, "model");
        if (model_path == NULL) {
            goto done;
        }
        runtime = mlypy_runtime_path(model_path);
        if (runtime == NULL) {
            goto done;
        }
        model_options.path = model_path == Py_None ? NULL : PyBytes_AsString(model_path);
        model_options.onnxruntime_path = runtime == Py_None ? NULL : PyBytes_AsString(runtime);
        model_options.threads = options->threads;
        options->model = &model_options;
    }
    const char *path_text = PyBytes_AsString(path_bytes);
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_open(&handle, path_text, options, &err);
    Py_END_ALLOW_THREADS
    if (rc != MEMALLOY_OK) {
        mlypy_raise(self->state, &err);
        goto done;
    }
    if (self->handle != NULL || self->closed) { /* another thread called __init__ meanwhile */
        (void)memalloy_close(handle, NULL);
        mlypy_raise_code(self->state, MEMALLOY_ERR_INVAL, "the store is open already");
        goto done;
    }
    self->handle = handle;
    self->path = PyUnicode_DecodeFSDefault(path_text);
    result = self->path == NULL ? -1 : 0;
done:
    Py_XDECREF(runtime);
    Py_XDECREF(model_path);
    Py_DECREF(path_bytes);
    return result;
}

/* 1: the sizes ask for the sentence strategy and are in *out; 0: both are None; -1: exception. */
static int sentence_sizes(struct mlypy_state *state, PyObject *size, PyObject *overlap,
                          struct memalloy_chunking *out)
{
    *out = (struct memalloy_chunking){.struct_bytes = sizeof(*out),
                                      .kind = MEMALLOY_CHUNKING_SENTENCE,
                                      .size = MEMALLOY_SIZE_DEFAULT,
                                      .overlap = MEMALLOY_SIZE_DEFAULT};
    if (!mlypy_int_or_none(state, size, "chunk_size", INT64_MIN + 1, INT64_MAX, false,
                           &out->size) ||
        !mlypy_int_or_none(state, overlap, "overlap", INT64_MIN + 1, INT64_MAX, false,
                           &out->overlap)) {
        return -1;
    }
    return out->size == MEMALLOY_SIZE_DEFAULT && out->overlap == MEMALLOY_SIZE_DEFAULT ? 0 : 1;
}

static int kernel_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"db_path", "chunk_size", "overlap", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *path = NULL;
    PyObject *size = NULL;
    PyObject *overlap = NULL;
    struct memalloy_options options = {.struct_bytes = sizeof(options)};
    struct memalloy_chunking chunking;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO", names, &path, &size, &overlap)) {
        return -1;
    }
    if (self->handle != NULL || self->closed) {
        mlypy_raise_code(self->state, MEMALLOY_ERR_INVAL, "the store is open already");
        return -1;
    }
    int sized = sentence_sizes(self->state, size, overlap, &chunking);
    if (sized < 0) {
        return -1;
    }
    options.chunking = sized ? &chunking : NULL;
    path =
        path == NULL || path == Py_None ? PyUnicode_FromString(".memalloy_data") : Py_NewRef(path);
    int rc = path == NULL ? -1 : open_store(self, path, NULL, &options);
    Py_XDECREF(path);
    return rc;
}

/* lock_timeout in seconds to milliseconds; 0 of the interface means its default, so that "do not
 * wait" is its shortest wait. */
static bool lock_wait(struct mlypy_state *state, PyObject *object, uint32_t *out)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        mlypy_raise_type("lock_timeout", "a number of seconds or None", object);
        return false;
    }
    if (!(seconds >= 0.0 && seconds <= 4000000.0)) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL,
                         "lock_timeout must be from 0 to 4000000 seconds, not %S", object);
        return false;
    }
    *out = seconds < 0.001 ? 1 : (uint32_t)(seconds * 1000.0);
    return true;
}

static bool open_options(struct mlypy_state *state, PyObject *dim_object, PyObject *threads_object,
                         PyObject *wait_object, PyObject *chunking_object,
                         struct memalloy_options *options)
{
    int64_t dim = 0;
    int64_t threads = 0;
    if (!mlypy_int_or_none(state, dim_object, "dim", 1, INT32_MAX, false, &dim) ||
        !mlypy_int_or_none(state, threads_object, "threads", 1, INT32_MAX, true, &threads) ||
        !lock_wait(state, wait_object, &options->lock_wait_ms)) {
        return false;
    }
    options->dim = (uint32_t)dim;
    options->threads = (uint32_t)threads;
    if (chunking_object != NULL && chunking_object != Py_None) {
        if (!Py_IS_TYPE(chunking_object, state->strategy_type)) {
            mlypy_raise_type("chunking", "a ChunkingStrategy or None", chunking_object);
            return false;
        }
        options->chunking = &((struct mlypy_strategy *)chunking_object)->chunking;
    }
    return true;
}

PyObject *mlypy_kernel_open(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path",    "model",    "dim",          "read_only",
                            "threads", "chunking", "lock_timeout", NULL};
    struct mlypy_state *state = mlypy_module_state(module);
    PyObject *path;
    PyObject *model = NULL;
    PyObject *dim = NULL;
    PyObject *threads = NULL;
    PyObject *chunking = NULL;
    PyObject *wait = NULL;
    int read_only = 0;
    struct memalloy_options options = {.struct_bytes = sizeof(options)};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOpOOO", names, &path, &model, &dim,
                                     &read_only, &threads, &chunking, &wait) ||
        !open_options(state, dim, threads, wait, chunking, &options)) {
        return NULL;
    }
    if (read_only) {
        options.flags |= MEMALLOY_OPEN_READONLY;
    }
    if (options.dim != 0 && (model == NULL || model == Py_None)) {
        options.flags |= MEMALLOY_OPEN_NO_MODEL;
    }
    PyObject *object = kernel_new(state->kernel_type, NULL, NULL);
    if (object != NULL && open_store((struct mlypy_kernel *)object, path, model, &options) < 0) {
        Py_CLEAR(object);
    }
    return object;
}

static PyObject *kernel_set_chunking(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"strategy", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *strategy;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &strategy)) {
        return NULL;
    }
    if (!Py_IS_TYPE(strategy, self->state->strategy_type)) {
        return mlypy_raise_type("strategy", "a ChunkingStrategy", strategy);
    }
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_set_chunking(self->handle, &((struct mlypy_strategy *)strategy)->chunking, &err);
    Py_END_ALLOW_THREADS
    mlypy_kernel_leave(self);
    return rc == MEMALLOY_OK ? Py_NewRef(Py_None) : mlypy_raise(self->state, &err);
}

static PyObject *kernel_get_path(PyObject *object, void *Py_UNUSED(closure))
{
    PyObject *path = ((struct mlypy_kernel *)object)->path;
    return Py_NewRef(path == NULL ? Py_None : path);
}

static PyObject *kernel_get_closed(PyObject *object, void *Py_UNUSED(closure))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    return PyBool_FromLong(self->handle == NULL || self->closed);
}

static PyObject *kernel_repr(PyObject *object)
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    return PyUnicode_FromFormat("RAGKernel(%R%s)", self->path == NULL ? Py_None : self->path,
                                self->handle == NULL || self->closed ? ", closed" : "");
}

/* A keyword function in the slot of a plain one, as CPython's own tables have it. */
#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef kernel_methods[] = {
    {"add_document", KEYWORDS(mlypy_kernel_add_document), METH_VARARGS | METH_KEYWORDS,
     "add_document($self, /, content, metadata=None, document_id=None)\n--\n\n"
     "Adds a text and returns its document's id; it is on disk when the call returns.\n\n"
     "metadata: a dict of JSON values with str keys. document_id: 1 to 512 bytes of UTF-8; None\n"
     "makes a new document; an id that is there is replaced, and only chunks that changed are\n"
     "embedded. Errors: TypeError, InvalidArgumentError (ValueError), LimitError, ModelError,\n"
     "LockedError (TimeoutError), ReadOnlyError, StoreIOError (OSError). Ctrl-C gives it up."},
    {"add_file", KEYWORDS(mlypy_kernel_add_file), METH_VARARGS | METH_KEYWORDS,
     "add_file($self, /, path, metadata=None, document_id=None)\n--\n\n"
     "Adds or refreshes one UTF-8 file and returns its document's id, which it keeps for as long\n"
     "as its path is known. Errors as add_document, and ParseError for what is not text,\n"
     "MissingFileError (FileNotFoundError)."},
    {"add_vectors", KEYWORDS(mlypy_kernel_add_vectors), METH_VARARGS | METH_KEYWORDS,
     "add_vectors($self, /, contents, vectors, metadata=None, ids=None)\n--\n\n"
     "Adds count documents of one chunk each with vectors of your own; returns their ids. All or\n"
     "none.\n\n"
     "contents: count str. vectors: shape (count, dim), finite, no row all zero; float32 that is\n"
     "C-contiguous and read-only is used where it lies, all else is copied; stored at unit\n"
     "length. metadata: count dicts or None. ids: count str or None."},
    {"sync", KEYWORDS(mlypy_kernel_sync), METH_VARARGS | METH_KEYWORDS,
     "sync($self, /, folder, include=None, exclude=None, progress=None, max_file_bytes=None)\n"
     "--\n\n"
     "Makes the store follow a folder: adds, replaces and removes exactly what changed.\n\n"
     "include, exclude: sequences of globs on the path below the folder; '*' stops at '/', '**'\n"
     "does not; one without '/' matches names at any depth. progress: True prints a line on\n"
     "stderr; a callable gets a Progress about ten times a second, and cancels by returning\n"
     "False or raising. max_file_bytes: larger files are skipped with a reason; None: 64 MiB.\n"
     "Returns a SyncReport. Errors: MissingFileError (FileNotFoundError), CancelledError, and\n"
     "as add_document. Ctrl-C stops it; what was committed stays."},
    {"search", KEYWORDS(mlypy_kernel_search), METH_VARARGS | METH_KEYWORDS,
     "search($self, /, query, top_k=5)\n--\n\n"
     "The passages nearest in meaning to a text, best first, as a list of Hit, each of which\n"
     "unpacks as (document, score).\n\n"
     "top_k: from 1; more than the store has gives all. score: cosine similarity, 1 is equal.\n"
     "Errors: TypeError, InvalidArgumentError (ValueError), ModelError, ModelMismatchError."},
    {"search_vector", KEYWORDS(mlypy_kernel_search_vector), METH_VARARGS | METH_KEYWORDS,
     "search_vector($self, /, vector, top_k=5)\n--\n\n"
     "The same for a vector of dim finite numbers, not all zero: a one-dimensional buffer of\n"
     "float32 or float64, or a sequence of numbers."},
    {"get_document", KEYWORDS(mlypy_kernel_get_document), METH_VARARGS | METH_KEYWORDS,
     "get_document($self, /, document_id)\n--\n\n"
     "The document with its whole text. NotFoundError (a KeyError) where there is none."},
    {"list_documents", KEYWORDS(mlypy_kernel_list_documents), METH_VARARGS | METH_KEYWORDS,
     "list_documents($self, /, limit=None, after=None)\n--\n\n"
     "Documents in the order of their ids, at most limit of them (None: all), behind the id\n"
     "after. Their content is read when it is asked for."},
    {"remove_document", KEYWORDS(mlypy_kernel_remove_document), METH_VARARGS | METH_KEYWORDS,
     "remove_document($self, /, document_id)\n--\n\n"
     "True if the document was there and is removed, False if there is no such id."},
    {"count", mlypy_kernel_count, METH_NOARGS,
     "count($self, /)\n--\n\nHow many documents the store has."},
    {"status", mlypy_kernel_status, METH_NOARGS,
     "status($self, /)\n--\n\n"
     "A dict: path, documents, chunks, skipped, dim (None: not known yet), model_id, model_hash,\n"
     "model_pooling, model_quantisation, chunking, threads, read_only, file_bytes, and the "
     "versions and fragments of both tables."},
    {"set_chunking_strategy", KEYWORDS(kernel_set_chunking), METH_VARARGS | METH_KEYWORDS,
     "set_chunking_strategy($self, /, strategy)\n--\n\n"
     "Cuts what is added from now on by this ChunkingStrategy."},
    {"close", kernel_close, METH_NOARGS,
     "close($self, /)\n--\n\n"
     "Closes the store when the calls of other threads have ended; long ones are cancelled.\n"
     "Safe to repeat. Every other call then raises ClosedError (a ValueError)."},
    {"__enter__", kernel_enter_with, METH_NOARGS, "__enter__($self, /)\n--\n\nThe store itself."},
    {"__exit__", kernel_exit_with, METH_VARARGS, "__exit__($self, /, *args)\n--\n\nCloses it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef kernel_getset[] = {
    {"path", kernel_get_path, NULL, "the folder of the store, as it was given", NULL},
    {"closed", kernel_get_closed, NULL, "True after close()", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot kernel_slots[] = {
    {Py_tp_doc,
     (void *)"RAGKernel(db_path=None, chunk_size=None, overlap=None)\n--\n\n"
             "An open store: texts and files in, cited passages out. A context manager.\n\n"
             "db_path: its folder, made at the first write; None: '.memalloy_data'. Without sizes\n"
             "texts are cut by headings, paragraphs and sentences to what the model reads; with\n"
             "chunk_size or overlap (characters, 0 <= overlap < chunk_size, 500 and 50 where one "
             "is\n"
             "left out) by sentences. Usable from any thread; after fork() a handle that was used\n"
             "raises ForkedError in the child."},
    {Py_tp_new, (void *)kernel_new},
    {Py_tp_init, (void *)kernel_init},
    {Py_tp_dealloc, (void *)kernel_dealloc},
    {Py_tp_repr, (void *)kernel_repr},
    {Py_tp_methods, kernel_methods},
    {Py_tp_getset, kernel_getset},
    {0, NULL},
};

PyType_Spec mlypy_kernel_spec = {
    .name = "memalloy.RAGKernel",
    .basicsize = sizeof(struct mlypy_kernel),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = kernel_slots,
};
