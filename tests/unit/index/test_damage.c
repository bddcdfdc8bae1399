/* What must never give a wrong answer: every byte of a segment and of its records changed once,
 * files cut off, missing, of other rows; every allocation and every file call failing, in building,
 * folding, opening, verifying and searching. */
#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "vindex_cases.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROWS 260
#define DIM 12
#define K 8
#define TRIES_MAX 3000

static char folder[TEMP_DIR_BYTES];
static struct vindex_case of;
static struct mly_vindex_part parts[2];
static char name[MLY_VINDEX_SEGMENT_NAME_BYTES];
static struct mly_match right[K];

static void ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("%s", err->message);
}

/* Opens, looks, closes. */
static enum mly_err look(const struct mly_env *env, struct mly_match *got, size_t *count,
                         struct mly_error *err)
{
    struct mly_vindex *segment = NULL;
    struct mly_vindex_room *room = NULL;
    const struct mly_match *found;
    float query[DIM];
    vindex_case_query(&of, 5, query);
    enum mly_err rc = mly_vindex_open(env, mly_kern_pick("scalar"), folder, name, &segment, err);
    if (rc == MLY_OK) rc = mly_vindex_room_create(env, &room, err);
    if (rc == MLY_OK) {
        struct mly_vindex_source source = {segment, parts};
        struct mly_vindex_ask ask = {
            .query = query, .dim = DIM, .k = K, .recall = 1, .vector = vindex_case_vector};
        rc = mly_vindex_search(room, &source, 1, &ask, &found, count, NULL, err);
        if (rc == MLY_OK) memcpy(got, found, *count * sizeof(*got));
    }
    mly_vindex_room_destroy(room);
    mly_vindex_close(segment);
    return rc;
}

static int set_up(void **state)
{
    (void)state;
    static const uint32_t rows[] = {ROWS, 90};
    const struct mly_env *env = mly_env_system();
    struct mly_error err = {0};
    size_t count;
    temp_dir_make(folder);
    vindex_case_make(&of, MLY_VINDEX_COSINE, DIM, rows, 2, 4);
    vindex_case_parts(&of, parts);
    struct mly_vindex_maker maker = vindex_case_maker(&of, env, folder);
    ok(mly_vindex_build(&maker, of.files, 1, name, &err), &err);
    ok(look(env, right, &count, &err), &err);
    assert_int_equal(count, K);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    vindex_case_free(&of);
    temp_dir_remove(folder);
    return 0;
}

static void path_of(bool is_records, char *out, size_t bytes)
{
    if (is_records) {
        snprintf(out, bytes, "%s/%s/%s%s", folder, MLY_VINDEX_RECORDS, of.names[0],
                 MLY_VINDEX_RECORDS_SUFFIX);
    } else {
        snprintf(out, bytes, "%s/%s/%s", folder, MLY_VINDEX_SEGMENTS, name);
    }
}

static void flip(FILE *stream, long at, int mask)
{
    assert_int_equal(fseek(stream, at, SEEK_SET), 0);
    int byte = fgetc(stream);
    assert_int_equal(fseek(stream, at, SEEK_SET), 0);
    assert_true(fputc(byte ^ mask, stream) != EOF);
    assert_int_equal(fflush(stream), 0);
}

static void every_byte_counts(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    for (int kind = 0; kind < 2; kind++) {
        char path[2 * TEMP_DIR_BYTES];
        size_t found = 0;
        path_of(kind == 1, path, sizeof(path));
        FILE *stream = fopen(path, "r+b");
        assert_non_null(stream);
        assert_int_equal(fseek(stream, 0, SEEK_END), 0);
        long bytes = ftell(stream);
        for (long at = 0; at < bytes; at++) {
            struct mly_match got[K];
            struct mly_error err;
            size_t count = 0;
            flip(stream, at, 1 << at % 8);
            enum mly_err rc = look(env, got, &count, &err);
            if (rc == MLY_OK) {
                assert_int_equal(count, K);
                for (size_t i = 0; i < K; i++) {
                    assert_int_equal(got[i].row_address, right[i].row_address);
                    assert_memory_equal(&got[i].score, &right[i].score, sizeof(float));
                }
            } else {
                assert_int_equal(rc, MLY_ERR_CORRUPT);
                found++;
            }
            flip(stream, at, 1 << at % 8);
        }
        fclose(stream);
        /* What is left are zeros behind cells, and records that were not looked at. */
        assert_true(found * 5 >= (size_t)bytes * (kind == 0 ? 4 : 1));
    }
}

