/* Indices in tables: what was written is what the manifest names, commits carry it along, a new one
 * takes the place of its name, others stay as they are, cleaning leaves what a version names,
 * damage is told; and a failure or a power cut leaves no version with half an index. */
#define _GNU_SOURCE
#include "crash_env.h"
#include "lance_place.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS 20
#define SUBS 5
#define PARTITIONS 2
#define INDEX_NAME MLY_STR("vector_idx")

/* ---- making one ---- */

static const uint64_t partition_rows[PARTITIONS] = {7, 13};
static const float centroids[PARTITIONS * CASE_DIM] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
static float codebook[256 * CASE_DIM];

static struct mly_lance_index_shape shape_of(void)
{
    for (size_t i = 0; i < 256 * CASE_DIM; i++)
        codebook[i] = (float)i;
    return (struct mly_lance_index_shape){.dim = CASE_DIM,
                                          .partition_count = PARTITIONS,
                                          .sub_count = SUBS,
                                          .partition_rows = partition_rows,
                                          .centroids = centroids,
                                          .codebook = codebook};
}

static enum mly_err write_index(const struct mly_lance_table *on, struct mly_lance_index *out,
                                struct mly_error *error)
{
    const struct mly_lance_index_shape shape = shape_of();
    struct mly_lance_index_writer *writer = NULL;
    uint64_t addresses[ROWS];
    uint8_t codes[ROWS * SUBS];
    for (size_t i = 0; i < ROWS; i++)
        addresses[i] = i;
    for (size_t i = 0; i < sizeof(codes); i++)
        codes[i] = (uint8_t)(3 * i);
    MLY_TRY(mly_lance_index_writer_open(on, &shape, &writer, error));
    enum mly_err rc = mly_lance_index_put(writer, addresses, codes, 7, error);
    if (rc == MLY_OK) rc = mly_lance_index_put(writer, addresses + 7, codes, 13, error);
    if (rc == MLY_OK) rc = mly_lance_index_writer_finish(writer, out, error);
    mly_lance_index_writer_close(writer);
    return rc;
}

static enum mly_err commit_index(const struct mly_lance_table *on,
                                 const struct mly_lance_manifest *base,
                                 const struct mly_lance_index *index, struct mly_str name,
                                 struct mly_lance_manifest **out, bool *visible,
                                 struct mly_error *error)
{
    static const uint64_t fragments[] = {0};
    const struct mly_lance_index_change wanted = {.index = index,
                                                  .name = name,
                                                  .field_id = 1,
                                                  .version = mly_lance_manifest_version(base),
                                                  .fragments = fragments,
                                                  .fragment_count = 1};
    const struct mly_lance_change change = {.index = &wanted};
    return mly_lance_commit(on, base, &change, out, visible, error);
}

/* Version 1 with rows, version 2 with an index of them. */
static enum mly_err make_indexed(const struct mly_lance_table *on, struct mly_lance_manifest **out,
                                 struct mly_lance_index *index, bool *visible,
                                 struct mly_error *error)
{
    struct mly_lance_manifest *first = NULL;
    bool made;
    *visible = false;
    MLY_TRY(case_create(on, 0, ROWS, &first, &made, error));
    enum mly_err rc = write_index(on, index, error);
    if (rc == MLY_OK) {
        rc = commit_index(on, first, index, INDEX_NAME, out, visible, error);
        if (!*visible) mly_lance_index_discard(on, index);
    }
    mly_lance_manifest_destroy(first);
    return rc;
}

static char *file_of(const struct mly_lance_index *index, const char *name)
{
    static char file[TEMP_DIR_BYTES + 128];
    char of[LANCE_INDEX_FOLDER_BYTES];
    mly_lance_index_folder(index->uuid, of);
    snprintf(file, sizeof(file), "%s/%s/%s", path, of, name);
    return file;
}

static bool is_there(const struct mly_lance_index *index)
{
    return access(file_of(index, "index.idx"), F_OK) == 0 &&
           access(file_of(index, "auxiliary.idx"), F_OK) == 0;
}

