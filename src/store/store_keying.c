/* Key files of a store's fragments: where they are, opening, making, throwing away.
 *
 *   _memalloy/index/keys/<documents|chunks>/<data file>.keys
 *
 * In: fragments. Out: for each that is large enough a file (store_keyfile.h) by which its rows are
 * found. Nothing here fails what it is called for: without a key file rows are read instead. */
#include "store/store_state_int.h"

#include "base/hash.h"
#include "base/limits.h"

#include <stdio.h>

/* Smaller fragments are read faster than a file is opened for each. */
#define KEYED_ROWS_MIN 4096
#define SUFFIX ".keys"
#define TEMPORARY ".tmp-"

/* Of a data file's name that is plain, without its end. */
#define PLAIN_BYTES_MAX 200
/* Room for the store's path, our folders and a file's name: it always fits. */
struct keys_path {
    char text[MLY_PATH_BYTES_MAX + 320];
};

static const char *const folders[] = {"_memalloy/index", "_memalloy/index/keys",
                                      "_memalloy/index/keys/documents",
                                      "_memalloy/index/keys/chunks"};

static const char *folder_of(enum mly_store_table_kind kind)
{
    return folders[kind == MLY_STORE_DOCUMENTS ? 2 : 3];
}

/* store/folder, or store/folder/name.keys, where name is plain. */
static void join(const struct mly_store *store, const char *folder, struct mly_str name,
                 struct keys_path *out)
{
    if (name.data == NULL) {
        (void)snprintf(out->text, sizeof(out->text), "%s/%s", store->path, folder);
    } else {
        (void)snprintf(out->text, sizeof(out->text), "%s/%s/%.*s" SUFFIX, store->path, folder,
                       (int)name.bytes, name.data);
    }
}

/* Names are other programs' too: "a/b" or "../c" must lead nowhere. */
static bool is_plain(struct mly_str name)
{
    if (name.data == NULL || name.bytes == 0 || name.bytes > PLAIN_BYTES_MAX ||
        name.data[0] == '.') {
        return false;
    }
    return memchr(name.data, '/', name.bytes) == NULL && memchr(name.data, 0, name.bytes) == NULL;
}

/* ---- what a key file is of ---- */

/* The columns that it is made from. */
static size_t key_columns(enum mly_store_table_kind kind, size_t out[4])
{
    if (kind == MLY_STORE_CHUNKS) {
        out[0] = MLY_CHUNK_DOCUMENT_ID;
        return 1;
    }
    out[0] = MLY_DOCUMENT_ID;
    out[1] = MLY_DOCUMENT_PATH;
    out[2] = MLY_DOCUMENT_PATH_RAW;
    out[3] = MLY_DOCUMENT_STATUS;
    return 4;
}

/* Which file has each of them, under which number. A data file is never changed under its name, so
 * that where all this is the same the rows' keys are. *name is the first one's file; false where no
 * key file is kept. */
static bool describe(const struct mly_store_view *view, const struct mly_store_fragment *fragment,
                     struct mly_keyfile_subject *out, struct mly_str *name)
{
    uint64_t parts[4][3];
    size_t columns[4];
    size_t count = key_columns(view->table->kind, columns);
    if (fragment->data == NULL || fragment->row_count < KEYED_ROWS_MIN) return false;
    for (size_t i = 0; i < count; i++) {
        size_t field_i = view->fields[columns[i]];
        struct mly_lance_field field = {.id = -1};
        uint64_t bytes;
        struct mly_str file = mly_lance_fragment_file_of(fragment->data, field_i, &bytes);
        if (field_i != MLY_LANCE_NO_FIELD) {
            mly_lance_manifest_get_field(view->manifest, field_i, &field);
        }
        parts[i][0] = mly_hash_quick(file);
        parts[i][1] = bytes;
        parts[i][2] = (uint64_t)(int64_t)field.id;
        if (i == 0) *name = file;
    }
    *out = (struct mly_keyfile_subject){
        .binding = mly_hash_quick((struct mly_str){(const char *)parts, count * sizeof(parts[0])}),
        .row_count = fragment->row_count,
        .key_count = view->table->kind == MLY_STORE_CHUNKS ? 1 : 2,
    };
    return is_plain(*name);
}

/* ---- opening ---- */

struct mly_keyfile *mly_store_keys_open(const struct mly_store_view *view,
                                        const struct mly_store_fragment *fragment)
{
    struct mly_store *store = view->table->store;
    struct mly_keyfile_subject subject;
    struct mly_keyfile *file = NULL;
    struct mly_str name;
    struct keys_path path;
    if (!describe(view, fragment, &subject, &name)) return NULL;
    join(store, folder_of(view->table->kind), name, &path);
    enum mly_err rc = mly_keyfile_open(store->env, path.text, &subject, &file, NULL);
    return rc == MLY_OK ? file : NULL;
}

/* ---- making ---- */

/* All rows, dead ones too: a row that is dead in this view may live in an older one. */
static enum mly_err gather(const struct mly_store_view *view, const struct mly_store_part *part,
                           struct mly_keyfile_draft *draft, struct mly_error *err)
{
    bool of_documents = view->table->kind == MLY_STORE_DOCUMENTS;
    struct mly_store_cell cell = {view, part, 0};
    for (; cell.row < part->fragment->row_count; cell.row++) {
        for (size_t key_i = 0; key_i < (of_documents ? 2u : 1u); key_i++) {
            struct mly_str key;
            MLY_TRY(mly_store_read_key(&cell, key_i, &key, err));
            if (key.data == NULL) continue;
            MLY_TRY(
                mly_keyfile_draft_add(draft, key_i, mly_hash_quick(key), (uint32_t)cell.row, err));
        }
        if (!of_documents) continue;
        struct mly_str status;
        MLY_TRY(mly_store_cell_string(&cell, MLY_DOCUMENT_STATUS, &status, err));
        if (status.data != NULL && mly_str_equal(status, MLY_STR("skipped"))) {
            MLY_TRY(mly_keyfile_draft_skip(draft, (uint32_t)cell.row, err));
        }
    }
    return MLY_OK;
}

