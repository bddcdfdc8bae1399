/* In: any object that holds numbers. Out: f32[rows][columns]. A C-contiguous buffer of native
 * float32 that is read-only is used where it lies; other buffers of float32 and float64 are walked
 * by their strides; everything else is read as a sequence, number by number. What can be written is
 * copied while the GIL is held, but for calls that read each number once: others check the numbers
 * and then read them again, and see what another thread wrote in between unchecked. */
#include "convert.h"

#include "raise.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Struct-module formats of native order; the prefix may be left out. 0 is neither. */
static char number_format(const Py_buffer *view)
{
    const char *format = view->format == NULL ? "B" : view->format;
    if (format[0] == '@' || format[0] == '=' || format[0] == (PY_LITTLE_ENDIAN ? '<' : '>')) {
        format++;
    }
    if (format[0] == '\0' || format[1] != '\0') {
        return 0;
    }
    if (format[0] == 'f' && view->itemsize == (Py_ssize_t)sizeof(float)) {
        return 'f';
    }
    return format[0] == 'd' && view->itemsize == (Py_ssize_t)sizeof(double) ? 'd' : 0;
}

/* A double beyond float32 becomes infinite, which the library refuses by its place; the plain cast
 * would be undefined. */
static float narrowed(double wide)
{
    if (wide > (double)FLT_MAX) {
        return HUGE_VALF;
    }
    return wide < -(double)FLT_MAX ? -HUGE_VALF : (float)wide;
}

static float number_at(const char *place, char format)
{
    if (format == 'f') {
        float narrow;
        memcpy(&narrow, place, sizeof(narrow)); /* strides need not be aligned */
        return narrow;
    }
    double wide;
    memcpy(&wide, place, sizeof(wide));
    return narrowed(wide);
}

static void copy_strided(const Py_buffer *view, char format, size_t rows, size_t columns,
                         float *out)
{
    Py_ssize_t row_stride = view->ndim == 2 ? view->strides[0] : 0;
    Py_ssize_t stride = view->strides[view->ndim - 1];
    for (size_t row = 0; row < rows; row++) {
        const char *line = (const char *)view->buf + (Py_ssize_t)row * row_stride;
        for (size_t i = 0; i < columns; i++) {
            out[row * columns + i] = number_at(line + (Py_ssize_t)i * stride, format);
        }
    }
}

/* A buffer with the wanted number of dimensions. */
static bool from_buffer(struct mlypy_state *state, PyObject *object, const char *name,
                        int dimensions, enum mlypy_keep keep, struct mlypy_matrix *out)
{
    if (PyObject_GetBuffer(object, &out->view, PyBUF_RECORDS_RO) < 0) {
        memset(&out->view, 0, sizeof(out->view));
        return false;
    }
    char format = number_format(&out->view);
    if (format == 0) {
        PyErr_Format(PyExc_TypeError, "%s must hold float32 or float64, not format '%s'", name,
                     out->view.format == NULL ? "B" : out->view.format);
        goto fail;
    }
    if (out->view.ndim != dimensions) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL, "%s must have %d dimension%s, not %d", name,
                         dimensions, dimensions == 1 ? "" : "s", out->view.ndim);
        goto fail;
    }
    out->rows = dimensions == 2 ? (size_t)out->view.shape[0] : 1;
    out->columns = (size_t)out->view.shape[dimensions - 1];
    bool is_plain = format == 'f' && PyBuffer_IsContiguous(&out->view, 'C');
    bool may_borrow = out->view.readonly || keep == MLYPY_BORROW;
    if (is_plain && may_borrow && (uintptr_t)out->view.buf % sizeof(float) == 0) {
        out->data = out->view.buf;
        return true;
    }
    if (out->columns != 0 && out->rows > SIZE_MAX / out->columns) {
        PyErr_NoMemory();
        goto fail;
    }
    out->owned = mlypy_array(out->rows * out->columns, sizeof(float));
    if (out->owned == NULL) {
        goto fail;
    }
    if (is_plain) {
        memcpy(out->owned, out->view.buf, out->rows * out->columns * sizeof(float));
    } else {
        copy_strided(&out->view, format, out->rows, out->columns, out->owned);
    }
    out->data = out->owned;
    PyBuffer_Release(&out->view);
    return true;
fail:
    mlypy_matrix_deinit(out);
    return false;
}

