/* What is no longer needed goes: old versions of ours, then the files that no version left names.
 * In: the table's folders as they are listed, its manifests and tags. What stays in doubt stays on
 * disk: a file too many does no harm, one too few does. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Another program that holds an older version needs all later ones to catch up: where one is
 * missing it takes back what that version deleted, and says nothing. */
#define FOREIGN_GRACE_US ((int64_t)3600 * 1000000)
/* A tag's file is some 100 bytes of JSON. */
#define TAG_BYTES_MAX ((size_t)64 << 10)

/* A list that grows in memory. */
struct list {
    struct mly_bytes bytes;
    size_t count;
};

struct version {
    uint64_t number;
    enum lance_naming naming;
};

/* A file of ours that goes unless a version names it. */
struct candidate {
    char name[LANCE_DELETION_NAME_BYTES];
    enum lance_name_kind kind;
    bool stays;
};

struct cleaner {
    const struct mly_lance_table *table;
    const struct mly_lance_keep *keep;
    struct mly_lance_cleaned report;
    struct list versions;   /* struct version, newest first */
    struct list tagged;     /* uint64_t */
    struct list candidates; /* struct candidate, by name */
    size_t open_count;      /* candidates that do not stay so far */
    bool has_strangers;     /* manifests that are no versions */
};

static struct version *versions(const struct cleaner *cleaner)
{
    return (struct version *)(void *)cleaner->versions.bytes.data;
}

static struct candidate *candidates(const struct cleaner *cleaner)
{
    return (struct candidate *)(void *)cleaner->candidates.bytes.data;
}

static enum mly_err append(struct list *list, const void *item, size_t bytes, struct mly_error *err)
{
    MLY_TRY(mly_bytes_append(&list->bytes, item, bytes, err));
    list->count++;
    return MLY_OK;
}

static void clear(struct list *list)
{
    list->bytes.bytes = 0;
    list->count = 0;
}

/* ---- removing ---- */

static enum mly_err remove_file(struct cleaner *cleaner, const char *folder, const char *name,
                                uint64_t *count, struct mly_error *err)
{
    struct lance_path path;
    struct mly_file_info info;
    const struct mly_env *env = cleaner->table->env;
    mly_lance_path(cleaner->table, folder, name, &path);
    enum mly_err rc = mly_file_info_at(env, MLY_AT_CWD, path.text, false, &info, err);
    if (rc == MLY_ERR_NOTFOUND) return MLY_OK;
    if (rc != MLY_OK) return rc;
    MLY_TRY(mly_file_unlink(env, MLY_AT_CWD, path.text, err));
    (*count)++;
    cleaner->report.bytes += info.bytes;
    return MLY_OK;
}

/* ---- listing ---- */

static enum mly_err take_version(void *context, const char *folder, const char *name,
                                 struct mly_error *err)
{
    struct cleaner *cleaner = context;
    static const char suffix[] = ".manifest";
    struct version version;
    size_t bytes = strlen(name);
    (void)folder;
    if (mly_lance_parse_version_name(name, &version.number, &version.naming)) {
        return append(&cleaner->versions, &version, sizeof(version), err);
    }
    /* Detached versions: they are in nobody's order, and may name any file. */
    if (bytes >= sizeof(suffix) && strcmp(name + bytes - (sizeof(suffix) - 1), suffix) == 0) {
        cleaner->has_strangers = true;
    }
    return MLY_OK;
}

static int compare_versions(const void *a, const void *b)
{
    const struct version *x = a;
    const struct version *y = b;
    return (x->number < y->number) - (x->number > y->number);
}

static enum mly_err list_versions(struct cleaner *cleaner, struct mly_error *err)
{
    clear(&cleaner->versions);
    MLY_TRY(mly_lance_each_name(cleaner->table, "_versions", take_version, cleaner, err));
    if (cleaner->versions.count > 0) {
        qsort(cleaner->versions.bytes.data, cleaner->versions.count, sizeof(struct version),
              compare_versions);
    }
    return MLY_OK;
}

/* The number behind "version": in a tag's JSON; 0 where there is none. */
static uint64_t find_tagged_version(struct mly_bytes *text)
{
    static const char key[] = "\"version\"";
    if (text->bytes < sizeof(key)) return 0;
    for (size_t i = 0; i + sizeof(key) - 1 <= text->bytes; i++) {
        if (memcmp(text->data + i, key, sizeof(key) - 1) != 0) continue;
        uint64_t value = 0;
        size_t at = i + sizeof(key) - 1;
        while (at < text->bytes && strchr(" \t\r\n:", text->data[at]) != NULL) {
            at++;
        }
        for (; at < text->bytes && text->data[at] >= '0' && text->data[at] <= '9'; at++) {
            if (value > UINT64_MAX / 10 - 1) return 0;
            value = value * 10 + (uint64_t)(text->data[at] - '0');
        }
        return value;
    }
    return 0;
}

