/* In: the hits of a search. Out: a list of Hit, each of which is also the pair (document, score) of
 * the ancestor: it unpacks, indexes and counts as one. */
#include "hit_type.h"

#include "convert.h"
#include "document_type.h"
#include "raise.h"

#include <stddef.h>
#include <structmember.h>

struct hit_object {
    PyObject_HEAD PyObject *document; /* Document whose content is the passage */
    PyObject *score;                  /* float */
    PyObject *spans;                  /* Spans */
    PyObject *heading;                /* str or None */
    PyObject *ordinal;                /* int or None */
    PyObject *chunk_id;               /* str */
    char stale;
};

/* (start, end), or None where start is unknown. */
static PyObject *span(int64_t start, int64_t end)
{
    if (start < 0) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue("(LL)", (long long)start, (long long)end);
}

static PyObject *make_spans(struct mlypy_state *state, const struct memalloy_hit *hit)
{
    PyObject *spans = PyStructSequence_New(state->spans_type);
    if (spans == NULL) {
        return NULL;
    }
    PyObject *fields[3] = {
        span(hit->byte_start, hit->byte_end),
        span(hit->line_start, hit->line_end),
        span(hit->page_start, hit->page_end),
    };
    bool ok = true;
    for (Py_ssize_t i = 0; i < 3; i++) {
        ok = ok && fields[i] != NULL;
        PyStructSequence_SetItem(spans, i, fields[i]);
    }
    if (!ok) {
        Py_CLEAR(spans);
    }
    return spans;
}

