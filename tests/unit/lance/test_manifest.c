/* Manifests as another program, another version of the format, or damage could make them: what
 * can be read is read, the rest is refused by name; which fragments of two versions are the same.
 */
#include "lance_cases.h"

#include "lance/lance_int.h"

#include <string.h>

static struct mly_mem mem;
static struct mly_error err;

/* A manifest that can be read, and its parts. */
struct draft {
    MlyPb__Manifest pb;
    MlyPb__Field field, *fields[1];
    MlyPb__Fragment fragment[2], *fragments[2];
    MlyPb__DataFile file[2], *files[2], *other_files[1];
    MlyPb__DeletionFile deletions;
    MlyPb__Pair pair, *pairs[1];
    int32_t ids[2], columns[2], other_ids[2], other_columns[2];
};

#define OUR_NAME "00000001111111110100100198ba118f73840f001e6d6c7901.lance"

static ProtobufCBinaryData text(const char *value)
{
    return lance_pb_data(mly_str_of(value));
}

static void draft_init(struct draft *draft)
{
    memset(draft, 0, sizeof(*draft));
    mly_pb__manifest__init(&draft->pb);
    mly_pb__field__init(&draft->field);
    draft->field.has_name = true;
    draft->field.name = text("id");
    draft->field.has_logical_type = true;
    draft->field.logical_type = text("string");
    draft->fields[0] = &draft->field;
    draft->pb.fields = draft->fields;
    draft->pb.n_fields = 1;
    draft->pb.has_version = true;
    draft->pb.version = 7;
    for (size_t i = 0; i < 2; i++) {
        mly_pb__fragment__init(&draft->fragment[i]);
        mly_pb__data_file__init(&draft->file[i]);
        draft->fragment[i].has_id = true;
        draft->fragment[i].id = i + 3;
        draft->fragment[i].has_row_count = true;
        draft->fragment[i].row_count = 10;
        draft->fragments[i] = &draft->fragment[i];
        draft->file[i].has_path = true;
        draft->file[i].path = text(i == 0 ? "a.lance" : OUR_NAME);
        draft->file[i].n_field_ids = draft->file[i].n_column_indices = 2;
        draft->ids[i] = draft->columns[i] = (int32_t)i;
        draft->other_ids[i] = draft->other_columns[i] = (int32_t)i;
    }
    draft->file[0].field_ids = draft->ids;
    draft->file[0].column_indices = draft->columns;
    draft->file[1].field_ids = draft->other_ids;
    draft->file[1].column_indices = draft->other_columns;
    draft->files[0] = &draft->file[0];
    draft->other_files[0] = &draft->file[1];
    draft->fragment[0].files = draft->files;
    draft->fragment[0].n_files = 1;
    draft->fragment[1].files = draft->other_files;
    draft->fragment[1].n_files = 1;
    draft->pb.fragments = draft->fragments;
    draft->pb.n_fragments = 2;
    mly_pb__deletion_file__init(&draft->deletions);
    draft->deletions.has_type = true;
    draft->deletions.type = LANCE_DELETION_BITMAP;
    draft->deletions.has_deleted_count = true;
    draft->deletions.deleted_count = 3;
    mly_pb__pair__init(&draft->pair);
    draft->pair.has_key = true;
    draft->pair.key = text("key");
    draft->pairs[0] = &draft->pair;
}

static enum mly_err parse_bytes(const struct mly_bytes *bytes, struct mly_lance_manifest **out)
{
    err.message[0] = '\0';
    *out = NULL;
    return mly_lance_manifest_parse(&mem, bytes->data, bytes->bytes, "m", out, &err);
}

/* An index section of 5 bytes, the manifest, and its footer. */
static void pack(const MlyPb__Manifest *pb, struct mly_bytes *out)
{
    mly_bytes_init(out, &mem, MLY_META_BYTES_MAX);
    EXPECT_OK(mly_bytes_append(out, "\5\0\0\0index", 9, &err));
    EXPECT_OK(mly_lance_pack_section(&pb->base, out, &err));
    EXPECT_OK(mly_bytes_append_u64le(out, 9, &err));
    EXPECT_OK(mly_bytes_append_u32le(out, 2u << 16, &err));
    EXPECT_OK(mly_bytes_append(out, "LANC", 4, &err));
}

