/* In: a folder, patterns, whom to tell. Out: a report. */
#include "convert.h"
#include "kernel_type.h"
#include "raise.h"
#include "report_type.h"
#include "watch.h"

#include <string.h>

/* Patterns as C strings: *tuple owns them, *array is the caller's to free. */
static bool patterns(PyObject *object, const char *name, PyObject **tuple, const char ***array,
                     size_t *count)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    *tuple = mlypy_tuple(object, name, "a sequence of str or None");
    if (*tuple == NULL) {
        return false;
    }
    *count = (size_t)PyTuple_Size(*tuple);
    *array = mlypy_array(*count, sizeof(**array));
    if (*array == NULL) {
        return false;
    }
    for (size_t i = 0; i < *count; i++) {
        char item[48];
        PyOS_snprintf(item, sizeof(item), "%s[%zu]", name, i);
        (*array)[i] = mlypy_cstring(PyTuple_GetItem(*tuple, (Py_ssize_t)i), item);
        if ((*array)[i] == NULL) {
            return false;
        }
    }
    return true;
}

static PyObject *run_sync(struct mlypy_kernel *self, const char *folder, PyObject *callback,
                          struct memalloy_sync_options *options)
{
    if (!mlypy_kernel_enter(self)) {
        return NULL;
    }
    struct mlypy_watch watch;
    memalloy_report *report = NULL;
    struct memalloy_error err = {0};
    options->progress = mlypy_watch_progress;
    options->progress_context = &watch;
    mlypy_watch_begin(&watch, self->state, self, callback);
    int rc = memalloy_sync(self->handle, folder, options, &report, &err);
    mlypy_watch_end(&watch);
    PyObject *result =
        mlypy_watch_failed(&watch, rc, &err) ? NULL : mlypy_report_from(self->state, report);
    memalloy_report_destroy(report);
    mlypy_kernel_leave(self);
    return result;
}

PyObject *mlypy_kernel_sync(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"folder",         "include",    "exclude", "progress",
                            "max_file_bytes", "durability", NULL};
    struct mlypy_kernel *self = (struct mlypy_kernel *)object;
    PyObject *folder;
    PyObject *include = NULL;
    PyObject *exclude = NULL;
    PyObject *progress = NULL;
    PyObject *max_bytes_object = NULL;
    PyObject *durability = NULL;
    struct memalloy_sync_options options = {.struct_bytes = sizeof(options)};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOOO$O", names, &folder, &include, &exclude,
                                     &progress, &max_bytes_object, &durability) ||
        !mlypy_durability(self->state, durability, &options.durability)) {
        return NULL;
    }
    PyObject *include_tuple = NULL;
    PyObject *exclude_tuple = NULL;
    const char **include_array = NULL;
    const char **exclude_array = NULL;
    PyObject *callback = NULL;
    PyObject *result = NULL;
    int64_t max_bytes = 0;
    PyObject *folder_bytes = mlypy_path(folder, "folder");
    if (folder_bytes != NULL &&
        patterns(include, "include", &include_tuple, &include_array, &options.include_count) &&
        patterns(exclude, "exclude", &exclude_tuple, &exclude_array, &options.exclude_count) &&
        mlypy_int_or_none(self->state, max_bytes_object, "max_file_bytes", 1, INT64_MAX, true,
                          &max_bytes) &&
        mlypy_watch_callback(progress, &callback)) {
        options.include = include_array;
        options.exclude = exclude_array;
        options.file_bytes_max = (uint64_t)max_bytes;
        result = run_sync(self, PyBytes_AsString(folder_bytes), callback, &options);
    }
    Py_XDECREF(folder_bytes);
    Py_XDECREF(include_tuple);
    Py_XDECREF(exclude_tuple);
    PyMem_Free((void *)include_array);
    PyMem_Free((void *)exclude_array);
    Py_XDECREF(callback);
    return result;
}