static enum mly_err take_tag(void *context, const char *folder, const char *name,
                             struct mly_error *err)
{
    struct cleaner *cleaner = context;
    struct lance_path path;
    struct mly_file_info info;
    struct mly_bytes bytes;
    struct mly_error own;
    mly_lance_path(cleaner->table, folder, name, &path);
    mly_bytes_init(&bytes, cleaner->table->env->mem, TAG_BYTES_MAX);
    enum mly_err rc = mly_lance_read_file(cleaner->table->env, path.text, &bytes, &info, &own);
    uint64_t version = rc == MLY_OK ? find_tagged_version(&bytes) : 0;
    mly_bytes_deinit(&bytes);
    if (rc == MLY_ERR_NOMEM) return mly_fail_nomem(err, TAG_BYTES_MAX);
    if (version == 0) cleaner->report.is_frozen = true; /* It may name any version. */
    return append(&cleaner->tagged, &version, sizeof(version), err);
}

/* Branches live in tree/ and share the files of data/. */
static enum mly_err take_branch(void *context, const char *folder, const char *name,
                                struct mly_error *err)
{
    struct cleaner *cleaner = context;
    (void)folder;
    (void)name;
    (void)err;
    cleaner->report.is_frozen = true;
    return MLY_OK;
}

static bool is_tagged(const struct cleaner *cleaner, uint64_t version)
{
    for (size_t i = 0; i < cleaner->tagged.count; i++) {
        uint64_t tagged;
        memcpy(&tagged, cleaner->tagged.bytes.data + i * sizeof(tagged), sizeof(tagged));
        if (tagged == version) return true;
    }
    return false;
}

static enum mly_err remove_temporary(void *context, const char *folder, const char *name,
                                     struct mly_error *err)
{
    struct cleaner *cleaner = context;
    if (mly_lance_name_kind(name) != LANCE_NAME_TEMPORARY) return MLY_OK;
    return remove_file(cleaner, folder, name, &cleaner->report.temporary_files, err);
}

/* ---- versions ---- */

/* *out is NULL where the version is gone or cannot be read; what cannot be read freezes. */
static enum mly_err load(struct cleaner *cleaner, const struct version *version,
                         struct mly_lance_manifest **out, struct mly_error *err)
{
    *out = NULL;
    enum mly_err rc =
        mly_lance_load_version(cleaner->table, version->number, version->naming, out, err);
    if (rc == MLY_ERR_CORRUPT || rc == MLY_ERR_UNSUPPORTED) {
        cleaner->report.is_frozen = true;
        return MLY_OK;
    }
    return rc == MLY_ERR_NOTFOUND ? MLY_OK : rc;
}

static bool is_recent(const struct cleaner *cleaner, const struct mly_lance_manifest *manifest)
{
    const MlyPb__Timestamp *time = manifest->pb->timestamp;
    if (time == NULL || time->seconds < 0 || time->seconds > INT64_MAX / 2000000) return true;
    return mly_clock_wall_us(cleaner->table->env) - time->seconds * 1000000 < FOREIGN_GRACE_US;
}

enum { GOES = 1, GOES_WHEN_OLD = 2 };

/* Sets goes[i] for version i, whose index counts from the newest. */
static enum mly_err choose_versions(struct cleaner *cleaner, uint8_t *goes, struct mly_error *err)
{
    bool has_foreign = false;
    for (size_t i = 0; i < cleaner->versions.count; i++) {
        const struct version *version = &versions(cleaner)[i];
        struct mly_lance_manifest *manifest;
        MLY_TRY(load(cleaner, version, &manifest, err));
        if (manifest == NULL) continue;
        bool is_ours = mly_lance_manifest_is_ours(manifest);
        has_foreign |= !is_ours;
        if (is_ours && i >= cleaner->keep->versions && !is_tagged(cleaner, version->number)) {
            goes[i] = is_recent(cleaner, manifest) ? GOES_WHEN_OLD : GOES;
        }
        mly_lance_manifest_destroy(manifest);
    }
    for (size_t i = 0; i < cleaner->versions.count; i++) {
        if (goes[i] == GOES_WHEN_OLD && has_foreign) goes[i] = 0;
    }
    return MLY_OK;
}

