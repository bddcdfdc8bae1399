/* In: the path of a model, or None. Out: an open model that stays open as long as the module keeps
 * it or a call uses it. A handful are kept; a program that walks through many models starts over.
 */
#include "model_type.h"

#include "convert.h"
#include "raise.h"

#include <stdbool.h>
#include <unistd.h>

enum { MODELS_KEPT_MAX = 4 };

/* The module keeps models and a model keeps its type, which keeps the module: the collector must
 * see the circle. */
static int model_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    return 0;
}

static void model_dealloc(PyObject *object)
{
    PyObject_GC_UnTrack(object);
    struct mlypy_model *self = (struct mlypy_model *)object;
    memalloy_model *model = self->model;
    self->model = NULL;
    if (model != NULL) {
        Py_BEGIN_ALLOW_THREADS
        memalloy_model_close(model);
        Py_END_ALLOW_THREADS
    }
    mlypy_object_free(object);
}

PyObject *mlypy_model_path(PyObject *model, const char *name)
{
    if (model != NULL && model != Py_None) {
        return mlypy_path(model, name);
    }
    PyObject *module = PyImport_ImportModule("memalloy._model");
    if (module == NULL) {
        return NULL;
    }
    PyObject *path = PyObject_CallMethod(module, "default_path", NULL);
    Py_DECREF(module);
    if (path == NULL || path == Py_None) {
        return path;
    }
    PyObject *bytes = mlypy_path(path, "model");
    Py_DECREF(path);
    return bytes;
}

PyObject *mlypy_runtime_path(PyObject *path)
{
    PyObject *module = PyImport_ImportModule("memalloy._model");
    if (module == NULL) {
        return NULL;
    }
    PyObject *found = PyObject_CallMethod(module, "runtime_path", "O", path);
    Py_DECREF(module);
    if (found == NULL || found == Py_None) {
        return found;
    }
    PyObject *bytes = mlypy_path(found, "onnxruntime");
    Py_DECREF(found);
    return bytes;
}

static struct mlypy_model *open_model_with(struct mlypy_state *state, PyObject *path,
                                           PyObject *runtime, uint32_t threads)
{
    struct memalloy_model_options options = {.struct_bytes = sizeof(options), .threads = threads};
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    struct memalloy_error err = {0};
    if (path != Py_None) {
        options.path = PyBytes_AsString(path);
        if (options.path == NULL) {
            return NULL;
        }
    }
    options.onnxruntime_path = runtime == Py_None ? NULL : PyBytes_AsString(runtime);
    struct mlypy_model *self = (struct mlypy_model *)PyType_GenericAlloc(state->model_type, 0);
    if (self == NULL) {
        return NULL;
    }
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_model_open(&self->model, &options, &err);
    if (rc == MEMALLOY_OK) {
        rc = memalloy_model_get_info(self->model, &info, &err);
    }
    Py_END_ALLOW_THREADS
    if (rc != MEMALLOY_OK) {
        mlypy_raise(state, &err);
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    self->state = state;
    self->dim = info.dim;
    self->pid = (long)getpid();
    return self;
}

static struct mlypy_model *open_model(struct mlypy_state *state, PyObject *path, uint32_t threads)
{
    PyObject *runtime = mlypy_runtime_path(path);
    if (runtime == NULL) {
        return NULL;
    }
    struct mlypy_model *self = open_model_with(state, path, runtime, threads);
    Py_DECREF(runtime);
    return self;
}

struct mlypy_model *mlypy_model_get(struct mlypy_state *state, PyObject *model, const char *name)
{
    if (model != NULL && Py_IS_TYPE(model, state->model_type)) {
        return (struct mlypy_model *)Py_NewRef(model);
    }
    PyObject *path = mlypy_model_path(model, name);
    if (path == NULL) {
        return NULL;
    }
    struct mlypy_model *self = (struct mlypy_model *)PyDict_GetItemWithError(state->models, path);
    if (self != NULL && self->pid == (long)getpid()) {
        Py_INCREF((PyObject *)self);
        goto done;
    }
    if (self == NULL && PyErr_Occurred()) {
        goto done;
    }
    self = open_model(state, path, 0);
    if (self == NULL) {
        goto done;
    }
    if (PyDict_Size(state->models) >= MODELS_KEPT_MAX) {
        PyDict_Clear(state->models);
    }
    if (PyDict_SetItem(state->models, path, (PyObject *)self) < 0) {
        Py_CLEAR(self);
    }
done:
    Py_DECREF(path);
    return self;
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"path", "threads", NULL};
    struct mlypy_state *state = mlypy_state_of(type);
    PyObject *model = NULL, *threads_object = NULL;
    int64_t threads = 0;
    if (state == NULL ||
        !PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O", names, &model, &threads_object) ||
        !mlypy_int_or_none(state, threads_object, "threads", 1, INT32_MAX, true, &threads)) {
        return NULL;
    }
    PyObject *path = mlypy_model_path(model, "path");
    if (path == NULL) {
        return NULL;
    }
    struct mlypy_model *self = open_model(state, path, (uint32_t)threads);
    Py_DECREF(path);
    return (PyObject *)self;
}

