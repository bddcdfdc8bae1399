/* In: Vectors. Out: a DLPack capsule over the same numbers, which live on until whoever took the
 * capsule lets go of them, in whatever thread and with or without the GIL. The two structs are
 * those of DLPack 1.0 and of what came before it; their layout is the interface. */
#include "vectors_type.h"

#include "raise.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_CPU 1
#define CODE_FLOAT 2
#define FLAG_COPIED 2u

struct dl_tensor {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides; /* strides in elements */
    uint64_t byte_offset;
};

struct dl_managed {
    struct dl_tensor tensor;
    void *context;
    void (*deleter)(struct dl_managed *self);
};

struct dl_managed_versioned {
    struct {
        uint32_t major, minor;
    } version;
    void *context;
    void (*deleter)(struct dl_managed_versioned *self);
    uint64_t flags;
    struct dl_tensor tensor;
};

_Static_assert(sizeof(void *) != 8 || sizeof(struct dl_tensor) == 48, "DLPack's layout");

/* What a capsule gives out: one of the two, and what it points to. */
struct export
{
    union {
        struct dl_managed plain;
        struct dl_managed_versioned versioned;
    } managed;
    struct mlypy_block *block;
    int64_t shape[2], strides[2];
};

static void release(struct export *export)
{
    mlypy_block_release(export->block);
    free(export);
}

static void delete_plain(struct dl_managed *self)
{
    release(self->context);
}

static void delete_versioned(struct dl_managed_versioned *self)
{
    release(self->context);
}

/* A capsule that nobody took still has its first name. */
static void destroy_plain(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        struct dl_managed *managed = PyCapsule_GetPointer(capsule, "dltensor");
        managed->deleter(managed);
    }
}

static void destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        struct dl_managed_versioned *managed = PyCapsule_GetPointer(capsule, "dltensor_versioned");
        managed->deleter(managed);
    }
}

static struct dl_tensor tensor_of(struct export *export)
{
    return (struct dl_tensor){
        .data = export->block->data,
        .device = {DEVICE_CPU, 0},
        .ndim = 2,
        .dtype = {CODE_FLOAT, 32, 1},
        .shape = export->shape,
        .strides = export->strides,
    };
}

static PyObject *capsule_of(struct export *export, bool versioned, bool copied)
{
    PyObject *capsule;
    if (versioned) {
        export->managed.versioned = (struct dl_managed_versioned){
            .version = {1, 0},
            .context = export,
            .deleter = delete_versioned,
            .flags = copied ? FLAG_COPIED : 0,
            .tensor = tensor_of(export),
        };
        capsule =
            PyCapsule_New(&export->managed.versioned, "dltensor_versioned", destroy_versioned);
    } else {
        export->managed.plain = (struct dl_managed){
            .tensor = tensor_of(export), .context = export, .deleter = delete_plain};
        capsule = PyCapsule_New(&export->managed.plain, "dltensor", destroy_plain);
    }
    if (capsule == NULL) {
        release(export);
    }
    return capsule;
}

/* The block itself, or a copy of it; counted for the caller. */
static struct mlypy_block *take_block(struct mlypy_vectors *self, bool copy)
{
    const size_t count = (size_t)(self->shape[0] * self->shape[1]);
    if (!copy) {
        atomic_fetch_add(&self->block->refs, 1);
        return self->block;
    }
    struct mlypy_block *block = mlypy_block_create(count);
    if (block != NULL) {
        memcpy(block->data, self->data, count * sizeof(float));
    }
    return block;
}

static bool is_int(PyObject *pair, Py_ssize_t i, long *out)
{
    PyObject *item = PyTuple_GetItem(pair, i);
    *out = item == NULL ? -1 : PyLong_AsLong(item);
    return !(*out == -1 && PyErr_Occurred());
}

/* A pair of numbers, or None (false without an exception). */
static bool take_pair(PyObject *object, const char *name, long pair[2])
{
    if (object == NULL || object == Py_None) {
        return false;
    }
    if (!PyTuple_Check(object) || PyTuple_Size(object) != 2) {
        mlypy_raise_type(name, "a tuple of two numbers or None", object);
        return false;
    }
    return is_int(object, 0, &pair[0]) && is_int(object, 1, &pair[1]);
}

PyObject *mlypy_vectors_dlpack(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    struct mlypy_vectors *self = (struct mlypy_vectors *)object;
    PyObject *stream = NULL, *version = NULL, *device = NULL, *copy_object = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO", names, &stream, &version, &device,
                                     &copy_object)) {
        return NULL;
    }
    if (stream != NULL && stream != Py_None) {
        PyErr_SetString(PyExc_BufferError, "the numbers are in the CPU's memory: stream is None");
        return NULL;
    }
    long wanted[2] = {DEVICE_CPU, 0}, newest[2] = {0, 0};
    take_pair(device, "dl_device", wanted);
    if (PyErr_Occurred() == NULL) {
        take_pair(version, "max_version", newest);
    }
    int copy = copy_object == NULL || copy_object == Py_None ? 0 : PyObject_IsTrue(copy_object);
    if (copy < 0 || PyErr_Occurred() != NULL) {
        return NULL;
    }
    if (wanted[0] != DEVICE_CPU || wanted[1] != 0) {
        return PyErr_Format(PyExc_BufferError,
                            "the numbers are in the CPU's memory, device (1, 0), not (%ld, %ld)",
                            wanted[0], wanted[1]);
    }
    struct export *export = calloc(1, sizeof(*export));
    if (export == NULL) {
        return PyErr_NoMemory();
    }
    export->block = take_block(self, copy != 0);
    if (export->block == NULL) {
        free(export);
        return NULL;
    }
    export->shape[0] = self->shape[0];
    export->shape[1] = self->shape[1];
    export->strides[0] = self->shape[1];
    export->strides[1] = 1;
    return capsule_of(export, newest[0] >= 1, copy != 0);
}

PyObject *mlypy_vectors_dlpack_device(PyObject *Py_UNUSED(object), PyObject *Py_UNUSED(unused))
{
    return Py_BuildValue("(ii)", DEVICE_CPU, 0);
}
