/* Errors: a code for the program, a message for the person.
 *
 * A function that can fail returns enum mly_err and writes its err (last, may be NULL) where the
 * failure is discovered; those above pass it on or put the name of the thing in front. Messages:
 * the thing, the value, the limit; lower case, no full stop, no function names.
 */
#ifndef MLY_BASE_ERR_H
#define MLY_BASE_ERR_H

#include <memalloy.h>

#include <stdarg.h>
#include <stddef.h>

/* The codes of the public header under internal names: MLY_OK, MLY_ERR_NOMEM ... */
enum mly_err {
    MLY_OK = 0,
#define MLY_ERR_ENUM(name, value, exception, text) MLY_ERR_##name = (value),
    MEMALLOY_ERR_MAP(MLY_ERR_ENUM)
#undef MLY_ERR_ENUM
};

#define MLY_ERROR_BYTES MEMALLOY_ERROR_BYTES
struct mly_error {
    enum mly_err code;
    int system_errno;
    char message[MLY_ERROR_BYTES];
};

#if defined(__GNUC__)
#define MLY_MUST_USE __attribute__((warn_unused_result))
#define MLY_PRINTF(format_i, first_i) __attribute__((format(printf, format_i, first_i)))
#else
#define MLY_MUST_USE
#define MLY_PRINTF(format_i, first_i)
#endif

/* Writes err (if any) and returns code. A message that is too long loses its end. */
enum mly_err mly_fail(struct mly_error *err, enum mly_err code, const char *format, ...)
    MLY_PRINTF(3, 4);
/* As mly_fail; ": " and the system's text for system_errno follow the message. ENOMEM gives NOMEM,
 * ENOENT NOTFOUND, everything else code. */
enum mly_err mly_fail_errno(struct mly_error *err, enum mly_err code, int system_errno,
                            const char *format, ...) MLY_PRINTF(4, 5);
/* Out of memory, with the number of bytes that could not be had. */
enum mly_err mly_fail_nomem(struct mly_error *err, size_t bytes);
/* Puts "text: " in front of the message that is there; returns err's code, or code where err is
 * NULL. */
enum mly_err mly_fail_in(struct mly_error *err, enum mly_err code, const char *format, ...)
    MLY_PRINTF(3, 4);

/* Passes a failure on. Only while nothing is held. */
#define MLY_TRY(call)                                                                              \
    do {                                                                                           \
        enum mly_err mly_try_rc = (call);                                                          \
        if (mly_try_rc != MLY_OK) {                                                                \
            return mly_try_rc;                                                                     \
        }                                                                                          \
    } while (0)

#endif
