/* In: texts, files, vectors. Out: document ids. Every argument is converted before the GIL is
 * released, and what is borrowed from it is held until the call is back. */
#include "convert.h"
#include "job.h"
#include "raise.h"

#include <string.h>

/* So many vectors may take long. */
enum { ROWS_MANY = 512 };

static PyObject *id_as_str(const struct memalloy_id *id)
{
    return PyUnicode_DecodeUTF8(id->text, (Py_ssize_t)id->bytes, NULL);
}

/* What both add_document and add_file take besides their first argument. json is the owner of the
 * metadata's text. */
static bool add_options(struct mlypy_state *state, PyObject *metadata, PyObject *document_id,
                        PyObject *durability, PyObject **json, struct memalloy_add_options *options)
{
    *options = (struct memalloy_add_options){.struct_bytes = sizeof(*options)};
    if (!mlypy_durability(state, durability, &options->durability) ||
        !mlypy_text_or_none(document_id, "document_id", &options->document_id)) {
        return false;
    }
    *json = mlypy_metadata(state, metadata, "metadata");
    if (*json == NULL || !mlypy_text_or_none(*json, "metadata", &options->metadata)) {
        Py_CLEAR(*json);
        return false;
    }
    return true;
}

/* A text, or a file by its path. */
struct add_job {
    struct mlypy_job job;
    struct memalloy_str text;
    const char *path; /* NULL: it is a text */
    struct memalloy_add_options options;
    struct memalloy_id id;
};

static int run_add(struct mlypy_job *job, struct memalloy_error *err)
{
    struct add_job *add = (struct add_job *)job;
    add->options.progress = job->progress;
    add->options.progress_context = job->progress_context;
    if (add->path != NULL) {
        return memalloy_add_file(job->handle, add->path, &add->options, &add->id, err);
    }
    return memalloy_add_text(job->handle, add->text.data, add->text.bytes, &add->options, &add->id,
                             err);
}

static PyObject *finish_add(struct mlypy_job *job)
{
    return id_as_str(&((struct add_job *)job)->id);
}

static const struct mlypy_job_kind add_kind = {
    .bytes = sizeof(struct add_job), .is_long = true, .run = run_add, .finish = finish_add};

static PyObject *call_add(struct mlypy_kernel *self, const struct add_job *from, PyObject *content,
                          PyObject *document_id, PyObject *json)
{
    struct add_job *add = mlypy_job_new(self, &add_kind);
    if (add == NULL) {
        return NULL;
    }
    add->text = from->text;
    add->path = from->path;
    add->options = from->options;
    if (!mlypy_job_hold(&add->job, content) || !mlypy_job_hold(&add->job, document_id) ||
        !mlypy_job_hold(&add->job, json)) {
        mlypy_job_free(&add->job);
        return NULL;
    }
    return mlypy_job_call(&add->job, NULL);
}

PyObject *mlypy_kernel_add_document(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"content", "metadata", "document_id", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *content;
    PyObject *metadata = NULL;
    PyObject *document_id = NULL;
    PyObject *durability = NULL;
    PyObject *json = NULL;
    struct add_job add = {.path = NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO$O", names, &content, &metadata,
                                     &document_id, &durability) ||
        !mlypy_text(content, "content", &add.text) ||
        !add_options(self->state, metadata, document_id, durability, &json, &add.options)) {
        return NULL;
    }
    PyObject *result = call_add(self, &add, content, document_id, json);
    Py_DECREF(json);
    return result;
}

PyObject *mlypy_kernel_add_file(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "metadata", "document_id", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *path;
    PyObject *metadata = NULL;
    PyObject *document_id = NULL;
    PyObject *durability = NULL;
    PyObject *json = NULL;
    struct add_job add = {.path = NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO$O", names, &path, &metadata, &document_id,
                                     &durability) ||
        !add_options(self->state, metadata, document_id, durability, &json, &add.options)) {
        return NULL;
    }
    PyObject *result = NULL;
    PyObject *path_bytes = mlypy_path(path, "path");
    if (path_bytes != NULL) {
        add.path = PyBytes_AsString(path_bytes);
        result = call_add(self, &add, path_bytes, document_id, json);
    }
    Py_XDECREF(path_bytes);
    Py_DECREF(json);
    return result;
}

/* Everything that add_vectors converts; empty at birth, freed without asking. */
struct vector_batch {
    PyObject *contents; /* tuple of str */
    PyObject *ids;      /* tuple of str or None, or NULL */
    PyObject *metadata; /* tuple of dict or None, or NULL */
    PyObject *jsons;    /* list of str that own the metadata's text */
    struct mlypy_matrix matrix;
    size_t count;
    struct memalloy_str *texts;
    struct memalloy_add_options *options;
    struct memalloy_id *out_ids;
};

static void batch_deinit(struct vector_batch *batch)
{
    Py_CLEAR(batch->contents);
    Py_CLEAR(batch->ids);
    Py_CLEAR(batch->metadata);
    Py_CLEAR(batch->jsons);
    mlypy_matrix_deinit(&batch->matrix);
    PyMem_Free(batch->texts);
    PyMem_Free(batch->options);
    PyMem_Free(batch->out_ids);
}

