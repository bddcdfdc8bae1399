/* In: a path and options. Out: an open store, by the class or by memalloy.open(). */
#include "kernel_type.h"

#include "convert.h"
#include "model_type.h"
#include "raise.h"
#include "strategy_type.h"

/* Opens path into self, which has no handle yet. model is None or NULL for the default one. */
static int open_store(struct mlypy_kernel *self, PyObject *path, PyObject *model,
                      struct memalloy_options *options)
{
    struct memalloy_model_options model_options = {.struct_bytes = sizeof(model_options)};
    struct memalloy_error err = {0};
    memalloy_kernel *handle = NULL;
    PyObject *model_path = NULL;
    PyObject *runtime = NULL;
    int result = -1;
    PyObject *path_bytes = mlypy_path(path, "path");
    if (path_bytes == NULL) {
        return -1;
    }
    if ((options->flags & MEMALLOY_OPEN_NO_MODEL) == 0) {
        model_path = mlypy_model_path(model, "model");
        if (model_path == NULL) {
            goto done;
        }
        runtime = mlypy_runtime_path(model_path);
        if (runtime == NULL) {
            goto done;
        }
        model_options.path = model_path == Py_None ? NULL : PyBytes_AsString(model_path);
        model_options.onnxruntime_path = runtime == Py_None ? NULL : PyBytes_AsString(runtime);
        model_options.threads = options->threads;
        options->model = &model_options;
    }
    const char *path_text = PyBytes_AsString(path_bytes);
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_open(&handle, path_text, options, &err);
    Py_END_ALLOW_THREADS
    if (rc != MEMALLOY_OK) {
        mlypy_raise(self->state, &err);
        goto done;
    }
    if (self->handle != NULL || self->closed) { /* another thread called __init__ meanwhile */
        (void)memalloy_close(handle, NULL);     /* nothing was written */
        mlypy_raise_code(self->state, MEMALLOY_ERR_INVAL, "the store is open already");
        goto done;
    }
    self->handle = handle;
    self->path = PyUnicode_DecodeFSDefault(path_text);
    result = self->path == NULL ? -1 : 0;
done:
    Py_XDECREF(runtime);
    Py_XDECREF(model_path);
    Py_DECREF(path_bytes);
    return result;
}

/* 1: the sizes ask for the sentence strategy and are in *out; 0: both are None; -1: exception. */
static int sentence_sizes(struct mlypy_state *state, PyObject *size, PyObject *overlap,
                          struct memalloy_chunking *out)
{
    *out = (struct memalloy_chunking){.struct_bytes = sizeof(*out),
                                      .kind = MEMALLOY_CHUNKING_SENTENCE,
                                      .size = MEMALLOY_SIZE_DEFAULT,
                                      .overlap = MEMALLOY_SIZE_DEFAULT};
    if (!mlypy_int_or_none(state, size, "chunk_size", INT64_MIN + 1, INT64_MAX, false,
                           &out->size) ||
        !mlypy_int_or_none(state, overlap, "overlap", INT64_MIN + 1, INT64_MAX, false,
                           &out->overlap)) {
        return -1;
    }
    return out->size == MEMALLOY_SIZE_DEFAULT && out->overlap == MEMALLOY_SIZE_DEFAULT ? 0 : 1;
}

/* What both ways of opening take behind a path. */
struct promises {
    PyObject *durability, *memory_limit, *recall;
    int network_fs;
};

static bool take_promises(struct mlypy_state *state, const struct promises *promises,
                          struct memalloy_options *options)
{
    int64_t memory = 0;
    if (!mlypy_durability(state, promises->durability, &options->durability) ||
        !mlypy_int_or_none(state, promises->memory_limit, "memory_limit", 1, INT64_MAX, true,
                           &memory) ||
        !mlypy_recall(state, promises->recall, &options->recall)) {
        return false;
    }
    options->memory_bytes_max = (uint64_t)memory;
    options->flags |= promises->network_fs ? MEMALLOY_OPEN_NETWORK_FS : 0u;
    return true;
}

