/* See store_cases.h. */
#include "store_cases.h"

#include "mly_cmocka.h"

#include <stdio.h>
#include <string.h>

uint32_t case_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

void case_ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("error %d: %s", (int)rc, err->message);
}

struct mly_store_options case_options(void)
{
    return (struct mly_store_options){
        .lock_wait_ms = 10000,
        .dim = CASE_DIM,
        .model_id = MLY_STR("test-model"),
        .model_hash = MLY_STR("00ff"),
    };
}

static void make_chunk(struct case_document *out, uint32_t number, uint32_t version, size_t i,
                       int64_t *end)
{
    struct mly_chunk_row *row = &out->rows[i];
    uint64_t state = ((uint64_t)number << 32 | version << 8 | i) * 0x9E3779B97F4A7C15u + 1;
    int bytes = snprintf(
        out->texts[i], CASE_TEXT_BYTES, "Chunk %zu of document %u, version %u. %.*s", i, number,
        version, (int)(case_random(&state) % 40), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    for (size_t d = 0; d < CASE_DIM; d++) {
        out->vectors[i][d] = (float)case_random(&state) / 4294967296.0f - 0.5f;
    }
    memset(row, 0, sizeof(*row));
    snprintf(row->id, sizeof(row->id), "%08x-0000-8000-8000-%08x%04x", number, version,
             (unsigned)i & 0xFFFFu);
    row->document_id = out->document.id;
    row->content = (struct mly_str){out->texts[i], (size_t)bytes};
    row->metadata = out->document.metadata;
    row->heading = i % 3 == 0 ? MLY_STR_NULL : MLY_STR("A > B");
    row->ordinal = (int64_t)i;
    row->byte_start = *end;
    *end += bytes;
    row->byte_end = *end;
    row->line_start = (int64_t)i + 1;
    row->line_end = (int64_t)i + 2;
    row->page_start = -1;
    row->page_end = -1;
    row->created_at_us = 1000000 + version;
    row->vector = out->vectors[i];
    memcpy(out->text + row->byte_start, out->texts[i], (size_t)bytes);
}

void case_make(struct case_document *out, uint32_t number, uint32_t version, uint32_t stamp)
{
    memset(out, 0, sizeof(*out));
    struct mly_document *document = &out->document;
    snprintf(out->id, sizeof(out->id), "document-%u", number);
    snprintf(out->path, sizeof(out->path), "/folder/file %u.txt", number);
    snprintf(out->title, sizeof(out->title), "Title %u", version);
    snprintf(out->metadata, sizeof(out->metadata), "{\"version\": %u}", version);
    document->id = mly_str_of(out->id);
    document->title = mly_str_of(out->title);
    document->metadata = mly_str_of(out->metadata);
    document->created_at_us = 5;
    document->updated_at_us = 1700000000000000 + version;
    document->byte_count = -1;
    if (number % 3 != 0) { /* the others are texts that were handed in */
        document->path = mly_str_of(out->path);
        if (number % 3 == 1) document->path_raw = MLY_STR_NULL;
        document->has_stamp = true;
        document->stamp = (struct mly_file_stamp){7, number, 1000 + version, -5 - (int64_t)stamp,
                                                  1600000000000000000 + stamp};
    }
    if (version == 0) {
        document->status = MLY_STR("skipped");
        snprintf(out->reason, sizeof(out->reason), "reason %u", number);
        document->reason = mly_str_of(out->reason);
        document->chunk_count = 0;
        return;
    }
    out->row_count = 1 + (number * 7 + version * 5) % CASE_CHUNKS_MAX;
    int64_t end = 0;
    for (size_t i = 0; i < out->row_count; i++)
        make_chunk(out, number, version, i, &end);
    document->status = MLY_STR("ok");
    document->content_hash = mly_hash_bytes(mly_str_of(out->text));
    document->has_content_hash = true;
    document->chunk_count = (int64_t)out->row_count;
    if (!document->has_stamp) document->byte_count = end;
}

void case_set_metadata(struct case_document *document, uint32_t metadata)
{
    static char big[700000];
    struct mly_str text;
    if (metadata == CASE_METADATA_BIG) {
        if (big[0] == '\0') {
            memset(big, 'b', sizeof(big));
            memcpy(big, "\"", 1);
            memcpy(big + sizeof(big) - 1, "\"", 1);
        }
        text = (struct mly_str){big, sizeof(big)};
    } else {
        snprintf(document->metadata, sizeof(document->metadata), "{\"set\": %u}", metadata);
        text = mly_str_of(document->metadata);
        document->document.updated_at_us = 1800000000000000 + metadata;
    }
    document->document.metadata = text;
    for (size_t i = 0; i < document->row_count; i++)
        document->rows[i].metadata = text;
}

void case_make_entry(struct case_document *out, uint32_t number, const struct case_entry *entry)
{
    case_make(out, number, entry->version, entry->stamp);
    if (entry->metadata != 0) case_set_metadata(out, entry->metadata);
}

struct mly_change case_change(const struct case_document *document)
{
    return (struct mly_change){
        .kind = document->row_count > 0 ? MLY_CHANGE_PUT : MLY_CHANGE_TOUCH,
        .document = document->document,
        .rows = document->rows,
        .row_count = document->row_count,
    };
}

/* ---- comparing ---- */

static void check_text(struct mly_str found, struct mly_str expected)
{
    if (expected.data == NULL) {
        assert_null(found.data);
        return;
    }
    assert_non_null(found.data);
    assert_int_equal(found.bytes, expected.bytes);
    assert_memory_equal(found.data, expected.data, expected.bytes);
}

static void check_document(const struct mly_document *found, const struct case_document *made,
                           bool mended)
{
    const struct mly_document *expected = &made->document;
    check_text(found->id, expected->id);
    check_text(found->path, expected->path);
    check_text(found->path_raw, expected->path_raw);
    check_text(found->metadata, expected->metadata);
    if (mended) {
        assert_false(found->has_stamp);
        assert_int_equal(found->byte_count, strlen(made->text));
        assert_memory_equal(&found->content_hash, &expected->content_hash, MLY_HASH_BYTES);
        assert_int_equal(found->chunk_count, expected->chunk_count);
        return;
    }
    check_text(found->title, expected->title);
    check_text(found->status, expected->status);
    check_text(found->reason, expected->reason);
    assert_int_equal(found->has_stamp, expected->has_stamp);
    if (expected->has_stamp) {
        assert_memory_equal(&found->stamp, &expected->stamp, sizeof(found->stamp));
        assert_int_equal(found->byte_count, expected->stamp.byte_count);
    } else {
        assert_int_equal(found->byte_count, expected->byte_count);
    }
    assert_int_equal(found->has_content_hash, expected->has_content_hash);
    if (expected->has_content_hash) {
        assert_memory_equal(&found->content_hash, &expected->content_hash,
                            sizeof(found->content_hash));
    }
    assert_int_equal(found->chunk_count, expected->chunk_count);
    assert_int_equal(found->created_at_us, expected->created_at_us);
    assert_int_equal(found->updated_at_us, expected->updated_at_us);
}

static void check_chunk(const struct mly_chunk_row *found, const struct mly_chunk_row *expected)
{
    assert_string_equal(found->id, expected->id);
    check_text(found->document_id, expected->document_id);
    check_text(found->content, expected->content);
    check_text(found->metadata, expected->metadata);
    check_text(found->heading, expected->heading);
    assert_int_equal(found->ordinal, expected->ordinal);
    assert_int_equal(found->byte_start, expected->byte_start);
    assert_int_equal(found->byte_end, expected->byte_end);
    assert_int_equal(found->line_start, expected->line_start);
    assert_int_equal(found->line_end, expected->line_end);
    assert_int_equal(found->page_start, expected->page_start);
    assert_int_equal(found->page_end, expected->page_end);
    assert_int_equal(found->created_at_us, expected->created_at_us);
    assert_non_null(found->vector);
    assert_memory_equal(found->vector, expected->vector, CASE_DIM * sizeof(float));
}

struct listing {
    const struct case_entry *entries;
    size_t entry_count;
    uint8_t *seen;
};

static enum mly_err see_document(void *context, const struct mly_document *document,
                                 struct mly_error *err)
{
    (void)err;
    struct listing *listing = context;
    char id[32];
    unsigned number;
    assert_true(document->id.bytes < sizeof(id));
    memcpy(id, document->id.data, document->id.bytes);
    id[document->id.bytes] = '\0';
    assert_int_equal(sscanf(id, "document-%u", &number), 1);
    assert_true(number < listing->entry_count && listing->entries[number].there);
    assert_false(listing->seen[number]);
    listing->seen[number] = 1;
    const struct case_entry *entry = &listing->entries[number];
    struct case_document expected;
    case_make_entry(&expected, number, entry);
    check_document(document, &expected, entry->mended);
    return MLY_OK;
}

static void check_one(const struct mly_snapshot *snapshot, struct mly_arena *arena,
                      const struct case_entry *entry, uint32_t number)
{
    struct mly_error err = {0};
    struct case_document expected;
    struct mly_document document;
    struct mly_chunk_row *rows;
    size_t count;
    bool found;
    case_make_entry(&expected, number, entry);
    case_ok(
        mly_snapshot_find_document(snapshot, expected.document.id, arena, &document, &found, &err),
        &err);
    assert_int_equal(found, entry->there);
    if (found) check_document(&document, &expected, entry->mended);
    if (expected.document.path.data != NULL) {
        case_ok(mly_snapshot_find_path(snapshot, expected.document.path, arena, &document, &found,
                                       &err),
                &err);
        assert_int_equal(found, entry->there);
        if (found) check_text(document.id, expected.document.id);
    }
    case_ok(
        mly_snapshot_document_chunks(snapshot, expected.document.id, arena, &rows, &count, &err),
        &err);
    assert_int_equal(count, entry->there ? expected.row_count : 0);
    for (size_t i = 0; i < count; i++)
        check_chunk(&rows[i], &expected.rows[i]);
}

/* Every live row of the blocks is a chunk that should be there, and there are as many. */
static void check_blocks(const struct mly_snapshot *snapshot, struct mly_arena *arena,
                         const struct case_entry *entries, size_t entry_count, uint64_t expected)
{
    struct mly_error err = {0};
    uint64_t live = 0;
    for (size_t block_i = 0; block_i < mly_snapshot_block_count(snapshot); block_i++) {
        struct mly_vector_block block;
        case_ok(mly_snapshot_get_block(snapshot, block_i, &block, &err), &err);
        assert_int_equal(block.dim, CASE_DIM);
        for (size_t i = 0; i < block.row_count; i++) {
            struct mly_chunk_row row;
            uint64_t address = block.first_address + i;
            if (block.dead != NULL && (block.dead[i / 8] >> (i % 8) & 1) != 0) {
                assert_int_equal(mly_snapshot_read_chunk(snapshot, address, arena, &row, &err),
                                 MLY_ERR_INVAL);
                continue;
            }
            case_ok(mly_snapshot_read_chunk(snapshot, address, arena, &row, &err), &err);
            assert_ptr_equal(row.vector, block.values + i * CASE_DIM);
            unsigned number;
            unsigned version;
            assert_int_equal(sscanf(row.id, "%8x-0000-8000-8000-%8x", &number, &version), 2);
            assert_true(number < entry_count && entries[number].there);
            assert_int_equal(entries[number].version, version);
            live++;
        }
        mly_arena_reset(arena);
    }
    assert_int_equal(live, expected);
}

void case_check_snapshot(const struct mly_snapshot *snapshot, struct mly_mem *mem,
                         const struct case_entry *entries, size_t entry_count)
{
    struct mly_error err = {0};
    struct mly_arena arena;
    mly_arena_init(&arena, mem, (size_t)1 << 30);
    struct mly_store_counts counts;
    struct mly_store_counts expected = {0};
    mly_snapshot_get_counts(snapshot, &counts);
    for (size_t i = 0; i < entry_count; i++) {
        check_one(snapshot, &arena, &entries[i], (uint32_t)i);
        mly_arena_reset(&arena);
        if (!entries[i].there) continue;
        struct case_document document;
        case_make(&document, (uint32_t)i, entries[i].version, 0);
        expected.documents += entries[i].version != 0;
        expected.skipped += entries[i].version == 0;
        expected.chunks += document.row_count;
    }
    assert_int_equal(counts.documents, expected.documents);
    assert_int_equal(counts.skipped, expected.skipped);
    assert_int_equal(counts.chunks, expected.chunks);
    struct listing listing = {entries, entry_count, mly_mem_array(mem, entry_count + 1, 1)};
    assert_non_null(listing.seen);
    case_ok(mly_snapshot_each_document(snapshot, see_document, &listing, &err), &err);
    for (size_t i = 0; i < entry_count; i++)
        assert_int_equal(listing.seen[i], entries[i].there);
    mly_mem_free(mem, listing.seen);
    check_blocks(snapshot, &arena, entries, entry_count, expected.chunks);
    mly_arena_deinit(&arena);
}

void case_check(struct mly_store *store, const struct case_entry *entries, size_t entry_count)
{
    struct mly_error err = {0};
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_snapshot *snapshot = NULL;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    case_check_snapshot(snapshot, &mem, entries, entry_count);
    mly_snapshot_release(snapshot);
    assert_int_equal(mem.live, 0);
}

/* Which of two entries the store has for a document; the row tells by its content. */
static void learn_one(const struct mly_snapshot *snapshot, struct mly_arena *arena,
                      struct case_entry *entry, const struct case_entry *wanted, uint32_t number)
{
    struct mly_error err = {0};
    static struct case_document before;
    static struct case_document after;
    struct mly_document found;
    bool there;
    case_make_entry(&before, number, entry);
    case_make_entry(&after, number, wanted);
    case_ok(mly_snapshot_find_document(snapshot, before.document.id, arena, &found, &there, &err),
            &err);
    if (!there) {
        assert_true(!entry->there || !wanted->there);
        if (entry->there) *entry = *wanted;
        return;
    }
    assert_true(entry->there || wanted->there);
    bool is_after = wanted->there && mly_str_equal(found.metadata, after.document.metadata) &&
                    (!entry->there || entry->version != wanted->version ||
                     found.stamp.changed_ns == after.document.stamp.changed_ns);
    if (!is_after) {
        assert_true(entry->there);
        return;
    }
    *entry = *wanted;
    entry->mended = found.updated_at_us != after.document.updated_at_us;
}

void case_learn(struct mly_store *store, struct case_entry *entries,
                const struct case_entry *wanted, size_t entry_count)
{
    struct mly_error err = {0};
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    struct mly_snapshot *snapshot = NULL;
    mly_arena_init(&arena, &mem, (size_t)1 << 30);
    case_ok(mly_store_begin(store, &err), &err);
    (void)mly_store_end(store, NULL);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    for (size_t i = 0; i < entry_count; i++) {
        learn_one(snapshot, &arena, &entries[i], &wanted[i], (uint32_t)i);
    }
    case_check_snapshot(snapshot, &mem, entries, entry_count);
    mly_snapshot_release(snapshot);
    mly_arena_deinit(&arena);
    assert_int_equal(mem.live, 0);
}

/* ---- changing ---- */

enum mly_err case_commit(struct mly_store *store, const struct mly_change *changes, size_t count,
                         struct mly_error *err)
{
    enum mly_err rc = mly_store_begin(store, err);
    if (rc != MLY_OK) return rc;
    rc = mly_store_commit(store, changes, count, MLY_DURABILITY_DEFAULT, err);
    enum mly_err end = mly_store_end(store, rc == MLY_OK ? err : NULL);
    return rc == MLY_OK ? end : rc;
}

enum mly_err case_put(struct mly_store *store, uint32_t number, uint32_t version,
                      struct mly_error *err)
{
    struct case_document document;
    case_make(&document, number, version, 0);
    struct mly_change change = case_change(&document);
    return case_commit(store, &change, 1, err);
}

enum mly_err case_remove(struct mly_store *store, uint32_t number, struct mly_error *err)
{
    struct case_document document;
    case_make(&document, number, 1, 0);
    struct mly_change change = {.kind = MLY_CHANGE_REMOVE, .document = document.document};
    return case_commit(store, &change, 1, err);
}
