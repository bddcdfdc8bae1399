#include "tiny_model.h"

#include "base/hash.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct tiny_shape tiny_small = {64, 128, 4, 2, 100, 96, 200};
const struct tiny_shape tiny_minilm = {384, 1536, 12, 6, 512, 256, 500};

const struct tiny_kind tiny_int8 = {"int8", "mean", "", "", false, false};
const struct tiny_kind tiny_bf16 = {"bf16", "mean", "", "", false, false};
const struct tiny_kind tiny_f32 = {"f32", "mean", "", "", false, false};

struct maker {
    const struct tiny_kind *kind;
    char *header, *data;
    size_t header_bytes, data_bytes, header_room, data_room;
    uint64_t state;
};

static uint64_t next_bits(struct maker *maker)
{
    maker->state ^= maker->state >> 12;
    maker->state ^= maker->state << 25;
    maker->state ^= maker->state >> 27;
    return maker->state * 0x2545f4914f6cdd1dULL;
}

static float next_float(struct maker *maker, float middle, float size)
{
    return middle + size * ((float)(next_bits(maker) >> 40) / 8388608.0f - 1.0f);
}

static void put(char **block, size_t *bytes, size_t *room, const void *from, size_t count)
{
    if (*bytes + count > *room) {
        *room = (*bytes + count) * 2;
        *block = realloc(*block, *room);
        assert_non_null(*block);
    }
    if (count > 0) memcpy(*block + *bytes, from, count);
    *bytes += count;
}

static void put_text(struct maker *maker, const char *text)
{
    put(&maker->header, &maker->header_bytes, &maker->header_room, text, strlen(text));
}

static void put_entry(struct maker *maker, const char *name, const char *type, const char *shape,
                      const void *from, size_t bytes)
{
    char text[300];
    (void)snprintf(text, sizeof(text),
                   ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%zu,%zu]}", name, type,
                   shape, maker->data_bytes, maker->data_bytes + bytes);
    put_text(maker, text);
    put(&maker->data, &maker->data_bytes, &maker->data_room, from, bytes);
}

static void put_floats(struct maker *maker, const char *name, size_t rows, size_t width,
                       float middle, float size)
{
    char shape[64];
    const size_t count = rows == 0 ? width : rows * width;
    float *values = malloc(count * sizeof(float));
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = next_float(maker, middle, size);
    }
    if (rows == 0) {
        (void)snprintf(shape, sizeof(shape), "[%zu]", width);
    } else {
        (void)snprintf(shape, sizeof(shape), "[%zu,%zu]", rows, width);
    }
    put_entry(maker, name, "F32", shape, values, count * sizeof(float));
    free(values);
}

static int8_t *random_bytes(struct maker *maker, size_t count)
{
    int8_t *bytes = malloc(count);
    assert_non_null(bytes);
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (int8_t)((int)(next_bits(maker) % 255) - 127);
    }
    return bytes;
}

static void put_int8(struct maker *maker, size_t layer, const char *part, size_t in, size_t out)
{
    char name[80], shape[64];
    int8_t *panels = random_bytes(maker, in * out);
    float *scale = malloc(out * sizeof(float)), *sum = malloc(out * sizeof(float));
    assert_true(scale != NULL && sum != NULL);
    for (size_t o = 0; o < out; o++) {
        long total = 0;
        for (size_t i = 0; i < in; i++) {
            total += panels[((o / 64 * (in / 4) + i / 4) * 64 + o % 64) * 4 + i % 4];
        }
        scale[o] = next_float(maker, 1.0f, 0.3f) / 74.0f / sqrtf((float)in);
        sum[o] = scale[o] * (float)total;
    }
    (void)snprintf(name, sizeof(name), "layer.%zu.%s.weight", layer, part);
    (void)snprintf(shape, sizeof(shape), "[%zu,%zu,64,4]", out / 64, in / 4);
    put_entry(maker, name, "I8", shape, panels, in * out);
    (void)snprintf(shape, sizeof(shape), "[%zu]", out);
    (void)snprintf(name, sizeof(name), "layer.%zu.%s.scale", layer, part);
    put_entry(maker, name, "F32", shape, scale, out * sizeof(float));
    (void)snprintf(name, sizeof(name), "layer.%zu.%s.sum", layer, part);
    put_entry(maker, name, "F32", shape, sum, out * sizeof(float));
    free(panels);
    free(scale);
    free(sum);
}

/* The upper halves of random floats. */
static void put_halves(struct maker *maker, const char *name, const char *shape, size_t count,
                       float size)
{
    uint16_t *halves = malloc(count * sizeof(halves[0]));
    assert_non_null(halves);
    for (size_t i = 0; i < count; i++) {
        const float value = next_float(maker, 0.0f, size);
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        halves[i] = (uint16_t)(bits >> 16);
    }
    put_entry(maker, name, "BF16", shape, halves, count * sizeof(halves[0]));
    free(halves);
}

