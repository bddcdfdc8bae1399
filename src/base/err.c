/* Formats messages into a fixed buffer: an error must never need memory. */
#define _POSIX_C_SOURCE 200809L /* strerror_r that returns int; glibc has two of that name */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum mly_err mly_fail(struct mly_error *err, enum mly_err code, const char *format, ...)
{
    if (err == NULL) return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    err->code = code;
    err->system_errno = 0;
    return code;
}

enum mly_err mly_fail_errno(struct mly_error *err, enum mly_err code, int system_errno,
                            const char *format, ...)
{
    if (system_errno == ENOMEM) code = MLY_ERR_NOMEM;
    if (system_errno == ENOENT) code = MLY_ERR_NOTFOUND;
    if (err == NULL) return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    size_t used = strlen(err->message);
    char text[128];
    if (strerror_r(system_errno, text, sizeof(text)) != 0) {
        snprintf(text, sizeof(text), "error %d", system_errno);
    }
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", text);
    err->code = code;
    err->system_errno = system_errno;
    return code;
}

enum mly_err mly_fail_nomem(struct mly_error *err, size_t bytes)
{
    return mly_fail(err, MLY_ERR_NOMEM, "out of memory: %zu bytes could not be had", bytes);
}

enum mly_err mly_fail_in(struct mly_error *err, enum mly_err code, const char *format, ...)
{
    if (err == NULL) return code;
    char old[MLY_ERROR_BYTES];
    memcpy(old, err->message, sizeof(old));
    old[sizeof(old) - 1] = '\0';
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    size_t used = strlen(err->message);
    snprintf(err->message + used, sizeof(err->message) - used, ": %s", old);
    return err->code;
}
