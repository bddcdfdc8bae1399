/* What lies in the folder of an ONNX model. Input: a byte that picks the file, and its bytes: the
 * model itself, whose messages are walked, or one of the JSON files, the others being good. */
#include "fuzz.h"

#include "embed/onnx/onnx_int.h"
#include "onnx_cases.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES 4
static const char *const names[FILES] = {"model.onnx", "config.json", "modules.json",
                                         "1_Pooling/config.json"};
static const char config[] =
    "{\"model_type\":\"bert\",\"hidden_size\":8,\"vocab_size\":20,\"max_position_embeddings\":64}";
static const char *const texts[FILES] = {NULL, config, onnx_modules, onnx_pooling};

static const char *folder(void)
{
    static char path[TEMP_DIR_BYTES + 64];
    if (path[0] == '\0') snprintf(path, sizeof(path), "%s", onnx_folder(fuzz_dir()));
    return path;
}

static void read_folder(size_t file, const uint8_t *data, size_t bytes)
{
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_arena arena;
    struct mly_onnx_folder found = {0};
    fault_env_init(&fault);
    temp_dir_write(folder(), names[file], data, bytes);
    mly_arena_init(&arena, &fault.mem, (size_t)1 << 20);
    fuzz_check_result(mly_onnx_folder_read(&fault.env, &arena, folder(), &found, &err), &err);
    mly_arena_deinit(&arena);
    temp_dir_write(folder(), names[file], texts[file], strlen(texts[file]));
    fuzz_check_clean(&fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct mly_error err = {0};
    bool alone;
    if (bytes < 1) return 0;
    if (data[0] % FILES != 0) {
        read_folder(data[0] % FILES, data + 1, bytes - 1);
        return 0;
    }
    fuzz_check_result(mly_onnx_scan(data + 1, bytes - 1, &alone, &err), &err);
    return 0;
}

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    if (i >= FILES) return false;
    fuzz_put_byte(out, (uint8_t)i);
    if (i == 0) {
        static const char tensor[] = "\x08\x01\x4a\x02xy"; /* one dimension, raw data */
        const struct onnx_bytes model = onnx_model("MatMul", tensor, sizeof(tensor) - 1);
        fuzz_put(out, model.data, model.bytes);
    } else {
        fuzz_put(out, texts[i], strlen(texts[i]));
    }
    return true;
}
