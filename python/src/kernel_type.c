/* The life of an open store from its birth in kernel_open.c to its end, and the table of its
 * methods, which stand in the other files kernel_*.c. */
#include "kernel_type.h"

#include "folder_watch.h"

#include "convert.h"
#include "job.h"
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
    struct memalloy_error err = {0};
    int rc;
    self->handle = NULL;
    if (handle != NULL) {
        self->closing = true;
        Py_BEGIN_ALLOW_THREADS
        rc = memalloy_close(handle, &err);
        Py_END_ALLOW_THREADS
        self->closing = false;
        if (rc != MEMALLOY_OK) {
            self->close_error = err; /* for whoever asked for the end */
        }
    }
}

static int run_close(struct mlypy_job *job, struct memalloy_error *err)
{
    return memalloy_close(job->handle, err);
}

/* The same for whoever asks for the end, and may be interrupted: then it goes on alone. */
static bool close_and_wait(struct mlypy_kernel *self)
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct mlypy_job), .is_long = true, .run = run_close};
    struct mlypy_job *job = mlypy_job_new_free(self->state, &kind);
    if (job == NULL) {
        PyErr_Clear();
        close_handle(self);
        return true;
    }
    job->handle = self->handle;
    self->handle = NULL;
    self->closing = true;
    PyObject *closed = mlypy_job_call(job, NULL);
    self->closing = false;
    Py_XDECREF(closed);
    return closed != NULL;
}

/* None, or NULL with the exception of what closing could not do, which is told once. */
static PyObject *closed_result(struct mlypy_kernel *self)
{
    struct memalloy_error err = self->close_error;
    self->close_error.code = MEMALLOY_OK;
    return err.code == MEMALLOY_OK ? Py_NewRef(Py_None) : mlypy_raise(self->state, &err);
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
        mlypy_jobs_sweep(self->state);
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
    __atomic_store_n(&self->closed, true, __ATOMIC_RELAXED);
    for (const struct mlypy_watch *watch = self->watches; watch != NULL; watch = watch->next) {
        memalloy_call_cancel(watch->call);
    }
    mlypy_jobs_sweep(self->state);
    if (self->handle != NULL && self->calls == 0) {
        /* Free: who waits for it waits for a call or for this. */
        PyThread_acquire_lock(self->idle, NOWAIT_LOCK);
        bool closed = close_and_wait(self);
        PyThread_release_lock(self->idle);
        if (!closed) {
            return NULL;
        }
    } else if (self->handle != NULL || self->closing) {
        /* Who asks for the end may delete the folder next, so that nobody leaves before it. */
        if (!is_in_own_callback(self) && !wait_until_idle(self)) {
            return NULL;
        }
    }
    return closed_result(self);
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
    memalloy_calls *queue = self->queue; /* idle: jobs hold the kernel */
    Py_BEGIN_ALLOW_THREADS
    memalloy_calls_close(queue);
    Py_END_ALLOW_THREADS
    close_handle(self);
    if (self->close_error.code != MEMALLOY_OK) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        (void)closed_result(self);
        PyErr_WriteUnraisable(NULL); /* not the object, which is on its way out */
        PyErr_Restore(type, value, traceback);
    }
    if (self->idle != NULL && self->calls == 0) {
        PyThread_free_lock(self->idle);
    }
    Py_CLEAR(self->path);
    mlypy_object_free(object);
}

PyObject *mlypy_kernel_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
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

static int run_flush(struct mlypy_job *job, struct memalloy_error *err)
{
    return memalloy_flush(job->handle, err);
}

static int run_checkpoint(struct mlypy_job *job, struct memalloy_error *err)
{
    return memalloy_checkpoint(job->handle, err);
}

static PyObject *call_plain(PyObject *object, const struct mlypy_job_kind *kind)
{
    struct mlypy_job *job = mlypy_job_new((struct mlypy_kernel *)object, kind);
    return job == NULL ? NULL : mlypy_job_call(job, NULL);
}

PyObject *mlypy_kernel_flush(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct mlypy_job), .is_long = true, .run = run_flush};
    return call_plain(object, &kind);
}

PyObject *mlypy_kernel_checkpoint(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct mlypy_job), .is_long = true, .run = run_checkpoint};
    return call_plain(object, &kind);
}

static PyObject *kernel_get_path(PyObject *object, void *Py_UNUSED(closure))
{
    PyObject *path = ((struct mlypy_kernel *)object)->path;
    return Py_NewRef(path == NULL ? Py_None : path);
}

