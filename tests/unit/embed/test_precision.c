/* Models in f32, bf16 and int8, of every pooling: against the encoder in doubles, and equal bits
 * wherever the int8 engine has them.
 */
#include "base/hash.h"
#include "embed/safetensors.h"
#include "fault_env.h"
#include "mly_cmocka.h"
#include "plain_encoder.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <stdlib.h>
#include <string.h>

static char dir[TEMP_DIR_BYTES];

static struct mly_embedder *open_model(const char *path, const char *kernels,
                                       struct mly_pool **pool)
{
    struct mly_embedder *embedder = NULL;
    struct mly_error err = {0};
    if (mly_embedder_open(mly_env_system(), mly_kern_pick(kernels), *pool, path, &embedder, &err) !=
        MLY_OK) {
        fail_msg("%s", err.message);
    }
    return embedder;
}

enum { COUNT = 12 };

struct batch {
    int32_t ids[COUNT * 256];
    size_t starts[COUNT + 1];
};

static void fill_batch(struct batch *batch, const struct tiny_shape *shape, size_t pieces_max)
{
    uint32_t seed = 5;
    batch->starts[0] = 0;
    for (size_t s = 0; s < COUNT; s++) {
        const size_t pieces = s == 0 ? pieces_max : 2 + s * s * 5 % (pieces_max - 1);
        batch->starts[s + 1] = batch->starts[s] + pieces;
        for (size_t i = batch->starts[s]; i < batch->starts[s + 1]; i++) {
            seed = seed * 1664525u + 1013904223u;
            batch->ids[i] = (int32_t)((seed >> 8) % shape->vocabulary);
        }
    }
}

/* The least cosine between the engine and plain doubles over the batch. */
static double least_cosine(const struct tiny_shape *shape, const struct tiny_kind *kind,
                           size_t pieces_max)
{
    const char *path = tiny_model_as(dir, shape, kind, 11);
    struct mly_error err = {0};
    struct mly_model model;
    struct mly_pool *pool = NULL;
    assert_int_equal(mly_pool_create(mly_env_system(), 1, &pool, &err), MLY_OK);
    struct mly_embedder *embedder = open_model(path, NULL, &pool);
    if (mly_model_map(mly_env_system(), path, &model, &err) != MLY_OK) fail_msg("%s", err.message);
    struct batch *batch = malloc(sizeof(*batch));
    float *got = malloc(COUNT * shape->hidden * sizeof(float));
    double *wanted = malloc(shape->hidden * sizeof(double)), least = 2.0;
    assert_true(batch != NULL && got != NULL && wanted != NULL);
    fill_batch(batch, shape, pieces_max);
    assert_int_equal(mly_embedder_encode(embedder, batch->ids, batch->starts, COUNT, got, &err),
                     MLY_OK);
    for (size_t s = 0; s < COUNT; s++) {
        plain_encode(&model, batch->ids + batch->starts[s], batch->starts[s + 1] - batch->starts[s],
                     wanted);
        const double cosine = plain_cosine(wanted, got + s * shape->hidden, shape->hidden);
        least = cosine < least ? cosine : least;
    }
    free(batch);
    free(got);
    free(wanted);
    mly_model_close(&model);
    mly_embedder_close(embedder);
    mly_pool_destroy(pool);
    return least;
}

static void every_precision_and_pooling_is_near_plain_doubles(void **state)
{
    (void)state;
    static const struct tiny_shape wide = {128, 192, 2, 1, 90, 90, 50};
    static const struct {
        struct tiny_kind kind;
        double least;
    } cases[] = {
        {{"f32", "mean", "", "", false, false}, 1.0 - 1e-10},
        {{"f32", "cls", "", "", false, false}, 1.0 - 1e-10},
        {{"bf16", "mean", "", "", false, false}, 0.9998},
        {{"bf16", "cls", "", "", false, false}, 0.9998},
        {{"int8", "mean", "", "", false, false}, 0.998},
        {{"int8", "mean", "", "", true, false}, 0.998},
        {{"int8", "cls", "", "", true, false}, 0.998},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct tiny_kind *kind = &cases[i].kind;
        const double small = least_cosine(&tiny_small, kind, 90);
        const double other = least_cosine(&wide, kind, 40);
        print_message("%s, %s%s: 1 - cosine at most %.1e, %.1e\n", kind->quantisation,
                      kind->pooling, kind->factors ? ", factors" : "", 1.0 - small, 1.0 - other);
        assert_true(small >= cases[i].least && other >= cases[i].least);
    }
}

