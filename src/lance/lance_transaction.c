/* The two things a version is made of: its transaction (what was done, for writers that hold an
 * older version) and its manifest (what is now). The new manifest is the old one with the changed
 * fields exchanged, so that what we do not know is carried along. */
#include "lance/lance_commit_int.h"

#include <inttypes.h>
#include <stdio.h>

/* Lance's way of telling its own versions' quirks apart: the newest one that this was tested with.
 */
#define WRITER_NAME "lance"
#define WRITER_VERSION "14.0.2"
#define FORMAT_NAME "lance"
#define FORMAT_VERSION "2.0"

static enum mly_err make_pairs(struct lance_commit *commit, MlyPb__Pair ***out, size_t *count,
                               bool with_removed, struct mly_error *err)
{
    const struct mly_lance_change *change = commit->change;
    MlyPb__Pair **pairs = mly_arena_array(&commit->arena, change->config_count, sizeof(pairs[0]));
    MlyPb__Pair *items = mly_arena_array(&commit->arena, change->config_count, sizeof(items[0]));
    if (pairs == NULL || items == NULL) {
        return mly_fail_nomem(err, change->config_count * sizeof(items[0]));
    }
    *count = 0;
    for (size_t i = 0; i < change->config_count; i++) {
        const struct mly_lance_pair *pair = &change->config[i];
        if (pair->value.data == NULL && !with_removed) continue;
        mly_pb__pair__init(&items[i]);
        items[i].has_key = true;
        items[i].key = lance_pb_data(pair->key);
        items[i].has_value = pair->value.data != NULL;
        if (items[i].has_value) items[i].value = lance_pb_data(pair->value);
        pairs[(*count)++] = &items[i];
    }
    *out = pairs;
    return MLY_OK;
}

struct operations {
    MlyPb__Append append;
    MlyPb__Delete delete_rows;
    MlyPb__Overwrite overwrite;
    MlyPb__CreateIndex create_index;
    MlyPb__Update update;
    MlyPb__UpdateConfig update_config;
    MlyPb__ConfigUpdates config_updates;
};

/* The one operation that says what the change does. */
static enum mly_err choose_operation(struct lance_commit *commit, MlyPb__Transaction *txn,
                                     struct operations *ops, struct mly_error *err)
{
    bool adds = commit->added_count > 0;
    bool deletes = commit->updated_count > 0 || commit->removed_count > 0;
    if (commit->base == NULL) {
        mly_pb__overwrite__init(&ops->overwrite);
        txn->overwrite = &ops->overwrite;
        ops->overwrite.fragments = commit->added_without_ids;
        ops->overwrite.n_fragments = commit->added_count;
        ops->overwrite.fields = commit->fields;
        ops->overwrite.n_fields = commit->change->field_count;
        return make_pairs(commit, &ops->overwrite.config_upserts, &ops->overwrite.n_config_upserts,
                          false, err);
    }
    if (commit->index != NULL) {
        mly_pb__create_index__init(&ops->create_index);
        txn->create_index = &ops->create_index;
        ops->create_index.added = &commit->index;
        ops->create_index.n_added = 1;
        ops->create_index.removed = commit->replaced;
        ops->create_index.n_removed = commit->replaced_count;
    } else if (adds && deletes) {
        mly_pb__update__init(&ops->update);
        txn->update = &ops->update;
        ops->update.removed_fragment_ids = commit->removed;
        ops->update.n_removed_fragment_ids = commit->removed_count;
        ops->update.updated_fragments = commit->updated;
        ops->update.n_updated_fragments = commit->updated_count;
        ops->update.new_fragments = commit->added_without_ids;
        ops->update.n_new_fragments = commit->added_count;
    } else if (adds) {
        mly_pb__append__init(&ops->append);
        txn->append = &ops->append;
        ops->append.fragments = commit->added_without_ids;
        ops->append.n_fragments = commit->added_count;
    } else if (deletes) {
        mly_pb__delete__init(&ops->delete_rows);
        txn->delete_rows = &ops->delete_rows;
        ops->delete_rows.updated_fragments = commit->updated;
        ops->delete_rows.n_updated_fragments = commit->updated_count;
        ops->delete_rows.removed_fragment_ids = commit->removed;
        ops->delete_rows.n_removed_fragment_ids = commit->removed_count;
        ops->delete_rows.has_predicate = true;
        ops->delete_rows.predicate = lance_pb_data(MLY_STR("true"));
    } else {
        mly_pb__update_config__init(&ops->update_config);
        mly_pb__config_updates__init(&ops->config_updates);
        txn->update_config = &ops->update_config;
        ops->update_config.config_updates = &ops->config_updates;
        return make_pairs(commit, &ops->config_updates.entries, &ops->config_updates.n_entries,
                          true, err);
    }
    return MLY_OK;
}

