/* In: texts. Out: vectors and word pieces. The library asks every 50 ms whether to go on, so that
 * Ctrl-C is seen, however many texts there are. */
#include "convert.h"
#include "model_type.h"
#include "raise.h"
#include "vectors_type.h"
#include "watch.h"

#include <string.h>

/* The texts of a call: the tuple owns what the array points into. */
struct texts {
    PyObject *tuple;
    struct memalloy_str *items;
    size_t count;
};

static void texts_deinit(struct texts *texts)
{
    PyMem_Free(texts->items);
    Py_CLEAR(texts->tuple);
}

static bool texts_init(PyObject *object, struct texts *out)
{
    *out = (struct texts){.tuple = mlypy_tuple(object, "texts", "a sequence of str")};
    if (out->tuple == NULL) {
        return false;
    }
    out->count = (size_t)PyTuple_Size(out->tuple);
    out->items = mlypy_array(out->count, sizeof(*out->items));
    if (out->items == NULL) {
        return false;
    }
    for (size_t i = 0; i < out->count; i++) {
        char name[48];
        PyOS_snprintf(name, sizeof(name), "texts[%zu]", i);
        if (!mlypy_text(PyTuple_GetItem(out->tuple, (Py_ssize_t)i), name, &out->items[i])) {
            return false;
        }
    }
    return true;
}

static bool take_kind(struct mlypy_state *state, PyObject *object, int *out)
{
    *out = MEMALLOY_EMBED_PASSAGE;
    if (object == NULL) {
        return true;
    }
    const char *name = mlypy_cstring(object, "kind");
    if (name == NULL) {
        return false;
    }
    if (strcmp(name, "query") == 0) {
        *out = MEMALLOY_EMBED_QUERY;
    } else if (strcmp(name, "passage") != 0) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "kind must be 'passage' or 'query', not %R",
                         object);
        return false;
    }
    return true;
}

static int embed_into(struct mlypy_model *model, const struct texts *texts, int kind,
                      PyObject *callback, struct mlypy_vectors *out)
{
    struct mlypy_watch watch;
    struct memalloy_error err = {0};
    struct memalloy_embed_options options = {
        .struct_bytes = sizeof(options),
        .kind = kind,
        .progress = mlypy_watch_progress,
        .progress_context = &watch,
    };
    size_t truncated = 0;
    mlypy_watch_begin(&watch, model->state, NULL, callback);
    int rc = memalloy_embed(model->model, texts->items, texts->count, &options, out->data,
                            &truncated, &err);
    mlypy_watch_end(&watch);
    if (mlypy_watch_failed(&watch, rc, &err)) {
        return -1;
    }
    out->truncated = (Py_ssize_t)truncated;
    return 0;
}

/* Everything but the model comes first: whoever passes nonsense need not wait for it. */
static PyObject *embed_with(struct mlypy_state *state, PyObject *model_object,
                            PyObject *texts_object, PyObject *kind_object,
                            PyObject *progress_object)
{
    struct texts texts = {0};
    struct mlypy_model *model = NULL;
    struct mlypy_vectors *vectors = NULL;
    PyObject *callback = NULL;
    int kind;
    if (texts_init(texts_object, &texts) && take_kind(state, kind_object, &kind) &&
        mlypy_watch_callback(progress_object, &callback)) {
        model = mlypy_model_get(state, model_object, "model");
    }
    if (model != NULL) {
        vectors = mlypy_vectors_create(state, texts.count, model->dim);
    }
    if (vectors != NULL && embed_into(model, &texts, kind, callback, vectors) < 0) {
        Py_CLEAR(vectors);
    }
    Py_XDECREF((PyObject *)model);
    Py_XDECREF(callback);
    texts_deinit(&texts);
    return (PyObject *)vectors;
}

PyObject *mlypy_embed(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"texts", "model", "kind", "progress", NULL};
    PyObject *texts, *model = NULL, *kind = NULL, *progress = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OOO", names, &texts, &model, &kind,
                                     &progress)) {
        return NULL;
    }
    return embed_with(mlypy_module_state(module), model, texts, kind, progress);
}

PyObject *mlypy_model_embed(PyObject *model, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"texts", "kind", "progress", NULL};
    PyObject *texts, *kind = NULL, *progress = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO", names, &texts, &kind, &progress)) {
        return NULL;
    }
    return embed_with(((struct mlypy_model *)model)->state, model, texts, kind, progress);
}

static PyObject *ids_as_list(const memalloy_tokens *tokens)
{
    size_t count = memalloy_tokens_count(tokens);
    const int32_t *ids = memalloy_tokens_ids(tokens);
    PyObject *list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *id = PyLong_FromLong(ids[i]);
        if (id == NULL || PyList_SetItem(list, (Py_ssize_t)i, id) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *tokenize_with(struct mlypy_state *state, PyObject *model_object,
                               PyObject *text_object, int special_tokens)
{
    struct memalloy_str text;
    if (!mlypy_text(text_object, "text", &text)) {
        return NULL;
    }
    struct mlypy_model *model = mlypy_model_get(state, model_object, "model");
    if (model == NULL) {
        return NULL;
    }
    memalloy_tokens *tokens = NULL;
    struct memalloy_error err = {0};
    int rc;
    Py_BEGIN_ALLOW_THREADS
    rc = memalloy_tokenize(model->model, text.data, text.bytes, special_tokens, &tokens, &err);
    Py_END_ALLOW_THREADS
    PyObject *list = rc == MEMALLOY_OK ? ids_as_list(tokens) : mlypy_raise(state, &err);
    memalloy_tokens_destroy(tokens);
    Py_DECREF((PyObject *)model);
    return list;
}

PyObject *mlypy_tokenize(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", "special_tokens", "model", NULL};
    PyObject *text, *model = NULL;
    int special_tokens = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|pO", names, &text, &special_tokens, &model)) {
        return NULL;
    }
    return tokenize_with(mlypy_module_state(module), model, text, special_tokens);
}

PyObject *mlypy_model_tokenize(PyObject *model, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", "special_tokens", NULL};
    PyObject *text;
    int special_tokens = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|p", names, &text, &special_tokens)) {
        return NULL;
    }
    return tokenize_with(((struct mlypy_model *)model)->state, model, text, special_tokens);
}
