/* In: a folder, patterns, whom to tell. Out: a report. */
#include "convert.h"
#include "job.h"
#include "report_type.h"
#include "watch.h"

#include <string.h>

struct sync_job {
    struct mlypy_job job;
    const char *folder;
    const char **include, **exclude, **paths; /* owned; the strings are held */
    struct memalloy_sync_options options;
    memalloy_report *report;
};

/* Patterns as C strings; *array is the job's to free. */
static bool patterns(struct mlypy_job *job, PyObject *object, const char *name, const char ***array,
                     size_t *count)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    PyObject *tuple = mlypy_tuple(object, name, "a sequence of str or None");
    bool ok = tuple != NULL && mlypy_job_hold(job, tuple);
    Py_XDECREF(tuple);
    if (!ok) {
        return false;
    }
    *count = (size_t)PyTuple_Size(tuple);
    *array = mlypy_array(*count, sizeof(**array));
    if (*array == NULL) {
        return false;
    }
    for (size_t i = 0; i < *count; i++) {
        char item[48];
        PyOS_snprintf(item, sizeof(item), "%s[%zu]", name, i);
        (*array)[i] = mlypy_cstring(PyTuple_GetItem(tuple, (Py_ssize_t)i), item);
        if ((*array)[i] == NULL) {
            return false;
        }
    }
    return true;
}

/* Paths as C strings, in the same way. */
static bool take_paths(struct sync_job *sync, PyObject *object)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    PyObject *tuple = mlypy_tuple(object, "paths", "a sequence of paths or None");
    size_t count = tuple == NULL ? 0 : (size_t)PyTuple_Size(tuple);
    sync->paths = tuple == NULL ? NULL : mlypy_array(count, sizeof(*sync->paths));
    bool ok = sync->paths != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        PyObject *bytes = mlypy_path(PyTuple_GetItem(tuple, (Py_ssize_t)i), "paths");
        ok = bytes != NULL && mlypy_job_hold(&sync->job, bytes);
        if (ok) {
            sync->paths[i] = PyBytes_AsString(bytes);
        }
        Py_XDECREF(bytes);
    }
    Py_XDECREF(tuple);
    sync->options.paths = sync->paths;
    sync->options.path_count = count;
    return ok;
}

static int run_sync(struct mlypy_job *job, struct memalloy_error *err)
{
    struct sync_job *sync = (struct sync_job *)job;
    sync->options.progress = job->progress;
    sync->options.progress_context = job->progress_context;
    return memalloy_sync(job->handle, sync->folder, &sync->options, &sync->report, err);
}

static PyObject *finish_sync(struct mlypy_job *job)
{
    return mlypy_report_from(job->kernel->state, ((struct sync_job *)job)->report);
}

static void clear_sync(struct mlypy_job *job)
{
    struct sync_job *sync = (struct sync_job *)job;
    memalloy_report_destroy(sync->report);
    PyMem_Free((void *)sync->include);
    PyMem_Free((void *)sync->exclude);
    PyMem_Free((void *)sync->paths);
}

static const struct mlypy_job_kind sync_kind = {
    .bytes = sizeof(struct sync_job),
    .is_long = true,
    .run = run_sync,
    .finish = finish_sync,
    .clear = clear_sync,
};

PyObject *mlypy_kernel_sync(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"folder",     "include", "exclude",   "progress", "max_file_bytes",
                            "durability", "paths",   "recursive", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *folder;
    PyObject *include = NULL;
    PyObject *exclude = NULL;
    PyObject *progress = NULL;
    PyObject *max_bytes_object = NULL;
    PyObject *durability = NULL;
    PyObject *paths = NULL;
    int recursive = 1;
    struct memalloy_sync_options options = {.struct_bytes = sizeof(options)};
    int64_t max_bytes = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOO$OOp", names, &folder, &include, &exclude,
                                     &progress, &max_bytes_object, &durability, &paths,
                                     &recursive) ||
        !mlypy_durability(self->state, durability, &options.durability)) {
        return NULL;
    }
    PyObject *callback = NULL;
    PyObject *result = NULL;
    PyObject *folder_bytes = mlypy_path(folder, "folder");
    struct sync_job *sync = folder_bytes == NULL ? NULL : mlypy_job_new(self, &sync_kind);
    if (sync != NULL) {
        sync->options = options;
        sync->folder = PyBytes_AsString(folder_bytes);
        bool ok = mlypy_job_hold(&sync->job, folder_bytes) &&
                  patterns(&sync->job, include, "include", &sync->include,
                           &sync->options.include_count) &&
                  patterns(&sync->job, exclude, "exclude", &sync->exclude,
                           &sync->options.exclude_count) &&
                  mlypy_int_or_none(self->state, max_bytes_object, "max_file_bytes", 1, INT64_MAX,
                                    true, &max_bytes) &&
                  take_paths(sync, paths) && mlypy_watch_callback(progress, &callback);
        sync->options.include = sync->include;
        sync->options.exclude = sync->exclude;
        sync->options.flags = recursive != 0 ? 0 : MEMALLOY_SYNC_FLAT;
        sync->options.file_bytes_max = (uint64_t)max_bytes;
        if (ok) {
            result = mlypy_job_call(&sync->job, callback);
        } else {
            mlypy_job_free(&sync->job);
        }
    }
    Py_XDECREF(folder_bytes);
    Py_XDECREF(callback);
    return result;
}
