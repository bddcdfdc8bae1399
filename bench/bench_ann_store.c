/* Vector search through a whole store, by nothing but memalloy.h: bench_ann.py's second half.
 *
 * usage: bench_ann_store make DATA STORE ROWS
 *        bench_ann_store search DATA STORE ROWS QUERIES IDS
 *        bench_ann_store live DATA STORE ROWS QUERIES IDS ADDED REMOVED
 * Row i of base.f32 is the document "i" in eight digits. live: one thread adds ADDED rows behind
 * the ROWS and removes REMOVED of the even ones from row 0 on, another searches all the while; ten
 * times both rest, and the rows found go to IDS, i32[10][queries][10], for the judge. Every search
 * is checked: nothing that was removed before it began, and a row just added is the first for
 * its own vector. Prints a line of JSON for every measurement. */
#define _DEFAULT_SOURCE

#include <memalloy.h>

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIM 384u
#define K 10u
#define LOAD_ROWS 50000u
#define ROUNDS 3
#define RESTS 10u
#define LIVE_QUERIES 200u
#define BATCH 100u
#define TIMES_MAX (1u << 20)

struct rows {
    const float *values; /* f32[count][DIM], mapped */
    size_t count;
};

static void stop(const char *what, const struct memalloy_error *err)
{
    fprintf(stderr, "bench_ann_store: %s%s%s\n", what, err != NULL ? ": " : "",
            err != NULL ? err->message : "");
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double memory_mb(const char *field)
{
    char line[200];
    double kb = 0;
    FILE *stream = fopen("/proc/self/status", "r");
    if (stream == NULL) return 0;
    while (fgets(line, sizeof(line), stream) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) kb = strtod(line + strlen(field), NULL);
    }
    fclose(stream);
    return kb / 1024;
}

static struct rows rows_map(const char *folder, const char *name, size_t count)
{
    char path[600];
    struct stat info;
    snprintf(path, sizeof(path), "%s/%s.f32", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) stop(path, NULL);
    size_t there = (size_t)info.st_size / (DIM * sizeof(float));
    if (count == 0) count = there;
    if (count > there) stop("too few rows", NULL);
    void *map = mmap(NULL, count * DIM * sizeof(float), PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) stop(path, NULL);
    close(fd);
    return (struct rows){map, count};
}

static memalloy_kernel *kernel_open(const char *path)
{
    memalloy_kernel *kernel;
    struct memalloy_error err;
    struct memalloy_options options = {
        .struct_bytes = sizeof(options), .dim = DIM, .durability = MEMALLOY_DURABILITY_NORMAL};
    if (memalloy_open(&kernel, path, &options, &err) != 0) stop("open", &err);
    return kernel;
}

static void rows_add(memalloy_kernel *kernel, const struct rows *rows, size_t first, size_t count)
{
    struct memalloy_str *contents = calloc(count, sizeof(*contents));
    struct memalloy_add_options *options = calloc(count, sizeof(*options));
    char(*names)[32] = calloc(count, sizeof(*names));
    struct memalloy_error err;
    if (contents == NULL || options == NULL || names == NULL) stop("memory", NULL);
    for (size_t i = 0; i < count; i++) {
        int bytes = snprintf(names[i], sizeof(names[i]), "%08zu", first + i);
        contents[i] = (struct memalloy_str){names[i], (size_t)bytes};
        options[i].struct_bytes = sizeof(options[i]);
        options[i].document_id = contents[i];
    }
    if (memalloy_add_vectors(kernel, contents, rows->values + first * DIM, count, DIM, options,
                             NULL, &err) != 0) {
        stop("add", &err);
    }
    free(names);
    free(options);
    free(contents);
}

static void row_remove(memalloy_kernel *kernel, size_t row)
{
    char name[32];
    int was_there = 0;
    struct memalloy_error err;
    int bytes = snprintf(name, sizeof(name), "%08zu", row);
    struct memalloy_str id = {name, (size_t)bytes};
    if (memalloy_remove_document(kernel, id, NULL, &was_there, &err) != 0) stop("remove", &err);
    if (!was_there) stop("a row that was added is not there", NULL);
}

/* The rows found, -1 behind them. */
static void search_one(memalloy_kernel *kernel, const float *vector, int32_t out[K])
{
    memalloy_hits *hits;
    struct memalloy_error err;
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = K};
    if (memalloy_search_vector(kernel, vector, DIM, &options, &hits, &err) != 0) {
        stop("search", &err);
    }
    size_t count = memalloy_hits_count(hits);
    for (size_t i = 0; i < K; i++) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        if (i < count) memalloy_hits_get(hits, i, &hit);
        out[i] = i < count ? (int32_t)strtol(hit.document_id.data, NULL, 10) : -1;
    }
    memalloy_hits_destroy(hits);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double q)
{
    if (count == 0) return 0;
    qsort(values, count, sizeof(*values), by_value);
    return values[(size_t)(q * (double)(count - 1) + 0.5)];
}

