/* Writes and reads Lance tables from and to JSON, for the tests that compare with the official
 * libraries. Not part of the product.
 *
 *   lance_tool commit TABLE < CHANGE    creates the table where it is not there yet
 *   lance_tool read TABLE               prints fields, config, fragments and the living rows
 *
 * CHANGE is {"fields": [{"name", "type", "dim", "nullable"}], "batches": [{column: [values]}],
 * "delete": {fragment id: [rows]}, "config": {key: value or null}}; every batch becomes a fragment.
 * Binary values are written as hexadecimal digits. */
#include "lance/lance.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                                \
    do {                                                                                           \
        if ((call) != MLY_OK) fail();                                                              \
    } while (0)

static struct mly_error err;
static struct mly_lance_writer *open_writer; /* so that a failure leaves no file */

static const char *code_name(enum mly_err code)
{
#define NAME(name, value, exception, text) #name,
    static const char *const names[] = {MEMALLOY_ERR_MAP(NAME)};
#undef NAME
    return names[code];
}

static void fail(void)
{
    fprintf(stderr, "%s: %s\n", code_name(err.code), err.message);
    mly_lance_writer_close(open_writer);
    exit(1);
}

static const char *const type_names[] = {"string",  "binary", "int64", "timestamp_us",
                                         "float32", "vector", "other"};

static enum mly_lance_type type_of(const char *name)
{
    for (int i = 0; i < MLY_LANCE_OTHER; i++) {
        if (strcmp(name, type_names[i]) == 0) return (enum mly_lance_type)i;
    }
    fprintf(stderr, "unknown type %s\n", name);
    exit(2);
}

static void *allocate(size_t count, size_t bytes)
{
    void *block = calloc(count + 1, bytes);
    if (block == NULL) exit(3);
    return block;
}

static void put_hex(struct mly_lance_writer *writer, size_t column_i, const char *hex)
{
    size_t bytes = strlen(hex) / 2;
    char *data = allocate(bytes, 1);
    for (size_t i = 0; i < bytes; i++) {
        char digits[3] = {hex[2 * i], hex[2 * i + 1], 0};
        data[i] = (char)strtol(digits, NULL, 16);
    }
    CHECK(mly_lance_put_string(writer, column_i, (struct mly_str){data, bytes}, &err));
    free(data);
}

static void put_value(struct mly_lance_writer *writer, size_t column_i,
                      const struct mly_lance_field *field, json_t *value)
{
    if (json_is_null(value)) {
        CHECK(mly_lance_put_null(writer, column_i, &err));
    } else if (field->type == MLY_LANCE_STRING) {
        struct mly_str text = {json_string_value(value), json_string_length(value)};
        CHECK(mly_lance_put_string(writer, column_i, text, &err));
    } else if (field->type == MLY_LANCE_BINARY) {
        put_hex(writer, column_i, json_string_value(value));
    } else if (field->type == MLY_LANCE_FLOAT32) {
        float number = (float)json_number_value(value);
        CHECK(mly_lance_put_float32(writer, column_i, number, &err));
    } else if (field->type == MLY_LANCE_VECTOR) {
        float *vector = allocate(field->dim, sizeof(float));
        for (size_t i = 0; i < field->dim; i++) {
            vector[i] = (float)json_number_value(json_array_get(value, i));
        }
        CHECK(mly_lance_put_vector(writer, column_i, vector, &err));
        free(vector);
    } else {
        CHECK(mly_lance_put_int64(writer, column_i, json_integer_value(value), &err));
    }
}

