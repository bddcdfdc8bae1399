/* Opening, writing and reading back, one promise of the door after the other. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "lance/lance.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    char folder[TEMP_DIR_BYTES];
    char path[TEMP_DIR_BYTES + 64];
};

static int set_up(void **state)
{
    static struct place place;
    temp_dir_make(place.folder);
    /* parents that do not exist, and a space */
    snprintf(place.path, sizeof(place.path), "%s/a b/kb", place.folder);
    *state = &place;
    return 0;
}

static int tear_down(void **state)
{
    const struct place *place = *state;
    temp_dir_remove(place->folder);
    return 0;
}

static struct mly_store *open_store(const struct place *place)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    case_ok(mly_store_open(mly_env_system(), place->path, &options, &store, &err), &err);
    return store;
}

static enum mly_err try_open(const struct place *place, const struct mly_store_options *options,
                             struct mly_error *err)
{
    struct mly_store *store = NULL;
    enum mly_err rc = mly_store_open(mly_env_system(), place->path, options, &store, err);
    (void)mly_store_close(store, NULL);
    return rc;
}

static void a_folder_that_does_not_exist_is_an_empty_store_and_stays_missing(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &counts);
    assert_int_equal(counts.documents + counts.skipped + counts.chunks, 0);
    assert_int_equal(counts.documents_version + counts.chunks_version, 0);
    assert_int_equal(mly_snapshot_block_count(snapshot), 0);
    assert_null(mly_snapshot_model_id(snapshot).data);
    mly_snapshot_release(snapshot);
    case_check(store, NULL, 0);
    (void)mly_store_close(store, NULL);
    assert_int_equal(access(place->path, F_OK), -1);
    struct mly_store_options options = {.read_only = true};
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_NOTFOUND);
    assert_non_null(strstr(err.message, place->path));
}

static void a_document_is_added_replaced_touched_and_removed(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    struct case_entry entries[3] = {{0}};
    case_ok(case_put(store, 0, 1, &err), &err);
    entries[0] = case_entry(true, 1, 0);
    case_check(store, entries, 3);
    case_ok(case_put(store, 1, 3, &err), &err);
    entries[1] = case_entry(true, 3, 0);
    case_check(store, entries, 3);
    case_ok(case_put(store, 1, 4, &err), &err);
    entries[1].version = 4;
    case_check(store, entries, 3);
    case_ok(case_put(store, 2, 0, &err), &err); /* a file that is skipped */
    entries[2] = case_entry(true, 0, 0);
    case_check(store, entries, 3);

    struct case_document touched;
    case_make(&touched, 1, 4, 9);
    struct mly_change touch = {.kind = MLY_CHANGE_TOUCH, .document = touched.document};
    case_ok(case_commit(store, &touch, 1, &err), &err);
    entries[1].stamp = 9;
    case_check(store, entries, 3);

    case_ok(case_remove(store, 0, &err), &err);
    entries[0].there = false;
    case_check(store, entries, 3);
    (void)mly_store_close(store, NULL);
    store = open_store(place);
    case_check(store, entries, 3);
    (void)mly_store_close(store, NULL);
}

static void changes_of_all_kinds_go_into_one_commit(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    static struct case_document documents[40];
    struct mly_change changes[40];
    struct case_entry entries[40];
    for (uint32_t i = 0; i < 40; i++) {
        case_make(&documents[i], i, i % 5, 0);
        changes[i] = case_change(&documents[i]);
        entries[i] = case_entry(true, i % 5, 0);
    }
    case_ok(case_commit(store, changes, 40, &err), &err);
    case_check(store, entries, 40);
    for (uint32_t i = 0; i < 20; i++) { /* 0 to 9 removed, 10 to 19 replaced */
        case_make(&documents[i], i, 7, 0);
        changes[i] = case_change(&documents[i]);
        entries[i] = case_entry(i >= 10, 7, 0);
        if (i < 10) changes[i].kind = MLY_CHANGE_REMOVE;
    }
    case_ok(case_commit(store, changes, 20, &err), &err);
    case_check(store, entries, 40);
    (void)mly_store_close(store, NULL);
}

static void an_old_snapshot_stays_what_it_was(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    struct mly_mem mem = MLY_MEM_INIT;
    struct case_entry before[2] = {case_entry(true, 1, 0), case_entry(true, 2, 0)};
    struct case_entry after[2] = {case_entry(true, 3, 0), case_entry(false, 0, 0)};
    struct mly_snapshot *snapshot;
    case_ok(case_put(store, 0, 1, &err), &err);
    case_ok(case_put(store, 1, 2, &err), &err);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    case_ok(case_put(store, 0, 3, &err), &err);
    case_ok(case_remove(store, 1, &err), &err);
    case_check(store, after, 2);
    case_check_snapshot(snapshot, &mem, before, 2);
    mly_snapshot_release(snapshot);
    (void)mly_store_close(store, NULL);
}

