/* Indices in manifests.
 *
 * In: the index section of a manifest, whoever wrote it, or an index that is new. Out: what is
 * there, and the section and the transaction of the version that has the new one. */
#include "lance/lance_commit_int.h"

#include <inttypes.h>
#include <stdio.h>

#define VECTOR_DETAILS_URL "/lance.index.pb.VectorIndexDetails"
#define METRIC_COSINE 1
#define IVF_PQ_VERSION 1
#define CODE_BITS 8
/* A bitmap of fragments takes memory by the largest id; far more than a table ever has. */
#define FRAGMENT_IDS_MAX ((uint64_t)1 << 27)

/* ---- reading ---- */

struct entry {
    const MlyPb__IndexMetadata *pb;
    bool is_vector, is_ivf_pq, is_ours;
    struct mly_lance_deletions fragments; /* a bitmap like any other */
};

struct mly_lance_indices {
    struct mly_mem *mem;
    MlyPb__IndexSection *pb; /* NULL: the manifest has none */
    struct entry *entries;
    size_t count;
};

static enum mly_err read_section(const struct mly_lance_manifest *manifest,
                                 MlyPb__IndexSection **out, struct mly_error *err)
{
    ProtobufCMessage *message = NULL;
    *out = NULL;
    if (manifest->index_section == NULL) return MLY_OK;
    MLY_TRY(mly_lance_unpack(manifest->mem, &mly_pb__index_section__descriptor,
                             manifest->index_section, manifest->index_section_bytes,
                             "index section", &message, err));
    *out = (MlyPb__IndexSection *)message;
    return MLY_OK;
}

static uint64_t fragment_ids(const struct mly_lance_manifest *manifest)
{
    const size_t count = manifest->pb->n_fragments;
    uint64_t ids = count == 0 ? 0 : manifest->order[count - 1].id + 1;
    if (manifest->pb->has_fragment_id_max && manifest->pb->fragment_id_max >= ids) {
        ids = (uint64_t)manifest->pb->fragment_id_max + 1;
    }
    return ids;
}

static bool uuid_of(const MlyPb__IndexMetadata *pb, char out[37])
{
    if (pb->uuid == NULL || pb->uuid->uuid.len != 16) return false;
    mly_lance_uuid_text(pb->uuid->uuid.data, out);
    return true;
}

static bool is_ours(const MlyPb__IndexMetadata *pb)
{
    char text[37];
    return uuid_of(pb, text) && mly_lance_name_kind(text) == LANCE_NAME_INDEX;
}

static enum mly_err read_details(struct mly_mem *mem, struct entry *entry, struct mly_error *err)
{
    const MlyPb__Any *any = entry->pb->details;
    ProtobufCMessage *message = NULL;
    if (any == NULL || !mly_str_equal(lance_pb_str(any->type_url), MLY_STR(VECTOR_DETAILS_URL))) {
        return MLY_OK;
    }
    entry->is_vector = true;
    MLY_TRY(mly_lance_unpack(mem, &mly_pb__vector_index_details__descriptor, any->value.data,
                             any->value.len, "details of an index", &message, err));
    const MlyPb__VectorIndexDetails *details = (MlyPb__VectorIndexDetails *)message;
    entry->is_ivf_pq = details->pq != NULL && !details->has_hnsw;
    mly_lance_unpacked_free(mem, message);
    return MLY_OK;
}

static enum mly_err read_entry(const struct mly_lance_manifest *manifest, struct entry *entry,
                               struct mly_error *err)
{
    const MlyPb__IndexMetadata *pb = entry->pb;
    const uint64_t ids = fragment_ids(manifest);
    mly_lance_deletions_init(&entry->fragments, manifest->mem, ids);
    entry->is_ours = is_ours(pb);
    MLY_TRY(read_details(manifest->mem, entry, err));
    if (ids > FRAGMENT_IDS_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT,
                        "%" PRIu64 " fragment ids, limit for indices is %" PRIu64, ids,
                        FRAGMENT_IDS_MAX);
    }
    if (!pb->has_fragments || !entry->is_vector) return MLY_OK;
    return mly_lance_roaring_read(pb->fragments.data, pb->fragments.len, &entry->fragments, err);
}

