/* Our side of bench_ann.py: a segment of index/ over the vectors of a file, searched as stores do
 * it, with final scores by the vectors themselves.
 *
 * usage: bench_ann build DATA INDEX ROWS [THREADS]
 *        bench_ann cold|each|search|select DATA INDEX ROWS QUERIES IDS SETTING...
 * DATA has base.f32 and QUERIES.f32; INDEX is a folder; IDS takes the rows found, i32[settings]
 * [queries][10], -1 where there are fewer. A setting is RECALL, or RECALL:PROBES:POOL:GAP.
 * cold: open and first queries with nothing in the page cache; each: nothing before every query;
 * select: parts of the rows, the first setting only. Prints a line of JSON for every measurement.
 * Each query goes in three times, its least time counts; CPU time is the thread's. */
#define _DEFAULT_SOURCE

#include "index/vindex.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DIM 384u
#define K 10u
#define FILE_ROWS 50000u /* of a data file, as a bulk load makes them */
#define FILES_MAX 64u
#define ROUNDS 3
#define COLD 20u
#define PATH_BYTES 600

static const struct mly_env *env;
static const struct mly_kern *kern;

struct rows {
    const float *values; /* f32[count][DIM], mapped */
    size_t count;
    int fd;
};

struct bench {
    struct rows base, queries;
    const char *index;
    struct mly_vindex *segment;
    struct mly_vindex_part parts[FILES_MAX];
    size_t part_count;
    FILE *ids;
};

static void stop(const char *what, const struct mly_error *err)
{
    fprintf(stderr, "bench_ann: %s%s%s\n", what, err != NULL ? ": " : "",
            err != NULL ? err->message : "");
    exit(1);
}

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* What this process had to read from disks, readahead included. */
static double disk_kb(void)
{
    char line[200];
    double bytes = 0;
    FILE *stream = fopen("/proc/self/io", "r");
    if (stream == NULL) return 0;
    while (fgets(line, sizeof(line), stream) != NULL) {
        if (strncmp(line, "read_bytes:", 11) == 0) bytes = strtod(line + 11, NULL);
    }
    fclose(stream);
    return bytes / 1024;
}

/* In MB: what the process cannot give back, and pages of files. */
struct memory {
    double own, files;
};

static struct memory memory_now(void)
{
    struct memory memory = {0, 0};
    char line[200];
    FILE *stream = fopen("/proc/self/status", "r");
    if (stream == NULL) return memory;
    while (fgets(line, sizeof(line), stream) != NULL) {
        if (strncmp(line, "RssAnon:", 8) == 0) memory.own = strtod(line + 8, NULL) / 1024;
        if (strncmp(line, "RssFile:", 8) == 0) memory.files = strtod(line + 8, NULL) / 1024;
    }
    fclose(stream);
    return memory;
}

static struct rows rows_map(const char *folder, const char *name, size_t count)
{
    char path[PATH_BYTES];
    struct stat info;
    struct rows rows = {NULL, count, -1};
    snprintf(path, sizeof(path), "%s/%s.f32", folder, name);
    rows.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (rows.fd < 0 || fstat(rows.fd, &info) != 0) stop(path, NULL);
    size_t there = (size_t)info.st_size / (DIM * sizeof(float));
    if (count == 0) rows.count = there;
    if (rows.count == 0 || rows.count > there) stop("too few rows", NULL);
    void *map = mmap(NULL, rows.count * DIM * sizeof(float), PROT_READ, MAP_SHARED, rows.fd, 0);
    if (map == MAP_FAILED) stop(path, NULL);
    rows.values = map;
    return rows;
}