static void removing_what_is_not_there_changes_nothing(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    struct mly_store_counts before;
    struct mly_store_counts after;
    struct mly_snapshot *snapshot;
    case_ok(case_put(store, 0, 1, &err), &err);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &before);
    mly_snapshot_release(snapshot);
    case_ok(case_remove(store, 1, &err), &err);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &after);
    mly_snapshot_release(snapshot);
    assert_int_equal(before.documents_version, after.documents_version);
    assert_int_equal(before.chunks_version, after.chunks_version);
    assert_int_equal(before.documents, after.documents);
    (void)mly_store_close(store, NULL);
}

static void bad_changes_are_refused_and_change_nothing(void **state)
{
    const struct place *place = *state;
    struct mly_store_options options = case_options();
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    options.dim = 0;
    case_ok(mly_store_open(mly_env_system(), place->path, &options, &store, &err), &err);
    assert_int_equal(case_put(store, 0, 1, &err), MLY_ERR_INVAL); /* no dimension yet */
    assert_non_null(strstr(err.message, "dimension"));
    case_ok(mly_store_set_model(store, MLY_STR_NULL, MLY_STR_NULL, CASE_DIM, &err), &err);
    struct case_document document;
    case_make(&document, 0, 1, 0);
    struct mly_change change = case_change(&document);
    change.document.id = MLY_STR("");
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_INVAL);
    char id[600];
    memset(id, 'x', sizeof(id));
    change.document.id = (struct mly_str){id, 513};
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_INVAL);
    change.document.id = MLY_STR("a");
    document.rows[0].vector = NULL;
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_INVAL);
    struct case_entry none = {0};
    case_check(store, &none, 1);
    assert_int_equal(mly_store_commit(store, &change, 1, MLY_DURABILITY_DEFAULT, &err),
                     MLY_ERR_INTERNAL); /* no begin */
    case_ok(case_put(store, 0, 1, &err), &err);
    struct case_entry one = case_entry(true, 1, 0);
    case_check(store, &one, 1);
    (void)mly_store_close(store, NULL);
}

static void another_model_or_dimension_is_a_mismatch(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    case_ok(case_put(store, 0, 1, &err), &err);
    struct mly_snapshot *snapshot;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    assert_true(mly_str_equal(mly_snapshot_model_id(snapshot), MLY_STR("test-model")));
    assert_true(mly_str_equal(mly_snapshot_model_hash(snapshot), MLY_STR("00ff")));
    mly_snapshot_release(snapshot);
    assert_int_equal(mly_store_set_model(store, MLY_STR("other"), MLY_STR_NULL, 0, &err),
                     MLY_ERR_MISMATCH);
    (void)mly_store_close(store, NULL);

    struct mly_store_options options = case_options();
    options.dim = 7;
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "6"));
    assert_non_null(strstr(err.message, "7"));
    options = case_options();
    options.model_id = MLY_STR("another-model");
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "another-model"));
    assert_non_null(strstr(err.message, "test-model"));
    options = case_options();
    options.model_hash = MLY_STR("11ff");
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_MISMATCH);

    options = (struct mly_store_options){.lock_wait_ms = 1000}; /* knows no model */
    case_ok(mly_store_open(mly_env_system(), place->path, &options, &store, &err), &err);
    assert_int_equal(mly_store_set_model(store, MLY_STR("other"), MLY_STR_NULL, 0, &err),
                     MLY_ERR_MISMATCH);
    assert_int_equal(mly_store_set_model(store, MLY_STR_NULL, MLY_STR_NULL, 5, &err),
                     MLY_ERR_MISMATCH);
    case_ok(mly_store_set_model(store, MLY_STR("test-model"), MLY_STR_NULL, CASE_DIM, &err), &err);
    case_ok(case_put(store, 1, 1, &err), &err);
    struct case_entry entries[2] = {case_entry(true, 1, 0), case_entry(true, 1, 0)};
    case_check(store, entries, 2);
    (void)mly_store_close(store, NULL);
}

