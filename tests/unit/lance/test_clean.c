/* What clean removes and what it leaves: versions by who made them and when, files by who named
 * them; and that a failure or a power cut in the midst of it leaves whole versions. */
#include "crash_env.h"
#include "fault_env.h"
#include "lance_cases.h"
#include "temp_dir.h"
#include "test_pace.h"

#include "lance/lance_int.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROWS 20

static char folder[TEMP_DIR_BYTES];
static char path[TEMP_DIR_BYTES + 16];
static struct fault_env fault;
static struct mly_lance_table *table;
static struct mly_error err;
static int64_t clock_ahead_ns; /* of the system's */

static int64_t shifted_wall(void *context)
{
    (void)context;
    const struct mly_env *env = mly_env_system();
    return env->wall_ns(env->context) + clock_ahead_ns;
}

static int setup(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/t.lance", folder);
    fault_env_init(&fault);
    clock_ahead_ns = 0;
    fault.env.wall_ns = shifted_wall;
    return mly_lance_table_open(&fault.env, path, &table, &err) == MLY_OK ? 0 : 1;
}

static int teardown(void **state)
{
    (void)state;
    mly_lance_table_close(table);
    temp_dir_remove(folder);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    return 0;
}

/* Version 1 with rows in fragment 0; versions 2 to last add a fragment each and delete two more
 * rows of fragment 0, until it is gone. */
static enum mly_err make_history(const struct mly_lance_table *on, uint64_t last,
                                 struct mly_error *error)
{
    struct mly_lance_manifest *manifest = NULL, *next = NULL;
    bool visible;
    MLY_TRY(case_create(on, 0, ROWS, &manifest, &visible, error));
    enum mly_err rc = MLY_OK;
    for (uint64_t version = 2; version <= last && rc == MLY_OK; version++) {
        uint64_t dead[] = {2 * (version - 2), 2 * (version - 2) + 1};
        size_t count = dead[1] < ROWS ? 2 : 0;
        if (count > 0) {
            rc = case_update(on, manifest, 2, dead, count, &next, &visible, error);
        } else {
            struct mly_lance_pair pair = {MLY_STR("k"), MLY_STR("v")};
            struct mly_lance_change change = {.config = &pair, .config_count = 1};
            rc = mly_lance_commit(on, manifest, &change, &next, &visible, error);
        }
        if (rc != MLY_OK) break;
        mly_lance_manifest_destroy(manifest);
        manifest = next;
    }
    mly_lance_manifest_destroy(manifest);
    return rc;
}

static struct mly_lance_cleaned clean(uint64_t versions)
{
    struct mly_lance_keep keep = {.versions = versions};
    struct mly_lance_cleaned report;
    EXPECT_OK(mly_lance_clean(table, &keep, &report, &err));
    return report;
}

/* Names in a folder of the table that end so; "." and ".." do not count. */
static size_t count_files(const char *name, const char *suffix)
{
    char dir_path[TEMP_DIR_BYTES + 64];
    size_t count = 0;
    snprintf(dir_path, sizeof(dir_path), "%s/%s", path, name);
    DIR *dir = opendir(dir_path);
    if (dir == NULL) return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        size_t bytes = strlen(entry->d_name), end = strlen(suffix);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        count += bytes >= end && strcmp(entry->d_name + bytes - end, suffix) == 0;
    }
    closedir(dir);
    return count;
}

static bool has_version(uint64_t version)
{
    char name[LANCE_VERSION_NAME_BYTES], file[TEMP_DIR_BYTES + 96];
    mly_lance_version_name(version, LANCE_NAMING_V2, name);
    snprintf(file, sizeof(file), "%s/_versions/%s", path, name);
    return access(file, F_OK) == 0;
}

/* Loads the version and reads all of it. */
static uint64_t live_rows(uint64_t version)
{
    struct mly_lance_manifest *manifest;
    uint64_t live, sum;
    EXPECT_OK(mly_lance_load_version(table, version, LANCE_NAMING_V2, &manifest, &err));
    EXPECT_OK(case_sum(table, manifest, &live, &sum, &err));
    mly_lance_manifest_destroy(manifest);
    return live;
}

