/* Texts of others in messages: as much of them as helps, and nothing where there is none. */
#ifndef MLY_BASE_SHOW_H
#define MLY_BASE_SHOW_H

#include "base/str.h"

/* What "%.*s" takes. */
#define MLY_SHOWN(text, bytes_max) mly_str_shown((text), (bytes_max)), mly_str_or_empty(text)

static inline int mly_str_shown(struct mly_str text, size_t bytes_max)
{
    return (int)(text.bytes < bytes_max ? text.bytes : bytes_max);
}

static inline const char *mly_str_or_empty(struct mly_str text)
{
    return text.data != NULL ? text.data : "";
}

#endif
