/* Reads the header of a safetensors file strictly, and refuses what does not add up.
 *
 *   offset      bytes  meaning
 *   0           8      h, length of the header, little-endian
 *   8           h      JSON: name -> {dtype, shape, data_offsets}, and "__metadata__": name ->
 * text; spaces behind it 8 + h       rest   the tensors, one behind the other in the order of the
 * header, without holes
 *
 * Range    names and metadata keys without escapes; up to MLY_TENSORS_MAX tensors of up to 4
 *          dimensions of the types below.
 * Owns     the table of tensors; names and data are borrowed from the file's bytes.
 * Errors   MODEL bytes that are no safetensors file, CORRUPT one that is damaged, NOMEM.
 * Source   github.com/huggingface/safetensors, README "Format".
 */
#ifndef MLY_EMBED_SAFETENSORS_H
#define MLY_EMBED_SAFETENSORS_H

#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>

/* A hundred layers have two thousand. */
#define MLY_TENSORS_MAX 4096
#define MLY_TENSOR_RANK_MAX 4
/* The cap of the reference implementation. */
#define MLY_TENSORS_HEADER_BYTES_MAX ((uint64_t)100 << 20)

enum mly_tensor_type {
    MLY_TENSOR_I8,
    MLY_TENSOR_U8,
    MLY_TENSOR_F32,
    MLY_TENSOR_BF16,
    MLY_TENSOR_F16,
    MLY_TENSOR_F64,
    MLY_TENSOR_I32,
    MLY_TENSOR_I64,
};

struct mly_tensor {
    struct mly_str name;
    enum mly_tensor_type type;
    size_t rank;
    uint64_t shape[MLY_TENSOR_RANK_MAX];
    const uint8_t *data;
    size_t bytes;
};

struct mly_tensors {
    struct mly_mem *mem;
    struct mly_tensor *items;
    size_t count;
    struct mly_str header; /* the JSON, spaces included */
    struct mly_str
        metadata; /* the JSON object behind "__metadata__", checked; null where none is */
    struct mly_str data;
};

/* bytes must stay for as long as the table is used. */
MLY_MUST_USE enum mly_err mly_tensors_read(struct mly_mem *mem, struct mly_str bytes,
                                           struct mly_tensors *out, struct mly_error *err);
void mly_tensors_deinit(struct mly_tensors *tensors);
/* NULL where no tensor has that name. */
const struct mly_tensor *mly_tensors_find(const struct mly_tensors *tensors, const char *name);

#endif
