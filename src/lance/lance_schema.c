/* Fields: between the format's logical types ("fixed_size_list:float:384") and ours. */
#include "lance/lance_int.h"

#include <stdio.h>

/* What the format still wants beside the logical type: 1 plain values, 2 bytes of any length. */
#define ENCODING_PLAIN 1
#define ENCODING_VAR_BINARY 2

#define VECTOR_PREFIX "fixed_size_list:float:"
#define CODES_PREFIX "fixed_size_list:uint8:"
#define TIMESTAMP_PREFIX "timestamp:us:"

/* A decimal number from 1 to max, nothing else. */
static bool parse_number(struct mly_str text, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    if (text.bytes == 0 || text.bytes > 9) return false;
    for (size_t i = 0; i < text.bytes; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    if (value == 0 || value > max) return false;
    *out = (uint32_t)value;
    return true;
}

void mly_lance_parse_type(struct mly_str logical_type, enum mly_lance_type *type, uint32_t *dim)
{
    *dim = 0;
    *type = MLY_LANCE_OTHER;
    struct mly_str vector_prefix = MLY_STR(VECTOR_PREFIX);
    if (mly_str_equal(logical_type, MLY_STR("string")) ||
        mly_str_equal(logical_type, MLY_STR("large_string"))) {
        *type = MLY_LANCE_STRING;
    } else if (mly_str_equal(logical_type, MLY_STR("binary")) ||
               mly_str_equal(logical_type, MLY_STR("large_binary"))) {
        *type = MLY_LANCE_BINARY;
    } else if (mly_str_equal(logical_type, MLY_STR("int64"))) {
        *type = MLY_LANCE_INT64;
    } else if (mly_str_equal(logical_type, MLY_STR("float"))) {
        *type = MLY_LANCE_FLOAT32;
    } else if (mly_str_starts_with(logical_type, MLY_STR(TIMESTAMP_PREFIX))) {
        *type = MLY_LANCE_TIMESTAMP_US;
    } else if (mly_str_starts_with(logical_type, vector_prefix)) {
        struct mly_str number =
            mly_str_slice(logical_type, vector_prefix.bytes, logical_type.bytes);
        if (parse_number(number, (uint32_t)MLY_DIM_MAX, dim)) *type = MLY_LANCE_VECTOR;
    }
}

enum mly_err mly_lance_check_fields(const struct mly_lance_field *fields, size_t field_count,
                                    struct mly_error *err)
{
    if (field_count == 0) return mly_fail(err, MLY_ERR_INVAL, "a table needs at least one field");
    for (size_t i = 0; i < field_count; i++) {
        const struct mly_lance_field *field = &fields[i];
        int name_bytes = (int)(field->name.bytes < 100 ? field->name.bytes : 100);
        if (field->name.data == NULL || field->name.bytes == 0) {
            return mly_fail(err, MLY_ERR_INVAL, "field %zu has no name", i);
        }
        if ((unsigned)field->type >= MLY_LANCE_OTHER) {
            return mly_fail(err, MLY_ERR_INVAL, "field %.*s has a type that is not written here",
                            name_bytes, field->name.data);
        }
        if (field->id < 0) {
            return mly_fail(err, MLY_ERR_INVAL, "field %.*s has id %d, the least is 0", name_bytes,
                            field->name.data, (int)field->id);
        }
        bool is_vector = field->type == MLY_LANCE_VECTOR;
        if (is_vector ? field->dim == 0 || field->dim > MLY_DIM_MAX : field->dim != 0) {
            return mly_fail(err, MLY_ERR_INVAL, "field %.*s has dimension %u, limit is %zu",
                            name_bytes, field->name.data, field->dim,
                            is_vector ? MLY_DIM_MAX : (size_t)0);
        }
        for (size_t j = 0; j < i; j++) {
            if (fields[j].id == field->id || mly_str_equal(fields[j].name, field->name)) {
                return mly_fail(err, MLY_ERR_INVAL, "field %.*s (id %d) is there twice", name_bytes,
                                field->name.data, (int)field->id);
            }
        }
    }
    return MLY_OK;
}

static struct mly_str logical_type_of(const struct mly_lance_field *field, struct mly_arena *arena)
{
    static const struct mly_str plain[] = {
        [MLY_LANCE_STRING] = {"string", 6},
        [MLY_LANCE_BINARY] = {"binary", 6},
        [MLY_LANCE_INT64] = {"int64", 5},
        [MLY_LANCE_TIMESTAMP_US] = {TIMESTAMP_PREFIX "-", sizeof(TIMESTAMP_PREFIX)},
        [MLY_LANCE_FLOAT32] = {"float", 5},
        [MLY_LANCE_UINT64] = {"uint64", 6},
    };
    if (field->type != MLY_LANCE_VECTOR && field->type != MLY_LANCE_CODES) {
        return plain[field->type];
    }
    char text[64];
    const char *prefix = field->type == MLY_LANCE_CODES ? CODES_PREFIX : VECTOR_PREFIX;
    int bytes = snprintf(text, sizeof(text), "%s%u", prefix, field->dim);
    return mly_arena_copy(arena, (struct mly_str){text, (size_t)bytes});
}

enum mly_err mly_lance_fields_to_pb(const struct mly_lance_field *fields, size_t field_count,
                                    struct mly_arena *arena, MlyPb__Field ***out,
                                    struct mly_error *err)
{
    MlyPb__Field **list = mly_arena_array(arena, field_count, sizeof(list[0]));
    MlyPb__Field *items = mly_arena_array(arena, field_count, sizeof(items[0]));
    if (list == NULL || items == NULL) return mly_fail_nomem(err, field_count * sizeof(items[0]));
    for (size_t i = 0; i < field_count; i++) {
        const struct mly_lance_field *field = &fields[i];
        struct mly_str logical_type = logical_type_of(field, arena);
        if (logical_type.data == NULL) return mly_fail_nomem(err, sizeof(items[0]));
        bool any_length = field->type == MLY_LANCE_STRING || field->type == MLY_LANCE_BINARY;
        list[i] = &items[i];
        mly_pb__field__init(&items[i]);
        items[i].has_name = true;
        items[i].name = lance_pb_data(field->name);
        items[i].has_id = true;
        items[i].id = field->id;
        items[i].has_parent_id = true;
        items[i].parent_id = LANCE_PARENT_NONE;
        items[i].has_logical_type = true;
        items[i].logical_type = lance_pb_data(logical_type);
        items[i].has_nullable = field->nullable;
        items[i].nullable = field->nullable;
        items[i].has_encoding = true;
        items[i].encoding = any_length ? ENCODING_VAR_BINARY : ENCODING_PLAIN;
    }
    *out = list;
    return MLY_OK;
}
