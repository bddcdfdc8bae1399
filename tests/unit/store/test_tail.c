/* What the tail must survive: power cuts between a log and a table that is made late, pins that
 * fail half way, tables and folders that go away or come anew, key files that are damaged. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "crash_env.h"
#include "fault_env.h"
#include "mly_cmocka.h"
#include "store/store_state_int.h"
#include "temp_dir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG_BYTES ((size_t)7 << 20)

static char folder[TEMP_DIR_BYTES];

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static struct mly_store *open_at(const struct mly_env *env, const char *path)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.durability = MLY_DURABILITY_OFF;
    case_ok(mly_store_open(env, path, &options, &store, &err), &err);
    return store;
}

static uint64_t count_documents(struct mly_store *store)
{
    struct mly_error err = {0};
    struct mly_snapshot *snapshot = NULL;
    struct mly_store_counts counts;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &counts);
    mly_snapshot_release(snapshot);
    return counts.documents;
}

/* A document of one chunk of so many bytes. */
static void put_big(struct mly_store *store, uint32_t number, size_t bytes)
{
    static const float vector[CASE_DIM] = {1};
    struct mly_error err = {0};
    struct mly_chunk_row row = {.vector = vector, .byte_end = (int64_t)bytes};
    char *text = malloc(bytes);
    char id[32];
    assert_non_null(text);
    memset(text, 'x', bytes);
    snprintf(id, sizeof(id), "big-%u", number);
    snprintf(row.id, sizeof(row.id), "%08x-0000-8000-8000-000000000000", number);
    row.content = (struct mly_str){text, bytes};
    struct mly_change change = {.kind = MLY_CHANGE_PUT, .rows = &row, .row_count = 1};
    change.document.id = mly_str_of(id);
    change.document.status = MLY_STR("ok");
    case_ok(case_commit(store, &change, 1, &err), &err);
    free(text);
}

/* ---- a table that is made late ---- */

static bool it_opens(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    enum mly_err rc = mly_store_open(&after->env, "/kb", &options, &store, &err);
    if (rc != MLY_OK) {
        char text[1500];
        crash_env_describe(context, choice, text, sizeof(text));
        fail_msg("it does not open: %s (%s)", err.message, text);
    }
    (void)mly_store_close(store, NULL);
    return true;
}

static void a_table_that_is_made_late_needs_no_commit_that_a_power_cut_takes(void **state)
{
    (void)state;
    static struct crash_env crash;
    struct mly_store *store = NULL;
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    struct case_document document;
    uint64_t states = 0;
    crash_env_init(&crash);
    options.dim = 0;
    options.durability = MLY_DURABILITY_OFF;
    case_ok(mly_store_open(&crash.env, "/kb", &options, &store, &err), &err);
    for (uint32_t i = 0; i < 4; i++)
        case_ok(case_put(store, i, 0, &err), &err); /* skipped files: there are no chunks */
    case_make(&document, 5, 1, 0);
    struct mly_change change = case_change(&document);
    change.dim = CASE_DIM;
    case_ok(case_commit(store, &change, 1, &err), &err);
    struct crash_effort effort = {0, 3, 3, 0, 0};
    assert_true(crash_env_each(&crash, effort, it_opens, &crash, &states));
    (void)mly_store_close(store, NULL);
    crash_env_deinit(&crash);
}

/* ---- a pin that fails half way ---- */

/* The writer's own reader is left behind by its checkpoints; then a pin starts over and fails. */
static void fail_a_pin(uint64_t fail_at)
{
    static struct fault_env fault;
    struct mly_error err = {0};
    struct mly_snapshot *snapshot = NULL;
    char path[TEMP_DIR_BYTES + 32];
    snprintf(path, sizeof(path), "%s/kb-%u", folder, (unsigned)fail_at);
    fault_env_init(&fault);
    struct mly_store *store = open_at(&fault.env, path);
    case_ok(case_put(store, 0, 1, &err), &err);
    (void)count_documents(store);
    for (uint32_t i = 0; i < 6; i++)
        put_big(store, i, BIG_BYTES);
    for (uint32_t i = 1; i < 4; i++)
        case_ok(case_put(store, i, 1, &err), &err);
    fault.mem.fail_at = atomic_load(&fault.mem.calls) + fail_at;
    if (mly_store_pin(store, &snapshot, &err) == MLY_OK) mly_snapshot_release(snapshot);
    fault.mem.fail_at = 0;
    case_ok(case_put(store, 4, 1, &err), &err);
    case_ok(mly_store_checkpoint(store, &err), &err);
    assert_int_equal(count_documents(store), 11);
    case_ok(mly_store_close(store, &err), &err);
    temp_dir_remove(path);
}

static void commits_outlive_a_pin_that_fails_half_way(void **state)
{
    (void)state;
    for (uint64_t fail_at = 1; fail_at < 12; fail_at += 2)
        fail_a_pin(fail_at);
}

/* ---- folders and tables that go away ---- */