static enum mly_err parse(const struct draft *draft, struct mly_lance_manifest **out)
{
    struct mly_bytes bytes;
    pack(&draft->pb, &bytes);
    enum mly_err rc = parse_bytes(&bytes, out);
    mly_bytes_deinit(&bytes);
    return rc;
}

static struct mly_lance_manifest *need(const struct draft *draft)
{
    struct mly_lance_manifest *manifest;
    EXPECT_OK(parse(draft, &manifest));
    return manifest;
}

static void refused(const struct draft *draft, enum mly_err wanted, const char *message)
{
    struct mly_lance_manifest *manifest;
    case_expect(parse(draft, &manifest), wanted, &err);
    if (strstr(err.message, message) == NULL) print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, message));
    assert_null(manifest);
    assert_int_equal(mem.live, 0);
}

static void what_a_manifest_says_is_given(void **state)
{
    (void)state;
    struct draft draft;
    struct mly_lance_fragment_info info;
    draft_init(&draft);
    draft.fragment[1].deletion_file = &draft.deletions;
    draft.file[0].has_file_bytes = true;
    draft.file[0].file_bytes = 400;
    struct mly_lance_manifest *manifest = need(&draft);
    assert_int_equal(mly_lance_manifest_version(manifest), 7);
    assert_int_equal(mly_lance_manifest_fragment_count(manifest), 2);
    assert_int_equal(mly_lance_manifest_find_fragment(manifest, 4), 1);
    assert_int_equal(mly_lance_manifest_find_fragment(manifest, 5), SIZE_MAX);
    mly_lance_manifest_get_fragment(manifest, 0, &info);
    assert_int_equal(info.file_bytes, 400);
    assert_int_equal(info.deleted_count, 0);
    mly_lance_manifest_get_fragment(manifest, 1, &info);
    assert_int_equal(info.deleted_count, 3);
    assert_false(mly_lance_manifest_is_our_fragment(manifest, 0));
    assert_true(mly_lance_manifest_is_our_fragment(manifest, 1));
    assert_null(manifest->index_section);
    mly_lance_manifest_destroy(manifest);
    static char long_name[100];
    memset(long_name, 'n', sizeof(long_name) - 1);
    draft.file[1].path = text(long_name);
    manifest = need(&draft);
    assert_false(mly_lance_manifest_is_our_fragment(manifest, 1));
    mly_lance_manifest_destroy(manifest);
    draft.pb.n_fragments = 0;
    manifest = need(&draft);
    assert_int_equal(mly_lance_manifest_find_fragment(manifest, 0), SIZE_MAX);
    mly_lance_manifest_destroy(manifest);
}

static void fields_inside_others_and_their_flags_are_told_apart(void **state)
{
    (void)state;
    struct draft draft;
    draft_init(&draft);
    draft.field.has_parent_id = true;
    draft.field.parent_id = LANCE_PARENT_NONE;
    struct mly_lance_manifest *manifest = need(&draft);
    assert_int_equal(mly_lance_manifest_field_count(manifest), 1);
    mly_lance_manifest_destroy(manifest);
    draft.field.parent_id = 0;
    manifest = need(&draft);
    assert_int_equal(mly_lance_manifest_field_count(manifest), 0);
    mly_lance_manifest_destroy(manifest);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct draft draft;
    static char long_name[300];
    memset(long_name, 'n', sizeof(long_name) - 1);
    draft_init(&draft);
    draft.pb.version = 0;
    refused(&draft, MLY_ERR_CORRUPT, "its version is 0");
    draft.pb.version = (uint64_t)INT64_MAX + 1;
    refused(&draft, MLY_ERR_CORRUPT, "its version is 9223372036854775808");
    draft_init(&draft);
    draft.pb.has_reader_flags = true;
    draft.pb.reader_flags = 2;
    refused(&draft, MLY_ERR_UNSUPPORTED, "needs features 0x2");
    draft_init(&draft);
    draft.fragment[1].id = 3;
    refused(&draft, MLY_ERR_CORRUPT, "fragment 3 is there twice");
    draft.fragment[1].id = (uint64_t)UINT32_MAX + 1;
    refused(&draft, MLY_ERR_CORRUPT, "fragment 4294967296 has");
    draft_init(&draft);
    draft.fragment[0].row_count = (uint64_t)MLY_FRAGMENT_ROWS_MAX + 1;
    refused(&draft, MLY_ERR_CORRUPT, "has 2147483649 rows");
    draft_init(&draft);
    draft.fragment[0].deletion_file = &draft.deletions;
    draft.deletions.deleted_count = 11;
    refused(&draft, MLY_ERR_CORRUPT, "10 rows, 11 of them deleted");
    draft.deletions.deleted_count = 3;
    draft.deletions.has_base_id = true;
    refused(&draft, MLY_ERR_UNSUPPORTED, "the deletion file of fragment 3 lies outside");
    draft_init(&draft);
    draft.file[0].has_base_id = true;
    refused(&draft, MLY_ERR_UNSUPPORTED, "a.lance lies outside the table");
    draft_init(&draft);
    draft.file[0].path = text("../x");
    refused(&draft, MLY_ERR_CORRUPT, "has a data file named ../x");
    draft.file[0].path = text(long_name);
    refused(&draft, MLY_ERR_CORRUPT, "has a data file named nnnnnn");
    draft_init(&draft);
    draft.file[0].n_field_ids = 1;
    refused(&draft, MLY_ERR_CORRUPT, "has 1 fields in 2 columns");
}

