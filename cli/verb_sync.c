/* sync FOLDER: the store follows the folder. The counts are JSON on stdout or a summary on stderr.
 */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <stdbool.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#define SKIPPED_SHOWN_MAX 10

/* True where the system, and not the kind of the file, kept it from being read. The library's
 * reasons are sentences for people, so the system is asked again. */
static bool could_not_be_read(struct memalloy_str path)
{
    if (path.data == NULL || access(path.data, R_OK) == 0) {
        return false;
    }
    return errno == EACCES || errno == EPERM || errno == EIO || errno == ESTALE;
}

static uint64_t count_unreadable(const memalloy_report *report, uint64_t skipped)
{
    uint64_t count = 0;
    for (size_t i = 0; i < skipped; i++) {
        struct memalloy_str path, reason;
        memalloy_report_get_skipped(report, i, &path, &reason);
        count += could_not_be_read(path);
    }
    return count;
}

static void put_seconds(json_t *document, const struct memalloy_sync_counts *counts)
{
    json_t *seconds = cli_object();
    cli_put(seconds, "walk", json_real(counts->walk_s));
    cli_put(seconds, "read", json_real(counts->read_s));
    cli_put(seconds, "chunk", json_real(counts->chunk_s));
    cli_put(seconds, "tokenize", json_real(counts->token_s));
    cli_put(seconds, "embed", json_real(counts->embed_s));
    cli_put(seconds, "store", json_real(counts->store_s));
    cli_put(seconds, "total", json_real(counts->total_s));
    cli_put(document, "seconds", seconds);
}

static void write_json(const struct cli_args *args, const memalloy_report *report,
                       const struct memalloy_sync_counts *counts, uint64_t unreadable,
                       const struct cli_indexed *indexed)
{
    json_t *document = cli_object();
    cli_put(document, "folder", cli_json_str(cli_str(args->rest[0])));
    cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
    cli_put(document, "added", cli_json_int(counts->added));
    cli_put(document, "replaced", cli_json_int(counts->replaced));
    cli_put(document, "removed", cli_json_int(counts->removed));
    cli_put(document, "unchanged", cli_json_int(counts->unchanged));
    cli_put(document, "moved", cli_json_int(counts->moved));
    cli_put(document, "files", cli_json_int(counts->files));
    cli_put(document, "unreadable", cli_json_int(unreadable));
    cli_put(document, "bytes", cli_json_int(counts->bytes));
    cli_put(document, "chunks", cli_json_int(counts->chunks));
    cli_put(document, "chunks_embedded", cli_json_int(counts->chunks_embedded));
    cli_put(document, "tokens", cli_json_int(counts->tokens));
    put_seconds(document, counts);
    cli_put(document, "index", cli_indexed_json(indexed));
    json_t *skipped = cli_list();
    for (size_t i = 0; i < counts->skipped; i++) {
        struct memalloy_str path, reason;
        memalloy_report_get_skipped(report, i, &path, &reason);
        json_t *item = cli_object();
        cli_put(item, "path", cli_json_str(path));
        cli_put(item, "reason", cli_json_str(reason));
        cli_push(skipped, item);
    }
    cli_put(document, "skipped", skipped);
    cli_json_write(document, 6);
}

static void say_stage(const char *name, double seconds)
{
    fprintf(stderr, "  %-10s %8.2f s\n", name, seconds);
}

/* Pictures and compiled files lie in most folders: they are counted, the others named. */
static bool is_binary(struct memalloy_str reason)
{
    return reason.bytes >= 6 && memcmp(reason.data, "binary", 6) == 0;
}

static void say_skipped(const struct cli_args *args, const memalloy_report *report,
                        uint64_t skipped)
{
    uint64_t binary = 0;
    uint64_t shown = 0;
    uint64_t more = 0;
    for (size_t i = 0; i < skipped; i++) {
        struct memalloy_str path, reason;
        memalloy_report_get_skipped(report, i, &path, &reason);
        if (!args->verbose && is_binary(reason)) {
            binary++;
        } else if (!args->verbose && shown == SKIPPED_SHOWN_MAX) {
            more++;
        } else {
            shown++;
            fputs("  skipped ", stderr);
            cli_put_path(stderr, path);
            fputs(": ", stderr);
            cli_put_field(stderr, reason);
            putc('\n', stderr);
        }
    }
    if (binary > 0)
        fprintf(stderr, "  skipped %llu binary file%s\n", (unsigned long long)binary,
                binary == 1 ? "" : "s");
    if (more > 0) fprintf(stderr, "  and %llu more\n", (unsigned long long)more);
    if (binary + more > 0) fputs("  --verbose names them all\n", stderr);
}