enum mly_err mly_lance_indices_read(const struct mly_lance_manifest *manifest,
                                    struct mly_lance_indices **out, struct mly_error *err)
{
    struct mly_mem *mem = manifest->mem;
    struct mly_lance_indices *indices = mly_mem_array(mem, 1, sizeof(*indices));
    if (indices == NULL) return mly_fail_nomem(err, sizeof(*indices));
    indices->mem = mem;
    enum mly_err rc = read_section(manifest, &indices->pb, err);
    const size_t count = rc != MLY_OK || indices->pb == NULL ? 0 : indices->pb->n_indices;
    indices->entries = mly_mem_array(mem, count + 1, sizeof(indices->entries[0]));
    if (rc == MLY_OK && indices->entries == NULL) rc = mly_fail_nomem(err, count + 1);
    for (size_t i = 0; rc == MLY_OK && i < count; i++) {
        indices->entries[i].pb = indices->pb->indices[i];
        indices->count++;
        rc = read_entry(manifest, &indices->entries[i], err);
    }
    if (rc != MLY_OK) {
        mly_lance_indices_destroy(indices);
        return mly_fail_in(err, rc, "indices of version %" PRIu64, manifest->pb->version);
    }
    *out = indices;
    return MLY_OK;
}

void mly_lance_indices_destroy(struct mly_lance_indices *indices)
{
    if (indices == NULL) return;
    for (size_t i = 0; i < indices->count; i++)
        mly_lance_deletions_deinit(&indices->entries[i].fragments);
    if (indices->pb != NULL) mly_lance_unpacked_free(indices->mem, &indices->pb->base);
    mly_mem_free(indices->mem, indices->entries);
    mly_mem_free(indices->mem, indices);
}

size_t mly_lance_indices_count(const struct mly_lance_indices *indices)
{
    return indices->count;
}

void mly_lance_indices_get(const struct mly_lance_indices *indices, size_t index_i,
                           struct mly_lance_index_info *out)
{
    const struct entry *entry = &indices->entries[index_i];
    const MlyPb__IndexMetadata *pb = entry->pb;
    *out = (struct mly_lance_index_info){
        .name = lance_pb_str(pb->name),
        .field_id = pb->n_field_ids == 0 ? -1 : pb->field_ids[0],
        .is_vector = entry->is_vector,
        .is_ivf_pq = entry->is_ivf_pq,
        .is_ours = entry->is_ours,
    };
    for (size_t i = 0; i < pb->n_files; i++)
        out->bytes += pb->files[i]->bytes;
}

bool mly_lance_indices_cover(const struct mly_lance_indices *indices, size_t index_i,
                             uint64_t fragment_id)
{
    return mly_lance_deletions_has(&indices->entries[index_i].fragments, fragment_id);
}

/* ---- their files ---- */

enum mly_err mly_lance_each_index(const struct mly_lance_manifest *manifest,
                                  void (*fn)(void *context, const char *uuid), void *context,
                                  struct mly_error *err)
{
    MlyPb__IndexSection *section = NULL;
    MLY_TRY(read_section(manifest, &section, err));
    if (section == NULL) return MLY_OK;
    for (size_t i = 0; i < section->n_indices; i++) {
        char text[37];
        if (uuid_of(section->indices[i], text)) fn(context, text);
    }
    mly_lance_unpacked_free(manifest->mem, &section->base);
    return MLY_OK;
}

static uint64_t bytes_of(const MlyPb__IndexMetadata *pb, const char *name)
{
    for (size_t i = 0; i < pb->n_files; i++) {
        if (mly_str_equal(lance_pb_str(pb->files[i]->name), mly_str_of(name))) {
            return pb->files[i]->bytes;
        }
    }
    return 0;
}

enum mly_err mly_lance_each_index_file(const struct mly_lance_manifest *manifest,
                                       mly_lance_index_file_fn fn, void *context,
                                       struct mly_error *err)
{
    static const char *const names[] = {LANCE_INDEX_MAIN, LANCE_INDEX_AUXILIARY};
    MlyPb__IndexSection *section = NULL;
    enum mly_err rc = read_section(manifest, &section, err);
    for (size_t i = 0; rc == MLY_OK && section != NULL && i < section->n_indices; i++) {
        const MlyPb__IndexMetadata *pb = section->indices[i];
        char folder[LANCE_INDEX_FOLDER_BYTES], sums[LANCE_INDEX_SUMS_BYTES];
        if (!is_ours(pb)) continue;
        mly_lance_index_folder(pb->uuid->uuid.data, folder);
        for (size_t j = 0; rc == MLY_OK && j < sizeof(names) / sizeof(names[0]); j++) {
            mly_lance_index_sums_name(pb->uuid->uuid.data, names[j], sums);
            rc = fn(context, folder, names[j], sums, bytes_of(pb, names[j]), err);
        }
    }
    if (section != NULL) mly_lance_unpacked_free(manifest->mem, &section->base);
    return rc;
}