static void sections_lie_inside_the_file(void **state)
{
    (void)state;
    struct draft draft;
    struct mly_bytes bytes;
    struct mly_lance_manifest *manifest;
    draft_init(&draft);
    draft.pb.has_index_section = true;
    manifest = need(&draft);
    assert_int_equal(manifest->index_section_bytes, 5);
    assert_memory_equal(manifest->index_section, "index", 5);
    mly_lance_manifest_destroy(manifest);
    static const uint64_t wrong[] = {1, 1 << 20, UINT64_MAX};
    for (size_t i = 0; i < 3; i++) {
        draft.pb.index_section = wrong[i];
        refused(&draft, MLY_ERR_CORRUPT, "index section at");
    }
    draft.pb.has_index_section = false;
    pack(&draft.pb, &bytes);
    for (size_t i = 0; i < 8; i++) {
        uint8_t *at = bytes.data + bytes.bytes - LANCE_MANIFEST_FOOTER_BYTES + i;
        *at = (uint8_t)(*at + 100);
        case_expect(parse_bytes(&bytes, &manifest), MLY_ERR_CORRUPT, &err);
        *at = (uint8_t)(*at - 100);
    }
    bytes.data[bytes.bytes - 1] = 'X';
    case_expect(parse_bytes(&bytes, &manifest), MLY_ERR_CORRUPT, &err);
    bytes.bytes = LANCE_MANIFEST_FOOTER_BYTES - 1;
    case_expect(parse_bytes(&bytes, &manifest), MLY_ERR_CORRUPT, &err);
    mly_bytes_deinit(&bytes);
}

static void memory_may_end_at_any_allocation(void **state)
{
    (void)state;
    struct draft draft;
    struct mly_bytes bytes;
    struct mly_lance_manifest *manifest;
    draft_init(&draft);
    draft.pb.has_index_section = true;
    draft.fragment[1].deletion_file = &draft.deletions;
    pack(&draft.pb, &bytes);
    int64_t live = mem.live;
    uint64_t failures = 0;
    enum mly_err rc = MLY_ERR_NOMEM;
    while (rc != MLY_OK) {
        mem.fail_at = mem.calls + 1 + failures;
        rc = parse_bytes(&bytes, &manifest);
        mem.fail_at = 0;
        if (rc == MLY_OK) break;
        case_expect(rc, MLY_ERR_NOMEM, &err);
        assert_int_equal(mem.live, live);
        failures++;
    }
    assert_true(failures > 10);
    mly_lance_manifest_destroy(manifest);
    mly_bytes_deinit(&bytes);
    assert_int_equal(mem.live, 0);
}

/* Do a and b keep fragment 3 in the same data files? Asked both ways round. */
static bool same_data(const struct draft *a, const struct draft *b)
{
    struct mly_lance_manifest *x = need(a), *y = need(b);
    bool same = mly_lance_manifest_same_data(x, y, 3);
    assert_int_equal(mly_lance_manifest_same_data(y, x, 3), same);
    mly_lance_manifest_destroy(x);
    mly_lance_manifest_destroy(y);
    return same;
}

