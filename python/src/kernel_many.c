/* In: any iterable of texts. Out: ids. A block is in hand at a time: no more is asked of the
 * iterable before it is stored, so that what streams through needs no more memory than a block. */
#include "convert.h"
#include "document_type.h"
#include "job.h"
#include "raise.h"

#include <string.h>

/* Enough to keep every core busy, and small beside the model. */
enum { BLOCK_TEXTS = 256, BLOCK_BYTES = 1 << 20 };

struct text_block {
    PyObject *owners; /* list of what texts and options point into */
    PyObject *given;  /* set of the ids that were given */
    struct memalloy_str *texts;
    struct memalloy_add_options *options;
    struct memalloy_id *ids;
    size_t count, bytes;
    size_t taken; /* documents before this block */
    int durability;
};

static bool block_init(struct text_block *block)
{
    block->owners = PyList_New(0);
    block->given = PySet_New(NULL);
    block->texts = mlypy_array(BLOCK_TEXTS, sizeof(*block->texts));
    block->options = mlypy_array(BLOCK_TEXTS, sizeof(*block->options));
    block->ids = mlypy_array(BLOCK_TEXTS, sizeof(*block->ids));
    return block->owners != NULL && block->given != NULL && block->texts != NULL &&
           block->options != NULL && block->ids != NULL;
}

static void block_deinit(struct text_block *block)
{
    Py_CLEAR(block->owners);
    Py_CLEAR(block->given);
    PyMem_Free(block->texts);
    PyMem_Free(block->options);
    PyMem_Free(block->ids);
}

/* Adds the ids of what was stored to list. */
static bool put_ids(const struct text_block *block, PyObject *list)
{
    for (size_t i = 0; i < block->count; i++) {
        PyObject *id =
            PyUnicode_DecodeUTF8(block->ids[i].text, (Py_ssize_t)block->ids[i].bytes, NULL);
        int rc = id == NULL ? -1 : PyList_Append(list, id);
        Py_XDECREF(id);
        if (rc < 0) {
            return false;
        }
    }
    return true;
}

struct block_job {
    struct mlypy_job job;
    struct text_block block;
};

static int run_block(struct mlypy_job *job, struct memalloy_error *err)
{
    struct text_block *block = &((struct block_job *)job)->block;
    if (block->count == 0) {
        return MEMALLOY_OK;
    }
    block->options[0].durability = block->durability;
    block->options[0].progress = job->progress;
    block->options[0].progress_context = job->progress_context;
    return memalloy_add_texts(job->handle, block->texts, block->count, block->options, block->ids,
                              err);
}

static PyObject *finish_block(struct mlypy_job *job)
{
    PyObject *list = PyList_New(0);
    if (list != NULL && !put_ids(&((struct block_job *)job)->block, list)) {
        Py_CLEAR(list);
    }
    return list;
}

static void clear_block(struct mlypy_job *job)
{
    block_deinit(&((struct block_job *)job)->block);
}

static const struct mlypy_job_kind block_kind = {
    .bytes = sizeof(struct block_job),
    .is_long = true,
    .run = run_block,
    .finish = finish_block,
    .clear = clear_block,
};

/* Stores the block, which becomes a new one. The call may be left while it runs, and so owns what
 * it works on. */
static bool store_block(struct mlypy_kernel *self, struct text_block *block, PyObject *list)
{
    if (block->count == 0) {
        return true;
    }
    struct block_job *job = mlypy_job_new(self, &block_kind);
    if (job == NULL) {
        return false;
    }
    job->block = *block;
    *block =
        (struct text_block){.taken = block->taken + block->count, .durability = block->durability};
    PyObject *ids = mlypy_job_call(&job->job, NULL);
    const Py_ssize_t end = PyList_Size(list);
    bool stored = ids != NULL && PyList_SetSlice(list, end, end, ids) == 0;
    Py_XDECREF(ids);
    return stored && block_init(block);
}

/* One document as it was handed in, taken apart; owns its references. */
struct given {
    PyObject *content, *metadata, *id; /* the last two may be NULL */
};

static void given_deinit(struct given *given)
{
    Py_CLEAR(given->content);
    Py_CLEAR(given->metadata);
    Py_CLEAR(given->id);
}

static bool take_apart(struct mlypy_state *state, PyObject *object, const char *name,
                       struct given *out)
{
    if (PyUnicode_Check(object)) {
        out->content = Py_NewRef(object);
        return true;
    }
    if (Py_IS_TYPE(object, state->document_type)) {
        out->content = PyObject_GetAttrString(object, "content");
        out->metadata = out->content == NULL ? NULL : PyObject_GetAttrString(object, "metadata");
        out->id = out->metadata == NULL ? NULL : PyObject_GetAttrString(object, "id");
        return out->id != NULL;
    }
    if (PyTuple_Check(object) && PyTuple_Size(object) >= 1 && PyTuple_Size(object) <= 3) {
        out->content = Py_NewRef(PyTuple_GetItem(object, 0));
        if (PyTuple_Size(object) >= 2) {
            out->metadata = Py_NewRef(PyTuple_GetItem(object, 1));
        }
        if (PyTuple_Size(object) == 3) {
            out->id = Py_NewRef(PyTuple_GetItem(object, 2));
        }
        return true;
    }
    mlypy_raise_type(name, "a str, a Document or a tuple (content, metadata, document_id)", object);
    return false;
}