static void expect_one(const struct mly_lance_manifest *manifest,
                       const struct mly_lance_index *index)
{
    struct mly_lance_indices *indices;
    struct mly_lance_index_info info;
    EXPECT_OK(mly_lance_indices_read(manifest, &indices, &err));
    assert_int_equal(mly_lance_indices_count(indices), 1);
    mly_lance_indices_get(indices, 0, &info);
    assert_true(mly_str_equal(info.name, INDEX_NAME));
    assert_int_equal(info.field_id, 1);
    assert_true(info.is_vector && info.is_ivf_pq && info.is_ours);
    assert_int_equal(info.bytes, index->main_bytes + index->auxiliary_bytes);
    assert_true(mly_lance_indices_cover(indices, 0, 0));
    assert_false(mly_lance_indices_cover(indices, 0, 1));
    assert_false(mly_lance_indices_cover(indices, 0, UINT64_MAX));
    mly_lance_indices_destroy(indices);
}

/* ---- tests ---- */

static void a_version_has_the_index_and_later_ones_keep_it(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest, *next, *loaded;
    struct mly_lance_index index;
    static const uint64_t dead[] = {1, 2};
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &index, &visible, &err));
    assert_int_equal(mly_lance_manifest_version(manifest), 2);
    assert_true(mly_lance_manifest_is_ours(manifest));
    expect_one(manifest, &index);
    EXPECT_OK(mly_lance_indices_check(table, manifest, &err));
    EXPECT_OK(case_update(table, manifest, 3, dead, 2, &next, &visible, &err));
    expect_one(next, &index);
    EXPECT_OK(mly_lance_manifest_load(table, &loaded, &err));
    assert_int_equal(mly_lance_manifest_version(loaded), 3);
    expect_one(loaded, &index);
    case_check_rows(table, loaded, 0, 0);
    mly_lance_manifest_destroy(manifest);
    mly_lance_manifest_destroy(next);
    mly_lance_manifest_destroy(loaded);
}

static void a_table_without_any_has_none(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    struct mly_lance_indices *indices;
    bool visible;
    EXPECT_OK(case_create(table, 0, ROWS, &manifest, &visible, &err));
    EXPECT_OK(mly_lance_indices_read(manifest, &indices, &err));
    assert_int_equal(mly_lance_indices_count(indices), 0);
    mly_lance_indices_destroy(indices);
    mly_lance_indices_destroy(NULL);
    EXPECT_OK(mly_lance_indices_check(table, manifest, &err));
    mly_lance_manifest_destroy(manifest);
}

static void a_new_one_takes_the_place_of_its_name_only(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest, *other, *last;
    struct mly_lance_index first, second, third;
    struct mly_lance_indices *indices;
    struct mly_lance_index_info info;
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &first, &visible, &err));
    EXPECT_OK(write_index(table, &second, &err));
    EXPECT_OK(commit_index(table, manifest, &second, MLY_STR("other"), &other, &visible, &err));
    EXPECT_OK(write_index(table, &third, &err));
    EXPECT_OK(commit_index(table, other, &third, INDEX_NAME, &last, &visible, &err));
    EXPECT_OK(mly_lance_indices_read(last, &indices, &err));
    assert_int_equal(mly_lance_indices_count(indices), 2);
    mly_lance_indices_get(indices, 0, &info);
    assert_true(mly_str_equal(info.name, MLY_STR("other")));
    mly_lance_indices_destroy(indices);
    assert_true(is_there(&first) && is_there(&second) && is_there(&third));
    /* The first one goes with the versions that name it, the others stay. */
    struct mly_lance_keep keep = {.versions = 1};
    struct mly_lance_cleaned report;
    EXPECT_OK(mly_lance_clean(table, &keep, &report, &err));
    assert_int_equal(report.index_files, 0);
    assert_true(is_there(&first));
    keep.indices = true;
    EXPECT_OK(mly_lance_clean(table, &keep, &report, &err));
    assert_int_equal(report.index_files, 2);
    assert_false(report.is_frozen);
    assert_true(is_there(&second) && is_there(&third));
    char of[LANCE_INDEX_FOLDER_BYTES], gone[TEMP_DIR_BYTES + 96];
    mly_lance_index_folder(first.uuid, of);
    snprintf(gone, sizeof(gone), "%s/%s", path, of);
    assert_int_not_equal(access(gone, F_OK), 0);
    mly_lance_manifest_destroy(manifest);
    mly_lance_manifest_destroy(other);
    mly_lance_manifest_destroy(last);
}