static enum mly_err remove_versions(struct cleaner *cleaner, struct mly_error *err)
{
    struct lance_path path;
    size_t count = cleaner->versions.count;
    if (count <= cleaner->keep->versions) return MLY_OK;
    uint8_t *goes = mly_mem_array(cleaner->table->env->mem, count, 1);
    if (goes == NULL) return mly_fail_nomem(err, count);
    enum mly_err rc = choose_versions(cleaner, goes, err);
    /* The oldest first: what is left when this is interrupted has no hole. */
    for (size_t i = count; i-- > 0 && rc == MLY_OK && !cleaner->report.is_frozen;) {
        char name[LANCE_VERSION_NAME_BYTES];
        if (goes[i] == 0) continue;
        mly_lance_version_name(versions(cleaner)[i].number, versions(cleaner)[i].naming, name);
        rc = remove_file(cleaner, "_versions", name, &cleaner->report.versions, err);
    }
    mly_mem_free(cleaner->table->env->mem, goes);
    if (rc != MLY_OK || cleaner->report.versions == 0) return rc;
    mly_lance_path(cleaner->table, "_versions", NULL, &path);
    return mly_dir_sync(cleaner->table->env, MLY_AT_CWD, path.text, err);
}

/* ---- files ---- */

static enum mly_err take_candidate(void *context, const char *folder, const char *name,
                                   struct mly_error *err)
{
    struct cleaner *cleaner = context;
    struct candidate candidate = {.kind = mly_lance_name_kind(name)};
    const bool is_index = candidate.kind == LANCE_NAME_INDEX;
    /* Not those of others, nor temporary ones, which are gone by now. Ours are short. */
    if (candidate.kind < LANCE_NAME_DATA) return MLY_OK;
    if (is_index != (strcmp(folder, LANCE_INDICES_FOLDER) == 0)) return MLY_OK;
    (void)snprintf(candidate.name, sizeof(candidate.name), "%s", name);
    return append(&cleaner->candidates, &candidate, sizeof(candidate), err);
}

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a;
    const struct candidate *y = b;
    return strcmp(x->name, y->name);
}

static void mark(struct cleaner *cleaner, struct mly_str name)
{
    struct candidate key;
    if (name.bytes >= sizeof(key.name)) return;
    memcpy(key.name, name.data, name.bytes);
    key.name[name.bytes] = '\0';
    struct candidate *found = bsearch(&key, cleaner->candidates.bytes.data,
                                      cleaner->candidates.count, sizeof(key), compare_candidates);
    if (found == NULL || found->stays) return;
    found->stays = true;
    cleaner->open_count--;
}

static void mark_manifest(struct cleaner *cleaner, const struct mly_lance_manifest *manifest)
{
    const MlyPb__Manifest *pb = manifest->pb;
    mark(cleaner, lance_pb_str(pb->transaction_file));
    for (size_t i = 0; i < pb->n_fragments; i++) {
        const MlyPb__Fragment *fragment = pb->fragments[i];
        for (size_t j = 0; j < fragment->n_files; j++) {
            mark(cleaner, lance_pb_str(fragment->files[j]->path));
        }
        if (fragment->deletion_file != NULL) {
            char name[LANCE_DELETION_NAME_BYTES];
            mly_lance_deletion_name(fragment->id, fragment->deletion_file, name);
            mark(cleaner, mly_str_of(name));
        }
    }
}

static void mark_index(void *context, const char *uuid)
{
    mark(context, mly_str_of(uuid));
}

/* Marks what the manifest names; indices that cannot be read freeze. */
static enum mly_err mark_version(struct cleaner *cleaner, const struct mly_lance_manifest *manifest,
                                 struct mly_error *err)
{
    struct mly_error own;
    mark_manifest(cleaner, manifest);
    if (!cleaner->keep->indices) return MLY_OK;
    enum mly_err rc = mly_lance_each_index(manifest, mark_index, cleaner, &own);
    if (rc == MLY_ERR_NOMEM) return mly_fail(err, rc, "%s", own.message);
    if (rc != MLY_OK) cleaner->report.is_frozen = true;
    return MLY_OK;
}

/* Files of ours that the newest version does not name are few, and mostly none: only for them are
 * the older versions read. */
static enum mly_err mark_all(struct cleaner *cleaner, struct mly_error *err)
{
    for (size_t i = 0; i < cleaner->keep->file_count; i++) {
        mark(cleaner, mly_str_of(cleaner->keep->files[i]));
    }
    for (size_t i = 0; i < cleaner->versions.count; i++) {
        struct mly_lance_manifest *manifest;
        if (cleaner->open_count == 0 || cleaner->report.is_frozen) break;
        MLY_TRY(load(cleaner, &versions(cleaner)[i], &manifest, err));
        enum mly_err rc = manifest == NULL ? MLY_OK : mark_version(cleaner, manifest, err);
        mly_lance_manifest_destroy(manifest);
        if (rc != MLY_OK) return rc;
    }
    return MLY_OK;
}

static enum mly_err remove_in_index(void *context, const char *folder, const char *name,
                                    struct mly_error *err)
{
    struct cleaner *cleaner = context;
    return remove_file(cleaner, folder, name, &cleaner->report.index_files, err);
}

