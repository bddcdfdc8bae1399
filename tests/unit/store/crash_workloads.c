/* See crash_workloads.h. */
#include "crash_workloads.h"

#include "lance/lance.h"
#include "mly_cmocka.h"
#include "os/dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const crash_tables[CRASH_TABLES] = {CRASH_FOLDER "/documents.lance",
                                                CRASH_FOLDER "/chunks.lance"};

/* ---- the ledger ---- */

static void mark(struct crash_ledger *ledger)
{
    assert_true(ledger->mark_count < CRASH_MARKS);
    ledger->now.moment = crash_env_now(&ledger->crash);
    ledger->marks[ledger->mark_count++] = ledger->now;
    ledger->last_sync = ledger->crash.syncs;
}

struct crash_mark crash_mark_at(const struct crash_ledger *ledger, size_t moment)
{
    struct crash_mark found = ledger->marks[0];
    for (size_t i = 0; i < ledger->mark_count; i++) {
        if (ledger->marks[i].moment > moment) break;
        found = ledger->marks[i];
    }
    return found;
}

/* What was done up to now is on the disk, and no cut is tried in it. */
static void start_here(struct crash_ledger *ledger)
{
    ledger->first_moment = crash_env_now(&ledger->crash);
    ledger->first_sync = ledger->crash.syncs;
}

static struct mly_store *open_with(struct crash_ledger *ledger, uint32_t dim)
{
    struct mly_store *store = NULL;
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    options.dim = dim;
    case_ok(mly_store_open(&ledger->crash.env, CRASH_FOLDER, &options, &store, &err), &err);
    return store;
}

static struct mly_store *open_store(struct crash_ledger *ledger)
{
    return open_with(ledger, CASE_DIM);
}

/* Everything that was begun is durable now. */
static void settle(struct crash_ledger *ledger)
{
    ledger->now.durable = ledger->now.begun;
    mark(ledger);
}

/* And it is in the tables. */
static void settle_tables(struct crash_ledger *ledger)
{
    for (size_t i = 0; i < CRASH_TABLES; i++) {
        struct mly_error err = {0};
        struct mly_lance_table *table = NULL;
        struct mly_lance_manifest *manifest = NULL;
        case_ok(mly_lance_table_open(&ledger->crash.env, crash_tables[i], &table, &err), &err);
        case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
        if (manifest != NULL) ledger->now.versions[i] = mly_lance_manifest_version(manifest);
        mly_lance_manifest_destroy(manifest);
        mly_lance_table_close(table);
    }
    settle(ledger);
}

static void close_store(struct crash_ledger *ledger, struct mly_store *store)
{
    struct mly_error err = {0};
    case_ok(mly_store_close(store, &err), &err);
    settle_tables(ledger);
}

static void flush(struct crash_ledger *ledger, struct mly_store *store)
{
    struct mly_error err = {0};
    case_ok(mly_store_flush(store, &err), &err);
    settle(ledger);
}

static void checkpoint(struct crash_ledger *ledger, struct mly_store *store)
{
    struct mly_error err = {0};
    case_ok(mly_store_checkpoint(store, &err), &err);
    settle_tables(ledger);
}

/* Adds a change to the commit that is being made up. */
static struct case_document *want(struct crash_ledger *ledger, uint32_t number, uint32_t version,
                                  enum mly_change_kind kind)
{
    size_t i = ledger->change_count++;
    struct case_entry *next = ledger->entries[ledger->now.begun + 1];
    assert_true(ledger->now.begun < CRASH_COMMITS);
    if (i == 0) memcpy(next, ledger->entries[ledger->now.begun], sizeof(ledger->entries[0]));
    if (kind == MLY_CHANGE_METADATA) {
        next[number].metadata = version;
        case_make_entry(&ledger->documents[i], number, &next[number]);
    } else {
        next[number] = case_entry(kind != MLY_CHANGE_REMOVE, version, 1);
        case_make(&ledger->documents[i], number, version, 1);
    }
    ledger->changes[i] = case_change(&ledger->documents[i]);
    ledger->changes[i].kind = kind;
    ledger->changes[i].dim = kind == MLY_CHANGE_PUT ? CASE_DIM : 0;
    return &ledger->documents[i];
}