/* All sets, alone and together, with one thread and three: the same bits. */
static void check_bits(const struct tiny_shape *shape, const struct tiny_kind *kind, size_t pieces,
                       size_t count)
{
    const char *path = tiny_model_as(dir, shape, kind, 12);
    const struct mly_kern *sets[8];
    const size_t set_count = mly_kern_list(sets, 8), floats = count * shape->hidden;
    struct batch *batch = malloc(sizeof(*batch));
    float *wanted = malloc(floats * sizeof(float)), *got = malloc(floats * sizeof(float));
    struct mly_error err = {0};
    assert_true(batch != NULL && wanted != NULL && got != NULL);
    fill_batch(batch, shape, pieces);
    for (size_t i = 0; i < set_count * 2; i++) {
        struct mly_pool *pool = NULL;
        assert_int_equal(mly_pool_create(mly_env_system(), i % 2 == 0 ? 1 : 3, &pool, &err),
                         MLY_OK);
        struct mly_embedder *embedder = open_model(path, sets[i / 2]->name, &pool);
        assert_int_equal(mly_embedder_encode(embedder, batch->ids, batch->starts, count, got, &err),
                         MLY_OK);
        if (i == 0) memcpy(wanted, got, floats * sizeof(float));
        assert_memory_equal(got, wanted, floats * sizeof(float));
        for (size_t s = 0; s < count; s++) {
            assert_int_equal(
                mly_embedder_encode(embedder, batch->ids, batch->starts + s, 1, got, &err), MLY_OK);
            assert_memory_equal(got, wanted + s * shape->hidden, shape->hidden * sizeof(float));
        }
        mly_embedder_close(embedder);
        mly_pool_destroy(pool);
    }
    free(batch);
    free(wanted);
    free(got);
}

static void vectors_have_equal_bits_whatever_set_batch_or_threads(void **state)
{
    (void)state;
    static const struct tiny_kind factors = {"int8", "cls", "", "", true, false};
    check_bits(&tiny_small, &tiny_f32, 96, COUNT);
    check_bits(&tiny_small, &tiny_bf16, 96, COUNT);
    check_bits(&tiny_small, &factors, 96, COUNT);
    check_bits(&tiny_minilm, &tiny_f32, 20, 2);
    check_bits(&tiny_minilm, &tiny_bf16, 20, 2);
}

/* Written down once: the same bits with gcc and clang, with and without sanitizers. */
static void the_vectors_of_a_known_model_are_known(void **state)
{
    (void)state;
    static const struct {
        const struct tiny_kind *kind;
        const char *hex;
    } cases[] = {
        {&tiny_f32, "79a37227a064af09258b1653635b26e3eb298b48cde8681c82ffc4e3e36ee714"},
        {&tiny_bf16, "d0ddb0382f81d79325466cefec9c848a265e9b9a15d3034d29f67822ded6683a"},
    };
    for (size_t i = 0; i < 2; i++) {
        struct mly_error err = {0};
        struct mly_pool *pool = NULL;
        struct batch *batch = malloc(sizeof(*batch));
        float out[COUNT * 64];
        char hex[2 * MLY_HASH_BYTES + 1];
        assert_non_null(batch);
        assert_int_equal(mly_pool_create(mly_env_system(), 1, &pool, &err), MLY_OK);
        struct mly_embedder *embedder =
            open_model(tiny_model_as(dir, &tiny_small, cases[i].kind, 9), NULL, &pool);
        fill_batch(batch, &tiny_small, 96);
        assert_int_equal(mly_embedder_encode(embedder, batch->ids, batch->starts, COUNT, out, &err),
                         MLY_OK);
        const struct mly_hash hash =
            mly_hash_bytes((struct mly_str){(const char *)out, sizeof(out)});
        mly_hash_to_hex(&hash, hex);
        assert_string_equal(hex, cases[i].hex);
        mly_embedder_close(embedder);
        mly_pool_destroy(pool);
        free(batch);
    }
}

static void the_card_has_pooling_prefixes_and_the_tokenizer(void **state)
{
    (void)state;
    /* In the file a quote and a backslash stand behind two layers of escapes. */
    const struct tiny_kind kind = {
        "f32", "cls", "query: ", "\\\\\\\"passage\\\\\\\\\\\\\\\" \xc3\xa9: ", false, true};
    struct mly_error err = {0};
    struct mly_pool *pool = NULL;
    assert_int_equal(mly_pool_create(mly_env_system(), 1, &pool, &err), MLY_OK);
    struct mly_embedder *embedder =
        open_model(tiny_model_as(dir, &tiny_small, &kind, 1), NULL, &pool);
    const struct mly_model_card *card = mly_embedder_card(embedder);
    assert_true(mly_str_equal(card->pooling, MLY_STR("cls")));
    assert_true(mly_str_equal(card->quantisation, MLY_STR("f32")));
    assert_true(mly_str_equal(card->query_prefix, MLY_STR("query: ")));
    assert_true(mly_str_equal(card->passage_prefix, MLY_STR("\"passage\\\" \xc3\xa9: ")));
    assert_int_equal(card->tokenizer_form, MLY_TOKENIZER_COMPILED);
    assert_true(mly_str_equal(card->tokenizer, MLY_STR("some bytes\n")));
    assert_int_equal(card->vocabulary, tiny_small.vocabulary);
    mly_embedder_close(embedder);
    mly_pool_destroy(pool);
}

struct seen {
    size_t rows[4], width[4];
    double sum;
};

