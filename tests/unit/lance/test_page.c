/* Pages as another writer, a newer format, or damage could make them: those that are known are
 * read, the others are refused with what is wrong with them. */
#include "lance_cases.h"

#include "lance/lance_int.h"

#include <string.h>

#define ROWS 16
#define MAP_BYTES 1024
#define ANY_URL "/lance.encodings.ArrayEncoding"

static struct mly_mem mem;
static struct mly_error err;
static struct mly_arena arena;
static _Alignas(64) uint8_t file_bytes[MAP_BYTES];
static struct mly_lance_field field;
static struct lance_page page;

/* The page under test: two buffers and the bytes of its encoding. */
static uint64_t offsets[2], sizes[2];
static ProtobufCBinaryData encoding;

static int setup(void **state)
{
    (void)state;
    mly_arena_init(&arena, &mem, (size_t)1 << 24);
    memset(file_bytes, 0, sizeof(file_bytes));
    field = (struct mly_lance_field){.name = MLY_STR("c"), .type = MLY_LANCE_INT64};
    offsets[0] = 0;
    sizes[0] = 512;
    offsets[1] = 512;
    sizes[1] = 512;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mly_arena_deinit(&arena);
    return mem.live == 0 ? 0 : 1;
}

static ProtobufCBinaryData packed(const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *data = mly_arena_take(&arena, bytes + 1);
    assert_non_null(data);
    protobuf_c_message_pack(message, data);
    return (ProtobufCBinaryData){bytes, data};
}

/* ---- encodings, packed as an ArrayEncoding ---- */

static ProtobufCBinaryData flat_in(uint64_t bits, uint32_t buffer, int32_t type, const char *scheme)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Flat flat = MLY_PB__FLAT__INIT;
    MlyPb__Buffer in = MLY_PB__BUFFER__INIT;
    MlyPb__Compression compression = MLY_PB__COMPRESSION__INIT;
    flat.has_bits_per_value = true;
    flat.bits_per_value = bits;
    in.has_buffer_index = true;
    in.buffer_index = buffer;
    in.has_buffer_type = type != 0;
    in.buffer_type = type;
    flat.buffer = &in;
    if (scheme != NULL) {
        compression.has_scheme = true;
        compression.scheme = lance_pb_data(mly_str_of(scheme));
        flat.compression = &compression;
    }
    array.flat = &flat;
    return packed(&array.base);
}

static ProtobufCBinaryData flat(uint64_t bits, uint32_t buffer)
{
    return flat_in(bits, buffer, 0, NULL);
}

static ProtobufCBinaryData no_null(ProtobufCBinaryData values)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    MlyPb__NoNull none = MLY_PB__NO_NULL__INIT;
    none.has_values = true;
    none.values = values;
    nullable.no_null = &none;
    array.nullable = &nullable;
    return packed(&array.base);
}

static ProtobufCBinaryData some_null(ProtobufCBinaryData validity, ProtobufCBinaryData values)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    MlyPb__SomeNull some = MLY_PB__SOME_NULL__INIT;
    some.has_values = some.has_validity = true;
    some.values = values;
    some.validity = validity;
    nullable.some_null = &some;
    array.nullable = &nullable;
    return packed(&array.base);
}

static ProtobufCBinaryData all_null(void)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    MlyPb__AllNull all = MLY_PB__ALL_NULL__INIT;
    nullable.all_null = &all;
    array.nullable = &nullable;
    return packed(&array.base);
}

static ProtobufCBinaryData unknown_nullable(void)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Nullable nullable = MLY_PB__NULLABLE__INIT;
    array.nullable = &nullable;
    return packed(&array.base);
}

static ProtobufCBinaryData binary(ProtobufCBinaryData indices, ProtobufCBinaryData bytes,
                                  uint64_t adjustment)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Binary strings = MLY_PB__BINARY__INIT;
    strings.has_indices = strings.has_bytes = strings.has_null_adjustment = true;
    strings.indices = indices;
    strings.bytes = bytes;
    strings.null_adjustment = adjustment;
    array.binary = &strings;
    return packed(&array.base);
}

static ProtobufCBinaryData dictionary(ProtobufCBinaryData indices, ProtobufCBinaryData items,
                                      uint32_t item_count)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Dictionary words = MLY_PB__DICTIONARY__INIT;
    words.has_indices = words.has_items = words.has_item_count = true;
    words.indices = indices;
    words.items = items;
    words.item_count = item_count;
    array.dictionary = &words;
    return packed(&array.base);
}

static ProtobufCBinaryData vectors(uint32_t dim, ProtobufCBinaryData items)
{
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__FixedSizeList list = MLY_PB__FIXED_SIZE_LIST__INIT;
    list.has_dimension = list.has_items = true;
    list.dimension = dim;
    list.items = items;
    array.fixed_size_list = &list;
    return packed(&array.base);
}

