/* The type behind memalloy.FolderWatch: one folder that is followed. Its Python face is _watch.py.
 */
#ifndef MLYPY_FOLDER_WATCH_H
#define MLYPY_FOLDER_WATCH_H

#include "state.h"

/* RAGKernel._watch(folder, include, exclude, options) */
PyObject *mlypy_kernel_open_watch(PyObject *object, PyObject *args);
/* RAGKernel.watch(...), which is memalloy._watch.open_watch */
PyObject *mlypy_kernel_watch(PyObject *object, PyObject *args, PyObject *kwargs);

#endif