enum mly_err mly_lance_index_file_check(const struct mly_lance_table *table, const char *folder,
                                        const char *name, const char *sums_name, uint64_t bytes,
                                        bool *has_sums, struct mly_error *err)
{
    struct mly_sums sums = {0};
    struct mly_file_info info;
    struct lance_path path;
    bool found = false;
    mly_lance_path(table, folder, name, &path);
    enum mly_err rc = mly_file_info_at(table->env, MLY_AT_CWD, path.text, false, &info, err);
    if (rc == MLY_ERR_NOTFOUND) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: is missing", path.text);
    }
    if (rc != MLY_OK) return rc;
    if (bytes != 0 && info.bytes != bytes) {
        return mly_fail(err, MLY_ERR_CORRUPT, "%s: has %" PRIu64 " bytes, not %" PRIu64, path.text,
                        info.bytes, bytes);
    }
    MLY_TRY(mly_lance_sums_read(table, sums_name, &sums, &found, err));
    if (found) rc = mly_sums_verify(table->env, &sums, path.text, NULL, err);
    if (has_sums != NULL) *has_sums = found;
    mly_sums_deinit(&sums);
    return rc;
}

static enum mly_err check_file(void *context, const char *folder, const char *name,
                               const char *sums_name, uint64_t bytes, struct mly_error *err)
{
    return mly_lance_index_file_check(context, folder, name, sums_name, bytes, NULL, err);
}

enum mly_err mly_lance_indices_check(const struct mly_lance_table *table,
                                     const struct mly_lance_manifest *manifest,
                                     struct mly_error *err)
{
    /* Files are only read, and the table is not touched. */
    return mly_lance_each_index_file(manifest, check_file, (void *)(uintptr_t)table, err);
}

/* ---- a new one ---- */

struct index_parts {
    MlyPb__IndexMetadata metadata;
    MlyPb__IndexUuid uuid;
    MlyPb__Any details;
    MlyPb__IndexFile files[2];
    MlyPb__IndexFile *file_list[2];
    int32_t field_id;
};

static enum mly_err pack_details(struct lance_commit *commit, uint32_t sub_count,
                                 ProtobufCBinaryData *out, struct mly_error *err)
{
    MlyPb__VectorIndexDetails details = MLY_PB__VECTOR_INDEX_DETAILS__INIT;
    MlyPb__PqDetails pq = MLY_PB__PQ_DETAILS__INIT;
    details.has_metric = true;
    details.metric = METRIC_COSINE;
    details.pq = &pq;
    pq.has_bits = true;
    pq.bits = CODE_BITS;
    pq.has_sub_vectors = true;
    pq.sub_vectors = sub_count;
    out->len = protobuf_c_message_get_packed_size(&details.base);
    out->data = mly_arena_take(&commit->arena, out->len);
    if (out->data == NULL) return mly_fail_nomem(err, out->len);
    (void)protobuf_c_message_pack(&details.base, out->data);
    return MLY_OK;
}

static enum mly_err pack_fragments(struct lance_commit *commit, ProtobufCBinaryData *out,
                                   struct mly_error *err)
{
    const struct mly_lance_index_change *change = commit->change->index;
    struct mly_mem *mem = commit->table->env->mem;
    struct mly_lance_deletions set;
    struct mly_bytes bytes;
    enum mly_err rc = MLY_OK;
    mly_lance_deletions_init(&set, mem, fragment_ids(commit->base));
    mly_bytes_init(&bytes, mem, MLY_META_BYTES_MAX);
    for (size_t i = 0; rc == MLY_OK && i < change->fragment_count; i++)
        rc = mly_lance_deletions_add(&set, change->fragments[i], err);
    if (rc == MLY_OK) rc = mly_lance_roaring_write(&set, &bytes, err);
    if (rc == MLY_OK) {
        struct mly_str copy = mly_arena_copy(&commit->arena, mly_bytes_view(&bytes));
        if (copy.data == NULL) rc = mly_fail_nomem(err, bytes.bytes);
        *out = lance_pb_data(copy);
    }
    mly_bytes_deinit(&bytes);
    mly_lance_deletions_deinit(&set);
    return rc;
}

