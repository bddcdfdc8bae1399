/* Writes snapshot folders as others publish them, with random weights, whole or with one thing
 * changed.
 */
#ifndef MLY_ENGINE_TINY_SNAPSHOT_H
#define MLY_ENGINE_TINY_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#define SNAPSHOT_HIDDEN 64
#define SNAPSHOT_INNER 128
#define SNAPSHOT_PIECES 58 /* five special tokens, 26 letters, 26 more inside words, one word */

struct snapshot_kind {
    const char *model_type;
    const char *prefix;   /* of the tensors' names */
    const char *type;     /* "F32", "F16", "BF16" */
    const char *missing;  /* the tensor that is left out, or NULL */
    const char *extra;    /* a tensor too many, or NULL */
    const char *infinite; /* the tensor whose first number is not finite, or NULL */
    size_t skipped;       /* positions before the first */
    bool old_names;       /* gamma and beta */
    bool list;            /* vocab.txt */
};
extern const struct snapshot_kind snapshot_plain;

/* A whole folder below dir, made anew; the path lives until the next call. */
const char *snapshot_make(const char *dir, const struct snapshot_kind *kind);
/* Writes folder/name with the first from of its text replaced by to; from NULL: all of it. The file
 * must be one of those that snapshot_make writes as text. */
void snapshot_change(const char *folder, const char *name, const char *from, const char *to);

#endif
