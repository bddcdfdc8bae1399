/* Tables with sums: every changed byte is found before it is believed; files without sums are read,
 * and get them when they are adopted; sums are never in the way. */
#include "lance_place.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 12

/* Two versions, with a deletion file. */
static enum mly_err make_table(const struct mly_lance_table *on, struct mly_error *error)
{
    static const uint64_t dead[] = {1, 2};
    struct mly_lance_manifest *first, *second;
    bool visible;
    MLY_TRY(case_create(on, 0, ROWS, &first, &visible, error));
    enum mly_err rc = case_update(on, first, 3, dead, 2, &second, &visible, error);
    if (rc == MLY_OK) mly_lance_manifest_destroy(second);
    mly_lance_manifest_destroy(first);
    return rc;
}

/* Loads the newest version and reads all of it. */
static enum mly_err read_all(uint64_t *sum, struct mly_error *error)
{
    struct mly_lance_manifest *manifest = NULL;
    uint64_t live;
    MLY_TRY(mly_lance_manifest_load(table, &manifest, error));
    enum mly_err rc = case_sum(table, manifest, &live, sum, error);
    if (rc == MLY_OK) assert_int_equal(live, ROWS + 3 - 2);
    mly_lance_manifest_destroy(manifest);
    return rc;
}

/* A whole file. */
struct content {
    char path[600];
    uint8_t *data;
    size_t bytes;
};

static void read_content(struct content *content)
{
    FILE *file = fopen(content->path, "rb");
    assert_non_null(file);
    content->data = malloc(1 << 20);
    assert_non_null(content->data);
    content->bytes = fread(content->data, 1, 1 << 20, file);
    fclose(file);
}

static void write_content(const struct content *content)
{
    FILE *file = fopen(content->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content->data, 1, content->bytes, file), content->bytes);
    fclose(file);
}

/* Calls fn for every file in the folder whose name ends so; the number of them. */
static size_t each_file(const char *dir_path, const char *suffix, void (*fn)(struct content *))
{
    size_t count = 0;
    DIR *dir = opendir(dir_path);
    if (dir == NULL) return 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        size_t bytes = strlen(entry->d_name), end = strlen(suffix);
        if (entry->d_name[0] == '.' || bytes < end) continue;
        if (strcmp(entry->d_name + bytes - end, suffix) != 0) continue;
        count++;
        if (fn == NULL) continue;
        struct content content;
        snprintf(content.path, sizeof(content.path), "%s/%.250s", dir_path, entry->d_name);
        read_content(&content);
        fn(&content);
        free(content.data);
    }
    closedir(dir);
    return count;
}

static size_t each_in(const char *name, const char *suffix, void (*fn)(struct content *))
{
    char dir_path[TEMP_DIR_BYTES + 64];
    snprintf(dir_path, sizeof(dir_path), "%s/%s", path, name);
    return each_file(dir_path, suffix, fn);
}

static uint64_t right_sum, refused, harmless;

static void flip_each_byte(struct content *content)
{
    for (size_t i = 0; i < content->bytes; i++) {
        uint64_t sum = 0;
        content->data[i] ^= (uint8_t)(1u << i % 8);
        write_content(content);
        enum mly_err rc = read_all(&sum, &err);
        if (rc == MLY_OK) {
            assert_int_equal(sum, right_sum);
            harmless++;
        } else {
            case_expect(rc, MLY_ERR_CORRUPT, &err);
            assert_non_null(strstr(err.message, "t.lance/"));
            refused++;
        }
        content->data[i] ^= (uint8_t)(1u << i % 8);
    }
    write_content(content);
}

static void every_flipped_byte_of_a_table_is_refused(void **state)
{
    (void)state;
    EXPECT_OK(make_table(table, &err));
    EXPECT_OK(read_all(&right_sum, &err));
    refused = harmless = 0;
    assert_int_equal(each_in("data", ".lance", flip_each_byte), 2);
    assert_int_equal(each_in("_deletions", ".bin", flip_each_byte), 1);
    assert_int_equal(harmless, 0);
    assert_int_equal(each_in("_versions", "13.manifest", flip_each_byte), 1);
    assert_int_equal(harmless, 0);
    assert_true(refused > 5000);
    print_message("%llu flipped bytes refused\n", (unsigned long long)refused);
    EXPECT_OK(read_all(&right_sum, &err));
}

