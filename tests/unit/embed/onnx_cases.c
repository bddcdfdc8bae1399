#define _POSIX_C_SOURCE 200809L /* setenv, mkdir */
#include "onnx_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char onnx_tokenizer[] =
    "{\"version\":\"1.0\",\"truncation\":{\"max_length\":128},\"added_tokens\":["
    "{\"id\":0,\"content\":\"[PAD]\",\"lstrip\":false,\"normalized\":false,\"special\":true},"
    "{\"id\":1,\"content\":\"[UNK]\"},{\"id\":2,\"content\":\"[CLS]\"},"
    "{\"id\":3,\"content\":\"[SEP]\"},{\"id\":4,\"content\":\"[MASK]\"}],"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
    "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
    "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"}},"
    "{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],"
    "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[2],\"tokens\":[\"[CLS]\"]},"
    "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[3],\"tokens\":[\"[SEP]\"]}}},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
    "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{"
    "\"[PAD]\":0,\"[UNK]\":1,\"[CLS]\":2,\"[SEP]\":3,\"[MASK]\":4,"
    "\"a\":5,\"b\":6,\"c\":7,\"d\":8,\"e\":9,\"f\":10,\"g\":11,\"h\":12,\"i\":13,\"j\":14,"
    "\"k\":15,\"l\":16,\"m\":17,\"n\":18,\"o\":19,\"p\":20,\"q\":21,\"r\":22,\"s\":23,\"t\":24,"
    "\"u\":25,\"v\":26,\"w\":27,\"x\":28,\"z\":30,\"y\":29}}}";
const char onnx_pooling[] = "{\"word_embedding_dimension\":8,\"pooling_mode_cls_token\":false,"
                            "\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":false}";
const char onnx_modules[] =
    "[{\"idx\":0,\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
    "{\"idx\":1,\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"},"
    "{\"idx\":2,\"path\":\"2_N\",\"type\":\"sentence_transformers.models.Normalize\"}]";

/* One message field of protobuf: its number, its length, its bytes. All short. */
static void put_field(struct onnx_bytes *out, unsigned number, const void *data, size_t bytes)
{
    assert_true(number < 16 && bytes < 128 && out->bytes + 2 + bytes <= sizeof(out->data));
    out->data[out->bytes++] = (unsigned char)(number << 3 | 2);
    out->data[out->bytes++] = (unsigned char)bytes;
    if (bytes > 0) memcpy(out->data + out->bytes, data, bytes);
    out->bytes += bytes;
}

struct onnx_bytes onnx_model(const char *operation, const void *tensor, size_t tensor_bytes)
{
    struct onnx_bytes node = {.bytes = 0}, attribute = {.bytes = 0}, graph = {.bytes = 0};
    struct onnx_bytes model = {.data = {0x08, 0x08}, .bytes = 2}; /* ir_version 8 */
    put_field(&attribute, 5, tensor, tensor_bytes);
    put_field(&node, 4, operation, strlen(operation));
    put_field(&node, 5, attribute.data, attribute.bytes);
    put_field(&graph, 1, node.data, node.bytes);
    put_field(&graph, 5, "\x08\x01\x4a\x04numb", 8); /* dims, raw_data */
    put_field(&model, 7, graph.data, graph.bytes);
    return model;
}

void onnx_write(const char *folder, const char *name, const char *text, const char *from,
                const char *to)
{
    const char *at = from == NULL ? NULL : strstr(text, from);
    if (from == NULL) {
        temp_dir_write(folder, name, text, strlen(text));
        return;
    }
    assert_non_null(at);
    char *changed = malloc(strlen(text) + strlen(to) + 1);
    assert_non_null(changed);
    const int bytes = snprintf(changed, strlen(text) + strlen(to) + 1, "%.*s%s%s", (int)(at - text),
                               text, to, at + strlen(from));
    temp_dir_write(folder, name, changed, (size_t)bytes);
    free(changed);
}

const char *onnx_folder(const char *dir)
{
    static char path[TEMP_DIR_BYTES + 32];
    char pooling[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/small-model", dir);
    snprintf(pooling, sizeof(pooling), "%s/1_Pooling", path);
    temp_dir_remove(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(pooling, 0700), 0);
    const struct onnx_bytes model = onnx_model("Add", "", 0);
    temp_dir_write(path, "model.onnx", model.data, model.bytes);
    onnx_write(path, "tokenizer.json", onnx_tokenizer, NULL, NULL);
    onnx_write(path, "modules.json", onnx_modules, NULL, NULL);
    onnx_write(path, "1_Pooling/config.json", onnx_pooling, NULL, NULL);
    onnx_write(path, "sentence_bert_config.json", "{\"max_seq_length\":300}", NULL, NULL);
    onnx_write(path, "config.json", "{\"_name_or_path\":\"them/small\"}", NULL, NULL);
    return path;
}

struct fake_ort *onnx_fake(void)
{
    void *library = dlopen(MLY_TEST_FAKE_ORT, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL) fail_msg("%s", dlerror());
    void *symbol = dlsym(library, FAKE_ORT_STATE);
    fake_ort_get get;
    assert_non_null(symbol);
    memcpy(&get, &symbol, sizeof(get));
    struct fake_ort *fake = get();
    dlclose(library);
    *fake = (struct fake_ort){
        .inputs = {{"input_ids", 7, 2}, {"attention_mask", 7, 2}, {"token_type_ids", 7, 2}},
        .outputs = {{"pooler_output", 1, 2}, {"other", 1, 3}, {"last_hidden_state", 1, 3}},
    };
    return fake;
}

enum mly_err onnx_open(struct onnx_engine *engine, const char *folder, const char *library,
                       struct mly_error *err)
{
    *engine = (struct onnx_engine){0};
    fault_env_init(&engine->fault);
    const struct mly_env *env = &engine->fault.env;
    assert_int_equal(mly_pool_create(env, 2, &engine->pool, err), MLY_OK);
    return mly_embedder_open_folder(env, engine->pool, folder,
                                    library == NULL ? MLY_TEST_FAKE_ORT : library,
                                    &engine->embedder, err);
}

void onnx_close(struct onnx_engine *engine)
{
    mly_embedder_close(engine->embedder);
    mly_pool_destroy(engine->pool);
    assert_int_equal(engine->fault.mem.live, 0);
    assert_int_equal(engine->fault.open_count, 0);
}