static void see(void *context, size_t layer_i, enum mly_encoder_product product, const float *rows,
                size_t first, size_t count, size_t width)
{
    struct seen *seen = context;
    assert_true(layer_i < 2 && product < 4);
    (void)first;
    seen->rows[product] += count;
    seen->width[product] = width;
    for (size_t i = 0; i < count * width; i++) {
        seen->sum += (double)rows[i];
    }
}

/* What the quantiser does: every input of every product is seen once, and nothing changes by it. */
static void a_watch_sees_the_inputs_of_every_product(void **state)
{
    (void)state;
    static const struct tiny_kind *const kinds[] = {&tiny_f32, &tiny_bf16, &tiny_int8};
    struct batch *batch = malloc(sizeof(*batch));
    assert_non_null(batch);
    fill_batch(batch, &tiny_small, 60);
    for (size_t k = 0; k < 3; k++) {
        struct mly_error err = {0};
        struct mly_model model;
        struct mly_encoder_room room;
        struct seen seen = {{0}, {0}, 0.0};
        float with[3 * 64], without[3 * 64];
        const char *path = tiny_model_as(dir, &tiny_small, kinds[k], 1);
        assert_int_equal(mly_model_map(mly_env_system(), path, &model, &err), MLY_OK);
        assert_int_equal(mly_encoder_room_init(&room, mly_env_system()->mem, &model.config, &err),
                         MLY_OK);
        struct mly_encoder_block block = {.model = &model,
                                          .kern = mly_kern_pick(NULL),
                                          .room = &room,
                                          .ids = batch->ids,
                                          .starts = batch->starts,
                                          .count = 3,
                                          .rows = batch->starts[3]};
        assert_true(mly_encoder_run(&block, without));
        block.watch = see;
        block.watch_context = &seen;
        mly_encoder_begin(&block);
        for (size_t i = 0; i < 2; i++) {
            mly_encoder_layer(&block, i);
        }
        assert_true(mly_encoder_end(&block, with));
        assert_memory_equal(with, without, sizeof(with));
        for (size_t p = 0; p < 4; p++) {
            assert_int_equal(seen.rows[p], 2 * batch->starts[3]);
            assert_int_equal(seen.width[p], p == MLY_ENCODER_FFN_OUT ? 128 : 64);
        }
        assert_true(seen.sum == seen.sum && seen.sum != 0.0);
        mly_encoder_room_deinit(&room, mly_env_system()->mem);
        mly_model_close(&model);
    }
    free(batch);
}

static void check_refused(const struct tiny_kind *kind, const char *from, const char *to,
                          enum mly_err wanted, const char *word)
{
    struct tiny_file file = tiny_make_as(&tiny_small, kind, 1);
    tiny_replace(&file, from, to);
    struct mly_error err = {0};
    struct mly_model model;
    const enum mly_err rc = mly_model_map(
        mly_env_system(), tiny_write(&file, dir, "changed.safetensors"), &model, &err);
    if (rc != wanted || strstr(err.message, word) == NULL) {
        fail_msg("%s -> %s gives %d: %s", from, to, (int)rc, err.message);
    }
    free(file.bytes);
}

static void what_a_precision_lacks_is_named(void **state)
{
    (void)state;
    static const struct tiny_kind factors = {"int8", "mean", "", "", true, false};
    check_refused(&tiny_f32, "\"quantisation\":\"f32\"", "\"quantisation\":\"f16\"", MLY_ERR_MODEL,
                  "quantisation is f16, only int8, bf16, f32 can be run");
    check_refused(&tiny_f32, "\"quantisation\":\"f32\"", "\"quantisation\":\"\"   ", MLY_ERR_MODEL,
                  "quantisation is ,");
    check_refused(&tiny_bf16, "\"dtype\":\"BF16\"", "\"dtype\":\"F16\" ", MLY_ERR_CORRUPT,
                  "embeddings.word");
    check_refused(&factors, "layer.1.ffn_in.factor", "layer.1.ffn_in.facton", MLY_ERR_CORRUPT,
                  "layer.1.ffn_in.factor");
    check_refused(&tiny_int8, "query_prefix\\\":\\\"\\\"", "query_prefix\\\":0   ", MLY_ERR_CORRUPT,
                  "query_prefix");
    check_refused(&tiny_int8, "query_prefix", "query_suffix", MLY_ERR_MODEL, "query_suffix");
    check_refused(&tiny_int8, "\\\"vocabulary\\\",", "\\\"something!\\\",", MLY_ERR_MODEL,
                  "tokenizer is something!");
    check_refused(&tiny_int8, "\"format_version\":\"2\"", "\"format_version\":\"1\"", MLY_ERR_MODEL,
                  "make it again with `memalloy model add`");
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
        cmocka_unit_test(every_precision_and_pooling_is_near_plain_doubles),
        cmocka_unit_test(vectors_have_equal_bits_whatever_set_batch_or_threads),
        cmocka_unit_test(the_vectors_of_a_known_model_are_known),
        cmocka_unit_test(the_card_has_pooling_prefixes_and_the_tokenizer),
        cmocka_unit_test(a_watch_sees_the_inputs_of_every_product),
        cmocka_unit_test(what_a_precision_lacks_is_named),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