/* What its commit gives, or, where that is OK, its end. */
static enum mly_err try_commit(struct crash_ledger *ledger, struct mly_store *store,
                               enum mly_durability durability, struct mly_error *err)
{
    ledger->now.begun++;
    mark(ledger);
    enum mly_err rc = mly_store_begin(store, err);
    if (rc == MLY_OK) {
        rc = mly_store_commit(store, ledger->changes, ledger->change_count, durability, err);
        if (rc != MLY_OK) ledger->now.begun--; /* it is not there, now or later */
        enum mly_err end = mly_store_end(store, rc == MLY_OK ? err : NULL);
        if (rc == MLY_OK) rc = end;
        if (rc == MLY_OK && durability == MLY_DURABILITY_FULL)
            ledger->now.durable = ledger->now.begun;
    } else {
        ledger->now.begun--;
    }
    ledger->change_count = 0;
    mark(ledger);
    return rc;
}

static void commit_as(struct crash_ledger *ledger, struct mly_store *store,
                      enum mly_durability durability)
{
    struct mly_error err = {0};
    case_ok(try_commit(ledger, store, durability, &err), &err);
}

static void commit(struct crash_ledger *ledger, struct mly_store *store)
{
    commit_as(ledger, store, MLY_DURABILITY_FULL);
}

static void put(struct crash_ledger *ledger, struct mly_store *store, uint32_t number,
                uint32_t version)
{
    want(ledger, number, version, MLY_CHANGE_PUT);
    commit(ledger, store);
}

static void put_off(struct crash_ledger *ledger, struct mly_store *store, uint32_t number,
                    uint32_t version)
{
    want(ledger, number, version, MLY_CHANGE_PUT);
    commit_as(ledger, store, MLY_DURABILITY_OFF);
}

/* ---- workloads ---- */

static void single_adds(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t number = 1; number < 5; number++)
        put(ledger, store, number, number);
    close_store(ledger, store);
}

static void replaced_and_removed(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t version = 1; version < 4; version++)
        put(ledger, store, 1, version);
    put(ledger, store, 2, 1);
    want(ledger, 1, 3, MLY_CHANGE_REMOVE);
    commit(ledger, store);
    put(ledger, store, 1, 4);
    want(ledger, 2, 1, MLY_CHANGE_REMOVE);
    commit(ledger, store);
    close_store(ledger, store);
}

static void metadata(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    put(ledger, store, 1, 2);
    want(ledger, 1, 7, MLY_CHANGE_METADATA);
    commit(ledger, store);
    checkpoint(ledger, store);
    want(ledger, 1, 8, MLY_CHANGE_METADATA);
    commit(ledger, store);
    checkpoint(ledger, store);
    close_store(ledger, store);
}

static void batches(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t number = 1; number < 4; number++)
        want(ledger, number, number, MLY_CHANGE_PUT);
    commit(ledger, store);
    want(ledger, 2, 6, MLY_CHANGE_PUT);
    want(ledger, 3, 3, MLY_CHANGE_REMOVE);
    want(ledger, 4, 7, MLY_CHANGE_PUT);
    want(ledger, 5, 0, MLY_CHANGE_TOUCH);
    want(ledger, 1, 9, MLY_CHANGE_METADATA);
    commit(ledger, store);
    want(ledger, 1, 5, MLY_CHANGE_PUT);
    want(ledger, 5, 5, MLY_CHANGE_PUT);
    commit(ledger, store);
    close_store(ledger, store);
}

static void off_and_flush(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t number = 1; number < 5; number++)
        put_off(ledger, store, number, number);
    flush(ledger, store);
    for (uint32_t number = 3; number < 6; number++)
        put_off(ledger, store, number, number + 1);
    flush(ledger, store);
    put_off(ledger, store, 1, 7);
    close_store(ledger, store);
}

/* Document 1 in version 8 has CASE_CHUNKS_MAX chunks. */
static void a_load(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    ledger->is_costly = true;
    put(ledger, store, 1, 1);
    put(ledger, store, 2, 1);
    start_here(ledger);
    struct case_document *big = want(ledger, 1, 8, MLY_CHANGE_PUT);
    assert_int_equal(big->row_count, CASE_CHUNKS_MAX);
    case_set_metadata(big, CASE_METADATA_BIG);
    ledger->entries[ledger->now.begun + 1][1].metadata = CASE_METADATA_BIG;
    ledger->changes[0].document = big->document;
    want(ledger, 3, 4, MLY_CHANGE_PUT);
    want(ledger, 4, 0, MLY_CHANGE_TOUCH);
    commit(ledger, store);
    put(ledger, store, 3, 5);
    close_store(ledger, store);
}

