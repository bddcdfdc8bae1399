/* Many rows and many fragments: opening must stay cheap, and a lookup must not read all rows. The
 * bounds are far above what is measured, so that a busy machine does not fail them; the figures are
 * printed. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "store/store_state_int.h"
#include "mly_cmocka.h"
#include "temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WIDE_DIM 384
#define DOCUMENTS 1000
#define CHUNKS_EACH 25
#define FRAGMENTS 1000

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

/* Of this thread alone: others may have the processor meanwhile. */
static double now_ms(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
    return (double)now.tv_sec * 1000.0 + (double)now.tv_nsec / 1e6;
}

static struct mly_store *open_wide(uint32_t dim)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000, .dim = dim};
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    return store;
}

static void fill_wide(struct mly_store *store)
{
    static struct mly_change changes[DOCUMENTS];
    static char ids[DOCUMENTS][16];
    static struct mly_chunk_row rows[DOCUMENTS * CHUNKS_EACH];
    static float vector[WIDE_DIM];
    static char content[600];
    struct mly_error err = {0};
    memset(content, 'c', sizeof(content));
    vector[0] = 1;
    for (size_t i = 0; i < DOCUMENTS; i++) {
        snprintf(ids[i], sizeof(ids[i]), "d%zu", i);
        changes[i] = (struct mly_change){
            .kind = MLY_CHANGE_PUT,
            .document = {.id = mly_str_of(ids[i]),
                         .status = MLY_STR("ok"),
                         .byte_count = -1,
                         .chunk_count = CHUNKS_EACH},
            .rows = &rows[i * CHUNKS_EACH],
            .row_count = CHUNKS_EACH,
        };
        for (size_t j = 0; j < CHUNKS_EACH; j++) {
            struct mly_chunk_row *row = &rows[i * CHUNKS_EACH + j];
            snprintf(row->id, sizeof(row->id), "%08zx-0000-8000-8000-%012zx", i, j);
            row->content = (struct mly_str){content, sizeof(content)};
            row->ordinal = (int64_t)(CHUNKS_EACH - 1 - j); /* backwards: reading sorts them */
            row->page_start = row->page_end = -1;
            row->vector = vector;
        }
    }
    case_ok(case_commit(store, changes, DOCUMENTS, &err), &err);
}

static void a_store_of_25000_chunks_opens_in_milliseconds(void **state)
{
    (void)state;
    struct mly_store *store = open_wide(WIDE_DIM);
    double start = now_ms();
    fill_wide(store);
    double commit_ms = now_ms() - start;
    (void)mly_store_close(store, NULL);

    struct mly_error err = {0};
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    start = now_ms();
    store = open_wide(0);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    double open_ms = now_ms() - start;
    mly_snapshot_get_counts(snapshot, &counts);
    assert_int_equal(counts.chunks, DOCUMENTS * CHUNKS_EACH);
    assert_int_equal(counts.dim, WIDE_DIM);

    struct mly_arena arena;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_chunk_row *rows;
    size_t count;
    mly_arena_init(&arena, &mem, (size_t)1 << 30);
    start = now_ms();
    case_ok(mly_snapshot_document_chunks(snapshot, MLY_STR("d7"), &arena, &rows, &count, &err),
            &err);
    double first_ms = now_ms() - start;
    start = now_ms();
    for (int i = 0; i < 1000; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        mly_arena_reset(&arena);
        case_ok(mly_snapshot_document_chunks(snapshot, mly_str_of(id), &arena, &rows, &count, &err),
                &err);
        assert_int_equal(count, CHUNKS_EACH);
        for (size_t j = 0; j < count; j++)
            assert_int_equal(rows[j].ordinal, j);
    }
    double lookup_us = now_ms() - start;
    mly_arena_deinit(&arena);
    mly_snapshot_release(snapshot);
    (void)mly_store_close(store, NULL);
    printf("# %d chunks of %d: commit %.0f ms, open and pin %.1f ms, first lookup %.1f ms, then "
           "%.1f us for a document's %d chunks\n",
           DOCUMENTS * CHUNKS_EACH, WIDE_DIM, commit_ms, open_ms, first_ms, lookup_us, CHUNKS_EACH);
#if !defined(__SANITIZE_THREAD__)
    assert_true(open_ms < 500);
#endif
}

/* One commit of many files to a table: what a thousand single adds leave. */
static void add_fragments(const char *name, size_t count)
{
    char path[TEMP_DIR_BYTES + 32];
    struct mly_error err = {0};
    struct mly_lance_table *table;
    struct mly_lance_manifest *manifest;
    static struct mly_lance_data_file files[FRAGMENTS];
    static struct mly_lance_field fields[32];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
    size_t field_count = mly_lance_manifest_field_count(manifest);
    assert_true(field_count <= 32);
    for (size_t i = 0; i < field_count; i++) {
        mly_lance_manifest_get_field(manifest, i, &fields[i]);
    }
    for (size_t file_i = 0; file_i < count; file_i++) {
        struct mly_lance_writer *writer;
        float vector[CASE_DIM] = {1};
        char id[32];
        snprintf(id, sizeof(id), "f%zu", file_i);
        case_ok(mly_lance_writer_open(table, fields, field_count, &writer, &err), &err);
        for (size_t i = 0; i < field_count; i++) {
            enum mly_err rc = MLY_OK;
            if (fields[i].type == MLY_LANCE_VECTOR) {
                rc = mly_lance_put_vector(writer, i, vector, &err);
            } else if (mly_str_equal(fields[i].name, MLY_STR("id")) ||
                       mly_str_equal(fields[i].name, MLY_STR("document_id")) ||
                       mly_str_equal(fields[i].name, MLY_STR("content"))) {
                rc = mly_lance_put_string(writer, i, mly_str_of(id), &err);
            } else {
                rc = mly_lance_put_null(writer, i, &err);
            }
            case_ok(rc, &err);
        }
        case_ok(mly_lance_writer_finish(writer, &files[file_i], &err), &err);
        mly_lance_writer_close(writer);
    }
    struct mly_lance_change change = {.files = files, .file_count = count};
    case_ok(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), &err);
    for (size_t i = 0; i < count; i++)
        mly_lance_data_file_deinit(&files[i]);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