/* An optional sequence as long as the contents, as a tuple; NULL stays NULL. */
static bool side_list(struct mlypy_state *state, PyObject *object, const char *name,
                      const char *wanted, size_t count, PyObject **out)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    *out = mlypy_tuple(object, name, wanted);
    if (*out == NULL) {
        return false;
    }
    size_t items = (size_t)PyTuple_Size(*out);
    if (items != count) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "%s has %zu items for %zu contents", name,
                         items, count);
        return false;
    }
    return true;
}

/* What a str gives without a word; true. False: the slow way, which says what is wrong. */
static bool text_at_once(PyObject *object, struct memalloy_str *out)
{
    if (!PyUnicode_Check(object)) {
        return false;
    }
    Py_ssize_t bytes = 0;
    out->data = PyUnicode_AsUTF8AndSize(object, &bytes);
    out->bytes = (size_t)bytes;
    if (out->data == NULL) {
        PyErr_Clear();
    }
    return out->data != NULL;
}

static bool batch_metadata(struct mlypy_state *state, struct vector_batch *batch, size_t i)
{
    char name[48];
    struct memalloy_add_options *options = &batch->options[i];
    PyObject *metadata = PyTuple_GetItem(batch->metadata, (Py_ssize_t)i);
    if (metadata == Py_None) {
        return true;
    }
    PyOS_snprintf(name, sizeof(name), "metadata[%zu]", i);
    PyObject *json = mlypy_metadata(state, metadata, name);
    if (json == NULL) {
        return false;
    }
    bool ok = mlypy_text_or_none(json, name, &options->metadata) &&
              PyList_Append(batch->jsons, json) == 0;
    Py_DECREF(json);
    return ok;
}

static bool batch_row(struct mlypy_state *state, struct vector_batch *batch, size_t i)
{
    char name[48];
    struct memalloy_add_options *options = &batch->options[i];
    Py_ssize_t at = (Py_ssize_t)i;
    PyObject *content = PyTuple_GetItem(batch->contents, at);
    options->struct_bytes = sizeof(*options);
    if (!text_at_once(content, &batch->texts[i])) {
        PyOS_snprintf(name, sizeof(name), "contents[%zu]", i);
        if (!mlypy_text(content, name, &batch->texts[i])) {
            return false;
        }
    }
    PyObject *id = batch->ids == NULL ? Py_None : PyTuple_GetItem(batch->ids, at);
    if (id != Py_None && !text_at_once(id, &options->document_id)) {
        PyOS_snprintf(name, sizeof(name), "ids[%zu]", i);
        if (!mlypy_text_or_none(id, name, &options->document_id)) {
            return false;
        }
    }
    return batch->metadata == NULL || batch_metadata(state, batch, i);
}

static bool batch_init(struct mlypy_state *state, struct vector_batch *batch, PyObject *contents,
                       PyObject *vectors, PyObject *metadata, PyObject *ids, int durability)
{
    batch->contents = mlypy_tuple(contents, "contents", "a sequence of str");
    if (batch->contents == NULL) {
        return false;
    }
    size_t count = (size_t)PyTuple_Size(batch->contents);
    batch->count = count;
    if (!side_list(state, metadata, "metadata", "a sequence of dicts or None", count,
                   &batch->metadata) ||
        !side_list(state, ids, "ids", "a sequence of str or None", count, &batch->ids) ||
        !mlypy_matrix_init(state, vectors, "vectors", MLYPY_BORROW, &batch->matrix)) {
        return false;
    }
    if (batch->matrix.rows != count) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "vectors has %zu rows for %zu contents",
                         batch->matrix.rows, count);
        return false;
    }
    batch->jsons = PyList_New(0);
    batch->texts = mlypy_array(count, sizeof(*batch->texts));
    batch->options = mlypy_array(count, sizeof(*batch->options));
    batch->out_ids = mlypy_array(count, sizeof(*batch->out_ids));
    if (batch->jsons == NULL || batch->texts == NULL || batch->options == NULL ||
        batch->out_ids == NULL) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!batch_row(state, batch, i)) {
            return false;
        }
        batch->options[i].durability = durability;
    }
    return true;
}

