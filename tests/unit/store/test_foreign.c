/* Tables that somebody else made, or said odd things in: what has our columns is read and taken
 * over, null or not; what cannot be read is refused with its name, and nothing is guessed. */
#define _GNU_SOURCE
#include "store_place.h"

#include "store/store_state_int.h"

#include "base/limits.h"

#include <stdio.h>
#include <string.h>

#define ROWS 3

static struct mly_arena arena;

static int set_up_arena(void **state)
{
    mly_arena_init(&arena, mly_env_system()->mem, (size_t)1 << 26);
    return set_up(state);
}

static int tear_down_arena(void **state)
{
    mly_arena_deinit(&arena);
    return tear_down(state);
}

static struct mly_store *open_dim(uint32_t dim)
{
    struct mly_store *store = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000, .dim = dim};
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    return store;
}

static enum mly_err try_open(struct mly_store_options options)
{
    struct mly_store *store = NULL;
    err = (struct mly_error){0};
    enum mly_err rc = mly_store_open(mly_env_system(), folder, &options, &store, &err);
    if (rc == MLY_OK) case_ok(mly_store_close(store, &err), &err);
    return rc;
}

static struct mly_lance_table *open_table(const char *name)
{
    char path[TEMP_DIR_BYTES + 32];
    struct mly_lance_table *table;
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    case_ok(mly_lance_table_open(mly_env_system(), path, &table, &err), &err);
    return table;
}

/* Of so many rows one has null wherever it may; all have where odd_row is SIZE_MAX. */
static size_t odd_each = 1000000;
static size_t odd_row = 1;

/* Texts are the name of their column. */
static void put_rows(struct mly_lance_writer *writer, const struct mly_lance_field *fields,
                     size_t field_count, size_t row_count)
{
    const bool all_odd = odd_row == SIZE_MAX;
    static const float vector[CASE_DIM] = {0.5f, -1};
    for (size_t row = 0; row < row_count; row++) {
        for (size_t i = 0; i < field_count; i++) {
            enum mly_err rc;
            if ((all_odd || row % odd_each == odd_row) && fields[i].nullable) {
                rc = mly_lance_put_null(writer, i, &err);
            } else if (fields[i].type == MLY_LANCE_VECTOR) {
                rc = mly_lance_put_vector(writer, i, vector, &err);
            } else if (fields[i].type == MLY_LANCE_INT64) {
                rc = mly_lance_put_int64(writer, i, (int64_t)row, &err);
            } else {
                rc = mly_lance_put_string(writer, i, fields[i].name, &err);
            }
            case_ok(rc, &err);
        }
    }
}

static void make_table(const char *name, const struct mly_lance_field *fields, size_t field_count,
                       size_t row_count, const struct mly_lance_pair *config, size_t config_count)
{
    struct mly_lance_table *table = open_table(name);
    struct mly_lance_writer *writer;
    struct mly_lance_data_file file;
    case_ok(mly_lance_table_make(table, &err), &err);
    case_ok(mly_lance_writer_open(table, fields, field_count, &writer, &err), &err);
    put_rows(writer, fields, field_count, row_count);
    case_ok(mly_lance_writer_finish(writer, &file, &err), &err);
    mly_lance_writer_close(writer);
    struct mly_lance_change change = {.files = &file,
                                      .file_count = 1,
                                      .fields = fields,
                                      .field_count = field_count,
                                      .config = config,
                                      .config_count = config_count};
    case_ok(mly_lance_commit(table, NULL, &change, NULL, NULL, &err), &err);
    mly_lance_data_file_deinit(&file);
    mly_lance_table_close(table);
}

/* Another program's version of a table that is there: it says something of its own. */
static void say(const char *name, struct mly_str key, const char *value)
{
    struct mly_lance_table *table = open_table(name);
    struct mly_lance_manifest *base = NULL;
    const struct mly_lance_pair pair = {key, mly_str_of(value)};
    const struct mly_lance_change change = {.config = &pair, .config_count = 1};
    case_ok(mly_lance_manifest_load(table, &base, &err), &err);
    case_ok(mly_lance_commit(table, base, &change, NULL, NULL, &err), &err);
    mly_lance_manifest_destroy(base);
    mly_lance_table_close(table);
}

