/* Opens the data files of a fragment: footer, tables of contents, the metadata of those columns
 * that are read; each page is checked by lance_page.c. Columns are found by field id, since the
 * order in a file is the writer's affair. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <string.h>

/* Fragments of single documents are small and many. What is larger stays with the page cache. */
#define COPY_BELOW_BYTES ((size_t)64 << 10)

struct file_opener {
    struct mly_lance_fragment *fragment;
    const MlyPb__DataFile *pb;
    size_t file_i;
    const char *path; /* for messages */
    const uint8_t *data;
    uint64_t bytes;
    uint64_t cmo; /* where the table of column metadata stands */
    uint32_t column_count;
};

static enum mly_err check(const struct file_opener *opener, const uint8_t *at, uint64_t bytes,
                          struct mly_error *err)
{
    return lance_check(&opener->fragment->files[opener->file_i], at, bytes, err);
}

/* Entry i of a table of {u64 position, u64 size}. */
static enum mly_err read_entry(const struct file_opener *opener, uint64_t table, uint64_t i,
                               const char *what, const uint8_t **section, size_t *section_bytes,
                               struct mly_error *err)
{
    const uint8_t *entry = opener->data + table + 16 * i;
    uint64_t position = mly_get_u64le(entry);
    uint64_t bytes = mly_get_u64le(entry + 8);
    if (!lance_inside(position, bytes, opener->bytes) || bytes > MLY_META_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: %s %" PRIu64 " has %" PRIu64 " bytes at %" PRIu64
                        " of a file of %" PRIu64,
                        opener->path, what, i, bytes, position, opener->bytes);
    }
    *section = opener->data + position;
    *section_bytes = (size_t)bytes;
    return check(opener, *section, bytes, err);
}

static enum mly_err check_row_count(const struct file_opener *opener, uint64_t gbo,
                                    struct mly_error *err)
{
    struct mly_mem *mem = opener->fragment->arena.mem;
    const uint8_t *section = NULL;
    size_t section_bytes = 0;
    MLY_TRY(read_entry(opener, gbo, 0, "global buffer", &section, &section_bytes, err));
    ProtobufCMessage *message;
    MLY_TRY(mly_lance_unpack(mem, &mly_pb__file_descriptor__descriptor, section, section_bytes,
                             opener->path, &message, err));
    uint64_t rows = ((const MlyPb__FileDescriptor *)message)->row_count;
    mly_lance_unpacked_free(mem, message);
    if (rows != opener->fragment->row_count) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: has %" PRIu64 " rows, it is said to have %" PRIu64, opener->path, rows,
                        opener->fragment->row_count);
    }
    return MLY_OK;
}

static enum mly_err read_footer(struct file_opener *opener, struct mly_error *err)
{
    const MlyPb__DataFile *pb = opener->pb;
    if (pb->has_file_bytes && pb->file_bytes != 0 && pb->file_bytes != opener->bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: has %" PRIu64 " bytes, it is said to have %" PRIu64, opener->path,
                        opener->bytes, pb->file_bytes);
    }
    if (opener->bytes < LANCE_FOOTER_BYTES ||
        memcmp(opener->data + opener->bytes - 4, "LANC", 4) != 0) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: its %" PRIu64 " bytes do not end as a data file does", opener->path,
                        opener->bytes);
    }
    const uint8_t *footer = opener->data + opener->bytes - LANCE_FOOTER_BYTES;
    MLY_TRY(check(opener, footer, LANCE_FOOTER_BYTES, err));
    unsigned major = mly_get_u16le(footer + 32);
    unsigned minor = mly_get_u16le(footer + 34);
    /* Version 2.0 calls itself 0.3 in its footer. */
    if (!((major == 0 && minor == 3) || (major == 2 && minor == 0))) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "%s: is in data file version %u.%u, only 2.0 is supported", opener->path,
                        major, minor);
    }
    opener->cmo = mly_get_u64le(footer + 8);
    uint64_t gbo = mly_get_u64le(footer + 16);
    uint32_t global_count = mly_get_u32le(footer + 24);
    opener->column_count = mly_get_u32le(footer + 28);
    if (global_count == 0 || !lance_inside(gbo, (uint64_t)global_count * 16, opener->bytes) ||
        !lance_inside(opener->cmo, (uint64_t)opener->column_count * 16, opener->bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: its %u columns and %u global buffers are not inside it", opener->path,
                        opener->column_count, global_count);
    }
    MLY_TRY(check(opener, opener->data + gbo, (uint64_t)global_count * 16, err));
    MLY_TRY(check(opener, opener->data + opener->cmo, (uint64_t)opener->column_count * 16, err));
    return check_row_count(opener, gbo, err);
}