/* Of files of this test's store, in this process. */
static size_t count_mappings(void)
{
    char line[4096];
    size_t count = 0;
    FILE *file = fopen("/proc/self/maps", "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        count += strstr(line, folder) != NULL;
    fclose(file);
    return count;
}

static void a_thousand_fragments_are_read_and_extended(void **state)
{
    (void)state;
    struct mly_error err = {0};
    struct mly_store *store = open_wide(CASE_DIM);
    case_ok(case_put(store, 0, 1, &err), &err);
    (void)mly_store_close(store, NULL);
    add_fragments("documents.lance", FRAGMENTS);
    add_fragments("chunks.lance", FRAGMENTS);

    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    double start = now_ms();
    store = open_wide(0);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    double open_ms = now_ms() - start;
    mly_snapshot_get_counts(snapshot, &counts);
    assert_int_equal(counts.documents, FRAGMENTS + 1);
    assert_int_equal(counts.chunks_fragments, FRAGMENTS + 1);
    /* A process may have some 65,000 of them: single adds must not use them up. */
    assert_int_equal(count_mappings(), 0);

    struct mly_arena arena;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_document document;
    bool found;
    mly_arena_init(&arena, &mem, (size_t)1 << 24);
    start = now_ms();
    case_ok(mly_snapshot_find_document(snapshot, MLY_STR("f500"), &arena, &document, &found, &err),
            &err);
    double first_ms = now_ms() - start;
    assert_true(found);
    mly_snapshot_release(snapshot);

    start = now_ms();
    for (uint32_t i = 1; i <= 10; i++)
        case_ok(case_put(store, i, 1, &err), &err);
    double put_ms = (now_ms() - start) / 10;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    for (uint32_t i = 0; i <= 10; i++) {
        char id[32];
        snprintf(id, sizeof(id), "document-%u", i);
        case_ok(
            mly_snapshot_find_document(snapshot, mly_str_of(id), &arena, &document, &found, &err),
            &err);
        assert_true(found);
    }
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
    (void)mly_store_close(store, NULL);
    printf("# %d fragments: open and pin %.1f ms, first lookup %.1f ms, then a single add %.1f "
           "ms\n",
           FRAGMENTS, open_ms, first_ms, put_ms);
#if !defined(__SANITIZE_THREAD__)
    assert_true(open_ms < 2000);
#endif
}

/* Rows that are replaced again and again must not stay in the index for ever. */
static void the_key_index_forgets_rows_that_are_gone(void **state)
{
    (void)state;
    static struct mly_change changes[DOCUMENTS];
    static char ids[DOCUMENTS][16];
    struct mly_error err = {0};
    struct mly_store *store = open_wide(CASE_DIM);
    struct mly_arena arena;
    struct mly_mem mem = MLY_MEM_INIT;
    mly_arena_init(&arena, &mem, (size_t)1 << 24);
    for (int round = 0; round < 15; round++) {
        for (size_t i = 0; i < DOCUMENTS; i++) {
            snprintf(ids[i], sizeof(ids[i]), "d%zu", i);
            changes[i] = (struct mly_change){
                .kind = MLY_CHANGE_TOUCH,
                .document = {.id = mly_str_of(ids[i]), .byte_count = round, .chunk_count = 0},
            };
        }
        case_ok(case_commit(store, changes, DOCUMENTS, &err), &err);
        struct mly_snapshot *snapshot;
        struct mly_document document;
        bool found;
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        for (size_t i = 0; i < DOCUMENTS; i += 97) {
            case_ok(mly_snapshot_find_document(snapshot, mly_str_of(ids[i]), &arena, &document,
                                               &found, &err),
                    &err);
            assert_true(found);
            assert_int_equal(document.byte_count, round);
        }
        mly_snapshot_release(snapshot);
    }
    /* The rows of the tail go with it. */
    case_ok(mly_store_checkpoint(store, &err), &err);
    struct mly_snapshot *after;
    struct mly_document last;
    bool there;
    case_ok(mly_store_pin(store, &after, &err), &err);
    case_ok(mly_snapshot_find_document(after, MLY_STR("d1"), &arena, &last, &there, &err), &err);
    assert_true(there);
    mly_snapshot_release(after);
    const struct mly_keys *keys = &store->tables[MLY_STORE_DOCUMENTS].keys[MLY_STORE_KEY_ID];
    assert_true(keys->generation > 1);
    assert_true(keys->count < (size_t)15 * DOCUMENTS);
    mly_arena_deinit(&arena);
    (void)mly_store_close(store, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_store_of_25000_chunks_opens_in_milliseconds, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_thousand_fragments_are_read_and_extended, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_key_index_forgets_rows_that_are_gone, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
