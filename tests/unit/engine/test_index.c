/* A store that is large enough for the vector index, through <memalloy.h>: what is found with it is
 * what is found without, whatever happened to rows, files and memory meanwhile. */
#define _GNU_SOURCE
#include "mly_cmocka.h"

#include "engine/engine.h"
#include "fault_env.h"
#include "temp_dir.h"
#include "test_pace.h"

#include <memalloy.h>

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIM 24
#define ROWS 24000
#define BATCH 12000
#define K 10
/* An index needs so many rows: less is done with it under sanitizers. */
#define QUERIES TEST_PACE(40, 16, 8)
#define FAULT_STEP(at) TEST_PACE(1 + (at) / 12, 4 + (at) / 3, 8 + (at))

static char dir[TEMP_DIR_BYTES];
static char store_path[TEMP_DIR_BYTES + 16];
static char copy_path[TEMP_DIR_BYTES + 16];
static float *vectors;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Around 200 centres, as texts are. */
static void fill(float *out, size_t count, uint64_t seed)
{
    uint64_t random = seed * 2 + 1;
    for (size_t row = 0; row < count; row++) {
        uint64_t centre = (next_random(&random) % 200) * 2 + 1;
        for (size_t i = 0; i < DIM; i++) {
            double at = (double)(next_random(&centre) % 2001) / 1000 - 1;
            double beside = (double)(next_random(&random) % 2001) / 1000 - 1;
            out[row * DIM + i] = (float)(at + 0.5 * beside);
        }
    }
}

static int open_in(const struct mly_env *env, const char *path, memalloy_kernel **out,
                   struct mly_error *err)
{
    struct memalloy_options options = {.struct_bytes = sizeof(options),
                                       .flags = MEMALLOY_OPEN_NO_MODEL,
                                       .dim = DIM,
                                       .durability = MEMALLOY_DURABILITY_OFF};
    return (int)mly_engine_open(env, path, &options, out, err);
}

static memalloy_kernel *open_store(const char *path)
{
    memalloy_kernel *kernel = NULL;
    struct mly_error err = {0};
    if (open_in(mly_env_system(), path, &kernel, &err) != 0) fail_msg("%s", err.message);
    return kernel;
}

static void ok(int code, const struct memalloy_error *err)
{
    if (code != MEMALLOY_OK) fail_msg("error %d: %s", code, err->message);
}

/* Rows first .. first + count, each a document "r<number>". */
static void add_rows(memalloy_kernel *kernel, size_t first, size_t count, const float *from)
{
    struct memalloy_error err = {0};
    struct memalloy_str *contents = calloc(count, sizeof(contents[0]));
    struct memalloy_add_options *options = calloc(count, sizeof(options[0]));
    char(*names)[16] = calloc(count, sizeof(names[0]));
    assert_true(contents != NULL && options != NULL && names != NULL);
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof(names[i]), "r%zu", first + i);
        contents[i] = (struct memalloy_str){names[i], strlen(names[i])};
        options[i] = (struct memalloy_add_options){.struct_bytes = sizeof(options[i]),
                                                   .document_id = contents[i]};
    }
    ok(memalloy_add_vectors(kernel, contents, from, count, DIM, options, NULL, &err), &err);
    free(contents);
    free(options);
    free(names);
}

static int set_up(void **state)
{
    (void)state;
    temp_dir_make(dir);
    snprintf(store_path, sizeof(store_path), "%s/kb", dir);
    snprintf(copy_path, sizeof(copy_path), "%s/copy", dir);
    vectors = malloc(ROWS * DIM * sizeof(float));
    assert_non_null(vectors);
    fill(vectors, ROWS, 7);
    memalloy_kernel *kernel = open_store(store_path);
    for (size_t first = 0; first < ROWS; first += BATCH)
        add_rows(kernel, first, BATCH, vectors + first * DIM);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(vectors);
    temp_dir_remove(dir);
    return 0;
}

static struct memalloy_index_status status_of(memalloy_kernel *kernel)
{
    struct memalloy_index_status status = {.struct_bytes = sizeof(status)};
    struct memalloy_error err = {0};
    ok(memalloy_get_index_status(kernel, &status, &err), &err);
    return status;
}

static memalloy_hits *search(memalloy_kernel *kernel, const float *query, double recall,
                             struct memalloy_search_explain *explain)
{
    struct memalloy_error err = {0};
    memalloy_hits *hits = NULL;
    const struct memalloy_search_options options = {
        .struct_bytes = sizeof(options), .top_k = K, .recall = recall, .explain = explain};
    ok(memalloy_search_vector(kernel, query, DIM, &options, &hits, &err), &err);
    return hits;
}

