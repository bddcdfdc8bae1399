/* In: the path of a model, or None. Out: an open model that stays open as long as the module keeps
 * it or a call uses it. A handful are kept; a program that walks through many models starts over.
 */
#include "model_type.h"

#include "convert.h"
#include "raise.h"

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
                                           PyObject *runtime)
{
    struct memalloy_model_options options = {.struct_bytes = sizeof(options)};
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
    self->dim = info.dim;
    self->pid = (long)getpid();
    return self;
}

static struct mlypy_model *open_model(struct mlypy_state *state, PyObject *path)
{
    PyObject *runtime = mlypy_runtime_path(path);
    if (runtime == NULL) {
        return NULL;
    }
    struct mlypy_model *self = open_model_with(state, path, runtime);
    Py_DECREF(runtime);
    return self;
}

struct mlypy_model *mlypy_model_get(struct mlypy_state *state, PyObject *model, const char *name)
{
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
    self = open_model(state, path);
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

static PyType_Slot model_slots[] = {
    {Py_tp_doc, (void *)"An open model; the module's own."},
    {Py_tp_dealloc, (void *)model_dealloc},
    {Py_tp_traverse, (void *)model_traverse},
    {0, NULL},
};

PyType_Spec mlypy_model_spec = {
    .name = "memalloy._memalloy._Model",
    .basicsize = sizeof(struct mlypy_model),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = model_slots,
};
