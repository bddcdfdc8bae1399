/* What follows the pages of a data file: the schema (global buffer 0), the metadata of each column
 * with its pages' encodings, the two tables that point at them, the footer. */
#include "lance/lance_writer_int.h"

#include <string.h>

/* A packed message in arena. */
static enum mly_err pack(const ProtobufCMessage *message, struct mly_arena *arena,
                         ProtobufCBinaryData *out, struct mly_error *err)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    out->data = mly_arena_take(arena, bytes + 1);
    if (out->data == NULL) return mly_fail_nomem(err, bytes);
    out->len = protobuf_c_message_pack(message, out->data);
    return MLY_OK;
}

/* Encoding{direct: Any{url, value}}, whose structs live in arena. */
static enum mly_err make_encoding(const char *url, ProtobufCBinaryData value,
                                  struct mly_arena *arena, MlyPb__Encoding **out,
                                  struct mly_error *err)
{
    struct parts {
        MlyPb__Encoding encoding;
        MlyPb__DirectEncoding direct;
    } *parts = mly_arena_array(arena, 1, sizeof(*parts));
    if (parts == NULL) return mly_fail_nomem(err, sizeof(*parts));
    MlyPb__Any any = MLY_PB__ANY__INIT;
    any.has_type_url = true;
    any.type_url = lance_pb_data(mly_str_of(url));
    any.has_value = true;
    any.value = value;
    mly_pb__encoding__init(&parts->encoding);
    mly_pb__direct_encoding__init(&parts->direct);
    parts->encoding.direct = &parts->direct;
    parts->direct.has_any = true;
    MLY_TRY(pack(&any.base, arena, &parts->direct.any, err));
    *out = &parts->encoding;
    return MLY_OK;
}

static enum mly_err pack_flat(uint64_t bits, uint32_t buffer_i, struct mly_arena *arena,
                              ProtobufCBinaryData *out, struct mly_error *err)
{
    MlyPb__ArrayEncoding encoding = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Flat flat = MLY_PB__FLAT__INIT;
    MlyPb__Buffer buffer = MLY_PB__BUFFER__INIT;
    encoding.flat = &flat;
    flat.has_bits_per_value = true;
    flat.bits_per_value = bits;
    flat.buffer = &buffer;
    buffer.has_buffer_index = buffer_i != 0;
    buffer.buffer_index = buffer_i;
    return pack(&encoding.base, arena, out, err);
}

static enum mly_err pack_no_null(ProtobufCBinaryData values, struct mly_arena *arena,
                                 ProtobufCBinaryData *out, struct mly_error *err)
{
    MlyPb__ArrayEncoding encoding = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    MlyPb__NoNull no_null = MLY_PB__NO_NULL__INIT;
    encoding.nullable = &nullable;
    nullable.no_null = &no_null;
    no_null.has_values = true;
    no_null.values = values;
    return pack(&encoding.base, arena, out, err);
}

static enum mly_err pack_some_null(ProtobufCBinaryData validity, ProtobufCBinaryData values,
                                   struct mly_arena *arena, ProtobufCBinaryData *out,
                                   struct mly_error *err)
{
    MlyPb__ArrayEncoding encoding = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    MlyPb__SomeNull some_null = MLY_PB__SOME_NULL__INIT;
    encoding.nullable = &nullable;
    nullable.some_null = &some_null;
    some_null.has_validity = true;
    some_null.validity = validity;
    some_null.has_values = true;
    some_null.values = values;
    return pack(&encoding.base, arena, out, err);
}

static enum mly_err pack_all_null(struct mly_arena *arena, ProtobufCBinaryData *out,
                                  struct mly_error *err)
{
    MlyPb__ArrayEncoding encoding = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    MlyPb__AllNull all_null = MLY_PB__ALL_NULL__INIT;
    encoding.nullable = &nullable;
    nullable.all_null = &all_null;
    return pack(&encoding.base, arena, out, err);
}

/* Text marks its nulls in the ends themselves. */
static enum mly_err pack_text(uint64_t text_bytes, struct mly_arena *arena,
                              ProtobufCBinaryData *out, struct mly_error *err)
{
    MlyPb__ArrayEncoding encoding = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Binary binary = MLY_PB__BINARY__INIT;
    ProtobufCBinaryData ends;
    encoding.binary = &binary;
    binary.has_indices = true;
    binary.has_bytes = true;
    binary.has_null_adjustment = true;
    binary.null_adjustment = text_bytes + 1;
    MLY_TRY(pack_flat(64, 0, arena, &ends, err));
    MLY_TRY(pack_no_null(ends, arena, &binary.indices, err));
    MLY_TRY(pack_flat(8, 1, arena, &binary.bytes, err));
    return pack(&encoding.base, arena, out, err);
}