static bool get_info(struct mlypy_model *self, struct memalloy_model_info *out)
{
    struct memalloy_error err = {0};
    *out = (struct memalloy_model_info){.struct_bytes = sizeof(*out)};
    if (memalloy_model_get_info(self->model, out, &err) == MEMALLOY_OK) {
        return true;
    }
    mlypy_raise(self->state, &err);
    return false;
}

PyObject *mlypy_model_info_dict(struct mlypy_state *state, const struct memalloy_model_info *info)
{
    const struct {
        const char *name;
        struct memalloy_str text;
    } texts[] = {
        {"id", info->id},
        {"hash", info->hash},
        {"quantisation", info->quantisation},
        {"pooling", info->pooling},
        {"query_prefix", info->query_prefix},
        {"passage_prefix", info->passage_prefix},
        {"kernels", info->kernels},
    };
    PyObject *dict = Py_BuildValue(
        "{s:I,s:I,s:I,s:N}", "dim", info->dim, "pieces_max", info->pieces_max, "threads",
        info->threads, "path",
        PyUnicode_DecodeFSDefaultAndSize(info->path.data, (Py_ssize_t)info->path.bytes));
    for (size_t i = 0; dict != NULL && i < sizeof(texts) / sizeof(texts[0]); i++) {
        PyObject *text = mlypy_str(state, texts[i].text);
        if (text == NULL || PyDict_SetItemString(dict, texts[i].name, text) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(text);
    }
    return dict;
}

static PyObject *model_info(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_model *self = (struct mlypy_model *)object;
    struct memalloy_model_info info;
    return get_info(self, &info) ? mlypy_model_info_dict(self->state, &info) : NULL;
}

static PyObject *model_verify(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_model *self = (struct mlypy_model *)object;
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_model_verify(self->model, &err);
    Py_END_ALLOW_THREADS
    return rc == MEMALLOY_OK ? Py_NewRef(Py_None) : mlypy_raise(self->state, &err);
}

static PyObject *model_get_id(PyObject *object, void *Py_UNUSED(closure))
{
    struct mlypy_model *self = (struct mlypy_model *)object;
    struct memalloy_model_info info;
    return get_info(self, &info) ? mlypy_str(self->state, info.id) : NULL;
}

static PyObject *model_get_dim(PyObject *object, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(((struct mlypy_model *)object)->dim);
}

static PyObject *model_repr(PyObject *object)
{
    struct mlypy_model *self = (struct mlypy_model *)object;
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    struct memalloy_error err = {0};
    if (memalloy_model_get_info(self->model, &info, &err) != MEMALLOY_OK) {
        return PyUnicode_FromString("Model()"); /* of the parent process */
    }
    PyObject *id = mlypy_str(self->state, info.id);
    PyObject *text = id == NULL ? NULL
                                : PyUnicode_FromFormat("Model(%R, %s, dim=%u)", id,
                                                       info.quantisation.data, info.dim);
    Py_XDECREF(id);
    return text;
}

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef model_methods[] = {
    {"embed", KEYWORDS(mlypy_model_embed), METH_VARARGS | METH_KEYWORDS,
     "embed($self, /, texts, kind='passage', progress=None)\n--\n\n"
     "Vectors of texts, as memalloy.embed() gives them."},
    {"tokenize", KEYWORDS(mlypy_model_tokenize), METH_VARARGS | METH_KEYWORDS,
     "tokenize($self, /, text, special_tokens=False)\n--\n\n"
     "The ids of a text's word pieces, as memalloy.tokenize() gives them."},
    {"info", model_info, METH_NOARGS,
     "info($self, /)\n--\n\n"
     "A dict: id, hash, dim, pieces_max, pooling, quantisation, query_prefix, passage_prefix,\n"
     "kernels, path, threads."},
    {"verify", model_verify, METH_NOARGS,
     "verify($self, /)\n--\n\n"
     "Reads all weights and compares them with their checksum: CorruptError where they differ."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef model_getset[] = {
    {"id", model_get_id, NULL, "the model's own name", NULL},
    {"dim", model_get_dim, NULL, "numbers of a vector", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_doc, (void *)"Model(path=None, *, threads=None)\n--\n\n"
                        "An open model; usable from any thread.\n\n"
                        "path: a model file, a folder with model.onnx, or the name of one in the\n"
                        "models' folder; None: the default. threads: from 1; None: every core the\n"
                        "process may use."},
    {Py_tp_new, (void *)model_new},
    {Py_tp_dealloc, (void *)model_dealloc},
    {Py_tp_traverse, (void *)model_traverse},
    {Py_tp_repr, (void *)model_repr},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_getset},
    {0, NULL},
};

PyType_Spec mlypy_model_spec = {
    .name = "memalloy.Model",
    .basicsize = sizeof(struct mlypy_model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};
