/* In: sizes. Out: an object that says how texts are cut, and can show it on a text. The sizes are
 * checked by the library at birth, so that overlap >= size never comes near a text. */
#include "strategy_type.h"

#include "convert.h"
#include "job.h"
#include "model_type.h"
#include "raise.h"

#include <string.h>

/* So many bytes of a text may take long. */
enum { TEXT_BYTES_MANY = 1 << 16 };

const char *mlypy_strategy_kind(int kind)
{
    switch (kind) {
    case MEMALLOY_CHUNKING_HEADING:
        return "heading";
    case MEMALLOY_CHUNKING_SENTENCE:
        return "sentence";
    case MEMALLOY_CHUNKING_FIXED:
        return "fixed";
    case MEMALLOY_CHUNKING_TOKEN:
        return "token";
    default:
        return "unknown";
    }
}

static PyObject *make_strategy(PyObject *type, PyObject *args, PyObject *kwargs, int kind,
                               int64_t size, int64_t overlap)
{
    static char *names[] = {"chunk_size", "overlap", NULL};
    PyObject *size_object = NULL;
    PyObject *overlap_object = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO", names, &size_object, &overlap_object)) {
        return NULL;
    }
    struct mlypy_state *state = mlypy_state_of((PyTypeObject *)type);
    if (state == NULL ||
        !mlypy_int_or_none(state, size_object, "chunk_size", INT64_MIN + 1, INT64_MAX, false,
                           &size) ||
        !mlypy_int_or_none(state, overlap_object, "overlap", INT64_MIN + 1, INT64_MAX, false,
                           &overlap)) {
        return NULL;
    }
    struct memalloy_chunking chunking = {
        .struct_bytes = sizeof(chunking), .kind = kind, .size = size, .overlap = overlap};
    struct memalloy_error err = {0};
    if (memalloy_chunking_check(&chunking, &err) != MEMALLOY_OK) {
        return mlypy_raise(state, &err);
    }
    struct mlypy_strategy *self =
        (struct mlypy_strategy *)PyType_GenericAlloc(state->strategy_type, 0);
    if (self != NULL) {
        self->state = state;
        self->chunking = chunking;
    }
    return (PyObject *)self;
}

static PyObject *strategy_fixed(PyObject *type, PyObject *args, PyObject *kwargs)
{
    return make_strategy(type, args, kwargs, MEMALLOY_CHUNKING_FIXED, 500, 50);
}

static PyObject *strategy_sentence(PyObject *type, PyObject *args, PyObject *kwargs)
{
    return make_strategy(type, args, kwargs, MEMALLOY_CHUNKING_SENTENCE, 500, 50);
}

static PyObject *strategy_token(PyObject *type, PyObject *args, PyObject *kwargs)
{
    return make_strategy(type, args, kwargs, MEMALLOY_CHUNKING_TOKEN, 254, 32);
}

static PyObject *strategy_heading(PyObject *type, PyObject *args, PyObject *kwargs)
{
    return make_strategy(type, args, kwargs, MEMALLOY_CHUNKING_HEADING, 254, 0);
}

static void strategy_dealloc(PyObject *object)
{
    mlypy_object_free(object);
}

static PyObject *chunks_as_list(struct mlypy_state *state, const memalloy_chunks *chunks)
{
    size_t count = memalloy_chunks_count(chunks);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        struct memalloy_chunk chunk = {.struct_bytes = sizeof(chunk)};
        memalloy_chunks_get(chunks, i, &chunk);
        PyObject *content = mlypy_str(state, chunk.content);
        if (content == NULL || PyList_SetItem(list, (Py_ssize_t)i, content) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

/* heading and token chunking count word pieces, so they need a model; the others use one only where
 * it is named. */
static int get_model(struct mlypy_strategy *self, PyObject *named, struct mlypy_model **out)
{
    int counts_pieces = self->chunking.kind == MEMALLOY_CHUNKING_HEADING ||
                        self->chunking.kind == MEMALLOY_CHUNKING_TOKEN;
    *out = NULL;
    if (!counts_pieces && (named == NULL || named == Py_None)) {
        return 0;
    }
    *out = mlypy_model_get(self->state, named, "model");
    return *out == NULL ? -1 : 0;
}

struct chunk_job {
    struct mlypy_job job;
    struct memalloy_str text;
    struct memalloy_chunking chunking;
    struct mlypy_model *model; /* NULL: none */
    memalloy_chunks *chunks;
};

static int run_chunk(struct mlypy_job *job, struct memalloy_error *err)
{
    struct chunk_job *chunk = (struct chunk_job *)job;
    return memalloy_chunk_text(chunk->model == NULL ? NULL : chunk->model->model, &chunk->chunking,
                               chunk->text.data, chunk->text.bytes, &chunk->chunks, err);
}

static PyObject *finish_chunk(struct mlypy_job *job)
{
    return chunks_as_list(job->state, ((struct chunk_job *)job)->chunks);
}

static void clear_chunk(struct mlypy_job *job)
{
    struct chunk_job *chunk = (struct chunk_job *)job;
    memalloy_chunks_destroy(chunk->chunks);
    Py_XDECREF((PyObject *)chunk->model);
}

static PyObject *strategy_chunk(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", "model", NULL};
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct chunk_job),
        .is_long = true,
        .run = run_chunk,
        .finish = finish_chunk,
        .clear = clear_chunk,
    };
    struct mlypy_strategy *self = (struct mlypy_strategy *)object;
    PyObject *text, *model = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", names, &text, &model)) {
        return NULL;
    }
    struct chunk_job *chunk = mlypy_job_new_free(self->state, &kind);
    if (chunk == NULL) {
        return NULL;
    }
    chunk->chunking = self->chunking;
    if (!mlypy_text(text, "text", &chunk->text) || !mlypy_job_hold(&chunk->job, text) ||
        get_model(self, model, &chunk->model) < 0) {
        mlypy_job_free(&chunk->job);
        return NULL;
    }
    chunk->job.is_brief = chunk->text.bytes < TEXT_BYTES_MANY;
    return mlypy_job_call(&chunk->job, NULL);
}