/* Out of this process and out of the page cache. */
static void rows_evict(const struct rows *rows)
{
    madvise((void *)(uintptr_t)rows->values, rows->count * DIM * sizeof(float), MADV_DONTNEED);
    posix_fadvise(rows->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- build ---- */

static enum mly_err rows_give(void *context, size_t file_i, uint32_t row_first,
                              struct mly_vindex_rows *out, struct mly_error *err)
{
    const struct rows *base = context;
    size_t first = file_i * FILE_ROWS, end = first + FILE_ROWS;
    (void)err;
    if (end > base->count) end = base->count;
    *out = (struct mly_vindex_rows){base->values + (first + row_first) * DIM, NULL,
                                    end - first - row_first};
    return MLY_OK;
}

static size_t files_name(size_t row_count, char names[][24], struct mly_vindex_file *files)
{
    size_t count = 0;
    for (size_t first = 0; first < row_count; first += FILE_ROWS, count++) {
        size_t rows = row_count - first < FILE_ROWS ? row_count - first : FILE_ROWS;
        if (count == FILES_MAX) stop("too many rows", NULL);
        int bytes = snprintf(names[count], 24, "bench-%03zu.lance", count);
        files[count].name = (struct mly_str){names[count], (size_t)bytes};
        files[count].row_count = (uint32_t)rows;
    }
    return count;
}

/* The segment's name, for later calls. */
static void name_path(const char *index, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/segment", index);
}

static void build(struct bench *bench, uint32_t threads)
{
    char names[FILES_MAX][24], name[MLY_VINDEX_SEGMENT_NAME_BYTES], path[PATH_BYTES];
    struct mly_vindex_file files[FILES_MAX];
    struct mly_error err;
    struct mly_pool *pool = NULL;
    struct rusage usage;
    size_t file_count = files_name(bench->base.count, names, files);
    if (mkdir(bench->index, 0700) != 0 && access(bench->index, W_OK) != 0) stop("mkdir", NULL);
    if (mly_pool_create(env, threads, &pool, &err) != MLY_OK) stop("pool", &err);
    struct mly_vindex_maker maker = {.env = env,
                                     .kern = kern,
                                     .pool = pool,
                                     .folder = bench->index,
                                     .metric = MLY_VINDEX_COSINE,
                                     .dim = DIM,
                                     .rows = rows_give,
                                     .rows_context = &bench->base};
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
    if (mly_vindex_build(&maker, files, file_count, name, &err) != MLY_OK) stop("build", &err);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    mly_pool_destroy(pool);
    getrusage(RUSAGE_SELF, &usage);
    name_path(bench->index, path);
    FILE *stream = fopen(path, "w");
    if (stream == NULL) stop(path, NULL);
    fputs(name, stream);
    fclose(stream);
    struct mly_vindex *segment;
    struct mly_vindex_info info;
    if (mly_vindex_open(env, kern, bench->index, name, &segment, &err) != MLY_OK) {
        stop("open", &err);
    }
    mly_vindex_get_info(segment, &info);
    double each = (double)(info.segment_bytes + info.record_bytes) / (double)bench->base.count;
    printf("{\"phase\": \"build\", \"cpu_s\": %.1f, \"wall_s\": %.1f, \"peak_mb\": %.0f, "
           "\"own_mb\": %.0f, \"bytes_per_vector\": %.1f, \"total_bytes_per_vector\": %.1f, "
           "\"cells\": %zu, \"postings\": %" PRIu64 "}\n",
           cpu, wall, (double)usage.ru_maxrss / 1024, memory_now().own, each,
           each + DIM * sizeof(float), info.cell_count, info.posting_count);
    mly_vindex_close(segment);
}

/* ---- search ---- */

static void segment_open(struct bench *bench)
{
    char path[PATH_BYTES], name[MLY_VINDEX_SEGMENT_NAME_BYTES] = "";
    struct mly_error err;
    name_path(bench->index, path);
    FILE *stream = fopen(path, "r");
    if (stream == NULL || fgets(name, sizeof(name), stream) == NULL) stop(path, NULL);
    fclose(stream);
    if (mly_vindex_open(env, kern, bench->index, name, &bench->segment, &err) != MLY_OK) {
        stop("open", &err);
    }
    struct mly_vindex_info info;
    mly_vindex_get_info(bench->segment, &info);
    bench->part_count = info.file_count;
    for (size_t i = 0; i < info.file_count && i < FILES_MAX; i++) {
        bench->parts[i] =
            (struct mly_vindex_part){.is_present = true, .first_address = i * FILE_ROWS};
    }
}

static enum mly_err vector_give(void *context, const struct mly_vindex_part *part, uint32_t row,
                                const float **out, struct mly_error *err)
{
    const struct bench *bench = context;
    (void)err;
    *out = bench->base.values + (part->first_address + row) * DIM;
    return MLY_OK;
}

struct setting {
    const char *text;
    float recall, gap;
    uint32_t probes, pool;
};

static struct setting setting_of(const char *text)
{
    struct setting setting = {.text = text};
    char *end;
    setting.recall = strtof(text, &end);
    if (*end == ':') setting.probes = (uint32_t)strtoul(end + 1, &end, 10);
    if (*end == ':') setting.pool = (uint32_t)strtoul(end + 1, &end, 10);
    if (*end == ':') setting.gap = strtof(end + 1, &end);
    return setting;
}

static size_t query_run(struct bench *bench, struct mly_vindex_room *room,
                        const struct setting *setting, size_t query_i, int32_t out[K],
                        struct mly_vindex_stats *stats)
{
    const struct mly_match *found;
    size_t count;
    struct mly_error err;
    struct mly_vindex_source source = {bench->segment, bench->parts};
    struct mly_vindex_ask ask = {.query = bench->queries.values + query_i * DIM,
                                 .dim = DIM,
                                 .k = K,
                                 .recall = setting->recall,
                                 .vector = vector_give,
                                 .vector_context = bench,
                                 .probes_max = setting->probes,
                                 .pool = setting->pool,
                                 .gap = setting->gap};
    if (mly_vindex_search(room, &source, 1, &ask, &found, &count, stats, &err) != MLY_OK) {
        stop("search", &err);
    }
    if (out != NULL) {
        for (size_t i = 0; i < K; i++)
            out[i] = i < count ? (int32_t)found[i].row_address : -1;
    }
    return count;
}

static struct mly_vindex_room *room_make(void)
{
    struct mly_vindex_room *room;
    struct mly_error err;
    if (mly_vindex_room_create(env, &room, &err) != MLY_OK) stop("room", &err);
    return room;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double q)
{
    qsort(values, count, sizeof(*values), by_value);
    return values[(size_t)(q * (double)(count - 1) + 0.5)];
}

/* Means over queries of what searches did. */
struct sums {
    double cells, codes, records, vectors, kb, rank, scan, record, vector;
};

static void sums_add(struct sums *sums, const struct mly_vindex_stats *stats)
{
    sums->cells += (double)stats->cells_read;
    sums->codes += (double)stats->codes_read;
    sums->records += (double)stats->records_read;
    sums->vectors += (double)stats->vectors_read;
    sums->kb += (double)stats->bytes_read / 1024;
    sums->rank += stats->rank_seconds;
    sums->scan += stats->scan_seconds;
    sums->record += stats->record_seconds;
    sums->vector += stats->vector_seconds;
}

static void sums_print(const struct sums *sums, double n)
{
    printf("\"cells\": %.1f, \"codes\": %.0f, \"records\": %.1f, \"vectors\": %.1f, \"kb\": %.0f, "
           "\"rank_us\": %.1f, \"scan_us\": %.1f, \"record_us\": %.1f, \"vector_us\": %.1f",
           sums->cells / n, sums->codes / n, sums->records / n, sums->vectors / n, sums->kb / n,
           sums->rank / n * 1e6, sums->scan / n * 1e6, sums->record / n * 1e6,
           sums->vector / n * 1e6);
}

/* Queries a second of two threads; each takes every other query. */
struct runner {
    struct bench *bench;
    const struct setting *setting;
    size_t first;
    double end;
    size_t done;
};

static void *runner_run(void *argument)
{
    struct runner *runner = argument;
    struct mly_vindex_room *room = room_make();
    for (size_t i = runner->first; seconds(CLOCK_MONOTONIC) < runner->end; i += 2, runner->done++) {
        query_run(runner->bench, room, runner->setting, i % runner->bench->queries.count, NULL,
                  NULL);
    }
    mly_vindex_room_destroy(room);
    return NULL;
}

static double pair_rate(struct bench *bench, const struct setting *setting, double duration)
{
    struct runner runners[2];
    pthread_t threads[2];
    double begun = seconds(CLOCK_MONOTONIC);
    for (size_t i = 0; i < 2; i++) {
        runners[i] = (struct runner){bench, setting, i, begun + duration, 0};
        if (pthread_create(&threads[i], NULL, runner_run, &runners[i]) != 0) stop("thread", NULL);
    }
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return (double)(runners[0].done + runners[1].done) / (seconds(CLOCK_MONOTONIC) - begun);
}

/* Queries where all go in at once: for a CPU second of this thread, or a second of several. */
static double batch_rate(struct bench *bench, const struct setting *setting, uint32_t threads)
{
    struct mly_vindex_source source = {bench->segment, bench->parts};
    struct mly_vindex_ask ask = {.dim = DIM,
                                 .k = K,
                                 .recall = setting->recall,
                                 .vector = vector_give,
                                 .vector_context = bench,
                                 .probes_max = setting->probes,
                                 .pool = setting->pool,
                                 .gap = setting->gap};
    size_t count = bench->queries.count;
    struct mly_match *out = calloc(count * K, sizeof(*out));
    size_t *counts = calloc(count, sizeof(*counts));
    struct mly_pool *pool = NULL;
    struct mly_error err;
    clockid_t clock = threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
    double best = 0;
    if (out == NULL || counts == NULL) stop("memory", NULL);
    if (threads > 1 && mly_pool_create(env, threads, &pool, &err) != MLY_OK) stop("pool", &err);
    for (int round = 0; round < ROUNDS; round++) {
        double begun = seconds(clock);
        if (mly_vindex_search_many(env, pool, &source, 1, &ask, bench->queries.values, count, out,
                                   counts, NULL, &err) != MLY_OK) {
            stop("search of many", &err);
        }
        double rate = (double)count / (seconds(clock) - begun);
        if (rate > best) best = rate;
    }
    mly_pool_destroy(pool);
    free(counts);
    free(out);
    return best;
}

/* One setting over all queries: the ids written, times and work printed without the end. */
static void measure(struct bench *bench, struct mly_vindex_room *room,
                    const struct setting *setting, const char *phase)
{
    size_t count = bench->queries.count;
    double *wall = calloc(count, sizeof(*wall)), *cpu = calloc(count, sizeof(*cpu)), total = 0;
    struct sums sums = {0};
    if (wall == NULL || cpu == NULL) stop("memory", NULL);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < count; i++) {
            int32_t found[K];
            struct mly_vindex_stats stats;
            double cpu_begun = seconds(CLOCK_THREAD_CPUTIME_ID), begun = seconds(CLOCK_MONOTONIC);
            query_run(bench, room, setting, i, found, NULL);
            double took = seconds(CLOCK_MONOTONIC) - begun;
            double cpu_took = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu_begun;
            if (round == 0 || took < wall[i]) wall[i] = took;
            if (round == 0 || cpu_took < cpu[i]) cpu[i] = cpu_took;
            if (round > 0) continue;
            fwrite(found, sizeof(found), 1, bench->ids);
            memset(&stats, 0, sizeof(stats));
            query_run(bench, room, setting, i, NULL, &stats); /* apart: it reads clocks */
            sums_add(&sums, &stats);
        }
    }
    for (size_t i = 0; i < count; i++)
        total += wall[i];
    printf("{\"phase\": \"%s\", \"setting\": \"%s\", \"p50_ms\": %.5f, \"p99_ms\": %.5f, "
           "\"cpu_ms\": %.5f, \"qps1\": %.1f, ",
           phase, setting->text, quantile(wall, count, 0.5) * 1e3,
           quantile(wall, count, 0.99) * 1e3, quantile(cpu, count, 0.5) * 1e3,
           (double)count / total);
    sums_print(&sums, (double)count);
    free(cpu);
    free(wall);
}

