/* status: where the store is, what it holds, and which model would be used. */
#include "cli.h"

static const char *chunking_name(int kind)
{
    static const char *const names[] = {
        [MEMALLOY_CHUNKING_HEADING] = "heading",
        [MEMALLOY_CHUNKING_SENTENCE] = "sentence",
        [MEMALLOY_CHUNKING_FIXED] = "fixed",
        [MEMALLOY_CHUNKING_TOKEN] = "token",
    };
    size_t count = sizeof(names) / sizeof(names[0]);
    return kind >= 0 && (size_t)kind < count ? names[kind] : "unknown";
}

/* What a search would use; info.path.data stays NULL where there is none, and err says why. */
static memalloy_model *open_model(const struct cli_args *args, struct memalloy_model_info *info,
                                  struct memalloy_error *err)
{
    struct memalloy_model_options options = {
        .struct_bytes = sizeof(options),
        .path = args->model,
        .threads = 1,
    };
    memalloy_model *model = NULL;
    if (memalloy_model_open(&model, &options, err) != MEMALLOY_OK) {
        return NULL;
    }
    if (memalloy_model_get_info(model, info, err) != MEMALLOY_OK) {
        memalloy_model_close(model);
        return NULL;
    }
    return model;
}

static json_t *model_json(const memalloy_model *model, const struct memalloy_model_info *info,
                          const struct memalloy_error *err)
{
    json_t *item = cli_object();
    if (model == NULL) {
        cli_put(item, "error", cli_json_str(cli_str(err->message)));
        return item;
    }
    cli_put(item, "id", cli_json_str(info->id));
    cli_put(item, "hash", cli_json_str(info->hash));
    cli_put(item, "path", cli_json_str(info->path));
    cli_put(item, "dim", cli_json_int(info->dim));
    cli_put(item, "pieces_max", cli_json_int(info->pieces_max));
    cli_put(item, "quantisation", cli_json_str(info->quantisation));
    cli_put(item, "pooling", cli_json_str(info->pooling));
    cli_put(item, "kernels", cli_json_str(info->kernels));
    return item;
}

static json_t *report_json(const struct memalloy_open_report *report)
{
    json_t *item = cli_object();
    cli_put(item, "records", cli_json_int(report->records));
    cli_put(item, "dropped_bytes", cli_json_int(report->dropped_bytes));
    cli_put(item, "kept", json_boolean(report->kept));
    cli_put(item, "reason", cli_json_str(cli_str(report->reason)));
    return item;
}

static void write_json(const struct cli_args *args, const struct memalloy_status *status,
                       const struct memalloy_open_report *report,
                       const struct memalloy_index_status *index, json_t *model)
{
    json_t *chunking = cli_object();
    cli_put(chunking, "kind", json_string(chunking_name(status->chunking.kind)));
    cli_put(chunking, "size", cli_json_place(status->chunking.size));
    cli_put(chunking, "overlap", cli_json_place(status->chunking.overlap));
    json_t *document = cli_object();
    cli_put(document, "db", cli_json_str(cli_str(args->db.data)));
    cli_put(document, "db_from", cli_json_str(cli_str(args->db_from)));
    cli_put(document, "documents", cli_json_int(status->documents));
    cli_put(document, "chunks", cli_json_int(status->chunks));
    cli_put(document, "skipped", cli_json_int(status->skipped));
    cli_put(document, "file_bytes", cli_json_int(status->file_bytes));
    cli_put(document, "dim", cli_json_int(status->dim));
    cli_put(document, "documents_version", cli_json_int(status->documents_version));
    cli_put(document, "chunks_version", cli_json_int(status->chunks_version));
    cli_put(document, "documents_fragments", cli_json_int(status->documents_fragments));
    cli_put(document, "chunks_fragments", cli_json_int(status->chunks_fragments));
    cli_put(document, "model_id", cli_json_str(status->model_id));
    cli_put(document, "model_hash", cli_json_str(status->model_hash));
    cli_put(document, "model_pooling", cli_json_str(status->model_pooling));
    cli_put(document, "model_quantisation", cli_json_str(status->model_quantisation));
    cli_put(document, "chunking", chunking);
    cli_put(document, "index", cli_index_json(index));
    cli_put(document, "open_report", report_json(report));
    cli_put(document, "model", model);
    cli_json_write(document, 17);
}

