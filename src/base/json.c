/* jansson's allocator is global to the process, so it is left alone (docs/TESTING.md lists it). */
#include "base/json.h"

#include "base/limits.h"

#include <jansson.h>

enum mly_err mly_json_check_object(struct mly_str text, const char *what, struct mly_error *err)
{
    if (text.bytes > MLY_METADATA_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "%s has %zu bytes, limit is %zu", what, text.bytes,
                        (size_t)MLY_METADATA_BYTES_MAX);
    }
    /* Only looked at, so integers may be of any length: as reals they need no 64 bits. */
    json_error_t fault;
    json_t *value = json_loadb(text.bytes > 0 ? text.data : "", text.bytes,
                               JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY |
                                   JSON_DECODE_INT_AS_REAL,
                               &fault);
    if (value == NULL) {
        if (json_error_code(&fault) == json_error_out_of_memory) {
            return mly_fail(err, MLY_ERR_NOMEM, "out of memory while reading %s", what);
        }
        return mly_fail(err, MLY_ERR_INVAL, "%s cannot be read as JSON: %s at line %d, column %d",
                        what, fault.text, fault.line, fault.column);
    }
    bool is_object = json_is_object(value);
    json_decref(value);
    if (!is_object) return mly_fail(err, MLY_ERR_INVAL, "%s must be a JSON object", what);
    return MLY_OK;
}
