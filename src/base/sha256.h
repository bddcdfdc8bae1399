/* SHA-256 (FIPS 180-4): the name that others give to the files we read. Ours are named by BLAKE2b.
 */
#ifndef MLY_BASE_SHA256_H
#define MLY_BASE_SHA256_H

#include "base/str.h"

/* 64 hex digits and a NUL. */
void mly_sha256_hex(struct mly_str text, char out[65]);

#endif