/* An index is a folder. */
static enum mly_err remove_index(struct cleaner *cleaner, const char *uuid, struct mly_error *err)
{
    struct lance_path path;
    char folder[LANCE_INDEX_FOLDER_BYTES];
    (void)snprintf(folder, sizeof(folder), LANCE_INDICES_FOLDER "/%.36s", uuid);
    MLY_TRY(mly_lance_each_name(cleaner->table, folder, remove_in_index, cleaner, err));
    mly_lance_path(cleaner->table, folder, NULL, &path);
    return mly_dir_remove(cleaner->table->env, MLY_AT_CWD, path.text, err);
}

static enum mly_err remove_candidate(struct cleaner *cleaner, const struct candidate *candidate,
                                     struct mly_error *err)
{
    struct mly_lance_cleaned *report = &cleaner->report;
    switch (candidate->kind) {
    case LANCE_NAME_DATA:
        return remove_file(cleaner, "data", candidate->name, &report->data_files, err);
    case LANCE_NAME_DELETIONS:
        return remove_file(cleaner, "_deletions", candidate->name, &report->deletion_files, err);
    case LANCE_NAME_TRANSACTION:
        return remove_file(cleaner, "_transactions", candidate->name, &report->transactions, err);
    case LANCE_NAME_INDEX:
        return remove_index(cleaner, candidate->name, err);
    case LANCE_NAME_FOREIGN:
    case LANCE_NAME_TEMPORARY:
        break;
    }
    return MLY_OK;
}

static enum mly_err remove_files(struct cleaner *cleaner, struct mly_error *err)
{
    static const char *const folders[] = {"data", "_deletions", "_transactions",
                                          LANCE_INDICES_FOLDER};
    const size_t folder_count = cleaner->keep->indices ? 4 : 3;
    for (size_t i = 0; i < folder_count; i++) {
        MLY_TRY(mly_lance_each_name(cleaner->table, folders[i], take_candidate, cleaner, err));
    }
    size_t count = cleaner->candidates.count;
    if (count == 0) return MLY_OK;
    qsort(cleaner->candidates.bytes.data, count, sizeof(struct candidate), compare_candidates);
    cleaner->open_count = count;
    /* Anew: another program may have made a version of what was there before. */
    MLY_TRY(list_versions(cleaner, err));
    if (cleaner->versions.count == 0) return MLY_OK;
    MLY_TRY(mark_all(cleaner, err));
    for (size_t i = 0; i < count && !cleaner->report.is_frozen; i++) {
        const struct candidate *candidate = &candidates(cleaner)[i];
        if (!candidate->stays) MLY_TRY(remove_candidate(cleaner, candidate, err));
    }
    return MLY_OK;
}

static enum mly_err run(struct cleaner *cleaner, struct mly_error *err)
{
    static const char *const folders[] = {"data", "_deletions", "_transactions", "_versions"};
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        MLY_TRY(mly_lance_each_name(cleaner->table, folders[i], remove_temporary, cleaner, err));
    }
    MLY_TRY(mly_lance_each_name(cleaner->table, "_refs/tags", take_tag, cleaner, err));
    MLY_TRY(mly_lance_each_name(cleaner->table, "_refs/branches", take_branch, cleaner, err));
    MLY_TRY(mly_lance_each_name(cleaner->table, "tree", take_branch, cleaner, err));
    MLY_TRY(list_versions(cleaner, err));
    if (cleaner->has_strangers) cleaner->report.is_frozen = true;
    if (cleaner->versions.count == 0 || cleaner->report.is_frozen) return MLY_OK;
    MLY_TRY(remove_versions(cleaner, err));
    return cleaner->report.is_frozen ? MLY_OK : remove_files(cleaner, err);
}

enum mly_err mly_lance_clean(const struct mly_lance_table *table, const struct mly_lance_keep *keep,
                             struct mly_lance_cleaned *report, struct mly_error *err)
{
    struct mly_mem *mem = table->env->mem;
    struct cleaner cleaner = {.table = table, .keep = keep};
    if (report != NULL) *report = cleaner.report;
    if (keep->versions == 0) {
        return mly_fail(err, MLY_ERR_INVAL, "the newest version of a table cannot be removed");
    }
    mly_bytes_init(&cleaner.versions.bytes, mem, MLY_META_BYTES_MAX);
    mly_bytes_init(&cleaner.tagged.bytes, mem, MLY_META_BYTES_MAX);
    mly_bytes_init(&cleaner.candidates.bytes, mem, MLY_META_BYTES_MAX);
    enum mly_err rc = run(&cleaner, err);
    if (rc == MLY_OK) rc = mly_lance_sums_clean(table, err);
    mly_bytes_deinit(&cleaner.versions.bytes);
    mly_bytes_deinit(&cleaner.tagged.bytes);
    mly_bytes_deinit(&cleaner.candidates.bytes);
    if (report != NULL) *report = cleaner.report;
    return rc;
}
