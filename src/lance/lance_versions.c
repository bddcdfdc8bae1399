/* Which version is the newest: by listing _versions. The hint that the format has beside it is not
 * read: a hint that lags behind a clean-up of old versions would lead to an old one, and a listing
 * costs less than reading the manifest that follows it. */
#include "lance/lance_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MANIFEST_SUFFIX ".manifest"
/* 20 digits and the suffix: names of this length count down from 2^64 - 1. */
#define V2_NAME_BYTES (20 + sizeof(MANIFEST_SUFFIX) - 1)

void mly_lance_version_name(uint64_t version, enum lance_naming naming, char *out)
{
    if (naming == LANCE_NAMING_V2) {
        (void)snprintf(out, LANCE_VERSION_NAME_BYTES, "%020" PRIu64 MANIFEST_SUFFIX,
                       UINT64_MAX - version);
    } else {
        (void)snprintf(out, LANCE_VERSION_NAME_BYTES, "%" PRIu64 MANIFEST_SUFFIX, version);
    }
}

bool mly_lance_parse_version_name(const char *name, uint64_t *version, enum lance_naming *naming)
{
    size_t bytes = strlen(name);
    size_t suffix = sizeof(MANIFEST_SUFFIX) - 1;
    if (bytes <= suffix || bytes > V2_NAME_BYTES) return false;
    if (strcmp(name + bytes - suffix, MANIFEST_SUFFIX) != 0) return false;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes - suffix; i++) {
        if (name[i] < '0' || name[i] > '9') return false;
        uint64_t digit = (uint64_t)(name[i] - '0');
        if (value > (UINT64_MAX - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *naming = bytes == V2_NAME_BYTES ? LANCE_NAMING_V2 : LANCE_NAMING_V1;
    *version = *naming == LANCE_NAMING_V2 ? UINT64_MAX - value : value;
    return *version > 0 && *version <= INT64_MAX;
}

struct version_look {
    uint64_t below, version;
    enum lance_naming naming;
};

static enum mly_err look_at_version(void *context, const char *folder, const char *name,
                                    struct mly_error *err)
{
    (void)err;
    (void)folder;
    struct version_look *look = context;
    uint64_t found;
    enum lance_naming naming;
    if (!mly_lance_parse_version_name(name, &found, &naming)) return MLY_OK;
    if (found <= look->version || found >= look->below) return MLY_OK;
    look->version = found;
    look->naming = naming;
    return MLY_OK;
}

enum mly_err mly_lance_find_version(const struct mly_lance_table *table, uint64_t below,
                                    uint64_t *version, enum lance_naming *naming,
                                    struct mly_error *err)
{
    struct version_look look = {below, 0, *naming};
    *version = 0;
    MLY_TRY(mly_lance_each_name(table, "_versions", look_at_version, &look, err));
    *version = look.version;
    *naming = look.naming;
    return MLY_OK;
}

bool mly_lance_is_strange(const void *data, size_t bytes)
{
    static const char prefix[] = "memalloy.";
    const size_t prefix_bytes = sizeof(prefix) - 1;
    const char *at = data;
    /* Byte by byte, and not as parsed: damage may end the message before its configuration. */
    while (bytes >= prefix_bytes) {
        const char *next = memchr(at, prefix[0], bytes - (prefix_bytes - 1));
        if (next == NULL) return true;
        if (memcmp(next, prefix, prefix_bytes) == 0) return false;
        bytes -= (size_t)(next - at) + 1;
        at = next + 1;
    }
    return true;
}

/* Bytes of a version -> manifest; they are what was written, and say that they are this version. */
static enum mly_err read_version(const struct mly_lance_table *table, uint64_t version,
                                 const char *name, const char *path, const struct mly_bytes *bytes,
                                 struct mly_lance_manifest **out, struct mly_error *err)
{
    struct mly_error own;
    enum mly_err damaged = mly_lance_sums_check(table, name, path, bytes, err);
    if (damaged != MLY_OK && damaged != MLY_ERR_CORRUPT) return damaged;
    enum mly_err rc =
        mly_lance_manifest_parse(table->env->mem, bytes->data, bytes->bytes, path, out, &own);
    if (damaged == MLY_OK && rc != MLY_OK) return mly_fail(err, rc, "%s", own.message);
    if (damaged != MLY_OK && (rc != MLY_OK || !mly_lance_is_strange(bytes->data, bytes->bytes))) {
        return damaged;
    }
    if (mly_lance_manifest_version(*out) == version) return MLY_OK;
    return mly_fail(err, MLY_ERR_CORRUPT, "%s: says that it is version %" PRIu64, path,
                    mly_lance_manifest_version(*out));
}

enum mly_err mly_lance_load_version(const struct mly_lance_table *table, uint64_t version,
                                    enum lance_naming naming, struct mly_lance_manifest **out,
                                    struct mly_error *err)
{
    char name[LANCE_VERSION_NAME_BYTES];
    struct lance_path path;
    struct mly_bytes bytes;
    struct mly_file_info info;
    struct mly_lance_manifest *manifest = NULL;
    mly_lance_version_name(version, naming, name);
    mly_lance_path(table, "_versions", name, &path);
    mly_bytes_init(&bytes, table->env->mem, MLY_META_BYTES_MAX);
    enum mly_err rc = mly_lance_read_file(table->env, path.text, &bytes, &info, err);
    if (rc != MLY_OK) goto done;
    rc = read_version(table, version, name, path.text, &bytes, &manifest, err);
    if (rc != MLY_OK) goto done;
    manifest->naming = naming;
    manifest->info = info;
    *out = manifest;
    manifest = NULL;
done:
    mly_lance_manifest_destroy(manifest);
    mly_bytes_deinit(&bytes);
    return rc;
}

enum mly_err mly_lance_manifest_load(const struct mly_lance_table *table,
                                     struct mly_lance_manifest **out, struct mly_error *err)
{
    enum mly_err rc = MLY_OK;
    for (int try_i = 0; try_i < LANCE_LOAD_TRIES; try_i++) {
        uint64_t version;
        enum lance_naming naming = LANCE_NAMING_V2;
        MLY_TRY(mly_lance_find_version(table, UINT64_MAX, &version, &naming, err));
        if (version == 0) {
            *out = NULL;
            return MLY_OK;
        }
        rc = mly_lance_load_version(table, version, naming, out, err);
        /* Others may remove old versions, and the newest was one by then. */
        if (rc != MLY_ERR_NOTFOUND) return rc;
    }
    return rc;
}

enum mly_err mly_lance_manifest_load_before(const struct mly_lance_table *table,
                                            const struct mly_lance_manifest *manifest,
                                            struct mly_lance_manifest **out, struct mly_error *err)
{
    uint64_t version = mly_lance_manifest_version(manifest);
    if (version <= 1) {
        return mly_fail(err, MLY_ERR_NOTFOUND, "%s: there is nothing before version %" PRIu64,
                        mly_lance_table_path(table), version);
    }
    return mly_lance_load_version(table, version - 1, manifest->naming, out, err);
}

enum mly_err mly_lance_manifest_is_stale(const struct mly_lance_table *table,
                                         const struct mly_lance_manifest *manifest, bool *stale,
                                         struct mly_error *err)
{
    char name[LANCE_VERSION_NAME_BYTES];
    struct lance_path path;
    if (manifest == NULL) {
        mly_lance_path(table, "_versions", NULL, &path);
        return mly_file_exists(table->env, MLY_AT_CWD, path.text, stale, err);
    }
    uint64_t version = mly_lance_manifest_version(manifest);
    mly_lance_version_name(version + 1, manifest->naming, name);
    mly_lance_path(table, "_versions", name, &path);
    MLY_TRY(mly_file_exists(table->env, MLY_AT_CWD, path.text, stale, err));
    if (*stale) return MLY_OK;
    /* A table that was dropped and made anew may have come to the same number. */
    mly_lance_version_name(version, manifest->naming, name);
    mly_lance_path(table, "_versions", name, &path);
    struct mly_file_info info;
    struct mly_error own;
    if (err == NULL) err = &own;
    enum mly_err rc = mly_file_info_at(table->env, MLY_AT_CWD, path.text, false, &info, err);
    if (rc != MLY_OK && rc != MLY_ERR_NOTFOUND) return rc;
    const struct mly_file_info *was = &manifest->info;
    *stale = rc == MLY_ERR_NOTFOUND || info.inode != was->inode || info.device != was->device ||
             info.bytes != was->bytes || info.modified_ns != was->modified_ns;
    return MLY_OK;
}
