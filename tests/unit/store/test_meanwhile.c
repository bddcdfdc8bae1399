/* What happens between two calls of ours: files that go while they are looked for, another handle
 * that writes or waits in line, tables that are taken away beside a log. */
#define _GNU_SOURCE
#include "store_place.h"

#include "fault_env.h"
#include "store/store_state_int.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define DOCUMENTS 8

static struct case_entry entries[DOCUMENTS];
static struct mly_env hooked; /* the system's, but for what follows */

/* The next so many data files that are to be opened are gone by then; before the first of them
 * somebody else is let in. */
static uint64_t vanishing;
static struct mly_store *busy_one;
static const char *vanishing_name;

static enum mly_err count_files(void *context, const struct mly_store_verified *file,
                                struct mly_error *why)
{
    uint64_t *files = context;
    (void)why;
    assert_int_equal(file->code, MLY_OK);
    (*files)++;
    return MLY_OK;
}

static void put(struct mly_store *store, uint32_t number, uint32_t version)
{
    case_ok(case_put(store, number, version, &err), &err);
    entries[number] = case_entry(true, version, 0);
}

static int open_or_vanish(void *context, int dir_fd, const char *path, uint32_t flags)
{
    if (vanishing > 0 && (flags & MLY_OPEN_CREATE) == 0 && strstr(path, vanishing_name) != NULL) {
        struct mly_store *other = busy_one;
        vanishing--;
        busy_one = NULL;
        if (other != NULL) {
            put(other, 5, 2);
            case_ok(mly_store_checkpoint(other, &err), &err);
        }
        return -ENOENT;
    }
    return mly_env_system()->open(context, dir_fd, path, flags);
}

/* Before the next so many manifests of ours get their name, another program makes a version of that
 * number. */
static uint64_t rivals;
static const char *rival_table;

static void make_rival_version(void)
{
    char path[TEMP_DIR_BYTES + 32];
    struct mly_lance_table *table;
    struct mly_lance_manifest *base = NULL;
    const struct mly_lance_pair pair = {MLY_STR("theirs"), MLY_STR("1")};
    const struct mly_lance_change change = {.config = &pair, .config_count = 1};
    snprintf(path, sizeof(path), "%s/%s", folder, rival_table);
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    case_ok(mly_lance_manifest_load(table, &base, &err), &err);
    case_ok(mly_lance_commit(table, base, &change, NULL, NULL, &err), &err);
    mly_lance_manifest_destroy(base);
    mly_lance_table_close(table);
}

static int link_too_late(void *context, int dir_fd, const char *from, const char *to)
{
    if (rivals > 0 && strstr(to, ".manifest") != NULL) {
        rivals--;
        make_rival_version();
    }
    return mly_env_system()->link(context, dir_fd, from, to);
}

/* Syncs wait for the test. */
static _Atomic bool is_held;

static int sync_when_allowed(void *context, int fd)
{
    for (int i = 0; i < 5000 && atomic_load(&is_held); i++)
        usleep(1000);
    return mly_env_system()->sync_data(context, fd);
}

static int set_up_hooks(void **state)
{
    memset(entries, 0, sizeof(entries));
    vanishing = 0;
    busy_one = NULL;
    vanishing_name = "/data/";
    atomic_store(&is_held, false);
    hooked = *mly_env_system();
    hooked.open = open_or_vanish;
    hooked.sync_data = sync_when_allowed;
    hooked.link = link_too_late;
    rivals = 0;
    rival_table = "chunks.lance";
    return set_up(state);
}

/* ---- files that go ---- */

static void a_data_file_that_goes_while_it_is_opened_is_in_no_newer_version(void **state)
{
    (void)state;
    struct mly_store *writer = open_store(mly_env_system()), *reader = open_store(&hooked);
    struct mly_snapshot *snapshot = NULL;
    put(writer, 1, 1);
    case_ok(mly_store_checkpoint(writer, &err), &err);
    vanishing = 1;
    busy_one = writer;
    case_check(reader, entries, DOCUMENTS);
    assert_int_equal(vanishing, 0);
    assert_true(entries[5].there);
    /* Where nobody has written meanwhile the file is missing. */
    put(writer, 2, 1);
    case_ok(mly_store_checkpoint(writer, &err), &err);
    vanishing = 1;
    assert_int_equal(mly_store_pin(reader, &snapshot, &err), MLY_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "/data/"));
    case_check(reader, entries, DOCUMENTS); /* it is there again */
    case_ok(mly_store_close(reader, &err), &err);
    case_ok(mly_store_close(writer, &err), &err);
}

/* Document 1 in version 8 is big enough to be written as a load: the log names its files. */
static void put_load(struct mly_store *store)
{
    static struct case_document document;
    entries[1] = case_entry(true, 8, 0);
    entries[1].metadata = CASE_METADATA_BIG;
    case_make_entry(&document, 1, &entries[1]);
    struct mly_change change = case_change(&document);
    change.dim = CASE_DIM;
    case_ok(case_commit(store, &change, 1, &err), &err);
}

