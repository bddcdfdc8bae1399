/* A writer that is between the two tables, or that died there: what other handles are given
 * meanwhile, and what mending takes away. */
#define _GNU_SOURCE
#include "store/store_int.h"

#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENTS 4

/* A writer whose system calls look, at each version of a table that is about to appear, at what the
 * readers are given; at version fail_at it dies. */
static struct {
    char folder[TEMP_DIR_BYTES];
    struct case_entry entries[DOCUMENTS];
    struct mly_store *reader; /* open all the time */
    int links, fail_at;
} world;

static struct mly_store *open_with(const struct mly_env *env, bool read_only)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.read_only = read_only;
    case_ok(mly_store_open(env, world.folder, &options, &store, &err), &err);
    return store;
}

static void check_readers(void)
{
    case_check(world.reader, world.entries, DOCUMENTS);
    struct mly_store *late = open_with(mly_env_system(), true);
    case_check(late, world.entries, DOCUMENTS);
    (void)mly_store_close(late, NULL);
}

static int link_watched(void *context, int dir_fd, const char *from, const char *to)
{
    const struct mly_env *real = mly_env_system();
    if (strstr(to, "/_versions/") == NULL) return real->link(context, dir_fd, from, to);
    world.links++;
    if (world.links >= world.fail_at && world.fail_at > 0) return -EIO;
    if (world.reader != NULL) check_readers();
    return real->link(context, dir_fd, from, to);
}

static struct mly_env watched_env(void)
{
    struct mly_env env = *mly_env_system();
    env.link = link_watched;
    return env;
}

