/* Operations of the crash tests: what each number means, and doing it. */
#define _GNU_SOURCE
#include "driver_int.h"

#include "engine/engine.h"
#include "os/os.h"
#include "temp_dir.h"
#include "tiny_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

char driver_dir[256], driver_folder[280], driver_model_path[340];

int driver_set_up(void **state)
{
    (void)state;
    temp_dir_make(driver_dir);
    (void)snprintf(driver_folder, sizeof(driver_folder), "%s/kb", driver_dir);
    (void)snprintf(driver_model_path, sizeof(driver_model_path), "%s",
                   tiny_model(driver_dir, &tiny_small, 3));
    return 0;
}

int driver_tear_down(void **state)
{
    (void)state;
    if (getenv("MLY_TEST_KEEP") == NULL) temp_dir_remove(driver_dir);
    return 0;
}

struct driver_board *driver_board_make(void)
{
    void *board = mmap(NULL, sizeof(struct driver_board), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        perror("driver_board_make");
        abort();
    }
    return board;
}

void driver_board_free(struct driver_board *board)
{
    munmap(board, sizeof(*board));
}

uint64_t driver_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dULL >> 16;
}

static uint64_t seed_of(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t state = ((a * 0x9e3779b97f4a7c15ULL + b) * 0x9e3779b97f4a7c15ULL + c) * 2 + 1;
    for (int i = 0; i < 4; i++)
        (void)driver_random(&state);
    return state;
}

int64_t driver_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

uint64_t driver_seed(void)
{
    const char *given = getenv("MLY_TEST_SEED");
    return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
}

bool driver_is_long(void)
{
    return getenv("MEMALLOY_TEST_LONG") != NULL;
}

/* ---- what an operation is ---- */

static bool has(const struct driver_operation *operation, uint32_t document)
{
    for (size_t i = 0; i < operation->count; i++)
        if (operation->documents[i] == document) return true;
    return false;
}

struct driver_operation driver_next(const struct driver_writer *writer)
{
    struct driver_operation operation = {.count = 1};
    uint64_t state = seed_of(writer->writer + 1, writer->number + 1, writer->seed);
    uint64_t dice = driver_random(&state) % 100;
    operation.documents[0] = (uint32_t)(driver_random(&state) % DRIVER_DOCUMENTS);
    const struct driver_entry *entry = &writer->entries[operation.documents[0]];
    operation.kind = dice < 50   ? DRIVER_TEXT
                     : dice < 72 ? DRIVER_VECTORS
                     : dice < 82 ? DRIVER_METADATA
                                 : DRIVER_REMOVE;
    /* Each operation changes something, so that no two neighbouring states are equal. */
    if (entry->text == 0 && operation.kind >= DRIVER_METADATA) operation.kind = DRIVER_TEXT;
    if (operation.kind != DRIVER_VECTORS) return operation;
    size_t wanted = 1 + driver_random(&state) % DRIVER_GROUP_MAX;
    while (operation.count < wanted) {
        uint32_t document = (uint32_t)(driver_random(&state) % DRIVER_DOCUMENTS);
        if (!has(&operation, document)) operation.documents[operation.count++] = document;
    }
    return operation;
}

static struct driver_entry entry_after(enum driver_kind kind, struct driver_entry before,
                                       uint64_t number)
{
    switch (kind) {
    case DRIVER_REMOVE:
        return (struct driver_entry){0, 0, false};
    case DRIVER_METADATA:
        return (struct driver_entry){before.text, number, before.has_vector};
    default:
        return (struct driver_entry){number, number, kind == DRIVER_VECTORS};
    }
}

void driver_advance(struct driver_writer *writer)
{
    struct driver_operation operation = driver_next(writer);
    writer->number++;
    for (size_t i = 0; i < operation.count; i++) {
        struct driver_entry *entry = &writer->entries[operation.documents[i]];
        *entry = entry_after(operation.kind, *entry, writer->number);
    }
}

void driver_advance_to(struct driver_writer *writer, uint64_t number)
{
    while (writer->number < number)
        driver_advance(writer);
}