/* Writes one batch; columns that it lacks are left out of the file. */
static void write_batch(const struct mly_lance_table *table, const struct mly_lance_field *fields,
                        size_t field_count, json_t *batch, struct mly_lance_data_file *out)
{
    struct mly_lance_field *chosen = allocate(field_count, sizeof(*chosen));
    size_t count = 0;
    for (size_t i = 0; i < field_count; i++) {
        if (json_object_get(batch, fields[i].name.data) != NULL) chosen[count++] = fields[i];
    }
    CHECK(mly_lance_writer_open(table, chosen, count, &open_writer, &err));
    for (size_t i = 0; i < count; i++) {
        json_t *values = json_object_get(batch, chosen[i].name.data);
        for (size_t row = 0; row < json_array_size(values); row++) {
            put_value(open_writer, i, &chosen[i], json_array_get(values, row));
        }
    }
    CHECK(mly_lance_writer_finish(open_writer, out, &err));
    mly_lance_writer_close(open_writer);
    open_writer = NULL;
    free(chosen);
}

static size_t read_fields(json_t *change, const struct mly_lance_manifest *base,
                          struct mly_lance_field **out)
{
    json_t *list = json_object_get(change, "fields");
    size_t count = base != NULL ? mly_lance_manifest_field_count(base) : json_array_size(list);
    *out = allocate(count, sizeof(**out));
    for (size_t i = 0; i < count; i++) {
        if (base != NULL) {
            mly_lance_manifest_get_field(base, i, &(*out)[i]);
            char *name = allocate((*out)[i].name.bytes + 1, 1); /* not freed: a NUL is wanted */
            memcpy(name, (*out)[i].name.data, (*out)[i].name.bytes);
            (*out)[i].name.data = name;
            continue;
        }
        json_t *field = json_array_get(list, i);
        (*out)[i] = (struct mly_lance_field){
            .name = mly_str_of(json_string_value(json_object_get(field, "name"))),
            .type = type_of(json_string_value(json_object_get(field, "type"))),
            .dim = (uint32_t)json_integer_value(json_object_get(field, "dim")),
            .nullable = !json_is_false(json_object_get(field, "nullable")),
            .id = (int32_t)i,
        };
    }
    return count;
}

static void read_deletions(const struct mly_lance_table *table,
                           const struct mly_lance_manifest *base, json_t *list,
                           struct mly_lance_change *change)
{
    size_t count = json_object_size(list), i = 0;
    struct mly_lance_deletion_change *deletions = allocate(count, sizeof(*deletions));
    struct mly_lance_deletions *sets = allocate(count, sizeof(*sets));
    const char *key;
    json_t *rows;
    json_object_foreach(list, key, rows)
    {
        uint64_t id = strtoull(key, NULL, 10);
        size_t fragment_i = mly_lance_manifest_find_fragment(base, id);
        CHECK(mly_lance_deletions_read(table, base, fragment_i, &sets[i], &err));
        for (size_t row = 0; row < json_array_size(rows); row++) {
            uint64_t number = (uint64_t)json_integer_value(json_array_get(rows, row));
            CHECK(mly_lance_deletions_add(&sets[i], number, &err));
        }
        deletions[i] = (struct mly_lance_deletion_change){id, &sets[i]};
        i++;
    }
    change->deletions = deletions;
    change->deletion_count = count;
}

static int commit(const struct mly_lance_table *table)
{
    json_error_t json_err;
    json_t *input = json_loadf(stdin, 0, &json_err);
    if (input == NULL) {
        fprintf(stderr, "%s\n", json_err.text);
        return 2;
    }
    struct mly_lance_manifest *base;
    struct mly_lance_change change = {0};
    struct mly_lance_field *fields;
    CHECK(mly_lance_manifest_load(table, &base, &err));
    if (base == NULL) CHECK(mly_lance_table_make(table, &err));
    size_t field_count = read_fields(input, base, &fields);
    json_t *batches = json_object_get(input, "batches");
    struct mly_lance_data_file *files = allocate(json_array_size(batches), sizeof(*files));
    for (size_t i = 0; i < json_array_size(batches); i++) {
        write_batch(table, fields, field_count, json_array_get(batches, i), &files[i]);
    }
    json_t *config = json_object_get(input, "config");
    struct mly_lance_pair *pairs = allocate(json_object_size(config), sizeof(*pairs));
    const char *key;
    json_t *value;
    json_object_foreach(config, key, value)
    {
        pairs[change.config_count].key = mly_str_of(key);
        pairs[change.config_count++].value = mly_str_of(json_string_value(value));
    }
    change.config = pairs;
    change.files = files;
    change.file_count = json_array_size(batches);
    if (base == NULL) {
        change.fields = fields;
        change.field_count = field_count;
    } else {
        read_deletions(table, base, json_object_get(input, "delete"), &change);
    }
    struct mly_lance_manifest *next;
    CHECK(mly_lance_commit(table, base, &change, &next, NULL, &err));
    printf("{\"version\": %llu}\n", (unsigned long long)mly_lance_manifest_version(next));
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(base);
    return 0; /* The rest goes with the process. */
}

