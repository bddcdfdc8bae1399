/* What the log adds: commits that others see before any checkpoint, checkpoints that keep files
 * few, metadata, loads, other programs' commits beside a tail, a store that is only in memory. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "lance/lance.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES 40
#define MANY 1000

static char folder[TEMP_DIR_BYTES];
static char path[TEMP_DIR_BYTES + 8];
static struct mly_error err;

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(folder);
    snprintf(path, sizeof(path), "%s/kb", folder);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(folder);
    return 0;
}

static struct mly_store *open_with(enum mly_durability durability)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.durability = durability;
    case_ok(mly_store_open(mly_env_system(), path, &options, &store, &err), &err);
    return store;
}

static size_t count_files(const char *inside, const char *ending)
{
    char dir_path[TEMP_DIR_BYTES + 64];
    size_t count = 0;
    snprintf(dir_path, sizeof(dir_path), "%s/%s", path, inside);
    DIR *dir = opendir(dir_path);
    if (dir == NULL) return 0;
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        size_t bytes = strlen(entry->d_name);
        count += bytes >= strlen(ending) &&
                 strcmp(entry->d_name + bytes - strlen(ending), ending) == 0 &&
                 entry->d_name[0] != '.';
    }
    closedir(dir);
    return count;
}

/* The bound: 10 data files and 2 manifests for each table. */
static void check_few_files(void)
{
    assert_in_range(count_files("chunks.lance/data", ".lance"), 1, 10);
    assert_in_range(count_files("documents.lance/data", ".lance"), 1, 10);
    assert_in_range(count_files("chunks.lance/_versions", ".manifest"), 1, 2);
    assert_in_range(count_files("documents.lance/_versions", ".manifest"), 1, 2);
}

static void check_count(struct mly_store *store, uint64_t documents)
{
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &counts);
    mly_snapshot_release(snapshot);
    assert_int_equal(counts.documents, documents);
}

static void a_thousand_adds_by_one_handle_leave_few_files(void **state)
{
    (void)state;
    struct mly_store *store = open_with(MLY_DURABILITY_OFF);
    for (uint32_t i = 0; i < MANY; i++)
        case_ok(case_put(store, i, 1, &err), &err);
    assert_int_equal(count_files("chunks.lance/data", ".lance"), 0);
    check_count(store, MANY);
    case_ok(mly_store_close(store, &err), &err);
    check_few_files();
    store = open_with(MLY_DURABILITY_FULL);
    check_count(store, MANY);
    case_ok(mly_store_close(store, &err), &err);
}

static void a_thousand_handles_with_one_add_each_leave_few_files(void **state)
{
    (void)state;
    uint32_t handles = getenv("MEMALLOY_TEST_LONG") != NULL ? MANY : MANY / 5;
    for (uint32_t i = 0; i < handles; i++) {
        struct mly_store *store = open_with(MLY_DURABILITY_OFF);
        case_ok(case_put(store, i, 1, &err), &err);
        case_ok(mly_store_close(store, &err), &err);
        if (i % 50 == 49) check_few_files();
    }
    check_few_files();
    struct mly_store *store = open_with(MLY_DURABILITY_FULL);
    check_count(store, handles);
    case_ok(mly_store_close(store, &err), &err);
}

/* Two handles are as two processes: they share nothing but the files. */
static void another_handle_sees_a_commit_before_any_checkpoint(void **state)
{
    (void)state;
    struct case_entry entries[ENTRIES] = {{false, 0, 0, false, 0}};
    struct mly_store *writer = open_with(MLY_DURABILITY_OFF);
    struct mly_store *reader = open_with(MLY_DURABILITY_FULL);
    case_check(reader, entries, ENTRIES);
    for (uint32_t step = 0; step < 200; step++) {
        uint32_t number = step * 7 % ENTRIES;
        if (step % 5 == 4) {
            case_ok(case_remove(writer, number, &err), &err);
            entries[number] = case_entry(false, 0, 0);
        } else {
            case_ok(case_put(writer, number, step + 1, &err), &err);
            entries[number] = case_entry(true, step + 1, 0);
        }
        if (step % 10 == 9) case_check(reader, entries, ENTRIES);
        if (step % 60 == 59) case_ok(mly_store_checkpoint(writer, &err), &err);
    }
    case_check(reader, entries, ENTRIES);
    case_check(writer, entries, ENTRIES);
    case_ok(mly_store_close(writer, &err), &err);
    case_check(reader, entries, ENTRIES);
    case_ok(mly_store_close(reader, &err), &err);
}

