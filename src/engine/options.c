/* Structs that cross the border: a caller built against an older header knows fewer fields, one
 * built against a newer header more. Both must work, or fail aloud. */
#include "engine/engine_int.h"

#include "base/utf8.h"

#include <math.h>
#include <string.h>

enum mly_err mly_options_take(void *local, size_t local_bytes, const void *given, const char *name,
                              struct mly_error *err)
{
    if (given == NULL) return MLY_OK;
    size_t given_bytes;
    memcpy(&given_bytes, given, sizeof(given_bytes));
    if (given_bytes < sizeof(size_t) || given_bytes > 65536) {
        return mly_fail(err, MLY_ERR_INVAL, "struct_bytes of %s is %zu, not its size", name,
                        given_bytes);
    }
    const unsigned char *bytes = given;
    for (size_t i = local_bytes; i < given_bytes; i++) {
        if (bytes[i] != 0) {
            return mly_fail(err, MLY_ERR_INVAL,
                            "%s of %zu bytes has options that memalloy %s does not know", name,
                            given_bytes, memalloy_version());
        }
    }
    memcpy(local, given, given_bytes < local_bytes ? given_bytes : local_bytes);
    memcpy(local, &local_bytes, sizeof(local_bytes));
    return MLY_OK;
}

void mly_options_give(void *caller, const void *local, size_t local_bytes)
{
    size_t caller_bytes;
    memcpy(&caller_bytes, caller, sizeof(caller_bytes));
    size_t bytes = caller_bytes < local_bytes ? caller_bytes : local_bytes;
    if (bytes <= sizeof(size_t)) return;
    memcpy((unsigned char *)caller + sizeof(size_t), (const unsigned char *)local + sizeof(size_t),
           bytes - sizeof(size_t));
}

void mly_options_copy_text(char *out, size_t out_bytes, struct mly_str text)
{
    size_t bytes = text.data == NULL ? 0 : text.bytes;
    if (bytes >= out_bytes) {
        bytes = out_bytes - 1;
        while (bytes > 0 && !mly_utf8_is_start(text.data[bytes])) {
            bytes--;
        }
    }
    if (bytes > 0) memcpy(out, text.data, bytes);
    out[bytes] = '\0';
}

enum mly_err mly_options_durability(int given, enum mly_durability *out, struct mly_error *err)
{
    switch (given) {
    case MEMALLOY_DURABILITY_DEFAULT:
        *out = MLY_DURABILITY_DEFAULT;
        return MLY_OK;
    case MEMALLOY_DURABILITY_FULL:
        *out = MLY_DURABILITY_FULL;
        return MLY_OK;
    case MEMALLOY_DURABILITY_NORMAL:
        *out = MLY_DURABILITY_NORMAL;
        return MLY_OK;
    case MEMALLOY_DURABILITY_OFF:
        *out = MLY_DURABILITY_OFF;
        return MLY_OK;
    case MEMALLOY_DURABILITY_MEMORY:
        *out = MLY_DURABILITY_MEMORY;
        return MLY_OK;
    default:
        return mly_fail(err, MLY_ERR_INVAL, "durability %d is none of 0 to %d", given,
                        MEMALLOY_DURABILITY_MEMORY);
    }
}

enum mly_err mly_options_write(const struct memalloy_write_options *options,
                               struct mly_write_request *out, struct mly_error *err)
{
    struct memalloy_write_options local = {.struct_bytes = sizeof(local)};
    MLY_TRY(mly_options_take(&local, sizeof(local), options, "memalloy_write_options", err));
    out->progress = local.progress;
    out->progress_context = local.progress_context;
    return mly_options_durability(local.durability, &out->durability, err);
}

enum mly_err mly_options_chunking(const struct memalloy_chunking *chunking,
                                  struct mly_chunking *out, struct mly_error *err)
{
    struct memalloy_chunking local = {.struct_bytes = sizeof(local),
                                      .kind = MEMALLOY_CHUNKING_HEADING,
                                      .size = MEMALLOY_SIZE_DEFAULT,
                                      .overlap = MEMALLOY_SIZE_DEFAULT};
    MLY_TRY(mly_options_take(&local, sizeof(local), chunking, "memalloy_chunking", err));
    if (local.kind < MEMALLOY_CHUNKING_HEADING || local.kind > MEMALLOY_CHUNKING_TOKEN) {
        return mly_fail(err, MLY_ERR_INVAL, "chunking kind %d is none of 0 to %d", local.kind,
                        MEMALLOY_CHUNKING_TOKEN);
    }
    *out = (struct mly_chunking){.kind = (enum memalloy_chunking_kind)local.kind,
                                 .size = local.size,
                                 .overlap = local.overlap};
    return mly_chunking_resolve(out, err);
}

#define LANES 16

/* in is read once, into out: another thread may be writing it. The sum of the squares, in lanes of
 * one fixed order; it is finite where every number is, since no square of a float is too large. */
static double copy_and_square(const float *in, size_t dim, float *out)
{
    double lanes[LANES] = {0};
    size_t whole = dim - dim % LANES;
    memcpy(out, in, dim * sizeof(out[0]));
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] += (double)out[i + lane] * out[i + lane];
    }
    for (size_t i = whole; i < dim; i++)
        lanes[i - whole] += (double)out[i] * out[i];
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t lane = 0; lane < half; lane++)
            lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

enum mly_err mly_unit_vector(const float *in, size_t dim, const char *what, float *out,
                             struct mly_error *err)
{
    double sum = copy_and_square(in, dim, out);
    for (size_t i = 0; !isfinite(sum) && i < dim; i++) {
        if (!isfinite(out[i])) {
            return mly_fail(err, MLY_ERR_INVAL, "%s has no finite number at position %zu", what, i);
        }
    }
    if (!(sum > 0.0)) {
        return mly_fail(err, MLY_ERR_INVAL, "%s is all zero and has no direction", what);
    }
    double factor = 1.0 / sqrt(sum);
    for (size_t i = 0; i < dim; i++) {
        out[i] = (float)(out[i] * factor);
    }
    return MLY_OK;
}

enum mly_err mly_options_recall(double given, struct mly_error *err)
{
    if (given == 0 || (given >= 0.5 && given <= 1)) return MLY_OK;
    return mly_fail(err, MLY_ERR_INVAL, "recall %g, it must be 0.5 to 1", given);
}