/* The version after the newest, as another program makes one: with the same content. */
static void make_foreign(void)
{
    struct mly_lance_manifest *manifest;
    struct mly_bytes bytes;
    char name[LANCE_VERSION_NAME_BYTES], file[LANCE_VERSION_NAME_BYTES + 16];
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    manifest->pb->version++;
    manifest->pb->has_transaction_section = false;
    int64_t now_us = mly_clock_wall_us(&fault.env);
    MlyPb__Timestamp *time = manifest->pb->timestamp;
    if (time != NULL) time->seconds = now_us / 1000000;
    ProtobufCBinaryData own = manifest->pb->transaction_file;
    manifest->pb->transaction_file =
        lance_pb_data(MLY_STR("1-0dfd3b3f-7a3b-4a7e-8f4b-3f3f3f3f3f3f.txn"));
    mly_bytes_init(&bytes, fault.env.mem, MLY_META_BYTES_MAX);
    EXPECT_OK(mly_lance_pack_section(&manifest->pb->base, &bytes, &err));
    EXPECT_OK(mly_bytes_append_u64le(&bytes, 0, &err));
    EXPECT_OK(mly_bytes_append_u32le(&bytes, 2u << 16, &err));
    EXPECT_OK(mly_bytes_append(&bytes, "LANC", 4, &err));
    mly_lance_version_name(manifest->pb->version, LANCE_NAMING_V2, name);
    snprintf(file, sizeof(file), "_versions/%s", name);
    temp_dir_write(path, file, bytes.data, bytes.bytes);
    mly_bytes_deinit(&bytes);
    manifest->pb->transaction_file = own;
    mly_lance_manifest_destroy(manifest);
}

static void only_the_newest_versions_and_what_they_name_are_left(void **state)
{
    (void)state;
    EXPECT_OK(make_history(table, 14, &err));
    uint64_t live[] = {live_rows(14), live_rows(13)};
    struct mly_lance_cleaned report = clean(2);
    assert_int_equal(report.versions, 12);
    assert_int_equal(report.transactions, 12);
    assert_int_equal(report.data_files, 1); /* fragment 0 is dead since version 11 */
    assert_int_equal(report.deletion_files, 9);
    assert_int_equal(report.temporary_files, 0);
    assert_true(report.bytes > 1000);
    assert_false(report.is_frozen);
    assert_int_equal(count_files("_versions", ".manifest"), 2);
    assert_int_equal(count_files("_transactions", ""), 2);
    assert_int_equal(count_files("_deletions", ""), 0);
    assert_int_equal(live_rows(14), live[0]);
    assert_int_equal(live_rows(13), live[1]);
    report = clean(2);
    assert_int_equal(report.versions + report.data_files + report.transactions, 0);
    report = clean(1);
    assert_int_equal(report.versions, 1);
    assert_int_equal(live_rows(14), live[0]);
}

static void what_an_older_version_names_stays(void **state)
{
    (void)state;
    EXPECT_OK(make_history(table, 11, &err));
    uint64_t live = live_rows(10);
    struct mly_lance_cleaned report = clean(2);
    assert_int_equal(report.versions, 9);
    assert_int_equal(report.data_files, 0); /* version 10 has rows of fragment 0 */
    assert_int_equal(report.deletion_files, 8);
    assert_int_equal(live_rows(10), live);
    struct mly_lance_keep keep = {.versions = 0};
    case_expect(mly_lance_clean(table, &keep, NULL, &err), MLY_ERR_INVAL, &err);
}