static void two_writers_take_turns_and_see_each_other(void **state)
{
    (void)state;
    struct case_entry entries[ENTRIES] = {{false, 0, 0, false, 0}};
    struct mly_store *stores[2] = {open_with(MLY_DURABILITY_OFF), open_with(MLY_DURABILITY_NORMAL)};
    for (uint32_t step = 0; step < 120; step++) {
        uint32_t number = step * 11 % ENTRIES;
        case_ok(case_put(stores[step % 2], number, step + 1, &err), &err);
        entries[number] = case_entry(true, step + 1, 0);
        if (step % 9 == 8) case_check(stores[(step + 1) % 2], entries, ENTRIES);
        if (step % 50 == 49) case_ok(mly_store_checkpoint(stores[0], &err), &err);
    }
    case_ok(mly_store_close(stores[0], &err), &err);
    case_check(stores[1], entries, ENTRIES);
    case_ok(mly_store_close(stores[1], &err), &err);
}

/* A handle that is opened now reads all of the log at once, others read it piece by piece. */
static void a_handle_that_opens_late_sees_what_the_others_see(void **state)
{
    (void)state;
    struct case_entry entries[ENTRIES] = {{false, 0, 0, false, 0}};
    struct mly_store *writer = open_with(MLY_DURABILITY_OFF);
    uint64_t random = 88172645463325252u;
    for (uint32_t step = 1; step <= 400; step++) {
        struct case_document made[3];
        struct mly_change changes[3];
        size_t count = 1 + case_random(&random) % 3;
        uint32_t first = case_random(&random) % (ENTRIES - 3);
        for (size_t i = 0; i < count; i++) {
            uint32_t number = first + (uint32_t)i;
            bool removes = case_random(&random) % 3 == 0;
            case_make(&made[i], number, step, 0);
            changes[i] = case_change(&made[i]);
            if (removes) changes[i].kind = MLY_CHANGE_REMOVE;
            entries[number] = removes ? case_entry(false, 0, 0) : case_entry(true, step, 0);
        }
        case_ok(case_commit(writer, changes, count, &err), &err);
        struct mly_store *late = open_with(MLY_DURABILITY_FULL);
        case_check(late, entries, ENTRIES);
        case_ok(mly_store_close(late, &err), &err);
    }
    case_check(writer, entries, ENTRIES);
    case_ok(mly_store_close(writer, &err), &err);
}

/* ---- metadata ---- */

static void set_metadata(struct mly_store *store, const char *id, const char *metadata)
{
    struct mly_change change = {
        .kind = MLY_CHANGE_METADATA,
        .document = {.id = mly_str_of(id), .metadata = mly_str_of(metadata), .updated_at_us = 77},
    };
    case_ok(case_commit(store, &change, 1, &err), &err);
}

static void check_metadata(struct mly_store *store, const char *id, const char *metadata,
                           bool there)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    struct mly_snapshot *snapshot;
    struct mly_document document;
    struct mly_chunk_row *rows = NULL;
    size_t count = 0;
    bool found;
    mly_arena_init(&arena, &mem, (size_t)1 << 24);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    case_ok(mly_snapshot_find_document(snapshot, mly_str_of(id), &arena, &document, &found, &err),
            &err);
    case_ok(mly_snapshot_document_chunks(snapshot, mly_str_of(id), &arena, &rows, &count, &err),
            &err);
    assert_int_equal(found, there);
    assert_int_equal(count > 0, there);
    if (there) {
        assert_true(mly_str_equal(document.metadata, mly_str_of(metadata)));
        assert_int_equal(document.updated_at_us, 77);
    }
    for (size_t i = 0; i < count; i++) {
        struct case_document made;
        case_make(&made, 4, 9, 0);
        assert_true(mly_str_equal(rows[i].metadata, mly_str_of(metadata)));
        assert_true(mly_str_equal(rows[i].content, made.rows[i].content));
        assert_memory_equal(rows[i].vector, made.vectors[i], sizeof(made.vectors[i]));
    }
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
}

static void metadata_changes_in_the_tail_and_in_the_tables(void **state)
{
    (void)state;
    struct mly_store *store = open_with(MLY_DURABILITY_OFF);
    struct mly_store *reader = open_with(MLY_DURABILITY_FULL);
    case_ok(case_put(store, 4, 9, &err), &err);
    set_metadata(store, "document-4", "{\"a\": 1}");
    check_metadata(store, "document-4", "{\"a\": 1}", true);
    check_metadata(reader, "document-4", "{\"a\": 1}", true);
    case_ok(mly_store_checkpoint(store, &err), &err);
    check_metadata(reader, "document-4", "{\"a\": 1}", true);
    set_metadata(store, "document-4", "{\"a\": 2}");
    set_metadata(store, "document-4", "{\"a\": 3}");
    check_metadata(reader, "document-4", "{\"a\": 3}", true);
    set_metadata(store, "nobody", "{}");
    check_metadata(store, "nobody", "{}", false);
    case_ok(mly_store_close(store, &err), &err);
    check_metadata(reader, "document-4", "{\"a\": 3}", true);
    check_count(reader, 1);
    case_ok(mly_store_close(reader, &err), &err);
}