static void a_loads_file_that_is_gone_is_looked_for_again_and_then_told(void **state)
{
    (void)state;
    struct mly_store *writer = open_store(mly_env_system()), *reader = open_store(&hooked);
    struct mly_snapshot *snapshot = NULL;
    put(writer, 1, 1);
    case_check(reader, entries, DOCUMENTS);
    put_load(writer);
    vanishing = 1; /* a checkpoint has just written it anew */
    case_check(reader, entries, DOCUMENTS);
    assert_int_equal(vanishing, 0);
    put_load(writer);
    vanishing = 1000;
    assert_int_equal(mly_store_pin(reader, &snapshot, &err), MLY_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "/data/"));
    assert_int_equal(mly_store_pin(reader, &snapshot, NULL), MLY_ERR_CORRUPT);
    vanishing = 0;
    case_check(reader, entries, DOCUMENTS);
    case_ok(mly_store_close(reader, &err), &err);
    case_ok(mly_store_close(writer, &err), &err);
}

static void tables_that_are_taken_away_take_their_rows_with_them(void **state)
{
    (void)state;
    static const char *const tables[] = {"documents.lance", "chunks.lance"};
    for (int with_reader = 0; with_reader < 2; with_reader++) {
        struct mly_store *store = open_store(mly_env_system()), *reader = NULL;
        for (uint32_t round = 0; round < 30; round++) { /* so that the log does not begin at 1 */
            put(store, 1 + round % 4, 1 + round % 5);
            if (round % 7 == 6) case_ok(mly_store_checkpoint(store, &err), &err);
        }
        if (with_reader == 1) reader = open_store(mly_env_system());
        if (with_reader == 0) case_ok(mly_store_close(store, &err), &err);
        for (size_t i = 0; i < 2; i++) {
            char path[TEMP_DIR_BYTES + 32];
            snprintf(path, sizeof(path), "%s/%s", folder, tables[i]);
            temp_dir_remove(path);
        }
        memset(entries, 0, sizeof(entries));
        if (with_reader == 0) store = open_store(mly_env_system());
        case_check(store, entries, DOCUMENTS);
        if (reader != NULL) case_check(reader, entries, DOCUMENTS);
        put(store, 6, 3);
        if (reader != NULL) case_check(reader, entries, DOCUMENTS);
        case_ok(mly_store_close(reader, &err), &err);
        case_ok(mly_store_close(store, &err), &err);
        store = open_store(mly_env_system());
        case_check(store, entries, DOCUMENTS);
        case_ok(mly_store_close(store, &err), &err);
    }
}

/* Documents alone: there is no table for chunks, and none is made for a checkpoint's sake. */
static void a_store_without_chunks_has_one_table(void **state)
{
    (void)state;
    char path[TEMP_DIR_BYTES + 32];
    struct mly_store *store = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000};
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    uint64_t files = 0;
    case_ok(mly_store_verify(store, count_files, &files, &err), &err);
    assert_int_equal(files, 0); /* there is nothing yet */
    put(store, 1, 0);           /* a file that was skipped */
    case_ok(mly_store_verify(store, count_files, &files, &err), &err);
    assert_true(files > 0);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_checkpoint(store, &err), &err);
    case_ok(mly_store_checkpoint(store, &err), &err);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
    snprintf(path, sizeof(path), "%s/chunks.lance/_versions", folder);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void lost_races_for_a_version_are_run_again(void **state)
{
    (void)state;
    struct mly_store *store = open_store(&hooked);
    put(store, 1, 1);
    put(store, 2, 5);
    rivals = 3;
    case_ok(mly_store_checkpoint(store, &err), &err);
    assert_int_equal(rivals, 0);
    case_check(store, entries, DOCUMENTS);
    put(store, 3, 5);
    rivals = 1000; /* somebody who is always faster */
    assert_int_equal(mly_store_checkpoint(store, &err), MLY_ERR_CONFLICT);
    assert_true(rivals > 900);
    rivals = 0;
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
    store = open_store(&hooked);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
}

static void lost_races_while_an_index_is_put_in_are_run_again(void **state)
{
    (void)state;
    struct mly_store_options options = case_options();
    struct mly_store *store = NULL;
    bool made;
    options.kern = mly_kern_pick("scalar");
    options.index_rows_min = UINT32_MAX;
    case_ok(mly_store_open(&hooked, folder, &options, &store, &err), &err);
    for (uint32_t number = 1; number < 60; number++)
        case_ok(case_put(store, number, 8, &err), &err);
    case_ok(mly_store_checkpoint(store, &err), &err);
    rivals = 1000;
    assert_int_equal(mly_store_make_lance_index(store, NULL, false, NULL, NULL, &made, &err),
                     MLY_ERR_CONFLICT);
    assert_false(made);
    rivals = 3;
    case_ok(mly_store_make_lance_index(store, NULL, false, NULL, NULL, &made, &err), &err);
    assert_true(made);
    case_ok(mly_store_close(store, &err), &err);
}

