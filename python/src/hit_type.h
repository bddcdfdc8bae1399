/* Hit: a passage that answers a query, and Spans: where it stands. */
#ifndef MLYPY_HIT_TYPE_H
#define MLYPY_HIT_TYPE_H

#include "state.h"

/* New list of hits, best first; NULL with an exception. */
PyObject *mlypy_hits_as_list(struct mlypy_state *state, const memalloy_hits *hits);

#endif
