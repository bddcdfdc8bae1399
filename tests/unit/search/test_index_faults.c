/* A store with an index in it, where each of its allocations and file calls fails once, and where
 * bits of its files flip: what is answered is right, failures are told, and the index comes back.
 */
#define _GNU_SOURCE
#include "fault_env.h"
#include "index_place.h"
#include "test_pace.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOW TEST_PACE(1, 4, 16)

static bool is_long(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL;
}

static void close_store(struct mly_store *store)
{
    struct mly_error err = {0};
    index_ok(mly_store_close(store, &err), &err);
}

/* ---- failures ---- */

/* Builds, looks, folds, looks through it. A failed look ends nothing: the
 * next is to be right again. */
static enum mly_err live(const struct mly_env *env, struct mly_error *err)
{
    struct mly_store *store = NULL;
    MLY_TRY(index_open(env, path, false, &store, err));
    enum mly_err looked = index_look(env, store, NULL, err);
    enum mly_err rc = index_put(store, 0, 7, 1, err);
    if (rc == MLY_OK) rc = mly_store_checkpoint(store, err);
    if (rc == MLY_OK) rc = index_make(store, err);
    if (rc == MLY_OK) rc = index_look(env, store, NULL, err);
    /* The fourth of the small files is merged with the others: their rows are looked for in it. */
    for (uint32_t i = 7; rc == MLY_OK && i < 10; i++) {
        rc = index_put(store, i, 1, 1, err);
        if (rc == MLY_OK) rc = mly_store_checkpoint(store, err);
        if (rc == MLY_OK && i != 8) rc = index_make(store, err);
    }
    if (rc == MLY_OK) rc = mly_store_check_index(store, err);
    struct mly_error other = {0};
    enum mly_err last = index_look(env, store, NULL, rc == MLY_OK ? err : &other);
    (void)mly_store_close(store, NULL);
    if (rc == MLY_OK) rc = last;
    return rc == MLY_OK ? looked : rc;
}

static void fail_each(bool of_memory, uint64_t step)
{
    static struct fault_env fault;
    uint64_t runs = 0, failed = 0;
    for (uint64_t n = 1;; n += step) {
        struct mly_error err = {0};
        fault_env_init(&fault);
        fault.fail_errno = n % 2 == 0 ? EIO : ENOSPC;
        if (of_memory) {
            fault.mem.fail_at = n;
        } else {
            fault.fail_at = n;
        }
        enum mly_err rc = live(&fault.env, &err);
        bool fired = (of_memory ? fault.mem.calls : fault.calls) >= n;
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        if (rc != MLY_OK) {
            assert_true(fired);
            if (of_memory) assert_int_equal(rc, MLY_ERR_NOMEM);
            if (!of_memory && rc != MLY_ERR_IO) fail_msg("error %d: %s", (int)rc, err.message);
            assert_true(err.message[0] != '\0');
            failed++;
        }
        struct mly_store *store = open_store(false);
        index_check(mly_env_system(), store, path, NULL);
        close_store(store);
        temp_dir_remove(path);
        runs++;
        if (!fired) break;
    }
    print_message("ran: %llu, of which %llu told it\n", (unsigned long long)runs,
                  (unsigned long long)failed);
    assert_true(failed > 0);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    fail_each(true, is_long() ? 1 : 131 * SLOW);
}

static void every_file_call_may_fail(void **state)
{
    (void)state;
    fail_each(false, is_long() ? 1 : 67 * SLOW);
}

/* ---- bits ---- */

#define FILES_MAX 32

static char names[FILES_MAX][2 * TEMP_DIR_BYTES];
static size_t name_count;

static int take_file(const char *name, const struct stat *info, int kind, struct FTW *where)
{
    (void)where;
    bool is_ours = strstr(name, "/vectors/") != NULL || strstr(name, "/records/") != NULL;
    if (kind != FTW_F || info->st_size == 0 || !is_ours) return 0;
    assert_true(name_count < FILES_MAX);
    snprintf(names[name_count++], sizeof(names[0]), "%s", name);
    return 0;
}

