/* Key files of a store: with them, without them, with damaged ones and ones of other data the same
 * rows are found. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "fault_env.h"
#include "mly_cmocka.h"
#include "store/store_state_int.h"
#include "temp_dir.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Above what makes a fragment worth a key file. */
#define DOCUMENTS 5000u
#define CHUNKS_EACH 2u

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

static struct mly_store *open_in(const struct mly_env *env)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.dim = CASE_DIM;
    case_ok(mly_store_open(env, folder, &options, &store, &err), &err);
    return store;
}

/* Document i is number first + i; every ninth is a file that was skipped. */
static void put(struct mly_store *store, uint32_t first, uint32_t count, int64_t round)
{
    static struct mly_change changes[DOCUMENTS];
    static struct mly_chunk_row rows[DOCUMENTS * CHUNKS_EACH];
    static char ids[DOCUMENTS][24], paths[DOCUMENTS][24];
    static const float vector[CASE_DIM] = {1};
    struct mly_error err = {0};
    assert_true(count <= DOCUMENTS);
    memset(rows, 0, sizeof(rows));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = first + i;
        bool skipped = number % 9 == 4;
        snprintf(ids[i], sizeof(ids[i]), "id-%u", number);
        snprintf(paths[i], sizeof(paths[i]), "/p/%u", number);
        struct mly_document document = {0};
        document.id = mly_str_of(ids[i]);
        document.byte_count = round;
        document.chunk_count = skipped ? 0 : (int64_t)CHUNKS_EACH;
        document.status = skipped ? MLY_STR("skipped") : MLY_STR("ok");
        if (number % 4 != 3) document.path = mly_str_of(paths[i]);
        if (number % 4 == 2) document.path_raw = mly_str_of(ids[i]); /* another name than path */
        changes[i] = (struct mly_change){.kind = skipped ? MLY_CHANGE_TOUCH : MLY_CHANGE_PUT,
                                         .document = document,
                                         .rows = &rows[i * CHUNKS_EACH],
                                         .row_count = skipped ? 0 : CHUNKS_EACH};
        for (uint32_t c = 0; c < CHUNKS_EACH; c++) {
            struct mly_chunk_row *row = &rows[i * CHUNKS_EACH + c];
            snprintf(row->id, sizeof(row->id), "%08x-0000-8000-8000-%012x", number, c);
            row->document_id = document.id;
            row->content = MLY_STR("content");
            row->ordinal = c;
            row->page_start = row->page_end = -1;
            row->vector = vector;
        }
    }
    case_ok(case_commit(store, changes, count, &err), &err);
}

static void remove_one(struct mly_store *store, uint32_t number)
{
    struct mly_error err = {0};
    char id[24];
    snprintf(id, sizeof(id), "id-%u", number);
    struct mly_change change = {.kind = MLY_CHANGE_REMOVE, .document = {.id = mly_str_of(id)}};
    case_ok(case_commit(store, &change, 1, &err), &err);
}

static struct mly_snapshot *pin(struct mly_store *store)
{
    struct mly_error err = {0};
    struct mly_snapshot *snapshot = NULL;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    return snapshot;
}

static void checkpoint(struct mly_store *store)
{
    struct mly_error err = {0};
    case_ok(mly_store_checkpoint(store, &err), &err);
}

/* As a checkpoint does at its end, whether there is something to be written or not. */
static void make_keys(struct mly_store *store)
{
    struct mly_snapshot *snapshot = pin(store);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++)
        mly_store_keys_make(mly_store_view_base(snapshot->views[kind]));
    mly_snapshot_release(snapshot);
}

/* What is expected of the documents from 0 to count - 1: those below replaced have round 2, of
 * those, every number that removed divides is gone. */
struct expected {
    uint32_t count, replaced, removed;
};

static bool is_gone(const struct expected *expected, uint32_t number)
{
    return expected->removed != 0 && number % expected->removed == 0 && number < expected->replaced;
}

