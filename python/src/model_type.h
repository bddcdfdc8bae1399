/* Open models, kept by the module so that embed() and tokenize() load one once.
 *
 * Threads  with the GIL held; the model itself may be used without it by whoever holds the object.
 */
#ifndef MLYPY_MODEL_TYPE_H
#define MLYPY_MODEL_TYPE_H

#include "state.h"

struct mlypy_model {
    PyObject_HEAD memalloy_model *model;
    long pid; /* of the process that opened it: a child opens its own */
    uint32_t dim;
};

/* The path that None or NULL stands for: $MEMALLOY_MODEL, else the model inside the package; a new
 * bytes object, or None where there is neither and the library is to look for itself. */
PyObject *mlypy_model_path(PyObject *model, const char *name);

/* Where a model at path (bytes, or None) needs ONNX Runtime and that is installed: the path of its
 * library, a new bytes object; else None. */
PyObject *mlypy_runtime_path(PyObject *path);

/* The open model of a path (None or NULL: the default). New reference, NULL with an exception. */
struct mlypy_model *mlypy_model_get(struct mlypy_state *state, PyObject *model, const char *name);

#endif