static void what_was_never_named_goes_and_what_is_not_ours_stays(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    struct mly_lance_index index, orphan;
    char file[TEMP_DIR_BYTES + 128];
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &index, &visible, &err));
    EXPECT_OK(write_index(table, &orphan, &err));
    static const char *const foreign = "_indices/0dfd3b3f-7a3b-4a7e-8f4b-3f3f3f3f3f3f";
    snprintf(file, sizeof(file), "%s/%s", path, foreign);
    EXPECT_OK(mly_dir_make(&fault.env, MLY_AT_CWD, file, &err));
    snprintf(file, sizeof(file), "%s/index.idx", foreign);
    temp_dir_write(path, file, "x", 1);
    const struct mly_lance_keep keep = {.versions = 2, .indices = true};
    struct mly_lance_cleaned report;
    EXPECT_OK(mly_lance_clean(table, &keep, &report, &err));
    assert_int_equal(report.index_files, 2);
    assert_true(is_there(&index));
    assert_false(is_there(&orphan));
    snprintf(file, sizeof(file), "%s/%s/index.idx", path, foreign);
    assert_int_equal(access(file, F_OK), 0);
    mly_lance_manifest_destroy(manifest);
}

struct seen {
    size_t files, damaged;
    char reason[200];
};

static enum mly_err see(void *context, const struct mly_lance_verified *file,
                        struct mly_error *error)
{
    struct seen *seen = context;
    (void)error;
    seen->files++;
    if (file->code == MLY_OK) return MLY_OK;
    assert_int_equal(file->code, MLY_ERR_CORRUPT);
    seen->damaged++;
    snprintf(seen->reason, sizeof(seen->reason), "%s", file->reason);
    return MLY_OK;
}

static void flip(const char *file, long at)
{
    FILE *stream = fopen(file, "r+b");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(stream);
    assert_int_equal(fseek(stream, -1, SEEK_CUR), 0);
    assert_int_equal(fputc(byte ^ 4, stream), byte ^ 4);
    assert_int_equal(fclose(stream), 0);
}

static void damage_of_any_file_is_told(void **state)
{
    (void)state;
    static const char *const names[] = {"index.idx", "auxiliary.idx"};
    struct mly_lance_manifest *manifest;
    struct mly_lance_index index;
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &index, &visible, &err));
    struct seen whole = {0};
    EXPECT_OK(mly_lance_verify(table, manifest, see, &whole, &err));
    assert_int_equal(whole.damaged, 0);
    assert_int_equal(whole.files, 4); /* data, manifest, and those of the index */
    for (size_t i = 0; i < 2; i++) {
        const long places[] = {0, 100, -5};
        for (size_t j = 0; j < 3; j++) {
            struct seen seen = {0};
            flip(file_of(&index, names[i]), places[j]);
            case_expect(mly_lance_indices_check(table, manifest, &err), MLY_ERR_CORRUPT, &err);
            assert_non_null(strstr(err.message, names[i]));
            EXPECT_OK(mly_lance_verify(table, manifest, see, &seen, &err));
            assert_int_equal(seen.damaged, 1);
            assert_non_null(strstr(seen.reason, names[i]));
            flip(file_of(&index, names[i]), places[j]);
        }
    }
    EXPECT_OK(mly_lance_indices_check(table, manifest, &err));
    /* Without its sums the size is what is looked at; adopting makes them again. */
    temp_dir_remove(sums_path);
    uint64_t made;
    EXPECT_OK(mly_lance_adopt(table, manifest, &made, &err));
    assert_int_equal(made, 4);
    flip(file_of(&index, names[0]), 50);
    case_expect(mly_lance_indices_check(table, manifest, &err), MLY_ERR_CORRUPT, &err);
    temp_dir_remove(sums_path);
    EXPECT_OK(mly_lance_indices_check(table, manifest, &err));
    assert_int_equal(truncate(file_of(&index, names[1]), 500), 0);
    case_expect(mly_lance_indices_check(table, manifest, &err), MLY_ERR_CORRUPT, &err);
    assert_int_equal(unlink(file_of(&index, names[1])), 0);
    case_expect(mly_lance_indices_check(table, manifest, &err), MLY_ERR_CORRUPT, &err);
    mly_lance_manifest_destroy(manifest);
}

