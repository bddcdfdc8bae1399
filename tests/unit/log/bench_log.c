/* How fast the log is: appends at each durability with one and eight writers beside bare appends
 * and syncs of the same bytes to the same disk, and what reading it back takes.
 *
 *     bench_log FOLDER [SECONDS]
 */
#include "kern/crc32c.h"
#include "log/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_BYTES ((size_t)2048) /* a short text and a vector of 384 numbers */
#define WRITERS_MAX 8
#define SAMPLES ((size_t)1 << 20)

static const struct mly_env *env;
static double seconds = 2.0;
static uint64_t newest; /* what the log ended with */

static void need(enum mly_err rc, const struct mly_error *err)
{
    if (rc == MLY_OK) return;
    fprintf(stderr, "%s\n", err->message);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;
    return (left > right) - (left < right);
}

struct writer {
    struct mly_log *log;
    enum mly_durability durability;
    double end;
    double *took;
    size_t count;
};

static void *write_until(void *argument)
{
    struct writer *writer = argument;
    uint8_t payload[RECORD_BYTES];
    memset(payload, 0x5a, sizeof(payload));
    struct mly_log_entry entry = {.type = 1, .payload = {(const char *)payload, sizeof(payload)}};
    for (;;) {
        struct mly_error err = {0};
        uint64_t lsn;
        double start = mly_clock_seconds(env);
        if (start >= writer->end || writer->count == SAMPLES) return NULL;
        need(mly_log_append(writer->log, &entry, 1, writer->durability, &lsn, &err), &err);
        writer->took[writer->count++] = mly_clock_seconds(env) - start;
        if (lsn % 4096 == 0) need(mly_log_retire(writer->log, lsn - 1, &err), &err);
    }
}

static void print_line(const char *what, double *took, size_t count, double spent)
{
    qsort(took, count, sizeof(took[0]), compare);
    printf("%-34s %9.0f /s   p50 %8.1f us   p99 %8.1f us\n", what, (double)count / spent,
           took[count / 2] * 1e6, took[count * 99 / 100] * 1e6);
}

static void bench_writers(const char *dir, int writer_count, enum mly_durability durability,
                          const char *what)
{
    struct mly_error err = {0};
    struct mly_log_options options = {.from_lsn = newest};
    struct mly_log *log = NULL;
    struct writer writers[WRITERS_MAX];
    pthread_t threads[WRITERS_MAX];
    struct mly_log_status status;
    static double all[SAMPLES * WRITERS_MAX];
    size_t count = 0;
    need(mly_log_open(env, dir, &options, &log, NULL, &err), &err);
    double start = mly_clock_seconds(env);
    for (int i = 0; i < writer_count; i++) {
        writers[i] = (struct writer){log, durability, start + seconds, NULL, 0};
        writers[i].took = malloc(SAMPLES * sizeof(double));
        if (writers[i].took == NULL) exit(1);
        if (pthread_create(&threads[i], NULL, write_until, &writers[i]) != 0) exit(1);
    }
    for (int i = 0; i < writer_count; i++) {
        pthread_join(threads[i], NULL);
        memcpy(all + count, writers[i].took, writers[i].count * sizeof(double));
        count += writers[i].count;
        free(writers[i].took);
    }
    double spent = mly_clock_seconds(env) - start;
    mly_log_get_status(log, &status);
    print_line(what, all, count, spent);
    printf("%-34s %9.2f records a sync\n", "", (double)count / (double)status.syncs);
    newest = status.last_lsn;
    need(mly_log_retire(log, newest, &err), &err);
    need(mly_log_close(log, &err), &err);
}