static PyObject *make_hit(struct mlypy_state *state, const struct memalloy_hit *row)
{
    struct hit_object *self = (struct hit_object *)PyType_GenericAlloc(state->hit_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->stale = row->stale != 0;
    self->document = mlypy_document_from_hit(state, row);
    if (self->document != NULL) {
        self->score = PyFloat_FromDouble(row->score);
        self->spans = make_spans(state, row);
        self->heading = mlypy_str(state, row->heading);
        self->ordinal = row->ordinal < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(row->ordinal);
        self->chunk_id = mlypy_str(state, row->chunk_id);
    }
    if (self->document == NULL || self->score == NULL || self->spans == NULL ||
        self->heading == NULL || self->ordinal == NULL || self->chunk_id == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyObject *mlypy_hits_as_list(struct mlypy_state *state, const memalloy_hits *hits)
{
    size_t count = memalloy_hits_count(hits);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        struct memalloy_hit row = {.struct_bytes = sizeof(row)};
        memalloy_hits_get(hits, i, &row);
        PyObject *hit = make_hit(state, &row);
        if (hit == NULL || PyList_SetItem(list, (Py_ssize_t)i, hit) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static int hit_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((struct hit_object *)object)->document);
    return 0;
}

static int hit_clear(PyObject *object)
{
    Py_CLEAR(((struct hit_object *)object)->document);
    return 0;
}

static void hit_dealloc(PyObject *object)
{
    struct hit_object *self = (struct hit_object *)object;
    PyObject_GC_UnTrack(object);
    hit_clear(object);
    Py_CLEAR(self->score);
    Py_CLEAR(self->spans);
    Py_CLEAR(self->heading);
    Py_CLEAR(self->ordinal);
    Py_CLEAR(self->chunk_id);
    mlypy_object_free(object);
}

static PyObject *of_document(PyObject *object, const char *attribute)
{
    PyObject *document = ((struct hit_object *)object)->document;
    if (document == NULL) { /* cleared by the collector */
        Py_RETURN_NONE;
    }
    Py_INCREF(document); /* whatever the attribute runs */
    PyObject *value = PyObject_GetAttrString(document, attribute);
    Py_DECREF(document);
    return value;
}

static PyObject *hit_get_content(PyObject *object, void *Py_UNUSED(closure))
{
    return of_document(object, "content");
}

static PyObject *hit_get_metadata(PyObject *object, void *Py_UNUSED(closure))
{
    return of_document(object, "metadata");
}

static PyObject *hit_get_path(PyObject *object, void *Py_UNUSED(closure))
{
    return of_document(object, "path");
}

static Py_ssize_t hit_length(PyObject *Py_UNUSED(object))
{
    return 2;
}

static PyObject *hit_item(PyObject *object, Py_ssize_t index)
{
    struct hit_object *self = (struct hit_object *)object;
    PyObject *item = index == 0 ? self->document : index == 1 ? self->score : NULL;
    if (item == NULL) {
        PyErr_SetString(PyExc_IndexError, "a hit is a pair: document and score");
        return NULL;
    }
    return Py_NewRef(item);
}

/* By hit_item, which knows a hit that the collector cleared. */
static PyObject *hit_iter(PyObject *object)
{
    return PySeqIter_New(object);
}

static PyObject *hit_repr(PyObject *object)
{
    struct hit_object *self = (struct hit_object *)object;
    PyObject *document = Py_NewRef(self->document == NULL ? Py_None : self->document);
    PyObject *text = PyUnicode_FromFormat("Hit(document=%R, score=%R, spans=%R)", document,
                                          self->score, self->spans);
    Py_DECREF(document);
    return text;
}

static PyMemberDef hit_members[] = {
    {"document", T_OBJECT_EX, offsetof(struct hit_object, document), READONLY,
     "the Document, with the passage as its content"},
    {"score", T_OBJECT_EX, offsetof(struct hit_object, score), READONLY,
     "cosine similarity: 1 is equal, -1 opposite"},
    {"spans", T_OBJECT_EX, offsetof(struct hit_object, spans), READONLY,
     "where the passage stands in the document"},
    {"heading", T_OBJECT_EX, offsetof(struct hit_object, heading), READONLY,
     "the headings above the passage, joined by ' > ', or None"},
    {"ordinal", T_OBJECT_EX, offsetof(struct hit_object, ordinal), READONLY,
     "which chunk of the document, from 0, or None"},
    {"chunk_id", T_OBJECT_EX, offsetof(struct hit_object, chunk_id), READONLY,
     "the chunk's id in the table"},
    {"stale", T_BOOL, offsetof(struct hit_object, stale), READONLY,
     "whether the file is gone or, as far as size and time tell, changed since"},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef hit_getset[] = {
    {"content", hit_get_content, NULL, "the passage", NULL},
    {"metadata", hit_get_metadata, NULL, "of the document, a dict", NULL},
    {"path", hit_get_path, NULL, "of the file; None for text that was handed in", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot hit_slots[] = {
    {Py_tp_doc,
     (void *)"A passage that answers a query: document, score, content, metadata, path,\n"
             "spans. Unpacks as (document, score)."},
    {Py_tp_dealloc, (void *)hit_dealloc},
    {Py_tp_traverse, (void *)hit_traverse},
    {Py_tp_clear, (void *)hit_clear},
    {Py_tp_repr, (void *)hit_repr},
    {Py_tp_iter, (void *)hit_iter},
    {Py_tp_members, hit_members},
    {Py_tp_getset, hit_getset},
    {Py_sq_length, (void *)hit_length},
    {Py_sq_item, (void *)hit_item},
    {0, NULL},
};

PyType_Spec mlypy_hit_spec = {
    .name = "memalloy.Hit",
    .basicsize = sizeof(struct hit_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = hit_slots,
};

static PyStructSequence_Field spans_fields[] = {
    {"bytes", "(start, end) of the document's text, half open, from 0; None where unknown"},
    {"lines", "(first, last), from 1, inclusive; None where unknown"},
    {"pages", "(first, last), from 1, inclusive; None where there are none"},
    {NULL, NULL},
};

PyStructSequence_Desc mlypy_spans_desc = {
    .name = "memalloy.Spans",
    .doc = "Where a passage stands in its document: bytes, lines, pages.",
    .fields = spans_fields,
    .n_in_sequence = 3,
};