int mlypy_kernel_init(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"db_path",      "chunk_size",       "overlap", "durability",
                            "memory_limit", "allow_network_fs", "recall",  NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *path = NULL;
    PyObject *size = NULL;
    PyObject *overlap = NULL;
    struct promises promises = {0};
    struct memalloy_options options = {.struct_bytes = sizeof(options)};
    struct memalloy_chunking chunking;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OOO$OOpO", names, &path, &size, &overlap,
                                     &promises.durability, &promises.memory_limit,
                                     &promises.network_fs, &promises.recall) ||
        !take_promises(self->state, &promises, &options)) {
        return -1;
    }
    if (self->handle != NULL || self->closed) {
        mlypy_raise_code(self->state, MEMALLOY_ERR_INVAL, "the store is open already");
        return -1;
    }
    int sized = sentence_sizes(self->state, size, overlap, &chunking);
    if (sized < 0) {
        return -1;
    }
    options.chunking = sized ? &chunking : NULL;
    path =
        path == NULL || path == Py_None ? PyUnicode_FromString(".memalloy_data") : Py_NewRef(path);
    int rc = path == NULL ? -1 : open_store(self, path, NULL, &options);
    Py_XDECREF(path);
    return rc;
}

/* lock_timeout in seconds to milliseconds; 0 of the interface means its default, so that "do not
 * wait" is its shortest wait. */
static bool lock_wait(struct mlypy_state *state, PyObject *object, uint32_t *out)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        mlypy_raise_type("lock_timeout", "a number of seconds or None", object);
        return false;
    }
    if (!(seconds >= 0.0 && seconds <= 4000000.0)) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL,
                         "lock_timeout must be from 0 to 4000000 seconds, not %S", object);
        return false;
    }
    *out = seconds < 0.001 ? 1 : (uint32_t)(seconds * 1000.0);
    return true;
}

static bool open_options(struct mlypy_state *state, PyObject *dim_object, PyObject *threads_object,
                         PyObject *wait_object, PyObject *chunking_object,
                         struct memalloy_options *options)
{
    int64_t dim = 0;
    int64_t threads = 0;
    if (!mlypy_int_or_none(state, dim_object, "dim", 1, INT32_MAX, false, &dim) ||
        !mlypy_int_or_none(state, threads_object, "threads", 1, INT32_MAX, true, &threads) ||
        !lock_wait(state, wait_object, &options->lock_wait_ms)) {
        return false;
    }
    options->dim = (uint32_t)dim;
    options->threads = (uint32_t)threads;
    if (chunking_object != NULL && chunking_object != Py_None) {
        if (!Py_IS_TYPE(chunking_object, state->strategy_type)) {
            mlypy_raise_type("chunking", "a ChunkingStrategy or None", chunking_object);
            return false;
        }
        options->chunking = &((struct mlypy_strategy *)chunking_object)->chunking;
    }
    return true;
}

PyObject *mlypy_kernel_open(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {
        "path",         "model",      "dim",          "read_only",        "threads", "chunking",
        "lock_timeout", "durability", "memory_limit", "allow_network_fs", "recall",  NULL};
    struct mlypy_state *state = mlypy_module_state(module);
    PyObject *path;
    PyObject *model = NULL;
    PyObject *dim = NULL;
    PyObject *threads = NULL;
    PyObject *chunking = NULL;
    PyObject *wait = NULL;
    int read_only = 0;
    struct promises promises = {0};
    struct memalloy_options options = {.struct_bytes = sizeof(options)};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$OOpOOOOOpO", names, &path, &model, &dim,
                                     &read_only, &threads, &chunking, &wait, &promises.durability,
                                     &promises.memory_limit, &promises.network_fs,
                                     &promises.recall) ||
        !open_options(state, dim, threads, wait, chunking, &options) ||
        !take_promises(state, &promises, &options)) {
        return NULL;
    }
    if (read_only) {
        options.flags |= MEMALLOY_OPEN_READONLY;
    }
    if (options.dim != 0 && (model == NULL || model == Py_None)) {
        options.flags |= MEMALLOY_OPEN_NO_MODEL;
    }
    PyObject *object = mlypy_kernel_new(state->kernel_type, NULL, NULL);
    if (object != NULL && open_store((struct mlypy_kernel *)object, path, model, &options) < 0) {
        Py_CLEAR(object);
    }
    return object;
}
