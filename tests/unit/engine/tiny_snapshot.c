#include "tiny_snapshot.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const struct snapshot_kind snapshot_plain = {.model_type = "bert", .prefix = "", .type = "F32"};

struct maker {
    const struct snapshot_kind *kind;
    char *header, *data;
    size_t header_bytes, data_bytes, header_room, data_room;
    uint64_t state;
};

static void put(char **block, size_t *bytes, size_t *room, const void *from, size_t count)
{
    if (*bytes + count > *room) {
        *room = (*bytes + count) * 2;
        *block = realloc(*block, *room);
        assert_non_null(*block);
    }
    memcpy(*block + *bytes, from, count);
    *bytes += count;
}

static float next_float(struct maker *maker)
{
    maker->state = maker->state * 6364136223846793005ull + 1442695040888963407ull;
    return (float)(maker->state >> 40) / 8388608.0f - 1.0f;
}

static void put_number(struct maker *maker, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    uint16_t half = (uint16_t)(bits >> 16);
    if (strcmp(maker->kind->type, "F32") == 0) {
        put(&maker->data, &maker->data_bytes, &maker->data_room, &bits, sizeof(bits));
        return;
    }
    if (strcmp(maker->kind->type, "F16") == 0) { /* cut off, not rounded */
        const uint32_t exponent = bits >> 23 & 255u;
        half = exponent < 113 ? 0
                              : (uint16_t)((bits >> 16 & 0x8000u) | (exponent - 112) << 10 |
                                           (bits >> 13 & 0x3ffu));
        if (exponent == 255) half = 0x7c00;
    }
    put(&maker->data, &maker->data_bytes, &maker->data_room, &half, sizeof(half));
}

static void put_tensor(struct maker *maker, const char *name, size_t rows, size_t columns,
                       float middle, float size)
{
    const struct snapshot_kind *kind = maker->kind;
    if (kind->missing != NULL && strcmp(kind->missing, name) == 0) return;
    const bool infinite = kind->infinite != NULL && strcmp(kind->infinite, name) == 0;
    const size_t start = maker->data_bytes, count = rows * (columns > 0 ? columns : 1);
    for (size_t i = 0; i < count; i++) {
        const float huge = 1e38f;
        const float value = middle + size * next_float(maker);
        put_number(maker, infinite && i == 0 ? huge * 10.0f : value);
    }
    char text[300], shape[64];
    (void)snprintf(shape, sizeof(shape), columns > 0 ? "%zu,%zu" : "%zu", rows, columns);
    const int bytes =
        snprintf(text, sizeof(text),
                 "%s\"%s%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                 maker->header_bytes > 0 ? "," : "", kind->prefix, name, kind->type, shape, start,
                 maker->data_bytes);
    put(&maker->header, &maker->header_bytes, &maker->header_room, text, (size_t)bytes);
}

static void put_norm(struct maker *maker, const char *name)
{
    char whole[128];
    const bool old = maker->kind->old_names;
    (void)snprintf(whole, sizeof(whole), "%s.%s", name, old ? "gamma" : "weight");
    put_tensor(maker, whole, SNAPSHOT_HIDDEN, 0, 1.0f, 0.3f);
    (void)snprintf(whole, sizeof(whole), "%s.%s", name, old ? "beta" : "bias");
    put_tensor(maker, whole, SNAPSHOT_HIDDEN, 0, 0.0f, 0.3f);
}

static void put_linear(struct maker *maker, size_t layer, const char *name, size_t out, size_t in)
{
    char whole[100];
    (void)snprintf(whole, sizeof(whole), "encoder.layer.%zu.%s.weight", layer, name);
    put_tensor(maker, whole, out, in, 0.0f, 0.2f);
    (void)snprintf(whole, sizeof(whole), "encoder.layer.%zu.%s.bias", layer, name);
    put_tensor(maker, whole, out, 0, 0.0f, 0.1f);
}

static void put_layer(struct maker *maker, size_t layer)
{
    static const char *const parts[] = {"attention.self.query", "attention.self.key",
                                        "attention.self.value", "attention.output.dense"};
    char name[100];
    for (size_t i = 0; i < 4; i++) {
        put_linear(maker, layer, parts[i], SNAPSHOT_HIDDEN, SNAPSHOT_HIDDEN);
    }
    put_linear(maker, layer, "intermediate.dense", SNAPSHOT_INNER, SNAPSHOT_HIDDEN);
    put_linear(maker, layer, "output.dense", SNAPSHOT_HIDDEN, SNAPSHOT_INNER);
    (void)snprintf(name, sizeof(name), "encoder.layer.%zu.attention.output.LayerNorm", layer);
    put_norm(maker, name);
    (void)snprintf(name, sizeof(name), "encoder.layer.%zu.output.LayerNorm", layer);
    put_norm(maker, name);
}

