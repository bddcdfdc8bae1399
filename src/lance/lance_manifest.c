/* A manifest file's bytes become a manifest: found from its footer, unpacked, checked as far as
 * others rely on it (fragment ids unique, row counts in range, names that stay inside data/), and
 * then only read. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRINTED_BYTES_MAX 120

static int printed(struct mly_str text)
{
    return (int)(text.bytes < PRINTED_BYTES_MAX ? text.bytes : PRINTED_BYTES_MAX);
}

void mly_lance_manifest_destroy(struct mly_lance_manifest *manifest)
{
    if (manifest == NULL) return;
    struct mly_mem *mem = manifest->mem;
    if (manifest->pb != NULL) mly_lance_unpacked_free(mem, &manifest->pb->base);
    mly_mem_free(mem, manifest->fields);
    mly_mem_free(mem, manifest->order);
    mly_mem_free(mem, manifest->index_section);
    mly_mem_free(mem, manifest);
}

/* The section whose u32 length stands at position. */
static enum mly_err find_section(const uint8_t *data, size_t bytes, uint64_t position,
                                 const char *path, const char *what, const uint8_t **section,
                                 size_t *section_bytes, struct mly_error *err)
{
    if (!lance_inside(position, 4, bytes) ||
        !lance_inside(position + 4, mly_get_u32le(data + position), bytes)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: %s at %" PRIu64 " is beyond its %zu bytes", path,
                        what, position, bytes);
    }
    *section = data + position + 4;
    *section_bytes = mly_get_u32le(data + position);
    return MLY_OK;
}

static enum mly_err check_data_file(const MlyPb__DataFile *file, uint64_t fragment_id,
                                    const char *path, struct mly_error *err)
{
    struct mly_str name = lance_pb_str(file->path);
    if (file->has_base_id) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "%s: data file %.*s lies outside the table, which is not supported", path,
                        printed(name), name.data);
    }
    if (!lance_is_plain_name(name)) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: fragment %" PRIu64 " has a data file named %.*s",
                        path, fragment_id, printed(name), name.data);
    }
    if (file->n_field_ids != file->n_column_indices) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: data file %.*s has %zu fields in %zu columns",
                        path, printed(name), name.data, file->n_field_ids, file->n_column_indices);
    }
    return MLY_OK;
}

static enum mly_err check_fragment(const MlyPb__Fragment *fragment, const char *path,
                                   struct mly_error *err)
{
    uint64_t deleted = fragment->deletion_file == NULL ? 0 : fragment->deletion_file->deleted_count;
    if (fragment->id > UINT32_MAX || fragment->row_count > MLY_FRAGMENT_ROWS_MAX ||
        deleted > fragment->row_count) {
        return mly_fail(err, MLY_ERR_CORRUPT,
                        "%s: fragment %" PRIu64 " has %" PRIu64 " rows, %" PRIu64
                        " of them deleted",
                        path, fragment->id, fragment->row_count, deleted);
    }
    if (fragment->deletion_file != NULL && fragment->deletion_file->has_base_id) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "%s: the deletion file of fragment %" PRIu64
                        " lies outside the table, which is not supported",
                        path, fragment->id);
    }
    for (size_t i = 0; i < fragment->n_files; i++) {
        MLY_TRY(check_data_file(fragment->files[i], fragment->id, path, err));
    }
    return MLY_OK;
}

static int compare_order(const void *a, const void *b)
{
    const struct lance_fragment_order *x = a;
    const struct lance_fragment_order *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

static enum mly_err read_fragments(struct mly_lance_manifest *manifest, const char *path,
                                   struct mly_error *err)
{
    size_t count = manifest->pb->n_fragments;
    manifest->order = mly_mem_array(manifest->mem, count, sizeof(manifest->order[0]));
    if (manifest->order == NULL) return mly_fail_nomem(err, count * sizeof(manifest->order[0]));
    for (size_t i = 0; i < count; i++) {
        const MlyPb__Fragment *fragment = manifest->pb->fragments[i];
        MLY_TRY(check_fragment(fragment, path, err));
        manifest->order[i] = (struct lance_fragment_order){fragment->id, i};
    }
    if (count > 0) qsort(manifest->order, count, sizeof(manifest->order[0]), compare_order);
    for (size_t i = 1; i < count; i++) {
        if (manifest->order[i].id == manifest->order[i - 1].id) {
            return mly_fail(err, MLY_ERR_CORRUPT, "%s: fragment %" PRIu64 " is there twice", path,
                            manifest->order[i].id);
        }
    }
    return MLY_OK;
}

static enum mly_err read_fields(struct mly_lance_manifest *manifest, struct mly_error *err)
{
    const MlyPb__Manifest *pb = manifest->pb;
    manifest->fields = mly_mem_array(manifest->mem, pb->n_fields, sizeof(manifest->fields[0]));
    if (manifest->fields == NULL) {
        return mly_fail_nomem(err, pb->n_fields * sizeof(manifest->fields[0]));
    }
    for (size_t i = 0; i < pb->n_fields; i++) {
        const MlyPb__Field *field = pb->fields[i];
        /* Children of structs and lists follow their parent; their columns are not ours. */
        if (field->has_parent_id && field->parent_id != LANCE_PARENT_NONE) continue;
        struct mly_lance_field *out = &manifest->fields[manifest->field_count++];
        *out = (struct mly_lance_field){
            .name = lance_pb_str(field->name), .nullable = field->nullable, .id = field->id};
        mly_lance_parse_type(lance_pb_str(field->logical_type), &out->type, &out->dim);
    }
    return MLY_OK;
}

static enum mly_err check_flags(const MlyPb__Manifest *pb, const char *path, struct mly_error *err)
{
    uint64_t unknown = pb->reader_flags & ~LANCE_FLAGS_KNOWN;
    if (unknown != 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "%s: reading the table needs features %#" PRIx64
                        ", which are not supported",
                        path, unknown);
    }
    return MLY_OK;
}