static enum mly_err make_one(const struct mly_store_view *view, const struct mly_store_part *part,
                             const char *folder, struct mly_error *err)
{
    struct mly_store *store = view->table->store;
    struct mly_keyfile_subject subject;
    struct mly_keyfile_draft draft;
    struct mly_str base;
    char name[PLAIN_BYTES_MAX + sizeof(SUFFIX)];
    if (!describe(view, part->fragment, &subject, &base)) return MLY_OK;
    (void)snprintf(name, sizeof(name), "%.*s" SUFFIX, (int)base.bytes, base.data);
    mly_keyfile_draft_init(&draft, store->mem);
    enum mly_err rc = gather(view, part, &draft, err);
    if (rc == MLY_OK) rc = mly_keyfile_write(store->env, folder, name, &subject, &draft, err);
    mly_keyfile_draft_deinit(&draft);
    return rc;
}

/* From now on the fragment's rows are found by its file, unless they stand in memory already. False
 * where there is no good one. */
static bool attach(const struct mly_store_view *view, struct mly_store_fragment *fragment)
{
    struct mly_store_table *table = view->table;
    struct mly_keyfile *file = mly_store_keys_open(view, fragment);
    if (file == NULL) return false;
    mly_mutex_lock(&table->store->key_mutex);
    bool in_memory = atomic_load(&fragment->keyfile) != NULL;
    for (size_t key_i = 0; key_i < MLY_STORE_KEYS; key_i++) {
        in_memory = in_memory || fragment->keyed_generation[key_i] == table->keys[key_i].generation;
    }
    if (!in_memory) {
        atomic_store(&fragment->keyfile, file);
        file = NULL;
    }
    mly_mutex_unlock(&table->store->key_mutex);
    mly_keyfile_close(file);
    return true;
}

/* Is there still a data file that the key file is of? Where nobody can tell there is. */
static bool has_data(const struct mly_store_view *view, const char *name, size_t bytes)
{
    const struct mly_env *env = view->table->store->env;
    struct keys_path path;
    struct mly_file_info info;
    (void)snprintf(path.text, sizeof(path.text), "%s/data/%.*s",
                   mly_lance_table_path(view->table->lance), (int)(bytes - (sizeof(SUFFIX) - 1)),
                   name);
    int result = env->info_at(env->context, MLY_AT_CWD, path.text, true, &info);
    return !mly_file_is_missing(result);
}

/* Files of data that is gone, and what killed writers left. The lock is held, so nobody else makes
 * any. */
static void clean(const struct mly_store_view *view, const char *folder)
{
    const struct mly_env *env = view->table->store->env;
    struct mly_dir dir;
    if (mly_dir_open(env, MLY_AT_CWD, folder, &dir, NULL) != MLY_OK) return;
    for (;;) {
        const char *name;
        if (mly_dir_next(&dir, &name, NULL) != MLY_OK || name == NULL) break;
        size_t bytes = strlen(name);
        bool gone = strncmp(name, TEMPORARY, sizeof(TEMPORARY) - 1) == 0;
        if (bytes >= sizeof(SUFFIX) && strcmp(name + bytes - (sizeof(SUFFIX) - 1), SUFFIX) == 0) {
            gone = gone || !has_data(view, name, bytes);
        }
        if (gone) (void)env->unlink(env->context, mly_dir_fd(&dir), name);
    }
    mly_dir_close(&dir);
}

/* Not synced: what a power cut takes of it is made again. */
static void make_folders(const struct mly_store *store)
{
    struct keys_path path;
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        join(store, folders[i], MLY_STR_NULL, &path);
        (void)store->env->make_dir(store->env->context, MLY_AT_CWD, path.text);
    }
}

void mly_store_keys_make(const struct mly_store_view *view)
{
    struct mly_store *store = view->table->store;
    struct keys_path folder;
    bool has_folders = false;
    if (store->in_memory || store->read_only || view->manifest == NULL) return;
    join(store, folder_of(view->table->kind), MLY_STR_NULL, &folder);
    clean(view, folder.text);
    for (size_t i = 0; i < view->part_count; i++) {
        struct mly_store_fragment *fragment = view->parts[i].fragment;
        struct mly_keyfile_subject subject;
        struct mly_str name;
        if (!describe(view, fragment, &subject, &name)) continue;
        uint8_t state = atomic_load(&fragment->keyfile_state);
        if (state == MLY_KEYFILE_LEFT) continue;
        if (state == MLY_KEYFILE_GOOD &&
            (atomic_load(&fragment->keyfile) != NULL || attach(view, fragment))) {
            continue;
        }
        if (!has_folders) make_folders(store);
        has_folders = true;
        bool made = make_one(view, &view->parts[i], folder.text, NULL) == MLY_OK;
        if (!made || state == MLY_KEYFILE_BAD) {
            /* Reading a million rows at every checkpoint, for nothing, would be worse. */
            atomic_store(&fragment->keyfile_state, MLY_KEYFILE_LEFT);
        } else {
            (void)attach(view, fragment);
        }
    }
}
