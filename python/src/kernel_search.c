/* In: questions, as text or vectors. Out: hits, and what finding them took. Numbers that are read
 * without the GIL are held or copied by the matrix (convert_vectors.c). */
#include "convert.h"
#include "hit_type.h"
#include "job.h"
#include "raise.h"

/* More than this is all there is: no store holds as many chunks. */
static const int64_t top_k_max = INT32_MAX;

/* So many vectors, or a question of so many bytes, may take long. */
enum { ROWS_MANY = 8, TEXT_BYTES_MANY = 512 };

/* What a search is asked besides its query. */
struct asked {
    PyObject *top_k, *recall, *documents; /* borrowed; NULL: not given */
    PyObject *ids, *texts; /* owned: a tuple of str, and bytes with what options point to */
    struct memalloy_search_options options;
};

static void asked_drop(struct asked *asked)
{
    Py_CLEAR(asked->ids);
    Py_CLEAR(asked->texts);
}

/* The job lives as long as what its options point to. False with an exception; drops asked. */
static bool asked_hold(struct asked *asked, struct mlypy_job *job)
{
    bool held = asked->ids == NULL ||
                (mlypy_job_hold(job, asked->ids) && mlypy_job_hold(job, asked->texts));
    asked_drop(asked);
    return held;
}

static bool take_documents(struct asked *asked)
{
    if (asked->documents == NULL || asked->documents == Py_None) {
        return true;
    }
    if (PyUnicode_Check(asked->documents) || PyBytes_Check(asked->documents)) {
        PyErr_SetString(PyExc_TypeError, "documents must be an iterable of str, not one of it");
        return false;
    }
    /* A tuple of our own: nobody changes it while the GIL is left. */
    asked->ids = PySequence_Tuple(asked->documents);
    if (asked->ids == NULL) {
        return false;
    }
    const Py_ssize_t count = PyTuple_Size(asked->ids);
    const Py_ssize_t each = (Py_ssize_t)sizeof(struct memalloy_str);
    if (count >= PY_SSIZE_T_MAX / each) {
        PyErr_NoMemory();
        return false;
    }
    asked->texts = PyBytes_FromStringAndSize(NULL, (count + 1) * each);
    if (asked->texts == NULL) {
        return false;
    }
    struct memalloy_str *texts = (struct memalloy_str *)(void *)PyBytes_AsString(asked->texts);
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!mlypy_text(PyTuple_GetItem(asked->ids, i), "a document id", &texts[i])) {
            return false;
        }
    }
    asked->options.document_ids = texts;
    asked->options.document_id_count = (size_t)count;
    return true;
}

/* False with an exception, and nothing owned. */
static bool search_options(struct mlypy_state *state, struct asked *asked)
{
    PyObject *top_k = asked->top_k;
    PyObject *recall = asked->recall;
    struct memalloy_search_options *options = &asked->options;
    int64_t k = 5;
    *options = (struct memalloy_search_options){.struct_bytes = sizeof(*options)};
    if ((top_k != NULL && !mlypy_int(state, top_k, "top_k", 1, top_k_max, true, &k)) ||
        !mlypy_recall(state, recall, &options->recall)) {
        return false;
    }
    options->top_k = (size_t)k;
    if (!take_documents(asked)) {
        asked_drop(asked);
        return false;
    }
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
    search->options.progress = job->progress;
    search->options.progress_context = job->progress_context;
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

/* Of a str, or of a vector; takes matrix and what asked owns. */
static struct search_job *new_search(struct mlypy_kernel *self, const struct mlypy_job_kind *kind,
                                     PyObject *query, struct memalloy_str text,
                                     struct mlypy_matrix *matrix, struct asked *asked)
{
    struct search_job *search = mlypy_job_new(self, kind);
    if (search == NULL) {
        mlypy_matrix_deinit(matrix);
        asked_drop(asked);
        return NULL;
    }
    search->text = text;
    search->job.is_heavy = text.bytes > TEXT_BYTES_MANY;
    search->matrix = *matrix;
    search->options = asked->options;
    if (!asked_hold(asked, &search->job) || !mlypy_job_hold(&search->job, query)) {
        mlypy_job_free(&search->job);
        return NULL;
    }
    return search;
}

PyObject *mlypy_kernel_search(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"query", "top_k", "recall", "documents", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *query;
    struct asked asked = {0};
    struct memalloy_str text;
    struct mlypy_matrix none = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OO", names, &query, &asked.top_k,
                                     &asked.recall, &asked.documents) ||
        !mlypy_text(query, "query", &text) || !search_options(self->state, &asked)) {
        return NULL;
    }
    struct search_job *search = new_search(self, &search_kind, query, text, &none, &asked);
    return search == NULL ? NULL : mlypy_job_call(&search->job, NULL);
}

PyObject *mlypy_kernel_search_vector(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"vector", "top_k", "recall", "documents", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *vector;
    struct asked asked = {0};
    const struct memalloy_str none = {NULL, 0};
    struct mlypy_matrix matrix;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OO", names, &vector, &asked.top_k,
                                     &asked.recall, &asked.documents) ||
        !search_options(self->state, &asked)) {
        return NULL;
    }
    if (!mlypy_vector_init(self->state, vector, "vector", &matrix)) {
        asked_drop(&asked);
        return NULL;
    }
    struct search_job *search = new_search(self, &search_kind, vector, none, &matrix, &asked);
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
    rows->options.progress = job->progress;
    rows->options.progress_context = job->progress_context;
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
    .is_long = true,
    .run = run_rows,
    .finish = finish_rows,
    .clear = clear_rows,
};

PyObject *mlypy_kernel_search_vectors(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"vectors", "top_k", "recall", "documents", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *vectors;
    struct asked asked = {0};
    struct mlypy_matrix matrix;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OO", names, &vectors, &asked.top_k,
                                     &asked.recall, &asked.documents) ||
        !search_options(self->state, &asked)) {
        return NULL;
    }
    if (!mlypy_matrix_init(self->state, vectors, "vectors", MLYPY_COPY, &matrix)) {
        asked_drop(&asked);
        return NULL;
    }
    struct rows_job *rows = mlypy_job_new(self, &rows_kind);
    if (rows == NULL) {
        mlypy_matrix_deinit(&matrix);
        asked_drop(&asked);
        return NULL;
    }
    rows->options = asked.options;
    rows->matrix = matrix;
    rows->job.is_brief = matrix.rows < ROWS_MANY;
    rows->hits = mlypy_array(matrix.rows, sizeof(*rows->hits));
    if (!asked_hold(&asked, &rows->job) || rows->hits == NULL) {
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
    static char *names[] = {"query", "top_k", "recall", "documents", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *query;
    struct asked asked = {0};
    struct memalloy_str text = {NULL, 0};
    struct mlypy_matrix matrix = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O$OO", names, &query, &asked.top_k,
                                     &asked.recall, &asked.documents) ||
        !search_options(self->state, &asked)) {
        return NULL;
    }
    if (PyUnicode_Check(query) ? !mlypy_text(query, "query", &text)
                               : !mlypy_vector_init(self->state, query, "query", &matrix)) {
        asked_drop(&asked);
        return NULL;
    }
    struct search_job *search = new_search(self, &explain_kind, query, text, &matrix, &asked);
    if (search == NULL) {
        return NULL;
    }
    search->explain.struct_bytes = sizeof(search->explain);
    search->options.explain = &search->explain;
    return mlypy_job_call(&search->job, NULL);
}
