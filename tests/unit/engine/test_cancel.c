/* Who watches a call can end it: searches between blocks of a scan, writes while they wait for
 * another who writes. Nothing of it is kept. */
#include "mly_cmocka.h"

#include "os/env.h"
#include "temp_dir.h"

#include <memalloy.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIM = 64, ROWS = 60000, QUERIES = 400 };

static char dir[TEMP_DIR_BYTES], store[TEMP_DIR_BYTES + 8];
static memalloy_kernel *kernel;
static float *vectors;

static float number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(*seed >> 8) / (float)(1u << 24) - 0.5f;
}

static int open_store(void **state)
{
    (void)state;
    const struct memalloy_options options = {.struct_bytes = sizeof(options),
                                             .flags = MEMALLOY_OPEN_NO_MODEL,
                                             .dim = DIM,
                                             .threads = 2,
                                             .lock_wait_ms = 20000,
                                             .durability = MEMALLOY_DURABILITY_OFF,
                                             .recall = 1};
    struct memalloy_str *texts = calloc(ROWS, sizeof(texts[0]));
    uint32_t seed = 1;
    temp_dir_make(dir);
    (void)snprintf(store, sizeof(store), "%s/kb", dir);
    vectors = calloc((size_t)ROWS * DIM, sizeof(float));
    if (texts == NULL || vectors == NULL) return -1;
    for (size_t i = 0; i < (size_t)ROWS * DIM; i++)
        vectors[i] = number(&seed);
    for (size_t i = 0; i < ROWS; i++)
        texts[i] = (struct memalloy_str){"x", 1};
    int rc = memalloy_open(&kernel, store, &options, NULL);
    if (rc == MEMALLOY_OK) {
        rc = memalloy_add_vectors(kernel, texts, vectors, ROWS, DIM, NULL, NULL, NULL);
    }
    free(texts);
    return rc;
}

static int close_store(void **state)
{
    (void)state;
    free(vectors);
    int rc = memalloy_close(kernel, NULL);
    temp_dir_remove(dir);
    return rc;
}

/* Asked so often, and then it says no. */
struct patience {
    int left, asked;
};

static int lose_patience(void *context, const struct memalloy_progress *progress)
{
    struct patience *patience = context;
    assert_non_null(progress);
    patience->asked++;
    return patience->left-- <= 0;
}

static void a_search_ends_when_who_watches_says_so(void **state)
{
    (void)state;
    struct patience patience = {.left = 1};
    const struct memalloy_search_options options = {
        .struct_bytes = sizeof(options), .progress = lose_patience, .progress_context = &patience};
    struct memalloy_error err = {0};
    memalloy_hits *many[QUERIES] = {NULL};
    assert_int_equal(memalloy_search_vectors(kernel, vectors, QUERIES, DIM, &options, many, &err),
                     MEMALLOY_ERR_CANCELLED);
    assert_int_equal(patience.asked, 2);
    assert_int_equal(strncmp(err.message, "cancelled", 9), 0);
    for (int i = 0; i < QUERIES; i++)
        assert_null(many[i]);
}

static void a_search_that_is_watched_finds_the_same(void **state)
{
    (void)state;
    enum { FEW = 50 };
    struct patience patience = {.left = 1 << 20};
    struct memalloy_search_explain watched_explain = {.struct_bytes = sizeof(watched_explain)};
    struct memalloy_search_explain explain = {.struct_bytes = sizeof(explain)};
    const struct memalloy_search_options plain = {.struct_bytes = sizeof(plain),
                                                  .explain = &explain};
    const struct memalloy_search_options watched = {.struct_bytes = sizeof(watched),
                                                    .explain = &watched_explain,
                                                    .progress = lose_patience,
                                                    .progress_context = &patience};
    memalloy_hits *a[FEW], *b[FEW];
    assert_int_equal(memalloy_search_vectors(kernel, vectors, FEW, DIM, &plain, a, NULL), 0);
    assert_int_equal(memalloy_search_vectors(kernel, vectors, FEW, DIM, &watched, b, NULL), 0);
    assert_int_equal(explain.scanned_rows, watched_explain.scanned_rows);
    assert_int_equal(explain.scanned_rows, (uint64_t)FEW * ROWS);
    for (int i = 0; i < FEW; i++) {
        assert_int_equal(memalloy_hits_count(a[i]), memalloy_hits_count(b[i]));
        for (size_t j = 0; j < memalloy_hits_count(a[i]); j++) {
            struct memalloy_hit x = {.struct_bytes = sizeof(x)}, y = {.struct_bytes = sizeof(y)};
            memalloy_hits_get(a[i], j, &x);
            memalloy_hits_get(b[i], j, &y);
            assert_string_equal(x.chunk_id.data, y.chunk_id.data);
        }
        memalloy_hits_destroy(a[i]);
        memalloy_hits_destroy(b[i]);
    }
}

static void writes_that_wait_for_another_process_end(void **state)
{
    (void)state;
    const struct memalloy_str text = {"y", 1}, id = {"doc", 3}, metadata = {"{\"a\":1}", 7};
    const struct memalloy_add_options named = {.struct_bytes = sizeof(named), .document_id = id};
    struct patience patience = {.left = 1};
    const struct memalloy_write_options write = {
        .struct_bytes = sizeof(write), .progress = lose_patience, .progress_context = &patience};
    const struct memalloy_add_options add = {
        .struct_bytes = sizeof(add), .progress = lose_patience, .progress_context = &patience};
    uint64_t before, after;
    int removed = 7;
    assert_int_equal(memalloy_add_vectors(kernel, &text, vectors, 1, DIM, &named, NULL, NULL), 0);
    assert_int_equal(memalloy_count(kernel, &before, NULL), 0);
    /* The lock belongs to a descriptor: this one is another process's as far as the store knows. */
    char path[TEMP_DIR_BYTES + 32];
    (void)snprintf(path, sizeof(path), "%s/_memalloy/lock", store);
    const struct mly_env *env = mly_env_system();
    int fd = env->open(env->context, MLY_AT_CWD, path, MLY_OPEN_WRITE);
    assert_true(fd >= 0);
    assert_int_equal(env->lock(env->context, fd, 0), 0);
    assert_int_equal(memalloy_update_metadata(kernel, id, metadata, &write, NULL),
                     MEMALLOY_ERR_CANCELLED);
    assert_int_equal(patience.asked, 2);
    patience = (struct patience){.left = 1};
    assert_int_equal(memalloy_remove_document(kernel, id, &write, &removed, NULL),
                     MEMALLOY_ERR_CANCELLED);
    assert_int_equal(removed, 7);
    patience = (struct patience){.left = 1};
    assert_int_equal(memalloy_add_vectors(kernel, &text, vectors, 1, DIM, &add, NULL, NULL),
                     MEMALLOY_ERR_CANCELLED);
    assert_int_equal(env->unlock(env->context, fd, 0), 0);
    (void)env->close(env->context, fd);
    assert_int_equal(memalloy_count(kernel, &after, NULL), 0);
    assert_int_equal(before, after);
    assert_int_equal(memalloy_remove_document(kernel, id, NULL, &removed, NULL), 0);
    assert_int_equal(removed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_ends_when_who_watches_says_so),
        cmocka_unit_test(a_search_that_is_watched_finds_the_same),
        cmocka_unit_test(writes_that_wait_for_another_process_end),
    };
    return cmocka_run_group_tests(tests, open_store, close_store);
}
