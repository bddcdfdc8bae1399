/* index: what is due of the vector index is made while one waits. */
#include "cli.h"

static void say_summary(const struct cli_args *args, const struct cli_indexed *indexed)
{
    char text[CLI_INDEX_BYTES];
    if (indexed->made) {
        fprintf(stderr, "made: %s, %.1f s\n", cli_index_text(text, &indexed->status),
                indexed->seconds);
    } else {
        fprintf(stderr, "nothing is due: %s\n", cli_index_text(text, &indexed->status));
    }
    if (args->lance) {
        const bool too_few = !indexed->status.has_lance;
        fprintf(stderr, "for lancedb: %s%s\n", cli_lance_text(text, &indexed->status),
                too_few ? ": it looks at every vector of fewer than 256" : "");
    }
}

static int make_index(const struct cli_args *args, memalloy_kernel *kernel)
{
    struct cli_indexed indexed;
    cli_index_make(args, kernel, true, &indexed);
    if (indexed.code != MEMALLOY_OK) {
        int result = cli_fail(args, &indexed.err);
        return result == CLI_NOTHING ? CLI_FAILED : result;
    }
    if (args->json) {
        json_t *document = cli_indexed_json(&indexed);
        cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
        cli_json_write(document, 6);
    }
    if (!args->quiet) {
        say_summary(args, &indexed);
    }
    return CLI_OK;
}

int cli_verb_index(struct cli_args *args)
{
    if (args->rest_count > 0) {
        return cli_usage(args, "index takes no argument such as \"%s\"", args->rest[0]);
    }
    cli_signals_catch();
    memalloy_kernel *kernel = NULL;
    int result = cli_open_existing(args, &kernel);
    if (result == CLI_OK) {
        result = make_index(args, kernel);
    }
    return cli_close(args, kernel, result);
}
