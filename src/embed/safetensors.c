/* The header of a safetensors file becomes a table of tensors, each with a pointer into the file.
 *
 * In: the whole file's bytes, believed in nothing. Each tensor must begin where the one before it
 * ends and the last must end with the file; so nothing overlaps, nothing is hidden in holes, and a
 * file that was cut off is found by arithmetic alone.
 */
#include "embed/safetensors.h"

#include "embed/scan.h"

static enum mly_err damaged(struct mly_error *err, const char *what)
{
    return mly_fail(err, MLY_ERR_CORRUPT, "the header of the model file is damaged: %s", what);
}

/* In the order of enum mly_tensor_type. */
static const struct {
    struct mly_str name;
    size_t bytes;
} types[] = {
    {{"I8", 2}, 1},  {{"U8", 2}, 1},  {{"F32", 3}, 4}, {{"BF16", 4}, 2},
    {{"F16", 3}, 2}, {{"F64", 3}, 8}, {{"I32", 3}, 4}, {{"I64", 3}, 8},
};

static bool read_type(struct mly_scan *scan, enum mly_tensor_type *out)
{
    struct mly_str name;
    if (!mly_scan_plain(scan, &name)) return false;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (mly_str_equal(name, types[i].name)) {
            *out = (enum mly_tensor_type)i;
            return true;
        }
    }
    return false;
}

/* [n, n ...] with up to max numbers. */
static bool read_numbers(struct mly_scan *scan, uint64_t *out, size_t max, size_t *count)
{
    *count = 0;
    if (!mly_scan_mark(scan, '[')) return false;
    if (mly_scan_mark(scan, ']')) return true;
    do {
        if (*count == max || !mly_scan_number(scan, &out[*count])) return false;
        (*count)++;
    } while (mly_scan_mark(scan, ','));
    return mly_scan_mark(scan, ']');
}

/* {"dtype": .., "shape": .., "data_offsets": ..}, each once, in any order. */
static bool read_entry(struct mly_scan *scan, struct mly_tensor *tensor, uint64_t offsets[2])
{
    unsigned seen = 0;
    if (!mly_scan_mark(scan, '{')) return false;
    do {
        struct mly_str key;
        size_t count = 0;
        unsigned bit;
        if (!mly_scan_plain(scan, &key) || !mly_scan_mark(scan, ':')) return false;
        if (mly_str_equal(key, MLY_STR("dtype"))) {
            bit = 1;
            if (!read_type(scan, &tensor->type)) return false;
        } else if (mly_str_equal(key, MLY_STR("shape"))) {
            bit = 2;
            if (!read_numbers(scan, tensor->shape, MLY_TENSOR_RANK_MAX, &tensor->rank))
                return false;
        } else if (mly_str_equal(key, MLY_STR("data_offsets"))) {
            bit = 4;
            if (!read_numbers(scan, offsets, 2, &count) || count != 2) return false;
        } else {
            return false;
        }
        if ((seen & bit) != 0) return false;
        seen |= bit;
    } while (mly_scan_mark(scan, ','));
    return seen == 7 && mly_scan_mark(scan, '}');
}

static bool skip_metadata(struct mly_scan *scan, struct mly_str *out)
{
    struct mly_str ignored;
    if (!mly_scan_sees(scan, '{')) return false;
    const char *start = scan->at++;
    if (!mly_scan_sees(scan, '}')) {
        do {
            if (!mly_scan_plain(scan, &ignored) || !mly_scan_mark(scan, ':') ||
                !mly_scan_string(scan, &ignored)) {
                return false;
            }
        } while (mly_scan_mark(scan, ','));
    }
    if (!mly_scan_mark(scan, '}')) return false;
    *out = (struct mly_str){start, (size_t)(scan->at - start)};
    return true;
}

/* Does the shape fill the span, and does the span follow the one before? */
static enum mly_err place_tensor(struct mly_tensor *tensor, const uint64_t offsets[2],
                                 struct mly_str data, uint64_t *at, struct mly_error *err)
{
    size_t bytes = types[tensor->type].bytes;
    for (size_t i = 0; i < tensor->rank; i++) {
        if (tensor->shape[i] > SIZE_MAX || !mly_size_mul(bytes, (size_t)tensor->shape[i], &bytes)) {
            return mly_fail(err, MLY_ERR_CORRUPT, "tensor %.*s of the model file is too large",
                            (int)tensor->name.bytes, tensor->name.data);
        }
    }
    if (offsets[0] != *at || offsets[1] < offsets[0] || offsets[1] - offsets[0] != bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "tensor %.*s of the model file claims bytes %llu to %llu, but it has %zu "
                        "and stands at %llu",
                        (int)tensor->name.bytes, tensor->name.data, (unsigned long long)offsets[0],
                        (unsigned long long)offsets[1], bytes, (unsigned long long)*at);
    }
    if (offsets[1] > data.bytes) {
        return mly_fail(
            err, MLY_ERR_CORRUPT, "the model file is cut off: tensor %.*s ends at byte %llu of %zu",
            (int)tensor->name.bytes, tensor->name.data, (unsigned long long)offsets[1], data.bytes);
    }
    tensor->data = (const uint8_t *)data.data + offsets[0];
    tensor->bytes = bytes;
    *at = offsets[1];
    return MLY_OK;
}