/* Strings whose ends are in buffer 0 and whose bytes in buffer 1. */
static ProtobufCBinaryData strings(void)
{
    return binary(flat(64, 0), flat(8, 1), 1000);
}

/* ---- reading ---- */

static enum mly_err read_pb(const MlyPb__Page *pb)
{
    static const struct mly_map map = {.data = file_bytes, .bytes = MAP_BYTES};
    const struct lance_page_source source = {&mem, &map, "f", &field};
    page = (struct lance_page){.row_count = ROWS};
    err.message[0] = '\0';
    return mly_lance_page_read(&source, pb, &page, &err);
}

static enum mly_err read_as(ProtobufCBinaryData any)
{
    MlyPb__Page pb = MLY_PB__PAGE__INIT;
    MlyPb__Encoding beside = MLY_PB__ENCODING__INIT;
    MlyPb__DirectEncoding direct = MLY_PB__DIRECT_ENCODING__INIT;
    pb.buffer_offsets = offsets;
    pb.buffer_sizes = sizes;
    pb.n_buffer_offsets = pb.n_buffer_sizes = 2;
    direct.has_any = true;
    direct.any = any;
    beside.direct = &direct;
    pb.encoding = &beside;
    return read_pb(&pb);
}

static enum mly_err read_page(enum mly_lance_type type, ProtobufCBinaryData array)
{
    MlyPb__Any any = MLY_PB__ANY__INIT;
    field.type = type;
    field.dim = type == MLY_LANCE_VECTOR ? 4 : 0;
    any.has_type_url = any.has_value = true;
    any.type_url = lance_pb_data(MLY_STR(ANY_URL));
    any.value = array;
    encoding = packed(&any.base);
    return read_as(encoding);
}

static void check_refused(enum mly_err got, enum mly_err wanted, const char *message)
{
    case_expect(got, wanted, &err);
    if (strstr(err.message, message) == NULL) print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, message));
}

static void pages_of_every_kind_are_read(void **state)
{
    (void)state;
    EXPECT_OK(read_page(MLY_LANCE_INT64, flat(64, 0)));
    assert_int_equal(page.kind, LANCE_PAGE_FLAT);
    assert_ptr_equal(page.values, file_bytes);
    EXPECT_OK(read_page(MLY_LANCE_TIMESTAMP_US, no_null(no_null(flat(64, 1)))));
    assert_ptr_equal(page.values, file_bytes + 512);
    EXPECT_OK(read_page(MLY_LANCE_FLOAT32, some_null(flat(1, 1), flat(32, 0))));
    assert_ptr_equal(page.valid, file_bytes + 512);
    EXPECT_OK(read_page(MLY_LANCE_FLOAT32, all_null()));
    assert_int_equal(page.kind, LANCE_PAGE_NULL);
    EXPECT_OK(read_page(MLY_LANCE_OTHER, all_null()));
    EXPECT_OK(read_page(MLY_LANCE_STRING, strings()));
    assert_int_equal(page.kind, LANCE_PAGE_BINARY);
    assert_int_equal(page.strings.null_adjustment, 1000);
    EXPECT_OK(read_page(MLY_LANCE_BINARY, dictionary(flat(8, 0), strings(), 3)));
    assert_int_equal(page.kind, LANCE_PAGE_DICTIONARY);
    assert_int_equal(page.strings.count, 3);
    EXPECT_OK(read_page(MLY_LANCE_VECTOR, vectors(4, flat(32, 0))));
    assert_int_equal(page.kind, LANCE_PAGE_VECTOR);
    /* Values that are null inside a vector are read as what stands there. */
    EXPECT_OK(read_page(MLY_LANCE_VECTOR, vectors(4, some_null(flat(1, 1), flat(32, 0)))));
}

/* The buffer's number and kind may be left out: both are 0 then. */
static void what_is_left_out_is_zero(void **state)
{
    (void)state;
    MlyPb__ArrayEncoding array = MLY_PB__ARRAY_ENCODING__INIT;
    MlyPb__Flat plain = MLY_PB__FLAT__INIT;
    MlyPb__Compression none = MLY_PB__COMPRESSION__INIT;
    plain.has_bits_per_value = true;
    plain.bits_per_value = 64;
    plain.compression = &none;
    array.flat = &plain;
    EXPECT_OK(read_page(MLY_LANCE_INT64, packed(&array.base)));
    assert_ptr_equal(page.values, file_bytes);
}