static void sums_go_with_their_files(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    struct mly_lance_index index, orphan;
    char sums[LANCE_INDEX_SUMS_BYTES], file[TEMP_DIR_BYTES + 128];
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &index, &visible, &err));
    EXPECT_OK(write_index(table, &orphan, &err));
    const struct mly_lance_keep keep = {.versions = 2, .indices = true};
    EXPECT_OK(mly_lance_clean(table, &keep, NULL, &err));
    mly_lance_index_sums_name(index.uuid, "index.idx", sums);
    snprintf(file, sizeof(file), "%s/%s.sum", sums_path, sums);
    assert_int_equal(access(file, F_OK), 0);
    mly_lance_index_sums_name(orphan.uuid, "index.idx", sums);
    snprintf(file, sizeof(file), "%s/%s.sum", sums_path, sums);
    assert_int_not_equal(access(file, F_OK), 0);
    mly_lance_manifest_destroy(manifest);
}

static void a_lost_race_is_a_conflict(void **state)
{
    (void)state;
    struct mly_lance_manifest *first, *second, *third;
    struct mly_lance_index index;
    bool visible;
    static const uint64_t dead[] = {3};
    EXPECT_OK(case_create(table, 0, ROWS, &first, &visible, &err));
    EXPECT_OK(case_update(table, first, 1, dead, 1, &second, &visible, &err));
    EXPECT_OK(write_index(table, &index, &err));
    case_expect(commit_index(table, first, &index, INDEX_NAME, &third, &visible, &err),
                MLY_ERR_CONFLICT, &err);
    assert_false(visible);
    assert_true(is_there(&index));
    EXPECT_OK(commit_index(table, second, &index, INDEX_NAME, &third, &visible, &err));
    expect_one(third, &index);
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(second);
    mly_lance_manifest_destroy(third);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct mly_lance_index_shape shape = shape_of();
    struct mly_lance_index_writer *writer = NULL;
    struct mly_lance_index index;
    const uint64_t addresses[8] = {0};
    const uint8_t codes[8 * SUBS] = {0};
    EXPECT_OK(mly_lance_table_make(table, &err));
    shape.sub_count = 2;
    case_expect(mly_lance_index_writer_open(table, &shape, &writer, &err), MLY_ERR_INVAL, &err);
    shape.sub_count = 0;
    case_expect(mly_lance_index_writer_open(table, &shape, &writer, &err), MLY_ERR_INVAL, &err);
    shape = shape_of();
    EXPECT_OK(mly_lance_index_writer_open(table, &shape, &writer, &err));
    case_expect(mly_lance_index_put(writer, addresses, codes, 8, &err), MLY_ERR_INVAL, &err);
    case_expect(mly_lance_index_writer_finish(writer, &index, &err), MLY_ERR_INVAL, &err);
    mly_lance_index_writer_close(writer);
    mly_lance_index_writer_close(NULL);
    struct mly_lance_manifest *manifest, *next;
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &index, &visible, &err));
    const struct mly_lance_index_change wanted = {.index = &index, .name = INDEX_NAME};
    struct mly_lance_data_file file;
    EXPECT_OK(case_write(table, 0, 3, &file, &err));
    struct mly_lance_change change = {.index = &wanted, .files = &file, .file_count = 1};
    case_expect(mly_lance_commit(table, manifest, &change, &next, &visible, &err), MLY_ERR_INVAL,
                &err);
    mly_lance_data_file_deinit(&file);
    mly_lance_manifest_destroy(manifest);
}

