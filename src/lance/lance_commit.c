/* A new version: deletion files and transaction are written and synced, then the manifest, whose
 * link to its final name is the moment of the commit: of two writers one gets EEXIST. Everything
 * that the manifest names is durable before that (FORMAT.md, order of syncs). */
#include "lance/lance_commit_int.h"

#include "base/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define HINT_NAME "latest_version_hint.json"

static enum mly_err check_change(const struct mly_lance_manifest *base,
                                 const struct mly_lance_change *change, struct mly_error *err)
{
    if ((base == NULL) != (change->fields != NULL)) {
        return mly_fail(err, MLY_ERR_INVAL, "fields are given at creation and only there");
    }
    for (size_t i = 0; i < change->config_count; i++) {
        struct mly_str key = change->config[i].key;
        if (key.data == NULL) {
            return mly_fail(err, MLY_ERR_INVAL, "configuration %zu has no key", i);
        }
        if (mly_str_equal(key, MLY_STR(MLY_LANCE_OWN_KEY))) {
            return mly_fail(err, MLY_ERR_INVAL, "%s is set by every commit itself",
                            MLY_LANCE_OWN_KEY);
        }
    }
    if (base == NULL) {
        if (change->deletion_count > 0 || change->index != NULL) {
            return mly_fail(err, MLY_ERR_INVAL, "a new table has nothing to delete or to index");
        }
        for (size_t i = 0; i < change->field_count; i++) {
            if (change->fields[i].id == (int32_t)i) continue;
            return mly_fail(err, MLY_ERR_INVAL, "field %zu of a new table has id %d", i,
                            (int)change->fields[i].id);
        }
        return mly_lance_check_fields(change->fields, change->field_count, err);
    }
    if (change->file_count + change->deletion_count + change->config_count == 0 &&
        change->index == NULL) {
        return mly_fail(err, MLY_ERR_INVAL, "there is nothing to commit");
    }
    if (change->index != NULL && change->file_count + change->deletion_count > 0) {
        return mly_fail(err, MLY_ERR_INVAL, "an index comes without rows");
    }
    uint64_t unknown = base->pb->writer_flags & ~LANCE_FLAGS_KNOWN;
    if (unknown != 0) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "writing the table needs features %#" PRIx64 ", which are not supported",
                        unknown);
    }
    struct mly_str format = base->pb->data_format == NULL
                                ? MLY_STR("of another kind")
                                : lance_pb_str(base->pb->data_format->version);
    if ((change->file_count > 0 || change->index != NULL) &&
        !mly_str_equal(format, MLY_STR("2.0"))) {
        return mly_fail(err, MLY_ERR_UNSUPPORTED,
                        "the table's data files are %.*s, only 2.0 can be added to",
                        MLY_SHOWN(format, 32));
    }
    return MLY_OK;
}

/* Rows of the file have null where it lacks a field: every other field must take that. */
static enum mly_err check_file_fields(const struct lance_commit *commit,
                                      const struct mly_lance_data_file *file, struct mly_error *err)
{
    const struct mly_lance_manifest *base = commit->base;
    const struct mly_lance_field *fields = base == NULL ? commit->change->fields : base->fields;
    size_t field_count = base == NULL ? commit->change->field_count : base->field_count;
    size_t known = 0;
    for (size_t i = 0; i < field_count; i++) {
        bool found = false;
        for (size_t j = 0; j < file->field_count && !found; j++) {
            found = file->field_ids[j] == fields[i].id;
        }
        known += found;
        if (!found && !fields[i].nullable) {
            return mly_fail(err, MLY_ERR_INVAL, "column %.*s takes no null and %s lacks it",
                            MLY_SHOWN(fields[i].name, 100), file->name);
        }
    }
    if (known != file->field_count) {
        return mly_fail(err, MLY_ERR_INVAL, "%s has %zu columns that the table does not have",
                        file->name, file->field_count - known);
    }
    return MLY_OK;
}