static void what_a_killed_writer_left_goes_and_what_is_not_ours_stays(void **state)
{
    (void)state;
    static const char *const foreign[] = {
        "data/0110110101010101110101106c1f5a4b0e8d4d6fbd4fe6c8dbb5f7.lance",
        "data/011011010101010111010110aaaaaa8aaa8aaaaaaa6d6c7902.lance",
        "data/00000001111111110100100198ba118f73c40f001e6d6c7901.lance",
        "data/.tmpA1b2C3",
        "data/notes.bin",
        "_deletions/0-1-9876543210987654321.bin",
        "_deletions/0-1-77.arrow",
        "_deletions/0-1-77",
        "_deletions/.tmp-short",
        "_transactions/1-0dfd3b3f-7a3b-4a7e-8f4b-3f3f3f3f3f3f.txn",
        "_versions/18446744073709551000.manifest#1",
        "_versions/notes.txt",
    };
    static const char *const ours[] = {
        "data/.tmp-00112233445566778899aabbccddeeff",
        "_deletions/.tmp-00112233445566778899aabbccddeeff",
        "_transactions/.tmp-00112233445566778899aabbccddeeff",
        "_versions/.tmp-00112233445566778899aabbccddeeff",
        "_deletions/0-1-7884810240671676238.bin",
        "_transactions/7-aaaaaaaa-aaaa-8aaa-8aaa-aaaa6d6c7901.txn",
    };
    EXPECT_OK(make_history(table, 2, &err));
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        temp_dir_write(path, foreign[i], "x", 1);
    }
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        temp_dir_write(path, ours[i], "x", 1);
    }
    struct mly_lance_data_file orphan, logged;
    EXPECT_OK(case_write(table, 0, 3, &orphan, &err));
    EXPECT_OK(case_write(table, 3, 3, &logged, &err));
    const char *names[] = {"no such file", logged.name};
    struct mly_lance_keep keep = {.versions = 5, .files = names, .file_count = 2};
    struct mly_lance_cleaned report;
    EXPECT_OK(mly_lance_clean(table, &keep, &report, &err));
    assert_int_equal(report.versions, 0);
    assert_int_equal(report.temporary_files, 4);
    assert_int_equal(report.data_files, 1);
    assert_int_equal(report.deletion_files, 1);
    assert_int_equal(report.transactions, 1);
    char file[TEMP_DIR_BYTES + 128];
    for (size_t i = 0; i < sizeof(foreign) / sizeof(foreign[0]); i++) {
        snprintf(file, sizeof(file), "%s/%s", path, foreign[i]);
        assert_int_equal(access(file, F_OK), 0);
    }
    snprintf(file, sizeof(file), "%s/data/%s", path, logged.name);
    assert_int_equal(access(file, F_OK), 0);
    live_rows(1);
    live_rows(2);
    assert_int_equal(clean(5).data_files, 1);
    mly_lance_data_file_deinit(&orphan);
    mly_lance_data_file_deinit(&logged);
}

static void versions_of_others_stay_and_ours_too_for_an_hour(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest, *next;
    struct mly_lance_pair pair = {MLY_STR("k"), MLY_STR("v")};
    struct mly_lance_change change = {.config = &pair, .config_count = 1};
    EXPECT_OK(make_history(table, 3, &err));
    make_foreign();
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    assert_int_equal(mly_lance_manifest_version(manifest), 4);
    assert_false(mly_lance_manifest_is_ours(manifest));
    for (uint64_t version = 5; version <= 8; version++) {
        EXPECT_OK(mly_lance_commit(table, manifest, &change, &next, NULL, &err));
        assert_true(mly_lance_manifest_is_ours(next));
        mly_lance_manifest_destroy(manifest);
        manifest = next;
    }
    mly_lance_manifest_destroy(manifest);
    assert_int_equal(clean(2).versions, 0);
    clock_ahead_ns = (int64_t)3000 * 1000000000;
    assert_int_equal(clean(2).versions, 0);
    clock_ahead_ns = (int64_t)4200 * 1000000000;
    assert_int_equal(clean(2).versions, 5);
    assert_true(has_version(4) && has_version(7) && has_version(8));
    assert_int_equal(count_files("_versions", ".manifest"), 3);
    live_rows(4);
}

