/* What does not belong to a store and was put aside, by a recovery or a commit: in lost+found. */
#include "crash_workloads.h"

#include "lance/lance_int.h"
#include "os/dir.h"

#include <stdio.h>
#include <string.h>

#define LOST_FOLDER CRASH_FOLDER "/_memalloy/lost+found"

typedef bool (*kept_fn)(void *context, const struct mly_bytes *content);

/* Of the files there, until fn says true; so it is given then. */
static bool each_kept(const struct mly_env *env, kept_fn fn, void *context)
{
    struct mly_error err = {0};
    struct mly_dir dir;
    struct mly_file_info info;
    const char *name;
    bool exists, done = false;
    case_ok(mly_file_exists(env, MLY_AT_CWD, LOST_FOLDER, &exists, &err), &err);
    if (!exists) return false;
    case_ok(mly_dir_open(env, MLY_AT_CWD, LOST_FOLDER, &dir, &err), &err);
    while (!done && mly_dir_next(&dir, &name, &err) == MLY_OK && name != NULL) {
        char path[300];
        struct mly_bytes content;
        if (name[0] == '.') continue;
        mly_bytes_init(&content, env->mem, MLY_META_BYTES_MAX);
        snprintf(path, sizeof(path), LOST_FOLDER "/%.200s", name);
        case_ok(mly_lance_read_file(env, path, &content, &info, &err), &err);
        done = fn(context, &content);
        mly_bytes_deinit(&content);
    }
    mly_dir_close(&dir);
    return done;
}

static bool take(void *context, const struct mly_bytes *content)
{
    struct mly_error err = {0};
    case_ok(mly_bytes_append(context, content->data, content->bytes, &err), &err);
    return true;
}

static bool is_same(void *context, const struct mly_bytes *content)
{
    const struct mly_bytes *wanted = *(const struct mly_bytes **)context;
    return content->bytes == wanted->bytes &&
           memcmp(content->data, wanted->data, wanted->bytes) == 0;
}

bool crash_take_kept(const struct mly_env *env, struct mly_bytes *out)
{
    return each_kept(env, take, out);
}

bool crash_is_kept(const struct mly_env *env, const struct mly_bytes *content)
{
    return each_kept(env, is_same, &content);
}