static enum mly_err make_fragment(struct lance_commit *commit,
                                  const struct mly_lance_data_file *file, uint64_t id, size_t i,
                                  struct mly_error *err)
{
    struct parts {
        MlyPb__Fragment with_id, without_id;
        MlyPb__DataFile file;
        MlyPb__DataFile *files[1];
    } *parts = mly_arena_array(&commit->arena, 1, sizeof(*parts));
    int32_t *columns = mly_arena_array(&commit->arena, file->field_count, sizeof(columns[0]));
    if (parts == NULL || columns == NULL) return mly_fail_nomem(err, sizeof(*parts));
    for (size_t j = 0; j < file->field_count; j++) {
        columns[j] = (int32_t)j;
    }
    parts->files[0] = &parts->file;
    mly_pb__data_file__init(&parts->file);
    parts->file.has_path = true;
    parts->file.path = lance_pb_data(mly_str_of(file->name));
    parts->file.field_ids = file->field_ids;
    parts->file.n_field_ids = file->field_count;
    parts->file.column_indices = columns;
    parts->file.n_column_indices = file->field_count;
    parts->file.has_major = true;
    parts->file.major = 2; /* minor 0 is left out */
    parts->file.has_file_bytes = true;
    parts->file.file_bytes = file->file_bytes;
    mly_pb__fragment__init(&parts->without_id);
    parts->without_id.files = parts->files;
    parts->without_id.n_files = 1;
    parts->without_id.has_row_count = true;
    parts->without_id.row_count = file->row_count;
    parts->with_id = parts->without_id;
    parts->with_id.has_id = id != 0;
    parts->with_id.id = id;
    commit->added[i] = &parts->with_id;
    commit->added_without_ids[i] = &parts->without_id;
    return MLY_OK;
}

static enum mly_err make_added(struct lance_commit *commit, struct mly_error *err)
{
    const struct mly_lance_change *change = commit->change;
    uint64_t next_id = 0;
    if (commit->base != NULL) {
        const struct mly_lance_manifest *base = commit->base;
        size_t count = base->pb->n_fragments;
        if (base->pb->has_fragment_id_max) next_id = (uint64_t)base->pb->fragment_id_max + 1;
        /* A manifest that says less than it holds would make an id live twice. */
        if (count > 0 && base->order[count - 1].id >= next_id) {
            next_id = base->order[count - 1].id + 1;
        }
    }
    if (next_id + change->file_count > UINT32_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "fragment %" PRIu64 ", limit is %u",
                        next_id + change->file_count, UINT32_MAX);
    }
    commit->added = mly_arena_array(&commit->arena, change->file_count, sizeof(commit->added[0]));
    commit->added_without_ids =
        mly_arena_array(&commit->arena, change->file_count, sizeof(commit->added[0]));
    if (commit->added == NULL || commit->added_without_ids == NULL) {
        return mly_fail_nomem(err, change->file_count * sizeof(commit->added[0]));
    }
    for (size_t i = 0; i < change->file_count; i++) {
        MLY_TRY(check_file_fields(commit, &change->files[i], err));
        MLY_TRY(make_fragment(commit, &change->files[i], next_id + i, i, err));
    }
    commit->added_count = change->file_count;
    return MLY_OK;
}