static void tagged_versions_stay_and_branches_stop_everything(void **state)
{
    (void)state;
    char file[TEMP_DIR_BYTES + 64];
    static const char tag[] = "{\n  \"branch\": null,\n  \"version\": 3,\n  \"manifestSize\": 9}";
    EXPECT_OK(make_history(table, 8, &err));
    snprintf(file, sizeof(file), "%s/_refs", path);
    assert_int_equal(mkdir(file, 0700), 0);
    snprintf(file, sizeof(file), "%s/_refs/branches", path);
    assert_int_equal(mkdir(file, 0700), 0);
    snprintf(file, sizeof(file), "%s/_refs/tags", path);
    assert_int_equal(mkdir(file, 0700), 0);
    temp_dir_write(path, "_refs/tags/a.json", tag, sizeof(tag) - 1);
    temp_dir_write(path, "_refs/branches/b.json", "{}", 2);
    temp_dir_write(path, "data/.tmp-00112233445566778899aabbccddeeff", "x", 1);
    struct mly_lance_cleaned report = clean(2);
    assert_true(report.is_frozen);
    assert_int_equal(report.versions + report.transactions + report.deletion_files, 0);
    assert_int_equal(report.temporary_files, 1);
    snprintf(file, sizeof(file), "%s/_refs/branches/b.json", path);
    assert_int_equal(unlink(file), 0);
    /* A tag that says nothing may mean anything. */
    static const char *const bad[] = {
        "",
        "{\"version\": \"x\"}",
        "{\"version\": 99999999999999999999}",
        "{\"no such key\": 3}",
        "{\"version\"",
        "{\"version\": ",
        "{\"version\": x",
        "{\"version\": ;3",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        temp_dir_write(path, "_refs/tags/c.json", bad[i], strlen(bad[i]));
        report = clean(2);
        assert_true(report.is_frozen);
        assert_int_equal(report.versions, 0);
    }
    snprintf(file, sizeof(file), "%s/_refs/tags/c.json", path);
    assert_int_equal(unlink(file), 0);
    assert_int_equal(mkdir(file, 0700), 0); /* no file at all */
    assert_true(clean(2).is_frozen);
    assert_int_equal(rmdir(file), 0);
    temp_dir_write(path, "_refs/tags/c.json", "{\"version\":7", 12); /* its end is missing */
    temp_dir_write(path, "_refs/tags/d.json", "{\"version\":7x", 13);
    report = clean(2);
    assert_false(report.is_frozen);
    assert_int_equal(report.versions, 5);
    assert_true(has_version(3) && has_version(7) && has_version(8));
    live_rows(3);
}

static void a_version_that_cannot_be_read_stops_everything(void **state)
{
    (void)state;
    char name[LANCE_VERSION_NAME_BYTES], file[LANCE_VERSION_NAME_BYTES + 16];
    EXPECT_OK(make_history(table, 6, &err));
    for (uint64_t version = 2; version <= 6; version += 4) {
        mly_lance_version_name(version, LANCE_NAMING_V2, name);
        snprintf(file, sizeof(file), "_versions/%s", name);
        temp_dir_write(path, file, "rubbish", 7);
        struct mly_lance_cleaned report = clean(2);
        assert_true(report.is_frozen);
        assert_int_equal(report.versions + report.data_files + report.transactions, 0);
    }
    temp_dir_write(path, "_versions/d123.manifest", "x", 1);
    assert_true(clean(2).is_frozen);
}

/* The newest version's manifest with other words in it. */
static void exchange(void (*change)(MlyPb__Manifest *pb))
{
    struct mly_lance_manifest *manifest;
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    MlyPb__Manifest pb = *manifest->pb;
    change(&pb);
    struct mly_lance_manifest *changed = case_exchange(table, &pb.base);
    mly_lance_manifest_destroy(changed);
    mly_lance_manifest_destroy(manifest);
}

static void say_no_time(MlyPb__Manifest *pb)
{
    pb->timestamp = NULL;
}

static MlyPb__Timestamp odd_time;

static void say_odd_time(MlyPb__Manifest *pb)
{
    odd_time.has_seconds = true;
    pb->timestamp = &odd_time;
}

/* A version of ours that does not say when it was made is as good as new: it stays where another
 * program may hold an older one. */
static void versions_without_a_time_count_as_new(void **state)
{
    (void)state;
    static const int64_t odd[] = {0, -1, INT64_MAX, INT64_MAX / 1000000};
    mly_pb__timestamp__init(&odd_time);
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        struct mly_lance_manifest *manifest, *next;
        struct mly_lance_pair pair = {MLY_STR("k"), MLY_STR("v")};
        struct mly_lance_change change = {.config = &pair, .config_count = 1};
        EXPECT_OK(make_history(table, 2, &err));
        odd_time.seconds = odd[i];
        exchange(i == 0 ? say_no_time : say_odd_time);
        make_foreign();
        EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
        for (int more = 0; more < 2; more++) {
            EXPECT_OK(mly_lance_commit(table, manifest, &change, &next, NULL, &err));
            mly_lance_manifest_destroy(manifest);
            manifest = next;
        }
        mly_lance_manifest_destroy(manifest);
        clock_ahead_ns = (int64_t)4200 * 1000000000;
        assert_int_equal(clean(2).versions, 1); /* the first */
        clock_ahead_ns = 0;
        assert_true(has_version(2));
        temp_dir_remove(path);
    }
}