static void what_a_model_is_stands_with_both_tables(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    const struct mly_store_model model = {.pooling = MLY_STR("cls"),
                                          .quantisation = MLY_STR("bf16"),
                                          .query_prefix = MLY_STR("query: "),
                                          .passage_prefix = MLY_STR("")};
    const struct mly_store_model other = {.pooling = MLY_STR("mean")};
    struct mly_snapshot *snapshot;
    case_ok(mly_store_describe_model(store, &model, &err), &err);
    case_ok(mly_store_describe_model(store, &other, &err), &err); /* the first counts */
    case_ok(case_put(store, 0, 1, &err), &err);
    (void)mly_store_close(store, NULL);
    store = open_store(place);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    const struct mly_store_model read = mly_snapshot_model(snapshot);
    assert_true(mly_str_equal(read.pooling, model.pooling));
    assert_true(mly_str_equal(read.quantisation, model.quantisation));
    assert_true(mly_str_equal(read.query_prefix, model.query_prefix));
    assert_null(read.passage_prefix.data);
    mly_snapshot_release(snapshot);
    (void)mly_store_close(store, NULL);
    struct mly_store_options options = case_options();
    options.model_hash = MLY_STR("11ff");
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "was made with model test-model bf16 (hash 00ff), not "
                                        "test-model (hash 11ff)"));
}

static void a_commit_that_fails_leaves_no_dimension_behind(void **state)
{
    const struct place *place = *state;
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000};
    struct case_document document;
    case_make(&document, 0, 1, 0);
    struct mly_change change = case_change(&document);
    case_ok(mly_store_open(mly_env_system(), place->path, &options, &store, &err), &err);
    change.dim = CASE_DIM - 1;
    document.rows[0].vector = NULL;
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_INVAL);
    assert_int_equal(mly_store_dim(store), 0);
    document.rows[0].vector = document.vectors[0];
    change.dim = CASE_DIM;
    case_ok(case_commit(store, &change, 1, &err), &err);
    assert_int_equal(mly_store_dim(store), CASE_DIM);
    change.dim = CASE_DIM + 1;
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_MISMATCH);
    struct case_entry entry = case_entry(true, 1, 0);
    case_check(store, &entry, 1);
    (void)mly_store_close(store, NULL);
}

static void a_store_that_another_model_made_meanwhile_is_a_mismatch(void **state)
{
    const struct place *place = *state;
    struct mly_error err = {0};
    struct mly_store *ours = open_store(place);
    struct mly_store *theirs = NULL;
    struct mly_store_options options = case_options();
    options.model_id = MLY_STR("another-model");
    case_ok(mly_store_open(mly_env_system(), place->path, &options, &theirs, &err), &err);
    case_ok(case_put(theirs, 0, 1, &err), &err);
    assert_int_equal(mly_store_begin(ours, &err), MLY_ERR_MISMATCH);
    /* Nothing is held after a begin that failed. */
    case_ok(case_put(theirs, 1, 1, &err), &err);
    (void)mly_store_close(ours, NULL);
    (void)mly_store_close(theirs, NULL);
}

/* Sets a key of the chunks table's config, as a newer memalloy would. */
static void set_config(const struct place *place, struct mly_str key, struct mly_str value)
{
    struct mly_error err = {0};
    char path[sizeof(place->path) + 16];
    snprintf(path, sizeof(path), "%s/chunks.lance", place->path);
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest;
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
    struct mly_lance_pair pair = {key, value};
    struct mly_lance_change change = {.config = &pair, .config_count = 1};
    case_ok(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), &err);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

static void a_newer_format_is_refused_with_its_number(void **state)
{
    const struct place *place = *state;
    struct mly_store *store = open_store(place);
    struct mly_error err = {0};
    case_ok(case_put(store, 0, 1, &err), &err);
    set_config(place, MLY_STR("memalloy.format"), MLY_STR("2"));
    struct mly_snapshot *snapshot;
    assert_int_equal(mly_store_pin(store, &snapshot, &err), MLY_ERR_UNSUPPORTED);
    assert_int_equal(mly_store_begin(store, &err), MLY_ERR_UNSUPPORTED);
    (void)mly_store_close(store, NULL);
    struct mly_store_options options = case_options();
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "format 2"));
    set_config(place, MLY_STR("memalloy.format"), MLY_STR("one"));
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_CORRUPT);
    set_config(place, MLY_STR("memalloy.format"), MLY_STR("1"));
    set_config(place, MLY_STR("memalloy.metric"), MLY_STR("l2"));
    assert_int_equal(try_open(place, &options, &err), MLY_ERR_UNSUPPORTED);
}

/* ---- what is on disk ---- */