/* Writes the set's file and describes it in the fragment. */
static enum mly_err write_deletions(struct lance_commit *commit, MlyPb__Fragment *fragment,
                                    const struct mly_lance_deletions *set, struct mly_error *err)
{
    MlyPb__DeletionFile *file = mly_arena_array(&commit->arena, 1, sizeof(*file));
    if (file == NULL) return mly_fail_nomem(err, sizeof(*file));
    mly_pb__deletion_file__init(file);
    MLY_TRY(mly_lance_deletion_id(commit->table, &file->id, err));
    file->has_type = true;
    file->type = LANCE_DELETION_BITMAP;
    file->has_read_version = true;
    file->read_version = commit->read_version;
    file->has_id = true;
    file->has_deleted_count = true;
    file->deleted_count = set->deleted_count;
    struct mly_bytes bytes;
    mly_bytes_init(&bytes, commit->table->env->mem, MLY_META_BYTES_MAX);
    char *name = commit->deletion_names[commit->deletion_name_count];
    mly_lance_deletion_name(fragment->id, file, name);
    enum mly_err rc = mly_lance_roaring_write(set, &bytes, err);
    if (rc == MLY_OK) {
        rc = mly_lance_write_file(commit->table, "_deletions", name, bytes.data, bytes.bytes, err);
    }
    if (rc == MLY_OK) mly_lance_sums_make(commit->table, name, bytes.data, bytes.bytes);
    mly_bytes_deinit(&bytes);
    if (rc != MLY_OK) return rc;
    commit->deletion_name_count++;
    fragment->deletion_file = file;
    return MLY_OK;
}

static enum mly_err make_deletion(struct lance_commit *commit,
                                  const struct mly_lance_deletion_change *deletion,
                                  struct mly_error *err)
{
    const struct mly_lance_deletions *set = deletion->set;
    size_t fragment_i = mly_lance_manifest_find_fragment(commit->base, deletion->fragment_id);
    if (fragment_i == SIZE_MAX) {
        return mly_fail(err, MLY_ERR_INVAL, "there is no fragment %" PRIu64, deletion->fragment_id);
    }
    struct mly_lance_fragment_info info;
    mly_lance_manifest_get_fragment(commit->base, fragment_i, &info);
    if (set->row_count != info.row_count || set->deleted_count <= info.deleted_count) {
        return mly_fail(err, MLY_ERR_INVAL,
                        "fragment %" PRIu64 " has %" PRIu64 " rows, %" PRIu64
                        " of them deleted; a set of %" PRIu64 " of %" PRIu64 " adds nothing",
                        info.id, info.row_count, info.deleted_count, set->deleted_count,
                        set->row_count);
    }
    if (set->deleted_count == set->row_count) {
        commit->removed[commit->removed_count++] = info.id;
        return MLY_OK;
    }
    MlyPb__Fragment *fragment = mly_arena_array(&commit->arena, 1, sizeof(*fragment));
    if (fragment == NULL) return mly_fail_nomem(err, sizeof(*fragment));
    *fragment = *commit->base->pb->fragments[fragment_i];
    MLY_TRY(write_deletions(commit, fragment, set, err));
    commit->updated[commit->updated_count++] = fragment;
    return MLY_OK;
}

static enum mly_err make_deletions(struct lance_commit *commit, struct mly_error *err)
{
    size_t count = commit->change->deletion_count;
    commit->updated = mly_arena_array(&commit->arena, count, sizeof(commit->updated[0]));
    commit->removed = mly_arena_array(&commit->arena, count, sizeof(commit->removed[0]));
    commit->deletion_names =
        mly_arena_array(&commit->arena, count, sizeof(commit->deletion_names[0]));
    if (commit->updated == NULL || commit->removed == NULL || commit->deletion_names == NULL) {
        return mly_fail_nomem(err, count * sizeof(commit->deletion_names[0]));
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (commit->change->deletions[i].fragment_id !=
                commit->change->deletions[j].fragment_id) {
                continue;
            }
            return mly_fail(err, MLY_ERR_INVAL, "deletions of fragment %" PRIu64 " are given twice",
                            commit->change->deletions[i].fragment_id);
        }
        MLY_TRY(make_deletion(commit, &commit->change->deletions[i], err));
    }
    return MLY_OK;
}

static enum mly_err sync_folder(const struct lance_commit *commit, const char *folder,
                                struct mly_error *err)
{
    struct lance_path path;
    mly_lance_path(commit->table, folder, NULL, &path);
    return mly_dir_sync(commit->table->env, MLY_AT_CWD, path.text, err);
}

