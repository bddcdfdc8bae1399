/* In: ids. Out: documents, counts. What the library hands out is turned into Python
 * objects with the GIL held and freed in the same call. */
#include "convert.h"
#include "document_type.h"
#include "job.h"
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

/* So many documents may take long. */
enum { LIST_MANY = 1000 };

/* One document with its text, or a page of them without. */
struct documents_job {
    struct mlypy_job job;
    struct memalloy_str id; /* the one, or behind which the page begins */
    size_t limit;
    memalloy_documents *documents;
};

static int run_get(struct mlypy_job *job, struct memalloy_error *err)
{
    struct documents_job *get = (struct documents_job *)job;
    return memalloy_get_document(job->handle, get->id, &get->documents, err);
}

static PyObject *finish_get(struct mlypy_job *job)
{
    struct memalloy_document row = {.struct_bytes = sizeof(row)};
    memalloy_documents_get(((struct documents_job *)job)->documents, 0, &row);
    return mlypy_document_from(job->kernel->state, &row, (PyObject *)job->kernel);
}

static void clear_documents(struct mlypy_job *job)
{
    memalloy_documents_destroy(((struct documents_job *)job)->documents);
}

PyObject *mlypy_kernel_get_document(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"document_id", NULL};
    static const struct mlypy_job_kind kind = {.bytes = sizeof(struct documents_job),
                                               .run = run_get,
                                               .finish = finish_get,
                                               .clear = clear_documents};
    PyObject *id;
    struct memalloy_str text;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", names, &id) ||
        !mlypy_text(id, "document_id", &text)) {
        return NULL;
    }
    struct documents_job *get = mlypy_job_new((struct mlypy_kernel *)object, &kind);
    if (get == NULL) {
        return NULL;
    }
    get->id = text;
    if (!mlypy_job_hold(&get->job, id)) {
        mlypy_job_free(&get->job);
        return NULL;
    }
    return mlypy_job_call(&get->job, NULL);
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

static int run_list(struct mlypy_job *job, struct memalloy_error *err)
{
    struct documents_job *list = (struct documents_job *)job;
    return memalloy_list_documents(job->handle, list->limit, list->id, &list->documents, err);
}

static PyObject *finish_list(struct mlypy_job *job)
{
    return documents_as_list(job->kernel, ((struct documents_job *)job)->documents);
}

static int run_nothing(struct mlypy_job *job, struct memalloy_error *err)
{
    (void)job;
    (void)err;
    return MEMALLOY_OK;
}

PyObject *mlypy_kernel_list_documents(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"limit", "after", NULL};
    static const struct mlypy_job_kind kind = {.bytes = sizeof(struct documents_job),
                                               .is_long = true,
                                               .run = run_list,
                                               .finish = finish_list,
                                               .clear = clear_documents};
    /* A limit of 0 the interface takes for "all". */
    static const struct mlypy_job_kind none = {
        .bytes = sizeof(struct documents_job), .run = run_nothing, .finish = finish_list};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *limit_object = NULL;
    PyObject *after_object = NULL;
    struct memalloy_str after;
    int64_t limit = -1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO", names, &limit_object, &after_object) ||
        !mlypy_int_or_none(self->state, limit_object, "limit", 0, PY_SSIZE_T_MAX, true, &limit) ||
        !mlypy_text_or_none(after_object, "after", &after)) {
        return NULL;
    }
    struct documents_job *list = mlypy_job_new(self, limit == 0 ? &none : &kind);
    if (list == NULL) {
        return NULL;
    }
    list->id = after;
    list->limit = limit < 0 ? 0 : (size_t)limit;
    list->job.is_brief = limit >= 0 && limit < LIST_MANY;
    if (!mlypy_job_hold(&list->job, after_object)) {
        mlypy_job_free(&list->job);
        return NULL;
    }
    return mlypy_job_call(&list->job, NULL);
}

struct count_job {
    struct mlypy_job job;
    uint64_t count;
};

static int run_count(struct mlypy_job *job, struct memalloy_error *err)
{
    return memalloy_count(job->handle, &((struct count_job *)job)->count, err);
}

static PyObject *finish_count(struct mlypy_job *job)
{
    return PyLong_FromUnsignedLongLong(((struct count_job *)job)->count);
}

PyObject *mlypy_kernel_count(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct count_job), .run = run_count, .finish = finish_count};
    struct count_job *count = mlypy_job_new((struct mlypy_kernel *)object, &kind);
    return count == NULL ? NULL : mlypy_job_call(&count->job, NULL);
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

struct status_job {
    struct mlypy_job job;
    struct memalloy_status status;
};

static int run_status(struct mlypy_job *job, struct memalloy_error *err)
{
    struct memalloy_status *status = &((struct status_job *)job)->status;
    status->struct_bytes = sizeof(*status);
    return memalloy_get_status(job->handle, status, err);
}

static PyObject *finish_status(struct mlypy_job *job)
{
    return status_as_dict(job->kernel->state, &((struct status_job *)job)->status);
}

PyObject *mlypy_kernel_status(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct status_job), .run = run_status, .finish = finish_status};
    struct status_job *status = mlypy_job_new((struct mlypy_kernel *)object, &kind);
    return status == NULL ? NULL : mlypy_job_call(&status->job, NULL);
}