/* Nothing is known of what a version names that cannot be read, and so of no file. */
static void a_version_that_is_not_understood_stops_everything(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    EXPECT_OK(make_history(table, 3, &err));
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    MlyPb__Manifest pb = *manifest->pb;
    pb.has_reader_flags = true;
    pb.reader_flags = 1 << 20;
    struct mly_bytes bytes;
    char name[LANCE_VERSION_NAME_BYTES], file[LANCE_VERSION_NAME_BYTES + 16];
    mly_bytes_init(&bytes, fault.env.mem, MLY_META_BYTES_MAX);
    pb.version = 2;
    EXPECT_OK(mly_lance_pack_section(&pb.base, &bytes, &err));
    EXPECT_OK(mly_bytes_append_u64le(&bytes, 0, &err));
    EXPECT_OK(mly_bytes_append_u32le(&bytes, 2u << 16, &err));
    EXPECT_OK(mly_bytes_append(&bytes, "LANC", 4, &err));
    mly_lance_version_name(2, LANCE_NAMING_V2, name);
    snprintf(file, sizeof(file), "_versions/%s", name);
    temp_dir_write(path, file, bytes.data, bytes.bytes);
    mly_bytes_deinit(&bytes);
    mly_lance_manifest_destroy(manifest);
    struct mly_lance_data_file orphan;
    EXPECT_OK(case_write(table, 0, 3, &orphan, &err));
    /* No version goes for age: it is met where files are looked for. */
    struct mly_lance_cleaned report = clean(5);
    assert_true(report.is_frozen);
    assert_int_equal(report.data_files, 0);
    report = clean(1);
    assert_true(report.is_frozen);
    assert_int_equal(report.versions, 0);
    mly_lance_data_file_deinit(&orphan);
}

/* Names that only others give, of any length; and nothing of ours is there to go. */
static void tables_of_others_keep_everything(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    MlyPb__DataFile file = MLY_PB__DATA_FILE__INIT, *files[] = {&file};
    MlyPb__Fragment fragment = MLY_PB__FRAGMENT__INIT, *fragments[] = {&fragment};
    static char long_name[200];
    char old[TEMP_DIR_BYTES + 400];
    memset(long_name, 'n', sizeof(long_name) - 1);
    EXPECT_OK(make_history(table, 1, &err));
    EXPECT_OK(mly_lance_manifest_load(table, &manifest, &err));
    MlyPb__Manifest pb = *manifest->pb;
    struct mly_str name = lance_pb_str(pb.fragments[0]->files[0]->path);
    snprintf(old, sizeof(old), "%s/data/%.*s", path, (int)name.bytes, name.data);
    assert_int_equal(unlink(old), 0);
    name = lance_pb_str(pb.transaction_file);
    snprintf(old, sizeof(old), "%s/_transactions/%.*s", path, (int)name.bytes, name.data);
    assert_int_equal(unlink(old), 0);
    file.has_path = true;
    file.path = lance_pb_data(mly_str_of(long_name));
    fragment.files = files;
    fragment.n_files = 1;
    pb.fragments = fragments;
    pb.n_fragments = 1;
    mly_lance_manifest_destroy(case_exchange(table, &pb.base));
    assert_int_equal(clean(1).data_files, 0); /* no candidate */
    struct mly_lance_data_file orphan;
    EXPECT_OK(case_write(table, 0, 3, &orphan, &err));
    assert_int_equal(clean(1).data_files, 1);
    mly_lance_data_file_deinit(&orphan);
    mly_lance_manifest_destroy(manifest);
}

static void no_table_is_nothing_to_clean(void **state)
{
    (void)state;
    struct mly_lance_data_file file;
    assert_int_equal(clean(1).versions, 0);
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(case_write(table, 0, 3, &file, &err));
    assert_int_equal(clean(1).data_files, 0);
    mly_lance_data_file_deinit(&file);
}

/* Every version that is there can be read to its end, and the newest is there. */
static bool check_versions(const struct mly_lance_table *on, uint64_t newest, uint64_t oldest_kept)
{
    for (uint64_t version = 1; version <= newest; version++) {
        struct mly_lance_manifest *manifest;
        struct mly_error error;
        uint64_t live, sum;
        enum mly_err rc = mly_lance_load_version(on, version, LANCE_NAMING_V2, &manifest, &error);
        if (rc == MLY_ERR_NOTFOUND && version < oldest_kept) continue;
        if (rc != MLY_OK) return false;
        rc = case_sum(on, manifest, &live, &sum, &error);
        mly_lance_manifest_destroy(manifest);
        if (rc != MLY_OK) return false;
    }
    return true;
}