static void say_summary(const struct cli_args *args, const memalloy_report *report,
                        const struct memalloy_sync_counts *counts)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES], d[CLI_NUMBER_BYTES],
        e[CLI_NUMBER_BYTES];
    fprintf(stderr, "%s added, %s replaced, %s removed, %s unchanged, %s skipped",
            cli_count_text(a, counts->added), cli_count_text(b, counts->replaced),
            cli_count_text(c, counts->removed), cli_count_text(d, counts->unchanged),
            cli_count_text(e, counts->skipped));
    if (counts->moved > 0) fprintf(stderr, ", %s moved", cli_count_text(a, counts->moved));
    fprintf(stderr, "; %s read, %s chunk%s embedded, %.1f s\n", cli_bytes_text(a, counts->bytes),
            cli_count_text(b, counts->chunks_embedded), counts->chunks_embedded == 1 ? "" : "s",
            counts->total_s);
    if (args->verbose) {
        say_stage("walk", counts->walk_s);
        say_stage("read", counts->read_s);
        say_stage("chunk", counts->chunk_s);
        say_stage("tokenize", counts->token_s);
        say_stage("embed", counts->embed_s);
        say_stage("store", counts->store_s);
    }
    say_skipped(args, report, counts->skipped);
}

/* The store is as right without it: only a signal changes the result. */
static int say_indexed(const struct cli_args *args, const struct cli_indexed *indexed)
{
    char text[CLI_INDEX_BYTES];
    if (indexed->code == MEMALLOY_ERR_CANCELLED && cli_signal() != 0) {
        cli_say("%s", indexed->err.message);
        return 128 + cli_signal();
    }
    if (indexed->code != MEMALLOY_OK) {
        cli_say("the vector index is not made: %s", indexed->err.message);
    } else if (indexed->made && !args->quiet) {
        fprintf(stderr, "vector index: %s, %.1f s\n", cli_index_text(text, &indexed->status),
                indexed->seconds);
    }
    return CLI_OK;
}

static int sync_store(const struct cli_args *args, memalloy_kernel *kernel)
{
    struct memalloy_error err = {0};
    struct cli_progress progress;
    cli_progress_init(&progress, args);
    struct memalloy_sync_options options = {
        .struct_bytes = sizeof(options),
        .include = args->include.items,
        .include_count = args->include.count,
        .exclude = args->exclude.items,
        .exclude_count = args->exclude.count,
        .file_bytes_max = args->file_bytes_max,
        .progress = cli_progress_report,
        .progress_context = &progress,
    };
    memalloy_report *report = NULL;
    int code = memalloy_sync(kernel, args->rest[0], &options, &report, &err);
    cli_progress_end(&progress);
    if (code != MEMALLOY_OK) {
        int result = cli_fail(args, &err);
        cli_say_remedy(args, kernel, &err);
        if (code == MEMALLOY_ERR_CANCELLED) {
            fputs("  what was stored so far stays; the same command goes on from there\n", stderr);
        }
        /* A folder that vanished meanwhile is a failure, not an answer. */
        return result == CLI_NOTHING ? CLI_FAILED : result;
    }
    struct memalloy_sync_counts counts = {.struct_bytes = sizeof(counts)};
    memalloy_report_get(report, &counts);
    uint64_t unreadable = count_unreadable(report, counts.skipped);
    struct cli_indexed indexed;
    cli_index_make(args, kernel, false, &indexed);
    if (args->json) {
        write_json(args, report, &counts, unreadable, &indexed);
    }
    if (!args->quiet) {
        say_summary(args, report, &counts);
    }
    memalloy_report_destroy(report);
    int result = say_indexed(args, &indexed);
    return result == CLI_OK && unreadable > 0 ? CLI_PARTIAL : result;
}

int cli_verb_sync(struct cli_args *args)
{
    return cli_on_folder(args, "sync", sync_store);
}
