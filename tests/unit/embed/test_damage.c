/* Model files that are damaged in every place: each is refused with a reason, or it is run and
 * gives vectors of length 1 or an error; never a read outside the file (it lies in a block of its
 * own, so sanitizers see one), never a crash.
 */
#define _POSIX_C_SOURCE 200809L /* posix_memalign */
#include "embed/embed.h"
#include "mly_cmocka.h"
#include "test_pace.h"
#include "tiny_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct tiny_shape shape = {64, 64, 2, 1, 12, 12, 60};
static const struct tiny_kind kinds[] = {{"int8", "mean", "q: ", "", true, false},
                                         {"int8", "mean", "", "", false, false},
                                         {"bf16", "cls", "", "p: ", false, true},
                                         {"f32", "mean", "", "", false, false}};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

/* A system in which every file is this one. */
struct world {
    struct mly_env env;
    const char *bytes;
    size_t count;
    size_t maps;
};

static int fake_open(void *context, int dir_fd, const char *path, uint32_t flags)
{
    (void)context;
    (void)dir_fd;
    (void)path;
    (void)flags;
    return 1000;
}

static int fake_close(void *context, int fd)
{
    (void)context;
    (void)fd;
    return 0;
}

static int fake_info(void *context, int fd, struct mly_file_info *out)
{
    const struct world *world = context;
    (void)fd;
    memset(out, 0, sizeof(*out));
    out->kind = MLY_KIND_FILE;
    out->bytes = world->count;
    return 0;
}

static int fake_map(void *context, int fd, size_t bytes, const void **out)
{
    struct world *world = context;
    void *block = NULL;
    (void)fd;
    assert_int_equal(bytes, world->count);
    assert_int_equal(posix_memalign(&block, 64, bytes), 0);
    memcpy(block, world->bytes, bytes);
    world->maps++;
    *out = block;
    return 0;
}

static int fake_unmap(void *context, const void *map, size_t bytes)
{
    struct world *world = context;
    (void)bytes;
    world->maps--;
    free((void *)(uintptr_t)map);
    return 0;
}

static int64_t fake_pid(void *context)
{
    (void)context;
    return 1;
}

static struct world make_world(void)
{
    struct world world = {.env = *mly_env_system()};
    world.env.open = fake_open;
    world.env.close = fake_close;
    world.env.info = fake_info;
    world.env.map = fake_map;
    world.env.unmap = fake_unmap;
    world.env.pid = fake_pid;
    return world;
}

struct tally {
    size_t refused, ran, failed;
};

/* Every sequence that the card allows may be asked for: the longest, and the shortest. */
static void use(struct mly_embedder *embedder, struct tally *tally)
{
    const struct mly_model_card *card = mly_embedder_card(embedder);
    int32_t ids[64];
    assert_in_range(card->pieces_max, 2, 12);
    assert_in_range(card->vocabulary, 1, 60);
    assert_int_equal(card->dim, 64);
    for (size_t i = 0; i < card->pieces_max + 2u; i++) {
        ids[i] = (int32_t)((i * 7 + card->vocabulary - 1) % card->vocabulary);
    }
    const size_t starts[] = {0, card->pieces_max, card->pieces_max + 2u};
    float out[2 * 64];
    struct mly_error err = {0};
    const enum mly_err rc = mly_embedder_encode(embedder, ids, starts, 2, out, &err);
    if (rc != MLY_OK) {
        assert_int_equal(rc, MLY_ERR_CORRUPT);
        assert_true(err.message[0] != '\0');
        tally->failed++;
        return;
    }
    for (size_t s = 0; s < 2; s++) {
        double square = 0.0;
        for (size_t i = 0; i < 64; i++) {
            square += (double)out[s * 64 + i] * (double)out[s * 64 + i];
        }
        assert_true(fabs(square - 1.0) < 1e-5);
    }
    tally->ran++;
}

static void try_file(struct world *world, const char *bytes, size_t count, const char *kernels,
                     struct tally *tally)
{
    struct mly_pool *pool = NULL;
    struct mly_embedder *embedder = NULL;
    struct mly_error err = {0};
    world->bytes = bytes;
    world->count = count;
    world->env.context = world;
    assert_int_equal(mly_pool_create(&world->env, 1, &pool, &err), MLY_OK);
    const int64_t live = world->env.mem->live;
    const enum mly_err rc =
        mly_embedder_open(&world->env, mly_kern_pick(kernels), pool, "m", &embedder, &err);
    if (rc == MLY_OK) {
        use(embedder, tally);
        mly_embedder_close(embedder);
    } else {
        if (rc != MLY_ERR_CORRUPT && rc != MLY_ERR_MODEL) fail_msg("%d: %s", rc, err.message);
        assert_true(err.message[0] != '\0');
        assert_null(embedder);
        tally->refused++;
    }
    assert_int_equal(world->env.mem->live, live);
    assert_int_equal(world->maps, 0);
    mly_pool_destroy(pool);
}