enum mly_err mly_lance_make_transaction(struct lance_commit *commit, struct mly_error *err)
{
    MlyPb__Transaction txn = MLY_PB__TRANSACTION__INIT;
    struct operations ops;
    uint8_t bytes[16];
    char uuid[37];
    MLY_TRY(mly_lance_own_uuid(commit->table, bytes, err));
    mly_lance_uuid_text(bytes, uuid);
    (void)snprintf(commit->txn_name, sizeof(commit->txn_name), "%" PRIu64 "-%s.txn",
                   commit->read_version, uuid);
    txn.has_read_version = commit->read_version != 0;
    txn.read_version = commit->read_version;
    txn.has_uuid = true;
    txn.uuid = lance_pb_data(mly_str_of(uuid));
    MLY_TRY(choose_operation(commit, &txn, &ops, err));
    return mly_lance_pack(&txn.base, &commit->txn, err);
}

static bool is_removed(const struct lance_commit *commit, uint64_t id)
{
    for (size_t i = 0; i < commit->removed_count; i++) {
        if (commit->removed[i] == id) return true;
    }
    return false;
}

static MlyPb__Fragment *find_updated(const struct lance_commit *commit, uint64_t id)
{
    for (size_t i = 0; i < commit->updated_count; i++) {
        if (commit->updated[i]->id == id) return commit->updated[i];
    }
    return NULL;
}

/* The base's fragments without the removed, with the updated in their places, and the new ones. */
static enum mly_err merge_fragments(struct lance_commit *commit, MlyPb__Manifest *manifest,
                                    struct mly_error *err)
{
    size_t old_count = commit->base == NULL ? 0 : commit->base->pb->n_fragments;
    MlyPb__Fragment **list =
        mly_arena_array(&commit->arena, old_count + commit->added_count, sizeof(list[0]));
    if (list == NULL) return mly_fail_nomem(err, old_count * sizeof(list[0]));
    size_t count = 0;
    for (size_t i = 0; i < old_count; i++) {
        MlyPb__Fragment *fragment = commit->base->pb->fragments[i];
        if (is_removed(commit, fragment->id)) continue;
        MlyPb__Fragment *updated = find_updated(commit, fragment->id);
        list[count++] = updated != NULL ? updated : fragment;
    }
    for (size_t i = 0; i < commit->added_count; i++) {
        list[count++] = commit->added[i];
    }
    manifest->fragments = list;
    manifest->n_fragments = count;
    if (commit->added_count > 0) {
        manifest->has_fragment_id_max = true;
        manifest->fragment_id_max = (uint32_t)commit->added[commit->added_count - 1]->id;
    }
    return MLY_OK;
}

static bool is_changed_key(const struct mly_lance_change *change, struct mly_str key)
{
    if (mly_str_equal(key, MLY_STR(MLY_LANCE_OWN_KEY))) return true;
    for (size_t i = 0; i < change->config_count; i++) {
        if (mly_str_equal(change->config[i].key, key)) return true;
    }
    return false;
}

/* Says that this version is ours: its own number, which others carry along and so make wrong. */
static enum mly_err make_own_pair(struct lance_commit *commit, MlyPb__Pair **out,
                                  struct mly_error *err)
{
    MlyPb__Pair *pair = mly_arena_array(&commit->arena, 1, sizeof(*pair));
    if (pair == NULL) return mly_fail_nomem(err, sizeof(*pair));
    mly_pb__pair__init(pair);
    (void)snprintf(commit->own_version, sizeof(commit->own_version), "%" PRIu64,
                   commit->read_version + 1);
    pair->has_key = true;
    pair->key = lance_pb_data(MLY_STR(MLY_LANCE_OWN_KEY));
    pair->has_value = true;
    pair->value = lance_pb_data(mly_str_of(commit->own_version));
    *out = pair;
    return MLY_OK;
}

static enum mly_err merge_config(struct lance_commit *commit, MlyPb__Manifest *manifest,
                                 struct mly_error *err)
{
    MlyPb__Pair **changed;
    size_t changed_count;
    MLY_TRY(make_pairs(commit, &changed, &changed_count, false, err));
    size_t old_count = commit->base == NULL ? 0 : commit->base->pb->n_config;
    MlyPb__Pair **list =
        mly_arena_array(&commit->arena, old_count + changed_count + 1, sizeof(list[0]));
    if (list == NULL) return mly_fail_nomem(err, old_count * sizeof(list[0]));
    size_t count = 0;
    for (size_t i = 0; i < old_count; i++) {
        MlyPb__Pair *pair = commit->base->pb->config[i];
        if (!is_changed_key(commit->change, lance_pb_str(pair->key))) list[count++] = pair;
    }
    for (size_t i = 0; i < changed_count; i++) {
        list[count++] = changed[i];
    }
    MLY_TRY(make_own_pair(commit, &list[count++], err));
    manifest->config = list;
    manifest->n_config = count;
    return MLY_OK;
}