static void check_document(const struct mly_snapshot *snapshot, struct mly_arena *arena,
                           const struct expected *expected, uint32_t number)
{
    struct mly_error err = {0};
    struct mly_document document = {0};
    char id[24], path[24];
    bool found = false;
    size_t count = 0;
    bool there = number < expected->count && !is_gone(expected, number);
    snprintf(id, sizeof(id), "id-%u", number);
    snprintf(path, sizeof(path), "/p/%u", number);
    case_ok(mly_snapshot_find_document(snapshot, mly_str_of(id), arena, &document, &found, &err),
            &err);
    assert_int_equal(found, there);
    if (there) {
        assert_int_equal(document.byte_count, number < expected->replaced ? 2 : 1);
        assert_true(mly_str_equal(document.id, mly_str_of(id)));
    }
    case_ok(mly_snapshot_find_path(snapshot, mly_str_of(path), arena, &document, &found, &err),
            &err);
    assert_int_equal(found, there && number % 4 < 2);
    case_ok(mly_snapshot_find_path(snapshot, mly_str_of(id), arena, &document, &found, &err), &err);
    assert_int_equal(found, there && number % 4 == 2);
    case_ok(mly_snapshot_count_chunks(snapshot, mly_str_of(id), &count, &err), &err);
    assert_int_equal(count, there && number % 9 != 4 ? CHUNKS_EACH : 0);
}

static void check(struct mly_store *store, struct expected expected, uint32_t step)
{
    struct mly_snapshot *snapshot = pin(store);
    struct mly_store_counts counts;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    mly_arena_init(&arena, &mem, (size_t)1 << 28);
    uint32_t documents = 0, skipped = 0;
    for (uint32_t number = 0; number < expected.count; number++) {
        if (is_gone(&expected, number)) continue;
        if (number % 9 == 4) skipped++;
        if (number % 9 != 4) documents++;
    }
    mly_snapshot_get_counts(snapshot, &counts);
    assert_int_equal(counts.documents, documents);
    assert_int_equal(counts.skipped, skipped);
    for (uint32_t number = 0; number < expected.count + 20; number += step)
        check_document(snapshot, &arena, &expected, number);
    mly_arena_deinit(&arena);
    mly_snapshot_release(snapshot);
}

/* Fragments of the newest state that have a key file. */
static size_t count_keyed(struct mly_store *store, enum mly_store_table_kind kind)
{
    struct mly_snapshot *snapshot = pin(store);
    const struct mly_store_view *view = snapshot->views[kind];
    size_t count = 0;
    for (size_t i = 0; i < view->part_count; i++)
        count += atomic_load(&view->parts[i].fragment->keyfile) != NULL;
    mly_snapshot_release(snapshot);
    return count;
}

static void close_store(struct mly_store *store)
{
    struct mly_error err = {0};
    case_ok(mly_store_close(store, &err), &err);
}

/* The key files of a table: their paths, at most 8. */
static size_t list_keys(const char *table, char paths[8][512])
{
    char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/_memalloy/index/keys/%s", folder, table);
    DIR *dir = opendir(path);
    size_t count = 0;
    if (dir == NULL) return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.' && strncmp(entry->d_name, ".tmp-", 5) != 0) continue;
        assert_true(count < 8);
        snprintf(paths[count++], 512, "%s/%.100s", path, entry->d_name);
    }
    closedir(dir);
    return count;
}

static const struct expected plain = {DOCUMENTS, 0, 0};

/* A store of two large fragments, closed, with key files. */
static void make_store(void)
{
    struct mly_store *store = open_in(mly_env_system());
    put(store, 0, DOCUMENTS, 1);
    close_store(store);
}

static void rows_are_found_by_key_files_alone(void **state)
{
    (void)state;
    make_store();
    struct mly_store *store = open_in(mly_env_system());
    assert_int_equal(count_keyed(store, MLY_STORE_DOCUMENTS), 1);
    assert_int_equal(count_keyed(store, MLY_STORE_CHUNKS), 1);
    check(store, plain, 1);
    for (int kind = 0; kind < MLY_STORE_TABLES; kind++) {
        for (size_t key_i = 0; key_i < MLY_STORE_KEYS; key_i++)
            assert_int_equal(store->tables[kind].keys[key_i].count, 0);
    }
    close_store(store);
}

static void a_writer_that_made_them_goes_on_without_memory(void **state)
{
    (void)state;
    struct mly_store *store = open_in(mly_env_system());
    const struct mly_keys *keys = &store->tables[MLY_STORE_DOCUMENTS].keys[MLY_STORE_KEY_PATH];
    put(store, 0, DOCUMENTS, 1);
    checkpoint(store);
    size_t before = keys->count;
    assert_int_equal(count_keyed(store, MLY_STORE_DOCUMENTS), 1);
    check(store, plain, 7);
    assert_true(keys->count <= before);
    /* Replaced and removed: new rows in memory, old ones found by the files, and dead. */
    put(store, 0, 60, 2);
    for (uint32_t number = 0; number < 60; number += 5)
        remove_one(store, number);
    check(store, (struct expected){DOCUMENTS, 60, 5}, 1);
    close_store(store);
    store = open_in(mly_env_system());
    check(store, (struct expected){DOCUMENTS, 60, 5}, 1);
    close_store(store);
}

