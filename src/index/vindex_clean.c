/* Files of the index that nobody needs any more.
 *
 * In: what is to stay. Out: the rest is removed, also what killed makers left. */
#include "index/vindex_int.h"

#include <stdio.h>
#include <string.h>

static bool has_records_name(const struct mly_vindex_file *file, const char *name)
{
    const size_t suffix = sizeof(MLY_VINDEX_RECORDS_SUFFIX) - 1;
    const size_t bytes = strlen(name);
    return bytes == file->name.bytes + suffix &&
           memcmp(name, file->name.data, file->name.bytes) == 0 &&
           strcmp(name + file->name.bytes, MLY_VINDEX_RECORDS_SUFFIX) == 0;
}

/* Removes all files of the folder but those that stay; failing does no harm. */
static void clean(const struct mly_env *env, const char *folder, const char *name,
                  const char *segment, const struct mly_vindex_file *files, size_t file_count)
{
    char path[MLY_PATH_BYTES_MAX];
    struct mly_dir dir;
    int length = snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof(path)) return;
    if (mly_dir_open(env, MLY_AT_CWD, path, &dir, NULL) != MLY_OK) return;
    for (;;) {
        const char *entry;
        if (mly_dir_next(&dir, &entry, NULL) != MLY_OK || entry == NULL) break;
        bool stays = segment != NULL && strcmp(entry, segment) == 0;
        for (size_t i = 0; i < file_count && !stays; i++)
            stays = has_records_name(&files[i], entry);
        if (!stays) (void)env->unlink(env->context, mly_dir_fd(&dir), entry);
    }
    mly_dir_close(&dir);
}

void mly_vindex_clean(const struct mly_env *env, const char *folder, const char *segment,
                      const struct mly_vindex_file *files, size_t file_count)
{
    clean(env, folder, MLY_VINDEX_SEGMENTS, segment, NULL, 0);
    clean(env, folder, MLY_VINDEX_RECORDS, NULL, files, file_count);
}