static json_t *hex_of(struct mly_str bytes)
{
    char *hex = allocate(2 * bytes.bytes + 1, 1);
    for (size_t i = 0; i < bytes.bytes; i++) {
        snprintf(hex + 2 * i, 3, "%02x", (unsigned char)bytes.data[i]);
    }
    json_t *out = json_string(hex);
    free(hex);
    return out;
}

static json_t *vector_of(const struct mly_lance_fragment *fragment, size_t field_i, uint64_t row)
{
    struct mly_lance_vectors vectors;
    CHECK(mly_lance_get_vectors(fragment, field_i, row, &vectors, &err));
    uint64_t i = row - vectors.first_row;
    if (vectors.values == NULL ||
        (vectors.valid != NULL && (vectors.valid[i >> 3] >> (i & 7) & 1) == 0)) {
        return json_null();
    }
    json_t *list = json_array();
    for (size_t j = 0; j < vectors.dim; j++) {
        json_array_append_new(list, json_real((double)vectors.values[i * vectors.dim + j]));
    }
    return list;
}

static json_t *value_of(const struct mly_lance_fragment *fragment, size_t field_i,
                        enum mly_lance_type type, uint64_t row)
{
    struct mly_str text;
    int64_t number;
    float real;
    bool is_null;
    switch (type) {
    case MLY_LANCE_STRING:
    case MLY_LANCE_BINARY:
        CHECK(mly_lance_get_string(fragment, field_i, row, &text, &err));
        if (text.data == NULL) return json_null();
        return type == MLY_LANCE_BINARY ? hex_of(text) : json_stringn(text.data, text.bytes);
    case MLY_LANCE_INT64:
    case MLY_LANCE_TIMESTAMP_US:
        CHECK(mly_lance_get_int64(fragment, field_i, row, INT64_MIN, &number, &err));
        return number == INT64_MIN ? json_null() : json_integer(number);
    case MLY_LANCE_FLOAT32:
        CHECK(mly_lance_get_float32(fragment, field_i, row, &is_null, &real, &err));
        if (!is_null && !isfinite(real)) return json_string(isnan(real) ? "nan" : "inf");
        return is_null ? json_null() : json_real((double)real);
    case MLY_LANCE_VECTOR:
        return vector_of(fragment, field_i, row);
    case MLY_LANCE_OTHER:
    case MLY_LANCE_UINT64:
    case MLY_LANCE_CODES:
        break;
    }
    return json_null();
}

static void read_fragment(const struct mly_lance_table *table,
                          const struct mly_lance_manifest *manifest, size_t fragment_i,
                          json_t *rows)
{
    struct mly_lance_fragment *fragment;
    struct mly_lance_deletions dead;
    CHECK(mly_lance_fragment_open(table, manifest, fragment_i, &fragment, &err));
    CHECK(mly_lance_deletions_read(table, manifest, fragment_i, &dead, &err));
    for (uint64_t row = 0; row < mly_lance_fragment_row_count(fragment); row++) {
        if (mly_lance_deletions_has(&dead, row)) continue;
        json_t *values = json_array();
        for (size_t i = 0; i < mly_lance_manifest_field_count(manifest); i++) {
            struct mly_lance_field field;
            mly_lance_manifest_get_field(manifest, i, &field);
            json_array_append_new(values, value_of(fragment, i, field.type, row));
        }
        json_array_append_new(rows, values);
    }
    mly_lance_deletions_deinit(&dead);
    mly_lance_fragment_close(fragment);
}