/* Puts it behind the others of the block; the block owns what it points to. */
static bool put_text(struct mlypy_state *state, struct text_block *block, const struct given *given,
                     const char *name)
{
    struct memalloy_str *text = &block->texts[block->count];
    struct memalloy_add_options *options = &block->options[block->count];
    *options = (struct memalloy_add_options){.struct_bytes = sizeof(*options)};
    PyObject *json = mlypy_metadata(state, given->metadata, name);
    bool ok = json != NULL && mlypy_text(given->content, name, text) &&
              mlypy_text_or_none(json, name, &options->metadata) &&
              mlypy_text_or_none(given->id, name, &options->document_id) &&
              PyList_Append(block->owners, json) == 0 &&
              PyList_Append(block->owners, given->content) == 0 &&
              (given->id == NULL || PyList_Append(block->owners, given->id) == 0) &&
              (options->document_id.data == NULL || PySet_Add(block->given, given->id) == 0);
    Py_XDECREF(json);
    if (ok) {
        block->bytes += text->bytes;
        block->count++;
    }
    return ok;
}

/* An id that comes again replaces what came before, in whatever block that was. */
static int comes_again(const struct text_block *block, const struct given *given)
{
    return given->id == NULL || !PyUnicode_Check(given->id)
               ? 0
               : PySet_Contains(block->given, given->id);
}

static bool take_document(struct mlypy_kernel *self, struct text_block *block, PyObject *object,
                          PyObject *list)
{
    struct given given = {0};
    char name[48];
    PyOS_snprintf(name, sizeof(name), "documents[%zu]", block->taken + block->count);
    bool ok = take_apart(self->state, object, name, &given);
    int again = ok ? comes_again(block, &given) : 0;
    ok = ok && again >= 0 && (again == 0 || store_block(self, block, list)) &&
         put_text(self->state, block, &given, name);
    given_deinit(&given);
    if (ok && (block->count == BLOCK_TEXTS || block->bytes >= BLOCK_BYTES)) {
        ok = store_block(self, block, list);
    }
    return ok;
}

/* The iterator of what holds documents; who passes one text forgot a pair of brackets. */
static PyObject *iterator_of(PyObject *documents)
{
    if (PyUnicode_Check(documents) || PyBytes_Check(documents) || PyDict_Check(documents)) {
        return mlypy_raise_type("documents", "an iterable of documents", documents);
    }
    return PyObject_GetIter(documents);
}

PyObject *mlypy_kernel_add_documents(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"documents", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *documents;
    PyObject *durability = NULL;
    struct text_block block = {0};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O", names, &documents, &durability) ||
        !mlypy_durability(self->state, durability, &block.durability)) {
        return NULL;
    }
    PyObject *iterator = iterator_of(documents);
    PyObject *list = iterator == NULL ? NULL : PyList_New(0);
    bool ok = list != NULL && block_init(&block);
    while (ok) {
        PyObject *item = PyIter_Next(iterator);
        if (item == NULL) {
            ok = PyErr_Occurred() == NULL && store_block(self, &block, list);
            break;
        }
        ok = take_document(self, &block, item, list);
        Py_DECREF(item);
    }
    block_deinit(&block);
    Py_XDECREF(iterator);
    if (!ok) {
        Py_CLEAR(list);
    }
    return list;
}

/* ---- one block, for an AsyncRAGKernel, which takes the iterable apart itself */

/* add_block(documents, taken, durability): at most 256, no id twice; taken were before them. */
PyObject *mlypy_kernel_add_block(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"documents", "taken", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *documents;
    PyObject *durability = NULL;
    Py_ssize_t taken;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!n|O", names, &PyList_Type, &documents, &taken,
                                     &durability)) {
        return NULL;
    }
    struct block_job *job = mlypy_job_new(self, &block_kind);
    if (job == NULL) {
        return NULL;
    }
    struct text_block *block = &job->block;
    bool ok = mlypy_durability(self->state, durability, &block->durability) && block_init(block);
    for (Py_ssize_t i = 0; ok && i < PyList_Size(documents) && i < BLOCK_TEXTS; i++) {
        struct given given = {0};
        char name[48];
        PyOS_snprintf(name, sizeof(name), "documents[%zd]", taken + i);
        ok = take_apart(self->state, PyList_GetItem(documents, i), name, &given) &&
             put_text(self->state, block, &given, name);
        given_deinit(&given);
    }
    if (!ok) {
        mlypy_job_free(&job->job);
        return NULL;
    }
    return mlypy_job_call(&job->job, NULL);
}
