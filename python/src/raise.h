/* The way from struct memalloy_error to a Python exception.
 *
 * Errors   every function here that returns PyObject * returns NULL with an exception set, so that
 *          a caller can `return mlypy_raise(...)`.
 */
#ifndef MLYPY_RAISE_H
#define MLYPY_RAISE_H

#include "state.h"

/* Makes MemalloyError and its children from MEMALLOY_ERR_MAP and adds them to the module. 0, or -1
 * with an exception. */
int mlypy_exceptions_add(struct mlypy_state *state, PyObject *module);

/* Raises the exception of err->code with its message; errno where the system had a part. */
PyObject *mlypy_raise(struct mlypy_state *state, const struct memalloy_error *err);

/* Raises the exception of a code with a message of ours; format as PyErr_Format's. */
PyObject *mlypy_raise_code(struct mlypy_state *state, int code, const char *format, ...);

/* TypeError: "<name> must be <wanted>, not <type of object>". */
PyObject *mlypy_raise_type(const char *name, const char *wanted, PyObject *object);

#endif