static void search(struct bench *bench, const struct setting *settings, size_t count)
{
    struct memory before = memory_now(), after;
    segment_open(bench);
    struct mly_vindex_room *room = room_make();
    for (size_t i = 0; i < bench->queries.count; i++) {
        query_run(bench, room, &settings[0], i, NULL, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        measure(bench, room, &settings[i], "search");
        after = memory_now();
        double pair = pair_rate(bench, &settings[i], 1.5),
               again = pair_rate(bench, &settings[i], 1.5);
        printf(", \"qps2\": %.1f, \"batch1\": %.1f, \"batch2\": %.1f, \"private_mb\": %.2f, "
               "\"file_mb\": %.1f}\n",
               pair > again ? pair : again, batch_rate(bench, &settings[i], 1),
               batch_rate(bench, &settings[i], 2), after.own - before.own,
               after.files - before.files);
        fflush(stdout);
    }
    mly_vindex_room_destroy(room);
}

/* ---- cold ---- */

static void file_evict(const char *folder, const char *name)
{
    char path[PATH_BYTES * 2];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) stop(path, NULL);
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
}

/* The files of the index. What is mapped stays, so the segment must be closed. */
static void index_evict(const struct bench *bench)
{
    char command[PATH_BYTES * 2], name[PATH_BYTES];
    snprintf(command, sizeof(command), "find '%s' -type f", bench->index);
    FILE *stream = popen(command, "r");
    if (stream == NULL) stop("find", NULL);
    while (fgets(name, sizeof(name), stream) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        file_evict("", name);
    }
    pclose(stream);
}