static PyObject *ids_as_list(const struct memalloy_id *ids, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *id = id_as_str(&ids[i]);
        if (id == NULL || PyList_SetItem(list, (Py_ssize_t)i, id) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

struct vectors_job {
    struct mlypy_job job;
    struct vector_batch batch;
};

static int run_vectors(struct mlypy_job *job, struct memalloy_error *err)
{
    struct vector_batch *batch = &((struct vectors_job *)job)->batch;
    if (batch->count == 0) { /* nothing to add is nothing done */
        return MEMALLOY_OK;
    }
    batch->options[0].progress = job->progress;
    batch->options[0].progress_context = job->progress_context;
    return memalloy_add_vectors(job->handle, batch->texts, batch->matrix.data, batch->count,
                                batch->matrix.columns, batch->options, batch->out_ids, err);
}

static PyObject *finish_vectors(struct mlypy_job *job)
{
    const struct vector_batch *batch = &((struct vectors_job *)job)->batch;
    return ids_as_list(batch->out_ids, batch->count);
}

static void clear_vectors(struct mlypy_job *job)
{
    batch_deinit(&((struct vectors_job *)job)->batch);
}

static const struct mlypy_job_kind vectors_kind = {
    .bytes = sizeof(struct vectors_job),
    .is_long = true,
    .run = run_vectors,
    .finish = finish_vectors,
    .clear = clear_vectors,
};

PyObject *mlypy_kernel_add_vectors(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"contents", "vectors", "metadata", "ids", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *contents;
    PyObject *vectors;
    PyObject *metadata = NULL;
    PyObject *ids = NULL;
    PyObject *durability_object = NULL;
    int durability;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|OO$O", names, &contents, &vectors, &metadata,
                                     &ids, &durability_object) ||
        !mlypy_durability(self->state, durability_object, &durability)) {
        return NULL;
    }
    struct vector_batch batch;
    memset(&batch, 0, sizeof(batch));
    struct vectors_job *job = NULL;
    if (batch_init(self->state, &batch, contents, vectors, metadata, ids, durability)) {
        job = mlypy_job_new(self, &vectors_kind);
    }
    if (job == NULL) {
        batch_deinit(&batch);
        return NULL;
    }
    job->batch = batch;
    job->job.is_brief = batch.count < ROWS_MANY;
    return mlypy_job_call(&job->job, NULL);
}

/* Of one document: its removal, or other metadata for it. */
struct change_job {
    struct mlypy_job job;
    struct memalloy_str id, metadata;
    struct memalloy_write_options options;
    int removed;
};

static struct change_job *watched_change(struct mlypy_job *job)
{
    struct change_job *change = (struct change_job *)job;
    change->options.progress = job->progress;
    change->options.progress_context = job->progress_context;
    return change;
}

static int run_remove(struct mlypy_job *job, struct memalloy_error *err)
{
    struct change_job *change = watched_change(job);
    return memalloy_remove_document(job->handle, change->id, &change->options, &change->removed,
                                    err);
}

static PyObject *finish_remove(struct mlypy_job *job)
{
    return PyBool_FromLong(((struct change_job *)job)->removed);
}

static int run_update(struct mlypy_job *job, struct memalloy_error *err)
{
    struct change_job *change = watched_change(job);
    return memalloy_update_metadata(job->handle, change->id, change->metadata, &change->options,
                                    err);
}

static const struct mlypy_job_kind remove_kind = {.bytes = sizeof(struct change_job),
                                                  .is_long = true,
                                                  .run = run_remove,
                                                  .finish = finish_remove};
static const struct mlypy_job_kind update_kind = {
    .bytes = sizeof(struct change_job), .is_long = true, .run = run_update};

static PyObject *call_change(struct mlypy_kernel *self, const struct mlypy_job_kind *kind,
                             const struct change_job *from, PyObject *document_id, PyObject *json)
{
    struct change_job *change = mlypy_job_new(self, kind);
    if (change == NULL) {
        return NULL;
    }
    change->id = from->id;
    change->metadata = from->metadata;
    change->options = from->options;
    change->job.is_brief = true;
    if (!mlypy_job_hold(&change->job, document_id) || !mlypy_job_hold(&change->job, json)) {
        mlypy_job_free(&change->job);
        return NULL;
    }
    return mlypy_job_call(&change->job, NULL);
}

PyObject *mlypy_kernel_remove_document(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"document_id", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *document_id;
    PyObject *durability = NULL;
    struct change_job change = {.options = {.struct_bytes = sizeof(change.options)}};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O", names, &document_id, &durability) ||
        !mlypy_durability(self->state, durability, &change.options.durability) ||
        !mlypy_text(document_id, "document_id", &change.id)) {
        return NULL;
    }
    return call_change(self, &remove_kind, &change, document_id, NULL);
}

PyObject *mlypy_kernel_update_metadata(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"document_id", "metadata", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *document_id;
    PyObject *metadata;
    PyObject *durability = NULL;
    struct change_job change = {.options = {.struct_bytes = sizeof(change.options)}};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|$O", names, &document_id, &metadata,
                                     &durability) ||
        !mlypy_durability(self->state, durability, &change.options.durability) ||
        !mlypy_text(document_id, "document_id", &change.id)) {
        return NULL;
    }
    if (!PyDict_Check(metadata)) {
        return mlypy_raise_type("metadata", "a dict", metadata);
    }
    PyObject *json = mlypy_metadata(self->state, metadata, "metadata");
    PyObject *result = NULL;
    if (json != NULL && mlypy_text(json, "metadata", &change.metadata)) {
        result = call_change(self, &update_kind, &change, document_id, json);
    }
    Py_XDECREF(json);
    return result;
}
