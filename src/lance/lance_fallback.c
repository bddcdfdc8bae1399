/* When the newest manifest is damaged: the one before it, if every version after that was ours, as
 * then whoever keeps a log has what they did. What is damaged is moved out of the way, not lost. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Names that are tried in the folder for what is set aside. */
#define ASIDE_TRIES 1000

struct own_look {
    uint64_t version;
    bool found;
};

static enum mly_err look_for_own(void *context, const char *folder, const char *name,
                                 struct mly_error *err)
{
    (void)err;
    (void)folder;
    struct own_look *look = context;
    look->found = look->found || mly_lance_is_own_transaction(name, look->version - 1);
    return MLY_OK;
}

/* A commit of ours that loses its race takes its transaction file back; one that wins leaves it. */
static enum mly_err is_ours(const struct mly_lance_table *table, uint64_t version, bool *out,
                            struct mly_error *err)
{
    struct own_look look = {version, false};
    MLY_TRY(mly_lance_each_name(table, "_transactions", look_for_own, &look, err));
    *out = look.found;
    return MLY_OK;
}

/* From the newest down; *out stays NULL where there is no version at all. */
static enum mly_err load_down(const struct mly_lance_table *table, struct mly_lance_manifest **out,
                              struct mly_lance_unsound *unsound, struct mly_error *err)
{
    for (uint64_t below = UINT64_MAX;;) {
        enum lance_naming naming = LANCE_NAMING_V2;
        struct mly_error why = {0};
        uint64_t version;
        bool ours;
        MLY_TRY(mly_lance_find_version(table, below, &version, &naming, err));
        if (version == 0) {
            if (unsound->count == 0) return MLY_OK;
            return mly_fail(err, MLY_ERR_CORRUPT, "%s, and no version before it is sound",
                            unsound->reason.message);
        }
        enum mly_err rc = mly_lance_load_version(table, version, naming, out, &why);
        if (rc == MLY_OK) return MLY_OK;
        if (rc != MLY_ERR_CORRUPT) return mly_fail(err, rc, "%s", why.message);
        MLY_TRY(is_ours(table, version, &ours, err));
        if (!ours) return mly_fail(err, rc, "%s", why.message);
        if (unsound->count++ == 0) {
            unsound->version = version;
            unsound->reason = why;
        }
        below = version;
    }
}

enum mly_err mly_lance_manifest_load_sound(const struct mly_lance_table *table,
                                           struct mly_lance_manifest **out,
                                           struct mly_lance_unsound *unsound, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    /* Others may remove what was just listed. */
    for (int try_i = 0; try_i < LANCE_LOAD_TRIES; try_i++) {
        *out = NULL;
        *unsound = (struct mly_lance_unsound){0};
        rc = load_down(table, out, unsound, err);
        if (rc != MLY_ERR_NOTFOUND) return rc;
    }
    return rc;
}

/* A name in the folder, which exists, that is free. */
static enum mly_err find_aside(const struct mly_lance_table *table, const char *folder,
                               const char *name, struct lance_path *out, struct mly_error *err)
{
    const char *slash = strrchr(table->path, '/');
    const char *table_name = slash == NULL ? table->path : slash + 1;
    for (int try_i = 0; try_i < ASIDE_TRIES; try_i++) {
        char number[16] = "";
        bool exists;
        if (try_i > 0) (void)snprintf(number, sizeof(number), ".%d", try_i);
        (void)snprintf(out->text, sizeof(out->text), "%s/%s-%s%s", folder, table_name, name,
                       number);
        MLY_TRY(mly_file_exists(table->env, MLY_AT_CWD, out->text, &exists, err));
        if (!exists) return MLY_OK;
    }
    return mly_fail(err, MLY_ERR_LIMIT, "%s has %d files of the name %s-%s already", folder,
                    ASIDE_TRIES, table_name, name);
}

static enum mly_err is_damaged(const struct mly_lance_table *table, uint64_t version,
                               enum lance_naming naming, bool *out, struct mly_error *err)
{
    struct mly_lance_manifest *manifest = NULL;
    enum mly_err rc = mly_lance_load_version(table, version, naming, &manifest, err);
    mly_lance_manifest_destroy(manifest);
    *out = rc == MLY_ERR_CORRUPT;
    return *out ? MLY_OK : rc;
}

/* Does this version go? */
static enum mly_err goes_aside(const struct mly_lance_table *table, uint64_t version,
                               enum lance_naming naming, const struct mly_lance_manifest *also,
                               bool *goes, struct mly_error *err)
{
    MLY_TRY(is_damaged(table, version, naming, goes, err));
    if (*goes || also == NULL || also->pb->version != version) return MLY_OK;
    bool stale;
    MLY_TRY(mly_lance_manifest_is_stale(table, also, &stale, err));
    *goes = !stale;
    return MLY_OK;
}

enum mly_err mly_lance_set_aside(const struct mly_lance_table *table,
                                 const struct mly_lance_manifest *manifest,
                                 const struct mly_lance_manifest *also, const char *folder,
                                 struct mly_error *err)
{
    const struct mly_env *env = table->env;
    struct lance_path from, to;
    bool moved = false;
    for (;;) {
        char name[LANCE_VERSION_NAME_BYTES];
        enum lance_naming naming = LANCE_NAMING_V2;
        uint64_t version;
        bool goes;
        MLY_TRY(mly_lance_find_version(table, UINT64_MAX, &version, &naming, err));
        if (version <= manifest->pb->version) break;
        MLY_TRY(goes_aside(table, version, naming, also, &goes, err));
        if (!goes) break; /* somebody has just put it there */
        mly_lance_version_name(version, naming, name);
        MLY_TRY(mly_dir_make_all(env, folder, err));
        MLY_TRY(find_aside(table, folder, name, &to, err));
        mly_lance_path(table, "_versions", name, &from);
        /* The next version of this number must not meet them. */
        mly_lance_sums_forget(table, name);
        /* So that it is in one place at least, whatever a power cut leaves of either folder. */
        MLY_TRY(mly_file_link(env, MLY_AT_CWD, from.text, to.text, err));
        MLY_TRY(mly_dir_sync(env, MLY_AT_CWD, folder, err));
        MLY_TRY(mly_file_unlink(env, MLY_AT_CWD, from.text, err));
        moved = true;
    }
    if (!moved) return MLY_OK;
    mly_lance_path(table, "_versions", NULL, &from);
    return mly_dir_sync(env, MLY_AT_CWD, from.text, err);
}
