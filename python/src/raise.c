/* In: a code and a message from memalloy.h. Out: an exception of the class that MEMALLOY_ERR_MAP
 * names, which is also the built-in exception that a Python programmer would look for: ValueError,
 * KeyError, OSError. The classes are made from the map, so that a new code cannot be forgotten
 * here. */
#include "raise.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

struct exception_row {
    int code;
    const char *name; /* with "memalloy." in front */
    const char *text;
};

static const struct exception_row exception_rows[] = {
#define EXCEPTION_ROW(name, value, exception, text) {(value), "memalloy." #exception, (text)},
    MEMALLOY_ERR_MAP(EXCEPTION_ROW)
#undef EXCEPTION_ROW
};

/* The built-in that stands beside MemalloyError as a base; NULL: none is natural. */
static PyObject *builtin_base(int code)
{
    switch (code) {
    case MEMALLOY_ERR_NOMEM:
        return PyExc_MemoryError;
    case MEMALLOY_ERR_INVAL:
    case MEMALLOY_ERR_LIMIT:
    case MEMALLOY_ERR_CLOSED: /* as a closed file of Python's own does */
    case MEMALLOY_ERR_PARSE:
        return PyExc_ValueError;
    case MEMALLOY_ERR_IO:
        return PyExc_OSError;
    case MEMALLOY_ERR_NOTFOUND:
        return PyExc_KeyError;
    case MEMALLOY_ERR_BUSY:
        return PyExc_TimeoutError;
    case MEMALLOY_ERR_READONLY:
        return PyExc_PermissionError;
    case MEMALLOY_ERR_FORKED:
    case MEMALLOY_ERR_INTERNAL:
        return PyExc_RuntimeError;
    case MEMALLOY_ERR_UNSUPPORTED:
        return PyExc_NotImplementedError;
    default:
        return NULL;
    }
}

/* New class; bases is taken, doc is copied, code becomes its attribute. */
static PyObject *make_exception(const char *name, const char *doc, PyObject *bases, int code)
{
    PyObject *made = NULL;
    PyObject *attributes = bases == NULL ? NULL : Py_BuildValue("{s:i}", "code", code);
    if (attributes != NULL) {
        made = PyErr_NewExceptionWithDoc(name, doc, bases, attributes);
    }
    Py_XDECREF(attributes);
    Py_XDECREF(bases);
    return made;
}

/* KeyError shows its argument quoted and OSError wants a number; ours show their message. */
static int use_plain_str(PyObject *exception)
{
    PyObject *plain = PyObject_GetAttrString(PyExc_BaseException, "__str__");
    if (plain == NULL) {
        return -1;
    }
    int rc = PyObject_SetAttrString(exception, "__str__", plain);
    Py_DECREF(plain);
    return rc;
}

static int add_to_module(PyObject *module, PyObject *exception, const char *full_name)
{
    return PyModule_AddObjectRef(module, strchr(full_name, '.') + 1, exception);
}

static int add_base(struct mlypy_state *state, PyObject *module)
{
    const char *name = "memalloy.MemalloyError";
    state->base_error =
        make_exception(name,
                       "Every error of memalloy's own. code is the number of MEMALLOY_ERR_MAP in "
                       "memalloy.h; errno, where it is set, is the system's.",
                       PyTuple_Pack(1, PyExc_Exception), MEMALLOY_ERR_INTERNAL);
    if (state->base_error == NULL || use_plain_str(state->base_error) < 0) {
        return -1;
    }
    return add_to_module(module, state->base_error, name);
}

static int add_missing_file(struct mlypy_state *state, PyObject *module)
{
    const char *name = "memalloy.MissingFileError";
    state->missing_file_error = make_exception(
        name, "A file or folder that was named is not there.",
        PyTuple_Pack(3, state->exceptions[MEMALLOY_ERR_IO],
                     state->exceptions[MEMALLOY_ERR_NOTFOUND], PyExc_FileNotFoundError),
        MEMALLOY_ERR_IO);
    return state->missing_file_error == NULL
               ? -1
               : add_to_module(module, state->missing_file_error, name);
}

int mlypy_exceptions_add(struct mlypy_state *state, PyObject *module)
{
    if (add_base(state, module) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(exception_rows) / sizeof(exception_rows[0]); i++) {
        const struct exception_row *row = &exception_rows[i];
        if (row->code == MEMALLOY_OK) {
            continue;
        }
        /* A store of another model is a model error too. */
        PyObject *parent = row->code == MEMALLOY_ERR_MISMATCH
                               ? state->exceptions[MEMALLOY_ERR_MODEL]
                               : state->base_error;
        PyObject *builtin = builtin_base(row->code);
        PyObject *bases =
            builtin == NULL ? PyTuple_Pack(1, parent) : PyTuple_Pack(2, parent, builtin);
        PyObject *made = make_exception(row->name, row->text, bases, row->code);
        state->exceptions[row->code] = made;
        if (made == NULL || add_to_module(module, made, row->name) < 0) {
            return -1;
        }
    }
    return add_missing_file(state, module);
}

static PyObject *raise_message(PyObject *type, int code, int system_errno, PyObject *message)
{
    PyObject *exception = PyObject_CallFunctionObjArgs(type, message, NULL);
    PyObject *number = NULL;
    if (exception == NULL) {
        goto done;
    }
    number = PyLong_FromLong(code);
    if (number == NULL || PyObject_SetAttrString(exception, "code", number) < 0) {
        goto done;
    }
    if (system_errno != 0) {
        Py_DECREF(number);
        number = PyLong_FromLong(system_errno);
        if (number == NULL || PyObject_SetAttrString(exception, "errno", number) < 0) {
            goto done;
        }
    }
    PyErr_SetObject(type, exception);
done:
    Py_XDECREF(number);
    Py_XDECREF(exception);
    return NULL;
}

static int known_code(int code)
{
    return code > MEMALLOY_OK && code < MLYPY_ERR_COUNT ? code : MEMALLOY_ERR_INTERNAL;
}

PyObject *mlypy_raise(struct mlypy_state *state, const struct memalloy_error *err)
{
    int code = known_code(err->code);
    PyObject *type = state->exceptions[code];
    if (err->system_errno == ENOENT && (code == MEMALLOY_ERR_IO || code == MEMALLOY_ERR_NOTFOUND)) {
        type = state->missing_file_error;
    }
    const char *text = err->message[0] != '\0' ? err->message : memalloy_err_text(code);
    PyObject *message = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "backslashreplace");
    if (message != NULL) {
        raise_message(type, code, err->system_errno, message);
        Py_DECREF(message);
    }
    return NULL;
}

PyObject *mlypy_raise_code(struct mlypy_state *state, int code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    PyObject *message = PyUnicode_FromFormatV(format, arguments);
    va_end(arguments);
    if (message != NULL) {
        raise_message(state->exceptions[known_code(code)], known_code(code), 0, message);
        Py_DECREF(message);
    }
    return NULL;
}

PyObject *mlypy_raise_type(const char *name, const char *wanted, PyObject *object)
{
    PyObject *type_name = PyType_GetName(Py_TYPE(object));
    if (type_name != NULL) {
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %U", name, wanted, type_name);
        Py_DECREF(type_name);
    }
    return NULL;
}