static void write_weights(const char *folder, const struct snapshot_kind *kind)
{
    struct maker maker = {.kind = kind, .state = 7};
    put_tensor(&maker, "embeddings.word_embeddings.weight", SNAPSHOT_PIECES, SNAPSHOT_HIDDEN, 0.0f,
               1.0f);
    put_tensor(&maker, "embeddings.position_embeddings.weight", 100 + kind->skipped,
               SNAPSHOT_HIDDEN, 0.0f, 0.5f);
    put_tensor(&maker, "embeddings.token_type_embeddings.weight", 2, SNAPSHOT_HIDDEN, 0.0f, 0.1f);
    put_norm(&maker, "embeddings.LayerNorm");
    for (size_t i = 0; i < 2; i++) {
        put_layer(&maker, i);
    }
    put_tensor(&maker, "pooler.dense.bias", SNAPSHOT_HIDDEN, 0, 0.0f, 1.0f);
    if (kind->extra != NULL) put_tensor(&maker, kind->extra, 4, 0, 0.0f, 1.0f);
    char *file = NULL;
    size_t bytes = 0, room = 0;
    const uint64_t length = maker.header_bytes + 2;
    put(&file, &bytes, &room, &length, sizeof(length)); /* tests run on little-endian machines */
    put(&file, &bytes, &room, "{", 1);
    put(&file, &bytes, &room, maker.header, maker.header_bytes);
    put(&file, &bytes, &room, "}", 1);
    put(&file, &bytes, &room, maker.data, maker.data_bytes);
    temp_dir_write(folder, "model.safetensors", file, bytes);
    free(file);
    free(maker.header);
    free(maker.data);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    temp_dir_write(folder, name, text, strlen(text));
}

/* The pieces: one a line, or as JSON members. */
static void list_pieces(bool json, char *out, size_t out_bytes)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    size_t at = 0;
    for (size_t i = 0; i < SNAPSHOT_PIECES; i++) {
        char piece[16];
        if (i < 5) {
            (void)snprintf(piece, sizeof(piece), "%s", special[i]);
        } else if (i < 57) {
            (void)snprintf(piece, sizeof(piece), "%s%c", i < 31 ? "" : "##",
                           (int)('a' + (i - 5) % 26));
        } else {
            (void)snprintf(piece, sizeof(piece), "the");
        }
        const int bytes =
            json ? snprintf(out + at, out_bytes - at, "%s\"%s\":%zu", i > 0 ? "," : "", piece, i)
                 : snprintf(out + at, out_bytes - at, "%s\n", piece);
        at += (size_t)bytes;
    }
}

static void write_tokenizer(const char *folder, bool list)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    char pieces[2048], added[1024], text[4096];
    size_t at = 0;
    for (size_t i = 0; i < 5; i++) {
        at += (size_t)snprintf(added + at, sizeof(added) - at,
                               "%s{\"id\":%zu,\"content\":\"%s\",\"single_word\":false,"
                               "\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
                               "\"special\":true}",
                               i > 0 ? "," : "", i, special[i]);
    }
    list_pieces(!list, pieces, sizeof(pieces));
    if (list) {
        write_text(folder, "vocab.txt", pieces);
        write_text(folder, "tokenizer_config.json", "{\"do_lower_case\": true}");
        return;
    }
    (void)snprintf(
        text, sizeof(text),
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[%s],"
        "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
        "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
        "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",3],"
        "\"cls\":[\"[CLS]\",2]},\"decoder\":null,"
        "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
        "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":100,\"vocab\":{%s}}}",
        added, pieces);
    write_text(folder, "tokenizer.json", text);
}

const char *snapshot_make(const char *dir, const struct snapshot_kind *kind)
{
    static char folder[TEMP_DIR_BYTES + 32];
    char path[TEMP_DIR_BYTES + 64], config[600];
    (void)snprintf(folder, sizeof(folder), "%s/tiny-model", dir);
    temp_dir_remove(folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/1_Pooling", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    (void)snprintf(config, sizeof(config),
                   "{\"model_type\":\"%s\",\"hidden_act\":\"gelu\",\"hidden_size\":64,"
                   "\"intermediate_size\":128,\"num_attention_heads\":4,\"num_hidden_layers\":2,"
                   "\"vocab_size\":%d,\"max_position_embeddings\":%zu,\"type_vocab_size\":2,"
                   "\"layer_norm_eps\":1e-12,\"pad_token_id\":%zu,"
                   "\"position_embedding_type\":\"absolute\"}",
                   kind->model_type, SNAPSHOT_PIECES, 100 + kind->skipped,
                   kind->skipped > 0 ? kind->skipped - 1 : 0);
    write_text(folder, "config.json", config);
    write_text(folder, "modules.json",
               "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},"
               "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"}]");
    write_text(folder, "1_Pooling/config.json",
               "{\"word_embedding_dimension\":64,\"pooling_mode_cls_token\":false,"
               "\"pooling_mode_mean_tokens\":true}");
    write_text(folder, "sentence_bert_config.json", "{\"max_seq_length\": 96}");
    write_text(folder, "config_sentence_transformers.json",
               "{\"prompts\":{\"query\":\"ask: \",\"document\":\"say: \"}}");
    write_weights(folder, kind);
    write_tokenizer(folder, kind->list);
    return folder;
}

void snapshot_change(const char *folder, const char *name, const char *from, const char *to)
{
    char path[TEMP_DIR_BYTES + 96], text[8192], changed[8300];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t bytes = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[bytes] = '\0';
    if (from == NULL) {
        write_text(folder, name, to);
        return;
    }
    const char *found = strstr(text, from);
    assert_non_null(found);
    (void)snprintf(changed, sizeof(changed), "%.*s%s%s", (int)(found - text), text, to,
                   found + strlen(from));
    write_text(folder, name, changed);
}
