/* memalloy: the command. Reads the arguments, runs one verb, ends with an exit code of cli.h. */
#include "cli.h"

#include <string.h>

static int run_help(const struct cli_args *args)
{
    const struct cli_verb *verb = NULL;
    if (args->rest_count > 0) {
        verb = cli_verb_find(args->rest[0]);
        if (verb == NULL) {
            return cli_usage(args, "unknown verb \"%s\"", args->rest[0]);
        }
    }
    cli_help(stdout, verb);
    return CLI_OK;
}

static int run(struct cli_args *args)
{
    if (args->verb == NULL) {
        printf("memalloy %s\n", memalloy_version());
        return CLI_OK;
    }
    if (strcmp(args->verb, "help") == 0) {
        return run_help(args);
    }
    const struct cli_verb *verb = cli_verb_find(args->verb);
    if (args->help) {
        cli_help(stdout, verb);
        return CLI_OK;
    }
    return verb->run(args);
}

int main(int argc, char **argv)
{
    struct cli_args args = {.lines = SIZE_MAX};
    cli_streams_init();
    int result = cli_args_read(&args, argc, argv);
    if (result == CLI_OK) {
        result = run(&args);
    }
    result = cli_streams_finish(result);
    cli_args_free(&args);
    return result;
}