/* Waits until nothing of the index is missing, whoever makes it. */
static void index_make(memalloy_kernel *kernel)
{
    struct memalloy_index_status status = {.struct_bytes = sizeof(status)};
    struct memalloy_error err;
    for (;;) {
        if (memalloy_make_index(kernel, NULL, NULL, &err) != 0) stop("index", &err);
        if (memalloy_get_index_status(kernel, &status, &err) != 0) stop("status", &err);
        if (!status.is_due && !status.is_running) break;
        usleep(20000);
    }
}

static void make(const struct rows *base, const char *path)
{
    struct memalloy_error err;
    double begun = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    memalloy_kernel *kernel = kernel_open(path);
    for (size_t first = 0; first < base->count; first += LOAD_ROWS) {
        size_t left = base->count - first;
        rows_add(kernel, base, first, left < LOAD_ROWS ? left : LOAD_ROWS);
    }
    if (memalloy_checkpoint(kernel, &err) != 0) stop("checkpoint", &err);
    double loaded = seconds(CLOCK_MONOTONIC);
    double loaded_cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    index_make(kernel);
    double made = seconds(CLOCK_MONOTONIC), made_cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    struct memalloy_index_status status = {.struct_bytes = sizeof(status)};
    if (memalloy_get_index_status(kernel, &status, &err) != 0) stop("status", &err);
    if (memalloy_close(kernel, &err) != 0) stop("close", &err);
    printf("{\"phase\": \"make\", \"wall_s\": %.1f, \"cpu_s\": %.1f, \"index_wall_s\": %.1f, "
           "\"index_cpu_s\": %.1f, \"rows\": %llu, \"pending\": %llu, \"cells\": %llu, "
           "\"bytes_per_vector\": %.1f}\n",
           loaded - begun, loaded_cpu - cpu, made - loaded, made_cpu - loaded_cpu,
           (unsigned long long)status.rows, (unsigned long long)status.pending,
           (unsigned long long)status.cells,
           (double)(status.index_bytes + status.record_bytes) / (double)base->count);
}

/* What is measured through the door of the index, and what a store adds to it. */
static void search(const struct rows *queries, const char *path, FILE *ids)
{
    double *wall = calloc(queries->count, sizeof(*wall)), *cpu = calloc(queries->count, 8);
    double own = memory_mb("RssAnon:"), files = memory_mb("RssFile:"), total = 0;
    struct memalloy_error err;
    int32_t found[K];
    if (wall == NULL || cpu == NULL) stop("memory", NULL);
    double begun = seconds(CLOCK_MONOTONIC);
    memalloy_kernel *kernel = kernel_open(path);
    double opened = seconds(CLOCK_MONOTONIC);
    search_one(kernel, queries->values, found);
    double first = seconds(CLOCK_MONOTONIC);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < queries->count; i++) {
            double begin = seconds(CLOCK_MONOTONIC), used = seconds(CLOCK_THREAD_CPUTIME_ID);
            search_one(kernel, queries->values + i * DIM, found);
            used = seconds(CLOCK_THREAD_CPUTIME_ID) - used;
            double took = seconds(CLOCK_MONOTONIC) - begin;
            if (round == 0 || took < wall[i]) wall[i] = took;
            if (round == 0 || used < cpu[i]) cpu[i] = used;
            if (round == 0) fwrite(found, sizeof(found), 1, ids);
        }
    }
    for (size_t i = 0; i < queries->count; i++)
        total += wall[i];
    printf("{\"phase\": \"search\", \"open_ms\": %.3f, \"first_ms\": %.3f, \"p50_ms\": %.5f, "
           "\"p99_ms\": %.5f, \"cpu_ms\": %.5f, \"qps1\": %.1f, \"private_mb\": %.2f, "
           "\"file_mb\": %.1f}\n",
           (opened - begun) * 1e3, (first - opened) * 1e3,
           quantile(wall, queries->count, 0.5) * 1e3, quantile(wall, queries->count, 0.99) * 1e3,
           quantile(cpu, queries->count, 0.5) * 1e3, (double)queries->count / total,
           memory_mb("RssAnon:") - own, memory_mb("RssFile:") - files);
    if (memalloy_close(kernel, &err) != 0) stop("close", &err);
    free(cpu);
    free(wall);
}

/* ---- live ---- */

struct live {
    memalloy_kernel *kernel;
    const struct rows *base, *queries;
    _Atomic size_t removed; /* rows 0, 2, 4 .. are gone */
    _Atomic int resting, is_resting, done;
    double *cpu, *wall; /* of every search */
    size_t count, stale;
};

static void *live_search(void *argument)
{
    struct live *live = argument;
    for (size_t i = 0; !live->done; i++) {
        int32_t found[K];
        if (live->resting) {
            live->is_resting = 1;
            usleep(1000);
            continue;
        }
        live->is_resting = 0;
        size_t removed = live->removed;
        double begin = seconds(CLOCK_MONOTONIC), used = seconds(CLOCK_THREAD_CPUTIME_ID);
        search_one(live->kernel, live->queries->values + i % live->queries->count * DIM, found);
        used = seconds(CLOCK_THREAD_CPUTIME_ID) - used;
        double took = seconds(CLOCK_MONOTONIC) - begin;
        for (size_t j = 0; j < K; j++) {
            if (found[j] >= 0 && found[j] % 2 == 0 && (size_t)found[j] < 2 * removed) live->stale++;
        }
        if (live->count == TIMES_MAX) continue;
        live->cpu[live->count] = used;
        live->wall[live->count++] = took;
    }
    return NULL;
}