static PyObject *strategy_get_kind(PyObject *object, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(
        mlypy_strategy_kind(((struct mlypy_strategy *)object)->chunking.kind));
}

static PyObject *strategy_get_size(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((struct mlypy_strategy *)object)->chunking.size);
}

static PyObject *strategy_get_overlap(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(((struct mlypy_strategy *)object)->chunking.overlap);
}

static PyObject *strategy_repr(PyObject *object)
{
    const struct memalloy_chunking *chunking = &((struct mlypy_strategy *)object)->chunking;
    return PyUnicode_FromFormat("ChunkingStrategy.%s(chunk_size=%lld, overlap=%lld)",
                                mlypy_strategy_kind(chunking->kind), (long long)chunking->size,
                                (long long)chunking->overlap);
}

static PyObject *strategy_compare(PyObject *left, PyObject *right, int op)
{
    if ((op != Py_EQ && op != Py_NE) || !Py_IS_TYPE(right, Py_TYPE(left))) {
        return Py_NewRef(Py_NotImplemented);
    }
    const struct memalloy_chunking *a = &((struct mlypy_strategy *)left)->chunking;
    const struct memalloy_chunking *b = &((struct mlypy_strategy *)right)->chunking;
    int equal = a->kind == b->kind && a->size == b->size && a->overlap == b->overlap;
    return PyBool_FromLong(op == Py_EQ ? equal : !equal);
}

static Py_hash_t strategy_hash(PyObject *object)
{
    const struct memalloy_chunking *chunking = &((struct mlypy_strategy *)object)->chunking;
    PyObject *key = Py_BuildValue("(iLL)", chunking->kind, (long long)chunking->size,
                                  (long long)chunking->overlap);
    if (key == NULL) {
        return -1;
    }
    Py_hash_t hash = PyObject_Hash(key);
    Py_DECREF(key);
    return hash;
}

/* A keyword function in the slot of a plain one, as CPython's own tables have it. */
#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef strategy_methods[] = {
    {"heading", KEYWORDS(strategy_heading), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     "heading($type, /, chunk_size=254, overlap=0)\n--\n\n"
     "Markdown headings, then paragraphs, then sentences: the default.\n\n"
     "Sizes in word pieces; 0 <= overlap < chunk_size. InvalidArgumentError (a ValueError)\n"
     "otherwise, naming both."},
    {"sentence", KEYWORDS(strategy_sentence), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     "sentence($type, /, chunk_size=500, overlap=50)\n--\n\n"
     "Whole sentences. Sizes in characters (code points); 0 <= overlap < chunk_size."},
    {"fixed", KEYWORDS(strategy_fixed), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     "fixed($type, /, chunk_size=500, overlap=50)\n--\n\n"
     "Pieces of one size. Sizes in characters (code points); 0 <= overlap < chunk_size."},
    {"token", KEYWORDS(strategy_token), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     "token($type, /, chunk_size=254, overlap=32)\n--\n\n"
     "Pieces of so many word pieces; 0 <= overlap < chunk_size."},
    {"chunk", KEYWORDS(strategy_chunk), METH_VARARGS | METH_KEYWORDS,
     "chunk($self, /, text, model=None)\n--\n\n"
     "The chunks of a text as a list of str that covers it without a gap.\n\n"
     "heading and token chunking count with the model (None: the default one). sentence and\n"
     "fixed need none; with one, a chunk that it could not read whole is split further, as a\n"
     "store does it. Errors: ModelError, LimitError."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef strategy_getset[] = {
    {"kind", strategy_get_kind, NULL, "'heading', 'sentence', 'fixed' or 'token'", NULL},
    {"chunk_size", strategy_get_size, NULL, "of a chunk at most", NULL},
    {"overlap", strategy_get_overlap, NULL, "of neighbours at most", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot strategy_slots[] = {
    {Py_tp_doc,
     (void *)"How a text is cut into chunks. Made by heading(), sentence(), fixed() and\n"
             "token(); immutable, comparable, hashable."},
    {Py_tp_dealloc, (void *)strategy_dealloc},
    {Py_tp_repr, (void *)strategy_repr},
    {Py_tp_richcompare, (void *)strategy_compare},
    {Py_tp_hash, (void *)strategy_hash},
    {Py_tp_methods, strategy_methods},
    {Py_tp_getset, strategy_getset},
    {0, NULL},
};

PyType_Spec mlypy_strategy_spec = {
    .name = "memalloy.ChunkingStrategy",
    .basicsize = sizeof(struct mlypy_strategy),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = strategy_slots,
};