static void cut_and_missing_files_are_told(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    char path[2 * TEMP_DIR_BYTES], aside[2 * TEMP_DIR_BYTES + 8];
    struct mly_match got[K];
    struct mly_error err;
    size_t count;
    for (int kind = 0; kind < 2; kind++) {
        path_of(kind == 1, path, sizeof(path));
        snprintf(aside, sizeof(aside), "%s.aside", path);
        FILE *stream = fopen(path, "rb");
        assert_non_null(stream);
        static char data[1 << 20];
        size_t bytes = fread(data, 1, sizeof(data), stream);
        fclose(stream);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(look(env, got, &count, &err),
                         kind == 0 ? MLY_ERR_NOTFOUND : MLY_ERR_CORRUPT);
        static const size_t cuts[] = {0, 1, 511, 512, 4095, 4096, 5000};
        for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
            stream = fopen(path, "wb");
            assert_non_null(stream);
            assert_int_equal(fwrite(data, 1, cuts[i] < bytes ? cuts[i] : bytes - 1, stream),
                             cuts[i] < bytes ? cuts[i] : bytes - 1);
            fclose(stream);
            assert_int_equal(look(env, got, &count, &err), MLY_ERR_CORRUPT);
        }
        assert_int_equal(rename(aside, path), 0);
        ok(look(env, got, &count, &err), &err);
    }
    /* A file that the snapshot does not have may miss its records. */
    path_of(true, path, sizeof(path));
    snprintf(aside, sizeof(aside), "%s.aside", path);
    assert_int_equal(rename(path, aside), 0);
    parts[0].is_present = false;
    ok(look(env, got, &count, &err), &err);
    assert_int_equal(count, 0);
    parts[0].is_present = true;
    assert_int_equal(rename(aside, path), 0);
}

/* Everything that can be done, with a new folder. */
static enum mly_err do_all(const struct mly_env *env, const char *in, struct mly_error *err)
{
    struct mly_vindex_maker maker = vindex_case_maker(&of, env, in);
    struct mly_vindex *segment = NULL;
    struct mly_match got[2 * K];
    size_t counts[2];
    float queries[2 * DIM];
    char made[MLY_VINDEX_SEGMENT_NAME_BYTES];
    maker.kern = mly_kern_pick("scalar");
    vindex_case_query(&of, 1, queries);
    vindex_case_query(&of, 2, queries + DIM);
    enum mly_err rc = mly_vindex_build(&maker, of.files, 1, made, err);
    if (rc == MLY_OK) rc = mly_vindex_open(env, maker.kern, in, made, &segment, err);
    if (rc == MLY_OK) {
        struct mly_vindex_fold fold = {&segment, 1, of.files, NULL, 2, NULL, 0};
        rc = mly_vindex_fold(&maker, &fold, made, err);
    }
    mly_vindex_close(segment);
    segment = NULL;
    if (rc == MLY_OK) rc = mly_vindex_open(env, maker.kern, in, made, &segment, err);
    if (rc == MLY_OK) rc = mly_vindex_verify(segment, err);
    if (rc == MLY_OK) {
        struct mly_vindex_source source = {segment, parts};
        struct mly_vindex_ask ask = {.dim = DIM, .k = K, .vector = vindex_case_vector};
        rc =
            mly_vindex_search_many(env, NULL, &source, 1, &ask, queries, 2, got, counts, NULL, err);
    }
    mly_vindex_close(segment);
    return rc;
}

static void every_failure_is_told(void **state)
{
    (void)state;
    static struct fault_env fault;
    struct mly_error err;
    fault_env_init(&fault);
    for (int kind = 0; kind < 2; kind++) {
        for (uint64_t n = 1;; n++) {
            char in[TEMP_DIR_BYTES];
            assert_true(n < TRIES_MAX);
            temp_dir_make(in);
            fault_env_reset(&fault);
            fault.mem.calls = 0;
            fault.mem.fail_at = kind == 0 ? n : 0;
            fault.fail_at = kind == 1 ? n : 0;
            fault.fail_errno = n % 2 == 0 ? EIO : ENOSPC;
            enum mly_err rc = do_all(&fault.env, in, &err);
            bool is_reached = kind == 0 ? fault.mem.calls >= n : fault.calls >= n;
            fault.mem.fail_at = 0;
            fault.fail_at = 0;
            assert_int_equal(fault.mem.live, 0);
            assert_int_equal(fault.open_count, 0);
            temp_dir_remove(in);
            if (!is_reached) {
                ok(rc, &err);
                break;
            }
            if (kind == 0) assert_int_equal(rc, MLY_ERR_NOMEM);
            /* A failing close of what was read, or of a folder, loses nothing. */
            if (rc == MLY_OK) assert_true(kind == 1);
        }
    }
}

static enum mly_err stop_at_half(void *context, double done, struct mly_error *err)
{
    (void)context;
    assert_true(done >= 0 && done <= 1);
    return done < 0.5 ? MLY_OK : mly_fail(err, MLY_ERR_CANCELLED, "stopped");
}

static void a_pulse_can_stop_it(void **state)
{
    (void)state;
    const struct mly_env *env = mly_env_system();
    struct mly_vindex_maker maker = vindex_case_maker(&of, env, folder);
    struct mly_error err;
    char made[MLY_VINDEX_SEGMENT_NAME_BYTES];
    maker.pulse = stop_at_half;
    assert_int_equal(mly_vindex_build(&maker, of.files, 2, made, &err), MLY_ERR_CANCELLED);
    maker.pulse = NULL;
    maker.dim = 7;
    assert_int_equal(mly_vindex_build(&maker, of.files, 2, made, &err), MLY_ERR_INVAL);
    maker.dim = 4097;
    assert_int_equal(mly_vindex_build(&maker, of.files, 2, made, &err), MLY_ERR_INVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_byte_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cut_and_missing_files_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_failure_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_pulse_can_stop_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
