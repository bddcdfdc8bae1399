/* In: a row of the store, a hit, or what a caller hands in. Out: a Document, whose text is read
 * from the store and whose metadata is parsed when somebody asks, so that a listing of many
 * documents costs little. */
#include "document_type.h"

#include "convert.h"
#include "kernel_type.h"
#include "raise.h"

#include <stddef.h>
#include <structmember.h>

static struct mlypy_document *alloc_document(struct mlypy_state *state)
{
    struct mlypy_document *self =
        (struct mlypy_document *)PyType_GenericAlloc(state->document_type, 0);
    if (self != NULL) {
        self->state = state;
        self->created_at_us = INT64_MIN;
        self->updated_at_us = INT64_MIN;
    }
    return self;
}

static PyObject *count_or_none(int64_t count)
{
    return count < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(count);
}

PyObject *mlypy_document_from(struct mlypy_state *state, const struct memalloy_document *row,
                              PyObject *kernel)
{
    struct mlypy_document *self = alloc_document(state);
    if (self == NULL) {
        return NULL;
    }
    self->id = mlypy_str(state, row->id);
    self->path = mlypy_str(state, row->path);
    self->title = mlypy_str(state, row->title);
    self->metadata_json = mlypy_str(state, row->metadata);
    self->byte_count = count_or_none(row->byte_count);
    self->chunk_count = count_or_none(row->chunk_count);
    self->created_at_us = row->created_at_us;
    self->updated_at_us = row->updated_at_us;
    self->altered = row->altered != 0;
    if (row->content.data != NULL) {
        self->content = mlypy_str(state, row->content);
    } else {
        self->kernel = Py_XNewRef(kernel);
    }
    if (self->id == NULL || self->path == NULL || self->title == NULL ||
        self->metadata_json == NULL || self->byte_count == NULL || self->chunk_count == NULL ||
        (self->content == NULL && self->kernel == NULL)) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyObject *mlypy_document_from_hit(struct mlypy_state *state, const struct memalloy_hit *hit)
{
    struct memalloy_document row = {
        .struct_bytes = sizeof(row),
        .id = hit->document_id,
        .path = hit->path,
        .metadata = hit->metadata,
        .content = hit->content,
        .byte_count = (int64_t)hit->content.bytes,
        .chunk_count = -1,
        .created_at_us = INT64_MIN,
        .updated_at_us = INT64_MIN,
    };
    if (row.content.data == NULL) {
        row.content.data = ""; /* a row of another program's that has no text */
    }
    return mlypy_document_from(state, &row, NULL);
}

static PyObject *new_id(void)
{
    PyObject *uuid = PyImport_ImportModule("uuid");
    PyObject *made = uuid == NULL ? NULL : PyObject_CallMethod(uuid, "uuid4", NULL);
    PyObject *id = made == NULL ? NULL : PyObject_Str(made);
    Py_XDECREF(made);
    Py_XDECREF(uuid);
    return id;
}

/* A str or None into *out as a new reference. */
static int keep_text(PyObject *object, const char *name, PyObject **out)
{
    struct memalloy_str text;
    if (!mlypy_text_or_none(object, name, &text)) {
        return -1;
    }
    *out = Py_NewRef(object == NULL ? Py_None : object);
    return 0;
}

static PyObject *document_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"content", "metadata", "id", "path", NULL};
    PyObject *content;
    PyObject *metadata = NULL;
    PyObject *id = NULL;
    PyObject *path = NULL;
    struct memalloy_str text;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO", names, &content, &metadata, &id,
                                     &path) ||
        !mlypy_text(content, "content", &text)) {
        return NULL;
    }
    struct mlypy_state *state = mlypy_state_of(type);
    struct mlypy_document *self = state == NULL ? NULL : alloc_document(state);
    if (self == NULL) {
        return NULL;
    }
    self->content = Py_NewRef(content);
    self->title = Py_NewRef(Py_None);
    self->chunk_count = Py_NewRef(Py_None);
    self->byte_count = PyLong_FromSize_t(text.bytes);
    /* Through JSON and back: what is refused here would be refused by the store. */
    self->metadata_json = mlypy_metadata(state, metadata, "metadata");
    if (self->byte_count == NULL || self->metadata_json == NULL ||
        keep_text(path, "path", &self->path) < 0 || keep_text(id, "id", &self->id) < 0) {
        goto fail;
    }
    if (self->id == Py_None) {
        Py_DECREF(self->id);
        self->id = new_id();
        if (self->id == NULL) {
            goto fail;
        }
    }
    return (PyObject *)self;