static PyObject *kernel_get_open_report(PyObject *object, void *Py_UNUSED(closure))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    struct memalloy_open_report report = {.struct_bytes = sizeof(report)};
    struct memalloy_error err = {0};
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    int rc = memalloy_get_open_report(self->handle, &report, &err);
    mlypy_kernel_leave(self);
    if (rc != MEMALLOY_OK) {
        return mlypy_raise(self->state, &err);
    }
    return Py_BuildValue(
        "{s:K,s:K,s:N,s:N}", "records", (unsigned long long)report.records, "dropped_bytes",
        (unsigned long long)report.dropped_bytes, "kept", PyBool_FromLong(report.kept), "reason",
        PyUnicode_DecodeUTF8(report.reason, (Py_ssize_t)strlen(report.reason), "replace"));
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
    {"_start", mlypy_kernel_start, METH_VARARGS,
     "_start($self, ticket, name, args, kwargs, /)\n--\n\nFor memalloy.AsyncRAGKernel."},
    {"_take", mlypy_kernel_take, METH_NOARGS,
     "_take($self, /)\n--\n\nFor memalloy.AsyncRAGKernel."},
    {"_cancel", mlypy_kernel_cancel, METH_O,
     "_cancel($self, ticket, /)\n--\n\nFor memalloy.AsyncRAGKernel."},
    {"_descriptor", mlypy_kernel_descriptor, METH_NOARGS,
     "_descriptor($self, /)\n--\n\nFor memalloy.AsyncRAGKernel."},
    {"_abandon", mlypy_kernel_abandon, METH_NOARGS,
     "_abandon($self, /)\n--\n\nFor memalloy.AsyncRAGKernel."},
    {"add_document", KEYWORDS(mlypy_kernel_add_document), METH_VARARGS | METH_KEYWORDS,
     "add_document($self, /, content, metadata=None, document_id=None, *, durability=None)\n--\n\n"
     "Adds a text and returns its document's id.\n\n"
     "durability: when the call returns, 'full' survives a power cut; 'normal' the end of the\n"
     "process, and of a power cut all but the last 100 ms; 'off' the same without the 100 ms;\n"
     "None: as the store was opened, which is 'full' where nothing was said.\n"
     "metadata: a dict of JSON values with str keys. document_id: 1 to 512 bytes of UTF-8; None\n"
     "makes a new document; an id that is there is replaced, and only chunks that changed are\n"
     "embedded. Errors: TypeError, InvalidArgumentError (ValueError), LimitError, ModelError,\n"
     "LockedError (TimeoutError), ReadOnlyError, StoreIOError (OSError). Ctrl-C gives it up."},
    {"add_file", KEYWORDS(mlypy_kernel_add_file), METH_VARARGS | METH_KEYWORDS,
     "add_file($self, /, path, metadata=None, document_id=None, *, durability=None)\n--\n\n"
     "Adds or refreshes one UTF-8 file and returns its document's id, which it keeps for as long\n"
     "as its path is known. Errors as add_document, and ParseError for what is not text,\n"
     "MissingFileError (FileNotFoundError)."},
    {"add_documents", KEYWORDS(mlypy_kernel_add_documents), METH_VARARGS | METH_KEYWORDS,
     "add_documents($self, /, documents, *, durability=None)\n--\n\n"
     "Adds documents from any iterable and returns their ids; an endless generator needs no more\n"
     "memory than a short one, but for the ids.\n\n"
     "documents: gives str, Document (whose id and metadata are used) or tuples (content,\n"
     "metadata, document_id), of which the last two may be left out. They are embedded and stored\n"
     "in blocks of at most 256 documents; each document is stored whole or not at all. After an\n"
     "error the block in hand is not stored, and what was stored before it stays."},
    {"add_vectors", KEYWORDS(mlypy_kernel_add_vectors), METH_VARARGS | METH_KEYWORDS,
     "add_vectors($self, /, contents, vectors, metadata=None, ids=None, *, durability=None)\n--\n\n"
     "Adds count documents of one chunk each with vectors of your own; returns their ids. All or\n"
     "none.\n\n"
     "contents: count str. vectors: shape (count, dim), finite, no row all zero; float32 that is\n"
     "C-contiguous and read-only is used where it lies, all else is copied; stored at unit\n"
     "length. metadata: count dicts or None. ids: count str or None."},
    {"sync", KEYWORDS(mlypy_kernel_sync), METH_VARARGS | METH_KEYWORDS,
     "sync($self, /, folder, include=None, exclude=None, progress=None, max_file_bytes=None, *, "
     "durability=None, paths=None, recursive=True)\n--\n\n"
     "Makes the store follow a folder: adds, replaces and removes exactly what changed. A file\n"
     "that was moved or renamed keeps its document, and is not embedded again.\n\n"
     "include, exclude: sequences of globs on the path below the folder; '*' stops at '/', '**'\n"
     "does not; one without '/' matches names at any depth. progress: True prints a line on\n"
     "stderr; a callable gets a Progress about ten times a second, and cancels by returning\n"
     "False or raising. max_file_bytes: larger files are skipped with a reason; None: 64 MiB.\n"
     "paths: only these files and folders below it are looked at, there or gone; None: all.\n"
     "recursive False: the folder's own files alone.\n"
     "Returns a SyncReport. Errors: MissingFileError (FileNotFoundError), CancelledError, and\n"
     "as add_document. Ctrl-C stops it; what was committed stays."},
    {"_watch", mlypy_kernel_open_watch, METH_VARARGS,
     "_watch($self, folder, include, exclude, options, /)\n--\n\nFor memalloy._watch."},
    {"watch", KEYWORDS(mlypy_kernel_watch), METH_VARARGS | METH_KEYWORDS,
     "watch($self, /, folder, include=None, exclude=None, *, recursive=True, poll=False, "
     "quiet=None, patience=None, poll_interval=None, reconcile=None, max_file_bytes=None, "
     "durability=None)\n--\n\n"
     "Follows a folder from now on, as sync does once, and returns a FolderWatch at once.\n\n"
     "include, exclude, max_file_bytes, durability: as of sync. recursive False: the folder's own\n"
     "files alone. A file is read when nothing happened to it for quiet seconds (0.1), or after\n"
     "patience seconds (2) where something always does. poll: the system is not asked for\n"
     "events, the folder is looked at every poll_interval seconds (2), as is done where there are\n"
     "none. Everything is looked at every reconcile seconds (600) besides. close() ends it, and\n"
     "so does the kernel's. Errors: MissingFileError, ReadOnlyError, InvalidArgumentError."},
    {"search", KEYWORDS(mlypy_kernel_search), METH_VARARGS | METH_KEYWORDS,
     "search($self, /, query, top_k=5, *, recall=None, documents=None)\n--\n\n"
     "The passages nearest in meaning to a text, best first, as a list of Hit, each of which\n"
     "unpacks as (document, score).\n\n"
     "top_k: from 1; more than the store has gives all. score: cosine similarity, 1 is equal.\n"
     "recall: of the true nearest, what part to find, 0.5 to 1, where there is a vector index\n"
     "(from 20,000 passages on); 1 looks at every vector; None: as the store was opened.\n"
     "documents: ids of the documents to search in; those that the store does not have are\n"
     "passed over, and none at all finds nothing; None: all.\n"
     "Errors: TypeError, InvalidArgumentError (ValueError), ModelError, ModelMismatchError."},
    {"search_vector", KEYWORDS(mlypy_kernel_search_vector), METH_VARARGS | METH_KEYWORDS,
     "search_vector($self, /, vector, top_k=5, *, recall=None, documents=None)\n--\n\n"
     "The same for a vector of dim finite numbers, not all zero: a one-dimensional buffer of\n"
     "float32 or float64, or a sequence of numbers."},
    {"search_vectors", KEYWORDS(mlypy_kernel_search_vectors), METH_VARARGS | METH_KEYWORDS,
     "search_vectors($self, /, vectors, top_k=5, *, recall=None, documents=None)\n--\n\n"
     "A list of hits for each of count vectors, shape (count, dim), by all threads, which share\n"
     "what they read: sooner than one after the other."},
    {"explain", KEYWORDS(mlypy_kernel_explain), METH_VARARGS | METH_KEYWORDS,
     "explain($self, /, query, top_k=5, *, recall=None, documents=None)\n--\n\n"
     "Searches for a text or a vector and returns a dict: hits; what was looked at for them, in\n"
     "the vector index cells_read of cells, codes_read, records_read, vectors_read, and without\n"
     "it scanned_rows; bytes_read; seconds of each step; index_was_damaged (then it was thrown\n"
     "away, and every vector was looked at)."},
    {"make_index", KEYWORDS(mlypy_kernel_make_index), METH_VARARGS | METH_KEYWORDS,
     "make_index($self, /, progress=None, *, check=False, lance=False)\n--\n\n"
     "Makes what is due of the vector index now, with all threads, instead of beside other work.\n"
     "True if it made something; False if nothing was due, or somebody else made it meanwhile.\n\n"
     "progress: as in sync; the stage is 'vectors', and items_done of items_total are done. "
     "check:\n"
     "reads all of it first, and makes again what is damaged. lance: also an index of Lance's own\n"
     "kind IVF_PQ in chunks.lance, for lancedb and pylance to search with."},
    {"index_status", mlypy_kernel_index_status, METH_NOARGS,
     "index_status($self, /)\n--\n\n"
     "A dict about the vector index: rows that are in it (0: every vector is looked at), pending\n"
     "that are to come into it, cells, index_bytes, record_bytes, is_due, is_running (a thread of\n"
     "this store is making it), done from 0 to 1 then, recall as the store was opened,\n"
     "measured_recall that such searches have, of so many samples (0: not measured yet), and\n"
     "effort_steps by which they look at more for it; has_lance (chunks.lance has an index of\n"
     "Lance's own), lance_rows in that, lance_pending that are not, lance_bytes of its files."},
    {"get_document", KEYWORDS(mlypy_kernel_get_document), METH_VARARGS | METH_KEYWORDS,
     "get_document($self, /, document_id)\n--\n\n"
     "The document with its whole text. NotFoundError (a KeyError) where there is none."},
    {"list_documents", KEYWORDS(mlypy_kernel_list_documents), METH_VARARGS | METH_KEYWORDS,
     "list_documents($self, /, limit=None, after=None)\n--\n\n"
     "Documents in the order of their ids, at most limit of them (None: all), behind the id\n"
     "after. Their content is read when it is asked for."},
    {"remove_document", KEYWORDS(mlypy_kernel_remove_document), METH_VARARGS | METH_KEYWORDS,
     "remove_document($self, /, document_id, *, durability=None)\n--\n\n"
     "True if the document was there and is removed, False if there is no such id."},
    {"update_metadata", KEYWORDS(mlypy_kernel_update_metadata), METH_VARARGS | METH_KEYWORDS,
     "update_metadata($self, /, document_id, metadata, *, durability=None)\n--\n\n"
     "Gives a document another dict of metadata; nothing is embedded. NotFoundError (a KeyError)."},
    {"flush", mlypy_kernel_flush, METH_NOARGS,
     "flush($self, /)\n--\n\nWhat was acknowledged before survives a power cut from here on."},
    {"checkpoint", mlypy_kernel_checkpoint, METH_NOARGS,
     "checkpoint($self, /)\n--\n\n"
     "Puts what was acknowledged into the Lance tables, where other programs see it."},
    {"verify", mlypy_kernel_verify, METH_NOARGS,
     "verify($self, /)\n--\n\n"
     "Reads every file of the store and returns a dict: files, bytes, without_sums (written by\n"
     "other programs: read, but there is nothing to compare them with) and damaged, a list of\n"
     "(path, reason). Ctrl-C ends it."},
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
     "Closes the store when the calls of other threads have ended; long ones are cancelled. All\n"
     "that was acknowledged is durable then; what could not be made so is raised, and the store\n"
     "is closed all the same.\n"
     "Safe to repeat. Every other call then raises ClosedError (a ValueError)."},
    {"__enter__", kernel_enter_with, METH_NOARGS, "__enter__($self, /)\n--\n\nThe store itself."},
    {"__exit__", kernel_exit_with, METH_VARARGS, "__exit__($self, /, *args)\n--\n\nCloses it."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef kernel_getset[] = {
    {"path", kernel_get_path, NULL, "the folder of the store, as it was given", NULL},
    {"open_report", kernel_get_open_report, NULL,
     "what a crash or damage had left, as a dict: records of the log that were not in the tables\n"
     "yet, dropped_bytes of it, kept (in _memalloy/lost+found), reason ('': nothing was dropped)",
     NULL},
    {"closed", kernel_get_closed, NULL, "True after close()", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot kernel_slots[] = {
    {Py_tp_doc,
     (void *)"RAGKernel(db_path=None, chunk_size=None, overlap=None, *, durability=None, "
             "memory_limit=None, allow_network_fs=False, recall=None)\n--\n\n"
             "An open store: texts and files in, cited passages out. A context manager.\n\n"
             "db_path: its folder, made at the first write; None: '.memalloy_data'. Without sizes\n"
             "texts are cut by headings, paragraphs and sentences to what the model reads; with\n"
             "chunk_size or overlap (characters, 0 <= overlap < chunk_size, 500 and 50 where one "
             "is\n"
             "left out) by sentences. The rest as in memalloy.open(). Usable from any thread; "
             "after\n"
             "fork() a handle that was used raises ForkedError in the child."},
    {Py_tp_new, (void *)mlypy_kernel_new},
    {Py_tp_init, (void *)mlypy_kernel_init},
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
