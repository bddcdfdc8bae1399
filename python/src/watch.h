/* Long calls that look up now and then: for Ctrl-C, for the user's callback, for close().
 *
 * Life     mlypy_watch_begin, the call into the library with mlypy_watch_progress, mlypy_watch_end,
 *          mlypy_watch_failed; the watch lives on the stack of the call.
 * Threads  begin and failed with the GIL held; begin releases it and end takes it back.
 */
#ifndef MLYPY_WATCH_H
#define MLYPY_WATCH_H

#include "kernel_type.h"

#include <stdbool.h>

/* A call that is under way. */
struct mlypy_watch {
    struct mlypy_watch *next;
    struct mlypy_state *state;
    struct mlypy_kernel *kernel; /* NULL: the call is not one on a store */
    PyObject *callback;          /* borrowed from the call; NULL: none */
    PyThreadState *thread;       /* saved while the GIL is released */
    unsigned long thread_id;     /* close() from inside the callback must not wait for itself */
    double told_s;               /* when the callback was called last, and where the call was */
    int told_stage;              /* -1: not yet */
    bool is_main;                /* the thread that signals interrupt */
    memalloy_call *call;         /* made on another thread (aside.c); NULL: on this one */
};

/* What to call for the argument progress: NULL for None and False, a printer for True, or the
 * callable. *out is a new reference. */
bool mlypy_watch_callback(PyObject *object, PyObject **out);
/* Notes the call with its kernel (NULL: none), which is counted in. */
void mlypy_watch_note(struct mlypy_watch *watch, struct mlypy_state *state,
                      struct mlypy_kernel *kernel, PyObject *callback);
/* The same, and releases the GIL. */
void mlypy_watch_begin(struct mlypy_watch *watch, struct mlypy_state *state,
                       struct mlypy_kernel *kernel, PyObject *callback);
/* The memalloy_progress_fn of the call; context is the watch. */
int mlypy_watch_progress(void *context, const struct memalloy_progress *at);
/* New Progress. */
PyObject *mlypy_watch_progress_object(struct mlypy_state *state,
                                      const struct memalloy_progress *at);
void mlypy_watch_forget(const struct mlypy_watch *watch);
/* Takes the GIL back and forgets the call. */
void mlypy_watch_end(struct mlypy_watch *watch);
/* Whether the call failed with rc, in the library or in the callback; then an exception is set. */
bool mlypy_watch_failed(const struct mlypy_watch *watch, int rc, const struct memalloy_error *err);

#endif