fail:
    Py_DECREF(self);
    return NULL;
}

static int document_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->metadata);
    Py_VISIT(self->kernel);
    return 0;
}

static int document_clear(PyObject *object)
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    Py_CLEAR(self->metadata);
    Py_CLEAR(self->kernel);
    return 0;
}

static void document_dealloc(PyObject *object)
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    PyObject_GC_UnTrack(object);
    document_clear(object);
    Py_CLEAR(self->id);
    Py_CLEAR(self->content);
    Py_CLEAR(self->metadata_json);
    Py_CLEAR(self->path);
    Py_CLEAR(self->title);
    Py_CLEAR(self->byte_count);
    Py_CLEAR(self->chunk_count);
    mlypy_object_free(object);
}

static PyObject *document_get_content(PyObject *object, void *Py_UNUSED(closure))
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    if (self->content == NULL) {
        if (self->kernel == NULL) { /* the collector took it from a dead cycle */
            return mlypy_raise_code(self->state, MEMALLOY_ERR_CLOSED,
                                    "the store of this document is closed");
        }
        /* Held for the call: another thread may be here too, and the faster one lets go of the
         * kernel for both. */
        PyObject *kernel = Py_NewRef(self->kernel);
        PyObject *id = Py_NewRef(self->id);
        PyObject *content = mlypy_kernel_read_content(kernel, id);
        Py_DECREF(id);
        Py_DECREF(kernel);
        if (self->content != NULL && content == NULL) { /* the other one could read it */
            PyErr_Clear();
            return Py_NewRef(self->content);
        }
        if (content == NULL) {
            return NULL;
        }
        if (self->content == NULL) {
            self->content = content;
        } else {
            Py_DECREF(content); /* another thread was faster */
        }
        Py_CLEAR(self->kernel);
    }
    return Py_NewRef(self->content);
}

static PyObject *document_get_metadata(PyObject *object, void *Py_UNUSED(closure))
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    if (self->metadata == NULL) {
        PyObject *json = self->metadata_json;
        PyObject *parsed = json == NULL || json == Py_None
                               ? PyDict_New()
                               : PyObject_CallFunctionObjArgs(self->state->json_decode, json, NULL);
        if (parsed == NULL && json != NULL && PyErr_ExceptionMatches(PyExc_ValueError)) {
            PyErr_Clear();
            return mlypy_raise_code(self->state, MEMALLOY_ERR_CORRUPT,
                                    "metadata of document %R is not JSON: %R", self->id, json);
        }
        if (parsed == NULL) {
            return NULL;
        }
        if (self->metadata == NULL) {
            self->metadata = parsed;
        } else {
            Py_DECREF(parsed); /* another thread was faster, and its dict has been seen */
        }
    }
    return Py_NewRef(self->metadata);
}

/* Microseconds since 1970 as an aware datetime; whole numbers, so that nothing is rounded. None
 * where the row of another program's has no time, which is negative here, or one that no datetime
 * can hold. */
static PyObject *time_or_none(int64_t at_us)
{
    if (at_us < 0) {
        return Py_NewRef(Py_None);
    }
    PyObject *result = NULL;
    PyObject *utc = NULL;
    PyObject *epoch = NULL;
    PyObject *delta = NULL;
    PyObject *module = PyImport_ImportModule("datetime");
    PyObject *zone = module == NULL ? NULL : PyObject_GetAttrString(module, "timezone");
    utc = zone == NULL ? NULL : PyObject_GetAttrString(zone, "utc");
    if (utc != NULL) {
        epoch = PyObject_CallMethod(module, "datetime", "iiiiiiiO", 1970, 1, 1, 0, 0, 0, 0, utc);
        delta = PyObject_CallMethod(module, "timedelta", "iiL", 0, 0, (long long)at_us);
    }
    if (epoch != NULL && delta != NULL) {
        result = PyNumber_Add(epoch, delta);
        if (result == NULL && PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            result = Py_NewRef(Py_None);
        }
    }
    Py_XDECREF(delta);
    Py_XDECREF(epoch);
    Py_XDECREF(utc);
    Py_XDECREF(zone);
    Py_XDECREF(module);
    return result;
}

