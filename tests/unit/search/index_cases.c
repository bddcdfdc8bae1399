#include "index_cases.h"

#include "base/limits.h"
#include "mly_cmocka.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define QUERIES 4
/* Beyond what any effort reaches short of looking at all that an index has. */
#define RECALL 0.9999F

void index_ok(enum mly_err rc, const struct mly_error *err)
{
    if (rc != MLY_OK) fail_msg("error %d: %s", (int)rc, err->message);
}

enum mly_err index_open(const struct mly_env *env, const char *path, bool read_only,
                        struct mly_store **out, struct mly_error *err)
{
    const struct mly_store_options options = {
        .read_only = read_only,
        .lock_wait_ms = 10000,
        .durability = MLY_DURABILITY_OFF,
        .dim = INDEX_DIM,
        .model_id = MLY_STR("test-model"),
        .model_hash = MLY_STR("00ff"),
        .kern = mly_kern_pick("scalar"),
        .index_rows_min = INDEX_ROWS_MIN,
        .index_file_rows_min = INDEX_FILE_ROWS_MIN,
    };
    return mly_store_open(env, path, &options, out, err);
}

static uint64_t next(uint64_t *state)
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Of unit length, around one of some centres. */
static void make_vector(uint64_t seed, float *out)
{
    uint64_t centre = next(&seed) % 6 + 500;
    double square = 0;
    for (size_t i = 0; i < INDEX_DIM; i++) {
        double at = (double)(next(&centre) % 2001) / 1000 - 1;
        double beside = (double)(next(&seed) % 2001) / 1000 - 1;
        out[i] = (float)(at + 0.6 * beside);
        square += (double)out[i] * (double)out[i];
    }
    for (size_t i = 0; i < INDEX_DIM; i++)
        out[i] = (float)((double)out[i] / sqrt(square));
}

struct document {
    char id[24], content[24];
    struct mly_chunk_row rows[INDEX_ROWS_EACH];
    float vectors[INDEX_ROWS_EACH][INDEX_DIM];
};

static struct mly_change make_change(struct document *out, uint32_t number, uint32_t version)
{
    memset(out, 0, sizeof(*out));
    snprintf(out->id, sizeof(out->id), "d%u", number);
    snprintf(out->content, sizeof(out->content), "text %u", version);
    for (uint32_t i = 0; i < INDEX_ROWS_EACH; i++) {
        struct mly_chunk_row *row = &out->rows[i];
        snprintf(row->id, sizeof(row->id), "%08x-0000-8000-8000-%06x%06x", number, version, i);
        row->document_id = mly_str_of(out->id);
        row->content = mly_str_of(out->content);
        row->ordinal = i;
        row->byte_start = row->byte_end = row->line_start = row->line_end = -1;
        row->page_start = row->page_end = -1;
        make_vector(number * 100003u + version * 1009u + i, out->vectors[i]);
        row->vector = out->vectors[i];
    }
    struct mly_change change = {.kind = MLY_CHANGE_PUT};
    change.document.id = mly_str_of(out->id);
    change.document.status = MLY_STR("ok");
    change.document.chunk_count = INDEX_ROWS_EACH;
    change.rows = out->rows;
    change.row_count = INDEX_ROWS_EACH;
    change.dim = INDEX_DIM;
    return change;
}

static enum mly_err commit(struct mly_store *store, const struct mly_change *changes, size_t count,
                           struct mly_error *err)
{
    enum mly_err rc = mly_store_begin(store, err);
    if (rc != MLY_OK) return rc;
    rc = mly_store_commit(store, changes, count, MLY_DURABILITY_DEFAULT, err);
    enum mly_err end = mly_store_end(store, rc == MLY_OK ? err : NULL);
    return rc == MLY_OK ? end : rc;
}

