/* In: an open store. Out: what became of its files, as a dict. */
#include "job.h"

#include "convert.h"

#include <stdlib.h>
#include <string.h>

/* A damaged file, in one block with its two texts. */
struct damage {
    struct damage *next;
    size_t path_bytes, reason_bytes;
    char text[]; /* path, reason */
};

struct verify_job {
    struct mlypy_job job;
    struct damage *first, **last;
    unsigned long long files, bytes, without_sums;
};

/* The GIL may not be held: no Python here. */
static bool note_damage(struct verify_job *verify, const struct memalloy_verified *file)
{
    struct damage *damage = malloc(sizeof(*damage) + file->path.bytes + file->reason.bytes);
    if (damage == NULL) {
        return false;
    }
    damage->next = NULL;
    damage->path_bytes = file->path.bytes;
    damage->reason_bytes = file->reason.bytes;
    memcpy(damage->text, file->path.data, file->path.bytes);
    memcpy(damage->text + file->path.bytes, file->reason.data, file->reason.bytes);
    *verify->last = damage;
    verify->last = &damage->next;
    return true;
}

/* A memalloy_verify_fn. */
static int take(void *context, const struct memalloy_verified *file)
{
    struct verify_job *verify = context;
    const struct memalloy_progress progress = {.struct_bytes = sizeof(progress)};
    verify->files++;
    verify->bytes += file->bytes;
    verify->without_sums += !file->has_sums;
    if (file->reason.data != NULL && !note_damage(verify, file)) {
        return 1;
    }
    return verify->job.progress(verify->job.progress_context, &progress);
}

static int run_verify(struct mlypy_job *job, struct memalloy_error *err)
{
    struct verify_job *verify = (struct verify_job *)job;
    verify->last = &verify->first;
    return memalloy_verify(job->handle, take, verify, NULL, err);
}

static PyObject *finish_verify(struct mlypy_job *job)
{
    const struct verify_job *verify = (const struct verify_job *)job;
    PyObject *damaged = PyList_New(0);
    for (const struct damage *at = verify->first; damaged != NULL && at != NULL; at = at->next) {
        PyObject *item = Py_BuildValue(
            "(NN)", PyUnicode_DecodeFSDefaultAndSize(at->text, (Py_ssize_t)at->path_bytes),
            PyUnicode_DecodeUTF8(at->text + at->path_bytes, (Py_ssize_t)at->reason_bytes,
                                 "replace"));
        if (item == NULL || PyList_Append(damaged, item) < 0) {
            Py_CLEAR(damaged);
        }
        Py_XDECREF(item);
    }
    return damaged == NULL
               ? NULL
               : Py_BuildValue("{s:K,s:K,s:K,s:N}", "files", verify->files, "bytes", verify->bytes,
                               "without_sums", verify->without_sums, "damaged", damaged);
}

static void clear_verify(struct mlypy_job *job)
{
    struct damage *at = ((struct verify_job *)job)->first;
    while (at != NULL) {
        struct damage *next = at->next;
        free(at);
        at = next;
    }
}

PyObject *mlypy_kernel_verify(PyObject *object, PyObject *Py_UNUSED(unused))
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct verify_job),
        .is_long = true,
        .run = run_verify,
        .finish = finish_verify,
        .clear = clear_verify,
    };
    struct verify_job *verify = mlypy_job_new((struct mlypy_kernel *)object, &kind);
    return verify == NULL ? NULL : mlypy_job_call(&verify->job, NULL);
}
