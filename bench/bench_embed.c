/* How fast word pieces become vectors; or, for tools, the vectors of given word pieces.
 *
 *   bench_embed MODEL [PIECES [THREADS [KERNELS]]]   rates for sequences of so many pieces
 *   bench_embed encode MODEL IDS OUT [KERNELS]       IDS: i32 count, then per sequence i32 n,
 * i32[n]; OUT: f32[count][dim]
 *   bench_embed serve MODEL THREADS [KERNELS]        for bench_embed.py: commands on stdin, one
 * line of JSON for each: load IDS | run FIRST COUNT | write OUT
 *
 * Before it times anything it checks that vectors have unit length and do not depend on their
 * batch. Rates are real word pieces ([CLS] and [SEP] included) per second of CPU time and of wall
 * time, the best of several runs.
 */
#include "embed/embed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* A set without vectors is a hundred times slower: runs stop after the time. */
enum { SEQUENCES = 64, RUNS = 25 };
#define SECONDS_MAX 4.0

static double seconds(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void *need(void *block)
{
    if (block == NULL) {
        fprintf(stderr, "bench_embed: out of memory\n");
        exit(1);
    }
    return block;
}

struct engine {
    struct mly_pool *pool;
    struct mly_embedder *embedder;
    size_t dim;
    const char *kernels;
};

static struct engine open_engine(const char *model, uint32_t threads, const char *kernels)
{
    struct mly_error err = {0};
    struct engine engine = {0};
    const struct mly_kern *kern = mly_kern_pick(kernels);
    if (kern == NULL) {
        fprintf(stderr, "bench_embed: this machine has no kernel set %s\n", kernels);
        exit(1);
    }
    if (mly_pool_create(mly_env_system(), threads, &engine.pool, &err) != MLY_OK ||
        mly_embedder_open(mly_env_system(), kern, engine.pool, model, &engine.embedder, &err) !=
            MLY_OK) {
        fprintf(stderr, "bench_embed: %s\n", err.message);
        exit(1);
    }
    engine.dim = mly_embedder_card(engine.embedder)->dim;
    engine.kernels = kern->name;
    return engine;
}

static void close_engine(struct engine *engine)
{
    mly_embedder_close(engine->embedder);
    mly_pool_destroy(engine->pool);
}

static void encode(const struct engine *engine, const int32_t *ids, const size_t *starts,
                   size_t count, float *out)
{
    struct mly_error err = {0};
    if (mly_embedder_encode(engine->embedder, ids, starts, count, out, &err) != MLY_OK) {
        fprintf(stderr, "bench_embed: %s\n", err.message);
        exit(1);
    }
}

/* Unit length, and the same bits alone as in the batch. */
static void check_answers(const struct engine *engine, const int32_t *ids, const size_t *starts,
                          const float *vectors)
{
    float *alone = need(malloc(engine->dim * sizeof(float)));
    for (size_t s = 0; s < SEQUENCES; s += 17) {
        const float *vector = vectors + s * engine->dim;
        double square = 0.0;
        for (size_t i = 0; i < engine->dim; i++) {
            square += (double)vector[i] * (double)vector[i];
        }
        encode(engine, ids, starts + s, 1, alone);
        if (fabs(square - 1.0) > 1e-5 || memcmp(alone, vector, engine->dim * sizeof(float)) != 0) {
            fprintf(stderr, "bench_embed: sequence %zu depends on its batch, or its length is %g\n",
                    s, sqrt(square));
            exit(1);
        }
    }
    free(alone);
}

static int measure(const char *model, size_t pieces, uint32_t threads, const char *kernels)
{
    struct engine engine = open_engine(model, threads, kernels);
    const size_t words = mly_embedder_card(engine.embedder)->vocabulary;
    int32_t *ids = need(malloc(SEQUENCES * pieces * sizeof(ids[0])));
    size_t *starts = need(malloc((SEQUENCES + 1) * sizeof(starts[0])));
    float *out = need(malloc(SEQUENCES * engine.dim * sizeof(out[0])));
    uint32_t seed = 1;
    for (size_t i = 0; i < SEQUENCES * pieces; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (int32_t)((seed >> 8) % words);
    }
    for (size_t s = 0; s <= SEQUENCES; s++) {
        starts[s] = s * pieces;
    }
    encode(&engine, ids, starts, SEQUENCES, out);
    check_answers(&engine, ids, starts, out);
    double wall = 1e9, cpu = 1e9, one = 1e9;
    const double begin = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (int run = 0;
         run < RUNS && (run == 0 || seconds(CLOCK_PROCESS_CPUTIME_ID) - begin < SECONDS_MAX);
         run++) {
        const double wall_start = seconds(CLOCK_MONOTONIC);
        const double cpu_start = seconds(CLOCK_PROCESS_CPUTIME_ID);
        encode(&engine, ids, starts, SEQUENCES, out);
        const double cpu_taken = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
        const double wall_taken = seconds(CLOCK_MONOTONIC) - wall_start;
        cpu = cpu_taken < cpu ? cpu_taken : cpu;
        wall = wall_taken < wall ? wall_taken : wall;
    }
    for (int run = 0; run < 20; run++) {
        const double start = seconds(CLOCK_PROCESS_CPUTIME_ID);
        encode(&engine, ids, starts, 1, out);
        const double taken = seconds(CLOCK_PROCESS_CPUTIME_ID) - start;
        one = taken < one ? taken : one;
    }
    const double total = (double)(SEQUENCES * pieces);
    printf("{\"bench\": \"embed\", \"kernels\": \"%s\", \"threads\": %u, \"pieces\": %zu, "
           "\"tokens_per_cpu_s\": %.0f, \"tokens_per_s\": %.0f, \"one_text_cpu_ms\": %.3f}\n",
           engine.kernels, mly_pool_thread_count(engine.pool), pieces, total / cpu, total / wall,
           one * 1e3);
    free(ids);
    free(starts);
    free(out);
    close_engine(&engine);
    return 0;
}

static int32_t read_number(FILE *file)
{
    int32_t number;
    if (fread(&number, sizeof(number), 1, file) != 1 || number < 0) {
        fprintf(stderr, "bench_embed: the file of word pieces ends too early\n");
        exit(1);
    }
    return number;
}

struct sequences {
    int32_t *ids;
    size_t *starts;
    size_t count;
};

static struct sequences read_sequences(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    struct sequences read = {.count = (size_t)read_number(file)};
    read.starts = need(malloc((read.count + 1) * sizeof(read.starts[0])));
    read.starts[0] = 0;
    for (size_t s = 0; s < read.count; s++) {
        const size_t n = (size_t)read_number(file);
        read.starts[s + 1] = read.starts[s] + n;
        read.ids = need(realloc(read.ids, (read.starts[s + 1] + 1) * sizeof(read.ids[0])));
        for (size_t i = read.starts[s]; i < read.starts[s + 1]; i++) {
            read.ids[i] = read_number(file);
        }
    }
    fclose(file);
    return read;
}

static void free_sequences(struct sequences *read)
{
    free(read->ids);
    free(read->starts);
    *read = (struct sequences){0};
}

static bool write_vectors(const struct engine *engine, const struct sequences *read,
                          const char *path)
{
    float *out = need(malloc((read->count + 1) * engine->dim * sizeof(out[0])));
    encode(engine, read->ids, read->starts, read->count, out);
    FILE *file = fopen(path, "wb");
    const bool ok = file != NULL &&
                    fwrite(out, engine->dim * sizeof(float), read->count, file) == read->count &&
                    fclose(file) == 0;
    if (!ok) perror(path);
    free(out);
    return ok;
}

static int encode_file(const char *model, const char *from, const char *to, const char *kernels)
{
    struct engine engine = open_engine(model, 0, kernels);
    struct sequences read = read_sequences(from);
    const bool ok = write_vectors(&engine, &read, to);
    free_sequences(&read);
    close_engine(&engine);
    return ok ? 0 : 1;
}

/* One encode of some of the sequences; -1 where the command names none. */
static int run_some(const struct engine *engine, const struct sequences *read, const char *command)
{
    unsigned long first, count;
    if (sscanf(command, "run %lu %lu", &first, &count) != 2 || count == 0 || count > read->count ||
        first > read->count - count) {
        return -1;
    }
    float *out = need(malloc(count * engine->dim * sizeof(out[0])));
    const double wall_start = seconds(CLOCK_MONOTONIC);
    const double cpu_start = seconds(CLOCK_PROCESS_CPUTIME_ID);
    encode(engine, read->ids, read->starts + first, count, out);
    const double cpu_taken = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
    const double wall_taken = seconds(CLOCK_MONOTONIC) - wall_start;
    printf("{\"cpu_s\": %.9f, \"wall_s\": %.9f}\n", cpu_taken, wall_taken);
    free(out);
    return 0;
}

static int serve(const char *model, uint32_t threads, const char *kernels)
{
    struct engine engine = open_engine(model, threads, kernels);
    struct sequences read = {0};
    char line[4096];
    int exit_code = 0;
    printf("{\"kernels\": \"%s\", \"threads\": %u}\n", engine.kernels,
           mly_pool_thread_count(engine.pool));
    fflush(stdout);
    while (exit_code == 0 && fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, "load ", 5) == 0) {
            free_sequences(&read);
            read = read_sequences(line + 5);
            printf("{\"sequences\": %zu, \"pieces\": %zu}\n", read.count, read.starts[read.count]);
        } else if (strncmp(line, "write ", 6) == 0) {
            exit_code = write_vectors(&engine, &read, line + 6) ? 0 : 1;
            printf("{}\n");
        } else if (run_some(&engine, &read, line) != 0) {
            fprintf(stderr, "bench_embed: not a command that can be followed: %s\n", line);
            exit_code = 2;
        }
        fflush(stdout);
    }
    free_sequences(&read);
    close_engine(&engine);
    return exit_code;
}

int main(int argc, char **argv)
{
    if (argc >= 5 && strcmp(argv[1], "encode") == 0) {
        return encode_file(argv[2], argv[3], argv[4], argc > 5 ? argv[5] : NULL);
    }
    if (argc >= 4 && strcmp(argv[1], "serve") == 0) {
        return serve(argv[2], (uint32_t)strtoul(argv[3], NULL, 10), argc > 4 ? argv[4] : NULL);
    }
    if (argc < 2) {
        fprintf(stderr, "usage: bench_embed MODEL [PIECES [THREADS [KERNELS]]]\n"
                        "       bench_embed encode MODEL IDS OUT [KERNELS]\n"
                        "       bench_embed serve MODEL THREADS [KERNELS]\n");
        return 2;
    }
    const long pieces = argc > 2 ? strtol(argv[2], NULL, 10) : 128;
    const long threads = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
    if (pieces < 2 || pieces > 8192 || threads < 0 || threads > 256) {
        fprintf(stderr, "bench_embed: pieces must be 2 to 8192, threads 0 to 256\n");
        return 2;
    }
    return measure(argv[1], (size_t)pieces, (uint32_t)threads, argc > 4 ? argv[4] : NULL);
}