/* ---- loads ---- */

#define LOAD_DOCUMENTS 3000

/* Documents of one chunk, more than 8 MB of them. */
static void load(struct mly_store *store, uint32_t version)
{
    static struct mly_change changes[LOAD_DOCUMENTS];
    static struct mly_chunk_row rows[LOAD_DOCUMENTS];
    static char ids[LOAD_DOCUMENTS][24], content[4000];
    static float vector[CASE_DIM];
    vector[0] = (float)version;
    memset(content, 'a' + (int)version, sizeof(content));
    for (uint32_t i = 0; i < LOAD_DOCUMENTS; i++) {
        snprintf(ids[i], sizeof(ids[i]), "load-%u", i);
        memset(&rows[i], 0, sizeof(rows[i]));
        snprintf(rows[i].id, sizeof(rows[i].id), "%08x-0000-8000-8000-%08x0000", i, version);
        rows[i].content = (struct mly_str){content, sizeof(content)};
        rows[i].vector = vector;
        changes[i] = (struct mly_change){
            .kind = MLY_CHANGE_PUT,
            .document = {.id = mly_str_of(ids[i]), .byte_count = version, .chunk_count = 1},
            .rows = &rows[i],
            .row_count = 1,
        };
    }
    case_ok(case_commit(store, changes, LOAD_DOCUMENTS, &err), &err);
}

static void check_load(struct mly_store *store, uint32_t version, uint64_t documents)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    mly_arena_init(&arena, &mem, (size_t)1 << 28);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &counts);
    assert_int_equal(counts.documents, documents);
    assert_int_equal(counts.chunks, documents);
    for (uint32_t i = 1; i < LOAD_DOCUMENTS; i += 97) {
        char id[24];
        struct mly_document document;
        struct mly_chunk_row *rows;
        size_t count;
        bool found;
        snprintf(id, sizeof(id), "load-%u", i);
        case_ok(
            mly_snapshot_find_document(snapshot, mly_str_of(id), &arena, &document, &found, &err),
            &err);
        assert_true(found);
        assert_int_equal(document.byte_count, version);
        case_ok(mly_snapshot_document_chunks(snapshot, mly_str_of(id), &arena, &rows, &count, &err),
                &err);
        assert_int_equal(count, 1);
        assert_int_equal(rows[0].content.data[0], 'a' + version);
        assert_true(rows[0].vector[0] == (float)version);
    }
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
}