/* A section that says nonsense is told, freezes cleaning, and is no failure of verifying. */
static void a_section_that_cannot_be_read_is_told(void **state)
{
    (void)state;
    struct mly_lance_manifest *manifest;
    struct mly_lance_indices *indices;
    struct mly_lance_index index;
    bool visible;
    EXPECT_OK(make_indexed(table, &manifest, &index, &visible, &err));
    for (size_t i = 0; i < manifest->index_section_bytes; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            manifest->index_section[i] ^= (uint8_t)(1u << bit);
            enum mly_err rc = mly_lance_indices_read(manifest, &indices, &err);
            if (rc == MLY_OK) mly_lance_indices_destroy(indices);
            assert_true(rc == MLY_OK || rc == MLY_ERR_CORRUPT || rc == MLY_ERR_LIMIT);
            manifest->index_section[i] ^= (uint8_t)(1u << bit);
        }
    }
    manifest->index_section[0] = 0xFF;
    case_expect(mly_lance_indices_read(manifest, &indices, &err), MLY_ERR_CORRUPT, &err);
    struct seen seen = {0};
    EXPECT_OK(mly_lance_verify(table, manifest, see, &seen, &err));
    assert_int_equal(seen.damaged, 1);
    mly_lance_manifest_destroy(manifest);
}

/* ---- failures and power cuts ---- */

static void every_failure_is_told_and_leaves_the_old_or_the_new(void **state)
{
    (void)state;
    for (int by_memory = 0; by_memory < 2; by_memory++) {
        uint64_t fail_at = 1;
        for (;; fail_at++) {
            struct mly_lance_manifest *manifest = NULL, *loaded = NULL;
            struct mly_lance_index index;
            bool visible;
            if (by_memory == 1) {
                fault.mem.fail_at = fault.mem.calls + fail_at;
            } else {
                fault.calls = 0;
                fault.fail_at = fail_at;
                fault.fail_errno = EIO;
            }
            err.message[0] = '\0';
            enum mly_err rc = make_indexed(table, &manifest, &index, &visible, &err);
            bool reached = by_memory == 1 || fault.calls >= fail_at;
            fault_env_reset(&fault);
            fault.mem.fail_at = 0;
            if (rc != MLY_OK) assert_true(err.message[0] != '\0');
            EXPECT_OK(mly_lance_manifest_load(table, &loaded, &err));
            assert_int_equal(loaded != NULL && mly_lance_manifest_version(loaded) == 2, visible);
            if (visible) {
                expect_one(loaded, &index);
                assert_true(is_there(&index));
            }
            mly_lance_manifest_destroy(loaded);
            mly_lance_manifest_destroy(manifest);
            temp_dir_remove(path);
            temp_dir_remove(sums_path);
            if (by_memory == 1 ? rc == MLY_OK : !reached) break;
        }
        assert_true(fail_at > 50);
    }
}

/* What the files had when nothing was cut. */
struct expected {
    struct mly_lance_index index;
    struct mly_bytes files[2];
};

static void read_files(const struct mly_env *env, const struct mly_lance_index *index,
                       struct mly_bytes out[2])
{
    static const char *const names[] = {"index.idx", "auxiliary.idx"};
    char of[LANCE_INDEX_FOLDER_BYTES], file[256];
    struct mly_file_info info;
    mly_lance_index_folder(index->uuid, of);
    for (size_t i = 0; i < 2; i++) {
        mly_bytes_init(&out[i], env->mem, MLY_META_BYTES_MAX);
        snprintf(file, sizeof(file), "/t.lance/%s/%s", of, names[i]);
        if (mly_lance_read_file(env, file, &out[i], &info, &err) != MLY_OK) out[i].bytes = 0;
    }
}

