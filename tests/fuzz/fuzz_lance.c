/* A file of a Lance table. Input: a byte that picks manifest, data or deletion file, and its bytes;
 * the others are as our writers made them. The table is then read whole. */
#include "fuzz.h"

#include "lance_cases.h"
#include "temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILES 3
static struct fuzz_input good[FILES];
static char names[FILES][600], table_path[TEMP_DIR_BYTES + 32];

/* The last file of a folder by name is taken: which one that is does not matter. */
static void load(const char *folder, size_t file)
{
    char path[TEMP_DIR_BYTES + 640];
    snprintf(path, sizeof(path), "%s/%s", table_path, folder);
    DIR *stream = opendir(path);
    fuzz_check(stream != NULL, "a table has its folders");
    for (const struct dirent *entry; (entry = readdir(stream)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof(path), "%s/%.300s", folder, entry->d_name);
        if (strcmp(path, names[file]) > 0 && file != 0) memcpy(names[file], path, sizeof(names[0]));
        /* Manifests are counted down, so that the newest is the first. */
        if (file == 0 && (names[0][0] == '\0' || strcmp(path, names[0]) < 0)) {
            memcpy(names[0], path, sizeof(names[0]));
        }
    }
    closedir(stream);
    snprintf(path, sizeof(path), "%s/%s", table_path, names[file]);
    FILE *from = fopen(path, "rb");
    fuzz_check(from != NULL, "a table's file can be read");
    good[file].count = fread(good[file].bytes, 1, FUZZ_INPUT_MAX, from);
    fclose(from);
}

static void make_table(void)
{
    struct mly_error err = {0};
    struct mly_lance_table *table = NULL;
    struct mly_lance_manifest *first = NULL, *second = NULL;
    const uint64_t dead[] = {1, 2};
    bool visible;
    if (table_path[0] != '\0') return;
    snprintf(table_path, sizeof(table_path), "%s/t.lance", fuzz_dir());
    fuzz_check(mly_lance_table_open(mly_env_system(), table_path, &table, &err) == MLY_OK &&
                   case_create(table, 0, 10, &first, &visible, &err) == MLY_OK &&
                   case_update(table, first, 1, dead, 2, &second, &visible, &err) == MLY_OK,
               "a table can be made");
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(second);
    mly_lance_table_close(table);
    load("_versions", 0);
    load("data", 1);
    load("_deletions", 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fault_env fault;
    struct mly_error err = {0};
    struct mly_lance_table *table = NULL;
    struct mly_lance_manifest *manifest = NULL;
    uint64_t live, sum;
    make_table();
    if (bytes < 1) return 0;
    const size_t file = data[0] % FILES;
    temp_dir_write(table_path, names[file], data + 1, bytes - 1);
    fault_env_init(&fault);
    enum mly_err rc = mly_lance_table_open(&fault.env, table_path, &table, &err);
    if (rc == MLY_OK) rc = mly_lance_manifest_load(table, &manifest, &err);
    if (rc == MLY_OK && manifest != NULL) rc = case_sum(table, manifest, &live, &sum, &err);
    fuzz_check_result(rc, &err);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
    fuzz_check_clean(&fault);
    temp_dir_write(table_path, names[file], good[file].bytes, good[file].count);
    return 0;
}

bool fuzz_seed(size_t i, struct fuzz_input *out)
{
    make_table();
    if (i >= FILES) return false;
    fuzz_put_byte(out, (uint8_t)i);
    fuzz_put(out, good[i].bytes, good[i].count);
    return true;
}