/* All that the manifest will name: written, synced, and its names too. */
static enum mly_err prepare(struct lance_commit *commit, struct mly_error *err)
{
    const struct mly_lance_change *change = commit->change;
    MLY_TRY(mly_lance_need_folder(commit->table, "_transactions", err));
    if (change->deletion_count > 0) {
        MLY_TRY(mly_lance_need_folder(commit->table, "_deletions", err));
    }
    if (commit->base == NULL) {
        MLY_TRY(mly_lance_fields_to_pb(change->fields, change->field_count, &commit->arena,
                                       &commit->fields, err));
    }
    MLY_TRY(make_added(commit, err));
    if (commit->base != NULL) MLY_TRY(make_deletions(commit, err));
    if (change->index != NULL) MLY_TRY(mly_lance_make_index(commit, err));
    MLY_TRY(mly_lance_make_transaction(commit, err));
    if (commit->added_count > 0) MLY_TRY(sync_folder(commit, "data", err));
    if (commit->index != NULL) {
        char folder[LANCE_INDEX_FOLDER_BYTES];
        mly_lance_index_folder(change->index->index->uuid, folder);
        MLY_TRY(sync_folder(commit, folder, err));
    }
    if (commit->deletion_name_count > 0) MLY_TRY(sync_folder(commit, "_deletions", err));
    MLY_TRY(mly_lance_write_file(commit->table, "_transactions", commit->txn_name, commit->txn.data,
                                 commit->txn.bytes, err));
    commit->has_txn_file = true;
    return sync_folder(commit, "_transactions", err);
}

/* A commit that failed leaves nothing that it alone knows of. */
static void take_back(const struct lance_commit *commit)
{
    for (size_t i = 0; i < commit->deletion_name_count; i++) {
        mly_lance_unlink(commit->table, "_deletions", commit->deletion_names[i]);
        mly_lance_sums_forget(commit->table, commit->deletion_names[i]);
    }
    if (commit->has_txn_file) {
        mly_lance_unlink(commit->table, "_transactions", commit->txn_name);
    }
}

/* For readers that trust it; wrong or missing it does no harm, so failing is not told. */
static void write_hint(const struct lance_commit *commit)
{
    char temp_name[LANCE_TEMP_NAME_BYTES], text[48];
    struct lance_path temp, path;
    struct mly_file file = MLY_FILE_CLOSED;
    struct mly_error ignored;
    const struct mly_env *env = commit->table->env;
    int bytes = snprintf(text, sizeof(text), "{\"version\":%" PRIu64 "}", commit->read_version + 1);
    if (mly_lance_temp_name(commit->table, temp_name, &ignored) != MLY_OK) return;
    mly_lance_path(commit->table, "_versions", temp_name, &temp);
    mly_lance_path(commit->table, "_versions", HINT_NAME, &path);
    if (mly_file_open(env, MLY_AT_CWD, temp.text, MLY_OPEN_WRITE | MLY_OPEN_CREATE | MLY_OPEN_EXCL,
                      &file, &ignored) != MLY_OK) {
        return;
    }
    enum mly_err rc = mly_file_write(&file, text, (size_t)bytes, 0, &ignored);
    mly_file_close(&file);
    if (rc == MLY_OK) rc = mly_file_rename(env, MLY_AT_CWD, temp.text, path.text, &ignored);
    if (rc != MLY_OK) mly_lance_unlink(commit->table, "_versions", temp_name);
}