static void a_bit_flipped_anywhere_in_the_header_does_no_harm(void **state)
{
    (void)state;
    struct world world = make_world();
    for (size_t k = 0; k < KINDS; k++) {
        struct tiny_file file = tiny_make_as(&shape, &kinds[k], 1);
        struct tally tally = {0, 0, 0};
        try_file(&world, file.bytes, file.count, NULL, &tally);
        assert_int_equal(tally.ran, 1);
        for (size_t at = 0; at < 8 + file.header_bytes; at++) {
            for (unsigned bit = 0; bit < 8;
                 bit += k == 0 ? TEST_PACE(1, 3, 5) : 5) { /* time: all only once */
                file.bytes[at] = (char)(file.bytes[at] ^ (1 << bit));
                try_file(&world, file.bytes, file.count, NULL, &tally);
                file.bytes[at] = (char)(file.bytes[at] ^ (1 << bit));
            }
        }
        print_message("%s: %zu refused, %zu ran, %zu gave an error\n", kinds[k].quantisation,
                      tally.refused, tally.ran, tally.failed);
        assert_true(tally.refused > tally.ran);
        free(file.bytes);
    }
}

static void a_file_cut_off_anywhere_is_refused(void **state)
{
    (void)state;
    struct world world = make_world();
    for (size_t k = 0; k < KINDS; k++) {
        struct tiny_file file = tiny_make_as(&shape, &kinds[k], 1);
        struct tally tally = {0, 0, 0};
        size_t tried = 0;
        for (size_t count = 1; count < file.count; count++) {
            /* All of the header; of the data every length near the ends, and some between. */
            const bool data = count > 8 + file.header_bytes + 200 && count + 200 < file.count;
            if (data && count % 61 != 0) continue;
            try_file(&world, file.bytes, count, NULL, &tally);
            tried++;
        }
        assert_int_equal(tally.refused, tried);
        free(file.bytes);
    }
}

/* Where each tensor stands, by its name's entry in the header. */
static bool next_span(const struct tiny_file *file, size_t *at, size_t *start, size_t *end)
{
    static const char word[] = "\"data_offsets\":[";
    char *text = malloc(file->header_bytes + 1);
    assert_non_null(text);
    memcpy(text, file->bytes + 8, file->header_bytes);
    text[file->header_bytes] = '\0';
    char *found = strstr(text + *at, word);
    if (found != NULL) {
        char *rest = NULL;
        *at = (size_t)(found - text) + sizeof(word);
        *start = (size_t)strtoul(found + sizeof(word) - 1, &rest, 10);
        *end = (size_t)strtoul(rest + 1, NULL, 10);
    }
    free(text);
    return found != NULL;
}

static void fill(char *to, size_t bytes, const void *pattern, size_t pattern_bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = ((const char *)pattern)[i % pattern_bytes];
    }
}

/* Not-a-number, infinities, the largest numbers, the smallest, in every tensor, whole and in one
 * place, in every set. */
static void poisoned_tensors_give_an_error_or_vectors(void **state)
{
    (void)state;
    static const uint32_t patterns[] = {0x7fc00000, 0xffffffff, 0x7f800000, 0xff800000, 0x7f7fffff,
                                        0xff7fffff, 0x00000001, 0x7f7f7f7f, 0x80808080};
    struct world world = make_world();
    const struct mly_kern *sets[8];
    const size_t set_count = mly_kern_list(sets, 8);
    for (size_t k = 0; k < KINDS; k++) {
        const struct tiny_file file = tiny_make_as(&shape, &kinds[k], 1);
        struct tally tally = {0, 0, 0};
        size_t at = 0, start = 0, end = 0;
        char *copy = malloc(file.count);
        assert_non_null(copy);
        while (next_span(&file, &at, &start, &end)) {
            for (size_t p = 0; p < 2 * sizeof(patterns) / sizeof(patterns[0]); p++) {
                const size_t first = 8 + file.header_bytes + start;
                const size_t bytes = p % 2 == 0 ? end - start : 4;
                memcpy(copy, file.bytes, file.count);
                fill(copy + first, bytes < end - start ? bytes : end - start, &patterns[p / 2], 4);
                for (size_t s = 0; s < set_count; s++) {
                    try_file(&world, copy, file.count, sets[s]->name, &tally);
                }
            }
        }
        print_message("%s: %zu refused, %zu ran, %zu gave an error\n", kinds[k].quantisation,
                      tally.refused, tally.ran, tally.failed);
        assert_true(tally.failed > 0 && tally.ran > 0);
        free(copy);
        free(file.bytes);
    }
}

static void bits_flipped_in_the_data_do_no_harm(void **state)
{
    (void)state;
    struct world world = make_world();
    uint64_t seed = 77;
    for (size_t k = 0; k < KINDS; k++) {
        struct tiny_file file = tiny_make_as(&shape, &kinds[k], 1);
        struct tally tally = {0, 0, 0};
        const size_t data = 8 + file.header_bytes;
        char *whole = malloc(file.count);
        assert_non_null(whole);
        memcpy(whole, file.bytes, file.count);
        for (size_t i = 0; i < 1500; i++) {
            if (i % 12 == 0) memcpy(file.bytes, whole, file.count);
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            file.bytes[data + (size_t)(seed >> 33) % (file.count - data)] ^=
                (char)(1 << (seed >> 30 & 7)); /* and stays for a while: damage adds up */
            try_file(&world, file.bytes, file.count, NULL, &tally);
        }
        print_message("%s: %zu refused, %zu ran, %zu gave an error\n", kinds[k].quantisation,
                      tally.refused, tally.ran, tally.failed);
        free(whole);
        free(file.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bit_flipped_anywhere_in_the_header_does_no_harm),
        cmocka_unit_test(a_file_cut_off_anywhere_is_refused),
        cmocka_unit_test(poisoned_tensors_give_an_error_or_vectors),
        cmocka_unit_test(bits_flipped_in_the_data_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
