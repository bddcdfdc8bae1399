/* Every byte of a small store with one bit flipped: what is read then is right or an error, never
 * wrong, and nothing crashes or hangs. Of a store that was closed, and of one whose writer was
 * killed. */
#define _GNU_SOURCE
#include "driver_int.h"

#include "mly_cmocka.h"
#include "temp_dir.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OPERATIONS 6
#define TEXT_BYTES_MAX 400
#define HANG_SECONDS 60
#define FILES_MAX 200
/* Of room that was taken beforehand and never written, one byte in so many. */
#define EMPTY_STEP 65536

struct place {
    char path[PATH_MAX];
    off_t bytes, used; /* used: up to the last byte that is not 0 */
};

static struct place places[FILES_MAX];
static size_t place_count;

static int find_file(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)where;
    if (kind != FTW_F || info->st_size == 0) return 0;
    assert_true(place_count < FILES_MAX);
    struct place *place = &places[place_count++];
    (void)snprintf(place->path, sizeof(place->path), "%s", path);
    place->bytes = info->st_size;
    place->used = 0;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    for (off_t i = 0; i < info->st_size; i++)
        if (fgetc(file) != 0) place->used = i + 1;
    (void)fclose(file);
    return 0;
}

/* ---- what is read ---- */

enum verdict { RIGHT, AN_ERROR, WRONG };

struct reading {
    const struct driver_writer *writer;
    size_t documents;
    double scores[DRIVER_DOCUMENTS]; /* of each vector with itself, before any damage; 0: unknown */
    char why[DRIVER_WHY_BYTES];
};

__attribute__((format(printf, 2, 3))) static enum verdict wrong(struct reading *reading,
                                                                const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reading->why, sizeof(reading->why), format, arguments);
    va_end(arguments);
    return WRONG;
}

static enum verdict check_listing(memalloy_kernel *kernel, struct reading *reading)
{
    memalloy_documents *documents = NULL;
    enum verdict verdict = RIGHT;
    uint64_t count = 0;
    if (memalloy_list_documents(kernel, 0, (struct memalloy_str){NULL, 0}, &documents, NULL) !=
        MEMALLOY_OK) {
        return AN_ERROR;
    }
    if (memalloy_documents_count(documents) != reading->documents) {
        verdict = wrong(reading, "%zu documents of %zu", memalloy_documents_count(documents),
                        reading->documents);
    }
    for (size_t i = 0; verdict == RIGHT && i < reading->documents; i++) {
        struct memalloy_document document = {.struct_bytes = sizeof(document)};
        struct driver_entry entry;
        uint32_t writer = 0, number = 0;
        char metadata[DRIVER_METADATA_BYTES];
        memalloy_documents_get(documents, i, &document);
        if (!driver_parse_id(document.id, &writer, &number) ||
            !driver_parse_metadata(document.metadata, &entry)) {
            verdict = wrong(reading, "%s with %s", document.id.data, document.metadata.data);
            break;
        }
        driver_metadata(reading->writer->entries[number], metadata);
        if (strcmp(metadata, document.metadata.data) != 0) {
            verdict = wrong(reading, "%s has %s", document.id.data, document.metadata.data);
        }
    }
    memalloy_documents_destroy(documents);
    if (verdict == RIGHT && memalloy_count(kernel, &count, NULL) != MEMALLOY_OK) return AN_ERROR;
    return verdict == RIGHT && count != reading->documents ? wrong(reading, "the count") : verdict;
}

static enum verdict check_text(memalloy_kernel *kernel, uint32_t number, struct reading *reading)
{
    struct driver_entry entry = reading->writer->entries[number];
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    memalloy_documents *documents = NULL;
    char id[DRIVER_ID_BYTES];
    size_t bytes;
    enum verdict verdict = RIGHT;
    driver_id(0, number, id);
    int rc = memalloy_get_document(kernel, (struct memalloy_str){id, strlen(id)}, &documents, NULL);
    if (rc == MEMALLOY_ERR_NOTFOUND) {
        return entry.text == 0 ? RIGHT : wrong(reading, "%s is not found", id);
    }
    if (rc != MEMALLOY_OK) return AN_ERROR;
    char *text = driver_text(0, number, entry, &bytes);
    memalloy_documents_get(documents, 0, &document);
    if (entry.text == 0) {
        verdict = wrong(reading, "%s is there", id);
    } else if (document.altered != 0) {
        verdict = AN_ERROR; /* it says so */
    } else if (document.content.bytes != bytes || memcmp(document.content.data, text, bytes) != 0) {
        verdict = wrong(reading, "%s has another text", id);
    }
    free(text);
    memalloy_documents_destroy(documents);
    return verdict;
}

