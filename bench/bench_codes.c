/* How fast each kernel set of this machine is at what a vector index does: scanning codes in cache,
 * from memory and in cells here and there, products with records, ranking centroids; and what the
 * plain code around them takes. Every set's answers are compared with the definition's first.
 *
 *     bench_codes [DIM]
 */
#define _POSIX_C_SOURCE 200809L

#include "kern/codes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SETS_MAX 8
#define CELL_BLOCKS ((size_t)16)
#define CACHED_CELLS ((size_t)16)
#define ALL_CELLS ((size_t)4096) /* about a million codes */
#define CENTROIDS ((size_t)4096)
#define CODES ((size_t)MLY_KERN_BLOCK_CODES)

struct bench {
    const struct mly_kern *sets[SETS_MAX];
    size_t set_count, dim, width, stride;
    struct mly_kern_rotation rotation;
    struct mly_kern_code_query query;
    float *vector, *rotated; /* f32[dim], f32[width] */
    uint8_t *tables, *blocks;
    uint8_t *q;     /* the query in 8 bits */
    int8_t *panels; /* of the centroids */
    float *numbers; /* f32[3][CENTROIDS]: theirs */
    float *scores;  /* f32[CENTROIDS] */
    float q_scale, q_low;
    float estimates[CELL_BLOCKS * MLY_KERN_BLOCK_CODES];
    uint16_t hits[CELL_BLOCKS];
};

