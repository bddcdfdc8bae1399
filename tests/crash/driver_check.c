/* What a store must be, seen through <memalloy.h>: the state after some operation, every document
 * of it whole. */
#define _GNU_SOURCE
#include "driver_int.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a listing shows. */
struct seen {
    struct driver_entry entries[DRIVER_WRITERS_MAX][DRIVER_DOCUMENTS];
    uint64_t documents, chunks;
};

__attribute__((format(printf, 2, 3))) static bool wrong(char *why, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(why, DRIVER_WHY_BYTES, format, arguments);
    va_end(arguments);
    return false;
}

static bool look(memalloy_kernel *kernel, struct seen *seen, char *why)
{
    struct memalloy_error err = {0};
    memalloy_documents *documents = NULL;
    *seen = (struct seen){0};
    if (memalloy_list_documents(kernel, 0, (struct memalloy_str){NULL, 0}, &documents, &err) !=
        MEMALLOY_OK) {
        return wrong(why, "it cannot be listed: %s", err.message);
    }
    bool ok = true;
    seen->documents = memalloy_documents_count(documents);
    for (size_t i = 0; ok && i < seen->documents; i++) {
        struct memalloy_document document = {.struct_bytes = sizeof(document)};
        struct driver_entry entry;
        uint32_t writer, number;
        memalloy_documents_get(documents, i, &document);
        if (!driver_parse_id(document.id, &writer, &number) ||
            !driver_parse_metadata(document.metadata, &entry)) {
            ok = wrong(why, "a document that nobody wrote: %s %s", document.id.data,
                       document.metadata.data);
        } else if (seen->entries[writer][number].text != 0) {
            ok = wrong(why, "%s is there twice", document.id.data);
        } else {
            seen->entries[writer][number] = entry;
            seen->chunks += (uint64_t)document.chunk_count;
        }
    }
    memalloy_documents_destroy(documents);
    return ok;
}

static bool is_same(const struct driver_entry *a, const struct driver_entry *b, uint32_t *different)
{
    for (uint32_t i = 0; i < DRIVER_DOCUMENTS; i++) {
        *different = i;
        if (a[i].text != b[i].text || a[i].metadata != b[i].metadata) return false;
        if (a[i].text != 0 && a[i].has_vector != b[i].has_vector) return false;
    }
    return true;
}

/* The oldest state from where the writer is to began that the store has. An operation may undo the
 * one before: of two states that look the same the older one is right for what is seen later. */
static bool find_state(struct driver_writer *writer, const struct seen *seen, uint64_t began,
                       char *why)
{
    const struct driver_entry *entries = seen->entries[writer->writer];
    struct driver_writer at = *writer;
    uint32_t different = 0, first_different = 0;
    bool found = is_same(at.entries, entries, &first_different);
    while (!found && at.number < began) {
        driver_advance(&at);
        found = is_same(at.entries, entries, &different);
    }
    if (found) {
        *writer = at;
        return true;
    }
    const struct driver_entry *is = &entries[first_different];
    const struct driver_entry *low = &writer->entries[first_different];
    const struct driver_entry *high = &at.entries[first_different];
    return wrong(why,
                 "writer %u: no state from operation %llu (acknowledged) to %llu (begun) is there; "
                 "w%u-%u has text %llu metadata %llu, should have %llu %llu or later up to "
                 "%llu %llu",
                 writer->writer, (unsigned long long)writer->number, (unsigned long long)began,
                 writer->writer, first_different, (unsigned long long)is->text,
                 (unsigned long long)is->metadata, (unsigned long long)low->text,
                 (unsigned long long)low->metadata, (unsigned long long)high->text,
                 (unsigned long long)high->metadata);
}

void driver_skip_same(struct driver_writer *writer, uint64_t began)
{
    uint32_t different;
    struct driver_writer at = *writer;
    while (at.number < began) {
        driver_advance(&at);
        if (is_same(at.entries, writer->entries, &different)) *writer = at;
    }
}