static void checkpoints(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t number = 1; number < 5; number++)
        want(ledger, number, number, MLY_CHANGE_PUT);
    commit(ledger, store);
    checkpoint(ledger, store);
    put(ledger, store, 2, 5);
    checkpoint(ledger, store);
    want(ledger, 3, 3, MLY_CHANGE_REMOVE);
    commit(ledger, store);
    put_off(ledger, store, 5, 2);
    checkpoint(ledger, store);
    put(ledger, store, 1, 9);
    close_store(ledger, store);
}

/* From the fourth small fragment on they are merged; versions and files go. */
static void merging(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t number = 1; number < 4; number++) {
        put(ledger, store, number, number);
        checkpoint(ledger, store);
    }
    start_here(ledger);
    for (uint32_t number = 4; number < 7; number++) {
        put_off(ledger, store, number, number);
        checkpoint(ledger, store);
    }
    want(ledger, 5, 5, MLY_CHANGE_REMOVE);
    commit(ledger, store);
    close_store(ledger, store);
}

static void sessions(struct crash_ledger *ledger)
{
    for (uint32_t session = 1; session < 4; session++) {
        struct mly_store *store = open_store(ledger);
        put_off(ledger, store, session, session);
        put_off(ledger, store, session + 1, session + 4);
        close_store(ledger, store);
    }
}

static void handles_in_turn(struct crash_ledger *ledger)
{
    struct mly_store *stores[2] = {open_store(ledger), open_store(ledger)};
    for (uint32_t i = 0; i < 3; i++) {
        put(ledger, stores[0], 1 + i, 1 + i);
        put_off(ledger, stores[1], 2 + i, 5 + i);
        put(ledger, stores[1], 7, 1 + i);
    }
    checkpoint(ledger, stores[0]);
    put(ledger, stores[1], 8, 1);
    close_store(ledger, stores[0]);
    close_store(ledger, stores[1]);
}

/* What it had not synced is in the system's memory: who comes next relies on it. */
static void a_writer_that_was_killed(struct crash_ledger *ledger)
{
    ledger->dead = open_store(ledger);
    put(ledger, ledger->dead, 1, 1);
    start_here(ledger);
    put_off(ledger, ledger->dead, 2, 1);
    put_off(ledger, ledger->dead, 1, 2);
    put_off(ledger, ledger->dead, 3, 1);
    struct mly_store *store = open_store(ledger);
    put(ledger, store, 4, 1);
    put(ledger, store, 1, 3);
    close_store(ledger, store);
}

static void fail_next_syncs(struct crash_ledger *ledger, uint64_t count)
{
    ledger->crash.fail_sync = ledger->crash.syncs + 1;
    ledger->crash.fail_count = count;
}

/* What it was for goes into a new segment. */
static void a_sync_that_fails(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    put(ledger, store, 1, 1);
    put_off(ledger, store, 2, 1);
    fail_next_syncs(ledger, 1);
    put(ledger, store, 3, 1);
    put(ledger, store, 1, 2);
    put_off(ledger, store, 2, 2);
    fail_next_syncs(ledger, 1);
    checkpoint(ledger, store);
    put(ledger, store, 4, 1);
    close_store(ledger, store);
}

/* Then it goes into the tables before anything else is written. */
static void a_disk_that_fails_for_a_while(struct crash_ledger *ledger)
{
    struct mly_error err = {0};
    struct mly_store *store = open_store(ledger);
    ledger->is_failing = true;
    put(ledger, store, 1, 1);
    put(ledger, store, 2, 1);
    fail_next_syncs(ledger, 2);
    want(ledger, 1, 2, MLY_CHANGE_PUT);
    want(ledger, 3, 1, MLY_CHANGE_PUT);
    assert_int_equal(try_commit(ledger, store, MLY_DURABILITY_FULL, &err), MLY_ERR_IO);
    put(ledger, store, 4, 1);
    put(ledger, store, 1, 3);
    close_store(ledger, store);
}

