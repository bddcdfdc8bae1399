/* Open models: the user's own, and those that the module keeps so that embed() and tokenize() load
 * one once.
 *
 * Threads  with the GIL held; the model itself may be used without it by whoever holds the object.
 */
#ifndef MLYPY_MODEL_TYPE_H
#define MLYPY_MODEL_TYPE_H

#include "state.h"

struct mlypy_model {
    PyObject_HEAD struct mlypy_state *state; /* borrowed: the type holds the module */
    memalloy_model *model;
    long pid; /* of the process that opened it: a child opens its own */
    uint32_t dim;
};

/* The path that None or NULL stands for: $MEMALLOY_MODEL, else the model inside the package; a new
 * bytes object, or None where there is neither and the library is to look for itself. */
PyObject *mlypy_model_path(PyObject *model, const char *name);

/* Where a model at path (bytes, or None) needs ONNX Runtime and that is installed: the path of its
 * library, a new bytes object; else None. */
PyObject *mlypy_runtime_path(PyObject *path);

/* The open model of a path (None or NULL: the default), or the Model that was given. New reference,
 * NULL with an exception. */
struct mlypy_model *mlypy_model_get(struct mlypy_state *state, PyObject *model, const char *name);

/* What is known of a model, as a dict. */
PyObject *mlypy_model_info_dict(struct mlypy_state *state, const struct memalloy_model_info *info);

/* ---- models.c: functions of the module for memalloy/models.py ---- */

/* runtime: the path of ONNX Runtime's library, or None. */
PyObject *mlypy_models_list(PyObject *module, PyObject *runtime);
PyObject *mlypy_models_remove(PyObject *module, PyObject *name);
PyObject *mlypy_models_add(PyObject *module, PyObject *args);

/* ---- model_embed.c: functions of the module, and methods of Model of the same names ---- */

PyObject *mlypy_embed(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *mlypy_tokenize(PyObject *module, PyObject *args, PyObject *kwargs);
PyObject *mlypy_model_embed(PyObject *model, PyObject *args, PyObject *kwargs);
PyObject *mlypy_model_tokenize(PyObject *model, PyObject *args, PyObject *kwargs);

#endif
