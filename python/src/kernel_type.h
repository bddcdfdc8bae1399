/* RAGKernel: one open store.
 *
 * Life     every call that leaves the GIL is counted in and out (mlypy_kernel_enter and _leave).
 *          close() shuts the door, and the last call to leave closes the handle; so no call ever
 *          works on a handle that is gone.
 * Threads  all fields are guarded by the GIL; handle does not change while a call is counted in;
 *          closed is looked at without it, too, and so written atomically.
 */
#ifndef MLYPY_KERNEL_TYPE_H
#define MLYPY_KERNEL_TYPE_H

#include "state.h"

#include <stdbool.h>

struct mlypy_job;
struct mlypy_watch;

struct mlypy_kernel {
    PyObject_HEAD struct mlypy_state *state; /* held through the type */
    memalloy_kernel *handle;                 /* NULL: never opened, or closed */
    PyObject *path;                          /* str, for repr */
    bool closed;                             /* the door is shut; handle may still be in use */
    bool closing;                            /* a thread is closing what was the handle */
    Py_ssize_t calls;                        /* counted in */
    PyThread_type_lock idle;           /* held while calls > 0 or closing; close() waits for it */
    long pid;                          /* of the process that calls and idle belong to */
    struct mlypy_watch *watches;       /* long calls under way */
    struct memalloy_error close_error; /* of what closed it; code 0: none, or told */
    /* for an AsyncRAGKernel (async.c) */
    memalloy_calls *queue;        /* NULL: no call was started yet */
    struct mlypy_job *jobs;       /* started, and not taken */
    struct mlypy_kernel *view_of; /* this is a view, on the stack of a call, of that kernel */
    PyObject *ticket;             /* of a view: whose call it is */
};

/* Counts a call in: false with ClosedError where the door is shut. */
bool mlypy_kernel_enter(struct mlypy_kernel *self);
/* Counts it out; closes the handle if it was the last and the door is shut. An exception that is
 * set stays. */
void mlypy_kernel_leave(struct mlypy_kernel *self);

/* The text of a document, read now. New str, NULL with an exception. */
PyObject *mlypy_kernel_read_content(PyObject *kernel, PyObject *id);

/* A store that is not open yet. */
PyObject *mlypy_kernel_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

/* kernel_open.c: the class's __init__, and memalloy.open(), which gives the exact type. */
int mlypy_kernel_init(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_open(PyObject *module, PyObject *args, PyObject *kwargs);

/* Methods, by file: kernel_add.c */
PyObject *mlypy_kernel_add_document(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_add_file(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_add_vectors(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_remove_document(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_update_metadata(PyObject *object, PyObject *args, PyObject *kwargs);
/* kernel_type.c */
PyObject *mlypy_kernel_flush(PyObject *object, PyObject *unused);
PyObject *mlypy_kernel_checkpoint(PyObject *object, PyObject *unused);
/* kernel_many.c; a block is a list of at most 256 documents */
PyObject *mlypy_kernel_add_block(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_add_documents(PyObject *object, PyObject *args, PyObject *kwargs);
/* kernel_search.c */
PyObject *mlypy_kernel_search(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_search_vector(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_search_vectors(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_explain(PyObject *object, PyObject *args, PyObject *kwargs);
/* kernel_index.c */
PyObject *mlypy_kernel_make_index(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_index_status(PyObject *object, PyObject *unused);
/* kernel_read.c */
PyObject *mlypy_kernel_get_document(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_list_documents(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_kernel_count(PyObject *object, PyObject *unused);
PyObject *mlypy_kernel_status(PyObject *object, PyObject *unused);
/* kernel_verify.c */
PyObject *mlypy_kernel_verify(PyObject *object, PyObject *unused);
/* kernel_sync.c */
PyObject *mlypy_kernel_sync(PyObject *object, PyObject *args, PyObject *kwargs);

#endif