static enum mly_err parse_into(struct mly_lance_manifest *manifest, const uint8_t *data,
                               size_t bytes, const char *path, struct mly_error *err)
{
    if (bytes < LANCE_MANIFEST_FOOTER_BYTES || memcmp(data + bytes - 4, "LANC", 4) != 0) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: its %zu bytes do not end as a manifest does",
                        path, bytes);
    }
    const uint8_t *section;
    size_t section_bytes;
    MLY_TRY(find_section(data, bytes, mly_get_u64le(data + bytes - LANCE_MANIFEST_FOOTER_BYTES),
                         path, "manifest", &section, &section_bytes, err));
    ProtobufCMessage *message;
    MLY_TRY(mly_lance_unpack(manifest->mem, &mly_pb__manifest__descriptor, section, section_bytes,
                             path, &message, err));
    manifest->pb = (MlyPb__Manifest *)message;
    if (manifest->pb->version == 0 || manifest->pb->version > INT64_MAX) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: its version is %" PRIu64, path,
                        manifest->pb->version);
    }
    MLY_TRY(check_flags(manifest->pb, path, err));
    MLY_TRY(read_fields(manifest, err));
    MLY_TRY(read_fragments(manifest, path, err));
    if (!manifest->pb->has_index_section) return MLY_OK;
    MLY_TRY(find_section(data, bytes, manifest->pb->index_section, path, "index section", &section,
                         &section_bytes, err));
    manifest->index_section = mly_mem_alloc(manifest->mem, section_bytes);
    if (manifest->index_section == NULL) return mly_fail_nomem(err, section_bytes);
    memcpy(manifest->index_section, section, section_bytes);
    manifest->index_section_bytes = section_bytes;
    return MLY_OK;
}

enum mly_err mly_lance_manifest_parse(struct mly_mem *mem, const uint8_t *data, size_t bytes,
                                      const char *path, struct mly_lance_manifest **out,
                                      struct mly_error *err)
{
    struct mly_lance_manifest *manifest = mly_mem_array(mem, 1, sizeof(*manifest));
    if (manifest == NULL) return mly_fail_nomem(err, sizeof(*manifest));
    manifest->mem = mem;
    enum mly_err rc = parse_into(manifest, data, bytes, path, err);
    if (rc != MLY_OK) {
        mly_lance_manifest_destroy(manifest);
        return rc;
    }
    *out = manifest;
    return MLY_OK;
}

uint64_t mly_lance_manifest_version(const struct mly_lance_manifest *manifest)
{
    return manifest->pb->version;
}

size_t mly_lance_manifest_field_count(const struct mly_lance_manifest *manifest)
{
    return manifest->field_count;
}

void mly_lance_manifest_get_field(const struct mly_lance_manifest *manifest, size_t field_i,
                                  struct mly_lance_field *out)
{
    *out = manifest->fields[field_i];
}

size_t mly_lance_manifest_find_field(const struct mly_lance_manifest *manifest, struct mly_str name)
{
    for (size_t i = 0; i < manifest->field_count; i++) {
        if (mly_str_equal(manifest->fields[i].name, name)) return i;
    }
    return MLY_LANCE_NO_FIELD;
}

struct mly_str mly_lance_manifest_config(const struct mly_lance_manifest *manifest,
                                         struct mly_str key)
{
    /* From the back: of a key that stands twice, protobuf's maps keep the last. */
    for (size_t i = manifest->pb->n_config; i-- > 0;) {
        const MlyPb__Pair *pair = manifest->pb->config[i];
        if (mly_str_equal(lance_pb_str(pair->key), key)) return lance_pb_str(pair->value);
    }
    return MLY_STR_NULL;
}

