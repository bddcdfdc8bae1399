/* What it costs to open a large store and to find the first rows in it.
 *
 * usage: bench_open make FOLDER CHUNKS CHUNKS_PER_DOCUMENT DIM [DELETE_EVERY [CHUNKS_PER_COMMIT]]
 *        bench_open open FOLDER CHUNKS CHUNKS_PER_DOCUMENT
 * make fills a new store in commits of some ten thousand rows; one document of DELETE_EVERY is
 * removed again. open is one opening, in a process of its own so that nothing is warm but the page
 * cache, and checks what it finds. Prints one line of JSON; private memory is what the system
 * counts as the process's own, before and after. */
#define _POSIX_C_SOURCE 200809L

#include "base/hash.h"
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHUNKS_PER_COMMIT 50000
#define CONTENT_BYTES 200

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static double cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static int fail(const struct mly_error *err)
{
    fprintf(stderr, "bench_open: %s\n", err->message);
    return 1;
}

/* What the system counts as the process's own, in KB; -1 where it does not say. clean: pages of
 * files that nobody else maps just now, which the system may drop at any time. */
struct own {
    long dirty, clean;
};

static struct own own_kb(void)
{
    FILE *stream = fopen("/proc/self/smaps_rollup", "r");
    char line[200];
    struct own own = {0, 0};
    if (stream == NULL) return (struct own){-1, -1};
    while (fgets(line, sizeof(line), stream) != NULL) {
        const char *colon = strchr(line, ':');
        if (colon == NULL) continue;
        if (strncmp(line, "Private_Clean", 13) == 0) own.clean += strtol(colon + 1, NULL, 10);
        if (strncmp(line, "Private_Dirty", 13) == 0) own.dirty += strtol(colon + 1, NULL, 10);
    }
    fclose(stream);
    return own;
}

/* ---- make ---- */

struct batch {
    struct mly_change *changes;
    struct mly_chunk_row *rows;
    char (*ids)[32];
    char (*paths)[64];
    float *vectors; /* f32[chunks of a document][dim]: all documents have the same */
    size_t documents, chunks_each;
};

static struct mly_str document_id(char out[32], size_t number)
{
    int bytes = snprintf(out, 32, "document-%08zu", number);
    return (struct mly_str){out, (size_t)bytes};
}

static void fill(struct batch *batch, size_t first, uint32_t dim)
{
    static const char content[CONTENT_BYTES + 1] =
        "Two hundred bytes stand for a passage of text, as it would be cut from a page: a sentence "
        "or two, a number, a name, and then some more of it, until a chunk is as long as this one "
        "is, give or take a wo";
    for (size_t i = 0; i < batch->documents; i++) {
        struct mly_document document = {0};
        document.id = document_id(batch->ids[i], first + i);
        int bytes = snprintf(batch->paths[i], 64, "/home/user/notes/%zu/%08zu.md",
                             (first + i) % 1000, first + i);
        document.path = (struct mly_str){batch->paths[i], (size_t)bytes};
        document.status = MLY_STR("ok");
        document.byte_count = (int64_t)(CONTENT_BYTES * batch->chunks_each);
        document.chunk_count = (int64_t)batch->chunks_each;
        batch->changes[i] = (struct mly_change){
            .kind = MLY_CHANGE_PUT,
            .document = document,
            .rows = batch->rows + i * batch->chunks_each,
            .row_count = batch->chunks_each,
            .dim = dim,
        };
        for (size_t c = 0; c < batch->chunks_each; c++) {
            struct mly_chunk_row *row = &batch->rows[i * batch->chunks_each + c];
            memset(row, 0, sizeof(*row));
            snprintf(row->id, sizeof(row->id), "%08x-0000-8000-8000-%012x", (unsigned)(first + i),
                     (unsigned)c);
            row->document_id = document.id;
            row->content = (struct mly_str){content, CONTENT_BYTES};
            row->ordinal = (int64_t)c;
            row->page_start = row->page_end = -1;
            row->vector = batch->vectors + c * dim;
        }
    }
}

static enum mly_err commit(struct mly_store *store, const struct mly_change *changes, size_t count,
                           struct mly_error *err)
{
    MLY_TRY(mly_store_begin(store, err));
    enum mly_err rc = mly_store_commit(store, changes, count, MLY_DURABILITY_OFF, err);
    enum mly_err end_rc = mly_store_end(store, rc == MLY_OK ? err : NULL);
    return rc != MLY_OK ? rc : end_rc;
}

