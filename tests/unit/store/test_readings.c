/* Reading and writing on where something is wrong in the midst of it: bytes of large files that
 * changed, every allocation of one operation alone, and odd words.
 * Whatever is read is right, or it is an error. */
#define _GNU_SOURCE
#include "store_place.h"

#include "fault_env.h"
#include "test_pace.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANY 700 /* documents: their files have several blocks of sums */

/* ---- damage ---- */

static enum mly_err see_document(void *context, const struct mly_document *document,
                                 struct mly_error *why)
{
    uint64_t *count = context;
    (void)why;
    *count += document->id.bytes > 0;
    return MLY_OK;
}

/* So many documents in one commit, in the tables. */
static void make_many(void)
{
    static struct case_document documents[MANY];
    static struct mly_change changes[MANY];
    struct mly_store *store = open_store(mly_env_system());
    for (uint32_t i = 0; i < MANY; i++) {
        case_make(&documents[i], i, 1 + i % 7, i);
        changes[i] = case_change(&documents[i]);
        changes[i].dim = CASE_DIM;
    }
    case_ok(case_commit(store, changes, MANY, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
}

static void note(enum mly_err rc, uint64_t *refused)
{
    if (rc == MLY_OK) return;
    if (rc != MLY_ERR_CORRUPT) print_message("%s\n", err.message);
    assert_int_equal(rc, MLY_ERR_CORRUPT);
    (*refused)++;
}

/* Everything that a snapshot can be asked. */
static void read_snapshot(const struct mly_snapshot *snapshot, uint64_t *refused)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    uint64_t count = 0;
    mly_arena_init(&arena, &mem, (size_t)1 << 30);
    note(mly_snapshot_each_document(snapshot, see_document, &count, &err), refused);
    for (uint32_t i = 0; i < MANY; i += 23) {
        struct case_document made;
        struct mly_document document;
        struct mly_chunk_row *rows;
        bool found;
        size_t chunks;
        case_make(&made, i, 1 + i % 7, i);
        enum mly_err rc =
            mly_snapshot_find_document(snapshot, made.document.id, &arena, &document, &found, &err);
        if (rc == MLY_OK && found) {
            assert_true(mly_str_equal(document.title, made.document.title));
        }
        note(rc, refused);
        note(mly_snapshot_find_path(snapshot, made.document.path, &arena, &document, &found, &err),
             refused);
        rc = mly_snapshot_document_chunks(snapshot, made.document.id, &arena, &rows, &chunks, &err);
        if (rc == MLY_OK && chunks > 0) {
            assert_int_equal(chunks, made.row_count);
            assert_true(mly_str_equal(rows[0].content, made.rows[0].content));
        }
        note(rc, refused);
        note(mly_snapshot_count_chunks(snapshot, made.document.id, &chunks, &err), refused);
    }
    for (size_t i = 0; i < mly_snapshot_block_count(snapshot); i++) {
        struct mly_vector_block block;
        struct mly_chunk_row row;
        enum mly_err rc = mly_snapshot_get_block(snapshot, i, &block, &err);
        note(rc, refused);
        for (size_t j = 0; rc == MLY_OK && j < block.row_count; j += 41) {
            note(mly_snapshot_read_chunk(snapshot, block.first_address + j, &arena, &row, &err),
                 refused);
        }
    }
    mly_arena_deinit(&arena);
    assert_int_equal(mem.live, 0);
}

/* And what a commit reads of what is there. */
static void write_on(struct mly_store *store, uint32_t number, uint64_t *refused)
{
    struct case_document document;
    struct case_entry entry = case_entry(true, 3, number);
    entry.metadata = 5;
    case_make_entry(&document, number, &entry);
    struct mly_change change = {.kind = MLY_CHANGE_METADATA, .document = document.document};
    note(case_commit(store, &change, 1, &err), refused);
    note(case_put(store, number + 1, 2, &err), refused);
    note(case_remove(store, number + 2, &err), refused);
}

static enum mly_err count_damaged(void *context, const struct mly_store_verified *file,
                                  struct mly_error *why)
{
    uint64_t *damaged = context;
    (void)why;
    if (file->code != MLY_OK) assert_true(file->reason[0] != '\0');
    *damaged += file->code != MLY_OK;
    return MLY_OK;
}

static void damage_in_the_midst_of_a_file_is_met_where_it_is_read(void **state)
{
    (void)state;
    static const char *const tables[] = {"documents.lance", "chunks.lance"};
    make_many();
    for (size_t table_i = 0; table_i < 2; table_i++) {
        char file[TEMP_DIR_BYTES + 400];
        long bytes = find_data(tables[table_i], file, sizeof(file));
        uint64_t refused = 0, wrote = 0, unopened = 0;
        assert_true(bytes > 60000);
        for (long offset = 0; offset < bytes; offset += 6007 * TEST_PACE(1, 3, 5)) {
            struct mly_store *store = NULL;
            struct mly_snapshot *snapshot = NULL;
            struct mly_store_options options = case_options();
            char keys[TEMP_DIR_BYTES + 64];
            /* Found by what the tables say, and not by what was found before. */
            snprintf(keys, sizeof(keys), "%s/_memalloy/index", folder);
            temp_dir_remove(keys);
            flip(file, offset);
            enum mly_err rc = mly_store_open(mly_env_system(), folder, &options, &store, &err);
            if (rc == MLY_OK) rc = mly_store_pin(store, &snapshot, &err);
            note(rc, &unopened);
            if (rc == MLY_OK) {
                uint64_t damaged = 0;
                case_ok(mly_store_verify(store, count_damaged, &damaged, &err), &err);
                assert_true(damaged > 0); /* whether it is read by then or not */
                read_snapshot(snapshot, &refused);
                mly_snapshot_release(snapshot);
                write_on(store, (uint32_t)(offset % (MANY - 3)), &wrote);
            }
            /* Not closed as it should be: what was written goes with the copy below. */
            (void)mly_store_close(store, NULL);
            flip(file, offset);
            temp_dir_remove(folder);
            make_many();
            bytes = find_data(tables[table_i], file, sizeof(file));
        }
        print_message("%s: %llu answers, %llu writes, %llu openings refused\n", tables[table_i],
                      (unsigned long long)refused, (unsigned long long)wrote,
                      (unsigned long long)unopened);
        assert_true(refused > 0);
    }
}

/* ---- one operation alone ---- */

typedef enum mly_err (*life_fn)(struct mly_store *store, struct mly_error *why);

static enum mly_err put_load(struct mly_store *store, struct mly_error *why)
{
    static struct case_document document;
    struct case_entry entry = case_entry(true, 8, 0);
    entry.metadata = CASE_METADATA_BIG;
    case_make_entry(&document, 1, &entry);
    struct mly_change change = case_change(&document);
    change.dim = CASE_DIM;
    return case_commit(store, &change, 1, why);
}

static enum mly_err put_metadata(struct mly_store *store, struct mly_error *why)
{
    struct case_document document;
    struct case_entry entry = case_entry(true, 2, 0);
    entry.metadata = 9;
    case_make_entry(&document, 2, &entry);
    struct mly_change change = {.kind = MLY_CHANGE_METADATA, .document = document.document};
    return case_commit(store, &change, 1, why);
}

static enum mly_err put_many(struct mly_store *store, struct mly_error *why)
{
    for (uint32_t number = 1; number < 4; number++)
        MLY_TRY(case_put(store, number, number + 2, why));
    return case_remove(store, 2, why);
}

static enum mly_err checkpoint(struct mly_store *store, struct mly_error *why)
{
    return mly_store_checkpoint(store, why);
}

static enum mly_err verify(struct mly_store *store, struct mly_error *why)
{
    uint64_t damaged = 0;
    return mly_store_verify(store, count_damaged, &damaged, why);
}

static enum mly_err read_again(struct mly_store *store, struct mly_error *why)
{
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    uint64_t count = 0;
    MLY_TRY(mly_store_pin(store, &snapshot, why));
    mly_arena_init(&arena, mly_env_system()->mem, (size_t)1 << 20);
    enum mly_err rc = mly_snapshot_each_document(snapshot, see_document, &count, why);
    for (uint32_t number = 0; rc == MLY_OK && number < 5; number++) {
        struct case_document made;
        struct mly_chunk_row *rows;
        size_t chunks;
        case_make(&made, number, 1, 0);
        rc = mly_snapshot_document_chunks(snapshot, made.document.id, &arena, &rows, &chunks, why);
    }
    mly_arena_deinit(&arena);
    mly_snapshot_release(snapshot);
    return rc;
}

/* Three documents in the tables, and two changed after that; or there is nothing yet. */
static void prepare(struct mly_store *store, bool filled)
{
    for (uint32_t number = 1; filled && number < 4; number++)
        case_ok(case_put(store, number, number, &err), &err);
    if (filled) case_ok(mly_store_checkpoint(store, &err), &err);
    if (filled) case_ok(case_put(store, 2, 2, &err), &err);
    if (filled) case_ok(case_put(store, 3, 5, &err), &err);
}

/* Each allocation (or file call) of the operation and of the closing after it fails once, or each
 * so manieth: MLY_TEST_STEP. What is there then opens, and is whole. */
static uint64_t fail_each(life_fn life, bool filled, bool allocations)
{
    uint64_t failures = 0;
    const char *wanted = getenv("MLY_TEST_STEP");
    const uint64_t step =
        wanted != NULL ? strtoull(wanted, NULL, 10) : (allocations ? 23u : 5u) * TEST_PACE(1, 5, 7);
    for (bool fired = true; fired; failures += step) {
        struct fault_env fault;
        struct mly_error why = {0};
        struct mly_store *store = NULL;
        struct mly_store_options options = case_options();
        temp_dir_remove(folder);
        fault_env_init(&fault);
        fault.fail_errno = EIO;
        case_ok(mly_store_open(&fault.env, folder, &options, &store, &err), &err);
        prepare(store, filled);
        if (allocations) {
            fault.mem.fail_at = fault.mem.calls + 1 + failures;
        } else {
            fault.fail_at = fault.calls + 1 + failures;
        }
        enum mly_err rc = life(store, &why);
        enum mly_err closed = mly_store_close(store, NULL);
        fired = allocations ? fault.mem.calls >= fault.mem.fail_at : fault.calls >= fault.fail_at;
        if (!fired) case_ok(rc, &why);
        if (!fired) assert_int_equal(closed, MLY_OK);
        if (rc != MLY_OK) {
            assert_int_equal(rc, allocations ? MLY_ERR_NOMEM : MLY_ERR_IO);
            assert_true(why.message[0] != '\0');
        }
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (failures / step % 16 != 0) continue;
        struct mly_snapshot *snapshot = NULL;
        store = open_store(mly_env_system());
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        uint64_t count = 0;
        case_ok(mly_snapshot_each_document(snapshot, see_document, &count, &err), &err);
        assert_true(!filled || count >= 2);
        mly_snapshot_release(snapshot);
        case_ok(mly_store_close(store, &err), &err);
    }
    return failures / step;
}

static void every_allocation_of_one_operation_may_fail(void **state)
{
    (void)state;
    static const struct {
        life_fn life;
        bool filled;
    } lives[] = {{put_load, true},  {put_load, false},  {put_metadata, true}, {put_many, true},
                 {put_many, false}, {checkpoint, true}, {read_again, true},   {verify, true}};
    uint64_t failures = 0;
    for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++)
        failures += fail_each(lives[i].life, lives[i].filled, true);
    print_message("ran: %llu allocations failed\n", (unsigned long long)failures);
}

