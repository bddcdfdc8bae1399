/* Turns files and strings into texts, and folders into lists of files.
 *
 * Text     strict UTF-8; a BOM is skipped and counted; CRLF is kept as it is; a string may hold
 * NUL, a file with a NUL in its first 8 KiB, or with bytes that are not UTF-8, is not text. Owns
 * mly_text frees its buffer with mly_text_deinit; a listing with mly_listing_deinit. Errors   PARSE
 * not text, with the byte and its offset; LIMIT too large, with both sizes; NOTFOUND; IO; NOMEM.
 */
#ifndef MLY_SOURCE_SOURCE_H
#define MLY_SOURCE_SOURCE_H

#include "base/arena.h"
#include "base/err.h"
#include "flow/flow.h"
#include "os/os.h"

/* Borrows text, which must outlive out. */
MLY_MUST_USE enum mly_err mly_source_from_string(struct mly_str text, struct mly_text *out,
                                                 struct mly_error *err);
/* Reads a regular file (never a FIFO or device) and its stamp; the stamp is taken again after
 * reading, and a file that changed meanwhile is read again, at most three times, then CONFLICT. */
MLY_MUST_USE enum mly_err mly_source_from_file(const struct mly_env *env, int dir_fd,
                                               const char *path, uint64_t bytes_max,
                                               struct mly_text *out, struct mly_file_stamp *stamp,
                                               struct mly_error *err);
void mly_text_deinit(struct mly_text *text);

/* One regular file below the root. */
struct mly_found {
    struct mly_str path; /* below the root, "a/b.txt", the name's own bytes */
    struct mly_file_stamp stamp;
};

struct mly_listing {
    struct mly_arena arena;  /* what the paths live in */
    struct mly_found *items; /* sorted by path, bytewise */
    size_t count;
    struct mly_str *unread; /* folders below the root that could not be listed: nothing is known of
                               their files */
    struct mly_str *unread_reasons;
    size_t unread_count;
};

struct mly_walk_options {
    const char *const *include;
    size_t include_count;
    const char *const *exclude;
    size_t exclude_count;
    /* folders that are never entered, by device and inode: the store's own */
    uint64_t skip_device, skip_inode;
    bool has_skip;
};

/* Lists the regular files below root that the patterns (memalloy.h) let through. Hidden names are
 * left out. Symbolic links that lead to a file inside root are left out too, since that file is
 * found by its own name; links that lead out are not followed. INVAL for a pattern that cannot be
 * read. */
MLY_MUST_USE enum mly_err mly_source_walk(const struct mly_env *env, const char *root,
                                          const struct mly_walk_options *options,
                                          struct mly_listing *out, struct mly_error *err);
void mly_listing_deinit(struct mly_listing *listing);

/* True where the glob pattern matches path; see memalloy.h for its language. */
bool mly_glob_match(struct mly_str pattern, struct mly_str path);
/* INVAL for an empty pattern, an open class, or a leading "/". */
MLY_MUST_USE enum mly_err mly_glob_check(struct mly_str pattern, struct mly_error *err);

#endif
