/* ChunkingStrategy: a kind and two sizes, checked when it is made. */
#ifndef MLYPY_STRATEGY_TYPE_H
#define MLYPY_STRATEGY_TYPE_H

#include "state.h"

struct mlypy_strategy {
    PyObject_HEAD struct mlypy_state *state; /* held through the type */
    struct memalloy_chunking chunking;
};

/* "heading", "sentence", "fixed", "token". */
const char *mlypy_strategy_kind(int kind);

#endif