static void damaged_sums_are_no_damage(void **state)
{
    (void)state;
    EXPECT_OK(make_table(table, &err));
    EXPECT_OK(read_all(&right_sum, &err));
    refused = harmless = 0;
    assert_int_equal(each_file(sums_path, LANCE_SUMS_SUFFIX, flip_each_byte), 5);
    assert_int_equal(refused, 0);
    assert_true(harmless > 100);
}

static void cut_short(struct content *content)
{
    size_t bytes = content->bytes;
    for (size_t keep = 0; keep < bytes; keep += 97) {
        uint64_t sum;
        content->bytes = keep;
        write_content(content);
        case_expect(read_all(&sum, &err), MLY_ERR_CORRUPT, &err);
    }
    content->bytes = bytes;
    write_content(content);
}

static void a_file_that_is_cut_short_is_refused(void **state)
{
    (void)state;
    EXPECT_OK(make_table(table, &err));
    each_in("data", ".lance", cut_short);
    each_in("_deletions", ".bin", cut_short);
    each_in("_versions", "13.manifest", cut_short);
    EXPECT_OK(read_all(&right_sum, &err));
}

/* ---- large files ---- */

#define LARGE_ROWS 9000
static const struct mly_lance_field large_fields[2] = {
    {{"vector", 6}, MLY_LANCE_VECTOR, 64, true, 0},
    {{"text", 4}, MLY_LANCE_STRING, 0, true, 1},
};

static void write_large(struct mly_lance_data_file *out)
{
    struct mly_lance_writer *writer;
    float vector[64] = {0};
    EXPECT_OK(mly_lance_table_make(table, &err));
    EXPECT_OK(mly_lance_writer_open(table, large_fields, 2, &writer, &err));
    for (int row = 0; row < LARGE_ROWS; row++) {
        char text[80];
        vector[row % 64] = (float)row;
        int bytes = snprintf(text, sizeof(text), "%-60d", row);
        EXPECT_OK(mly_lance_put_vector(writer, 0, vector, &err));
        EXPECT_OK(mly_lance_put_string(writer, 1, (struct mly_str){text, (size_t)bytes}, &err));
    }
    EXPECT_OK(mly_lance_writer_finish(writer, out, &err));
    mly_lance_writer_close(writer);
}

/* Flips a bit of the value that row has, in the file. */
static void flip_value(const struct mly_lance_data_file *file, const void *at,
                       const struct mly_lance_fragment *fragment)
{
    char file_path[TEMP_DIR_BYTES + 128];
    snprintf(file_path, sizeof(file_path), "%s/data/%s", path, file->name);
    FILE *stream = fopen(file_path, "r+b");
    assert_non_null(stream);
    long offset = (long)((const uint8_t *)at - fragment->files[0].map.data);
    assert_int_equal(fseek(stream, offset, SEEK_SET), 0);
    int byte = fgetc(stream);
    assert_int_equal(fseek(stream, offset, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 4, stream), byte ^ 4);
    fclose(stream);
}