static enum mly_err remove_some(struct mly_store *store, size_t documents, size_t every,
                                struct mly_error *err)
{
    size_t count = documents / every;
    struct mly_change *changes = calloc(count + 1, sizeof(*changes));
    char(*ids)[32] = calloc(count + 1, sizeof(*ids));
    if (changes == NULL || ids == NULL) abort();
    for (size_t i = 0; i < count; i++) {
        changes[i].kind = MLY_CHANGE_REMOVE;
        changes[i].document.id = document_id(ids[i], i * every + every - 1);
    }
    enum mly_err rc = MLY_OK;
    for (size_t i = 0; i < count && rc == MLY_OK; i += 5000) {
        rc = commit(store, changes + i, count - i < 5000 ? count - i : 5000, err);
    }
    free(ids);
    free(changes);
    return rc;
}

static int make(const char *folder, size_t chunks, size_t each, uint32_t dim, size_t every,
                size_t commit_chunks)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000, .dim = dim};
    size_t documents = chunks / each;
    size_t at_once = commit_chunks / each > 0 ? commit_chunks / each : 1;
    struct batch batch = {
        .changes = calloc(at_once, sizeof(*batch.changes)),
        .rows = calloc(at_once * each, sizeof(*batch.rows)),
        .ids = calloc(at_once, sizeof(*batch.ids)),
        .paths = calloc(at_once, sizeof(*batch.paths)),
        .vectors = calloc(each * dim, sizeof(float)),
        .chunks_each = each,
    };
    if (batch.changes == NULL || batch.rows == NULL || batch.ids == NULL || batch.paths == NULL ||
        batch.vectors == NULL) {
        abort();
    }
    for (size_t c = 0; c < each; c++)
        batch.vectors[c * dim + c % dim] = 1;
    double start = now_ms();
    enum mly_err rc = mly_store_open(mly_env_system(), folder, &options, &store, &err);
    for (size_t done = 0; done < documents && rc == MLY_OK; done += batch.documents) {
        batch.documents = documents - done < at_once ? documents - done : at_once;
        fill(&batch, done, dim);
        rc = commit(store, batch.changes, batch.documents, &err);
    }
    if (rc == MLY_OK && every > 0) rc = remove_some(store, documents, every, &err);
    enum mly_err close_rc = mly_store_close(store, rc == MLY_OK ? &err : NULL);
    free(batch.changes);
    free(batch.rows);
    free(batch.ids);
    free(batch.paths);
    free(batch.vectors);
    if (rc != MLY_OK || close_rc != MLY_OK) return fail(&err);
    printf("{\"made_s\": %.2f}\n", (now_ms() - start) * 1e-3);
    return 0;
}

/* ---- open ---- */

#define LOOKUPS 1000

struct times {
    double open_ms, open_cpu_ms, pin_ms, first_id_ms, first_path_ms, first_chunks_ms, id_us,
        chunks_us, close_ms;
    struct own before, open, lookup;
    uint64_t documents, chunks, found;
};

static enum mly_err look_up(const struct mly_snapshot *snapshot, struct mly_arena *arena,
                            size_t documents, struct times *times, struct mly_error *err)
{
    char id[32], path[64];
    struct mly_document document;
    size_t count;
    bool found = false;
    double start = now_ms();
    MLY_TRY(mly_snapshot_find_document(snapshot, document_id(id, documents / 3), arena, &document,
                                       &found, err));
    times->first_id_ms = now_ms() - start;
    times->found += found;
    start = now_ms();
    size_t number = documents / 3;
    int bytes = snprintf(path, 64, "/home/user/notes/%zu/%08zu.md", number % 1000, number);
    MLY_TRY(mly_snapshot_find_path(snapshot, (struct mly_str){path, (size_t)bytes}, arena,
                                   &document, &found, err));
    times->first_path_ms = now_ms() - start;
    times->found += found;
    start = now_ms();
    MLY_TRY(mly_snapshot_count_chunks(snapshot, document_id(id, documents / 3), &count, err));
    times->first_chunks_ms = now_ms() - start;
    times->found += count;
    start = now_ms();
    for (size_t i = 0; i < LOOKUPS; i++) {
        MLY_TRY(mly_snapshot_find_document(snapshot,
                                           document_id(id, i * 7919 % documents / 10 * 10), arena,
                                           &document, &found, err));
        times->found += found;
    }
    times->id_us = (now_ms() - start) * 1e3 / LOOKUPS;
    start = now_ms();
    for (size_t i = 0; i < LOOKUPS; i++) {
        MLY_TRY(mly_snapshot_count_chunks(snapshot, document_id(id, i * 7919 % documents / 10 * 10),
                                          &count, err));
        times->found += count;
    }
    times->chunks_us = (now_ms() - start) * 1e3 / LOOKUPS;
    return MLY_OK;
}

