/* Bytes on disk that are not what was written: every way of looking at the store, and a commit,
 * gives the rows that were written or an error with a message; never others, and never a crash. */
#define _GNU_SOURCE
#include "store_cases.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILES_MAX 64
#define FILE_BYTES_MAX (1 << 21)
#define DOCUMENTS 5

struct kept_file {
    char path[512];
    size_t bytes;
    uint8_t *data;
};

static struct kept_file files[FILES_MAX];
static size_t file_count;
static char folder[TEMP_DIR_BYTES];
static struct mly_mem kept_mem;

static void keep_files(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        char child[512];
        struct stat info;
        if (entry->d_name[0] == '.') continue;
        assert_true(snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) <
                    (int)sizeof(child));
        assert_int_equal(stat(child, &info), 0);
        if (S_ISDIR(info.st_mode)) {
            keep_files(child);
            continue;
        }
        assert_true(file_count < FILES_MAX && info.st_size <= FILE_BYTES_MAX);
        struct kept_file *file = &files[file_count++];
        memcpy(file->path, child, sizeof(child));
        file->bytes = (size_t)info.st_size;
        file->data = mly_mem_alloc(&kept_mem, file->bytes + 1);
        FILE *stream = fopen(child, "rb");
        assert_non_null(stream);
        assert_int_equal(fread(file->data, 1, file->bytes, stream), file->bytes);
        fclose(stream);
    }
    closedir(dir);
}

/* A new file in the place of the old one: what is mapped must not change. */
static void write_file(const struct kept_file *file, size_t bytes)
{
    (void)unlink(file->path);
    FILE *stream = fopen(file->path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(file->data, 1, bytes, stream), bytes);
    fclose(stream);
}

static void restore_all(void)
{
    temp_dir_remove(folder);
    for (size_t i = 0; i < file_count; i++) {
        char parent[512];
        struct mly_error err = {0};
        memcpy(parent, files[i].path, sizeof(parent));
        *strrchr(parent, '/') = '\0';
        case_ok(mly_dir_make_all(mly_env_system(), parent, &err), &err);
        write_file(&files[i], files[i].bytes);
    }
}

static void make_store(void)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = case_options();
    temp_dir_make(folder);
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    for (uint32_t i = 0; i < DOCUMENTS; i++)
        case_ok(case_put(store, i, i, &err), &err);
    case_ok(case_remove(store, 3, &err), &err);
    struct case_document two[2]; /* one fragment of two documents, one of them replaced below */
    struct mly_change changes[2];
    for (uint32_t i = 0; i < 2; i++) {
        case_make(&two[i], 1 + i, 8, 0);
        changes[i] = case_change(&two[i]);
    }
    case_ok(case_commit(store, changes, 2, &err), &err);
    case_ok(case_put(store, 1, 5, &err), &err);
    (void)mly_store_close(store, NULL);
    keep_files(folder);
}

static void mix(uint64_t *sum, struct mly_str text)
{
    *sum = *sum * 31 + (text.data == NULL ? 7 : mly_hash_quick(text));
}

static enum mly_err see(void *context, const struct mly_document *document, struct mly_error *err)
{
    (void)err;
    uint64_t one = (uint64_t)document->byte_count;
    uint64_t *sum = context;
    mix(&one, document->id);
    mix(&one, document->path);
    mix(&one, document->title);
    mix(&one, document->metadata);
    mix(&one, document->status);
    *sum += one; /* they come in no order */
    return MLY_OK;
}

static void see_chunk(uint64_t *sum, const struct mly_chunk_row *row)
{
    uint64_t one = (uint64_t)row->ordinal * 3 + (uint64_t)row->byte_start;
    mix(&one, mly_str_of(row->id));
    mix(&one, row->document_id);
    mix(&one, row->content);
    mix(&one, row->metadata);
    if (row->vector != NULL) {
        mix(&one, (struct mly_str){(const char *)(const void *)row->vector,
                                   CASE_DIM * sizeof(row->vector[0])});
    }
    *sum += one;
}

/* Finds document i by every way. */
static enum mly_err find_document(const struct mly_snapshot *snapshot, uint32_t i,
                                  struct mly_arena *arena, uint64_t *sum, struct mly_error *err)
{
    struct mly_document document;
    struct mly_chunk_row *rows;
    size_t count;
    bool found;
    char text[32];
    snprintf(text, sizeof(text), "document-%u", i);
    struct mly_str id = mly_str_of(text);
    MLY_TRY(mly_snapshot_find_document(snapshot, id, arena, &document, &found, err));
    if (found) MLY_TRY(see(sum, &document, err));
    *sum += found;
    MLY_TRY(mly_snapshot_find_path(snapshot, MLY_STR("/folder/file 1.txt"), arena, &document,
                                   &found, err));
    *sum += found;
    MLY_TRY(mly_snapshot_document_chunks(snapshot, id, arena, &rows, &count, err));
    for (size_t row_i = 0; row_i < count; row_i++)
        see_chunk(sum, &rows[row_i]);
    return MLY_OK;
}