static enum verdict check_passages(const memalloy_hits *hits, struct reading *reading)
{
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    enum verdict verdict = RIGHT;
    for (size_t i = 0; verdict == RIGHT && i < memalloy_hits_count(hits); i++) {
        uint32_t writer = 0, found = 0;
        size_t bytes;
        memalloy_hits_get(hits, i, &hit);
        if (!driver_parse_id(hit.document_id, &writer, &found)) {
            verdict = wrong(reading, "a hit in %s", hit.document_id.data);
            break;
        }
        char *text = driver_text(0, found, reading->writer->entries[found], &bytes);
        if (hit.byte_start < 0 || hit.byte_end < hit.byte_start || (size_t)hit.byte_end > bytes ||
            hit.content.bytes != (size_t)(hit.byte_end - hit.byte_start) ||
            memcmp(text + hit.byte_start, hit.content.data, hit.content.bytes) != 0) {
            verdict = wrong(reading, "a passage of %s is another", hit.document_id.data);
        }
        free(text);
    }
    return verdict;
}

static enum verdict check_search(memalloy_kernel *kernel, uint32_t number, struct reading *reading)
{
    struct driver_entry entry = reading->writer->entries[number];
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = 100};
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    memalloy_hits *hits = NULL;
    float vector[DRIVER_DIM];
    char id[DRIVER_ID_BYTES];
    enum verdict verdict = RIGHT;
    driver_id(0, number, id);
    driver_vector(0, number, entry.text, vector);
    if (memalloy_search_vector(kernel, vector, DRIVER_DIM, &options, &hits, NULL) != MEMALLOY_OK) {
        return AN_ERROR;
    }
    if (memalloy_hits_count(hits) == 0) {
        verdict = wrong(reading, "nothing is found");
    } else {
        memalloy_hits_get(hits, 0, &hit);
        if (reading->scores[number] == 0 && fabs(hit.score - 1.0) < 1e-6) {
            reading->scores[number] = hit.score;
        }
        if (hit.document_id.data == NULL || strcmp(hit.document_id.data, id) != 0 ||
            hit.score != reading->scores[number]) {
            verdict = wrong(reading, "the vector of %s finds %s with %.9f", id,
                            hit.document_id.data, hit.score);
        }
    }
    if (verdict == RIGHT) verdict = check_passages(hits, reading);
    memalloy_hits_destroy(hits);
    return verdict;
}

static enum verdict read_all(struct reading *reading)
{
    memalloy_kernel *kernel = NULL;
    struct memalloy_options options = {.struct_bytes = sizeof(options),
                                       .flags = MEMALLOY_OPEN_READONLY | MEMALLOY_OPEN_NO_MODEL};
    if (memalloy_open(&kernel, driver_folder, &options, NULL) != MEMALLOY_OK) return AN_ERROR;
    enum verdict worst = check_listing(kernel, reading);
    for (uint32_t i = 0; worst != WRONG && i < DRIVER_DOCUMENTS; i++) {
        enum verdict verdict = check_text(kernel, i, reading);
        if (verdict > worst) worst = verdict;
        if (worst == WRONG || !reading->writer->entries[i].has_vector) continue;
        verdict = check_search(kernel, i, reading);
        if (verdict > worst) worst = verdict;
    }
    (void)memalloy_close(kernel, NULL);
    return worst;
}

/* ---- damage ---- */

struct tally {
    uint64_t flips, errors, harmless, torn, wrong;
};

/* The newest record of a log is not known to be durable by any other: damage to it looks as if its
 * writer had been cut off, and it is dropped. */
static bool is_torn(const struct place *place, const struct reading *reading)
{
    struct driver_writer before = {.seed = reading->writer->seed};
    if (strstr(place->path, "/wal/") == NULL) return false;
    driver_advance_to(&before, OPERATIONS - 1);
    struct reading other = {.writer = &before};
    for (size_t i = 0; i < DRIVER_DOCUMENTS; i++)
        other.documents += before.entries[i].text != 0;
    memcpy(other.scores, reading->scores, sizeof(other.scores));
    return read_all(&other) == RIGHT;
}