/* Open and first queries, everything out of the page cache; then, of each, before every query. */
static void cold(struct bench *bench, const struct setting *setting, bool is_each)
{
    size_t count = is_each ? 100 : COLD;
    double times[100], opens[100], sum = 0, opened = 0, disk = disk_kb();
    struct memory before = memory_now(), after = before, worst = {0, 0};
    if (count > bench->queries.count) count = bench->queries.count;
    for (size_t i = 0; i < count; i++) {
        int32_t found[K];
        if (i == 0 || is_each) {
            mly_vindex_close(bench->segment);
            index_evict(bench);
            rows_evict(&bench->base);
            before = memory_now();
            double begun = seconds(CLOCK_MONOTONIC);
            segment_open(bench);
            opened = seconds(CLOCK_MONOTONIC) - begun;
        }
        struct mly_vindex_room *room = room_make();
        double begun = seconds(CLOCK_MONOTONIC);
        query_run(bench, room, setting, i, found, NULL);
        times[i] = seconds(CLOCK_MONOTONIC) - begun;
        opens[i] = opened;
        sum += times[i];
        fwrite(found, sizeof(found), 1, bench->ids);
        after = memory_now();
        if (after.own - before.own > worst.own) worst.own = after.own - before.own;
        if (after.files - before.files > worst.files) worst.files = after.files - before.files;
        mly_vindex_room_destroy(room);
    }
    double first = times[0], first_open = opens[0];
    printf("{\"phase\": \"%s\", \"setting\": \"%s\", \"open_ms\": %.3f, \"first_ms\": %.3f, "
           "\"mean_ms\": %.3f, \"p50_ms\": %.3f, \"open_p50_ms\": %.3f, \"disk_kb\": %.0f, "
           "\"private_mb\": %.2f, \"file_mb\": %.1f}\n",
           is_each ? "each" : "cold", setting->text, first_open * 1e3, first * 1e3,
           sum / (double)count * 1e3, quantile(times, count, 0.5) * 1e3,
           quantile(opens, count, 0.5) * 1e3, (disk_kb() - disk) / (double)count, worst.own,
           worst.files);
}