static void a_load_is_there_at_once_and_can_be_replaced(void **state)
{
    (void)state;
    struct mly_store *store = open_with(MLY_DURABILITY_FULL);
    struct mly_store *reader = open_with(MLY_DURABILITY_FULL);
    load(store, 1);
    check_load(store, 1, LOAD_DOCUMENTS);
    check_load(reader, 1, LOAD_DOCUMENTS);
    assert_in_range(count_files("_memalloy/wal", ".wal"), 1, 1);
    /* Of one that is in the log only some documents go. */
    struct mly_change gone = {.kind = MLY_CHANGE_REMOVE, .document = {.id = MLY_STR("load-0")}};
    case_ok(case_commit(store, &gone, 1, &err), &err);
    check_load(reader, 1, LOAD_DOCUMENTS - 1);
    load(store, 2);
    check_load(store, 2, LOAD_DOCUMENTS);
    check_load(reader, 2, LOAD_DOCUMENTS);
    case_ok(mly_store_checkpoint(store, &err), &err);
    check_load(reader, 2, LOAD_DOCUMENTS);
    load(store, 3);
    case_ok(mly_store_close(store, &err), &err);
    check_load(reader, 3, LOAD_DOCUMENTS);
    case_ok(mly_store_close(reader, &err), &err);
    check_few_files();
    store = open_with(MLY_DURABILITY_FULL);
    check_load(store, 3, LOAD_DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
}

/* ---- other programs ---- */

/* As lancedb would: deletes the first live row of the chunks, and knows nothing of us. */
static void foreign_delete(uint64_t fragment_i)
{
    char table_path[TEMP_DIR_BYTES + 32];
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest;
    struct mly_lance_fragment_info info;
    struct mly_lance_deletions set;
    snprintf(table_path, sizeof(table_path), "%s/chunks.lance", path);
    case_ok(mly_lance_table_open(mly_env_system(), table_path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
    mly_lance_manifest_get_fragment(manifest, fragment_i, &info);
    case_ok(mly_lance_deletions_read(table, manifest, fragment_i, &set, &err), &err);
    for (uint64_t row = 0; row < info.row_count; row++)
        case_ok(mly_lance_deletions_add(&set, row, &err), &err);
    const struct mly_lance_deletion_change deletion = {info.id, &set};
    const struct mly_lance_change change = {.deletions = &deletion, .deletion_count = 1};
    case_ok(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), &err);
    mly_lance_deletions_deinit(&set);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

static void another_program_commits_beside_a_tail(void **state)
{
    (void)state;
    struct mly_store *store = open_with(MLY_DURABILITY_OFF);
    struct mly_store *reader = open_with(MLY_DURABILITY_FULL);
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    struct case_document made;
    case_ok(case_put(store, 1, 1, &err), &err);
    case_ok(mly_store_checkpoint(store, &err), &err);
    case_ok(case_put(store, 2, 1, &err), &err); /* in the tail */
    case_make(&made, 2, 1, 0);
    foreign_delete(0); /* all chunks of document 1 */
    struct mly_store *both[2] = {store, reader};
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 2; i++) {
            case_ok(mly_store_pin(both[i], &snapshot, &err), &err);
            mly_snapshot_get_counts(snapshot, &counts);
            mly_snapshot_release(snapshot);
            assert_int_equal(counts.documents, 2);
            assert_int_equal(counts.chunks, made.row_count);
        }
        case_ok(mly_store_checkpoint(store, &err), &err);
    }
    case_ok(mly_store_close(store, &err), &err);
    case_ok(mly_store_close(reader, &err), &err);
}

/* ---- the rest ---- */

static void a_store_in_memory_writes_nothing(void **state)
{
    (void)state;
    struct case_entry entries[ENTRIES] = {{false, 0, 0, false, 0}};
    struct mly_store *store = open_with(MLY_DURABILITY_MEMORY);
    for (uint32_t i = 0; i < ENTRIES; i++) {
        case_ok(case_put(store, i, i + 1, &err), &err);
        entries[i] = case_entry(true, i + 1, 0);
    }
    case_ok(case_remove(store, 3, &err), &err);
    entries[3] = case_entry(false, 0, 0);
    case_check(store, entries, ENTRIES);
    case_ok(mly_store_checkpoint(store, &err), &err);
    case_ok(mly_store_flush(store, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
    assert_int_not_equal(access(path, F_OK), 0);
    store = open_with(MLY_DURABILITY_FULL);
    check_count(store, 0);
    struct mly_change change = {.kind = MLY_CHANGE_REMOVE, .document = {.id = MLY_STR("x")}};
    case_ok(mly_store_begin(store, &err), &err);
    assert_int_equal(mly_store_commit(store, &change, 1, MLY_DURABILITY_MEMORY, &err),
                     MLY_ERR_INVAL);
    case_ok(mly_store_end(store, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
}

static void an_old_snapshot_stays_through_commits_and_checkpoints(void **state)
{
    (void)state;
    struct case_entry entries[ENTRIES] = {{false, 0, 0, false, 0}};
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_store *store = open_with(MLY_DURABILITY_OFF);
    struct mly_snapshot *old;
    for (uint32_t i = 0; i < ENTRIES; i++) {
        case_ok(case_put(store, i, 1, &err), &err);
        entries[i] = case_entry(true, 1, 0);
        if (i == ENTRIES / 2) case_ok(mly_store_checkpoint(store, &err), &err);
    }
    case_ok(mly_store_pin(store, &old, &err), &err);
    for (uint32_t round = 2; round < 6; round++) {
        for (uint32_t i = 0; i < ENTRIES; i += round)
            case_ok(case_put(store, i, round, &err), &err);
        case_ok(mly_store_checkpoint(store, &err), &err);
    }
    case_check_snapshot(old, &mem, entries, ENTRIES);
    mly_snapshot_release(old);
    assert_int_equal(mem.live, 0);
    case_ok(mly_store_close(store, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_thousand_adds_by_one_handle_leave_few_files, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_thousand_handles_with_one_add_each_leave_few_files,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_handle_sees_a_commit_before_any_checkpoint, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(two_writers_take_turns_and_see_each_other, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_handle_that_opens_late_sees_what_the_others_see, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(metadata_changes_in_the_tail_and_in_the_tables, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_load_is_there_at_once_and_can_be_replaced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_program_commits_beside_a_tail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_store_in_memory_writes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_old_snapshot_stays_through_commits_and_checkpoints,
                                        set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
