/* In: arguments of a call. Out: borrowed text, numbers in range, metadata as JSON. The idea is that
 * every check stands here, with the name of the argument in its message, so that the methods read
 * as four steps. Numbers in bulk are in convert_vectors.c. */
#include "convert.h"

#include "raise.h"

#include <string.h>

/* Python's message shows the surrogate and where it stands; ours adds in which argument. */
static void name_unicode_error(const char *name)
{
    if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        return;
    }
    char reason[96];
    PyObject *type = NULL;
    PyObject *value = NULL;
    PyObject *traceback = NULL;
    PyOS_snprintf(reason, sizeof(reason), "surrogates not allowed in %s", name);
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (value != NULL && PyUnicodeEncodeError_SetReason(value, reason) < 0) {
        PyErr_Clear();
    }
    PyErr_Restore(type, value, traceback);
}

bool mlypy_text(PyObject *object, const char *name, struct memalloy_str *out)
{
    if (!PyUnicode_Check(object)) {
        mlypy_raise_type(name, "a str", object);
        return false;
    }
    Py_ssize_t bytes = 0;
    const char *data = PyUnicode_AsUTF8AndSize(object, &bytes);
    if (data == NULL) {
        name_unicode_error(name);
        return false;
    }
    out->data = data;
    out->bytes = (size_t)bytes;
    return true;
}

bool mlypy_text_or_none(PyObject *object, const char *name, struct memalloy_str *out)
{
    if (object == NULL || object == Py_None) {
        *out = (struct memalloy_str){0};
        return true;
    }
    if (!PyUnicode_Check(object)) {
        mlypy_raise_type(name, "a str or None", object);
        return false;
    }
    return mlypy_text(object, name, out);
}

const char *mlypy_cstring(PyObject *object, const char *name)
{
    struct memalloy_str text;
    if (!mlypy_text(object, name, &text)) {
        return NULL;
    }
    if (strlen(text.data) != text.bytes) {
        PyErr_Format(PyExc_ValueError, "%s must not hold a NUL character", name);
        return NULL;
    }
    return text.data;
}

PyObject *mlypy_path(PyObject *object, const char *name)
{
    PyObject *path = PyOS_FSPath(object);
    if (path == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            mlypy_raise_type(name, "a str, bytes or os.PathLike", object);
        }
        return NULL;
    }
    PyObject *bytes = NULL;
    int converted = PyUnicode_FSConverter(path, &bytes);
    Py_DECREF(path);
    if (!converted) {
        if (PyErr_ExceptionMatches(PyExc_ValueError) &&
            !PyErr_ExceptionMatches(PyExc_UnicodeError)) {
            PyErr_Clear();
            PyErr_Format(PyExc_ValueError, "%s must not hold a NUL character", name);
        }
        return NULL;
    }
    return bytes;
}

bool mlypy_int(struct mlypy_state *state, PyObject *object, const char *name, int64_t min,
               int64_t max, bool clip, int64_t *out)
{
    PyObject *number = PyNumber_Index(object);
    if (number == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            mlypy_raise_type(name, "an int", object);
        }
        return false;
    }
    int overflow = 0;
    long long value = PyLong_AsLongLongAndOverflow(number, &overflow);
    bool ok = false;
    if (value == -1 && overflow == 0 && PyErr_Occurred()) {
        goto done;
    }
    if (overflow < 0 || (overflow == 0 && value < min)) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "%s must be at least %lld, not %S", name,
                         (long long)min, number);
        goto done;
    }
    if (overflow > 0 || (!clip && value > max)) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "%s must be at most %lld, not %S", name,
                         clip ? (long long)INT64_MAX : (long long)max, number);
        goto done;
    }
    *out = value > max ? max : value;
    ok = true;
done:
    Py_DECREF(number);
    return ok;
}

bool mlypy_int_or_none(struct mlypy_state *state, PyObject *object, const char *name, int64_t min,
                       int64_t max, bool clip, int64_t *out)
{
    if (object == NULL || object == Py_None) {
        return true;
    }
    return mlypy_int(state, object, name, min, max, clip, out);
}

bool mlypy_durability(struct mlypy_state *state, PyObject *object, int *out)
{
    static const char *const names[] = {"full", "normal", "off", "memory"};
    if (object == NULL || object == Py_None) {
        *out = MEMALLOY_DURABILITY_DEFAULT;
        return true;
    }
    if (!PyUnicode_Check(object)) {
        mlypy_raise_type("durability", "a str or None", object);
        return false;
    }
    for (int i = 0; i < 4; i++) {
        if (PyUnicode_CompareWithASCIIString(object, names[i]) == 0) {
            *out = MEMALLOY_DURABILITY_FULL + i;
            return true;
        }
    }
    mlypy_raise_code(state, MEMALLOY_ERR_INVAL,
                     "durability must be 'full', 'normal', 'off' or 'memory', not %R", object);
    return false;
}

bool mlypy_recall(struct mlypy_state *state, PyObject *object, double *out)
{
    *out = 0.0;
    if (object == NULL || object == Py_None) {
        return true;
    }
    double recall = PyFloat_AsDouble(object);
    if (recall == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            mlypy_raise_type("recall", "a number or None", object);
        }
        return false;
    }
    if (!(recall >= 0.5 && recall <= 1.0)) { /* NaN too */
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "recall must be from 0.5 to 1, not %S", object);
        return false;
    }
    *out = recall;
    return true;
}

