/* A folder under a storm: a list that is kept by nothing but what is told equals the folder in the
 * end, file by file and version by version. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "temp_dir.h"
#include "watch/watch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPERATIONS 4000
#define OPERATIONS_LONG 100000
#define PATH_BYTES 512
#define FILES_MAX 20000

struct copy {
    char path[PATH_BYTES];
    uint64_t version;
};

static char real[4096];
static struct copy files[FILES_MAX];
static size_t file_count;
static uint64_t seed, written;

static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static bool wants(void *context, struct mly_str path, bool is_folder,
                  const struct mly_file_info *info)
{
    (void)context;
    (void)path;
    (void)is_folder;
    (void)info;
    return true;
}

/* ---- the list ---- */

static bool is_below(const char *path, const char *folder)
{
    size_t bytes = strlen(folder);
    if (bytes == 0) return true;
    return strncmp(path, folder, bytes) == 0 && (path[bytes] == '/' || path[bytes] == '\0');
}

static void forget_below(const char *folder)
{
    size_t kept = 0;
    for (size_t i = 0; i < file_count; i++) {
        if (!is_below(files[i].path, folder)) files[kept++] = files[i];
    }
    file_count = kept;
}

static void list_below(const char *path)
{
    char full[PATH_BYTES + 4096];
    struct stat info;
    snprintf(full, sizeof(full), "%s/%s", real, path);
    if (lstat(full, &info) != 0) return;
    if (S_ISREG(info.st_mode)) {
        struct copy *copy = &files[file_count];
        FILE *stream = fopen(full, "r");
        unsigned long long version = 0;
        assert_true(file_count < FILES_MAX);
        if (stream == NULL) return;
        if (fscanf(stream, "%llu", &version) != 1) version = 0;
        fclose(stream);
        snprintf(copy->path, sizeof(copy->path), "%s", path);
        copy->version = version;
        file_count++;
        return;
    }
    DIR *stream = S_ISDIR(info.st_mode) ? opendir(full) : NULL;
    if (stream == NULL) return;
    for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream)) {
        char below[PATH_BYTES];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(below, sizeof(below), "%s%s%.100s", path, path[0] != '\0' ? "/" : "",
                 entry->d_name);
        list_below(below);
    }
    closedir(stream);
}

static void follow(struct mly_watch *watch, uint64_t now_ms)
{
    struct mly_watch_batch batch;
    struct mly_error err;
    assert_int_equal(mly_watch_read(watch, now_ms, &err), MLY_OK);
    assert_int_equal(mly_watch_settle(watch, now_ms, &err), MLY_OK);
    assert_int_equal(mly_watch_take(watch, now_ms, &batch, &err), MLY_OK);
    if (batch.is_all) {
        file_count = 0;
        list_below("");
    }
    for (size_t i = 0; i < batch.count; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "%.*s", (int)batch.items[i].path.bytes,
                 batch.items[i].path.data);
        forget_below(path);
        list_below(path);
    }
    mly_watch_batch_deinit(&batch);
}

/* ---- the storm ---- */

/* "d3/d1/f5": folders and files by few names, so that they meet. */
static void draw_path(char out[PATH_BYTES], bool is_file)
{
    uint32_t depth = draw(4);
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < depth; i++)
        at += (size_t)snprintf(out + at, PATH_BYTES - at, "d%u/", draw(4));
    if (is_file || at == 0) {
        snprintf(out + at, PATH_BYTES - at, "%s%u", is_file ? "f" : "d", draw(12));
    } else {
        out[at - 1] = '\0';
    }
}

static void full_path(char out[PATH_BYTES + 4096], const char *path)
{
    snprintf(out, PATH_BYTES + 4096, "%s/%s", real, path);
}

static void write_file(const char *full)
{
    FILE *stream = fopen(full, "w");
    if (stream == NULL) return;
    fprintf(stream, "%llu", (unsigned long long)++written);
    fclose(stream);
}

static void one_operation(void)
{
    char a[PATH_BYTES], b[PATH_BYTES], from[PATH_BYTES + 4096], to[PATH_BYTES + 4096];
    uint32_t kind = draw(100);
    bool is_file = kind < 70;
    draw_path(a, is_file);
    draw_path(b, is_file);
    full_path(from, a);
    full_path(to, b);
    if (kind < 40) {
        write_file(from);
    } else if (kind < 55) {
        unlink(from);
    } else if (kind < 62) {
        rename(from, to);
    } else if (kind < 70) { /* an atomic save */
        snprintf(to, sizeof(to), "%.4000s.tmp", from);
        write_file(to);
        rename(to, from);
    } else if (kind < 85) {
        mkdir(from, 0700);
    } else if (kind < 93) {
        rename(from, to);
    } else {
        temp_dir_remove(from);
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct copy *)a)->path, ((const struct copy *)b)->path);
}

static void compare(void)
{
    static struct copy kept[FILES_MAX];
    size_t kept_count = file_count;
    memcpy(kept, files, file_count * sizeof(files[0]));
    file_count = 0;
    list_below("");
    qsort(kept, kept_count, sizeof(kept[0]), by_path);
    qsort(files, file_count, sizeof(files[0]), by_path);
    for (size_t i = 0; i < file_count && i < kept_count; i++) {
        if (strcmp(kept[i].path, files[i].path) == 0 && kept[i].version == files[i].version) {
            continue;
        }
        fail_msg("list: %s %llu, folder: %s %llu", kept[i].path,
                 (unsigned long long)kept[i].version, files[i].path,
                 (unsigned long long)files[i].version);
    }
    assert_int_equal(kept_count, file_count);
    assert_true(file_count > 0);
}

static void a_list_kept_by_what_is_told_equals_the_folder(void **state)
{
    (void)state;
    char dir[TEMP_DIR_BYTES];
    struct mly_watch *watch;
    struct mly_error err;
    const struct mly_watch_options options = {.wants = wants};
    const char *is_long = getenv("MEMALLOY_TEST_LONG");
    int operations = is_long != NULL && is_long[0] != '\0' ? OPERATIONS_LONG : OPERATIONS;
    uint64_t now_ms = 1;
    seed = 7;
    temp_dir_make(dir);
    assert_non_null(realpath(dir, real));
    enum mly_err rc = mly_watch_open(mly_env_system(), real, &options, &watch, &err);
    if (rc == MLY_ERR_UNSUPPORTED) skip();
    assert_int_equal(rc, MLY_OK);
    for (int i = 0; i < operations; i++) {
        one_operation();
        now_ms += draw(30);
        if (draw(10) == 0) follow(watch, now_ms);
        if (i % 1000 != 999) continue;
        do {
            now_ms += 1000;
            follow(watch, now_ms);
        } while (mly_watch_due(watch, now_ms) != MLY_WATCH_NEVER);
        compare();
    }
    mly_watch_close(watch);
    temp_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_kept_by_what_is_told_equals_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