/* ---- rows ---- */

static const struct mly_lance_field chunk_fields[] = {
    {{"content", 7}, MLY_LANCE_STRING, 0, true, 0},
    {{"document_id", 11}, MLY_LANCE_STRING, 0, false, 1},
    {{"vector", 6}, MLY_LANCE_VECTOR, CASE_DIM, true, 2},
    {{"id", 2}, MLY_LANCE_STRING, 0, true, 3},
    {{"metadata", 8}, MLY_LANCE_STRING, 0, true, 4},
    {{"theirs", 6}, MLY_LANCE_STRING, 0, true, 5},
};
#define CHUNK_FIELDS (sizeof(chunk_fields) / sizeof(chunk_fields[0]))

static void check_counts(struct mly_store *store, uint64_t documents, uint64_t chunks)
{
    struct mly_snapshot *snapshot;
    struct mly_store_counts counts;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    mly_snapshot_get_counts(snapshot, &counts);
    assert_int_equal(counts.chunks, chunks);
    assert_int_equal(counts.documents, documents);
    assert_int_equal(counts.dim, CASE_DIM);
    mly_snapshot_release(snapshot);
}

/* The rows of theirs: one has no vector and no id. revised: their new metadata. */
static void check_theirs(struct mly_store *store, const char *revised)
{
    struct mly_snapshot *snapshot;
    struct mly_chunk_row *rows;
    size_t count, without = 0, dead = 0;
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    case_ok(
        mly_snapshot_document_chunks(snapshot, MLY_STR("document_id"), &arena, &rows, &count, &err),
        &err);
    assert_int_equal(count, ROWS);
    for (size_t i = 0; i < count; i++) {
        without += rows[i].vector == NULL;
        assert_true((rows[i].vector == NULL) == (rows[i].content.data == NULL));
        assert_true((rows[i].vector == NULL) == (rows[i].id[0] == '\0'));
        assert_int_equal(rows[i].ordinal, -1);
        struct mly_str metadata = rows[i].vector == NULL ? MLY_STR_NULL : MLY_STR("metadata");
        if (revised != NULL) metadata = mly_str_of(revised);
        assert_true(mly_str_equal(rows[i].metadata, metadata));
        if (rows[i].vector != NULL) assert_true(rows[i].vector[0] == 0.5f);
    }
    assert_int_equal(without, 1);
    for (size_t i = 0; i < mly_snapshot_block_count(snapshot); i++) {
        struct mly_vector_block block;
        case_ok(mly_snapshot_get_block(snapshot, i, &block, &err), &err);
        for (size_t row = 0; block.dead != NULL && row < block.row_count; row++)
            dead += block.dead[row / 8] >> row % 8 & 1;
    }
    assert_true(dead >= 1); /* whoever scans passes it over */
    mly_snapshot_release(snapshot);
}

static void change_metadata(struct mly_store *store, const char *id, const char *metadata)
{
    struct mly_change change = {
        .kind = MLY_CHANGE_METADATA,
        .document = {.id = mly_str_of(id), .metadata = mly_str_of(metadata)}};
    case_ok(case_commit(store, &change, 1, &err), &err);
}