/* ---- what a document is ---- */

void driver_id(uint32_t writer, uint32_t document, char out[DRIVER_ID_BYTES])
{
    (void)snprintf(out, DRIVER_ID_BYTES, "w%u-%u", writer, document);
}

bool driver_parse_id(struct memalloy_str id, uint32_t *writer, uint32_t *document)
{
    return id.data != NULL && sscanf(id.data, "w%u-%u", writer, document) == 2 &&
           *writer < DRIVER_WRITERS_MAX && *document < DRIVER_DOCUMENTS;
}

void driver_metadata(struct driver_entry entry, char out[DRIVER_METADATA_BYTES])
{
    (void)snprintf(out, DRIVER_METADATA_BYTES, "{\"text\":%llu,\"metadata\":%llu,\"vector\":%d}",
                   (unsigned long long)entry.text, (unsigned long long)entry.metadata,
                   (int)entry.has_vector);
}

static bool find_number(struct memalloy_str text, const char *name, uint64_t *out)
{
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "\"%s\":", name);
    const char *at = text.data != NULL ? strstr(text.data, wanted) : NULL;
    if (at == NULL) return false;
    *out = strtoull(at + strlen(wanted), NULL, 10);
    return true;
}

bool driver_parse_metadata(struct memalloy_str metadata, struct driver_entry *out)
{
    uint64_t vector = 0;
    bool found = find_number(metadata, "text", &out->text) &&
                 find_number(metadata, "metadata", &out->metadata) &&
                 find_number(metadata, "vector", &vector);
    out->has_vector = vector != 0;
    return found;
}

char *driver_text(uint32_t writer, uint32_t document, struct driver_entry entry, size_t *bytes)
{
    uint64_t state = seed_of(writer + 1, entry.text, document + 1);
    uint64_t dice = driver_random(&state) % 100;
    size_t size = 10 + driver_random(&state) % (dice < 70 ? 300 : 3000);
    if (!entry.has_vector && driver_random(&state) % 16 == 0) size = 8000 + size * 8;
    char *text = malloc(size + 16);
    if (text == NULL) abort();
    size_t used = 0;
    while (used < size) {
        size_t letters = 1 + driver_random(&state) % 9;
        for (size_t i = 0; i < letters && used < size; i++)
            text[used++] = (char)('a' + driver_random(&state) % 26);
        if (used < size) text[used++] = driver_random(&state) % 40 == 0 ? '\n' : ' ';
    }
    text[used] = '\0';
    *bytes = used;
    return text;
}

void driver_vector(uint32_t writer, uint32_t document, uint64_t number, float out[DRIVER_DIM])
{
    uint64_t state = seed_of(writer + 100, number, document + 1);
    for (size_t i = 0; i < DRIVER_DIM; i++)
        out[i] = (float)((double)(driver_random(&state) % 2000001) / 1e6 - 1.0);
}

/* ---- doing it ---- */

int driver_open_in(const struct mly_env *env, const char *path, const char *model_path,
                   int durability, memalloy_kernel **out, struct memalloy_error *err)
{
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model), .path = model_path, .threads = 1};
    struct memalloy_options options = {.struct_bytes = sizeof(options),
                                       .threads = 1,
                                       .lock_wait_ms = 60000,
                                       .model = &model,
                                       .durability = durability};
    struct mly_error inner = {0};
    int rc = (int)mly_engine_open(env, path, &options, out, &inner);
    err->code = rc;
    err->system_errno = inner.system_errno;
    (void)snprintf(err->message, sizeof(err->message), "%s", inner.message);
    return rc;
}

int driver_open(const char *path, const char *model_path, int durability, memalloy_kernel **out,
                struct memalloy_error *err)
{
    return driver_open_in(mly_env_system(), path, model_path, durability, out, err);
}

static struct memalloy_str str(const char *text)
{
    return (struct memalloy_str){text, strlen(text)};
}