/* Reads every row in every way; *sum is the same for the same content. */
static enum mly_err read_snapshot(const struct mly_snapshot *snapshot, struct mly_arena *arena,
                                  uint64_t *sum, struct mly_error *err)
{
    enum mly_err worst = mly_snapshot_each_document(snapshot, see, sum, err);
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        enum mly_err rc = find_document(snapshot, i, arena, sum, err);
        if (rc != MLY_OK) worst = rc;
    }
    for (size_t block_i = 0; block_i < mly_snapshot_block_count(snapshot); block_i++) {
        struct mly_vector_block block;
        enum mly_err rc = mly_snapshot_get_block(snapshot, block_i, &block, err);
        if (rc != MLY_OK) return rc;
        for (size_t i = 0; i < block.row_count; i++) {
            struct mly_chunk_row row;
            if (block.dead != NULL && (block.dead[i / 8] >> (i % 8) & 1) != 0) continue;
            rc = mly_snapshot_read_chunk(snapshot, block.first_address + i, arena, &row, err);
            if (rc != MLY_OK) worst = rc;
            if (rc != MLY_OK) continue;
            row.vector = block.values + i * block.dim;
            see_chunk(sum, &row);
        }
    }
    return worst;
}

static enum mly_err look(bool write, struct mly_mem *mem, uint64_t *sum, struct mly_error *err)
{
    struct mly_env env = *mly_env_system();
    struct mly_store *store = NULL;
    struct mly_snapshot *snapshot = NULL;
    struct mly_arena arena;
    struct mly_store_options options = case_options();
    env.mem = mem;
    mly_arena_init(&arena, mem, (size_t)1 << 28);
    enum mly_err rc = mly_store_open(&env, folder, &options, &store, err);
    if (rc == MLY_OK && write) rc = case_put(store, 1, 7, err);
    if (rc == MLY_OK && write) rc = case_remove(store, 2, err);
    if (rc == MLY_OK) rc = mly_store_pin(store, &snapshot, err);
    if (rc == MLY_OK) rc = read_snapshot(snapshot, &arena, sum, err);
    mly_snapshot_release(snapshot);
    (void)mly_store_close(store, NULL);
    mly_arena_deinit(&arena);
    return rc;
}

static uint64_t right_sum; /* of what was written; 0: not known yet */

/* Was anything wrong noticed? What was not is the rows that were written. */
static bool look_and_check(bool write)
{
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_error err = {0};
    uint64_t sum = 0;
    enum mly_err rc = look(write, &mem, &sum, &err);
    assert_int_equal(mem.live, 0);
    if (rc == MLY_OK) {
        if (right_sum == 0) right_sum = sum;
        if (!write) assert_int_equal(sum, right_sum);
        return false;
    }
    assert_true(err.message[0] != '\0');
    assert_int_not_equal(rc, MLY_ERR_INTERNAL);
    assert_int_not_equal(rc, MLY_ERR_NOMEM);
    return true;
}

static bool is_table_file(const struct kept_file *file)
{
    return strstr(file->path, ".lance/") != NULL && strstr(file->path, "_transactions") == NULL;
}

static void damaged_bytes_are_errors_and_never_other_rows(void **state)
{
    (void)state;
    size_t step = getenv("MEMALLOY_TEST_LONG") != NULL ? 1 : 11;
    uint64_t random = (uint64_t)time(NULL) * 2 + 1;
    size_t looks = 0;
    size_t noticed = 0;
    printf("# seed %llu\n", (unsigned long long)random);
    make_store();
    assert_false(look_and_check(false));
    for (size_t i = 0; i < file_count; i++) {
        struct kept_file *file = &files[i];
        if (!is_table_file(file)) continue;
        for (size_t at = case_random(&random) % step; at < file->bytes; at += step) {
            uint8_t bit = (uint8_t)(1u << case_random(&random) % 8);
            bool write = case_random(&random) % 16 == 0;
            file->data[at] ^= bit;
            write_file(file, file->bytes);
            noticed += look_and_check(write);
            looks++;
            file->data[at] ^= bit;
            if (write) {
                restore_all();
            } else {
                write_file(file, file->bytes);
            }
        }
    }
    printf("# %zu bits flipped, %zu noticed\n", looks, noticed);
    assert_true(noticed > 0);
}

static void truncated_files_are_errors(void **state)
{
    (void)state;
    size_t step = getenv("MEMALLOY_TEST_LONG") != NULL ? 1 : 37;
    restore_all();
    assert_false(look_and_check(false));
    for (size_t i = 0; i < file_count; i++) {
        struct kept_file *file = &files[i];
        if (!is_table_file(file)) continue;
        for (size_t bytes = 0; bytes < file->bytes; bytes += step) {
            write_file(file, bytes);
            (void)look_and_check(false);
            write_file(file, file->bytes);
        }
    }
    assert_false(look_and_check(false));
    for (size_t i = 0; i < file_count; i++)
        mly_mem_free(&kept_mem, files[i].data);
    temp_dir_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_bytes_are_errors_and_never_other_rows),
        cmocka_unit_test(truncated_files_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