static void a_foreign_chunks_table_is_read_and_taken_over(void **state)
{
    (void)state;
    make_table("chunks.lance", chunk_fields, CHUNK_FIELDS, ROWS, NULL, 0);
    struct mly_store *store = open_dim(0);
    struct mly_snapshot *snapshot;
    struct mly_vector_block block;
    struct mly_chunk_row row, *rows;
    size_t count;
    check_counts(store, 0, ROWS);
    check_theirs(store, NULL);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    assert_int_equal(mly_snapshot_block_count(snapshot), 1);
    case_ok(mly_snapshot_get_block(snapshot, 0, &block, &err), &err);
    assert_int_equal(block.dead[0] & 7, 2); /* the row without a vector */
    case_ok(mly_snapshot_read_chunk(snapshot, block.first_address + 2, &arena, &row, &err), &err);
    assert_true(mly_str_equal(row.content, MLY_STR("content")));
    assert_string_equal(row.id, "id");
    mly_snapshot_release(snapshot);

    /* Our rows go beside theirs; columns that the table lacks are left out. */
    struct case_document document;
    case_make(&document, 0, 4, 0);
    struct mly_change change = case_change(&document);
    case_ok(case_commit(store, &change, 1, &err), &err);
    case_ok(case_commit(store, &change, 1, &err), &err);
    (void)mly_store_close(store, NULL);
    store = open_dim(CASE_DIM);
    case_ok(mly_store_begin(store, &err), &err);
    (void)mly_store_end(store, NULL);
    check_counts(store, 1, ROWS + document.row_count);
    case_ok(mly_store_pin(store, &snapshot, &err), &err);
    case_ok(
        mly_snapshot_document_chunks(snapshot, MLY_STR("document-0"), &arena, &rows, &count, &err),
        &err);
    assert_int_equal(count, document.row_count);
    assert_memory_equal(rows[0].vector, document.vectors[0], sizeof(document.vectors[0]));
    mly_snapshot_release(snapshot);
    (void)mly_store_close(store, NULL);
}

/* Rows of theirs are written anew where their document gets other metadata, those without a vector
 * too. */
static void rows_without_vectors_go_through_log_and_tables(void **state)
{
    (void)state;
    make_table("chunks.lance", chunk_fields, CHUNK_FIELDS - 1, ROWS, NULL, 0);
    struct mly_store *store = open_dim(0);
    change_metadata(store, "document_id", "{\"a\":1}");
    check_theirs(store, "{\"a\":1}");
    change_metadata(store, "document_id", "{\"a\":2}"); /* of rows that are in the log alone */
    check_theirs(store, "{\"a\":2}");
    case_ok(mly_store_close(store, &err), &err);
    store = open_dim(0);
    check_counts(store, 0, ROWS);
    check_theirs(store, "{\"a\":2}");
    case_ok(case_remove(store, 7, &err), &err); /* nobody has that */
    case_ok(mly_store_checkpoint(store, &err), &err);
    check_counts(store, 0, ROWS);
    case_ok(mly_store_close(store, &err), &err);
}

/* What they demand in each row we cannot give. */
static void a_column_of_theirs_that_must_not_be_null_is_told(void **state)
{
    (void)state;
    struct mly_lance_field fields[CHUNK_FIELDS];
    memcpy(fields, chunk_fields, sizeof(fields));
    fields[CHUNK_FIELDS - 1].nullable = false;
    make_table("chunks.lance", fields, CHUNK_FIELDS, ROWS, NULL, 0);
    struct mly_store *store = open_dim(0);
    check_counts(store, 0, ROWS);
    struct case_document document;
    case_make(&document, 0, 4, 0);
    struct mly_change change = case_change(&document);
    assert_int_equal(case_commit(store, &change, 1, &err), MLY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "theirs"));
    check_counts(store, 0, ROWS);
    case_ok(mly_store_close(store, &err), &err);
}

static void columns_of_another_type_are_none(void **state)
{
    (void)state;
    struct mly_lance_field fields[CHUNK_FIELDS];
    memcpy(fields, chunk_fields, sizeof(fields));
    fields[4].type = MLY_LANCE_INT64; /* metadata: we can do without */
    make_table("chunks.lance", fields, CHUNK_FIELDS, ROWS, NULL, 0);
    struct mly_store *store = open_dim(0);
    check_counts(store, 0, ROWS);
    case_ok(mly_store_close(store, &err), &err);
    static const size_t needed[] = {0, 2, 3};
    static const char *const messages[] = {
        "\"content\" of strings", "\"vector\" of fixed-size lists of float32", "\"id\" of strings"};
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        tear_down(state);
        set_up(state);
        memcpy(fields, chunk_fields, sizeof(fields));
        fields[needed[i]].type = MLY_LANCE_INT64;
        fields[needed[i]].dim = 0;
        make_table("chunks.lance", fields, CHUNK_FIELDS, ROWS, NULL, 0);
        assert_int_equal(try_open(case_options()), MLY_ERR_UNSUPPORTED);
        assert_non_null(strstr(err.message, messages[i]));
    }
}

