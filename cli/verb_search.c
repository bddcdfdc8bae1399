/* search QUERY...: ranked passages with their places. */
#include "cli.h"

#include <string.h>

static json_t *hit_json(const struct memalloy_hit *hit)
{
    json_t *item = cli_object();
    cli_put(item, "score", json_real(hit->score));
    cli_put(item, "path", cli_json_str(hit->path));
    cli_put(item, "line_start", cli_json_place(hit->line_start));
    cli_put(item, "line_end", cli_json_place(hit->line_end));
    cli_put(item, "byte_start", cli_json_place(hit->byte_start));
    cli_put(item, "byte_end", cli_json_place(hit->byte_end));
    cli_put(item, "page_start", cli_json_place(hit->page_start));
    cli_put(item, "page_end", cli_json_place(hit->page_end));
    cli_put(item, "heading", cli_json_str(hit->heading));
    cli_put(item, "document_id", cli_json_str(hit->document_id));
    cli_put(item, "chunk_id", cli_json_str(hit->chunk_id));
    cli_put(item, "stale", json_boolean(hit->stale));
    cli_put(item, "ordinal", cli_json_place(hit->ordinal));
    cli_put(item, "metadata", cli_json_metadata(hit->metadata));
    cli_put(item, "content", cli_json_str(hit->content));
    return item;
}

static json_t *explain_json(const struct memalloy_search_explain *explain)
{
    json_t *item = cli_object();
    cli_put(item, "cells", cli_json_int(explain->cells));
    cli_put(item, "cells_read", cli_json_int(explain->cells_read));
    cli_put(item, "codes_read", cli_json_int(explain->codes_read));
    cli_put(item, "records_read", cli_json_int(explain->records_read));
    cli_put(item, "vectors_read", cli_json_int(explain->vectors_read));
    cli_put(item, "scanned_rows", cli_json_int(explain->scanned_rows));
    cli_put(item, "bytes_read", cli_json_int(explain->bytes_read));
    cli_put(item, "index_was_damaged", json_boolean(explain->index_was_damaged));
    json_t *seconds = cli_object();
    cli_put(seconds, "rank", json_real(explain->rank_s));
    cli_put(seconds, "scan", json_real(explain->scan_s));
    cli_put(seconds, "record", json_real(explain->record_s));
    cli_put(seconds, "vector", json_real(explain->vector_s));
    cli_put(seconds, "exact", json_real(explain->exact_s));
    cli_put(item, "seconds", seconds);
    return item;
}

static void say_step(const char *name, const char *what, double seconds)
{
    fprintf(stderr, "  %-8s %-36s %9.3f ms\n", name, what, seconds * 1000);
}

/* By step: what was looked at, and the time. */
static void say_explain(const struct memalloy_search_explain *explain)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], text[80];
    if (explain->index_was_damaged) {
        fputs("  the vector index is damaged: every vector was looked at\n", stderr);
    }
    if (explain->cells > 0) {
        snprintf(text, sizeof(text), "%s of %s cells", cli_count_text(a, explain->cells_read),
                 cli_count_text(b, explain->cells));
        say_step("choose", text, explain->rank_s);
        snprintf(text, sizeof(text), "%s codes", cli_count_text(a, explain->codes_read));
        say_step("scan", text, explain->scan_s);
        snprintf(text, sizeof(text), "%s records", cli_count_text(a, explain->records_read));
        say_step("rank", text, explain->record_s);
        snprintf(text, sizeof(text), "%s vectors, %s of all",
                 cli_count_text(a, explain->vectors_read), cli_bytes_text(b, explain->bytes_read));
        say_step("score", text, explain->vector_s);
    }
    snprintf(text, sizeof(text), "%s vectors without the index",
             cli_count_text(a, explain->scanned_rows));
    say_step("exact", text, explain->exact_s);
}

