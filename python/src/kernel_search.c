/* In: questions, as text or vectors. Out: hits, and what finding them took. Numbers that are read
 * without the GIL are held or copied by the matrix (convert_vectors.c). */
#include "convert.h"
#include "hit_type.h"
#include "kernel_type.h"
#include "raise.h"

/* More than this is all there is: no store holds as many chunks. */
static const int64_t top_k_max = INT32_MAX;

static bool search_options(struct mlypy_state *state, PyObject *top_k, PyObject *recall,
                           struct memalloy_search_options *options)
{
    int64_t k = 5;
    *options = (struct memalloy_search_options){.struct_bytes = sizeof(*options)};
    if ((top_k != NULL && !mlypy_int(state, top_k, "top_k", 1, top_k_max, true, &k)) ||
        !mlypy_recall(state, recall, &options->recall)) {
        return false;
    }
    options->top_k = (size_t)k;
    return true;
}

/* The call is counted in. */
static PyObject *search_text(struct mlypy_kernel *self, struct memalloy_str text,
                             const struct memalloy_search_options *options)
{
    memalloy_hits *hits = NULL;
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_search_text(self->handle, text.data, text.bytes, options, &hits, &err);
    Py_END_ALLOW_THREADS
    PyObject *list =
        rc == MEMALLOY_OK ? mlypy_hits_as_list(self->state, hits) : mlypy_raise(self->state, &err);
    memalloy_hits_destroy(hits);
    return list;
}

static PyObject *search_vector(struct mlypy_kernel *self, const struct mlypy_matrix *matrix,
                               const struct memalloy_search_options *options)
{
    memalloy_hits *hits = NULL;
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_search_vector(self->handle, matrix->data, matrix->columns, options, &hits, &err);
    Py_END_ALLOW_THREADS
    PyObject *list =
        rc == MEMALLOY_OK ? mlypy_hits_as_list(self->state, hits) : mlypy_raise(self->state, &err);
    memalloy_hits_destroy(hits);
    return list;
}

PyObject *mlypy_kernel_search(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"query", "top_k", "recall", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *query;
    PyObject *top_k = NULL;
    PyObject *recall = NULL;
    struct memalloy_str text;
    struct memalloy_search_options options;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &query, &top_k, &recall) ||
        !mlypy_text(query, "query", &text) ||
        !search_options(self->state, top_k, recall, &options) || !mlypy_kernel_enter(self)) {
        return NULL;
    }
    PyObject *list = search_text(self, text, &options);
    mlypy_kernel_leave(self);
    return list;
}

PyObject *mlypy_kernel_search_vector(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"vector", "top_k", "recall", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *vector;
    PyObject *top_k = NULL;
    PyObject *recall = NULL;
    struct memalloy_search_options options;
    struct mlypy_matrix matrix;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &vector, &top_k, &recall) ||
        !search_options(self->state, top_k, recall, &options) ||
        !mlypy_vector_init(self->state, vector, "vector", &matrix)) {
        return NULL;
    }
    PyObject *list = NULL;
    if (mlypy_kernel_enter(self)) {
        list = search_vector(self, &matrix, &options);
        mlypy_kernel_leave(self);
    }
    mlypy_matrix_deinit(&matrix);
    return list;
}

/* ---- many */

static PyObject *search_rows(struct mlypy_kernel *self, const struct mlypy_matrix *matrix,
                             const struct memalloy_search_options *options)
{
    memalloy_hits **hits = mlypy_array(matrix->rows, sizeof(memalloy_hits *));
    struct memalloy_error err = {0};
    int rc = MEMALLOY_OK;
    if (hits == NULL) {
        return NULL;
    }
    if (matrix->rows > 0) { /* no rows tell no length of one */
        Py_BEGIN_ALLOW_THREADS
        rc = memalloy_search_vectors(self->handle, matrix->data, matrix->rows, matrix->columns,
                                     options, hits, &err);
        Py_END_ALLOW_THREADS
    }
    PyObject *lists =
        rc == MEMALLOY_OK ? PyList_New((Py_ssize_t)matrix->rows) : mlypy_raise(self->state, &err);
    for (size_t i = 0; lists != NULL && i < matrix->rows; i++) {
        PyObject *list = mlypy_hits_as_list(self->state, hits[i]);
        memalloy_hits_destroy(hits[i]);
        hits[i] = NULL;
        if (list == NULL || PyList_SetItem(lists, (Py_ssize_t)i, list) < 0) {
            Py_CLEAR(lists);
        }
    }
    for (size_t i = 0; i < matrix->rows; i++) {
        memalloy_hits_destroy(hits[i]);
    }
    PyMem_Free((void *)hits);
    return lists;
}

PyObject *mlypy_kernel_search_vectors(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"vectors", "top_k", "recall", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *vectors;
    PyObject *top_k = NULL;
    PyObject *recall = NULL;
    struct memalloy_search_options options;
    struct mlypy_matrix matrix;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &vectors, &top_k, &recall) ||
        !search_options(self->state, top_k, recall, &options) ||
        !mlypy_matrix_init(self->state, vectors, "vectors", MLYPY_COPY, &matrix)) {
        return NULL;
    }
    PyObject *lists = NULL;
    if (mlypy_kernel_enter(self)) {
        lists = search_rows(self, &matrix, &options);
        mlypy_kernel_leave(self);
    }
    mlypy_matrix_deinit(&matrix);
    return lists;
}

/* ---- explaining */

/* Takes hits, which may be NULL with an exception. */
static PyObject *explained(PyObject *hits, const struct memalloy_search_explain *explain)
{
    if (hits == NULL) {
        return NULL;
    }
    return Py_BuildValue("{s:N,s:K,s:K,s:K,s:K,s:K,s:K,s:K,s:N,s:{s:d,s:d,s:d,s:d,s:d}}", "hits",
                         hits, "cells", (unsigned long long)explain->cells, "cells_read",
                         (unsigned long long)explain->cells_read, "codes_read",
                         (unsigned long long)explain->codes_read, "records_read",
                         (unsigned long long)explain->records_read, "vectors_read",
                         (unsigned long long)explain->vectors_read, "scanned_rows",
                         (unsigned long long)explain->scanned_rows, "bytes_read",
                         (unsigned long long)explain->bytes_read, "index_was_damaged",
                         PyBool_FromLong(explain->index_was_damaged), "seconds", "rank",
                         explain->rank_s, "scan", explain->scan_s, "record", explain->record_s,
                         "vector", explain->vector_s, "exact", explain->exact_s);
}

PyObject *mlypy_kernel_explain(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"query", "top_k", "recall", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *query;
    PyObject *top_k = NULL;
    PyObject *recall = NULL;
    struct memalloy_str text = {NULL, 0};
    struct memalloy_search_options options;
    struct memalloy_search_explain explain = {.struct_bytes = sizeof(explain)};
    struct mlypy_matrix matrix = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &query, &top_k, &recall) ||
        !search_options(self->state, top_k, recall, &options)) {
        return NULL;
    }
    const bool is_text = PyUnicode_Check(query);
    if (is_text ? !mlypy_text(query, "query", &text)
                : !mlypy_vector_init(self->state, query, "query", &matrix)) {
        return NULL;
    }
    options.explain = &explain;
    PyObject *dict = NULL;
    if (mlypy_kernel_enter(self)) {
        dict = explained(is_text ? search_text(self, text, &options)
                                 : search_vector(self, &matrix, &options),
                         &explain);
        mlypy_kernel_leave(self);
    }
    mlypy_matrix_deinit(&matrix);
    return dict;
}
