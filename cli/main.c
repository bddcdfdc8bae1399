/* memalloy: the command. Reads the arguments, runs one verb, ends with an exit code of cli.h. */
#include "cli.h"

#include <string.h>

static int run_help(const struct cli_args *args)
{
    const struct cli_verb *verb = NULL;
    if (args->rest_count > 0) {
        struct cli_buf name = {0};
        const bool group = cli_verb_is_group(args->rest[0]);
        cli_buf_add_text(&name, args->rest[0]);
        if (group && args->rest_count > 1) {
            cli_buf_add_text(&name, " ");
            cli_buf_add_text(&name, args->rest[1]);
        } else if (group) {
            cli_buf_free(&name);
            cli_help_group(stdout, args->rest[0]);
            return CLI_OK;
        }
        verb = cli_verb_find(name.data);
        int result = verb != NULL ? CLI_OK : cli_usage(args, "unknown verb \"%s\"", name.data);
        cli_buf_free(&name);
        if (result != CLI_OK) {
            return result;
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
    if (verb == NULL) { /* with --help alone */
        cli_help_group(stdout, args->verb);
        return CLI_OK;
    }
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