bool mly_lance_manifest_is_ours(const struct mly_lance_manifest *manifest)
{
    char number[24];
    (void)snprintf(number, sizeof(number), "%" PRIu64, manifest->pb->version);
    return mly_str_equal(mly_lance_manifest_config(manifest, MLY_STR(MLY_LANCE_OWN_KEY)),
                         mly_str_of(number));
}

size_t mly_lance_manifest_fragment_count(const struct mly_lance_manifest *manifest)
{
    return manifest->pb->n_fragments;
}

void mly_lance_manifest_get_fragment(const struct mly_lance_manifest *manifest, size_t fragment_i,
                                     struct mly_lance_fragment_info *out)
{
    const MlyPb__Fragment *fragment = manifest->pb->fragments[fragment_i];
    *out = (struct mly_lance_fragment_info){.id = fragment->id, .row_count = fragment->row_count};
    if (fragment->deletion_file != NULL) {
        out->deleted_count = fragment->deletion_file->deleted_count;
    }
    for (size_t i = 0; i < fragment->n_files; i++) {
        out->file_bytes += fragment->files[i]->file_bytes;
    }
}

size_t mly_lance_manifest_find_fragment(const struct mly_lance_manifest *manifest, uint64_t id)
{
    struct lance_fragment_order key = {.id = id};
    size_t count = manifest->pb->n_fragments;
    if (count == 0) return SIZE_MAX;
    const struct lance_fragment_order *found =
        bsearch(&key, manifest->order, count, sizeof(key), compare_order);
    return found == NULL ? SIZE_MAX : found->fragment_i;
}

static bool same_field(const struct mly_lance_field *a, const struct mly_lance_field *b)
{
    return a->id == b->id && a->type == b->type && a->dim == b->dim && a->nullable == b->nullable &&
           mly_str_equal(a->name, b->name);
}

static bool same_file(const MlyPb__DataFile *a, const MlyPb__DataFile *b)
{
    /* A file has a column for each field: that was checked. */
    return mly_str_equal(lance_pb_str(a->path), lance_pb_str(b->path)) &&
           a->n_field_ids == b->n_field_ids &&
           (a->n_field_ids == 0 ||
            (memcmp(a->field_ids, b->field_ids, a->n_field_ids * sizeof(a->field_ids[0])) == 0 &&
             memcmp(a->column_indices, b->column_indices,
                    a->n_column_indices * sizeof(a->column_indices[0])) == 0));
}

bool mly_lance_manifest_is_our_fragment(const struct mly_lance_manifest *manifest,
                                        size_t fragment_i)
{
    const MlyPb__Fragment *fragment = manifest->pb->fragments[fragment_i];
    for (size_t i = 0; i < fragment->n_files; i++) {
        char name[MLY_LANCE_NAME_BYTES];
        struct mly_str path = lance_pb_str(fragment->files[i]->path);
        if (path.bytes >= sizeof(name)) return false;
        memcpy(name, path.data, path.bytes);
        name[path.bytes] = '\0';
        if (mly_lance_name_kind(name) != LANCE_NAME_DATA) return false;
    }
    return true;
}

bool mly_lance_manifest_same_data(const struct mly_lance_manifest *a,
                                  const struct mly_lance_manifest *b, uint64_t fragment_id)
{
    size_t a_i = mly_lance_manifest_find_fragment(a, fragment_id);
    size_t b_i = mly_lance_manifest_find_fragment(b, fragment_id);
    if (a_i == SIZE_MAX || b_i == SIZE_MAX || a->field_count != b->field_count) return false;
    for (size_t i = 0; i < a->field_count; i++) {
        if (!same_field(&a->fields[i], &b->fields[i])) return false;
    }
    const MlyPb__Fragment *x = a->pb->fragments[a_i];
    const MlyPb__Fragment *y = b->pb->fragments[b_i];
    if (x->n_files != y->n_files || x->row_count != y->row_count) return false;
    for (size_t i = 0; i < x->n_files; i++) {
        if (!same_file(x->files[i], y->files[i])) return false;
    }
    return true;
}

bool mly_lance_manifest_same_deletions(const struct mly_lance_manifest *a,
                                       const struct mly_lance_manifest *b, uint64_t fragment_id)
{
    size_t a_i = mly_lance_manifest_find_fragment(a, fragment_id);
    size_t b_i = mly_lance_manifest_find_fragment(b, fragment_id);
    if (a_i == SIZE_MAX || b_i == SIZE_MAX) return false;
    const MlyPb__DeletionFile *x = a->pb->fragments[a_i]->deletion_file;
    const MlyPb__DeletionFile *y = b->pb->fragments[b_i]->deletion_file;
    if (x == NULL || y == NULL) return x == y;
    return x->type == y->type && x->read_version == y->read_version && x->id == y->id &&
           x->deleted_count == y->deleted_count;
}
