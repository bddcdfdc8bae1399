/* Runs a fuzz target without libFuzzer: over its seeds and the files of its corpus, each as it is
 * and with damage that follows from a number.
 *
 *   fuzz_x_replay [--write-seeds DIR] [FILE]...
 *
 * MLY_TEST_SEED picks other damage, MEMALLOY_TEST_LONG more of it.
 */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fuzz_input input, damaged;
static uint64_t numbers;

static size_t below(size_t limit)
{
    numbers ^= numbers >> 12;
    numbers ^= numbers << 25;
    numbers ^= numbers >> 27;
    return limit == 0 ? 0 : (size_t)((numbers * 0x2545f4914f6cdd1dULL) >> 33) % limit;
}

/* One thing that goes wrong with bytes. */
static void damage(struct fuzz_input *bytes)
{
    static const char *const words[] = {
        "0", "-1", "4294967296", "9223372036854775807", "1e999", "{", "]", "\"", ",", "null"};
    const size_t at = below(bytes->count);
    switch (bytes->count == 0 ? 4 : below(7)) {
    case 0:
        bytes->bytes[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        bytes->bytes[at] = (uint8_t)below(256);
        break;
    case 2:
        bytes->bytes[at] = below(2) == 0 ? 0 : 255;
        break;
    case 3:
        bytes->count = at;
        break;
    case 4: { /* put a word in its place */
        const char *word = words[below(sizeof(words) / sizeof(words[0]))];
        for (size_t i = 0; word[i] != '\0' && at + i < bytes->count; i++) {
            bytes->bytes[at + i] = (uint8_t)word[i];
        }
        break;
    }
    case 5: { /* take a part out */
        const size_t count = 1 + below(bytes->count - at < 16 ? bytes->count - at : 16);
        const size_t rest = bytes->count - at;
        if (count > rest) break;
        memmove(bytes->bytes + at, bytes->bytes + at + count, rest - count);
        bytes->count -= count;
        break;
    }
    default: { /* a part twice */
        const size_t count = 1 + below(32), rest = bytes->count - at;
        if (count > rest || bytes->count + count > FUZZ_INPUT_MAX) break;
        memmove(bytes->bytes + at + count, bytes->bytes + at, rest);
        bytes->count += count;
    }
    }
}

static size_t run(size_t rounds)
{
    (void)LLVMFuzzerTestOneInput(input.bytes, input.count);
    for (size_t round = 0; round < rounds; round++) {
        damaged = input;
        for (size_t times = 1 + below(4); times > 0; times--) {
            damage(&damaged);
        }
        /* On the heap, to the byte: sanitizers see what is read behind the end. */
        uint8_t *copy = malloc(damaged.count + 1);
        if (copy == NULL) abort();
        memcpy(copy + 1, damaged.bytes, damaged.count);
        (void)LLVMFuzzerTestOneInput(copy + 1, damaged.count);
        free(copy);
    }
    return rounds + 1;
}

static bool load(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return false;
    input.count = fread(input.bytes, 1, sizeof(input.bytes), file);
    return fclose(file) == 0;
}

static int write_seeds(const char *dir)
{
    char path[4096];
    for (size_t i = 0; input.count = 0, fuzz_seed(i, &input); i++) {
        snprintf(path, sizeof(path), "%s/seed-%zu", dir, i);
        FILE *file = fopen(path, "wb");
        if (file == NULL) return 1;
        const bool whole = fwrite(input.bytes, 1, input.count, file) == input.count;
        if (fclose(file) != 0 || !whole) return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *seed = getenv("MLY_TEST_SEED");
    const size_t rounds = getenv("MEMALLOY_TEST_LONG") != NULL ? 100000 : 2000;
    size_t count = 0, good = 0, seeds = 0;
    if (argc == 3 && strcmp(argv[1], "--write-seeds") == 0) return write_seeds(argv[2]);
    numbers = seed != NULL ? strtoull(seed, NULL, 10) : 0;
    if (numbers == 0) numbers = 1;
    printf("seed %llu\n", (unsigned long long)numbers);
    for (size_t i = 0; input.count = 0, fuzz_seed(i, &input); i++) {
        const size_t before = fuzz_accepted;
        (void)LLVMFuzzerTestOneInput(input.bytes, input.count);
        good += fuzz_accepted != before;
        seeds++;
        count += run(rounds);
    }
    for (int i = 1; i < argc; i++) {
        if (!load(argv[i])) {
            fprintf(stderr, "%s cannot be read\n", argv[i]);
            return 1;
        }
        count += run(rounds);
    }
    printf("%zu of %zu seeds are accepted; %zu inputs\n", good, seeds, count);
    return good == 0 || count == 0;
}