static enum mly_err read_pages(const struct file_opener *opener, const MlyPb__ColumnMetadata *pb,
                               struct lance_column *column, struct mly_error *err)
{
    struct mly_lance_fragment *fragment = opener->fragment;
    struct lance_page_source source = {
        .mem = fragment->arena.mem,
        .map = &fragment->files[opener->file_i].map,
        .file = opener->path,
        .field = &column->field,
    };
    column->pages = mly_arena_array(&fragment->arena, pb->n_pages, sizeof(column->pages[0]));
    if (column->pages == NULL) return mly_fail_nomem(err, pb->n_pages * sizeof(column->pages[0]));
    uint64_t row = 0;
    for (size_t i = 0; i < pb->n_pages; i++) {
        uint64_t rows = pb->pages[i]->row_count;
        if (rows > fragment->row_count - row) {
            row += rows < MLY_FRAGMENT_ROWS_MAX ? rows : MLY_FRAGMENT_ROWS_MAX;
            break;
        }
        if (rows == 0) continue; /* Nothing can be asked of it. */
        struct lance_page *page = &column->pages[column->page_count];
        *page = (struct lance_page){.first_row = row, .row_count = rows};
        MLY_TRY(mly_lance_page_read(&source, pb->pages[i], page, err));
        column->page_count++;
        row += rows;
    }
    if (row != fragment->row_count) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: the pages of column %zu have %" PRIu64 " rows or more, not %" PRIu64,
                        opener->path, (size_t)(column - fragment->columns), row,
                        fragment->row_count);
    }
    return MLY_OK;
}

static enum mly_err open_column(const struct file_opener *opener, uint32_t index,
                                struct lance_column *column, struct mly_error *err)
{
    struct mly_mem *mem = opener->fragment->arena.mem;
    const uint8_t *section = NULL;
    size_t section_bytes = 0;
    MLY_TRY(read_entry(opener, opener->cmo, index, "column", &section, &section_bytes, err));
    ProtobufCMessage *message;
    MLY_TRY(mly_lance_unpack(mem, &mly_pb__column_metadata__descriptor, section, section_bytes,
                             opener->path, &message, err));
    column->file_i = opener->file_i;
    enum mly_err rc = read_pages(opener, (const MlyPb__ColumnMetadata *)message, column, err);
    mly_lance_unpacked_free(mem, message);
    return rc;
}

static enum mly_err open_columns(const struct file_opener *opener, struct mly_error *err)
{
    struct mly_lance_fragment *fragment = opener->fragment;
    for (size_t i = 0; i < opener->pb->n_field_ids; i++) {
        int32_t id = opener->pb->field_ids[i];
        int32_t index = opener->pb->column_indices[i];
        for (size_t j = 0; id != LANCE_FIELD_TOMBSTONE && j < fragment->column_count; j++) {
            struct lance_column *column = &fragment->columns[j];
            if (column->field.id != id || column->field.type == MLY_LANCE_OTHER) continue;
            if (index < 0 || (uint32_t)index >= opener->column_count || column->pages != NULL) {
                return mly_fail(err, MLY_ERR_CORRUPT,
                                "%s: field %d is said to be column %d of %u, or is there twice",
                                opener->path, (int)id, (int)index, opener->column_count);
            }
            MLY_TRY(open_column(opener, (uint32_t)index, column, err));
        }
    }
    return MLY_OK;
}