static void unknown_encodings_are_refused(void **state)
{
    (void)state;
    const enum mly_err unsupported = MLY_ERR_UNSUPPORTED;
    static const char *const unknown = "unknown encoding";
    check_refused(read_page(MLY_LANCE_INT64, strings()), unsupported, unknown);
    check_refused(read_page(MLY_LANCE_STRING, flat(64, 0)), unsupported, unknown);
    check_refused(read_page(MLY_LANCE_VECTOR, flat(32, 0)), unsupported, unknown);
    check_refused(read_page(MLY_LANCE_OTHER, flat(64, 0)), unsupported, unknown);
    check_refused(read_page(MLY_LANCE_INT64, flat(32, 0)), unsupported, "values of that many bits");
    check_refused(read_page(MLY_LANCE_INT64, flat_in(64, 0, 1, NULL)), unsupported,
                  "a buffer outside the page");
    check_refused(read_page(MLY_LANCE_INT64, flat_in(64, 0, 0, "zstd")), unsupported,
                  "compressed as zstd");
    check_refused(read_page(MLY_LANCE_INT64,
                            flat_in(64, 0, 0, "a name that is longer than is printed of a name")),
                  unsupported, "compressed as a name that is longer than is pr are");
    check_refused(read_page(MLY_LANCE_INT64, unknown_nullable()), unsupported,
                  "its nulls are encoded in an unknown way");
    check_refused(read_page(MLY_LANCE_INT64, some_null(strings(), flat(64, 0))), unsupported,
                  "its nulls are encoded in an unknown way");
    /* Nulls twice. */
    check_refused(
        read_page(MLY_LANCE_INT64, some_null(flat(1, 1), some_null(flat(1, 1), flat(64, 0)))),
        unsupported, "its nulls are encoded in an unknown way");
    check_refused(read_page(MLY_LANCE_STRING, binary(strings(), flat(8, 1), 9)), unsupported,
                  "its values are encoded in an unknown way");
    check_refused(read_page(MLY_LANCE_STRING, binary(all_null(), flat(8, 1), 9)), unsupported,
                  "its values are encoded in an unknown way");
    check_refused(
        read_page(MLY_LANCE_STRING, binary(some_null(flat(1, 1), flat(64, 0)), flat(8, 1), 9)),
        unsupported, "its values are encoded in an unknown way");
    check_refused(read_page(MLY_LANCE_STRING, dictionary(flat(8, 0), flat(8, 0), 3)), unsupported,
                  "its dictionary is encoded");
    check_refused(read_page(MLY_LANCE_STRING, dictionary(flat(8, 0), all_null(), 3)), unsupported,
                  "its dictionary is encoded");
    check_refused(
        read_page(MLY_LANCE_STRING, dictionary(flat(8, 0), some_null(flat(1, 1), strings()), 3)),
        unsupported, "its dictionary is encoded");
    check_refused(read_page(MLY_LANCE_STRING, dictionary(flat(8, 0), strings(), 256)), unsupported,
                  "its dictionary is encoded");
}

static void what_contradicts_itself_is_refused(void **state)
{
    (void)state;
    const enum mly_err corrupt = MLY_ERR_CORRUPT;
    static const ProtobufCBinaryData rubbish = {3, (uint8_t *)"\x0a\xff\x01"};
    check_refused(read_page(MLY_LANCE_INT64, rubbish), corrupt, "no valid message");
    check_refused(read_as(rubbish), corrupt, "no valid message");
    check_refused(read_page(MLY_LANCE_INT64, no_null(rubbish)), corrupt, "no valid message");
    check_refused(read_page(MLY_LANCE_INT64, some_null(rubbish, flat(64, 0))), corrupt,
                  "no valid message");
    check_refused(read_page(MLY_LANCE_STRING, binary(rubbish, flat(8, 1), 9)), corrupt,
                  "no valid message");
    check_refused(read_page(MLY_LANCE_STRING, binary(flat(64, 0), rubbish, 9)), corrupt,
                  "no valid message");
    check_refused(read_page(MLY_LANCE_STRING, dictionary(rubbish, strings(), 3)), corrupt,
                  "no valid message");
    check_refused(read_page(MLY_LANCE_STRING, dictionary(flat(8, 0), rubbish, 3)), corrupt,
                  "no valid message");
    check_refused(read_page(MLY_LANCE_VECTOR, vectors(4, rubbish)), corrupt, "no valid message");
    check_refused(read_page(MLY_LANCE_STRING, binary(flat(64, 0), flat(8, 1), 0)), corrupt,
                  "its null adjustment cannot be");
    check_refused(read_page(MLY_LANCE_VECTOR, vectors(5, flat(32, 0))), corrupt,
                  "another dimension than the table");
    check_refused(read_page(MLY_LANCE_INT64, flat(64, 2)), corrupt, "no buffer of that number (2)");
    check_refused(read_page(MLY_LANCE_INT64, some_null(flat(1, 7), flat(64, 0))), corrupt,
                  "no buffer of that number (7)");
    sizes[0] = 8 * ROWS - 1;
    check_refused(read_page(MLY_LANCE_INT64, flat(64, 0)), corrupt, "too short for its rows");
    sizes[0] = MAP_BYTES + 1;
    check_refused(read_page(MLY_LANCE_INT64, flat(64, 0)), corrupt, "beyond the end of the file");
    sizes[0] = 512;
    offsets[0] = UINT64_MAX;
    check_refused(read_page(MLY_LANCE_INT64, flat(64, 0)), corrupt, "beyond the end of the file");
    offsets[0] = 2;
    check_refused(read_page(MLY_LANCE_VECTOR, vectors(4, flat(32, 0))), MLY_ERR_UNSUPPORTED,
                  "not aligned to 4 bytes");
}