/* What the disk does by itself: one preallocated file, append and sync, nothing else. */
static void bench_bare(const char *dir)
{
    struct mly_error err = {0};
    struct mly_file file;
    char path[4096];
    uint8_t payload[RECORD_BYTES + 64];
    static double took[SAMPLES];
    size_t count = 0;
    memset(payload, 0x5a, sizeof(payload));
    snprintf(path, sizeof(path), "%s/bare", dir);
    need(mly_file_open(env, MLY_AT_CWD, path, MLY_OPEN_WRITE | MLY_OPEN_CREATE, &file, &err), &err);
    need(mly_file_allocate(&file, 0, (uint64_t)256 << 20, &err), &err);
    need(mly_file_sync(&file, &err), &err);
    double begin = mly_clock_seconds(env);
    double start = begin;
    for (; start < begin + seconds && count < 60000; count++) {
        need(mly_file_write(&file, payload, sizeof(payload), count * 4096, &err), &err);
        need(mly_file_sync(&file, &err), &err);
        double now = mly_clock_seconds(env);
        took[count] = now - start;
        start = now;
    }
    print_line("bare append and fdatasync", took, count, start - begin);
    mly_file_close(&file);
    need(mly_file_unlink(env, MLY_AT_CWD, path, &err), &err);
}

static void bench_recovery(const char *dir, size_t records, size_t bytes)
{
    struct mly_error err = {0};
    struct mly_log_options options = {.from_lsn = newest};
    struct mly_log *log = NULL;
    struct mly_log_report report;
    uint64_t lsn = 0;
    uint8_t *payload = malloc(bytes);
    if (payload == NULL) exit(1);
    memset(payload, 0x5a, bytes);
    struct mly_log_entry entry = {.type = 1, .payload = {(const char *)payload, bytes}};
    need(mly_log_open(env, dir, &options, &log, &report, &err), &err);
    for (size_t i = 0; i < records; i++)
        need(mly_log_append(log, &entry, 1, MLY_DURABILITY_OFF, &lsn, &err), &err);
    need(mly_log_close(log, &err), &err);
    double best = 1e9;
    for (int i = 0; i < 5; i++) {
        double start = mly_clock_seconds(env);
        need(mly_log_open(env, dir, &options, &log, &report, &err), &err);
        double spent = mly_clock_seconds(env) - start;
        if (spent < best) best = spent;
        if (i == 4) need(mly_log_retire(log, lsn, &err), &err);
        need(mly_log_close(log, &err), &err);
    }
    printf("recovery of %6llu records of %6zu  %7.2f ms   %8.0f MB/s   %9.0f records/s\n",
           (unsigned long long)report.records, bytes, best * 1e3,
           (double)(report.records * bytes) / best / 1e6, (double)report.records / best);
    newest = lsn;
    free(payload);
}

static void bench_sums(void)
{
    size_t bytes = (size_t)8 << 20;
    uint8_t *data = malloc(bytes);
    if (data == NULL) exit(1);
    memset(data, 0x37, bytes);
    const mly_crc32c_fn fns[] = {mly_crc32c_pick(), mly_crc32c_scalar};
    uint32_t sum = 0;
    for (int which = 0; which < 2; which++) {
        double best = 1e9;
        for (int i = 0; i < 5; i++) {
            double start = mly_clock_seconds(env);
            sum += fns[which](0, data, bytes);
            double spent = mly_clock_seconds(env) - start;
            if (spent < best) best = spent;
        }
        printf("crc32c, %-7s %29.1f GB/s\n", which == 0 ? "fast" : "tables",
               (double)bytes / best / 1e9);
    }
    if (sum == 1) printf("\n");
    free(data);
}

int main(int argc, char **argv)
{
    char dir[2048];
    if (argc < 2) {
        fprintf(stderr, "bench_log FOLDER [SECONDS]\n");
        return 2;
    }
    env = mly_env_system();
    if (argc > 2) seconds = strtod(argv[2], NULL);
    snprintf(dir, sizeof(dir), "%s/wal", argv[1]);
    for (int i = 0; i < 4; i++) {
        /* By turns: disks have moods. */
        bench_bare(argv[1]);
        bench_writers(dir, 1, MLY_DURABILITY_FULL, "1 writer, full");
    }
    bench_writers(dir, 8, MLY_DURABILITY_FULL, "8 writers, full");
    bench_writers(dir, 1, MLY_DURABILITY_NORMAL, "1 writer, normal");
    bench_writers(dir, 8, MLY_DURABILITY_NORMAL, "8 writers, normal");
    bench_writers(dir, 1, MLY_DURABILITY_OFF, "1 writer, off");
    bench_recovery(dir, 4000, RECORD_BYTES);
    bench_recovery(dir, 8, (size_t)1 << 20);
    bench_sums();
    return 0;
}
