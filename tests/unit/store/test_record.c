/* Records as the log gives them back: whatever stands there, a record is read as it was written, or
 * an error says what is wrong, and nothing is leaked. */
#include "store/store_state_int.h"

#include "store_cases.h"

#include "base/endian.h"
#include "mly_cmocka.h"

#include <stdio.h>
#include <string.h>

#define ALIGNMENT 64
#define BYTES_MAX ((size_t)1 << 16)

static uint8_t original[BYTES_MAX], changed[BYTES_MAX];
static size_t original_bytes;
static struct mly_error err;

/* A load of both tables, a text that was touched, one that is removed. */
static void make_record(struct mly_mem *mem)
{
    static struct case_document documents[3];
    static int32_t ids[2][3] = {{0, 1, 2}, {0, 4, 5}};
    struct mly_change changes[3];
    struct mly_store_load load = {0};
    struct mly_store_record *record = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        case_make(&documents[i], i + 1, i == 1 ? 0 : 2, 1);
        changes[i] = case_change(&documents[i]);
    }
    changes[2].kind = MLY_CHANGE_REMOVE;
    for (size_t i = 0; i < 2; i++) {
        snprintf(load.files[i].name, sizeof(load.files[i].name), "file-%zu.lance", i);
        load.files[i].row_count = 3 + i;
        load.files[i].file_bytes = 1000;
        load.files[i].field_ids = ids[i];
        load.files[i].field_count = 3;
    }
    case_ok(mly_store_record_make(mem, changes, 3, CASE_DIM, &load, &record, &err), &err);
    assert_int_equal(record->count, 2); /* the first is in the load */
    assert_true(record->payload.bytes <= BYTES_MAX);
    original_bytes = record->payload.bytes;
    memcpy(original, record->payload.data, original_bytes);
    memcpy(changed, original, original_bytes);
    mly_store_record_release(record);
}

static enum mly_err read_bytes(struct mly_mem *mem, size_t bytes, struct mly_store_record **out)
{
    static const uint8_t owner[MLY_LOG_OWNER_BYTES];
    const struct mly_log_record from = {
        .lsn = 7, .payload = {(const char *)changed, bytes}, .owner = owner};
    *out = NULL;
    err = (struct mly_error){0};
    return mly_store_record_read(mem, &from, out, &err);
}

/* What was changed is an error of this kind, whose message has this in it. */
static void expect(size_t bytes, enum mly_err code, const char *what)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_store_record *record = NULL;
    enum mly_err rc = read_bytes(&mem, bytes, &record);
    assert_int_equal(rc, code);
    assert_null(record);
    if (strstr(err.message, what) == NULL) fail_msg("\"%s\" has no \"%s\"", err.message, what);
    assert_non_null(strstr(err.message, "record 7"));
    assert_int_equal(mem.live, 0);
    memcpy(changed, original, original_bytes);
}

static int set_up(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    make_record(&mem);
    assert_int_equal(mem.live, 0);
    return 0;
}

static void a_record_comes_back_as_it_was(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_store_record *record = NULL;
    case_ok(read_bytes(&mem, original_bytes, &record), &err);
    assert_int_equal(record->count, 2);
    assert_int_equal(record->operations[1].kind, MLY_OPERATION_REMOVE);
    assert_string_equal(record->load->files[0].name, "file-0.lance");
    assert_int_equal(record->load->files[1].row_count, 4);
    assert_int_equal(record->load->files[1].field_ids[2], 5);
    mly_store_record_release(record);
    assert_int_equal(mem.live, 0);
}

static void every_end_too_early_is_an_error(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_store_record *record = NULL;
    for (size_t bytes = 0; bytes < original_bytes; bytes++) {
        assert_int_equal(read_bytes(&mem, bytes, &record), MLY_ERR_CORRUPT);
        assert_true(err.message[0] != '\0');
        assert_int_equal(mem.live, 0);
    }
}