static double cpu_seconds(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static uint64_t next_bits(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dULL;
}

static void *room(size_t bytes)
{
    void *block = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (block == NULL) {
        fprintf(stderr, "bench_codes: no memory\n");
        exit(1);
    }
    return block;
}

static void fill(void *out, size_t bytes, uint64_t seed)
{
    for (size_t i = 0; i < bytes; i += 8) {
        const uint64_t bits = next_bits(&seed);
        memcpy((uint8_t *)out + i, &bits, bytes - i < 8 ? bytes - i : 8);
    }
}

static void make(struct bench *bench)
{
    const size_t blocks = ALL_CELLS * CELL_BLOCKS, width = bench->width;
    uint64_t state = 42;
    bench->stride = MLY_KERN_BLOCK_BYTES(width) + CODES * sizeof(uint32_t);
    bench->vector = room(bench->dim * sizeof(float));
    bench->rotated = room(width * sizeof(float));
    bench->tables = room(MLY_KERN_QUERY_BYTES(width));
    bench->blocks = room(blocks * bench->stride);
    bench->q = room(width);
    bench->panels = room(CENTROIDS * width);
    bench->numbers = room(3 * CENTROIDS * sizeof(float));
    bench->scores = room(CENTROIDS * sizeof(float));
    for (size_t i = 0; i < bench->dim; i++) {
        bench->vector[i] = (float)(int32_t)(next_bits(&state) >> 32) * 0x1p-31f;
    }
    mly_kern_rotation_init(&bench->rotation, bench->dim);
    mly_kern_rotate(&bench->rotation, bench->vector, bench->rotated);
    mly_kern_query_make(bench->rotated, width, bench->tables, &bench->query);
    bench->sets[0]->quantize_f32_u8(bench->rotated, NULL, width, bench->q, &bench->q_scale,
                                    &bench->q_low);
    fill(bench->panels, CENTROIDS * width, 43);
    for (size_t i = 0; i < 3 * CENTROIDS; i++) {
        bench->numbers[i] = 0.001f * (float)(i % 7);
    }
    fill(bench->blocks, blocks * bench->stride, 44);
    for (size_t b = 0; b < blocks; b++) {
        uint8_t *numbers = bench->blocks + b * bench->stride + width * 2;
        for (size_t i = 0; i < 2 * CODES; i++) {
            const uint16_t half = mly_kern_half_from_f32(0.05f);
            memcpy(numbers + i * sizeof(half), &half, sizeof(half));
        }
    }
}

static void scan_cell(struct bench *bench, const struct mly_kern *set, size_t cell, float floor)
{
    set->scan_codes(&bench->query, bench->blocks + cell * CELL_BLOCKS * bench->stride,
                    bench->stride, CELL_BLOCKS, 0.1f, floor, NULL, bench->estimates, bench->hits);
}

static void check(struct bench *bench)
{
    static float wanted[CELL_BLOCKS * MLY_KERN_BLOCK_CODES];
    const struct mly_kern *scalar = mly_kern_pick("scalar");
    const int8_t *row = bench->panels;
    for (size_t s = 0; s < bench->set_count; s++) {
        const struct mly_kern *set = bench->sets[s];
        scan_cell(bench, scalar, 5, -1e30f);
        memcpy(wanted, bench->estimates, sizeof(wanted));
        scan_cell(bench, set, 5, -1e30f);
        const float a = scalar->dot_s8_f32(row, bench->rotated, bench->width);
        const float b = set->dot_s8_f32(row, bench->rotated, bench->width);
        if (memcmp(wanted, bench->estimates, sizeof(wanted)) == 0 && memcmp(&a, &b, 4) == 0) {
            continue;
        }
        fprintf(stderr, "bench_codes: %s does not give what scalar gives\n", set->name);
        exit(1);
    }
}

/* ---- what is timed; each returns how many things it did ---- */

typedef size_t job_fn(struct bench *bench, const struct mly_kern *set);

/* No estimate is above the floor, as nearly none is once a search has found its first hundred. */
static size_t scan_cached(struct bench *bench, const struct mly_kern *set)
{
    for (size_t round = 0; round < 20; round++) {
        for (size_t cell = 0; cell < CACHED_CELLS; cell++) {
            scan_cell(bench, set, cell, 1e30f);
        }
    }
    return 20 * CACHED_CELLS * CELL_BLOCKS * CODES;
}

static size_t scan_all(struct bench *bench, const struct mly_kern *set)
{
    for (size_t cell = 0; cell < ALL_CELLS; cell++) {
        scan_cell(bench, set, cell, 1e30f);
    }
    return ALL_CELLS * CELL_BLOCKS * CODES;
}

static size_t scan_here_and_there(struct bench *bench, const struct mly_kern *set)
{
    uint64_t state = 45;
    for (size_t i = 0; i < ALL_CELLS / 4; i++) {
        scan_cell(bench, set, next_bits(&state) % ALL_CELLS, 1e30f);
    }
    return ALL_CELLS / 4 * CELL_BLOCKS * CODES;
}

static volatile float sink; /* so that nothing timed is left out by the compiler */

static size_t dot_records(struct bench *bench, const struct mly_kern *set)
{
    float sum = 0.0f;
    for (size_t i = 0; i < 2000; i++) {
        sum += set->dot_s8_f32(bench->panels + i % 32 * bench->width, bench->rotated, bench->width);
    }
    sink = sum;
    return 2000;
}

static size_t rank_centroids(struct bench *bench, const struct mly_kern *set)
{
    const struct mly_kern_rows rows = {bench->q, &bench->q_scale, &bench->q_low, 1, bench->width};
    const struct mly_kern_linear linear = {
        .panels = bench->panels,
        .scale = bench->numbers,
        .sum = bench->numbers + CENTROIDS,
        .bias = bench->numbers + 2 * CENTROIDS,
        .in = bench->width,
        .out = CENTROIDS,
    };
    for (size_t i = 0; i < 4; i++) {
        set->linear_u8s8_f32(&rows, &linear, bench->scores, CENTROIDS);
    }
    return 4 * CENTROIDS;
}

static size_t rotate(struct bench *bench, const struct mly_kern *set)
{
    float out[MLY_KERN_CODE_DIM_MAX];
    (void)set;
    for (size_t i = 0; i < 200; i++) {
        mly_kern_rotate(&bench->rotation, bench->vector, out);
        sink = out[i % bench->width];
    }
    return 200;
}

static size_t make_query(struct bench *bench, const struct mly_kern *set)
{
    (void)set;
    for (size_t i = 0; i < 200; i++) {
        mly_kern_query_make(bench->rotated, bench->width, bench->tables, &bench->query);
    }
    return 200;
}

static size_t make_code(struct bench *bench, const struct mly_kern *set)
{
    uint8_t code[MLY_KERN_CODE_DIM_MAX / 8];
    float factor, offset;
    (void)set;
    for (size_t i = 0; i < 200; i++) {
        mly_kern_code_make(bench->rotated, bench->numbers + i % 2, bench->width, code, &factor,
                           &offset);
        sink = factor;
    }
    return 200;
}

/* The least of some rounds, in nanoseconds for each thing. */
static double nanoseconds(struct bench *bench, const struct mly_kern *set, job_fn *job)
{
    double least = 1e9;
    for (size_t round = 0; round < 9; round++) {
        const double start = cpu_seconds();
        const size_t count = job(bench, set);
        const double each = (cpu_seconds() - start) * 1e9 / (double)count;
        least = each < least ? each : least;
    }
    return least;
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bench.dim = argc > 1 ? (size_t)strtoul(argv[1], NULL, 10) : 384;
    if (bench.dim < 65 || bench.dim > MLY_KERN_CODE_DIM_MAX) {
        fprintf(stderr, "bench_codes: DIM is from 65 to %d\n", MLY_KERN_CODE_DIM_MAX);
        return 2;
    }
    bench.width = MLY_KERN_CODE_WIDTH(bench.dim);
    bench.set_count = mly_kern_list(bench.sets, SETS_MAX);
    make(&bench);
    check(&bench);
    printf("%zu dimensions, one thread, nanoseconds of CPU, least of 9; answers compared\n",
           bench.dim);
    printf("%-12s %10s %10s %10s %10s %10s\n", "set", "code,", "code,", "code, cells", "record",
           "centroid");
    printf("%-12s %10s %10s %10s %10s %10s\n", "", "cached", "in a row", "here+there", "", "");
    for (size_t s = 0; s < bench.set_count; s++) {
        const struct mly_kern *set = bench.sets[s];
        printf("%-12s %10.2f %10.2f %11.2f %9.1f %10.2f\n", set->name,
               nanoseconds(&bench, set, scan_cached), nanoseconds(&bench, set, scan_all),
               nanoseconds(&bench, set, scan_here_and_there), nanoseconds(&bench, set, dot_records),
               nanoseconds(&bench, set, rank_centroids));
    }
    printf("plain code: rotation %.0f, tables of a query %.0f, a code %.0f\n",
           nanoseconds(&bench, NULL, rotate), nanoseconds(&bench, NULL, make_query),
           nanoseconds(&bench, NULL, make_code));
    return 0;
}