static void write_lines(const struct cli_args *args, const struct memalloy_status *status,
                        const struct memalloy_index_status *index)
{
    char text[CLI_INDEX_BYTES];
    char a[CLI_NUMBER_BYTES], b[CLI_NUMBER_BYTES], c[CLI_NUMBER_BYTES];
    fputs("store      ", stdout);
    cli_put_field(stdout, cli_str(args->db.data));
    printf(" (from %s)\n", args->db_from);
    printf("documents  %s, and %s file%s skipped\n", cli_count_text(a, status->documents),
           cli_count_text(b, status->skipped), status->skipped == 1 ? "" : "s");
    printf("chunks     %s of dimension %u; new texts are cut by %s chunking\n",
           cli_count_text(a, status->chunks), status->dim, chunking_name(status->chunking.kind));
    printf("on disk    %s; documents.lance version %s, chunks.lance version %s\n",
           cli_bytes_text(a, status->file_bytes), cli_count_text(b, status->documents_version),
           cli_count_text(c, status->chunks_version));
    printf("index      %s\n", cli_index_text(text, index));
    if (index->has_lance) {
        printf("lancedb's  %s\n", cli_lance_text(text, index));
    }
    fputs("made with  ", stdout);
    if (status->model_id.bytes == 0) {
        fputs("no model yet", stdout);
    }
    cli_put_field(stdout, status->model_id);
    if (status->model_quantisation.bytes > 0) {
        fputs(", ", stdout);
        cli_put_field(stdout, status->model_quantisation);
    }
    if (status->model_hash.bytes >= 12) {
        printf(", hash %.12s", status->model_hash.data);
    }
    putchar('\n');
}

/* Nothing where all is as it should be. */
static void write_report_lines(const struct memalloy_open_report *report)
{
    char a[CLI_NUMBER_BYTES];
    if (report->records > 0) {
        printf("log        %s write%s not in the tables yet\n", cli_count_text(a, report->records),
               report->records == 1 ? "" : "s");
    }
    if (report->dropped_bytes > 0) {
        printf("dropped    %s of the log%s\n", cli_bytes_text(a, report->dropped_bytes),
               report->kept ? ", kept in _memalloy/lost+found" : "");
    }
    if (report->reason[0] != '\0') {
        fputs("because    ", stdout);
        cli_put_field(stdout, cli_str(report->reason));
        putchar('\n');
    }
}

static void write_model_lines(const memalloy_model *model, const struct memalloy_model_info *info,
                              const struct memalloy_error *err)
{
    fputs("model      ", stdout);
    if (model == NULL) {
        fputs("none: ", stdout);
        cli_put_field(stdout, cli_str(err->message));
        putchar('\n');
        return;
    }
    cli_put_field(stdout, info->path);
    fputs("\n           ", stdout);
    cli_put_field(stdout, info->id);
    fputs(", ", stdout);
    cli_put_field(stdout, info->quantisation);
    printf(", %u word pieces, kernels ", info->pieces_max);
    cli_put_field(stdout, info->kernels);
    putchar('\n');
}

int cli_verb_status(struct cli_args *args)
{
    if (args->rest_count > 0) {
        return cli_usage(args, "status takes no argument such as \"%s\"", args->rest[0]);
    }
    memalloy_kernel *kernel = NULL;
    int result = cli_open(args, MEMALLOY_OPEN_READONLY, &kernel);
    if (result != CLI_OK) {
        return result;
    }
    struct memalloy_error err = {0}, model_err = {0};
    struct memalloy_status status = {.struct_bytes = sizeof(status)};
    struct memalloy_open_report report = {.struct_bytes = sizeof(report)};
    struct memalloy_index_status index = {.struct_bytes = sizeof(index)};
    if (memalloy_get_status(kernel, &status, &err) != MEMALLOY_OK ||
        memalloy_get_open_report(kernel, &report, &err) != MEMALLOY_OK ||
        memalloy_get_index_status(kernel, &index, &err) != MEMALLOY_OK) {
        memalloy_close(kernel, NULL);
        return cli_fail(args, &err);
    }
    struct memalloy_model_info info = {.struct_bytes = sizeof(info)};
    memalloy_model *model = open_model(args, &info, &model_err);
    if (args->json) {
        write_json(args, &status, &report, &index, model_json(model, &info, &model_err));
    } else {
        write_lines(args, &status, &index);
        write_report_lines(&report);
        write_model_lines(model, &info, &model_err);
    }
    memalloy_model_close(model);
    memalloy_close(kernel, NULL);
    return CLI_OK;
}