static bool check_text(memalloy_kernel *kernel, uint32_t writer, uint32_t number,
                       struct driver_entry entry, char *why)
{
    struct memalloy_error err = {0};
    memalloy_documents *documents = NULL;
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    struct driver_entry is;
    char id[DRIVER_ID_BYTES];
    size_t bytes;
    driver_id(writer, number, id);
    if (memalloy_get_document(kernel, (struct memalloy_str){id, strlen(id)}, &documents, &err) !=
        MEMALLOY_OK) {
        return wrong(why, "%s is listed, but: %s", id, err.message);
    }
    memalloy_documents_get(documents, 0, &document);
    char *text = driver_text(writer, number, entry, &bytes);
    bool ok = true;
    if (document.content.bytes != bytes || memcmp(document.content.data, text, bytes) != 0) {
        ok = wrong(why, "%s has %zu bytes of a text that is not its own (%zu)", id,
                   document.content.bytes, bytes);
    } else if (document.altered != 0 || document.byte_count != (int64_t)bytes) {
        ok = wrong(why, "%s is altered: %d, %lld bytes of %zu", id, document.altered,
                   (long long)document.byte_count, bytes);
    } else if (!driver_parse_metadata(document.metadata, &is) || is.metadata != entry.metadata ||
               is.text != entry.text) {
        ok = wrong(why, "%s has the metadata %s", id, document.metadata.data);
    }
    free(text);
    memalloy_documents_destroy(documents);
    return ok;
}

/* A vector of its own is found by itself, with the score 1. */
static bool check_vector(memalloy_kernel *kernel, uint32_t writer, uint32_t number,
                         struct driver_entry entry, char *why)
{
    struct memalloy_error err = {0};
    memalloy_hits *hits = NULL;
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = 1};
    struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
    float vector[DRIVER_DIM];
    char id[DRIVER_ID_BYTES];
    driver_id(writer, number, id);
    driver_vector(writer, number, entry.text, vector);
    if (memalloy_search_vector(kernel, vector, DRIVER_DIM, &options, &hits, &err) != MEMALLOY_OK) {
        return wrong(why, "a search fails: %s", err.message);
    }
    bool ok = memalloy_hits_count(hits) == 1;
    if (!ok) (void)wrong(why, "a search for the vector of %s finds nothing", id);
    if (ok) {
        memalloy_hits_get(hits, 0, &hit);
        if (strcmp(hit.document_id.data, id) != 0 || fabs(hit.score - 1.0) > 1e-5) {
            ok = wrong(why, "the vector of %s finds %s with %.6f", id, hit.document_id.data,
                       hit.score);
        }
    }
    memalloy_hits_destroy(hits);
    return ok;
}

static bool check_deep(memalloy_kernel *kernel, const struct driver_writer *writer, char *why)
{
    for (uint32_t i = 0; i < DRIVER_DOCUMENTS; i++) {
        struct driver_entry entry = writer->entries[i];
        if (entry.text == 0) continue;
        if (!check_text(kernel, writer->writer, i, entry, why)) return false;
        if (entry.has_vector && !check_vector(kernel, writer->writer, i, entry, why)) return false;
    }
    return true;
}

bool driver_learn(memalloy_kernel *kernel, struct driver_writer *writers, size_t writer_count,
                  const uint64_t *began, const struct driver_board *board, bool deep,
                  char why[DRIVER_WHY_BYTES])
{
    struct seen seen;
    struct memalloy_error err = {0};
    if (!look(kernel, &seen, why)) return false;
    for (size_t i = 0; i < writer_count; i++) {
        uint64_t last =
            began != NULL ? began[i] : atomic_load(&board->marks[writers[i].writer].began);
        if (!find_state(&writers[i], &seen, last, why)) return false;
    }
    if (!deep) return true;
    for (size_t i = 0; i < writer_count; i++)
        if (!check_deep(kernel, &writers[i], why)) return false;
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    if (memalloy_get_status(kernel, &status, &err) != MEMALLOY_OK) {
        return wrong(why, "no status: %s", err.message);
    }
    if (status.documents != seen.documents || status.chunks != seen.chunks) {
        return wrong(why, "%llu documents with %llu chunks are listed, %llu with %llu counted",
                     (unsigned long long)seen.documents, (unsigned long long)seen.chunks,
                     (unsigned long long)status.documents, (unsigned long long)status.chunks);
    }
    return true;
}

