/* How the verbs get at a store or a model: options of the command become options of the library. */
#include "cli.h"

int cli_open(const struct cli_args *args, uint32_t flags, memalloy_kernel **out)
{
    struct memalloy_error err = {0};
    struct memalloy_model_options model = {
        .struct_bytes = sizeof(model),
        .path = args->model,
        .threads = args->threads,
    };
    struct memalloy_options options = {
        .struct_bytes = sizeof(options),
        .flags = flags,
        .threads = args->threads,
        .lock_wait_ms = args->lock_wait_ms,
        .model = &model,
    };
    int code = memalloy_open(out, args->db.data, &options, &err);
    if (code == MEMALLOY_OK) {
        return CLI_OK;
    }
    int result = cli_fail(args, &err);
    if (code == MEMALLOY_ERR_NOTFOUND) {
        result = CLI_FAILED; /* no store is no answer */
        fputs("  store: ", stderr);
        cli_put_field(stderr, cli_str(args->db.data));
        fprintf(stderr, " (from %s); \"memalloy sync FOLDER\" makes one\n", args->db_from);
    }
    return result;
}

int cli_open_model(const struct cli_args *args, memalloy_model **out)
{
    struct memalloy_error err = {0};
    struct memalloy_model_options options = {
        .struct_bytes = sizeof(options),
        .path = args->model,
        .threads = args->threads,
    };
    if (memalloy_model_open(out, &options, &err) != MEMALLOY_OK) {
        int result = cli_fail(args, &err);
        return result == CLI_NOTHING ? CLI_FAILED : result; /* no model is no answer */
    }
    return CLI_OK;
}
