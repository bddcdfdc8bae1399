/* The container: what is whole is read, whatever is damaged is refused with words. */
#include "embed/safetensors.h"
#include "mly_cmocka.h"
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file of this header with so many bytes of data. */
static enum mly_err read_text(const char *header, size_t data_bytes, struct mly_error *err)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_tensors tensors;
    const size_t header_bytes = strlen(header), bytes = 8 + header_bytes + data_bytes;
    char *file = calloc(bytes + 1, 1); /* exactly as long: sanitizers see what reads on */
    assert_non_null(file);
    char *exact = malloc(bytes);
    assert_non_null(exact);
    for (size_t i = 0; i < 8; i++) {
        file[i] = (char)(header_bytes >> (8 * i));
    }
    memcpy(file + 8, header, header_bytes);
    memcpy(exact, file, bytes);
    const enum mly_err rc = mly_tensors_read(&mem, (struct mly_str){exact, bytes}, &tensors, err);
    if (rc == MLY_OK) mly_tensors_deinit(&tensors);
    assert_int_equal(mem.live, 0);
    free(file);
    free(exact);
    return rc;
}

static void check_refused(const char *header, size_t data_bytes, enum mly_err wanted)
{
    struct mly_error err = {0};
    const enum mly_err rc = read_text(header, data_bytes, &err);
    if (rc != wanted) fail_msg("%s gives %d (%s)", header, (int)rc, err.message);
    assert_true(err.message[0] != '\0');
}

static void a_whole_header_is_read(void **state)
{
    (void)state;
    struct mly_error err = {0};
    assert_int_equal(
        read_text("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                  "\"__metadata__\":{\"x\":\"\\\"y\"},"
                  "\"b\":{\"shape\":[3,1],\"data_offsets\":[8,11],\"dtype\":\"U8\"} }  ",
                  11, &err),
        MLY_OK);
    assert_int_equal(
        read_text("{\"a\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, &err),
        MLY_OK);
    assert_int_equal(
        read_text("{\"a\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, &err),
        MLY_OK);
}

static void what_does_not_add_up_is_refused(void **state)
{
    (void)state;
    static const char *const headers[] = {
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,5]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[4,0]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[0,3]}}", /* one byte left over */
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[3],\"data_offsets\":[1,4]}}", /* a hole */
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[5],\"data_offsets\":[0,5]}}", /* beyond the end */
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"I8\",\"shape\":[2],\"data_offsets\":[2,4]}}", /* an overlap */
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},"
        "\"a\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[4,4]}}", /* twice */
        "{\"a\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[-4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[04],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[1,1,1,1,4],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967297],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551616],\"data_offsets\":[0,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4,4]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0]}}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}} x",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]},}",
        "{\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}",
        "{\"\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"a\\u0041\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
        "{\"__metadata__\":{\"a\":1},\"a\":{\"dtype\":\"I8\",\"shape\":[4],\"data_offsets\":[0,4]}"
        "}",
        "{\"__metadata__\":{\"a\":\"b",
        "{\"__metadata__\":{},\"__metadata__\":{}}",
        "{}",
        "{",
        "{\"",
        "{\"a\":",
        "{\"a\\",
    };
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        check_refused(headers[i], 4, MLY_ERR_CORRUPT);
    }
}

static void other_files_are_no_models(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "x", "%PDF-1.4 and so on", "PK\3\4...............",
                                        "{\"json\": \"but no tensors\"}"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tensors tensors;
        struct mly_error err = {0};
        assert_int_equal(mly_tensors_read(&mem, mly_str_of(texts[i]), &tensors, &err),
                         MLY_ERR_MODEL);
        assert_string_equal(err.message, "not a safetensors file");
    }
}

static void a_header_longer_than_the_file_is_damage(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {12,         1000,           100000001,
                                       UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 32};
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        char bytes[19] = "........{\"a\":{\"dt";
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tensors tensors;
        struct mly_error err = {0};
        for (size_t j = 0; j < 8; j++) {
            bytes[j] = (char)(lengths[i] >> (8 * j));
        }
        assert_int_equal(mly_tensors_read(&mem, (struct mly_str){bytes, 19}, &tensors, &err),
                         MLY_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "cut off"));
    }
}

static void a_file_cut_off_anywhere_is_refused(void **state)
{
    (void)state;
    struct tiny_file file = tiny_make(&tiny_small, 5);
    for (size_t bytes = 0; bytes < file.count; bytes += bytes < 9000 ? 1 : 997) {
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tensors tensors;
        struct mly_error err = {0};
        char *exact = malloc(bytes + 1);
        assert_non_null(exact);
        memcpy(exact, file.bytes, bytes);
        const enum mly_err rc =
            mly_tensors_read(&mem, (struct mly_str){exact, bytes}, &tensors, &err);
        assert_int_equal(rc, bytes < 10 ? MLY_ERR_MODEL : MLY_ERR_CORRUPT);
        assert_int_equal(mem.live, 0);
        free(exact);
    }
    free(file.bytes);
}

static void changed_bytes_of_the_header_never_lead_astray(void **state)
{
    (void)state;
    struct tiny_file file = tiny_make(&tiny_small, 6);
    uint64_t seed = 88172645463325252ULL;
    size_t refused = 0;
    for (size_t round = 0; round < 20000; round++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        const size_t at = 8 + (size_t)(seed >> 8) % file.header_bytes;
        const char before = file.bytes[at];
        file.bytes[at] = (char)seed;
        struct mly_mem mem = MLY_MEM_INIT;
        struct mly_tensors tensors;
        struct mly_error err = {0};
        const enum mly_err rc =
            mly_tensors_read(&mem, (struct mly_str){file.bytes, file.count}, &tensors, &err);
        if (rc == MLY_OK) {
            for (size_t i = 0; i < tensors.count; i++) { /* All of it lies in the file. */
                const char *data = (const char *)tensors.items[i].data;
                assert_true(data >= file.bytes + 8);
                assert_true(data + tensors.items[i].bytes <= file.bytes + file.count);
            }
            mly_tensors_deinit(&tensors);
        } else {
            assert_true(err.message[0] != '\0');
            refused++;
        }
        assert_int_equal(mem.live, 0);
        file.bytes[at] = before;
    }
    assert_true(refused > 5000);
    free(file.bytes);
}

static void the_table_of_tensors_may_fail_to_be_had(void **state)
{
    (void)state;
    struct tiny_file file = tiny_make(&tiny_small, 7);
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_tensors tensors;
    struct mly_error err = {0};
    mem.fail_at = 1;
    assert_int_equal(
        mly_tensors_read(&mem, (struct mly_str){file.bytes, file.count}, &tensors, &err),
        MLY_ERR_NOMEM);
    assert_int_equal(mem.live, 0);
    free(file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_header_is_read),
        cmocka_unit_test(what_does_not_add_up_is_refused),
        cmocka_unit_test(other_files_are_no_models),
        cmocka_unit_test(a_header_longer_than_the_file_is_damage),
        cmocka_unit_test(a_file_cut_off_anywhere_is_refused),
        cmocka_unit_test(changed_bytes_of_the_header_never_lead_astray),
        cmocka_unit_test(the_table_of_tensors_may_fail_to_be_had),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