static void put_floats_of(struct maker *maker, const char *name, const char *shape, size_t count,
                          float size)
{
    float *values = malloc(count * sizeof(float));
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = next_float(maker, 0.0f, size);
    }
    put_entry(maker, name, "F32", shape, values, count * sizeof(float));
    free(values);
}

static bool is(const struct maker *maker, const char *quantisation)
{
    return strcmp(maker->kind->quantisation, quantisation) == 0;
}

static void put_linear(struct maker *maker, size_t layer, const char *part, size_t in, size_t out)
{
    char name[80], shape[64];
    const float size = 1.7f / sqrtf((float)in);
    (void)snprintf(name, sizeof(name), "layer.%zu.%s.weight", layer, part);
    if (is(maker, "int8")) {
        put_int8(maker, layer, part, in, out);
    } else if (is(maker, "bf16")) {
        (void)snprintf(shape, sizeof(shape), "[%zu,%zu,64,2]", out / 64, in / 2);
        put_halves(maker, name, shape, in * out, size);
    } else {
        (void)snprintf(shape, sizeof(shape), "[%zu,%zu,64]", out / 64, in);
        put_floats_of(maker, name, shape, in * out, size);
    }
    (void)snprintf(name, sizeof(name), "layer.%zu.%s.bias", layer, part);
    put_floats(maker, name, 0, out, 0.0f, 0.1f);
}

static void put_layer(struct maker *maker, size_t layer, const struct tiny_shape *shape)
{
    static const char *const norms[] = {"attention_norm", "ffn_norm"};
    char name[80];
    put_linear(maker, layer, "attention_in", shape->hidden, 3 * shape->hidden);
    put_linear(maker, layer, "attention_out", shape->hidden, shape->hidden);
    put_linear(maker, layer, "ffn_in", shape->hidden, shape->intermediate);
    put_linear(maker, layer, "ffn_out", shape->intermediate, shape->hidden);
    for (size_t i = 0; maker->kind->factors && i < 2; i++) {
        (void)snprintf(name, sizeof(name), "layer.%zu.%s.factor", layer,
                       i == 0 ? "attention_in" : "ffn_in");
        put_floats(maker, name, 0, shape->hidden, 1.0f, 0.5f);
    }
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof(name), "layer.%zu.%s.weight", layer, norms[i]);
        put_floats(maker, name, 0, shape->hidden, 1.0f, 0.3f);
        (void)snprintf(name, sizeof(name), "layer.%zu.%s.bias", layer, norms[i]);
        put_floats(maker, name, 0, shape->hidden, 0.0f, 0.2f);
    }
}

/* The special tokens, the letters as words and as pieces, then words without a meaning: enough for
 * the tokenizer to take it for a vocabulary. */