static void without_them_rows_are_read(void **state)
{
    (void)state;
    char paths[8][512];
    make_store();
    for (size_t round = 0; round < 2; round++) {
        size_t count = list_keys(round == 0 ? "documents" : "chunks", paths);
        assert_int_equal(count, 1);
        assert_int_equal(unlink(paths[0]), 0);
        struct mly_store *store = open_in(mly_env_system());
        check(store, plain, 3);
        close_store(store);
    }
    /* The next writer makes them again. */
    struct mly_store *store = open_in(mly_env_system());
    make_keys(store);
    assert_int_equal(list_keys("documents", paths), 1);
    assert_int_equal(list_keys("chunks", paths), 1);
    check(store, plain, 3);
    close_store(store);
}

static size_t read_whole(const char *path, uint8_t *out, size_t bytes_max)
{
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    size_t bytes = fread(out, 1, bytes_max, stream);
    fclose(stream);
    assert_true(bytes < bytes_max);
    return bytes;
}

static void write_whole(const char *path, const uint8_t *data, size_t bytes)
{
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, bytes, stream), bytes);
    fclose(stream);
}

static void damaged_ones_change_no_answer(void **state)
{
    (void)state;
    static uint8_t bytes[1 << 20], other[1 << 20];
    char documents[8][512], chunks[8][512];
    make_store();
    assert_int_equal(list_keys("documents", documents), 1);
    assert_int_equal(list_keys("chunks", chunks), 1);
    size_t count = read_whole(documents[0], bytes, sizeof(bytes));
    size_t other_count = read_whole(chunks[0], other, sizeof(other));
    for (size_t at = 0; at < count; at += at < 64 ? 13 : 4096 + 1021) {
        bytes[at] ^= 0x10;
        write_whole(documents[0], bytes, count);
        bytes[at] ^= 0x10;
        struct mly_store *store = open_in(mly_env_system());
        check(store, plain, 17);
        check(store, plain, 400); /* and after the damage was met */
        close_store(store);
    }
    for (size_t at = 20; at < other_count; at += 4096 + 511) {
        other[at] ^= 0x10;
        write_whole(chunks[0], other, other_count);
        other[at] ^= 0x10;
        struct mly_store *store = open_in(mly_env_system());
        check(store, plain, 17);
        close_store(store);
    }
    /* Damage that was met is repaired by the next writer. */
    bytes[count - 4096 - 100] ^= 1;
    write_whole(documents[0], bytes, count);
    bytes[count - 4096 - 100] ^= 1;
    write_whole(chunks[0], other, other_count);
    struct mly_store *store = open_in(mly_env_system());
    check(store, plain, 1);
    make_keys(store);
    check(store, plain, 11);
    close_store(store);
    assert_int_equal(read_whole(documents[0], other, sizeof(other)), count);
    assert_memory_equal(bytes, other, count);
    /* Of other data: that of the chunks in the place of the documents'. */
    count = read_whole(chunks[0], bytes, sizeof(bytes));
    write_whole(documents[0], bytes, count);
    store = open_in(mly_env_system());
    assert_int_equal(count_keyed(store, MLY_STORE_DOCUMENTS), 0);
    check(store, plain, 11);
    close_store(store);
}

static void files_of_data_that_is_gone_are_taken_away(void **state)
{
    (void)state;
    char paths[8][512], path[TEMP_DIR_BYTES + 64];
    make_store();
    snprintf(path, sizeof(path), "%s/_memalloy/index/keys/chunks", folder);
    temp_dir_write(path, "gone.lance.keys", "x", 1);
    temp_dir_write(path, ".tmp-0", "x", 1);
    temp_dir_write(path, "somebody's", "x", 1);
    temp_dir_write(path, ".keys", "x", 1);
    assert_int_equal(list_keys("chunks", paths), 4);
    struct mly_store *store = open_in(mly_env_system());
    make_keys(store);
    close_store(store);
    assert_int_equal(list_keys("chunks", paths), 2);
    snprintf(path, sizeof(path), "%s/_memalloy/index/keys/chunks/somebody's", folder);
    assert_int_equal(access(path, F_OK), 0);
}

