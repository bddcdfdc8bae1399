/* In: nothing but a shape. Out: an array that numpy, memoryview and search_vector read without a
 * copy, and that needs none of them to be looked at. */
#include "vectors_type.h"

#include "convert.h"
#include "raise.h"

#include <stddef.h>
#include <stdlib.h>
#include <structmember.h>

struct mlypy_block *mlypy_block_create(size_t count)
{
    struct mlypy_block *block = NULL;
    if (count <= ((size_t)PY_SSIZE_T_MAX - sizeof(*block)) / sizeof(float)) {
        block = calloc(1, sizeof(*block) + count * sizeof(float));
    }
    if (block == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    atomic_init(&block->refs, 1);
    return block;
}

void mlypy_block_release(struct mlypy_block *block)
{
    if (block != NULL && atomic_fetch_sub(&block->refs, 1) == 1) {
        free(block);
    }
}

struct mlypy_vectors *mlypy_vectors_create(struct mlypy_state *state, size_t count, size_t dim)
{
    if (dim == 0 || count > (size_t)PY_SSIZE_T_MAX / sizeof(float) / dim) {
        PyErr_NoMemory();
        return NULL;
    }
    struct mlypy_vectors *self =
        (struct mlypy_vectors *)PyType_GenericAlloc(state->vectors_type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->block = mlypy_block_create(count * dim);
    if (self->block == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    self->data = self->block->data;
    self->shape[0] = (Py_ssize_t)count;
    self->shape[1] = (Py_ssize_t)dim;
    self->strides[0] = (Py_ssize_t)(dim * sizeof(float));
    self->strides[1] = (Py_ssize_t)sizeof(float);
    return self;
}

static void vectors_dealloc(PyObject *object)
{
    mlypy_block_release(((struct mlypy_vectors *)object)->block);
    mlypy_object_free(object);
}

static int vectors_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    if ((flags & PyBUF_F_CONTIGUOUS) == PyBUF_F_CONTIGUOUS && self->shape[0] > 1 &&
        self->shape[1] > 1) {
        PyErr_SetString(PyExc_BufferError, "vectors are row-major, not column-major");
        view->obj = NULL;
        return -1;
    }
    *view = (Py_buffer){
        .buf = self->data,
        .obj = Py_NewRef(object),
        .len = self->shape[0] * self->strides[0],
        .itemsize = (Py_ssize_t)sizeof(float),
        .ndim = 2,
        .format = (flags & PyBUF_FORMAT) == PyBUF_FORMAT ? (char *)"f" : NULL,
        .shape = (flags & PyBUF_ND) == PyBUF_ND ? self->shape : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? self->strides : NULL,
    };
    return 0;
}

static Py_ssize_t vectors_length(PyObject *object)
{
    return ((struct mlypy_vectors *)object)->shape[0];
}

static PyObject *row_as_list(const struct mlypy_vectors *self, Py_ssize_t row)
{
    const float *numbers = self->data + row * self->shape[1];
    PyObject *list = PyList_New(self->shape[1]);
    for (Py_ssize_t i = 0; list != NULL && i < self->shape[1]; i++) {
        PyObject *number = PyFloat_FromDouble((double)numbers[i]);
        if (number == NULL || PyList_SetItem(list, i, number) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *rows_as_list(const struct mlypy_vectors *self, Py_ssize_t start, Py_ssize_t step,
                              Py_ssize_t count)
{
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        PyObject *row = row_as_list(self, start + i * step);
        if (row == NULL || PyList_SetItem(list, i, row) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *vectors_subscript(PyObject *object, PyObject *key)
{
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    if (Py_IS_TYPE(key, &PySlice_Type)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return NULL;
        }
        Py_ssize_t count = PySlice_AdjustIndices(self->shape[0], &start, &stop, step);
        return rows_as_list(self, start, step, count);
    }
    if (!PyIndex_Check(key)) {
        return mlypy_raise_type("index", "an int or a slice", key);
    }
    Py_ssize_t row = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (row == -1 && PyErr_Occurred()) {
        return NULL;
    }
    Py_ssize_t index = row < 0 ? row + self->shape[0] : row;
    if (index < 0 || index >= self->shape[0]) {
        return PyErr_Format(PyExc_IndexError, "row %zd of %zd vectors", row, self->shape[0]);
    }
    return row_as_list(self, index);
}

static PyObject *vectors_item(PyObject *object, Py_ssize_t row)
{
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    if (row < 0 || row >= self->shape[0]) {
        return PyErr_Format(PyExc_IndexError, "row %zd of %zd vectors", row, self->shape[0]);
    }
    return row_as_list(self, row);
}

static PyObject *vectors_tolist(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    return rows_as_list(self, 0, 1, self->shape[0]);
}

static PyObject *vectors_get_shape(PyObject *object, void *Py_UNUSED(closure))
{
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    return Py_BuildValue("(nn)", self->shape[0], self->shape[1]);
}

static PyObject *vectors_repr(PyObject *object)
{
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    return PyUnicode_FromFormat("Vectors(shape=(%zd, %zd), truncated=%zd)", self->shape[0],
                                self->shape[1], self->truncated);
}

static PyMethodDef vectors_methods[] = {
    {"tolist", vectors_tolist, METH_NOARGS,
     "tolist($self, /)\n--\n\nThe numbers as a list of count lists of dim floats."},
    {"__dlpack__", (PyCFunction)(void (*)(void))mlypy_vectors_dlpack, METH_VARARGS | METH_KEYWORDS,
     "__dlpack__($self, /, *, stream=None, max_version=None, dl_device=None, copy=None)\n--\n\n"
     "The numbers as a DLPack capsule, for numpy.from_dlpack, torch.from_dlpack and the like,\n"
     "without a copy unless copy is True."},
    {"__dlpack_device__", mlypy_vectors_dlpack_device, METH_NOARGS,
     "__dlpack_device__($self, /)\n--\n\nWhere the numbers are: (1, 0), the memory of the CPU."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef vectors_getset[] = {
    {"shape", vectors_get_shape, NULL, "(count, dim)", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef vectors_members[] = {
    {"truncated", T_PYSSIZET, offsetof(struct mlypy_vectors, truncated), READONLY,
     "How many texts were longer than the model reads; their vectors stand for their beginnings."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot vectors_slots[] = {
    {Py_tp_doc,
     (void
          *)"Vectors of embed(): float32, shape (count, dim), row-major, each of length 1.\n\n"
            "numpy.asarray(vectors), memoryview(vectors) and torch.from_dlpack(vectors) share the\n"
            "memory; len(), [i] and tolist() need none of them."},
    {Py_tp_dealloc, (void *)vectors_dealloc},
    {Py_tp_repr, (void *)vectors_repr},
    {Py_tp_methods, vectors_methods},
    {Py_tp_getset, vectors_getset},
    {Py_tp_members, vectors_members},
    {Py_sq_length, (void *)vectors_length},
    {Py_sq_item, (void *)vectors_item},
    {Py_mp_length, (void *)vectors_length},
    {Py_mp_subscript, (void *)vectors_subscript},
    {Py_bf_getbuffer, (void *)vectors_getbuffer},
    {0, NULL},
};

PyType_Spec mlypy_vectors_spec = {
    .name = "memalloy.Vectors",
    .basicsize = sizeof(struct mlypy_vectors),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = vectors_slots,
};