static size_t put_word(char *to, size_t room, size_t i)
{
    static const char *const special[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"};
    int bytes = i < 4    ? snprintf(to, room, "%s\n", special[i])
                : i < 30 ? snprintf(to, room, "%c\n", (char)('a' + (i - 4)))
                : i < 56 ? snprintf(to, room, "##%c\n", (char)('a' + (i - 30)))
                         : snprintf(to, room, "w%zu\n", i);
    return (size_t)bytes;
}

static void put_tensors(struct maker *maker, const struct tiny_shape *shape)
{
    char text[64], words[4096 * 8] = "";
    size_t words_bytes = 0;
    const size_t numbers = shape->vocabulary * shape->hidden;
    (void)snprintf(text, sizeof(text), "[%zu,%zu]", shape->vocabulary, shape->hidden);
    if (is(maker, "int8")) {
        int8_t *rows = random_bytes(maker, numbers);
        put_entry(maker, "embeddings.word", "I8", text, rows, numbers);
        free(rows);
    } else if (is(maker, "bf16")) {
        put_halves(maker, "embeddings.word", text, numbers, 0.1f);
    } else {
        put_floats_of(maker, "embeddings.word", text, numbers, 0.1f);
    }
    put_floats(maker, "embeddings.position", shape->positions, shape->hidden, 0.0f, 0.05f);
    put_floats(maker, "embeddings.norm.weight", 0, shape->hidden, 1.0f, 0.3f);
    put_floats(maker, "embeddings.norm.bias", 0, shape->hidden, 0.0f, 0.2f);
    for (size_t i = 0; i < shape->layers; i++) {
        put_layer(maker, i, shape);
    }
    if (is(maker, "int8")) {
        put_floats(maker, "embeddings.word_scale", 0, shape->vocabulary, 0.001f, 0.0005f);
    }
    if (maker->kind->compiled) {
        put_entry(maker, "tokenizer", "U8", "[11]", "some bytes\n", 11);
        return;
    }
    for (size_t i = 0; i < shape->vocabulary; i++) {
        words_bytes += put_word(words + words_bytes, sizeof(words) - words_bytes, i);
    }
    (void)snprintf(text, sizeof(text), "[%zu]", words_bytes);
    put_entry(maker, "vocabulary", "U8", text, words, words_bytes);
}

static void put_metadata(struct maker *maker, const struct tiny_shape *shape, const char *hex)
{
    const struct tiny_kind *kind = maker->kind;
    char text[1024];
    (void)snprintf(
        text, sizeof(text),
        "{\"__metadata__\":{\"config\":\"{\\\"architecture\\\":\\\"bert\\\",\\\"heads\\\":%zu,"
        "\\\"hidden\\\":%zu,\\\"intermediate\\\":%zu,\\\"layer_norm_epsilon_femto\\\":1000,"
        "\\\"layers\\\":%zu,\\\"pieces_max\\\":%zu,\\\"pooling\\\":\\\"%s\\\","
        "\\\"positions\\\":%zu,\\\"vocabulary\\\":%zu,\\\"tokenizer\\\":\\\"%s\\\","
        "\\\"query_prefix\\\":\\\"%s\\\",\\\"passage_prefix\\\":\\\"%s\\\"",
        shape->heads, shape->hidden, shape->intermediate, shape->layers, shape->pieces_max,
        kind->pooling, shape->positions, shape->vocabulary,
        kind->compiled ? "compiled" : "vocabulary", kind->query_prefix, kind->passage_prefix);
    put_text(maker, text);
    (void)snprintf(text, sizeof(text),
                   "}\",\"data_blake2b_256\":\"%s\",\"format\":\"memalloy-model\","
                   "\"format_version\":\"2\",\"id\":\"tiny\",\"quantisation\":\"%s\"}",
                   hex, kind->quantisation);
    put_text(maker, text);
}

struct tiny_file tiny_make_as(const struct tiny_shape *shape, const struct tiny_kind *kind,
                              uint64_t seed)
{
    struct maker maker = {.kind = kind, .state = seed * 2 + 1};
    char hex[2 * MLY_HASH_BYTES + 1];
    put_tensors(&maker, shape);
    const struct mly_hash hash = mly_hash_bytes((struct mly_str){maker.data, maker.data_bytes});
    mly_hash_to_hex(&hash, hex);
    char *entries = maker.header;
    const size_t entries_bytes = maker.header_bytes;
    maker.header = NULL;
    maker.header_bytes = maker.header_room = 0;
    put_metadata(&maker, shape, hex);
    put(&maker.header, &maker.header_bytes, &maker.header_room, entries, entries_bytes);
    put_text(&maker, "}");
    while ((8 + maker.header_bytes) % 64 != 0) {
        put_text(&maker, " ");
    }
    struct tiny_file file = {NULL, 0, maker.header_bytes};
    size_t room = 0;
    for (size_t i = 0; i < 8; i++) {
        const char byte = (char)(maker.header_bytes >> (8 * i));
        put(&file.bytes, &file.count, &room, &byte, 1);
    }
    put(&file.bytes, &file.count, &room, maker.header, maker.header_bytes);
    put(&file.bytes, &file.count, &room, maker.data, maker.data_bytes);
    free(entries);
    free(maker.header);
    free(maker.data);
    return file;
}

void tiny_replace(struct tiny_file *file, const char *from, const char *to)
{
    const size_t bytes = strlen(from);
    assert_int_equal(strlen(to), bytes);
    for (size_t at = 8; at + bytes <= 8 + file->header_bytes; at++) {
        if (memcmp(file->bytes + at, from, bytes) == 0) {
            memcpy(file->bytes + at, to, bytes);
            return;
        }
    }
    fail_msg("the header lacks %s", from);
}

const char *tiny_write(const struct tiny_file *file, const char *dir, const char *name)
{
    static char path[2 * TEMP_DIR_BYTES];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    (void)remove(path);
    temp_dir_write(dir, name, file->bytes, file->count);
    return path;
}

struct tiny_file tiny_make(const struct tiny_shape *shape, uint64_t seed)
{
    return tiny_make_as(shape, &tiny_int8, seed);
}

const char *tiny_model_as(const char *dir, const struct tiny_shape *shape,
                          const struct tiny_kind *kind, uint64_t seed)
{
    struct tiny_file file = tiny_make_as(shape, kind, seed);
    const char *path = tiny_write(&file, dir, "tiny.safetensors");
    free(file.bytes);
    return path;
}

const char *tiny_model(const char *dir, const struct tiny_shape *shape, uint64_t seed)
{
    return tiny_model_as(dir, shape, &tiny_int8, seed);
}
