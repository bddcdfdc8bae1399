/* In: the bytes of a model.onnx. Out: may it be given to ONNX Runtime?
 *
 * An ONNX file is a protobuf message. A tensor in it may say that its numbers lie in another file,
 * by any path that its author liked; we take none of those. The walk goes through every message in
 * which a tensor can stand and looks at nothing else: the table below says which fields lead on.
 *
 * Source   ONNX IR, onnx.proto3: the numbers of the fields. */
#include "embed/onnx/onnx_int.h"

/* Graphs within graphs (If, Loop): real models have three or four. */
#define DEPTH_MAX 64

enum kind { MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, FUNCTION, TRAINING };

static const struct way {
    uint8_t from, field, to;
} ways[] = {
    {MODEL, 7, GRAPH},       {MODEL, 20, TRAINING},     {MODEL, 25, FUNCTION},
    {GRAPH, 1, NODE},        {GRAPH, 5, TENSOR},        {GRAPH, 15, SPARSE},
    {NODE, 5, ATTRIBUTE},    {ATTRIBUTE, 5, TENSOR},    {ATTRIBUTE, 6, GRAPH},
    {ATTRIBUTE, 10, TENSOR}, {ATTRIBUTE, 11, GRAPH},    {ATTRIBUTE, 22, SPARSE},
    {ATTRIBUTE, 23, SPARSE}, {SPARSE, 1, TENSOR},       {SPARSE, 2, TENSOR},
    {FUNCTION, 7, NODE},     {FUNCTION, 11, ATTRIBUTE}, {TRAINING, 1, GRAPH},
    {TRAINING, 2, GRAPH},
};
#define NODE_OPERATION 4
#define TENSOR_EXTERNAL_DATA 13
#define TENSOR_DATA_LOCATION 14

/* These take the range of their numbers from all rows of a batch. */
static const struct mly_str dynamic_operations[] = {
    {"DynamicQuantizeLinear", 21},
    {"DynamicQuantizeMatMul", 21},
    {"DynamicQuantizeLSTM", 19},
};

enum wire { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

struct reader {
    const uint8_t *at, *end;
};

struct field {
    uint32_t number, wire;
    uint64_t value;     /* VARINT */
    struct reader body; /* BYTES */
};

static bool read_varint(struct reader *reader, uint64_t *out)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        const uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7Fu) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

static bool read_field(struct reader *reader, struct field *out)
{
    uint64_t tag, bytes = 0;
    if (!read_varint(reader, &tag) || tag > UINT32_MAX || tag < 8) return false;
    out->number = (uint32_t)tag >> 3;
    out->wire = (uint32_t)tag & 7u;
    switch (out->wire) {
    case VARINT:
        return read_varint(reader, &out->value);
    case FIXED64:
        bytes = 8;
        break;
    case BYTES:
        if (!read_varint(reader, &bytes)) return false;
        break;
    case FIXED32:
        bytes = 4;
        break;
    default: /* groups, which ONNX never had */
        return false;
    }
    if (bytes > (size_t)(reader->end - reader->at)) return false;
    out->body = (struct reader){reader->at, reader->at + bytes};
    reader->at += bytes;
    return true;
}

static bool is_dynamic(const struct reader *name)
{
    const struct mly_str text = {(const char *)name->at, (size_t)(name->end - name->at)};
    for (size_t i = 0; i < sizeof(dynamic_operations) / sizeof(dynamic_operations[0]); i++) {
        if (mly_str_equal(text, dynamic_operations[i])) return true;
    }
    return false;
}

static bool is_external(enum kind kind, const struct field *field)
{
    if (kind != TENSOR) return false;
    if (field->number == TENSOR_EXTERNAL_DATA) return true;
    return field->number == TENSOR_DATA_LOCATION && (field->wire != VARINT || field->value != 0);
}

static bool leads_on(enum kind kind, const struct field *field, enum kind *to)
{
    for (size_t i = 0; field->wire == BYTES && i < sizeof(ways) / sizeof(ways[0]); i++) {
        if (ways[i].from == kind && ways[i].field == field->number) {
            *to = (enum kind)ways[i].to;
            return true;
        }
    }
    return false;
}

struct walk {
    bool alone;
    size_t graphs;
};

static enum mly_err walk_message(struct walk *walk, enum kind kind, struct reader reader,
                                 size_t depth, struct mly_error *err)
{
    if (depth > DEPTH_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "graphs are nested more than %d deep", DEPTH_MAX);
    }
    walk->graphs += kind == GRAPH;
    while (reader.at < reader.end) {
        struct field field = {0};
        enum kind to;
        if (!read_field(&reader, &field)) {
            return mly_fail(err, MLY_ERR_CORRUPT, "not an ONNX model, or one that is cut off");
        }
        if (is_external(kind, &field)) {
            return mly_fail(err, MLY_ERR_UNSUPPORTED,
                            "some of its weights lie in other files (external data); only a model "
                            "in one file is taken");
        }
        if (kind == NODE && field.number == NODE_OPERATION && field.wire == BYTES &&
            is_dynamic(&field.body)) {
            walk->alone = true;
        }
        if (leads_on(kind, &field, &to)) {
            MLY_TRY(walk_message(walk, to, field.body, depth + 1, err));
        }
    }
    return MLY_OK;
}

enum mly_err mly_onnx_scan(const uint8_t *data, size_t bytes, bool *alone, struct mly_error *err)
{
    struct walk walk = {0};
    static const uint8_t none[1] = {0};
    if (bytes == 0) data = none;
    MLY_TRY(walk_message(&walk, MODEL, (struct reader){data, data + bytes}, 0, err));
    if (walk.graphs == 0) return mly_fail(err, MLY_ERR_CORRUPT, "not an ONNX model: no graph");
    *alone = walk.alone;
    return MLY_OK;
}
