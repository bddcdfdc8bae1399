/* Python objects into what memalloy.h takes, and back. Every refusal names the argument.
 *
 * Owns     what is called borrowed points into the Python object, which the caller must hold while
 *          it is used, the GIL being released or not.
 * Threads  with the GIL held.
 * Errors   0 or NULL with an exception set, as said at each function.
 */
#ifndef MLYPY_CONVERT_H
#define MLYPY_CONVERT_H

#include "state.h"

#include <stdbool.h>

/* Borrowed UTF-8 of a str. A lone surrogate is a UnicodeEncodeError, anything but a str a
 * TypeError. */
bool mlypy_text(PyObject *object, const char *name, struct memalloy_str *out);
/* The same; None or NULL gives data NULL. */
bool mlypy_text_or_none(PyObject *object, const char *name, struct memalloy_str *out);
/* The same for text that must not hold NUL; a C string. NULL on failure. */
const char *mlypy_cstring(PyObject *object, const char *name);

/* A path: str, bytes or os.PathLike. New bytes object, NULL on failure. */
PyObject *mlypy_path(PyObject *object, const char *name);

/* An int from min to max; max is clipped to where clip is true. What is out of range is an
 * InvalidArgumentError that names the value and the limit. */
bool mlypy_int(struct mlypy_state *state, PyObject *object, const char *name, int64_t min,
               int64_t max, bool clip, int64_t *out);
/* The same; None or NULL leaves *out as it is. */
bool mlypy_int_or_none(struct mlypy_state *state, PyObject *object, const char *name, int64_t min,
                       int64_t max, bool clip, int64_t *out);

/* "full", "normal", "off", "memory", None (and NULL): as enum memalloy_durability. */
bool mlypy_durability(struct mlypy_state *state, PyObject *object, int *out);

/* A number from 0.5 to 1; None (and NULL): 0, the default. */
bool mlypy_recall(struct mlypy_state *state, PyObject *object, double *out);

/* Metadata: a dict of JSON values with str keys at every depth. New str with the JSON, or for None
 * and NULL a new reference to None. NULL on failure. */
PyObject *mlypy_metadata(struct mlypy_state *state, PyObject *object, const char *name);

/* A snapshot of a sequence as a tuple; str and bytes are refused, for whoever passes one forgot a
 * pair of brackets. NULL on failure. */
PyObject *mlypy_tuple(PyObject *object, const char *name, const char *wanted);

/* New str, or None where data is NULL. Bytes that are no UTF-8 come from a damaged store:
 * CorruptError. */
PyObject *mlypy_str(struct mlypy_state *state, struct memalloy_str text);

/* An array of count items of item_bytes, all zero; NULL with MemoryError. PyMem_Free frees it. */
void *mlypy_array(size_t count, size_t item_bytes);

/* What becomes of numbers that somebody may write while the GIL is released. Only a call that reads
 * each of them once may borrow them. */
enum mlypy_keep { MLYPY_COPY, MLYPY_BORROW };

/* Numbers as f32[rows][columns], row-major: borrowed where the object is a C-contiguous buffer of
 * native float32, and read-only or for a call that may borrow, else copied. */
struct mlypy_matrix {
    const float *data;
    size_t rows, columns;
    float *owned;   /* NULL where data is borrowed */
    Py_buffer view; /* view.obj is NULL where data is owned */
};

/* A buffer of float32 or float64 with two dimensions, or a sequence of rows, each a buffer or a
 * sequence of numbers; all rows of one length. */
bool mlypy_matrix_init(struct mlypy_state *state, PyObject *object, const char *name,
                       enum mlypy_keep keep, struct mlypy_matrix *out);
/* One row: a buffer with one dimension, or a sequence of numbers. */
bool mlypy_vector_init(struct mlypy_state *state, PyObject *object, const char *name,
                       struct mlypy_matrix *out);
/* Frees or gives back what the matrix holds; safe to repeat and on one that was never filled. */
void mlypy_matrix_deinit(struct mlypy_matrix *matrix);

#endif