static int read_table(const struct mly_lance_table *table)
{
    struct mly_lance_manifest *manifest;
    CHECK(mly_lance_manifest_load(table, &manifest, &err));
    if (manifest == NULL) {
        printf("null\n");
        return 0;
    }
    json_t *fields = json_array(), *fragments = json_array(), *rows = json_array();
    for (size_t i = 0; i < mly_lance_manifest_field_count(manifest); i++) {
        struct mly_lance_field field;
        mly_lance_manifest_get_field(manifest, i, &field);
        json_array_append_new(fields, json_pack("{s:s%,s:s,s:i,s:b,s:i}", "name", field.name.data,
                                                field.name.bytes, "type", type_names[field.type],
                                                "dim", (int)field.dim, "nullable",
                                                (int)field.nullable, "id", (int)field.id));
    }
    for (size_t i = 0; i < mly_lance_manifest_fragment_count(manifest); i++) {
        struct mly_lance_fragment_info info;
        mly_lance_manifest_get_fragment(manifest, i, &info);
        json_array_append_new(fragments, json_pack("{s:I,s:I,s:I}", "id", (json_int_t)info.id,
                                                   "rows", (json_int_t)info.row_count, "deleted",
                                                   (json_int_t)info.deleted_count));
        read_fragment(table, manifest, i, rows);
    }
    struct mly_str mark = mly_lance_manifest_config(manifest, MLY_STR("memalloy.mark"));
    json_t *out = json_pack("{s:I,s:o,s:o,s:o,s:o}", "version",
                            (json_int_t)mly_lance_manifest_version(manifest), "fields", fields,
                            "fragments", fragments, "rows", rows, "mark",
                            mark.data == NULL ? json_null() : json_stringn(mark.data, mark.bytes));
    json_dumpf(out, stdout, JSON_COMPACT);
    json_decref(out);
    mly_lance_manifest_destroy(manifest);
    return 0;
}

static int64_t seconds_ahead;

static int64_t later(void *context)
{
    (void)context;
    const struct mly_env *env = mly_env_system();
    return env->wall_ns(env->context) + seconds_ahead * 1000000000;
}

/* {"keep": versions, "later": seconds that have passed since} */
static int clean(const char *path)
{
    struct mly_env env = *mly_env_system();
    struct mly_lance_table *table;
    struct mly_lance_cleaned report;
    json_t *input = json_loadf(stdin, 0, NULL);
    struct mly_lance_keep keep = {.versions =
                                      (uint64_t)json_integer_value(json_object_get(input, "keep"))};
    seconds_ahead = json_integer_value(json_object_get(input, "later"));
    env.wall_ns = later;
    CHECK(mly_lance_table_open(&env, path, &table, &err));
    CHECK(mly_lance_clean(table, &keep, &report, &err));
    printf("{\"versions\": %llu, \"data_files\": %llu, \"deletion_files\": %llu, "
           "\"transactions\": %llu, \"is_frozen\": %s}\n",
           (unsigned long long)report.versions, (unsigned long long)report.data_files,
           (unsigned long long)report.deletion_files, (unsigned long long)report.transactions,
           report.is_frozen ? "true" : "false");
    mly_lance_table_close(table);
    json_decref(input);
    return 0;
}

int main(int argc, char **argv)
{
    struct mly_lance_table *table;
    if (argc != 3) {
        fprintf(stderr, "usage: lance_tool commit|read|clean TABLE\n");
        return 2;
    }
    if (strcmp(argv[1], "clean") == 0) return clean(argv[2]);
    CHECK(mly_lance_table_open(mly_env_system(), argv[2], &table, &err));
    int result = strcmp(argv[1], "commit") == 0 ? commit(table) : read_table(table);
    mly_lance_table_close(table);
    return result;
}