/* Writes and syncs the manifest under a temporary name, then links it. */
static enum mly_err link_manifest(const struct lance_commit *commit, const struct mly_bytes *bytes,
                                  struct mly_lance_manifest *manifest, bool *visible,
                                  struct mly_error *err)
{
    const struct mly_env *env = commit->table->env;
    char temp_name[LANCE_TEMP_NAME_BYTES], name[LANCE_VERSION_NAME_BYTES];
    struct lance_path temp, path;
    manifest->naming = commit->base == NULL ? LANCE_NAMING_V2 : commit->base->naming;
    mly_lance_version_name(commit->read_version + 1, manifest->naming, name);
    MLY_TRY(mly_lance_temp_name(commit->table, temp_name, err));
    mly_lance_path(commit->table, "_versions", temp_name, &temp);
    mly_lance_path(commit->table, "_versions", name, &path);
    MLY_TRY(mly_file_create(env, MLY_AT_CWD, temp.text, bytes->data, bytes->bytes, err));
    enum mly_err rc = mly_file_info_at(env, MLY_AT_CWD, temp.text, false, &manifest->info, err);
    if (rc == MLY_OK) rc = mly_file_link(env, MLY_AT_CWD, temp.text, path.text, err);
    *visible = rc == MLY_OK;
    mly_lance_unlink(commit->table, "_versions", temp_name);
    if (rc != MLY_OK) return rc;
    /* Those of a table that lay here before must not be taken for this one's. */
    if (commit->base == NULL) mly_lance_sums_clear(commit->table);
    mly_lance_sums_make(commit->table, name, bytes->data, bytes->bytes);
    return sync_folder(commit, "_versions", err);
}

static enum mly_err run(struct lance_commit *commit, struct mly_lance_manifest **out, bool *visible,
                        struct mly_error *err)
{
    struct mly_mem *mem = commit->table->env->mem;
    struct mly_lance_manifest *manifest = NULL;
    struct mly_bytes bytes;
    mly_bytes_init(&bytes, mem, MLY_META_BYTES_MAX);
    enum mly_err rc = prepare(commit, err);
    if (rc != MLY_OK) goto done;
    rc = mly_lance_make_manifest(commit, &bytes, err);
    if (rc != MLY_OK) goto done;
    /* Read back before it counts: nothing that can fail may come between link and answer. */
    rc = mly_lance_manifest_parse(mem, bytes.data, bytes.bytes, "the new manifest", &manifest, err);
    if (rc != MLY_OK) goto done;
    rc = link_manifest(commit, &bytes, manifest, visible, err);
    if (*visible) write_hint(commit);
    if (rc == MLY_OK && out != NULL) {
        *out = manifest;
        manifest = NULL;
    }
done:
    if (!*visible) take_back(commit);
    mly_lance_manifest_destroy(manifest);
    mly_bytes_deinit(&bytes);
    return rc;
}

enum mly_err mly_lance_commit(const struct mly_lance_table *table,
                              const struct mly_lance_manifest *base,
                              const struct mly_lance_change *change,
                              struct mly_lance_manifest **out, bool *visible, struct mly_error *err)
{
    bool own_visible;
    if (visible == NULL) visible = &own_visible;
    *visible = false;
    enum mly_err rc = check_change(base, change, err);
    if (rc != MLY_OK) return mly_fail_in(err, rc, "table %s", table->path);
    struct lance_commit commit = {
        .table = table,
        .base = base,
        .change = change,
        .read_version = base == NULL ? 0 : base->pb->version,
    };
    mly_arena_init(&commit.arena, table->env->mem, LANCE_UNPACK_BYTES_MAX);
    mly_bytes_init(&commit.txn, table->env->mem, MLY_META_BYTES_MAX);
    mly_bytes_init(&commit.section, table->env->mem, MLY_META_BYTES_MAX);
    rc = run(&commit, out, visible, err);
    if (commit.old_section != NULL) {
        mly_lance_unpacked_free(table->env->mem, &commit.old_section->base);
    }
    mly_bytes_deinit(&commit.section);
    mly_bytes_deinit(&commit.txn);
    mly_arena_deinit(&commit.arena);
    if (rc == MLY_ERR_CONFLICT) {
        return mly_fail(err, rc, "table %s has a version %" PRIu64 " from another writer by now",
                        table->path, commit.read_version + 1);
    }
    return rc;
}
