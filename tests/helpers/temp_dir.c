/* mkdtemp and nftw: tests may use the system directly. */
#define _GNU_SOURCE
#include "temp_dir.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void temp_dir_make(char path[TEMP_DIR_BYTES])
{
    const char *root = getenv("TMPDIR");
    /* Fault loops make thousands of stores and sync each of them: on a disk that takes minutes. */
    if (root == NULL && access("/dev/shm", W_OK) == 0) root = "/dev/shm";
    int bytes = snprintf(path, TEMP_DIR_BYTES, "%s/memalloy-test-XXXXXX",
                         root != NULL && root[0] != '\0' ? root : "/tmp");
    if (bytes < 0 || bytes >= TEMP_DIR_BYTES || mkdtemp(path) == NULL) {
        perror("temp_dir_make");
        abort();
    }
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)where;
    if (kind == FTW_DNR) chmod(path, 0700);
    return remove(path);
}

static int open_up(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)where;
    if (kind == FTW_DNR || (kind == FTW_D && (info->st_mode & 0700u) != 0700u)) chmod(path, 0700);
    return 0;
}

void temp_dir_remove(const char *path)
{
    nftw(path, open_up, 16, FTW_PHYS);
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void temp_dir_write(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        perror(path);
        abort();
    }
}
