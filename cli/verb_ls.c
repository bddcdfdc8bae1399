/* ls: the documents in the order of their ids, a page at a time so that a large store needs no more
 * memory than a small one (with --json the answer is one document, and is held whole). */
#include "cli.h"

#include <string.h>

#define PAGE 1000

static json_t *document_json(const struct memalloy_document *document)
{
    json_t *item = cli_object();
    cli_put(item, "id", cli_json_str(document->id));
    cli_put(item, "path", cli_json_str(document->path));
    cli_put(item, "title", cli_json_str(document->title));
    cli_put(item, "metadata", cli_json_metadata(document->metadata));
    cli_put(item, "byte_count", cli_json_place(document->byte_count));
    cli_put(item, "chunk_count", cli_json_place(document->chunk_count));
    cli_put(item, "created_at", cli_json_time(document->created_at_us));
    cli_put(item, "updated_at", cli_json_time(document->updated_at_us));
    return item;
}

static void write_line(const struct memalloy_document *document, bool tty)
{
    const char *gap = tty ? "  " : "\t";
    cli_put_field(stdout, document->id);
    printf(tty ? "%s%6lld%s%10lld%s" : "%s%lld%s%lld%s", gap, (long long)document->chunk_count, gap,
           (long long)document->byte_count, gap);
    if (document->path.data != NULL) {
        cli_put_path(stdout, document->path);
    } else {
        cli_put_field(stdout, document->title);
    }
    putchar('\n');
}

/* Lists one page; *out_more says whether another may follow, after holds the last id. */
static int list_page(const struct cli_args *args, memalloy_kernel *kernel, size_t limit,
                     struct cli_buf *after, json_t *list, size_t *out_count)
{
    struct memalloy_error err = {0};
    struct memalloy_str from = {after->bytes > 0 ? after->data : NULL, after->bytes};
    memalloy_documents *page = NULL;
    if (memalloy_list_documents(kernel, limit, from, &page, &err) != MEMALLOY_OK) {
        return cli_fail(args, &err);
    }
    bool tty = cli_is_tty(stdout);
    size_t count = memalloy_documents_count(page);
    struct memalloy_document document = {.struct_bytes = sizeof(document)};
    for (size_t i = 0; i < count; i++) {
        memalloy_documents_get(page, i, &document);
        if (list != NULL) {
            cli_push(list, document_json(&document));
        } else {
            write_line(&document, tty);
        }
    }
    if (count > 0) {
        after->bytes = 0;
        cli_buf_add(after, document.id.data, document.id.bytes);
    }
    memalloy_documents_destroy(page);
    *out_count = count;
    return CLI_OK;
}

static int list_store(const struct cli_args *args, memalloy_kernel *kernel)
{
    struct cli_buf after = {0};
    json_t *list = args->json ? cli_list() : NULL;
    size_t left = args->limit == 0 ? SIZE_MAX : args->limit, count;
    bool more;
    if (args->after != NULL) {
        cli_buf_add_text(&after, args->after);
    }
    int result;
    do {
        size_t limit = left < PAGE ? left : PAGE;
        result = list_page(args, kernel, limit, &after, list, &count);
        more = result == CLI_OK && count == limit;
        left -= result == CLI_OK ? count : 0;
    } while (more && left > 0 && !cli_stdout_gone());
    if (list != NULL && result == CLI_OK) {
        json_t *document = cli_object();
        cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
        cli_put(document, "documents", list);
        /* Null: nothing follows. Else what to give --after; the page there may be empty. */
        cli_put(document, "next",
                more ? cli_json_str((struct memalloy_str){after.data, after.bytes}) : json_null());
        cli_json_write(document, 17);
    } else {
        json_decref(list);
    }
    cli_buf_free(&after);
    return result;
}

int cli_verb_ls(struct cli_args *args)
{
    if (args->rest_count > 0) {
        return cli_usage(args, "ls takes no argument such as \"%s\"", args->rest[0]);
    }
    memalloy_kernel *kernel = NULL;
    int result = cli_open(args, MEMALLOY_OPEN_READONLY, &kernel);
    if (result == CLI_OK) {
        result = list_store(args, kernel);
    }
    memalloy_close(kernel, NULL);
    return result;
}