static void every_call_of_one_operation_may_fail(void **state)
{
    (void)state;
    uint64_t failures = fail_each(put_load, true, false) + fail_each(checkpoint, true, false) +
                        fail_each(verify, true, false);
    print_message("ran: %llu calls failed\n", (unsigned long long)failures);
}

/* ---- the log ---- */

/* Of a store whose writer was killed: its records are read by verifying too. */
static void verifying_tells_of_a_damaged_record(void **state)
{
    (void)state;
    char file[TEMP_DIR_BYTES + 96];
    uint64_t damaged = 0;
    struct mly_store *writer = open_store(mly_env_system());
    prepare(writer, true);
    struct mly_store *reader = open_store(mly_env_system());
    case_ok(mly_store_verify(reader, count_damaged, &damaged, &err), &err);
    assert_int_equal(damaged, 0);
    snprintf(file, sizeof(file), "%s/_memalloy/wal", folder);
    DIR *dir = opendir(file);
    assert_non_null(dir);
    char newest[TEMP_DIR_BYTES + 400] = "";
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[TEMP_DIR_BYTES + 400];
        snprintf(path, sizeof(path), "%s/%.255s", file, entry->d_name);
        if (entry->d_name[0] != '.' && strcmp(path, newest) > 0) memcpy(newest, path, sizeof(path));
    }
    closedir(dir);
    uint64_t told = 0;
    for (long offset = 64; offset < 4096; offset += 256) {
        damaged = 0;
        flip(newest, offset);
        enum mly_err rc = mly_store_verify(reader, count_damaged, &damaged, &err);
        flip(newest, offset);
        told += rc == MLY_OK ? damaged : rc == MLY_ERR_CORRUPT;
    }
    assert_true(told > 0);
    case_ok(mly_store_close(reader, &err), &err);
    case_ok(mly_store_close(writer, &err), &err);
}

