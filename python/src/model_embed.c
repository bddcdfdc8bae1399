/* In: texts. Out: vectors and word pieces. The library asks every 50 ms whether to go on. */
#include "convert.h"
#include "job.h"
#include "model_type.h"
#include "raise.h"
#include "vectors_type.h"
#include "watch.h"

#include <string.h>

/* So many texts, or bytes of one, may take long. */
enum { TEXTS_MANY = 8, TEXT_BYTES_MANY = 1 << 16 };

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

struct embed_job {
    struct mlypy_job job;
    struct texts texts;
    struct mlypy_model *model;
    struct mlypy_vectors *vectors;
    int kind;
    size_t truncated;
};

static int run_embed(struct mlypy_job *job, struct memalloy_error *err)
{
    struct embed_job *embed = (struct embed_job *)job;
    const struct memalloy_embed_options options = {
        .struct_bytes = sizeof(options),
        .kind = embed->kind,
        .progress = job->progress,
        .progress_context = job->progress_context,
    };
    return memalloy_embed(embed->model->model, embed->texts.items, embed->texts.count, &options,
                          embed->vectors->data, &embed->truncated, err);
}

static PyObject *finish_embed(struct mlypy_job *job)
{
    struct embed_job *embed = (struct embed_job *)job;
    embed->vectors->truncated = (Py_ssize_t)embed->truncated;
    return Py_NewRef((PyObject *)embed->vectors);
}

static void clear_embed(struct mlypy_job *job)
{
    struct embed_job *embed = (struct embed_job *)job;
    texts_deinit(&embed->texts);
    Py_XDECREF((PyObject *)embed->model);
    Py_XDECREF((PyObject *)embed->vectors);
}

/* Everything but the model comes first: whoever passes nonsense need not wait for it. */
static PyObject *embed_with(struct mlypy_state *state, PyObject *model, PyObject *texts,
                            PyObject *kind, PyObject *progress)
{
    static const struct mlypy_job_kind job_kind = {
        .bytes = sizeof(struct embed_job),
        .is_long = true,
        .run = run_embed,
        .finish = finish_embed,
        .clear = clear_embed,
    };
    struct embed_job *embed = mlypy_job_new_free(state, &job_kind);
    PyObject *callback = NULL, *result = NULL;
    if (embed == NULL) {
        return NULL;
    }
    bool ok = texts_init(texts, &embed->texts) && take_kind(state, kind, &embed->kind) &&
              mlypy_watch_callback(progress, &callback);
    if (ok) {
        embed->model = mlypy_model_get(state, model, "model");
    }
    if (embed->model != NULL) {
        embed->vectors = mlypy_vectors_create(state, embed->texts.count, embed->model->dim);
    }
    if (embed->vectors != NULL) {
        embed->job.is_brief = embed->texts.count < TEXTS_MANY;
        result = mlypy_job_call(&embed->job, callback);
    } else {
        mlypy_job_free(&embed->job);
    }
    Py_XDECREF(callback);
    return result;
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

struct tokenize_job {
    struct mlypy_job job;
    struct memalloy_str text;
    struct mlypy_model *model;
    int special_tokens;
    memalloy_tokens *tokens;
};

static int run_tokenize(struct mlypy_job *job, struct memalloy_error *err)
{
    struct tokenize_job *tokenize = (struct tokenize_job *)job;
    return memalloy_tokenize(tokenize->model->model, tokenize->text.data, tokenize->text.bytes,
                             tokenize->special_tokens, &tokenize->tokens, err);
}

static PyObject *finish_tokenize(struct mlypy_job *job)
{
    return ids_as_list(((struct tokenize_job *)job)->tokens);
}

static void clear_tokenize(struct mlypy_job *job)
{
    struct tokenize_job *tokenize = (struct tokenize_job *)job;
    memalloy_tokens_destroy(tokenize->tokens);
    Py_XDECREF((PyObject *)tokenize->model);
}

static PyObject *tokenize_with(struct mlypy_state *state, PyObject *model, PyObject *text,
                               int special_tokens)
{
    static const struct mlypy_job_kind kind = {
        .bytes = sizeof(struct tokenize_job),
        .is_long = true,
        .run = run_tokenize,
        .finish = finish_tokenize,
        .clear = clear_tokenize,
    };
    struct tokenize_job *tokenize = mlypy_job_new_free(state, &kind);
    if (tokenize == NULL) {
        return NULL;
    }
    if (mlypy_text(text, "text", &tokenize->text) && mlypy_job_hold(&tokenize->job, text)) {
        tokenize->model = mlypy_model_get(state, model, "model");
    }
    if (tokenize->model == NULL) {
        mlypy_job_free(&tokenize->job);
        return NULL;
    }
    tokenize->special_tokens = special_tokens;
    tokenize->job.is_brief = tokenize->text.bytes < TEXT_BYTES_MANY;
    return mlypy_job_call(&tokenize->job, NULL);
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
