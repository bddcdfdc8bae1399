/* In: ids. Out: documents, counts. What the library hands out is turned into Python
 * objects with the GIL held and freed in the same call. */
#include "convert.h"
#include "document_type.h"
#include "kernel_type.h"
#include "raise.h"
#include "strategy_type.h"

#include <string.h>

/* The one document of an id, with its text; *out is the caller's to destroy, and the call is
 * counted in on true. */
static bool read_document(struct mlypy_kernel *self, PyObject *id_object, memalloy_documents **out)
{
    struct memalloy_str id;
    if (!mlypy_text(id_object, "document_id", &id) || !mlypy_kernel_enter(self)) {
        return false;
    }
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_get_document(self->handle, id, out, &err);
    Py_END_ALLOW_THREADS
    if (rc != MEMALLOY_OK) {
        mlypy_kernel_leave(self);
        mlypy_raise(self->state, &err);
        return false;
    }
    return true;
}

PyObject *mlypy_kernel_get_document(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"document_id", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *id;
    memalloy_documents *documents = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &id) ||
        !read_document(self, id, &documents)) {
        return NULL;
    }
    struct memalloy_document row = {.struct_bytes = sizeof(row)};
    memalloy_documents_get(documents, 0, &row);
    PyObject *document = mlypy_document_from(self->state, &row, object);
    memalloy_documents_destroy(documents);
    mlypy_kernel_leave(self);
    return document;
}

PyObject *mlypy_kernel_read_content(PyObject *kernel, PyObject *id)
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)kernel;
    memalloy_documents *documents = NULL;
    if (!read_document(self, id, &documents)) {
        return NULL;
    }
    struct memalloy_document row = {.struct_bytes = sizeof(row)};
    memalloy_documents_get(documents, 0, &row);
    if (row.content.data == NULL) {
        row.content.data = "";
        row.content.bytes = 0;
    }
    PyObject *content = mlypy_str(self->state, row.content);
    memalloy_documents_destroy(documents);
    mlypy_kernel_leave(self);
    return content;
}

static PyObject *documents_as_list(struct mlypy_kernel *self, const memalloy_documents *documents)
{
    size_t count = memalloy_documents_count(documents);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        struct memalloy_document row = {.struct_bytes = sizeof(row)};
        memalloy_documents_get(documents, i, &row);
        PyObject *document = mlypy_document_from(self->state, &row, (PyObject *)self);
        if (document == NULL || PyList_SetItem(list, (Py_ssize_t)i, document) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

PyObject *mlypy_kernel_list_documents(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", "after", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *limit_object = NULL;
    PyObject *after_object = NULL;
    struct memalloy_str after;
    int64_t limit = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO", names, &limit_object, &after_object) ||
        !mlypy_int_or_none(self->state, limit_object, "limit", 0, PY_SSIZE_T_MAX, true, &limit) ||
        !mlypy_text_or_none(after_object, "after", &after) || !mlypy_kernel_enter(self)) {
        return NULL;
    }
    PyObject *list;
    if (limit == 0) { /* which the interface takes for "all" */
        list = PyList_New(0);
    } else {
        memalloy_documents *documents = NULL;
        struct memalloy_error err = {0};
        int rc;
        Py_BEGIN_ALLOW_THREADS
        rc = memalloy_list_documents(self->handle, limit < 0 ? 0 : (size_t)limit, after, &documents,
                                     &err);
        Py_END_ALLOW_THREADS
        list =
            rc == MEMALLOY_OK ? documents_as_list(self, documents) : mlypy_raise(self->state, &err);
        memalloy_documents_destroy(documents);
    }
    mlypy_kernel_leave(self);
    return list;
}

PyObject *mlypy_kernel_count(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    uint64_t count = 0;
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_count(self->handle, &count, &err);
    Py_END_ALLOW_THREADS
    mlypy_kernel_leave(self);
    return rc == MEMALLOY_OK ? PyLong_FromUnsignedLongLong(count) : mlypy_raise(self->state, &err);
}

static PyObject *status_as_dict(struct mlypy_state *state, const struct memalloy_status *status)
{
    PyObject *path = mlypy_str(state, status->path);
    PyObject *model_id = mlypy_str(state, status->model_id);
    PyObject *model_hash = mlypy_str(state, status->model_hash);
    PyObject *dim = status->dim == 0 ? Py_NewRef(Py_None) : PyLong_FromUnsignedLong(status->dim);
    PyObject *dict = NULL;
    if (path != NULL && model_id != NULL && model_hash != NULL && dim != NULL) {
        dict = Py_BuildValue(
            "{s:O,s:K,s:K,s:K,s:O,s:O,s:O,s:N,s:N,s:{s:s,s:L,s:L},s:I,s:O,s:K,s:K,s:K,s:K,s:K}",
            "path", path, "documents", (unsigned long long)status->documents, "chunks",
            (unsigned long long)status->chunks, "skipped", (unsigned long long)status->skipped,
            "dim", dim, "model_id", model_id, "model_hash", model_hash, "model_pooling",
            mlypy_str(state, status->model_pooling), "model_quantisation",
            mlypy_str(state, status->model_quantisation), "chunking", "kind",
            mlypy_strategy_kind(status->chunking.kind), "chunk_size",
            (long long)status->chunking.size, "overlap", (long long)status->chunking.overlap,
            "threads", (unsigned int)status->threads, "read_only",
            status->read_only ? Py_True : Py_False, "file_bytes",
            (unsigned long long)status->file_bytes, "documents_version",
            (unsigned long long)status->documents_version, "chunks_version",
            (unsigned long long)status->chunks_version, "documents_fragments",
            (unsigned long long)status->documents_fragments, "chunks_fragments",
            (unsigned long long)status->chunks_fragments);
    }
    Py_XDECREF(path);
    Py_XDECREF(model_id);
    Py_XDECREF(model_hash);
    Py_XDECREF(dim);
    return dict;
}

PyObject *mlypy_kernel_status(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_get_status(self->handle, &status, &err);
    Py_END_ALLOW_THREADS
    PyObject *dict =
        rc == MEMALLOY_OK ? status_as_dict(self->state, &status) : mlypy_raise(self->state, &err);
    mlypy_kernel_leave(self);
    return dict;
}
