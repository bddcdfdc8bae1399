/* What embed() gives: f32[count][dim] in memory of its own, readable through the buffer protocol.
 */
#ifndef MLYPY_VECTORS_TYPE_H
#define MLYPY_VECTORS_TYPE_H

#include "state.h"

#include <stdatomic.h>

/* The numbers, counted: whoever took them through DLPack may let go of them in any thread, without
 * the GIL, and after the object and even the interpreter are gone. */
struct mlypy_block {
    atomic_size_t refs;
    float data[];
};
void mlypy_block_release(struct mlypy_block *block);

struct mlypy_vectors {
    PyObject_HEAD struct mlypy_block *block;
    float *data;           /* f32[shape[0]][shape[1]], row-major; the block's */
    Py_ssize_t shape[2];   /* count, dim */
    Py_ssize_t strides[2]; /* in bytes */
    Py_ssize_t truncated;  /* texts that were longer than the model reads */
};

/* A block for count numbers, all zero; NULL with MemoryError. */
struct mlypy_block *mlypy_block_create(size_t count);
/* vectors_dlpack.c: the methods __dlpack__ and __dlpack_device__. */
PyObject *mlypy_vectors_dlpack(PyObject *object, PyObject *args, PyObject *kwargs);
PyObject *mlypy_vectors_dlpack_device(PyObject *object, PyObject *unused);

/* All zero; NULL with an exception. */
struct mlypy_vectors *mlypy_vectors_create(struct mlypy_state *state, size_t count, size_t dim);

#endif