static bool check_cut(void *context, struct crash_env *after, const struct crash_choice *choice)
{
    const struct expected *expected = context;
    struct mly_lance_table *cut;
    struct mly_lance_manifest *manifest = NULL;
    struct mly_bytes files[2];
    bool good = true;
    (void)choice;
    EXPECT_OK(mly_lance_table_open(&after->env, "/t.lance", &cut, &err));
    if (mly_lance_manifest_load(cut, &manifest, &err) != MLY_OK) good = false;
    if (good && manifest != NULL && mly_lance_manifest_version(manifest) == 2) {
        read_files(&after->env, &expected->index, files);
        for (size_t i = 0; i < 2; i++) {
            good = good && files[i].bytes == expected->files[i].bytes &&
                   memcmp(files[i].data, expected->files[i].data, files[i].bytes) == 0;
            mly_bytes_deinit(&files[i]);
        }
        if (good) expect_one(manifest, &expected->index);
    }
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(cut);
    return good;
}

/* skip: a sync that does nothing, or 0. */
static bool survives_power_cuts(uint64_t skip, uint64_t *syncs, uint64_t *states, bool *idle)
{
    struct crash_env crash;
    struct mly_lance_table *on;
    struct mly_lance_manifest *first, *manifest = NULL;
    struct expected expected;
    bool visible;
    crash_env_init(&crash);
    EXPECT_OK(mly_lance_table_open(&crash.env, "/t.lance", &on, &err));
    EXPECT_OK(case_create(on, 0, ROWS, &first, &visible, &err));
    const struct crash_effort effort = {crash_env_now(&crash), CRASH_ALL_SINGLES, 10, 0, 0};
    const uint64_t before = crash.syncs;
    crash.skip_sync = skip == 0 ? 0 : crash.syncs + skip;
    EXPECT_OK(write_index(on, &expected.index, &err));
    EXPECT_OK(commit_index(on, first, &expected.index, INDEX_NAME, &manifest, &visible, &err));
    *syncs = crash.syncs - before;
    *idle = skip != 0 && !crash.skipped_work;
    read_files(&crash.env, &expected.index, expected.files);
    mly_lance_manifest_destroy(first);
    mly_lance_manifest_destroy(manifest);
    mly_lance_table_close(on);
    bool survived = crash_env_each(&crash, effort, check_cut, &expected, states);
    mly_bytes_deinit(&expected.files[0]);
    mly_bytes_deinit(&expected.files[1]);
    crash_env_deinit(&crash);
    return survived;
}

static void a_power_cut_leaves_no_half_index(void **state)
{
    (void)state;
    uint64_t syncs, states = 0, ignored;
    bool idle;
    assert_true(survives_power_cuts(0, &syncs, &states, &idle));
    print_message("%llu syncs, %llu states\n", (unsigned long long)syncs,
                  (unsigned long long)states);
    assert_true(states > 500);
    /* And each sync is needed for it, but for the one of the versions' folder, which is what OK
     * waits for. */
    uint64_t needed = 0;
    for (uint64_t skip = 1; skip <= syncs; skip++) {
        if (!survives_power_cuts(skip, &ignored, &states, &idle)) needed++;
    }
    print_message("%llu of %llu syncs are needed for whole versions\n", (unsigned long long)needed,
                  (unsigned long long)syncs);
    assert_true(needed + 3 >= syncs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_version_has_the_index_and_later_ones_keep_it,
                                        setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(a_table_without_any_has_none, setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(a_new_one_takes_the_place_of_its_name_only, setup_with_sums,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_was_never_named_goes_and_what_is_not_ours_stays,
                                        setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(damage_of_any_file_is_told, setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(sums_go_with_their_files, setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(a_lost_race_is_a_conflict, setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_is_refused, setup_with_sums, teardown),
        cmocka_unit_test_setup_teardown(a_section_that_cannot_be_read_is_told, setup_with_sums,
                                        teardown),
        cmocka_unit_test_setup_teardown(every_failure_is_told_and_leaves_the_old_or_the_new,
                                        setup_with_sums, teardown),
        cmocka_unit_test(a_power_cut_leaves_no_half_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