static void list_files(void)
{
    char folder[2 * TEMP_DIR_BYTES];
    snprintf(folder, sizeof(folder), "%s/_memalloy/index", path);
    name_count = 0;
    assert_int_equal(nftw(folder, take_file, 16, FTW_PHYS), 0);
}

static uint64_t random_next(uint64_t *random)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random;
}

/* Bit at % 8 of a byte, or of some bytes behind it as well. */
static void flip(const char *name, long at, size_t count)
{
    FILE *file = fopen(name, "r+b");
    assert_non_null(file);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(fseek(file, at + (long)i, SEEK_SET), 0);
        int byte = fgetc(file);
        if (byte == EOF) break;
        assert_int_equal(fseek(file, at + (long)i, SEEK_SET), 0);
        fputc(byte ^ 1 << at % 8, file);
    }
    fclose(file);
}

static long bytes_of(const char *name)
{
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long bytes = ftell(file);
    fclose(file);
    return bytes;
}

static void make_store(void)
{
    struct mly_error err = {0};
    struct mly_store *store = open_store(false);
    index_ok(index_put(store, 0, 6, 1, &err), &err);
    index_ok(mly_store_checkpoint(store, &err), &err);
    index_ok(index_put(store, 6, 3, 1, &err), &err);
    index_ok(mly_store_checkpoint(store, &err), &err);
    index_check(mly_env_system(), store, path, NULL);
    close_store(store);
}

/* Who only reads cannot throw anything away: each search meets it. */
static void no_flipped_bit_changes_an_answer(void **state)
{
    (void)state;
    uint64_t flips = 0, met = 0;
    long step = is_long() ? 1 : 211 * SLOW;
    make_store();
    list_files();
    assert_true(name_count >= 3);
    for (size_t i = 0; i < name_count; i++) {
        long bytes = bytes_of(names[i]);
        for (long at = 0; at < bytes; at += step) {
            struct mly_error err = {0};
            struct index_seen seen;
            flip(names[i], at, 1);
            struct mly_store *store = open_store(true);
            index_ok(index_look(mly_env_system(), store, &seen, &err), &err);
            close_store(store);
            flip(names[i], at, 1);
            flips++;
            met += seen.was_damaged || seen.indexed == 0;
        }
    }
    print_message("ran: %llu flipped bits in %zu files, met by searches in %llu\n",
                  (unsigned long long)flips, name_count, (unsigned long long)met);
    assert_true(met > 0);
}

/* A writer that finds damage makes the index again, whatever is damaged, cut off or missing. */
static void damage_is_mended(void **state)
{
    (void)state;
    const char *seed = getenv("MLY_TEST_SEED");
    uint64_t random = seed == NULL ? 12345 : strtoull(seed, NULL, 10) * 2 + 1,
             rounds = is_long() ? 4000 : 1 + 23 / SLOW, met = 0;
    make_store();
    for (uint64_t round = 0; round < rounds; round++) {
        struct index_seen seen;
        list_files();
        assert_true(name_count >= 3);
        for (uint64_t times = 1 + random_next(&random) % 2; times > 0; times--) {
            const char *name = names[random_next(&random) % name_count];
            const char *other = names[random_next(&random) % name_count];
            if (access(name, F_OK) != 0) continue;
            long bytes = bytes_of(name), at = (long)(random_next(&random) % (uint64_t)(bytes + 1));
            switch (random_next(&random) % 5) {
            case 0:
                flip(name, at, 1);
                break;
            case 1:
                flip(name, at, 1 + random_next(&random) % 3000);
                break;
            case 2:
                assert_int_equal(truncate(name, at), 0);
                break;
            case 3: /* another's bytes */
                assert_int_equal(rename(name, other), 0);
                break;
            default:
                assert_int_equal(unlink(name), 0);
            }
        }
        struct mly_store *store = open_store(false);
        index_check(mly_env_system(), store, path, &seen);
        met += seen.was_damaged || seen.indexed == 0;
        close_store(store);
    }
    print_message("ran: %llu times damaged, met by searches in %llu\n", (unsigned long long)rounds,
                  (unsigned long long)met);
    assert_true(met > 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc == 2) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(every_allocation_may_fail),
        TEST(every_file_call_may_fail),
        TEST(no_flipped_bit_changes_an_answer),
        TEST(damage_is_mended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