/* Is the log torn after this cut? */
static bool is_torn(struct crash_ledger *before, const struct crash_choice *choice, size_t *commits)
{
    struct crash_env disk;
    struct mly_store *store = NULL;
    struct mly_error err = {0};
    struct mly_store_options options = case_options();
    struct mly_store_report report;
    struct mly_snapshot *snapshot = NULL;
    struct mly_mem mem = MLY_MEM_INIT;
    crash_env_cut(&before->crash, choice, &disk);
    case_ok(mly_store_open(&disk.env, CRASH_FOLDER, &options, &store, &err), &err);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    for (*commits = before->now.durable; *commits < before->now.begun; (*commits)++) {
        if (crash_is_state(snapshot, &mem, before->entries[*commits])) break;
    }
    mly_snapshot_release(snapshot);
    case_ok(case_put(store, 1, 1, &err), &err);
    mly_store_get_report(store, &report);
    case_ok(mly_store_close(store, &err), &err);
    bool torn = report.dropped_bytes > 0 && report.kept;
    if (torn) assert_true(crash_take_kept(&disk.env, &before->aside));
    crash_env_deinit(&disk);
    return torn;
}

static void a_torn_tail(struct crash_ledger *ledger)
{
    struct crash_ledger *before = calloc(1, sizeof(*before));
    struct crash_choice choice = {0, CRASH_RANDOM, 1};
    uint64_t skip_sync = ledger->crash.skip_sync;
    size_t commits = 0;
    assert_non_null(before);
    crash_env_init(&before->crash);
    mly_bytes_init(&before->aside, &before->mem, MLY_META_BYTES_MAX);
    before->dead = open_store(before);
    put(before, before->dead, 1, 1);
    for (uint32_t number = 2; number < 5; number++)
        put_off(before, before->dead, number, 1);
    choice.moment = crash_env_now(&before->crash);
    while (!is_torn(before, &choice, &commits)) {
        choice.number++;
        assert_true(choice.number < 1000);
    }
    crash_env_deinit(&ledger->crash);
    crash_env_cut(&before->crash, &choice, &ledger->crash);
    ledger->crash.skip_sync = skip_sync;
    memcpy(ledger->entries[0], before->entries[commits], sizeof(ledger->entries[0]));
    struct mly_error err = {0};
    case_ok(mly_bytes_append(&ledger->aside, before->aside.data, before->aside.bytes, &err), &err);
    crash_ledger_free(before);
    mark(ledger);
    struct mly_store *store = open_store(ledger);
    put(ledger, store, 5, 1);
    put(ledger, store, 1, 2);
    close_store(ledger, store);
}

/* Another program's version has nothing of our rows, and is met by what we do next. */
static void commit_as_another(struct crash_ledger *ledger, const char *table_name)
{
    char path[64];
    struct mly_error err = {0};
    struct mly_lance_table *table = NULL;
    struct mly_lance_manifest *manifest = NULL;
    const struct mly_lance_pair pair = {MLY_STR("another.program"), MLY_STR("was here")};
    const struct mly_lance_change change = {.config = &pair, .config_count = 1};
    snprintf(path, sizeof(path), CRASH_FOLDER "/%s", table_name);
    case_ok(mly_lance_table_open(&ledger->crash.env, path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &manifest, &err), &err);
    case_ok(mly_lance_commit(table, manifest, &change, NULL, NULL, &err), &err);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(table);
}

static void beside_another_program(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    put(ledger, store, 1, 1);
    put(ledger, store, 2, 1);
    commit_as_another(ledger, "chunks.lance");
    put(ledger, store, 1, 2);
    commit_as_another(ledger, "documents.lance");
    checkpoint(ledger, store);
    commit_as_another(ledger, "chunks.lance");
    put(ledger, store, 3, 1);
    commit_as_another(ledger, "documents.lance");
    close_store(ledger, store);
}

static void tables_made_late(struct crash_ledger *ledger)
{
    struct mly_store *store = open_with(ledger, 0);
    for (uint32_t number = 1; number < 4; number++) {
        want(ledger, number, 0, MLY_CHANGE_TOUCH);
        commit_as(ledger, store, number == 1 ? MLY_DURABILITY_FULL : MLY_DURABILITY_OFF);
    }
    put_off(ledger, store, 4, 1);
    put(ledger, store, 1, 3);
    close_store(ledger, store);
}

