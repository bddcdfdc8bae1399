/* See sync_cases.h. */
#define _GNU_SOURCE
#include "sync_cases.h"

#include "engine/engine_int.h"
#include "mly_cmocka.h"
#include "tiny_model.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char sync_dir[TEMP_DIR_BYTES];
char sync_root[TEMP_DIR_BYTES + 16];
char sync_outside[TEMP_DIR_BYTES + 16];
static char model_path[TEMP_DIR_BYTES + 64];

int sync_set_up(void **state)
{
    (void)state;
    temp_dir_make(sync_dir);
    snprintf(sync_root, sizeof(sync_root), "%s/root", sync_dir);
    snprintf(sync_outside, sizeof(sync_outside), "%s/outside", sync_dir);
    snprintf(model_path, sizeof(model_path), "%s", tiny_model(sync_dir, &tiny_small, 3));
    return mkdir(sync_root, 0700) == 0 && mkdir(sync_outside, 0700) == 0 ? 0 : -1;
}

int sync_tear_down(void **state)
{
    (void)state;
    temp_dir_remove(sync_dir);
    return 0;
}

memalloy_kernel *sync_open(const struct mly_env *env, const char *name)
{
    char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/%s", sync_dir, name);
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = model_path, .threads = 1};
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .model = &model, .durability = MEMALLOY_DURABILITY_NORMAL};
    memalloy_kernel *kernel = NULL;
    struct mly_error err = {0};
    if (mly_engine_open(env, path, &options, &kernel, &err) != MLY_OK) fail_msg("%s", err.message);
    return kernel;
}

static void path_of(char out[TEMP_DIR_BYTES + 512], const char *name)
{
    snprintf(out, TEMP_DIR_BYTES + 512, "%s/%s", sync_root, name);
}

void sync_write(const char *name, const char *text)
{
    char path[TEMP_DIR_BYTES + 512];
    path_of(path, name);
    for (char *slash = path + strlen(sync_root) + 1; (slash = strchr(slash, '/')) != NULL;
         *slash++ = '/') {
        *slash = '\0';
        if (mkdir(path, 0700) != 0) assert_int_equal(errno, EEXIST);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

void sync_remove(const char *name)
{
    char path[TEMP_DIR_BYTES + 512];
    path_of(path, name);
    temp_dir_remove(path);
    (void)unlink(path);
}

void sync_rename(const char *from, const char *to)
{
    char old_path[TEMP_DIR_BYTES + 512], new_path[TEMP_DIR_BYTES + 512];
    path_of(old_path, from);
    path_of(new_path, to);
    assert_int_equal(rename(old_path, new_path), 0);
}

struct memalloy_sync_counts sync_now(memalloy_kernel *kernel, const char *const *paths)
{
    struct memalloy_sync_options options = {.struct_bytes = sizeof(options), .paths = paths};
    struct memalloy_sync_counts counts = {.struct_bytes = sizeof(counts)};
    memalloy_report *report = NULL;
    struct mly_error err = {0};
    while (paths != NULL && paths[options.path_count] != NULL)
        options.path_count++;
    if (mly_engine_sync(kernel, sync_root, &options, &report, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    memalloy_report_get(report, &counts);
    memalloy_report_destroy(report);
    assert_int_equal(counts.files + counts.unread + counts.away,
                     counts.added + counts.replaced + counts.moved + counts.unchanged +
                         counts.skipped);
    return counts;
}

const char *sync_id(memalloy_kernel *kernel, const char *name)
{
    static char id[MEMALLOY_ID_BYTES_MAX];
    char path[TEMP_DIR_BYTES + 512];
    memalloy_documents *documents = NULL;
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    path_of(path, name);
    if (mly_engine_get_document_at(kernel, path, &documents, NULL) != MLY_OK) return NULL;
    memalloy_documents_get(documents, 0, &document);
    snprintf(id, sizeof(id), "%s", document.id.data);
    memalloy_documents_destroy(documents);
    return id;
}

/* ---- the check ---- */

static memalloy_kernel *checked;
static size_t different, files;

static size_t tell(const char *path, const char *what)
{
    if (different < 20) fprintf(stderr, "%s: %s\n", path, what);
    return 1;
}

static int check_file(const char *path, const struct stat *info, int kind, struct FTW *ftw)
{
    (void)ftw;
    const char *name = strrchr(path, '/') + 1;
    if (kind != FTW_F || !S_ISREG(info->st_mode) || name[0] == '.') return 0;
    if (strstr(path, "/kb/") != NULL) return 0;                   /* the store itself */
    if (strstr(path + strlen(sync_root), "/.") != NULL) return 0; /* in a hidden folder */
    static char text[1 << 21];
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents *documents = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes = fd < 0 ? 0 : read(fd, text, sizeof(text));
    if (fd >= 0) close(fd);
    files++;
    if (mly_engine_get_document_at(checked, path, &documents, NULL) != MLY_OK) {
        different += tell(path, "is not in the store");
        return 0;
    }
    memalloy_documents_get(documents, 0, &document);
    if (document.content.bytes != (size_t)bytes ||
        memcmp(document.content.data, text, (size_t)bytes) != 0 || document.altered != 0) {
        different += tell(path, "has another text in the store");
    }
    memalloy_documents_destroy(documents);
    return 0;
}

size_t sync_differences(memalloy_kernel *kernel)
{
    memalloy_documents *documents = NULL;
    different = files = 0;
    checked = kernel;
    assert_int_equal(nftw(sync_root, check_file, 32, FTW_PHYS), 0);
    assert_int_equal(mly_engine_list(kernel, 0, MLY_STR_NULL, &documents, NULL) == MLY_OK, 1);
    size_t count = memalloy_documents_count(documents);
    for (size_t i = 0; i < count && count != files; i++) {
        struct memalloy_document document = {.struct_bytes = sizeof(document)};
        struct stat info;
        memalloy_documents_get(documents, i, &document);
        if (document.path.data == NULL || lstat(document.path.data, &info) != 0 ||
            !S_ISREG(info.st_mode)) {
            different += tell(document.path.data, "is in the store and not in the folder");
        }
    }
    memalloy_documents_destroy(documents);
    if (count != files && different == 0) different += tell(sync_root, "has another number");
    return different;
}