static bool same_deletions(const struct draft *a, const struct draft *b)
{
    struct mly_lance_manifest *x = need(a), *y = need(b);
    bool same = mly_lance_manifest_same_deletions(x, y, 3);
    assert_int_equal(mly_lance_manifest_same_deletions(y, x, 3), same);
    mly_lance_manifest_destroy(x);
    mly_lance_manifest_destroy(y);
    return same;
}

static void a_fragment_is_the_same_where_all_of_it_is(void **state)
{
    (void)state;
    struct draft a, b;
    draft_init(&a);
#define DIFFERS(statement)                                                                         \
    do {                                                                                           \
        draft_init(&b);                                                                            \
        statement;                                                                                 \
        assert_false(same_data(&a, &b));                                                           \
    } while (0)
    draft_init(&b);
    assert_true(same_data(&a, &b));
    DIFFERS(b.fragment[0].id = 9);
    DIFFERS(b.pb.n_fields = 0);
    DIFFERS(b.field.has_id = true; b.field.id = 5);
    DIFFERS(b.field.logical_type = text("int64"));
    DIFFERS(b.field.has_nullable = true; b.field.nullable = true);
    DIFFERS(b.field.name = text("ID"));
    DIFFERS(b.fragment[0].n_files = 0);
    DIFFERS(b.fragment[0].row_count = 11);
    DIFFERS(b.file[0].path = text("b.lance"));
    DIFFERS(b.file[0].n_field_ids = b.file[0].n_column_indices = 1);
    DIFFERS(b.ids[1] = 7);
    DIFFERS(b.columns[1] = 7);
    a.field.logical_type = text("fixed_size_list:float:4");
    DIFFERS(b.field.logical_type = text("fixed_size_list:float:5"));
    /* A file without any field is the same as another one of its name. */
    draft_init(&a);
    draft_init(&b);
    a.file[0].n_field_ids = a.file[0].n_column_indices = 0;
    b.file[0].n_field_ids = b.file[0].n_column_indices = 0;
    assert_true(same_data(&a, &b));
#undef DIFFERS
}

static void dead_rows_are_the_same_where_all_of_their_file_is(void **state)
{
    (void)state;
    struct draft a, b;
    draft_init(&a);
    draft_init(&b);
    assert_true(same_deletions(&a, &b));
    b.fragment[0].deletion_file = &b.deletions;
    assert_false(same_deletions(&a, &b));
    a.fragment[0].deletion_file = &a.deletions;
    assert_true(same_deletions(&a, &b));
    b.deletions.type = LANCE_DELETION_ARROW;
    assert_false(same_deletions(&a, &b));
    b.deletions.type = LANCE_DELETION_BITMAP;
    b.deletions.has_read_version = true;
    b.deletions.read_version = 2;
    assert_false(same_deletions(&a, &b));
    b.deletions.read_version = 0;
    b.deletions.has_id = true;
    b.deletions.id = 2;
    assert_false(same_deletions(&a, &b));
    b.deletions.id = 0;
    b.deletions.deleted_count = 4;
    assert_false(same_deletions(&a, &b));
    b.fragment[0].id = 9;
    assert_false(same_deletions(&a, &b));
}

static void the_last_value_of_a_key_counts(void **state)
{
    (void)state;
    struct draft draft;
    MlyPb__Pair second = MLY_PB__PAIR__INIT, *pairs[2];
    draft_init(&draft);
    draft.pair.has_value = true;
    draft.pair.value = text("first");
    second.has_key = true;
    second.key = text("key");
    second.has_value = true;
    second.value = text("second");
    pairs[0] = &draft.pair;
    pairs[1] = &second;
    draft.pb.config = pairs;
    draft.pb.n_config = 2;
    struct mly_lance_manifest *manifest = need(&draft);
    struct mly_str value = mly_lance_manifest_config(manifest, MLY_STR("key"));
    assert_true(mly_str_equal(value, MLY_STR("second")));
    assert_null(mly_lance_manifest_config(manifest, MLY_STR("KEY")).data);
    mly_lance_manifest_destroy(manifest);
}