static struct memalloy_hit hit_at(const memalloy_hits *hits, size_t i)
{
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    memalloy_hits_get(hits, i, &hit);
    return hit;
}

/* The share of the true nearest that the index finds; scores must be the exact ones. */
static double recall_of(memalloy_kernel *kernel, struct memalloy_search_explain *explain)
{
    float queries[QUERIES * DIM];
    size_t found = 0;
    fill(queries, QUERIES, 99);
    for (size_t q = 0; q < QUERIES; q++) {
        memalloy_hits *exact = search(kernel, queries + q * DIM, 1, NULL);
        memalloy_hits *hits = search(kernel, queries + q * DIM, 0, explain);
        assert_int_equal(memalloy_hits_count(exact), K);
        assert_int_equal(memalloy_hits_count(hits), K);
        for (size_t i = 0; i < K; i++) {
            struct memalloy_hit hit = hit_at(hits, i);
            for (size_t j = 0; j < K; j++) {
                struct memalloy_hit truth = hit_at(exact, j);
                if (strcmp(hit.document_id.data, truth.document_id.data) != 0) continue;
                found++;
                assert_true(hit.score == truth.score);
            }
        }
        memalloy_hits_destroy(exact);
        memalloy_hits_destroy(hits);
    }
    return (double)found / (QUERIES * K);
}

/* The store's own thread may have been faster. */
static void make_index(memalloy_kernel *kernel)
{
    struct memalloy_error err = {0};
    int made = -1;
    ok(memalloy_make_index(kernel, NULL, &made, &err), &err);
    assert_true(made == 0 || made == 1);
    assert_false(status_of(kernel).is_due);
    ok(memalloy_make_index(kernel, NULL, &made, &err), &err);
    assert_int_equal(made, 0);
}

static void a_large_store_answers_through_the_index(void **state)
{
    (void)state;
    struct memalloy_search_explain explain = {.struct_bytes = sizeof(explain)};
    memalloy_kernel *kernel = open_store(store_path);
    assert_int_equal(status_of(kernel).rows, 0);
    assert_true(status_of(kernel).is_due);
    assert_int_equal(status_of(kernel).pending, ROWS);
    make_index(kernel);
    struct memalloy_index_status status = status_of(kernel);
    assert_int_equal(status.rows, ROWS);
    assert_int_equal(status.pending, 0);
    assert_false(status.is_due);
    assert_true(status.cells > 0 && status.index_bytes > 0 && status.record_bytes > 0);
    assert_true(recall_of(kernel, &explain) >= 0.95);
    assert_int_equal(explain.scanned_rows, 0);
    assert_true(explain.codes_read > 0 && explain.vectors_read >= K && explain.bytes_read > 0);
    assert_false(explain.index_was_damaged);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
}

static void the_index_is_made_while_nobody_waits(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_store(store_path);
    memalloy_hits_destroy(search(kernel, vectors, 0, NULL)); /* it looks at every row */
    for (int i = 0; i < 3000 && status_of(kernel).rows == 0; i++)
        usleep(10000);
    assert_int_equal(status_of(kernel).rows, ROWS);
    assert_true(recall_of(kernel, NULL) >= 0.95);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
}

static void closing_does_not_wait_for_the_index(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        memalloy_kernel *kernel = open_store(store_path);
        memalloy_hits_destroy(search(kernel, vectors, 0, NULL));
        usleep((useconds_t)i * 3000);
        assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    }
}

static void new_rows_are_found_at_once_and_removed_ones_never(void **state)
{
    (void)state;
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = open_store(store_path);
    memalloy_kernel *other = open_store(store_path);
    make_index(kernel);
    float fresh[DIM];
    uint64_t random = 5;
    for (size_t i = 0; i < DIM; i++)
        fresh[i] = (float)((double)(next_random(&random) % 2001) / 1000 - 1) * 3;
    add_rows(kernel, ROWS, 1, fresh);
    for (size_t i = 0; i < 2; i++) {
        memalloy_hits *hits = search(i == 0 ? kernel : other, fresh, 0, NULL);
        assert_string_equal(hit_at(hits, 0).document_id.data, "r24000");
        memalloy_hits_destroy(hits);
    }
    for (size_t row = 0; row < 60; row++) {
        char id[16];
        snprintf(id, sizeof(id), "r%zu", row);
        int removed = 0;
        struct memalloy_str name = {id, strlen(id)};
        ok(memalloy_remove_document(kernel, name, NULL, &removed, &err), &err);
        assert_int_equal(removed, 1);
        memalloy_hits *hits = search(row % 2 == 0 ? kernel : other, vectors + row * DIM, 0, NULL);
        assert_int_equal(memalloy_hits_count(hits), K);
        for (size_t i = 0; i < K; i++)
            assert_string_not_equal(hit_at(hits, i).document_id.data, id);
        memalloy_hits_destroy(hits);
    }
    assert_true(recall_of(other, NULL) >= 0.95);
    /* Rows enough for the index to take them up. */
    float *more = malloc(BATCH * DIM * sizeof(float));
    assert_non_null(more);
    fill(more, BATCH, 11);
    add_rows(kernel, ROWS + 1, BATCH, more);
    free(more);
    make_index(kernel);
    assert_true(status_of(other).rows >= ROWS + BATCH);
    assert_true(recall_of(other, NULL) >= 0.95);
    assert_true(recall_of(kernel, NULL) >= 0.95);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    assert_int_equal(memalloy_close(other, NULL), MEMALLOY_OK);
}