static bool check_keys(PyObject *value, const char *name);

/* Over a snapshot, which owns its items: the methods of a dict's subclass may do anything to the
 * dict that they are asked about. json asks for items() as well. */
static bool check_dict_keys(PyObject *dict, const char *name)
{
    PyObject *items = PyDict_CheckExact(dict) ? PyDict_Items(dict) : PyMapping_Items(dict);
    if (items == NULL) {
        return false;
    }
    bool ok = true;
    for (Py_ssize_t i = 0; ok && i < PyList_Size(items); i++) {
        PyObject *item = Py_NewRef(PyList_GetItem(items, i));
        PyObject *key =
            PyTuple_Check(item) && PyTuple_Size(item) == 2 ? PyTuple_GetItem(item, 0) : NULL;
        if (key == NULL) {
            PyErr_Format(PyExc_TypeError, "%s has items() that are no pairs", name);
            ok = false;
        } else if (!PyUnicode_Check(key)) {
            PyErr_Format(PyExc_TypeError, "%s has the key %R: keys must be str", name, key);
            ok = false;
        } else {
            ok = check_keys(PyTuple_GetItem(item, 1), name);
        }
        Py_DECREF(item);
    }
    Py_DECREF(items);
    return ok;
}

/* Lists and tuples, by their iterators, as json reads them. */
static bool check_items(PyObject *sequence, const char *name)
{
    PyObject *items = PySequence_Tuple(sequence);
    if (items == NULL) {
        return false;
    }
    bool ok = true;
    Py_ssize_t count = PyTuple_Size(items);
    for (Py_ssize_t i = 0; ok && i < count; i++) {
        ok = check_keys(PyTuple_GetItem(items, i), name);
    }
    Py_DECREF(items);
    return ok;
}

/* json would write the key 1 as "1" and give back another dict than it was given. A cycle that was
 * made since json walked the value ends as deep nesting does. */
static bool check_keys(PyObject *value, const char *name)
{
    if (!PyDict_Check(value) && !PyList_Check(value) && !PyTuple_Check(value)) {
        return true;
    }
    if (Py_EnterRecursiveCall(" in metadata")) {
        return false;
    }
    bool ok = PyDict_Check(value) ? check_dict_keys(value, name) : check_items(value, name);
    Py_LeaveRecursiveCall();
    return ok;
}

/* Puts the name of the argument in front of what json had to say. */
static void name_json_error(const char *name)
{
    PyObject *type = PyErr_ExceptionMatches(PyExc_TypeError)    ? PyExc_TypeError
                     : PyErr_ExceptionMatches(PyExc_ValueError) ? PyExc_ValueError
                                                                : NULL;
    if (type == NULL || PyErr_ExceptionMatches(PyExc_UnicodeError)) {
        return; /* out of memory, recursion, the user's own: as it is */
    }
    PyObject *raised_type = NULL;
    PyObject *value = NULL;
    PyObject *traceback = NULL;
    PyErr_Fetch(&raised_type, &value, &traceback);
    PyErr_NormalizeException(&raised_type, &value, &traceback);
    PyErr_Format(type, "%s: %S", name, value == NULL ? Py_None : value);
    Py_XDECREF(raised_type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

PyObject *mlypy_metadata(struct mlypy_state *state, PyObject *object, const char *name)
{
    if (object == NULL || object == Py_None) {
        return Py_NewRef(Py_None);
    }
    if (!PyDict_Check(object)) {
        return mlypy_raise_type(name, "a dict or None", object);
    }
    PyObject *json = PyObject_CallFunctionObjArgs(state->json_encode, object, NULL);
    if (json == NULL) {
        name_json_error(name);
        return NULL;
    }
    if (!check_keys(object, name)) {
        Py_DECREF(json);
        return NULL;
    }
    return json;
}

PyObject *mlypy_tuple(PyObject *object, const char *name, const char *wanted)
{
    if (PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object) ||
        PyDict_Check(object)) {
        return mlypy_raise_type(name, wanted, object);
    }
    PyObject *tuple = PySequence_Tuple(object);
    if (tuple == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyObject *iterator = NULL;
        PyErr_Clear();
        iterator = PyObject_GetIter(object);
        if (iterator == NULL) {
            PyErr_Clear();
            return mlypy_raise_type(name, wanted, object);
        }
        Py_DECREF(iterator);
        tuple = PySequence_Tuple(object); /* its own TypeError, from inside an iterator */
    }
    return tuple;
}

PyObject *mlypy_str(struct mlypy_state *state, struct memalloy_str text)
{
    if (text.data == NULL) {
        return Py_NewRef(Py_None);
    }
    PyObject *made = PyUnicode_DecodeUTF8(text.data, (Py_ssize_t)text.bytes, NULL);
    if (made == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        PyErr_Clear();
        return mlypy_raise_code(state, MEMALLOY_ERR_CORRUPT,
                                "text of the store is not UTF-8 (%zu bytes)", text.bytes);
    }
    return made;
}

void *mlypy_array(size_t count, size_t item_bytes)
{
    void *made = PyMem_Calloc(count == 0 ? 1 : count, item_bytes);
    if (made == NULL) {
        PyErr_NoMemory();
    }
    return made;
}