/* Names, sizes, modes and times of everything below path, as one number. */
static uint64_t listing_hash(const char *path)
{
    uint64_t sum = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char child[1024];
        char line[1400];
        struct stat info;
        snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        assert_int_equal(lstat(child, &info), 0);
        snprintf(line, sizeof(line), "%s %o %lld %lld.%09ld", child, (unsigned)info.st_mode,
                 (long long)info.st_size, (long long)info.st_mtim.tv_sec, info.st_mtim.tv_nsec);
        sum += mly_hash_quick(mly_str_of(line));
        assert_int_equal(info.st_mode & 0777, S_ISDIR(info.st_mode) ? 0700 : 0600);
        if (S_ISDIR(info.st_mode)) sum += listing_hash(child);
    }
    closedir(dir);
    return sum;
}

static void a_store_that_is_open_for_reading_writes_nothing(void **state)
{
    const struct place *place = *state;
    struct mly_error err = {0};
    mode_t mask = umask(0);
    struct mly_store *store = open_store(place);
    case_ok(case_put(store, 0, 1, &err), &err);
    case_ok(case_put(store, 1, 0, &err), &err);
    umask(mask);
    (void)mly_store_close(store, NULL);
    uint64_t before = listing_hash(place->path);
    struct mly_store_options options = {.read_only = true};
    case_ok(mly_store_open(mly_env_system(), place->path, &options, &store, &err), &err);
    struct case_entry entries[2] = {case_entry(true, 1, 0), case_entry(true, 0, 0)};
    case_check(store, entries, 2);
    assert_int_equal(mly_store_begin(store, &err), MLY_ERR_READONLY);
    (void)mly_store_close(store, NULL);
    /* Opening for writing writes nothing either, until the first begin. */
    store = open_store(place);
    case_check(store, entries, 2);
    (void)mly_store_close(store, NULL);
    assert_int_equal(listing_hash(place->path), before);
}

static void store_json_repeats_the_manifests(void **state)
{
    const struct place *place = *state;
    struct mly_error err = {0};
    struct mly_store *store = open_store(place);
    case_ok(case_put(store, 0, 1, &err), &err);
    (void)mly_store_close(store, NULL);
    char path[sizeof(place->path) + 40];
    char text[4096];
    snprintf(path, sizeof(path), "%s/_memalloy/store.json", place->path);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, "\"model_id\": \"test-model\""));
    assert_non_null(strstr(text, "\"dim\": \"6\""));
    assert_non_null(strstr(text, "\"metric\": \"cosine\""));
}

static void a_path_that_is_no_folder_is_refused(void **state)
{
    const struct place *place = *state;
    struct mly_store_options options = case_options();
    struct mly_error err = {0};
    struct place file = *place;
    temp_dir_write(place->folder, "plain", "x", 1);
    snprintf(file.path, sizeof(file.path), "%s/plain", place->folder);
    assert_int_equal(try_open(&file, &options, &err), MLY_ERR_INVAL);
    assert_non_null(strstr(err.message, "plain"));
    file.path[0] = '\0';
    assert_int_equal(try_open(&file, &options, &err), MLY_ERR_INVAL);
}

static void a_store_that_is_removed_while_open_is_made_anew(void **state)
{
    const struct place *place = *state;
    struct mly_error err = {0};
    struct mly_store *store = open_store(place);
    struct case_entry entries[2] = {case_entry(true, 1, 0), case_entry(false, 0, 0)};
    case_ok(case_put(store, 0, 1, &err), &err);
    case_check(store, entries, 2);
    temp_dir_remove(place->path);
    entries[0].there = false;
    case_check(store, entries, 2);
    case_ok(case_put(store, 1, 2, &err), &err);
    entries[1] = case_entry(true, 2, 0);
    case_check(store, entries, 2);
    (void)mly_store_close(store, NULL);
}

int main(void)
{
#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_commit_that_fails_leaves_no_dimension_behind),
        STORE_TEST(a_folder_that_does_not_exist_is_an_empty_store_and_stays_missing),
        STORE_TEST(a_document_is_added_replaced_touched_and_removed),
        STORE_TEST(changes_of_all_kinds_go_into_one_commit),
        STORE_TEST(an_old_snapshot_stays_what_it_was),
        STORE_TEST(removing_what_is_not_there_changes_nothing),
        STORE_TEST(bad_changes_are_refused_and_change_nothing),
        STORE_TEST(another_model_or_dimension_is_a_mismatch),
        STORE_TEST(what_a_model_is_stands_with_both_tables),
        STORE_TEST(a_store_that_another_model_made_meanwhile_is_a_mismatch),
        STORE_TEST(a_newer_format_is_refused_with_its_number),
        STORE_TEST(a_store_that_is_open_for_reading_writes_nothing),
        STORE_TEST(store_json_repeats_the_manifests),
        STORE_TEST(a_path_that_is_no_folder_is_refused),
        STORE_TEST(a_store_that_is_removed_while_open_is_made_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