/* ---- selections ---- */

/* Row i passes where a mixed i falls below the share: no order that the cells could know. */
static bool is_allowed(size_t row, double share)
{
    uint64_t x = row * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 29)) * UINT64_C(0xbf58476d1ce4e5b9);
    return (double)(x >> 11) * 0x1p-53 < share;
}

static void select_parts(struct bench *bench, const struct setting *setting)
{
    static const double shares[] = {1, 0.5, 0.1, 0.01, 0.001};
    struct mly_vindex_room *room;
    uint8_t *bits = calloc(FILES_MAX, FILE_ROWS / 8);
    if (bits == NULL) stop("memory", NULL);
    segment_open(bench);
    room = room_make();
    for (size_t s = 0; s < sizeof(shares) / sizeof(*shares); s++) {
        uint64_t counts[FILES_MAX] = {0};
        memset(bits, 0, (size_t)FILES_MAX * FILE_ROWS / 8);
        for (size_t row = 0; row < bench->base.count; row++) {
            if (!is_allowed(row, shares[s])) continue;
            size_t at = row % FILE_ROWS;
            bits[row / FILE_ROWS * (FILE_ROWS / 8) + at / 8] |= (uint8_t)(1u << (at % 8));
            counts[row / FILE_ROWS]++;
        }
        for (size_t i = 0; i < bench->part_count; i++) {
            bench->parts[i].allowed = s == 0 ? NULL : bits + i * (FILE_ROWS / 8);
            bench->parts[i].allowed_count = counts[i];
        }
        measure(bench, room, setting, "select");
        printf(", \"share\": %g}\n", shares[s]);
        fflush(stdout);
    }
    mly_vindex_room_destroy(room);
    free(bits);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct setting settings[32];
    size_t setting_count = 0;
    if (argc < 5) stop("usage: bench_ann PHASE DATA INDEX ROWS ...", NULL);
    env = mly_env_system();
    kern = mly_kern_pick(getenv("BENCH_ANN_KERNELS"));
    if (kern == NULL) stop("no such kernels", NULL);
    bench.base = rows_map(argv[2], "base", (size_t)strtoull(argv[4], NULL, 10));
    bench.index = argv[3];
    if (strcmp(argv[1], "build") == 0) {
        build(&bench, argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 0);
        return 0;
    }
    if (argc < 8) stop("usage: bench_ann PHASE DATA INDEX ROWS QUERIES IDS SETTING...", NULL);
    bench.queries = rows_map(argv[2], argv[5], 0);
    bench.ids = fopen(argv[6], "wb");
    if (bench.ids == NULL) stop(argv[6], NULL);
    for (int i = 7; i < argc && setting_count < 32; i++) {
        settings[setting_count++] = setting_of(argv[i]);
    }
    if (strcmp(argv[1], "search") == 0)
        search(&bench, settings, setting_count);
    else if (strcmp(argv[1], "select") == 0)
        select_parts(&bench, &settings[0]);
    else
        cold(&bench, &settings[0], strcmp(argv[1], "each") == 0);
    mly_vindex_close(bench.segment);
    return fclose(bench.ids) == 0 ? 0 : 1;
}
