/* What embed() gives: f32[count][dim] in memory of its own, readable through the buffer protocol.
 */
#ifndef MLYPY_VECTORS_TYPE_H
#define MLYPY_VECTORS_TYPE_H

#include "state.h"

struct mlypy_vectors {
    PyObject_HEAD float *data; /* f32[shape[0]][shape[1]], row-major */
    Py_ssize_t shape[2];       /* count, dim */
    Py_ssize_t strides[2];     /* in bytes */
    Py_ssize_t truncated;      /* texts that were longer than the model reads */
};

/* All zero; NULL with an exception. */
struct mlypy_vectors *mlypy_vectors_create(struct mlypy_state *state, size_t count, size_t dim);

#endif