static void many_queries_get_what_each_would_get(void **state)
{
    (void)state;
    struct memalloy_error err = {0};
    float queries[QUERIES * DIM];
    fill(queries, QUERIES, 3);
    memalloy_kernel *kernel = open_store(store_path);
    for (int with_index = 0; with_index < 2; with_index++) {
        memalloy_hits *many[QUERIES] = {NULL};
        const struct memalloy_search_options options = {.struct_bytes = sizeof(options),
                                                        .top_k = K};
        if (with_index == 1) make_index(kernel);
        ok(memalloy_search_vectors(kernel, queries, QUERIES, DIM, &options, many, &err), &err);
        for (size_t q = 0; q < QUERIES; q++) {
            memalloy_hits *one = search(kernel, queries + q * DIM, 0, NULL);
            assert_int_equal(memalloy_hits_count(many[q]), memalloy_hits_count(one));
            for (size_t i = 0; i < K; i++) {
                assert_string_equal(hit_at(many[q], i).document_id.data,
                                    hit_at(one, i).document_id.data);
                assert_true(hit_at(many[q], i).score == hit_at(one, i).score);
            }
            memalloy_hits_destroy(one);
            memalloy_hits_destroy(many[q]);
        }
    }
    queries[3 * DIM + 1] = NAN;
    memalloy_hits *none[QUERIES] = {NULL};
    assert_int_equal(memalloy_search_vectors(kernel, queries, QUERIES, DIM, NULL, none, &err),
                     MEMALLOY_ERR_INVAL);
    assert_non_null(strstr(err.message, "vector 3"));
    for (size_t q = 0; q < QUERIES; q++)
        assert_null(none[q]);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
}

/* ---- damage ---- */

static void find_file(const char *below, const char *suffix, char *out, size_t out_bytes)
{
    char path[TEMP_DIR_BYTES + 64];
    snprintf(path, sizeof(path), "%s/_memalloy/index/%s", store_path, below);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    out[0] = '\0';
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        size_t bytes = strlen(entry->d_name), tail = strlen(suffix);
        if (bytes < tail || strcmp(entry->d_name + bytes - tail, suffix) != 0) continue;
        snprintf(out, out_bytes, "%s/%s", path, entry->d_name);
    }
    closedir(folder);
    assert_true(out[0] != '\0');
}

static void flip(const char *path, double share)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    long at = (long)((double)ftell(file) * share);
    for (long i = 0; i < 64; i++) {
        assert_int_equal(fseek(file, at + i * 97, SEEK_SET), 0);
        int byte = fgetc(file);
        if (byte == EOF) break;
        assert_int_equal(fseek(file, at + i * 97, SEEK_SET), 0);
        fputc(byte ^ 0x10, file);
    }
    fclose(file);
}

static const struct {
    const char *below, *suffix;
    double share;
} places[] = {{"vectors", ".vec", 0.0},  {"vectors", ".vec", 0.02}, {"vectors", ".vec", 0.4},
              {"vectors", ".vec", 0.97}, {"records", ".q8", 0.0},   {"records", ".q8", 0.5}};

static void a_damaged_index_changes_no_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[TEMP_DIR_BYTES + 512];
        memalloy_kernel *kernel = open_store(store_path);
        make_index(kernel);
        assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
        find_file(places[i].below, places[i].suffix, path, sizeof(path));
        flip(path, places[i].share);
        kernel = open_store(store_path);
        assert_true(recall_of(kernel, NULL) >= 0.95);
        assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
        snprintf(path, sizeof(path), "%s/_memalloy/index", store_path);
        temp_dir_remove(path);
    }
}