static void write_json(const struct cli_args *args, const struct cli_buf *query,
                       const memalloy_hits *hits, const struct memalloy_search_explain *explain)
{
    json_t *list = cli_list();
    for (size_t i = 0; i < memalloy_hits_count(hits); i++) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        memalloy_hits_get(hits, i, &hit);
        cli_push(list, hit_json(&hit));
    }
    json_t *document = cli_object();
    cli_put(document, "query", cli_json_str((struct memalloy_str){query->data, query->bytes}));
    cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
    cli_put(document, "hits", list);
    if (args->explain) {
        cli_put(document, "explain", explain_json(explain));
    }
    cli_json_write(document, 9);
}

static void write_hit(const struct cli_args *args, const struct memalloy_hit *hit)
{
    fputs(cli_style(stdout, CLI_STYLE_PATH), stdout);
    cli_put_path(stdout, hit->path.data != NULL ? hit->path : hit->document_id);
    if (hit->line_start > 0) {
        printf(":%lld-%lld", (long long)hit->line_start, (long long)hit->line_end);
    }
    printf("%s  %s%.4f%s%s\n", cli_style_end(stdout), cli_style(stdout, CLI_STYLE_SCORE),
           hit->score, cli_style_end(stdout), hit->stale ? "  (changed since)" : "");
    cli_put_passage(stdout, hit->content, args->lines);
}

/* NULL where all documents are searched. */
static struct memalloy_str *document_ids(const struct cli_args *args)
{
    if (args->documents.count == 0) {
        return NULL;
    }
    struct memalloy_str *ids = cli_array(args->documents.count, sizeof(ids[0]));
    for (size_t i = 0; i < args->documents.count; i++) {
        ids[i] = cli_str(args->documents.items[i]);
    }
    return ids;
}

static int search_store(const struct cli_args *args, memalloy_kernel *kernel,
                        const struct cli_buf *query)
{
    struct memalloy_error err = {0};
    struct memalloy_search_explain explain = {.struct_bytes = sizeof(explain)};
    struct memalloy_str *ids = document_ids(args);
    struct memalloy_search_options options = {
        .struct_bytes = sizeof(options),
        .top_k = args->top_k,
        .recall = args->recall,
        .explain = &explain,
        .document_ids = ids,
        .document_id_count = args->documents.count,
    };
    memalloy_hits *hits = NULL;
    int rc = memalloy_search_text(kernel, query->data, query->bytes, &options, &hits, &err);
    cli_free(ids);
    if (rc != MEMALLOY_OK) {
        int result = cli_fail(args, &err);
        cli_say_remedy(args, kernel, &err);
        return result == CLI_NOTHING ? CLI_FAILED : result; /* no model is no answer */
    }
    size_t count = memalloy_hits_count(hits);
    if (args->json) {
        write_json(args, query, hits, &explain);
    }
    for (size_t i = 0; i < count && !args->json && !cli_stdout_gone(); i++) {
        struct memalloy_hit hit = {.struct_bytes = sizeof(hit)};
        memalloy_hits_get(hits, i, &hit);
        if (i > 0) {
            putchar('\n');
        }
        write_hit(args, &hit);
    }
    memalloy_hits_destroy(hits);
    if (args->explain && !args->json) {
        say_explain(&explain);
    }
    if (count == 0 && !args->quiet) {
        fputs("nothing found\n", stderr);
    }
    return count == 0 ? CLI_NOTHING : CLI_OK;
}

int cli_verb_search(struct cli_args *args)
{
    struct cli_buf query = {0};
    for (size_t i = 0; i < args->rest_count; i++) {
        cli_buf_add(&query, " ", i > 0);
        cli_buf_add_text(&query, args->rest[i]);
    }
    int result;
    if (query.bytes == 0 || strspn(query.data, " \t\r\n") == query.bytes) {
        result = cli_usage(args, "search needs a query");
    } else {
        memalloy_kernel *kernel = NULL;
        result = cli_open(args, MEMALLOY_OPEN_READONLY, &kernel);
        if (result == CLI_OK) {
            result = search_store(args, kernel, &query);
        }
        memalloy_close(kernel, NULL);
    }
    cli_buf_free(&query);
    return result;
}
