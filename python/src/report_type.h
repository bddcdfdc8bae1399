/* SyncReport: what one sync did. */
#ifndef MLYPY_REPORT_TYPE_H
#define MLYPY_REPORT_TYPE_H

#include "state.h"

/* New report; NULL with an exception. */
PyObject *mlypy_report_from(struct mlypy_state *state, const memalloy_report *report);

#endif
