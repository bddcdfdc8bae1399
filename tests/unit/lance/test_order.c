/* The order of syncs, watched at the system table: when a manifest gets its name, everything that
 * it names is durable, content and name; and when the commit says OK, so is the manifest. */
#include "lance_cases.h"
#include "temp_dir.h"

#include <stdio.h>
#include <string.h>

#define FILES_MAX 64
#define FDS_MAX 1024

/* What the system has been told of a file, by its path. */
struct watched {
    char path[512];
    bool content_synced; /* nothing was written since its last sync */
    bool name_synced;    /* its folder was synced since it got this name */
};

static struct watched files[FILES_MAX];
static size_t file_count;
static char fd_paths[FDS_MAX][512];
static struct mly_env env;
static size_t links;
static struct mly_error err;

static struct watched *find(const char *path)
{
    for (size_t i = 0; i < file_count; i++) {
        if (strcmp(files[i].path, path) == 0) return &files[i];
    }
    return NULL;
}

static int watch_open(void *context, int dir_fd, const char *path, uint32_t flags)
{
    int fd = mly_env_system()->open(context, dir_fd, path, flags);
    if (fd < 0) return fd;
    assert_true(fd < FDS_MAX);
    snprintf(fd_paths[fd], sizeof(fd_paths[fd]), "%s", path);
    if ((flags & MLY_OPEN_CREATE) != 0) {
        assert_true(file_count < FILES_MAX);
        snprintf(files[file_count].path, sizeof(files[file_count].path), "%s", path);
        files[file_count].content_synced = false;
        files[file_count++].name_synced = false;
    }
    return fd;
}

static int64_t watch_pwrite(void *context, int fd, const void *data, size_t bytes, uint64_t offset)
{
    struct watched *file = find(fd_paths[fd]);
    assert_non_null(file);
    file->content_synced = false;
    return mly_env_system()->pwrite(context, fd, data, bytes, offset);
}

static int watch_sync_data(void *context, int fd)
{
    struct watched *file = find(fd_paths[fd]);
    assert_non_null(file);
    file->content_synced = true;
    return mly_env_system()->sync_data(context, fd);
}

static int watch_sync_dir(void *context, int fd)
{
    size_t bytes = strlen(fd_paths[fd]);
    for (size_t i = 0; i < file_count; i++) {
        const char *path = files[i].path;
        if (strncmp(path, fd_paths[fd], bytes) != 0 || path[bytes] != '/') continue;
        if (strchr(path + bytes + 1, '/') == NULL) files[i].name_synced = true;
    }
    return mly_env_system()->sync_dir(context, fd);
}

static int watch_rename(void *context, int dir_fd, const char *from, const char *to)
{
    struct watched *file = find(from);
    assert_non_null(file);
    /* The hint alone may be lost. */
    if (strstr(to, "hint") == NULL) assert_true(file->content_synced);
    struct watched *old = find(to);
    if (old != NULL) old->path[0] = '\0';
    snprintf(file->path, sizeof(file->path), "%s", to);
    file->name_synced = false;
    return mly_env_system()->rename(context, dir_fd, from, to);
}

static bool is_in(const char *path, const char *folder)
{
    return strstr(path, folder) != NULL;
}

static int watch_link(void *context, int dir_fd, const char *from, const char *to)
{
    struct watched *manifest = find(from);
    assert_non_null(manifest);
    assert_true(manifest->content_synced);
    size_t named[3] = {0};
    for (size_t i = 0; i < file_count; i++) {
        const struct watched *file = &files[i];
        bool counts[] = {is_in(file->path, "/data/"), is_in(file->path, "/_deletions/"),
                         is_in(file->path, "/_transactions/")};
        for (size_t j = 0; j < 3; j++) {
            named[j] += counts[j];
            if (!counts[j]) continue;
            assert_true(file->content_synced);
            assert_true(file->name_synced);
        }
    }
    links++;
    assert_int_equal(named[0], links);
    assert_int_equal(named[1], links - 1);
    assert_int_equal(named[2], links);
    snprintf(manifest->path, sizeof(manifest->path), "%s", to);
    manifest->name_synced = false;
    return mly_env_system()->link(context, dir_fd, from, to);
}

static void what_a_manifest_names_is_durable_before_it_has_a_name(void **state)
{
    (void)state;
    char folder[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 32];
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest, *next;
    bool visible;
    temp_dir_make(folder);
    env = *mly_env_system();
    env.open = watch_open;
    env.pwrite = watch_pwrite;
    env.sync_data = watch_sync_data;
    env.sync_dir = watch_sync_dir;
    env.rename = watch_rename;
    env.link = watch_link;
    snprintf(path, sizeof(path), "%s/t.lance", folder);
    EXPECT_OK(mly_lance_table_open(&env, path, &table, &err));
    EXPECT_OK(case_create(table, 0, 20, &manifest, &visible, &err));
    for (uint64_t dead = 3; dead < 6; dead++) {
        EXPECT_OK(case_update(table, manifest, 2, &dead, 1, &next, &visible, &err));
        mly_lance_manifest_destroy(manifest);
        manifest = next;
    }
    assert_int_equal(links, 4);
    for (size_t i = 0; i < file_count; i++) {
        if (is_in(files[i].path, ".manifest")) assert_true(files[i].name_synced);
    }
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
    temp_dir_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_manifest_names_is_durable_before_it_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
