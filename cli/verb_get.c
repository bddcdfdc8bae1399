/* get ID|PATH: the whole text of one document. */
#include "cli.h"

static void write_json(const struct memalloy_document *document)
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
    cli_put(item, "altered", json_boolean(document->altered));
    cli_put(item, "content", cli_json_str(document->content));
    cli_json_write(item, 17);
}

/* An id is looked for first: it is the caller's own, and a path can always be written with "./". */
static int find(memalloy_kernel *kernel, const char *name, memalloy_documents **out,
                struct memalloy_error *err)
{
    struct memalloy_str id = cli_str(name);
    if (id.bytes <= MEMALLOY_ID_BYTES_MAX && cli_utf8_ok(id.data, id.bytes)) {
        int code = memalloy_get_document(kernel, id, out, err);
        if (code != MEMALLOY_ERR_NOTFOUND) {
            return code;
        }
    }
    return memalloy_get_document_at(kernel, name, out, err);
}

int cli_verb_get(struct cli_args *args)
{
    if (args->rest_count != 1) {
        return cli_usage(args, "get takes one id or path, not %zu", args->rest_count);
    }
    if (args->rest[0][0] == '\0') {
        return cli_usage(args, "get takes an id or a path, and this one is empty");
    }
    memalloy_kernel *kernel = NULL;
    int result = cli_open(args, MEMALLOY_OPEN_READONLY, &kernel);
    if (result != CLI_OK) {
        return result;
    }
    struct memalloy_error err = {0};
    memalloy_documents *found = NULL;
    int code = find(kernel, args->rest[0], &found, &err);
    if (code != MEMALLOY_OK) {
        if (code == MEMALLOY_ERR_NOTFOUND) {
            snprintf(err.message, sizeof(err.message), "no document has the id or path \"%.400s\"",
                     args->rest[0]);
        }
        result = cli_fail(args, &err);
    } else {
        struct memalloy_document document = {.struct_bytes = sizeof(document)};
        memalloy_documents_get(found, 0, &document);
        if (args->json) {
            write_json(&document);
        } else {
            cli_put_text(stdout, document.content);
        }
        if (document.altered && !args->quiet) {
            cli_say("another program changed the rows of this document: the text differs from the "
                    "one that was added");
        }
    }
    memalloy_documents_destroy(found);
    memalloy_close(kernel, NULL);
    return result;
}
