/* The mapped files of a table (struct mly_env) whose memory is limited, so that what they take of
 * the process's memory can be given back: pages of a file that are mapped count as the process's
 * until the system takes them, which may be long after the limit.
 *
 * Threads  everything may be called from any thread; what is given back while others read it is
 *          fetched again, from the page cache mostly.
 * Errors   NOMEM.
 */
#ifndef MLY_OS_MAPS_H
#define MLY_OS_MAPS_H

#include "base/err.h"
#include "os/env.h"

/* Less than this is never asked for: the program and its libraries are mapped files, too. */
#define MLY_MAPS_BYTES_MIN ((uint64_t)16 << 20)

/* mem: where the list is, and whose bytes in use are taken off bytes_max. */
MLY_MUST_USE enum mly_err mly_maps_create(const struct mly_env *env, struct mly_mem *mem,
                                          uint64_t bytes_max, struct mly_maps **out,
                                          struct mly_error *err);
/* Accepts NULL. Nothing of it is mapped any more. */
void mly_maps_destroy(struct mly_maps *maps);

/* For file.c: a mapping came, a mapping goes. */
MLY_MUST_USE enum mly_err mly_maps_add(struct mly_maps *maps, const void *at, size_t bytes,
                                       struct mly_error *err);
void mly_maps_remove(struct mly_maps *maps, const void *at);

/* Where the process has more of mapped files in memory than the limit leaves, lets go of all of
 * them. Cheap where maps is NULL, some microseconds else: for the ends of calls, and for every few
 * megabytes of what reads much. */
void mly_maps_trim(struct mly_maps *maps);

#endif