static int set_up(void **state)
{
    (void)state;
    memset(&world, 0, sizeof(world));
    temp_dir_make(world.folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    (void)mly_store_close(world.reader, NULL);
    temp_dir_remove(world.folder);
    return 0;
}

static void put_all(struct mly_store *store)
{
    struct mly_error err = {0};
    for (uint32_t i = 0; i + 1 < DOCUMENTS; i++) {
        case_ok(case_put(store, i, i + 1, &err), &err);
        world.entries[i] = case_entry(true, i + 1, 0);
    }
}

/* Replaces 0, touches 1, removes 2 and adds 3. */
static enum mly_err commit_mixed(struct mly_store *store, struct mly_error *err)
{
    static struct case_document documents[DOCUMENTS];
    struct mly_change changes[DOCUMENTS];
    case_make(&documents[0], 0, 9, 0);
    case_make(&documents[1], 1, 2, 7);
    case_make(&documents[2], 2, 3, 0);
    case_make(&documents[3], 3, 8, 0);
    for (size_t i = 0; i < DOCUMENTS; i++)
        changes[i] = case_change(&documents[i]);
    changes[1].kind = MLY_CHANGE_TOUCH;
    changes[2].kind = MLY_CHANGE_REMOVE;
    return case_commit(store, changes, DOCUMENTS, err);
}

static void readers_are_never_given_half_a_commit(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_env env = watched_env();
    world.reader = open_with(mly_env_system(), false);
    struct mly_store *writer = open_with(&env, false);
    for (uint32_t i = 0; i + 1 < DOCUMENTS; i++) {
        case_ok(case_put(writer, i, i + 1, &err), &err);
        world.entries[i] = case_entry(true, i + 1, 0);
        check_readers();
    }
    case_ok(commit_mixed(writer, &err), &err);
    assert_true(world.links >= 9);
    world.entries[0] = case_entry(true, 9, 0);
    world.entries[1] = case_entry(true, 2, 7);
    world.entries[2] = case_entry(false, 0, 0);
    world.entries[3] = case_entry(true, 8, 0);
    check_readers();
    (void)mly_store_close(writer, NULL);
}

static void readers_are_given_what_was_there_before_a_crash(void **state)
{
    (void)state;
    for (int fail_at = 1; fail_at <= 3; fail_at++) {
        struct mly_error err = {0};
        struct mly_env env = watched_env();
        memset(world.entries, 0, sizeof(world.entries));
        temp_dir_remove(world.folder);
        temp_dir_make(world.folder);
        world.reader = open_with(mly_env_system(), false);
        put_all(world.reader);
        struct mly_store *writer = open_with(&env, false);
        world.links = 0;
        world.fail_at = fail_at;
        assert_int_equal(commit_mixed(writer, &err), MLY_ERR_IO);
        (void)mly_store_close(writer, NULL);
        check_readers();
        check_readers();
        (void)mly_store_close(world.reader, NULL);
        world.reader = NULL;
    }
}

/* A row as another program would add it: with an ordinal, of a document that has no row. */
static void add_foreign_chunk(const char *chunk_id, const char *document_id)
{
    struct mly_error err = {0};
    char path[TEMP_DIR_BYTES + 32];
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest;
    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    struct mly_lance_field fields[MLY_STORE_COLUMNS_MAX];
    const float vector[CASE_DIM] = {1};
    snprintf(path, sizeof(path), "%s/chunks.lance", world.folder);
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
    size_t count = mly_lance_manifest_field_count(manifest);
    assert_true(count <= MLY_STORE_COLUMNS_MAX);
    for (size_t i = 0; i < count; i++)
        mly_lance_manifest_get_field(manifest, i, &fields[i]);
    case_ok(mly_lance_writer_open(table, fields, count, &writer, &err), &err);
    for (size_t i = 0; i < count; i++) {
        enum mly_err rc = MLY_OK;
        if (fields[i].type == MLY_LANCE_VECTOR) {
            rc = mly_lance_put_vector(writer, i, vector, &err);
        } else if (mly_str_equal(fields[i].name, MLY_STR("id"))) {
            rc = mly_lance_put_string(writer, i, mly_str_of(chunk_id), &err);
        } else if (mly_str_equal(fields[i].name, MLY_STR("document_id"))) {
            rc = mly_lance_put_string(writer, i, mly_str_of(document_id), &err);
        } else if (mly_str_equal(fields[i].name, MLY_STR("ordinal"))) {
            rc = mly_lance_put_int64(writer, i, 0, &err);
        } else {
            rc = mly_lance_put_null(writer, i, &err);
        }
        case_ok(rc, &err);
    }
    case_ok(mly_lance_writer_finish(writer, &file, &err), &err);
    mly_lance_writer_close(writer);
    struct mly_lance_change change = {.files = &file, .file_count = 1};
    case_ok(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), &err);
    mly_lance_data_file_deinit(&file);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

static size_t chunk_count(struct mly_store *store, const char *document_id)
{
    struct mly_error err = {0};
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_chunk_row *rows;
    size_t count;
    mly_arena_init(&arena, &mem, (size_t)1 << 24);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    case_ok(mly_snapshot_document_chunks(snapshot, mly_str_of(document_id), &arena, &rows, &count,
                                         &err),
            &err);
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
    return count;
}

/* The past of both tables, but for their newest version, as a clean-up takes it away. */
static void forget_versions(void)
{
    char command[2 * TEMP_DIR_BYTES + 200];
    snprintf(command, sizeof(command),
             "for t in documents chunks; do cd %s/$t.lance/_versions && "
             "ls | grep manifest$ | sort | tail -n +2 | xargs -r rm || exit 1; done",
             world.folder);
    assert_int_equal(system(command), 0);
}

static void die_between(int fail_at, const char *foreign_id)
{
    struct mly_error err = {0};
    struct mly_env env = watched_env();
    (void)mly_store_close(world.reader, NULL);
    memset(world.entries, 0, sizeof(world.entries));
    temp_dir_remove(world.folder);
    temp_dir_make(world.folder);
    world.reader = open_with(mly_env_system(), false);
    put_all(world.reader);
    add_foreign_chunk(foreign_id, "theirs-before");
    struct mly_store *writer = open_with(&env, false);
    world.links = 0;
    world.fail_at = fail_at;
    (void)mly_store_close(world.reader, NULL); /* which could not be checked with rows of others */
    world.reader = NULL;
    assert_int_equal(commit_mixed(writer, &err), MLY_ERR_IO);
    (void)mly_store_close(writer, NULL);
}

static void check_mended(int fail_at)
{
    struct mly_error err = {0};
    struct mly_store *store = open_with(mly_env_system(), false);
    case_ok(mly_store_begin(store, &err), &err);
    (void)mly_store_end(store, NULL);
    assert_true(chunk_count(store, "document-0") > 0);
    assert_true(mly_store_is_whole(store));
    assert_int_equal(chunk_count(store, "document-2") > 0, fail_at == 2);
    assert_int_equal(chunk_count(store, "document-3") > 0, fail_at == 3);
    assert_int_equal(chunk_count(store, "theirs-before"), 1);
    assert_int_equal(chunk_count(store, "theirs-after"), 1);
    (void)mly_store_close(store, NULL);
}

static void mending_leaves_the_rows_of_other_programs_alone(void **state)
{
    (void)state;
    for (int fail_at = 2; fail_at <= 3; fail_at++) {
        die_between(fail_at, "00000000-0000-8000-8000-0000000000aa");
        add_foreign_chunk("00000000-0000-8000-8000-0000000000bb", "theirs-after");
        check_mended(fail_at);
    }
}

static void mending_without_a_past_goes_by_the_form_of_ids(void **state)
{
    (void)state;
    for (int fail_at = 2; fail_at <= 3; fail_at++) {
        die_between(fail_at, "theirs 1");
        add_foreign_chunk("00000000-0000-4000-8000-0000000000bb", "theirs-after");
        forget_versions();
        check_mended(fail_at);
    }
}

int main(void)
{
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(readers_are_never_given_half_a_commit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(readers_are_given_what_was_there_before_a_crash, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(mending_leaves_the_rows_of_other_programs_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(mending_without_a_past_goes_by_the_form_of_ids, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
