/* Time, chance, and who we are. */
#ifndef MLY_OS_CLOCK_H
#define MLY_OS_CLOCK_H

#include "base/err.h"
#include "os/env.h"

int64_t mly_clock_wall_us(const struct mly_env *env);
double mly_clock_seconds(const struct mly_env *env); /* monotonic */
void mly_clock_sleep_ms(const struct mly_env *env, uint32_t ms);
MLY_MUST_USE enum mly_err mly_random_bytes(const struct mly_env *env, void *out, size_t bytes,
                                           struct mly_error *err);
/* A UUIDv7 (RFC 9562): sorts by time of birth to the millisecond. 36 characters and a NUL. */
MLY_MUST_USE enum mly_err mly_uuid7(const struct mly_env *env, char out[37], struct mly_error *err);
/* The same for many: the system is asked for chance once in 16 ids. Begins all zero; one thread at
 * a time. */
struct mly_uuid_source {
    uint8_t random[16][16];
    size_t left;
};
MLY_MUST_USE enum mly_err mly_uuid7_next(const struct mly_env *env, struct mly_uuid_source *source,
                                         char out[37], struct mly_error *err);
/* A UUIDv4. */
MLY_MUST_USE enum mly_err mly_uuid4(const struct mly_env *env, char out[37], struct mly_error *err);
/* A UUIDv8 from 16 bytes of a hash: version and variant bits are put in. */
void mly_uuid8(const uint8_t hash[16], char out[37]);

#endif