static void encodings_are_not_opened_without_end(void **state)
{
    (void)state;
    ProtobufCBinaryData array = flat(64, 0);
    for (int depth = 0; depth < LANCE_ENCODING_DEPTH_MAX; depth++)
        array = no_null(array);
    EXPECT_OK(read_page(MLY_LANCE_INT64, array));
    array = no_null(array);
    check_refused(read_page(MLY_LANCE_INT64, array), MLY_ERR_CORRUPT, "nested too deeply");
}

static void a_page_says_how_it_is_encoded(void **state)
{
    (void)state;
    static char long_name[200];
    MlyPb__Page pb = MLY_PB__PAGE__INIT;
    MlyPb__Encoding beside = MLY_PB__ENCODING__INIT;
    MlyPb__Any any = MLY_PB__ANY__INIT;
    check_refused(read_pb(&pb), MLY_ERR_UNSUPPORTED, "its page has no encoding beside it");
    pb.encoding = &beside;
    memset(long_name, 'n', sizeof(long_name) - 1);
    field.name = mly_str_of(long_name);
    check_refused(read_pb(&pb), MLY_ERR_UNSUPPORTED, "its page has no encoding beside it");
    any.has_type_url = true;
    any.type_url = lance_pb_data(MLY_STR("/lance.encodings21.PageLayout"));
    check_refused(read_as(packed(&any.base)), MLY_ERR_UNSUPPORTED, "as version 2.0 does");
}

static void memory_may_end_at_any_allocation(void **state)
{
    (void)state;
    const ProtobufCBinaryData deep = some_null(flat(1, 1), no_null(strings()));
    const struct {
        enum mly_lance_type type;
        ProtobufCBinaryData array;
    } cases[] = {
        {MLY_LANCE_STRING, deep},
        {MLY_LANCE_STRING, dictionary(flat(8, 0), no_null(strings()), 3)},
        {MLY_LANCE_VECTOR, vectors(4, some_null(flat(1, 1), flat(32, 0)))},
        {MLY_LANCE_INT64, all_null()},
    };
    int64_t live = -1;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_OK(read_page(cases[i].type, cases[i].array));
        live = mem.live;
        uint64_t failures = 0;
        enum mly_err rc = MLY_ERR_NOMEM;
        for (; rc != MLY_OK; failures++) {
            mem.fail_at = mem.calls + 1 + failures;
            rc = read_as(encoding);
            mem.fail_at = 0;
            if (rc != MLY_OK) case_expect(rc, MLY_ERR_NOMEM, &err);
            assert_int_equal(mem.live, live);
        }
        assert_true(failures > 3);
    }
}

/* Text i of a page ends where ends[i] says. */
static void texts_lie_inside_their_page(void **state)
{
    (void)state;
    uint8_t ends[4 * 8];
    const uint64_t wanted[] = {3, 1000 + 3, 2, 9};
    struct lance_strings in = {ends, 4, (const uint8_t *)"abcdef", 6, 1000};
    struct mly_str text;
    for (size_t i = 0; i < sizeof(ends); i++)
        ends[i] = (uint8_t)(wanted[i / 8] >> 8 * (i % 8));
    EXPECT_OK(mly_lance_strings_get(&in, 0, &text, &err));
    assert_true(mly_str_equal(text, MLY_STR("abc")));
    EXPECT_OK(mly_lance_strings_get(&in, 1, &text, &err));
    assert_null(text.data);
    check_refused(mly_lance_strings_get(&in, 2, &text, &err), MLY_ERR_CORRUPT, "bytes 3 to 2");
    check_refused(mly_lance_strings_get(&in, 3, &text, &err), MLY_ERR_CORRUPT, "bytes 2 to 9");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(pages_of_every_kind_are_read),         TEST(what_is_left_out_is_zero),
        TEST(unknown_encodings_are_refused),        TEST(what_contradicts_itself_is_refused),
        TEST(encodings_are_not_opened_without_end), TEST(a_page_says_how_it_is_encoded),
        TEST(memory_may_end_at_any_allocation),     TEST(texts_lie_inside_their_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
