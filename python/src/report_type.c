/* In: the counts of a sync. Out: an object with one attribute per count, the files that were passed
 * over with their reasons, and the seconds of each stage. */
#include "report_type.h"

#include "convert.h"

#include <stddef.h>
#include <structmember.h>

struct report_object {
    PyObject_HEAD unsigned long long added, replaced, removed, unchanged, moved, files;
    unsigned long long bytes, chunks, chunks_embedded, tokens;
    PyObject *skipped; /* list of (path, reason) */
    PyObject *seconds; /* dict: stage -> float */
};

static PyObject *skipped_as_list(struct mlypy_state *state, const memalloy_report *report,
                                 uint64_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (uint64_t i = 0; list != NULL && i < count; i++) {
        struct memalloy_str path = {0};
        struct memalloy_str reason = {0};
        memalloy_report_get_skipped(report, (size_t)i, &path, &reason);
        PyObject *path_object = mlypy_str(state, path);
        PyObject *reason_object = path_object == NULL ? NULL : mlypy_str(state, reason);
        PyObject *pair = reason_object == NULL ? NULL : PyTuple_Pack(2, path_object, reason_object);
        Py_XDECREF(path_object);
        Py_XDECREF(reason_object);
        if (pair == NULL || PyList_SetItem(list, (Py_ssize_t)i, pair) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

PyObject *mlypy_report_from(struct mlypy_state *state, const memalloy_report *report)
{
    struct memalloy_sync_counts counts = {.struct_bytes = sizeof(counts)};
    memalloy_report_get(report, &counts);
    struct report_object *self = (struct report_object *)PyType_GenericAlloc(state->report_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->added = counts.added;
    self->replaced = counts.replaced;
    self->removed = counts.removed;
    self->unchanged = counts.unchanged;
    self->moved = counts.moved;
    self->files = counts.files;
    self->bytes = counts.bytes;
    self->chunks = counts.chunks;
    self->chunks_embedded = counts.chunks_embedded;
    self->tokens = counts.tokens;
    self->skipped = skipped_as_list(state, report, counts.skipped);
    if (self->skipped != NULL) {
        self->seconds =
            Py_BuildValue("{s:d,s:d,s:d,s:d,s:d,s:d,s:d}", "walk", counts.walk_s, "read",
                          counts.read_s, "chunk", counts.chunk_s, "token", counts.token_s, "embed",
                          counts.embed_s, "store", counts.store_s, "total", counts.total_s);
    }
    if (self->seconds == NULL) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int report_traverse(PyObject *object, visitproc visit, void *arg)
{
    struct report_object *self = (struct report_object *)object;
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(self->skipped);
    Py_VISIT(self->seconds);
    return 0;
}

static int report_clear(PyObject *object)
{
    struct report_object *self = (struct report_object *)object;
    Py_CLEAR(self->skipped);
    Py_CLEAR(self->seconds);
    return 0;
}

static void report_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    report_clear(object);
    mlypy_object_free(object);
}

static PyObject *report_to_dict(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct report_object *self = (struct report_object *)object;
    /* NULL: cleared by the collector. */
    PyObject *skipped =
        self->skipped == NULL ? PyList_New(0) : PyList_GetSlice(self->skipped, 0, PY_SSIZE_T_MAX);
    PyObject *seconds = self->seconds == NULL ? PyDict_New() : PyDict_Copy(self->seconds);
    PyObject *made = NULL;
    if (skipped != NULL && seconds != NULL) {
        made =
            Py_BuildValue("{s:K,s:K,s:K,s:K,s:K,s:K,s:O,s:K,s:K,s:K,s:K,s:O}", "added", self->added,
                          "replaced", self->replaced, "removed", self->removed, "unchanged",
                          self->unchanged, "moved", self->moved, "files", self->files, "skipped",
                          skipped, "bytes", self->bytes, "chunks", self->chunks, "chunks_embedded",
                          self->chunks_embedded, "tokens", self->tokens, "seconds", seconds);
    }
    Py_XDECREF(skipped);
    Py_XDECREF(seconds);
    return made;
}

static PyObject *report_repr(PyObject *object)
{
    struct report_object *self = (struct report_object *)object;
    return PyUnicode_FromFormat(
        "SyncReport(added=%llu, replaced=%llu, removed=%llu, moved=%llu, unchanged=%llu, "
        "skipped=%zd, chunks=%llu)",
        self->added, self->replaced, self->removed, self->moved, self->unchanged,
        self->skipped == NULL ? (Py_ssize_t)0 : PyList_Size(self->skipped), self->chunks);
}

static PyMethodDef report_methods[] = {
    {"to_dict", report_to_dict, METH_NOARGS,
     "to_dict($self, /)\n--\n\nEverything as a dict that json.dumps takes."},
    {NULL, NULL, 0, NULL},
};

#define COUNT(name, text) {#name, T_ULONGLONG, offsetof(struct report_object, name), READONLY, text}

static PyMemberDef report_members[] = {
    COUNT(added, "documents that are new"),
    COUNT(replaced, "documents whose file changed"),
    COUNT(removed, "documents whose file is gone"),
    COUNT(unchanged, "documents that were left as they are"),
    COUNT(moved, "documents whose file was moved or renamed: nothing was embedded"),
    COUNT(files, "files that were found"),
    COUNT(bytes, "of the files that were read"),
    COUNT(chunks, "of the added and replaced documents"),
    COUNT(chunks_embedded, "those of them that needed a new vector"),
    COUNT(tokens, "word pieces embedded"),
    {"skipped", T_OBJECT_EX, offsetof(struct report_object, skipped), READONLY,
     "files passed over: a list of (path, reason)"},
    {"seconds", T_OBJECT_EX, offsetof(struct report_object, seconds), READONLY,
     "dict: walk, read, chunk, token, embed, store and total in seconds"},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot report_slots[] = {
    {Py_tp_doc, (void *)"What one sync did."}, {Py_tp_dealloc, (void *)report_dealloc},
    {Py_tp_traverse, (void *)report_traverse}, {Py_tp_clear, (void *)report_clear},
    {Py_tp_repr, (void *)report_repr},         {Py_tp_methods, report_methods},
    {Py_tp_members, report_members},           {0, NULL},
};

PyType_Spec mlypy_report_spec = {
    .name = "memalloy.SyncReport",
    .basicsize = sizeof(struct report_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = report_slots,
};
