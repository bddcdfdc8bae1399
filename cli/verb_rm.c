/* rm ID...: removes documents and says which. */
#include "cli.h"

static int remove_one(const struct cli_args *args, memalloy_kernel *kernel, const char *id,
                      json_t *removed, json_t *unknown, bool *out_removed)
{
    struct memalloy_error err = {0};
    int was_there = 0;
    if (memalloy_remove_document(kernel, cli_str(id), NULL, &was_there, &err) != MEMALLOY_OK) {
        return cli_fail(args, &err);
    }
    *out_removed = was_there != 0;
    cli_push(was_there ? removed : unknown, cli_json_str(cli_str(id)));
    if (!was_there) {
        cli_say("no document has the id \"%s\"", id);
    } else if (!args->json) {
        fputs("removed ", stdout);
        cli_put_field(stdout, cli_str(id));
        putchar('\n');
    }
    return CLI_OK;
}

static int remove_all(const struct cli_args *args, memalloy_kernel *kernel)
{
    json_t *removed = cli_list(), *unknown = cli_list();
    size_t removed_count = 0;
    int result = CLI_OK;
    for (size_t i = 0; i < args->rest_count && result == CLI_OK; i++) {
        bool was_there = false;
        result = remove_one(args, kernel, args->rest[i], removed, unknown, &was_there);
        removed_count += was_there;
    }
    if (result != CLI_OK) {
        json_decref(removed);
        json_decref(unknown);
        return result;
    }
    if (args->json) {
        json_t *document = cli_object();
        cli_put(document, "removed", removed);
        cli_put(document, "unknown", unknown);
        cli_json_write(document, 17);
    } else {
        json_decref(removed);
        json_decref(unknown);
    }
    if (removed_count == args->rest_count) {
        return CLI_OK;
    }
    return removed_count == 0 ? CLI_NOTHING : CLI_PARTIAL;
}

int cli_verb_rm(struct cli_args *args)
{
    if (args->rest_count == 0) {
        return cli_usage(args, "rm needs at least one id");
    }
    memalloy_kernel *kernel = NULL;
    int result = cli_open_existing(args, &kernel);
    if (result == CLI_OK) {
        result = remove_all(args, kernel);
    }
    return cli_close(args, kernel, result);
}
