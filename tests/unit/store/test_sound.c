/* A newest manifest that is damaged: the store opens from the one before and the log, says so, and
 * keeps what is damaged; where the log cannot help, the file is named. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES 12
static const char *const tables[2] = {"documents.lance", "chunks.lance"};

static char folder[TEMP_DIR_BYTES];
static struct case_entry entries[ENTRIES];
static struct mly_error err;

static struct mly_store *open_store(bool read_only)
{
    struct mly_store *store;
    struct mly_store_options options = case_options();
    options.read_only = read_only;
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    return store;
}

/* One more checkpoint: documents are added and one is replaced. */
static void write_more(uint32_t first, uint32_t count)
{
    struct mly_store *store = open_store(false);
    for (uint32_t i = first; i < first + count; i++) {
        case_ok(case_put(store, i, i + 1, &err), &err);
        entries[i] = case_entry(true, i + 1, 0);
    }
    case_ok(case_put(store, 0, first + 2, &err), &err);
    entries[0] = case_entry(true, first + 2, 0);
    case_ok(mly_store_close(store, &err), &err);
}

static int setup(void **state)
{
    (void)state;
    temp_dir_make(folder);
    memset(entries, 0, sizeof(entries));
    for (uint32_t first = 0; first < 8; first += 2)
        write_more(first, 2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

/* The newest manifest has the lowest name. */
static void newest_manifest(const char *table, char *out, size_t bytes)
{
    char path[TEMP_DIR_BYTES + 64], best[300] = "";
    snprintf(path, sizeof(path), "%s/%s/_versions", folder, table);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strstr(entry->d_name, ".manifest") == NULL) continue;
        if (best[0] == '\0' || strcmp(entry->d_name, best) < 0) {
            snprintf(best, sizeof(best), "%s", entry->d_name);
        }
    }
    closedir(dir);
    assert_true(best[0] != '\0');
    assert_true(snprintf(out, bytes, "%s/%s", path, best) < (int)bytes);
}

static void damage(const char *path)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 100, SEEK_SET), 0);
    assert_int_equal(fputc('#', file), '#');
    fclose(file);
}

static size_t count_lost(void)
{
    char path[TEMP_DIR_BYTES + 64];
    size_t count = 0;
    snprintf(path, sizeof(path), "%s/_memalloy/lost+found", folder);
    DIR *dir = opendir(path);
    if (dir == NULL) return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir))
        count += strstr(entry->d_name, ".manifest") != NULL;
    closedir(dir);
    return count;
}

static void check_report(struct mly_store *store, const char *path, bool kept)
{
    struct mly_store_report report;
    mly_store_get_report(store, &report);
    if (path == NULL) {
        assert_string_equal(report.reason, "");
    } else {
        assert_non_null(strstr(report.reason, path));
    }
    assert_int_equal(report.kept, kept);
}

static void nothing_is_lost_with_the_newest_manifest(void **state)
{
    (void)state;
    size_t lost = 0;
    for (int which = 1; which <= 3; which++) {
        char path[600] = "";
        size_t damaged = 0;
        for (int i = 0; i < 2; i++) {
            if ((which & 1 << i) == 0) continue;
            newest_manifest(tables[i], path, sizeof(path));
            damage(path);
            damaged++;
        }
        /* A reader does not touch it, and looks twice. */
        struct mly_store *store = open_store(true);
        case_check(store, entries, ENTRIES);
        case_check(store, entries, ENTRIES);
        check_report(store, path, false);
        case_ok(mly_store_close(store, &err), &err);
        assert_int_equal(count_lost(), lost);

        store = open_store(false);
        case_check(store, entries, ENTRIES);
        case_ok(case_put(store, 8, (uint32_t)which, &err), &err);
        entries[8] = case_entry(true, (uint32_t)which, 0);
        lost += damaged;
        assert_int_equal(count_lost(), lost);
        case_check(store, entries, ENTRIES);
        check_report(store, path, true);
        case_ok(mly_store_close(store, &err), &err);

        store = open_store(true);
        case_check(store, entries, ENTRIES);
        check_report(store, NULL, false);
        case_ok(mly_store_close(store, &err), &err);
        write_more(9, 2);
    }
}

static void expect_corrupt(const char *path)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    for (int i = 0; i < 2; i++) {
        options.read_only = i == 0;
        assert_int_equal(mly_store_open(mly_env_system(), folder, &options, &store, &err),
                         MLY_ERR_CORRUPT);
        assert_non_null(strstr(err.message, path));
    }
    assert_int_equal(count_lost(), 0);
}

static void without_the_log_the_damaged_manifest_is_named(void **state)
{
    (void)state;
    char path[600], wal[TEMP_DIR_BYTES + 32];
    newest_manifest(tables[1], path, sizeof(path));
    damage(path);
    snprintf(wal, sizeof(wal), "%s/_memalloy/wal", folder);
    temp_dir_remove(wal);
    expect_corrupt(path);
}

static void the_manifest_of_another_program_is_named(void **state)
{
    (void)state;
    char path[600];
    newest_manifest(tables[0], path, sizeof(path));
    /* The next version, half written by somebody who does not sync. */
    char *name = strrchr(path, '/') + 1;
    unsigned long long number = strtoull(name, NULL, 10);
    snprintf(name, sizeof(path) - (size_t)(name - path), "%020llu.manifest", number - 1);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fclose(file);
    expect_corrupt(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_lost_with_the_newest_manifest),
        TEST(without_the_log_the_damaged_manifest_is_named),
        TEST(the_manifest_of_another_program_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
