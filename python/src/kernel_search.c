/* In: questions, as text or vectors. Out: hits, and what finding them took. Numbers that are read
 * without the GIL are held or copied by the matrix (convert_vectors.c). */
#include "convert.h"
#include "hit_type.h"
#include "job.h"
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

struct search_job {
    struct mlypy_job job;
    struct memalloy_search_options options;
    struct memalloy_search_explain explain;
    struct memalloy_str text;
    struct mlypy_matrix matrix; /* a vector, where there is no text */
    memalloy_hits *hits;
};

static int run_search(struct mlypy_job *job, struct memalloy_error *err)
{
    struct search_job *search = (struct search_job *)job;
    if (search->text.data != NULL) {
        return memalloy_search_text(job->handle, search->text.data, search->text.bytes,
                                    &search->options, &search->hits, err);
    }
    return memalloy_search_vector(job->handle, search->matrix.data, search->matrix.columns,
                                  &search->options, &search->hits, err);
}

static PyObject *finish_search(struct mlypy_job *job)
{
    return mlypy_hits_as_list(job->kernel->state, ((struct search_job *)job)->hits);
}

static void clear_search(struct mlypy_job *job)
{
    struct search_job *search = (struct search_job *)job;
    memalloy_hits_destroy(search->hits);
    mlypy_matrix_deinit(&search->matrix);
}

static const struct mlypy_job_kind search_kind = {
    .bytes = sizeof(struct search_job),
    .run = run_search,
    .finish = finish_search,
    .clear = clear_search,
};

/* Of a str, or of a vector; takes matrix. */
static struct search_job *new_search(struct mlypy_kernel *self, const struct mlypy_job_kind *kind,
                                     PyObject *query, struct memalloy_str text,
                                     struct mlypy_matrix *matrix,
                                     const struct memalloy_search_options *options)
{
    struct search_job *search = mlypy_job_new(self, kind);
    if (search == NULL) {
        mlypy_matrix_deinit(matrix);
        return NULL;
    }
    search->text = text;
    search->matrix = *matrix;
    search->options = *options;
    if (!mlypy_job_hold(&search->job, query)) {
        mlypy_job_free(&search->job);
        return NULL;
    }
    return search;
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
    struct mlypy_matrix none = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &query, &top_k, &recall) ||
        !mlypy_text(query, "query", &text) ||
        !search_options(self->state, top_k, recall, &options)) {
        return NULL;
    }
    struct search_job *search = new_search(self, &search_kind, query, text, &none, &options);
    return search == NULL ? NULL : mlypy_job_call(&search->job, NULL);
}

PyObject *mlypy_kernel_search_vector(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"vector", "top_k", "recall", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *vector;
    PyObject *top_k = NULL;
    PyObject *recall = NULL;
    const struct memalloy_str none = {NULL, 0};
    struct memalloy_search_options options;
    struct mlypy_matrix matrix;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &vector, &top_k, &recall) ||
        !search_options(self->state, top_k, recall, &options) ||
        !mlypy_vector_init(self->state, vector, "vector", &matrix)) {
        return NULL;
    }
    struct search_job *search = new_search(self, &search_kind, vector, none, &matrix, &options);
    return search == NULL ? NULL : mlypy_job_call(&search->job, NULL);
}

/* ---- many */

struct rows_job {
    struct mlypy_job job;
    struct memalloy_search_options options;
    struct mlypy_matrix matrix;
    memalloy_hits **hits;
};

static int run_rows(struct mlypy_job *job, struct memalloy_error *err)
{
    struct rows_job *rows = (struct rows_job *)job;
    if (rows->matrix.rows == 0) { /* no rows tell no length of one */
        return MEMALLOY_OK;
    }
    return memalloy_search_vectors(job->handle, rows->matrix.data, rows->matrix.rows,
                                   rows->matrix.columns, &rows->options, rows->hits, err);
}

static PyObject *finish_rows(struct mlypy_job *job)
{
    struct rows_job *rows = (struct rows_job *)job;
    PyObject *lists = PyList_New((Py_ssize_t)rows->matrix.rows);
    for (size_t i = 0; lists != NULL && i < rows->matrix.rows; i++) {
        PyObject *list = mlypy_hits_as_list(job->kernel->state, rows->hits[i]);
        memalloy_hits_destroy(rows->hits[i]);
        rows->hits[i] = NULL;
        if (list == NULL || PyList_SetItem(lists, (Py_ssize_t)i, list) < 0) {
            Py_CLEAR(lists);
        }
    }
    return lists;
}

static void clear_rows(struct mlypy_job *job)
{
    struct rows_job *rows = (struct rows_job *)job;
    for (size_t i = 0; rows->hits != NULL && i < rows->matrix.rows; i++) {
        memalloy_hits_destroy(rows->hits[i]);
    }
    PyMem_Free((void *)rows->hits);
    mlypy_matrix_deinit(&rows->matrix);
}

static const struct mlypy_job_kind rows_kind = {
    .bytes = sizeof(struct rows_job),
    .run = run_rows,
    .finish = finish_rows,
    .clear = clear_rows,
};

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
    struct rows_job *rows = mlypy_job_new(self, &rows_kind);
    if (rows == NULL) {
        mlypy_matrix_deinit(&matrix);
        return NULL;
    }
    rows->options = options;
    rows->matrix = matrix;
    rows->hits = mlypy_array(matrix.rows, sizeof(*rows->hits));
    if (rows->hits == NULL) {
        mlypy_job_free(&rows->job);
        return NULL;
    }
    return mlypy_job_call(&rows->job, NULL);
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

static PyObject *finish_explain(struct mlypy_job *job)
{
    return explained(finish_search(job), &((struct search_job *)job)->explain);
}

static const struct mlypy_job_kind explain_kind = {
    .bytes = sizeof(struct search_job),
    .run = run_search,
    .finish = finish_explain,
    .clear = clear_search,
};

PyObject *mlypy_kernel_explain(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"query", "top_k", "recall", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *query;
    PyObject *top_k = NULL;
    PyObject *recall = NULL;
    struct memalloy_str text = {NULL, 0};
    struct memalloy_search_options options;
    struct mlypy_matrix matrix = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$O", names, &query, &top_k, &recall) ||
        !search_options(self->state, top_k, recall, &options)) {
        return NULL;
    }
    if (PyUnicode_Check(query) ? !mlypy_text(query, "query", &text)
                               : !mlypy_vector_init(self->state, query, "query", &matrix)) {
        return NULL;
    }
    struct search_job *search = new_search(self, &explain_kind, query, text, &matrix, &options);
    if (search == NULL) {
        return NULL;
    }
    search->explain.struct_bytes = sizeof(search->explain);
    search->options.explain = &search->explain;
    return mlypy_job_call(&search->job, NULL);
}