static enum mly_err open_sums(struct mly_lance_fragment *fragment, struct lance_open_file *file,
                              struct mly_error *err)
{
    struct mly_sums sums = {0};
    bool found;
    MLY_TRY(mly_lance_sums_read(fragment->table, file->name.data, &sums, &found, err));
    if (!found) return MLY_OK;
    file->sums = mly_arena_array(&fragment->arena, 1, sizeof(*file->sums));
    if (file->sums == NULL) {
        mly_sums_deinit(&sums);
        return mly_fail_nomem(err, sizeof(*file->sums));
    }
    *file->sums = sums;
    return MLY_OK;
}

static enum mly_err open_file(struct mly_lance_fragment *fragment, const MlyPb__DataFile *pb,
                              struct mly_error *err)
{
    struct lance_path path;
    struct lance_open_file *file = &fragment->files[fragment->file_count];
    file->name = mly_arena_copy(&fragment->arena, lance_pb_str(pb->path));
    if (file->name.data == NULL) return mly_fail_nomem(err, pb->path.len);
    mly_lance_path(fragment->table, "data", file->name.data, &path);
    file->path = mly_arena_copy(&fragment->arena, mly_str_of(path.text)).data;
    if (file->path == NULL) return mly_fail_nomem(err, sizeof(path));
    MLY_TRY(mly_file_map_or_copy(fragment->table->env, MLY_AT_CWD, path.text, COPY_BELOW_BYTES,
                                 &file->map, err));
    struct file_opener opener = {
        .fragment = fragment,
        .pb = pb,
        .file_i = fragment->file_count++, /* from here on closed with the fragment */
        .path = path.text,
        .data = file->map.data,
        .bytes = file->map.bytes,
    };
    MLY_TRY(open_sums(fragment, file, err));
    MLY_TRY(read_footer(&opener, err));
    return open_columns(&opener, err);
}

/* What a fragment is made of, whoever says so. */
struct fragment_parts {
    uint64_t id, row_count;
    const struct mly_lance_field *fields; /* the table's */
    size_t field_count;
    MlyPb__DataFile *const *files;
    size_t file_count;
};

static enum mly_err open_into(struct mly_lance_fragment *fragment,
                              const struct fragment_parts *parts, struct mly_error *err)
{
    size_t field_count = parts->field_count;
    fragment->files =
        mly_arena_array(&fragment->arena, parts->file_count, sizeof(fragment->files[0]));
    fragment->columns =
        mly_arena_array(&fragment->arena, field_count, sizeof(fragment->columns[0]));
    if (fragment->files == NULL || fragment->columns == NULL) {
        return mly_fail_nomem(err, field_count * sizeof(fragment->columns[0]));
    }
    for (size_t i = 0; i < field_count; i++) {
        struct mly_lance_field *field = &fragment->columns[i].field;
        *field = parts->fields[i];
        field->name = mly_arena_copy(&fragment->arena, field->name);
        if (field->name.data == NULL) return mly_fail_nomem(err, parts->fields[i].name.bytes);
    }
    fragment->column_count = field_count;
    for (size_t i = 0; i < parts->file_count; i++) {
        MLY_TRY(open_file(fragment, parts->files[i], err));
    }
    return MLY_OK;
}

static enum mly_err open_parts(const struct mly_lance_table *table,
                               const struct fragment_parts *parts, struct mly_lance_fragment **out,
                               struct mly_error *err)
{
    struct mly_mem *mem = table->env->mem;
    struct mly_lance_fragment *fragment = mly_mem_array(mem, 1, sizeof(*fragment));
    if (fragment == NULL) return mly_fail_nomem(err, sizeof(*fragment));
    mly_arena_init(&fragment->arena, mem, LANCE_UNPACK_BYTES_MAX);
    fragment->table = table;
    fragment->id = parts->id;
    fragment->row_count = parts->row_count;
    enum mly_err rc = open_into(fragment, parts, err);
    if (rc != MLY_OK) {
        mly_lance_fragment_close(fragment);
        return rc;
    }
    *out = fragment;
    return MLY_OK;
}

