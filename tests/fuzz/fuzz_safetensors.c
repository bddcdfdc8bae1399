/* The header of a safetensors file. Input: the file. */
#include "fuzz.h"

#include "embed/safetensors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_tensors tensors = {0};
    fault_env_init(&fault);
    const struct mly_str file = {(const char *)data, bytes};
    const enum mly_err rc = mly_tensors_read(&fault.mem, file, &tensors, &err);
    fuzz_check_result(rc, &err);
    for (size_t i = 0; rc == MLY_OK && i < tensors.count; i++) {
        const struct mly_tensor *tensor = &tensors.items[i];
        fuzz_check(tensor->rank <= MLY_TENSOR_RANK_MAX, "a tensor has few dimensions");
        if (tensor->bytes == 0) continue;
        fuzz_check(tensor->data >= data && tensor->bytes <= bytes &&
                       (size_t)(tensor->data - data) <= bytes - tensor->bytes,
                   "a tensor lies in its file");
    }
    if (rc == MLY_OK) mly_tensors_deinit(&tensors);
    fuzz_check_clean(&fault);
    return 0;
}

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    static const char one[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}";
    static const char two[] =
        "{\"__metadata__\":{\"format\":\"x\",\"note\":\"y\"},\"a\":{\"dtype\":\"I8\",\"shape\":[8],"
        "\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"BF16\",\"shape\":[2,2,2],\"data_offsets\":[8,"
        "24]}}  ";
    static const char empty[] =
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},\"b\":{\"dtype\":\"I64\","
        "\"shape\":[0,4],\"data_offsets\":[1,1]}}";
    static const char *const headers[] = {one, two, empty};
    static const size_t data_bytes[] = {24, 24, 1};
    if (i >= sizeof(headers) / sizeof(headers[0])) return false;
    const size_t count = strlen(headers[i]);
    for (size_t byte = 0; byte < 8; byte++) {
        fuzz_put_byte(out, (uint8_t)((uint64_t)count >> (8 * byte)));
    }
    fuzz_put(out, headers[i], count);
    for (size_t byte = 0; byte < data_bytes[i]; byte++) {
        fuzz_put_byte(out, (uint8_t)byte);
    }
    return true;
}
