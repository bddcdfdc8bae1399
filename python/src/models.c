/* In: names and folders. Out: what is in the models' folder, as dicts; memalloy/models.py is the
 * face of it. A conversion asks now and then whether to go on, for Ctrl-C and the callback. */
#include "convert.h"
#include "model_type.h"
#include "raise.h"

#include <string.h>

PyObject *mlypy_models_list(PyObject *module, PyObject *runtime)
{
    struct mlypy_state *state = mlypy_module_state(module);
    struct memalloy_model_options options = {.struct_bytes = sizeof(options)};
    struct memalloy_error err = {0};
    memalloy_models *models = NULL;
    PyObject *path = runtime == Py_None ? NULL : mlypy_path(runtime, "runtime");
    if (path == NULL && runtime != Py_None) {
        return NULL;
    }
    options.onnxruntime_path = path == NULL ? NULL : PyBytes_AsString(path);
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_models_list(&models, &options, &err);
    Py_END_ALLOW_THREADS
    Py_XDECREF(path);
    if (rc != MEMALLOY_OK) {
        return mlypy_raise(state, &err);
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; list != NULL && i < memalloy_models_count(models); i++) {
        struct memalloy_model_entry entry = {.struct_bytes = sizeof(entry)};
        memalloy_models_get(models, i, &entry);
        PyObject *dict = Py_BuildValue(
            "{s:N,s:N,s:O,s:N,s:N}", "name",
            PyUnicode_DecodeFSDefaultAndSize(entry.name.data, (Py_ssize_t)entry.name.bytes), "path",
            PyUnicode_DecodeFSDefaultAndSize(entry.path.data, (Py_ssize_t)entry.path.bytes),
            "default", entry.is_default ? Py_True : Py_False, "error",
            mlypy_str(state, entry.error), "info",
            entry.info == NULL ? Py_NewRef(Py_None) : mlypy_model_info_dict(state, entry.info));
        if (dict == NULL || PyList_Append(list, dict) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(dict);
    }
    memalloy_models_destroy(models);
    return list;
}

PyObject *mlypy_models_remove(PyObject *module, PyObject *name)
{
    struct memalloy_error err = {0};
    const char *text = mlypy_cstring(name, "name");
    if (text == NULL) {
        return NULL;
    }
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_model_remove(text, &err);
    Py_END_ALLOW_THREADS
    return rc == MEMALLOY_OK ? Py_NewRef(Py_None) : mlypy_raise(mlypy_module_state(module), &err);
}

/* A conversion under way. */
struct adding {
    PyThreadState *thread;
    PyObject *callback; /* borrowed; NULL: none */
};

/* A memalloy_convert_fn. */
static int ask(void *context, const char *step, double share)
{
    struct adding *adding = context;
    PyEval_RestoreThread(adding->thread);
    /* After the first exception nobody is asked again, should the library tell once more. */
    int stop = PyErr_Occurred() != NULL || PyErr_CheckSignals() < 0;
    if (!stop && adding->callback != NULL) {
        PyObject *answer = PyObject_CallFunction(adding->callback, "sd", step, share);
        stop = answer == NULL || answer == Py_False;
        Py_XDECREF(answer);
    }
    adding->thread = PyEval_SaveThread();
    return stop;
}

/* Of a file or folder that anybody may have made: what is no UTF-8 is shown as U+FFFD. */
static PyObject *text_of(const char *text)
{
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *quality_dict(uint32_t texts, double mean, double worst)
{
    if (texts == 0) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue("{s:I,s:d,s:d}", "texts", texts, "cosine_mean", mean, "cosine_min", worst);
}

static PyObject *report_dict(const struct memalloy_convert_report *report)
{
    return Py_BuildValue(
        "{s:N,s:N,s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:s,s:s,s:s,s:N,s:N,s:s,s:K,s:d,s:{s:N,s:N}}", "name",
        PyUnicode_DecodeFSDefault(report->name), "id", text_of(report->id), "hash", report->hash,
        "architecture", report->architecture, "quantisation", report->quantisation, "dim",
        report->dim, "layers", report->layers, "vocabulary", report->vocabulary, "pieces_max",
        report->pieces_max, "pieces_from", report->pieces_from, "pooling", report->pooling,
        "pooling_from", report->pooling_from, "query_prefix", text_of(report->query_prefix),
        "passage_prefix", text_of(report->passage_prefix), "prefix_from", report->prefix_from,
        "file_bytes", (unsigned long long)report->file_bytes, "seconds", report->seconds, "quality",
        "passages", quality_dict(report->passages, report->passages_mean, report->passages_min),
        "queries", quality_dict(report->queries, report->queries_mean, report->queries_min));
}

/* memalloy.models.add has looked at the types: str or None, paths as bytes or None. */
PyObject *mlypy_models_add(PyObject *module, PyObject *args)
{
    struct memalloy_convert_options options = {.struct_bytes = sizeof(options)};
    struct memalloy_convert_report report = {.struct_bytes = sizeof(report)};
    struct memalloy_error err = {0};
    struct adding adding = {0};
    const char *name = NULL;
    PyObject *callback = NULL;
    unsigned int pieces_max = 0, threads = 0;
    if (!PyArg_ParseTuple(args, "yzzzzzyyIIppO", &options.source_path, &name, &options.quantisation,
                          &options.pooling, &options.query_prefix, &options.passage_prefix,
                          &options.calibration_path, &options.onnxruntime_path, &pieces_max,
                          &threads, &options.overwrite, &options.no_quality, &callback)) {
        return NULL;
    }
    if (options.calibration_path[0] == '\0') {
        options.calibration_path = NULL;
    }
    if (options.onnxruntime_path[0] == '\0') {
        options.onnxruntime_path = NULL;
    }
    options.pieces_max = pieces_max;
    options.threads = threads;
    options.progress = ask;
    options.progress_context = &adding;
    adding.callback = callback == Py_None ? NULL : callback;
    adding.thread = PyEval_SaveThread();
    int rc = memalloy_model_add(name, &options, &report, &err);
    PyEval_RestoreThread(adding.thread);
    if (PyErr_Occurred()) {
        return NULL;
    }
    return rc == MEMALLOY_OK ? report_dict(&report) : mlypy_raise(mlypy_module_state(module), &err);
}
