/* A table of so many rows that every column has blocks of sums of its own: damage to any of them is
 * met by whoever reads that column, in every way of reading, and by nobody before. */
#define _GNU_SOURCE
#include "store_place.h"

#include "test_pace.h"

#include <stdio.h>
#include <string.h>

#define MANY 12000u
#define BLOCK_BYTES 65536

static char ids[MANY][16], paths[MANY][24];
static float vectors[MANY][CASE_DIM];

/* Every column has a value in each row. */
static void make_many(void)
{
    static struct mly_change changes[MANY];
    static struct mly_chunk_row rows[MANY];
    struct mly_store *store = open_store(mly_env_system());
    for (uint32_t i = 0; i < MANY; i++) {
        struct mly_document *document = &changes[i].document;
        snprintf(ids[i], sizeof(ids[i]), "d%u", i);
        snprintf(paths[i], sizeof(paths[i]), "/folder/%u", i);
        *document = (struct mly_document){
            .id = mly_str_of(ids[i]),
            .path = mly_str_of(paths[i]),
            .path_raw = i % 2 == 0 ? mly_str_of(paths[i]) : MLY_STR_NULL,
            .title = mly_str_of(paths[i]),
            .metadata = MLY_STR("{\"a\":1}"),
            .has_content_hash = true,
            .status = i % 5 == 0 ? MLY_STR("skipped") : MLY_STR("ok"),
            .reason = mly_str_of(ids[i]),
            .has_stamp = true,
            .byte_count = i,
            .chunk_count = 1,
            .created_at_us = i,
            .updated_at_us = i + 1,
        };
        document->stamp.device = document->stamp.inode = i;
        document->stamp.modified_ns = document->stamp.changed_ns = i;
        document->stamp.byte_count = i;
        rows[i] = (struct mly_chunk_row){
            .document_id = document->id,
            .content = document->title,
            .metadata = document->metadata,
            .heading = document->id,
            .byte_end = i,
            .line_end = i,
            .page_end = i,
            .created_at_us = i,
            .vector = vectors[i],
        };
        vectors[i][i % CASE_DIM] = 1;
        snprintf(rows[i].id, sizeof(rows[i].id), "%08x-0000-8000-8000-000000000000", i);
        changes[i].kind = MLY_CHANGE_PUT;
        changes[i].dim = CASE_DIM;
        changes[i].rows = &rows[i];
        changes[i].row_count = 1;
    }
    case_ok(case_commit(store, changes, MANY, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
}

struct seen {
    uint64_t rows, unopened, unlisted, unfound, unread;
};

static enum mly_err see_document(void *context, const struct mly_document *document,
                                 struct mly_error *why)
{
    uint64_t *row = context;
    (void)why;
    const uint32_t i = (uint32_t)strtoul(document->id.data + 1, NULL, 10);
    assert_true(i < MANY && mly_str_equal(document->title, mly_str_of(paths[i])));
    assert_true(document->byte_count == i && document->stamp.inode == i);
    assert_true(document->updated_at_us == i + 1);
    (*row)++;
    return MLY_OK;
}

static bool is_told(enum mly_err rc)
{
    if (rc == MLY_OK) return false;
    if (rc != MLY_ERR_CORRUPT) fail_msg("error %d: %s", (int)rc, err.message);
    assert_true(err.message[0] != '\0');
    return true;
}

static bool read_chunks(const struct mly_snapshot *snapshot, struct mly_arena *arena)
{
    for (size_t i = 0; i < mly_snapshot_block_count(snapshot); i++) {
        struct mly_vector_block block;
        if (is_told(mly_snapshot_get_block(snapshot, i, &block, &err))) return false;
        for (size_t row = 0; row < block.row_count; row++) {
            struct mly_chunk_row chunk;
            if (is_told(mly_snapshot_read_chunk(snapshot, block.first_address + row, arena, &chunk,
                                                &err))) {
                return false;
            }
            const uint32_t number = (uint32_t)strtoul(chunk.id, NULL, 16);
            assert_true(number < MANY && chunk.page_end == number && chunk.line_end == number);
            assert_true(mly_str_equal(chunk.heading, mly_str_of(ids[number])));
            assert_true(chunk.vector[number % CASE_DIM] == 1);
        }
    }
    return true;
}

/* Reads all of it in every way, until something is told. */
static void read_all(const struct mly_snapshot *snapshot, struct seen *seen)
{
    struct mly_arena arena;
    bool found_all = true;
    mly_arena_init(&arena, mly_env_system()->mem, (size_t)1 << 26);
    seen->unlisted +=
        is_told(mly_snapshot_each_document(snapshot, see_document, &seen->rows, &err));
    for (uint32_t i = 0; found_all && i < MANY; i += 37) {
        struct mly_document document;
        struct mly_chunk_row *rows;
        size_t count;
        bool found;
        found_all = !is_told(mly_snapshot_find_path(snapshot, mly_str_of(paths[i]), &arena,
                                                    &document, &found, &err));
        if (found_all) assert_true(found && mly_str_equal(document.id, mly_str_of(ids[i])));
        found_all = found_all && !is_told(mly_snapshot_document_chunks(
                                     snapshot, mly_str_of(ids[i]), &arena, &rows, &count, &err));
        if (found_all) assert_int_equal(count, 1);
    }
    seen->unfound += !found_all;
    seen->unread += !read_chunks(snapshot, &arena);
    mly_arena_deinit(&arena);
}

static void damage_to_any_column_is_met_by_its_readers(void **state)
{
    (void)state;
    static const char *const tables[] = {"documents.lance", "chunks.lance"};
    char keys[TEMP_DIR_BYTES + 64];
    make_many();
    snprintf(keys, sizeof(keys), "%s/_memalloy/index", folder);
    for (size_t table_i = 0; table_i < 2; table_i++) {
        char file[TEMP_DIR_BYTES + 400];
        struct seen seen = {0};
        uint64_t flips = 0;
        const long bytes = find_data(tables[table_i], file, sizeof(file));
        assert_true(bytes > 10L * BLOCK_BYTES);
        for (long at = BLOCK_BYTES / 2; at < bytes; at += TEST_PACE(1, 3, 5) * BLOCK_BYTES) {
            struct mly_store *store = NULL;
            struct mly_snapshot *snapshot = NULL;
            struct mly_store_options options = case_options();
            options.read_only = true;
            temp_dir_remove(keys); /* found by what the tables say */
            flip(file, at);
            flips++;
            if (is_told(mly_store_open(mly_env_system(), folder, &options, &store, &err))) {
                seen.unopened++;
            } else if (is_told(mly_store_pin(store, &snapshot, &err))) {
                seen.unopened++;
            } else {
                read_all(snapshot, &seen);
            }
            mly_snapshot_release(snapshot);
            (void)mly_store_close(store, NULL);
            flip(file, at);
        }
        print_message("%s: %llu changes: %llu not opened, %llu not listed, %llu not found, %llu "
                      "not read\n",
                      tables[table_i], (unsigned long long)flips, (unsigned long long)seen.unopened,
                      (unsigned long long)seen.unlisted, (unsigned long long)seen.unfound,
                      (unsigned long long)seen.unread);
        assert_true(seen.unopened + (table_i == 0 ? seen.unlisted : seen.unread) >= flips / 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_DISK(damage_to_any_column_is_met_by_its_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