/* The numbers of file systems are Linux's. */
static void other_machines_file_systems_must_be_asked_for(void **state)
{
    (void)state;
    struct fault_env fault;
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    fault_env_init(&fault);
    fault.file_system = 0x6969; /* NFS */
    assert_int_equal(mly_store_open(&fault.env, folder, &options, &store, &err),
                     MLY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, folder));
    options.allow_network = true;
    case_ok(mly_store_open(&fault.env, folder, &options, &store, &err), &err);
    case_ok(mly_store_flush(store, &err), &err); /* there is no log yet */
    put(store, 1, 1);
    case_ok(mly_store_flush(store, &err), &err);
    case_check(store, entries, DOCUMENTS);
    case_ok(mly_store_close(store, &err), &err);
    assert_int_equal(fault.mem.live, 0);
}

/* ---- standing in line ---- */

struct writing {
    struct mly_store *store;
    uint32_t number;
    mly_pulse_fn pulse;
    _Atomic uint64_t pulses;
    enum mly_err rc;
    struct mly_error err;
};

static enum mly_err count_pulse(void *context, struct mly_error *why)
{
    struct writing *writing = context;
    (void)why;
    atomic_fetch_add(&writing->pulses, 1);
    return MLY_OK;
}

static enum mly_err give_up(void *context, struct mly_error *why)
{
    struct writing *writing = context;
    atomic_fetch_add(&writing->pulses, 1);
    return mly_fail(why, MLY_ERR_CANCELLED, "enough");
}

static void *write_one(void *argument)
{
    struct writing *writing = argument;
    struct case_document document;
    case_make(&document, writing->number, 2, 0);
    struct mly_change change = case_change(&document);
    writing->rc = mly_store_begin_pulsed(writing->store, writing->pulse, writing, &writing->err);
    if (writing->rc != MLY_OK) return NULL;
    writing->rc = mly_store_commit(writing->store, &change, 1, MLY_DURABILITY_FULL, &writing->err);
    enum mly_err end = mly_store_end(writing->store, NULL);
    if (writing->rc == MLY_OK) writing->rc = end;
    return NULL;
}

static void wait_until(bool (*is_so)(struct mly_store *store), struct mly_store *store)
{
    for (int i = 0; i < 5000 && !is_so(store); i++)
        usleep(1000);
    assert_true(is_so(store));
}

static bool others_wait(struct mly_store *store)
{
    return mly_store_others_wait(store);
}

static bool is_settling(struct mly_store *store)
{
    mly_mutex_lock(&store->mutex);
    bool settling = store->settling > 0;
    mly_mutex_unlock(&store->mutex);
    return settling;
}

/* A thread waits for its sync and keeps the lock; another handle stands in line: it comes before
 * the next thread of the first. */
static void whoever_stands_in_line_comes_before_the_next_of_ours(void **state)
{
    (void)state;
    static const mly_pulse_fn pulses[] = {NULL, count_pulse, give_up};
    struct mly_store *first = open_store(&hooked), *second = open_store(mly_env_system());
    put(first, 1, 1);
    for (size_t round = 0; round < 3; round++) {
        struct writing slow = {.store = first, .number = 2}, other = {.store = second, .number = 3},
                       next = {.store = first, .number = 4, .pulse = pulses[round]};
        pthread_t threads[3];
        atomic_store(&is_held, true);
        assert_int_equal(pthread_create(&threads[0], NULL, write_one, &slow), 0);
        wait_until(is_settling, first);
        assert_int_equal(pthread_create(&threads[1], NULL, write_one, &other), 0);
        wait_until(others_wait, first);
        assert_int_equal(pthread_create(&threads[2], NULL, write_one, &next), 0);
        usleep(80000);
        atomic_store(&is_held, false);
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        case_ok(slow.rc, &slow.err);
        case_ok(other.rc, &other.err);
        if (pulses[round] == give_up) {
            assert_int_equal(next.rc, MLY_ERR_CANCELLED);
        } else {
            case_ok(next.rc, &next.err);
        }
        if (pulses[round] != NULL) assert_true(next.pulses > 0);
        for (uint32_t number = 2; number <= 4; number++)
            entries[number] = case_entry(true, 2, 0);
        case_check(first, entries, DOCUMENTS);
        case_check(second, entries, DOCUMENTS);
    }
    case_ok(mly_store_close(first, &err), &err);
    case_ok(mly_store_close(second, &err), &err);
}

int main(void)
{
#define HOOKED(test) cmocka_unit_test_setup_teardown(test, set_up_hooks, tear_down)
    const struct CMUnitTest tests[] = {
        HOOKED(a_data_file_that_goes_while_it_is_opened_is_in_no_newer_version),
        HOOKED(a_loads_file_that_is_gone_is_looked_for_again_and_then_told),
        HOOKED(tables_that_are_taken_away_take_their_rows_with_them),
        HOOKED(a_store_without_chunks_has_one_table),
        HOOKED(lost_races_for_a_version_are_run_again),
        HOOKED(lost_races_while_an_index_is_put_in_are_run_again),
        HOOKED(other_machines_file_systems_must_be_asked_for),
        HOOKED(whoever_stands_in_line_comes_before_the_next_of_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
