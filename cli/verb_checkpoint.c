/* checkpoint: what stands in the log goes into the tables. */
#include "cli.h"

static int checkpoint(const struct cli_args *args, memalloy_kernel *kernel)
{
    struct memalloy_error err = {0};
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    if (memalloy_checkpoint(kernel, &err) != MEMALLOY_OK ||
        memalloy_get_status(kernel, &status, &err) != MEMALLOY_OK) {
        return cli_fail(args, &err);
    }
    if (args->json) {
        json_t *document = cli_object();
        cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
        cli_put(document, "documents", cli_json_int(status.documents));
        cli_put(document, "documents_version", cli_json_int(status.documents_version));
        cli_put(document, "chunks_version", cli_json_int(status.chunks_version));
        cli_json_write(document, 17);
    }
    return CLI_OK;
}

int cli_verb_checkpoint(struct cli_args *args)
{
    if (args->rest_count > 0) {
        return cli_usage(args, "checkpoint takes no argument such as \"%s\"", args->rest[0]);
    }
    memalloy_kernel *kernel = NULL;
    int result = cli_open_existing(args, &kernel);
    if (result == CLI_OK) {
        result = checkpoint(args, kernel);
    }
    return cli_close(args, kernel, result);
}
