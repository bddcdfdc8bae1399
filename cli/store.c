/* How the verbs get at a store or a model: options of the command become options of the library. */
#define _XOPEN_SOURCE 700
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

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
        .flags = flags | (args->network_fs ? MEMALLOY_OPEN_NETWORK_FS : 0u),
        .durability = args->durability,
        .memory_bytes_max = args->memory_bytes_max,
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

int cli_open_existing(const struct cli_args *args, memalloy_kernel **out)
{
    memalloy_kernel *kernel = NULL;
    int result = cli_open(args, MEMALLOY_OPEN_READONLY, &kernel);
    memalloy_close(kernel, NULL);
    return result == CLI_OK ? cli_open(args, 0, out) : result;
}

int cli_close(const struct cli_args *args, memalloy_kernel *kernel, int result)
{
    struct memalloy_error err = {0};
    if (memalloy_close(kernel, &err) == MEMALLOY_OK) {
        return result;
    }
    struct cli_args plain = *args;
    plain.json = false; /* what was given stays the only output */
    int closed = cli_fail(&plain, &err);
    return result == CLI_OK || result == CLI_PARTIAL || result == CLI_NOTHING ? closed : result;
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

/* What a model with that hash is called here; false: there is none. */
static bool find_name(struct memalloy_str hash, struct cli_buf *out)
{
    memalloy_models *models = NULL;
    if (memalloy_models_list(&models, NULL, NULL) != MEMALLOY_OK) {
        return false;
    }
    bool found = false;
    for (size_t i = 0; i < memalloy_models_count(models) && !found; i++) {
        struct memalloy_model_entry entry = {.struct_bytes = sizeof(entry)};
        memalloy_models_get(models, i, &entry);
        found = entry.info != NULL && entry.info->hash.bytes == hash.bytes &&
                memcmp(entry.info->hash.data, hash.data, hash.bytes) == 0;
        if (found) {
            cli_buf_add(out, entry.name.data, entry.name.bytes);
        }
    }
    memalloy_models_destroy(models);
    return found;
}

void cli_say_remedy(const struct cli_args *args, memalloy_kernel *kernel,
                    const struct memalloy_error *err)
{
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    struct cli_buf name = {0};
    if (err->code != MEMALLOY_ERR_MISMATCH ||
        memalloy_get_status(kernel, &status, NULL) != MEMALLOY_OK) {
        return;
    }
    if (find_name(status.model_hash, &name)) {
        fprintf(stderr, "  memalloy %s --model ", args->verb);
        cli_put_field(stderr, cli_str(name.data));
        fputs(" ... uses the store as it is\n", stderr);
    }
    fputs("  memalloy sync ", stderr);
    if (args->model != NULL) {
        fputs("--model ", stderr);
        cli_put_field(stderr, cli_str(args->model));
        putc(' ', stderr);
    }
    fputs("--db ", stderr);
    cli_put_field(stderr, cli_str(args->db.data));
    fputs("-new FOLDER makes a new one with the other model\n", stderr);
    cli_buf_free(&name);
}

static int check_folder(const struct cli_args *args, const char *verb)
{
    struct stat info;
    if (args->rest_count != 1) {
        return cli_usage(args, "%s takes one folder, not %zu", verb, args->rest_count);
    }
    const char *folder = args->rest[0];
    if (stat(folder, &info) != 0) {
        return cli_usage(args, "cannot %s \"%s\": %s", verb, folder, strerror(errno));
    }
    if (!S_ISDIR(info.st_mode)) {
        return cli_usage(args, "cannot %s \"%s\": it is a file, and %s takes a folder", verb,
                         folder, verb);
    }
    return CLI_OK;
}

int cli_on_folder(const struct cli_args *args, const char *verb, cli_store_fn work)
{
    int result = check_folder(args, verb);
    if (result != CLI_OK) {
        return result;
    }
    cli_signals_catch();
    memalloy_kernel *kernel = NULL;
    result = cli_open(args, 0, &kernel);
    if (result == CLI_OK) {
        result = work(args, kernel);
    }
    return cli_close(args, kernel, result);
}