static enum mly_err see_document(void *context, const struct mly_document *document,
                                 struct mly_error *why)
{
    uint64_t *count = context;
    (void)why;
    assert_true(mly_str_equal(document->id, MLY_STR("id")));
    assert_false(document->has_stamp);
    assert_null(document->path.data);
    (*count)++;
    return MLY_OK;
}

/* Of so many rows that their keys are kept in files; without the columns that these are of. */
static void a_foreign_documents_table_needs_ids_alone(void **state)
{
    (void)state;
    static const struct mly_lance_field fields[] = {{{"id", 2}, MLY_LANCE_STRING, 0, false, 0},
                                                    {{"title", 5}, MLY_LANCE_STRING, 0, true, 1},
                                                    {{"status", 6}, MLY_LANCE_STRING, 0, true, 2}};
    for (size_t field_count = 2; field_count <= 3; field_count++) {
        enum { MANY = 5000 };
        make_table("documents.lance", fields, field_count, MANY, NULL, 0);
        struct mly_store *store = open_dim(CASE_DIM);
        struct mly_snapshot *snapshot;
        struct mly_document document;
        uint64_t count = 0;
        bool found;
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        case_ok(mly_snapshot_each_document(snapshot, see_document, &count, &err), &err);
        assert_int_equal(count, MANY);
        mly_snapshot_release(snapshot);
        case_ok(case_put(store, 1, 3, &err), &err);
        case_ok(case_put(store, 2, 0, &err), &err); /* skipped; the table may not say so */
        case_ok(mly_store_checkpoint(store, &err), &err);
        case_ok(mly_store_close(store, &err), &err);
        store = open_dim(CASE_DIM);
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        struct mly_str ids[] = {MLY_STR("id"), MLY_STR("document-1"), MLY_STR("document-2"),
                                MLY_STR("document-3")};
        for (size_t i = 0; i < 4; i++) {
            case_ok(mly_snapshot_find_document(snapshot, ids[i], &arena, &document, &found, &err),
                    &err);
            if (found != (i < 3)) fail_msg("%zu: %d", i, (int)found);
        }
        case_ok(mly_snapshot_find_path(snapshot, MLY_STR("/folder/file 1.txt"), &arena, &document,
                                       &found, &err),
                &err);
        assert_false(found); /* there is no column for it */
        mly_snapshot_release(snapshot);
        case_ok(mly_store_close(store, &err), &err);
        tear_down(state);
        set_up(state);
    }
}

/* ---- vectors ---- */

/* The index of a table leaves out what has no vector, and rows that are dead; of nothing there is
 * none. */
static void rows_without_vectors_are_in_no_index(void **state)
{
    (void)state;
    struct mly_store_options options = {
        .lock_wait_ms = 1000, .kern = mly_kern_pick("scalar"), .index_rows_min = UINT32_MAX};
    for (int all = 0; all < 2; all++) {
        struct mly_store *store = NULL;
        struct mly_store_lance_index lance;
        bool made;
        odd_each = all == 0 ? 3 : 1000000;
        odd_row = all == 0 ? 1 : SIZE_MAX;
        make_table("chunks.lance", chunk_fields, CHUNK_FIELDS, 900, NULL, 0);
        odd_each = 1000000;
        odd_row = 1;
        case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
        if (all == 0) {
            case_ok(case_put(store, 1, 8, &err), &err);
            case_ok(mly_store_checkpoint(store, &err), &err);
            case_ok(case_put(store, 1, 2, &err), &err);
            case_ok(mly_store_checkpoint(store, &err), &err);
        }
        case_ok(mly_store_make_lance_index(store, NULL, false, NULL, NULL, &made, &err), &err);
        assert_int_equal(made, all == 0);
        case_ok(mly_store_get_lance_index(store, &lance, &err), &err);
        assert_int_equal(lance.is_there, all == 0);
        if (all == 1) {
            struct mly_snapshot *snapshot;
            case_ok(mly_store_pin(store, &snapshot, &err), &err);
            assert_int_equal(mly_snapshot_block_count(snapshot), 0);
            mly_snapshot_release(snapshot);
        }
        case_ok(mly_store_close(store, &err), &err);
        tear_down(state);
        set_up(state);
    }
}

