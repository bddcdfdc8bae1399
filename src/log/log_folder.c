/* Which segments a folder has: names are generations, the order in which they were made. */
#include "base/limits.h"
#include "log/log_int.h"

#include <stdio.h>
#include <stdlib.h>

#define TEMPORARY ".tmp-"

void mly_log_segment_name(uint64_t generation, char out[LOG_NAME_BYTES])
{
    (void)snprintf(out, LOG_NAME_BYTES, "%016llx.wal", (unsigned long long)generation);
}

static bool parse_name(const char *name, uint64_t *generation)
{
    *generation = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        bool digit = c >= '0' && c <= '9';
        if (!digit && (c < 'a' || c > 'f')) return false;
        *generation = *generation << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    return strcmp(name + 16, ".wal") == 0;
}

enum mly_err mly_log_path(const char *dir, const char *name, char *out, struct mly_error *err)
{
    int bytes = snprintf(out, MLY_PATH_BYTES_MAX, "%s/%s", dir, name);
    if (bytes < 0 || (size_t)bytes >= MLY_PATH_BYTES_MAX) {
        return mly_fail(err, MLY_ERR_LIMIT, "path of %d bytes, the limit is %zu", bytes,
                        MLY_PATH_BYTES_MAX - 1);
    }
    return MLY_OK;
}

void mly_log_segments_deinit(struct log_segments *segments)
{
    mly_mem_free(segments->mem, segments->items);
    *segments = (struct log_segments){.mem = segments->mem};
}

enum mly_err mly_log_segments_add(struct log_segments *segments, struct log_segment segment,
                                  struct mly_error *err)
{
    if (segments->count == segments->capacity) {
        size_t capacity = segments->capacity == 0 ? 8 : segments->capacity * 2;
        size_t bytes = capacity * sizeof(segments->items[0]);
        struct log_segment *items = mly_mem_realloc(segments->mem, segments->items, bytes);
        if (items == NULL) return mly_fail_nomem(err, bytes);
        segments->items = items;
        segments->capacity = capacity;
    }
    segments->items[segments->count++] = segment;
    return MLY_OK;
}

static int compare(const void *a, const void *b)
{
    const struct log_segment *left = a;
    const struct log_segment *right = b;
    return (left->generation > right->generation) - (left->generation < right->generation);
}

/* NOTFOUND where it was retired meanwhile. */
static enum mly_err read_first_lsn(const struct mly_env *env, mly_crc32c_fn crc, const char *dir,
                                   struct log_segment *segment, struct mly_error *err)
{
    struct log_cursor cursor;
    MLY_TRY(mly_log_cursor_open(env, crc, dir, segment->generation, &cursor, err));
    segment->first_lsn = cursor.head.first_lsn;
    mly_log_cursor_close(&cursor);
    return MLY_OK;
}

static enum mly_err list_names(const struct mly_env *env, const char *dir, bool remove_temporary,
                               struct log_segments *out, struct mly_error *err)
{
    struct mly_dir listing;
    const char *name;
    enum mly_err rc = mly_dir_open(env, MLY_AT_CWD, dir, &listing, err);
    if (rc == MLY_ERR_NOTFOUND) return MLY_OK;
    if (rc != MLY_OK) return rc;
    for (;;) {
        struct log_segment segment = {0, 0};
        rc = mly_dir_next(&listing, &name, err);
        if (rc != MLY_OK || name == NULL) break;
        if (remove_temporary && strncmp(name, TEMPORARY, strlen(TEMPORARY)) == 0) {
            /* Failing does no harm: nobody reads it. */
            (void)env->unlink(env->context, mly_dir_fd(&listing), name);
        }
        if (!parse_name(name, &segment.generation)) continue;
        rc = mly_log_segments_add(out, segment, err);
        if (rc != MLY_OK) break;
    }
    mly_dir_close(&listing);
    return rc;
}

enum mly_err mly_log_list(const struct mly_env *env, mly_crc32c_fn crc, const char *dir,
                          bool remove_temporary, struct log_segments *out, struct mly_error *err)
{
    out->count = 0;
    MLY_TRY(list_names(env, dir, remove_temporary, out, err));
    if (out->count == 0) return MLY_OK;
    qsort(out->items, out->count, sizeof(out->items[0]), compare);
    size_t kept = 0;
    for (size_t i = 0; i < out->count; i++) {
        struct log_segment *segment = &out->items[i];
        enum mly_err rc = read_first_lsn(env, crc, dir, segment, err);
        if (rc == MLY_ERR_NOTFOUND) continue; /* retired between listing and looking */
        if (rc != MLY_OK) return rc;
        if (kept > 0 && segment->first_lsn < out->items[kept - 1].first_lsn) {
            char name[LOG_NAME_BYTES];
            mly_log_segment_name(segment->generation, name);
            return mly_fail(err, MLY_ERR_CORRUPT,
                            "%s/%s begins with record %llu, the segment before it with %llu", dir,
                            name, (unsigned long long)segment->first_lsn,
                            (unsigned long long)out->items[kept - 1].first_lsn);
        }
        out->items[kept++] = *segment;
    }
    out->count = kept;
    return MLY_OK;
}