static void damage_is_found_where_it_is_read_and_nowhere_else(void **state)
{
    (void)state;
    struct mly_lance_data_file file;
    struct mly_lance_fragment *fragment;
    struct mly_lance_vectors page;
    struct mly_str text;
    write_large(&file);
    EXPECT_OK(mly_lance_fragment_open_file(table, large_fields, 2, &file, 0, &fragment, &err));
    EXPECT_OK(mly_lance_check_vectors(fragment, 0, 0, LARGE_ROWS, &err));
    EXPECT_OK(mly_lance_get_vectors(fragment, 0, 5000, &page, &err));
    EXPECT_OK(mly_lance_get_string(fragment, 1, 8000, &text, &err));
    flip_value(&file, page.values + (5000 - page.first_row) * 64, fragment);
    flip_value(&file, text.data, fragment);
    mly_lance_fragment_close(fragment);

    EXPECT_OK(mly_lance_fragment_open_file(table, large_fields, 2, &file, 0, &fragment, &err));
    EXPECT_OK(mly_lance_get_vectors(fragment, 0, 5000, &page, &err)); /* not looked at yet */
    case_expect(mly_lance_check_vectors(fragment, 0, 0, LARGE_ROWS, &err), MLY_ERR_CORRUPT, &err);
    assert_non_null(strstr(err.message, file.name));
    case_expect(mly_lance_check_vectors(fragment, 0, 5000, 1, &err), MLY_ERR_CORRUPT, &err);
    EXPECT_OK(mly_lance_check_vectors(fragment, 0, 0, 4000, &err));
    EXPECT_OK(mly_lance_check_vectors(fragment, 0, 6000, 1000, &err));
    EXPECT_OK(mly_lance_check_vectors(fragment, 0, 6000, 0, &err));
    case_expect(mly_lance_check_vectors(fragment, 0, 6000, LARGE_ROWS, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_check_vectors(fragment, 1, 0, 1, &err), MLY_ERR_INVAL, &err);
    EXPECT_OK(mly_lance_get_string(fragment, 1, 10, &text, &err));
    case_expect(mly_lance_get_string(fragment, 1, 8000, &text, &err), MLY_ERR_CORRUPT, &err);
    mly_lance_fragment_close(fragment);

    /* Without sums nobody knows. */
    mly_lance_sums_forget(table, file.name);
    EXPECT_OK(mly_lance_fragment_open_file(table, large_fields, 2, &file, 0, &fragment, &err));
    EXPECT_OK(mly_lance_check_vectors(fragment, 0, 0, LARGE_ROWS, &err));
    mly_lance_fragment_close(fragment);
    mly_lance_data_file_deinit(&file);
}

struct verdict {
    size_t files, without_sums, bad;
    uint64_t bytes;
    char reason[600];
};

static enum mly_err take_verdict(void *context, const struct mly_lance_verified *file,
                                 struct mly_error *unused)
{
    (void)unused;
    struct verdict *verdict = context;
    verdict->files++;
    verdict->bytes += file->bytes;
    verdict->without_sums += !file->has_sums;
    verdict->bad += file->code != MLY_OK;
    assert_non_null(strstr(file->path, path));
    if (file->code != MLY_OK) {
        snprintf(verdict->reason, sizeof(verdict->reason), "%s", file->reason);
    }
    return MLY_OK;
}

static struct verdict verify(const struct mly_lance_manifest *manifest)
{
    struct verdict verdict = {0};
    EXPECT_OK(mly_lance_verify(table, manifest, take_verdict, &verdict, &err));
    return verdict;
}

static void remove_file(struct content *content)
{
    assert_int_equal(unlink(content->path), 0);
}

static void what_has_no_sums_is_read_and_gets_them_when_adopted(void **state)
{
    (void)state;
    uint64_t made = 7, sum;
    EXPECT_OK(make_table(table, &err));
    EXPECT_OK(read_all(&right_sum, &err));
    struct mly_lance_manifest *manifest = load();
    struct verdict verdict = verify(manifest);
    assert_int_equal(verdict.files, 4);
    assert_int_equal(verdict.without_sums + verdict.bad, 0);
    assert_true(verdict.bytes > 3000);
    EXPECT_OK(mly_lance_adopt(table, manifest, &made, &err));
    assert_int_equal(made, 0);
    assert_int_equal(each_file(sums_path, "", remove_file), 5);
    EXPECT_OK(read_all(&sum, &err));
    assert_int_equal(sum, right_sum);
    verdict = verify(manifest);
    assert_int_equal(verdict.without_sums, 4);
    assert_int_equal(verdict.bad, 0);
    EXPECT_OK(mly_lance_adopt(table, manifest, &made, &err));
    assert_int_equal(made, 4);
    EXPECT_OK(mly_lance_adopt(table, manifest, NULL, &err));
    refused = harmless = 0;
    each_in("_versions", "13.manifest", flip_each_byte);
    each_in("_deletions", ".bin", flip_each_byte);
    assert_int_equal(harmless, 0);
    mly_lance_manifest_destroy(manifest);
}

static struct mly_lance_manifest *verified;

static void damage_and_verify(struct content *content)
{
    content->data[content->bytes / 2] ^= 1;
    write_content(content);
    struct verdict verdict = verify(verified);
    assert_int_equal(verdict.bad, 1);
    assert_non_null(strstr(verdict.reason, content->path));
    content->data[content->bytes / 2] ^= 1;
    assert_int_equal(unlink(content->path), 0);
    verdict = verify(verified);
    assert_int_equal(verdict.bad, 1);
    write_content(content);
    assert_int_equal(verify(verified).bad, 0);
}

static void verify_names_every_damaged_or_missing_file(void **state)
{
    (void)state;
    EXPECT_OK(make_table(table, &err));
    verified = load();
    assert_int_equal(each_in("data", ".lance", damage_and_verify), 2);
    assert_int_equal(each_in("_deletions", ".bin", damage_and_verify), 1);
    assert_int_equal(each_in("_versions", "13.manifest", damage_and_verify), 1);
    /* Without sums what can be decoded passes, and what cannot does not. */
    each_file(sums_path, "", remove_file);
    assert_int_equal(verify(verified).bad, 0);
    for (uint64_t fail_at = 1;; fail_at++) {
        struct verdict verdict = {0};
        fault.mem.fail_at = fault.mem.calls + fail_at;
        enum mly_err rc = mly_lance_verify(table, verified, take_verdict, &verdict, &err);
        fault.mem.fail_at = 0;
        if (rc == MLY_OK) break;
        case_expect(rc, MLY_ERR_NOMEM, &err);
    }
    mly_lance_manifest_destroy(verified);
}

/* ---- sums of other tables ---- */

static void sums_of_a_dropped_table_are_not_taken_for_the_new_ones(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    struct mly_bytes bytes;
    uint64_t sum, made;
    EXPECT_OK(make_table(table, &err));
    /* Somebody else's table, at version 2 as ours was, with nothing of ours in it. */
    manifest = load();
    size_t config_count = manifest->pb->n_config;
    manifest->pb->n_config = 0;
    mly_bytes_init(&bytes, fault.env.mem, MLY_META_BYTES_MAX);
    EXPECT_OK(mly_lance_pack_section(&manifest->pb->base, &bytes, &err));
    EXPECT_OK(mly_bytes_append_u64le(&bytes, 0, &err));
    EXPECT_OK(mly_bytes_append_u32le(&bytes, 2u << 16, &err));
    EXPECT_OK(mly_bytes_append(&bytes, "LANC", 4, &err));
    temp_dir_write(path, "_versions/18446744073709551613.manifest", bytes.data, bytes.bytes);
    mly_bytes_deinit(&bytes);
    manifest->pb->n_config = config_count;
    mly_lance_manifest_destroy(manifest);
    EXPECT_OK(read_all(&sum, &err));
    manifest = load();
    assert_int_equal(verify(manifest).bad, 0);
    EXPECT_OK(mly_lance_adopt(table, manifest, &made, &err));
    assert_int_equal(made, 0);
    assert_int_equal(each_file(sums_path, "13.manifest.sum", NULL), 0);
    mly_lance_manifest_destroy(manifest);

    /* One that we make ourselves forgets what was there. */
    temp_dir_remove(path);
    EXPECT_OK(mly_lance_table_make(table, &err));
    bool visible;
    EXPECT_OK(case_create(table, 0, 3, &manifest, &visible, &err));
    mly_lance_manifest_destroy(manifest);
    assert_int_equal(each_file(sums_path, ".manifest.sum", NULL), 1);
}

static void sums_go_with_their_files(void **state)
{
    (void)state;
    struct mly_lance_keep keep = {.versions = 1};
    struct mly_lance_data_file file;
    EXPECT_OK(make_table(table, &err));
    EXPECT_OK(case_write(table, 0, 3, &file, &err));
    temp_dir_write(sums_path, "x.lance.sum.tmp-123", "x", 1);
    temp_dir_write(sums_path, "y.bin.sum", "x", 1);
    assert_int_equal(each_file(sums_path, "", NULL), 8);
    mly_lance_data_file_discard(table, &file);
    assert_int_equal(each_file(sums_path, "", NULL), 7);
    EXPECT_OK(mly_lance_clean(table, &keep, NULL, &err));
    assert_int_equal(each_file(sums_path, "", NULL), 4);
    mly_lance_data_file_deinit(&file);
}

/* ---- failures ---- */

static enum mly_err live(const struct mly_env *env, struct mly_error *error)
{
    struct mly_lance_table *own;
    struct mly_lance_manifest *manifest = NULL;
    struct mly_lance_keep keep = {.versions = 1};
    uint64_t rows, sum;
    MLY_TRY(mly_lance_table_open(env, path, &own, error));
    enum mly_err rc = mly_lance_table_set_sums(own, sums_path, error);
    if (rc == MLY_OK) rc = make_table(own, error);
    if (rc == MLY_OK) rc = mly_lance_manifest_load(own, &manifest, error);
    if (rc == MLY_OK) rc = case_sum(own, manifest, &rows, &sum, error);
    if (rc == MLY_OK) assert_int_equal(sum, right_sum);
    if (rc == MLY_OK) rc = mly_lance_adopt(own, manifest, NULL, error);
    if (rc == MLY_OK) rc = mly_lance_clean(own, &keep, NULL, error);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(own);
    return rc;
}

static void every_failure_leaves_a_table_that_can_be_read(void **state)
{
    (void)state;
    EXPECT_OK(make_table(table, &err));
    EXPECT_OK(read_all(&right_sum, &err));
    temp_dir_remove(folder);
    for (int kind = 0; kind < 2; kind++) {
        bool fired = true;
        for (uint64_t fail_at = 1; fired; fail_at++) {
            struct fault_env own;
            struct mly_lance_manifest *manifest;
            uint64_t rows, sum;
            fault_env_init(&own);
            temp_dir_make(folder);
            snprintf(path, sizeof(path), "%s/t.lance", folder);
            snprintf(sums_path, sizeof(sums_path), "%s/private/sums/t", folder);
            if (kind == 0) own.fail_at = fail_at;
            if (kind == 1) own.mem.fail_at = fail_at;
            own.fail_errno = ENOSPC;
            err.message[0] = '\0';
            enum mly_err rc = live(&own.env, &err);
            fired = kind == 0 ? own.calls >= fail_at : own.mem.calls >= fail_at;
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            assert_int_equal(own.mem.live, 0);
            assert_int_equal(own.open_count, 0);
            fault_env_reset(&own);
            own.mem.fail_at = 0;
            struct mly_lance_table *after;
            EXPECT_OK(mly_lance_table_open(&own.env, path, &after, &err));
            EXPECT_OK(mly_lance_table_set_sums(after, sums_path, &err));
            EXPECT_OK(mly_lance_manifest_load(after, &manifest, &err));
            if (manifest != NULL) EXPECT_OK(case_sum(after, manifest, &rows, &sum, &err));
            mly_lance_manifest_destroy(manifest);
            mly_lance_table_close(after);
            temp_dir_remove(folder);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_with_sums, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_flipped_byte_of_a_table_is_refused),
        TEST(damaged_sums_are_no_damage),
        TEST(a_file_that_is_cut_short_is_refused),
        TEST(damage_is_found_where_it_is_read_and_nowhere_else),
        TEST(what_has_no_sums_is_read_and_gets_them_when_adopted),
        TEST(verify_names_every_damaged_or_missing_file),
        TEST(sums_of_a_dropped_table_are_not_taken_for_the_new_ones),
        TEST(sums_go_with_their_files),
        TEST(every_failure_leaves_a_table_that_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