static void damage_is_looked_for_where_it_is_asked_for(void **state)
{
    (void)state;
    const struct memalloy_index_options check = {.struct_bytes = sizeof(check), .check = 1};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char path[TEMP_DIR_BYTES + 512];
        struct memalloy_error err = {0};
        int made = -1;
        memalloy_kernel *kernel = open_store(store_path);
        make_index(kernel);
        ok(memalloy_make_index(kernel, &check, &made, &err), &err);
        assert_int_equal(made, 0);
        assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
        find_file(places[i].below, places[i].suffix, path, sizeof(path));
        flip(path, places[i].share);
        kernel = open_store(store_path);
        ok(memalloy_make_index(kernel, &check, &made, &err), &err);
        assert_int_equal(made, 1);
        ok(memalloy_make_index(kernel, &check, &made, &err), &err);
        assert_int_equal(made, 0);
        assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    }
}

/* ---- faults ---- */

static void whatever_fails_while_it_is_made_the_store_answers(void **state)
{
    (void)state;
    const struct memalloy_index_options check = {.struct_bytes = sizeof(check), .check = 1};
    uint64_t runs = 0;
    for (int by_memory = 0; by_memory < 2; by_memory++) {
        bool fired = true;
        /* Most calls of it are alike: ever larger steps see all kinds. */
        for (uint64_t at = 1; fired; at += FAULT_STEP(at)) {
            struct fault_env fault;
            struct mly_error err = {0};
            char path[TEMP_DIR_BYTES + 64];
            memalloy_kernel *kernel = NULL;
            bool made = false;
            fault_env_init(&fault);
            fault.fail_errno = ENOSPC;
            assert_int_equal(open_in(&fault.env, store_path, &kernel, &err), MEMALLOY_OK);
            if (by_memory == 1) {
                fault.mem.fail_at = fault.mem.calls + at;
            } else {
                fault.fail_at = fault.calls + at;
            }
            enum mly_err rc = mly_engine_make_index(kernel, &check, &made, &err);
            fired = by_memory == 1 ? fault.mem.calls >= fault.mem.fail_at
                                   : fault.calls >= fault.fail_at;
            fault.mem.fail_at = 0;
            fault.fail_at = 0;
            if (rc != MLY_OK) assert_true(fired && err.message[0] != '\0');
            memalloy_hits *hits = search(kernel, vectors, 0, NULL);
            assert_string_equal(hit_at(hits, 0).document_id.data, "r0");
            memalloy_hits_destroy(hits);
            assert_int_equal(mly_engine_close(kernel, NULL), MLY_OK);
            assert_int_equal(fault.open_count, 0);
            assert_int_equal(fault.mem.live, 0);
            snprintf(path, sizeof(path), "%s/_memalloy/index", store_path);
            temp_dir_remove(path);
            runs++;
        }
    }
    print_message("ran: %llu makings, each with a fault in it\n", (unsigned long long)runs);
}

static void a_small_store_has_none_and_bad_values_are_told(void **state)
{
    (void)state;
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = open_store(copy_path);
    add_rows(kernel, 0, 5000, vectors);
    make_index(kernel);
    assert_int_equal(status_of(kernel).rows, 0);
    assert_false(status_of(kernel).is_due);
    memalloy_hits *hits = NULL;
    const struct memalloy_search_options options = {.struct_bytes = sizeof(options), .recall = 1.5};
    assert_int_equal(memalloy_search_vector(kernel, vectors, DIM, &options, &hits, &err),
                     MEMALLOY_ERR_INVAL);
    assert_non_null(strstr(err.message, "1.5"));
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
}

/* Everybody's answers are those of the same search in a store of these documents alone. */
static void documents_that_are_named_are_searched_alone(void **state)
{
    (void)state;
    memalloy_kernel *kernel = open_store(store_path);
    struct memalloy_error err = {0};
    ok(memalloy_make_index(kernel, NULL, NULL, &err), &err);
    enum { EVERY = 2, COUNT = ROWS / EVERY };
    struct memalloy_str *ids = calloc(COUNT, sizeof(ids[0]));
    char(*names)[16] = calloc(COUNT, sizeof(names[0]));
    assert_true(ids != NULL && names != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof(names[i]), "r%zu", i * EVERY);
        ids[i] = (struct memalloy_str){names[i], strlen(names[i])};
    }
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = K};
    static const size_t counts[] = {0, 1, 200, COUNT};
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        memalloy_hits *hits = NULL;
        options.document_ids = ids;
        options.document_id_count = counts[c];
        ok(memalloy_search_vector(kernel, vectors, DIM, &options, &hits, &err), &err);
        assert_int_equal(memalloy_hits_count(hits), counts[c] < K ? counts[c] : K);
        for (size_t i = 0; i < memalloy_hits_count(hits); i++) {
            size_t number = strtoul(hit_at(hits, i).document_id.data + 1, NULL, 10);
            assert_true(number % EVERY == 0 && number / EVERY < counts[c]);
            assert_true(i > 0 || number == 0); /* the vector of row 0 was asked for */
        }
        memalloy_hits_destroy(hits);
    }
    options.document_ids = NULL;
    memalloy_hits *hits = NULL;
    assert_int_equal(memalloy_search_vector(kernel, vectors, DIM, &options, &hits, &err),
                     MEMALLOY_ERR_INVAL);
    free(ids);
    free(names);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
}

