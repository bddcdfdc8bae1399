/* Turns files and strings into texts, and folders into lists of files.
 *
 * Text     strict UTF-8. CRLF is kept as it is. A string is taken byte for byte: it may hold NUL,
 *          and a U+FEFF in front is a character of it. Of a file a byte order mark is skipped and
 *          counted; a file with a NUL in its first 8 KiB, or with bytes that are not UTF-8, is no
 *          text. An empty file is a text of 0 bytes.
 * Paths    with a dir_fd of a folder they are below it: "a/b.txt", opened name by name, and no
 *          symbolic link on the way is followed, so nothing outside can be reached. With
 *          MLY_AT_CWD they are the caller's own, and links are followed.
 * Owns     mly_text frees its buffer with mly_text_deinit; a listing with mly_listing_deinit.
 * Errors   PARSE not text, with the byte and its offset, or not a regular file; LIMIT too large,
 *          with both sizes; CONFLICT changed while it was read; NOTFOUND; IO; NOMEM. Messages of
 *          PARSE, LIMIT and CONFLICT do not name the file: they are reasons.
 * Threads  no state.
 */
#ifndef MLY_SOURCE_SOURCE_H
#define MLY_SOURCE_SOURCE_H

#include "base/arena.h"
#include "base/err.h"
#include "flow/flow.h"
#include "os/os.h"

/* Borrows text, which must outlive out. LIMIT above MLY_DOCUMENT_BYTES_MAX. */
MLY_MUST_USE enum mly_err mly_source_from_string(struct mly_str text, struct mly_text *out,
                                                 struct mly_error *err);
/* Reads a regular file (never a FIFO or device, and never waits for one) and its stamp; the stamp
 * is taken again after reading, and a file that changed meanwhile is read again, three times at
 * most, then CONFLICT. bytes_max is cut to MLY_DOCUMENT_BYTES_MAX; 0 is MLY_FILE_BYTES_MAX. */
MLY_MUST_USE enum mly_err mly_source_from_file(const struct mly_env *env, int dir_fd,
                                               const char *path, uint64_t bytes_max,
                                               struct mly_text *out, struct mly_file_stamp *stamp,
                                               struct mly_error *err);
/* Safe to repeat. */
void mly_text_deinit(struct mly_text *text);
/* What a walk and a reading say of a file. */
struct mly_file_stamp mly_source_stamp(const struct mly_file_info *info);

/* One regular file below the root. */
struct mly_found {
    struct mly_str path; /* below the root, "a/b.txt", the name's own bytes; NUL-terminated */
    struct mly_file_stamp stamp;
    bool has_other_names; /* hard links: it may change under another path */
};

struct mly_listing {
    struct mly_arena arena;  /* what the paths live in */
    struct mly_found *items; /* sorted by path, bytewise */
    size_t count;
    struct mly_str *unread; /* folders below the root ("" is the root) of which not every file is
                               known, with all that is below them */
    struct mly_str *unread_reasons;
    size_t unread_count;
    size_t capacity, unread_capacity;
};

struct mly_walk_options {
    const char *const *include;
    size_t include_count;
    const char *const *exclude;
    size_t exclude_count;
    /* folders that are never entered, by device and inode: the store's own */
    uint64_t skip_device, skip_inode;
    bool has_skip;
    bool is_flat; /* folders below the root are not entered */
    /* Only these files and folders below the root, "a/b", none twice or below another; NULL: all.
     * What is not there is passed over. */
    const struct mly_str *only;
    size_t only_count;
};

/* Lists the regular files below root that the patterns (memalloy.h) let through. Hidden names
 * (those that begin with ".") are left out. Symbolic links are neither listed nor entered: a file
 * that one leads to inside root is found by its own name. A folder that cannot be listed goes to
 * unread and the walk goes on. root itself may be a link. Errors INVAL for a pattern that cannot be
 * read or a root that is no folder; NOTFOUND; IO the root cannot be listed; LIMIT. */
MLY_MUST_USE enum mly_err mly_source_walk(const struct mly_env *env, const char *root,
                                          const struct mly_walk_options *options,
                                          struct mly_listing *out, struct mly_error *err);
/* Safe to repeat. */
void mly_listing_deinit(struct mly_listing *listing);
/* True where a walk with these options would list the file path, were it there: no name in it is
 * hidden and the patterns let it through. */
bool mly_source_wants(const struct mly_walk_options *options, struct mly_str path);

/* True where the glob pattern matches the file path; see memalloy.h for its language. Besides: a
 * leading or inner "**" between slashes also stands for no folder at all; [!a-z] and [^a-z] take
 * what is not in the class; a "/" at the end takes folders only and does not count as a "/" in the
 * pattern; ? and classes take one code point; there is no escape but a class: [*]. */
bool mly_glob_match(struct mly_str pattern, struct mly_str path);
/* The same for a folder's path. */
bool mly_glob_match_folder(struct mly_str pattern, struct mly_str path);
/* INVAL for an empty pattern, an open class, a range that goes down, or a leading "/"; LIMIT above
 * MLY_GLOB_BYTES_MAX. */
#define MLY_GLOB_BYTES_MAX ((size_t)1024)
MLY_MUST_USE enum mly_err mly_glob_check(struct mly_str pattern, struct mly_error *err);

#endif
