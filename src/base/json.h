/* JSON (RFC 8259) through jansson: metadata is any JSON object. */
#ifndef MLY_BASE_JSON_H
#define MLY_BASE_JSON_H

#include "base/err.h"
#include "base/str.h"

/* Checks that text is one JSON object: well-formed UTF-8, no duplicate keys, depth and size within
 * limits.h; integers of any length, no NUL in keys. The text itself is what is stored: nothing is
 * rewritten.
 * Errors  INVAL with line and column of the fault; LIMIT; NOMEM. what names the thing, for instance
 * "metadata". */
MLY_MUST_USE enum mly_err mly_json_check_object(struct mly_str text, const char *what,
                                                struct mly_error *err);

#endif