static void merge_flags(MlyPb__Manifest *manifest)
{
    uint64_t deletions = 0;
    for (size_t i = 0; i < manifest->n_fragments; i++) {
        if (manifest->fragments[i]->deletion_file != NULL) deletions = LANCE_FLAG_DELETIONS;
    }
    uint64_t config = LANCE_FLAG_CONFIG; /* our own number is always there */
    uint64_t ours = LANCE_FLAG_DELETIONS | LANCE_FLAG_CONFIG;
    manifest->reader_flags = (manifest->reader_flags & ~LANCE_FLAG_DELETIONS) | deletions;
    manifest->writer_flags = (manifest->writer_flags & ~ours) | deletions | config;
    manifest->has_reader_flags = manifest->reader_flags != 0;
    manifest->has_writer_flags = manifest->writer_flags != 0;
}

static enum mly_err put_names(struct lance_commit *commit, MlyPb__Manifest *manifest,
                              MlyPb__Timestamp *now, struct mly_error *err)
{
    MlyPb__NamedVersion *names = mly_arena_array(&commit->arena, 2, sizeof(names[0]));
    if (names == NULL) return mly_fail_nomem(err, 2 * sizeof(names[0]));
    for (size_t i = 0; i < 2; i++) {
        mly_pb__named_version__init(&names[i]);
        names[i].has_name = true;
        names[i].has_version = true;
        names[i].name = lance_pb_data(i == 0 ? MLY_STR(WRITER_NAME) : MLY_STR(FORMAT_NAME));
        names[i].version =
            lance_pb_data(i == 0 ? MLY_STR(WRITER_VERSION) : MLY_STR(FORMAT_VERSION));
    }
    manifest->writer = &names[0];
    if (manifest->data_format == NULL) manifest->data_format = &names[1];
    int64_t now_us = mly_clock_wall_us(commit->table->env);
    mly_pb__timestamp__init(now);
    now->has_seconds = true;
    now->seconds = now_us / 1000000;
    now->has_nanos = true;
    now->nanos = (int32_t)(now_us % 1000000) * 1000;
    manifest->timestamp = now;
    return MLY_OK;
}

static enum mly_err append_section(const void *data, size_t bytes, struct mly_bytes *out,
                                   struct mly_error *err)
{
    MLY_TRY(mly_bytes_append_u32le(out, (uint32_t)bytes, err));
    return mly_bytes_append(out, data, bytes, err);
}

enum mly_err mly_lance_make_manifest(struct lance_commit *commit, struct mly_bytes *out,
                                     struct mly_error *err)
{
    MlyPb__Manifest manifest = MLY_PB__MANIFEST__INIT;
    MlyPb__Timestamp now;
    /* A copy of the old one's top: packing only reads, and every list that changes is replaced. */
    if (commit->base != NULL) manifest = *commit->base->pb;
    if (commit->base == NULL) {
        manifest.fields = commit->fields;
        manifest.n_fields = commit->change->field_count;
    }
    manifest.has_version = true;
    manifest.version = commit->read_version + 1;
    manifest.has_tag = false;
    manifest.has_transaction_file = true;
    manifest.transaction_file = lance_pb_data(mly_str_of(commit->txn_name));
    manifest.has_transaction_section_14 = false;
    MLY_TRY(merge_fragments(commit, &manifest, err));
    MLY_TRY(merge_config(commit, &manifest, err));
    merge_flags(&manifest);
    MLY_TRY(put_names(commit, &manifest, &now, err));
    manifest.has_transaction_section = true;
    manifest.transaction_section = out->bytes;
    MLY_TRY(append_section(commit->txn.data, commit->txn.bytes, out, err));
    if (commit->index != NULL) {
        manifest.has_index_section = true;
        manifest.index_section = out->bytes;
        MLY_TRY(append_section(commit->section.data, commit->section.bytes, out, err));
    } else if (manifest.has_index_section) {
        manifest.index_section = out->bytes;
        MLY_TRY(append_section(commit->base->index_section, commit->base->index_section_bytes, out,
                               err));
    }
    uint64_t position = out->bytes;
    MLY_TRY(mly_lance_pack_section(&manifest.base, out, err));
    MLY_TRY(mly_bytes_append_u64le(out, position, err));
    /* u16 0, u16 2: the manifest's own format version. */
    MLY_TRY(mly_bytes_append_u32le(out, 2u << 16, err));
    return mly_bytes_append(out, "LANC", 4, err);
}