static void names_of_versions_are_read_both_ways(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t version; /* 0: none */
        enum lance_naming naming;
    } cases[] = {
        {"18446744073709551614.manifest", 1, LANCE_NAMING_V2},
        {"09223372036854775808.manifest", INT64_MAX, LANCE_NAMING_V2},
        {"09223372036854775807.manifest", 0, LANCE_NAMING_V2},
        {"18446744073709551615.manifest", 0, LANCE_NAMING_V2},
        {"18446744073709551616.manifest", 0, LANCE_NAMING_V2},
        {"99999999999999999999.manifest", 0, LANCE_NAMING_V2},
        {"118446744073709551614.manifest", 0, LANCE_NAMING_V2},
        {"1.manifest", 1, LANCE_NAMING_V1},
        {"0.manifest", 0, LANCE_NAMING_V1},
        {"9223372036854775807.manifest", INT64_MAX, LANCE_NAMING_V1},
        {"9223372036854775808.manifest", 0, LANCE_NAMING_V1},
        {".manifest", 0, LANCE_NAMING_V1},
        {"12.manifesto", 0, LANCE_NAMING_V1},
        {"1/.manifest", 0, LANCE_NAMING_V1},
        {"1a.manifest", 0, LANCE_NAMING_V1},
        {"d1.manifest", 0, LANCE_NAMING_V1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t version = 0;
        enum lance_naming naming;
        bool found = mly_lance_parse_version_name(cases[i].name, &version, &naming);
        assert_int_equal(found, cases[i].version != 0);
        if (!found) continue;
        char back[LANCE_VERSION_NAME_BYTES];
        assert_int_equal(version, cases[i].version);
        assert_int_equal(naming, cases[i].naming);
        mly_lance_version_name(version, naming, back);
        assert_string_equal(back, cases[i].name);
    }
}

static void bytes_without_a_word_of_ours_are_strange(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        bool strange;
    } cases[] = {
        {"", true},          {"memalloy", true},  {"memalloy.", false}, {"mmmemalloy.x", false},
        {"memallo.y", true}, {"xxxxxxxxx", true}, {"mmmmmmmmmm", true}, {"xmemalloy.", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(mly_lance_is_strange(cases[i].bytes, strlen(cases[i].bytes)),
                         cases[i].strange);
    }
}

static void logical_types_are_ours_or_another(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mly_lance_type type;
        uint32_t dim;
    } cases[] = {
        {"string", MLY_LANCE_STRING, 0},
        {"large_string", MLY_LANCE_STRING, 0},
        {"binary", MLY_LANCE_BINARY, 0},
        {"large_binary", MLY_LANCE_BINARY, 0},
        {"int64", MLY_LANCE_INT64, 0},
        {"float", MLY_LANCE_FLOAT32, 0},
        {"timestamp:us:-", MLY_LANCE_TIMESTAMP_US, 0},
        {"timestamp:us:UTC", MLY_LANCE_TIMESTAMP_US, 0},
        {"timestamp:ns:-", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:float:65536", MLY_LANCE_VECTOR, 65536},
        {"fixed_size_list:float:1", MLY_LANCE_VECTOR, 1},
        {"fixed_size_list:float:0", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:float:65537", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:float:", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:float:4 ", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:float:4:x", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:float:1000000000", MLY_LANCE_OTHER, 0},
        {"fixed_size_list:double:4", MLY_LANCE_OTHER, 0},
        {"", MLY_LANCE_OTHER, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum mly_lance_type type;
        uint32_t dim = 99;
        mly_lance_parse_type(mly_str_of(cases[i].text), &type, &dim);
        assert_int_equal(type, cases[i].type);
        assert_int_equal(dim, cases[i].dim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_manifest_says_is_given),
        cmocka_unit_test(fields_inside_others_and_their_flags_are_told_apart),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(sections_lie_inside_the_file),
        cmocka_unit_test(memory_may_end_at_any_allocation),
        cmocka_unit_test(a_fragment_is_the_same_where_all_of_it_is),
        cmocka_unit_test(dead_rows_are_the_same_where_all_of_their_file_is),
        cmocka_unit_test(the_last_value_of_a_key_counts),
        cmocka_unit_test(names_of_versions_are_read_both_ways),
        cmocka_unit_test(bytes_without_a_word_of_ours_are_strange),
        cmocka_unit_test(logical_types_are_ours_or_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
