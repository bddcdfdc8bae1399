/* Borrowed text: a pointer and a byte count. data NULL is a null, "" an empty text. */
#ifndef MLY_BASE_STR_H
#define MLY_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct mly_str {
    const char *data;
    size_t bytes;
};

#define MLY_STR_NULL ((struct mly_str){0})
/* For string literals only. */
#define MLY_STR(literal) ((struct mly_str){(literal), sizeof(literal) - 1})

static inline struct mly_str mly_str_of(const char *text)
{
    return (struct mly_str){text, text == NULL ? 0 : strlen(text)};
}

/* A null equals nothing but a null. */
static inline bool mly_str_equal(struct mly_str a, struct mly_str b)
{
    if (a.data == NULL || b.data == NULL) return a.data == b.data;
    return a.bytes == b.bytes && memcmp(a.data, b.data, a.bytes) == 0;
}

/* Order by bytes, a prefix first: that of UTF-8 code points. Both not null. */
static inline int mly_str_compare(struct mly_str a, struct mly_str b)
{
    size_t common = a.bytes < b.bytes ? a.bytes : b.bytes;
    int order = memcmp(a.data, b.data, common);
    if (order != 0) return order;
    return (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static inline bool mly_str_starts_with(struct mly_str text, struct mly_str prefix)
{
    return text.bytes >= prefix.bytes && memcmp(text.data, prefix.data, prefix.bytes) == 0;
}

static inline struct mly_str mly_str_slice(struct mly_str text, size_t start, size_t end)
{
    return (struct mly_str){text.data + start, end - start};
}

#endif