enum mly_err index_put(struct mly_store *store, uint32_t first, uint32_t count, uint32_t version,
                       struct mly_error *err)
{
    static struct document documents[INDEX_DOCUMENTS];
    struct mly_change changes[INDEX_DOCUMENTS];
    assert_true(count <= INDEX_DOCUMENTS);
    for (uint32_t i = 0; i < count; i++)
        changes[i] = make_change(&documents[i], first + i, version);
    return commit(store, changes, count, err);
}

enum mly_err index_remove(struct mly_store *store, uint32_t first, uint32_t count,
                          struct mly_error *err)
{
    static struct document documents[INDEX_DOCUMENTS];
    struct mly_change changes[INDEX_DOCUMENTS];
    assert_true(count <= INDEX_DOCUMENTS);
    for (uint32_t i = 0; i < count; i++) {
        changes[i] = make_change(&documents[i], first + i, 0);
        changes[i].kind = MLY_CHANGE_REMOVE;
        changes[i].rows = NULL;
        changes[i].row_count = 0;
        changes[i].dim = 0;
    }
    return commit(store, changes, count, err);
}

enum mly_err index_make(struct mly_store *store, struct mly_error *err)
{
    bool made;
    return mly_store_make_index(store, NULL, NULL, NULL, &made, err);
}

/* ---- looking ---- */

static void compare(const struct mly_match *got, size_t count, const struct mly_match *truth,
                    size_t truth_count, size_t query_i)
{
    if (count != truth_count) fail_msg("query %zu: %zu rows of %zu", query_i, count, truth_count);
    for (size_t i = 0; i < count; i++) {
        if (got[i].row_address != truth[i].row_address ||
            memcmp(&got[i].score, &truth[i].score, sizeof(float)) != 0) {
            fail_msg("query %zu: place %zu has row %llx with %.9g, not %llx with %.9g", query_i, i,
                     (unsigned long long)got[i].row_address, (double)got[i].score,
                     (unsigned long long)truth[i].row_address, (double)truth[i].score);
        }
    }
}

struct look {
    struct mly_searcher *searcher;
    struct mly_snapshot *snapshot;
    struct mly_mem *mem;
    const struct mly_kern *kern;
    float queries[QUERIES][INDEX_DIM];
    struct mly_match *truths[QUERIES];
    size_t counts[QUERIES];
};

static enum mly_err look_once(struct look *look, size_t i, struct index_seen *seen,
                              struct mly_error *err)
{
    const struct mly_search_ask ask = {
        .query = look->queries[i], .dim = INDEX_DIM, .k = INDEX_K, .recall = RECALL};
    struct mly_search_stats stats;
    struct mly_match *got = NULL;
    size_t count = 0;
    enum mly_err rc = mly_search_exact(look->snapshot, look->kern, look->mem, look->queries[i],
                                       INDEX_DIM, INDEX_K, &look->truths[i], &look->counts[i], err);
    if (rc != MLY_OK) return rc;
    rc = mly_search_nearest(look->searcher, look->snapshot, look->kern, &ask, &got, &count, &stats,
                            err);
    if (rc != MLY_OK) return rc;
    compare(got, count, look->truths[i], look->counts[i], i);
    mly_mem_free(look->mem, got);
    seen->was_damaged = seen->was_damaged || stats.index_was_damaged;
    seen->indexed = seen->rows > stats.scanned_rows ? seen->rows - stats.scanned_rows : 0;
    return MLY_OK;
}

static enum mly_err look_at_all(struct look *look, struct mly_error *err)
{
    const struct mly_search_ask ask = {.dim = INDEX_DIM, .k = INDEX_K, .recall = RECALL};
    struct mly_match *got[QUERIES];
    size_t counts[QUERIES];
    MLY_TRY(mly_search_many(look->searcher, NULL, look->snapshot, look->kern, &ask,
                            look->queries[0], QUERIES, got, counts, NULL, err));
    for (size_t i = 0; i < QUERIES; i++) {
        compare(got[i], counts[i], look->truths[i], look->counts[i], i);
        mly_mem_free(look->mem, got[i]);
    }
    return MLY_OK;
}