/* The newest manifest of the documents has another end, which is seen without its sums. */
static void damage_newest(struct crash_ledger *ledger)
{
    char newest[128] = "~", path[256];
    struct mly_error err = {0};
    struct mly_dir dir;
    struct mly_file_info info;
    struct mly_file file;
    const char *name;
    case_ok(mly_dir_open(&ledger->crash.env, MLY_AT_CWD, CRASH_FOLDER "/documents.lance/_versions",
                         &dir, &err),
            &err);
    while (mly_dir_next(&dir, &name, &err) == MLY_OK && name != NULL) {
        if (strstr(name, ".manifest") != NULL && strcmp(name, newest) < 0)
            snprintf(newest, sizeof(newest), "%s", name);
    }
    mly_dir_close(&dir);
    snprintf(path, sizeof(path), CRASH_FOLDER "/documents.lance/_versions/%s", newest);
    case_ok(mly_file_open(&ledger->crash.env, MLY_AT_CWD, path, MLY_OPEN_WRITE, &file, &err), &err);
    case_ok(mly_file_info(&file, &info, &err), &err);
    case_ok(mly_file_write(&file, "X", 1, info.bytes - 1, &err), &err);
    case_ok(mly_file_sync(&file, &err), &err);
    case_ok(mly_file_read_all(&file, &ledger->aside, &err), &err);
    mly_file_close(&file);
}

static void a_damaged_manifest(struct crash_ledger *ledger)
{
    struct mly_store *store = open_store(ledger);
    for (uint32_t number = 1; number < 4; number++) {
        put(ledger, store, number, 1);
        checkpoint(ledger, store);
    }
    put(ledger, store, 1, 2);
    close_store(ledger, store);
    damage_newest(ledger);
    ledger->now.versions[0]--;
    ledger->is_damaged = true;
    start_here(ledger);
    mark(ledger);
    store = open_store(ledger);
    put(ledger, store, 2, 2);
    put(ledger, store, 4, 2);
    close_store(ledger, store);
    ledger->mended = ledger->now.moment;
}

static const struct {
    const char *name;
    void (*run)(struct crash_ledger *ledger);
} workloads[] = {
    {"single adds", single_adds},
    {"replaced and removed", replaced_and_removed},
    {"metadata", metadata},
    {"batches", batches},
    {"off, then flush", off_and_flush},
    {"a load", a_load},
    {"checkpoints", checkpoints},
    {"merging", merging},
    {"sessions", sessions},
    {"handles in turn", handles_in_turn},
    {"a writer that was killed", a_writer_that_was_killed},
    {"a sync that fails", a_sync_that_fails},
    {"a disk that fails for a while", a_disk_that_fails_for_a_while},
    {"a torn tail", a_torn_tail},
    {"beside another program", beside_another_program},
    {"tables made late", tables_made_late},
    {"a damaged manifest", a_damaged_manifest},
};

size_t crash_workload_count(void)
{
    return sizeof(workloads) / sizeof(workloads[0]);
}

const char *crash_workload_name(size_t workload_i)
{
    return workloads[workload_i].name;
}

struct crash_ledger *crash_workload_run(size_t workload_i, uint64_t skip_sync)
{
    struct crash_ledger *ledger = calloc(1, sizeof(*ledger));
    assert_non_null(ledger);
    crash_env_init(&ledger->crash);
    mly_bytes_init(&ledger->aside, &ledger->mem, MLY_META_BYTES_MAX);
    ledger->crash.skip_sync = skip_sync;
    mark(ledger);
    workloads[workload_i].run(ledger);
    return ledger;
}

void crash_ledger_free(struct crash_ledger *ledger)
{
    (void)mly_store_close(ledger->dead, NULL);
    crash_env_deinit(&ledger->crash);
    mly_bytes_deinit(&ledger->aside);
    free(ledger);
}

/* ---- telling states apart ---- */

bool crash_is_state(const struct mly_snapshot *snapshot, struct mly_mem *mem,
                    const struct case_entry *entries)
{
    struct mly_error err = {0};
    struct mly_arena arena;
    struct mly_document document;
    bool same = true;
    mly_arena_init(&arena, mem, (size_t)1 << 30);
    for (uint32_t number = 0; same && number < CRASH_DOCUMENTS; number++) {
        struct case_document made;
        bool found;
        case_make_entry(&made, number, &entries[number]);
        case_ok(
            mly_snapshot_find_document(snapshot, made.document.id, &arena, &document, &found, &err),
            &err);
        same = found == entries[number].there;
        if (!found || !same) continue;
        same = mly_str_equal(document.title, made.document.title) &&
               mly_str_equal(document.metadata, made.document.metadata);
    }
    mly_arena_deinit(&arena);
    return same;
}
