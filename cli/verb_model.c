/* model ls, info, verify, rm: the models that are here, and whether they can be used. */
#include "cli.h"

#include <string.h>

/* ---- what a model is ---- */

static json_t *info_json(const struct memalloy_model_info *info)
{
    json_t *item = cli_object();
    cli_put(item, "id", cli_json_str(info->id));
    cli_put(item, "hash", cli_json_str(info->hash));
    cli_put(item, "path", cli_json_str(info->path));
    cli_put(item, "dim", cli_json_int(info->dim));
    cli_put(item, "layers", info->layers > 0 ? cli_json_int(info->layers) : json_null());
    cli_put(item, "pieces_max", cli_json_int(info->pieces_max));
    cli_put(item, "vocabulary", cli_json_int(info->vocabulary));
    cli_put(item, "pooling", cli_json_str(info->pooling));
    cli_put(item, "quantisation", cli_json_str(info->quantisation));
    cli_put(item, "query_prefix", cli_json_str(info->query_prefix));
    cli_put(item, "passage_prefix", cli_json_str(info->passage_prefix));
    cli_put(item, "tokenizer", cli_json_str(info->tokenizer));
    cli_put(item, "file_bytes",
            info->file_bytes > 0 ? cli_json_int(info->file_bytes) : json_null());
    cli_put(item, "license", cli_json_str(info->license));
    cli_put(item, "source", cli_json_str(info->source));
    cli_put(item, "kernels", cli_json_str(info->kernels));
    return item;
}

static void put_line(const char *name, struct memalloy_str text)
{
    if (text.data == NULL) {
        return;
    }
    printf("%-11s", name);
    cli_put_field(stdout, text);
    putchar('\n');
}

/* Blanks at the end of a prefix count: it is shown in quotes. */
static void put_prefix(const char *name, struct memalloy_str prefix)
{
    printf("%-11s", name);
    if (prefix.bytes == 0) {
        puts("none");
        return;
    }
    putchar('"');
    cli_put_field(stdout, prefix);
    puts("\"");
}

static void write_info(const struct memalloy_model_info *info)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES];
    put_line("model", info->id);
    put_line("path", info->path);
    put_line("hash", info->hash);
    printf("vectors    %u numbers, %.*s pooling\n", info->dim, (int)info->pooling.bytes,
           info->pooling.data);
    printf("reads      %u word pieces, of %s", info->pieces_max,
           cli_count_text(a, info->vocabulary));
    printf(" (tokenizer: %.*s)\n", (int)info->tokenizer.bytes, info->tokenizer.data);
    put_prefix("queries", info->query_prefix);
    put_prefix("passages", info->passage_prefix);
    fputs("weights    ", stdout);
    cli_put_field(stdout, info->quantisation);
    if (info->layers > 0) {
        printf(", %u layer%s", info->layers, info->layers == 1 ? "" : "s");
    }
    if (info->file_bytes > 0) {
        printf(", %s", cli_bytes_text(b, info->file_bytes));
    }
    putchar('\n');
    put_line("kernels", info->kernels);
    put_line("licence", info->license);
    put_line("source", info->source);
}

/* One thread is enough to look: none is started for it. */
static int open_named(const struct cli_args *args, const char *name, memalloy_model **out,
                      struct memalloy_error *err)
{
    struct memalloy_model_options options = {
        .struct_bytes = sizeof(options), .path = name, .threads = 1};
    (void)args;
    return memalloy_model_open(out, &options, err);
}

int cli_verb_model_info(struct cli_args *args)
{
    if (args->rest_count > 1) {
        return cli_usage(args, "model info takes one name, not %zu", args->rest_count);
    }
    const char *name = args->rest_count == 1 ? args->rest[0] : NULL;
    struct memalloy_error err = {0};
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    memalloy_model *model = NULL;
    int result = CLI_OK;
    if (open_named(args, name, &model, &err) != MEMALLOY_OK ||
        memalloy_model_get_info(model, &info, &err) != MEMALLOY_OK) {
        result = cli_fail(args, &err);
    } else if (args->json) {
        cli_json_write(info_json(&info), 17);
    } else {
        write_info(&info);
    }
    memalloy_model_close(model);
    return result;
}

/* ---- which there are ---- */

static json_t *entry_json(const struct memalloy_model_entry *entry)
{
    json_t *item = cli_object();
    cli_put(item, "name", cli_json_str(entry->name));
    cli_put(item, "path", cli_json_str(entry->path));
    cli_put(item, "default", json_boolean(entry->is_default));
    cli_put(item, "error", cli_json_str(entry->error));
    cli_put(item, "info", entry->info != NULL ? info_json(entry->info) : json_null());
    return item;
}

static void write_entry(const struct memalloy_model_entry *entry, bool tty)
{
    const char *gap = tty ? "  " : "\t";
    char size[CLI_NUMBER_BYTES];
    fputs(entry->is_default ? "*" : tty ? " " : "", stdout);
    fputs(tty ? " " : "\t", stdout);
    cli_put_field(stdout, entry->name);
    fputs(gap, stdout);
    if (entry->info == NULL) {
        fputs("cannot be used: ", stdout);
        cli_put_field(stdout, entry->error);
        putchar('\n');
        return;
    }
    const struct memalloy_model_info *info = entry->info;
    cli_put_field(stdout, info->id);
    printf("%s%.*s%s%u%s%u%s%s\n", gap, (int)info->quantisation.bytes, info->quantisation.data, gap,
           info->dim, gap, info->pieces_max, gap,
           info->file_bytes > 0 ? cli_bytes_text(size, info->file_bytes) : "folder");
}