static void every_changed_byte_is_read_or_refused(void **state)
{
    (void)state;
    struct mly_mem mem = MLY_MEM_INIT;
    uint64_t read = 0;
    for (size_t i = 0; i < original_bytes; i++) {
        static const uint8_t values[] = {0x01, 0x80, 0xff};
        for (size_t j = 0; j < sizeof(values); j++) {
            struct mly_store_record *record = NULL;
            changed[i] ^= values[j];
            enum mly_err rc = read_bytes(&mem, original_bytes, &record);
            changed[i] ^= values[j];
            assert_true(rc == MLY_OK || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_UNSUPPORTED ||
                        rc == MLY_ERR_LIMIT);
            assert_true(rc == MLY_OK || err.message[0] != '\0');
            mly_store_record_release(record);
            assert_int_equal(mem.live, 0);
            read += rc == MLY_OK;
        }
    }
    assert_true(read > 0); /* texts are covered by the log's sums */
}

static void what_is_wrong_is_said(void **state)
{
    (void)state;
    changed[0] = 9;
    expect(original_bytes, MLY_ERR_UNSUPPORTED, "format 9");
    memset(changed + 4, 0xff, 4);
    expect(original_bytes, MLY_ERR_CORRUPT, "too many operations");
    changed[5] = 1; /* more than fit in so many bytes */
    expect(original_bytes, MLY_ERR_CORRUPT, "too many operations");
    changed[4]++; /* one more than there are */
    expect(original_bytes, MLY_ERR_CORRUPT, "ends too early");
    changed[4]--;
    expect(original_bytes, MLY_ERR_CORRUPT, "behind its end");
    changed[ALIGNMENT] = 77;
    expect(original_bytes, MLY_ERR_UNSUPPORTED, "kind 77");
    changed[ALIGNMENT + 8 + 5] = 1;
    expect(original_bytes, MLY_ERR_CORRUPT, "beyond its end");
}

/* The load stands behind the head of the record and its own: name, rows, bytes, fields, ids. */
#define LOAD_AT (2 * ALIGNMENT)
#define FIELDS_AT (LOAD_AT + MLY_LANCE_NAME_BYTES + 16)

static void a_load_that_leads_elsewhere_is_refused(void **state)
{
    (void)state;
    changed[LOAD_AT] = '.';
    expect(original_bytes, MLY_ERR_CORRUPT, "no known form");
    changed[LOAD_AT + 3] = '/';
    expect(original_bytes, MLY_ERR_CORRUPT, "no known form");
    memset(changed + LOAD_AT, 'a', MLY_LANCE_NAME_BYTES);
    expect(original_bytes, MLY_ERR_CORRUPT, "no known form");
    changed[FIELDS_AT] = 65; /* the limit is 64 */
    expect(original_bytes, MLY_ERR_CORRUPT, "no known form");
    changed[FIELDS_AT] = 60; /* more than there are */
    expect(original_bytes, MLY_ERR_CORRUPT, "no known form");
    changed[FIELDS_AT] = 0; /* then what follows is no file */
    expect(original_bytes, MLY_ERR_CORRUPT, "load");
    changed[ALIGNMENT + 8] = (uint8_t)(changed[ALIGNMENT + 8] + 1);
    expect(original_bytes, MLY_ERR_CORRUPT, "behind a load");
}

static void a_load_is_the_first_and_only_one(void **state)
{
    (void)state;
    uint64_t bytes = mly_get_u64le(original + ALIGNMENT + 8);
    size_t item = ALIGNMENT + ((size_t)bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    /* The load once more, instead of all else. */
    memcpy(changed + ALIGNMENT + item, original + ALIGNMENT, item);
    changed[4] = 2;
    expect(ALIGNMENT + 2 * item, MLY_ERR_CORRUPT, "not first");
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t failed = 0;
    for (uint64_t fail_at = 1;; fail_at++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_store_record *record = NULL;
        mem.fail_at = fail_at;
        enum mly_err rc = read_bytes(&mem, original_bytes, &record);
        mly_store_record_release(record);
        assert_int_equal(mem.live, 0);
        if (rc == MLY_OK) break;
        assert_int_equal(rc, MLY_ERR_NOMEM);
        failed++;
    }
    assert_true(failed >= 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_record_comes_back_as_it_was, set_up),
        cmocka_unit_test_setup(every_end_too_early_is_an_error, set_up),
        cmocka_unit_test_setup(every_changed_byte_is_read_or_refused, set_up),
        cmocka_unit_test_setup(what_is_wrong_is_said, set_up),
        cmocka_unit_test_setup(a_load_that_leads_elsewhere_is_refused, set_up),
        cmocka_unit_test_setup(a_load_is_the_first_and_only_one, set_up),
        cmocka_unit_test_setup(every_allocation_may_fail, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