static PyObject *document_get_created_at(PyObject *object, void *Py_UNUSED(closure))
{
    return time_or_none(((struct mlypy_document *)object)->created_at_us);
}

static PyObject *document_get_updated_at(PyObject *object, void *Py_UNUSED(closure))
{
    return time_or_none(((struct mlypy_document *)object)->updated_at_us);
}

static PyObject *document_repr(PyObject *object)
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    return PyUnicode_FromFormat("Document(id=%R, path=%R, byte_count=%S)", self->id, self->path,
                                self->byte_count);
}

static PyObject *document_reduce(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_document *self = (struct mlypy_document *)object;
    PyObject *content = document_get_content(object, NULL);
    PyObject *metadata = content == NULL ? NULL : document_get_metadata(object, NULL);
    PyObject *reduced = NULL;
    if (metadata != NULL) {
        reduced = Py_BuildValue("(O(OOOO))", (PyObject *)Py_TYPE(object), content, metadata,
                                self->id, self->path);
    }
    Py_XDECREF(content);
    Py_XDECREF(metadata);
    return reduced;
}

static PyMethodDef document_methods[] = {
    {"__reduce__", document_reduce, METH_NOARGS,
     "__reduce__($self, /)\n--\n\nFor pickle and copy: content, metadata, id and path."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef document_members[] = {
    {"id", T_OBJECT_EX, offsetof(struct mlypy_document, id), READONLY, "the document's id"},
    {"path", T_OBJECT_EX, offsetof(struct mlypy_document, path), READONLY,
     "of the file; None for text that was handed in"},
    {"title", T_OBJECT_EX, offsetof(struct mlypy_document, title), READONLY, "where it is known"},
    {"byte_count", T_OBJECT_EX, offsetof(struct mlypy_document, byte_count), READONLY,
     "UTF-8 bytes of the content"},
    {"chunk_count", T_OBJECT_EX, offsetof(struct mlypy_document, chunk_count), READONLY,
     "chunks of the whole document; None where it is unknown"},
    {"altered", T_BOOL, offsetof(struct mlypy_document, altered), READONLY,
     "True where the text is no longer the one that was added: another program changed the rows"},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef document_getset[] = {
    {"content", document_get_content, NULL,
     "The text; of a document from a hit, the passage. Documents of list_documents() read it from\n"
     "the store when it is first asked for (NotFoundError if it was removed since).",
     NULL},
    {"metadata", document_get_metadata, NULL, "a dict", NULL},
    {"created_at", document_get_created_at, NULL, "datetime in UTC, or None", NULL},
    {"updated_at", document_get_updated_at, NULL, "datetime in UTC, or None", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot document_slots[] = {
    {Py_tp_doc,
     (void *)"Document(content, metadata=None, id=None, path=None)\n--\n\n"
             "A document: id, content, metadata, path. Without an id it gets a new one.\n\n"
             "metadata: a dict of JSON values with str keys."},
    {Py_tp_new, (void *)document_new},
    {Py_tp_dealloc, (void *)document_dealloc},
    {Py_tp_traverse, (void *)document_traverse},
    {Py_tp_clear, (void *)document_clear},
    {Py_tp_repr, (void *)document_repr},
    {Py_tp_methods, document_methods},
    {Py_tp_members, document_members},
    {Py_tp_getset, document_getset},
    {0, NULL},
};

PyType_Spec mlypy_document_spec = {
    .name = "memalloy.Document",
    .basicsize = sizeof(struct mlypy_document),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = document_slots,
};