static void a_folder_made_anew_is_another_store(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct case_entry entries[40] = {0};
    char path[TEMP_DIR_BYTES + 32];
    snprintf(path, sizeof(path), "%s/kb", folder);
    struct mly_store *old = open_at(mly_env_system(), path);
    for (uint32_t i = 0; i < 20; i++)
        case_ok(case_put(old, i, 1, &err), &err);
    temp_dir_remove(path);
    struct mly_store *made = open_at(mly_env_system(), path);
    for (uint32_t i = 0; i < 5; i++) {
        case_ok(case_put(made, i, 2, &err), &err);
        entries[i] = case_entry(true, 2, 0);
    }
    case_check(old, entries, 40);
    case_ok(case_put(old, 30, 3, &err), &err);
    entries[30] = case_entry(true, 3, 0);
    case_check(made, entries, 40);
    case_ok(mly_store_close(made, &err), &err);
    case_ok(mly_store_close(old, &err), &err);
    struct mly_store *store = open_at(mly_env_system(), path);
    case_check(store, entries, 40);
    case_ok(mly_store_close(store, &err), &err);
}

/* A table without our UUID, as other programs make it. */
static void make_foreign_chunks(const char *path)
{
    struct mly_error err = {0};
    struct mly_lance_table *table = NULL;
    struct mly_lance_field fields[MLY_STORE_COLUMNS_MAX];
    struct mly_lance_change change = {.fields = fields};
    bool visible;
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    case_ok(mly_lance_table_make(table, &err), &err);
    mly_store_new_fields(MLY_STORE_CHUNKS, CASE_DIM, fields, &change.field_count);
    case_ok(mly_lance_commit(table, NULL, &change, NULL, &visible, &err), &err);
    mly_lance_table_close(table);
}

static void a_load_into_a_foreign_table_that_is_dropped_stays_away(void **state)
{
    (void)state;
    struct mly_error err = {0};
    char path[TEMP_DIR_BYTES + 32], chunks[TEMP_DIR_BYTES + 48];
    int status = 0;
    snprintf(path, sizeof(path), "%s/kb", folder);
    snprintf(chunks, sizeof(chunks), "%s/chunks.lance", path);
    assert_int_equal(mkdir(path, 0700), 0);
    make_foreign_chunks(chunks);
    pid_t child = fork();
    if (child == 0) { /* it ends without a checkpoint */
        put_big(open_at(mly_env_system(), path), 1, 9u << 20);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    temp_dir_remove(chunks);
    struct mly_store *store = open_at(mly_env_system(), path);
    assert_int_equal(count_documents(store), 1);
    case_ok(mly_store_close(store, &err), &err);
}

/* ---- key files ---- */

static void spoil_key_files(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    unsigned spoilt = 0;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char name[TEMP_DIR_BYTES + 400];
        if (entry->d_name[0] == '.') continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        FILE *file = fopen(name, "r+b");
        assert_non_null(file);
        assert_int_equal(fseek(file, 0, SEEK_END), 0);
        long bytes = ftell(file);
        for (long at = 8192; at < bytes; at += 97) {
            assert_int_equal(fseek(file, at, SEEK_SET), 0);
            assert_int_not_equal(fputc(0x5A, file), EOF);
        }
        assert_int_equal(fclose(file), 0);
        spoilt++;
    }
    closedir(dir);
    assert_true(spoilt > 0);
}

static void a_damaged_key_file_doubles_no_chunks(void **state)
{
    (void)state;
    enum { DOCUMENTS = 1200 };
    struct mly_error err = {0};
    char path[TEMP_DIR_BYTES + 32], keys[TEMP_DIR_BYTES + 64];
    struct case_document *documents = calloc(DOCUMENTS, sizeof(documents[0]));
    struct mly_change *changes = calloc(DOCUMENTS, sizeof(changes[0]));
    assert_true(documents != NULL && changes != NULL);
    snprintf(path, sizeof(path), "%s/kb", folder);
    snprintf(keys, sizeof(keys), "%s/_memalloy/index/keys/chunks", path);
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        case_make(&documents[i], i, 1 + i % 5, 0);
        changes[i] = case_change(&documents[i]);
    }
    struct mly_store *store = open_at(mly_env_system(), path);
    case_ok(case_commit(store, changes, DOCUMENTS, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
    spoil_key_files(keys);
    store = open_at(mly_env_system(), path);
    for (uint32_t i = 0; i < DOCUMENTS; i += 97) {
        struct mly_change change = {.kind = MLY_CHANGE_METADATA};
        struct mly_snapshot *snapshot = NULL;
        size_t count = 0;
        change.document.id = documents[i].document.id;
        change.document.metadata = MLY_STR("{}");
        case_ok(case_commit(store, &change, 1, &err), &err);
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        case_ok(mly_snapshot_count_chunks(snapshot, change.document.id, &count, &err), &err);
        mly_snapshot_release(snapshot);
        assert_int_equal(count, documents[i].row_count);
    }
    case_ok(mly_store_close(store, &err), &err);
    free(documents);
    free(changes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_that_is_made_late_needs_no_commit_that_a_power_cut_takes),
        cmocka_unit_test_setup_teardown(commits_outlive_a_pin_that_fails_half_way, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_folder_made_anew_is_another_store, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_load_into_a_foreign_table_that_is_dropped_stays_away,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_damaged_key_file_doubles_no_chunks, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