static void an_address_of_no_row_is_refused(void **state)
{
    (void)state;
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    struct mly_chunk_row row;
    struct mly_store *store = open_store(mly_env_system());
    mly_arena_init(&arena, mly_env_system()->mem, (size_t)1 << 20);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    assert_int_equal(mly_snapshot_read_chunk(snapshot, 0, &arena, &row, &err), MLY_ERR_INVAL);
    mly_snapshot_release(snapshot);
    prepare(store, true);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    const uint64_t wrong[] = {(uint64_t)99 << 32, 1000, UINT64_MAX, (uint64_t)UINT32_MAX};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(mly_snapshot_read_chunk(snapshot, wrong[i], &arena, &row, &err),
                         MLY_ERR_INVAL);
        assert_non_null(strstr(err.message, "in this snapshot"));
    }
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
    case_ok(mly_store_close(store, &err), &err);
}

/* ---- words ---- */

/* Whoever waits in vain is told who writes, where the lock says so, whatever stands there. */
static void the_lock_may_say_anything(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",    "x",       "123",  "123 ", "123 x",  "99999999999999999999 1 1",
        "1 2", "1 2 3 4", "-1 2", "    ", "1  2  3"};
    struct mly_store *writer = open_store(mly_env_system());
    case_ok(case_put(writer, 1, 1, &err), &err);
    case_ok(mly_store_begin(writer, &err), &err);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct mly_store *waiting = NULL;
        struct mly_store_options options = case_options();
        options.lock_wait_ms = 1;
        char file[TEMP_DIR_BYTES + 64];
        snprintf(file, sizeof(file), "%s/_memalloy/lock", folder);
        FILE *stream = fopen(file, "r+b");
        assert_non_null(stream);
        assert_int_equal(fprintf(stream, "%-63s\n", texts[i]), 64);
        fclose(stream);
        case_ok(mly_store_open(mly_env_system(), folder, &options, &waiting, &err), &err);
        assert_int_equal(mly_store_begin(waiting, &err), MLY_ERR_BUSY);
        assert_non_null(strstr(err.message, folder));
        case_ok(mly_store_close(waiting, &err), &err);
    }
    case_ok(mly_store_end(writer, &err), &err);
    case_ok(case_put(writer, 1, 2, &err), &err); /* its lock does not say any more that it was it */
    case_ok(mly_store_close(writer, &err), &err);
}

/* store.json is for people: whatever a model is called is written so that it can be read. */
static void strange_words_are_escaped(void **state)
{
    (void)state;
    char text[4096] = "", file[TEMP_DIR_BYTES + 64];
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    options.model_id = MLY_STR("a\"b\\c\nd");
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    case_ok(case_put(store, 1, 1, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
    snprintf(file, sizeof(file), "%s/_memalloy/store.json", folder);
    FILE *stream = fopen(file, "rb");
    assert_non_null(stream);
    text[fread(text, 1, sizeof(text) - 1, stream)] = '\0';
    fclose(stream);
    assert_non_null(strstr(text, "a\\u0022b\\u005cc\\u000ad"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(damage_in_the_midst_of_a_file_is_met_where_it_is_read),
        ON_DISK(every_allocation_of_one_operation_may_fail),
        ON_DISK(every_call_of_one_operation_may_fail),
        ON_DISK(verifying_tells_of_a_damaged_record),
        ON_DISK(an_address_of_no_row_is_refused),
        ON_DISK(the_lock_may_say_anything),
        ON_DISK(strange_words_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
