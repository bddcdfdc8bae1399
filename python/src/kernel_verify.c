/* In: an open store. Out: what became of its files, as a dict. */
#include "kernel_type.h"

#include "convert.h"
#include "raise.h"

struct verifying {
    struct mlypy_state *state;
    const struct mlypy_kernel *kernel;
    PyThreadState *thread;
    PyObject *damaged; /* list of (path, reason) */
    unsigned long long files, bytes, without_sums;
};

static int note_damage(struct verifying *verifying, const struct memalloy_verified *file)
{
    PyObject *item = Py_BuildValue(
        "(NN)", PyUnicode_DecodeFSDefault(file->path.data),
        PyUnicode_DecodeUTF8(file->reason.data, (Py_ssize_t)file->reason.bytes, "replace"));
    int rc = item == NULL ? -1 : PyList_Append(verifying->damaged, item);
    Py_XDECREF(item);
    return rc < 0;
}

/* A memalloy_verify_fn. */
static int take(void *context, const struct memalloy_verified *file)
{
    struct verifying *verifying = context;
    verifying->files++;
    verifying->bytes += file->bytes;
    verifying->without_sums += !file->has_sums;
    PyEval_RestoreThread(verifying->thread);
    int stop = PyErr_CheckSignals() < 0 || verifying->kernel->closed;
    if (!stop && file->reason.data != NULL) {
        stop = note_damage(verifying, file);
    }
    verifying->thread = PyEval_SaveThread();
    return stop;
}

PyObject *mlypy_kernel_verify(PyObject *object, PyObject *Py_UNUSED(unused))
{
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    struct verifying verifying = {.state = self->state, .kernel = self};
    struct memalloy_error err = {0};
    verifying.damaged = PyList_New(0);
    if (verifying.damaged == NULL || !mlypy_kernel_enter(self)) {
        Py_XDECREF(verifying.damaged);
        return NULL;
    }
    verifying.thread = PyEval_SaveThread();
    int rc = memalloy_verify(self->handle, take, &verifying, NULL, &err);
    PyEval_RestoreThread(verifying.thread);
    PyObject *result = NULL;
    if (!PyErr_Occurred()) {
        result = rc == MEMALLOY_OK
                     ? Py_BuildValue("{s:K,s:K,s:K,s:O}", "files", verifying.files, "bytes",
                                     verifying.bytes, "without_sums", verifying.without_sums,
                                     "damaged", verifying.damaged)
                     : mlypy_raise(self->state, &err);
    }
    mlypy_kernel_leave(self);
    Py_DECREF(verifying.damaged);
    return result;
}