static enum mly_err pack_vectors(uint32_t dim, uint64_t bits, uint32_t buffer_i,
                                 struct mly_arena *arena, ProtobufCBinaryData *out,
                                 struct mly_error *err)
{
    MlyPb__ArrayEncoding encoding = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__FixedSizeList list = MLY_PB__FIXED_SIZE_LIST__INIT;
    ProtobufCBinaryData items;
    encoding.fixed_size_list = &list;
    list.has_dimension = true;
    list.dimension = dim;
    list.has_items = true;
    MLY_TRY(pack_flat(bits, buffer_i, arena, &items, err));
    MLY_TRY(pack_no_null(items, arena, &list.items, err));
    return pack(&encoding.base, arena, out, err);
}

static enum mly_err pack_page_encoding(const struct mly_lance_field *field,
                                       const struct lance_page_record *record,
                                       struct mly_arena *arena, ProtobufCBinaryData *out,
                                       struct mly_error *err)
{
    if (record->null_count == record->row_count) return pack_all_null(arena, out, err);
    if (lance_is_text(field->type)) return pack_text(record->text_bytes, arena, out, err);
    bool has_nulls = record->null_count > 0;
    uint32_t values_i = has_nulls ? 1 : 0;
    ProtobufCBinaryData values, validity;
    if (field->type == MLY_LANCE_VECTOR || field->type == MLY_LANCE_CODES) {
        const uint64_t bits = field->type == MLY_LANCE_CODES ? 8 : 32;
        MLY_TRY(pack_vectors(field->dim, bits, values_i, arena, &values, err));
    } else {
        MLY_TRY(pack_flat(8 * lance_value_bytes(field), values_i, arena, &values, err));
    }
    if (!has_nulls) return pack_no_null(values, arena, out, err);
    MLY_TRY(pack_flat(1, 0, arena, &validity, err));
    return pack_some_null(validity, values, arena, out, err);
}

static enum mly_err make_page(const struct mly_lance_field *field,
                              const struct lance_page_record *record, struct mly_arena *arena,
                              MlyPb__Page **out, struct mly_error *err)
{
    MlyPb__Page *page = mly_arena_array(arena, 1, sizeof(*page));
    uint64_t *numbers = mly_arena_array(arena, 4, sizeof(numbers[0]));
    if (page == NULL || numbers == NULL) return mly_fail_nomem(err, sizeof(*page));
    mly_pb__page__init(page);
    page->buffer_offsets = numbers;
    page->buffer_sizes = numbers + 2;
    size_t count = 0;
    if (record->null_count < record->row_count) {
        if (record->valid_bytes > 0) {
            page->buffer_offsets[count] = record->valid_offset;
            page->buffer_sizes[count++] = record->valid_bytes;
        }
        page->buffer_offsets[count] = record->values_offset;
        page->buffer_sizes[count++] = record->values_bytes;
        if (lance_is_text(field->type)) {
            page->buffer_offsets[count] = record->text_offset;
            page->buffer_sizes[count++] = record->text_bytes;
        }
    }
    page->n_buffer_offsets = count;
    page->n_buffer_sizes = count;
    page->has_row_count = true;
    page->row_count = record->row_count;
    page->has_first_row = record->first_row != 0;
    page->first_row = record->first_row;
    ProtobufCBinaryData encoding;
    MLY_TRY(pack_page_encoding(field, record, arena, &encoding, err));
    MLY_TRY(make_encoding("/lance.encodings.ArrayEncoding", encoding, arena, &page->encoding, err));
    *out = page;
    return MLY_OK;
}

static enum mly_err append_column(const struct lance_column_writer *column, struct mly_arena *arena,
                                  struct mly_bytes *out, struct mly_error *err)
{
    MlyPb__ColumnMetadata metadata = MLY_PB__COLUMN_METADATA__INIT;
    /* ColumnEncoding{values: {}}: the column is its pages and nothing more. */
    static const char values[] = {0x0A, 0x00};
    ProtobufCBinaryData encoding = lance_pb_data((struct mly_str){values, sizeof(values)});
    MLY_TRY(
        make_encoding("/lance.encodings.ColumnEncoding", encoding, arena, &metadata.encoding, err));
    size_t page_count = column->pages.bytes / sizeof(struct lance_page_record);
    metadata.pages = mly_arena_array(arena, page_count, sizeof(metadata.pages[0]));
    if (metadata.pages == NULL) return mly_fail_nomem(err, page_count * sizeof(MlyPb__Page *));
    for (size_t i = 0; i < page_count; i++) {
        struct lance_page_record record;
        memcpy(&record, column->pages.data + i * sizeof(record), sizeof(record));
        MLY_TRY(make_page(&column->field, &record, arena, &metadata.pages[i], err));
    }
    metadata.n_pages = page_count;
    return mly_lance_pack(&metadata.base, out, err);
}

