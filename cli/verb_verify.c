/* verify: reads every file of the store and names those that are damaged. */
#include "cli.h"

struct verifying {
    const struct cli_args *args;
    json_t *damaged;
    uint64_t files, bytes, without_sums;
};

/* A memalloy_verify_fn. */
static int take(void *context, const struct memalloy_verified *file)
{
    struct verifying *verifying = context;
    verifying->files++;
    verifying->bytes += file->bytes;
    verifying->without_sums += !file->has_sums;
    if (file->reason.data == NULL) {
        return cli_signal() != 0;
    }
    if (verifying->args->json) {
        json_t *item = cli_object();
        cli_put(item, "path", cli_json_str(file->path));
        cli_put(item, "reason", cli_json_str(file->reason));
        cli_push(verifying->damaged, item);
    } else {
        cli_put_path(stdout, file->path);
        fputs(": ", stdout);
        cli_put_field(stdout, file->reason);
        putchar('\n');
    }
    return cli_signal() != 0;
}

static void write_summary(const struct verifying *verifying, uint64_t damaged)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES];
    if (verifying->args->quiet) {
        return;
    }
    fprintf(stderr, "%s file%s, %s read, %s damaged\n", cli_count_text(a, verifying->files),
            verifying->files == 1 ? "" : "s", cli_bytes_text(b, verifying->bytes),
            cli_count_text(c, damaged));
    if (verifying->without_sums > 0) {
        fprintf(stderr, "  %s without sums, as other programs write them: read, not compared\n",
                cli_count_text(a, verifying->without_sums));
    }
}

static int verify(struct verifying *verifying, memalloy_kernel *kernel)
{
    const struct cli_args *args = verifying->args;
    struct memalloy_error err = {0};
    uint64_t damaged = 0;
    if (memalloy_verify(kernel, take, verifying, &damaged, &err) != MEMALLOY_OK) {
        return cli_fail(args, &err);
    }
    if (args->json) {
        json_t *document = cli_object();
        cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
        cli_put(document, "files", cli_json_int(verifying->files));
        cli_put(document, "bytes", cli_json_int(verifying->bytes));
        cli_put(document, "without_sums", cli_json_int(verifying->without_sums));
        cli_put(document, "damaged", json_incref(verifying->damaged));
        cli_json_write(document, 17);
    }
    write_summary(verifying, damaged);
    return damaged > 0 ? CLI_CORRUPT : CLI_OK;
}

int cli_verb_verify(struct cli_args *args)
{
    if (args->rest_count > 0) {
        return cli_usage(args, "verify takes no argument such as \"%s\"", args->rest[0]);
    }
    cli_signals_catch();
    memalloy_kernel *kernel = NULL;
    int result = cli_open(args, MEMALLOY_OPEN_READONLY, &kernel);
    if (result != CLI_OK) {
        return result;
    }
    struct verifying verifying = {.args = args, .damaged = cli_list()};
    result = verify(&verifying, kernel);
    json_decref(verifying.damaged);
    memalloy_close(kernel, NULL);
    return result;
}
