/* Clocks, random bytes, and the UUIDs made of both (RFC 9562). */
#include "os/clock.h"

#include <errno.h>
#include <string.h>

int64_t mly_clock_wall_us(const struct mly_env *env)
{
    return env->wall_ns(env->context) / 1000;
}

double mly_clock_seconds(const struct mly_env *env)
{
    return (double)env->monotonic_ns(env->context) * 1e-9;
}

void mly_clock_sleep_ms(const struct mly_env *env, uint32_t ms)
{
    (void)env->sleep_ns(env->context, (int64_t)ms * 1000000);
}

enum mly_err mly_random_bytes(const struct mly_env *env, void *out, size_t bytes,
                              struct mly_error *err)
{
    uint8_t *to = out;
    while (bytes > 0) {
        size_t part = bytes < 256 ? bytes : 256;
        int result = env->random(env->context, to, part);
        if (result == -EINTR) continue;
        if (result < 0) {
            return mly_fail_errno(err, MLY_ERR_IO, -result, "cannot get %zu random bytes", part);
        }
        to += part;
        bytes -= part;
    }
    return MLY_OK;
}

/* Puts version and variant in and writes the text form. */
static void write_uuid(uint8_t bytes[16], unsigned version, char out[37])
{
    static const char digits[] = "0123456789abcdef";
    bytes[6] = (uint8_t)((bytes[6] & 0x0Fu) | (version << 4));
    bytes[8] = (uint8_t)((bytes[8] & 0x3Fu) | 0x80u);
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) out[at++] = '-';
        out[at++] = digits[bytes[i] >> 4];
        out[at++] = digits[bytes[i] & 15];
    }
    out[at] = '\0';
}

static void write_uuid7(const struct mly_env *env, uint8_t bytes[16], char out[37])
{
    uint64_t ms = (uint64_t)(env->wall_ns(env->context) / 1000000);
    for (int i = 0; i < 6; i++) {
        bytes[i] = (uint8_t)(ms >> (8 * (5 - i)));
    }
    write_uuid(bytes, 7, out);
}

enum mly_err mly_uuid7(const struct mly_env *env, char out[37], struct mly_error *err)
{
    uint8_t bytes[16];
    MLY_TRY(mly_random_bytes(env, bytes, sizeof(bytes), err));
    write_uuid7(env, bytes, out);
    return MLY_OK;
}

enum mly_err mly_uuid7_next(const struct mly_env *env, struct mly_uuid_source *source, char out[37],
                            struct mly_error *err)
{
    if (source->left == 0) {
        MLY_TRY(mly_random_bytes(env, source->random, sizeof(source->random), err));
        source->left = sizeof(source->random) / sizeof(source->random[0]);
    }
    write_uuid7(env, source->random[--source->left], out);
    return MLY_OK;
}

enum mly_err mly_uuid4(const struct mly_env *env, char out[37], struct mly_error *err)
{
    uint8_t bytes[16];
    MLY_TRY(mly_random_bytes(env, bytes, sizeof(bytes), err));
    write_uuid(bytes, 4, out);
    return MLY_OK;
}

void mly_uuid8(const uint8_t hash[16], char out[37])
{
    uint8_t bytes[16];
    memcpy(bytes, hash, sizeof(bytes));
    write_uuid(bytes, 8, out);
}