static void live_rest(struct live *live, size_t added, FILE *ids)
{
    double cpu[LIVE_QUERIES];
    live->resting = 1;
    while (!live->is_resting)
        usleep(1000);
    for (size_t i = 0; i < LIVE_QUERIES; i++) {
        int32_t found[K];
        double used = seconds(CLOCK_THREAD_CPUTIME_ID);
        search_one(live->kernel, live->queries->values + i * DIM, found);
        cpu[i] = seconds(CLOCK_THREAD_CPUTIME_ID) - used;
        fwrite(found, sizeof(found), 1, ids);
    }
    printf("{\"phase\": \"rest\", \"added\": %zu, \"removed\": %zu, \"cpu_ms\": %.4f}\n", added,
           live->removed, quantile(cpu, LIVE_QUERIES, 0.5) * 1e3);
    fflush(stdout);
    live->is_resting = 0;
    live->resting = 0;
}

static void live_run(struct live *live, size_t rows, size_t added, size_t removed, FILE *ids)
{
    size_t steps = added / BATCH, unfound = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, live_search, live) != 0) stop("thread", NULL);
    double begun = seconds(CLOCK_MONOTONIC), used = seconds(CLOCK_THREAD_CPUTIME_ID);
    for (size_t step = 0; step < steps; step++) {
        int32_t found[K];
        size_t first = rows + step * BATCH, end = (step + 1) * removed / steps;
        rows_add(live->kernel, live->base, first, BATCH);
        search_one(live->kernel, live->base->values + first * DIM, found);
        unfound += found[0] != (int32_t)first;
        for (size_t row = live->removed; row < end; row++) {
            row_remove(live->kernel, 2 * row);
            live->removed = row + 1;
        }
        if ((step + 1) % (steps / RESTS) == 0) live_rest(live, (step + 1) * BATCH, ids);
    }
    used = seconds(CLOCK_THREAD_CPUTIME_ID) - used;
    double wall = seconds(CLOCK_MONOTONIC) - begun;
    live->done = 1;
    pthread_join(thread, NULL);
    double median = quantile(live->cpu, live->count, 0.5);
    size_t slow = 0;
    for (size_t i = 0; i < live->count; i++)
        slow += live->cpu[i] > 5 * median;
    printf("{\"phase\": \"live\", \"searches\": %zu, \"stale\": %zu, \"unfound\": %zu, "
           "\"cpu_p50_ms\": %.4f, \"cpu_p99_ms\": %.4f, \"cpu_most_ms\": %.4f, "
           "\"above_5_medians\": %zu, \"wall_p50_ms\": %.4f, \"wall_most_ms\": %.3f, "
           "\"write_wall_s\": %.1f, \"write_cpu_s\": %.1f, \"private_mb\": %.1f}\n",
           live->count, live->stale, unfound, median * 1e3,
           quantile(live->cpu, live->count, 0.99) * 1e3, quantile(live->cpu, live->count, 1) * 1e3,
           slow, quantile(live->wall, live->count, 0.5) * 1e3,
           quantile(live->wall, live->count, 1) * 1e3, wall, used, memory_mb("RssAnon:"));
}

int main(int argc, char **argv)
{
    static struct live live;
    struct rows base, queries;
    FILE *ids;
    struct memalloy_error err;
    if (argc < 5) stop("usage: bench_ann_store PHASE DATA STORE ROWS ...", NULL);
    size_t rows = (size_t)strtoull(argv[4], NULL, 10);
    if (strcmp(argv[1], "make") == 0) {
        base = rows_map(argv[2], "base", rows);
        make(&base, argv[3]);
        return 0;
    }
    if (argc < 7) stop("usage: bench_ann_store PHASE DATA STORE ROWS QUERIES IDS ...", NULL);
    queries = rows_map(argv[2], argv[5], 0);
    ids = fopen(argv[6], "wb");
    if (ids == NULL) stop(argv[6], NULL);
    if (strcmp(argv[1], "search") == 0) {
        search(&queries, argv[3], ids);
    } else {
        if (argc < 9) stop("usage: bench_ann_store live ... ADDED REMOVED", NULL);
        base = rows_map(argv[2], "base", 0);
        live.kernel = kernel_open(argv[3]);
        live.base = &base;
        live.queries = &queries;
        live.cpu = calloc(TIMES_MAX, sizeof(double));
        live.wall = calloc(TIMES_MAX, sizeof(double));
        if (live.cpu == NULL || live.wall == NULL) stop("memory", NULL);
        live_run(&live, rows, (size_t)strtoull(argv[7], NULL, 10),
                 (size_t)strtoull(argv[8], NULL, 10), ids);
        if (memalloy_close(live.kernel, &err) != 0) stop("close", &err);
        free(live.wall);
        free(live.cpu);
    }
    return fclose(ids) == 0 ? 0 : 1;
}