static bool check_hit(const struct memalloy_hit *hit, char *why)
{
    struct driver_entry entry;
    uint32_t writer, number;
    size_t bytes;
    if (!driver_parse_id(hit->document_id, &writer, &number) ||
        !driver_parse_metadata(hit->metadata, &entry)) {
        return wrong(why, "a hit in a document that nobody wrote: %s", hit->document_id.data);
    }
    char *text = driver_text(writer, number, entry, &bytes);
    bool ok = hit->byte_start >= 0 && hit->byte_end >= hit->byte_start &&
              (uint64_t)hit->byte_end <= bytes &&
              hit->content.bytes == (size_t)(hit->byte_end - hit->byte_start) &&
              memcmp(hit->content.data, text + hit->byte_start, hit->content.bytes) == 0;
    free(text);
    if (ok) return true;
    return wrong(why, "a hit in %s, %s, is not that text's bytes %lld to %lld",
                 hit->document_id.data, hit->metadata.data, (long long)hit->byte_start,
                 (long long)hit->byte_end);
}

bool driver_search(memalloy_kernel *kernel, uint64_t *random, char why[DRIVER_WHY_BYTES])
{
    struct memalloy_error err = {0};
    memalloy_hits *hits = NULL;
    struct memalloy_search_options options = {.struct_bytes = sizeof(options), .top_k = 8};
    float vector[DRIVER_DIM];
    driver_vector(0, 0, driver_random(random), vector);
    if (memalloy_search_vector(kernel, vector, DRIVER_DIM, &options, &hits, &err) != MEMALLOY_OK) {
        return wrong(why, "a search fails: %s", err.message);
    }
    bool ok = true;
    size_t count = memalloy_hits_count(hits);
    for (size_t i = 0; ok && i < count; i++) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        memalloy_hits_get(hits, i, &hit);
        ok = check_hit(&hit, why);
    }
    memalloy_hits_destroy(hits);
    return ok;
}

static bool check_once(struct driver_writer *writers, size_t count, const uint64_t *began,
                       struct driver_board *board)
{
    struct memalloy_error err = {0};
    memalloy_kernel *kernel = NULL;
    uint64_t random = 1;
    if (driver_open(driver_folder, driver_model_path, 0, &kernel, &err) != MEMALLOY_OK) {
        return wrong(board->why, "it does not open: %s", err.message);
    }
    if (!driver_learn(kernel, writers, count, began, board, true, board->why) ||
        !driver_search(kernel, &random, board->why)) {
        return false;
    }
    if (memalloy_close(kernel, &err) == MEMALLOY_OK) return true;
    return wrong(board->why, "it does not close: %s", err.message);
}

bool driver_check_twice(struct driver_board *board, struct driver_writer *writers, size_t count)
{
    uint64_t began[DRIVER_WRITERS_MAX];
    int status = 0;
    for (size_t i = 0; i < count; i++) {
        driver_advance_to(&writers[i], atomic_load(&board->marks[i].acked));
        began[i] = atomic_load(&board->marks[i].began);
    }
    pid_t child = fork();
    if (child == 0) {
        for (int time = 0; time < 2; time++) {
            if (!check_once(writers, count, began, board)) _exit(1);
            for (size_t i = 0; i < count; i++)
                board->found[i] = began[i] = writers[i].number;
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return wrong(board->why, "no fork");
    if (WIFSIGNALED(status)) return wrong(board->why, "the check died of %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0) return false;
    for (size_t i = 0; i < count; i++) {
        driver_advance_to(&writers[i], board->found[i]);
        atomic_store(&board->marks[i].began, board->found[i]);
        atomic_store(&board->marks[i].acked, board->found[i]);
    }
    return true;
}