static void set_file(struct index_parts *parts, size_t i, const char *name, uint64_t bytes)
{
    MlyPb__IndexFile *file = &parts->files[i];
    mly_pb__index_file__init(file);
    file->has_name = true;
    file->name = lance_pb_data(mly_str_of(name));
    file->has_bytes = true;
    file->bytes = bytes;
    parts->file_list[i] = file;
}

static enum mly_err make_metadata(struct lance_commit *commit, struct mly_error *err)
{
    const struct mly_lance_index_change *change = commit->change->index;
    const struct mly_lance_index *index = change->index;
    struct index_parts *parts = mly_arena_array(&commit->arena, 1, sizeof(*parts));
    if (parts == NULL) return mly_fail_nomem(err, sizeof(*parts));
    MlyPb__IndexMetadata *metadata = &parts->metadata;
    mly_pb__index_metadata__init(metadata);
    mly_pb__index_uuid__init(&parts->uuid);
    mly_pb__any__init(&parts->details);
    parts->uuid.has_uuid = true;
    parts->uuid.uuid =
        lance_pb_data((struct mly_str){(const char *)index->uuid, sizeof(index->uuid)});
    metadata->uuid = &parts->uuid;
    parts->field_id = change->field_id;
    metadata->field_ids = &parts->field_id;
    metadata->n_field_ids = 1;
    metadata->has_name = true;
    metadata->name = lance_pb_data(change->name);
    metadata->has_dataset_version = true;
    metadata->dataset_version = change->version;
    metadata->has_fragments = true;
    MLY_TRY(pack_fragments(commit, &metadata->fragments, err));
    parts->details.has_type_url = true;
    parts->details.type_url = lance_pb_data(MLY_STR(VECTOR_DETAILS_URL));
    parts->details.has_value = true;
    MLY_TRY(pack_details(commit, index->sub_count, &parts->details.value, err));
    metadata->details = &parts->details;
    metadata->has_index_version = true;
    metadata->index_version = IVF_PQ_VERSION;
    metadata->has_created_at_ms = true;
    metadata->created_at_ms = (uint64_t)(mly_clock_wall_us(commit->table->env) / 1000);
    set_file(parts, 0, LANCE_INDEX_AUXILIARY, index->auxiliary_bytes);
    set_file(parts, 1, LANCE_INDEX_MAIN, index->main_bytes);
    metadata->files = parts->file_list;
    metadata->n_files = 2;
    commit->index = metadata;
    return MLY_OK;
}

enum mly_err mly_lance_make_index(struct lance_commit *commit, struct mly_error *err)
{
    const struct mly_lance_index_change *change = commit->change->index;
    MLY_TRY(read_section(commit->base, &commit->old_section, err));
    const size_t old_count = commit->old_section == NULL ? 0 : commit->old_section->n_indices;
    MlyPb__IndexSection section = MLY_PB__INDEX_SECTION__INIT;
    if (commit->old_section != NULL) section = *commit->old_section;
    section.indices = mly_arena_array(&commit->arena, old_count + 1, sizeof(section.indices[0]));
    commit->replaced = mly_arena_array(&commit->arena, old_count + 1, sizeof(section.indices[0]));
    if (section.indices == NULL || commit->replaced == NULL) {
        return mly_fail_nomem(err, (old_count + 1) * sizeof(section.indices[0]));
    }
    section.n_indices = 0;
    for (size_t i = 0; i < old_count; i++) {
        MlyPb__IndexMetadata *old = commit->old_section->indices[i];
        if (mly_str_equal(lance_pb_str(old->name), change->name)) {
            commit->replaced[commit->replaced_count++] = old;
        } else {
            section.indices[section.n_indices++] = old;
        }
    }
    MLY_TRY(make_metadata(commit, err));
    section.indices[section.n_indices++] = commit->index;
    return mly_lance_pack(&section.base, &commit->section, err);
}