static int list_models(const struct cli_args *args, memalloy_models **out)
{
    struct memalloy_error err = {0};
    if (memalloy_models_list(out, NULL, &err) != MEMALLOY_OK) {
        int result = cli_fail(args, &err);
        return result == CLI_NOTHING ? CLI_FAILED : result;
    }
    return CLI_OK;
}

int cli_verb_model_ls(struct cli_args *args)
{
    if (args->rest_count > 0) {
        return cli_usage(args, "model ls takes no argument such as \"%s\"", args->rest[0]);
    }
    memalloy_models *models = NULL;
    int result = list_models(args, &models);
    if (result != CLI_OK) {
        return result;
    }
    json_t *list = cli_list();
    const size_t count = memalloy_models_count(models);
    const bool tty = cli_is_tty(stdout);
    for (size_t i = 0; i < count; i++) {
        struct memalloy_model_entry entry = {.struct_bytes = sizeof(entry)};
        memalloy_models_get(models, i, &entry);
        if (args->json) {
            cli_push(list, entry_json(&entry));
        } else {
            write_entry(&entry, tty);
        }
    }
    if (args->json) {
        json_t *document = cli_object();
        cli_put(document, "folder", cli_json_str(cli_str(memalloy_models_folder(models))));
        cli_put(document, "models", list);
        cli_json_write(document, 17);
    } else {
        json_decref(list);
        if (count == 0 && !args->quiet) {
            fprintf(stderr, "no models in %s\n", memalloy_models_folder(models));
        }
    }
    memalloy_models_destroy(models);
    return CLI_OK;
}

/* ---- whether they are whole ---- */

struct verifying {
    const struct cli_args *args;
    json_t *list;
    int result;
};

/* One model, told as a line or an item of the list; the worst result stays. */
static void verify_one(struct verifying *verifying, const char *name)
{
    struct memalloy_error err = {0};
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    memalloy_model *model = NULL;
    int code = open_named(verifying->args, name, &model, &err);
    if (code == MEMALLOY_OK) {
        code = memalloy_model_get_info(model, &info, &err);
    }
    if (code == MEMALLOY_OK) {
        code = memalloy_model_verify(model, &err);
    }
    const bool summed = code == MEMALLOY_OK && info.file_bytes > 0;
    const struct memalloy_str shown = name != NULL ? cli_str(name) : info.path;
    if (verifying->args->json) {
        json_t *item = cli_object();
        cli_put(item, "name", cli_json_str(shown));
        cli_put(item, "whole",
                summed                ? json_true()
                : code == MEMALLOY_OK ? json_null()
                                      : json_false());
        cli_put(item, "error",
                code == MEMALLOY_OK ? json_null() : cli_json_str(cli_str(err.message)));
        cli_push(verifying->list, item);
    } else if (code == MEMALLOY_OK) {
        cli_put_field(stdout, shown);
        puts(summed ? ": whole" : ": can be read; a folder has no checksum to compare with");
    }
    if (code != MEMALLOY_OK) {
        struct cli_args plain = *verifying->args;
        plain.json = false; /* the list has it */
        int result = cli_fail(&plain, &err);
        verifying->result =
            result == CLI_CORRUPT || verifying->result == CLI_OK ? result : verifying->result;
    }
    memalloy_model_close(model);
}

static int verify_all(struct verifying *verifying)
{
    memalloy_models *models = NULL;
    int result = list_models(verifying->args, &models);
    for (size_t i = 0; result == CLI_OK && i < memalloy_models_count(models); i++) {
        struct memalloy_model_entry entry = {.struct_bytes = sizeof(entry)};
        memalloy_models_get(models, i, &entry);
        verify_one(verifying, entry.path.data);
    }
    memalloy_models_destroy(models);
    return result;
}

int cli_verb_model_verify(struct cli_args *args)
{
    struct verifying verifying = {.args = args, .list = cli_list()};
    int result = CLI_OK;
    for (size_t i = 0; i < args->rest_count; i++) {
        verify_one(&verifying, args->rest[i]);
    }
    if (args->rest_count == 0) {
        result = verify_all(&verifying);
    }
    if (args->json && result == CLI_OK) {
        json_t *document = cli_object();
        cli_put(document, "models", verifying.list);
        cli_json_write(document, 17);
    } else {
        json_decref(verifying.list);
    }
    return result == CLI_OK ? verifying.result : result;
}

/* ---- removal ---- */

int cli_verb_model_rm(struct cli_args *args)
{
    json_t *removed = cli_list(), *unknown = cli_list();
    size_t removed_count = 0;
    int result =
        args->rest_count == 0 ? cli_usage(args, "model rm needs at least one name") : CLI_OK;
    for (size_t i = 0; i < args->rest_count && result == CLI_OK; i++) {
        struct memalloy_error err = {0};
        const char *name = args->rest[i];
        int code = memalloy_model_remove(name, &err);
        if (code == MEMALLOY_OK) {
            removed_count++;
            cli_push(removed, cli_json_str(cli_str(name)));
            if (!args->json) {
                fputs("removed ", stdout);
                cli_put_field(stdout, cli_str(name));
                putchar('\n');
            }
        } else if (code == MEMALLOY_ERR_NOTFOUND) {
            cli_say("%s", err.message);
            cli_push(unknown, cli_json_str(cli_str(name)));
        } else {
            result = cli_fail(args, &err);
        }
    }
    if (args->json && result == CLI_OK) {
        json_t *document = cli_object();
        cli_put(document, "removed", removed);
        cli_put(document, "unknown", unknown);
        cli_json_write(document, 17);
    } else {
        json_decref(removed);
        json_decref(unknown);
    }
    if (result != CLI_OK || removed_count == args->rest_count) {
        return result;
    }
    return removed_count == 0 ? CLI_NOTHING : CLI_PARTIAL;
}