static enum mly_err append_schema(const struct mly_lance_writer *writer, struct mly_arena *arena,
                                  struct mly_bytes *out, struct mly_error *err)
{
    MlyPb__FileDescriptor descriptor = MLY_PB__FILE_DESCRIPTOR__INIT;
    MlyPb__Schema schema = MLY_PB__SCHEMA__INIT;
    struct mly_lance_field *fields =
        mly_arena_array(arena, writer->column_count, sizeof(fields[0]));
    if (fields == NULL) return mly_fail_nomem(err, writer->column_count * sizeof(fields[0]));
    for (size_t i = 0; i < writer->column_count; i++) {
        fields[i] = writer->columns[i].field;
    }
    MLY_TRY(mly_lance_fields_to_pb(fields, writer->column_count, arena, &schema.fields, err));
    schema.n_fields = writer->column_count;
    if (writer->extra != NULL) {
        const struct lance_writer_extra *extra = writer->extra;
        schema.metadata = mly_arena_array(arena, extra->pair_count, sizeof(schema.metadata[0]));
        if (schema.metadata == NULL) return mly_fail_nomem(err, extra->pair_count * 8);
        for (size_t i = 0; i < extra->pair_count; i++) {
            /* Packing only reads. */
            schema.metadata[i] = (MlyPb__Pair *)(uintptr_t)&extra->pairs[i];
        }
        schema.n_metadata = extra->pair_count;
    }
    descriptor.schema = &schema;
    descriptor.has_row_count = true;
    descriptor.row_count = writer->columns[0].rows;
    return mly_lance_pack(&descriptor.base, out, err);
}

static enum mly_err append_entry(struct mly_bytes *out, uint64_t position, uint64_t bytes,
                                 struct mly_error *err)
{
    MLY_TRY(mly_bytes_append_u64le(out, position, err));
    return mly_bytes_append_u64le(out, bytes, err);
}

static enum mly_err append_footer(struct mly_bytes *out, uint64_t columns, uint64_t cmo,
                                  uint64_t gbo, size_t global_count, size_t column_count,
                                  struct mly_error *err)
{
    MLY_TRY(mly_bytes_append_u64le(out, columns, err));
    MLY_TRY(mly_bytes_append_u64le(out, cmo, err));
    MLY_TRY(mly_bytes_append_u64le(out, gbo, err));
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)global_count, err));
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)column_count, err));
    /* u16 0, u16 3: how version 2.0 calls itself here. */
    MLY_TRY(mly_bytes_append_u32le(out, 3u << 16, err));
    return mly_bytes_append(out, "LANC", 4, err);
}

enum mly_err mly_lance_encode_tail(const struct mly_lance_writer *writer, uint64_t at,
                                   struct mly_bytes *out, struct mly_error *err)
{
    struct mly_arena arena;
    uint64_t *starts;
    mly_arena_init(&arena, writer->table->env->mem, LANCE_UNPACK_BYTES_MAX);
    enum mly_err rc = MLY_OK;
    starts = mly_arena_array(&arena, writer->column_count + 1, sizeof(starts[0]));
    if (starts == NULL) {
        rc = mly_fail_nomem(err, (writer->column_count + 1) * sizeof(starts[0]));
        goto done;
    }
    rc = append_schema(writer, &arena, out, err);
    if (rc != MLY_OK) goto done;
    uint64_t schema_bytes = out->bytes;
    starts[0] = at + out->bytes;
    for (size_t i = 0; i < writer->column_count; i++) {
        rc = append_column(&writer->columns[i], &arena, out, err);
        if (rc != MLY_OK) goto done;
        starts[i + 1] = at + out->bytes;
    }
    uint64_t cmo = at + out->bytes;
    for (size_t i = 0; i < writer->column_count; i++) {
        rc = append_entry(out, starts[i], starts[i + 1] - starts[i], err);
        if (rc != MLY_OK) goto done;
    }
    uint64_t gbo = at + out->bytes;
    rc = append_entry(out, at, schema_bytes, err);
    size_t globals = writer->extra == NULL ? 0 : writer->extra->global_count;
    for (size_t i = 0; i < globals && rc == MLY_OK; i++) {
        const struct lance_global *global = &writer->extra->globals[i];
        rc = append_entry(out, global->offset, global->bytes, err);
    }
    if (rc != MLY_OK) goto done;
    rc = append_footer(out, starts[0], cmo, gbo, 1 + globals, writer->column_count, err);
done:
    mly_arena_deinit(&arena);
    return rc;
}