static void every_failure_leaves_whole_versions(void **state)
{
    (void)state;
    struct mly_lance_keep keep = {.versions = 2};
    for (int by_memory = 0; by_memory < 2; by_memory++) {
        enum mly_err rc = MLY_ERR_IO;
        for (uint64_t fail_at = 1; rc != MLY_OK; fail_at += TEST_PACE(1, 5, 7)) {
            struct mly_lance_cleaned report;
            EXPECT_OK(make_history(table, 12, &err));
            if (by_memory == 1) {
                fault.mem.fail_at = fault.mem.calls + fail_at;
            } else {
                fault.calls = 0;
                fault.fail_at = fail_at;
                fault.fail_errno = EIO;
            }
            err.message[0] = '\0';
            rc = mly_lance_clean(table, &keep, &report, &err);
            bool reached = by_memory == 1 || fault.calls >= fail_at;
            fault_env_reset(&fault);
            fault.mem.fail_at = 0;
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            assert_true(check_versions(table, 12, 11));
            temp_dir_remove(path);
            if (rc == MLY_OK && reached && by_memory == 0) rc = MLY_ERR_IO; /* a close: go on */
            if (!reached) break;
        }
    }
}

static bool check_cut(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    (void)context;
    (void)choice;
    struct mly_lance_table *cut;
    struct mly_error error;
    EXPECT_OK(mly_lance_table_open(&after->env, "/t.lance", &cut, &error));
    bool whole = check_versions(cut, 12, 11);
    mly_lance_table_close(cut);
    return whole;
}

/* True where every power cut during a clean leaves whole versions. */
static bool survives_power_cuts(uint64_t skip, uint64_t *syncs, uint64_t *states, bool *idle)
{
    struct crash_env crash;
    struct mly_lance_table *on;
    struct mly_lance_keep keep = {.versions = 2};
    crash_env_init(&crash);
    EXPECT_OK(mly_lance_table_open(&crash.env, "/t.lance", &on, &err));
    EXPECT_OK(make_history(on, 12, &err));
    struct crash_effort effort = {crash_env_now(&crash), CRASH_ALL_SINGLES, TEST_PACE(20, 5, 3), 0,
                                  0};
    crash.skip_sync = skip == 0 ? 0 : crash.syncs + skip;
    uint64_t before = crash.syncs;
    EXPECT_OK(mly_lance_clean(on, &keep, NULL, &err));
    *syncs = crash.syncs - before;
    *idle = skip != 0 && !crash.skipped_work;
    mly_lance_table_close(on);
    bool survived = crash_env_each(&crash, effort, check_cut, NULL, states);
    crash_env_deinit(&crash);
    return survived;
}

static void every_power_cut_leaves_whole_versions(void **state)
{
    (void)state;
    uint64_t syncs, states = 0, ignored;
    bool idle;
    assert_true(survives_power_cuts(0, &syncs, &states, &idle));
    print_message("%llu crash states, %llu syncs\n", (unsigned long long)states,
                  (unsigned long long)syncs);
    assert_true(states > TEST_PACE(200, 100, 80));
    assert_true(syncs > 0);
    for (uint64_t skip = 1; skip <= syncs; skip++) {
        assert_false(survives_power_cuts(skip, &ignored, &states, &idle));
        assert_false(idle);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_the_newest_versions_and_what_they_name_are_left),
        TEST(what_an_older_version_names_stays),
        TEST(what_a_killed_writer_left_goes_and_what_is_not_ours_stays),
        TEST(versions_of_others_stay_and_ours_too_for_an_hour),
        TEST(tagged_versions_stay_and_branches_stop_everything),
        TEST(a_version_that_cannot_be_read_stops_everything),
        TEST(versions_without_a_time_count_as_new),
        TEST(a_version_that_is_not_understood_stops_everything),
        TEST(tables_of_others_keep_everything),
        TEST(no_table_is_nothing_to_clean),
        TEST(every_failure_leaves_whole_versions),
        TEST(every_power_cut_leaves_whole_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