enum mly_err mly_lance_fragment_open(const struct mly_lance_table *table,
                                     const struct mly_lance_manifest *manifest, size_t fragment_i,
                                     struct mly_lance_fragment **out, struct mly_error *err)
{
    if (fragment_i >= manifest->pb->n_fragments) {
        return mly_fail(err, MLY_ERR_INVAL, "fragment %zu of %zu", fragment_i,
                        manifest->pb->n_fragments);
    }
    const MlyPb__Fragment *pb = manifest->pb->fragments[fragment_i];
    struct fragment_parts parts = {
        .id = pb->id,
        .row_count = pb->row_count,
        .fields = manifest->fields,
        .field_count = manifest->field_count,
        .files = pb->files,
        .file_count = pb->n_files,
    };
    return open_parts(table, &parts, out, err);
}

/* The description comes from a log, so it is believed as little as a manifest. */
static enum mly_err check_description(const struct mly_lance_table *table,
                                      const struct mly_lance_data_file *file, struct mly_error *err)
{
    const char *end = memchr(file->name, '\0', sizeof(file->name));
    struct mly_str name = {file->name,
                           end == NULL ? sizeof(file->name) : (size_t)(end - file->name)};
    if (end == NULL || !lance_is_plain_name(name)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "table %s: a data file named %.*s", table->path,
                        (int)name.bytes, name.data);
    }
    if (file->row_count > MLY_FRAGMENT_ROWS_MAX || file->field_count > INT32_MAX) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s/data/%s is said to have %" PRIu64 " rows, the limit is %zu",
                        table->path, file->name, file->row_count, MLY_FRAGMENT_ROWS_MAX);
    }
    return MLY_OK;
}

enum mly_err mly_lance_fragment_open_file(const struct mly_lance_table *table,
                                          const struct mly_lance_field *fields, size_t field_count,
                                          const struct mly_lance_data_file *file,
                                          uint64_t fragment_id, struct mly_lance_fragment **out,
                                          struct mly_error *err)
{
    MlyPb__DataFile pb = MLY_PB__DATA_FILE__INIT;
    MlyPb__DataFile *files[] = {&pb};
    struct fragment_parts parts = {
        .id = fragment_id,
        .row_count = file->row_count,
        .fields = fields,
        .field_count = field_count,
        .files = files,
        .file_count = 1,
    };
    MLY_TRY(check_description(table, file, err));
    struct mly_mem *mem = table->env->mem;
    int32_t *columns = mly_mem_array(mem, file->field_count, sizeof(columns[0]));
    if (columns == NULL) return mly_fail_nomem(err, file->field_count * sizeof(columns[0]));
    for (size_t i = 0; i < file->field_count; i++) {
        columns[i] = (int32_t)i;
    }
    pb.path = lance_pb_data(mly_str_of(file->name));
    pb.field_ids = file->field_ids;
    pb.n_field_ids = file->field_count;
    pb.column_indices = columns;
    pb.n_column_indices = file->field_count;
    pb.has_file_bytes = true;
    pb.file_bytes = file->file_bytes;
    enum mly_err rc = open_parts(table, &parts, out, err);
    mly_mem_free(mem, columns);
    return rc;
}

void mly_lance_fragment_close(struct mly_lance_fragment *fragment)
{
    if (fragment == NULL) return;
    struct mly_mem *mem = fragment->arena.mem;
    for (size_t i = 0; i < fragment->file_count; i++) {
        mly_map_close(&fragment->files[i].map);
        if (fragment->files[i].sums != NULL) mly_sums_deinit(fragment->files[i].sums);
    }
    mly_arena_deinit(&fragment->arena);
    mly_mem_free(mem, fragment);
}

uint64_t mly_lance_fragment_id(const struct mly_lance_fragment *fragment)
{
    return fragment->id;
}

uint64_t mly_lance_fragment_row_count(const struct mly_lance_fragment *fragment)
{
    return fragment->row_count;
}

struct mly_str mly_lance_fragment_file_of(const struct mly_lance_fragment *fragment, size_t field_i,
                                          uint64_t *file_bytes)
{
    *file_bytes = 0;
    if (field_i >= fragment->column_count) return MLY_STR_NULL; /* and so for no field at all */
    const struct lance_column *column = &fragment->columns[field_i];
    if (column->page_count == 0) return MLY_STR_NULL;
    *file_bytes = fragment->files[column->file_i].map.bytes;
    return fragment->files[column->file_i].name;
}
