/* model add FOLDER: a published encoder becomes a model of this machine, with a report of how near
 * it is to what was published. */
#include "cli.h"

#include <string.h>

/* 0.9995; null where nothing was measured */
static json_t *quality_json(uint32_t texts, double mean, double worst)
{
    if (texts == 0) {
        return json_null();
    }
    json_t *item = cli_object();
    cli_put(item, "texts", cli_json_int(texts));
    cli_put(item, "cosine_mean", json_real(mean));
    cli_put(item, "cosine_min", json_real(worst));
    return item;
}

static void write_json(const struct memalloy_convert_report *report)
{
    json_t *quality = cli_object(), *document = cli_object();
    cli_put(quality, "passages",
            quality_json(report->passages, report->passages_mean, report->passages_min));
    cli_put(quality, "queries",
            quality_json(report->queries, report->queries_mean, report->queries_min));
    cli_put(document, "name", cli_json_str(cli_str(report->name)));
    cli_put(document, "id", cli_json_str(cli_str(report->id)));
    cli_put(document, "hash", cli_json_str(cli_str(report->hash)));
    cli_put(document, "architecture", cli_json_str(cli_str(report->architecture)));
    cli_put(document, "quantisation", cli_json_str(cli_str(report->quantisation)));
    cli_put(document, "dim", cli_json_int(report->dim));
    cli_put(document, "layers", cli_json_int(report->layers));
    cli_put(document, "vocabulary", cli_json_int(report->vocabulary));
    cli_put(document, "pieces_max", cli_json_int(report->pieces_max));
    cli_put(document, "pieces_from", cli_json_str(cli_str(report->pieces_from)));
    cli_put(document, "pooling", cli_json_str(cli_str(report->pooling)));
    cli_put(document, "pooling_from", cli_json_str(cli_str(report->pooling_from)));
    cli_put(document, "query_prefix", cli_json_str(cli_str(report->query_prefix)));
    cli_put(document, "passage_prefix", cli_json_str(cli_str(report->passage_prefix)));
    cli_put(document, "prefix_from", cli_json_str(cli_str(report->prefix_from)));
    cli_put(document, "file_bytes", cli_json_int(report->file_bytes));
    cli_put(document, "seconds", json_real(report->seconds));
    cli_put(document, "quality", quality);
    cli_json_write(document, 6);
}

static void put_from(const char *from)
{
    if (from[0] != '\0' && strcmp(from, "none") != 0) {
        fputs(" (from ", stdout);
        cli_put_field(stdout, cli_str(from));
        putchar(')');
    }
    putchar('\n');
}

static void put_prefix(const char *label, const char *prefix, const char *from)
{
    printf("%-11s", label);
    if (prefix[0] == '\0') {
        fputs("no prefix", stdout);
    } else {
        putchar('"');
        cli_put_field(stdout, cli_str(prefix));
        putchar('"');
    }
    put_from(from);
}

static void write_quality(const struct memalloy_convert_report *report)
{
    if (report->passages + report->queries == 0) {
        return;
    }
    puts("quality    cosine to the published weights in float32, on text that was not calibrated "
         "with:");
    printf("           passages %.4f on average, %.4f at worst, of %u\n", report->passages_mean,
           report->passages_min, report->passages);
    printf("           queries  %.4f on average, %.4f at worst, of %u\n", report->queries_mean,
           report->queries_min, report->queries);
}

static void write_lines(const struct memalloy_convert_report *report)
{
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES];
    fputs("added      ", stdout);
    cli_put_field(stdout, cli_str(report->name));
    fputs("\nmodel      ", stdout);
    cli_put_field(stdout, cli_str(report->id));
    printf(", %s", report->architecture);
    if (report->layers > 0) {
        printf(", %u layer%s", report->layers, report->layers == 1 ? "" : "s");
    }
    printf(", %u numbers\n", report->dim);
    printf("pooling    %s", report->pooling);
    put_from(report->pooling_from);
    printf("reads      %u word pieces of %s", report->pieces_max,
           cli_count_text(a, report->vocabulary));
    put_from(report->pieces_from);
    put_prefix("queries", report->query_prefix, report->prefix_from);
    put_prefix("passages", report->passage_prefix, report->prefix_from);
    printf("weights    %s", report->quantisation);
    if (report->file_bytes > 0) {
        printf(", %s", cli_bytes_text(b, report->file_bytes));
    }
    putchar('\n');
    write_quality(report);
    if (report->seconds > 0) {
        printf("took       %.1f s\n", report->seconds);
    }
}

/* What helps where the library only knows what is wrong. */
static void say_remedy(const struct cli_args *args, const struct memalloy_error *err)
{
    if (err->code == MEMALLOY_ERR_CONFLICT) {
        fputs("  --force replaces it, --name gives the new one another name\n", stderr);
    } else if (err->code == MEMALLOY_ERR_CANCELLED) {
        fputs("  nothing was added\n", stderr);
    } else if (err->code == MEMALLOY_ERR_UNSUPPORTED && args->precision == NULL) {
        fputs("  with a model.onnx in it, --precision onnx lets ONNX Runtime run it\n", stderr);
    }
}

int cli_verb_model_add(struct cli_args *args)
{
    if (args->rest_count != 1) {
        return cli_usage(args, "model add takes one folder, not %zu", args->rest_count);
    }
    struct cli_progress progress;
    struct memalloy_error err = {0};
    struct memalloy_convert_report report = {.struct_bytes = sizeof(report)};
    const struct memalloy_convert_options options = {
        .struct_bytes = sizeof(options),
        .source_path = args->rest[0],
        .quantisation = args->precision,
        .calibration_path = args->calibration,
        .pooling = args->pooling,
        .query_prefix = args->query_prefix,
        .passage_prefix = args->passage_prefix,
        .license = args->license,
        .threads = args->threads,
        .overwrite = args->force,
        .no_quality = args->no_quality,
        .progress = cli_progress_step,
        .progress_context = &progress,
    };
    cli_signals_catch();
    cli_progress_init(&progress, args);
    int code = memalloy_model_add(args->name, &options, &report, &err);
    cli_progress_end(&progress);
    if (code != MEMALLOY_OK) {
        int result = cli_fail(args, &err);
        say_remedy(args, &err);
        return result == CLI_NOTHING ? CLI_FAILED : result;
    }
    if (args->json) {
        write_json(&report);
    } else {
        write_lines(&report);
    }
    return CLI_OK;
}