static void flip(const struct place *place, off_t at, unsigned bit, struct reading *reading,
                 struct tally *tally)
{
    uint8_t byte;
    int fd = open(place->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    alarm(HANG_SECONDS);
    enum verdict verdict = read_all(reading);
    bool torn = verdict == WRONG && is_torn(place, reading);
    alarm(0);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    tally->flips++;
    tally->errors += verdict == AN_ERROR;
    tally->harmless += verdict == RIGHT;
    tally->torn += torn;
    if (verdict != WRONG || torn) return;
    if (tally->wrong++ < 20) {
        print_message("%s, byte %lld of %lld, bit %u: %s\n", place->path + strlen(driver_folder),
                      (long long)at, (long long)place->bytes, bit, reading->why);
    }
}

static void flip_all(const struct driver_writer *writer, const char *what)
{
    struct reading reading = {.writer = writer};
    struct tally tally = {0};
    const char *given = getenv("MLY_TEST_STEP"); /* one byte in so many, for a quick look */
    off_t step = given != NULL ? strtoll(given, NULL, 10) : 1;
    uint64_t random = driver_seed() * 2 + 1;
    for (size_t i = 0; i < DRIVER_DOCUMENTS; i++)
        reading.documents += writer->entries[i].text != 0;
    assert_int_equal(read_all(&reading), RIGHT);
    place_count = 0;
    nftw(driver_folder, find_file, 16, FTW_PHYS);
    for (size_t i = 0; i < place_count; i++) {
        for (off_t at = 0; at < places[i].bytes; at += at < places[i].used ? step : EMPTY_STEP)
            flip(&places[i], at, (unsigned)(driver_random(&random) % 8), &reading, &tally);
    }
    assert_int_equal(read_all(&reading), RIGHT);
    print_message("ran: %llu bytes of %zu files of a store that %s: %llu told, %llu without "
                  "effect, %llu took the newest operation back, %llu silently wrong\n",
                  (unsigned long long)tally.flips, place_count, what,
                  (unsigned long long)tally.errors, (unsigned long long)tally.harmless,
                  (unsigned long long)tally.torn, (unsigned long long)tally.wrong);
    assert_int_equal(tally.wrong, 0);
}

/* Whether the writer's first operations make a store that is small and has some of all. */
static bool is_small(struct driver_writer writer)
{
    unsigned kinds = 0;
    while (writer.number < OPERATIONS) {
        struct driver_operation operation = driver_next(&writer);
        kinds |= 1u << operation.kind;
        driver_advance(&writer);
        for (uint32_t i = 0; i < DRIVER_DOCUMENTS; i++) {
            size_t bytes = 0;
            if (writer.entries[i].text == 0) continue;
            free(driver_text(0, i, writer.entries[i], &bytes));
            if (bytes > TEXT_BYTES_MAX) return false;
        }
    }
    return kinds == 15;
}

/* Writes the store, in a process of its own. */
static struct driver_writer make_store(bool is_killed)
{
    struct driver_board *board = driver_board_make();
    struct driver_writer writer = {.seed = 1};
    while (!is_small(writer))
        writer.seed++;
    int status = 0;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct memalloy_error err = {0};
        memalloy_kernel *kernel = NULL;
        if (driver_open(driver_folder, driver_model_path, 0, &kernel, &err) != MEMALLOY_OK)
            _exit(1);
        for (int i = 0; i < OPERATIONS; i++)
            if (driver_do(kernel, &writer, &board->marks[0], &err) != MEMALLOY_OK) _exit(1);
        if (is_killed) kill(getpid(), SIGKILL);
        if (memalloy_close(kernel, &err) != MEMALLOY_OK) _exit(1);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    driver_advance_to(&writer, atomic_load(&board->marks[0].acked));
    assert_int_equal(writer.number, OPERATIONS);
    driver_board_free(board);
    return writer;
}

static void no_flipped_bit_of_a_closed_store_is_believed(void **state)
{
    (void)state;
    struct driver_writer writer = make_store(false);
    flip_all(&writer, "was closed");
}

static void no_flipped_bit_of_a_killed_writers_store_is_believed(void **state)
{
    (void)state;
    struct driver_writer writer = make_store(true);
    flip_all(&writer, "was not closed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(no_flipped_bit_of_a_closed_store_is_believed, driver_set_up,
                                        driver_tear_down),
        cmocka_unit_test_setup_teardown(no_flipped_bit_of_a_killed_writers_store_is_believed,
                                        driver_set_up, driver_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
