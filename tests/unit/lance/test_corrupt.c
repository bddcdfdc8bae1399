/* Files that are damaged, cut or hostile: every byte of every file of small tables, ours and the
 * official library's, is changed in turn. The table is then read whole: an error with a message, or
 * values, but never a crash, a leak or a hang (the sanitizers watch). */
#include "fault_env.h"
#include "lance_cases.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_BYTES_MAX 65536

struct file {
    char path[TEMP_DIR_BYTES + 400];
    size_t bytes;
    uint8_t data[FILE_BYTES_MAX];
};

static struct file file;

static void load_file(const char *path)
{
    snprintf(file.path, sizeof(file.path), "%s", path);
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    file.bytes = fread(file.data, 1, sizeof(file.data), stream);
    assert_true(file.bytes > 0 && file.bytes < sizeof(file.data));
    fclose(stream);
}

static void store_file(size_t bytes)
{
    FILE *stream = fopen(file.path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(file.data, 1, bytes, stream), bytes);
    fclose(stream);
}

static void store_byte(size_t i, uint8_t value)
{
    FILE *stream = fopen(file.path, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, (long)i, SEEK_SET), 0);
    assert_int_equal(fputc(value, stream), value);
    fclose(stream);
}

/* Reads the table whole; what was opened is closed again. */
static enum mly_err read_table(const char *path)
{
    static struct fault_env fault;
    struct mly_error err = {0};
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest = NULL;
    uint64_t live, sum;
    fault_env_init(&fault);
    EXPECT_OK(mly_lance_table_open(&fault.env, path, &table, &err));
    enum mly_err rc = mly_lance_manifest_load(table, &manifest, &err);
    if (rc == MLY_OK && manifest != NULL) rc = case_sum(table, manifest, &live, &sum, &err);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    bool known = rc == MLY_OK || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_UNSUPPORTED ||
                 rc == MLY_ERR_NOTFOUND || rc == MLY_ERR_LIMIT;
    if (!known) print_message("%d: %s\n", (int)rc, err.message);
    assert_true(known);
    if (rc != MLY_OK) assert_true(err.message[0] != '\0');
    return rc;
}

static void damage(const char *table, const char *path)
{
    static const uint8_t patterns[] = {0x01, 0x80, 0xFF};
    size_t noticed = 0, tried = 0;
    load_file(path);
    for (size_t i = 0; i < file.bytes; i++) {
        for (size_t j = 0; j < sizeof(patterns); j++) {
            store_byte(i, file.data[i] ^ patterns[j]);
            noticed += read_table(table) != MLY_OK;
            tried++;
        }
        store_byte(i, file.data[i]);
    }
    /* Every length near the end, where the tables of contents are, and some before. */
    size_t step = file.bytes / 100 + 1;
    for (size_t bytes = 0; bytes < file.bytes; bytes += file.bytes - bytes < 200 ? 1 : step) {
        store_file(bytes);
        assert_int_not_equal(read_table(table), MLY_OK);
    }
    store_file(file.bytes);
    assert_int_equal(read_table(table), MLY_OK);
    print_message("%s: %zu of %zu changes noticed\n", strrchr(path, '/') + 1, noticed, tried);
    assert_true(noticed > 0);
}

/* A generator of our own, so that every machine makes the same changes (Marsaglia 2003, xorshift).
 */
static uint64_t chance(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#ifndef MANY_CHANGES_ROUNDS
#define MANY_CHANGES_ROUNDS 500
#endif

/* Several bytes at once: numbers of any size, runs copied to elsewhere; most near the end, where
 * everything is said that the rest depends on. */
static void damage_much(const char *table, const char *path)
{
    static uint8_t original[FILE_BYTES_MAX];
    static const uint64_t numbers[] = {0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, UINT64_MAX};
    uint64_t state = 88172645463325252u;
    load_file(path);
    memcpy(original, file.data, file.bytes);
    for (int round = 0; round < MANY_CHANGES_ROUNDS; round++) {
        size_t from = file.bytes > 1500 && round % 4 != 0 ? file.bytes - 1500 : 0;
        for (uint64_t left = 1 + chance(&state) % 4; left > 0; left--) {
            size_t at = from + (size_t)(chance(&state) % (file.bytes - from));
            size_t bytes = 1 + (size_t)(chance(&state) % 8);
            size_t other = from + (size_t)(chance(&state) % (file.bytes - from));
            uint64_t number = numbers[chance(&state) % 7];
            if (at + bytes > file.bytes || other + bytes > file.bytes) continue;
            if (chance(&state) % 2 == 0) {
                memcpy(file.data + at, &number, bytes);
            } else {
                memmove(file.data + at, file.data + other, bytes);
            }
        }
        store_file(file.bytes);
        enum mly_err rc = read_table(table);
        (void)rc; /* Any of those that read_table allows. */
        memcpy(file.data, original, file.bytes);
    }
    store_file(file.bytes);
    assert_int_equal(read_table(table), MLY_OK);
}

/* Every file of a folder of the table. */
static void damage_folder(const char *table, const char *folder)
{
    struct mly_error err;
    struct mly_dir dir;
    char path[TEMP_DIR_BYTES + 300], name[TEMP_DIR_BYTES + 64];
    const char *entry;
    snprintf(name, sizeof(name), "%s/%s", table, folder);
    EXPECT_OK(mly_dir_open(mly_env_system(), MLY_AT_CWD, name, &dir, &err));
    for (;;) {
        EXPECT_OK(mly_dir_next(&dir, &entry, &err));
        if (entry == NULL) break;
        /* Hints are not read, and of the versions only the newest is. */
        if (strstr(entry, ".json") != NULL) continue;
        if (strcmp(entry, "18446744073709551614.manifest") == 0) continue;
        snprintf(path, sizeof(path), "%s/%s", name, entry);
        damage(table, path);
        damage_much(table, path);
    }
    mly_dir_close(&dir);
}

static void every_byte_of_our_files_may_change(void **state)
{
    (void)state;
    char folder[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 32];
    struct mly_error err;
    struct mly_lance_table *table;
    struct mly_lance_manifest *first, *second;
    const uint64_t dead[] = {1, 2};
    bool visible;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/t.lance", folder);
    EXPECT_OK(mly_lance_table_open(mly_env_system(), path, &table, &err));
    EXPECT_OK(case_create(table, 0, 10, &first, &visible, &err));
    EXPECT_OK(case_update(table, first, 1, dead, 2, &second, &visible, &err));
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(second);
    mly_lance_table_close(table);
    damage_folder(path, "_versions");
    damage_folder(path, "_deletions");
    damage_folder(path, "data");
    temp_dir_remove(folder);
}

static void damage_copy_of(const char *name)
{
    char folder[TEMP_DIR_BYTES], path[TEMP_DIR_BYTES + 32], command[1024];
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/%s.lance", folder, name);
    snprintf(command, sizeof(command), "cp -r '%s/%s.lance' '%s'", LANCE_DATA, name, path);
    assert_int_equal(system(command), 0);
    damage_folder(path, "_versions");
    damage_folder(path, "_deletions");
    damage_folder(path, "data");
    temp_dir_remove(folder);
}

static void every_byte_of_official_files_may_change(void **state)
{
    (void)state;
    damage_copy_of("raw");
}

static void every_byte_of_official_files_with_zstd_may_change(void **state)
{
    (void)state;
    damage_copy_of("zstd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_our_files_may_change),
        cmocka_unit_test(every_byte_of_official_files_may_change),
        cmocka_unit_test(every_byte_of_official_files_with_zstd_may_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