/* Of queries that nobody has seen. */
static double recall_unseen(memalloy_kernel *kernel, uint64_t seed, bool is_uniform)
{
    size_t found = 0;
    float query[DIM];
    for (size_t q = 0; q < QUERIES; q++) {
        uint64_t random = seed + 1000 * q + 1;
        fill(query, 1, seed + q);
        for (size_t i = 0; is_uniform && i < DIM; i++)
            query[i] = (float)(next_random(&random) % 2001) / 1000 - 1;
        memalloy_hits *exact = search(kernel, query, 1, NULL),
                      *got = search(kernel, query, 0, NULL);
        assert_int_equal(memalloy_hits_count(got), K);
        for (size_t i = 0; i < K; i++)
            found += hit_at(got, i).score >= hit_at(exact, K - 1).score ? 1 : 0;
        memalloy_hits_destroy(exact);
        memalloy_hits_destroy(got);
    }
    return (double)found / (QUERIES * K);
}

/* Vectors without order are the worst for cells: tables made from texts do not hold for them. */
static void where_recall_is_short_searches_look_at_more(void **state)
{
    (void)state;
    struct memalloy_error err = {0};
    uint64_t random = 77;
    float *uniform = malloc(ROWS * DIM * sizeof(float));
    assert_non_null(uniform);
    for (size_t i = 0; i < (size_t)ROWS * DIM; i++)
        uniform[i] = (float)(next_random(&random) % 2001) / 1000 - 1;
    memalloy_kernel *kernel = open_store(copy_path);
    for (size_t first = 0; first < ROWS; first += BATCH)
        add_rows(kernel, first, BATCH, uniform + first * DIM);
    ok(memalloy_make_index(kernel, NULL, NULL, &err), &err);
    struct memalloy_index_status status = status_of(kernel);
    assert_true(status.samples >= 20 && status.effort_steps > 0);
    assert_true(status.measured_recall >= 0.92);
    assert_true(recall_unseen(kernel, 5, true) >= 0.92);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    /* It is kept with the segment, for those too who only read. */
    struct memalloy_options options = {.struct_bytes = sizeof(options),
                                       .flags = MEMALLOY_OPEN_NO_MODEL | MEMALLOY_OPEN_READONLY,
                                       .dim = DIM};
    struct mly_error inner = {0};
    assert_int_equal(mly_engine_open(mly_env_system(), copy_path, &options, &kernel, &inner),
                     MLY_OK);
    struct memalloy_index_status again = status_of(kernel);
    assert_int_equal(again.samples, status.samples);
    assert_int_equal(again.effort_steps, status.effort_steps);
    assert_true(recall_unseen(kernel, 6, true) >= 0.92);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    /* As texts lie: what the tables say holds. */
    kernel = open_store(store_path);
    ok(memalloy_make_index(kernel, NULL, NULL, &err), &err);
    status = status_of(kernel);
    assert_true(status.samples >= 20 && status.measured_recall >= 0.92);
    assert_true(recall_unseen(kernel, 7, false) >= 0.92);
    assert_int_equal(memalloy_close(kernel, NULL), MEMALLOY_OK);
    free(uniform);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(where_recall_is_short_searches_look_at_more),
        TEST(documents_that_are_named_are_searched_alone),
        TEST(a_large_store_answers_through_the_index),
        TEST(the_index_is_made_while_nobody_waits),
        TEST(closing_does_not_wait_for_the_index),
        TEST(new_rows_are_found_at_once_and_removed_ones_never),
        TEST(many_queries_get_what_each_would_get),
        TEST(a_damaged_index_changes_no_answer),
        TEST(damage_is_looked_for_where_it_is_asked_for),
        TEST(whatever_fails_while_it_is_made_the_store_answers),
        TEST(a_small_store_has_none_and_bad_values_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
