/* The module: its state, its types, and its functions. Multi-phase, all types from specs, nothing
 * in globals but constants. Files of python/src include no header of ours but <memalloy.h>. */
#include "convert.h"
#include "job.h"
#include "model_type.h"
#include "raise.h"
#include "state.h"
#include "vectors_type.h"

#include <string.h>

static struct PyModuleDef module_def;

struct mlypy_state *mlypy_module_state(PyObject *module)
{
    return PyModule_GetState(module);
}

struct mlypy_state *mlypy_state_of(PyTypeObject *type)
{
    for (PyTypeObject *at = type; at != NULL; at = (PyTypeObject *)PyType_GetSlot(at, Py_tp_base)) {
        PyObject *module = PyType_GetModule(at);
        if (module != NULL && PyModule_GetDef(module) == &module_def) {
            return PyModule_GetState(module);
        }
        PyErr_Clear();
    }
    PyErr_SetString(PyExc_SystemError, "type does not belong to memalloy");
    return NULL;
}

void mlypy_object_free(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static int add_types(struct mlypy_state *state, PyObject *module)
{
    const struct {
        PyTypeObject **place;
        PyType_Spec *spec;
        const char *name;
    } types[] = {
        {&state->kernel_type, &mlypy_kernel_spec, "RAGKernel"},
        {&state->document_type, &mlypy_document_spec, "Document"},
        {&state->hit_type, &mlypy_hit_spec, "Hit"},
        {&state->report_type, &mlypy_report_spec, "SyncReport"},
        {&state->strategy_type, &mlypy_strategy_spec, "ChunkingStrategy"},
        {&state->vectors_type, &mlypy_vectors_spec, "Vectors"},
        {&state->model_type, &mlypy_model_spec, "Model"},
        {&state->folder_watch_type, &mlypy_folder_watch_spec, "_Watch"},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, types[i].spec, NULL);
        *types[i].place = (PyTypeObject *)type;
        if (type == NULL || PyModule_AddObjectRef(module, types[i].name, type) < 0) {
            return -1;
        }
    }
    state->spans_type = PyStructSequence_NewType(&mlypy_spans_desc);
    state->progress_type = PyStructSequence_NewType(&mlypy_progress_desc);
    if (state->spans_type == NULL || state->progress_type == NULL ||
        PyModule_AddObjectRef(module, "Spans", (PyObject *)state->spans_type) < 0 ||
        PyModule_AddObjectRef(module, "Progress", (PyObject *)state->progress_type) < 0) {
        return -1;
    }
    return 0;
}

/* Compact, as UTF-8, and NaN refused: it is no JSON, and no other reader would take it. */
static int add_json(struct mlypy_state *state)
{
    PyObject *json = PyImport_ImportModule("json");
    if (json == NULL) {
        return -1;
    }
    PyObject *encoder = NULL;
    PyObject *type = PyObject_GetAttrString(json, "JSONEncoder");
    PyObject *no_args = PyTuple_New(0);
    PyObject *options = Py_BuildValue("{s:O,s:O,s:(ss)}", "ensure_ascii", Py_False, "allow_nan",
                                      Py_False, "separators", ",", ":");
    state->json_decode = PyObject_GetAttrString(json, "loads");
    if (type != NULL && no_args != NULL && options != NULL) {
        encoder = PyObject_Call(type, no_args, options);
    }
    if (encoder != NULL) {
        state->json_encode = PyObject_GetAttrString(encoder, "encode");
    }
    Py_XDECREF(encoder);
    Py_XDECREF(options);
    Py_XDECREF(no_args);
    Py_XDECREF(type);
    Py_DECREF(json);
    return state->json_encode == NULL || state->json_decode == NULL ? -1 : 0;
}