static bool is_textual(PyObject *object)
{
    return PyUnicode_Check(object) || PyBytes_Check(object) || PyByteArray_Check(object) ||
           PyDict_Check(object);
}

static bool read_numbers(PyObject *tuple, const char *name, float *out)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PyTuple_GetItem(tuple, i);
        double number = PyFloat_AsDouble(item);
        if (number == -1.0 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                char item_name[96];
                PyErr_Clear();
                PyOS_snprintf(item_name, sizeof(item_name), "%s[%zd]", name, i);
                mlypy_raise_type(item_name, "a number", item);
            }
            return false;
        }
        out[i] = narrowed(number);
    }
    return true;
}

bool mlypy_vector_init(struct mlypy_state *state, PyObject *object, const char *name,
                       struct mlypy_matrix *out)
{
    memset(out, 0, sizeof(*out));
    if (PyObject_CheckBuffer(object) && !is_textual(object)) {
        return from_buffer(state, object, name, 1, MLYPY_COPY, out);
    }
    PyObject *tuple = mlypy_tuple(object, name, "a buffer or a sequence of numbers");
    if (tuple == NULL) {
        return false;
    }
    out->rows = 1;
    out->columns = (size_t)PyTuple_Size(tuple);
    out->owned = mlypy_array(out->columns, sizeof(float));
    bool ok = out->owned != NULL && read_numbers(tuple, name, out->owned);
    Py_DECREF(tuple);
    if (!ok) {
        mlypy_matrix_deinit(out);
        return false;
    }
    out->data = out->owned;
    return true;
}

/* Row row_i of a sequence of rows into the matrix, which is made when the first row tells how long
 * they are. */
static bool read_row(struct mlypy_state *state, PyObject *row, const char *name, size_t row_i,
                     struct mlypy_matrix *matrix)
{
    struct mlypy_matrix line;
    char row_name[64];
    PyOS_snprintf(row_name, sizeof(row_name), "%s[%zu]", name, row_i);
    if (!PyObject_CheckBuffer(row) && !PySequence_Check(row)) {
        mlypy_raise_type(row_name, "a buffer or a sequence of numbers", row);
        return false;
    }
    if (!mlypy_vector_init(state, row, row_name, &line)) {
        return false;
    }
    bool ok = false;
    if (row_i == 0) {
        matrix->columns = line.columns;
        if (line.columns != 0 && matrix->rows > SIZE_MAX / line.columns) {
            PyErr_NoMemory();
            goto done;
        }
        matrix->owned = mlypy_array(matrix->rows * line.columns, sizeof(float));
        if (matrix->owned == NULL) {
            goto done;
        }
    }
    if (line.columns != matrix->columns) {
        mlypy_raise_code(state, MEMALLOY_ERR_INVAL,
                         "%s[%zu] has %zu numbers, %s[0] has %zu: rows must be of one length", name,
                         row_i, line.columns, name, matrix->columns);
        goto done;
    }
    memcpy(matrix->owned + row_i * matrix->columns, line.data, line.columns * sizeof(float));
    ok = true;
done:
    mlypy_matrix_deinit(&line);
    return ok;
}

bool mlypy_matrix_init(struct mlypy_state *state, PyObject *object, const char *name,
                       enum mlypy_keep keep, struct mlypy_matrix *out)
{
    memset(out, 0, sizeof(*out));
    if (PyObject_CheckBuffer(object) && !is_textual(object)) {
        return from_buffer(state, object, name, 2, keep, out);
    }
    PyObject *rows =
        mlypy_tuple(object, name, "a two-dimensional buffer or a sequence of rows of numbers");
    if (rows == NULL) {
        return false;
    }
    out->rows = (size_t)PyTuple_Size(rows);
    bool ok = true;
    for (size_t i = 0; ok && i < out->rows; i++) {
        ok = read_row(state, PyTuple_GetItem(rows, (Py_ssize_t)i), name, i, out);
    }
    Py_DECREF(rows);
    if (!ok) {
        mlypy_matrix_deinit(out);
        return false;
    }
    out->data = out->owned;
    return true;
}

void mlypy_matrix_deinit(struct mlypy_matrix *matrix)
{
    PyBuffer_Release(&matrix->view); /* nothing where view.obj is NULL */
    PyMem_Free(matrix->owned);
    memset(matrix, 0, sizeof(*matrix));
}
