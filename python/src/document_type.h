/* Document: what was added, or a passage of it. */
#ifndef MLYPY_DOCUMENT_TYPE_H
#define MLYPY_DOCUMENT_TYPE_H

#include "state.h"

struct mlypy_document {
    PyObject_HEAD struct mlypy_state *state; /* held through the type */
    PyObject *id;                            /* str */
    PyObject *content;                       /* str; NULL: to be read from kernel when asked for */
    PyObject *metadata_json;                 /* str or None; NULL once metadata is there */
    PyObject *metadata;                      /* dict; NULL: not parsed yet */
    PyObject *path;                          /* str or None */
    PyObject *title;                         /* str or None */
    PyObject *byte_count;                    /* int or None */
    PyObject *chunk_count;                   /* int or None */
    PyObject *kernel;                     /* whom to ask for the content; NULL where it is here */
    int64_t created_at_us, updated_at_us; /* INT64_MIN: unknown */
    char altered;
};

/* New document from a row; kernel is kept where the row has no content, and may be NULL where it
 * has. NULL with an exception. */
PyObject *mlypy_document_from(struct mlypy_state *state, const struct memalloy_document *row,
                              PyObject *kernel);

/* New document for a hit: id, metadata and path of the document, content of the passage. */
PyObject *mlypy_document_from_hit(struct mlypy_state *state, const struct memalloy_hit *hit);

#endif