static int open_once(const char *folder, size_t chunks, size_t each)
{
    struct mly_error err = {0};
    struct mly_store *store = NULL;
    struct mly_snapshot *snapshot = NULL;
    struct mly_store_options options = {.lock_wait_ms = 1000, .read_only = true};
    struct mly_store_counts counts = {0};
    struct mly_mem mem = MLY_MEM_INIT;
    struct mly_arena arena;
    struct times times = {.before = own_kb()};
    mly_arena_init(&arena, &mem, (size_t)1 << 30);
    double start = now_ms();
    double cpu_start = cpu_ms();
    enum mly_err rc = mly_store_open(mly_env_system(), folder, &options, &store, &err);
    times.open_ms = now_ms() - start;
    times.open_cpu_ms = cpu_ms() - cpu_start;
    start = now_ms();
    if (rc == MLY_OK) rc = mly_store_pin(store, &snapshot, &err);
    if (rc == MLY_OK) mly_snapshot_get_counts(snapshot, &counts);
    times.pin_ms = now_ms() - start;
    times.open = own_kb();
    if (rc == MLY_OK) rc = look_up(snapshot, &arena, chunks / each, &times, &err);
    times.lookup = own_kb();
    mly_snapshot_release(snapshot);
    start = now_ms();
    enum mly_err close_rc = mly_store_close(store, rc == MLY_OK ? &err : NULL);
    times.close_ms = now_ms() - start;
    mly_arena_deinit(&arena);
    if (rc != MLY_OK || close_rc != MLY_OK) return fail(&err);
    printf(
        "{\"open_ms\": %.3f, \"open_cpu_ms\": %.3f, \"pin_count_ms\": %.3f, \"first_id_ms\": %.3f, "
        "\"first_path_ms\": %.3f, \"first_chunks_ms\": %.3f, \"id_us\": %.2f, "
        "\"chunks_us\": %.2f, \"close_ms\": %.3f, ",
        times.open_ms, times.open_cpu_ms, times.pin_ms, times.first_id_ms, times.first_path_ms,
        times.first_chunks_ms, times.id_us, times.chunks_us, times.close_ms);
    printf("\"own_kb\": %ld, \"own_files_kb\": %ld, \"own_after_kb\": %ld, "
           "\"own_files_after_kb\": %ld, ",
           times.open.dirty - times.before.dirty, times.open.clean - times.before.clean,
           times.lookup.dirty - times.before.dirty, times.lookup.clean - times.before.clean);
    printf("\"documents\": %llu, \"chunks\": %llu, \"fragments\": [%llu, %llu], "
           "\"found\": %llu}\n",
           (unsigned long long)counts.documents, (unsigned long long)counts.chunks,
           (unsigned long long)counts.documents_fragments,
           (unsigned long long)counts.chunks_fragments, (unsigned long long)times.found);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 6 && strcmp(argv[1], "make") == 0) {
        return make(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10),
                    (uint32_t)strtoul(argv[5], NULL, 10), argc > 6 ? strtoul(argv[6], NULL, 10) : 0,
                    argc > 7 ? strtoul(argv[7], NULL, 10) : CHUNKS_PER_COMMIT);
    }
    if (argc == 5 && strcmp(argv[1], "open") == 0) {
        return open_once(argv[2], strtoul(argv[3], NULL, 10), strtoul(argv[4], NULL, 10));
    }
    fprintf(stderr, "usage: bench_open make FOLDER CHUNKS CHUNKS_PER_DOCUMENT DIM "
                    "[DELETE_EVERY [CHUNKS_PER_COMMIT]]\n"
                    "       bench_open open FOLDER CHUNKS CHUNKS_PER_DOCUMENT\n");
    return 2;
}