static void making_them_never_fails_the_store(void **state)
{
    (void)state;
    struct fault_env fault;
    struct mly_store *store = open_in(mly_env_system());
    put(store, 0, DOCUMENTS, 1);
    close_store(store);
    fault_env_init(&fault);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        for (uint64_t n = 1; n < 400; n += n < 40 ? 1 : 7) {
            char paths[8][512];
            size_t found = list_keys("documents", paths);
            for (size_t i = 0; i < found; i++)
                (void)unlink(paths[i]);
            fault_env_reset(&fault);
            fault.mem.fail_at = 0;
            store = open_in(&fault.env);
            struct mly_snapshot *snapshot = pin(store);
            fault_env_reset(&fault);
            fault.fail_errno = ENOSPC;
            if (of_memory) fault.mem.fail_at = atomic_load(&fault.mem.calls) + n;
            if (!of_memory) fault.fail_at = n;
            for (int kind = 0; kind < MLY_STORE_TABLES; kind++)
                mly_store_keys_make(snapshot->views[kind]);
            bool reached = of_memory ? atomic_load(&fault.mem.calls) >= fault.mem.fail_at
                                     : atomic_load(&fault.calls) >= n;
            fault_env_reset(&fault);
            fault.mem.fail_at = 0;
            mly_snapshot_release(snapshot);
            check(store, plain, 499);
            close_store(store);
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            store = open_in(mly_env_system());
            check(store, plain, 499);
            close_store(store);
            if (!reached) break;
        }
    }
}

/* Opening with key files: a failing call makes the open fail, or rows are read instead; no answer
 * is wrong. */
static void opening_with_them_survives_every_failure(void **state)
{
    (void)state;
    struct fault_env fault;
    make_store();
    fault_env_init(&fault);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        size_t opened = 0;
        for (uint64_t n = 1; n < 5000; n++) {
            struct mly_error err = {0};
            struct mly_store *store = NULL;
            struct mly_store_options options = case_options();
            options.dim = CASE_DIM;
            fault_env_reset(&fault);
            fault.fail_errno = EIO;
            if (of_memory) fault.mem.fail_at = atomic_load(&fault.mem.calls) + n;
            if (!of_memory) fault.fail_at = n;
            enum mly_err rc = mly_store_open(&fault.env, folder, &options, &store, &err);
            bool reached = of_memory ? atomic_load(&fault.mem.calls) >= fault.mem.fail_at
                                     : atomic_load(&fault.calls) >= n;
            fault_env_reset(&fault);
            fault.mem.fail_at = 0;
            if (rc == MLY_OK) {
                opened++;
                check(store, plain, 499);
                close_store(store);
            }
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            if (!reached) break;
        }
        assert_true(opened > 1);
    }
}

struct seeker {
    struct mly_store *store;
    uint32_t seed;
};

static void *seek(void *context)
{
    const struct seeker *seeker = context;
    for (uint32_t round = 0; round < 3; round++)
        check(seeker->store, plain, 37 + seeker->seed);
    return NULL;
}

/* Files that come while others search, and damage that several meet at once. */
static void threads_find_the_same(void **state)
{
    (void)state;
    static uint8_t bytes[1 << 20];
    char paths[8][512];
    for (int damaged = 0; damaged < 2; damaged++) {
        pthread_t threads[4];
        struct seeker seekers[4];
        if (damaged == 0) {
            struct mly_store *store = open_in(mly_env_system());
            put(store, 0, DOCUMENTS, 1);
            close_store(store);
            assert_int_equal(list_keys("documents", paths), 1);
            assert_int_equal(unlink(paths[0]), 0);
        } else {
            assert_int_equal(list_keys("documents", paths), 1);
            size_t count = read_whole(paths[0], bytes, sizeof(bytes));
            for (size_t at = 3 * 4096; at < count - 8 * 4096; at += 4096)
                bytes[at] ^= 1;
            write_whole(paths[0], bytes, count);
        }
        struct mly_store *store = open_in(mly_env_system());
        for (size_t i = 0; i < 4; i++) {
            seekers[i] = (struct seeker){store, (uint32_t)i};
            assert_int_equal(pthread_create(&threads[i], NULL, seek, &seekers[i]), 0);
        }
        make_keys(store);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        close_store(store);
    }
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(rows_are_found_by_key_files_alone),
        IN_FOLDER(a_writer_that_made_them_goes_on_without_memory),
        IN_FOLDER(without_them_rows_are_read),
        IN_FOLDER(damaged_ones_change_no_answer),
        IN_FOLDER(files_of_data_that_is_gone_are_taken_away),
        IN_FOLDER(making_them_never_fails_the_store),
        IN_FOLDER(opening_with_them_survives_every_failure),
        IN_FOLDER(threads_find_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
