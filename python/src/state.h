/* What one instance of the module holds: its types, its exceptions and what it borrows from json.
 *
 * Owns     the module owns every object here; the types hold the module, so that a state lives as
 *          long as any object of its types. No Python object stands in a C global.
 * Threads  read and written with the GIL held.
 */
#ifndef MLYPY_STATE_H
#define MLYPY_STATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <memalloy.h>

enum { MLYPY_ERR_COUNT = MEMALLOY_ERR_INTERNAL + 1 };

struct mlypy_job;

struct mlypy_state {
    PyObject *base_error;                  /* MemalloyError */
    PyObject *exceptions[MLYPY_ERR_COUNT]; /* by code; 0 is unused */
    PyObject *missing_file_error;          /* a file of the caller's that is not there */
    PyTypeObject *kernel_type;
    PyTypeObject *document_type;
    PyTypeObject *hit_type;
    PyTypeObject *report_type;
    PyTypeObject *strategy_type;
    PyTypeObject *vectors_type;
    PyTypeObject *model_type;
    PyTypeObject *folder_watch_type;
    PyTypeObject *spans_type;    /* struct sequence */
    PyTypeObject *progress_type; /* struct sequence */
    PyObject *json_encode;       /* bound: JSONEncoder(...).encode */
    PyObject *json_decode;       /* json.loads */
    PyObject *models;            /* dict: path or None -> open model */
    struct mlypy_job *left;      /* jobs that nobody waits for any more (aside.c) */
};

/* The state of the module that defines type, which may be a subclass made in Python. NULL with an
 * exception where there is none. */
struct mlypy_state *mlypy_state_of(PyTypeObject *type);

/* The state of a module object. */
struct mlypy_state *mlypy_module_state(PyObject *module);

/* The specs, one per type; each stands in the file of its type. */
extern PyType_Spec mlypy_kernel_spec;
extern PyType_Spec mlypy_document_spec;
extern PyType_Spec mlypy_hit_spec;
extern PyType_Spec mlypy_report_spec;
extern PyType_Spec mlypy_strategy_spec;
extern PyType_Spec mlypy_vectors_spec;
extern PyType_Spec mlypy_model_spec;
extern PyType_Spec mlypy_folder_watch_spec;
extern PyStructSequence_Desc mlypy_spans_desc;
extern PyStructSequence_Desc mlypy_progress_desc;

/* The release of an object whose type came from a spec: memory first, then the type. */
void mlypy_object_free(PyObject *object);

#endif