static int module_exec(PyObject *module)
{
    struct mlypy_state *state = mlypy_module_state(module);
    state->models = PyDict_New();
    if (state->models == NULL || mlypy_exceptions_add(state, module) < 0 ||
        add_types(state, module) < 0 || add_json(state) < 0) {
        return -1;
    }
    return PyModule_AddStringConstant(module, "__version__", memalloy_version());
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct mlypy_state *state = mlypy_module_state(module);
    Py_VISIT(state->base_error);
    for (size_t i = 0; i < MLYPY_ERR_COUNT; i++) {
        Py_VISIT(state->exceptions[i]);
    }
    Py_VISIT(state->missing_file_error);
    Py_VISIT(state->kernel_type);
    Py_VISIT(state->document_type);
    Py_VISIT(state->hit_type);
    Py_VISIT(state->report_type);
    Py_VISIT(state->strategy_type);
    Py_VISIT(state->vectors_type);
    Py_VISIT(state->model_type);
    Py_VISIT(state->folder_watch_type);
    Py_VISIT(state->spans_type);
    Py_VISIT(state->progress_type);
    Py_VISIT(state->json_encode);
    Py_VISIT(state->json_decode);
    Py_VISIT(state->models);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct mlypy_state *state = mlypy_module_state(module);
    Py_CLEAR(state->base_error);
    for (size_t i = 0; i < MLYPY_ERR_COUNT; i++) {
        Py_CLEAR(state->exceptions[i]);
    }
    Py_CLEAR(state->missing_file_error);
    Py_CLEAR(state->kernel_type);
    Py_CLEAR(state->document_type);
    Py_CLEAR(state->hit_type);
    Py_CLEAR(state->report_type);
    Py_CLEAR(state->strategy_type);
    Py_CLEAR(state->vectors_type);
    Py_CLEAR(state->model_type);
    Py_CLEAR(state->folder_watch_type);
    Py_CLEAR(state->spans_type);
    Py_CLEAR(state->progress_type);
    Py_CLEAR(state->json_encode);
    Py_CLEAR(state->json_decode);
    Py_CLEAR(state->models);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

/* A keyword function in the slot of a plain one, as CPython's own tables have it. */
#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef module_methods[] = {
    {"open", KEYWORDS(mlypy_kernel_open), METH_VARARGS | METH_KEYWORDS,
     "open($module, /, path, *, model=None, dim=None, read_only=False, threads=None,\n"
     "     chunking=None, lock_timeout=None, durability=None, memory_limit=None,\n"
     "     allow_network_fs=False, recall=None)\n--\n\n"
     "Opens the store in a folder, which is made at the first write, as a RAGKernel.\n\n"
     "model: a model file; None: $MEMALLOY_MODEL or the one in the package, loaded when first\n"
     "needed. dim: without a model, opens for ready vectors of so many numbers; with one, what\n"
     "its dimension must be. read_only: never writes; the store must exist. threads: from 1;\n"
     "None: every core the process may use. chunking: a ChunkingStrategy; None: heading.\n"
     "lock_timeout: seconds to wait for another writing process; None: 10.\n\n"
     "durability: what an acknowledged write survives: 'full' (None) a power cut; 'normal' the\n"
     "end of the process, and of a power cut all but the last 100 ms; 'off' the same without the\n"
     "100 ms; 'memory' nothing. memory_limit: bytes that this store, its model and its results\n"
     "may take, mapped files not counted; beyond, a call raises OutOfMemoryError and changes\n"
     "nothing. allow_network_fs: opens a store on NFS, SMB, 9P, FUSE and the like, too.\n"
     "recall: of the true nearest passages, what part a search must find where it does not say\n"
     "itself, 0.5 to 1; None: 0.95; 1: every vector is looked at, with no vector index. Errors:\n"
     "NotFoundError, ModelError, ModelMismatchError, CorruptError, StoreIOError, "
     "UnsupportedError."},
    {"embed", KEYWORDS(mlypy_embed), METH_VARARGS | METH_KEYWORDS,
     "embed($module, /, texts, model=None, kind='passage', progress=None)\n--\n\n"
     "Vectors of texts: float32, shape (count, dim), each of length 1, through the buffer\n"
     "protocol and DLPack. A text longer than the model reads is cut off; .truncated counts them.\n"
     "A vector never depends on the texts beside it.\n\n"
     "model: a path, the name of one in the models' folder, a Model, or None: the default. kind:\n"
     "'passage' for what is stored, 'query' for what is asked; models that tell them apart have\n"
     "a prefix for each. progress: as for sync(). Ctrl-C ends it within a tenth of a second."},
    {"tokenize", KEYWORDS(mlypy_tokenize), METH_VARARGS | METH_KEYWORDS,
     "tokenize($module, /, text, special_tokens=False, model=None)\n--\n\n"
     "The ids of a text's word pieces as a list of int; special_tokens puts [CLS] and [SEP]\n"
     "round them. Nothing is cut off, and no prefix is put in front."},
    {"_settle", mlypy_settle, METH_O,
     "_settle($module, seconds, /)\n--\n\nFor the end of the interpreter."},
    {"_models_list", mlypy_models_list, METH_O, "For memalloy.models."},
    {"_models_remove", mlypy_models_remove, METH_O, "For memalloy.models."},
    {"_models_add", mlypy_models_add, METH_VARARGS, "For memalloy.models."},
    {NULL, NULL, 0, NULL},
};

/* Nothing is said of interpreters with a GIL of their own: the slot for it is younger than the
 * interface we are built for. Where it is missing, an interpreter that shares the main one's GIL
 * may import the module and one with its own GIL may not, and both is true of us. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, (void *)module_exec},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "memalloy._memalloy",
    .m_doc = "The memory kernel; import memalloy instead.",
    .m_size = sizeof(struct mlypy_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__memalloy(void);

PyMODINIT_FUNC PyInit__memalloy(void)
{
    return PyModuleDef_Init(&module_def);
}