/* So wide that a slab of the tail has few of them. */
static void wide_vectors_come_back_from_the_log(void **state)
{
    (void)state;
    static const uint32_t dims[] = {4000, 40000};
    static float vectors[40 * 40000];
    for (size_t d = 0; d < 2; d++) {
        struct mly_chunk_row rows[40], *found;
        struct mly_snapshot *snapshot;
        size_t count;
        memset(rows, 0, sizeof(rows));
        for (size_t i = 0; i < 40; i++) {
            rows[i].document_id = MLY_STR("wide");
            rows[i].content = MLY_STR("c");
            rows[i].ordinal = (int64_t)i;
            rows[i].vector = vectors + i * dims[d];
            vectors[i * dims[d]] = (float)(i + 1);
        }
        struct mly_change change = {.kind = MLY_CHANGE_PUT, .rows = rows, .dim = dims[d]};
        change.document = (struct mly_document){.id = MLY_STR("wide"), .status = MLY_STR("ok")};
        struct mly_store *store = open_dim(dims[d]);
        for (size_t part = 0; part < 2; part++) { /* each too small for a load */
            change.document.id = part == 0 ? MLY_STR("wide") : MLY_STR("wide too");
            change.row_count = d == 0 ? 40 : 20;
            for (size_t i = 0; i < 40; i++)
                rows[i].document_id = change.document.id;
            case_ok(case_commit(store, &change, 1, &err), &err);
        }
        case_ok(mly_store_pin(store, &snapshot, &err), &err);
        case_ok(mly_snapshot_document_chunks(snapshot, MLY_STR("wide too"), &arena, &found, &count,
                                             &err),
                &err);
        assert_int_equal(count, change.row_count);
        for (size_t i = 0; i < count; i++)
            assert_true(found[i].vector[0] == (float)(i + 1));
        mly_snapshot_release(snapshot);
        case_ok(mly_store_close(store, &err), &err);
        tear_down(state);
        set_up(state);
    }
}

/* ---- words ---- */

static void make_ours(uint32_t documents)
{
    struct mly_store *store = open_dim(CASE_DIM);
    for (uint32_t number = 1; number <= documents; number++)
        case_ok(case_put(store, number, 2, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
}

static void what_a_table_says_of_itself_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum mly_err code;
        const char *message;
    } formats[] = {
        {"x", MLY_ERR_CORRUPT, "\"x\" is not a number"},
        {"", MLY_ERR_CORRUPT, "\"\" is not a number"},
        {"1 ", MLY_ERR_CORRUPT, "\"1 \" is not a number"},
        {"1234567890", MLY_ERR_CORRUPT, "is not a number"},
        {"a format of more than forty bytes is not shown as a whole", MLY_ERR_CORRUPT,
         "\"a format of more than forty bytes is not\""},
        {"99", MLY_ERR_UNSUPPORTED, "made by a newer memalloy"},
    };
    make_ours(2);
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        say("chunks.lance", MLY_KEY_FORMAT, formats[i].value);
        assert_int_equal(try_open(case_options()), formats[i].code);
        if (strstr(err.message, formats[i].message) == NULL) fail_msg("%s", err.message);
    }
    say("chunks.lance", MLY_KEY_FORMAT, "1");
    case_ok(try_open(case_options()), &err);
    say("chunks.lance", MLY_KEY_METRIC, "a distance of more letters than a message shows");
    assert_int_equal(try_open(case_options()), MLY_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "\"a distance of more letters than a messag\" is not"));
    say("chunks.lance", MLY_KEY_METRIC, "cosine");
    case_ok(try_open(case_options()), &err);
}

/* Numbers of the log and of the table that say nothing: what is there stays there, and new rows go
 * beside it. */