static enum mly_err check_new_name(const struct mly_tensors *tensors, struct mly_str name,
                                   struct mly_error *err)
{
    if (tensors->count == MLY_TENSORS_MAX) {
        return mly_fail(err, MLY_ERR_CORRUPT, "the model file has more than %d tensors",
                        MLY_TENSORS_MAX);
    }
    if (name.bytes == 0 || name.bytes > 200) return damaged(err, "a name is empty or too long");
    for (size_t i = 0; i < tensors->count; i++) {
        if (mly_str_equal(tensors->items[i].name, name)) {
            return mly_fail(err, MLY_ERR_CORRUPT, "tensor %.*s stands twice in the model file",
                            (int)name.bytes, name.data);
        }
    }
    return MLY_OK;
}

static enum mly_err read_header(struct mly_tensors *tensors, struct mly_error *err)
{
    struct mly_scan scan = mly_scan_of(tensors->header);
    uint64_t at = 0;
    if (!mly_scan_mark(&scan, '{')) return damaged(err, "it is no JSON object");
    do {
        struct mly_str name;
        if (!mly_scan_plain(&scan, &name) || !mly_scan_mark(&scan, ':')) {
            return damaged(err, "a name is expected");
        }
        if (mly_str_equal(name, MLY_STR("__metadata__"))) {
            if (tensors->metadata.data != NULL || !skip_metadata(&scan, &tensors->metadata)) {
                return damaged(err, "its metadata cannot be read");
            }
            continue;
        }
        uint64_t offsets[2] = {0, 0};
        MLY_TRY(check_new_name(tensors, name, err));
        struct mly_tensor *tensor = &tensors->items[tensors->count];
        tensor->name = name;
        if (!read_entry(&scan, tensor, offsets)) {
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "tensor %.*s is described in no way that can be read", (int)name.bytes,
                            name.data);
        }
        MLY_TRY(place_tensor(tensor, offsets, tensors->data, &at, err));
        tensors->count++;
    } while (mly_scan_mark(&scan, ','));
    if (!mly_scan_mark(&scan, '}') || !mly_scan_done(&scan)) {
        return damaged(err, "something stands behind its end");
    }
    if (at != tensors->data.bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "the model file has %zu bytes of tensors, its header describes %llu",
                        tensors->data.bytes, (unsigned long long)at);
    }
    return MLY_OK;
}

/* Splits the file into header and data. */
static enum mly_err split_file(struct mly_str bytes, struct mly_tensors *out, struct mly_error *err)
{
    uint64_t header_bytes = 0;
    if (bytes.bytes < 10 || bytes.data[8] != '{') {
        return mly_fail(err, MLY_ERR_MODEL, "not a safetensors file");
    }
    for (size_t i = 8; i > 0; i--) {
        header_bytes = header_bytes << 8 | (uint8_t)bytes.data[i - 1];
    }
    if (header_bytes > MLY_TENSORS_HEADER_BYTES_MAX || header_bytes > bytes.bytes - 8) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "the model file is cut off: a header of %llu bytes in a file of %zu",
                        (unsigned long long)header_bytes, bytes.bytes);
    }
    const size_t data_start = 8 + (size_t)header_bytes;
    out->header = mly_str_slice(bytes, 8, data_start);
    out->data = mly_str_slice(bytes, data_start, bytes.bytes);
    return MLY_OK;
}

enum mly_err mly_tensors_read(struct mly_mem *mem, struct mly_str bytes, struct mly_tensors *out,
                              struct mly_error *err)
{
    struct mly_tensors tensors = {.mem = mem};
    enum mly_err rc = split_file(bytes, &tensors, err);
    if (rc != MLY_OK) goto done;
    tensors.items = mly_mem_array(mem, MLY_TENSORS_MAX, sizeof(tensors.items[0]));
    if (tensors.items == NULL) {
        rc = mly_fail_nomem(err, MLY_TENSORS_MAX * sizeof(tensors.items[0]));
        goto done;
    }
    rc = read_header(&tensors, err);
    if (rc != MLY_OK) goto done;
    *out = tensors; /* Moved. */
    tensors = (struct mly_tensors){.mem = mem};
done:
    mly_tensors_deinit(&tensors);
    return rc;
}

void mly_tensors_deinit(struct mly_tensors *tensors)
{
    mly_mem_free(tensors->mem, tensors->items);
    tensors->items = NULL;
    tensors->count = 0;
}

const struct mly_tensor *mly_tensors_find(const struct mly_tensors *tensors, const char *name)
{
    const struct mly_str wanted = mly_str_of(name);
    for (size_t i = 0; i < tensors->count; i++) {
        if (mly_str_equal(tensors->items[i].name, wanted)) return &tensors->items[i];
    }
    return NULL;
}