static int put_text(memalloy_kernel *kernel, uint32_t writer, uint32_t document,
                    struct driver_entry entry, struct memalloy_error *err)
{
    char id[DRIVER_ID_BYTES], metadata[DRIVER_METADATA_BYTES];
    size_t bytes;
    driver_id(writer, document, id);
    driver_metadata(entry, metadata);
    struct memalloy_add_options options = {
        .struct_bytes = sizeof(options), .document_id = str(id), .metadata = str(metadata)};
    char *text = driver_text(writer, document, entry, &bytes);
    int rc = memalloy_add_text(kernel, text, bytes, &options, NULL, err);
    free(text);
    return rc;
}

static int put_metadata(memalloy_kernel *kernel, uint32_t writer, uint32_t document,
                        struct driver_entry entry, struct memalloy_error *err)
{
    char id[DRIVER_ID_BYTES], metadata[DRIVER_METADATA_BYTES];
    driver_id(writer, document, id);
    driver_metadata(entry, metadata);
    return memalloy_update_metadata(kernel, str(id), str(metadata), NULL, err);
}

static int put_vectors(memalloy_kernel *kernel, uint32_t writer,
                       const struct driver_operation *operation, struct driver_entry entry,
                       struct memalloy_error *err)
{
    char ids[DRIVER_GROUP_MAX][DRIVER_ID_BYTES];
    char metadata[DRIVER_METADATA_BYTES];
    struct memalloy_add_options options[DRIVER_GROUP_MAX];
    struct memalloy_str contents[DRIVER_GROUP_MAX];
    char *texts[DRIVER_GROUP_MAX];
    float vectors[DRIVER_GROUP_MAX * DRIVER_DIM];
    driver_metadata(entry, metadata);
    for (size_t i = 0; i < operation->count; i++) {
        uint32_t document = operation->documents[i];
        driver_id(writer, document, ids[i]);
        options[i] = (struct memalloy_add_options){.struct_bytes = sizeof(options[i]),
                                                   .document_id = str(ids[i]),
                                                   .metadata = str(metadata)};
        texts[i] = driver_text(writer, document, entry, &contents[i].bytes);
        contents[i].data = texts[i];
        driver_vector(writer, document, entry.text, vectors + i * DRIVER_DIM);
    }
    int rc = memalloy_add_vectors(kernel, contents, vectors, operation->count, DRIVER_DIM, options,
                                  NULL, err);
    for (size_t i = 0; i < operation->count; i++)
        free(texts[i]);
    return rc;
}

static int remove_one(memalloy_kernel *kernel, uint32_t writer, uint32_t document,
                      struct memalloy_error *err)
{
    char id[DRIVER_ID_BYTES];
    int removed = 0;
    driver_id(writer, document, id);
    int rc = memalloy_remove_document(kernel, str(id), NULL, &removed, err);
    if (rc == MEMALLOY_OK && removed == 0) {
        err->code = MEMALLOY_ERR_INTERNAL;
        (void)snprintf(err->message, sizeof(err->message), "%s was not there to be removed", id);
        return err->code;
    }
    return rc;
}

int driver_do(memalloy_kernel *kernel, struct driver_writer *writer, struct driver_mark *mark,
              struct memalloy_error *err)
{
    struct driver_operation operation = driver_next(writer);
    uint64_t number = writer->number + 1;
    uint32_t first = operation.documents[0];
    struct driver_entry entry = entry_after(operation.kind, writer->entries[first], number);
    int rc;
    atomic_store(&mark->began, number);
    switch (operation.kind) {
    case DRIVER_VECTORS:
        rc = put_vectors(kernel, writer->writer, &operation, entry, err);
        break;
    case DRIVER_REMOVE:
        rc = remove_one(kernel, writer->writer, first, err);
        break;
    case DRIVER_METADATA:
        rc = put_metadata(kernel, writer->writer, first, entry, err);
        break;
    default:
        rc = put_text(kernel, writer->writer, first, entry, err);
        break;
    }
    if (rc != MEMALLOY_OK) return rc;
    atomic_store(&mark->acked_ns[number % DRIVER_TIMES], driver_now_ns());
    atomic_store(&mark->acked, number);
    driver_advance(writer);
    return rc;
}
