/* The embedder over random models: opening, refusing, and above all that a vector depends on
 * nothing but its own word pieces.
 */
#include "embed/embed.h"

#include "base/hash.h"
#include "fault_env.h"
#include "mly_cmocka.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static char dir[TEMP_DIR_BYTES];

struct engine {
    struct fault_env *fault;
    struct mly_pool *pool;
    struct mly_embedder *embedder;
};

static struct engine open_engine(const char *path, uint32_t threads, const char *kernels)
{
    struct engine engine = {malloc(sizeof(struct fault_env)), NULL, NULL};
    struct mly_error err = {0};
    assert_non_null(engine.fault);
    fault_env_init(engine.fault);
    assert_int_equal(mly_pool_create(&engine.fault->env, threads, &engine.pool, &err), MLY_OK);
    if (mly_embedder_open(&engine.fault->env, mly_kern_pick(kernels), engine.pool, path,
                          &engine.embedder, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    return engine;
}

static void close_engine(struct engine *engine)
{
    mly_embedder_close(engine->embedder);
    mly_pool_destroy(engine->pool);
    assert_int_equal(engine->fault->mem.live, 0);
    assert_int_equal(engine->fault->open_count, 0);
    free(engine->fault);
}

enum { BATCH = 40 };

/* Sequences of many lengths, the longest possible and the shortest included. */
struct batch {
    int32_t ids[BATCH * 256];
    size_t starts[BATCH + 1];
};

static struct batch *make_batch(const struct tiny_shape *shape, uint32_t seed)
{
    struct batch *batch = malloc(sizeof(*batch));
    assert_non_null(batch);
    batch->starts[0] = 0;
    for (size_t s = 0; s < BATCH; s++) {
        size_t pieces = 2 + s * s * 7 % (shape->pieces_max - 1);
        if (s == 3) pieces = shape->pieces_max;
        if (s == 4) pieces = 2;
        batch->starts[s + 1] = batch->starts[s] + pieces;
        for (size_t i = batch->starts[s]; i < batch->starts[s + 1]; i++) {
            seed = seed * 1664525u + 1013904223u;
            batch->ids[i] = (int32_t)((seed >> 8) % shape->vocabulary);
        }
    }
    return batch;
}

static float *encode(const struct engine *engine, const int32_t *ids, const size_t *starts,
                     size_t count)
{
    struct mly_error err = {0};
    const size_t dim = mly_embedder_card(engine->embedder)->dim;
    float *out = malloc((count * dim + 1) * sizeof(float));
    assert_non_null(out);
    if (mly_embedder_encode(engine->embedder, ids, starts, count, out, &err) != MLY_OK) {
        fail_msg("%s", err.message);
    }
    return out;
}

static void card_says_what_the_file_says(void **state)
{
    (void)state;
    struct engine engine = open_engine(tiny_model(dir, &tiny_small, 1), 1, NULL);
    const struct mly_model_card *card = mly_embedder_card(engine.embedder);
    assert_int_equal(card->dim, 64);
    assert_int_equal(card->pieces_max, 96);
    assert_true(mly_str_equal(card->id, MLY_STR("tiny")));
    assert_true(mly_str_equal(card->quantisation, MLY_STR("int8")));
    assert_int_equal(card->hash.bytes, 64);
    assert_true(mly_str_starts_with(card->tokenizer, MLY_STR("[PAD]\n[UNK]\n")));
    struct mly_error err = {0};
    assert_int_equal(mly_embedder_verify(engine.embedder, &err), MLY_OK);
    close_engine(&engine);
}

static void another_model_has_another_hash(void **state)
{
    (void)state;
    struct engine one = open_engine(tiny_model(dir, &tiny_small, 1), 1, NULL);
    struct engine two = open_engine(tiny_model(dir, &tiny_small, 2), 1, NULL);
    assert_false(mly_str_equal(mly_embedder_card(one.embedder)->hash,
                               mly_embedder_card(two.embedder)->hash));
    close_engine(&one);
    close_engine(&two);
}

static void vectors_have_unit_length(void **state)
{
    (void)state;
    struct engine engine = open_engine(tiny_model(dir, &tiny_small, 1), 1, NULL);
    struct batch *batch = make_batch(&tiny_small, 1);
    float *out = encode(&engine, batch->ids, batch->starts, BATCH);
    for (size_t s = 0; s < BATCH; s++) {
        double square = 0.0;
        for (size_t i = 0; i < 64; i++) {
            square += (double)out[s * 64 + i] * (double)out[s * 64 + i];
        }
        assert_true(fabs(sqrt(square) - 1.0) < 1e-6);
    }
    free(out);
    free(batch);
    close_engine(&engine);
}

/* A few sequences at a time: with several threads, which work together then. */
static void check_few(struct engine *engine, const struct batch *batch, const float *wanted,
                      size_t dim, size_t step)
{
    for (size_t s = 0; s < BATCH; s += step) {
        for (size_t n = 1; n <= 5 && s + n <= BATCH; n += 2) {
            float *got = encode(engine, batch->ids, batch->starts + s, n);
            assert_memory_equal(got, wanted + s * dim, n * dim * sizeof(float));
            free(got);
        }
    }
}

/* Alone, in every window of neighbours, turned round, and with one to nine threads (more than
 * groups of heads): equal bits. */
static void check_independence(const struct tiny_shape *shape, const char *kernels, size_t step)
{
    const char *path = tiny_model(dir, shape, 3);
    const size_t dim = shape->hidden;
    struct batch *batch = make_batch(shape, 3);
    struct engine one = open_engine(path, 1, kernels);
    float *wanted = encode(&one, batch->ids, batch->starts, BATCH);
    check_few(&one, batch, wanted, dim, step);
    struct batch *turned = malloc(sizeof(*turned));
    assert_non_null(turned);
    turned->starts[0] = 0;
    for (size_t s = 0; s < BATCH; s++) {
        const size_t from = BATCH - 1 - s, pieces = batch->starts[from + 1] - batch->starts[from];
        memcpy(turned->ids + turned->starts[s], batch->ids + batch->starts[from],
               pieces * sizeof(int32_t));
        turned->starts[s + 1] = turned->starts[s] + pieces;
    }
    for (uint32_t threads = 1; threads <= 9; threads += threads < 4 ? 1 : 5) {
        struct engine many = open_engine(path, threads, kernels);
        float *same = encode(&many, batch->ids, batch->starts, BATCH);
        float *back = encode(&many, turned->ids, turned->starts, BATCH);
        assert_memory_equal(same, wanted, BATCH * dim * sizeof(float));
        for (size_t s = 0; s < BATCH; s++) {
            assert_memory_equal(back + s * dim, wanted + (BATCH - 1 - s) * dim,
                                dim * sizeof(float));
        }
        check_few(&many, batch, wanted, dim, 2 * step + 1);
        free(same);
        free(back);
        close_engine(&many);
    }
    free(turned);
    free(wanted);
    free(batch);
    close_engine(&one);
}

static void vectors_do_not_depend_on_batch_order_or_threads(void **state)
{
    (void)state;
    const struct mly_kern *sets[8];
    const size_t count = mly_kern_list(sets, 8);
    for (size_t i = 0; i < count && i < 8; i++) {
        check_independence(&tiny_small, sets[i]->name, 1);
    }
}

static void vectors_of_the_real_shape_do_not_depend_on_batch_order_or_threads(void **state)
{
    (void)state;
    check_independence(&tiny_minilm, NULL, 13);
}

static void check_sets(const struct tiny_shape *shape, size_t count)
{
    const char *path = tiny_model(dir, shape, 4);
    struct batch *batch = make_batch(shape, 4);
    struct engine scalar = open_engine(path, 2, "scalar");
    float *wanted = encode(&scalar, batch->ids, batch->starts, count);
    const struct mly_kern *sets[8];
    const size_t set_count = mly_kern_list(sets, 8);
    for (size_t i = 0; i < set_count && i < 8; i++) {
        struct engine other = open_engine(path, 2, sets[i]->name);
        float *got = encode(&other, batch->ids, batch->starts, count);
        assert_memory_equal(got, wanted, count * shape->hidden * sizeof(float));
        free(got);
        close_engine(&other);
    }
    free(wanted);
    free(batch);
    close_engine(&scalar);
}

static void all_kernel_sets_give_the_same_vectors(void **state)
{
    (void)state;
    static const struct tiny_shape wide_heads = {128, 192, 2, 1, 300, 300, 50};
    static const struct tiny_shape odd_heads = {192, 64, 4, 2, 70, 70, 50}; /* 48 wide */
    check_sets(&tiny_small, BATCH);
    check_sets(&wide_heads, 6);
    check_sets(&odd_heads, BATCH);
    check_sets(&tiny_minilm, 3); /* 41 pieces: slow without vectors, and under sanitizers */
}

/* Written down once: the same bits with gcc and clang, with and without sanitizers. */
static void the_vectors_of_a_known_model_are_known(void **state)
{
    (void)state;
    struct engine engine = open_engine(tiny_model(dir, &tiny_small, 9), 1, NULL);
    struct batch *batch = make_batch(&tiny_small, 9);
    float *out = encode(&engine, batch->ids, batch->starts, BATCH);
    const struct mly_hash hash =
        mly_hash_bytes((struct mly_str){(const char *)out, BATCH * 64 * sizeof(float)});
    char hex[2 * MLY_HASH_BYTES + 1];
    mly_hash_to_hex(&hash, hex);
    assert_string_equal(hex, "479b98271d6b9e8598fd152e638ac00ec644a50c7807ee5abc4177721a33a590");
    free(out);
    free(batch);
    close_engine(&engine);
}

static void warm_calls_allocate_nothing(void **state)
{
    (void)state;
    struct engine engine = open_engine(tiny_model(dir, &tiny_small, 1), 2, NULL);
    struct batch *batch = make_batch(&tiny_small, 1);
    float *out = encode(&engine, batch->ids, batch->starts, BATCH);
    struct mly_error err = {0};
    const uint64_t calls = engine.fault->mem.calls;
    for (size_t n = 1; n <= BATCH; n += 3) {
        assert_int_equal(
            mly_embedder_encode(engine.embedder, batch->ids, batch->starts, n, out, &err), MLY_OK);
    }
    /* One long text, which the workers share. */
    assert_int_equal(
        mly_embedder_encode(engine.embedder, batch->ids, batch->starts + 3, 1, out, &err), MLY_OK);
    assert_int_equal(engine.fault->mem.calls, calls);
    free(out);
    free(batch);
    close_engine(&engine);
}

static void bad_sequences_are_refused_with_their_numbers(void **state)
{
    (void)state;
    struct engine engine = open_engine(tiny_model(dir, &tiny_small, 1), 1, NULL);
    int32_t ids[200] = {0};
    float out[2 * 64] = {7.0f};
    struct mly_error err = {0};
    const struct {
        size_t starts[3];
        int32_t id;
        enum mly_err wanted;
        const char *words;
    } cases[] = {
        {{0, 5, 10}, 200, MLY_ERR_INVAL, "word piece 200 of sequence 1"},
        {{0, 5, 10}, -1, MLY_ERR_INVAL, "word piece -1 of sequence 1"},
        {{0, 5, 5}, 0, MLY_ERR_INVAL, "sequence 1 has 0 word pieces"},
        {{0, 5, 6}, 0, MLY_ERR_INVAL, "sequence 1 has 1 word pieces"},
        {{0, 5, 3}, 0, MLY_ERR_INVAL, "sequence 1 has 0 word pieces"},
        {{0, 5, 102}, 0, MLY_ERR_LIMIT, "sequence 1 has 97 word pieces, limit is 96"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        ids[7] = cases[i].id;
        assert_int_equal(mly_embedder_encode(engine.embedder, ids, cases[i].starts, 2, out, &err),
                         cases[i].wanted);
        if (strstr(err.message, cases[i].words) == NULL) fail_msg("%s", err.message);
        assert_true(out[0] == 7.0f);
    }
    assert_int_equal(mly_embedder_encode(engine.embedder, NULL, cases[0].starts, 0, NULL, &err),
                     MLY_OK);
    close_engine(&engine);
}

struct caller {
    const struct engine *engine;
    const struct batch *batch;
    const float *wanted;
    size_t first;
};

static void *call_often(void *argument)
{
    const struct caller *caller = argument;
    float out[4 * 64];
    for (size_t round = 0; round < 60; round++) {
        const size_t s = (caller->first + round) % (BATCH - 4);
        struct mly_error err = {0};
        if (mly_embedder_encode(caller->engine->embedder, caller->batch->ids,
                                caller->batch->starts + s, 4, out, &err) != MLY_OK ||
            memcmp(out, caller->wanted + s * 64, sizeof(out)) != 0) {
            return argument;
        }
    }
    return NULL;
}

static void many_threads_may_use_one_embedder(void **state)
{
    (void)state;
    struct engine engine = open_engine(tiny_model(dir, &tiny_small, 1), 3, NULL);
    struct batch *batch = make_batch(&tiny_small, 1);
    float *wanted = encode(&engine, batch->ids, batch->starts, BATCH);
    pthread_t threads[4];
    struct caller callers[4];
    for (size_t i = 0; i < 4; i++) {
        callers[i] = (struct caller){&engine, batch, wanted, i * 9};
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    free(wanted);
    free(batch);
    close_engine(&engine);
}

/* Opens a model whose header was changed; the word that must stand in the message. */
static void check_changed(const char *from, const char *to, enum mly_err wanted, const char *word)
{
    struct tiny_file file = tiny_make(&tiny_small, 1);
    tiny_replace(&file, from, to);
    const char *path = tiny_write(&file, dir, "changed.safetensors");
    struct fault_env fault;
    fault_env_init(&fault);
    struct mly_pool *pool = NULL;
    struct mly_embedder *embedder = NULL;
    struct mly_error err = {0};
    assert_int_equal(mly_pool_create(&fault.env, 1, &pool, &err), MLY_OK);
    const enum mly_err rc =
        mly_embedder_open(&fault.env, mly_kern_pick(NULL), pool, path, &embedder, &err);
    if (rc != wanted || strstr(err.message, word) == NULL) {
        fail_msg("%s -> %s gives %d: %s", from, to, (int)rc, err.message);
    }
    assert_non_null(strstr(err.message, "changed.safetensors"));
    assert_null(embedder);
    mly_pool_destroy(pool);
    assert_int_equal(fault.mem.live, 0);
    assert_int_equal(fault.open_count, 0);
    free(file.bytes);
}

static void files_that_are_not_our_models_are_refused(void **state)
{
    (void)state;
    check_changed("memalloy-model", "somebody-else.", MLY_ERR_MODEL, "model add");
    check_changed("\"format\":", "\"formal\":", MLY_ERR_MODEL, "model add");
    check_changed("\"format_version\":\"2\"", "\"format_version\":\"3\"", MLY_ERR_MODEL,
                  "version 3");
    check_changed("\\\"bert\\\"", "\\\"gpt2\\\"", MLY_ERR_MODEL, "architecture is gpt2");
    check_changed("\\\"mean\\\"", "\\\"last\\\"", MLY_ERR_MODEL, "pooling is last");
    check_changed("\\\"hidden\\\":64", "\\\"hidden\\\":63", MLY_ERR_MODEL, "hidden is 63");
    check_changed("\\\"hidden\\\":64", "\\\"hidden\\\":65", MLY_ERR_MODEL, "multiples of 64");
    check_changed("\\\"heads\\\":4", "\\\"heads\\\":3", MLY_ERR_MODEL, "heads");
    check_changed("\\\"heads\\\":4", "\\\"heads\\\":8", MLY_ERR_MODEL, "heads");
    check_changed("\\\"heads\\\":4", "\\\"heads\\\":0", MLY_ERR_MODEL, "heads is 0");
    check_changed("\\\"layers\\\"", "\\\"storey\\\"", MLY_ERR_MODEL, "storey");
    check_changed("\\\"pieces_max\\\":96", "\\\"pieces_max\\\":01", MLY_ERR_CORRUPT, "pieces_max");
}

static void damaged_headers_are_refused(void **state)
{
    (void)state;
    check_changed("\\\"layers\\\":2", "\\\"layers\\\":3", MLY_ERR_CORRUPT, "layer.2.attention_in");
    check_changed("\\\"vocabulary\\\":200", "\\\"vocabulary\\\":201", MLY_ERR_CORRUPT,
                  "embeddings");
    check_changed("layer.1.ffn_in.scale", "layer.1.ffn_in.scalp", MLY_ERR_CORRUPT, "ffn_in.scale");
    check_changed("\"shape\":[200,64]", "\"shape\":[64,200]", MLY_ERR_CORRUPT, "embeddings.word");
    check_changed("\\\"positions\\\":100", "\\\"positions\\\": 95", MLY_ERR_CORRUPT,
                  "95 positions");
    check_changed("\\\"positions\\\":100", "\\\"positions\\\":095", MLY_ERR_CORRUPT, "positions");
    check_changed("\\\"positions\\\":100", "\\\"layers\\\":2     ", MLY_ERR_CORRUPT, "twice");
    check_changed("\"id\":\"tiny\"", "\"id\":\"\"    ", MLY_ERR_CORRUPT, "id");
    check_changed("\\\"pooling\\\":\\\"mean\\\"", "\\\"pooling\\\":12345678", MLY_ERR_CORRUPT,
                  "pooling");
    check_changed("\"config\"", "\"confix\"", MLY_ERR_CORRUPT, "configuration");
}

static void a_missing_file_is_not_found(void **state)
{
    (void)state;
    struct mly_pool *pool = NULL;
    struct mly_embedder *embedder = NULL;
    struct mly_error err = {0};
    assert_int_equal(mly_pool_create(mly_env_system(), 1, &pool, &err), MLY_OK);
    assert_int_equal(mly_embedder_open(mly_env_system(), mly_kern_pick(NULL), pool,
                                       "/nowhere/model.safetensors", &embedder, &err),
                     MLY_ERR_NOTFOUND);
    assert_non_null(strstr(err.message, "/nowhere/model.safetensors"));
    mly_embedder_close(NULL);
    mly_pool_destroy(pool);
}

static void changed_weights_are_found_by_verify(void **state)
{
    (void)state;
    struct tiny_file file = tiny_make(&tiny_small, 1);
    file.bytes[8 + file.header_bytes + 12345] ^= 1;
    struct engine engine = open_engine(tiny_write(&file, dir, "flipped.safetensors"), 1, NULL);
    struct mly_error err = {0};
    assert_int_equal(mly_embedder_verify(engine.embedder, &err), MLY_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "checksum"));
    close_engine(&engine);
    free(file.bytes);
}

static void weights_that_are_not_numbers_give_an_error(void **state)
{
    (void)state;
    struct tiny_file file = tiny_make(&tiny_small, 1);
    /* The positions: behind 200 rows of 64 bytes. */
    memset(file.bytes + 8 + file.header_bytes + 200 * 64, 0xff, 64 * 4);
    struct engine engine = open_engine(tiny_write(&file, dir, "nan.safetensors"), 1, NULL);
    const int32_t ids[] = {1, 2, 3};
    const size_t starts[] = {0, 3};
    float out[64];
    struct mly_error err = {0};
    assert_int_equal(mly_embedder_encode(engine.embedder, ids, starts, 1, out, &err),
                     MLY_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "not finite"));
    close_engine(&engine);
    free(file.bytes);
}

/* Opens and encodes with request n of memory, or file call n, failing, until nothing fails. */
static void check_failures(bool memory)
{
    const char *path = tiny_model(dir, &tiny_small, 1);
    struct batch *batch = make_batch(&tiny_small, 1);
    float out[BATCH * 64];
    for (uint64_t fail_at = 1;; fail_at++) {
        struct fault_env fault;
        fault_env_init(&fault);
        struct mly_pool *pool = NULL;
        struct mly_embedder *embedder = NULL;
        struct mly_error err = {0};
        assert_int_equal(mly_pool_create(&fault.env, 2, &pool, &err), MLY_OK);
        if (memory) {
            fault.mem.fail_at = fault.mem.calls + fail_at;
        } else {
            fault.fail_errno = EIO;
            fault.fail_at = fault.calls + fail_at;
        }
        enum mly_err rc =
            mly_embedder_open(&fault.env, mly_kern_pick(NULL), pool, path, &embedder, &err);
        if (rc == MLY_OK) {
            rc = mly_embedder_encode(embedder, batch->ids, batch->starts, BATCH, out, &err);
            if (rc != MLY_OK) { /* The handle is still good. */
                fault_env_reset(&fault);
                assert_int_equal(
                    mly_embedder_encode(embedder, batch->ids, batch->starts, BATCH, out, NULL),
                    MLY_OK);
            }
        } else {
            assert_null(embedder);
        }
        mly_embedder_close(embedder);
        mly_pool_destroy(pool);
        assert_int_equal(fault.mem.live, 0);
        assert_int_equal(fault.open_count, 0);
        const bool all_done =
            memory ? fault.mem.calls < fault.mem.fail_at : fault.failed_call == NULL;
        if (rc == MLY_OK && all_done) {
            assert_true(fail_at > (memory ? 20u : 2u));
            break;
        }
        if (rc == MLY_OK) continue; /* A close or the pool's threads: they may fail unseen. */
        assert_int_equal(rc, memory ? MLY_ERR_NOMEM : MLY_ERR_IO);
        assert_true(err.message[0] != '\0');
    }
    free(batch);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    check_failures(true);
}

static void every_file_call_may_fail(void **state)
{
    (void)state;
    check_failures(false);
}

static int make_dir(void **state)
{
    (void)state;
    temp_dir_make(dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(card_says_what_the_file_says),
        cmocka_unit_test(another_model_has_another_hash),
        cmocka_unit_test(vectors_have_unit_length),
        cmocka_unit_test(vectors_do_not_depend_on_batch_order_or_threads),
        cmocka_unit_test(vectors_of_the_real_shape_do_not_depend_on_batch_order_or_threads),
        cmocka_unit_test(all_kernel_sets_give_the_same_vectors),
        cmocka_unit_test(the_vectors_of_a_known_model_are_known),
        cmocka_unit_test(warm_calls_allocate_nothing),
        cmocka_unit_test(bad_sequences_are_refused_with_their_numbers),
        cmocka_unit_test(many_threads_may_use_one_embedder),
        cmocka_unit_test(files_that_are_not_our_models_are_refused),
        cmocka_unit_test(damaged_headers_are_refused),
        cmocka_unit_test(a_missing_file_is_not_found),
        cmocka_unit_test(changed_weights_are_found_by_verify),
        cmocka_unit_test(weights_that_are_not_numbers_give_an_error),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_file_call_may_fail),
    };
    cmocka_set_test_filter(getenv("CMOCKA_TEST_FILTER")); /* Younger ones than Debian's read it. */
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