static void numbers_that_are_none_change_nothing(void **state)
{
    (void)state;
    static const char *const numbers[] = {"12x", "-1", "", "99999999999999999999999", "0"};
    static const char *const uuids[] = {"zz", "", "0123456789abcdef0123456789abcdef0123456789",
                                        "----"};
    struct case_entry entries[12];
    memset(entries, 0, sizeof(entries));
    make_ours(2);
    entries[1] = entries[2] = case_entry(true, 2, 0);
    for (uint32_t i = 0; i < 9; i++) {
        bool of_lsn = i < 5;
        say(i % 2 == 0 ? "chunks.lance" : "documents.lance", of_lsn ? MLY_KEY_LSN : MLY_KEY_TABLE,
            of_lsn ? numbers[i] : uuids[i - 5]);
        struct mly_store *store = open_dim(CASE_DIM);
        case_check(store, entries, 12);
        case_ok(case_put(store, 3 + i, 3, &err), &err);
        entries[3 + i] = case_entry(true, 3, 0);
        case_check(store, entries, 12);
        case_ok(mly_store_close(store, &err), &err);
        store = open_dim(CASE_DIM);
        case_check(store, entries, 12);
        case_ok(mly_store_close(store, &err), &err);
    }
}

static void the_models_that_differ_are_named(void **state)
{
    (void)state;
    static char long_id[200];
    memset(long_id, 'm', sizeof(long_id) - 1);
    struct mly_store *store = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000, .dim = CASE_DIM};
    options.model_hash = MLY_STR("0123456789abcdef");
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    case_ok(case_put(store, 1, 2, &err), &err);
    assert_int_equal(mly_store_set_model(store, MLY_STR_NULL, mly_str_of(long_id), 0, &err),
                     MLY_ERR_MISMATCH);
    assert_true(strlen(err.message) < 400);
    assert_int_equal(
        mly_store_set_model(store, MLY_STR_NULL, MLY_STR_NULL, (uint32_t)MLY_DIM_MAX + 1, &err),
        MLY_ERR_LIMIT);
    case_ok(mly_store_close(store, &err), &err);
    options.model_hash = MLY_STR("another");
    assert_int_equal(try_open(options), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "model  (hash 0123456789ab), not  (hash another)"));
    options.model_hash = MLY_STR_NULL;
    case_ok(try_open(options), &err);
    options.dim = CASE_DIM + 1;
    assert_int_equal(try_open(options), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "vectors of 6 numbers, not 7"));
    tear_down(state);
    set_up(state);
    options = (struct mly_store_options){.dim = CASE_DIM, .model_id = mly_str_of(long_id)};
    case_ok(mly_store_open(mly_env_system(), folder, &options, &store, &err), &err);
    const struct mly_store_model model = {.quantisation = mly_str_of(long_id),
                                          .pooling = MLY_STR("mean")};
    case_ok(mly_store_describe_model(store, &model, &err), &err);
    case_ok(mly_store_describe_model(store, &model, &err), &err);
    case_ok(case_put(store, 1, 2, &err), &err);
    case_ok(mly_store_close(store, &err), &err);
    options.model_id = MLY_STR("b");
    assert_int_equal(try_open(options), MLY_ERR_MISMATCH);
    assert_non_null(strstr(err.message, "mmmm mmmmmmmmmmmmmmmmmmmm (hash ), not b (hash )"));
}

int main(void)
{
#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, set_up_arena, tear_down_arena)
    const struct CMUnitTest tests[] = {
        WITH_ARENA(a_foreign_chunks_table_is_read_and_taken_over),
        WITH_ARENA(rows_without_vectors_go_through_log_and_tables),
        WITH_ARENA(a_column_of_theirs_that_must_not_be_null_is_told),
        WITH_ARENA(columns_of_another_type_are_none),
        WITH_ARENA(a_foreign_documents_table_needs_ids_alone),
        WITH_ARENA(rows_without_vectors_are_in_no_index),
        WITH_ARENA(wide_vectors_come_back_from_the_log),
        WITH_ARENA(what_a_table_says_of_itself_is_checked),
        WITH_ARENA(numbers_that_are_none_change_nothing),
        WITH_ARENA(the_models_that_differ_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