enum mly_err index_look(const struct mly_env *env, struct mly_store *store, struct index_seen *seen,
                        struct mly_error *err)
{
    struct look look = {.kern = mly_kern_pick("scalar")};
    struct index_seen own;
    struct mly_store_counts counts = {0};
    if (seen == NULL) seen = &own;
    *seen = (struct index_seen){0};
    for (size_t i = 0; i < QUERIES; i++)
        make_vector(77000 + i * 31, look.queries[i]);
    MLY_TRY(mly_store_pin(store, &look.snapshot, err));
    mly_snapshot_get_counts(look.snapshot, &counts);
    seen->rows = counts.chunks;
    look.mem = env->mem;
    enum mly_err rc = mly_searcher_create(env, &look.searcher, err);
    for (size_t i = 0; rc == MLY_OK && i < QUERIES; i++)
        rc = look_once(&look, i, seen, err);
    if (rc == MLY_OK) rc = look_at_all(&look, err);
    for (size_t i = 0; i < QUERIES; i++)
        mly_mem_free(look.mem, look.truths[i]);
    mly_searcher_destroy(look.searcher);
    mly_snapshot_release(look.snapshot);
    return rc;
}

/* ---- what lies about ---- */

static bool ends_with(const char *name, const char *suffix)
{
    size_t bytes = strlen(name), tail = strlen(suffix);
    return bytes > tail && strcmp(name + bytes - tail, suffix) == 0;
}

/* Counts files with these ends in a folder of the index; any other fails the test. */
static void count_files(const struct mly_env *env, const char *path, const char *below,
                        const char *const suffixes[2], size_t counts[2])
{
    struct mly_error err = {0};
    struct mly_dir dir;
    char folder[MLY_PATH_BYTES_MAX];
    const char *name;
    snprintf(folder, sizeof(folder), "%s/_memalloy/index/%s", path, below);
    counts[0] = counts[1] = 0;
    bool exists;
    index_ok(mly_file_exists(env, MLY_AT_CWD, folder, &exists, &err), &err);
    if (!exists) return;
    index_ok(mly_dir_open(env, MLY_AT_CWD, folder, &dir, &err), &err);
    while (mly_dir_next(&dir, &name, &err) == MLY_OK && name != NULL) {
        size_t i = 0;
        if (name[0] == '.') continue;
        while (i < 2 && !ends_with(name, suffixes[i]))
            i++;
        if (i == 2) fail_msg("%s/%s is left", below, name);
        counts[i]++;
    }
    mly_dir_close(&dir);
}

void index_check(const struct mly_env *env, struct mly_store *store, const char *path,
                 struct index_seen *seen)
{
    static const char *const segments[2] = {".vec", ".vec.recall"}, *const records[2] = {".q8",
                                                                                         "/"};
    struct mly_error err = {0};
    struct index_seen after;
    struct mly_store_index_state state;
    size_t counts[2];
    index_ok(index_look(env, store, seen, &err), &err);
    index_ok(mly_store_check_index(store, &err), &err);
    bool made;
    index_ok(mly_store_make_index(store, NULL, NULL, NULL, &made, &err), &err);
    index_ok(index_look(env, store, &after, &err), &err);
    assert_false(after.was_damaged);
    index_ok(mly_store_get_index_state(store, &state, &err), &err);
    assert_false(state.is_due);
    const bool is_large = state.rows + state.pending >= INDEX_ROWS_MIN;
    assert_int_equal(state.segments, is_large ? 1 : 0);
    if (is_large) assert_true(state.rows > 0 && after.indexed > 0 && state.is_measured);
    if (!made) return;
    count_files(env, path, "vectors", segments, counts);
    assert_int_equal(counts[0], state.segments);
    assert_true(counts[1] <= counts[0]);
    count_files(env, path, "records", records, counts);
    assert_true(is_large ? counts[0] > 0 : counts[0] == 0);
}
